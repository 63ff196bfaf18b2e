"""One pass over one lake: observe, validate, render, decide, execute, status. No state but caches that may be lost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import msgspec

from crypto_lake_operator import changes, kinds
from crypto_lake_operator.actions import Wait
from crypto_lake_operator.api import CryptoLake, CryptoLakeSpec, Metadata
from crypto_lake_operator.api_status import Status
from crypto_lake_operator.client import Api, ApiError, ConflictError, NotFoundError, UnavailableError
from crypto_lake_operator.config import OperatorSettings
from crypto_lake_operator.decide import decide
from crypto_lake_operator.events import News, Teller
from crypto_lake_operator.execute import Executor
from crypto_lake_operator.lakes import Change, Entry, Lakes
from crypto_lake_operator.observe import Observer
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.queue import Done, Failed, Key, Outcome
from crypto_lake_operator.reasons import Reason
from crypto_lake_operator.render import Plan, plan
from crypto_lake_operator.status import compute_status, should_write
from crypto_lake_operator.validate import SpecError, read_lake

logger = logging.getLogger(__name__)

VERIFY_SECONDS: Final = 1.0
WAIT_SECONDS: Final = 15.0
_OVERTAKEN_SECONDS: Final = 0.2
_ROUNDS: Final = 4
# What the API server refuses is asked again, later and later (the queue's backoff). Nothing tells when it is mended.
REFUSALS: Final = frozenset(
    {
        Reason.NOT_OURS,
        Reason.REFUSED,
        Reason.FORBIDDEN,
        Reason.QUOTA_EXCEEDED,
        Reason.CHANGED_BY_ADMISSION,
        Reason.BUG,
    }
)

# For who sends alerts: gives the status with what was told, and in how many seconds to look again.
Written = Literal["written", "overtaken", "refused"]
OnSeen = Callable[[CryptoLake, Plan, Observed, Status], Awaitable[tuple[Status, float | None]]]


async def _nothing(
    _lake: CryptoLake, _plan: Plan, _observed: Observed, status: Status
) -> tuple[Status, float | None]:
    return status, None


@dataclass(slots=True)
class Pass:
    """What one pass has found. plan: None for a lake that can't be used, or that made the operator stumble."""

    lake: CryptoLake
    plan: Plan | None
    observed: Observed
    waits: Sequence[Wait]
    done: int = 0
    lost: int = 0
    fault: bool = False


class Reconciler:
    def __init__(
        self,
        client: Api,
        lakes: Lakes,
        observer: Observer,
        executor: Executor,
        teller: Teller,
        settings: OperatorSettings,
        *,
        on_seen: OnSeen = _nothing,
        on_gone: Callable[[Key], None] = lambda _: None,
        on_written: Callable[[Key], None] = lambda _: None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._client, self._lakes, self._observer = client, lakes, observer
        self._executor, self._teller, self._settings = executor, teller, settings
        self._wait_seconds = wait_seconds
        self._on_seen, self._on_gone, self._on_written = on_seen, on_gone, on_written

    async def reconcile(self, key: Key) -> Outcome:
        """Raises UnavailableError; anything else that goes wrong is in the lake's status and in the outcome."""
        for _ in range(_ROUNDS):
            entry = self._lakes.get(key)
            if entry is None:
                return Done()
            seen = await self._pass(key, entry)
            if seen is None:  # the lake is another now
                continue
            return await self._tell(key, seen)
        return Done(again_seconds=VERIFY_SECONDS)

    async def _pass(self, key: Key, entry: Entry) -> Pass | None:
        try:
            lake = read_lake(entry.document())
        except SpecError as error:
            bare = _bare(entry.document())
            waits = [Wait(Reason.INVALID_SPEC, str(problem), problem.path) for problem in error.problems]
            await self._teller.tell(bare, News("Warning", "InvalidSpec", "Validate", str(error)))
            return Pass(bare, None, Observed(taken_at=datetime.now(UTC)), waits)
        if lake.metadata.deletion_timestamp is not None:
            return Pass(lake, None, Observed(taken_at=datetime.now(UTC)), ())
        observed = await self._observer.observe(lake)
        try:
            planned = plan(lake, self._settings, observed)
            actions = decide(planned, observed)
        except Exception as error:
            logger.exception("%s: a fault of the operator", key)
            message = (
                f"the operator stumbles over this lake ({type(error).__name__}: {error}); its log says where"
            )
            return Pass(lake, None, observed, [Wait(Reason.BUG, message)], fault=True)
        if all(isinstance(action, Wait) for action in actions):
            return Pass(lake, planned, observed, [a for a in actions if isinstance(a, Wait)])
        if await self._has_changed(key, entry):
            return None
        result = await self._executor.execute(lake, actions)
        for news in result.news:
            await self._teller.tell(lake, news)
        if result.done:
            self._on_written(key)
            observed = await self._observer.observe(lake)
        return Pass(lake, planned, observed, result.waits, result.done, result.lost)

    async def _has_changed(self, key: Key, entry: Entry) -> bool:
        """Whether the lake is not the one that this pass began with. Children of one that is gone would be in vain, and
        the watches are no help: each comes in its own time, so a child's end may be told before its lake's.
        """
        try:
            live = await self._client.get(kinds.LAKE, key.namespace, key.name)
        except NotFoundError:
            self.forget(key, entry.uid)
            return True
        return self._lakes.put(live) is Change.LAKE

    def forget(self, key: Key, uid: str = "") -> None:
        """The lake is gone."""
        if self._lakes.drop(key, uid):
            self._on_gone(key)

    async def _tell(self, key: Key, seen: Pass) -> Outcome:
        entry = self._lakes.get(key)
        if entry is None or seen.lake.metadata.deletion_timestamp is not None:
            return Done()
        if (
            entry.uid != seen.lake.metadata.uid
        ):  # another one of that name has come meanwhile, and has a turn of its own
            return Done()
        status = compute_status(seen.lake, seen.plan, seen.observed, seen.waits, entry.status)
        again: list[float] = []
        if seen.plan is not None:
            status, later = await self._on_seen(seen.lake, seen.plan, seen.observed, status)
            again += [later] if later is not None else []
        now = datetime.now(UTC)
        every_seconds = self._settings.status_seconds
        if should_write(entry.status, status, entry.written, now, every_seconds):
            match await self._write(key, entry, status, seen.lake):
                case "written":
                    pass
                case "overtaken":
                    again.append(_OVERTAKEN_SECONDS)
                case "refused":
                    return Failed()
        elif status != entry.status and entry.written is not None:
            passed = (now - entry.written).total_seconds()
            again.append(max(1.0, every_seconds - passed))
        if seen.fault or any(wait.reason in REFUSALS for wait in seen.waits):
            return Failed()
        # What was written is compared once more with what came of it.
        if seen.done or seen.lost:
            again.append(VERIFY_SECONDS)
        if seen.waits and seen.plan is not None:
            again.append(self._wait_seconds)
        elif seen.plan is not None and not _rests(seen.observed, status):
            again.append(2 * self._wait_seconds)
        return Done(again_seconds=min(again, default=None))

    async def _write(self, key: Key, entry: Entry, status: Status, lake: CryptoLake) -> Written:
        """Only what differs, and only over the version that it was compared with."""
        patch = {
            "metadata": {"resourceVersion": entry.resource_version},
            "status": differences(entry.status, status),
        }
        try:
            live = await self._client.merge_patch(
                kinds.LAKE, key.namespace, key.name, patch, subresource="status"
            )
        except NotFoundError:
            self.forget(key, entry.uid)
            return "written"
        except ConflictError:
            await self._read_again(key, entry)
            return "overtaken"
        except UnavailableError:
            raise
        except ApiError as error:
            logger.error("%s: its status is not taken: %s", key, error)
            return "refused"
        self._lakes.wrote(live, datetime.now(UTC))
        for news in changes.news(entry.status, status):
            await self._teller.tell(lake, news)
        return "written"

    async def _read_again(self, key: Key, entry: Entry) -> None:
        """Somebody was faster. What is there now is looked at with the next pass, soon."""
        try:
            live = await self._client.get(kinds.LAKE, key.namespace, key.name)
        except NotFoundError:
            self.forget(key, entry.uid)
            return
        self._lakes.put(live)


def _rests(observed: Observed, status: Status) -> bool:
    """Whether nothing is expected that no watch tells of: why a pod is not made, or that one is stuck."""
    collecting = status.condition("Collecting")
    if collecting is not None and collecting.reason == Reason.SUSPENDED:
        return True
    return bool(collecting and collecting.status == "True") and all(p.ready for p in observed.pods.values())


def _bare(document: Mapping[str, Any]) -> CryptoLake:
    """A lake whose spec can't be read, as far as telling of it needs one."""
    metadata = cast("dict[str, Any]", document.get("metadata") or {})
    known = {field.encode_name for field in msgspec.structs.fields(Metadata)}
    read = msgspec.convert({k: v for k, v in metadata.items() if k in known}, Metadata, strict=False)
    return CryptoLake(metadata=read, spec=CryptoLakeSpec(symbols=()))


def differences(old: Status, new: Status) -> dict[str, Any]:
    """As a JSON merge patch of the status: only what changed, None for what is no longer there.

    A count of 0 is always in it: a status that was read without it looks the same as one with it.
    """
    before: dict[str, Any] = msgspec.to_builtins(old)
    after: dict[str, Any] = msgspec.to_builtins(new)
    changed = {
        key: value for key, value in after.items() if key not in before or before[key] != value or value == 0
    }
    return changed | {key: None for key in before if key not in after}
