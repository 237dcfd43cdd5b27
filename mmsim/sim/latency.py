"""How long the agent thinks, as far as the simulation is concerned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim.config import SimConfig
from mmsim.errors import ConfigError


class LatencyModel:
    """Decision latency of one agent: constant, or drawn from its recorded wall-clock latencies.

    Parameters
    ----------
    constant_ns : int
        Latency of every decision if there is no profile, ns.
    profile_ns : ndarray of int64, optional
        Recorded latencies, ``(n,)`` ns; one is drawn for each decision by the run's seed.
    """

    def __init__(self, constant_ns: int = 0, profile_ns: npt.NDArray[np.int64] | None = None) -> None:
        if profile_ns is not None and (len(profile_ns) == 0 or int(np.min(profile_ns)) < 0):
            raise ConfigError("latency profile: expected at least one latency and none negative")
        self.constant_ns = constant_ns
        self.profile_ns = profile_ns
        self._drawn: list[int] = []
        self._rng = np.random.default_rng(0)

    @classmethod
    def from_config(cls, sim: SimConfig) -> LatencyModel:
        """Return the constant model that `sim` describes."""
        if sim.latency == "profile":
            raise ConfigError("latency 'profile' needs the agent's recorded latencies: use `mmsim run`")
        return cls(sim.decision_latency_ns if sim.latency == "fixed" else 0)

    def start(self, seed: int, episode: int) -> None:
        """Restart the draws for one episode."""
        self._rng = np.random.default_rng([seed, episode, 0x1A7])
        self._drawn = []

    def draw(self) -> int:
        """Return the latency of the next decision, ns."""
        if self.profile_ns is None:
            return self.constant_ns
        if not self._drawn:
            picks = self._rng.integers(0, len(self.profile_ns), 1024)
            self._drawn = self.profile_ns[picks].tolist()
        return self._drawn.pop()
