"""`mmsim probe`: the probe of one market, the random-weight control beside it, and what to think of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.features import WINDOW
from mmsim_agents.common.checkpoint import atomic_write
from mmsim_agents.common.progress import Progress, silent
from mmsim_agents.common.recording import Raw, evenly
from mmsim_agents.common.regimes import REGIMES, SPAN, thresholds
from mmsim_agents.common.tasks import TASKS
from mmsim_agents.teacher import prompt
from mmsim_agents.teacher.causal import FIELD_GROUPS, causal_profile, field_scales
from mmsim_agents.teacher.model import Pool, TeacherModel, load_teacher
from mmsim_agents.teacher.nfp import (
    Nfp,
    block_roles,
    cut_points,
    fluoresce,
    holm,
    paired_test,
    regime_test,
)
from mmsim_agents.teacher.prepare import Sampled, States, pick, read
from mmsim_agents.teacher.ridge import F64, one_thread

LEVEL = 0.05  # of the tests, after Holm's correction within each family


@dataclass(frozen=True)
class Comparison:
    """One comparison: what, its statistic, p-value, and p adjusted within its family."""

    family: str
    what: str
    statistic: float
    p: float
    adjusted: float

    @property
    def differs(self) -> bool:
        """Whether the adjusted p-value is below `LEVEL`."""
        return self.adjusted < LEVEL


@dataclass(frozen=True)
class ProbeReport:
    """Everything `mmsim probe` prints and writes; axes as in `Nfp`."""

    dataset: str
    teacher: Nfp
    model_id: str
    control: Nfp | None
    control_id: str | None
    cuts: tuple[int, int]
    thresholds: F64
    causal: F64 | None  # (3 field groups, L), sums to 1 over layers
    change: F64 | None  # (3, L), relative change
    tests: list[Comparison]
    verdict: list[str]
    settings: dict[str, Any] = field(default_factory=dict)


def probe_market(
    dataset: str,
    train_raw: Raw,
    validation_raw: Raw,
    *,
    instrument: str | None = None,
    unit: int = 1,
    model: TeacherModel | str | None = None,
    samples: int = 2000,
    control: bool = True,
    causal_samples: int = 24,
    span: int = SPAN,
    pool: Pool = "last",
    workers: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> ProbeReport:
    """Probe a model on a market: markers from TRAIN, light from VALIDATION.

    Parameters
    ----------
    dataset, train_raw, validation_raw, instrument, unit, model, span, pool, workers, progress
        As in `prepare.prepare_teacher`, which shares the cache of hidden states.
    samples : int
        TRAIN decisions (four fifths fit the markers, one fifth chooses the penalty); a quarter as many
        VALIDATION decisions are held out.
    control : bool
        Also probe a random-weight model of the same shape.
    causal_samples : int
        Held-out prompts of the causal reading; 0 leaves it out.
    seed : int
        Seed of permutations, perturbations and the control's weights.

    Returns
    -------
    ProbeReport
    """
    if not isinstance(model, TeacherModel):
        model = load_teacher(model)
    name = instrument or dataset
    limits = thresholds(train_raw, span)
    train, held = pick(
        dataset, train_raw, validation_raw, (samples, max(samples // 4, 1)), limits, span, name, unit
    )

    def measure(which: TeacherModel, label: str) -> tuple[Nfp, States]:
        states = read(which, dataset, train, held, label=label, pool=pool, workers=workers, progress=progress)
        fit, tune, _ = block_roles(len(train.index), "FFFFT", repeats=4)
        with one_thread():
            found = fluoresce(
                states.train.rows(fit), states.train.rows(tune), states.validation,
                seed=seed, progress=progress, what=f"probe{label}",
            )  # fmt: skip
        return found, states

    found, states = measure(model, "")
    causal = change = None
    if causal_samples > 0:
        causal, change = causal_profile(
            model, _windows(validation_raw, held, causal_samples), field_scales(train_raw), states.mu, states.sigma,
            instrument=name, unit=unit, pool=pool, seed=seed, progress=progress,
        )  # fmt: skip
    blank = other = None
    if control:
        other = load_teacher(model.spec.model, model.spec.dtype, random_weights=True, seed=seed)
        blank, _ = measure(other, "-control")
    tests = _tests(found, blank)
    return ProbeReport(
        dataset, found, model.model_id, blank, other.model_id if other else None, cut_points(found.nfp), limits,
        causal, change, tests, _verdict(blank, tests),
        {
            "template": prompt.TEMPLATE, "pool": pool, "samples_train": len(train.index),
            "samples_held_out": len(held.index), "causal_samples": causal_samples, "window": span, "seed": seed,
        },
    )  # fmt: skip


def _windows(raw: Raw, held: Sampled, n: int) -> list[npt.NDArray[np.void]]:
    start = np.concatenate([[0], np.cumsum([len(r) for r in raw])])
    out = []
    for i in evenly(len(held.index), n).tolist():
        e = int(held.episode[i])
        t = int(held.index[i] - start[e])
        out.append(raw[e][max(0, t + 1 - WINDOW) : t + 1][-prompt.SHOWN :])
    return out


def _family(family: str, found: Sequence[tuple[str, tuple[float, float]]]) -> list[Comparison]:
    adjusted = holm([p for _, (_, p) in found])
    return [Comparison(family, what, s, p, q) for (what, (s, p)), q in zip(found, adjusted, strict=True)]


def _tests(teacher: Nfp, control: Nfp | None) -> list[Comparison]:
    pairs = list(combinations(range(3), 2))

    def tasks(nfp: Nfp) -> list[tuple[str, tuple[float, float]]]:
        return [
            (f"{TASKS[a]} vs {TASKS[b]}", paired_test(nfp.light[:, a], nfp.light[:, b])) for a, b in pairs
        ]

    out = _family("layer profile of two tasks (TV distance)", tasks(teacher))
    out += _family(
        "layer profile in low vs high volatility (TV distance)",
        [(TASKS[c], regime_test(teacher, c)) for c in range(3)],
    )
    if control is not None:
        out += _family("control: layer profile of two tasks (TV distance)", tasks(control))
        for family, level in (
            ("teacher vs control: layer profile (TV distance)", False),
            ("teacher minus control: mean intensity", True),
        ):
            out += _family(
                family,
                [
                    (TASKS[c], paired_test(teacher.light[:, c], control.light[:, c], level=level))
                    for c in range(3)
                ],
            )
    return out


def _verdict(control: Nfp | None, tests: Sequence[Comparison]) -> list[str]:
    def of(start: str) -> list[Comparison]:
        return [t for t in tests if t.family.startswith(start)]

    def names(found: Sequence[Comparison]) -> str:
        return ", ".join(t.what for t in found) or "none"

    lines = []
    for title, start in (
        ("Layer profiles of tasks differ", "layer profile of two tasks"),
        ("Layer profiles in low and high volatility differ", "layer profile in low"),
    ):
        yes = [t for t in of(start) if t.differs]
        lines.append(f"{title}: {names(yes)}" if yes else f"FAILED: {title.lower()}: for no pair or task.")
    if control is None:
        lines.append("No control was run: nothing here says that pre-training matters.")
        return lines
    level = of("teacher minus control")
    above = [t for t in level if t.differs and t.statistic > 0]
    below = [t for t in level if t.differs and t.statistic < 0]
    same = [t for t in level if not t.differs]
    if above:
        lines.append(f"The teacher carries more than its random-weight control: {names(above)}.")
    if below:
        lines.append(f"FAILED: the random-weight control carries more than the teacher: {names(below)}.")
    if same:
        lines.append(f"FAILED: teacher and random-weight control carry the same: {names(same)}.")
    one, two = (
        float(np.mean([t.statistic for t in of(start)]))
        for start in ("layer profile of two tasks", "control: layer profile of two tasks")
    )
    shape = [t for t in of("teacher vs control: layer profile") if t.differs]
    lines.append(
        f"{'' if one > two and shape else 'FAILED: '}specialisation (mean TV distance between tasks) of the "
        f"teacher {one:.3f}, of the control {two:.3f}; their layer profiles differ for: {names(shape)}."
    )
    return lines


def write_report(report: ProbeReport, folder: Path) -> list[Path]:
    """Write ``nfp.parquet``, ``probe.json`` and ``nfp.png`` into `folder`; return their paths."""
    import pandas as pd

    from mmsim_agents.teacher.heatmap import draw

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("nfp.parquet", "probe.json", "nfp.png")]
    rows = report.teacher.records("teacher")
    if report.control is not None:
        rows += report.control.records("control")
    pd.DataFrame(rows).to_parquet(paths[0], index=False)
    atomic_write(paths[1], (json.dumps(summary(report), indent=1) + "\n").encode())
    draw(report, paths[2])
    return paths


def summary(report: ProbeReport) -> dict[str, Any]:
    """Return the report as plain values for JSON."""
    causal = None
    if report.causal is not None and report.change is not None:
        causal = {
            group: {"profile": report.causal[k].tolist(), "relative_change": report.change[k].tolist()}
            for k, group in enumerate(FIELD_GROUPS)
        }
    return {
        "schema": 1,
        "dataset": report.dataset,
        "model": report.model_id,
        "control": report.control_id,
        "note": "normalized fluorescent probe, mmsim's reconstruction",
        "settings": report.settings,
        "held_out": dict(zip(REGIMES, report.teacher.counts.tolist(), strict=True)),
        "volatility_thresholds": report.thresholds.tolist(),
        "cuts": list(report.cuts),
        "tests": [
            {"family": t.family, "what": t.what, "statistic": t.statistic, "p": t.p, "holm": t.adjusted}
            for t in report.tests
        ],
        "causal": causal,
        "verdict": report.verdict,
    }
