import json
import math
import sqlite3

import numpy as np
import pytest

from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim_agents.common.maker import PredictiveMaker
from mmsim_agents.common.order_rule import RuleParams, order_rule
from mmsim_agents.teacher import model as tm
from mmsim_agents.teacher import prepare as pr
from mmsim_agents.teacher import prompt
from mmsim_agents.teacher.agent import Teacher
from mmsim_agents.teacher.answers import Answer, AnswerCache


@pytest.fixture(scope="module")
def market():
    return tiny_market(seconds=60, name="tiny")


@pytest.fixture(scope="module")
def trained(tiny_folder, market, tmp_path_factory):
    """A folder of checkpoints with the heads of the tiny model, and the recorded splits."""
    root = tmp_path_factory.mktemp("checkpoints")
    session = Session(market, SimConfig())
    raw = {s: [session.record(e) for e in market.splits[s]] for s in ("train", "validation", "test")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSIM_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        art = pr.prepare_teacher(
            "tiny", raw["train"], raw["validation"], n_train=70, n_validation=30,
            model=tm.load_teacher(str(tiny_folder), dtype="float32"),
        )  # fmt: skip
    art.heads.save(root / "tiny")
    return root, raw, art


def run(market, root, **params):
    session = Session(market, SimConfig(), checkpoints=root)
    agent = Teacher(**params)
    return session.run(agent, market.splits["test"][0]), agent


def test_parameters_are_the_documented_ones():
    own = set(Teacher.parameters()) - set(PredictiveMaker.parameters())
    assert own == {"model", "ask_every", "mode", "max_new_tokens"}


def test_second_run_is_the_first_from_disk_with_its_latencies(market, trained, monkeypatch):
    root = trained[0]
    one, agent = run(market, root)
    assert agent.asks == len(range(prompt.SHOWN - 1, one.decisions, 10)) > 0
    monkeypatch.setattr(tm, "load_teacher", lambda *_: pytest.fail("loaded the model"))
    monkeypatch.setattr("mmsim_agents.teacher.agent.load_teacher", lambda *_: pytest.fail("loaded the model"))
    two, _ = run(market, root)
    assert np.array_equal(one.fills, two.fills)
    for name in ("own_bid_px", "own_ask_px", "own_bid_qty", "own_ask_qty", "inventory"):
        assert np.array_equal(one.steps[name], two.steps[name])
    asked = np.arange(prompt.SHOWN - 1, one.decisions, 10)
    assert np.array_equal(one.steps["wall_ns"][asked], two.steps["wall_ns"][asked])
    assert (one.steps["wall_ns"][asked] > 0).all()


def test_quotes_are_the_order_rule_on_the_heads_predictions(market, trained, tiny_folder):
    root, raw, art = trained
    model = tm.load_teacher(str(tiny_folder), dtype="float32")
    result, _ = run(market, root, kappa=0.0, rho=0.0, ask_every=7)
    steps, rows = result.steps, raw["test"][0]
    asks = range(prompt.SHOWN - 1, len(rows), 7)
    for t in (*asks[:3], asks[1] + 3):
        asked = max(a for a in asks if a <= t)
        text = prompt.render(rows[: asked + 1], "tiny")
        dm, s, v = art.heads.predict(model.hidden([text]))[0].tolist()
        want = order_rule(
            int(steps["bid_px"][t]), int(steps["ask_px"][t]), dm, s, v, 0, 5, 1, 10, RuleParams(0.0, 0.0, 1)
        )
        if steps["inventory"][t] == 0:
            assert (steps["own_bid_px"][t], steps["own_ask_px"][t]) == (want.bid_px, want.ask_px)


def test_asks_every_decision_if_told_to(market, trained):
    result, agent = run(market, trained[0], ask_every=1)
    assert agent.asks == result.decisions - (prompt.SHOWN - 1)


def test_rule_comes_from_the_teachers_card_else_from_cmms(trained, market, tmp_path):
    heads = trained[2].heads
    rule = {"kappa": 0.25, "rho": 0.5, "max_units": 3}
    episode = market.splits["test"][0]
    for name in ("none", "cmm", "teacher"):
        root = tmp_path / name
        heads.save(root / "tiny", {"rule": rule} if name == "teacher" else None)
        if name == "cmm":
            (root / "tiny" / "cmm.json").write_text(json.dumps({"rule": rule}))
        agent = Teacher()
        agent.reset(Session(market, SimConfig(), checkpoints=root).context(episode))
        assert agent.card_rule() == (RuleParams() if name == "none" else RuleParams(**rule))
        agent.close()


def test_generate_mode_counts_answers_that_are_none(market, trained, tiny_folder, monkeypatch):
    replies = iter(['1, "spread": 1, "volume": 2}', "no", "no"] + ["no"] * 100)
    monkeypatch.setattr(tm.TeacherModel, "generate", lambda *_: next(replies))
    params = {"mode": "generate", "model": str(tiny_folder)}
    result, agent = run(market, trained[0], **params)
    assert agent.unparsable == agent.asks - 1 > 0
    again, second = run(market, trained[0], **params)
    assert second.unparsable == agent.unparsable and np.array_equal(again.fills, result.fills)


def test_generate_mode_with_a_real_generation(market, tiny_folder, tmp_path):
    result, agent = run(
        market, tmp_path, mode="generate", model=str(tiny_folder), max_new_tokens=3, ask_every=40
    )
    assert result.decisions > 0 and agent.asks > 0


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"mode": "guess"}, "Teacher.mode"),
        ({"ask_every": 0}, "ask_every"),
        ({}, "mmsim train cmm --dataset tiny"),
    ],
)
def test_wrong_parameters_and_missing_checkpoints(market, tmp_path, params, match):
    with pytest.raises((ConfigError, AgentError), match=match):
        run(market, tmp_path, **params)


def test_another_model_than_the_heads_were_fitted_on_is_refused(market, trained, tiny_folder, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    with pytest.raises((ConfigError, AgentError), match="heads were fitted on"):
        run(market, trained[0], model=str(other))


def test_answers_keep_the_first_and_survive_reopening(tmp_path):
    cache = AnswerCache(tmp_path / "a" / "x.sqlite3")
    assert cache.get("k") is None
    one = Answer(0.1, 1 / 3, math.pi, 5, True)
    cache.put("k", one)
    cache.put("k", one._replace(latency_ns=1))
    cache.close()
    assert AnswerCache(tmp_path / "a" / "x.sqlite3").get("k") == one


def test_damaged_answers_are_asked_for_again(tmp_path, caplog):
    path = tmp_path / "x.sqlite3"
    path.write_bytes(b"not a database, not at all" * 500)
    one = Answer(0.1, 1 / 3, math.pi, 5, True)
    cache = AnswerCache(path)
    assert cache.get("k") is None
    cache.put("k", one)
    cache.put("l", one)
    cache.close()
    assert ["damaged" in said for said in caplog.messages] == [True]
    with sqlite3.connect(path) as db:
        db.execute("UPDATE checked_answers SET s = 0.25 WHERE key = 'k'")
    db.close()
    cache = AnswerCache(path)
    assert cache.get("k") is None and cache.get("l") == one
    assert "an answer has another checksum" in caplog.messages[1]
    cache.put("k", one)
    assert cache.get("k") == one
    cache.close()


def test_answers_without_a_cache_last_as_long_as_the_process(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = AnswerCache(tmp_path / "file" / "x.sqlite3")
    one = Answer(0.1, 1 / 3, math.pi, 5, False)
    cache.put("k", one)
    assert cache.get("k") == one
    assert ["cannot be written" in said for said in caplog.messages] == [True]
    cache.close()
