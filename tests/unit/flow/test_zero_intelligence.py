"""The simulated flow obeys its own exchange's rules, is repeatable, and has the traits it is made for."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest

from mmsim.data import manifest
from mmsim.errors import ConfigError, DataError
from mmsim.flow.markets import flow_of
from mmsim.flow.zero_intelligence import exponential_table, generate_events, seed_state
from mmsim.types import EventFlag, EventKind

MARKETS = ("sim-fu", "sim-rb", "sim-cu", "sim-ag")
S = 10**9


@pytest.fixture(scope="module")
def flow():
    return flow_of(manifest("sim-cu").generator)


@pytest.fixture(scope="module")
def events(flow):
    return generate_events(flow, seed=1, start_ts=0, end_ts=900 * S)[0]


def replayed(events):
    """Yield (ts, bids, asks) at the end of each message; price levels are dicts slot -> lots, oldest first."""
    books = {1: {}, -1: {}}
    where = {}
    for ts, px, qty, oid, kind, side, flags in events.tolist():
        if kind == EventKind.ADD:
            assert oid not in where, "a slot was given twice"
            where[oid] = (side, px)
            books[side].setdefault(px, OrderedDict())[oid] = qty
        else:
            assert where[oid] == (side, px)
            level = books[side][px]
            if kind == EventKind.EXECUTE:
                best = max(books[1]) if side > 0 else min(books[-1])
                assert px == best, "a trade passed over a better price"
                assert next(iter(level)) == oid, "a trade passed over an older order"
            if kind == EventKind.DELETE:
                assert qty == level[oid]
            level[oid] -= qty
            assert level[oid] >= 0
            if level[oid] == 0:
                assert kind != EventKind.REDUCE
                del level[oid], where[oid]
                if not level:
                    del books[side][px]
        if flags & EventFlag.LAST:
            yield ts, books[1], books[-1]


def test_every_message_leaves_a_valid_book(events):
    two_sided = 0
    for _, bids, asks in replayed(events):
        if bids and asks:
            assert max(bids) < min(asks)
            two_sided += 1
    messages = np.count_nonzero(events["flags"] & EventFlag.LAST)
    assert two_sided == messages - 1  # all but the very first order


def test_rows_are_well_formed(events):
    assert (np.diff(events["ts"]) >= 0).all()
    assert events["ts"][-1] < 900 * S
    assert (events["qty"] > 0).all()
    assert set(np.unique(events["kind"])) == {
        EventKind.ADD,
        EventKind.REDUCE,
        EventKind.DELETE,
        EventKind.EXECUTE,
    }
    assert events["flags"][-1] & EventFlag.LAST
    # a message is one moment: time moves only after its last row
    inside = events["flags"][:-1] & EventFlag.LAST == 0
    assert (np.diff(events["ts"])[inside] == 0).all()


def test_lots_are_conserved(events):
    kinds = {kind: int(events["qty"][events["kind"] == kind].sum()) for kind in EventKind}
    *_, (_, bids, asks) = replayed(events)
    resting = sum(sum(level.values()) for side in (bids, asks) for level in side.values())
    gone = kinds[EventKind.REDUCE] + kinds[EventKind.DELETE] + kinds[EventKind.EXECUTE]
    assert kinds[EventKind.ADD] == gone + resting


def test_the_seed_decides_everything(flow, events):
    again, n_slots, close_px = generate_events(flow, seed=1, start_ts=0, end_ts=900 * S)
    assert again.tobytes() == events.tobytes()
    assert n_slots == int(events["oid"].max()) + 1
    assert min(px for *_, asks in [list(replayed(again))[-1]] for px in asks) == close_px
    other, *_ = generate_events(flow, seed=2, start_ts=0, end_ts=900 * S)
    assert other.tobytes() != events.tobytes()


def test_a_shorter_run_is_the_beginning_of_a_longer_one(flow, events):
    short, *_ = generate_events(flow, seed=1, start_ts=0, end_ts=300 * S)
    assert short.tobytes() == events[: len(short)].tobytes()


def test_a_full_buffer_only_costs_a_second_pass(flow):
    fast = replace(
        flow,
        market_rate=10 * flow.market_rate,
        add_rates=[10 * r for r in flow.add_rates],
        cancel_rates=[10 * r for r in flow.cancel_rates],
    )
    events, *_ = generate_events(fast, seed=1, start_ts=0, end_ts=300 * S, max_orders=512)
    assert len(events) > 4 * 512 + 12 * 300  # more than was reserved at first
    assert events["ts"][-1] > 299 * S


def test_parameters_that_explode_are_refused(flow):
    with pytest.raises(DataError, match="at most 64 resting orders"):
        generate_events(flow, seed=1, start_ts=0, end_ts=60 * S, max_orders=64)
    with pytest.raises(DataError, match="at most 48 prices"):
        generate_events(replace(flow, drift=10**6), seed=1, start_ts=0, end_ts=3600 * S, window=48)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_weights": [1]}, "expected as many weights as sizes"),
        ({"market_sizes": []}, "expected as many weights"),
        ({"sizes": [0, 1, 2, 3, 4, 5]}, "expected sizes and weights >= 1"),
        ({"cancel_rates": [0]}, "cancel_rates >= 1"),
        ({"add_rates": [0, 5]}, "add_rates >= 0"),
        ({"cancel_rates": [10**6]}, "expected rates that add up to less than"),
    ],
)
def test_impossible_parameters_are_refused(flow, change, message):
    with pytest.raises(ConfigError, match=message):
        generate_events(replace(flow, **change), seed=1, start_ts=0, end_ts=S)


def test_the_table_of_gaps_is_the_exponential_law():
    table = exponential_table() / 65536
    assert abs(table.mean() - 1) < 1e-3
    assert abs(table.std() - 1) < 5e-3
    assert (np.diff(table) >= 0).all()
    assert table[0] > 0


def test_seeds_are_spread_and_never_zero():
    states = {seed_state(s) for s in range(1000)}
    assert len(states) == 1000
    assert 0 not in states


@pytest.mark.parametrize("name", MARKETS)
def test_quoting_in_it_is_neither_free_nor_hopeless(name):
    flow = flow_of(manifest(name).generator)
    events, *_ = generate_events(flow, seed=7, start_ts=0, end_ts=5400 * S)
    grid = np.arange(600, 5400, 0.5) * S
    rows = np.array(
        [
            (ts, max(bids), sum(bids[max(bids)].values()), min(asks), sum(asks[min(asks)].values()))
            for ts, bids, asks in replayed(events)
            if bids and asks
        ]
    )
    seen = rows[np.searchsorted(rows[:, 0], grid, side="right") - 1]
    bid, bid_qty, ask, ask_qty = seen[:, 1:].T
    spread, mid = ask - bid, (bid + ask) / 2
    assert (spread == 1).mean() > 0.6
    assert (spread <= 2).mean() > 0.95
    assert 3 < len(events) / 5400 < 12  # rows per second
    moves = np.count_nonzero(np.diff(mid)) / 80  # a minute
    assert 3 < moves < 40
    by_minute = np.diff(mid[::120]).std()
    assert 0.8 < by_minute < 6
    assert np.ptp(mid) < 200  # no explosion
    imbalance = (bid_qty - ask_qty) / (bid_qty + ask_qty)
    assert np.corrcoef(imbalance[:-10], mid[10:] - mid[:-10])[0, 1] > 0.12
    ten_seconds = np.diff(mid[::20])
    assert ((ten_seconds - ten_seconds.mean()) ** 4).mean() / ten_seconds.var() ** 2 > 3.3  # fat tails
    # the mid runs after the aggressor: a maker at the touch keeps less than the half spread it earns
    trades = events[
        (events["kind"] == EventKind.EXECUTE) & (events["ts"] > 600 * S) & (events["ts"] < 5390 * S)
    ]
    at = ((trades["ts"] - 600 * S) // (S // 2)).astype(int)
    move = -trades["side"] * (mid[at + 10] - mid[at])
    markout = np.average(move, weights=trades["qty"])
    assert 0.15 < markout < 0.8
