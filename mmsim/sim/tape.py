"""Apply one market event: to own orders first (they see the book as it was), then to the book."""

from __future__ import annotations

import numpy as np

from mmsim._jit import hot_kernel, inline_kernel, kernel
from mmsim.errors import Status
from mmsim.sim.ladder import available, clear_book, ledger, set_level, spared
from mmsim.sim.layout import (
    INSIDE_ANY,
    MAX_PX,
    S_ASK_HI,
    S_ASK_LO,
    S_BA,
    S_BASE,
    S_BB,
    S_BID_HI,
    S_BID_LO,
    S_BUYN,
    S_BUYQ,
    S_CONSUME,
    S_INSIDE,
    S_L3,
    S_LASTPX,
    S_NA,
    S_NB,
    S_NLIVE,
    S_NTRADE,
    TAPE_LEDGER,
)
from mmsim.sim.queue import (
    own_cross,
    own_hide,
    own_inside,
    own_level,
    own_order_left,
    own_seed,
    own_trade,
)
from mmsim.types import EventFlag, EventKind

ADD, REDUCE, DELETE, EXECUTE = (
    int(EventKind.ADD),
    int(EventKind.REDUCE),
    int(EventKind.DELETE),
    int(EventKind.EXECUTE),
)
TRADE, LEVEL, HIDE, CLEAR = (
    int(EventKind.TRADE),
    int(EventKind.LEVEL),
    int(EventKind.HIDE),
    int(EventKind.CLEAR),
)
F_SEED, F_AUCTION = int(EventFlag.SEED), int(EventFlag.AUCTION)
OK, BAD_KIND, BAD_PRICE, BAD_ORDER, BAD_QTY, BAD_SIDE = (
    0,
    int(Status.BAD_KIND),
    int(Status.BAD_PRICE),
    int(Status.BAD_ORDER),
    int(Status.BAD_QTY),
    int(Status.BAD_SIDE),
)


@inline_kernel
def at_own_price(st, side, px):
    """Return 1 if `px` lies within the prices of our resting orders on `side` (or beyond the best)."""
    if side > 0:
        return st[S_BID_LO] <= px and px <= st[S_BID_HI]
    return st[S_ASK_LO] <= px and px <= st[S_ASK_HI]


@inline_kernel
def trade_reaches_own(st, side, px):
    """Return 1 if a trade at `px` against resting orders on `side` can concern an own order."""
    if side > 0:
        return px <= st[S_BID_HI]
    return px >= st[S_ASK_LO]


@inline_kernel
def quote_reaches_own(st, side, px):
    """Return 1 if a new quote on `side` at `px` touches or crosses an own order of the other side."""
    if side > 0:
        return px >= st[S_ASK_LO]
    return px <= st[S_BID_HI]


@inline_kernel
def note_trade(st, aggressor, px, qty):
    """Count a trade for the next observation."""
    if aggressor != 0:
        row = 0 if aggressor > 0 else 1
        st[S_BUYQ + row] += qty
        st[S_BUYN + row] += px * qty
    st[S_NTRADE] += 1
    st[S_LASTPX] = px


@kernel
def free_slots(ords, side, px):
    """Free the slots of all orders at a price (`side` 0: of all orders)."""
    for k in range(ords.shape[0]):
        if side == 0 or ords[k].px == px * side:
            ords[k].qty = 0


@hot_kernel
def apply_event(e, cur, lad, ords, st, own, fills, ack, lat):
    """Apply event record `e` (row `cur`); return 0 or a negative `Status`, which changed nothing."""
    kind = e.kind
    px = np.int64(e.px)
    side = np.int64(e.side)
    qty = np.int64(e.qty)
    ix = px - st[S_BASE]
    if qty < 0:
        return BAD_QTY
    if kind == CLEAR:
        clear_book(lad, st)
        free_slots(ords, 0, 0)
        return OK
    if ix < 0 or ix >= lad.shape[1]:
        return BAD_PRICE
    if side < -1 or side > 1 or (side == 0 and kind != TRADE):
        return BAD_SIDE
    row = 0 if side > 0 else 1
    live = st[S_NLIVE] > 0
    if ADD <= kind <= EXECUTE or kind == LEVEL:  # orders are L3's, levels are not
        if (st[S_L3] == 1) == (kind == LEVEL):
            return BAD_KIND
    if kind == LEVEL:
        if live:
            if at_own_price(st, side, px):
                own_level(st, own, side, px, lad[row, ix], qty, spared(lad, st, row, ix))
            if qty > 0 and quote_reaches_own(st, side, px):
                room = np.int64(-1)  # level feeds: our orders are filled completely
                if st[S_CONSUME] == TAPE_LEDGER:
                    room = max(qty + min(np.int64(lad[row + 2, ix]), 0), 0)
                filled = own_cross(st, own, fills, ack, lat, e.ts, -side, px, room)
                ledger(lad, st, row, ix, -filled)
        set_level(lad, st, row, ix, qty)
        return OK
    if kind == TRADE:
        if e["flags"] & F_AUCTION:
            note_trade(st, side, px, qty)
            return OK
        if live:
            rest = -side
            if (
                side == 0 and st[S_NB] > 0 and st[S_NA] > 0
            ):  # unknown aggressor: by the side of the mid it printed on
                gap = 2 * (px - st[S_BASE]) - st[S_BB] - st[S_BA]
                rest = 1 if gap < 0 else (-1 if gap > 0 else 0)
            if rest != 0 and trade_reaches_own(st, rest, px):
                filled = own_trade(st, own, fills, ack, lat, e.ts, rest, px, qty, -1, st[S_L3])
                ledger(lad, st, 0 if rest > 0 else 1, ix, filled)
            if st[S_INSIDE] == INSIDE_ANY and rest != 0:
                own_inside(st, own, fills, ack, lat, e.ts, -rest, qty)
        note_trade(st, side, px, qty)
        return OK
    if kind == HIDE:
        if live and at_own_price(st, side, px):
            own_hide(st, own, side, px)
        set_level(lad, st, row, ix, 0)
        if st[S_L3] == 1:
            free_slots(ords, side, px)
        return OK
    if kind < ADD or kind > EXECUTE:
        return BAD_KIND
    oid = e.oid
    if oid >= ords.shape[0]:
        return BAD_ORDER
    o = ords[oid]
    if kind == ADD:
        if o.qty != 0:
            return BAD_ORDER
        after = np.int64(lad[row, ix]) + qty
        if after > MAX_PX:
            return BAD_QTY
        if live and quote_reaches_own(st, side, px) and not e["flags"] & F_AUCTION:
            filled = own_cross(st, own, fills, ack, lat, e.ts, -side, px, qty)
            ledger(lad, st, row, ix, -filled)
        o.px = px * side
        o.qty = qty
        o.seq = 0 if e["flags"] & F_SEED else 2 * (cur + 1)
        set_level(lad, st, row, ix, after)
        if live and e["flags"] & F_SEED and at_own_price(st, side, px):
            own_seed(st, own, side, px, available(lad, st, row, ix))
        return OK
    if o.px != px * side or o.qty < qty or o.qty == 0:
        return BAD_ORDER
    seq = o.seq
    if kind == DELETE:
        qty = np.int64(o.qty)
    after = np.int64(lad[row, ix]) - qty
    if after < 0:
        return BAD_QTY
    if kind == EXECUTE:
        auction = e["flags"] & F_AUCTION
        if live and trade_reaches_own(st, side, px) and not auction:
            filled = own_trade(st, own, fills, ack, lat, e.ts, side, px, qty, seq, 1)
            ledger(lad, st, row, ix, filled)
        note_trade(st, 0 if auction else -side, px, qty)
        seq = np.int64(-1)
    o.qty -= qty
    if live and at_own_price(st, side, px):
        own_order_left(st, own, side, px, qty, seq, after + spared(lad, st, row, ix))
    set_level(lad, st, row, ix, after)
    return OK
