"""What CMM's checkpoint holds beside its students: the fusions of their predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from mmsim_agents.cmm.brain import FusedBrain
from mmsim_agents.cmm.hajek import TaskFusion
from mmsim_agents.common.checkpoint import Arrays, Card
from mmsim_agents.common.tasks import N_TASKS
from mmsim_agents.students.checkpoint import Checkpoint, parts

Fusion = tuple[TaskFusion, TaskFusion, TaskFusion]  # one per task


@dataclass(frozen=True)
class FusedCheckpoint(Checkpoint):
    """A student ensemble and the fusions that were fitted for it, by name."""

    fusions: dict[str, Fusion] = field(default_factory=dict)

    def brain(self, unit: int, where: str = "students", fusion: str = "hajek") -> FusedBrain:
        """Return what predicts by one of the fusions; see `Checkpoint.brain`."""
        return FusedBrain(
            self.shape, self.weights, self.norm, self.thresholds, self.span, unit, where,
            fusion=self.fusions[fusion],
        )  # fmt: skip

    def arrays(self) -> Arrays:
        """Return what is stored as arrays; weights in float16."""
        out = super().arrays()
        for name, tasks in self.fusions.items():
            for key in ("width", "inv_tau", "mse", "prior"):
                out[f"fusion.{name}.{key}"] = np.stack([getattr(task, key) for task in tasks])
        return out

    @classmethod
    def parse(cls, arrays: Arrays, card: Card) -> Self:
        """Make one of what was read; for `mmsim_agents.common.checkpoint.read`."""
        names = {k.split(".")[1] for k in arrays if k.startswith("fusion.")}
        return cls(**parts(arrays, card), fusions={name: _fusion(arrays, name) for name in sorted(names)})


def _fusion(arrays: Arrays, name: str) -> Fusion:
    width, inv_tau, mse, prior = (arrays[f"fusion.{name}.{k}"] for k in ("width", "inv_tau", "mse", "prior"))
    a, b, c = (
        TaskFusion(float(width[i]), float(inv_tau[i]), prior[i], float(mse[i])) for i in range(N_TASKS)
    )
    return a, b, c
