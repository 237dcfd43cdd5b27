"""Slots of the order-by-order assemblers: feeds speak of order ids, EVENT rows of recycled slots.

Columns of `slots`: price, quantity (0 = free), side, owner (order index), and what an assembler adds. `slot_of` tells the
slot of an order, -1: none; `free` is a stack of slots to use again. `state`: free slots on the stack, slots used so far,
rows written. A row of `out`: message, kind, price, quantity, slot, side, flags; rows beyond its end are counted only.

numba compiles a function anew for every literal that it is called with; constants therefore come out of the array `code`
(``code[5] == 5``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints, build_events

CODE = np.arange(17)
FULL = 1  # what an assembler returns first if `out` is too small


@kernel
def emit(
    out: Any, state: Any, at: int, kind: int, px: int, qty: int, oid: int, side: int, flags: int
) -> None:
    """Write one row."""
    k = state[2]
    if k < out.shape[0]:
        out[k, 0], out[k, 1], out[k, 2], out[k, 3] = at, kind, px, qty
        out[k, 4], out[k, 5], out[k, 6] = oid, side, flags
    state[2] = k + 1


@kernel
def place(
    out: Any, state: Any, slots: Any, free: Any, slot_of: Any, code: Any,
    at: int, owner: int, px: int, qty: int, side: int, flags: int,
) -> int:  # fmt: skip
    """Give a new order a slot, and write its ADD."""
    if state[0] > 0:
        state[0] -= 1
        slot = free[state[0]]
    else:
        slot = state[1]
        state[1] += 1
    slots[slot, 0], slots[slot, 1], slots[slot, 2], slots[slot, 3] = px, qty, side, owner
    slot_of[owner] = slot
    emit(out, state, at, code[1], px, qty, slot, side, flags)
    return int(slot)


@kernel
def release(state: Any, slots: Any, free: Any, slot_of: Any, slot: int) -> None:
    """Forget the order of a slot."""
    slot_of[slots[slot, 3]] = -1
    slots[slot, 1] = 0
    free[state[0]] = slot
    state[0] += 1


@kernel
def take(
    out: Any, state: Any, slots: Any, free: Any, slot_of: Any, code: Any, at: int, slot: int, qty: int, kind: int,
    flags: int,
) -> None:  # fmt: skip
    """Take `qty` (0 < qty <= what is left) from an order by a row of `kind`; REDUCE of everything is a DELETE."""
    left = slots[slot, 1] - qty
    row_kind = code[3] if kind != 4 and left == 0 else kind
    emit(out, state, at, row_kind, slots[slot, 0], qty, slot, slots[slot, 2], flags)
    slots[slot, 1] = left
    if left == 0:
        release(state, slots, free, slot_of, slot)


def filled(fill: Callable[[Ints], tuple[int, int, int, int]], rows: int) -> tuple[int, int, Ints, int]:
    """Let an assembler write into a table that is as long as it needs.

    Returns
    -------
    problem, message : int
        0, or what is wrong with which message.
    rows : (n, 7) int64 array
    n_slots : int
    """
    while True:
        table = np.zeros((rows, 7), dtype=np.int64)
        problem, at, need, n_slots = fill(table)
        if problem != FULL:
            return problem, at, table[:need], n_slots
        rows = max(2 * rows, need)


def events_of(rows: Ints, ts: Ints, source: str) -> npt.NDArray[np.void]:
    """Return the rows of an assembler as events; `ts` is the time of each message."""
    return build_events(
        ts=ts[rows[:, 0]],
        kind=rows[:, 1],
        px=rows[:, 2],
        qty=rows[:, 3],
        oid=rows[:, 4],
        side=rows[:, 5],
        flags=rows[:, 6],
        source=source,
    )
