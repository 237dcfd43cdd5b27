"""Download a dataset's files from their origin, checked by sha256."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

from mmsim.data.conversion import Progress, no_progress
from mmsim.data.manifest import Manifest, SourceFile
from mmsim.data.sources import is_pinned
from mmsim.errors import ConfigError, DataError
from mmsim.paths import data_home

TIMEOUT_S = 60


def fetch(
    spec: Manifest, home: str | os.PathLike[str] | None = None, progress: Progress = no_progress
) -> list[tuple[Path, bool]]:
    """Download what is missing of a public dataset into the data home.

    Returns
    -------
    list of (path, downloaded)
        In the manifest's order; False where a good file was there already.

    Raises
    ------
    ConfigError
        If the dataset has no origin: simulated, licensed or imported.
    DataError
        If a download fails or has another content than pinned; names the url, and leaves nothing behind.
    """
    if spec.simulated:
        raise ConfigError(f"dataset {spec.name} is simulated: it is generated on first use, nothing to fetch")
    if spec.imported or not all(f.url for f in spec.files) or not spec.files:
        raise ConfigError(
            f"dataset {spec.name} has no public origin: mmsim data import {spec.name} FILES... --format {spec.format}"
        )
    folder = data_home(home)
    for file in spec.files:  # (a manifest with such a path is refused when it is read, too)
        if not file.inside:
            raise ConfigError(f"dataset {spec.name}: expected a path inside {folder}, was {file.path!r}")
    out = []
    for i, file in enumerate(spec.files):
        target = folder / file.path
        if target.is_file() and is_pinned(file, target):
            out.append((target, False))
            continue

        def report(stage: str, done: float, at: int = i) -> None:
            progress(stage, (at + done) / len(spec.files))

        _download(file, target, report)
        out.append((target, True))
    return out


def _download(file: SourceFile, target: Path, progress: Progress) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    expected = file.content_sha256 or file.sha256
    made = _make_folder(target.parent)
    try:
        # a folder of its own, beside the target: whatever happens, it is removed with all that is in it
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as temp:
            downloader = pooch.HTTPDownloader(
                progressbar=_Meter(target.name, file.bytes, progress),
                chunk_size=1 << 16,
                timeout=TIMEOUT_S,
                headers={"Accept-Encoding": "identity"},
            )
            got = Path(
                pooch.retrieve(file.url, f"sha256:{expected}", target.name, temp, downloader=downloader)
            )
            if file.content_sha256:
                got = _packed(got)
            os.replace(got, target)
    except BaseException as err:
        for folder in made:
            folder.rmdir()
        if isinstance(err, requests.HTTPError) and err.response is not None:
            said = f"expected HTTP status 200, was {err.response.status_code}"
        elif isinstance(err, requests.RequestException):
            said = f"the connection failed or was cut: {type(err).__name__}"
        elif isinstance(err, ValueError) and "hash" in str(err):
            said = f"expected a file with sha256 {expected}, was another: the origin changed or the transfer broke"
        elif isinstance(err, OSError):
            said = f"cannot write to {target.parent}: {err.strerror or err}"
        else:
            raise
        raise DataError(
            f"{said}. Try again, or put the file at {target} yourself; nothing was kept", source=file.url
        ) from None


def _make_folder(folder: Path) -> list[Path]:
    made = []
    at = folder
    while not at.exists():
        made.append(at)
        at = at.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(
            f"cannot make this folder: {err.strerror or err}; choose another with --data-home or MMSIM_DATA_HOME",
            source=str(folder),
        ) from None
    return made


def _packed(path: Path) -> Path:
    out = path.with_suffix(path.suffix + ".packed")
    with open(out, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        packed.write(path.read_bytes())
    return out


class _Meter:
    # what pooch wants of a progress bar: total, update, reset, close

    def __init__(self, name: str, size: int, progress: Progress) -> None:
        self.name, self.total, self.done, self.progress = name, size, 0, progress

    def update(self, n: int) -> None:
        self.done += n
        self.progress(self.name, min(self.done / self.total, 1.0) if self.total else 0.0)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        self.progress(self.name, 1.0)
