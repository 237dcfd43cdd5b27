"""Own resting orders: queue position, and every way a resting order is filled.

The tape is immutable: what an own order takes is not taken away from the flow that follows. The
fill rules, one function each (a bid is described; an ask is its mirror image):

`own_trade`  an aggressive sale printed at ``px``. Own bids above ``px`` are filled first
             (`FillReason.THROUGH`); at ``px`` the trade first eats ``queue_ahead`` and what is left
             fills us (`FillReason.QUEUE`). On L3 the resting order that was hit tells exactly
             whether it stood ahead of us. The traded quantity bounds the sum of our fills.
`own_cross`  an ask arrives at or below our bid (`FillReason.CROSS`): on L3 it fills us for the
             arriving quantity, on level feeds completely, at our own price.
`own_level`  a level's total changed: what trades do not explain is cancellations, shared between
             ahead and behind by the queue model.
"""

from __future__ import annotations

from mmsim._jit import inline_kernel, kernel
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
    N_RING,
    OWN_DEAD,
    OWN_LIVE,
    S_ACK_T,
    S_ACKLAT,
    S_ASK_HI,
    S_ASK_LO,
    S_BID_HI,
    S_BID_LO,
    S_CASH,
    S_EPISODE,
    S_INV,
    S_MID2,
    S_NFILL,
    S_NLIVE,
    S_NOWN,
    S_RISK_AVERSE,
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
from mmsim.types import FillReason

QUEUE, THROUGH, CROSS = int(FillReason.QUEUE), int(FillReason.THROUGH), int(FillReason.CROSS)


@inline_kernel
def push_ack(st, ack, ts, kind, oid, side, px, qty):
    """Send a message to the agent; it arrives after the acknowledgement latency."""
    a = ack[st[S_ACK_T] % N_RING]
    a[A_TS] = ts + st[S_ACKLAT]
    a[A_KIND] = kind
    a[A_ID] = oid
    a[A_SIDE] = side
    a[A_PX] = px
    a[A_QTY] = qty
    st[S_ACK_T] += 1


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
def own_fill(st, own, r, fills, ack, ts, qty, reason):
    """Fill resting own order `r` for `qty` lots at its own price."""
    side, px = own[r, W_SIDE], own[r, W_PX]
    book_fill(st, fills, ts, own[r, W_ID], side, px, qty, 1, reason, own[r, W_DEC])
    own[r, W_QTY] -= qty
    push_ack(st, ack, ts, ACK_FILL, own[r, W_ID], side, px, qty)
    if own[r, W_QTY] == 0:
        own[r, W_STATE] = OWN_DEAD
        push_ack(st, ack, ts, ACK_GONE, own[r, W_ID], side, px, 0)
        own_bounds(st, own)


@kernel
def best_own(st, own, side, px, strict):
    """Return the own order on `side` first in price-time priority at `px` or better, or -1.

    `strict` = 1 wants strictly better than `px`.
    """
    best = -1
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] != OWN_LIVE or own[r, W_SIDE] != side:
            continue
        gain = (own[r, W_PX] - px) * side
        if gain < strict:
            continue
        if best >= 0:
            lead = (own[r, W_PX] - own[best, W_PX]) * side
            if lead < 0 or (lead == 0 and own[r, W_ID] > own[best, W_ID]):
                continue
        best = r
    return best


@kernel
def next_own_at(st, own, side, px, after_id):
    """Return the oldest own order at exactly `px` with an id above `after_id`, or -1."""
    best = -1
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] != OWN_LIVE or own[r, W_SIDE] != side or own[r, W_PX] != px:
            continue
        if own[r, W_ID] > after_id and (best < 0 or own[r, W_ID] < own[best, W_ID]):
            best = r
    return best


@kernel
def own_trade(st, own, fills, ack, ts, side, px, qty, order_seq, exact):
    """Apply a trade of `qty` lots at `px` against resting own orders on `side`.

    `order_seq`: arrival of the market order that was hit (L3), 0 if its age is unknown, -1 for a
    print without an order. `exact`: 1 on L3.
    """
    budget = qty
    while budget > 0:
        r = best_own(st, own, side, px, 1)
        if r < 0:
            break
        take = min(budget, own[r, W_QTY])
        own_fill(st, own, r, fills, ack, ts, take, THROUGH)
        budget -= take
    used = 0
    last = -1
    while True:
        r = next_own_at(st, own, side, px, last)
        if r < 0:
            break
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
            own_fill(st, own, r, fills, ack, ts, take, QUEUE)


@kernel
def own_cross(st, own, fills, ack, ts, side, px, qty):
    """Fill own orders on `side` that an arriving opposite quote at `px` touches or crosses.

    `qty`: lots of the arriving order, or -1 for a level feed (our orders are filled completely).
    """
    budget = qty
    while budget != 0:
        r = best_own(st, own, side, px, 0)
        if r < 0:
            break
        take = own[r, W_QTY] if budget < 0 else min(budget, own[r, W_QTY])
        own_fill(st, own, r, fills, ack, ts, take, CROSS)
        if budget > 0:
            budget -= take


@kernel
def own_level(st, own, side, px, old, new):
    """Move queue positions at (`side`, `px`) when the level's published total goes `old` -> `new`."""
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] != OWN_LIVE or own[r, W_SIDE] != side or own[r, W_PX] != px:
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
                if st[S_RISK_AVERSE] == 1 or ahead + behind == 0:
                    from_ahead = gone - min(gone, behind)
                elif behind == 0:
                    from_ahead = gone
                else:
                    from_ahead = (gone * ahead * 2 + ahead + behind) // (2 * (ahead + behind))
                from_ahead = min(from_ahead, ahead)
                own[r, W_AHEAD] = ahead - from_ahead
                own[r, W_BEHIND] = max(behind - (gone - from_ahead), 0)
            if own[r, W_AHEAD] > new:
                own[r, W_AHEAD] = new
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
