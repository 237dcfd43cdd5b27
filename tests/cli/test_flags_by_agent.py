"""Every flag of `mmsim run` with every kind of agent: a flag tried with one kind only once broke for the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmsim import registry
from mmsim.paths import cache_home

FILE = Path(__file__).with_name("agents_of_all_kinds.py")
KINDS = {
    "rule": "glft",
    "compiled": f"{FILE}:Compiled",
    "learned": "student",
    "user file": f"{FILE}:Mine",
    "without Strategy": f"{FILE}:Plain",
}
FLAGS: dict[str, tuple[str, ...]] = {
    "none": (),
    "--decision-latency 0": ("--decision-latency", "0"),
    "--decision-latency NS": ("--decision-latency", "2000000"),
    "--decision-latency profile": ("--decision-latency", "profile"),
    "--queue": ("--queue", "risk_averse"),
    "--fees": ("--fees", "shfe"),
    "--seed": ("--seed", "7"),
    "--split": ("--split", "validation"),
    "--set": ("--set", "sim.latency.order=1000000"),
}


@pytest.fixture
def no_profiles():
    shutil.rmtree(cache_home() / "profiles", ignore_errors=True)  # of the tests' own cache


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("short_markets", "no_profiles")
def test_flag_with_kind_of_agent(run, results, tmp_path, kind, flag):
    spec = KINDS[kind]
    out = tmp_path / "out"
    code, table, err = run("run", "-a", spec, "-d", "sim-rb", "--no-plots", "-o", out, *FLAGS[flag])
    assert (code, "error" in err) == (0, False)
    assert spec in table
    document = results(out)
    (row,) = document["results"]
    assert row["decisions"] + row["decisions_missed"] == 2 * 120
    assert row["decisions"] > 0
    sim = document["config"]["sim"]
    shown = {
        "--decision-latency 0": sim["latency"]["decision"] == 0,
        "--decision-latency NS": sim["latency"]["decision"] == 2_000_000,
        "--decision-latency profile": sim["latency"]["decision"] == "profile",
        "--queue": sim["queue_model"] == "risk_averse",
        "--fees": row["fees"] == "shfe",
        "--seed": sim["seed"] == 7,
        "--split": row["split"] == "validation",
        "--set": sim["latency"]["order"] == 1_000_000,
    }
    assert shown.get(flag, True)


@pytest.mark.parametrize("latency", ["0", "2000000", "profile"])
@pytest.mark.parametrize("agent", [a for a in registry.BUILTIN if a != "teacher"])
@pytest.mark.usefixtures("short_markets", "no_profiles")
def test_every_shipped_agent_runs_under_every_latency_mode(run, results, tmp_path, agent, latency):
    out = tmp_path / "out"
    code, _, err = run(
        "run", "-a", agent, "-d", "sim-rb", "--decision-latency", latency, "--no-plots", "-o", out,
    )  # fmt: skip
    assert (code, "error" in err) == (0, False)
    assert results(out)["results"][0]["decisions"] > 0


@pytest.mark.usefixtures("short_markets", "no_profiles")
def test_a_profile_is_recorded_once_and_again_for_an_edited_file(run, tmp_path):
    source = FILE.read_text(encoding="utf-8")
    path = tmp_path / "agents.py"
    path.write_text(source, encoding="utf-8")
    args = ("run", "-a", f"{path}:Mine", "-d", "sim-rb", "--decision-latency", "profile", "--no-plots")
    assert run(*args, "-o", tmp_path / "1")[0] == 0
    (first,) = (cache_home() / "profiles").iterdir()
    before = first.read_bytes()
    assert run(*args, "-o", tmp_path / "2")[0] == 0
    assert [p.read_bytes() for p in (cache_home() / "profiles").iterdir()] == [before]
    path.write_text(source + "\n\nX = 1\n", encoding="utf-8")
    assert run(*args, "-o", tmp_path / "3")[0] == 0
    assert len(list((cache_home() / "profiles").iterdir())) == 2
    assert first.read_bytes() == before
