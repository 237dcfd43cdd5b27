"""Whole public operations: replay with and without quotes, one decision of each trained agent.

`make bench`. The market is generated (`sim-ag`, 300 k order events, 10 test episodes); rates are events of
the replayed segments per second. Absolute numbers are only reported: machines differ.
"""

from __future__ import annotations

import numpy as np
import pytest

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.calibration_store import lookup
from mmsim.config import SimConfig
from mmsim.data import load
from mmsim.registry import make_agent
from mmsim.sim.session import Session

pytestmark = pytest.mark.benchmark


class Touch(Strategy):
    """Two quotes at the touch, leaning by inventory."""

    def quote(self, obs: Observation) -> Quotes:
        held = obs.inventory
        bids = ((obs.bid_px, 1),) if held < 5 else ()
        return Quotes(bids, ((obs.ask_px, 1),) if held > -5 else ())


@pytest.mark.parametrize("replace", ["diff", "always"])
@pytest.mark.parametrize("interval_ms", [100, 500])
def test_replay_with_two_quotes(benchmark, interval_ms: int, replace: str) -> None:  # type: ignore[no-untyped-def]
    data = load("sim-ag")
    session = Session(data, SimConfig(replace=replace, decision_interval_ns=interval_ms * 1_000_000))
    episode = data.splits["test"][-1]
    segment = data.segments[episode.segment]
    rows = int(np.searchsorted(data.events["ts"][segment.start : segment.stop], episode.end_ts))
    result = benchmark(session.run, Touch(), episode)
    benchmark.extra_info["rows_per_s"] = rows / benchmark.stats["median"]
    assert len(result.steps) == 900_000 // interval_ms


@pytest.mark.parametrize("name", ["cmm", "student", "ppo", "glft"])
def test_one_decision(benchmark, name: str) -> None:  # type: ignore[no-untyped-def]
    data = load("sim-ag")
    session = Session(data, calibration=lookup("sim-ag"))
    agent = make_agent(name)
    rows = []

    class Spy(Strategy):
        def quote(self, obs: Observation) -> Quotes:
            rows.append(obs.copy())
            return Quotes.none()

    episode = data.splits["test"][0]
    session.run(Spy(), episode)
    agent.reset(session.context(episode))
    feed = iter(rows * 1000)
    quotes = benchmark(lambda: agent.quote(next(feed)))
    assert isinstance(quotes, Quotes)
