"""What poorer feeds would show of a market: an order-by-order day as level changes or as snapshots.

Both views tell the same story at the same times, so whatever is estimated from them can be compared with
what the orders themselves say (`mmsim.scoring`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints, no_progress
from mmsim.data.snapshots import Snapshots, convert_days
from mmsim.errors import ConfigError, DataError
from mmsim.types import EVENT, EventFlag, EventKind, MarketData, Segment

_ADD, _EXECUTE, _TRADE = int(EventKind.ADD), int(EventKind.EXECUTE), int(EventKind.TRADE)
_LEVEL, _HIDE, _CLEAR = int(EventKind.LEVEL), int(EventKind.HIDE), int(EventKind.CLEAR)
_LAST, _AUCTION = int(EventFlag.LAST), int(EventFlag.AUCTION)
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
        Levels a side.

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
        done = convert_days([day], data.instrument, depth, no_progress) if len(day.ts) else None
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
    _sample(
        *(np.ascontiguousarray(rows[c]).astype(np.int64) for c in _COLUMNS), data.px_min, book, grid,
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


def _joined(parts: list[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    events = np.concatenate(parts) if parts else np.zeros(0, EVENT)
    events.flags.writeable = False  # as the arrays of real datasets: kernels compile for one type only
    return events


def _levels(data: MarketData, rows: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], Ints]:
    n_prints = int(np.isin(rows["kind"], (_EXECUTE, _TRADE, _HIDE, _CLEAR)).sum())
    n_orders = int(((rows["kind"] >= _ADD) & (rows["kind"] <= _EXECUTE)).sum())
    table = np.zeros((n_prints + n_orders, 7), np.int64)
    width = data.px_max - data.px_min + 1
    columns: list[Any] = [np.ascontiguousarray(rows[c]).astype(np.int64) for c in _COLUMNS]
    n = _to_levels(
        *columns, data.px_min, np.zeros((2, width), np.int64), np.zeros((2, width), np.int64), table
    )
    if n < 0:
        raise DataError(
            "expected a level of at least 0 lots, was a negative one", source=data.name, row=-1 - n
        )
    table = table[:n]
    out = np.zeros(n, EVENT)
    for i, name in enumerate(_COLUMNS):
        out[name] = table[:, i]
    return out, table[:, 6]


@kernel
def _to_levels(ts, kind, side, px, qty, flags, low, book, seen, out):  # type: ignore[no-untyped-def]
    """Write the L2 rows of one segment, columns ts, kind, side, px, qty, flags, source row; return how many.

    `book` holds the totals; `seen` one more than the total before the open message of the levels it touched.
    Returns ``-1 - row`` if a level would become negative.
    """
    touched = np.zeros((max(len(ts), 1), 2), np.int64)
    n, n_touched, begin = 0, 0, 0
    auction = 0
    for i in range(len(ts)):
        k = kind[i]
        auction |= flags[i] & _AUCTION
        if k == _TRADE or k == _EXECUTE or k == _HIDE or k == _CLEAR:
            out[n, 0], out[n, 1], out[n, 2], out[n, 3] = ts[i], k, side[i], px[i]
            out[n, 4], out[n, 5], out[n, 6] = qty[i], flags[i] & ~_LAST, i
            if k == _EXECUTE:
                out[n, 1] = _TRADE
                out[n, 2] = 0 if flags[i] & _AUCTION else -side[i]
            n += 1
        if k == _CLEAR:
            book[:, :] = 0
            for j in range(n_touched):
                seen[touched[j, 0], touched[j, 1]] = 0
            n_touched = 0
        elif k != _TRADE:
            row, at = 0 if side[i] > 0 else 1, px[i] - low
            if k == _HIDE:
                book[row, at] = 0
                if seen[row, at] > 0:  # its total is no longer published
                    seen[row, at] = 0
                    for j in range(n_touched):
                        if touched[j, 0] == row and touched[j, 1] == at:
                            n_touched -= 1
                            touched[j, 0], touched[j, 1] = touched[n_touched, 0], touched[n_touched, 1]
                            break
            else:
                if seen[row, at] == 0:
                    seen[row, at] = book[row, at] + 1
                    touched[n_touched, 0], touched[n_touched, 1] = row, at
                    n_touched += 1
                book[row, at] += qty[i] if k == _ADD else -qty[i]
                if book[row, at] < 0:
                    return -1 - i
        if flags[i] & _LAST or i == len(ts) - 1:
            for grown in range(2):  # what shrinks comes first: the book is never crossed half-way
                for j in range(n_touched):
                    row, at = touched[j, 0], touched[j, 1]
                    if (book[row, at] + 1 > seen[row, at]) != (grown == 1):
                        continue
                    out[n, 0], out[n, 1], out[n, 2], out[n, 3] = ts[i], _LEVEL, 1 - 2 * row, at + low
                    out[n, 4], out[n, 5], out[n, 6] = book[row, at], auction, i
                    n += 1
            for j in range(n_touched):
                seen[touched[j, 0], touched[j, 1]] = 0
            if n > begin:
                out[n - 1, 5] |= flags[i] & _LAST
            n_touched, begin, auction = 0, n, 0
    return n


@kernel
def _sample(  # type: ignore[no-untyped-def]
    ts, kind, side, px, qty, flags, low, book, grid, bid_px, bid_qty, ask_px, ask_qty, last, volume, turnover
):
    """Write what a snapshot at each time of `grid` shows of one segment's L2 rows."""
    depth = bid_px.shape[1]
    width = book.shape[1]
    best = np.array([-1, width])  # no quote beyond these
    price, lots, value = np.int64(0), np.int64(0), np.int64(0)
    i = 0
    for g in range(len(grid)):
        while i < len(ts) and ts[i] <= grid[g]:
            row, at = 0 if side[i] > 0 else 1, px[i] - low
            if kind[i] == _TRADE:
                price = px[i]
                lots += qty[i]
                value += qty[i] * px[i]
            elif kind[i] == _CLEAR:
                book[:, :] = 0
                best[0], best[1] = -1, width
            elif kind[i] == _LEVEL or kind[i] == _HIDE:
                book[row, at] = qty[i] if kind[i] == _LEVEL else 0
                if book[row, at] > 0:
                    best[row] = max(best[row], at) if row == 0 else min(best[row], at)
            i += 1
        for row in range(2):
            step = -1 if row == 0 else 1
            while 0 <= best[row] < width and book[row, best[row]] == 0:
                best[row] += step
            at, shown = best[row], 0
            while 0 <= at < width and shown < depth:
                if book[row, at] > 0:
                    if row == 0:
                        bid_px[g, shown], bid_qty[g, shown] = at + low, book[row, at]
                    else:
                        ask_px[g, shown], ask_qty[g, shown] = at + low, book[row, at]
                    shown += 1
                at += step
        last[g], volume[g], turnover[g] = price, lots, value
