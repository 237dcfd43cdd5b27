"""The session: owns time, runs the kernel, and asks the agent.

The same object serves the comparison runs (`Session.run`), the Gymnasium environment (`start`,
`step`) and the recording of training data (`record`), so that all three share the physics.
"""

from __future__ import annotations

import copy
import ctypes
import struct
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmsim import _jit  # (a kernel file is one that imports from it: this is none, see `_jit`)
from mmsim.agent import Agent, Fill, Observation, Quotes, SessionContext
from mmsim.compiled import CompiledStrategy, quotes_in
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError, HookTimeout, KernelError, Status, shown, told
from mmsim.metrics.episode import EpisodeResult
from mmsim.records import MAX_LEVELS, OBSERVATION, QUOTES
from mmsim.sim import hooks, limits
from mmsim.sim.engine import Engine
from mmsim.sim.kernel import advance_compiled, pass_over
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.physics import Physics
from mmsim.sim.quotes_check import Limits, QuotesError, checked
from mmsim.sim.records import SIM
from mmsim.sim.watch import Watch
from mmsim.types import FILL, MAX_DEPTH, STEP, Episode, FeeSchedule, MarketData

if TYPE_CHECKING:
    from pathlib import Path

# Into the record of the desired quotes: its head, so many levels of a side, and one level on each side at once.
_HEAD = struct.Struct("6q").pack_into
_LEVELS = [struct.Struct(f"{2 * n}q").pack_into for n in range(MAX_LEVELS + 1)]
_BIDS, _ASKS = (QUOTES.fields[side][1] for side in ("bids", "asks"))  # type: ignore[index]  # (it has fields)
_TWO_SIDED = struct.Struct(f"8q{_ASKS - _BIDS - 16}x2q").pack_into

_HAND_OVER = 1 << 14  # rows of a step table that is not copied for the result


def _copied(rows: npt.NDArray[np.void], kind: np.dtype[np.void]) -> npt.NDArray[np.void]:
    # bytes: numpy copies records field by field, which takes longer than to write them
    out = np.empty(len(rows), kind)
    out.view(np.uint8)[:] = rows.view(np.ndarray).view(np.uint8)
    return out


class Session(Engine):
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

    def __init__(
        self,
        data: MarketData,
        physics: Physics | SimConfig | None = None,
        *,
        seed: int | None = None,
        calibration: Mapping[str, float] | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        if not isinstance(physics, Physics):
            physics = Physics.of(physics or SimConfig())
        sim = physics.sim
        if sim.fees != "zero" and sim.fees not in data.fees:
            known = ", ".join(sorted({"zero", *data.fees}))
            raise ConfigError(f"{data.name} has no fee schedule {sim.fees!r}; it has: {known}")
        super().__init__(data, physics, sim.seed if seed is None else seed)
        self.fees = data.fees.get(sim.fees, FeeSchedule())
        self.calibration = dict(calibration or {})
        self.checkpoints = checkpoints
        at, size = SIM.fields["want"][1], QUOTES.itemsize  # type: ignore[index]  # (it has fields)
        self._want = memoryview(self._sim.view(np.uint8))[at : at + size]  # type: ignore[arg-type]
        self._observation = self._seen()
        self._quotes = Quotes.none()
        self._compiled: Callable[..., int] | None = None
        self._agent_name = "agent"
        self._doing = ""  # what the agent does that is no decision: reset, ...
        self._hear: Callable[[Fill], None] | None = None
        self._heard = 0

    def _seen(self) -> Observation:
        # What an agent is handed, made anew for each episode. It stands on memory that cannot be made writable
        # again, and behind which is nothing but what it shows.
        return Observation(self._shown("obs", 1), self._shown("own_view", -1))

    def _shown(self, name: str, rows: int) -> npt.NDArray[np.void]:
        kind, at = SIM.fields[name][:2]  # type: ignore[index]  # (it has fields)
        base = kind.base
        memory: Any = self._sim.view(np.uint8)  # (numpy's buffers are not typed for 3.11)
        cells = (ctypes.c_uint8 * kind.itemsize).from_buffer(memory, at)
        return np.frombuffer(memoryview(cells).toreadonly(), base)[: rows if rows > 0 else None]

    def context(self, episode: Episode, index: int = 0) -> SessionContext:
        """Return what an agent is told at the start of `episode`."""
        return SessionContext(
            instrument=copy.copy(self.data.instrument),
            dataset=self.data.name,
            max_inventory=self.max_inventory,
            max_order=self.max_order,
            max_levels=self.sim.max_levels,
            unit=self.data.instrument.unit_lots,
            start_ts=episode.start_ts,
            end_ts=episode.end_ts,
            decision_ns=self.decision_ns,
            rng=np.random.default_rng([self.seed, index]),
            calibration=dict(self.calibration),  # its own: what it writes there, no other agent reads
            typical_decision_ns=self.decision_ns or 500_000_000,
            checkpoints=self.checkpoints,
        )

    # ---- stepping ------------------------------------------------------------------------------
    def start(self, episode: Episode, agent: Agent | None = None, index: int = 0) -> Observation | None:
        """Build the book up to the episode, reset `agent`, and run to the first decision.

        Returns
        -------
        Observation or None
            None if the episode holds no decision at all.
        """
        self._prepare(episode, agent, index)
        return self._advance()

    def _prepare(self, episode: Episode, agent: Agent | None, index: int) -> None:
        self._open(episode, index)
        self._observation = self._seen()
        self._heard = 0
        self._hear = None
        if agent is not None:
            self._doing = "reset"
            self._agent_name = hooks.name_of(agent)
            self._state.rules.depth = self._depth_of(agent)
            if type(agent).on_fill is not Agent.on_fill:
                self._hear = agent.on_fill
            with hooks.hook(self._agent_name, "reset", ts=episode.start_ts):
                answer: object = agent.reset(self.context(episode, index))  # type: ignore[func-returns-value]
            self._doing = ""
            if answer is not None:
                said = f"reset returned {shown(answer)}, expected None"
                raise AgentError(said, agent=self._agent_name, ts=episode.start_ts)

    def _depth_of(self, agent: Agent) -> int:
        depth: object = agent.depth
        if not isinstance(depth, int) or not 1 <= depth <= MAX_DEPTH:
            raise AgentError(
                f"depth: expected 1 to {MAX_DEPTH} levels per side, was {shown(depth)}",
                agent=self._agent_name,
            )
        return depth

    def step(self, quotes: Quotes, latency_ns: int = 0, wall_ns: int = 0) -> Observation | None:
        """Send the difference between `quotes` and the live orders, and run to the next decision.

        Parameters
        ----------
        quotes : Quotes
            Desired state.
        latency_ns : int
            Decision latency to charge: requests leave that much later, and decisions due meanwhile
            are missed.
        wall_ns : int
            Measured wall clock of the decision, recorded only.

        Returns
        -------
        Observation or None
            None at the end of the episode: residual inventory is closed and everything recorded.

        Raises
        ------
        AgentError
            If the quotes are not valid.
        """
        if self._done:
            raise ConfigError("the episode is over: call start() for the next one")
        self._quotes = quotes
        try:
            bids, asks, post_only, take = quotes
            if quotes.__class__ is not Quotes or take is True:
                raise TypeError
            n_bid, n_ask = len(bids), len(asks)
            if n_bid == 1 == n_ask:  # by far the most common
                (bid,), (ask,) = bids, asks
                _TWO_SIDED(self._want, 0, 1, 1, post_only, take, latency_ns, wall_ns, *bid, *ask)
            else:
                if max(n_bid, n_ask) > self.sim.max_levels:
                    raise ValueError
                for at, n, levels in ((_BIDS, n_bid, bids), (_ASKS, n_ask, asks)):
                    if any(len(level) != 2 for level in levels):
                        raise ValueError
                    _LEVELS[n](self._want, at, *(x for level in levels for x in level))
                _HEAD(self._want, 0, n_bid, n_ask, post_only, take, latency_ns, wall_ns)
        except (KeyboardInterrupt, HookTimeout):
            raise
        except BaseException:  # noqa: BLE001 (an agent's objects may raise anything)
            self._explain(quotes, latency_ns, wall_ns)  # raises, or packs whole numbers of another type
        return self._advance()

    def miss(self) -> Observation | None:
        """Let the decision pass unanswered, as one that comes while the agent is thinking, and run on."""
        pass_over(self._sim, self._steps)
        return self._advance()

    def _advance(self) -> Observation | None:
        while True:
            code = self._kernel(
                self._ev, self._know, self._lad, self._ords, self._sim, self._lat, self._ring, self._fills,
                self._steps,
            )  # fmt: skip
            if code == Status.DECIDE:
                if self._hear is not None:
                    self._tell()
                return self._observation._refresh()
            if code == Status.END:
                self._done = True
                if self._hear is not None:
                    self._tell()
                return None
            self._resolve(Status(code))

    def _resolve(self, status: Status) -> None:
        if status == Status.BAD_QUOTES:
            self._explain(self._quotes, 0, 0)
            raise KernelError(f"{self.data.name}: valid quotes {shown(self._quotes)} were refused")
        super()._resolve(status)

    def _tell(self) -> None:
        known = int(self._state.account.n_known)
        if self._hear is None or known == self._heard:
            return
        for f in self._fills[self._heard : known]:
            fill = Fill(
                int(f["ts"]), int(f["order_id"]), int(f["side"]), int(f["px"]), int(f["qty"]),
                bool(f["maker"]), int(f["reason"]),
            )  # fmt: skip
            try:
                answer: object = self._hear(fill)
            except (*hooks.PASS, HookTimeout):
                raise
            except BaseException as err:
                raise self._fault(f"on_fill {told(err)}") from err
            if answer is not None:
                raise self._fault(f"on_fill returned {shown(answer)}, expected None")
        self._heard = known

    # ---- checking what the agent asks for --------------------------------------------------------
    def _fault(self, message: str) -> AgentError:
        return AgentError(
            message,
            agent=self._agent_name,
            decision=int(self._state.decision.index),
            ts=int(self._state.decision.ts),
        )

    def _explain(self, quotes: Quotes, latency_ns: int, wall_ns: int) -> None:
        # The kernel refuses the same quotes without words (`requests.quotes_valid`).
        bounds = Limits(
            int(self._state.account.known_inventory), self.max_inventory, self.max_order, self.sim.max_levels
        )
        try:
            flat = checked(quotes, bounds)
        except QuotesError as err:
            raise self._fault(str(err)) from None
        except (KeyboardInterrupt, HookTimeout):
            raise
        except BaseException as err:
            raise self._fault(f"its quotes {told(err)}") from err
        (n_bid, n_ask, post_only, take), bids, asks = flat
        _HEAD(self._want, 0, n_bid, n_ask, post_only, take, latency_ns, wall_ns)
        _LEVELS[n_bid](self._want, _BIDS, *bids)
        _LEVELS[n_ask](self._want, _ASKS, *asks)

    # ---- whole episodes --------------------------------------------------------------------------
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
