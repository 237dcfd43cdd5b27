"""``mmsim probe``: where in the teacher's layers the market lights up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmsim_agents.teacher.probing import ProbeReport


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def probe(
        dataset: str = typer.Option(..., "--dataset", "-d", help="Market to probe on."),
        model: Annotated[
            str | None,
            typer.Option(help="Language model: local folder or hub name; default: the packaged one."),
        ] = None,
        samples: int = typer.Option(2000, min=100, help="Train decisions read; a quarter as many held out."),
        control: bool = typer.Option(True, help="Probe a random-weight model of the same shape beside it."),
        pool: str = typer.Option("last", help="State per prompt: last token, or mean of all but the first."),
        workers: int = typer.Option(1, min=1, help="Processes that run the model."),
        seed: int = typer.Option(0, min=0, help="Seed of permutations and of the control's weights."),
        out: Annotated[
            Path | None, typer.Option(help="Folder of the results; default: runs/probe-DATASET.")
        ] = None,
        data_home: Annotated[Path | None, typer.Option(help="Folder of the source data files.")] = None,
    ) -> None:
        """Probe the language model's layers: table, heat map (PNG), parquet and JSON.

        Hidden states are cached: a second call, or a call after `mmsim train cmm` with as many samples, is quick.
        """
        from mmsim.errors import ConfigError

        if pool not in ("last", "mean"):
            raise ConfigError(f"--pool: expected 'last' or 'mean', was {pool!r}")
        try:
            report = _probe(
                dataset, model, samples=samples, control=control, pool=pool, workers=workers, seed=seed,
                data_home=data_home,
            )  # fmt: skip
        except KeyboardInterrupt:
            typer.echo("mmsim: interrupted; the states computed so far are kept", err=True)
            raise typer.Exit(1) from None
        from mmsim_agents.teacher.probing import write_report

        _show(report)
        for path in write_report(report, out or Path("runs") / f"probe-{dataset}"):
            typer.echo(f"written to {path}", err=True)


def _probe(
    dataset: str,
    model: str | None,
    *,
    samples: int,
    control: bool,
    pool: str,
    workers: int,
    seed: int,
    data_home: Path | None,
) -> ProbeReport:
    from mmsim.data import load
    from mmsim.progress import bar
    from mmsim_agents.common.recording import record
    from mmsim_agents.teacher.model import load_teacher
    from mmsim_agents.teacher.probing import probe_market

    teacher = load_teacher(model)  # first: a missing model is known before the market is replayed
    data = load(dataset, data_home=data_home)
    with bar(kept=True) as show:
        train, validation = (record(data, split, show) for split in ("train", "validation"))
        return probe_market(
            dataset, train, validation, unit=data.instrument.unit_lots, model=teacher, samples=samples, control=control,
            pool="mean" if pool == "mean" else "last", workers=workers, seed=seed, progress=show,
        )  # fmt: skip


def _show(report: ProbeReport) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmsim_agents.common.tasks import TASKS

    console = Console()
    table = Table(
        "model", "task", "layer", "NFP low/mid/high", "|rho| low/mid/high", "noise", "R2",
        title=f"{report.dataset}: normalized fluorescent probe of {report.model_id}",
        caption="at the brightest layer (largest mean NFP); noise: background of |rho|; R2 on all held-out decisions; uniform NFP would be "
        f"{1 / len(report.teacher.nfp):.3f}",
    )  # fmt: skip
    for name, nfp in (("teacher", report.teacher), ("control", report.control)):
        if nfp is None:
            continue
        for c, task in enumerate(TASKS):
            peak = int(nfp.nfp[:, c].mean(1).argmax())
            table.add_row(
                name, task, str(peak), " ".join(f"{x:.2f}" for x in nfp.nfp[peak, c]),
                " ".join(f"{x:.2f}" for x in nfp.intensity[peak, c]), f"{nfp.background[peak, c].mean():.3f}",
                f"{nfp.r2[peak, c]:.3f}",
            )  # fmt: skip
    console.print(table)
    tests = Table("test", "what", "statistic", "p", "p (Holm)", title="Permutation tests over time blocks")
    for t in report.tests:
        tests.add_row(t.family, t.what, f"{t.statistic:.3f}", f"{t.p:.4f}", f"{t.adjusted:.4f}")
    console.print(tests)
    i, j = report.cuts
    console.print(
        f"layer groups: shallow 0-{i - 1}, middle {i}-{j - 1}, deep {j}-{len(report.teacher.nfp) - 1}"
    )
    for line in report.verdict:
        console.print(line, highlight=False)
