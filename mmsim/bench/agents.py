"""The strategies and the physics of the replay cases, as `tests/benchmarks/peer_hftbacktest.py` has them."""

from __future__ import annotations

from typing import Any, ClassVar

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.compiled import CompiledStrategy, set_quotes
from mmsim.config import LatencyConfig, SimConfig


class Idle(CompiledStrategy):
    """Wakes and quotes nothing."""

    levels_read: ClassVar[int] = 1

    @staticmethod
    def decide(obs: Any, want: Any, params: Any, memory: Any) -> None:
        """Ask for nothing."""


class TouchMaker(CompiledStrategy):
    """One lot on both sides, `back` ticks behind the touch; the loaded side a tick further per `lean` lots."""

    levels_read: ClassVar[int] = 1

    lean: int = 20
    back: int = 0

    @staticmethod
    def decide(obs: Any, want: Any, params: Any, memory: Any) -> None:  # noqa: ARG004
        """Ask for two quotes."""
        held, lean, back = obs.inventory, params.lean, params.back
        bid, ask = obs.bid_px - back, obs.ask_px + back
        if held > 0:
            bid -= held // lean
        else:
            ask += -held // lean
        set_quotes(want, bid, 1, ask, 1)


class PythonMaker(Strategy):
    """`TouchMaker` at the touch, in plain Python."""

    levels_read: ClassVar[int] = 1

    lean: int = 20

    def quote(self, obs: Observation) -> Quotes:
        """Return two quotes."""
        held = obs.inventory
        bid, ask = obs.bid_px, obs.ask_px
        if held > 0:
            bid -= held // self.lean
        else:
            ask += -held // self.lean
        return Quotes(((bid, 1),), ((ask, 1),))


def simulation(delay_ns: int = 0) -> SimConfig:
    """Return the physics of every replay case: 1 ms each way, quotes always replaced."""
    return SimConfig(
        latency=LatencyConfig(feed=delay_ns, order=1_000_000, ack=1_000_000),
        replace="always",
        queue_model="power",
        queue_power=2.0,
        max_inventory_units=1_000_000,
    )
