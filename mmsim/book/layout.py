"""What the arrays of the book hold: dtypes, verbs, flags, status codes and the layout of its words.

A book is four arrays. ``orders`` and ``extra`` have one row an order (what every message touches, and the
rest of it), ``levels`` one row a price: a dense window around the market, followed by rows for prices
outside it. ``words`` are its scalars, three sorted shelves and the hash table of ids.
"""

from __future__ import annotations

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
# TRIGGERED: a trade set off stop order `taker`, whose trigger is `px` (`maker` 0, `qty` its lots).
TRADE, REMOVED, TRIGGERED = 0, 1, 2

# REQUEST.verb. LOAD rests an iceberg in mid-life, as `OrderBook.restore` needs it.
LIMIT, MARKET, CANCEL, REDUCE, REPLACE, STOP, STOP_LIMIT, LOAD = 1, 2, 3, 4, 5, 6, 7, 8

# REQUEST.flags: at most one of the first four, and one mode of self-trade prevention.
POST_ONLY, IOC, FOK, SLIDE = 1, 2, 4, 8
KINDS = 15
STP_RESTING, STP_INCOMING, STP_BOTH = 16, 32, 48
ALL_FLAGS = 63

# Status codes. 1 and 3: the order was refused and changed nothing. Negative: the request was wrong, the same.
DONE, POST_ONLY_REJECT, MATCHES_FULL, FOK_KILLED, SELF_TRADE = 0, 1, 2, 3, 4
BAD_VERB, BAD_PRICE, BAD_ORDER, BAD_QTY, BAD_SIDE, BAD_DISPLAY, BAD_FLAGS = -1, -2, -3, -4, -5, -6, -7

MAX_QTY = 2**31 - 1  # lots of one order
MAX_PX = 2**31 - 1  # ticks; the lowest price is -MAX_PX
MAX_TIPS = 1000  # times an iceberg may show its display quantity: bounds what one request can do
MAX_ROWS = 1 << 24  # orders in one book (2.5 GB)
NO_BID, NO_ASK = -(1 << 62), 1 << 62  # best price of an empty side
ANY_PX = 1 << 40  # limit of a market order (times its side)

# Why `execute` returned, in words[WHY].
FINISHED, FULL, NO_ROWS, CROWDED = 0, 1, 2, 3

STOPPED = 1 << 31  # added to the row in the hash table: the order is a waiting stop

# words[0:N_STATE]
(
    BEST_BID,
    BEST_ASK,
    N_MATCHES,  # rows of `matches` in use
    RESTING,  # lots, hidden ones included, that the last request's order has in the book or (CANCEL) had
    BASE,  # price of levels[0]
    WIDTH,  # usable prices of the window: levels[1] to levels[WIDTH]
    FREE,  # free rows of `orders` that were used before, linked by `next`
    TOP,  # first row of `orders` never used
    LEVEL_FREE,  # the same of the level rows behind the window
    LEVEL_TOP,
    LIVE,  # orders in the book, waiting stops included
    LAST,  # price of the last trade, NO_BID: none yet
    NEXT_BUY,  # lowest trigger of a waiting buy stop, NO_ASK: none
    NEXT_SELL,  # highest trigger of a waiting sell stop, NO_BID: none
    PENDING,  # first stop that was set off and has not run yet, 0: none; linked by `next`
    PENDING_TAIL,
    HASH_AT,  # where the hash table starts: slots of (tag << 32) + row, 0: empty
    HASH_SHIFT,  # 31 - log2 of its slots
    SHELF_SIZE,  # entries a shelf has room for: as many as there may be orders
    SHELVED,  # three counters: prices in use on each shelf
    SHELVED_BUY,
    SHELVED_SELL,
    FAR_USES,  # touches of prices outside the window since it was placed
    FAR_LIMIT,
    LEAST,  # usable prices of the window at first; never fewer
    WHY,
    AHEAD,  # what `look` found
    HAND,  # the order in hand when `matches` was full: 0 none, 1 the request's, 2 a stop's
    HAND_ROW,
    HAND_SIDE,
    HAND_LIMIT,
    HAND_LEFT,
    HAND_DISPLAY,
    HAND_OWNER,
    HAND_FLAGS,
    HAND_OID,
    HAND_FIRST,  # price of its first trade
    N_STATE,
) = range(38)

FAR, BUY_STOPS, SELL_STOPS = 0, 1, 2  # the shelves, each sorted; an entry is (key << 32) + level row
