"""Shelves: the sorted arrays on which prices outside the window stand, and the triggers of waiting stops."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import hot_kernel, rare_kernel
from mmsim.bits import highest_below, lowest_above
from mmsim.book.layout import BUY_STOPS, FAR, NO_ASK, NO_BID, SELL_STOPS
from mmsim.book.rows import LOW, U

# Constants that are passed on as arguments are NumPy integers: numba would compile the callee once more for
# every plain one.
DOWN, UP = np.int64(-1), np.int64(1)
FAR_SHELF, BUYS, SELLS = np.int64(FAR), np.int64(BUY_STOPS), np.int64(SELL_STOPS)
FIND, ADD = np.int64(0), np.int64(1)


@rare_kernel
def shelf_index(book: Any, shelf: int, key: int) -> int:
    """Return how many entries of `shelf` are below `key`."""
    low, high = np.int64(0), book.state[0].shelved[shelf]
    while low < high:
        middle = (low + high) >> 1
        if (book.shelves[U(shelf), U(middle)] >> 32) < key:
            low = middle + 1
        else:
            high = middle
    return low


@rare_kernel
def shelf_level(book: Any, shelf: int, key: int, add: int) -> int:
    """Return the level row of `key` on `shelf`, making one if `add`; 0 if there is none."""
    s, levels, shelves = book.state[0], book.levels, book.shelves
    i = shelf_index(book, shelf, key)
    n = s.shelved[shelf]
    if i < n and (shelves[U(shelf), U(i)] >> 32) == key:
        return shelves[U(shelf), U(i)] & LOW
    if add == 0:
        return np.int64(0)
    row = s.level_free
    if row != 0:
        s.level_free = np.int64(levels[U(row)].head)
    else:
        row = s.level_top
        s.level_top = row + 1
    levels[U(row)].qty = 0
    levels[U(row)].head = 0
    levels[U(row)].tail = 0
    for j in range(n, i, -1):
        shelves[U(shelf), U(j)] = shelves[U(shelf), U(j - 1)]
    shelves[U(shelf), U(i)] = (key << 32) + row
    s.shelved[shelf] = n + 1
    return row


@rare_kernel
def shelf_drop(book: Any, shelf: int, key: int) -> None:
    """Take the empty level of `key` off `shelf`."""
    s, shelves = book.state[0], book.shelves
    i = shelf_index(book, shelf, key)
    row = shelves[U(shelf), U(i)] & LOW
    book.levels[U(row)].head = s.level_free
    s.level_free = row
    n = s.shelved[shelf] - 1
    s.shelved[shelf] = n
    for j in range(i, n):
        shelves[U(shelf), U(j)] = shelves[U(shelf), U(j + 1)]


@rare_kernel
def far_level(book: Any, px: int, add: int) -> int:
    """Return the level row of price `px` outside the window."""
    s = book.state[0]
    if add != 0 and s.best_bid == NO_BID and s.best_ask == NO_ASK:
        s.origin = px - 1 - s.width // 2  # nothing rests: the window goes where it is wanted
        return px - s.origin
    s.far_uses += 1
    return shelf_level(book, FAR_SHELF, px, add)


@hot_kernel
def level_of(book: Any, s: Any, px: int, add: int) -> int:
    """Return the level row of price `px`, making one if `add`."""
    at = px - s.origin
    return at if U(at - 1) < U(s.width) else far_level(book, px, add)


@rare_kernel
def _beyond_window(book: Any, px: int, step: int) -> int:
    # `next_price` where the window between `px` and the answer may be empty
    s = book.state[0]
    i = shelf_index(book, FAR_SHELF, px if step < 0 else px + 1)
    at = px - s.origin
    if step < 0:
        far = book.shelves[U(FAR_SHELF), U(i - 1)] >> 32 if i > 0 else NO_BID
        near = highest_below(book.occupied, min(max(at - 1, -1), s.width))
        return max(far, s.origin + near) if near >= 0 else far
    far = book.shelves[U(FAR_SHELF), U(i)] >> 32 if i < s.shelved[FAR_SHELF] else NO_ASK
    near = lowest_above(book.occupied, min(max(at + 1, 0), s.width + 1), s.width + 1)
    return min(far, s.origin + near) if near <= s.width else far


@hot_kernel
def next_price(book: Any, s: Any, px: int, step: int) -> int:
    """Return the next price below (`step` -1) or above `px` that has orders; NO_BID or NO_ASK if none has."""
    at = px - s.origin
    if 1 <= at <= s.width:  # from a price of the window, others of the window come first
        if step < 0:
            at = highest_below(book.occupied, at - 1)
        else:
            at = lowest_above(book.occupied, at + 1, s.width + 1)
        if 1 <= at <= s.width:
            return s.origin + at
    return _beyond_window(book, px, step)
