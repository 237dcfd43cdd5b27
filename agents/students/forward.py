"""One decision of a student ensemble in one kernel call: from an observation to every student's outputs.

The students are causal: a shared-input convolution over patches of ``PATCH`` decisions, a second
one over patches ``PATCH`` decisions apart, and an MLP. The first layer's output for a decision
serves five later decisions, so it is kept in a ring and computed once. Every product is
accumulated over the outputs ("axpy form"), which vectorises without reordering a sum; inputs that
the ReLU set to zero are skipped, which halves the memory traffic. float32 throughout.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.features.market import feature_step

PATCH = 4  # decisions in a patch of the first layer, and the step of the second
CLIP = 6.0  # standardised features are bounded by this

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Where an episode stands; all zero at its start.
PLACE = np.dtype([
    ("pos", "<i8"),  # row of the rings that the next decision is written to
    ("seen", "<i8"),  # decisions
    ("regime", "<i8"),  # of the newest decision: 0 low, 1 mid, 2 high volatility
    ("mean_square", "<f8"),  # of the mid's moves, with decaying weights, and the sum of these
    ("weight", "<f8"),
    ("mid", "<f8"),  # at the newest decision, ticks
])  # fmt: skip


class Network(NamedTuple):
    """What `advance` reads: a trained ensemble of M students on one market.

    Attributes
    ----------
    unit : float
        Usual order size, lots.
    keep : float
        Decay of the trailing volatility per decision (``common.regimes``).
    thresholds : (2,)
        Limits of its regimes, ticks per decision.
    mean, inv_std : (F,)
        Standardisation of the features.
    w1, b1 : (PATCH F, M c1), (M c1,)
        First layer of all students.
    w2, b2, w3, b3, wz, bz, wy, by : (M, ...)
        Second layer ``(taps c1, c2)``, hidden layer ``(c2 + F, h)``, feature head ``(h, d)``, which maps to
        the common space (skipped for a single student), output head ``(h, n_out)``; and their biases.
    target : (4, 3)
        Mean, standard deviation, lowest and highest value of each target on TRAIN: predictions are
        brought back to its unit and kept in its range.
    """

    unit: float
    keep: float
    thresholds: F64
    mean: F32
    inv_std: F32
    w1: F32
    b1: F32
    w2: F32
    b2: F32
    w3: F32
    b3: F32
    wz: F32
    bz: F32
    wy: F32
    by: F32
    target: F64


class Memory(NamedTuple):
    """What `advance` writes: the state of one episode, all zero at its start, and buffers.

    Attributes
    ----------
    place, features : (1,) `PLACE`, (1,) FEATURE_STATE
        Where the episode stands, and the state of its features.
    rows, x : (2 W,) FEATURE_ROW, (2 W, F)
        Standardised features of the last W decisions, written twice, so that a patch is contiguous; the
        same memory by name and as a table.
    u : (W, M c1)
        First-layer outputs of the last W decisions.
    active : (inputs of the widest layer,)
        Buffer: the inputs of a layer that are not zero.
    in2, in3, hidden, out : (taps c1,), (c2 + F,), (h,), (n_out,)
        Buffers of one student: inputs of its second layer and of its hidden layer, and what that and the
        output head give.
    z : (M, d)
        Features of every student.
    y : (M, n_out)
        Predictions of every student, in the targets' units.
    """

    place: npt.NDArray[np.void]
    features: npt.NDArray[np.void]
    rows: npt.NDArray[np.void]
    x: F32
    u: F32
    active: npt.NDArray[np.int64]
    in2: F32
    in3: F32
    hidden: F32
    out: F32
    z: F32
    y: F64


@kernel
def affine(x: F32, w: F32, b: F32, active: npt.NDArray[np.int64], out: F32) -> None:
    """``out = b + x @ w`` with `x` ``(n,)``, `w` ``(n, m)``; zeros of `x` cost nothing."""
    m = out.shape[0]
    k = 0
    for i in range(x.shape[0]):
        if x[i] != 0.0:
            active[k] = i
            k += 1
    for j in range(m):
        out[j] = b[j]
    p = 0
    while p + 4 <= k:
        i0, i1, i2, i3 = active[p], active[p + 1], active[p + 2], active[p + 3]
        x0, x1, x2, x3 = x[i0], x[i1], x[i2], x[i3]
        w0, w1, w2, w3 = w[i0], w[i1], w[i2], w[i3]
        for j in range(m):
            out[j] += (x0 * w0[j] + x1 * w1[j]) + (x2 * w2[j] + x3 * w3[j])
        p += 4
    while p < k:
        x0 = x[active[p]]
        w0 = w[active[p]]
        for j in range(m):
            out[j] += x0 * w0[j]
        p += 1


@kernel
def _relu(x: F32) -> None:
    zero = np.float32(0.0)
    for j in range(x.shape[0]):
        x[j] = max(x[j], zero)


@kernel
def advance(obs: npt.NDArray[np.void], net: Network, memory: Memory) -> bool:
    """Take in what was seen at one decision, ``obs[0]``; predict once the window is full.

    Returns
    -------
    bool
        Whether ``memory.z`` and ``memory.y`` were written: as many decisions as ``memory.u`` has rows were seen.
    """
    place, features, x = memory.place[0], memory.features[0], memory.x
    n_window, n_feat = memory.u.shape[0], x.shape[1]
    pos = place.pos
    feature_step(obs[0], net.unit, features, memory.rows[pos])
    row = x[pos]
    limit = np.float32(CLIP)
    for j in range(n_feat):
        value = (row[j] - net.mean[j]) * net.inv_std[j]
        value = min(max(value, -limit), limit)
        row[j] = value
        x[pos + n_window, j] = value

    mid = 0.5 * (features.bid_px + features.ask_px)
    if place.seen > 0:
        change = mid - place.mid
        place.mean_square = net.keep * place.mean_square + (1.0 - net.keep) * (change * change)
        place.weight = net.keep * place.weight + (1.0 - net.keep)
    place.mid = mid
    vol = math.sqrt(place.mean_square / place.weight) if place.weight > 0.0 else 0.0
    place.regime = 0
    if vol > net.thresholds[0]:
        place.regime = 1
    if vol > net.thresholds[1]:
        place.regime = 2

    place.seen += 1
    place.pos = pos + 1 if pos + 1 < n_window else 0
    if place.seen < PATCH:
        return False
    # The newest decision is the last row of both copies; its patch ends there.
    patch = x[pos + n_window - PATCH + 1 : pos + n_window + 1].reshape(PATCH * n_feat)
    u = memory.u[pos]
    affine(patch, net.w1, net.b1, memory.active, u)
    _relu(u)
    if place.seen < n_window:
        return False

    n_exp, n_in2, c2 = net.w2.shape
    taps = n_window // PATCH
    c1 = n_in2 // taps
    in2, in3, a, out = memory.in2, memory.in3, memory.hidden, memory.out
    for j in range(n_feat):
        in3[c2 + j] = row[j]
    for m in range(n_exp):
        for tap in range(taps):
            at = pos - (taps - 1 - tap) * PATCH
            if at < 0:
                at += n_window
            for j in range(c1):
                in2[tap * c1 + j] = memory.u[at, m * c1 + j]
        head = in3[:c2]
        affine(in2, net.w2[m], net.b2[m], memory.active, head)
        _relu(head)
        affine(in3, net.w3[m], net.b3[m], memory.active, a)
        _relu(a)
        if n_exp > 1:
            affine(a, net.wz[m], net.bz[m], memory.active, memory.z[m])
        affine(a, net.wy[m], net.by[m], memory.active, out)
        for k in range(out.shape[0]):
            task = k if n_exp == 1 else (m // 3) % 3
            value = out[k] * net.target[1, task] + net.target[0, task]
            memory.y[m, k] = min(max(value, net.target[2, task]), net.target[3, task])
    return True
