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
    # Files that hold kernels (they import names from here; others import this module), and those whose
    # constants are compiled into them.
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

from numba import config, njit, typeof  # noqa: E402  (the cache folder must be set first)
from numba.core.cgutils import get_null_value  # noqa: E402
from numba.extending import intrinsic  # noqa: E402

config.CACHE_DIR = os.environ[
    "NUMBA_CACHE_DIR"
]  # numba has read the variable already if it was imported earlier

# Without the JIT a user's "compiled" function has no address; its key in here stands in for one.
FUNCTIONS: dict[int, Callable[..., Any]] = {}
NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def kernel(fn: _F) -> _F:
    """Compile `fn` with the project's options: cached, GIL released, IEEE floats, C-like division."""
    return njit(fn, cache=True, nogil=True, error_model="numpy")  # type: ignore[no-any-return]


def brief_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does, but keep the GIL: for a call that takes less time than to hand it over."""
    return njit(fn, cache=True, error_model="numpy")  # type: ignore[no-any-return]


def inline_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does and always inline it into its callers."""
    return njit(fn, cache=True, nogil=True, error_model="numpy", inline="always")  # type: ignore[no-any-return]


def hot_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does and let LLVM put it into its callers.

    For what runs per event: a call hands over seven machine words an array.
    """
    return njit(fn, cache=True, nogil=True, error_model="numpy", forceinline=True)  # type: ignore[no-any-return]


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


@intrinsic  # type: ignore[untyped-decorator]
def _borrow(typingctx: Any, array: Any) -> Any:  # noqa: ARG001  (numba's convention)
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        struct = context.make_array(signature.args[0])(context, builder, args[0])
        struct.meminfo = get_null_value(struct.meminfo.type)
        struct.parent = get_null_value(struct.parent.type)
        return struct._getvalue()

    return array(array), codegen


@inline_kernel
def borrow(array: Any) -> Any:
    """Return `array` without its reference count; for entry points, whose caller keeps it alive.

    numba counts references, atomically, wherever a kernel hands an array to another: measured, more time
    than the event loop's own work. Without an owner there is nothing to count.
    """
    return array if NO_JIT else _borrow(array)
