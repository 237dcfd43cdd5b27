"""Where a result comes from: versions of what computed it, and the revision of the code."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmsim import __version__
from mmsim.paths import package_root

PACKAGES = ("numpy", "numba", "pandas", "pyarrow", "torch", "transformers", "stable-baselines3")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python, the system, mmsim and those of `packages` that are installed."""
    out = {"python": platform.python_version(), "platform": platform.platform(), "mmsim": __version__}
    for name in packages:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out


def git_revision() -> dict[str, Any] | None:
    """Return ``{"revision", "dirty"}`` of the checkout mmsim runs from; None if it is not one."""
    root = package_root().parent
    if not (root / ".git").exists():
        return None
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return {"revision": revision, "dirty": bool(_git(root, "status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
