"""A trained ensemble at work: state, weights and buffers around the fused kernel. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.agent import OBS_SIZE
from mmsim.features import STATE_SIZE
from mmsim_agents.cmm.forward import I_REGIME, I_SIZE, PATCH, V_SIZE, WINDOW, decide
from mmsim_agents.cmm.hajek import TaskFusion
from mmsim_agents.students.shape import WEIGHTS, Shape, check_weights

Prediction = tuple[float, float, float]


@dataclass(frozen=True)
class Normaliser:
    """What standardises the features and brings predictions back, measured on TRAIN.

    Attributes
    ----------
    mean, std : (F,) float32
        Of the features.
    target : (4, 3) float64
        Mean, standard deviation, lowest and highest value of the three targets.
    """

    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    target: npt.NDArray[np.float64]


class Brain:
    """Predicts mid change, spread and volume, one observation after the other.

    Parameters
    ----------
    shape : Shape
        Sizes of the students.
    weights : dict of float32 arrays
        See `Shape.arrays`; ``wz`` leads to the common space of the fusion.
    norm : Normaliser
        Units.
    fusion : three TaskFusion, or None
        How the experts of each task are fused; None for a single student with three outputs.
    thresholds, span : (2,) float64 and int
        Volatility regimes: limits in ticks a decision, span in decisions (``distill.regimes``).
    unit : int
        Usual order size, lots.
    """

    def __init__(
        self,
        shape: Shape,
        weights: dict[str, npt.NDArray[np.float32]],
        norm: Normaliser,
        fusion: Sequence[TaskFusion] | None,
        thresholds: npt.NDArray[np.float64],
        span: int,
        unit: int = 1,
        where: str = "students",
    ) -> None:
        check_weights(weights, shape, where)
        self.shape, self.norm, self.fusion = shape, norm, fusion
        self.weights = weights
        m = shape.experts
        per_task = max(m // 3, 1)
        widest = max(PATCH * shape.inputs, shape.taps * shape.c1, shape.c2 + shape.inputs, shape.hidden)
        self._ints = np.zeros(I_SIZE, np.int64)
        self._floats = np.zeros(V_SIZE)
        self._state = np.zeros(STATE_SIZE)
        self._xring = np.zeros((2 * WINDOW, shape.inputs), np.float32)
        self._uring = np.zeros((WINDOW, m * shape.c1), np.float32)
        self.experts = np.zeros((m, shape.outputs))  # predictions of each student at the last decision
        self.mixture = np.zeros((3, per_task))  # weights of the experts of each task
        self._fused = np.zeros(3)
        fused = fusion or [TaskFusion(1.0, 0.0, np.zeros((3, per_task)), 0.0)] * 3
        self._tail: tuple[Any, ...] = (
            self._ints,
            self._floats,
            self._state,
            self._xring,
            self._uring,
            1.0 - 2.0 / (span + 1.0),
            np.asarray(thresholds, np.float64),
            norm.mean.astype(np.float32),
            (1.0 / norm.std).astype(np.float32),
            *(np.ascontiguousarray(weights[k], np.float32) for k in WEIGHTS),
            np.ascontiguousarray(norm.target, np.float64),
            np.array([f.width for f in fused]),
            np.array([f.inv_tau for f in fused]),
            np.ascontiguousarray(np.stack([f.prior for f in fused], axis=1)),  # (regime, task, expert)
            np.zeros(widest, np.int64),
            np.zeros((m, shape.feature), np.float32),
            self.experts,
            self.mixture,
            self._fused,
        )
        self._unit = float(unit)
        self._raw = np.zeros(OBS_SIZE, np.int64)  # a copy of our own: one type, so one compilation

    @property
    def regime(self) -> int:
        """Volatility regime of the last decision: 0 low, 1 mid, 2 high."""
        return int(self._ints[I_REGIME])

    def reset(self) -> None:
        """Forget everything seen: a new episode starts."""
        for array in (self._ints, self._floats, self._state, self._xring, self._uring):
            array[:] = 0

    def push(self, raw: npt.NDArray[np.int64]) -> Prediction | None:
        """Take in the newest observation vector ``(OBS_SIZE,)``.

        Returns
        -------
        (dm, s, v) or None
            Predictions in ticks, ticks and log1p(lots / unit); None until `WINDOW` decisions were seen.
        """
        self._raw[:] = raw
        if not decide(self._raw, self._unit, *self._tail):
            return None
        dm, s, v = self._fused.tolist()
        return dm, s, v
