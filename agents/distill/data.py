"""From recorded observations to training tables: features, targets, regimes, and what the teacher said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmsim.errors import DataError
from mmsim.features import WINDOW, feature_rows
from mmsim_agents.common.recording import Raw, evenly
from mmsim_agents.common.regimes import N_REGIMES, regimes
from mmsim_agents.common.tasks import HORIZON, N_TASKS, samples
from mmsim_agents.students.normaliser import Normaliser
from mmsim_agents.teacher.artifacts import SampleSet, TeacherArtifacts

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

N_GROUPS = 3  # of the teacher's layers: shallow, middle, deep
N_EXPERTS = N_GROUPS * N_TASKS * N_REGIMES


def expert_grid() -> I64:
    """Return (27, 3): layer group, task and regime of every student, in the order of the checkpoint."""
    return np.stack(np.unravel_index(np.arange(N_EXPERTS), (N_GROUPS, N_TASKS, N_REGIMES)), axis=1)


@dataclass(frozen=True)
class Table:
    """Decisions of one split, its episodes one after the other; N decisions.

    Attributes
    ----------
    x : (N, F) float32
        Standardised features, bounded by ``CLIP``.
    y : (N, 3) float32
        Standardised targets; NaN where an episode ends.
    target : (N, 3) float64
        The same in their units.
    regime : (N,) int8
        0, 1, 2 = low, mid, high trailing volatility.
    rows : (n,) int64
        Decisions with a full window inside their episode and finite targets: the samples.
    """

    x: F32
    y: F32
    target: F64
    regime: npt.NDArray[np.int8]
    rows: I64

    def windows(self, rows: I64) -> F32:
        """Return the feature windows ``(len(rows), W, F)`` that end at `rows`."""
        out: F32 = self.x[rows[:, None] + np.arange(1 - WINDOW, 1)]
        return out


def _features(raw: Raw, unit: int) -> F32:
    return np.concatenate([feature_rows(rows, unit) for rows in raw])


def fit_normaliser(raw: Raw, unit: int) -> Normaliser:
    """Measure the units of features and targets on the TRAIN episodes.

    Raises
    ------
    DataError
        If no decision has a full window and a target.
    """
    if not raw:
        raise DataError("training data: expected at least one train episode, was none")
    target, rows = samples(raw, unit)
    if len(rows) == 0:
        raise DataError(
            f"training data: expected an episode of more than {WINDOW + HORIZON} decisions, "
            f"the longest has {max(map(len, raw))}"
        )
    return Normaliser.measure(_features(raw, unit)[rows], target[rows])


def make_table(raw: Raw, norm: Normaliser, thresholds: F64, span: int, unit: int) -> Table:
    """Build the table of one split from its recorded episodes."""
    if not raw:
        raise DataError("training data: expected at least one validation episode, was none")
    target, rows = samples(raw, unit)
    regime = np.concatenate(regimes(raw, thresholds, span))
    return Table(norm.features(_features(raw, unit)), norm.standard(target), target, regime, rows)


def thin(rows: I64, limit: int, keep: I64 | None = None) -> I64:
    """Return at most about `limit` of `rows`, evenly spaced, and all of `keep` beside them.

    >>> thin(np.arange(10), 5).tolist(), thin(np.arange(10), 2, keep=np.array([3])).tolist()
    ([0, 2, 4, 6, 8], [0, 3, 5])
    """
    rows = rows[evenly(len(rows), limit)]
    if keep is not None:
        rows = np.union1d(rows, keep)
    return rows


@dataclass(frozen=True)
class Projection:
    """PCA of a teacher feature, fitted on TRAIN: ``t = (h - mean) @ basis``, mean square 1."""

    mean: F64  # (d_T,)
    basis: F64  # (d_T, d), scaled by one common factor

    def apply(self, h: npt.NDArray[np.floating]) -> F32:
        """Project ``(n, d_T)`` to ``(n, d)``."""
        return ((h - self.mean) @ self.basis).astype(np.float32)


def fit_projection(h: npt.NDArray[np.floating], d: int) -> Projection:
    """Fit a PCA to `d` dimensions; directions that the data lacks are 0.

    One scalar brings the mean square to 1, so that the feature loss has the size of the others and the
    components keep their relative weight. The sign of a component is fixed by its largest loading.
    """
    h64 = np.asarray(h, np.float64)
    mean = h64.mean(0)
    centred = h64 - mean
    _, vectors = np.linalg.eigh(centred.T @ centred / max(len(h64), 1))
    top = vectors[:, ::-1][:, :d]
    largest = top[np.abs(top).argmax(0), np.arange(top.shape[1])]
    basis = np.zeros((h64.shape[1], d))
    basis[:, : top.shape[1]] = top * np.where(largest < 0, -1.0, 1.0)
    power = float(np.mean((centred @ basis) ** 2))
    return Projection(mean, basis / np.sqrt(power) if power > 0 else basis)


@dataclass(frozen=True)
class Lesson:
    """What the teacher says about the sampled decisions of one split; n samples.

    Attributes
    ----------
    rows : (n,) int64
        Their rows in the split's `Table`.
    feature : (M, n, d) float32
        Target feature of every student.
    predict : (n, 3) float32
        The teacher's predictions, standardised as the targets.
    """

    rows: I64
    feature: F32
    predict: F32


def ensemble_lessons(artifacts: TeacherArtifacts, norm: Normaliser, d: int) -> tuple[Lesson, Lesson]:
    """Return the lessons (train, validation) of the 27 students, each on its own feature target."""
    train, val = artifacts.train, artifacts.validation
    out = (np.empty((N_EXPERTS, len(train), d), np.float32), np.empty((N_EXPERTS, len(val), d), np.float32))
    for m, (g, c, r) in enumerate(expert_grid().tolist()):
        h = artifacts.group_target(train, g, c, r)
        projection = fit_projection(h, d)
        out[0][m] = projection.apply(h)
        out[1][m] = projection.apply(artifacts.group_target(val, g, c, r))
    return (
        Lesson(train.index, out[0], norm.standard(train.predict)),
        Lesson(val.index, out[1], norm.standard(val.predict)),
    )


def single_lessons(artifacts: TeacherArtifacts, norm: Normaliser, d: int) -> tuple[Lesson, Lesson]:
    """Return the lessons of the single student: no decomposition, one mean over all layers.

    Layers are weighted by the probe averaged over tasks and regimes.
    """
    weight = artifacts.nfp.mean((1, 2))

    def pooled(samples: SampleSet) -> F64:
        total = np.zeros((len(samples), samples.hidden.shape[2]))
        for layer, w in enumerate((weight / weight.sum()).tolist()):
            total += w * samples.hidden[:, layer].astype(np.float64)
        return total

    h = pooled(artifacts.train)
    projection = fit_projection(h, d)
    return (
        Lesson(artifacts.train.index, projection.apply(h)[None], norm.standard(artifacts.train.predict)),
        Lesson(
            artifacts.validation.index,
            projection.apply(pooled(artifacts.validation))[None],
            norm.standard(artifacts.validation.predict),
        ),
    )
