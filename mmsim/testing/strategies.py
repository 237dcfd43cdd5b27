"""Hypothesis strategy: valid observations. Needs the extra ``[dev]``."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mmsim.agent import (
    A_PX,
    A_QTY,
    B_PX,
    B_QTY,
    O_ASK_PX,
    O_ASK_QTY,
    O_BID_PX,
    O_BID_QTY,
    O_INVENTORY,
    O_N_ASK,
    O_N_BID,
    O_TIME_LEFT,
    OBS_SIZE,
    Observation,
)
from mmsim.types import MAX_DEPTH, OWN_ORDER


@st.composite
def observations(draw: st.DrawFn, *, max_inventory: int = 10) -> Observation:
    """Draw valid observations: two-sided book of 1 to 10 levels per side, any inventory within the limit."""
    raw = np.zeros(OBS_SIZE, np.int64)
    bid = draw(st.integers(100, 10_000))
    n_bid, n_ask = draw(st.integers(1, MAX_DEPTH)), draw(st.integers(1, MAX_DEPTH))
    ask = bid + draw(st.integers(1, 40))
    gaps = st.integers(1, 3)
    bids = bid - np.cumsum([0] + [draw(gaps) for _ in range(n_bid - 1)])
    asks = ask + np.cumsum([0] + [draw(gaps) for _ in range(n_ask - 1)])
    sizes = st.integers(1, 500)
    raw[B_PX : B_PX + n_bid], raw[A_PX : A_PX + n_ask] = bids, asks
    raw[B_QTY : B_QTY + n_bid] = [draw(sizes) for _ in range(n_bid)]
    raw[A_QTY : A_QTY + n_ask] = [draw(sizes) for _ in range(n_ask)]
    raw[[O_N_BID, O_N_ASK]] = n_bid, n_ask
    raw[[O_BID_PX, O_ASK_PX, O_BID_QTY, O_ASK_QTY]] = bid, ask, raw[B_QTY], raw[A_QTY]
    raw[O_INVENTORY] = draw(st.integers(-max_inventory, max_inventory))
    raw[O_TIME_LEFT] = draw(st.integers(0, 5_400)) * 1_000_000_000
    return Observation(raw, np.zeros(0, OWN_ORDER))
