"""The picture of a `mmsim sensitivity` run: EPnL of every agent in every setting, and the ranks below."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmsim.report.plots import CYCLE, GREY, save
from mmsim.report.ranking_table import number_of_ns
from mmsim.statistics.ranking import Rankings

ROW = 0.3  # inches: an agent's row of ranks, an axis's row of values
LABEL_ROW = 0.85  # inches: the fastest axis, whose values are written upwards
_RANKS = LinearSegmentedColormap.from_list("ranks", ("#08519c", "#deebf7"))


def plot_rankings(found: Rankings, path: str | os.PathLike[str]) -> Path:
    """Draw `found` into the PNG `path` and return the path.

    Above, mean EPnL per episode with its 95 % interval; below, the ranks (1 = best); under them, the settings.
    The base setting is outlined.
    """
    n, agents = len(found.cells), found.agents
    shown = [axis for axis, values in found.axes.items() if len(values) > 1]
    ranks_in, labels_in = ROW * len(agents), ROW * max(len(shown) - 1, 0) + LABEL_ROW
    height, top, gap = 3.6, 0.4, 0.1
    total = top + height + gap + ranks_in + gap + labels_in + 0.1
    width = min(max(8.0, 2.6 + 0.2 * n), 20.0)
    figure = Figure(figsize=(width, total), dpi=110)
    FigureCanvasAgg(figure)
    left, across = 1.25 / width, 1 - 2.4 / width

    def panel(below_top: float, inches: float) -> Axes:
        axis = figure.add_axes((left, 1 - (below_top + inches) / total, across, inches / total))
        axis.set_xlim(-0.5, n - 0.5)
        return axis

    money = panel(top, height)
    _draw_money(money, found)
    grid = panel(top + height + gap, ranks_in)
    _draw_ranks(grid, found)
    settings = panel(top + height + ranks_in + 2 * gap, labels_in)
    _draw_settings(settings, found, shown)
    figure.suptitle(found.title, fontsize=11, y=1 - 0.12 / total, va="top")
    return save(figure, path)


def _draw_money(axis: Axes, found: Rankings) -> None:
    n, agents = len(found.cells), found.agents
    x = np.arange(n)
    axis.axhline(0, color=GREY, lw=0.6)
    for k, agent in enumerate(agents):
        scores = [c.scores[k] for c in found.cells]
        y = np.array([s.epnl for s in scores])
        reach = np.array([[s.epnl - s.low, s.high - s.epnl] for s in scores]).T
        shift = (k - (len(agents) - 1) / 2) * min(0.5 / len(agents), 0.2)
        colour = CYCLE[k % len(CYCLE)]
        axis.errorbar(
            x + shift, y, yerr=np.nan_to_num(reach), fmt="o", ms=3.5, lw=0.9, color=colour, label=agent
        )
    axis.axvspan(-0.5, 0.5, color="#eeeeee", zorder=0)
    axis.set_ylabel(f"EPnL per episode, {found.currency}")
    axis.tick_params(labelbottom=False, bottom=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, axis="y", color="#dddddd", lw=0.5)
    axis.legend(loc="upper left", bbox_to_anchor=(1.005, 1.0), fontsize=9, frameon=False)


def _draw_ranks(axis: Axes, found: Rankings) -> None:
    table = found.ranks
    most = max(len(found.agents), 2)
    axis.imshow(table, aspect="auto", cmap=_RANKS, vmin=1, vmax=most, interpolation="nearest")
    for k, j in np.ndindex(table.shape):
        colour = "white" if table[k, j] <= (1 + most) / 2 - 0.25 else "black"
        axis.text(j, k, str(table[k, j]), ha="center", va="center", fontsize=7, color=colour)
    axis.add_patch(
        Rectangle((-0.5, -0.5), 1, len(found.agents), fill=False, ec="black", lw=1.6, clip_on=False)
    )
    axis.set_yticks(range(len(found.agents)), found.agents, fontsize=8)
    axis.tick_params(labelbottom=False, bottom=False)
    axis.set_xlim(-0.5, len(found.cells) - 0.5)
    axis.text(
        1.01, 0.5, "rank, 1 = best\n(outlined: base)", transform=axis.transAxes, fontsize=8, va="center"
    )


def _draw_settings(axis: Axes, found: Rankings, shown: list[str]) -> None:
    depth = ROW * max(len(shown) - 1, 0) + LABEL_ROW
    axis.set_ylim(depth, 0)
    at, ticks = 0.0, []
    for row, name in enumerate(shown):
        last = row == len(shown) - 1
        high = LABEL_ROW if last else ROW
        start = 0
        # A run of one value ends where a slower axis changes, too.
        keys = [tuple(c.setting[a] for a in shown[: row + 1]) for c in found.cells]
        for key, group in groupby(keys):
            wide = len(list(group))
            value = number_of_ns(key[-1]) if name == "wire" else key[-1]
            upwards = last or len(value) > 4 * wide
            axis.text(
                start + (wide - 1) / 2, at + (0.05 if last else high / 2), value, ha="center",
                va="top" if last else "center", fontsize=7, rotation=90 if upwards else 0,
            )  # fmt: skip
            axis.plot([start - 0.5] * 2, [at, at + high], color="#bbbbbb", lw=0.6)
            start += wide
        ticks.append(at + (0.2 if last else high / 2))
        at += high
    axis.set_yticks(ticks, shown, fontsize=8)
    axis.tick_params(labelbottom=False, bottom=False, left=False)
    axis.spines[:].set_visible(False)
