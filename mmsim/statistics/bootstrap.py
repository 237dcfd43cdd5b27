"""Bootstrap intervals: over rows that are drawn one by one, and over blocks of time that are drawn whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 2_000
SEED = 20_210_104

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean and its 95 % bootstrap interval over blocks."""

    value: float
    low: float
    high: float


def bootstrap_ci(
    values: Sequence[float] | Floats,
    statistic: Callable[[Floats], Floats] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of a statistic of `values`, whose rows are drawn again.

    Parameters
    ----------
    values : array, shape (n,) or (n, k)
        One number, or one row of numbers, per unit that is drawn (an episode, a block of time); nan entries of an
        (n,) array are left out.
    statistic : callable, optional
        Maps ``(resamples, n)`` or ``(resamples, n, k)`` to ``(resamples,)``; default the mean.
    level : float
        Coverage.
    seed : int
        Of the resampling: the same input gives the same interval.

    Returns
    -------
    tuple of float
        Low and high end; ``(nan, nan)`` for fewer than two rows, which say nothing about their spread.

    Examples
    --------
    >>> bootstrap_ci([2.0, 2.0, 2.0])
    (2.0, 2.0)
    >>> bootstrap_ci([2.0])
    (nan, nan)
    """
    data = np.asarray(values, np.float64)
    if data.ndim == 1:
        data = data[~np.isnan(data)]
    if len(data) < 2:
        return math.nan, math.nan
    rows = np.random.default_rng(seed).integers(0, len(data), (resamples, len(data)))
    drawn = data[rows]
    stats = drawn.mean(axis=1) if statistic is None else statistic(drawn)
    stats = stats[~np.isnan(stats)]
    if len(stats) == 0:
        return math.nan, math.nan
    low, high = np.quantile(stats, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_over_blocks(values: Floats, block: Ints) -> Estimate:
    """Return the mean of `values` and its interval when whole blocks are drawn again; nan without values.

    Parameters
    ----------
    values : (n,) float64
    block : (n,) int64
        Number of the block that each value belongs to, from 0: values of one block depend on each other.
    """
    if len(values) == 0:
        return Estimate(np.nan, np.nan, np.nan)
    n = int(block.max()) + 1
    sums = np.column_stack(
        [np.bincount(block, values, n), np.bincount(block, minlength=n).astype(np.float64)]
    )
    return Estimate(float(values.mean()), *bootstrap_ci(sums, ratio_of_sums))


def ratio_of_sums(drawn: Floats) -> Floats:
    """Return the sum of the first column over that of the second for each resample, ``(resamples, n, 2)``.

    nan where the second sum is not above 0.
    """
    total = drawn.sum(axis=1)
    out = np.full(len(drawn), np.nan)
    some = total[:, 1] > 0
    out[some] = total[some, 0] / total[some, 1]
    return out
