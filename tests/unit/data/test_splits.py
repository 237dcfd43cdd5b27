"""Episodes: only continuous trading, never across a break, disjoint splits with their gap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim.data.conversion import build_events
from mmsim.data.manifest import SPLITS, Manifest, parse_manifest
from mmsim.data.splits import make_splits
from mmsim.errors import DataError
from mmsim.sessions import midnight_ns, trading_windows
from mmsim.types import Instrument, Segment

NS = 10**9
DAY = midnight_ns("20240110", "Asia/Shanghai")


def spec(sessions: list[list[str]], splits: dict[str, Any], episode_s: int = 600) -> Manifest:
    return parse_manifest(
        {
            "name": "x",
            "title": "x",
            "kind": "public",
            "format": "ctp",
            "instrument": {"name": "x", "tick_size": "1", "sessions": sessions},
            "replay": {"level": "snapshot", "decision_ns": 0, "episode_s": episode_s},
            "splits": splits,
        },
        "x",
    )


def events(*spans: tuple[float, float]) -> tuple[tuple[Segment, ...], np.ndarray]:
    """Two events a segment, at its first and last hour of `DAY`."""
    ts = [DAY + round(h * 3600 * NS) for span in spans for h in span]
    rows = build_events(ts=ts, kind=6, side=1, px=1, qty=1, flags=1)
    return tuple(Segment(2 * i, 2 * i + 2, f"s{i}") for i in range(len(spans))), rows


def hours(episodes: tuple) -> list[tuple[float, float]]:
    return [((e.start_ts - DAY) / 3600 / NS, (e.end_ts - DAY) / 3600 / NS) for e in episodes]


def test_fractions_of_the_trading_time_with_a_gap() -> None:
    sessions = [["09:30", "11:30"], ["13:00", "14:57"]]
    segments, rows = events((9.25, 15.1))
    out, counts = make_splits(spec(sessions, {"fractions": [0.6, 0.2, 0.2], "gap_s": 60}), segments, rows)
    # 14,220 s of trading: 8,532 s of train = two hours to the break (12 episodes) and 1,332 s after it
    train = hours(out["train"])
    assert train[:2] == [(9.5, 9.5 + 1 / 6), (9.5 + 1 / 6, 9.5 + 2 / 6)]
    assert len(train) == 14
    assert train[12][0] == 13.0
    assert out["validation"][0].start_ts == DAY + (13 * 3600 + 1332 + 60) * NS
    assert out["test"][-1].end_ts == DAY + (14 * 3600 + 57 * 60) * NS
    assert counts["episodes_dropped_short"] == 1  # 132 s of train


def test_labels_and_partial_episodes() -> None:
    segments, rows = events((9.5, 9.5 + 1500 / 3600), (10.0, 10.0 + 1700 / 3600))
    out, counts = make_splits(spec([], {"train": ["s0"], "test": ["s1"]}), segments, rows)
    assert [(e.end_ts - e.start_ts) // NS for e in out["train"]] == [600, 600, 300]
    assert [(e.end_ts - e.start_ts) // NS for e in out["test"]] == [600, 600, 500]
    assert out["validation"] == ()
    assert {e.segment for e in out["test"]} == {1}
    assert counts["episodes_dropped_short"] == 0
    with pytest.raises(DataError, match="split train names segment 's9', the data have s0, s1"):
        make_splits(spec([], {"train": ["s9"]}), segments, rows)


def test_nothing_to_trade_is_an_error() -> None:
    segments, rows = events((16.0, 17.0))
    with pytest.raises(DataError, match="at least one episode of 600 s"):
        make_splits(spec([["09:30", "11:30"]], {"fractions": [1, 0, 0]}), segments, rows)


def test_night_sessions_cross_midnight() -> None:
    instrument = Instrument("ag", 1, sessions=(("21:00", "02:30"), ("09:00", "10:15")))  # type: ignore[arg-type]
    got = trading_windows(instrument, DAY - 4 * 3600 * NS, DAY + 12 * 3600 * NS)
    assert [((a - DAY) / 3600 / NS, (b - DAY) / 3600 / NS) for a, b in got] == [(-3.0, 2.5), (9.0, 10.25)]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 200)), min_size=1, max_size=5),
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(0, 90),
    st.integers(1, 90),
)
def test_splits_are_disjoint_ordered_and_apart(
    spans: list[tuple[int, int]], a: int, b: int, gap: int, length: int
) -> None:
    # segments one after another, each `pause` minutes after the last and `minutes` long
    at, windows = 9.0, []
    for pause, minutes in spans:
        windows.append((at + pause / 60, at + (pause + minutes) / 60))
        at = windows[-1][1]
    segments, rows = events(*windows)
    low, high = sorted((a, b))
    fractions = [low / 100, (high - low) / 100, (100 - high) / 100]  # 1 - low - ... can fall below 0
    try:
        out, _ = make_splits(spec([], {"fractions": fractions, "gap_s": gap}, length), segments, rows)
    except DataError:
        return
    last_end = 0
    for split in SPLITS:
        for i, episode in enumerate(out[split]):
            segment = segments[episode.segment]
            assert (
                rows["ts"][segment.start] <= episode.start_ts < episode.end_ts <= rows["ts"][segment.stop - 1]
            )
            assert length * NS / 2 <= episode.end_ts - episode.start_ts <= length * NS
            assert episode.start_ts >= last_end + (
                gap * NS if i == 0 and last_end and split != "train" else 0
            )
            last_end = episode.end_ts
