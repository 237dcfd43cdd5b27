"""Leave out the states of level data in which the best bid is at or above the best ask (``--locked drop``)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim.data.book_states import LOCKED, states
from mmsim.data.conversion import Conversion, Ints
from mmsim.errors import ConfigError
from mmsim.types import EventFlag, EventKind, Segment


def drop_locked(done: Conversion, source: str) -> Conversion:
    """Return `done` without locked and crossed states: the book stays as it was until the next other one.

    The changes of such a message move to the next message that leaves the book open or one-sided, and happen at its
    time; changes that have none after them in their segment are left out. Trades stay where they are, but those of
    a snapshot that is left out are told with the next one, as if it had not been taken. Counted:
    ``dropped_locked_states``.

    Raises
    ------
    ConfigError
        For orders (L3): who is ahead in a queue depends on the times that this would change.
    """
    if done.level == "L3":
        raise ConfigError(
            f"{source}: --locked drop is for level data (L2, snapshots), was L3: use --locked keep"
        )
    events: list[npt.NDArray[np.void]] = []
    received: list[Ints] = []
    segments: list[Segment] = []
    at = dropped = 0
    for seg in done.segments:
        rows = done.events[seg.start : seg.stop]
        recv = None if done.recv_ts is None else done.recv_ts[seg.start : seg.stop]
        bad = states(rows, []).after >= LOCKED
        dropped += int(bad.sum())
        if bad.any():
            rows, recv = _moved(rows, recv, bad, done.level == "snapshot")
        if len(rows) == 0:
            continue
        events.append(rows)
        if recv is not None:
            received.append(recv)
        segments.append(Segment(at, at + len(rows), seg.label))
        at += len(rows)
    done.counts["dropped_locked_states"] = dropped
    done.events = np.concatenate(events) if events else done.events[:0]
    done.recv_ts = np.concatenate(received) if received else None
    done.segments = tuple(segments)
    return done.finish(source)


def _moved(
    rows: npt.NDArray[np.void], recv: Ints | None, bad: npt.NDArray[np.bool_], with_trades: bool
) -> tuple[npt.NDArray[np.void], Ints | None]:
    last = rows["flags"] & EventFlag.LAST > 0
    message = np.cumsum(last) - last
    ends = np.flatnonzero(last)
    n = len(bad)
    # the next message that may be seen; n: there is none
    good = np.where(bad, n, np.arange(n))
    target = np.minimum.accumulate(good[::-1])[::-1]
    trade = rows["kind"] == EventKind.TRADE
    stays = trade & ((target[message] == n) | (not with_trades))
    to = np.where(stays, message, target[message])
    moved = to != message
    # trades of a message in front of what came to it
    order = np.lexsort((np.arange(len(rows)), ~trade, to))
    order = order[to[order] < n]
    out, to, came = rows[order].copy(), to[order], moved[order]
    out["ts"][came] = rows["ts"][ends[to[came]]]
    out["flags"] &= ~np.uint16(EventFlag.LAST)
    out["flags"][np.diff(to, append=-1) != 0] |= np.uint16(EventFlag.LAST)
    if recv is not None:
        recv = (
            recv[order].copy()
            if not came.any()
            else np.where(came, recv[ends[np.minimum(to, n - 1)]], recv[order])
        )
    return out, recv
