"""Hypothesis strategy: valid observations. Needs the extra ``[dev]``."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mmsim.agent import Observation
from mmsim.records import OBSERVATION
from mmsim.types import MAX_DEPTH, OWN_ORDER


@st.composite
def observations(draw: st.DrawFn, *, max_inventory: int = 10) -> Observation:
    """Draw valid observations: two-sided book of 1 to 10 levels per side, any inventory within the limit."""
    record = np.zeros(1, OBSERVATION)
    seen = record[0]
    bid = draw(st.integers(100, 10_000))
    n_bid, n_ask = draw(st.integers(1, MAX_DEPTH)), draw(st.integers(1, MAX_DEPTH))
    ask = bid + draw(st.integers(1, 40))
    gaps = st.integers(1, 3)
    bids = bid - np.cumsum([0] + [draw(gaps) for _ in range(n_bid - 1)])
    asks = ask + np.cumsum([0] + [draw(gaps) for _ in range(n_ask - 1)])
    sizes = st.integers(1, 500)
    seen["bid_pxs"][:n_bid], seen["ask_pxs"][:n_ask] = bids, asks
    seen["bid_qtys"][:n_bid] = [draw(sizes) for _ in range(n_bid)]
    seen["ask_qtys"][:n_ask] = [draw(sizes) for _ in range(n_ask)]
    seen["n_bid"], seen["n_ask"] = n_bid, n_ask
    seen["bid_px"], seen["ask_px"] = bid, ask
    seen["bid_qty"], seen["ask_qty"] = seen["bid_qtys"][0], seen["ask_qtys"][0]
    seen["inventory"] = draw(st.integers(-max_inventory, max_inventory))
    seen["time_left"] = draw(st.integers(0, 5_400)) * 1_000_000_000
    return Observation(record, np.zeros(0, OWN_ORDER))
