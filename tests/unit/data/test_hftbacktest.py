"""hftbacktest npz: what its own tools write, what we write, and what is wrong with a file."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.export import export
from mmsim.data.formats import _hftbacktest_rows as hft_rows
from mmsim.data.formats import hftbacktest as hbt
from mmsim.errors import ConfigError, DataError
from mmsim.testing.markets import market_from, tiny_market
from mmsim.types import EventFlag, EventKind, Instrument, MarketData

BTC = Instrument("BTC", Decimal("0.1"), lot_size=Decimal("0.001"), timezone="UTC")
T0 = 1_700_000_000_000_000_000
BOTH = hft_rows.EXCH | hft_rows.LOCAL
Tell = Callable[[np.ndarray], list[Any]]


def rows(*given_rows: tuple[Any, ...]) -> np.ndarray:
    """Return rows from ``(ev, exch_ts, local_ts, px, qty, order_id)``, times after T0."""
    out = np.zeros(len(given_rows), hft_rows.ROW)
    for i, (ev, exch, local, px, qty, *order) in enumerate(given_rows):
        out[i] = (ev, T0 + exch, T0 + local, px, qty, order[0] if order else 0, 0, 0.0)
    return out


def write(path: Path, data: np.ndarray, **more: Any) -> Path:
    np.savez(path, data=data, **more)
    return path


def convert(*paths: Path, instrument: Instrument = BTC, **options: object) -> Conversion:
    return hbt.FORMAT.convert(list(paths), instrument, options, no_progress).finish()


def plain(done: Conversion) -> list[tuple[Any, ...]]:
    return [
        (
            *(int(e["ts"]) - T0, EventKind(int(e["kind"])).name, int(e["side"]), int(e["px"]), int(e["qty"])),
            EventFlag(int(e["flags"])) & EventFlag.LAST > 0,
        )
        for e in done.events
    ]


LEVELS = rows(
    (hft_rows.SNAPSHOT | hft_rows.BID | BOTH, 0, 5, 100.0, 1.0),
    (hft_rows.SNAPSHOT | hft_rows.BID | BOTH, 0, 5, 99.9, 2.0),
    (hft_rows.SNAPSHOT | hft_rows.ASK | BOTH, 0, 5, 100.1, 0.3),
    (hft_rows.TRADE | hft_rows.BID | BOTH, 10, 15, 100.1, 0.1),
    (hft_rows.DEPTH | hft_rows.ASK | BOTH, 11, 16, 100.1, 0.2),
    (hft_rows.CLEAR | hft_rows.BID | BOTH, 20, 25, 100.0, 0.0),
    (hft_rows.SNAPSHOT | hft_rows.BID | BOTH, 20, 25, 99.8, 4.0),
    (hft_rows.CLEAR | BOTH, 30, 35, float("nan"), 0.0),
    (hft_rows.SNAPSHOT | hft_rows.ASK | BOTH, 30, 35, 100.2, 0.4),
)


def test_levels_trades_and_clears(tmp_path: Path) -> None:
    done = convert(write(tmp_path / "a.npz", LEVELS))
    assert done.level == "L2"
    assert plain(done) == [
        (0, "LEVEL", 1, 1000, 1000, False),
        (0, "LEVEL", 1, 999, 2000, False),
        (0, "LEVEL", -1, 1001, 300, True),
        (10, "TRADE", 1, 1001, 100, True),
        (11, "LEVEL", -1, 1001, 200, True),
        (20, "LEVEL", 1, 1000, 0, False),  # bids at and above 100.0 are gone, 99.9 stays
        (20, "LEVEL", 1, 998, 4000, True),
        (30, "CLEAR", 0, 0, 0, False),
        (30, "LEVEL", -1, 1002, 400, True),
    ]
    assert done.recv_ts is not None
    assert (done.recv_ts - done.events["ts"] == 5).all()
    assert hbt.level_of([tmp_path / "a.npz"]) == "L2"
    # the plain array is read as well
    np.save(tmp_path / "a.npy", LEVELS)
    assert convert(tmp_path / "a.npy").events.tobytes() == done.events.tobytes()


ORDERS = rows(
    (hft_rows.CLEAR | BOTH, 0, 1, 0.0, 0.0),
    (hft_rows.ADD | hft_rows.BID | BOTH, 0, 1, 100.0, 0.005, 7),
    (hft_rows.ADD | hft_rows.ASK | BOTH, 1, 2, 100.1, 0.004, 8),
    (hft_rows.ADD | hft_rows.ASK | BOTH, 2, 3, 100.1, 0.003, 9),
    (
        hft_rows.TRADE | hft_rows.BID | BOTH,
        3,
        4,
        100.1,
        0.006,
    ),  # takes 8, a part of 9, and one that nobody saw
    (hft_rows.FILL | hft_rows.ASK | BOTH, 3, 4, 100.1, 0.004, 8),
    (hft_rows.FILL | hft_rows.ASK | BOTH, 3, 4, 100.1, 0.001, 9),
    (hft_rows.CANCEL | hft_rows.ASK | BOTH, 3, 4, 100.1, 0.004, 8),
    (hft_rows.MODIFY | hft_rows.ASK | BOTH, 3, 4, 100.1, 0.002, 9),
    (hft_rows.MODIFY | hft_rows.BID | BOTH, 4, 5, 99.9, 0.005, 7),
    (hft_rows.CANCEL | hft_rows.BID | BOTH, 5, 6, 99.9, 0.0, 7),
)


def recount(path: Path, lot: float) -> tuple[int, int]:
    """Count trade rows with the exchange flag, and their lots, from the raw file."""
    data = np.load(path)["data"]
    trade = ((data["ev"] & 0xFF) == 2) & ((data["ev"] >> 31 & 1) == 1)
    return int(trade.sum()), round(float(data["qty"][trade].sum()) / lot)


def test_a_trade_its_fills_and_what_they_change_are_executions(tmp_path: Path, balance: Any) -> None:
    path = write(tmp_path / "a.npz", ORDERS)
    done = convert(path)
    assert balance(done) == ((1, 6), (1, 6), {})
    assert recount(path, 0.001) == (1, 6)
    assert {k: n for k, n in done.messages.items() if n} == {
        "clear": 1, "add order": 3, "trade": 1, "fill": 2, "cancel order": 2, "modify order": 2,
    }  # fmt: skip
    assert done.level == "L3"
    assert plain(done) == [
        (0, "CLEAR", 0, 0, 0, False),
        (0, "ADD", 1, 1000, 5, True),
        (1, "ADD", -1, 1001, 4, True),
        (2, "ADD", -1, 1001, 3, True),
        (3, "EXECUTE", -1, 1001, 4, False),
        (3, "EXECUTE", -1, 1001, 1, False),
        (3, "TRADE", 1, 1001, 1, True),  # behind what is displayed, as hidden lots are
        (4, "DELETE", 1, 1000, 5, False),
        (4, "ADD", 1, 999, 5, True),
        (5, "DELETE", 1, 999, 5, True),
    ]
    assert done.counts["prints_beyond_executions"] == 1
    assert done.n_slots == 3


def test_halves_of_one_event(tmp_path: Path) -> None:
    # two events whose clocks disagree on the order, as correct_event_order splits them
    base = LEVELS[:3]
    ex, lo = hft_rows.EXCH, hft_rows.LOCAL
    ask = hft_rows.DEPTH | hft_rows.ASK
    split = rows(
        (ask | ex, 10, 40, 100.2, 0.1),
        (ask | ex, 11, 20, 100.3, 0.2),
        (ask | lo, 11, 20, 100.3, 0.2),
        (ask | lo, 10, 40, 100.2, 0.1),
        (ask | ex, 50, 60, 100.4, 0.5),  # never reaches the local side
        (ask | lo, 51, 61, 100.5, 0.5),  # only the local side has it
        (ask, 52, 62, 100.6, 0.5),  # nobody's
        (hft_rows.BBO | hft_rows.BID | BOTH, 53, 63, 100.0, 1.0),
    )
    done = convert(write(tmp_path / "a.npz", np.concatenate([base, split])))
    assert [(t, px) for t, _, _, px, _, _ in plain(done)][3:] == [(10, 1002), (11, 1003), (50, 1004)]
    assert done.recv_ts is not None
    assert (done.recv_ts - T0)[3:].tolist() == [40, 20, 60]
    counts = done.counts
    assert (counts["rows_local_half"], counts["rows_without_local_half"]) == (2, 1)
    assert (counts["dropped_local_only"], counts["dropped_no_flags"]) == (1, 1)
    assert counts["dropped_best_quotes"] == 1
    assert "1 rows of" in done.notes[0]


def test_files_follow_one_another_and_a_snapshot_starts_a_segment(tmp_path: Path) -> None:
    later = LEVELS.copy()
    for name in ("exch_ts", "local_ts"):
        later[name] += 86_400 * 10**9
    first, second = write(tmp_path / "b.npz", LEVELS), write(tmp_path / "a.npz", later)
    two = convert(second, first)
    assert [(s.label, s.stop - s.start) for s in two.segments] == [("2023-11-14", 9), ("2023-11-15", 9)]
    more = write(tmp_path / "c.npz", later[3:5])
    one = convert(first, more)
    assert [(s.label, s.stop - s.start) for s in one.segments] == [("2023-11-14", 11)]


def test_a_slow_local_clock_is_moved_and_a_backward_time_held_on_demand(tmp_path: Path) -> None:
    late = LEVELS.copy()
    late["local_ts"] -= 1_000_000
    done = convert(write(tmp_path / "a.npz", late))
    assert done.recv_ts is not None
    assert int((done.recv_ts - done.events["ts"]).min()) == 0
    assert done.counts["recv_shift_max_us"] == 999
    back = LEVELS.copy()
    back["exch_ts"][4] = T0 + 4
    path = write(tmp_path / "b.npz", back)
    with pytest.raises(DataError, match=r"row 5, field 'exch_ts': expected exchange time not before .*=hold"):
        convert(path)
    held = convert(path, backwards="hold")
    assert held.counts["times_held"] == 1
    assert plain(held)[4][:2] == (10, "LEVEL")
    with pytest.raises(ConfigError, match="option backwards: expected one of refuse, hold"):
        convert(path, backwards="sort")


def broken(change: dict[tuple[int, str], Any], base: np.ndarray = LEVELS) -> np.ndarray:
    out = base.copy()
    for (row, name), value in change.items():
        out[name][row] = value
    return out


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (broken({(3, "px"): 100.13}), r"row 4, field 'px': expected a multiple of 0.1, was 100.13"),
        (broken({(0, "qty"): 0.0015}), r"row 1, field 'qty': expected a multiple of 0.001"),
        (broken({(0, "px"): float("nan")}), r"row 1, field 'px': expected a multiple"),
        (broken({(4, "qty"): -1.0}), r"row 5, field 'qty': expected a quantity >= 0, was -1.0"),
        (broken({(3, "qty"): 0.0}), r"row 4, field 'qty': expected a quantity > 0"),
        (broken({(2, "ev"): 99 | BOTH}), r"row 3, field 'ev': expected an event of 1, 2.*was 99"),
        (broken({(2, "ev"): hft_rows.DEPTH | BOTH}), r"row 3, field 'ev': expected the flag buy"),
        (LEVELS[:0], "expected events, was an empty array"),
        (np.zeros(3, [("a", "f8")]), "expected rows of ev, exch_ts"),
        (LEVELS[3:4], "trades only: there is no book"),
        (broken({(8, "order_id"): 99}, ORDERS), r"row 9, field 'order_id': expected the id of a live order"),
        (broken({(3, "order_id"): 8}, ORDERS), r"row 4, field 'order_id': expected a new order id"),
        (np.concatenate([ORDERS, LEVELS[4:5]]), r"row 12, field 'ev': expected orders or levels, was both"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: np.ndarray, said: str) -> None:
    path = write(tmp_path / "a.npz", data)
    with pytest.raises(DataError, match=said):
        convert(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    content = io.BytesIO()
    np.savez(content, data=LEVELS)
    path.write_bytes(content.getvalue()[:-40])
    with pytest.raises(DataError, match=r"a\.npz: expected a complete file"):
        convert(path)
    path.write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"expected a complete file"):
        convert(path)
    np.savez(path, events=LEVELS)
    with pytest.raises(DataError, match="expected an array 'data', was events"):
        convert(path)
    plain_rows = LEVELS.copy()
    plain_rows["ev"] &= ~np.uint64(BOTH)
    with pytest.raises(DataError, match="expected rows with the exchange flag"):
        convert(write(path, plain_rows))
    with pytest.raises(ConfigError, match="unknown option 'depht'"):
        convert(path, depht=1)


def foreign(data: MarketData, seed: int) -> np.ndarray:
    """Write a market as another tool would: no members of ours, ids of its own, receive times that jitter."""
    rng = np.random.default_rng(seed)
    tick, side = float(data.instrument.tick_size), {1: hft_rows.BID, -1: hft_rows.ASK}
    out: list[tuple[Any, ...]] = []
    live: dict[int, list[int]] = {}
    recv = 0
    for number, e in enumerate(data.events):
        kind, s, px, qty, oid = (int(e[n]) for n in ("kind", "side", "px", "qty", "oid"))
        ts = int(e["ts"])
        if number == 0 or ts != int(data.events["ts"][number - 1]):
            recv = max(recv, ts + int(rng.integers(1, 10**6)))

        def put(ev: int, qty: int, order: int = 0, px: int = px, ts: int = ts, recv: int = recv) -> None:
            out.append((ev | BOTH, ts, recv, px * tick, float(qty), order, 0, 0.0))

        if kind == EventKind.ADD:
            live[oid] = [1000 + number, qty]
            put(hft_rows.ADD | side[s], qty, live[oid][0])
        elif kind == EventKind.TRADE:
            put(hft_rows.TRADE | side[s], qty)
        elif kind == EventKind.LEVEL:
            put(hft_rows.DEPTH | side[s], qty)
        else:
            if kind == EventKind.EXECUTE:
                put(hft_rows.TRADE | side[-s], qty)
                put(hft_rows.FILL | side[s], qty, live[oid][0])
            live[oid][1] -= qty
            if live[oid][1] == 0:
                put(hft_rows.CANCEL | side[s], qty, live.pop(oid)[0])
            else:
                put(hft_rows.MODIFY | side[s], live[oid][1], live[oid][0])
    return np.array(out, hft_rows.ROW)


def one_segment(data: MarketData) -> MarketData:
    seg = data.segments[0]
    return replace(data, events=data.events[seg.start : seg.stop], segments=(seg,))


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), level=st.sampled_from(["L3", "L2"]), spread=st.integers(1, 4))
def test_a_market_written_by_another_tool_gives_the_same_book(
    story: Tell, balance: Any, tmp_path_factory: pytest.TempPathFactory, seed: int, level: Any, spread: int
) -> None:
    market = one_segment(tiny_market(seed, level=level, seconds=4, spread_ticks=spread))
    path = write(tmp_path_factory.mktemp("hbt") / "a.npz", foreign(market, seed))
    done = convert(path, instrument=market.instrument)
    printed = recount(path, 1.0)
    assert balance(done) == (printed, printed, {})
    # messages of one time are one: compare what is known at the end of each time
    assert merged(story(done.events)) == merged(story(market.events))
    assert done.checks["crossed_books"] == 0


def merged(told: list[Any]) -> list[Any]:
    out: dict[int, Any] = {}
    for ts, book, trades in told:
        out[ts] = (book, tuple(sorted((*out[ts][1], *trades) if ts in out else trades)))
    return list(out.items())


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    level=st.sampled_from(["L3", "L2", "snapshot"]),
    clocks=st.sampled_from(["none", "jitter", "reordered"]),
)
def test_export_and_import_give_the_same_events(
    balance: Any, tmp_path_factory: pytest.TempPathFactory, seed: int, level: Any, clocks: str
) -> None:
    market = tiny_market(seed, level=level, seconds=4)
    if clocks != "none":
        recv = market.events["ts"] + np.random.default_rng(seed).integers(0, 10**8, len(market.events))
        market = replace(market, recv_ts=recv if clocks == "reordered" else np.maximum.accumulate(recv))
    path = tmp_path_factory.mktemp("out") / "a.npz"
    written = export(market, path)
    data = np.load(path)["data"]
    assert len(data) == written
    # what hftbacktest demands: each clock in order
    for flag, name in ((hft_rows.EXCH, "exch_ts"), (hft_rows.LOCAL, "local_ts")):
        assert (np.diff(data[name][data["ev"] & flag > 0]) >= 0).all()
    done = convert(path, instrument=market.instrument)
    assert done.events.tobytes() == market.events.tobytes()
    printed = recount(path, float(market.instrument.lot_size))
    assert balance(done) == (printed, printed, {})
    assert done.segments == market.segments
    assert (done.level, done.view_depth, done.n_slots) == (market.level, market.view_depth, market.n_slots)
    if market.recv_ts is None:
        assert done.recv_ts is None
    else:
        assert (done.recv_ts == market.recv_ts).all()


def test_an_auction_trade_of_two_orders_is_one_trade_again(tmp_path: Path, balance: Any) -> None:
    auction = int(EventFlag.AUCTION)
    market = market_from(
        [
            (T0, 101, 5, 0, EventKind.ADD, 1, auction | EventFlag.LAST),
            (T0, 99, 6, 1, EventKind.ADD, -1, auction | EventFlag.LAST),
            (T0 + 1, 101, 5, 0, EventKind.EXECUTE, 1, auction),
            (T0 + 1, 99, 5, 1, EventKind.EXECUTE, -1, auction | EventFlag.LAST),
            (T0 + 2, 99, 1, 1, EventKind.EXECUTE, -1, EventFlag.LAST),
        ]
    )
    export(market, tmp_path / "a.npz")
    done = convert(tmp_path / "a.npz", instrument=market.instrument)
    assert done.events.tobytes() == market.events.tobytes()
    assert recount(tmp_path / "a.npz", 1.0) == (3, 11)
    assert balance(done) == ((3, 11), (2, 6), {"second order of an auction's trade": (1, 5)})


def test_hidden_orders_and_auctions_survive(tmp_path: Path) -> None:
    market = market_from(
        [
            (T0, 100, 5, 0, EventKind.ADD, 1, EventFlag.SEED),
            (T0, 100, 6, 1, EventKind.ADD, 1, EventFlag.LAST),
            (T0 + 1, 105, 2, 0, EventKind.TRADE, 0, EventFlag.AUCTION | EventFlag.LAST),
            (T0 + 2, 100, 0, 0, EventKind.HIDE, 1, 0),
            (T0 + 2, 90, 0, 0, EventKind.HIDE, -1, EventFlag.LAST),
            (T0 + 3, 0, 0, 0, EventKind.CLEAR, 0, EventFlag.LAST),
            (T0 + 4, 100, 6, 0, EventKind.ADD, -1, EventFlag.LAST),
        ]
    )
    export(market, tmp_path / "a.npz")
    data = np.load(tmp_path / "a.npz")["data"]
    # for hftbacktest: both orders of the level are cancelled, hiding nothing is no row
    assert (data["ev"] & 0xFF).tolist() == [10, 10, 2, 11, 11, 0, 3, 10]
    assert (data["ev"][5] & BOTH) == 0
    assert data["order_id"].tolist() == [1, 2, 0, 1, 2, 0, 0, 3]
    done = convert(tmp_path / "a.npz", instrument=market.instrument)
    assert done.events.tobytes() == market.events.tobytes()


def test_export_refuses(tmp_path: Path) -> None:
    market = tiny_market(seconds=3)
    with pytest.raises(ConfigError, match=r"unknown format 'hftbacktst'.*hftbacktest"):
        export(market, tmp_path / "a.npz", "hftbacktst")
    with pytest.raises(ConfigError, match=r"ends in \.npz, was 'a\.csv'"):
        export(market, tmp_path / "a.csv")
    with pytest.raises(ConfigError, match=r"--out .*No such file"):
        export(market, tmp_path / "none" / "a.npz")
    with pytest.raises(DataError, match="expected segments in order of time"):
        export(replace(market, segments=market.segments[::-1]), tmp_path / "a.npz")
    bad = market.events.copy()
    bad["qty"][bad["kind"] == EventKind.DELETE] += 1
    with pytest.raises(DataError, match="expected an event that the book allows"):
        export(replace(market, events=bad), tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


_RUN = """
import json, sys
from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest
from numba import njit
@njit
def run(h, out):
    k = 0
    while h.elapse(500_000_000) == 0:
        d = h.depth(0)
        out[k, 0], out[k, 1] = d.best_bid_tick, d.best_ask_tick
        out[k, 2], out[k, 3] = d.best_bid_qty, d.best_ask_qty
        k += 1
    return k
import numpy as np
asset = BacktestAsset().linear_asset(1.0).constant_order_latency(1, 1).tick_size(0.01).lot_size(1.0)
asset = asset.trading_value_fee_model(0.0, 0.0).data([sys.argv[1]])
asset = asset.l3_fifo_queue_model() if sys.argv[2] == "L3" else asset.risk_adverse_queue_model()
h = HashMapMarketDepthBacktest([asset.no_partial_fill_exchange()])
out = np.zeros((10_000, 4))
k = run(h, out)
print(json.dumps(out[:k].astype(int).tolist()))
"""


@pytest.mark.parametrize("level", ["L3", "L2"])
def test_hftbacktest_itself_reads_what_we_write(story: Tell, tmp_path: Path, level: Any) -> None:
    pytest.importorskip("hftbacktest")
    market = one_segment(tiny_market(5, level=level, seconds=20))
    export(market, tmp_path / "a.npz")
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path / "a.npz"), level],
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert len(seen) > 30
    told = story(market.events)
    times = np.array([t for t, _, _ in told])
    start = int(times[0])
    for k, (bid, ask, bid_qty, ask_qty) in enumerate(seen):
        at = int(np.searchsorted(times, start + (k + 1) * 500_000_000, side="right")) - 1
        book = {key: int(np.sum(q)) for key, q in told[at][1].items()}
        best_bid, best_ask = max(p for s, p in book if s > 0), min(p for s, p in book if s < 0)
        assert (bid, ask) == (best_bid, best_ask)
        assert (bid_qty, ask_qty) == (book[1, best_bid], book[-1, best_ask])
