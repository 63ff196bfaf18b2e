"""data_gap: nothing comes of a symbol although its exchange trades.

The evidence, all from the collector's own status and by the lake's clock:
- a symbol that is silent while others of the exchange move;
- how many messages were due in that time by the stream's own average since the collector started;
- whether all streams are live, or a subscription is known to be missing.
A symbol may be quiet by itself. So while all streams are live and its average says that little was due, it is given
twice the limit. A single stream that is silent while others of its symbol speak fires only where much was due:
rarely traded symbols have quotes and no trades for hours. If nothing comes of any symbol, that is one finding of the
exchange, not one of each symbol.
Before all that goes what the exchange itself says: a symbol of whose streams it has nothing newer is no finding.
Klines come in a quiet market, too: they are no sign that it moves, and by themselves one stream like the others.
"""

from __future__ import annotations

from crypto_lake.capture.snapshot import CollectorSnapshot, StreamSnapshot
from crypto_lake.completeness.liveness import Liveness
from crypto_lake.model.alert_message import duration
from crypto_lake.model.alerting import Rule
from crypto_lake.model.market import NS_PER_SECOND, Stream
from crypto_lake.watch.collector_status import streams_live
from crypto_lake.watch.conditions_look import MINUTE_NS, Finding, Look
from crypto_lake.watch.conditions_memory import Memory

DUE_BY_SYMBOL = 20.0  # so many messages due and not one come: that is no quiet moment
DUE_BY_STREAM = 50.0  # of one stream among others that speak; trades come in bursts
_QUIET_PATIENCE = 2.0
_HOLD_SECONDS = 5.0  # a clock that steps makes one look long


def data_gap(look: Look, rule: Rule, memory: Memory, firing: frozenset[str]) -> list[Finding] | None:
    snapshot = look.running
    # Without a speed of its own the lake's clock stands until a message moves it: it knows no silence.
    if snapshot is None or snapshot.clock_speed <= 0:
        return None
    limit_ns = int(rule.limit * MINUTE_NS)
    by_symbol: dict[str, list[StreamSnapshot]] = {}
    for stream in snapshot.streams:
        by_symbol.setdefault(stream.symbol, []).append(stream)
    markets = {symbol: _of_market(streams) for symbol, streams in by_symbol.items()}
    silence_ns = {
        symbol: min(_silence_ns(stream, snapshot, memory) for stream in streams)
        for symbol, streams in markets.items()
        if not all(map(_at_rest, streams))
    }
    silent = {symbol: ns for symbol, ns in silence_ns.items() if ns >= limit_ns}
    live, wanted = streams_live(snapshot), len(snapshot.streams)
    whole = live >= wanted

    def over(ns: int, due: float) -> bool:
        """Whether a silence beyond the limit is more than a quiet moment."""
        return not whole or due >= DUE_BY_SYMBOL or ns >= limit_ns * _QUIET_PATIENCE

    def finding(subject: str, what: str, ns: int, due: float, do: str) -> Finding:
        seconds = ns / NS_PER_SECOND
        average = f"; by the average {due:,.0f} messages were due" if due >= 1 else ""
        subscribed = "all streams are live" if whole else f"{live} of {wanted} streams are live"
        return Finding(
            f"{snapshot.exchange}{subject}",
            f"{what} for {duration(seconds)} ({subscribed}{average}). {do}",
            rule.severity,
            started_ns=look.now_ns
            - int(ns / snapshot.clock_speed + look.seen.snapshot_age_seconds * NS_PER_SECOND),
            hold_seconds=_HOLD_SECONDS,
            details={
                "silent_seconds": round(seconds),
                "messages_due": round(due),
                "streams": wanted,
                "streams_live": live,
                "symbols_silent": len(silent),
            },
        )

    if silent and len(silent) == len(silence_ns):
        due = sum(_due(stream, snapshot, memory) for stream in snapshot.streams)
        if not over(min(silent.values()), due):
            return []
        names = next(iter(silent)) if len(silent) == 1 else f"any of {len(silent)} symbols"
        do = "Look at `crypto-lake doctor` (network, DNS, firewall) and at the exchange's announcements."
        return [
            finding(
                "", f"nothing has come of {names} from {snapshot.exchange}", min(silent.values()), due, do
            )
        ]
    found: list[Finding] = []
    others = len(silence_ns) - len(silent)
    for symbol, streams in by_symbol.items():
        if symbol in silent:
            due = sum(_due(stream, snapshot, memory) for stream in streams)
            if over(silent[symbol], due):
                what = f"nothing has come of {symbol} while {_moving(others)} of {snapshot.exchange},"
                do = "Its trading may be halted (see the exchange's announcements); else restart the collector, which subscribes anew."
                found.append(finding(f"/{symbol}", what, silent[symbol], due, do))
            continue
        for stream in streams:
            ns, due = _silence_ns(stream, snapshot, memory), _due(stream, snapshot, memory)
            if _at_rest(stream):
                continue
            if ns >= limit_ns and due >= DUE_BY_STREAM:
                what = f"no {stream.kind} has come of {symbol} while its other streams speak,"
                do = "Restart the collector, which subscribes anew."
                found.append(finding(f"/{symbol}/{stream.kind}", what, ns, due, do))
    return found


def _of_market(streams: list[StreamSnapshot]) -> list[StreamSnapshot]:
    """Those that speak when the market moves; all, where there are no such."""
    return [stream for stream in streams if stream.kind != Stream.KLINE] or streams


def _at_rest(stream: StreamSnapshot) -> bool:
    """The exchange was asked, and has nothing that did not come."""
    return stream.liveness in (Liveness.QUIET, Liveness.HALTED)


def _moving(others: int) -> str:
    return "1 other symbol moves" if others == 1 else f"{others} other symbols move"


def _silence_ns(stream: StreamSnapshot, snapshot: CollectorSnapshot, memory: Memory) -> int:
    """Since its last message, or since it was first seen where none has come."""
    last_ns = stream.last_received_ns or memory.first_seen.get(stream.name, snapshot.taken_ns)
    return max(0, snapshot.taken_ns - last_ns)


def _due(stream: StreamSnapshot, snapshot: CollectorSnapshot, memory: Memory) -> float:
    """Messages that its average before the silence would have brought in it. A stream without any tells nothing."""
    spoke_ns = stream.last_received_ns - snapshot.started_ns
    if stream.messages < 2 or spoke_ns < NS_PER_SECOND:
        return 0.0
    return stream.messages * _silence_ns(stream, snapshot, memory) / spoke_ns
