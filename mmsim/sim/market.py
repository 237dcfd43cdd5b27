"""The MARKET lane: rows of the tape, in bulk, up to the next moment anybody can look."""

from __future__ import annotations

import numpy as np

from mmsim._jit import hot_kernel, inline_kernel
from mmsim.errors import Status
from mmsim.sim.ladder import U, set_level
from mmsim.sim.layout import (
    INSIDE_ANY,
    LEG_FEED,
    MAX_OWN,
    MAX_PX,
    N_RING,
    NO_LEDGER,
    S_ACK_H,
    S_ACK_T,
    S_ASK_LO,
    S_BASE,
    S_BID_HI,
    S_BID_LO,
    S_CONSUME,
    S_CUR,
    S_HAS_KNOW,
    S_INSIDE,
    S_INTERVAL,
    S_KNOWN,
    S_L3,
    S_NFILL,
    S_NLIVE,
    S_NOW,
    S_RING_H,
    S_RING_T,
    S_START,
    S_STOP,
    S_TP,
    S_WIRE,
    TAPE_LEDGER,
    WIRE_CONSTANT,
)
from mmsim.sim.observe import take_observation
from mmsim.sim.queue import own_level, own_trade
from mmsim.sim.tape import (
    ADD,
    DELETE,
    EXECUTE,
    F_AUCTION,
    F_SEED,
    LEVEL,
    TRADE,
    apply_event,
    note_trade,
)
from mmsim.sim.wire import wire
from mmsim.types import EventFlag

FILLS_FULL, OBS_FULL = int(Status.FILLS_FULL), int(Status.OBS_FULL)
OWN_FULL, BAD_TIME = int(Status.OWN_FULL), int(Status.BAD_TIME)
F_LAST = int(EventFlag.LAST)
FILL_MARGIN = 2 * MAX_OWN  # fills that one event may cause at most, with room to spare


@inline_kernel
def sync(st, cur, now, known):
    """Write what `market` keeps in registers back to the state."""
    st[S_CUR], st[S_NOW], st[S_KNOWN] = cur, now, known


@hot_kernel
def market(ev, know, lad, ords, st, own, ack, lat, ring, fills, limit):
    """Run the MARKET lane up to and including time `limit`; return 0 or a status.

    Stops early (with 0) after an event that sent the agent a message or made a decision due before
    `limit`, so that the caller can look at the lanes again. The frequent events are applied
    here (`quick`), everything else by `tape.apply_event`: the same rules, from `mmsim.sim.queue` and
    `mmsim.sim.ladder`, which the tests compare with the naive replay.
    """
    cur, stop = st[S_CUR], st[S_STOP]
    snapshots = st[S_INTERVAL] == 0
    has_know = st[S_HAS_KNOW] == 1
    steady = st[S_WIRE] == WIRE_CONSTANT
    feed = lat[LEG_FEED]
    acks = st[S_ACK_T]
    room = fills.shape[0] - FILL_MARGIN
    tp, now, known = st[S_TP], st[S_NOW], st[S_KNOWN]
    base, width, slots = st[S_BASE], lad.shape[1], ords.shape[0]
    may, l3 = st[S_CONSUME] != TAPE_LEDGER, st[S_L3] == 1
    levels, orders, prints = may & ~l3, may & l3, may & (st[S_INSIDE] != INSIDE_ANY)
    plain = st[S_CONSUME] == NO_LEDGER
    code, look = 0, False
    while cur < stop:
        e = ev[U(cur)]
        t = e.ts
        if t > limit:
            break
        if t < now:
            code = BAD_TIME
            break
        heard = max(t, know[U(cur)]) if has_know else t
        known = max(known, heard + (feed if steady else wire(st, lat, LEG_FEED, t, cur)))
        if known > tp:
            look = True
            break
        # Straight-line tests (&, |): sides and kinds are random, and a mispredicted branch costs as much as all else.
        kind, px, qty, side, flags = e.kind, np.int64(e.px), np.int64(e.qty), np.int64(e.side), e["flags"]
        ix = px - base
        row = np.int64(side != 1)
        valid = (U(ix) < U(width)) & (qty >= 0) & (abs(side) == 1)
        at_own = (px >= st[S_BID_LO + row]) & (px <= st[S_BID_HI + row])
        crosses = (px - st[S_ASK_LO + row]) * (1 - 2 * row) >= 0  # as a quote; asks meet our highest bid
        level = qty  # what the level holds afterwards
        heeded = False  # the agent was sent a message
        if kind == LEVEL:
            quick = valid & levels & ~(crosses & (qty > 0))
            if quick and at_own:
                own_level(st, own, side, px, np.int64(lad[U(row), U(ix)]), qty, 0)
        elif kind == TRADE:
            quick = valid & prints & (~crosses | (plain & (flags & F_AUCTION == 0)))
            if quick and crosses:
                sync(st, cur, now, known)
                if st[S_NFILL] >= room:
                    return FILLS_FULL
                if acks - st[S_ACK_H] > N_RING // 2:
                    return OWN_FULL
                own_trade(st, own, fills, ack, lat, t, -side, px, qty, -1, st[S_L3])
                heeded = st[S_ACK_T] != acks
            if quick:
                note_trade(st, side, px, qty)
        elif valid and orders and ADD <= kind <= EXECUTE and e.oid < slots:
            o = ords[e.oid]
            held = np.int64(lad[U(row), U(ix)])
            if kind == ADD:
                level = held + qty
                seed = flags & F_SEED != 0
                quick = (o.qty == 0) & (level <= MAX_PX) & ~crosses & ~(seed & (st[S_NLIVE] > 0))
                if quick:
                    o.px = px * side
                    o.qty = qty
                    o.seq = 0 if seed else 2 * (cur + 1)
            else:
                gone = np.int64(o.qty) if kind == DELETE else qty
                level = held - gone
                feels = at_own
                if kind == EXECUTE:
                    worst = st[S_BID_HI] if row == 0 else st[S_ASK_LO]
                    feels = ((worst - px) * side >= 0) | (flags & F_AUCTION != 0)
                quick = ~feels & (o.px == px * side) & (o.qty > 0) & (qty <= o.qty) & (level >= 0)
                if quick:
                    o.qty -= gone
                    if kind == EXECUTE:
                        note_trade(st, -side, px, qty)
        else:
            quick = False
        if quick and kind != TRADE:
            set_level(lad, st, row, ix, level)
        elif not quick:
            sync(st, cur, now, known)
            if st[S_NFILL] >= room:
                return FILLS_FULL
            if acks - st[S_ACK_H] > N_RING // 2:
                return OWN_FULL
            code = apply_event(e, cur, lad, ords, st, own, fills, ack, lat)
            if code != 0:
                return code
            heeded = st[S_ACK_T] != acks
        now = t
        cur += 1
        if snapshots and flags & F_LAST and known >= st[S_START]:
            st[S_TP] = known
            tp = known
            limit = min(limit, known)
        if heeded:
            break
    sync(st, cur, now, known)
    if look:  # not in the loop, or the compiler prepares for it at every row
        if st[S_RING_T] - st[S_RING_H] >= ring.shape[0]:
            return OBS_FULL
        take_observation(lad, st, own, ring, tp)
    return code
