"""Binance raw websocket lines: local receive time, a space, one JSON message.

The book is the REST snapshot plus the depth differences after it; trades are a second stream. Both are put in
one order by exchange time, trades first at equal times (a difference up to that time already lacks what they
took). ``bookTicker`` messages are not replayed: they check the book after every difference. USD-M futures and spot are
read, by the rules that Binance gives for each to keep a local book.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.contracts import check_kind
from mmsim.data.conversion import (
    Conversion,
    Ints,
    Progress,
    Tape,
    build_events,
    units_from_text,
)
from mmsim.data.formats._binance_read import Depth, Stretch, in_order, read
from mmsim.data.formats.format import Format
from mmsim.data.ladder import top_of_book
from mmsim.data.steps import split_decimal
from mmsim.errors import ConfigError, DataError
from mmsim.types import BUY, EVENT, SELL, EventFlag, EventKind, Instrument, Segment

_OPTION = {"price": "--tick-size", "p": "--tick-size", "quantity": "--lot-size", "q": "--lot-size"}
BAND = 0.25  # levels farther from the first mid than this part of it are left out


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert raw files to L2 events, one segment for each snapshot and the differences chained to it.

    Files are taken in the order of their first receive time. A file with a snapshot starts a new segment, one
    without goes on with the last. After a gap in the chain nothing is used until the next snapshot (counted).
    ``recv_ts`` is the local time, moved by a constant a segment where that clock was behind the exchange's.

    Options: ``symbol``, to pick one from files with several; ``band`` (0.25): levels farther than this part of the
    first mid-price from it are left out and counted, since feeds hold orders at a tenth and ten times the price.

    Raises
    ------
    DataError
        For a cut file, a line that is no message, an unknown event, a price or quantity off the grid, exchange
        time running backwards along the chain, an empty side, a COIN-M (inverse) contract read as a linear one.
    """
    band = _band(options)
    counts: dict[str, int] = dict.fromkeys(
        (
            *("rows_read", "rows_depth", "rows_trade", "rows_book_ticker", "rows_snapshot"),
            *("dropped_not_used_event", "dropped_other_symbol", "dropped_before_snapshot"),
            *("dropped_trade_before_snapshot", "dropped_off_book_trade", "dropped_after_gap", "gaps"),
            *("dropped_far_levels", "dropped_repeated", "dropped_partial_book"),
        ),
        0,
    )
    checks = dict.fromkeys(("states_compared", "states_equal", "crossed_books", "locked_books"), 0)
    tape = Tape("trade messages")
    notes: list[str] = []
    stretches, read_symbol = read(in_order(paths), paths, options.get("symbol"), counts, progress)
    check_kind("binance", read_symbol, instrument, source=", ".join(map(str, paths)), field="s")
    parts: list[npt.NDArray[np.void]] = []
    received: list[Ints] = []
    segments: list[Segment] = []
    at = 0
    for i, stretch in enumerate(stretches):
        progress("building the book", 0.7 + 0.3 * i / len(stretches))
        built = _segment(stretch, paths, instrument, band, counts, checks, notes, tape)
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
        partial = counts["dropped_partial_book"]
        seen = f"{counts['rows_snapshot']} snapshots, {counts['rows_depth']} differences" + (
            f", {partial} partial books (depth5, depth10, depth20), from which no book follows"
            if partial
            else ""
        )
        raise DataError(
            "expected a depth snapshot (a line with lastUpdateId) and differences that follow it (the stream "
            f"SYMBOL@depth@100ms), was none that fit: {seen}",
            source=", ".join(str(p) for p in paths),
        )
    return Conversion(
        np.concatenate(parts),
        tuple(segments),
        "L2",
        recv_ts=np.concatenate(received),
        counts=counts,
        messages={k: counts[f"rows_{k}"] for k in ("depth", "trade", "book_ticker", "snapshot")}
        | {"partial_book": counts["dropped_partial_book"], "not_used": counts["dropped_not_used_event"]},
        checks=checks,
        notes=notes,
        tape=tape,
    )


def _chain(
    stretch: Stretch, paths: list[Path], counts: dict[str, int], notes: list[str]
) -> tuple[list[Depth], bool]:
    # the differences that follow the snapshot without a gap, and whether one ended them
    snap = stretch.snapshot
    if snap is None:
        counts["dropped_before_snapshot"] += len(stretch.depth)
        return [], False
    out: list[Depth] = []
    gap = False
    for n, d in enumerate(stretch.depth):
        at = out[-1].last if out else snap.last
        spot = d.prev < 0
        if not out and (d.last < at or (spot and d.last == at)):
            counts["dropped_before_snapshot"] += 1
            continue
        if spot and d.last <= at:  # two connections of one recorder may both tell it
            counts["dropped_repeated"] += 1
            continue
        joined = d.first <= at + 1 if spot else (d.prev == at if out else d.prev <= at)
        if not joined:
            gap = True
            counts["gaps"] += 1
            counts["dropped_after_gap"] += len(stretch.depth) - n
            expected, was = (f"U {at + 1}", d.first) if spot else (f"pu {at}", d.prev)
            notes.append(
                f"gap in the chain of updates at {paths[d.where].name} row {d.row}: expected {expected}, was "
                f"{was}; {len(stretch.depth) - n} messages dropped"
            )
            break
        if out and d.ts < out[-1].ts:
            raise DataError(
                f"expected exchange time not before {out[-1].ts} ns, was {d.ts}",
                source=str(paths[d.where]),
                row=d.row,
                field="E" if spot else "T",
            )
        out.append(d)
    return out, gap


def _segment(
    stretch: Stretch,
    paths: list[Path],
    instrument: Instrument,
    band: float,
    counts: dict[str, int],
    checks: dict[str, int],
    notes: list[str],
    tape: Tape,
) -> tuple[npt.NDArray[np.void], Ints] | None:
    chain, gap = _chain(stretch, paths, counts, notes)
    snap = stretch.snapshot
    printed = sorted(stretch.trades)
    prints, print_recv = _prints(printed, paths, instrument)
    _tell_tape(tape, prints, stretch.off_book, instrument)
    if snap is None or not chain:
        counts["dropped_trade_before_snapshot"] += len(printed)
        tape.explain("no book", len(prints), prints["qty"].sum(dtype=np.int64))
        tape.imported_trades -= len(prints)
        return None
    snap.ts = min(snap.ts, chain[0].ts) if snap.ts else chain[0].ts
    messages = [snap, *chain]
    events, recv, full = _levels(messages, paths, instrument, band, counts)
    end = chain[-1].ts if gap else np.iinfo(np.int64).max
    for reason, count, first, last in (
        ("before the book", "dropped_trade_before_snapshot", snap.ts, np.iinfo(np.int64).max),
        ("after a gap", "dropped_after_gap", snap.ts, end),
    ):
        out = (prints["ts"] < first) | (prints["ts"] > last)
        lost = int(out.sum())
        counts[count] += lost
        tape.explain(reason, lost, prints["qty"][out].sum(dtype=np.int64))
        tape.imported_trades -= lost
        prints, print_recv = prints[~out], print_recv[~out]
    _check_book(events, full, stretch, paths, instrument, band, checks)
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
        start = np.datetime64(int(merged["ts"][0]), "ns").astype("datetime64[s]")
        notes.append(
            f"the local clock of the stretch at {start} was behind the exchange: "
            f"receive times moved by {-behind / 1e6:.3f} ms"
        )
        counts["recv_shift_max_us"] = max(counts.get("recv_shift_max_us", 0), -behind // 1000)
    return merged, times


def _band(options: Mapping[str, Any]) -> float:
    try:
        band = float(options.get("band", BAND))
    except (TypeError, ValueError):
        band = 0.0
    if not 0.0 < band <= 1.0:
        raise ConfigError(f"binance: option band: expected a number in 0..1, was {options['band']!r}")
    return band


def _levels(
    messages: list[Depth], paths: list[Path], instrument: Instrument, band: float, counts: dict[str, int]
) -> tuple[npt.NDArray[np.void], Ints, list[Depth]]:
    # events, receive times, and the messages that have rows among them
    texts = [x for d in messages for x in d.px]
    sizes = [x for d in messages for x in d.qty]
    n = np.array([len(d.px) for d in messages], dtype=np.int64)
    owner = np.repeat(np.arange(len(messages)), n)
    line = np.array([d.row for d in messages], dtype=np.int64)[owner]
    first_ask = np.array([d.n_bid for d in messages], dtype=np.int64) + np.cumsum(n) - n
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
    snap = messages[0]
    if not 0 < snap.n_bid < len(snap.px):
        raise DataError(
            "expected bids and asks in the depth snapshot, was one side only",
            source=str(paths[snap.where]),
            row=snap.row,
            field="bids, asks",
        )
    mid2 = int(px[: snap.n_bid].max() + px[snap.n_bid : len(snap.px)].min())
    near = np.abs(2 * px - mid2) <= band * mid2
    counts["dropped_far_levels"] += int((~near).sum())
    px, qty, side, owner = px[near], qty[near], side[near], owner[near]
    flags = np.zeros(len(px), dtype=np.int64)
    flags[np.diff(owner, append=len(messages)) > 0] |= EventFlag.LAST
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
    return events, recv, [messages[i] for i in np.unique(owner).tolist()]


def _units(
    texts: list[str], step: Any, name: str, messages: list[Depth], owner: Ints, line: Ints, paths: list[Path]
) -> Ints:
    try:
        return units_from_text(texts, step, field=name, option=_OPTION[name])
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
            units.append(units_from_text(texts, step, field=name, option=_OPTION[name]))
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


def _tell_tape(tape: Tape, prints: npt.NDArray[np.void], off_book: list[str], instrument: Instrument) -> None:
    # trades outside the book (an insurance fund's) need not lie on the lot grid: their sum, in whole lots
    try:
        off = int(sum((split_decimal(q) for q in off_book), Decimal(0)) // instrument.lot_size)
    except ValueError as err:
        raise DataError(f"expected a finite decimal number, was {str(err)!r}", field="q") from None
    lots = int(prints["qty"].sum(dtype=np.int64))
    tape.raw_trades += len(prints) + len(off_book)
    tape.raw_lots += lots + off
    tape.imported_trades += len(prints)
    tape.explain("not of the book (X is not MARKET)", len(off_book), off)


def _check_book(
    events: npt.NDArray[np.void],
    full: list[Depth],
    stretch: Stretch,
    paths: list[Path],
    instrument: Instrument,
    band: float,
    checks: dict[str, int],
) -> None:
    # one row a message: best bid, its quantity, best ask, its quantity
    low = int(events["px"].min())
    width = int(events["px"].max()) - low + 1
    top = top_of_book(events, low, np.zeros((2, width), dtype=np.int64))
    shown = (top[:, 1] > 0) & (top[:, 3] > 0)
    mid2 = top[:, 0] + top[:, 2]
    checks["crossed_books"] += int(np.sum(shown & (top[:, 0] > top[:, 2])))
    checks["locked_books"] += int(np.sum(shown & (top[:, 0] == top[:, 2])))
    for bad, what in (
        (~shown, "bids and asks, was an empty side"),
        (
            np.abs(mid2 - mid2[0]) > 0.8 * band * mid2[0],
            f"a market within the band of {band:g} around its first mid (set a wider one with the option band)",
        ),
    ):
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                f"expected {what}: bid {top[at, 0]} ask {top[at, 2]} ticks",
                source=str(paths[full[at].where]),
                row=full[at].row,
                field="b, a",
            )
    if not stretch.tickers:
        return
    ids = np.array([t[0] for t in stretch.tickers], dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    source = ", ".join(str(paths[where]) for where in dict.fromkeys(t[5] for t in stretch.tickers))
    rows = [t[6] for t in stretch.tickers]
    columns = [
        units_from_text([t[k] for t in stretch.tickers], step, source=source, field="bookTicker", rows=rows)
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


FORMAT = Format(
    "binance",
    "Binance raw websocket lines of USD-M futures or spot, depth differences and trades (L2)",
    (".dat", ".txt", ".gz"),
    convert,
    "L2",
    options=frozenset({"symbol", "band"}),
    instrument={"currency": "USDT", "timezone": "UTC", "sessions": []},
    decision_ns=100_000_000,
    episode_s=60,
    fees=("zero", "binance_vip0"),
)
