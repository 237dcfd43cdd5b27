"""The printed tables of scored queue models."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mmsim.report.table import number
from mmsim.scoring.queue import QueueFit
from mmsim.scoring.scores import Estimate, ModelScore


def render_fit(fit: QueueFit, console: Console | None = None) -> None:
    """Print the scores of a fit on both of its splits, and which power was chosen."""
    console = console or Console()
    render_scores(f"{fit.dataset}, {fit.split} (chooses n)", fit.fit, console)
    render_scores(f"{fit.dataset}, {fit.report_split} (reported once)", fit.report, console)
    console.print(
        f"power n = {fit.power:g} (n from {fit.low:g} to {fit.high:g} cannot be told from it on {fit.split})\n",
        highlight=False,
    )


def render_scores(title: str, scores: Sequence[ModelScore], console: Console | None = None) -> None:
    """Print one row a model."""
    console = console or Console()
    first = scores[0]
    horizons = "/".join(f"{h:g}" for h in first.horizons_s)
    truth = "/".join(f"{100 * r:.1f}" for r in first.true_rate)
    reference = next((s.name for s in scores if s.versus == (0.0, 0.0, 0.0)), "the first")
    table = Table(
        "model", title=f"{title}: {first.n:,} orders, filled by {horizons} s: {truth} %", title_justify="left"
    )
    for head in (
        "error s [95% CI]", f"minus {reference}'s", "bias pp [95% CI]", f"wrong % by {horizons} s", "calib. pp",
        "only model/only true", "same msg", "|dt| p50 s", "|dt| s", "dt s [95% CI]",
    ):  # fmt: skip
        table.add_column(head, justify="right")
    for s in scores:
        table.add_row(
            s.name, _interval(s.error), "-" if s.name == reference else _interval(s.versus),
            _interval(Estimate(*(100 * x for x in s.bias))), "/".join(f"{100 * b:.2f}" for b in s.brier),
            f"{100 * s.calibration:.2f}", f"{s.only_predicted}/{s.only_true}", f"{100 * s.exact:.1f}%",
            f"{s.time_median:.3f}", f"{s.time_error.value:.3f}", _interval(s.time_bias),
        )  # fmt: skip
    console.print(table)


def _interval(e: Estimate) -> str:
    if not e.low <= e.high:  # fewer than two blocks: no interval
        return f"{e.value:.3f} {number(None)}"
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"
