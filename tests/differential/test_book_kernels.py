"""The compiled engine on arrays of requests against the naive book, and compiled against plain Python."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.book import kernels as k
from mmsim.book.reference import ReferenceBook
from mmsim.book.view import match
from mmsim.errors import BookError

ROWS = st.lists(
    st.tuples(
        st.integers(1, 8),  # oid
        st.integers(100, 107),  # px
        st.integers(0, 6),  # qty
        st.sampled_from([k.LIMIT] * 5 + [k.MARKET, k.CANCEL, k.REDUCE, k.REPLACE]),
        st.sampled_from([1, -1]),
        st.sampled_from([0, 0, 0, k.POST_ONLY, k.IOC]),
    ),
    max_size=60,
)


def naive(requests):
    """Return (matches, statuses, resting orders) of the reference, with the callers' order numbers."""
    book = ReferenceBook()
    mine: dict[int, int] = {}  # caller's number -> the reference's id
    theirs: dict[int, int] = {}
    matches, statuses = [], []
    for oid, px, qty, verb, side, flags in requests.tolist():
        live = oid in mine and mine[oid] in book
        status, report = k.DONE, None
        try:
            if verb == k.LIMIT:
                if live and qty > 0:
                    status = k.BAD_ORDER
                else:
                    report = book.submit(
                        side, px, qty, post_only=bool(flags & k.POST_ONLY), ioc=bool(flags & k.IOC)
                    )
            elif verb == k.MARKET:
                report = book.market(side, qty)
            elif not live:
                status = k.BAD_ORDER
            elif verb == k.CANCEL:
                book.cancel(mine[oid])
            elif verb == k.REDUCE:
                book.reduce(mine[oid], qty)
            elif flags & k.IOC and not (px, qty) == next(
                (o.px, min(qty, o.qty)) for s in (1, -1) for o in book.orders(s) if o.order_id == mine[oid]
            ):
                # the reference has no IOC replacement: it is a cancellation and an IOC order of the same side
                was = next(o for s in (1, -1) for o in book.orders(s) if o.order_id == mine[oid])
                if qty > 0:
                    book.cancel(mine[oid])
                report = book.submit(was.side, px, qty, ioc=True)
            else:
                report = book.replace(mine[oid], px, qty, post_only=bool(flags & k.POST_ONLY))
        except BookError:
            status = k.BAD_QTY
        if report is not None:
            if not report.accepted:
                status = k.POST_ONLY_REJECT
            theirs[report.order_id] = oid
            if report.resting and verb == k.LIMIT:
                mine[oid] = report.order_id
            matches += [(theirs[m.maker_id], oid, m.px, m.qty) for m in report.matches]
        statuses.append(status)
    resting = [(theirs[o.order_id], o.side, o.px, o.qty) for s in (1, -1) for o in book.orders(s)]
    return matches, statuses, resting


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from([1, 2, 3, 1000]))
def test_an_array_of_requests_is_matched_like_one_by_one(rows, buffer):
    requests = np.array(rows, k.REQUEST)
    result = match(requests, buffer=buffer)  # a buffer of 1 stops and resumes inside every longer match
    matches, statuses, resting = naive(requests)
    assert result.matches.tolist() == matches
    assert result.statuses.tolist() == statuses
    assert [tuple(o) for s in (1, -1) for o in result.orders(s)] == resting


def digest() -> str:
    """Return a hash over random matching and a stretch of simulated flow."""
    from mmsim.data import manifest
    from mmsim.flow.markets import flow_of
    from mmsim.flow.zero_intelligence import generate_events

    rng = np.random.default_rng(3)
    requests = np.zeros(400, k.REQUEST)
    requests["oid"] = rng.integers(1, 60, 400)
    requests["px"] = rng.integers(90, 110, 400)
    requests["qty"] = rng.integers(0, 20, 400)
    requests["verb"] = rng.integers(1, 6, 400)
    requests["side"] = rng.choice([1, -1], 400)
    requests["flags"] = rng.integers(0, 3, 400)
    result = match(requests)
    events, n_slots, px = generate_events(
        flow_of(manifest("sim-cu").generator),
        seed=5,
        start_ts=0,
        end_ts=20 * 10**9,
        max_orders=512,
        window=512,
    )
    out = hashlib.sha256(result.matches.tobytes() + result.statuses.tobytes() + events.tobytes())
    out.update(f"{n_slots} {px} {len(events)}".encode())
    return out.hexdigest()


def test_compiled_and_plain_python_agree_to_the_last_bit():
    # the same file, run as a program with the compiler off
    root = Path(__file__).resolve().parents[2]
    plain = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(Path(__file__).resolve())],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert plain.stdout.split()[-1] == digest()


if __name__ == "__main__":
    sys.stdout.write(digest() + "\n")
