"""FI-2010, the benchmark of mid-price forecasting: 149 rows of text by as many columns as samples.

Rows 1 to 40 are ten levels of ask price, ask size, bid price, bid size; then come features and five labels, which
are not read. Only the decimal-precision files (``DecPre``) hold prices and sizes, divided by powers of ten; the
z-score and min-max files hold none, and no simulator can do without. There are no times and no trades: samples
(one in ten events) get times one step apart, and own orders are filled only where a quote touches or crosses them.
The stocks and days of a file stand one after another without a mark: a jump of the mid-price starts a new segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints, Progress, Tape
from mmsim.data.files import read_members
from mmsim.data.formats.format import Format
from mmsim.data.origin import Origin
from mmsim.data.snapshots import Snapshots, convert_days
from mmsim.data.steps import split_decimal, units_from_text
from mmsim.errors import ConfigError, DataError
from mmsim.sessions import NS
from mmsim.types import Instrument

ROWS, LEVELS = 149, 10
_KEEP = 4 * LEVELS
_WHY = (
    "only the decimal-precision files (DecPre) keep prices and sizes; z-score and min-max files hold none, and a "
    "simulator needs them"
)


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert ``DecPre`` files to snapshot events without trades, one segment for each stock and day found.

    Options: ``start`` (``2010-06-01T10:00``): local time of the first sample; ``step_ms`` (1000): time between
    samples; ``jump`` (0.03): relative change of the mid-price between two samples that starts a new segment, an
    hour later; ``price_scale`` (100) and ``size_scale`` (100000): what the file's numbers are multiplied by to be
    euros and shares; ``depth``: levels to use (10).

    Raises
    ------
    DataError
        For a file of another shape, a z-score or min-max file, a price off the tick grid, a crossed book.
    """
    step = int(_number(options, "step_ms", "1000", 1) * 1_000_000)
    jump = float(_number(options, "jump", "0.03", 0))
    depth = int(_number(options, "depth", str(LEVELS), 1))
    if depth > LEVELS:
        raise ConfigError(f"fi2010: option depth: expected at most {LEVELS}, was {depth}")
    scales = _number(options, "price_scale", "100", 0), _number(options, "size_scale", "100000", 0)
    at = _start(str(options.get("start", "2010-06-01T10:00")), instrument)
    days: list[Snapshots] = []
    lone = 0
    for i, path in enumerate(sorted(paths)):
        for name, content in read_members(path):
            source = f"{path}!{name}" if path.suffix.lower() == ".zip" else str(path)
            progress(name, 0.6 * i / len(paths))
            for day in _file(content, source, name, instrument, scales, jump):
                if len(day.row) == 1:  # nothing follows it
                    lone += 1
                    continue
                day.label = f"{len(days) + 1:03d}"
                day.ts = at + step * np.arange(len(day.row), dtype=np.int64)
                at = int(day.ts[-1]) + 3600 * NS
                days.append(day)
    done = convert_days(days, instrument, depth, lambda stage, part: progress(stage, 0.6 + 0.4 * part))
    done.counts["dropped_lone_samples"] = lone
    done.counts["rows_read"] += lone
    done.messages["sample"] = done.counts["rows_read"]
    done.tape = Tape("trades (the format has none)")
    done.notes.append(
        f"times are made up, {step / 1e6:g} ms apart; there are no trades: own orders are filled by quotes that "
        "touch or cross them only"
    )
    return done


def _number(options: Mapping[str, Any], name: str, default: str, low: int) -> Decimal:
    try:
        value = split_decimal(str(options.get(name, default)))
    except ValueError:
        value = Decimal(-1)
    if value < low or value == 0:
        raise ConfigError(
            f"fi2010: option {name}: expected a number of at least {low} and above 0, was {options.get(name)!r}"
        )
    return value


def _start(text: str, instrument: Instrument) -> int:
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"fi2010: option start: expected YYYY-MM-DDTHH:MM, was {text!r}") from None
    if local.tzinfo is None:
        local = local.replace(tzinfo=ZoneInfo(instrument.timezone))
    return int(local.timestamp()) * NS


def _file(
    content: bytes,
    source: str,
    name: str,
    instrument: Instrument,
    scales: tuple[Decimal, Decimal],
    jump: float,
) -> list[Snapshots]:
    lowered = name.lower()
    for mark, what in (("zscore", "z-score"), ("minmax", "min-max")):
        if mark in lowered:
            raise DataError(f"expected a DecPre file, was a {what} one by its name: {_WHY}", source=source)
    lines = content.split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != ROWS:
        raise DataError(
            f"expected {ROWS} rows (40 of the book, features, 5 labels), was {len(lines)}: a cut file, or none of "
            "FI-2010",
            source=source,
            row=min(len(lines), ROWS) + 1,
        )
    cells = [line.split() for line in lines[:_KEEP]]
    for k, row in enumerate(cells):
        if len(row) != len(cells[0]) or not row:
            raise DataError(
                f"expected {len(cells[0])} columns as in row 1, was {len(row)}", source=source, row=k + 1
            )
    _check_kind(cells, source)
    px_step, qty_step = instrument.tick_size / scales[0], instrument.lot_size / scales[1]
    n = len(cells[0])
    ask_px, ask_qty, bid_px, bid_qty = (np.zeros((n, LEVELS), dtype=np.int64) for _ in range(4))
    for k in range(LEVELS):
        for j, (table, unit, what) in enumerate(
            (
                *((ask_px, px_step, "ask price"), (ask_qty, qty_step, "ask size")),
                *((bid_px, px_step, "bid price"), (bid_qty, qty_step, "bid size")),
            )
        ):
            try:
                table[:, k] = units_from_text(cells[4 * k + j], unit, option="")
            except DataError as err:
                step = f"; {instrument.tick_size} times 1/{scales[0]} is one tick here" if j % 2 == 0 else ""
                raise DataError(
                    f"{str(err).partition(': ')[2]}{step}: set --tick-size (--lot-size) and the scales, or {_WHY}",
                    source=source, row=4 * k + j + 1, field=f"{what} {k + 1}, sample {err.row}",
                ) from None  # fmt: skip
    for table, other, what in ((ask_px, ask_qty, "ask"), (bid_px, bid_qty, "bid")):
        origin = Origin(source)
        origin.refuse(other.min(axis=1) < 0, other.min(axis=1), "sizes >= 0", f"{what} size")
        other[table == 0] = 0
    return _split(source, (bid_px, bid_qty, ask_px, ask_qty), jump)


def _check_kind(cells: list[list[bytes]], source: str) -> None:
    # prices can be told from scores: positive, and the best ask above the best bid, level after level
    try:
        ask, bid, behind = (np.array([float(v) for v in cells[row]]) for row in (0, 2, 4))
    except ValueError as err:
        raise DataError(f"expected numbers: {err}", source=source, row=1) from None
    used = (ask != 0) & (bid != 0)
    for bad, what in (
        ((ask < 0) | (bid < 0), "a negative one (a z-score)"),
        (
            used & ((ask <= bid) | ((behind != 0) & (behind <= ask))),
            "best ask, best bid and second ask out of order",
        ),
    ):
        # a crossed sample or two are an auction; scores are out of order everywhere
        if bad.mean() > 0.05:
            at = int(np.argmax(bad))
            said = f"expected prices, was {what} in sample {at + 1}: {_WHY}"
            raise DataError(said, source=source, row=1, field="ask price 1")


def _split(source: str, tables: tuple[Ints, Ints, Ints, Ints], jump: float) -> list[Snapshots]:
    bid_px, bid_qty, ask_px, ask_qty = tables
    n = len(bid_px)
    mid = (bid_px[:, 0] + ask_px[:, 0]).astype(np.float64)
    cut: npt.NDArray[Any] = np.flatnonzero(np.abs(np.diff(mid)) > jump * mid[:-1]) + 1
    zero = np.zeros(n, dtype=np.int64)
    whole = Snapshots(
        label="",
        source=source,
        row=np.arange(1, n + 1),
        ts=zero,
        bid_px=bid_px,
        bid_qty=bid_qty,
        ask_px=ask_px,
        ask_qty=ask_qty,
        last_px=zero,
        volume=zero,
        turnover=zero,
        fields=("bid price", "ask price", "none"),
    )
    sample = np.arange(n)
    bounds = [0, *cut.tolist(), n]
    return [whole.take((sample >= a) & (sample < b)) for a, b in pairwise(bounds)]


FORMAT = Format(
    "fi2010",
    "FI-2010 DecPre text, no times and no trades (snapshot)",
    (".txt", ".zip"),
    convert,
    "snapshot",
    options=frozenset({"depth", "start", "step_ms", "jump", "price_scale", "size_scale"}),
    instrument={
        "tick_size": "0.01",
        "lot_size": "1",
        "unit_lots": 100,
        "currency": "EUR",
        "timezone": "Europe/Helsinki",
        "sessions": [],
    },
    episode_s=3600,
)
