"""The maker that turns anybody's predictions into quotes: the base of teacher, CMM and student."""

from __future__ import annotations

import math
from abc import abstractmethod

from mmsim.agent import Observation, Quotes, SessionContext, Strategy
from mmsim_agents.common.order_rule import RuleParams, order_rule
from mmsim_agents.common.tasks import HORIZON, Prediction


class PredictiveMaker(Strategy):
    """Quotes by the shared order rule from predictions of mid change, spread and volume.

    Subclasses implement `predict` and, where they have a card, `card_rule`. A subclass that overrides
    `reset` calls ``super().reset(ctx)`` LAST, when `card_rule` can answer.

    Where `predict` returns None (the feature window is not full yet), the maker predicts no change:
    dm = 0, s = the current spread, v = log1p(HORIZON * mean units traded per decision so far).

    Parameters
    ----------
    kappa, rho, max_units, slack
        Constants of the order rule (`RuleParams`); None: the card's, chosen on validation.
    """

    kappa: float | None = None
    rho: float | None = None
    max_units: int | None = None
    slack: float | None = None

    @abstractmethod
    def predict(self, obs: Observation) -> Prediction | None:
        """Return (dm, s, v): mid change in ticks, spread in ticks, log1p(units traded), `HORIZON` decisions ahead."""

    def card_rule(self) -> RuleParams:
        """Return the order rule's constants that parameters left at None take."""
        return RuleParams()

    def reset(self, ctx: SessionContext) -> None:
        """Prepare for an episode."""
        card = self.card_rule()
        self._rule = RuleParams(
            card.kappa if self.kappa is None else self.kappa,
            card.rho if self.rho is None else self.rho,
            card.max_units if self.max_units is None else self.max_units,
            card.slack if self.slack is None else self.slack,
        )
        self._limits = (ctx.max_inventory, ctx.unit, ctx.max_order)
        self._units = 0.0
        self._seen = 0

    def quote(self, obs: Observation) -> Quotes:
        """Predict, then apply the order rule."""
        prediction = self.predict(obs)
        if self._seen > 0:  # the first decision's sums cover an unknown interval
            self._units += (obs.buy_qty + obs.sell_qty) / self._limits[1]
        self._seen += 1
        if prediction is None:
            mean = self._units / max(self._seen - 1, 1)
            prediction = (0.0, float(obs.spread_ticks), math.log1p(HORIZON * mean))
        dm, s, v = prediction
        bid_px, bid_qty, ask_px, ask_qty = order_rule(
            obs.bid_px, obs.ask_px, dm, s, v, obs.inventory, *self._limits, self._rule
        )
        return Quotes(
            ((bid_px, bid_qty),) if bid_qty > 0 else (),
            ((ask_px, ask_qty),) if ask_qty > 0 else (),
        )
