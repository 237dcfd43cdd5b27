"""The source files of a dataset: where they are, and whether they are the pinned ones."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import Any

from mmsim.data.manifest import Manifest, SourceFile
from mmsim.errors import DataError
from mmsim.paths import cache_home, data_home


def find_sources(spec: Manifest, home: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the paths of the dataset's files.

    Raises
    ------
    DataError
        If one is missing: says where it was looked for and the command that gets it.
    """
    if not spec.files:
        raise DataError(
            f"the data are licensed and not shipped: mmsim data import {spec.name} FILES... --format {spec.format}",
            source=spec.name,
        )
    folders = source_folders(home)
    out: list[Path] = []
    for file in spec.files:
        found = _find(file, folders)
        if found is None:
            if spec.imported:
                raise DataError(
                    f"the imported file {file.path} is gone: put it back, or mmsim data import {spec.name} again",
                    source=spec.name,
                )
            looked = " and ".join(str(f) for f in folders)
            raise DataError(
                f"no file {file.path} in {looked}: run mmsim data fetch {spec.name}, "
                "or set MMSIM_DATA_HOME or --data-home to the folder that holds it",
                source=spec.name,
            )
        out.append(found)
    return out


def source_folders(home: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the folders where source files are looked for, in order."""
    out = [data_home(home)]
    own = cache_home() / "data"
    return out if own in out else [*out, own]


def is_present(spec: Manifest, home: str | os.PathLike[str] | None = None) -> bool:
    """Whether all source files are there (always for a simulated market)."""
    folders = source_folders(home)
    return spec.simulated or (bool(spec.files) and all(_find(f, folders) for f in spec.files))


def verify_sources(spec: Manifest, paths: list[Path]) -> None:
    """Compare every file with its pinned sha256.

    Raises
    ------
    DataError
        If one differs.
    """
    for file, path in zip(spec.files, paths, strict=True):
        if is_pinned(file, path):
            continue
        what = (
            f"mmsim data import {spec.name} again (--force)"
            if spec.imported
            else f"delete it and run mmsim data fetch {spec.name}"
        )
        raise DataError(f"expected sha256 {file.sha256}, was {sha256_of(path)}: {what}", source=str(path))


def is_pinned(file: SourceFile, path: Path) -> bool:
    """Whether a file has the pinned sha256, or is a gzip of the pinned content.

    Raises
    ------
    DataError
        If it is no complete gzip file.
    """
    if sha256_of(path) == file.sha256:
        return True
    if not file.content_sha256 or path.suffix != ".gz":
        return False
    try:
        with gzip.open(path) as fh:
            return hashlib.file_digest(fh, "sha256").hexdigest() == file.content_sha256
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"expected a complete gzip file: {err}", source=str(path)) from None


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with open(path, "rb") as fh:
        return hashlib.file_digest(fh, "sha256").hexdigest()


def stamps(paths: list[Path]) -> list[dict[str, Any]]:
    """Return what tells without reading them whether files were touched."""
    stats = [(p, p.stat()) for p in paths]
    return [{"path": str(p.resolve()), "bytes": s.st_size, "mtime_ns": s.st_mtime_ns} for p, s in stats]


def were_touched(spec: Manifest, home: str | os.PathLike[str] | None, known: list[dict[str, Any]]) -> bool:
    """Whether all sources are there, and one is not as `stamps` once said; the cache stands alone where some are gone."""
    folders = source_folders(home)
    for file, stamp in zip(spec.files, known, strict=True):
        found = _find(file, folders)
        if found is not None and stamps([found]) != [stamp]:
            return is_present(spec, home)
    return False


def _find(file: SourceFile, folders: list[Path]) -> Path | None:
    path = Path(file.path)
    for candidate in [path] if path.is_absolute() else [folder / path for folder in folders]:
        if candidate.is_file():
            return candidate
    return None
