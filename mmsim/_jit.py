"""The one way kernels are compiled.

numba does not notice that a kernel in *another* file changed, so the cache folder is named after
the hash of every source file that holds kernels or their constants: an edit anywhere recompiles,
unchanged sources hit the cache (`mmsim._jit_cache`). ``NUMBA_DISABLE_JIT=1`` runs the same functions as plain
Python.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mmsim._plain_records import rows_of
from mmsim.paths import cache_home

_F = TypeVar("_F", bound=Callable[..., Any])
_ROOT = Path(__file__).resolve().parent


def _kernel_hash() -> str:
    # Files that hold kernels (they import names from here; others import this module), and those whose
    # constants are compiled into them; and how they are kept.
    digest = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*.py")):
        source = path.read_bytes()
        shared = path.parent == _ROOT and path.name in (
            "records.py",
            "types.py",
            "errors.py",
            "_jit_cache.py",
        )
        if shared or b"mmsim._jit import" in source or path.name in ("layout.py", "records.py"):
            digest.update(source)
    return digest.hexdigest()[:16]


_SOURCES, _OWN = _kernel_hash(), str(_ROOT) + os.sep
if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(cache_home() / "numba" / _SOURCES)

_collects = gc.isenabled()
gc.disable()  # numba makes a great many objects, and none is garbage: a tenth of the time to a first result
try:
    from llvmlite import ir
    from numba import config, njit, typeof, types  # (the cache folder must be set first)
    from numba.core.cgutils import get_null_value
    from numba.extending import intrinsic

    from mmsim._jit_cache import KernelCache
finally:
    if _collects:
        gc.enable()

# numba has read the variable already if something else imported it first
config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


def _spare_scipy() -> None:
    # With its first kernel numba loads all of scipy.linalg, to see whether np.cov can have it: a sixth of the
    # time to a first result. It can, we depend on scipy; and functions that need it load it themselves.
    from numba.np import linalg

    ensure = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = ensure


_spare_scipy()

# Without the JIT a user's "compiled" function has no address; its key in here stands in for one.
FUNCTIONS: dict[int, Callable[..., Any]] = {}
NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def _compiled(fn: _F, **options: Any) -> _F:
    made: Any = njit(fn, error_model="numpy", **options)
    if not NO_JIT:
        made._cache = KernelCache(fn, _SOURCES, own=fn.__code__.co_filename.startswith(_OWN))
    return made  # type: ignore[no-any-return]


def kernel(fn: _F) -> _F:
    """Compile `fn` with the project's options: cached, GIL released, IEEE floats, C-like division."""
    return _compiled(fn, nogil=True)


def checked_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does, but check indices: for a user's function, which must not write beside its arrays."""
    return _compiled(fn, nogil=True, boundscheck=True)


def brief_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does, but keep the GIL: for a call that takes less time than to hand it over."""
    return _compiled(fn)


def inline_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does and always inline it into its callers."""
    return _compiled(fn, nogil=True, inline="always")


def hot_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does and let LLVM put it into its callers.

    For what runs per event: a call hands over seven machine words per array.
    """
    return _compiled(fn, nogil=True, forceinline=True)


def rare_kernel(fn: _F) -> _F:
    """Compile `fn` as `kernel` does, and keep it out of its callers: what happens rarely.

    numba passes the wish to be inlined on from a `hot_kernel` to what it calls, unless told otherwise.
    """
    return _compiled(fn, nogil=True, forceinline=False)


def records(array: Any) -> Any:
    """Return a structured array in the form that kernels take: its rows have attributes without the JIT, too."""
    return rows_of(array) if NO_JIT else array


def entry_point(fn: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """Return `fn` compiled for the types of `args`, callable without the dispatcher's type lookup.

    The lookup costs 1 to 2 us per call with many arrays, more than a decision's own work. The caller must
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


@intrinsic  # type: ignore[untyped-decorator]
def _fetch(_context: Any, array: Any, _index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        of = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], of)
        builder.call(fetch, [pointer, i32(0), i32(3), i32(1)])  # to read, into the first cache, data
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@inline_kernel
def fetch(array: Any, index: int) -> None:
    """Have the processor bring ``array[index]``, which is needed soon, into its cache. `array` is contiguous."""
    if not NO_JIT:
        _fetch(array, index)
