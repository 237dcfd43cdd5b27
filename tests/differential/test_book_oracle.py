"""The same requests through Liquibook, a matching engine by other people: equal fills, one by one.

What is compared is what both define alike: limit, immediate-or-cancel, fill-or-kill and market orders and
cancellations. Liquibook rests the remainder of a market order; sent as immediate-or-cancel it does not.
"""

from __future__ import annotations

import numpy as np
import pytest

from mmsim.book import layout as L
from mmsim.book.view import match

liquibook = pytest.importorskip("liquibook", reason="the oracle is optional: pip install liquibook")


class Fills(liquibook.OrderListener):
    """Collects (maker, taker, price, quantity)."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, int, int, int]] = []
        self.number: dict[int, int] = {}  # Liquibook's own order numbers -> ours

    def on_accept(self, order):
        pass

    def on_reject(self, order, reason):
        raise AssertionError(f"refused {self.number[order.order_id_]}: {reason}")

    def on_fill(self, taker, maker, qty, px):
        self.rows.append((self.number[maker.order_id_], self.number[taker.order_id_], px, qty))

    def on_cancel(self, order):
        pass

    def on_cancel_reject(self, order, reason):
        pass


def stream(seed: int, n: int):
    rng = np.random.default_rng(seed)
    requests = np.zeros(n, L.REQUEST)
    kind = rng.choice(5, n, p=[0.5, 0.3, 0.08, 0.06, 0.06])  # limit, cancel, market, IOC, FOK
    requests["oid"] = np.arange(1, n + 1)
    requests["verb"] = np.array([L.LIMIT, L.CANCEL, L.MARKET, L.LIMIT, L.LIMIT])[kind]
    requests["flags"] = np.array([0, 0, 0, L.IOC, L.FOK])[kind]
    requests["side"] = rng.choice([1, -1], n)
    middle = 1000 + np.cumsum(rng.integers(-1, 2, n)) // 8
    away = rng.geometric(0.2, n) - 2 - 3 * (kind > 2)
    requests["px"] = np.where(kind == 2, 0, middle - requests["side"] * away)
    requests["qty"] = rng.geometric(0.15, n)
    cancels = np.flatnonzero(kind == 1)
    requests["oid"][cancels] = np.maximum(cancels - rng.geometric(0.02, len(cancels)), 1)
    return requests


def through_liquibook(requests):
    book, fills, orders = liquibook.DepthOrderBook(), Fills(), {}
    book.set_order_listener(fills)
    at_once = liquibook.oc_immediate_or_cancel
    for oid, px, qty, _, _, flags, _, verb, side in requests.tolist():
        if verb == L.CANCEL:
            if oid in orders:
                book.cancel(orders[oid])
            continue
        conditions = 0
        if verb == L.MARKET or flags == L.IOC:
            conditions = at_once
        elif flags == L.FOK:
            conditions = liquibook.oc_fill_or_kill
        order = liquibook.SimpleOrder(side > 0, px, qty, 0, conditions)
        fills.number[order.order_id_] = oid
        orders[oid] = order
        book.add(order, conditions)
    return fills.rows


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equal_fills(seed):
    requests = stream(seed, 10_000)
    result = match(requests)
    ours = [tuple(row[:4]) for row in result.matches.tolist()]
    assert len(ours) > 2_000
    assert (result.statuses == L.FOK_KILLED).sum() > 50
    assert ours == through_liquibook(requests)
