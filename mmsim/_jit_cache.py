"""Compiled kernels on disk, one file each, with a checksum; numba's own cache trusts whatever it reads.

What numba's has that this one must not have: an index beside the code, which two processes may leave pointing to
each other's code; unpickling of damaged files, which raises anything or runs anything; an exception where the disk
is full; and, where the folder cannot be written, a place beside the sources, where kernels of other versions lie.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle  # numba serialises compiled code so; a file is read only after its checksum
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from mmsim import caches

_HEAD = 4  # bytes of the checksum


class KernelCache(NullCache):  # type: ignore[misc]  # numba is untyped
    """The cache of one function's compiled code, as numba's dispatcher wants it.

    Parameters
    ----------
    fn : function
        What is compiled.
    sources : str
        Hash of all code that is compiled into it besides its own file.
    own : bool
        Whether `sources` covers the function's own file, too; otherwise that file's time and size count.
    """

    def __init__(self, fn: Callable[..., Any], sources: str, own: bool) -> None:
        self._fn, self._sources = fn, sources
        self._file = Path(inspect.getfile(fn))
        self._stamp: tuple[int, int] | None = (0, 0)
        if not own:
            try:
                found = self._file.stat()
                self._stamp = (found.st_mtime_ns, found.st_size)
            except OSError:  # typed at a prompt: nothing would tell that it changed
                self._stamp = None

    @property
    def cache_path(self) -> str:
        """Folder of the files."""
        return str(config.CACHE_DIR)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function for a signature, or None if it is not there as it was written."""
        target_context.refresh()
        if self._stamp is None:
            return None
        path, key = self._place(sig, target_context.codegen())
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        if len(raw) <= _HEAD or int.from_bytes(raw[:_HEAD], "little") != caches.checksum(raw[_HEAD:]):
            caches.made_again(path, "another checksum")
            return None
        known, payload = pickle.loads(raw[_HEAD:])  # noqa: S301
        if known != key:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(payload))  # noqa: S301
        except (ImportError, AttributeError):  # it needs a module that is not loaded here under that name
            return None

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Keep a compiled function, if it can be kept at all."""
        whole = not cres.library.has_dynamic_globals and all(part.can_cache for part in cres.lifted)
        if self._stamp is None or not whole:
            return
        path, key = self._place(sig, cres.library.codegen)
        content = dumps((key, dumps(cres._reduce())))
        caches.keep(path, caches.checksum(content).to_bytes(_HEAD, "little") + content)

    def _place(self, sig: Any, codegen: Any) -> tuple[Path, tuple[Any, ...]]:
        # the file is named after what the code is for; what it was made from stands inside
        name = f"{self._file.stem}.{self._fn.__qualname__.replace('<', '').replace('>', '')}"
        made_for = (str(self._file), self._fn.__code__.co_firstlineno, repr(sig), codegen.magic_tuple())
        digest = hashlib.sha256(repr((made_for, sys.version_info[:2])).encode()).hexdigest()
        closed = dumps(tuple(cell.cell_contents for cell in self._fn.__closure__ or ()))
        code = [hashlib.sha256(part).hexdigest() for part in (self._fn.__code__.co_code, closed)]
        made_of = (
            numba.__version__,
            llvmlite.__version__,
            self._sources,
            self._stamp,
            self._fn.__module__,
            *code,
        )
        return Path(config.CACHE_DIR) / f"{name[:80]}-{digest[:20]}.nbc", (made_for, made_of)
