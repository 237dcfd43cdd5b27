"""The arrays of one market's simulation: made, opened at an episode, and grown where they are full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mmsim import _jit  # (a kernel file is one that imports from it: this is none, see `_jit`)
from mmsim.config import MAX_SEED
from mmsim.errors import ConfigError, DataError, Status
from mmsim.records import MAX_PX
from mmsim.sim import limits
from mmsim.sim import records as R
from mmsim.sim.kernel import advance
from mmsim.sim.latency import WireTable
from mmsim.sim.physics import LiveMarket, Physics
from mmsim.sim.stream import EventStream
from mmsim.types import FILL, MAX_DEPTH, STEP, Episode, MarketData

_MAX_WIDTH = 2**28  # ticks; memory is touched only where prices stand
_FEW_STEPS = 4096  # rows of the step table at least
_MOST_STEPS = 1 << 22  # rows of the step table that are made at once; it grows beyond them
_LEDGER = {"none": R.NO_LEDGER, "consume": R.TAPE_LEDGER, "reactive": R.MARKET_LEDGER}
_INSIDE = {"through": R.INSIDE_THROUGH, "any": R.INSIDE_ANY, "strict": R.INSIDE_STRICT}
_NEVER = np.iinfo(np.int64).min
_MEANING = {
    Status.BAD_KIND: "an event of unknown kind",
    Status.BAD_PRICE: "a price outside the market's stated range",
    Status.BAD_ORDER: "an event for an order that is not in the book, or for more than it holds",
    Status.BAD_QTY: "a negative quantity or level",
    Status.BAD_TIME: "time running backwards",
    Status.BAD_SIDE: "a side that is neither a bid nor an ask",
}


class Inspection(NamedTuple):
    """What a session holds at this moment, to look at: views, not copies."""

    state: Any  # the record of all records, `mmsim.sim.records.SIM`: ``state.account.inventory``
    ladder: npt.NDArray[np.int32]  # see `mmsim.sim.ladder`
    slots: npt.NDArray[np.void]  # orders of an L3 feed
    rows: npt.NDArray[np.void]  # events that may be read now
    looks: npt.NDArray[np.void]  # buffer of observations not yet delivered
    fills: npt.NDArray[np.void]  # the whole buffer
    steps: npt.NDArray[np.void]


class Engine:
    """State of the kernel on one market, without an agent; `mmsim.sim.session.Session` is this with one."""

    def __init__(self, data: MarketData, physics: Physics, seed: int) -> None:
        self.data = data
        self.physics, self.sim = physics, physics.sim
        self.seed = seed
        unit = data.instrument.unit_lots
        units = self.sim.max_inventory_units
        self.max_inventory = (data.max_inventory_units if units is None else units) * unit
        self.max_order = self.sim.max_order_units * unit
        interval = self.sim.decision_interval_ns
        self.decision_ns = data.decision_ns if interval is None else interval
        limits.check(data, self.sim, self.decision_ns, self.max_inventory, self.max_order)
        if not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"seed: expected 0 to {MAX_SEED}, was {seed}")
        events = np.ascontiguousarray(data.events).view()
        events.flags.writeable = False  # always: a writable array would be another type to compile for
        self._ev = _jit.records(events)
        know = np.zeros(1, np.int64) if data.recv_ts is None else data.recv_ts
        self._know = np.ascontiguousarray(know).view()
        self._know.flags.writeable = False
        self._base = data.px_min - 1
        self._lad = self._ladder(data.px_max - data.px_min + 3)
        self._ords = _jit.records(np.zeros(max(data.n_slots, 1), R.SLOT))
        self._wire_table = WireTable(self.sim.latency)
        self._lat = self._wire_table.fill(seed, 0)
        self._sim = _jit.records(np.zeros(1, R.SIM))
        self._state: Any = self._sim.view(np.recarray)[0]  # the same memory, by name
        self._ring = _jit.records(np.zeros(8, R.LOOK))  # rows: a power of two
        self._fills = _jit.records(np.zeros(4096, FILL))
        self._steps = _jit.records(np.zeros(_FEW_STEPS, STEP))
        self._given = False  # whether a result holds the table of steps now
        self._kernel: Callable[..., int] = self._load  # until the first call: a compiled agent needs none
        self._done = True
        self._stream = EventStream(data.events, data.recv_ts)
        self._market: LiveMarket | None = None  # the market that makes its rows as it goes, if there is one
        if physics.live is not None:
            self._market = physics.live(data, self.decision_ns)
            self._ords = _jit.records(np.zeros(self._market.n_slots, R.SLOT))
        self._at = (-1, 0)  # segment and end of the last episode, from which the next may go on

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return (
            self._ev, self._know, self._lad, self._ords, self._sim, self._lat, self._ring, self._fills, self._steps,
        )  # fmt: skip

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

    def inspect(self) -> Inspection:
        """Return the simulation's memory, to look at."""
        rows = self._ev[: self._state.replay.stop]
        return Inspection(self._state, self._lad, self._ords, rows, self._ring, self._fills, self._steps)

    @property
    def fills(self) -> npt.NDArray[np.void]:
        """Fills of the episode so far, ``(n,)`` `FILL` (a view)."""
        return np.asarray(self._fills)[: int(self._state.account.n_fills)]

    @property
    def steps(self) -> npt.NDArray[np.void]:
        """Decision rows of the episode so far, ``(n,)`` `STEP` (a view)."""
        return np.asarray(self._steps)[: int(self._state.account.n_steps)]

    @property
    def inventory(self) -> int:
        """True signed inventory, lots."""
        return int(self._state.account.inventory)

    @property
    def cash(self) -> int:
        """True cash before fees, tick-lots."""
        return int(self._state.account.cash)

    @property
    def mid2(self) -> int:
        """Twice the last two-sided mid-price at the exchange, ticks."""
        return int(self._state.book.mid2)

    @property
    def counters(self) -> dict[str, int]:
        """Orders, cancels, rejects, decisions asked and missed, ... of the episode so far."""
        return {name: int(self._state.counters[name]) for name in R.COUNTERS.names or ()}

    def _open(self, episode: Episode, index: int) -> None:
        segment = self.data.segments[episode.segment]
        latencies = self._wire_table.fill(self.seed, index)
        rows = limits.rows_of(episode.end_ts - episode.start_ts, self.decision_ns) if self.decision_ns else 0
        kept = self._continues(episode)  # (nothing below raises for what the user did)
        self._lat = latencies
        self._ring[:] = np.zeros(1, R.LOOK)
        for name in ("rules", "replay", "book", "account", "decision", "orders", "wire", "counters", "want"):
            self._sim[name] = 0  # nothing of the last agent's
        state = self._state
        replay = state.replay
        if kept is None:
            replay.row, replay.last, replay.now, replay.known = segment.start, segment.stop, _NEVER, _NEVER
            state.book.best = -1, self._lad.shape[1]
            self._lad = self._ladder(self._lad.shape[1])  # fresh pages: clearing would touch them all
            self._ords[:] = 0
        else:
            self._sim["replay"], self._sim["book"] = kept
        if self._market is None:
            replay.stop, replay.seen = self._stream.open(int(replay.row), segment.stop), _NEVER
        else:
            events, n = self._market.begin(episode)
            self._ev = _jit.records(events)
            replay.row, replay.stop, replay.last, replay.seen = 0, n, R.INF, episode.start_ts
        state.book.base_px = self._base
        rows = min(rows, _MOST_STEPS)
        if rows > len(self._steps) or self._given:
            # a row for each decision: growing would copy, and untouched pages cost nothing
            self._steps, self._given = _jit.records(np.zeros(max(rows, _FEW_STEPS), STEP)), False
        self._set_rules(episode, index)
        state.decision.busy_until, state.decision.first = _NEVER, 1
        state.decision.due = episode.start_ts if self.decision_ns else R.INF
        state.wire.last_request, state.wire.last_message = _NEVER, _NEVER
        state.orders.next_id = 1
        state.orders.lowest, state.orders.highest = R.INF, -R.INF
        self._at = (episode.segment, episode.end_ts)
        self._done = False

    def _set_rules(self, episode: Episode, index: int) -> None:
        rules, data, sim = self._state.rules, self.data, self.sim
        rules.start, rules.end, rules.episode = episode.start_ts, episode.end_ts, index
        rules.interval, rules.depth = self.decision_ns, MAX_DEPTH
        rules.l3, rules.has_recv, rules.view_depth = (
            data.level == "L3",
            data.recv_ts is not None,
            data.view_depth,
        )
        rules.wire, rules.wire_rows = self._wire_table.mode, self._wire_table.rows
        queue = self.physics.queue
        rules.queue, rules.queue_power, rules.queue_function = queue.code, queue.power, queue.address
        rules.inside = _INSIDE[sim.inside] if data.level == "snapshot" else R.INSIDE_THROUGH
        rules.ledger = _LEDGER[sim.impact]
        rules.replace_always = sim.replace == "always"
        rules.max_inventory, rules.max_order, rules.max_levels = (
            self.max_inventory, self.max_order, sim.max_levels,
        )  # fmt: skip

    def _continues(self, episode: Episode) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]] | None:
        # The tape's book does not depend on the agent, so an episode that begins after the last one ended goes
        # on from there, unless rows were applied that its first observation must not show.
        segment, end = self._at
        ready = self._done and segment == episode.segment and end <= episode.start_ts
        if not ready or self._state.replay.known > episode.start_ts or self.sim.impact != "none":
            return None
        return self._sim["replay"].copy(), self._sim["book"].copy()

    def _resolve(self, status: Status) -> None:
        # Buffers grow and the kernel resumes where it stopped; anything else cannot be repaired here.
        state = self._state
        if status == Status.FILLS_FULL:
            self._fills = _jit.records(np.concatenate([self._fills, np.zeros(len(self._fills), FILL)]))
            return
        if status == Status.STEPS_FULL:
            self._steps = _jit.records(np.concatenate([self._steps, np.zeros(len(self._steps), STEP)]))
            return
        if status == Status.OBS_FULL:
            if 2 * len(self._ring) > limits.MOST_WAITING:
                raise limits.observations_full(self.decision_ns)
            head, tail = int(state.wire.looks_head), int(state.wire.looks_tail)
            order = np.arange(head, tail) % len(self._ring)
            bigger = np.zeros(2 * len(self._ring), R.LOOK)
            bigger[: tail - head] = self._ring[order]
            self._ring = _jit.records(bigger)
            state.wire.looks_head, state.wire.looks_tail = 0, tail - head
            return
        row = int(state.replay.row)
        if status == Status.MORE_ROWS and self._market is not None:
            self._ev = _jit.records(
                self._market.react(self._sim, self._lat, self._ring, self._fills, self._lad)
            )
            return
        if status == Status.MORE_ROWS:
            state.replay.stop = self._stream.open(row, int(state.replay.last))
            return
        if status == Status.BAD_PRICE and 0 < self._ev[row]["px"] <= MAX_PX:
            self._grow(int(self._ev[row]["px"]))
            return
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
        book, self._base = self._state.book, low
        book.base_px = low
        book.best[0] += shift if book.levels[0] else 0
        book.best[1] = book.best[1] + shift if book.levels[1] else self._lad.shape[1]
