"""``mmsim profile``: measure how long an agent thinks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def profile(
        agent: str = typer.Argument(help="Agent: a name or path/to/file.py:Class."),
        dataset: str = typer.Option("sim-rb", "--dataset", "-d", help="Market to measure on."),
        n: int = typer.Option(512, min=1, help="Decisions to measure."),
        data_home: Annotated[Path | None, typer.Option(help="Folder of the source data files.")] = None,
        json_: bool = typer.Option(False, "--json", help="Print the latencies as JSON (ns)."),
    ) -> None:
        """Measure the wall-clock latency of an agent's decisions on this machine (nothing is kept)."""
        import json

        import numpy as np

        from mmsim.calibration_store import constants_or_reason
        from mmsim.data import load
        from mmsim.profiles import measure
        from mmsim.registry import make_agent
        from mmsim.sim import hooks
        from mmsim.sim.session import Session

        data = load(dataset, data_home=data_home)
        session = Session(data, calibration=constants_or_reason(data)[0])
        split = next(s for s in ("validation", "train", "test") if data.splits.get(s))
        with hooks.closing(make_agent(agent)) as made:
            times = measure(made, session, split, n)
        if json_:
            typer.echo(json.dumps({"agent": agent, "dataset": dataset, "latency_ns": times.tolist()}))
            return
        p50, p90, p99 = (float(np.percentile(times, p)) / 1e3 for p in (50, 90, 99))
        typer.echo(
            f"{agent} on {dataset} {split}: {len(times)} decisions, p50 {p50:.1f} us, p90 {p90:.1f} us, "
            f"p99 {p99:.1f} us, max {times.max() / 1e3:.1f} us"
        )
