"""Many books stepped in one call: `Books`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import records
from mmsim.book import layout as L
from mmsim.book.engine import execute_many
from mmsim.book.handle import handles_of
from mmsim.book.layout import Book
from mmsim.book.memory import Memory, compiled_form
from mmsim.book.reader import BookReader
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
        one = Memory(n_orders, n_levels).book
        # one table per array, one row per book: all are zero at first, but for the scalars
        self._tables = Book(*[records(np.zeros((n, *array.shape), array.dtype)) for array in one])
        self._tables.state[:] = one.state
        self._handles: Any = handles_of(self._tables)
        self._grown: dict[int, Memory] = {}  # books that have arrays of their own

    def __len__(self) -> int:
        return len(self._tables.state)

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
        ready = records(compiled_form(requests))
        statuses = np.zeros(ready.shape, np.int8)
        ends = np.zeros(len(self), np.int64)
        size = max(256, ready.size // 4) if buffer is None else max(buffer, 2)
        rows = records(np.zeros(size, L.MATCH))
        done: list[npt.NDArray[np.void]] = []
        before = 0  # events put aside
        book = at = n = 0
        while True:
            old = book
            book, at, n = execute_many(self._handles, ready, book, at, statuses, rows, ends, n)
            ends[old:book] += before
            if book == len(self):
                break
            memory = self._memory(book)
            if memory.make_room():
                self._grown[book], self._handles[book] = memory, memory.handle
            else:
                done.append(rows[:n])
                rows = records(np.zeros(size, L.MATCH))
                before += n
                n = 0
        done.append(rows[:n])
        events = np.concatenate(done) if len(done) > 1 else done[0]
        return StepResult(events.view(np.ndarray), statuses, ends)

    def best(self, side: int) -> npt.NDArray[np.int64]:
        """Return the best price of each book, ``(n_books,)`` ticks; below -2**31 or above 2**31 if a side is empty."""
        best: npt.NDArray[np.int64] = self._tables.state["best_bid" if side > 0 else "best_ask"][:, 0].copy()
        return best

    def book(self, b: int) -> BookReader:
        """Return one book to look at, until the next step; ``OrderBook.restore`` takes its snapshot."""
        return BookReader(self._memory(b))

    def _memory(self, b: int) -> Memory:
        return self._grown.get(b) or Memory.over(Book(*[table[b] for table in self._tables]))
