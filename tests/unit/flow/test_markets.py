"""From a manifest's generator table to the events of one trading day on the exchange's clock."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from mmsim.data import manifest
from mmsim.data.store import generate
from mmsim.errors import ConfigError
from mmsim.flow.markets import flow_of
from mmsim.types import EventFlag

HOUR = 3600 * 10**9


def changed(spec, **generator):
    return spec.model_copy(update={"generator": {**spec.generator, **generator}})


@pytest.fixture(scope="module")
def spec():
    return manifest("sim-cu")


@pytest.fixture(scope="module")
def done(spec):
    return generate(spec)


def test_one_segment_a_session_on_the_real_clock(spec, done):
    assert [s.label for s in done.segments] == ["21:00", "09:00", "10:30", "13:30"]
    first = done.events["ts"][done.segments[0].start]
    # 20:55 in Shanghai on the evening before the trading day, 2024-03-05
    assert datetime.fromtimestamp(first / 1e9, UTC) == datetime(2024, 3, 4, 12, 55, tzinfo=UTC)
    hours = [4, 1.25, 1, 1.5]
    for seg, span in zip(done.segments, hours, strict=True):
        ts = done.events["ts"][seg.start : seg.stop]
        opening = ts[0] + spec.generator["warmup_s"] * 10**9
        assert ts[-1] >= opening + span * HOUR  # one message past the close
        assert np.count_nonzero(done.events["flags"][seg.start : seg.stop][ts >= opening + span * HOUR]) == 1


def test_the_price_carries_over_from_session_to_session(done):
    for a, b in zip(done.segments, done.segments[1:], strict=False):
        assert abs(int(done.events["px"][a.stop - 1]) - int(done.events["px"][b.start])) < 25


def test_sessions_have_their_own_randomness(done):
    gaps = [np.diff(done.events["ts"][s.start : s.stop])[500:600].tolist() for s in done.segments]
    assert len({tuple(g) for g in gaps}) == 4


def test_it_says_what_it_is(done):
    assert done.level == "L3"
    assert done.view_depth == 0
    assert any("simulated" in note for note in done.notes)
    assert done.counts["rows_read"] == len(done.events)
    assert done.counts["messages"] == np.count_nonzero(done.events["flags"] & EventFlag.LAST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"burts": 5}, r"unknown key 'burts' \(did you mean 'burst'\?\)"),
        ({"drift": 0.5}, "generator.drift: expected integers, was 0.5"),
        ({"sizes": ["1"]}, "generator.sizes: expected integers"),
        ({"seed": True}, "generator.seed: expected integers"),
        ({"date": "5 March"}, "generator.date: expected YYYY-MM-DD"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(spec, change, message):
    with pytest.raises(ConfigError, match=message):
        generate(changed(spec, **change))


def test_a_missing_key_or_session_is_refused(spec):
    with pytest.raises(ConfigError, match="expected a key 'drift', was none"):
        flow_of({k: v for k, v in spec.generator.items() if k != "drift"})
    bare = spec.model_copy(update={"instrument": spec.instrument.model_copy(update={"sessions": ()})})
    with pytest.raises(ConfigError, match=r"expected instrument\.sessions"):
        generate(bare)
