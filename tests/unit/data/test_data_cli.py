"""``mmsim data`` as typed: tables, one-line errors with exit code 2, and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mmsim.data


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    rows = ["TradingDay,UpdateTime,LastPrice,Volume,Turnover,BidPrice1,BidVolume1,AskPrice1,AskVolume1"]
    for i in range(3600):
        clock = f"{9 + i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d}"
        rows.append(f"20240110,{clock},99.5,{2 * i},{2 * i * 995},99.5,5,100.0,7")
    path = tmp_path / "x.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_list_shows_every_dataset_and_its_state(say: Any, empty_cache: Path, tmp_path: Path) -> None:
    code, out, _ = say("list", "--data-home", str(tmp_path))
    lines = {line.split()[0]: line for line in out.splitlines()[1:] if line and line[0] != " "}
    assert code == 0
    assert set(lines) == set(mmsim.data.names())
    assert "to fetch" in lines["btcusdt"]
    assert "licensed" in lines["rb"]
    assert "to import" in lines["rb"]
    assert "IF2101" in lines["if"]
    assert "made on first use" in lines["sim-rb"]


def test_import_check_and_list(say: Any, empty_cache: Path, csv_file: Path, tmp_path: Path) -> None:
    argv = ["import", "mine", str(csv_file), "--format", "ctp", "--tick-size", "0.5", "--multiplier", "10"]
    code, out, _ = say(*argv, "--sessions", "09:00-11:30", "--episode-s", "300", "--unit-lots", "2")
    assert code == 0
    assert "mine: " in out
    assert (
        "level snapshot, 1 levels per side, 1 segment(s), episodes of 300 s: 7 train, 2 validation, 2 test"
        in out
    )
    assert "rows read: 3,600" in out
    assert "next: mmsim run --agent glft --dataset mine" in out
    code, out, _ = say("check", "mine", "--json", "-")
    report = json.loads(out)
    assert code == 0
    assert (report["dataset"], report["kind"], report["rows_read"]) == ("mine", "imported", 3600)
    assert report["span"]["start"] == "2024-01-10T01:00:00.000Z"
    assert report["dropped"] == {"auction": 0, "outside_session": 0, "after_close_repeat": 0}
    assert (report["crossed_books"], report["states_compared"], report["states_equal"]) == (0, 0, 0)
    assert [report["splits"][s]["episodes"] for s in ("train", "validation", "test")] == [7, 2, 2]
    assert report["sources"][0]["verified"]
    assert report["instrument"]["tick_size"] == "0.5"
    assert report["instrument"]["unit_lots"] == 2
    code, out, _ = say("check", "mine", "--json", str(tmp_path / "r.json"))
    assert json.loads((tmp_path / "r.json").read_text()) == report
    assert "lots traded: 7,198" in out
    _, out, _ = say("list")
    assert "imported" in next(line for line in out.splitlines() if line.startswith("mine"))


def test_wrong_bytes_in_the_cache_are_found(say: Any, empty_cache: Path, csv_file: Path) -> None:
    say("import", "mine", str(csv_file), "--format", "ctp", "--tick-size", "0.5", "--multiplier", "10")
    [events] = empty_cache.glob("datasets/mine-*/events.npy")
    content = bytearray(events.read_bytes())
    content[-1] ^= 1
    events.write_bytes(content)
    code, out, _ = say("check", "mine")
    assert code == 0  # made again
    assert "rows read: 3,600" in out
    assert events.read_bytes() != content


def test_a_broken_manifest_breaks_nothing_else(say: Any, empty_cache: Path, csv_file: Path) -> None:
    say("import", "mine", str(csv_file), "--format", "ctp", "--tick-size", "0.5", "--multiplier", "10")
    good = (empty_cache / "imports" / "mine.toml").read_text()
    for name, text in {
        "broken": "name = [",
        "deep": "a = " + "[" * 100_000,
        "long": "a = " + "9" * 5000,
        "odd": good.replace('name = "mine"', 'name = "odd"').replace("gap_s", "gaps"),
        "markup": good.replace('name = "mine"', 'name = "markup"').replace('title = "', 'title = "[/x] '),
    }.items():
        (empty_cache / "imports" / f"{name}.toml").write_text(text)
    (empty_cache / "imports" / "folder.toml").mkdir()
    code, out, _ = say("list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()[1:] if line and line[0] != " "}
    assert set(lines) == set(mmsim.data.names())
    for name in ("broken", "deep", "long", "odd", "folder"):
        assert " broken " in lines[name], name
        assert say("check", name)[0] == 2
    assert "unknown key 'splits.gaps'" in " ".join(out.split())
    assert "[/x]" in lines["markup"]
    assert " ready " in lines["mine"]
    assert say("check", "mine")[0] == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["check", "iff"], "no dataset 'iff' (did you mean 'if'?)"),
        (["fetch", "rb"], "dataset rb has no public origin"),
        (["fetch", "sim-rb"], "generated on first use"),
        (["import", "x", "none.csv", "--format", "ctp"], "none.csv: expected a file, was none"),
        (["import", "x", "{csv}", "--format", "ctp"], "needs the contract's tick size"),
        (
            ["import", "x", "{csv}", "--format", "ctp", "--tick-size", "0.3"],
            "row 2, field 'LastPrice': expected a mul",
        ),
        (["import", "x", "{csv}", "--format", "ctp", "--tick-size", "abc"], "expected decimal text"),
        (["import", "x", "{csv}", "--format", "lobster"], "x.csv"),
        (
            ["import", "x", "{csv}", "--format", "ctp", "--tick-size", "1", "--sessions", "9"],
            "--sessions expects",
        ),
        (
            ["import", "x", "{csv}", "--format", "ctp", "--tick-size", "1", "--option", "a"],
            "--option expects",
        ),
        (
            ["import", "x", "{csv}", "--format", "ctp", "--tick-size", "1", "--option", "colums=ctp"],
            "'columns'",
        ),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    say: Any, empty_cache: Path, csv_file: Path, argv: list[str], said: str
) -> None:
    code, out, err = say(*(a.format(csv=csv_file) for a in argv))
    assert code == 2
    assert err.startswith("mmsim: error: ")
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert not [p for p in empty_cache.rglob("*") if p.is_file()]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mmsim.cli.main import build_app\nbuild_app()\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'numba', 'pandas', 'torch', 'pooch'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_check(say: Any, real_data_home: Path) -> None:
    code, out, _ = say("check", "if", "--json", "-")
    report = json.loads(out)
    assert code == 0
    assert report["rows_read"] == 27_955 + 28_254 + 28_138
    assert report["counts"]["lots_traded"] == 84_288 + 88_203 + 94_934
    assert report["dropped"] == {"auction": 3, "outside_session": 0, "after_close_repeat": 8}
    assert [s["label"] for s in report["segments"]] == ["2021-01-04", "2021-01-05", "2021-01-06"]
    assert all(s["verified"] for s in report["sources"])
