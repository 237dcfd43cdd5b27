"""Size of a student ensemble, and its parameters as plain arrays (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError
from mmsim.features import N_FEATURES, WINDOW
from mmsim_agents.students.forward import PATCH

WEIGHTS = ("w1", "b1", "w2", "b2", "w3", "b3", "wz", "bz", "wy", "by")


@dataclass(frozen=True)
class Shape:
    """Architecture of `experts` students of one size.

    A causal convolution over patches of 4 decisions (``c1`` channels), a second one over 5 such
    patches (``c2``), then an MLP on it and the newest features (``hidden``), which gives the feature z
    (``feature`` numbers) and ``outputs`` predictions.
    """

    experts: int = 27
    c1: int = 16
    c2: int = 32
    hidden: int = 64
    feature: int = 64
    outputs: int = 1
    inputs: int = N_FEATURES

    @property
    def taps(self) -> int:
        """Patches that the second convolution reads."""
        return WINDOW // PATCH

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight array, in the order of `WEIGHTS`."""
        m = self.experts
        return {
            "w1": (PATCH * self.inputs, m * self.c1),
            "b1": (m * self.c1,),
            "w2": (m, self.taps * self.c1, self.c2),
            "b2": (m, self.c2),
            "w3": (m, self.c2 + self.inputs, self.hidden),
            "b3": (m, self.hidden),
            "wz": (m, self.hidden, self.feature),
            "bz": (m, self.feature),
            "wy": (m, self.hidden, self.outputs),
            "by": (m, self.outputs),
        }

    @property
    def parameters(self) -> int:
        """Parameters of all students together."""
        return sum(int(np.prod(s)) for s in self.arrays().values())

    @classmethod
    def single(cls, total: int, outputs: int = 3) -> Shape:
        """Return one student with (about) `total` parameters: the same layers, widened alike.

        >>> big, all27 = Shape.single(Shape().parameters), Shape()
        >>> abs(big.parameters / all27.parameters - 1) < 0.02
        True
        """
        best = None
        for step in range(2, 201):
            k = 4 * step  # widths stay multiples of 8
            shape = cls(experts=1, c1=k // 2 * 2, c2=2 * k, hidden=4 * k, outputs=outputs)
            if best is None or abs(shape.parameters - total) < abs(best.parameters - total):
                best = shape
        assert best is not None
        # The hidden width fine-tunes what the common factor leaves.
        options = [
            cls(experts=1, c1=best.c1, c2=best.c2, hidden=h, outputs=outputs)
            for h in range(max(8, best.hidden - 64), best.hidden + 72, 8)
        ]
        return min(options, key=lambda s: abs(s.parameters - total))


def check_weights(weights: dict[str, npt.NDArray[np.float32]], shape: Shape, where: str) -> None:
    """Check that every weight array is there, finite, and of its shape.

    Raises
    ------
    ConfigError
        Naming the array.
    """
    for name, want in shape.arrays().items():
        if name not in weights:
            raise ConfigError(f"{where}: expected an array {name!r}, was missing; train it again")
        got = weights[name]
        if got.shape != want or not np.isfinite(got).all():
            raise ConfigError(
                f"{where}: expected finite {name!r} of shape {want}, was {got.shape}; train it again"
            )
