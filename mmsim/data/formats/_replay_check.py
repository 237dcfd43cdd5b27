"""The replay check of the order-by-order formats.

It knows nothing of an assembler: it replays finished EVENT rows in a plain book (order slots and level totals)
and compares what that book shows with the books that came with the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints
from mmsim.data.ladder import put
from mmsim.errors import DataError


@kernel
def _apply(
    kind: int, px: int, qty: int, oid: int, side: int, flags: int, total: Any, best: Any, orders: Any, tally: Any
) -> int:  # fmt: skip
    # one EVENT row into the checking book; 0, or 1 where the row is impossible. `px` is a price index;
    # total[0] holds bids, total[1] asks; best[b] is an index at or beyond the best occupied one; orders
    # columns: price, quantity (0 = none), side, age. tally: states, crossed states, trades, volume, executions
    # of an order that is not the oldest of its level, orders so far
    b = 0 if side > 0 else 1
    if kind == 1:
        if orders[oid, 1] != 0 or qty <= 0:
            return 1
        orders[oid, 0], orders[oid, 1], orders[oid, 2], orders[oid, 3] = px, qty, side, tally[5]
        tally[5] += 1
        put(total, best, b, px, total[b, px] + qty)
    elif kind <= 4:
        have = orders[oid, 1]
        if (
            qty <= 0
            or have < qty
            or orders[oid, 0] != px
            or orders[oid, 2] != side
            or (kind == 3 and have != qty)
        ):
            return 1
        if kind == 4:
            if flags & 16 == 0:
                for j in range(orders.shape[0]):
                    if (
                        orders[j, 1] > 0
                        and orders[j, 3] < orders[oid, 3]
                        and orders[j, 0] == px
                        and orders[j, 2] == side
                    ):
                        tally[4] += 1
                        break
            if flags & 16 == 0 or side > 0:  # an auction trade executes two orders
                tally[2] += 1
                tally[3] += qty
        orders[oid, 1] = have - qty
        put(total, best, b, px, total[b, px] - qty)
    elif kind == 7:
        for j in range(orders.shape[0]):
            if orders[j, 1] > 0 and orders[j, 0] == px and orders[j, 2] == side:
                orders[j, 1] = 0
        put(total, best, b, px, 0)
    elif kind != 5:
        return 1
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
    kind: Any, px: Any, qty: Any, oid: Any, side: Any, flags: Any, ends: Any, prices: Any, want_px: Any, want_qty: Any,
    n_slots: int, equal: Any, tally: Any,
) -> int:  # fmt: skip
    total, best = np.zeros((2, prices.shape[0]), np.int64), np.array([-1, prices.shape[0]])
    orders = np.zeros((n_slots, 4), np.int64)
    row = 0
    for message in range(ends.shape[0]):
        while row < ends[message]:
            if (
                _apply(
                    kind[row], px[row], qty[row], oid[row], side[row], flags[row], total, best, orders, tally
                )
                != 0
            ):
                return row
            row += 1
        tally[0] += 1
        equal[message] = _shows(total, best, prices, want_px[message], want_qty[message], True)
    return -1


_TALLY = ("states", "crossed_books", "traded_count", "traded_qty", "executions_behind_queue_front", "orders")


def _columns(events: npt.NDArray[np.void]) -> tuple[tuple[Ints, Ints, Ints, Ints, Ints, Ints], Ints]:
    # (kind, price index, qty, oid, side, flags), and the prices
    prices, index = np.unique(events["px"], return_inverse=True)
    kind, qty, oid, side, flags = (
        events[n].astype(np.int64) for n in ("kind", "qty", "oid", "side", "flags")
    )
    return (kind, index.astype(np.int64), qty, oid, side, flags), prices.astype(np.int64)


def compare_books(
    events: npt.NDArray[np.void], ends: Ints, want_px: Ints, want_qty: Ints, n_slots: int, source: str
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Replay `events` and tell after which messages the book shows exactly the levels it should.

    Parameters
    ----------
    events : (m,) EVENT array
    ends : (n,) int64 array
        Number of events up to and with each message.
    want_px, want_qty : (n, 2, depth) int64 array
        Bids ([:, 0]) and asks ([:, 1]) after each message, best first; quantity 0: no such level.
    n_slots : int
        Order slots that `events` uses.

    Returns
    -------
    equal : (n,) bool array
    tally : dict
        Of the replay: ``states`` (messages), ``traded_count``, ``traded_qty`` (lots), and
        ``executions_behind_queue_front`` (of an order while an older one waited at its level).

    Raises
    ------
    DataError
        If a row cannot be applied (unknown or occupied slot, more than the order holds).
    """
    columns, prices = _columns(events)
    equal, tally = np.zeros(len(ends), dtype=np.bool_), np.zeros(len(_TALLY), dtype=np.int64)
    at = _compare(*columns, ends, prices, want_px, want_qty, max(n_slots, 1), equal, tally)
    if at >= 0:
        raise DataError(
            f"expected an event that the book allows, was {events[at]}", source=source, row=at + 1
        )
    return equal, {name: int(value) for name, value in zip(_TALLY, tally, strict=True)}


@dataclass(frozen=True)
class ShownBooks:
    """Books that came with the data at times of their own.

    Parameters
    ----------
    ts : (m,) int64 array
        ns since the epoch, non-decreasing, as coarse as the feed gives it.
    px, qty : (m, 2, depth) int64 arrays
        Bids ([:, 0]) and asks, best first, ticks and lots; quantity 0: no such level.
    trades, volume : (m,) int64 arrays
        Trades and lots traded so far that day.
    """

    ts: Ints
    px: Ints
    qty: Ints
    trades: Ints
    volume: Ints


@kernel
def _indicates(total: Any, best: Any, prices: Any, px: Any, qty: Any) -> bool:
    # call auction: level 1 of both sides is the indicative price with the quantity that would match there,
    # level 2 holds what would be left on one side
    buy, sell = 0, 0
    for at in range(best[0], -1, -1):
        if prices[at] < px[0, 0]:
            break
        buy += total[0, at]
    for at in range(best[1], prices.shape[0]):
        if prices[at] > px[0, 0]:
            break
        sell += total[1, at]
    match = min(buy, sell)
    return bool(
        qty[0, 0] == match and qty[1, 0] == match and qty[0, 1] == buy - match and qty[1, 1] == sell - match
    )


@kernel
def _match(
    kind: Any, px: Any, qty: Any, oid: Any, side: Any, flags: Any, ts: Any, prices: Any, n_slots: int, s_ts: Any,
    s_px: Any, s_qty: Any, s_trades: Any, s_volume: Any, before: int, after: int, found: Any, tally: Any,
) -> tuple[int, int]:  # fmt: skip
    # found[j]: row whose state equals snapshot j (else -1)
    # returns (problem, row): 1 a row cannot be applied, 2 the first crossed state
    total, best = np.zeros((2, prices.shape[0]), np.int64), np.array([-1, prices.shape[0]])
    orders = np.zeros((n_slots, 4), np.int64)
    n, m = ts.shape[0], s_ts.shape[0]
    low, crossed = 0, -1
    for row in range(n):
        if (
            _apply(kind[row], px[row], qty[row], oid[row], side[row], flags[row], total, best, orders, tally)
            != 0
        ):
            return 1, row
        if flags[row] & 1 == 0:
            continue
        tally[0] += 1
        if flags[row] & 16 == 0 and best[0] >= best[1]:
            tally[1] += 1
            crossed = row if crossed < 0 else crossed
        while low < m and s_ts[low] + after < ts[row]:
            low += 1
        for j in range(low, m):
            if row + 1 < n and s_ts[j] - before > ts[row + 1]:
                break
            if found[j] >= 0 or s_trades[j] != tally[2] or s_volume[j] != tally[3]:
                continue
            if s_qty[j, 0, 0] > 0 and s_px[j, 0, 0] == s_px[j, 1, 0]:
                same = _indicates(total, best, prices, s_px[j], s_qty[j])
            else:
                same = _shows(total, best, prices, s_px[j], s_qty[j], False)
            if same:
                found[j] = row
    return (2, crossed) if crossed >= 0 else (0, 0)


def match_snapshots(
    events: npt.NDArray[np.void], n_slots: int, snapshots: ShownBooks, *, before: int, after: int, source: str
) -> tuple[Ints, dict[str, int], int]:
    """Replay `events` and look for the state that each snapshot shows.

    A snapshot fits a state that was current at some time from `before` ns before to `after` ns after the
    snapshot's own time, with the same number of trades, volume, and all levels that the snapshot lists
    (in a call auction: the quantities that match and that are left over at the indicative price).

    Returns
    -------
    found : (m,) int64 array
        Event after which the state was first equal, -1: none.
    tally : dict
        As of `compare_books`, and ``crossed_books`` (states in continuous trading).
    crossed : int
        First event after which the book is crossed in continuous trading, -1: none.

    Raises
    ------
    DataError
        If a row cannot be applied.
    """
    columns, prices = _columns(events)
    found, tally = np.full(len(snapshots.ts), -1, dtype=np.int64), np.zeros(len(_TALLY), dtype=np.int64)
    problem, row = _match(
        *columns, events["ts"].astype(np.int64), prices, max(n_slots, 1), snapshots.ts, snapshots.px, snapshots.qty,
        snapshots.trades, snapshots.volume, before, after, found, tally,
    )  # fmt: skip
    if problem == 1:
        raise DataError(
            f"expected an event that the book allows, was {events[row]}", source=source, row=row + 1
        )
    report = {name: int(value) for name, value in zip(_TALLY, tally, strict=True)}
    return found, report, row if problem == 2 else -1
