"""Trading sessions on the exchange's clock: local times of day to nanoseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from mmsim.types import Instrument

NS = 1_000_000_000


def session_minutes(text: str) -> int:
    """Return minutes after midnight of ``"HH:MM"`` (``"24:00"`` allowed).

    >>> session_minutes("09:30")
    570
    """
    hours, colon, minutes = text.partition(":")
    if not (colon and hours.isdigit() and minutes.isdigit() and int(minutes) < 60 and int(hours) <= 24):
        raise ValueError(f'expected a session time "HH:MM", was {text!r}')
    return int(hours) * 60 + int(minutes)


def midnight_ns(day: date | str, timezone: str) -> int:
    """Return ns since the epoch (UTC) of local midnight of `day` (a date, ``YYYYMMDD`` or ``YYYY-MM-DD``).

    >>> midnight_ns("20210104", "Asia/Shanghai")
    1609689600000000000
    """
    if isinstance(day, str):
        day = datetime.strptime(day.replace("-", ""), "%Y%m%d").date()
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return int(local.timestamp()) * NS


def session_spans(instrument: Instrument) -> list[tuple[int, int]]:
    """Return the sessions as ns after local midnight; one that ends on the next day ends past 24 h."""
    out = []
    for first, last in instrument.sessions:
        a, b = session_minutes(first), session_minutes(last)
        out.append((a * 60 * NS, (b if b > a else b + 1440) * 60 * NS))
    return out


def trading_windows(instrument: Instrument, first_ts: int, last_ts: int) -> list[tuple[int, int]]:
    """Return the continuous trading sessions between two times, ``[start, end)`` ns, in order.

    An instrument without sessions trades around the clock.
    """
    if last_ts <= first_ts:
        return []
    if not instrument.sessions:
        return [(first_ts, last_ts)]
    zone = ZoneInfo(instrument.timezone)
    day = datetime.fromtimestamp(first_ts // NS, UTC).astimezone(zone).date() - timedelta(days=1)
    end_day = datetime.fromtimestamp(last_ts // NS, UTC).astimezone(zone).date()
    out: list[tuple[int, int]] = []
    while day <= end_day:
        midnight = midnight_ns(day, instrument.timezone)
        for a, b in session_spans(instrument):
            start, end = max(midnight + a, first_ts), min(midnight + b, last_ts)
            if start < end:
                out.append((start, end))
        day += timedelta(days=1)
    return sorted(out)
