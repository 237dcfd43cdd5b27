"""The printed table of `mmsim bench`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmsim.bench.checkout import HOW
from mmsim.bench.measure import Missing, Outcome

_MARKS = {"aim": "[green]aim[/]", "pass": "[green]pass[/]", "fail": "[red]fail[/]", "-": "-"}
LEGEND = (
    "Medians; [min, max] over the runs. Rates are published rows (or requests) per second of wall clock over the same "
    "stretch of market (by CPU: of CPU time); ratio: the peer's median time over ours. at least: where it depends on the peer, a multiple "
    "of the peer's figure in this very run."
)


def show(x: float | None, unit: str = "") -> str:
    """Return a rate, seconds or bytes with three digits; ``-`` for what there is not.

    >>> show(65.23e6), show(803_000.0), show(0.6123, "s"), show(23.96, "bytes"), show(None)
    ('65.2 M', '803 k', '0.612', '24.0', '-')
    """
    if x is None:
        return "-"
    if unit == "s":
        return f"{x:.3f}"
    if unit == "bytes":
        return f"{x:.1f}"
    scaled, suffix = (x / 1e6, " M") if x >= 999_500 else (x / 1e3, " k")
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits}f}{suffix}"


def build(outcomes: Sequence[Outcome | Missing]) -> Table:
    """Return the table, one row per case."""
    table = Table(pad_edge=False, expand=False)
    table.add_column("case", no_wrap=True)
    table.add_column("work")
    for head in ("at least", "aim", "measured", "[min, max]", "by CPU", "peer", "ratio", "verdict"):
        table.add_column(escape(head), justify="right", no_wrap=True)
    for o in outcomes:
        case = o.case
        if isinstance(o, Missing):
            table.add_row(case.name, escape(f"{case.what}: not measured, see below"), *["-"] * 8)
            continue
        unit = case.unit
        least = show(o.at_least, unit)
        if case.times_peer is not None:
            least = f"{case.times_peer:g} x peer" + ("" if o.at_least is None else f" = {least}")
        if case.most_bytes is not None:
            least = f"{case.most_bytes / 2**20:.0f} MiB, was {o.runs[-1].check['peak'] / 2**20:.0f}"
        figures = sorted(o.figure(s.value) for s in o.runs)
        table.add_row(
            case.name, escape(f"{case.what}, {unit}" + ("" if case.direct else "/s")), least, show(case.aim, unit),
            show(o.per_s, unit), escape(f"[{show(figures[0], unit)}, {show(figures[-1], unit)}]"),
            show(o.cpu_per_s), show(o.peer_per_s, unit), "-" if o.ratio is None else f"{o.ratio:.2f}", _MARKS[o.verdict],
        )  # fmt: skip
    return table


def render(
    outcomes: Sequence[Outcome | Missing], machine: dict[str, Any], peer: str, console: Console | None = None
) -> None:
    """Print the table, what was compared with what, and on which machine, to `console` (default: standard output)."""
    console = console or Console()
    table = build(outcomes)
    if not console.is_terminal:  # a pipe or file gets every column
        needed = console.measure(table, options=console.options.update(max_width=10_000)).maximum
        console.width = max(console.width, needed)
    console.print(table)
    for o in outcomes:
        if isinstance(o, Missing):
            console.print(f"{o.case.name}: {o.reason}", style="yellow", markup=False, highlight=False)
    load = ", ".join(f"{x:.2f}" for x in machine["load"])
    about = (
        f"{machine['cpu']}, {machine['cores']} cores, load {load}, Python {machine['python']}, "
        f"numba {machine['numba']}, numpy {machine['numpy']}. "
    )
    against = f"Peer: {peer}." if peer else f"No peer was measured; {HOW}"
    console.print(about + against + "\n" + LEGEND, style="dim", markup=False, highlight=False)
