"""The version of a converter: a hash of all source files that take part."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from mmsim.data.formats.format import Reader
from mmsim.paths import package_root


@cache
def version_of(read: Reader) -> str:
    """Return a hash of what is in `sources_of`: an edited reader never meets an old cache."""
    digest = hashlib.sha256()
    for path in sorted(sources_of(read)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def sources_of(read: Reader) -> set[Path]:
    """Return the files that take part in a conversion: the reader's and all that it imports, directly or not.

    Only files of mmsim and of the reader's own folder are followed.
    """
    start = Path(inspect.getfile(read))
    found: set[Path] = set()
    todo = [start]
    while todo:
        path = todo.pop()
        if path not in found and (path.is_relative_to(package_root()) or path.parent == start.parent):
            found.add(path)
            todo += filter(None, map(_file, _imported(path)))
    return found


def _imported(path: Path) -> Iterator[str]:
    # names of the modules that a file imports; of a package that which is taken from it
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [name for a in node.names if _file(name := f"{node.module}.{a.name}")]
            yield from inside if len(inside) == len(node.names) else [node.module, *inside]


def _file(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except (ModuleNotFoundError, ValueError):  # a name within a module, or a script
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
