"""What a broken cache may cost: time and one line on standard error, never a result.

Everything under `mmsim.paths.cache_home` can be made again. So whoever keeps something there goes on without it
where it cannot be written (`cannot_keep`), and makes it again where it is not what was written (`made_again`).
"""

from __future__ import annotations

import logging
import os
import tempfile
import zlib
from pathlib import Path

from mmsim.errors import ConfigError
from mmsim.files import replacing
from mmsim.paths import cache_home

_log = logging.getLogger("mmsim.cache")
_said: set[Path] = set()


def checksum(data: bytes | memoryview, before: int = 0) -> int:
    """Return the CRC-32 of some bytes, `before` being that of those before them: it finds every flipped bit, at gigabytes per second."""
    return zlib.crc32(data, before)


def keep(path: Path, content: bytes) -> bool:
    """Write a file of the cache, all of it or nothing; return whether that worked, and say it if not.

    Parameters
    ----------
    path : Path
        The file; its folder is made.
    content : bytes
        What it shall hold.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as err:
        cannot_keep(err, path)
        return False
    return True


def check_room(folder: Path) -> None:
    """Find out before a long computation whether `folder` of the cache can be made and written; leaves nothing.

    Raises
    ------
    ConfigError
        If it cannot, so that what must be kept is lost.
    """
    at = folder
    while not os.path.lexists(at):
        at = at.parent
    try:
        with tempfile.TemporaryFile(dir=at) as file:
            file.write(bytes(4096))
    except OSError as err:
        raise ConfigError(
            f"cannot write to {folder} ({err.strerror or err}): set MMSIM_CACHE_HOME to a folder that can be written"
        ) from None


def cannot_keep(err: OSError, path: Path) -> None:
    """Say, once for a process, why `path` is not kept in the cache; the caller goes on without it."""
    home = cache_home()
    folder = home if home in path.parents else path.parent  # kernels may have a folder of their own
    if folder in _said:
        return
    _said.add(folder)
    _log.warning(
        "the cache %s cannot be written (%s): going on without it, nothing that is computed now is kept; "
        "set MMSIM_CACHE_HOME to a folder with room that can be written",
        folder, err.strerror or err,
    )  # fmt: skip


def made_again(path: Path, why: object) -> None:
    """Say that an entry of the cache is not what was written; the caller makes it again."""
    _log.warning("the cache's %s is damaged (%s): it is made again", path, why)
