"""The table of who may import whom, enforced on the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = {"errors", "types", "paths", "caches", "_jit", "config", "agent"}
ENGINE = BASE | {"book", "compiled", "sim"}

# Module or package under mmsim/ -> what of mmsim it may import besides itself.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "paths": {"errors"},
    "caches": {"errors", "paths"},
    "_jit_cache": {"caches"},
    "_jit": {"paths", "_jit_cache"},
    "types": {"errors"},
    "config": {"errors", "types"},
    "agent": {"errors", "types"},
    "registry": {"agent", "errors"},
    "book": {"errors", "types", "_jit"},
    "compiled": {"errors", "agent", "_jit"},
    # The session returns metrics.episode.EpisodeResult. A queue model that the configuration names is looked up
    # in the registry or the calibration store, inside a function.
    "sim": BASE | {"book", "metrics", "compiled", "registry", "calibration_store"},
    "sessions": {"types"},
    "flow": ENGINE | {"sessions"},
    "features": {"errors", "types", "_jit", "agent"},
    "data": {"errors", "types", "config", "paths", "caches", "_jit", "sessions", "flow"},
    "metrics": {"errors", "types"},
    "report": {"errors", "types", "config", "paths", "metrics", "scoring"},
    "scoring": ENGINE | {"data", "metrics"},  # the same engine on a day and on what poorer feeds show of it
    "calibrate": ENGINE | {"data"},
    "calibration_store": {"errors", "types", "config", "paths", "caches", "calibrate"},
    "profiles": ENGINE | {"registry"},
    "runner": ENGINE
    | {"registry", "data", "metrics", "report", "calibrate", "calibration_store", "profiles"},
    "bench": ENGINE | {"compiled", "data"},
    "sensitivity": {"errors", "config", "runner", "data", "report"},
    "quoting": {"errors", "agent", "features"},
    "env": ENGINE | {"features", "data", "metrics", "quoting"},
}
EVERYTHING = set(LAYERS)
LAYERS["testing"] = EVERYTHING
LAYERS["cli"] = EVERYTHING | {"testing"}

# Inside functions only (start-up stays quick): the command line is the one place that knows the agents' trainers.
OUTER = {"mmsim_agents", "mmsim_strategies"}
HEAVY = {"torch", "transformers", "gymnasium", "stable_baselines3", "sklearn"}


def _imports(path: Path) -> list[tuple[str, bool]]:
    """Absolute dotted names imported by a file, and whether at module level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(n) for n in tree.body}
    out = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            out += [(a.name, id(node) in top) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            if module == "mmsim":
                out += [(f"mmsim.{a.name}", id(node) in top) for a in node.names]
            else:
                out.append((module, id(node) in top))
    return out


def _python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", _python_files("mmsim"), ids=lambda p: str(p.relative_to(ROOT)))
def test_mmsim_respects_the_layer_table(path: Path) -> None:
    layer = path.relative_to(ROOT / "mmsim").parts[0].removesuffix(".py")
    if layer == "__init__":
        assert not [n for n, top in _imports(path) if top and n.startswith("mmsim")], (
            "import mmsim must stay light"
        )
        return
    assert layer in LAYERS, f"mmsim/{layer} has no row in the layer table of {__file__}"
    for name, top in _imports(path):
        package, *rest = name.split(".")
        if package in OUTER:
            assert layer == "cli", f"{path.name} imports {name}: mmsim names agents by string only"
            assert not top, f"{path.name} imports {name} at module level"
        if package in HEAVY:
            assert not top or layer == "env", f"{path.name} imports {name} at module level"
            assert package == "gymnasium", f"{path.name} imports {name}: torch lives in mmsim_agents only"
        if package == "mmsim" and rest:
            target = rest[0]
            if target == "__version__":
                continue
            assert target == layer or target in LAYERS[layer], f"mmsim/{layer} must not import {name}"


@pytest.mark.parametrize("path", _python_files("strategies"), ids=lambda p: str(p.relative_to(ROOT)))
def test_strategies_import_only_mmsim(path: Path) -> None:
    for name, _ in _imports(path):
        package = name.split(".")[0]
        assert package not in HEAVY | {"mmsim_agents"}, f"{path.name} imports {name}"
        assert not name.startswith(("mmsim.cli", "mmsim.report")), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", _python_files("agents"), ids=lambda p: str(p.relative_to(ROOT)))
def test_agents_do_not_reach_into_the_command_line_or_each_others_names(path: Path) -> None:
    for name, _ in _imports(path):
        assert not name.startswith("mmsim.cli"), f"{path.name} imports {name}"
        assert name.split(".")[0] not in {"agents", "strategies", "tests"}, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "mmsim" / "cli").glob("*.py")), ids=lambda p: p.name)
def test_command_files_import_only_typer_and_light_modules_at_the_top(path: Path) -> None:
    if path.name == "__main__.py":
        return
    for name, top in _imports(path):
        package, _, rest = name.partition(".")
        light = (
            package in {"typer", "__future__"}
            or package in _STDLIB
            or (package == "mmsim" and rest in _LIGHT)
        )
        assert not top or light, (
            f"mmsim/cli/{path.name} imports {name} at module level: start-up must stay quick"
        )


_LIGHT = {"errors", "paths", "__version__"}
_STDLIB = {
    "sys",
    "os",
    "json",
    "pathlib",
    "typing",
    "collections",
    "importlib",
    "datetime",
    "time",
    "shutil",
    "re",
} | {
    "collections.abc",
    "enum",
    "contextlib",
    "dataclasses",
}
