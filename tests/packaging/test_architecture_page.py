"""docs/architecture.md is a map of what is there: every package is on it, and what it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([^`\n]+)`", PAGE)
FILE = re.compile(r"(?:mmsim|agents|strategies|tests|docs|datasets)/[\w./-]+\.(?:py|md|toml)")


def rooms(folder: str) -> set[str]:
    """Packages and modules directly under a folder."""
    inside = [p for p in (ROOT / folder).iterdir() if not p.name.startswith("__")]
    modules = {p.stem for p in inside if p.suffix == ".py"}
    return modules | {p.name for p in inside if (p / "__init__.py").is_file()}


def functions(path: Path) -> set[str]:
    """Names of all functions and methods of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def mapped(heading: str) -> set[str]:
    """Names in the first column of the table whose heading begins with `heading`."""
    rows = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_every_package_and_module_of_mmsim_is_on_the_map() -> None:
    assert mapped("`mmsim/`") == rooms("mmsim")


def test_every_package_of_the_agents_is_on_the_map_and_every_folder_on_it_exists() -> None:
    elsewhere = mapped("elsewhere")
    assert {f"agents/{name}" for name in rooms("agents")} <= elsewhere
    assert {name for name in elsewhere if not (ROOT / name).is_dir()} == set()


def test_every_folder_of_tests_is_on_the_map() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `tests` |"))
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert set(re.findall(r"`(\w+)`", row)) - {"tests"} == folders


def test_every_file_and_function_that_is_named_exists() -> None:
    files = {m[0] for m in FILE.finditer(PAGE)}
    assert len(files) > 40
    assert {f for f in files if not (ROOT / f).is_file()} == set()
    missing = [
        name
        for name in NAMED
        if "::" in name and name.split("::")[1] not in functions(ROOT / name.split("::")[0])
    ]
    assert missing == []


def test_the_page_stays_one_page() -> None:
    assert len(PAGE.splitlines()) <= 140
