"""The peer that we are compared with is driven from a checkout: its code is no part of the package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from mmsim.errors import BenchError
from mmsim.paths import package_root

HOW = (
    "make bench in a checkout of mmsim makes one in .venv-bench; by hand: python -m venv .venv-bench && "
    ".venv-bench/bin/pip install hftbacktest==2.4.4"
)
_NAME = "mmsim_bench_peer"


def peer_file() -> Path | None:
    """Return the file that drives the peer, None outside a checkout."""
    path = package_root().parent / "tests" / "benchmarks" / "peer.py"
    return path if path.is_file() else None


def peer_module() -> ModuleType:
    """Return that file as a module: ``find_python``, ``Peer``, ``request``.

    Raises
    ------
    BenchError
        If mmsim does not run from a checkout.
    """
    path = peer_file()
    if path is None:
        raise BenchError(
            f"the peer: expected a checkout of mmsim around {package_root()}, was an installed package, which has no "
            "code for it; clone the repository and run make bench there, or give --no-peer"
        )
    if _NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(_NAME, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[_NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[_NAME]
