"""WonderTrader ``.dsb`` tick blocks: a 20-byte head, then one zstd frame of packed 402-byte records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints, Progress
from mmsim.data.files import unpack_zstd
from mmsim.data.formats.format import Format
from mmsim.data.options import whole_option
from mmsim.data.origin import Origin
from mmsim.data.snapshots import Snapshots, convert_days, turnover_option, turnover_ticks
from mmsim.data.steps import units_from_float
from mmsim.data.times import snapshot_times
from mmsim.errors import DataError
from mmsim.types import Instrument

HEAD = np.dtype([("flag", "S8"), ("type", "<u2"), ("version", "<u2"), ("size", "<u8")])
HISTORIC_TICKS, ZSTD_OLD_STRUCT = 24, 2
MAX_LEVELS = 10
TICK = np.dtype(
    [
        ("exchange", "S10"),
        ("code", "S32"),
        ("price", "<f8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("settle_price", "<f8"),
        ("upper_limit", "<f8"),
        ("lower_limit", "<f8"),
        ("total_volume", "<u4"),
        ("volume", "<u4"),
        ("total_turnover", "<f8"),
        ("turn_over", "<f8"),
        ("open_interest", "<u4"),
        ("diff_interest", "<i4"),
        ("trading_date", "<u4"),
        ("action_date", "<u4"),
        ("action_time", "<u4"),
        ("pre_close", "<f8"),
        ("pre_settle", "<f8"),
        ("pre_interest", "<i4"),
        ("bid_prices", "<f8", (MAX_LEVELS,)),
        ("ask_prices", "<f8", (MAX_LEVELS,)),
        ("bid_qty", "<u4", (MAX_LEVELS,)),
        ("ask_qty", "<u4", (MAX_LEVELS,)),
    ]
)  # packed: WTSTickStructOld, 402 bytes


def read(path: Path) -> npt.NDArray[np.void]:
    """Return the records of one ``.dsb`` file, an array of `TICK`.

    Raises
    ------
    DataError
        If the head is not a known one or the frame is cut or broken.
    """
    source = str(path)
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise DataError(f"cannot read: {err.strerror or err}", source=source) from None
    if len(raw) < HEAD.itemsize:
        raise DataError(
            f"expected a head of {HEAD.itemsize} bytes, was {len(raw)}", source=source, field="head"
        )
    head = np.frombuffer(raw, HEAD, 1)[0]
    if (int(head["type"]), int(head["version"])) != (HISTORIC_TICKS, ZSTD_OLD_STRUCT):
        raise DataError(
            f"expected block type {HISTORIC_TICKS} version {ZSTD_OLD_STRUCT} (historic ticks, zstd), "
            f"was type {head['type']} version {head['version']}",
            source=source,
            field="type",
        )
    payload = raw[HEAD.itemsize :]
    if len(payload) != int(head["size"]):
        raise DataError(
            f"expected {int(head['size'])} bytes after the head, was {len(payload)}: the file is cut short or padded",
            source=source,
            field="size",
        )
    data = unpack_zstd(payload, source)
    if len(data) % TICK.itemsize or not data:
        raise DataError(
            f"expected records of {TICK.itemsize} bytes, was {len(data)} bytes in all",
            source=source,
            field="payload",
        )
    return np.frombuffer(data, TICK)


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert ``.dsb`` files, one contract and trading day each, to snapshot events, one segment per day.

    Options: ``depth``, the number of levels to use (default: as many as are ever quoted); ``turnover``: ``ignore``
    prices the implied trades at the last price.

    Raises
    ------
    DataError
        For a broken file, a price off the tick grid, a NaN, time or volume running backwards, a turnover that
        another multiplier explains.
    """
    days: list[Snapshots] = []
    with_turnover = turnover_option(options, "wondertrader")
    for i, path in enumerate(paths):
        progress(path.name, 0.5 * i / len(paths))
        days += _days(path, read(path), instrument, with_turnover)
    depth = min(
        max((day.depth for day in days), default=1),
        whole_option(options, "depth", MAX_LEVELS, "wondertrader", 1, MAX_LEVELS),
    )
    days.sort(key=lambda d: (d.label, int(d.ts[0])))
    done = convert_days(days, instrument, depth, lambda stage, part: progress(stage, 0.5 + 0.5 * part))
    done.messages["tick"] = done.counts["rows_read"]
    return done


def _days(
    path: Path, ticks: npt.NDArray[np.void], instrument: Instrument, with_turnover: bool
) -> list[Snapshots]:
    origin = Origin(str(path))
    other = ticks["code"] != ticks["code"][0]
    if other.any():
        at = int(np.argmax(other))
        said = f"expected one contract per file, was {ticks['code'][at]!r} after {ticks['code'][0]!r}"
        raise origin.error(said, at, "code")
    names = ("trading_date", "action_date", "action_time")
    trading_day, action_day, clock = (ticks[name].astype(np.int64) for name in names)
    turnover = np.full(len(ticks), -1, dtype=np.int64)
    table = Snapshots(
        label="",
        source=origin.source,
        row=np.arange(1, len(ticks) + 1),
        ts=snapshot_times(trading_day, action_day, clock, instrument, origin, names),
        bid_px=_prices(ticks, "bid_prices", instrument, origin),
        bid_qty=ticks["bid_qty"].astype(np.int64),
        ask_px=_prices(ticks, "ask_prices", instrument, origin),
        ask_qty=ticks["ask_qty"].astype(np.int64),
        last_px=units_from_float(ticks["price"], instrument.tick_size, origin, "price", "--tick-size"),
        volume=ticks["total_volume"].astype(np.int64),
        turnover=turnover_ticks(ticks["total_turnover"], instrument, origin, "total_turnover")
        if with_turnover
        else turnover,
        fields=("bid_prices", "ask_prices", "total_volume"),
    )
    return table.by_day(trading_day, trading_day)


def _prices(ticks: npt.NDArray[np.void], name: str, instrument: Instrument, origin: Origin) -> Ints:
    # an unquoted level (quantity 0) may hold any price; a quoted one must be on the grid
    qty, values = ticks[name.replace("prices", "qty")], ticks[name]
    out = np.zeros(values.shape, dtype=np.int64)
    for level in range(values.shape[1]):
        quoted, field = qty[:, level] > 0, f"{name}[{level}]"
        origin.refuse(~np.isfinite(values[:, level]), values[:, level], "a finite price", field)
        known = Origin(origin.source, np.flatnonzero(quoted) + 1)
        out[quoted, level] = units_from_float(
            values[quoted, level], instrument.tick_size, known, field, "--tick-size"
        )
    return out


FORMAT = Format(
    "wondertrader",
    "WonderTrader .dsb tick blocks (snapshot)",
    (".dsb",),
    convert,
    "snapshot",
    options=frozenset({"depth", "turnover"}),
    instrument={"sessions": [["09:30", "11:30"], ["13:00", "15:00"]]},
    episode_s=3600,
    fees=("zero", "cffex", "shfe"),
)
