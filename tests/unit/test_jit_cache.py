"""Where compiled kernels live, and what is loaded with them."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import pytest

from mmsim import _jit, caches, files

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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(caches, "_said", set())
    return tmp_path / "kernels"


def shifted(x):
    return 3 * x + 1


def compiled(fn=shifted):
    """`fn` as another process would compile it, after one call."""
    made = _jit.kernel(fn)
    assert made(13) == 40
    return made


def from_cache(made):
    return sum(made.stats.cache_hits.values()) == 1


needs_jit = pytest.mark.skipif(_jit.NO_JIT, reason="nothing is compiled")


@needs_jit
def test_a_kernel_is_kept_and_found(folder):
    assert not from_cache(compiled())
    [path] = folder.iterdir()
    assert path.suffix == ".nbc"
    assert from_cache(compiled())


def junk(path, at=None):
    content = bytearray(path.read_bytes())
    if at is None:
        content[:] = b"junk"
    else:
        content[at] ^= 1
    path.write_bytes(content)


@needs_jit
@pytest.mark.parametrize(
    "damage",
    [
        junk,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        *(
            lambda path, part=part: junk(path, int(part * (path.stat().st_size - 1)))
            for part in (0, 0.1, 0.5, 1)
        ),
    ],
)
def test_a_damaged_kernel_is_compiled_again(folder, damage, caplog):
    compiled()
    [path] = folder.iterdir()
    damage(path)
    assert not from_cache(compiled())
    assert [path.name in said and "damaged" in said for said in caplog.messages] == [True]
    assert from_cache(compiled())
    assert len(caplog.messages) == 1


@needs_jit
def test_code_of_another_function_is_not_run(folder, tmp_path):
    # the same name and place, as after an edit; and a file that was renamed
    places = []
    for constant in (1, 28):
        source = tmp_path / "mine.py"
        source.write_text(f"def f(x):\n    return 3 * x + {constant}\n")
        space = {}
        exec(compile(source.read_text(), str(source), "exec"), space)
        made = _jit.kernel(space["f"])
        assert made(4) == 12 + constant
        assert not from_cache(made)
        places.append(sorted(folder.iterdir()))
    assert places[0] == places[1]  # replaced, not piled up
    compiled()
    [other] = set(folder.iterdir()) - set(places[0])
    other.write_bytes(places[0][0].read_bytes())
    assert not from_cache(compiled())


@needs_jit
@pytest.mark.parametrize("what", ["a file", "full", "not writable"])
def test_without_a_cache_kernels_are_compiled_in_memory(folder, what, monkeypatch, caplog):
    if what == "a file":
        folder.write_text("")
    else:
        error = OSError(28, "No space left on device") if what == "full" else PermissionError(13, "denied")

        def refuse(*args, **kwargs):
            raise error

        module, name = (Path, "write_bytes") if what == "full" else (files.tempfile, "mkstemp")
        monkeypatch.setattr(module, name, refuse)
    assert not from_cache(compiled())
    assert not from_cache(compiled())
    assert ["cannot be written" in said for said in caplog.messages] == [True]
    assert f"the cache {folder} cannot" in caplog.text
    assert not folder.is_dir() or list(folder.iterdir()) == []


@needs_jit
def test_a_function_typed_at_a_prompt_is_compiled_but_not_kept(folder):
    space = {}
    exec("def f(x):\n    return 3 * x + 1", space)
    compiled(space["f"])
    assert not folder.exists()


def test_processes_may_compile_at_once(tmp_path):
    program = "import sys; sys.path.insert(0, sys.argv[1]); import mine; print(mine.f(13), mine.g(13.0))"
    (tmp_path / "mine.py").write_text(
        "from mmsim._jit import kernel\n@kernel\ndef f(x):\n    return 3 * x + 1\n"
        "@kernel\ndef g(x):\n    return f(x) + f(int(x))\n"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}

    def run(_):
        return subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            capture_output=True,
            text=True,
            env=env,
            check=False,
        )

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(run, range(3)))
    assert [(d.stdout, d.stderr) for d in done] == [("40 80.0\n", "")] * 3
    assert not list(Path(tmp_path / "kernels").glob(".*.tmp"))
