"""The kernel against the naive replay: the same market and maker, the same fills, row by row."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.config import LatencyConfig, SimConfig
from mmsim.resolve import session_for
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, T0, market_from, tiny_market
from mmsim.testing.naive_replay import Replay, Share, proportional
from mmsim.types import EventFlag, EventKind, MarketData

K = EventKind
MAX_INVENTORY = 6


def quotes_of(seed: int, step: int, bid: int, ask: int, inventory: int) -> Quotes:
    """A maker that does everything: several levels, sizes up and down, takes, crosses, pulls."""
    rng = random.Random(f"{seed}-{step}-{bid}-{ask}-{inventory}")
    if rng.random() < 0.1:
        return Quotes.none()
    room = {1: MAX_INVENTORY - inventory, -1: MAX_INVENTORY + inventory}
    sides: dict[int, list[tuple[int, int]]] = {1: [], -1: []}
    for side, best in ((1, bid), (-1, ask)):
        for k in rng.sample(range(-1, 4), rng.randint(0, 3)):
            qty = rng.randint(1, 3)
            if qty <= room[side]:
                room[side] -= qty
                sides[side].append((best - side * k, qty))
    if sides[1] and sides[-1] and max(sides[1])[0] >= min(sides[-1])[0]:
        sides[-1] = []
    take = rng.choice([0, 0, 0, 1, -1])
    if take and room[take] < 1:
        take = 0
    return Quotes(tuple(sides[1]), tuple(sides[-1]), post_only=rng.random() < 0.7, take=take)


class Random(Strategy):
    """`quotes_of` as an agent."""

    seed: int = 0

    def quote(self, obs: Observation) -> Quotes:
        return quotes_of(self.seed, obs.step, obs.bid_px, obs.ask_px, obs.inventory)


def by(f: Callable[[int], float]) -> Share:
    """The share ahead of us by a weight function, half lots up."""
    return lambda ahead, behind, gone: math.floor(gone * f(ahead) / (f(ahead) + f(behind)) + 0.5)


MINE = f"{Path(__file__).with_name('queue_models_of_a_user.py')}:all_but_one_ahead"
SHARES: dict[str, Share] = {
    "proportional": proportional,
    "risk_averse": lambda ahead, behind, gone: gone - min(gone, behind),
    "power": by(lambda lots: lots**2.0),
    "log": by(math.log1p),
    MINE: lambda ahead, behind, gone: gone - 1,
}


def both(data: MarketData, sim: SimConfig, seed: int) -> tuple[list[Any], list[Any], Session, Replay]:
    episode = data.splits["test"][0]
    segment = data.segments[episode.segment]
    session = session_for(data, sim)
    result = session.run(Random(seed=seed), episode)
    fields = ["ts", "order_id", "side", "px", "qty", "maker", "reason"]
    kernel = result.fills[fields].tolist()
    latency = sim.latency
    naive = Replay(
        rows=data.events[segment.start : segment.stop].tolist(),
        l3=data.level == "L3",
        start=episode.start_ts,
        end=episode.end_ts,
        interval=session.decision_ns,
        view=data.view_depth,
        feed=latency.feed,
        latency={
            "new": latency.order,
            "cancel": latency.order if latency.cancel is None else latency.cancel,
            "reduce": latency.order if latency.reduce is None else latency.reduce,
            "market": latency.order if latency.market is None else latency.market,
        },
        ack_latency=latency.ack,
        decision_latency=int(latency.decision),
        max_inventory=MAX_INVENTORY,
        share=SHARES[sim.queue_model],
        consume=sim.impact == "consume",
        inside=sim.inside if data.level == "snapshot" else "through",
        always=sim.replace == "always",
        known_at=None if data.recv_ts is None else data.recv_ts[segment.start : segment.stop].tolist(),
    )
    naive.run(lambda step, bid, ask, inv: quotes_of(seed, step, bid, ask, inv))
    return kernel, naive.fills, session, naive


MS = 1_000_000


@settings(max_examples=60, deadline=None)
@given(
    level=st.sampled_from(["L3", "L2", "snapshot"]),
    seed=st.integers(0, 10_000),
    latency=st.sampled_from([0, 0, 1, 7 * MS, 40 * MS, 700 * MS]),
    ack=st.sampled_from([0, 3 * MS, 900 * MS]),
    feed=st.sampled_from([0, 0, 5 * MS, 1_300 * MS]),
    thinking=st.sampled_from([0, 2 * MS, 650 * MS]),
    queue=st.sampled_from(["proportional", "risk_averse", "power", "log", MINE]),
    impact=st.sampled_from(["none", "none", "consume"]),
    inside=st.sampled_from(["through", "any", "strict"]),
    kinds=st.tuples(*[st.sampled_from([None, None, 0, 2 * MS, 50 * MS])] * 3),
    replace=st.sampled_from(["diff", "diff", "always"]),
    depth=st.sampled_from([0, 2, 3]),
    spread=st.integers(1, 3),
)
@example(  # a cancel that waits for its order must not delay the next one
    level="L3", seed=2922, latency=700 * MS, ack=0, feed=0, thinking=0, queue="proportional", impact="none",
    inside="through", kinds=(0, None, None), replace="diff", depth=0, spread=2,
)  # fmt: skip
def test_kernel_equals_the_naive_replay(
    level: str, seed: int, latency: int, ack: int, feed: int, thinking: int, queue: str, replace: str,
    depth: int, spread: int, impact: str, inside: str, kinds: tuple[int | None, int | None, int | None],
) -> None:  # fmt: skip
    data = tiny_market(
        seed, level=level, seconds=30, events_per_second=40, spread_ticks=spread,
        view_depth=depth if level == "snapshot" else 0, max_inventory_units=MAX_INVENTORY,
    )  # fmt: skip
    sim = SimConfig(
        latency=LatencyConfig(
            decision=thinking, feed=feed, order=latency, cancel=kinds[0], reduce=kinds[1], market=kinds[2], ack=ack
        ),
        queue_model=queue, replace=replace, impact=impact, inside=inside,
    )  # fmt: skip
    kernel, naive, session, slow = both(data, sim, seed)
    assert kernel == naive
    assert session.counters["missed"] == slow.missed


@pytest.mark.parametrize("level", ["L3", "L2"])
def test_recorded_receive_times(level: str) -> None:
    data = tiny_market(5, level=level, seconds=60, events_per_second=40, max_inventory_units=MAX_INVENTORY)  # type: ignore[arg-type]
    jitter = np.random.default_rng(1).integers(0, 400 * MS, len(data.events))
    recv = np.maximum.accumulate(data.events["ts"] + jitter)
    from dataclasses import replace

    data = replace(data, recv_ts=recv)
    kernel, naive, _, _ = both(data, SimConfig(latency={"order": 2 * MS, "ack": 1 * MS}), 3)
    assert len(kernel) > 10
    assert kernel == naive


def valid_rows(rng: random.Random, level: str, n: int) -> list[tuple[int, ...]]:
    """Rows that a feed could send, with every kind and flag, far more often than a feed would."""
    orders: dict[int, list[int]] = {}  # slot -> side, px, qty
    ts, rows, last = T0, [], int(EventFlag.LAST)
    kinds = (
        [K.ADD, K.ADD, K.ADD, K.REDUCE, K.DELETE, K.EXECUTE, K.EXECUTE] if level == "L3" else [K.LEVEL] * 6
    )
    for k in range(n):
        ts += rng.choice([0, 0, 1, MS, 40 * MS, 200 * MS])
        kind = rng.choice(
            [
                *kinds,
                K.TRADE,
                K.TRADE,
                K.HIDE if k % 9 == 0 else K.TRADE,
                K.CLEAR if k % 40 == 39 else K.TRADE,
            ]
        )
        side, px, qty = rng.choice([1, -1]), rng.randint(96, 106), rng.randint(1, 5)
        if rng.random() < 0.8:  # mostly a market with a middle
            px = 101 - rng.randint(0, 3) if side > 0 else 102 + rng.randint(0, 3)
        auction = int(EventFlag.AUCTION) if rng.random() < 0.1 else 0
        if kind == K.ADD:
            free = next(i for i in range(len(orders) + 1) if i not in orders)
            orders[free] = [side, px, qty]
            rows.append((ts, px, qty, free, kind, side, last | auction | (8 if rng.random() < 0.2 else 0)))
        elif kind in (K.REDUCE, K.DELETE, K.EXECUTE):
            if not orders:
                continue
            slot = rng.choice(list(orders))
            side, px, has = orders[slot]
            gone = has if kind == K.DELETE else rng.randint(1, has)
            rows.append((ts, px, gone, slot, kind, side, last | (auction if kind == K.EXECUTE else 0)))
            orders[slot][2] -= gone
            if orders[slot][2] == 0:
                del orders[slot]
        elif kind == K.LEVEL:
            rows.append((ts, px, rng.choice([0, qty, 3 * qty]), 0, kind, side, last))
        elif kind == K.TRADE:
            rows.append((ts, px, qty, 0, kind, rng.choice([1, -1, 0]), last | auction))
        elif kind == K.HIDE:
            orders = {slot: o for slot, o in orders.items() if o[:2] != [side, px]}
            rows.append((ts, px, 0, 0, kind, side, last))
        else:
            orders = {}
            rows.append((ts, px, 0, 0, kind, 0, last))
    return rows


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32), level=st.sampled_from(["L3", "L2", "snapshot"]),
    latency=st.sampled_from([0, 0, MS, 300 * MS]), ack=st.sampled_from([0, 100 * MS]),
    queue=st.sampled_from(["proportional", "risk_averse", "power", "log", MINE]),
    impact=st.sampled_from(["none", "consume"]), inside=st.sampled_from(["through", "any", "strict"]),
    view=st.sampled_from([0, 2]), cancel=st.sampled_from([None, 0, 50 * MS]),
)  # fmt: skip
def test_any_valid_feed(
    seed: int, level: str, latency: int, ack: int, queue: str, impact: str, inside: str, view: int,
    cancel: int | None,
) -> None:  # fmt: skip
    rng = random.Random(seed)
    first = [
        (T0, 101, 4, 0, K.ADD if level == "L3" else K.LEVEL, 1, 1),
        (T0, 103, 4, 0, K.LEVEL, -1, 1),
    ][: 1 if level == "L3" else 2]
    rows = first + valid_rows(rng, level, 150) if level != "L3" else valid_rows(rng, level, 150)
    if not rows:
        return
    data = market_from(
        rows, level=level, episode=(T0 + MS, rows[-1][0] + SECOND), max_inventory_units=MAX_INVENTORY,
        view_depth=view if level != "L2" else 0,
    )  # fmt: skip
    sim = SimConfig(
        latency=LatencyConfig(order=latency, cancel=cancel, ack=ack), queue_model=queue, impact=impact, inside=inside,
        decision_interval_ns=None if level == "snapshot" else 70 * MS,
    )  # fmt: skip
    kernel, naive, session, slow = both(data, sim, seed % 1000)
    assert kernel == naive
    assert session.inventory == slow.inventory == 0
