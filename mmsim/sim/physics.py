"""The physics of one run, resolved: a configuration, and whatever it names outside of the simulator.

A `SimConfig` may name a fitted queue model, a user's function or a market that reacts. Whoever starts a run
looks these up (`mmsim.resolve.physics_of`) and hands the session one frozen `Physics`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mmsim.config import SimConfig
from mmsim.errors import ConfigError
from mmsim.sim import records as R
from mmsim.types import Episode, MarketData

_CODES = {
    "proportional": R.Q_PROPORTIONAL,
    "risk_averse": R.Q_RISK_AVERSE,
    "power": R.Q_POWER,
    "log": R.Q_LOG,
    "fitted": R.Q_POWER,
}


@dataclass(frozen=True)
class QueueModel:
    """The queue model of level feeds as the kernel takes it.

    Parameters
    ----------
    code : int
        ``records.Q_*``.
    power : int
        Exponent of Q_POWER, millionths.
    address : int
        Of the function for Q_CUSTOM.
    function : object
        Keeps that function's machine code alive.
    """

    code: int = R.Q_PROPORTIONAL
    power: int = 0
    address: int = 0
    function: Any = None


class LiveMarket(Protocol):
    """A market that makes its rows as it goes (`mmsim.flow.reactive.ReactiveMarket`)."""

    n_slots: int

    def begin(self, episode: Episode) -> tuple[npt.NDArray[np.void], int]:
        """Make the market up to the start of `episode`; return the buffer of its rows and how many there are."""

    def react(self, sim: Any, lat: Any, ring: Any, fills: Any, lad: Any) -> npt.NDArray[np.void]:
        """Answer what the session's orders did and make the next rows; return the buffer that holds them."""


@dataclass(frozen=True)
class Physics:
    """What a session runs on: configuration, queue model, and the market that reacts if there is one.

    Parameters
    ----------
    sim : SimConfig
    queue : QueueModel
    live : callable, optional
        Makes the reactive market from the market data and the time between decisions, ns.
    """

    sim: SimConfig
    queue: QueueModel
    live: Callable[[MarketData, int], LiveMarket] | None = None

    @classmethod
    def of(
        cls,
        sim: SimConfig,
        *,
        power: float | None = None,
        address: int = 0,
        function: Any = None,
        live: Callable[[MarketData, int], LiveMarket] | None = None,
    ) -> Physics:
        """Return the physics of `sim`, with what it names.

        Raises
        ------
        ConfigError
            If it names something that was not given.
        """
        own = ":" in sim.queue_model
        if (own and not address) or (sim.queue_model == "fitted" and power is None):
            raise ConfigError(
                f"sim.queue_model {sim.queue_model!r} must be looked up first: make the session by "
                "mmsim.resolve.session_for(data, sim)"
            )
        if sim.impact == "reactive" and live is None:
            raise ConfigError(
                'sim.impact = "reactive" needs its market: make the session by mmsim.resolve.session_for(data, sim)'
            )
        code = R.Q_CUSTOM if own else _CODES[sim.queue_model]
        millionths = round((sim.queue_power if power is None else power) * 1_000_000)
        return cls(sim, QueueModel(code, millionths, address, function), live)
