"""A wrapper that can bring a new environment to exactly the same place in the middle of an episode."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from mmsim.env import MarketMakingEnv, State
from mmsim.quoting import N_ACTIONS


class Rewind(gymnasium.Wrapper[State, State, State, State]):
    """Remember what the current episode follows from: the random stream at its reset, and its actions.

    The environment is a function of these two, so playing the actions again leads to the same place: nothing
    of a session's inside has to be stored.
    """

    unwrapped: MarketMakingEnv

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[State, dict[str, Any]]:
        """Start an episode, as the environment does."""
        base = self.unwrapped
        if seed is not None:
            base.np_random, _ = seeding.np_random(seed)  # what the environment itself makes of a seed
        self._stream = base.np_random.bit_generator.state
        self._actions: list[State] = []
        begun: tuple[State, dict[str, Any]] = self.env.reset(options=options)
        return begun

    def step(self, action: State) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Do one step, as the environment does."""
        self._actions.append(np.array(action, np.float32))
        done: tuple[State, float, bool, bool, dict[str, Any]] = self.env.step(action)
        return done

    def state(self) -> tuple[dict[str, Any], npt.NDArray[np.float32]]:
        """Return the state of the random stream at the last reset, and the actions since, ``(n, N_ACTIONS)``."""
        return dict(self._stream), np.array(self._actions, np.float32).reshape(-1, N_ACTIONS)

    def restore(self, stream: dict[str, Any], actions: npt.NDArray[np.float32]) -> State:
        """Go to where `state` was taken and return what the policy sees there."""
        self.unwrapped.np_random, _ = seeding.np_random(0)
        self.unwrapped.np_random.bit_generator.state = stream
        seen, _ = self.reset()
        for action in actions:
            seen, *_ = self.step(action)
        return seen
