"""Databento DBN files (``.dbn``, ``.dbn.zst``): MBO order by order, MBP-10 and MBP-1 level by level.

The head is decoded by Databento's own package, the records are read as what they are: packed structs. MBO
(L3): the book changes by Add, Cancel, Modify and Clear only; a Trade and its Fills announce what the Cancels and
Modifies after them carry out, and become one EXECUTE per order. A record with F_LAST ends an event: the book may
be looked at. MBP (L2 with 10 or 1 levels): each record holds the book after it, Trade records the print.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Conversion, Ints, Progress, add_counts, count_kinds
from mmsim.data.files import read_blocks
from mmsim.data.formats import _orders
from mmsim.data.formats._clocks import BACKWARDS, in_order, receive_times
from mmsim.data.formats._orders import OrderLog, account, convert_orders, renumber
from mmsim.data.formats.format import Format
from mmsim.data.options import choice_option, text_option
from mmsim.data.origin import Origin
from mmsim.data.snapshot_encode import encode
from mmsim.data.steps import to_steps, units_per_step
from mmsim.errors import ConfigError, DataError, did_you_mean
from mmsim.types import BUY, EVENT, NO_SIDE, SELL, EventFlag, EventKind, Instrument

F_LAST, F_SNAPSHOT = 128, 32
UNDEFINED = np.iinfo(np.int64).max  # price of a level that does not exist
_HEAD = [
    ("length", "u1"),
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
]
_STAMPS = [("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4")]
_PAIR = [("bid_px", "<i8"), ("ask_px", "<i8"), ("bid_sz", "<u4"), ("ask_sz", "<u4"), ("bid_ct", "<u4"), ("ask_ct", "<u4")]  # fmt: skip
MBO = np.dtype(
    [
        *_HEAD,
        *(("order_id", "<u8"), ("price", "<i8"), ("size", "<u4"), ("flags", "u1"), ("channel_id", "u1")),
        *(("action", "u1"), ("side", "u1")),
        *_STAMPS,
    ]
)


def _mbp(depth: int) -> np.dtype[np.void]:
    middle = [("price", "<i8"), ("size", "<u4"), ("action", "u1"), ("side", "u1"), ("flags", "u1"), ("depth", "u1")]  # fmt: skip
    return np.dtype([*_HEAD, *middle, *_STAMPS, ("levels", np.dtype(_PAIR), (depth,))])


ACTIONS = {
    ord(letter): name
    for letter, name in zip(
        "ACMRTFN", ("add", "cancel", "modify", "clear", "trade", "fill", "none"), strict=True
    )
}
SCHEMAS = {"mbo": (160, MBO), "mbp-10": (10, _mbp(10)), "mbp-1": (1, _mbp(1))}
_WHY_NOT = {
    "trades": "prints without a book: take mbo, mbp-10 or mbp-1, which hold the same prints",
    "tbbo": "quotes at the moments of trades only: take mbp-1",
    "bbo-1s": "one quote a second without the changes between: take mbp-1",
    "bbo-1m": "one quote a minute without the changes between: take mbp-1",
}


def _package() -> Any:
    try:
        import databento_dbn
    except ImportError:
        raise ConfigError(
            "format databento needs the package databento-dbn: pip install 'mmsim[databento]'"
        ) from None
    return databento_dbn


def level_of(paths: list[Path]) -> str:
    """Return the level of the feed in the files: ``L3`` for MBO, ``L2`` for MBP."""
    found = {_schema(_metadata(_content(path, head_only=True), str(path))[0], str(path)) for path in paths}
    if len(found) > 1:
        raise DataError(
            f"expected files of one schema, was {' and '.join(sorted(found))}", source=str(paths[0])
        )
    return "L3" if found == {"mbo"} else "L2"


def _content(path: Path, *, head_only: bool = False) -> bytes:
    source, content = str(path), bytearray()
    for block in read_blocks(path):
        content += block
        if len(content) >= 8:
            if content[:3] != b"DBN":
                break
            if head_only and len(content) >= 8 + int.from_bytes(content[4:8], "little"):
                break
    if content[:3] != b"DBN" or len(content) < 8:
        raise DataError(
            f"expected a file that starts with 'DBN' (plain or zstd), was {bytes(content[:4])!r}",
            source=source,
        )
    size = int.from_bytes(content[4:8], "little")
    if len(content) < 8 + size:
        raise DataError(
            f"expected {size} bytes of metadata, was {len(content) - 8}: a cut file; fetch it again",
            source=source,
        )
    return bytes(content)


def _metadata(content: bytes, source: str) -> tuple[Any, int]:
    dbn = _package()
    size = 8 + int.from_bytes(content[4:8], "little")
    try:
        return dbn.Metadata.decode(content[:size]), size
    except dbn.DBNError as err:
        raise DataError(f"expected DBN metadata: {err}", source=source, field="metadata") from None


def _schema(meta: Any, source: str) -> str:
    schema = str(meta.schema) if meta.schema is not None else "mixed"
    if schema not in SCHEMAS:
        why = _WHY_NOT.get(schema, "not a book: take mbo, mbp-10 or mbp-1")
        raise DataError(
            f"expected schema {', '.join(SCHEMAS)}, was {schema}: {why}", source=source, field="schema"
        )
    return schema


@kernel
def _pick(buf: Any, rtype: int, size: int, out: Any) -> tuple[int, int, int, int]:
    # copy the records of `rtype`; (copied, others, end, number of the broken record or 0)
    pos, n, others, total = 0, 0, 0, buf.shape[0]
    while pos < total:
        length = 4 * int(buf[pos])
        if length < 16 or pos + length > total:
            return n, others, pos, n + others + 1
        if buf[pos + 1] == rtype:
            if length < size:
                return n, others, pos, n + others + 1
            for k in range(size):
                out[n * size + k] = buf[pos + k]
            n += 1
        else:
            others += 1
        pos += length
    return n, others, pos, 0


def _records(
    path: Path, symbol: str | None, counts: dict[str, int]
) -> tuple[str, npt.NDArray[np.void], npt.NDArray[np.int64]]:
    # schema, records of the one instrument, and their one-based numbers in the file
    source = str(path)
    content = _content(path)
    meta, start = _metadata(content, source)
    schema = _schema(meta, source)
    rtype, dtype = SCHEMAS[schema]
    buf = np.frombuffer(content, dtype=np.uint8, offset=start)
    out = np.zeros((len(buf) // dtype.itemsize) * dtype.itemsize, dtype=np.uint8)
    n, others, end, broken = _pick(buf, rtype, dtype.itemsize, out)
    if broken:
        raise DataError(
            f"expected a whole {schema} record at byte {start + end}, was a cut or broken one; fetch it again",
            source=source,
            row=broken,
        )
    rows = out[: n * dtype.itemsize].view(dtype)
    if n == 0:
        raise DataError(f"expected {schema} records, was none", source=source)
    counts["rows_read"] += n + others
    counts["dropped_other_records"] += others
    ids = np.unique(rows["instrument_id"])
    wanted = _instrument(meta, symbol, ids, source)
    keep = rows["instrument_id"] == wanted
    counts["dropped_other_symbols"] += int((~keep).sum())
    return schema, rows[keep], np.flatnonzero(keep) + 1


def _instrument(meta: Any, symbol: str | None, ids: npt.NDArray[Any], source: str) -> int:
    names: dict[str, set[int]] = {}
    for name, intervals in meta.mappings.items():
        for interval in intervals:
            if str(interval["symbol"]).isdigit():
                names.setdefault(name, set()).add(int(interval["symbol"]))
    if symbol is None:
        if len(ids) == 1:
            return int(ids[0])
        known = ", ".join(sorted(names)[:8]) or ", ".join(str(i) for i in ids[:8])
        raise ConfigError(
            f"{source}: expected one instrument, was {len(ids)}: choose with --option symbol=... ({known})"
        )
    present = names.get(symbol, {int(symbol)} if symbol.isdigit() else set()) & {int(i) for i in ids}
    if len(present) == 1:
        return present.pop()
    if len(present) > 1:
        raise DataError(
            f"expected one instrument of symbol {symbol}, was {sorted(present)} (it was mapped anew in between): "
            "give the instrument id instead",
            source=source,
            field="instrument_id",
        )
    raise DataError(
        f"expected records of symbol {symbol!r}, was none{did_you_mean(symbol, names)}; the file has "
        f"{', '.join(sorted(names)[:8]) or ', '.join(str(i) for i in ids[:8])}",
        source=source,
        field="symbol",
    )


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert DBN files of one schema, one segment each, in the order of their first receive time.

    Exchange time is ``ts_event``, receive time ``ts_recv``. An MBO snapshot (F_SNAPSHOT) happens when the first
    message after it does, at the latest when it was received: its orders keep the sequence of the file, which is
    their priority.

    Options: ``symbol``: raw symbol or instrument id, needed where a file has several; ``backwards``: ``refuse``
    (default) or ``hold`` exchange times that run backwards.

    Raises
    ------
    DataError
        For a cut or broken file, a schema without a book, an unknown symbol, a price off the tick grid, time
        running backwards.
    ConfigError
        If the package databento-dbn is not installed.
    """
    how = choice_option(options, "backwards", BACKWARDS, "databento")
    symbol = text_option(options, "symbol")
    counts = dict.fromkeys(("rows_read", "dropped_other_records", "dropped_other_symbols"), 0)
    out = Conversion(counts=counts, checks={"crossed_books": 0})
    files = []
    for i, path in enumerate(paths):
        progress(path.name, 0.6 * i / len(paths))
        files.append((str(path), *_records(path, symbol, counts)))
    schemas = {schema for _, schema, _, _ in files}
    if len(schemas) > 1:
        raise DataError(
            f"expected files of one schema, was {' and '.join(sorted(schemas))}", source=files[0][0]
        )
    schema = schemas.pop()
    out.level = "L3" if schema == "mbo" else "L2"
    out.view_depth = 0 if schema == "mbo" else int(schema.partition("-")[2])
    files.sort(key=lambda f: int(f[2]["ts_recv"][0]))
    build = _order_events if schema == "mbo" else _level_events
    for i, (source, _, rows, lines) in enumerate(files):
        progress("building the book", 0.6 + 0.4 * i / len(files))
        origin = Origin(source, lines)
        ts, recv = _times(rows)
        ts = in_order(ts, how, origin, "ts_event", out)
        count_kinds(out.messages, rows["action"], ACTIONS)
        events, at = build(rows, ts, instrument, origin, out)
        out.add(events, recv_ts=receive_times(events["ts"], recv[at], out))
    return out.finish(files[0][0])


def _times(rows: npt.NDArray[np.void]) -> tuple[Ints, Ints]:
    # orders of a snapshot carry the time at which they were sent; the snapshot itself is younger
    ts, recv = rows["ts_event"].astype(np.int64), rows["ts_recv"].astype(np.int64)
    snapshot = rows["flags"] & F_SNAPSHOT > 0
    if not snapshot.any():
        return ts, recv
    ts[snapshot] = recv[snapshot]
    live = np.flatnonzero(~snapshot)
    following = np.searchsorted(live, np.flatnonzero(snapshot))
    has = following < len(live)
    of = np.flatnonzero(snapshot)[has]
    ts[of] = np.minimum(ts[of], ts[live[following[has]]])
    return ts, recv


def _prices(
    values: Ints, used: npt.NDArray[np.bool_], instrument: Instrument, origin: Origin, field: str
) -> Ints:
    unit = units_per_step(instrument.tick_size, 9, "tick_size")
    out = np.zeros(len(values), dtype=np.int64)
    origin.refuse(used & (values == UNDEFINED), values, "a price, was undefined", field)
    out[used] = to_steps(values[used], unit, "one tick, in 1e-9", origin[used], field)
    return out


def _sizes(values: npt.NDArray[Any], instrument: Instrument, origin: Origin, field: str) -> Ints:
    unit = units_per_step(instrument.lot_size, 0, "lot_size")
    return to_steps(values.astype(np.int64), unit, "lot", origin, field)


def _sides(rows: npt.NDArray[np.void], origin: Origin) -> Ints:
    side = np.full(256, 2, dtype=np.int64)
    side[[ord(c) for c in "BAN"]] = BUY, SELL, NO_SIDE
    out: Ints = side[rows["side"]]
    origin.refuse(out == 2, rows["side"], "a side B, A or N", "side")
    return out


def _last(rows: npt.NDArray[np.void], ts: Ints) -> npt.NDArray[np.bool_]:
    last = rows["flags"] & F_LAST > 0
    if not last[
        rows["flags"] & F_SNAPSHOT == 0
    ].any():  # venues that do not set it: what has one time is one event
        last[:-1] |= np.diff(ts) != 0
    last[-1] = True
    return last


def _count_raw(out: Conversion, lots: Ints) -> None:
    tape = out.account()
    tape.count(lots)
    tape.leave_out("trade records without a quantity", lots[lots == 0])


def _order_events(
    rows: npt.NDArray[np.void], ts: Ints, instrument: Instrument, origin: Origin, out: Conversion
) -> tuple[npt.NDArray[np.void], Ints]:
    action = rows["action"]
    op = np.zeros(256, dtype=np.int64)
    for letter, what in zip(
        "ACMRTFN",
        (
            *(_orders.ADD, _orders.CUT, _orders.MODIFY, _orders.CLEAR),
            *(_orders.PRINT, _orders.FILL, _orders.NOTHING),
        ),
        strict=True,
    ):
        op[ord(letter)] = what
    code = op[action]
    origin.refuse(code == 0, action, "an action A, C, M, R, T, F or N", "action")
    side = _sides(rows, origin)
    origin.refuse((side == NO_SIDE) & (code == _orders.ADD), rows["side"], "a side of the new order", "side")
    priced = np.isin(code, (_orders.ADD, _orders.MODIFY, _orders.PRINT, _orders.FILL)) & (
        (rows["size"] > 0) | (code == _orders.ADD)
    )
    px = _prices(rows["price"].astype(np.int64), priced, instrument, origin, "price")
    qty = _sizes(rows["size"], instrument, origin, "size")
    _count_raw(out, qty[action == ord("T")])
    # nothing traded, nothing cancelled: not a change
    empty = (qty == 0) & np.isin(code, (_orders.PRINT, _orders.FILL, _orders.CUT))
    code[empty] = _orders.NOTHING
    flags = np.where(rows["flags"] & F_SNAPSHOT > 0, int(EventFlag.SNAPSHOT), 0).astype(np.int64)
    n_owners, [owner] = renumber(rows["order_id"])
    log = OrderLog(code, owner, owner, px, qty, side, flags, _last(rows, ts), n_owners, origin)
    events, at, n_slots, counts = convert_orders(log, ts, strict=False)
    out.n_slots = max(out.n_slots, n_slots)
    account(counts, out)
    add_counts(out.counts, {"rows_without_quantity": int(empty.sum())})
    return events, at


def _level_events(
    rows: npt.NDArray[np.void], ts: Ints, instrument: Instrument, origin: Origin, out: Conversion
) -> tuple[npt.NDArray[np.void], Ints]:
    trade = (rows["action"] == ord("T")) & (rows["size"] > 0)
    # the book is right at the end of an event; prints stand before it
    last = _last(rows, ts)
    book = np.flatnonzero(last)
    pairs = rows["levels"][book]
    sides = []
    for name in ("bid", "ask"):
        px, qty = np.zeros(pairs.shape, np.int64), np.zeros(pairs.shape, np.int64)
        for k in range(pairs.shape[1]):
            raw, size = pairs[f"{name}_px"][:, k].astype(np.int64), pairs[f"{name}_sz"][:, k]
            shown = (raw != UNDEFINED) & (size > 0)
            field = f"{name}_px_{k:02d}"
            px[:, k] = _prices(raw, shown, instrument, origin[book], field)
            qty[:, k] = np.where(shown, _sizes(size, instrument, origin[book], f"{name}_sz_{k:02d}"), 0)
        sides.append((px, qty))
    (bid_px, bid_qty), (ask_px, ask_qty) = sides
    crossed = (bid_qty[:, 0] > 0) & (ask_qty[:, 0] > 0) & (bid_px[:, 0] >= ask_px[:, 0])
    levels_ = encode(
        ts[book], sides[0], sides[1], np.zeros((len(book), 6), np.int64), pairs.shape[1], origin.source
    )
    if len(levels_) == 0:
        raise DataError("expected quotes, was none in the file", source=origin.source)
    # rows of a message share its index; prints go in front of those of the event that they belong to
    closes = levels_["flags"] & EventFlag.LAST > 0
    message = np.concatenate([[0], np.cumsum(closes)[:-1]])
    prints = np.zeros(int(trade.sum()), dtype=EVENT)
    where = np.flatnonzero(trade)
    prints["ts"], prints["kind"] = ts[where], int(EventKind.TRADE)
    prints["px"] = _prices(rows["price"].astype(np.int64), trade, instrument, origin, "price")[where]
    prints["qty"] = _sizes(rows["size"][where], instrument, origin[where], "size")
    prints["side"] = _sides(rows, origin)[where]
    printed = rows["action"] == ord("T")
    _count_raw(out, _sizes(rows["size"][printed], instrument, origin[printed], "size"))
    at = np.concatenate([where, book[message]])
    group = np.concatenate([np.searchsorted(book, where), message])
    order = np.lexsort((np.concatenate([np.zeros(len(where)), np.ones(len(message))]), group))
    out.account().imported_trades += len(where)
    add_counts(out.checks, {"crossed_books": int(crossed.sum())})
    return np.concatenate([prints, levels_])[order], at[order]


FORMAT = Format(
    "databento",
    "Databento DBN: mbo (L3), mbp-10 or mbp-1 (L2); needs databento-dbn",
    (".dbn", ".dbn.zst"),
    convert,
    "L3",
    options=frozenset({"symbol", "backwards"}),
    instrument={"currency": "USD", "timezone": "UTC", "sessions": []},
    decision_ns=500_000_000,
    fees=("zero", "nasdaq"),
    level_of=level_of,
)
