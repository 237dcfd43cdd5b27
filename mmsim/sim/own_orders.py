"""Own resting orders: queue position, and every way a resting order is filled.

The tape is immutable; whether what own fills took is gone for the flow that follows is `SimConfig.impact`.
The fill rules, one function each (a bid is described; an ask is its mirror image), are specified in
docs/fills.md:

`meet_trade`  an aggressive sale printed at ``px``. Own bids above ``px`` are filled first
              (`FillReason.THROUGH`); at ``px`` the trade first eats the lots ahead of us and what is left
              fills us (`FillReason.QUEUE`). On L3 the resting order that was hit tells exactly
              whether it stood ahead of us. The traded quantity bounds the sum of our fills.
`meet_quote`  an ask arrives at or below our bid (`FillReason.CROSS`): on L3 it fills us for the
              arriving quantity, on level feeds completely (at most the level under ``impact = "consume"``),
              at our own price.
`follow_level`  a level's total changed: what trades do not explain is cancellations, shared between
              ahead and behind by the queue model (`queue_models.cancelled_ahead`).
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import hot_kernel, inline_kernel, kernel
from mmsim.sim.ladder import note_mid
from mmsim.sim.queue_models import cancelled_ahead
from mmsim.sim.records import (
    ACK_FILL,
    ACK_GONE,
    IN_VIEW,
    INF,
    INSIDE_STRICT,
    LEG_ACK,
    N_RING,
    NEVER_SEEN,
    OUT_OF_VIEW,
    OWN_DEAD,
    OWN_LIVE,
)
from mmsim.sim.wire import wire
from mmsim.types import FillReason

QUEUE, THROUGH, CROSS = int(FillReason.QUEUE), int(FillReason.THROUGH), int(FillReason.CROSS)


@kernel
def notify(sim, lat, ts, kind, oid, side, px, qty):
    """Send a message to the agent; it arrives after the response latency, never before an earlier one."""
    w = sim.wire
    w.last_message = max(w.last_message, ts + wire(sim, lat, LEG_ACK, ts, w.messages_sent))
    m = sim.messages[w.messages_tail & (N_RING - 1)]
    m.ts = w.last_message
    m.kind = kind
    m.id = oid
    m.side = side
    m.px = px
    m.qty = qty
    w.messages_tail += 1
    w.messages_sent += 1


@kernel
def find_own(sim, oid):
    """Return the row of own order `oid`, or -1."""
    for r in range(sim.orders.n):
        if sim.own[r].id == oid:
            return r
    return -1


@kernel
def update_range(sim):
    """Recompute the price range of resting own orders, which lets most events skip them."""
    bid_hi, bid_lo, ask_hi, ask_lo, live = -INF, INF, -INF, INF, 0
    for r in range(sim.orders.n):
        o = sim.own[r]
        if o.state == OWN_LIVE:
            live += 1
            if o.side > 0:
                bid_hi, bid_lo = max(bid_hi, o.px), min(bid_lo, o.px)
            else:
                ask_hi, ask_lo = max(ask_hi, o.px), min(ask_lo, o.px)
    orders = sim.orders
    orders.highest[0], orders.lowest[0] = bid_hi, bid_lo
    orders.highest[1], orders.lowest[1] = ask_hi, ask_lo
    orders.n_live = live


@kernel
def expire(sim, lat, ts, o):
    """Own order `o` is no more; the agent will hear of it."""
    o.state = OWN_DEAD
    notify(sim, lat, ts, ACK_GONE, o.id, o.side, o.px, 0)


@kernel
def book_fill(sim, fills, ts, order_id, side, px, qty, maker, reason, decision):
    """Write one fill row and move inventory and cash, all in integers."""
    note_mid(sim)
    account = sim.account
    f = fills[account.n_fills]
    f.ts = ts
    f.order_id = order_id
    f.mid2 = sim.book.mid2
    f.px = px
    f.qty = qty
    f.side = side
    f.maker = maker
    f.reason = reason
    f.episode = sim.rules.episode % 256
    f.decision = decision
    account.n_fills += 1
    account.inventory += side * qty
    account.cash -= side * px * qty
    account.traded += qty


@kernel
def fill_resting(sim, fills, lat, ts, r, qty, reason):
    """Fill resting own order `r` for `qty` lots at its own price."""
    o = sim.own[r]
    book_fill(sim, fills, ts, o.id, o.side, o.px, qty, 1, reason, o.decision)
    o.qty -= qty
    notify(sim, lat, ts, ACK_FILL, o.id, o.side, o.px, qty)
    if o.qty == 0:
        expire(sim, lat, ts, o)
        update_range(sim)


@hot_kernel
def best_own(sim, side, px, strict, limit):
    """Return the own order on `side` first in price-time priority at `px` or better, or -1.

    `strict` = 1 wants strictly better than `px`; prices better than `limit` are passed over.
    """
    best = -1
    for r in range(sim.orders.n):
        o = sim.own[r]
        if o.state != OWN_LIVE or o.side != side:
            continue
        gain = (o.px - px) * side
        if gain < strict or (o.px - limit) * side > 0:
            continue
        if best >= 0:
            lead = (o.px - sim.own[best].px) * side
            if lead < 0 or (lead == 0 and o.id > sim.own[best].id):
                continue
        best = r
    return best


@inline_kernel
def rests_at(o, side, px):
    """Tell whether own order `o` rests at (`side`, `px`)."""
    return o.px == px and o.side == side and o.state == OWN_LIVE


@inline_kernel
def next_own_at(sim, side, px, after_id):
    """Return the oldest own order at exactly `px` with an id above `after_id` or -1, and how many there are."""
    best, count = -1, 0
    for r in range(sim.orders.n):
        o = sim.own[r]
        if rests_at(o, side, px) and o.id > after_id:
            count += 1
            if best < 0 or o.id < sim.own[best].id:
                best = r
    return best, count


@inline_kernel
def market_best(sim, side):
    """Return the market's best price on `side`; beyond every price if that side is empty."""
    row = 0 if side > 0 else 1
    return sim.book.base_px + sim.book.best[row] if sim.book.levels[row] > 0 else np.int64(-side * INF)


@kernel
def meet_volume_inside(sim, fills, lat, ts, side, qty):
    """Fill own orders on `side` inside the spread from any volume traded (`INSIDE_ANY`)."""
    best = market_best(sim, side)
    while qty > 0:
        r = best_own(sim, side, best, 1, side * INF)
        if r < 0:
            break
        lots = min(qty, sim.own[r].qty)
        fill_resting(sim, fills, lat, ts, r, lots, THROUGH)
        qty -= lots


@kernel
def meet_trade(sim, fills, lat, ts, side, px, qty, order_seq, exact):
    """Apply a trade of `qty` lots at `px` against resting own orders on `side`; return the lots we took.

    `order_seq`: arrival of the market order that was hit (L3), 0 if its age is unknown, -1 for a
    print without an order. `exact`: 1 on L3.
    """
    budget = qty
    limit = market_best(sim, side) if sim.rules.inside == INSIDE_STRICT else side * INF
    better = sim.orders.highest[0] > px if side > 0 else sim.orders.lowest[1] < px
    while better and budget > 0:
        r = best_own(sim, side, px, 1, limit)
        if r < 0:
            break
        lots = min(budget, sim.own[r].qty)
        fill_resting(sim, fills, lat, ts, r, lots, THROUGH)
        budget -= lots
    used = 0
    last, left = -1, 1
    while left > 0:
        r, left = next_own_at(sim, side, px, last)
        if r < 0:
            break
        left -= 1
        o = sim.own[r]
        last = o.id
        reach = 0  # lots of this trade that come as far as our place in the queue
        if exact == 0 or order_seq == 0:
            eaten = min(o.ahead, budget)
            o.ahead -= eaten
            reach = budget - eaten
            if exact == 0:
                o.behind -= min(o.behind, reach)
                o.unexplained += budget
        elif order_seq < 0:  # hidden liquidity ranks behind everything displayed
            reach = budget if o.ahead == 0 else 0
        elif order_seq < o.arrival:
            o.ahead -= min(o.ahead, budget)
        else:
            reach = budget
        lots = min(max(reach - used, 0), o.qty)
        if lots > 0:
            used += lots
            fill_resting(sim, fills, lat, ts, r, lots, QUEUE)
    return qty - budget + used


@kernel
def meet_quote(sim, fills, lat, ts, side, px, qty):
    """Fill own orders on `side` that an arriving opposite quote at `px` touches or crosses.

    `qty`: lots of the arriving order, or -1 for a level feed (our orders are filled completely).
    Returns the lots filled.
    """
    budget, filled = qty, 0
    while budget != 0:
        r = best_own(sim, side, px, 0, side * INF)
        if r < 0:
            break
        lots = sim.own[r].qty if budget < 0 else min(budget, sim.own[r].qty)
        fill_resting(sim, fills, lat, ts, r, lots, CROSS)
        filled += lots
        if budget > 0:
            budget -= lots
    return filled


@kernel
def follow_level(sim, side, px, old, new, extra):
    """Move queue positions at (`side`, `px`) when the level's published total goes `old` -> `new`.

    `extra`: lots of the liquidity ledger that stand there besides.
    """
    for r in range(sim.orders.n):
        o = sim.own[r]
        if not rests_at(o, side, px):
            continue
        if new == 0:
            o.ahead = 0
            o.behind = 0
        elif o.shown == NEVER_SEEN:  # first sight of a level that was out of view: assume we are last
            o.ahead = new
            o.behind = 0
        elif o.shown == OUT_OF_VIEW:  # back in view: nobody can have passed us meanwhile
            o.ahead = min(o.ahead, new)
            o.behind = new - o.ahead
        else:
            change = new - old + o.unexplained  # what trades do not explain
            if change >= 0:
                o.behind += change
            else:
                gone = -change
                ahead, behind = o.ahead, o.behind
                from_ahead = cancelled_ahead(sim.rules, ahead, behind, gone)
                o.ahead = ahead - from_ahead
                o.behind = max(behind - (gone - from_ahead), 0)
            o.ahead = min(o.ahead, new + extra)
        o.shown = IN_VIEW
        o.unexplained = 0


@kernel
def lose_sight(sim, side, px):
    """The level leaves the feed's view: our place is kept and reconciled when it is seen again."""
    for r in range(sim.orders.n):
        o = sim.own[r]
        if rests_at(o, side, px):
            if o.shown == IN_VIEW:
                o.shown = OUT_OF_VIEW
            o.unexplained = 0


@kernel
def follow_order(sim, side, px, qty, order_seq, level_after):
    """Move queue positions when a market order leaves `px` or shrinks by `qty` lots (L3).

    `order_seq` < 0: it was executed (queue positions are already moved, only the bound applies).
    """
    for r in range(sim.orders.n):
        o = sim.own[r]
        if not rests_at(o, side, px):
            continue
        if order_seq > 0 and order_seq < o.arrival:
            o.ahead -= min(qty, o.ahead)
        if o.ahead > level_after:  # orders of unknown age leave from behind us if they can
            o.ahead = level_after


@kernel
def meet_seed(sim, side, px, level_after):
    """An order of unknown age comes into view at our price: if our place is unknown, we are behind it."""
    for r in range(sim.orders.n):
        o = sim.own[r]
        if rests_at(o, side, px) and o.shown == NEVER_SEEN:
            o.ahead = level_after
