"""What it costs to apply a feed's level updates: the replay's ladder, levels of 16 bytes, the matching engine.

``python tests/benchmarks/replayed_levels.py [SPACING]``: 5 M seeded updates around a walking mid, levels SPACING
ticks apart (1). All end with the same book. The figures are in docs/adr/0013-replayed-book-and-engine.md.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numba import njit

from mmsim._jit import borrow, kernel, records
from mmsim.book import layout as L
from mmsim.book.memory import Memory
from mmsim.sim.ladder import U, set_level
from mmsim.sim.records import SIM

N, WIDTH, MIDDLE, RUNS = 5_000_000, 1 << 18, 1 << 17, 5
# The level's new total; row 0: bids, 1: asks.
UPDATE = np.dtype([("px", "<i4"), ("qty", "<i4"), ("row", "<i4")])


@njit
def feed(n, spacing, rng):
    """Return updates that never cross (the engine would trade), and the same as requests: one order per level.

    As one request per update, and as the engine's quickest: the level's old order is cancelled, a new one sent.
    """
    updates, requests, plain = np.zeros(n, UPDATE), np.zeros(n, L.REQUEST), np.zeros(2 * n, L.REQUEST)
    ids, m = np.zeros((2, WIDTH), np.int64), 0
    held, mid = np.zeros((2, WIDTH), np.int32), MIDDLE // spacing
    for i in range(n):
        row, qty = rng.integers(0, 2), max(rng.integers(-12, 40), 0)
        if rng.random() < 0.02:  # the mid steps over a level, which leaves
            px, qty = (mid if row == 0 else mid + 1), 0
            mid += 2 * row - 1
        else:
            away = min(rng.geometric(0.15), 200) - 1
            px = mid - away if row == 0 else mid + 1 + away
        px *= spacing
        old, held[row, px] = held[row, px], qty
        u, r = updates[i], requests[i]
        u.px, u.qty, u.row = px, qty, row
        r.oid, r.px, r.side = 2 * px + row + 1, px, 1 - 2 * row
        r.qty = qty
        if old == 0:
            r.verb = L.LIMIT if qty > 0 else L.CANCEL  # (of an order that is not there: refused at once)
        elif 0 < qty < old:
            r.verb, r.qty = L.REDUCE, old - qty
        else:
            r.verb = L.REPLACE if qty > 0 else L.CANCEL
        if old > 0:
            plain[m].verb, plain[m].oid = L.CANCEL, ids[row, px]
            m += 1
        if qty > 0:
            p, ids[row, px] = plain[m], i + 1
            p.verb, p.oid, p.px, p.qty, p.side = L.LIMIT, i + 1, px, qty, r.side
            m += 1
    return updates, requests, plain[:m]


@kernel
def by_ladder(updates, sims, lad):
    """Apply by the rule of the replay, to an int32 (2, width) ladder."""
    updates, sims, lad = borrow(updates), borrow(sims), borrow(lad)
    sim = sims[0]
    for i in range(updates.shape[0]):
        u = updates[U(i)]
        set_level(sim, lad, np.int64(u.row), np.int64(u.px), np.int64(u.qty))


@kernel
def by_records(updates, sims, lad):
    """Apply by the same rule to (2, width) records of the engine's level: total, oldest and youngest order."""
    updates, sims, lad = borrow(updates), borrow(sims), borrow(lad)
    book = sims[0].book
    for i in range(updates.shape[0]):
        u = updates[U(i)]
        row, ix, qty = np.int64(u.row), np.int64(u.px), np.int64(u.qty)
        old = lad[U(row), U(ix)].qty
        lad[U(row), U(ix)].qty = qty
        n = book.levels[U(row)] + np.int64((qty > 0) & (old == 0)) - np.int64((qty == 0) & (old > 0))
        book.levels[U(row)] = n
        best, side = book.best[U(row)], 1 - 2 * row
        if qty > 0:
            book.best[U(row)] = ix if (ix - best) * side > 0 else best
        elif old > 0 and ix == best:
            k = ix - side
            if n == 0:
                k = -1 if row == 0 else lad.shape[1]
            else:
                while lad[U(row), U(k)].qty == 0:
                    k -= side
            book.best[U(row)] = k


def fresh():
    """Return the state of an empty replayed book."""
    sims = records(np.zeros(1, SIM))
    sims["book"]["best"] = -1, WIDTH
    return sims


def main() -> None:
    """Time all of them in turn and print the best and the median of each."""
    spacing = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    updates, requests, plain = feed(N, spacing, np.random.default_rng(1))
    statuses, matches = np.zeros(2 * N, np.int8), np.zeros(16, L.MATCH)
    times: dict[str, list[float]] = {}
    for _ in range(RUNS + 1):
        lad, wide = np.zeros((2, WIDTH), np.int32), records(np.zeros((2, WIDTH), L.LEVEL))
        books = [Memory(1 << 12, 1 << 16, MIDDLE - (1 << 15)) for _ in range(2)]
        ways = {
            "ladder": lambda lad=lad: by_ladder(updates, fresh(), lad),
            "records": lambda wide=wide: by_records(updates, fresh(), wide),
            "engine, one request per update": lambda b=books[0]: b.run(requests, 0, statuses, matches),
            "engine, cancel and limit": lambda b=books[1]: b.run(plain, 0, statuses, matches),
        }
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            times.setdefault(name, []).append(time.perf_counter() - start)
        for row in (0, 1):
            assert np.array_equal(lad[row], wide["qty"][row])
            for book in books:
                prices, lots = book.depth(1 - 2 * row)
                assert np.array_equal(np.sort(prices), np.flatnonzero(lad[row]))
                assert np.array_equal(lots, lad[row][prices])
    for name, all_of_them in times.items():
        s = sorted(all_of_them[1:])  # the first run compiles
        best, median = (N / seconds / 1e6 for seconds in (s[0], s[len(s) // 2]))
        sys.stdout.write(f"{name:30} {best:6.1f} M/s at best, {median:6.1f} M/s in the median\n")


if __name__ == "__main__":
    main()
