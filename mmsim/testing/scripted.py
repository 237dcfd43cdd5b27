"""Markets of a few hand-written rows and an agent that follows a script: one rule of the engine at a time.

>>> result, agent = play(l3((1, EventKind.EXECUTE, 1, 100, 4, 0)), bid(101, 3))
>>> summary(result)
[(1, 101, 3, 'THROUGH'), (-1, 100, 3, 'CLOSE')]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.config import SimConfig
from mmsim.metrics import EpisodeResult
from mmsim.resolve import session_for
from mmsim.testing.markets import SECOND, T0, FeedLevel, Row, market_from
from mmsim.types import EventFlag, EventKind, FeeSchedule, FillReason, MarketData

BID, ASK = 1, -1
LAST = int(EventFlag.LAST)

Order = tuple[float, EventKind, int, int, int, int]  # seconds, kind, side, px, qty, oid
Level = tuple[float, EventKind, int, int, int]  # seconds, kind, side, px, qty


def at(seconds: float) -> int:
    """Return the time `seconds` after the start of the hand-made markets, ns since the epoch."""
    return T0 + round(seconds * SECOND)


def l3(*rows: Order, flags: int = LAST) -> list[Row]:
    """Return event rows of an L3 feed after a book of one order on each side: 10 lots at 100 and at 102."""
    book: list[Order] = [(0.0, EventKind.ADD, BID, 100, 10, 0), (0.0, EventKind.ADD, ASK, 102, 10, 1)]
    first: list[Row] = [(at(t), px, qty, oid, kind, side, LAST) for t, kind, side, px, qty, oid in book]
    return first + [(at(t), px, qty, oid, kind, side, flags) for t, kind, side, px, qty, oid in rows]


def l2(*rows: Level, flags: int = LAST) -> list[Row]:
    """Return event rows of a level feed after 10 lots at 100 and at 102."""
    book: list[Level] = [(0.0, EventKind.LEVEL, BID, 100, 10), (0.0, EventKind.LEVEL, ASK, 102, 10)]
    first: list[Row] = [(at(t), px, qty, 0, kind, side, LAST) for t, kind, side, px, qty in book]
    return first + [(at(t), px, qty, 0, kind, side, flags) for t, kind, side, px, qty in rows]


def bid(px: int, qty: int = 1, *, post_only: bool = True) -> Quotes:
    """Return a single bid."""
    return Quotes(((px, qty),), (), post_only)


def ask(px: int, qty: int = 1, *, post_only: bool = True) -> Quotes:
    """Return a single ask."""
    return Quotes((), ((px, qty),), post_only)


class Script(Strategy):
    """Quotes ``plan[step]``, the last one from then on, and remembers what it saw.

    ``seen`` holds (observation, lots ahead of each own order), one entry per decision.
    """

    def __init__(self, *plan: Quotes) -> None:
        super().__init__()
        self.plan = plan
        self.seen: list[tuple[Observation, list[int]]] = []

    def quote(self, obs: Observation) -> Quotes:
        self.seen.append((obs.copy(), [int(x) for x in obs.orders["queue_ahead"]]))
        return self.plan[min(obs.step, len(self.plan) - 1)]


def scripted_market(
    rows: Sequence[Row],
    *,
    level: FeedLevel = "L3",
    end: float = 10.0,
    view_depth: int = 0,
    decision_ns: int = SECOND // 2,
    fees: FeeSchedule | None = None,
) -> MarketData:
    """Return the rows as a market with an episode from 0.1 s to `end` and a limit of 20 lots."""
    data = market_from(
        rows,
        level=level,
        episode=(at(0.1), at(end)),
        max_inventory_units=20,
        view_depth=view_depth,
        decision_ns=decision_ns,
    )
    return data if fees is None else replace(data, fees={fees.name: fees})


def play(
    rows: Sequence[Row],
    *plan: Quotes,
    level: FeedLevel = "L3",
    end: float = 10.0,
    view_depth: int = 0,
    **sim: Any,
) -> tuple[EpisodeResult, Script]:
    """Replay `rows` for an agent that quotes `plan` every half second from 0.1 s on.

    Parameters
    ----------
    rows
        Events, e.g. of `l3` or `l2`.
    plan
        One quote per decision, the last one from then on.
    sim
        Fields of `SimConfig`.
    """
    data = scripted_market(rows, level=level, end=end, view_depth=view_depth)
    agent = Script(*plan)
    return session_for(data, SimConfig(**sim)).run(agent, data.splits["test"][0]), agent


def summary(result: EpisodeResult) -> list[tuple[int, int, int, str]]:
    """Return the fills as (side, price, lots, reason)."""
    return [(int(f["side"]), int(f["px"]), int(f["qty"]), FillReason(f["reason"]).name) for f in result.fills]
