"""Matching: a whole array, one call per request, many books in one call. `pytest -m benchmark tests/benchmarks/test_book.py`."""

from __future__ import annotations

import numpy as np
import pytest

from mmsim.book import layout as L
from mmsim.book.many import Books
from mmsim.book.view import OrderBook, match

pytestmark = pytest.mark.benchmark


def flow(seed: int, n: int, live: int = 3000):
    """Return requests around a wandering middle: half adds, two fifths cancels, the rest market orders."""
    rng = np.random.default_rng(seed)
    requests = np.zeros(n, L.REQUEST)
    kind = np.where(np.arange(n) < live, 0, rng.choice(3, n, p=[0.54, 0.39, 0.07]))
    requests["oid"] = np.arange(1, n + 1)
    requests["verb"] = np.array([L.LIMIT, L.CANCEL, L.MARKET])[kind]
    requests["side"] = rng.choice([1, -1], n)
    middle = 10_000 + np.cumsum(rng.choice([-1, 0, 0, 0, 1], n)) // 50
    requests["px"] = middle - requests["side"] * (rng.geometric(0.08, n) - 1)
    requests["qty"] = np.maximum(rng.lognormal(1.0, 1.0, n).astype(int), 1)
    cancels = np.flatnonzero(kind == 1)
    requests["oid"][cancels] = np.maximum(cancels - rng.geometric(1 / live, len(cancels)), 1)
    return requests


def test_an_array(benchmark):
    requests = flow(1, 1_000_000)
    result = benchmark(match, requests)
    benchmark.extra_info["per_s"] = len(requests) / benchmark.stats["median"]
    assert len(result.matches) > 50_000


def test_one_call_per_request(benchmark):
    rows = flow(2, 50_000)[["verb", "oid", "side", "px", "qty"]].tolist()

    def run() -> int:
        book, trades = OrderBook(), 0
        for verb, oid, side, px, qty in rows:
            if verb == L.LIMIT:
                trades += len(book.submit(side, px, qty, order_id=oid).matches)
            elif verb == L.MARKET:
                trades += len(book.market(side, qty, order_id=oid).matches)
            elif oid in book:
                book.cancel(oid)
        return trades

    trades = benchmark(run)
    benchmark.extra_info["per_s"] = len(rows) / benchmark.stats["median"]
    assert trades > 1_000


@pytest.mark.parametrize("portion", [10, 1000])
def test_256_books(benchmark, portion):
    requests = np.stack([flow(seed, 5_000, live=200) for seed in range(256)])

    def run() -> int:
        books = Books(256)
        return sum(len(books.step(requests[:, i : i + portion]).events) for i in range(0, 5_000, portion))

    events = benchmark(run)
    benchmark.extra_info["per_s"] = requests.size / benchmark.stats["median"]
    assert events > 100_000
