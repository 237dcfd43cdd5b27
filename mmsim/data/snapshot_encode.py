"""Snapshots of a few levels -> the level changes between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints, build_events
from mmsim.errors import DataError
from mmsim.types import EVENT, EventFlag, EventKind

_LEVEL, _HIDE, _TRADE = int(EventKind.LEVEL), int(EventKind.HIDE), int(EventKind.TRADE)
_LAST, _SNAPSHOT, _IMPLIED = int(EventFlag.LAST), int(EventFlag.SNAPSHOT), int(EventFlag.IMPLIED)
_MAX_WIDTH = 1 << 24  # ticks between the extreme prices of one day: more is a broken price


def encode(
    ts: Ints, bids: tuple[Ints, Ints], asks: tuple[Ints, Ints], trades: Ints, depth: int, source: str
) -> npt.NDArray[np.void]:
    """Return the events of snapshots: implied trades, then changed levels, at least one row per snapshot.

    A price better than or among the shown ones that is no longer shown is empty (LEVEL 0); one beyond the last
    shown is out of view (HIDE), unless the side shows fewer levels than `depth`: then nothing is beyond.

    Parameters
    ----------
    ts : (n,) ns
    bids, asks : pair of (n, >= depth) arrays
        Prices in ticks, best first, and lots; 0 lots: no quote.
    trades : (n, 6)
        As `implied_trades` returns them.
    """
    bid_px, bid_qty = (np.ascontiguousarray(a[:, :depth]) for a in bids)
    ask_px, ask_qty = (np.ascontiguousarray(a[:, :depth]) for a in asks)
    shown_px = np.concatenate([bid_px[bid_qty > 0], ask_px[ask_qty > 0]])
    if len(shown_px) == 0:
        return np.zeros(0, EVENT)
    low, high = int(shown_px.min()), int(shown_px.max())
    if high - low > _MAX_WIDTH:
        raise DataError(
            f"expected prices of one day within {_MAX_WIDTH} ticks, was {low} to {high}", source=source
        )
    size = len(ts) * (6 * depth + 3) + 16
    rows = np.empty((size, 6), dtype=np.int64)
    state = np.zeros((2, high - low + 1), dtype=np.int64)
    n = encode_levels(bid_px, bid_qty, ask_px, ask_qty, np.ascontiguousarray(trades), low, state, rows)
    rows = rows[:n]
    return build_events(
        ts=ts[rows[:, 0]],
        kind=rows[:, 1],
        side=rows[:, 2],
        px=rows[:, 3],
        qty=rows[:, 4],
        flags=rows[:, 5],
        source=source,
    )


@kernel
def encode_levels(
    bid_px: Ints,
    bid_qty: Ints,
    ask_px: Ints,
    ask_qty: Ints,
    trades: Ints,
    low: int,
    state: Ints,
    rows: Ints,
) -> int:
    """Write event rows (snapshot, kind, side, px, qty, flags) and return how many.

    ``state[side, px - low]`` is the quantity last shown, -1 for a hidden level, 0 for an empty or unknown
    one. `rows` must hold ``6 * depth + 3`` rows per snapshot: each shown level causes at most one LEVEL, one HIDE
    and one later LEVEL 0.
    """
    n = 0
    depth = bid_px.shape[1]
    width = state.shape[1]
    near = np.array([-1, width])  # best price index of each side with state != 0
    far = np.array([width, -1])  # worst one
    for i in range(bid_px.shape[0]):
        for j in range(2):
            if trades[i, 3 * j + 1] > 0:
                rows[n, 0], rows[n, 1], rows[n, 2] = i, _TRADE, trades[i, 3 * j + 2]
                rows[n, 3], rows[n, 4], rows[n, 5] = trades[i, 3 * j], trades[i, 3 * j + 1], _IMPLIED
                n += 1
        start = n
        for s in range(2):
            sign = 1 if s == 0 else -1
            px = bid_px if s == 0 else ask_px
            qty = bid_qty if s == 0 else ask_qty
            shown = 0
            while shown < depth and qty[i, shown] > 0:
                shown += 1
            # known prices down to the last shown one (all of them if the side shows less than it could)
            if near[s] >= 0 and near[s] < width:
                stop = far[s]
                if shown == depth:
                    last = px[i, shown - 1] - low
                    if (last - stop) * sign > 0:
                        stop = last
                at = near[s]
                k = 0
                while (at - stop) * sign >= 0:
                    while k < shown and (px[i, k] - low - at) * sign > 0:
                        k += 1
                    listed = k < shown and px[i, k] - low == at
                    if state[s, at] != 0 and not listed:
                        rows[n, 0], rows[n, 1], rows[n, 2] = i, _LEVEL, sign
                        rows[n, 3], rows[n, 4], rows[n, 5] = at + low, 0, _SNAPSHOT
                        n += 1
                        state[s, at] = 0
                    at -= sign
                # levels of the snapshot before that lie beyond the last shown one
                if i > 0 and shown == depth:
                    for k in range(depth):
                        if qty[i - 1, k] > 0 and (px[i, shown - 1] - px[i - 1, k]) * sign > 0:
                            rows[n, 0], rows[n, 1], rows[n, 2] = i, _HIDE, sign
                            rows[n, 3], rows[n, 4], rows[n, 5] = px[i - 1, k], 0, _SNAPSHOT
                            n += 1
                            state[s, px[i - 1, k] - low] = -1
        # what is new comes after all that is gone: the book is never crossed half-way
        for s in range(2):
            sign = 1 if s == 0 else -1
            px = bid_px if s == 0 else ask_px
            qty = bid_qty if s == 0 else ask_qty
            shown = 0
            while shown < depth and qty[i, shown] > 0:
                shown += 1
            for k in range(shown):
                at = px[i, k] - low
                if state[s, at] != qty[i, k]:
                    rows[n, 0], rows[n, 1], rows[n, 2] = i, _LEVEL, sign
                    rows[n, 3], rows[n, 4], rows[n, 5] = px[i, k], qty[i, k], _SNAPSHOT
                    n += 1
                    state[s, at] = qty[i, k]
            if shown == 0:
                near[s], far[s] = (-1, width) if s == 0 else (width, -1)
            else:
                near[s] = px[i, 0] - low
                last = px[i, shown - 1] - low
                if shown < depth or (last - far[s]) * sign < 0:
                    far[s] = last
        if n == start:  # nothing changed: repeat a best level so that the snapshot is still seen
            s = 0 if bid_qty[i, 0] > 0 else 1
            px, qty = (bid_px, bid_qty) if s == 0 else (ask_px, ask_qty)
            rows[n, 0], rows[n, 1], rows[n, 2] = i, _LEVEL, 1 if s == 0 else -1
            rows[n, 3] = px[i, 0] if qty[i, 0] > 0 else low  # an empty book says "empty" once more
            rows[n, 4], rows[n, 5] = qty[i, 0], _SNAPSHOT
            n += 1
        rows[n - 1, 5] |= _LAST
    return n
