"""The reservation-price market maker of Avellaneda and Stoikov (2008)."""

from __future__ import annotations

import math

from mmsim.agent import Observation, Quotes, SessionContext, Strategy, to_ticks, within_limits
from mmsim.errors import ConfigError


class AvellanedaStoikov(Strategy):
    """Avellaneda-Stoikov: reservation price against inventory, spread from risk aversion.

    With inventory z in units, volatility sigma and time to the horizon T - t::

        r      = mid - z gamma sigma^2 (T - t)
        spread = gamma sigma^2 (T - t) + (2 / gamma) ln(1 + gamma / k)

    Parameters
    ----------
    gamma : float
        Risk aversion, > 0, with prices measured in 1/k ticks, so that one value means the same on
        every market: the paper's gamma per tick is ``gamma * k``.
    horizon_s : float, optional
        T - t is the time left in the episode but at most this many seconds; None: the time left.
    size_units : int
        Quantity on each side, units.

    Notes
    -----
    sigma (ticks per square-root second) and k (per tick) are calibrated on the training split.
    Source: M. Avellaneda and S. Stoikov (2008), High-frequency trading in a limit order book,
    Quantitative Finance 8(3), equations 29 and 30. The moving horizon is mmsim's choice: over a whole
    trading session the formula leaves the market.
    """

    gamma: float = 0.1
    horizon_s: float | None = 10.0
    size_units: int = 1

    def reset(self, ctx: SessionContext) -> None:
        if self.gamma <= 0:
            raise ConfigError(f"AvellanedaStoikov: expected gamma > 0, was {self.gamma:g}")
        self.at_least(horizon_s=0, size_units=1)
        self._ctx = ctx
        sigma, k = ctx.constants("sigma", "k")
        self._gamma = self.gamma * k  # per tick
        self._risk = self._gamma * sigma**2  # ticks per second and unit of inventory
        self._base = math.log1p(self._gamma / k) / self._gamma  # ticks, half the constant part

    def quote(self, obs: Observation) -> Quotes:
        ctx = self._ctx
        left_s = max(obs.time_left_ns, 0) * 1e-9
        if self.horizon_s is not None:
            left_s = min(left_s, self.horizon_s)
        reservation_px = obs.mid2 / 2 - obs.inventory / ctx.unit * self._risk * left_s
        half = self._risk * left_s / 2 + self._base
        bid_px, ask_px = to_ticks(reservation_px - half, 1), to_ticks(reservation_px + half, -1)
        return within_limits(bid_px, ask_px, self.size_units * ctx.unit, obs, ctx)
