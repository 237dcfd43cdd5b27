"""A trained ensemble at work: weights, state and buffers around the kernel. No torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim._jit import entry_point, records
from mmsim.features import WINDOW, Seen
from mmsim.features.market import FEATURE_ROW, FEATURE_STATE, as_table
from mmsim_agents.common.tasks import Prediction
from mmsim_agents.students.forward import PATCH, PLACE, Memory, Network, advance
from mmsim_agents.students.normaliser import Normaliser
from mmsim_agents.students.shape import WEIGHTS, Shape, check_weights


class Brain:
    """Predicts mid change, spread and volume, one observation after the other.

    Parameters
    ----------
    shape : Shape
        Sizes of the students. What more than one of them say must be fused (`mmsim_agents.cmm.brain`).
    weights : dict of float32 arrays
        See `Shape.arrays`.
    norm : Normaliser
        Units.
    thresholds, span : (2,) float64 and int
        Volatility regimes: limits in ticks per decision, span in decisions (``common.regimes``).
    unit : int
        Usual order size, lots.
    where : str
        Names the weights in an error message.
    """

    def __init__(
        self,
        shape: Shape,
        weights: dict[str, npt.NDArray[np.float32]],
        norm: Normaliser,
        thresholds: npt.NDArray[np.float64],
        span: int,
        unit: int = 1,
        where: str = "students",
    ) -> None:
        check_weights(weights, shape, where)
        self.norm = norm
        self._net = Network(
            unit=float(unit),
            keep=1.0 - 2.0 / (span + 1.0),
            thresholds=np.asarray(thresholds, np.float64),
            mean=norm.mean.astype(np.float32),
            inv_std=norm.inv_std,
            target=np.ascontiguousarray(norm.target, np.float64),
            **{k: np.ascontiguousarray(weights[k], np.float32) for k in WEIGHTS},
        )
        m, in2, in3 = shape.experts, shape.taps * shape.c1, shape.c2 + shape.inputs
        rows = records(np.zeros(2 * WINDOW, FEATURE_ROW))
        self._memory = Memory(
            place=records(np.zeros(1, PLACE)),
            features=records(np.zeros(1, FEATURE_STATE)),
            rows=rows,
            x=as_table(rows),
            u=np.zeros((WINDOW, m * shape.c1), np.float32),
            active=np.zeros(max(PATCH * shape.inputs, in2, in3, shape.hidden), np.int64),
            in2=np.zeros(in2, np.float32),
            in3=np.zeros(in3, np.float32),
            hidden=np.zeros(shape.hidden, np.float32),
            out=np.zeros(shape.outputs, np.float32),
            z=np.zeros((m, shape.feature), np.float32),
            y=np.zeros((m, shape.outputs)),
        )
        self._regime = self._memory.place["regime"]  # a view
        self._seen = Seen()
        self._advance = entry_point(advance, self._seen.record, self._net, self._memory)

    @property
    def regime(self) -> int:
        """Volatility regime of the last decision: 0 low, 1 mid, 2 high."""
        return int(self._regime[0])

    @property
    def experts(self) -> npt.NDArray[np.float64]:
        """Predictions of each student at the last decision, ``(M, outputs)`` (a view)."""
        return self._memory.y

    def reset(self) -> None:
        """Forget everything seen: a new episode starts."""
        memory = self._memory
        for array in (memory.place, memory.features, memory.x, memory.u):
            array[:] = np.zeros(1, array.dtype)

    def push(self, record: npt.NDArray[np.void]) -> Prediction | None:
        """Take in what was seen at the newest decision, ``(1,)`` OBSERVATION.

        Returns
        -------
        (dm, s, v) or None
            Predictions in ticks, ticks and log1p(lots / unit); None until `WINDOW` decisions were seen.
        """
        self._seen.take(record)
        return self.predict() if self._advance(self._seen.record, self._net, self._memory) else None

    def predict(self) -> Prediction:
        """Make one prediction of what the students say."""
        dm, s, v = self._memory.y[0].tolist()
        return dm, s, v
