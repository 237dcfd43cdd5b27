"""Cut a dataset's trading time into training, validation and test episodes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim.data.manifest import SPLITS, Manifest
from mmsim.errors import DataError
from mmsim.sessions import NS, trading_windows
from mmsim.types import Episode, Segment

Window = tuple[int, int, int]  # segment index, start and end in ns


def make_splits(
    spec: Manifest, segments: tuple[Segment, ...], events: npt.NDArray[np.void]
) -> tuple[dict[str, tuple[Episode, ...]], dict[str, int]]:
    """Return ``{split: episodes}`` and counts of what was left out.

    Trading time is the continuous sessions of the instrument, as far as the segments reach. It is given
    to splits by segment label, or in order by fractions with a gap after each boundary. Each stretch is
    cut into episodes of ``episode_s``; a last part of less than half of that is dropped and counted.

    Raises
    ------
    DataError
        If a split names a segment that the data do not have, or no episode comes out at all.
    """
    instrument = spec.instrument.build()
    windows: list[Window] = []
    for i, seg in enumerate(segments):
        first, last = int(events["ts"][seg.start]), int(events["ts"][seg.stop - 1])
        windows += [(i, a, b) for a, b in trading_windows(instrument, first, last)]
    parts = (
        _by_label(spec, segments, windows) if spec.splits.fractions is None else _by_fraction(spec, windows)
    )
    length = spec.replay.episode_s * NS
    out: dict[str, tuple[Episode, ...]] = {}
    short = 0
    for split in SPLITS:
        episodes: list[Episode] = []
        for seg_index, start, end in parts[split]:
            for at in range(start, end, length):
                stop = min(at + length, end)
                if 2 * (stop - at) < length:
                    short += 1
                else:
                    episodes.append(Episode(seg_index, at, stop))
        out[split] = tuple(episodes)
    if not any(out.values()):
        raise DataError(
            f"expected at least one episode of {spec.replay.episode_s} s of trading, was none: "
            "check sessions, time zone and episode_s",
            source=spec.name,
        )
    return out, {"episodes_dropped_short": short}


def _by_label(
    spec: Manifest, segments: tuple[Segment, ...], windows: list[Window]
) -> dict[str, list[Window]]:
    labels = [s.label for s in segments]
    out: dict[str, list[Window]] = {}
    for split in SPLITS:
        wanted = getattr(spec.splits, split)
        for label in wanted:
            if label not in labels:
                raise DataError(
                    f"split {split} names segment {label!r}, the data have {', '.join(labels)}",
                    source=spec.name,
                )
        out[split] = [w for w in windows if labels[w[0]] in wanted]
    return out


def _by_fraction(spec: Manifest, windows: list[Window]) -> dict[str, list[Window]]:
    fractions = spec.splits.fractions or (1.0, 0.0, 0.0)
    total = sum(b - a for _, a, b in windows)
    gap = spec.splits.gap_s * NS
    bounds = [0, round(total * fractions[0]), round(total * (fractions[0] + fractions[1])), total]
    out: dict[str, list[Window]] = {}
    for i, split in enumerate(SPLITS):
        low = bounds[i] + (gap if i and bounds[i] else 0)
        out[split] = _slice(windows, low, bounds[i + 1])
    return out


def _slice(windows: list[Window], low: int, high: int) -> list[Window]:
    # the part of the windows between two amounts of trading time
    out: list[Window] = []
    at = 0
    for seg, a, b in windows:
        start, end = max(low - at, 0), min(high - at, b - a)
        if start < end:
            out.append((seg, a + start, a + end))
        at += b - a
    return out
