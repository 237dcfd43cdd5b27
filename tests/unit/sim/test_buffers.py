"""Buffers that fill up: they grow and the kernel resumes, or what cannot grow is an error that says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.compiled import CompiledStrategy, set_quotes
from mmsim.config import LatencyConfig, SimConfig
from mmsim.errors import AgentError, ConfigError, DataError, KernelError
from mmsim.sim import records as R
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.multi import MultiAgent, MultiSession
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, T0, market_from, tiny_market
from mmsim.types import EventFlag, EventKind

K = EventKind
LAST = int(EventFlag.LAST)
MS = 1_000_000


def at(seconds: float) -> int:
    return T0 + round(seconds * SECOND)


def quiet(*more: tuple[float, EventKind, int, int, int], end: float = 6, units: int = 400):
    """10 lots at 100 and at 104, then rows of (seconds, kind, side, px, qty)."""
    rows = [(at(0), 100, 10, 0, K.LEVEL, 1, LAST), (at(0), 104, 10, 0, K.LEVEL, -1, LAST)]
    rows += [(at(t), px, qty, 0, kind, side, LAST) for t, kind, side, px, qty in more]
    return market_from(rows, level="L2", episode=(at(0.1), at(end)), max_inventory_units=units)


class Plan(Strategy):
    def __init__(self, *plan: Quotes) -> None:
        super().__init__()
        self.plan = plan

    def quote(self, obs: Observation) -> Quotes:
        return self.plan[obs.step % len(self.plan)]


def run(data, *plan: Quotes, **sim: object):
    return Session(data, SimConfig(**sim)).run(Plan(*plan), data.splits["test"][0])


LEFT, RIGHT = Quotes(((100, 1),), ()), Quotes(((99, 1),), ())


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies of more intervals than a session accepts when it is made: what the kernel does then."""
    monkeypatch.setattr("mmsim.sim.limits._on_their_way", lambda *_: None)


def test_more_orders_on_their_way_than_are_kept(long_ways: None) -> None:
    with pytest.raises(ConfigError, match="more own orders or messages"):
        run(quiet(), LEFT, RIGHT, decision_interval_ns=MS, latency={"order": 100 * SECOND})


def test_more_market_orders_on_their_way_than_the_ring_holds(long_ways: None) -> None:
    with pytest.raises(ConfigError, match="more own orders or messages"):
        run(quiet(), Quotes(take=1), decision_interval_ns=MS, latency={"market": 100 * SECOND})


@pytest.mark.parametrize("kind", ["cancel", "reduce", "new"])
def test_the_request_ring_is_full_at_any_kind(kind: str, long_ways: None) -> None:
    """Market orders fill the ring up to the last place or two; then a request of the kind finds none."""
    data = quiet(end=9)
    filler = [Quotes(((100, 5),), (), take=1)] * (R.N_RING - 2 + {"cancel": 2, "reduce": 0, "new": 1}[kind])
    last = {
        "cancel": Quotes(take=1),
        "reduce": Quotes(((100, 4),), (), take=1),
        "new": Quotes(((100, 5), (99, 1)), ()),
    }
    plan = [Quotes(((100, 5),), ()), *filler, last[kind], last[kind]] if kind != "reduce" else [
        Quotes(((100, 5),), ()), *filler, last[kind], Quotes(((100, 3),), (), take=1),
    ]  # fmt: skip
    slow = dict.fromkeys(("cancel", "reduce", "market"), 100 * SECOND)
    slow["order"] = 0 if kind != "new" else 100 * SECOND
    with pytest.raises(ConfigError, match="more own orders or messages"):
        run(data, *plan, decision_interval_ns=MS, latency=slow)


@pytest.mark.parametrize("level", ["L2", "L3"])
def test_more_responses_on_their_way_than_are_kept(level: str, long_ways: None) -> None:
    slow = {"decision_interval_ns": MS, "latency": {"ack": 100 * SECOND}}
    with pytest.raises(ConfigError, match="more own orders or messages"):
        run(quiet(), Quotes(take=1), Quotes(take=-1), **slow)


def test_responses_to_fills_of_a_resting_order_fill_the_ring() -> None:
    trades = [(0.2 + 0.001 * k, K.TRADE, -1, 101, 1) for k in range(3_000)]
    data = quiet(*trades, units=5_000)
    order = Quotes(((102, 2_500),), ())
    with pytest.raises(ConfigError, match="more own orders or messages"):
        run(data, order, latency={"ack": 100 * SECOND}, max_order_units=4_000)
    crossed = [(0.2 + 0.001 * k, K.ADD, -1, 102, 1, k) for k in range(3_000)]
    rows = [(at(0), 100, 10, 3_001, K.ADD, 1, LAST), (at(0), 104, 10, 3_002, K.ADD, -1, LAST)]
    rows += [(at(t), px, qty, oid, kind, side, LAST) for t, kind, side, px, qty, oid in crossed]
    l3 = market_from(rows, level="L3", episode=(at(0.1), at(6)), max_inventory_units=5_000)
    with pytest.raises(ConfigError, match="more own orders or messages"):
        run(l3, order, latency={"ack": 100 * SECOND}, max_order_units=4_000)


def test_the_ring_of_responses_is_full_at_any_kind_of_row() -> None:
    """It takes 2,049 responses; then comes a row of the kind that concerns our order."""
    fills = R.N_RING // 2
    slow = {"latency": {"ack": 100 * SECOND}, "max_order_units": 4_000, "decision_interval_ns": 10 * SECOND}
    order = Quotes(((102, 2_500),), ())
    trades = [(0.2 + 0.001 * k, K.TRADE, -1, 101, 1) for k in range(fills)]
    with pytest.raises(ConfigError, match="more own orders or messages"):
        run(quiet(*trades, (4, K.LEVEL, 1, 102, 3), units=5_000), order, **slow)
    rows = [(at(0), 100, 10, 3_001, K.ADD, 1, LAST), (at(0), 104, 10, 3_002, K.ADD, -1, LAST)]
    rows += [(at(0.2 + 0.001 * k), 102, 1, k, K.ADD, -1, LAST) for k in range(fills)]
    rows += [(at(4), 100, 1, 3_001, K.EXECUTE, 1, LAST)]
    l3 = market_from(rows, level="L3", episode=(at(0.1), at(6)), max_inventory_units=5_000)
    with pytest.raises(ConfigError, match="more own orders or messages"):
        run(l3, order, **slow)


@pytest.mark.parametrize("what", ["trades", "crosses", "takes", "close"])
def test_the_fill_buffer_grows_wherever_it_is_full(what: str) -> None:
    kind = {"trades": (K.TRADE, -1, 101, 1), "crosses": (K.LEVEL, -1, 103, 1)}.get(what, (K.LEVEL, 1, 99, 3))
    more = [(0.3 + 0.01 * k, *kind) for k in range(300)]
    if what == "crosses":
        more = [
            row
            for k in range(300)
            for row in ((0.3 + 0.01 * k, K.LEVEL, -1, 103, 1), (0.305 + 0.01 * k, K.LEVEL, -1, 103, 0))
        ]
    data = quiet(*more)
    plan = {
        "trades": (Quotes(((102, 300),), ()),), "crosses": (Quotes(((103, 1),), ()),),
        "takes": (Quotes(take=1), Quotes(take=-1)), "close": (Quotes(take=9), Quotes.none()),
    }[what]  # fmt: skip
    sim = SimConfig(
        max_order_units=400, decision_interval_ns=5 * MS if what in ("crosses", "takes") else 10 * SECOND
    )
    whole = Session(data, sim).run(Plan(*plan), data.splits["test"][0])
    tight = Session(data, sim)
    tight._fills = tight._fills[: 4 if what != "close" else 270]
    assert tight.run(Plan(*plan), data.splits["test"][0]).fills.tobytes() == whole.fills.tobytes()
    assert len(whole.fills) >= 2


@pytest.mark.parametrize("rest", [0, 300])
@pytest.mark.parametrize("level", ["L2", "L3"])
def test_the_fill_buffer_grows_inside_a_stretch_of_market(level: str, rest: int) -> None:
    # nothing reaches the agent in time, so 600 fills come in one stretch; `rest` more rows would just fit
    if level == "L2":
        data = quiet(*[(0.2 + 0.001 * k, K.TRADE, -1, 101, 1) for k in range(600)], units=1_000)
    else:
        rows = [(at(0), 100, 10, 601, K.ADD, 1, LAST), (at(0), 104, 10, 602, K.ADD, -1, LAST)]
        rows += [(at(0.2 + 0.001 * k), 102, 1, k, K.ADD, -1, LAST) for k in range(600)]
        data = market_from(rows, level="L3", episode=(at(0.1), at(6)), max_inventory_units=1_000)
    sim = SimConfig(max_order_units=700, latency={"ack": 100 * SECOND}, decision_interval_ns=10 * SECOND)
    order = Quotes(((102, 600),), ())
    whole = Session(data, sim).run(Plan(order), data.splits["test"][0])
    tight = Session(data, sim)
    tight._fills = tight._fills[: 557 + rest]
    assert tight.run(Plan(order), data.splits["test"][0]).fills.tobytes() == whole.fills.tobytes()
    assert int((whole.fills["maker"] == 1).sum()) == 600


def test_as_many_orders_as_can_be_kept_are_seen_with_their_queues() -> None:
    # found by running without the JIT: the row of an observation was one cell short for the last order
    rows = [(at(0), 1_000, 10, 0, K.LEVEL, 1, LAST), (at(0), 1_004, 10, 0, K.LEVEL, -1, LAST)]
    data = market_from(rows, level="L2", episode=(at(0.1), at(6)), max_inventory_units=1_000)
    levels = [Quotes(tuple((1_000 - k - 16 * step, 1) for k in range(16)), ()) for step in range(8)]
    sim = SimConfig(
        max_levels=16,
        max_order_units=400,
        latency={"order": 0, "ack": 0, "cancel": 100 * SECOND},
    )
    session = Session(data, sim)
    obs = session.start(data.splits["test"][0])
    for quotes in levels:
        obs = session.step(quotes)
    assert obs is not None
    assert session.inspect().state.orders.n == R.MAX_OWN
    assert len(obs.orders) == 16  # the rest is being cancelled
    assert obs.orders["px"].min() == 1_000 - 15 - 16 * 7
    with pytest.raises(ConfigError, match="more own orders"):
        session.step(Quotes(((1, 1),), ()))


def test_observations_wait_in_a_ring_that_grows() -> None:
    data = tiny_market(2, level="L2", seconds=30, events_per_second=20)
    slow = SimConfig(latency={"feed": 20 * SECOND}, decision_interval_ns=100 * MS)
    fast = SimConfig(latency={"feed": 20 * SECOND}, decision_interval_ns=100 * MS)
    session = Session(data, slow)
    one = session.run(Plan(Quotes.none()), data.splits["test"][0])
    assert len(one.steps) == len(Session(data, fast).run(Plan(Quotes.none()), data.splits["test"][0]).steps)


def test_missed_decisions_of_several_markets_outgrow_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(MultiAgent):
        def quote(self, observations):
            return {}

    sim = SimConfig(decision_interval_ns=SECOND // 10, latency={"decision": SECOND})
    late = quiet()
    late = replace(
        late,
        events=np.array(
            [(at(0.25) if e["side"] < 0 else e["ts"], *list(e)[1:]) for e in late.events], late.events.dtype
        ),
    )
    both = MultiSession({"a": quiet(), "b": late}, sim)
    monkeypatch.setattr("mmsim.sim.engine._MOST_STEPS", 2)
    both.sessions["b"]._steps = both.sessions["b"]._steps[:2]
    out = both.run(Slow(), {"a": 0, "b": 0}, at(0.1), at(3))
    assert out["b"].counters["missed"] > 5
    assert len(out["b"].steps) == len(out["a"].steps)


def test_library_errors_of_an_agent_of_several_markets_pass_through() -> None:
    class NotInstalled(MultiAgent):
        def quote(self, observations):
            raise ConfigError("pip install what it needs")

    with pytest.raises(ConfigError, match="pip install"):
        MultiSession({"a": quiet()}, SimConfig(decision_interval_ns=SECOND)).run(
            NotInstalled(), {"a": 0}, at(1), at(2)
        )


def test_a_finished_episode_has_no_next_step() -> None:
    data = quiet()
    session = Session(data)
    session.run(Plan(Quotes.none()), data.splits["test"][0])
    with pytest.raises(ConfigError, match="the episode is over"):
        session.step(Quotes.none())


def test_reset_and_on_fill_that_raise_are_named() -> None:
    class BadReset(Plan):
        def reset(self, ctx) -> None:
            raise KeyError("weights")

    class NeedsConfig(Plan):
        def reset(self, ctx) -> None:
            raise ConfigError("train it first")

    class BadFill(Plan):
        def on_fill(self, fill) -> None:
            raise ZeroDivisionError("odd")

    data = quiet((1, K.TRADE, -1, 100, 50))
    episode = data.splits["test"][0]
    with pytest.raises(AgentError, match="reset raised KeyError"):
        Session(data).run(BadReset(LEFT), episode)
    with pytest.raises(ConfigError, match="train it first"):
        Session(data).run(NeedsConfig(LEFT), episode)
    with pytest.raises(AgentError, match="on_fill raised ZeroDivisionError"):
        Session(data).run(BadFill(LEFT), episode)


def test_latencies_of_an_agent_that_recalls_them_and_a_run_cut_short() -> None:
    class Recalls(Plan):
        last_latency_ns = 123_456

    data = quiet(end=30)
    result = Session(data).run(Recalls(LEFT), data.splits["test"][0], most_steps=3)
    assert result.steps["wall_ns"][:3].tolist() == [123_456] * 3
    assert len(result.steps) < 10


def test_profile_latency_needs_a_profile() -> None:
    with pytest.raises(ConfigError, match="needs the agent's recorded latencies"):
        DecisionLatency.from_config(LatencyConfig(decision="profile"))


def test_whole_numbers_of_other_types_are_quotes_too() -> None:
    class Floats(Strategy):
        def quote(self, obs: Observation) -> Quotes:
            return Quotes(((100.0, 1.0),), (), take=1.0)  # type: ignore[arg-type]

    data = quiet((1, K.TRADE, -1, 100, 50))
    fills = Session(data).run(Floats(), data.splits["test"][0]).fills
    assert {int(f["qty"]) for f in fills[:2]} == {1}


def test_a_market_order_beyond_the_limit_at_the_exchange_is_refused() -> None:
    # two takes are on their way when only one still fits
    data = quiet(units=1, end=5)
    result = run(
        data,
        Quotes(take=1),
        decision_interval_ns=SECOND,
        latency={"market": 1_500 * MS, "ack": 3 * SECOND},
    )
    assert result.counters["limit_rejects"] > 0
    assert np.abs(np.cumsum(result.fills["side"] * result.fills["qty"].astype(int))).max() == 1


def test_a_limited_take_stops_at_its_price_and_closing_goes_to_the_worst_level() -> None:
    data = quiet((0.05, K.LEVEL, -1, 106, 5), (0.05, K.LEVEL, 1, 97, 2))
    buy = Quotes(((104, 13),), (), post_only=False)
    result = run(data, buy, Quotes.none(), max_order_units=400, decision_interval_ns=10 * SECOND)
    assert [(int(f["px"]), int(f["qty"]), int(f["side"])) for f in result.fills] == [
        (104, 10, 1),
        (100, 10, -1),
    ]
    more = run(data, Quotes(take=15), Quotes.none(), max_order_units=400, decision_interval_ns=10 * SECOND)
    assert [(int(f["px"]), int(f["qty"])) for f in more.fills] == [
        (104, 10),
        (106, 5),
        (100, 10),
        (97, 2),
        (97, 3),
    ]
    assert more.counters["close_beyond_lots"] == 3


def test_a_book_that_an_event_would_overdraw_is_a_data_error() -> None:
    rows = [
        (at(0), 100, 10, 0, K.ADD, 1, LAST), (at(0), 104, 10, 1, K.ADD, -1, LAST), (at(1), 100, 5, 0, K.DELETE, 1, LAST),
    ]  # fmt: skip
    data = market_from(rows, level="L3", episode=(at(0.1), at(2)))
    session = Session(data)
    session.start(data.splits["test"][0])
    seen = session.inspect()
    seen.ladder[0, 100 - seen.state.book.base_px] = 7  # fewer lots than the order has: memory gone wrong
    session.step(Quotes.none())
    with pytest.raises(DataError, match="BAD_QTY"):
        session.step(Quotes.none())


class Maker(CompiledStrategy):
    @staticmethod
    def decide(obs, want, params, memory):
        set_quotes(want, obs.bid_px, 1, obs.ask_px, 1)


def test_valid_quotes_that_the_kernel_refuses_are_a_bug_that_is_told() -> None:
    data = quiet()
    session = Session(data)
    session.start(data.splits["test"][0])
    session.inspect().state.rules.max_levels = 0  # the kernel's copy of a limit gone wrong
    with pytest.raises(KernelError, match="were refused"):
        session.step(LEFT)
