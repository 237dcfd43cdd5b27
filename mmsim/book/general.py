"""The rules of the engine in full: one request of any kind, and the stops that it sets off.

`mmsim.book.engine.execute` handles plain orders by itself and calls `proceed` for everything else, at
times in the middle of an order: whatever is in hand stands in ``words``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import kernel
from mmsim.book import layout as L
from mmsim.book.shelves import (
    ADD,
    DOWN,
    FAR_SHELF,
    FIND,
    ROW,
    UP,
    U,
    beyond,
    far_level,
    fillable,
    park,
    release,
    set_off,
    shelf_drop,
    slot_of,
    tag_of,
    unpark,
    withdraw,
)

_CAREFUL = L.POST_ONLY | L.SLIDE | L.FOK
_WHOLE = L.IOC | L.FOK  # nothing of it rests
_NONE = np.int64(0)
_TRADE, _REMOVED, _TRIGGERED = np.int64(L.TRADE), np.int64(L.REMOVED), np.int64(L.TRIGGERED)


@kernel
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


@kernel
def _log(
    words: Any, matches: Any, kind: int, maker: int, taker: int, px: int, qty: int, owners: int, side: int
) -> None:
    # `owners`: the maker's << 16 | the taker's
    row = matches[U(words[L.N_MATCHES])]
    row["maker"] = maker
    row["taker"] = taker
    row["px"] = px
    row["qty"] = qty
    row["maker_owner"] = owners >> 16
    row["taker_owner"] = owners & 0xFFFF
    row["kind"] = kind
    row["side"] = side
    words[L.N_MATCHES] += 1


@kernel
def new_row(words: Any, orders: Any, extra: Any, oid: int, owner: int, stopped: int) -> int:
    """Take a free row for order `oid` and enter it in the hash table; the caller knows that there is one."""
    row = words[L.FREE]
    if row != 0:
        words[L.FREE] = np.int64(orders[U(row)]["next"])
    else:
        row = words[L.TOP]
        words[L.TOP] = row + 1
    words[L.LIVE] += 1
    extra[U(row)]["oid"] = oid
    extra[U(row)]["owner"] = owner
    words[U(slot_of(words, extra, oid, words[L.HASH_AT], words[L.HASH_SHIFT]))] = (
        (tag_of(oid) << 32) | stopped | row
    )
    return row


@kernel
def _shrink(words: Any, orders: Any, extra: Any, levels: Any, row: int, by: int) -> None:
    # A smaller order, in its place: the hidden lots go first.
    reserve = np.int64(extra[U(row)]["reserve"])
    hidden = min(by, reserve)
    by -= hidden
    extra[U(row)]["reserve"] = reserve - hidden
    orders[U(row)]["qty"] = orders[U(row)]["qty"] - by
    px = np.int64(orders[U(row)]["px"])
    at = px - words[L.BASE]
    if at < 1 or at > words[L.WIDTH]:
        at = far_level(words, levels, px, FIND)
    levels[U(at)]["qty"] -= by


@kernel
def _trade(words: Any, orders: Any, extra: Any, levels: Any, px: int, side: int, done: int) -> None:
    # The oldest order at `px` loses `done` lots to an order of side `side`; an iceberg shows its next ones.
    at = px - words[L.BASE]
    far = at < 1 or at > words[L.WIDTH]
    if far:
        at = far_level(words, levels, px, FIND)
    maker = np.int64(levels[U(at)]["head"])
    shown = np.int64(orders[U(maker)]["qty"])
    levels[U(at)]["qty"] -= done
    if done < shown:
        orders[U(maker)]["qty"] = shown - done
        return
    younger = np.int64(orders[U(maker)]["next"])
    reserve = np.int64(extra[U(maker)]["reserve"])
    if reserve > 0:
        shown = min(reserve, np.int64(extra[U(maker)]["display"]))
        extra[U(maker)]["reserve"] = reserve - shown
        orders[U(maker)]["qty"] = shown
        levels[U(at)]["qty"] += shown
        if younger != 0:  # to the back
            tail = np.int64(levels[U(at)]["tail"])
            levels[U(at)]["head"] = younger
            levels[U(at)]["tail"] = maker
            orders[U(younger)]["prev"] = 0
            orders[U(tail)]["next"] = maker
            orders[U(maker)]["prev"] = tail
            orders[U(maker)]["next"] = 0
        return
    levels[U(at)]["head"] = younger
    if younger != 0:
        orders[U(younger)]["prev"] = 0
    else:
        levels[U(at)]["tail"] = 0
    release(words, orders, extra, maker)
    if levels[U(at)]["qty"] == 0:
        if far:
            shelf_drop(words, levels, FAR_SHELF, px)
        if side > 0:
            words[L.BEST_ASK] = beyond(words, levels, px, UP)
        else:
            words[L.BEST_BID] = beyond(words, levels, px, DOWN)


@kernel
def _rest(words: Any, orders: Any, levels: Any, row: int, side: int, px: int, shown: int) -> None:
    # Appends an order to the queue at `px`.
    at = px - words[L.BASE]
    if at < 1 or at > words[L.WIDTH]:
        at = far_level(words, levels, px, ADD)
    tail = np.int64(levels[U(at)]["tail"])
    orders[U(row)]["px"] = px
    orders[U(row)]["qty"] = shown
    orders[U(row)]["prev"] = tail
    orders[U(row)]["next"] = 0
    if tail != 0:
        orders[U(tail)]["next"] = row
    else:
        levels[U(at)]["head"] = row
    levels[U(at)]["tail"] = row
    levels[U(at)]["qty"] += shown
    if side > 0:
        words[L.BEST_BID] = max(words[L.BEST_BID], px)
    else:
        words[L.BEST_ASK] = min(words[L.BEST_ASK], px)


@kernel
def _withdrawal(words: Any, orders: Any, extra: Any, levels: Any, found: int, cancel: bool, by: int) -> int:
    # CANCEL and REDUCE of the order in row `found` (+ STOPPED); a status code.
    row = found & ROW
    if row == 0:
        return L.BAD_ORDER
    total = np.int64(orders[U(row)]["qty"]) + np.int64(extra[U(row)]["reserve"])
    if cancel:
        words[L.RESTING] = total
    elif by <= 0 or by > total:
        return L.BAD_QTY
    else:
        words[L.RESTING] = total - by
    if cancel or by == total:
        if found != row:
            unpark(words, orders, extra, levels, row)
        else:
            withdraw(words, orders, levels, row)
        release(words, orders, extra, row)
    elif found != row:
        orders[U(row)]["qty"] = total - by
        extra[U(row)]["display"] = min(np.int64(extra[U(row)]["display"]), total - by)
    else:
        _shrink(words, orders, extra, levels, row, by)
    return L.DONE


@kernel
def proceed(
    words: Any,
    orders: Any,
    extra: Any,
    levels: Any,
    requests: Any,
    k: int,
    statuses: Any,
    matches: Any,
) -> bool:
    """Execute request `k`, or what is left of it; False if ``words[WHY]`` stands in the way."""
    cap = np.int64(len(matches))
    hand = words[L.HAND]  # 0: no order in hand, 1: the request's, 2: a stop's
    started = hand != 0  # it has passed the tests of its flags
    row, side, limit, left = words[L.HAND_ROW], words[L.HAND_SIDE], words[L.HAND_LIMIT], words[L.HAND_LEFT]
    display, owner, flags = words[L.HAND_DISPLAY], words[L.HAND_OWNER], words[L.HAND_FLAGS]
    oid, first = words[L.HAND_OID], words[L.HAND_FIRST]
    words[L.HAND] = 0
    words[L.WHY] = L.FULL
    tip = _NONE
    replaced = False
    if hand == 0 and words[L.PENDING] == 0:
        verb = np.int64(requests[U(k)]["verb"])
        oid = requests[U(k)]["oid"]
        left = np.int64(requests[U(k)]["qty"])
        row = words[U(slot_of(words, extra, oid, words[L.HASH_AT], words[L.HASH_SHIFT]))] & (ROW | L.STOPPED)
        if verb == L.CANCEL or verb == L.REDUCE:
            statuses[U(k)] = _withdrawal(words, orders, extra, levels, row, verb == L.CANCEL, left)
            return True
        limit = np.int64(requests[U(k)]["px"])
        side = np.int64(requests[U(k)]["side"])
        flags = np.int64(requests[U(k)]["flags"])
        display = np.int64(requests[U(k)]["display"])
        stop = np.int64(requests[U(k)]["stop"])
        owner = np.int64(requests[U(k)]["owner"])
        replaced = verb == L.REPLACE
        code = L.DONE
        if replaced:
            if row == 0 or row & L.STOPPED:
                code = L.BAD_ORDER
            else:
                side = 1 if orders[U(row)]["px"] <= words[L.BEST_BID] else -1
                owner = np.int64(extra[U(row)]["owner"])
                code = _wrong(verb, side, limit, left, display, stop, flags)
                display = np.int64(extra[U(row)]["display"])
                if code == L.DONE and display != 0 and left > display * L.MAX_TIPS:
                    code = L.BAD_DISPLAY
        else:
            code = _wrong(verb, side, limit, left, display, stop, flags)
            if code == L.DONE and (row != 0 or oid == 0):
                code = L.BAD_ORDER
            row = _NONE
        if code != L.DONE:
            statuses[U(k)] = code
            return True
        if words[L.N_MATCHES] == cap:
            return False
        if not replaced and words[L.FREE] == 0 and words[L.TOP] > words[L.SHELF_SIZE]:
            words[L.WHY] = L.NO_ROWS
            return False
        if verb == L.LOAD:
            tip = left
            left += stop
            flags = L.POST_ONLY
        elif verb == L.STOP or verb == L.STOP_LIMIT:
            last = words[L.LAST]
            if last == L.NO_BID or ((last < stop) if side > 0 else (last > stop)):
                row = new_row(words, orders, extra, oid, owner, L.STOPPED)
                extra[U(row)]["reserve"] = 0
                extra[U(row)]["display"] = display
                extra[U(row)]["limit"] = limit
                extra[U(row)]["flags"] = flags
                extra[U(row)]["verb"] = verb
                extra[U(row)]["side"] = side
                park(words, orders, levels, row, side, stop, left)
                words[L.RESTING] = left
                statuses[U(k)] = L.DONE
                return True
            _log(words, matches, _TRIGGERED, _NONE, oid, stop, left, owner, side)
        if verb == L.MARKET or verb == L.STOP:
            limit = side * L.ANY_PX
            flags |= L.IOC
        hand = np.int64(1)

    # the order in hand, then the stops that were set off, one after the other
    while True:
        if hand == 0:
            row = words[L.PENDING]
            if row == 0:
                return True
            if words[L.N_MATCHES] == cap:
                return False
            words[L.PENDING] = np.int64(orders[U(row)]["next"])
            left = np.int64(orders[U(row)]["qty"])
            oid = extra[U(row)]["oid"]
            side = np.int64(extra[U(row)]["side"])
            limit = np.int64(extra[U(row)]["limit"])
            display = np.int64(extra[U(row)]["display"])
            owner = np.int64(extra[U(row)]["owner"])
            flags = np.int64(extra[U(row)]["flags"])
            if extra[U(row)]["verb"] == L.STOP:
                limit = side * L.ANY_PX
                flags |= L.IOC
            words[U(slot_of(words, extra, oid, words[L.HASH_AT], words[L.HASH_SHIFT]))] &= ~L.STOPPED
            _log(words, matches, _TRIGGERED, _NONE, oid, np.int64(orders[U(row)]["px"]), left, owner, side)
            hand = np.int64(2)
            started = False
            replaced = False
        code = L.DONE
        if not started:
            first = L.NO_BID
            crosses = words[L.BEST_ASK] <= limit if side > 0 else words[L.BEST_BID] >= limit
            if flags & L.FOK:
                stp = flags & L.STP_BOTH
                if not fillable(words, orders, extra, levels, side, limit, left, owner, stp):
                    code = L.FOK_KILLED
            elif crosses and flags & L.SLIDE:
                limit = words[L.BEST_ASK] - 1 if side > 0 else words[L.BEST_BID] + 1
                if limit < -L.MAX_PX or limit > L.MAX_PX:
                    code = L.POST_ONLY_REJECT
            elif crosses and flags & L.POST_ONLY:
                code = L.POST_ONLY_REJECT
            if replaced:
                total = np.int64(orders[U(row)]["qty"]) + np.int64(extra[U(row)]["reserve"])
                if code != L.DONE or (orders[U(row)]["px"] == limit and left <= total):
                    # it stays: as it was, or smaller in its place
                    words[L.RESTING] = total
                    if code == L.DONE and left < total:
                        _shrink(words, orders, extra, levels, row, total - left)
                        words[L.RESTING] = left
                    statuses[U(k)] = code
                    hand = _NONE
                    continue
                withdraw(words, orders, levels, row)
            if code != L.DONE:
                left = _NONE
        started = True

        # -- trade what crosses, best price and oldest first -----------------------------------------
        while left > 0:
            px = words[L.BEST_ASK] if side > 0 else words[L.BEST_BID]
            if px > limit if side > 0 else px < limit:
                break
            if words[L.N_MATCHES] + 2 > cap:
                words[L.HAND], words[L.HAND_ROW], words[L.HAND_SIDE], words[L.HAND_LIMIT] = (
                    hand,
                    row,
                    side,
                    limit,
                )
                words[L.HAND_LEFT], words[L.HAND_DISPLAY], words[L.HAND_OWNER] = left, display, owner
                words[L.HAND_FLAGS], words[L.HAND_OID], words[L.HAND_FIRST] = flags, oid, first
                return False
            at = px - words[L.BASE]
            if at < 1 or at > words[L.WIDTH]:
                at = far_level(words, levels, px, FIND)
            maker = np.int64(levels[U(at)]["head"])
            shown = np.int64(orders[U(maker)]["qty"])
            theirs = np.int64(extra[U(maker)]["owner"])
            their_id = extra[U(maker)]["oid"]
            owners = (theirs << 16) | owner
            if flags & L.STP_BOTH and owner != 0 and theirs == owner:
                if flags & L.STP_RESTING:
                    total = shown + np.int64(extra[U(maker)]["reserve"])
                    _log(words, matches, _REMOVED, their_id, oid, px, total, owners, side)
                    withdraw(words, orders, levels, maker)
                    release(words, orders, extra, maker)
                if flags & L.STP_INCOMING:
                    _log(words, matches, _REMOVED, oid, oid, px, left, owners, side)
                    left = _NONE
                    code = L.SELF_TRADE
                continue
            done = min(shown, left)
            _log(words, matches, _TRADE, their_id, oid, px, done, owners, side)
            _trade(words, orders, extra, levels, px, side, done)
            left -= done
            words[L.LAST] = px
            if first == L.NO_BID:
                first = px

        # -- rest the remainder ------------------------------------------------------------------------
        if left > 0 and not flags & _WHOLE:
            if row == 0:
                row = new_row(words, orders, extra, oid, owner, _NONE)
            shown = left
            if display != 0:
                shown = min(display, left)
                if tip != 0:
                    shown = tip
            extra[U(row)]["reserve"] = left - shown
            extra[U(row)]["display"] = display
            _rest(words, orders, levels, row, side, limit, shown)
        else:
            left = _NONE
            if row != 0:  # a replaced order or a stop of which nothing is left
                release(words, orders, extra, row)
        if hand == 1:
            words[L.RESTING] = left
            statuses[U(k)] = code
        hand = _NONE
        if first != L.NO_BID:
            low, high = min(first, words[L.LAST]), max(first, words[L.LAST])
            if high >= words[L.NEXT_BUY] or low <= words[L.NEXT_SELL]:
                set_off(words, orders, levels, low, high)
