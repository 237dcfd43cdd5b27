"""Made-up episodes that look like trading: a random walk, quotes around it, fills at the quotes."""

from decimal import Decimal

import numpy as np
import pytest

from mmsim.metrics import EpisodeResult, MarketResult
from mmsim.types import FILL, STEP, FeeSchedule, FillReason, Instrument

NS = 1_000_000_000
START = 1_609_725_600 * NS  # 2021-01-04 10:00 in Shanghai
IF = Instrument(
    "IF2101", Decimal("0.2"), multiplier=Decimal(300), sessions=(("09:30", "11:30"), ("13:00", "15:00"))
)


def made_up_episode(index, seed, *, n=1_200, rate=0.08, agent="GLFT(gamma=0.1)", dataset="if"):
    rng = np.random.default_rng([seed, index])
    start = START + index * 3_600 * NS
    steps = np.zeros(n, STEP)
    steps["ts"] = start + np.arange(n) * (NS // 2)
    bid = 26_000 + np.cumsum(rng.integers(-1, 2, n) * (rng.random(n) < 0.3))
    ask = bid + rng.integers(1, 4, n)
    steps["bid_px"], steps["ask_px"], steps["mid2"] = bid, ask, bid + ask
    steps["asked"] = rng.random(n) < 0.98
    steps["wall_ns"] = rng.gamma(4, 10_000, n)
    steps["episode"] = index
    fills, held, cash = [], 0, 0
    for k in range(n):
        own_bid, own_ask = bid[k] - rng.integers(0, 2), ask[k] + rng.integers(0, 2)
        steps["own_bid_px"][k], steps["own_bid_qty"][k] = own_bid, int(held < 5)
        steps["own_ask_px"][k], steps["own_ask_qty"][k] = own_ask, int(held > -5)
        steps["inventory"][k], steps["cash"][k] = held, cash
        if rng.random() < rate:
            side = 1 if rng.random() < 0.5 - 0.08 * held else -1
            px = own_bid if side > 0 else own_ask
            held, cash = held + side, cash - side * px
            fills.append(
                (steps["ts"][k] + NS // 4, k, steps["mid2"][k], px, 1, side, 1, FillReason.QUEUE, index, k)
            )
    if held:
        side, px = (-1, bid[-1]) if held > 0 else (1, ask[-1])
        fills.append(
            (steps["ts"][-1], 0, steps["mid2"][-1], px, abs(held), side, 0, FillReason.CLOSE, index, 0)
        )
    counters = {
        "decisions": int(steps["asked"].sum()),
        "missed": n - int(steps["asked"].sum()),
        "orders": n // 4,
    }
    return EpisodeResult(
        agent, dataset, index, IF, FeeSchedule(), start, start + n * NS // 2, np.array(fills, FILL), steps,
        int(steps["mid2"][-1]), 5, counters,
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_result():
    def make(agent="glft", dataset="if", episodes=3, simulated=False, seed=1, **kwargs):
        made = tuple(made_up_episode(k, seed, dataset=dataset, **kwargs) for k in range(episodes))
        return MarketResult(agent, dataset, simulated, made)

    return make


@pytest.fixture(scope="session")
def results(make_result):
    return [
        make_result("cmm", seed=1),
        make_result("glft", seed=2, rate=0.15),
        make_result("idle", seed=3, rate=0.0),
        make_result("cmm", "sim-rb", simulated=True, seed=4, episodes=1),
    ]
