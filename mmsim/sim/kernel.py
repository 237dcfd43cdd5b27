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

from mmsim._jit import borrow, hot_kernel, inline_kernel, kernel
from mmsim.agent import (
    O_ASK_PX,
    O_BID_PX,
    O_N_ASK,
    O_N_BID,
)
from mmsim.errors import Status
from mmsim.sim.ladder import note_mid, pop
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
    L_LIVE,
    L_PENDING,
    MAX_OWN,
    N_ACK,
    N_OWN,
    N_REQ,
    N_RING,
    N_STATE,
    OBS_AT,
    OWN_AT,
    R_TS,
    REQ_AT,
    RING_T,
    S_ACASH,
    S_ACK_H,
    S_ACK_T,
    S_AINV,
    S_BUSY,
    S_CUR,
    S_DEC,
    S_DTS,
    S_END,
    S_LAST,
    S_MAXINV,
    S_MID2,
    S_NA,
    S_NACKED,
    S_NB,
    S_NFILL,
    S_NSTEP,
    S_OBS_ASK,
    S_OBS_BID,
    S_OBS_MID2,
    S_PEND_STEP,
    S_REQ_H,
    S_REQ_T,
    S_RING_H,
    S_RING_T,
    S_SEEN,
    S_STOP,
    S_TP,
    W_LQTY,
    W_LSTATE,
    WANT_AT,
    WIRE_AT,
)
from mmsim.sim.market import FILL_MARGIN, market
from mmsim.sim.observe import deliver, take_observation, write_step
from mmsim.sim.orders import arrive, close_out, drop_row, find_own, quotes_valid, stage
from mmsim.sim.user_call import call_decide

DECIDE, END = int(Status.DECIDE), int(Status.END)
FILLS_FULL, STEPS_FULL = int(Status.FILLS_FULL), int(Status.STEPS_FULL)
MORE_ROWS = int(Status.MORE_ROWS)
OWN_FULL, BAD_QUOTES = int(Status.OWN_FULL), int(Status.BAD_QUOTES)


@inline_kernel
def take_room(st):
    """Return the fill rows that one own order, or closing out, may need at most."""
    return FILL_MARGIN + min(2 * st[S_MAXINV], max(st[S_NB], st[S_NA]))


@hot_kernel
def acknowledge(st, own, ack):
    """The agent learns of the oldest message sent to it."""
    i = st[S_ACK_H] & (N_RING - 1)
    pop(st, S_ACK_H, S_ACK_T)
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
        write_step(  # there is room: a decision is not handed out without
            st, steps, st[S_DTS], 1, want, want[4], want[5], st[S_OBS_MID2], st[S_OBS_BID], st[S_OBS_ASK]
        )
        st[S_PEND_STEP] = 0
        st[S_BUSY] = st[S_DTS] + want[4]
        if stage(st, own, req, lat, want, st[S_BUSY]) != 0:
            return OWN_FULL
        st[S_DEC] += 1
    while True:
        t_arr = req[st[S_REQ_H] & (N_RING - 1), R_TS] if st[S_REQ_H] < st[S_REQ_T] else INF
        t_ack = ack[st[S_ACK_H] & (N_RING - 1), A_TS] if st[S_ACK_H] < st[S_ACK_T] else INF
        waiting = st[S_RING_H] < st[S_RING_T]
        t_dec = ring[st[S_RING_H] & (ring.shape[0] - 1), RING_T] if waiting else st[S_TP]
        t = min(t_arr, t_ack, t_dec, st[S_END])
        end = t >= st[S_END]
        if st[S_CUR] == st[S_STOP] and st[S_STOP] < st[S_LAST] and t > st[S_SEEN]:
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
            while st[S_ACK_H] < st[S_ACK_T] and ack[st[S_ACK_H] & (N_RING - 1), A_TS] == t:
                acknowledge(st, own, ack)  # nothing can come between messages of one time
            continue
        if not waiting:
            take_observation(lad, st, own, ring, t)
        if st[S_NSTEP] >= steps.shape[0]:
            return STEPS_FULL
        i = st[S_RING_H] & (ring.shape[0] - 1)
        bid_px, ask_px = ring[i, O_BID_PX], ring[i, O_ASK_PX]
        two_sided = ring[i, O_N_BID] > 0 and ring[i, O_N_ASK] > 0 and bid_px < ask_px
        mid2 = bid_px + ask_px if two_sided else st[S_MID2]
        if st[S_BUSY] > t or not two_sided:
            st[C_MISSED if st[S_BUSY] > t else C_ONE_SIDED] += 1
            write_step(st, steps, t, 0, want, 0, 0, mid2, bid_px, ask_px)
            pop(st, S_RING_H, S_RING_T)
            continue
        note_mid(st)
        deliver(st, own, ring, obs, own_view)
        pop(st, S_RING_H, S_RING_T)
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
        want[0], want[1], want[2], want[3], want[4], want[5] = 0, 0, 1, 0, 0, 0
        call_decide(address, obs, want, params, memory)
        want[4], want[5] = draws[st[S_DEC] % draws.shape[0]], 0  # afterwards: not the strategy's to say
