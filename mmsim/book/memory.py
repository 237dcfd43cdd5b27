"""The memory of one book, and what needs allocation: more orders, a window that stands better."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import NO_JIT, kernel, records
from mmsim.bits import words_for
from mmsim.book import layout as L
from mmsim.book.engine import execute
from mmsim.book.handle import handle_of
from mmsim.book.layout import Book
from mmsim.book.listing import export
from mmsim.book.rows import LOW, U, shift_of
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
    origin : int
        Price one tick below the window, which moves once a price outside it is used.
    """

    book: Book
    state: Any  # the book's scalars, one STATE record
    handle: Any  # `mmsim.book.handle`; the same array for good
    where: npt.NDArray[np.int64]  # of `mmsim.book.entry`

    def __init__(self, n_orders: int, n_levels: int, origin: int = 0) -> None:
        if n_levels < 1 or n_orders < 1:
            raise BookError(f"expected room for at least one level and order, was {n_levels}, {n_orders}")
        self._become(_allocated(n_orders, n_levels))
        s = self.state
        s.best_bid, s.best_ask, s.last = L.NO_BID, L.NO_ASK, L.NO_BID
        s.next_buy, s.next_sell = L.NO_ASK, L.NO_BID
        s.origin, s.width, s.least = origin, n_levels, n_levels
        s.top, s.level_top = 1, n_levels + 2
        s.far_limit = _CROWD

    @classmethod
    def over(cls, book: Book) -> Memory:
        """Return the memory of a book whose arrays are there already."""
        memory = cls.__new__(cls)
        memory._become(book)
        return memory

    def copy(self) -> Memory:
        """Return the memory of an equal book."""
        return Memory.over(Book(*[array.copy() for array in self.book]))

    def run(self, requests: Any, start: int, statuses: Any, matches: Any) -> int:
        """Execute requests until they are done or `matches` is full; return how far it came."""
        while True:
            start = execute(self.handle, records(requests), start, statuses, records(matches))
            if not self.make_room():
                return start

    def make_room(self) -> bool:
        """Do what the engine returned for; False if it was neither rows nor the window."""
        why = self.state.why
        if why == L.NO_ROWS:
            self.grow()
        elif why == L.CROWDED:
            self.place()
        else:
            return False
        return True

    def grow(self) -> None:
        """Make room for twice as many orders."""
        old = self.book
        n_old, width = old.shelves.shape[1], int(self.state.width)
        if n_old >= L.MAX_ROWS:
            raise BookError(f"expected at most {L.MAX_ROWS} orders in the book, was more: cancel some")
        new = _allocated(min(2 * n_old, L.MAX_ROWS), width)._replace(state=old.state, occupied=old.occupied)
        for name in ("orders", "extra", "levels"):
            array = getattr(old, name)
            getattr(new, name)[: len(array)] = array
        new.shelves[:, :n_old] = old.shelves
        rehash(old.slots, new.slots)
        self._become(new)

    def place(self) -> None:
        """Put the window where most of the levels around the market are, as wide as they are dense."""
        s, old = self.state, self.book.levels
        n_orders, least = self.book.shelves.shape[1], int(s.least)
        shelves = [self._shelf(i).copy() for i in range(L.N_SHELVES)]
        prices, rows = self._levels()
        sides = [int(b) for b in (s.best_bid, s.best_ask) if abs(b) != L.NO_ASK]
        middle = sum(sides) // max(len(sides), 1)
        width = wider = least
        while wider <= max(MAX_LEVELS, least):
            inside = np.count_nonzero(np.abs(prices - middle) < wider // 2)
            if wider > max(_DENSE, least) and inside * _SPARSE < wider:
                break
            width, wider = wider, 2 * wider
        origin = middle - 1 - width // 2
        levels = records(np.zeros(width + 2 + n_orders, L.LEVEL))
        at = prices - origin
        near = (at >= 1) & (at <= width)
        levels[at[near]] = old[rows[near]]
        order = np.argsort(prices[~near])
        shelves[L.FAR] = (prices[~near][order] << 32) + rows[~near][order]
        s.shelved[L.FAR] = len(order)
        top = width + 2
        for shelf, entries in enumerate(shelves):  # all rows behind the window move
            fresh = np.arange(top, top + len(entries))
            levels[fresh] = old[entries & LOW]
            self.book.shelves[shelf, : len(entries)] = (entries >> 32 << 32) + fresh
            top += len(entries)
        s.level_free, s.level_top = 0, top
        s.origin, s.width = origin, width
        s.far_uses = 0
        s.far_limit = max(_CROWD, width // 4, len(order))  # what a placement costs, in the long run
        self._become(self.book._replace(levels=levels, occupied=_bitmap(levels["qty"][: width + 2] != 0)))

    def requests(self) -> npt.NDArray[np.void]:
        """Return the book as the requests that make it; see `mmsim.book.listing.export`."""
        out = np.zeros(int(self.state.live), L.REQUEST)
        export(self.handle, records(out))
        return out

    def depth(self, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return prices and lots shown of the levels of one side, best first."""
        prices, rows = self._levels()
        mine = prices <= self.state.best_bid if side > 0 else prices >= self.state.best_ask
        order = np.argsort(-side * prices[mine])
        return prices[mine][order], self.book.levels["qty"][rows[mine][order]]

    def _become(self, book: Book) -> None:
        self.book = book
        self.state = book.state.view(np.recarray)[0]
        if NO_JIT or not hasattr(self, "handle"):
            self.handle = handle_of(book)
        else:  # pragma: no cover (compiled code only)
            self.handle[:] = handle_of(book)

    def _shelf(self, shelf: int) -> npt.NDArray[np.int64]:
        entries: npt.NDArray[np.int64] = self.book.shelves[shelf, : int(self.state.shelved[shelf])]
        return entries

    def _levels(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        # prices that have orders and their rows of `levels`
        near = np.flatnonzero(self.book.levels["qty"][1 : int(self.state.width) + 1]) + 1
        far = self._shelf(L.FAR)
        return np.concatenate((near + self.state.origin, far >> 32)), np.concatenate((near, far & LOW))


def compiled_form(requests: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return `requests` in the one memory layout the engine is compiled for (a copy, if need be)."""
    plain = np.ascontiguousarray(requests)
    return plain if plain.flags.writeable and type(plain) is np.ndarray else np.array(plain, subok=False)


def _allocated(n_orders: int, n_levels: int) -> Book:
    return Book(
        records(np.zeros(1, L.STATE)),
        records(np.zeros(n_orders + 1, L.ORDER)),
        records(np.zeros(n_orders + 1, L.EXTRA)),
        # behind the window one row for every order that may be alone at a price outside it
        records(np.zeros(n_levels + 2 + n_orders, L.LEVEL)),
        np.zeros(words_for(n_levels + 2), np.uint64),
        np.zeros((L.N_SHELVES, n_orders), np.int64),
        np.zeros(1 << max(4, (8 * n_orders - 1).bit_length()), np.int64),  # an eighth full: short searches
    )


def _bitmap(occupied: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    padded = np.zeros(64 * words_for(len(occupied)), np.bool_)
    padded[: len(occupied)] = occupied
    return np.packbits(padded, bitorder="little").view("<u8")


@kernel
def rehash(old: Any, new: Any) -> None:
    """Put the entries of hash table `old` into the larger, empty one `new`."""
    last, shift = len(new) - 1, 32 + shift_of(new)
    for word in old:
        if word != 0:
            slot = word >> shift
            while new[U(slot)] != 0:
                slot = (slot + 1) & last
            new[U(slot)] = word
