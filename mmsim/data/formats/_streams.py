"""Shared steps of the feeds with two clocks: receive times, times that run backwards, labels, books to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints
from mmsim.data.ladder import top_of_book
from mmsim.errors import ConfigError, DataError
from mmsim.types import EVENT, EventKind, Segment

BACKWARDS = ("refuse", "hold")


def backwards_option(options: Mapping[str, Any], where: str) -> str:
    """Return the option ``backwards``: ``refuse`` (default) or ``hold``."""
    value = str(options.get("backwards", BACKWARDS[0]))
    if value not in BACKWARDS:
        raise ConfigError(f"{where}: option backwards: expected one of {', '.join(BACKWARDS)}, was {value!r}")
    return value


def in_order(
    ts: Ints,
    rows: npt.NDArray[Any],
    how: str,
    *,
    source: str,
    field: str,
    counts: dict[str, int],
    notes: list[str],
) -> Ints:
    """Return exchange times that do not run backwards.

    Messages stay in the order of the file: the book is only right in that order. ``how="hold"`` gives a message
    that is stamped before its predecessor the predecessor's time, counts and describes it.

    Raises
    ------
    DataError
        With ``how="refuse"``, for the first time that runs backwards.
    """
    held = np.maximum.accumulate(ts)
    late = held > ts
    if not late.any():
        return ts
    at = int(np.argmax(late))
    if how == "refuse":
        raise DataError(
            f"expected exchange time not before {held[at]} ns, was {ts[at]}: the option backwards=hold gives such "
            "messages the time of the one before",
            source=source,
            row=int(rows[at]),
            field=field,
        )
    counts["times_held"] = counts.get("times_held", 0) + int(late.sum())
    notes.append(
        f"{int(late.sum())} messages of {source} were stamped up to {int((held - ts).max()) / 1e6:.3f} ms before the "
        f"message that they follow (first at row {rows[at]}); they have its time"
    )
    return held


def receive_times(ts: Ints, recv: Ints, counts: dict[str, int], notes: list[str]) -> Ints:
    """Return receive times none of which is before its exchange time: moved by one constant if need be."""
    behind = int(np.min(recv - ts))
    if behind >= 0:
        return recv
    start = np.datetime64(int(ts[0]), "ns").astype("datetime64[s]")
    notes.append(
        f"the local clock of the stretch at {start} was behind the exchange: "
        f"receive times moved by {-behind / 1e6:.3f} ms"
    )
    counts["recv_shift_max_us"] = max(counts.get("recv_shift_max_us", 0), -behind // 1000)
    return recv - behind


def add_counts(total: dict[str, int], found: Mapping[str, int]) -> None:
    """Add each number of `found` to `total`."""
    for name, number in found.items():
        total[name] = total.get(name, 0) + int(number)


def count_kinds(total: dict[str, int], kinds: npt.NDArray[Any], names: Mapping[int, str]) -> None:
    """Add to `total` how often each kind occurs in `kinds`, under its name; kinds that never occur too."""
    found = np.unique(kinds, return_counts=True)
    number = dict(zip((int(k) for k in found[0]), (int(n) for n in found[1]), strict=True))
    for kind, name in names.items():
        total[name] = total.get(name, 0) + number.get(kind, 0)


def joined(parts: list[tuple[npt.NDArray[np.void], Ints | None]], out: Conversion, source: str) -> Conversion:
    """Put converted stretches together, one segment each, labelled by UTC day and number."""
    segments: list[Segment] = []
    at = 0
    for events, _ in parts:
        if len(events) == 0:
            continue
        label = str(np.datetime64(int(events["ts"][0]), "ns").astype("datetime64[D]"))
        same = sum(s.label == label or s.label.startswith(label + "-") for s in segments)
        segments.append(Segment(at, at + len(events), f"{label}-{same + 1}" if same else label))
        at += len(events)
    out.events = np.concatenate([e for e, _ in parts]) if parts else np.zeros(0, EVENT)
    received = [r for _, r in parts if r is not None]
    if received:
        out.recv_ts = np.concatenate(received)
    out.segments = tuple(segments)
    return out.finish(source)


def crossed_levels(events: npt.NDArray[np.void]) -> Ints:
    """Return the messages (index among the LAST rows) after which the book of level events is crossed."""
    rows = events
    if (events["kind"] == EventKind.CLEAR).any():
        # the checking ladder knows no CLEAR: check each stretch between them on its own
        cuts = np.flatnonzero(events["kind"] == EventKind.CLEAR)
        found, done = [], 0
        for a, b in zip([0, *(cuts + 1).tolist()], [*cuts.tolist(), len(events)], strict=True):
            part = events[a:b]
            messages = int(np.sum(part["flags"] & 1 > 0))
            if messages:
                found.append(crossed_levels(part) + done)
            done += messages
            if b < len(events):
                done += int(events["flags"][b] & 1)
        return np.concatenate(found) if found else np.zeros(0, np.int64)
    level = (rows["kind"] == EventKind.LEVEL) | (rows["kind"] == EventKind.HIDE)
    if not level.any():
        return np.zeros(0, np.int64)
    px = rows["px"][level]
    low, width = int(px.min()), int(px.max()) - int(px.min()) + 1
    if (~level).any():
        rows = rows.copy()
        rows["px"][~level] = low  # prints may lie outside the ladder
    top = top_of_book(rows, low, np.zeros((2, width), dtype=np.int64))
    return np.flatnonzero((top[:, 1] > 0) & (top[:, 3] > 0) & (top[:, 0] >= top[:, 2]))
