"""The normalized fluorescent probe (NFP), mmsim's reconstruction: where a model's layers light up.

Attach a marker (a ridge probe per layer and task), see where it lights up (rank correlation with the
truth on held-out data, per volatility regime), subtract the background (the same procedure on labels
permuted in time blocks), and normalise over layers so that tasks and regimes compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from mmsim.errors import ConfigError
from mmsim_agents.common.progress import Progress, silent
from mmsim_agents.common.regimes import REGIMES
from mmsim_agents.common.tasks import TASKS
from mmsim_agents.teacher.ridge import F64, RidgePath, r_squared

PERMUTATIONS = 20  # of the background
BLOCKS = 30  # time blocks that labels are permuted in, and that tests flip
MIN_SAMPLES = 20  # held-out samples a regime needs to be measured


@dataclass(frozen=True)
class Probed:
    """Samples of one role (fit, tune, held-out), in time order.

    ``hidden`` is ``(n, L, d)``, standardised on TRAIN; ``target`` is ``(n, 3)``; ``regime`` ``(n,)``.
    """

    hidden: npt.NDArray[np.floating]
    target: F64
    regime: npt.NDArray[np.int8]

    def rows(self, index: npt.NDArray[np.int64]) -> Probed:
        """Return the samples `index`."""
        return Probed(self.hidden[index], self.target[index], self.regime[index])


@dataclass(frozen=True)
class Nfp:
    """Result of the probe; L layers, axes (layer, task, regime).

    Attributes
    ----------
    nfp : (L, 3, 3)
        Background-corrected intensity normalised over layers; each (task, regime) column sums to 1.
    intensity, background : (L, 3, 3)
        ``|Spearman|`` of the marker with the label on held-out samples of the regime, and the mean of
        the same over labels permuted in blocks; 0 where a regime has fewer than `MIN_SAMPLES`.
    r2 : (L, 3)
        R2 of the marker on all held-out samples (the variant of the intensity); NaN where the target
        does not move.
    penalty : (L, 3)
        Ridge penalty chosen on the tuning samples.
    counts : (3,)
        Held-out samples per regime.
    light : (L, 3, n_held) float32
        Contribution of each held-out sample to the correlation within its regime, background
        subtracted; its mean over samples is the regime-weighted intensity. What the tests permute.
    regime : (n_held,)
        Regime of the held-out samples, in time order.
    """

    nfp: F64
    intensity: F64
    background: F64
    r2: F64
    penalty: F64
    counts: npt.NDArray[np.int64]
    light: npt.NDArray[np.float32]
    regime: npt.NDArray[np.int8]

    def records(self, model: str) -> list[dict[str, Any]]:
        """Return one row per (layer, task, regime), for a table or a parquet file."""
        return [
            {
                "model": model,
                "layer": layer,
                "task": TASKS[c],
                "regime": REGIMES[r],
                "nfp": float(self.nfp[layer, c, r]),
                "intensity": float(self.intensity[layer, c, r]),
                "background": float(self.background[layer, c, r]),
                "r2_all_regimes": float(self.r2[layer, c]),
                "penalty": float(self.penalty[layer, c]),
                "held_out": int(self.counts[r]),
            }
            for layer in range(len(self.nfp))
            for c in range(len(TASKS))
            for r in range(len(REGIMES))
        ]


def block_roles(n: int, pattern: str = "FFHFTFHFFH", repeats: int = 2) -> list[npt.NDArray[np.int64]]:
    """Split n samples in time order into fit (F), tune (T) and held-out (H) rows.

    Contiguous blocks take the roles of `pattern` in turn, so that every role sees every part of the
    day; nothing is shuffled, so neighbours mostly share a role.

    >>> [r.tolist() for r in block_roles(10, "FFT", repeats=1)]
    [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9], []]
    """
    roles = np.array(list(pattern * repeats))
    owner = roles[(np.arange(n) * len(roles)) // max(n, 1)]
    return [np.flatnonzero(owner == role) for role in "FTH"]


def fluoresce(
    fit: Probed,
    tune: Probed,
    held: Probed,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: Progress = silent,
    what: str = "probe",
) -> Nfp:
    """Measure the normalized fluorescent probe.

    Parameters
    ----------
    fit, tune, held : Probed
        Markers are fitted on `fit`, their penalty is chosen on `tune`, and the light is measured on
        `held`: no sample serves twice.
    permutations : int
        Label permutations behind the background.
    seed : int
        Seed of the permutations.
    progress : callable, optional
        Called after every layer.

    Returns
    -------
    Nfp
    """
    for name, part in (("fit", fit), ("tune", tune), ("held-out", held)):
        if len(part.target) < 2:
            raise ConfigError(f"probe: expected at least 2 {name} samples, was {len(part.target)}")
        if not np.isfinite(part.target).all():
            raise ConfigError(f"probe: expected finite {name} targets, was NaN or infinity")
    rng = np.random.default_rng(seed)
    n_layers = fit.hidden.shape[1]
    n_tasks, n_regimes = len(TASKS), len(REGIMES)
    # Columns: the three tasks, then `permutations` block-permuted copies of them. The whole procedure
    # (fit, choice of penalty, measurement) is repeated on each copy, which keeps the labels' own
    # autocorrelation and loses only their tie to the features.
    y_fit, y_tune, y_held = (
        np.hstack([p.target, *(p.target[block_permutation(len(p.target), rng)] for _ in range(permutations))])
        for p in (fit, tune, held)
    )
    masks = [np.flatnonzero(held.regime == r) for r in range(n_regimes)]
    measured = [len(m) >= MIN_SAMPLES for m in masks]
    truth = [_ranks(y_held[m]) for m in masks]
    corr = np.zeros((n_layers, n_regimes, y_held.shape[1]))
    light = np.zeros((n_layers, n_tasks, len(held.target)), np.float32)
    r2, penalty = np.zeros((n_layers, n_tasks)), np.zeros((n_layers, n_tasks))
    variance = held.target.var(0)
    for layer in range(n_layers):
        path = RidgePath(fit.hidden[:, layer], y_fit)
        best, _ = path.choose(tune.hidden[:, layer], y_tune)
        predicted = path.predict(held.hidden[:, layer], best)
        penalty[layer] = best[:n_tasks]
        r2[layer] = r_squared(((predicted[:, :n_tasks] - held.target) ** 2).mean(0), variance)
        for r, rows in enumerate(masks):
            if measured[r]:
                product = _ranks(predicted[rows]) * truth[r]
                corr[layer, r] = product.mean(0)
                sign = np.sign(corr[layer, r, :n_tasks])  # the intensity is an absolute value
                light[layer][:, rows] = (product[:, :n_tasks] * sign).T
        progress(what, layer + 1, n_layers)
    intensity = np.abs(corr[:, :, :n_tasks]).transpose(0, 2, 1)
    copies = np.abs(corr[:, :, n_tasks:]).reshape(n_layers, n_regimes, permutations, n_tasks)
    background = copies.mean(2).transpose(0, 2, 1) if permutations else np.zeros_like(intensity)
    for r, rows in enumerate(masks):
        light[:, :, rows] -= background[:, :, r, None].astype(np.float32)
    return Nfp(
        normalise(intensity - background), intensity, background, r2, penalty,
        np.array([len(m) for m in masks]), light, held.regime,
    )  # fmt: skip


def normalise(excess: F64) -> F64:
    """Return ``max(0, excess)`` divided by its sum over layers (axis 0); 1/L where that sum is 0.

    >>> normalise(np.array([[1.0, -1.0], [3.0, -2.0]])).tolist()
    [[0.25, 0.5], [0.75, 0.5]]
    """
    kept = np.maximum(excess, 0.0)
    total = kept.sum(0)
    return np.where(total > 0, kept / np.where(total > 0, total, 1.0), 1.0 / len(kept))


def _ranks(y: F64) -> F64:
    # Average ranks, centred and scaled to variance 1 per column (0 for a constant column): the mean
    # product of two such columns is Spearman's correlation.
    ranks = rankdata(y, axis=0) if len(y) else y
    ranks = ranks - ranks.mean(0) if len(y) else ranks
    scale = np.sqrt((ranks**2).mean(0)) if len(y) else np.ones(y.shape[1])
    return np.divide(ranks, scale, out=np.zeros_like(ranks), where=scale > 0)


def block_permutation(n: int, rng: np.random.Generator, blocks: int = BLOCKS) -> npt.NDArray[np.int64]:
    """Return a permutation of ``range(n)`` that shuffles contiguous blocks and keeps their inside."""
    edges = np.unique(np.linspace(0, n, min(blocks, n) + 1).astype(np.int64))
    parts = [np.arange(a, b) for a, b in pairwise(edges)]
    return np.concatenate([parts[i] for i in rng.permutation(len(parts))])


def cut_points(nfp: npt.NDArray[np.floating]) -> tuple[int, int]:
    """Return the cuts (i, j) of three contiguous layer groups of about equal probe mass.

    Shallow is ``range(0, i)``, middle ``range(i, j)``, deep ``range(j, L)``; none is empty. The mass of
    a layer is its mean NFP over tasks and regimes.

    >>> cut_points(np.ones((31, 3, 3)) / 31)
    (10, 21)
    """
    mass = np.asarray(nfp, np.float64).reshape(len(nfp), -1).mean(1)
    n = len(mass)
    if n < 3:
        raise ConfigError(f"layer groups: expected at least 3 layers, was {n}")
    before = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    i = int(np.abs(before[1 : n - 1] - 1.0 / 3.0).argmin()) + 1
    j = int(np.abs(before[i + 1 : n] - 2.0 / 3.0).argmin()) + i + 1
    return i, j


def _scaled(light: npt.NDArray[np.floating]) -> F64:
    # Contributions whose means over samples sum to 1 over layers (as NFP does).
    total = np.maximum(np.asarray(light, np.float64).sum(1) / max(light.shape[1], 1), 0.0).sum()
    return np.asarray(light, np.float64) / total if total > 0 else np.zeros(light.shape)


def paired_test(
    a: npt.NDArray[np.floating],
    b: npt.NDArray[np.floating],
    *,
    level: bool = False,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compare two layer profiles measured on the same held-out samples by flipping time blocks.

    Parameters
    ----------
    a, b : (L, n)
        ``Nfp.light`` of two tasks of one model, or of one task in two models.
    level : bool
        False: compare the shapes (statistic: total-variation distance of the normalised profiles).
        True: compare the amounts (statistic: mean intensity over layers of `a` minus `b`).

    Returns
    -------
    statistic, p : float
        Two-sided permutation p-value: exchanging `a` and `b` inside whole time blocks changes nothing
        if they are alike. (0, 1) stands for "nothing to compare": a profile without light.
    """
    one, two = (np.asarray(x, np.float64) for x in (a, b))
    if not level:
        one, two = _scaled(a), _scaled(b)
        if not one.any() or not two.any():
            return (0.0, 1.0)
    n = one.shape[1]
    owner = (np.arange(n) * min(BLOCKS, n)) // n
    if level:
        one, two = one.mean(0, keepdims=True), two.mean(0, keepdims=True)
    starts = np.flatnonzero(np.r_[True, np.diff(owner) != 0])
    sum_one, sum_two = (np.add.reduceat(x, starts, axis=1) / n for x in (one, two))  # (L, B)
    swap = np.random.default_rng(seed).integers(0, 2, (draws, len(starts))).astype(np.float64)
    swap = np.vstack([np.zeros(len(starts)), swap])  # the first is what was seen
    moved = swap @ (sum_two - sum_one).T
    first, second = sum_one.sum(1) + moved, sum_two.sum(1) - moved
    if level:
        statistic = (first - second)[:, 0]
        extreme = np.abs(statistic)
    else:
        statistic = extreme = _distance(first, second)
    p = float(np.count_nonzero(extreme >= extreme[0] - 1e-12) / (draws + 1))
    return float(statistic[0]), p


def _distance(one: F64, two: F64) -> F64:
    # Total-variation distance of the rows, each made a profile as NFP is: in [0, 1].
    distance: F64 = 0.5 * np.abs(normalise(one.T) - normalise(two.T)).sum(0)
    return distance


def regime_test(nfp: Nfp, task: int, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Compare the layer profile of `task` in low and in high volatility.

    Regimes hold different samples, so whole runs of one regime exchange their labels.

    Returns
    -------
    tv, p : float
        Total-variation distance of the two normalised profiles and its permutation p-value.
    """
    parts = [_scaled(nfp.light[:, task][:, nfp.regime == r]) for r in (0, 2)]
    if not all(p.size and p.any() for p in parts):
        return 0.0, 1.0
    keep = np.flatnonzero(nfp.regime != 1)
    label = (nfp.regime[keep] == 2).astype(np.int64)
    light = np.empty((len(nfp.nfp), len(keep)))
    light[:, label == 0], light[:, label == 1] = parts
    # a run ends where the regime changes, or after as many samples as a time block has
    position = np.arange(len(keep)) // max(1, len(keep) // BLOCKS)
    starts = np.flatnonzero(np.r_[True, (np.diff(label) != 0) | (np.diff(position) != 0)])
    sums = np.add.reduceat(light, starts, axis=1)  # (L, R)
    counts = np.diff(np.r_[starts, len(keep)]).astype(np.float64)
    high = label[starts].astype(np.float64)
    rng = np.random.default_rng(seed)
    labels = np.stack([high, *(rng.permutation(high) for _ in range(draws))])
    n_high, n_low = labels @ counts, (1 - labels) @ counts
    tv = _distance(labels @ sums.T / n_high[:, None], (1 - labels) @ sums.T / n_low[:, None])
    return float(tv[0]), float(np.count_nonzero(tv >= tv[0] - 1e-12) / (draws + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values.

    >>> [round(x, 3) for x in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    out, worst = [0.0] * len(p), 0.0
    for k, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - k) * p[i]))
        out[i] = worst
    return out
