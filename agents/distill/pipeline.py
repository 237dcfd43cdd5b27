"""`mmsim train cmm` and `mmsim train student`: from a market to checkpoints, in one resumable go."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.config import SimConfig
from mmsim.errors import DataError
from mmsim.metrics import require_linear
from mmsim.paths import cache_home
from mmsim.sim.session import Session
from mmsim.types import MarketData
from mmsim_agents.cmm.agent import CMM
from mmsim_agents.cmm.checkpoint import FusedCheckpoint
from mmsim_agents.common import card as cards
from mmsim_agents.common.order_rule import RuleParams
from mmsim_agents.common.progress import Progress, silent
from mmsim_agents.common.recording import Raw, evenly, record
from mmsim_agents.common.tasks import N_TASKS, TASKS
from mmsim_agents.distill.data import (
    Lesson,
    ensemble_lessons,
    fit_normaliser,
    make_table,
    single_lessons,
    thin,
)
from mmsim_agents.distill.fusion import fit_all, linear_baseline, merged, to_common_space
from mmsim_agents.distill.train import TrainConfig, Trained, Trainer, outputs
from mmsim_agents.distill.tune import predictions, tune_rule
from mmsim_agents.students.agent import Student
from mmsim_agents.students.checkpoint import Checkpoint, half
from mmsim_agents.students.shape import Shape
from mmsim_agents.teacher.artifacts import TeacherArtifacts


@dataclass(frozen=True)
class Options:
    """How much of everything a training takes."""

    train: TrainConfig = field(default_factory=TrainConfig)
    train_rows: int = 20_000  # decisions trained on, at most (plus those with teacher output)
    validation_rows: int = 5_000  # decisions that stop the training and fit the fusion
    tune_decisions: int = 15_000  # decisions of the validation episodes that choose the order rule
    agents: tuple[str, ...] = ("cmm", "student")
    command: str = ""
    resume: bool = True


def _few(raw: Raw, limit: int) -> list[int]:
    # Evenly spaced episodes with at most about `limit` decisions in all.
    total = sum(map(len, raw))
    picked: list[int] = evenly(len(raw), max(1, int(len(raw) * limit / max(total, 1)))).tolist()
    return picked


class Distillation:
    """One market's training data and the steps that turn it into checkpoints.

    Parameters
    ----------
    data : MarketData
        The market.
    raw : dict
        Recorded episodes of ``"train"`` and ``"validation"``.
    artifacts : TeacherArtifacts
        What the teacher says about a sample of each.
    options : Options
        Amounts.
    out : Path
        Folder of checkpoint folders.
    """

    def __init__(
        self,
        data: MarketData,
        raw: dict[str, Raw],
        artifacts: TeacherArtifacts,
        options: Options,
        out: Path,
        progress: Progress = silent,
    ) -> None:
        self.data, self.raw, self.artifacts, self.options = data, raw, artifacts, options
        self.out, self.progress = out, progress
        unit = data.instrument.unit_lots
        self.norm = fit_normaliser(raw["train"], unit)
        tables = [
            make_table(raw[s], self.norm, artifacts.thresholds, artifacts.span, unit)
            for s in ("train", "validation")
        ]
        taught = (artifacts.train.index, artifacts.validation.index)
        limits = (options.train_rows, options.validation_rows)
        self.train, self.validation = (
            replace(t, rows=np.intersect1d(thin(t.rows, limit, keep=known), t.rows))
            for t, limit, known in zip(tables, limits, taught, strict=True)
        )
        if len(self.validation.rows) == 0:
            raise DataError("training data: no validation decision has a full window", source=data.name)
        self.sha256 = cards.recorded_sha256([*raw["train"], *raw["validation"]])
        self.session = Session(data, SimConfig(), seed=options.train.seed, checkpoints=out)
        episodes = data.splits["validation"]
        self._tune = _few(raw["validation"], options.tune_decisions)
        self._episodes = [episodes[i] for i in self._tune]
        self.scores: dict[str, npt.NDArray[np.float64]] = {}  # validation predictions by predictor

    def run(self) -> dict[str, dict[str, Any]]:
        """Train the agents asked for, write their checkpoints, and return their cards."""
        trainings = {"cmm": self._cmm, "student": self._student}
        made = {name: trainings[name]() for name in self.options.agents}
        self.scores["linear on hand features"] = linear_baseline(
            self.train, self.validation, self.validation.rows, self.norm
        )
        return {name: self._finish(name, *result) for name, result in made.items()}

    def _fit(self, name: str, shape: Shape, lesson: Lesson) -> Trained:
        trainer = Trainer(shape, self.train, self.validation, lesson, self.options.train)
        work = cache_home() / "train" / self.data.name / name
        if not self.options.resume:
            (work / "state.json").unlink(missing_ok=True)
        key = hashlib.sha256(
            f"{self.sha256} {self.artifacts.model_id} {self.artifacts.template} {self.artifacts.pool} "
            f"{len(self.artifacts.train)} {self.train.rows.size}".encode()
        ).hexdigest()

        def report(epoch: int, epochs: int, row: dict[str, float]) -> None:
            self.progress(f"train {name} (validation {row['validation']:.4f})", epoch, epochs)

        return trainer.run(work, key, report)

    def _cmm(self) -> tuple[Checkpoint, Trained]:
        shape = Shape()
        lessons = ensemble_lessons(self.artifacts, self.norm, shape.feature)
        trained = self._fit("cmm", shape, lessons[0])
        weights = half(trained.weights)
        z, _ = outputs(shape, weights, self.train, lessons[0].rows)
        weights = half(to_common_space(weights, z, lessons[0].feature))
        rows = self.validation.rows
        z, y = outputs(shape, weights, self.validation, rows)
        fusions, fused = fit_all(z, y, self.validation, rows, self.norm)
        self.scores |= {f"cmm/{k}": v for k, v in fused.items()}
        ckpt = FusedCheckpoint(**self._parts(shape, weights), fusions=fusions)
        return self._with_rule(ckpt), trained

    def _student(self) -> tuple[Checkpoint, Trained]:
        shape = Shape.single(Shape().parameters)
        lessons = single_lessons(self.artifacts, self.norm, shape.feature)
        trained = self._fit("student", shape, lessons[0])
        weights = half(trained.weights)
        _, y = outputs(shape, weights, self.validation, self.validation.rows)
        columns = [self.norm.in_units(y[0, :, c], c) for c in range(N_TASKS)]
        self.scores["student"] = np.stack(columns, axis=1)
        return self._with_rule(Checkpoint(**self._parts(shape, weights))), trained

    def _parts(self, shape: Shape, weights: dict[str, Any]) -> dict[str, Any]:
        art = self.artifacts
        return {
            "shape": shape, "weights": weights, "norm": self.norm, "thresholds": art.thresholds,
            "span": art.span, "rule": RuleParams(), "card": {},
        }  # fmt: skip

    def _with_rule(self, ckpt: Checkpoint) -> Checkpoint:
        """Choose the order rule for a predictor."""
        brain = ckpt.brain(self.data.instrument.unit_lots)
        tables = [predictions(brain, self.raw["validation"][i]) for i in self._tune]

        def report(done: int, total: int) -> None:
            self.progress("choose the order rule on validation", done, total)

        rule, points = tune_rule(self.session, self._episodes, tables, report)
        return replace(ckpt, rule=rule, card={"rule_grid": points})

    def _metrics(self) -> dict[str, Any]:
        rows, target = self.validation.rows, self.validation.target[self.validation.rows]
        sample = self.artifacts.validation
        # The teacher answered a sample only: compare everybody on that sample too.
        at = np.searchsorted(rows, sample.index)
        inside = (at < len(rows)) & (rows[np.minimum(at, len(rows) - 1)] == sample.index)
        at = at[inside]
        sampled = {k: v[at] for k, v in self.scores.items()} | {"teacher": sample.predict[inside]}
        return {
            "all": {"n": len(rows), **merged(self.scores, target)},
            "teacher_sample": {"n": len(at), **merged(sampled, target[at])},
        }

    def _finish(self, name: str, ckpt: Checkpoint, trained: Trained) -> dict[str, Any]:
        art, opt = self.artifacts, self.options
        best = trained.best
        card = {
            "dataset": self.data.name,
            "simulated": self.data.simulated,
            "command": opt.command,
            "git": cards.git_revision(),
            "versions": cards.versions(),
            "data_sha256": {"source": self.data.source_sha256, "recorded": self.sha256},
            "seed": opt.train.seed,
            "config": asdict(opt.train),
            "samples": {
                "train": int(self.train.rows.size),
                "validation": int(self.validation.rows.size),
                "teacher_train": len(art.train),
                "teacher_validation": len(art.validation),
            },
            "teacher": {
                "model": art.model_id,
                "template": art.template,
                "pool": art.pool,
                "layers": len(art.mu),
                "cuts": list(art.cuts),
            },
            "train_seconds": round(trained.seconds, 1),
            "losses": cards.rounded(trained.history),
            "best_validation_loss": [round(float(x), 5) for x in best],
            "validation": self._metrics(),
            "note": "mmsim's reconstruction of CMM; validation metrics chose epoch, fusion and order rule",
            **ckpt.card,
        }
        if isinstance(ckpt, FusedCheckpoint):
            card["fusion"] = {
                task: {
                    kind: {
                        "width": round(fit[i].width, 6),
                        "inv_tau": fit[i].inv_tau,
                        "prior_range": round(float(np.ptp(fit[i].prior)), 4),
                        "validation_mse": fit[i].mse,
                    }
                    for kind, fit in ckpt.fusions.items()
                }
                for i, task in enumerate(TASKS)
            }
        folder = self.out / self.data.name
        # Once without latencies, so that the agent itself can be run; then the whole.
        replace(ckpt, card=card).write(folder, name)
        self.progress(f"measure {name}'s latency", 0, 1)
        card |= cards.latency(CMM() if name == "cmm" else Student(), self.session)
        replace(ckpt, card=card).write(folder, name)
        self.progress(f"measure {name}'s latency", 1, 1)
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def distil(
    data: MarketData,
    out: Path,
    options: Options,
    *,
    samples: int = 600,
    teacher: str | None = None,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Record a market, ask the teacher, train the students, and write their checkpoints.

    Every long step can be interrupted: the teacher's hidden states are cached chunk by chunk, the state of a
    training after every epoch.

    Parameters
    ----------
    data : MarketData
        The market.
    out : Path
        Folder of checkpoint folders; ``<out>/<dataset>/`` is written.
    options : Options
        Amounts and seed.
    samples : int
        Train decisions that the teacher reads; a quarter as many of validation.
    teacher : str, optional
        Language model: a local folder or a hub name; None: the packaged one.
    progress : callable, optional
        Told of every step.

    Returns
    -------
    dict
        The card of every agent written.
    """
    import torch

    from mmsim_agents.teacher.prepare import prepare_teacher

    require_linear(data.instrument, "the order rule that a training chooses")
    torch.set_num_threads(1)  # the same sums in the same order on any machine
    raw: dict[str, Raw] = {s: record(data, s, progress) for s in ("train", "validation")}
    artifacts = prepare_teacher(
        data.name,
        raw["train"],
        raw["validation"],
        unit=data.instrument.unit_lots,
        model=teacher,
        n_train=samples,
        n_validation=max(samples // 4, 1),
        seed=options.train.seed,
        progress=progress,
    )
    artifacts.heads.save(out / data.name, {"command": options.command, "git": cards.git_revision()})
    return Distillation(data, raw, artifacts, options, out, progress).run()
