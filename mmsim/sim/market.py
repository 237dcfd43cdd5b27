"""The MARKET lane: rows of the tape, in bulk, up to the next moment anybody can look."""

from __future__ import annotations

import numpy as np

from mmsim._jit import hot_kernel, inline_kernel
from mmsim.errors import Status
from mmsim.sim.layout import (
    INSIDE_ANY,
    LEG_FEED,
    MAX_OWN,
    MAX_PX,
    N_RING,
    NO_LEDGER,
    S_ACK_H,
    S_ACK_T,
    S_ASK_HI,
    S_ASK_LO,
    S_BA,
    S_BASE,
    S_BB,
    S_BID_HI,
    S_BID_LO,
    S_CONSUME,
    S_CUR,
    S_HAS_KNOW,
    S_INSIDE,
    S_INTERVAL,
    S_KNOWN,
    S_L3,
    S_NA,
    S_NB,
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
def sync(st, bb, ba, nb, na, cur, now, known):
    """Write what `market` keeps in registers back to the state."""
    st[S_BB], st[S_BA], st[S_NB], st[S_NA] = bb, ba, nb, na
    st[S_CUR], st[S_NOW], st[S_KNOWN] = cur, now, known


@hot_kernel
def market(ev, know, lad, ords, st, own, ack, lat, ring, fills, limit):
    """Run the MARKET lane up to and including time `limit`; return 0 or a status.

    Stops early (with 0) after an event that sent the agent a message or made a decision due before
    `limit`, so that the caller can look at the lanes again. The frequent events are applied
    here with the best prices in registers (`quick`), everything else by `tape.apply_event`: the same rules,
    from `mmsim.sim.queue`, which the tests compare with the naive replay.
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
    bb, ba, nb, na = st[S_BB], st[S_BA], st[S_NB], st[S_NA]
    bid_lo, bid_hi, ask_lo, ask_hi = st[S_BID_LO], st[S_BID_HI], st[S_ASK_LO], st[S_ASK_HI]
    may, l3 = st[S_CONSUME] != TAPE_LEDGER, st[S_L3] == 1
    plain, not_any = st[S_CONSUME] == NO_LEDGER, st[S_INSIDE] != INSIDE_ANY
    code = 0
    while cur < stop:
        e = ev[cur]
        t = e.ts
        if t > limit:
            break
        if t < now:
            code = BAD_TIME
            break
        heard = max(t, know[cur]) if has_know else t
        known = max(known, heard + (feed if steady else wire(st, lat, LEG_FEED, t, cur)))
        if known > tp:
            sync(st, bb, ba, nb, na, cur, now, known)
            if st[S_RING_T] - st[S_RING_H] >= ring.shape[0]:
                return OBS_FULL
            take_observation(lad, st, own, ring, tp)
            tp = st[S_TP]
            continue
        # Straight-line tests (&, |): sides and kinds are random, and a mispredicted branch costs as much as all else.
        kind, px, qty, side, flags = e.kind, np.int64(e.px), np.int64(e.qty), np.int64(e.side), e["flags"]
        ix = px - base
        bid = side == 1
        row = 0 if bid else 1
        quick = may & (ix >= 0) & (ix < width) & (qty >= 0) & (bid | (side == -1))
        at_own = (bid & (px >= bid_lo) & (px <= bid_hi)) | (~bid & (px >= ask_lo) & (px <= ask_hi))
        crosses = (bid & (px >= ask_lo)) | (~bid & (px <= bid_hi))  # as a quote on `side`
        level = qty  # what the level holds afterwards
        heeded = False  # the agent was sent a message
        if kind == LEVEL:
            quick = quick & ~l3 & ~(crosses & (qty > 0))
            if quick and at_own:
                own_level(st, own, side, px, np.int64(lad[row, ix]), qty, 0)
        elif kind == TRADE:
            quick = quick & not_any & (~crosses | (plain & (flags & F_AUCTION == 0)))
            if quick and crosses:
                sync(st, bb, ba, nb, na, cur, now, known)
                if st[S_NFILL] >= room:
                    return FILLS_FULL
                if acks - st[S_ACK_H] > N_RING // 2:
                    return OWN_FULL
                own_trade(st, own, fills, ack, lat, t, -side, px, qty, -1, st[S_L3])
                heeded = st[S_ACK_T] != acks
            if quick:
                note_trade(st, side, px, qty)
        elif quick and l3 and ADD <= kind <= EXECUTE and e.oid < slots:
            o = ords[e.oid]
            held = np.int64(lad[row, ix])
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
                    feels = (bid & (px <= bid_hi)) | (~bid & (px >= ask_lo)) | (flags & F_AUCTION != 0)
                quick = ~feels & (o.px == px * side) & (o.qty > 0) & (qty <= o.qty) & (level >= 0)
                if quick:
                    o.qty -= gone
                    if kind == EXECUTE:
                        note_trade(st, -side, px, qty)
        else:
            quick = False
        if quick and kind != TRADE:
            old = np.int64(lad[row, ix])
            lad[row, ix] = level
            emptied = (level == 0) & (old > 0)
            change = np.int64((level > 0) & (old == 0)) - np.int64(emptied)
            nb += change if bid else 0
            na += 0 if bid else change
            bb = max(bb, ix if bid & (level > 0) else -1)
            ba = min(ba, ix if ~bid & (level > 0) else width)
            if emptied and ix == (bb if bid else ba):
                if bid:
                    bb -= 1
                    while bb >= 0 and (nb == 0 or lad[0, bb] == 0):
                        bb = bb - 1 if nb > 0 else -1
                else:
                    ba += 1
                    while ba < width and (na == 0 or lad[1, ba] == 0):
                        ba = ba + 1 if na > 0 else width
        elif not quick:
            sync(st, bb, ba, nb, na, cur, now, known)
            if st[S_NFILL] >= room:
                return FILLS_FULL
            if acks - st[S_ACK_H] > N_RING // 2:
                return OWN_FULL
            code = apply_event(e, cur, lad, ords, st, own, fills, ack, lat)
            if code != 0:
                return code
            bb, ba, nb, na = st[S_BB], st[S_BA], st[S_NB], st[S_NA]
            heeded = st[S_ACK_T] != acks
        now = t
        cur += 1
        if snapshots and flags & F_LAST and known >= st[S_START]:
            st[S_TP] = known
            tp = known
            limit = min(limit, known)
        if heeded:
            break
    sync(st, bb, ba, nb, na, cur, now, known)
    return code
