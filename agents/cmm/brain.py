"""A trained ensemble and the fusion of its students at work. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmsim._jit import entry_point
from mmsim_agents.cmm.fuse import Tables, fuse
from mmsim_agents.cmm.hajek import TaskFusion
from mmsim_agents.common.tasks import N_TASKS, Prediction
from mmsim_agents.students.brain import Brain


class FusedBrain(Brain):
    """Predicts by fusing the students of each task.

    Parameters
    ----------
    students
        As for `Brain`; ``wz`` leads to the common space of the fusion.
    fusion : three TaskFusion
        How the experts of each task are fused.
    """

    def __init__(self, *students: Any, fusion: Sequence[TaskFusion], **more: Any) -> None:
        super().__init__(*students, **more)
        self._tables = Tables(
            np.array([f.width for f in fusion]),
            np.array([f.inv_tau for f in fusion]),
            np.ascontiguousarray(np.stack([f.prior for f in fusion], axis=1)),
        )
        self.mixture = np.zeros(
            (N_TASKS, len(self.experts) // N_TASKS)
        )  # weights of the experts of each task
        self._fused = np.zeros(N_TASKS)
        self._fuse = entry_point(fuse, *self._mixed())

    def _mixed(self) -> tuple[Any, ...]:
        return self._memory.z, self._memory.y, self._tables, self.regime, self.mixture, self._fused

    def predict(self) -> Prediction:
        """Fuse what the students say."""
        self._fuse(*self._mixed())
        dm, s, v = self._fused.tolist()
        return dm, s, v
