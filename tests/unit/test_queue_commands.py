"""`mmsim calibrate queue`, `mmsim calibrate inside` and `mmsim run --queue` as a user types them."""

import json

import pytest

from mmsim.cli.main import main
from mmsim.testing import tiny_market


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path / "cache"))
    markets = {
        "tiny": tiny_market(11, seconds=60, name="tiny"),
        "wide": tiny_market(12, seconds=60, spread_ticks=6, name="wide"),
        "levels": tiny_market(11, seconds=5, level="L2", name="levels"),
    }
    monkeypatch.setattr("mmsim.data.load", lambda name, **_: markets[name])
    monkeypatch.setattr("mmsim.scoring.queue.POWERS", (1.0, 3.0))

    def command(*argv):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return command


def test_queue_prints_draws_and_writes(run, tmp_path):
    code, out, err = run(
        "calibrate", "queue", "-d", "tiny,wide", "--life", "4", "--write", "--plot", str(tmp_path / "q.png")
    )
    assert code == 0, err
    for text in (
        "tiny, train (chooses n)",
        "wide, test (chooses nothing)",
        "risk_averse",
        "pooled over 2 markets",
    ):
        assert text in out
    assert (tmp_path / "q.png").read_bytes().startswith(b"\x89PNG")
    kept = tmp_path / "cache" / "calibration"
    assert sorted(p.name for p in kept.iterdir()) == ["all.queue.toml", "tiny.queue.toml", "wide.queue.toml"]
    assert err.count("written to") == 3


def test_queue_json_on_snapshots(run):
    code, out, _ = run("calibrate", "queue", "-d", "tiny", "--life", "4", "--interval", "0.2", "--json")
    (found,) = json.loads(out)["markets"]
    assert code == 0
    assert found["dataset"] == "tiny"
    assert found["power"] == json.loads(out)["pooled_power"]
    assert [m["name"] for m in found["report"]][:3] == ["risk_averse", "proportional", "log"]
    assert {c["place"] for c in found["report"][0]["cells"]} == {"best", "2nd level", "3rd level"}


def test_inside_prints_and_draws(run, tmp_path):
    argv = ("calibrate", "inside", "-d", "wide", "--life", "4", "--interval", "0.2")
    code, out, err = run(*argv, "--plot", str(tmp_path / "i.png"))
    assert code == 0, err
    for text in ("wide, test, snapshots every 0.2 s, 5 levels", "through", "any", "strict"):
        assert text in out
    assert (tmp_path / "i.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(*argv, "--json")
    (scores,) = json.loads(out).values()
    assert [s["name"] for s in scores] == ["through", "any", "strict"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("queue", "-d", "levels"), "expected an order-by-order (L3) market, was L2"),
        (("queue", "-d", ","), "--dataset: expected names"),
        (("queue", "-d", "tiny", "--split", "tran"), "(did you mean 'train'?)"),
        (("queue", "-d", "tiny", "--interval", "1", "--write"), "leave out --interval"),
        (("inside", "-d", "wide", "--life", "4", "--interval", "1"), "an interval that divides"),
    ],
)
def test_wrong_usage_is_one_line(run, argv, message):
    code, out, err = run("calibrate", *argv)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_run_takes_a_queue_model(run):
    code, out, _ = run("run", "--queue", "risk_averse", "--print-config")
    assert code == 0
    assert json.loads(out)["sim"]["queue_model"] == "risk_averse"
