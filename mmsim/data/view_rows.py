"""The rows of the views: orders to levels, levels to snapshots."""

from __future__ import annotations

import numpy as np

from mmsim._jit import kernel
from mmsim.data.conversion import Ints
from mmsim.data.ladder import put
from mmsim.types import EventFlag, EventKind

_ADD, _EXECUTE, _TRADE = int(EventKind.ADD), int(EventKind.EXECUTE), int(EventKind.TRADE)
_LEVEL, _HIDE, _CLEAR = int(EventKind.LEVEL), int(EventKind.HIDE), int(EventKind.CLEAR)
_LAST, _AUCTION = int(EventFlag.LAST), int(EventFlag.AUCTION)


@kernel
def to_levels(
    ts: Ints,
    kind: Ints,
    side: Ints,
    px: Ints,
    qty: Ints,
    flags: Ints,
    low: int,
    book: Ints,
    seen: Ints,
    out: Ints,
) -> int:
    """Write the L2 rows of one segment, columns ts, kind, side, px, qty, flags, source row; return how many.

    `book` holds the totals; `seen` one more than the total before the open message of the levels it touched.
    Returns ``-1 - row`` if a level would become negative.
    """
    touched = np.zeros((max(len(ts), 1), 2), np.int64)
    n, n_touched, begin = 0, 0, 0
    auction = 0
    for i in range(len(ts)):
        k = kind[i]
        auction |= flags[i] & _AUCTION
        if k in (_TRADE, _EXECUTE, _HIDE, _CLEAR):
            out[n, 0], out[n, 1], out[n, 2], out[n, 3] = ts[i], k, side[i], px[i]
            out[n, 4], out[n, 5], out[n, 6] = qty[i], flags[i] & ~_LAST, i
            if k == _EXECUTE:
                out[n, 1] = _TRADE
                out[n, 2] = 0 if flags[i] & _AUCTION else -side[i]
            n += 1
        if k == _CLEAR:
            book[:, :] = 0
            for j in range(n_touched):
                seen[touched[j, 0], touched[j, 1]] = 0
            n_touched = 0
        elif k != _TRADE:
            row, at = 0 if side[i] > 0 else 1, px[i] - low
            if k == _HIDE:
                book[row, at] = 0
                if seen[row, at] > 0:  # its total is no longer published
                    seen[row, at] = 0
                    for j in range(n_touched):
                        if touched[j, 0] == row and touched[j, 1] == at:
                            n_touched -= 1
                            touched[j, 0], touched[j, 1] = touched[n_touched, 0], touched[n_touched, 1]
                            break
            else:
                if seen[row, at] == 0:
                    seen[row, at] = book[row, at] + 1
                    touched[n_touched, 0], touched[n_touched, 1] = row, at
                    n_touched += 1
                book[row, at] += qty[i] if k == _ADD else -qty[i]
                if book[row, at] < 0:
                    return -1 - i
        if flags[i] & _LAST or i == len(ts) - 1:
            for grown in range(2):  # what shrinks comes first: the book is never crossed half-way
                for j in range(n_touched):
                    row, at = touched[j, 0], touched[j, 1]
                    if (book[row, at] + 1 > seen[row, at]) != (grown == 1):
                        continue
                    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = ts[i], _LEVEL, 1 - 2 * row, at + low
                    out[n, 4], out[n, 5], out[n, 6] = book[row, at], auction, i
                    n += 1
            for j in range(n_touched):
                seen[touched[j, 0], touched[j, 1]] = 0
            if n > begin:
                out[n - 1, 5] |= flags[i] & _LAST
            n_touched, begin, auction = 0, n, 0
    return n


@kernel
def sample(
    ts: Ints,
    kind: Ints,
    side: Ints,
    px: Ints,
    qty: Ints,
    low: int,
    book: Ints,
    grid: Ints,
    bid_px: Ints,
    bid_qty: Ints,
    ask_px: Ints,
    ask_qty: Ints,
    last: Ints,
    volume: Ints,
    turnover: Ints,
) -> None:
    """Write what a snapshot at each time of `grid` shows of one segment's L2 rows."""
    depth = bid_px.shape[1]
    width = book.shape[1]
    best = np.array([-1, width])  # no quote beyond these
    price, lots, value = np.int64(0), np.int64(0), np.int64(0)
    i = 0
    for g in range(len(grid)):
        while i < len(ts) and ts[i] <= grid[g]:
            row, at = 0 if side[i] > 0 else 1, px[i] - low
            if kind[i] == _TRADE:
                price = px[i]
                lots += qty[i]
                value += qty[i] * px[i]
            elif kind[i] == _CLEAR:
                book[:, :] = 0
                best[0], best[1] = -1, width
            elif kind[i] == _LEVEL or kind[i] == _HIDE:
                put(book, best, row, at, qty[i] if kind[i] == _LEVEL else 0)
            i += 1
        for row in range(2):
            step = -1 if row == 0 else 1
            at, shown = best[row], 0
            while 0 <= at < width and shown < depth:
                if book[row, at] > 0:
                    if row == 0:
                        bid_px[g, shown], bid_qty[g, shown] = at + low, book[row, at]
                    else:
                        ask_px[g, shown], ask_qty[g, shown] = at + low, book[row, at]
                    shown += 1
                at += step
        last[g], volume[g], turnover[g] = price, lots, value
