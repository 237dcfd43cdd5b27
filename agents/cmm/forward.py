"""One decision of a student ensemble in one kernel call: features, students, fusion.

The students are causal: a shared-input convolution over patches of ``PATCH`` decisions, a second
one over patches ``PATCH`` decisions apart, and an MLP. The first layer's output for a decision
serves five later decisions, so it is kept in a ring and computed once. Every product is
accumulated over the outputs ("axpy form"), which vectorises without reordering a sum; inputs that
the ReLU set to zero are skipped, which halves the memory traffic. float32 throughout.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.features.kernels import feature_step

PATCH = 4  # decisions in a patch of the first layer, and the step of the second
WINDOW = 20  # decisions seen in all = PATCH * taps of the second layer
CLIP = 6.0  # standardised features are bounded by this

# Integer state: position in the rings, decisions seen, regime of the newest decision.
I_POS, I_COUNT, I_REGIME, I_SIZE = range(4)
# Float state beyond the features': mean square of the mid move, its weight, the last mid.
V_MEAN, V_WEIGHT, V_MID, V_SIZE = range(4)

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@kernel
def affine(x: F32, w: F32, b: F32, scratch: npt.NDArray[np.int64], out: F32) -> None:
    """``out = b + x @ w`` with `x` ``(n,)``, `w` ``(n, m)``; zeros of `x` cost nothing."""
    m = out.shape[0]
    k = 0
    for i in range(x.shape[0]):
        if x[i] != 0.0:
            scratch[k] = i
            k += 1
    for j in range(m):
        out[j] = b[j]
    p = 0
    while p + 4 <= k:
        i0, i1, i2, i3 = scratch[p], scratch[p + 1], scratch[p + 2], scratch[p + 3]
        x0, x1, x2, x3 = x[i0], x[i1], x[i2], x[i3]
        w0, w1, w2, w3 = w[i0], w[i1], w[i2], w[i3]
        for j in range(m):
            out[j] += (x0 * w0[j] + x1 * w1[j]) + (x2 * w2[j] + x3 * w3[j])
        p += 4
    while p < k:
        x0 = x[scratch[p]]
        w0 = w[scratch[p]]
        for j in range(m):
            out[j] += x0 * w0[j]
        p += 1


@kernel
def _relu(x: F32) -> None:
    zero = np.float32(0.0)
    for j in range(x.shape[0]):
        x[j] = max(x[j], zero)


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
def fuse(z: F32, y: F64, width: F64, inv_tau: F64, prior: F64, weights: F64, fused: F64) -> None:
    """Hajek-MoE of one decision (mmsim's reconstruction; `hajek.hajek_moe` is the readable form).

    Parameters
    ----------
    z : (M, d) float32
        Features in the common space, any length; normalised here, in place.
    y : (M, 1) float64
        Predictions; expert m works on task ``(m // 3) % 3``.
    width, inv_tau : (3,)
        Kernel width s and 1 / tau of each task; ``inv_tau = 0`` ignores the consensus.
    prior : (3, M / 3)
        Additive logits b of the experts of each task, in the order of m.
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
        if inv_tau[c] > 0.0:
            inv = -0.5 / (width[c] * width[c])
            for i in range(n):
                a = z[(i // 3) * 3 * n_task + 3 * c + i % 3]
                for k in range(i):
                    b = z[(k // 3) * 3 * n_task + 3 * c + k % 3]
                    value = math.exp(inv * _square_distance(a, b))
                    logits[i] += value
                    logits[k] += value
        top = -np.inf
        for i in range(n):
            logits[i] = logits[i] / (n - 1) * inv_tau[c] + prior[c, i]
            top = max(top, logits[i])
        total = 0.0
        for i in range(n):
            logits[i] = math.exp(logits[i] - top)
            total += logits[i]
        fused[c] = 0.0
        for i in range(n):
            logits[i] /= total
            fused[c] += logits[i] * y[(i // 3) * 3 * n_task + 3 * c + i % 3, 0]


@kernel
def decide(
    raw: npt.NDArray[np.int64],
    unit: float,
    ints: npt.NDArray[np.int64],
    vstate: F64,
    fstate: F64,
    xring: F32,
    uring: F32,
    keep: float,
    thresholds: F64,
    mean: F32,
    inv_std: F32,
    w1: F32,
    b1: F32,
    w2: F32,
    b2: F32,
    w3: F32,
    b3: F32,
    wz: F32,
    bz: F32,
    wy: F32,
    by: F32,
    scale: F64,
    width: F64,
    inv_tau: F64,
    prior: F64,
    scratch: npt.NDArray[np.int64],
    z: F32,
    y: F64,
    weights: F64,
    fused: F64,
) -> bool:
    """Take in one observation; once the window is full, write the fused predictions.

    Parameters
    ----------
    raw : (OBS_SIZE,) int64
        Observation vector.
    ints, vstate, fstate, xring, uring
        State, all zero at the start of an episode: ``(I_SIZE,)``, ``(V_SIZE,)``, ``(STATE_SIZE,)``,
        ``(2 W, F)`` standardised features (written twice, so that a patch is contiguous) and
        ``(W, M c1)`` first-layer outputs.
    keep, thresholds
        Decay of the trailing volatility and the regime limits ``(2,)`` (``distill.regimes``).
    mean, inv_std : (F,)
        Standardisation of the features.
    w1 .. by
        Weights: ``(PATCH F, M c1)``, ``(M c1,)``; ``(M, taps c1, c2)``; ``(M, c2 + F, h)``;
        ``(M, h, d)``; ``(M, h, n_out)`` and their biases. The feature head ``wz`` maps to the common
        space (skipped for a single student).
    scale : (4, 3)
        Mean, standard deviation, lowest and highest value of each target on TRAIN: predictions are
        brought back to its unit and kept in its range.
    width, inv_tau, prior
        See `fuse`; prior has one table a regime, ``(3, 3, M / 3)``.
    scratch, z, y, weights, fused
        Buffers: ``(>= inputs of any layer,)``, ``(M, d)``, ``(M, n_out)``, ``(3, M / 3)``, ``(3,)``.

    Returns
    -------
    bool
        False before `WINDOW` decisions were seen (nothing is predicted then).
    """
    n_window = uring.shape[0]
    pos = ints[I_POS]
    row = xring[pos]
    feature_step(raw, unit, fstate, row)
    limit = np.float32(CLIP)
    for j in range(row.shape[0]):
        value = (row[j] - mean[j]) * inv_std[j]
        value = min(max(value, -limit), limit)
        row[j] = value
        xring[pos + n_window, j] = value

    mid = 0.5 * (fstate[1] + fstate[3])
    if ints[I_COUNT] > 0:
        change = mid - vstate[V_MID]
        vstate[V_MEAN] = keep * vstate[V_MEAN] + (1.0 - keep) * (change * change)
        vstate[V_WEIGHT] = keep * vstate[V_WEIGHT] + (1.0 - keep)
    vstate[V_MID] = mid
    vol = math.sqrt(vstate[V_MEAN] / vstate[V_WEIGHT]) if vstate[V_WEIGHT] > 0.0 else 0.0
    regime = 0
    if vol > thresholds[0]:
        regime = 1
    if vol > thresholds[1]:
        regime = 2
    ints[I_REGIME] = regime

    ints[I_COUNT] += 1
    ints[I_POS] = pos + 1 if pos + 1 < n_window else 0
    if ints[I_COUNT] < PATCH:
        return False
    # The newest decision is the last row of both copies; its patch ends there.
    patch = xring[pos + n_window - PATCH + 1 : pos + n_window + 1].reshape(PATCH * xring.shape[1])
    u = uring[pos]
    affine(patch, w1, b1, scratch, u)
    _relu(u)
    if ints[I_COUNT] < n_window:
        return False

    n_exp, n_in2, c2 = w2.shape
    taps = n_window // PATCH
    c1 = n_in2 // taps
    n_feat = xring.shape[1]
    h = w3.shape[2]
    in2 = np.empty(n_in2, np.float32)
    in3 = np.empty(c2 + n_feat, np.float32)
    a = np.empty(h, np.float32)
    out = np.empty(by.shape[1], np.float32)
    for j in range(n_feat):
        in3[c2 + j] = row[j]
    for m in range(n_exp):
        for tap in range(taps):
            at = pos - (taps - 1 - tap) * PATCH
            if at < 0:
                at += n_window
            for j in range(c1):
                in2[tap * c1 + j] = uring[at, m * c1 + j]
        head = in3[:c2]
        affine(in2, w2[m], b2[m], scratch, head)
        _relu(head)
        affine(in3, w3[m], b3[m], scratch, a)
        _relu(a)
        if n_exp > 1:
            affine(a, wz[m], bz[m], scratch, z[m])
        affine(a, wy[m], by[m], scratch, out)
        for k in range(out.shape[0]):
            task = k if n_exp == 1 else (m // 3) % 3
            value = out[k] * scale[1, task] + scale[0, task]
            y[m, k] = min(max(value, scale[2, task]), scale[3, task])
    if n_exp == 1:
        for k in range(3):
            fused[k] = y[0, k]
    else:
        fuse(z, y, width, inv_tau, prior[regime], weights, fused)
    return True
