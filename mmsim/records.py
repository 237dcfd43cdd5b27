"""What the engine and the strategies hand each other, as records: an observation, and the quotes that are wanted.

Kernels and compiled strategies read their fields by name (``obs.bid_px``, ``want.bids[0].qty``); Python sees
them as `mmsim.agent.Observation` and `mmsim.agent.Quotes`.
"""

from __future__ import annotations

import numpy as np

from mmsim.types import MAX_DEPTH

MAX_LEVELS = 16  # levels that may be quoted per side
MAX_PX = 2**31 - 2  # highest price of a quote, ticks: prices are 32-bit numbers

# Every field is 8 bytes; see `mmsim.agent.Observation` for their meaning.
OBSERVATION = np.dtype(
    [
        ("ts", "<i8"),
        ("step", "<i8"),
        ("n_bid", "<i8"),
        ("n_ask", "<i8"),
        ("inventory", "<i8"),
        ("buy_qty", "<i8"),
        ("sell_qty", "<i8"),
        ("buy_notional", "<i8"),  # tick-lots
        ("sell_notional", "<i8"),
        ("last_trade_px", "<i8"),
        ("time_left", "<i8"),  # ns
        ("cash", "<i8"),
        ("n_orders", "<i8"),
        ("n_trades", "<i8"),
        ("bid_px", "<i8"),
        ("bid_qty", "<i8"),
        ("ask_px", "<i8"),
        ("ask_qty", "<i8"),
        ("exch_ts", "<i8"),
        ("spare", "<i8"),
        ("bid_pxs", "<i8", (MAX_DEPTH,)),  # best first; 0 beyond the levels shown
        ("bid_qtys", "<i8", (MAX_DEPTH,)),
        ("ask_pxs", "<i8", (MAX_DEPTH,)),
        ("ask_qtys", "<i8", (MAX_DEPTH,)),
    ]
)
N_SCALARS = 20  # fields of an observation before its depth

LEVEL = np.dtype([("px", "<i8"), ("qty", "<i8")])

# The desired state of our orders, see `mmsim.agent.Quotes`.
QUOTES = np.dtype(
    [
        ("n_bids", "<i8"),
        ("n_asks", "<i8"),
        ("post_only", "<i8"),
        ("take_qty", "<i8"),  # (`take` is a method of numpy's records)
        ("latency_ns", "<i8"),  # the decision latency that is charged
        ("wall_ns", "<i8"),  # measured, recorded only
        ("bids", LEVEL, (MAX_LEVELS,)),
        ("asks", LEVEL, (MAX_LEVELS,)),
    ]
)
