"""The command line in this process: arguments in; exit code, standard output and standard error out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmsim import runner
from mmsim.cli.main import main
from mmsim.data import load
from mmsim.types import Episode, MarketData

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "250")

    def command(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in argv])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return command


@pytest.fixture
def results() -> Callable[[Path], dict[str, Any]]:
    return lambda folder: json.loads((folder / "run.json").read_text(encoding="utf-8"))


def _minutes(data: MarketData, episodes: int, seconds: int) -> MarketData:
    def cut(episode: Episode) -> Episode:
        return replace(episode, end_ts=episode.start_ts + seconds * 10**9)

    return replace(data, splits={s: tuple(map(cut, e[:episodes])) for s, e in data.splits.items()})


@pytest.fixture
def short_markets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut every split of every market to its first two episodes, and these to their first minute."""
    monkeypatch.setattr(runner, "load", lambda name, **kw: _minutes(load(name, **kw), 2, 60))
