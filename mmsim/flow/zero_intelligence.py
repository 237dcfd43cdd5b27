"""A zero-intelligence order flow whose rates know the book's imbalance, run through our own matching engine.

Nobody in it has a plan: limit orders arrive by distance from the opposite best price, resting orders
are cancelled one by one, market orders hit the other side. What makes it a market worth quoting in:

* **imbalance** tilts the side of market orders, of new quotes inside the spread and the cancellations
  at the touch, so the thinner side empties first and the imbalance predicts the mid;
* a **latent drift** of the aggressor side, mean-reverting over about a minute, that nobody can see;
* **momentum**: a queue emptied by trades tilts the next seconds the same way (adverse selection);
* **bursts**: trades and mid moves excite all rates for about a second;
* **volatility regimes**: a slow Markov chain multiplies rates, market-order rates and their sizes.

Everything is an integer: rates in micro-events per second, probabilities in 1/1024, time in ns,
random numbers from a 64-bit xorshift, exponential gaps from a rounded quantile table. No floating-point
result and no function of a mathematics library steers anything inside the kernel, so equal
parameters give equal bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.book.kernels import (
    BEST_ASK,
    BEST_BID,
    IOC,
    MATCH,
    N_MATCHES,
    cancel,
    empty_book,
    reduce,
    submit,
)
from mmsim.errors import ConfigError, DataError
from mmsim.types import EVENT

# `EventKind` and `EventFlag` as plain integers, which is what kernels take
_ADD, _REDUCE, _DELETE, _EXECUTE, _LAST = 1, 2, 3, 4, 1

_ONE = 1024  # 1.0 of probabilities, tilts and factors
_EXP_BITS, _EXP_SIZE = 16, 4096
_GAP = 10**15 // (1 << _EXP_BITS)  # (ns per s) x (micro-events per event) / scale of the table
_DRIFT_NS = 100_000_000  # step of the latent drift
_MAX_TILT = 900  # a side's share stays between 6 % and 94 %
_MIN_ORDERS = 16  # a side that holds fewer gets the next limit order

_U13, _U7, _U17, _U32 = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(32)

(
    _P_MARKET,
    _P_FILL,
    _P_SWEEP,
    _P_REST,
    _P_PARTIAL,
    _P_IMB_MARKET,
    _P_IMB_FILL,
    _P_IMB_CANCEL,
    _P_IMB_ADD,
    _P_DRIFT,
    _P_DRIFT_DECAY,
    _P_MOMENTUM,
    _P_MOMENTUM_NS,
    _P_BURST,
    _P_BURST_NS,
    _P_DWELL_NS,
    _N_PARAMS,
) = range(17)

_C_TS, _C_EVENTS, _C_LIVE, _C_FREE, _C_BIDS, _C_ASKS, _C_HIGH, _N_COUNTERS = range(8)

# What `_run` returns
_DONE, _EVENTS_FULL, _ORDERS_FULL, _OUT_OF_WINDOW = 0, 1, 2, 3


@dataclass(frozen=True)
class Flow:
    """Parameters of one simulated market; all integers.

    Rates are in micro-events per second (1_000_000 = one a second), shares and factors in 1/1024.

    Parameters
    ----------
    start_px : int
        First best ask, ticks.
    add_rates : sequence of int
        Limit orders a side at 1, 2, ... ticks from the opposite best price.
    cancel_rates : sequence of int
        Cancellation rate of one resting order by the same distance; the last holds for all farther.
    market_rate : int
        Market orders, both sides together.
    fill_rate : int
        New quotes inside the spread while it is wider than one tick.
    sizes, size_weights : sequence of int
        Lots of a limit order and how often each occurs.
    market_sizes, market_weights : sequence of int
        The same of market orders.
    sweep : int
        Share of market orders that take exactly the whole best queue.
    rest : int
        Share of market orders whose remainder rests at their price.
    partial : int
        Share of cancellations that only shrink the order.
    imb_market, imb_fill, imb_cancel, imb_add : int
        Tilt of the side at full imbalance: of market orders, of quotes inside the spread, of
        cancellations at the touch, of limit orders.
    drift, drift_decay : int
        Step of the latent drift every 100 ms and the inverse of its relaxation time (in 1/1024 a step).
    momentum, momentum_ns : int
        Tilt added when a queue is emptied by a trade, and its decay time.
    burst, burst_ns : int
        Factor added to all rates by a trade or mid move, and its decay time.
    regimes : sequence of (int, int, int)
        Factors of all rates, of the market-order rate on top, and of market-order sizes.
    dwell_ns : int
        Mean time in one regime.
    """

    start_px: int
    add_rates: Sequence[int]
    cancel_rates: Sequence[int]
    market_rate: int
    fill_rate: int
    sizes: Sequence[int]
    size_weights: Sequence[int]
    market_sizes: Sequence[int]
    market_weights: Sequence[int]
    sweep: int
    rest: int
    partial: int
    imb_market: int
    imb_fill: int
    imb_cancel: int
    imb_add: int
    drift: int
    drift_decay: int
    momentum: int
    momentum_ns: int
    burst: int
    burst_ns: int
    regimes: Sequence[Sequence[int]]
    dwell_ns: int

    def vector(self) -> npt.NDArray[np.int64]:
        """Return the scalar parameters as the kernel takes them, ``(_N_PARAMS,)``."""
        return np.array(
            [
                self.market_rate,
                self.fill_rate,
                self.sweep,
                self.rest,
                self.partial,
                self.imb_market,
                self.imb_fill,
                self.imb_cancel,
                self.imb_add,
                self.drift,
                self.drift_decay,
                self.momentum,
                self.momentum_ns,
                self.burst,
                self.burst_ns,
                self.dwell_ns,
            ],
            np.int64,
        )


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
def _emit(events: Any, c: Any, kind: int, row: int, side: int, px: int, qty: int) -> None:
    n = c[_C_EVENTS]
    events[n]["ts"] = c[_C_TS]
    events[n]["px"] = px
    events[n]["qty"] = qty
    events[n]["oid"] = row - 1
    events[n]["kind"] = kind
    events[n]["side"] = side
    c[_C_EVENTS] = n + 1


@kernel
def _forget(pool: Any, c: Any, row: int, side: int) -> None:
    # pool[0]: live rows, pool[1]: their place there, pool[2]: stack of free rows
    last = pool[0, c[_C_LIVE] - 1]
    at = pool[1, row]
    pool[0, at] = last
    pool[1, last] = at
    c[_C_LIVE] -= 1
    pool[2, c[_C_FREE]] = row
    c[_C_FREE] += 1
    c[_C_BIDS if side > 0 else _C_ASKS] -= 1


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
    if c[_C_FREE] == 0:
        return -1
    row = np.int64(pool[2, c[_C_FREE] - 1])
    state[N_MATCHES] = 0
    submit(orders, levels, state, matches, row, side, px, qty, flags)
    n = state[N_MATCHES]
    for i in range(n):
        maker = np.int64(matches[i]["maker"])
        at, done = np.int64(matches[i]["px"]), np.int64(matches[i]["qty"])
        _emit(events, c, _EXECUTE, maker, -side, at + base, done)
        if orders[maker]["qty"] == 0:
            # below the row of the order that took it, which is still on top of the stack
            c[_C_FREE] -= 1
            _forget(pool, c, maker, -side)
            top = c[_C_FREE]
            pool[2, top] = row
            c[_C_FREE] = top + 1
    if orders[row]["qty"] != 0:
        c[_C_FREE] -= 1
        pool[0, c[_C_LIVE]] = row
        pool[1, row] = c[_C_LIVE]
        c[_C_LIVE] += 1
        c[_C_BIDS if side > 0 else _C_ASKS] += 1
        c[_C_HIGH] = max(c[_C_HIGH], row)
        _emit(events, c, _ADD, row, side, px + base, np.int64(orders[row]["qty"]))
    return n


@kernel
def _withdraw(
    events: Any, orders: Any, levels: Any, state: Any, pool: Any, c: Any, row: int, side: int, px: int, by: int
) -> None:
    if orders[row]["qty"] == by:
        cancel(orders, levels, state, row)
        _emit(events, c, _DELETE, row, side, px, by)
        _forget(pool, c, row, side)
    else:
        reduce(orders, levels, state, row, by)
        _emit(events, c, _REDUCE, row, side, px, by)


@kernel
def _side(rng: Any, tilt: int) -> int:
    tilt = min(max(tilt, -_MAX_TILT), _MAX_TILT)
    return 1 if _below(rng, 2 * _ONE) < _ONE + tilt else -1


@kernel
def _decay(x: int, dt: int, tau: int) -> int:
    # linear over the gap, which is short against `tau` whenever it matters; towards zero on both sides
    if dt >= tau:
        return 0
    part = np.int64((abs(x) * (dt >> 10)) // (tau >> 10))
    return x - part if x > 0 else x + part


@kernel
def _run(
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
    n_dist = len(add_cum)
    far = len(cancel_rate) - 1
    add_total = add_cum[n_dist - 1]
    cancel_max = np.int64(0)
    for d in range(far + 1):
        cancel_max = max(cancel_max, cancel_rate[d])
    cancel_max *= 2  # room for the tilt of cancellations at the touch
    last_px = len(levels) - 1
    ref_bid, ref_ask = np.int64(mid - 1), np.int64(mid)
    old_mid2 = ref_bid + ref_ask
    burst, momentum, drift = np.int64(0), np.int64(0), np.int64(0)
    regime = np.int64(0)
    next_drift = c[_C_TS] + _DRIFT_NS
    next_regime = c[_C_TS] + p[_P_DWELL_NS]

    # The book before the first second: every level at its equilibrium of arrivals and cancellations
    for d in range(1, n_dist + 1):
        rate = add_cum[d - 1] - (add_cum[d - 2] if d > 1 else 0)
        for _ in range(rate // cancel_rate[min(d, far)]):
            for side in (1, -1):
                px = ref_ask - d if side > 0 else ref_bid + d
                qty = size_of[_below(rng, len(size_of))]
                _send(events, orders, levels, state, matches, pool, c, base, side, px, qty, 0)
                events[c[_C_EVENTS] - 1]["flags"] = _LAST

    while True:
        if c[_C_EVENTS] + len(orders) > len(events):
            return _EVENTS_FULL
        bid, ask = state[BEST_BID], state[BEST_ASK]
        if bid > 0:
            ref_bid = bid
        if ask < last_px:
            ref_ask = ask
        if ref_bid <= n_dist + 2 or ref_ask >= last_px - n_dist - 2:
            return _OUT_OF_WINDOW
        if ref_bid >= ref_ask:  # one side is empty, the other moved over its last price
            if bid > 0:
                ref_ask = ref_bid + 1
            else:
                ref_bid = ref_ask - 1
        mid2 = ref_bid + ref_ask
        if mid2 != old_mid2:
            burst = min(burst + p[_P_BURST], 8 * _ONE)
            old_mid2 = mid2
        bid_qty = levels[bid]["qty"] if bid > 0 else np.int64(0)
        ask_qty = levels[ask]["qty"] if ask < last_px else np.int64(0)
        imb = ((bid_qty - ask_qty) * _ONE) // max(bid_qty + ask_qty, 1)
        spread = ref_ask - ref_bid
        hidden = drift >> 8

        # -- when ------------------------------------------------------------------------------
        fill_rate = p[_P_FILL] if spread > 1 else np.int64(0)
        market_rate = (p[_P_MARKET] * regimes[regime, 1]) >> 10
        cancel_total = cancel_max * c[_C_LIVE]
        total = 2 * add_total + fill_rate + market_rate + cancel_total
        speed = (regimes[regime, 0] * (_ONE + burst)) >> 10
        gap = (exp[_below(rng, len(exp))] * _GAP) // max((total * speed) >> 10, 1) + 1
        ts = c[_C_TS] + gap
        if ts >= end_ts:
            return _DONE
        c[_C_TS] = ts
        burst = _decay(burst, gap, p[_P_BURST_NS])
        momentum = _decay(momentum, gap, p[_P_MOMENTUM_NS])
        while ts >= next_drift:
            # uniform steps and a linear pull: an Ornstein-Uhlenbeck process in integers (1/256 of a tilt)
            pull = (abs(drift) * p[_P_DRIFT_DECAY]) >> 10
            drift += (pull if drift < 0 else -pull) + _below(rng, 2 * p[_P_DRIFT] + 1) - p[_P_DRIFT]
            next_drift += _DRIFT_NS
        if ts >= next_regime:
            step = 1 + _below(rng, len(regimes) - 1) if len(regimes) > 1 else 0
            regime = (regime + step) % len(regimes)
            next_regime = ts + ((exp[_below(rng, len(exp))] * p[_P_DWELL_NS]) >> _EXP_BITS)

        # -- what ------------------------------------------------------------------------------
        before = c[_C_EVENTS]
        u = _below(rng, total)
        starved = c[_C_BIDS] < _MIN_ORDERS or c[_C_ASKS] < _MIN_ORDERS
        if u >= 2 * add_total + fill_rate + market_rate and not starved:
            row = np.int64(pool[0, _below(rng, c[_C_LIVE])])
            px = np.int64(orders[row]["px"])
            side = 1 if px <= bid else -1
            d = ref_ask - px if side > 0 else px - ref_bid
            rate = cancel_rate[min(d, far)]
            if px == bid or px == ask:
                rate = (rate * (_ONE - ((side * (p[_P_IMB_CANCEL] * imb)) >> 10))) >> 10
            if _below(rng, cancel_max) < rate:  # thinning: the others keep their order
                qty = np.int64(orders[row]["qty"])
                by = qty
                if qty > 1 and _below(rng, _ONE) < p[_P_PARTIAL]:
                    by = 1 + _below(rng, qty - 1)
                _withdraw(events, orders, levels, state, pool, c, row, side, px + base, by)
                events[c[_C_EVENTS] - 1]["flags"] = _LAST
            continue
        flags = 0
        if u < 2 * add_total or starved:
            side = _side(rng, ((p[_P_IMB_ADD] * imb) >> 10) + (hidden >> 1))
            if starved:
                side = 1 if c[_C_BIDS] <= c[_C_ASKS] else -1
            v = _below(rng, add_total)
            d = 1
            while add_cum[d - 1] <= v:
                d += 1
            px = ref_ask - d if side > 0 else ref_bid + d
            qty = size_of[_below(rng, len(size_of))]
        else:
            tilt = hidden + momentum
            if u < 2 * add_total + fill_rate:
                side = _side(rng, tilt + ((p[_P_IMB_FILL] * imb) >> 10))
                px = ref_bid + 1 if side > 0 else ref_ask - 1
                qty = size_of[_below(rng, len(size_of))]
            else:
                side = _side(rng, tilt + ((p[_P_IMB_MARKET] * imb) >> 10))
                px = ref_ask if side > 0 else ref_bid
                queue = ask_qty if side > 0 else bid_qty
                qty = max((market_size_of[_below(rng, len(market_size_of))] * regimes[regime, 2]) >> 10, 1)
                if queue > 0 and _below(rng, _ONE) < p[_P_SWEEP]:
                    qty = queue
                if _below(rng, _ONE) >= p[_P_REST]:
                    flags = IOC
                if qty >= queue:
                    momentum = min(max(momentum + side * p[_P_MOMENTUM], -_ONE), _ONE)
        code = _send(events, orders, levels, state, matches, pool, c, base, side, px, qty, flags)
        if code < 0:
            return _ORDERS_FULL
        if code > 0:
            burst = min(burst + p[_P_BURST], 8 * _ONE)
        if c[_C_EVENTS] > before:
            events[c[_C_EVENTS] - 1]["flags"] = _LAST


def exponential_table() -> npt.NDArray[np.int64]:
    """Return the ``(4096,)`` mid-quantiles of the unit exponential law, in 1/65536.

    The only logarithm of the generator; it is rounded far from any tie, so every platform agrees.
    """
    n = _EXP_SIZE
    return np.array(
        [round(-math.log((2 * n - 2 * i - 1) / (2 * n)) * (1 << _EXP_BITS)) for i in range(n)], np.int64
    )


def seed_state(seed: int) -> npt.NDArray[np.uint64]:
    """Return the generator's state for `seed`: one step of splitmix64, never zero."""
    mask = (1 << 64) - 1
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return np.array([(z ^ (z >> 31)) or 1], np.uint64)


def _expand(values: Sequence[int], weights: Sequence[int], name: str) -> npt.NDArray[np.int64]:
    if len(values) != len(weights) or not values:
        raise ConfigError(f"flow.{name}: expected as many weights as sizes, was {len(weights)} for {len(values)}")
    if min(values) < 1 or min(weights) < 1:
        raise ConfigError(f"flow.{name}: expected sizes and weights >= 1")
    return np.repeat(np.array(values, np.int64), weights)


def generate_events(
    flow: Flow,
    *,
    seed: int,
    start_ts: int,
    end_ts: int,
    start_px: int | None = None,
    max_orders: int = 8192,
    window: int = 8192,
) -> tuple[npt.NDArray[np.void], int, int]:
    """Simulate one segment of the market from an empty book.

    Parameters
    ----------
    flow : Flow
    seed : int
        Equal seeds give equal bytes.
    start_ts, end_ts : int
        First and last moment, ns since the epoch. All orders of the initial book are stamped `start_ts`.
    start_px : int, optional
        First best ask, ticks; default ``flow.start_px``.
    max_orders : int
        Orders that may rest at once.
    window : int
        Prices, ticks, around the first one, that the market may visit.

    Returns
    -------
    events : (n,) EVENT array
        L3 rows; the last row of each message carries the LAST flag.
    n_slots : int
        Largest order slot + 1.
    close_px : int
        Best ask at the end, ticks.

    Raises
    ------
    DataError
        If the price leaves the window or more orders rest than `max_orders`: the parameters explode.
    """
    base = (flow.start_px if start_px is None else start_px) - window // 2
    sizes = _expand(flow.sizes, flow.size_weights, "sizes")
    market_sizes = _expand(flow.market_sizes, flow.market_weights, "market_sizes")
    if min(flow.add_rates) < 0 or min(flow.cancel_rates) < 1 or flow.add_rates[0] < 1:
        raise ConfigError("flow: expected add_rates >= 0 (the first > 0) and cancel_rates >= 1")
    add_cum = np.cumsum(np.array(flow.add_rates, np.int64))
    # index 0 is the touch crossed by nobody; distance d reads entry d
    cancel_rate = np.array([flow.cancel_rates[0], *flow.cancel_rates], np.int64)
    regimes = np.array(flow.regimes, np.int64)
    capacity = 4 * max_orders + int(12 * (end_ts - start_ts) / 1e9)
    while True:
        orders, levels, state = empty_book(max_orders, window)
        matches = np.zeros(max_orders, MATCH)
        pool = np.zeros((3, max_orders + 1), np.int64)
        pool[2, :max_orders] = np.arange(max_orders, 0, -1)
        counters = np.zeros(_N_COUNTERS, np.int64)
        counters[_C_TS], counters[_C_FREE] = start_ts, max_orders
        events = np.zeros(capacity, EVENT)
        code = _run(
            flow.vector(), add_cum, cancel_rate, sizes, market_sizes, regimes, exponential_table(),
            seed_state(seed), orders, levels, state, matches, pool, counters, events,
            base, window // 2, end_ts,
        )  # fmt: skip
        if code == _EVENTS_FULL:
            capacity *= 2  # the same seed gives the same rows again, and then the rest
            continue
        if code != _DONE:
            what = "resting orders" if code == _ORDERS_FULL else "prices"
            limit = max_orders if code == _ORDERS_FULL else window
            raise DataError(f"simulated flow: expected at most {limit} {what}, was more; check the [flow] rates")
        close_px = int(min(state[BEST_ASK], window)) + base
        return events[: counters[_C_EVENTS]].copy(), int(counters[_C_HIGH]), close_px
