"""NASDAQ TotalView-ITCH 5.0 full-day files, plain or ``.gz``: one stock of a few hundred million messages.

Every message stands after its length (two bytes, big-endian). The file is read in blocks and scanned in compiled
code; only the messages of the wanted stock stay in memory. Orders:

* A, F add; E executes at the order's price: EXECUTE; X cancels a part, D all; U replaces (a new order at the back);
* C executes at another price: the order shrinks, and the print, if it counts as one (``printable``), is a TRADE
  at its own price; at the order's price it is an EXECUTE like E;
* P is an execution of an order that was never shown: a TRADE. Since 14 July 2014 the message does not tell the
  side any more. A price between two ticks is then compared with the mid-price: above it a buyer, below it a
  seller, at it whoever traded last, and rounded toward that aggressor (see `mmsim.data.formats.lobster`); on a
  tick the side stays unknown;
* Q, a cross: a TRADE without side, flag AUCTION; the executions of its orders are told as not printable. B, a broken
  trade, is counted: what was printed stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Conversion, Ints, Progress, add_counts, count_kinds
from mmsim.data.files import read_blocks
from mmsim.data.formats import _itch_scan, _orders
from mmsim.data.formats._orders import OrderLog, convert_orders, renumber
from mmsim.data.formats._text import source_date
from mmsim.data.formats.format import US_STOCK, Format
from mmsim.data.ladder import put
from mmsim.data.options import text_option
from mmsim.data.origin import Origin
from mmsim.data.steps import instrument_units, to_steps
from mmsim.errors import ConfigError, DataError, did_you_mean
from mmsim.sessions import midnight_ns
from mmsim.types import EventFlag, EventKind, Instrument

MESSAGES = {
    ord(letter): name
    for letter, name in {
        "A": "add", "F": "add_attributed", "E": "execute", "C": "execute_at_price", "X": "cancel", "D": "delete",
        "U": "replace", "P": "hidden_trade", "Q": "cross", "B": "broken_trade",
    }.items()
}  # fmt: skip
_BLOCK = 1 << 24
_LONGEST = max(_itch_scan.LENGTHS.values()) + 2
_SIDELESS_SINCE = "20140714"
_US_DATE = re.compile(r"(?<!\d)(0[1-9]|1[0-2])([0-2]\d|3[01])((?:19|20)?\d{2})(?!\d)")


def _messages(
    path: Path, symbol: str | None, counts: dict[str, int], progress: Progress
) -> npt.NDArray[np.int64]:
    # (n, 8) messages of the stock
    source = str(path)
    wanted = np.frombuffer((symbol or "").ljust(8).encode("ascii", "replace")[:8], dtype=np.uint8)
    lengths, fields = _itch_scan.length_table(), _itch_scan.field_table()
    state = np.zeros(6, dtype=np.int64)
    state[_itch_scan.S_LOCATE] = -1
    names = np.zeros((1 << 16, 8), dtype=np.uint8)
    out = np.zeros((_BLOCK // 64, 8), dtype=np.int64)
    parts: list[npt.NDArray[np.int64]] = []
    rest = b""
    status, read, size = _itch_scan.MORE, 0, max(path.stat().st_size, 1)
    for block in read_blocks(path, _BLOCK):
        if status == _itch_scan.END:
            _refuse_more(state, source)
        content = rest + block
        read += len(block)
        if read == len(block) and (
            len(content) < 3 or lengths[content[2]] != int.from_bytes(content[:2], "big")
        ):
            raise DataError(
                f"expected ITCH 5.0 messages, each after its length as two bytes, was {content[:4]!r} at the start "
                "(a capture of packets must be unpacked first)",
                source=source, row=1,
            )  # fmt: skip
        buf, at = np.frombuffer(content, dtype=np.uint8), 0
        while True:
            status, used, n = _itch_scan.scan(
                buf[at:], len(buf) - at, lengths, fields, wanted, state, names, out
            )
            at += used
            parts.append(out[:n].copy())
            if status != _itch_scan.FULL:
                break
        if status > _itch_scan.END:
            _refuse(status, state, source)
        rest = content[at:]
        if status == _itch_scan.END and rest:
            _refuse_more(state, source)
        progress(path.name, min(0.7, 0.7 * read / size))
    if status != _itch_scan.END and rest:
        raise DataError(
            f"expected whole messages, was {len(rest)} bytes of one at the end: a cut file; fetch it again",
            source=source, row=int(state[_itch_scan.S_COUNT]) + 1,
        )  # fmt: skip
    counts["rows_read"] += int(state[_itch_scan.S_COUNT])
    rows = np.concatenate(parts) if parts else np.zeros((0, 8), np.int64)
    _check_symbol(symbol, state, names, source)
    counts["messages_of_the_stock"] += len(rows)
    return rows


def _refuse_more(state: Ints, source: str) -> None:
    raise DataError(
        "expected nothing after the end of session, was more data",
        source=source,
        row=int(state[_itch_scan.S_COUNT]) + 1,
    )


def _refuse(status: int, state: Ints, source: str) -> None:
    letter, length, row = (
        chr(int(state[_itch_scan.S_TYPE])),
        int(state[_itch_scan.S_LENGTH]),
        int(state[_itch_scan.S_COUNT]),
    )
    text = {
        _itch_scan.UNKNOWN_TYPE: f"expected a message type of {', '.join(_itch_scan.LENGTHS)}, was {letter!r} ({length} bytes)",
        _itch_scan.WRONG_LENGTH: f"expected {_itch_scan.LENGTHS.get(letter, 0)} bytes of message type {letter!r}, was {length}",
        _itch_scan.BACKWARDS: "expected time not before the message before, was earlier",
        _itch_scan.NO_ADD_SIDE: "expected a buy/sell indicator B or S, was another letter",
    }[status]
    field = {_itch_scan.BACKWARDS: "timestamp", _itch_scan.NO_ADD_SIDE: "buy/sell indicator"}.get(
        status, "message type"
    )
    raise DataError(f"{text}: not ITCH 5.0, or a damaged file", source=source, row=row, field=field)


def _check_symbol(symbol: str | None, state: Ints, names: npt.NDArray[np.uint8], source: str) -> None:
    known = [bytes(n).decode("ascii", "replace").strip() for n in names[names[:, 0] > 0]]
    if symbol is None and int(state[_itch_scan.S_SYMBOLS]) != 1:
        raise ConfigError(
            f"{source}: expected one stock, was {len(known)}: choose with --option symbol=... "
            f"({', '.join(sorted(known)[:8])})"
        )
    if state[_itch_scan.S_LOCATE] < 0:
        raise DataError(
            f"expected stock {symbol!r} in the directory, was none{did_you_mean(str(symbol), known)} among "
            f"{len(known)} stocks",
            source=source,
            field="symbol",
        )


def _day(path: Path, option: str | None) -> str:
    # 01302020.NASDAQ_ITCH50.gz and S081321-v50.txt.gz are NASDAQ's names
    found = _US_DATE.search(path.name)
    if option is None and found:
        month, day, year = found.groups()
        return f"{year if len(year) == 4 else '20' + year}{month}{day}"
    return source_date([path.name], option)


@kernel
def _guess_sides(kind: Any, side: Any, px: Any, qty: Any, off: Any, index: Any) -> None:
    # in place: `side` and `px` of prints between two ticks of unknown aggressor (off > 0: 1 below the middle of
    # the two ticks, 2 at it, 3 above; px is the lower tick), from the mid of the book so far
    total = np.zeros((2, index.shape[0]), np.int64)
    best = np.array([-1, index.shape[0]])
    aggressor = 1
    for k in range(kind.shape[0]):
        if kind[k] == 5:
            if off[k] > 0:
                twice = 4 * px[k] + off[k]
                guess = aggressor
                if best[0] >= 0 and best[1] < index.shape[0]:
                    mid = 2 * (index[best[0]] + index[best[1]])
                    guess = 1 if twice > mid else (-1 if twice < mid else aggressor)
                side[k] = guess
                if guess < 0:
                    px[k] += 1
            if side[k] != 0:
                aggressor = side[k]
            continue
        b = 0 if side[k] > 0 else 1
        i = np.searchsorted(index, px[k])
        if kind[k] == 4:
            aggressor = -side[k]
        put(total, best, b, i, total[b, i] + (qty[k] if kind[k] == 1 else -qty[k]))


def _one_day(
    path: Path, instrument: Instrument, symbol: str | None, day: str, out: Conversion, progress: Progress
) -> npt.NDArray[np.void]:
    source = str(path)
    tick, lot = instrument_units(instrument, 4, 0)
    rows = _messages(path, symbol, out.counts, progress)
    if len(rows) == 0:
        raise DataError(f"expected messages of {symbol or 'the stock'}, was none", source=source)
    letter = rows[:, _itch_scan.LETTER].astype(np.uint8)
    is_ = {c: letter == ord(c) for c in "AFECXDUPQB"}
    n_owners, [owner, new] = renumber(
        rows[:, _itch_scan.REF].view(np.uint64), rows[:, _itch_scan.NEW_REF].view(np.uint64)
    )
    order_px = np.zeros(n_owners, dtype=np.int64)
    order_side = np.zeros(n_owners, dtype=np.int64)
    added = is_["A"] | is_["F"]
    order_px[owner[added]], order_side[owner[added]] = (
        rows[added, _itch_scan.PRICE],
        rows[added, _itch_scan.SIDE],
    )
    order_px[new[is_["U"]]] = rows[is_["U"], _itch_scan.PRICE]
    _inherit(owner, new, is_["U"], order_side)
    same_price = is_["C"] & (rows[:, _itch_scan.PRICE] == order_px[owner])
    printable = is_["C"] & (rows[:, _itch_scan.SIDE] == 1)
    elsewhere = is_["C"] & ~(same_price & printable)
    empty = is_["Q"] & ((rows[:, _itch_scan.SHARES] == 0) | (rows[:, _itch_scan.PRICE] == 0))
    op = np.full(len(rows), _orders.NOTHING, dtype=np.int64)
    for letters, what in (
        *(("AF", _orders.ADD), ("EC", _orders.EXECUTE), ("X", _orders.CUT), ("D", _orders.DELETE)),
        *(("U", _orders.REPLACE), ("PQ", _orders.PRINT)),
    ):
        for c in letters:
            op[is_[c]] = what
    op[elsewhere], op[empty] = _orders.TAKE, _orders.NOTHING
    sideless = day >= _SIDELESS_SINCE
    side = np.where(
        is_["P"],
        0 if sideless else -rows[:, _itch_scan.SIDE],
        np.where(is_["Q"], 0, rows[:, _itch_scan.SIDE]),
    )
    price, prints = rows[:, _itch_scan.PRICE].copy(), is_["P"] | is_["Q"]
    # a print elsewhere is a message of its own, before the order shrinks
    twice = np.repeat(np.arange(len(rows)), 1 + (elsewhere & printable))
    extra = np.concatenate([[False], twice[1:] == twice[:-1]])
    first = np.concatenate([extra[1:], [False]])
    op, side, price, prints = op[twice], side[twice], price[twice], prints[twice] | first
    op[first], side[first] = _orders.PRINT, -order_side[owner[twice[first]]]
    origin = Origin(source, rows[twice, _itch_scan.NUMBER])
    px = price // tick
    priced = np.isin(op, (_orders.ADD, _orders.REPLACE))
    px[priced] = to_steps(price[priced], tick, "tick", origin[priced], "price")
    off = np.where(prints & (price % tick != 0), 2 + np.sign(2 * (price % tick) - tick), 0)
    px[(off > 0) & (side < 0)] += 1  # toward the aggressor
    off[(side != 0) | is_["Q"][twice]] = 0
    qty = to_steps(rows[twice, _itch_scan.SHARES], lot, "lot", origin, "shares")
    flags = np.where(is_["Q"][twice], int(EventFlag.AUCTION), 0).astype(np.int64)
    log = OrderLog(op, owner[twice], new[twice], px, qty, side, flags, ~first, n_owners, origin)
    ts = rows[twice, _itch_scan.TIME] + midnight_ns(day, instrument.timezone)
    events, at, n_slots, counts = convert_orders(log, ts, strict=True)
    if (off > 0).any():
        kind, guessed, ticks, lots = (events[n].astype(np.int64) for n in ("kind", "side", "px", "qty"))
        at_off = np.where(events["kind"] == EventKind.TRADE, off[at], 0)
        index = np.unique(ticks)
        _guess_sides(kind, guessed, ticks, lots, at_off, index)
        events["side"], events["px"] = guessed, ticks
    out.n_slots = max(out.n_slots, n_slots)
    add_counts(out.checks, {"crossed_books": counts["crossed_books"]})
    count_kinds(out.messages, letter, MESSAGES)
    traded = is_["E"] | is_["C"] | is_["P"] | is_["Q"]
    lots = rows[:, _itch_scan.SHARES] // lot  # (a multiple: refused above)
    tape = out.account()
    tape.count(lots[traded])
    tape.imported_trades += counts["trades"]
    unprinted = is_["C"] & ~printable
    tape.leave_out("executions that are part of a cross", lots[unprinted])
    tape.leave_out("crosses without shares or price", lots[empty])
    if is_["B"].any():
        out.notes.append(
            f"{day}: {int(is_['B'].sum())} trades were broken later; they were seen when they printed, and stay"
        )
    found = {
        "prints_off_tick": int((prints & (price % tick != 0)).sum()),
        "dropped_empty_crosses": int(empty.sum()),
        "executions_at_another_price": int((is_["C"] & ~same_price).sum()),
    }
    add_counts(out.counts, found)
    return events


@kernel
def _inherit(owner: Any, new: Any, replaced: Any, side: Any) -> None:
    # a replacing order is on the side of the one that it replaces
    for i in range(owner.shape[0]):
        if replaced[i]:
            side[new[i]] = side[owner[i]]


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert full-day files to order-by-order events of one stock, one segment per day.

    Options: ``symbol``, needed unless the directory has one stock only; ``date``: trading day ``YYYY-MM-DD`` if
    the file name does not hold it (as ``01302020`` or ``YYYYMMDD``).

    Raises
    ------
    DataError
        For a cut file, a message that is none of ITCH 5.0, an unknown stock, a price off the tick grid, time
        running backwards, an order that the book does not know.
    """
    symbol = text_option(options, "symbol")
    symbol = None if symbol is None else symbol.upper()
    counts = dict.fromkeys(("rows_read", "messages_of_the_stock"), 0)
    out = Conversion(level="L3", counts=counts, checks={"crossed_books": 0})
    out.account().unit = "executions, hidden trades and crosses"
    days = sorted(
        (_day(path, text_option(options, "date") if len(paths) == 1 else None), path) for path in paths
    )
    for day, path in days:
        out.add(_one_day(path, instrument, symbol, day, out, progress), day)
    return out.finish(str(days[0][1]))


FORMAT = Format(
    "itch",
    "NASDAQ TotalView-ITCH 5.0 full-day file, one stock (L3)",
    (".NASDAQ_ITCH50", ".txt", ".gz"),
    convert,
    "L3",
    options=frozenset({"symbol", "date"}),
    instrument=US_STOCK,
    decision_ns=500_000_000,
    fees=("zero", "nasdaq"),
)
