"""The matching engine: every order type in one compiled loop over an array of requests.

One function serves an array of millions, a single call from `OrderBook` and each of many books. Plain limit
and market orders and cancellations are executed here; they touch one row of ``orders``, one of ``extra``, one
of ``levels`` and one slot of the hash table each. Everything else is left to `mmsim.book.order_types`. Both
follow the rules in `mmsim.book.queues`. Nothing allocates or raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import borrow, hot_kernel, kernel
from mmsim.book import layout as L
from mmsim.book.handle import book_at
from mmsim.book.order_types import proceed
from mmsim.book.queues import BOOK_FULL, rest, take, withdraw
from mmsim.book.rows import FOUND, ROW, U, enter, expect, leave, slot_of
from mmsim.book.stops import trigger

_FIRST, _NONE, _NO_PX = np.int64(0), np.int64(0), np.int64(L.NO_BID)
_SOON = 2  # requests ahead whose slot is fetched: measured
_OTHER, _DONE, _LEFT = 0, 1, 2  # what `_plain` made of a request
IN_STATE = np.int64(-(1 << 63))


@kernel
def execute(handle: Any, requests: Any, start: int, statuses: Any, matches: Any) -> int:
    """Execute ``requests[start:]`` in order; return how far it came.

    Each request's status code goes to `statuses`; a wrong one changes nothing and does not stop the rest.
    ``state.why`` says why it returned: FINISHED; FULL: `matches` is, drain it and set ``state.n_matches`` to 0;
    NO_ROWS: no order more fits; CROWDED: the window stands badly. Call again from there, with the same
    requests. `matches` must have room for two rows at least.
    """
    book = book_at(handle)
    s = book.state[0]
    requests, statuses, matches = borrow(requests), borrow(statuses), borrow(matches)
    k, end = np.int64(start), np.int64(len(requests))
    s.why = L.FINISHED
    unfinished = s.hand.kind != L.NOTHING or s.pending != 0  # left from the last call
    while k < end or unfinished:
        if k + _SOON < end:
            expect(book, requests[U(k + _SOON)].oid)
        if not unfinished:
            come = _plain(book, s, requests[U(k)], matches)
            if come != _OTHER:
                statuses[U(k)] = L.DONE
                if come == _DONE:
                    k += 1
                    continue
        unfinished = False
        if not proceed(book, requests, k, statuses, matches):
            return k
        s.why = L.FINISHED
        k += 1
        if s.far_uses > s.far_limit:
            s.why = L.CROWDED
            return k
    return k


@hot_kernel
def _plain(book: Any, s: Any, request: Any, matches: Any) -> int:
    # Executes a request without conditions. _OTHER: it is another one, and nothing has happened; _LEFT: `proceed`
    # goes on with what is left of it when `matches` is full, or with the stops that it triggered.
    verb, oid = np.int64(request.verb), request.oid
    slot = slot_of(book, oid)
    row = book.slots[U(slot)] & FOUND
    if verb == L.CANCEL:
        if row == 0 or row > ROW:
            return _OTHER
        s.resting = np.int64(book.orders[U(row)].qty) + np.int64(book.extra[U(row)].reserve)
        withdraw(book, s, row)
        leave(book, s, slot, row)
        return _DONE
    limit, side, left = np.int64(request.px), np.int64(request.side), np.int64(request.qty)
    at = limit - s.origin
    if (
        verb > L.MARKET
        or verb < L.LIMIT
        or (np.int64(request["flags"]) | np.int64(request.display)) != 0
        or row != 0
        or oid == 0
        or left <= 0
        or (side != 1 and side != -1)
        or (s.free == 0 and s.top == len(book.orders))
        or (verb == L.LIMIT and (at < 1 or at > s.width))
        or s.n_matches == len(matches)
    ):
        return _OTHER
    owner = np.int64(request.owner)
    if verb == L.MARKET:
        limit = side * L.ANY_PX
    left, first, code = take(book, s, matches, oid, owner, side, limit, left, _NONE, _NO_PX)
    if code == BOOK_FULL:
        hand = s.hand
        hand.kind, hand.started, hand.replaces = L.REQUESTED, 1, 0
        hand.row = hand.display = hand.tip = 0
        hand.oid, hand.owner, hand.side, hand.limit = oid, owner, side, limit
        hand.left, hand.first = left, first
        hand.terms = L.IOC if verb == L.MARKET else 0
        return _LEFT
    if verb == L.MARKET:
        left = _NONE
    if left > 0:
        if first != L.NO_BID:
            slot = slot_of(book, oid)  # slots have moved since
        row = enter(book, s, slot, oid, owner, _NONE)
        book.extra[U(row)].reserve = 0
        book.extra[U(row)].display = 0
        rest(book, s, row, side, limit, left)
    s.resting = left
    return _LEFT if trigger(book, s, first) else _DONE


@kernel
def execute_one(handle: Any, requests: Any, statuses: Any, matches: Any) -> int:
    """Execute the first request; return in one number what there is to say about it.

    ``state.resting`` if it was done without an event; ``-1 - n - (resting << 32)`` if it was done with `n`
    trades and nothing else; IN_STATE: it does not fit a number.
    """
    s = book_at(handle).state[0]
    s.n_matches = 0
    execute(handle, requests, _FIRST, statuses, matches)
    n = s.n_matches
    if s.why != L.FINISHED or statuses[0] != L.DONE:
        return IN_STATE
    for i in range(n):
        if matches[i].kind != L.TRADE:
            return IN_STATE
    return s.resting if n == 0 else -1 - n - (s.resting << 32)


@kernel
def execute_many(
    handles: Any, requests: Any, book: int, start: int, statuses: Any, matches: Any, ends: Any, n: int
) -> tuple[int, int, int]:
    """Execute ``requests[b]`` on every book from `book` on, its first ones from `start`.

    The arrays have one row per book; `matches` is shared, ``ends[b]`` is where those of book ``b`` end.
    Returns the book and the request where it stopped and the rows of `matches` in use;
    the book is ``len(handles)`` if it came to the end, otherwise its ``state.why`` says why it did not.
    """
    while book < len(handles):
        s = book_at(handles[book]).state[0]
        s.n_matches = n
        start = execute(handles[book], requests[book], start, statuses[book], matches)
        n = s.n_matches
        if s.why != L.FINISHED:
            return book, start, n
        ends[book] = n
        start = np.int64(0)
        book += 1
    return book, start, n
