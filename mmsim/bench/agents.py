"""The two strategies of the replay cases, as `mmsim.bench.peer_hftbacktest` has them."""

from __future__ import annotations

from mmsim.agent import Observation, Quotes, Strategy


class Idle(Strategy):
    """Wakes and quotes nothing."""

    def quote(self, obs: Observation) -> Quotes:  # noqa: ARG002
        """Return no quotes."""
        return Quotes.none()


class TouchMaker(Strategy):
    """One lot on both sides, `back` ticks behind the touch; the loaded side a tick further per `lean` lots."""

    lean: int = 20
    back: int = 0

    def quote(self, obs: Observation) -> Quotes:
        """Return two quotes."""
        held = obs.inventory
        bid, ask = obs.bid_px - self.back, obs.ask_px + self.back
        if held > 0:
            bid -= held // self.lean
        else:
            ask += -held // self.lean
        return Quotes(((bid, 1),), ((ask, 1),))
