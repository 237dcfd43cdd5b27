"""The matching engine: every order type in one compiled loop over an array of requests.

One function serves an array of millions, a single call from `OrderBook` and each of many books. It keeps
the best prices in registers and touches, for a plain order, one row of ``orders``, one of ``extra``, one
of ``levels`` and one pair of the hash table; what is rare lives in `mmsim.book.shelves`. Nothing here
allocates or raises. Where room is short it returns before the request that needs it, or between two
executions, and goes on from there when it is called again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import kernel
from mmsim.book import layout as L
from mmsim.book.shelves import (
    U,
    beyond,
    erase,
    far_level,
    fillable,
    park,
    release,
    set_off,
    shelf_drop,
    slot_of,
    unpark,
    withdraw,
)

_CAREFUL = L.POST_ONLY | L.SLIDE | L.FOK
_WHOLE = L.IOC | L.FOK  # nothing of it rests
_UNSTOP = L.STOPPED - 1
_NONE = np.int64(0)


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
def execute(
    words: Any,
    orders: Any,
    extra: Any,
    levels: Any,
    requests: Any,
    start: int,
    statuses: Any,
    matches: Any,
) -> int:
    """Execute ``requests[start:]`` in order; return how far it came.

    Each request's status code goes to `statuses`; a wrong one changes nothing and does not stop the rest.
    ``words[WHY]`` tells why it returned: FINISHED; FULL: `matches` is, drain it and set
    ``words[N_MATCHES]`` to 0; NO_ROWS: no order more fits; CROWDED: the window stands badly. Call again
    from there, with the same requests. `matches` must have room for two rows at least.
    """
    at_hash, shift = words[L.HASH_AT], words[L.HASH_SHIFT]
    base, width = words[L.BASE], words[L.WIDTH]
    bid, ask = words[L.BEST_BID], words[L.BEST_ASK]
    n, cap = words[L.N_MATCHES], np.int64(len(matches))
    n_rows = np.int64(len(orders))
    last = words[L.LAST]
    next_buy, next_sell = words[L.NEXT_BUY], words[L.NEXT_SELL]
    resting = words[L.RESTING]
    why = L.FINISHED
    hand = words[L.HAND]  # 0: no order in hand, 1: the request's, 2: a stop's
    carry = hand != 0 or words[L.PENDING] != 0
    started = hand != 0  # it has passed the tests of its flags
    row, side, limit, left = words[L.HAND_ROW], words[L.HAND_SIDE], words[L.HAND_LIMIT], words[L.HAND_LEFT]
    display, owner, flags = words[L.HAND_DISPLAY], words[L.HAND_OWNER], words[L.HAND_FLAGS]
    oid, first = words[L.HAND_OID], words[L.HAND_FIRST]
    words[L.HAND] = 0
    tip, pair, fresh, replaced = _NONE, _NONE, False, False
    stop_n = np.int64(len(requests))
    k = np.int64(start)
    while k < stop_n or carry:
        if not carry:
            verb = np.int64(requests[U(k)]["verb"])
            oid = requests[U(k)]["oid"]
            left = np.int64(requests[U(k)]["qty"])
            pair = slot_of(words, oid, at_hash, shift)
            known = words[U(pair)] == oid and oid != 0
            row = words[U(pair + 1)] if known else _NONE
            if verb == L.CANCEL or verb == L.REDUCE:
                code = L.DONE
                gone = verb == L.CANCEL
                stopped = (row & L.STOPPED) != 0
                row &= _UNSTOP
                if not known:
                    code = L.BAD_ORDER
                else:
                    reserve = np.int64(extra[U(row)]["reserve"])
                    shown = np.int64(orders[U(row)]["qty"])
                    resting = shown + reserve
                    if not gone:
                        if left <= 0 or left > resting:
                            code = L.BAD_QTY
                        else:
                            resting -= left
                            gone = resting == 0
                if code != L.DONE:
                    statuses[U(k)] = code
                    k += 1
                    continue
                px = np.int64(orders[U(row)]["px"])
                if gone and stopped:
                    unpark(words, orders, extra, levels, row)
                    release(words, orders, extra, row)
                    next_buy, next_sell = words[L.NEXT_BUY], words[L.NEXT_SELL]
                elif gone:
                    at = px - base
                    far = at < 1 or at > width
                    if far:
                        at = far_level(words, levels, px, False)
                    # `detach`, by hand: calling it would cost as much as it does
                    older, younger = np.int64(orders[U(row)]["prev"]), np.int64(orders[U(row)]["next"])
                    if older != 0:
                        orders[U(older)]["next"] = younger
                    else:
                        levels[U(at)]["head"] = younger
                    if younger != 0:
                        orders[U(younger)]["prev"] = older
                    else:
                        levels[U(at)]["tail"] = older
                    total = levels[U(at)]["qty"] - shown
                    levels[U(at)]["qty"] = total
                    erase(words, pair, at_hash, shift)
                    orders[U(row)]["qty"] = 0
                    orders[U(row)]["next"] = words[L.FREE]
                    words[L.FREE] = row
                    words[L.LIVE] -= 1
                    if total == 0:
                        if far:
                            shelf_drop(words, levels, L.FAR, px)
                        if px == bid:
                            if not far:
                                while levels[U(at)]["qty"] == 0:
                                    at -= 1
                            bid = base + at if not far and at > 0 else beyond(words, levels, px, -1)
                        elif px == ask:
                            if not far:
                                while levels[U(at)]["qty"] == 0:
                                    at += 1
                            ask = base + at if not far and at <= width else beyond(words, levels, px, 1)
                else:  # a smaller order, in its place: the hidden lots go first
                    hidden = min(left, reserve)
                    left -= hidden
                    if stopped:
                        extra[U(row)]["display"] = min(np.int64(extra[U(row)]["display"]), resting)
                        orders[U(row)]["qty"] = shown - left
                    else:
                        extra[U(row)]["reserve"] = reserve - hidden
                        orders[U(row)]["qty"] = shown - left
                        at = px - base
                        if at < 1 or at > width:
                            at = far_level(words, levels, px, False)
                        levels[U(at)]["qty"] -= left
                statuses[U(k)] = code
                k += 1
                continue

            limit = np.int64(requests[U(k)]["px"])
            side = np.int64(requests[U(k)]["side"])
            flags = np.int64(requests[U(k)]["flags"])
            display = np.int64(requests[U(k)]["display"])
            owner = np.int64(requests[U(k)]["owner"])
            replaced = verb == L.REPLACE
            code = L.DONE
            if replaced:
                if not known or row & L.STOPPED:
                    code = L.BAD_ORDER
                else:
                    side = 1 if orders[U(row)]["px"] <= bid else -1
                    owner = np.int64(extra[U(row)]["owner"])
            elif known or oid == 0:
                code = L.BAD_ORDER
            plain = (verb == L.LIMIT or verb == L.MARKET) and (flags | display) == 0 and limit >= -L.MAX_PX
            if (not plain or left <= 0 or (side != 1 and side != -1)) and not (replaced and code != L.DONE):
                wrong = _wrong(verb, side, limit, left, display, np.int64(requests[U(k)]["stop"]), flags)
                if wrong != L.DONE:
                    code = wrong
            if replaced and code == L.DONE:
                display = np.int64(extra[U(row)]["display"])
                if display != 0 and left > display * L.MAX_TIPS:
                    code = L.BAD_DISPLAY
            if code != L.DONE:
                statuses[U(k)] = code
                k += 1
                continue
            if n == cap:
                why = L.FULL
                break
            fresh = not replaced  # `pair` is where its id would go
            if fresh:
                row = _NONE
                if words[L.FREE] == 0 and words[L.TOP] == n_rows:
                    why = L.NO_ROWS
                    break
            if verb == L.MARKET:
                limit = side * L.ANY_PX
                flags |= L.IOC
            elif verb == L.LOAD:
                tip = left
                left += np.int64(requests[U(k)]["stop"])
                flags = L.POST_ONLY
            elif verb == L.STOP or verb == L.STOP_LIMIT:
                px = np.int64(requests[U(k)]["stop"])
                reached = last != L.NO_BID and (last >= px if side > 0 else last <= px)
                if not reached:
                    row = words[L.FREE]
                    if row != 0:
                        words[L.FREE] = np.int64(orders[U(row)]["next"])
                    else:
                        row = words[L.TOP]
                        words[L.TOP] = row + 1
                    words[L.LIVE] += 1
                    words[U(pair)] = oid
                    words[U(pair + 1)] = row | L.STOPPED
                    extra[U(row)]["oid"] = oid
                    extra[U(row)]["reserve"] = 0
                    extra[U(row)]["display"] = display
                    extra[U(row)]["limit"] = limit
                    extra[U(row)]["owner"] = owner
                    extra[U(row)]["flags"] = flags
                    extra[U(row)]["verb"] = verb
                    extra[U(row)]["side"] = side
                    park(words, orders, levels, row, side, px, left)
                    next_buy, next_sell = words[L.NEXT_BUY], words[L.NEXT_SELL]
                    resting = left
                    statuses[U(k)] = L.DONE
                    k += 1
                    continue
                matches[U(n)]["maker"] = 0
                matches[U(n)]["taker"] = oid
                matches[U(n)]["px"] = px
                matches[U(n)]["qty"] = left
                matches[U(n)]["maker_owner"] = 0
                matches[U(n)]["taker_owner"] = owner
                matches[U(n)]["kind"] = L.TRIGGERED
                matches[U(n)]["side"] = side
                n += 1
                if verb == L.STOP:
                    limit = side * L.ANY_PX
                    flags |= L.IOC
            hand = 1
            started = False
        carry = False

        # the order in hand, then the stops that were set off, one after the other
        full = False
        while True:
            if hand == 0:
                row = words[L.PENDING]
                if row == 0:
                    break
                if n == cap:
                    full = True
                    break
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
                words[U(slot_of(words, oid, at_hash, shift) + 1)] = row
                matches[U(n)]["maker"] = 0
                matches[U(n)]["taker"] = oid
                matches[U(n)]["px"] = orders[U(row)]["px"]
                matches[U(n)]["qty"] = left
                matches[U(n)]["maker_owner"] = 0
                matches[U(n)]["taker_owner"] = owner
                matches[U(n)]["kind"] = L.TRIGGERED
                matches[U(n)]["side"] = side
                n += 1
                hand = 2
                started = fresh = replaced = False
            code = L.DONE
            if not started:
                first = L.NO_BID
                crosses = ask <= limit if side > 0 else bid >= limit
                if (crosses and flags & _CAREFUL) or flags & L.FOK or replaced:
                    if flags & L.FOK:
                        words[L.BEST_BID], words[L.BEST_ASK] = bid, ask
                        stp = flags & L.STP_BOTH
                        if not fillable(words, orders, extra, levels, side, limit, left, owner, stp):
                            code = L.FOK_KILLED
                    elif crosses and flags & L.SLIDE:
                        limit = ask - 1 if side > 0 else bid + 1
                        if limit < -L.MAX_PX or limit > L.MAX_PX:
                            code = L.POST_ONLY_REJECT
                    elif crosses and flags & L.POST_ONLY:
                        code = L.POST_ONLY_REJECT
                    if replaced:
                        shown = np.int64(orders[U(row)]["qty"])
                        reserve = np.int64(extra[U(row)]["reserve"])
                        px = np.int64(orders[U(row)]["px"])
                        if code != L.DONE or (px == limit and left <= shown + reserve):
                            # it stays: as it was, or smaller in its place (hidden lots go first)
                            resting = shown + reserve
                            if code == L.DONE:
                                less = resting - left
                                hidden = min(less, reserve)
                                extra[U(row)]["reserve"] = reserve - hidden
                                orders[U(row)]["qty"] = shown - (less - hidden)
                                at = px - base
                                if at < 1 or at > width:
                                    at = far_level(words, levels, px, False)
                                levels[U(at)]["qty"] -= less - hidden
                                resting = left
                            statuses[U(k)] = code
                            hand = 0
                            continue
                        words[L.BEST_BID], words[L.BEST_ASK] = bid, ask
                        withdraw(words, orders, levels, row)
                        bid, ask = words[L.BEST_BID], words[L.BEST_ASK]
                        display = min(display, left)
                    if code != L.DONE:
                        left = _NONE
            started = True

            # -- trade what crosses, best price and oldest first ---------------------------------
            while left > 0:
                if side > 0:
                    if ask > limit:
                        break
                    px = ask
                else:
                    if bid < limit:
                        break
                    px = bid
                if n == cap:
                    full = True
                    break
                at = px - base
                far = at < 1 or at > width
                if far:
                    at = far_level(words, levels, px, False)
                maker = np.int64(levels[U(at)]["head"])
                shown = np.int64(orders[U(maker)]["qty"])
                if flags & L.STP_BOTH and owner != 0 and extra[U(maker)]["owner"] == owner:
                    if n + 2 > cap:
                        full = True
                        break
                    if flags & L.STP_RESTING:
                        matches[U(n)]["maker"] = extra[U(maker)]["oid"]
                        matches[U(n)]["taker"] = oid
                        matches[U(n)]["px"] = px
                        matches[U(n)]["qty"] = shown + np.int64(extra[U(maker)]["reserve"])
                        matches[U(n)]["maker_owner"] = owner
                        matches[U(n)]["taker_owner"] = owner
                        matches[U(n)]["kind"] = L.REMOVED
                        matches[U(n)]["side"] = side
                        n += 1
                        words[L.BEST_BID], words[L.BEST_ASK] = bid, ask
                        withdraw(words, orders, levels, maker)
                        bid, ask = words[L.BEST_BID], words[L.BEST_ASK]
                        release(words, orders, extra, maker)
                        fresh = False
                    if flags & L.STP_INCOMING:
                        matches[U(n)]["maker"] = oid
                        matches[U(n)]["taker"] = oid
                        matches[U(n)]["px"] = px
                        matches[U(n)]["qty"] = left
                        matches[U(n)]["maker_owner"] = owner
                        matches[U(n)]["taker_owner"] = owner
                        matches[U(n)]["kind"] = L.REMOVED
                        matches[U(n)]["side"] = side
                        n += 1
                        left = _NONE
                        code = L.SELF_TRADE
                    continue
                done = min(shown, left)
                matches[U(n)]["maker"] = extra[U(maker)]["oid"]
                matches[U(n)]["taker"] = oid
                matches[U(n)]["px"] = px
                matches[U(n)]["qty"] = done
                matches[U(n)]["maker_owner"] = extra[U(maker)]["owner"]
                matches[U(n)]["taker_owner"] = owner
                matches[U(n)]["kind"] = L.TRADE
                matches[U(n)]["side"] = side
                n += 1
                left -= done
                last = px
                if first == L.NO_BID:
                    first = px
                total = levels[U(at)]["qty"] - done
                if done < shown:
                    orders[U(maker)]["qty"] = shown - done
                    levels[U(at)]["qty"] = total
                    break
                younger = np.int64(orders[U(maker)]["next"])
                reserve = np.int64(extra[U(maker)]["reserve"])
                if reserve > 0:  # an iceberg shows its next lots, at the back
                    shown = min(reserve, np.int64(extra[U(maker)]["display"]))
                    extra[U(maker)]["reserve"] = reserve - shown
                    orders[U(maker)]["qty"] = shown
                    total += shown
                    if younger != 0:
                        tail = np.int64(levels[U(at)]["tail"])
                        levels[U(at)]["head"] = younger
                        levels[U(at)]["tail"] = maker
                        orders[U(younger)]["prev"] = 0
                        orders[U(tail)]["next"] = maker
                        orders[U(maker)]["prev"] = tail
                        orders[U(maker)]["next"] = 0
                else:
                    levels[U(at)]["head"] = younger
                    if younger != 0:
                        orders[U(younger)]["prev"] = 0
                    else:
                        levels[U(at)]["tail"] = 0
                    erase(words, slot_of(words, extra[U(maker)]["oid"], at_hash, shift), at_hash, shift)
                    orders[U(maker)]["qty"] = 0
                    orders[U(maker)]["next"] = words[L.FREE]
                    words[L.FREE] = maker
                    words[L.LIVE] -= 1
                    fresh = False
                levels[U(at)]["qty"] = total
                if total == 0:
                    if far:
                        shelf_drop(words, levels, L.FAR, px)
                    if side > 0:
                        if not far:
                            while levels[U(at)]["qty"] == 0:
                                at += 1
                        ask = base + at if not far and at <= width else beyond(words, levels, px, 1)
                    else:
                        if not far:
                            while levels[U(at)]["qty"] == 0:
                                at -= 1
                        bid = base + at if not far and at > 0 else beyond(words, levels, px, -1)
            if full:
                break

            # -- rest the remainder ---------------------------------------------------------------
            rests = left > 0 and not flags & _WHOLE
            if rests:
                if row == 0:
                    row = words[L.FREE]
                    if row != 0:
                        words[L.FREE] = np.int64(orders[U(row)]["next"])
                    else:
                        row = words[L.TOP]
                        words[L.TOP] = row + 1
                    words[L.LIVE] += 1
                    if not fresh:  # pairs have moved since
                        pair = slot_of(words, oid, at_hash, shift)
                    words[U(pair)] = oid
                    words[U(pair + 1)] = row
                    extra[U(row)]["oid"] = oid
                    extra[U(row)]["owner"] = owner
                shown = left
                if display != 0:
                    shown = min(display, left)
                    if tip != 0:
                        shown = tip
                extra[U(row)]["reserve"] = left - shown
                extra[U(row)]["display"] = display
                at = limit - base
                if at < 1 or at > width:
                    words[L.BEST_BID], words[L.BEST_ASK] = bid, ask
                    at = far_level(words, levels, limit, True)
                    base = words[L.BASE]
                tail = np.int64(levels[U(at)]["tail"])
                orders[U(row)]["px"] = limit
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
                    bid = max(bid, limit)
                else:
                    ask = min(ask, limit)
            elif row != 0:  # a replaced order or a stop of which nothing is left
                release(words, orders, extra, row)
                fresh = False
            tip = _NONE
            if hand == 1:
                resting = left if rests else _NONE
                statuses[U(k)] = code
            hand = 0
            if first != L.NO_BID:
                low, high = (first, last) if side > 0 else (last, first)
                if high >= next_buy or low <= next_sell:
                    set_off(words, orders, levels, low, high)
                    next_buy, next_sell = words[L.NEXT_BUY], words[L.NEXT_SELL]
        if full:
            why = L.FULL
            break
        k += 1
        if words[L.FAR_USES] > words[L.FAR_LIMIT]:
            why = L.CROWDED
            break
    if why == L.FULL and hand != 0 and started:
        words[L.HAND], words[L.HAND_ROW], words[L.HAND_SIDE], words[L.HAND_LIMIT] = hand, row, side, limit
        words[L.HAND_LEFT], words[L.HAND_DISPLAY], words[L.HAND_OWNER] = left, display, owner
        words[L.HAND_FLAGS], words[L.HAND_OID], words[L.HAND_FIRST] = flags, oid, first
    words[L.BEST_BID], words[L.BEST_ASK], words[L.N_MATCHES] = bid, ask, n
    words[L.LAST], words[L.RESTING], words[L.WHY] = last, resting, why
    return k
