"""Volatility regimes: terciles of trailing realised volatility, thresholds from the training split.

Only the past enters: the value at decision t uses mid moves up to and including t. The trailing
volatility is the root of the exponentially weighted mean square of the mid move, with the usual
span-to-rate rule. So it costs one multiplication at a live decision, and its values do not tie: over
a hard window, a market that rarely moves has a volatility of exactly zero most of the time, and no terciles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError

REGIMES = ("low", "mid", "high")  # order of every regime axis
N_REGIMES = len(REGIMES)
SPAN = 100  # usual span of the weights, decisions


def trailing_volatility(raw: npt.NDArray[np.void], span: int = SPAN) -> npt.NDArray[np.float64]:
    """Return the trailing realised volatility of one episode.

    Parameters
    ----------
    raw : (n,) OBSERVATION
        Observations of consecutive decisions of ONE episode.
    span : int
        Span of the weights, decisions: rate ``a = 2 / (span + 1)``.

    Returns
    -------
    (n,) float64
        ``sqrt(m_t)`` in ticks per decision, ``m_t = (1 - a) m_{t-1} + a * move_t^2``, divided by
        ``1 - (1 - a)^t`` so that the early values are unbiased; 0 at the first decision.
    """
    if span < 1:
        raise ConfigError(f"volatility span: expected at least 1 decision, was {span}")
    mid2 = raw["bid_px"] + raw["ask_px"]
    square = (np.diff(mid2) * 0.5) ** 2
    out = np.zeros(len(raw))
    keep = 1.0 - 2.0 / (span + 1.0)
    mean, weight = 0.0, 0.0
    for t, value in enumerate(square.tolist(), start=1):
        mean = keep * mean + (1.0 - keep) * value
        weight = keep * weight + (1.0 - keep)
        out[t] = mean / weight
    return np.sqrt(out)


def thresholds(raw_per_episode: Sequence[npt.NDArray[np.void]], span: int = SPAN) -> npt.NDArray[np.float64]:
    """Return the two tercile thresholds of the trailing volatility, from the TRAIN episodes.

    Returns
    -------
    (2,) float64
        Ticks per decision, ascending.
    """
    values = [trailing_volatility(raw, span)[1:] for raw in raw_per_episode if len(raw) > 1]
    if not values:
        raise ConfigError("volatility thresholds: expected an episode of at least 2 decisions, was none")
    return np.quantile(np.concatenate(values), [1.0 / 3.0, 2.0 / 3.0])


def regimes(
    raw_per_episode: Sequence[npt.NDArray[np.void]],
    limits: npt.NDArray[np.float64],
    span: int = SPAN,
) -> list[npt.NDArray[np.int8]]:
    """Return 0 (low), 1 (mid) or 2 (high) for every decision of every episode.

    Parameters
    ----------
    raw_per_episode : sequence of (n_i,) OBSERVATION
        Observations.
    limits : (2,) float64
        From `thresholds`: low is ``<= limits[0]``, high is ``> limits[1]``.
    span : int
        Span that the thresholds were made with, decisions.
    """
    return [
        np.searchsorted(limits, trailing_volatility(raw, span), side="left").astype(np.int8)
        for raw in raw_per_episode
    ]
