"""The kernel of the SSE converter: order numbers to slots, trades to executions.

See `mmsim.data.formats.sse` for the rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import kernel

# key, column and expectation of each problem that the kernel reports
PROBLEMS = {
    1: ("OrderNo", "buyer", "a new order number"),
    2: ("OrderNo", "buyer", "the number of a live order"),
    3: ("OrderQty", "qty", "the quantity that the order still holds"),
    4: ("Price", "px", "the price and side of the order itself"),
    5: ("BidApplSeqNum", "buyer", "the number of a live buy order"),
    6: ("OfferApplSeqNum", "seller", "the number of a live sell order"),
    7: ("LastQty", "qty", "at most what the resting order holds"),
    8: ("LastPx", "px", "the price of the resting order"),
}


@kernel
def convert_messages(
    is_trade: Any, code: Any, side: Any, px: Any, qty: Any, buyer: Any, seller: Any, auction: Any, joined: Any,
    n_owners: int, out: Any, ends: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    # returns (problem, message, rows, slots); the order number of an order message stands in both
    # `buyer` and `seller`. slots columns: price, quantity (0 = free), side
    n = code.shape[0]
    slots = np.zeros((n + 1, 3), np.int64)
    free = np.zeros(n + 1, np.int64)
    slot_of = np.full(n_owners + 1, -1, np.int64)
    n_free, high, k = 0, 0, 0
    for i in range(n):
        flag = 16 if auction[i] else 0
        if is_trade[i] == 0 and code[i] == 65:
            if slot_of[buyer[i]] >= 0:
                return 1, i, 0, 0
            if n_free > 0:
                n_free -= 1
                slot = free[n_free]
            else:
                slot = high
                high += 1
            slot_of[buyer[i]] = slot
            slots[slot, 0], slots[slot, 1], slots[slot, 2] = px[i], qty[i], side[i]
            out[k, 0], out[k, 1], out[k, 2], out[k, 3], out[k, 4], out[k, 5] = (
                1,
                px[i],
                qty[i],
                slot,
                side[i],
                flag,
            )
            k += 1
        else:
            for b in range(2):
                own = 1 - 2 * b
                if is_trade[i] == 0:
                    if own != side[i]:
                        continue
                elif (code[i] == 66 and own > 0) or (code[i] == 83 and own < 0):
                    continue  # the aggressor of a continuous trade has no resting order
                owner = buyer[i] if b == 0 else seller[i]
                slot = slot_of[owner]
                if slot < 0:
                    return (2 if is_trade[i] == 0 else 5 + b), i, 0, 0
                if is_trade[i] == 0:
                    if slots[slot, 0] != px[i] or slots[slot, 2] != side[i]:
                        return 4, i, 0, 0
                    if slots[slot, 1] != qty[i]:
                        return 3, i, 0, 0
                else:
                    if slots[slot, 2] != own:
                        return 5 + b, i, 0, 0
                    if slots[slot, 1] < qty[i]:
                        return 7, i, 0, 0
                    if code[i] != 78 and slots[slot, 0] != px[i]:
                        return 8, i, 0, 0
                out[k, 0], out[k, 1], out[k, 2] = (3 if is_trade[i] == 0 else 4), slots[slot, 0], qty[i]
                out[k, 3], out[k, 4], out[k, 5] = slot, own, flag
                k += 1
                slots[slot, 1] -= qty[i]
                if slots[slot, 1] == 0:
                    slot_of[owner] = -1
                    free[n_free] = slot
                    n_free += 1
        ends[i] = k
        if not joined[i]:
            out[k - 1, 5] |= 1
    return 0, 0, k, high
