"""From an observation to a policy's input vector, and from its action to quotes.

The Gymnasium environment and the trained policy's agent both use this one `Quoter`, so that what was
learned is what runs. It needs neither gymnasium nor torch, and the result depends on nothing but the
decisions of the episode so far: scaling is fixed before training and travels with the policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.agent import Observation, Quotes, SessionContext, to_ticks, within_limits
from mmsim.errors import ConfigError
from mmsim.features import FEATURES, N_FEATURES, FeatureWindow, feature_rows

PRIVATE: tuple[str, ...] = (
    "inventory",  # acknowledged inventory / limit, [-1, 1]
    "time_left",  # to the end of the episode / `closing_decisions`, at most 1
    "own_bid_offset",  # best bid - own bid, in ticks / (max_offset + max_skew), [-1, 1]; 1 without a bid
    "own_bid_queue",  # lots ahead of our bid / lots shown there, [0, 1]; 1 behind the touch or without a bid
    "own_ask_offset",
    "own_ask_queue",
)
STATE: tuple[str, ...] = FEATURES + PRIVATE
N_STATE = len(STATE)
ACTIONS: tuple[str, ...] = ("offset", "skew")
N_ACTIONS = len(ACTIONS)
_TINY = 1e-6  # a feature that varies less is constant and keeps its scale


@dataclass(frozen=True)
class QuoterSpec:
    """Constants of a `Quoter`; stored with every trained policy.

    Parameters
    ----------
    max_offset_ticks, max_skew_ticks : float
        Offset behind the best quotes and shift of both quotes at an action of 1, ticks.
    size_units : int
        Quantity on each side, units.
    closing_decisions : int
        The time left is seen only during this many usual decision intervals before the end.
    lean_ticks : float
        Shift of both quotes against the inventory that is there before the policy's own skew, ticks at
        the inventory limit; 0: the policy alone answers for the inventory.
    clip : float
        Bound of the scaled market features.
    mean, std : tuple of float
        Of the market features on training data, ``N_FEATURES`` each; empty: 0 and 1.
    """

    max_offset_ticks: float = 3.0
    max_skew_ticks: float = 3.0
    size_units: int = 1
    closing_decisions: int = 100
    lean_ticks: float = 0.0
    clip: float = 5.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        positive = (
            self.max_offset_ticks,
            self.max_skew_ticks,
            self.size_units,
            self.closing_decisions,
            self.clip,
        )
        if not all(math.isfinite(x) and x > 0 for x in positive):
            raise ConfigError(f"quoter: expected positive constants, was {positive}")
        if not (math.isfinite(self.lean_ticks) and self.lean_ticks >= 0):
            raise ConfigError(f"quoter: expected a lean of at least 0 ticks, was {self.lean_ticks}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, N_FEATURES):
                raise ConfigError(
                    f"quoter: expected {N_FEATURES} values of {name}, was {len(values)}: the policy was "
                    "trained on other features, train it again"
                )
        if not all(s > 0 for s in self.std):
            raise ConfigError("quoter: expected positive standard deviations")

    def to_dict(self) -> dict[str, Any]:
        """Return the constants as plain data for a checkpoint's card, with the features' names."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std), "state": list(STATE)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QuoterSpec:
        """Read what `to_dict` wrote.

        Raises
        ------
        ConfigError
            If a value is missing or unknown, or the policy was trained on other features.
        """
        fields: dict[str, Any] = dict(values)
        state = fields.pop("state", None)
        if state != list(STATE):
            raise ConfigError("quoter: the policy was trained on other features, train it again")
        try:
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            return cls(**plain)
        except TypeError as err:
            raise ConfigError(f"quoter: {err}") from None


def scaling(episodes: list[npt.NDArray[np.void]], unit: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the market features.

    Parameters
    ----------
    episodes : list of (n,) OBSERVATION
        Recorded observations (`Session.record`), one array per episode.
    unit : int
        Usual order size, lots.

    Returns
    -------
    mean, std : tuple of float
        ``N_FEATURES`` each, rounded to six digits; the deviation of a constant feature is 1.
    """
    rows = [feature_rows(raw, unit) for raw in episodes if len(raw)]
    if not rows:
        raise ConfigError("scaling: expected at least one decision to measure features on, was none")
    table = np.concatenate(rows).astype(np.float64)
    std = table.std(axis=0)
    std[std < _TINY] = 1.0
    return _rounded(table.mean(axis=0)), _rounded(std)


def _rounded(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{v:.6g}") for v in values)


class Quoter:
    """Input vectors and quotes of one policy through one episode.

    Parameters
    ----------
    spec : QuoterSpec
        Constants.
    """

    def __init__(self, spec: QuoterSpec) -> None:
        self.spec = spec
        self._mean = np.array(spec.mean or np.zeros(N_FEATURES), np.float32)
        self._scale = (1.0 / np.array(spec.std or np.ones(N_FEATURES))).astype(np.float32)
        self._reach = spec.max_offset_ticks + spec.max_skew_ticks

    def reset(self, ctx: SessionContext) -> None:
        """Start an episode."""
        self._ctx = ctx
        self._window = FeatureWindow(ctx.unit, 1)
        self._closing_ns = self.spec.closing_decisions * ctx.typical_decision_ns
        self._size = self.spec.size_units * ctx.unit
        self._limit = max(ctx.max_inventory, 1)

    def state(self, obs: Observation) -> npt.NDArray[np.float32]:
        """Take in the newest decision and return the input vector, ``(N_STATE,)`` as named by `STATE`.

        To be called once at every decision, in order: some features remember.
        """
        window = self._window
        window.push(obs.record)
        out = np.empty(N_STATE, np.float32)
        market = out[:N_FEATURES]
        np.subtract(window.last, self._mean, out=market)
        np.multiply(market, self._scale, out=market)
        clip = self.spec.clip
        np.minimum(np.maximum(market, -clip, out=market), clip, out=market)
        best = (obs.bid_px, obs.ask_px)
        shown = (obs.bid_qty, obs.ask_qty)
        offset, queue = [1.0, 1.0], [1.0, 1.0]
        for _id, ahead, px, _qty, side, _live, _pad in obs.orders.tolist():
            i = 0 if side > 0 else 1
            behind = side * (best[i] - px)  # ticks behind the touch; negative: we improve it
            offset[i] = max(-1.0, min(behind / self._reach, 1.0))
            if behind < 0:
                queue[i] = 0.0
            elif behind == 0:
                queue[i] = min(ahead / shown[i], 1.0) if shown[i] > 0 else 0.0
            else:
                queue[i] = 1.0
        out[N_FEATURES:] = (
            max(-1.0, min(obs.inventory / self._limit, 1.0)),
            max(0.0, min(obs.time_left_ns / self._closing_ns, 1.0)),
            offset[0],
            queue[0],
            offset[1],
            queue[1],
        )
        return out

    @staticmethod
    def final_state(last: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the input vector after the end: the `last` market, flat, no time left and no orders."""
        out = last.copy()
        out[N_FEATURES:] = (0.0, 0.0, 1.0, 1.0, 1.0, 1.0)
        return out

    def quotes(self, action: npt.NDArray[np.floating[Any]], obs: Observation) -> Quotes:
        """Turn an action into one quote per side, as far as the limits allow.

        Parameters
        ----------
        action : (N_ACTIONS,) float
            Each in [-1, 1] (cut to it). ``offset`` 0 is the best quotes, 1 is ``max_offset_ticks`` behind
            them, -1 is inside the spread, one tick apart around the mid. ``skew`` shifts both quotes by
            its multiple of ``max_skew_ticks``: positive leans towards buying; ``lean_ticks`` comes on top. Prices are rounded to
            the nearest tick, halves towards the market.

        Raises
        ------
        ValueError
            If the action is not finite.

        Examples
        --------
        With a bid of 100 and an ask of 101, action (0, 0) quotes 100 and 101; (1, 0) with the default
        constants 97 and 104; (0, -1) 97 and 101, for an ask stays above the best bid.
        """
        # In this order of arguments a NaN passes through, and to_ticks refuses it.
        a, b = max(min(float(action[0]), 1.0), -1.0), max(min(float(action[1]), 1.0), -1.0)
        spec = self.spec
        bid, ask = obs.bid_px, obs.ask_px
        offset = a * spec.max_offset_ticks if a > 0.0 else 0.5 * a * (ask - bid - 1)
        skew = b * spec.max_skew_ticks - spec.lean_ticks * obs.inventory / self._limit
        bid_px = min(to_ticks(bid - offset + skew + 0.5, 1), ask - 1)
        ask_px = max(to_ticks(ask + offset + skew - 0.5, -1), bid + 1)
        # Inside a wide spread two halves may meet at one tick.
        return within_limits(bid_px, max(ask_px, bid_px + 1), self._size, obs, self._ctx)
