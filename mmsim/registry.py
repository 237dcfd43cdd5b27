"""From a name to an agent: built-in names, other packages' entry points, and ``path/to/file.py:Class``.

Built-in agents are strings here and imported when they are made, so that listing them needs neither
torch nor transformers. Another package adds agents by the entry-point group ``mmsim.agents``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mmsim.agent import Agent, Strategy
from mmsim.errors import ConfigError, MmsimError, UnknownAgentError, did_you_mean, shown, told

GROUP = "mmsim.agents"
BUILTIN: Mapping[str, str] = {
    "cmm": "mmsim_agents.cmm.agent:CMM",
    "student": "mmsim_agents.students.agent:Student",
    "teacher": "mmsim_agents.teacher.agent:Teacher",
    "ppo": "mmsim_agents.rl.agent:PPO",
    "glft": "mmsim_strategies.glft:GLFT",
    "avellaneda_stoikov": "mmsim_strategies.avellaneda_stoikov:AvellanedaStoikov",
    "liic": "mmsim_strategies.liic:LIIC",
    "foic": "mmsim_strategies.foic:FOIC",
}
# optional library -> how to get it
_EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(
        ("torch", "gymnasium", "stable_baselines3", "sklearn"),
        "make setup, or pip install 'mmsim[train]'",
    ),
    **dict.fromkeys(("transformers", "tokenizers", "gguf"), "make teacher, or pip install 'mmsim[teacher]'"),
}


@dataclass(frozen=True)
class AgentInfo:
    """One row of ``mmsim agents``.

    ``parameters`` maps a name to ``(type name, default)``; ``problem`` says why the agent cannot be
    imported, and is empty if it can.
    """

    name: str
    target: str
    summary: str = ""
    parameters: Mapping[str, tuple[str, Any]] | None = None
    problem: str = ""


def targets() -> dict[str, str]:
    """Return ``{name: "module:Class"}`` of the built-in agents and of those of installed packages."""
    found = {point.name: point.value for point in entry_points(group=GROUP)}
    return {**BUILTIN, **{name: value for name, value in sorted(found.items()) if name not in BUILTIN}}


def shipped_checkpoints() -> Path | None:
    """Return the folder of the trained agents that come with mmsim, or None if they are not installed."""
    found = importlib.util.find_spec("mmsim_agents")
    if found is None or not found.origin:
        return None
    return Path(found.origin).parent / "checkpoints"


def names() -> list[str]:
    """Return the names of all registered agents."""
    return list(targets())


def display_name(spec: str) -> str:
    """Return the short name that tables show: the class's name for a ``path/to/file.py:Class``.

    Examples
    --------
    >>> display_name("strategies/template.py:Template"), display_name("glft")
    ('Template', 'glft')
    """
    path, class_name = _split(spec)
    return (class_name or path.stem) if path else spec


def resolve(spec: str) -> type[Agent]:
    """Return the agent class that `spec` names.

    Parameters
    ----------
    spec : str
        A registered name, ``path/to/file.py:Class``, or ``path/to/file.py`` where the file defines one
        agent only.

    Raises
    ------
    UnknownAgentError
        If no agent has that name.
    ConfigError
        If the file or the class is missing, cannot be imported, or is not an `Agent`.
    """
    path, class_name = _split(spec)
    if path is not None:
        module = _import_file(path)
        return _pick(module, class_name or _only_agent(module, path), str(path))
    known = targets()
    if spec not in known:
        raise UnknownAgentError(
            f"no agent {spec!r}{did_you_mean(spec, known)}; known: {', '.join(known)}, or path/to/file.py:Class"
        )
    module_name, _, class_name = known[spec].partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as err:
        raise ConfigError(f"agent {spec}: {missing_library(err)}") from err
    except MmsimError:
        raise
    except (Exception, SystemExit) as err:
        raise ConfigError(f"agent {spec}: importing {module_name} failed: {_where(err, None)}") from err
    return _pick(module, class_name, module_name)


def make_agent(spec: str, params: Mapping[str, Any] | None = None) -> Agent:
    """Construct the agent that `spec` names; text parameters are converted to their declared types.

    Raises
    ------
    UnknownAgentError
        If no agent has that name.
    ConfigError
        For a parameter that it does not have or a value of the wrong type.

    Examples
    --------
    >>> make_agent("foic", {"N": "1"})
    FOIC(N=1)
    """
    cls = resolve(spec)
    params = dict(params or {})
    if not issubclass(cls, Strategy):
        known = parameters(cls)
        for key in params:
            if key not in known:
                raise ConfigError(f"{cls.__name__} has no parameter {key!r}{did_you_mean(key, known)}")
    try:
        return cls(**params)
    except MmsimError:
        raise
    except ImportError as err:
        raise ConfigError(f"agent {spec}: {missing_library(err)}") from err
    except (Exception, SystemExit) as err:
        raise ConfigError(f"agent {spec}: its constructor failed: {_where(err, None)}") from err


def load_object(spec: str) -> Any:
    """Return what ``path/to/file.py:NAME`` or ``package.module:NAME`` names.

    Raises
    ------
    ConfigError
        If the file or module cannot be imported or has no such name.
    """
    path, name = _split(spec)
    if path is not None:
        module = _import_file(path)
    else:
        head, _, name = spec.rpartition(":")
        try:
            module = importlib.import_module(head)
        except (Exception, SystemExit) as err:  # whatever the module does
            raise ConfigError(f"{spec!r}: cannot import {head!r}: {_where(err, None)}") from err
    if not hasattr(module, name):
        raise ConfigError(f"{spec!r}: {module.__name__} has no {name!r}{did_you_mean(name, vars(module))}")
    return getattr(module, name)


def parameters(cls: type[Agent]) -> dict[str, tuple[Any, Any]]:
    """Return ``{name: (type, default)}`` of what the constructor of `cls` takes."""
    if issubclass(cls, Strategy):
        return cls.parameters()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(cls).parameters.values()
    return {p.name: (p.annotation, p.default) for p in found if p.kind in kinds}


def describe(spec: str) -> AgentInfo:
    """Return the summary and the parameters of an agent; an import problem becomes part of the row."""
    target = targets().get(spec, spec)
    try:
        cls = resolve(spec)
        known = parameters(cls)
    except ConfigError as err:
        return AgentInfo(display_name(spec), target, problem=str(err))
    rows = {key: (_type_name(kind), default) for key, (kind, default) in known.items()}
    summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
    return AgentInfo(display_name(spec), target, summary, rows)


def missing_library(err: ImportError) -> str:
    """Return one line that names a missing optional library and how to install it."""
    library = (err.name or "").partition(".")[0]
    if isinstance(err, ModuleNotFoundError) and library in _EXTRAS:
        return f"needs the library {library}, which is not installed; run: {_EXTRAS[library]}"
    return f"cannot be imported: {err}"


def _type_name(kind: Any) -> str:
    if kind is inspect.Parameter.empty:
        return "any"
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _split(spec: str) -> tuple[Path | None, str]:
    # (file, class); the file is None for a registered name
    if spec.endswith(".py"):
        return Path(spec), ""
    head, colon, tail = spec.rpartition(":")
    if colon and head.endswith(".py"):
        return Path(head), tail
    return None, ""


def _import_file(path: Path) -> ModuleType:
    try:
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "does not exist"
            raise ConfigError(f"agent file {path}: {kind} (looked in {path.resolve().parent})")
        path = path.resolve()
        source = path.read_bytes()
    except OSError as err:  # may not be read, a name that is too long
        raise ConfigError(f"agent file {shown(str(path))}: {err.strerror or err}") from None
    # the same file again gives the same module, an edited one a new module
    stamp = hashlib.sha256(str(path).encode() + source).hexdigest()[:12]
    name = f"mmsim_user_{path.stem}_{stamp}"
    if name in sys.modules:
        return sys.modules[name]
    loader = importlib.util.spec_from_file_location(name, path)
    if loader is None or loader.loader is None:
        raise ConfigError(f"agent file {path}: not a Python source file")
    module = importlib.util.module_from_spec(loader)
    sys.modules[name] = module
    folder = str(path.parent)
    sys.path.append(folder)  # the file may import its neighbours, but hides no installed package
    try:
        loader.loader.exec_module(module)
    except BaseException as err:
        del sys.modules[name]
        if not isinstance(err, Exception | SystemExit):
            raise
        if isinstance(err, ModuleNotFoundError) and (err.name or "").partition(".")[0] in _EXTRAS:
            raise ConfigError(f"agent file {path}: {missing_library(err)}") from err
        raise ConfigError(f"agent file {path}: {_where(err, path)}") from err
    finally:
        if folder in sys.path:
            sys.path.reverse()
            sys.path.remove(folder)  # the last one: ours
            sys.path.reverse()
    return module


def _where(err: BaseException, path: Path | None) -> str:
    if isinstance(err, SyntaxError):
        return f"line {err.lineno}: SyntaxError: {err.msg}"
    frames = traceback.extract_tb(err.__traceback__)
    own = [frame for frame in frames if path is not None and frame.filename == str(path)] or frames[-1:]
    file = "" if path is not None else f"{own[-1].filename}, "
    return f"{file}line {own[-1].lineno}: {told(err).removeprefix('raised ')}"


def _agents_of(module: ModuleType) -> list[str]:
    return [
        key
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Agent) and value.__module__ == module.__name__
    ]


def _only_agent(module: ModuleType, path: Path) -> str:
    found = _agents_of(module)
    if len(found) != 1:
        listed = ", ".join(found) or "none"
        raise ConfigError(f"agent file {path}: expected one Agent class, found {listed}; write {path}:CLASS")
    return found[0]


def _pick(module: ModuleType, class_name: str, where: str) -> type[Agent]:
    cls = getattr(module, class_name, None)
    if cls is None:
        known = _agents_of(module)
        near = did_you_mean(class_name, known) or f" (its agents: {', '.join(known) or 'none'})"
        raise ConfigError(f"{where} has no class {class_name!r}{near}")
    if not (inspect.isclass(cls) and issubclass(cls, Agent)):
        raise ConfigError(
            f"{where}: {class_name} is not an Agent; expected a subclass of mmsim.Agent or mmsim.Strategy"
        )
    if inspect.isabstract(cls):
        raise ConfigError(f"{where}: {class_name} does not define quote(self, obs)")
    return cls
