"""hftbacktest ``.npz``: 64-byte rows of one exchange event each, level by level (L2) or order by order (L3).

The rows with the exchange flag are the market; they are taken in the order of the file, which is that of the
exchange. ``local_ts`` is the receive time. A row with the local flag alone is the second half of an event whose
two clocks disagree on the order (the tool writes such an event twice); it must repeat an exchange row and adds
nothing. One that repeats none is something that only the local side saw: counted, described and left out. An
event without its local half is used, and counted.

hftbacktest knows no messages: consecutive rows with both times equal are one. Files that `mmsim data export`
wrote hold more (a member ``mmsim``) and come back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Conversion, Ints, Progress, add_counts, build_events, count_kinds
from mmsim.data.files import read_array, read_json, read_members
from mmsim.data.formats import _hftbacktest_rows as hbt
from mmsim.data.formats import _orders
from mmsim.data.formats._clocks import BACKWARDS, in_order, receive_times
from mmsim.data.formats._hftbacktest_write import write
from mmsim.data.formats._orders import OrderLog, account, convert_orders, renumber
from mmsim.data.formats._slots import FULL, events_of, filled
from mmsim.data.formats.format import Format
from mmsim.data.ladder import crossed_levels
from mmsim.data.options import choice_option
from mmsim.data.origin import Origin
from mmsim.data.steps import units_from_float
from mmsim.errors import DataError
from mmsim.types import BUY, NO_SIDE, SELL, EventFlag, EventKind, Instrument


def level_of(paths: list[Path]) -> str:
    """Return the level of the feed in the files: ``L3``, ``L2``, or ``snapshot`` (files that we wrote)."""
    found = set()
    for path in paths:
        rows, meta = read(path)
        found.add(meta["level"] if meta else "L3" if _has_orders(rows) else "L2")
    if len(found) > 1:
        raise DataError(
            f"expected files of one level, was {' and '.join(sorted(found))}", source=str(paths[0])
        )
    return str(found.pop())


def read(path: Path) -> tuple[npt.NDArray[np.void], dict[str, Any] | None]:
    """Return the rows of a file, and what `mmsim data export` wrote beside them.

    Raises
    ------
    DataError
        If it is no whole ``.npz`` with an array ``data`` (or ``.npy``) of hftbacktest's rows.
    """
    source = str(path)
    meta = None
    members = dict(read_members(path))
    if path.suffix.lower() == ".npz":
        if "data.npy" not in members:
            names = ", ".join(name.removesuffix(".npy") for name in members)[:200]
            raise DataError(f"expected an array 'data', was {names or 'none'}", source=source, field="data")
        rows = read_array(members["data.npy"], source, "data")
        if "mmsim.npy" in members:
            meta = read_json(read_array(members["mmsim.npy"], source, "mmsim").tobytes(), source)
    else:
        rows = read_array(members[path.name], source, "data")
    if rows.dtype.names != hbt.ROW.names or rows.ndim != 1:
        raise DataError(
            f"expected rows of {', '.join(hbt.ROW.names or ())}, was {rows.dtype}: files of hftbacktest 1 have other "
            "columns, convert them with its own migration tool",
            source=source,
            field="data",
        )
    rows = rows.astype(hbt.ROW, copy=False)
    if len(rows) == 0:
        raise DataError("expected events, was an empty array", source=source, field="data")
    kind = rows["ev"] & 0xFF
    unknown = ~np.isin(kind, list(hbt.KINDS)) & (rows["ev"] & (hbt.EXCH | hbt.LOCAL) > 0)
    Origin(source).refuse(unknown, kind, f"an event of {', '.join(str(k) for k in hbt.KINDS)}", "ev")
    return rows, meta


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert hftbacktest files to L2 or L3 events.

    Files are taken in the order of their first exchange time. A file that starts with a clear or a snapshot
    event starts a new segment, another one goes on with the last.

    Options: ``backwards``: ``refuse`` (default) or ``hold`` exchange times that run backwards.

    Raises
    ------
    DataError
        For a broken file, an unknown event, a price or quantity off the grid, time running backwards, a file
        without exchange events, an order that the book does not know.
    """
    how = choice_option(options, "backwards", BACKWARDS, "hftbacktest")
    files = []
    for i, path in enumerate(paths):
        progress(path.name, 0.3 * i / len(paths))
        files.append((str(path), *read(path)))
    if any(meta is None for _, _, meta in files) and any(meta for _, _, meta in files):
        raise DataError(
            "expected files of one tool, was some that mmsim wrote and others", source=files[0][0]
        )
    out = Conversion(level="L2", counts={"rows_read": sum(len(r) for _, r, _ in files)})
    out.account().unit = "trade rows with the exchange flag"
    for _, rows, _ in files:
        count_kinds(out.messages, rows["ev"] & 0xFF, hbt.KINDS)
    if files[0][2] is not None:
        return _restore(files, instrument, out)
    out.level = "L3" if any(_has_orders(rows) for _, rows, _ in files) else "L2"
    taken = [(source, *_exchange_rows(rows, source, out)) for source, rows, _ in files]
    taken.sort(key=lambda t: int(t[1]["exch_ts"][0]))
    stretches: list[list[tuple[str, npt.NDArray[np.void], Ints]]] = []
    for one in taken:
        fresh = bool(np.isin(one[1]["ev"][:1] & 0xFF, (hbt.CLEAR, hbt.SNAPSHOT))[0])
        if fresh or not stretches:
            stretches.append([])
        stretches[-1].append(one)
    for i, stretch in enumerate(stretches):
        progress("building the book", 0.3 + 0.7 * i / len(stretches))
        rows = np.concatenate([r for _, r, _ in stretch])
        origin = Origin(stretch[0][0], np.concatenate([n for _, _, n in stretch]))
        ts = in_order(rows["exch_ts"].astype(np.int64), how, origin, "exch_ts", out)
        px, qty = _units(rows, instrument, origin)
        out.account().count(qty[rows["ev"] & 0xFF == hbt.TRADE])
        last = np.ones(len(rows), dtype=np.bool_)
        last[:-1] = (np.diff(rows["exch_ts"]) != 0) | (np.diff(rows["local_ts"]) != 0)
        build = _orders_part if out.level == "L3" else _levels_part
        events, at = build(rows, ts, px, qty, last, origin, out)
        recv = receive_times(events["ts"], rows["local_ts"].astype(np.int64)[at], out)
        out.add(events, recv_ts=recv)
    return out.finish(files[0][0])


def _has_orders(rows: npt.NDArray[np.void]) -> bool:
    return bool(np.isin(rows["ev"] & 0xFF, (hbt.ADD, hbt.CANCEL, hbt.MODIFY, hbt.FILL)).any())


def _exchange_rows(
    rows: npt.NDArray[np.void], source: str, out: Conversion
) -> tuple[npt.NDArray[np.void], Ints]:
    exch, local = rows["ev"] & hbt.EXCH > 0, rows["ev"] & hbt.LOCAL > 0
    if not exch.any():
        raise DataError(
            "expected rows with the exchange flag (1 << 31), was none: order and flag the events with "
            "hftbacktest's correct_event_order first",
            source=source,
            field="ev",
        )
    bbo = rows["ev"] & 0xFF == hbt.BBO
    # halves of one event are equal but for the two flags
    first, second = rows[exch & ~local & ~bbo].copy(), rows[local & ~exch & ~bbo].copy()
    alone, unseen = _unmatched(first, second)
    found = {
        "rows_local_half": len(second) - alone,
        "rows_without_local_half": unseen,
        "dropped_local_only": alone,
        "dropped_no_flags": int((~exch & ~local).sum()),
        "dropped_best_quotes": int((bbo & (exch | local)).sum()),
    }
    add_counts(out.counts, found)
    if alone:
        out.notes.append(f"{alone} rows of {source} are for the local side only and repeat no exchange row")
    keep = exch & ~bbo
    if not keep.any():
        raise DataError("expected depth or order events, was best quotes only", source=source, field="ev")
    return rows[keep], np.flatnonzero(keep).astype(np.int64) + 1


def _unmatched(first: npt.NDArray[np.void], second: npt.NDArray[np.void]) -> tuple[int, int]:
    # rows of `second` that are not in `first` (as often), and the other way round
    if len(first) == 0 or len(second) == 0:
        return len(second), len(first)
    for part in (first, second):
        part["ev"] &= np.uint64(0xFFFFFFFF ^ (hbt.EXCH | hbt.LOCAL))
    both = np.concatenate([first, second])
    raw = np.ascontiguousarray(both).view(np.dtype((np.void, hbt.ROW.itemsize)))
    _, code = np.unique(raw, return_inverse=True)
    n = np.bincount(code[: len(first)], minlength=int(code.max()) + 1)
    m = np.bincount(code[len(first) :], minlength=len(n))
    return int(np.maximum(m - n, 0).sum()), int(np.maximum(n - m, 0).sum())


def _units(rows: npt.NDArray[np.void], instrument: Instrument, origin: Origin) -> tuple[Ints, Ints]:
    # a clear has a quantity of no meaning, without a side also a price of none; a cancel needs neither
    kind = rows["ev"] & 0xFF
    sided = rows["ev"] & (hbt.BID | hbt.ASK) > 0
    priced = ((kind != hbt.CLEAR) | sided) & (kind != hbt.CANCEL)
    sized = (kind != hbt.CLEAR) & (kind != hbt.CANCEL)
    px, qty = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    px[priced] = units_from_float(rows["px"][priced], instrument.tick_size, origin[priced], "px")
    qty[sized] = units_from_float(rows["qty"][sized], instrument.lot_size, origin[sized], "qty")
    origin.refuse(qty < 0, rows["qty"], "a quantity >= 0", "qty")
    origin.refuse((qty == 0) & (kind == hbt.TRADE), rows["qty"], "a quantity > 0", "qty")
    unsided = ~sided & np.isin(kind, (hbt.DEPTH, hbt.SNAPSHOT, hbt.ADD))
    origin.refuse(unsided, rows["ev"], "the flag buy (1 << 29) or sell (1 << 28)", "ev")
    return px, qty


def _sides(rows: npt.NDArray[np.void]) -> Ints:
    ev = rows["ev"]
    return np.where(ev & hbt.BID > 0, BUY, np.where(ev & hbt.ASK > 0, SELL, NO_SIDE)).astype(np.int64)


def _orders_part(
    rows: npt.NDArray[np.void], ts: Ints, px: Ints, qty: Ints, last: npt.NDArray[np.bool_], origin: Origin,
    out: Conversion,
) -> tuple[npt.NDArray[np.void], Ints]:  # fmt: skip
    kind, side = (rows["ev"] & 0xFF).astype(np.int64), _sides(rows)
    op = np.zeros(256, dtype=np.int64)
    op[[hbt.TRADE, hbt.CLEAR, hbt.ADD, hbt.CANCEL, hbt.MODIFY, hbt.FILL]] = (
        *(_orders.PRINT, _orders.CLEAR, _orders.ADD, _orders.DELETE),
        *(_orders.MODIFY, _orders.FILL),
    )
    code = op[kind]
    origin.refuse(code == 0, kind, "orders or levels, was both in one file", "ev")
    code[(kind == hbt.CLEAR) & (side != NO_SIDE)] = _orders.CLEAR_SIDE
    n_owners, [owner] = renumber(rows["order_id"])
    log = OrderLog(code, owner, owner, px, qty, side, np.zeros(len(px), np.int64), last, n_owners, origin)
    events, at, n_slots, counts = convert_orders(log, ts, strict=True)
    out.n_slots = max(out.n_slots, n_slots)
    account(counts, out)
    return events, at


def _levels_part(
    rows: npt.NDArray[np.void], ts: Ints, px: Ints, qty: Ints, last: npt.NDArray[np.bool_], origin: Origin,
    out: Conversion,
) -> tuple[npt.NDArray[np.void], Ints]:  # fmt: skip
    kind, side = (rows["ev"] & 0xFF).astype(np.int64), _sides(rows)
    level = np.isin(kind, (hbt.DEPTH, hbt.SNAPSHOT))
    prices, index = np.unique(px[level], return_inverse=True)
    if len(prices) == 0:
        raise DataError(
            "expected depth events, was trades only: there is no book", source=origin.source, field="ev"
        )
    where = np.zeros(len(px), dtype=np.int64)
    where[level] = index
    # of a clear up to a price: the first known price at or above it (bids), the last at or below it (asks)
    clear = kind == hbt.CLEAR
    where[clear & (side > 0)] = np.searchsorted(prices, px[clear & (side > 0)])
    where[clear & (side < 0)] = np.searchsorted(prices, px[clear & (side < 0)], side="right") - 1

    def fill(table: Ints) -> tuple[int, int, int, int]:
        return _expand(kind, side, px, qty, where, last, prices, table)

    _, _, table, _ = filled(fill, len(px) + 16)
    events = events_of(table, ts, origin.source)
    add_counts(out.checks, {"crossed_books": len(crossed_levels(events))})
    out.account().imported_trades += int((table[:, 1] == EventKind.TRADE).sum())
    return events, table[:, 0].copy()


@kernel
def _expand(
    kind: Any, side: Any, px: Any, qty: Any, where: Any, last: Any, prices: Any, out: Any
) -> tuple[int, int, int, int]:  # fmt: skip
    # the rows of all messages; a clear of one side becomes LEVEL 0 of what is there
    shown = np.zeros((2, prices.shape[0]), np.bool_)
    n, told = 0, 0
    for i in range(kind.shape[0]):
        first, stop, b = 0, 0, 0 if side[i] > 0 else 1
        row_kind, row_px, row_qty, flags = 6, px[i], qty[i], 0
        if kind[i] == 2:
            row_kind = 5
        elif kind[i] != 3:
            flags = 2 if kind[i] == 4 else 0
            shown[b, where[i]] = qty[i] > 0
        elif side[i] == 0:
            row_kind, row_px, row_qty, flags = 8, 0, 0, 2
            shown[:] = False
        else:
            row_kind, flags = 0, 2
            first, stop = (where[i], prices.shape[0]) if side[i] > 0 else (0, where[i] + 1)
        if row_kind > 0:
            if n < out.shape[0]:
                out[n, 0], out[n, 1], out[n, 2], out[n, 3] = i, row_kind, row_px, row_qty
                out[n, 5], out[n, 6] = side[i], flags
            n += 1
        for k in range(first, stop):
            if shown[b, k]:
                shown[b, k] = False
                if n < out.shape[0]:
                    out[n, 0], out[n, 1], out[n, 2] = i, 6, prices[k]
                    out[n, 5], out[n, 6] = side[i], flags
                n += 1
        if last[i]:
            if told < n <= out.shape[0]:
                out[n - 1, 6] |= 1
            told = n
    return FULL if n > out.shape[0] else 0, 0, n, 0


def _restore(
    files: list[tuple[str, npt.NDArray[np.void], dict[str, Any] | None]],
    instrument: Instrument,
    out: Conversion,
) -> Conversion:
    # a file that `mmsim.data.export` wrote
    for source, rows, meta in sorted(files, key=lambda f: int(f[1]["exch_ts"][0])):
        if meta is None or meta.get("schema") != 1:
            raise DataError("expected a file that this version of mmsim wrote", source=source, field="mmsim")
        out.level, out.view_depth = meta["level"], max(out.view_depth, int(meta["view_depth"]))
        out.n_slots = max(out.n_slots, int(meta["n_slots"]))
        printed = (rows["ev"] & 0xFF == hbt.TRADE) & (rows["ev"] & hbt.EXCH > 0)
        out.account().count(rows["fval"][printed].astype(np.int64))
        kind = (rows["ival"] >> hbt.KIND_SHIFT) & 0xFF
        # not the further rows of one event, nor the local halves of those whose clocks disagree on the order
        own = (kind > 0) & (rows["ev"] & (hbt.EXCH | hbt.LOCAL) != hbt.LOCAL)
        origin = Origin(source, np.flatnonzero(own) + 1)
        rows, kind = rows[own], kind[own]
        slot = rows["ival"] >> hbt.SLOT_SHIFT
        bad = (rows["ival"] < 0) | (kind > int(EventKind.CLEAR))
        origin.refuse(bad, rows["ival"], "a kind of event", "ival")
        priced = kind != EventKind.CLEAR
        px = np.zeros(len(rows), np.int64)
        px[priced] = units_from_float(rows["px"][priced], instrument.tick_size, origin[priced], "px")
        qty = rows["fval"].astype(np.int64)
        origin.refuse(qty != rows["fval"], rows["fval"], "whole lots", "fval")
        # an execution starts with the print, whose side is the aggressor's
        side = _sides(rows) * np.where(kind == EventKind.EXECUTE, -1, 1)
        starts = [int(s) for s in meta["starts"]]
        events = build_events(
            ts=rows["exch_ts"], kind=kind, side=side, px=px, qty=qty, oid=slot,
            flags=rows["ival"] & ((1 << hbt.KIND_SHIFT) - 1), source=source,
        )  # fmt: skip
        _count_restored(events, out)
        recv = rows["local_ts"].astype(np.int64) if meta["has_recv"] else None
        for a, b, label in zip(starts, [*starts[1:], len(events)], meta["labels"], strict=True):
            out.add(events[a:b], label, None if recv is None else recv[a:b])
    out.checks["crossed_books"] = 0
    return out.finish(files[0][0])


def _count_restored(events: npt.NDArray[np.void], out: Conversion) -> None:
    # a trade of an auction that executed two orders was written as two trades: hftbacktest knows no auction
    executed = events["kind"] == EventKind.EXECUTE
    second = executed & (events["flags"] & EventFlag.AUCTION > 0) & (events["side"] < 0)
    tape = out.account()
    tape.imported_trades += int((executed | (events["kind"] == EventKind.TRADE)).sum() - second.sum())
    tape.leave_out("second order of an auction's trade", events["qty"][second])


FORMAT = Format(
    "hftbacktest",
    "hftbacktest .npz (L2 or L3, as the file is)",
    (".npz", ".npy"),
    convert,
    "L2",
    options=frozenset({"backwards"}),
    instrument={"currency": "USDT", "timezone": "UTC", "sessions": []},
    decision_ns=100_000_000,
    fees=("zero", "binance_vip0"),
    level_of=level_of,
    write=write,
)
