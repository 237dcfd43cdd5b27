"""Many books stepped in one call: `Books`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmsim.book import layout as L
from mmsim.book.engine import execute_many
from mmsim.book.memory import Memory
from mmsim.book.reader import BookReader
from mmsim.book.view import compiled_form
from mmsim.errors import BookError


@dataclass(frozen=True)
class StepResult:
    """What the books did with one array of requests each.

    ``statuses`` is ``(n_books, m)`` int8, as in `mmsim.book.view.MatchResult`; ``events`` a MATCH array,
    the books one after the other; those of book ``b`` end at ``ends[b]``.
    """

    events: npt.NDArray[np.void]
    statuses: npt.NDArray[np.int8]
    ends: npt.NDArray[np.int64]

    def of(self, book: int) -> npt.NDArray[np.void]:
        """Return the events of one book."""
        return self.events[self.ends[book - 1] if book > 0 else 0 : self.ends[book]]


class Books:
    """Independent order books of equal standing, for batches of markets.

    Parameters
    ----------
    n : int
        Number of books.
    n_levels, n_orders : int
        Prices and orders that each has room for at first; they grow as `OrderBook` does.

    Examples
    --------
    >>> books = Books(2)
    >>> requests = np.zeros((2, 1), L.REQUEST)
    >>> requests["oid"], requests["verb"], requests["side"], requests["px"], requests["qty"] = 1, L.LIMIT, 1, 100, 5
    >>> books.step(requests).statuses.tolist()
    [[0], [0]]
    >>> books.best(+1).tolist()
    [100, 100]
    """

    def __init__(self, n: int, *, n_levels: int = 1024, n_orders: int = 256) -> None:
        if n < 1:
            raise BookError(f"expected one book at least, was {n}")
        one = Memory(n_orders, n_levels)
        self._words = np.tile(one.words, (n, 1))
        self._orders = np.tile(one.orders, (n, 1))
        self._extra = np.tile(one.extra, (n, 1))
        self._levels = np.tile(one.levels, (n, 1))

    def __len__(self) -> int:
        return len(self._words)

    def step(self, requests: npt.NDArray[np.void], *, buffer: int | None = None) -> StepResult:
        """Execute ``requests[b]`` on every book ``b``, in order.

        Parameters
        ----------
        requests : (n_books, m) REQUEST array
            As for `OrderBook.apply`; ids of one book mean nothing in another.
        buffer : int, optional
            Events collected before they are put aside; results do not depend on it.
        """
        if requests.dtype != L.REQUEST or requests.ndim != 2 or len(requests) != len(self):
            raise BookError(f"expected ({len(self)}, m) REQUEST, was {requests.shape} {requests.dtype}")
        ready = compiled_form(requests)
        statuses = np.zeros(ready.shape, np.int8)
        ends = np.zeros(len(self), np.int64)
        size = max(256, ready.size // 4) if buffer is None else max(buffer, 2)
        rows = np.zeros(size, L.MATCH)
        done: list[npt.NDArray[np.void]] = []
        before = 0  # events put aside
        book = at = n = 0
        while True:
            old = book
            book, at, n = execute_many(
                self._words, self._orders, self._extra, self._levels, ready, book, at, statuses, rows, ends, n
            )
            ends[old:book] += before
            if book == len(self):
                break
            if self._words[book, L.WHY] == L.FULL:
                done.append(rows[:n])
                rows = np.zeros(size, L.MATCH)
                before += n
                n = 0
            else:
                self._make_room(book)
        done.append(rows[:n])
        return StepResult(done[0] if len(done) == 1 else np.concatenate(done), statuses, ends)

    def best(self, side: int) -> npt.NDArray[np.int64]:
        """Return the best price of each book, ``(n_books,)`` ticks; below -2**31 or above 2**31 if a side is empty."""
        return self._words[:, L.BEST_BID if side > 0 else L.BEST_ASK].copy()

    def book(self, b: int) -> BookReader:
        """Return one book to look at, until the next step; ``OrderBook.restore`` takes its snapshot."""
        return BookReader(Memory.over(self._words[b], self._orders[b], self._extra[b], self._levels[b]))

    def _make_room(self, b: int) -> None:
        memory = Memory.over(self._words[b], self._orders[b], self._extra[b], self._levels[b])
        memory.make_room()
        self._words = _with_row(self._words, b, memory.words)
        self._orders = _with_row(self._orders, b, memory.orders)
        self._extra = _with_row(self._extra, b, memory.extra)
        self._levels = _with_row(self._levels, b, memory.levels)


def _with_row(table: npt.NDArray, b: int, row: npt.NDArray) -> npt.NDArray:  # type: ignore[type-arg]
    # rows of different books need not be used to the same length
    if len(row) > table.shape[1]:
        wider = np.zeros((len(table), len(row)), table.dtype)
        wider[:, : table.shape[1]] = table
        table = wider
    table[b, : len(row)] = row
    return table
