"""The matching engine: every order type in one compiled loop over an array of requests.

One function serves an array of millions, a single call from `OrderBook` and each of many books. Plain
limit and market orders and cancellations are executed here, with the best prices in registers; they touch
one row of ``orders``, one of ``extra``, one of ``levels`` and one slot of the hash table each. Everything
else, and every turn that a plain order can take (an iceberg on the other side, a price outside the window,
a stop set off), is handed to `mmsim.book.general`, which knows all the rules. Nothing allocates or raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import kernel
from mmsim.book import layout as L
from mmsim.book.general import proceed
from mmsim.book.shelves import DOWN, ROW, UP, U, beyond, erase, slot_of, tag_of

_FOUND = ROW | L.STOPPED
_HAND, _FIRST = np.int64(1), np.int64(0)
UNTOLD = np.int64(-(1 << 63))


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
    k, end = np.int64(start), np.int64(len(requests))
    rare = words[L.HAND] != 0 or words[L.PENDING] != 0  # left from the last call
    words[L.WHY] = L.FINISHED
    while k < end or rare:
        if not rare:
            verb = np.int64(requests[U(k)]["verb"])
            oid = requests[U(k)]["oid"]
            slot = slot_of(words, extra, oid, at_hash, shift)
            row = words[U(slot)] & _FOUND
            if verb == L.CANCEL:
                px = np.int64(orders[U(row & ROW)]["px"])
                at = px - base
                if row != 0 and row <= ROW and 1 <= at <= width:
                    older, younger = np.int64(orders[U(row)]["prev"]), np.int64(orders[U(row)]["next"])
                    shown = np.int64(orders[U(row)]["qty"])
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
                    erase(words, slot, at_hash, shift)
                    words[L.RESTING] = shown + np.int64(extra[U(row)]["reserve"])
                    orders[U(row)]["qty"] = 0
                    orders[U(row)]["next"] = words[L.FREE]
                    words[L.FREE] = row
                    words[L.LIVE] -= 1
                    if total == 0:
                        if px == bid:
                            while levels[U(at)]["qty"] == 0:
                                at -= 1
                            bid = base + at if at > 0 else beyond(words, levels, px, DOWN)
                        elif px == ask:
                            while levels[U(at)]["qty"] == 0:
                                at += 1
                            ask = base + at if at <= width else beyond(words, levels, px, UP)
                    statuses[U(k)] = L.DONE
                    k += 1
                    continue
                rare = True
            else:
                limit = np.int64(requests[U(k)]["px"])
                side = np.int64(requests[U(k)]["side"])
                left = np.int64(requests[U(k)]["qty"])
                special = np.int64(requests[U(k)]["flags"]) | np.int64(requests[U(k)]["display"])
                at = limit - base
                rare = (
                    verb > L.MARKET
                    or verb < L.LIMIT
                    or special != 0
                    or row != 0
                    or oid == 0
                    or left <= 0
                    or (side != 1 and side != -1)
                    or (words[L.FREE] == 0 and words[L.TOP] > words[L.SHELF_SIZE])
                    or (verb == L.LIMIT and (at < 1 or at > width))
                    or n == cap
                )
                if not rare:
                    owner = np.int64(requests[U(k)]["owner"])
                    if verb == L.MARKET:
                        limit = side * L.ANY_PX
                    first = L.NO_BID
                    px = ask if side > 0 else bid
                    while (px <= limit) if side > 0 else (px >= limit):
                        # trade with the oldest at the best price
                        at = px - base
                        if at < 1 or at > width or n == cap:
                            rare = True
                            break
                        maker = np.int64(levels[U(at)]["head"])
                        shown = np.int64(orders[U(maker)]["qty"])
                        if left >= shown and extra[U(maker)]["reserve"] != 0:
                            rare = True
                            break
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
                        words[L.LAST] = px
                        if first == L.NO_BID:
                            first = px
                        total = levels[U(at)]["qty"] - done
                        levels[U(at)]["qty"] = total
                        if done < shown:
                            orders[U(maker)]["qty"] = shown - done
                            break
                        younger = np.int64(orders[U(maker)]["next"])
                        levels[U(at)]["head"] = younger
                        if younger != 0:
                            orders[U(younger)]["prev"] = 0
                        else:
                            levels[U(at)]["tail"] = 0
                        gone = slot_of(words, extra, extra[U(maker)]["oid"], at_hash, shift)
                        erase(words, gone, at_hash, shift)
                        orders[U(maker)]["qty"] = 0
                        orders[U(maker)]["next"] = words[L.FREE]
                        words[L.FREE] = maker
                        words[L.LIVE] -= 1
                        if total == 0:
                            if side > 0:
                                while levels[U(at)]["qty"] == 0:
                                    at += 1
                                ask = base + at if at <= width else beyond(words, levels, px, UP)
                                px = ask
                            else:
                                while levels[U(at)]["qty"] == 0:
                                    at -= 1
                                bid = base + at if at > 0 else beyond(words, levels, px, DOWN)
                                px = bid
                        if left == 0:
                            break
                    if first != L.NO_BID:
                        last = words[L.LAST]
                        high, low = max(first, last), min(first, last)
                        rare |= high >= words[L.NEXT_BUY] or low <= words[L.NEXT_SELL]
                        if not rare and left > 0 and verb == L.LIMIT:
                            slot = slot_of(words, extra, oid, at_hash, shift)  # they have moved since
                    if not rare:
                        if left > 0 and verb == L.LIMIT:
                            row = words[L.FREE]
                            if row != 0:
                                words[L.FREE] = np.int64(orders[U(row)]["next"])
                            else:
                                row = words[L.TOP]
                                words[L.TOP] = row + 1
                            words[L.LIVE] += 1
                            words[U(slot)] = (tag_of(oid) << 32) | row
                            extra[U(row)]["oid"] = oid
                            extra[U(row)]["owner"] = owner
                            extra[U(row)]["reserve"] = 0
                            extra[U(row)]["display"] = 0
                            at = limit - base
                            tail = np.int64(levels[U(at)]["tail"])
                            orders[U(row)]["px"] = limit
                            orders[U(row)]["qty"] = left
                            orders[U(row)]["prev"] = tail
                            orders[U(row)]["next"] = 0
                            if tail != 0:
                                orders[U(tail)]["next"] = row
                            else:
                                levels[U(at)]["head"] = row
                            levels[U(at)]["tail"] = row
                            levels[U(at)]["qty"] += left
                            if side > 0:
                                bid = max(bid, limit)
                            else:
                                ask = min(ask, limit)
                            words[L.RESTING] = left
                        else:
                            words[L.RESTING] = 0
                        statuses[U(k)] = L.DONE
                        k += 1
                        continue
                    # `proceed` goes on with it: the order in hand
                    words[L.HAND], words[L.HAND_ROW], words[L.HAND_SIDE] = _HAND, 0, side
                    words[L.HAND_LIMIT], words[L.HAND_LEFT], words[L.HAND_DISPLAY] = limit, left, 0
                    words[L.HAND_OWNER], words[L.HAND_OID], words[L.HAND_FIRST] = owner, oid, first
                    words[L.HAND_FLAGS] = L.IOC if verb == L.MARKET else 0
        words[L.BEST_BID], words[L.BEST_ASK], words[L.N_MATCHES] = bid, ask, n
        rare = False
        done_with = proceed(words, orders, extra, levels, requests, k, statuses, matches)
        base = words[L.BASE]
        bid, ask, n = words[L.BEST_BID], words[L.BEST_ASK], words[L.N_MATCHES]
        if not done_with:
            return k
        words[L.WHY] = L.FINISHED
        k += 1
        if words[L.FAR_USES] > words[L.FAR_LIMIT]:
            words[L.WHY] = L.CROWDED
            return k
    words[L.BEST_BID], words[L.BEST_ASK], words[L.N_MATCHES] = bid, ask, n
    return k


@kernel
def execute_one(
    words: Any, orders: Any, extra: Any, levels: Any, requests: Any, statuses: Any, matches: Any
) -> int:
    """Execute the first request; return in one number what there is to say about it.

    ``words[RESTING]`` if it was done without an event; ``-1 - n - (RESTING << 32)`` if it was done with `n`
    trades and nothing else; UNTOLD otherwise.
    """
    words[L.N_MATCHES] = 0
    execute(words, orders, extra, levels, requests, _FIRST, statuses, matches)
    n = words[L.N_MATCHES]
    if words[L.WHY] != L.FINISHED or statuses[0] != L.DONE:
        return UNTOLD
    for i in range(n):
        if matches[i]["kind"] != L.TRADE:
            return UNTOLD
    return words[L.RESTING] if n == 0 else -1 - n - (words[L.RESTING] << 32)


@kernel
def execute_many(
    words: Any,
    orders: Any,
    extra: Any,
    levels: Any,
    requests: Any,
    book: int,
    start: int,
    statuses: Any,
    matches: Any,
    ends: Any,
    n: int,
) -> tuple[int, int, int]:
    """Execute ``requests[b]`` on every book from `book` on, its first ones from `start`.

    The arrays have one row a book; `matches` is shared, ``ends[b]`` is where those of book ``b`` end.
    Returns the book and the request where it stopped and the rows of `matches` in use;
    the book is ``len(words)`` if it came to the end, otherwise ``words[book, WHY]`` tells why it did not.
    """
    while book < len(words):
        words[book, L.N_MATCHES] = n
        start = execute(
            words[book],
            orders[book],
            extra[book],
            levels[book],
            requests[book],
            start,
            statuses[book],
            matches,
        )
        n = words[book, L.N_MATCHES]
        if words[book, L.WHY] != L.FINISHED:
            return book, start, n
        ends[book] = n
        start = np.int64(0)
        book += 1
    return book, start, n
