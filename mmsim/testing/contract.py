"""The agent contract as an executable check, after Gymnasium's ``check_env``.

Every clause is one function of this module that returns what is wrong and what to do, or "".
"""

from __future__ import annotations

import inspect
import pickle
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmsim.agent import Agent, Observation, Quotes, Strategy
from mmsim.config import LatencyConfig, SimConfig
from mmsim.errors import AgentError, MmsimError, shown, told
from mmsim.testing.scenarios import Market, observe, play, quote_problem, replay, scenarios, tiny_markets
from mmsim.types import OWN_ORDER, MarketData

MAX_P50_MS = 500.0  # a decision must fit between two snapshots of the slower feeds


@dataclass(frozen=True)
class Check:
    """Outcome of one clause: ``status`` is ``"ok"``, ``"failed"`` or ``"skipped"``."""

    name: str
    status: str
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """Outcome of the whole contract for one agent."""

    agent: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no clause failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The clauses that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def raise_if_failed(self) -> None:
        """Raise an `AgentError` that lists what failed, one line per clause."""
        if self.failures:
            lines = "; ".join(f"{check.name}: {check.detail}" for check in self.failures)
            raise AgentError(f"breaks the agent contract: {lines}", agent=self.agent)


@dataclass
class _Bench:
    make: Callable[[], Agent]
    params: Mapping[str, Any]
    markets: list[Market]
    max_p50_ms: float
    data: MarketData | None
    calibration: Mapping[str, float]
    notes: dict[str, str] = field(default_factory=dict)

    def started(self, market: Market, seed: int = 0) -> Agent:
        agent = self.make()
        agent.reset(market.context(seed))
        return agent


def check_agent(
    agent: Agent | type[Agent],
    params: Mapping[str, Any] | None = None,
    *,
    dataset: str = "tiny",
    data: MarketData | None = None,
    calibration: Mapping[str, float] | None = None,
    max_p50_ms: float = MAX_P50_MS,
    on: Callable[[str, Check | None], None] | None = None,
) -> Report:
    """Check that an agent keeps the contract of `mmsim.agent.Agent`.

    It plays small generated markets and is shown doctored observations: inventories at the limits, spreads of
    one tick and of many, thin books, the end of the episode.

    Parameters
    ----------
    agent : Agent or type
        A class, or an instance, whose parameters are then used.
    params : mapping, optional
        Parameters for the class.
    dataset : str
        Name that the generated markets carry; an agent finds the checkpoint of that name.
    data : MarketData, optional
        A real market, on which the agent is then also run for a few hundred decisions.
    calibration : mapping, optional
        Constants handed to the agent; default: some that fit the generated markets.
    max_p50_ms : float
        Longest median time of one decision, milliseconds.
    on : callable, optional
        Called with the name of each clause before it is judged, and with its `Check` afterwards. An agent that
        never returns keeps this function; `mmsim check-agent` runs it in a process that it can kill.

    Returns
    -------
    Report
        One `Check` per clause. Clauses that cannot be judged because an earlier one failed are skipped.

    Examples
    --------
    >>> from mmsim.registry import resolve
    >>> check_agent(resolve("foic"), {"N": 1}).ok
    True
    """
    cls = agent if isinstance(agent, type) else type(agent)
    if params is None and isinstance(agent, Agent):
        params = _parameters_of(agent)
    given = dict(params or {})
    bench = _Bench(
        lambda: cls(**given), given, tiny_markets(dataset, calibration), max_p50_ms, data,
        dict(calibration or {}),
    )  # fmt: skip
    done: list[Check] = []
    for gate, clauses in _GATES:
        first = next((check.name for check in done if check.status == "failed"), "")
        if first and gate:
            skipped = [Check(_name(c), "skipped", f"repair {first} first") for c in clauses]
            done += skipped
            for check in skipped:
                if on is not None:
                    on(check.name, check)
            continue
        for clause in clauses:
            if on is not None:
                on(_name(clause), None)
            try:
                problem = clause(bench)
            except KeyboardInterrupt:
                raise
            except BaseException as err:  # noqa: BLE001 (whatever a user's agent raises is its failure)
                problem = str(err) if isinstance(err, MmsimError) else told(err)
            note = bench.notes.get(_name(clause), "")
            done.append(Check(_name(clause), "failed" if problem else "ok", problem or note))
            if on is not None:
                on(_name(clause), done[-1])
    return Report(cls.__name__, tuple(done))


def _name(clause: Callable[[_Bench], str]) -> str:
    return clause.__name__.lstrip("_")


def _parameters_of(agent: Agent) -> dict[str, Any]:
    if isinstance(agent, Strategy):
        return {key: getattr(agent, key) for key in agent.parameters()}
    names = inspect.signature(type(agent)).parameters
    return {key: getattr(agent, key) for key in names if hasattr(agent, key)}


# ---- construction -----------------------------------------------------------------------------------
def _constructs(bench: _Bench) -> str:
    agent: Any = bench.make()
    return (
        "" if isinstance(agent, Agent) else f"expected a subclass of mmsim.Agent, was {type(agent).__name__}"
    )


def _init_only_stores(bench: _Bench) -> str:
    agent = bench.make()
    known = {**bench.params, **_parameters_of(agent)}
    extra = [key for key, value in vars(agent).items() if key not in known and value is not None]
    if extra:
        return f"__init__ sets {', '.join(extra)}, which are no parameters; set them up in reset(ctx)"
    return ""


def _rebuilds(bench: _Bench) -> str:
    agent = bench.make()
    before = _parameters_of(agent)
    try:
        twin = pickle.loads(pickle.dumps(agent))  # noqa: S301 (our own bytes)
    except Exception:  # noqa: BLE001 (any failure means: not by pickle, so by parameters)
        twin = type(agent)(**before)
    after = _parameters_of(twin)
    if shown(before, 10_000) != shown(after, 10_000):
        return f"a copy made from its parameters has others: expected {before}, was {after}"
    return ""


# ---- shown observations, no session ---------------------------------------------------------------------
def _resets(bench: _Bench) -> str:
    for market in bench.markets:
        agent = bench.make()
        agent.reset(market.context())
        agent.reset(market.context())
    return ""


def _returns_quotes(bench: _Bench) -> str:
    market = bench.markets[0]
    quotes: Any = bench.started(market).quote(observe(market.seen[0]))
    if not isinstance(quotes, Quotes):
        return (
            f"quote(obs) returned {type(quotes).__name__}; expected Quotes, e.g. "
            "Quotes.two_sided(bid_px, ask_px, qty) or Quotes.none()"
        )
    return ""


def _leaves_observation_alone(bench: _Bench) -> str:
    for market in bench.markets:
        agent = bench.started(market)
        for k in range(len(market.seen)):
            record = market.seen[k : k + 1].copy()
            record["n_orders"] = 2
            obs = Observation(record.copy(), np.zeros(2, OWN_ORDER))
            agent.quote(obs)
            if not np.array_equal(obs.record, record) or obs.orders.tobytes() != bytes(obs.orders.nbytes):
                return "quote(obs) changed the observation; work on a copy (obs.copy(), obs.bid_pxs.copy())"
    return ""


def _quotes_are_valid(bench: _Bench) -> str:
    for market in bench.markets:
        ctx = market.context()
        for label, records in scenarios(market):
            agent = bench.started(market)
            for step, record in enumerate(records):
                where = f"{market.label}, {label}, decision {step}"
                try:
                    quotes = agent.quote(observe(record))
                except (Exception, SystemExit) as err:  # noqa: BLE001 (whatever a user's agent raises)
                    return f"{where}: quote(obs) {told(err)}"
                problem = quote_problem(quotes, observe(record), ctx)
                if problem:
                    return f"{where}: {problem}"
    return ""


def _own_random_numbers_only(bench: _Bench) -> str:
    market = bench.markets[0]
    saved = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global one is what we watch)
    try:
        # a state that no agent seeds to by chance
        random.seed(0x6D6D_7369_6D)
        np.random.seed(0x6D6D_7369)  # noqa: NPY002
        before = random.getstate(), repr(np.random.get_state(legacy=False))  # noqa: NPY002
        agent = bench.started(market)
        for record in market.seen:
            agent.quote(observe(record))
        after = random.getstate(), repr(np.random.get_state(legacy=False))  # noqa: NPY002
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])  # noqa: NPY002
    if before != after:
        return "it draws from (or seeds) a global random generator; use ctx.rng, given to reset(ctx)"
    return ""


# ---- played in a session --------------------------------------------------------------------------
def _plays(bench: _Bench) -> str:
    for market in bench.markets:
        play(bench.make(), market)
    return ""


def _plays_with_latency(bench: _Bench) -> str:
    slow = SimConfig(
        latency=LatencyConfig(decision=700_000_000, feed=30_000_000, order=200_000_000, ack=400_000_000)
    )
    for market in bench.markets:
        play(bench.make(), market, sim=slow)
    return ""


def _repeats(bench: _Bench) -> str:
    for market in bench.markets:
        if play(bench.make(), market, seed=1).quotes() != play(bench.make(), market, seed=1).quotes():
            return (
                "two fresh agents with one seed quoted differently; draw from ctx.rng only, do not look at the "
                "clock, keep nothing in the class or in module variables"
            )
    return ""


def _reset_forgets(bench: _Bench) -> str:
    first, other = bench.markets[0], bench.markets[1]
    agent = bench.make()
    fresh = play(agent, first, seed=1).quotes()
    play(agent, other, seed=2)
    if play(agent, first, seed=1).quotes() != fresh:
        return "an episode is played differently after another one; start afresh in reset(ctx)"
    return ""


def _keeps_parameters(bench: _Bench) -> str:
    agent = bench.make()
    before = repr(_parameters_of(agent))
    play(agent, bench.markets[0])
    after = repr(_parameters_of(agent))
    return (
        ""
        if before == after
        else f"its parameters changed from {before} to {after}; keep state in other names"
    )


def _knows_only_what_it_is_told(bench: _Bench) -> str:
    for market in bench.markets:
        tap = play(bench.make(), market, seed=1)
        if replay(bench.make(), market.context(1), tap.seen, shared=True) != tap.quotes():
            return (
                "shown the same observations and fills outside the simulator it quotes differently; use only "
                "ctx, obs and on_fill, never the session or its data"
            )
    return ""


def _keeps_no_view(bench: _Bench) -> str:
    for market in bench.markets:
        seen = play(bench.make(), market, seed=1).seen
        one = replay(bench.make(), market.context(1), seen, shared=True)
        if replay(bench.make(), market.context(1), seen, shared=False) != one:
            return "it keeps an observation (or a view of it) beyond its decision; keep obs.copy() instead"
    return ""


def _is_quick(bench: _Bench) -> str:
    wall = np.array([ns for market in bench.markets for ns in play(bench.make(), market).wall_ns])
    p50, p99 = np.percentile(wall, (50, 99)) / 1e3
    bench.notes["is_quick"] = f"one decision takes {p50:.1f} us (p50), {p99:.1f} us (p99)"
    if p50 > bench.max_p50_ms * 1e3:
        return f"expected a median decision under {bench.max_p50_ms:g} ms, was {p50 / 1e3:.3g} ms"
    return ""


def _closes(bench: _Bench) -> str:
    agent = bench.make()
    agent.close()
    play(agent, bench.markets[0])
    agent.close()
    return ""


def _plays_the_dataset(bench: _Bench) -> str:
    if bench.data is None:
        bench.notes["plays_the_dataset"] = "no dataset given (--dataset)"
        return ""
    from mmsim.sim.session import Session

    session = Session(bench.data, SimConfig(), calibration=bench.calibration)
    episode = next(
        bench.data.splits[s][0] for s in ("validation", "test", "train") if bench.data.splits.get(s)
    )
    agent = bench.make()
    obs, decisions = session.start(episode, agent), 0
    while obs is not None and decisions < 300:
        problem = quote_problem(quotes := agent.quote(obs), obs, session.context(episode))
        if problem:
            return f"decision {decisions}: {problem}"
        obs = session.step(quotes)
        decisions += 1
    bench.notes["plays_the_dataset"] = (
        f"{decisions} decisions, {len(session.fills)} fills on {bench.data.name}"
    )
    return ""


# Clauses in groups; a group is skipped when it is gated and an earlier clause failed.
_GATES: tuple[tuple[bool, tuple[Callable[[_Bench], str], ...]], ...] = (
    (False, (_constructs,)),
    (True, (_init_only_stores, _rebuilds, _resets)),
    (True, (_returns_quotes,)),
    (True, (_leaves_observation_alone, _quotes_are_valid, _own_random_numbers_only)),
    (True, (_plays, _repeats)),
    (True, (_plays_with_latency, _reset_forgets, _keeps_parameters, _knows_only_what_it_is_told, _keeps_no_view,
            _is_quick, _closes, _plays_the_dataset)),
)  # fmt: skip
