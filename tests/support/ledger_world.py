"""A market with faults, a collector that is restarted and killed, and what each of them says of the trades.

The simulator's fault rules stand between the market and the connections; the collector's own intake and writer take
what is left, in the test's thread and by a clock of the test's. Nothing here knows what a ledger is: what came is noted
where it is handed over, and what was withheld by the simulator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

from crypto_lake.capture.batch import Batch
from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.writer import Writer, WriterSettings
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import control, parts
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.simulator.faults import Duplicate, Late, Mix, Reorder, StreamFaults, Swallow
from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.messages import COMBINED, TradeMessage

SYMBOL, STREAM, QUOTES = "BTCUSDT", "btcusdt@trade", "btcusdt@bookTicker"
COLLECTOR = "here-77aa"
GRACE_NS = 5 * 10**9
START_NS = Hour("2024-08-08", 13).start_ns + 1_800 * 10**9


class HandWriter(Writer):
    """The collector's writer without its thread: each batch is written before `put` returns."""

    def begin(self) -> None:
        self._reserve_looked_at = float("inf")  # the reserve is no part of this

    def put(self, batch: Batch) -> None:
        self._take(batch)
        self._work(sync=batch.sync)

    def follow(self, symbols: Iterable[str]) -> None:
        self._ledgers.wanted = frozenset(symbols)

    def finish(self) -> None:
        self._finish()

    def kill(self) -> None:
        """What is in memory is gone, and open parts stay open."""
        self._raw.leave()
        self._ledgers.close()


class HandClock:
    speed = 0.0

    def __init__(self) -> None:
        self.at_ns = START_NS

    def now_ns(self) -> int:
        return self.at_ns

    def observe(self, exchange_ns: int) -> None:
        pass


class World:
    """`durable`: trades in the order in which they reached the disk. `fired`: what befell, by kind."""

    def __init__(self, root: Path, seed: int) -> None:
        self.rng = Random(seed)
        self.layout = Layout(root)
        self.clock = HandClock()
        self.market_ns = START_NS
        self.next_id = 100
        self.faults = StreamFaults()
        self.fired: Counter[str] = Counter()
        self.durable: list[int] = []
        self.unheard = IntervalSet()  # by nobody, since nobody listened
        self._kept_from: dict[int, list[str]] = {}  # from all of these at once
        self._handed: list[int] = []  # to the collector, since its last cut
        self._connections: dict[str, bool] = {}  # name, and whether it carries the trades
        self._runs = self._count = 0
        (root / "state").mkdir(parents=True)
        (root / "state" / "collector").write_text(f"{COLLECTOR}\n")
        self.start()

    # the collector
    def start(self) -> None:
        self._runs += 1
        self._count = 0
        quarantine = Quarantine(self.layout.quarantine)
        parts.salvage(self.layout, quarantine)

        def fail(error: BaseException) -> None:
            raise error

        self.writer = HandWriter(
            self.layout,
            BINANCE,
            COLLECTOR,
            WriterSettings(3600.0, 60 * 10**9, GRACE_NS),
            quarantine,
            on_written=self._written,
            on_durable=lambda _: None,
            on_failure=fail,
        )
        self.writer.begin()
        self.intake = StreamIntake(BINANCE, self.clock, self._put, queue_bytes=10**7, flush_bytes=256 * 1024)
        self.intake.add_streams([STREAM, QUOTES])
        self.writer.open_symbol(SYMBOL)
        self.writer.follow((SYMBOL,))
        self.intake.event("collector", control.CollectorStarted(COLLECTOR, "0"))
        self.connect()

    def _written(self, sizes: dict[str, int]) -> None:
        self.intake.written(sizes)

    def _put(self, batch: Batch) -> None:
        """A batch holds all that was handed over before it: no buffer fills up here."""
        assert batch.whole
        self.durable += self._handed
        self._handed.clear()
        self.writer.put(batch)

    def cut(self) -> None:
        self.intake.cut(sync=True)

    def _alive(self) -> None:
        for name in self._connections:
            self.intake.event(name, control.Alive(self.market_ns // 1000, 1))

    def stop(self) -> None:
        self.fired["stop"] += 1
        for name in list(self._connections):
            self._end(name, "stopped")
        self.intake.event("collector", control.CollectorStopped(COLLECTOR, "test"))
        self.intake.finish()
        self.writer.finish()

    def kill(self) -> None:
        self.fired["kill"] += 1
        for id_ in self._handed:
            self.unheard.add(id_)  # it is as if they had not come
        self._handed.clear()
        self._connections.clear()
        self.writer.kill()

    # its connections
    def connect(self) -> None:
        self._count += 1
        name = f"c-77aa-{self._runs}-{self._count}"
        self._connections[name] = True
        self.intake.event(name, control.Connected("wss://somewhere"))
        self.intake.event(name, control.Subscribed((STREAM, QUOTES)))

    def disconnect(self) -> None:
        if self._connections:
            self.fired["disconnect"] += 1
            self._end(self.rng.choice(list(self._connections)), "reset")

    def _end(self, name: str, reason: str) -> None:
        del self._connections[name]
        self.intake.event(name, control.Disconnected(reason, "", self.market_ns // 1000, 1.0, 1))

    def subscribe_anew(self) -> None:
        """The trades of a connection are given up for a while, or taken up again."""
        if self._connections:
            name = self.rng.choice(list(self._connections))
            carries = self._connections[name] = not self._connections[name]
            told = control.Subscribed if carries else control.Unsubscribed
            self.fired["unsubscribe"] += not carries
            self.intake.event(name, told((STREAM,)))

    def leave_out(self) -> None:
        """The symbol is taken out of the configuration for a while: its ledger ends, and goes on."""
        self.fired["left out"] += 1
        self.writer.follow(())
        for name in self._connections:
            self.intake.event(name, control.Unsubscribed((STREAM, QUOTES)))
            self._connections[name] = False
        for _ in range(2):
            self.cut()
            self.passes(6.0)
        self.trades(self.rng.choice([0, 4]))
        self.writer.follow((SYMBOL,))
        for name in self._connections:
            self.intake.event(name, control.Subscribed((STREAM, QUOTES)))
            self._connections[name] = True

    # the market
    def passes(self, seconds: float) -> None:
        """Time goes by; what was held back until now is sent."""
        self.market_ns += int(seconds * 10**9)
        self.clock.at_ns += int(seconds * 10**9)
        self._deliver(list(self.faults.log.due(self.market_ns // 1000)))

    def trades(self, count: int) -> None:
        for _ in range(count):
            self.passes(self.rng.choice([0.0, 0.0, 0.001, 0.2, 1.0]))
            at_us = self.market_ns // 1000
            trade = SimulatedTrade(self.next_id, at_us, at_us, 10**8, 10**8, True)
            self.next_id += 1
            message = TradeMessage(SYMBOL, STREAM, trade)
            if self._subscribers():
                self._deliver(self.faults.apply(message, self._subscribers()))
            else:
                self.unheard.add(trade.id)

    def _subscribers(self) -> list[str]:
        return [name for name, carries in self._connections.items() if carries]

    def _deliver(self, deliveries: Sequence) -> None:
        for delivery in deliveries:
            to = [name for name in self._subscribers() if name not in delivery.except_for]
            if not to and not self._subscribers():
                self.unheard.add(delivery.message.trade_id)
            elif not to:
                self._kept_from[delivery.message.trade_id] = self._subscribers()
            for name in to:
                # Over the second connection a little later.
                self.clock.at_ns += self.rng.choice([0, 10**5])
                self.intake.drain(name, self.clock.at_ns, [delivery.message.payload(COMBINED)])
                self._handed.append(delivery.message.trade_id)

    def fault(self) -> None:
        rng = self.rng
        connection = rng.choice([None, *self._connections])
        count = rng.randint(1, 6)
        self.faults.add(
            rng.choice(
                [
                    lambda: Swallow(STREAM, count, connection),
                    lambda: Swallow(STREAM, count),
                    lambda: Duplicate(STREAM, count),
                    lambda: Reorder(STREAM, rng.randint(1, 2), rng.randint(2, 5)),
                    lambda: Late(STREAM, count, int(rng.choice([0.5, 3.0, 7.0, 40.0]) * 10**6)),
                    lambda: Mix(STREAM, 20, rng.randint(0, 99), 0.2, 0.2),
                ]
            )()
        )

    def step_clock(self) -> None:
        """The machine's clock is set, the market's goes on."""
        seconds = self.rng.choice([-4000.0, -40.0, -3.0, 3.0, 40.0, 4000.0])
        self.fired["clock set back" if seconds < 0 else "clock set forward"] += 1
        self.clock.at_ns += int(seconds * 10**9)

    # all of it
    def one_step(self, *, clock_steps: bool) -> None:
        rng = self.rng
        deeds: list[tuple[int, Callable[[], None]]] = [
            (40, lambda: self.trades(rng.randint(1, 12))),
            (14, self.fault),
            (12, self.cut),
            (12, lambda: (self.passes(rng.choice([0.3, 2.0, 6.0, 70.0])), self._alive(), self.cut())[0]),
            (1, lambda: (self.passes(2000.0), self._alive(), self.cut())[0]),
            (8, self.connect),
            (5, self.disconnect),
            (2, self.subscribe_anew),
            (1, self.leave_out),
            (2, lambda: self._restart(self.stop)),
            (3, lambda: self._restart(self.kill)),
            (2 if clock_steps else 0, self.step_clock),
        ]
        rng.choices([deed for _, deed in deeds], [weight for weight, _ in deeds])[0]()

    def _restart(self, end: Callable[[], None]) -> None:
        """Off for a while, in which the market goes on."""
        end()
        self.passes(self.rng.choice([0.1, 3.0, 30.0]))
        self.trades(self.rng.choice([0, 0, 3, 9]))
        self.start()

    def run(
        self, steps: int, *, clock_steps: bool = False, between: Callable[[], object] = lambda: None
    ) -> None:
        """`between`: called now and then, while the collector runs."""
        self.trades(3)
        self.cut()
        for step in range(steps):
            self.one_step(clock_steps=clock_steps)
            if step % 16 == 15:
                between()
        if not self._subscribers():
            self.connect()
        self._deliver(self.faults.clear())
        self.passes(60.0)
        self.trades(2)

    # what is true
    def missing(self) -> IntervalSet:
        """By what was handed over: ids that never came, between the first that came and the greatest."""
        came = IntervalSet(Interval(id_, id_) for id_ in set(self.durable))
        later = Interval(self.durable[0], max(self.durable))
        return IntervalSet(came.missing(later))

    def withheld(self) -> IntervalSet:
        """By the simulator's own account: withheld from all, or from each that listened; and unheard."""
        found = IntervalSet(self.unheard)
        of_each: dict[str, IntervalSet] = {}
        for log in self.faults.log.withheld.values():
            told = log.report()
            for first, last in told["withheld"].get(SYMBOL, ()):
                found.add_interval(first, last)
            for name, symbols in told["by_connection"].items():
                for first, last in symbols.get(SYMBOL, ()):
                    of_each.setdefault(name, IntervalSet()).add_interval(first, last)
        for id_, names in self._kept_from.items():
            if all(id_ in of_each.get(name, IntervalSet()) for name in names):
                found.add(id_)
        return found
