"""The L2 and snapshot views of an L3 market show the same market: replayed by hand, message by message."""

from collections import Counter
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmsim.data.views import level_view, snapshot_view
from mmsim.errors import ConfigError, DataError
from mmsim.testing import market_from, tiny_market
from mmsim.testing.markets import SECOND, T0
from mmsim.types import EventFlag, EventKind

K, F = EventKind, EventFlag
STEP = SECOND // 10


def books_of_orders(events):
    """Totals by (side, px) after every message of an L3 market, and its prints."""
    book, out, prints = Counter(), [], []
    for e in events:
        kind, key, qty = int(e["kind"]), (int(e["side"]), int(e["px"])), int(e["qty"])
        if kind == K.CLEAR:
            book.clear()
        elif kind == K.HIDE:
            book[key] = 0
        elif kind == K.TRADE:
            prints.append((int(e["ts"]), key[0], key[1], qty))
        else:
            book[key] += qty if kind == K.ADD else -qty
            if kind == K.EXECUTE:  # nobody is the aggressor of a call auction
                aggressor = 0 if e["flags"] & F.AUCTION else -key[0]
                prints.append((int(e["ts"]), aggressor, key[1], qty))
        if e["flags"] & F.LAST:
            out.append((int(e["ts"]), {k: q for k, q in book.items() if q}))
    return out, prints


def books_of_levels(events):
    """The same of a level feed."""
    book, out, prints = {}, [], []
    for e in events:
        kind, key, qty = int(e["kind"]), (int(e["side"]), int(e["px"])), int(e["qty"])
        if kind == K.CLEAR:
            book.clear()
        elif kind == K.TRADE:
            prints.append((int(e["ts"]), key[0], key[1], qty))
        else:
            assert kind in (K.LEVEL, K.HIDE)
            book[key] = 0 if kind == K.HIDE else qty
        if e["flags"] & F.LAST:
            out.append((int(e["ts"]), {k: q for k, q in book.items() if q}))
    return out, prints


def first_difference(a, b):
    """Return where two long lists part: pytest's own comparison of a million rows takes hours."""
    return next(((i, x, y) for i, (x, y) in enumerate(zip_longest(a, b)) if x != y), None)


@st.composite
def orders(draw):
    """A valid L3 tape: several rows per message, hidden trades, levels that leave the view and come back."""
    rows, live, free = [], {}, list(range(12))[::-1]
    ts = T0
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from("aaaaredhtc"),
                st.integers(0, 11),
                st.integers(1, 9),
                st.booleans(),
                st.integers(0, 4),
            ),
            min_size=1,
            max_size=60,
        )
    )
    for op, pick, qty, last, wait in steps:
        flags = int(F.LAST) if last else 0
        if op == "a" and free:
            side = 1 if pick % 2 else -1
            px = 100 - pick // 2 if side > 0 else 101 + pick // 2
            oid = free.pop()
            live[oid] = [side, px, qty]
            rows.append((ts, px, qty, oid, K.ADD, side, flags))
        elif op in "red" and live:
            oid = sorted(live)[pick % len(live)]
            side, px, rest = live[oid]
            kind = {"r": K.REDUCE, "e": K.EXECUTE, "d": K.DELETE}[op]
            take = rest if op == "d" else min(qty, rest)
            rows.append((ts, px, take, oid, kind, side, flags))
            live[oid][2] -= take
            if live[oid][2] == 0:
                del live[oid]
                free.append(oid)
        elif op == "h" and live:
            side, px, _ = live[sorted(live)[pick % len(live)]]
            rows.append((ts, px, 0, 0, K.HIDE, side, flags))
            for oid in [o for o, (s, p, _) in live.items() if (s, p) == (side, px)]:
                del live[oid]
                free.append(oid)
        elif op == "t":
            rows.append((ts, 100 + pick % 2, qty, 0, K.TRADE, -1 if pick % 2 else 1, flags))
        elif op == "c" and pick == 0:
            rows.append((ts, 0, 0, 0, K.CLEAR, 0, flags))
            free += live
            live.clear()
        else:
            continue
        if last:
            ts += wait * STEP
    if not rows:
        rows.append((ts, 100, 1, 0, K.ADD, 1, 0))
    rows[-1] = (*rows[-1][:6], int(F.LAST))
    rows.append((ts, 90, 1, 12, K.ADD, 1, int(F.LAST)))  # a priced row, so that there is a price range
    return rows


@given(orders())
def test_the_level_view_shows_the_same_book_after_every_message(rows):
    data = market_from(rows, episode=(T0, T0 + SECOND))
    view = level_view(data)
    books, prints = books_of_orders(data.events)
    seen, printed = books_of_levels(view.events)
    assert printed == prints
    assert seen == books
    assert view.level == "L2"
    assert view.n_slots == 0
    assert not view.events["oid"].any()


# what prints far from a young book is the view's own turnover, not a wrong multiplier
@example(
    [
        (T0, 101, 1, 0, K.ADD, -1, F.LAST),
        (T0 + STEP, 103, 1, 1, K.ADD, -1, 0),
        (T0 + STEP, 101, 0, 0, K.HIDE, -1, 0),
        (T0 + STEP, 103, 1, 1, K.EXECUTE, -1, F.LAST),
        (T0 + STEP, 90, 1, 2, K.ADD, 1, F.LAST),
    ],
    1,
    1,
)
@given(orders(), st.integers(1, 4), st.integers(1, 6))
def test_the_snapshot_view_shows_the_best_levels_at_every_snapshot(rows, depth, wait):
    data = market_from(rows, episode=(T0, T0 + SECOND))
    books, prints = books_of_orders(data.events)
    last = books[-1][0]
    interval = wait * STEP
    expected, when = [], -(-T0 // interval) * interval
    while when < last + interval:
        past = [b for ts, b in books if ts <= when]
        if past:
            bids = sorted((k for k in past[-1] if k[0] > 0), key=lambda k: -k[1])[:depth]
            asks = sorted((k for k in past[-1] if k[0] < 0), key=lambda k: k[1])[:depth]
            expected.append((when, {k: past[-1][k] for k in bids + asks}))
        else:
            expected.append((when, {}))
        when += interval
    view = snapshot_view(data, interval, depth)
    seen, printed = books_of_levels(view.events)
    assert seen == expected
    first = expected[0][0]
    assert sum(p[3] for p in printed) == sum(p[3] for p in prints if p[0] > first)
    assert (view.level, view.view_depth, view.decision_ns) == ("snapshot", depth, 0)


def test_the_level_view_of_a_generated_market_is_its_l2_feed():
    orders_, levels = tiny_market(5, seconds=30), tiny_market(5, seconds=30, level="L2")
    view = level_view(orders_)
    assert books_of_levels(view.events) == books_of_levels(levels.events)
    assert view.segments[2].stop == len(view.events)
    assert view.splits == orders_.splits


def test_what_shrank_is_published_before_what_grew():
    rows = [
        (T0, 100, 2, 0, K.ADD, 1, 0),
        (T0, 101, 2, 1, K.ADD, -1, F.LAST),
        (T0 + 1, 101, 2, 1, K.EXECUTE, -1, 0),
        (T0 + 1, 101, 3, 2, K.ADD, 1, F.LAST),
    ]
    view = level_view(market_from(rows))
    told = [(int(e["kind"]), int(e["side"]), int(e["px"]), int(e["qty"])) for e in view.events[2:]]
    assert told == [(K.TRADE, 1, 101, 2), (K.LEVEL, -1, 101, 0), (K.LEVEL, 1, 101, 3)]
    assert [bool(e["flags"] & F.LAST) for e in view.events[2:]] == [False, False, True]


def test_an_auctions_print_has_no_aggressor():
    rows = [
        (T0, 100, 2, 0, K.ADD, 1, F.LAST),
        (T0 + 1, 100, 1, 0, K.EXECUTE, 1, F.LAST | F.AUCTION),
        (T0 + 2, 100, 1, 0, K.EXECUTE, 1, F.LAST),
    ]
    trades = [e for e in level_view(market_from(rows)).events if e["kind"] == K.TRADE]
    assert [int(e["side"]) for e in trades] == [0, -1]


def test_a_level_refilled_within_its_message_is_published():
    rows = [
        (T0, 100, 2, 0, K.ADD, 1, F.LAST),
        (T0 + 1, 100, 2, 0, K.EXECUTE, 1, 0),
        (T0 + 1, 100, 2, 1, K.ADD, 1, F.LAST),
    ]
    view = level_view(market_from(rows))
    assert [(int(e["kind"]), int(e["qty"])) for e in view.events[1:]] == [(K.TRADE, 2), (K.LEVEL, 2)]


def test_receive_times_follow_their_messages():
    rows = [
        (T0, 100, 2, 0, K.ADD, 1, F.LAST),
        (T0 + 1, 100, 1, 0, K.EXECUTE, 1, 0),
        (T0 + 1, 100, 5, 1, K.ADD, 1, F.LAST),
    ]
    from dataclasses import replace

    data = replace(market_from(rows), recv_ts=np.array([T0 + 7, T0 + 8, T0 + 9]))
    assert level_view(data).recv_ts.tolist() == [T0 + 7, T0 + 8, T0 + 9]


def test_crossed_books_of_an_auction_are_not_shown():
    rows = [
        (T0, 100, 2, 0, K.ADD, 1, F.LAST),
        (T0, 102, 2, 1, K.ADD, -1, F.LAST),
        (T0 + SECOND, 103, 1, 2, K.ADD, 1, F.LAST | F.AUCTION),
        (T0 + 2 * SECOND, 103, 1, 2, K.DELETE, 1, F.LAST),
    ]
    view = snapshot_view(market_from(rows), SECOND, 2)
    assert sorted(set(view.events["ts"].tolist())) == [T0, T0 + 2 * SECOND]


def test_a_level_feed_has_nothing_to_hide():
    with pytest.raises(ConfigError, match="expected an order-by-order"):
        level_view(tiny_market(seconds=5, level="L2"))
    with pytest.raises(ConfigError, match="was a snapshot feed already"):
        snapshot_view(tiny_market(seconds=5, level="snapshot"), SECOND, 5)
    with pytest.raises(ConfigError, match="positive interval"):
        snapshot_view(tiny_market(seconds=5), 0, 5)


def test_an_impossible_reduction_is_an_error_with_its_row():
    rows = [(T0, 100, 2, 0, K.ADD, 1, F.LAST), (T0 + 1, 100, 3, 0, K.REDUCE, 1, F.LAST)]
    with pytest.raises(DataError, match="row 1"):
        level_view(market_from(rows))


def test_snapshots_of_a_level_feed_are_those_of_its_orders():
    a = snapshot_view(tiny_market(5, seconds=20), SECOND, 4)
    b = snapshot_view(tiny_market(5, seconds=20, level="L2"), SECOND, 4)
    assert np.array_equal(a.events, b.events)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["amzn", "moutai"])
def test_the_views_of_the_real_days(name, real_data_home):
    from mmsim.data import load

    data = load(name, progress=False)
    seen, printed = books_of_levels(level_view(data).events)
    books, prints = books_of_orders(data.events)
    assert first_difference(printed, prints) is None
    assert first_difference(seen, books) is None
