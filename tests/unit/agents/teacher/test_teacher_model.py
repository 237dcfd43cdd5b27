import importlib.util
import json

import numpy as np
import pytest

from mmsim.errors import ConfigError
from mmsim_agents.teacher import features as ft
from mmsim_agents.teacher import model as tm
from mmsim_agents.teacher import prompt

TEXTS = ["rb spread1,8 next", "a b", "rb spread2,16 bid9,1:11 ask3 next", "xyz 123 next"] * 3


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return tm.load_teacher(str(tiny_folder), dtype="float32")


def oracle(model, text, pool):
    """One text, no padding, transformers' own call through the whole model."""
    import torch

    ids = torch.tensor([model.tokens(text)])
    with torch.no_grad():
        out = model._lm(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    states = torch.stack(out.hidden_states)[:, 0].numpy()
    return states[:, -1] if pool == "last" else states[:, 1:].mean(1)


@pytest.mark.parametrize("pool", ["last", "mean"])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_padded_batch_equals_one_by_one(tiny, pool, batch):
    got = tiny.hidden(TEXTS, batch=batch, pool=pool)
    assert got.shape == (len(TEXTS), 3, 32) and got.dtype == np.float32
    for row, text in zip(got, TEXTS, strict=True):
        np.testing.assert_allclose(row, oracle(tiny, text, pool), rtol=2e-4, atol=2e-5)


def test_same_prompt_twice_is_bit_equal_in_bfloat16(tiny_folder):
    model = tm.load_teacher(str(tiny_folder), dtype="bfloat16")
    one, two = model.hidden(TEXTS[:1]), model.hidden(TEXTS[:1])
    assert np.array_equal(one, two)


def test_ids_tell_weights_dtype_and_control_apart(tiny, tiny_folder):
    again = tm.load_teacher(str(tiny_folder), dtype="float32")
    half = tm.load_teacher(str(tiny_folder), dtype="bfloat16")
    control = [tm.load_teacher(str(tiny_folder), "float32", random_weights=True, seed=s) for s in (0, 0, 1)]
    assert again.model_id == tiny.model_id
    assert len({tiny.model_id, half.model_id, control[0].model_id, control[2].model_id}) == 4
    a, b, c = (m.hidden(TEXTS[:2]) for m in control)
    assert np.array_equal(a, b) and not np.allclose(a, c)
    assert a.shape == tiny.hidden(TEXTS[:2]).shape and not np.allclose(a, tiny.hidden(TEXTS[:2]))


def test_loading_leaves_the_global_generator_alone(tiny_folder):
    import torch

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    tm.load_teacher(str(tiny_folder), random_weights=True, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_generate_is_greedy_and_repeatable(tiny):
    assert tiny.generate("rb spread1", 4) == tiny.generate("rb spread1", 4)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [({"spec": "./nowhere"}, "existing folder"), ({"dtype": "int8"}, "dtype")],
)
def test_wrong_model_is_a_config_error(kwargs, match):
    pytest.importorskip("transformers", reason="transformers is not installed (make teacher)")
    with pytest.raises(ConfigError, match=match):
        tm.load_teacher(**kwargs)


def test_folder_without_a_model_is_a_config_error(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed (make teacher)")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        tm.load_teacher(str(tmp_path))


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ConfigError, match="make teacher"):
        tm.load_teacher()
    with pytest.raises(ConfigError, match="make teacher"):
        tm.default_gguf()


def test_hidden_refuses_what_it_cannot_read(tiny):
    for kwargs in ({"batch": 0}, {"pool": "max"}):
        with pytest.raises(ConfigError):
            tiny.hidden(TEXTS, **kwargs)
    with pytest.raises(ConfigError, match="tokens"):
        tiny.hidden(["a"])


def test_features_equal_hidden_and_come_from_disk_the_second_time(tiny, own_cache, monkeypatch):
    seen = []
    got = ft.teacher_features(tiny, TEXTS, key="toy/train", chunk=5, progress=lambda *a: seen.append(a))
    assert got.dtype == np.float16 and got.shape == (12, 3, 32)
    np.testing.assert_allclose(got, tiny.hidden(TEXTS), rtol=2e-3, atol=1e-3)
    assert [s[1:] for s in seen] == [(0, 12), (5, 12), (10, 12), (12, 12)]
    assert len(list(own_cache.rglob("*.npy"))) == 1  # chunks are gone
    monkeypatch.setattr(tm.TeacherModel, "hidden", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(ft.teacher_features(tiny, TEXTS, key="toy/train"), got)


def test_a_converted_model_is_as_it_was_written(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert not tm._as_written(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(bytes(100))
    (tmp_path / tm._SUMS).write_text(json.dumps(tm._sums(tmp_path)))
    assert tm._as_written(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(bytes(99) + b"1")
    assert not tm._as_written(tmp_path)
    (tmp_path / tm._SUMS).write_text("[" * 100_000)
    assert not tm._as_written(tmp_path)


def test_features_resume_after_an_interruption(tiny, own_cache, monkeypatch):
    whole = np.array(ft.teacher_features(tiny, TEXTS, key="whole", chunk=4))
    real, calls = tm.TeacherModel.hidden, []

    def breaks(self, texts, **kw):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(texts))
        return real(self, texts, **kw)

    monkeypatch.setattr(tm.TeacherModel, "hidden", breaks)
    with pytest.raises(KeyboardInterrupt):
        ft.teacher_features(tiny, TEXTS, key="broken", chunk=4)
    calls.clear()
    next(own_cache.rglob("broken*/chunk4-00001-*.npy")).write_bytes(b"torn")  # not a chunk: made again
    assert np.array_equal(ft.teacher_features(tiny, TEXTS, key="broken", chunk=4), whole)
    assert calls == [4, 4]


def test_features_depend_on_text_layers_and_pooling(tiny):
    a = ft.teacher_features(tiny, TEXTS, layers=[2])
    assert a.shape == (12, 1, 32)
    assert np.array_equal(a[:, 0], ft.teacher_features(tiny, TEXTS)[:, 2])
    assert not np.array_equal(a, ft.teacher_features(tiny, TEXTS[::-1], layers=[2]))
    assert not np.array_equal(a, ft.teacher_features(tiny, TEXTS, layers=[2], pool="mean"))
    for wrong in ([], [3], [-1]):
        with pytest.raises(ConfigError, match="layers"):
            ft.teacher_features(tiny, TEXTS, layers=wrong)
    with pytest.raises(ConfigError, match="at least one prompt"):
        ft.teacher_features(tiny, [])


@pytest.mark.slow
def test_two_workers_give_the_features_of_one(tiny):
    one = np.array(ft.teacher_features(tiny, TEXTS, key="one", chunk=4))
    two = ft.teacher_features(tiny, TEXTS, key="two", chunk=4, workers=2)
    assert np.array_equal(one, two)


@pytest.mark.slow
@pytest.mark.teacher
def test_packaged_model_reads_prompts(toy_raw, tmp_path_factory, monkeypatch):
    if importlib.util.find_spec(tm.DEFAULT_PACKAGE) is None:
        pytest.skip("the packaged language model is not installed (make teacher)")
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path_factory.mktemp("real")))
    model = tm.load_teacher()
    assert (model.n_layers, model.width) == (31, 576)
    raw = toy_raw(60)
    texts = prompt.render_many(raw, np.arange(10, 60), "sim-rb")
    assert max(len(model.tokens(t)) for t in texts) <= 64
    assert np.median([len(model.tokens(t)) for t in texts]) <= 60
    assert "Paris" in model.generate("The capital of France is", 8)
