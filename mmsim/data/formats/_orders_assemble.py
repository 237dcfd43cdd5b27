"""The kernel of the order-by-order converters: slots, the queues' priority, and which print tells which execution.

See `mmsim.data.formats._orders` for the rules, `mmsim.data.formats._slots` for how slots are kept.

Further columns of `slots`: lots that fills announced, the last of these fills (-1: none). Of `prints`, one row per print of the open event: price, lots that no execution told yet, aggressor, flags, lots
that no fill announced yet, owner, and 1 once it stands there as the print of an auction. Of `fills`, one row per fill
of the open event that announced lots: print, lots still to be executed, the fill of the same order before it, slot.
`state` goes on with prints and fills of the open event.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import hot_kernel, kernel
from mmsim.data.formats._slots import FULL, emit, place, release, take
from mmsim.data.ladder import put

# what `convert` returns first, besides FULL
DUPLICATE, UNKNOWN, TOO_MUCH, NO_QTY, OTHER_SIDE, OTHER_PRICE, OTHER_QTY = 2, 3, 4, 5, 6, 7, 8
COUNTERS = (
    "messages_of_unknown_orders",  # left out (a feed that starts with the book half full)
    "modified_as_new",  # change of an unknown order, taken as a new one
    "size_beyond_order",  # cut to what the order held
    "fills_without_book_change",  # announced lots that no cancel or change carried out: a TRADE
    "prints_beyond_executions",  # prints, or parts of them, that no displayed order explains: a TRADE
    "crossed_books",
    "trades",  # prints, executions told without one, and fills outside any print
    "fills_without_print",
    "lots_of_fills_without_print",
    "fills_of_aggressors",  # the order that traded is told as filled, too: it was not hit
    "fills_at_another_price",  # of an order that rests elsewhere: it shrinks, the print is a TRADE
    "fills_beyond_displayed",  # hidden part of an iceberg: a TRADE
    "fills_beyond_print",  # more lots filled than printed: not a trade
    "auction_prints",
)
_AGGRESSOR, _BEYOND, _OUTSIDE = -1, -2, -3  # what a fill is that belongs to no print


@hot_kernel
def _level(total: Any, best: Any, index: Any, side: int, px: int, change: int) -> None:
    b, at = 0 if side > 0 else 1, np.searchsorted(index, px)
    put(total, best, b, at, total[b, at] + change)


@hot_kernel
def _place(
    out: Any, state: Any, slots: Any, free: Any, slot_of: Any, code: Any, total: Any, best: Any, index: Any,
    at: int, owner: int, px: int, qty: int, side: int, flags: int,
) -> None:  # fmt: skip
    slot = place(out, state, slots, free, slot_of, code, at, owner, px, qty, side, flags)
    slots[slot, 4], slots[slot, 5] = 0, -1
    _level(total, best, index, side, px, qty)


@hot_kernel
def _shrink(
    out: Any, state: Any, slots: Any, free: Any, slot_of: Any, code: Any, total: Any, best: Any, index: Any,
    at: int, slot: int, qty: int, kind: int, flags: int,
) -> None:  # fmt: skip
    _level(total, best, index, slots[slot, 2], slots[slot, 0], -qty)
    take(out, state, slots, free, slot_of, code, at, slot, qty, kind, flags)


@kernel
def _is_auction(
    ops: Any, owners: Any, pxs: Any, sides: Any, last: Any, slots: Any, slot_of: Any, at: int
) -> bool:
    # a print that nobody's order caused: its fills are on both sides, or of orders that rest elsewhere
    bought, sold = False, False
    for j in range(at + 1, ops.shape[0]):
        if last[j - 1]:
            break
        if ops[j] == 9 and pxs[j] == pxs[at]:
            slot = slot_of[owners[j]]
            if slot >= 0 and slots[slot, 0] != pxs[at]:
                return True
            bought = bought or sides[j] > 0
            sold = sold or sides[j] < 0
            if bought and sold:
                return True
    return False


@kernel
def _print_of(prints: Any, state: Any, px: int, side: int, owner: int) -> int:
    # the print of this event that a fill at `px` of an order on `side` belongs to, the latest first
    for p in range(state[3] - 1, -1, -1):
        if prints[p, 0] == px and prints[p, 4] > 0 and prints[p, 2] == -side:
            return p
    for p in range(state[3] - 1, -1, -1):
        if prints[p, 0] == px and (prints[p, 6] > 0 or (prints[p, 4] > 0 and prints[p, 2] * side == 0)):
            return p
    what = _OUTSIDE
    for p in range(state[3]):
        if prints[p, 2] == side and side != 0 and (prints[p, 0] == px or prints[p, 5] == owner):
            return _AGGRESSOR
        if prints[p, 0] == px:
            what = _BEYOND
    return what


@kernel
def _open(prints: Any, state: Any, px: int, qty: int, side: int, flags: int, owner: int) -> int:
    p = state[3]
    prints[p, 0], prints[p, 1], prints[p, 2], prints[p, 3] = px, qty, side, flags
    prints[p, 4], prints[p, 5], prints[p, 6] = qty, owner, 0
    state[3] = p + 1
    return int(p)


@kernel
def _announce(
    prints: Any, fills: Any, state: Any, slots: Any, counts: Any, slot: int, px: int, qty: int, side: int,
    flags: int, owner: int,
) -> None:  # fmt: skip
    # a fill: find its print, and note what a change of the book may carry out as an execution
    if side == 0 and slot >= 0:
        side = slots[slot, 2]
    p = _print_of(prints, state, px, side, owner)
    if p == _AGGRESSOR:
        counts[9] += 1
        return
    if p == _BEYOND:
        counts[12] += 1
        return
    if p == _OUTSIDE:
        p = _open(prints, state, px, qty, -side, flags, owner)
        counts[6] += 1
        counts[7] += 1
        counts[8] += qty
    at_home = slot >= 0 and slots[slot, 0] == px and slots[slot, 2] == side
    if slot >= 0 and not at_home:
        counts[10] += 1
    if prints[p, 6] > 0:  # of an auction: orders just shrink
        return
    if prints[p, 2] == 0:
        prints[p, 2] = -side
    known = min(qty, prints[p, 4])
    if known < qty:
        counts[12] += 1
    prints[p, 4] -= known
    if not at_home:
        return
    room = slots[slot, 1] - slots[slot, 4]
    if known > room:
        counts[11] += 1
        known = room
    if known > 0:
        k = state[4]
        fills[k, 0], fills[k, 1], fills[k, 2], fills[k, 3] = p, known, slots[slot, 5], slot
        slots[slot, 4] += known
        slots[slot, 5] = k
        state[4] = k + 1


@kernel
def _carry_out(prints: Any, fills: Any, slots: Any, slot: int, qty: int) -> None:
    # `qty` lots of what was announced are executed: their prints have told them
    left, k = qty, slots[slot, 5]
    while left > 0:
        part = min(left, fills[k, 1])
        fills[k, 1] -= part
        prints[fills[k, 0], 1] -= part
        left -= part
        if fills[k, 1] == 0:
            k = fills[k, 2]
    slots[slot, 5] = k
    slots[slot, 4] -= qty


@kernel
def _close(
    out: Any, state: Any, prints: Any, fills: Any, slots: Any, code: Any, counts: Any, at: int
) -> None:
    # the event ends: what no execution told of its prints is a TRADE
    for k in range(state[4]):
        if fills[k, 1] > 0:
            counts[3] += 1
        slot = fills[k, 3]
        slots[slot, 4], slots[slot, 5] = 0, -1
    for p in range(state[3]):
        if prints[p, 1] > 0 and prints[p, 6] == 0:
            counts[4] += 1
            emit(
                out, state, at, code[5], prints[p, 0], prints[p, 1], code[0], prints[p, 2], prints[p, 3]
            )  # fmt: skip
    state[3], state[4] = 0, 0


@kernel
def convert(
    ops: Any, owners: Any, others: Any, pxs: Any, qtys: Any, sides: Any, flag: Any, last: Any, index: Any,
    n_owners: int, capacity: int, n_open: int, strict: bool, exact: bool, code: Any, out: Any, counts: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Write the rows of an order log into `out`.

    Parameters
    ----------
    ops ... last : (n,) arrays
        Of `mmsim.data.formats._orders.OrderLog`.
    index : (m,) int64 array
        All prices at which an order is ever placed, ascending.
    n_owners, capacity, n_open : int
        Number of different orders, of slots at most, of PRINT and FILL messages of one event at most.
    strict, exact : bool
        Messages that the book cannot follow are errors; and those that differ from their order.
    code : (17,) int64 array
        0, 1, 2, ...
    out : (rows, 7) int64 array
        Message, kind, price, quantity, slot, side, flags.
    counts : (len(COUNTERS),) int64 array

    Returns
    -------
    problem, message, rows, slots : int
        0, FULL (`out` is too small), or DUPLICATE, ... with the message.
    """
    n = ops.shape[0]
    slots, free = np.zeros((capacity, 6), np.int64), np.zeros(capacity, np.int64)
    slot_of = np.full(n_owners, -1, np.int64)
    state = np.zeros(5, np.int64)
    total = np.zeros((2, index.shape[0]), np.int64)
    best = np.array([-1, index.shape[0]])
    prints, fills = np.zeros((n_open, 7), np.int64), np.zeros((n_open, 4), np.int64)
    filled = np.zeros(n + 1, np.bool_)  # a fill follows in this event
    for i in range(n - 2, -1, -1):
        filled[i] = not last[i] and (ops[i + 1] == 9 or filled[i + 1])
    told = 0
    for i in range(n):
        op, owner, px, qty, side, flags = ops[i], owners[i], pxs[i], qtys[i], sides[i], flag[i]
        slot = code[0] - 1
        if op <= 4 or op in (6, 8, 9, 11):
            slot = slot_of[owner]
        if qty <= 0 and op in (1, 2, 4, 5, 8, 9, 11):
            return NO_QTY, i, 0, 0
        if op == 1 and slot >= 0 and slots[slot, 4] > 0:
            op = code[6]  # the new peak of an iceberg whose old one was just filled
        if op == 1:
            if slot >= 0:
                return DUPLICATE, i, 0, 0
            _place(out, state, slots, free, slot_of, code, total, best, index, i, owner, px, qty, side, flags)
        elif op == 5:
            counts[6] += 1
            auction = side == 0 and filled[i] and _is_auction(
                ops, owners, pxs, sides, last, slots, slot_of, i
            )  # fmt: skip
            if filled[i]:
                p = _open(prints, state, px, qty, side, flags, owner)
                prints[p, 6] = 1 if auction else 0
            else:
                counts[4] += 1
            if auction:
                counts[13] += 1
                flags |= code[16]
            if auction or not filled[i]:
                emit(out, state, i, code[5], px, qty, code[0], side, flags)
        elif op in (7, 10):
            for s in range(state[1]):
                if slots[s, 1] > 0 and (op == 7 or slots[s, 2] == side):
                    _level(total, best, index, slots[s, 2], slots[s, 0], -slots[s, 1])
                    if op == 10:
                        emit(
                            out, state, i, code[3], slots[s, 0], slots[s, 1], s, slots[s, 2], flags
                        )  # fmt: skip
                    slots[s, 4], slots[s, 5] = 0, -1
                    release(state, slots, free, slot_of, s)
            if op == 7:
                emit(out, state, i, code[8], code[0], code[0], code[0], code[0], flags)
        elif op == 12:
            pass
        elif slot < 0 and strict:
            return UNKNOWN, i, 0, 0
        elif op == 9:
            counts[0] += 1 if slot < 0 else 0
            _announce(prints, fills, state, slots, counts, slot, px, qty, side, flags, owner)
        elif slot < 0:
            if op == 6 and qty > 0 and side != 0:
                counts[1] += 1
                _place(
                    out, state, slots, free, slot_of, code, total, best, index, i, owner, px, qty, side, flags
                )  # fmt: skip
            else:
                counts[0] += 1
        else:
            have = slots[slot, 1]
            if exact and slots[slot, 2] != side:
                return OTHER_SIDE, i, 0, 0
            if exact and op == 3 and slots[slot, 0] != px:
                return OTHER_PRICE, i, 0, 0
            if exact and op == 3 and have != qty:
                return OTHER_QTY, i, 0, 0
            # what was announced as filled is executed first; an order keeps its place if it then shrinks only
            executed = slots[slot, 4]
            keeps = op == 6 and px == slots[slot, 0] and 0 < qty <= have - executed
            gone = have - qty if keeps else have
            if op in (2, 4, 11):
                gone = qty
                if gone > have:
                    if strict:
                        return TOO_MUCH, i, 0, 0
                    counts[2] += 1
                    gone = have
                if exact and px > 0 and slots[slot, 0] != px:
                    return OTHER_PRICE, i, 0, 0
                executed = min(executed, gone)
            if executed > 0:
                _carry_out(prints, fills, slots, slot, executed)
            if op == 4:
                executed = gone
                counts[6] += 1
            if executed > 0:
                _shrink(
                    out, state, slots, free, slot_of, code, total, best, index, i, slot, executed, code[4], flags
                )  # fmt: skip
            if gone > executed:
                _shrink(
                    out, state, slots, free, slot_of, code, total, best, index, i, slot, gone - executed, code[2],
                    flags,
                )  # fmt: skip
            if op == 6 and not keeps and qty > 0:
                _place(
                    out, state, slots, free, slot_of, code, total, best, index, i, owner, px, qty,
                    slots[slot, 2], flags,
                )  # fmt: skip
            elif op == 8:
                if slot_of[others[i]] >= 0:
                    return DUPLICATE, i, 0, 0
                _place(
                    out, state, slots, free, slot_of, code, total, best, index, i, others[i], px, qty,
                    slots[slot, 2], flags,
                )  # fmt: skip
        if last[i]:
            _close(out, state, prints, fills, slots, code, counts, i)
            if state[2] > out.shape[0]:
                return FULL, i, state[2], 0
            if state[2] > told:
                out[state[2] - 1, 6] |= 1
                told = state[2]
                if best[0] >= best[1]:
                    counts[5] += 1
    return 0, 0, state[2], state[1]
