"""Does the ranking of agents survive other rules of the simulator? Cells, summary, table and files."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy.stats import kendalltau, rankdata, spearmanr

from mmsim.metrics import bootstrap_ci, epnl
from mmsim.report.result import MarketResult, market_title
from mmsim.report.table import number
from mmsim.report.writer import git_revision, json_safe, replacing, versions

AXES = ("inside", "impact", "latency", "queue")  # the last one changes fastest
SCHEMA = 1


@dataclass(frozen=True)
class Score:
    """One agent under one setting: mean EPnL an episode, its 95 % interval (currency), and its rank (1 = best)."""

    agent: str
    epnl: float
    low: float
    high: float
    rank: int
    fills: int
    fills_sha256: str = ""  # equal where the setting changed nothing at all


@dataclass(frozen=True)
class Cell:
    """All agents under one setting of the axes, compared with the base setting.

    Parameters
    ----------
    setting : dict
        Axis -> value as text.
    scores : tuple of Score
        In the order in which the agents were given.
    tau, rho : float
        Kendall's tau-b and Spearman's rho between the agents' EPnL here and in the base setting; nan where all
        agents are level in one of them.
    lead, lead_low, lead_high : float
        Mean EPnL of the best agent above the second, episode by episode, with its 95 % interval (currency).
    """

    setting: dict[str, str]
    scores: tuple[Score, ...]
    tau: float
    rho: float
    lead: float
    lead_low: float
    lead_high: float

    @property
    def winners(self) -> tuple[str, ...]:
        """The best agent; several if they are level."""
        return tuple(s.agent for s in self.scores if s.rank == 1)

    @property
    def clear(self) -> bool:
        """Whether the interval of the best agent's lead lies above 0."""
        return self.lead_low > 0


def cell(setting: dict[str, str], results: Sequence[MarketResult], base: Cell | None = None) -> Cell:
    """Return the cell of `results`, one a agent, compared with `base` (None: this is the base)."""
    by_episode = np.array([[epnl(ep) for ep in r.episodes] for r in results], np.float64)
    means = [float(r.metrics["epnl"]["mean"]) for r in results]
    ranks = rankdata([-m for m in means], method="min")
    scores = []
    for result, mean, rank in zip(results, means, ranks, strict=True):
        low, high = (math.nan if x is None else float(x) for x in result.metrics["epnl"]["ci95"])
        scores.append(Score(result.agent, mean, low, high, int(rank), result.fills, result.fills_sha256))
    order = np.argsort(-np.array(means), kind="stable")
    lead, low, high = math.nan, math.nan, math.nan
    if len(order) > 1:
        apart = by_episode[order[0]] - by_episode[order[1]]
        lead = float(apart.mean())
        low, high = bootstrap_ci(apart)
    reference = means if base is None else [s.epnl for s in base.scores]
    tau, rho = _agreement(reference, means)
    return Cell(setting, tuple(scores), tau, rho, lead, low, high)


def _agreement(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    if len(set(a)) < 2 or len(set(b)) < 2:
        return math.nan, math.nan
    return float(kendalltau(a, b).statistic), float(spearmanr(a, b).statistic)


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """All cells of one market; the first is the base setting.

    ``dropped`` says which axes cannot matter on this market, and why.
    """

    dataset: str
    title: str
    currency: str
    split: str
    axes: dict[str, tuple[str, ...]]
    cells: tuple[Cell, ...]
    dropped: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> Cell:
        """The setting that the others are compared with."""
        return self.cells[0]

    @property
    def agents(self) -> tuple[str, ...]:
        """The agents, as given."""
        return tuple(s.agent for s in self.base.scores)

    def winner_stays(self, c: Cell) -> bool:
        """Whether a best agent of the base setting is a best agent in `c`."""
        return bool(set(c.winners) & set(self.base.winners))

    def same_order(self, c: Cell) -> bool:
        """Whether all agents rank in `c` as in the base setting."""
        return [s.rank for s in c.scores] == [s.rank for s in self.base.scores]

    @cached_property
    def idle(self) -> tuple[str, ...]:
        """Sentences on values that changed no fill of any agent against the first value of their axis."""

        def key(c: Cell, without: str) -> tuple[str, ...]:
            return tuple(v for axis, v in c.setting.items() if axis != without)

        out = []
        for axis, (first, *others) in self.axes.items():
            base = {key(c, axis): c for c in self.cells if c.setting[axis] == first}
            for value in others:
                cells = [c for c in self.cells if c.setting[axis] == value]
                if all(_same_fills(c, base[key(c, axis)]) for c in cells):
                    same = f"the same fills as {_setting(axis, first)} everywhere"
                    out.append(f"{axis} {_setting(axis, value)}: {same}")
        return tuple(out)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Shares over all cells but the base, and the same for each value of each axis."""
        out = self._shares(self.cells[1:])
        out["by_axis"] = {
            axis: {v: self._shares([c for c in self.cells[1:] if c.setting[axis] == v]) for v in values}
            for axis, values in self.axes.items()
            if len(values) > 1
        }
        return out

    def _shares(self, cells: Sequence[Cell]) -> dict[str, Any]:
        n = len(cells)
        taus = [c.tau for c in cells if not math.isnan(c.tau)]
        return {
            "cells": n,
            "winner_stays": sum(map(self.winner_stays, cells)) / n if n else None,
            "same_order": sum(map(self.same_order, cells)) / n if n else None,
            "clear_lead": sum(c.clear for c in cells) / n if n else None,
            "clear_other_winner": sum(c.clear and not self.winner_stays(c) for c in cells) / n if n else None,
            "mean_tau": float(np.mean(taus)) if taus else None,
            "least_tau": min(taus) if taus else None,
        }


def _same_fills(a: Cell, b: Cell) -> bool:
    return [s.fills_sha256 for s in a.scores] == [s.fills_sha256 for s in b.scores]


def title_of(result: MarketResult) -> str:
    """Return the line that says what the table shows."""
    return market_title(result)


def _percent(x: float | None) -> str:
    return "-" if x is None else f"{100 * x:.0f}%"


def _setting(axis: str, value: str) -> str:
    return number_of_ns(value) if axis == "latency" else value


def number_of_ns(text: str) -> str:
    """Return a time in ns in its natural unit.

    >>> number_of_ns("0"), number_of_ns("1500000"), number_of_ns("250")
    ('0', '1.5 ms', '250 ns')
    """
    ns = int(text)
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if ns >= size:
            return f"{ns / size:.4g} {unit}"
    return f"{ns} ns" if ns else "0"


def render(found: Sensitivity, console: Console | None = None) -> None:
    """Print the cells, one row each, then the shares of each axis, to `console` (default: standard output)."""
    console = console or Console()
    tables = [_cells_table(found)]
    if len(found.cells) > 1:
        tables.append(_axes_table(found))
    options = console.options.update(max_width=10_000)
    needed = max(console.measure(t, options=options).maximum for t in tables)
    if not console.is_terminal:
        console.width = max(console.width, needed, len(found.title))
    for table in tables:
        console.print(table)
        console.print()
    for line in (*found.dropped, *found.idle, verdict(found), LEGEND):
        console.print(line, style="dim", markup=False, highlight=False)


LEGEND = (
    "EPnL: mean an episode. (rank) of the agent, * base setting. tau: Kendall's, with the base setting's EPnL. lead: EPnL "
    "of the best above the second, episode by episode; an interval that holds 0 means the two cannot be told apart."
)


def verdict(found: Sensitivity) -> str:
    """Say in one sentence whether the ranking survives."""
    s = found.summary
    if not s["cells"]:
        return "Only one setting was run: there is nothing to compare."
    winners = " and ".join(found.base.winners)
    text = (
        f"{winners}, best in the base setting, stays best in {_percent(s['winner_stays'])} of {s['cells']} other settings; "
        f"all ranks stay in {_percent(s['same_order'])}; Kendall's tau is {number(s['mean_tau'])} on average, "
        f"{number(s['least_tau'])} at least. The best agent's lead is clear of 0 in {_percent(s['clear_lead'])} of them"
    )
    return f"{text}, another agent's in {_percent(s['clear_other_winner'])}."


def _cells_table(found: Sensitivity) -> Table:
    table = Table(
        title=escape(found.title), title_justify="left", title_style="bold", pad_edge=False, expand=False
    )
    for axis in found.axes:
        table.add_column(axis, no_wrap=True)
    for agent in found.agents:
        table.add_column(f"{agent}: EPnL [95% CI] (rank)", justify="right", no_wrap=True)
    table.add_column("tau", justify="right", no_wrap=True)
    table.add_column("best", no_wrap=True)
    table.add_column("lead [95% CI]", justify="right", no_wrap=True)
    for c in found.cells:
        star = " *" if c is found.base else ""
        settings = [_setting(axis, c.setting[axis]) for axis in found.axes]
        settings[-1] += star
        scores = [f"{number(s.epnl)} {_interval(s.low, s.high)} ({s.rank})" for s in c.scores]
        lead = f"{number(c.lead)} {_interval(c.lead_low, c.lead_high)}"
        row = (*settings, *scores, number(c.tau), ", ".join(c.winners), lead)
        table.add_row(*map(escape, row))
    return table


def _interval(low: float, high: float) -> str:
    return "[one episode]" if math.isnan(low) else f"[{number(low)}, {number(high)}]"


def _axes_table(found: Sensitivity) -> Table:
    table = Table(title="by setting", title_justify="left", title_style="bold", pad_edge=False)
    for name in ("axis", "value"):
        table.add_column(name, no_wrap=True)
    for name in ("cells", "best stays", "ranks stay", "mean tau", "least tau"):
        table.add_column(name, justify="right", no_wrap=True)
    for axis, values in found.summary["by_axis"].items():
        for value, s in values.items():
            shares = (_percent(s["winner_stays"]), _percent(s["same_order"]))
            taus = (number(s["mean_tau"]), number(s["least_tau"]))
            table.add_row(axis, escape(_setting(axis, value)), str(s["cells"]), *shares, *taus)
    return table


def write(found: Sensitivity, out: str | os.PathLike[str]) -> list[Path]:
    """Write ``sensitivity.json`` and ``sensitivity.csv`` into folder `out`, each at once; return their paths."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "schema": SCHEMA,
        "dataset": found.dataset,
        "title": found.title,
        "currency": found.currency,
        "split": found.split,
        "agents": found.agents,
        "axes": found.axes,
        "dropped": found.dropped,
        "idle": found.idle,
        "summary": found.summary,
        "cells": [_entry(found, c) for c in found.cells],
        "config": found.config,
        "versions": versions(),
        "git": git_revision(),
    }
    paths = [folder / "sensitivity.json", folder / "sensitivity.csv"]
    with replacing(paths[0]) as temporary:
        text = json.dumps(json_safe(document), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    with replacing(paths[1]) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow((*found.axes, "agent", "epnl", "ci95_low", "ci95_high", "rank", "fills", "tau", "base"))
        for c in found.cells:
            for s in c.scores:
                cells = [c.setting[axis] for axis in found.axes]
                values: list[Any] = [s.epnl, s.low, s.high, s.rank, s.fills, c.tau]
                blank = ["" if isinstance(x, float) and math.isnan(x) else x for x in values]
                rows.writerow((*cells, s.agent, *blank, int(c is found.base)))
    return paths


def _entry(found: Sensitivity, c: Cell) -> dict[str, Any]:
    return {
        "setting": c.setting,
        "base": c is found.base,
        "scores": [vars(s) for s in c.scores],
        "kendall_tau": c.tau,
        "spearman_rho": c.rho,
        "winners": c.winners,
        "winner_stays": found.winner_stays(c),
        "same_order": found.same_order(c),
        "lead": {"mean": c.lead, "ci95": [c.lead_low, c.lead_high]},
    }


def ranks(found: Sensitivity) -> npt.NDArray[np.int64]:
    """Return the rank of every agent in every cell, ``(agents, cells)``."""
    return np.array([[s.rank for s in c.scores] for c in found.cells], np.int64).T
