"""What a market shows at one decision, as numbers: kernels from consecutive observations to features.

One step function serves the live agents and the offline tables alike, so that both see the same
bits. Only *public* market state is read: own inventory and cash never enter. A level that the feed
does not show is masked (its features are 0 and the flag says so), never invented.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import inline_kernel, kernel

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
    "momentum_10",  # exponential mean of mid_change, ticks per decision
    "log_volume_30",  # log1p of the exponential mean of traded quantity / unit
)
N_FEATURES = len(FEATURES)
FEATURE_ROW = np.dtype([(name, "<f4") for name in FEATURES])  # of one decision

# What goes from one decision to the next; all zero at the start of an episode.
FEATURE_STATE = np.dtype([
    ("count", "<f8"),  # decisions seen
    ("bid_px", "<f8"),  # best quotes of the last decision
    ("bid_qty", "<f8"),
    ("ask_px", "<f8"),
    ("ask_qty", "<f8"),
    ("variance_10", "<f8"),  # exponential means, see the features made of them
    ("variance_100", "<f8"),
    ("momentum_10", "<f8"),
    ("volume_30", "<f8"),
])  # fmt: skip

_LEVELS_5 = 5
_A10, _A30, _A100 = 1.0 / 11.0, 1.0 / 31.0, 1.0 / 101.0  # weight of the newest value


def as_table(rows: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """Return the same memory as `rows` ``(n,)`` `FEATURE_ROW` as a table ``(n, N_FEATURES)``."""
    return rows.view(np.ndarray).view(np.float32).reshape(len(rows), N_FEATURES)


@inline_kernel
def _signed_log(x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x)


@kernel
def feature_step(
    obs: Any,
    unit: float,
    state: Any,
    out: Any,
) -> None:
    """Write the features of one decision into `out` and update `state` (in place).

    Parameters
    ----------
    obs : OBSERVATION record
        What was seen (`mmsim.records`); its best bid and ask exist.
    unit : float
        Usual order size, lots.
    state : FEATURE_STATE record
        All zero at the start of an episode.
    out : FEATURE_ROW record
        Written.
    """
    bid, ask = float(obs.bid_px), float(obs.ask_px)
    bid_qty, ask_qty = float(obs.bid_qty), float(obs.ask_qty)
    n_bid, n_ask = obs.n_bid, obs.n_ask
    mid = 0.5 * (bid + ask)
    spread = ask - bid
    best = bid_qty + ask_qty
    imbalance = (bid_qty - ask_qty) / best if best > 0.0 else 0.0
    out.spread = spread
    out.micro_offset = 0.5 * spread * imbalance
    out.imbalance_1 = imbalance
    out.log_bid_1 = math.log1p(bid_qty / unit)
    out.log_ask_1 = math.log1p(ask_qty / unit)

    if n_bid > 1 and n_ask > 1:
        bid_5, ask_5, bid_all, ask_all = 0.0, 0.0, 0.0, 0.0
        for i in range(n_bid):
            bid_all += obs.bid_qtys[i]
            if i < _LEVELS_5:
                bid_5 += obs.bid_qtys[i]
        for i in range(n_ask):
            ask_all += obs.ask_qtys[i]
            if i < _LEVELS_5:
                ask_5 += obs.ask_qtys[i]
        out.imbalance_5 = (bid_5 - ask_5) / max(bid_5 + ask_5, 1.0)
        out.imbalance_all = (bid_all - ask_all) / max(bid_all + ask_all, 1.0)
        out.log_bid_rest = math.log1p(max(bid_all - bid_qty, 0.0) / unit)
        out.log_ask_rest = math.log1p(max(ask_all - ask_qty, 0.0) / unit)
        out.gap_skew = (obs.ask_pxs[1] - ask) - (bid - obs.bid_pxs[1])
        out.deep = 1.0
    else:
        out.imbalance_5 = 0.0
        out.imbalance_all = 0.0
        out.log_bid_rest = 0.0
        out.log_ask_rest = 0.0
        out.gap_skew = 0.0
        out.deep = 0.0

    buys, sells = float(obs.buy_qty) / unit, float(obs.sell_qty) / unit
    change, ofi = 0.0, 0.0
    if state.count > 0.0:
        change = mid - 0.5 * (state.bid_px + state.ask_px)
        if bid >= state.bid_px:
            ofi += bid_qty
        if bid <= state.bid_px:
            ofi -= state.bid_qty
        if ask <= state.ask_px:
            ofi -= ask_qty
        if ask >= state.ask_px:
            ofi += state.ask_qty
        state.volume_30 += _A30 * (buys + sells - state.volume_30)
    # The first decision's trade sums cover an unknown interval: they show, but start no average.
    state.variance_10 += _A10 * (change * change - state.variance_10)
    state.variance_100 += _A100 * (change * change - state.variance_100)
    state.momentum_10 += _A10 * (change - state.momentum_10)
    state.count += 1.0
    state.bid_px = bid
    state.bid_qty = bid_qty
    state.ask_px = ask
    state.ask_qty = ask_qty

    out.ofi = _signed_log(ofi / unit)
    out.mid_change = change
    out.flow = _signed_log(buys - sells)
    out.volume = math.log1p(buys + sells)
    last = float(obs.last_trade_px)
    out.trade_offset = min(max(last - mid, -10.0 * spread), 10.0 * spread) if last != 0.0 else 0.0
    out.volatility_10 = math.sqrt(state.variance_10)
    out.volatility_100 = math.sqrt(state.variance_100)
    out.momentum_10 = state.momentum_10
    out.log_volume_30 = math.log1p(state.volume_30)


@kernel
def feature_table(
    seen: npt.NDArray[np.void], unit: float, state: npt.NDArray[np.void], rows: npt.NDArray[np.void]
) -> None:
    """Apply `feature_step` to the observations `seen` ``(n,)`` in order, filling `rows` ``(n,)``."""
    for t in range(len(seen)):
        feature_step(seen[t], unit, state[0], rows[t])


@kernel
def push_window(
    obs: npt.NDArray[np.void], unit: float, state: npt.NDArray[np.void], ring: npt.NDArray[np.void], pos: int
) -> int:
    """Write the features of one decision, ``obs[0]``, into both halves of `ring` ``(2 W,)``; return the next position.

    Writing twice keeps the last W rows contiguous: they are ``ring[next : next + W]``.
    """
    width = ring.shape[0] // 2
    feature_step(obs[0], unit, state[0], ring[pos])
    ring[pos + width] = ring[pos]
    return pos + 1 if pos + 1 < width else 0
