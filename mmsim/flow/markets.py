"""The simulated markets: a manifest's ``[generator]`` table to one trading day of events.

Every session of the contract (night first, as the exchange counts its trading day) is one segment on
real clock times. It starts `warmup_s` before the opening, so that the first episode meets a book with
a past, and ends just after the close, so that the last episode is whole; the price carries over from one
session to the next. Only the time inside the sessions belongs to an episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError, did_you_mean
from mmsim.flow.zero_intelligence import Flow, generate_events
from mmsim.sessions import NS, midnight_ns, session_minutes
from mmsim.types import Instrument, Segment

_OVERRUN_NS = 30 * NS  # after the close; only the first message of it is kept
_OWN = ("date", "seed", "warmup_s")


def flow_of(generator: Mapping[str, Any]) -> Flow:
    """Return the flow parameters of a manifest's ``[generator]`` table.

    Raises
    ------
    ConfigError
        For a missing or unknown key, or a value that is not an integer (or a list of them).
    """
    names = [f.name for f in fields(Flow)]
    for key, value in generator.items():
        if key not in names and key not in _OWN:
            raise ConfigError(f"generator: unknown key {key!r}{did_you_mean(key, [*names, *_OWN])}")
        if key != "date" and not _integral(value):
            raise ConfigError(f"generator.{key}: expected integers, was {value!r}")
    for key in (*names, *_OWN):
        if key not in generator:
            raise ConfigError(f"generator: expected a key {key!r}, was none")
    return Flow(**{k: v for k, v in generator.items() if k in names})


def generate(
    generator: Mapping[str, Any], instrument: Instrument, name: str
) -> tuple[npt.NDArray[np.void], tuple[Segment, ...], int]:
    """Simulate one trading day of an instrument.

    Parameters
    ----------
    generator : mapping
        `Flow`'s parameters, ``seed``, ``date`` (the trading day; its night session is the evening before) and
        ``warmup_s``.
    instrument : Instrument
        Its sessions are simulated.
    name : str
        Of the market, for messages.

    Returns
    -------
    events : (n,) EVENT array
        Orders and trades (L3).
    segments : tuple of Segment
        One per session, labelled by its opening time (``"21:00"``).
    n_slots : int
        Largest order slot + 1.

    Raises
    ------
    ConfigError
        If the generator table is wrong.
    DataError
        If the parameters make a market that explodes.
    """
    flow = flow_of(generator)
    try:
        day = date.fromisoformat(str(generator["date"]))
    except ValueError:
        raise ConfigError(f"generator.date: expected YYYY-MM-DD, was {generator['date']!r}") from None
    if not instrument.sessions:
        raise ConfigError(f"dataset {name}: expected instrument.sessions to simulate, was none")
    parts: list[npt.NDArray[np.void]] = []
    segments: list[Segment] = []
    px, at, n_slots = flow.start_px, 0, 1
    for i, (opening, closing) in enumerate(instrument.sessions):
        start, end = _span(day, opening, closing, instrument.timezone)
        events, slots, px = _session(
            flow, px, seed=generator["seed"] * 1000 + i, start=start - generator["warmup_s"] * NS, end=end
        )
        parts.append(events)
        segments.append(Segment(at, at + len(events), opening))
        at += len(events)
        n_slots = max(n_slots, slots)
    return np.concatenate(parts), tuple(segments), n_slots


def _session(
    flow: Flow, px: int, *, seed: int, start: int, end: int
) -> tuple[npt.NDArray[np.void], int, int]:
    events, slots, close_px = generate_events(
        flow, seed=seed, start_ts=start, end_ts=end + _OVERRUN_NS, start_px=px
    )
    # one message past the close tells that the session was seen to its end
    last = int(np.searchsorted(events["ts"], end, side="left"))
    while last < len(events) - 1 and not events["flags"][last]:
        last += 1
    return events[: last + 1], slots, close_px


def _span(day: date, opening: str, closing: str, timezone: str) -> tuple[int, int]:
    first, last = session_minutes(opening), session_minutes(closing)
    if first >= 18 * 60:
        day -= timedelta(days=1)  # a night session opens on the evening before its trading day
    midnight = midnight_ns(day, timezone)
    return midnight + first * 60 * NS, midnight + (last if last > first else last + 1440) * 60 * NS


def _integral(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(_integral(v) for v in value)
    return isinstance(value, int) and not isinstance(value, bool)
