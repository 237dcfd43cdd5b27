"""Where compiled kernels live, and what is loaded with them."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
{first}
import mmsim.book.view, os, numba
assert numba.config.CACHE_DIR == os.environ["NUMBA_CACHE_DIR"], numba.config.CACHE_DIR
print(numba.config.CACHE_DIR)
"""


@pytest.mark.parametrize("first", ["import numba", "import mmsim.book.entry", "import mmsim"])
def test_a_stale_kernel_is_never_loaded(first, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {
        "MMSIM_CACHE_HOME": str(tmp_path)
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))


def test_the_users_own_folder_is_respected(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first="")], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout.strip() == str(tmp_path)


LINEAR = """
import sys
import numpy as np
from mmsim.book.view import OrderBook
OrderBook().submit(1, 1, 1)
assert "scipy.linalg" not in sys.modules
from numba import njit
x = np.array([[1.0, 2.0, 4.0], [3.0, 4.0, 1.0]])
assert np.allclose(njit(lambda a: np.cov(a))(x), np.cov(x))
assert np.allclose(njit(lambda a: np.linalg.inv(a @ a.T))(x), np.linalg.inv(x @ x.T))
"""


def test_scipy_is_not_loaded_before_it_is_used():
    done = subprocess.run([sys.executable, "-c", LINEAR], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
