"""Hajek-MoE: experts weighted by their agreement in a kernel's feature space (mmsim's reconstruction).

CMM.md section 5. The Hajek projection of an order-2 U-statistic, whose kernel measures the similarity of two
experts' features, gives each expert a contribution; the softmax of the consensus score is the mixture weight.
Experts are neither independent nor identically distributed given the market, so the projection is
a construction here, not a theorem; and weighting by consensus suppresses a lone expert that is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

FUSIONS = ("hajek", "hajek_pure", "mean", "validation", "regime")
TAUS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0)
ETAS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


class Mixture(NamedTuple):
    """Result of `hajek_moe`; the last axis of every array but `output` runs over the M experts."""

    score: F64  # k1: mean similarity with the other experts
    agreement: F64  # U: mean of the scores
    contribution: F64  # a = (2 / M)(k1 - U), sums to 0
    weights: F64  # softmax(k1 / tau + b), sums to 1
    output: F64  # sum of weight * prediction


def normalise(z: F64) -> F64:
    """Return `z` with every feature vector (last axis) at length 1; a zero vector stays zero."""
    norm = np.linalg.norm(z, axis=-1, keepdims=True)
    out: F64 = np.divide(z, norm, out=np.zeros_like(z), where=norm > 0)
    return out


def pair_distances(z: F64) -> F64:
    """Return the Euclidean distances between experts, ``(..., M, M)`` from ``(..., M, d)``."""
    square = (z * z).sum(-1)
    gram = z @ np.swapaxes(z, -1, -2)
    out: F64 = np.sqrt(np.maximum(square[..., :, None] + square[..., None, :] - 2.0 * gram, 0.0))
    index = np.arange(z.shape[-2])
    out[..., index, index] = 0.0
    return out


def softmax(x: F64) -> F64:
    """Return the softmax over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    out: F64 = e / e.sum(-1, keepdims=True)
    return out


def consensus(distances: F64, width: float) -> F64:
    """Return k1 ``(..., M)``: mean Gaussian similarity with the other experts."""
    k = np.exp(-0.5 * (distances / width) ** 2)
    m = k.shape[-1]
    out: F64 = (k.sum(-1) - np.diagonal(k, axis1=-2, axis2=-1)) / (m - 1)
    return out


def hajek_moe(
    z: F64, y: F64, width: float, tau: float, prior: F64 | float = 0.0, *, unit_length: bool = True
) -> Mixture:
    """Fuse the predictions of M >= 2 experts by the agreement of their features.

    Parameters
    ----------
    z : (..., M, d)
        Features in the common space.
    y : (..., M)
        Predictions.
    width : float
        Kernel width s in ``k(z, z') = exp(-|z - z'|^2 / (2 s^2))``.
    tau : float
        Temperature; infinity ignores the consensus.
    prior : (..., M)
        Additive logits b.
    unit_length : bool
        L2-normalise the features first.

    Examples
    --------
    >>> x = np.array([[0.0], [0.1], [0.2], [2.0]])
    >>> mix = hajek_moe(x, x[:, 0], width=1.0, tau=0.1, unit_length=False)
    >>> mix.weights.round(6).tolist(), round(float(mix.output), 6)
    ([0.294612, 0.341098, 0.362928, 0.001363], 0.109421)
    """
    zn = normalise(z) if unit_length else z
    score = consensus(pair_distances(zn), width)
    agreement = score.mean(-1)
    contribution = (2.0 / score.shape[-1]) * (score - agreement[..., None])
    weights = softmax(score / tau + prior)
    return Mixture(score, agreement, contribution, weights, (weights * y).sum(-1))


@dataclass(frozen=True)
class TaskFusion:
    """Fusion of one task: ``softmax(k1 * inv_tau + prior[regime])``."""

    width: float
    inv_tau: float
    prior: F64  # (3 regimes, M)
    mse: float  # on the samples it was fitted on

    def weights(self, score: F64, regime: npt.NDArray[np.int8]) -> F64:
        """Return mixture weights ``(n, M)`` from scores ``(n, M)`` and regimes ``(n,)``."""
        return softmax(score * self.inv_tau + self.prior[regime])


def fit_fusion(
    z: F64, y: F64, target: F64, regime: npt.NDArray[np.int8], expert_regime: npt.NDArray[np.int64]
) -> dict[str, TaskFusion]:
    """Fit the fusions of one task on validation samples, the students frozen.

    Parameters
    ----------
    z : (n, M, d)
        Features in the common space.
    y : (n, M)
        Predictions.
    target : (n,)
        Realised values.
    regime : (n,)
        Regime of each sample.
    expert_regime : (M,)
        Regime that each expert was trained for.

    Returns
    -------
    dict
        One `TaskFusion` for each of `FUSIONS`: ``hajek_pure`` (b = 0, tau fitted), ``hajek`` (tau, and
        the better of b = 0, b = -eta log MSE and b = eta [own regime]), and the plain ``mean``,
        ``validation`` (weights proportional to 1 / MSE) and ``regime`` (mean of the experts of the
        current regime). The kernel width is the median pairwise distance.
    """
    m = y.shape[1]
    dist = pair_distances(normalise(z))
    width = float(np.median(dist[:, *np.triu_indices(m, 1)])) or 1.0
    score = consensus(dist, width)
    mse = np.maximum(((y - target[:, None]) ** 2).mean(0), 1e-12)
    log_mse = np.tile(np.log(mse / mse.min()), (3, 1))
    own = (expert_regime[None, :] == np.arange(3)[:, None]).astype(np.float64)
    none = np.zeros((3, m))

    def made(inv_tau: float, prior: F64) -> TaskFusion:
        w = softmax(score * inv_tau + prior[regime])
        return TaskFusion(width, inv_tau, prior, float((((w * y).sum(1) - target) ** 2).mean()))

    pure = min((made(1.0 / tau, none) for tau in TAUS), key=lambda f: f.mse)
    candidates = [pure]
    for tau in TAUS:
        candidates += [made(1.0 / tau, -eta * log_mse) for eta in ETAS]
        candidates += [made(1.0 / tau, eta * own) for eta in ETAS]
    return {
        "hajek": min(candidates, key=lambda f: f.mse),
        "hajek_pure": pure,
        "mean": made(0.0, none),
        "validation": made(0.0, -log_mse),
        "regime": made(0.0, 50.0 * own),
    }
