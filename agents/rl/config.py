"""Constants of a PPO training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

STEPS = 100_000
Report = Callable[[int, dict[str, float]], None]  # decisions done, latest validation


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
