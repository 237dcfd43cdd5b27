"""`mmsim run --decision-timeout`: an agent that never comes back ends by itself, and the others run."""

import json
import time

import pytest

AGENTS = """
import time
from mmsim.agent import Quotes, Strategy

class Hangs(Strategy):
    at: str = "quote"
    def act(self, hook):
        while hook == self.at:
            try:
                time.sleep(0.001)
            except Exception:
                pass
    def __init__(self, **params):
        super().__init__(**params)
        self.act("constructor")
    def reset(self, ctx):
        self.act("reset")
    def quote(self, obs):
        if obs.step == 2:
            self.act("quote")
        return Quotes.none()
    def close(self):
        self.act("close")
"""


@pytest.fixture
def hangs(tmp_path):
    path = tmp_path / "hangs.py"
    path.write_text(AGENTS, encoding="utf-8")
    return f"{path}:Hangs"


@pytest.mark.usefixtures("short_markets")
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("quote", "decision 2 at"),
        ("reset", "reset took longer than 0.3 s (--decision-timeout)"),
        ("close", "close took longer than 0.3 s (--decision-timeout)"),
    ],
)
def test_a_hook_that_hangs_is_an_error_of_its_agent(run, hangs, tmp_path, hook, said):
    out = tmp_path / "out"
    begin = time.monotonic()
    code, _, err = run(
        "run", "-a", f"{hangs},foic", "-d", "sim-rb", "--no-plots", "-o", out, "--decision-timeout", "0.3",
        "--set", f"Hangs.at={hook}",
    )  # fmt: skip
    assert time.monotonic() - begin < 120  # kernels may have to be compiled first
    assert code == 2
    assert said in err
    assert "took longer than 0.3 s (--decision-timeout)" in err
    document = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert "foic" in [row["agent"] for row in document["results"]]
    assert document["config"]["decision_timeout_s"] == 0.3


@pytest.mark.usefixtures("short_markets", "empty_cache")
def test_the_limit_holds_while_a_profile_is_recorded(run, hangs, tmp_path):
    code, _, err = run(
        "run", "-a", f"{hangs},foic", "-d", "sim-rb", "--no-plots", "-o", tmp_path / "out", "--decision-timeout", "0.3",
        "--decision-latency", "profile",
    )  # fmt: skip
    assert code == 2
    assert "a decision took longer than 0.3 s" in err
    assert "1 failed; 1 finished" in err


@pytest.mark.usefixtures("short_markets")
def test_a_constructor_that_hangs_ends_the_run_before_anything_is_computed(run, hangs, tmp_path):
    code, out, err = run(
        "run", "-a", f"foic,{hangs}", "-d", "sim-rb", "-o", tmp_path / "out", "--decision-timeout", "0.3",
        "--set", "Hangs.at=constructor",
    )  # fmt: skip
    assert (code, out) == (2, "")
    assert "constructor took longer than 0.3 s" in err


@pytest.mark.parametrize("value", ["0", "-1", "nan", "x", "1e9"])
def test_limits_that_are_none(run, value):
    code, _, err = run("run", "-a", "foic", "-d", "sim-rb", "--decision-timeout", value)
    assert code == 2
    assert "timeout" in err
