"""Ridge regression for many penalties and many targets from one eigendecomposition."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

PENALTIES = tuple(10.0**k for k in range(7))  # beside a Gram matrix of n standardised rows


def one_thread() -> AbstractContextManager[object]:
    """Keep the linear algebra inside the block on one thread, where threadpoolctl is there to do so.

    The sums then come out the same on any machine, and two threads that wait for each other on a busy
    one were measured at a fraction of one thread's speed.
    """
    if importlib.util.find_spec("threadpoolctl") is None:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


class RidgePath:
    """All ridge solutions of ``min |Y - X W - b|^2 + penalty |W|^2``; the intercept is free.

    Parameters
    ----------
    x : (n, d) array
        Inputs.
    y : (n, t) array
        Targets.
    penalties : sequence of float
        Candidates, positive.
    """

    def __init__(self, x: npt.NDArray[np.floating], y: F64, penalties: Sequence[float] = PENALTIES) -> None:
        x64 = np.asarray(x, np.float64)
        self.penalties = np.asarray(penalties, np.float64)
        self._x_mean, self._y_mean = x64.mean(0), y.mean(0)
        centred = x64 - self._x_mean
        values, self._vectors = np.linalg.eigh(centred.T @ centred)
        self._values = np.maximum(values, 0.0)
        self._scores: F64 = self._vectors.T @ (centred.T @ (y - self._y_mean))

    def _solve(self, penalty: F64 | float) -> F64:
        scaled: F64 = self._scores / (self._values[:, None] + penalty)
        return scaled

    def choose(self, x: npt.NDArray[np.floating], y: F64) -> tuple[F64, F64]:
        """Choose the penalty per target on other data.

        Returns
        -------
        penalty, mse : (t,) float64
            The best candidate of each target and its mean squared error on `x`, `y`.
        """
        turned = (np.asarray(x, np.float64) - self._x_mean) @ self._vectors
        wanted = y - self._y_mean
        errors = np.stack([((turned @ self._solve(p) - wanted) ** 2).mean(0) for p in self.penalties])
        best = errors.argmin(0)
        return self.penalties[best], errors[best, np.arange(y.shape[1])]

    def weights(self, penalty: F64 | float) -> tuple[F64, F64]:
        """Return ``W`` (d, t) and the intercept ``b`` (t,) at one penalty (or one per target)."""
        w: F64 = self._vectors @ self._solve(penalty)
        return w, self._y_mean - self._x_mean @ w

    def predict(self, x: npt.NDArray[np.floating], penalty: F64 | float) -> F64:
        """Predict ``(n, t)`` at one penalty (or one per target)."""
        w, b = self.weights(penalty)
        return np.asarray(x, np.float64) @ w + b


def r_squared(mse: F64, variance: F64) -> F64:
    """Return ``1 - mse / variance``; NaN where the target does not move and R2 has no meaning.

    >>> r_squared(np.array([0.25, 1.0]), np.array([1.0, 0.0])).tolist()
    [0.75, nan]
    """
    moves = variance > 0
    ratio: F64 = np.divide(
        mse, variance, out=np.full(np.broadcast_shapes(mse.shape, variance.shape), np.nan), where=moves
    )
    return 1.0 - ratio


def standardise(
    hidden: npt.NDArray[np.floating], rows: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return mean and standard deviation over samples of ``(n, L, d)`` states, each ``(L, d)`` float32.

    The deviation is infinite where a dimension does not move, so that dividing by it gives 0.
    Worked layer by layer: the states may be a memory map larger than one wants in memory.
    """
    n_layers, width = hidden.shape[1:]
    mu, sigma = np.empty((n_layers, width), np.float32), np.empty((n_layers, width), np.float32)
    for layer in range(n_layers):
        block = np.asarray(hidden[:, layer] if rows is None else hidden[rows, layer], np.float64)
        mu[layer] = block.mean(0)
        std = block.std(0)
        sigma[layer] = np.where(std > 1e-6 * (1.0 + np.abs(mu[layer])), std, np.inf)
    return mu, sigma


def apply_standard(
    hidden: npt.NDArray[np.floating], mu: npt.NDArray[np.float32], sigma: npt.NDArray[np.float32]
) -> npt.NDArray[np.float16]:
    """Return ``(hidden - mu) / sigma`` as float16, ``(n, L, d)``."""
    out = np.empty(hidden.shape, np.float16)
    for layer in range(hidden.shape[1]):
        z = (np.asarray(hidden[:, layer], np.float32) - mu[layer]) / sigma[layer]
        out[:, layer] = np.clip(z, -1e4, 1e4)
    return out
