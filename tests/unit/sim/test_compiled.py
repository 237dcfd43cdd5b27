"""A compiled strategy is the same agent, run without Python per decision."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mmsim._jit import NO_JIT
from mmsim.agent import (
    Fill,
    Observation,
    Quotes,
    Strategy,
)
from mmsim.compiled import CompiledStrategy, set_quotes
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError
from mmsim.records import OBSERVATION
from mmsim.registry import resolve
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.session import Session
from mmsim.testing.contract import check_agent
from mmsim.testing.markets import tiny_market
from mmsim.types import OWN_ORDER

MS = 1_000_000


class Lean(CompiledStrategy):
    """Two quotes, shifted by the inventory; sends nothing on every fifth decision."""

    offset: int = 0
    size: int = 1

    @staticmethod
    def decide(obs, want, params, memory):
        memory[0] += 1
        if memory[0] % 5 == 0:
            return
        held = obs.inventory
        shift = params.offset
        size = params.size
        set_quotes(
            want, obs.bid_px - shift - max(held, 0), size if held < 4 else 0,
            obs.ask_px + shift + max(-held, 0), size if held > -4 else 0,
        )  # fmt: skip


class LeanInPython(Strategy):
    """The same, written anew."""

    offset: int = 0
    size: int = 1

    def reset(self, ctx) -> None:
        self.count = 0

    def quote(self, obs: Observation) -> Quotes:
        self.count += 1
        if self.count % 5 == 0:
            return Quotes.none()
        held = obs.inventory
        bid, ask = obs.bid_px - self.offset - max(held, 0), obs.ask_px + self.offset + max(-held, 0)
        return Quotes(((bid, self.size),) if held < 4 else (), ((ask, self.size),) if held > -4 else ())


@pytest.mark.parametrize("level", ["L3", "L2", "snapshot"])
@pytest.mark.parametrize(
    "sim",
    [
        {},
        {
            "latency": {"order": 5 * MS, "decision": 600 * MS},
            "replace": "always",
        },
    ],
)
def test_compiled_equals_python(level: str, sim: dict) -> None:
    data = tiny_market(11, level=level, seconds=60, events_per_second=40)
    episode = data.splits["test"][0]
    session = Session(data, SimConfig(**sim))
    fast = session.run(Lean(offset=1, size=2), episode)
    slow = session.run(LeanInPython(offset=1, size=2), episode)
    by_quote = session.run(_Wrapped(Lean(offset=1, size=2)), episode)
    fields = [n for n in fast.steps.dtype.names if n not in ("wall_ns", "pad")]
    for other in (slow, by_quote):
        assert fast.fills.tobytes() == other.fills.tobytes()
        assert fast.steps[fields].tolist() == other.steps[fields].tolist()
        assert fast.counters == other.counters
    assert len(fast.fills) > 2
    again = session.run(Lean(offset=1, size=2), episode)
    assert again.fills.tobytes() == fast.fills.tobytes()  # the memory starts anew


class _Wrapped(Strategy):
    def __init__(self, inner: CompiledStrategy) -> None:
        super().__init__()
        self.inner = inner

    def reset(self, ctx) -> None:
        self.inner.reset(ctx)

    def quote(self, obs: Observation) -> Quotes:
        return self.inner.quote(obs)


def test_it_keeps_the_contract_of_every_agent() -> None:
    check_agent(Lean())


def test_buffers_grow_under_a_compiled_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_market(3, level="L2", seconds=60, events_per_second=40)
    episode = data.splits["test"][0]
    whole = Session(data).run(Lean(), episode)
    monkeypatch.setattr("mmsim.sim.engine._MOST_STEPS", 3)  # otherwise the table is made large enough
    small = Session(data)
    small._steps = small._steps[:3]
    small._fills = small._fills[:300]
    assert small.run(Lean(), episode).fills.tobytes() == whole.fills.tobytes()
    assert len(small._steps) > 100


def test_an_agent_that_hears_of_fills_is_run_in_python() -> None:
    heard = []

    class Hears(Lean):
        def on_fill(self, fill: Fill) -> None:
            heard.append(fill)

    data = tiny_market(3, level="L3", seconds=60, events_per_second=40)
    result = Session(data).run(Hears(), data.splits["test"][0])
    assert len(heard) == int((result.fills["order_id"] > 0).sum()) > 0


def test_decision_latencies_are_drawn_from_the_profile() -> None:
    data = tiny_market(3, level="L3", seconds=30)
    model = DecisionLatency(profile_ns=np.array([5 * MS, 900 * MS]))
    result = Session(data).run(Lean(), data.splits["test"][0], decision_latency=model)
    asked = result.steps[result.steps["asked"] == 1]
    assert set(asked["latency_ns"].tolist()) == {5 * MS, 900 * MS}
    assert result.counters["missed"] > 0


def test_what_it_may_not_do_is_said_in_words() -> None:
    class Crossed(CompiledStrategy):
        @staticmethod
        def decide(obs, want, params, memory):
            set_quotes(want, obs.ask_px, 1, obs.bid_px, 1)

    class Text(CompiledStrategy):
        name_of_it: str = "x"

        @staticmethod
        def decide(obs, want, params, memory):
            pass

    class Many(CompiledStrategy):
        levels: int = 6

        @staticmethod
        def decide(obs, want, params, memory):
            want.n_bids = params.levels
            for k in range(min(want.n_bids, 16)):
                want.bids[k].px = obs.bid_px - k
                want.bids[k].qty = 1

    data = tiny_market(3, level="L3", seconds=10)
    with pytest.raises(AgentError, match="expected at most 5 levels"):
        Session(data).run(Many(), data.splits["test"][0])
    for wild in (-1, 17, 10**6):
        with pytest.raises(AgentError, match="levels per side"):
            Session(data).run(Many(levels=wild), data.splits["test"][0])
    with pytest.raises(AgentError, match="crossed pair"):
        Session(data).run(Crossed(), data.splits["test"][0])
    with pytest.raises(ConfigError, match="name_of_it: expected a number"):
        Session(data).run(Text(), data.splits["test"][0])


def test_what_it_raises_is_an_agent_error() -> None:
    class Raises(CompiledStrategy):
        @staticmethod
        def decide(obs, want, params, memory):
            memory[0] += 1
            if memory[0] == 3:
                raise ValueError("the third is too much")

    data = tiny_market(3, level="L3", seconds=10)
    with pytest.raises(
        AgentError, match=r"decision 2 .*decide raised ValueError: the third is too much"
    ) as err:
        Session(data).run(Raises(), data.splits["test"][0])
    assert isinstance(err.value.__cause__, ValueError)


@pytest.mark.skipif(not NO_JIT, reason="numba compiles no KeyboardInterrupt")
def test_ctrl_c_in_compiled_code_passes_through() -> None:
    class Interrupts(CompiledStrategy):
        @staticmethod
        def decide(obs, want, params, memory):
            raise KeyboardInterrupt

    data = tiny_market(3, level="L3", seconds=10)
    with pytest.raises(KeyboardInterrupt):
        Session(data).run(Interrupts(), data.splits["test"][0])


def test_a_function_that_numba_cannot_compile_is_a_config_error() -> None:
    class Strange(CompiledStrategy):
        @staticmethod
        def decide(obs, want, params, memory):
            want.n_bids = undefined_name  # noqa: F821

    data = tiny_market(3, level="L3", seconds=10)
    if NO_JIT:
        pytest.skip("nothing is compiled")
    with pytest.raises(ConfigError, match="numba cannot compile it"):
        Session(data).run(Strange(), data.splits["test"][0])


@pytest.mark.skipif(NO_JIT, reason="nothing is compiled or kept without the JIT")
def test_a_file_imported_under_another_name_before(tmp_path):
    # numba keeps the compiled function beside the file, together with the name of the module it came from
    path = tmp_path / "mine.py"
    path.write_text(
        "from mmsim.compiled import CompiledStrategy, set_quotes\n\n\n"
        "class Mine(CompiledStrategy):\n"
        "    @staticmethod\n"
        "    def decide(obs, want, params, memory):\n"
        "        set_quotes(want, 99, 1, 101, 1)\n"
    )
    code = "import sys; sys.path.insert(0, sys.argv[1]); import mine; mine.Mine().reset(None)"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=120)  # as a notebook does
    mine = resolve(f"{path}:Mine")()
    mine.reset(None)
    seen = Observation(np.zeros(1, OBSERVATION), np.zeros(0, OWN_ORDER))
    assert mine.quote(seen) == Quotes(((99, 1),), ((101, 1),))
