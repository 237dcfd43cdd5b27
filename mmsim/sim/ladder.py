"""The replayed market book: a dense ladder of level quantities and, on L3, a table of orders.

``lad`` is ``(2, width)`` int32, row 0 bids and row 1 asks, column = price - ``st[S_BASE]``. The book
is never matched: it is what the tape says. Own orders are not in it. Memory is touched only where
prices stand, so a very wide ladder costs address space alone.

With ``impact = "consume"`` there are two more rows, the liquidity ledger: what own fills took from a
level (negative) or left over there (positive, others were spared because we were hit). It ends with the
level, and it never takes more than the level holds. With ``"reactive"`` it holds what own orders have taken
at this moment and the market's next rows take out.
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
from mmsim.sim.layout import (
    S_BA,
    S_BASE,
    S_BB,
    S_CONSUME,
    S_LAST_BA,
    S_LAST_BB,
    S_MID2,
    S_NA,
    S_NB,
    S_VIEW,
    TAPE_LEDGER,
)
from mmsim.types import MAX_DEPTH

U = np.uint64  # of an index that is not negative: spares the test for one that counts from the end


@inline_kernel
def pop(st, head, tail):
    """Take the oldest entry off a ring; an empty one starts again in front, where memory is warm."""
    st[head] += 1
    if st[head] == st[tail]:
        st[head] = 0
        st[tail] = 0


@inline_kernel
def set_level(lad, st, row, ix, qty):
    """Set level `ix` on side row `row` to `qty` lots and keep best prices and level counts."""
    # By index, not by `if`: sides are random, and a mispredicted branch costs as much as all the rest.
    old = lad[U(row), U(ix)]
    lad[U(row), U(ix)] = qty
    st[S_NB + row] += np.int64((qty > 0) & (old == 0)) - np.int64((qty == 0) & (old > 0))
    best, side = st[S_BB + row], 1 - 2 * row
    if qty > 0:
        st[S_BB + row] = ix if (ix - best) * side > 0 else best
    elif old > 0 and ix == best:
        k = ix - side
        if st[S_NB + row] == 0:
            k = -1 if row == 0 else lad.shape[1]
        else:
            while lad[U(row), U(k)] == 0:
                k -= side
        st[S_BB + row] = k
    if st[S_CONSUME] == TAPE_LEDGER:
        lad[row + 2, ix] = 0 if qty == 0 else max(lad[row + 2, ix], -qty)


@inline_kernel
def available(lad, st, row, ix):
    """Return the lots at level `ix` that own orders can still take, or must queue behind."""
    if st[S_CONSUME] >= TAPE_LEDGER:
        return np.int64(lad[row, ix]) + np.int64(lad[row + 2, ix])
    return np.int64(lad[row, ix])


@inline_kernel
def ledger(lad, st, row, ix, lots):
    """Note in the liquidity ledger, if there is one, that own fills left `lots` more at level `ix`."""
    # in a market that reacts nobody is spared: whoever came was met by us, and went on if lots were left
    kept = st[S_CONSUME] == TAPE_LEDGER or (st[S_CONSUME] > TAPE_LEDGER and lots < 0)
    # spared lots stand in a level; where the tape shows none, nobody is left over
    if kept and 0 <= ix < lad.shape[1] and (lots < 0 or lad[row, ix] > 0):
        lad[row + 2, ix] += lots


@inline_kernel
def spared(lad, st, row, ix):
    """Return the lots at level `ix` that trades spared because they hit us."""
    if st[S_CONSUME] == TAPE_LEDGER:
        return np.int64(max(lad[row + 2, ix], 0))
    return np.int64(0)


@kernel
def best_available(lad, st, row):
    """Return the ladder index of the best level of a side that own orders can take from, or -1."""
    k, left = (st[S_BB], st[S_NB]) if row == 0 else (st[S_BA], st[S_NA])
    step = -1 if row == 0 else 1
    while left > 0:
        if lad[row, k] > 0:
            if available(lad, st, row, k) > 0:
                return k
            left -= 1
        k += step
    return -1


@kernel
def clear_book(lad, st):
    """Void the whole book."""
    for row in range(2):
        k, left = (st[S_BB], st[S_NB]) if row == 0 else (st[S_BA], st[S_NA])
        while left > 0:
            if lad[row, k] > 0:
                lad[row, k] = 0
                if st[S_CONSUME] >= TAPE_LEDGER:
                    lad[row + 2, k] = 0
                left -= 1
            k += -1 if row == 0 else 1
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
    """Return the lots of others at `px` that a new order joins behind; 0 outside the ladder."""
    ix = px - st[S_BASE]
    if ix < 0 or ix >= lad.shape[1]:
        return np.int64(0)
    return available(lad, st, row, ix)


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
def copy_depth(lad, st, ring, i):
    """Write the best ``MAX_DEPTH`` levels of each side into the observation in row `i` of `ring`."""
    base = st[S_BASE]
    n = min(st[S_NB], MAX_DEPTH)
    k = st[S_BB]
    for j in range(n):
        while lad[0, k] == 0:
            k -= 1
        ring[i, B_PX + j] = base + k
        ring[i, B_QTY + j] = lad[0, k]
        k -= 1
    for j in range(n, MAX_DEPTH):
        ring[i, B_PX + j] = 0
        ring[i, B_QTY + j] = 0
    ring[i, O_N_BID] = n
    n = min(st[S_NA], MAX_DEPTH)
    k = st[S_BA]
    for j in range(n):
        while lad[1, k] == 0:
            k += 1
        ring[i, A_PX + j] = base + k
        ring[i, A_QTY + j] = lad[1, k]
        k += 1
    for j in range(n, MAX_DEPTH):
        ring[i, A_PX + j] = 0
        ring[i, A_QTY + j] = 0
    ring[i, O_N_ASK] = n
    ring[i, O_BID_PX] = ring[i, B_PX]
    ring[i, O_BID_QTY] = ring[i, B_QTY]
    ring[i, O_ASK_PX] = ring[i, A_PX]
    ring[i, O_ASK_QTY] = ring[i, A_QTY]
