"""Run agents on markets as a `RunConfig` says, side by side through the one session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsim import registry
from mmsim.agent import Agent, Strategy
from mmsim.calibration_store import constants_for
from mmsim.config import RunConfig
from mmsim.data import load
from mmsim.errors import AgentError, ConfigError, DataError, MmsimError, did_you_mean
from mmsim.profiles import profile_for
from mmsim.report.result import MarketResult
from mmsim.sim import hooks
from mmsim.sim.latency import LatencyModel
from mmsim.sim.session import Session
from mmsim.types import MarketData

Ticker = Callable[[str, int, int], None]  # label, episodes done, episodes in all


@dataclass
class RunOutcome:
    """Results in the order of the configuration, and what failed."""

    results: list[MarketResult] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    failure: MmsimError | None = None  # the first error; `results` holds what was finished


def run(
    config: RunConfig,
    *,
    data_home: str | Path | None = None,
    checkpoints: Path | None = None,
    tick: Ticker | None = None,
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
    done : callable, optional
        Called with the results of each market once it is finished.

    Returns
    -------
    RunOutcome
        An agent that fails ends its market and the run; results so far are kept.

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
    for name in config.datasets:
        try:
            data = load(name, data_home=data_home)
            if not data.splits.get(config.split):
                have = ", ".join(s for s, e in data.splits.items() if e) or "none"
                raise DataError(f"no {config.split} split; it has: {have}", source=name)
            session = Session(data, config.sim, calibration=_constants(data), checkpoints=checkpoints)
        except MmsimError as err:
            outcome.failure = err
            outcome.errors.append({"dataset": name, "agent": None, "error": str(err)})
            return outcome
        market: list[MarketResult] = []
        for spec in config.agents:
            try:
                market.append(_run_one(spec, params[spec], session, config, tick))
            except (AgentError, ConfigError) as err:
                outcome.failure = err
                outcome.errors.append({"dataset": name, "agent": spec, "error": str(err)})
                break
        outcome.results += market
        if done is not None and market:
            done(market)
        if outcome.failure is not None:
            return outcome
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


def _constants(data: MarketData) -> dict[str, float]:
    try:
        return constants_for(data)
    except DataError:  # too few trades to calibrate on: only agents that need the constants will say so
        return {}


def _made(spec: str, params: Mapping[str, Any], config: RunConfig) -> Agent:
    with hooks.hook(spec, "constructor", limit_s=config.decision_timeout_s):
        return registry.make_agent(spec, params)


def _run_one(
    spec: str, params: dict[str, Any], session: Session, config: RunConfig, tick: Ticker | None
) -> MarketResult:
    limit_s = config.decision_timeout_s
    episodes = session.data.splits[config.split]
    done = []
    with hooks.process_kept():
        agent = _made(spec, params, config)
        try:
            latency = None
            if config.sim.latency == "profile":
                latency = LatencyModel(profile_ns=profile_for(spec, params, session))
            for index, episode in enumerate(episodes):
                if tick is not None:
                    tick(f"{session.data.name} {spec}", index, len(episodes))
                done.append(session.run(agent, episode, index, latency=latency, limit_s=limit_s))
        except BaseException:
            with suppress(AgentError):  # what went wrong first is what is told
                hooks.close(agent, limit_s=limit_s)
            raise
        hooks.close(agent, limit_s=limit_s)
    return MarketResult(
        agent=spec,
        dataset=session.data.name,
        simulated=session.data.simulated,
        episodes=done,
        split=config.split,
    )
