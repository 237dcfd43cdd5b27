"""Offsets from the mid-price that lean linearly against the inventory."""

from __future__ import annotations

from mmsim.agent import Observation, Quotes, SessionContext, Strategy, to_ticks, within_limits
from mmsim.errors import ConfigError


class LIIC(Strategy):
    """Quotes linear in the inventory: ask = mid + a + b z, bid = mid - a + b z.

    Parameters
    ----------
    a : float, optional
        Half-spread, ticks; default half the market's calibrated mean spread, in whole half-ticks.
    b : float, optional
        Shift of both quotes per unit of inventory z, ticks, at most 0; default ``-a`` divided by the
        bound, so that at the bound the reducing quote stands at the mid.
    c : int, optional
        Bound on the absolute inventory, units; default the market's limit.
    size_units : int
        Quantity on each side, units.

    Notes
    -----
    Source: B. Gasperov and Z. Kostanjcar (2021), Market making with signals through deep reinforcement
    learning, IEEE Access 9 (benchmark LIIC). The defaults are mmsim's.
    """

    a: float | None = None
    b: float | None = None
    c: int | None = None
    size_units: int = 1

    def reset(self, ctx: SessionContext) -> None:
        self.at_least(c=0, size_units=1)
        self._ctx = ctx
        self._limit = ctx.max_inventory if self.c is None else min(self.c * ctx.unit, ctx.max_inventory)
        # rounded down to half-ticks: a hair more than half the spread would quote one tick behind the best
        self._half = max(int(ctx.constants("mean_spread")[0]), 1) / 2 if self.a is None else self.a
        self._lean = -self._half * ctx.unit / max(self._limit, 1) if self.b is None else self.b
        if self._half <= 0 or self._lean > 0:
            raise ConfigError(f"LIIC: expected a > 0 and b <= 0, was a={self._half:g}, b={self._lean:g}")

    def quote(self, obs: Observation) -> Quotes:
        ctx = self._ctx
        centre = obs.mid2 / 2 + self._lean * obs.inventory / ctx.unit
        bid_px = to_ticks(centre - self._half, 1)
        ask_px = to_ticks(centre + self._half, -1)
        return within_limits(bid_px, ask_px, self.size_units * ctx.unit, obs, ctx, self._limit)
