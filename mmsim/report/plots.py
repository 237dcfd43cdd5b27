"""Pictures of a run: per agent and market equity, inventory and quotes; per market all agents' equity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mmsim.files import replacing
from mmsim.metrics import EpisodeResult, MarketResult
from mmsim.metrics.ledger import equity, equity_currency
from mmsim.report.titles import by_market, market_title

POINTS = 2_000  # drawn along one axis at most
MARKERS = 1_500  # fills drawn in one panel at most
BUCKETS = 80  # means of the absolute inventory in the comparison
ZOOM_STEPS = 160  # decision times in the panel that shows quotes

# Told apart by the colour-blind (Okabe and Ito).
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
CYCLE = (BLUE, RED, GREEN, "#CC79A7", ORANGE, "#56B4E9", "#000000", "#8C6D31", "#7F3C8D", "#999999")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Line:
    x: FloatArray  # trading time since the first episode's start
    y: FloatArray


def plot_all(results: Sequence[MarketResult], out: str | os.PathLike[str]) -> list[Path]:
    """Write ``DATASET-AGENT.png`` for every result and ``DATASET-comparison.png`` for every market into `out`."""
    folder = Path(out)
    paths = [plot_run(result, folder / f"{result.dataset}-{result.slug}.png") for result in results]
    for market, group in by_market(results).items():
        paths.append(plot_comparison(group, folder / f"{market}-comparison.png"))
    return paths


def plot_run(result: MarketResult, path: str | os.PathLike[str]) -> Path:
    """Draw one agent on one market into the PNG `path`: equity, inventory, mid with fills, and a close-up of quotes.

    Time is trading time: episodes stand side by side, separated by lines. The close-up shows
    ``ZOOM_STEPS`` decision times with many fills in a narrow range of prices.
    """
    figure, (wealth, held, mid, zoom) = _figure((1.15, 0.8, 1.15, 1.5), 11.5, last_apart=True)
    unit, per_unit = _time_unit(result.episodes)
    line, lots = _equity_lines(result.episodes, per_unit)

    wealth.axhline(0, color=GREY, lw=0.6)
    wealth.plot(line.x, line.y, color=BLUE, lw=1.1)
    wealth.set_ylabel(f"equity, {result.currency}")

    held.axhline(0, color=GREY, lw=0.6)
    held.plot(lots.x, lots.y, color=BLUE, lw=0.8, drawstyle="steps-post")
    limit = max((ep.max_inventory for ep in result.episodes), default=0)
    if limit:
        for side in (limit, -limit):
            held.axhline(side, color=RED, lw=0.9, ls="--")
    held.set_ylabel(f"inventory, lots (max {limit:,})" if limit else "inventory, lots")

    note = _draw_mid(mid, result.episodes, per_unit)
    _divide(result.episodes, per_unit, wealth, held, mid)
    lines = "; lines: new episode" if len(result.episodes) > 1 else ""
    mid.set_xlabel(f"trading time, {unit} ({note}{lines})")
    _draw_zoom(zoom, result)
    figure.suptitle(f"{result.agent} on {market_title(result)}", fontsize=11, y=0.992)
    return save(figure, path)


def plot_comparison(results: Sequence[MarketResult], path: str | os.PathLike[str]) -> Path:
    """Draw the equity and the absolute inventory of all agents of one market into the PNG `path`."""
    figure, (wealth, held) = _figure((1.6, 1.0), 7.5, right=0.8)
    longest = max(results, key=lambda r: len(r.episodes))
    unit, per_unit = _time_unit(longest.episodes)
    wealth.axhline(0, color=GREY, lw=0.6)
    for k, result in enumerate(results):
        colour, style = CYCLE[k % len(CYCLE)], "-" if k < len(CYCLE) else "--"
        line, _ = _equity_lines(result.episodes, per_unit)
        final = line.y[-1] if len(line.y) else 0.0
        wealth.plot(line.x, line.y, color=colour, ls=style, lw=1.2, label=f"{result.agent}: {final:,.6g}")
        x, mean = _mean_inventory(result.episodes, per_unit)
        held.plot(x, mean, color=colour, ls=style, lw=1.0)
    wealth.set_ylabel(f"equity, {longest.currency}")
    wealth.legend(
        loc="upper left", bbox_to_anchor=(1.005, 1.0), fontsize=9, frameon=False, title="sum of EPnL"
    )
    held.set_ylabel("mean |inventory|, lots")
    held.set_ylim(bottom=0)
    _divide(longest.episodes, per_unit, wealth, held)
    held.set_xlabel(f"trading time, {unit}" + (" (lines: new episode)" if len(longest.episodes) > 1 else ""))
    figure.suptitle(market_title(longest), fontsize=11, y=0.992)
    return save(figure, path)


def thin(y: FloatArray, points: int = POINTS) -> npt.NDArray[np.int64]:
    """Return indices that keep the shape of `y`: the lowest and highest row of each of ``points / 2`` buckets.

    >>> thin(np.array([0.0, 9.0, 1.0, 1.0, -5.0, 1.0]), 4).tolist()
    [0, 1, 3, 4, 5]
    """
    n = len(y)
    if n <= points:
        return np.arange(n)
    edges = np.linspace(0, n, points // 2 + 1).astype(np.int64)
    keep = {0, n - 1}
    for start, stop in pairwise(edges):
        part = y[start:stop]
        keep.add(int(start + part.argmin()))
        keep.add(int(start + part.argmax()))
    return np.array(sorted(keep), np.int64)


def _figure(
    heights: Sequence[float], height: float, *, right: float = 0.985, last_apart: bool = False
) -> tuple[Figure, list[Axes]]:
    # Margins are set by hand: the automatic layouts draw everything twice.
    figure = Figure(figsize=(12, height), dpi=100)
    FigureCanvasAgg(figure)
    edges = {"left": 0.085, "right": right, "top": 1 - 0.38 / height, "bottom": 0.5 / height}
    axes: list[Axes] = []
    if last_apart:
        outer = figure.add_gridspec(2, 1, height_ratios=(sum(heights[:-1]), heights[-1]), hspace=0.2, **edges)
        inner = outer[0].subgridspec(len(heights) - 1, 1, height_ratios=heights[:-1], hspace=0.07)
        cells = [*(inner[k] for k in range(len(heights) - 1)), outer[1]]
    else:
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights, hspace=0.07, **edges)
        cells = [grid[k] for k in range(len(heights))]
    shared = len(cells) - last_apart
    for row, cell in enumerate(cells):
        axis = figure.add_subplot(cell, sharex=axes[0] if 0 < row < shared else None)
        axis.grid(visible=True, color="#dddddd", lw=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.01)
        axis.yaxis.set_major_formatter(FuncFormatter(_with_commas))
        axis.tick_params(labelbottom=row >= shared - 1)
        axes.append(axis)
    figure.align_ylabels(axes)
    return figure, axes


def _with_commas(value: float, _: Any) -> str:
    return f"{value:,.10g}"


def save(figure: Figure, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write the figure as the PNG `path`, at once, and return the path; `options` are those of ``savefig``."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        figure.savefig(temporary, format="png", **options)
    return target


def _time_unit(episodes: Sequence[EpisodeResult]) -> tuple[str, float]:
    total = sum(ep.duration_s for ep in episodes)
    for unit, seconds in (("hours", 3600.0), ("minutes", 60.0)):
        if total >= 2 * seconds:
            return unit, seconds * 1e9
    return "seconds", 1e9


def _starts(episodes: Sequence[EpisodeResult], per_unit: float) -> FloatArray:
    lengths = [(ep.end_ts - ep.start_ts) / per_unit for ep in episodes]
    return np.concatenate(([0.0], np.cumsum(lengths)))


def _equity_lines(episodes: Sequence[EpisodeResult], per_unit: float) -> tuple[_Line, _Line]:
    # Wealth runs on from episode to episode; the inventory starts flat in each.
    budget = max(8, POINTS // max(1, len(episodes)))
    wealth: list[tuple[FloatArray, FloatArray]] = []
    lots: list[tuple[FloatArray, FloatArray]] = []
    base = 0.0
    for ep, start in zip(episodes, _starts(episodes, per_unit)[:-1], strict=True):
        path, money = equity(ep), equity_currency(ep)
        x = start + (path.ts - ep.start_ts) / per_unit
        held = path.inventory.astype(np.float64)
        rows, other = thin(money, budget), thin(held, budget)
        wealth.append((x[rows], base + money[rows]))
        lots.append((x[other], held[other]))
        base += money[-1]
    return _joined(wealth), _joined(lots)


def _mean_inventory(episodes: Sequence[EpisodeResult], per_unit: float) -> tuple[FloatArray, FloatArray]:
    starts = _starts(episodes, per_unit)
    times = [
        s + (ep.steps["ts"] - ep.start_ts) / per_unit for ep, s in zip(episodes, starts[:-1], strict=True)
    ]
    held = [np.abs(ep.steps["inventory"]).astype(np.float64) for ep in episodes]
    edges = np.linspace(0.0, starts[-1], BUCKETS + 1)
    x, y = np.concatenate(times), np.concatenate(held)
    count, _ = np.histogram(x, edges)
    total, _ = np.histogram(x, edges, weights=y)
    some = count > 0
    return ((edges[:-1] + edges[1:]) / 2)[some], total[some] / count[some]


def _joined(parts: Sequence[tuple[FloatArray, FloatArray]]) -> _Line:
    if not parts:
        return _Line(np.zeros(0), np.zeros(0))
    return _Line(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def _divide(episodes: Sequence[EpisodeResult], per_unit: float, *axes: Axes) -> None:
    inner = _starts(episodes, per_unit)[1:-1]
    if len(inner) > 60:
        return  # more lines than the eye can use
    for axis in axes:
        for x in inner:
            axis.axvline(x, color=GREY, lw=0.7, ls=":")


def _seen(ep: EpisodeResult) -> npt.NDArray[np.void]:
    rows: npt.NDArray[np.void] = ep.steps[
        (ep.steps["bid_px"] > 0) & (ep.steps["ask_px"] > ep.steps["bid_px"])
    ]
    return rows


def _draw_mid(axis: Axes, episodes: Sequence[EpisodeResult], per_unit: float) -> str:
    total = sum(len(ep.fills) for ep in episodes)
    every = max(1, -(-total // MARKERS))
    budget = max(8, POINTS // max(1, len(episodes)))
    drawn: set[int] = set()
    for ep, start in zip(episodes, _starts(episodes, per_unit)[:-1], strict=True):
        tick = float(ep.instrument.tick_size)
        steps = _seen(ep)
        mids = steps["mid2"] * (tick / 2)
        rows = thin(mids, budget)
        axis.plot(
            start + (steps["ts"][rows] - ep.start_ts) / per_unit, mids[rows], color=GREY, lw=0.8,
            label=None if drawn else "mid",
        )  # fmt: skip
        for side in (1, -1):
            fills = ep.fills[ep.fills["side"] == side][::every]
            first = side not in drawn and len(fills) > 0
            _fill_markers(
                axis, start + (fills["ts"] - ep.start_ts) / per_unit, fills["px"] * tick, side, 9, first
            )
            if first:
                drawn.add(side)
        drawn.add(0)
    axis.set_ylabel("price")
    axis.legend(loc="upper right", fontsize=8, frameon=False, ncols=3)
    return f"{total:,} fills" + (f", one in {every} shown" if every > 1 else "")


def _fill_markers(axis: Axes, x: FloatArray, y: FloatArray, side: int, size: float, labelled: bool) -> None:
    buy = side > 0
    axis.scatter(
        x, y, s=size, marker="^" if buy else "v", color=BLUE if buy else RED, linewidths=0, alpha=0.85, zorder=3,
        label=("we bought" if buy else "we sold") if labelled else None,
    )  # fmt: skip


def _busiest(episodes: Sequence[EpisodeResult]) -> tuple[EpisodeResult, slice] | None:
    # The stretch with the most fills for the range of its prices: a run of the price would flatten the quotes.
    best: tuple[float, EpisodeResult, slice] | None = None
    for ep in episodes:
        steps = _seen(ep)
        if len(steps) < 2:
            continue
        for start in range(0, max(1, len(steps) - ZOOM_STEPS // 2), ZOOM_STEPS // 2):
            part = steps[start : start + ZOOM_STEPS]
            low, high = np.searchsorted(ep.fills["ts"], (part["ts"][0], part["ts"][-1]))
            spread = np.median(part["ask_px"] - part["bid_px"])
            score = float(high - low) / float(part["ask_px"].max() - part["bid_px"].min() + 3 * spread)
            if best is None or score > best[0]:
                best = (score, ep, slice(start, start + len(part)))
    return None if best is None else best[1:]


def _draw_zoom(axis: Axes, result: MarketResult) -> None:
    found = _busiest(result.episodes)
    if found is None:
        axis.text(0.5, 0.5, "no decision times with a two-sided book", ha="center", transform=axis.transAxes)
        return
    ep, window = found
    steps = _seen(ep)[window]
    tick = float(ep.instrument.tick_size)
    begin, end = int(steps["ts"][0]), int(steps["ts"][-1])
    x = (steps["ts"] - begin) / 1e9
    bid, ask = steps["bid_px"] * tick, steps["ask_px"] * tick
    axis.fill_between(x, bid, ask, step="post", color="#dddddd", lw=0, label="market bid to ask")
    axis.plot(x, steps["mid2"] * (tick / 2), color=GREY, lw=0.7, drawstyle="steps-post", label="mid")
    for px, qty, colour, label in (
        ("own_bid_px", "own_bid_qty", BLUE, "own bid"),
        ("own_ask_px", "own_ask_qty", RED, "own ask"),
    ):
        asked = steps["asked"] == 1
        quote = np.where(steps[qty] > 0, steps[px] * tick, np.nan)[asked]
        axis.plot(x[asked], quote, color=colour, lw=1.1, drawstyle="steps-post", label=label)
    fills = ep.fills[(ep.fills["ts"] >= begin) & (ep.fills["ts"] <= end)]
    for side in (1, -1):
        some = fills[fills["side"] == side]
        _fill_markers(axis, (some["ts"] - begin) / 1e9, some["px"] * tick, side, 34, len(some) > 0)
    # Far quotes must not squeeze the market into a line.
    span = max(float(ask.max() - bid.min()), tick)
    axis.set_ylim(float(bid.min()) - 0.3 * span - tick, float(ask.max()) + 0.3 * span + tick)
    zone = ZoneInfo(ep.instrument.timezone)
    clock = datetime.fromtimestamp(begin / 1e9, UTC).astimezone(zone)
    axis.set_xlabel(f"seconds since {clock:%Y-%m-%d %H:%M:%S} {ep.instrument.timezone}, episode {ep.index}")
    axis.set_ylabel("price, a busy stretch")
    axis.legend(loc="upper left", bbox_to_anchor=(0.0, 1.11), fontsize=8, frameon=False, ncols=6)
