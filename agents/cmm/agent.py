"""The CMM agent: 27 distilled students, fused by Hajek-MoE, quoting by the order rule (no torch)."""

from __future__ import annotations

from typing import Any

from mmsim.errors import ConfigError, did_you_mean
from mmsim_agents.cmm.checkpoint import FusedCheckpoint
from mmsim_agents.students.agent import Distilled
from mmsim_agents.students.brain import Brain


class CMM(Distilled):
    """Cooperative market making (mmsim's reconstruction): students of layer x task x regime, fused.

    Parameters
    ----------
    fusion : str
        ``hajek`` (consensus weights with the prior chosen on validation), ``hajek_pure`` (no prior),
        ``mean``, ``validation`` (weights proportional to 1 / validation MSE) or ``regime``.
    kappa, rho, max_units, slack
        Constants of the order rule; None: the card's.
    """

    name = "cmm"
    kind = FusedCheckpoint
    fusion: str = "hajek"

    def brain(self, source: Any, unit: int, where: str) -> Brain:
        """Return what predicts by the fusion asked for."""
        known = sorted(source.fusions)
        if self.fusion not in known:
            raise ConfigError(
                f"CMM.fusion: expected one of {', '.join(known)}, was {self.fusion!r}"
                f"{did_you_mean(self.fusion, known)}"
            )
        made: Brain = source.brain(unit, where, self.fusion)
        return made
