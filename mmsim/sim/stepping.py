"""From one decision to the next: an agent's hooks and quotes around the kernel, and what went wrong in words."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mmsim.agent import Agent, Fill, Observation, Quotes, SessionContext
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError, HookTimeout, KernelError, Status, shown, told
from mmsim.sim import hooks
from mmsim.sim.engine import Engine
from mmsim.sim.handover import pad, read_only_observation, write_numbers, write_quotes
from mmsim.sim.kernel import pass_over
from mmsim.sim.physics import Physics
from mmsim.sim.quotes_check import Limits, QuotesError, checked
from mmsim.types import MAX_DEPTH, Episode, FeeSchedule, MarketData

if TYPE_CHECKING:
    from pathlib import Path


class Stepper(Engine):
    """Asks one agent, decision by decision; `mmsim.sim.session.Session` plays whole episodes with it."""

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
        self._want = pad(self._sim)
        self._observation = read_only_observation(self._sim)
        self._quotes = Quotes.none()
        self._compiled: Callable[..., int] | None = None
        self._agent_name = "agent"
        self._doing = ""  # what the agent does that is no decision: reset, ...
        self._on_fill: Callable[[Fill], None] | None = None
        self._notified = 0

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
        self._observation = read_only_observation(self._sim)
        self._notified = 0
        self._on_fill = None
        if agent is not None:
            self._doing = "reset"
            self._agent_name = hooks.name_of(agent)
            self._state.rules.depth = self._levels_read(agent)
            if type(agent).on_fill is not Agent.on_fill:
                self._on_fill = agent.on_fill
            with hooks.hook(self._agent_name, "reset", ts=episode.start_ts):
                answer: object = agent.reset(self.context(episode, index))  # type: ignore[func-returns-value]
            self._doing = ""
            if answer is not None:
                said = f"reset returned {shown(answer)}, expected None"
                raise AgentError(said, agent=self._agent_name, ts=episode.start_ts)

    def _levels_read(self, agent: Agent) -> int:
        with hooks.hook(self._agent_name, "levels_read"):
            levels: object = agent.levels_read
        if not isinstance(levels, int) or not 1 <= levels <= MAX_DEPTH:
            said = f"levels_read: expected 1 to {MAX_DEPTH} levels per side, was {shown(levels)}"
            raise AgentError(said, agent=self._agent_name)
        return levels

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
            write_quotes(self._want, quotes, self.sim.max_levels, latency_ns, wall_ns)
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
                if self._on_fill is not None:
                    self._notify()
                return self._observation._refresh()
            if code == Status.END:
                self._done = True
                if self._on_fill is not None:
                    self._notify()
                return None
            self._resolve(Status(code))

    def _resolve(self, status: Status) -> None:
        if status == Status.BAD_QUOTES:
            self._explain(self._quotes, 0, 0)
            raise KernelError(f"{self.data.name}: valid quotes {shown(self._quotes)} were refused")
        super()._resolve(status)

    def _notify(self) -> None:
        known = int(self._state.account.n_known)
        if self._on_fill is None or known == self._notified:
            return
        for f in self._fills[self._notified : known]:
            fill = Fill(
                int(f["ts"]), int(f["order_id"]), int(f["side"]), int(f["px"]), int(f["qty"]),
                bool(f["maker"]), int(f["reason"]),
            )  # fmt: skip
            try:
                answer: object = self._on_fill(fill)
            except (*hooks.PASS, HookTimeout):
                raise
            except BaseException as err:
                raise self._fault(f"on_fill {told(err)}") from err
            if answer is not None:
                raise self._fault(f"on_fill returned {shown(answer)}, expected None")
        self._notified = known

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
        write_numbers(self._want, flat, latency_ns, wall_ns)
