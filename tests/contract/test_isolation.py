"""No agent changes another's result: hostile ones try everything they are handed, an honest one follows.

Out of scope is what no Python program can keep from another in its process: private attributes of the engine,
monkeypatching, raw addresses (docs/reliability.md).
"""

from __future__ import annotations

import contextlib
import decimal
import hashlib
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsim import runner
from mmsim.agent import (
    Agent,
    Fill,
    Observation,
    Quotes,
    SessionContext,
    Strategy,
)
from mmsim.compiled import CompiledStrategy, set_quotes
from mmsim.config import RunConfig, SimConfig
from mmsim.data import load
from mmsim.errors import AgentError
from mmsim.registry import make_agent
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim.types import Episode, MarketData

CALIBRATION = {"sigma": 0.8, "A": 0.5, "k": 0.4, "mean_spread": 3.0}
DATA = tiny_market(17, level="L2", seconds=60, events_per_second=40)


def episodes(data: MarketData = DATA) -> list[Episode]:
    whole = data.splits["test"][0]
    middle = (whole.start_ts + whole.end_ts) // 2
    return [Episode(whole.segment, whole.start_ts, middle), Episode(whole.segment, middle, whole.end_ts)]


class Hostile(Strategy):
    """Quotes like anybody, and does in every hook what its class is about; it swallows what that raises."""

    def reset(self, ctx: SessionContext) -> None:
        self._unit = ctx.unit
        self._try(lambda: self.at_reset(ctx))

    def quote(self, obs: Observation) -> Quotes:
        held, bid, ask = obs.inventory, obs.bid_px, obs.ask_px
        self._try(lambda: self.at_quote(obs))
        most = 5 * self._unit
        return Quotes(
            ((bid, self._unit),) if held < most else (), ((ask, self._unit),) if held > -most else ()
        )

    def on_fill(self, fill: Fill) -> None:
        self._try(lambda: self.at_fill(fill))

    def _try(self, what: Any) -> None:
        with contextlib.suppress(Exception):
            what()

    def at_reset(self, ctx: SessionContext) -> None: ...
    def at_quote(self, obs: Observation) -> None: ...
    def at_fill(self, fill: Fill) -> None: ...


class WritesItsContext(Hostile):
    def at_reset(self, ctx: SessionContext) -> None:
        for key in list(ctx.calibration):
            ctx.calibration[key] = 1e-9  # type: ignore[index]
        ctx.calibration.clear()  # type: ignore[attr-defined]
        ctx.rng.random(1000)
        for field, value in (("max_inventory", 1), ("unit", 7), ("calibration", {}), ("decision_ns", 1)):
            object.__setattr__(ctx, field, value)
        for field, value in (("unit_lots", 50), ("tick_size", decimal.Decimal(9)), ("name", "x")):
            object.__setattr__(ctx.instrument, field, value)


def overwrite(array: Any) -> list[str]:
    """Write to an array and to all that it stands on, in every way that needs no address; say what worked."""
    done = []
    for node in chain(array):
        for way in (
            lambda n: n.__setitem__(..., 1),
            lambda n: n.setflags(write=True),
            lambda n: setattr(n.flags, "writeable", True),
            lambda n: memoryview(n).cast("B").__setitem__(0, 1),
            lambda n: np.frombuffer(n, np.uint8).__setitem__(0, 1),
            lambda n: n.sort(),
            lambda n: n.fill(1),
            lambda n: np.copyto(n, 1),
            lambda n: n.resize(3),
        ):
            with contextlib.suppress(Exception):
                way(node)
                done.append(type(node).__name__)
    return done


def chain(array: Any) -> list[Any]:
    out = []
    while array is not None and len(out) < 9:
        out.append(array)
        array = getattr(array, "base", None) if isinstance(array, np.ndarray) else None
    return out


class WritesItsObservation(Hostile):
    def at_quote(self, obs: Observation) -> None:
        for array in (
            obs.record,
            obs.orders,
            obs.bid_pxs,
            obs.ask_qtys,
            obs.record["bid_pxs"],
            obs.record[0],
            obs.record.view(np.int64),
            obs.orders["px"],
            obs._top,
            obs._orders,
        ):
            overwrite(array)
        obs._head[:] = [0] * len(obs._head)


class WritesWhatStandsBehindIt(Hostile):
    def at_quote(self, obs: Observation) -> None:
        for array in (obs.record, obs.orders):
            below = memoryview(array.base).obj  # past the read-only door
            memoryview(below).cast("B")[:] = b"\x07" * memoryview(below).nbytes


class ReplacesItsObservation(Hostile):
    def at_quote(self, obs: Observation) -> None:
        obs.record.shape = (1, 1)
        obs.record.dtype = np.dtype(float)  # type: ignore[misc]
        obs.record = np.zeros(3, np.int64)
        obs._top = obs.record  # type: ignore[assignment]
        obs._head = []
        obs._orders = None  # type: ignore[assignment]


class KeepsEverything(Hostile):
    kept: list[Any] = []  # noqa: RUF012 (shared by all its instances, on purpose)

    def at_reset(self, ctx: SessionContext) -> None:
        self.kept.append(ctx)
        for old in self.kept:
            if isinstance(old, Observation):
                overwrite(old.record)
                old.record = None  # type: ignore[assignment]

    def at_quote(self, obs: Observation) -> None:
        self.kept += [obs, obs.record, obs.orders]

    def at_fill(self, fill: Fill) -> None:
        self.kept.append(fill)


class ChangesTheProcess(Hostile):
    def at_reset(self, ctx: SessionContext) -> None:
        np.seterr(all="raise")
        decimal.getcontext().prec = 2
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        os.chdir(Path(__file__).parent)


class HandsOutWhatItChangesLater(Hostile):
    def at_reset(self, ctx: SessionContext) -> None:
        self._bids = [[0, 0]]

    def quote(self, obs: Observation) -> Quotes:
        self._bids[0][:] = [obs.bid_px, 1]
        if obs.inventory >= 5:
            return Quotes.none()
        return Quotes(self._bids, ())  # type: ignore[arg-type]


class Raises(Hostile):
    def quote(self, obs: Observation) -> Quotes:
        if obs.step == 7:
            raise KeyError("enough")
        return super().quote(obs)


class Exits(Hostile):
    def quote(self, obs: Observation) -> Quotes:
        if obs.step == 9:
            sys.exit(0)
        return super().quote(obs)


class Scribbles(CompiledStrategy):
    """Fills all it may write to, and asks for nothing or for a lot, in turn."""

    lots: int = 1

    @staticmethod
    def decide(obs, want, params, memory):  # type: ignore[no-untyped-def]
        memory[:] = 7.0
        params.lots = 7
        for k in range(16):
            want.bids[k].px, want.bids[k].qty = 99, 99
            want.asks[k].px, want.asks[k].qty = 99, 99
        want.n_bids, want.n_asks = 0, 0
        if abs(obs.inventory) < 3:
            set_quotes(want, obs.bid_px, 1, obs.ask_px, 1)
        want.latency_ns, want.wall_ns = -(10**12), -5  # a latency that nobody has
        obs.inventory, obs.bid_px, obs.ts, obs.n_bid, obs.cash, obs.spare = 7, 7, 7, 7, 7, 7
        obs.bid_pxs[:] = 7
        obs.ask_qtys[:] = 7


class WritesOutside(CompiledStrategy):
    at: int = 10**4

    @staticmethod
    def decide(obs, want, params, memory):  # type: ignore[no-untyped-def]
        want.bids[params.at].px = 5


class Echo(CompiledStrategy):
    """Honest, but careless: it asks for a bid and leaves in place what stands there."""

    @staticmethod
    def decide(obs, want, params, memory):  # type: ignore[no-untyped-def]
        memory[0] += 1
        if memory[0] > 3 or want.bids[0].px > 0:
            size = 1 if obs.inventory < 3 else 0
            set_quotes(want, obs.bid_px - (1 if want.bids[0].px == 99 else 0), size, obs.ask_px, 0)


HOSTILE = [
    WritesItsContext, WritesItsObservation, WritesWhatStandsBehindIt, ReplacesItsObservation, KeepsEverything,
    ChangesTheProcess, HandsOutWhatItChangesLater, Raises, Exits, Scribbles, WritesOutside,
]  # fmt: skip
HONEST = {
    "glft": lambda: make_agent("glft"),
    "foic": lambda: make_agent("foic", {"N": 1}),
    "echo": Echo,
}
LATE = SimConfig(latency={"feed": 20_000_000, "order": 30_000_000, "ack": 40_000_000})


def digest(session: Session, agent: Agent, episode: Episode, index: int) -> str:
    result = session.run(agent, episode, index)
    fields = [name for name in result.steps.dtype.names or () if name not in ("wall_ns", "pad")]
    told = result.fills.tobytes() + repr((result.steps[fields].tolist(), result.counters)).encode()
    return hashlib.sha256(told).hexdigest()


def misbehave(session: Session, hostile: type[Agent], episode: Episode, index: int) -> None:
    with contextlib.suppress(AgentError):
        session.run(hostile(), episode, index)


@pytest.fixture(scope="module")
def alone() -> dict[tuple[str, str], list[str]]:
    out = {}
    for label, sim in (("at once", SimConfig()), ("late", LATE)):
        for name, make in HONEST.items():
            session = Session(DATA, sim, calibration=CALIBRATION)
            agent = make()
            out[label, name] = [digest(session, agent, ep, i) for i, ep in enumerate(episodes())]
    return out


@pytest.mark.parametrize("label", ["at once", "late"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda cls: cls.__name__)
def test_an_honest_agent_is_as_alone_after_and_between_a_hostile_ones_episodes(
    hostile: type[Agent], label: str, alone: dict[tuple[str, str], list[str]]
) -> None:
    session = Session(DATA, LATE if label == "late" else SimConfig(), calibration=CALIBRATION)
    folder, errors, context = Path.cwd(), np.geterr(), decimal.getcontext().prec
    for name, make in HONEST.items():
        agent, found = make(), []
        for index, episode in enumerate(episodes()):
            misbehave(session, hostile, episode, index)
            found.append(digest(session, agent, episode, index))
        assert found == alone[label, name], name
    misbehave(session, hostile, episodes()[0], 0)
    assert (Path.cwd(), np.geterr(), decimal.getcontext().prec) == (folder, errors, context)


def test_hostile_agents_are_not_idle() -> None:
    # otherwise the above would prove nothing: each trades, or fails where it is meant to
    for hostile in HOSTILE:
        session = Session(DATA, calibration=CALIBRATION)
        try:
            result = session.run(hostile(), episodes()[0])
            assert len(result.fills) > 2, hostile
        except AgentError as err:
            assert hostile in {ReplacesItsObservation, Raises, Exits, WritesOutside}, err  # noqa: PT017
    assert len(set(HONEST)) == 3


def test_what_is_read_only_stays_so() -> None:
    session = Session(DATA)
    obs = session.start(episodes()[0])
    assert obs is not None
    for array in (obs.record, obs.orders, obs.bid_pxs, obs._top):
        before = array.tobytes()
        assert overwrite(array) == []
        assert array.tobytes() == before
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            array.flags.writeable = True
    mine = obs.copy()
    mine.record["inventory"] = 12345  # a copy is the agent's
    assert obs.record.tobytes() != mine.record.tobytes()


def test_each_episode_and_each_agent_has_its_own_observation_and_constants() -> None:
    session = Session(DATA, calibration=CALIBRATION)
    first = session.start(episodes()[0])
    second = session.start(episodes()[0])
    assert first is not second
    assert first is not None and second is not None
    assert first.record is not second.record
    one, two = (session.context(episodes()[0]) for _ in range(2))
    assert one.calibration == two.calibration == CALIBRATION
    assert one.calibration is not two.calibration
    assert one.instrument is not DATA.instrument


class Honest(CompiledStrategy):
    @staticmethod
    def decide(obs, want, params, memory):  # type: ignore[no-untyped-def]
        size = 1 if -3 < obs.inventory < 3 and obs.spare == 0 else 0
        set_quotes(want, obs.bid_px, size, obs.ask_px, size)


class HonestUntilItHasRead(CompiledStrategy):
    """The same, and then it fills its observation."""

    @staticmethod
    def decide(obs, want, params, memory):  # type: ignore[no-untyped-def]
        size = 1 if -3 < obs.inventory < 3 and obs.spare == 0 else 0
        set_quotes(want, obs.bid_px, size, obs.ask_px, size)
        obs.inventory, obs.bid_px, obs.ask_px, obs.ts, obs.exch_ts, obs.spare = 7, 7, 7, 7, 7, 7
        obs.n_bid, obs.n_ask, obs.cash, obs.step, obs.last_trade_px, obs.n_orders = 7, 7, 7, 7, 7, 7
        obs.bid_pxs[:] = 7
        obs.ask_qtys[:] = 7


@pytest.mark.parametrize("latency_ns", [0, 400_000_000])
def test_what_a_compiled_strategy_writes_to_its_observation_nobody_reads(latency_ns: int) -> None:
    sim = SimConfig(latency={"feed": latency_ns, "order": latency_ns})
    one, other = (Session(DATA, sim).run(kind(), episodes()[0]) for kind in (Honest, HonestUntilItHasRead))
    assert len(one.fills) > 0
    assert one.fills.tobytes() == other.fills.tobytes()
    assert one.steps["mid2"].tolist() == other.steps["mid2"].tolist()


def test_a_compiled_strategy_cannot_write_beside_its_arrays() -> None:
    episode = episodes()[0]
    with pytest.raises(AgentError, match=r"decision 0 at .*IndexError"):
        Session(DATA).run(WritesOutside(), episode)
    with pytest.raises(AgentError, match="IndexError"):
        Session(DATA).run(WritesOutside(at=-(10**4)), episode)


def test_a_compiled_strategy_does_not_choose_its_latency() -> None:
    result = Session(DATA, SimConfig(latency={"decision": 3_000_000})).run(Scribbles(), episodes()[0])
    asked = result.steps[result.steps["asked"] == 1]
    assert set(asked["latency_ns"].tolist()) == {3_000_000}
    assert set(asked["wall_ns"].tolist()) == {0}


def test_a_run_with_a_hostile_agent_before_glft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the issue has it: an agent that writes into ``ctx.calibration`` took glft from 541 fills to 20."""
    whole = load("sim-rb")
    short = replace(whole, splits={**whole.splits, "test": whole.splits["test"][:2]})
    monkeypatch.setattr(runner, "load", lambda *_, **__: short)
    path = tmp_path / "hostile.py"
    path.write_text(
        "from mmsim.agent import Quotes, Strategy\n"
        "class Hostile(Strategy):\n"
        "    def reset(self, ctx):\n"
        "        for key in ctx.calibration:\n"
        "            ctx.calibration[key] *= 1000\n"
        "    def quote(self, obs):\n"
        "        return Quotes.none()\n",
        encoding="utf-8",
    )
    alone = runner.run(RunConfig(agents=("glft",), datasets=("sim-rb",)))
    after = runner.run(RunConfig(agents=(f"{path}:Hostile", "glft"), datasets=("sim-rb",)))
    assert after.failure is None
    assert after.results[1].fills_sha256 == alone.results[0].fills_sha256
    assert len(alone.results[0].episodes[0].fills) > 20
