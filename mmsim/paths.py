"""Where mmsim keeps things: the user's data home, the cache, and the manifests shipped with it."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path

from mmsim.errors import ConfigError


def cache_home() -> Path:
    """Return the folder of everything that can be made again: ``MMSIM_CACHE_HOME`` or the user's cache."""
    env = os.environ.get("MMSIM_CACHE_HOME")
    if env:
        return Path(env)
    import platformdirs  # (takes a hundredth of the time to a first result)

    return platformdirs.user_cache_path("mmsim", appauthor=False)


def data_home(override: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of source data files: `override`, ``MMSIM_DATA_HOME``, or a cache folder."""
    if override is not None:
        return Path(override)
    env = os.environ.get("MMSIM_DATA_HOME")
    return Path(env) if env else cache_home() / "data"


def package_root() -> Path:
    """Return the folder that holds the ``mmsim`` package."""
    return Path(__file__).resolve().parent


def datasets_folder() -> Path:
    """Return the folder of the shipped manifests: beside the package in a checkout, else under ``share``.

    Raises
    ------
    ConfigError
        If neither is there.
    """
    looked = [
        package_root().parent / "datasets",
        Path(sysconfig.get_path("data")) / "share" / "mmsim" / "datasets",
        Path(sys.prefix) / "share" / "mmsim" / "datasets",
        Path(site.getuserbase()) / "share" / "mmsim" / "datasets",
    ]
    for folder in looked:
        if (folder / "fees.toml").is_file():
            return folder
    raise ConfigError(f"no dataset manifests in {', '.join(map(str, looked))}: install mmsim again")
