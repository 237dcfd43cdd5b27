"""What the contract checker shows an agent: recorded, doctored and replayed observations.

`quote_problem` is the contract on quotes in plain Python, independent of the session's own check.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.agent import (
    A_PX,
    O_ASK_PX,
    O_BID_PX,
    O_BUY_NOTIONAL,
    O_BUY_QTY,
    O_INVENTORY,
    O_LAST_TRADE_PX,
    O_N_ASK,
    O_N_BID,
    O_N_TRADES,
    O_SELL_NOTIONAL,
    O_SELL_QTY,
    O_TIME_LEFT,
    OBS_SIZE,
    Agent,
    Fill,
    Observation,
    Quotes,
    SessionContext,
)
from mmsim.config import SimConfig
from mmsim.errors import shown
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim.types import MAX_DEPTH, OWN_ORDER, Episode, MarketData

# Constants that fit the tiny markets roughly; a real dataset brings its own.
CALIBRATION: Mapping[str, float] = {"sigma": 0.8, "A": 0.5, "k": 0.4, "mean_spread": 3.0}
Raws = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Market:
    """A small market with what an observer saw of it: ``raws`` (n, OBS_SIZE)."""

    label: str
    data: MarketData
    calibration: Mapping[str, float]
    raws: Raws

    @property
    def episode(self) -> Episode:
        """The episode to play."""
        return self.data.splits["train"][0]

    def session(self, seed: int = 0, sim: SimConfig | None = None) -> Session:
        """Return a fresh session on this market."""
        return Session(self.data, sim or SimConfig(), seed=seed, calibration=self.calibration)

    def context(self, seed: int = 0) -> SessionContext:
        """Return what an agent is told at the start, with a fresh random generator."""
        return self.session(seed).context(self.episode)


def tiny_markets(dataset: str = "tiny", calibration: Mapping[str, float] | None = None) -> list[Market]:
    """Return three small markets: L3 with a wide spread, L2 in board lots, snapshots with one tick.

    They carry the name `dataset`, so that an agent trained for it finds its checkpoint.
    """
    made = [
        ("L3 feed", tiny_market(11, seconds=22, spread_ticks=13, name=dataset)),
        ("L2 feed, units of 100 lots", tiny_market(12, level="L2", seconds=22, unit_lots=100, spread_ticks=2, name=dataset)),
        ("snapshot feed", tiny_market(13, level="snapshot", seconds=22, view_depth=5, name=dataset)),
    ]  # fmt: skip
    out = []
    for label, data in made:
        raws = Session(data, SimConfig()).record(data.splits["train"][0])
        out.append(Market(label, data, dict(calibration or CALIBRATION), raws))
    return out


def scenarios(market: Market) -> Iterator[tuple[str, Raws]]:
    """Yield named, doctored recordings: inventories up to the limits, spreads, thin books, the end."""
    ctx, raws = market.context(), market.raws
    yield "flat inventory", raws
    for inventory in (1, ctx.unit, ctx.max_inventory - 1, ctx.max_inventory):
        for signed in (inventory, -inventory):
            yield f"inventory {signed} of +-{ctx.max_inventory} lots", _with(raws, O_INVENTORY, signed)
    for ticks in (1, 2, 60):
        yield f"a spread of {ticks} tick{'s' if ticks > 1 else ''}", _with_spread(raws, ticks)
        yield (
            f"a spread of {ticks} and the inventory at its limit",
            _with(_with_spread(raws, ticks), O_INVENTORY, ctx.max_inventory),
        )
    for left in (0, 1):
        yield f"{left} ns before the end of the episode", _with(raws, O_TIME_LEFT, left)
    yield "one level per side", _with(_with(raws, O_N_BID, 1), O_N_ASK, 1)
    quiet = raws
    for column in (O_BUY_QTY, O_SELL_QTY, O_BUY_NOTIONAL, O_SELL_NOTIONAL, O_N_TRADES, O_LAST_TRADE_PX):
        quiet = _with(quiet, column, 0)
    yield "no trades at all", quiet


def _with(raws: Raws, column: int, value: int) -> Raws:
    out = raws.copy()
    out[:, column] = value
    return out


def _with_spread(raws: Raws, ticks: int) -> Raws:
    out = raws.copy()
    shift = ticks - (out[:, O_ASK_PX] - out[:, O_BID_PX])
    out[:, O_ASK_PX] += shift
    shown = np.arange(MAX_DEPTH) < out[:, O_N_ASK, None]
    out[:, A_PX : A_PX + MAX_DEPTH] += shift[:, None] * shown
    return out


def observe(raw: npt.NDArray[np.int64], orders: npt.NDArray[np.void] | None = None) -> Observation:
    """Return an observation of a recorded vector, without own orders by default."""
    return Observation(raw, np.zeros(0, OWN_ORDER) if orders is None else orders)


def quote_problem(quotes: Any, obs: Observation, ctx: SessionContext) -> str:
    """Return what is wrong with `quotes` at `obs`, or an empty string."""
    if not isinstance(quotes, Quotes):
        return f"quote() returned {type(quotes).__name__} ({shown(quotes)}), expected Quotes; return Quotes.none() for none"
    totals = []
    sides: Any = (("bid", quotes.bids), ("ask", quotes.asks))
    for name, side in sides:
        if not isinstance(side, tuple):
            return f"{name}s: expected a tuple of (price, quantity), was {shown(side)}"
        if len(side) > ctx.max_levels:
            return f"{name}s: expected at most {ctx.max_levels} levels (ctx.max_levels), was {len(side)}"
        total = 0
        for level in side:
            if not isinstance(level, tuple) or len(level) != 2:
                return f"{name} level: expected (price, quantity), was {shown(level)}"
            for what, value in zip(("price in ticks", "quantity in lots"), level, strict=True):
                if isinstance(value, bool) or not isinstance(value, int | np.integer):
                    return f"{name}: expected a whole {what}, was {shown(value)}; use mmsim.agent.to_ticks and int()"
                if not 0 < value < 2**31 - 1:
                    return f"{name}: expected a positive {what}, was {shown(value)}"
            total += int(level[1])
        if len({px for px, _ in side}) < len(side):
            return f"{name}s: expected one level per price, was {shown(side)}"
        totals.append(total)
    if quotes.bids and quotes.asks:
        bid, ask = max(px for px, _ in quotes.bids), min(px for px, _ in quotes.asks)
        if bid >= ask:
            return f"bid {bid} is not below ask {ask}; round bids down and asks up (mmsim.agent.to_ticks)"
    flag: Any = quotes.post_only
    if not isinstance(flag, bool | np.bool_ | int) or flag not in (0, 1):
        return f"post_only: expected True or False, was {shown(flag)}"
    lots: Any = quotes.take
    if isinstance(lots, bool) or not isinstance(lots, int | np.integer):
        return f"take: expected a whole, signed quantity in lots, was {shown(lots)}"
    buy, sell = totals[0] + max(quotes.take, 0), totals[1] - min(quotes.take, 0)
    if max(totals[0], totals[1], abs(quotes.take)) > ctx.max_order:
        return f"{totals[0]} lots bid, {totals[1]} offered, expected at most {ctx.max_order} (ctx.max_order)"
    if obs.inventory + buy > ctx.max_inventory or obs.inventory - sell < -ctx.max_inventory:
        return (
            f"inventory {obs.inventory} with {buy} lots bid and {sell} offered could leave +-{ctx.max_inventory} "
            "(ctx.max_inventory); use mmsim.agent.within_limits"
        )
    return ""


@dataclass
class Tap(Agent):
    """An agent that passes everything on to `inner` and keeps what went through."""

    inner: Agent
    seen: list[tuple[list[Fill], Observation, Quotes]] = field(default_factory=list)
    wall_ns: list[int] = field(default_factory=list)
    _fills: list[Fill] = field(default_factory=list)

    def reset(self, ctx: SessionContext) -> None:
        """Pass on."""
        self.inner.reset(ctx)

    def quote(self, obs: Observation) -> Quotes:
        """Pass on, timed."""
        kept, fills, self._fills = obs.copy(), self._fills, []
        begin = time.perf_counter_ns()
        quotes = self.inner.quote(obs)
        self.wall_ns.append(time.perf_counter_ns() - begin)
        self.seen.append((fills, kept, quotes))
        return quotes

    def on_fill(self, fill: Fill) -> None:
        """Pass on."""
        self._fills.append(fill)
        self.inner.on_fill(fill)

    def quotes(self) -> list[Quotes]:
        """Return what was quoted, decision by decision."""
        return [quotes for _, _, quotes in self.seen]


def play(agent: Agent, market: Market, *, seed: int = 0, sim: SimConfig | None = None) -> Tap:
    """Run `agent` through the market's episode in a session."""
    tap = Tap(agent)
    market.session(seed, sim).run(tap, market.episode)
    return tap


def replay(
    agent: Agent, ctx: SessionContext, seen: Sequence[tuple[list[Fill], Observation, Quotes]], *, shared: bool
) -> list[Quotes]:
    """Show `agent` again what a `Tap` kept, outside a session, and return its quotes.

    Parameters
    ----------
    shared : bool
        Use one buffer for all observations, as a session does; else every observation stays intact.
    """
    agent.reset(ctx)
    out: list[Quotes] = []
    most = max((len(kept.orders) for _, kept, _ in seen), default=0)
    raw_buffer, orders_buffer = np.zeros(OBS_SIZE, np.int64), np.zeros(most, OWN_ORDER)
    for fills, kept, _ in seen:
        for fill in fills:
            agent.on_fill(fill)
        obs = kept.copy()
        if shared:
            raw_buffer[:] = kept.raw
            own = orders_buffer[: len(kept.orders)]
            own[:] = kept.orders
            obs = Observation(raw_buffer, own)
        out.append(agent.quote(obs))
    return out
