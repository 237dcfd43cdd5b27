"""Apply one market event: to own orders, which see the book as it was, and to the book. Every rule is here once.

Most rows concern no own order. For them this is straight-line code, which the MARKET lane
(`mmsim.sim.market`) takes into its loop: sides and kinds are random, and a mispredicted branch costs as much as
all the rest. What own orders meet is behind one test per row (``concerned``).
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import hot_kernel, inline_kernel, kernel
from mmsim.errors import Status
from mmsim.records import MAX_PX
from mmsim.sim.ladder import U, available, clear_book, note_taken, set_level, spared
from mmsim.sim.own_orders import (
    follow_level,
    follow_order,
    lose_sight,
    meet_quote,
    meet_seed,
    meet_trade,
    meet_volume_inside,
)
from mmsim.sim.records import INSIDE_ANY, MAX_OWN, N_RING, TAPE_LEDGER
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
OK, MET = 0, 1000  # MET: the row was applied, and own orders met it (they may have sent messages)
BAD_KIND, BAD_PRICE, BAD_ORDER = int(Status.BAD_KIND), int(Status.BAD_PRICE), int(Status.BAD_ORDER)
BAD_QTY, BAD_SIDE = int(Status.BAD_QTY), int(Status.BAD_SIDE)
FILLS_FULL, OWN_FULL = int(Status.FILLS_FULL), int(Status.OWN_FULL)
FILL_MARGIN = 2 * MAX_OWN  # fills that one event may cause at most, with room to spare


@inline_kernel
def note_trade(sim, aggressor, px, qty):
    """Count a trade for the next observation."""
    book = sim.book
    if aggressor != 0:
        row = U(0 if aggressor > 0 else 1)
        book.traded_qty[row] += qty
        book.traded_notional[row] += px * qty
    book.n_trades += 1
    book.last_trade_px = px


@kernel
def free_slots(ords, side, px):
    """Free the slots of all orders at a price (`side` 0: of all orders)."""
    for k in range(ords.shape[0]):
        if side == 0 or ords[k].px == px * side:
            ords[k].qty = 0


@kernel
def room(sim, fills):
    """Return 0 if there is room for what one event may do to own orders, or the buffer that is full."""
    if sim.account.n_fills >= fills.shape[0] - FILL_MARGIN:
        return FILLS_FULL
    if sim.wire.messages_tail - sim.wire.messages_head > N_RING // 2:
        return OWN_FULL
    return OK


@kernel
def level_concerns(sim, lad, fills, lat, ts, side, px, qty):
    """A level's total changes where own orders stand, or touches those of the other side; 0 or a full buffer."""
    full = room(sim, fills)
    if full != OK:
        return full
    row, ix = 0 if side > 0 else 1, px - sim.book.base_px
    orders = sim.orders
    if orders.lowest[row] <= px and px <= orders.highest[row]:
        follow_level(sim, side, px, np.int64(lad[row, ix]), qty, spared(sim, lad, row, ix))
    if qty > 0 and reaches_own(sim, side, px):
        lots = np.int64(-1)  # level feeds: our orders are filled completely
        if sim.rules.ledger == TAPE_LEDGER:
            lots = max(qty + min(np.int64(lad[row + 2, ix]), 0), 0)
        filled = meet_quote(sim, fills, lat, ts, -side, px, lots)
        note_taken(sim, lad, row, ix, -filled)
    return OK


@kernel
def trade_concerns(sim, lad, fills, lat, ts, side, px, qty):
    """A print may reach own orders; 0 or a full buffer. `side`: the aggressor's, 0 if unknown."""
    full = room(sim, fills)
    if full != OK:
        return full
    book = sim.book
    rest = -side
    if side == 0 and book.levels[0] > 0 and book.levels[1] > 0:  # by the side of the mid it printed on
        gap = 2 * (px - book.base_px) - book.best[0] - book.best[1]
        rest = 1 if gap < 0 else (-1 if gap > 0 else 0)
    if rest != 0 and reaches_own(sim, -rest, px):
        filled = meet_trade(sim, fills, lat, ts, rest, px, qty, np.int64(-1), sim.rules.l3)
        note_taken(sim, lad, 0 if rest > 0 else 1, px - book.base_px, filled)
    if sim.rules.inside == INSIDE_ANY and rest != 0:
        meet_volume_inside(sim, fills, lat, ts, -rest, qty)
    return OK


@kernel
def order_concerns(sim, lad, fills, lat, ts, side, px, qty, order_seq):
    """A market order that crosses own orders arrives, or one that own orders may stand before is hit.

    `order_seq`: the hit order's arrival; -1: it arrives. 0 or a full buffer.
    """
    full = room(sim, fills)
    if full != OK:
        return full
    row, ix = 0 if side > 0 else 1, px - sim.book.base_px
    if order_seq < 0:
        note_taken(sim, lad, row, ix, -meet_quote(sim, fills, lat, ts, -side, px, qty))
    else:
        note_taken(sim, lad, row, ix, meet_trade(sim, fills, lat, ts, side, px, qty, order_seq, np.int64(1)))
    return OK


@inline_kernel
def reaches_own(sim, side, px):
    """Tell whether a quote or an aggressor of `side` at `px` touches or crosses an own order of the other side."""
    return px >= sim.orders.lowest[1] if side > 0 else px <= sim.orders.highest[0]


@kernel
def rare_row(sim, lad, ords, e):
    """Apply a row that is not plain: HIDE, CLEAR, or one that cannot be, whose fault is returned."""
    kind, px, side = np.int64(e.kind), np.int64(e.px), np.int64(e.side)
    ix = px - sim.book.base_px
    if e.qty < 0:
        return BAD_QTY
    if kind == CLEAR:
        clear_book(sim, lad)
        free_slots(ords, 0, 0)
        return OK
    if ix < 0 or ix >= lad.shape[1]:
        return BAD_PRICE
    if side < -1 or side > 1 or (side == 0 and kind != TRADE):
        return BAD_SIDE
    if kind != HIDE:  # orders are L3's, levels are not
        return BAD_ORDER if ADD <= kind <= EXECUTE and sim.rules.l3 == 1 else BAD_KIND
    row = 0 if side > 0 else 1
    if sim.orders.lowest[row] <= px and px <= sim.orders.highest[row]:
        lose_sight(sim, side, px)
    set_level(sim, lad, row, ix, 0)
    if sim.rules.l3 == 1:
        free_slots(ords, side, px)
    return OK


@hot_kernel
def apply_row(sim, lad, ords, fills, lat, e, cur):
    """Apply event record `e`, row `cur`; return OK, MET, or a `Status` with which nothing was changed."""
    kind, px, qty, side, flags = e.kind, np.int64(e.px), np.int64(e.qty), np.int64(e.side), e["flags"]
    own, l3 = sim.orders, sim.rules.l3 == 1
    ix = px - sim.book.base_px
    row = np.int64(side != 1)
    valid = (U(ix) < U(lad.shape[1])) & (qty >= 0) & (abs(side) == 1)
    at_own = (px >= own.lowest[U(row)]) & (px <= own.highest[U(row)])
    edge = own.lowest[U(1)] if row == 0 else own.highest[U(0)]
    crosses = (px - edge) * (1 - 2 * row) >= 0  # an own order of the other side
    auction = flags & F_AUCTION != 0
    done = OK
    if kind == LEVEL:
        if not valid or l3:
            return rare_row(sim, lad, ords, e)
        if at_own | (crosses & (qty > 0)):
            code = level_concerns(sim, lad, fills, lat, e.ts, side, px, qty)
            if code != OK:
                return code
            done = MET
        set_level(sim, lad, row, ix, qty)
    elif kind == TRADE:
        if not valid and (side != 0 or qty < 0 or ix < 0 or ix >= lad.shape[1]):
            return rare_row(sim, lad, ords, e)
        anywhere = (own.n_live > 0) & ((side == 0) | (sim.rules.inside == INSIDE_ANY))
        if (anywhere | crosses & (side != 0)) & ~auction:
            code = trade_concerns(sim, lad, fills, lat, e.ts, side, px, qty)
            if code != OK:
                return code
            done = MET
        note_trade(sim, side, px, qty)
    elif valid and l3 and ADD <= kind <= EXECUTE and e.oid < ords.shape[0]:
        o = ords[e.oid]
        held = np.int64(lad[U(row), U(ix)])
        if kind == ADD:
            seed = flags & F_SEED != 0
            level = held + qty
            if o.qty != 0:
                return BAD_ORDER
            if level > MAX_PX:
                return BAD_QTY
            if crosses & ~auction:
                code = order_concerns(sim, lad, fills, lat, e.ts, side, px, qty, np.int64(-1))
                if code != OK:
                    return code
                done = MET
            o.px = px * side
            o.qty = qty
            o.seq = 0 if seed else 2 * (cur + 1)
            set_level(sim, lad, row, ix, level)
            if seed & at_own:
                meet_seed(sim, side, px, available(sim, lad, row, ix))
            return done
        gone = np.int64(o.qty) if kind == DELETE else qty
        level = held - gone
        if (o.px != px * side) | (o.qty < qty) | (o.qty == 0):
            return BAD_ORDER
        if level < 0:
            return BAD_QTY
        seq = np.int64(o.seq)
        if kind == EXECUTE:
            worst = own.highest[U(0)] if row == 0 else own.lowest[U(1)]
            if ((worst - px) * side >= 0) & ~auction:
                code = order_concerns(sim, lad, fills, lat, e.ts, side, px, qty, seq)
                if code != OK:
                    return code
                done = MET
            note_trade(sim, 0 if auction else -side, px, qty)
            seq = np.int64(-1)
        o.qty -= gone
        if at_own:
            follow_order(sim, side, px, gone, seq, level + spared(sim, lad, row, ix))
        set_level(sim, lad, row, ix, level)
    else:
        return rare_row(sim, lad, ords, e)
    return done
