"""Requests of the agent: the diff against live orders, and what they meet at the exchange.

Diff rule, per side and price (`stage`):

======================  ==========================================================
desired quantity        what is sent
======================  ==========================================================
same as the live order  nothing: the order keeps its queue position
smaller                 reduce: the order keeps its queue position
larger                  cancel and new order: the position is lost
no live order there     new order at the back of the queue
live, not desired       cancel
======================  ==========================================================

Cancels and reductions are sent before new orders. ``st[S_ALWAYS]`` = 1 cancels and resends everything.
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import hot_kernel, inline_kernel, kernel
from mmsim.agent import WANT_HEAD
from mmsim.sim.ladder import available, best_available, in_view, ledger, level_qty, pop
from mmsim.sim.layout import (
    ACK_FILL,
    ACK_GONE,
    ACK_LIVE,
    C_CANCELS,
    C_CLOSE_BEYOND,
    C_LIMIT_REJECTS,
    C_ORDERS,
    C_POST_REJECTS,
    C_REDUCES,
    C_TOO_LATE,
    L_CANCEL,
    L_PENDING,
    MAX_OWN,
    MAX_PX,
    N_OWN,
    N_REQ,
    N_RING,
    OWN_DEAD,
    OWN_FLIGHT,
    OWN_LIVE,
    R_DEC,
    R_ID,
    R_KIND,
    R_POST,
    R_PX,
    R_QTY,
    R_SIDE,
    R_TS,
    REQ_CANCEL,
    REQ_MARKET,
    REQ_NEW,
    REQ_REDUCE,
    S_AINV,
    S_ALWAYS,
    S_BA,
    S_BASE,
    S_BB,
    S_CUR,
    S_DEC,
    S_INV,
    S_LAST_BA,
    S_LAST_BB,
    S_MAXINV,
    S_MAXLEVELS,
    S_MAXORDER,
    S_NA,
    S_NB,
    S_NEXT_ID,
    S_NOWN,
    S_REQ_H,
    S_REQ_LAST,
    S_REQ_N,
    S_REQ_T,
    W_AHEAD,
    W_AHEAD0,
    W_BEHIND,
    W_DEC,
    W_ID,
    W_KNOWN,
    W_LQTY,
    W_LSTATE,
    W_MARK,
    W_PEND,
    W_POST,
    W_PX,
    W_QTY,
    W_SENT,
    W_SEQ,
    W_SIDE,
    W_STATE,
)
from mmsim.sim.queue import book_fill, own_bounds, push_ack
from mmsim.sim.wire import wire
from mmsim.types import FillReason

TAKE, CLOSE = int(FillReason.TAKE), int(FillReason.CLOSE)


@inline_kernel
def find_own(st, own, oid):
    """Return the row of own order `oid`, or -1."""
    for r in range(st[S_NOWN]):
        if own[r, W_ID] == oid:
            return r
    return -1


@kernel
def push_req(st, req, lat, ts, kind, oid, side, px, qty, post, after):
    """Send a request at `ts`; return when it takes effect at the exchange, or -1 if the ring is full.

    Requests of one kind never overtake each other on the wire. One that comes before `after`, the arrival of
    the order's own last request, waits for it there and delays nobody else. The ring is kept in the order
    in which requests take effect, at equal times in order of sending.
    """
    if st[S_REQ_T] - st[S_REQ_H] >= N_RING:
        return np.int64(-1)
    arrival = max(ts + wire(st, lat, kind, ts, st[S_REQ_N]), st[S_REQ_LAST + kind - 1])
    st[S_REQ_LAST + kind - 1] = arrival
    arrival = max(arrival, after)
    at = st[S_REQ_T]
    while at > st[S_REQ_H] and req[(at - 1) & (N_RING - 1), R_TS] > arrival:
        for column in range(N_REQ):
            req[at & (N_RING - 1), column] = req[(at - 1) & (N_RING - 1), column]
        at -= 1
    i = at & (N_RING - 1)
    req[i, R_TS] = arrival
    req[i, R_KIND] = kind
    req[i, R_ID] = oid
    req[i, R_SIDE] = side
    req[i, R_PX] = px
    req[i, R_QTY] = qty
    req[i, R_POST] = post
    req[i, R_DEC] = st[S_DEC]
    st[S_REQ_T] += 1
    st[S_REQ_N] += 1
    return arrival


@kernel
def stage_side(st, own, req, lat, want, side, n, at, ts, phase):
    """Diff one side: phase 0 sends cancels and reductions, phase 1 new orders. Return 1 when full."""
    sent = np.int64(0)
    if phase == 0:
        for r in range(st[S_NOWN]):
            if own[r, W_SIDE] != side or own[r, W_LSTATE] == L_CANCEL or own[r, W_LQTY] <= 0:
                continue
            want_qty = 0
            for i in range(n):
                if want[at + 2 * i] == own[r, W_PX]:
                    want_qty = want[at + 2 * i + 1]
            keep = 0 < want_qty <= own[r, W_LQTY] and st[S_ALWAYS] == 0
            if not keep:
                sent = push_req(
                    st, req, lat, ts, REQ_CANCEL, own[r, W_ID], side, own[r, W_PX], 0, 0, own[r, W_SENT]
                )
                if sent < 0:
                    return 1
                own[r, W_LSTATE] = L_CANCEL
                continue
            own[r, W_MARK] = 1
            if want_qty < own[r, W_LQTY]:
                less = own[r, W_LQTY] - want_qty
                sent = push_req(
                    st, req, lat, ts, REQ_REDUCE, own[r, W_ID], side, own[r, W_PX], less, 0, own[r, W_SENT]
                )
                if sent < 0:
                    return 1
                own[r, W_SENT] = sent
                own[r, W_LQTY] = want_qty
        return 0
    rows = st[S_NOWN]
    for i in range(n):
        px = want[at + 2 * i]
        kept = False
        for r in range(rows):
            if own[r, W_MARK] == 1 and own[r, W_SIDE] == side and own[r, W_PX] == px:
                own[r, W_MARK] = 0
                kept = True
        if kept:
            continue
        if st[S_NOWN] >= MAX_OWN:
            return 1
        n_own = st[S_NOWN]
        for column in range(N_OWN):
            own[n_own, column] = 0
        own[n_own, W_ID] = st[S_NEXT_ID]
        own[n_own, W_SIDE] = side
        own[n_own, W_PX] = px
        own[n_own, W_QTY] = want[at + 2 * i + 1]
        own[n_own, W_LQTY] = own[n_own, W_QTY]
        own[n_own, W_STATE] = OWN_FLIGHT
        own[n_own, W_LSTATE] = L_PENDING
        own[n_own, W_DEC] = st[S_DEC]
        own[n_own, W_POST] = want[2]
        st[S_NEXT_ID] += 1
        st[S_NOWN] += 1
        sent = push_req(st, req, lat, ts, REQ_NEW, own[n_own, W_ID], side, px, own[n_own, W_QTY], want[2], 0)
        if sent < 0:
            return 1
        own[n_own, W_SENT] = sent
    return 0


@kernel
def side_total(want, n, at):
    """Return the lots wanted on one side, or -1 if a price or quantity is not valid or a price comes twice."""
    total = 0
    for i in range(n):
        px, qty = want[at + 2 * i], want[at + 2 * i + 1]
        if px <= 0 or px > MAX_PX or qty <= 0 or qty > MAX_PX:
            return -1
        for k in range(i):
            if want[at + 2 * k] == px:
                return -1
        total += qty
    return total


@kernel
def quotes_valid(st, want):
    """Return 1 if the quotes in `want` may be staged: valid levels, not crossed, within the agent's limits.

    The session says in words what is wrong (`Session._explain`); both must refuse the same.
    """
    nb, na, take = want[0], want[1], want[3]
    if nb < 0 or na < 0 or max(nb, na) > st[S_MAXLEVELS] or want[2] < 0 or want[2] > 1:
        return 0
    if take > st[S_MAXORDER] or take < -st[S_MAXORDER]:  # (first: beyond it the sums below could wrap)
        return 0
    a_at = WANT_HEAD + 2 * nb
    buy, sell = side_total(want, nb, WANT_HEAD), side_total(want, na, a_at)
    if buy < 0 or sell < 0:
        return 0
    for i in range(nb):
        for k in range(na):
            if want[WANT_HEAD + 2 * i] >= want[a_at + 2 * k]:
                return 0
    buy, sell = (buy + take, sell) if take > 0 else (buy, sell - take)
    held, most = st[S_AINV], st[S_MAXINV]
    if held + buy > most or held - sell < -most or buy > st[S_MAXORDER] or sell > st[S_MAXORDER]:
        return 0
    return 1


@kernel
def stage(st, own, req, lat, want, ts):
    """Send, at `ts`, what turns the live orders into the desired ones. Return 1 if a buffer is full.

    `want`: ``[n_bid, n_ask, post_only, take, latency_ns, wall_ns, px, qty, ...]``.
    """
    nb, na = want[0], want[1]
    a_at = WANT_HEAD + 2 * nb
    full = stage_side(st, own, req, lat, want, 1, nb, WANT_HEAD, ts, 0)
    full |= stage_side(st, own, req, lat, want, -1, na, a_at, ts, 0)
    if want[3] != 0:
        side = 1 if want[3] > 0 else -1
        full |= push_req(st, req, lat, ts, REQ_MARKET, st[S_NEXT_ID], side, 0, abs(want[3]), 0, 0) < 0
        st[S_NEXT_ID] += 1
    full |= stage_side(st, own, req, lat, want, 1, nb, WANT_HEAD, ts, 1)
    full |= stage_side(st, own, req, lat, want, -1, na, a_at, ts, 1)
    return full


@kernel
def take_liquidity(lad, st, fills, ack, lat, ts, oid, side, limit_px, qty, reason, decision, limited):
    """Walk the opposite displayed levels up to `limit_px`; return the lots that found none."""
    base = st[S_BASE]
    if side > 0:
        k, left = st[S_BA], st[S_NA]
    else:
        k, left = st[S_BB], st[S_NB]
    row = 1 if side > 0 else 0
    while qty > 0 and left > 0:
        while lad[row, k] == 0:
            k += side
        px = base + k
        if limited == 1 and (px - limit_px) * side > 0:
            break
        got = min(qty, available(lad, st, row, k))
        if got > 0:
            book_fill(st, fills, ts, oid, side, px, got, 0, reason, decision)
            ledger(lad, st, row, k, -got)
            if oid > 0:
                push_ack(st, ack, lat, ts, ACK_FILL, oid, side, px, got)
        qty -= got
        left -= 1
        k += side
    return qty


@kernel
def open_on_side(st, own, side):
    """Return the lots of own resting orders on `side`."""
    total = 0
    for r in range(st[S_NOWN]):
        if own[r, W_STATE] == OWN_LIVE and own[r, W_SIDE] == side:
            total += own[r, W_QTY]
    return total


@hot_kernel
def new_order(lad, st, own, fills, ack, lat, ts, r):
    """A new limit order reaches the exchange: reject, take, or join the back of its queue."""
    side, px, qty = own[r, W_SIDE], own[r, W_PX], own[r, W_QTY]
    oid = own[r, W_ID]
    st[C_ORDERS] += 1
    if side * st[S_INV] + open_on_side(st, own, side) + qty > st[S_MAXINV]:
        st[C_LIMIT_REJECTS] += 1
        own[r, W_STATE] = OWN_DEAD
        push_ack(st, ack, lat, ts, ACK_GONE, oid, side, px, 0)
        return
    best = best_available(lad, st, 1 if side > 0 else 0)
    if best >= 0 and (px - st[S_BASE] - best) * side >= 0:  # marketable
        if own[r, W_POST] == 1:
            st[C_POST_REJECTS] += 1
            own[r, W_STATE] = OWN_DEAD
            push_ack(st, ack, lat, ts, ACK_GONE, oid, side, px, 0)
            return
        qty = take_liquidity(lad, st, fills, ack, lat, ts, oid, side, px, qty, TAKE, own[r, W_DEC], 1)
        own[r, W_QTY] = qty
        if qty == 0:
            own[r, W_STATE] = OWN_DEAD
            push_ack(st, ack, lat, ts, ACK_GONE, oid, side, px, 0)
            return
    row = 0 if side > 0 else 1
    own[r, W_STATE] = OWN_LIVE
    own[r, W_AHEAD] = level_qty(lad, st, row, px)
    own[r, W_AHEAD0] = own[r, W_AHEAD]
    own[r, W_BEHIND] = 0
    own[r, W_PEND] = 0
    own[r, W_KNOWN] = in_view(lad, st, row, px)
    own[r, W_SEQ] = 2 * st[S_CUR] + 1
    own_bounds(st, own)
    push_ack(st, ack, lat, ts, ACK_LIVE, oid, side, px, qty)


@hot_kernel
def arrive(lad, st, own, req, fills, ack, lat, ts):
    """Take the oldest request off the wire at the exchange."""
    i = st[S_REQ_H] & (N_RING - 1)
    pop(st, S_REQ_H, S_REQ_T)
    kind, oid = req[i, R_KIND], req[i, R_ID]
    if kind == REQ_MARKET:
        st[C_ORDERS] += 1
        side, qty = req[i, R_SIDE], req[i, R_QTY]
        room = st[S_MAXINV] - side * st[S_INV] - open_on_side(st, own, side)
        if qty > room:
            st[C_LIMIT_REJECTS] += 1
            return
        take_liquidity(lad, st, fills, ack, lat, ts, oid, side, 0, qty, TAKE, req[i, R_DEC], 0)
        return
    r = find_own(st, own, oid)
    if kind == REQ_NEW:
        new_order(lad, st, own, fills, ack, lat, ts, r)
        return
    st[C_CANCELS if kind == REQ_CANCEL else C_REDUCES] += 1
    if r < 0 or own[r, W_STATE] != OWN_LIVE:
        st[C_TOO_LATE] += 1
        return
    if kind == REQ_CANCEL or req[i, R_QTY] >= own[r, W_QTY]:
        own[r, W_STATE] = OWN_DEAD
        push_ack(st, ack, lat, ts, ACK_GONE, oid, own[r, W_SIDE], own[r, W_PX], 0)
        own_bounds(st, own)
    else:
        own[r, W_QTY] -= req[i, R_QTY]


@kernel
def drop_row(st, own, r):
    """Forget own order row `r` (the last row takes its place)."""
    last = st[S_NOWN] - 1
    if r != last:
        for column in range(N_OWN):
            own[r, column] = own[last, column]
    st[S_NOWN] = last


@kernel
def close_out(lad, st, own, fills, ack, lat, ts):
    """End of the episode: cancel everything and close the inventory by walking the book.

    Lots that the visible book cannot absorb are closed at its worst visible price (its last known
    best price if the side is empty) and counted.
    """
    st[S_NOWN] = 0
    own_bounds(st, own)
    if st[S_INV] == 0:
        return
    side = -1 if st[S_INV] > 0 else 1
    rest = take_liquidity(lad, st, fills, ack, lat, ts, 0, side, 0, abs(st[S_INV]), CLOSE, st[S_DEC], 0)
    if rest > 0:
        px = worst_visible(lad, st, side)
        book_fill(st, fills, ts, 0, side, px, rest, 0, CLOSE, st[S_DEC])
        st[C_CLOSE_BEYOND] += rest


@kernel
def worst_visible(lad, st, side):
    """Return the price of the furthest displayed level that a trade on `side` would meet."""
    row = 1 if side > 0 else 0
    left = st[S_NA] if side > 0 else st[S_NB]
    if left == 0:
        return st[S_LAST_BA] if side > 0 else st[S_LAST_BB]
    k = st[S_BA] if side > 0 else st[S_BB]
    while True:
        if lad[row, k] > 0:
            left -= 1
            if left == 0:
                return st[S_BASE] + k
        k += side
