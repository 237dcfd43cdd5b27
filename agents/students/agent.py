"""The agents that were distilled from the teacher, and the simplest of them (no torch)."""

from __future__ import annotations

from typing import ClassVar

from mmsim.agent import Observation, SessionContext
from mmsim_agents.common.checkpoint import cached
from mmsim_agents.common.maker import PredictiveMaker
from mmsim_agents.common.order_rule import RuleParams
from mmsim_agents.common.tasks import Prediction
from mmsim_agents.students.brain import Brain
from mmsim_agents.students.checkpoint import Checkpoint


class Distilled(PredictiveMaker):
    """Base of the agents that predict by students: they read a checkpoint and ask its brain.

    Parameters
    ----------
    kappa, rho, max_units, slack
        Constants of the order rule; None: the card's.
    """

    kind: ClassVar[type[Checkpoint]] = Checkpoint

    _brain: Brain
    _source: Checkpoint | None = None

    def reset(self, ctx: SessionContext) -> None:
        """Load the checkpoint of ``ctx.dataset`` (once per process) and forget the last episode."""
        source = cached(ctx.checkpoints, ctx.dataset, self.name, self.kind.parse)
        if source is not self._source:
            self._brain = self.brain(source, ctx.unit, f"checkpoint {ctx.dataset}/{self.name}")
            self._source = source
        self._brain.reset()
        super().reset(ctx)

    def brain(self, source: Checkpoint, unit: int, where: str) -> Brain:
        """Return what predicts; `where` names the checkpoint in an error message."""
        return source.brain(unit, where)

    def card_rule(self) -> RuleParams:
        """Return the constants chosen on validation."""
        return self._source.rule if self._source is not None else RuleParams()

    def predict(self, obs: Observation) -> Prediction | None:
        """Return the brain's predictions; None until 20 decisions were seen."""
        return self._brain.push(obs.record)


class Student(Distilled):
    """One distilled student with CMM's total number of parameters, for all three tasks at once.

    It is CMM's control. Parameters are those of the order rule, see `Distilled`.
    """

    name = "student"
