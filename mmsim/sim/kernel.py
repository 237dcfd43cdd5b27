"""The event loop: four lanes, smallest time first, until the agent must be asked.

Lanes at equal times run in this order (ADR 0001): MARKET, ORDER_ARRIVAL, ACK, DECISION. So an order
that arrives at the time of a trade arrives after it, and a decision sees everything that happened
up to and including its own time.

One book is enough for two clocks: what the agent can know at a decision at local time T is the book
after exactly the events known by T (receive time + feed latency <= T). The loop *takes* the
observation when it passes that row of the tape and *delivers* it at T, after everything the
exchange did meanwhile; in between it waits in a ring.
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import borrow, hot_kernel, inline_kernel, kernel
from mmsim.agent import (
    O_ASK_PX,
    O_BID_PX,
    O_BUY_NOTIONAL,
    O_BUY_QTY,
    O_CASH,
    O_EXCH_TS,
    O_INVENTORY,
    O_LAST_TRADE_PX,
    O_N_ASK,
    O_N_BID,
    O_N_ORDERS,
    O_N_TRADES,
    O_SELL_NOTIONAL,
    O_SELL_QTY,
    O_STEP,
    O_TIME_LEFT,
    O_TS,
    OBS_SIZE,
)
from mmsim.errors import Status
from mmsim.sim.ladder import copy_depth, note_mid
from mmsim.sim.layout import (
    A_ID,
    A_KIND,
    A_PX,
    A_QTY,
    A_SIDE,
    A_TS,
    ACK_AT,
    ACK_FILL,
    ACK_LIVE,
    C_ASKED,
    C_MISSED,
    C_ONE_SIDED,
    INF,
    INSIDE_ANY,
    L_LIVE,
    L_PENDING,
    LEG_FEED,
    MAX_OWN,
    MAX_PX,
    N_ACK,
    N_OWN,
    N_REQ,
    N_RING,
    N_STATE,
    OBS_AT,
    OWN_AT,
    OWN_LIVE,
    R_TS,
    REQ_AT,
    RING_OWN,
    RING_T,
    S_ACASH,
    S_ACK_H,
    S_ACK_T,
    S_AINV,
    S_ASK_HI,
    S_ASK_LO,
    S_BA,
    S_BASE,
    S_BB,
    S_BID_HI,
    S_BID_LO,
    S_BUSY,
    S_BUYN,
    S_BUYQ,
    S_CASH,
    S_CONSUME,
    S_CUR,
    S_DEC,
    S_DTS,
    S_END,
    S_EPISODE,
    S_FIRST,
    S_HAS_KNOW,
    S_INSIDE,
    S_INTERVAL,
    S_INV,
    S_KNOWN,
    S_LAST,
    S_LASTPX,
    S_MAXINV,
    S_MID2,
    S_NA,
    S_NACKED,
    S_NB,
    S_NFILL,
    S_NLIVE,
    S_NOW,
    S_NOWN,
    S_NSTEP,
    S_NTRADE,
    S_OBS_ASK,
    S_OBS_BID,
    S_OBS_MID2,
    S_PEND_STEP,
    S_REQ_H,
    S_REQ_T,
    S_RING_H,
    S_RING_T,
    S_SELLN,
    S_SELLQ,
    S_START,
    S_STOP,
    S_TP,
    S_TRADED,
    S_WIRE,
    W_AHEAD,
    W_AHEAD0,
    W_ID,
    W_LQTY,
    W_LSTATE,
    W_PX,
    W_SIDE,
    W_STATE,
    WANT_AT,
    WANT_HEAD,
    WIRE_AT,
    WIRE_CONSTANT,
)
from mmsim.sim.orders import arrive, close_out, drop_row, find_own, quotes_valid, stage
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
from mmsim.sim.user_call import call_decide
from mmsim.sim.wire import wire
from mmsim.types import EventFlag

DECIDE, END = int(Status.DECIDE), int(Status.END)
FILLS_FULL, OBS_FULL, STEPS_FULL = int(Status.FILLS_FULL), int(Status.OBS_FULL), int(Status.STEPS_FULL)
MORE_ROWS = int(Status.MORE_ROWS)
OWN_FULL, BAD_TIME, BAD_QUOTES = int(Status.OWN_FULL), int(Status.BAD_TIME), int(Status.BAD_QUOTES)
F_LAST = int(EventFlag.LAST)
FILL_MARGIN = 2 * MAX_OWN  # fills that one event may cause at most, with room to spare


@inline_kernel
def take_room(st):
    """Return the fill rows that one own order, or closing out, may need at most."""
    return FILL_MARGIN + min(2 * st[S_MAXINV], max(st[S_NB], st[S_NA]))


@kernel
def take_observation(lad, st, own, ring, t):
    """Put what is known for the decision at local time `t` into the ring."""
    if st[S_FIRST] == 1:  # trades while the book was built are not news
        st[S_FIRST] = 0
        st[S_BUYQ], st[S_SELLQ], st[S_BUYN], st[S_SELLN], st[S_NTRADE] = 0, 0, 0, 0, 0
    i = st[S_RING_T] % ring.shape[0]  # no view of the row: making one costs more than using it
    copy_depth(lad, st, ring, i)
    ring[i, O_TS] = t
    ring[i, O_EXCH_TS] = st[S_NOW]
    ring[i, O_BUY_QTY], ring[i, O_SELL_QTY] = st[S_BUYQ], st[S_SELLQ]
    ring[i, O_BUY_NOTIONAL], ring[i, O_SELL_NOTIONAL] = st[S_BUYN], st[S_SELLN]
    ring[i, O_LAST_TRADE_PX], ring[i, O_N_TRADES] = st[S_LASTPX], st[S_NTRADE]
    ring[i, O_TIME_LEFT] = st[S_END] - t
    st[S_BUYQ] = 0
    st[S_SELLQ] = 0
    st[S_BUYN] = 0
    st[S_SELLN] = 0
    st[S_NTRADE] = 0
    for r in range(st[S_NOWN]):
        ring[i, RING_OWN + 2 * r] = own[r, W_ID] if own[r, W_STATE] == OWN_LIVE else 0
        ring[i, RING_OWN + 2 * r + 1] = own[r, W_AHEAD]
    ring[i, RING_OWN + 2 * st[S_NOWN]] = -1
    ring[i, RING_T] = t
    st[S_RING_T] += 1
    st[S_TP] = t + st[S_INTERVAL] if st[S_INTERVAL] > 0 else INF


@kernel
def deliver(st, own, ring, obs, own_view):
    """Hand the oldest observation in the ring to the agent, with its own acknowledged state."""
    i = st[S_RING_H] % ring.shape[0]
    for k in range(OBS_SIZE):
        obs[k] = ring[i, k]
    obs[O_STEP] = st[S_DEC]
    obs[O_INVENTORY] = st[S_AINV]
    obs[O_CASH] = st[S_ACASH]
    n = 0
    for r in range(st[S_NOWN]):
        if own[r, W_LQTY] <= 0 or own[r, W_LSTATE] > L_LIVE:
            continue
        v = own_view[n]
        v.order_id = own[r, W_ID]
        v.px = own[r, W_PX]
        v.qty = own[r, W_LQTY]
        v.side = own[r, W_SIDE]
        v.live = own[r, W_LSTATE]
        v.queue_ahead = own[r, W_AHEAD0]
        k = RING_OWN
        while ring[i, k] != -1:
            if ring[i, k] == own[r, W_ID]:
                v.queue_ahead = ring[i, k + 1]
                break
            k += 2
        n += 1
    obs[O_N_ORDERS] = n


@hot_kernel
def acknowledge(st, own, ack):
    """The agent learns of the oldest message sent to it."""
    i = st[S_ACK_H] % N_RING
    st[S_ACK_H] += 1
    kind = ack[i, A_KIND]
    if kind == ACK_FILL:
        st[S_AINV] += ack[i, A_SIDE] * ack[i, A_QTY]
        st[S_ACASH] -= ack[i, A_SIDE] * ack[i, A_PX] * ack[i, A_QTY]
        st[S_NACKED] += 1
    r = find_own(st, own, ack[i, A_ID])
    if r < 0:
        return
    if kind == ACK_FILL:
        own[r, W_LQTY] -= ack[i, A_QTY]
    elif kind == ACK_LIVE:
        if own[r, W_LSTATE] == L_PENDING:
            own[r, W_LSTATE] = L_LIVE
    else:
        drop_row(st, own, r)


@kernel
def write_step(st, steps, t, asked, want, latency, wall, mid2, bid, ask):
    """Append one step row."""
    s = steps[st[S_NSTEP]]
    s.ts = t
    s.mid2 = mid2
    s.cash = st[S_CASH]
    s.inventory = st[S_INV]
    s.traded_qty = st[S_TRADED]
    s.latency_ns = latency
    s.wall_ns = wall
    s.bid_px = bid
    s.ask_px = ask
    s.episode = st[S_EPISODE]
    s.asked = asked
    bpx, bqty, apx, aqty = 0, 0, 0, 0
    if asked == 1:
        at = WANT_HEAD
        for _ in range(want[0]):
            if bqty == 0 or want[at] > bpx:
                bpx, bqty = want[at], want[at + 1]
            at += 2
        for _ in range(want[1]):
            if aqty == 0 or want[at] < apx:
                apx, aqty = want[at], want[at + 1]
            at += 2
    s.own_bid_px, s.own_bid_qty, s.own_ask_px, s.own_ask_qty = bpx, bqty, apx, aqty
    st[S_NSTEP] += 1


@inline_kernel
def sync(st, bb, ba, nb, na, cur, now, known):
    """Write what `market` keeps in registers back to the state."""
    st[S_BB], st[S_BA], st[S_NB], st[S_NA] = bb, ba, nb, na
    st[S_CUR], st[S_NOW], st[S_KNOWN] = cur, now, known


@hot_kernel
def market(ev, know, lad, ords, st, own, ack, lat, ring, fills, limit):
    """Run the MARKET lane up to and including time `limit`; return 0 or a status.

    Stops early (with 0) after an event that sent the agent a message or made a decision due before
    `limit`, so that the caller can look at the lanes again. Events that no own order can feel (`quick`)
    are applied here with the best prices in registers, everything else by `tape.apply_event`: the same
    rules, which the tests compare with the naive replay.
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
    may = st[S_CONSUME] == 0
    any_inside = st[S_INSIDE] != INSIDE_ANY
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
        if kind == LEVEL:
            quick = quick & ~(at_own | (crosses & (qty > 0)))
        elif kind == TRADE:
            quick = quick & ~crosses & any_inside
            if quick:
                note_trade(st, side, px, qty)
        elif quick and ADD <= kind <= EXECUTE and e.oid < slots:
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
        heeded = False
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


@kernel
def split(mem):
    """Return the parts of `mem`: state, own orders, requests, acknowledgements, observation, quotes, latencies."""
    mem = borrow(mem)
    return (
        mem[:N_STATE],
        mem[OWN_AT:REQ_AT].reshape(MAX_OWN + 1, N_OWN),
        mem[REQ_AT:ACK_AT].reshape(N_RING, N_REQ),
        mem[ACK_AT:OBS_AT].reshape(N_RING, N_ACK),
        mem[OBS_AT:WANT_AT],
        mem[WANT_AT:WIRE_AT],
        mem[WIRE_AT:],
    )


@hot_kernel
def run_lanes(ev, know, lad, ords, st, own, req, ack, obs, want, lat, ring, fills, steps, own_view):
    """Send the requests that `want` asks for, then run all lanes until the agent must be asked."""
    if st[S_PEND_STEP] == 1:
        if quotes_valid(st, want) == 0:
            return BAD_QUOTES
        if st[S_NSTEP] >= steps.shape[0]:
            return STEPS_FULL
        write_step(
            st, steps, st[S_DTS], 1, want, want[4], want[5], st[S_OBS_MID2], st[S_OBS_BID], st[S_OBS_ASK]
        )
        st[S_PEND_STEP] = 0
        st[S_BUSY] = st[S_DTS] + want[4]
        if stage(st, own, req, lat, want, st[S_BUSY]) != 0:
            return OWN_FULL
        st[S_DEC] += 1
    while True:
        t_arr = req[st[S_REQ_H] % N_RING, R_TS] if st[S_REQ_H] < st[S_REQ_T] else INF
        t_ack = ack[st[S_ACK_H] % N_RING, A_TS] if st[S_ACK_H] < st[S_ACK_T] else INF
        waiting = st[S_RING_H] < st[S_RING_T]
        t_dec = ring[st[S_RING_H] % ring.shape[0], RING_T] if waiting else st[S_TP]
        t = min(t_arr, t_ack, t_dec, st[S_END])
        end = t >= st[S_END]
        if st[S_CUR] == st[S_STOP] and st[S_STOP] < st[S_LAST]:
            return MORE_ROWS
        if st[S_CUR] < st[S_STOP]:
            limit = st[S_END] - 1 if end else t
            if ev[st[S_CUR]].ts <= limit:
                code = market(ev, know, lad, ords, st, own, ack, lat, ring, fills, limit)
                if code != 0:
                    return code
                continue
        if end:
            break
        if st[S_NFILL] + take_room(st) >= fills.shape[0]:
            return FILLS_FULL
        if st[S_ACK_T] - st[S_ACK_H] > N_RING // 2:
            return OWN_FULL
        if t_arr == t:
            arrive(lad, st, own, req, fills, ack, lat, t)
            continue
        if t_ack == t:
            acknowledge(st, own, ack)
            continue
        if not waiting:
            take_observation(lad, st, own, ring, t)
        if st[S_NSTEP] >= steps.shape[0]:
            return STEPS_FULL
        i = st[S_RING_H] % ring.shape[0]
        bid_px, ask_px = ring[i, O_BID_PX], ring[i, O_ASK_PX]
        two_sided = ring[i, O_N_BID] > 0 and ring[i, O_N_ASK] > 0 and bid_px < ask_px
        mid2 = bid_px + ask_px if two_sided else st[S_MID2]
        if st[S_BUSY] > t or not two_sided:
            st[C_MISSED if st[S_BUSY] > t else C_ONE_SIDED] += 1
            write_step(st, steps, t, 0, want, 0, 0, mid2, bid_px, ask_px)
            st[S_RING_H] += 1
            continue
        note_mid(st)
        deliver(st, own, ring, obs, own_view)
        st[S_RING_H] += 1
        st[C_ASKED] += 1
        st[S_DTS], st[S_OBS_MID2] = t, mid2
        st[S_OBS_BID], st[S_OBS_ASK] = bid_px, ask_px
        st[S_PEND_STEP] = 1
        return DECIDE
    if st[S_NFILL] + take_room(st) >= fills.shape[0]:
        return FILLS_FULL
    note_mid(st)
    close_out(lad, st, own, fills, ack, lat, st[S_END])
    return END


@kernel
def advance(ev, know, lad, ords, mem, ring, fills, steps, own_view):
    """Send the requests that `mem` holds, then run all lanes until the agent must be asked.

    Called again with the same arguments it resumes (at the start, and after a buffer was enlarged).

    Returns
    -------
    int
        `Status`: DECIDE, END, a buffer that must grow (nothing is lost), or an error.
    """
    st, own, req, ack, obs, want, lat = split(mem)
    ev, know, lad, ords, ring = borrow(ev), borrow(know), borrow(lad), borrow(ords), borrow(ring)
    fills, steps, own_view = borrow(fills), borrow(steps), borrow(own_view)
    return run_lanes(ev, know, lad, ords, st, own, req, ack, obs, want, lat, ring, fills, steps, own_view)


@kernel
def advance_compiled(ev, know, lad, ords, mem, ring, fills, steps, own_view, address, params, memory, draws):
    """Run to the end with a compiled strategy: `advance`, ask the function at `address`, and so on.

    `draws`: decision latencies, ns; decision `k` takes ``draws[k % len(draws)]``. Returns as `advance`
    does, but never DECIDE; called again with the same arguments it resumes.
    """
    st, own, req, ack, obs, want, lat = split(mem)
    ev, know, lad, ords, ring = borrow(ev), borrow(know), borrow(lad), borrow(ords), borrow(ring)
    fills, steps, own_view = borrow(fills), borrow(steps), borrow(own_view)
    while True:
        code = run_lanes(ev, know, lad, ords, st, own, req, ack, obs, want, lat, ring, fills, steps, own_view)
        if code != DECIDE:
            return code
        want[0], want[1], want[2], want[3], want[5] = 0, 0, 1, 0, 0
        want[4] = draws[st[S_DEC] % draws.shape[0]]
        call_decide(address, obs, want, params, memory)
