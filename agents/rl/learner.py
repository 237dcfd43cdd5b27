"""stable-baselines3's PPO on the environment, with validation, resumption and export."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from mmsim.env import MarketMakingEnv, RewardSpec
from mmsim.metrics import epnl, map_
from mmsim.quoting import N_ACTIONS, QuoterSpec
from mmsim.types import MarketData
from mmsim_agents.common.checkpoint import Arrays
from mmsim_agents.common.resume import WorkFolder
from mmsim_agents.rl.config import Report, TrainConfig
from mmsim_agents.rl.policy import Network
from mmsim_agents.rl.rewind import Rewind

if TYPE_CHECKING:
    import numpy.typing as npt

_PROBE_STEPS = 2_000


class Learner:
    """One training of one policy.

    Parameters
    ----------
    data : MarketData
        The market.
    config : TrainConfig
        Constants.
    quoter : QuoterSpec
        Range of the actions and scaling of the features.
    work : WorkFolder
        Of the resumable state, written after every update: everything that the next rollout depends
        on, so that an interrupted training ends as an uninterrupted one.
    report : callable
        Told of every update.

    Attributes
    ----------
    best : Network
        The best so far on validation; ``best_row`` is its row of `history`.
    references : dict
        Validation of fixed offsets (ticks behind the best quotes) with the quoter's lean against the
        inventory but no skew of a policy, for comparison.
    seconds : float
        Spent on learning so far, including before an interruption.
    """

    def __init__(
        self, data: MarketData, config: TrainConfig, quoter: QuoterSpec, work: WorkFolder, report: Report
    ) -> None:
        # More threads than one are slower on networks of this size.
        torch.set_num_threads(1)
        self.config, self.work, self._report = config, work, report
        self._quoter = quoter
        reward = RewardSpec(config.reward, eta=config.eta, phi=config.phi)
        self._validation = MarketMakingEnv(data, split="validation", reward=reward, quoter=quoter)
        self._episodes = self._choose(data)
        self.reward_scale = self._measure_rewards(data, reward)
        interval = data.decision_ns or 500_000_000
        self._make = lambda: Rewind(
            gymnasium.wrappers.TransformReward(
                MarketMakingEnv(data, reward=reward, quoter=quoter, block_s=config.block * interval / 1e9),
                lambda r: r * self.reward_scale,
            )
        )
        self.references: dict[str, dict[str, float]] = {}
        self.history: list[dict[str, float]] = []
        self.best_row: dict[str, float] = {}
        self.best: Network
        self.seconds = 0.0
        self._since = time.perf_counter()

    def learn(self) -> None:
        """Train to the end, from the state in the work folder if there is one."""
        cfg = self.config
        state = self.work.load()
        envs = DummyVecEnv([self._make for _ in range(cfg.n_envs)])
        envs.seed(cfg.seed)
        model = sb3.PPO(
            "MlpPolicy",
            envs,
            learning_rate=lambda left: cfg.lr * left,
            n_steps=cfg.rollout,
            batch_size=cfg.batch,
            n_epochs=cfg.epochs,
            gamma=cfg.gamma,
            gae_lambda=cfg.gae_lambda,
            clip_range=cfg.clip,
            ent_coef=cfg.entropy,
            policy_kwargs={
                "net_arch": {"pi": list(cfg.hidden), "vf": list(cfg.hidden)},
                "log_std_init": cfg.log_std,
            },
            seed=cfg.seed,
            device="cpu",
        )
        if state is None:
            self._references()
            self._validate(model)
        else:
            self._restore(model, *state)
        left = cfg.steps - model.num_timesteps
        model.learn(left, callback=_Callback(self._update), reset_num_timesteps=False)
        if self.history[-1]["step"] < model.num_timesteps:
            self._validate(model)
        self._clock()
        self._report(cfg.steps, self.history[-1])

    def _clock(self) -> None:
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now

    def _update(self, model: sb3.PPO) -> None:
        done = model.num_timesteps
        if done - self.history[-1]["step"] >= self.config.validate_every:
            self._validate(model)
        self._save(model)
        self._report(done, self.history[-1])

    def _choose(self, data: MarketData) -> list[int]:
        # Whole validation episodes, evenly spread, as many as the budget allows.
        episodes = data.splits["validation"]
        interval = data.decision_ns or 500_000_000
        length = max(1, (episodes[0].end_ts - episodes[0].start_ts) // interval)
        n = max(1, min(len(episodes), self.config.validation_decisions // length))
        return [int(i) for i in np.linspace(0, len(episodes) - 1, n).round()]

    def _measure_rewards(self, data: MarketData, reward: RewardSpec) -> float:
        # Rewards get unit deviation once, by quoting at the touch: no running statistics.
        env = MarketMakingEnv(data, reward=reward, quoter=self._quoter)
        env.reset(seed=self.config.seed)
        seen: list[float] = []
        while len(seen) < _PROBE_STEPS:
            _, r, done, _, _ = env.step(np.zeros(N_ACTIONS, np.float32))
            seen.append(r)
            if done:
                env.reset()
        spread = float(np.std(seen))
        return float(f"{1.0 / spread:.6g}") if spread > 0 else 1.0

    def _references(self) -> None:
        for ticks in (0, 1, 2):
            action = np.array([min(ticks / self._quoter.max_offset_ticks, 1.0), 0.0], np.float32)
            self.references[str(ticks)] = play(self._validation, partial(_constant, action), self._episodes)

    def _validate(self, model: sb3.PPO) -> None:
        network = export(model)
        row = {"step": float(model.num_timesteps), **play(self._validation, network, self._episodes)}
        self.history.append(row)
        if not self.best_row or row["reward"] > self.best_row["reward"]:
            self.best, self.best_row = network, row

    # ---- the resumable state -------------------------------------------------------------------
    def _save(self, model: sb3.PPO) -> None:
        arrays: Arrays = {f"now.{k}": v.numpy() for k, v in model.policy.state_dict().items()}
        arrays |= {f"best.{k}": v for k, v in self.best.arrays().items()}
        moments = model.policy.optimizer.state_dict()["state"]
        for i, entry in moments.items():
            arrays |= {f"adam.{i}.{k}": v.numpy() for k, v in entry.items()}
        streams = []
        for i, env in enumerate(_envs(model)):
            stream, arrays[f"actions.{i}"] = env.state()
            streams.append(stream)
        # torch draws the actions, numpy's global stream the order of the batches.
        numpy = np.random.get_state(legacy=False)  # noqa: NPY002
        arrays["random.torch"] = torch.get_rng_state().numpy()
        arrays["random.numpy"] = numpy["state"].pop("key")
        arrays["starts.episode"] = model._last_episode_starts
        self._clock()
        note = {
            "history": self.history,
            "best": self.best_row,
            "references": self.references,
            "seconds": self.seconds,
            "streams": streams,
            "numpy": numpy,
        }
        self.work.save(model.num_timesteps, note, arrays)

    def _restore(self, model: sb3.PPO, note: dict[str, Any], arrays: Arrays) -> None:
        parts: dict[str, Arrays] = {}
        for name, value in arrays.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        model.policy.load_state_dict({k: torch.from_numpy(v) for k, v in parts["now"].items()})
        adam = model.policy.optimizer.state_dict()
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in parts["adam"].items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = torch.from_numpy(value)
        model.policy.optimizer.load_state_dict({**adam, "state": state})
        self.best = Network.from_arrays(parts["best"])
        self.history, self.best_row = note["history"], note["best"]
        self.references, self.seconds = note["references"], note["seconds"]
        model.num_timesteps = note["step"]
        # With an observation in hand stable-baselines3 continues from where the environments stand.
        model._last_obs = np.stack(
            [
                env.restore(stream, parts["actions"][str(i)])
                for i, (env, stream) in enumerate(zip(_envs(model), note["streams"], strict=True))
            ]
        )
        model._last_episode_starts = parts["starts"]["episode"]
        torch.set_rng_state(torch.from_numpy(parts["random"]["torch"]))
        numpy = note["numpy"]
        numpy["state"]["key"] = parts["random"]["numpy"]
        np.random.set_state(numpy)  # noqa: NPY002


class _Callback(BaseCallback):
    # A rollout starts right after an update: only then do weights and step count belong together.
    def __init__(self, update: Callable[[sb3.PPO], None]) -> None:
        super().__init__()
        self._update = update
        self._first = True

    def _on_rollout_start(self) -> None:
        if not self._first:
            self._update(self.model)
        self._first = False

    def _on_step(self) -> bool:
        return True


def _envs(model: sb3.PPO) -> list[Rewind]:
    vector: Any = model.env
    return list(vector.envs)


def _constant(action: npt.NDArray[np.float32], _state: object) -> npt.NDArray[np.float32]:
    return action


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


def export(model: sb3.PPO) -> Network:
    """Return the network of the policy's mean, copied out of torch."""
    linear = [m for m in model.policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
    linear.append(model.policy.action_net)
    return Network([(m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for m in linear])
