"""Fixed offsets with an inventory constraint: the simplest market maker."""

from __future__ import annotations

from mmsim.agent import Observation, Quotes, SessionContext, Strategy, within_limits


class FOIC(Strategy):
    """Fixed offsets from the best quotes, inventory bounded by c.

    The bid rests N ticks below the best bid, the ask M ticks above the best ask; at the bound only the
    side that reduces the inventory is quoted.

    Parameters
    ----------
    N, M : int
        Offsets from the best bid and the best ask, ticks; negative ones improve the best quote.
    c : int, optional
        Bound on the absolute inventory, units; default the market's limit.
    size_units : int
        Quantity on each side, units.

    Notes
    -----
    Source: B. Gasperov and Z. Kostanjcar (2021), Market making with signals through deep reinforcement
    learning, IEEE Access 9 (benchmark FOIC).
    """

    N: int = 0
    M: int = 0
    c: int | None = None
    size_units: int = 1

    def reset(self, ctx: SessionContext) -> None:
        self.at_least(c=0, size_units=1)
        self._ctx = ctx

    def quote(self, obs: Observation) -> Quotes:
        ctx = self._ctx
        limit = None if self.c is None else self.c * ctx.unit
        return within_limits(
            obs.bid_px - self.N, obs.ask_px + self.M, self.size_units * ctx.unit, obs, ctx, limit
        )
