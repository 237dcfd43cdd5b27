"""What poorer feeds would show of a market: an order-by-order day as level changes or as snapshots.

Both views tell the same story at the same times, so whatever is estimated from them can be compared with
what the orders themselves say (`mmsim.scoring`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Ints, no_progress
from mmsim.data.snapshots import Snapshots, convert_days
from mmsim.data.view_rows import sample, to_levels
from mmsim.errors import ConfigError, DataError
from mmsim.types import EVENT, EventKind, MarketData, Segment

_ADD, _EXECUTE, _TRADE = int(EventKind.ADD), int(EventKind.EXECUTE), int(EventKind.TRADE)
_HIDE, _CLEAR = int(EventKind.HIDE), int(EventKind.CLEAR)
_COLUMNS = ("ts", "kind", "side", "px", "qty", "flags")


def level_view(data: MarketData) -> MarketData:
    """Return an order-by-order market as its L2 feed would show it.

    Each message becomes its prints (executions are TRADE rows now), then the new total of every level it
    touched, those that shrank before those that grew; levels that left the feed's view (HIDE) still do. Order
    ids are gone; times, segments, splits and the ``LAST`` flag are kept. A level that a message traded on and
    refilled to the same total is published all the same, as feeds do.

    Raises
    ------
    ConfigError
        If the market has no orders.
    DataError
        If a level would become negative.
    """
    if data.level != "L3":
        raise ConfigError(
            f"{data.name}: expected an order-by-order (L3) market, was {data.level}: nothing to hide"
        )
    parts: list[npt.NDArray[np.void]] = []
    recv: list[Ints] = []
    segments: list[Segment] = []
    at = 0
    for segment in data.segments:
        rows = data.events[segment.start : segment.stop]
        out, source = _levels(data, rows)
        if data.recv_ts is not None:
            recv.append(np.asarray(data.recv_ts)[segment.start : segment.stop][source])
        parts.append(out)
        segments.append(Segment(at, at + len(out), segment.label))
        at += len(out)
    return replace(
        data,
        events=_joined(parts),
        segments=tuple(segments),
        level="L2",
        n_slots=0,
        recv_ts=np.concatenate(recv) if recv else None,
        counts={},
    )


def snapshot_view(data: MarketData, interval_ns: int, depth: int) -> MarketData:
    """Return a market as a feed of regular snapshots with cumulative volume and turnover would show it.

    A snapshot stands at every multiple of `interval_ns` since the epoch and shows the best `depth` levels after
    everything that happened up to and including its time. Trades are not printed: they are inferred from
    volume and turnover between two snapshots, by the code that converts the vendors' snapshot files
    (`mmsim.data.snapshots.convert_days`), sessions and auctions included. Crossed books, which orders form in
    call auctions, are not shown.

    Parameters
    ----------
    data : MarketData
        An L3 or L2 market.
    interval_ns : int
        Time between snapshots, ns.
    depth : int
        Levels per side.

    Raises
    ------
    ConfigError
        If the market is a snapshot feed already, or `depth` or `interval_ns` is not positive.
    """
    if data.level == "snapshot":
        raise ConfigError(f"{data.name}: expected an L3 or L2 market, was a snapshot feed already")
    if interval_ns <= 0 or depth <= 0:
        raise ConfigError(
            f"snapshots: expected a positive interval (ns) and depth, was {interval_ns} and {depth}"
        )
    levels = level_view(data) if data.level == "L3" else data
    parts: list[npt.NDArray[np.void]] = []
    segments: list[Segment] = []
    at = 0
    for segment in levels.segments:
        day = take_snapshots(levels, segment, interval_ns, depth)
        done = convert_days([day], data.instrument, depth, no_progress, exact=True) if len(day.ts) else None
        out = np.zeros(0, EVENT) if done is None else done.events
        parts.append(out)
        segments.append(Segment(at, at + len(out), segment.label))
        at += len(out)
    events = _joined(parts)
    if len(events) == 0:
        raise DataError("expected snapshots inside the sessions, was none", source=data.name)
    return replace(
        levels,
        events=events,
        segments=tuple(segments),
        level="snapshot",
        decision_ns=0,
        view_depth=depth,
        recv_ts=None,
        px_min=min(int(events["px"].min()), data.px_min),
        px_max=max(int(events["px"].max()), data.px_max),
        counts={},
    )


def take_snapshots(data: MarketData, segment: Segment, interval_ns: int, depth: int) -> Snapshots:
    """Return one segment of an L2 market as rows of a snapshot file, see `snapshot_view`."""
    rows = data.events[segment.start : segment.stop]
    if len(rows) == 0:
        return _snapshots(data.name, segment.label, np.zeros(0, np.int64), depth)
    first, last = int(rows["ts"][0]), int(rows["ts"][-1])
    grid = np.arange(-(-first // interval_ns) * interval_ns, last + interval_ns, interval_ns, dtype=np.int64)
    out = _snapshots(data.name, segment.label, grid, depth)
    book = np.zeros((2, data.px_max - data.px_min + 1), np.int64)
    ts, kind, side, px, qty, _ = _split(rows)
    sample(
        ts, kind, side, px, qty, data.px_min, book, grid,
        out.bid_px, out.bid_qty, out.ask_px, out.ask_qty, out.last_px, out.volume, out.turnover,
    )  # fmt: skip
    crossed = (out.bid_qty[:, 0] > 0) & (out.ask_qty[:, 0] > 0) & (out.bid_px[:, 0] >= out.ask_px[:, 0])
    return out.take(~crossed)


def _snapshots(name: str, label: str, ts: Ints, depth: int) -> Snapshots:
    def table() -> Ints:
        return np.zeros((len(ts), depth), np.int64)

    def column() -> Ints:
        return np.zeros(len(ts), np.int64)

    return Snapshots(
        label, name, np.arange(1, len(ts) + 1), ts, table(), table(), table(), table(), column(), column(),
        column(),
    )  # fmt: skip


def _split(rows: npt.NDArray[np.void]) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    ts, kind, side, px, qty, flags = (np.ascontiguousarray(rows[c]).astype(np.int64) for c in _COLUMNS)
    return ts, kind, side, px, qty, flags


def _joined(parts: list[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    events = np.concatenate(parts) if parts else np.zeros(0, EVENT)
    events.flags.writeable = False  # as the arrays of real datasets: kernels compile for one type only
    return events


def _levels(data: MarketData, rows: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], Ints]:
    n_prints = int(np.isin(rows["kind"], (_EXECUTE, _TRADE, _HIDE, _CLEAR)).sum())
    n_orders = int(((rows["kind"] >= _ADD) & (rows["kind"] <= _EXECUTE)).sum())
    table = np.zeros((n_prints + n_orders, 7), np.int64)
    width = data.px_max - data.px_min + 1
    ts, kind, side, px, qty, flags = _split(rows)
    book, seen = np.zeros((2, width), np.int64), np.zeros((2, width), np.int64)
    n = to_levels(ts, kind, side, px, qty, flags, data.px_min, book, seen, table)
    if n < 0:
        raise DataError(
            "expected a level of at least 0 lots, was a negative one", source=data.name, row=-1 - n
        )
    table = table[:n]
    out = np.zeros(n, EVENT)
    for i, name in enumerate(_COLUMNS):
        out[name] = table[:, i]
    return out, table[:, 6]
