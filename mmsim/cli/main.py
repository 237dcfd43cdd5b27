"""The ``mmsim`` command: puts the sub-commands together and turns errors into one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import typer

from mmsim import __version__
from mmsim.errors import MmsimError

# In the order of the help text. Each is mmsim/cli/NAME.py with `register(app)`.
COMMANDS = (
    "run",
    "agents",
    "data",
    "calibrate",
    "train",
    "probe",
    "profile",
    "sensitivity",
    "check_agent",
    "bench",
)

_CTRL_C = 130  # how typer ends a command that Ctrl-C stopped and that has nothing to say about it


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"mmsim {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """Return the command line with every sub-command that exists."""
    app = typer.Typer(
        name="mmsim",
        help="Backtest and simulate market makers on limit order books.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes: 0 done; 1 a check failed or Ctrl-C was pressed (what was finished is kept); 2 wrong usage or "
        "an error, one line each on standard error.",
    )

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ) -> None:
        """Backtest and simulate market makers on limit order books."""

    here = Path(__file__).parent
    for name in COMMANDS:
        if (here / f"{name}.py").is_file():
            import_module(f"mmsim.cli.{name}").register(app)
    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0 done; 1 a check failed or the user interrupted (Ctrl-C; what was finished is kept); 2 wrong usage or
    an `MmsimError` (one line each on standard error; `mmsim run` goes on with its other agents and markets, and
    keeps their results). Anything else is a bug and ends in a traceback; what was finished is kept then, too.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; default ``sys.argv[1:]``.
    """
    app = build_app()
    try:
        app(args=None if argv is None else list(argv), prog_name="mmsim")
    except MmsimError as err:
        typer.echo(f"mmsim: error: {' '.join(str(err).split())}", err=True)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code != _CTRL_C:
            raise
        typer.echo("mmsim: interrupted", err=True)
        sys.exit(1)
