"""The README's commands are run, and the table it prints is what the command prints today."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from mmsim.cli.main import build_app, main

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
CHECKED = ("glft", "foic")  # integer arithmetic: the same on every machine


def commands() -> list[list[str]]:
    """Every `mmsim ...` command of the README's shell blocks."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            for part in line.split("#")[0].split("&&"):
                words = shlex.split(part)
                if words[:1] == ["mmsim"]:
                    found.append(words[1:])
    return found


def call(*argv: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    return int(stop.value.code or 0)


@pytest.mark.parametrize("argv", commands(), ids=" ".join)
def test_every_command_of_the_readme_exists_with_its_options(argv: list[str]) -> None:
    app = get_command(build_app())
    context = app.make_context("mmsim", ["--help"], resilient_parsing=True)
    command, words = app, list(argv)
    while hasattr(command, "get_command") and words:
        command = command.get_command(context, words.pop(0))  # type: ignore[attr-defined]
        assert command is not None, argv
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    assert {w for w in words if w.startswith("--")} <= known


@pytest.mark.parametrize(
    "argv",
    [
        ["check-agent", "strategies/template.py:Template"],
        ["agents"],
        ["data", "list"],
        ["data", "check", "sim-rb", "--json", "-"],
    ],
    ids=" ".join,
)
def test_quick_commands_of_the_readme_work(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert argv in commands()
    monkeypatch.chdir(REPO)
    assert call(*argv) == 0
    out = capsys.readouterr().out
    if "--json" in argv:
        assert json.loads(out)


def test_template_runs_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = next(c for c in commands() if c[:2] == ["run", "--agent"] and "template" in c[2])
    monkeypatch.chdir(REPO)
    assert call(*argv, "--out", str(tmp_path), "--no-plots") == 0
    assert "Template" in capsys.readouterr().out


def test_strategies_of_the_readme_keep_the_contract(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2  # in Python, and compiled
    for number, code in enumerate(blocks):
        path = tmp_path / f"lean{number}.py"
        path.write_text(code, encoding="utf-8")
        assert call("check-agent", f"{path}:Lean") == 0


def cells(text: str) -> dict[tuple[str, str], list[str]]:
    """Table cells without the latency columns: ``{(market, agent): [...]}``."""
    market, out = "", {}
    for line in text.splitlines():
        title = re.match(r"(\S+) \((?:SIMULATED market|real data)\)", line)
        market = title.group(1) if title else market
        if line.startswith("│"):
            values = [v.strip() for v in line.strip("│ ").split("│")]
            out[market, values[0]] = values[1:13]
    return out


def test_printed_table_is_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    shown = {k: v for k, v in cells(README).items() if k[0].startswith("sim-")}
    assert {agent for _, agent in shown} == {"cmm", "student", "ppo", "glft", "foic"}
    assert call("run", "--agent", ",".join(CHECKED), "--no-plots", "--out", str(tmp_path)) == 0
    printed = cells(capsys.readouterr().out)
    assert len(printed) == 4 * len(CHECKED)
    for key, row in printed.items():
        assert row == shown[key], key


def test_what_the_readme_says_of_its_simulated_markets_is_in_their_tables() -> None:
    block, below = README.split("```text\n")[1].split("```", 1)
    rows: dict[str, dict[str, tuple[float, float, float]]] = {}
    for line in block.splitlines():
        if " (SIMULATED market)" in line:
            market = line.split()[0]
            rows[market] = {}
        elif match := re.match(r"│(\w+)\s*│\s*(\S+) \[(\S+), (\S+)\]", line):
            mean, low, high = (float(x.replace(",", "")) for x in match.groups()[1:])
            rows[market][match[1]] = (mean, low, high)
    ahead = {
        (market, other)
        for market, agents in rows.items()
        for other, (_, _, high) in agents.items()
        if agents["cmm"][1] > high
    }
    behind = [m for m, agents in rows.items() if any(low > agents["cmm"][2] for _, low, _ in agents.values())]
    lower = [m for m, agents in rows.items() if agents["student"][0] < agents["cmm"][0]]
    nothing = [m for m, agents in rows.items() if all(low <= 0 <= high for _, low, high in agents.values())]
    said = " ".join(below.split("\n\n")[1].split())
    assert ahead == {("sim-cu", "ppo"), ("sim-ag", "ppo"), ("sim-cu", "glft")}
    assert "CMM is ahead of `ppo` on `sim-cu` and `sim-ag` and of `glft` on `sim-cu`." in said
    assert behind == []
    assert lower == ["sim-fu", "sim-cu"]
    assert "whose mean is lower on `sim-fu` and `sim-cu` and higher on `sim-rb` and `sim-ag`" in said
    assert nothing == ["sim-fu", "sim-rb"]
    assert "on `sim-fu` and `sim-rb` the intervals of all five overlap and hold 0" in said
