"""The cache of hidden states: resumed, checked, and not needed. (With a language model: test_teacher_model.py.)"""

import hashlib

import numpy as np
import pytest

from mmsim_agents.teacher import features as ft

TEXTS = [f"{k} {k * k}" for k in range(12)]


class Hashes:
    """Hidden states that are bytes of a hash of the text; counts how many texts it was asked for."""

    model_id, n_layers, width = "hashes", 3, 8

    def __init__(self):
        self.asked = 0

    def hidden(self, texts, batch=8, pool="last"):
        self.asked += len(texts)
        raw = [
            list(hashlib.sha256(f"{pool} {t}".encode()).digest()[: self.n_layers * self.width]) for t in texts
        ]
        return np.array(raw, np.float32).reshape(len(texts), self.n_layers, self.width)


@pytest.fixture
def model():
    return Hashes()


def test_features_are_computed_once(model, empty_cache):
    got = ft.teacher_features(model, TEXTS, key="x", chunk=5)
    assert np.array_equal(got, Hashes().hidden(TEXTS).astype(np.float16))
    assert np.array_equal(ft.teacher_features(model, TEXTS, key="x"), got)
    assert model.asked == len(TEXTS)
    assert len(list(empty_cache.rglob("*.npy"))) == 1  # chunks are gone


def test_features_resume_and_torn_chunks_are_made_again(model, empty_cache, monkeypatch, caplog):
    real = Hashes.hidden

    def breaks(self, texts, **kw):
        if self.asked == 8:
            raise KeyboardInterrupt
        return real(self, texts, **kw)

    monkeypatch.setattr(Hashes, "hidden", breaks)
    with pytest.raises(KeyboardInterrupt):
        ft.teacher_features(model, TEXTS, key="x", chunk=4)
    [path] = empty_cache.rglob("chunk4-00001-*.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"1")
    model.asked = -1000
    whole = ft.teacher_features(model, TEXTS, key="x", chunk=4)
    assert model.asked == -1000 + 8
    assert np.array_equal(whole, real(Hashes(), TEXTS).astype(np.float16))
    assert ["damaged" in said for said in caplog.messages] == [True]


@pytest.mark.parametrize("damage", ["flip", "cut", "junk"])
def test_damaged_features_are_made_again(model, empty_cache, damage, caplog):
    whole = np.array(ft.teacher_features(model, TEXTS, key="x"))
    [path] = empty_cache.rglob("features-*.npy")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-9] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-10], "junk": b"junk"}[damage])
    assert np.array_equal(ft.teacher_features(model, TEXTS, key="x"), whole)
    assert ["damaged (another checksum)" in said for said in caplog.messages] == [True]
    assert [p.name for p in empty_cache.rglob("*.npy")] == [path.name]


def test_features_without_a_cache_stay_in_memory(model, empty_cache, tmp_path, monkeypatch, caplog):
    whole = np.array(ft.teacher_features(model, TEXTS, key="x"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path / "file"))
    got = ft.teacher_features(model, TEXTS, key="x", chunk=5)
    assert np.array_equal(got, whole) and not got.flags.writeable
    assert ["cannot be written" in said for said in caplog.messages] == [True]
