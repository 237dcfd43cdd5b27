"""A market maker to copy. Change this file, then check it and run it.

On the command line: ``mmsim check-agent strategies/template.py:Template``, then
``mmsim run --agent strategies/template.py:Template --dataset sim-rb --set agent.offset_ticks=2``.
"""

from __future__ import annotations

from mmsim.agent import Fill, Observation, Quotes, SessionContext, Strategy, to_ticks, within_limits


class Template(Strategy):
    """A quote on each side, a fixed offset from the best, shifted against the inventory."""

    # Parameters: annotated, with a default. Each can be set by `--set agent.NAME=VALUE`.
    offset_ticks: int = 1  # how far behind the best bid and ask we quote, ticks
    size_units: int = 1  # quantity on each side; one unit is 1 contract, 100 shares, ... of the market
    skew_ticks: float = 0.2  # shift of both quotes per unit of inventory, ticks

    def reset(self, ctx: SessionContext) -> None:
        # Called at the start of every episode: forget the last one here. `ctx` holds the instrument,
        # the limits (in lots), the unit, a random generator (`ctx.rng`, the only one to use) and the
        # market's calibrated constants (`ctx.constants("sigma", "A", "k")`).
        self.at_least(size_units=1)  # or the error that names the parameter
        self._ctx = ctx
        self._bought = 0

    def quote(self, obs: Observation) -> Quotes:
        # Called at every decision. Prices are whole ticks, quantities whole lots. `obs` is only valid
        # until the next decision; `obs.copy()` keeps one. Return what should rest in the market now:
        # an unchanged quote keeps its place in the queue, `Quotes.none()` cancels everything.
        z = obs.inventory / self._ctx.unit
        shift = -self.skew_ticks * z  # long: quote lower, to sell sooner and buy later
        bid_px = to_ticks(obs.bid_px - self.offset_ticks + shift, 1)  # a bid rounds down
        ask_px = to_ticks(obs.ask_px + self.offset_ticks + shift, -1)  # an ask rounds up
        # Keeps the quotes passive and drops or shrinks the side that would break the inventory limit.
        return within_limits(bid_px, ask_px, self.size_units * self._ctx.unit, obs, self._ctx)

    def on_fill(self, fill: Fill) -> None:
        # Optional: called for every execution of ours, before the next `quote`.
        if fill.side > 0:
            self._bought += fill.qty
