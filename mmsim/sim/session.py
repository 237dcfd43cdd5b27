"""The session: replays one market for one agent at a time.

The same object serves the comparison runs (`Session.run`), the Gymnasium environment (`start`,
`step`) and the recording of training data (`record`), so that all three share the physics.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from mmsim import _jit  # (a kernel file is one that imports from it: this is none, see `_jit`)
from mmsim.agent import Agent, Quotes
from mmsim.compiled import CompiledStrategy, quotes_in
from mmsim.errors import HookTimeout, Status, told
from mmsim.metrics.episode import EpisodeResult
from mmsim.records import OBSERVATION
from mmsim.sim import hooks, limits
from mmsim.sim.kernel import advance_compiled
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.stepping import Stepper
from mmsim.sim.watch import Watch
from mmsim.types import FILL, STEP, Episode

_HAND_OVER = 1 << 14  # rows of a step table that is not copied for the result


def _copied(rows: npt.NDArray[np.void], kind: np.dtype[np.void]) -> npt.NDArray[np.void]:
    # bytes: numpy copies records field by field, which takes longer than to write them
    out = np.empty(len(rows), kind)
    out.view(np.uint8)[:] = rows.view(np.ndarray).view(np.uint8)
    return out


class Session(Stepper):
    """Replays one market for one agent at a time.

    Parameters
    ----------
    data : MarketData
        The market.
    physics : Physics or SimConfig, optional
        Latencies, queue model, limits. A configuration that names a fitted or a user's own queue model or a market
        that reacts must be resolved first: `mmsim.resolve.session_for`.
    seed : int, optional
        Seed of everything random in the run; default ``sim.seed``.
    calibration : mapping of str to float, optional
        Fitted constants handed to the agent.
    checkpoints : Path, optional
        Folder of checkpoint folders for trained agents; default: the shipped ones.

    Raises
    ------
    ConfigError
        For an unknown fee schedule, or limits and latencies that the engine cannot hold (`mmsim.sim.limits`).
    """

    def run(
        self,
        agent: Agent,
        episode: Episode,
        index: int = 0,
        *,
        decision_latency: DecisionLatency | None = None,
        most_steps: int | None = None,
        limit_s: float | None = None,
    ) -> EpisodeResult:
        """Run `agent` through `episode` and return what happened.

        Parameters
        ----------
        agent, episode, index
            Who, where, and the episode's number (part of every seed).
        decision_latency : DecisionLatency, optional
            Default: as the configuration says.
        most_steps : int, optional
            Stop after so many decisions, with whatever inventory there is (for measuring latency, not for
            results).
        limit_s : float, optional
            Longest time that one call of the agent may take, seconds. Python code only: a compiled `decide` or
            a C library that never returns cannot be interrupted.

        Raises
        ------
        AgentError
            If the agent raises, exits, takes too long or asks for something invalid; its own exception is the cause.
        ConfigError
            If more is under way or traded than the engine holds exactly (`mmsim.sim.limits`).
        """
        model = decision_latency or DecisionLatency.from_config(self.sim.latency)
        model.start(self.seed, index)
        try:
            with hooks.process_kept(), Watch(limit_s, self._task) as watch:
                self._play(agent, episode, index, model, most_steps)
            if watch.tripped:  # the agent swallowed what was raised in it
                raise watch.late
        except HookTimeout as err:
            raise self._fault(f"{self._doing or 'a decision'} {told(err)}") from err
        finally:
            self._doing = ""
        return self.result(agent, episode, index)

    def _task(self) -> object:
        # What the agent is at: the kernel notes itself that it waits for the answer to a decision.
        decision = self._state.decision
        return self._doing or (int(decision.index) if decision.asked else None)

    def _play(
        self, agent: Agent, episode: Episode, index: int, model: DecisionLatency, most_steps: int | None
    ) -> None:
        kind = type(agent)
        own = kind.on_fill is not Agent.on_fill or kind.quote is not CompiledStrategy.quote  # Python to call
        if isinstance(agent, CompiledStrategy) and not own and most_steps is None:
            self._play_compiled(agent, episode, index, model)
            return
        clock, quote, step, draw = time.perf_counter_ns, agent.quote, self.step, model.draw
        obs = self.start(episode, agent, index)
        with hooks.hook(self._agent_name, "last_latency_ns"):
            recalls = hasattr(agent, "last_latency_ns")
        while obs is not None:
            begin = clock()
            try:
                quotes = quote(obs)
                wall = clock() - begin
                if recalls:
                    wall = hooks.recalled(agent, wall)
            except (*hooks.PASS, HookTimeout):  # e.g. a library that is not installed: not the agent's fault
                raise
            except BaseException as err:
                raise self._fault(f"quote {told(err)}") from err
            obs = step(quotes, draw(), wall)
            if most_steps is not None and self._state.counters.decisions > most_steps:
                break

    def _play_compiled(
        self, agent: CompiledStrategy, episode: Episode, index: int, model: DecisionLatency
    ) -> None:
        self._prepare(episode, agent, index)
        address, params, memory = agent.machine()
        args = (address, params, memory, model.table())
        if self._compiled is None:
            self._compiled = _jit.entry_point(advance_compiled, *self._arrays(), *args)
        while True:
            try:
                code = self._compiled(*self._arrays(), *args)
            except (KeyboardInterrupt, HookTimeout):
                raise
            except BaseException as err:  # only the strategy's own function can raise in there
                raise self._fault(f"decide {told(err)}") from err
            if code == Status.END:
                break
            if code == Status.BAD_QUOTES:
                try:
                    self._quotes = quotes_in(self._state.want)
                except ValueError as err:
                    raise self._fault(str(err)) from None
            self._resolve(Status(code))
        self._done = True

    def result(self, agent: Agent, episode: Episode, index: int = 0) -> EpisodeResult:
        """Return a copy of what happened in the episode just ended."""
        return self.outcome(hooks.name_of(agent), episode, index)

    def outcome(self, agent: str, episode: Episode, index: int = 0) -> EpisodeResult:
        """Return the same under the name `agent` (an agent of several markets is none of this one's).

        Raises
        ------
        ConfigError
            If more was traded than cash can hold exactly.
        """
        dearest = int(self.fills["px"].max()) if len(self.fills) else 0
        limits.check_traded(int(self._state.account.traded), dearest, self.data.name)
        return EpisodeResult(
            dataset=self.data.name,
            agent=agent,
            index=index,
            fills=_copied(self.fills, FILL),
            steps=self._steps_to_keep(),
            instrument=self.data.instrument,
            fees=self.fees,
            start_ts=episode.start_ts,
            end_ts=episode.end_ts,
            final_mid2=self.mid2,
            max_inventory=self.max_inventory,
            counters=self.counters,
        )

    def _steps_to_keep(self) -> npt.NDArray[np.void]:
        # A long table is handed over, and the next episode gets fresh pages: to copy it would take longer than to
        # run the episode of an idle agent.
        steps = self.steps
        if len(steps) < _HAND_OVER or not self._done:
            return _copied(steps, STEP)
        self._given = True
        return steps.view(np.ndarray)

    def record(self, episode: Episode) -> npt.NDArray[np.void]:
        """Return the observation at every decision while nobody quotes, ``(n,)`` `mmsim.records.OBSERVATION`."""
        rows = []
        obs = self.start(episode)
        nothing = Quotes.none()
        while obs is not None:
            rows.append(obs.record.copy())
            obs = self.step(nothing)
        return np.concatenate(rows) if rows else np.zeros(0, OBSERVATION)
