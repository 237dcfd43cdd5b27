"""What passes between a session and an agent: an observation it cannot write to, its quotes into the kernel's record."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.agent import Observation, Quotes
from mmsim.records import MAX_LEVELS, QUOTES
from mmsim.sim.records import SIM

# Into the record: its head, so many levels of a side, and one level on each side at once.
_HEAD = struct.Struct("6q").pack_into
_LEVELS = [struct.Struct(f"{2 * n}q").pack_into for n in range(MAX_LEVELS + 1)]
_BIDS, _ASKS = (QUOTES.fields[side][1] for side in ("bids", "asks"))  # type: ignore[index]  # (it has fields)
_TWO_SIDED = struct.Struct(f"8q{_ASKS - _BIDS - 16}x2q").pack_into


def read_only_observation(sim: npt.NDArray[np.void]) -> Observation:
    """Return an observation over the memory of `sim`, ``(1,)`` `SIM`.

    It stands on memory that cannot be made writable again, and behind which is nothing but what it shows.
    """
    return Observation(_shown(sim, "obs"), _shown(sim, "own_view"))


def _shown(sim: npt.NDArray[np.void], name: str) -> npt.NDArray[np.void]:
    kind, at = SIM.fields[name][:2]  # type: ignore[index]  # (it has fields)
    memory: Any = sim.view(np.uint8)  # (numpy's buffers are not typed for 3.11)
    cells = (ctypes.c_uint8 * kind.itemsize).from_buffer(memory, at)
    return np.frombuffer(memoryview(cells).toreadonly(), kind.base)


def pad(sim: npt.NDArray[np.void]) -> memoryview:
    """Return the bytes of the desired quotes in `sim`, to write to."""
    at = SIM.fields["want"][1]  # type: ignore[index]  # (it has fields)
    memory: Any = sim.view(np.uint8)
    return memoryview(memory)[at : at + QUOTES.itemsize]


def write_quotes(want: memoryview, quotes: Quotes, max_levels: int, latency_ns: int, wall_ns: int) -> None:
    """Write `quotes`, if they are plain ints, as fast as can be; what raises is for `quotes_check.checked` to word."""
    bids, asks, post_only, take = quotes
    if quotes.__class__ is not Quotes or take is True:
        raise TypeError
    n_bid, n_ask = len(bids), len(asks)
    if n_bid == 1 == n_ask:  # by far the most common
        (bid,), (ask,) = bids, asks
        _TWO_SIDED(want, 0, 1, 1, post_only, take, latency_ns, wall_ns, *bid, *ask)
        return
    if max(n_bid, n_ask) > max_levels:
        raise ValueError
    for at, n, levels in ((_BIDS, n_bid, bids), (_ASKS, n_ask, asks)):
        if any(len(level) != 2 for level in levels):
            raise ValueError
        _LEVELS[n](want, at, *(x for level in levels for x in level))
    _HEAD(want, 0, n_bid, n_ask, post_only, take, latency_ns, wall_ns)


def write_numbers(
    want: memoryview,
    numbers: tuple[tuple[int, int, int, int], list[int], list[int]],
    latency_ns: int,
    wall_ns: int,
) -> None:
    """Write what `quotes_check.checked` returned."""
    (n_bid, n_ask, post_only, take), bids, asks = numbers
    _HEAD(want, 0, n_bid, n_ask, post_only, take, latency_ns, wall_ns)
    _LEVELS[n_bid](want, _BIDS, *bids)
    _LEVELS[n_ask](want, _ASKS, *asks)
