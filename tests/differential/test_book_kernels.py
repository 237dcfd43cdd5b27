"""The compiled engine on arrays of requests against the naive book, against itself in other portions, and against noise."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.book import layout as L
from mmsim.book.many import Books
from mmsim.book.naive_book import NaiveBook
from mmsim.book.view import OrderBook, match
from mmsim.errors import BookError

SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
STP = {0: "off", 16: "cancel_resting", 32: "cancel_incoming", 48: "cancel_both"}
KIND = {0: None, L.POST_ONLY: "post_only", L.IOC: "ioc", L.FOK: "fok", L.SLIDE: "slide"}
ROWS = st.lists(
    st.tuples(
        st.integers(0, 9),  # oid
        st.sampled_from([*range(100, 108), -(2**31), 2**31 - 1]),  # px
        st.integers(-1, 9),  # qty
        st.sampled_from([0, 0, 0, 1, 2, -1]),  # display
        st.sampled_from([*range(100, 108), -(2**31)]),  # stop
        st.sampled_from([0, 0, 0, 0, 1, 2, 4, 8, 16, 18, 32, 36, 48, 3, 64]),  # flags
        st.integers(0, 2),  # owner
        st.sampled_from([L.LIMIT] * 6 + [L.MARKET, L.CANCEL, L.REDUCE, L.REPLACE, L.STOP, L.STOP_LIMIT, 99]),
        st.sampled_from([1, 1, -1, -1, 0]),
    ),
    max_size=70,
)


def wrong(row, book) -> int:
    """Say by the layout's documentation what is wrong with a request, the first of several mistakes."""
    oid, px, qty, display, stop, flags, owner, verb, side = row  # noqa: RUF059
    live = oid in book
    stops = {s.order_id for of in (1, -1) for s in book.stops(of)}
    if verb in (L.CANCEL, L.REDUCE, L.REPLACE):
        if not live or (verb == L.REPLACE and oid in stops):
            return L.BAD_ORDER
        if verb == L.CANCEL:
            return L.DONE
        if verb == L.REDUCE:
            had = next(
                o.qty + getattr(o, "hidden", 0)
                for of in (1, -1)
                for o in [*book.orders(of), *book.stops(of)]
                if o.order_id == oid
            )
            return L.DONE if 1 <= qty <= had else L.BAD_QTY
    elif not L.LIMIT <= verb <= L.STOP_LIMIT:
        return L.BAD_VERB
    elif side not in (1, -1):
        return L.BAD_SIDE
    if qty < 1:
        return L.BAD_QTY
    priced = verb in (L.LIMIT, L.REPLACE, L.STOP_LIMIT)
    if (priced and px == -(2**31)) or (verb in (L.STOP, L.STOP_LIMIT) and stop == -(2**31)):
        return L.BAD_PRICE
    if flags > L.ALL_FLAGS or flags & L.KINDS not in KIND:
        return L.BAD_FLAGS
    if not priced and flags & (L.POST_ONLY | L.SLIDE):
        return L.BAD_FLAGS
    if display and (
        not 1 <= display <= qty or flags & (L.IOC | L.FOK) or verb not in (L.LIMIT, L.STOP_LIMIT)
    ):
        return L.BAD_DISPLAY
    return L.BAD_ORDER if verb != L.REPLACE and (live or oid == 0) else L.DONE


def naive(requests):
    """Return (trades, statuses, the book) of the reference."""
    book = NaiveBook()
    trades, statuses = [], []
    for row in requests.tolist():
        oid, px, qty, display, stop, flags, owner, verb, side = row
        status, report = wrong(row, book), None
        stp, kind = STP.get(flags & 48), KIND.get(flags & 15)
        kinds = {kind: True} if kind else {}
        more = {"owner": owner, "stp": stp, "order_id": oid}
        if status != L.DONE:
            pass
        elif verb == L.LIMIT:
            report = book.submit(side, px, qty, display=display, **kinds, **more)
        elif verb == L.MARKET:
            report = book.market(side, qty, fok=kind == "fok", **more)
        elif verb == L.CANCEL:
            book.cancel(oid)
        elif verb == L.REDUCE:
            book.reduce(oid, qty)
        elif verb == L.REPLACE:
            report = book.replace(oid, px, qty, **kinds, stp=stp)
        else:
            limit = px if verb == L.STOP_LIMIT else None
            report = book.stop(side, stop, qty, px=limit, display=display, **kinds, **more)
        if report is not None:
            trades += [tuple(m) for m in report.matches]
            reasons = {
                "": L.DONE,
                "post_only": L.POST_ONLY_REJECT,
                "fok": L.FOK_KILLED,
                "self_trade": L.SELF_TRADE,
            }
            status = reasons[report.reason]
        statuses.append(status)
    return trades, statuses, book


def trades_of(result):
    return [tuple(row[:6]) for row in result.matches.tolist()]


def check(book: OrderBook | Books, b: int = 0) -> None:
    """Assert that the arrays of a book are one consistent book."""
    memory = book._memory if isinstance(book, OrderBook) else book.book(b)._memory
    m, s = memory.book, memory.state
    width, origin = int(s.width), int(s.origin)
    seen = {}  # row -> STOPPED or 0
    used = {}  # level row -> price

    def queue(at, px):
        row, older, total = int(m.levels["head"][at]), 0, 0
        while row:
            assert row not in seen and m.orders["prev"][row] == older and m.orders["px"][row] == px
            assert m.orders["qty"][row] > 0 and m.extra["reserve"][row] >= 0
            seen[row] = 0
            total += int(m.orders["qty"][row])
            older, row = row, int(m.orders["next"][row])
        assert m.levels["tail"][at] == older != 0
        return total

    for at in range(1, width + 1):
        if m.levels["qty"][at] or m.levels["head"][at]:
            assert queue(at, origin + at) == m.levels["qty"][at]
            used[at] = origin + at
    occupied = np.unpackbits(m.occupied.view(np.uint8), bitorder="little")
    assert np.flatnonzero(occupied).tolist() == sorted(used)
    for shelf in range(L.N_SHELVES):
        entries = m.shelves[shelf, : s.shelved[shelf]].tolist()
        assert entries == sorted(entries) and len({e >> 32 for e in entries}) == len(entries)
        for entry in entries:
            at, px = entry & 0xFFFFFFFF, (entry >> 32) * (-1 if shelf == L.BUY_STOPS else 1)
            assert at > width + 1 and at < s.level_top and at not in used
            before = len(seen)
            total = queue(at, px)
            used[at] = px
            if shelf == L.FAR:
                assert not 1 <= px - origin <= width and total == m.levels["qty"][at]
            else:
                seen.update(dict.fromkeys(list(seen)[before:], L.STOPPED))
    assert len(seen) == s.live
    assert np.count_nonzero(m.slots) == len(seen)
    for row, stopped in seen.items():
        assert book._row(int(m.extra["oid"][row])) == row + stopped if isinstance(book, OrderBook) else True
    free, row = set(), int(s.free)
    while row:
        free.add(row)
        row = int(m.orders["next"][row])
    assert free | set(seen) == set(range(1, s.top)) and not free & set(seen)
    resting = {r: int(m.orders["px"][r]) for r, stop in seen.items() if not stop}
    bids = [px for px in resting.values() if px <= s.best_bid]
    asks = [px for px in resting.values() if px >= s.best_ask]
    assert max(bids, default=L.NO_BID) == s.best_bid < s.best_ask == min(asks, default=L.NO_ASK)
    assert len(bids) + len(asks) == len(resting)
    assert s.pending == s.hand.kind == 0


@settings(max_examples=30 if SLOW else 250, deadline=None)
@given(ROWS, st.sampled_from([2, 3, 1000]))
def test_an_array_of_requests_is_matched_like_one_by_one(rows, buffer):
    requests = np.array(rows, L.REQUEST)
    result = match(requests, buffer=buffer)  # a buffer of 2 stops and resumes inside every longer match
    trades, statuses, book = naive(requests)
    assert trades_of(result) == trades
    assert result.statuses.tolist() == statuses
    assert list(result.book) == list(book)
    assert [s for of in (1, -1) for s in result.book.stops(of)] == [
        s for of in (1, -1) for s in book.stops(of)
    ]
    check(result.book)


@settings(max_examples=20 if SLOW else 100, deadline=None)
@given(ROWS, st.integers(1, 20), st.sampled_from([2, 5, 1000]))
def test_portions_of_any_size_give_the_same_events(rows, portion, buffer):
    requests = np.array(rows, L.REQUEST)
    whole = match(requests)
    book = OrderBook(n_levels=2, n_orders=1)
    parts = [book.apply(requests[i : i + portion], buffer=buffer) for i in range(0, len(requests), portion)]
    assert [e for p in parts for e in p.events.tolist()] == whole.events.tolist()
    assert [s for p in parts for s in p.statuses.tolist()] == whole.statuses.tolist()
    assert book.snapshot().orders.tolist() == whole.book.snapshot().orders.tolist()


def noise(seed: int, n: int):
    """Return random bytes as requests, some of their columns tamed so that they get past the checks."""
    rng = np.random.default_rng(seed)
    requests = np.frombuffer(rng.bytes(n * L.REQUEST.itemsize), L.REQUEST).copy()
    tame = {
        "oid": rng.choice([0, 1, 2, 3, 4, 5, 2**63 - 1, -(2**63), 1 << 32, 1 << 31], n),
        "px": 100 + rng.integers(-9, 9, n) * rng.choice([1, 1, 1, 100_000_000], n),
        "qty": rng.choice([1, 2, 3, 50, 2**31 - 1], n),
        "display": rng.choice([0, 0, 0, 1, 3, 2**31 - 1], n),
        "stop": 100 + rng.integers(-9, 9, n),
        "owner": rng.integers(0, 3, n),
        "flags": rng.choice([0, 0, 1, 2, 4, 8], n) | rng.choice([0, 16, 32, 48], n),
        "verb": rng.integers(0, 10, n),
        "side": rng.choice([1, -1], n),
    }
    for name, column in tame.items():
        wild = rng.random(n) < rng.choice([0.0, 0.05, 0.5])
        requests[name] = np.where(wild, requests[name], column)
    return requests


@settings(max_examples=15 if SLOW else 120, deadline=None)
@given(st.integers(0, 2**32))
def test_noise_gets_a_status_each_and_leaves_a_book(seed):
    requests = noise(seed, 150)
    book = OrderBook(n_levels=4, n_orders=1)
    result = book.apply(requests, buffer=3)
    assert set(result.statuses.tolist()) <= {*range(-7, 2), 3, 4}
    check(book)
    # whatever it is now, it can be written down and read again, and then goes on alike
    other = OrderBook()
    other.restore(book.snapshot())
    more = noise(seed + 1, 50)
    assert other.apply(more).events.tolist() == book.apply(more).events.tolist()


def test_each_of_many_books_is_a_book_of_its_own():
    n, m = 5, 60
    requests = np.stack([noise(seed, m) for seed in range(n)])
    books = Books(n, n_levels=4, n_orders=1)
    first, second = books.step(requests[:, :40], buffer=3), books.step(requests[:, 40:])
    for b in range(n):
        alone = match(requests[b])
        assert [*first.of(b).tolist(), *second.of(b).tolist()] == alone.events.tolist()
        assert [*first.statuses[b], *second.statuses[b]] == alone.statuses.tolist()
        assert books.book(b).snapshot().orders.tolist() == alone.book.snapshot().orders.tolist()
        check(books, b)
    assert books.best(1).tolist() == [int(books.book(b)._memory.state.best_bid) for b in range(n)]
    assert len(books) == n
    with pytest.raises(BookError, match=r"expected \(5, m\) REQUEST"):
        books.step(requests[0])
    with pytest.raises(BookError, match="expected one book at least, was 0"):
        Books(0)


def digest() -> str:
    """Return a hash over random matching and a stretch of simulated flow."""
    from mmsim.data import manifest
    from mmsim.flow.markets import flow_of
    from mmsim.flow.zero_intelligence import generate_events

    result = match(noise(3, 400))
    events, n_slots, px = generate_events(
        flow_of(manifest("sim-cu").generator),
        seed=5,
        start_ts=0,
        end_ts=20 * 10**9,
        max_orders=512,
        window=512,
    )
    out = hashlib.sha256(result.events.tobytes() + result.statuses.tobytes() + events.tobytes())
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
