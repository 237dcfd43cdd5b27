"""After the students: one common feature space, the fusion of each task, and what it is all worth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mmsim_agents.cmm.checkpoint import Fusion
from mmsim_agents.cmm.hajek import FUSIONS, TaskFusion, consensus, fit_fusion, normalise, pair_distances
from mmsim_agents.common.tasks import TASKS
from mmsim_agents.distill.data import Table, expert_grid, fit_projection
from mmsim_agents.distill.train import Weights
from mmsim_agents.students.normaliser import Normaliser

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
_RIDGE = 1e-2  # of the mean variance of a feature
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def to_common_space(weights: Weights, z: F32, target: F32) -> Weights:
    """Fold each student's map to the common space of its task into its feature head.

    Students of one task imitate features in different coordinates (a PCA of another layer group), so
    their z cannot be compared as they are. The common space of a task is the PCA of the nine target
    features side by side, on TRAIN; a student's map is the ridge regression of it on the student's
    own z, the best linear guess of the common feature from that expert alone. Two linear maps in a
    row are one, so the agent pays nothing for it.

    Parameters
    ----------
    weights : dict
        Students, ``wz`` ``(27, h, d)`` and ``bz`` ``(27, d)``.
    z : (27, n, d)
        Their features on the TRAIN samples that have teacher features.
    target : (27, n, d)
        The teacher features there.
    """
    out = dict(weights)
    wz, bz = weights["wz"].astype(np.float64), weights["bz"].astype(np.float64)
    d = z.shape[2]
    tasks = expert_grid()[:, 1]
    for c in range(len(TASKS)):
        experts = np.flatnonzero(tasks == c)
        beside = np.concatenate([target[m] for m in experts], axis=1)
        common = fit_projection(beside, d).apply(beside).astype(np.float64)
        for m in experts:
            zm = z[m].astype(np.float64)
            mean = zm.mean(0)
            gram = (zm - mean).T @ (zm - mean) / len(zm)
            gram += (_RIDGE * np.trace(gram) / d + 1e-9) * np.eye(d)
            turn = np.linalg.solve(gram, (zm - mean).T @ common / len(zm))
            wz[m], bz[m] = wz[m] @ turn, (bz[m] - mean) @ turn + common.mean(0)
    out["wz"], out["bz"] = wz.astype(np.float32), bz.astype(np.float32)
    return out


def fit_all(
    z: F32, y: F32, table: Table, rows: npt.NDArray[np.int64], norm: Normaliser
) -> tuple[dict[str, Fusion], dict[str, F64]]:
    """Fit every fusion on validation rows.

    Parameters
    ----------
    z, y : (27, n, d) and (27, n, 1)
        Features in the common space and standardised predictions at `rows`.

    Returns
    -------
    fusions : dict
        Per fusion one `TaskFusion` per task.
    predictions : dict
        Per fusion ``(n, 3)`` in units.
    """
    grid = expert_grid()
    regime = table.regime[rows]
    per_task: list[dict[str, TaskFusion]] = []
    predictions = {name: np.empty((len(rows), len(TASKS))) for name in FUSIONS}
    for c in range(len(TASKS)):
        experts = np.flatnonzero(grid[:, 1] == c)
        zc = np.ascontiguousarray(z[experts].transpose(1, 0, 2), np.float64)
        yc = norm.in_units(y[experts, :, 0].T, c)
        fits = fit_fusion(zc, yc, table.target[rows, c], regime, grid[experts, 2])
        score = consensus(pair_distances(normalise(zc)), fits["hajek"].width)
        for name, fit in fits.items():
            predictions[name][:, c] = (fit.weights(score, regime) * yc).sum(1)
        per_task.append(fits)
    fusions: dict[str, Fusion] = {
        name: (per_task[0][name], per_task[1][name], per_task[2][name]) for name in FUSIONS
    }
    return fusions, predictions


def scores(prediction: F64, target: F64) -> dict[str, dict[str, float | None]]:
    """Return R2 and correlation of each task; None where the target or the prediction is constant.

    >>> t = np.array([[1.0, 2.0, 0.0], [2.0, 2.0, 1.0]])
    >>> scores(t, t)["mid"], scores(t, t)["spread"]
    ({'r2': 1.0, 'corr': 1.0}, {'r2': None, 'corr': None})
    """
    out: dict[str, dict[str, float | None]] = {}
    for c, task in enumerate(TASKS):
        p, y = prediction[:, c], target[:, c]
        var = float(y.var())
        r2 = 1.0 - float(((p - y) ** 2).mean()) / var if var > 0 else None
        corr = float(np.corrcoef(p, y)[0, 1]) if var > 0 and p.std() > 1e-12 else None
        out[task] = {
            "r2": round(r2, 5) if r2 is not None else None,
            "corr": round(corr, 5) if corr is not None else None,
        }
    return out


def linear_baseline(train: Table, validation: Table, rows: npt.NDArray[np.int64], norm: Normaliser) -> F64:
    """Predict the validation `rows` by ridge regression on hand features: no teacher, no network.

    Inputs are the newest features and their mean over the window; the penalty is the best on these
    same rows, which flatters the baseline a little.
    """

    def inputs(table: Table, at: npt.NDArray[np.int64]) -> F64:
        window = table.windows(at)
        return np.hstack([np.ones((len(at), 1)), window[:, -1], window.mean(1)])

    a, b = inputs(train, train.rows), inputs(validation, rows)
    gram, moment = a.T @ a / len(a), a.T @ train.y[train.rows].astype(np.float64) / len(a)
    guesses = [
        np.stack([norm.in_units(b @ w[:, c], c) for c in range(len(TASKS))], axis=1)
        for w in (np.linalg.solve(gram + penalty * np.eye(len(gram)), moment) for penalty in _PENALTIES)
    ]
    errors = np.array([((g - validation.target[rows]) ** 2).mean(0) for g in guesses])
    return np.stack([guesses[i][:, c] for c, i in enumerate(errors.argmin(0).tolist())], axis=1)


def merged(table: Mapping[str, F64], target: F64) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the `scores` of several predictors."""
    return {name: scores(p, target) for name, p in table.items()}
