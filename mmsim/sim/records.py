"""What the simulation of one market keeps: records with names, all in one `SIM`.

A kernel gets it as one pointer, so that a call costs next to nothing; it holds the whole state, so that the
kernel can stop at any event and resume. What varies in length stands in arrays beside it: the events, the ladder
of the replayed book (`mmsim.sim.ladder`), orders of the feed, latencies, observations on their way, fills, steps.
"""

from __future__ import annotations

import numpy as np

from mmsim.records import OBSERVATION, QUOTES
from mmsim.types import OWN_ORDER

INF = 2**62
MAX_OWN = 128  # own orders alive or on their way at one time
N_RING = 4096  # messages on their way at one time; a power of two
BID, ASK = 0, 1  # where both sides stand beside each other: the row of side +1, of side -1

# How latencies of messages are found (`mmsim.sim.wire`), and the columns of their table.
WIRE_CONSTANT, WIRE_DRAWN, WIRE_RECORDED = range(3)
LEG_FEED, LEG_NEW, LEG_CANCEL, LEG_REDUCE, LEG_MARKET, LEG_ACK, N_LEGS = range(7)  # LEG_x = REQ_x
REQ_NEW, REQ_CANCEL, REQ_REDUCE, REQ_MARKET = 1, 2, 3, 4
ACK_LIVE, ACK_FILL, ACK_GONE = 1, 2, 3

# Queue models of level feeds, and rules for quotes inside the spread of a snapshot feed.
Q_PROPORTIONAL, Q_RISK_AVERSE, Q_POWER, Q_LOG, Q_CUSTOM = range(5)
INSIDE_THROUGH, INSIDE_ANY, INSIDE_STRICT = range(3)
# Liquidity ledger: MARKET_LEDGER holds only what own orders took, until the market's rows take it out.
NO_LEDGER, TAPE_LEDGER, MARKET_LEDGER = range(3)

# An own order: where it stands at the exchange, and what the agent believes once its requests are done.
OWN_FLIGHT, OWN_LIVE, OWN_DEAD = 0, 1, 2
L_PENDING, L_LIVE, L_CANCEL = 0, 1, 2
NEVER_SEEN, IN_VIEW, OUT_OF_VIEW = 0, 1, 2  # the level of an own order, in the feed


def _ints(*names: str) -> list[tuple[str, str]]:
    return [(name, "<i8") for name in names]


RULES = np.dtype(  # what does not change during an episode
    [
        *_ints(
            "start",  # ns
            "end",
            "interval",  # ns between decisions; 0: one per snapshot
            "episode",
            "l3",  # 1: the feed speaks in orders
            "has_recv",  # 1: receive times are known
            "depth",  # levels per side that the agent reads
            "view_depth",  # levels per side that the feed carries; 0: all
            "wire",  # WIRE_*
            "wire_rows",  # rows of the latency table
            "queue",  # Q_*
            "queue_power",  # exponent of Q_POWER, millionths
            "queue_function",  # address of the user's function for Q_CUSTOM
            "inside",  # INSIDE_*
            "ledger",  # NO_LEDGER, ...
            "replace_always",  # 1: unchanged quotes are cancelled and sent again
            "max_inventory",  # lots
            "max_order",  # lots that may be asked for per side
            "max_levels",  # levels that may be quoted per side
        )
    ]
)

REPLAY = np.dtype(  # how far the market has been replayed
    [
        *_ints(
            "row",  # next event
            "stop",  # end of the rows that may be read now
            "last",  # end of the segment's rows
            "now",  # time of the last event, ns
            "known",  # when the last event looked at was known to the agent, ns (never falls)
            "seen",  # all rows up to this time are there, though more may be made (a market that reacts), ns
        )
    ]
)

BOOK = np.dtype(  # of the replayed book; see `mmsim.sim.ladder`
    [
        (
            "best",
            "<i8",
            (2,),
        ),  # ladder index of the best price, -1 (bids) or the width (asks) if there is none
        ("levels", "<i8", (2,)),  # occupied levels
        ("last_best", "<i8", (2,)),  # best prices when both sides were last looked at, ticks
        *_ints(
            "base_px",  # price of ladder index 0
            "mid2",  # the last two-sided mid, doubled
            "last_trade_px",
            "n_trades",  # since the last observation was taken, as the next two; by the aggressor's side
        ),
        ("traded_qty", "<i8", (2,)),
        ("traded_notional", "<i8", (2,)),
    ]
)

ACCOUNT = np.dtype(
    [
        *_ints(
            "inventory",  # true, lots
            "cash",  # tick-lots
            "traded",  # own lots traded
            "known_inventory",  # what the agent knows
            "known_cash",
            "n_fills",
            "n_known",  # fills that the agent has been told of
            "n_steps",
        )
    ]
)

DECISION = np.dtype(  # the one being asked, and when the next is due
    [
        *_ints(
            "index",
            "asked",  # 1 while its answer is awaited
            "ts",  # local time, ns
            "mid2",  # as observed
            "bid_px",
            "ask_px",
            "busy_until",  # the agent is thinking until then, ns
            "due",  # time of the next decision whose observation is still to be taken
            "first",  # 1 until the first observation is taken
        )
    ]
)

ORDERS = np.dtype(  # own orders in all
    [
        *_ints(
            "next_id",
            "n",  # rows in use in `own`
            "n_live",  # of them resting at the exchange
        ),
        ("lowest", "<i8", (2,)),  # price range of those that rest, ticks; highest < lowest when none do
        ("highest", "<i8", (2,)),
    ]
)

OWN = np.dtype(  # one own order
    [
        *_ints(
            "id",
            "side",
            "px",
            "qty",  # open lots at the exchange
            "ahead",  # lots of others ahead of us
            "behind",  # lots of others behind us (level feeds only)
            "arrival",  # even numbers are market orders, ours are odd
            "state",  # OWN_FLIGHT, OWN_LIVE, OWN_DEAD
            "believed_qty",  # open lots as the agent believes once its requests are done
            "believed",  # L_PENDING, L_LIVE, L_CANCEL
            "unexplained",  # traded at our price since the level's total was last published
            "shown",  # NEVER_SEEN (the queue is unknown), IN_VIEW, OUT_OF_VIEW
            "decision",
            "post_only",
            "kept",  # mark of `mmsim.sim.requests.withdraw_side`
            "ahead_at_first",  # queue ahead on arrival
            "last_request",  # when the order's last request arrives: a later one cannot overtake it
        )
    ]
)

REQUEST = np.dtype([*_ints("ts", "kind", "id", "side", "px", "qty", "post_only", "decision")])
MESSAGE = np.dtype([*_ints("ts", "kind", "id", "side", "px", "qty")])

WIRE = np.dtype(  # heads and tails of the rings, and what keeps messages in order
    [
        *_ints(
            "requests_head",
            "requests_tail",
            "requests_sent",  # ever in the episode: which latency draw is next
            "messages_head",
            "messages_tail",
            "messages_sent",
            "last_message",  # arrival of the last message to the agent: one channel, no overtaking
            "looks_head",
            "looks_tail",
        ),
        (
            "last_request",
            "<i8",
            (4,),
        ),  # arrival of the last request of each kind: no overtaking within a kind
    ]
)

COUNTERS = np.dtype(
    [
        *_ints(
            "orders",
            "cancels",
            "reduces",
            "post_only_rejects",
            "limit_rejects",
            "too_late",
            "decisions",
            "missed",
            "one_sided",
            "close_beyond_lots",  # closed beyond the visible book
        )
    ]
)

PLACE = np.dtype([*_ints("id", "ahead")])
LOOK = np.dtype(  # an observation taken at the exchange and not yet delivered
    [
        ("due", "<i8"),  # local time of its decision, ns
        ("n_own", "<i8"),
        ("obs", OBSERVATION),
        ("places", PLACE, (MAX_OWN,)),  # own orders in their queues at that time, id 0: not resting
    ]
)

SIM = np.dtype(
    [
        ("rules", RULES),
        ("replay", REPLAY),
        ("book", BOOK),
        ("account", ACCOUNT),
        ("decision", DECISION),
        ("orders", ORDERS),
        ("wire", WIRE),
        ("counters", COUNTERS),
        ("want", QUOTES),
        ("obs", OBSERVATION),
        ("own", OWN, (MAX_OWN + 1,)),
        ("own_view", OWN_ORDER, (MAX_OWN + 1,)),
        ("requests", REQUEST, (N_RING,)),
        ("messages", MESSAGE, (N_RING,)),
    ]
)

SLOT = np.dtype(  # an order of an L3 feed, 16 bytes
    [
        ("px", "<i4"),  # ticks; negative: an ask
        ("qty", "<i4"),  # lots still open, 0: the slot is free
        ("seq", "<i8"),  # arrival: 2 * (row + 1), 0: its age is unknown, older than ours
    ]
)
