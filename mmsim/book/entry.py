"""The short way from Python into the engine, for one request a call.

Handing seven arrays to a compiled function costs more than what it does with them: about 40 ns each, against
some 20 ns for an order. So their addresses are kept in one small array, whose own address is all that is
handed over, and the compiled side makes arrays of them again. `mmsim.book.memory.Memory` keeps the addresses
true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, config, types
from numba.extending import intrinsic

from mmsim._jit import brief_kernel, entry_point
from mmsim.book import layout as L
from mmsim.book.engine import execute_one
from mmsim.book.memory import Memory

_WORD, _STATUS = np.int64, np.int8


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_context: Any, address: Any) -> Any:  # pragma: no cover (compiled code only)
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.voidptr(address), generate


@brief_kernel
def _execute_at(address: int) -> int:  # pragma: no cover (compiled code only)
    where = carray(_pointer(address), 14, _WORD)
    return execute_one(
        carray(_pointer(where[0]), where[1], _WORD),
        carray(_pointer(where[2]), where[3], L.ORDER),
        carray(_pointer(where[4]), where[5], L.EXTRA),
        carray(_pointer(where[6]), where[7], L.LEVEL),
        carray(_pointer(where[8]), where[9], L.REQUEST),
        carray(_pointer(where[10]), where[11], _STATUS),
        carray(_pointer(where[12]), where[13], L.MATCH),
    )


def single_call(
    memory: Memory, requests: Any, statuses: Any, matches: Any
) -> tuple[Callable[[int], int], int]:
    """Return a function that executes the request in `requests`, and the number to call it with.

    The caller keeps `memory` and the three arrays alive.
    """
    for i, array in enumerate((requests, statuses, matches)):
        memory.where[8 + 2 * i : 10 + 2 * i] = array.ctypes.data, len(array)
    if config.DISABLE_JIT:
        return lambda _: execute_one(
            memory.words, memory.orders, memory.extra, memory.levels, requests, statuses, matches
        ), 0
    address = memory.where.ctypes.data  # pragma: no cover (compiled code only)
    return entry_point(_execute_at, address), address  # pragma: no cover
