"""``mmsim profile``: measure how long an agent thinks."""

from __future__ import annotations

import typer

from mmsim.cli.options import DataHome


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def profile(
        agent: str = typer.Argument(help="Agent: a name or path/to/file.py:Class."),
        dataset: str = typer.Option("sim-rb", "--dataset", "-d", help="Market to measure on."),
        n: int = typer.Option(512, min=1, help="Decisions to measure."),
        data_home: DataHome = None,
        json_: bool = typer.Option(False, "--json", help="Print the latencies as JSON (ns)."),
    ) -> None:
        """Measure the wall-clock latency of an agent's decisions on this machine (nothing is kept)."""
        import json

        import numpy as np

        from mmsim.play import opened
        from mmsim.profiles import measure, split_to_measure_on
        from mmsim.runner import market_for

        market = market_for(dataset, data_home=data_home)
        split = split_to_measure_on(market.data)
        with opened(agent) as made:
            times = measure(made, market.session, split, n)
        if json_:
            typer.echo(json.dumps({"agent": agent, "dataset": dataset, "latency_ns": times.tolist()}))
            return
        p50, p90, p99 = (float(np.percentile(times, p)) / 1e3 for p in (50, 90, 99))
        typer.echo(
            f"{agent} on {dataset} {split}: {len(times)} decisions, p50 {p50:.1f} us, p90 {p90:.1f} us, "
            f"p99 {p99:.1f} us, max {times.max() / 1e3:.1f} us"
        )
