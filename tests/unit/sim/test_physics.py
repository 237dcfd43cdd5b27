"""What a session takes: a configuration that names nothing outside of the simulator, or resolved physics."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from mmsim.agent import Agent, Quotes, Strategy
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError
from mmsim.resolve import physics_of, session_for
from mmsim.sim.physics import Physics
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market


@pytest.mark.parametrize(
    ("sim", "names"),
    [
        (SimConfig(queue_model="fitted"), "sim.queue_model 'fitted'"),
        (SimConfig(queue_model="somewhere.py:mine"), "sim.queue_model 'somewhere.py:mine'"),
        (SimConfig(impact="reactive"), 'sim.impact = "reactive"'),
    ],
)
def test_a_session_refuses_what_was_not_looked_up(sim: SimConfig, names: str) -> None:
    with pytest.raises(ConfigError, match=rf"{names}.*mmsim\.resolve\.session_for"):
        Session(tiny_market(1, seconds=1), sim)


def test_a_plain_configuration_and_its_physics_are_the_same_run() -> None:
    data, sim = tiny_market(3, level="L2", seconds=30), SimConfig(queue_model="power", queue_power=1.5)
    episode = data.splits["test"][0]
    sessions = (Session(data, sim), Session(data, Physics.of(sim)), session_for(data, sim))
    results = [session.run(Touch(), episode).fills.tobytes() for session in sessions]
    assert len(results[0]) > 0
    assert results[0] == results[1] == results[2]


def test_physics_is_frozen() -> None:
    physics = physics_of(SimConfig(), "sim-rb")
    with pytest.raises(FrozenInstanceError):
        physics.sim = SimConfig()  # type: ignore[misc]


class Touch(Strategy):
    def quote(self, obs):
        return Quotes.two_sided(obs.bid_px, obs.ask_px, 1) if abs(obs.inventory) < 5 else Quotes.none()


class Reads(Agent):
    """Keeps how many levels it was shown, and their prices."""

    def __init__(self, levels: object) -> None:
        self.levels_read = levels  # type: ignore[misc,assignment]
        self.seen: list[tuple[list[int], ...]] = []

    def quote(self, obs):
        self.seen.append(
            (obs.bid_pxs.tolist(), obs.bid_qtys.tolist(), obs.ask_pxs.tolist(), obs.ask_qtys.tolist())
        )
        return Quotes.none()


@pytest.mark.parametrize("levels", [1, 2, 10])
def test_an_agent_is_shown_as_many_levels_as_it_reads(levels: int) -> None:
    data = tiny_market(2, seconds=20)
    session, episode = Session(data), data.splits["test"][0]
    whole, few = Reads(10), Reads(levels)
    session.run(whole, episode)
    session.run(few, episode)
    assert max(len(depth[0]) for depth in whole.seen) > 2
    assert few.seen == [tuple(part[:levels] for part in depth) for depth in whole.seen]


@pytest.mark.parametrize("levels", [0, 11, "all", 1.5, None])
def test_how_many_levels_an_agent_reads_has_a_range(levels: object) -> None:
    data = tiny_market(2, seconds=2)
    with pytest.raises(AgentError, match="levels_read: expected 1 to 10 levels per side, was"):
        Session(data).run(Reads(levels), data.splits["test"][0])
