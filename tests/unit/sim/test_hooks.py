"""Whatever an agent does wrong in one of its hooks is an `AgentError` that says which, when and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsim.agent import Agent, Quotes, Strategy
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError, HookTimeout, shown, told
from mmsim.sim import hooks
from mmsim.sim.multi import MultiAgent, MultiSession
from mmsim.sim.session import Session
from mmsim.sim.watch import Watch
from mmsim.testing.markets import SECOND, tiny_market

DATA = tiny_market(3, level="L2", seconds=30, events_per_second=30)
EPISODE = DATA.splits["test"][0]


class Does(Strategy):
    """Quotes at the touch, and does `what` in the hook that `where` names."""

    def __init__(self, where: str, what: Callable[[], Any]) -> None:
        super().__init__()
        self.where, self.what = where, what

    def __repr__(self) -> str:
        return "Does()"

    def _at(self, where: str) -> Any:
        return self.what() if where == self.where else None

    def reset(self, ctx) -> Any:  # type: ignore[no-untyped-def, override]
        return self._at("reset")

    def quote(self, obs):  # type: ignore[no-untyped-def]
        if obs.step == 2 and self.where == "quote":
            return self.what()
        held = obs.inventory
        return Quotes(((obs.bid_px, 1),) if held < 4 else (), ((obs.ask_px, 1),) if held > -4 else ())

    def on_fill(self, fill) -> Any:  # type: ignore[no-untyped-def, override]
        return self._at("on_fill")

    def close(self) -> None:
        self._at("close")


def raises(err: BaseException) -> Callable[[], Any]:
    def go() -> Any:
        raise err

    return go


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Odd(BaseException):
    pass


BAD = [
    (KeyError("x"), "raised KeyError: 'x'"),
    (SystemExit(0), r"called sys\.exit\(0\)"),
    (SystemExit("bye"), r"called sys\.exit\('bye'\)"),
    (GeneratorExit(), "raised GeneratorExit"),
    (Odd("x"), "raised Odd: x"),
    (MuteError(), r"raised MuteError: \(its message raises RuntimeError\)"),
    (MemoryError(), "raised MemoryError"),
]


@pytest.mark.parametrize(("err", "message"), BAD, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(("hook", "decision"), [("reset", "-1"), ("quote", "2"), ("on_fill", r"\d+")])
def test_what_a_hook_raises(hook: str, decision: str, err: BaseException, message: str) -> None:
    with pytest.raises(
        AgentError, match=rf"agent Does\(\), decision {decision} at 17\d+ ns: {hook} {message}"
    ) as found:
        Session(DATA).run(Does(hook, raises(err)), EPISODE)
    assert found.value.__cause__ is err
    assert found.value.ts >= EPISODE.start_ts


@pytest.mark.parametrize("hook", ["reset", "quote", "on_fill"])
def test_ctrl_c_and_errors_of_the_configuration_pass_through(hook: str) -> None:
    for err in (KeyboardInterrupt(), ConfigError("install it")):
        with pytest.raises(type(err)) as found:
            Session(DATA).run(Does(hook, raises(err)), EPISODE)
        assert found.value is err


@pytest.mark.parametrize("err", [err for err, _ in BAD], ids=lambda x: type(x).__name__)
def test_closing(err: BaseException) -> None:
    with pytest.raises(AgentError, match=r"agent Does, .*: close "):
        hooks.close(Does("close", raises(err)))
    with pytest.raises(KeyboardInterrupt):
        hooks.close(Does("close", raises(KeyboardInterrupt())))
    hooks.close(Does("none", raises(err)))


@pytest.mark.parametrize("junk", [5, "x", np.zeros(3), False, Quotes.none()])
@pytest.mark.parametrize("hook", ["reset", "on_fill"])
def test_hooks_return_nothing(hook: str, junk: object) -> None:
    with pytest.raises(AgentError, match=f"{hook} returned .*expected None"):
        Session(DATA).run(Does(hook, lambda: junk), EPISODE)


def test_a_hook_that_is_a_generator_never_ran() -> None:
    class Yields(Does):
        def reset(self, ctx):  # type: ignore[no-untyped-def]
            yield

    with pytest.raises(AgentError, match=r"decision -1 at 17\d+ ns: reset returned <generator"):
        Session(DATA).run(Yields("none", int), EPISODE)


@pytest.mark.parametrize(
    "answer", [None, 5, "abcd", ((), (), True, 0), [(), (), True, 0], {}, np.zeros(4), Quotes, object()]
)
def test_what_is_no_quotes(answer: object) -> None:
    with pytest.raises(AgentError, match=r"decision 2 at .*: quote returned .*, expected Quotes"):
        Session(DATA).run(Does("quote", lambda: answer), EPISODE)


@pytest.mark.parametrize(
    ("quotes", "message"),
    [
        (Quotes(take=None), "take: expected a whole number of lots, was None"),
        (Quotes(take=""), "take: expected a whole number of lots, was ''"),
        (Quotes(take=[]), r"take: expected a whole number of lots, was \[\]"),
        (Quotes(take=True), "take: expected a signed quantity in lots, was True"),
        (Quotes(take=2**70), "beyond its limits"),
        (Quotes(take=-(2**63) + 2), "beyond its limits"),
        (Quotes(take=10**5000), "beyond its limits: .*whose repr raises"),
        (Quotes(post_only=None), "post_only: expected True or False, was None"),
        (Quotes(post_only=[]), r"post_only: expected True or False, was \[\]"),
        (Quotes(post_only=0.5), "post_only: expected True or False, was 0.5"),
        (Quotes(post_only=2), "post_only: expected True or False, was 2"),
        (Quotes(bids=5), r"bids: expected a tuple of \(price, quantity\), was 5"),
        (Quotes(asks=None), r"asks: expected a tuple of \(price, quantity\), was None"),
        (Quotes(((2**70, 1),)), "bid price: expected 1 to 2147483646 ticks"),
        (Quotes(((float("nan"), 1),)), "bid price: expected a whole number of ticks, was nan"),
        (Quotes((), ((float("inf"), 1),)), "ask price: expected a whole number of ticks, was inf"),
        (Quotes((), ((9000, 0),)), "ask size: expected a positive quantity"),
        (Quotes(((100,),)), r"bid level: expected \(price, quantity\), was \(100,\)"),
        (Quotes(tuple((100 - i, 1) for i in range(6))), "bid: expected at most 5 levels, was 6"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_quotes_is_said(quotes: Quotes, message: str) -> None:
    with pytest.raises(AgentError, match=f"decision 2 at .*: {message}"):
        Session(DATA).run(Does("quote", lambda: quotes), EPISODE)


def test_levels_without_a_length_are_refused_and_not_read() -> None:
    with pytest.raises(AgentError, match=r"bids: expected a tuple of .*, was <generator"):
        Session(DATA).run(Does("quote", lambda: Quotes((100, 1) for _ in iter(int, 1))), EPISODE)  # type: ignore[arg-type]


def test_text_is_no_levels() -> None:
    with pytest.raises(AgentError, match=r"bids: expected a tuple of .*, was '55'"):
        Session(DATA).run(Does("quote", lambda: Quotes("55")), EPISODE)  # type: ignore[arg-type]


def test_an_agent_is_closed_whatever_happened_and_the_first_fault_is_told() -> None:
    calls: list[str] = []
    with hooks.closing(Does("close", lambda: calls.append("closed"))):
        calls.append("played")
    assert calls == ["played", "closed"]
    with (
        pytest.raises(AgentError, match="close raised OSError"),
        hooks.closing(Does("close", raises(OSError()))),
    ):
        pass
    with pytest.raises(KeyError, match="first"), hooks.closing(Does("close", raises(OSError()))):
        raise KeyError("first")


@pytest.mark.parametrize("bad", [-1, "5", float("nan"), 2**70, True, [1], 0.5])
def test_a_bad_latency_of_its_own(bad: object) -> None:
    class Recalls(Does):
        last_latency_ns = bad

    with pytest.raises(AgentError, match=r"decision 0 at .*last_latency_ns: expected a whole number of ns"):
        Session(DATA).run(Recalls("none", int), EPISODE)


def test_a_latency_of_its_own_may_be_known_late_or_never() -> None:
    class Later(Does):
        last_latency_ns = None

        def quote(self, obs):  # type: ignore[no-untyped-def]
            self.last_latency_ns = np.int64(obs.step) if obs.step < 3 else None
            return super().quote(obs)

    class Broken(Does):
        @property
        def last_latency_ns(self) -> int:
            raise OSError("no clock")

    steps = Session(DATA).run(Later("none", int), EPISODE).steps
    walls = steps["wall_ns"][steps["asked"] == 1]
    assert walls[1:3].tolist() == [1, 2]
    assert (walls[3:] > 2).all()
    with pytest.raises(AgentError, match="last_latency_ns raised OSError: no clock"):
        Session(DATA).run(Broken("none", int), EPISODE)


@pytest.mark.parametrize("what", [RuntimeError, SystemExit, Odd])
def test_a_repr_that_raises_names_the_class(what: type[BaseException]) -> None:
    class Unnamed(Does):
        def __repr__(self) -> str:
            raise what("no name")

    expected = f"<Unnamed, whose repr raises {what.__name__}>"
    assert Session(DATA).run(Unnamed("none", int), EPISODE).agent == expected
    with pytest.raises(AgentError, match="agent <Unnamed, whose repr"):
        Session(DATA).run(Unnamed("quote", raises(KeyError())), EPISODE)


def test_an_agent_of_several_markets() -> None:
    class Multi(MultiAgent):
        def __init__(self, where: str, what: Callable[[], Any]) -> None:
            self.where, self.what = where, what

        def reset(self, contexts):  # type: ignore[no-untyped-def]
            return self.what() if self.where == "reset" else None

        def quote(self, observations):  # type: ignore[no-untyped-def]
            return self.what() if self.where == "quote" else {}

    def run(where: str, what: Callable[[], Any]) -> None:
        session = MultiSession({"a": DATA}, SimConfig(decision_interval_ns=SECOND))
        session.run(Multi(where, what), {"a": 0}, EPISODE.start_ts, EPISODE.end_ts)

    for where in ("reset", "quote"):
        for err, message in BAD:
            with pytest.raises(AgentError, match=f"agent Multi, .*: {where} {message}"):
                run(where, raises(err))
    for junk in (None, 5, [1], {"b": Quotes.none()}, {7: Quotes.none()}, {"a": None}, {"a": 5}, ["a"]):
        with pytest.raises(AgentError, match="agent Multi"):
            run("quote", lambda junk=junk: junk)  # type: ignore[misc]


# ---- the time that a hook may take ------------------------------------------------------------------
def spin() -> None:
    while True:
        pass


def spin_and_catch() -> None:
    while True:
        with suppress(Exception):
            sum(range(100))


def sleep() -> None:
    time.sleep(30)


@pytest.mark.parametrize("how", [spin, spin_and_catch, sleep])
@pytest.mark.parametrize("hook", ["reset", "quote", "on_fill"])
def test_a_hook_that_takes_too_long_is_interrupted(hook: str, how: Callable[[], None]) -> None:
    begin = time.monotonic()
    with pytest.raises(
        AgentError, match=r"agent Does\(\), .*took longer than 0.2 s \(--decision-timeout\)"
    ) as found:
        Session(DATA).run(Does(hook, how), EPISODE, limit_s=0.2)
    assert 0.2 <= time.monotonic() - begin < 5
    if hook == "quote":
        assert found.value.decision == 2


def test_closing_and_what_else_is_called_outside_decisions_has_the_limit_too() -> None:
    with pytest.raises(AgentError, match=r"close took longer than 0\.1 s"):
        hooks.close(Does("close", spin), limit_s=0.1)
    with (
        pytest.raises(AgentError, match=r"constructor took longer than 0\.1 s"),
        hooks.hook("x", "constructor", limit_s=0.1),
    ):
        sleep()


def test_a_constructor_that_swallows_everything_is_told_at_its_end() -> None:
    def stubborn() -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            with suppress(BaseException):
                time.sleep(0.01)

    with (
        pytest.raises(AgentError, match=r"constructor took longer than 0\.1 s"),
        hooks.hook("x", "constructor", limit_s=0.1),
    ):
        stubborn()


def test_what_arrives_while_the_patrol_is_dismissed_hits_nobody() -> None:
    class Patrol(threading.Thread):
        joined = 0

        def join(self, timeout: float | None = None) -> None:
            self.joined += 1
            if self.joined == 1:
                raise HookTimeout

    patrol = Patrol()
    Watch(1.0, lambda: "work")._dismiss(patrol)
    assert patrol.joined == 2


def test_ctrl_c_while_quotes_are_looked_at_passes_through() -> None:
    class Packed:
        def __index__(self) -> int:
            raise KeyboardInterrupt

    class Level:
        def __len__(self) -> int:
            return 3  # not a pair: it is looked at again, to say what is wrong

        def __iter__(self) -> Any:
            raise KeyboardInterrupt

    for level in ((Packed(), 1), Level()):
        with pytest.raises(KeyboardInterrupt):
            Session(DATA).run(Does("quote", lambda level=level: Quotes((level,))), EPISODE)


def test_a_size_beyond_32_bits_is_named() -> None:
    with pytest.raises(AgentError, match=r"bid size: expected at most [0-9]+ lots, was 2147483648"):
        Session(DATA).run(Does("quote", lambda: Quotes(((5, 2**31),))), EPISODE)


def test_the_working_directory_is_put_back(tmp_path: Path) -> None:
    before = Path.cwd()
    Session(DATA).run(Does("reset", lambda: os.chdir(tmp_path)), EPISODE)
    assert Path.cwd() == before


def test_a_working_directory_that_is_gone_is_no_agents_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert len(Session(DATA).run(Does("none", int), EPISODE).steps) > 0


def in_a_thread(what: Callable[[], Any]) -> BaseException | None:
    found: list[BaseException] = []

    def go() -> None:
        try:
            what()
        except BaseException as err:  # noqa: BLE001
            found.append(err)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return found[0] if found else None


@pytest.mark.parametrize("how", [spin, spin_and_catch])
def test_in_a_thread_too(how: Callable[[], None]) -> None:
    err = in_a_thread(lambda: Session(DATA).run(Does("quote", how), EPISODE, limit_s=0.2))
    assert isinstance(err, AgentError)
    assert "took longer than 0.2 s" in str(err)
    assert in_a_thread(lambda: Session(DATA).run(Does("none", int), EPISODE, limit_s=5)) is None


def test_nothing_pending_is_left_on_which_a_tracer_hangs() -> None:
    code = """
import sys, threading
from mmsim.sim.watch import Watch

def go():
    with Watch(0.05, lambda: "work"):
        pass

thread = threading.Thread(target=go)
thread.start()
thread.join()
sys.settrace(lambda *event: None)  # as coverage and debuggers do
(lambda: None)()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_agent_that_swallows_everything_is_told_at_the_end() -> None:
    def slow() -> Quotes:
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            with suppress(BaseException):
                time.sleep(0.01)
        return Quotes.none()

    with pytest.raises(AgentError, match="took longer than"):
        Session(DATA).run(Does("quote", slow), EPISODE, limit_s=0.2)


def test_many_short_decisions_are_not_one_long_one() -> None:
    class Naps(Does):
        def quote(self, obs):  # type: ignore[no-untyped-def]
            time.sleep(0.02)
            return super().quote(obs)

    result = Session(DATA).run(Naps("none", int), EPISODE, limit_s=0.3)
    assert result.counters["decisions"] * 0.02 > 0.3


def test_the_limit_leaves_results_signals_and_threads_as_they_were() -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL), threading.active_count()
    one = Session(DATA).run(Does("none", int), EPISODE, limit_s=0.05)
    two = Session(DATA).run(Does("none", int), EPISODE)
    assert one.fills.tobytes() == two.fills.tobytes()
    assert (
        signal.getsignal(signal.SIGALRM),
        signal.getitimer(signal.ITIMER_REAL),
        threading.active_count(),
    ) == before
    with Watch(None, lambda: "work") as watch:
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert not watch.tripped


def test_words_never_raise() -> None:
    assert shown("a" * 300, 10) == "'aaaaaa..."
    assert shown(10**5000) == "<int, whose repr raises ValueError>"
    assert told(KeyError("a")) == "raised KeyError: 'a'"


def test_agents_that_are_no_strategies_work_as_well() -> None:
    class Plain(Agent):
        def quote(self, obs):  # type: ignore[no-untyped-def]
            return Quotes.two_sided(obs.bid_px, obs.ask_px, 1) if obs.inventory == 0 else Quotes.none()

    assert len(Session(DATA).run(Plain(), EPISODE).fills) > 0
