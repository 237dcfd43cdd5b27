"""How long one message takes: the only place where a latency is looked up.

``lat`` is the latency table (`mmsim.sim.latency.WireTable`). Its rows hold one latency per leg
(`records.LEG_*`), ns: one row for constants; many rows of draws, message `k` taking row ``k % n``; or recorded
moments, with their time in front, between which latencies are interpolated in a straight line (held at both ends).
"""

from __future__ import annotations

import numpy as np

from mmsim._jit import inline_kernel, kernel
from mmsim.sim.records import N_LEGS, WIRE_CONSTANT, WIRE_DRAWN


@inline_kernel
def wire(sim, lat, leg, ts, k):
    """Return the latency of message number `k`, sent at `ts`, on `leg`, ns."""
    if sim.rules.wire == WIRE_CONSTANT:
        return lat[leg]
    return looked_up(sim, lat, leg, ts, k)


@kernel
def looked_up(sim, lat, leg, ts, k):
    """Return the latency from a table of draws or a recording."""
    n = sim.rules.wire_rows
    if sim.rules.wire == WIRE_DRAWN:
        return lat[(k % n) * N_LEGS + leg]
    cols = N_LEGS + 1
    low, high = 0, n - 1
    if ts <= lat[0]:
        return lat[1 + leg]
    if ts >= lat[high * cols]:
        return lat[high * cols + 1 + leg]
    while high - low > 1:
        mid = (low + high) // 2
        if lat[mid * cols] <= ts:
            low = mid
        else:
            high = mid
    t0, t1 = lat[low * cols], lat[high * cols]
    a, b = lat[low * cols + 1 + leg], lat[high * cols + 1 + leg]
    return a + np.int64(np.float64(b - a) * (np.float64(ts - t0) / np.float64(t1 - t0)))
