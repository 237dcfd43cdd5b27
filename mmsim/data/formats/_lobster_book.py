"""The kernel of the LOBSTER converter: carries the visible book from one orderbook row to the next.

See `mmsim.data.formats.lobster` for the rules, `mmsim.data.formats._slots` for how slots are kept. The owner of a seed is
the order index after the last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import kernel
from mmsim.data.formats._slots import FULL, emit, place, release, take

# counters of the kernel
COUNTERS = (
    "messages_out_of_view",  # new order or cancel beyond the last level in use: no rows
    "unknown_order_messages",  # cancel or execution that hit a seed
    "size_beyond_order",  # message took more than the order (and the seeds of its level) held
    "price_of_order_differs",  # message names another price than the order's
    "delete_size_differs",  # a deletion whose size is not what the order held
    "levels_seeded",
    "levels_hidden",
    "corrected_level_up",  # level held more than the messages explain
    "corrected_level_down",
    "corrected_level_gone",  # level vanished within view
    "corrected_level_new",  # level appeared within view
    "messages_corrected",
)
DUPLICATE = 2  # what `convert_messages` returns first, or FULL


@kernel
def _take_up_to(
    out: Any, state: Any, slots: Any, free: Any, slot_of: Any, code: Any, at: int, slot: int, qty: int, kind: int
) -> int:  # fmt: skip
    # a cancel is told as REDUCE or DELETE, whatever LOBSTER calls it
    part = min(slots[slot, 1], qty)
    take(out, state, slots, free, slot_of, code, at, slot, part, kind if kind == 4 else code[2], code[0])
    return int(part)


@kernel
def _take_at(
    out: Any, state: Any, slots: Any, free: Any, slot_of: Any, code: Any, at: int, px: int, side: int, qty: int,
    kind: int, all_orders: int,
) -> int:  # fmt: skip
    # take up to `qty` at a level, from the seeds first, then (if `all_orders`) from the others
    taken = qty - qty
    for known in range(1 + all_orders):
        for slot in range(state[1]):
            of_level = slots[slot, 1] > 0 and slots[slot, 0] == px and slots[slot, 2] == side
            if taken < qty and of_level and (slots[slot, 3] < slot_of.shape[0] - 1) == (known == 1):
                taken += _take_up_to(out, state, slots, free, slot_of, code, at, slot, qty - taken, kind)
    return int(taken)


@kernel
def _change_level(lv_px: Any, lv_qty: Any, n_lv: Any, b: int, px: int, change: int) -> None:
    # add `change` to the level `px` of the carried book, inserting or removing the level; best first
    sign = 1 if b == 0 else -1
    n = n_lv[b]
    at = 0
    while at < n and sign * lv_px[b, at] > sign * px:
        at += 1
    if at < n and lv_px[b, at] == px:
        lv_qty[b, at] += change
        if lv_qty[b, at] <= 0:
            for j in range(at, n - 1):
                lv_px[b, j], lv_qty[b, j] = lv_px[b, j + 1], lv_qty[b, j + 1]
            n_lv[b] = n - 1
    elif change > 0:
        for j in range(n, at, -1):
            lv_px[b, j], lv_qty[b, j] = lv_px[b, j - 1], lv_qty[b, j - 1]
        lv_px[b, at], lv_qty[b, at] = px, change
        n_lv[b] = n + 1


@kernel
def _out_of_view(book_px: Any, book_qty: Any, i: int, b: int, px: int) -> bool:
    last = book_px.shape[2] - 1
    worst = book_px[i, b, last]
    return bool(book_qty[i, b, last] > 0 and (px < worst if b == 0 else px > worst))


@kernel
def convert_messages(
    kinds: Any, owners: Any, sizes: Any, pxs: Any, sides: Any, book_px: Any, book_qty: Any, n_owners: int, code: Any,
    out: Any, clean: Any, counts: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Write the EVENT rows of all messages into `out`.

    Parameters
    ----------
    kinds, owners, sizes, pxs, sides : (n,) int64 arrays
        Message type, index of the order id, lots, ticks, direction.
    book_px, book_qty : (n, 2, depth) int64 arrays
        Bids, asks after each message; quantity 0 where there is no level.
    n_owners : int
        Number of different order ids.
    code : (17,) int64 array
        0, 1, 2, ...
    out : (rows, 7) int64 array
    clean : (n,) bool array
        No correction was needed.
    counts : (len(COUNTERS),) int64 array

    Returns
    -------
    problem, message, rows, slots : int
        0, FULL (`out` is too small) or DUPLICATE (new order of a live id).
    """
    depth = book_px.shape[2]
    n = kinds.shape[0]
    capacity = n + 4 * depth + 16
    slots = np.zeros((capacity, 4), np.int64)
    free = np.zeros(capacity, np.int64)
    slot_of = np.full(n_owners + 1, -1, np.int64)
    state = np.zeros(3, np.int64)
    lv_px, lv_qty = np.zeros((2, depth + 2), np.int64), np.zeros((2, depth + 2), np.int64)
    n_lv = np.zeros(2, np.int64)
    for i in range(n):
        kind, px, qty, side, owner = kinds[i], pxs[i], sizes[i], sides[i], owners[i]
        b = 0 if side > 0 else 1
        before = max(i - 1, 0)
        for c in range(2):
            at = 0
            while at < depth and book_qty[before, c, at] > 0:
                lv_px[c, at], lv_qty[c, at] = book_px[before, c, at], book_qty[before, c, at]
                at += 1
            n_lv[c] = at
        change = qty if kind == 1 else -qty
        visible = kind <= 4 and not _out_of_view(book_px, book_qty, i, b, px)
        if i == 0:  # seed the book as it was before the first message
            if visible:
                _change_level(lv_px, lv_qty, n_lv, b, px, -change)
            for c in range(2):
                for at in range(n_lv[c]):
                    place(
                        out, state, slots, free, slot_of, code, i, n_owners, lv_px[c, at], lv_qty[c, at], 1 - 2 * c,
                        code[8],
                    )  # fmt: skip

        if kind == 1:
            if visible:
                if slot_of[owner] >= 0:
                    return DUPLICATE, i, 0, 0
                place(out, state, slots, free, slot_of, code, i, owner, px, qty, side, code[0])
            else:
                counts[0] += 1
                change = 0
        elif kind <= 4:
            slot = slot_of[owner]
            if slot >= 0:
                if slots[slot, 0] != px or slots[slot, 2] != side:
                    counts[3] += 1
                    px, side = slots[slot, 0], slots[slot, 2]
                    b = 0 if side > 0 else 1
                if kind == 3 and slots[slot, 1] != qty:
                    counts[4] += 1
                    qty = slots[slot, 1]
                taken = _take_up_to(out, state, slots, free, slot_of, code, i, slot, qty, kind)
            elif kind != 4 and _out_of_view(book_px, book_qty, before, b, px):
                counts[0] += 1
                qty, taken = code[0], code[0]
            else:
                counts[1] += 1
                taken = _take_at(out, state, slots, free, slot_of, code, i, px, side, qty, kind, code[0])
            if taken < qty:
                counts[2] += 1
                if kind == 4:  # the print happened, whatever it hit
                    emit(out, state, i, code[5], px, qty - taken, code[0], -side, code[0])
            change = -taken
        elif kind <= 6:
            aggressor = -side if kind == 5 else code[0]
            emit(out, state, i, code[5], px, qty, code[0], aggressor, code[16 if kind == 6 else 0])
        if kind <= 4 and change != 0:
            _change_level(lv_px, lv_qty, n_lv, b, px, change)

        corrected = False
        for c in range(2):
            own = 1 - 2 * c
            full = book_qty[i, c, depth - 1] > 0
            at, j = 0, 0
            while at < n_lv[c] or (j < depth and book_qty[i, c, j] > 0):
                listed = j < depth and book_qty[i, c, j] > 0
                same = at < n_lv[c] and listed and lv_px[c, at] == book_px[i, c, j]
                if same and lv_qty[c, at] == book_qty[i, c, j]:
                    at += 1
                    j += 1
                    continue
                carried = at < n_lv[c] and (same or not listed or own * lv_px[c, at] > own * book_px[i, c, j])
                level_px = lv_px[c, at] if carried else book_px[i, c, j]
                have = lv_qty[c, at] if carried else code[0]
                want = book_qty[i, c, j] if same or not carried else code[0]
                reason = 7 if want > have else 8
                if carried and not same and not listed and full:  # pushed beyond the last visible level
                    reason = 6
                    emit(out, state, i, code[7], level_px, code[0], code[0], own, code[0])
                    for slot in range(state[1]):
                        if slots[slot, 1] > 0 and slots[slot, 0] == level_px and slots[slot, 2] == own:
                            release(state, slots, free, slot_of, slot)
                elif want > have:
                    place(
                        out,
                        state,
                        slots,
                        free,
                        slot_of,
                        code,
                        i,
                        n_owners,
                        level_px,
                        want - have,
                        own,
                        code[8],
                    )
                    if not carried:  # expected for the last visible level only
                        reason = 5 if at == n_lv[c] and j == depth - 1 else 10
                else:
                    _take_at(
                        out, state, slots, free, slot_of, code, i, level_px, own, have - want, code[2], code[1]
                    )  # fmt: skip
                    if not same:
                        reason = 9
                counts[reason] += 1
                corrected = corrected or reason >= 7
                at += 1 if carried else 0
                j += 1 if same or not carried else 0
        clean[i] = not corrected
        counts[11] += 1 if corrected else 0
        if state[2] > out.shape[0]:
            return FULL, i, state[2], state[1]
        if state[2] > 0 and out[state[2] - 1, 0] == i:
            out[state[2] - 1, 6] |= 1
    return 0, 0, state[2], state[1]
