"""Exchange clocks of futures ticks: trading days, night sessions."""

from __future__ import annotations

import numpy as np

from mmsim.data.conversion import Ints
from mmsim.data.origin import Origin
from mmsim.sessions import NS, midnight_ns
from mmsim.types import Instrument

NIGHT_NS = 18 * 3600 * NS  # a session that starts later belongs to the next trading day
YEARS = (1980, 2100)  # the first and the last that market data can be from
EPOCH_UNITS = {10: NS, 13: 1_000_000, 16: 1_000, 19: 1}  # digits of a time since 1970 (after 2001) -> ns


def snapshot_times(
    trading_day: Ints,
    action_day: Ints,
    clock: Ints,
    instrument: Instrument,
    origin: Origin,
    fields: tuple[str, str, str],
) -> Ints:
    """Return ns since the epoch from dates ``YYYYMMDD`` and a clock ``HHMMSSmmm``.

    A night row whose action day is its trading day (some exchanges write that) happened on the evening of the
    working day before, or in the small hours that follow it.

    Raises
    ------
    DataError
        For what is no date or no time of day.
    """
    hours, minutes = clock // 10_000_000, clock // 100_000 % 100
    seconds, millis = clock // 1000 % 100, clock % 1000
    bad = (clock < 0) | (hours > 23) | (minutes > 59) | (seconds > 59)
    origin.refuse(bad, clock, "a time HHMMSSmmm", fields[2])
    ns = ((hours * 60 + minutes) * 60 + seconds) * NS + millis * 1_000_000
    night = (ns >= NIGHT_NS) & (action_day == trading_day)
    early = (hours < 6) & (action_day == trading_day)
    out = np.zeros(len(clock), dtype=np.int64)
    for date in np.unique(action_day).tolist():
        at = action_day == date
        day = _day(date, origin, int(np.argmax(at)), fields[1])
        before = np.busday_offset(day, -1, roll="forward")
        out[at] = midnight_ns(str(day), instrument.timezone)
        out[at & night] = midnight_ns(str(before), instrument.timezone)
        out[at & early] = midnight_ns(str(before + 1), instrument.timezone)
    for date in np.unique(trading_day).tolist():
        _day(date, origin, int(np.argmax(trading_day == date)), fields[0])
    return out + ns


def _day(date: int, origin: Origin, at: int, field: str) -> np.datetime64:
    text = str(date)
    try:
        if len(text) != 8 or not YEARS[0] <= int(text[:4]) <= YEARS[1]:
            raise ValueError
        return np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:]}", "D")
    except ValueError:
        said = f"expected a date YYYYMMDD from {YEARS[0]} to {YEARS[1]}, was {date}"
        raise origin.error(said, at, field) from None
