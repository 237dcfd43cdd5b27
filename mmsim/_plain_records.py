"""Records of a structured array in plain Python: what numba makes of ``rows[i].field``, for runs without the JIT.

numpy's own record arrays can do the same, but an attribute of one takes a microsecond or two, and the tests without
the JIT read millions. A `Rows` is a numpy array whose rows, taken by number, are light objects that write through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_WHOLE = frozenset({int, *(np.dtype(f"{kind}{size}").type for kind in "iu" for size in (1, 2, 4, 8))})
_KINDS: dict[np.dtype[Any], type[Any]] = {}


class _Row:
    __slots__ = ("_at", "_fields", "_rows")

    def __init__(self, rows: Rows, at: Any) -> None:
        self._rows, self._at, self._fields = rows, at, rows.fields

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)


def _field(k: int) -> property:
    def get(row: Any) -> Any:
        return row._fields[k][row._at]

    def put(row: Any, value: Any) -> None:
        row._fields[k][row._at] = value

    return property(get, put)


def _kind(dtype: np.dtype[Any]) -> type[Any]:
    if dtype not in _KINDS:
        names = dtype.names or ()
        fields = {name: _field(k) for k, name in enumerate(names)}
        _KINDS[dtype] = type("Row", (_Row,), {"__slots__": (), **fields})
    return _KINDS[dtype]


class Rows(np.ndarray[Any, Any]):
    """A structured array whose rows have attributes."""

    fields: tuple[Any, ...]
    _make: Callable[..., Any] | None
    _parts: dict[int, Any]

    def __array_finalize__(self, obj: Any) -> None:
        """Start without what is made at the first look."""
        self._make = None

    def _prepare(self) -> Callable[..., Any]:
        plain = self.view(np.ndarray)
        views = [plain[name] for name in self.dtype.names or ()]
        self.fields = tuple(v.view(Rows) if v.dtype.names else v for v in views)
        self._parts = {}
        self._make = _kind(self.dtype) if self.ndim == 1 else self._part
        return self._make

    def _part(self, rows: Rows, at: Any) -> Any:
        key = int(at)
        if key not in self._parts:
            self._parts[key] = np.ndarray.__getitem__(rows, key)
        return self._parts[key]

    def __getitem__(self, key: Any) -> Any:
        """Return a row by its number; anything else as numpy does."""
        if type(key) not in _WHOLE or self.dtype.names is None:
            return np.ndarray.__getitem__(self, key)
        if not -len(self) <= key < len(self):
            raise IndexError(f"expected one of {len(self)} rows, was {key}")
        return (self._make or self._prepare())(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write a row, or whatever numpy takes."""
        if isinstance(value, _Row):
            value = np.ndarray.__getitem__(value._rows, value._at)
        np.ndarray.__setitem__(self, key, value)


def rows_of(array: Any) -> Any:
    """Return the same memory as `array` with rows that have attributes."""
    return array.view(Rows)
