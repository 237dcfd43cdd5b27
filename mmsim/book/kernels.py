"""The matching engine: price-time priority over two flat arrays, as free functions.

``levels`` is one dense ladder for both sides (a price cannot hold bids and asks at once), ``orders``
one row an order, linked into first-in first-out lists by row number. Row 0 of ``orders`` means "none";
rows ``0`` and ``-1`` of ``levels`` are sentinels, never empty, at which the search for the next best
price stops. Prices are ladder rows here (``px - base``, valid from 1 to ``len(levels) - 2``);
`mmsim.book.view.OrderBook` adds the base, grows the window and turns codes into `BookError`.

An order rests while its ``qty`` is positive; its side follows from its price (at or below the best
bid: a bid). Nothing here allocates, raises or keeps global state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import inline_kernel, kernel

ORDER = np.dtype(
    [
        ("px", "<i4"),  # ladder row
        ("qty", "<i4"),  # lots still open; 0: the row is free
        ("prev", "<u4"),  # next older order at the price, 0: none
        ("next", "<u4"),  # next younger order at the price, 0: none
    ]
)

LEVEL = np.dtype(
    [
        ("qty", "<i8"),  # lots in all
        ("head", "<u4"),  # oldest order, 0: none
        ("tail", "<u4"),  # youngest order, 0: none
    ]
)

REQUEST = np.dtype(
    [
        ("oid", "<u4"),  # the caller's order number, from 1 to len(orders) - 1
        ("px", "<i4"),  # ticks (LIMIT and REPLACE)
        ("qty", "<i4"),  # lots; of a REDUCE: by how many; not used by CANCEL
        ("verb", "u1"),
        ("side", "i1"),  # +1 buy, -1 sell (LIMIT and MARKET)
        ("flags", "<u2"),  # POST_ONLY or IOC
    ]
)

MATCH = np.dtype(
    [
        ("maker", "<u4"),  # the order that rested
        ("taker", "<u4"),  # the order that arrived
        ("px", "<i4"),  # the maker's price (ladder row in the kernels, ticks in results)
        ("qty", "<i4"),  # lots
    ]
)

LIMIT, MARKET, CANCEL, REDUCE, REPLACE = 1, 2, 3, 4, 5  # REQUEST.verb
POST_ONLY, IOC = 1, 2  # REQUEST.flags

# Status codes. Negative: the request was wrong and changed nothing.
DONE = 0
POST_ONLY_REJECT = 1  # would have traded on arrival; changed nothing
MATCHES_FULL = 2  # the report buffer is full; drain it and go on with what `REMAINING` says
BAD_VERB, BAD_PRICE, BAD_ORDER, BAD_QTY, BAD_SIDE = -1, -2, -3, -4, -5

BEST_BID, BEST_ASK, N_MATCHES, REMAINING, TAKER_SIDE, N_STATE = 0, 1, 2, 3, 4, 5  # layout of `state`
MAX_QTY = 2**31 - 1  # lots of one order


def empty_book(n_orders: int, n_levels: int) -> tuple[Any, Any, Any]:
    """Return ``(orders, levels, state)`` of an empty book.

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
def rest(orders: Any, levels: Any, state: Any, row: int, side: int, px: int, qty: int) -> None:
    """Append order `row` of `qty` lots to the back of the queue at ladder row `px`."""
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


@inline_kernel
def unlink(orders: Any, levels: Any, state: Any, row: int) -> None:
    """Take order `row` out of the book, wherever it stands in its queue."""
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


@inline_kernel
def take(
    orders: Any, levels: Any, state: Any, matches: Any, taker: int, side: int, limit: int, qty: int
) -> int:
    """Trade up to `qty` lots against the book at ladder row `limit` or better; return what is left.

    Makers are taken best price first, oldest first. Each gets one row in `matches` at
    ``state[N_MATCHES]``, which moves on. Stops early only when `matches` is full.
    """
    n = state[N_MATCHES]
    cap = len(matches)
    best = state[BEST_ASK] if side > 0 else state[BEST_BID]
    last = len(levels) - 1
    while qty > 0 and n < cap:
        if side > 0:
            if best > limit or best == last:
                break
        elif best < limit or best == 0:
            break
        maker = levels[best]["head"]
        open_qty = np.int64(orders[maker]["qty"])
        done = min(open_qty, qty)
        matches[n]["maker"] = maker
        matches[n]["taker"] = taker
        matches[n]["px"] = best
        matches[n]["qty"] = done
        n += 1
        qty -= done
        orders[maker]["qty"] = open_qty - done
        if done == open_qty:
            younger = orders[maker]["next"]
            levels[best]["head"] = younger
            if younger != 0:
                orders[younger]["prev"] = 0
            else:
                levels[best]["tail"] = 0
        left = levels[best]["qty"] - done
        levels[best]["qty"] = left
        if left == 0:
            step = 1 if side > 0 else -1
            while levels[best]["qty"] == 0:
                best += step
    state[N_MATCHES] = n
    if side > 0:
        state[BEST_ASK] = best
    else:
        state[BEST_BID] = best
    return qty


@inline_kernel
def _submit(
    orders: Any,
    levels: Any,
    state: Any,
    matches: Any,
    row: int,
    side: int,
    px: int,
    qty: int,
    flags: int,
) -> int:
    """Execute a limit order: trade what crosses, rest the remainder; return a status code.

    ``state[REMAINING]`` tells the lots that did not trade (they rest, unless IOC).
    """
    state[REMAINING] = qty
    if side != 1 and side != -1:
        return BAD_SIDE
    if qty <= 0 or qty > MAX_QTY:
        return BAD_QTY
    if px < 1 or px > len(levels) - 2:
        return BAD_PRICE
    if row < 1 or row >= len(orders) or orders[row]["qty"] != 0:
        return BAD_ORDER
    if px >= state[BEST_ASK] if side > 0 else px <= state[BEST_BID]:
        if flags & POST_ONLY:
            return POST_ONLY_REJECT
        state[TAKER_SIDE] = side
        qty = take(orders, levels, state, matches, row, side, px, qty)
        state[REMAINING] = qty
        if qty > 0 and state[N_MATCHES] == len(matches):
            if px >= state[BEST_ASK] if side > 0 else px <= state[BEST_BID]:
                return MATCHES_FULL
    if qty > 0 and not flags & IOC:
        rest(orders, levels, state, row, side, px, qty)
    return DONE


@inline_kernel
def _market(orders: Any, levels: Any, state: Any, matches: Any, taker: int, side: int, qty: int) -> int:
    """Execute a market order at any price; what finds no maker is dropped (``state[REMAINING]``)."""
    state[REMAINING] = qty
    if side != 1 and side != -1:
        return BAD_SIDE
    if qty <= 0 or qty > MAX_QTY:
        return BAD_QTY
    last = len(levels) - 1
    qty = take(orders, levels, state, matches, taker, side, last if side > 0 else 0, qty)
    state[REMAINING] = qty
    if qty > 0 and state[N_MATCHES] == len(matches):
        if state[BEST_ASK] != last if side > 0 else state[BEST_BID] != 0:
            return MATCHES_FULL
    return DONE


@inline_kernel
def _cancel(orders: Any, levels: Any, state: Any, row: int) -> int:
    """Remove a resting order; return a status code. ``state[REMAINING]``: the lots it still had."""
    if row < 1 or row >= len(orders) or orders[row]["qty"] == 0:
        return BAD_ORDER
    state[REMAINING] = orders[row]["qty"]
    unlink(orders, levels, state, row)
    return DONE


@inline_kernel
def _reduce(orders: Any, levels: Any, state: Any, row: int, by: int) -> int:
    """Shrink a resting order by `by` lots, in its place in the queue; return a status code."""
    if row < 1 or row >= len(orders) or orders[row]["qty"] == 0:
        return BAD_ORDER
    open_qty = np.int64(orders[row]["qty"])
    if by <= 0 or by > open_qty:
        return BAD_QTY
    state[REMAINING] = open_qty - by
    if by == open_qty:
        unlink(orders, levels, state, row)
    else:
        orders[row]["qty"] = open_qty - by
        levels[orders[row]["px"]]["qty"] -= by
    return DONE


@inline_kernel
def _replace(
    orders: Any, levels: Any, state: Any, matches: Any, row: int, px: int, qty: int, flags: int
) -> int:
    """Change a resting order to `px` and `qty`; return a status code.

    ===================  =====================================================================
    unchanged            keeps its place
    same price, smaller  shrinks, keeps its place
    same price, larger   leaves and joins the back of the queue
    other price          leaves and is submitted anew; trades if it crosses, or, with POST_ONLY,
                         is rejected and the old order stays as it was
    ===================  =====================================================================
    """
    if row < 1 or row >= len(orders) or orders[row]["qty"] == 0:
        return BAD_ORDER
    if qty <= 0 or qty > MAX_QTY:
        return BAD_QTY
    if px < 1 or px > len(levels) - 2:
        return BAD_PRICE
    old_px = np.int64(orders[row]["px"])
    old_qty = np.int64(orders[row]["qty"])
    state[REMAINING] = qty
    if px == old_px and qty <= old_qty:
        if qty < old_qty:
            orders[row]["qty"] = qty
            levels[px]["qty"] -= old_qty - qty
        return DONE
    side = 1 if old_px <= state[BEST_BID] else -1
    if flags & POST_ONLY and (px >= state[BEST_ASK] if side > 0 else px <= state[BEST_BID]):
        return POST_ONLY_REJECT
    unlink(orders, levels, state, row)
    return _submit(orders, levels, state, matches, row, side, px, qty, flags)


def _callable(fn: Any) -> Any:
    # The verb as a function of its own. `match_requests` has its own copy of the frequent ones: a call that
    # passes four arrays costs as much as the work (measured: 13 against 23 million requests a second).
    return kernel(getattr(fn, "py_func", fn))


submit = _callable(_submit)
market = _callable(_market)
cancel = _callable(_cancel)
reduce = _callable(_reduce)
replace = _callable(_replace)


@kernel
def match_requests(
    requests: Any,
    start: int,
    base: int,
    orders: Any,
    levels: Any,
    state: Any,
    matches: Any,
    statuses: Any,
) -> int:
    """Execute ``requests[start:]`` in order; return how far it came.

    Each request's status code goes to `statuses`; a wrong one changes nothing and does not stop the
    rest. A return short of ``len(requests)`` means that `matches` is full: drain it, set
    ``state[N_MATCHES]`` to 0 and call again from there; ``state[REMAINING]`` must be left alone.
    """
    for k in range(start, len(requests)):
        verb = requests[k]["verb"]
        row = np.int64(requests[k]["oid"])
        px = np.int64(requests[k]["px"]) - base
        qty = np.int64(requests[k]["qty"])
        side = np.int64(requests[k]["side"])
        flags = np.int64(requests[k]["flags"])
        if k == start and statuses[k] == MATCHES_FULL:
            qty = state[REMAINING]
            if verb == REPLACE:
                verb = LIMIT  # the old order has left already
                side = state[TAKER_SIDE]
        if verb == LIMIT:
            code = _submit(orders, levels, state, matches, row, side, px, qty, flags)
        elif verb == CANCEL:
            code = _cancel(orders, levels, state, row)
        elif verb == MARKET:
            code = _market(orders, levels, state, matches, row, side, qty)
        elif verb == REDUCE:
            code = reduce(orders, levels, state, row, qty)
        elif verb == REPLACE:
            code = replace(orders, levels, state, matches, row, px, qty, flags)
        else:
            code = BAD_VERB
        statuses[k] = code
        if code == MATCHES_FULL:
            return k
    return len(requests)
