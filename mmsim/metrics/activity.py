"""What an agent did: fills, markouts, inventory, quotes and latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmsim.metrics import ledger
from mmsim.metrics.episode import EpisodeResult

MARKOUT_HORIZONS_NS = (500_000_000, 1_000_000_000, 5_000_000_000, 30_000_000_000)


class Latency(NamedTuple):
    """Wall clock of one decision at batch 1, us; None where the agent was never asked."""

    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


def markouts_half_ticks(
    ep: EpisodeResult, horizon_ns: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return markouts and quantities of the fills whose horizon lies inside the episode.

    The markout of a fill is the move of the mid from the fill to the first decision time at least `horizon_ns`
    later, signed by the fill's side: negative means that the market went against us. Half-ticks and lots, both
    ``(n,)``; the closing of the residual inventory is left out.
    """
    fills = ledger.quoted_fills(ep)
    ts, mid2 = ledger.observed_mids(ep)
    at = np.searchsorted(ts, fills["ts"] + horizon_ns, side="left")
    inside = at < len(ts)
    fills, at = fills[inside], at[inside]
    moves = (mid2[at] - fills["mid2"]) * fills["side"] if len(fills) else np.zeros(0, np.int64)
    return moves.astype(np.int64), fills["qty"].astype(np.int64)


def markout_ticks(ep: EpisodeResult, horizon_ns: int) -> float:
    """Return the mean markout at `horizon_ns`, ticks, weighted by quantity; nan without fills."""
    moves, qty = markouts_half_ticks(ep, horizon_ns)
    return float(np.average(moves, weights=qty)) / 2 if len(qty) else math.nan


def fill_ratio(ep: EpisodeResult) -> float:
    """Return the share of sent orders that were filled at least in part; nan if none was sent."""
    sent = ep.counters.get("orders", 0)
    return len(np.unique(ledger.quoted_fills(ep)["order_id"])) / sent if sent else math.nan


def maker_share(ep: EpisodeResult) -> float:
    """Return the share of the traded quantity in which our order rested, the closing left out; nan without fills."""
    fills = ledger.quoted_fills(ep)
    total = int(fills["qty"].sum())
    return int(fills["qty"][fills["maker"] == 1].sum()) / total if total else math.nan


def traded_qty(ep: EpisodeResult) -> int:
    """Return the traded quantity, lots, the closing included."""
    return int(ep.fills["qty"].astype(np.int64).sum())


def two_sided_uptime(ep: EpisodeResult) -> float:
    """Return the share of decisions that asked for quotes on both sides, at the observed touch or better.

    nan if the agent was never asked.
    """
    s = ep.steps[ep.steps["asked"] == 1]
    if len(s) == 0:
        return math.nan
    bid = (s["own_bid_qty"] > 0) & (s["own_bid_px"] >= s["bid_px"])
    ask = (s["own_ask_qty"] > 0) & (s["own_ask_px"] <= s["ask_px"])
    return float((bid & ask).mean())


def inventory_abs_percentile(ep: EpisodeResult, percent: float) -> float:
    """Return a percentile of the absolute inventory over decision times, lots; 0 without any."""
    held = np.abs(ep.steps["inventory"])
    return float(np.percentile(held, percent)) if len(held) else 0.0


def inventory_std(ep: EpisodeResult) -> float:
    """Return the standard deviation of the signed inventory over decision times, lots."""
    held = ep.steps["inventory"]
    return float(held.std()) if len(held) else 0.0


def inventory_max(ep: EpisodeResult) -> int:
    """Return the largest absolute inventory after any fill, lots."""
    held = np.abs(np.cumsum(ledger.signed_qty(ep)))
    return int(held.max()) if len(held) else 0


def time_at_limit(ep: EpisodeResult) -> float:
    """Return the share of decision times at which the absolute inventory is at its limit (or beyond)."""
    held = np.abs(ep.steps["inventory"])
    return float((held >= ep.max_inventory).mean()) if len(held) and ep.max_inventory > 0 else 0.0


def latency_us(episodes: Sequence[EpisodeResult]) -> Latency:
    """Return percentiles of the wall clock of `Agent.quote` over all decisions of all episodes, us."""
    walls = [ep.steps["wall_ns"][ep.steps["asked"] == 1] for ep in episodes]
    pooled = np.concatenate(walls) if walls else np.zeros(0, np.int64)
    if len(pooled) == 0:
        return Latency(None, None, None, None)
    p50, p90, p99 = (float(x) / 1e3 for x in np.percentile(pooled, (50, 90, 99)))
    return Latency(p50, p90, p99, float(pooled.max()) / 1e3)
