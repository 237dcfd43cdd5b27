"""Checkpoint folders: where they are, and how an agent's two files are read and written (no torch, no pickle).

``<folder>/<dataset>/<agent>.safetensors`` holds the arrays, ``<agent>.json`` beside it the card: the agent's
constants, and how, on what and by which command it was trained. What the arrays mean, each agent knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mmsim.errors import ConfigError
from mmsim.files import replacing

SCHEMA = 1
Arrays = dict[str, npt.NDArray[Any]]
Card = dict[str, Any]
_T = TypeVar("_T")


def shipped() -> Path:
    """Return the folder of the checkpoints that come with the package."""
    return Path(__file__).resolve().parent.parent / "checkpoints"


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write(folder: Path, agent: str, arrays: Arrays, card: Mapping[str, Any]) -> Path:
    """Write ``agent.safetensors`` and then ``agent.json`` into `folder`, each atomically; return the card's path."""
    whole = {"schema": SCHEMA, "agent": agent, **card}
    path = folder / f"{agent}.json"
    atomic_write(folder / f"{agent}.safetensors", save(arrays))
    atomic_write(path, (json.dumps(whole, indent=1) + "\n").encode())
    return path


def read(folder: Path, agent: str, parse: Callable[[Arrays, Card], _T], trained_by: str = "") -> _T:
    """Read the checkpoint of `agent` in `folder` (``<checkpoints>/<dataset>``).

    Parameters
    ----------
    parse : callable
        Makes of arrays and card what the agent needs. It may raise `KeyError` or `TypeError` where something
        is missing.
    trained_by : str
        What ``mmsim train`` is called with to make the checkpoint; default: `agent`.

    Raises
    ------
    ConfigError
        If it is missing, cut, or not of this version.
    """
    path, card_path = folder / f"{agent}.safetensors", folder / f"{agent}.json"
    command = f"mmsim train {trained_by or agent} --dataset {folder.name}"
    if not path.is_file() or not card_path.is_file():
        raise ConfigError(
            f"no checkpoint of {agent!r} for {folder.name!r} in {folder.parent}: run `{command}`"
        )
    again = f"train it again: `{command} --fresh`"
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        if card["schema"] != SCHEMA:
            raise ConfigError(f"{card_path}: expected schema {SCHEMA}, was {card['schema']!r}; {again}")
        return parse(load_file(path), card)
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as err:
        raise ConfigError(
            f"checkpoint {path}: cannot be read ({type(err).__name__}: {err}); {again}"
        ) from err


_loaded: dict[tuple[object, ...], Any] = {}


def cached(root: Path | None, dataset: str, agent: str, parse: Callable[[Arrays, Card], _T]) -> _T:
    """Read a checkpoint once per process, and again if one of its files has changed; see `read`."""
    folder = (root or shipped()) / dataset
    files = (folder / f"{agent}.safetensors", folder / f"{agent}.json")
    key = (folder, agent, *(path.stat().st_mtime_ns if path.is_file() else 0 for path in files))
    if key not in _loaded:
        _loaded[key] = read(folder, agent, parse)
    made: _T = _loaded[key]
    return made
