"""Virtual orders all day, and their fate: on the order-by-order feed the truth, on a poorer view a prediction.

Both come from the same simulator (`mmsim.play`) with the same probing agent; only the data and the
model differ, so a difference in fate is the model's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from mmsim.agent import Observation, Quotes, SessionContext, Strategy
from mmsim.config import SimConfig
from mmsim.errors import ConfigError, DataError
from mmsim.play import episodes_of, play
from mmsim.runner import market_for
from mmsim.types import Episode, FillReason, MarketData

NS = 1_000_000_000
INSIDE, INSIDE_HALF = -1, -2  # places: one tick better than the best price, and the middle of the spread
PLACE_NAMES = {
    0: "best",
    1: "2nd level",
    2: "3rd level",
    INSIDE: "inside, 1 tick",
    INSIDE_HALF: "inside, middle",
}
LIVES = NS * 120  # ns that a probe stays in the market if it is not filled
GRID = NS * 6  # ns between two probes of one place, side and size (on different passes)
UNFILLED = -1
_MANY = 1_000_000  # units: probes fill all day, and no limit may stop the next one

PROBE = np.dtype(
    [
        ("ts", "<i8"),  # placed at, ns
        ("px", "<i4"),  # ticks
        ("qty", "<i4"),  # lots
        ("ahead", "<i4"),  # lots displayed at its price when it joined: all are ahead of it
        ("side", "i1"),  # +1 bid, -1 ask
        ("place", "i1"),  # level behind the best price (0: best), or INSIDE, INSIDE_HALF
        ("pad", "u1", (2,)),
    ]
)


@dataclass(frozen=True)
class Plan:
    """Which virtual orders to place.

    Every `grid_ns` one order per side, place and size is placed; it lives until it is filled or `lives_ns` are over.
    Orders of one side never share a replay, so none competes with another for the same trades.
    """

    places: tuple[int, ...] = (0, 1, 2)
    units: tuple[str, ...] = ("lot", "unit")  # sizes: one lot, and the usual order size
    lives_ns: int = LIVES
    grid_ns: int = GRID

    def __post_init__(self) -> None:
        if self.grid_ns <= 0 or self.lives_ns % self.grid_ns:
            raise ConfigError(
                f"probes: expected a life that is a multiple of the grid, was {self.lives_ns} and {self.grid_ns} ns"
            )

    @classmethod
    def living(cls, seconds: float, places: tuple[int, ...] = (0, 1, 2)) -> Plan:
        """Return the plan whose orders live so long, one placed every twentieth of that."""
        grid_ns = round(seconds * NS) // 20
        return cls(places, lives_ns=20 * grid_ns, grid_ns=grid_ns)

    @property
    def horizons_s(self) -> tuple[float, ...]:
        """Seconds at which fill rates are compared: 3, 10, 30 and 120 for a life of 120 s."""
        return tuple(self.lives_ns / NS / part for part in (40, 12, 4, 1))

    def sizes(self, unit_lots: int) -> tuple[int, ...]:
        """Return the sizes in lots, each once."""
        return tuple(dict.fromkeys(1 if name == "lot" else unit_lots for name in self.units))


class Prober(Strategy):
    """Places one order on each side at every decision; with ``replace="always"`` the old ones are gone by then."""

    place: int = 0
    size: int = 1
    lives_ns: int = LIVES

    def reset(self, ctx: SessionContext) -> None:
        """Forget the orders of the episode before, and note until when an order can live its whole life."""
        self._last_ts = ctx.end_ts - self.lives_ns
        self.placed: list[tuple[int, int, int, int, int, int]] = []  # decision, ts, px, qty, ahead, side

    def quote(self, obs: Observation) -> Quotes:
        """Join the queue at the place asked for, on both sides, where there is such a place."""
        if obs.ts > self._last_ts:
            return Quotes.none()
        bid, ask = self._level(obs, 1), self._level(obs, -1)
        if bid and ask and bid[0] >= ask[0]:  # two halves met at one tick: the bid has it on even ticks
            bid, ask = (bid, None) if bid[0] % 2 == 0 else (None, ask)
        for level, side in ((bid, 1), (ask, -1)):
            if level:
                self.placed.append((obs.step, obs.ts, level[0], self.size, level[1], side))
        return Quotes(((bid[0], self.size),) if bid else (), ((ask[0], self.size),) if ask else ())

    def _level(self, obs: Observation, side: int) -> tuple[int, int] | None:
        pxs, qtys = (obs.bid_pxs, obs.bid_qtys) if side > 0 else (obs.ask_pxs, obs.ask_qtys)
        if self.place >= 0:
            return (int(pxs[self.place]), int(qtys[self.place])) if self.place < len(pxs) else None
        better = 1 if self.place == INSIDE else obs.spread_ticks // 2
        if obs.spread_ticks < 2 or (self.place == INSIDE_HALF and better < 2):
            return None  # no room inside, or the middle is where INSIDE stands already
        return int(pxs[0]) + side * better, 0


def spans(data: MarketData, split: str) -> tuple[Episode, ...]:
    """Return the episodes of a split, adjacent ones joined: probes may live across their borders.

    Raises
    ------
    DataError
        If the market has no episodes in that split.
    """
    out: list[Episode] = []
    episodes = episodes_of(data, split, "to place orders on")
    for episode in sorted(episodes, key=lambda e: (e.segment, e.start_ts)):
        if out and out[-1].segment == episode.segment and out[-1].end_ts == episode.start_ts:
            out[-1] = Episode(episode.segment, out[-1].start_ts, episode.end_ts)
        else:
            out.append(episode)
    return tuple(out)


def fates(
    data: MarketData,
    split: str,
    plan: Plan,
    sim: SimConfig,
    tick: Callable[[], None] = lambda: None,
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """Place the plan's virtual orders on `data` and return them with what became of them.

    Parameters
    ----------
    data : MarketData
        The day itself, or a view of it (`mmsim.data.views`).
    split : str
        ``train``, ``validation`` or ``test``.
    plan : Plan
        The orders.
    sim : SimConfig
        The models to apply; intervals, limits and latencies are set here.
    tick : callable
        Called after every pass of `passes`.

    Returns
    -------
    probes : (n,) PROBE
    filled_after : (n,) int64
        ns from placing to the fill of the last lot, `UNFILLED` if that did not happen in the order's life.
    """
    joined = spans(data, split)
    config = sim.model_copy(
        update={
            "decision_interval_ns": plan.lives_ns,
            "replace": "always",
            "max_inventory_units": _MANY,
            "max_order_units": 10,
        }
    )
    session = market_for(data, config, calibrated=False).session
    probes, after = [], []
    for place, size, offset in passes(data, plan):
        agent = Prober(place=place, size=size, lives_ns=plan.lives_ns)
        starts = [(-(-span.start_ts // plan.grid_ns) * plan.grid_ns + offset, span) for span in joined]
        windows = [
            Episode(span.segment, start, span.end_ts)
            for start, span in starts
            if start + plan.lives_ns <= span.end_ts
        ]
        for result in play(agent, session, windows):
            placed, decision = _placed(agent, place)
            probes.append(placed)
            after.append(_filled_after(placed, decision, result.fills))
        tick()
    if not probes:
        raise ConfigError(
            f"{data.name}: expected a stretch of at least {plan.lives_ns / NS:g} s in the {split} split, was none"
        )
    return np.concatenate(probes), np.concatenate(after)


def passes(data: MarketData, plan: Plan) -> list[tuple[int, int, int]]:
    """Return (place, size in lots, offset in ns) of every replay that `fates` makes."""
    offsets = range(0, plan.lives_ns, plan.grid_ns)
    return list(product(plan.places, plan.sizes(data.instrument.unit_lots), offsets))


def compare(
    data: MarketData,
    view: MarketData,
    split: str,
    plan: Plan,
    models: Sequence[tuple[str, SimConfig]],
    tick: Callable[[], None] = lambda: None,
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64], dict[str, npt.NDArray[np.int64]]]:
    """Return the probes, their true fate on `data`, and the fate that each model predicts from `view`.

    Raises
    ------
    DataError
        If data and view show different books at some placement.
    """
    probes, truth = fates(data, split, plan, SimConfig(), tick)
    predicted = {}
    for name, sim in models:
        seen, predicted[name] = fates(view, split, plan, sim, tick)
        if not np.array_equal(seen, probes):
            raise DataError(
                f"expected the same orders on the day and on its view, was {len(probes)} and {len(seen)} orders, "
                "or the same number at other prices or behind other quantities",
                source=data.name,
            )
    return probes, truth, predicted


def _placed(agent: Prober, place: int) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    out = np.zeros(len(agent.placed), PROBE)
    table = np.array(agent.placed, np.int64).reshape(-1, 6)
    for i, name in enumerate(("ts", "px", "qty", "ahead", "side"), start=1):
        out[name] = table[:, i]
    out["place"] = place
    return out, table[:, 0]


def _filled_after(
    probes: npt.NDArray[np.void], decision: npt.NDArray[np.int64], fills: npt.NDArray[np.void]
) -> npt.NDArray[np.int64]:
    # one order per decision and side, so those two name it
    after = np.full(len(probes), UNFILLED, np.int64)
    own = fills[fills["reason"] != FillReason.CLOSE]
    by_order: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for ts, qty, side, at in zip(*(own[c].tolist() for c in ("ts", "qty", "side", "decision")), strict=True):
        by_order.setdefault((at, side), []).append((ts, qty))
    for i, (at, side, ts, qty) in enumerate(
        zip(decision.tolist(), *(probes[c].tolist() for c in ("side", "ts", "qty")), strict=True)
    ):
        got = by_order.get((at, side), [])
        if sum(q for _, q in got) == qty:
            after[i] = max(t for t, _ in got) - ts
    return after
