"""The Gymnasium environment ``mmsim/MarketMaking-v0``: one maker in one replayed market.

``import mmsim.env`` registers it; ``gymnasium.make("mmsim.env:mmsim/MarketMaking-v0", dataset="sim-rb")``
imports and makes it. It drives the same `Session` as `mmsim run` and quotes through the same `Quoter`
as the trained agent, so a policy meets the physics it was trained in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypedDict

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mmsim.agent import Observation
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError, did_you_mean
from mmsim.features import N_FEATURES
from mmsim.metrics.episode import EpisodeResult
from mmsim.metrics.ledger import fees_per_fill
from mmsim.metrics.value import MICRO, require_linear
from mmsim.play import episodes_of, record
from mmsim.quoting import N_ACTIONS, N_STATE, Quoter, QuoterSpec, scaling
from mmsim.runner import market_for
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.session import Session
from mmsim.types import Episode, MarketData

ENV_ID = "mmsim/MarketMaking-v0"
State = npt.NDArray[np.float32]


class Terms(TypedDict):
    """What one step adds to the ledger, in exact integers; every sum over the episode is a ledger quantity.

    Each is in ``info`` under the same name. The closing of the residual inventory belongs to the last step.
    """

    pnl_half_ticks: int  # change of 2 * cash + inventory * mid2; sums to ledger.pnl_half_ticks
    spread_capture: int  # half-ticks; sums to ledger.spread_capture
    inventory_revaluation: int  # half-ticks, pnl less spread capture; sums to ledger.inventory_revaluation
    inventory_gain: int  # half-ticks, the revaluation where positive: what the asymmetric reward dampens
    fees_micro: int  # micro-currency paid; sums to ledger.fees_paid
    traded_ticks: int  # tick-lots, sum of px * qty; sums to the traded value
    inventory_sq_ns: int  # lots^2 ns, integral of the squared inventory as of the step rows
    inventory_excess: int  # lots, |inventory| after the step where it is above the threshold, else 0


@dataclass(frozen=True)
class RewardSpec:
    """Which reward, and its weights. Weights are in ticks on one unit, whatever the scale.

    Parameters
    ----------
    name : {"pnl", "asymmetric", "inventory", "imm"}
        ``pnl``: change of wealth, marked to the mid, less fees. ``asymmetric`` (Spooner et al. 2018): less
        ``eta`` times what the inventory gained while the mid moved. ``inventory``: less ``phi * z^2 * dt``.
        ``imm`` (after Niu et al. 2024; form is mmsim's): plus ``beta`` times the traded value, less
        ``excess`` times |z| where that is above ``threshold_units``.
    scale : {"ticks", "half_ticks", "currency"}
        ``ticks``: 1 is one tick on one unit. ``half_ticks``: 1 is half a tick on one lot, so the ``pnl``
        rewards are whole numbers that sum to twice the ledger's cash. ``currency``: the instrument's.
    eta : float
        Share of the inventory's gains that does not count.
    phi : float
        Ticks per unit of inventory squared and second.
    beta : float
        Share of the traded value; far below a tick's share of the price, or it swamps everything.
    excess : float
        Ticks per unit of inventory and decision.
    threshold_units : float
        Inventory that is free of ``excess``, units.
    """

    name: str = "pnl"
    scale: str = "ticks"
    eta: float = 0.5
    phi: float = 0.001
    beta: float = 1e-6
    excess: float = 0.01
    threshold_units: float = 5.0

    def __post_init__(self) -> None:
        for what, value, known in (("reward", self.name, REWARDS), ("scale", self.scale, SCALES)):
            if value not in known:
                raise ConfigError(
                    f"unknown {what} {value!r}{did_you_mean(value, known)}; known: {', '.join(known)}"
                )
        weights = (self.eta, self.phi, self.beta, self.excess, self.threshold_units)
        if not all(math.isfinite(w) and w >= 0 for w in weights):
            raise ConfigError(f"reward: expected finite weights of at least 0, was {weights}")


# name -> what comes on top of the change of wealth, in ticks on one unit
REWARDS: Mapping[str, Callable[[Terms, RewardSpec, float], float]] = {
    "pnl": lambda _terms, _spec, _unit: 0.0,
    "asymmetric": lambda t, spec, unit: -spec.eta * t["inventory_gain"] / (2.0 * unit),
    "inventory": lambda t, spec, unit: -spec.phi * t["inventory_sq_ns"] / (1e9 * unit * unit),
    "imm": lambda t, spec, unit: (spec.beta * t["traded_ticks"] - spec.excess * t["inventory_excess"]) / unit,
}
SCALES = ("ticks", "half_ticks", "currency")


class MarketMakingEnv(gymnasium.Env[State, State]):
    """Quote one bid and one ask at every decision of an episode.

    Action: ``Box(-1, 1, (2,))``, offset and skew, see `mmsim.quoting.Quoter.quotes`. Observation:
    ``Box((26,))``, the scaled market features and our own state, see `mmsim.quoting.STATE`. An
    episode *terminates* at its end, when the residual inventory has been closed; it is never truncated.
    ``info`` holds the step's `Terms` and ``ts``, ``inventory``, ``mid2``, ``episode_index``.

    Parameters
    ----------
    dataset : str or MarketData
        A name of `mmsim.data.names`, or a market.
    split : {"train", "validation", "test"}
        Whose episodes are played.
    sim : SimConfig, optional
        Physics. ``latency.decision`` is in ns, not ``profile``.
    reward : str or RewardSpec
        Name of a reward, or its weights too.
    scale : str, optional
        Overrides the reward's scale.
    quoter : QuoterSpec, optional
        Range of the actions and scaling of the features. Default: measured on the first training episode.
    block_s : float, optional
        Play a random stretch of this many seconds of the episode; default the whole.

    Notes
    -----
    ``reset(seed=..., options={"episode": i})`` plays episode i of the split; without the option one is
    drawn. Everything is a function of the seed and the actions.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        dataset: str | MarketData,
        *,
        split: Literal["train", "validation", "test"] = "train",
        sim: SimConfig | None = None,
        reward: str | RewardSpec = "pnl",
        scale: str | None = None,
        quoter: QuoterSpec | None = None,
        block_s: float | None = None,
    ) -> None:
        market = market_for(dataset, sim, progress=False, calibrated=False)
        data = market.data
        require_linear(data.instrument, "the training environment")
        self.episodes = episodes_of(data, split, "to play")
        if block_s is not None and not block_s > 0:
            raise ConfigError(f"block_s: expected a positive number of seconds, was {block_s}")
        spec = reward if isinstance(reward, RewardSpec) else RewardSpec(reward)
        self.reward_spec = spec if scale is None else replace(spec, scale=scale)
        self.session = market.session
        self._latency = DecisionLatency.from_config(self.session.sim.latency)
        self.quoter = Quoter(quoter or default_quoter(self.session, self.episodes))
        self._block_ns = None if block_s is None else round(block_s * 1e9)
        self._extra = REWARDS[self.reward_spec.name]
        unit, tick_value = data.instrument.unit_lots, data.instrument.tick_value
        self._unit = float(unit)
        self._fee_ticks = 1.0 / (MICRO * tick_value * unit)
        fees = self.session.fees
        self._charged = any((fees.maker_rate, fees.taker_rate, fees.maker_per_lot, fees.taker_per_lot))
        # Half-ticks on one lot have their own factor: in that scale it is exactly 1.
        self._factor, self._half_tick = {
            "ticks": (1.0, 0.5 / unit),
            "half_ticks": (2.0 * unit, 1.0),
            "currency": (tick_value * unit, 0.5 * tick_value),
        }[self.reward_spec.scale]
        self._threshold = self.reward_spec.threshold_units * unit
        low = np.full(N_STATE, -1.0, np.float32)
        low[:N_FEATURES] = -self.quoter.spec.clip
        self.observation_space = spaces.Box(low, -low, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (N_ACTIONS,), np.float32)
        self._obs: Observation | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[State, dict[str, Any]]:
        """Start an episode: ``options["episode"]`` of the split, or a random one.

        Raises
        ------
        ConfigError
            If there is no such episode, or no decision in it.
        """
        super().reset(seed=seed)
        chosen = dict(options or {})
        index = chosen.pop("episode", None)
        if chosen:
            raise ConfigError(f"reset: unknown option {next(iter(chosen))!r}; known: episode")
        n = len(self.episodes)
        if index is not None and not (isinstance(index, int | np.integer) and 0 <= index < n):
            raise ConfigError(f"reset: expected an episode from 0 to {n - 1}, was {index!r}")
        for _ in range(64):
            self._index = int(self.np_random.integers(n)) if index is None else int(index)
            self.episode = self._stretch(self.episodes[self._index])
            self.quoter.reset(self.session.context(self.episode, self._index))
            self._latency.start(self.session.seed, self._index)
            self._obs = self.session.start(self.episode, index=self._index)
            if self._obs is not None:
                break
            if index is not None and self._block_ns is None:
                break
        if self._obs is None:
            raise ConfigError(f"{self.session.data.name}: no decision in episode {self._index}")
        session = self.session
        self._wealth = 2 * session.cash + session.inventory * session.mid2
        self._n_fills, self._n_steps = len(session.fills), len(session.steps)
        self._state = self.quoter.state(self._obs)
        return self._state, self._info()

    def step(self, action: State) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Quote as `action` says until the next decision.

        Raises
        ------
        AgentError
            If the action is not finite.
        """
        before = self._obs
        if before is None:
            raise ConfigError("step: the episode is over or never began: call reset()")
        try:
            quotes = self.quoter.quotes(action, before)
        except ValueError as err:
            raise AgentError(str(err), agent=ENV_ID, decision=before.step, ts=before.ts) from None
        self._obs = obs = self.session.step(quotes, self._latency.draw())
        self._state = Quoter.final_state(self._state) if obs is None else self.quoter.state(obs)
        terms = self._terms(self.episode.end_ts if obs is None else obs.ts)
        extra = self._extra(terms, self.reward_spec, self._unit) - terms["fees_micro"] * self._fee_ticks
        reward = terms["pnl_half_ticks"] * self._half_tick + extra * self._factor
        return self._state, reward, obs is None, False, {**terms, **self._info()}

    def result(self, name: str = ENV_ID) -> EpisodeResult:
        """Return the ledger of the episode just ended, named after agent `name`."""
        if self._obs is not None:
            raise ConfigError("result: the episode is not over")
        nobody: Any = name  # no agent ran: the session only asks for its name
        return replace(self.session.result(nobody, self.episode, self._index), agent=name)

    def _terms(self, now: int) -> Terms:
        session = self.session
        inventory = session.inventory
        wealth = 2 * session.cash + inventory * session.mid2
        pnl, self._wealth = wealth - self._wealth, wealth
        edge = traded = paid = 0
        fills = session.fills
        if len(fills) > self._n_fills:
            new, self._n_fills = fills[self._n_fills :], len(fills)
            px, qty = new["px"].astype(np.int64), new["qty"].astype(np.int64)
            edge = int(np.dot(new["side"] * qty, new["mid2"] - 2 * px))
            traded = int(np.dot(px, qty))
            if self._charged:
                paid = int(fees_per_fill(new, session.data.instrument, session.fees).sum())
        rows = session.steps[self._n_steps :]
        self._n_steps += len(rows)
        ends = [*rows["ts"].tolist()[1:], now]
        squares = 0
        for ts, held, end in zip(rows["ts"].tolist(), rows["inventory"].tolist(), ends, strict=True):
            squares += held * held * (end - ts)
        moved = pnl - edge
        return {
            "pnl_half_ticks": pnl,
            "spread_capture": edge,
            "inventory_revaluation": moved,
            "inventory_gain": max(moved, 0),
            "fees_micro": paid,
            "traded_ticks": traded,
            "inventory_sq_ns": squares,
            "inventory_excess": abs(inventory) if abs(inventory) > self._threshold else 0,
        }

    def _info(self) -> dict[str, Any]:
        session = self.session
        return {
            "ts": self.episode.end_ts if self._obs is None else self._obs.ts,
            "inventory": session.inventory,
            "mid2": session.mid2,
            "episode_index": self._index,
        }

    def _stretch(self, whole: Episode) -> Episode:
        # A random block that starts on the episode's decision grid.
        spare = 0 if self._block_ns is None else whole.end_ts - whole.start_ts - self._block_ns
        if self._block_ns is None or spare <= 0:
            return whole
        grid = self.session.decision_ns or 1
        start = whole.start_ts + int(self.np_random.integers(spare // grid + 1)) * grid
        return Episode(whole.segment, start, start + self._block_ns)


def default_quoter(session: Session, episodes: tuple[Episode, ...]) -> QuoterSpec:
    """Return a spec whose features are scaled by the first training episode (else the first of `episodes`)."""
    first = (session.data.splits.get("train") or episodes)[0]
    recorded = list(record(session.data, [first], session.sim))
    mean, std = scaling(recorded, session.data.instrument.unit_lots)
    return QuoterSpec(mean=mean, std=std)


if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="mmsim.env:MarketMakingEnv", disable_env_checker=True)
