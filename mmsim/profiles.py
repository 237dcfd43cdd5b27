"""Recorded decision latencies of agents: what ``sim.latency.decision = "profile"`` draws from.

Looked for in this order: the card beside the agent's checkpoint (so that a run repeats on another
machine), the cache, and else recorded now on a split that is not the test split, and cached.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmsim import caches
from mmsim.agent import Agent
from mmsim.errors import ConfigError
from mmsim.paths import cache_home
from mmsim.play import opened, play
from mmsim.registry import resolve, shipped_checkpoints
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.session import Session
from mmsim.types import MarketData

SAMPLES = 512  # decisions recorded
WARM_UP = 32  # the first ones are left out: caches fill, code loads
_log = logging.getLogger("mmsim.profiles")


def profile_for(
    spec: str,
    params: Mapping[str, object],
    session: Session,
    *,
    record: bool = True,
    limit_s: float | None = None,
) -> npt.NDArray[np.int64] | None:
    """Return the recorded latencies of an agent on the session's market, ``(n,)`` ns.

    Parameters
    ----------
    spec, params
        As for `mmsim.registry.make_agent`.
    record : bool
        Record them now if there are none (on the validation split, else train, else test).
    limit_s : float, optional
        Longest time of one call of the agent while they are recorded, seconds.

    Raises
    ------
    AgentError
        If the agent fails while they are recorded.
    ConfigError
        If the profile on a card is broken. One in the cache is recorded again.
    """
    root = session.checkpoints or shipped_checkpoints()
    cached = _cache_path(spec, params, session.data.name)
    found = _read(root / session.data.name / f"{spec}.json") if root else None
    if found is None:
        try:
            found = _read(cached)
        except ConfigError as err:
            caches.made_again(cached, err)
    if found is not None:
        return found
    if not record:
        return None
    split = split_to_measure_on(session.data)
    _log.info("recording %s's decision latency on %s %s", spec, session.data.name, split)
    with opened(spec, params, limit_s=limit_s) as agent:
        times = measure(agent, session, split, limit_s=limit_s)
    keep(spec, params, session.data.name, times)
    return times


def split_to_measure_on(data: MarketData) -> str:
    """Return the validation split or, where that is empty, the training or the test split."""
    return next(s for s in ("validation", "train", "test") if data.splits.get(s))


def keep(spec: str, params: Mapping[str, object], dataset: str, times: npt.NDArray[np.int64]) -> Path:
    """Write recorded latencies, ``(n,)`` ns, where `profile_for` looks for them, and return the path."""
    path = _cache_path(spec, params, dataset)
    kept = {"agent": spec, "dataset": dataset, "latency_ns": times.tolist(), "crc32": _checksum(times)}
    caches.keep(path, json.dumps(kept).encode())
    return path


def measure(
    agent: Agent, session: Session, split: str, n: int = SAMPLES, *, limit_s: float | None = None
) -> npt.NDArray[np.int64]:
    """Measure the wall clock of up to `n` decisions of `agent`, warm-up excluded, ns.

    Meanwhile decisions take no time, whatever the session's configuration says: it may ask for the very profile
    that is being recorded.
    """
    times: list[int] = []
    episodes = session.data.splits[split]
    for result in play(
        agent, session, episodes, decision_latency=DecisionLatency(), limit_s=limit_s, most_asked=n + WARM_UP
    ):
        steps = result.steps
        times += steps["wall_ns"][steps["asked"] == 1].tolist()
    kept = times[WARM_UP:] or times
    if not kept:
        raise ConfigError(f"{agent!r} on {session.data.name}: no decision to measure a latency profile on")
    return np.array(kept, np.int64)


def _cache_path(spec: str, params: Mapping[str, object], dataset: str) -> Path:
    # the module of a user's file is named after its content: an edited agent is measured anew
    identity = [spec, resolve(spec).__module__, dict(params)]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return cache_home() / "profiles" / f"{dataset}-{key}.json"


def _checksum(times: npt.NDArray[np.int64]) -> int:
    return caches.checksum(times.astype("<i8").tobytes())


def _read(path: Path) -> npt.NDArray[np.int64] | None:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        values = card.get("latency_ns")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as err:
        raise ConfigError(f"latency profile {path}: cannot be read ({err}); delete it") from None
    if not values:
        return None
    try:
        times = np.array(values)
        good = times.ndim == 1 and times.dtype.kind == "i" and int(times.min()) >= 0
    except ValueError:  # lists of several lengths
        good = False
    if not good:
        raise ConfigError(f"latency profile {path}: expected a list of non-negative ns; delete it")
    if "crc32" in card and card["crc32"] != _checksum(times):
        raise ConfigError(f"latency profile {path}: the latencies are not those that were written; delete it")
    return times.astype(np.int64)
