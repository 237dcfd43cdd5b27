"""Exact reading of text sources: zip members, csv tables of decimal numbers, dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmsim._jit import kernel
from mmsim.data.conversion import Ints
from mmsim.data.files import read_members
from mmsim.errors import ConfigError, DataError

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
    packed = path.suffix.lower() == ".zip"
    texts = [
        SourceText(f"{path.name}:{name}" if packed else path.name, data)
        for name, data in read_members(path)
        if not packed or name.lower().endswith(suffix)
    ]
    if not texts:
        raise DataError(f"expected a member named *{suffix} in the zip, was none", source=str(path))
    return texts


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
        "expected the trading day in the file name, was none; pass the option date=YYYY-MM-DD",
        source=names[0],
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
                c = int(buf[pos])
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
