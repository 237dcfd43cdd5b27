"""Reading source files, packed or plain: within bounds, and with one kind of error.

Packed files are hostile until read: what stands in their heads about sizes is never trusted. All that is unpacked
here is counted while it comes out, against `Bound`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError, DataError

GIB = 1 << 30
FREE = GIB // 4  # that much may come out of any file
MAX_RATIO = 100  # from there on: times the packed size; market data pack by 5 to 20
MAX_UNPACKED = 32 * GIB
LIMIT = "MMSIM_MAX_UNPACKED_GIB"
LONGEST_LINE = 1 << 26
_BLOCK = 1 << 22
# a zstd block of 4 bytes may be 128 KiB: at most 64 MiB come out of one piece of this size
_PIECE = 1 << 11
_ZSTD = b"\x28\xb5\x2f\xfd"
# what gzip, zipfile and their like raise for bytes that are not theirs
_BROKEN = (
    *(OSError, EOFError, ValueError, OverflowError, LookupError, RuntimeError, NotImplementedError),
    *(zlib.error, zipfile.BadZipFile, struct.error, MemoryError),
)


class Bound:
    """How much may come out of one packed file, all its members together.

    `FREE` bytes, or `MAX_RATIO` times the packed size if that is more, and `MAX_UNPACKED` at most; or what the
    environment variable ``MMSIM_MAX_UNPACKED_GIB`` says, whatever the ratio.

    Parameters
    ----------
    packed : int
        Bytes of the packed file.
    source : str
        Its name in messages.
    """

    def __init__(self, packed: int, source: str) -> None:
        self._source, self._done = source, 0
        self._limit = min(max(FREE, MAX_RATIO * packed), MAX_UNPACKED)
        said = os.environ.get(LIMIT)
        if said is not None:
            try:
                self._limit = int(float(said) * GIB)
            except (ValueError, OverflowError):
                self._limit = 0
            if self._limit <= 0:
                raise ConfigError(f"{LIMIT}: expected a number of GiB above 0, was {said!r}")

    def add(self, n: int) -> None:
        """Count `n` bytes that came out.

        Raises
        ------
        DataError
            If that is more than may.
        """
        self._done += n
        if self._done > self._limit:
            raise DataError(
                f"expected at most {self._limit / GIB:.4g} GiB unpacked ({MAX_RATIO} times the file's size, and "
                f"{MAX_UNPACKED // GIB} GiB), was more: a damaged file or a bomb; if it is right, set {LIMIT} to "
                "what it needs",
                source=self._source,
            )


def read_blocks(path: Path, size: int = _BLOCK) -> Iterator[bytes]:
    """Yield the content of a plain, ``.gz`` or zstd file (known by its first bytes) in blocks, not all of `size`.

    Raises
    ------
    DataError
        If it cannot be read to its end (missing, cut short, a wrong checksum), or more comes out than may.
    """
    source = str(path)
    try:
        bound = Bound(path.stat().st_size, source)
        with open(path, "rb") as fh:
            packed = fh.read(len(_ZSTD)) == _ZSTD
            fh.seek(0)
            if path.suffix.lower() == ".gz":
                blocks = _parts(gzip.GzipFile(fileobj=fh), size)
            elif packed:
                blocks = _unzstd(_parts(fh, _BLOCK))
            else:
                yield from _parts(fh, size)
                return
            for block in blocks:
                bound.add(len(block))
                yield block
    except DataError:
        raise
    except _BROKEN as err:
        raise _incomplete(err, source) from None


def _parts(file: Any, size: int) -> Iterator[bytes]:
    while part := file.read(size):
        yield part


def _unzstd(packed: Iterator[bytes]) -> Iterator[bytes]:
    # frames one after another; a cut one is an EOFError
    import zstandard

    # one frame written in one go has a window as large as its content
    new = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    unpack, whole = new.decompressobj(), True
    try:
        for block in packed:
            for at in range(0, len(block), _PIECE):
                piece = block[at : at + _PIECE]
                while piece:
                    if unpack.eof:
                        unpack = new.decompressobj()
                    yield unpack.decompress(piece)
                    whole, piece = unpack.eof, unpack.unused_data
    except zstandard.ZstdError as err:
        raise EOFError(str(err)) from None
    if not whole:
        raise EOFError("the last zstd frame is cut")


def unpack_zstd(payload: bytes, source: str) -> bytes:
    """Return the content of zstd frames that are in memory.

    Raises
    ------
    DataError
        If they are cut short or damaged, or more comes out than may.
    """
    bound, out = Bound(len(payload), source), bytearray()
    try:
        for block in _unzstd(iter([payload])):
            bound.add(len(block))
            out += block
    except (EOFError, MemoryError) as err:
        raise DataError(f"expected whole zstd frames: {err}", source=source, field="payload") from None
    return bytes(out)


class _Stream(io.RawIOBase):
    # blocks as a file, for readers that want one

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            try:
                self._rest = memoryview(next(self._blocks))
            except StopIteration:
                return 0
        n = min(len(target), len(self._rest))
        target[:n], self._rest = self._rest[:n], self._rest[n:]
        return n


def open_blocks(path: Path) -> io.BufferedReader:
    """Return the content of `read_blocks` as a file; the same errors come out of its ``read``."""
    return io.BufferedReader(_Stream(read_blocks(path)), 1 << 18)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield ``(one-based row, line)`` of a text file, packed or plain, without line ends.

    Raises
    ------
    DataError
        As `read_blocks`, with the row; or for a line of more than 64 MiB.
    """
    row, tail = 0, b""
    try:
        for block in read_blocks(path):
            lines = (tail + block).split(b"\n")
            tail = lines.pop()
            for line in lines:
                row += 1
                yield row, line
            if len(tail) > LONGEST_LINE:
                raise DataError(f"expected lines of at most {LONGEST_LINE >> 20} MiB, was a longer one")
    except DataError as err:
        text = str(err).removeprefix(f"{path}: ")
        raise DataError(text, source=str(path), row=row + 1) from None
    if tail:
        yield row + 1, tail


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield ``(name, content)``: the one of a plain or packed file, or each member of a ``.zip`` or ``.npz``.

    Raises
    ------
    DataError
        If it cannot be read to its end (missing, cut short, a wrong checksum), or more comes out than may.
    """
    if path.suffix.lower() not in {".zip", ".npz"}:
        yield path.stem if path.suffix == ".gz" else path.name, b"".join(read_blocks(path))
        return
    source = str(path)
    try:
        bound = Bound(path.stat().st_size, source)
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    source = f"{path}!{info.filename}"
                    yield info.filename, _member(archive, info, bound)
    except DataError:
        raise
    except _BROKEN as err:
        raise _incomplete(err, source) from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, bound: Bound) -> bytes:
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # Python unpacks these without a limit on what comes out at once
        raise NotImplementedError(f"a compression that is not deflate ({info.compress_type})")
    out = bytearray()
    with archive.open(info) as fh:
        while block := fh.read(_BLOCK):
            bound.add(len(block))
            out += block
    return bytes(out)


def read_array(content: bytes, source: str, field: str = "") -> npt.NDArray[Any]:
    """Return the array of a ``.npy`` file in memory (read-only), whatever size its head claims.

    Raises
    ------
    DataError
        If it is none, holds Python objects, or is not as long as its head says.
    """
    fh = io.BytesIO(content)
    try:
        read_head = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(fh)]
        shape, fortran, dtype = read_head(fh)
        if dtype.hasobject:
            raise ValueError("Python objects in it")
        n = 1
        for size in shape:  # Python's integers: no product wraps around
            n *= int(size)
        body = len(content) - fh.tell()
        if dtype.itemsize == 0 or n * dtype.itemsize != body or min(shape, default=0) < 0:
            raise ValueError(f"{n} elements of {dtype.itemsize} bytes in {body} bytes")
        flat = np.frombuffer(content, dtype, offset=fh.tell())
        return flat.reshape(shape, order="F" if fortran else "C")
    except Exception as err:  # noqa: BLE001  (numpy has Python parse the head: it may be anything)
        raise DataError(f"expected a whole .npy array: {_say(err)}", source=source, field=field) from None


def read_json(text: bytes, source: str, row: int | None = None) -> dict[str, Any]:
    """Return one JSON object, of UTF-8 and without anything that JSON does not define or readers disagree on.

    Raises
    ------
    DataError
        For anything else: NaN and infinity, a key given twice, thousands of digits or of nested lists.
    """
    try:
        found = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise DataError(
            "expected a JSON message, was one nested too deeply", source=source, row=row
        ) from None
    except ValueError as err:
        raise DataError(f"expected a JSON message: {err}", source=source, row=row) from None
    if not isinstance(found, dict):
        raise DataError(
            f"expected a JSON message that is an object, was {type(found).__name__}", source=source, row=row
        )
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return out


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _incomplete(err: BaseException, source: str) -> DataError:
    return DataError(f"expected a complete file: {_say(err)}; fetch it again", source=source)


def _say(err: BaseException) -> str:
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    return str(err) or type(err).__name__
