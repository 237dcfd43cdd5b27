"""Train a PPO policy on one market by stable-baselines3, keep the best on validation, export it.

An interrupted training goes on from its last update and ends, to the bit, as one that was not interrupted:
weights, the optimiser's moments, the random streams and the place of every environment are kept. (The same
versions on the same kind of machine: torch promises no more.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsim.data import load
from mmsim.errors import ConfigError
from mmsim.metrics import epnl, map_, require_linear
from mmsim.paths import cache_home
from mmsim.quoting import STATE, QuoterSpec, scaling
from mmsim.sim.session import Session
from mmsim.types import MarketData
from mmsim_agents.common.card import git_revision, latency, versions
from mmsim_agents.common.checkpoint import shipped
from mmsim_agents.common.recording import record
from mmsim_agents.common.resume import WorkFolder
from mmsim_agents.rl.agent import PPO
from mmsim_agents.rl.policy import Policy

if TYPE_CHECKING:
    from mmsim.env import MarketMakingEnv
    from mmsim_agents.rl.learner import Learner

STEPS = 100_000
LEAN = 1.0  # shift of the quotes at the inventory limit before the policy's own skew, in reaches
_SPREAD = STATE.index("spread")


@dataclass(frozen=True)
class TrainConfig:
    """Constants of one training."""

    seed: int = 0
    steps: int = STEPS  # decisions, all environments together
    reward: str = "inventory"
    eta: float = 0.1  # of the asymmetric reward
    phi: float = 0.002  # of the inventory reward
    n_envs: int = 8
    rollout: int = 512  # decisions of each environment between two updates
    block: int = 400  # decisions of one training episode, a random stretch of the train split
    epochs: int = 4
    batch: int = 512
    lr: float = 3e-4  # falls linearly to 0
    gamma: float = 0.97
    gae_lambda: float = 0.9
    clip: float = 0.2
    entropy: float = 0.0
    log_std: float = -1.6  # initial log standard deviation of the actions
    hidden: tuple[int, ...] = (64, 64)
    validate_every: int = 20_000  # decisions
    validation_decisions: int = 20_000  # of one validation at most, whole episodes


Report = Callable[[int, dict[str, float]], None]  # decisions done, latest validation


def train(
    dataset: str | MarketData,
    *,
    out: Path | None = None,
    seed: int = 0,
    steps: int = STEPS,
    fresh: bool = False,
    progress: bool = True,
    command: str = "",
    config: TrainConfig | None = None,
) -> Path:
    """Train on the train split, choose on the validation split, write ``<out>/<dataset>/ppo.*``.

    Parameters
    ----------
    dataset : str or MarketData
        A name of `mmsim.data.names`, or a market.
    out : Path, optional
        Folder of checkpoint folders; default: the package's own.
    seed, steps : int
        Seed, and decisions to learn from.
    fresh : bool
        Start anew even if an interrupted training of the same market and constants can go on.
    progress : bool
        Show a progress bar on stderr.
    command : str
        Recorded in the card.
    config : TrainConfig, optional
        Other constants; its seed and steps give way to `seed` and `steps`.

    Returns
    -------
    Path
        The checkpoint folder of the dataset.
    """
    from mmsim_agents.rl.learner import Learner

    data = load(dataset, progress=progress) if isinstance(dataset, str) else dataset
    require_linear(data.instrument, "a training of PPO")
    cfg = replace(config or TrainConfig(), seed=seed, steps=steps)
    if cfg.steps < cfg.n_envs * cfg.rollout:
        raise ConfigError(
            f"steps: expected at least one rollout, {cfg.n_envs * cfg.rollout}, was {cfg.steps}"
        )
    for split in ("train", "validation"):
        if not data.splits.get(split):
            raise ConfigError(f"{data.name} has no {split} episodes to train PPO on")
    quoter = fit_quoter(data)
    work = WorkFolder(work_folder(data, cfg))
    if fresh:
        work.remove()
    with _bar(data.name, cfg.steps, progress) as report:
        learner = Learner(data, cfg, quoter, work, report)
        learner.learn()
    folder = (out or shipped()) / data.name
    card = _card(data, cfg, learner, command)
    # Once without latencies, so that the agent itself can be run; then the whole.
    Policy(learner.best, quoter, card).write(folder)
    card |= latency(PPO(), Session(data, checkpoints=folder.parent))
    Policy(learner.best, quoter, card).write(folder)
    work.remove()
    return folder


def fit_quoter(data: MarketData) -> QuoterSpec:
    """Return the quoter's constants for a market, measured on its train split.

    Offset and skew reach three ticks, or twice the mean spread where that is more. The quotes lean
    against the inventory by the same distance before the policy adds its own skew: without it the noise
    of a wandering inventory drowns what there is to learn in a few hours of data.
    """
    mean, std = scaling(record(data, "train"), data.instrument.unit_lots)
    reach = float(max(3, round(2.0 * mean[_SPREAD])))
    return QuoterSpec(
        max_offset_ticks=reach, max_skew_ticks=reach, lean_ticks=LEAN * reach, mean=mean, std=std
    )


def work_folder(data: MarketData, cfg: TrainConfig) -> Path:
    """Return the folder of the resumable state of one training: of one market, constants and versions."""
    market = [data.source_sha256, str(data.instrument), str(dict(data.splits)), data.decision_ns]
    key = json.dumps([market, asdict(cfg), STATE, _versions()])
    return cache_home() / "train" / "ppo" / f"{data.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def play(env: MarketMakingEnv, act: Callable[[Any], Any], episodes: list[int]) -> dict[str, float]:
    """Play whole episodes and return the means of reward (ticks on one unit), EPnL (currency) and MAP (lots)."""
    rewards, pnl, held = [], [], []
    for i in episodes:
        state, _ = env.reset(options={"episode": i})
        total, done = 0.0, False
        while not done:
            state, reward, done, _, _ = env.step(act(state))
            total += reward
        result = env.result("ppo")
        rewards.append(total)
        pnl.append(epnl(result))
        held.append(map_(result))
    return {"reward": float(np.mean(rewards)), "epnl": float(np.mean(pnl)), "map": float(np.mean(held))}


def _versions() -> dict[str, str]:
    return versions() | {name: version(name) for name in ("stable-baselines3", "gymnasium")}


def _card(data: MarketData, cfg: TrainConfig, learner: Learner, command: str) -> dict[str, Any]:
    return {
        "dataset": data.name,
        "simulated": data.simulated,
        "data_sha256": {"source": data.source_sha256},
        "seed": cfg.seed,
        "steps": cfg.steps,
        "reward": cfg.reward,
        "config": asdict(cfg),
        "reward_scale": learner.reward_scale,
        "chosen": learner.best_row,
        "references": learner.references,
        "validation": learner.history,
        "command": command,
        "seconds": round(learner.seconds, 1),
        "git": git_revision(),
        "versions": _versions(),
    }


@contextmanager
def _bar(name: str, steps: int, show: bool) -> Iterator[Report]:
    if not show:
        yield lambda _done, _row: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{name}: ppo", total=steps, note="")

        def report(done: int, row: dict[str, float]) -> None:
            note = f"validation EPnL {row['epnl']:,.0f}, MAP {row['map']:.2f}" if row else ""
            bar.update(task, completed=min(done, steps), note=note)

        yield report
