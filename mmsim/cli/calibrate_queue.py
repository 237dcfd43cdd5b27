"""``mmsim calibrate queue`` and ``mmsim calibrate inside``: models scored against order-by-order days."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsim.cli.options import DataHome, check_split, comma_list
from mmsim.errors import ConfigError

if TYPE_CHECKING:
    from mmsim.types import MarketData

_PLOT = Annotated[Path | None, typer.Option(help="Draw the scores into this PNG.")]


def register(app: typer.Typer) -> None:
    """Add both commands to ``calibrate``."""

    @app.command()
    def queue(
        dataset: str = typer.Option(..., "--dataset", "-d", help="Order-by-order markets, comma-separated."),
        split: str = typer.Option("train", help="Split that chooses the power n."),
        report_split: str = typer.Option("test", help="Split that the models are reported on."),
        interval: float = typer.Option(
            0.0, min=0.0, help="Score on snapshots so many seconds apart; 0: on every level change."
        ),
        depth: int = typer.Option(5, min=1, help="Levels per side of those snapshots."),
        life: float = typer.Option(120.0, min=0.1, help="Seconds that a virtual order waits."),
        write: bool = typer.Option(False, "--write", help="Keep the fitted power: queue model 'fitted'."),
        out: Annotated[Path | None, typer.Option(help="Keep it in this folder instead of the cache.")] = None,
        plot: _PLOT = None,
        data_home: DataHome = None,
        json_: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
    ) -> None:
        """Score queue models on virtual orders whose true fate an order-by-order day knows, and fit n.

        Several markets are scored one by one and pooled: --write then keeps NAME.queue.toml for each, and
        all.queue.toml.
        """
        from mmsim import calibration_store
        from mmsim.data.views import snapshot_view
        from mmsim.scoring import queue as scoring
        from mmsim.scoring.probes import Plan

        for name, value in (("--split", split), ("--report-split", report_split)):
            check_split(name, value)
        if interval and (write or out):
            raise ConfigError("--write keeps fits to every level change only: leave out --interval")
        markets = _load(dataset, data_home)
        plan = Plan.living(life)
        fits = []
        with _counted(sum(scoring.steps(data, plan) for data in markets)) as tick:
            for data in markets:
                view = snapshot_view(data, round(interval * 1e9), depth) if interval else None
                fits.append(
                    scoring.fit_queue(
                        data, split=split, report_split=report_split, plan=plan, view=view, tick=tick
                    )
                )
        pooled = scoring.pooled(fits)
        if json_:
            typer.echo(json.dumps({"pooled_power": pooled, "markets": [_fit_dict(fit) for fit in fits]}))
        else:
            from rich.console import Console

            from mmsim.report.queue_table import render_fit

            console = Console()
            for fit in fits:
                render_fit(fit, console)
            if len(fits) > 1:
                console.print(f"pooled over {len(fits)} markets: power n = {pooled:g}", highlight=False)
        if plot is not None:
            from mmsim.report.plots_queue import plot_queue

            plot_queue(fits, plot)
        if write or out:
            folder = out or calibration_store.user_folder()
            groups = [([fit], fit.power) for fit in fits] + ([(fits, pooled)] if len(fits) > 1 else [])
            for group, power in groups:
                typer.echo(f"written to {scoring.save(group, power, folder)}", err=True)

    @app.command()
    def inside(
        dataset: str = typer.Option(..., "--dataset", "-d", help="Order-by-order markets, comma-separated."),
        interval: float = typer.Option(
            0.5, min=0.001, help="Seconds between snapshots; must divide a twentieth of --life."
        ),
        depth: int = typer.Option(5, min=1, help="Levels per side of the snapshots."),
        life: float = typer.Option(120.0, min=0.1, help="Seconds that a virtual order waits."),
        split: str = typer.Option("test", help="Split to report on."),
        plot: _PLOT = None,
        data_home: DataHome = None,
        json_: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
    ) -> None:
        """Score the rules for quotes inside a snapshot's spread (sim.inside) against order-by-order days."""
        from mmsim.scoring import queue as scoring
        from mmsim.scoring.probes import passes

        check_split("--split", split)
        markets = _load(dataset, data_home)
        plan = scoring.inside_plan(life)
        total = sum(len(passes(data, plan)) for data in markets) * (len(scoring.RULES) + 1)
        results = []
        with _counted(total) as tick:
            for data in markets:
                found = scoring.score_inside(
                    data, round(interval * 1e9), depth, split=split, plan=plan, tick=tick
                )
                title = f"{data.name}, {split}, snapshots every {interval:g} s, {depth} levels"
                results.append((title, found))
        if json_:
            typer.echo(json.dumps({title: [s.to_dict() for s in found] for title, found in results}))
        else:
            from rich.console import Console

            from mmsim.report.queue_table import render_scores

            console = Console()
            for title, found in results:
                render_scores(title, found, console)
        if plot is not None:
            from mmsim.report.plots_queue import plot_inside

            plot_inside(results, plot)


def _load(text: str, data_home: Path | None) -> list[MarketData]:
    from mmsim.data import load

    markets = [load(name, data_home=data_home) for name in comma_list(text, "--dataset")]
    for data in markets:
        if data.level != "L3":
            raise ConfigError(
                f"--dataset {data.name}: expected an order-by-order (L3) market, was {data.level}: "
                "only single orders tell what became of a virtual one"
            )
    return markets


def _fit_dict(fit: Any) -> dict[str, Any]:
    return {
        "dataset": fit.dataset,
        "split": fit.split,
        "report_split": fit.report_split,
        "power": fit.power,
        "power_range": [fit.low, fit.high],
        "fit": [s.to_dict() for s in fit.fit],
        "report": [s.to_dict() for s in fit.report],
    }


@contextmanager
def _counted(total: int) -> Iterator[Callable[[], None]]:
    from mmsim.progress import bar

    done = -1
    with bar() as show:

        def step() -> None:
            nonlocal done
            done += 1
            show("scoring", done, total)

        step()
        yield step
