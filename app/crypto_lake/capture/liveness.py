"""Looks at every stream once a second, asks the exchange about those that say nothing, and has dead ones replaced.

What is thought of a stream is decided in `completeness.liveness`; here is what hears, asks and acts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from crypto_lake.capture.hearing import Hearing
from crypto_lake.capture.routes import Route
from crypto_lake.capture.slot import Carried
from crypto_lake.capture.snapshot import StreamSnapshot
from crypto_lake.completeness.asking import AskError
from crypto_lake.completeness.entries import Quiet
from crypto_lake.completeness.liveness import Answer, Heard, Judgement, Liveness, Memory, Outside, Rules, look
from crypto_lake.exchanges import Exchange
from crypto_lake.exchanges.base import Newest
from crypto_lake.lake import control
from crypto_lake.model.clock import Clock
from crypto_lake.model.market import Stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """look_seconds, ask_seconds: how often it looks, and asks at most. trading_seconds: how often at most it asks
    whether symbols trade. replace_seconds: after a connection was replaced for a stream, until that stream may have
    another one replaced; doubled up to `replace_most_seconds` as long as it stays dead. keep_quiet_seconds: a silence of
    trades of which the exchange was asked is told to the ledger if it was so long, and after each
    `keep_quiet_most_seconds` of it.
    """

    rules: Rules = Rules()  # noqa: RUF009  it is frozen
    look_seconds: float = 1.0
    ask_seconds: float = 2.0
    trading_seconds: float = 60.0
    replace_seconds: float = 60.0
    replace_most_seconds: float = 1800.0
    keep_quiet_seconds: float = 300.0
    keep_quiet_most_seconds: float = 3600.0

    def scaled(self, factor: float) -> WatchSettings:
        """All times so many times as long: for tests."""
        return WatchSettings(
            self.rules.scaled(factor),
            self.look_seconds * factor,
            self.ask_seconds * factor,
            self.trading_seconds * factor,
            self.replace_seconds * factor,
            self.replace_most_seconds * factor,
            self.keep_quiet_seconds * factor,
            self.keep_quiet_most_seconds * factor,
        )


class FeedLike(Protocol):
    at_rest: frozenset[str]

    def carried(self) -> dict[str, Carried]: ...
    def replace(self, connection: str, why: str) -> bool: ...


class IntakeLike(Protocol):
    @property
    def paused(self) -> bool: ...
    @property
    def routes(self) -> Mapping[str, Route]: ...
    def answer(self, event: control.AnyEvent) -> int: ...
    def settle(self, symbol: str, outcomes: list[Quiet]) -> None: ...


class AskerLike(Protocol):
    @property
    def most_symbols(self) -> int: ...
    @property
    def source(self) -> str: ...
    async def newest(self, symbols: list[str]) -> dict[str, Newest]: ...
    async def trading(self, symbols: list[str]) -> dict[str, bool]: ...


class _Replaced(NamedTuple):
    times: int
    at: float


class LivenessWatch:
    """`await run()` until cancelled. `judgements`: by stream, as of the last look; `since` is monotonic."""

    def __init__(
        self,
        exchange: Exchange,
        feed: FeedLike,
        intake: IntakeLike,
        asker: AskerLike,
        clock: Clock,
        wanted: Callable[[], list[str]],
        settings: WatchSettings | None = None,
        offset_us: Callable[[], int] = lambda: 0,
    ) -> None:
        self._exchange = exchange
        self._feed = feed
        self._intake = intake
        self._asker = asker
        self._clock = clock
        self._wanted = wanted
        self._settings = settings or WatchSettings()
        self._offset_us = offset_us
        self._memory: Mapping[str, Memory] = {}
        self._answers: dict[str, Answer] = {}
        self._trading: dict[str, bool] = {}
        self._problem = ""
        self._asked_at = self._trading_asked_at = self._answered_at = float("-inf")
        self._at_once = asker.most_symbols  # fewer while it looks for the symbol that the exchange refuses
        self._refused: dict[str, float] = {}  # symbols that it refused by themselves, and when
        self._not_before = 0.0
        self._replaced: dict[str, _Replaced] = {}
        self._hearings: dict[str, Hearing] = {}
        self._kept_until: dict[str, float] = {}
        self.replacements: Counter[str] = Counter()  # by what was found

    @property
    def judgements(self) -> dict[str, Judgement]:
        return {name: memory.judgement for name, memory in self._memory.items()}

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except Exception:  # it watches; what it watches goes on without it
                _log.exception("looking whether streams are alive failed")
            await asyncio.sleep(self._settings.look_seconds)

    async def step(self) -> None:
        """Look once, ask if something is to be asked, and act."""
        now = time.monotonic()
        if self._intake.paused:  # nothing can be said of what is not read
            self._not_before = now
            return
        outside = Outside(self._answers, self._trading, self._problem)
        found = look(self._heard(now), self._memory, outside, now, self._settings.rules)
        self._tell(found.memory)
        self._keep_quiet(found.memory, now)
        self._memory = found.memory
        self._feed.at_rest = frozenset(name for name, kind in found.kinds().items() if kind.at_rest)
        self._replace_dead(now)
        await self._ask(self._known(found.ask, now), now)
        await self._ask_trading(self._known(found.ask_trading, now), now)

    def _heard(self, now: float) -> list[Heard]:
        carried, routes = self._feed.carried(), self._intake.routes
        # Without a speed the clock goes by what comes: it can't tell that something is old.
        exchange_us = self._clock.now_ns() // 1000 + self._offset_us() if self._clock.speed > 0 else None
        heard: list[Heard] = []
        for name in self._wanted():
            symbol, kind = self._exchange.parse_stream_name(name)
            route, on = routes.get(name), carried.get(name)
            hearing = self._hearings.setdefault(name, Hearing())
            if route is not None:
                hearing.look(route, now, exchange_us)
            if route is None or on is None:
                heard.append(Heard(name, symbol, kind, ""))
                continue
            last_id, quote = hearing.newest(route, self._exchange.present)
            heard.append(
                Heard(
                    name,
                    symbol,
                    kind,
                    on.connection,
                    max(on.since, self._not_before),
                    hearing.fresh_at,
                    hearing.repeats,
                    hearing.mean_pause,
                    last_id,
                    quote,
                    hearing.behind,
                    on.is_replaced,
                )
            )
        return heard

    def _tell(self, memory: Mapping[str, Memory]) -> None:
        """What has changed, for the log."""
        for name, now in memory.items():
            before = self._memory.get(name)
            kind, was = now.judgement.kind, before.judgement.kind if before else Liveness.LIVE
            if kind is was:
                continue
            if kind.dead or was.dead:
                _log.warning("%s is %s: %s", name, kind, now.judgement.evidence)
            else:
                _log.debug("%s is %s: %s", name, kind, now.judgement.evidence)

    def _keep_quiet(self, memory: Mapping[str, Memory], now: float) -> None:
        """In the ledger: that the exchange was asked about a long silence of trades, and had none. When it is over, and
        once an hour while it lasts.
        """
        for name, before in self._memory.items():
            symbol, kind = self._exchange.parse_stream_name(name)
            quiet = before.quiet
            if kind is not Stream.TRADE or quiet is None or not before.judgement.kind.at_rest:
                continue
            after = memory.get(name)
            lasts = (
                after is not None and after.judgement.kind.at_rest and after.silent_from == before.silent_from
            )
            since = max(before.silent_from, self._kept_until.get(name, 0.0))
            least = self._settings.keep_quiet_most_seconds if lasts else self._settings.keep_quiet_seconds
            if quiet.at - since < least or quiet.last_id < 0:
                continue
            self._kept_until[name] = quiet.at
            now_ns, speed = self._clock.now_ns(), self._clock.speed
            from_ns, until_ns = (now_ns - int((now - at) * speed * 1e9) for at in (since, quiet.at))
            event = control.RestAnswer(
                symbol, self._asker.source, quiet.last_id, quiet.last_id, 200, quiet.row.decode()
            )
            answer_ns = self._intake.answer(event)
            line = Quiet(last_id=quiet.last_id, from_ns=from_ns, until_ns=until_ns, answer_ns=answer_ns)
            self._intake.settle(symbol, [line])

    def _replace_dead(self, now: float) -> None:
        settings, carried = self._settings, self._feed.carried()
        for name, memory in self._memory.items():
            kind = memory.judgement.kind
            before = self._replaced.get(name)
            if not kind.dead:
                # Acknowledged anew it counts as live until its patience is over: it has recovered when it spoke.
                if kind is Liveness.LIVE and before and now - before.at > 2 * settings.rules.patience_first:
                    del self._replaced[name]
                continue
            if name not in carried or carried[name].is_replaced:
                continue
            wait = 0.0
            if before is not None:
                wait = min(settings.replace_seconds * 2 ** (before.times - 1), settings.replace_most_seconds)
            if before is not None and now - before.at < wait:
                continue
            if self._feed.replace(carried[name].connection, f"{name} is {kind}"):
                _log.warning("%s is being replaced: %s is %s", carried[name].connection, name, kind)
                self.replacements[kind.value] += 1
                self._replaced[name] = _Replaced(before.times + 1 if before else 1, now)

    def _known(self, symbols: tuple[str, ...], now: float) -> tuple[str, ...]:
        """Without those that the exchange has refused of late: it refuses all that are asked for together with one."""
        again = self._settings.replace_most_seconds
        return tuple(symbol for symbol in symbols if now - self._refused.get(symbol, float("-inf")) >= again)

    async def _ask(self, symbols: tuple[str, ...], now: float) -> None:
        if not symbols or now - self._asked_at < self._settings.ask_seconds:
            return
        self._asked_at = now
        asked = list(symbols[: self._at_once])
        try:
            told = await self._asker.newest(asked)
        except AskError as error:
            self._problem = str(error)
            if error.refused:
                self._note_refused(asked, now)
            return
        self._problem = ""
        self._answered_at = now
        self._at_once = min(2 * self._at_once, self._asker.most_symbols)
        self._answers |= {
            symbol: Answer(now, newest.last_id, newest.quote, newest.row) for symbol, newest in told.items()
        }

    def _note_refused(self, asked: list[str], now: float) -> None:
        """One of them it does not have, as of a symbol that was delisted. Half as many are asked for until it is found."""
        if len(asked) > 1:
            self._at_once = len(asked) // 2
            return
        _log.warning("%s: the exchange has no such symbol: %s", asked[0], self._problem)
        self._refused[asked[0]] = now
        self._at_once = self._asker.most_symbols
        if now - self._answered_at < self._settings.replace_most_seconds:
            self._problem = ""  # of others it answers

    async def _ask_trading(self, symbols: tuple[str, ...], now: float) -> None:
        if not symbols:
            self._trading = {}
            return
        if now - self._trading_asked_at < self._settings.trading_seconds:
            return
        self._trading_asked_at = now
        try:
            self._trading = await self._asker.trading(list(symbols))
        except AskError as error:
            _log.info("whether %s trade is not known: %s", ", ".join(symbols[:5]), error)


def with_judgements(
    streams: list[StreamSnapshot], judgements: Mapping[str, Judgement], clock: Clock
) -> list[StreamSnapshot]:
    """Snapshots with what is thought of each; times by the lake's clock."""
    now, now_ns = time.monotonic(), clock.now_ns()

    def judged(stream: StreamSnapshot) -> StreamSnapshot:
        if (judgement := judgements.get(stream.name)) is None:
            return stream
        return msgspec.structs.replace(
            stream,
            liveness=judgement.kind.value,
            liveness_since_ns=now_ns - int((now - judgement.since) * 1e9 * clock.speed),
            evidence=judgement.evidence,
        )

    return [judged(stream) for stream in streams]
