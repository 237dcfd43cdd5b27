"""One folder of the cache of converted datasets: written at once, and read only if its checksums are right."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim import caches
from mmsim.types import EVENT, Segment

META = "meta.json"
_right: set[tuple[Path, int, int, int]] = set()  # files whose checksums this process has seen to be right


class DamagedError(ValueError):
    """A folder of the cache does not hold what was written."""


@dataclass(frozen=True)
class Stored:
    """A converted dataset: what `Conversion` held, and its folder in the cache (where that can be written)."""

    folder: Path
    events: npt.NDArray[np.void]
    recv_ts: npt.NDArray[np.int64] | None
    meta: dict[str, Any]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Segments of the event array."""
        return tuple(Segment(**s) for s in self.meta["segments"])


def open_folder(folder: Path) -> Stored | None:
    """Return what a folder of the cache holds, memory-mapped, or None if it is not there.

    Raises
    ------
    DamagedError
        If it is not what was written.
    """
    try:
        meta = _read_meta(folder / META)
        for name, expected in meta["crc32"].items():
            _check_file(folder / name, expected)
        # read-only: a private writable mapping of more than the memory is refused by the system
        events = np.asarray(np.load(folder / "events.npy", mmap_mode="r"))
        recv = np.asarray(np.load(folder / "recv.npy", mmap_mode="r")) if meta["has_recv"] else None
    except FileNotFoundError as err:
        if Path(str(err.filename)).name == META:
            return None
        raise DamagedError(f"{err.filename} is missing") from None
    except NotADirectoryError:
        return None
    except OSError as err:
        raise DamagedError(f"{err.filename}: {err.strerror}") from None
    return Stored(folder, events.view(EVENT), recv, meta)


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        whole = json.loads(path.read_bytes())
        meta: dict[str, Any] = whole["meta"]
        right = whole["crc32"] == caches.checksum(json.dumps(meta, sort_keys=True).encode())
    except (ValueError, KeyError, TypeError, RecursionError):
        right = False
    if not right:
        raise DamagedError(f"{META} is not what was written")
    return meta


def meta_text(meta: dict[str, Any]) -> bytes:
    """Return the content of ``meta.json``, with a checksum of its own."""
    meta = json.loads(json.dumps(meta))  # as it will be read: keys are text
    whole = {"meta": meta, "crc32": caches.checksum(json.dumps(meta, sort_keys=True).encode())}
    return json.dumps(whole, indent=1).encode()


def _check_file(path: Path, expected: int) -> None:
    # once in a process: a file is read in a tenth of a second per 100 MB
    at = path.stat()
    known = (path, at.st_ino, at.st_size, at.st_mtime_ns)
    if known in _right:
        return
    if _file_checksum(path) != expected:
        raise DamagedError(f"{path.name} has another checksum")
    _right.add(known)


def _file_checksum(path: Path) -> int:
    if path.stat().st_size == 0:  # which cannot be mapped
        return 0
    with open(path, "rb") as file:
        return caches.checksum(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def write_folder(folder: Path, arrays: dict[str, npt.NDArray[Any]], meta: dict[str, Any]) -> None:
    """Write arrays (``name.npy``), their checksums and `meta`: all of it, or nothing, in place of a damaged folder.

    Raises
    ------
    OSError
        If the cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(temp / name, array)
        meta["crc32"] = {name: _file_checksum(temp / name) for name in arrays}
        (temp / META).write_bytes(meta_text(meta))
        try:
            os.replace(temp, folder)
        except OSError:
            if not folder.exists():
                raise
            if not _is_whole(folder):  # else another process was first, with the same content
                os.replace(folder, temp / "damaged")
                os.replace(temp, folder)
                shutil.rmtree(folder / "damaged", ignore_errors=True)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        return open_folder(folder) is not None
    except DamagedError:
        return False
