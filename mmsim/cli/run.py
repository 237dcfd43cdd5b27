"""``mmsim run``: agents side by side on markets, with a table, files and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsim.cli.options import Checkpoints, DataHome, Overrides, comma_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmsim.config import RunConfig
    from mmsim.metrics import MarketResult
    from mmsim.report.folder import RunFolder


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command(
        epilog="Each agent's results are written, and each market's table is printed, as soon as they are there. An "
        "agent or market that fails does not keep the others from running. Exit codes: 0 done; 1 interrupted (Ctrl-C); "
        "2 wrong usage, or something failed. What was finished is kept in each case."
    )
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
        set_: Overrides = None,
        split: str | None = typer.Option(None, help="train, validation or test (default)."),
        seed: int | None = typer.Option(None, min=0, help="Seed of everything random."),
        decision_latency: str | None = typer.Option(
            None,
            help="How long a decision takes: ns, or profile (the agent's recorded latencies); default: 0.",
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
        checkpoints: Checkpoints = None,
        data_home: DataHome = None,
        force: bool = typer.Option(False, "--force", help="Replace the run that the folder of --out holds."),
        print_config: bool = typer.Option(False, "--print-config", help="Show the configuration and stop."),
    ) -> None:
        """Run agents on markets and compare PnL, inventory risk and latency."""
        from mmsim.config import RunConfig, SimConfig, build, merge, parse_overrides, per_agent, read_toml

        given: dict[str, Any] = {
            "split": split, "out": str(out) if out else None, "decision_timeout_s": decision_timeout
        }  # fmt: skip
        flags: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        given = {"seed": seed, "fees": fees, "queue_model": queue}
        sim: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        if decision_latency is not None:
            sim["latency"] = {"decision": decision_latency}
        if agent is not None:
            flags["agents"] = comma_list(agent, "--agent")
        if dataset is not None:
            flags["datasets"] = comma_list(dataset, "--dataset")
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
        _run(resolved, data_home, checkpoints, force)


def _run(config: RunConfig, data_home: Path | None, checkpoints: Path | None, force: bool) -> None:
    from mmsim import runner
    from mmsim.data import manifest
    from mmsim.progress import bar
    from mmsim.provenance import git_revision
    from mmsim.report.folder import RunFolder, Status

    for name in config.datasets:
        manifest(name)  # unknown names end the run before anything is computed
    folder = RunFolder(
        Path(config.out) if config.out else _by_date(Path("runs")),
        config=config.model_dump(),
        extra={"seed": config.sim.seed},
        force=force,
    )
    status: Status = "failed"  # until the end is reached
    printed = _Printed()
    try:
        with bar() as tick:

            def market_done(results: list[MarketResult]) -> None:
                with tick.paused():
                    printed.market(results)

            tick("starting", 0, None)
            outcome = runner.run(
                config, data_home=data_home, checkpoints=checkpoints,
                tick=tick, finished=folder.add, failed=folder.fail, done=market_done,
            )  # fmt: skip
        status = "failed" if outcome.errors else "done"
    except KeyboardInterrupt:
        status = "interrupted"
    finally:
        printed.legend()
        folder.finish(status)
    try:
        if config.plots and folder.results and status != "interrupted":
            _pictures(folder)
    except KeyboardInterrupt:
        status = "interrupted"
    if folder.results:
        revision = git_revision()
        where = f"results in {folder.path}" + (f", mmsim {revision['revision'][:10]}" if revision else "")
        typer.echo(where, err=True)
    _end(status, folder)


def _by_date(parent: Path) -> Path:
    # two runs that start in one second get two folders
    from datetime import datetime
    from itertools import chain, count

    name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    tried = (parent / n for n in chain([name], (f"{name}-{k}" for k in count(2))))
    return next(path for path in tried if not path.exists())


class _Printed:
    """The tables on standard output; a reader who closes it early (``| head``) does not end the run."""

    def __init__(self) -> None:
        self._markets = 0
        self._closed = False

    def market(self, results: list[MarketResult]) -> None:
        from mmsim.report import table

        self._markets += 1
        self._show(lambda: table.render(results, legend=False))

    def legend(self) -> None:
        from mmsim.report import table

        if self._markets:
            self._show(table.render_legend)

    def _show(self, show: Callable[[], None]) -> None:
        if self._closed:
            return
        try:
            show()
        except (BrokenPipeError, SystemExit):  # rich turns the one into the other
            self._closed = True


def _pictures(folder: RunFolder) -> None:
    from rich.console import Console

    from mmsim.report import plots

    try:
        with Console(stderr=True).status("drawing"):
            plots.plot_all(folder.results, folder.path)
    except Exception as problem:  # noqa: BLE001 (matplotlib's or the disk's: the tables are written either way)
        error = f"pictures: {type(problem).__name__}: {problem} (--no-plots leaves them out)"
        folder.fail({"dataset": None, "agent": None, "error": error})
    finally:
        folder.drawn()


def _end(status: str, folder: RunFolder) -> None:
    kept = f"{len(folder.results)} finished result{'s' * (len(folder.results) != 1)} kept in {folder.path}"
    kept = kept if folder.results else "no result was finished"
    for error in folder.errors:
        who = f"{error['agent']} on {error['dataset']}: " if error["agent"] else ""
        typer.echo(f"mmsim: error: {who}{' '.join(str(error['error']).split())}", err=True)
    if status == "interrupted":
        typer.echo(f"mmsim: interrupted; {kept}", err=True)
        raise typer.Exit(1)
    if folder.errors:
        typer.echo(f"mmsim: {len(folder.errors)} failed; {kept}", err=True)
        raise typer.Exit(2)
