"""Totals per price with the best of each side: how checks and assemblers see a book; not the book of the simulator.

``total[b]`` holds the quantities of bids (0) and asks (1) by price index, ``best[b]`` is the index of the best occupied
price: -1 or ``total.shape[1]`` if there is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints
from mmsim.types import EventFlag, EventKind

_LEVEL, _HIDE, _CLEAR = int(EventKind.LEVEL), int(EventKind.HIDE), int(EventKind.CLEAR)
_LAST = int(EventFlag.LAST)


@kernel
def put(total: Ints, best: Ints, b: int, at: Any, qty: Any) -> None:
    """Let `qty` be the total of side `b` at price index `at`."""
    total[b, at] = qty
    if b == 0:
        if qty > 0 and at > best[0]:
            best[0] = at
        while best[0] >= 0 and total[0, best[0]] == 0:
            best[0] -= 1
    else:
        if qty > 0 and at < best[1]:
            best[1] = at
        while best[1] < total.shape[1] and total[1, best[1]] == 0:
            best[1] += 1


def top_of_book(events: npt.NDArray[np.void]) -> Ints:
    """Return ``(n_messages, 4)``: bid px, bid qty, ask px, ask qty after each LAST row of level events.

    A side without levels has quantity 0.
    """
    level = (events["kind"] == _LEVEL) | (events["kind"] == _HIDE)
    px = events["px"][level].astype(np.int64)
    low, high = (int(px.min()), int(px.max())) if len(px) else (0, 0)
    out = np.zeros((int(np.sum(events["flags"] & _LAST > 0)), 4), dtype=np.int64)
    kind, side, px, qty, flags = (events[n].astype(np.int64) for n in ("kind", "side", "px", "qty", "flags"))
    _walk(kind, side, px, qty, flags, low, np.zeros((2, high - low + 1), dtype=np.int64), out)
    return out


def crossed_levels(events: npt.NDArray[np.void]) -> Ints:
    """Return the messages (index among the LAST rows) after which the book of level events is crossed or locked."""
    top = top_of_book(events)
    return np.flatnonzero((top[:, 1] > 0) & (top[:, 3] > 0) & (top[:, 0] >= top[:, 2]))


@kernel
def _walk(kind: Ints, side: Ints, px: Ints, qty: Ints, flags: Ints, low: int, total: Ints, out: Ints) -> None:
    width = total.shape[1]
    best = np.array([-1, width])
    n = 0
    for i in range(len(kind)):
        if kind[i] == _LEVEL or kind[i] == _HIDE:
            put(total, best, 0 if side[i] > 0 else 1, px[i] - low, qty[i] if kind[i] == _LEVEL else 0)
        elif kind[i] == _CLEAR:
            total[:, :] = 0
            best[0], best[1] = -1, width
        if flags[i] & _LAST:
            out[n, 0], out[n, 2] = low, low
            if best[0] >= 0:
                out[n, 0], out[n, 1] = best[0] + low, total[0, best[0]]
            if best[1] < width:
                out[n, 2], out[n, 3] = best[1] + low, total[1, best[1]]
            n += 1
