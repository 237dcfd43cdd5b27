"""``mmsim data``: list, fetch, import, check and export datasets."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mmsim.errors import ConfigError

_HOME = "Folder of source files (default: MMSIM_DATA_HOME, else the user's cache)."


class _Import(TyperCommand):
    """Names the formats below its options; they are looked up when the help is asked for: start-up stays quick."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from mmsim.data.formats import FORMATS

        self.epilog = "Formats (docs/formats.md):\n\n" + "\n\n".join(
            f"{f.name}: {f.title}" for f in FORMATS.values()
        )
        super().format_help(ctx, formatter)


def register(app: typer.Typer) -> None:
    """Add ``mmsim data`` to the command line."""
    data = typer.Typer(
        name="data", help="List, fetch, import, check and export market data.", no_args_is_help=True
    )
    data.command("list")(list_)
    data.command()(fetch)
    data.command("import", cls=_Import)(import_)
    data.command()(check)
    data.command()(export)
    app.add_typer(data)


def list_(data_home: str | None = typer.Option(None, "--data-home", help=_HOME)) -> None:
    """List every dataset: what it is, and whether it is there."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mmsim.data.manifest import manifest, names
    from mmsim.data.sources import is_present
    from mmsim.data.store import is_cached

    table = Table("name", "kind", "instrument", "level", "state", "title", box=None, pad_edge=False)
    for name in names():
        try:
            spec = manifest(name)
        except ConfigError as err:  # the others are as good as ever
            table.add_row(name, "?", "", "", "broken", escape(" ".join(str(err).split())))
            continue
        if is_cached(spec):
            state = "ready"
        elif spec.simulated:
            state = "made on first use"
        elif is_present(spec, data_home):
            state = "files present"
        elif spec.files and not spec.imported:
            state = "to fetch"
        else:
            state = "to import"
        kind = "imported" if spec.imported else spec.kind
        table.add_row(name, kind, escape(spec.instrument.name), spec.replay.level, state, escape(spec.title))
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a pipe has no width: keep one line per dataset
    console.print(table)


def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Public datasets.")],
    data_home: str | None = typer.Option(None, "--data-home", help=_HOME),
) -> None:
    """Download public datasets from their origin, checked by sha256."""
    from mmsim.data.fetch import fetch as fetch_files
    from mmsim.data.manifest import manifest
    from mmsim.progress import fraction_bar

    specs = [manifest(name) for name in names]
    for spec in specs:
        with fraction_bar(f"{spec.name}:") as report:
            for path, new in fetch_files(spec, data_home, report):
                typer.echo(f"{spec.name}: {path} {'downloaded' if new else 'was there'}, sha256 verified")


def import_(
    name: Annotated[str, typer.Argument(help="Name of the new dataset.")],
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Files of the format.")],
    format_: str = typer.Option(..., "--format", help="One of those below."),
    tick_size: str | None = typer.Option(None, help='Smallest price step, as decimal text ("0.01").'),
    lot_size: str | None = typer.Option(None, help="Smallest quantity step."),
    multiplier: str | None = typer.Option(
        None, help="Currency value of one price point on one unit; inverse: quote currency per unit."
    ),
    contract: str | None = typer.Option(
        None, help="linear (default) or inverse: coin-margined, --currency is the coin."
    ),
    depth: int | None = typer.Option(None, min=1, help="Levels per side to use."),
    unit_lots: int | None = typer.Option(None, min=1, help="Usual size of one own order, lots."),
    currency: str | None = typer.Option(None),
    timezone: str | None = typer.Option(None, help="Time zone of the exchange, such as America/New_York."),
    sessions: str | None = typer.Option(
        None, help='Continuous trading, "09:30-11:30,13:00-15:00"; "" = always.'
    ),
    instrument: str | None = typer.Option(None, help="Name of the instrument (default: the dataset's)."),
    episode_s: int | None = typer.Option(None, min=1, help="Length of an episode, seconds."),
    decision_ns: int | None = typer.Option(None, min=0, help="Time between decisions; 0 = every snapshot."),
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="KEY=VALUE for the format (columns, date, symbol, ...)."),
    ] = None,
    locked: str = typer.Option(
        "keep",
        metavar="keep|drop",
        help="States with the best bid at or above the best ask: keep them, or leave them out (level data).",
    ),
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="NAME", help="Import although the check NAME fails; its error says which."
        ),
    ] = None,
    force: bool = typer.Option(False, "--force", help="Replace an import of the same name."),
) -> None:
    """Bring in your own files as a dataset; nothing is written unless all of it can be read and is plausible."""
    from mmsim.data.imports import ImportSettings, import_dataset
    from mmsim.data.report import report as report_of
    from mmsim.data.store import stored
    from mmsim.progress import fraction_bar

    given = {
        "tick_size": tick_size,
        "lot_size": lot_size,
        "multiplier": multiplier,
        "unit_lots": unit_lots,
        "currency": currency,
        "contract": contract,
        "timezone": timezone,
        "sessions": _sessions(sessions),
        "name": instrument,
    }
    settings = ImportSettings(
        format=format_,
        instrument={k: v for k, v in given.items() if v is not None},
        depth=depth,
        episode_s=episode_s,
        decision_ns=decision_ns,
        options=dict(_pair(text) for text in option or []),
        force=force,
        locked=locked,
        allow=allow or (),
    )
    with fraction_bar(f"{name}:") as report:
        spec, data = import_dataset(name, files, settings, report)
    episodes = ", ".join(f"{len(v)} {k}" for k, v in data.splits.items())
    typer.echo(
        f"{name}: {len(data.events):,} events, level {data.level}, "
        f"{f'{data.view_depth} levels per side' if data.view_depth else 'full book'}, "
        f"{len(data.segments)} segment(s), episodes of {spec.replay.episode_s} s: {episodes}"
    )
    for line in _report(report_of(spec, stored(spec))):
        typer.echo(f"  {line}")
    typer.echo(f"next: mmsim run --agent glft --dataset {name}")


def export(
    name: Annotated[str, typer.Argument(help="Dataset to write.")],
    out: str = typer.Option(..., "--out", metavar="FILE", help="File to write (.npz)."),
    format_: str = typer.Option("hftbacktest", "--format", help="hftbacktest."),
    data_home: str | None = typer.Option(None, "--data-home", help=_HOME),
) -> None:
    """Write a dataset for another tool: all events, both clocks, every order or level."""
    from mmsim.data.export import export as export_dataset
    from mmsim.data.store import load

    data = load(name, data_home=data_home)
    rows = export_dataset(data, out, format_)
    typer.echo(
        f"{name}: {len(data.events):,} events of level {data.level}, {rows:,} rows of {format_} in {out}"
    )


def check(
    name: str = typer.Argument(..., help="Dataset to check."),
    json_: str | None = typer.Option(None, "--json", metavar="FILE|-", help="Write the report as JSON."),
    data_home: str | None = typer.Option(None, "--data-home", help=_HOME),
) -> None:
    """Verify a dataset's files and say what was read, dropped and compared."""
    import json
    from pathlib import Path

    from mmsim.data.manifest import manifest
    from mmsim.data.report import check as check_dataset
    from mmsim.progress import fraction_bar

    with fraction_bar(f"{name}:") as progress:
        report = check_dataset(manifest(name), data_home, progress)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    if json_ == "-":
        typer.echo(text)
        return
    if json_:
        try:
            Path(json_).write_text(text + "\n", encoding="utf-8")
        except OSError as err:
            raise ConfigError(f"--json {json_}: {err.strerror or err}") from None
    for key in ("title", "kind", "level", "view_depth", "events"):
        typer.echo(f"{key.replace('_', ' ')}: {report[key]}")
    for line in _report(report):
        typer.echo(line)
    for split, found in report["splits"].items():
        typer.echo(f"{split}: {found['episodes']} episodes, {found['seconds']:,.0f} s")
    for source in report["sources"]:
        typer.echo(f"source: {source['path']} sha256 {source['sha256']} verified")


def _report(report: dict[str, Any]) -> list[str]:
    # what was read, dropped and compared, the trades beside the raw files', and what there is to say about it
    from mmsim.data.plausibility import figures

    lines = [
        f"rows read: {report['rows_read']:,}",
        f"span: {report['span']['start']} to {report['span']['end']}",
    ]
    for title, group in (
        ("messages, ", "messages"),
        ("dropped, ", "dropped"),
        ("", "counts"),
        ("", "checks"),
    ):
        lines += [f"{title}{key.replace('_', ' ')}: {value:,}" for key, value in report[group].items()]
    if report["tape"]:
        lines += _tape(report["tape"])
    lines += figures(report["plausibility"])
    return lines + [f"note: {note}" for note in [*report["notes"], *report["plausibility"]["notes"]]]


def _tape(tape: dict[str, Any]) -> list[str]:
    raw, got = tape["raw"], tape["imported"]
    rows = got["rows"]
    lines = [
        f"printed, raw files: {raw['trades']:,} {tape['unit']}, {raw['lots']:,} lots",
        f"printed, imported: {got['trades']:,} of them, {got['lots']:,} lots",
    ]
    lines.append(
        f"rows of printed trades: {rows['executions']:,} executions, {rows['prints']:,} prints, "
        f"{rows['auction']:,} of them of an auction"
    )
    for reason, less in tape["missing"].items():
        said, sign = (
            ("not imported", 1) if min(less.values()) >= 0 else ("imported beyond the raw trades", -1)
        )
        lines.append(f"printed, {said}, {reason}: {sign * less['trades']:,}, {sign * less['lots']:,} lots")
    return lines


def _sessions(text: str | None) -> list[list[str]] | None:
    if text is None:
        return None
    out = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        first, dash, last = part.partition("-")
        if not dash:
            raise ConfigError(f'--sessions expects "HH:MM-HH:MM,...", was {text!r}')
        out.append([first.strip(), last.strip()])
    return out


def _pair(text: str) -> tuple[str, str]:
    key, eq, value = text.partition("=")
    if not eq or not key:
        raise ConfigError(f"--option expects KEY=VALUE, was {text!r}")
    return key.strip(), value.strip()
