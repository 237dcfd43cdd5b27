"""Train a PPO policy on one market by stable-baselines3, keep the best on validation, export it.

An interrupted training continues from its last update and ends bit for bit as an uninterrupted one: weights, the
optimiser's moments, the random streams and the place of every environment are kept. (With the same versions on the
same kind of machine: torch promises no more.)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsim.errors import ConfigError
from mmsim.metrics import require_linear
from mmsim.paths import cache_home
from mmsim.quoting import STATE, QuoterSpec, scaling
from mmsim.sim.session import Session
from mmsim.types import MarketData
from mmsim_agents.common.card import git_revision, latency, versions
from mmsim_agents.common.checkpoint import shipped
from mmsim_agents.common.progress import Progress, silent
from mmsim_agents.common.recording import record
from mmsim_agents.common.resume import WorkFolder
from mmsim_agents.rl.agent import PPO
from mmsim_agents.rl.config import STEPS, TrainConfig
from mmsim_agents.rl.policy import Policy

if TYPE_CHECKING:
    from mmsim_agents.rl.learner import Learner

LEAN = 1.0  # shift of the quotes at the inventory limit before the policy's own skew, in reaches
_LIBRARIES = ("stable-baselines3", "gymnasium")
_SPREAD = STATE.index("spread")


def train(
    data: MarketData,
    *,
    out: Path | None = None,
    seed: int = 0,
    steps: int = STEPS,
    fresh: bool = False,
    progress: Progress = silent,
    command: str = "",
    config: TrainConfig | None = None,
) -> Path:
    """Train on the train split, choose on the validation split, write ``<out>/<dataset>/ppo.*``.

    Parameters
    ----------
    data : MarketData
        The market.
    out : Path, optional
        Folder of checkpoint folders; default: the package's own.
    seed, steps : int
        Seed, and decisions to learn from.
    fresh : bool
        Start anew even if an interrupted training on the same market and constants could continue.
    progress : callable
        Told of every update.
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

    def report(done: int, row: dict[str, float]) -> None:
        note = f"validation EPnL {row['epnl']:,.0f}, MAP {row['map']:.2f}"
        progress(f"{data.name}: ppo ({note})", min(done, cfg.steps), cfg.steps)

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
    key = json.dumps([market, asdict(cfg), STATE, versions(*_LIBRARIES)])
    return cache_home() / "train" / "ppo" / f"{data.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


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
        "versions": versions(*_LIBRARIES),
    }
