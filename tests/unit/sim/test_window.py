"""The price window: it grows with the market, and very wide or sparse books cost address space alone."""

from __future__ import annotations

import resource
import time
from dataclasses import replace

import numpy as np
import pytest

from mmsim._jit import NO_JIT
from mmsim.agent import Observation, Quotes, Strategy
from mmsim.errors import DataError
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, T0, market_from, tiny_market
from mmsim.types import EventFlag, EventKind

K = EventKind
LAST = int(EventFlag.LAST)


class Touch(Strategy):
    def quote(self, obs: Observation) -> Quotes:
        return Quotes(((obs.bid_px, 1),), ((obs.ask_px, 1),)) if not obs.inventory else Quotes.none()


@pytest.mark.parametrize("level", ["L3", "L2", "snapshot"])
@pytest.mark.parametrize("declared", ["low", "high", "one"])
def test_a_market_that_leaves_its_declared_window_is_replayed_the_same(level: str, declared: str) -> None:
    data = tiny_market(5, level=level, seconds=40, events_per_second=40)
    narrow = {"low": (data.px_min, data.px_min), "high": (data.px_max, data.px_max), "one": (7, 7)}[declared]
    cut = replace(data, px_min=narrow[0], px_max=narrow[1])
    a, b = (Session(d).run(Touch(), d.splits["test"][0]) for d in (data, cut))
    assert a.fills.tobytes() == b.fills.tobytes()
    assert len(a.fills) >= 2
    fields = [n for n in a.steps.dtype.names if n not in ("wall_ns", "pad")]
    assert a.steps[fields].tolist() == b.steps[fields].tolist()


def far_apart() -> list[tuple[int, int, int, int, int, int, int]]:
    rows = []
    for k in range(16):  # the touch flips between the ends of the range
        ts = T0 + k * SECOND
        rows += [
            (ts, 5, 3, 0, K.LEVEL, 1, 0),
            (ts, 50_000_000, 4, 0, K.LEVEL, -1, 0),
            (ts, 1_000, 2 * (k % 2), 0, K.LEVEL, 1, 0),
            (ts, 1_010, 2 * (k % 2), 0, K.LEVEL, -1, LAST),
        ]
    return rows


@pytest.mark.skipif(NO_JIT, reason="walks a hundred million empty ticks")
def test_a_sparse_book_over_fifty_million_ticks() -> None:
    data = market_from(far_apart(), level="L2", episode=(T0 + SECOND, T0 + 15 * SECOND))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    seen = []

    class Watch(Strategy):
        def quote(self, obs: Observation) -> Quotes:
            seen.append((obs.bid_px, obs.ask_px))
            return Quotes.none()

    Session(data).run(Watch(), data.splits["test"][0])
    assert {(5, 50_000_000)} <= set(seen) <= {(5, 50_000_000), (1_000, 1_010)}
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 200  # MiB, of 400 mapped
    assert time.process_time() - begin < 20


@pytest.mark.skipif(NO_JIT, reason="walks a hundred million empty ticks")
def test_prices_beyond_any_window_are_a_data_error() -> None:
    data = market_from(far_apart(), level="L2", episode=(T0 + SECOND, T0 + 15 * SECOND))
    events = np.array(data.events)
    events["px"][-1] = -3
    with pytest.raises(DataError, match="price outside"):
        Session(replace(data, events=events)).run(
            Touch(), replace(data.splits["test"][0], end_ts=T0 + 17 * SECOND)
        )


def test_a_window_that_no_memory_holds_is_a_data_error() -> None:
    data = tiny_market(1, level="L2", seconds=1)
    with pytest.raises(DataError, match="check the tick size"):
        Session(replace(data, px_max=2**30))
