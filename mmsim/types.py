"""Record layouts, enumerations and value types that everything else speaks.

Integers are exact and conserved: time in ns since the Unix epoch (UTC), prices in ticks, quantities
in lots, cash in tick-lots, mid-price doubled (``mid2 = bid_px + ask_px``). Floats appear only where
something is derived from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError

MAX_DEPTH = 10  # levels per side that an observation shows at most
NO_SIDE, BUY, SELL = 0, 1, -1
CONTRACTS = ("linear", "inverse")


class EventKind(IntEnum):
    """Kind of one market event. ``side`` is the book side of an order or level (+1 bid, -1 ask).

    L3 feeds speak in orders, L2 and snapshot feeds in levels; TRADE belongs to both.
    """

    ADD = 1  # order `oid` of `qty` lots joins the back of the queue at `px`
    REDUCE = 2  # order `oid` shrinks by `qty` lots and keeps its place
    DELETE = 3  # order `oid` leaves (`qty` = what it still had)
    EXECUTE = 4  # resting order `oid` is hit for `qty` lots; `side` = ITS side, aggressor = -side
    TRADE = 5  # a print without an order in the book; `side` = the AGGRESSOR's (0 unknown)
    LEVEL = 6  # level `px` on `side` now holds `qty` lots in all (0: it is empty)
    HIDE = 7  # level `px` on `side` leaves the feed's view: not empty, but no longer observed
    CLEAR = 8  # the whole book is void (start of a segment, after a gap)


class EventFlag(IntFlag):
    """Bits of ``EVENT.flags``."""

    LAST = 1  # the last row of one message or snapshot: the book may be looked at now
    SNAPSHOT = 2  # row comes from a full snapshot
    IMPLIED = 4  # trade inferred from cumulative volume and turnover, not printed
    SEED = 8  # order inferred from the book file: its age is unknown, it is older than ours
    AUCTION = 16  # part of a call auction


EVENT = np.dtype(
    [
        ("ts", "<i8"),  # exchange time, ns since the epoch, non-decreasing
        ("px", "<i4"),  # ticks
        ("qty", "<i4"),  # lots
        ("oid", "<u4"),  # recycled slot number of the order, < MarketData.n_slots; 0 for level events
        ("kind", "u1"),  # EventKind
        ("side", "i1"),  # see EventKind
        ("flags", "<u2"),  # EventFlag
    ]
)


class FillReason(IntEnum):
    """Why an own order was filled."""

    QUEUE = 1  # a trade at our price reached our place in the queue
    THROUGH = 2  # a trade at a worse price than ours went through us
    CROSS = 3  # the opposite quote touched or crossed our price
    TAKE = 4  # our own marketable order took displayed liquidity
    CLOSE = 5  # residual inventory closed at the end of the episode by walking the book


FILL = np.dtype(
    [
        ("ts", "<i8"),  # exchange time, ns
        ("order_id", "<i8"),  # own order id, unique in the episode; 0 for CLOSE
        ("mid2", "<i8"),  # bid_px + ask_px just before the event that filled us
        ("px", "<i4"),  # ticks
        ("qty", "<i4"),  # lots, > 0
        ("side", "i1"),  # +1 we bought, -1 we sold
        ("maker", "u1"),  # 1 our order rested, 0 we took
        ("reason", "u1"),  # FillReason
        ("episode", "u1"),  # zero-based episode within the run of one market (mod 256)
        ("decision", "<i4"),  # index of the decision whose request created the order
    ]
)

STEP = np.dtype(
    [
        ("ts", "<i8"),  # decision time, ns (local clock)
        ("mid2", "<i8"),  # as observed
        ("cash", "<i8"),  # tick-lots, true at this time, before fees; no money if the contract is inverse
        ("inventory", "<i8"),  # lots, true at this time
        ("traded_qty", "<i8"),  # own lots traded so far in the episode
        ("latency_ns", "<i8"),  # decision latency the simulation charged
        ("wall_ns", "<i8"),  # measured wall clock of `quote`
        ("bid_px", "<i4"),  # market best as observed, ticks
        ("ask_px", "<i4"),
        ("own_bid_px", "<i4"),  # best desired own quote after this decision (valid if qty > 0)
        ("own_bid_qty", "<i4"),
        ("own_ask_px", "<i4"),
        ("own_ask_qty", "<i4"),
        ("episode", "<i4"),
        ("asked", "u1"),  # 1: the agent was asked; 0: missed (it was still thinking) or book one-sided
        ("pad", "u1", (3,)),
    ]
)

OWN_ORDER = np.dtype(
    [
        ("order_id", "<i8"),
        ("queue_ahead", "<i8"),  # lots ahead of us at our price, exact on L3, estimated elsewhere
        ("px", "<i4"),
        ("qty", "<i4"),  # lots still open
        ("side", "i1"),
        ("live", "u1"),  # 1: acknowledged; 0: request still on its way
        ("pad", "u1", (6,)),
    ]
)


@dataclass(frozen=True)
class FeeSchedule:
    """A named fee schedule. Positive = we pay, negative = rebate.

    ``maker_rate`` and ``taker_rate`` are fractions of the traded value, ``*_per_lot`` currency per lot; of an
    inverse contract both the value and the currency are the coin's.
    """

    name: str = "zero"
    maker_rate: Decimal = Decimal(0)
    taker_rate: Decimal = Decimal(0)
    maker_per_lot: Decimal = Decimal(0)
    taker_per_lot: Decimal = Decimal(0)
    source: str = ""


@dataclass(frozen=True)
class Instrument:
    """Constants of one tradable instrument; decimal text in manifests, ``Decimal`` here.

    ``unit_lots`` is the usual size of one own order in lots (1 contract, 100 shares, ...); agents'
    limits and sizes are given in units, the engine counts lots.

    ``contract`` is ``"linear"`` (a lot is ``multiplier * lot_size`` of the asset; profit in the quote currency)
    or ``"inverse"`` (coin-margined: a lot is ``multiplier * lot_size`` of the *quote* currency, ``currency`` is
    the coin, and profit is in coins; see `mmsim.metrics.value`).
    """

    name: str
    tick_size: Decimal
    lot_size: Decimal = Decimal(1)
    multiplier: Decimal = Decimal(1)
    currency: str = "CNY"
    unit_lots: int = 1
    timezone: str = "Asia/Shanghai"
    sessions: tuple[tuple[str, str], ...] = ()  # local "HH:MM" pairs of continuous trading
    contract: str = "linear"

    def __post_init__(self) -> None:
        if self.contract not in CONTRACTS:
            raise ConfigError(f"contract: expected one of {', '.join(CONTRACTS)}, was {self.contract!r}")

    @property
    def inverse(self) -> bool:
        """Whether the contract is settled in the coin that its price is of."""
        return self.contract == "inverse"

    @property
    def tick_value(self) -> float:
        """Currency value of one tick on one lot; a ConfigError for an inverse contract, which has none."""
        if self.inverse:
            raise ConfigError(
                f"inverse contracts: a tick of {self.name} has no fixed value in {self.currency}; "
                "see mmsim.metrics.value"
            )
        return float(self.tick_size * self.multiplier * self.lot_size)


@dataclass(frozen=True)
class Segment:
    """Rows ``[start, stop)`` of the event array in which the book is built from empty."""

    start: int
    stop: int
    label: str = ""


@dataclass(frozen=True)
class Episode:
    """A stretch of one segment, ``[start_ts, end_ts)`` ns, that starts and ends flat.

    The rows of the segment before ``start_ts`` are replayed first to build the book.
    """

    segment: int
    start_ts: int
    end_ts: int


@dataclass(frozen=True)
class MarketData:
    """One market, ready to replay.

    ``level`` is ``"L3"`` (orders), ``"L2"`` (level differences) or ``"snapshot"``; ``view_depth`` the
    number of levels per side that the feed carries (0: the full book); ``decision_ns`` the market's
    usual time between decisions, 0 meaning one decision a snapshot.
    """

    name: str
    instrument: Instrument
    events: npt.NDArray[np.void]  # (n,) EVENT
    segments: tuple[Segment, ...]
    splits: Mapping[str, tuple[Episode, ...]]  # "train", "validation", "test"
    level: str
    n_slots: int  # largest order slot + 1 (0 on level feeds)
    px_min: int  # smallest and largest price of any event, ticks
    px_max: int
    decision_ns: int
    view_depth: int = 0
    simulated: bool = False
    source_sha256: str = ""  # of the source files (or of the generator's parameters)
    recv_ts: npt.NDArray[np.int64] | None = None  # (n,) local receive time where the data has it
    fees: Mapping[str, FeeSchedule] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)  # rows read, dropped by reason, ...
    max_inventory_units: int = 10
    generator: Mapping[str, Any] = field(default_factory=dict)  # of a simulated market: how it is made
