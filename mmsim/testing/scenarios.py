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
    Agent,
    Fill,
    Observation,
    Quotes,
    SessionContext,
)
from mmsim.config import SimConfig
from mmsim.errors import shown
from mmsim.records import OBSERVATION
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim.types import MAX_DEPTH, OWN_ORDER, Episode, MarketData

# Constants that fit the tiny markets roughly; a real dataset brings its own.
CALIBRATION: Mapping[str, float] = {"sigma": 0.8, "A": 0.5, "k": 0.4, "mean_spread": 3.0}
Records = npt.NDArray[np.void]  # (n,) OBSERVATION


@dataclass(frozen=True)
class Market:
    """A small market with what an observer saw of it: ``seen`` (n,) `OBSERVATION`."""

    label: str
    data: MarketData
    calibration: Mapping[str, float]
    seen: Records

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
        seen = Session(data, SimConfig()).record(data.splits["train"][0])
        out.append(Market(label, data, dict(calibration or CALIBRATION), seen))
    return out


def scenarios(market: Market) -> Iterator[tuple[str, Records]]:
    """Yield named, doctored recordings: inventories up to the limits, spreads, thin books, the end."""
    ctx, seen = market.context(), market.seen
    yield "flat inventory", seen
    for inventory in (1, ctx.unit, ctx.max_inventory - 1, ctx.max_inventory):
        for signed in (inventory, -inventory):
            yield f"inventory {signed} of +-{ctx.max_inventory} lots", _with(seen, "inventory", signed)
    for ticks in (1, 2, 60):
        yield f"a spread of {ticks} tick{'s' if ticks > 1 else ''}", _with_spread(seen, ticks)
        yield (
            f"a spread of {ticks} and the inventory at its limit",
            _with(_with_spread(seen, ticks), "inventory", ctx.max_inventory),
        )
    for left in (0, 1):
        yield f"{left} ns before the end of the episode", _with(seen, "time_left", left)
    yield "one level per side", _with(_with(seen, "n_bid", 1), "n_ask", 1)
    quiet = seen
    for name in ("buy_qty", "sell_qty", "buy_notional", "sell_notional", "n_trades", "last_trade_px"):
        quiet = _with(quiet, name, 0)
    yield "no trades at all", quiet


def _with(records: Records, field: str, value: int) -> Records:
    out = records.copy()
    out[field] = value
    return out


def _with_spread(records: Records, ticks: int) -> Records:
    out = records.copy()
    shift = ticks - (out["ask_px"] - out["bid_px"])
    out["ask_px"] += shift
    shown = np.arange(MAX_DEPTH) < out["n_ask"][:, None]
    out["ask_pxs"] += shift[:, None] * shown
    return out


def observe(record: Any, orders: npt.NDArray[np.void] | None = None) -> Observation:
    """Return an observation of a recorded `OBSERVATION`, without own orders by default."""
    return Observation(np.array([record], OBSERVATION), np.zeros(0, OWN_ORDER) if orders is None else orders)


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
    record, orders = np.zeros(1, OBSERVATION), np.zeros(most, OWN_ORDER)
    for fills, kept, _ in seen:
        for fill in fills:
            agent.on_fill(fill)
        obs = kept.copy()
        if shared:
            record[:] = kept.record
            own = orders[: len(kept.orders)]
            own[:] = kept.orders
            obs = Observation(record, own)
        out.append(agent.quote(obs))
    return out
