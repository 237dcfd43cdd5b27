"""One number per episode and metric, and over all episodes the mean, deviation and bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.metrics import activity, ledger, performance
from mmsim.metrics.episode import EpisodeResult
from mmsim.metrics.value import parts
from mmsim.statistics.bootstrap import SEED, bootstrap_ci, ratio_of_sums

FloatArray = npt.NDArray[np.float64]


def _currency(count: Callable[[EpisodeResult], int]) -> Callable[[EpisodeResult], float]:
    return lambda ep: ledger.to_currency(count(ep), ep.instrument)


# Name in run.json -> number of one episode. Definitions and units are in the functions' docstrings.
PER_EPISODE: Mapping[str, Callable[[EpisodeResult], float]] = {
    "epnl": performance.epnl,
    "map_": performance.map_,
    "pnl_map": performance.pnl_map,
    "max_drawdown": performance.max_drawdown,
    "nd_pnl": performance.nd_pnl,
    "profit_ratio": performance.profit_ratio,
    "rpt": performance.rpt,
    "spread_capture": _currency(ledger.spread_capture),
    "inventory_revaluation": _currency(ledger.inventory_revaluation),
    "fees": lambda ep: ledger.fees_paid(ep) / parts(ep.instrument),
    "expected_shortfall": performance.expected_shortfall,
    "markout_500ms": lambda ep: activity.markout_ticks(ep, 500_000_000),
    "markout_1s": lambda ep: activity.markout_ticks(ep, 1_000_000_000),
    "markout_5s": lambda ep: activity.markout_ticks(ep, 5_000_000_000),
    "markout_30s": lambda ep: activity.markout_ticks(ep, 30_000_000_000),
    "fills": lambda ep: len(ep.fills),
    "traded_qty": activity.traded_qty,
    "fill_ratio": activity.fill_ratio,
    "maker_share": activity.maker_share,
    "two_sided_uptime": activity.two_sided_uptime,
    "inventory_max": activity.inventory_max,
    "inventory_std": activity.inventory_std,
    "inventory_abs_p50": lambda ep: activity.inventory_abs_percentile(ep, 50),
    "inventory_abs_p95": lambda ep: activity.inventory_abs_percentile(ep, 95),
    "inventory_abs_p99": lambda ep: activity.inventory_abs_percentile(ep, 99),
    "time_at_limit": activity.time_at_limit,
    "mean_spread_ticks": performance.mean_spread_ticks,
}


def episode_metrics(ep: EpisodeResult) -> dict[str, float]:
    """Return every metric of one episode by name; nan where it is not defined."""
    return {name: float(fn(ep)) for name, fn in PER_EPISODE.items()}


def aggregate(episodes: Sequence[EpisodeResult], *, seed: int = SEED) -> dict[str, dict[str, Any]]:
    """Return ``{metric: {"mean", "std", "ci95": [low, high], "n"}}`` over the episodes.

    ``std`` is the sample deviation over episodes; ``n`` counts the episodes in which the metric is defined; what is
    not defined is None. ``sharpe``, ``sharpe_annualised`` and ``pnl_map_ratio_of_means`` are numbers of the whole
    set: theirs stands in ``mean``, without ``std``. ``pnl_map`` is the mean of ratios.
    """
    table = [episode_metrics(ep) for ep in episodes]
    out: dict[str, dict[str, Any]] = {}
    for name in PER_EPISODE:
        column = np.array([row[name] for row in table], np.float64)
        column = column[~np.isnan(column)]
        out[name] = _entry(
            float(column.mean()) if len(column) else math.nan,
            float(column.std(ddof=1)) if len(column) > 1 else math.nan,
            bootstrap_ci(column, seed=seed),
            len(column),
        )
    epnls = np.array([row["epnl"] for row in table], np.float64)
    held = np.array([row["map_"] for row in table], np.float64)
    n = len(table)
    ratio = performance.sharpe(epnls.tolist())
    low, high = bootstrap_ci(epnls, _sharpes, seed=seed) if not math.isnan(ratio) else (math.nan, math.nan)
    out["sharpe"] = _entry(ratio, math.nan, (low, high), n)
    scale = math.nan
    if n:
        mean_s = float(np.mean([ep.duration_s for ep in episodes]))
        scale = performance.annual_factor(mean_s, episodes[0].instrument)
    out["sharpe_annualised"] = _entry(ratio * scale, math.nan, (low * scale, high * scale), n)
    out["pnl_map_ratio_of_means"] = _entry(
        performance.pnl_map_ratio_of_means(episodes),
        math.nan,
        bootstrap_ci(np.column_stack([epnls, held]), ratio_of_sums, seed=seed),
        n,
    )
    return out


def _sharpes(drawn: FloatArray) -> FloatArray:
    out = np.full(len(drawn), np.nan)
    varied = drawn.max(axis=1) > drawn.min(axis=1)
    out[varied] = drawn[varied].mean(axis=1) / drawn[varied].std(axis=1, ddof=1)
    return out


def _entry(mean: float, std: float, ci: tuple[float, float], n: int) -> dict[str, Any]:
    return {
        "mean": _or_none(mean),
        "std": _or_none(std),
        "ci95": [_or_none(ci[0]), _or_none(ci[1])],
        "n": n,
    }


def _or_none(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None
