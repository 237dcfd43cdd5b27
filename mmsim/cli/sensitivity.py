"""``mmsim sensitivity``: whether the ranking of agents survives other rules of the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsim.cli.options import Checkpoints, DataHome, Overrides, comma_list

if TYPE_CHECKING:
    from mmsim.statistics.ranking import Rankings


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def sensitivity(
        agent: str = typer.Option(
            ..., "--agent", "-a", help="Agents, comma-separated: names or path/to/file.py:Class."
        ),
        dataset: str = typer.Option(..., "--dataset", "-d", help="Market."),
        split: str = typer.Option(
            "validation",
            help="Default: validation, since a table that is looked at to choose must not be the test.",
        ),
        queue: str | None = typer.Option(
            None, help="Queue models, comma-separated, also power(3) and FILE.py:FUNCTION (level feeds only)."
        ),
        wire: str | None = typer.Option(
            None, help="One-way latencies of messages, ns, comma-separated: of feed, requests and responses."
        ),
        impact: str | None = typer.Option(None, help="Impact of own fills: none,consume."),
        inside: str | None = typer.Option(
            None, help="Rules for a quote inside the spread: through,any,strict (snapshot feeds only)."
        ),
        set_: Overrides = None,
        seed: int | None = typer.Option(None, min=0, help="Seed of everything random."),
        out: Annotated[
            Path | None,
            typer.Option("--out", "-o", help="Folder of the results; default: runs/sensitivity-DATASET."),
        ] = None,
        plots: bool = typer.Option(True, help="Draw the picture."),
        checkpoints: Checkpoints = None,
        data_home: DataHome = None,
    ) -> None:
        """Rerun agents over queue model, wire latency, impact and inside rule, and show whether their ranking survives.

        The first value of each list is the base setting that all others are compared with.
        """
        from mmsim.config import RunConfig, build, merge, parse_overrides, per_agent

        agents = comma_list(agent, "--agent")
        given = {"queue": queue, "wire": wire, "impact": impact, "inside": inside}
        axes = {
            axis: comma_list(text, f"--{axis}", "values") for axis, text in given.items() if text is not None
        }
        flags: dict[str, Any] = {"agents": agents, "datasets": (dataset,), "split": split}
        if seed is not None:
            flags["sim"] = {"seed": seed}
        values = per_agent(parse_overrides(set_ or []))
        config: RunConfig = build(RunConfig, merge(values, flags), "sensitivity")
        folder = out or Path("runs") / f"sensitivity-{dataset}"
        found = _run(config, axes, data_home, checkpoints)
        _report(found, folder, plots=plots)


def _run(
    config: Any, axes: dict[str, tuple[str, ...]], data_home: Path | None, checkpoints: Path | None
) -> Any:
    from mmsim.progress import bar
    from mmsim.sensitivity import run

    with bar() as tick:
        tick("starting", 0, None)
        return run(
            config.agents, config.datasets[0], split=config.split, axes=axes, config=config,
            data_home=data_home, checkpoints=checkpoints, tick=tick,
        )  # fmt: skip


def _report(found: Rankings, folder: Path, *, plots: bool) -> None:
    from mmsim.report import ranking_table

    paths = ranking_table.write(found, folder)
    if plots:
        from mmsim.report.plots_ranking import plot_rankings

        paths.append(plot_rankings(found, folder / "sensitivity.png"))
    ranking_table.render(found)
    typer.echo(f"results in {', '.join(map(str, paths))}", err=True)
