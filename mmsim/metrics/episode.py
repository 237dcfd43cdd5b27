"""What one agent did in one episode: the input of every metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mmsim.types import FILL, STEP, FeeSchedule, Instrument


@dataclass(frozen=True, eq=False)
class EpisodeResult:
    """The ledger of one agent in one episode, flat at its start.

    Parameters
    ----------
    agent, dataset : str
        Who ran where.
    index : int
        Zero-based episode in the split.
    instrument : Instrument
        Tick size, lot size and multiplier turn half-ticks into currency.
    fees : FeeSchedule
        Charged on `fills` by the metrics; cash in `steps` is before fees (and no money if the contract is inverse).
    start_ts, end_ts : int
        ns since the epoch.
    fills : ndarray of FILL, shape (n_fills,)
        In time order, the closing of the residual inventory included.
    steps : ndarray of STEP, shape (n_steps,)
        One row per decision time, in time order.
    final_mid2 : int
        bid + ask in ticks at the end of the episode; marks what could not be closed.
    max_inventory : int
        Limit of the absolute inventory, lots.
    counters : mapping of str to int
        Events of the session: ``decisions`` (agent asked), ``missed`` (still thinking), ``one_sided`` (no two-sided
        book), ``orders`` sent, ``cancels`` sent, ``rejects``, ... A key that is absent counts 0.
    """

    agent: str
    dataset: str
    index: int
    instrument: Instrument
    fees: FeeSchedule
    start_ts: int
    end_ts: int
    fills: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, FILL))
    steps: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, STEP))
    final_mid2: int = 0
    max_inventory: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def decisions(self) -> int:
        """Times the agent was asked."""
        return int(self.counters.get("decisions", int(self.steps["asked"].sum())))

    @property
    def missed(self) -> int:
        """Decision times that passed while the agent was still thinking."""
        return int(self.counters.get("missed", 0))

    @property
    def duration_s(self) -> float:
        """Length of the episode, seconds."""
        return (self.end_ts - self.start_ts) / 1e9
