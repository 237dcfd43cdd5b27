# mypy: disable-error-code="arg-type"
"""The compiled half of the reactive market: what the session's orders did, told to the flow's own book.

A session stops whenever it has used up the market's rows, and then nothing is left to happen up to time
``sim.replay.seen``. `react` brings the flow's matching engine to the same state, lets the flow run until the
agent could interfere again, and hands over the rows. Both engines know every own order: the session's
tells the agent, the flow's lets others trade with it. That they agree, fill by fill, is checked each time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import borrow, kernel
from mmsim.book.handle import book_at
from mmsim.book.layout import CANCEL, LIMIT, REDUCE
from mmsim.book.shelves import FIND, level_of
from mmsim.flow.arrivals import (
    DONE,
    EVENTS_FULL,
    MAX_BURST,
    ONE,
    OWN,
    borrowed,
    emit,
    end_message,
    request,
    resting,
    run,
    withdraw,
)
from mmsim.sim.own_orders import expire, find_own, update_range
from mmsim.sim.records import INF, N_RING, OWN_LIVE
from mmsim.types import EventFlag, EventKind

_TRADE = np.int64(EventKind.TRADE)
_REST = np.int64(0)  # request flags of an order without conditions
_LIMIT, _CANCEL, _REDUCE = np.int64(LIMIT), np.int64(CANCEL), np.int64(REDUCE)
_QUIET = int(EventFlag.LAST | EventFlag.AUCTION)  # a print that everybody sees and that fills nobody

DISAGREE = 4  # besides the statuses of `mmsim.flow.arrivals`

# an own order in the flow's book
MIRRORED = np.dtype(
    [
        ("id", "<i8"),  # 0: the row is free
        ("qty", "<i8"),  # lots when last compared
        ("due", "<i8"),  # lots still to be explained
    ]
)


@kernel
def find_mirrored(mine: Any, oid: int) -> int:
    """Return the row of own order `oid` in `mine`, or -1; oid 0 finds a free row."""
    for j in range(mine.shape[0]):
        if mine[j].id == oid:
            return j
    return -1


@kernel
def lots_of(market: Any, j: int) -> int:
    """Return the lots that the own order in row `j` of `mine` has in the flow's book."""
    book = book_at(market.handle)
    return np.int64(book.orders[resting(book, len(market.slots) + j)].qty)


@kernel
def change_own(market: Any, verb: int, j: int, side: int, px: int, qty: int) -> None:
    """Send one request for the own order in row `j` of `mine` to the flow's matching engine."""
    request(market, verb, len(market.slots) + j, OWN, side, px, qty, _REST)


@kernel
def take_out(market: Any, events: Any, side: int, px: int, qty: Any) -> Any:
    """Take `qty` lots of others, oldest first, out of level `px` for an own order on `side`; return those not found.

    Rows of the orders that shrink or leave, then the print. Own orders on the level are passed over.
    """
    m, book = market.state[0], book_at(market.handle)
    row = np.int64(book.levels[level_of(book, book.state[0], px, FIND)].head)
    left = qty
    while left > 0 and row != 0:
        younger = np.int64(book.orders[row].next)
        if book.extra[row].owner != OWN:
            has = np.int64(book.orders[row].qty)
            by = min(left, has)
            withdraw(market, events, book.extra[row].oid, -side, px, has, by)
            left -= by
        row = younger
    emit(events, m, _TRADE, 1, side, px, qty - left)
    end_message(events, m, _QUIET)
    return left


@kernel
def mirror_fills(sim: Any, fills: Any, lad: Any, mine: Any, rates: Any, market: Any, events: Any) -> int:
    """Check own resting fills against the flow's book and take out of it what own orders took."""
    m, book = market.state[0], book_at(market.handle)
    for j in range(mine.shape[0]):
        if mine[j].id != 0:
            mine[j].due = mine[j].qty - lots_of(market, j)
    arrival = m.ts
    m.ts = sim.replay.seen  # what own orders took leaves now; the flow's own clock stands where it stood
    taker = np.int64(-1)
    for i in range(m.fills, sim.account.n_fills):
        f = fills[i]
        oid, px, qty, side = np.int64(f.order_id), np.int64(f.px), np.int64(f.qty), np.int64(f.side)
        if f.maker == 1:
            j = find_mirrored(mine, oid)
            if j < 0:
                return DISAGREE
            mine[j].due -= qty
            continue
        if take_out(market, events, side, px, qty) > 0:
            return DISAGREE
        row = 3 if side > 0 else 2
        lad[row, px - sim.book.base_px] = 0
        if oid != taker:  # it stirs the flow as anybody's market order does
            taker = oid
            m.burst = min(m.burst + rates.burst, MAX_BURST)
            if book.levels[level_of(book, book.state[0], px, FIND)].qty == 0:
                m.momentum = min(max(m.momentum + side * rates.momentum, -ONE), ONE)
    m.ts = arrival
    m.fills = sim.account.n_fills
    for j in range(mine.shape[0]):
        if mine[j].id != 0 and mine[j].due != 0:
            return DISAGREE
    return DONE


@kernel
def mirror_orders(sim: Any, lat: Any, lad: Any, mine: Any, market: Any) -> int:
    """Cancel, shrink and add own orders in the flow's book as the session did in its own."""
    m, best = market.state[0], book_at(market.handle).state[0]
    for j in range(mine.shape[0]):
        if mine[j].id == 0:
            continue
        r = find_own(sim, mine[j].id)  # type: ignore[no-untyped-call]
        open_qty = sim.own[r].qty if r >= 0 and sim.own[r].state == OWN_LIVE else np.int64(0)
        held = lots_of(market, j)
        if open_qty > held:
            return DISAGREE
        if open_qty == 0 and held > 0:
            change_own(market, _CANCEL, j, 1, 0, held)
        elif open_qty < held:
            change_own(market, _REDUCE, j, 1, 0, held - open_qty)
        mine[j].qty = open_qty
        if open_qty == 0:
            mine[j].id = 0
    while True:
        r, newest = np.int64(-1), np.int64(INF)  # requests of one kind never overtake: by id is by arrival
        for k in range(sim.orders.n):
            if sim.own[k].state == OWN_LIVE and m.own_id < sim.own[k].id < newest:
                r, newest = np.int64(k), sim.own[k].id
        if r < 0:
            return DONE
        m.own_id = newest
        o = sim.own[r]
        side, px, qty = o.side, o.px, o.qty
        if px >= best.best_ask if side > 0 else px <= best.best_bid:
            # The session has found no one else to trade with, so an own order stands there: the exchange
            # prevents the trade with oneself and cancels the newer order.
            sim.counters.post_only_rejects += 1
            expire(sim, lat, sim.replay.seen, o)  # type: ignore[no-untyped-call]
            update_range(sim)  # type: ignore[no-untyped-call]
            continue
        if px <= best.origin or px > best.origin + best.width:
            continue  # where the flow never comes
        ix = px - sim.book.base_px
        if 0 <= ix < lad.shape[1]:
            # What we took from this level at the same moment is not ahead of us, but the rows that say so are
            # still to come and will shorten the queue as the session counts it.
            o.ahead = lad[0 if side > 0 else 1, ix]
        j = find_mirrored(mine, 0)
        mine[j].id, mine[j].qty = newest, qty
        change_own(market, _LIMIT, j, side, px, qty)  # crosses nobody: it rests


@kernel
def react(
    sims: Any, lat: Any, ring: Any, fills: Any, lad: Any, mine: Any, flow: Any, market: Any, events: Any
) -> int:
    """Bring the flow's book up to date and let the flow run to the agent's next message or decision.

    `sims`, `lat`, `ring`, `fills` and `lad` are the session's, the others the flow's (`mmsim.flow.arrivals.run`);
    `mine` is ``(MAX_OWN,)`` MIRRORED. Returns a status; EVENTS_FULL: the rows so far are good, there is more.
    """
    market, events, mine = borrowed(market), borrow(events), borrow(mine)
    sim, m = sims[0], market.state[0]
    replay, wire, end = sim.replay, sim.wire, sim.rules.end
    code = mirror_fills(sim, fills, lad, mine, flow.rates[0], market, events)
    if code != DONE:
        return code
    code = mirror_orders(sim, lat, lad, mine, market)
    if code != DONE:
        return code
    horizon = end
    if wire.requests_head < wire.requests_tail:
        horizon = min(horizon, sim.requests[wire.requests_head & (N_RING - 1)].ts)
    waiting = wire.looks_head < wire.looks_tail
    horizon = min(horizon, ring[wire.looks_head & (ring.shape[0] - 1)].due if waiting else sim.decision.due)
    until = horizon + 1 if horizon < end else horizon  # the market comes first at equal times
    code = run(flow, market, events, until)
    replay.stop = m.n_events
    replay.seen = max(m.ts, replay.seen) if code == EVENTS_FULL else horizon
    return code
