"""Shared fixtures: where real data are, and a cache of datasets that no other run has touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Importing _jit fixes the folder of compiled kernels *before* the cache of datasets is moved to a temporary
# one, so that tests do not compile everything again. Bounds-checked kernels must not meet the others.
import mmsim._jit  # noqa: F401

if os.environ.get("NUMBA_BOUNDSCHECK") == "1" and not os.environ["NUMBA_CACHE_DIR"].endswith("-checked"):
    import numba

    os.environ["NUMBA_CACHE_DIR"] += "-checked"
    numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]

# The first call of a kernel compiles it: a deadline would fail whichever test comes first.
settings.register_profile("mmsim", deadline=None)
settings.load_profile("mmsim")

REPO = Path(__file__).resolve().parent.parent
KNOWN_FOLDER = "cffex-if-tick"  # one that every full copy of the real data has


@pytest.fixture(scope="session", autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep converted and imported datasets of the tests in a temporary cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSIM_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give one test a cache folder of its own, not yet made."""
    folder = tmp_path / "mmsim-cache"
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def real_data_home() -> Iterator[Path]:
    """Return the folder of the real data and make it the data home, or skip the test."""
    looked = []
    if os.environ.get("MMSIM_DATA_HOME"):
        looked.append(Path(os.environ["MMSIM_DATA_HOME"]))
    looked.append(REPO.parent / "shared" / "data")
    for folder in looked:
        if (folder / KNOWN_FOLDER).is_dir():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MMSIM_DATA_HOME", str(folder))
                yield folder
            return
    pytest.skip(f"real data not found in {', '.join(str(f) for f in looked)}")
