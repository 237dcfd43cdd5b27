"""The printed tables of scored queue models."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mmsim.report.table import number, print_whole
from mmsim.scoring.queue import QueueFit
from mmsim.scoring.scores import ModelScore
from mmsim.statistics.bootstrap import Estimate


def render_fit(fit: QueueFit, console: Console | None = None) -> None:
    """Print the scores of a fit on both of its splits, and which power was chosen."""
    console = console or Console()
    render_scores(f"{fit.dataset}, {fit.split} (chooses n)", fit.fit, console, short=True)
    render_scores(f"{fit.dataset}, {fit.report_split} (chooses nothing)", fit.report, console)
    console.print(
        f"power n = {fit.power:g} (n from {fit.low:g} to {fit.high:g} cannot be told from it on {fit.split})\n",
        highlight=False,
    )


def render_scores(
    title: str, scores: Sequence[ModelScore], console: Console | None = None, *, short: bool = False
) -> None:
    """Print one row per model; `short` leaves out all but the error, its difference to the reference's, and the bias."""
    console = console or Console()
    first = scores[0]
    horizons = "/".join(f"{h:g}" for h in first.horizons_s)
    truth = "/".join(f"{100 * r:.1f}" for r in first.true_rate)
    reference = next((s.name for s in scores if s.versus == (0.0, 0.0, 0.0)), "the first")
    table = Table(
        "model", title=f"{title}: {first.n:,} orders; filled by {horizons} s: {truth} %", title_justify="left"
    )
    heads = ["error s [95% CI]", f"minus {reference}'s", "bias pp [95% CI]"]
    more = [
        "wrong % by then",
        "calib. pp",
        "filled by model/truth only",
        "same msg",
        "|dt| s p50/mean",
        "dt s [95% CI]",
    ]
    for head in heads if short else heads + more:
        table.add_column(head, justify="right", overflow="fold")
    for s in scores:
        row = [
            _interval(s.error),
            "-" if s.name == reference else _interval(s.versus),
            _interval(Estimate(*(100 * x for x in s.bias))),
        ]
        if not short:
            row += [
                "/".join(f"{100 * b:.2f}" for b in s.brier),
                f"{100 * s.calibration:.2f}",
                f"{s.only_predicted}/{s.only_true}",
                f"{100 * s.exact:.1f}%",
                f"{s.time_median:.2f}/{s.time_error.value:.2f}",
                _interval(s.time_bias),
            ]
        table.add_row(s.name, *row)
    print_whole(console, table)


def _interval(e: Estimate) -> str:
    if not e.low <= e.high:  # fewer than two blocks: no interval
        return f"{e.value:.2f} [{number(None)}]"
    return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"
