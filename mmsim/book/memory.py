"""The four arrays of one book, and what needs allocation: more orders, a window that stands better."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.book import layout as L
from mmsim.book.engine import execute
from mmsim.book.shelves import export
from mmsim.errors import BookError

MAX_LEVELS = 1 << 16  # usable prices of a window that grew
_DENSE = 1 << 10  # up to here a window may be as empty as it likes
_SPARSE = 32  # a larger one must have orders at one price in so many
_CROWD = 256  # touches of far prices before the window is placed anew, at least


class Memory:
    """The arrays of one book (see `mmsim.book.layout`); they are replaced when it grows.

    Parameters
    ----------
    n_orders, n_levels : int
        Orders and prices of the window to make room for at first.
    """

    words: npt.NDArray[np.int64]
    orders: npt.NDArray[np.void]
    extra: npt.NDArray[np.void]
    levels: npt.NDArray[np.void]
    where: npt.NDArray[np.int64]  # address and length of each, and of three more: `mmsim.book.entry`

    def __init__(self, n_orders: int, n_levels: int) -> None:
        if n_levels < 1 or n_orders < 1:
            raise BookError(f"expected room for at least one level and order, was {n_levels}, {n_orders}")
        self.where = np.zeros(14, np.int64)
        self._allocate(n_orders, n_levels)
        w = self.words
        w[L.BEST_BID], w[L.BEST_ASK], w[L.LAST] = L.NO_BID, L.NO_ASK, L.NO_BID
        w[L.NEXT_BUY], w[L.NEXT_SELL] = L.NO_ASK, L.NO_BID
        w[L.TOP], w[L.LEVEL_TOP] = 1, n_levels + 2
        w[L.LEAST], w[L.FAR_LIMIT] = n_levels, _CROWD

    @classmethod
    def over(cls, words: Any, orders: Any, extra: Any, levels: Any) -> Memory:
        """Return the memory of a book whose arrays are there already."""
        memory = cls.__new__(cls)
        memory.words, memory.orders, memory.extra, memory.levels = words, orders, extra, levels
        memory.where = np.zeros(14, np.int64)
        return memory

    def _allocate(self, n_orders: int, n_levels: int) -> None:
        bits = max(4, (8 * n_orders - 1).bit_length())  # at most an eighth full: short searches
        hash_at = L.N_STATE + 3 * n_orders
        self.words = np.zeros(hash_at + (1 << bits), np.int64)
        self.words[L.HASH_AT], self.words[L.HASH_SHIFT] = hash_at, 31 - bits
        self.words[L.SHELF_SIZE], self.words[L.WIDTH] = n_orders, n_levels
        self.orders = np.zeros(n_orders + 1, L.ORDER)
        self.extra = np.zeros(n_orders + 1, L.EXTRA)
        self.levels = _window(n_levels, n_orders)
        self._locate()

    def _locate(self) -> None:
        for i, array in enumerate((self.words, self.orders, self.extra, self.levels)):
            self.where[2 * i : 2 * i + 2] = array.ctypes.data, len(array)

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
        old, old_orders, old_extra, old_levels = self.words, self.orders, self.extra, self.levels
        n_old, width = int(old[L.SHELF_SIZE]), int(old[L.WIDTH])
        if n_old >= L.MAX_ROWS:
            raise BookError(f"expected at most {L.MAX_ROWS} orders in the book, was more: cancel some")
        self._allocate(min(2 * n_old, L.MAX_ROWS), width)
        words = self.words
        own = [L.HASH_AT, L.HASH_SHIFT, L.SHELF_SIZE]
        kept = words[own]
        words[: L.N_STATE] = old[: L.N_STATE]
        words[own] = kept
        for shelf in range(3):
            n, old_at = int(old[L.SHELVED + shelf]), L.N_STATE + shelf * n_old
            at = L.N_STATE + shelf * int(words[L.SHELF_SIZE])
            words[at : at + n] = old[old_at : old_at + n]
        self.orders[: n_old + 1] = old_orders[: n_old + 1]
        self.extra[: n_old + 1] = old_extra[: n_old + 1]
        self.levels[: width + 2 + n_old] = old_levels[: width + 2 + n_old]
        rehash(old, words)

    def place(self) -> None:
        """Put the window where most of the levels around the market are, as wide as they are dense."""
        words, old = self.words, self.levels
        n_orders, least = int(words[L.SHELF_SIZE]), int(words[L.LEAST])
        shelves = [words[L.N_STATE + s * n_orders :][: int(words[L.SHELVED + s])].copy() for s in range(3)]
        near = np.flatnonzero(old["qty"][1 : int(words[L.WIDTH]) + 1]) + 1
        rows = np.concatenate((near, shelves[L.FAR] & 0xFFFFFFFF))
        prices = np.concatenate((near + words[L.BASE], shelves[L.FAR] >> 32))
        sides = [int(b) for b in words[[L.BEST_BID, L.BEST_ASK]] if abs(b) != L.NO_ASK]
        middle = sum(sides) // max(len(sides), 1)
        width = wider = least
        while wider <= max(MAX_LEVELS, least):
            inside = np.count_nonzero(np.abs(prices - middle) < wider // 2)
            if wider > max(_DENSE, least) and inside * _SPARSE < wider:
                break
            width, wider = wider, 2 * wider
        base = middle - 1 - width // 2
        levels = _window(width, n_orders)
        at = prices - base
        inside_now = (at >= 1) & (at <= width)
        levels[at[inside_now]] = old[rows[inside_now]]
        order = np.argsort(prices[~inside_now])
        shelves[L.FAR] = (prices[~inside_now][order] << 32) + rows[~inside_now][order]
        words[L.SHELVED + L.FAR] = len(order)
        top = width + 2
        for s, entries in enumerate(shelves):  # all rows behind the window move
            fresh = np.arange(top, top + len(entries))
            levels[fresh] = old[entries & 0xFFFFFFFF]
            words[L.N_STATE + s * n_orders :][: len(entries)] = (entries >> 32 << 32) + fresh
            top += len(entries)
        words[L.LEVEL_FREE], words[L.LEVEL_TOP] = 0, top
        words[L.BASE], words[L.WIDTH] = base, width
        words[L.FAR_USES] = 0
        words[L.FAR_LIMIT] = max(_CROWD, width // 4, len(order))  # what a placement costs, in the long run
        self.levels = levels
        self._locate()

    def requests(self) -> npt.NDArray[np.void]:
        """Return the book as the requests that make it; see `mmsim.book.shelves.export`."""
        out = np.zeros(int(self.words[L.LIVE]), L.REQUEST)
        export(self.words, self.orders, self.extra, self.levels, out)
        return out

    def depth(self, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return prices and lots shown of the levels of one side, best first."""
        words = self.words
        width = int(words[L.WIDTH])
        shelf = words[L.N_STATE : L.N_STATE + int(words[L.SHELVED + L.FAR])]
        near = np.flatnonzero(self.levels["qty"][1 : width + 1]) + 1
        rows = np.concatenate((near, shelf & 0xFFFFFFFF))
        prices = np.concatenate((near + words[L.BASE], shelf >> 32))
        mine = prices <= words[L.BEST_BID] if side > 0 else prices >= words[L.BEST_ASK]
        order = np.argsort(-side * prices[mine])
        return prices[mine][order], self.levels["qty"][rows[mine][order]]


def _window(n_levels: int, n_orders: int) -> npt.NDArray[np.void]:
    # behind the window one row for every order that may be alone at a price outside it
    levels = np.zeros(n_levels + 2 + n_orders, L.LEVEL)
    levels["qty"][[0, n_levels + 1]] = 1  # never empty: searches stop there
    return levels


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
