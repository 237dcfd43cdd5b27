"""Binance raw websocket lines: local receive time, a space, one JSON message.

The book is the REST snapshot plus the depth differences after it; trades are a second stream. Both are put in
one order by exchange time, trades first at equal times (a difference up to that time already lacks what they
took). ``bookTicker`` messages are not replayed: they check the book after every difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import (
    Conversion,
    Ints,
    Progress,
    build_events,
    check_options,
    units_from_text,
)
from mmsim.data.files import read_lines
from mmsim.data.ladder import top_of_book
from mmsim.errors import DataError
from mmsim.types import BUY, EVENT, SELL, EventFlag, EventKind, Instrument, Segment

OPTIONS = frozenset({"symbol"})
DEFAULTS: dict[str, Any] = {"level": "L2", "decision_ns": 100_000_000, "episode_s": 60}
UNUSED = {"markPriceUpdate", "aggTrade", "forceOrder", "kline", "24hrTicker", "24hrMiniTicker"}
MS = 1_000_000
UNITS = {19: 1, 16: 1_000, 13: 1_000_000}  # digits of a receive time -> ns
# most lines of a file are of this kind: read them without the JSON parser
_TICKER = re.compile(
    rb'"e":"bookTicker","u":(\d+),"s":"([^"]+)","b":"([^"]+)","B":"([^"]+)","a":"([^"]+)","A":"([^"]+)"'
)


@dataclass
class _Depth:
    where: int  # index of the file
    row: int
    recv: int
    ts: int
    first: int  # U
    last: int  # u
    prev: int  # pu
    px: list[str]  # of the bid levels, then of the ask levels
    qty: list[str]
    n_bid: int


@dataclass
class _Stretch:
    # one chain of differences: the messages of one or more consecutive files
    depth: list[_Depth] = field(default_factory=list)
    trades: list[tuple[int, int, int, int, int, str, str, bool]] = field(default_factory=list)
    tickers: list[tuple[Any, ...]] = field(default_factory=list)  # u, bid px and qty, ask px and qty
    snapshot: _Depth | None = None


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert raw files to L2 events, one segment for each snapshot and the differences chained to it.

    Files are taken in the order of their first receive time. A file with a snapshot starts a new segment, one
    without goes on with the last. After a gap in the chain nothing is used until the next snapshot (counted).
    ``recv_ts`` is the local time, moved by a constant a segment where that clock was behind the exchange's.

    Options: ``symbol``, to pick one from files with several.

    Raises
    ------
    DataError
        For a cut file, a line that is no message, an unknown event, a price or quantity off the grid, exchange
        time running backwards along the chain, a crossed book.
    """
    check_options(options, OPTIONS, "binance")
    counts: dict[str, int] = dict.fromkeys(
        (
            *("rows_read", "rows_depth", "rows_trade", "rows_book_ticker", "rows_snapshot"),
            *("dropped_not_used_event", "dropped_other_symbol", "dropped_before_snapshot"),
            *("dropped_trade_before_snapshot", "dropped_off_book_trade", "dropped_after_gap", "gaps"),
        ),
        0,
    )
    checks = dict.fromkeys(("states_compared", "states_equal", "crossed_books"), 0)
    notes: list[str] = []
    stretches = _read(_in_order(paths), paths, options.get("symbol"), counts, progress)
    parts: list[npt.NDArray[np.void]] = []
    received: list[Ints] = []
    segments: list[Segment] = []
    at = 0
    for i, stretch in enumerate(stretches):
        progress("building the book", 0.7 + 0.3 * i / len(stretches))
        built = _segment(stretch, paths, instrument, counts, checks, notes)
        if built is None:
            continue
        events, recv = built
        label = str(np.datetime64(int(events["ts"][0]), "ns").astype("datetime64[D]"))
        same = sum(s.label == label or s.label.startswith(label + "-") for s in segments)
        segments.append(Segment(at, at + len(events), f"{label}-{same + 1}" if same else label))
        parts.append(events)
        received.append(recv)
        at += len(events)
    progress("done", 1.0)
    if not parts:
        raise DataError(
            "expected a depth snapshot (a line with lastUpdateId) and differences that follow it, was none",
            source=", ".join(str(p) for p in paths),
        )
    return Conversion(
        np.concatenate(parts),
        tuple(segments),
        "L2",
        recv_ts=np.concatenate(received),
        counts=counts,
        checks=checks,
        notes=notes,
    )


def _in_order(paths: list[Path]) -> list[int]:
    first: list[int] = []
    for path in paths:
        row, line = next(read_lines(path), (1, b""))
        first.append(_local_ns(line.partition(b" ")[0], str(path), row))
    return sorted(range(len(paths)), key=lambda i: first[i])


def _local_ns(text: bytes, source: str, row: int) -> int:
    if len(text) in UNITS and text.isdigit():
        return int(text) * UNITS[len(text)]
    raise DataError(
        f"expected a receive time in ns, us or ms since the epoch, was {text[:40].decode(errors='replace')!r}",
        source=source,
        row=row,
        field="local time",
    )


def _read(
    order: list[int], paths: list[Path], symbol: str | None, counts: dict[str, int], progress: Progress
) -> list[_Stretch]:
    out: list[_Stretch] = []
    first_symbol = symbol or ""
    for n, where in enumerate(order):
        source = str(paths[where])
        progress(paths[where].name, 0.7 * n / len(order))
        part = _Stretch()
        rows = 0
        for row, line in read_lines(paths[where]):
            rows = row
            text, _, body = line.partition(b" ")
            recv = _local_ns(text, source, row)
            ticker = _TICKER.search(body)
            try:
                if ticker is not None:
                    name = ticker[2].decode()
                else:
                    data = json.loads(body.decode())
                    data = data.get("data", data)
                    if "lastUpdateId" in data:
                        counts["rows_snapshot"] += 1
                        part = _take_snapshot(data, where, row, recv, part, out)
                        continue
                    name = data["s"]
                first_symbol = first_symbol or name
                if name != first_symbol:
                    if symbol is None:
                        raise DataError(
                            f"expected one symbol, was {name} after {first_symbol}: choose with the option symbol",
                            source=source,
                            row=row,
                            field="s",
                        )
                    counts["dropped_other_symbol"] += 1
                elif ticker is not None:
                    part.tickers.append((int(ticker[1]), *ticker.groups()[2:]))
                else:
                    _take(data["e"], data, where, row, recv, part, counts, source)
            except DataError:
                raise
            except KeyError as err:
                raise DataError(
                    "expected this key, was missing", source=source, row=row, field=str(err.args[0])
                ) from None
            except (ValueError, AttributeError, TypeError, IndexError) as err:
                raise DataError(f"expected a JSON message: {err}", source=source, row=row) from None
        counts["rows_read"] += rows
        counts["rows_book_ticker"] += len(part.tickers)
        if part.snapshot is None and out:
            last = out[-1]
            last.depth += part.depth
            last.trades += part.trades
            last.tickers += part.tickers
        else:
            out.append(part)
    return out


def _take_snapshot(
    data: dict[str, Any], where: int, row: int, recv: int, part: _Stretch, out: list[_Stretch]
) -> _Stretch:
    update = int(data["lastUpdateId"])
    snap = _Depth(
        where,
        row,
        recv,
        int(data.get("T", 0)) * MS,
        update,
        update,
        update,
        *_flat(data["bids"], data["asks"]),
    )
    if part.snapshot is not None:
        # a later snapshot: what comes after it may chain to it if the first chain has a gap
        out.append(part)
        part = _Stretch()
    part.snapshot = snap
    return part


def _take(
    kind: str,
    data: dict[str, Any],
    where: int,
    row: int,
    recv: int,
    part: _Stretch,
    counts: dict[str, int],
    source: str,
) -> None:
    if kind == "depthUpdate":
        counts["rows_depth"] += 1
        first = int(data["U"])
        part.depth.append(
            _Depth(
                *(where, row, recv, int(data.get("T", data["E"])) * MS),
                *(first, int(data["u"]), int(data.get("pu", first - 1)), *_flat(data["b"], data["a"])),
            )
        )
    elif kind == "trade":
        counts["rows_trade"] += 1
        if data.get("X", "MARKET") != "MARKET":
            counts["dropped_off_book_trade"] += 1
            return
        part.trades.append(
            (int(data["T"]) * MS, int(data["t"]), where, row, recv, data["p"], data["q"], bool(data["m"]))
        )
    elif kind == "bookTicker":
        part.tickers.append((int(data["u"]), *(str(data[k]).encode() for k in "bBaA")))
    elif kind in UNUSED:
        counts["dropped_not_used_event"] += 1
    else:
        raise DataError(
            f"expected depthUpdate, trade, bookTicker or one of {', '.join(sorted(UNUSED))}, was {kind!r}",
            source=source,
            row=row,
            field="e",
        )


def _flat(bids: list[list[str]], asks: list[list[str]]) -> tuple[list[str], list[str], int]:
    # flat lists of text: a list a level would make the garbage collector walk over a million of them
    levels = bids + asks
    return [x[0] for x in levels], [x[1] for x in levels], len(bids)


def _chain(stretch: _Stretch, paths: list[Path], counts: dict[str, int], notes: list[str]) -> list[_Depth]:
    # the differences that follow the snapshot without a gap
    snap = stretch.snapshot
    if snap is None:
        counts["dropped_before_snapshot"] += len(stretch.depth)
        return []
    out: list[_Depth] = []
    for n, d in enumerate(stretch.depth):
        if not out and d.last < snap.last:
            counts["dropped_before_snapshot"] += 1
            continue
        joined = d.prev == out[-1].last if out else d.prev <= snap.last
        if not joined:
            expected = out[-1].last if out else snap.last
            counts["gaps"] += 1
            counts["dropped_after_gap"] += len(stretch.depth) - n
            notes.append(
                f"gap in the chain of updates at {paths[d.where].name} row {d.row}: expected pu {expected}, was "
                f"{d.prev}; {len(stretch.depth) - n} messages dropped"
            )
            break
        if out and d.ts < out[-1].ts:
            raise DataError(
                f"expected exchange time not before {out[-1].ts} ns, was {d.ts}",
                source=str(paths[d.where]),
                row=d.row,
                field="T",
            )
        out.append(d)
    return out


def _segment(
    stretch: _Stretch,
    paths: list[Path],
    instrument: Instrument,
    counts: dict[str, int],
    checks: dict[str, int],
    notes: list[str],
) -> tuple[npt.NDArray[np.void], Ints] | None:
    chain = _chain(stretch, paths, counts, notes)
    snap = stretch.snapshot
    if snap is None or not chain:
        counts["dropped_trade_before_snapshot"] += len(stretch.trades)
        return None
    snap.ts = min(snap.ts, chain[0].ts) if snap.ts else chain[0].ts
    messages = [snap, *chain]
    levels = _levels(messages, paths, instrument)
    trades = [t for t in sorted(stretch.trades) if t[0] >= snap.ts]
    counts["dropped_trade_before_snapshot"] += len(stretch.trades) - len(trades)
    if counts["gaps"] and stretch.depth and chain[-1] is not stretch.depth[-1]:
        late = [t for t in trades if t[0] > chain[-1].ts]
        counts["dropped_after_gap"] += len(late)
        trades = trades[: len(trades) - len(late)]
    prints, print_recv = _prints(trades, paths, instrument)
    events, recv = levels
    _check_book(events, messages, stretch, paths, instrument, checks)
    order = np.lexsort(
        (
            np.concatenate([np.arange(len(prints)), np.arange(len(events))]),
            np.concatenate([np.zeros(len(prints), np.int8), np.ones(len(events), np.int8)]),
            np.concatenate([prints["ts"], events["ts"]]),
        )
    )
    # the snapshot opens the segment, trades of that very time come after it
    merged = np.concatenate([prints, events])[order]
    times = np.concatenate([print_recv, recv])[order]
    front = np.argsort(merged["flags"] & EventFlag.SNAPSHOT == 0, kind="stable")
    merged, times = merged[front], times[front]
    behind = int(np.min(times - merged["ts"]))
    if behind < 0:
        times = times - behind
        notes.append(
            f"the local clock of the stretch at {np.datetime64(int(merged['ts'][0]), 'ns').astype('datetime64[s]')} was behind the exchange: "
            f"receive times moved by {-behind / 1e6:.3f} ms"
        )
        counts["recv_shift_max_us"] = max(counts.get("recv_shift_max_us", 0), -behind // 1000)
    return merged, times


def _levels(
    messages: list[_Depth], paths: list[Path], instrument: Instrument
) -> tuple[npt.NDArray[np.void], Ints]:
    texts = [x for d in messages for x in d.px]
    sizes = [x for d in messages for x in d.qty]
    n = np.array([len(d.px) for d in messages], dtype=np.int64)
    owner = np.repeat(np.arange(len(messages)), n)
    line = np.array([d.row for d in messages], dtype=np.int64)[owner]
    ends = np.cumsum(n)
    first_ask = np.array([d.n_bid for d in messages], dtype=np.int64) + ends - n
    side = np.where(np.arange(len(texts)) < first_ask[owner], BUY, SELL)
    px = _units(texts, instrument.tick_size, "price", messages, owner, line, paths)
    qty = _units(sizes, instrument.lot_size, "quantity", messages, owner, line, paths)
    if (qty < 0).any():
        at = int(np.argmax(qty < 0))
        raise DataError(
            f"expected a quantity >= 0, was {sizes[at]}",
            source=str(paths[messages[owner[at]].where]),
            row=int(line[at]),
            field="quantity",
        )
    flags = np.zeros(len(px), dtype=np.int64)
    flags[ends[n > 0] - 1] |= EventFlag.LAST
    flags[owner == 0] |= EventFlag.SNAPSHOT
    ts = np.array([d.ts for d in messages], dtype=np.int64)[owner]
    recv = np.array([d.recv for d in messages], dtype=np.int64)[owner]
    events = build_events(
        ts=ts,
        kind=int(EventKind.LEVEL),
        side=side,
        px=px,
        qty=qty,
        flags=flags,
        source=str(paths[messages[0].where]),
    )
    return events, recv


def _units(
    texts: list[str], step: Any, name: str, messages: list[_Depth], owner: Ints, line: Ints, paths: list[Path]
) -> Ints:
    try:
        return units_from_text(texts, step, field=name)
    except DataError as err:
        at = (err.row or 1) - 1
        raise DataError(
            str(err).partition(": ")[2],
            source=str(paths[messages[owner[at]].where]),
            row=int(line[at]),
            field=name,
        ) from None


def _prints(
    trades: list[tuple[int, int, int, int, int, str, str, bool]], paths: list[Path], instrument: Instrument
) -> tuple[npt.NDArray[np.void], Ints]:
    if not trades:
        return np.zeros(0, EVENT), np.zeros(0, np.int64)
    ts, _, where, row, recv, px, qty, maker = zip(*trades, strict=True)
    units: list[Ints] = []
    for texts, step, name in ((px, instrument.tick_size, "p"), (qty, instrument.lot_size, "q")):
        try:
            units.append(units_from_text(texts, step, field=name))
        except DataError as err:
            at = (err.row or 1) - 1
            raise DataError(
                str(err).partition(": ")[2], source=str(paths[where[at]]), row=row[at], field=name
            ) from None
    events = build_events(
        ts=ts,
        kind=int(EventKind.TRADE),
        side=np.where(np.asarray(maker), SELL, BUY),
        px=units[0],
        qty=units[1],
        flags=int(EventFlag.LAST),
    )
    return events, np.asarray(recv, dtype=np.int64)


def _check_book(
    events: npt.NDArray[np.void],
    messages: list[_Depth],
    stretch: _Stretch,
    paths: list[Path],
    instrument: Instrument,
    checks: dict[str, int],
) -> None:
    # one row a message that has levels: best bid, its quantity, best ask, its quantity
    low = int(events["px"].min())
    width = int(events["px"].max()) - low + 1
    if width > 1 << 26:
        raise DataError(
            f"expected prices within {1 << 26} ticks, was {width}",
            source=str(paths[messages[0].where]),
            field="price",
        )
    top = top_of_book(events, low, np.zeros((2, width), dtype=np.int64))
    full = [d for d in messages if d.px]
    crossed = (top[:, 1] > 0) & (top[:, 3] > 0) & (top[:, 0] >= top[:, 2])
    if crossed.any():
        at = int(np.argmax(crossed))
        raise DataError(
            f"expected best bid below best ask, was a crossed book: bid {top[at, 0]} ask {top[at, 2]} ticks",
            source=str(paths[full[at].where]),
            row=full[at].row,
            field="b, a",
        )
    if not stretch.tickers:
        return
    ids = np.array([t[0] for t in stretch.tickers], dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    columns = [
        units_from_text([t[k] for t in stretch.tickers], step, field="bookTicker")
        for k, step in (
            *((1, instrument.tick_size), (2, instrument.lot_size)),
            *((3, instrument.tick_size), (4, instrument.lot_size)),
        )
    ]
    said = np.column_stack(columns)[order]
    ids = ids[order]
    last = np.array([d.last for d in full], dtype=np.int64)
    at_or_before = np.searchsorted(ids, last, side="right") - 1
    known = at_or_before >= 0
    equal = (said[at_or_before[known]] == top[known]).all(axis=1)
    checks["states_compared"] += int(known.sum())
    checks["states_equal"] += int(equal.sum())
