"""Tardis.dev csv files: ``incremental_book_L2`` and ``trades``, plain or ``.gz``, times in microseconds.

Both streams are put in one order by exchange time (``timestamp``), trades first at equal times: a book update
up to that time already lacks what they took. Book rows stay in the order of the file, for only in it is the book
right; a message is a run of rows with the same times. A run of ``is_snapshot`` rows is a whole new book: CLEAR
(not at the very start) and its levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.contracts import check_kind
from mmsim.data.conversion import Conversion, Ints, Progress, build_events, count_kinds
from mmsim.data.files import open_blocks, read_lines
from mmsim.data.formats._clocks import BACKWARDS, in_order, receive_times
from mmsim.data.formats._levels import merged, near_the_mid
from mmsim.data.formats.format import Format
from mmsim.data.ladder import crossed_levels
from mmsim.data.options import band_option, choice_option, text_option
from mmsim.data.origin import Origin
from mmsim.data.steps import units_from_text
from mmsim.errors import DataError, did_you_mean
from mmsim.types import BUY, EVENT, NO_SIDE, SELL, EventFlag, EventKind, Instrument

BOOK = ("exchange", "symbol", "timestamp", "local_timestamp", "is_snapshot", "side", "price", "amount")
TRADES = ("exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount")
US = 1_000
_LOW_US, _HIGH_US = 10**15, (2**63 - 1) // US
_MICROSECONDS = "microseconds since the epoch (16 digits)"
_UNKNOWN = 99
_CHUNK = 1_000_000
_SIDES = {"bid": BUY, "ask": SELL, "buy": BUY, "sell": SELL, "unknown": NO_SIDE}


@dataclass
class _Rows:
    """Rows of one file and symbol; `row` is one-based, the header included."""

    source: str
    row: Ints
    ts: Ints
    recv: Ints
    snapshot: npt.NDArray[np.bool_]
    side: Ints
    px: Ints
    qty: Ints


def _header(path: Path) -> tuple[str, ...]:
    line = open_blocks(path).readline(1 << 16)
    return tuple(c.strip() for c in line.decode("utf-8", "replace").split(","))


def _is_trades(path: Path) -> bool:
    header = _header(path)
    for known in (BOOK, TRADES):
        if header == known:
            return known is TRADES
    near = min((BOOK, TRADES), key=lambda known: len(set(known) - set(header)))
    missing = [c for c in near if c not in header]
    raise DataError(
        f"expected the columns {', '.join(near)}, was {', '.join(header)[:200]}"
        + (f": no {missing[0]}{did_you_mean(missing[0], header)}" if missing else ": another order")
        + "; take the data types incremental_book_L2 and trades",
        source=str(path),
        row=1,
        field=missing[0] if missing else "header",
    )


def _read(
    path: Path, columns: tuple[str, ...], symbol: str | None, instrument: Instrument, counts: dict[str, int]
) -> _Rows | None:
    import pandas as pd

    source = str(path)
    parts: list[_Rows] = []
    done, only = 0, symbol
    kinds: Any = dict.fromkeys(columns, "str") | {"timestamp": "int64", "local_timestamp": "int64"}
    try:
        chunks = pd.read_csv(
            open_blocks(path), dtype={c: kinds[c] for c in columns}, keep_default_na=False, na_filter=False,
            chunksize=_CHUNK,
        )  # fmt: skip
        for chunk in chunks:
            if not isinstance(
                chunk.index, pd.RangeIndex
            ):  # the first column became an index: rows are longer
                raise DataError(
                    f"expected {len(columns)} fields per row, was more", source=source, row=done + 2
                )
            # few different texts in many rows: each is looked at once
            frame = chunk.astype({c: "category" for c in columns if kinds[c] == "str" and c != "id"})
            rows = np.arange(done, done + len(frame), dtype=np.int64) + 2
            done += len(frame)
            names = frame["symbol"].to_numpy()
            if only is None and len(names):
                only = str(names[0])
            keep = names == only
            if symbol is None and not keep.all():
                at = int(np.argmin(keep))
                said = f"expected one symbol, was {names[at]} after {only}: choose with the option symbol"
                raise Origin(source, rows).error(said, at, "symbol")
            counts["dropped_other_symbols"] += int((~keep).sum())
            if keep.any():
                if not parts:
                    venue = str(frame["exchange"].iloc[int(np.argmax(keep))])
                    check_kind(venue, str(only), instrument, source=source)
                parts.append(_columns(frame[keep], Origin(source, rows[keep]), columns, instrument))
    except pd.errors.ParserError as err:
        text = str(err).replace("Error tokenizing data. C error: ", "").strip()
        raise DataError(f"expected {len(columns)} fields per row: {text}", source=source) from None
    except UnicodeDecodeError as err:
        raise DataError(f"expected a csv file in UTF-8: {err}", source=source, row=done + 2) from None
    except (ValueError, OverflowError) as err:
        if isinstance(err, DataError):
            raise
        raise _bad_time(path, str(err)) from None
    counts["rows_read"] += done
    if not parts:
        return None
    return _together(parts)


def _together(parts: list[_Rows]) -> _Rows:
    columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(_Rows)[1:]}
    return _Rows(parts[0].source, **columns)


def _columns(frame: Any, origin: Origin, columns: tuple[str, ...], instrument: Instrument) -> _Rows:
    book = columns is BOOK
    cut = (frame["amount"].cat.codes.to_numpy() < 0) | (frame["amount"] == "").to_numpy(dtype=np.bool_)
    origin.refuse(cut, _text(frame, "amount"), f"{len(columns)} fields per row", "amount")
    snapshot = np.zeros(len(cut), np.bool_)
    if book:
        snapshot = _coded(frame, "is_snapshot", {"true": 1, "false": 0}, origin) == 1
    known = {n: _SIDES[n] for n in (("bid", "ask") if book else ("buy", "sell", "unknown"))}
    side = _coded(frame, "side", known, origin)
    px = _units(frame, "price", instrument.tick_size, origin)
    qty = _units(frame, "amount", instrument.lot_size, origin)
    low = 0 if book else 1
    if (qty < low).any():
        origin.refuse(qty < low, _text(frame, "amount"), f"an amount of at least {low} lots", "amount")
    times = []
    for name in ("timestamp", "local_timestamp"):
        value = frame[name].to_numpy()
        origin.refuse((value < _LOW_US) | (value > _HIGH_US), value, _MICROSECONDS, name)
        times.append(value * US)
    rows: Any = origin.row
    return _Rows(origin.source, rows, times[0], times[1], snapshot, side, px, qty)


def _text(frame: Any, name: str) -> npt.NDArray[Any]:
    out: npt.NDArray[Any] = frame[name].to_numpy(dtype=object)
    return out


def _coded(frame: Any, name: str, known: Mapping[str, int], origin: Origin) -> Ints:
    column = frame[name].cat
    of_text = np.array([known.get(str(v), _UNKNOWN) for v in column.categories] + [_UNKNOWN], dtype=np.int64)
    out: Ints = of_text[column.codes.to_numpy()]
    if (out == _UNKNOWN).any():
        origin.refuse(out == _UNKNOWN, _text(frame, name), f"one of {', '.join(known)}", name)
    return out


def _units(frame: Any, name: str, step: Decimal, origin: Origin) -> Ints:
    column = frame[name].cat
    try:
        of_text = units_from_text(column.categories.to_numpy(dtype=object), step)
    except DataError:
        # say which row it was; or it was another symbol's
        return units_from_text(_text(frame, name), step, origin, name)
    out: Ints = of_text[column.codes.to_numpy()]
    return out


def _bad_time(path: Path, said: str) -> DataError:
    # the reader does not tell where: look again, slowly
    for row, line in read_lines(path):
        for name, text in zip(("timestamp", "local_timestamp"), line.split(b",")[2:4], strict=False):
            if row > 1 and not (text.isdigit() and len(text) == 16):
                was = text[:40].decode("utf-8", "replace")
                return DataError(
                    f"expected {_MICROSECONDS}, was {was!r}", source=str(path), row=row, field=name
                )
    return DataError(f"expected {_MICROSECONDS}: {said}", source=str(path))


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert book and trade files of one symbol to L2 events, one segment in all.

    Days that follow one another are one book; what comes before the first snapshot is left out and counted.
    ``recv_ts`` is the local time, moved by a constant where that clock was behind the exchange's.

    Options: ``symbol``, to pick one from files with several; ``band`` (0.25): levels farther than this part of
    the first snapshot's mid from it are left out and counted; ``backwards``: ``refuse`` (default) or ``hold``
    book messages stamped before the one that they follow.

    Raises
    ------
    DataError
        For a cut file, other columns, an unknown symbol, a price or amount off the grid, book messages out of
        order, no snapshot, an inverse contract read as a linear one or a quanto.
    """
    how, band = choice_option(options, "backwards", BACKWARDS, "tardis"), band_option(options, "tardis")
    symbol = text_option(options, "symbol")
    counts = dict.fromkeys(
        ("rows_read", "dropped_other_symbols", "dropped_before_snapshot", "dropped_trade_before_snapshot",
         "dropped_far_levels", "snapshots"),
        0,
    )  # fmt: skip
    out = Conversion(level="L2", counts=counts, checks={"crossed_books": 0})
    books: list[_Rows] = []
    trades: list[_Rows] = []
    for i, path in enumerate(paths):
        progress(path.name, 0.8 * i / len(paths))
        of_trades = _is_trades(path)
        rows = _read(path, TRADES if of_trades else BOOK, symbol, instrument, counts)
        if rows is not None:
            (trades if of_trades else books).append(rows)
    if not books:
        raise DataError(
            f"expected rows of incremental_book_L2{f' of symbol {symbol!r}' if symbol else ''}, was none: there is "
            "no book without them",
            source=", ".join(str(p) for p in paths),
            field="symbol" if symbol else "",
        )
    books.sort(key=lambda b: int(b.recv[0]))
    progress("building the book", 0.8)
    levels, level_recv, first = _levels(books, band, how, out)
    prints, print_recv = _prints(trades, first, out)
    events, recv = merged(prints, print_recv, levels, level_recv, first)
    out.add(events, recv_ts=receive_times(events["ts"], recv, out))
    return out.finish(books[0].source)


def _levels(
    books: list[_Rows], band: float, how: str, out: Conversion
) -> tuple[npt.NDArray[np.void], Ints, int]:
    # events and receive times, and the time of the first snapshot
    where = np.repeat(np.arange(len(books)), [len(b.ts) for b in books])
    all_ = _together(books)
    row, ts, recv, snapshot, side, px, qty = (getattr(all_, f.name) for f in fields(_Rows)[1:])
    count_kinds(out.messages, snapshot, {True: "book_snapshot", False: "book_change"})
    if not snapshot.any():
        raise DataError(
            "expected a snapshot (is_snapshot true), was none", source=books[0].source, field="is_snapshot"
        )
    start = int(np.argmax(snapshot))
    out.counts["dropped_before_snapshot"] += start
    where, row, ts, recv, snapshot, side, px, qty = (
        a[start:] for a in (where, row, ts, recv, snapshot, side, px, qty)
    )
    # a message: a run of equal times; of a snapshot the local time alone, its levels may carry several
    new = np.ones(len(ts), dtype=np.bool_)
    new[1:] = (
        (np.diff(recv) != 0)
        | (snapshot[1:] != snapshot[:-1])
        | (~snapshot[1:] & (np.diff(ts) != 0))
        | (np.diff(where) != 0)
    )
    first = np.flatnonzero(new)
    message = np.cumsum(new) - 1
    time, taken = ts[first].copy(), snapshot[first]
    # a snapshot is as old as it says, and not younger than the change that follows it
    time[taken] = np.maximum.reduceat(ts, first)[taken]
    for m in np.flatnonzero(taken[:-1])[::-1].tolist():
        time[m] = min(int(time[m]), int(time[m + 1]))
    behind = np.maximum.accumulate(time)
    time[taken] = behind[taken]
    source = books[int(where[0])].source
    time = in_order(time, how, Origin(source, row[first]), "timestamp", out)
    out.counts["snapshots"] += int(taken.sum())
    opening = message == 0
    bids, asks = px[opening & (side > 0) & (qty > 0)], px[opening & (side < 0) & (qty > 0)]
    if len(bids) == 0 or len(asks) == 0:
        raise Origin(source, row).error(
            "expected bids and asks in the first snapshot, was one side only", 0, "side"
        )
    near = near_the_mid(px, bids, asks, band, out)
    # rows of the opening snapshot are levels that are empty anyway; a further one starts with CLEAR
    near &= ~(snapshot & (qty == 0))
    level = np.flatnonzero(near)
    clears = first[taken][1:]
    index = np.concatenate([clears, level])
    kind = np.concatenate(
        [np.full(len(clears), int(EventKind.CLEAR)), np.full(len(level), int(EventKind.LEVEL))]
    )
    order = np.lexsort((kind == EventKind.LEVEL, index))
    index, kind = index[order], kind[order]
    cleared = kind == EventKind.CLEAR
    of = message[index]
    flags = np.where(taken[of], int(EventFlag.SNAPSHOT), 0)
    flags[np.diff(of, append=-1) != 0] |= int(EventFlag.LAST)
    events = build_events(
        ts=time[of], kind=kind, side=np.where(cleared, NO_SIDE, side[index]), px=np.where(cleared, 0, px[index]),
        qty=np.where(cleared, 0, qty[index]), flags=flags, source=source,
    )  # fmt: skip
    out.checks["crossed_books"] += len(crossed_levels(events))
    return events, recv[index], int(time[0])


def _prints(trades: list[_Rows], first: int, out: Conversion) -> tuple[npt.NDArray[np.void], Ints]:
    tape = out.account()
    tape.unit = "rows of trades"
    out.messages["trade"] = sum(len(t.ts) for t in trades)
    if not trades:
        out.notes.append("no trades of this symbol: own orders are filled by crossing quotes only")
        return np.zeros(0, EVENT), np.zeros(0, np.int64)
    t = _together(trades)
    ts, recv, side, px, qty = t.ts, t.recv, t.side, t.px, t.qty
    order = np.argsort(ts, kind="stable")
    late = order[ts[order] >= first]
    out.counts["dropped_trade_before_snapshot"] += len(ts) - len(late)
    tape.count(qty)
    tape.leave_out("before the first snapshot", qty[ts < first])
    tape.imported_trades += len(late)
    events = build_events(
        ts=ts[late], kind=int(EventKind.TRADE), side=side[late], px=px[late], qty=qty[late],
        flags=int(EventFlag.LAST),
    )  # fmt: skip
    return events, recv[late]


FORMAT = Format(
    "tardis",
    "Tardis csv, incremental_book_L2 and trades (L2)",
    (".csv", ".csv.gz"),
    convert,
    "L2",
    options=frozenset({"symbol", "band", "backwards"}),
    instrument={"currency": "USDT", "timezone": "UTC", "sessions": []},
    decision_ns=100_000_000,
    fees=("zero", "binance_vip0"),
)
