"""Every order type: one request of any kind, and the stops that it triggers.

`mmsim.book.engine.execute` handles plain orders by itself and calls `proceed` for all others, and for what
is left of any order when ``matches`` had no room. The order being executed stands in ``state.hand``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import rare_kernel
from mmsim.book import layout as L
from mmsim.book.queues import BOOK_FULL, TRIGGERED, release, report, rest, take, withdraw
from mmsim.book.rows import FOUND, ROW, U, enter, slot_of
from mmsim.book.shelves import FAR_SHELF, FIND, level_of, next_price, shelf_level
from mmsim.book.stops import stop_waiting, trigger, wait

_WHOLE = L.IOC | L.FOK  # nothing of it rests
_NONE, _STOPPED = np.int64(0), np.int64(L.STOPPED)
_NO_ROOM = 1  # besides the status codes: ``state.why`` stands in the way


@rare_kernel
def _wrong(verb: int, side: int, px: int, qty: int, display: int, stop: int, flags: int) -> int:
    # What is wrong with a request for a new or changed order, DONE if nothing is.
    if verb < L.LIMIT or verb > L.LOAD:
        return L.BAD_VERB
    if side != 1 and side != -1:
        return L.BAD_SIDE
    if qty <= 0:
        return L.BAD_QTY
    if px < -L.MAX_PX and verb != L.MARKET and verb != L.STOP:
        return L.BAD_PRICE
    if stop < -L.MAX_PX and (verb == L.STOP or verb == L.STOP_LIMIT):
        return L.BAD_PRICE
    kind = flags & L.KINDS
    if flags & ~L.ALL_FLAGS or kind & (kind - 1):
        return L.BAD_FLAGS
    if (verb == L.MARKET or verb == L.STOP) and kind & (L.POST_ONLY | L.SLIDE):
        return L.BAD_FLAGS
    if verb == L.LOAD:
        if flags != 0:
            return L.BAD_FLAGS
        if stop < 0 or qty + stop > L.MAX_QTY:
            return L.BAD_QTY
        if display < qty or stop > display * (L.MAX_TIPS - 1):
            return L.BAD_DISPLAY
    elif display != 0:
        if display < 0 or display > qty or qty > display * L.MAX_TIPS or kind & _WHOLE:
            return L.BAD_DISPLAY
        if verb == L.MARKET or verb == L.STOP or verb == L.REPLACE:
            return L.BAD_DISPLAY
    return L.DONE


@rare_kernel
def _shrink(book: Any, row: int, by: int) -> None:
    # A smaller order, in its place: the hidden lots go first.
    order, more = book.orders[U(row)], book.extra[U(row)]
    hidden = min(by, np.int64(more.reserve))
    more.reserve = np.int64(more.reserve) - hidden
    order.qty = np.int64(order.qty) - (by - hidden)
    book.levels[U(level_of(book, book.state[0], np.int64(order.px), FIND))].qty -= by - hidden


@rare_kernel
def _lots(book: Any, row: int) -> int:
    # all that an order has
    return np.int64(book.orders[U(row)].qty) + np.int64(book.extra[U(row)].reserve)


@rare_kernel
def _withdrawal(book: Any, found: int, cancel: bool, by: int) -> int:
    # CANCEL and REDUCE of the order in row `found` (+ STOPPED); a status code.
    s = book.state[0]
    row = found & ROW
    if row == 0:
        return L.BAD_ORDER
    total = _lots(book, row)
    if cancel:
        s.resting = total
    elif by <= 0 or by > total:
        return L.BAD_QTY
    else:
        s.resting = total - by
    if cancel or by == total:
        if found != row:
            stop_waiting(book, row)
        else:
            withdraw(book, s, row)
        release(book, row)
    elif found != row:
        book.orders[U(row)].qty = total - by
        book.extra[U(row)].display = min(np.int64(book.extra[U(row)].display), total - by)
    else:
        _shrink(book, row, by)
    return L.DONE


@rare_kernel
def _fillable(book: Any) -> bool:
    # Whether the order in hand would trade in full at its limit or better, hidden lots included.
    s, hand, orders, extra = book.state[0], book.state[0].hand, book.orders, book.extra
    stp, left = hand.terms & L.STP_BOTH, hand.left
    px = s.best_ask if hand.side > 0 else s.best_bid
    while (px <= hand.limit) if hand.side > 0 else (px >= hand.limit):
        at = px - s.origin
        if at < 1 or at > s.width:
            at = shelf_level(book, FAR_SHELF, px, FIND)
        hidden = np.int64(0)
        row = np.int64(book.levels[U(at)].head)
        while row != 0:
            if stp != 0 and hand.owner != 0 and extra[U(row)].owner == hand.owner:
                if stp != L.STP_RESTING:
                    return False  # it is met before any refill behind it, and stops the order
            else:
                left -= orders[U(row)].qty
                hidden += extra[U(row)].reserve
                if left <= 0:
                    return True
            row = np.int64(orders[U(row)].next)
        left -= hidden
        if left <= 0:
            return True
        px = next_price(book, s, px, hand.side)
    return False


@rare_kernel
def _take_in_hand(book: Any, request: Any, matches: Any) -> int:
    # Reads a new request. A status code; DONE with nothing in hand: it is seen to already.
    s, hand, orders, extra = book.state[0], book.state[0].hand, book.orders, book.extra
    verb, oid, stop = np.int64(request.verb), request.oid, np.int64(request.stop)
    hand.left = np.int64(request.qty)
    row = book.slots[U(slot_of(book, oid))] & FOUND
    if verb == L.CANCEL or verb == L.REDUCE:
        return _withdrawal(book, row, verb == L.CANCEL, hand.left)
    hand.oid = oid
    hand.limit = np.int64(request.px)
    hand.side = np.int64(request.side)
    hand.terms = np.int64(request["flags"])
    hand.display = np.int64(request.display)
    hand.owner = np.int64(request.owner)
    hand.replaces = verb == L.REPLACE
    hand.row = hand.tip = hand.started = 0
    if hand.replaces:
        if row == 0 or row & L.STOPPED:
            return L.BAD_ORDER
        hand.row = row
        hand.side = 1 if orders[U(row)].px <= s.best_bid else -1
        hand.owner = np.int64(extra[U(row)].owner)
    code = _wrong(verb, hand.side, hand.limit, hand.left, hand.display, stop, hand.terms)
    if code == L.DONE and hand.replaces:
        hand.display = np.int64(extra[U(row)].display)
        if hand.display != 0 and hand.left > hand.display * L.MAX_TIPS:
            code = L.BAD_DISPLAY
    elif code == L.DONE and (row != 0 or oid == 0):
        code = L.BAD_ORDER
    if code != L.DONE:
        return code
    if s.n_matches == len(matches):
        return _NO_ROOM
    if not hand.replaces and s.free == 0 and s.top == len(orders):
        s.why = L.NO_ROWS
        return _NO_ROOM
    if verb == L.LOAD:
        hand.tip = hand.left
        hand.left += stop
        hand.terms = L.POST_ONLY
    elif verb == L.STOP or verb == L.STOP_LIMIT:
        if s.last == L.NO_BID or ((s.last < stop) if hand.side > 0 else (s.last > stop)):
            row = enter(book, s, slot_of(book, oid), oid, hand.owner, _STOPPED)
            extra[U(row)].reserve = 0
            extra[U(row)].display = hand.display
            extra[U(row)].limit = hand.limit
            extra[U(row)]["flags"] = hand.terms
            extra[U(row)].verb = verb
            extra[U(row)].side = hand.side
            wait(book, row, hand.side, stop, hand.left)
            s.resting = hand.left
            return L.DONE
        report(s, matches, TRIGGERED, _NONE, oid, stop, hand.left, _NONE, hand.owner, hand.side)
    hand.kind = L.REQUESTED
    if verb == L.MARKET or verb == L.STOP:
        _without_limit(hand)
    return L.DONE


@rare_kernel
def _without_limit(hand: Any) -> None:
    hand.limit = hand.side * L.ANY_PX
    hand.terms |= L.IOC


@rare_kernel
def _take_stop_in_hand(book: Any, matches: Any) -> None:
    # The next of the stops that were triggered.
    s, hand = book.state[0], book.state[0].hand
    row = s.pending
    order, more = book.orders[U(row)], book.extra[U(row)]
    s.pending = np.int64(order.next)
    hand.kind = L.TRIGGERED_STOP
    hand.started = hand.replaces = hand.tip = 0
    hand.row = row
    hand.oid = more.oid
    hand.owner = np.int64(more.owner)
    hand.side = np.int64(more.side)
    hand.limit = np.int64(more.limit)
    hand.left = np.int64(order.qty)
    hand.display = np.int64(more.display)
    hand.terms = np.int64(more["flags"])
    if more.verb == L.STOP:
        _without_limit(hand)
    book.slots[U(slot_of(book, more.oid))] &= ~L.STOPPED
    report(
        s, matches, TRIGGERED, _NONE, hand.oid, np.int64(order.px), hand.left, _NONE, hand.owner, hand.side
    )


@rare_kernel
def _tested(book: Any) -> int:
    # What the flags of the order in hand say about it: DONE or why it is refused. SLIDE moves its limit.
    s, hand = book.state[0], book.state[0].hand
    crosses = s.best_ask <= hand.limit if hand.side > 0 else s.best_bid >= hand.limit
    if hand.terms & L.FOK:
        return L.DONE if _fillable(book) else L.FOK_KILLED
    if crosses and hand.terms & L.SLIDE:
        hand.limit = s.best_ask - 1 if hand.side > 0 else s.best_bid + 1
        return L.DONE if abs(hand.limit) <= L.MAX_PX else L.POST_ONLY_REJECT
    return L.POST_ONLY_REJECT if crosses and hand.terms & L.POST_ONLY else L.DONE


@rare_kernel
def _stays(book: Any, code: int) -> bool:
    # Whether an order that is to be replaced stays where it is: refused, unchanged, or smaller at its price.
    s, hand = book.state[0], book.state[0].hand
    total = _lots(book, hand.row)
    if code == L.DONE and (book.orders[U(hand.row)].px != hand.limit or hand.left > total):
        return False
    s.resting = total
    if code == L.DONE and hand.left < total:
        _shrink(book, hand.row, total - hand.left)
        s.resting = hand.left
    return True


@rare_kernel
def _rest_or_drop(book: Any) -> None:
    # What is left of the order in hand after its trades.
    s, hand = book.state[0], book.state[0].hand
    if hand.left > 0 and not hand.terms & _WHOLE:
        if hand.row == 0:
            hand.row = enter(book, s, slot_of(book, hand.oid), hand.oid, hand.owner, _NONE)
        shown = hand.left
        if hand.display != 0:
            shown = hand.tip if hand.tip != 0 else min(hand.display, hand.left)
        book.extra[U(hand.row)].reserve = hand.left - shown
        book.extra[U(hand.row)].display = hand.display
        rest(book, s, hand.row, hand.side, hand.limit, shown)
    else:
        hand.left = 0
        if hand.row != 0:  # a replaced order or a stop of which nothing is left
            release(book, hand.row)


@rare_kernel
def proceed(book: Any, requests: Any, k: int, statuses: Any, matches: Any) -> bool:
    """Execute request `k`, or what is left of it; False if ``state.why`` stands in the way."""
    s, hand = book.state[0], book.state[0].hand
    s.why = L.FULL
    if hand.kind == L.NOTHING and s.pending == 0:
        code = _take_in_hand(book, requests[U(k)], matches)
        if code == _NO_ROOM:
            return False
        if hand.kind == L.NOTHING:
            statuses[U(k)] = code
            return True

    # the order in hand, then the stops that were triggered, one after the other
    while True:
        if hand.kind == L.NOTHING:
            if s.pending == 0:
                return True
            if s.n_matches == len(matches):
                return False
            _take_stop_in_hand(book, matches)
        code = np.int64(L.DONE)
        if not hand.started:
            hand.first = L.NO_BID
            code = _tested(book)
            if hand.replaces:
                if _stays(book, code):
                    statuses[U(k)] = code
                    hand.kind = L.NOTHING
                    continue
                withdraw(book, s, hand.row)
            if code != L.DONE:
                hand.left = 0
            hand.started = 1
        if hand.left > 0:
            hand.left, hand.first, code = take(
                book,
                s,
                matches,
                hand.oid,
                hand.owner,
                hand.side,
                hand.limit,
                hand.left,
                hand.terms,
                hand.first,
            )
            if code == BOOK_FULL:
                return False
        _rest_or_drop(book)
        if hand.kind == L.REQUESTED:
            s.resting = hand.left
            statuses[U(k)] = code
        hand.kind = L.NOTHING
        trigger(book, s, hand.first)
