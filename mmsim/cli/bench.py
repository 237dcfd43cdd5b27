"""``mmsim bench``: how fast the simulator is, beside hftbacktest where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsim.cli.options import comma_list
from mmsim.errors import BenchError, MmsimError


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
        names = () if case is None else comma_list(case, "--case")
        _bench(names, quick, rows, repeat, peer_python, peer, json_)


def _bench(
    names: tuple[str, ...], quick: bool, rows: int | None, repeat: int | None, python: Path | None, with_peer: bool,
    json_: Path | None,
) -> None:  # fmt: skip
    from contextlib import ExitStack

    from mmsim.bench import checkout, measure, table
    from mmsim.bench.inputs import Inputs
    from mmsim.progress import bar

    cases = measure.select(names)
    runs = repeat or (3 if quick else 7)
    found = driver = None
    if with_peer and (python is not None or checkout.peer_file() is not None):
        driver = checkout.peer_module()
        found = driver.find_python(python)
    outcomes: list[measure.Outcome | measure.Missing] = []
    with ExitStack() as stack:
        show = stack.enter_context(bar())

        def tick(label: str, done: int, total: int) -> None:
            show(label, done, total)
            if not show.terminal and done == 0:
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
