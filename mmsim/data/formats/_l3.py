"""Shared parts of the order-by-order converters: exact text tables, zip members, and the replay check.

The check knows nothing of a converter: it replays finished EVENT rows in a plain book (slots and level
totals) and compares what that book shows with the books that came with the data.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import INT32_MAX, Ints
from mmsim.errors import ConfigError, DataError
from mmsim.types import EventFlag, EventKind, Instrument

ADD, REDUCE, DELETE, EXECUTE = (
    int(EventKind.ADD),
    int(EventKind.REDUCE),
    int(EventKind.DELETE),
    int(EventKind.EXECUTE),
)
TRADE, HIDE = int(EventKind.TRADE), int(EventKind.HIDE)
LAST, SEED, AUCTION = int(EventFlag.LAST), int(EventFlag.SEED), int(EventFlag.AUCTION)

_NO_NUMBER, _FEW_FIELDS, _MANY_FIELDS, _NO_INTEGER, _TOO_LARGE = 1, 2, 3, 4, 5
_EXPECTED = {
    _NO_NUMBER: "a decimal number",
    _NO_INTEGER: "a whole number",
    _TOO_LARGE: "a number of at most 18 digits",
}


@dataclass(frozen=True)
class SourceText:
    """Bytes of one text file and the name by which messages call it."""

    name: str
    data: bytes


def read_texts(path: Path, suffix: str) -> list[SourceText]:
    """Return the file at `path`, or every member of that zip whose name ends in `suffix`.

    Raises
    ------
    DataError
        If the file is missing, the zip is cut short or damaged, or it holds no such member.
    """
    try:
        if path.suffix.lower() != ".zip":
            return [SourceText(path.name, path.read_bytes())]
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.lower().endswith(suffix)]
            texts = [SourceText(f"{path.name}:{n}", archive.read(n)) for n in names]
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as exc:
        raise DataError(f"expected a whole, readable file, was: {exc}; fetch it again", source=str(path)) from exc
    if not texts:
        raise DataError(f"expected a member named *{suffix} in the zip, was none", source=str(path))
    return texts


def units_per_step(step: Any, decimals: int, what: str) -> int:
    """Return how many of the feed's integer units (10 ** -`decimals`) one tick or lot is.

    >>> from decimal import Decimal
    >>> units_per_step(Decimal("0.01"), 4, "tick_size")
    100
    """
    units = step * 10**decimals
    if units != int(units) or units < 1:
        raise ConfigError(f"{what}: expected a multiple of {10**-decimals:.{decimals}f}, was {step}")
    return int(units)


def source_date(names: Sequence[str], option: str | None) -> str:
    """Return the trading day ``YYYYMMDD`` from the option ``date``, else from one of the file names.

    Raises
    ------
    ConfigError
        If the option is no date.
    DataError
        If neither tells the day.
    """
    if option is not None:
        day = str(option).replace("-", "")
        if not re.fullmatch(r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", day):
            raise ConfigError(f"option 'date': expected YYYY-MM-DD, was {option!r}")
        return day
    for name in names:
        found = re.search(r"(?<!\d)((?:19|20)\d{2})-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)", name)
        if found:
            return "".join(found.groups())
    raise DataError(
        "expected the trading day in the file name, was none; pass the option date=YYYY-MM-DD", source=names[0]
    )


@kernel
def _parse(buf: Any, out: Any, decimals: Any) -> tuple[int, int, int, int, int]:
    # returns (rows, numbers rounded, problem, row, column)
    n_cols = out.shape[1]
    row, col, rounded, pos, size = 0, 0, 0, 0, buf.shape[0]
    while pos < size:
        if buf[pos] == 10 or (buf[pos] == 13 and pos + 1 < size and buf[pos + 1] == 10):
            # an empty line is fine at the end of the file only
            rest = pos
            while rest < size and (buf[rest] == 10 or buf[rest] == 13):
                rest += 1
            return (row, rounded, 0, 0, 0) if rest == size else (row, rounded, 1, row, 0)
        for col in range(n_cols):
            negative = False
            if pos < size and (buf[pos] == 45 or buf[pos] == 43):
                negative = buf[pos] == 45
                pos += 1
            value, digits, places, extra, up, seen_dot = 0, 0, 0, False, False, False
            while pos < size:
                c = buf[pos]
                if 48 <= c <= 57:
                    if not seen_dot or places < decimals[col]:
                        value = value * 10 + (c - 48)
                        places += 1 if seen_dot else 0
                    else:  # digits beyond the resolution: round half up, and say so
                        if not extra:
                            up = c >= 53
                        extra = extra or c > 48 or up
                    digits += 1
                    if value > 10**18:
                        return row, rounded, 5, row, col
                elif c == 46 and not seen_dot:
                    if decimals[col] == 0:
                        return row, rounded, 4, row, col
                    seen_dot = True
                else:
                    break
                pos += 1
            if digits == 0:
                return row, rounded, 1, row, col
            for _ in range(decimals[col] - places):
                value *= 10
                if value > 10**18:
                    return row, rounded, 5, row, col
            if up:
                value += 1
            rounded += 1 if extra else 0
            out[row, col] = -value if negative else value
            end = pos >= size or buf[pos] == 10 or buf[pos] == 13
            if col < n_cols - 1:
                if end:
                    return row, rounded, 2, row, col + 1
                if buf[pos] != 44:
                    return row, rounded, 1, row, col
                pos += 1
            elif not end:
                return row, rounded, 3 if buf[pos] == 44 else 1, row, col
        while pos < size and buf[pos] == 13:
            pos += 1
        if pos < size:
            if buf[pos] != 10:
                return row, rounded, 1, row, n_cols - 1
            pos += 1
        row += 1
    return row, rounded, 0, 0, 0


def parse_csv(text: SourceText, fields: Sequence[str], decimals: Sequence[int]) -> tuple[Ints, int]:
    """Parse a csv of plain decimal numbers without a header, exactly.

    Parameters
    ----------
    text : SourceText
        File content; LF or CRLF lines.
    fields : sequence of str
        Column names, for messages.
    decimals : sequence of int
        Decimal places that each column is scaled by (0: only whole numbers are accepted).

    Returns
    -------
    values : (n, len(fields)) int64 array
        Value x 10 ** decimals.
    rounded : int
        How many numbers had further nonzero digits (rounded half up).

    Raises
    ------
    DataError
        Naming row and field, for anything else than such numbers.
    """
    buf = np.frombuffer(text.data, dtype=np.uint8)
    out = np.zeros((int(np.count_nonzero(buf == 10)) + 1, len(fields)), dtype=np.int64)
    rows, rounded, problem, row, col = _parse(buf, out, np.asarray(decimals, dtype=np.int64))
    if problem:
        line = text.data.split(b"\n", row + 1)[row].decode("utf-8", "replace").rstrip("\r")
        cells = line.split(",")
        if problem in (_FEW_FIELDS, _MANY_FIELDS):
            message = f"expected {len(fields)} fields, was {len(cells)}"
        else:
            message = f"expected {_EXPECTED[problem]}, was {cells[col] if col < len(cells) else ''!r}"
        raise DataError(message, source=text.name, row=row + 1, field=fields[col])
    if rows == 0:
        raise DataError("expected at least one row, was an empty file", source=text.name)
    return out[:rows], rounded


def refuse(
    bad: npt.NDArray[np.bool_],
    values: npt.NDArray[Any],
    expected: str,
    *,
    source: str,
    field: str,
    rows: npt.NDArray[Any] | None = None,
) -> None:
    """Raise `DataError` for the first row where `bad` holds (`rows`: its one-based number in the file)."""
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"expected {expected}, was {values[at]}",
            source=source,
            row=int(rows[at]) if rows is not None else at + 1,
            field=field,
        )


def to_steps(
    values: Ints, unit: int, what: str, *, source: str, field: str, rows: npt.NDArray[Any] | None = None
) -> Ints:
    """Divide integers by `unit`, refusing remainders and results beyond 32 bits."""
    steps = values // unit
    refuse(steps * unit != values, values, f"a multiple of {unit} ({what})", source=source, field=field, rows=rows)
    refuse(steps > INT32_MAX, values, f"at most {INT32_MAX} x {unit}", source=source, field=field, rows=rows)
    return steps


@kernel
def _apply(
    kind: int, px: int, qty: int, oid: int, side: int, total: Any, best: Any, s_px: Any, s_qty: Any, s_side: Any
) -> int:
    # one EVENT row into the checking book; 0, or 1 where the row is impossible. `px` is a price index;
    # total[0] holds bids, total[1] asks; best[b] is an index at or beyond the best occupied one
    b = 0 if side > 0 else 1
    if kind == 1:
        if s_qty[oid] != 0 or qty <= 0:
            return 1
        s_px[oid], s_qty[oid], s_side[oid] = px, qty, side
        total[b, px] += qty
        if (b == 0 and px > best[0]) or (b == 1 and px < best[1]):
            best[b] = px
    elif kind <= 4:
        if qty <= 0 or s_qty[oid] < qty or s_px[oid] != px or s_side[oid] != side:
            return 1
        if kind == 3 and s_qty[oid] != qty:
            return 1
        s_qty[oid] -= qty
        total[b, px] -= qty
    elif kind == 7:
        for j in range(s_qty.shape[0]):
            if s_qty[j] > 0 and s_px[j] == px and s_side[j] == side:
                s_qty[j] = 0
        total[b, px] = 0
    elif kind != 5:
        return 1
    while best[0] >= 0 and total[0, best[0]] == 0:
        best[0] -= 1
    while best[1] < total.shape[1] and total[1, best[1]] == 0:
        best[1] += 1
    return 0


@kernel
def _shows(total: Any, best: Any, prices: Any, want_px: Any, want_qty: Any, exact: bool) -> bool:
    # does the book show these levels (2, depth; quantity 0 = no level), and, if `exact`, no further ones?
    depth = want_px.shape[1]
    n_px = total.shape[1]
    for b in range(2):
        step = -1 if b == 0 else 1
        at = best[b]
        for level in range(depth):
            while 0 <= at < n_px and total[b, at] == 0:
                at += step
            if not 0 <= at < n_px:
                if want_qty[b, level] != 0:
                    return False
                break
            if want_qty[b, level] != total[b, at] or want_px[b, level] != prices[at]:
                return False
            at += step
        if exact:
            while 0 <= at < n_px:
                if total[b, at] != 0:
                    return False
                at += step
    return True


@kernel
def _compare(
    kind: Any, px: Any, qty: Any, oid: Any, side: Any, ends: Any, prices: Any, want_px: Any, want_qty: Any,
    n_slots: int, equal: Any,
) -> int:  # fmt: skip
    total = np.zeros((2, prices.shape[0]), np.int64)
    best = np.array([-1, prices.shape[0]])
    s_px, s_qty, s_side = np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64)
    row = 0
    for message in range(ends.shape[0]):
        while row < ends[message]:
            if _apply(kind[row], px[row], qty[row], oid[row], side[row], total, best, s_px, s_qty, s_side) != 0:
                return row
            row += 1
        equal[message] = _shows(total, best, prices, want_px[message], want_qty[message], True)
    return -1


def compare_books(
    events: npt.NDArray[np.void],
    ends: Ints,
    want_px: npt.NDArray[np.int32],
    want_qty: npt.NDArray[np.int32],
    n_slots: int,
    source: str,
) -> npt.NDArray[np.bool_]:
    """Replay `events` and tell after which messages the book shows exactly the levels it should.

    Parameters
    ----------
    events : (m,) EVENT array
    ends : (n,) int64 array
        Number of events up to and with each message.
    want_px, want_qty : (n, 2, depth) int32 array
        Bids ([:, 0]) and asks ([:, 1]) after each message, best first; quantity 0: no such level.
    n_slots : int
        Order slots that `events` uses.

    Returns
    -------
    equal : (n,) bool array

    Raises
    ------
    DataError
        If a row cannot be applied (unknown or occupied slot, more than the order holds).
    """
    prices, index = np.unique(events["px"], return_inverse=True)
    equal = np.zeros(len(ends), dtype=np.bool_)
    column = [events[name].astype(np.int64) for name in ("kind", "qty", "oid", "side")]
    at = _compare(
        column[0], index.astype(np.int64), column[1], column[2], column[3], ends, prices.astype(np.int64),
        want_px, want_qty, max(n_slots, 1), equal,
    )  # fmt: skip
    if at >= 0:
        raise DataError(f"expected an event that the book allows, was {events[at]}", source=source, row=at + 1)
    return equal


def instrument_units(instrument: Instrument, px_decimals: int, qty_decimals: int) -> tuple[int, int]:
    """Return the feed's integer units in one tick and in one lot of `instrument`."""
    return (
        units_per_step(instrument.tick_size, px_decimals, "tick_size"),
        units_per_step(instrument.lot_size, qty_decimals, "lot_size"),
    )
