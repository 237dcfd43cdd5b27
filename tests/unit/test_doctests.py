"""Every docstring example of the three packages, run under the installed names."""

import doctest
import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest


def _modules() -> Iterator[str]:
    for top in ("mmsim", "mmsim_agents", "mmsim_strategies"):
        package = importlib.import_module(top)
        for info in pkgutil.walk_packages(package.__path__, f"{top}."):
            if not info.name.endswith("__main__"):
                yield info.name


@pytest.mark.parametrize("name", sorted(_modules()))
def test_docstring_examples(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    if spec.origin is None or ">>>" not in Path(spec.origin).read_text(encoding="utf-8"):
        return
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("name", ["order_book.md"])
def test_examples_of_the_pages(name: str) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / name
    text = "\n".join("" if line.startswith("```") else line for line in page.read_text("utf-8").splitlines())
    test = doctest.DocTestParser().get_doctest(text, {}, name, str(page), 0)
    failed, tried = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert failed == 0 < tried
