"""`mmsim run` as a user types it: files, repeatability, and every way to get it wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Command = Callable[..., tuple[int, str, str]]

BROKEN = """
from mmsim.agent import Quotes, Strategy

class Broken(Strategy):
    def quote(self, obs):
        if obs.step == 3:
            return Quotes(((obs.bid_px, -1),), ())
        return Quotes.none()
"""


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_run_writes_what_it_promises(run: Command, tmp_path: Path) -> None:
    code, out, _ = run("run", "--agent", "glft,foic", "--dataset", "sim-rb", "--out", tmp_path)
    assert code == 0
    assert "SIMULATED" in out
    document = results(tmp_path)
    assert document["schema"] == 1
    assert [r["agent"] for r in document["results"]] == ["glft", "foic"]
    for row in document["results"]:
        assert row["simulated"] is True
        assert row["episodes"] == 6
        assert len(row["fills_sha256"]) == 64
        assert row["decisions"] == 6 * 1800
        assert row["decisions_missed"] == 0
        for name in ("epnl", "map_", "pnl_map"):
            assert set(row["metrics"][name]) >= {"mean", "std", "ci95"}
        assert set(row["latency_us"]) >= {"p50", "p99", "max"}
        fills = pq.read_table(tmp_path / "fills.parquet", filters=[("agent", "=", row["agent"])])
        assert fills.num_rows == row["fills"] > 100
    assert {"config", "versions", "git"} <= set(document)
    for name in ("sim-rb-glft", "sim-rb-foic", "sim-rb-comparison"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    steps = pq.read_table(tmp_path / "steps.parquet", columns=["agent"])
    assert steps.num_rows == 2 * 6 * 1800


def test_profile_latency_repeats_byte_for_byte(run: Command, tmp_path: Path) -> None:
    found = []
    for k in (1, 2):
        code, _, _ = run(
            "run", "--agent", "cmm", "--dataset", "sim-rb", "--decision-latency", "profile", "--no-plots", "--out", tmp_path / str(k)
        )  # fmt: skip
        assert code == 0
        found.append(results(tmp_path / str(k))["results"][0])
    assert found[0]["fills_sha256"] == found[1]["fills_sha256"]
    assert found[0]["fills"] > 0


def test_slow_agent_misses_decisions(run: Command, tmp_path: Path) -> None:
    args = (
        "run",
        "-a",
        "foic",
        "-d",
        "sim-rb",
        "--decision-latency",
        "1200000000",
        "--no-plots",
        "--out",
        tmp_path,
    )
    assert run(*args)[0] == 0
    row = results(tmp_path)["results"][0]
    assert row["decisions_missed"] == 2 * row["decisions"]


def test_an_agent_that_breaks_keeps_the_results_before_it(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN, encoding="utf-8")
    out = tmp_path / "out"
    code, _, err = run("run", "-a", f"foic,{path}:Broken", "-d", "sim-rb", "--no-plots", "--out", out)
    assert code == 2
    assert "Broken" in err
    assert "decision 3" in err
    assert "positive quantity" in err
    document = results(out)
    assert [r["agent"] for r in document["results"]] == ["foic"]
    assert document["errors"][0]["dataset"] == "sim-rb"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("run", "-a", "gltf"), "did you mean 'glft'?"),
        (("run", "-a", "glft", "-d", "sim-rv"), "did you mean 'sim-rb'?"),
        (("run", "-a", "glft", "--set", "agent.gama=1"), "did you mean 'gamma'?"),
        (("run", "-a", "glft", "--set", "sim.sede=1"), "did you mean 'seed'?"),
        (("run", "-a", "glft", "--set", "sim.seed=x"), "sim"),
        (("run", "-a", "glft", "--set", "nonsense"), "KEY=VALUE"),
        (("run", "-a", "glft", "--set", "agent.gamma=much"), "expected float"),
        (("run", "-a", "glft", "-d", "sim-rb", "--fees", "nyse"), "no fee schedule 'nyse'"),
        (("run", "-a", "glft", "--decision-latency", "warp"), "sim.latency.decision"),
        (("run", "-a", ","), "names separated by commas"),
        (("run", "-a", "nowhere.py:Class"), "nowhere.py"),
        (("run", "-c", "nowhere.toml"), "nowhere.toml"),
        (("runn",), "run"),
        (("data", "check", "amzm"), "did you mean 'amzn'?"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*argv)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert out == ""


def test_missing_data_says_where_it_looked_and_what_to_do(
    run: Command, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSIM_DATA_HOME", str(tmp_path / "none"))
    code, _, err = run("run", "-a", "foic", "-d", "amzn", "--out", tmp_path / "out")
    assert code == 2
    assert str(tmp_path / "none") in err
    assert "mmsim data fetch amzn" in err
    assert not (tmp_path / "out").exists()
    assert not (empty_cache / "datasets").exists()


def test_configuration_file_below_set_below_flags(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('agents = ["foic"]\n[sim]\nseed = 1\n[sim.latency]\norder = 5\n[glft]\ngamma = 0.2\n')
    args = ("run", "-c", path, "--set", "sim.seed=2", "--set", "sim.latency.ack=7", "--print-config")
    code, out, _ = run(*args, "--agent", "glft", "--seed", "3")
    assert code == 0
    shown = json.loads(out)
    assert shown["agents"] == ["glft"]
    assert (shown["sim"]["seed"], shown["sim"]["latency"]["order"], shown["sim"]["latency"]["ack"]) == (
        3,
        5,
        7,
    )
    assert shown["params"] == {"glft": {"gamma": 0.2}}
