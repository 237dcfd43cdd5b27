"""The four arrays of one book, and what needs allocation: more orders, a window that stands better."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.book import layout as L
from mmsim.book.engine import execute
from mmsim.errors import BookError

MIN_LEVELS, MAX_LEVELS = 1 << 10, 1 << 16  # usable prices of the window (an explicit size may be less)
_SPARSE = 32  # a larger window must have orders at one price in so many
_CROWD = 256  # touches of far prices before the window is placed anew, at least


class Memory:
    """The arrays of one book (see `mmsim.book.layout`); they are replaced when it grows."""

    words: npt.NDArray[np.int64]
    orders: npt.NDArray[np.void]
    extra: npt.NDArray[np.void]
    levels: npt.NDArray[np.void]

    def __init__(self, n_orders: int, n_levels: int) -> None:
        if n_levels < 1 or n_orders < 1:
            raise BookError(f"expected room for at least one level and order, was {n_levels}, {n_orders}")
        self.least = n_levels
        self._allocate(n_orders, n_levels)
        w = self.words
        w[L.BEST_BID], w[L.BEST_ASK], w[L.LAST] = L.NO_BID, L.NO_ASK, L.NO_BID
        w[L.NEXT_BUY], w[L.NEXT_SELL] = L.NO_ASK, L.NO_BID
        w[L.TOP], w[L.LEVEL_TOP] = 1, n_levels + 2
        w[L.FAR_LIMIT] = _CROWD

    def _allocate(self, n_orders: int, n_levels: int) -> None:
        bits = max(4, (8 * n_orders - 1).bit_length())  # at most half full
        hash_at = L.N_STATE + 3 * n_orders
        self.words = np.zeros(hash_at + (1 << bits), np.int64)
        self.words[L.HASH_AT], self.words[L.HASH_SHIFT] = hash_at, 31 - bits
        self.words[L.SHELF_SIZE], self.words[L.WIDTH] = n_orders, n_levels
        self.orders = np.zeros(n_orders + 1, L.ORDER)
        self.extra = np.zeros(n_orders + 1, L.EXTRA)
        # behind the window one row for every order that may be alone at a price outside it
        self.levels = np.zeros(n_levels + 2 + n_orders, L.LEVEL)
        self.levels["qty"][[0, n_levels + 1]] = 1  # never empty: searches stop there

    def run(self, requests: Any, start: int, statuses: Any, matches: Any) -> int:
        """Execute requests until they are done or `matches` is full; return how far it came."""
        while True:
            start = execute(
                self.words, self.orders, self.extra, self.levels, requests, start, statuses, matches
            )
            if not self.make_room():
                return start

    def make_room(self) -> bool:
        """Do what the engine returned for; False if it was neither rows nor the window."""
        why = self.words[L.WHY]
        if why == L.NO_ROWS:
            self.grow()
        elif why == L.CROWDED:
            self.place()
        else:
            return False
        return True

    def grow(self) -> None:
        """Make room for twice as many orders."""
        old_words, old_orders, old_extra, old_levels = self.words, self.orders, self.extra, self.levels
        n_old = len(old_orders) - 1
        if n_old >= L.MAX_ROWS:
            raise BookError(f"expected at most {L.MAX_ROWS} orders in the book, was more")
        self._allocate(min(2 * n_old, L.MAX_ROWS), int(old_words[L.WIDTH]))
        words = self.words
        own = [L.HASH_AT, L.HASH_SHIFT, L.SHELF_SIZE]
        kept = words[own]
        words[: L.N_STATE] = old_words[: L.N_STATE]
        words[own] = kept
        for shelf in range(3):
            n, old_at = int(old_words[L.SHELVED + shelf]), L.N_STATE + shelf * n_old
            at = L.N_STATE + shelf * int(words[L.SHELF_SIZE])
            words[at : at + n] = old_words[old_at : old_at + n]
        self.orders[: n_old + 1] = old_orders
        self.extra[: n_old + 1] = old_extra
        self.levels[: len(old_levels)] = old_levels
        rehash(old_words, words)

    def place(self) -> None:
        """Put the window where most of the levels around the market are, as wide as they are dense."""
        words, old = self.words, self.levels
        width, base = int(words[L.WIDTH]), int(words[L.BASE])
        n_far = int(words[L.SHELVED + L.FAR])
        shelf = words[L.N_STATE : L.N_STATE + n_far]
        near = np.flatnonzero(old["qty"][1 : width + 1]) + 1
        rows = np.concatenate((near, shelf & 0xFFFFFFFF))
        prices = np.concatenate((near + base, shelf >> 32))
        sides = [int(b) for b in words[[L.BEST_BID, L.BEST_ASK]] if abs(b) != L.NO_ASK]
        if not sides:  # nothing rests: any place will do
            words[L.FAR_USES] = 0
            return
        middle = sum(sides) // len(sides)
        wide = self.least
        for w in (self.least << i for i in range(1, 32)):
            inside = np.count_nonzero(np.abs(prices - middle) < w // 2)
            if w > max(MAX_LEVELS, self.least) or (w > MIN_LEVELS and inside * _SPARSE < w):
                break
            wide = w
        base = middle - wide // 2 - 1
        n_orders = len(self.orders) - 1
        keys = [words[L.N_STATE + s * n_orders :][: int(words[L.SHELVED + s])] for s in (1, 2)]
        levels = np.zeros(wide + 2 + n_orders, L.LEVEL)
        levels["qty"][[0, wide + 1]] = 1
        at = prices - base
        inside_mask = (at >= 1) & (at <= wide)
        levels[at[inside_mask]] = old[rows[inside_mask]]
        out = np.argsort(prices[~inside_mask])
        top = wide + 2
        fresh = np.arange(top, top + len(out))
        levels[fresh] = old[rows[~inside_mask][out]]
        words[L.N_STATE : L.N_STATE + len(out)] = (prices[~inside_mask][out] << 32) + fresh
        words[L.SHELVED + L.FAR] = len(out)
        top += len(out)
        for shelf in keys:  # waiting stops move along
            fresh = np.arange(top, top + len(shelf))
            levels[fresh] = old[shelf & 0xFFFFFFFF]
            shelf[:] = (shelf >> 32 << 32) + fresh
            top += len(shelf)
        words[L.LEVEL_FREE], words[L.LEVEL_TOP] = 0, top
        words[L.BASE], words[L.WIDTH] = base, wide
        words[L.FAR_USES] = 0
        words[L.FAR_LIMIT] = max(_CROWD, wide // 4, top - wide)
        self.levels = levels


@kernel
def rehash(old: Any, words: Any) -> None:
    """Put the slots of the hash table in `old` into the empty one in `words`."""
    at, shift = old[L.HASH_AT], old[L.HASH_SHIFT]
    new_at, new_shift = words[L.HASH_AT], words[L.HASH_SHIFT]
    last = (1 << (31 - new_shift)) - 1
    for i in range(at, at + (1 << (31 - shift))):
        word = old[i]
        if word != 0:
            slot = word >> (32 + new_shift)
            while words[new_at + slot] != 0:
                slot = (slot + 1) & last
            words[new_at + slot] = word
