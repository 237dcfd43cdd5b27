"""What compiled code reads out of a book: one order, or all of them as requests."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import kernel
from mmsim.book import layout as L
from mmsim.book.handle import book_at
from mmsim.book.rows import FOUND, LOW, ROW, U, slot_of
from mmsim.book.shelves import BUYS, DOWN, FAR_SHELF, FIND, SELLS, UP, next_price, shelf_level


@kernel
def look(handle: Any, oid: int) -> int:
    """Return the row of order `oid` (+ STOPPED), 0 if it is not in the book; ``state.ahead``: lots before it."""
    book = book_at(handle)
    found = book.slots[U(slot_of(book, oid))] & FOUND
    if found == 0:
        return np.int64(0)
    ahead = np.int64(0)
    row = np.int64(book.orders[U(found & ROW)].prev)
    while row != 0:
        ahead += book.orders[U(row)].qty
        row = np.int64(book.orders[U(row)].prev)
    book.state[0].ahead = ahead
    return found


@kernel
def _write_queue(book: Any, at: int, side: int, stops: bool, out: Any, n: int) -> int:
    # Writes the orders of one queue from ``out[n]`` on.
    row = np.int64(book.levels[U(at)].head)
    while row != 0:
        order, more, request = book.orders[U(row)], book.extra[U(row)], out[n]
        request.oid = more.oid
        request.px = more.limit if stops else order.px
        request.qty = order.qty
        request.display = more.display
        request.stop = order.px if stops else more.reserve
        request.owner = more.owner
        request["flags"] = more["flags"] if stops else 0
        if stops:
            request.verb = more.verb
        else:
            request.verb = L.LIMIT if more.display == 0 else L.LOAD
        request.side = side
        row = np.int64(order.next)
        n += 1
    return n


@kernel
def export(handle: Any, out: Any) -> None:
    """Write the book as the requests that make it: bids, asks (first to trade first), buy and sell stops."""
    book = book_at(handle)
    s = book.state[0]
    n = np.int64(0)
    for side, step in ((1, DOWN), (-1, UP)):
        px = s.best_bid if side > 0 else s.best_ask
        while px != L.NO_BID and px != L.NO_ASK:
            at = px - s.origin
            if at < 1 or at > s.width:
                at = shelf_level(book, FAR_SHELF, px, FIND)
            n = _write_queue(book, at, side, False, out, n)
            px = next_price(book, s, px, step)
    for side, shelf in ((1, BUYS), (-1, SELLS)):
        for i in range(s.shelved[shelf] - 1, -1, -1):
            n = _write_queue(book, book.shelves[U(shelf), U(i)] & LOW, side, True, out, n)
