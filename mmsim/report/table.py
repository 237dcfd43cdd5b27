"""The printed comparison: one table per market, one row per agent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmsim.metrics import MarketResult, inventory_max
from mmsim.report.titles import by_market, market_title


class _Column(NamedTuple):
    head: str
    cell: Callable[[MarketResult], str]


def number(x: float | None) -> str:
    """Return a number with three or four significant digits; ``-`` for what is not defined.

    >>> [number(x) for x in (12345.6, 123.45, 1.2345, -0.01234, 0, None)]
    ['12,346', '123.5', '1.234', '-0.0123', '0', '-']
    """
    if x is None or not math.isfinite(x):
        return "-"
    if x == 0:
        return "0"
    size = abs(x)
    if size >= 1000:
        return f"{x:,.0f}"
    if size >= 100:
        return f"{x:.1f}"
    if size >= 10:
        return f"{x:.2f}"
    if size >= 1:
        return f"{x:.3f}"
    return f"{x:.3g}" if size < 1e-4 else f"{x:.4f}"


def _mean(metric: str, show: Callable[[float | None], str] = number) -> Callable[[MarketResult], str]:
    return lambda result: show(result.metrics[metric]["mean"])


def _percent(x: float | None) -> str:
    return "-" if x is None else f"{100 * x:.1f}%"


def _interval(result: MarketResult) -> str:
    entry = result.metrics["epnl"]
    low, high = entry["ci95"]
    ci = "[one episode]" if low is None else f"[{number(low)}, {number(high)}]"
    return f"{number(entry['mean'])} {ci}"


def _inventory(result: MarketResult) -> str:
    return f"{max(map(inventory_max, result.episodes), default=0):,}"


_PERFORMANCE = (
    _Column("EPnL [95% CI]", _interval),
    _Column("MAP", _mean("map_")),
    _Column("PnL/MAP", _mean("pnl_map")),
    _Column("SR", _mean("sharpe")),
    _Column("MDD", _mean("max_drawdown")),
    _Column("spread", _mean("spread_capture")),
    _Column("reval.", _mean("inventory_revaluation")),
    _Column("fees", _mean("fees")),
)
_ACTIVITY = (
    _Column("fills", lambda r: f"{r.fills:,}"),
    _Column("fill %", _mean("fill_ratio", _percent)),
    _Column("mo 5s", _mean("markout_5s")),
    _Column("max|z|", _inventory),
    _Column("p50 us", lambda r: number(r.latency.p50)),
    _Column("p99 us", lambda r: number(r.latency.p99)),
    _Column("missed", lambda r: f"{r.missed:,}"),
)
LEGEND = (
    "EPnL, MDD, spread (capture), reval. (of inventory), fees: mean an episode; EPnL = spread + reval. - fees. MAP and "
    "max|z| in lots. SR over episodes, not annualised. fills: all episodes. mo 5s: mid 5 s after a fill, ticks, "
    "negative = against us. p50, p99: wall clock of one decision."
)


def build(results: Sequence[MarketResult], columns: Sequence[_Column], title: str | None) -> Table:
    """Return one market's table of `columns`, one row per agent."""
    table = Table(
        title=escape(title) if title else None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        expand=False,
    )
    table.add_column("agent", no_wrap=True)
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True)
    for result in results:
        table.add_row(*(escape(text) for text in (result.agent, *(c.cell(result) for c in columns))))
    return table


def render(results: Sequence[MarketResult], console: Console | None = None, *, legend: bool = True) -> None:
    """Print one table per market, one row per agent, to `console` (default: standard output), and the legend.

    A terminal that is too narrow gets each table in two parts; a pipe or file gets the full width.
    """
    console = console or Console()
    if not results:
        return
    everything = (*_PERFORMANCE, *_ACTIVITY)
    for group in by_market(results).values():
        title = market_title(max(group, key=lambda r: len(r.episodes)))
        whole = build(group, everything, title)
        needed = console.measure(whole, options=console.options.update(max_width=10_000)).maximum
        if needed <= console.width or not console.is_terminal:
            _print_wide(console, whole, max(needed, len(title)))
        else:
            console.print(build(group, _PERFORMANCE, title))
            console.print(build(group, _ACTIVITY, None))
        console.print()
    if legend:
        render_legend(console)


def render_legend(console: Console | None = None) -> None:
    """Print what the columns mean."""
    (console or Console()).print(LEGEND, style="dim", markup=False, highlight=False)


def print_whole(console: Console, table: Table) -> None:
    """Print a table: folded to the width of a terminal, in full to a pipe or file."""
    if console.is_terminal:
        console.print(table)
    else:
        options = console.options.update(max_width=10_000)
        _print_wide(
            console, table, max(console.measure(table, options=options).maximum, len(str(table.title)))
        )


def _print_wide(console: Console, whole: Table, needed: int) -> None:
    width = console.width
    console.width = max(width, needed)
    try:
        console.print(whole)
    finally:
        console.width = width
