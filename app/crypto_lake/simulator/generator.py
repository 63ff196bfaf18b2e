"""A generated market, block by block: pure functions of the seed.

A block is ten seconds of one symbol. It follows from the seed, the symbol and the state that the block before
ended in, so a block can be thrown away and made again. Only comparison, integer and plain IEEE arithmetic
are used (no logarithms), so that a seed means the same market on every machine.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from crypto_lake.model.market import US_PER_SECOND
from crypto_lake.simulator.profiles import Profile

BLOCK_US = 10 * US_PER_SECOND
_MINUTE_US = 60 * US_PER_SECOND
_QUIET_SHARE = 0.35  # of a quiet symbol's minutes
_RETURN_FORCE = 6.0  # how strongly a price is drawn back to where it started


class SimulatedTrade(NamedTuple):
    """A trade; `event_us` is when the exchange tells of it, never before `time_us`."""

    id: int
    time_us: int
    event_us: int
    price_e8: int
    size_e8: int
    buyer_is_maker: bool


class SimulatedQuote(NamedTuple):
    """The best bid and ask after update `update_id`, told at `event_us`."""

    update_id: int
    event_us: int
    bid_e8: int
    bid_size_e8: int
    ask_e8: int
    ask_size_e8: int


class State(NamedTuple):
    """All that a block hands to the next. last_price_e8 is 0 before the first trade."""

    next_id: int
    next_update_id: int
    bid_ticks: int
    spread_ticks: int
    bid_steps: int
    ask_steps: int
    last_event_us: int
    last_price_e8: int
    next_aggregate_id: int


class Block(NamedTuple):
    trades: list[SimulatedTrade]
    quotes: list[SimulatedQuote]
    after: State


def initial_state(profile: Profile) -> State:
    return State(
        next_id=profile.first_id,
        next_update_id=profile.first_id * 13,
        bid_ticks=profile.price_ticks,
        spread_ticks=1,
        bid_steps=profile.size_steps,
        ask_steps=profile.size_steps,
        last_event_us=0,
        last_price_e8=0,
        next_aggregate_id=profile.first_id // 2,
    )


def _is_quiet(seed: int, profile: Profile, time_us: int) -> bool:
    if not profile.quiet:
        return False
    return Random(f"{seed}/{profile.symbol}/quiet/{time_us // _MINUTE_US}").random() < _QUIET_SHARE  # noqa: S311  the same seed, the same market


def _intensity(rng: Random) -> float:
    """How busy a second is, against the usual: mostly near one, now and then a burst."""
    draw = rng.random()
    if draw < 0.85:
        return 0.3 + rng.random()
    if draw < 0.98:
        return 1.5 + 2 * rng.random()
    return 6 + 8 * rng.random()


def generate_block(
    seed: int, profile: Profile, activity: float, number: int, start_us: int, state: State
) -> Block:
    """Block `number` (its time starts at number x BLOCK_US); nothing in it is before `start_us`."""
    rng = Random(f"{seed}/{profile.symbol}/{number}")  # noqa: S311  the same seed, the same market
    random = rng.random
    tick, step = profile.tick_e8, profile.step_e8
    centre, largest = profile.price_ticks, profile.size_steps
    next_id, update_id, bid, spread, bid_steps, ask_steps, last_event, last_price, aggregate_id = state
    trades: list[SimulatedTrade] = []
    quotes: list[SimulatedQuote] = []
    aggregate_key = (0, 0, False)
    begin = number * BLOCK_US
    for second in range(begin, begin + BLOCK_US, US_PER_SECOND):
        busy = activity * _intensity(rng)
        orders = int(profile.orders_per_second * busy + random())
        updates = int(profile.quotes_per_second * busy + random())
        if orders and _is_quiet(seed, profile, second):
            orders = 0
        # The lowest bit says which of the two happens at that microsecond.
        moments = [int(random() * US_PER_SECOND) << 1 for _ in range(orders)]
        moments += [int(random() * US_PER_SECOND) << 1 | 1 for _ in range(updates)]
        moments.sort()
        for moment in moments:
            at = second + (moment >> 1)
            if at < start_us:
                continue
            event = at + 150 + int(random() * random() * 4000)
            if event < last_event:
                event = last_event
            last_event = event
            if moment & 1:
                draw = random()
                if draw < 0.55:  # a size changes
                    size = 1 + int(random() * random() * largest * 4)
                    if draw < 0.275:
                        bid_steps = size if size != bid_steps else size + 1
                    else:
                        ask_steps = size if size != ask_steps else size + 1
                else:  # the price moves, a little more often towards where it started
                    up = random() < 0.5 - _RETURN_FORCE * (bid - centre) / centre
                    bid = bid + 1 if up or bid <= 1 else bid - 1
                    spread = 1 if random() < 0.9 else 2 + int(random() * 3)
                    bid_steps = 1 + int(random() * random() * largest * 4)
                    ask_steps = 1 + int(random() * random() * largest * 4)
            else:
                buys = random() < 0.5
                fills = 1 if random() < 0.62 else 2 + int(random() * random() * 8)
                price = bid + spread if buys else bid
                for fill in range(fills):
                    if fill and random() < 0.3 and (buys or price > 1):  # it eats into the book
                        price += 1 if buys else -1
                    draw = random()
                    price_e8 = price * tick
                    size_e8 = (1 + int(draw * draw * draw * largest)) * step
                    trades.append(SimulatedTrade(next_id, at, event, price_e8, size_e8, not buys))
                    next_id += 1
                    key = (at, price_e8, buys)
                    if key != aggregate_key:
                        aggregate_id += 1
                        aggregate_key = key
                last_price = price * tick
                size = 1 + int(random() * largest * 2)
                if buys:
                    bid, ask_steps = max(price - spread, 1), size if size != ask_steps else size + 1
                else:
                    bid, bid_steps = price, size if size != bid_steps else size + 1
            update_id += 1 if random() < 0.34 else 2 + int(random() * 6)
            quotes.append(
                SimulatedQuote(
                    update_id, event, bid * tick, bid_steps * step, (bid + spread) * tick, ask_steps * step
                )
            )
    after = State(
        next_id, update_id + 1, bid, spread, bid_steps, ask_steps, last_event, last_price, aggregate_id
    )
    return Block(trades, quotes, after)
