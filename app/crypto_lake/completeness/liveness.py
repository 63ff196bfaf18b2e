"""Whether a stream that says nothing is dead, or its market is quiet. Pure.

A stream is asked about when it was silent for longer than its own usual pause (its patience). Then the exchange's REST
tells: where it has nothing newer, the market is quiet; where it has, and the stream still has not brought it at a second
asking, the stream is dead. Which streams beside it speak names what is dead: one stream, all of a symbol, a connection.
Times are seconds of a clock that only goes on; none of the lake's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from crypto_lake.completeness.liveness_terms import (
    DEAD,
    Answer,
    Heard,
    Judgement,
    Liveness,
    Memory,
    Outside,
    Rules,
)

__all__ = [
    "DEAD",
    "Answer",
    "Heard",
    "Judgement",
    "Liveness",
    "Looked",
    "Memory",
    "Outside",
    "Rules",
    "look",
    "patience",
]


_REPEATS = 3  # copies of one message that are no overlap of two connections
_DUE = 20.0  # messages due by the stream's own average, and none came: that is no quiet moment


@dataclass(frozen=True, slots=True)
class Looked:
    """ask: symbols of which an answer is wanted, the most urgent first. ask_trading: those at rest for long, of which it
    is to be known whether they trade at all.
    """

    memory: Mapping[str, Memory]
    ask: tuple[str, ...]
    ask_trading: tuple[str, ...]

    def kinds(self) -> dict[str, Liveness]:
        return {name: memory.judgement.kind for name, memory in self.memory.items()}

    @property
    def dead(self) -> tuple[str, ...]:
        return tuple(name for name, kind in self.kinds().items() if kind.dead)


def patience(heard: Heard, rules: Rules) -> float:
    """How long a stream may be silent before it is asked about."""
    if heard.fresh_at is None or heard.fresh_at < heard.since:
        return rules.patience_first
    if heard.mean_pause is None:
        return rules.patience_most
    return min(max(rules.times * heard.mean_pause, rules.patience_least), rules.patience_most)


def look(
    streams: Sequence[Heard], before: Mapping[str, Memory], outside: Outside, now: float, rules: Rules
) -> Looked:
    """Judge every stream, by what was heard, what the exchange said, and what was thought before."""
    memory: dict[str, Memory] = {}
    wanted: list[tuple[int, float, str]] = []
    unsure: list[str] = []
    for heard in streams:
        known = before.get(heard.name)
        if not heard.connection:
            memory[heard.name] = _become(
                known, Judgement(Liveness.NOT_SUBSCRIBED, now, "no connection carries it yet")
            )
            continue
        if heard.handed_over and known is not None:  # who brings what can't be told now
            memory[heard.name] = known
            continue
        if not _silent(heard, now, rules):
            memory[heard.name] = _speaking(heard, known, now, rules)
            continue
        told = _take_answer(heard, _same_silence(heard, known, now), outside, rules)
        judged = _silence(heard, told, streams, outside, now, rules)
        memory[heard.name] = replace(_become(told, judged), behind_since=None)
        if (urgency := _urgency(told, judged, now, rules)) is not None:
            wanted.append((urgency, told.silent_from, heard.symbol))
        if judged.kind.at_rest and now - told.silent_from >= rules.halted:
            unsure.append(heard.symbol)
    order = dict.fromkeys(symbol for _, _, symbol in sorted(wanted))
    return Looked(memory, tuple(order), tuple(dict.fromkeys(unsure)))


def _silent_from(heard: Heard) -> float:
    return heard.since if heard.fresh_at is None else max(heard.fresh_at, heard.since)


def _silent(heard: Heard, now: float, rules: Rules) -> bool:
    return bool(heard.connection) and now - _silent_from(heard) >= patience(heard, rules)


def _become(known: Memory | None, judgement: Judgement) -> Memory:
    """The same kind goes on since it began; its evidence is the newest."""
    if known is None:
        return Memory(judgement)
    if known.judgement.kind is judgement.kind:
        judgement = replace(judgement, since=known.judgement.since)
    return replace(known, judgement=judgement)


def _same_silence(heard: Heard, known: Memory | None, now: float) -> Memory:
    """What is remembered, if it is of the silence that lasts now."""
    silent_from = _silent_from(heard)
    if known is not None and known.silent_from == silent_from:
        return known
    judgement = known.judgement if known is not None else Judgement(Liveness.SUSPECT, now)
    return Memory(judgement, silent_from)


def _speaking(heard: Heard, known: Memory | None, now: float, rules: Rules) -> Memory:
    """Of a stream that is not silent: whether what comes is of now."""
    age = now - _silent_from(heard)
    if heard.fresh_at is None or heard.fresh_at < heard.since:
        waiting = Judgement(Liveness.LIVE, now, f"acknowledged {age:.0f} s ago, nothing has come yet")
        return Memory(_become(known, waiting).judgement)
    since = known.behind_since if known is not None else None
    if heard.behind is not None and heard.behind > rules.behind:
        since = now if since is None else since
        if now - since >= rules.behind_hold and heard.fresh_at > since:
            said = f"what comes is {heard.behind:.0f} s old by the exchange's own clock"
            return Memory(_become(known, Judgement(Liveness.BEHIND, now, said)).judgement, behind_since=since)
    else:
        since = None
    live = Judgement(Liveness.LIVE, now, f"something new came {age:.0f} s ago")
    return Memory(_become(known, live).judgement, behind_since=since)


def _newer(heard: Heard, answer: Answer, base: Answer | None) -> bool:
    """Whether the exchange has something that this stream has not brought."""
    if heard.by_id:
        known = heard.last_id or (base.last_id if base is not None else 0)
        return answer.last_id > known
    quote = heard.quote or (base.quote if base is not None else None)
    return quote is not None and answer.quote != quote


def _take_answer(heard: Heard, known: Memory, outside: Outside, rules: Rules) -> Memory:
    """Weigh the latest answer, if it is of this silence and was not weighed before."""
    answer = outside.answers.get(heard.symbol)
    weighed = max((a.at for a in (known.base, known.newer, known.quiet) if a is not None), default=None)
    if answer is None or answer.at <= known.silent_from or (weighed is not None and answer.at <= weighed):
        return known
    never_heard = not heard.last_id if heard.by_id else heard.quote is None
    if never_heard and known.base is None:
        return replace(known, base=answer, again_at=answer.at + rules.grace)
    if not _newer(heard, answer, known.base):
        after = min(2 * known.again_after, rules.again_most) if known.again_after else rules.again_first
        return replace(
            known, quiet=answer, newer=None, proven="", again_after=after, again_at=answer.at + after
        )
    if known.newer is None:
        return replace(known, newer=answer, again_at=answer.at + rules.grace)
    if answer.at < known.newer.at + rules.grace or known.proven:
        return known
    return replace(known, proven=_proof(heard, known.newer, answer), again_at=answer.at + rules.again_most)


def _proof(heard: Heard, first: Answer, second: Answer) -> str:
    apart = second.at - first.at
    if heard.by_id:
        here = f"trade {heard.last_id}" if heard.last_id else "no trade"
        return f"the exchange had trade {first.last_id}, and {apart:.0f} s later {second.last_id}; here is {here}"
    return f"the exchange had other quotes than the last one here, and again {apart:.0f} s later"


def _urgency(told: Memory, judged: Judgement, now: float, rules: Rules) -> int | None:
    """In which order an answer is wanted; None: not now."""
    if told.proven or now < told.again_at:
        return None
    if told.newer is not None:
        return 0
    return 2 if judged.kind.at_rest else 1


def _silence(
    heard: Heard,
    told: Memory,
    streams: Sequence[Heard],
    outside: Outside,
    now: float,
    rules: Rules,
) -> Judgement:
    """What a silence beyond the patience is."""
    seconds = now - told.silent_from
    for_so_long = f"nothing new for {seconds:.0f} s"
    if heard.repeats >= _REPEATS:
        said = f"{for_so_long}, {heard.repeats} messages that came before"
        return Judgement(Liveness.REPEATING, now, f"{said}; {told.proven}" if told.proven else said)
    if told.proven:
        after = told.newer.at if told.newer is not None else told.silent_from + rules.grace
        kind, beside = _name(heard, streams, after)
        return Judgement(kind, now, f"{for_so_long}; {told.proven}; {beside}")
    if told.quiet is not None and told.newer is None:
        return _at_rest(heard, told.quiet, outside, for_so_long, now)
    if told.newer is None and outside.problem:
        after = told.silent_from + rules.grace
        kind, beside = _name(heard, streams, after)
        due = seconds / heard.mean_pause if heard.mean_pause else 0.0
        long = seconds >= rules.unproven * patience(heard, rules)
        if due >= _DUE and long and any(_speaks(other, after) for other in streams):
            said = (
                f"{for_so_long}, {due:.0f} messages were due; the exchange can't be asked ({outside.problem})"
            )
            return Judgement(kind, now, f"{said}; {beside}")
        return Judgement(
            Liveness.UNKNOWN, now, f"{for_so_long}; the exchange can't be asked: {outside.problem}"
        )
    return Judgement(Liveness.SUSPECT, now, f"{for_so_long}; the exchange is being asked")


def _at_rest(heard: Heard, answer: Answer, outside: Outside, for_so_long: str, now: float) -> Judgement:
    ago = f"{now - answer.at:.0f} s ago"
    if outside.trading.get(heard.symbol) is False:
        return Judgement(
            Liveness.HALTED, now, f"{for_so_long}; the exchange says that {heard.symbol} does not trade"
        )
    what = (
        f"trade {answer.last_id} was its newest"
        if heard.by_id and answer.last_id >= 0
        else "it had no trade for a day"
        if heard.by_id
        else "its quote was the last one here"
    )
    return Judgement(Liveness.QUIET, now, f"{for_so_long}; the exchange was asked {ago}: {what}")


def _speaks(other: Heard, after: float) -> bool:
    """Whether another stream has brought something new since then, over the connection it is on."""
    return other.fresh_at is not None and other.fresh_at > max(other.since, after)


def _name(heard: Heard, streams: Sequence[Heard], after: float) -> tuple[Liveness, str]:
    """What is dead, by which streams beside it speak after the exchange had what this one did not bring."""
    beside = [s for s in streams if s.connection == heard.connection and s.name != heard.name]
    speak = [s for s in beside if _speaks(s, after)]
    of_symbol = [s for s in speak if s.symbol == heard.symbol]
    said = f"{len(speak)} of {len(beside)} other streams of {heard.connection} speak"
    if heard.fresh_at is None or heard.fresh_at < heard.since:
        return Liveness.NEVER_SPOKE, f"nothing ever came of it over {heard.connection}; {said}"
    if of_symbol:
        return Liveness.STREAM_SILENT, said
    return (Liveness.SYMBOL_SILENT if speak else Liveness.CONNECTION_SILENT), said
