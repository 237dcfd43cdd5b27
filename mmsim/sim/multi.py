"""Several instruments or venues on one clock, one agent: hedge in one what was filled in another.

Own orders rest in one book each and the tapes do not depend on them, so every market runs in a `Session` of
its own up to the next common decision; there the agent sees all of them at the same local time and answers
for all of them. Nothing can happen between two decisions that another market would have to know.

Each market's own configuration says how long a decision about it takes: its requests leave after that latency. The
agent is busy, for all markets, until the longest latency among those that it was shown has passed.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

from mmsim.agent import Observation, Quotes, SessionContext
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError, told
from mmsim.metrics.episode import EpisodeResult
from mmsim.sim.hooks import PASS, hook
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.physics import Physics
from mmsim.sim.session import Session
from mmsim.types import Episode, MarketData


class MultiAgent(ABC):
    """An agent that quotes several markets. Store parameters in ``__init__``, implement `quote`."""

    def reset(self, contexts: Mapping[str, SessionContext]) -> None:
        """Prepare for an episode: one context per market, by its name."""

    @abstractmethod
    def quote(self, observations: Mapping[str, Observation]) -> Mapping[str, Quotes]:
        """Return the desired quotes of every market in `observations`, all seen at one local time.

        A market whose book has no two sides at that time is missing from it; quotes for it are refused.
        A market that the answer leaves out keeps nothing: its live orders are cancelled.
        """


class MultiSession:
    """Replays several markets for one agent on one grid of decisions.

    Parameters
    ----------
    markets : mapping of str to MarketData
        The markets, by the names that the agent uses.
    sim : SimConfig or mapping of str to SimConfig, optional
        Physics of all markets, or of each; ``decision_interval_ns`` must be the same (and set, unless the
        markets' own intervals agree and are not "one per snapshot"). Everything else, the decision latency
        too, is each market's own.
    calibration : mapping of str to constants, optional
        Fitted constants of each market.

    Raises
    ------
    ConfigError
        If there is no market, no configuration for one, or no common grid.
    """

    def __init__(
        self,
        markets: Mapping[str, MarketData],
        sim: SimConfig | Physics | Mapping[str, SimConfig | Physics] | None = None,
        *,
        calibration: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        if not markets:
            raise ConfigError("expected at least one market, was none")
        if isinstance(sim, Mapping) and (missing := sorted(set(markets) - set(sim))):
            raise ConfigError(f"expected a configuration for every market, was none for {', '.join(missing)}")
        constants = calibration or {}
        self.sessions = {
            name: Session(
                data,
                sim[name] if isinstance(sim, Mapping) else sim,
                calibration=constants.get(name),
            )
            for name, data in markets.items()
        }
        grids = {name: session.decision_ns for name, session in self.sessions.items()}
        if len(set(grids.values())) > 1 or 0 in grids.values():
            raise ConfigError(
                f"expected one grid of decisions, was {grids} ns (0: one per snapshot): set "
                "sim.decision_interval_ns"
            )

    def run(
        self,
        agent: MultiAgent,
        segments: Mapping[str, int],
        start_ts: int,
        end_ts: int,
        index: int = 0,
        *,
        decision_latency: Mapping[str, DecisionLatency] | None = None,
    ) -> dict[str, EpisodeResult]:
        """Run `agent` from `start_ts` to `end_ts` (ns, local time) in the given segment of each market.

        `decision_latency` holds that of markets where it is not what their configuration says (for ``profile``,
        which needs the agent's recorded ones).

        Returns
        -------
        dict of str to EpisodeResult
            What happened in each market.

        Raises
        ------
        AgentError
            If the agent raises, answers for an unknown market, or asks for something invalid.
        """
        episodes = {name: Episode(segments[name], start_ts, end_ts) for name in self.sessions}
        label = type(agent).__name__
        with hook(label, "reset", ts=start_ts):
            agent.reset({name: s.context(episodes[name], index) for name, s in self.sessions.items()})
        given = decision_latency or {}
        models = {
            n: given.get(n) or DecisionLatency.from_config(s.sim.latency) for n, s in self.sessions.items()
        }
        for name, model in models.items():
            model.start(self.sessions[name].seed, index)
        for name, session in self.sessions.items():
            session._agent_name = f"{label} in {name}"
        waiting = {name: s.start(episodes[name], None, index) for name, s in self.sessions.items()}
        busy = start_ts
        step = 0
        while True:
            due = {name: obs for name, obs in waiting.items() if obs is not None}
            if not due:
                break
            now = min(obs.ts for obs in due.values())
            seen = {name: obs for name, obs in due.items() if obs.ts == now}
            if now < busy:  # still thinking about what another market showed
                for name in seen:
                    waiting[name] = self.sessions[name].miss()
                continue
            begin = time.perf_counter_ns()
            try:
                answer = dict(agent.quote(dict(seen)))
                wall = time.perf_counter_ns() - begin
                unknown = sorted(map(str, set(answer) - set(seen)))
            except PASS:
                raise
            except BaseException as err:
                raise AgentError(f"quote {told(err)}", agent=label, decision=step, ts=now) from err
            if unknown:
                raise AgentError(
                    f"expected quotes for {', '.join(seen)}, was {', '.join(unknown)} besides",
                    agent=label,
                    decision=step,
                    ts=now,
                )
            charged = {name: models[name].draw() for name in seen}
            busy = now + max(charged.values())
            step += 1
            for name in seen:
                quotes = answer.get(name, Quotes.none())
                waiting[name] = self.sessions[name].step(quotes, charged[name], wall)
        return {name: s.outcome(label, episodes[name], index) for name, s in self.sessions.items()}
