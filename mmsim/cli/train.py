"""``mmsim train``: train an agent for one market and write its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmsim.errors import ConfigError, did_you_mean

AGENTS = ("cmm", "student", "ppo")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command()
    def train(
        agent: str = typer.Argument(help="What to train: cmm (and the student beside it), student or ppo."),
        dataset: str = typer.Option(..., "--dataset", "-d", help="Market to train on."),
        out: Annotated[
            Path | None, typer.Option(help="Folder of checkpoint folders; default: the package's own.")
        ] = None,
        seed: int = typer.Option(0, min=0, help="Seed of everything random."),
        samples: int = typer.Option(
            600, min=1, help="Train decisions that the teacher reads (cmm, student)."
        ),
        epochs: int = typer.Option(30, min=1, help="Passes over the training data at most (cmm, student)."),
        teacher: Annotated[
            str | None,
            typer.Option(help="Language model: local folder or hub name; default: the packaged one."),
        ] = None,
        student: bool = typer.Option(True, help="Train the single student beside cmm."),
        steps: Annotated[int | None, typer.Option(min=1, help="Decisions to learn from (ppo).")] = None,
        fresh: bool = typer.Option(
            False, "--fresh", help="Start anew even where a stopped training could continue."
        ),
        data_home: Annotated[Path | None, typer.Option(help="Folder of the source data files.")] = None,
    ) -> None:
        """Train an agent; a stopped training continues when the same command is given again."""
        if agent not in AGENTS:
            raise ConfigError(
                f"train: expected one of {', '.join(AGENTS)}, was {agent!r}{did_you_mean(agent, AGENTS)}"
            )
        command = f"mmsim train {agent} --dataset {dataset} --seed {seed}"
        try:
            if agent == "ppo":
                from mmsim.data import load
                from mmsim.progress import bar
                from mmsim_agents.rl.train import train as train_ppo

                data = load(dataset, data_home=data_home)
                more: dict[str, Any] = {} if steps is None else {"steps": steps}
                command += "" if steps is None else f" --steps {steps}"
                with bar(kept=True) as show:
                    folder = train_ppo(
                        data, out=out, seed=seed, fresh=fresh, progress=show, command=command, **more
                    )
                typer.echo(f"written to {folder}", err=True)
                return
            command += f" --samples {samples} --epochs {epochs}"
            agents = ("cmm", "student") if agent == "cmm" and student else (agent,)
            _distil(
                dataset, agents, out=out, seed=seed, samples=samples, epochs=epochs, teacher=teacher,
                fresh=fresh, data_home=data_home, command=command,
            )  # fmt: skip
        except KeyboardInterrupt:
            typer.echo(
                "mmsim: interrupted; what was finished is kept, give the same command again to continue",
                err=True,
            )
            raise typer.Exit(1) from None
        except ModuleNotFoundError as err:
            raise ConfigError(
                f"training {agent} needs {err.name}: run `make setup` (for a teacher `make teacher`), "
                "or pip install 'mmsim[train,teacher]'"
            ) from err


def _distil(
    dataset: str,
    agents: tuple[str, ...],
    *,
    out: Path | None,
    seed: int,
    samples: int,
    epochs: int,
    teacher: str | None,
    fresh: bool,
    data_home: Path | None,
    command: str,
) -> None:
    from mmsim.data import load
    from mmsim.progress import bar
    from mmsim_agents.common.checkpoint import shipped
    from mmsim_agents.distill.pipeline import Options, distil
    from mmsim_agents.distill.train import TrainConfig

    folder = out or shipped()
    data = load(dataset, data_home=data_home)
    options = Options(
        train=TrainConfig(seed=seed, epochs=epochs), agents=agents, command=command, resume=not fresh
    )
    with bar(kept=True) as show:
        cards = distil(data, folder, options, samples=samples, teacher=teacher, progress=show)
    _report(dataset, cards)
    typer.echo(f"written to {folder / dataset}", err=True)


def _report(dataset: str, cards: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmsim_agents.common.tasks import TASKS

    table = Table(
        "predictor", *TASKS,
        title=f"{dataset}: R2 on the validation decisions that the teacher answered",
    )  # fmt: skip
    card = next(iter(cards.values()))
    for name, tasks in card["validation"]["teacher_sample"].items():
        if name != "n":
            cells = [tasks[t]["r2"] for t in TASKS]
            table.add_row(name, *("-" if x is None else f"{x:.3f}" for x in cells))
    console = Console()
    console.print(table)
    for name, card in cards.items():
        latency = card["latency_us"]
        console.print(
            f"{name}: {card['parameters']:,} parameters, {card['train_seconds']} s of training, "
            f"one decision p50 {latency['p50']} us, p99 {latency['p99']} us"
        )
