"""What a request of the agent meets at the exchange, and how an episode is closed."""

from __future__ import annotations

from mmsim._jit import kernel
from mmsim.sim.ladder import (
    available,
    best_available,
    in_view,
    level_qty,
    next_level,
    note_taken,
    worst_visible,
)
from mmsim.sim.own_orders import book_fill, expire, find_own, notify, update_range
from mmsim.sim.records import (
    ACK_FILL,
    ACK_LIVE,
    N_RING,
    OWN_LIVE,
    REQ_CANCEL,
    REQ_MARKET,
    REQ_NEW,
)
from mmsim.types import FillReason

TAKE, CLOSE = int(FillReason.TAKE), int(FillReason.CLOSE)


@kernel
def take_liquidity(sim, lad, fills, lat, ts, oid, side, limit_px, qty, reason, decision, limited):
    """Walk the opposite displayed levels up to `limit_px`; return the lots that found none."""
    base, row = sim.book.base_px, 1 if side > 0 else 0
    k, left = sim.book.best[row], sim.book.levels[row]
    while qty > 0 and left > 0:
        k = next_level(lad, row, k)
        px = base + k
        if limited == 1 and (px - limit_px) * side > 0:
            break
        got = min(qty, available(sim, lad, row, k))
        if got > 0:
            book_fill(sim, fills, ts, oid, side, px, got, 0, reason, decision)
            note_taken(sim, lad, row, k, -got)
            if oid > 0:
                notify(sim, lat, ts, ACK_FILL, oid, side, px, got)
        qty -= got
        left -= 1
        k += side
    return qty


@kernel
def room_for(sim, side):
    """Return the lots that an order on `side` may have: the inventory stays within its limit if all is filled."""
    total = 0
    for r in range(sim.orders.n):
        o = sim.own[r]
        if o.state == OWN_LIVE and o.side == side:
            total += o.qty
    return sim.rules.max_inventory - side * sim.account.inventory - total


@kernel
def new_order(sim, lad, fills, lat, ts, o):
    """A new limit order reaches the exchange: reject, take, or join the back of its queue."""
    side, px, qty, count = o.side, o.px, o.qty, sim.counters
    count.orders += 1
    if qty > room_for(sim, side):
        count.limit_rejects += 1
        expire(sim, lat, ts, o)
        return
    best = best_available(sim, lad, 1 if side > 0 else 0)
    if best >= 0 and (px - sim.book.base_px - best) * side >= 0:  # marketable
        if o.post_only == 1:
            count.post_only_rejects += 1
            expire(sim, lat, ts, o)
            return
        qty = take_liquidity(sim, lad, fills, lat, ts, o.id, side, px, qty, TAKE, o.decision, 1)
        o.qty = qty
        if qty == 0:
            expire(sim, lat, ts, o)
            return
    row = 0 if side > 0 else 1
    o.state = OWN_LIVE
    o.ahead = level_qty(sim, lad, row, px)
    o.ahead_at_first = o.ahead
    o.behind = 0
    o.unexplained = 0
    o.shown = in_view(sim, lad, row, px)
    o.arrival = 2 * sim.replay.row + 1
    update_range(sim)
    notify(sim, lat, ts, ACK_LIVE, o.id, side, px, qty)


@kernel
def arrive(sim, lad, fills, lat, ts):
    """Take the oldest request off the wire at the exchange."""
    w, count = sim.wire, sim.counters
    q = sim.requests[w.requests_head & (N_RING - 1)]
    w.requests_head += 1
    if w.requests_head == w.requests_tail:  # an empty ring starts again in front, where memory is warm
        w.requests_head, w.requests_tail = 0, 0
    if q.kind == REQ_MARKET:
        count.orders += 1
        if q.qty > room_for(sim, q.side):
            count.limit_rejects += 1
            return
        take_liquidity(sim, lad, fills, lat, ts, q.id, q.side, 0, q.qty, TAKE, q.decision, 0)
        return
    r = find_own(sim, q.id)
    if q.kind == REQ_NEW:
        new_order(sim, lad, fills, lat, ts, sim.own[r])
        return
    if q.kind == REQ_CANCEL:
        count.cancels += 1
    else:
        count.reduces += 1
    if r < 0 or sim.own[r].state != OWN_LIVE:
        count.too_late += 1
        return
    o = sim.own[r]
    if q.kind == REQ_CANCEL or q.qty >= o.qty:
        expire(sim, lat, ts, o)
        update_range(sim)
    else:
        o.qty -= q.qty


@kernel
def close_out(sim, lad, fills, lat, ts):
    """End of the episode: cancel everything and close the inventory by walking the book.

    Lots that the visible book cannot absorb are closed at its worst visible price (its last known
    best price if the side is empty) and counted.
    """
    sim.orders.n = 0
    update_range(sim)
    held, index = sim.account.inventory, sim.decision.index
    if held == 0:
        return
    side = -1 if held > 0 else 1
    rest = take_liquidity(sim, lad, fills, lat, ts, 0, side, 0, abs(held), CLOSE, index, 0)
    if rest > 0:
        px = worst_visible(sim, lad, 1 if side > 0 else 0)
        book_fill(sim, fills, ts, 0, side, px, rest, 0, CLOSE, index)
        sim.counters.close_beyond_lots += rest
