"""``mmsim calibrate``: fit the constants of the rule strategies; its sub-commands score queue models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mmsim.cli.options import DataHome, check_split

if TYPE_CHECKING:
    from mmsim.calibrate import Calibration


class _Calibrate(TyperGroup):
    """``calibrate NAME`` means ``calibrate constants NAME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["constants", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    group = typer.Typer(
        cls=_Calibrate,
        no_args_is_help=True,
        help="Fit a market's constants (calibrate NAME), or score queue models and rules on order-by-order days.",
    )
    app.add_typer(group, name="calibrate")
    from mmsim.cli import calibrate_queue

    calibrate_queue.register(group)

    @group.command()
    def constants(
        name: str = typer.Argument(help="Dataset."),
        split: str | None = typer.Option(
            None,
            help="Split to fit on: train (default; the first with episodes if it has none), validation or test.",
        ),
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", help="Constant given by hand, e.g. k=0.5; all four: nothing is fitted."),
        ] = None,
        horizon_s: float | None = typer.Option(None, min=0.01, help="Seconds a hypothetical order waits."),
        write: bool = typer.Option(False, "--write", help="Keep the constants for later runs."),
        folder: Annotated[Path | None, typer.Option(help="Where to keep them instead of the cache.")] = None,
        plot: Annotated[Path | None, typer.Option(help="Draw the fit into this PNG.")] = None,
        data_home: DataHome = None,
        json_: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
    ) -> None:
        """Fit sigma, A, k and the mean spread of a dataset: the constants of glft, avellaneda_stoikov, liic."""
        from mmsim import calibrate as fitting
        from mmsim import calibration_store
        from mmsim.data import load
        from mmsim.errors import DataError

        if split is not None:
            check_split("--split", split)
        given = _given(set_ or [])
        data = load(name, data_home=data_home)
        split = split or fitting.usual_split(data)
        found = None
        try:
            if set(given) < set(fitting.CONSTANTS):
                found = fitting.calibrate(data, split, horizon_s=horizon_s)
        except DataError as err:
            raise DataError(f"{err}; {fitting.remedy(data, split)}") from None
        if given:
            found = fitting.by_hand(given, found)
        assert found is not None
        if json_:
            import json

            typer.echo(
                json.dumps(
                    {"dataset": name, "split": split, "horizon_s": found.horizon_s, **found.constants()}
                )
            )
        else:
            _show(name, split, found)
        if plot is not None:
            _draw(name, found, plot)
        if write or folder is not None:
            path = calibration_store.save(
                name, found, split=split, source_sha256=data.source_sha256,
                market=calibration_store.market_key(data), folder=folder, given=given,
            )  # fmt: skip
            typer.echo(f"written to {path}", err=True)


def _given(pairs: list[str]) -> dict[str, float]:
    import math

    from mmsim.calibrate import CONSTANTS
    from mmsim.errors import ConfigError, did_you_mean

    out = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        if key not in CONSTANTS:
            raise ConfigError(
                f"--set: expected one of {', '.join(CONSTANTS)}, was {key!r}{did_you_mean(key, CONSTANTS)}"
            )
        try:
            out[key] = float(text)
        except ValueError:
            out[key] = math.nan
        if not 0 < out[key] < math.inf:
            raise ConfigError(f"--set {key}: expected a positive number, was {text!r}")
    return out


def _show(name: str, split: str, found: Calibration) -> None:
    from rich.console import Console
    from rich.table import Table

    values = found.constants()
    table = Table("constant", "value", "unit", title=f"{name}, {split} split")
    units = {"sigma": "ticks / sqrt(s)", "A": "1 / s", "k": "1 / tick", "mean_spread": "ticks"}
    for key, unit in units.items():
        table.add_row(key, f"{values[key]:g}", unit)
    console = Console()
    console.print(table)
    if not len(found.distance):  # all given by hand
        return
    rows = Table(
        "distance (ticks)", "orders", "reached", "intensity (1/s)", "fitted (1/s)",
        title=f"orders reached within {found.horizon_s:g} s",
    )  # fmt: skip
    step = max(1, len(found.distance) // 12)
    for i in range(0, len(found.distance), step):
        rows.add_row(
            f"{found.distance[i]:g}", str(found.trials[i]), str(found.reached[i]),
            f"{found.intensity[i]:.4g}", f"{found.fitted[i]:.4g}",
        )  # fmt: skip
    console.print(rows)


def _draw(name: str, found: Calibration, path: Path) -> None:
    from matplotlib.figure import Figure

    from mmsim.report.plots import save

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(found.distance, found.intensity, "o", label="observed")
    axes.semilogy(found.distance, found.fitted, "-", label=f"{found.A:.3g} exp(-{found.k:.3g} d)")
    axes.set(xlabel="distance from the mid (ticks)", ylabel="orders reached per second", title=name)
    axes.legend()
    save(figure, path, dpi=120)
