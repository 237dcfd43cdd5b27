"""Kernels that turn consecutive observation vectors into market features.

One step function serves the live agents and the offline tables alike, so that both see the same
bits. Only *public* market state is read: own inventory and cash never enter. A level that the feed
does not show is masked (its features are 0 and the flag says so), never invented.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mmsim._jit import inline_kernel, kernel
from mmsim.agent import (
    A_PX,
    A_QTY,
    B_PX,
    B_QTY,
    O_ASK_PX,
    O_ASK_QTY,
    O_BID_PX,
    O_BID_QTY,
    O_BUY_QTY,
    O_LAST_TRADE_PX,
    O_N_ASK,
    O_N_BID,
    O_SELL_QTY,
)

FEATURES: tuple[str, ...] = (
    "spread",  # ticks
    "micro_offset",  # microprice - mid, ticks
    "imbalance_1",  # (bid - ask) / (bid + ask) at the best, [-1, 1]
    "imbalance_5",  # same over the five best levels shown; 0 where no deeper level is shown
    "imbalance_all",  # same over every level shown; 0 where no deeper level is shown
    "log_bid_1",  # log1p(best bid quantity / unit)
    "log_ask_1",
    "log_bid_rest",  # log1p(quantity of the deeper bid levels / unit); 0 where none is shown
    "log_ask_rest",
    "gap_skew",  # (second ask - best ask) - (best bid - second bid), ticks; 0 where not shown
    "deep",  # 1: both sides show a second level, else 0 (then the five above are masked)
    "ofi",  # signed log1p(order-flow imbalance of the best quotes since the last decision / unit)
    "mid_change",  # mid - mid at the last decision, ticks
    "flow",  # signed log1p((buys - sells) / unit) since the last decision
    "volume",  # log1p((buys + sells) / unit) since the last decision
    "trade_offset",  # last trade - mid, ticks, bounded by ten spreads; 0 before the first trade
    "volatility_10",  # root of the exponential mean of mid_change^2, centre of mass 10 decisions
    "volatility_100",  # same, 100 decisions: the market's trailing realised volatility
    "momentum_10",  # exponential mean of mid_change, ticks a decision
    "log_volume_30",  # log1p of the exponential mean of traded quantity / unit
)
N_FEATURES = len(FEATURES)

# State carried from one decision to the next.
(
    S_COUNT,
    S_BID_PX,
    S_BID_QTY,
    S_ASK_PX,
    S_ASK_QTY,
    S_VAR_10,
    S_VAR_100,
    S_MOM_10,
    S_VOL_30,
    S_VOL_SUM,  # traded units since the start of the episode
) = range(10)
STATE_SIZE = 10

_LEVELS_5 = 5
_A10, _A30, _A100 = 1.0 / 11.0, 1.0 / 31.0, 1.0 / 101.0  # weight of the newest value


@inline_kernel
def _signed_log(x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x)


@kernel
def feature_step(
    raw: npt.NDArray[np.int64],
    unit: float,
    state: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
) -> None:
    """Write the `N_FEATURES` features of one decision into `out` and update `state` (in place).

    Parameters
    ----------
    raw : (OBS_SIZE,) int64
        The observation vector; its best bid and ask exist.
    unit : float
        Usual order size, lots.
    state : (STATE_SIZE,) float64
        All zero at the start of an episode.
    out : (N_FEATURES,) float32
    """
    bid, ask = float(raw[O_BID_PX]), float(raw[O_ASK_PX])
    bid_qty, ask_qty = float(raw[O_BID_QTY]), float(raw[O_ASK_QTY])
    n_bid, n_ask = raw[O_N_BID], raw[O_N_ASK]
    mid = 0.5 * (bid + ask)
    spread = ask - bid
    best = bid_qty + ask_qty
    imbalance = (bid_qty - ask_qty) / best if best > 0.0 else 0.0
    out[0] = spread
    out[1] = 0.5 * spread * imbalance
    out[2] = imbalance
    out[5] = math.log1p(bid_qty / unit)
    out[6] = math.log1p(ask_qty / unit)

    if n_bid > 1 and n_ask > 1:
        bid_5, ask_5, bid_all, ask_all = 0.0, 0.0, 0.0, 0.0
        for i in range(n_bid):
            bid_all += raw[B_QTY + i]
            if i < _LEVELS_5:
                bid_5 += raw[B_QTY + i]
        for i in range(n_ask):
            ask_all += raw[A_QTY + i]
            if i < _LEVELS_5:
                ask_5 += raw[A_QTY + i]
        out[3] = (bid_5 - ask_5) / max(bid_5 + ask_5, 1.0)
        out[4] = (bid_all - ask_all) / max(bid_all + ask_all, 1.0)
        out[7] = math.log1p(max(bid_all - bid_qty, 0.0) / unit)
        out[8] = math.log1p(max(ask_all - ask_qty, 0.0) / unit)
        out[9] = (raw[A_PX + 1] - ask) - (bid - raw[B_PX + 1])
        out[10] = 1.0
    else:
        out[3] = 0.0
        out[4] = 0.0
        out[7] = 0.0
        out[8] = 0.0
        out[9] = 0.0
        out[10] = 0.0

    buys, sells = float(raw[O_BUY_QTY]) / unit, float(raw[O_SELL_QTY]) / unit
    change, ofi = 0.0, 0.0
    if state[S_COUNT] > 0.0:
        change = mid - 0.5 * (state[S_BID_PX] + state[S_ASK_PX])
        if bid >= state[S_BID_PX]:
            ofi += bid_qty
        if bid <= state[S_BID_PX]:
            ofi -= state[S_BID_QTY]
        if ask <= state[S_ASK_PX]:
            ofi -= ask_qty
        if ask >= state[S_ASK_PX]:
            ofi += state[S_ASK_QTY]
        state[S_VOL_30] += _A30 * (buys + sells - state[S_VOL_30])
        state[S_VOL_SUM] += buys + sells
    # The first decision's trade sums cover an unknown interval: they show, but start no average.
    state[S_VAR_10] += _A10 * (change * change - state[S_VAR_10])
    state[S_VAR_100] += _A100 * (change * change - state[S_VAR_100])
    state[S_MOM_10] += _A10 * (change - state[S_MOM_10])
    state[S_COUNT] += 1.0
    state[S_BID_PX] = bid
    state[S_BID_QTY] = bid_qty
    state[S_ASK_PX] = ask
    state[S_ASK_QTY] = ask_qty

    out[11] = _signed_log(ofi / unit)
    out[12] = change
    out[13] = _signed_log(buys - sells)
    out[14] = math.log1p(buys + sells)
    last = float(raw[O_LAST_TRADE_PX])
    out[15] = min(max(last - mid, -10.0 * spread), 10.0 * spread) if last != 0.0 else 0.0
    out[16] = math.sqrt(state[S_VAR_10])
    out[17] = math.sqrt(state[S_VAR_100])
    out[18] = state[S_MOM_10]
    out[19] = math.log1p(state[S_VOL_30])


@kernel
def feature_table(
    raw: npt.NDArray[np.int64], unit: float, state: npt.NDArray[np.float64], out: npt.NDArray[np.float32]
) -> None:
    """Apply `feature_step` to the rows of `raw` ``(n, OBS_SIZE)`` in order, filling `out` ``(n, F)``."""
    for t in range(raw.shape[0]):
        feature_step(raw[t], unit, state, out[t])


@kernel
def push_window(
    raw: npt.NDArray[np.int64],
    unit: float,
    state: npt.NDArray[np.float64],
    ring: npt.NDArray[np.float32],
    pos: int,
) -> int:
    """Write one decision's features into both halves of `ring` ``(2 W, F)``; return the next position.

    Writing twice keeps the last W rows contiguous: they are ``ring[next : next + W]``.
    """
    width = ring.shape[0] // 2
    feature_step(raw, unit, state, ring[pos])
    for j in range(ring.shape[1]):
        ring[pos + width, j] = ring[pos, j]
    return pos + 1 if pos + 1 < width else 0
