"""From agents and a market to results: the one path of `mmsim run`, `sensitivity`, `profile` and the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsim import registry
from mmsim.agent import Agent
from mmsim.calibrate import remedy, usual_split
from mmsim.calibration_store import constants_or_reason
from mmsim.config import RunConfig, SimConfig
from mmsim.data import load
from mmsim.errors import ConfigError, MmsimError, UncalibratedError, did_you_mean
from mmsim.metrics import MarketResult
from mmsim.play import episodes_of, made, opened, play
from mmsim.profiles import profile_for
from mmsim.resolve import session_for
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.session import Session
from mmsim.types import MarketData

Ticker = Callable[[str, int, int], None]  # label, episodes done, episodes in all


@dataclass(frozen=True)
class Market:
    """A market and the session that replays it; ``uncalibrated`` says why it has no constants, if it has none."""

    data: MarketData
    session: Session
    uncalibrated: str = ""


def market_for(
    market: str | MarketData,
    sim: SimConfig | None = None,
    *,
    split: str | None = None,
    data_home: str | Path | None = None,
    checkpoints: Path | None = None,
    progress: bool = True,
    calibrated: bool = True,
) -> Market:
    """Load a market and make the session that its agents run in.

    Parameters
    ----------
    market : str or MarketData
        A name of `mmsim.data.names`, or a market.
    sim : SimConfig, optional
        Physics.
    split : str, optional
        A split that must have episodes.
    data_home : path, optional
        Folder of source data files.
    checkpoints : Path, optional
        Folder of checkpoint folders; default: the shipped ones.
    progress : bool
        Show a bar while the market is converted.
    calibrated : bool
        Hand agents the market's constants, stored ones or fitted now (`mmsim.calibration_store`).

    Raises
    ------
    DataError
        If the market or its split is not there.
    ConfigError
        If `sim` is not possible on this market.
    """
    data = load(market, data_home=data_home, progress=progress) if isinstance(market, str) else market
    if split is not None:
        episodes_of(data, split)
    constants, why_not = constants_or_reason(data) if calibrated else ({}, "")
    return Market(data, session_for(data, sim, calibration=constants, checkpoints=checkpoints), why_not)


@dataclass
class RunOutcome:
    """Results in the order of the configuration, and what failed."""

    results: list[MarketResult] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    failure: MmsimError | None = None  # the first error


def run(
    config: RunConfig,
    *,
    data_home: str | Path | None = None,
    checkpoints: Path | None = None,
    tick: Ticker | None = None,
    finished: Callable[[MarketResult], None] | None = None,
    failed: Callable[[dict[str, Any]], None] | None = None,
    done: Callable[[list[MarketResult]], None] | None = None,
) -> RunOutcome:
    """Run every agent of `config` on every market.

    Parameters
    ----------
    config : RunConfig
        What to run.
    data_home : path, optional
        Folder of source data files.
    checkpoints : Path, optional
        Folder of checkpoint folders; default: the shipped ones.
    tick : callable, optional
        Called as ``tick(label, done, total)`` before each episode.
    finished : callable, optional
        Called with each result as soon as it is there.
    failed : callable, optional
        Called with each entry of `RunOutcome.errors` as soon as it is there.
    done : callable, optional
        Called with the results of each market once it is over, also where an exception ends the run.

    Returns
    -------
    RunOutcome
        What an agent or a market does wrong ends that agent or market only, and is in `RunOutcome.errors`.

    Raises
    ------
    MmsimError
        For an unknown agent, parameter, market or fee schedule: before anything is run.
    """
    params = {spec: agent_params(config, spec) for spec in config.agents}
    _no_stray_params(config, params)
    for spec, given in params.items():
        made(spec, given, limit_s=config.decision_timeout_s)
    outcome = RunOutcome()

    def fail(dataset: str, agent: str | None, err: MmsimError) -> None:
        outcome.failure = outcome.failure or err
        outcome.errors.append({"dataset": dataset, "agent": agent, "error": str(err)})
        if failed is not None:
            failed(outcome.errors[-1])

    for name in config.datasets:
        try:
            market = market_for(
                name, config.sim, split=config.split, data_home=data_home, checkpoints=checkpoints
            )
        except MmsimError as err:
            fail(name, None, err)
            continue
        results: list[MarketResult] = []
        ways = ""
        try:
            for spec in config.agents:
                result = None
                try:
                    with opened(spec, params[spec], limit_s=config.decision_timeout_s) as agent:
                        result = run_agent(spec, agent, params[spec], market, config, tick)
                except UncalibratedError as err:
                    if market.uncalibrated:  # the run tried what the error recommends
                        ways = ways or remedy(market.data, usual_split(market.data))
                        err = UncalibratedError(f"{err.what}: {market.uncalibrated}", ways)
                    fail(name, spec, err)
                except MmsimError as err:
                    fail(name, spec, err)
                if result is not None:
                    results.append(result)
                    outcome.results.append(result)
                    if finished is not None:
                        finished(result)
        finally:
            if done is not None and results:
                done(results)
    return outcome


def run_agent(
    spec: str,
    agent: Agent,
    params: Mapping[str, Any],
    market: Market,
    config: RunConfig,
    tick: Ticker | None = None,
) -> MarketResult:
    """Run an agent, made from `spec` and `params`, on every episode of the configuration's split.

    Raises
    ------
    AgentError
        If the agent fails, or takes longer than ``config.decision_timeout_s`` for one call.
    """
    session, limit_s = market.session, config.decision_timeout_s

    def count(done: int, total: int) -> None:
        if tick is not None:
            tick(f"{market.data.name} {spec}", done, total)

    thinking = None
    if config.sim.latency.decision == "profile":
        thinking = DecisionLatency(profile_ns=profile_for(spec, params, session, limit_s=limit_s))
    episodes = episodes_of(market.data, config.split)
    ledgers = list(play(agent, session, episodes, decision_latency=thinking, limit_s=limit_s, tick=count))
    return MarketResult(spec, market.data.name, market.data.simulated, ledgers, config.split)


def agent_params(config: RunConfig, spec: str) -> dict[str, Any]:
    """Return the parameters of one agent: those for every agent that has them, then its own.

    Raises
    ------
    ConfigError
        If none of the run's agents has a parameter that was set for all.
    """
    known = registry.parameters(registry.resolve(spec))
    shared = {k: v for k, v in config.agent.items() if k in known}
    return {**shared, **config.params.get(spec, {}), **config.params.get(registry.display_name(spec), {})}


def _no_stray_params(config: RunConfig, params: Mapping[str, Mapping[str, Any]]) -> None:
    for key in config.agent:
        if not any(key in given for given in params.values()):
            known: set[str] = set()
            for spec in config.agents:
                known |= set(registry.parameters(registry.resolve(spec)))
            raise ConfigError(
                f"agent.{key}: none of {', '.join(config.agents)} has that parameter{did_you_mean(key, known)}"
            )
    names = {*config.agents, *map(registry.display_name, config.agents)}
    for name in config.params:
        if name not in names:
            raise ConfigError(f"parameters for {name!r}, which is not in the run{did_you_mean(name, names)}")
