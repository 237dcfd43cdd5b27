"""Options that several commands have, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsim.errors import ConfigError, did_you_mean

SPLITS = ("train", "validation", "test")

DataHome = Annotated[Path | None, typer.Option(help="Folder of the source data files.")]
Checkpoints = Annotated[
    Path | None, typer.Option(help="Folder of checkpoint folders; default: the shipped ones.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="KEY=VALUE, e.g. sim.latency.order=500000, agent.gamma=0.1."),
]


def comma_list(text: str, option: str, what: str = "names") -> tuple[str, ...]:
    """Return the parts of a text separated by commas, each once, in order.

    >>> comma_list("glft, cmm,glft", "--agent")
    ('glft', 'cmm')

    Raises
    ------
    ConfigError
        If there is none.
    """
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise ConfigError(f"{option}: expected {what} separated by commas, was {text!r}")
    return parts


def check_split(option: str, split: str) -> None:
    """Hold an option to the names of splits.

    Raises
    ------
    ConfigError
        If it is none of them.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"{option}: expected one of {', '.join(SPLITS)}, was {split!r}{did_you_mean(split, SPLITS)}"
        )
