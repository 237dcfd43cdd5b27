"""The replayed market book: a dense ladder of level quantities and, on L3, a table of orders.

``lad`` is ``(2, width)`` int32, row 0 bids and row 1 asks, column = price - ``st[S_BASE]``. The book
is never matched: it is what the tape says. Own orders are not in it.
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import inline_kernel, kernel
from mmsim.agent import (
    A_PX,
    A_QTY,
    B_PX,
    B_QTY,
    O_ASK_PX,
    O_ASK_QTY,
    O_BID_PX,
    O_BID_QTY,
    O_N_ASK,
    O_N_BID,
)
from mmsim.sim.layout import S_BA, S_BASE, S_BB, S_LAST_BA, S_LAST_BB, S_MID2, S_NA, S_NB, S_VIEW
from mmsim.types import MAX_DEPTH


@inline_kernel
def set_level(lad, st, row, ix, qty):
    """Set level `ix` on side row `row` to `qty` lots and keep best prices and level counts."""
    old = lad[row, ix]
    lad[row, ix] = qty
    if row == 0:
        if qty > 0:
            if old == 0:
                st[S_NB] += 1
            if ix > st[S_BB]:
                st[S_BB] = ix
        elif old > 0:
            st[S_NB] -= 1
            if ix == st[S_BB]:
                if st[S_NB] == 0:
                    st[S_BB] = -1
                else:
                    k = ix - 1
                    while lad[0, k] == 0:
                        k -= 1
                    st[S_BB] = k
    else:
        if qty > 0:
            if old == 0:
                st[S_NA] += 1
            if ix < st[S_BA]:
                st[S_BA] = ix
        elif old > 0:
            st[S_NA] -= 1
            if ix == st[S_BA]:
                if st[S_NA] == 0:
                    st[S_BA] = lad.shape[1]
                else:
                    k = ix + 1
                    while lad[1, k] == 0:
                        k += 1
                    st[S_BA] = k


@kernel
def clear_book(lad, st):
    """Void the whole book."""
    lad[:, :] = 0
    st[S_BB] = -1
    st[S_BA] = lad.shape[1]
    st[S_NB] = 0
    st[S_NA] = 0


@inline_kernel
def note_mid(st):
    """Remember the mid and best prices if the book is two-sided (at fills, decisions and the end)."""
    if st[S_NB] > 0 and st[S_NA] > 0:
        st[S_LAST_BB] = st[S_BASE] + st[S_BB]
        st[S_LAST_BA] = st[S_BASE] + st[S_BA]
        st[S_MID2] = st[S_LAST_BB] + st[S_LAST_BA]


@inline_kernel
def level_qty(lad, st, row, px):
    """Return the lots of others at `px`; 0 outside the ladder."""
    ix = px - st[S_BASE]
    if ix < 0 or ix >= lad.shape[1]:
        return np.int64(0)
    return np.int64(lad[row, ix])


@kernel
def in_view(lad, st, row, px):
    """Return 1 if the feed would show a level at `px` (it carries only ``st[S_VIEW]`` levels)."""
    view = st[S_VIEW]
    if view == 0:
        return 1
    ix = px - st[S_BASE]
    if row == 0:
        if st[S_NB] < view:
            return 1
        k = st[S_BB]
        seen = 1
        while seen < view:
            k -= 1
            if lad[0, k] > 0:
                seen += 1
        return 1 if ix >= k else 0
    if st[S_NA] < view:
        return 1
    k = st[S_BA]
    seen = 1
    while seen < view:
        k += 1
        if lad[1, k] > 0:
            seen += 1
    return 1 if ix <= k else 0


@kernel
def copy_depth(lad, st, raw):
    """Write the best ``MAX_DEPTH`` levels of each side into the observation vector `raw`."""
    base = st[S_BASE]
    raw[B_PX : A_QTY + MAX_DEPTH] = 0
    n = min(st[S_NB], MAX_DEPTH)
    k = st[S_BB]
    for i in range(n):
        while lad[0, k] == 0:
            k -= 1
        raw[B_PX + i] = base + k
        raw[B_QTY + i] = lad[0, k]
        k -= 1
    raw[O_N_BID] = n
    n = min(st[S_NA], MAX_DEPTH)
    k = st[S_BA]
    for i in range(n):
        while lad[1, k] == 0:
            k += 1
        raw[A_PX + i] = base + k
        raw[A_QTY + i] = lad[1, k]
        k += 1
    raw[O_N_ASK] = n
    raw[O_BID_PX] = raw[B_PX]
    raw[O_BID_QTY] = raw[B_QTY]
    raw[O_ASK_PX] = raw[A_PX]
    raw[O_ASK_QTY] = raw[A_QTY]
