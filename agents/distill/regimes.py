"""Volatility regimes: terciles of trailing realised volatility, thresholds from the training split.

Only the past enters: the value at decision t uses mid moves up to and including t. The trailing
volatility is the root of the exponentially weighted mean square of the mid move, with the usual
span-to-rate rule, so it costs one multiplication at a live decision and its values do not tie (a
hard window of a market that rarely moves is exactly zero most of the time, and has no terciles).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmsim.agent import O_ASK_PX, O_BID_PX
from mmsim.errors import ConfigError

WINDOW = 100  # default span, decisions


def trailing_volatility(raw: npt.NDArray[np.int64], window: int = WINDOW) -> npt.NDArray[np.float64]:
    """Return the trailing realised volatility of one episode.

    Parameters
    ----------
    raw : (n, OBS_SIZE) int64
        Raw observations of consecutive decisions of ONE episode.
    window : int
        Span of the weights, decisions: rate ``a = 2 / (window + 1)``.

    Returns
    -------
    (n,) float64
        ``sqrt(m_t)`` in ticks per decision, ``m_t = (1 - a) m_{t-1} + a * move_t^2``, divided by
        ``1 - (1 - a)^t`` so that the early values are unbiased; 0 at the first decision.
    """
    if window < 1:
        raise ConfigError(f"volatility window: expected at least 1 decision, was {window}")
    mid2 = raw[:, O_BID_PX] + raw[:, O_ASK_PX]
    square = (np.diff(mid2) * 0.5) ** 2
    out = np.zeros(len(raw))
    keep = 1.0 - 2.0 / (window + 1.0)
    mean, weight = 0.0, 0.0
    for t, value in enumerate(square.tolist(), start=1):
        mean = keep * mean + (1.0 - keep) * value
        weight = keep * weight + (1.0 - keep)
        out[t] = mean / weight
    return np.sqrt(out)


def thresholds(
    raw_per_episode: Sequence[npt.NDArray[np.int64]], window: int = WINDOW
) -> npt.NDArray[np.float64]:
    """Return the two tercile thresholds of the trailing volatility, from the TRAIN episodes.

    Returns
    -------
    (2,) float64
        Ticks per decision, ascending.
    """
    values = [trailing_volatility(raw, window)[1:] for raw in raw_per_episode if len(raw) > 1]
    if not values:
        raise ConfigError("volatility thresholds: expected an episode of at least 2 decisions, was none")
    return np.quantile(np.concatenate(values), [1.0 / 3.0, 2.0 / 3.0])


def regimes(
    raw_per_episode: Sequence[npt.NDArray[np.int64]],
    limits: npt.NDArray[np.float64],
    window: int = WINDOW,
) -> list[npt.NDArray[np.int8]]:
    """Return 0 (low), 1 (mid) or 2 (high) for every decision of every episode.

    Parameters
    ----------
    raw_per_episode : sequence of (n_i, OBS_SIZE) int64
        Raw observations.
    limits : (2,) float64
        From `thresholds`: low is ``<= limits[0]``, high is ``> limits[1]``.
    window : int
        Span the thresholds were made with, decisions.
    """
    return [
        np.searchsorted(limits, trailing_volatility(raw, window), side="left").astype(np.int8)
        for raw in raw_per_episode
    ]
