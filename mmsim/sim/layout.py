"""Names of the columns of the simulation kernel's integer arrays.

The kernel keeps its whole state in flat int64 arrays so that it can stop at any event and resume:
``st`` (scalars), ``own`` (one row per own order), ``req`` and ``ack`` (ring buffers of messages on
their way), ``ring`` (observations taken at the exchange and not yet delivered).
"""

from __future__ import annotations

import numpy as np

from mmsim import agent
from mmsim.agent import OBS_SIZE, WANT_SIZE

INF = 2**62
MAX_OWN = 128  # own orders alive or on their way at one time
N_RING = 4096  # messages on their way at one time; a power of two

# ---- st: scalars ---------------------------------------------------------------------------------
# Bids and asks (or buyers and sellers) stand side by side, so that `S_BB + row` is the best of side row `row`.
(
    S_CUR,  # next event row
    S_STOP,  # end of the segment's rows
    S_NOW,  # time of the last thing that happened, ns
    S_BB,  # ladder index of the best bid, -1 if none
    S_BA,  # ladder index of the best ask, width if none
    S_NB,  # occupied bid levels
    S_NA,
    S_BASE,  # price of ladder index 0
    S_MID2,  # last two-sided mid, doubled
    S_INV,  # true inventory, lots
    S_CASH,  # true cash, tick-lots
    S_AINV,  # acknowledged inventory: what the agent knows
    S_ACASH,
    S_NFILL,
    S_NSTEP,
    S_NACKED,  # fills the agent has been told of
    S_BUYQ,  # market trades since the last observation was taken
    S_SELLQ,
    S_BUYN,
    S_SELLN,
    S_NTRADE,
    S_LASTPX,
    S_TP,  # time of the next decision whose observation is still to be taken
    S_INTERVAL,  # ns between decisions; 0: one a snapshot
    S_LAST,  # end of the segment's rows; S_STOP is the end of those that may be read now
    S_KNOWN,  # when the last row looked at was known to the agent, ns (never falls)
    S_WIRE,  # how message latencies are found: WIRE_CONSTANT, WIRE_DRAWN, WIRE_RECORDED
    S_WIRE_N,  # rows of the latency table
    S_REQ_LAST,  # arrival of the last request of each kind, four columns: no overtaking within a kind
    S_REQ_LAST_2,
    S_REQ_LAST_3,
    S_REQ_LAST_4,
    S_ACK_LAST,  # arrival of the last message to the agent: one channel, no overtaking
    S_BUSY,  # the agent is thinking until then
    S_START,
    S_END,
    S_NEXT_ID,
    S_NOWN,  # rows in use in `own`
    S_NLIVE,  # of them resting at the exchange
    S_BID_LO,  # price range of resting own bids and asks (ticks); hi < lo when none
    S_ASK_LO,
    S_BID_HI,
    S_ASK_HI,
    S_REQ_H,
    S_REQ_T,
    S_ACK_H,
    S_ACK_T,
    S_RING_H,
    S_RING_T,
    S_REQ_N,  # requests ever sent in the episode, and messages to the agent: which latency draw is next
    S_ACK_N,
    S_DEC,  # index of the decision being asked
    S_TRADED,
    S_MAXINV,
    S_QUEUE,  # queue model of level feeds, Q_*
    S_QUEUE_POWER,  # exponent of Q_POWER, millionths
    S_QUEUE_FN,  # address of the user's function for Q_CUSTOM
    S_INSIDE,  # rule for quotes inside the spread of a snapshot feed, INSIDE_*
    S_CONSUME,  # who keeps the ledger, rows 2 and 3 of the ladder: NO_LEDGER, TAPE_LEDGER, MARKET_LEDGER
    S_ALWAYS,
    S_VIEW,  # levels a side that the feed carries; 0: all
    S_EPISODE,
    S_HAS_KNOW,
    S_L3,
    S_PEND_STEP,  # 1 while the step row of the asked decision is unwritten
    S_DTS,  # local time of the decision being asked
    S_OBS_MID2,
    S_OBS_BID,
    S_OBS_ASK,
    S_LAST_BB,  # last best prices seen, ticks, for closing on an empty side
    S_LAST_BA,
    S_MAXORDER,  # lots that may be asked for on one side
    S_MAXLEVELS,  # levels that may be quoted on one side
    S_FIRST,  # 1 until the first observation is taken
    C_ORDERS,  # counters of the episode
    C_CANCELS,
    C_REDUCES,
    C_POST_REJECTS,
    C_LIMIT_REJECTS,
    C_TOO_LATE,
    C_MISSED,
    C_ONE_SIDED,
    C_ASKED,
    C_CLOSE_BEYOND,  # lots closed beyond the visible book
    S_SEEN,  # all rows up to this time are there, though more may be made (a market that reacts), ns
    N_STATE,
) = range(86)

# ---- own: one row per own order ------------------------------------------------------------------
(
    W_ID,
    W_SIDE,
    W_PX,
    W_QTY,  # open lots at the exchange
    W_AHEAD,  # lots of others ahead of us
    W_BEHIND,  # lots of others behind us (level feeds only)
    W_SEQ,  # arrival: even numbers are market orders, ours are odd
    W_STATE,  # OWN_FLIGHT, OWN_LIVE, OWN_DEAD
    W_LQTY,  # open lots as the agent believes once its requests are done
    W_LSTATE,  # L_PENDING, L_LIVE, L_CANCEL
    W_PEND,  # traded at our price since the level's total was last published
    W_KNOWN,  # 1; 0: level out of view when we joined, queue unknown; 2: level out of view since
    W_DEC,
    W_POST,
    W_MARK,
    W_AHEAD0,  # queue ahead on arrival
    W_SENT,  # when the order's last request arrives: a later one cannot overtake it
    N_OWN,
) = range(18)
OWN_FLIGHT, OWN_LIVE, OWN_DEAD = 0, 1, 2
L_PENDING, L_LIVE, L_CANCEL = 0, 1, 2

# ---- req and ack: messages -----------------------------------------------------------------------
R_TS, R_KIND, R_ID, R_SIDE, R_PX, R_QTY, R_POST, R_DEC, N_REQ = range(9)
REQ_NEW, REQ_CANCEL, REQ_REDUCE, REQ_MARKET = 1, 2, 3, 4
A_TS, A_KIND, A_ID, A_SIDE, A_PX, A_QTY, N_ACK = range(7)
ACK_LIVE, ACK_FILL, ACK_GONE = 1, 2, 3

RING_T = OBS_SIZE  # column of the decision time in a ring row
RING_OWN = OBS_SIZE + 1  # then (order id, queue ahead) pairs
RING_COLS = RING_OWN + 2 * MAX_OWN + 1  # and -1 behind the last pair

# ---- mem: st, own, req, ack, obs and want in one array, because every array argument costs a call ----
OWN_AT = N_STATE
REQ_AT = OWN_AT + (MAX_OWN + 1) * N_OWN
ACK_AT = REQ_AT + N_RING * N_REQ
OBS_AT = ACK_AT + N_RING * N_ACK
WANT_AT = OBS_AT + OBS_SIZE
WIRE_AT = WANT_AT + WANT_SIZE  # the latency table runs to the end of `mem`

MAX_PX = agent.MAX_PX

# ---- latency table: one row a draw, or a recorded moment (then its time first) ---------------------
LEG_FEED, LEG_NEW, LEG_CANCEL, LEG_REDUCE, LEG_MARKET, LEG_ACK, N_LEGS = range(7)  # LEG_x = REQ_x
WIRE_CONSTANT, WIRE_DRAWN, WIRE_RECORDED = range(3)

# ---- queue models of level feeds, and the rule for quotes inside a snapshot's spread ----------------
Q_PROPORTIONAL, Q_RISK_AVERSE, Q_POWER, Q_LOG, Q_CUSTOM = range(5)
INSIDE_THROUGH, INSIDE_ANY, INSIDE_STRICT = range(3)

# ---- liquidity ledger: MARKET_LEDGER holds only what own orders took, until the market's rows take it out ----
NO_LEDGER, TAPE_LEDGER, MARKET_LEDGER = range(3)

# L3 order table: one row a slot of the feed, 16 bytes.
SLOT = np.dtype(
    [
        ("px", "<i4"),  # ticks; negative: an ask
        ("qty", "<i4"),  # lots still open, 0: the slot is free
        ("seq", "<i8"),  # arrival: 2 * (row + 1), 0: its age is unknown, older than ours
    ]
)
