"""Reading a book: best prices, depth, orders, tables, snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmsim.book import layout as L
from mmsim.book.listing import look
from mmsim.book.memory import Memory
from mmsim.book.report import Resting, Waiting, checked_id, checked_side
from mmsim.errors import BookError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Snapshot:
    """A whole book at rest, as the requests that make it: what `OrderBook.restore` takes.

    ``orders`` is a REQUEST array (bids, asks, buy stops, sell stops, each in the order in which they
    trade or are triggered), ``last_px`` the last traded price in ticks, ``next_id`` the next id of the book's own.
    """

    orders: npt.NDArray[np.void]
    last_px: int | None
    next_id: int


class BookReader:
    """What can be asked of a book; `OrderBook` is one that also takes requests.

    Parameters
    ----------
    memory : Memory
        Its arrays.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._next_id = 1

    @property
    def last_px(self) -> int | None:
        """Price of the last trade in ticks, None if there was none."""
        last = int(self._memory.state.last)
        return None if last == L.NO_BID else last

    def best(self, side: int) -> tuple[int, int] | None:
        """Return price and total quantity shown of the best level, None if the side is empty."""
        s = self._memory.state
        px = int(s.best_bid if checked_side(side) > 0 else s.best_ask)
        if abs(px) == L.NO_ASK:
            return None
        at = px - int(s.origin)
        if not 1 <= at <= s.width:
            return self.depth(side, 1)[0]
        return px, int(self._memory.book.levels["qty"][at])

    def depth(self, side: int, n: int | None = None) -> list[tuple[int, int]]:
        """Return ``(px, qty)`` of the `n` best levels (default all), best first; hidden lots do not count."""
        prices, lots = self._memory.depth(checked_side(side))
        return list(zip(prices[:n].tolist(), lots[:n].tolist(), strict=True))

    def orders(self, side: int) -> Iterator[Resting]:
        """Yield the resting orders of one side, first to trade first."""
        checked_side(side)
        for oid, px, qty, _, hidden, _, owner, verb, of in self._memory.requests().tolist():
            if of == side and verb in (L.LIMIT, L.LOAD):
                yield Resting(oid, side, px, qty, hidden, owner)

    def stops(self, side: int) -> Iterator[Waiting]:
        """Yield the waiting stops of one side, first to be triggered first."""
        checked_side(side)
        for oid, px, qty, _, trigger, _, owner, verb, of in self._memory.requests().tolist():
            if of == side and verb in (L.STOP, L.STOP_LIMIT):
                yield Waiting(oid, side, trigger, px if verb == L.STOP_LIMIT else None, qty, owner)

    def queue_ahead(self, order_id: int) -> int:
        """Return the lots shown that trade before the order at its price."""
        if self._row(order_id) & L.STOPPED or order_id not in self:
            raise unknown(order_id)
        return int(self._memory.state.ahead)

    def to_pandas(self, what: str = "levels") -> pd.DataFrame:
        """Return a table of the book.

        Parameters
        ----------
        what : str
            ``"levels"``: one row per price (side, px, qty shown, orders), bids then asks, best first.
            ``"orders"``: one row per order, in the order in which they trade, stops last, with all they have.
        """
        import pandas as pd

        if what not in ("levels", "orders"):
            raise BookError(f"expected 'levels' or 'orders', was {what!r}")
        rows = self._memory.requests()
        stop = np.isin(rows["verb"], (L.STOP, L.STOP_LIMIT))
        table = pd.DataFrame(
            {
                "order_id": rows["oid"],
                "side": rows["side"].astype(np.int64),
                "px": rows["px"],
                "qty": rows["qty"],
                "hidden": np.where(stop, 0, rows["stop"]),
                "owner": rows["owner"],
                "trigger": pd.array(np.where(stop, rows["stop"], 0), dtype="Int64"),
            }
        )
        table.loc[~stop, "trigger"] = pd.NA
        if what == "orders":
            table["px"] = table["px"].astype("Int64")
            table.loc[rows["verb"] == L.STOP, "px"] = pd.NA
            return table
        groups = table[~stop].groupby(["side", "px"], sort=False)
        return groups.agg(qty=("qty", "sum"), orders=("qty", "size")).reset_index()

    def snapshot(self) -> Snapshot:
        """Return the whole book, waiting stops and hidden lots included."""
        return Snapshot(self._memory.requests(), self.last_px, self._next_id)

    def __iter__(self) -> Iterator[Resting]:
        yield from self.orders(1)
        yield from self.orders(-1)

    def __len__(self) -> int:
        return int(self._memory.state.live)

    def __contains__(self, order_id: object) -> bool:
        return self._row(order_id) != 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(bid={self.best(1)}, ask={self.best(-1)}, orders={len(self)})"

    def _row(self, order_id: Any) -> int:
        # its row (+ STOPPED), 0 if it is not in the book
        try:
            oid: Any = np.int64(checked_id(order_id))
        except BookError:
            return 0
        return int(look(self._memory.handle, oid))

    def _found(self, order_id: Any) -> Resting | Waiting:
        row = self._row(order_id)
        if row == 0:
            raise unknown(order_id)
        found = next(r for r in self._memory.requests().tolist() if r[0] == order_id)
        oid, px, qty, _, stop, _, owner, _, side = found
        if row & L.STOPPED:
            return Waiting(oid, side, stop, px, qty, owner)
        return Resting(oid, side, px, qty, stop, owner)

    def _had(self, order_id: Any) -> int:
        order = self._found(order_id)
        return order.qty + (order.hidden if isinstance(order, Resting) else 0)


def unknown(order_id: Any) -> BookError:
    """Return the error of a request for an order that is not there."""
    return BookError(f"expected the id of a resting order, was {order_id!r}")
