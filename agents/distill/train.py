"""Train an ensemble of students, all at once; an interrupted training goes on from where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmsim.features import WINDOW
from mmsim_agents.common.checkpoint import Arrays
from mmsim_agents.common.resume import WorkFolder
from mmsim_agents.distill.data import Lesson, Table, expert_grid
from mmsim_agents.distill.losses import feature_cka, feature_mse, huber, orthogonality
from mmsim_agents.students.model import Students
from mmsim_agents.students.shape import WEIGHTS, Shape

Weights = dict[str, npt.NDArray[np.float32]]
Report = Callable[[int, int, dict[str, float]], None]  # epoch done, epochs at most, its losses
_CHUNK = 1024


@dataclass(frozen=True)
class TrainConfig:
    """Constants of one training (mmsim's reconstruction, CMM.md section 4)."""

    seed: int = 0
    epochs: int = 30
    patience: int = 5  # epochs without a better student before the training stops
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.01
    feature: float = 1.0  # a: weight of L_feat
    distil: float = 1.0  # b: weight of L_kd
    task: float = 1.0  # c: weight of L_task
    orth: float = 0.01  # d: weight of L_orth
    cka: bool = False  # L_feat = 1 - CKA instead of the mean square
    delta: float = 2.0  # Huber threshold, standard deviations of the target
    other_regimes: float = 0.1  # weight of samples of another regime


@dataclass(frozen=True)
class Trained:
    """Result: each student's weights at its own best epoch, and how it went.

    ``best`` holds the validation loss of each student ``(M,)``, ``history`` one row of mean losses per epoch.
    """

    weights: Weights
    best: npt.NDArray[np.float64]
    history: list[dict[str, float]]
    seconds: float


class Trainer:
    """One training of one ensemble.

    Parameters
    ----------
    shape : Shape
        With 27 experts they are the grid of layer group, task and regime; with one it has three outputs.
    train, validation : Table
        Decisions; L_task uses every row of ``train.rows``.
    lesson : Lesson
        What the teacher says about some of the train rows; L_feat and L_kd use only those.
    config : TrainConfig
        Constants.
    """

    def __init__(
        self, shape: Shape, train: Table, validation: Table, lesson: Lesson, config: TrainConfig
    ) -> None:
        self.shape, self.config = shape, config
        self.train, self.validation = train, validation
        grid = expert_grid() if shape.experts > 1 else np.zeros((1, 3), np.int64)
        self._own = torch.from_numpy(grid[:, 2]) if shape.experts > 1 else None
        tasks = grid[:, 1:2] if shape.experts > 1 else np.arange(3)[None]
        self._tasks = torch.from_numpy(tasks)  # (M, K): columns of the targets
        self._x = torch.from_numpy(train.x)
        self._y = torch.from_numpy(np.nan_to_num(train.y))
        self._regime = torch.from_numpy(train.regime.astype(np.int64))
        position = np.full(len(train.x), -1, np.int64)
        position[lesson.rows] = np.arange(len(lesson.rows))
        self._position = torch.from_numpy(position)
        self._feature = torch.from_numpy(lesson.feature)
        self._predict = torch.from_numpy(lesson.predict)
        self._back = torch.arange(1 - WINDOW, 1)

    def _targets(self, y: Tensor) -> Tensor:
        # (B, 3) -> (M, B, K): the columns that each student predicts.
        return y.T[self._tasks].transpose(1, 2)

    def _weights(self, regime: Tensor) -> Tensor:
        if self._own is None:
            return torch.ones(1, len(regime))
        own = self._own[:, None] == regime[None, :]
        return torch.where(own, 1.0, self.config.other_regimes)

    def losses(self, net: Students, rows: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the four losses of a batch of train rows: L_orth a scalar, the others ``(M,)``."""
        cfg = self.config
        at = torch.from_numpy(rows)
        z, y = net(self._x[at[:, None] + self._back])
        weight = self._weights(self._regime[at])
        known = self._position[at] >= 0
        taught = self._position[at][known]
        t, kd = self._feature[:, taught], self._targets(self._predict[taught])
        w = weight[:, known]
        feature = feature_cka if cfg.cka else feature_mse
        return {
            "feature": feature(z[:, known], t, w),
            "distil": huber(y[:, known], kd, w, cfg.delta),
            "task": huber(y, self._targets(self._y[at]), weight, cfg.delta),
            "orth": orthogonality(z) if self._own is not None else z.new_zeros(()),
        }

    def validate(self, net: Students) -> npt.NDArray[np.float64]:
        """Return L_task of every student on the validation rows, ``(M,)``."""
        table = self.validation
        total = np.zeros(self.shape.experts)
        mass = np.zeros(self.shape.experts)
        for start in range(0, len(table.rows), _CHUNK):
            rows = table.rows[start : start + _CHUNK]
            with torch.no_grad():
                _, y = net(torch.from_numpy(table.windows(rows)))
                weight = self._weights(torch.from_numpy(table.regime[rows].astype(np.int64)))
                loss = huber(y, self._targets(torch.from_numpy(table.y[rows])), weight, self.config.delta)
            share = weight.sum(1).double().numpy()
            total += loss.double().numpy() * share
            mass += share
        return total / np.maximum(mass, 1e-12)

    def run(self, work: Path | None = None, key: str = "", report: Report | None = None) -> Trained:
        """Train until no student gets better on validation.

        Parameters
        ----------
        work : Path, optional
            Folder of the resumable state, written after every epoch and removed at the end.
        key : str
            What the state belongs to; a state of another key is ignored.
        report : callable, optional
            Told of every finished epoch.
        """
        cfg = self.config
        net = Students(self.shape, cfg.seed)
        optimiser = torch.optim.AdamW(net.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        state = _State(net, optimiser, self.shape.experts)
        whole_key = f"{key} {json.dumps(asdict(cfg), sort_keys=True)} {self.shape}"
        folder = WorkFolder(work, whole_key) if work is not None else None
        if folder is not None:
            state.load(folder)
        while state.epoch < cfg.epochs and state.stale < cfg.patience:
            begin = time.perf_counter()
            rng = np.random.default_rng([cfg.seed, state.epoch])
            order = rng.permutation(self.train.rows)
            n_batches = max(len(order) // cfg.batch, 1)
            sums = dict.fromkeys(("feature", "distil", "task", "orth"), 0.0)
            for rows in np.array_split(order, n_batches):
                parts = self.losses(net, rows)
                total = (
                    cfg.feature * parts["feature"].sum()
                    + cfg.distil * parts["distil"].sum()
                    + cfg.task * parts["task"].sum()
                    + cfg.orth * parts["orth"]
                )
                optimiser.zero_grad(set_to_none=True)
                total.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                for name, value in parts.items():
                    sums[name] += float(value.detach().mean()) / n_batches
            row = sums | {"validation": state.improve(self.validate(net)), "epoch": float(state.epoch)}
            state.seconds += time.perf_counter() - begin
            state.history.append(row)
            if folder is not None:
                state.save(folder)
            if report is not None:
                report(state.epoch, cfg.epochs, row)
        if folder is not None:
            folder.remove()
        return Trained(state.best, state.best_loss, state.history, state.seconds)


class _State:
    # Everything that the next epoch depends on; the batches' order depends on seed and epoch alone.
    def __init__(self, net: Students, optimiser: torch.optim.Optimizer, experts: int) -> None:
        self.net, self.optimiser = net, optimiser
        self.epoch = self.stale = 0
        self.best: Weights = net.arrays()
        self.best_loss = np.full(experts, np.inf)
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0

    def improve(self, loss: npt.NDArray[np.float64]) -> float:
        # Students do not share weights, so each keeps the epoch that suits it.
        better = loss < self.best_loss - 1e-6
        now = self.net.arrays()
        for name in WEIGHTS:
            if name in ("w1", "b1"):  # columns of the shared-input layer: c1 per student
                width = self.net.shape.c1
                columns = np.repeat(better, width)
                self.best[name][..., columns] = now[name][..., columns]
            else:
                self.best[name][better] = now[name][better]
        gain = float(np.mean(np.where(better, self.best_loss - loss, 0.0)))
        self.best_loss = np.where(better, loss, self.best_loss)
        # An epoch counts as progress if the mean best loss fell by more than a thousandth.
        self.stale = 0 if gain > 1e-3 * float(self.best_loss.mean()) else self.stale + 1
        self.epoch += 1
        return float(loss.mean())

    def save(self, folder: WorkFolder) -> None:
        arrays: Arrays = {f"now.{k}": v for k, v in self.net.arrays().items()}
        arrays |= {f"best.{k}": v for k, v in self.best.items()}
        for name, parameter in self.net.named_parameters():
            moments = self.optimiser.state[parameter]
            arrays[f"avg.{name}"] = moments["exp_avg"].numpy()
            arrays[f"sq.{name}"] = moments["exp_avg_sq"].numpy()
            arrays["step"] = np.array([float(moments["step"])])
        arrays["best_loss"] = self.best_loss
        note = {"stale": self.stale, "history": self.history, "seconds": self.seconds}
        folder.save(self.epoch, note, arrays)

    def load(self, folder: WorkFolder) -> None:
        found = folder.load()
        if found is None:
            return
        note, arrays = found
        self.net.load_arrays({k: arrays[f"now.{k}"] for k in WEIGHTS})
        self.best = {k: arrays[f"best.{k}"] for k in WEIGHTS}
        self.best_loss = arrays["best_loss"]
        for name, parameter in self.net.named_parameters():
            self.optimiser.state[parameter] = {
                "step": torch.tensor(float(arrays["step"][0])),
                "exp_avg": torch.from_numpy(arrays[f"avg.{name}"]),
                "exp_avg_sq": torch.from_numpy(arrays[f"sq.{name}"]),
            }
        self.epoch, self.stale = note["step"], note["stale"]
        self.history, self.seconds = note["history"], note["seconds"]


def outputs(
    shape: Shape, weights: Weights, table: Table, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return features ``(M, n, d)`` and standardised predictions ``(M, n, K)`` at `rows` of `table`."""
    net = Students(shape)
    net.load_arrays(weights)
    zs, ys = [], []
    for start in range(0, len(rows), _CHUNK):
        with torch.no_grad():
            z, y = net(torch.from_numpy(table.windows(rows[start : start + _CHUNK])))
        zs.append(z.numpy())
        ys.append(y.numpy())
    return np.concatenate(zs, axis=1), np.concatenate(ys, axis=1)
