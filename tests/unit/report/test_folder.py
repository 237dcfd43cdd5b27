"""The folder of a run: whole at every moment, never of two runs, tried before anything is computed."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mmsim.errors import ConfigError, MmsimError
from mmsim.report import folder as module
from mmsim.report.folder import RunFolder

HERE = Path(__file__).parent


def made(path, results, status="done", **given):
    folder = RunFolder(path, **{"config": {}, **given})
    for result in results:
        folder.add(result)
    folder.finish(status)
    return folder


def run_json(path):
    return json.loads((path / "run.json").read_text(encoding="utf-8"))


def files(path):
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}


def agents(path, names):
    return [pd.read_parquet(path / n)["agent"].unique().tolist() for n in names]


def test_each_agent_is_written_at_once(results, tmp_path):
    folder = RunFolder(tmp_path / "x", config={})
    assert (run_json(folder.path)["status"], run_json(folder.path)["results"]) == ("running", [])
    for n, result in enumerate(results, 1):
        folder.add(result)
        now = run_json(folder.path)
        assert [r["agent"] for r in now["results"]] == [r.agent for r in results[:n]]
        assert files(folder.path) == {"run.json", *now["files"]}
        rows = sum(pq.read_metadata(folder.path / f).num_rows for f in now["files"] if "fills" in f)
        assert rows == sum(r.fills for r in results[:n])
    folder.finish("interrupted")
    now = run_json(folder.path)
    assert (now["status"], now["files"]) == ("interrupted", ["fills.parquet", "steps.parquet"])
    assert files(folder.path) == {"run.json", *now["files"]}
    for name in now["files"]:
        assert pq.read_schema(folder.path / name).metadata[b"mmsim.run_id"].decode() == now["run_id"]


def test_a_run_without_results_leaves_nothing(tmp_path):
    made(tmp_path / "a" / "b", [])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.txt").write_text("x")
    made(tmp_path, [])
    assert files(tmp_path) == {"mine.txt"}


def test_errors_are_in_run_json_at_once(results, tmp_path):
    folder = RunFolder(tmp_path, config={})
    folder.fail({"agent": "x", "dataset": "if", "error": "boom"})
    assert run_json(tmp_path)["errors"] == [{"agent": "x", "dataset": "if", "error": "boom"}]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file", "not a folder"),
        ("file/below", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nul\0byte", "null byte"),
        pytest.param("/proc/nowhere", "No such file", marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc")),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_written_is_found_first(tmp_path, name, said):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=f"cannot be written .*{said}.*--out"):
        RunFolder(tmp_path / name, config={})
    assert files(tmp_path) == {"file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_found_first(tmp_path):
    tmp_path.chmod(0o500)
    for path in (tmp_path, tmp_path / "below"):
        with pytest.raises(ConfigError, match="Permission denied"):
            RunFolder(path, config={})


@pytest.fixture
def full_disk():
    # as good as full: no file may grow
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(full):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if full else usual, most))

    yield fill
    fill(False)


def test_a_full_disk_is_found_first(tmp_path, full_disk):
    full_disk(True)
    with pytest.raises(ConfigError, match="cannot be written"):
        RunFolder(tmp_path / "x", config={})
    full_disk(False)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_keeps_what_was_written(results, tmp_path, full_disk):
    folder = RunFolder(tmp_path, config={})
    folder.add(results[0])
    before, there = run_json(tmp_path), files(tmp_path)
    full_disk(True)
    for lost in (lambda: folder.add(results[1]), lambda: folder.finish("failed")):
        with pytest.raises(MmsimError, match=r"cannot be written any more .*run\.json names what was kept"):
            lost()
    full_disk(False)
    assert run_json(tmp_path) == before
    assert there <= files(tmp_path)
    folder.finish("failed")  # once there is room again, what was in memory is there too
    assert [r["agent"] for r in run_json(tmp_path)["results"]] == [results[0].agent, results[1].agent]


def test_a_failure_while_writing_leaves_the_old_file(results, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, config={})
    folder.add(results[0])
    before = (tmp_path / "run.json").read_bytes()
    monkeypatch.setattr(module, "entry", lambda _: {1 / 0})
    with pytest.raises(ZeroDivisionError):
        folder.add(results[1])
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_folder_that_holds_a_run_is_refused(results, tmp_path):
    made(tmp_path, results[:1])
    before = {n: (tmp_path / n).read_bytes() for n in files(tmp_path)}
    with pytest.raises(ConfigError, match=r"holds a run; .*--force"):
        RunFolder(tmp_path, config={})
    assert {n: (tmp_path / n).read_bytes() for n in files(tmp_path)} == before
    (tmp_path / "run.json").unlink()  # tables alone are part of a run, too
    with pytest.raises(ConfigError, match="holds a run"):
        RunFolder(tmp_path, config={})


def test_force_replaces_the_run_and_leaves_the_users_files(results, tmp_path):
    old = made(tmp_path, results)
    for name in ("if-cmm.png", "sim-rb-comparison.png", "mine.png", "mine.txt"):
        (tmp_path / name).write_bytes(b"x")
    old.drawn()
    assert {"if-cmm.png", "sim-rb-comparison.png"} < set(run_json(tmp_path)["files"])
    before = (tmp_path / "run.json").read_bytes()
    new = RunFolder(tmp_path, config={}, force=True)
    new.fail({"agent": "x", "dataset": "if", "error": "boom"})
    assert (tmp_path / "run.json").read_bytes() == before  # until there is something to put in its place
    new.add(results[1])
    assert files(tmp_path) == {"run.json", *run_json(tmp_path)["files"], "mine.png", "mine.txt"}
    new.finish("done")
    now = run_json(tmp_path)
    assert now["run_id"] == new.run_id
    assert now["errors"][0]["error"] == "boom"
    assert "leftovers" not in now
    assert files(tmp_path) == {"run.json", "fills.parquet", "steps.parquet", "mine.png", "mine.txt"}


def test_force_without_a_result_leaves_the_old_run(results, tmp_path):
    made(tmp_path, results)
    before = {n: (tmp_path / n).read_bytes() for n in files(tmp_path)}
    made(tmp_path, [], force=True)
    assert {n: (tmp_path / n).read_bytes() for n in files(tmp_path)} == before


def test_force_replaces_a_run_of_an_older_mmsim_and_a_damaged_one(results, tmp_path):
    made(tmp_path, results[:1])
    old = run_json(tmp_path)
    for key in ("files", "run_id", "status"):
        del old[key]
    (tmp_path / "run.json").write_text(json.dumps(old))
    (tmp_path / "if-cmm.png").write_bytes(b"x")
    made(tmp_path, results[1:2], force=True)
    assert files(tmp_path) == {"run.json", "fills.parquet", "steps.parquet"}
    (tmp_path / "run.json").write_text('{"files": ')
    with pytest.raises(ConfigError, match="holds a run"):
        RunFolder(tmp_path, config={})
    made(tmp_path, results[:1], force=True)
    assert run_json(tmp_path)["results"][0]["agent"] == "cmm"


def test_a_run_json_cannot_name_files_elsewhere(results, tmp_path):
    out = tmp_path / "out"
    made(out, results[:1])
    victims = [tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt"]
    for path in victims:
        path.write_text("x")
    document = run_json(out) | {
        "files": ["../a.txt", str(victims[1]), "parts/../../c.txt", 5],
        "leftovers": "../a.txt",
    }
    (out / "run.json").write_text(json.dumps(document))
    made(out, results[:1], force=True)
    assert all(path.exists() for path in victims)


def test_two_runs_at_once_never_mix(results, tmp_path):
    made(tmp_path, results[:1])
    one, two = (RunFolder(tmp_path, config={}, force=True) for _ in range(2))
    one.add(results[0])
    with pytest.raises(MmsimError, match="another run has written"):
        two.add(results[1])
    one.finish("done")
    assert run_json(tmp_path)["run_id"] == one.run_id
    assert agents(tmp_path, ["fills.parquet"]) == [["cmm"]]


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("made_up", sys.argv[1])
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)
from mmsim.report import folder as module
from mmsim.report.folder import RunFolder
from mmsim.metrics import MarketResult
from mmsim.report.writer import entry
import pandas, pyarrow.parquet  # (here, not in every child)

base, force = Path(sys.argv[2]), sys.argv[3] == "force"
results = [MarketResult(name, "if", False, (made_up.made_up_episode(0, k, n=60),)) for k, name in enumerate("abc")]
module.git_revision, module.versions = (lambda: None), dict  # they take longer than all the rest
[entry(r) for r in results]  # (loads what it needs)
ACTIONS = ((Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "rmdir"), (Path, "write_text"), (Path, "chmod"))


def run(path, names, force=False):
    folder = RunFolder(path, config={}, force=force)
    for result in results:
        if result.agent in names:
            folder.add(result)
    folder.finish("done")
    for result in folder.results:
        (path / f"if-{result.agent}.png").write_bytes(result.agent.encode())
    folder.drawn()


def die_at(count):
    left = [count]
    for owner, name in ACTIONS:
        def wrapped(*args, _real=getattr(owner, name), **kw):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return _real(*args, **kw)
        setattr(owner, name, wrapped)


for count in range(1, 1000):
    path = base / f"{count:03d}"
    if (child := os.fork()) == 0:
        if force:
            run(path, "a")
        die_at(count)
        run(path, "c" if force else "ab", force)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


@pytest.mark.parametrize("mode", ["fresh", "force"])
def test_killed_at_any_moment_the_folder_is_whole(results, tmp_path, mode, monkeypatch):
    monkeypatch.setattr(module, "git_revision", lambda: None)
    monkeypatch.setattr(module, "versions", dict)
    # every change of the disk is a point where a process of its own is killed
    subprocess.run(
        [sys.executable, "-c", KILLED, HERE / "conftest.py", tmp_path, mode], check=True, timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    folders = sorted(tmp_path.iterdir())
    assert len(folders) > 20  # points
    seen = set()
    for path in folders:
        if not (path / "run.json").exists():
            assert not list(path.rglob("*.parquet"))  # killed before the run began
            continue
        now = run_json(path)
        who = [r["agent"] for r in now["results"]]
        seen.add((now["status"], "".join(who)))
        for name in now["files"]:
            assert (path / name).is_file(), (path, name)
        for table in ("fills", "steps"):
            tables = [n for n in now["files"] if n.removeprefix("parts/").startswith(table)]
            assert [a for found in agents(path, tables) for a in found] == who
            for name in tables:
                assert pq.read_schema(path / name).metadata[b"mmsim.run_id"].decode() == now["run_id"]
        for name in now["files"]:
            if name.endswith(".png"):
                assert name.removeprefix("if-").removesuffix(".png") in who
        after = made(path, [results[3]], force=True)  # and of the killed run nothing stays
        assert files(path) == {"run.json", *after._files}
    running = {("running", c) for c in ("", "a", "ab")}
    assert seen == (
        running | {("done", "ab")} if mode == "fresh" else {("done", "a"), ("running", "c"), ("done", "c")}
    )


def test_what_a_killed_run_left_goes_with_force(results, tmp_path):
    folder = RunFolder(tmp_path, config={})
    folder.add(results[0])
    for name in (
        "parts/fills-0-002.parquet",
        ".fills.parquet.x1.tmp",
        ".run.json.x2.tmp",
        "parts/.fills-1.parquet.x.tmp",
    ):
        (tmp_path / name).write_bytes(b"half")  # written, not yet named
    (tmp_path / ".mine.tmp").write_bytes(b"x")
    made(tmp_path, results[1:2], force=True)
    assert files(tmp_path) == {"run.json", "fills.parquet", "steps.parquet", ".mine.tmp"}
    assert not (tmp_path / "parts").exists()
