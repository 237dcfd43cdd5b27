"""One pass over finished events, orders or levels: how the book stands after each message, and trades beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints
from mmsim.types import EventFlag, EventKind

_ADD, _EXECUTE, _TRADE = int(EventKind.ADD), int(EventKind.EXECUTE), int(EventKind.TRADE)
_LEVEL, _HIDE, _CLEAR = int(EventKind.LEVEL), int(EventKind.HIDE), int(EventKind.CLEAR)
_LAST, _AUCTION = int(EventFlag.LAST), int(EventFlag.AUCTION)

# a message leaves the book in one of these states
EMPTY, ONE_SIDED, OPEN, LOCKED, CROSSED = range(5)
_N_STATES = 5
_REACH = (
    1 << 21
)  # ticks from the median price; orders beyond it (at a tenth, at ten times the price) are no quotes
_BLOCK = 10  # bits: blocks of prices that are skipped at once where they are empty
_SAMPLES = 200_000  # open books that are kept of one segment, evenly spaced
SLACK = 100  # a trade is outside if it is farther from the quotes than 1/SLACK of their sum: 2 % of the price

# what `_walk` counts: messages and trading time by state, and trades
_MESSAGES, _TIME = 0, _N_STATES
_TRADES, _OUTSIDE, _UNQUOTED, _BUYS, _SELLS, _SEEN, _KEPT = range(2 * _N_STATES, 2 * _N_STATES + 7)
_N_SUMS = _KEPT + 1


@dataclass
class States:
    """What one segment shows in trading time.

    Parameters
    ----------
    messages, time_ns : (5,)
        Messages that leave the book in each state (`EMPTY` ... `CROSSED`), and for how long it stayed.
    trades, outside, unquoted, buys, sells : int
        Trades but those of auctions; of these: farther outside the quotes before and after them than 2 % of the
        price (and one tick), without any quote to compare with, bought and sold by the aggressor.
    tops : (n, 4)
        Spread, ``bid + ask`` (ticks), bid and ask quantity (lots) of up to 200,000 open books.
    after : (n_messages,) uint8
        State after every message, in and out of trading time.
    """

    messages: Ints
    time_ns: Ints
    trades: int
    outside: int
    unquoted: int
    buys: int
    sells: int
    tops: Ints
    after: npt.NDArray[np.uint8]


def states(events: npt.NDArray[np.void], windows: list[tuple[int, int]]) -> States:
    """Replay the events of one segment; `windows` are its trading times, ``[start, end)`` ns."""
    kind = events["kind"]
    book = (kind != _TRADE) & (kind != _CLEAR)
    middle = int(np.median(events["px"][book])) if book.any() else 0
    near = events["px"][book & (np.abs(events["px"].astype(np.int64) - middle) <= _REACH)]
    low, high = (int(near.min()), int(near.max())) if len(near) else (0, 0)
    clock, inside = _clock(events["ts"], windows)
    n_messages = int(np.sum(events["flags"] & _LAST > 0))
    sums = np.zeros(_N_SUMS, dtype=np.int64)
    tops = np.zeros((_SAMPLES, 4), dtype=np.int64)
    after = np.zeros(n_messages, dtype=np.uint8)
    _walk(
        *(events[name] for name in ("kind", "side", "px", "qty", "flags")),
        clock,
        inside,
        low,
        np.zeros((2, high - low + 1), dtype=np.int64),
        np.zeros((2, ((high - low) >> _BLOCK) + 1), dtype=np.int64),
        1 + n_messages // _SAMPLES,
        sums,
        tops,
        after,
    )
    tops = tops[: sums[_KEPT]]
    return States(
        sums[_MESSAGES : _MESSAGES + _N_STATES],
        sums[_TIME : _TIME + _N_STATES],
        *(int(sums[k]) for k in (_TRADES, _OUTSIDE, _UNQUOTED, _BUYS, _SELLS)),
        tops,
        after,
    )


def _clock(ts: npt.NDArray[Any], windows: list[tuple[int, int]]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    # trading time that has gone by at each time, and whether it is trading time
    if not windows:
        return np.zeros(len(ts), np.int64), np.zeros(len(ts), np.bool_)
    start, end = (np.array(column, dtype=np.int64) for column in zip(*windows, strict=True))
    before = np.concatenate([[0], np.cumsum(end - start)])
    at = np.maximum(np.searchsorted(start, ts, side="right") - 1, 0)
    clock = before[at] + np.clip(ts - start[at], 0, (end - start)[at])
    return clock, (ts >= start[at]) & (ts < end[at])


@kernel
def _walk(
    kind: npt.NDArray[Any],
    side: npt.NDArray[Any],
    px: npt.NDArray[Any],
    qty: npt.NDArray[Any],
    flags: npt.NDArray[Any],
    clock: Ints,
    inside: npt.NDArray[np.bool_],
    low: int,
    totals: Ints,
    filled: Ints,
    stride: int,
    sums: Ints,
    tops: Ints,
    after: npt.NDArray[np.uint8],
) -> None:
    width = totals.shape[1]
    best = np.array([-1, width])  # of bids and of asks, as index into totals; these two: none
    touched = np.array([width, -1])  # lowest and highest price since the last CLEAR
    old_bid, old_ask = np.int64(-1), np.int64(width)  # before the message
    state, since = EMPTY, clock[0] if len(clock) else np.int64(0)
    waiting, n = -1, 0  # first trade that has no book after it yet; messages
    changed = False
    for i in range(len(kind)):
        k = kind[i]
        if waiting < 0 and k in (_TRADE, _EXECUTE):
            waiting = i
        if k == _CLEAR:
            for at in range(touched[0], touched[1] + 1):
                totals[0, at] = totals[1, at] = 0
            filled[:, :] = 0
            best[0], best[1], touched[0], touched[1] = -1, width, width, -1
            changed = True
        elif k != _TRADE:
            row, at = 0 if side[i] > 0 else 1, px[i] - low
            changed = True
            if 0 <= at < width:
                had = totals[row, at]
                if k == _LEVEL:
                    now = np.int64(qty[i])
                elif k == _HIDE:
                    now = np.int64(0)
                elif k == _ADD:
                    now = had + qty[i]
                else:
                    now = max(had - qty[i], 0)
                totals[row, at] = now
                touched[0], touched[1] = min(touched[0], at), max(touched[1], at)
                filled[row, at >> _BLOCK] += (now > 0) - (had > 0)
                if now > 0 and ((row == 0 and at > best[0]) or (row == 1 and at < best[1])):
                    best[row] = at
                elif now == 0 and at == best[row]:
                    best[row] = _next(totals, filled, row, at)
        if flags[i] & _LAST:
            sums[_TIME + state] += clock[i] - since
            since = clock[i]
            bid, ask = best[0], best[1]
            if bid < 0 and ask >= width:
                state = EMPTY
            elif bid < 0 or ask >= width:
                state = ONE_SIDED
            elif bid < ask:
                state = OPEN
            else:
                state = LOCKED if bid == ask else CROSSED
            after[n] = state
            n += 1
            if inside[i]:
                sums[_MESSAGES + state] += 1
                if state == OPEN:
                    if sums[_SEEN] % stride == 0 and sums[_KEPT] < tops.shape[0]:
                        top = tops[sums[_KEPT]]
                        top[0], top[1] = ask - bid, ask + bid + 2 * low
                        top[2], top[3] = totals[0, bid], totals[1, ask]
                        sums[_KEPT] += 1
                    sums[_SEEN] += 1
            if changed and waiting >= 0:
                _judge(
                    kind,
                    side,
                    px,
                    flags,
                    inside,
                    low,
                    width,
                    waiting,
                    i + 1,
                    old_bid,
                    old_ask,
                    bid,
                    ask,
                    sums,
                )
                waiting = -1
            if changed:
                old_bid, old_ask = bid, ask
            changed = False
    if waiting >= 0:
        _judge(
            *(kind, side, px, flags, inside, low, width, waiting, len(kind)),
            *(old_bid, old_ask, old_bid, old_ask, sums),
        )


@kernel
def _next(totals: Ints, filled: Ints, row: int, at: int) -> int:
    # the next price with a quantity behind `at`, -1 or width if there is none
    width = totals.shape[1]
    step = -1 if row == 0 else 1
    at += step
    while 0 <= at < width and totals[row, at] == 0:
        block = at >> _BLOCK
        if filled[row, block] > 0:
            at += step
        elif row == 0:
            at = (block << _BLOCK) - 1
        else:
            at = (block + 1) << _BLOCK
    return min(max(at, -1), width)


@kernel
def _judge(
    kind: npt.NDArray[Any],
    side: npt.NDArray[Any],
    px: npt.NDArray[Any],
    flags: npt.NDArray[Any],
    inside: npt.NDArray[np.bool_],
    low: int,
    width: int,
    start: int,
    stop: int,
    bid: int,
    ask: int,
    next_bid: int,
    next_ask: int,
    sums: Ints,
) -> None:
    # trades of rows start..stop against the quotes before and after them
    has_bid, has_ask = bid >= 0 or next_bid >= 0, ask < width or next_ask < width
    least = bid if next_bid < 0 or (0 <= bid < next_bid) else next_bid
    most = ask if next_ask >= width or (next_ask < ask < width) else next_ask
    if not has_ask:
        most = least
    if not has_bid:
        least = most
    if least > most:  # crossed for the whole of the interval
        least, most = most, least
    slack = max(1, abs(least + most + 2 * low) // SLACK)
    for i in range(start, stop):
        if kind[i] not in (_TRADE, _EXECUTE) or flags[i] & _AUCTION or not inside[i]:
            continue
        sums[_TRADES] += 1
        aggressor = side[i] if kind[i] == _TRADE else -side[i]
        if aggressor > 0:
            sums[_BUYS] += 1
        elif aggressor < 0:
            sums[_SELLS] += 1
        if not has_bid and not has_ask:
            sums[_UNQUOTED] += 1
        elif (has_bid and px[i] - low < least - slack) or (has_ask and px[i] - low > most + slack):
            sums[_OUTSIDE] += 1
