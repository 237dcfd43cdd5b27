"""The order book as a specification: dictionaries of lists, one obvious statement after another.

`mmsim.book.view.OrderBook` must behave exactly like `ReferenceBook`; the stateful test compares them
after every verb. Read this file to learn what the engine does, and the other to learn how it is quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import index
from typing import Any, NamedTuple

from mmsim.errors import BookError

MAX_INT32 = 2**31 - 1  # largest quantity in lots, largest absolute price in ticks


class Match(NamedTuple):
    """One execution: the taker met the maker at the maker's price (ticks) for `qty` lots."""

    maker_id: int
    taker_id: int
    px: int
    qty: int


class Report(NamedTuple):
    """What became of one request: its order, its executions, and the lots of it that rest now."""

    order_id: int
    accepted: bool  # False: post-only and it would have traded; nothing changed
    matches: tuple[Match, ...]
    resting: int


class Resting(NamedTuple):
    """One resting order; `side` +1 bid, -1 ask, `px` in ticks, `qty` in lots."""

    order_id: int
    side: int
    px: int
    qty: int


def checked_side(side: Any) -> int:
    """Return `side` if it is +1 or -1; BookError otherwise."""
    if side not in (1, -1):
        raise BookError(f"expected side +1 (buy) or -1 (sell), was {side!r}")
    return int(side)


def checked_qty(qty: Any) -> int:
    """Return `qty` if it is a whole number of lots that an order can have; BookError otherwise."""
    lots = _whole(qty, "a quantity in lots")
    if not 1 <= lots <= MAX_INT32:
        raise BookError(f"expected a quantity from 1 to {MAX_INT32} lots, was {lots}")
    return lots


def checked_px(px: Any) -> int:
    """Return `px` if it is a whole number of ticks in 32 bits; BookError otherwise."""
    ticks = _whole(px, "a price in ticks")
    if not -MAX_INT32 <= ticks <= MAX_INT32:
        raise BookError(f"expected a price within +-{MAX_INT32} ticks, was {ticks}")
    return ticks


def _whole(value: Any, what: str) -> int:
    try:
        return index(value)
    except TypeError:
        raise BookError(f"expected {what} as an integer, was {value!r}") from None


@dataclass
class _Order:
    order_id: int
    qty: int


class ReferenceBook:
    """Price-time priority, naively. Prices in ticks, quantities in lots, ids counted from 1."""

    def __init__(self) -> None:
        self._queues: dict[int, dict[int, list[_Order]]] = {1: {}, -1: {}}
        self._last_id = 0

    def submit(self, side: int, px: int, qty: int, *, post_only: bool = False, ioc: bool = False) -> Report:
        """Trade what crosses, best price and oldest first; rest the remainder, unless `ioc`."""
        side, px, qty = checked_side(side), checked_px(px), checked_qty(qty)
        if post_only and ioc:
            raise BookError("expected post_only or ioc, was both: such an order can never do anything")
        self._last_id += 1
        return self._execute(self._last_id, side, px, qty, post_only=post_only, ioc=ioc)

    def market(self, side: int, qty: int) -> Report:
        """Trade at any price; what finds no maker is dropped."""
        side, qty = checked_side(side), checked_qty(qty)
        self._last_id += 1
        matches, _ = self._take(self._last_id, side, None, qty)
        return Report(self._last_id, True, matches, 0)

    def cancel(self, order_id: int) -> int:
        """Remove a resting order; return the lots it still had."""
        side, px, order = self._find(order_id)
        self._remove(side, px, order)
        return order.qty

    def reduce(self, order_id: int, by: int) -> int:
        """Shrink a resting order in its place; return what is left (0: it is gone)."""
        side, px, order = self._find(order_id)
        by = checked_qty(by)
        if by > order.qty:
            raise BookError(f"expected at most the {order.qty} lots that order {order_id} has, was {by}")
        order.qty -= by
        if order.qty == 0:
            self._remove(side, px, order)
        return order.qty

    def replace(self, order_id: int, px: int, qty: int, *, post_only: bool = False) -> Report:
        """Change price and quantity; only "unchanged" and "same price, smaller" keep the place."""
        side, old_px, order = self._find(order_id)
        px, qty = checked_px(px), checked_qty(qty)
        if px == old_px and qty <= order.qty:
            order.qty = qty
            return Report(order_id, True, (), qty)
        if post_only and self._crosses(side, px):
            return Report(order_id, False, (), order.qty)
        self._remove(side, old_px, order)
        return self._execute(order_id, side, px, qty, post_only=post_only, ioc=False)

    def best(self, side: int) -> tuple[int, int] | None:
        """Return price and total quantity of the best level, None if the side is empty."""
        levels = self.depth(side, 1)
        return levels[0] if levels else None

    def depth(self, side: int, n: int | None = None) -> list[tuple[int, int]]:
        """Return ``(px, qty)`` of the `n` best levels (default all), best first."""
        queues = self._queues[checked_side(side)]
        prices = sorted(queues, reverse=side > 0)[:n]
        return [(px, sum(o.qty for o in queues[px])) for px in prices]

    def orders(self, side: int) -> Iterator[Resting]:
        """Yield the resting orders of one side, first to trade first."""
        queues = self._queues[checked_side(side)]
        for px in sorted(queues, reverse=side > 0):
            for order in queues[px]:
                yield Resting(order.order_id, side, px, order.qty)

    def queue_ahead(self, order_id: int) -> int:
        """Return the lots that trade before the order at its price."""
        side, px, order = self._find(order_id)
        queue = self._queues[side][px]
        return sum(o.qty for o in queue[: queue.index(order)])

    def __len__(self) -> int:
        return sum(len(q) for queues in self._queues.values() for q in queues.values())

    def __contains__(self, order_id: int) -> bool:
        return any(o.order_id == order_id for side in (1, -1) for o in self.orders(side))

    def _execute(self, order_id: int, side: int, px: int, qty: int, *, post_only: bool, ioc: bool) -> Report:
        if post_only and self._crosses(side, px):
            return Report(order_id, False, (), 0)
        matches, left = self._take(order_id, side, px, qty)
        if left and not ioc:
            self._queues[side].setdefault(px, []).append(_Order(order_id, left))
        return Report(order_id, True, matches, 0 if ioc else left)

    def _crosses(self, side: int, px: int) -> bool:
        best = self.best(-side)
        return best is not None and (px >= best[0] if side > 0 else px <= best[0])

    def _take(self, taker: int, side: int, px: int | None, qty: int) -> tuple[tuple[Match, ...], int]:
        matches = []
        while qty:
            best = self.best(-side)
            if best is None or (px is not None and not self._crosses(side, px)):
                break
            maker = self._queues[-side][best[0]][0]
            done = min(qty, maker.qty)
            matches.append(Match(maker.order_id, taker, best[0], done))
            qty -= done
            maker.qty -= done
            if maker.qty == 0:
                self._remove(-side, best[0], maker)
        return tuple(matches), qty

    def _find(self, order_id: int) -> tuple[int, int, _Order]:
        for side, queues in self._queues.items():
            for px, queue in queues.items():
                for order in queue:
                    if order.order_id == order_id:
                        return side, px, order
        raise BookError(f"expected the id of a resting order, was {order_id!r}")

    def _remove(self, side: int, px: int, order: _Order) -> None:
        queue = self._queues[side][px]
        queue.remove(order)
        if not queue:
            del self._queues[side][px]
