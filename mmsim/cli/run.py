"""``mmsim run``: agents side by side on markets, with a table, files and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsim.errors import ConfigError, MmsimError

if TYPE_CHECKING:
    from mmsim.config import RunConfig
    from mmsim.report.result import MarketResult


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def run(
        agent: str | None = typer.Option(
            None,
            "--agent",
            "-a",
            help="Agents, comma-separated: names or path/to/file.py:Class. Default: cmm.",
        ),
        dataset: str | None = typer.Option(
            None, "--dataset", "-d", help="Markets, comma-separated. Default: the four simulated ones."
        ),
        config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file.")] = None,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", "-s", help="KEY=VALUE, e.g. sim.order_latency_ns=500000, agent.gamma=0.1."),
        ] = None,
        split: str | None = typer.Option(None, help="train, validation or test (default)."),
        seed: int | None = typer.Option(None, min=0, help="Seed of everything random."),
        latency: str | None = typer.Option(
            None, help="Decision latency: zero (default), fixed, or profile (the agent's recorded one)."
        ),
        fees: str | None = typer.Option(None, help="Named fee schedule of the market; default: zero."),
        queue: str | None = typer.Option(
            None, help="Queue model of level feeds: fitted, log, FILE.py:NAME, ..."
        ),
        out: Annotated[
            Path | None, typer.Option("--out", "-o", help="Folder of the results; default: runs/DATE-TIME.")
        ] = None,
        plots: bool = typer.Option(True, help="Draw the pictures."),
        decision_timeout: float | None = typer.Option(
            None,
            help="Longest time of one decision (or reset, construction, close) of an agent, seconds; default: any.",
        ),
        checkpoints: Annotated[
            Path | None, typer.Option(help="Folder of checkpoint folders; default: the shipped ones.")
        ] = None,
        data_home: Annotated[Path | None, typer.Option(help="Folder of the source data files.")] = None,
        print_config: bool = typer.Option(False, "--print-config", help="Show the configuration and stop."),
    ) -> None:
        """Run agents on markets and compare PnL, inventory risk and latency."""
        from mmsim.config import RunConfig, SimConfig, build, merge, parse_overrides, per_agent, read_toml

        given: dict[str, Any] = {
            "split": split, "out": str(out) if out else None, "decision_timeout_s": decision_timeout
        }  # fmt: skip
        flags: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        given = {"seed": seed, "latency": latency, "fees": fees, "queue_model": queue}
        sim = {k: v for k, v in given.items() if v is not None}
        if agent is not None:
            flags["agents"] = _names(agent, "--agent")
        if dataset is not None:
            flags["datasets"] = _names(dataset, "--dataset")
        if sim:
            flags["sim"] = sim
        if not plots:
            flags["plots"] = False
        values = merge(per_agent(read_toml(config) if config else {}), per_agent(parse_overrides(set_ or [])))
        build(SimConfig, values.get("sim", {}), "sim")
        resolved: RunConfig = build(RunConfig, merge(values, flags), str(config) if config else "run")
        if print_config:
            typer.echo(resolved.model_dump_json(indent=2))
            return
        _run(resolved, data_home, checkpoints)


def _names(text: str, option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ConfigError(f"{option}: expected names separated by commas, was {text!r}")
    return names


def _run(config: RunConfig, data_home: Path | None, checkpoints: Path | None) -> None:
    from datetime import datetime

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from mmsim import runner
    from mmsim.data import manifest
    from mmsim.report import table, writer
    from mmsim.report.writer import git_revision

    for name in config.datasets:
        manifest(name)  # unknown names end the run before anything is computed
    folder = Path(config.out) if config.out else Path("runs") / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    err = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def tick(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        outcome = runner.run(config, data_home=data_home, checkpoints=checkpoints, tick=tick)
        if outcome.results:
            extra = {"seed": config.sim.seed}
            writer.write(
                folder, outcome.results, config=config.model_dump(), errors=outcome.errors, extra=extra
            )
            if config.plots:
                _pictures(outcome.results, folder, tick)
    if outcome.results:
        table.render(outcome.results)
        revision = git_revision()
        where = f"results in {folder}" + (f", mmsim {revision['revision'][:10]}" if revision else "")
        typer.echo(where, err=True)
    if outcome.failure is not None:
        kept = (
            f" (results of the {len(outcome.results)} finished runs are in {folder})"
            if outcome.results
            else ""
        )
        raise MmsimError(f"{outcome.failure}{kept}") from outcome.failure


def _pictures(results: list[MarketResult], folder: Path, tick: Any) -> None:
    from mmsim.report import plots

    tick("drawing", 0, 1)
    plots.plot_all(results, folder)
