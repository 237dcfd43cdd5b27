"""The rare paths of the engine: prices outside the window, waiting stops, ids, fill-or-kill.

Prices outside the window, and the triggers of waiting stops, stand on *shelves*: sorted arrays whose
entries name a row of ``levels`` behind the window, where the orders queue as at any other price. A shelf
has room for as many entries as there may be orders, so it is never full.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import inline_kernel, kernel
from mmsim.book.layout import (
    AHEAD,
    BASE,
    BEST_ASK,
    BEST_BID,
    BUY_STOPS,
    FAR,
    FAR_USES,
    FREE,
    HASH_AT,
    HASH_SHIFT,
    LEVEL_FREE,
    LEVEL_TOP,
    LIMIT,
    LIVE,
    LOAD,
    N_STATE,
    NEXT_BUY,
    NEXT_SELL,
    NO_ASK,
    NO_BID,
    PENDING,
    PENDING_TAIL,
    SELL_STOPS,
    SHELF_SIZE,
    SHELVED,
    STOPPED,
    STP_RESTING,
    WIDTH,
)

# Array indices are unsigned: numba adds a test for negative ones to the others.
U = np.uint64
_LOW = 0xFFFFFFFF
# Constants that are passed on as arguments are NumPy integers: numba would compile the callee once more for
# every plain one.
DOWN, UP = np.int64(-1), np.int64(1)
FAR_SHELF, _BUYS, _SELLS = np.int64(FAR), np.int64(BUY_STOPS), np.int64(SELL_STOPS)
FIND, ADD = np.int64(0), np.int64(1)
_TAG = 0x7FFFFFFF
ROW = STOPPED - 1  # the row in a slot; the bit above it is STOPPED, the upper half the tag
_MUL_LOW, _MUL_HIGH = 0x4F1BBCDD, 0x5851F42D  # 31 bits: products of 32-bit halves stay below 2**63


@inline_kernel
def tag_of(oid: int) -> int:
    """Return the 31 bits by which the hash table knows `oid`; their upper bits are its home slot."""
    return (((oid & _LOW) * _MUL_LOW) ^ (((oid >> 32) & _LOW) * _MUL_HIGH)) & _TAG


@inline_kernel
def slot_of(words: Any, extra: Any, oid: int, at: int, shift: int) -> int:
    """Return the index into `words` of the slot of `oid`, or of the empty one where it would go."""
    last = (1 << (31 - shift)) - 1
    tag = tag_of(oid)
    slot = tag >> shift
    while True:
        word = words[U(at + slot)]
        if word == 0 or ((word >> 32) == tag and extra[U(word & ROW)]["oid"] == oid):
            return at + slot
        slot = (slot + 1) & last


@inline_kernel
def erase(words: Any, slot: int, at: int, shift: int) -> None:
    """Empty the slot at index `slot`; move later ones of its run back, so that no tombstone is left."""
    last = (1 << (31 - shift)) - 1
    hole = slot - at
    slot = hole
    while True:
        slot = (slot + 1) & last
        word = words[U(at + slot)]
        if word == 0:
            break
        if ((slot - (word >> (32 + shift))) & last) >= ((slot - hole) & last):
            words[U(at + hole)] = word
            hole = slot
    words[U(at + hole)] = 0


@kernel
def release(words: Any, orders: Any, extra: Any, row: int) -> None:
    """Forget the id of an order that has left its queue, and free its row."""
    at, shift = words[HASH_AT], words[HASH_SHIFT]
    erase(words, slot_of(words, extra, extra[U(row)]["oid"], at, shift), at, shift)
    orders[U(row)]["qty"] = 0
    orders[U(row)]["next"] = words[FREE]
    words[FREE] = row
    words[LIVE] -= 1


@kernel
def shelf_index(words: Any, shelf: int, key: int) -> int:
    """Return how many entries of `shelf` are below `key`."""
    at = N_STATE + shelf * words[SHELF_SIZE]
    low, high = np.int64(0), words[SHELVED + shelf]
    while low < high:
        middle = (low + high) >> 1
        if (words[U(at + middle)] >> 32) < key:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def shelf_level(words: Any, levels: Any, shelf: int, key: int, add: int) -> int:
    """Return the level row of `key` on `shelf`, making one if `add`; 0 if there is none."""
    at = N_STATE + shelf * words[SHELF_SIZE]
    i = shelf_index(words, shelf, key)
    n = words[SHELVED + shelf]
    if i < n and (words[U(at + i)] >> 32) == key:
        return words[U(at + i)] & _LOW
    if add == 0:
        return np.int64(0)
    row = words[LEVEL_FREE]
    if row != 0:
        words[LEVEL_FREE] = np.int64(levels[U(row)]["head"])
    else:
        row = words[LEVEL_TOP]
        words[LEVEL_TOP] = row + 1
    levels[U(row)]["qty"] = 0
    levels[U(row)]["head"] = 0
    levels[U(row)]["tail"] = 0
    for j in range(at + n, at + i, -1):
        words[U(j)] = words[U(j - 1)]
    words[U(at + i)] = (key << 32) + row
    words[SHELVED + shelf] = n + 1
    return row


@kernel
def shelf_drop(words: Any, levels: Any, shelf: int, key: int) -> None:
    """Take the empty level of `key` off `shelf`."""
    at = N_STATE + shelf * words[SHELF_SIZE]
    i = at + shelf_index(words, shelf, key)
    row = words[U(i)] & _LOW
    levels[U(row)]["head"] = words[LEVEL_FREE]
    words[LEVEL_FREE] = row
    n = words[SHELVED + shelf] - 1
    words[SHELVED + shelf] = n
    for j in range(i, at + n):
        words[U(j)] = words[U(j + 1)]


@kernel
def far_level(words: Any, levels: Any, px: int, add: int) -> int:
    """Return the level row of price `px` outside the window."""
    if add != 0 and words[BEST_BID] == NO_BID and words[BEST_ASK] == NO_ASK:
        words[BASE] = px - 1 - words[WIDTH] // 2  # nothing rests: the window goes where it is wanted
        return px - words[BASE]
    words[FAR_USES] += 1
    return shelf_level(words, levels, FAR_SHELF, px, add)


@kernel
def beyond(words: Any, levels: Any, px: int, step: int) -> int:
    """Return the next price below (`step` -1) or above `px` that has orders; NO_BID or NO_ASK if none has."""
    at = N_STATE + FAR * words[SHELF_SIZE]
    i = shelf_index(words, FAR_SHELF, px if step < 0 else px + 1)
    far = NO_BID if step < 0 else NO_ASK
    if step < 0 and i > 0:
        far = words[U(at + i - 1)] >> 32
    elif step > 0 and i < words[SHELVED + FAR]:
        far = words[U(at + i)] >> 32
    row = min(max(px - words[BASE], 0), words[WIDTH] + 1)  # the window, from here on
    if row != (0 if step < 0 else words[WIDTH] + 1):
        row += step
        while levels[U(row)]["qty"] == 0:
            row += step
        if 0 < row <= words[WIDTH]:
            near = words[BASE] + row
            return max(near, far) if step < 0 else min(near, far)
    return far


@kernel
def detach(orders: Any, levels: Any, at: int, row: int) -> None:
    """Take order `row` out of the queue of level row `at`."""
    older, younger = np.int64(orders[U(row)]["prev"]), np.int64(orders[U(row)]["next"])
    if older != 0:
        orders[U(older)]["next"] = younger
    else:
        levels[U(at)]["head"] = younger
    if younger != 0:
        orders[U(younger)]["prev"] = older
    else:
        levels[U(at)]["tail"] = older
    levels[U(at)]["qty"] -= orders[U(row)]["qty"]


@kernel
def withdraw(words: Any, orders: Any, levels: Any, row: int) -> None:
    """Take resting order `row` out of the book; its row and its id stay taken."""
    px = np.int64(orders[U(row)]["px"])
    at = px - words[BASE]
    far = at < 1 or at > words[WIDTH]
    if far:
        at = far_level(words, levels, px, FIND)
    detach(orders, levels, at, row)
    if levels[U(at)]["qty"] == 0:
        if far:
            shelf_drop(words, levels, FAR_SHELF, px)
        if px == words[BEST_BID]:
            words[BEST_BID] = beyond(words, levels, px, DOWN)
        elif px == words[BEST_ASK]:
            words[BEST_ASK] = beyond(words, levels, px, UP)


@kernel
def park(words: Any, orders: Any, levels: Any, row: int, side: int, px: int, qty: int) -> None:
    """Let order `row` wait as a stop, triggered at `px`."""
    shelf = _BUYS if side > 0 else _SELLS
    at = shelf_level(words, levels, shelf, -px if side > 0 else px, ADD)
    tail = np.int64(levels[U(at)]["tail"])
    orders[U(row)]["px"] = px
    orders[U(row)]["qty"] = qty
    orders[U(row)]["prev"] = tail
    orders[U(row)]["next"] = 0
    if tail != 0:
        orders[U(tail)]["next"] = row
    else:
        levels[U(at)]["head"] = row
    levels[U(at)]["tail"] = row
    levels[U(at)]["qty"] += qty
    if side > 0:
        words[NEXT_BUY] = min(words[NEXT_BUY], px)
    else:
        words[NEXT_SELL] = max(words[NEXT_SELL], px)


@inline_kernel
def _aim(words: Any) -> None:
    # triggers of the stops next in line: the last entries of the two shelves
    size = words[SHELF_SIZE]
    buys, sells = words[SHELVED + BUY_STOPS], words[SHELVED + SELL_STOPS]
    words[NEXT_BUY] = -(words[U(N_STATE + BUY_STOPS * size + buys - 1)] >> 32) if buys > 0 else NO_ASK
    words[NEXT_SELL] = words[U(N_STATE + SELL_STOPS * size + sells - 1)] >> 32 if sells > 0 else NO_BID


@kernel
def unpark(words: Any, orders: Any, extra: Any, levels: Any, row: int) -> None:
    """Take waiting stop `row` off its shelf; its row and its id stay taken."""
    side = np.int64(extra[U(row)]["side"])
    px = np.int64(orders[U(row)]["px"])
    shelf = _BUYS if side > 0 else _SELLS
    key = -px if side > 0 else px
    at = shelf_level(words, levels, shelf, key, FIND)
    detach(orders, levels, at, row)
    if levels[U(at)]["head"] == 0:
        shelf_drop(words, levels, shelf, key)
        _aim(words)


@kernel
def set_off(words: Any, orders: Any, levels: Any, low: int, high: int) -> None:
    """Queue the stops that trades from `low` to `high` have triggered; `mmsim.book.reference` has the rule."""
    size = words[SHELF_SIZE]
    for shelf in (_BUYS, _SELLS):
        while words[SHELVED + shelf] > 0:
            key = words[U(N_STATE + shelf * size + words[SHELVED + shelf] - 1)] >> 32
            if (-key > high) if shelf == _BUYS else (key < low):
                break
            at = shelf_level(words, levels, shelf, key, FIND)
            head, tail = np.int64(levels[U(at)]["head"]), np.int64(levels[U(at)]["tail"])
            if words[PENDING] == 0:
                words[PENDING] = head
            else:
                orders[U(words[PENDING_TAIL])]["next"] = head
            words[PENDING_TAIL] = tail
            shelf_drop(words, levels, shelf, key)
    _aim(words)


@kernel
def fillable(
    words: Any, orders: Any, extra: Any, levels: Any, side: int, limit: int, qty: int, owner: int, stp: int
) -> bool:
    """Tell whether an order would trade `qty` lots at `limit` or better, hidden ones included."""
    px = words[BEST_ASK] if side > 0 else words[BEST_BID]
    while (px <= limit) if side > 0 else (px >= limit):
        at = px - words[BASE]
        if at < 1 or at > words[WIDTH]:
            at = shelf_level(words, levels, FAR_SHELF, px, FIND)
        hidden = np.int64(0)
        row = np.int64(levels[U(at)]["head"])
        while row != 0:
            if stp != 0 and owner != 0 and extra[U(row)]["owner"] == owner:
                if stp != STP_RESTING:
                    return False  # it is met before any refill behind it, and stops the order
            else:
                qty -= orders[U(row)]["qty"]
                hidden += extra[U(row)]["reserve"]
                if qty <= 0:
                    return True
            row = np.int64(orders[U(row)]["next"])
        qty -= hidden
        if qty <= 0:
            return True
        px = beyond(words, levels, px, side)
    return False


@kernel
def look(words: Any, orders: Any, extra: Any, oid: int) -> int:
    """Return the row of order `oid` (+ STOPPED), 0 if it is not in the book; ``words[AHEAD]``: lots before it."""
    found = words[slot_of(words, extra, oid, words[HASH_AT], words[HASH_SHIFT])] & _LOW
    if found == 0:
        return np.int64(0)
    ahead = np.int64(0)
    row = np.int64(orders[U(found & ROW)]["prev"])
    while row != 0:
        ahead += orders[U(row)]["qty"]
        row = np.int64(orders[U(row)]["prev"])
    words[AHEAD] = ahead
    return found


@kernel
def export(words: Any, orders: Any, extra: Any, levels: Any, out: Any) -> None:
    """Write the book as the requests that make it: bids, asks (first to trade first), buy and sell stops."""
    n = 0
    for part in range(4):
        side = 1 - 2 * (part & 1)
        px = words[BEST_BID] if part == 0 else words[BEST_ASK]
        waiting = words[SHELVED + BUY_STOPS] if part == 2 else words[SHELVED + SELL_STOPS]
        while (waiting > 0) if part > 1 else (px != NO_BID and px != NO_ASK):
            if part > 1:
                waiting -= 1
                shelf = _BUYS if part == 2 else _SELLS
                at = words[U(N_STATE + shelf * words[SHELF_SIZE] + waiting)] & _LOW
            else:
                at = px - words[BASE]
                if at < 1 or at > words[WIDTH]:
                    at = shelf_level(words, levels, FAR_SHELF, px, FIND)
                px = beyond(words, levels, px, DOWN if side > 0 else UP)
            row = np.int64(levels[U(at)]["head"])
            while row != 0:
                out[n]["oid"] = extra[U(row)]["oid"]
                out[n]["px"] = orders[U(row)]["px"]
                out[n]["qty"] = orders[U(row)]["qty"]
                out[n]["display"] = extra[U(row)]["display"]
                out[n]["stop"] = extra[U(row)]["reserve"]
                out[n]["owner"] = extra[U(row)]["owner"]
                out[n]["flags"] = 0
                out[n]["verb"] = LIMIT if extra[U(row)]["display"] == 0 else LOAD
                out[n]["side"] = side
                if part > 1:
                    out[n]["px"] = extra[U(row)]["limit"]
                    out[n]["stop"] = orders[U(row)]["px"]
                    out[n]["flags"] = extra[U(row)]["flags"]
                    out[n]["verb"] = extra[U(row)]["verb"]
                row = np.int64(orders[U(row)]["next"])
                n += 1
