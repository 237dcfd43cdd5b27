"""The short way from Python into the engine, for one request per call.

Handing four arrays to a compiled function costs more than what it does with them: about 40 ns each, against
some 20 ns for an order. So the addresses of all are kept in one small array, whose own address is all that is
handed over, and the compiled side makes arrays of them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray

from mmsim._jit import NO_JIT, brief_kernel, entry_point, records
from mmsim.book import layout as L
from mmsim.book.engine import execute_one
from mmsim.book.handle import HANDLE_SIZE, pointer
from mmsim.book.memory import Memory

_INT, _STATUS = np.int64, np.int8


@brief_kernel
def _execute_at(address: int) -> int:  # pragma: no cover (compiled code only)
    where = carray(pointer(address), 4, _INT)
    return execute_one(
        carray(pointer(where[0]), HANDLE_SIZE, _INT),
        carray(pointer(where[1]), 1, L.REQUEST),
        carray(pointer(where[2]), 1, _STATUS),
        carray(pointer(where[3]), L.MATCHES_OF_ONE, L.MATCH),
    )


def single_call(
    memory: Memory, requests: Any, statuses: Any, matches: Any
) -> tuple[Callable[[int], int], int]:
    """Return a function that executes the request in `requests`, and the number to call it with.

    The caller keeps `memory` and the three arrays (1, 1 and MATCHES_OF_ONE rows) alive.
    """
    if NO_JIT:
        return lambda _: execute_one(memory.handle, records(requests), statuses, records(matches)), 0
    arrays = (memory.handle, requests, statuses, matches)  # pragma: no cover (compiled code only)
    memory.where = np.array([a.ctypes.data for a in arrays])  # pragma: no cover
    address = memory.where.ctypes.data  # pragma: no cover
    return entry_point(_execute_at, address), address  # pragma: no cover
