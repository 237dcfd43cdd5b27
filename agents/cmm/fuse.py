"""The fusion of one decision's predictions in one kernel call."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class Tables(NamedTuple):
    """How the M / 3 experts of each task are fused.

    Attributes
    ----------
    width, inv_tau : (3,)
        Kernel width s and 1 / tau of each task; ``inv_tau = 0`` ignores the consensus.
    prior : (3, 3, M / 3)
        Additive logits b by regime and task, the experts in the order of m.
    """

    width: F64
    inv_tau: F64
    prior: F64


@kernel
def _square_distance(a: F32, b: F32) -> float:
    # Four independent sums: one alone would wait for every addition.
    zero = np.float32(0.0)
    s0, s1, s2, s3 = zero, zero, zero, zero
    n = a.shape[0]
    j = 0
    while j + 4 <= n:
        d0, d1, d2, d3 = a[j] - b[j], a[j + 1] - b[j + 1], a[j + 2] - b[j + 2], a[j + 3] - b[j + 3]
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
        j += 4
    while j < n:
        d0 = a[j] - b[j]
        s0 += d0 * d0
        j += 1
    return float((s0 + s1) + (s2 + s3))


@kernel
def fuse(z: F32, y: F64, tables: Tables, regime: int, weights: F64, fused: F64) -> None:
    """Hajek-MoE of one decision (mmsim's reconstruction; `hajek.hajek_moe` is the readable form).

    Parameters
    ----------
    z : (M, d) float32
        Features in the common space, any length; normalised here, in place.
    y : (M, 1) float64
        Predictions; expert m works on task ``(m // 3) % 3``.
    tables : Tables
        The fusion of each task.
    regime : int
        Volatility regime of the decision.
    weights : (3, M / 3)
        Written: the mixture weights.
    fused : (3,)
        Written: the mixture of the predictions.
    """
    n_task = fused.shape[0]
    n = z.shape[0] // n_task
    d = z.shape[1]
    for m in range(z.shape[0]):
        total = 0.0
        for j in range(d):
            total += z[m, j] * z[m, j]
        scale = np.float32(1.0 / math.sqrt(total)) if total > 0.0 else np.float32(0.0)
        for j in range(d):
            z[m, j] *= scale
    for c in range(n_task):
        logits = weights[c]
        for i in range(n):
            logits[i] = 0.0
        if tables.inv_tau[c] > 0.0:
            inv = -0.5 / (tables.width[c] * tables.width[c])
            for i in range(n):
                a = z[(i // 3) * 3 * n_task + 3 * c + i % 3]
                for k in range(i):
                    b = z[(k // 3) * 3 * n_task + 3 * c + k % 3]
                    value = math.exp(inv * _square_distance(a, b))
                    logits[i] += value
                    logits[k] += value
        top = -np.inf
        for i in range(n):
            logits[i] = logits[i] / (n - 1) * tables.inv_tau[c] + tables.prior[regime, c, i]
            top = max(top, logits[i])
        total = 0.0
        for i in range(n):
            logits[i] = math.exp(logits[i] - top)
            total += logits[i]
        fused[c] = 0.0
        for i in range(n):
            logits[i] /= total
            fused[c] += logits[i] * y[(i // 3) * 3 * n_task + 3 * c + i % 3, 0]
