"""Stop orders: they wait on a shelf for their trigger, and run one after the other once it has traded."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import hot_kernel, rare_kernel
from mmsim.book.layout import NO_ASK, NO_BID
from mmsim.book.queues import append, unlink
from mmsim.book.rows import U
from mmsim.book.shelves import ADD, BUYS, FIND, SELLS, shelf_drop, shelf_level


@rare_kernel
def wait(book: Any, row: int, side: int, trigger: int, qty: int) -> None:
    """Let order `row` wait as a stop, triggered at `trigger`."""
    s = book.state[0]
    at = shelf_level(book, BUYS if side > 0 else SELLS, -trigger if side > 0 else trigger, ADD)
    append(book, at, row, trigger, qty)
    if side > 0:
        s.next_buy = min(s.next_buy, trigger)
    else:
        s.next_sell = max(s.next_sell, trigger)


@rare_kernel
def stop_waiting(book: Any, row: int) -> None:
    """Take waiting stop `row` off its shelf; its row and its id stay taken."""
    order = book.orders[U(row)]
    px = np.int64(order.px)
    buys = book.extra[U(row)].side > 0
    shelf, key = BUYS if buys else SELLS, -px if buys else px
    if unlink(book, shelf_level(book, shelf, key, FIND), row, np.int64(order.prev), np.int64(order.qty)):
        shelf_drop(book, shelf, key)
        _find_next(book)


@rare_kernel
def _find_next(book: Any) -> None:
    # triggers of the stops next in line: the last entries of the two shelves
    s = book.state[0]
    buys, sells = s.shelved[BUYS], s.shelved[SELLS]
    s.next_buy = -(book.shelves[U(BUYS), U(buys - 1)] >> 32) if buys > 0 else NO_ASK
    s.next_sell = book.shelves[U(SELLS), U(sells - 1)] >> 32 if sells > 0 else NO_BID


@hot_kernel
def trigger(book: Any, s: Any, first: int) -> bool:
    """Queue the stops that an order triggered, whose first trade was at `first` (NO_BID: it had none).

    Returns whether there are any.
    """
    if first == NO_BID:
        return False
    low, high = min(first, s.last), max(first, s.last)
    triggered = high >= s.next_buy or low <= s.next_sell
    if triggered:
        _trigger(book, low, high)
    return triggered


@rare_kernel
def _trigger(book: Any, low: int, high: int) -> None:
    # trades from `low` to `high`; `mmsim.book.naive_book` has the rule in plain words
    s = book.state[0]
    for shelf in (BUYS, SELLS):
        while s.shelved[shelf] > 0:
            key = book.shelves[U(shelf), U(s.shelved[shelf] - 1)] >> 32
            if (-key > high) if shelf == BUYS else (key < low):
                break
            level = book.levels[U(shelf_level(book, shelf, key, FIND))]
            if s.pending == 0:
                s.pending = np.int64(level.head)
            else:
                book.orders[U(s.pending_tail)].next = level.head
            s.pending_tail = np.int64(level.tail)
            shelf_drop(book, shelf, key)
    _find_next(book)
