"""The CMM agent: 27 distilled students, fused by Hajek-MoE, quoting by the order rule (no torch)."""

from __future__ import annotations

from mmsim.agent import Observation, SessionContext
from mmsim.errors import ConfigError, did_you_mean
from mmsim_agents.cmm.brain import Brain, Prediction
from mmsim_agents.cmm.checkpoint import Checkpoint, cached
from mmsim_agents.cmm.maker import PredictiveMaker
from mmsim_agents.cmm.order_rule import RuleParams


class CMM(PredictiveMaker):
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
    fusion: str = "hajek"

    _brain: Brain
    _source: Checkpoint | None = None

    def reset(self, ctx: SessionContext) -> None:
        """Load the checkpoint of ``ctx.dataset`` (once per process) and forget the last episode."""
        ckpt = cached(ctx.checkpoints, ctx.dataset, self.name)
        if ckpt is not self._source:
            if self.fusion not in ckpt.fusions:
                known = sorted(ckpt.fusions)
                raise ConfigError(
                    f"CMM.fusion: expected one of {', '.join(known)}, was {self.fusion!r}"
                    f"{did_you_mean(self.fusion, known)}"
                )
            self._brain = Brain(
                ckpt.shape, ckpt.weights, ckpt.norm, ckpt.fusions[self.fusion], ckpt.thresholds, ckpt.span,
                unit=ctx.unit, where=f"checkpoint {ctx.dataset}/{self.name}",
            )  # fmt: skip
            self._source = ckpt
        self._brain.reset()
        super().reset(ctx)

    def card_rule(self) -> RuleParams:
        """Return the constants chosen on validation."""
        return self._source.rule if self._source is not None else RuleParams()

    def predict(self, obs: Observation) -> Prediction | None:
        """Return the fused predictions; None until 20 decisions were seen."""
        return self._brain.push(obs.raw)
