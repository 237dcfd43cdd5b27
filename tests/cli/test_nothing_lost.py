"""Whatever ends a run, what was finished is kept, said and printed; nothing is computed for a folder that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mmsim import runner
from mmsim.errors import DataError
from mmsim.report import plots, table
from mmsim.testing import tiny_market

AGENTS = """
import os, signal, sys
from mmsim.agent import Agent, Quotes, Strategy


class Base(Strategy):
    where: str = "sim-rb"  # the market in which it does it

    def reset(self, ctx):
        self._here = ctx.dataset in self.where.split("+")

    def quote(self, obs):
        if self._here and obs.step == 3:
            self.act()
        return Quotes.none()


class Raises(Base):
    def act(self):
        raise ValueError("boom")


class Exits(Base):
    def act(self):
        sys.exit(0)


class Interrupts(Base):
    def act(self):
        raise KeyboardInterrupt


class PressesCtrlC(Base):
    def act(self):
        os.kill(os.getpid(), signal.SIGINT)


class Dies(Base):
    def act(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Wrong(Base):
    def act(self):
        raise AssertionError


class ClosesBadly(Base):
    def act(self):
        pass

    def close(self):
        raise OSError("cannot close")


class ExitsWhenMade(Strategy):
    def __init__(self, **params):
        sys.exit(0)

    def quote(self, obs):
        return Quotes.none()
"""
TWO = ("run", "-d", "sim-rb,sim-cu", "--no-plots")


@pytest.fixture
def agent(tmp_path):
    path = tmp_path / "agents.py"
    path.write_text(AGENTS, encoding="utf-8")
    return lambda name: f"{path}:{name}"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def shown(document):
    return [(r["dataset"], r["agent"]) for r in document["results"]]


def check(out, document):
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        "run.json",
        *document["files"],
    }
    fills = pd.read_parquet(out / "fills.parquet")
    for row in document["results"]:
        mine = (fills["agent"] == row["agent"]) & (fills["dataset"] == row["dataset"])
        assert mine.sum() == row["fills"]


@pytest.mark.usefixtures("short_markets")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Raises", "quote raised ValueError: boom"),
        ("Exits", "called sys.exit(0)"),
    ],
)
def test_an_agent_that_fails_does_not_keep_the_others_from_running(run, results, agent, out, name, said):
    code, text, err = run(*TWO, "-a", f"foic,{agent(name)},glft", "-o", out)
    document = results(out)
    assert code == 2
    assert shown(document) == [
        ("sim-rb", "foic"), ("sim-rb", "glft"), ("sim-cu", "foic"), ("sim-cu", agent(name)), ("sim-cu", "glft"),
    ]  # fmt: skip
    (error,) = document["errors"]
    assert (error["dataset"], error["agent"]) == ("sim-rb", agent(name))
    assert document["status"] == "failed"
    assert err.count("mmsim: error: ") == 1
    assert f"{name} on sim-rb: agent" in err
    assert said in err
    assert f"1 failed; 5 finished results kept in {out}" in err
    assert "Traceback" not in err
    assert text.count("glft") == 2
    check(out, document)


@pytest.mark.usefixtures("short_markets")
@pytest.mark.parametrize("name", ["Interrupts", "PressesCtrlC"])
def test_an_interrupt_keeps_what_is_finished(run, results, agent, out, name):
    code, text, err = run(*TWO, "-a", f"foic,{agent(name)},glft", "-o", out, "--set", f"{name}.where=sim-cu")
    document = results(out)
    assert code == 1
    assert shown(document) == [
        ("sim-rb", "foic"),
        ("sim-rb", agent(name)),
        ("sim-rb", "glft"),
        ("sim-cu", "foic"),
    ]
    assert document["status"] == "interrupted"
    assert f"mmsim: interrupted; 4 finished results kept in {out}" in err
    assert text.count("foic") == 2  # the unfinished market's table, too
    assert table.LEGEND[:20] in text
    check(out, document)


@pytest.mark.usefixtures("short_markets")
def test_an_interrupt_before_anything_is_finished_says_so_and_leaves_nothing(run, agent, out):
    code, text, err = run(*TWO, "-a", agent("Interrupts"), "-o", out)
    assert (code, text) == (1, "")
    assert err == "mmsim: interrupted; no result was finished\n"
    assert not out.exists()


@pytest.mark.usefixtures("short_markets")
def test_a_market_that_fails_does_not_keep_the_others_from_running(run, results, out, monkeypatch):
    load = runner.load

    def broken(name, **kw):
        if name == "sim-cu":
            raise DataError("expected rows, found none", source=name)
        return load(name, **kw)

    monkeypatch.setattr(runner, "load", broken)
    code, text, err = run("run", "-d", "sim-rb,sim-cu,sim-ag", "--no-plots", "-a", "foic", "-o", out)
    document = results(out)
    assert code == 2
    assert shown(document) == [("sim-rb", "foic"), ("sim-ag", "foic")]
    assert document["errors"] == [
        {"dataset": "sim-cu", "agent": None, "error": "sim-cu: expected rows, found none"}
    ]
    assert "mmsim: error: sim-cu: expected rows, found none\n" in err
    assert "sim-ag (SIMULATED market)" in text
    check(out, document)


@pytest.mark.usefixtures("empty_cache")
def test_an_agent_without_constants_does_not_keep_the_others_from_running(run, results, out, monkeypatch):
    whole = tiny_market(4, seconds=120, name="cu")  # a market that nobody calibrated
    short = {s: tuple(replace(e, end_ts=e.start_ts + 10**9) for e in eps) for s, eps in whole.splits.items()}
    data = replace(whole, splits={**short, "test": whole.splits["test"]})
    monkeypatch.setattr(runner, "load", lambda *_, **__: data)
    args = ("run", "-d", "cu", "-a", "foic,glft,liic", "--no-plots", "-o", out)
    code, _, err = run(*args)
    assert code == 2
    assert shown(results(out)) == [("cu", "foic")]
    assert (
        "mmsim: error: glft on cu: dataset 'cu' has no calibrated sigma, A, k: cu, train split: expected episodes longer "
        "than 5 s, found none; give the constants: mmsim calibrate cu --set sigma=... --set A=... --set k=... "
        "--set mean_spread=... --write\n"
    ) in err
    assert "mmsim: error: liic on cu: dataset 'cu' has no calibrated mean_spread" in err
    monkeypatch.setattr("mmsim.data.load", lambda *_, **__: data)
    by_hand = [x for c in ("sigma=0.3", "A=1", "k=2", "mean_spread=1") for x in ("--set", c)]
    assert run("calibrate", "cu", *by_hand, "--write")[0] == 0  # as it says
    assert run(*args, "--force")[0] == 0
    assert [agent for _, agent in shown(results(out))] == ["foic", "glft", "liic"]


@pytest.mark.usefixtures("short_markets")
def test_every_failure_is_reported(run, agent, out):
    code, text, err = run(*TWO, "-a", agent("Raises"), "-o", out, "--set", "agent.where=sim-rb+sim-cu")
    assert (code, text) == (2, "")
    assert err.count("mmsim: error: ") == 2
    assert "on sim-rb: " in err and "on sim-cu: " in err
    assert "2 failed; no result was finished" in err
    assert not out.exists()


@pytest.mark.usefixtures("short_markets")
def test_a_close_that_raises_keeps_the_result(run, results, agent, out):
    code, _, err = run("run", "-d", "sim-rb", "--no-plots", "-a", agent("ClosesBadly"), "-o", out)
    assert code == 2
    assert "close raised OSError: cannot close" in err
    assert len(results(out)["results"]) == 1


@pytest.mark.usefixtures("short_markets", "empty_cache")
def test_a_close_that_raises_while_a_profile_is_recorded_is_no_traceback(run, results, agent, out):
    code, _, err = run(
        "run",
        "-d",
        "sim-rb",
        "--no-plots",
        "-a",
        f"{agent('ClosesBadly')},foic",
        "-o",
        out,
        "--decision-latency",
        "profile",
    )
    assert code == 2
    assert "close raised OSError: cannot close" in err
    assert [row["agent"] for row in results(out)["results"]] == ["foic"]


def test_an_agent_that_exits_when_made_is_an_error(run, agent, out):
    code, text, err = run("run", "-d", "sim-rb", "-a", agent("ExitsWhenMade"), "-o", out)
    assert (code, text) == (2, "")
    assert "called sys.exit(0)" in err
    assert not out.exists()


@pytest.mark.usefixtures("short_markets")
def test_a_bug_ends_in_a_traceback_and_keeps_what_is_finished(run, results, out, monkeypatch, capsys):
    once = runner.run_agent

    def fails_later(spec, *args):
        if spec == "glft":
            raise RuntimeError("a bug of mmsim")
        return once(spec, *args)

    monkeypatch.setattr(runner, "run_agent", fails_later)
    with pytest.raises(RuntimeError, match="a bug of mmsim"):
        run("run", "-d", "sim-rb", "--no-plots", "-a", "foic,glft", "-o", out)
    document = results(out)
    assert (shown(document), document["status"]) == ([("sim-rb", "foic")], "failed")
    assert "foic" in capsys.readouterr().out
    check(out, document)


@pytest.mark.usefixtures("short_markets")
def test_each_market_is_printed_and_each_agent_written_when_it_is_done(run, results, out, monkeypatch):
    seen = []
    once = runner.run_agent

    def look(spec, agent, params, market, *rest):
        seen.append((market.data.name, spec, len(results(out)["results"]), len(printed)))
        return once(spec, agent, params, market, *rest)

    printed: list[str] = []
    render = table.render
    monkeypatch.setattr(runner, "run_agent", look)
    monkeypatch.setattr(table, "render", lambda r, **kw: (printed.append(r[0].dataset), render(r, **kw)))
    code, text, _ = run(*TWO, "-a", "foic,glft", "-o", out)
    assert code == 0
    assert seen == [
        ("sim-rb", "foic", 0, 0), ("sim-rb", "glft", 1, 0), ("sim-cu", "foic", 2, 1), ("sim-cu", "glft", 3, 1),
    ]  # fmt: skip
    assert text.count(table.LEGEND[:20]) == 1


@pytest.mark.usefixtures("short_markets")
@pytest.mark.parametrize(
    "problem", [RuntimeError("no font"), OSError(28, "No space left on device"), KeyboardInterrupt()]
)
def test_pictures_that_fail_lose_no_table(run, results, out, monkeypatch, problem):
    def fail(*args):
        raise problem

    monkeypatch.setattr(plots, "plot_comparison", fail)
    code, text, err = run("run", "-d", "sim-rb", "-a", "foic", "-o", out)
    document = results(out)
    assert code == (1 if isinstance(problem, KeyboardInterrupt) else 2)
    assert "foic" in text
    assert shown(document) == [("sim-rb", "foic")]
    assert document["files"] == ["fills.parquet", "steps.parquet", "sim-rb-foic.png"]
    assert ("interrupted" if code == 1 else "--no-plots leaves them out") in err
    check(out, document)


@pytest.mark.parametrize(
    ("name", "said"),
    [("file", "not a folder"), ("file/x", "Not a directory"), ("x" * 300, "File name too long")],
)
def test_a_folder_that_cannot_be_written_is_found_before_computing(run, tmp_path, monkeypatch, name, said):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(runner, "load", lambda *a, **kw: pytest.fail("computed something"))
    code, text, err = run("run", "-d", "sim-rb", "-a", "foic", "-o", tmp_path / name)
    assert (code, text) == (2, "")
    assert said in err and "choose another with --out" in " ".join(err.split())
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("short_markets")
def test_a_second_run_into_a_folder_needs_force(run, results, out):
    args = ("run", "-d", "sim-rb", "-o", out)
    assert run(*args, "-a", "foic,glft")[0] == 0
    first = results(out)
    code, text, err = run(*args, "-a", "liic")
    assert (code, text) == (2, "")
    assert "holds a run" in err and "--force" in err
    assert results(out) == first
    assert run(*args, "-a", "liic", "--force")[0] == 0
    document = results(out)
    assert document["files"] == ["fills.parquet", "steps.parquet", "sim-rb-comparison.png", "sim-rb-liic.png"]
    check(out, document)  # no picture of the first run, either


@pytest.mark.usefixtures("short_markets")
def test_runs_of_the_same_second_get_folders_of_their_own(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert run("run", "-d", "sim-rb", "-a", "foic", "--no-plots")[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 3


PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from mmsim import runner
from conftest import _minutes
from mmsim.cli.main import main
load = runner.load
runner.load = lambda name, **kw: _minutes(load(name, **kw), 2, 60)
main(sys.argv[2:])
"""


def process(*argv, **kw):
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, Path(__file__).parent, *map(str, argv)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw,
    )  # fmt: skip


def test_a_killed_process_leaves_what_it_had_finished(results, agent, out):
    ran = process(*TWO, "-a", f"foic,{agent('Dies')},glft", "-o", out, "--set", "Dies.where=sim-cu")
    text, _ = ran.communicate(timeout=120)
    assert ran.returncode == -signal.SIGKILL
    document = results(out)
    assert (len(document["results"]), document["status"]) == (4, "running")
    assert "sim-rb (SIMULATED market)" in text
    tables = [pd.read_parquet(out / n) for n in document["files"] if "fills" in n]
    assert [len(t) for t in tables] == [r["fills"] for r in document["results"]]


def test_ctrl_c_from_outside(results, out):
    endless = ("run", "-d", "sim-rb,sim-cu", "--no-plots", "-a", "foic,PLACE", "-o", out)
    path = out.parent / "slow.py"
    path.write_text(
        "import time\nfrom mmsim.agent import Quotes, Strategy\n\n\nclass Slow(Strategy):\n"
        "    def quote(self, obs):\n        time.sleep(0.2)\n        return Quotes.none()\n"
    )
    ran = process(*(f"foic,{path}:Slow" if a == "foic,PLACE" else a for a in endless))
    until = time.monotonic() + 60
    while time.monotonic() < until and not (out / "run.json").exists():
        time.sleep(0.05)
    while time.monotonic() < until and not results(out)["results"]:
        time.sleep(0.05)
    ran.send_signal(signal.SIGINT)
    _, err = ran.communicate(timeout=60)
    assert ran.returncode == 1
    assert "interrupted; 1 finished result kept" in err
    assert "Traceback" not in err
    check(out, results(out))


def test_a_reader_that_closes_early_does_not_end_the_run(results, out):
    ran = process(*TWO, "-a", "foic", "-o", out, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert ran.stdout is not None
    ran.stdout.close()
    assert ran.wait(timeout=120) == 0
    assert results(out)["status"] == "done"
    assert len(results(out)["results"]) == 2
