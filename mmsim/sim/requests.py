"""Requests of the agent: the difference between what it wants and its live orders, sent to the exchange.

Per side and price (`stage`):

======================  ==========================================================
desired quantity        what is sent
======================  ==========================================================
same as the live order  nothing: the order keeps its queue position
smaller                 reduce: the order keeps its queue position
larger                  cancel and new order: the position is lost
no live order there     new order at the back of the queue
live, not desired       cancel
======================  ==========================================================

Cancels and reductions are sent before new orders. ``sim.rules.replace_always`` = 1 cancels and resends everything.
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import kernel
from mmsim.records import MAX_PX
from mmsim.sim.records import (
    L_CANCEL,
    L_PENDING,
    MAX_OWN,
    N_RING,
    OWN_FLIGHT,
    REQ_CANCEL,
    REQ_MARKET,
    REQ_NEW,
    REQ_REDUCE,
)
from mmsim.sim.wire import wire

# Constants that are passed on are NumPy integers: numba would compile the callee once more for every plain one.
_NEVER, _NO = np.int64(0), np.int64(0)
_NEW, _CANCEL, _REDUCE = np.int64(REQ_NEW), np.int64(REQ_CANCEL), np.int64(REQ_REDUCE)
_MARKET = np.int64(REQ_MARKET)
_BUY, _SELL = np.int64(1), np.int64(-1)


@kernel
def send(sim, lat, ts, kind, oid, side, px, qty, post_only, after):
    """Send a request at `ts`; return when it takes effect at the exchange, or -1 if the ring is full.

    Requests of one kind never overtake each other on the wire. One that comes before `after`, the arrival of
    the order's own last request, waits for it there and delays nobody else. The ring is kept in the order
    in which requests take effect, at equal times in order of sending.
    """
    w = sim.wire
    if w.requests_tail - w.requests_head >= N_RING:
        return np.int64(-1)
    arrival = max(ts + wire(sim, lat, kind, ts, w.requests_sent), w.last_request[kind - 1])
    w.last_request[kind - 1] = arrival
    arrival = max(arrival, after)
    at = w.requests_tail
    while at > w.requests_head and sim.requests[(at - 1) & (N_RING - 1)].ts > arrival:
        sim.requests[at & (N_RING - 1)] = sim.requests[(at - 1) & (N_RING - 1)]
        at -= 1
    q = sim.requests[at & (N_RING - 1)]
    q.ts = arrival
    q.kind = kind
    q.id = oid
    q.side = side
    q.px = px
    q.qty = qty
    q.post_only = post_only
    q.decision = sim.decision.index
    w.requests_tail += 1
    w.requests_sent += 1
    return arrival


@kernel
def withdraw_side(sim, lat, side, levels, n, ts):
    """Send the cancels and reductions of one side; return 1 if the ring is full."""
    for r in range(sim.orders.n):
        o = sim.own[r]
        if o.side != side or o.believed == L_CANCEL or o.believed_qty <= 0:
            continue
        wanted = np.int64(0)
        for i in range(n):
            if levels[i].px == o.px:
                wanted = levels[i].qty
        if not 0 < wanted <= o.believed_qty or sim.rules.replace_always == 1:
            if send(sim, lat, ts, _CANCEL, o.id, side, o.px, _NO, _NO, o.last_request) < 0:
                return 1
            o.believed = L_CANCEL
            continue
        o.kept = 1
        if wanted < o.believed_qty:
            less = o.believed_qty - wanted
            sent = send(sim, lat, ts, _REDUCE, o.id, side, o.px, less, _NO, o.last_request)
            if sent < 0:
                return 1
            o.last_request = sent
            o.believed_qty = wanted
    return 0


@kernel
def submit_side(sim, lat, side, levels, n, ts):
    """Send the new orders of one side; return 1 if a buffer is full."""
    orders, before = sim.orders, sim.orders.n
    for i in range(n):
        px, qty = levels[i].px, levels[i].qty
        kept = False
        for r in range(before):
            o = sim.own[r]
            if o.kept == 1 and o.side == side and o.px == px:
                o.kept = 0
                kept = True
        if kept:
            continue
        if orders.n >= MAX_OWN:
            return 1
        o = sim.own[orders.n]
        o.id = orders.next_id
        o.side = side
        o.px = px
        o.qty = qty
        o.ahead = 0
        o.behind = 0
        o.arrival = 0
        o.state = OWN_FLIGHT
        o.believed_qty = qty
        o.believed = L_PENDING
        o.unexplained = 0
        o.shown = 0
        o.decision = sim.decision.index
        o.post_only = sim.want.post_only
        o.kept = 0
        o.ahead_at_first = 0
        o.last_request = 0
        orders.next_id += 1
        orders.n += 1
        sent = send(sim, lat, ts, _NEW, o.id, side, px, qty, o.post_only, _NEVER)
        if sent < 0:
            return 1
        o.last_request = sent
    return 0


@kernel
def stage(sim, lat, ts):
    """Send, at `ts`, what turns the live orders into the desired ones. Return 1 if a buffer is full."""
    want = sim.want
    full = withdraw_side(sim, lat, _BUY, want.bids, want.n_bids, ts)
    full |= withdraw_side(sim, lat, _SELL, want.asks, want.n_asks, ts)
    if want.take_qty != 0:
        side = _BUY if want.take_qty > 0 else _SELL
        sent = send(sim, lat, ts, _MARKET, sim.orders.next_id, side, _NO, abs(want.take_qty), _NO, _NEVER)
        full |= sent < 0
        sim.orders.next_id += 1
    full |= submit_side(sim, lat, _BUY, want.bids, want.n_bids, ts)
    full |= submit_side(sim, lat, _SELL, want.asks, want.n_asks, ts)
    return full


@kernel
def side_total(levels, n):
    """Return the lots wanted on one side, or -1 if a price or quantity is not valid or a price comes twice."""
    total = 0
    for i in range(n):
        px, qty = levels[i].px, levels[i].qty
        if px <= 0 or px > MAX_PX or qty <= 0 or qty > MAX_PX:
            return -1
        for k in range(i):
            if levels[k].px == px:
                return -1
        total += qty
    return total


@kernel
def quotes_valid(sim):
    """Return 1 if the quotes in `sim.want` may be staged: valid levels, not crossed, within the agent's limits.

    The session says in words what is wrong (`mmsim.sim.quotes_check`); both must refuse the same.
    """
    want, rules = sim.want, sim.rules
    n, m, take = want.n_bids, want.n_asks, want.take_qty
    if n < 0 or m < 0 or max(n, m) > rules.max_levels or want.post_only < 0 or want.post_only > 1:
        return 0
    if take > rules.max_order or take < -rules.max_order:  # (first: beyond it the sums below could wrap)
        return 0
    buy, sell = side_total(want.bids, n), side_total(want.asks, m)
    if buy < 0 or sell < 0:
        return 0
    for i in range(n):
        for k in range(m):
            if want.bids[i].px >= want.asks[k].px:
                return 0
    buy, sell = (buy + take, sell) if take > 0 else (buy, sell - take)
    held, most = sim.account.known_inventory, rules.max_inventory
    if held + buy > most or held - sell < -most or buy > rules.max_order or sell > rules.max_order:
        return 0
    return 1
