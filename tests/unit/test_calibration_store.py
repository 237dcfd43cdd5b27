import dataclasses

import numpy as np
import pytest

from mmsim import calibration_store as store
from mmsim.calibrate import CONSTANTS, Calibration
from mmsim.errors import ConfigError
from mmsim.testing import tiny_market

FOUND = Calibration(0.5, 0.25, 1.5, 1.125, 1.0, *([np.zeros(0)] * 4))
VALUES = {"sigma": 0.5, "A": 0.25, "k": 1.5, "mean_spread": 1.125}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_what_is_saved_is_found(own_cache):
    path = store.save("mine", FOUND, split="train", source_sha256="abc")
    assert path == own_cache / "calibration" / "mine.toml"
    assert store.lookup("mine") == VALUES
    assert store.lookup("mine", "abc") == VALUES
    assert [p.name for p in path.parent.iterdir()] == ["mine.toml"], "no half-written file stays"


def test_other_data_under_the_same_name_is_not_served_old_constants():
    store.save("mine", FOUND, split="train", source_sha256="abc")
    assert store.lookup("mine", "other") == {}


def test_an_unknown_dataset_has_none():
    assert store.lookup("no-such-dataset") == {}


@pytest.mark.parametrize("line", ["", 'k = "fast"\n', "k = true\n"])
def test_a_damaged_file_says_which_constant(own_cache, line):
    folder = own_cache / "calibration"
    folder.mkdir()
    (folder / "mine.toml").write_text("sigma = 1\nA = 1\nmean_spread = 1\n" + line, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml: expected a number for 'k'"):
        store.lookup("mine")


def test_a_market_without_constants_is_calibrated_once(own_cache, monkeypatch):
    data = tiny_market(4, seconds=120, name="mine")
    first = store.constants_for(data)
    assert set(first) == set(CONSTANTS)
    assert all(value > 0 for value in first.values())
    monkeypatch.setattr(store, "calibrate", None)  # a second calibration would fail
    assert store.constants_for(data) == first


def test_a_market_without_a_training_split_uses_the_next(own_cache):
    data = tiny_market(4, seconds=120, name="mine")
    only_test = dataclasses.replace(data, splits={"train": (), "validation": (), "test": data.splits["test"]})
    assert store.constants_for(only_test)["mean_spread"] > 0
    assert 'split = "test"' in (own_cache / "calibration" / "mine.toml").read_text(encoding="utf-8")


def test_shipped_constants_are_complete():
    folder = store.datasets_folder() / "calibration"
    files = sorted(path for path in folder.glob("*.toml") if not path.stem.endswith(".queue"))
    for path in files:
        found = store.lookup(path.stem)
        assert set(found) == set(CONSTANTS)
        assert all(np.isfinite(value) and value > 0 for value in found.values())
