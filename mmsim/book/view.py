"""The matching engine for Python: `OrderBook`, one call a request, and `match`, an array at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.book import kernels as k
from mmsim.book.reference import (
    Match,
    Report,
    Resting,
    checked_px,
    checked_qty,
    checked_side,
)
from mmsim.errors import BookError

MAX_ORDERS = 1 << 26  # largest order number of `match`; 1 GiB of orders
MAX_SPAN = 1 << 24  # ticks between the lowest and the highest resting order; 256 MiB of levels


class OrderBook:
    """A limit order book with price-time priority.

    Prices are ticks, quantities lots, ids are counted from 1 in the order of submission (rejected and
    market orders take one too). The price window and the number of orders grow as needed. It behaves
    exactly like `mmsim.book.reference.ReferenceBook`.

    Parameters
    ----------
    n_levels, n_orders : int
        Prices and orders to make room for at first.

    Examples
    --------
    >>> book = OrderBook()
    >>> book.submit(+1, 100, 5)
    Report(order_id=1, accepted=True, matches=(), resting=5)
    >>> book.submit(-1, 101, 3).order_id
    2
    >>> book.market(-1, 2).matches
    (Match(maker_id=1, taker_id=3, px=100, qty=2),)
    >>> book.best(+1), book.best(-1)
    ((100, 3), (101, 3))
    """

    def __init__(self, *, n_levels: int = 1022, n_orders: int = 255) -> None:
        if n_levels < 1 or n_orders < 1:
            raise BookError(f"expected room for at least one level and order, was {n_levels}, {n_orders}")
        self._orders, self._levels, self._state = k.empty_book(n_orders, n_levels)
        self._matches = np.zeros(n_orders + 1, k.MATCH)  # more than can rest: never full
        self._base = 0  # price of ladder row 0
        self._last_id = 0
        self._rows: dict[int, int] = {}  # id -> row
        self._ids = [0] * (n_orders + 1)  # row -> id
        self._free = list(range(n_orders, 0, -1))

    def submit(self, side: int, px: int, qty: int, *, post_only: bool = False, ioc: bool = False) -> Report:
        """Trade what crosses, best price and oldest first; rest the remainder.

        Parameters
        ----------
        side : int
            +1 buy, -1 sell.
        px, qty : int
            Limit price in ticks, quantity in lots.
        post_only : bool
            Reject the order (``accepted=False``, nothing changes) if it would trade.
        ioc : bool
            Immediate or cancel: drop the remainder.

        Raises
        ------
        BookError
            If the side, price or quantity is impossible, or the price too far from the book's others.
        """
        side, px, qty = checked_side(side), checked_px(px), checked_qty(qty)
        if post_only and ioc:
            raise BookError("expected post_only or ioc, was both: such an order can never do anything")
        if ioc:
            # nothing will rest there: any price beyond the window is as good as its edge
            px = min(max(px, self._base + 1), self._base + len(self._levels) - 2)
        else:
            self._reach(px)
        self._last_id += 1
        row = self._new_row()
        flags = k.POST_ONLY if post_only else k.IOC if ioc else 0
        state = self._state
        state[k.N_MATCHES] = 0
        code = k.submit(
            self._orders, self._levels, state, self._matches, row, side, px - self._base, qty, flags
        )
        return self._report(code, row, self._last_id, 0)

    def market(self, side: int, qty: int) -> Report:
        """Trade at any price; what finds no maker is dropped."""
        side, qty = checked_side(side), checked_qty(qty)
        self._last_id += 1
        row = self._new_row()
        self._state[k.N_MATCHES] = 0
        code = k.market(self._orders, self._levels, self._state, self._matches, row, side, qty)
        return self._report(code, row, self._last_id, 0)

    def cancel(self, order_id: int) -> int:
        """Remove a resting order; return the lots it still had."""
        row = self._row(order_id)
        k.cancel(self._orders, self._levels, self._state, row)
        self._release(row)
        return int(self._state[k.REMAINING])

    def reduce(self, order_id: int, by: int) -> int:
        """Shrink a resting order by `by` lots in its place; return what is left (0: it is gone)."""
        row = self._row(order_id)
        by = checked_qty(by)
        if k.reduce(self._orders, self._levels, self._state, row, by) == k.BAD_QTY:
            had = int(self._orders[row]["qty"])
            raise BookError(f"expected at most the {had} lots that order {order_id} has, was {by}")
        left = int(self._state[k.REMAINING])
        if left == 0:
            self._release(row)
        return left

    def replace(self, order_id: int, px: int, qty: int, *, post_only: bool = False) -> Report:
        """Change price and quantity of a resting order, which keeps its id.

        Unchanged and "same price, smaller" keep the place in the queue; larger or moved goes to the back,
        and trades if it crosses. With `post_only` a crossing change is rejected and the order stays as it was.
        """
        row = self._row(order_id)
        px, qty = checked_px(px), checked_qty(qty)
        self._reach(px)
        had = int(self._orders[row]["qty"])
        self._state[k.N_MATCHES] = 0
        code = k.replace(
            self._orders,
            self._levels,
            self._state,
            self._matches,
            row,
            px - self._base,
            qty,
            k.POST_ONLY if post_only else 0,
        )
        return self._report(code, row, order_id, had)

    def best(self, side: int) -> tuple[int, int] | None:
        """Return price and total quantity of the best level, None if the side is empty."""
        row = int(self._state[k.BEST_BID if checked_side(side) > 0 else k.BEST_ASK])
        if row in (0, len(self._levels) - 1):
            return None
        return row + self._base, int(self._levels[row]["qty"])

    def depth(self, side: int, n: int | None = None) -> list[tuple[int, int]]:
        """Return ``(px, qty)`` of the `n` best levels (default all), best first."""
        rows = _level_rows(self._levels, self._state, checked_side(side))[:n]
        return [(int(r) + self._base, int(self._levels[r]["qty"])) for r in rows]

    def orders(self, side: int) -> Iterator[Resting]:
        """Yield the resting orders of one side, first to trade first."""
        for row, px, qty in _walk(self._orders, self._levels, self._state, checked_side(side)):
            yield Resting(self._ids[row], side, px + self._base, qty)

    def queue_ahead(self, order_id: int) -> int:
        """Return the lots that trade before the order at its price."""
        ahead = 0
        row = int(self._orders[self._row(order_id)]["prev"])
        while row:
            ahead += int(self._orders[row]["qty"])
            row = int(self._orders[row]["prev"])
        return ahead

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, order_id: int) -> bool:
        return order_id in self._rows

    def __repr__(self) -> str:
        return f"OrderBook(bid={self.best(1)}, ask={self.best(-1)}, orders={len(self)})"

    def _report(self, code: int, row: int, order_id: int, had: int) -> Report:
        # `row` was taken from the free rows, or is that of the replaced order (which had `had` lots)
        if code == k.POST_ONLY_REJECT:
            if not had:
                self._free.append(row)
            return Report(order_id, False, (), had)
        if code != k.DONE:
            raise BookError(f"order {order_id}: the engine answered status {code}")
        matches: list[Match] = []
        for i in range(int(self._state[k.N_MATCHES])):
            maker, _, px, qty = self._matches[i].tolist()
            matches.append(Match(self._ids[maker], order_id, px + self._base, qty))
            if self._orders[maker]["qty"] == 0:
                self._release(maker)
        resting = int(self._orders[row]["qty"])
        if resting and not had:
            self._rows[order_id] = row
            self._ids[row] = order_id
        elif had and not resting:
            self._release(row)
        elif not resting:
            self._free.append(row)
        return Report(order_id, True, tuple(matches), resting)

    def _row(self, order_id: int) -> int:
        try:
            return self._rows[order_id]
        except (KeyError, TypeError):
            raise BookError(f"expected the id of a resting order, was {order_id!r}") from None

    def _release(self, row: int) -> None:
        del self._rows[self._ids[row]]
        self._free.append(row)

    def _new_row(self) -> int:
        if not self._free:
            n = len(self._orders)
            self._orders = np.concatenate((self._orders, np.zeros(n, k.ORDER)))
            self._matches = np.zeros(2 * n, k.MATCH)
            self._ids += [0] * n
            self._free = list(range(2 * n - 1, n - 1, -1))
        return self._free.pop()

    def _reach(self, px: int) -> None:
        # Moves and grows the window so that `px` lies in it; changes nothing if that is impossible.
        n = len(self._levels) - 2
        if self._base < px <= self._base + n:
            return
        used = np.flatnonzero(self._levels["qty"][1:-1]) + 1
        low = min(px, self._base + int(used[0])) if len(used) else px
        high = max(px, self._base + int(used[-1])) if len(used) else px
        span = high - low + 1
        if span > MAX_SPAN:
            raise BookError(
                f"expected a price within {MAX_SPAN} ticks of every resting order, was {px} with orders "
                f"from {self._base + int(used[0])} to {self._base + int(used[-1])}"
            )
        while n < min(2 * span, MAX_SPAN):
            n *= 2
        base = low - 1 - (n - span) // 2
        shift = self._base - base
        _, levels, state = k.empty_book(0, n)
        if len(used):
            levels[used + shift] = self._levels[used]
            bid, ask = int(self._state[k.BEST_BID]), int(self._state[k.BEST_ASK])
            state[k.BEST_BID] = bid + shift if bid else 0
            if ask != len(self._levels) - 1:
                state[k.BEST_ASK] = ask + shift
            self._orders["px"][list(self._rows.values())] += shift
        self._levels, self._state, self._base = levels, state, base


@dataclass(frozen=True)
class MatchResult:
    """What `match` did with an array of requests.

    ``matches`` is a `MATCH` array with prices in ticks, in order of execution; ``statuses`` an ``(n,)``
    int8 array of status codes (0 done, 1 rejected by post-only, negative: a wrong request).
    """

    matches: npt.NDArray[np.void]
    statuses: npt.NDArray[np.int8]
    _orders: npt.NDArray[np.void]
    _levels: npt.NDArray[np.void]
    _state: npt.NDArray[np.int64]
    _base: int

    def orders(self, side: int) -> Iterator[Resting]:
        """Yield the orders of one side that rest after the last request, first to trade first."""
        for row, px, qty in _walk(self._orders, self._levels, self._state, checked_side(side)):
            yield Resting(row, side, px + self._base, qty)


def match(requests: npt.NDArray[np.void], *, buffer: int = 1 << 20) -> MatchResult:
    """Execute an array of requests on an empty book, in order, in compiled code.

    Parameters
    ----------
    requests : (n,) REQUEST array
        `oid` is the caller's own number of the order, 1 or more, small and free for reuse once the order
        is gone. Prices in ticks, quantities in lots. A wrong request changes nothing; see ``statuses``.
    buffer : int
        Executions collected before they are put aside.

    Raises
    ------
    BookError
        If the array has another layout, prices span more than `MAX_SPAN` ticks, or an order number is
        larger than `MAX_ORDERS`.
    """
    if requests.dtype != k.REQUEST or requests.ndim != 1:
        raise BookError(f"expected a one-dimensional REQUEST array, was {requests.dtype}")
    priced = requests["px"][(requests["verb"] == k.LIMIT) | (requests["verb"] == k.REPLACE)]
    low, high = (int(priced.min()), int(priced.max())) if len(priced) else (0, 0)
    if high - low >= MAX_SPAN:
        raise BookError(f"expected prices within {MAX_SPAN} ticks, was {low} to {high}")
    n_orders = int(requests["oid"].max()) if len(requests) else 0
    if n_orders > MAX_ORDERS:
        raise BookError(
            f"expected order numbers up to {MAX_ORDERS}, was {n_orders}: reuse those that are gone"
        )
    base = low - 1
    orders, levels, state = k.empty_book(n_orders, high - low + 1)
    chunk = np.zeros(max(buffer, 1), k.MATCH)
    statuses = np.zeros(len(requests), np.int8)
    done: list[npt.NDArray[np.void]] = []
    at = 0
    while True:
        at = k.match_requests(requests, at, base, orders, levels, state, chunk, statuses)
        done.append(chunk[: int(state[k.N_MATCHES])].copy())
        state[k.N_MATCHES] = 0
        if at == len(requests):
            break
    matches = np.concatenate(done)
    matches["px"] = matches["px"].astype(np.int64) + base
    return MatchResult(matches, statuses, orders, levels, state, base)


def _level_rows(
    levels: npt.NDArray[np.void], state: npt.NDArray[np.int64], side: int
) -> npt.NDArray[np.int64]:
    # ladder rows of the side's levels, best first
    if side > 0:
        return np.flatnonzero(levels["qty"][1 : int(state[k.BEST_BID]) + 1])[::-1] + 1
    ask = int(state[k.BEST_ASK])
    return np.flatnonzero(levels["qty"][ask:-1]) + ask


def _walk(orders: Any, levels: Any, state: Any, side: int) -> Iterator[tuple[int, int, int]]:
    for level in _level_rows(levels, state, side):
        row = int(levels[level]["head"])
        while row:
            yield row, int(level), int(orders[row]["qty"])
            row = int(orders[row]["next"])
