"""A trained policy without torch: a small tanh network in numpy, and its checkpoint.

``<checkpoints>/<dataset>/ppo.safetensors`` holds the network of the policy's mean, ``ppo.json`` beside it
the card: the quoter's constants, and how, on what and by which command it was trained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mmsim.errors import ConfigError
from mmsim.quoting import N_ACTIONS, N_STATE, QuoterSpec
from mmsim_agents.cmm.checkpoint import atomic_write, shipped

AGENT = "ppo"
SCHEMA = 1
F32 = npt.NDArray[np.float32]


class Network:
    """Mean of a Gaussian policy: linear layers with tanh between them, cut to [-1, 1].

    Parameters
    ----------
    layers : list of (weight, bias)
        ``(n_out, n_in)`` and ``(n_out,)``; from `N_STATE` inputs to `N_ACTIONS` outputs.
    """

    def __init__(self, layers: list[tuple[F32, F32]]) -> None:
        width = N_STATE
        for weight, bias in layers:
            if weight.shape != (len(bias), width):
                raise ConfigError(
                    f"network: expected a weight of shape {(len(bias), width)}, was {weight.shape}"
                )
            width = len(bias)
        if width != N_ACTIONS:
            raise ConfigError(f"network: expected {N_ACTIONS} outputs, was {width}")
        self.layers = [
            (np.ascontiguousarray(w, np.float32), np.ascontiguousarray(b, np.float32)) for w, b in layers
        ]

    def __call__(self, state: F32) -> F32:
        """Return the action ``(N_ACTIONS,)`` for the input vector ``(N_STATE,)``."""
        *hidden, (weight, bias) = self.layers
        x = state
        for w, b in hidden:
            x = w @ x
            x += b
            np.tanh(x, out=x)
        out: F32 = weight @ x
        out += bias
        return np.minimum(np.maximum(out, np.float32(-1.0), out=out), np.float32(1.0), out=out)

    def arrays(self) -> dict[str, F32]:
        """Return the weights by name, as the checkpoint stores them."""
        out: dict[str, F32] = {}
        for i, (w, b) in enumerate(self.layers):
            out[f"{i}.weight"], out[f"{i}.bias"] = w, b
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> Network:
        """Read what `arrays` returned."""
        return cls([(arrays[f"{i}.weight"], arrays[f"{i}.bias"]) for i in range(len(arrays) // 2)])


@dataclass(frozen=True, eq=False)
class Policy:
    """A network, the constants of its quoter, and the card as written."""

    network: Network
    quoter: QuoterSpec
    card: dict[str, Any]


def write(folder: Path, policy: Policy) -> Path:
    """Write ``ppo.safetensors`` and then ``ppo.json`` into `folder`, each atomically; return the card's path."""
    card = {"schema": SCHEMA, "agent": AGENT, "quoter": policy.quoter.to_dict(), **policy.card}
    path = folder / f"{AGENT}.json"
    atomic_write(folder / f"{AGENT}.safetensors", save(policy.network.arrays()))
    atomic_write(path, (json.dumps(card, indent=1) + "\n").encode())
    return path


def read(folder: Path) -> Policy:
    """Read the policy in `folder` (``<checkpoints>/<dataset>``).

    Raises
    ------
    ConfigError
        If it is missing, cut, or was trained on other features.
    """
    path, card_path = folder / f"{AGENT}.safetensors", folder / f"{AGENT}.json"
    if not path.is_file() or not card_path.is_file():
        raise ConfigError(
            f"no checkpoint of {AGENT!r} for {folder.name!r} in {folder.parent}: "
            f"run `mmsim train {AGENT} --dataset {folder.name}`"
        )
    again = f"train it again: `mmsim train {AGENT} --dataset {folder.name} --fresh`"
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        if card["schema"] != SCHEMA:
            raise ConfigError(f"{card_path}: expected schema {SCHEMA}, was {card['schema']!r}; {again}")
        return Policy(Network.from_arrays(load_file(path)), QuoterSpec.from_dict(card["quoter"]), card)
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as err:
        raise ConfigError(
            f"checkpoint {path}: cannot be read ({type(err).__name__}: {err}); {again}"
        ) from err


_loaded: dict[tuple[str, int], Policy] = {}


def cached(root: Path | None, dataset: str) -> Policy:
    """Read a policy once per process (again if its file has changed)."""
    folder = (root or shipped()) / dataset
    path = folder / f"{AGENT}.json"
    key = (str(folder), path.stat().st_mtime_ns if path.is_file() else 0)
    if key not in _loaded:
        _loaded[key] = read(folder)
    return _loaded[key]
