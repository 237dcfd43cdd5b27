"""What the agent sees at a decision, and the row that is kept of it."""

from __future__ import annotations

from mmsim._jit import hot_kernel, kernel
from mmsim.sim.ladder import copy_side
from mmsim.sim.records import INF, L_LIVE, OWN_LIVE


@kernel
def forget_trades(book):
    """Start to count trades anew."""
    book.traded_qty[0], book.traded_qty[1] = 0, 0
    book.traded_notional[0], book.traded_notional[1] = 0, 0
    book.n_trades = 0


@kernel
def take_observation(sim, lad, ring, t):
    """Put what is known for the decision at local time `t` into the ring."""
    book, decision = sim.book, sim.decision
    if decision.first == 1:  # trades while the book was built are not news
        decision.first = 0
        forget_trades(book)
    look = ring[sim.wire.looks_tail & (ring.shape[0] - 1)]
    obs, depth = look.obs, sim.rules.depth
    obs.n_bid = copy_side(sim, lad, 0, depth, obs.bid_pxs, obs.bid_qtys)
    obs.n_ask = copy_side(sim, lad, 1, depth, obs.ask_pxs, obs.ask_qtys)
    obs.bid_px, obs.bid_qty = obs.bid_pxs[0], obs.bid_qtys[0]
    obs.ask_px, obs.ask_qty = obs.ask_pxs[0], obs.ask_qtys[0]
    obs.ts = t
    obs.spare = 0
    obs.exch_ts = sim.replay.now
    obs.buy_qty, obs.sell_qty = book.traded_qty[0], book.traded_qty[1]
    obs.buy_notional, obs.sell_notional = book.traded_notional[0], book.traded_notional[1]
    obs.last_trade_px, obs.n_trades = book.last_trade_px, book.n_trades
    obs.time_left = sim.rules.end - t
    forget_trades(book)
    look.n_own = sim.orders.n
    for r in range(sim.orders.n):
        o, place = sim.own[r], look.places[r]
        place.id = o.id if o.state == OWN_LIVE else 0
        place.ahead = o.ahead
    look.due = t
    sim.wire.looks_tail += 1
    decision.due = t + sim.rules.interval if sim.rules.interval > 0 else INF


@hot_kernel
def oldest_look(sim, ring):
    """Return the oldest observation that waits; while a decision is asked, the one that it is about."""
    return ring[sim.wire.looks_head & (ring.shape[0] - 1)]


@hot_kernel
def pop_look(sim):
    """Take the oldest observation off the ring."""
    w = sim.wire
    w.looks_head += 1
    if w.looks_head == w.looks_tail:  # an empty ring starts again in front, where memory is warm
        w.looks_head, w.looks_tail = 0, 0


@kernel
def complete(sim, look):
    """Add to an observation, as it is handed to the agent, what the agent knows of its own."""
    obs = look.obs
    obs.step = sim.decision.index
    obs.inventory = sim.account.known_inventory
    obs.cash = sim.account.known_cash
    n = 0
    for r in range(sim.orders.n):
        o = sim.own[r]
        if o.believed_qty <= 0 or o.believed > L_LIVE:
            continue
        v = sim.own_view[n]
        v.order_id = o.id
        v.px = o.px
        v.qty = o.believed_qty
        v.side = o.side
        v.live = o.believed
        v.queue_ahead = o.ahead_at_first
        for k in range(look.n_own):
            if look.places[k].id == o.id:
                v.queue_ahead = look.places[k].ahead
                break
        n += 1
    obs.n_orders = n


@kernel
def write_step(sim, steps, t, asked, latency, wall, mid2, bid, ask):
    """Append one step row; the quotes of `sim.want` are part of it if the agent was `asked`."""
    account, want = sim.account, sim.want
    s = steps[account.n_steps]
    s.ts = t
    s.mid2 = mid2
    s.cash = account.cash
    s.inventory = account.inventory
    s.traded_qty = account.traded
    s.latency_ns = latency
    s.wall_ns = wall
    s.bid_px = bid
    s.ask_px = ask
    s.episode = sim.rules.episode
    s.asked = asked
    bpx, bqty, apx, aqty = 0, 0, 0, 0
    if asked == 1:
        for i in range(want.n_bids):
            level = want.bids[i]
            if bqty == 0 or level.px > bpx:
                bpx, bqty = level.px, level.qty
        for i in range(want.n_asks):
            level = want.asks[i]
            if aqty == 0 or level.px < apx:
                apx, aqty = level.px, level.qty
    s.own_bid_px, s.own_bid_qty, s.own_ask_px, s.own_ask_qty = bpx, bqty, apx, aqty
    account.n_steps += 1
