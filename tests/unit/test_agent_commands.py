"""`mmsim agents`, `mmsim check-agent` and `mmsim calibrate` as a user types them."""

import json

import pytest

from mmsim.cli.main import main
from mmsim.testing import tiny_market

GOOD = """
from mmsim.agent import Strategy, within_limits

class Mine(Strategy):
    size: int = 1
    def reset(self, ctx):
        self._ctx = ctx
    def quote(self, obs):
        return within_limits(obs.bid_px, obs.ask_px, self.size * self._ctx.unit, obs, self._ctx)
"""


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")

    def command(*argv):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return command


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_agents_lists_every_agent_with_its_parameters(run):
    code, out, _ = run("agents")
    assert code == 0
    for text in (
        "cmm",
        "student",
        "teacher",
        "ppo",
        "glft",
        "gamma: float = 0.05",
        "N: int = 0",
        "c: int | None = None",
    ):
        assert text in out


def test_agents_json(run):
    code, out, _ = run("agents", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["glft"]["parameters"]["gamma"] == ["float", 0.05]
    assert rows["foic"]["target"] == "mmsim_strategies.foic:FOIC"


def test_check_agent_passes_a_good_one(run, mine):
    code, out, _ = run("check-agent", f"{mine}:Mine", "--set", "agent.size=2")
    assert code == 0
    assert "failed" not in out
    assert "one decision takes" in out


def test_check_agent_exits_with_1_and_says_what_to_do(run, mine):
    mine.write_text(
        GOOD.replace("within_limits(obs.bid_px", "within_limits(obs.bid_px + 0.5"), encoding="utf-8"
    )
    code, out, _ = run("check-agent", f"{mine}:Mine")
    assert code == 1
    assert "failed  quotes_are_valid" in out
    assert "to_ticks" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("check-agent", "gltf"), "no agent 'gltf' (did you mean 'glft'?)"),
        (
            ("check-agent", "glft", "--set", "agent.gama=1"),
            "GLFT has no parameter 'gama' (did you mean 'gamma'?)",
        ),
        (("check-agent", "glft", "--set", "agnt.gamma=1"), "expected agent.NAME=VALUE, was 'agnt'"),
        (("check-agent", "nowhere/mine.py:Mine"), "agent file nowhere/mine.py: does not exist"),
        (
            ("calibrate", "sim-rb", "--split", "tran"),
            "--split: expected one of train, validation, test, was 'tran'",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run, argv, message):
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "mmsim.data.load", lambda name, **_: tiny_market(4, seconds=120, name=name), raising=False
    )
    return tmp_path


def test_calibrate_prints_draws_and_writes(run, tiny):
    code, out, err = run("calibrate", "tiny", "--plot", str(tiny / "fit.png"), "--write")
    assert code == 0
    assert "ticks / sqrt(s)" in out
    assert "fitted (1/s)" in out
    assert (tiny / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert (tiny / "cache" / "calibration" / "tiny.toml").is_file()
    assert "written to" in err


def test_calibrate_json(run, tiny):
    code, out, _ = run("calibrate", "tiny", "--json", "--folder", str(tiny / "here"))
    found = json.loads(out)
    assert code == 0
    assert {"sigma", "A", "k", "mean_spread"} < set(found)
    assert (tiny / "here" / "tiny.toml").is_file()
