"""Small generated markets and hand-written ones, for tests and for the contract checker.

`tiny_market` plays a naive order-driven market in plain Python and writes it down as an L3, an L2 or
a snapshot feed; the three tell the same story. `market_from` wraps hand-written rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmsim.types import EVENT, Episode, EventFlag, EventKind, Instrument, MarketData, Segment

Row = tuple[int, int, int, int, int, int, int]  # ts, px, qty, oid, kind, side, flags: as in EVENT
FeedLevel = Literal["L3", "L2", "snapshot"]
T0 = 1_700_000_000_000_000_000  # ns since the epoch; where generated markets start
SECOND = 1_000_000_000


def market_from(
    rows: Iterable[Row] | npt.NDArray[np.void],
    *,
    level: FeedLevel = "L3",
    episode: tuple[int, int] | None = None,
    decision_ns: int = 500_000_000,
    unit_lots: int = 1,
    max_inventory_units: int = 10,
    view_depth: int = 0,
    name: str = "hand-made",
) -> MarketData:
    """Wrap hand-written event rows as a market of one segment and one episode.

    Parameters
    ----------
    rows
        ``(ts, px, qty, oid, kind, side, flags)`` in the order of `mmsim.types.EVENT` (ns, ticks, lots).
    episode
        ``(start_ts, end_ts)`` ns; default: from just after the first message to just after the last row.

    Returns
    -------
    MarketData
        The same episode is the train, the validation and the test split.
    """
    events = rows if isinstance(rows, np.ndarray) else np.array(list(rows), dtype=EVENT)
    if episode is None:
        episode = (int(events["ts"][0]) + 1, int(events["ts"][-1]) + 1)
    splits = dict.fromkeys(("train", "validation", "test"), (Episode(0, *episode),))
    return _market(
        events, (Segment(0, len(events)),), splits, name, level, decision_ns, unit_lots, view_depth,
        max_inventory_units,
    )  # fmt: skip


def tiny_market(
    seed: int = 0,
    *,
    level: FeedLevel = "L3",
    seconds: int = 60,
    events_per_second: float = 20.0,
    spread_ticks: int = 1,
    start_px: int = 10_000,
    unit_lots: int = 1,
    view_depth: int = 0,
    decision_ns: int | None = None,
    max_inventory_units: int = 5,
    name: str = "tiny",
) -> MarketData:
    """Generate a small market: three segments of `seconds`, the splits train, validation and test.

    Limit orders arrive around a slowly wandering anchor, at least about ``spread_ticks / 2`` from it,
    market orders take from the best queues, resting orders shrink and leave. The book is never empty
    on a side and never crossed.

    Parameters
    ----------
    seed
        Same seed, same market; the three values of `level` give the same trading.
    level
        ``"L3"``: ADD, REDUCE, DELETE, EXECUTE of orders in recycled slots. ``"L2"``: TRADE and changed
        LEVEL totals after each message. ``"snapshot"``: every 500 ms the traded quantity as implied
        trades, then the changed levels of the best `view_depth` (10 where that is 0), HIDE beyond.
    seconds
        Length of each segment; its episode is ``[start + 2 s, start + seconds)``.
    spread_ticks
        Typical spread, ticks; 1 makes a large-tick market.
    unit_lots
        Usual size of an own order; the market's order sizes scale with it.
    decision_ns
        Time between decisions; default 500 ms, and 0 (every snapshot) on a snapshot feed.
    """
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    segments: list[Segment] = []
    splits: dict[str, tuple[Episode, ...]] = {}
    slots = 0
    for index, split in enumerate(("train", "validation", "test")):
        start_ts = T0 + index * (seconds + 60) * SECOND
        play = _Play(rng, start_ts, start_px, spread_ticks, unit_lots)
        messages = play.run(start_ts + seconds * SECOND, events_per_second)
        slots = max(slots, play.n_slots)
        begin = len(rows)
        if level == "L3":
            rows += [row for message in messages for row in message]
        elif level == "L2":
            rows += _as_levels(messages)
        else:
            rows += _as_snapshots(messages, start_ts, view_depth or 10)
        segments.append(Segment(begin, len(rows), split))
        splits[split] = (Episode(index, start_ts + 2 * SECOND, start_ts + seconds * SECOND),)
    events = np.array(rows, dtype=EVENT)
    if decision_ns is None:
        decision_ns = 0 if level == "snapshot" else 500_000_000
    depth = (view_depth or 10) if level == "snapshot" else view_depth
    data = _market(
        events, tuple(segments), splits, name, level, decision_ns, unit_lots, depth, max_inventory_units
    )
    return data if level != "L3" else _with_slots(data, slots)


def _market(
    events: npt.NDArray[np.void],
    segments: tuple[Segment, ...],
    splits: Mapping[str, tuple[Episode, ...]],
    name: str,
    level: FeedLevel,
    decision_ns: int,
    unit_lots: int,
    view_depth: int,
    max_inventory_units: int,
) -> MarketData:
    # read-only, as the memory-mapped arrays of real datasets are: kernels compile for one type only
    events.flags.writeable = False
    priced = events["kind"] != EventKind.CLEAR
    pxs = events["px"][priced]
    return MarketData(
        name=name,
        instrument=Instrument(
            name=name.upper(), tick_size=Decimal("0.01"), unit_lots=unit_lots, currency="XXX", timezone="UTC"
        ),
        events=events,
        segments=segments,
        splits=splits,
        level=level,
        n_slots=int(events["oid"].max()) + 1 if level == "L3" else 0,
        px_min=int(pxs.min()),
        px_max=int(pxs.max()),
        decision_ns=decision_ns,
        view_depth=view_depth,
        simulated=True,
        max_inventory_units=max_inventory_units,
    )


def _with_slots(data: MarketData, slots: int) -> MarketData:
    from dataclasses import replace

    return replace(data, n_slots=max(data.n_slots, slots))


class _Play:
    """The naive market: two dictionaries of queues, one random event at a time."""

    def __init__(self, rng: np.random.Generator, ts: int, px: int, spread_ticks: int, unit_lots: int) -> None:
        self.rng, self.ts, self.unit = rng, ts, unit_lots
        self.anchor = px + 0.5 * (spread_ticks % 2)
        self.half = spread_ticks / 2
        self.queues: dict[int, dict[int, list[list[int]]]] = {1: {}, -1: {}}  # side -> px -> [[oid, qty]]
        self.free: list[int] = []
        self.n_slots = 0
        self.messages: list[list[Row]] = []

    def best(self, side: int) -> int:
        return max(self.queues[1]) if side == 1 else min(self.queues[-1])

    def size(self) -> int:
        # not always whole units: odd remainders happen in real queues
        return max(
            1, int(self.rng.integers(1, 6)) * self.unit - int(self.rng.integers(0, 2)) * (self.unit // 2)
        )

    def emit(self, rows: list[Row]) -> None:
        ts, px, qty, oid, kind, side, flags = rows[-1]
        rows[-1] = (ts, px, qty, oid, kind, side, flags | EventFlag.LAST)
        self.messages.append(rows)

    def add(self, side: int, px: int) -> None:
        px = min(px, self.best(-1) - 1) if side == 1 else max(px, self.best(1) + 1)
        self.place(side, px, 0)

    def place(self, side: int, px: int, flags: int) -> None:
        if self.free:
            oid = self.free.pop()
        else:
            oid, self.n_slots = self.n_slots, self.n_slots + 1
        qty = self.size()
        self.queues[side].setdefault(px, []).append([oid, qty])
        self.emit([(self.ts, px, qty, oid, EventKind.ADD, side, flags)])

    def limit(self, side: int) -> None:
        self.add(side, round(self.anchor - side * (self.half + self.rng.exponential(1.5 + self.half / 2))))

    def remove(self, side: int, px: int, index: int) -> None:
        queue = self.queues[side][px]
        self.free.append(queue.pop(index)[0])
        if not queue:
            del self.queues[side][px]

    def thin(self, side: int) -> bool:
        return len(self.queues[side]) < 4

    def cancel(self, side: int) -> None:
        pxs = sorted(self.queues[side], reverse=side == 1)
        px = pxs[min(int(self.rng.exponential(2.0)), len(pxs) - 1)]
        index = int(self.rng.integers(len(self.queues[side][px])))
        oid, qty = self.queues[side][px][index]
        if qty > 1 and self.rng.random() < 0.3:
            cut = int(self.rng.integers(1, qty))
            self.queues[side][px][index][1] -= cut
            self.emit([(self.ts, px, cut, oid, EventKind.REDUCE, side, 0)])
        else:
            self.remove(side, px, index)
            self.emit([(self.ts, px, qty, oid, EventKind.DELETE, side, 0)])

    def take(self, aggressor: int) -> None:
        # a market order eats resting orders from the front, at most two levels deep
        side = -aggressor
        left = self.size() * (3 if self.rng.random() < 0.15 else 1)
        rows: list[Row] = []
        levels = 0
        while left > 0 and levels < 2 and not self.thin(side):
            px = self.best(side)
            while left > 0 and px in self.queues[side]:
                order = self.queues[side][px][0]
                done = min(left, order[1])
                left -= done
                order[1] -= done
                rows.append((self.ts, px, done, order[0], EventKind.EXECUTE, side, 0))
                if order[1] == 0:
                    self.remove(side, px, 0)
            levels += 1
        if rows:
            self.emit(rows)

    def step(self) -> None:
        side = 1 if self.rng.random() < 0.5 else -1
        self.anchor += 0.08 * (1 + self.half / 2) * self.rng.standard_normal()
        stale = self.queues[side] and side * (self.best(side) - self.anchor) > self.half
        draw = self.rng.random()
        if self.thin(side):
            self.limit(side)
        elif stale or draw < 0.33:
            if stale:
                self.take(-side)
            else:
                self.cancel(side)
        elif draw < 0.5:
            self.take(side)
        else:
            self.limit(side)

    def run(self, until: int, rate: float) -> list[list[Row]]:
        for i in range(8):
            for side in (1, -1):
                self.place(side, round(self.anchor - side * (self.half + i)), EventFlag.SEED)
        while True:
            self.ts += 1 + int(self.rng.exponential(SECOND / rate))
            if self.ts >= until:
                return self.messages
            self.step()


def _apply(row: Row, totals: dict[int, dict[int, int]]) -> tuple[int, int]:
    # the level a row changes; `totals` follows
    _, px, qty, _, kind, side, _ = row
    change = qty if kind == EventKind.ADD else -qty
    totals[side][px] = totals[side].get(px, 0) + change
    if totals[side][px] == 0:
        del totals[side][px]
    return side, px


def _as_levels(messages: Sequence[list[Row]]) -> list[Row]:
    totals: dict[int, dict[int, int]] = {1: {}, -1: {}}
    out: list[Row] = []
    for message in messages:
        rows: list[Row] = []
        changed: dict[tuple[int, int], None] = {}
        for row in message:
            ts, px, qty, _, kind, side, _ = row
            if kind == EventKind.EXECUTE:
                rows.append((ts, px, qty, 0, EventKind.TRADE, -side, 0))
            changed[_apply(row, totals)] = None
        rows += [(ts, px, totals[s].get(px, 0), 0, EventKind.LEVEL, s, 0) for s, px in changed]
        out += _closed(rows)
    return out


def _as_snapshots(messages: Sequence[list[Row]], start_ts: int, depth: int) -> list[Row]:
    totals: dict[int, dict[int, int]] = {1: {}, -1: {}}
    shown: dict[int, dict[int, int | None]] = {1: {}, -1: {}}
    out: list[Row] = []
    trades: dict[tuple[int, int], int] = {}
    due = start_ts + SECOND // 2
    for message in messages:
        while message[0][0] >= due:
            out += _snapshot(due, totals, shown, trades, depth)
            due += SECOND // 2
        for row in message:
            if row[4] == EventKind.EXECUTE:
                key = (row[1], -row[5])
                trades[key] = trades.get(key, 0) + row[2]
            _apply(row, totals)
    return out + _snapshot(due, totals, shown, trades, depth)


def _snapshot(
    ts: int,
    totals: dict[int, dict[int, int]],
    shown: dict[int, dict[int, int | None]],  # None: hidden, no longer observed
    trades: dict[tuple[int, int], int],
    depth: int,
) -> list[Row]:
    flags = EventFlag.SNAPSHOT
    rows: list[Row] = [
        (ts, px, qty, 0, EventKind.TRADE, side, flags | EventFlag.IMPLIED)
        for (px, side), qty in trades.items()
    ]
    trades.clear()
    for side in (1, -1):
        listed = sorted(totals[side], reverse=side == 1)[:depth]
        now = {px: totals[side][px] for px in listed}
        full = len(listed) == depth
        for px in sorted(shown[side].keys() - now.keys()):
            if not (full and side * (listed[-1] - px) > 0):
                rows.append((ts, px, 0, 0, EventKind.LEVEL, side, flags))
                del shown[side][px]
            elif shown[side][px] is not None:
                rows.append((ts, px, 0, 0, EventKind.HIDE, side, flags))
                shown[side][px] = None
        for px, qty in now.items():
            if shown[side].get(px) != qty:
                rows.append((ts, px, qty, 0, EventKind.LEVEL, side, flags))
        shown[side].update(now)
    if not any(row[4] in (EventKind.LEVEL, EventKind.HIDE) for row in rows):
        best = max(totals[1])
        rows.append((ts, best, totals[1][best], 0, EventKind.LEVEL, 1, flags))
    return _closed(rows)


def _closed(rows: list[Row]) -> list[Row]:
    ts, px, qty, oid, kind, side, flags = rows[-1]
    rows[-1] = (ts, px, qty, oid, kind, side, flags | EventFlag.LAST)
    return rows
