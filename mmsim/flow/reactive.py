"""The reactive market: a simulated market whose rows are made while a session runs, so that own orders matter.

The same flow, from the same seed, that makes a simulated market's tape runs on beside the session. Own
orders rest in its matching engine, so others trade with them instead of with those behind, see them in
best prices and imbalance, and find gone what they took. Up to the start of an episode the market is the
tape; with an agent that never quotes it stays the tape, row for row.

A session asks for more rows whenever it has used up those it had: at own requests and decisions, never at
events of the market.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import entry_point, records
from mmsim.errors import ConfigError, DataError, KernelError
from mmsim.flow import arrivals as k
from mmsim.flow.markets import flow_of
from mmsim.flow.mirror import DISAGREE, MIRRORED, react
from mmsim.flow.zero_intelligence import MAX_ORDERS, Market, check, tables
from mmsim.sim.records import MAX_OWN
from mmsim.types import EVENT, Episode, MarketData

_ROOM = 4 * (MAX_ORDERS + MAX_OWN)  # free rows in the event buffer at every call


class ReactiveMarket:
    """Makes the rows of one session's market and keeps the session's orders in the market's book.

    Parameters
    ----------
    data : MarketData
        A simulated market: `data.generator` holds its flow.
    decision_ns : int
        Time between decisions, ns.

    Raises
    ------
    ConfigError
        If the market is a recording, or decisions have no grid.
    """

    n_slots = MAX_ORDERS  # slots of the rows: more orders may rest than ever did on the tape

    def __init__(self, data: MarketData, decision_ns: int) -> None:
        if not data.generator:
            raise ConfigError(
                f'{data.name}: sim.impact = "reactive" expects a simulated market (sim-fu, sim-rb, ...), was a '
                'recorded one, whose people cannot answer; use "none" or "consume"'
            )
        if decision_ns <= 0:
            raise ConfigError(
                f'{data.name}: sim.impact = "reactive" expects decisions on a grid of time, was one per snapshot; '
                "set sim.decision_interval_ns"
            )
        self._data = data
        self._tables = tables(flow_of(data.generator), MAX_ORDERS)
        self._mine = records(np.zeros(MAX_OWN, MIRRORED))
        self._quiet: _Quiet | None = None
        self._market: Market
        self._events = self._lent = np.zeros(0, EVENT)
        self._args: tuple[Any, ...] = ()  # what the kernel gets besides the session's arrays
        self._react: Callable[..., int] | None = None

    def begin(self, episode: Episode) -> tuple[npt.NDArray[np.void], int]:
        """Make the market up to the start of `episode`, with nobody in it but the flow.

        Returns
        -------
        events : (n,) EVENT array
            Buffer of the session's rows, read-only.
        n : int
            Rows so far; the last is the last up to ``episode.start_ts``.
        """
        quiet = self._quiet
        if quiet is None or quiet.segment != episode.segment or quiet.ts > episode.start_ts:
            self._quiet = quiet = _Quiet(self._data, self._tables, episode.segment)
        quiet.run(episode.start_ts)
        n = int(quiet.market.state["n_events"])
        self._market = quiet.market.copy()
        self._mine["id"] = 0
        self._lend(quiet.events[:n], n + 2 * _ROOM)
        return self._lent, n

    def react(
        self,
        sim: npt.NDArray[np.void],
        lat: npt.NDArray[np.int64],
        ring: npt.NDArray[np.void],
        fills: npt.NDArray[np.void],
        lad: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.void]:
        """Answer what the session's orders did and make the next rows; return the buffer that holds them.

        The arguments are the session's arrays (`mmsim.sim.records`), whose ``replay.stop`` and ``replay.seen`` move on.

        Raises
        ------
        KernelError
            If the session's and the flow's matching engine do not agree about own orders: a bug.
        DataError
            If the market explodes.
        """
        if len(self._events) - int(self._market.state["n_events"]) < _ROOM:
            self._lend(self._events, 2 * len(self._events))
        if self._react is None:
            self._react = entry_point(react, sim, lat, ring, fills, lad, *self._args)
        code = self._react(sim, lat, ring, fills, lad, *self._args)
        if code == DISAGREE:
            raise KernelError(
                f"{self._data.name}: the reactive market and the session disagree about own orders: a bug of mmsim"
            )
        check(code)
        return self._lent

    def _lend(self, rows: npt.NDArray[np.void], size: int) -> None:
        self._events = _enlarged(rows, size)
        self._lent = self._events.view()
        self._lent.flags.writeable = False
        self._args = (self._mine, self._tables, self._market.arrays, records(self._events))


def _enlarged(rows: npt.NDArray[np.void], size: int) -> npt.NDArray[np.void]:
    bigger = np.zeros(size, EVENT)
    bigger[: len(rows)] = rows
    return bigger


class _Quiet:
    # One segment with nobody in it but the flow: the tape, with the state that goes on from it. Episodes start
    # from copies of it.
    def __init__(self, data: MarketData, flow: k.FlowTables, segment: int) -> None:
        bounds = data.segments[segment]
        self.segment = segment
        self._tape = data.events[bounds.start : bounds.stop]
        self._name = data.name
        self._flow = flow
        self.ts = int(self._tape["ts"][0])
        # The book is opened with a bid and an ask at one distance from the middle.
        first_ask = int(self._tape["px"][:2].sum(dtype=np.int64) + 1) // 2
        self.market = Market(data.generator["seed"] * 1000 + segment, self.ts, first_ask, own=MAX_OWN)
        self.events = np.zeros(2 * _ROOM, EVENT)
        check(k.open_market(flow, self.market.arrays, records(self.events)))

    def run(self, ts: int) -> None:
        while True:
            code = k.run(self._flow, self.market.arrays, records(self.events), ts + 1)
            if code != k.EVENTS_FULL:
                break
            self.events = _enlarged(self.events, 2 * len(self.events))
        check(code)
        self.ts = ts
        n = int(self.market.state["n_events"])
        tape = self._tape[: int(np.searchsorted(self._tape["ts"], ts, side="right"))]
        if len(tape) != n or not np.array_equal(self.events[:n], tape):
            raise DataError(
                "expected the tape that its generator table makes, was another one; load the market by its name",
                source=self._name,
            )
