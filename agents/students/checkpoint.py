"""What the checkpoint of a student ensemble holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mmsim_agents.common import checkpoint
from mmsim_agents.common.checkpoint import Arrays, Card
from mmsim_agents.common.order_rule import RuleParams
from mmsim_agents.students.brain import Brain
from mmsim_agents.students.normaliser import Normaliser
from mmsim_agents.students.shape import WEIGHTS, Shape


@dataclass(frozen=True)
class Checkpoint:
    """Everything an agent needs to predict and quote; ``card`` is the JSON card as written.

    ``thresholds`` and ``span`` are those of the volatility regimes, ``rule`` the order rule's constants.
    """

    shape: Shape
    weights: dict[str, npt.NDArray[np.float32]]
    norm: Normaliser
    thresholds: npt.NDArray[np.float64]
    span: int
    rule: RuleParams
    card: Card

    def brain(self, unit: int, where: str = "students") -> Brain:
        """Return what predicts on a market with a usual order size of `unit` lots; `where` names the checkpoint."""
        return Brain(self.shape, self.weights, self.norm, self.thresholds, self.span, unit, where)

    def arrays(self) -> Arrays:
        """Return what is stored as arrays; weights in float16."""
        return {k: self.weights[k].astype(np.float16) for k in WEIGHTS} | {
            "mean": self.norm.mean.astype(np.float32),
            "std": self.norm.std.astype(np.float32),
            "target": self.norm.target,
            "thresholds": self.thresholds,
        }

    def write(self, folder: Path, agent: str) -> None:
        """Write the checkpoint of `agent` into `folder`."""
        card = {
            "shape": asdict(self.shape),
            "parameters": self.shape.parameters,
            "span": self.span,
            "rule": asdict(self.rule),
            **self.card,
        }
        checkpoint.write(folder, agent, self.arrays(), card)

    @classmethod
    def parse(cls, arrays: Arrays, card: Card) -> Self:
        """Make one of what was read; for `mmsim_agents.common.checkpoint.read`."""
        return cls(**parts(arrays, card))


def parts(arrays: Arrays, card: Card) -> dict[str, Any]:
    """Return the fields of a `Checkpoint` by name."""
    return {
        "shape": Shape(**card["shape"]),
        "weights": {k: arrays[k].astype(np.float32) for k in WEIGHTS},
        "norm": Normaliser(arrays["mean"], arrays["std"], arrays["target"]),
        "thresholds": arrays["thresholds"],
        "span": int(card["span"]),
        "rule": RuleParams(**card["rule"]),
        "card": card,
    }


def half(weights: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights as float16 stores them: what is measured must be what is shipped."""
    return {k: v.astype(np.float16).astype(np.float32) for k, v in weights.items()}
