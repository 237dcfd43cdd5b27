"""Bitmaps: which of many places are occupied, 64 per word; the next occupied one is a step or two away.

A bitmap is a uint64 array. Place ``i`` is bit ``i % 64`` of word ``i // 64``. Kernels only; without the JIT
the same functions run as plain Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mmsim._jit import NO_JIT, inline_kernel

_U = np.uint64  # indices and shifts are unsigned: numba adds a test for negative ones to the others
_ONE, _MASK = np.uint64(1), np.uint64(63)


def words_for(n: int) -> int:
    """Return how many words a bitmap of `n` places has."""
    return (n + 63) // 64


def _counter(instruction: str) -> Any:  # pragma: no cover (compiled code only)
    # An LLVM instruction that counts zeros of a word other than 0; numba has no function for it.
    @intrinsic  # type: ignore[untyped-decorator]
    def count(_context: Any, _word: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.uint64), generate

    return count


if NO_JIT:

    def leading_zeros(word: Any) -> int:
        """Return how many zero bits stand above the highest set bit of a word other than 0."""
        return 64 - int(word).bit_length()

    def trailing_zeros(word: Any) -> int:
        """Return how many zero bits stand below the lowest set bit of a word other than 0."""
        return (int(word) & -int(word)).bit_length() - 1

else:  # pragma: no cover (compiled code only)
    leading_zeros, trailing_zeros = _counter("ctlz"), _counter("cttz")


@inline_kernel
def set_bit(words: Any, i: int) -> None:
    """Mark place `i` as occupied."""
    words[_U(i >> 6)] |= _ONE << (_U(i) & _MASK)


@inline_kernel
def clear_bit(words: Any, i: int) -> None:
    """Mark place `i` as empty."""
    words[_U(i >> 6)] &= ~(_ONE << (_U(i) & _MASK))


@inline_kernel
def highest_below(words: Any, i: int) -> int:
    """Return the highest occupied place up to and including `i`, or -1. `i` is a place or -1."""
    at = i >> 6
    if at < 0:
        return -1
    word = words[_U(at)] << (_MASK - (_U(i) & _MASK))
    if word != 0:
        return i - leading_zeros(word)
    at -= 1
    while at >= 0 and words[_U(at)] == 0:
        at -= 1
    if at < 0:
        return -1
    return (at << 6) + 63 - leading_zeros(words[_U(at)])


@inline_kernel
def lowest_above(words: Any, i: int, n: int) -> int:
    """Return the lowest occupied place from `i` on, or `n`: the places that the bitmap has. `i` is at most `n`."""
    if i >= n:
        return n
    at = i >> 6
    word = words[_U(at)] >> (_U(i) & _MASK)
    if word != 0:
        return i + trailing_zeros(word)
    at += 1
    end = (n + 63) >> 6
    while at < end and words[_U(at)] == 0:
        at += 1
    if at == end:
        return n
    return (at << 6) + trailing_zeros(words[_U(at)])
