"""``mmsim check-agent``: hold a class to the agent contract."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command("check-agent")
    def check_agent(
        agent: Annotated[str, typer.Argument(help="path/to/file.py:Class, or an agent's name.")],
        set_: Annotated[
            list[str] | None, typer.Option("--set", help="A parameter: agent.NAME=VALUE.")
        ] = None,
        dataset: Annotated[
            str | None, typer.Option(help="Also play this dataset, with its checkpoint and constants.")
        ] = None,
        max_p50_ms: Annotated[float, typer.Option(min=0, help="Longest median decision, ms.")] = 500.0,
        max_seconds: Annotated[
            float,
            typer.Option(min=1, max=86_400, help="Longest time of the whole check, s; then it is stopped."),
        ] = 120.0,
    ) -> None:
        """Check that an agent keeps the contract, in a process of its own; exit code 1 if it does not."""
        from mmsim.config import parse_overrides
        from mmsim.errors import ConfigError, did_you_mean
        from mmsim.testing.apart import Task, check_apart

        overrides = parse_overrides(set_ or ())
        for key in overrides:
            if key != "agent" or not isinstance(overrides[key], dict):
                raise ConfigError(
                    f"--set: expected agent.NAME=VALUE, was {key!r}{did_you_mean(key, ['agent'])}"
                )
        task = Task(agent, overrides.get("agent", {}), dataset or "", max_p50_ms)
        report = check_apart(task, max_seconds)
        for check in report.checks:
            typer.echo(f"{check.status:8}{check.name:28}{check.detail}".rstrip())
        if not report.ok:
            raise typer.Exit(1)
