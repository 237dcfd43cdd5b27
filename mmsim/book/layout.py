"""What the arrays of a book hold: their records, verbs, flags and status codes.

A book is the arrays of `Book`. ``orders`` and ``extra`` have one row per order (what every message touches,
and the rest of it), ``levels`` one row per price: a dense window around the market, followed by rows for prices
outside it. Such a price, and the trigger of every waiting stop, stands on a *shelf*: a sorted array whose
entries name a row of ``levels`` behind the window, where the orders queue as at any other price.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

ORDER = np.dtype(
    [
        ("px", "<i4"),  # ticks; of a waiting stop: its trigger
        ("qty", "<i4"),  # lots that are shown; 0: the row is free
        ("prev", "<u4"),  # next older order at the price, 0: none
        ("next", "<u4"),  # next younger order at the price, 0: none; of a free row: the next free one
    ]
)

EXTRA = np.dtype(
    [
        ("oid", "<i8"),
        ("reserve", "<i4"),  # hidden lots of an iceberg
        ("display", "<i4"),  # lots it shows at a time, 0: not an iceberg
        ("limit", "<i4"),  # price of a stop-limit order, ticks
        ("owner", "<u2"),
        ("flags", "<u2"),  # of a stop: those of its request
        ("verb", "<i4"),  # of a stop: STOP or STOP_LIMIT
        ("side", "<i4"),  # of a stop
    ]
)

LEVEL = np.dtype(
    [
        ("qty", "<i8"),  # lots shown in all: far below 2**63: at most 2**24 orders of 2**31
        ("head", "<u4"),  # oldest order, 0: none; of a free row: the next free one
        ("tail", "<u4"),  # youngest order, 0: none
    ]
)

REQUEST = np.dtype(
    [
        ("oid", "<i8"),  # the caller's number of the order, any but 0
        ("px", "<i4"),  # limit, ticks (LIMIT, REPLACE, STOP_LIMIT, LOAD)
        ("qty", "<i4"),  # lots, hidden ones included; of a REDUCE: by how many; not used by CANCEL
        ("display", "<i4"),  # lots an iceberg shows, 0: not an iceberg
        ("stop", "<i4"),  # trigger, ticks (STOP, STOP_LIMIT); of a LOAD: hidden lots on top of `qty`
        ("flags", "<u4"),
        ("owner", "<u2"),  # 0: nobody, never a self-trade
        ("verb", "u1"),
        ("side", "i1"),  # +1 buy, -1 sell (of new orders)
    ]
)

MATCH = np.dtype(
    [
        ("maker", "<i8"),  # the order that rested; of the other kinds see below
        ("taker", "<i8"),  # the order that arrived
        ("px", "<i4"),  # the maker's price
        ("qty", "<i4"),  # lots
        ("maker_owner", "<u2"),
        ("taker_owner", "<u2"),
        ("kind", "<u2"),
        ("side", "<i2"),  # of the taker
    ]
)

# MATCH.kind. REMOVED: self-trade prevention took `qty` lots of order `maker` (which may be the taker itself) out.
# TRIGGERED: a trade triggered stop order `taker` at its trigger `px` (`maker` is 0, `qty` its lots).
TRADE, REMOVED, TRIGGERED = 0, 1, 2

# REQUEST.verb. LOAD rests an iceberg in mid-life, as `OrderBook.restore` needs it.
LIMIT, MARKET, CANCEL, REDUCE, REPLACE, STOP, STOP_LIMIT, LOAD = 1, 2, 3, 4, 5, 6, 7, 8

# REQUEST.flags: at most one of the first four, and one mode of self-trade prevention.
POST_ONLY, IOC, FOK, SLIDE = 1, 2, 4, 8
KINDS = 15
STP_RESTING, STP_INCOMING, STP_BOTH = 16, 32, 48
ALL_FLAGS = 63

# Status codes. 1 and 3: the order was refused and changed nothing. Negative: the request was wrong, the same.
DONE, POST_ONLY_REJECT, FOK_KILLED, SELF_TRADE = 0, 1, 3, 4
BAD_VERB, BAD_PRICE, BAD_ORDER, BAD_QTY, BAD_SIDE, BAD_DISPLAY, BAD_FLAGS = -1, -2, -3, -4, -5, -6, -7

MAX_QTY = 2**31 - 1  # lots of one order
MAX_PX = 2**31 - 1  # ticks; the lowest price is -MAX_PX
MAX_TIPS = 1000  # times an iceberg may show its display quantity: bounds what one request can do
MAX_ROWS = 1 << 24  # orders in one book (2.5 GB)
NO_BID, NO_ASK = -(1 << 62), 1 << 62  # best price of an empty side
ANY_PX = 1 << 40  # limit of a market order (times its side)

# Why `execute` returned, in ``state.why``.
FINISHED, FULL, NO_ROWS, CROWDED = 0, 1, 2, 3

STOPPED = 1 << 31  # added to the row in the hash table: the order is a waiting stop

FAR, BUY_STOPS, SELL_STOPS = 0, 1, 2  # the shelves; an entry is (key << 32) + level row
N_SHELVES = 3
MATCHES_OF_ONE = 256  # rows for the matches of one call; more are collected in parts

NOTHING, REQUESTED, TRIGGERED_STOP = 0, 1, 2  # HAND.kind

HAND = np.dtype(
    [
        ("kind", "<i8"),  # NOTHING is in hand, the order of a request, or a stop that was triggered
        ("started", "<i8"),  # it has passed the tests of its flags
        ("replaces", "<i8"),  # it is the new form of the order in `row`
        ("row", "<i8"),  # of `orders`, 0: it has none yet
        ("oid", "<i8"),
        ("owner", "<i8"),
        ("side", "<i8"),
        ("limit", "<i8"),
        ("left", "<i8"),  # lots that have not traded yet
        ("display", "<i8"),
        ("tip", "<i8"),  # lots that a loaded iceberg shows at first, 0: as many as others
        ("terms", "<i8"),  # its flags
        ("first", "<i8"),  # price of its first trade, NO_BID: none yet
    ]
)

STATE = np.dtype(
    [
        ("best_bid", "<i8"),  # ticks, NO_BID: the side is empty
        ("best_ask", "<i8"),
        ("last", "<i8"),  # price of the last trade, NO_BID: none yet
        ("n_matches", "<i8"),  # rows of `matches` in use
        (
            "resting",
            "<i8",
        ),  # lots, hidden ones included, that the last request's order has in the book or (CANCEL) had
        ("why", "<i8"),  # why `execute` returned
        ("ahead", "<i8"),  # what `look` found
        ("origin", "<i8"),  # price of levels[0]
        ("width", "<i8"),  # prices of the window: levels[1] to levels[width]
        ("least", "<i8"),  # prices of the window at first; it never has fewer
        ("live", "<i8"),  # orders in the book, waiting stops included
        ("free", "<i8"),  # free rows of `orders` that were used before, linked by `next`
        ("top", "<i8"),  # first row of `orders` never used
        ("level_free", "<i8"),  # the same of the level rows behind the window, linked by `head`
        ("level_top", "<i8"),
        ("shelved", "<i8", (N_SHELVES,)),  # entries of each shelf
        ("far_uses", "<i8"),  # touches of prices outside the window since it was placed
        ("far_limit", "<i8"),  # so many are enough to place it anew
        ("next_buy", "<i8"),  # lowest trigger of a waiting buy stop, NO_ASK: none waits
        ("next_sell", "<i8"),  # highest trigger of a waiting sell stop, NO_BID: none waits
        ("pending", "<i8"),  # first triggered stop that has not run yet, 0: none; linked by `next`
        ("pending_tail", "<i8"),
        ("hand", HAND),  # the order that is being executed
    ]
)


class Book(NamedTuple):
    """The arrays of one book, as kernels take them."""

    state: Any  # (1,) STATE
    orders: Any  # (n + 1,) ORDER; row 0 is none
    extra: Any  # (n + 1,) EXTRA
    levels: Any  # (width + 2 + n,) LEVEL
    occupied: Any  # bitmap of the window's levels (`mmsim.bits`)
    shelves: (
        Any  # (N_SHELVES, n) int64, each row sorted: as many entries as there may be orders, so never full
    )
    slots: Any  # (power of two,) int64, the hash table of ids: (tag << 32) + row, 0: empty
