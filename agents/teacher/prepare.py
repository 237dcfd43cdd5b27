"""From recorded episodes to `TeacherArtifacts`: what `mmsim train` and `mmsim probe` ask of the teacher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError, DataError
from mmsim.features import WINDOW
from mmsim_agents.common.progress import Progress, silent
from mmsim_agents.common.recording import Raw, evenly
from mmsim_agents.common.regimes import SPAN, regimes, thresholds
from mmsim_agents.common.tasks import HORIZON, samples
from mmsim_agents.teacher.artifacts import SampleSet, TeacherArtifacts
from mmsim_agents.teacher.features import teacher_features
from mmsim_agents.teacher.heads import fit_heads
from mmsim_agents.teacher.model import Pool, TeacherModel, load_teacher
from mmsim_agents.teacher.nfp import Probed, block_roles, cut_points, fluoresce
from mmsim_agents.teacher.prompt import TEMPLATE, render_many
from mmsim_agents.teacher.ridge import F64, apply_standard, one_thread, standardise

I64 = npt.NDArray[np.int64]

MIN_TRAIN, MIN_VALIDATION = 60, 20


@dataclass(frozen=True)
class Sampled:
    """Sampled decisions of one split before the model has read them."""

    index: I64
    episode: I64
    target: F64
    regime: npt.NDArray[np.int8]
    texts: list[str]


def sample(raw: Raw, n: int, limits: F64, span: int, instrument: str, unit: int, source: str = "") -> Sampled:
    """Pick about `n` evenly spaced decisions of a split and render their prompts.

    Parameters
    ----------
    raw : sequence of (n_i,) OBSERVATION
        Recorded episodes.
    n : int
        Decisions wanted (fewer where the split has fewer).
    limits : (2,) float64
        Volatility thresholds, from TRAIN.
    span : int
        Span of the trailing volatility, decisions.
    instrument, unit
        See `prompt.render`.

    Raises
    ------
    DataError
        If no decision has a full feature window (`WINDOW` decisions, itself included) and a target ahead.
    """
    if n < 1:
        raise ConfigError(f"samples: expected at least 1, was {n}")
    lengths = np.array([len(r) for r in raw], np.int64)
    start = np.cumsum(lengths) - lengths
    episode = np.repeat(np.arange(len(raw)), lengths)
    target, usable = samples(raw, unit)
    if len(usable) == 0:
        raise DataError(
            f"expected an episode of at least {WINDOW + HORIZON} decisions, the longest has "
            f"{int(lengths.max(initial=0))}",
            source=source,
        )
    index = usable[evenly(len(usable), n)]
    texts: list[str] = []
    for e in np.unique(episode[index]).tolist():
        texts += render_many(raw[e], index[episode[index] == e] - start[e], instrument, unit)
    regime = np.concatenate(regimes(raw, limits, span))[index]
    return Sampled(index, episode[index], target[index], regime, texts)


def pick(
    dataset: str,
    train: Raw,
    validation: Raw,
    counts: tuple[int, int],
    limits: F64,
    span: int,
    instrument: str,
    unit: int,
) -> tuple[Sampled, Sampled]:
    """Pick ``counts`` decisions of the two splits; see `sample`."""
    one, other = (
        sample(raw, n, limits, span, instrument, unit, f"{dataset}, {split} split")
        for raw, n, split in zip((train, validation), counts, ("train", "validation"), strict=True)
    )
    return one, other


@dataclass(frozen=True)
class States:
    """What a model made of the sampled decisions of both splits, standardised by `mu` and `sigma` of TRAIN, ``(L, d)``."""

    mu: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]
    train: Probed
    validation: Probed


def read(
    model: TeacherModel,
    dataset: str,
    train: Sampled,
    validation: Sampled,
    *,
    label: str = "",
    pool: Pool,
    workers: int,
    progress: Progress,
) -> States:
    """Let a model read the prompts of both splits; `label` tells the cache entries of two models apart."""
    one, other = (
        teacher_features(
            model,
            picked.texts,
            key=f"{dataset}-{split}{label}",
            pool=pool,
            workers=workers,
            progress=progress,
        )
        for picked, split in ((train, "train"), (validation, "validation"))
    )
    mu, sigma = standardise(one)
    return States(
        mu,
        sigma,
        Probed(apply_standard(one, mu, sigma), train.target, train.regime),
        Probed(apply_standard(other, mu, sigma), validation.target, validation.regime),
    )


def prepare_teacher(
    dataset: str,
    train_raw: Raw,
    validation_raw: Raw,
    *,
    instrument: str | None = None,
    unit: int = 1,
    model: TeacherModel | str | None = None,
    n_train: int = 1500,
    n_validation: int = 500,
    span: int = SPAN,
    pool: Pool = "last",
    workers: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> TeacherArtifacts:
    """Let the teacher read a sample of a market, probe it, and fit its heads.

    Everything slow is cached by prompt and model (`features.teacher_features`), so a second call with
    the same arguments takes seconds.

    Parameters
    ----------
    dataset : str
        Name, for cache entries and messages.
    train_raw, validation_raw : sequence of (n_i,) OBSERVATION
        Recorded episodes (``Session.record``), in time order.
    instrument : str, optional
        Name that the prompt starts with; default: `dataset`.
    unit : int
        ``Instrument.unit_lots``.
    model : TeacherModel or str, optional
        A loaded model, or folder or hub name; default: the packaged model.
    n_train, n_validation : int
        Decisions to read in each split; the time is about 60 tokens each.
    span : int
        Span of the trailing volatility, decisions.
    pool : {"last", "mean"}
        See `TeacherModel.hidden`.
    workers : int
        Processes that compute features.
    seed : int
        Seed of the probe's permutations.
    progress : callable, optional
        ``progress(what, done, total)``.

    Returns
    -------
    TeacherArtifacts
        ``artifacts.heads.save(folder)`` makes the checkpoint of the agent ``teacher``.

    Raises
    ------
    DataError
        If a split holds too few decisions.
    """
    if not isinstance(model, TeacherModel):
        model = load_teacher(model)
    name = instrument or dataset
    limits = thresholds(train_raw, span)
    t, v = pick(dataset, train_raw, validation_raw, (n_train, n_validation), limits, span, name, unit)
    for split, picked, least in (("train", t, MIN_TRAIN), ("validation", v, MIN_VALIDATION)):
        if len(picked.index) < least:
            raise DataError(
                f"expected at least {least} decisions for the teacher, was {len(picked.index)}",
                source=f"{dataset}, {split} split",
            )
    states = read(model, dataset, t, v, pool=pool, workers=workers, progress=progress)
    mu, sigma, z, other = states.mu, states.sigma, states.train.hidden, states.validation.hidden
    fit, tune, held = map(states.train.rows, block_roles(len(t.index)))
    with one_thread():
        probe = fluoresce(fit, tune, held, seed=seed, progress=progress, what=f"probe {dataset}")
    card = {
        "dataset": dataset,
        "model": model.model_id,
        "spec": model.spec.model,
        "dtype": model.spec.dtype,
        "random_weights": model.spec.random_weights,
        "seed": model.spec.seed,
        "template": TEMPLATE,
        "pool": pool,
        "instrument": name,
        "unit": unit,
        "samples": {"train": len(t.index), "validation": len(v.index)},
    }
    with one_thread():
        heads, cross = fit_heads(z, t.target, other, v.target, mu, sigma, card)
    predicted = heads.predict_standard(other[:, heads.layer])
    return TeacherArtifacts(
        train=SampleSet(t.index, t.episode, z, t.target, cross, t.regime),
        validation=SampleSet(v.index, v.episode, other, v.target, predicted, v.regime),
        mu=mu,
        sigma=sigma,
        nfp=probe.nfp,
        cuts=cut_points(probe.nfp),
        thresholds=limits,
        span=span,
        heads=heads,
        probe=probe,
        model_id=model.model_id,
        template=TEMPLATE,
        pool=pool,
    )
