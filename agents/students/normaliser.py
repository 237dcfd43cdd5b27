"""The units of features and targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmsim_agents.students.forward import CLIP

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
_FLOOR = 1e-6  # what deviates less is constant and keeps its scale


@dataclass(frozen=True)
class Normaliser:
    """What standardises features and targets, and brings predictions back; measured on TRAIN.

    Attributes
    ----------
    mean, std : (F,) float32
        Of the features.
    target : (4, 3) float64
        Mean, standard deviation, lowest and highest value of the three targets.
    """

    mean: F32
    std: F32
    target: F64

    @classmethod
    def measure(cls, features: F32, target: F64) -> Normaliser:
        """Measure the units of features ``(n, F)`` and targets ``(n, 3)``."""
        seen = features.astype(np.float64)
        std, scale = seen.std(0), target.std(0)
        return cls(
            mean=seen.mean(0).astype(np.float32),
            std=np.where(std > _FLOOR, std, 1.0).astype(np.float32),
            target=np.stack(
                [target.mean(0), np.where(scale > _FLOOR, scale, 1.0), target.min(0), target.max(0)]
            ),
        )

    @property
    def inv_std(self) -> F32:
        """What the features are multiplied by, ``(F,)``."""
        return (1.0 / self.std).astype(np.float32)

    def features(self, features: F32) -> F32:
        """Standardise features ``(n, F)``, bounded by ``CLIP``."""
        out: F32 = np.clip((features - self.mean) * self.inv_std, -CLIP, CLIP).astype(np.float32)
        return out

    def standard(self, target: F64) -> F32:
        """Standardise targets, or predictions of them, ``(n, 3)``."""
        out: F32 = ((target - self.target[0]) / self.target[1]).astype(np.float32)
        return out

    def in_units(self, y: npt.NDArray[np.floating], task: int) -> F64:
        """Bring standardised predictions of one task back to its unit, inside its range on TRAIN."""
        mean, std, low, high = self.target[:, task]
        out: F64 = np.clip(np.asarray(y, np.float64) * std + mean, low, high)
        return out
