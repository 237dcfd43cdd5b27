"""The compiled half of the benchmark stream; `mmsim.bench.stream` says what it is.

The flow keeps a naive book of its own (flat arrays, linked queues), so that the engines it measures are
also checked against something that shares no code with them. All state is in arrays: a call goes on
where the last one stopped.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mmsim._jit import kernel
from mmsim.book.layout import CANCEL, LIMIT, MARKET
from mmsim.types import EventFlag, EventKind

# Constants that are passed on as arguments are NumPy integers: numba would compile the callee once
# more for every plain one.
_ADD, _DELETE, _EXECUTE = np.int64(EventKind.ADD), np.int64(EventKind.DELETE), np.int64(EventKind.EXECUTE)
_TRADE, _LEVEL = np.int64(EventKind.TRADE), np.int64(EventKind.LEVEL)
_REDUCE, _HIDE, _CLEAR = int(EventKind.REDUCE), int(EventKind.HIDE), int(EventKind.CLEAR)
_LAST = np.uint16(EventFlag.LAST)
_LIMIT, _MARKET, _CANCEL = np.int64(LIMIT), np.int64(MARKET), np.int64(CANCEL)  # REQUEST.verb

WIDTH = 1 << 16  # prices of the flow's ladder, ticks
MID = WIDTH // 2  # where the market starts
MAX_LIVE = 1 << 16  # orders that may rest at once
MARGIN = 2048  # rows that one request may write at most
LIVE = 4000  # orders that rest at once, about; as many limit orders fill the book first
_RECENT = 256  # cancels prefer orders added lately
_THIN = 40  # a side with fewer orders gets the next one
_GAP_NS = 4e6  # mean gap between quiet requests

(
    C_REQ,  # rows written to `req`, `l3`, `l2`
    C_L3,
    C_L2,
    C_TS,
    C_LIVE,
    C_NBID,
    C_NASK,
    C_BID,
    C_ASK,
    C_FREE,
    C_IDS,
    C_FILLS,
    C_FILL_QTY,
    C_ADDS,
    C_CANCELS,
    C_MARKETS,
    C_CROSSING,
    C_SUM_LIVE,  # after the warm-up
    C_SUM_SPREAD,
    C_WARM,  # warm-up orders still to come
    C_AIM,  # live orders aimed at
    N_COUNTERS,
) = range(22)

O_PX, O_QTY, O_SIDE, O_NEXT, O_PREV, O_AT, O_ID, N_ORDER = range(8)  # columns of `orders`; row 0: none
L_QTY, L_HEAD, L_TAIL, N_LEVEL = range(4)  # rows of `levels`, each (2, WIDTH): bids, asks
F_BURST, F_DRIFT, N_FLOATS = range(3)

_U13, _U7, _U17, _U11 = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(11)

# One row of a market-by-order feed as exchanges publish it and as hftbacktest wants it: an execution is
# three rows (trade, fill, then cancel or modify), ids are never used again.
FEED = np.dtype(
    [
        ("ts", "<i8"),  # exchange time, ns
        ("order_id", "<i8"),
        ("px", "<i4"),  # ticks
        ("qty", "<i4"),  # lots; of a MODIFY: what is left
        ("kind", "u1"),  # FEED_*
        ("side", "i1"),  # of the order; of a trade: the aggressor's
        ("pad", "<u2"),
        ("row", "<u4"),  # the EVENT row it stands for
    ]
)
FEED_TRADE, FEED_ADD, FEED_CANCEL, FEED_MODIFY, FEED_FILL = 2, 10, 11, 12, 13  # the peer's numbers


@kernel
def _uniform(rng: Any) -> float:
    # xorshift64 (Marsaglia 2003), its upper 53 bits
    x = rng[0]
    x ^= x << _U13
    x ^= x >> _U7
    x ^= x << _U17
    rng[0] = x
    return np.float64(np.int64(x >> _U11)) / 9007199254740992.0


@kernel
def _below(rng: Any, n: int) -> int:
    return np.int64(_uniform(rng) * n)


@kernel
def _order_event(l3: Any, c: Any, kind: int, px: int, qty: int, row: int, side: int) -> None:
    e = l3[c[C_L3]]
    e["ts"] = c[C_TS]
    e["px"] = px
    e["qty"] = qty
    e["oid"] = row - 1
    e["kind"] = kind
    e["side"] = side
    e["flags"] = 0
    c[C_L3] += 1


@kernel
def _level_event(l2: Any, c: Any, kind: int, px: int, qty: int, side: int) -> None:
    e = l2[c[C_L2]]
    e["ts"] = c[C_TS]
    e["px"] = px
    e["qty"] = qty
    e["oid"] = 0
    e["kind"] = kind
    e["side"] = side
    e["flags"] = 0
    c[C_L2] += 1


@kernel
def _request(req: Any, c: Any, order_id: int, px: int, qty: int, verb: int, side: int) -> None:
    r = req[c[C_REQ]]
    r["oid"] = order_id
    r["px"] = px
    r["qty"] = qty
    r["verb"] = verb
    r["side"] = side
    r["flags"] = 0
    c[C_REQ] += 1


@kernel
def _forget(orders: Any, pool: Any, c: Any, row: int, s: int) -> None:
    # pool[0]: live rows in no order, pool[1]: stack of free rows
    last = pool[0, c[C_LIVE] - 1]
    at = orders[row, O_AT]
    pool[0, at] = last
    orders[last, O_AT] = at
    c[C_LIVE] -= 1
    c[C_NBID + s] -= 1
    pool[1, c[C_FREE]] = row
    c[C_FREE] += 1


@kernel
def _next_best(levels: Any, c: Any, s: int) -> None:
    p = c[C_BID + s]
    if s == 0:
        while p >= 0 and levels[L_QTY, 0, p] == 0:
            p -= 1
    else:
        while p < WIDTH and levels[L_QTY, 1, p] == 0:
            p += 1
    c[C_BID + s] = p


@kernel
def _cancel(orders: Any, levels: Any, pool: Any, c: Any, rng: Any, req: Any, l3: Any, l2: Any) -> None:
    live = c[C_LIVE]
    if _uniform(rng) < 0.6:
        k = live - 1 - _below(rng, min(_RECENT, live))
    else:
        k = _below(rng, live)
    row = pool[0, k]
    side, px, qty = orders[row, O_SIDE], orders[row, O_PX], orders[row, O_QTY]
    s = 0 if side > 0 else 1
    _request(req, c, orders[row, O_ID], px, qty, _CANCEL, side)
    older, younger = orders[row, O_PREV], orders[row, O_NEXT]
    if older != 0:
        orders[older, O_NEXT] = younger
    else:
        levels[L_HEAD, s, px] = younger
    if younger != 0:
        orders[younger, O_PREV] = older
    else:
        levels[L_TAIL, s, px] = older
    levels[L_QTY, s, px] -= qty
    _forget(orders, pool, c, row, s)
    if px == c[C_BID + s]:
        _next_best(levels, c, s)
    _order_event(l3, c, _DELETE, px, qty, row, side)
    _level_event(l2, c, _LEVEL, px, levels[L_QTY, s, px], side)
    c[C_CANCELS] += 1


@kernel
def _match(
    orders: Any, levels: Any, pool: Any, c: Any, l3: Any, l2: Any, side: int, px: int, qty: int
) -> int:
    # trades what crosses, best price and oldest first; returns the lots that found no maker
    o = 1 if side > 0 else 0
    while qty > 0:
        at = c[C_BID + o]
        if side > 0:
            if at >= WIDTH or at > px:
                break
        elif at < 0 or at < px:
            break
        while qty > 0 and levels[L_HEAD, o, at] != 0:
            maker = levels[L_HEAD, o, at]
            done = min(qty, orders[maker, O_QTY])
            qty -= done
            orders[maker, O_QTY] -= done
            levels[L_QTY, o, at] -= done
            c[C_FILLS] += 1
            c[C_FILL_QTY] += done
            _order_event(l3, c, _EXECUTE, at, done, maker, -side)
            _level_event(l2, c, _TRADE, at, done, side)
            if orders[maker, O_QTY] == 0:
                younger = orders[maker, O_NEXT]
                levels[L_HEAD, o, at] = younger
                if younger != 0:
                    orders[younger, O_PREV] = 0
                else:
                    levels[L_TAIL, o, at] = 0
                _forget(orders, pool, c, maker, o)
        _level_event(l2, c, _LEVEL, at, levels[L_QTY, o, at], -side)
        if levels[L_QTY, o, at] == 0:
            _next_best(levels, c, o)
    return qty


@kernel
def flow(
    gaps: Any,
    sizes: Any,
    rng: Any,
    c: Any,
    f: Any,
    orders: Any,
    levels: Any,
    pool: Any,
    req: Any,
    l3: Any,
    l2: Any,
    n: int,
) -> None:
    """Write up to `n` requests and the feeds they cause, from the start of every buffer.

    Stops early when a buffer could not hold another request. `gaps` is a table of exponential quantiles,
    `sizes` ``(2, len)`` of lots of limit and of market orders; `c` is laid out by ``C_*``, `f` by ``F_*``,
    `orders` by ``O_*``, `levels` by ``L_*``; `pool` holds the live rows and a stack of free ones.
    """
    c[C_REQ] = c[C_L3] = c[C_L2] = 0
    n_gaps, n_sizes = len(gaps), sizes.shape[1]
    while c[C_REQ] < n and c[C_L3] + MARGIN < len(l3) and c[C_L2] + MARGIN < len(l2):
        warm = c[C_WARM] > 0
        if warm:
            c[C_WARM] -= 1
            c[C_TS] += 1000
        else:
            # bursts: one request in a hundred excites the rate, which then decays
            f[F_BURST] *= 0.97
            if _uniform(rng) < 0.01:
                f[F_BURST] += 12.0
            gap = gaps[_below(rng, n_gaps)] * _GAP_NS / (1.0 + f[F_BURST])
            c[C_TS] += max(1, np.int64(gap))
        f[F_DRIFT] = 0.9995 * f[F_DRIFT] + 0.0693 * (_uniform(rng) - 0.5)
        before = c[C_L3]
        cancels = 0.87 * c[C_LIVE] / c[C_AIM]
        u = _uniform(rng) * (1.13 + cancels)
        thin = c[C_NBID] < _THIN or c[C_NASK] < _THIN
        market = False
        if not (warm or thin or u < 1.0):
            if u < 1.0 + cancels:
                _cancel(orders, levels, pool, c, rng, req, l3, l2)
                l3[c[C_L3] - 1]["flags"] = _LAST
                l2[c[C_L2] - 1]["flags"] = _LAST
                c[C_SUM_LIVE] += c[C_LIVE]
                c[C_SUM_SPREAD] += c[C_ASK] - c[C_BID]
                continue
            market = True
        # the latent drift leans market orders, and limit orders less so
        lean = 0.12 * math.tanh(f[F_DRIFT]) * (1.0 if market else 0.4)
        side = 1 if _uniform(rng) < 0.5 + lean else -1
        if c[C_NBID] < _THIN:
            side = 1
        elif c[C_NASK] < _THIN:
            side = -1
        s = 0 if side > 0 else 1
        qty = sizes[1 if market else 0, _below(rng, n_sizes)]
        if market:
            px = WIDTH - 1 if side > 0 else 0
            c[C_MARKETS] += 1
        else:
            bid, ask = c[C_BID], c[C_ASK]
            ref = ask if side > 0 else bid
            if bid < 0 or ask >= WIDTH:
                ref = ask if bid < 0 else bid
                if bid < 0 and ask >= WIDTH:
                    ref = np.int64(MID)
            v = _uniform(rng)
            far = gaps[_below(rng, n_gaps)]
            if warm:
                away = 1 + np.int64(far * 25.0)
            elif v < 0.03:
                away = -_below(rng, 3)  # at or beyond the opposite best
            elif v < 0.38:
                away = 1 + _below(rng, 2)  # at or near the touch
            elif v < 0.95:
                away = 1 + np.int64(far * 12.0)
            else:
                away = 1 + np.int64(far * 150.0)
            px = min(max(ref - side * away, 1), WIDTH - 2)
            c[C_ADDS] += 1
        c[C_IDS] += 1
        c[C_FREE] -= 1
        row = pool[1, c[C_FREE]]
        verb = _MARKET if market else _LIMIT
        _request(req, c, c[C_IDS], 0 if market else px, qty, verb, side)
        # the row stays out of the stack while its makers go there
        left = _match(orders, levels, pool, c, l3, l2, side, px, qty)
        c[C_CROSSING] += left < qty and not market
        if market or left == 0:
            pool[1, c[C_FREE]] = row
            c[C_FREE] += 1
        else:
            tail = levels[L_TAIL, s, px]
            o = orders[row]
            o[O_PX], o[O_QTY], o[O_SIDE], o[O_ID] = px, left, side, c[C_IDS]
            o[O_PREV], o[O_NEXT] = tail, 0
            if tail != 0:
                orders[tail, O_NEXT] = row
            else:
                levels[L_HEAD, s, px] = row
            levels[L_TAIL, s, px] = row
            levels[L_QTY, s, px] += left
            pool[0, c[C_LIVE]] = row
            o[O_AT] = c[C_LIVE]
            c[C_LIVE] += 1
            c[C_NBID + s] += 1
            if s == 0:
                c[C_BID] = max(c[C_BID], px)
            else:
                c[C_ASK] = min(c[C_ASK], px)
            _order_event(l3, c, _ADD, px, left, row, side)
            _level_event(l2, c, _LEVEL, px, levels[L_QTY, s, px], side)
        if c[C_L3] > before:
            l3[c[C_L3] - 1]["flags"] = _LAST
            l2[c[C_L2] - 1]["flags"] = _LAST
        if not warm:
            c[C_SUM_LIVE] += c[C_LIVE]
            c[C_SUM_SPREAD] += c[C_ASK] - c[C_BID]


@kernel
def _feed_row(
    out: Any, n: int, e: Any, row: int, order_id: int, qty: int, kind: int, side: int, px: int
) -> int:
    o = out[n]
    o["ts"] = e["ts"]
    o["order_id"] = order_id
    o["px"] = px
    o["qty"] = qty
    o["kind"] = kind
    o["side"] = side
    o["row"] = row
    return n + 1


@kernel
def publish(events: Any, slots: Any, out: Any) -> int:
    """Write an L3 EVENT array as published rows; return how many.

    Parameters
    ----------
    events : (n,) EVENT
    slots : (n_slots, 4) int64, zeros
        Scratch: price, open lots, side, id of the order in each slot.
    out : (m,) FEED
        With room for three rows an execution, one for each other row and one more for each ADD.
    """
    n = np.int64(0)
    ids = np.int64(0)
    for i in range(len(events)):
        e = events[i]
        kind = e["kind"]
        if kind == _ADD:
            ids += 1
            s = slots[e["oid"]]
            s[0], s[1], s[2], s[3] = e["px"], e["qty"], e["side"], ids
            n = _feed_row(out, n, e, i, ids, s[1], FEED_ADD, s[2], s[0])
        elif kind == _TRADE:
            n = _feed_row(
                out,
                n,
                e,
                i,
                np.int64(0),
                np.int64(e["qty"]),
                FEED_TRADE,
                np.int64(e["side"]),
                np.int64(e["px"]),
            )
        elif kind == _HIDE or kind == _CLEAR:
            # orders that leave the view are cancelled: the published form knows nothing else
            for k in range(len(slots)):
                s = slots[k]
                if s[1] > 0 and (kind == _CLEAR or (s[0] == e["px"] and s[2] == e["side"])):
                    n = _feed_row(out, n, e, i, s[3], s[1], FEED_CANCEL, s[2], s[0])
                    s[1] = 0
        else:
            s = slots[e["oid"]]
            if kind == _EXECUTE:
                qty = np.int64(e["qty"])
                n = _feed_row(out, n, e, i, np.int64(0), qty, FEED_TRADE, -s[2], s[0])
                n = _feed_row(out, n, e, i, s[3], qty, FEED_FILL, s[2], s[0])
            before = s[1]
            s[1] = 0 if kind == _DELETE else before - e["qty"]
            if s[1] > 0:
                n = _feed_row(out, n, e, i, s[3], s[1], FEED_MODIFY, s[2], s[0])
            else:
                n = _feed_row(out, n, e, i, s[3], before, FEED_CANCEL, s[2], s[0])
    return n
