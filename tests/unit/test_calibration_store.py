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
    path = store.save("mine", FOUND, split="train", source_sha256="s", market="abc")
    assert path == own_cache / "calibration" / "mine.toml"
    assert store.lookup("mine") == VALUES
    assert store.lookup("mine", "abc") == VALUES
    assert [p.name for p in path.parent.iterdir()] == ["mine.toml"], "no half-written file stays"


def test_other_data_under_the_same_name_is_not_served_old_constants():
    store.save("mine", FOUND, split="train", source_sha256="s", market="abc")
    assert store.lookup("mine", "other") == {}


def test_an_unknown_dataset_has_none():
    assert store.lookup("no-such-dataset") == {}


@pytest.mark.parametrize("line", ["", 'k = "fast"\n', "k = true\n", "k = [\n", "k = " + "[" * 100_000, "\0"])
def test_a_damaged_file_says_why_and_is_passed_over(own_cache, line, caplog):
    folder = own_cache / "calibration"
    folder.mkdir()
    (folder / "mine.toml").write_text("sigma = 1\nA = 1\nmean_spread = 1\n" + line, encoding="utf-8")
    assert store.lookup("mine") == {}
    [said] = caplog.messages
    assert "mine.toml is damaged (" in said
    assert "[" in line or "\0" in line or "expected a number for 'k'" in said


def test_a_flipped_digit_is_noticed_and_calibrated_again(own_cache, caplog):
    data = tiny_market(4, seconds=120, name="mine")
    first = store.constants_for(data)
    path = own_cache / "calibration" / "mine.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f"k = {first['k']!r}", f"k = {first['k'] + 1!r}"), encoding="utf-8")
    assert store.constants_for(data) == first
    assert ["not those that were written" in said for said in caplog.messages] == [True]
    assert path.read_text(encoding="utf-8") == text


def test_a_shipped_file_that_is_damaged_is_an_error(own_cache, tmp_path, monkeypatch):
    (tmp_path / "shipped" / "calibration").mkdir(parents=True)
    (tmp_path / "shipped" / "calibration" / "mine.toml").write_text("sigma = 1\n", encoding="utf-8")
    monkeypatch.setattr(store, "datasets_folder", lambda: tmp_path / "shipped")
    with pytest.raises(ConfigError, match=r"mine\.toml: expected a number for 'A'"):
        store.lookup("mine")


def test_the_same_sources_under_other_settings_have_other_constants(own_cache):
    data = tiny_market(4, seconds=120, name="mine")
    first = store.market_key(data)
    coarse = dataclasses.replace(data.instrument, tick_size=data.instrument.tick_size * 2)
    for change in (
        {"instrument": coarse},
        {"splits": {**data.splits, "train": ()}},
        {"source_sha256": "other"},
    ):
        assert store.market_key(dataclasses.replace(data, **change)) != first
    assert store.market_key(dataclasses.replace(data, fees={})) == first
    store.save(data.name, FOUND, split="train", source_sha256=data.source_sha256, market=first)
    assert store.constants_for(data) == VALUES
    other = dataclasses.replace(data, splits={**data.splits, "train": ()})
    assert store.constants_for(other) != VALUES


def test_without_a_cache_constants_are_calibrated_each_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path / "file"))
    data = tiny_market(4, seconds=120, name="mine")
    assert store.constants_for(data) == store.constants_for(data)
    assert ["cannot be written" in said for said in caplog.messages] == [True]
    with pytest.raises(ConfigError, match="could not be written to"):
        store.save("mine", FOUND, split="train", source_sha256="")


def test_a_market_without_constants_is_calibrated_once(own_cache, monkeypatch):
    data = tiny_market(4, seconds=120, name="mine")
    first = store.constants_for(data)
    assert set(first) == set(CONSTANTS)
    assert all(value > 0 for value in first.values())
    monkeypatch.setattr(store, "calibrate", None)  # a second calibration would fail
    assert store.constants_for(data) == first


def test_a_market_without_a_training_split_uses_the_next_and_says_so(own_cache, caplog):
    data = tiny_market(4, seconds=120, name="mine")
    only_test = dataclasses.replace(data, splits={"train": (), "validation": (), "test": data.splits["test"]})
    assert store.constants_for(only_test)["mean_spread"] > 0
    assert "mine has a test split only" in caplog.text
    assert 'split = "test"' in (own_cache / "calibration" / "mine.toml").read_text(encoding="utf-8")


def test_shipped_constants_are_complete():
    folder = store.datasets_folder() / "calibration"
    files = sorted(path for path in folder.glob("*.toml") if not path.stem.endswith(".queue"))
    for path in files:
        found = store.lookup(path.stem)
        assert set(found) == set(CONSTANTS)
        assert all(np.isfinite(value) and value > 0 for value in found.values())
