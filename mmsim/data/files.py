"""Reading source files, packed or plain, with one kind of error."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mmsim.errors import DataError

_BLOCK = 1 << 22


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(one-based row, line)`` of a text file, plain or ``.gz``, without line ends.

    Raises
    ------
    DataError
        If it cannot be read to its end: missing, cut short, a wrong checksum.
    """
    row, tail = 0, b""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as fh:
            while block := fh.read(_BLOCK):
                lines = (tail + block).split(b"\n")
                tail = lines.pop()
                for line in lines:
                    row += 1
                    yield row, line
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(
            f"expected a complete file: {_say(err)}; fetch it again", source=str(path), row=row + 1
        ) from None
    if tail:
        yield row + 1, tail


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield ``(name, content)``: the one of a plain or ``.gz`` file, or each member of a ``.zip``.

    Raises
    ------
    DataError
        If it cannot be read to its end: missing, cut short, a wrong checksum.
    """
    source = str(path)
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        source = f"{path}!{info.filename}"
                        yield info.filename, archive.read(info)
        elif path.suffix == ".gz":
            with gzip.open(path, "rb") as fh:
                yield path.stem, fh.read()
        else:
            yield path.name, path.read_bytes()
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as err:
        raise DataError(f"expected a complete file: {_say(err)}; fetch it again", source=source) from None


def _say(err: BaseException) -> str:
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    return str(err) or type(err).__name__
