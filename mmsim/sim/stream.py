"""Events larger than memory: rows are read in chunks of a memory-mapped file and given back when done."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK_ROWS = 1 << 20  # 24 MiB of events; longer chunks are no faster


class EventStream:
    """Lends the rows of an event array to the kernel, chunk by chunk if they are mapped from a file.

    An array in memory is lent as a whole. Of a mapped one the pages of the chunk before are given back to
    the system, so that a replay of any length stays within two chunks of memory.

    Parameters
    ----------
    events : (n,) EVENT array
    recv_ts : (n,) int64 array, optional
        Receive times; the same rows are given back.
    """

    def __init__(
        self, events: npt.NDArray[np.void], recv_ts: npt.NDArray[np.int64] | None, rows: int = CHUNK_ROWS
    ) -> None:
        self._files = [(a, m) for a in (events, recv_ts) if a is not None and (m := _mapping(a)) is not None]
        self._rows = rows if self._files else 0
        self._lent = (0, 0)

    def open(self, start: int, stop: int) -> int:
        """Lend the rows from `start` on and give back those lent before; return where the chunk ends."""
        if not self._rows:
            return stop
        end = min(start + self._rows, stop)
        if self._lent[1] <= start or self._lent[0] > start:
            self._give_back(*self._lent)
        self._lent = (start, end)
        return end

    def _give_back(self, start: int, stop: int) -> None:
        for array, mapping in self._files:
            first = array.ctypes.data - _address(mapping) + start * array.itemsize
            low = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
            high = (first + (stop - start) * array.itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
            if high > low and hasattr(mmap, "MADV_DONTNEED"):
                mapping.madvise(mmap.MADV_DONTNEED, low, high - low)


def _mapping(array: npt.NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _address(mapping: mmap.mmap) -> int:
    return int(np.frombuffer(mapping, np.uint8, 1).ctypes.data)
