"""What the agent sees at a decision, and the row that is kept of it."""

from __future__ import annotations

from mmsim._jit import kernel
from mmsim.agent import (
    O_BUY_NOTIONAL,
    O_BUY_QTY,
    O_CASH,
    O_EXCH_TS,
    O_INVENTORY,
    O_LAST_TRADE_PX,
    O_N_ORDERS,
    O_N_TRADES,
    O_SELL_NOTIONAL,
    O_SELL_QTY,
    O_STEP,
    O_TIME_LEFT,
    O_TS,
    OBS_SIZE,
    WANT_HEAD,
)
from mmsim.sim.ladder import copy_depth
from mmsim.sim.layout import (
    INF,
    L_LIVE,
    OWN_LIVE,
    RING_OWN,
    RING_T,
    S_ACASH,
    S_AINV,
    S_BUYN,
    S_BUYQ,
    S_CASH,
    S_DEC,
    S_END,
    S_EPISODE,
    S_FIRST,
    S_INTERVAL,
    S_INV,
    S_LASTPX,
    S_NOW,
    S_NOWN,
    S_NSTEP,
    S_NTRADE,
    S_RING_H,
    S_RING_T,
    S_SELLN,
    S_SELLQ,
    S_TP,
    S_TRADED,
    W_AHEAD,
    W_AHEAD0,
    W_ID,
    W_LQTY,
    W_LSTATE,
    W_PX,
    W_SIDE,
    W_STATE,
)


@kernel
def take_observation(lad, st, own, ring, t):
    """Put what is known for the decision at local time `t` into the ring."""
    if st[S_FIRST] == 1:  # trades while the book was built are not news
        st[S_FIRST] = 0
        st[S_BUYQ], st[S_SELLQ], st[S_BUYN], st[S_SELLN], st[S_NTRADE] = 0, 0, 0, 0, 0
    i = st[S_RING_T] & (ring.shape[0] - 1)  # no view of the row: making one costs more than using it
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
    i = st[S_RING_H] & (ring.shape[0] - 1)
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
