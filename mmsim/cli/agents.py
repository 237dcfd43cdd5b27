"""``mmsim agents``: what can quote, and its parameters."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def agents(
        json_: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
    ) -> None:
        """List the agents with their parameters (types and defaults)."""
        from mmsim import registry

        rows = [registry.describe(name) for name in registry.names()]
        if json_:
            import dataclasses
            import json

            typer.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2, default=str))
            return

        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(show_lines=True)
        table.add_column("agent", no_wrap=True)
        table.add_column("what it does", overflow="fold")
        table.add_column("parameters (--set agent.NAME=VALUE)", overflow="fold")
        for row in rows:
            listed = [
                f"{key}: {kind} = {default!r}" for key, (kind, default) in (row.parameters or {}).items()
            ]
            what = f"unavailable: {row.problem}" if row.problem else row.summary
            table.add_row(row.name, escape(what), escape("\n".join(listed)))
        Console().print(table)
