"""The distillation end to end on a tiny market and a fake teacher, and the agents that come out of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

from mmsim.errors import ConfigError, DataError  # noqa: E402
from mmsim.features import feature_rows  # noqa: E402
from mmsim.sim.session import Session  # noqa: E402
from mmsim.testing.markets import tiny_market  # noqa: E402
from mmsim.types import MarketData  # noqa: E402
from mmsim_agents.cmm.agent import CMM  # noqa: E402
from mmsim_agents.cmm.checkpoint import FusedCheckpoint  # noqa: E402
from mmsim_agents.common import checkpoint  # noqa: E402
from mmsim_agents.common.recording import record  # noqa: E402
from mmsim_agents.common.regimes import regimes, thresholds  # noqa: E402
from mmsim_agents.common.tasks import targets  # noqa: E402
from mmsim_agents.distill.data import (  # noqa: E402
    ensemble_lessons,
    fit_normaliser,
    fit_projection,
    make_table,
    single_lessons,
)
from mmsim_agents.distill.pipeline import Distillation, Options  # noqa: E402
from mmsim_agents.distill.train import TrainConfig, Trainer  # noqa: E402
from mmsim_agents.distill.tune import Replayed, predictions  # noqa: E402
from mmsim_agents.students.agent import Student  # noqa: E402
from mmsim_agents.students.checkpoint import Checkpoint  # noqa: E402
from mmsim_agents.students.shape import Shape  # noqa: E402
from mmsim_agents.teacher.artifacts import SampleSet, TeacherArtifacts  # noqa: E402

Raw = list[npt.NDArray[np.void]]
LAYERS, WIDTH = 6, 12
QUICK = Options(
    train=TrainConfig(epochs=2, batch=64), train_rows=400, validation_rows=200, tune_decisions=300
)


def fake_samples(raw: Raw, limits: npt.NDArray[np.float64], every: int = 3) -> SampleSet:
    """A 'language model': six random layers on the true features; its heads see the truth with noise."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(LAYERS, 20, WIDTH)) / 5
    x = np.concatenate([feature_rows(r) for r in raw]).astype(float)
    y = np.concatenate([targets(r) for r in raw])
    offset = np.concatenate([np.arange(len(r)) for r in raw])
    episode = np.concatenate([np.full(len(r), i) for i, r in enumerate(raw)])
    index = np.flatnonzero((offset >= 19) & np.isfinite(y).all(1))[::every]
    hidden = np.stack([np.tanh(x[index] @ mix[layer]) for layer in range(LAYERS)], axis=1)
    hidden = (hidden - hidden.mean(0)) / (hidden.std(0) + 1e-9)
    predict = y[index] + 0.1 * rng.normal(size=(len(index), 3))
    regime = np.concatenate(regimes(raw, limits))[index]
    return SampleSet(index, episode[index], hidden.astype(np.float16), y[index], predict, regime)


def fake_teacher(raw: dict[str, Raw]) -> TeacherArtifacts:
    limits = thresholds(raw["train"])
    nfp = np.random.default_rng(1).uniform(size=(LAYERS, 3, 3))
    return TeacherArtifacts(
        train=fake_samples(raw["train"], limits),
        validation=fake_samples(raw["validation"], limits),
        mu=np.zeros((LAYERS, WIDTH), np.float32),
        sigma=np.ones((LAYERS, WIDTH), np.float32),
        nfp=nfp / nfp.sum(0),
        cuts=(2, 4),
        thresholds=limits,
        span=100,
        heads=None,  # type: ignore[arg-type]
        probe=None,  # type: ignore[arg-type]
        model_id="fake",
        template="none",
        pool="last",
    )


@pytest.fixture(scope="module")
def market() -> MarketData:
    return tiny_market(seconds=150, name="tiny")


@pytest.fixture(scope="module")
def raw(market: MarketData) -> dict[str, Raw]:
    return {s: record(market, s) for s in ("train", "validation")}


@pytest.fixture(scope="module")
def trained(
    market: MarketData, raw: dict[str, Raw], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, dict[str, object]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSIM_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("checkpoints")
        return out, Distillation(market, raw, fake_teacher(raw), QUICK, out).run()


def test_checkpoints_are_small_complete_and_honest(
    trained: tuple[Path, dict[str, dict[str, object]]],
) -> None:
    out, cards = trained
    files = sorted(p.name for p in (out / "tiny").iterdir())
    assert files == ["cmm.json", "cmm.safetensors", "student.json", "student.safetensors"]
    assert sum(p.stat().st_size for p in (out / "tiny").iterdir()) < 2 * 2**20
    for name in ("cmm", "student"):
        card = json.loads((out / "tiny" / f"{name}.json").read_text())
        assert card == cards[name]
        assert card["seed"] == 0 and card["data_sha256"]["recorded"] and card["versions"]["numpy"]
        assert len(card["losses"]) == 2 and len(card["latency_ns"]) > 100
        assert {"cmm/hajek", "student", "teacher", "linear on hand features"} <= set(
            card["validation"]["teacher_sample"]
        )
        best = max(p["score"] for p in card["rule_grid"])
        chosen = next(p for p in card["rule_grid"] if all(p[k] == v for k, v in card["rule"].items()))
        assert chosen["score"] == best
    assert abs(cards["student"]["parameters"] / cards["cmm"]["parameters"] - 1) < 0.02  # type: ignore[operator]


def test_agents_run_repeat_and_keep_their_limits(
    trained: tuple[Path, dict[str, dict[str, object]]], market: MarketData
) -> None:
    session = Session(market, checkpoints=trained[0])
    for agent in (CMM(), CMM(fusion="mean", kappa=3.0), Student(max_units=2)):
        first = session.run(agent, market.splits["test"][0])
        again = session.run(agent, market.splits["test"][0])
        assert np.array_equal(first.fills, again.fills)
        assert len(first.fills) > 0
        assert np.abs(first.steps["inventory"]).max() <= first.max_inventory


def test_replayed_predictions_give_the_same_fills(
    trained: tuple[Path, dict[str, dict[str, object]]], market: MarketData, raw: dict[str, Raw]
) -> None:
    # The order rule is tuned on predictions made beforehand: they must be what the agent predicts.
    ckpt = checkpoint.read(trained[0] / "tiny", "cmm", FusedCheckpoint.parse)
    maker = Replayed(**asdict(ckpt.rule))
    maker._table = predictions(ckpt.brain(unit=1), raw["validation"][0])
    session = Session(market, checkpoints=trained[0])
    episode = market.splits["validation"][0]
    assert np.array_equal(session.run(maker, episode).fills, session.run(CMM(), episode).fills)


def test_bad_checkpoints_are_named(
    trained: tuple[Path, dict[str, dict[str, object]]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="mmsim train cmm --dataset nowhere"):
        checkpoint.read(tmp_path / "nowhere", "cmm", FusedCheckpoint.parse)
    folder = tmp_path / "tiny"
    shutil.copytree(trained[0] / "tiny", folder)
    path = folder / "cmm.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read"):
        checkpoint.read(folder, "cmm", FusedCheckpoint.parse)
    card = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps(card | {"schema": 99}))
    with pytest.raises(ConfigError, match="expected schema 1, was 99"):
        checkpoint.read(folder, "student", Checkpoint.parse)


def test_unknown_fusion_is_named(
    trained: tuple[Path, dict[str, dict[str, object]]], market: MarketData
) -> None:
    session = Session(market, checkpoints=trained[0])
    with pytest.raises(ConfigError, match=r"expected one of .*, was 'hajec' \(did you mean 'hajek'"):
        CMM(fusion="hajec").reset(session.context(market.splits["test"][0]))


def trainer(raw: dict[str, Raw], single: bool = False, epochs: int = 3) -> Trainer:
    art = fake_teacher(raw)
    norm = fit_normaliser(raw["train"], 1)
    tables = [make_table(raw[s], norm, art.thresholds, art.span, 1) for s in ("train", "validation")]
    shape = Shape(experts=27, c1=4, c2=4, hidden=8, feature=6)
    if single:
        shape = replace(shape, experts=1, outputs=3)
    lessons = (single_lessons if single else ensemble_lessons)(art, norm, 6)
    return Trainer(shape, *tables, lessons[0], TrainConfig(epochs=epochs, batch=32, lr=3e-3))


class InterruptedTrainingError(Exception):
    pass


@pytest.mark.parametrize("single", [False, True])
def test_an_interrupted_training_ends_like_an_undisturbed_one(
    raw: dict[str, Raw], tmp_path: Path, single: bool
) -> None:
    whole = trainer(raw, single).run()

    def stop(epoch: int, epochs: int, row: dict[str, float]) -> None:
        if epoch == 2:
            raise InterruptedTrainingError

    work = tmp_path / "work"
    with pytest.raises(InterruptedTrainingError):
        trainer(raw, single).run(work, "key", stop)
    assert sorted(p.name for p in work.iterdir()) == ["2.safetensors", "state.json"]
    seen: list[int] = []
    resumed = trainer(raw, single).run(work, "key", lambda e, n, r: seen.append(e))
    assert seen == [3]
    assert not work.exists()
    for name, value in whole.weights.items():
        assert np.array_equal(value, resumed.weights[name]), name
    assert whole.history == resumed.history
    # The loss on validation falls: the students learn something of this market.
    assert whole.history[-1]["task"] < whole.history[0]["task"]


def test_state_of_another_training_is_ignored(raw: dict[str, Raw], tmp_path: Path) -> None:
    def stop(epoch: int, epochs: int, row: dict[str, float]) -> None:
        raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        trainer(raw).run(tmp_path / "w", "one", stop)
    seen: list[int] = []
    trainer(raw, epochs=2).run(tmp_path / "w", "other", lambda e, n, r: seen.append(e))
    assert seen == [1, 2]


def test_teacher_weights_reach_only_the_sampled_rows(raw: dict[str, Raw]) -> None:
    t = trainer(raw)
    untaught = np.setdiff1d(
        t.train.rows, ensemble_lessons(fake_teacher(raw), fit_normaliser(raw["train"], 1), 6)[0].rows
    )
    from mmsim_agents.students.model import Students

    with torch.no_grad():
        losses = t.losses(Students(t.shape), untaught[:32])
    assert float(losses["feature"].abs().max()) == 0 and float(losses["distil"].abs().max()) == 0
    assert float(losses["task"].min()) > 0


def test_projection_is_a_pca_of_unit_mean_square() -> None:
    rng = np.random.default_rng(0)
    h = rng.normal(size=(200, 5)) * [5, 3, 1, 0, 0] + 7
    p = fit_projection(h, 4)
    t = p.apply(h)
    assert np.mean(t**2) == pytest.approx(1, rel=1e-4)
    cov = t.T @ t / len(t)
    off = cov - np.diag(np.diag(cov))
    assert np.abs(off).max() < 1e-3 and (np.diff(np.diag(cov)) <= 1e-6).all()
    assert fit_projection(np.ones((9, 3)), 4).apply(np.ones((2, 3))).tolist() == [[0.0] * 4] * 2


def test_too_little_data_is_named(raw: dict[str, Raw], market: MarketData) -> None:
    with pytest.raises(DataError, match="expected an episode of more than 30 decisions"):
        fit_normaliser([raw["train"][0][:25]], 1)
    with pytest.raises(DataError, match="no train split to train on"):
        record(replace(market, splits={"train": ()}), "train")


def test_command_line_names_a_wrong_agent(capsys: pytest.CaptureFixture[str]) -> None:
    from mmsim.cli.main import main

    with pytest.raises(SystemExit) as stop:
        main(["train", "cmmm", "--dataset", "sim-rb"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "(did you mean 'cmm'?)" in err
