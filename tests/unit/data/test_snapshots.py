"""Snapshots -> events, against a naive reading of the rules."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmsim.data.conversion import no_progress
from mmsim.data.origin import Origin
from mmsim.data.snapshot_encode import encode
from mmsim.data.snapshots import Snapshots, classify_rows, convert_days, implied_trades
from mmsim.data.times import snapshot_times
from mmsim.errors import DataError
from mmsim.sessions import midnight_ns
from mmsim.types import EventFlag, EventKind, Instrument

NS = 10**9
SHFE = (("21:00", "02:30"), ("09:00", "10:15"), ("10:30", "11:30"), ("13:30", "15:00"))
AG = Instrument("ag", Decimal(1), multiplier=Decimal(15), sessions=SHFE)
MIDNIGHT = midnight_ns("20240110", "Asia/Shanghai")  # a Wednesday


def snapshots(
    clock: list[float], bids: list, asks: list, volume: list[int], turnover: list[int], day_ns: int = MIDNIGHT
) -> Snapshots:
    """Build snapshots; `clock` in hours after midnight, bids and asks as lists of (px, qty) lists."""
    depth = max(1, *(len(b) for b in bids), *(len(a) for a in asks))
    n = len(clock)
    arrays = []
    for side in (bids, asks):
        px, qty = np.zeros((n, depth), np.int64), np.zeros((n, depth), np.int64)
        for i, levels in enumerate(side):
            for j, (p, q) in enumerate(levels):
                px[i, j], qty[i, j] = p, q
        arrays += [px, qty]
    ts = np.array([day_ns + round(h * 3600 * NS) for h in clock], np.int64)
    ones = np.ones(n, np.int64)
    return Snapshots(
        "2024-01-10", "f.csv", np.arange(2, n + 2), ts, *arrays, ones, np.array(volume), np.array(turnover)
    )


def replay(events: np.ndarray) -> list[tuple[dict, dict, set]]:
    """Return (bids, asks, hidden (side, px)) after every LAST row, by plain dictionaries."""
    out, books, hidden = [], {1: {}, -1: {}}, set()
    for row in events:
        side, px, qty = int(row["side"]), int(row["px"]), int(row["qty"])
        if row["kind"] == EventKind.LEVEL:
            hidden.discard((side, px))
            books[side].pop(px, None)
            if qty:
                books[side][px] = qty
        elif row["kind"] == EventKind.HIDE:
            assert books[side].pop(px)
            hidden.add((side, px))
        if row["flags"] & EventFlag.LAST:
            out.append((dict(books[1]), dict(books[-1]), set(hidden)))
    return out


@st.composite
def books(draw: st.DrawFn) -> tuple[int, list, list]:
    depth = draw(st.integers(1, 3))
    n = draw(st.integers(1, 12))
    bids, asks = [], []
    for _ in range(n):
        mid = draw(st.integers(8, 16))
        qty = st.integers(1, 4)
        below = draw(st.lists(st.integers(0, mid - 1), max_size=depth, unique=True))
        above = draw(st.lists(st.integers(mid, 24), max_size=depth, unique=True))
        bids.append([(p, draw(qty)) for p in sorted(below, reverse=True)])
        asks.append([(p, draw(qty)) for p in sorted(above)])
    return depth, bids, asks


@given(books())
@settings(max_examples=150, deadline=None)
@example((1, [[(100, 1)], [(101, 1)], [(99, 1)]], [[(102, 1)]] * 3))
@example((2, [[], [(5, 1)], []], [[], [], []]))
def test_replay_gives_back_every_snapshot_and_hides_only_what_is_beyond(case: tuple[int, list, list]) -> None:
    depth, bids, asks = case
    n = len(bids)
    arrays = []
    for side in (bids, asks):
        px, qty = np.zeros((n, depth), np.int64), np.zeros((n, depth), np.int64)
        for i, levels in enumerate(side):
            for j, (p, q) in enumerate(levels):
                px[i, j], qty[i, j] = p, q
        arrays.append((px, qty))
    events = encode(np.arange(n), arrays[0], arrays[1], np.zeros((n, 6), np.int64), depth, "")
    if not any(bids) and not any(asks):
        assert len(events) == 0
        return
    states = replay(events)
    assert len(states) == n
    seen: set[tuple[int, int]] = set()
    for i, (bid, ask, hidden) in enumerate(states):
        assert bid == dict(bids[i])
        assert ask == dict(asks[i])
        # the naive rule: a price seen before is hidden exactly if it lies beyond a full side's last level
        for side, levels in ((1, bids[i]), (-1, asks[i])):
            seen |= {(side, p) for p, _ in levels}
            full = len(levels) == depth
            last = levels[-1][0] if levels else 0
            beyond = {(s, p) for s, p in seen if s == side and full and (last - p) * side > 0}
            assert {h for h in hidden if h[0] == side} == beyond
            seen -= {(s, p) for s, p in seen if s == side and (s, p) not in beyond and p not in dict(levels)}
    # only changes are written, and at least one row per snapshot
    kinds = events["kind"]
    assert set(kinds.tolist()) <= {EventKind.LEVEL, EventKind.HIDE}


@given(
    st.lists(
        st.tuples(st.integers(90, 110), st.integers(1, 5), st.integers(0, 60), st.integers(-9, 9)),
        min_size=2,
        max_size=20,
    )
)
def test_implied_trades_conserve_lots_and_value(rows: list[tuple[int, int, int, int]]) -> None:
    bids = [[(b, 3)] for b, _, _, _ in rows]
    asks = [[(b + s, 3)] for b, s, _, _ in rows]
    lots = np.array([0] + [n for _, _, n, _ in rows[1:]])
    # a value anywhere around the previous quotes
    value = np.array([0] + [lots[i] * rows[i - 1][0] + rows[i][3] for i in range(1, len(rows))])
    q = snapshots([10.0] * len(rows), bids, asks, lots.cumsum().tolist(), value.cumsum().tolist())
    out = implied_trades(q, lots, value)
    assert (out[:, 1] + out[:, 4] == lots).all()
    assert (out[:, [1, 4]] >= 0).all()
    for i in range(1, len(rows)):
        bid, ask = rows[i - 1][0], rows[i - 1][0] + rows[i - 1][1]
        if lots[i] == 0:
            continue
        if lots[i] * bid < value[i] < lots[i] * ask:
            assert out[i].tolist()[0::3] == [ask, bid]
            traded = out[i, 0] * out[i, 1] + out[i, 3] * out[i, 4]
            assert abs(traded - value[i]) <= (ask - bid) / 2  # rounded to whole lots, no more
        elif value[i] >= lots[i] * ask:
            assert (out[i, 2], out[i, 1]) == (1, lots[i])
            assert out[i, 0] == np.rint(value[i] / lots[i]) >= ask
        else:
            assert (out[i, 2], out[i, 1]) == (-1, lots[i])
            assert out[i, 0] == np.rint(value[i] / lots[i]) <= bid


def test_two_price_example() -> None:
    # 10 lots for 1004 tick-lots between 100 and 101: 4 bought, 6 sold
    q = snapshots([10.0, 10.1], [[(100, 5)]] * 2, [[(101, 5)]] * 2, [0, 10], [0, 1004])
    assert implied_trades(q, np.array([0, 10]), np.array([0, 1004]))[1].tolist() == [101, 4, 1, 100, 6, -1]


def test_one_sided_book_leaves_the_side_open() -> None:
    q = snapshots([10.0, 10.1, 10.2], [[(100, 5)]] * 3, [[]] * 3, [0, 2, 4], [0, 202, 402])
    out = implied_trades(q, np.array([0, 2, 2]), np.array([0, 202, 200]))
    assert out[1].tolist()[:3] == [101, 2, 0]
    assert out[2].tolist()[:3] == [100, 2, -1]


def test_a_day_with_its_night_session() -> None:
    night = midnight_ns("20240109", "Asia/Shanghai")
    bids, asks = [[(100, 5)]], [[(101, 5)]]
    clock = [20.99, 21.0, 25.0, 26.5, 33.0, 34.26, 34.4, 39.0, 39.0001, 39.5]
    volume = [7, 10, 12, 15, 20, 20, 22, 30, 31, 31]
    day = snapshots(clock, bids * 10, asks * 10, volume, [v * 100 for v in volume], night)
    # auction; night open; small hours; night close; day open; break; break; close; just after; repeat
    assert classify_rows(day, AG).tolist() == [1, 0, 0, 0, 0, 2, 2, 0, 0, 3]
    done = convert_days([day], AG, 1, no_progress).finish()
    counts = done.counts
    assert counts["rows_read"] == 10
    assert (counts["dropped_auction"], counts["dropped_outside_session"]) == (1, 2)
    assert counts["dropped_after_close_repeat"] == 1
    assert counts["lots_traded"] == 31
    assert counts["lots_before_first_row"] == 7
    # everything after the first used row, volume of the dropped break row included
    assert counts["lots_implied"] == 21
    assert counts["lots_not_replayed"] == 10
    trades = done.events[done.events["kind"] == EventKind.TRADE]
    assert int(trades["qty"].sum()) == 21
    assert (trades["flags"] == EventFlag.IMPLIED).all()


def test_volume_may_start_again_only_after_a_break() -> None:
    bids, asks = [[(100, 5)]] * 3, [[(101, 5)]] * 3
    reset = snapshots([10.0, 13.6, 13.7], bids, asks, [50, 4, 9], [5000, 400, 900])
    done = convert_days([reset], AG, 1, no_progress)
    assert done.counts["volume_resets"] == 1
    assert done.counts["lots_implied"] == 9
    broken = snapshots([10.0, 10.001, 13.7], bids, asks, [50, 4, 9], [5000, 400, 900])
    with pytest.raises(DataError, match=r"f\.csv, row 3, field 'total_volume': expected cumulative volume"):
        convert_days([broken], AG, 1, no_progress)


@pytest.mark.parametrize(
    ("bids", "asks", "clock", "said"),
    [
        ([[(100, 5)]] * 2, [[(101, 5)]] * 2, [10.1, 10.0], "row 3, field 'time'.*non-decreasing"),
        ([[(100, 5), (100, 1)]] * 2, [[(101, 5)]] * 2, [10.0, 10.1], "row 2, field 'bid_price_1'.*level 2"),
        ([[(100, 0), (99, 1)]] * 2, [[(101, 5)]] * 2, [10.0, 10.1], "row 2, field 'bid_price_1'.*level 2"),
    ],
)
def test_broken_snapshots_name_row_and_field(bids: list, asks: list, clock: list, said: str) -> None:
    with pytest.raises(DataError, match=said):
        convert_days([snapshots(clock, bids, asks, [0, 0], [0, 0])], AG, 2, no_progress)


def test_locked_and_crossed_snapshots_are_counted_and_kept() -> None:
    bids = [[(100, 5)], [(101, 4)], [(103, 6)], [(100, 5)]]
    day = snapshots([10.0, 10.1, 10.2, 10.21], bids, [[(101, 5)]] * 4, [0, 2, 4, 6], [0, 202, 404, 606])
    done = convert_days([day], AG, 1, no_progress).finish()
    assert done.checks == {"crossed_books": 1, "locked_books": 1}
    assert [list(b) for b, _, _ in replay(done.events)] == [[100], [101], [103], [100]]
    trades = done.events[done.events["kind"] == EventKind.TRADE]
    # at the ask of a normal book: bought; at both quotes of a locked one: not known; at the ask of a crossed
    # one, below its bid: not known either, since it is beyond both
    assert list(zip(trades["px"].tolist(), trades["side"].tolist(), strict=True)) == [
        (101, 1),
        (101, 0),
        (101, 0),
    ]


def test_volume_that_is_not_told_is_explained() -> None:
    bids, asks = [[(100, 5)]], [[(101, 5)]]
    # in the break at 10:20 twice; after the close twice
    clock = [10.0, 10.1, 10.3, 10.4, 10.6, 15.5, 15.6]
    volume = [3, 5, 8, 9, 11, 12, 15]
    done = convert_days(
        [snapshots(clock, bids * 7, asks * 7, volume, [v * 100 for v in volume])], AG, 1, no_progress
    ).finish()
    assert done.tape is not None
    assert done.tape.reasons == {
        "before the first row": (1, 3),
        "after the last row used": (2, 4),
        "in one with those of the next row used": (2, 0),
    }
    assert (done.tape.raw_trades, done.tape.raw_lots, done.tape.imported_trades) == (7, 15, 2)
    closed = snapshots([16.0, 16.1], bids * 2, asks * 2, [3, 5], [300, 500])
    both = convert_days(
        [snapshots(clock, bids * 7, asks * 7, volume, [v * 100 for v in volume]), closed], AG, 1, no_progress
    ).finish()
    assert both.tape is not None
    assert both.tape.reasons["outside the sessions"] == (1, 2)


def test_two_rows_of_one_time_keep_their_order() -> None:
    day = snapshots(
        [10.0, 10.0, 10.0], [[(100, 5)], [(100, 6)], [(100, 7)]], [[(101, 5)]] * 3, [0] * 3, [0] * 3
    )
    done = convert_days([day], AG, 1, no_progress)
    bids = done.events[done.events["side"] == 1]["qty"].tolist()
    assert bids == [5, 6, 7]


@pytest.mark.parametrize(
    ("trading", "action", "clock", "local"),
    [
        (20240110, 20240109, 210000500, "2024-01-09T21:00:00.500"),
        (20240110, 20240110, 210000500, "2024-01-09T21:00:00.500"),  # action day = trading day at night
        (20240115, 20240115, 210000000, "2024-01-12T21:00:00"),  # Monday's night session is on Friday
        (20240115, 20240115, 10000000, "2024-01-13T01:00:00"),
        (20240115, 20240113, 10000000, "2024-01-13T01:00:00"),
        (20240110, 20240110, 93000000, "2024-01-10T09:30:00"),
    ],
)
def test_night_rows_get_their_real_date(trading: int, action: int, clock: int, local: str) -> None:
    got = snapshot_times(
        np.array([trading]),
        np.array([action]),
        np.array([clock]),
        AG,
        Origin("", np.array([1])),
        fields=("", "", ""),
    )
    expected = np.datetime64(local, "ns").astype(np.int64) - 8 * 3600 * NS
    assert got.tolist() == [expected]


@pytest.mark.parametrize(
    ("trading", "clock", "field"),
    [(20241301, 93000000, "day"), (20240110, 250000000, "time"), (99, 0, "day")],
)
def test_impossible_times_name_the_row(trading: int, clock: int, field: str) -> None:
    with pytest.raises(DataError, match=f"f, row 7, field '{field}'"):
        snapshot_times(
            *(np.array([trading]), np.array([trading]), np.array([clock]), AG),
            Origin("f", np.array([7])),
            ("day", "day", "time"),
        )
