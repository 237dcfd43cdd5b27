"""All episodes of one agent on one market: the result of a run, from which tables, files and pictures are made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mmsim.metrics.activity import Latency, latency_us
from mmsim.metrics.aggregate import aggregate
from mmsim.metrics.episode import EpisodeResult

_LONGEST = 120  # characters of an agent's name in a file name; file systems take 255 bytes


@dataclass(frozen=True, eq=False)
class MarketResult:
    """One agent on one market.

    Parameters
    ----------
    agent : str
        Name as the user gave it (``"glft"``, ``"strategies/template.py:Template"``).
    dataset : str
        Market.
    simulated : bool
        Whether the market is generated; every table and picture says so.
    episodes : sequence of EpisodeResult
        At least one, in time order.
    split : str
        ``"train"``, ``"validation"`` or ``"test"``.
    """

    agent: str
    dataset: str
    simulated: bool
    episodes: Sequence[EpisodeResult]
    split: str = "test"

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """See `mmsim.metrics.aggregate`."""
        return aggregate(self.episodes)

    @cached_property
    def latency(self) -> Latency:
        """Wall clock of one decision, us."""
        return latency_us(self.episodes)

    @cached_property
    def fills_sha256(self) -> str:
        """sha256 over the bytes of the episodes' FILL arrays, one after the other."""
        digest = hashlib.sha256()
        for ep in self.episodes:
            digest.update(np.ascontiguousarray(ep.fills).tobytes())
        return digest.hexdigest()

    @property
    def fills(self) -> int:
        """Number of fills in all episodes."""
        return sum(len(ep.fills) for ep in self.episodes)

    @property
    def decisions(self) -> int:
        """Times the agent was asked."""
        return sum(ep.decisions for ep in self.episodes)

    @property
    def missed(self) -> int:
        """Decision times that passed while the agent was still thinking."""
        return sum(ep.missed for ep in self.episodes)

    @property
    def counters(self) -> dict[str, int]:
        """Events of the sessions, summed over the episodes."""
        total: dict[str, int] = {}
        for ep in self.episodes:
            for key, value in ep.counters.items():
                total[key] = total.get(key, 0) + int(value)
        return total

    @property
    def fees(self) -> str:
        """Name of the fee schedule."""
        return self.episodes[0].fees.name if self.episodes else "zero"

    @property
    def currency(self) -> str:
        """Currency of every amount."""
        return self.episodes[0].instrument.currency if self.episodes else ""

    @property
    def inverse(self) -> bool:
        """Whether the contract is inverse: the currency is a coin, a lot a fixed value in the quote currency."""
        return bool(self.episodes) and self.episodes[0].instrument.inverse

    @property
    def kind(self) -> str:
        """``"SIMULATED"`` or ``"real"``."""
        return "SIMULATED" if self.simulated else "real"

    @property
    def slug(self) -> str:
        """The agent's name as part of a file name; a long one ends in a digest of all of it.

        >>> MarketResult("strategies/template.py:Template", "sim-rb", True, ()).slug
        'strategies-template.py-Template'
        """
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.agent).strip("-.") or "agent"
        if len(name) <= _LONGEST:
            return name
        return f"{name[-_LONGEST:]}-{hashlib.sha256(self.agent.encode()).hexdigest()[:8]}".lstrip("-.")
