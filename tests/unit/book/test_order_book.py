"""The order book's rules one by one, each with numbers that can be checked by eye."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from mmsim.book import layout as L
from mmsim.book.many import Books
from mmsim.book.memory import MAX_LEVELS, Memory
from mmsim.book.naive_book import NaiveBook
from mmsim.book.reader import Snapshot
from mmsim.book.report import Match, Removed, Report, Resting, Waiting
from mmsim.book.view import OrderBook, match
from mmsim.errors import BookError

BOTH = pytest.mark.parametrize("kind", [OrderBook, NaiveBook])


def book_with(kind, bids=(), asks=()):
    """Build a book from ``[(px, [qty, qty, ...]), ...]``; ids count from 1, bids first."""
    book = kind()
    for side, levels in ((1, bids), (-1, asks)):
        for px, lots in levels:
            for qty in lots:
                book.submit(side, px, qty)
    return book


@BOTH
def test_a_taker_meets_the_best_price_and_there_the_oldest(kind):
    book = book_with(kind, bids=[(100, [10, 5])], asks=[(102, [4]), (101, [7, 2])])
    report = book.submit(1, 102, 11)
    assert report.matches == (Match(4, 6, 101, 7), Match(5, 6, 101, 2), Match(3, 6, 102, 2))
    assert report.resting == 0
    assert book.depth(-1) == [(102, 2)]


@BOTH
def test_the_remainder_of_a_limit_order_rests_at_its_limit(kind):
    book = book_with(kind, asks=[(101, [3])])
    assert book.submit(1, 101, 5) == Report(2, True, (Match(1, 2, 101, 3),), 2)
    assert book.best(1) == (101, 2)
    assert book.best(-1) is None


@BOTH
def test_a_market_order_drops_what_finds_no_maker(kind):
    book = book_with(kind, bids=[(100, [2])])
    assert book.market(-1, 5) == Report(2, True, (Match(1, 2, 100, 2),), 0)
    assert len(book) == 0
    assert book.market(-1, 5).matches == ()


@BOTH
def test_post_only_changes_nothing_when_it_would_trade(kind):
    book = book_with(kind, bids=[(100, [1])], asks=[(101, [1])])
    assert book.submit(1, 101, 1, post_only=True) == Report(3, False, (), 0, "post_only")
    assert book.submit(1, 100, 1, post_only=True) == Report(4, True, (), 1)
    assert [o.order_id for o in book.orders(1)] == [1, 4]


@BOTH
def test_ioc_never_rests(kind):
    book = book_with(kind, asks=[(101, [1])])
    assert book.submit(1, 105, 3, ioc=True) == Report(2, True, (Match(1, 2, 101, 1),), 0)
    assert book.best(1) is None
    assert book.submit(1, 2**31 - 1, 3, ioc=True).matches == ()


@BOTH
@pytest.mark.parametrize(
    ("px", "qty", "queue"),
    [
        (100, 5, [1, 2, 3]),  # unchanged keeps
        (100, 4, [1, 2, 3]),  # smaller keeps
        (100, 6, [1, 3, 2]),  # larger goes to the back
        (99, 5, [1, 3]),  # moved leaves
    ],
)
def test_the_diff_rule(kind, px, qty, queue):
    book = book_with(kind, bids=[(100, [5, 5, 5])])
    book.replace(2, px, qty)
    assert [o.order_id for o in book.orders(1) if o.px == 100] == queue
    assert sum(o.qty for o in book.orders(1) if o.order_id == 2) == qty


@BOTH
def test_a_replacement_that_crosses_trades_or_is_refused(kind):
    book = book_with(kind, bids=[(100, [5])], asks=[(102, [2])])
    assert book.replace(1, 102, 3, post_only=True) == Report(1, False, (), 5, "post_only")
    assert list(book.orders(1)) == [Resting(1, 1, 100, 5)]
    assert book.replace(1, 102, 3) == Report(1, True, (Match(2, 1, 102, 2),), 1)
    assert list(book.orders(1)) == [Resting(1, 1, 102, 1)]


@BOTH
def test_reduce_keeps_the_place_and_removes_at_zero(kind):
    book = book_with(kind, bids=[(100, [5, 5])])
    assert book.reduce(1, 4) == 1
    assert book.queue_ahead(2) == 1
    assert book.reduce(1, 1) == 0
    assert 1 not in book
    assert book.queue_ahead(2) == 0


@BOTH
def test_cancel_returns_the_open_lots_and_the_next_level_is_best(kind):
    book = book_with(kind, asks=[(101, [2]), (150, [9])])
    assert book.cancel(1) == 2
    assert book.best(-1) == (150, 9)


@BOTH
@pytest.mark.parametrize(
    ("verb", "args", "message"),
    [
        ("cancel", (99,), "expected the id of a resting order, was 99"),
        ("cancel", (None,), "expected the id"),
        ("reduce", (1, 6), "expected at most the 5 lots that order 1 has, was 6"),
        ("reduce", (1, 0), "expected a quantity from 1"),
        ("replace", (1, 100, 0), "expected a quantity from 1"),
        ("replace", (99, 100, 1), "expected the id of a resting order"),
        ("submit", (0, 100, 1), r"expected side \+1"),
        ("submit", (1, 100.5, 1), "expected a price in ticks as an integer, was 100.5"),
        ("submit", (1, 100, float("nan")), "expected a quantity in lots as an integer, was nan"),
        ("submit", (1, 2**31, 1), "expected a price within"),
        ("submit", (1, 100, 2**31), "expected a quantity from 1"),
        ("market", (1, -3), "expected a quantity from 1"),
        ("depth", (7,), "expected side"),
        ("stop", (0, 100, 1), r"expected side \+1"),
        ("stop", (1, None, 1), "expected a price in ticks"),
        ("stop", (1, -(2**31), 1), "expected a price within"),
        ("stop", (1, 100, 0), "expected a quantity from 1"),
        ("cancel", (2**64,), "expected the id"),
        ("reduce", (1, 2**31), "expected a quantity from 1"),
        ("replace", (1, "x", 1), "expected a price in ticks"),
        ("replace", (1, -(2**31), 1), "expected a price within"),
        ("queue_ahead", (99,), "expected the id of a resting order, was 99"),
        ("queue_ahead", ("x",), "expected the id of a resting order, was 'x'"),
    ],
)
def test_impossible_requests_say_what_was_expected(kind, verb, args, message):
    book = book_with(kind, bids=[(100, [5])])
    with pytest.raises(BookError, match=message):
        getattr(book, verb)(*args)
    assert list(book.orders(1)) == [Resting(1, 1, 100, 5)]


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"post_only": True, "ioc": True},
            "at most one of post_only, slide, ioc and fok, was post_only and ioc",
        ),
        ({"slide": True, "fok": True}, "was slide and fok"),
        ({"display": 9}, "expected a display quantity from 1 to the 5 lots of the order, was 9"),
        ({"display": -1}, "expected a display quantity"),
        ({"display": 1.5}, "expected a display quantity in lots as an integer, was 1.5"),
        ({"display": 1, "ioc": True}, "expected no display quantity for an order that never rests, was 1"),
        ({"owner": 70_000}, "expected an owner from 0 to 65535, was 70000"),
        ({"owner": None, "display": 1}, "expected an owner as an integer, was None"),
        ({"stp": "cancel_resing"}, r"expected stp off, .*did you mean 'cancel_resting'"),
        ({"order_id": 0}, "expected an order id in 64 bits other than 0, was 0"),
        ({"order_id": 2**63}, "expected an order id in 64 bits other than 0"),
        ({"order_id": 1}, "expected the id of no order in the book, was 1"),
    ],
)
def test_impossible_options_say_what_was_expected(kind, options, message):
    book = book_with(kind, bids=[(100, [5])])
    with pytest.raises(BookError, match=message):
        book.submit(1, 99, 5, **options)
    if not options.keys() & {"post_only", "slide", "display", "ioc"}:
        with pytest.raises(BookError, match=message):
            book.market(1, 5, **{k: v for k, v in options.items() if k != "display"})
    with pytest.raises(BookError, match=message):
        book.stop(1, 110, 5, px=110, **options)
    assert list(book) == [Resting(1, 1, 100, 5)]


@BOTH
def test_a_stop_without_a_price_cannot_rest(kind):
    for option in ({"post_only": True}, {"slide": True}, {"display": 1}):
        with pytest.raises(BookError, match="expected a px with post_only, slide or display"):
            kind().stop(1, 100, 1, **option)
    with pytest.raises(BookError, match="expected a quantity from 1"):
        kind().stop(1, 100, 0, display=0)


@BOTH
def test_post_only_slides_to_one_tick_behind_the_other_side(kind):
    book = book_with(kind, bids=[(100, [1])], asks=[(105, [1])])
    assert book.submit(1, 110, 2, slide=True).resting == 2
    assert book.submit(-1, 90, 2, slide=True).resting == 2
    assert (book.best(1), book.best(-1)) == ((104, 2), (105, 3))
    lowest = book_with(kind, asks=[(-(2**31) + 1, [1])])
    assert lowest.submit(1, 0, 1, slide=True) == Report(2, False, (), 0, "post_only")  # no tick is left


@BOTH
def test_fill_or_kill_counts_hidden_lots_and_nothing_it_must_not_meet(kind):
    book = book_with(kind, asks=[(101, [2])])
    book.submit(-1, 102, 6, display=2, owner=1)
    book.submit(-1, 102, 1, owner=2)
    assert book.submit(1, 102, 10, fok=True) == Report(4, False, (), 0, "fok")
    assert not book.submit(1, 102, 8, fok=True, owner=1, stp="cancel_incoming").accepted
    assert not book.submit(1, 102, 9, fok=True, owner=2, stp="cancel_both").accepted
    assert book.submit(1, 102, 3, fok=True, owner=1, stp="cancel_resting").removed == (Removed(2, 6),)
    assert book.market(1, 1, fok=True).reason == "fok"
    assert len(book) == 0


@BOTH
def test_an_iceberg_shows_its_next_lots_at_the_back(kind):
    book = kind()
    book.submit(-1, 101, 5, display=2)
    book.submit(-1, 101, 3)
    assert book.depth(-1) == [(101, 5)]  # the hidden three do not count
    assert book.queue_ahead(2) == 2
    report = book.submit(1, 101, 6)
    assert [(m.maker_id, m.qty) for m in report.matches] == [(1, 2), (2, 3), (1, 1)]
    assert list(book) == [Resting(1, -1, 101, 1, 1)]
    assert book.reduce(1, 1) == 1  # hidden lots first
    assert list(book) == [Resting(1, -1, 101, 1)]


@BOTH
def test_an_iceberg_may_not_show_more_than_a_thousand_times(kind):
    book = kind()
    assert book.submit(-1, 101, 2000, display=2).resting == 2000
    with pytest.raises(BookError, match="expected a display quantity from 3 to the 2001 lots"):
        book.submit(-1, 101, 2001, display=2)
    with pytest.raises(BookError, match="iceberg that shows"):
        book.replace(1, 101, 2001)
    assert len(book.market(1, 2000).matches) == 1000


@BOTH
@pytest.mark.parametrize(
    ("stp", "removed", "reason", "bids", "asks"),
    [
        ("off", (), "", [], [(101, 1)]),
        ("cancel_resting", (Removed(1, 4),), "", [], [(101, 1)]),
        ("cancel_incoming", (Removed(4, 4),), "self_trade", [], [(101, 8)]),
        ("cancel_both", (Removed(1, 4), Removed(4, 4)), "self_trade", [], [(101, 4)]),
    ],
)
def test_self_trade_prevention(kind, stp, removed, reason, bids, asks):
    book = kind(stp=stp)
    book.submit(-1, 101, 4, owner=7)
    book.submit(-1, 101, 4, owner=8)
    book.submit(1, 90, 1, owner=7)
    report = book.submit(1, 101, 4 if stp != "off" else 7, owner=7)
    if stp == "cancel_resting":
        assert report.matches == (Match(2, 4, 101, 4, 8, 7),)
        asks = []
    assert (report.removed, report.reason) == (removed, reason)
    assert (book.depth(1)[:-1], book.depth(-1)) == (bids, asks)
    assert book.submit(1, 120, 50, ioc=True).reason == ""  # nobody's orders are never self-trades


@BOTH
def test_stops_run_after_the_order_that_set_them_off_by_trigger_then_age(kind):
    book = book_with(kind, bids=[(98, [5])], asks=[(100, [1]), (101, [1]), (102, [9])])
    late = book.stop(1, 101, 1).order_id
    first = book.stop(1, 100, 1).order_id
    sell = book.stop(-1, 101, 2, px=98).order_id
    young = book.stop(1, 101, 1).order_id
    report = book.submit(1, 101, 3)
    assert report.triggered == (first, late, young, sell)
    assert [(m.taker_id, m.px) for m in report.matches] == [
        (9, 100), (9, 101), (first, 102), (late, 102), (young, 102), (sell, 101), (sell, 98),
    ]  # fmt: skip
    assert report.resting == 1  # when it had run; the sell stop has taken it since
    assert book.last_px == 98
    # set off by the last trade at once, and a cascade: its trade sets off the next
    waits = book.stop(1, 103, 1)
    assert (waits.resting, list(book.stops(1))) == (1, [Waiting(waits.order_id, 1, 103, None, 1)])
    now = book.stop(-1, 99, 1, fok=True)
    assert now.triggered == (now.order_id,)
    assert book.reduce(waits.order_id, 1) == 0
    assert book.market(1, 3, order_id=-5).order_id == -5


@BOTH
def test_a_waiting_stop_can_be_reduced_and_cancelled_but_not_replaced(kind):
    book = kind()
    book.stop(-1, 90, 5, px=89, display=4, owner=3)
    assert book.reduce(1, 2) == 3
    with pytest.raises(BookError, match="expected the id of a resting order, was 1"):
        book.replace(1, 90, 1)
    with pytest.raises(BookError, match="expected at most the 3 lots that order 1 has, was 4"):
        book.reduce(1, 4)
    with pytest.raises(BookError, match="expected the id of a resting order"):
        book.queue_ahead(1)
    assert list(book.stops(-1)) == [Waiting(1, -1, 90, 89, 3, 3)]
    assert len(book) == 1 and 1 in book and list(book) == []
    assert book.cancel(1) == 3
    assert 1 not in book


@BOTH
def test_own_numbers_pass_over_those_in_use(kind):
    book = kind()
    book.submit(1, 100, 1, order_id=2)
    assert book.submit(1, 100, 1).order_id == 1
    assert book.submit(1, 100, 1).order_id == 3
    assert book.submit(1, 100, 1, order_id=4).order_id == 4
    assert book.market(-1, 1, order_id=77).matches[0].taker_id == 77
    assert book.submit(-1, 100, 1).order_id == 5


PRICES = [0, -1, 1, 40, -900, 70_000, -16_000_000, -(2**31) + 1, 2**31 - 1]


def test_no_price_is_out_of_reach_and_memory_stays_bounded():
    book = OrderBook(n_levels=2, n_orders=1)
    for px in PRICES:
        assert book.submit(1 if px <= 0 else -1, px, 1).resting == 1
    assert [o.px for o in book.orders(1)] == sorted((p for p in PRICES if p <= 0), reverse=True)
    assert [o.px for o in book.orders(-1)] == sorted(p for p in PRICES if p > 0)
    rng = np.random.default_rng(1)
    for px in rng.integers(-(2**31) + 1, 2**31, 3000).tolist():
        book.submit(1 if px <= 0 else -1, px, 2)
    assert len(book._memory.book.levels) <= MAX_LEVELS + 2 + 4096
    assert book.depth(1)[-1][0] == -(2**31) + 1
    traded = book.market(1, 2**31 - 1).matches
    assert [m.px for m in traded] == sorted(m.px for m in traded)
    assert book.best(-1) is None


def test_the_window_follows_a_market_that_drifts_away():
    book = OrderBook()
    oids: list[int] = []
    for i in range(20_000):
        oids.append(book.submit(1, 7 * i, 1).order_id)
        if len(oids) > 500:
            book.cancel(oids.pop(0))
    assert book.depth(1) == [(7 * i, 1) for i in range(19_999, 19_499, -1)]
    state = book._memory.state
    assert state.origin > 100_000
    assert state.width == 8192  # dense enough to grow: one level in seven


def test_an_empty_book_reaches_any_price():
    book = OrderBook(n_levels=1)
    for px in (2**31 - 1, -(2**31) + 1, 0):
        assert book.submit(1, px, 1).resting == 1
        assert book.best(1) == (px, 1)
        book.cancel(book.submit(1, px, 2).order_id)
        book.market(-1, 1)
    for far in range(1, 300):  # until the window is to be placed with nothing to place it at
        book.stop(1, 100 + far, 1)
        book.submit(1, far << 22, 1)
        book.submit(1, -far << 22, 1)
        book.market(-1, 2)
    assert book.best(1) is None


def test_one_level_holds_more_lots_than_32_bits():
    book = OrderBook()
    for _ in range(3):
        book.submit(1, 100, 2**31 - 1)
    assert book.best(1) == (100, 3 * (2**31 - 1))
    assert len(book.market(-1, 2**31 - 1).matches) == 1


def test_a_report_longer_than_its_buffer_is_whole():
    book = OrderBook()
    for i in range(1000):
        book.submit(-1, 100 + i % 7, 1)
    report = book.market(1, 1000)
    assert len(report.matches) == 1000
    assert {m.maker_id for m in report.matches} == set(range(1, 1001))


def test_rows_are_reused_and_ids_are_not():
    book = OrderBook(n_orders=2)
    ids = []
    for _ in range(50):
        ids.append(book.submit(1, 100, 1).order_id)
        book.cancel(ids[-1])
    assert ids == list(range(1, 51))
    assert repr(book) == "OrderBook(bid=None, ask=None, orders=0)"


def test_a_book_has_a_limit_of_orders(monkeypatch):
    monkeypatch.setattr(L, "MAX_ROWS", 4)
    book = OrderBook(n_orders=3)
    for _ in range(4):
        book.submit(1, 100, 1)
    with pytest.raises(BookError, match="expected at most 4 orders in the book, was more"):
        book.submit(1, 100, 1)
    assert [o.order_id for o in book] == [1, 2, 3, 4]
    with pytest.raises(BookError, match="expected room for at least one level and order, was 1, 0"):
        Memory(0, 1)


def a_book_with_everything():
    book = OrderBook(stp="cancel_both", n_levels=4, n_orders=2)
    book.submit(1, 100, 9, display=2, owner=1)
    book.submit(1, 100, 1)
    book.submit(1, -5_000, 1)
    book.submit(-1, 103, 4, owner=2)
    book.market(-1, 3)
    book.stop(1, 120, 5, owner=1)
    book.stop(-1, 80, 5, px=79, display=3, post_only=True)
    return book


def test_a_book_restored_goes_on_alike():
    one = a_book_with_everything()
    snapshot = one.snapshot()
    other = OrderBook(stp="cancel_both")
    other.restore(snapshot)
    twins = [one, other, copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))]
    for book in twins[1:]:
        assert book.snapshot().orders.tolist() == snapshot.orders.tolist()
        assert (book.last_px, len(book)) == (100, len(one))
    reports = [[b.submit(-1, 100, 5, owner=1), b.submit(1, 130, 9), b.market(-1, 3)] for b in twins]
    assert all(r == reports[0] for r in reports)


def test_what_is_no_book_is_not_restored():
    book = a_book_with_everything()
    before = book.snapshot().orders.tolist()
    crossed = requests_of((L.LIMIT, 1, 1, 100, 5, 0), (L.LIMIT, 2, -1, 100, 5, 0))
    twice = requests_of((L.LIMIT, 1, 1, 100, 5, 0), (L.LIMIT, 1, 1, 101, 5, 0))
    for rows in (crossed, twice, np.zeros(1, L.REQUEST)):
        with pytest.raises(BookError, match="expected the orders of a book at rest, was one that cannot"):
            book.restore(Snapshot(rows, None, 1))
        assert book.snapshot().orders.tolist() == before


@pytest.mark.parametrize(
    ("qty", "stop", "display", "flags", "code"),
    [
        (2, 3, 2, 0, L.DONE),
        (2, -1, 2, 0, L.BAD_QTY),
        (2**31 - 1, 1, 2**31 - 1, 0, L.BAD_QTY),
        (3, 1, 2, 0, L.BAD_DISPLAY),
        (1, 1000, 1, 0, L.BAD_DISPLAY),
        (1, 1, 1, L.IOC, L.BAD_FLAGS),
        (0, 1, 1, 0, L.BAD_QTY),
    ],
)
def test_an_iceberg_in_mid_life_is_checked(qty, stop, display, flags, code):
    row = requests_of((L.LOAD, 1, 1, 100, qty, flags))
    row["stop"], row["display"] = stop, display
    result = match(row)
    assert result.statuses.tolist() == [code]
    assert list(result.book) == ([Resting(1, 1, 100, qty, stop)] if code == L.DONE else [])


def test_tables():
    book = a_book_with_everything()
    levels = book.to_pandas()
    assert levels.to_dict("list") == {
        "side": [1, 1, -1],
        "px": [100, -5000, 103],
        "qty": [2, 1, 4],
        "orders": [1, 1, 1],
    }
    orders = book.to_pandas("orders")
    assert orders["order_id"].tolist() == [1, 3, 4, 6, 7]
    assert orders["hidden"].tolist() == [5, 0, 0, 0, 0]
    assert orders["px"].isna().tolist() == [False, False, False, True, False]
    assert orders["trigger"].dropna().tolist() == [120, 80]
    assert len(OrderBook().to_pandas()) == len(OrderBook().to_pandas("orders")) == 0
    with pytest.raises(BookError, match="expected 'levels' or 'orders', was 'l2'"):
        book.to_pandas("l2")


def requests_of(*rows):
    return np.array(
        [(o, px, qty, 0, 0, flags, 0, verb, side) for verb, o, side, px, qty, flags in rows], L.REQUEST
    )


def test_wrong_requests_of_an_array_are_named_and_change_nothing():
    result = match(
        requests_of(
            (L.LIMIT, 1, 1, 100, 5, 0),
            (L.LIMIT, 1, 1, 101, 5, 0),  # the number is taken
            (L.LIMIT, 2, 0, 100, 5, 0),
            (L.LIMIT, 2, -1, 100, 0, 0),
            (L.LIMIT, 2, -1, 100, 5, L.POST_ONLY),
            (L.CANCEL, 7, 0, 0, 0, 0),
            (L.REDUCE, 1, 0, 0, 6, 0),
            (99, 1, 0, 0, 0, 0),
            (L.MARKET, 3, -1, 0, 2, 0),
            (L.MARKET, 3, -1, 0, 2, L.SLIDE),
            (L.LIMIT, 0, 1, 100, 5, 0),
        )
    )
    assert result.statuses.tolist() == [
        L.DONE, L.BAD_ORDER, L.BAD_SIDE, L.BAD_QTY, L.POST_ONLY_REJECT, L.BAD_ORDER, L.BAD_QTY, L.BAD_VERB, L.DONE,
        L.BAD_FLAGS, L.BAD_ORDER,
    ]  # fmt: skip
    assert result.matches.tolist() == [(1, 3, 100, 2, 0, 0, L.TRADE, -1)]
    assert list(result.orders(1)) == [Resting(1, 1, 100, 3)]


def test_events_hold_what_matches_leave_out():
    requests = requests_of((L.STOP, 1, 1, 0, 2, 0), (L.LIMIT, 2, -1, 101, 3, 0), (L.LIMIT, 3, 1, 101, 1, 0))
    requests["stop"][0] = 100
    result = match(requests)
    assert result.events[["kind", "maker", "taker", "px", "qty"]].tolist() == [
        (L.TRADE, 2, 3, 101, 1), (L.TRIGGERED, 0, 1, 100, 2), (L.TRADE, 2, 1, 101, 2),
    ]  # fmt: skip
    assert result.matches["taker"].tolist() == [3, 1]


def test_an_array_of_another_layout_is_refused_and_any_memory_is_read():
    with pytest.raises(BookError, match="expected a one-dimensional REQUEST array"):
        match(np.zeros(3))
    requests = requests_of(
        (L.LIMIT, 1, 1, -(2**31) + 1, 1, 0), (L.LIMIT, 2, -1, 2**31 - 1, 1, 0), (L.CANCEL, 1, 0, 0, 0, 0)
    )
    frozen = requests.copy()
    frozen.flags.writeable = False
    assert match(frozen).statuses.tolist() == [0, 0, 0]
    assert match(np.repeat(requests, 2)[::2]).statuses.tolist() == [0, 0, 0]
    assert match(requests_of()).matches.size == 0


def test_many_books_grow_one_by_one():
    books = Books(3, n_levels=2, n_orders=1)
    requests = np.zeros((3, 600), L.REQUEST)
    requests["oid"] = np.arange(1, 601)
    requests["verb"], requests["side"], requests["qty"] = L.LIMIT, 1, 1
    requests["px"][1] = np.arange(600) << 20
    requests["px"][2] = np.arange(600) % 3
    assert not books.step(requests).statuses.any()
    assert books.best(1).tolist() == [0, 599 << 20, 2]
    assert [len(books.book(b)) for b in range(3)] == [600, 600, 600]
    one = OrderBook()
    one.restore(books.book(2).snapshot())
    assert one.depth(1) == [(2, 200), (1, 200), (0, 200)]


def test_a_price_that_no_shelf_holds_is_not_found() -> None:
    from mmsim.book.shelves import FAR_SHELF, FIND, shelf_level

    memory = OrderBook()._memory
    assert shelf_level(memory.book, FAR_SHELF, 123, FIND) == 0
