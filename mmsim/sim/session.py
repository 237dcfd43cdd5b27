"""The session: owns time, runs the kernel, and asks the agent.

The same object serves the comparison runs (`Session.run`), the Gymnasium environment (`start`,
`step`) and the recording of training data (`record`), so that all three share the physics.
"""

from __future__ import annotations

import copy
import ctypes
import importlib
import struct
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmsim import _jit  # (a kernel file is one that imports from it: this is none, see `_jit`)
from mmsim.agent import OBS_SIZE, WANT_HEAD, Agent, Fill, Observation, Quotes, SessionContext
from mmsim.compiled import CompiledStrategy, quotes_in
from mmsim.config import MAX_SEED, SimConfig
from mmsim.errors import AgentError, ConfigError, DataError, HookTimeout, KernelError, Status, shown, told
from mmsim.metrics.episode import EpisodeResult
from mmsim.sim import hooks, limits
from mmsim.sim import layout as L
from mmsim.sim.kernel import advance, advance_compiled
from mmsim.sim.latency import LatencyModel, WireTable
from mmsim.sim.observe import write_step
from mmsim.sim.queue_rule import QueueRule
from mmsim.sim.quotes_check import Limits, QuotesError, checked
from mmsim.sim.stream import EventStream
from mmsim.sim.watch import Watch
from mmsim.types import FILL, OWN_ORDER, STEP, Episode, FeeSchedule, MarketData

if TYPE_CHECKING:
    from pathlib import Path

_MAX_WIDTH = 2**28  # ticks; memory is touched only where prices stand
_MOST_STEPS = 1 << 22  # rows of the step table that are made at once; it grows beyond them
_LEDGER = {"none": L.NO_LEDGER, "consume": L.TAPE_LEDGER, "reactive": L.MARKET_LEDGER}
_INSIDE = {"through": L.INSIDE_THROUGH, "any": L.INSIDE_ANY, "strict": L.INSIDE_STRICT}
# what one episode hands to the next of its segment: the tape's book and where it stands
_BOOK = (
    L.S_CUR, L.S_LAST, L.S_BB, L.S_BA, L.S_NB, L.S_NA, L.S_NOW, L.S_KNOWN, L.S_MID2, L.S_LASTPX, L.S_LAST_BB,
    L.S_LAST_BA,
)  # fmt: skip
_PACK = [struct.Struct(f"{WANT_HEAD + 2 * n}q").pack_into for n in range(33)]  # by number of levels
_COUNTERS = {
    "orders": L.C_ORDERS,
    "cancels": L.C_CANCELS,
    "reduces": L.C_REDUCES,
    "post_only_rejects": L.C_POST_REJECTS,
    "limit_rejects": L.C_LIMIT_REJECTS,
    "too_late": L.C_TOO_LATE,
    "decisions": L.C_ASKED,
    "missed": L.C_MISSED,
    "one_sided": L.C_ONE_SIDED,
    "close_beyond_lots": L.C_CLOSE_BEYOND,
}
_MEANING = {
    Status.BAD_KIND: "an event of unknown kind",
    Status.BAD_PRICE: "a price outside the market's stated range",
    Status.BAD_ORDER: "an event for an order that is not in the book, or for more than it holds",
    Status.BAD_QTY: "a negative quantity or level",
    Status.BAD_TIME: "time running backwards",
    Status.BAD_SIDE: "a side that is neither a bid nor an ask",
}


def _records(array: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    # Without the JIT the kernels run on numpy records, whose fields need a record array.
    return array.view(np.recarray) if _jit.NO_JIT else array


class Session:
    """Replays one market for one agent at a time.

    Parameters
    ----------
    data : MarketData
        The market.
    sim : SimConfig, optional
        Physics: latencies, queue model, limits.
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
        sim: SimConfig | None = None,
        *,
        seed: int | None = None,
        calibration: Mapping[str, float] | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        self.data = data
        self.sim = sim or SimConfig()
        self.seed = self.sim.seed if seed is None else seed
        self.calibration = dict(calibration or {})
        self.checkpoints = checkpoints
        if self.sim.fees != "zero" and self.sim.fees not in data.fees:
            known = ", ".join(sorted({"zero", *data.fees}))
            raise ConfigError(f"{data.name} has no fee schedule {self.sim.fees!r}; it has: {known}")
        self.fees = data.fees.get(self.sim.fees, FeeSchedule())
        unit = data.instrument.unit_lots
        units = self.sim.max_inventory_units
        self.max_inventory = (data.max_inventory_units if units is None else units) * unit
        self.max_order = self.sim.max_order_units * unit
        interval = self.sim.decision_interval_ns
        self.decision_ns = data.decision_ns if interval is None else interval
        limits.check(data, self.sim, self.decision_ns, self.max_inventory, self.max_order)
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed: expected 0 to {MAX_SEED}, was {self.seed}")
        events = np.ascontiguousarray(data.events).view()
        events.flags.writeable = False  # always: a writable array would be another type to compile for
        self._ev = _records(events)
        know = np.zeros(1, np.int64) if data.recv_ts is None else data.recv_ts
        self._know = np.ascontiguousarray(know).view()
        self._know.flags.writeable = False
        self._base = data.px_min - 1
        self._lad = self._ladder(data.px_max - data.px_min + 3)
        self._ords = _records(np.zeros(max(data.n_slots, 1), L.SLOT))
        self._queue = QueueRule(self.sim, data.name)
        self._wire_table = WireTable(self.sim)
        self._mem = np.zeros(L.WIRE_AT + self._wire_table.cells, np.int64)
        self._st = self._mem[: L.N_STATE]
        self._want = self._mem[L.WANT_AT : L.WIRE_AT]
        self._wire = memoryview(self._want).cast("B")  # type: ignore[arg-type]  # the same bytes, to pack into
        self._ring = np.zeros((8, L.RING_COLS), np.int64)  # rows: a power of two
        self._fills = _records(np.zeros(4096, FILL))
        self._steps = _records(np.zeros(4096, STEP))
        self._own_view = _records(np.zeros(L.MAX_OWN + 1, OWN_ORDER))
        self._observation = self._seen()
        self._quotes = Quotes.none()
        self._kernel: Callable[..., int] = self._load  # until the first call: a compiled agent needs none
        self._compiled: Callable[..., int] | None = None
        self._agent_name = "agent"
        self._doing = ""  # what the agent does that is no decision: reset, ...
        self._done = True
        self._hear: Callable[[Fill], None] | None = None
        self._heard = 0
        self._stream = EventStream(data.events, data.recv_ts)
        self._market: Any = None  # the market that makes its rows as it goes, if there is one
        if self.sim.impact == "reactive":
            reactive = importlib.import_module("mmsim.flow.reactive")
            self._market = reactive.ReactiveMarket(data, self.decision_ns)
            self._ords = _records(np.zeros(self._market.n_slots, L.SLOT))
        self._at = (-1, 0)  # segment and end of the last episode, from which the next may go on

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return (
            self._ev, self._know, self._lad, self._ords, self._mem, self._ring, self._fills, self._steps,
            self._own_view,
        )  # fmt: skip

    def _seen(self) -> Observation:
        # What an agent is handed, made anew for each episode. It stands on memory that cannot be made writable
        # again, and behind which is nothing but what it shows.
        cells = (ctypes.c_int64 * OBS_SIZE).from_buffer(self._mem, L.OBS_AT * self._mem.itemsize)
        raw = np.frombuffer(memoryview(cells).toreadonly(), np.int64)
        orders = np.frombuffer(memoryview(self._own_view.view(np.uint8)).toreadonly(), OWN_ORDER)
        return Observation(raw, orders)

    def _load(self, *arrays: npt.NDArray[Any]) -> int:
        self._kernel = _jit.entry_point(advance, *arrays)
        return int(self._kernel(*arrays))

    def _ladder(self, width: int) -> npt.NDArray[np.int32]:
        if width > _MAX_WIDTH:
            raise DataError(
                f"prices span {width} ticks, expected at most {_MAX_WIDTH}: check the tick size",
                source=self.data.name,
            )
        return np.zeros((2 if self.sim.impact == "none" else 4, width), np.int32)

    # ---- what happened so far -------------------------------------------------------------------
    @property
    def fills(self) -> npt.NDArray[np.void]:
        """Fills of the episode so far, ``(n,)`` `FILL` (a view)."""
        return self._fills[: self._st[L.S_NFILL]]

    @property
    def steps(self) -> npt.NDArray[np.void]:
        """Decision rows of the episode so far, ``(n,)`` `STEP` (a view)."""
        return self._steps[: self._st[L.S_NSTEP]]

    @property
    def inventory(self) -> int:
        """True signed inventory, lots."""
        return int(self._st[L.S_INV])

    @property
    def cash(self) -> int:
        """True cash before fees, tick-lots."""
        return int(self._st[L.S_CASH])

    @property
    def mid2(self) -> int:
        """Twice the last two-sided mid-price at the exchange, ticks."""
        return int(self._st[L.S_MID2])

    @property
    def counters(self) -> dict[str, int]:
        """Orders, cancels, rejects, decisions asked and missed, ... of the episode so far."""
        return {name: int(self._st[ix]) for name, ix in _COUNTERS.items()}

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
        segment = self.data.segments[episode.segment]
        st = self._st
        book = self._continues(episode)
        st[:] = 0
        if book is None:
            st[L.S_CUR], st[L.S_LAST] = segment.start, segment.stop
            st[L.S_BB], st[L.S_BA] = -1, self._lad.shape[1]
            st[L.S_NOW] = st[L.S_KNOWN] = np.iinfo(np.int64).min
            self._lad = self._ladder(self._lad.shape[1])  # fresh pages: clearing would touch them all
            self._ords[:] = 0
        else:
            for column, value in zip(_BOOK, book, strict=True):
                st[column] = value
        if self._market is None:
            st[L.S_STOP] = self._stream.open(int(st[L.S_CUR]), segment.stop)
            st[L.S_SEEN] = np.iinfo(np.int64).min
        else:
            events, n = self._market.begin(episode)
            self._ev = _records(events)
            st[L.S_CUR], st[L.S_STOP], st[L.S_LAST] = 0, n, L.INF
            st[L.S_SEEN] = episode.start_ts
        st[L.S_BASE] = self._base
        st[L.S_INTERVAL] = self.decision_ns
        st[L.S_TP] = episode.start_ts if self.decision_ns else L.INF
        if self.decision_ns:  # a row for each decision: growing would copy, and untouched pages cost nothing
            rows = min(limits.rows_of(episode.end_ts - episode.start_ts, self.decision_ns), _MOST_STEPS)
            if rows > len(self._steps):
                self._steps = _records(np.zeros(rows, STEP))
        st[L.S_WIRE], st[L.S_WIRE_N] = self._wire_table.mode, self._wire_table.rows
        self._mem[L.WIRE_AT :] = self._wire_table.fill(self.seed, index)
        self._want[:] = 0  # nothing of the last agent's
        self._observation = self._seen()
        st[L.S_START], st[L.S_END] = episode.start_ts, episode.end_ts
        st[L.S_BUSY] = np.iinfo(np.int64).min
        st[L.S_REQ_LAST : L.S_ACK_LAST + 1] = np.iinfo(np.int64).min
        st[L.S_NEXT_ID] = 1
        st[L.S_BID_HI], st[L.S_ASK_HI] = -L.INF, -L.INF
        st[L.S_BID_LO], st[L.S_ASK_LO] = L.INF, L.INF
        st[L.S_MAXINV] = self.max_inventory
        st[L.S_QUEUE], st[L.S_QUEUE_POWER], st[L.S_QUEUE_FN] = self._queue.columns
        st[L.S_INSIDE] = _INSIDE[self.sim.inside] if self.data.level == "snapshot" else L.INSIDE_THROUGH
        st[L.S_CONSUME] = _LEDGER[self.sim.impact]
        st[L.S_ALWAYS] = self.sim.replace == "always"
        st[L.S_VIEW] = self.data.view_depth
        st[L.S_EPISODE] = index
        st[L.S_HAS_KNOW] = self.data.recv_ts is not None
        st[L.S_L3] = self.data.level == "L3"
        st[L.S_MAXORDER], st[L.S_MAXLEVELS] = self.max_order, self.sim.max_levels
        st[L.S_FIRST] = 1
        self._at = (episode.segment, episode.end_ts)
        self._heard = 0
        self._hear = None
        self._done = False
        if agent is not None:
            self._doing = "reset"
            self._agent_name = hooks.name_of(agent)
            if type(agent).on_fill is not Agent.on_fill:
                self._hear = agent.on_fill
            with hooks.hook(self._agent_name, "reset", ts=episode.start_ts):
                answer: object = agent.reset(self.context(episode, index))  # type: ignore[func-returns-value]
            self._doing = ""
            if answer is not None:
                said = f"reset returned {shown(answer)}, expected None"
                raise AgentError(said, agent=self._agent_name, ts=episode.start_ts)

    def _continues(self, episode: Episode) -> list[int] | None:
        # The tape's book does not depend on the agent, so an episode that begins after the last one ended goes
        # on from there, unless rows were applied that its first observation must not show.
        segment, end = self._at
        ready = self._done and segment == episode.segment and end <= episode.start_ts
        if not ready or self._st[L.S_KNOWN] > episode.start_ts or self.sim.impact != "none":
            return None
        return [int(self._st[column]) for column in _BOOK]

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
                _PACK[2](self._wire, 0, 1, 1, post_only, take, latency_ns, wall_ns, *bid, *ask)
            else:
                levels = (*bids, *asks)
                if max(n_bid, n_ask) > self.sim.max_levels or any(len(level) != 2 for level in levels):
                    raise ValueError
                flat = [x for level in levels for x in level]
                _PACK[n_bid + n_ask](self._wire, 0, n_bid, n_ask, post_only, take, latency_ns, wall_ns, *flat)
        except (KeyboardInterrupt, HookTimeout):
            raise
        except BaseException:  # noqa: BLE001 (an agent's objects may raise anything)
            self._explain(quotes, latency_ns, wall_ns)  # raises, or packs whole numbers of another type
        return self._advance()

    def miss(self) -> Observation | None:
        """Let the decision pass unanswered, as one that comes while the agent is thinking, and run on."""
        st = self._st
        st[L.C_ASKED] -= 1
        st[L.C_MISSED] += 1
        seen = (int(st[column]) for column in (L.S_OBS_MID2, L.S_OBS_BID, L.S_OBS_ASK))
        write_step(st, self._steps, int(st[L.S_DTS]), 0, self._want, 0, 0, *seen)
        st[L.S_PEND_STEP] = 0
        return self._advance()

    def _advance(self) -> Observation | None:
        while True:
            code = self._kernel(
                self._ev, self._know, self._lad, self._ords, self._mem, self._ring, self._fills, self._steps,
                self._own_view,
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
        # Buffers grow and the kernel resumes where it stopped; anything else cannot be repaired here.
        if status == Status.FILLS_FULL:
            self._fills = _records(np.concatenate([self._fills, np.zeros(len(self._fills), FILL)]))
            return
        if status == Status.STEPS_FULL:
            self._steps = _records(np.concatenate([self._steps, np.zeros(len(self._steps), STEP)]))
            return
        if status == Status.OBS_FULL:
            if 2 * len(self._ring) > limits.MOST_WAITING:
                raise limits.observations_full(self.decision_ns)
            head, tail = int(self._st[L.S_RING_H]), int(self._st[L.S_RING_T])
            order = np.arange(head, tail) % len(self._ring)
            bigger = np.zeros((2 * len(self._ring), L.RING_COLS), np.int64)
            bigger[: tail - head] = self._ring[order]
            self._ring = bigger
            self._st[L.S_RING_H], self._st[L.S_RING_T] = 0, tail - head
            return
        row = int(self._st[L.S_CUR])
        if status == Status.MORE_ROWS and self._market is not None:
            self._ev = _records(self._market.react(self._mem, self._ring, self._fills, self._lad))
            return
        if status == Status.MORE_ROWS:
            self._st[L.S_STOP] = self._stream.open(row, int(self._st[L.S_LAST]))
            return
        if status == Status.BAD_PRICE and 0 < self._ev[row]["px"] <= L.MAX_PX:
            self._grow(int(self._ev[row]["px"]))
            return
        if status == Status.BAD_QUOTES:
            self._explain(self._quotes, 0, 0)
            raise KernelError(f"{self.data.name}: valid quotes {shown(self._quotes)} were refused")
        if status == Status.OWN_FULL:
            raise limits.messages_full(self.sim, self.decision_ns)
        raise DataError(
            f"the replay met {_MEANING[status]} (status {status.name}): {self._ev[row]}; "
            f"run `mmsim data check {self.data.name}`",
            source=self.data.name,
            row=row,
        )

    def _grow(self, px: int) -> None:
        # The market left the price window: widen it so that the row can be applied.
        old, width = self._lad, self._lad.shape[1]
        low = min(px, self._base) - width // 2 if px < self._base + 1 else self._base
        low = max(low, 0)
        high = max(px + 1 + (width // 2 if px >= self._base + width else 0), self._base + width - 1)
        self._lad = self._ladder(high - low + 1)
        shift = self._base - low
        self._lad[:, shift : shift + width] = old
        st, self._base = self._st, low
        st[L.S_BASE] = low
        st[L.S_BB] += shift if st[L.S_NB] else 0
        st[L.S_BA] = st[L.S_BA] + shift if st[L.S_NA] else self._lad.shape[1]

    def _tell(self) -> None:
        known = int(self._st[L.S_NACKED])
        if self._hear is None or known == self._heard:
            return
        for f in self._fills[self._heard : known]:
            fill = Fill(
                int(f["ts"]), int(f["order_id"]), int(f["side"]), int(f["px"]), int(f["qty"]),
                bool(f["maker"]), int(f["reason"]),
            )  # fmt: skip
            try:
                answer: object = self._hear(fill)  # type: ignore[func-returns-value]
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
            decision=int(self._st[L.S_DEC]),
            ts=int(self._st[L.S_DTS]),
        )

    def _explain(self, quotes: Quotes, latency_ns: int, wall_ns: int) -> None:
        # The kernel refuses the same quotes without words (`orders.quotes_valid`).
        bounds = Limits(int(self._st[L.S_AINV]), self.max_inventory, self.max_order, self.sim.max_levels)
        try:
            flat = checked(quotes, bounds)
        except QuotesError as err:
            raise self._fault(str(err)) from None
        except (KeyboardInterrupt, HookTimeout):
            raise
        except BaseException as err:
            raise self._fault(f"its quotes {told(err)}") from err
        flat[4:6] = latency_ns, wall_ns
        self._want[: len(flat)] = flat

    # ---- whole episodes --------------------------------------------------------------------------
    def run(
        self,
        agent: Agent,
        episode: Episode,
        index: int = 0,
        *,
        latency: LatencyModel | None = None,
        most_steps: int | None = None,
        limit_s: float | None = None,
    ) -> EpisodeResult:
        """Run `agent` through `episode` and return what happened.

        Parameters
        ----------
        agent, episode, index
            Who, where, and the episode's number (part of every seed).
        latency : LatencyModel, optional
            Decision latency; default: as the configuration says.
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
        model = latency or LatencyModel.from_config(self.sim)
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
        return self._doing or (int(self._st[L.S_DEC]) if self._st[L.S_PEND_STEP] else None)

    def _play(
        self, agent: Agent, episode: Episode, index: int, model: LatencyModel, most_steps: int | None
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
            if most_steps is not None and self._st[L.C_ASKED] > most_steps:
                break

    def _play_compiled(
        self, agent: CompiledStrategy, episode: Episode, index: int, model: LatencyModel
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
                    self._quotes = quotes_in(self._want)
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
        limits.check_traded(int(self._st[L.S_TRADED]), dearest, self.data.name)
        return EpisodeResult(
            dataset=self.data.name,
            agent=agent,
            index=index,
            fills=np.array(self.fills, FILL),
            steps=np.array(self.steps, STEP),
            instrument=self.data.instrument,
            fees=self.fees,
            start_ts=episode.start_ts,
            end_ts=episode.end_ts,
            final_mid2=self.mid2,
            max_inventory=self.max_inventory,
            counters=self.counters,
        )

    def record(self, episode: Episode) -> npt.NDArray[np.int64]:
        """Return the observation vector at every decision while nobody quotes.

        Returns
        -------
        ndarray
            ``(n_decisions, OBS_SIZE)`` int64, laid out as `Observation.raw`.
        """
        rows = []
        obs = self.start(episode)
        nothing = Quotes.none()
        while obs is not None:
            rows.append(obs.raw.copy())
            obs = self.step(nothing)
        return np.array(rows, np.int64).reshape(-1, OBS_SIZE)
