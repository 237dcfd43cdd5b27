"""Compiled kernels live in the folder that is named after their sources, whatever was imported first."""

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
