"""Checkpoint folders: where they are, what is in them, how they are read and written (no torch, no pickle).

``<folder>/<dataset>/<agent>.safetensors`` holds the arrays (weights in float16), ``<agent>.json`` beside it
the card: sizes, the order rule's constants, and how, on what and by which command it was trained.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mmsim.errors import ConfigError
from mmsim_agents.cmm.brain import Normaliser
from mmsim_agents.cmm.hajek import TaskFusion
from mmsim_agents.cmm.order_rule import RuleParams
from mmsim_agents.students.shape import WEIGHTS, Shape

SCHEMA = 1
Fusion = tuple[TaskFusion, TaskFusion, TaskFusion]


@dataclass(frozen=True)
class Checkpoint:
    """Everything an agent needs to predict and quote; ``card`` is the JSON card as written."""

    shape: Shape
    weights: dict[str, npt.NDArray[np.float32]]
    norm: Normaliser
    thresholds: npt.NDArray[np.float64]
    span: int
    rule: RuleParams
    fusions: dict[str, Fusion]  # empty for a single student
    card: dict[str, Any]


def shipped() -> Path:
    """Return the folder of the checkpoints that come with the package."""
    return Path(__file__).resolve().parent.parent / "checkpoints"


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def half(weights: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights as float16 stores them: what is measured must be what is shipped."""
    return {k: v.astype(np.float16).astype(np.float32) for k, v in weights.items()}


def write(folder: Path, agent: str, ckpt: Checkpoint) -> None:
    """Write ``agent.safetensors`` and then ``agent.json`` into `folder`, each atomically."""
    arrays: dict[str, npt.NDArray[Any]] = {k: ckpt.weights[k].astype(np.float16) for k in WEIGHTS}
    arrays |= {
        "mean": ckpt.norm.mean.astype(np.float32),
        "std": ckpt.norm.std.astype(np.float32),
        "target": ckpt.norm.target,
        "thresholds": ckpt.thresholds,
    }
    for name, tasks in ckpt.fusions.items():
        arrays[f"fusion.{name}.width"] = np.array([t.width for t in tasks])
        arrays[f"fusion.{name}.inv_tau"] = np.array([t.inv_tau for t in tasks])
        arrays[f"fusion.{name}.mse"] = np.array([t.mse for t in tasks])
        arrays[f"fusion.{name}.prior"] = np.stack([t.prior for t in tasks])
    card = {
        "schema": SCHEMA,
        "agent": agent,
        "shape": ckpt.shape.as_dict(),
        "parameters": ckpt.shape.parameters,
        "span": ckpt.span,
        "rule": asdict(ckpt.rule),
        **ckpt.card,
    }
    atomic_write(folder / f"{agent}.safetensors", save(arrays))
    atomic_write(folder / f"{agent}.json", (json.dumps(card, indent=1) + "\n").encode())


def read(folder: Path, agent: str) -> Checkpoint:
    """Read the checkpoint of `agent` in `folder` (``<checkpoints>/<dataset>``).

    Raises
    ------
    ConfigError
        If it is missing, cut, or not of this version.
    """
    path, card_path = folder / f"{agent}.safetensors", folder / f"{agent}.json"
    if not path.is_file() or not card_path.is_file():
        raise ConfigError(
            f"no checkpoint of {agent!r} for {folder.name!r} in {folder.parent}: "
            f"run `mmsim train {agent} --dataset {folder.name}`"
        )
    again = f"train it again: `mmsim train {agent} --dataset {folder.name} --fresh`"
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        arrays = load_file(path)
        if card["schema"] != SCHEMA:
            raise ConfigError(f"{card_path}: expected schema {SCHEMA}, was {card['schema']!r}; {again}")
        shape = Shape(**card["shape"])
        weights = {k: arrays[k].astype(np.float32) for k in WEIGHTS}
        norm = Normaliser(arrays["mean"], arrays["std"], arrays["target"])
        names = {k.split(".")[1] for k in arrays if k.startswith("fusion.")}
        fusions = {name: _fusion(arrays, name) for name in sorted(names)}
        return Checkpoint(
            shape, weights, norm, arrays["thresholds"], int(card["span"]), RuleParams(**card["rule"]), fusions,
            card,
        )  # fmt: skip
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as err:
        raise ConfigError(
            f"checkpoint {path}: cannot be read ({type(err).__name__}: {err}); {again}"
        ) from err


def _fusion(arrays: dict[str, npt.NDArray[Any]], name: str) -> Fusion:
    width, inv_tau, mse, prior = (arrays[f"fusion.{name}.{k}"] for k in ("width", "inv_tau", "mse", "prior"))
    a, b, c = (TaskFusion(float(width[i]), float(inv_tau[i]), prior[i], float(mse[i])) for i in range(3))
    return a, b, c


_loaded: dict[tuple[str, str, int], Checkpoint] = {}


def cached(root: Path | None, dataset: str, agent: str) -> Checkpoint:
    """Read a checkpoint once per process (again if the file has changed)."""
    folder = (root or shipped()) / dataset
    path = folder / f"{agent}.safetensors"
    key = (str(folder), agent, path.stat().st_mtime_ns if path.is_file() else 0)
    if key not in _loaded:
        _loaded[key] = read(folder, agent)
    return _loaded[key]
