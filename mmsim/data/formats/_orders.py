"""Order messages of any feed -> L3 events: slots, queues' priority, and trades told in several messages.

Feeds say "order 123456789 shrinks"; EVENT rows speak of recycled slots and carry the order's price and side.
The kernel here keeps the live orders, and puts together what one execution is told in: a print (TRADE), a fill
of each resting order (FILL) and the change of the book (CANCEL or MODIFY) become one EXECUTE an order; what a
print has beyond the fills of known orders is a TRADE of its own (hidden orders). numba compiles a function anew
for every literal that it is called with; constants therefore come out of the array `code`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints, build_events
from mmsim.errors import DataError

# what a message does
ADD, CUT, DELETE, EXECUTE, PRINT, MODIFY, CLEAR, REPLACE, FILL, CLEAR_SIDE, TAKE, NOTHING = range(1, 13)
_FULL, _DUPLICATE, _UNKNOWN, _TOO_MUCH, _NO_QTY = 1, 2, 3, 4, 5
_EXPECTED = {
    _DUPLICATE: ("order_id", "a new order id, was one that is still live"),
    _UNKNOWN: ("order_id", "the id of a live order, was an unknown one"),
    _TOO_MUCH: ("qty", "at most what the order still holds, was more"),
    _NO_QTY: ("qty", "a quantity above 0, was 0"),
}
COUNTERS = (
    "messages_of_unknown_orders",  # left out (a feed that starts with the book half full)
    "modified_as_new",  # change of an unknown order, taken as a new one
    "size_beyond_order",  # cut to what the order held
    "fills_without_book_change",  # a fill that no cancel or change confirmed: a TRADE
    "prints_beyond_fills",  # prints, or parts of them, without a known resting order: a TRADE
    "crossed_books",
    "trades",
    "traded_qty",
)


@dataclass(frozen=True)
class OrderLog:
    """Order messages in columns, all of one length.

    Parameters
    ----------
    op : int64
        ADD; CUT (by `qty`, all of it removes the order); DELETE; EXECUTE (of the order, by `qty`); TAKE (as
        EXECUTE, but printed elsewhere: the order shrinks without a trade); PRINT; FILL (announces the execution of
        `qty`, the book changes with a later message); MODIFY (to `px`, `qty`); REPLACE (of `owner` by the new
        order `other`); CLEAR; CLEAR_SIDE; NOTHING.
    owner, other : int64
        Order index, 0 .. `n_owners` - 1.
    px, qty : int64
        Ticks and lots.
    side : int64
        Of the order; of a PRINT the aggressor's, 0 unknown; of CLEAR_SIDE the side of the book.
    flags : int64
        `EventFlag` bits for the rows of the message, without LAST.
    last : bool
        The message ends an event: the book may be looked at.
    row : int64
        One-based row in the file, for messages.
    """

    op: Ints
    owner: Ints
    other: Ints
    px: Ints
    qty: Ints
    side: Ints
    flags: Ints
    last: npt.NDArray[np.bool_]
    row: Ints
    n_owners: int


@kernel
def _emit(
    out: Any, state: Any, at: int, kind: int, px: int, qty: int, oid: int, side: int, flags: int
) -> None:
    k = state[2]
    if k < out.shape[0]:
        out[k, 0], out[k, 1], out[k, 2], out[k, 3] = at, kind, px, qty
        out[k, 4], out[k, 5], out[k, 6] = oid, side, flags
    state[2] = k + 1


# slots columns: price, quantity (0 = free), side, owner, announced fill; state: free slots, slots used, rows


@kernel
def _level(total: Any, best: Any, index: Any, side: int, px: int, change: int) -> None:
    # level totals by price index; best[b] is at or beyond the best occupied one
    b = 0 if side > 0 else 1
    i = np.searchsorted(index, px)
    total[b, i] += change
    if change > 0 and ((b == 0 and i > best[0]) or (b == 1 and i < best[1])):
        best[b] = i
    while best[0] >= 0 and total[0, best[0]] == 0:
        best[0] -= 1
    while best[1] < total.shape[1] and total[1, best[1]] == 0:
        best[1] += 1


@kernel
def _place(
    out: Any, state: Any, slots: Any, free: Any, slot_of: Any, code: Any, total: Any, best: Any, index: Any,
    at: int, owner: int, px: int, qty: int, side: int, flags: int,
) -> None:  # fmt: skip
    if state[0] > 0:
        state[0] -= 1
        slot = free[state[0]]
    else:
        slot = state[1]
        state[1] += 1
    slots[slot, 0], slots[slot, 1], slots[slot, 2], slots[slot, 3], slots[slot, 4] = px, qty, side, owner, 0
    slot_of[owner] = slot
    _level(total, best, index, side, px, qty)
    _emit(out, state, at, code[1], px, qty, slot, side, flags)


@kernel
def _shrink(
    out: Any, state: Any, slots: Any, free: Any, slot_of: Any, code: Any, total: Any, best: Any, index: Any,
    at: int, slot: int, qty: int, kind: int, flags: int,
) -> None:  # fmt: skip
    # take `qty` (0 < qty <= what is left) by a row of `kind`; REDUCE of everything is a DELETE
    px, have, side = slots[slot, 0], slots[slot, 1], slots[slot, 2]
    row_kind = code[3] if kind != 4 and qty == have else kind
    _level(total, best, index, side, px, -qty)
    _emit(out, state, at, row_kind, px, qty, slot, side, flags)
    slots[slot, 1] = have - qty
    if qty == have:
        slot_of[slots[slot, 3]] = -1
        free[state[0]] = slot
        state[0] += 1


@kernel
def _convert(
    ops: Any, owners: Any, others: Any, pxs: Any, qtys: Any, sides: Any, flag: Any, last: Any, index: Any,
    n_owners: int, capacity: int, n_fills: int, strict: bool, code: Any, out: Any, counts: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    n = ops.shape[0]
    slots, free = np.zeros((capacity, 5), np.int64), np.zeros(capacity, np.int64)
    slot_of = np.full(n_owners, -1, np.int64)
    state = np.zeros(3, np.int64)
    total = np.zeros((2, index.shape[0]), np.int64)
    best = np.array([-1, index.shape[0]])
    waiting = np.zeros(n_fills + 1, np.int64)  # owners with an announced fill
    n_waiting = 0
    # the open print: where it stands, price, what no fill has explained yet, aggressor, flags
    print_at, print_px, print_qty, print_side, print_flags = 0, 0, 0, 0, 0
    told = 0
    for i in range(n):
        op, owner, px, qty, side, flags = ops[i], owners[i], pxs[i], qtys[i], sides[i], flag[i]
        slot = code[0] - 1
        if op <= 4 or op in (6, 8, 9, 11):
            slot = slot_of[owner]
        if print_qty > 0 and op != 9:
            counts[4] += 1
            _emit(out, state, print_at, code[5], print_px, print_qty, code[0], print_side, print_flags)
            print_qty = 0
        if qty <= 0 and op in (1, 2, 4, 5, 8, 9, 11):
            return 5, i, 0, 0
        if op == 1:
            if slot >= 0:
                return 2, i, 0, 0
            _place(out, state, slots, free, slot_of, code, total, best, index, i, owner, px, qty, side, flags)
        elif op == 5:
            print_at, print_px, print_qty, print_side, print_flags = i, px, qty, side, flags
            counts[6] += 1
            counts[7] += qty
        elif op in (7, 10):
            for s in range(state[1]):
                if slots[s, 1] > 0 and (op == 7 or slots[s, 2] == side):
                    _level(total, best, index, slots[s, 2], slots[s, 0], -slots[s, 1])
                    if op == 10:
                        _emit(
                            out, state, i, code[3], slots[s, 0], slots[s, 1], s, slots[s, 2], flags
                        )  # fmt: skip
                    slots[s, 1], slots[s, 4] = 0, 0
                    slot_of[slots[s, 3]] = -1
                    free[state[0]] = s
                    state[0] += 1
            if op == 7:
                _emit(out, state, i, code[8], code[0], code[0], code[0], code[0], flags)
        elif op == 12:
            pass
        elif slot < 0:
            if op == 6 and qty > 0 and not strict:
                counts[1] += 1
                _place(
                    out, state, slots, free, slot_of, code, total, best, index, i, owner, px, qty, side, flags
                )  # fmt: skip
            elif strict:
                return 3, i, 0, 0
            else:
                counts[0] += 1
        elif op == 9:
            if slots[slot, 4] == 0:
                waiting[n_waiting] = owner
                n_waiting += 1
            slots[slot, 4] += qty
            if print_qty > 0:
                print_qty = max(print_qty - qty, 0)
            else:
                counts[6] += 1
                counts[7] += qty
        else:
            have, told_qty = slots[slot, 1], slots[slot, 4]
            keeps = op == 6 and px == slots[slot, 0] and qty <= have and qty > 0
            if op in (2, 4, 11):
                gone = qty
                if gone > have:
                    if strict:
                        return 4, i, 0, 0
                    counts[2] += 1
                    gone = have
            elif keeps:
                gone = have - qty
            else:
                gone = have
            # what was announced as filled is executed, the rest cancelled
            executed = min(told_qty, gone)
            if op == 4:
                executed = gone
                counts[6] += 1
                counts[7] += gone
            if executed > 0:
                _shrink(
                    out, state, slots, free, slot_of, code, total, best, index, i, slot, executed, code[4], flags
                )  # fmt: skip
                slots[slot, 4] = max(told_qty - executed, 0)
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
                    return 2, i, 0, 0
                _place(
                    out, state, slots, free, slot_of, code, total, best, index, i, others[i], px, qty,
                    slots[slot, 2], flags,
                )  # fmt: skip
        if last[i]:
            if print_qty > 0:
                counts[4] += 1
                _emit(out, state, print_at, code[5], print_px, print_qty, code[0], print_side, print_flags)
                print_qty = 0
            for w in range(n_waiting):
                slot = slot_of[waiting[w]]
                if slot >= 0 and slots[slot, 4] > 0:
                    counts[3] += 1
                    _emit(
                        out, state, i, code[5], slots[slot, 0], slots[slot, 4], code[0], -slots[slot, 2], flags
                    )  # fmt: skip
                    slots[slot, 4] = 0
            n_waiting = 0
            if state[2] > out.shape[0]:
                return 1, i, state[2], 0
            if state[2] > told:
                out[state[2] - 1, 6] |= 1
                told = state[2]
                if best[0] >= best[1]:
                    counts[5] += 1
    return 0, 0, state[2], state[1]


def convert_orders(
    log: OrderLog, ts: Ints, source: str, *, strict: bool
) -> tuple[npt.NDArray[np.void], Ints, int, dict[str, int]]:
    """Return the events of an order log, the message of each, slots used, and what was counted.

    Parameters
    ----------
    log : OrderLog
        Its last message must end an event.
    ts : (n,) int64 array
        Exchange time of each message, ns.
    source : str
        File, for messages.
    strict : bool
        A message of an unknown order, or of more than the order holds, is an error; else it is counted and left
        out or cut (a change of an unknown order adds it).

    Raises
    ------
    DataError
        With the row of the first message that the book cannot follow.
    """
    placed = np.isin(log.op, (ADD, MODIFY, REPLACE))
    index = np.unique(log.px[placed])
    if len(index) == 0:
        raise DataError("expected orders, was none: nothing is added to the book", source=source)
    n_fills = int((log.op == FILL).sum())
    counts = np.zeros(len(COUNTERS), dtype=np.int64)
    rows = 2 * len(ts) + 16
    while True:
        out = np.zeros((rows, 7), dtype=np.int64)
        counts[:] = 0
        problem, at, need, n_slots = _convert(
            log.op, log.owner, log.other, log.px, log.qty, log.side, log.flags, log.last, index, log.n_owners,
            int(placed.sum()) + 1, n_fills, strict, np.arange(17), out, counts,
        )  # fmt: skip
        if problem == _FULL or (problem == 0 and need > rows):
            rows = max(2 * rows, need)
            continue
        break
    if problem:
        field, expected = _EXPECTED[problem]
        raise DataError(f"expected {expected}", source=source, row=int(log.row[at]), field=field)
    t = out[:need]
    events = build_events(
        ts=ts[t[:, 0]], kind=t[:, 1], px=t[:, 2], qty=t[:, 3], oid=t[:, 4], side=t[:, 5], flags=t[:, 6], source=source
    )  # fmt: skip
    return events, t[:, 0].copy(), n_slots, {k: int(c) for k, c in zip(COUNTERS, counts, strict=True)}


def renumber(ids: npt.NDArray[np.uint64], *more: npt.NDArray[np.uint64]) -> tuple[int, list[Ints]]:
    """Return how many different order ids there are, and each array with indices instead of ids."""
    import pandas as pd  # hashes: several times faster than to sort

    parts = [ids, *more]
    index, names = pd.factorize(np.concatenate(parts))
    return len(names), [a.astype(np.int64) for a in np.split(index, np.cumsum([len(p) for p in parts])[:-1])]
