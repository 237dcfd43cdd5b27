"""Order messages of any feed -> L3 events: slots, queues' priority, and trades told in several messages.

Feeds say "order 123456789 shrinks"; EVENT rows speak of recycled slots and carry the order's price and side.
`mmsim.data.formats._orders_assemble` keeps the live orders, and puts together what one execution is told in: a print
(PRINT), the fills of the resting orders (FILL), and the changes of the book that carry them out (CUT, MODIFY, ...):

* only PRINTs are trades; each lot of a PRINT becomes one lot of an EXECUTE or of a TRADE at its price, never both;
* a fill belongs to the print of its event at its price whose aggressor is on the other side. A fill on the
  aggressor's own side is that of the order that traded (it may have rested before it was modified to cross);
* an order executes only at the price at which it rests, and only as many lots as it displays and its change of the
  book takes away: EXECUTE. The rest of the print (hidden parts, unknown orders, unconfirmed fills) is one TRADE at
  the end of the event;
* a print without an aggressor whose fills are on both sides, or of orders that rest at other prices, is an
  auction's: one TRADE with flag AUCTION, and its orders shrink by REDUCE and DELETE;
* a fill without any print in its event is a print of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints, add_counts
from mmsim.data.formats._orders_assemble import (
    COUNTERS,
    DUPLICATE,
    NO_QTY,
    OTHER_PRICE,
    OTHER_QTY,
    OTHER_SIDE,
    TOO_MUCH,
    UNKNOWN,
    convert,
)  # fmt: skip
from mmsim.data.formats._slots import CODE, events_of, filled
from mmsim.data.origin import Origin
from mmsim.errors import DataError

# what a message does
ADD, CUT, DELETE, EXECUTE, PRINT, MODIFY, CLEAR, REPLACE, FILL, CLEAR_SIDE, TAKE, NOTHING = range(1, 13)
MOST_OPEN = 1 << 16  # prints and fills of one event: each fill is compared with the prints before it
_EXPECTED = {
    DUPLICATE: ("order_id", "a new order id, was one that is still live"),
    UNKNOWN: ("order_id", "the id of a live order, was an unknown one"),
    TOO_MUCH: ("qty", "at most what the order still holds, was more"),
    NO_QTY: ("qty", "a quantity above 0, was 0"),
    OTHER_SIDE: ("side", "the side of the order, was the other one"),
    OTHER_PRICE: ("px", "the price of the order, was another"),
    OTHER_QTY: ("qty", "what the order still holds, was another quantity"),
}


class OrderError(DataError):
    """A message of an order log that the book cannot follow: which one, and what is wrong (UNKNOWN, ...)."""

    problem = message = 0


@dataclass(frozen=True)
class OrderLog:
    """Order messages in columns, all of one length.

    Parameters
    ----------
    op : int64
        ADD; CUT (by `qty`, all of it removes the order); DELETE; EXECUTE (of the order, by `qty`); TAKE (as
        EXECUTE, but printed elsewhere: the order shrinks without a trade); PRINT; FILL (announces the execution of
        `qty` at `px`, the book changes with a later message); MODIFY (to `px`, `qty`); REPLACE (of `owner` by the new
        order `other`); CLEAR; CLEAR_SIDE; NOTHING.
    owner, other : int64
        Order index, 0 .. `n_owners` - 1.
    px, qty : int64
        Ticks and lots.
    side : int64
        Of the order; of a PRINT the aggressor's, 0 unknown; of CLEAR_SIDE the side of the book.
    flags : int64
        `EventFlag` bits for the rows of the message, without LAST.
    last : bool
        The message ends an event: the book may be looked at.
    n_owners : int
    origin : Origin
        File and rows.
    """

    op: Ints
    owner: Ints
    other: Ints
    px: Ints
    qty: Ints
    side: Ints
    flags: Ints
    last: npt.NDArray[np.bool_]
    n_owners: int
    origin: Origin


def convert_orders(
    log: OrderLog, ts: Ints, *, strict: bool, exact: bool = False
) -> tuple[npt.NDArray[np.void], Ints, int, dict[str, int]]:
    """Return the events of an order log, the message of each, slots used, and what was counted.

    Parameters
    ----------
    log : OrderLog
        Its last message must end an event.
    ts : (n,) int64 array
        Exchange time of each message, ns.
    strict : bool
        A message of an unknown order, or of more than the order holds, is an error; else it is counted and left
        out or cut (a change of an unknown order adds it).
    exact : bool
        A DELETE must repeat side, price and quantity of its order, an EXECUTE the side and (if it tells one) the price.

    Raises
    ------
    DataError
        With the row of the first message that the book cannot follow (an `OrderError`), or of an event of more than
        `MOST_OPEN` prints and fills.
    """
    placed = np.isin(log.op, (ADD, MODIFY, REPLACE))
    index = np.unique(log.px[placed])
    if len(index) == 0:
        raise DataError("expected orders, was none: nothing is added to the book", source=log.origin.source)
    told = np.isin(log.op, (PRINT, FILL))
    event = np.concatenate([[0], np.cumsum(log.last)[:-1]])
    n_open = int(np.bincount(event[told]).max()) if told.any() else 0
    if n_open > MOST_OPEN:
        at = int(np.argmax(told & (event == np.bincount(event[told]).argmax())))
        raise log.origin.error(
            f"expected at most {MOST_OPEN:,} trades and fills in one event, was {n_open:,}: the ends of events are "
            "missing, or the file is damaged",
            at,
        )
    counts = np.zeros(len(COUNTERS), dtype=np.int64)

    def fill(out: Ints) -> tuple[int, int, int, int]:
        counts[:] = 0
        return convert(
            log.op, log.owner, log.other, log.px, log.qty, log.side, log.flags, log.last, index, log.n_owners,
            int(placed.sum()) + 1, n_open, strict, exact, CODE, out, counts,
        )  # fmt: skip

    problem, at, rows, n_slots = filled(fill, 2 * len(ts) + 16)
    if problem:
        field, expected = _EXPECTED[problem]
        source, row = log.origin.place(at)
        err = OrderError(f"expected {expected}", source=source, row=row, field=field)
        err.problem, err.message = problem, at
        raise err
    found = {k: int(c) for k, c in zip(COUNTERS, counts, strict=True)}
    return events_of(rows, ts, log.origin.source), rows[:, 0].copy(), n_slots, found


def account(found: dict[str, int], out: Conversion) -> None:
    """Put what `convert_orders` counted where it belongs: trades, checks, and the other counts.

    The raw trades are the caller's to count; a fill that no print tells is one more. `found` is used up.
    """
    tape = out.account()
    tape.imported_trades += found.pop("trades")
    tape.explain(
        "fills without a trade record",
        -found.pop("fills_without_print"),
        -found.pop("lots_of_fills_without_print"),
    )
    add_counts(out.checks, {"crossed_books": found.pop("crossed_books")})
    add_counts(out.counts, found)


def renumber(ids: npt.NDArray[Any], *more: npt.NDArray[Any]) -> tuple[int, list[Ints]]:
    """Return how many different order ids there are, and each array with indices instead of ids."""
    import pandas as pd  # hashes: several times faster than to sort

    parts = [ids, *more]
    index, names = pd.factorize(np.concatenate(parts))
    return len(names), [a.astype(np.int64) for a in np.split(index, np.cumsum([len(p) for p in parts])[:-1])]
