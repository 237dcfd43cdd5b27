"""The bitmap's searches against a sorted list, compiled and as plain Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim._jit import kernel
from mmsim.bits import (
    clear_bit,
    highest_below,
    leading_zeros,
    lowest_above,
    set_bit,
    trailing_zeros,
    words_for,
)


@kernel
def mark(words, i, occupied):
    if occupied:
        set_bit(words, i)
    else:
        clear_bit(words, i)


@kernel
def below(words, i):
    return highest_below(words, i)


@kernel
def above(words, i, n):
    return lowest_above(words, i, n)


@kernel
def zeros(word):
    return leading_zeros(word), trailing_zeros(word)


@st.composite
def bitmaps(draw):
    n = draw(st.integers(1, 300))
    return n, draw(st.sets(st.integers(0, n - 1), max_size=draw(st.sampled_from([0, 1, 3, 300]))))


@settings(deadline=None)
@given(bitmaps(), st.data())
def test_the_next_occupied_place_is_that_of_a_sorted_list(bitmap, data):
    n, occupied = bitmap
    words = np.zeros(words_for(n), np.uint64)
    for i in data.draw(st.permutations(range(n))):
        mark(words, i, True)
    for i in range(n):
        mark(words, i, i in occupied)
    assert [bool(int(words[i // 64]) >> (i % 64) & 1) for i in range(n)] == [i in occupied for i in range(n)]
    for i in range(-1, n):
        assert below(words, i) == max((j for j in occupied if j <= i), default=-1)
    for i in range(n + 1):
        assert above(words, i, n) == min((j for j in occupied if j >= i), default=n)


@given(st.integers(1, 2**64 - 1))
def test_zeros_are_counted_on_both_sides(word):
    binary = f"{word:064b}"
    assert zeros(np.uint64(word)) == (64 - len(binary.lstrip("0")), 64 - len(binary.rstrip("0")))


def test_plain_python_passes_the_same_tests():
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not plain", __file__],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=Path(__file__).resolve().parents[2],
        check=True,
        capture_output=True,
    )
