"""The rows of hftbacktest's ``.npz``: columns, kinds, flags, and what mmsim keeps in the columns left free."""

from __future__ import annotations

import numpy as np

ROW = np.dtype(
    [
        ("ev", "<u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "<u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ]
)
DEPTH, TRADE, CLEAR, SNAPSHOT, BBO = 1, 2, 3, 4, 5
ADD, CANCEL, MODIFY, FILL = 10, 11, 12, 13
EXCH, LOCAL, BID, ASK = 1 << 31, 1 << 30, 1 << 29, 1 << 28
KINDS = {
    DEPTH: "depth",
    TRADE: "trade",
    CLEAR: "clear",
    SNAPSHOT: "snapshot",
    BBO: "best quotes",
    ADD: "add order",
    CANCEL: "cancel order",
    MODIFY: "modify order",
    FILL: "fill",
}
# `ival` of a file that we wrote: event flags, from here on our kind (0: a further row of one event), the slot;
# `fval` holds the quantity in lots
KIND_SHIFT, SLOT_SHIFT = 16, 24
