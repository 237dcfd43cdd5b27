"""A zero-intelligence order flow whose rates know the book's imbalance, run through our own matching engine.

Nobody in it has a plan: limit orders arrive by distance from the opposite best price, resting orders
are cancelled one by one, market orders hit the other side. What makes it a market worth quoting in:

* **imbalance** tilts the side of market orders, of new quotes inside the spread and the cancellations
  at the touch, so the thinner side empties first and the imbalance predicts the mid;
* a **latent drift** of the aggressor side, mean-reverting over about a minute, that nobody can see;
* **momentum**: a queue emptied by trades tilts the next seconds the same way (adverse selection);
* **bursts**: trades and mid moves excite all rates for about a second;
* **volatility regimes**: a slow Markov chain multiplies rates, market-order rates and their sizes.

The kernel computes in integers alone, so equal parameters give equal bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import records
from mmsim.book.layout import MATCH, REQUEST
from mmsim.book.memory import Memory
from mmsim.errors import ConfigError, DataError
from mmsim.flow import arrivals as k
from mmsim.types import EVENT

_EXP_SIZE = 4096
MAX_ORDERS = 8192  # orders of the flow that may rest at once
WINDOW = 8192  # prices, ticks, around the first one, that the market may visit


@dataclass(frozen=True)
class Flow:
    """Parameters of one simulated market; all integers.

    Rates are in micro-events per second (1_000_000 = one per second), shares and factors in 1/1024.

    Parameters
    ----------
    start_px : int
        First best ask, ticks.
    add_rates : sequence of int
        Limit orders per side at 1, 2, ... ticks from the opposite best price.
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
        Step of the latent drift every 100 ms and the inverse of its relaxation time (in 1/1024 per step).
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


def exponential_table() -> npt.NDArray[np.int64]:
    """Return the ``(4096,)`` mid-quantiles of the unit exponential law, in 1/65536.

    The only logarithm of the generator; it is rounded far from any tie, so every platform agrees.
    """
    n = _EXP_SIZE
    return np.array(
        [round(-math.log((2 * n - 2 * i - 1) / (2 * n)) * (1 << k.EXP_BITS)) for i in range(n)], np.int64
    )


def seed_state(seed: int) -> int:
    """Return the state of the random numbers for `seed`: one step of splitmix64, never zero."""
    mask = (1 << 64) - 1
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) or 1


def _expand(values: Sequence[int], weights: Sequence[int], name: str) -> npt.NDArray[np.int64]:
    if len(values) != len(weights) or not values:
        raise ConfigError(
            f"flow.{name}: expected as many weights as sizes, was {len(weights)} for {len(values)}"
        )
    if min(values) < 1 or min(weights) < 1:
        raise ConfigError(f"flow.{name}: expected sizes and weights >= 1")
    return np.repeat(np.array(values, np.int64), weights)


def tables(flow: Flow, max_orders: int) -> k.FlowTables:
    """Return what the kernels read of `flow`.

    Raises
    ------
    ConfigError
        For sizes, weights or rates that are not possible.
    """
    sizes = _expand(flow.sizes, flow.size_weights, "sizes")
    market_sizes = _expand(flow.market_sizes, flow.market_weights, "market_sizes")
    if min(flow.add_rates) < 0 or min(flow.cancel_rates) < 1 or flow.add_rates[0] < 1:
        raise ConfigError("flow: expected add_rates >= 0 (the first > 0) and cancel_rates >= 1")
    add_cum = np.cumsum(np.array(flow.add_rates, np.int64))
    # index 0 is the touch crossed by nobody; distance d reads entry d
    cancel_rate = np.array([flow.cancel_rates[0], *flow.cancel_rates], np.int64)
    regimes = np.array(flow.regimes, np.int64)
    # the kernel draws events by (32 random bits) x (sum of rates), which must fit 63 bits
    fastest = 2 * int(cancel_rate.max()) * max_orders + 2 * int(add_cum[-1]) + flow.fill_rate
    if fastest + flow.market_rate * int(regimes[:, 1].max()) // int(k.ONE) >= 2**31:
        raise ConfigError(
            f"flow: expected rates that add up to less than {2**31} micro-events/s with {max_orders} orders"
        )
    rates = np.array([tuple(getattr(flow, name) for name in k.RATES.names or ())], k.RATES)
    return k.FlowTables(
        records(rates), add_cum, cancel_rate, sizes, market_sizes, regimes, exponential_table()
    )


class Market:
    """A market in which nothing has happened, or a copy of one.

    Parameters
    ----------
    seed, start_ts, max_orders, window : int
        As of `generate_events`.
    first_ask : int
        Ticks.
    own : int
        Orders that an agent may have in the book besides those of the flow.
    """

    def __init__(
        self,
        seed: int,
        start_ts: int,
        first_ask: int,
        *,
        max_orders: int = MAX_ORDERS,
        window: int = WINDOW,
        own: int = 0,
    ) -> None:
        self.memory = Memory(max_orders + own, window, first_ask - window // 2)
        slots = records(np.zeros(max_orders + 1, k.SLOT))
        slots["free"][:max_orders] = np.arange(max_orders, 0, -1)
        self.arrays = k.MarketArrays(
            records(np.zeros(1, k.FLOW_STATE)),
            slots,
            self.memory.handle,
            records(np.zeros(1, REQUEST)),
            np.zeros(1, np.int8),
            records(np.zeros(max_orders + own + 2, MATCH)),
        )
        state = self.state
        state["random"], state["ts"] = seed_state(seed), start_ts
        state["n_free"], state["first_ask"] = max_orders, first_ask

    @property
    def state(self) -> Any:
        """The flow's state, one FLOW_STATE record."""
        return self.arrays.state[0]

    def copy(self) -> Market:
        """Return an equal market."""
        other = Market.__new__(Market)
        other.memory = self.memory.copy()
        arrays = {
            name: getattr(self.arrays, name).copy()
            for name in ("state", "slots", "request", "status", "matches")
        }
        other.arrays = k.MarketArrays(handle=other.memory.handle, **arrays)
        return other


def check(code: int, max_orders: int = MAX_ORDERS, window: int = WINDOW) -> None:
    """Raise `DataError` for a status of the kernel that ends the market."""
    if code in (k.ORDERS_FULL, k.OUT_OF_WINDOW):
        what = "resting orders" if code == k.ORDERS_FULL else "prices"
        limit = max_orders if code == k.ORDERS_FULL else window
        raise DataError(f"simulated flow: expected at most {limit} {what}, was more; check the [flow] rates")


def generate_events(
    flow: Flow,
    *,
    seed: int,
    start_ts: int,
    end_ts: int,
    start_px: int | None = None,
    max_orders: int = MAX_ORDERS,
    window: int = WINDOW,
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
    first_ask = flow.start_px if start_px is None else start_px
    flow_tables = tables(flow, max_orders)
    capacity = 4 * max_orders + int(12 * (end_ts - start_ts) / 1e9)
    while True:
        market = Market(seed, start_ts, first_ask, max_orders=max_orders, window=window)
        events = np.zeros(capacity, EVENT)
        code = k.open_market(flow_tables, market.arrays, records(events))
        if code == k.DONE:
            code = k.run(flow_tables, market.arrays, records(events), end_ts)
        if code == k.EVENTS_FULL:
            capacity *= 2  # the same seed gives the same rows again, and then the rest
            continue
        check(code, max_orders, window)
        close_px = int(min(market.memory.state.best_ask, first_ask - window // 2 + window))
        return events[: market.state["n_events"]].copy(), int(market.state["high"]), close_px
