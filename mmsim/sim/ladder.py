"""The replayed book: a dense ladder of level quantities and, on L3, a table of orders.

``lad`` is ``(2, width)`` int32, row 0 bids and row 1 asks, column = price - ``sim.book.base_px``. The book
is never matched: it is what the feed says. Own orders are not in it. Memory is touched only where
prices stand, so a very wide ladder costs address space alone.

With ``impact = "consume"`` there are two more rows, the liquidity ledger: what own fills took from a
level (negative) or left over there (positive, others were spared because we were hit). It ends with the
level, and it never takes more than the level holds. With ``"reactive"`` it holds what own orders have taken
at this moment and the market's next rows take out.
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import inline_kernel, kernel
from mmsim.sim.records import TAPE_LEDGER

U = np.uint64  # of an index that is not negative: spares the test for one that counts from the end


@inline_kernel
def set_level(sim, lad, row, ix, qty):
    """Set level `ix` on side row `row` to `qty` lots and keep best prices and level counts."""
    # By index, not by `if`: sides are random, and a mispredicted branch costs as much as all the rest.
    book = sim.book
    old = lad[U(row), U(ix)]
    lad[U(row), U(ix)] = qty
    n = book.levels[U(row)] + np.int64((qty > 0) & (old == 0)) - np.int64((qty == 0) & (old > 0))
    book.levels[U(row)] = n
    best, side = book.best[U(row)], 1 - 2 * row
    if qty > 0:
        book.best[U(row)] = ix if (ix - best) * side > 0 else best
    elif old > 0 and ix == best:
        k = ix - side
        if n == 0:
            k = -1 if row == 0 else lad.shape[1]
        else:
            while lad[U(row), U(k)] == 0:
                k -= side
        book.best[U(row)] = k
    if sim.rules.ledger == TAPE_LEDGER:
        lad[row + 2, ix] = 0 if qty == 0 else max(lad[row + 2, ix], -qty)


@inline_kernel
def available(sim, lad, row, ix):
    """Return the lots at level `ix` that own orders can still take, or must queue behind."""
    if sim.rules.ledger >= TAPE_LEDGER:
        return np.int64(lad[row, ix]) + np.int64(lad[row + 2, ix])
    return np.int64(lad[row, ix])


@inline_kernel
def note_taken(sim, lad, row, ix, lots):
    """Note in the liquidity ledger, if there is one, that own fills left `lots` more at level `ix`."""
    # in a market that reacts nobody is spared: whoever came was met by us, and went on if lots were left
    ledger = sim.rules.ledger
    kept = ledger == TAPE_LEDGER or (ledger > TAPE_LEDGER and lots < 0)
    # spared lots stand in a level; where the tape shows none, nobody is left over
    if kept and 0 <= ix < lad.shape[1] and (lots < 0 or lad[row, ix] > 0):
        lad[row + 2, ix] += lots


@inline_kernel
def spared(sim, lad, row, ix):
    """Return the lots at level `ix` that trades spared because they hit us."""
    if sim.rules.ledger == TAPE_LEDGER:
        return np.int64(max(lad[row + 2, ix], 0))
    return np.int64(0)


@inline_kernel
def next_level(lad, row, ix):
    """Return `ix` if that level is occupied, else the next worse one that is; the caller knows there is one."""
    step = 2 * row - 1
    while lad[U(row), U(ix)] == 0:
        ix += step
    return ix


@kernel
def best_available(sim, lad, row):
    """Return the ladder index of the best level of a side that own orders can take from, or -1."""
    k, left, step = sim.book.best[row], sim.book.levels[row], 2 * row - 1
    while left > 0:
        k = next_level(lad, row, k)
        if available(sim, lad, row, k) > 0:
            return k
        left -= 1
        k += step
    return -1


@kernel
def clear_book(sim, lad):
    """Void the whole book."""
    book = sim.book
    for row in range(2):
        k, step = book.best[row], 2 * row - 1
        for _ in range(book.levels[row]):
            k = next_level(lad, row, k)
            lad[row, k] = 0
            if sim.rules.ledger >= TAPE_LEDGER:
                lad[row + 2, k] = 0
            k += step
        book.levels[row] = 0
    book.best[0], book.best[1] = -1, lad.shape[1]


@inline_kernel
def note_mid(sim):
    """Remember the mid and best prices if the book is two-sided (at fills, decisions and the end)."""
    book = sim.book
    if book.levels[0] > 0 and book.levels[1] > 0:
        bid, ask = book.base_px + book.best[0], book.base_px + book.best[1]
        book.last_best[0], book.last_best[1], book.mid2 = bid, ask, bid + ask


@inline_kernel
def level_qty(sim, lad, row, px):
    """Return the lots of others at `px` that a new order joins behind; 0 outside the ladder."""
    ix = px - sim.book.base_px
    if ix < 0 or ix >= lad.shape[1]:
        return np.int64(0)
    return available(sim, lad, row, ix)


@kernel
def in_view(sim, lad, row, px):
    """Return 1 if the feed would show a level at `px` (it carries only ``sim.rules.view_depth`` levels)."""
    view, step = sim.rules.view_depth, 2 * row - 1
    if view == 0 or sim.book.levels[row] < view:
        return 1
    k = next_level(lad, row, sim.book.best[row])
    for _ in range(view - 1):
        k = next_level(lad, row, k + step)
    return 1 if (px - sim.book.base_px - k) * step <= 0 else 0


@kernel
def worst_visible(sim, lad, row):
    """Return the price of the worst displayed level of a side; its last known best price if there is none."""
    if sim.book.levels[row] == 0:
        return sim.book.last_best[row]
    step = 2 * row - 1
    k = next_level(lad, row, sim.book.best[row])
    for _ in range(sim.book.levels[row] - 1):
        k = next_level(lad, row, k + step)
    return sim.book.base_px + k


@inline_kernel
def copy_side(sim, lad, row, depth, pxs, qtys):
    """Write the best `depth` levels of a side, zeros behind the last; return how many there are."""
    base, step = sim.book.base_px, 2 * row - 1
    n = min(sim.book.levels[U(row)], depth)
    k = sim.book.best[U(row)]
    for j in range(n):
        k = next_level(lad, row, k)
        pxs[U(j)] = base + k
        qtys[U(j)] = lad[U(row), U(k)]
        k += step
    for j in range(n, depth):
        pxs[U(j)] = 0
        qtys[U(j)] = 0
    return n
