"""CTP-style futures ticks: csv, csv.gz, zip or parquet; columns by preset or by an explicit mapping."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints, Progress
from mmsim.data.files import Bound, read_members
from mmsim.data.formats._ctp_columns import Columns, pick
from mmsim.data.formats.format import Format
from mmsim.data.options import whole_option
from mmsim.data.origin import Origin
from mmsim.data.snapshots import Snapshots, convert_days, turnover_option, turnover_ticks
from mmsim.data.steps import units_from_float, units_from_text
from mmsim.data.times import EPOCH_UNITS, NIGHT_NS, YEARS, snapshot_times
from mmsim.errors import DataError
from mmsim.sessions import NS, midnight_ns
from mmsim.types import Instrument

if TYPE_CHECKING:
    import pandas as pd

NO_QUOTE = 1.7e308  # CTP writes the largest double (1.797e308) where there is no price
_DAY_NS = 86_400 * NS


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert CTP-style files to snapshot events, one segment for each contract and trading day.

    Options: ``columns``, a preset (ctp, chinese, tqsdk, wondertrader; default: recognised by the header) or a
    table ``{meaning: column}``; ``depth``; ``contract``, to pick one where files hold several; ``encoding``
    (default: utf-8, else gbk); ``turnover``: ``ignore`` prices the implied trades at the last price.

    Raises
    ------
    DataError
        For a cut file, a missing column, what is no number, a price off the tick grid, a NaN, time or volume
        running backwards, a turnover that another multiplier explains.
    """
    days: list[Snapshots] = []
    skipped = 0
    depth = whole_option(options, "depth", 10, "ctp", 1, 10)
    with_turnover = turnover_option(options, "ctp")
    quoted = 1
    for i, path in enumerate(paths):
        progress(path.name, 0.6 * i / len(paths))
        for source, frame in _frames(path, options):
            columns = pick(list(frame.columns), options.get("columns"), depth, source)
            if not with_turnover:
                columns = replace(columns, turnover="")
            wanted = options.get("contract")
            if wanted and columns.contract:
                mine = frame[columns.contract].astype(str).to_numpy() == str(wanted)
                skipped += int((~mine).sum())
                frame = frame[mine]
            if len(frame) == 0:
                continue
            for day in _days(frame, columns, instrument, source):
                days.append(day)
                quoted = max(quoted, day.depth)
    if not days:
        raise DataError("expected rows of ticks, was none", source=", ".join(str(p) for p in paths))
    days.sort(key=lambda d: (d.label, int(d.ts[0])))
    labels = [d.label for d in days]
    for day, seen in zip(days, (labels[:i].count(label) for i, label in enumerate(labels)), strict=True):
        if seen:
            day.label = f"{day.label}-{seen + 1}"  # a second contract, or a second file of that day
    done = convert_days(
        days, instrument, min(depth, quoted), lambda stage, part: progress(stage, 0.6 + 0.4 * part)
    )
    done.messages["tick"] = done.counts["rows_read"]
    if skipped:
        done.counts["dropped_other_contract"] = skipped
    return done


def _frames(path: Path, options: Mapping[str, Any]) -> list[tuple[str, pd.DataFrame]]:
    if path.suffix == ".parquet":
        try:
            frame = _parquet(path)
        except DataError:
            raise
        except Exception as err:  # noqa: BLE001  (pyarrow raises many kinds for a broken file)
            raise DataError(f"expected a complete parquet file: {err}", source=str(path)) from None
        return [(str(path), frame.reset_index(drop=True))]
    out = []
    for name, content in read_members(path):
        source = f"{path}!{name}" if path.suffix == ".zip" else str(path)
        out.append((source, _csv(content, source, options.get("encoding"))))
    return out


def _parquet(path: Path) -> pd.DataFrame:
    # batch by batch: a few kilobytes may stand for a billion equal rows
    import pyarrow as pa
    import pyarrow.parquet as pq

    bound, parts = Bound(path.stat().st_size, str(path)), []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1 << 16):
            bound.add(batch.nbytes)
            parts.append(batch)
        table = pa.Table.from_batches(parts, file.schema_arrow)
    table.validate(full=True)  # text that is none, lengths that do not add up
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _csv(content: bytes, source: str, encoding: str | None) -> pd.DataFrame:
    # everything stays text: decimal prices are parsed exactly
    import pandas as pd

    for codec in [encoding] if encoding else ["utf-8-sig", "gbk"]:
        try:
            text = content.decode(codec)
            break
        except (UnicodeDecodeError, LookupError):
            continue
    else:
        raise DataError(f"expected text in {encoding or 'utf-8 or gbk'}, was something else", source=source)
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, on_bad_lines="error")
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as err:
        raise DataError(f"expected a csv table: {str(err).strip()}", source=source) from None
    if not isinstance(frame.index, pd.RangeIndex):  # the first column became an index: all are one off
        raise DataError(f"expected {len(frame.columns)} fields per row, was more", source=source, row=2)
    return frame


def _days(frame: pd.DataFrame, c: Columns, instrument: Instrument, source: str) -> list[Snapshots]:
    # the header is row 1 of a csv; frame.index keeps the numbers of the rows that were picked
    rows = frame.index.to_numpy(dtype=np.int64) + (1 if source.endswith(".parquet") else 2)
    origin = Origin(source, rows)
    ts, trading_day = _times(frame, c, instrument, origin)
    volume = _whole(frame[c.volume], origin)
    turnover = np.full(len(frame), -1, dtype=np.int64)
    if c.turnover:
        turnover = turnover_ticks(_numbers(frame[c.turnover], origin), instrument, origin, c.turnover)
    last, _ = _quotes(frame, c.last, None, instrument, origin, c.nan_is_no_quote)
    bid_px, bid_qty, ask_px, ask_qty = (
        np.column_stack(columns)
        for levels in (c.bids, c.asks)
        for columns in zip(
            *(_quotes(frame, *names, instrument, origin, c.nan_is_no_quote) for names in levels), strict=True
        )
    )
    whole = Snapshots(
        *("", source, rows, ts, bid_px, bid_qty, ask_px, ask_qty, last, volume, turnover),
        fields=(c.bids[0][0], c.asks[0][0], c.volume),
    )
    return whole.by_day(trading_day, np.char.add(trading_day.astype(str), _contracts(frame, c)))


def _contracts(frame: pd.DataFrame, c: Columns) -> npt.NDArray[np.str_]:
    if not c.contract:
        return np.full(len(frame), "")
    return frame[c.contract].astype(str).to_numpy().astype(str)


def _times(frame: pd.DataFrame, c: Columns, instrument: Instrument, origin: Origin) -> tuple[Ints, Ints]:
    # exchange times, and trading days YYYYMMDD
    if c.datetime:
        stamp = _stamps(frame[c.datetime], instrument, origin)
        return stamp - _utc_offsets(stamp, instrument), _trading_days(stamp)
    fields = (c.trading_day or c.action_day, c.action_day or c.trading_day, c.time)
    action, trading = _dates(frame[fields[1]], origin), _dates(frame[fields[0]], origin)
    return snapshot_times(trading, action, _clock(frame, c, origin), instrument, origin, fields), trading


def _stamps(raw: pd.Series, instrument: Instrument, origin: Origin) -> Ints:
    # local wall clock in ns: from a time since 1970 by its digits, or from ISO text
    import pandas as pd

    text, said, field = raw.astype(str), raw.iloc, str(raw.name)
    try:
        if text.str.fullmatch(r"\d{10,19}").all():
            units = text.str.len().map(EPOCH_UNITS)
            expected = "a time since 1970 in s, ms, us or ns (10, 13, 16 or 19 digits)"
            origin.refuse(units.isna().to_numpy(), said, expected, field, show=repr)
            utc = pd.to_datetime(text.astype("int64") * units.astype("int64"), utc=True)
            local = utc.dt.tz_convert(instrument.timezone).dt.tz_localize(None)
        else:
            local = pd.to_datetime(raw, format="ISO8601")
    except DataError:
        raise
    except (ValueError, TypeError, OverflowError) as err:
        parsed = pd.to_datetime(raw, errors="coerce", format="ISO8601")
        at = int(np.argmax(parsed.isna().to_numpy()))
        why = str(err).splitlines()[0]
        raise origin.error(f"expected a date and time, was {said[at]!r} ({why})", at, field) from None
    years = local.dt.year.to_numpy(dtype=np.float64)
    bad = ~((years >= YEARS[0]) & (years <= YEARS[1]))  # no date among them: NaN
    origin.refuse(bad, said, f"a date and time from {YEARS[0]} to {YEARS[1]}", field, show=repr)
    return np.asarray(local.to_numpy().astype("datetime64[ns]").astype(np.int64))


def _utc_offsets(stamp: Ints, instrument: Instrument) -> Ints:
    # of a local wall clock: one offset per date

    out = np.zeros(len(stamp), dtype=np.int64)
    days = stamp // _DAY_NS
    for day in np.unique(days).tolist():
        date = str(np.datetime64(day, "D"))
        out[days == day] = day * _DAY_NS - midnight_ns(date, instrument.timezone)
    return out


def _trading_days(stamp: Ints) -> Ints:
    # evenings belong to the next working day, as do the small hours of a Saturday
    days = (stamp // _DAY_NS).astype("datetime64[D]")
    evening = stamp % _DAY_NS >= NIGHT_NS
    days = np.busday_offset(days + evening.astype("timedelta64[D]"), 0, roll="forward")
    return np.char.replace(days.astype(str), "-", "").astype(np.int64)


def _dates(said: pd.Series, origin: Origin) -> Ints:
    text = said.astype(str).str.replace("-", "").str.replace("/", "")
    return _digits(text.str.removesuffix(".0"), said, origin)


def _clock(frame: pd.DataFrame, c: Columns, origin: Origin) -> Ints:
    said = frame[c.time]
    text = said.astype(str).str.removesuffix(".0")
    if not text.str.contains(":").any():
        return _digits(text, said, origin)  # HHMMSSmmm
    parts = text.str.replace(":", "", regex=False).str.split(".", n=1, expand=True)
    clock = _digits(parts[0], said, origin) * 1000
    if parts.shape[1] > 1:
        clock += _digits(parts[1].fillna("0").str.ljust(3, "0").str[:3], said, origin)
    if c.millis:
        millis = _whole(frame[c.millis], origin)
        origin.refuse(millis > 999, millis, "0..999", c.millis)
        clock += millis
    return clock


def _digits(text: pd.Series, said: pd.Series, origin: Origin) -> Ints:
    bad = ~text.str.fullmatch(r"\d{1,18}").to_numpy(dtype=bool)
    origin.refuse(bad, said.iloc, "a date or time in digits", str(said.name), show=repr)
    return np.asarray(text.astype("int64").to_numpy(), dtype=np.int64)


def _numbers(said: pd.Series, origin: Origin) -> npt.NDArray[np.float64]:
    import pandas as pd

    values = pd.to_numeric(said, errors="coerce").to_numpy(dtype=np.float64)
    origin.refuse(np.isnan(values), said.iloc, "a number", str(said.name), show=repr)
    return values


def _whole(said: pd.Series, origin: Origin) -> Ints:
    values = _numbers(said, origin)
    bad = (values < 0) | (values != np.rint(values)) | (values > 2.0**53)
    origin.refuse(bad, said.iloc, "a whole number >= 0", str(said.name), show=repr)
    return values.astype(np.int64)


def _quotes(
    frame: pd.DataFrame,
    px_name: str,
    qty_name: str | None,
    instrument: Instrument,
    origin: Origin,
    nan_is_no_quote: bool,
) -> tuple[Ints, Ints]:
    # (ticks, lots) of one level; a price of 0 or of the largest double, or a quantity of 0, is no quote
    import pandas as pd

    raw = frame[px_name]
    values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=np.float64)
    missing = np.isnan(values)
    qty = np.zeros(len(values), dtype=np.int64)
    if qty_name is None and nan_is_no_quote:
        values, missing = np.where(missing, 0.0, values), np.zeros(len(values), dtype=np.bool_)
    if qty_name is not None:
        quantities = frame[qty_name]
        if nan_is_no_quote:
            blank = missing & pd.to_numeric(quantities, errors="coerce").isin([0, np.nan]).to_numpy()
            quantities = quantities.where(~blank, "0")
            values = np.where(blank, 0.0, values)
            missing &= ~blank
        qty = _whole(quantities, origin)
    origin.refuse(missing | np.isneginf(values), raw.iloc, "a price", px_name, show=repr)
    quoted = (np.abs(values) < NO_QUOTE) & (values != 0)
    if qty_name is not None:
        quoted &= qty > 0
    ticks = np.zeros(len(values), dtype=np.int64)
    if pd.api.types.is_numeric_dtype(raw.dtype):
        ticks[quoted] = units_from_float(
            values[quoted], instrument.tick_size, origin[quoted], px_name, "--tick-size"
        )
    else:
        kept = raw.to_numpy()[quoted]
        ticks[quoted] = units_from_text(kept, instrument.tick_size, origin[quoted], px_name, "--tick-size")
    return ticks, np.where(quoted, qty, 0)


FORMAT = Format(
    "ctp",
    "CTP-style snapshot csv or parquet of Chinese futures (snapshot)",
    (".csv", ".csv.gz", ".parquet", ".zip"),
    convert,
    "snapshot",
    options=frozenset({"columns", "depth", "contract", "encoding", "turnover"}),
    instrument={"sessions": [["21:00", "02:30"], ["09:00", "10:15"], ["10:30", "11:30"], ["13:30", "15:00"]]},
    episode_s=5400,
    fees=("zero", "shfe", "cffex"),
)
