"""`mmsim agents`, `mmsim check-agent` and `mmsim calibrate` as a user types them."""

import json
import multiprocessing
import re
from dataclasses import replace

import pytest

from mmsim.calibration_store import lookup
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


HANGS = """
import os
import time
from mmsim.agent import Quotes, Strategy

class Mine(Strategy):
    at: str = "quote"
    how: str = "loop"
    def act(self, hook):
        if hook != self.at:
            return
        if self.how == "loop":
            while True:
                try:
                    hook = hook
                except BaseException:
                    pass
        if self.how == "die":
            os._exit(7)
        if self.how == "crash":
            os.abort()
    def __init__(self, **params):
        super().__init__(**params)
        self.act("init")
    def reset(self, ctx):
        self.act("reset")
    def quote(self, obs):
        self.act("quote")
        if obs.inventory > 3:
            return Quotes(asks=((obs.ask_px, 1),))
        return Quotes(((obs.bid_px, 1),))
    def on_fill(self, fill):
        self.act("on_fill")
    def close(self):
        self.act("close")
"""


@pytest.mark.parametrize(
    ("hook", "clause"),
    [
        ("quote", "returns_quotes"),
        *(
            pytest.param(hook, clause, marks=pytest.mark.slow)
            for hook, clause in (
                ("init", "is_made"),
                ("reset", "resets"),
                ("on_fill", "plays"),
                ("close", "closes"),
            )
        ),
    ],
)
def test_check_agent_stops_one_that_never_comes_back(run, mine, hook, clause):
    mine.write_text(HANGS, encoding="utf-8")
    code, out, _ = run("check-agent", f"{mine}:Mine", "--set", f"agent.at={hook}", "--max-seconds", "3")
    assert code == 1
    assert re.search(rf"^failed  {clause} +not done after 3 s, stopped; .*--max-seconds$", out, re.MULTILINE)
    assert out.count("failed") == 1
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("how", "exit_code"), [("die", "7"), ("crash", "-6")])
def test_check_agent_outlives_one_that_ends_the_process(run, mine, how, exit_code):
    mine.write_text(HANGS, encoding="utf-8")
    code, out, _ = run("check-agent", f"{mine}:Mine", "--set", f"agent.how={how}")
    assert code == 1
    assert re.search(
        rf"^failed  returns_quotes +ended the process \(exit code {exit_code}\)$", out, re.MULTILINE
    )


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


FOUR = ("--set", "sigma=1", "--set", "A=2", "--set", "k=0.5", "--set", "mean_spread=3")


def test_calibrate_keeps_constants_given_by_hand(run, tiny):
    code, out, _ = run("calibrate", "tiny", *FOUR, "--write")
    assert (code, "fitted" in out) == (0, False)
    assert lookup("tiny") == {"sigma": 1.0, "A": 2.0, "k": 0.5, "mean_spread": 3.0}
    text = (tiny / "cache" / "calibration" / "tiny.toml").read_text(encoding="utf-8")
    assert "--set k=0.5" in text.splitlines()[0]
    assert run("calibrate", "tiny", "--set", "k=0.25", "--write")[0] == 0
    now = lookup("tiny")
    assert now["k"] == 0.25
    assert now["sigma"] != 1.0  # fitted


@pytest.mark.parametrize(("given", "said"), [
    ("kk=1", "expected one of sigma, A, k, mean_spread, was 'kk' (did you mean 'k'?)"),
    ("k=0", "--set k: expected a positive number, was '0'"), ("k=inf", "was 'inf'"), ("k", "was ''"),
])  # fmt: skip
def test_wrong_constants_by_hand_are_refused(run, tiny, given, said):
    code, out, err = run("calibrate", "tiny", "--set", given, "--write")
    assert (code, out) == (2, "")
    assert said in err
    assert not (tiny / "cache" / "calibration").exists()


def test_calibrate_says_why_it_cannot_and_what_works(run, tiny, monkeypatch):
    data = tiny_market(4, seconds=120, name="tiny")
    short = tuple(replace(e, end_ts=e.start_ts + 10**9) for e in data.splits["train"])
    monkeypatch.setattr(
        "mmsim.data.load", lambda name, **_: replace(data, splits={**data.splits, "train": short})
    )
    code, _, err = run("calibrate", "tiny", "--write")
    assert code == 2
    assert (
        "tiny, train split: expected episodes longer than 5 s, found none; run: mmsim calibrate tiny --split validation --write, or give"
        in err
    )
    assert run("calibrate", "tiny", "--split", "validation", "--write")[0] == 0  # as it says
    assert lookup("tiny")["k"] > 0


def test_ctrl_c_is_one_line_and_exit_code_1_for_every_command(run, monkeypatch):
    def press(*args, **kw):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmsim.data.load", press)
    assert run("calibrate", "sim-rb") == (1, "", "mmsim: interrupted\n")


def test_the_exit_codes_are_in_the_help(run):
    for argv in (("--help",), ("run", "--help")):
        code, out, _ = run(*argv)
        assert code == 0
        assert "Exit codes: 0 done" in " ".join(out.split())
