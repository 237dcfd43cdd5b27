"""Several markets on one clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from mmsim.agent import Observation, Quotes, Strategy, within_limits
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError
from mmsim.sim.multi import MultiAgent, MultiSession
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, T0, market_from, tiny_market
from mmsim.types import EventFlag, EventKind, FillReason

K = EventKind
LAST = int(EventFlag.LAST)


class Touch(Strategy):
    """One lot at the touch of both sides."""

    def reset(self, ctx) -> None:
        self.ctx = ctx

    def quote(self, obs: Observation) -> Quotes:
        return within_limits(obs.bid_px, obs.ask_px, 1, obs, self.ctx)


class Each(MultiAgent):
    """`Touch` on every market, knowing nothing of the others."""

    def reset(self, contexts) -> None:
        self.parts = {name: Touch() for name in contexts}
        for name, part in self.parts.items():
            part.reset(contexts[name])

    def quote(self, observations: Mapping[str, Observation]) -> dict[str, Quotes]:
        assert len({obs.ts for obs in observations.values()}) == 1
        return {name: self.parts[name].quote(obs) for name, obs in observations.items()}


@pytest.mark.parametrize("thinking", [0, 700_000_000])
def test_markets_that_do_not_know_of_each_other_are_as_alone(thinking: int) -> None:
    sim = SimConfig(latency={"order": 3_000_000, "decision": thinking})
    kinds = ("L3", "L2", "snapshot")
    markets = {level: tiny_market(7, level=level, seconds=40, events_per_second=30) for level in kinds}
    markets = {name: replace(data, decision_ns=500_000_000) for name, data in markets.items()}
    episodes = {name: data.splits["test"][0] for name, data in markets.items()}
    starts, ends = {e.start_ts for e in episodes.values()}, {e.end_ts for e in episodes.values()}
    assert len(starts) == len(ends) == 1
    together = MultiSession(markets, sim).run(
        Each(), {name: e.segment for name, e in episodes.items()}, starts.pop(), ends.pop()
    )
    for name, data in markets.items():
        alone = Session(data, sim).run(Touch(), episodes[name])
        assert together[name].fills.tobytes() == alone.fills.tobytes()
        assert together[name].counters == alone.counters
        assert len(alone.fills) > 3


def two_venues() -> MultiSession:
    """A sells 3 lots to our bid at one second; B has liquidity to hedge them."""

    def at(seconds: float) -> int:
        return T0 + round(seconds * SECOND)

    def book(t: float, bid: int, ask: int) -> list[tuple[int, ...]]:
        return [(at(t), bid, 10, 0, K.LEVEL, 1, LAST), (at(t), ask, 10, 0, K.LEVEL, -1, LAST)]

    a = [*book(0, 100, 102), (at(1.2), 100, 13, 0, K.TRADE, -1, LAST), (at(9), 99, 1, 0, K.LEVEL, 1, LAST)]
    b = [*book(0, 200, 201), (at(9), 199, 1, 0, K.LEVEL, 1, LAST)]
    window = (at(0.1), at(8))
    data = {
        n: market_from(rows, level="L2", episode=window, max_inventory_units=20)
        for n, rows in (("a", a), ("b", b))
    }
    return MultiSession(data, SimConfig(decision_interval_ns=SECOND))


class Hedger(MultiAgent):
    """Quotes A, and sells in B what it bought in A."""

    def quote(self, observations: Mapping[str, Observation]) -> dict[str, Quotes]:
        held = observations["a"].inventory + observations["b"].inventory
        return {
            "a": Quotes(((100, 3),), ()) if observations["a"].inventory == 0 else Quotes.none(),
            "b": Quotes(take=-held),
        }


def test_hedging_in_a_second_market() -> None:
    session = two_venues()
    start, end = T0 + SECOND // 10, T0 + 8 * SECOND
    out = session.run(Hedger(), {"a": 0, "b": 0}, start, end)
    first_a, first_b = out["a"].fills[0], out["b"].fills[0]
    assert (first_a["side"], first_a["px"], first_a["qty"]) == (1, 100, 3)
    assert (first_b["side"], first_b["px"], first_b["qty"]) == (-1, 200, 3)
    assert first_b["reason"] == FillReason.TAKE
    assert first_a["ts"] == T0 + round(1.2 * SECOND)
    assert first_b["ts"] == T0 + round(2.1 * SECOND)  # the next common decision after the fill


def test_a_one_sided_market_is_not_shown_and_thinking_counts_for_it() -> None:
    def at(seconds: float) -> int:
        return T0 + round(seconds * SECOND)

    both = [(at(0), 100, 5, 0, K.LEVEL, 1, LAST), (at(0), 102, 5, 0, K.LEVEL, -1, LAST)]
    late = [(at(0), 100, 5, 0, K.LEVEL, 1, LAST), (at(1.5), 102, 5, 0, K.LEVEL, -1, LAST)]
    window = (at(0.5), at(4.4))
    markets = {n: market_from(r, level="L2", episode=window) for n, r in (("x", both), ("y", late))}
    seen = []

    class Watch(MultiAgent):
        def quote(self, observations):
            seen.append((next(iter(observations.values())).ts, sorted(observations)))
            return {}

    sim = SimConfig(decision_interval_ns=SECOND, latency={"decision": int(1.2 * SECOND)})
    out = MultiSession(markets, sim).run(Watch(), {"x": 0, "y": 0}, *window)
    # at 0.5 y has one side only; at 1.5 we still think about x; at 2.5 both; at 3.5 we think
    assert seen == [(at(0.5), ["x"]), (at(2.5), ["x", "y"])]
    assert out["y"].counters["missed"] == 2
    assert out["y"].counters["one_sided"] == 1
    assert out["y"].counters["decisions"] == 1
    assert out["y"].steps["asked"].tolist() == [0, 0, 1, 0]


def test_answers_for_markets_not_shown_and_exceptions_are_agent_errors() -> None:
    window = (T0 + SECOND // 10, T0 + 8 * SECOND)

    class Wrong(MultiAgent):
        def quote(self, observations):
            return {"c": Quotes.none()}

    class Broken(MultiAgent):
        def quote(self, observations):
            raise ZeroDivisionError("oops")

    with pytest.raises(AgentError, match="expected quotes for a, b, was c besides"):
        two_venues().run(Wrong(), {"a": 0, "b": 0}, *window)
    with pytest.raises(AgentError, match="ZeroDivisionError: oops"):
        two_venues().run(Broken(), {"a": 0, "b": 0}, *window)

    class Crossed(MultiAgent):
        def quote(self, observations):
            return {"a": Quotes(((103, 1),), ((101, 1),))}

    with pytest.raises(AgentError, match="crossed pair"):
        two_venues().run(Crossed(), {"a": 0, "b": 0}, *window)


def test_no_common_grid_is_a_config_error() -> None:
    data = tiny_market(1, level="snapshot", seconds=5)
    assert data.decision_ns == 0
    with pytest.raises(ConfigError, match="expected one grid of decisions"):
        MultiSession({"x": data})
    with pytest.raises(ConfigError, match="at least one market"):
        MultiSession({})
    with pytest.raises(ConfigError, match="none for x"):
        MultiSession({"x": data}, {})
