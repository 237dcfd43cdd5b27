"""Ridge heads: from the hidden states of one layer per task to the teacher's three predictions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim_agents.common import checkpoint
from mmsim_agents.common.checkpoint import Arrays, Card
from mmsim_agents.common.tasks import TASKS
from mmsim_agents.teacher.ridge import F64, RidgePath, r_squared

FOLDS = 5  # time folds of the cross-fitted predictions
_ARRAYS = ("mu", "sigma", "weight", "bias", "low", "high", "layer")


@dataclass(frozen=True)
class Heads:
    """One linear head per task on the standardised last hidden state of its layer; d wide.

    Attributes
    ----------
    layer : (3,) int64
        Hidden-state layer of each task (0 = embedding), chosen on validation.
    mu, sigma : (3, d) float32
        Standardisation of that layer, fitted on TRAIN (sigma infinite where a dimension is constant).
    weight : (3, d) float32, bias : (3,) float64
        ``prediction = bias + weight . (h - mu) / sigma``.
    low, high : (3,) float64
        Smallest and largest target seen on TRAIN: predictions are clipped to them.
    card : dict
        Model id and specification, template, pooling, precision, penalties, validation R2.
    """

    layer: npt.NDArray[np.int64]
    mu: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    bias: F64
    low: F64
    high: F64
    card: Card

    def predict(self, hidden: npt.NDArray[np.floating]) -> F64:
        """Predict (dm, s, v) from raw hidden states ``(n, L, d)``; returns ``(n, 3)`` float64."""
        return self.predict_standard(
            (np.asarray(hidden[:, self.layer], np.float64) - self.mu) / self.sigma.astype(np.float64)
        )

    def predict_standard(self, z: npt.NDArray[np.floating]) -> F64:
        """Predict from the standardised states of each task's layer, ``(n, 3, d)``."""
        out = np.einsum("ncd,cd->nc", np.asarray(z, np.float64), self.weight.astype(np.float64)) + self.bias
        clipped: F64 = np.clip(out, self.low, self.high)
        return clipped

    @property
    def digest(self) -> str:
        """Hash of everything that a prediction depends on beside the hidden state."""
        digest = hashlib.sha256()
        for name in _ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path, extra: Card | None = None) -> None:
        """Write the checkpoint of the agent ``teacher`` into `folder`; `extra` goes into its card."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        checkpoint.write(folder, "teacher", arrays, self.card | (extra or {}))

    @classmethod
    def load(cls, folder: Path) -> Heads:
        """Read what `save` wrote.

        Raises
        ------
        ConfigError
            If it is missing, cut, or not of this version.
        """
        return checkpoint.read(folder, "teacher", cls._parse, trained_by="cmm")

    @classmethod
    def _parse(cls, arrays: Arrays, card: Card) -> Heads:
        return cls(**{name: arrays[name] for name in _ARRAYS}, card=card)


def _plain(values: F64) -> list[float | None]:
    # JSON has no NaN: null where R2 has no meaning
    return [round(v, 4) if np.isfinite(v) else None for v in values.tolist()]


def fit_heads(
    train: npt.NDArray[np.floating],
    train_target: F64,
    validation: npt.NDArray[np.floating],
    validation_target: F64,
    mu: npt.NDArray[np.float32],
    sigma: npt.NDArray[np.float32],
    card: dict[str, Any],
) -> tuple[Heads, F64]:
    """Fit the heads on TRAIN; layer and penalty of each task have the smallest validation error.

    Parameters
    ----------
    train, validation : (n, L, d)
        Standardised hidden states.
    train_target, validation_target : (n, 3) float64
        Realised targets.
    mu, sigma : (L, d) float32
        The standardisation, kept in the heads.
    card : dict
        Kept in the heads, with ``layers``, ``penalty``, ``validation_r2`` and the profile
        ``validation_r2_by_layer`` added.

    Returns
    -------
    heads : Heads
    cross : (n_train, 3) float64
        Cross-fitted predictions of TRAIN: each of `FOLDS` contiguous time folds is predicted by heads
        fitted (same layer and penalty) on the others.
    """
    n_layers, width = train.shape[1:]
    errors, penalties = np.empty((n_layers, 3)), np.empty((n_layers, 3))
    for layer in range(n_layers):
        path = RidgePath(train[:, layer], train_target)
        penalties[layer], errors[layer] = path.choose(validation[:, layer], validation_target)
    layers = errors.argmin(0)
    low, high = train_target.min(0), train_target.max(0)
    weight, bias = np.empty((3, width), np.float32), np.empty(3)
    cross = np.empty((len(train), 3))
    fold = (np.arange(len(train)) * FOLDS) // len(train)
    for c, layer in enumerate(layers.tolist()):
        x, y, penalty = train[:, layer], train_target[:, [c]], penalties[layer, c]
        w, b = RidgePath(x, y).weights(penalty)
        weight[c], bias[c] = w[:, 0], b[0]
        for k in range(FOLDS):
            out = fold == k
            cross[out, c] = RidgePath(x[~out], y[~out]).predict(x[out], penalty)[:, 0]
    r2 = r_squared(errors, np.broadcast_to(validation_target.var(0), errors.shape))
    best = r2[layers, np.arange(3)]
    full = card | {
        "tasks": list(TASKS),
        "layers": layers.tolist(),
        "penalty": penalties[layers, np.arange(3)].tolist(),
        "validation_r2": _plain(best),
        "validation_r2_by_layer": [_plain(row) for row in r2],
    }
    heads = Heads(layers, mu[layers], sigma[layers], weight, bias, low, high, full)
    return heads, np.clip(cross, low, high)
