"""Hypothesis strategies: market events, small markets and observations. Needs the extra ``[dev]``."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from mmsim.agent import (
    A_PX,
    A_QTY,
    B_PX,
    B_QTY,
    O_ASK_PX,
    O_ASK_QTY,
    O_BID_PX,
    O_BID_QTY,
    O_INVENTORY,
    O_N_ASK,
    O_N_BID,
    O_TIME_LEFT,
    OBS_SIZE,
    Observation,
)
from mmsim.testing.markets import T0, Row, market_from, tiny_market
from mmsim.types import MAX_DEPTH, OWN_ORDER, EventFlag, EventKind, MarketData


@st.composite
def l3_rows(
    draw: st.DrawFn,
    *,
    n_prices: int = 12,
    max_qty: int = 5,
    min_size: int = 20,
    max_size: int = 80,
) -> list[Row]:
    """Draw valid L3 messages: slots are recycled, the book is never crossed, trades eat from the front.

    Prices are ``1000 .. 1000 + n_prices``; at least a millisecond between messages. Shrinks towards few, early
    orders, so that a counter-example is short.
    """
    queues: dict[int, list[list[int]]] = {1: [], -1: []}  # [oid, px, qty] in order of arrival
    rows: list[Row] = []
    free: list[int] = []
    used, ts = 0, T0

    def front(side: int) -> list[int]:
        best = max(o[1] for o in queues[1]) if side == 1 else min(o[1] for o in queues[-1])
        return next(o for o in queues[side] if o[1] == best)

    for _ in range(draw(st.integers(min_size, max_size))):
        ts += draw(st.integers(1, 400)) * 1_000_000
        side = draw(st.sampled_from((1, -1)))
        action = draw(st.sampled_from(("add", "add", "cancel", "reduce", "execute")))
        if action == "add" or not queues[side]:
            low = front(1)[1] + 1 if side == -1 and queues[1] else 1001 if side == -1 else 1000
            high = (
                front(-1)[1] - 1
                if side == 1 and queues[-1]
                else 999 + n_prices
                if side == 1
                else 1000 + n_prices
            )
            if low > high:
                continue
            px, qty = draw(st.integers(low, high)), draw(st.integers(1, max_qty))
            if free:
                oid = free.pop()
            else:
                oid, used = used, used + 1
            queues[side].append([oid, px, qty])
            rows.append((ts, px, qty, oid, EventKind.ADD, side, EventFlag.LAST))
            continue
        order = front(side) if action == "execute" else draw(st.sampled_from(queues[side]))
        oid, px, left = order
        qty = left if action == "cancel" else draw(st.integers(1, left))
        if action == "reduce" and qty == left:
            action = "cancel"
        order[2] -= qty
        if order[2] == 0:
            queues[side].remove(order)
            free.append(oid)
        kind = {"cancel": EventKind.DELETE, "reduce": EventKind.REDUCE, "execute": EventKind.EXECUTE}[action]
        rows.append((ts, px, qty, oid, kind, side, EventFlag.LAST))
    return rows


@st.composite
def l3_markets(draw: st.DrawFn, /, **options: Any) -> MarketData:
    """Draw markets of `l3_rows` with decisions every 500 ms; one-sided and empty books occur."""
    rows = draw(l3_rows(**options))
    if not rows:
        rows = [(T0, 1000, 1, 0, EventKind.ADD, 1, EventFlag.LAST)]
    return market_from(rows)


def tiny_markets() -> st.SearchStrategy[MarketData]:
    """Markets of `tiny_market`: three feeds, several spreads and unit sizes, ten seconds per segment."""
    return st.builds(
        tiny_market,
        st.integers(0, 1000),
        level=st.sampled_from(("L3", "L2", "snapshot")),
        seconds=st.just(10),
        spread_ticks=st.sampled_from((1, 2, 5, 13)),
        unit_lots=st.sampled_from((1, 100)),
    )


@st.composite
def observations(draw: st.DrawFn, *, max_inventory: int = 10) -> Observation:
    """Draw valid observations: two-sided book of 1 to 10 levels per side, any inventory within the limit."""
    raw = np.zeros(OBS_SIZE, np.int64)
    bid = draw(st.integers(100, 10_000))
    n_bid, n_ask = draw(st.integers(1, MAX_DEPTH)), draw(st.integers(1, MAX_DEPTH))
    ask = bid + draw(st.integers(1, 40))
    gaps = st.integers(1, 3)
    bids = bid - np.cumsum([0] + [draw(gaps) for _ in range(n_bid - 1)])
    asks = ask + np.cumsum([0] + [draw(gaps) for _ in range(n_ask - 1)])
    sizes = st.integers(1, 500)
    raw[B_PX : B_PX + n_bid], raw[A_PX : A_PX + n_ask] = bids, asks
    raw[B_QTY : B_QTY + n_bid] = [draw(sizes) for _ in range(n_bid)]
    raw[A_QTY : A_QTY + n_ask] = [draw(sizes) for _ in range(n_ask)]
    raw[[O_N_BID, O_N_ASK]] = n_bid, n_ask
    raw[[O_BID_PX, O_ASK_PX, O_BID_QTY, O_ASK_QTY]] = bid, ask, raw[B_QTY], raw[A_QTY]
    raw[O_INVENTORY] = draw(st.integers(-max_inventory, max_inventory))
    raw[O_TIME_LEFT] = draw(st.integers(0, 5_400)) * 1_000_000_000
    return Observation(raw, np.zeros(0, OWN_ORDER))
