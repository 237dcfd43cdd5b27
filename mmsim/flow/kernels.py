"""The compiled half of the zero-intelligence flow; `mmsim.flow.zero_intelligence` says what it is and why.

Everything is an integer: rates in micro-events per second, probabilities, tilts and factors in 1/1024,
time in ns, random numbers from a 64-bit xorshift, exponential gaps from a rounded quantile table. No
floating-point result and no function of a mathematics library steers anything.

`run` keeps all its state in the counters, so it may stop at any time and go on later: in pieces it makes
the same events as in one go. Orders in rows from ``pool.shape[1]`` on belong to the agent of a session
(`mmsim.flow.mirror`): the flow meets them in the book and never touches them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import kernel
from mmsim.book.kernels import BEST_ASK, BEST_BID, IOC, N_MATCHES, cancel, reduce, submit

# Constants that are passed on as arguments are NumPy integers: numba would compile the callee once
# more for every plain one.
_ADD, _REDUCE, _DELETE, _EXECUTE, _TRADE = (np.int64(kind) for kind in range(1, 6))  # EventKind
_LAST = 1  # EventFlag
_REST = np.int64(0)  # request flags of an order without conditions

ONE = np.int64(1024)  # 1.0 of probabilities, tilts and factors
EXP_BITS = 16  # scale of the table of exponential quantiles
_GAP = 10**15 // (1 << EXP_BITS)  # (ns per s) x (micro-events per event) / scale of the table
_DRIFT_NS = 100_000_000  # step of the latent drift
_MAX_TILT = 900  # a side's share stays between 6 % and 94 %
MAX_BURST = 8 * ONE
_MIN_ORDERS = 16  # a side that holds fewer gets the next limit order

_U13, _U7, _U17, _U32 = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(32)

# layout of the parameter vector
(
    P_MARKET,
    P_FILL,
    P_SWEEP,
    P_REST,
    P_PARTIAL,
    P_IMB_MARKET,
    P_IMB_FILL,
    P_IMB_CANCEL,
    P_IMB_ADD,
    P_DRIFT,
    P_DRIFT_DECAY,
    P_MOMENTUM,
    P_MOMENTUM_NS,
    P_BURST,
    P_BURST_NS,
    P_DWELL_NS,
    N_PARAMS,
) = range(17)

# layout of the counters: what `run` and its callers keep between calls
(
    C_TS,  # time of the last arrival, ns
    C_EVENTS,  # events written
    C_LIVE,  # resting orders of the flow
    C_FREE,  # free rows
    C_BIDS,  # orders a side
    C_ASKS,
    C_HIGH,  # highest row used
    C_DUE,  # time of the next arrival if it is drawn already, else 0
    C_REF_BID,  # best prices, or the last ones of a side that is empty
    C_REF_ASK,
    C_MID2,
    C_BURST,
    C_MOMENTUM,
    C_DRIFT,
    C_REGIME,
    C_NEXT_DRIFT,
    C_NEXT_REGIME,
    C_FILLS,  # fills of the session that the flow's book knows (`mmsim.flow.mirror`)
    C_OWN_ID,  # newest own order that it has seen
    N_COUNTERS,
) = range(20)

DONE, EVENTS_FULL, ORDERS_FULL, OUT_OF_WINDOW = 0, 1, 2, 3  # what `run` returns


@kernel
def _random(rng: Any) -> int:
    # xorshift64 (Marsaglia 2003), its upper half: shifts only, so no wrap-around in plain Python either
    x = rng[0]
    x ^= x << _U13
    x ^= x >> _U7
    x ^= x << _U17
    rng[0] = x
    return np.int64(x >> _U32)


@kernel
def _below(rng: Any, n: int) -> int:
    return (_random(rng) * n) >> 32


@kernel
def emit(events: Any, c: Any, kind: int, row: int, side: int, px: int, qty: int) -> None:
    """Append one event at the time of the last arrival."""
    n = c[C_EVENTS]
    events[n]["ts"] = c[C_TS]
    events[n]["px"] = px
    events[n]["qty"] = qty
    events[n]["oid"] = row - 1
    events[n]["kind"] = kind
    events[n]["side"] = side
    c[C_EVENTS] = n + 1


@kernel
def _forget(pool: Any, c: Any, row: int, side: int) -> None:
    # pool[0]: live rows, pool[1]: their place there, pool[2]: stack of free rows
    last = pool[0, c[C_LIVE] - 1]
    at = pool[1, row]
    pool[0, at] = last
    pool[1, last] = at
    c[C_LIVE] -= 1
    pool[2, c[C_FREE]] = row
    c[C_FREE] += 1
    c[C_BIDS if side > 0 else C_ASKS] -= 1


@kernel
def _send(
    events: Any,
    orders: Any,
    levels: Any,
    state: Any,
    matches: Any,
    pool: Any,
    c: Any,
    base: int,
    side: int,
    px: int,
    qty: int,
    flags: int,
) -> int:
    # One order through the matching engine; its trades and its remainder become events.
    # Returns the number of trades, -1 if no row is free.
    if c[C_FREE] == 0:
        return -1
    row = np.int64(pool[2, c[C_FREE] - 1])
    state[N_MATCHES] = 0
    submit(orders, levels, state, matches, row, side, px, qty, flags)
    n = state[N_MATCHES]
    for i in range(n):
        maker = np.int64(matches[i]["maker"])
        at, done = np.int64(matches[i]["px"]), np.int64(matches[i]["qty"])
        if maker >= pool.shape[1]:  # an own order, which has no slot in the feed: a print without an order
            emit(events, c, _TRADE, 1, side, at + base, done)
            continue
        emit(events, c, _EXECUTE, maker, -side, at + base, done)
        if orders[maker]["qty"] == 0:
            # below the row of the order that took it, which is still on top of the stack
            c[C_FREE] -= 1
            _forget(pool, c, maker, -side)
            top = c[C_FREE]
            pool[2, top] = row
            c[C_FREE] = top + 1
    if orders[row]["qty"] != 0:
        c[C_FREE] -= 1
        pool[0, c[C_LIVE]] = row
        pool[1, row] = c[C_LIVE]
        c[C_LIVE] += 1
        c[C_BIDS if side > 0 else C_ASKS] += 1
        c[C_HIGH] = max(c[C_HIGH], row)
        emit(events, c, _ADD, row, side, px + base, np.int64(orders[row]["qty"]))
    return n


@kernel
def withdraw(
    events: Any,
    orders: Any,
    levels: Any,
    state: Any,
    pool: Any,
    c: Any,
    row: int,
    side: int,
    px: int,
    by: int,
) -> None:
    """Take `by` lots out of order `row` of the flow, or the whole order, and write it down."""
    if orders[row]["qty"] == by:
        cancel(orders, levels, state, row)
        emit(events, c, _DELETE, row, side, px, by)
        _forget(pool, c, row, side)
    else:
        reduce(orders, levels, state, row, by)
        emit(events, c, _REDUCE, row, side, px, by)


@kernel
def _side(rng: Any, tilt: int) -> int:
    tilt = min(max(tilt, -_MAX_TILT), _MAX_TILT)
    return 1 if _below(rng, 2 * ONE) < ONE + tilt else -1


@kernel
def _decay(x: int, dt: int, tau: int) -> int:
    # linear over the gap, which is short against `tau` whenever it matters; towards zero on both sides
    if dt >= tau:
        return 0
    part = np.int64((abs(x) * (dt >> 10)) // (tau >> 10))
    return x - part if x > 0 else x + part


@kernel
def open_book(
    add_cum: Any,
    cancel_rate: Any,
    size_of: Any,
    rng: Any,
    orders: Any,
    levels: Any,
    state: Any,
    matches: Any,
    pool: Any,
    c: Any,
    events: Any,
    base: int,
    mid: int,
) -> int:
    """Fill every level to its equilibrium of arrivals and cancellations; return a status. Arguments as of `run`."""
    far = len(cancel_rate) - 1
    for d in range(1, len(add_cum) + 1):
        rate = add_cum[d - 1] - (add_cum[d - 2] if d > 1 else 0)
        for _ in range(rate // cancel_rate[min(d, far)]):
            for side in (1, -1):
                px = mid - d if side > 0 else mid - 1 + d
                qty = size_of[_below(rng, len(size_of))]
                code = _send(events, orders, levels, state, matches, pool, c, base, side, px, qty, _REST)
                if code < 0:
                    return ORDERS_FULL
                events[c[C_EVENTS] - 1]["flags"] = _LAST
    return DONE


@kernel
def run(
    p: Any,
    add_cum: Any,
    cancel_rate: Any,
    size_of: Any,
    market_size_of: Any,
    regimes: Any,
    exp: Any,
    rng: Any,
    orders: Any,
    levels: Any,
    state: Any,
    matches: Any,
    pool: Any,
    c: Any,
    events: Any,
    base: int,
    mid: int,
    end_ts: int,
) -> int:
    """Fill `events` until `end_ts`; return a status. See `zero_intelligence.empty_market` for the arrays.

    `p` is laid out by ``P_*``, `c` by ``C_*``; `add_cum` holds cumulative rates by distance,
    `cancel_rate` a rate by distance, `size_of` and `market_size_of` lots to draw from, `exp` quantiles;
    `pool` is ``(3, n + 1)``: live rows, their places among these, a stack of free rows. `base` is the
    price of ladder row 0 and `mid` the ladder row of the first best ask.
    """
    n_dist = len(add_cum)
    far = len(cancel_rate) - 1
    add_total = add_cum[n_dist - 1]
    cancel_max = np.int64(0)
    for d in range(far + 1):
        cancel_max = max(cancel_max, cancel_rate[d])
    cancel_max *= 2  # room for the tilt of cancellations at the touch
    last_px = len(levels) - 1
    if c[C_REF_ASK] == 0:  # the first call
        c[C_REF_BID], c[C_REF_ASK], c[C_MID2] = mid - 1, mid, 2 * mid - 1
        c[C_NEXT_DRIFT] = c[C_TS] + _DRIFT_NS
        c[C_NEXT_REGIME] = c[C_TS] + p[P_DWELL_NS]
    ref_bid, ref_ask, old_mid2 = c[C_REF_BID], c[C_REF_ASK], c[C_MID2]
    burst, momentum, drift, regime = c[C_BURST], c[C_MOMENTUM], c[C_DRIFT], c[C_REGIME]
    next_drift, next_regime = c[C_NEXT_DRIFT], c[C_NEXT_REGIME]
    status = DONE

    while True:
        if c[C_EVENTS] + len(orders) > len(events):
            status = EVENTS_FULL
            break
        bid, ask = state[BEST_BID], state[BEST_ASK]
        if bid > 0:
            ref_bid = bid
        if ask < last_px:
            ref_ask = ask
        if ref_bid <= n_dist + 2 or ref_ask >= last_px - n_dist - 2:
            status = OUT_OF_WINDOW
            break
        if ref_bid >= ref_ask:  # one side is empty, the other moved over its last price
            if bid > 0:
                ref_ask = ref_bid + 1
            else:
                ref_bid = ref_ask - 1
        mid2 = ref_bid + ref_ask
        if mid2 != old_mid2:
            burst = min(burst + p[P_BURST], MAX_BURST)
            old_mid2 = mid2
        bid_qty = levels[bid]["qty"] if bid > 0 else np.int64(0)
        ask_qty = levels[ask]["qty"] if ask < last_px else np.int64(0)
        imb = ((bid_qty - ask_qty) * ONE) // max(bid_qty + ask_qty, 1)
        spread = ref_ask - ref_bid
        hidden = drift >> 8

        # -- when ------------------------------------------------------------------------------
        fill_rate = p[P_FILL] if spread > 1 else np.int64(0)
        market_rate = (p[P_MARKET] * regimes[regime, 1]) >> 10
        cancel_total = cancel_max * c[C_LIVE]
        total = 2 * add_total + fill_rate + market_rate + cancel_total
        ts = c[C_DUE]
        if ts == 0:
            speed = (regimes[regime, 0] * (ONE + burst)) >> 10
            ts = c[C_TS] + (exp[_below(rng, len(exp))] * _GAP) // max((total * speed) >> 10, 1) + 1
        if ts >= end_ts:
            c[C_DUE] = ts
            break
        gap = ts - c[C_TS]
        c[C_TS], c[C_DUE] = ts, 0
        burst = _decay(burst, gap, p[P_BURST_NS])
        momentum = _decay(momentum, gap, p[P_MOMENTUM_NS])
        while ts >= next_drift:
            # uniform steps and a linear pull: an Ornstein-Uhlenbeck process in integers (1/256 of a tilt)
            pull = (abs(drift) * p[P_DRIFT_DECAY]) >> 10
            drift += (pull if drift < 0 else -pull) + _below(rng, 2 * p[P_DRIFT] + 1) - p[P_DRIFT]
            next_drift += _DRIFT_NS
        if ts >= next_regime:
            step = 1 + _below(rng, len(regimes) - 1) if len(regimes) > 1 else 0
            regime = (regime + step) % len(regimes)
            next_regime = ts + ((exp[_below(rng, len(exp))] * p[P_DWELL_NS]) >> EXP_BITS)

        # -- what ------------------------------------------------------------------------------
        before = c[C_EVENTS]
        u = _below(rng, total)
        starved = c[C_BIDS] < _MIN_ORDERS or c[C_ASKS] < _MIN_ORDERS
        if u >= 2 * add_total + fill_rate + market_rate and not starved:
            row = np.int64(pool[0, _below(rng, c[C_LIVE])])
            px = np.int64(orders[row]["px"])
            side = 1 if px <= bid else -1
            d = ref_ask - px if side > 0 else px - ref_bid
            rate = cancel_rate[min(d, far)]
            if px == bid or px == ask:
                rate = (rate * (ONE - ((side * (p[P_IMB_CANCEL] * imb)) >> 10))) >> 10
            if _below(rng, cancel_max) < rate:  # thinning: the others keep their order
                qty = np.int64(orders[row]["qty"])
                by = qty
                if qty > 1 and _below(rng, ONE) < p[P_PARTIAL]:
                    by = 1 + _below(rng, qty - 1)
                withdraw(events, orders, levels, state, pool, c, row, side, px + base, by)
                events[c[C_EVENTS] - 1]["flags"] = _LAST
            continue
        flags = _REST
        if u < 2 * add_total or starved:
            side = _side(rng, ((p[P_IMB_ADD] * imb) >> 10) + (hidden >> 1))
            if starved:
                side = 1 if c[C_BIDS] <= c[C_ASKS] else -1
            v = _below(rng, add_total)
            d = 1
            while add_cum[d - 1] <= v:
                d += 1
            px = ref_ask - d if side > 0 else ref_bid + d
            qty = size_of[_below(rng, len(size_of))]
        else:
            tilt = hidden + momentum
            if u < 2 * add_total + fill_rate:
                side = _side(rng, tilt + ((p[P_IMB_FILL] * imb) >> 10))
                px = ref_bid + 1 if side > 0 else ref_ask - 1
                qty = size_of[_below(rng, len(size_of))]
            else:
                side = _side(rng, tilt + ((p[P_IMB_MARKET] * imb) >> 10))
                px = ref_ask if side > 0 else ref_bid
                queue = ask_qty if side > 0 else bid_qty
                qty = max((market_size_of[_below(rng, len(market_size_of))] * regimes[regime, 2]) >> 10, 1)
                if queue > 0 and _below(rng, ONE) < p[P_SWEEP]:
                    qty = queue
                if _below(rng, ONE) >= p[P_REST]:
                    flags = np.int64(IOC)
                if qty >= queue:
                    momentum = min(max(momentum + side * p[P_MOMENTUM], -ONE), ONE)
        code = _send(events, orders, levels, state, matches, pool, c, base, side, px, qty, flags)
        if code < 0:
            status = ORDERS_FULL
            break
        if code > 0:
            burst = min(burst + p[P_BURST], MAX_BURST)
        if c[C_EVENTS] > before:
            events[c[C_EVENTS] - 1]["flags"] = _LAST
    c[C_REF_BID], c[C_REF_ASK], c[C_MID2] = ref_bid, ref_ask, old_mid2
    c[C_BURST], c[C_MOMENTUM], c[C_DRIFT], c[C_REGIME] = burst, momentum, drift, regime
    c[C_NEXT_DRIFT], c[C_NEXT_REGIME] = next_drift, next_regime
    return status
