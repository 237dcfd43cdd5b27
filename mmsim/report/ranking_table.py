"""The printed tables and the files of a `mmsim sensitivity` run."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmsim.files import replacing
from mmsim.provenance import git_revision, versions
from mmsim.report.table import number
from mmsim.report.writer import json_safe
from mmsim.statistics.ranking import Cell, Rankings

SCHEMA = 1


def idle_sentences(found: Rankings) -> list[str]:
    """Return sentences on values that changed no fill of any agent against the first value of their axis."""
    return [
        f"{axis} {_setting(axis, value)}: the same fills as {_setting(axis, first)} everywhere"
        for axis, value, first in found.idle
    ]


def _percent(x: float | None) -> str:
    return "-" if x is None else f"{100 * x:.0f}%"


def _setting(axis: str, value: str) -> str:
    return number_of_ns(value) if axis == "wire" else value


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


def render(found: Rankings, console: Console | None = None) -> None:
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
    for line in (*found.dropped, *idle_sentences(found), verdict(found), LEGEND):
        console.print(line, style="dim", markup=False, highlight=False)


LEGEND = (
    "EPnL: mean an episode. (rank) of the agent, * base setting. tau: Kendall's, with the base setting's EPnL. lead: EPnL "
    "of the best above the second, episode by episode; an interval that holds 0 means the two cannot be told apart."
)


def verdict(found: Rankings) -> str:
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


def _cells_table(found: Rankings) -> Table:
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


def _axes_table(found: Rankings) -> Table:
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


def write(found: Rankings, out: str | os.PathLike[str]) -> list[Path]:
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
        "idle": idle_sentences(found),
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


def _entry(found: Rankings, c: Cell) -> dict[str, Any]:
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
