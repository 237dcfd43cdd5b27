"""Whatever the agent does, the two matching engines of a reactive market hold the same book."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.config import LatencyConfig, SimConfig
from mmsim.data import manifest
from mmsim.data.store import generate
from mmsim.flow.arrivals import OWN
from mmsim.resolve import session_for
from mmsim.sim import records as R
from mmsim.sim.session import Session
from mmsim.testing.markets import market_from
from mmsim.types import Episode, EventKind, FillReason, MarketData

S, MS = 10**9, 10**6


@pytest.fixture(scope="module")
def data() -> MarketData:
    """Return one session of five minutes of the simulated copper future."""
    spec = manifest("sim-cu")
    spec = spec.model_copy(
        update={
            "generator": {**spec.generator, "warmup_s": 30},
            "instrument": spec.instrument.model_copy(update={"sessions": [("09:00", "09:05")]}),
        }
    )
    done = generate(spec)
    return replace(market_from(done.events), segments=done.segments, generator=spec.generator, simulated=True)


class Restless(Strategy):
    """Quotes at random on both sides, now and then crossing the spread or taking; keeps its limits."""

    seed: int = 0

    def reset(self, ctx) -> None:  # type: ignore[no-untyped-def]
        self._rng = np.random.default_rng(self.seed)
        self._most = ctx.max_inventory

    def quote(self, obs: Observation) -> Quotes:
        rng = self._rng
        if rng.random() < 0.2:
            return Quotes.none()
        room = {1: self._most - obs.inventory, -1: self._most + obs.inventory}
        take = 0
        if rng.random() < 0.1:
            side = 1 if rng.random() < 0.5 else -1
            take = side * min(int(rng.integers(1, 30)), room[side])
            room[side] -= abs(take)
        bid = (obs.bid_px + obs.ask_px) // 2 + int(rng.integers(-4, 3))
        best = {1: bid, -1: bid + int(rng.integers(1, 6))}
        levels: dict[int, list[tuple[int, int]]] = {1: [], -1: []}
        for side in (1, -1):
            for i in range(int(rng.integers(0, 4))):
                qty = min(int(rng.integers(1, 6)), room[side])
                if qty > 0:
                    levels[side].append((best[side] - side * i, qty))
                    room[side] -= qty
        return Quotes(tuple(levels[1]), tuple(levels[-1]), bool(rng.random() < 0.6), take)


def flow_book(session: Session) -> tuple[dict[tuple[int, int], int], dict[int, tuple[int, int, int]]]:
    """Return others' lots by (side, px), and own id -> (px, lots, lots of others ahead), from the flow's engine."""
    mine, market = session._market._mine, session._market._market
    first = len(market.arrays.slots)
    others: dict[tuple[int, int], int] = {}
    own: dict[int, tuple[int, int, int]] = {}
    for r in market.memory.requests():
        side, px, qty, oid = (int(r[name]) for name in ("side", "px", "qty", "oid"))
        if r["owner"] == OWN:
            own[int(mine[oid - first]["id"])] = (px, qty, others.get((side, px), 0))
        else:
            others[side, px] = others.get((side, px), 0) + qty
    return others, own


def session_book(session: Session) -> tuple[dict[tuple[int, int], int], dict[int, tuple[int, int, int]]]:
    """Return the same of the session's own replay."""
    sim, lad = session.inspect()[:2]
    base = int(sim["book"]["base_px"])
    others = {
        (1 - 2 * row, int(ix) + base): int(lad[row, ix]) for row in (0, 1) for ix in np.flatnonzero(lad[row])
    }
    table = sim["own"][: sim["orders"]["n"]]
    live = table[table["state"] == R.OWN_LIVE]
    return others, {int(o["id"]): (int(o["px"]), int(o["qty"]), int(o["ahead"])) for o in live}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 9999),
    order=st.sampled_from([0, 3 * MS, 700 * MS]),
    cancel=st.sampled_from([None, 900 * MS]),
    feed=st.sampled_from([0, 20 * MS]),
    sigma=st.sampled_from([0.0, 0.8]),
    start=st.integers(0, 200),
)
def test_both_engines_hold_one_book(
    data: MarketData, seed: int, order: int, cancel: int | None, feed: int, sigma: float, start: int
) -> None:
    sim = SimConfig(
        impact="reactive", latency=LatencyConfig(feed=feed, order=order, cancel=cancel, ack=order, sigma=sigma),
        max_inventory_units=60, max_order_units=60,
    )  # fmt: skip
    opening = int(data.events["ts"][0]) + 30 * S
    episode = Episode(0, opening + start * S, opening + start * S + 40 * S)
    session = session_for(data, sim)
    agent = Restless(seed=seed)
    obs = session.start(episode, agent)
    while obs is not None:
        # The session answers here: at its decision nothing is on its way between the two engines.
        others, own = flow_book(session)
        assert (others, own) == session_book(session)
        obs = session.step(agent.quote(obs))
    rows = session.inspect().rows
    fills = session.fills[session.fills["reason"] != FillReason.CLOSE]
    prints = rows[rows["kind"] == EventKind.TRADE]
    signed = [(int(f["ts"]), int(f["px"]), int(f["qty"])) for f in fills]
    assert sorted(signed) == sorted(prints[["ts", "px", "qty"]].tolist())
    left = {1: 0, -1: 0}  # lots that came, less those that went, are those that rest
    for kind in range(1, 5):
        for side in (1, -1):
            lots = int(rows["qty"][(rows["kind"] == kind) & (rows["side"] == side)].sum())
            left[side] += lots if kind == EventKind.ADD else -lots
    others, _ = session_book(session)
    assert left == {side: sum(q for (s, _), q in others.items() if s == side) for side in (1, -1)}
