"""Own resting orders: queue position, and every way a resting order is filled.

The tape is immutable; whether what own fills took is gone for the flow that follows is `SimConfig.impact`.
The fill rules, one function each (a bid is described; an ask is its mirror image), are specified in
docs/fills.md:

`own_trade`  an aggressive sale printed at ``px``. Own bids above ``px`` are filled first
             (`FillReason.THROUGH`); at ``px`` the trade first eats ``queue_ahead`` and what is left
             fills us (`FillReason.QUEUE`). On L3 the resting order that was hit tells exactly
             whether it stood ahead of us. The traded quantity bounds the sum of our fills.
`own_cross`  an ask arrives at or below our bid (`FillReason.CROSS`): on L3 it fills us for the
             arriving quantity, on level feeds completely (at most the level under ``impact = "consume"``),
             at our own price.
`own_level`  a level's total changed: what trades do not explain is cancellations, shared between
             ahead and behind by the queue model (`cancelled_ahead`).
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import hot_kernel, inline_kernel, kernel
from mmsim.sim.ladder import note_mid
from mmsim.sim.layout import (
    A_ID,
    A_KIND,
    A_PX,
    A_QTY,
    A_SIDE,
    A_TS,
    ACK_FILL,
    ACK_GONE,
    INF,
    INSIDE_STRICT,
    LEG_ACK,
    N_RING,
    OWN_DEAD,
    OWN_LIVE,
    Q_CUSTOM,
    Q_LOG,
    Q_POWER,
    Q_RISK_AVERSE,
    S_ACK_LAST,
    S_ACK_N,
    S_ACK_T,
    S_ASK_HI,
    S_ASK_LO,
    S_BA,
    S_BASE,
    S_BB,
    S_BID_HI,
    S_BID_LO,
    S_CASH,
    S_EPISODE,
    S_INSIDE,
    S_INV,
    S_MID2,
    S_NA,
    S_NB,
    S_NFILL,
    S_NLIVE,
    S_NOWN,
    S_QUEUE,
    S_QUEUE_FN,
    S_QUEUE_POWER,
    S_TRADED,
    W_AHEAD,
    W_BEHIND,
    W_DEC,
    W_ID,
    W_KNOWN,
    W_PEND,
    W_PX,
    W_QTY,
    W_SEQ,
    W_SIDE,
    W_STATE,
)
from mmsim.sim.user_call import call_share
from mmsim.sim.wire import wire
from mmsim.types import FillReason

QUEUE, THROUGH, CROSS = int(FillReason.QUEUE), int(FillReason.THROUGH), int(FillReason.CROSS)


@kernel
def push_ack(st, ack, lat, ts, kind, oid, side, px, qty):
    """Send a message to the agent; it arrives after the response latency, never before an earlier one."""
    i = st[S_ACK_T] & (N_RING - 1)
    st[S_ACK_LAST] = max(st[S_ACK_LAST], ts + wire(st, lat, LEG_ACK, ts, st[S_ACK_N]))
    ack[i, A_TS] = st[S_ACK_LAST]
    ack[i, A_KIND] = kind
    ack[i, A_ID] = oid
    ack[i, A_SIDE] = side
    ack[i, A_PX] = px
    ack[i, A_QTY] = qty
    st[S_ACK_T] += 1
    st[S_ACK_N] += 1


@kernel
def own_bounds(st, own):
    """Recompute the price range of resting own orders, which lets most events skip them."""
    bid_hi, bid_lo, ask_hi, ask_lo, live = -INF, INF, -INF, INF, 0
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] == OWN_LIVE:
            live += 1
            px = own[r, W_PX]
            if own[r, W_SIDE] > 0:
                bid_hi, bid_lo = max(bid_hi, px), min(bid_lo, px)
            else:
                ask_hi, ask_lo = max(ask_hi, px), min(ask_lo, px)
    st[S_BID_HI], st[S_BID_LO], st[S_ASK_HI], st[S_ASK_LO] = bid_hi, bid_lo, ask_hi, ask_lo
    st[S_NLIVE] = live


@kernel
def book_fill(st, fills, ts, order_id, side, px, qty, maker, reason, decision):
    """Write one fill row and move inventory and cash, all in integers."""
    note_mid(st)
    f = fills[st[S_NFILL]]
    f.ts = ts
    f.order_id = order_id
    f.mid2 = st[S_MID2]
    f.px = px
    f.qty = qty
    f.side = side
    f.maker = maker
    f.reason = reason
    f.episode = st[S_EPISODE] % 256
    f.decision = decision
    st[S_NFILL] += 1
    st[S_INV] += side * qty
    st[S_CASH] -= side * px * qty
    st[S_TRADED] += qty


@kernel
def own_fill(st, own, r, fills, ack, lat, ts, qty, reason):
    """Fill resting own order `r` for `qty` lots at its own price."""
    side, px = own[r, W_SIDE], own[r, W_PX]
    book_fill(st, fills, ts, own[r, W_ID], side, px, qty, 1, reason, own[r, W_DEC])
    own[r, W_QTY] -= qty
    push_ack(st, ack, lat, ts, ACK_FILL, own[r, W_ID], side, px, qty)
    if own[r, W_QTY] == 0:
        own[r, W_STATE] = OWN_DEAD
        push_ack(st, ack, lat, ts, ACK_GONE, own[r, W_ID], side, px, 0)
        own_bounds(st, own)


@hot_kernel
def best_own(st, own, side, px, strict, limit):
    """Return the own order on `side` first in price-time priority at `px` or better, or -1.

    `strict` = 1 wants strictly better than `px`; prices better than `limit` are passed over.
    """
    best = -1
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] != OWN_LIVE or own[r, W_SIDE] != side:
            continue
        gain = (own[r, W_PX] - px) * side
        if gain < strict or (own[r, W_PX] - limit) * side > 0:
            continue
        if best >= 0:
            lead = (own[r, W_PX] - own[best, W_PX]) * side
            if lead < 0 or (lead == 0 and own[r, W_ID] > own[best, W_ID]):
                continue
        best = r
    return best


@inline_kernel
def next_own_at(st, own, side, px, after_id):
    """Return the oldest own order at exactly `px` with an id above `after_id` or -1, and how many there are."""
    best, count = -1, 0
    for r in range(st[S_NOWN]):
        if own[r, W_PX] != px or own[r, W_SIDE] != side or own[r, W_STATE] != OWN_LIVE:
            continue
        if own[r, W_ID] > after_id:
            count += 1
            if best < 0 or own[r, W_ID] < own[best, W_ID]:
                best = r
    return best, count


@inline_kernel
def market_best(st, side):
    """Return the market's best price on `side`; beyond every price if that side is empty."""
    if side > 0:
        return st[S_BASE] + st[S_BB] if st[S_NB] > 0 else np.int64(-INF)
    return st[S_BASE] + st[S_BA] if st[S_NA] > 0 else np.int64(INF)


@kernel
def own_inside(st, own, fills, ack, lat, ts, side, qty):
    """Fill own orders on `side` inside the spread from any volume traded (`INSIDE_ANY`)."""
    best = market_best(st, side)
    while qty > 0:
        r = best_own(st, own, side, best, 1, side * INF)
        if r < 0:
            break
        take = min(qty, own[r, W_QTY])
        own_fill(st, own, r, fills, ack, lat, ts, take, THROUGH)
        qty -= take


@hot_kernel
def own_trade(st, own, fills, ack, lat, ts, side, px, qty, order_seq, exact):
    """Apply a trade of `qty` lots at `px` against resting own orders on `side`; return the lots we took.

    `order_seq`: arrival of the market order that was hit (L3), 0 if its age is unknown, -1 for a
    print without an order. `exact`: 1 on L3.
    """
    budget = qty
    limit = market_best(st, side) if st[S_INSIDE] == INSIDE_STRICT else side * INF
    better = st[S_BID_HI] > px if side > 0 else st[S_ASK_LO] < px
    while better and budget > 0:
        r = best_own(st, own, side, px, 1, limit)
        if r < 0:
            break
        take = min(budget, own[r, W_QTY])
        own_fill(st, own, r, fills, ack, lat, ts, take, THROUGH)
        budget -= take
    used = 0
    last, left = -1, 1
    while left > 0:
        r, left = next_own_at(st, own, side, px, last)
        if r < 0:
            break
        left -= 1
        last = own[r, W_ID]
        reach = 0  # lots of this trade that come as far as our place in the queue
        if exact == 0:
            eaten = min(own[r, W_AHEAD], budget)
            own[r, W_AHEAD] -= eaten
            reach = budget - eaten
            own[r, W_BEHIND] -= min(own[r, W_BEHIND], reach)
            own[r, W_PEND] += budget
        elif order_seq < 0:  # hidden liquidity ranks behind everything displayed
            reach = budget if own[r, W_AHEAD] == 0 else 0
        elif order_seq == 0:
            eaten = min(own[r, W_AHEAD], budget)
            own[r, W_AHEAD] -= eaten
            reach = budget - eaten
        elif order_seq < own[r, W_SEQ]:
            own[r, W_AHEAD] -= min(own[r, W_AHEAD], budget)
        else:
            reach = budget
        take = min(max(reach - used, 0), own[r, W_QTY])
        if take > 0:
            used += take
            own_fill(st, own, r, fills, ack, lat, ts, take, QUEUE)
    return qty - budget + used


@kernel
def own_cross(st, own, fills, ack, lat, ts, side, px, qty):
    """Fill own orders on `side` that an arriving opposite quote at `px` touches or crosses.

    `qty`: lots of the arriving order, or -1 for a level feed (our orders are filled completely).
    Returns the lots filled.
    """
    budget, filled = qty, 0
    while budget != 0:
        r = best_own(st, own, side, px, 0, side * INF)
        if r < 0:
            break
        take = own[r, W_QTY] if budget < 0 else min(budget, own[r, W_QTY])
        own_fill(st, own, r, fills, ack, lat, ts, take, CROSS)
        filled += take
        if budget > 0:
            budget -= take
    return filled


@inline_kernel
def power(x, millionths):
    """Return ``x ** (millionths / 1e6)``; the square, by far the most used, without the library's power."""
    return x * x if millionths == 2_000_000 else x ** (millionths / 1e6)


@kernel
def cancelled_ahead(st, ahead, behind, gone):
    """Return how many of `gone` cancelled lots stood ahead of us, by the queue model of level feeds.

    With ``f(x)`` = x (proportional), x ** n (power) or log(1 + x) (log), a cancelled lot stood ahead of us
    with probability ``f(ahead) / (f(ahead) + f(behind))``; half lots are rounded up. Risk-averse: cancels
    come from behind us as long as there is anybody. The user's function answers in lots.
    """
    model = st[S_QUEUE]
    if model == Q_RISK_AVERSE or ahead + behind == 0:
        share = gone - min(gone, behind)
    elif behind == 0:
        share = gone
    elif model == Q_POWER:
        a, b = power(np.float64(ahead), st[S_QUEUE_POWER]), power(np.float64(behind), st[S_QUEUE_POWER])
        share = np.int64(np.floor(gone * a / (a + b) + 0.5))
    elif model == Q_LOG:
        a, b = np.log1p(np.float64(ahead)), np.log1p(np.float64(behind))
        share = np.int64(np.floor(gone * a / (a + b) + 0.5))
    elif model == Q_CUSTOM:
        share = max(call_share(st[S_QUEUE_FN], ahead, behind, gone), 0)
    else:
        share = (gone * ahead * 2 + ahead + behind) // (2 * (ahead + behind))
    return min(share, ahead, gone)


@hot_kernel
def own_level(st, own, side, px, old, new, extra):
    """Move queue positions at (`side`, `px`) when the level's published total goes `old` -> `new`.

    `extra`: lots of the liquidity ledger that stand there besides.
    """
    for r in range(st[S_NOWN]):
        if own[r, W_PX] != px or own[r, W_SIDE] != side or own[r, W_STATE] != OWN_LIVE:
            continue
        if new == 0:
            own[r, W_AHEAD] = 0
            own[r, W_BEHIND] = 0
        elif own[r, W_KNOWN] == 0:  # first sight of a level that was out of view: assume we are last
            own[r, W_AHEAD] = new
            own[r, W_BEHIND] = 0
        elif own[r, W_KNOWN] == 2:  # back in view: nobody can have passed us meanwhile
            own[r, W_AHEAD] = min(own[r, W_AHEAD], new)
            own[r, W_BEHIND] = new - own[r, W_AHEAD]
        else:
            change = new - old + own[r, W_PEND]  # what trades do not explain
            if change >= 0:
                own[r, W_BEHIND] += change
            else:
                gone = -change
                ahead, behind = own[r, W_AHEAD], own[r, W_BEHIND]
                from_ahead = cancelled_ahead(st, ahead, behind, gone)
                own[r, W_AHEAD] = ahead - from_ahead
                own[r, W_BEHIND] = max(behind - (gone - from_ahead), 0)
            if own[r, W_AHEAD] > new + extra:
                own[r, W_AHEAD] = new + extra
        own[r, W_KNOWN] = 1
        own[r, W_PEND] = 0


@kernel
def own_hide(st, own, side, px):
    """The level leaves the feed's view: our place is kept and reconciled when it is seen again."""
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] == OWN_LIVE and own[r, W_SIDE] == side and own[r, W_PX] == px:
            if own[r, W_KNOWN] == 1:
                own[r, W_KNOWN] = 2
            own[r, W_PEND] = 0


@kernel
def own_order_left(st, own, side, px, qty, order_seq, level_after):
    """Move queue positions when a market order leaves `px` or shrinks by `qty` lots (L3).

    `order_seq` < 0: it was executed (queue positions are already moved, only the bound applies).
    """
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] != OWN_LIVE or own[r, W_SIDE] != side or own[r, W_PX] != px:
            continue
        if order_seq > 0 and order_seq < own[r, W_SEQ]:
            own[r, W_AHEAD] -= min(qty, own[r, W_AHEAD])
        if own[r, W_AHEAD] > level_after:  # orders of unknown age leave from behind us if they can
            own[r, W_AHEAD] = level_after


@kernel
def own_seed(st, own, side, px, level_after):
    """An order of unknown age comes into view at our price: if our place is unknown, we are behind it."""
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] == OWN_LIVE and own[r, W_SIDE] == side and own[r, W_PX] == px:
            if own[r, W_KNOWN] == 0:
                own[r, W_AHEAD] = level_after
