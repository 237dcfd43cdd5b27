"""An agent plays episodes; and what the market shows while nobody quotes.

Whoever runs an agent goes through `opened` and `play`: `mmsim run` and `sensitivity` (through `mmsim.runner`),
latency profiles, the probing orders of `mmsim.scoring`. Whoever only watches goes through `record`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim import registry
from mmsim.agent import Agent
from mmsim.config import SimConfig
from mmsim.errors import DataError
from mmsim.metrics.episode import EpisodeResult
from mmsim.sim import hooks
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.session import Session
from mmsim.types import Episode, MarketData

Tick = Callable[[int, int], None]  # episodes done, episodes in all


def made(spec: str, params: Mapping[str, Any] | None = None, *, limit_s: float | None = None) -> Agent:
    """Return a new agent: `mmsim.registry.make_agent`, where its constructor may take `limit_s` seconds.

    Raises
    ------
    AgentError
        If the constructor raises, exits or takes longer.
    """
    with hooks.hook(spec, "constructor", limit_s=limit_s):
        return registry.make_agent(spec, params)


@contextmanager
def opened(
    spec: str, params: Mapping[str, Any] | None = None, *, limit_s: float | None = None
) -> Iterator[Agent]:
    """Yield a new agent and close it at the end; nothing that its code changed in the process stays.

    Raises
    ------
    AgentError
        If its constructor or ``close`` fails or takes longer than `limit_s` seconds.
    """
    with hooks.process_kept(), hooks.closing(made(spec, params, limit_s=limit_s), limit_s) as agent:
        yield agent


def play(
    agent: Agent,
    session: Session,
    episodes: Sequence[Episode],
    *,
    decision_latency: DecisionLatency | None = None,
    limit_s: float | None = None,
    most_asked: int | None = None,
    tick: Tick | None = None,
) -> Iterator[EpisodeResult]:
    """Run `agent` on one episode after the other and yield each ledger.

    Parameters
    ----------
    decision_latency : DecisionLatency, optional
        Default: what the session's configuration says.
    limit_s : float, optional
        Longest time of one call of the agent, seconds.
    most_asked : int, optional
        Stop once the agent has been asked so often.
    tick : callable, optional
        Called as ``tick(done, total)`` before each episode.

    Raises
    ------
    AgentError
        If the agent fails.
    """
    asked = 0
    for index, episode in enumerate(episodes):
        if tick is not None:
            tick(index, len(episodes))
        left = None if most_asked is None else most_asked - asked
        result = session.run(
            agent, episode, index, decision_latency=decision_latency, limit_s=limit_s, most_steps=left
        )
        yield result
        asked += int(np.count_nonzero(result.steps["asked"] == 1))
        if most_asked is not None and asked >= most_asked:
            return


def record(
    data: MarketData, episodes: Sequence[Episode], sim: SimConfig | None = None, *, tick: Tick | None = None
) -> Iterator[npt.NDArray[np.void]]:
    """Yield what an observer sees in each episode while nobody quotes, ``(n,)`` OBSERVATION; see `Session.record`.

    Parameters
    ----------
    sim : SimConfig, optional
        Physics, of which only the decision times and the feed's latency matter.
    tick : callable, optional
        Called as ``tick(done, total)`` after each episode.
    """
    # (to those who only look, queue models and markets that react are the plain ones)
    plain = (sim or SimConfig()).model_copy(update={"queue_model": "proportional", "impact": "none"})
    session = Session(data, plain)
    for index, episode in enumerate(episodes):
        yield session.record(episode)
        if tick is not None:
            tick(index + 1, len(episodes))


def episodes_of(data: MarketData, split: str, purpose: str = "") -> tuple[Episode, ...]:
    """Return the episodes of a split.

    Parameters
    ----------
    purpose : str
        What they are for, as in ``"to calibrate on"``; for the message.

    Raises
    ------
    DataError
        If there are none; it says which splits have some.
    """
    episodes = tuple(data.splits.get(split, ()))
    if not episodes:
        have = ", ".join(s for s, e in data.splits.items() if e) or "none"
        what = f"no {split} split {purpose}".rstrip()
        raise DataError(f"{what}; it has: {have}", source=data.name)
    return episodes
