"""The cache of recorded latencies: checked, made again, and not needed."""

import json

import pytest

from mmsim import caches, profiles
from mmsim.errors import ConfigError
from mmsim.sim.session import Session
from mmsim.testing import tiny_market


@pytest.fixture
def session(empty_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "_said", set())
    return Session(tiny_market(4, seconds=60), checkpoints=tmp_path / "none")


def recorded(session):
    return profiles.profile_for("foic", {}, session).tolist()


def test_a_profile_is_recorded_once(session, empty_cache):
    assert recorded(session) == recorded(session)
    assert len(list((empty_cache / "profiles").iterdir())) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "null",
        "[1]",
        "[" * 100_000,
        '{"latency_ns": [[1], [2, 3]]}',
        '{"latency_ns": ["x"]}',
        '{"latency_ns": [-1]}',
        "flip",
    ],
)
def test_a_damaged_profile_is_recorded_again(session, empty_cache, damage, caplog):
    recorded(session)
    [path] = (empty_cache / "profiles").iterdir()
    if damage == "flip":
        kept = json.loads(path.read_text())
        kept["latency_ns"][3] ^= 1
        damage = json.dumps(kept)
    path.write_text(damage)
    again = recorded(session)
    assert json.loads(path.read_text())["latency_ns"] == again
    assert [path.name in said and "is damaged" in said for said in caplog.messages] == [True]
    assert recorded(session) == again


def test_a_damaged_card_is_an_error(session, tmp_path):
    card = tmp_path / "none" / session.data.name / "foic.json"
    card.parent.mkdir(parents=True)
    card.write_text("{")
    with pytest.raises(ConfigError, match=r"foic\.json: cannot be read"):
        recorded(session)


def test_without_a_cache_a_profile_is_recorded_each_time(session, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path / "file"))
    assert len(recorded(session)) == len(recorded(session)) > 0
    assert ["cannot be written" in said for said in caplog.messages] == [True]
