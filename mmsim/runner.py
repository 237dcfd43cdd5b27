"""Run agents on markets as a `RunConfig` says, side by side through the one session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsim import registry
from mmsim.agent import Agent, Strategy
from mmsim.calibrate import remedy, usual_split
from mmsim.calibration_store import constants_or_reason
from mmsim.config import RunConfig
from mmsim.data import load
from mmsim.errors import ConfigError, DataError, MmsimError, UncalibratedError, did_you_mean
from mmsim.metrics import MarketResult
from mmsim.profiles import profile_for
from mmsim.sim import hooks
from mmsim.sim.latency import LatencyModel
from mmsim.sim.session import Session

Ticker = Callable[[str, int, int], None]  # label, episodes done, episodes in all


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
        _made(spec, given, config)
    outcome = RunOutcome()

    def fail(dataset: str, agent: str | None, err: MmsimError) -> None:
        outcome.failure = outcome.failure or err
        outcome.errors.append({"dataset": dataset, "agent": agent, "error": str(err)})
        if failed is not None:
            failed(outcome.errors[-1])

    for name in config.datasets:
        try:
            data = load(name, data_home=data_home)
            if not data.splits.get(config.split):
                have = ", ".join(s for s, e in data.splits.items() if e) or "none"
                raise DataError(f"no {config.split} split; it has: {have}", source=name)
            constants, why_not = constants_or_reason(data)
            session = Session(data, config.sim, calibration=constants, checkpoints=checkpoints)
        except MmsimError as err:
            fail(name, None, err)
            continue
        market: list[MarketResult] = []
        ways = ""
        try:
            for spec in config.agents:
                result = None
                try:
                    with (
                        hooks.process_kept(),
                        hooks.closing(_made(spec, params[spec], config), config.decision_timeout_s) as agent,
                    ):
                        result = _run_one(spec, agent, params[spec], session, config, tick)
                except UncalibratedError as err:
                    if why_not:  # the run tried what the error recommends
                        ways = ways or remedy(data, usual_split(data))
                        err = UncalibratedError(f"{err.what}: {why_not}", ways)
                    fail(name, spec, err)
                except MmsimError as err:
                    fail(name, spec, err)
                if result is not None:
                    market.append(result)
                    outcome.results.append(result)
                    if finished is not None:
                        finished(result)
        finally:
            if done is not None and market:
                done(market)
    return outcome


def agent_params(config: RunConfig, spec: str) -> dict[str, Any]:
    """Return the parameters of one agent: those for every agent that has them, then its own.

    Raises
    ------
    ConfigError
        If none of the run's agents has a parameter that was set for all.
    """
    cls = registry.resolve(spec)
    known = cls.parameters() if issubclass(cls, Strategy) else registry.parameters(cls)
    shared = {k: v for k, v in config.agent.items() if k in known}
    return {**shared, **config.params.get(spec, {}), **config.params.get(registry.display_name(spec), {})}


def _no_stray_params(config: RunConfig, params: Mapping[str, Mapping[str, Any]]) -> None:
    for key in config.agent:
        if not any(key in given for given in params.values()):
            known: set[str] = set()
            for spec in config.agents:
                cls = registry.resolve(spec)
                known |= set(cls.parameters() if issubclass(cls, Strategy) else registry.parameters(cls))
            raise ConfigError(
                f"agent.{key}: none of {', '.join(config.agents)} has that parameter{did_you_mean(key, known)}"
            )
    names = {*config.agents, *map(registry.display_name, config.agents)}
    for name in config.params:
        if name not in names:
            raise ConfigError(f"parameters for {name!r}, which is not in the run{did_you_mean(name, names)}")


def _made(spec: str, params: Mapping[str, Any], config: RunConfig) -> Agent:
    with hooks.hook(spec, "constructor", limit_s=config.decision_timeout_s):
        return registry.make_agent(spec, params)


def _run_one(
    spec: str,
    agent: Agent,
    params: dict[str, Any],
    session: Session,
    config: RunConfig,
    tick: Ticker | None,
) -> MarketResult:
    latency = None
    if config.sim.latency == "profile":
        latency = LatencyModel(
            profile_ns=profile_for(spec, params, session, limit_s=config.decision_timeout_s)
        )
    episodes = session.data.splits[config.split]
    done = []
    for index, episode in enumerate(episodes):
        if tick is not None:
            tick(f"{session.data.name} {spec}", index, len(episodes))
        done.append(session.run(agent, episode, index, latency=latency, limit_s=config.decision_timeout_s))
    return MarketResult(
        agent=spec,
        dataset=session.data.name,
        simulated=session.data.simulated,
        episodes=done,
        split=config.split,
    )
