"""The compiled half of the benchmark stream; `mmsim.bench.stream` says what it is.

The flow keeps a naive book of its own (flat arrays, linked queues), so that the engines it measures are
also checked against something that shares no code with them. A call goes on where the last one stopped.
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

# What the flow has come to, one record.
STATE = np.dtype(
    [
        ("requests", "<i8"),  # rows written to each buffer in this call
        ("l3_rows", "<i8"),
        ("l2_rows", "<i8"),
        ("ts", "<i8"),  # of the last request, ns since the epoch
        ("live_orders", "<i8"),
        ("n", "<i8", (2,)),  # live bids and asks
        ("best", "<i8", (2,)),  # best bid and ask, -1 and WIDTH without any
        ("free", "<i8"),  # rows on the stack of free ones
        ("ids", "<i8"),  # given so far
        ("fills", "<i8"),
        ("fill_qty", "<i8"),
        ("adds", "<i8"),
        ("cancels", "<i8"),
        ("markets", "<i8"),
        ("crossing_adds", "<i8"),
        ("sum_live", "<i8"),  # after the warm-up
        ("sum_spread", "<i8"),
        ("warm", "<i8"),  # warm-up orders still to come
        ("aim", "<i8"),  # live orders aimed at
        ("burst", "<f8"),
        ("drift", "<f8"),
    ]
)
# A resting order; row 0 stands for none. ``at`` is its place among the live rows.
ORDER = np.dtype([(name, "<i8") for name in ("px", "qty", "side", "next", "prev", "at", "id")])
LEVEL = np.dtype([(name, "<i8") for name in ("qty", "head", "tail")])  # one price of one side

_U13, _U7, _U17, _U11 = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(11)


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
def _order_event(l3: Any, state: Any, kind: int, px: int, qty: int, row: int, side: int) -> None:
    e = l3[state.l3_rows]
    e["ts"] = state.ts
    e["px"] = px
    e["qty"] = qty
    e["oid"] = row - 1
    e["kind"] = kind
    e["side"] = side
    e["flags"] = 0
    state.l3_rows += 1


@kernel
def _level_event(l2: Any, state: Any, kind: int, px: int, qty: int, side: int) -> None:
    e = l2[state.l2_rows]
    e["ts"] = state.ts
    e["px"] = px
    e["qty"] = qty
    e["oid"] = 0
    e["kind"] = kind
    e["side"] = side
    e["flags"] = 0
    state.l2_rows += 1


@kernel
def _request(req: Any, state: Any, order_id: int, px: int, qty: int, verb: int, side: int) -> None:
    r = req[state.requests]
    r["oid"] = order_id
    r["px"] = px
    r["qty"] = qty
    r["verb"] = verb
    r["side"] = side
    r["flags"] = 0
    state.requests += 1


@kernel
def _forget(orders: Any, pool: Any, state: Any, row: int, s: int) -> None:
    # pool[0]: live rows in no order, pool[1]: stack of free rows
    last = pool[0, state.live_orders - 1]
    at = orders[row].at
    pool[0, at] = last
    orders[last].at = at
    state.live_orders -= 1
    state.n[s] -= 1
    pool[1, state.free] = row
    state.free += 1


@kernel
def _next_best(levels: Any, state: Any, s: int) -> None:
    p = state.best[s]
    if s == 0:
        while p >= 0 and levels[0, p].qty == 0:
            p -= 1
    else:
        while p < WIDTH and levels[1, p].qty == 0:
            p += 1
    state.best[s] = p


@kernel
def _cancel(orders: Any, levels: Any, pool: Any, state: Any, rng: Any, req: Any, l3: Any, l2: Any) -> None:
    live = state.live_orders
    if _uniform(rng) < 0.6:
        k = live - 1 - _below(rng, min(_RECENT, live))
    else:
        k = _below(rng, live)
    row = pool[0, k]
    side, px, qty = orders[row].side, orders[row].px, orders[row].qty
    s = 0 if side > 0 else 1
    _request(req, state, orders[row].id, px, qty, _CANCEL, side)
    older, younger = orders[row].prev, orders[row].next
    if older != 0:
        orders[older].next = younger
    else:
        levels[s, px].head = younger
    if younger != 0:
        orders[younger].prev = older
    else:
        levels[s, px].tail = older
    levels[s, px].qty -= qty
    _forget(orders, pool, state, row, s)
    if px == state.best[s]:
        _next_best(levels, state, s)
    _order_event(l3, state, _DELETE, px, qty, row, side)
    _level_event(l2, state, _LEVEL, px, levels[s, px].qty, side)
    state.cancels += 1


@kernel
def _match(
    orders: Any, levels: Any, pool: Any, state: Any, l3: Any, l2: Any, side: int, px: int, qty: int
) -> int:
    # trades what crosses, best price and oldest first; returns the lots that found no maker
    o = 1 if side > 0 else 0
    while qty > 0:
        at = state.best[o]
        if side > 0:
            if at >= WIDTH or at > px:
                break
        elif at < 0 or at < px:
            break
        while qty > 0 and levels[o, at].head != 0:
            maker = levels[o, at].head
            done = min(qty, orders[maker].qty)
            qty -= done
            orders[maker].qty -= done
            levels[o, at].qty -= done
            state.fills += 1
            state.fill_qty += done
            _order_event(l3, state, _EXECUTE, at, done, maker, -side)
            _level_event(l2, state, _TRADE, at, done, side)
            if orders[maker].qty == 0:
                younger = orders[maker].next
                levels[o, at].head = younger
                if younger != 0:
                    orders[younger].prev = 0
                else:
                    levels[o, at].tail = 0
                _forget(orders, pool, state, maker, o)
        _level_event(l2, state, _LEVEL, at, levels[o, at].qty, -side)
        if levels[o, at].qty == 0:
            _next_best(levels, state, o)
    return qty


@kernel
def flow(
    gaps: Any,
    sizes: Any,
    rng: Any,
    state: Any,
    orders: Any,
    levels: Any,
    pool: Any,
    req: Any,
    l3: Any,
    l2: Any,
    n: int,
) -> None:
    """Write up to `n` requests and the feeds they cause, from the start of every buffer.

    Stops early when a buffer could not hold another request.

    Parameters
    ----------
    gaps : (m,) float64
        Quantiles of an exponential.
    sizes : (2, m) int64
        Lots of limit and of market orders.
    state, orders, levels
        `STATE`, `ORDER` by row, `LEVEL` by side (bids, asks) and price.
    pool : (2, n_orders) int64
        The live rows, and a stack of free ones.
    """
    state.requests = state.l3_rows = state.l2_rows = 0
    n_gaps, n_sizes = len(gaps), sizes.shape[1]
    while state.requests < n and state.l3_rows + MARGIN < len(l3) and state.l2_rows + MARGIN < len(l2):
        warm = state.warm > 0
        if warm:
            state.warm -= 1
            state.ts += 1000
        else:
            # bursts: one request in a hundred excites the rate, which then decays
            state.burst *= 0.97
            if _uniform(rng) < 0.01:
                state.burst += 12.0
            gap = gaps[_below(rng, n_gaps)] * _GAP_NS / (1.0 + state.burst)
            state.ts += max(1, np.int64(gap))
        state.drift = 0.9995 * state.drift + 0.0693 * (_uniform(rng) - 0.5)
        before = state.l3_rows
        cancels = 0.87 * state.live_orders / state.aim
        u = _uniform(rng) * (1.13 + cancels)
        thin = state.n[0] < _THIN or state.n[1] < _THIN
        market = False
        if not (warm or thin or u < 1.0):
            if u < 1.0 + cancels:
                _cancel(orders, levels, pool, state, rng, req, l3, l2)
                l3[state.l3_rows - 1]["flags"] = _LAST
                l2[state.l2_rows - 1]["flags"] = _LAST
                state.sum_live += state.live_orders
                state.sum_spread += state.best[1] - state.best[0]
                continue
            market = True
        # the latent drift leans market orders, and limit orders less so
        lean = 0.12 * math.tanh(state.drift) * (1.0 if market else 0.4)
        side = 1 if _uniform(rng) < 0.5 + lean else -1
        if state.n[0] < _THIN:
            side = 1
        elif state.n[1] < _THIN:
            side = -1
        s = 0 if side > 0 else 1
        qty = sizes[1 if market else 0, _below(rng, n_sizes)]
        if market:
            px = WIDTH - 1 if side > 0 else 0
            state.markets += 1
        else:
            bid, ask = state.best[0], state.best[1]
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
            state.adds += 1
        state.ids += 1
        state.free -= 1
        row = pool[1, state.free]
        verb = _MARKET if market else _LIMIT
        _request(req, state, state.ids, 0 if market else px, qty, verb, side)
        # the row stays out of the stack while its makers go there
        left = _match(orders, levels, pool, state, l3, l2, side, px, qty)
        state.crossing_adds += left < qty and not market
        if market or left == 0:
            pool[1, state.free] = row
            state.free += 1
        else:
            tail = levels[s, px].tail
            o = orders[row]
            o.px, o.qty, o.side, o.id = px, left, side, state.ids
            o.prev, o.next = tail, 0
            if tail != 0:
                orders[tail].next = row
            else:
                levels[s, px].head = row
            levels[s, px].tail = row
            levels[s, px].qty += left
            pool[0, state.live_orders] = row
            o.at = state.live_orders
            state.live_orders += 1
            state.n[s] += 1
            if s == 0:
                state.best[0] = max(state.best[0], px)
            else:
                state.best[1] = min(state.best[1], px)
            _order_event(l3, state, _ADD, px, left, row, side)
            _level_event(l2, state, _LEVEL, px, levels[s, px].qty, side)
        if state.l3_rows > before:
            l3[state.l3_rows - 1]["flags"] = _LAST
            l2[state.l2_rows - 1]["flags"] = _LAST
        if not warm:
            state.sum_live += state.live_orders
            state.sum_spread += state.best[1] - state.best[0]
