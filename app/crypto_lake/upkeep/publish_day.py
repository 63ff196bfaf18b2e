"""One symbol's day: looked at, made, put. The order of writes is that of `publish_manifest`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.model.copies import Copies
from crypto_lake.store import Store
from crypto_lake.upkeep import publish_plan as plan
from crypto_lake.upkeep import publish_version as versions
from crypto_lake.upkeep.names import BarsObject, Manifest
from crypto_lake.upkeep.publish_facts import DayFacts
from crypto_lake.upkeep.publish_fetch import LakeFetcher
from crypto_lake.upkeep.publish_look import SymbolListing, SymbolReader, control_names, read_published
from crypto_lake.upkeep.publish_manifest import (
    NOTHING_STANDS,
    Label,
    PublishedManifest,
    Standing,
    from_metadata,
    to_metadata,
)
from crypto_lake.upkeep.publish_objects import DayObjects
from crypto_lake.upkeep.publish_report import DayOutcome, Outcome, outcome_of
from crypto_lake.upkeep.publish_stage import Made, Stage


class AlertError(Exception):
    """Something is not as this program leaves it; nothing was overwritten."""


@dataclass(frozen=True)
class Situation:
    """What is the same for all days of a run. `folder`: where days are put together."""

    store: Store
    layout: Layout | None
    listings: Mapping[tuple[str, str], SymbolListing]
    folder: Path
    now_ns: int
    rebuild: bool
    dry_run: bool
    on_bytes: Callable[[int, int], None]  # done and total, of the day at hand


@dataclass
class SymbolState:
    """Where a symbol has come to, from its oldest day on.

    `stands`: digest of what stands after its last published day, which is `last_day`. `waits`: a day since then is not
    published yet.
    """

    reader: SymbolReader
    stands: str = NOTHING_STANDS.digest
    last_day: str = ""
    waits: bool = False
    _standing: Standing | None = NOTHING_STANDS

    @property
    def listing(self) -> SymbolListing:
        return self.reader.listing

    def standing(self) -> Standing:
        if self._standing is None:
            name = Manifest(BarsObject(self.listing.exchange, self.listing.symbol, self.last_day)).name
            found = read_published(self.reader.store, name)
            self._standing = found[1].after if found is not None else NOTHING_STANDS
        return self._standing

    def passed(self, day: str, digest: str, standing: Standing | None) -> None:
        """The day is published. `standing` None: to be read when it is asked for."""
        self.stands, self.last_day, self._standing, self.waits = digest, day, standing, False


@dataclass
class DayWork:
    """`outcomes`: what came of it, none where it stood as it should. `copies`: how far those of the day agree that stands,
    None where nothing is told of it.
    """

    at: Situation
    symbol: SymbolState
    day: str
    outcomes: list[DayOutcome] = field(default_factory=list[DayOutcome])
    fetched_bytes: int = 0
    copies: Copies | None = None
    _published: PublishedManifest | None = None
    _orphan: str = ""  # what is wrong with a file that has no manifest, if it is not what we make

    def __post_init__(self) -> None:
        listing = self.listing = self.symbol.listing
        self.bars = BarsObject(listing.exchange, listing.symbol, self.day)
        self.listed = listing.manifests.get(self.day)
        file, watched = listing.files.get(self.day), listing.watched(self.day)
        self.objects = DayObjects(self.at.store, self.bars, file, watched, self.at.folder)

    # By the listing alone

    def passes(self, *, chosen: bool) -> bool:
        """Whether nothing is to be done about the day by what the listing tells; of one not chosen, if it is there."""
        label = from_metadata(self.listed.metadata) if self.listed is not None else None
        if label is None or not label.version:
            return False
        if chosen and not self._is_as_labelled(label):
            return False
        self.symbol.passed(self.day, label.after, None)
        self.copies = label.copies
        if chosen:
            self._record()
        return True

    def _is_as_labelled(self, label: Label) -> bool:
        file = self.objects.file
        there = (file.generation if file is not None else 0, self.objects.watched, self.symbol.stands)
        told = (label.generation, label.names, label.before)
        return not label.open and not self.at.rebuild and there == told

    # Closer

    def look(self) -> None:
        """Decide what is to be done about the day, and do it. Raises RacedError, AlertError, MakeError, StoreError."""
        if self.listed is None and self.objects.file is None and self.at.now_ns < Hour(self.day, 23).end_ns:
            self._waits("it is not over")
            return
        before, waits = self.symbol.standing(), self.symbol.waits
        self._published = self.objects.read_manifest() if self.listed is not None else None
        self._recognise()
        if self._is_published():
            before = versions.stood_before(before, self._published)
            self._pass()
        facts = self.symbol.reader.facts(
            self.day, published=self._published, before=before, day_before_waits=waits
        )
        decision = plan.decide(facts, self.at.now_ns, rebuild=self.at.rebuild)
        match decision:
            case plan.Alert(problem):
                raise AlertError(problem)
            case plan.Waits(reasons):
                self._waits("; ".join(reasons))
            case plan.UpToDate(gone):
                assert self._published is not None
                self._note_gone(versions.with_gone(self._published, gone))
                if gone:
                    self._tell("noted", f"{len(gone)} of its inputs are gone from the bucket")
            case plan.Make():
                self._make(facts, decision)

    def give_way(self) -> None:
        """Another publisher was at the day: go on from what it made of it."""
        try:
            found = read_published(self.at.store, Manifest(self.bars).name)
        except msgspec.MsgspecError:  # of a later version of the program: nothing is known of the day
            found = None
        self._published = found[1] if found is not None else None
        if self._is_published():
            self._pass()
        else:
            self.hold()

    def hold(self) -> None:
        """Nothing came of the day now: where it has no version, the days after it wait for it."""
        self.symbol.waits = self.symbol.waits or not self._is_published()

    def _is_published(self) -> bool:
        return self._published is not None and self._published.version > 0

    def _pass(self) -> None:
        assert self._published is not None
        after = self._published.after
        self.symbol.passed(self.day, after.digest, after)
        self.copies = self._published.copies

    def _recognise(self) -> None:
        known = self.objects.file or self._published
        file = self.objects.file = self.at.store.stat(self.bars.name) if known else None
        seen = plan.FileSeen(file.generation, file.sha256) if file is not None else None
        match plan.recognise(self._published, seen):
            case plan.Ours():
                pass
            case plan.Unknown(problem):
                if self._is_published():
                    self._pass()  # its file is not to be trusted; what it was made to say stands
                raise AlertError(problem)
            case plan.Orphan(problem):
                self._orphan = problem
            case plan.Complete(version):
                assert file is not None
                done = versions.entered(version, file.generation)
                if not self.at.dry_run:
                    # Under names that match nothing: what came in since is looked at now, or by the next run.
                    self.objects.put_manifest(done, "")
                    self._record()
                self._published = done
                self._tell("completed", "its file was there, and its manifest had not been written")

    def _make(self, facts: DayFacts, job: plan.Make) -> None:
        if self.at.dry_run:
            self._tell("planned", job.why)
            return
        done = 0

        def arrived(count: int) -> None:
            nonlocal done
            done += count
            self.at.on_bytes(done, sum(fact.bytes for fact in job.inputs))

        fetcher = LakeFetcher(self.at.store, self.at.layout, arrived)
        folder = self.at.folder / f"{facts.exchange}-{facts.symbol}-{facts.day}"
        control = control_names(self.at.listings, facts.exchange, facts.day)
        worse: frozenset[int] = frozenset()
        while True:
            folder.mkdir()
            try:
                try:
                    made = Stage(folder, facts, job, fetcher, control, self.at.now_ns).make()
                finally:
                    self.fetched_bytes += fetcher.fetched_bytes
                    fetcher.fetched_bytes = 0
                if job.gone and facts.published is not None:
                    worse = versions.hours_worse(facts.published, made.manifest.hours) - job.carried
                if not worse:
                    facts = versions.with_own_ids(facts, made)
                    decision = plan.decide_made(facts, job, self.at.now_ns)
                    if isinstance(decision, plan.Waits):
                        self._waits("; ".join(decision.reasons))
                        return
                    again, job = decision.inputs != job.inputs, decision
                    if not again:
                        self._put(versions.new_version(facts, job, made, self.at.now_ns), made, job)
                        return
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            # Made again: of more, by what its last trade turned out to be; or with some hours kept as they are, to which
            # what is gone was known too, if not by a trade of theirs.
            job, done = replace(job, carried=job.carried | worse), 0

    def _put(self, version: PublishedManifest, made: Made, job: plan.Make) -> None:
        before = self._published if self._is_published() else None
        unused = ""
        if before is not None:
            left = versions.left_out(before, job)
            if left:
                hours = ", ".join(f"{hour:02d}" for hour in left)
                unused = (
                    f"; what came of hour {hours} was not used, for other raw of it is gone from the bucket"
                )
            lost = versions.hours_that_lost(before, version.hours)
            if lost:
                first = Hour.of_ns(lost[0] * 3600 * 10**9)
                raise AlertError(
                    f"the version made of {len(version.inputs)} inputs knows fewer trades than version "
                    f"{before.version} in {len(lost)} hours (the first is {first}), though it has all that this one was made of; a fault of "
                    "the program. Nothing was overwritten"
                )
            if versions.same_content(before, version) and not (
                self.at.rebuild and before.sha256 != version.sha256
            ):
                self._note(versions.noted(before, version))
                self._tell("noted", f"{job.why}; its content is the same{unused}")
                return
        what: Outcome = "published"
        if self._orphan:
            file = self.objects.file
            if file is None or (file.bytes, file.sha256) != (version.bytes, version.sha256):
                raise AlertError(self._orphan)
            version, what = versions.entered(version, file.generation), "completed"
        elif made.path is not None:
            self.objects.put_manifest(versions.begun(self._published, version))
            version = versions.entered(version, self.objects.put_file(made.path, version).generation)
        self.objects.put_manifest(version)
        self._published = version
        self._pass()
        self._record()
        self._tell(what, job.why + unused)

    def _note(self, manifest: PublishedManifest) -> None:
        self.objects.put_manifest(manifest)
        self._published = manifest
        self._pass()

    def _note_gone(self, manifest: PublishedManifest) -> None:
        label = from_metadata(to_metadata(manifest, self.objects.watched))
        told = from_metadata(self.listed.metadata) if self.listed is not None else None
        if not self.at.dry_run and (manifest != self._published or label != told):
            self._note(manifest)

    # What is told of it

    def _waits(self, why: str) -> None:
        if self._orphan:
            raise AlertError(self._orphan)
        if not self._is_published():
            self.symbol.waits = True
        self._tell("waits", why)

    def _tell(self, outcome: Outcome, text: str) -> None:
        self.outcomes.append(self.told(outcome, text))

    def told(self, outcome: Outcome, text: str) -> DayOutcome:
        return outcome_of(self.bars, outcome, text, self._published, self.fetched_bytes)

    def _record(self) -> None:
        if self.at.layout is not None and not self.at.dry_run:
            self.objects.record(self.at.layout, self.at.now_ns)
