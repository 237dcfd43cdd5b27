"""The MARKET lane: rows of the tape, in bulk, up to the next moment anybody can look."""

from __future__ import annotations

from mmsim._jit import hot_kernel
from mmsim.errors import Status
from mmsim.sim.ladder import U
from mmsim.sim.observe import take_observation
from mmsim.sim.records import LEG_FEED, WIRE_CONSTANT
from mmsim.sim.tape import MET, OK, apply_row
from mmsim.sim.wire import wire
from mmsim.types import EventFlag

OBS_FULL, BAD_TIME = int(Status.OBS_FULL), int(Status.BAD_TIME)
F_LAST = int(EventFlag.LAST)


@hot_kernel
def market(ev, know, lad, ords, sim, lat, ring, fills, limit):
    """Run the MARKET lane up to and including time `limit`; return 0 or a status.

    Stops early (with 0) after an event that sent the agent a message or made a decision due before
    `limit`, so that the caller can look at the lanes again. The rules are `tape.apply_row`'s.
    """
    replay, rules = sim.replay, sim.rules
    cur, stop, now, known = replay.row, replay.stop, replay.now, replay.known
    snapshots, has_recv, steady = rules.interval == 0, rules.has_recv == 1, rules.wire == WIRE_CONSTANT
    feed = lat[LEG_FEED]
    messages = sim.wire.messages_tail
    due = sim.decision.due
    code, look = 0, False
    while cur < stop:
        e = ev[U(cur)]
        t = e.ts
        if t > limit:
            break
        if t < now:
            code = BAD_TIME
            break
        recv = max(t, know[U(cur)]) if has_recv else t
        known = max(known, recv + (feed if steady else wire(sim, lat, LEG_FEED, t, cur)))
        if known > due:
            look = True
            break
        done = apply_row(sim, lad, ords, fills, lat, e, cur)
        if done != OK and done != MET:
            code = done
            break
        now = t
        cur += 1
        if snapshots and e["flags"] & F_LAST and known >= rules.start:
            due = known
            sim.decision.due = known
            limit = min(limit, known)
        if done == MET and sim.wire.messages_tail != messages:
            break
    replay.row, replay.now, replay.known = cur, now, known
    if look:  # not in the loop, or the compiler prepares for it at every row
        if sim.wire.looks_tail - sim.wire.looks_head >= ring.shape[0]:
            return OBS_FULL
        take_observation(sim, lad, ring, due)
    return code
