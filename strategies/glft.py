"""The stationary market maker of Gueant, Lehalle and Fernandez-Tapia (2013)."""

from __future__ import annotations

import math

from mmsim.agent import Observation, Quotes, SessionContext, Strategy, to_ticks, within_limits
from mmsim.errors import ConfigError


class GLFT(Strategy):
    """Gueant-Lehalle-Fernandez-Tapia: the stationary optimum under an inventory limit.

    With inventory z in units, volatility sigma and fill intensity ``A exp(-k distance)``::

        c   = (1 / gamma) ln(1 + gamma / k)
        K   = sqrt(sigma^2 gamma / (2 k A) (1 + gamma / k)^(1 + k / gamma))
        bid = mid - c - (2 z + 1) / 2 K
        ask = mid + c - (2 z - 1) / 2 K

    Parameters
    ----------
    gamma : float
        Risk aversion, > 0, with prices measured in 1/k ticks, so that one value means the same on
        every market: the paper's gamma per tick is ``gamma * k``.
    size_units : int
        Quantity on each side, units.

    Notes
    -----
    sigma (ticks per square-root second), A (per second) and k (per tick) are calibrated on the training
    split. Source: O. Gueant, C.-A. Lehalle and J. Fernandez-Tapia (2013), Dealing with the inventory
    risk, Mathematics and Financial Economics 7, the asymptotic closed-form approximation.
    """

    gamma: float = 0.05
    size_units: int = 1

    def reset(self, ctx: SessionContext) -> None:
        if self.gamma <= 0:
            raise ConfigError(f"GLFT: expected gamma > 0, was {self.gamma:g}")
        self.at_least(size_units=1)
        self._ctx = ctx
        sigma, rate, k = ctx.constants("sigma", "A", "k")
        gamma = self.gamma * k  # per tick
        self._offset = math.log1p(gamma / k) / gamma
        growth = (1 + gamma / k) ** (1 + k / gamma)
        self._skew = math.sqrt(sigma**2 * gamma / (2 * k * rate) * growth)  # ticks per unit of inventory

    def quote(self, obs: Observation) -> Quotes:
        ctx = self._ctx
        mid, z = obs.mid2 / 2, obs.inventory / ctx.unit
        bid_px = to_ticks(mid - self._offset - (2 * z + 1) / 2 * self._skew, 1)
        ask_px = to_ticks(mid + self._offset - (2 * z - 1) / 2 * self._skew, -1)
        return within_limits(bid_px, ask_px, self.size_units * ctx.unit, obs, ctx)
