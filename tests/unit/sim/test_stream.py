"""Events mapped from a file are replayed in chunks, in bounded memory, with the same fills."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.agent import Observation, Quotes, Strategy, within_limits
from mmsim.config import SimConfig
from mmsim.sim.session import Session
from mmsim.sim.stream import EventStream
from mmsim.testing.markets import tiny_market
from mmsim.types import Episode, MarketData


class Touch(Strategy):
    def reset(self, ctx) -> None:
        self.ctx = ctx

    def quote(self, obs: Observation) -> Quotes:
        return within_limits(obs.bid_px, obs.ask_px, 2, obs, self.ctx)


def mapped(data: MarketData, folder: Path) -> MarketData:
    recv = data.events["ts"] + 1_500_000
    np.save(folder / "events.npy", data.events)
    np.save(folder / "recv.npy", recv)
    return replace(
        data,
        events=np.load(folder / "events.npy", mmap_mode="r"),
        recv_ts=np.load(folder / "recv.npy", mmap_mode="r"),
    )


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["L3", "L2", "snapshot"]), st.integers(0, 99), st.integers(1, 2000))
def test_any_chunk_size_gives_the_same_fills(tmp_path_factory, level: str, seed: int, rows: int) -> None:
    data = tiny_market(seed, level=level, seconds=30, events_per_second=40)
    data = mapped(data, tmp_path_factory.mktemp("m"))
    episode = data.splits["test"][0]
    sim = SimConfig(latency={"order": 2_000_000})
    chunked = Session(data, sim)
    chunked._stream = EventStream(data.events, data.recv_ts, rows)
    in_memory = replace(data, events=np.array(data.events), recv_ts=np.array(data.recv_ts))
    a, b = chunked.run(Touch(), episode), Session(in_memory, sim).run(Touch(), episode)
    assert a.fills.tobytes() == b.fills.tobytes()
    assert a.counters == b.counters


def test_an_array_in_memory_is_lent_as_a_whole() -> None:
    data = tiny_market(1, level="L3", seconds=5)
    assert EventStream(data.events, None, 10).open(3, len(data.events)) == len(data.events)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["L3", "L2", "snapshot"]),
    st.integers(0, 999),
    st.sampled_from([0, 3_000_000, 2_500_000_000]),
)
def test_going_on_from_the_last_episode_changes_nothing(level: str, seed: int, feed: int) -> None:
    data = tiny_market(seed, level=level, seconds=40, events_per_second=30)
    segment = data.segments[0]
    first, last = int(data.events["ts"][segment.start]), int(data.events["ts"][segment.stop - 1])
    third = (last - first) // 3
    episodes = [Episode(0, first + k * third + third // 4, first + (k + 1) * third) for k in range(3)]
    sim = SimConfig(latency={"feed": feed, "order": 2_000_000})
    one = Session(data, sim)
    for k in (0, 1, 2, 1, 0, 2):  # on from the last, and back to the start
        together = one.run(Touch(), episodes[k], k)
        alone = Session(data, sim).run(Touch(), episodes[k], k)
        assert together.fills.tobytes() == alone.fills.tobytes()
        fields = [n for n in alone.steps.dtype.names if n not in ("wall_ns", "pad")]
        assert together.steps[fields].tolist() == alone.steps[fields].tolist()


BIG = """
import resource, sys
import numpy as np
from mmsim.agent import Quotes, Strategy
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim.types import Episode, Segment
from dataclasses import replace
path, rows = sys.argv[1], int(sys.argv[2])
events = np.load(path, mmap_mode="r")
data = tiny_market(1, level="L2", seconds=1)
data = replace(data, events=events, segments=(Segment(0, rows),), px_min=90, px_max=110, recv_ts=None)
class Nothing(Strategy):
    def quote(self, obs): return Quotes.none()
session = Session(data)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
session.run(Nothing(), Episode(0, int(events["ts"][0]) + 10, int(events["ts"][-1])))
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(resource, "getrusage") or sys.platform != "linux", reason="madvise is Linux's"
)
def test_a_long_file_is_replayed_in_bounded_memory(tmp_path: Path) -> None:
    rows = 20_000_000  # 458 MiB
    events = np.lib.format.open_memmap(
        tmp_path / "e.npy", "w+", tiny_market(1, level="L2", seconds=1).events.dtype, (rows,)
    )
    for start in range(0, rows, 1_000_000):
        part = events[start : start + 1_000_000]
        part["ts"] = 1_000_000_000 + 1000 * np.arange(start, start + 1_000_000)
        part["px"] = np.where(np.arange(1_000_000) % 2, 100, 102)
        part["qty"] = 1 + np.arange(1_000_000) % 50
        part["side"] = np.where(np.arange(1_000_000) % 2, 1, -1)
        part["kind"], part["flags"] = 6, 1
    events.flush()
    del events, part
    out = subprocess.run(
        [sys.executable, "-c", BIG, str(tmp_path / "e.npy"), str(rows)],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, out.stdout.split())
    assert (after - before) / 1024 < 250  # MiB, of 458
