"""The rules of a queue, each once: join it, leave it, trade with its oldest order.

Plain orders and every other type go through the same few functions, which LLVM puts into their callers.
``s`` is the book's state, ``at`` the row of a price in ``levels``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import hot_kernel, rare_kernel
from mmsim.bits import clear_bit, set_bit
from mmsim.book import layout as L
from mmsim.book.rows import U, leave, slot_of
from mmsim.book.shelves import ADD, DOWN, FAR_SHELF, FIND, UP, level_of, next_price, shelf_drop

TRADE, REMOVED, TRIGGERED = np.int64(L.TRADE), np.int64(L.REMOVED), np.int64(L.TRIGGERED)
_NONE = np.int64(0)
BOOK_FULL = 2  # besides the status codes: `take` needs more room in `matches`


@hot_kernel
def append(book: Any, at: int, row: int, px: int, qty: int) -> bool:
    """Let order `row` join the back of the queue, with `qty` lots; return whether it is alone."""
    orders, levels = book.orders, book.levels
    tail = np.int64(levels[U(at)].tail)
    orders[U(row)].px = px
    orders[U(row)].qty = qty
    orders[U(row)].prev = tail
    orders[U(row)].next = 0
    if tail != 0:
        orders[U(tail)].next = row
    else:
        levels[U(at)].head = row
    levels[U(at)].tail = row
    levels[U(at)].qty += qty
    return tail == 0


@hot_kernel
def unlink(book: Any, at: int, row: int, older: int, qty: int) -> bool:
    """Take order `row`, which stands behind `older` with `qty` lots, out of the queue.

    Returns whether the queue is empty now.
    """
    orders, levels = book.orders, book.levels
    younger = np.int64(orders[U(row)].next)
    if older != 0:
        orders[U(older)].next = younger
    else:
        levels[U(at)].head = younger
    if younger != 0:
        orders[U(younger)].prev = older
    else:
        levels[U(at)].tail = older
    levels[U(at)].qty -= qty
    return (older | younger) == 0


@hot_kernel
def vacate(book: Any, s: Any, at: int, px: int) -> None:
    """Let price `px` go, whose queue is empty now; if it was the best price, the next one is."""
    if at > s.width:
        shelf_drop(book, FAR_SHELF, px)
    else:
        clear_bit(book.occupied, at)
    if px == s.best_bid:
        s.best_bid = next_price(book, s, px, DOWN)
    elif px == s.best_ask:
        s.best_ask = next_price(book, s, px, UP)


@hot_kernel
def rest(book: Any, s: Any, row: int, side: int, px: int, shown: int) -> None:
    """Let order `row` join the queue of its price."""
    at = level_of(book, s, px, ADD)
    if append(book, at, row, px, shown) and at <= s.width:
        set_bit(book.occupied, at)
    if side > 0:
        s.best_bid = max(s.best_bid, px)
    else:
        s.best_ask = min(s.best_ask, px)


@hot_kernel
def withdraw(book: Any, s: Any, row: int) -> None:
    """Take resting order `row` out of the book; its row and its id stay taken."""
    order = book.orders[U(row)]
    px = np.int64(order.px)
    at = level_of(book, s, px, FIND)
    if unlink(book, at, row, np.int64(order.prev), np.int64(order.qty)):
        vacate(book, s, at, px)


@rare_kernel
def release(book: Any, row: int) -> None:
    """Forget the id of an order that has left its queue, and free its row."""
    leave(book, book.state[0], slot_of(book, book.extra[U(row)].oid), row)


@hot_kernel
def trade(book: Any, s: Any, at: int, row: int, px: int, shown: int, done: int) -> None:
    """Take `done` of its `shown` lots from order `row`, the oldest at its price; an iceberg shows more at the back."""
    more = book.extra[U(row)]
    if done < shown:
        book.orders[U(row)].qty = shown - done
        book.levels[U(at)].qty -= done
        return
    empty = unlink(book, at, row, _NONE, done)
    reserve = np.int64(more.reserve)
    if reserve > 0:
        shown = min(reserve, np.int64(more.display))
        more.reserve = reserve - shown
        append(book, at, row, px, shown)
        return
    leave(book, s, slot_of(book, more.oid), row)
    if empty:
        vacate(book, s, at, px)


@hot_kernel
def report(
    s: Any,
    matches: Any,
    kind: int,
    maker: int,
    taker: int,
    px: int,
    qty: int,
    theirs: int,
    owner: int,
    side: int,
) -> None:
    """Write one row of `matches`, which has room."""
    match = matches[U(s.n_matches)]
    match.maker = maker
    match.taker = taker
    match.px = px
    match.qty = qty
    match.maker_owner = theirs
    match.taker_owner = owner
    match.kind = kind
    match.side = side
    s.n_matches += 1


@hot_kernel
def take(
    book: Any,
    s: Any,
    matches: Any,
    oid: int,
    owner: int,
    side: int,
    limit: int,
    left: int,
    flags: int,
    first: int,
) -> tuple[int, int, int]:
    """Trade what crosses, best price and oldest first.

    Returns the lots left, the price of the first trade (`first` if there was none) and DONE, SELF_TRADE or
    BOOK_FULL.
    """
    while left > 0:
        px = s.best_ask if side > 0 else s.best_bid
        if px > limit if side > 0 else px < limit:
            break
        if s.n_matches + 2 > len(matches):
            return left, first, BOOK_FULL
        at = level_of(book, s, px, FIND)
        row = np.int64(book.levels[U(at)].head)
        shown = np.int64(book.orders[U(row)].qty)
        maker, theirs = book.extra[U(row)].oid, np.int64(book.extra[U(row)].owner)
        if flags & L.STP_BOTH and owner != 0 and theirs == owner:
            if flags & L.STP_RESTING:
                total = shown + np.int64(book.extra[U(row)].reserve)
                report(s, matches, REMOVED, maker, oid, px, total, theirs, owner, side)
                withdraw(book, s, row)
                release(book, row)
            if flags & L.STP_INCOMING:
                report(s, matches, REMOVED, oid, oid, px, left, theirs, owner, side)
                return np.int64(0), first, L.SELF_TRADE
            continue
        done = min(shown, left)
        report(s, matches, TRADE, maker, oid, px, done, theirs, owner, side)
        trade(book, s, at, row, px, shown, done)
        left -= done
        s.last = px
        if first == L.NO_BID:
            first = px
    return left, first, L.DONE
