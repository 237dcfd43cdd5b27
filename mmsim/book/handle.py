"""A book as one small array: where its arrays are.

Handing an array to a compiled function costs seven machine words, seven of them more than an order's own
work; and numba counts the references to each. So kernels that Python calls take a *handle*: the addresses
and lengths of the book's arrays, of which they make arrays again. `mmsim.book.memory.Memory` keeps it true.
Without the JIT the handle is the `Book` itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from mmsim._jit import NO_JIT, inline_kernel
from mmsim.book import layout as L
from mmsim.book.layout import Book

_INT, _BITS = np.int64, np.uint64
HANDLE_SIZE = 2 * len(Book._fields)


@intrinsic  # type: ignore[untyped-decorator]
def pointer(_context: Any, address: Any) -> Any:  # pragma: no cover (compiled code only)
    """Return the number `address` as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.voidptr(address), generate


@inline_kernel
def _book_at(handle: Any) -> Any:  # pragma: no cover (compiled code only)
    return Book(
        carray(pointer(handle[0]), handle[1], L.STATE),
        carray(pointer(handle[2]), handle[3], L.ORDER),
        carray(pointer(handle[4]), handle[5], L.EXTRA),
        carray(pointer(handle[6]), handle[7], L.LEVEL),
        carray(pointer(handle[8]), handle[9], _BITS),
        carray(pointer(handle[10]), (3, handle[11]), _INT),
        carray(pointer(handle[12]), handle[13], _INT),
    )


def _itself(book: Any) -> Any:
    return book


book_at: Any = _itself if NO_JIT else _book_at


def handle_of(book: Book) -> Any:
    """Return the handle of `book`, whose arrays the caller keeps alive."""
    return handles_of(Book(*[array[None] for array in book]))[0]


def handles_of(tables: Book) -> Any:
    """Return the handles of many books, whose arrays are the rows of `tables`."""
    n = len(tables.state)
    if NO_JIT:
        return [Book(*[table[b] for table in tables]) for b in range(n)]
    out = np.empty((n, len(tables), 2), np.int64)  # pragma: no cover (compiled code only)
    for i, table in enumerate(tables):  # pragma: no cover (compiled code only)
        out[:, i, 0] = table.ctypes.data + table.strides[0] * np.arange(n)
        out[:, i, 1] = table.shape[-1]
    return out.reshape(n, HANDLE_SIZE)  # pragma: no cover (compiled code only)
