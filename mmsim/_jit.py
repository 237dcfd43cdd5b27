"""The one way kernels are compiled.

numba does not notice that a kernel in *another* file changed, so the cache folder is named after
the hash of every source file that holds kernels or their constants: an edit anywhere recompiles,
unchanged sources hit the cache. ``NUMBA_DISABLE_JIT=1`` runs the same functions as plain Python.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])
_ROOT = Path(__file__).resolve().parent


def _kernel_hash() -> str:
    # Files that hold kernels, and those whose constants are compiled into them.
    digest = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*.py")):
        source = path.read_bytes()
        shared = path.parent == _ROOT and path.name in ("agent.py", "types.py", "errors.py")
        if shared or b"mmsim._jit import" in source or path.name == "layout.py":
            digest.update(source)
    return digest.hexdigest()[:16]


def _cache_home() -> Path:
    from mmsim.paths import cache_home

    return cache_home() / "numba" / _kernel_hash()


if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(_cache_home())

from numba import njit, typeof  # noqa: E402  (the cache folder must be set first)


def kernel(fn: _F) -> _F:
    """Compile `fn` with the project's options: cached, GIL released, IEEE floats, C-like division."""
    return njit(fn, cache=True, nogil=True, error_model="numpy")  # type: ignore[no-any-return]


def inline_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does and always inline it into its callers."""
    return njit(fn, cache=True, nogil=True, error_model="numpy", inline="always")  # type: ignore[no-any-return]


def entry_point(fn: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """Return `fn` compiled for the types of `args`, callable without the dispatcher's type lookup.

    The lookup costs 1 to 2 us a call with many arrays, more than a decision's own work. The caller must
    pass arguments of exactly these types ever after. Without the JIT it is `fn` itself.
    """
    if not hasattr(fn, "overloads"):
        return fn
    signature = tuple(typeof(a) for a in args)
    dispatcher: Any = fn
    dispatcher.compile(signature)
    return dispatcher.overloads[signature].entry_point  # type: ignore[no-any-return]
