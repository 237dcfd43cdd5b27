import json

import numpy as np
import pytest

from mmsim.errors import ConfigError, DataError
from mmsim.features import WINDOW
from mmsim_agents.common.regimes import regimes, thresholds, trailing_volatility
from mmsim_agents.common.tasks import targets
from mmsim_agents.teacher import heads as hd
from mmsim_agents.teacher import model as tm
from mmsim_agents.teacher import prepare as pr
from mmsim_agents.teacher import prompt
from mmsim_agents.teacher.ridge import apply_standard, standardise


def planted(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, 3)) * [2, 1, 0.5] + [0, 3, 1]
    h = rng.standard_normal((n, 4, 8)) * 100 + 50
    for c, layer in enumerate((0, 2, 3)):
        h[:, layer, c] = 7 * y[:, c] + 0.5 * rng.standard_normal(n)
    h[:, :, 7] = 3.0
    return h.astype(np.float32), y


@pytest.fixture(scope="module")
def fitted():
    h, y = planted(400, 0)
    v, w = planted(150, 1)
    mu, sigma = standardise(h)
    heads, cross = hd.fit_heads(
        apply_standard(h, mu, sigma), y, apply_standard(v, mu, sigma), w, mu, sigma, {"model": "m"}
    )
    return heads, cross, h, y, v, w


def test_heads_find_the_layer_and_predict(fitted):
    heads, cross, _, y, v, w = fitted
    assert heads.layer.tolist() == [0, 2, 3]
    assert min(heads.card["validation_r2"]) > 0.95
    got = heads.predict(v)
    assert np.abs(got - np.clip(w, y.min(0), y.max(0))).mean() < 0.15
    assert np.abs(cross - y).mean() < 0.2
    assert (got >= y.min(0)).all() and (got <= y.max(0)).all()


def test_cross_fitted_predictions_do_not_see_their_labels():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 3, 150)), rng.standard_normal((200, 3))  # nothing to learn
    mu, sigma = standardise(x)
    _, cross = hd.fit_heads(x, y, x[:80], y[:80], mu, sigma, {})  # "validation" that overfits wildly
    assert max(abs(np.corrcoef(cross[:, c], y[:, c])[0, 1]) for c in range(3)) < 0.25


def test_a_target_that_never_moves_has_no_r2():
    h, y = planted(120, 0)
    y[:, 1] = 1.0  # the spread of a market that is always one tick wide
    mu, sigma = standardise(h)
    z = apply_standard(h, mu, sigma)
    heads, cross = hd.fit_heads(z, y, z, y, mu, sigma, {})
    assert heads.card["validation_r2"][1] is None and None not in heads.card["validation_r2"][::2]
    assert (heads.predict(h)[:, 1] == 1).all() and (cross[:, 1] == 1).all()


def test_saved_heads_are_the_same_and_small(fitted, tmp_path):
    heads, *_, v, _ = fitted
    heads.save(tmp_path / "m", {"git": "x"})
    again = hd.Heads.load(tmp_path / "m")
    assert np.array_equal(again.predict(v), heads.predict(v)) and again.digest == heads.digest
    card = json.loads((tmp_path / "m" / "teacher.json").read_text())
    assert card["agent"] == "teacher" and card["git"] == "x" and card["layers"] == [0, 2, 3]


def test_missing_and_torn_checkpoints_are_config_errors(fitted, tmp_path):
    with pytest.raises(ConfigError, match="mmsim train cmm --dataset nope"):
        hd.Heads.load(tmp_path / "nope")
    fitted[0].save(tmp_path / "m")
    (tmp_path / "m" / "teacher.safetensors").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="cannot be read"):
        hd.Heads.load(tmp_path / "m")


def test_samples_are_spread_and_have_history_and_future(toy_raw):
    raw = [toy_raw(90, 0), toy_raw(15, 1), toy_raw(70, 2)]  # the second is too short to serve
    limits = thresholds(raw)
    got = pr.sample(raw, 40, limits, 100, "sim-rb", 1)
    starts = np.array([0, 90, 105])
    offset = got.index - starts[got.episode]
    assert len(got.index) == 40 and (np.diff(got.index) > 0).all() and set(got.episode) == {0, 2}
    assert (offset >= WINDOW - 1).all() and (offset + 10 < np.array([90, 15, 70])[got.episode]).all()
    for k in (0, 7, 39):
        e, o = got.episode[k], offset[k]
        assert got.texts[k] == prompt.render(raw[e][: o + 1], "sim-rb")
        np.testing.assert_array_equal(got.target[k], targets(raw[e])[o])
        assert got.regime[k] == regimes(raw, limits)[e][o]
    every = pr.sample(raw, 10**6, limits, 100, "sim-rb", 1)
    assert len(every.index) == (90 - 29) + (70 - 29)
    with pytest.raises(DataError, match="at least 30 decisions"):
        pr.sample([toy_raw(20)], 5, limits, 100, "x", 1)


def test_volatility_uses_the_past_only_and_terciles_are_terciles(toy_raw):
    raw = toy_raw(3000, 3)
    whole = trailing_volatility(raw)
    for n in (1, 2, 50, 1500):
        np.testing.assert_allclose(trailing_volatility(raw[:n]), whole[:n])
    share = np.bincount(regimes([raw], thresholds([raw]))[0], minlength=3) / 3000
    np.testing.assert_allclose(share, 1 / 3, atol=0.01)
    flat = raw.copy()
    flat[:] = raw[0]
    assert (trailing_volatility(flat) == 0).all()
    with pytest.raises(ConfigError):
        thresholds([raw[:1]])


@pytest.fixture(scope="module")
def artifacts(tiny_folder, toy_raw, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSIM_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        model = tm.load_teacher(str(tiny_folder), dtype="float32")
        train, val = [toy_raw(400, s) for s in (0, 1)], [toy_raw(300, 2)]
        seen = []
        art = pr.prepare_teacher(
            "sim-toy", train, val, model=model, n_train=120, n_validation=40,
            progress=lambda *a: seen.append(a),
        )  # fmt: skip
        return art, seen, model, train, val


def test_artifacts_hang_together(artifacts):
    art, seen, model, _, val = artifacts
    assert art.train.hidden.shape == (120, 3, 32) and art.validation.hidden.shape == (40, 3, 32)
    assert art.nfp.shape == (3, 3, 3) and art.cuts == (1, 2)
    np.testing.assert_allclose(art.nfp.sum(0), 1.0)
    assert {what for what, _, _ in seen} == {
        "teacher sim-toy-train",
        "teacher sim-toy-validation",
        "probe sim-toy",
    }
    z = art.train.hidden[:, 1:].astype(float)
    np.testing.assert_allclose(z.mean(0), 0, atol=5e-3)
    # the predictions are those that the agent will make from the raw state of the same prompt
    offset = art.validation.index[:6]
    texts = prompt.render_many(val[0], offset, "sim-toy")
    np.testing.assert_allclose(
        art.heads.predict(model.hidden(texts)), art.validation.predict[:6], rtol=0.02, atol=0.02
    )


def test_group_target_is_the_weighted_mean_of_the_groups_layers(artifacts):
    art = artifacts[0]
    assert [list(art.group_layers(g)) for g in range(3)] == [[0], [1], [2]]
    got = art.group_target(art.train, 2, 1, 0)
    np.testing.assert_allclose(got, art.train.hidden[:, 2], rtol=1e-3, atol=1e-3)
    # a group without probe mass takes equal weights
    assert art.group_target(art.train, 0, 0, 0).shape == (120, 32)


def test_too_little_data_is_a_data_error(tiny_folder, toy_raw):
    model = tm.load_teacher(str(tiny_folder), dtype="float32")
    with pytest.raises(DataError, match="at least 60 decisions"):
        pr.prepare_teacher("x", [toy_raw(50)], [toy_raw(200)], model=model)
