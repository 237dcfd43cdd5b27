"""The order book's rules one by one, each with numbers that can be checked by eye."""

from __future__ import annotations

import numpy as np
import pytest

from mmsim.book import kernels as k
from mmsim.book.reference import Match, ReferenceBook, Report, Resting
from mmsim.book.view import MAX_SPAN, OrderBook, match
from mmsim.errors import BookError

BOTH = pytest.mark.parametrize("kind", [OrderBook, ReferenceBook])


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
    assert book.submit(1, 101, 1, post_only=True) == Report(3, False, (), 0)
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
    assert book.replace(1, 102, 3, post_only=True) == Report(1, False, (), 5)
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
    ],
)
def test_impossible_requests_say_what_was_expected(kind, verb, args, message):
    book = book_with(kind, bids=[(100, [5])])
    with pytest.raises(BookError, match=message):
        getattr(book, verb)(*args)
    assert list(book.orders(1)) == [Resting(1, 1, 100, 5)]


def test_no_price_within_reach_crashes_it_and_the_book_is_moved_whole():
    book = OrderBook(n_levels=2, n_orders=1)
    prices = [0, -1, 1, 40, -900, 70_000, -(MAX_SPAN - 70_001)]
    for px in prices:
        assert book.submit(1 if px <= 0 else -1, px, 1).resting == 1
    assert [o.px for o in book.orders(1)] == sorted((p for p in prices if p <= 0), reverse=True)
    assert [o.px for o in book.orders(-1)] == sorted(p for p in prices if p > 0)
    before = [*book.orders(1), *book.orders(-1)]
    with pytest.raises(BookError, match="of every resting order"):
        book.submit(1, 2**31 - 1, 1)
    assert [*book.orders(1), *book.orders(-1)] == before


def test_an_empty_book_reaches_any_price():
    book = OrderBook(n_levels=1)
    for px in (2**31 - 1, -(2**31) + 1, 0):
        assert book.submit(1, px, 1).resting == 1
        assert book.best(1) == (px, 1)
        book.cancel(book.submit(1, px, 2).order_id)
        book.market(-1, 1)


def test_one_level_holds_more_lots_than_32_bits():
    book = OrderBook()
    for _ in range(3):
        book.submit(1, 100, 2**31 - 1)
    assert book.best(1) == (100, 3 * (2**31 - 1))
    assert len(book.market(-1, 2**31 - 1).matches) == 1


def test_rows_are_reused_and_ids_are_not():
    book = OrderBook(n_orders=2)
    ids = []
    for _ in range(50):
        ids.append(book.submit(1, 100, 1).order_id)
        book.cancel(ids[-1])
    assert ids == list(range(1, 51))
    assert repr(book) == "OrderBook(bid=None, ask=None, orders=0)"


def requests_of(*rows):
    return np.array([(o, px, qty, verb, side, flags) for verb, o, side, px, qty, flags in rows], k.REQUEST)


def test_wrong_requests_of_an_array_are_named_and_change_nothing():
    result = match(
        requests_of(
            (k.LIMIT, 1, 1, 100, 5, 0),
            (k.LIMIT, 1, 1, 101, 5, 0),  # the number is taken
            (k.LIMIT, 2, 0, 100, 5, 0),
            (k.LIMIT, 2, -1, 100, 0, 0),
            (k.LIMIT, 2, -1, 100, 5, k.POST_ONLY),
            (k.CANCEL, 7, 0, 0, 0, 0),
            (k.REDUCE, 1, 0, 0, 6, 0),
            (99, 1, 0, 0, 0, 0),
            (k.MARKET, 3, -1, 0, 2, 0),
        )
    )
    assert result.statuses.tolist() == [
        k.DONE, k.BAD_ORDER, k.BAD_SIDE, k.BAD_QTY, k.POST_ONLY_REJECT, k.BAD_ORDER, k.BAD_QTY, k.BAD_VERB, k.DONE,
    ]  # fmt: skip
    assert result.matches.tolist() == [(1, 3, 100, 2)]
    assert list(result.orders(1)) == [Resting(1, 1, 100, 3)]


def test_an_array_of_another_layout_or_reach_is_refused():
    with pytest.raises(BookError, match="expected a one-dimensional REQUEST array"):
        match(np.zeros(3))
    with pytest.raises(BookError, match="expected prices within"):
        match(requests_of((k.LIMIT, 1, 1, -(2**31), 1, 0), (k.LIMIT, 2, 1, 2**31 - 1, 1, 0)))
    with pytest.raises(BookError, match="expected order numbers up to"):
        match(requests_of((k.LIMIT, 2**32 - 1, 1, 1, 1, 0)))
    assert match(requests_of()).matches.size == 0
