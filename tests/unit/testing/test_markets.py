"""The generated markets tell one consistent story on all three feeds."""

import numpy as np
import pytest

from mmsim.testing import market_from, tiny_market
from mmsim.types import EventFlag, EventKind

K = EventKind


def replay(data, on_message=lambda ts, bids, asks: None):
    # naive books from the rows; orders for L3, level totals otherwise. Returns traded lots per (px, aggressor).
    traded = {}
    for segment in data.segments:
        orders, levels = {}, {1: {}, -1: {}}
        for ts, px, qty, oid, kind, side, flags in data.events[segment.start : segment.stop].tolist():
            if kind == K.ADD:
                assert oid not in orders
                orders[oid] = [px, qty, side]
            elif kind in (K.REDUCE, K.DELETE, K.EXECUTE):
                order = orders[oid]
                assert (order[0], order[2]) == (px, side)
                order[1] -= qty
                assert order[1] >= 0
                assert kind != K.DELETE or order[1] == 0
                if order[1] == 0:
                    del orders[oid]
            elif kind == K.LEVEL and qty:
                levels[side][px] = qty
            elif kind == K.LEVEL:
                levels[side].pop(px, None)  # a hidden level may come back empty
            elif kind == K.HIDE:
                levels[side].pop(px)
            if kind in (K.EXECUTE, K.TRADE):
                key = (px, -side if kind == K.EXECUTE else side)
                traded[key] = traded.get(key, 0) + qty
            if flags & EventFlag.LAST:
                if data.level == "L3":
                    totals = {1: {}, -1: {}}
                    for p, q, s in orders.values():
                        totals[s][p] = totals[s].get(p, 0) + q
                    on_message(ts, totals[1], totals[-1])
                else:
                    on_message(ts, dict(levels[1]), dict(levels[-1]))
    return traded


@pytest.mark.parametrize("spread", [1, 2, 13])
@pytest.mark.parametrize("level", ["L3", "L2", "snapshot"])
def test_books_are_two_sided_and_never_crossed(level, spread):
    data = tiny_market(5, level=level, seconds=15, spread_ticks=spread)
    spreads = []

    def look(ts, bids, asks):
        start = max(s.start for s in data.segments if data.events["ts"][s.start] <= ts)
        if ts > data.events["ts"][start]:  # after the opening
            assert max(bids) < min(asks)
            spreads.append(min(asks) - max(bids))

    replay(data, look)
    assert min(spreads) <= spread + 1
    assert spread - 1 <= np.median(spreads) <= spread + 6


def test_the_three_feeds_trade_the_same():
    feeds = [tiny_market(6, level=level, seconds=15, unit_lots=100) for level in ("L3", "L2", "snapshot")]
    l3, l2, snapshots = (replay(data) for data in feeds)
    assert l3 == l2
    assert l3
    # snapshots may lack the trades after the last full half second of a segment: none are missing here
    assert snapshots == l3


def test_the_l2_feed_shows_the_l3_book():
    books = []
    for level in ("L3", "L2"):
        seen = {}
        replay(tiny_market(7, level=level, seconds=10), lambda ts, b, a, seen=seen: seen.update({ts: (b, a)}))
        books.append(seen)
    assert books[0] == books[1]


def test_snapshots_show_the_best_levels_of_the_book():
    full, shown = {}, {}
    replay(tiny_market(8, seconds=10), lambda ts, b, a: full.update({ts: (b, a)}))
    replay(
        tiny_market(8, level="snapshot", seconds=10, view_depth=3),
        lambda ts, b, a: shown.update({ts: (b, a)}),
    )
    stamps = np.array(sorted(full))
    assert len(shown) > 40
    for ts, (bids, asks) in shown.items():
        before = stamps[stamps < ts]
        if len(before) == 0 or ts - before[-1] > 2_000_000_000:
            continue
        all_bids, all_asks = full[int(before[-1])]
        assert bids == {px: all_bids[px] for px in sorted(all_bids)[-3:]}
        assert asks == {px: all_asks[px] for px in sorted(all_asks)[:3]}


def test_same_seed_same_market():
    one, two, other = tiny_market(1, seconds=5), tiny_market(1, seconds=5), tiny_market(2, seconds=5)
    assert one.events.tobytes() == two.events.tobytes() != other.events.tobytes()


@pytest.mark.parametrize("level", ["L3", "L2", "snapshot"])
def test_bookkeeping(level):
    data = tiny_market(3, level=level, seconds=10, view_depth=4 if level == "snapshot" else 0)
    assert set(data.splits) == {"train", "validation", "test"}
    assert [e.segment for split in data.splits.values() for e in split] == [0, 1, 2]
    assert data.segments[-1].stop == len(data.events)
    assert (np.diff(data.events["ts"]) >= 0).all()
    assert data.px_min == data.events["px"].min()
    assert data.px_max == data.events["px"].max()
    assert data.n_slots == (int(data.events["oid"].max()) + 1 if level == "L3" else 0)
    assert data.decision_ns == (0 if level == "snapshot" else 500_000_000)
    assert data.events["flags"][-1] & EventFlag.LAST
    assert (data.events["qty"][data.events["kind"] != K.LEVEL] >= 0).all()


def test_hand_made_market():
    last = EventFlag.LAST
    data = market_from(
        [(5, 100, 2, 0, K.ADD, 1, last), (6, 101, 3, 1, K.ADD, -1, last), (9, 101, 3, 1, K.EXECUTE, -1, last)]
    )
    episode = data.splits["test"][0]
    assert (episode.start_ts, episode.end_ts) == (6, 10)
    assert (data.n_slots, data.px_min, data.px_max) == (2, 100, 101)
    assert data.instrument.unit_lots == 1
