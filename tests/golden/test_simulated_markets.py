"""The four simulated markets are the pinned ones, byte for byte, and are split as their manifests say."""

from __future__ import annotations

import pytest

from mmsim.data import manifest
from mmsim.data.splits import make_splits
from mmsim.data.store import events_sha256, generate

# market: rows, lots traded, episodes of train, validation and test
PINNED = {
    "sim-fu": (174_781, 95_819, (12, 5, 6)),
    "sim-rb": (170_446, 162_750, (12, 5, 6)),
    "sim-cu": (269_108, 55_301, (16, 7, 8)),
    "sim-ag": (299_556, 102_662, (18, 9, 10)),
}
QUARTER_HOUR = 900 * 10**9


@pytest.mark.parametrize("name", PINNED)
def test_the_generated_market_is_the_pinned_one(name):
    spec = manifest(name)
    done = generate(spec)
    rows, lots, episodes = PINNED[name]
    assert (len(done.events), done.counts["traded_lots"]) == (rows, lots)
    assert events_sha256(done.events) == spec.events_sha256
    splits, counts = make_splits(spec, done.segments, done.events)
    assert tuple(len(splits[s]) for s in ("train", "validation", "test")) == episodes
    assert counts == {"episodes_dropped_short": 0}
    last = 0
    for split in ("train", "validation", "test"):
        for episode in splits[split]:
            assert episode.end_ts - episode.start_ts == QUARTER_HOUR
            assert episode.start_ts >= last  # in time order, nothing shared between splits
            last = episode.end_ts
            segment = done.segments[episode.segment]
            ts = done.events["ts"][segment.start : segment.stop]
            assert ts[0] <= episode.start_ts - 300 * 10**9
            assert ts[-1] >= episode.end_ts
