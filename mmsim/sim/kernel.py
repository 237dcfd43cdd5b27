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
from mmsim.errors import Status
from mmsim.sim.exchange import arrive, close_out
from mmsim.sim.ladder import note_mid
from mmsim.sim.market import market
from mmsim.sim.observe import complete, oldest_look, pop_look, take_observation, write_step
from mmsim.sim.own_orders import find_own
from mmsim.sim.records import ACK_FILL, ACK_LIVE, INF, L_LIVE, L_PENDING, N_RING
from mmsim.sim.requests import quotes_valid, stage
from mmsim.sim.tape import FILL_MARGIN
from mmsim.user_call import call_decide

DECIDE, END = int(Status.DECIDE), int(Status.END)
FILLS_FULL, STEPS_FULL = int(Status.FILLS_FULL), int(Status.STEPS_FULL)
MORE_ROWS = int(Status.MORE_ROWS)
OWN_FULL, BAD_QUOTES = int(Status.OWN_FULL), int(Status.BAD_QUOTES)


@inline_kernel
def too_few_fills(sim, fills):
    """Tell whether one own order, or closing out, may need more fill rows than there are."""
    levels = max(sim.book.levels[0], sim.book.levels[1])
    most = FILL_MARGIN + min(2 * sim.rules.max_inventory, levels)
    return sim.account.n_fills + most >= fills.shape[0]


@kernel
def acknowledge(sim):
    """The agent learns of the oldest message sent to it."""
    w, account = sim.wire, sim.account
    m = sim.messages[w.messages_head & (N_RING - 1)]
    w.messages_head += 1
    if w.messages_head == w.messages_tail:
        w.messages_head, w.messages_tail = 0, 0
    if m.kind == ACK_FILL:
        account.known_inventory += m.side * m.qty
        account.known_cash -= m.side * m.px * m.qty
        account.n_known += 1
    r = find_own(sim, m.id)
    if r < 0:
        return
    o = sim.own[r]
    if m.kind == ACK_FILL:
        o.believed_qty -= m.qty
    elif m.kind == ACK_LIVE:
        if o.believed == L_PENDING:
            o.believed = L_LIVE
    else:  # it is gone: the last row takes its place
        sim.orders.n -= 1
        if r != sim.orders.n:
            sim.own[r] = sim.own[sim.orders.n]


@hot_kernel
def accept(sim, lat, steps):
    """Take the agent's answer to the decision: note it and send its requests; return 0 or a status."""
    decision, want = sim.decision, sim.want
    if quotes_valid(sim) == 0:
        return BAD_QUOTES
    write_step(  # there is room: a decision is not handed out without
        sim, steps, decision.ts, 1, want.latency_ns, want.wall_ns, decision.mid2, decision.bid_px, decision.ask_px
    )  # fmt: skip
    decision.asked = 0
    pop_look(sim)
    decision.busy_until = decision.ts + want.latency_ns
    if stage(sim, lat, decision.busy_until) != 0:
        return OWN_FULL
    decision.index += 1
    return 0


@kernel
def pass_over(sim, steps):
    """Note that the decision asked passes unanswered."""
    one = sim[0]
    decision = one.decision
    one.counters.decisions -= 1
    one.counters.missed += 1
    write_step(one, steps, decision.ts, 0, 0, 0, decision.mid2, decision.bid_px, decision.ask_px)
    decision.asked = 0
    pop_look(one)


@hot_kernel
def run_lanes(ev, know, lad, ords, sim, lat, ring, fills, steps):
    """Send the requests that `sim.want` asks for, then run all lanes until the agent must be asked."""
    replay, rules, w, decision = sim.replay, sim.rules, sim.wire, sim.decision
    if decision.asked == 1:
        code = accept(sim, lat, steps)
        if code != 0:
            return code
    while True:
        has_request, has_message = w.requests_head < w.requests_tail, w.messages_head < w.messages_tail
        t_request = sim.requests[w.requests_head & (N_RING - 1)].ts if has_request else INF
        t_message = sim.messages[w.messages_head & (N_RING - 1)].ts if has_message else INF
        waiting = w.looks_head < w.looks_tail
        t_decision = oldest_look(sim, ring).due if waiting else decision.due
        t = min(t_request, t_message, t_decision, rules.end)
        end = t >= rules.end
        if replay.row == replay.stop and replay.stop < replay.last and t > replay.seen:
            return MORE_ROWS
        if replay.row < replay.stop:
            limit = rules.end - 1 if end else t
            if ev[replay.row].ts <= limit:
                code = market(ev, know, lad, ords, sim, lat, ring, fills, limit)
                if code != 0:
                    return code
                continue
        if end:
            break
        if too_few_fills(sim, fills):
            return FILLS_FULL
        if w.messages_tail - w.messages_head > N_RING // 2:
            return OWN_FULL
        if t_request == t:
            arrive(sim, lad, fills, lat, t)
            continue
        if t_message == t:
            acknowledge(sim)
            while w.messages_head < w.messages_tail and sim.messages[w.messages_head & (N_RING - 1)].ts == t:
                acknowledge(sim)  # nothing can come between messages of one time
            continue
        if not waiting:
            take_observation(sim, lad, ring, t)
        if sim.account.n_steps >= steps.shape[0]:
            return STEPS_FULL
        look = oldest_look(sim, ring)
        obs = look.obs
        bid_px, ask_px = obs.bid_px, obs.ask_px
        two_sided = obs.n_bid > 0 and obs.n_ask > 0 and bid_px < ask_px
        mid2 = bid_px + ask_px if two_sided else sim.book.mid2
        if decision.busy_until > t or not two_sided:
            if decision.busy_until > t:
                sim.counters.missed += 1
            else:
                sim.counters.one_sided += 1
            write_step(sim, steps, t, 0, 0, 0, mid2, bid_px, ask_px)
            pop_look(sim)
            continue
        note_mid(sim)
        complete(sim, look)
        sim.counters.decisions += 1
        decision.ts, decision.mid2 = t, mid2
        decision.bid_px, decision.ask_px = bid_px, ask_px
        decision.asked = 1
        return DECIDE
    if too_few_fills(sim, fills):
        return FILLS_FULL
    note_mid(sim)
    close_out(sim, lad, fills, lat, rules.end)
    return END


@kernel
def advance(ev, know, lad, ords, sim, lat, ring, fills, steps):
    """Send the requests that ``sim[0].want`` holds, then run all lanes until the agent must be asked.

    Called again with the same arguments it resumes (at the start, and after a buffer was enlarged).

    Returns
    -------
    int
        `Status`: DECIDE, END, a buffer that must grow (nothing is lost), or an error.
    """
    ev, know, lad, ords, ring = borrow(ev), borrow(know), borrow(lad), borrow(ords), borrow(ring)
    sim, lat, fills, steps = borrow(sim), borrow(lat), borrow(fills), borrow(steps)
    one = sim[0]
    code = run_lanes(ev, know, lad, ords, one, lat, ring, fills, steps)
    if code == DECIDE:
        one.obs = oldest_look(one, ring).obs
    return code


@kernel
def advance_compiled(ev, know, lad, ords, sim, lat, ring, fills, steps, address, params, memory, draws):
    """Run to the end with a compiled strategy: `advance`, ask the function at `address`, and so on.

    `params`: address of its parameters. `draws`: decision latencies, ns; decision `k` takes
    ``draws[k % len(draws)]``. Returns as `advance` does, but never DECIDE; called again with the same arguments
    it resumes.
    """
    ev, know, lad, ords, ring = borrow(ev), borrow(know), borrow(lad), borrow(ords), borrow(ring)
    sim, lat, fills, steps = borrow(sim), borrow(lat), borrow(fills), borrow(steps)
    one = sim[0]
    want, turn = one.want, one.decision.index % draws.shape[0]
    while True:
        code = run_lanes(ev, know, lad, ords, one, lat, ring, fills, steps)
        if code != DECIDE:
            return code
        want.n_bids, want.n_asks, want.post_only, want.take_qty, want.wall_ns = 0, 0, 1, 0, 0
        call_decide(address, oldest_look(one, ring).obs, want, params, memory)
        # afterwards: not the strategy's to say
        want.latency_ns, want.wall_ns = draws[turn], 0
        turn = turn + 1 if turn + 1 < draws.shape[0] else 0
