"""Pages under docs/ name only tests, files and headings that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted((REPO / "docs").rglob("*.md"))
TEST = re.compile(r"\b(tests/[\w/.-]+\.py)::(\w+)")
LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
SPEC = REPO / "docs" / "fills.md"


def prose(page: Path) -> str:
    """The page without its code blocks, in which brackets mean something else."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def missing_tests(text: str) -> list[str]:
    out = []
    for file, name in TEST.findall(text):
        path = REPO / file
        if not path.is_file() or name not in functions(path):
            out.append(f"{file}::{name}")
    return out


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, made as the usual viewers make them."""
    heads = re.findall(r"^#+\s+(.*?)\s*$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page: Path, text: str) -> list[str]:
    out = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        wrong_anchor = anchor and path.suffix == ".md" and path.is_file() and anchor not in anchors(path)
        if not path.exists() or wrong_anchor:
            out.append(target)
    return out


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_every_test_and_link_of_a_page_exists(page: Path) -> None:
    text = prose(page)
    assert missing_tests(page.read_text(encoding="utf-8")) == []
    assert broken_links(page, text) == []


def test_the_specification_names_its_tests() -> None:
    text = prose(SPEC)
    named = TEST.findall(text)
    assert len(set(named)) > 60
    for line in text.splitlines():
        if line.startswith("| `"):  # a row of a table of rules
            assert TEST.search(line) or line.count("|") == 4, line


@pytest.mark.parametrize(
    "folder", ["test_market_events", "test_impact", "test_inside", "test_request_latency"]
)
def test_every_rule_that_has_a_test_is_in_the_specification(folder: str) -> None:
    path = REPO / "tests" / "unit" / "sim" / f"{folder}.py"
    tested = {name for name in functions(path) if name.startswith("test_")}
    assert tested
    assert tested - {name for _, name in TEST.findall(prose(SPEC))} == set()


def test_the_check_finds_what_is_missing() -> None:
    here = "tests/unit/test_docs_links.py"
    assert missing_tests(f"{here}::test_the_check_finds_what_is_missing") == []
    assert missing_tests(f"{here}::test_nothing and tests/none.py::test_x") == [
        f"{here}::test_nothing",
        "tests/none.py::test_x",
    ]
    assert broken_links(SPEC, "[a](none.md) [b](#nowhere) [c](fills.md#impact) [d](https://x.org/y)") == [
        "none.md",
        "#nowhere",
    ]
