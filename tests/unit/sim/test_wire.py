"""Message latencies: per kind, drawn, recorded; order of arrival."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim._jit import records
from mmsim.agent import Observation, Quotes, Strategy
from mmsim.config import LatencyConfig, SimConfig
from mmsim.errors import ConfigError, DataError
from mmsim.sim import records as R
from mmsim.sim.latency import WireTable
from mmsim.sim.session import Session
from mmsim.sim.wire import looked_up
from mmsim.testing.markets import SECOND, T0, market_from, tiny_market
from mmsim.types import EventFlag, EventKind

K = EventKind
LAST = int(EventFlag.LAST)
MS = 1_000_000


def at(seconds: float) -> int:
    return T0 + round(seconds * SECOND)


def sim_with(mode: int, rows: int) -> np.void:
    sim = records(np.zeros(1, R.SIM))
    sim["rules"]["wire"], sim["rules"]["wire_rows"] = mode, rows
    return sim[0]


def test_every_kind_of_request_has_its_own_latency() -> None:
    table = WireTable(LatencyConfig(order=5, cancel=1, market=9, ack=7))
    assert table.fill(0, 0).tolist() == [0, 5, 1, 5, 9, 7]


class Script(Strategy):
    def __init__(self, *plan: Quotes) -> None:
        super().__init__()
        self.plan = plan

    def quote(self, obs: Observation) -> Quotes:
        return self.plan[min(obs.step, len(self.plan) - 1)]


def play(*plan: Quotes, trades: tuple[float, ...], latency: LatencyConfig) -> list[tuple[int, int]]:
    """Sales of 1 lot at 101, above the book's bid at 100 and reaching only us; returns (ts, px) of fills."""
    rows = [(at(0), 100, 10, 0, K.LEVEL, 1, LAST), (at(0), 104, 10, 0, K.LEVEL, -1, LAST)]
    rows += [(at(t), 101, 1, 0, K.TRADE, -1, LAST) for t in trades]
    data = market_from(rows, level="L2", episode=(at(0.1), at(6)), max_inventory_units=20)
    config = SimConfig(decision_interval_ns=SECOND, latency=latency)
    fills = Session(data, config).run(Script(*plan), data.splits["test"][0]).fills
    return [(int(f["ts"]), int(f["px"])) for f in fills if f["maker"]]


def test_a_slow_cancel_leaves_the_order_open() -> None:
    quotes = Quotes(((102, 1),), ())
    plan = (quotes, Quotes.none())  # asked at 0.1 and 1.1
    slow = LatencyConfig(order=MS, cancel=500 * MS)
    assert play(*plan, trades=(1.5,), latency=slow) == [(at(1.5), 102)]
    assert play(*plan, trades=(1.5,), latency=LatencyConfig(order=MS)) == []


def test_a_new_order_can_overtake_a_cancel_of_another_price_but_not_of_its_own_order() -> None:
    # moved from 102 to 103 at 1.1: the new one arrives at 1.101, the cancel of the old at 1.6
    plan = (Quotes(((102, 1),), ()), Quotes(((103, 1),), ()))
    slow_cancel = LatencyConfig(order=MS, cancel=500 * MS)
    assert play(*plan, trades=(1.3, 1.4), latency=slow_cancel) == [(at(1.3), 103), (at(1.4), 102)]
    # a cancel sent before its order has arrived waits for it: nothing is left behind
    slow_order = LatencyConfig(order=1_500 * MS, cancel=0)
    assert play(Quotes(((102, 1),), ()), Quotes.none(), trades=(2.0, 3.0), latency=slow_order) == []


def test_a_request_that_waits_for_its_own_order_delays_no_other() -> None:
    # asked at 0.1, 1.1, 2.1 ...: the bid at 103, sent at 1.1, arrives at 2.6. At 2.1 both bids are cancelled, with
    # no latency: that of 102, which has been there since 1.6, at once, that of 103 when it has come.
    one, two = Quotes(((102, 1),), ()), Quotes(((102, 1), (103, 1)), ())
    slow_order = LatencyConfig(order=1_500 * MS, cancel=0)
    assert play(one, two, Quotes.none(), trades=(2.05,), latency=slow_order) == [(at(2.05), 102)]
    assert play(one, two, Quotes.none(), trades=(2.2, 2.7), latency=slow_order) == []


def test_requests_of_one_kind_never_overtake_each_other() -> None:
    text = f"ts_ns,order_ns,ack_ns\n{at(0)},2000000000,0\n{at(1.1)},1000000,0\n"
    plan = (Quotes(((102, 1),), ()), Quotes(((102, 1), (103, 1)), ()))
    # sent at 0.1 with nearly 2 s on its way, the second at 1.1 with 1 ms: it arrives right after the first
    first = at(0.1) + round(2_000 * MS + (1 - 2_000) * MS * 0.1 / 1.1)
    fills = play(
        *plan, trades=((first - T0) / SECOND - 0.01, (first - T0) / SECOND + 0.01), latency=recorded(text)
    )
    assert [px for _, px in fills] == [103]


def recorded(text: str, **latency: float) -> LatencyConfig:
    path = Path(recorded.folder) / "latency.csv"  # type: ignore[attr-defined]
    path.write_text(text, encoding="utf-8")
    return LatencyConfig(file=str(path), **latency)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    recorded.folder = tmp_path  # type: ignore[attr-defined]


@given(
    st.lists(st.integers(1, 10**12), min_size=2, max_size=30, unique=True),
    st.integers(0, 2 * 10**12),
    st.data(),
)
def test_recorded_latencies_are_interpolated(times: list[int], ts: int, data: st.DataObject) -> None:
    times.sort()
    legs = data.draw(
        st.lists(
            st.lists(st.integers(0, 10**9), min_size=6, max_size=6), min_size=len(times), max_size=len(times)
        )
    )
    table = np.array([[t, *row] for t, row in zip(times, legs, strict=True)], np.int64)
    sim = sim_with(R.WIRE_RECORDED, len(table))
    for leg in range(R.N_LEGS):
        got = looked_up(sim, table.ravel(), leg, ts, 0)
        assert abs(got - np.interp(ts, times, table[:, 1 + leg])) <= 1


def test_drawn_latencies_are_log_normal_and_repeat_with_the_seed() -> None:
    table = WireTable(LatencyConfig(order=1_000_000, ack=500_000, sigma=0.4))
    a, b, c = table.fill(3, 0), table.fill(3, 0), table.fill(4, 0)
    assert a.tobytes() == b.tobytes() != c.tobytes()
    orders = np.log(a.reshape(-1, R.N_LEGS)[:, R.LEG_NEW])
    assert abs(orders.mean() - np.log(1_000_000)) < 0.03
    assert abs(orders.std() - 0.4) < 0.02
    sim = sim_with(table.mode, table.rows)
    assert looked_up(sim, a, R.LEG_ACK, 0, 4097) == a.reshape(-1, R.N_LEGS)[1, R.LEG_ACK]


def test_drawn_latencies_keep_the_run_deterministic() -> None:
    data = tiny_market(4, level="L3", seconds=40, events_per_second=40)
    sim = SimConfig(latency={"order": 30 * MS, "ack": 20 * MS, "feed": 10 * MS, "sigma": 0.8})

    class Touch(Strategy):
        def quote(self, obs: Observation) -> Quotes:
            held = obs.inventory
            return Quotes(((obs.bid_px, 1),) if held < 5 else (), ((obs.ask_px, 1),) if held > -5 else ())

    episode = data.splits["test"][0]
    one, two = (Session(data, sim).run(Touch(), episode) for _ in range(2))
    assert one.fills.tobytes() == two.fills.tobytes()
    other = Session(data, sim, seed=1).run(Touch(), episode)
    assert other.fills.tobytes() != one.fills.tobytes()
    assert len(one.fills) > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a column ts_ns, was an empty file"),
        ("ts_ns,order_ns\n1,2\n", "expected a column ack_ns"),
        ("ts_ns,order_ns,ack_ns,oder_ns\n", "was 'oder_ns' (did you mean 'order_ns'?)"),
        ("ts_ns,order_ns,ack_ns\n", "at least one row"),
        ("ts_ns,order_ns,ack_ns\n1,2,x\n", "expected a whole number of ns, was 'x'"),
        ("ts_ns,order_ns,ack_ns\n1,-2,3\n", "expected a whole number of ns, was '-2'"),
        ("ts_ns,order_ns,ack_ns\n5,2,3\n5,2,3\n", "a later time than 5"),
        ("ts_ns,order_ns,ack_ns\n5,2\n", "expected 3 fields"),
    ],
)
def test_a_bad_recording_is_a_clear_error(text: str, message: str) -> None:
    with pytest.raises(DataError) as err:
        WireTable(recorded(text))
    assert message in str(err.value)


def test_missing_recording_and_contradiction() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.csv"):
        WireTable(LatencyConfig(file="nowhere.csv"))
    with pytest.raises(ConfigError, match="expected one of them"):
        WireTable(recorded("ts_ns,order_ns,ack_ns\n1,2,3\n", sigma=0.5))


def test_optional_columns_of_a_recording() -> None:
    text = "ts_ns,order_ns,ack_ns,cancel_ns,feed_ns\n1,20,30,40,50\n"
    assert WireTable(recorded(text)).fill(0, 0).tolist() == [1, 50, 20, 40, 20, 20, 30]
    plain = WireTable(recorded("ts_ns,order_ns,ack_ns\n1,20,30\n", feed=9))
    assert plain.fill(0, 0).tolist() == [1, 9, 20, 20, 20, 20, 30]
