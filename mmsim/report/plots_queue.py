"""Pictures of scored queue models: calibration curves, error by model, error against the power."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmsim.report.plots import CYCLE, GREY, RED, save
from mmsim.scoring.queue import SIMPLE, QueueFit, power_name
from mmsim.scoring.scores import ModelScore


def plot_queue(fits: Sequence[QueueFit], path: str | os.PathLike[str]) -> Path:
    """Draw one row of panels per market into the PNG `path`: fill-rate calibration, error by model, error against n."""
    figure, rows = _figure(len(fits))
    for fit, (curve, bars, powers) in zip(fits, rows, strict=True):
        _curve(curve, fit.report, f"{fit.dataset}, {fit.report_split}")
        _bars(bars, fit.report)
        _powers(powers, fit)
    return save(figure, path)


def plot_inside(markets: Sequence[tuple[str, tuple[ModelScore, ...]]], path: str | os.PathLike[str]) -> Path:
    """Draw the rules for quotes inside a snapshot's spread, one row per market: calibration, error, and bias."""
    figure, rows = _figure(len(markets))
    for (title, scores), (curve, bars, bias) in zip(markets, rows, strict=True):
        _curve(curve, scores, title)
        _bars(bars, scores)
        _rates(bias, scores)
    return save(figure, path)


def _colour(k: int) -> str:
    return CYCLE[k % len(CYCLE)]


def _figure(n: int) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(13, 3.9 * n), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    rows: list[list[Axes]] = [list(row) for row in figure.subplots(n, 3, squeeze=False)]
    for axes in (axis for row in rows for axis in row):
        axes.grid(visible=True, color="#dddddd", lw=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, rows


def _curve(axes: Axes, scores: Sequence[ModelScore], title: str) -> None:
    axes.axhline(0, color=GREY, lw=0.8)
    for k, score in enumerate(scores):
        axes.plot(
            [100 * c.true_rate for c in score.cells],
            [100 * (c.predicted_rate - c.true_rate) for c in score.cells],
            "o^sDv"[k % 5],
            ms=5,
            color=_colour(k),
            mfc="none",
            label=score.name,
        )
    axes.set(
        xlabel="true fill rate of a group (place, queue, horizon), %",
        ylabel="predicted minus true, % points",
        title=f"{title}\ncalibration",
    )
    axes.legend(fontsize=8, frameon=False)


def _bars(axes: Axes, scores: Sequence[ModelScore]) -> None:
    at = np.arange(len(scores))
    values = np.array([s.error for s in scores])
    axes.bar(at, values[:, 0], width=0.6, color=[_colour(k) for k in range(len(scores))], alpha=0.75)
    spread = np.abs(values[:, 1:].T - values[:, 0])
    axes.errorbar(at, values[:, 0], np.nan_to_num(spread), fmt="none", ecolor="black", capsize=4, lw=1)
    axes.set_xticks(at, [s.name for s in scores], fontsize=8)
    axes.set(ylabel="error over all orders, s", title="error with 95% interval")


def _powers(axes: Axes, fit: QueueFit) -> None:
    powers = [s for s in fit.fit if s.name not in SIMPLE]
    n = [float(s.name.removeprefix("power ")) for s in powers]
    values = np.array([s.error for s in powers])
    axes.fill_between(n, values[:, 1], values[:, 2], color=_colour(len(SIMPLE)), alpha=0.15, lw=0)
    axes.plot(n, values[:, 0], "o-", ms=3, color=_colour(len(SIMPLE)), label="power n")
    best = next(s for s in powers if s.name == power_name(fit.power))
    axes.plot(
        [fit.power], [best.error.value], "o", ms=9, mfc="none", color=RED, label=f"chosen: {fit.power:g}"
    )
    for k, score in enumerate(s for s in fit.fit if s.name in SIMPLE):
        axes.axhline(score.error.value, color=_colour(k), lw=1, ls="--", label=score.name)
    axes.set_xscale("log")
    axes.set_xticks([0.25, 0.5, 1, 2, 5, 10, 20], ["0.25", "0.5", "1", "2", "5", "10", "20"])
    axes.set(
        xlabel="exponent n",
        ylabel="error over all orders, s",
        title=f"{fit.dataset}, {fit.split}: choosing n",
    )
    axes.legend(fontsize=8, frameon=False)


def _rates(axes: Axes, scores: Sequence[ModelScore]) -> None:
    x = scores[0].horizons_s
    axes.plot(x, scores[0].true_rate, "k-", lw=2, label="truth")
    for k, score in enumerate(scores):
        axes.plot(x, score.predicted_rate, "o--", ms=4, color=_colour(k), label=score.name)
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{h:g}" for h in x])
    axes.set(
        xlabel="horizon, s", ylabel="share of orders filled", ylim=(0, 1.02), title="filled by the horizon"
    )
    axes.legend(fontsize=8, frameon=False)
