"""Binance raw websocket lines: local receive time, a space, one JSON message.

The book is the REST snapshot plus the depth differences after it; trades are a second stream. Both are put in
one order by exchange time, trades first at equal times (a difference up to that time already lacks what they
took). ``bookTicker`` messages are not replayed: they check the book after every difference. USD-M futures and spot are
read, by the rules that Binance gives for each to keep a local book.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.contracts import check_kind
from mmsim.data.conversion import Conversion, Ints, Progress, Tape, build_events
from mmsim.data.formats._binance_read import Depth, Stretch, in_order, read
from mmsim.data.formats._clocks import receive_times
from mmsim.data.formats._levels import merged, near_the_mid
from mmsim.data.formats.format import Format
from mmsim.data.ladder import top_of_book
from mmsim.data.options import band_option, text_option
from mmsim.data.origin import Origin, Origins
from mmsim.data.steps import split_decimal, units_from_text
from mmsim.errors import DataError
from mmsim.types import BUY, EVENT, SELL, EventFlag, EventKind, Instrument


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert raw files to L2 events, one segment for each snapshot and the differences chained to it.

    Files are taken in the order of their first receive time. A file with a snapshot starts a new segment, one
    without goes on with the last. After a gap in the chain nothing is used until the next snapshot (counted).
    ``recv_ts`` is the local time, moved by a constant per segment where that clock was behind the exchange's.

    Options: ``symbol``, to pick one from files with several; ``band`` (0.25): levels farther than this part of the
    first mid-price from it are left out and counted, since feeds hold orders at a tenth and ten times the price.

    Raises
    ------
    DataError
        For a cut file, a line that is no message, an unknown event, a price or quantity off the grid, exchange
        time running backwards along the chain, an empty side, a COIN-M (inverse) contract read as a linear one.
    """
    band = band_option(options, "binance")
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
    out = Conversion(level="L2", counts=counts, checks=checks)
    out.account().unit = "trade messages"
    stretches, symbol = read(in_order(paths), paths, text_option(options, "symbol"), counts, progress)
    check_kind("binance", symbol, instrument, source=", ".join(map(str, paths)), field="s")
    for i, stretch in enumerate(stretches):
        progress("building the book", 0.7 + 0.3 * i / len(stretches))
        built = _segment(stretch, paths, instrument, band, out)
        if built is not None:
            out.add(built[0], recv_ts=built[1])
    partial = counts["dropped_partial_book"]
    if not out.segments:
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
    out.messages = {k: counts[f"rows_{k}"] for k in ("depth", "trade", "book_ticker", "snapshot")}
    out.messages |= {"partial_book": partial, "not_used": counts["dropped_not_used_event"]}
    return out.join()


def _chain(stretch: Stretch, paths: list[Path], out: Conversion) -> tuple[list[Depth], bool]:
    # the differences that follow the snapshot without a gap, and whether one ended them
    snap, counts = stretch.snapshot, out.counts
    if snap is None:
        counts["dropped_before_snapshot"] += len(stretch.depth)
        return [], False
    chain: list[Depth] = []
    gap = False
    for n, d in enumerate(stretch.depth):
        at = chain[-1].last if chain else snap.last
        spot = d.prev < 0
        if not chain and (d.last < at or (spot and d.last == at)):
            counts["dropped_before_snapshot"] += 1
            continue
        if spot and d.last <= at:  # two connections of one recorder may both tell it
            counts["dropped_repeated"] += 1
            continue
        joined = d.first <= at + 1 if spot else (d.prev == at if chain else d.prev <= at)
        if not joined:
            gap = True
            counts["gaps"] += 1
            counts["dropped_after_gap"] += len(stretch.depth) - n
            expected, was = (f"U {at + 1}", d.first) if spot else (f"pu {at}", d.prev)
            out.notes.append(
                f"gap in the chain of updates at {paths[d.where].name} row {d.row}: expected {expected}, was "
                f"{was}; {len(stretch.depth) - n} messages dropped"
            )
            break
        if chain and d.ts < chain[-1].ts:
            raise DataError(
                f"expected exchange time not before {chain[-1].ts} ns, was {d.ts}",
                source=str(paths[d.where]),
                row=d.row,
                field="E" if spot else "T",
            )
        chain.append(d)
    return chain, gap


def _segment(
    stretch: Stretch, paths: list[Path], instrument: Instrument, band: float, out: Conversion
) -> tuple[npt.NDArray[np.void], Ints] | None:
    counts, tape = out.counts, out.account()
    chain, gap = _chain(stretch, paths, out)
    snap = stretch.snapshot
    prints, print_recv = _prints(sorted(stretch.trades), paths, instrument)
    _tell_tape(tape, prints, stretch.off_book, instrument)
    if snap is None or not chain:
        counts["dropped_trade_before_snapshot"] += len(prints)
        tape.leave_out("no book", prints["qty"])
        tape.imported_trades -= len(prints)
        return None
    snap.ts = min(snap.ts, chain[0].ts) if snap.ts else chain[0].ts
    levels, level_recv, full = _levels([snap, *chain], paths, instrument, band, out)
    end = chain[-1].ts if gap else np.iinfo(np.int64).max
    for reason, count, first, last in (
        ("before the book", "dropped_trade_before_snapshot", snap.ts, np.iinfo(np.int64).max),
        ("after a gap", "dropped_after_gap", snap.ts, end),
    ):
        beyond = (prints["ts"] < first) | (prints["ts"] > last)
        counts[count] += int(beyond.sum())
        tape.leave_out(reason, prints["qty"][beyond])
        tape.imported_trades -= int(beyond.sum())
        prints, print_recv = prints[~beyond], print_recv[~beyond]
    _check_book(levels, full, stretch, paths, instrument, band, out.checks)
    events, recv = merged(prints, print_recv, levels, level_recv, snap.ts)
    return events, receive_times(events["ts"], recv, out)


def _levels(
    messages: list[Depth], paths: list[Path], instrument: Instrument, band: float, out: Conversion
) -> tuple[npt.NDArray[np.void], Ints, list[Depth]]:
    # events, receive times, and the messages that have rows among them
    texts = [x for d in messages for x in d.px]
    sizes = [x for d in messages for x in d.qty]
    n = np.array([len(d.px) for d in messages], dtype=np.int64)
    owner = np.repeat(np.arange(len(messages)), n)
    first_ask = np.array([d.n_bid for d in messages], dtype=np.int64) + np.cumsum(n) - n
    side = np.where(np.arange(len(texts)) < first_ask[owner], BUY, SELL)
    origin = _origins(paths, [d.where for d in messages], [d.row for d in messages])[owner]
    px = units_from_text(texts, instrument.tick_size, origin, "price", "--tick-size")
    qty = units_from_text(sizes, instrument.lot_size, origin, "quantity", "--lot-size")
    origin.refuse(qty < 0, sizes, "a quantity >= 0", "quantity")
    snap = messages[0]
    if not 0 < snap.n_bid < len(snap.px):
        said = "expected bids and asks in the depth snapshot, was one side only"
        raise DataError(said, source=str(paths[snap.where]), row=snap.row, field="bids, asks")
    near = near_the_mid(px, px[: snap.n_bid], px[snap.n_bid : len(snap.px)], band, out)
    px, qty, side, owner = px[near], qty[near], side[near], owner[near]
    flags = np.zeros(len(px), dtype=np.int64)
    flags[np.diff(owner, append=len(messages)) > 0] |= EventFlag.LAST
    flags[owner == 0] |= EventFlag.SNAPSHOT
    ts, recv = (
        np.array([getattr(d, name) for d in messages], dtype=np.int64)[owner] for name in ("ts", "recv")
    )
    events = build_events(
        ts=ts,
        kind=int(EventKind.LEVEL),
        side=side,
        px=px,
        qty=qty,
        flags=flags,
        source=str(paths[snap.where]),
    )
    return events, recv, [messages[i] for i in np.unique(owner).tolist()]


def _origins(paths: list[Path], where: Sequence[int], row: Sequence[int]) -> Origins:
    names = [str(p) for p in paths]
    of, rows = np.array(where, dtype=np.int64), np.array(row, dtype=np.int64)
    used = ", ".join(names[i] for i in dict.fromkeys(of.tolist()))
    return Origins(used, rows, names, of)


def _prints(
    trades: list[tuple[int, int, int, int, int, str, str, bool]], paths: list[Path], instrument: Instrument
) -> tuple[npt.NDArray[np.void], Ints]:
    if not trades:
        return np.zeros(0, EVENT), np.zeros(0, np.int64)
    ts, _, where, row, recv, px, qty, maker = zip(*trades, strict=True)
    origin = _origins(paths, where, row)
    events = build_events(
        ts=ts,
        kind=int(EventKind.TRADE),
        side=np.where(np.asarray(maker), SELL, BUY),
        px=units_from_text(px, instrument.tick_size, origin, "p", "--tick-size"),
        qty=units_from_text(qty, instrument.lot_size, origin, "q", "--lot-size"),
        flags=int(EventFlag.LAST),
    )
    return events, np.asarray(recv, dtype=np.int64)


def _tell_tape(tape: Tape, prints: npt.NDArray[np.void], off_book: list[str], instrument: Instrument) -> None:
    # trades outside the book (an insurance fund's) need not lie on the lot grid: their sum, in whole lots
    try:
        off = int(sum((split_decimal(q) for q in off_book), Decimal(0)) // instrument.lot_size)
    except ValueError as err:
        raise DataError(f"expected a finite decimal number, was {str(err)!r}", field="q") from None
    tape.count(prints["qty"])
    tape.raw_trades += len(off_book)
    tape.raw_lots += off
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
    # one row per message: best bid, its quantity, best ask, its quantity
    top = top_of_book(events)
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
            message = f"expected {what}: bid {top[at, 0]} ask {top[at, 2]} ticks"
            raise DataError(message, source=str(paths[full[at].where]), row=full[at].row, field="b, a")
    if not stretch.tickers:
        return
    ids = np.array([t[0] for t in stretch.tickers], dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    tickers, steps = stretch.tickers, (instrument.tick_size, instrument.lot_size)
    used = ", ".join(str(paths[where]) for where in dict.fromkeys(t[5] for t in tickers))
    origin = Origin(used, np.array([t[6] for t in tickers]))
    columns = [
        units_from_text([t[k] for t in tickers], steps[(k - 1) % 2], origin, "bookTicker")
        for k in (1, 2, 3, 4)
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
