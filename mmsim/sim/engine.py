"""The arrays of one market's simulation: made, opened at an episode, and grown where they are full."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim import _jit  # (a kernel file is one that imports from it: this is none, see `_jit`)
from mmsim.config import MAX_SEED, SimConfig
from mmsim.errors import ConfigError, DataError, Status
from mmsim.sim import layout as L
from mmsim.sim import limits
from mmsim.sim.kernel import advance
from mmsim.sim.latency import WireTable
from mmsim.sim.queue_rule import QueueRule
from mmsim.sim.stream import EventStream
from mmsim.types import FILL, OWN_ORDER, STEP, Episode, MarketData

_MAX_WIDTH = 2**28  # ticks; memory is touched only where prices stand
_MOST_STEPS = 1 << 22  # rows of the step table that are made at once; it grows beyond them
_LEDGER = {"none": L.NO_LEDGER, "consume": L.TAPE_LEDGER, "reactive": L.MARKET_LEDGER}
_INSIDE = {"through": L.INSIDE_THROUGH, "any": L.INSIDE_ANY, "strict": L.INSIDE_STRICT}
# what one episode hands to the next of its segment: the tape's book and where it stands
_BOOK = (
    L.S_CUR, L.S_LAST, L.S_BB, L.S_BA, L.S_NB, L.S_NA, L.S_NOW, L.S_KNOWN, L.S_MID2, L.S_LASTPX, L.S_LAST_BB,
    L.S_LAST_BA,
)  # fmt: skip
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


class Engine:
    """State of the kernel on one market, without an agent; `mmsim.sim.session.Session` is this with one."""

    def __init__(self, data: MarketData, sim: SimConfig, seed: int) -> None:
        self.data = data
        self.sim = sim
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
        self._kernel: Callable[..., int] = self._load  # until the first call: a compiled agent needs none
        self._done = True
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

    def _open(self, episode: Episode, index: int) -> None:
        segment = self.data.segments[episode.segment]
        st = self._st
        latencies = self._wire_table.fill(self.seed, index)
        rows = limits.rows_of(episode.end_ts - episode.start_ts, self.decision_ns) if self.decision_ns else 0
        book = self._continues(episode)  # (nothing below raises for what the user did)
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
        rows = min(rows, _MOST_STEPS)
        if rows > len(
            self._steps
        ):  # a row for each decision: growing would copy, and untouched pages cost nothing
            self._steps = _records(np.zeros(rows, STEP))
        st[L.S_WIRE], st[L.S_WIRE_N] = self._wire_table.mode, self._wire_table.rows
        self._mem[L.WIRE_AT :] = latencies
        self._want[:] = 0  # nothing of the last agent's
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
        self._done = False

    def _continues(self, episode: Episode) -> list[int] | None:
        # The tape's book does not depend on the agent, so an episode that begins after the last one ended goes
        # on from there, unless rows were applied that its first observation must not show.
        segment, end = self._at
        ready = self._done and segment == episode.segment and end <= episode.start_ts
        if not ready or self._st[L.S_KNOWN] > episode.start_ts or self.sim.impact != "none":
            return None
        return [int(self._st[column]) for column in _BOOK]

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
