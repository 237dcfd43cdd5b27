"""One sequence of decision latencies for an agent, whether it runs in Python, compiled, or on several markets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.compiled import CompiledStrategy, set_quotes
from mmsim.config import MAX_LATENCY_NS, SimConfig
from mmsim.errors import ConfigError
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.multi import MultiAgent, MultiSession
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, T0, tiny_market

MS = 1_000_000
PROFILE = np.array([1, 3, 8, 21, 55, 2_000]) * MS  # most within a decision interval, some over many


class Fast(CompiledStrategy):
    @staticmethod
    def decide(obs, want, params, memory):
        held = obs.inventory
        set_quotes(want, obs.bid_px, 1 if held < 5 else 0, obs.ask_px, 1 if held > -5 else 0)


class Slow(Strategy):
    def quote(self, obs: Observation) -> Quotes:
        held = obs.inventory
        return Quotes(((obs.bid_px, 1),) if held < 5 else (), ((obs.ask_px, 1),) if held > -5 else ())


def test_compiled_and_python_twins_are_charged_the_same_under_profile() -> None:
    data = tiny_market(6, level="L2", seconds=130, events_per_second=40)
    session = Session(data, SimConfig(decision_interval_ns=5 * MS, latency={"order": 2 * MS}))
    fast, slow = (
        session.run(
            agent, data.splits["test"][0], 3, decision_latency=DecisionLatency(profile_ns=PROFILE[:5])
        )
        for agent in (Fast(), Slow())
    )
    fields = [name for name in fast.steps.dtype.names if name not in ("wall_ns", "pad")]
    assert fast.fills.tobytes() == slow.fills.tobytes()
    assert fast.steps[fields].tolist() == slow.steps[fields].tolist()
    assert fast.counters == slow.counters
    assert fast.counters["decisions"] > 5_000  # more than the 4,096 rows of the table
    assert fast.counters["missed"] > 1_000
    asked = fast.steps["latency_ns"][fast.steps["asked"] == 1]
    assert (asked[:1_000] == asked[4_096:5_096]).all()  # then it starts again


def test_python_draws_what_the_table_holds_from_its_first_row() -> None:
    model = DecisionLatency(profile_ns=np.arange(10_000))
    model.start(5, 2)
    table = model.table().tolist()
    assert [model.draw() for _ in range(2 * len(table))] == table * 2
    assert model.table().tolist() == table  # looking at it draws nothing


@pytest.mark.parametrize(
    "profile", [np.array([0, -1]), np.array([0, MAX_LATENCY_NS + 1]), np.array([1.5]), np.zeros((2, 2), np.int64)]
)  # fmt: skip
def test_profiles_out_of_range_are_refused(profile: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="latency profile: expected"):
        DecisionLatency(profile_ns=profile)
    assert DecisionLatency(profile_ns=np.array([0, MAX_LATENCY_NS])).table().max() == MAX_LATENCY_NS


class Times(MultiAgent):
    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def quote(self, observations: Mapping[str, Observation]) -> dict[str, Quotes]:
        obs = next(iter(observations.values()))
        self.asked.append((obs.ts, tuple(observations)))
        return {name: Quotes(((o.bid_px, 1),), ((o.ask_px, 1),)) for name, o in observations.items()}


def two_markets() -> tuple[dict, tuple[int, int]]:
    data = {name: tiny_market(7, level="L2", seconds=30, events_per_second=30) for name in ("near", "far")}
    data = {name: replace(d, decision_ns=SECOND // 2) for name, d in data.items()}
    episode = data["near"].splits["test"][0]
    return data, (episode.start_ts, episode.end_ts)


@pytest.mark.parametrize("order", [("near", "far"), ("far", "near")])
def test_each_market_of_several_has_its_own_decision_latency(order: tuple[str, ...]) -> None:
    data, window = two_markets()
    sims = {
        "near": SimConfig(latency={"decision": 100 * MS}),
        "far": SimConfig(latency={"decision": 1_200 * MS}),
    }
    agent = Times()
    out = MultiSession({n: data[n] for n in order}, {n: sims[n] for n in order}).run(
        agent, {"near": 0, "far": 0}, *window
    )
    for name, expected in (("near", 100 * MS), ("far", 1_200 * MS)):
        steps = out[name].steps
        assert set(steps["latency_ns"][steps["asked"] == 1].tolist()) == {expected}
    # busy until the longest: 1.2 s of half-second decisions
    assert set(np.diff([ts for ts, _ in agent.asked])) == {3 * SECOND // 2}
    assert out["near"].counters["missed"] == out["far"].counters["missed"] > 10


def test_profiles_of_several_markets_are_given_by_name() -> None:
    data, window = two_markets()
    profile = SimConfig(latency={"decision": "profile"})
    session = MultiSession(data, {"near": SimConfig(), "far": profile})
    with pytest.raises(ConfigError, match=r"DecisionLatency\(profile_ns=...\)"):
        session.run(Times(), {"near": 0, "far": 0}, *window)
    given = {"far": DecisionLatency(profile_ns=np.array([7 * MS]))}
    out = session.run(Times(), {"near": 0, "far": 0}, *window, decision_latency=given)
    assert set(out["near"].steps["latency_ns"].tolist()) == {0}
    assert set(out["far"].steps["latency_ns"].tolist()) == {7 * MS}


def test_a_market_with_one_side_only_does_not_make_the_agent_think_longer() -> None:
    data, window = two_markets()
    late = data["far"]
    rows = late.events[late.events["side"] != -1]  # no asks at all: it is never shown
    data["far"] = replace(late, events=rows, segments=(replace(late.segments[0], stop=len(rows)),))
    sims = {"near": SimConfig(), "far": SimConfig(latency={"decision": 1_200 * MS})}
    agent = Times()
    out = MultiSession(data, sims).run(agent, {"near": 0, "far": 0}, *window)
    assert {names for _, names in agent.asked} == {("near",)}
    assert out["near"].counters["missed"] == 0
    assert agent.asked[0][0] > T0
