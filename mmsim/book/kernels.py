"""What compiled code of other packages uses: the layout of requests and matches, and a bare ladder.

The ladder is price-time priority over two flat arrays and nothing else: no order types, no ids, no checks,
orders named by their row. `mmsim.flow` generates markets with it, one call an order; the engine proper is
`mmsim.book.engine`. ``levels`` is one dense array for both sides (a price cannot hold bids and asks at
once), ``orders`` one row an order, linked into first-in first-out lists by row number. Row 0 of ``orders``
means "none"; rows ``0`` and ``-1`` of ``levels`` are never empty: the search for the next best price stops
there. An order rests while its ``qty`` is positive. Prices are ladder rows, 1 to ``len(levels) - 2``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import inline_kernel, kernel
from mmsim.book.layout import (
    CANCEL,
    FOK,
    IOC,
    LEVEL,
    LIMIT,
    MARKET,
    MATCH,
    ORDER,
    POST_ONLY,
    REDUCE,
    REPLACE,
    REQUEST,
    SLIDE,
    STOP,
    STOP_LIMIT,
    STP_BOTH,
    STP_INCOMING,
    STP_RESTING,
)

__all__ = [
    "BEST_ASK",
    "BEST_BID",
    "CANCEL",
    "FOK",
    "IOC",
    "LEVEL",
    "LIMIT",
    "MARKET",
    "MATCH",
    "N_MATCHES",
    "ORDER",
    "POST_ONLY",
    "REDUCE",
    "REPLACE",
    "REQUEST",
    "SLIDE",
    "STOP",
    "STOP_LIMIT",
    "STP_BOTH",
    "STP_INCOMING",
    "STP_RESTING",
    "cancel",
    "empty_book",
    "reduce",
    "submit",
]

BEST_BID, BEST_ASK, N_MATCHES, N_STATE = 0, 1, 2, 3  # layout of `state`


def empty_book(n_orders: int, n_levels: int) -> tuple[Any, Any, Any]:
    """Return ``(orders, levels, state)`` of an empty ladder.

    Parameters
    ----------
    n_orders : int
        Orders that may rest at once.
    n_levels : int
        Usable prices, ladder rows 1 to `n_levels`.

    Returns
    -------
    orders : ndarray of ORDER, shape (n_orders + 1,)
    levels : ndarray of LEVEL, shape (n_levels + 2,)
    state : ndarray of int64, shape (N_STATE,)
    """
    levels = np.zeros(n_levels + 2, LEVEL)
    levels["qty"][0] = 1
    levels["qty"][-1] = 1
    state = np.zeros(N_STATE, np.int64)
    state[BEST_ASK] = n_levels + 1
    return np.zeros(n_orders + 1, ORDER), levels, state


@inline_kernel
def _rest(orders: Any, levels: Any, state: Any, row: int, side: int, px: int, qty: int) -> None:
    tail = levels[px]["tail"]
    orders[row]["px"] = px
    orders[row]["qty"] = qty
    orders[row]["prev"] = tail
    orders[row]["next"] = 0
    if tail != 0:
        orders[tail]["next"] = row
    else:
        levels[px]["head"] = row
    levels[px]["tail"] = row
    levels[px]["qty"] += qty
    if side > 0:
        if px > state[BEST_BID]:
            state[BEST_BID] = px
    elif px < state[BEST_ASK]:
        state[BEST_ASK] = px


@kernel
def submit(
    orders: Any, levels: Any, state: Any, matches: Any, row: int, side: int, px: int, qty: int, flags: int
) -> None:
    """Trade what crosses, best price and oldest first, and rest the remainder in `row`, unless IOC.

    Each trade is one row of `matches` (which must have room) at ``state[N_MATCHES]``, which moves on; it
    names orders by row, prices by ladder row.
    """
    n = state[N_MATCHES]
    best = state[BEST_ASK] if side > 0 else state[BEST_BID]
    end = len(levels) - 1 if side > 0 else 0
    step = 1 if side > 0 else -1
    while qty > 0 and best != end and (best <= px if side > 0 else best >= px):
        maker = levels[best]["head"]
        shown = np.int64(orders[maker]["qty"])
        done = min(shown, qty)
        matches[n]["maker"] = maker
        matches[n]["taker"] = row
        matches[n]["px"] = best
        matches[n]["qty"] = done
        n += 1
        qty -= done
        orders[maker]["qty"] = shown - done
        if done == shown:
            younger = orders[maker]["next"]
            levels[best]["head"] = younger
            if younger != 0:
                orders[younger]["prev"] = 0
            else:
                levels[best]["tail"] = 0
        levels[best]["qty"] -= done
        while levels[best]["qty"] == 0:
            best += step
    state[N_MATCHES] = n
    if side > 0:
        state[BEST_ASK] = best
    else:
        state[BEST_BID] = best
    if qty > 0 and not flags & IOC:
        _rest(orders, levels, state, row, side, px, qty)


@kernel
def cancel(orders: Any, levels: Any, state: Any, row: int) -> None:
    """Take order `row` out of the ladder, wherever it stands in its queue."""
    px = np.int64(orders[row]["px"])
    older = orders[row]["prev"]
    younger = orders[row]["next"]
    if older != 0:
        orders[older]["next"] = younger
    else:
        levels[px]["head"] = younger
    if younger != 0:
        orders[younger]["prev"] = older
    else:
        levels[px]["tail"] = older
    left = levels[px]["qty"] - orders[row]["qty"]
    levels[px]["qty"] = left
    orders[row]["qty"] = 0
    if left == 0:
        if px == state[BEST_BID]:
            while levels[px]["qty"] == 0:
                px -= 1
            state[BEST_BID] = px
        elif px == state[BEST_ASK]:
            while levels[px]["qty"] == 0:
                px += 1
            state[BEST_ASK] = px


@kernel
def reduce(orders: Any, levels: Any, state: Any, row: int, by: int) -> None:  # noqa: ARG001 (as `cancel`)
    """Shrink order `row` by `by` lots, fewer than it has, in its place in the queue."""
    orders[row]["qty"] -= by
    levels[orders[row]["px"]]["qty"] -= by
