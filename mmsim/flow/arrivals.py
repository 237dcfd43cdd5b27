"""The compiled half of the zero-intelligence flow; `mmsim.flow.zero_intelligence` says what it is and why.

Everything is an integer: rates in micro-events per second, probabilities, tilts and factors in 1/1024,
time in ns, random numbers from a 64-bit xorshift, exponential gaps from a rounded quantile table. No
floating-point result and no function of a mathematics library steers anything.

All state is in `MarketArrays`, so `run` may stop at any time and go on later: in pieces it makes the same
events as in one go. The flow's orders are named by their slot. Orders of owner OWN belong to the agent of a
session (`mmsim.flow.mirror`): the flow meets them in the book and never touches them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mmsim._jit import borrow, inline_kernel, kernel
from mmsim.book.engine import execute
from mmsim.book.handle import book_at
from mmsim.book.layout import CANCEL, IOC, LIMIT, NO_ASK, NO_BID, REDUCE
from mmsim.book.rows import FOUND, U, slot_of

# Constants that are passed on as arguments are NumPy integers: numba would compile the callee once
# more for every plain one.
_ADD, _REDUCE, _DELETE, _EXECUTE, _TRADE = (np.int64(kind) for kind in range(1, 6))  # EventKind
_LAST = 1  # EventFlag
_REST = np.int64(0)  # request flags of an order without conditions
_IOC, _CANCEL, _REDUCE_BY, _LIMIT = np.int64(IOC), np.int64(CANCEL), np.int64(REDUCE), np.int64(LIMIT)
_NOBODY, OWN = np.int64(0), np.int64(1)  # owners of orders: somebody of the flow, the agent of a session

ONE = np.int64(1024)  # 1.0 of probabilities, tilts and factors
EXP_BITS = 16  # scale of the table of exponential quantiles
_GAP = 10**15 // (1 << EXP_BITS)  # (ns per s) x (micro-events per event) / scale of the table
_DRIFT_NS = 100_000_000  # step of the latent drift
_MAX_TILT = 900  # a side's share stays between 6 % and 94 %
MAX_BURST = 8 * ONE
_MIN_ORDERS = 16  # a side that holds fewer gets the next limit order

_U13, _U7, _U17, _U32 = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(32)

RATES = np.dtype([(name, "<i8") for name in (
    "market_rate", "fill_rate", "sweep", "rest", "partial", "imb_market", "imb_fill", "imb_cancel", "imb_add",
    "drift", "drift_decay", "momentum", "momentum_ns", "burst", "burst_ns", "dwell_ns",
)])  # fmt: skip
"""The scalar parameters of `mmsim.flow.zero_intelligence.Flow`."""

FLOW_STATE = np.dtype(
    [
        ("random", "<u8"),  # of the random numbers
        ("ts", "<i8"),  # time of the last arrival, ns
        ("due", "<i8"),  # time of the next arrival if it is drawn already, else 0
        ("n_events", "<i8"),  # events written
        ("n_live", "<i8"),  # resting orders of the flow
        ("n_free", "<i8"),  # free slots
        ("bids", "<i8"),  # resting orders per side
        ("asks", "<i8"),
        ("high", "<i8"),  # highest slot used
        ("first_ask", "<i8"),  # ticks
        ("ref_bid", "<i8"),  # best prices, or the last ones of a side that is empty
        ("ref_ask", "<i8"),
        ("mid2", "<i8"),
        ("burst", "<i8"),
        ("momentum", "<i8"),
        ("drift", "<i8"),
        ("regime", "<i8"),
        ("next_drift", "<i8"),
        ("next_regime", "<i8"),
        ("fills", "<i8"),  # fills of the session that the flow's book knows (`mmsim.flow.mirror`)
        ("own_id", "<i8"),  # newest own order that it has seen
    ]
)

# One row per slot: three columns that have nothing to do with each other.
SLOT = np.dtype(
    [
        ("live", "<i8"),  # slots of resting orders, in no order
        ("place", "<i8"),  # of the slot's order: where it stands in `live`
        ("free", "<i8"),  # a stack of free slots
    ]
)


class FlowTables(NamedTuple):
    """What the kernels read of a flow."""

    rates: Any  # (1,) RATES
    add_cum: Any  # limit orders per side: cumulative rates by distance from 1
    cancel_rate: Any  # cancellation rate of one order by distance; the last holds for all farther
    sizes: Any  # lots to draw from
    market_sizes: Any
    regimes: Any  # (n, 3) factors
    exp: Any  # quantiles of the exponential law


class MarketArrays(NamedTuple):
    """What the kernels change: the flow and the book that it trades in."""

    state: Any  # (1,) FLOW_STATE
    slots: Any  # (max_orders + 1,) SLOT
    handle: Any  # of the book (`mmsim.book.handle`)
    request: Any  # (1,) REQUEST, status and matches of the order that is being executed
    status: Any
    matches: Any


DONE, EVENTS_FULL, ORDERS_FULL, OUT_OF_WINDOW = 0, 1, 2, 3  # what `run` returns


@inline_kernel
def borrowed(market: Any) -> Any:
    """Return `market` without reference counts (`mmsim._jit.borrow`)."""
    return MarketArrays(
        borrow(market.state),
        borrow(market.slots),
        borrow(market.handle),
        borrow(market.request),
        borrow(market.status),
        borrow(market.matches),
    )


@kernel
def _random(m: Any) -> int:
    # xorshift64 (Marsaglia 2003), its upper half: shifts only, so no wrap-around in plain Python either
    x = m.random
    x ^= x << _U13
    x ^= x >> _U7
    x ^= x << _U17
    m.random = x
    return np.int64(x >> _U32)


@kernel
def _below(m: Any, n: int) -> int:
    return (_random(m) * n) >> 32


@kernel
def emit(events: Any, m: Any, kind: int, slot: int, side: int, px: int, qty: int) -> None:
    """Append one event at the time of the last arrival."""
    event = events[m.n_events]
    event.ts = m.ts
    event.px = px
    event.qty = qty
    event.oid = slot - 1
    event.kind = kind
    event.side = side
    m.n_events += 1


@kernel
def end_message(events: Any, m: Any, flags: int) -> None:
    """Flag the last event written."""
    events[m.n_events - 1]["flags"] = flags


@kernel
def resting(book: Any, oid: int) -> int:
    """Return the row of order `oid` in the book, 0 if it does not rest."""
    return book.slots[U(slot_of(book, oid))] & FOUND


@kernel
def request(market: Any, verb: int, oid: int, owner: int, side: int, px: int, qty: int, flags: int) -> None:
    """Have the matching engine execute one request; its matches are in ``market.matches`` afterwards."""
    r = market.request[0]
    r.verb = verb
    r.oid = oid
    r.owner = owner
    r.side = side
    r.px = px
    r.qty = qty
    r["flags"] = flags
    book_at(market.handle).state[0].n_matches = 0
    execute(market.handle, market.request, _REST, market.status, market.matches)


@kernel
def _forget(slots: Any, m: Any, slot: int, side: int) -> None:
    # an order of the flow has left the book
    last = slots[m.n_live - 1].live
    at = slots[slot].place
    slots[at].live = last
    slots[last].place = at
    m.n_live -= 1
    slots[m.n_free].free = slot
    m.n_free += 1
    _count(m, side, -1)


@kernel
def _count(m: Any, side: int, by: int) -> None:
    if side > 0:
        m.bids += by
    else:
        m.asks += by


@kernel
def _send(market: Any, events: Any, side: int, px: int, qty: int, flags: int) -> int:
    # One order through the matching engine; its trades and its remainder become events.
    # Returns the number of trades, -1 if no slot is free.
    m, slots = market.state[0], market.slots
    book = book_at(market.handle)
    if m.n_free == 0:
        return -1
    slot = np.int64(slots[m.n_free - 1].free)
    request(market, _LIMIT, slot, _NOBODY, side, px, qty, flags)
    n = book.state[0].n_matches
    for i in range(n):
        match = market.matches[i]
        if match.maker_owner == OWN:  # it has no slot in the feed: a print without an order
            emit(events, m, _TRADE, 1, side, np.int64(match.px), np.int64(match.qty))
            continue
        emit(events, m, _EXECUTE, match.maker, -side, np.int64(match.px), np.int64(match.qty))
        if resting(book, match.maker) == 0:
            # below the slot of the order that took it, which is still on top of the stack
            m.n_free -= 1
            _forget(slots, m, match.maker, -side)
            top = m.n_free
            slots[top].free = slot
            m.n_free = top + 1
    left = book.state[0].resting
    if left != 0:
        m.n_free -= 1
        slots[m.n_live].live = slot
        slots[slot].place = m.n_live
        m.n_live += 1
        _count(m, side, 1)
        m.high = max(m.high, slot)
        emit(events, m, _ADD, slot, side, px, left)
    return n


@kernel
def withdraw(market: Any, events: Any, slot: int, side: int, px: int, qty: int, by: int) -> None:
    """Take `by` of the `qty` lots out of the flow's order in `slot`, and write it down."""
    m = market.state[0]
    if qty == by:
        request(market, _CANCEL, slot, _NOBODY, side, px, by, _REST)
        emit(events, m, _DELETE, slot, side, px, by)
        _forget(market.slots, m, slot, side)
    else:
        request(market, _REDUCE_BY, slot, _NOBODY, side, px, by, _REST)
        emit(events, m, _REDUCE, slot, side, px, by)


@kernel
def _side(m: Any, tilt: int) -> int:
    tilt = min(max(tilt, -_MAX_TILT), _MAX_TILT)
    return 1 if _below(m, 2 * ONE) < ONE + tilt else -1


@kernel
def _decay(x: int, dt: int, tau: int) -> int:
    # linear over the gap, which is short against `tau` whenever it matters; towards zero on both sides
    if dt >= tau:
        return 0
    part = np.int64((abs(x) * (dt >> 10)) // (tau >> 10))
    return x - part if x > 0 else x + part


@kernel
def open_market(flow: Any, market: Any, events: Any) -> int:
    """Fill every level to its equilibrium of arrivals and cancellations; return a status. Arguments as of `run`."""
    market, events = borrowed(market), borrow(events)
    m, add_cum, cancel_rate, sizes = market.state[0], flow.add_cum, flow.cancel_rate, flow.sizes
    far = len(cancel_rate) - 1
    for d in range(1, len(add_cum) + 1):
        rate = add_cum[d - 1] - (add_cum[d - 2] if d > 1 else 0)
        for _ in range(rate // cancel_rate[min(d, far)]):
            for side in (1, -1):
                px = m.first_ask - d if side > 0 else m.first_ask - 1 + d
                qty = sizes[_below(m, len(sizes))]
                if _send(market, events, side, px, qty, _REST) < 0:
                    return ORDERS_FULL
                end_message(events, m, _LAST)
    return DONE


@kernel
def run(flow: Any, market: Any, events: Any, end_ts: int) -> int:
    """Fill `events` until `end_ts`; return a status. `flow` is `FlowTables`, `market` `MarketArrays`."""
    market, events = borrowed(market), borrow(events)
    m, p = market.state[0], flow.rates[0]
    add_cum, cancel_rate, regimes, exp = flow.add_cum, flow.cancel_rate, flow.regimes, flow.exp
    sizes, market_sizes = flow.sizes, flow.market_sizes
    book = book_at(market.handle)
    best = book.state[0]
    n_dist = len(add_cum)
    far = len(cancel_rate) - 1
    add_total = add_cum[n_dist - 1]
    cancel_max = np.int64(0)
    for d in range(far + 1):
        cancel_max = max(cancel_max, cancel_rate[d])
    cancel_max *= 2  # room for the tilt of cancellations at the touch
    lowest, highest = best.origin + n_dist + 2, best.origin + best.width - n_dist - 1
    if m.next_drift == 0:  # the first call
        m.ref_bid, m.ref_ask, m.mid2 = m.first_ask - 1, m.first_ask, 2 * m.first_ask - 1
        m.next_drift = m.ts + _DRIFT_NS
        m.next_regime = m.ts + p.dwell_ns
    ref_bid, ref_ask, old_mid2 = m.ref_bid, m.ref_ask, m.mid2
    burst, momentum, drift, regime = m.burst, m.momentum, m.drift, m.regime
    next_drift, next_regime = m.next_drift, m.next_regime
    status = DONE

    while True:
        if m.n_events + len(book.orders) > len(events):
            status = EVENTS_FULL
            break
        bid, ask = best.best_bid, best.best_ask
        if bid != NO_BID:
            ref_bid = bid
        if ask != NO_ASK:
            ref_ask = ask
        if ref_bid <= lowest or ref_ask >= highest:
            status = OUT_OF_WINDOW
            break
        if ref_bid >= ref_ask:  # one side is empty, the other moved over its last price
            if bid != NO_BID:
                ref_ask = ref_bid + 1
            else:
                ref_bid = ref_ask - 1
        mid2 = ref_bid + ref_ask
        if mid2 != old_mid2:
            burst = min(burst + p.burst, MAX_BURST)
            old_mid2 = mid2
        bid_qty = book.levels[bid - best.origin].qty if bid != NO_BID else np.int64(0)
        ask_qty = book.levels[ask - best.origin].qty if ask != NO_ASK else np.int64(0)
        imb = ((bid_qty - ask_qty) * ONE) // max(bid_qty + ask_qty, 1)
        spread = ref_ask - ref_bid
        hidden = drift >> 8

        # -- when ------------------------------------------------------------------------------
        fill_rate = p.fill_rate if spread > 1 else np.int64(0)
        market_rate = (p.market_rate * regimes[regime, 1]) >> 10
        cancel_total = cancel_max * m.n_live
        total = 2 * add_total + fill_rate + market_rate + cancel_total
        ts = m.due
        if ts == 0:
            speed = (regimes[regime, 0] * (ONE + burst)) >> 10
            ts = m.ts + (exp[_below(m, len(exp))] * _GAP) // max((total * speed) >> 10, 1) + 1
        if ts >= end_ts:
            m.due = ts
            break
        gap = ts - m.ts
        m.ts, m.due = ts, 0
        burst = _decay(burst, gap, p.burst_ns)
        momentum = _decay(momentum, gap, p.momentum_ns)
        while ts >= next_drift:
            # uniform steps and a linear pull: an Ornstein-Uhlenbeck process in integers (1/256 of a tilt)
            pull = (abs(drift) * p.drift_decay) >> 10
            drift += (pull if drift < 0 else -pull) + _below(m, 2 * p.drift + 1) - p.drift
            next_drift += _DRIFT_NS
        if ts >= next_regime:
            step = 1 + _below(m, len(regimes) - 1) if len(regimes) > 1 else 0
            regime = (regime + step) % len(regimes)
            next_regime = ts + ((exp[_below(m, len(exp))] * p.dwell_ns) >> EXP_BITS)

        # -- what ------------------------------------------------------------------------------
        before = m.n_events
        u = _below(m, total)
        starved = m.bids < _MIN_ORDERS or m.asks < _MIN_ORDERS
        if u >= 2 * add_total + fill_rate + market_rate and not starved:
            slot = market.slots[_below(m, m.n_live)].live
            order = book.orders[resting(book, slot)]
            px = np.int64(order.px)
            side = 1 if px <= bid else -1
            d = ref_ask - px if side > 0 else px - ref_bid
            rate = cancel_rate[min(d, far)]
            if px == bid or px == ask:
                rate = (rate * (ONE - ((side * (p.imb_cancel * imb)) >> 10))) >> 10
            if _below(m, cancel_max) < rate:  # thinning: the others keep their order
                qty = np.int64(order.qty)
                by = qty
                if qty > 1 and _below(m, ONE) < p.partial:
                    by = 1 + _below(m, qty - 1)
                withdraw(market, events, slot, side, px, qty, by)
                end_message(events, m, _LAST)
            continue
        flags = _REST
        if u < 2 * add_total or starved:
            side = _side(m, ((p.imb_add * imb) >> 10) + (hidden >> 1))
            if starved:
                side = 1 if m.bids <= m.asks else -1
            v = _below(m, add_total)
            d = 1
            while add_cum[d - 1] <= v:
                d += 1
            px = ref_ask - d if side > 0 else ref_bid + d
            qty = sizes[_below(m, len(sizes))]
        else:
            tilt = hidden + momentum
            if u < 2 * add_total + fill_rate:
                side = _side(m, tilt + ((p.imb_fill * imb) >> 10))
                px = ref_bid + 1 if side > 0 else ref_ask - 1
                qty = sizes[_below(m, len(sizes))]
            else:
                side = _side(m, tilt + ((p.imb_market * imb) >> 10))
                px = ref_ask if side > 0 else ref_bid
                queue = ask_qty if side > 0 else bid_qty
                qty = max((market_sizes[_below(m, len(market_sizes))] * regimes[regime, 2]) >> 10, 1)
                if queue > 0 and _below(m, ONE) < p.sweep:
                    qty = queue
                if _below(m, ONE) >= p.rest:
                    flags = _IOC
                if qty >= queue:
                    momentum = min(max(momentum + side * p.momentum, -ONE), ONE)
        code = _send(market, events, side, px, qty, flags)
        if code < 0:
            status = ORDERS_FULL
            break
        if code > 0:
            burst = min(burst + p.burst, MAX_BURST)
        if m.n_events > before:
            end_message(events, m, _LAST)
    m.ref_bid, m.ref_ask, m.mid2 = ref_bid, ref_ask, old_mid2
    m.burst, m.momentum, m.drift, m.regime = burst, momentum, drift, regime
    m.next_drift, m.next_regime = next_drift, next_regime
    return status
