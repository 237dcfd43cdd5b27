"""The table of who may import whom, enforced on the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = {"errors", "types", "paths", "files", "caches", "_jit", "config", "records", "agent"}
ENGINE = BASE | {"book", "compiled", "sim"}

# Module or package under mmsim/ -> what of mmsim it may import besides itself.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "paths": {"errors"},
    "files": set(),
    "caches": {"errors", "files", "paths"},
    "provenance": {"paths"},
    "progress": set(),
    "_jit_cache": {"caches"},
    "_plain_records": set(),
    "_jit": {"paths", "_jit_cache", "_plain_records"},
    "bits": {"_jit"},
    "types": {"errors"},
    "config": {"errors", "types"},
    "records": {"types"},
    "agent": {"errors", "types", "records"},
    "registry": {"agent", "errors"},
    "book": {"errors", "types", "_jit", "bits"},
    "user_call": {"_jit"},
    "compiled": {"errors", "agent", "_jit", "records", "user_call"},
    # The session returns metrics.episode.EpisodeResult.
    "sim": BASE | {"metrics", "compiled", "user_call"},
    "sessions": {"types"},
    "flow": ENGINE | {"sessions"},
    "features": {"errors", "types", "_jit", "records"},
    "data": {"errors", "types", "config", "paths", "caches", "_jit", "sessions", "flow", "files", "progress"},
    "statistics": set(),
    "metrics": {"errors", "types", "statistics"},
    "report": {"errors", "types", "files", "provenance", "metrics", "scoring", "statistics"},
    "scoring": ENGINE
    | {
        "data",
        "statistics",
        "play",
        "runner",
    },  # the same simulator on a day and on what poorer feeds show of it
    "play": ENGINE | {"registry", "metrics"},  # an agent plays episodes; nobody quotes and it is recorded
    "calibrate": ENGINE | {"data", "play"},
    "calibration_store": {"errors", "types", "config", "paths", "caches", "calibrate"},
    # what a configuration names, looked up: the one step between it and a session
    "resolve": ENGINE | {"registry", "flow", "calibration_store"},
    "profiles": ENGINE | {"registry", "play"},
    "runner": ENGINE
    | {"registry", "data", "metrics", "play", "calibrate", "calibration_store", "profiles", "resolve"},
    "bench": ENGINE | {"compiled", "data"},
    "sensitivity": {"errors", "config", "runner", "data", "metrics", "report", "statistics"},
    "quoting": {"errors", "agent", "features", "records"},
    "env": ENGINE | {"features", "metrics", "quoting", "play", "runner"},
}
EVERYTHING = set(LAYERS)
LAYERS["testing"] = EVERYTHING
LAYERS["cli"] = EVERYTHING | {"testing"}

# Package under agents/ -> what of mmsim_agents it may import besides itself.
AGENT_LAYERS: dict[str, set[str]] = {
    "common": set(),
    "students": {"common"},
    "cmm": {"common", "students"},
    "rl": {"common"},
    "teacher": {"common"},
    "distill": {"common", "students", "cmm", "teacher"},
}

# Inside functions only (start-up stays quick): the command line is the one place that knows the agents' trainers.
OUTER = {"mmsim_agents", "mmsim_strategies"}
HEAVY = {"torch", "transformers", "gymnasium", "stable_baselines3", "sklearn"}


def _imports(path: Path, *, types: bool = True) -> list[tuple[str, bool]]:
    """Absolute dotted names imported by a file, and whether at module level; `types`: those for annotations, too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not types:
        tree.body = [
            n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test))
        ]
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
                if module.startswith("mmsim_agents"):  # from a package, perhaps a module
                    out += [(f"{module}.{a.name}", id(node) in top) for a in node.names]
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


def test_the_layers_of_mmsim_form_no_circle() -> None:
    """As they are written in the table, and so as they may import each other."""
    left = {name: allowed & set(LAYERS) - {name} for name, allowed in LAYERS.items()}
    left = {name: allowed for name, allowed in left.items() if name not in {"testing", "cli"}}
    while left:
        free = {name for name, allowed in left.items() if not allowed & set(left)}
        assert free, f"these may import each other in a circle: {', '.join(sorted(left))}"
        left = {name: allowed for name, allowed in left.items() if name not in free}


# What names modules by string: the public names of `import mmsim`, the subcommands, and users' own agents.
BY_STRING = {"__init__.py", "registry.py", "cli/main.py"}


@pytest.mark.parametrize("path", _python_files("mmsim"), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_of_mmsim_is_imported_by_string(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    by_string = "import_module" in text or "__import__" in text
    assert not by_string or path.relative_to(ROOT / "mmsim").as_posix() in BY_STRING


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


@pytest.mark.parametrize("path", _python_files("agents"), ids=lambda p: str(p.relative_to(ROOT)))
def test_agents_respect_their_layer_table(path: Path) -> None:
    layer, *inside = path.relative_to(ROOT / "agents").parts
    if not inside:  # the package's own guard
        return
    assert layer in AGENT_LAYERS, f"agents/{layer} has no row in the layer table of {__file__}"
    for name, _ in _imports(path):
        package, *rest = name.split(".")
        if package == "mmsim_agents":
            target = rest[0] if rest else ""
            assert target == layer or target in AGENT_LAYERS[layer], f"agents/{layer} must not import {name}"
    text = path.read_text(encoding="utf-8")
    assert "import_module" not in text and "__import__" not in text, f"{path.name} imports by string"


def test_agents_import_each_other_in_no_circle() -> None:
    left = {
        path.relative_to(ROOT / "agents").with_suffix("").as_posix().replace("/", "."): path
        for path in _python_files("agents")
        if path.name != "__init__.py"
    }
    while left:
        free = [
            module
            for module, path in left.items()
            if not {n.removeprefix("mmsim_agents.") for n, _ in _imports(path, types=False)}
            & (set(left) - {module})
        ]
        assert free, f"these import each other in a circle: {', '.join(sorted(left))}"
        for module in free:
            del left[module]


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


_LIGHT = {"errors", "paths", "cli.options", "__version__"}
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
