"""The single student: CMM's control, one network of the same total size (no torch)."""

from __future__ import annotations

from mmsim.agent import Observation, SessionContext
from mmsim_agents.cmm.brain import Brain, Prediction
from mmsim_agents.cmm.checkpoint import Checkpoint, cached
from mmsim_agents.cmm.maker import PredictiveMaker
from mmsim_agents.cmm.order_rule import RuleParams


class Student(PredictiveMaker):
    """One distilled student with CMM's total number of parameters, for all three tasks at once.

    Parameters
    ----------
    kappa, rho, max_units, slack
        Constants of the order rule; None: the card's.
    """

    name = "student"

    _brain: Brain
    _source: Checkpoint | None = None

    def reset(self, ctx: SessionContext) -> None:
        """Load the checkpoint of ``ctx.dataset`` (once per process) and forget the last episode."""
        ckpt = cached(ctx.checkpoints, ctx.dataset, self.name)
        if ckpt is not self._source:
            self._brain = Brain(
                ckpt.shape, ckpt.weights, ckpt.norm, None, ckpt.thresholds, ckpt.span, unit=ctx.unit,
                where=f"checkpoint {ctx.dataset}/{self.name}",
            )  # fmt: skip
            self._source = ckpt
        self._brain.reset()
        super().reset(ctx)

    def card_rule(self) -> RuleParams:
        """Return the constants chosen on validation."""
        return self._source.rule if self._source is not None else RuleParams()

    def predict(self, obs: Observation) -> Prediction | None:
        """Return the student's predictions; None until 20 decisions were seen."""
        return self._brain.push(obs.raw)
