"""``mmsim bench``: how fast the simulator is, beside hftbacktest where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsim.errors import BenchError, ConfigError, MmsimError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def bench(
        case: str | None = typer.Option(
            None,
            "--case",
            help="Cases, comma-separated; default: all but `stream`, which writes a large file.",
        ),
        quick: bool = typer.Option(False, "--quick", help="300,000 rows and 3 runs: a look, not a result."),
        rows: int | None = typer.Option(
            None, min=10_000, help="Rows of the feeds; default: 5,000,000, of `stream` 200,000,000."
        ),
        repeat: int | None = typer.Option(None, min=1, help="Timed runs of each case; default: 7."),
        peer_python: Annotated[
            Path | None,
            typer.Option(
                help="Interpreter that has hftbacktest; default: MMSIM_PEER_PYTHON, then .venv-bench."
            ),
        ] = None,
        peer: bool = typer.Option(True, help="Measure the peer too."),
        json_: Annotated[
            Path | None, typer.Option("--json", help="Also write the figures to this file.")
        ] = None,
    ) -> None:
        """Measure replay, matching, start-up and memory on a generated stream and on real data."""
        names = tuple(part.strip() for part in (case or "").split(",") if part.strip())
        if case is not None and not names:
            raise ConfigError(f"--case: expected names separated by commas, was {case!r}")
        _bench(names, quick, rows, repeat, peer_python, peer, json_)


def _bench(
    names: tuple[str, ...], quick: bool, rows: int | None, repeat: int | None, python: Path | None, with_peer: bool,
    json_: Path | None,
) -> None:  # fmt: skip
    from contextlib import ExitStack

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from mmsim.bench import checkout, measure, table
    from mmsim.bench.inputs import Inputs

    cases = measure.select(names)
    runs = repeat or (3 if quick else 7)
    found = driver = None
    if with_peer and (python is not None or checkout.peer_file() is not None):
        driver = checkout.peer_module()
        found = driver.find_python(python)
    err = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    outcomes: list[measure.Outcome | measure.Missing] = []
    with ExitStack() as stack:
        bar = stack.enter_context(
            Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        )
        task = bar.add_task("starting", total=None)

        def tick(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)
            if not err.is_terminal and done == 0:
                typer.echo(label, err=True)

        peer = stack.enter_context(driver.Peer(found)) if driver and found else None
        size = rows or (300_000 if quick else 5_000_000)
        inputs = Inputs(
            size, progress=lambda done, total: tick("generating", done, total), long_rows=rows or 200_000_000
        )
        failure: MmsimError | None = None
        try:
            for one in cases:
                outcomes.append(measure.measure(one, inputs, peer, runs, tick))  # noqa: PERF401 (keeps what it has)
        except MmsimError as err:
            failure = err
        name = peer.name if peer is not None else ""
    table.render(outcomes, measure.machine(), name)
    if json_ is not None:
        measure.write(json_, outcomes)
    if failure is not None:
        raise BenchError(
            f"{failure} (measured before that: {len(outcomes)} of {len(cases)} cases)"
        ) from failure
