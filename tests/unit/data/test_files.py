"""Packed files: complete or refused, and never more out of them than the bounds allow."""

from __future__ import annotations

import gzip
import io
import json
import resource
import struct
import zipfile
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zstandard

from mmsim.data import files
from mmsim.data.conversion import no_progress
from mmsim.data.formats import FORMATS
from mmsim.data.formats import _hftbacktest_rows as hft_rows
from mmsim.errors import ConfigError, DataError
from mmsim.types import Instrument

STOCK = Instrument("T", Decimal("0.01"), timezone="America/New_York")
MIB = 1 << 20


def zst(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def zipped(content: bytes, name: str = "a.csv", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [1, 1000, 1 << 22])
@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv", bytes),
        ("a.csv.gz", gzip.compress),
        ("a.zst", zst),
        ("two.zst", lambda c: zst(c[:9]) + zst(c[9:])),
    ],
)
def test_blocks_are_the_content(tmp_path: Path, name: str, pack: Callable[[bytes], bytes], size: int) -> None:
    content = np.random.default_rng(1).integers(0, 9, 300_000, dtype=np.uint8).tobytes()
    content = content[: 300 * size]
    path = written(tmp_path / name, pack(content))
    assert b"".join(files.read_blocks(path, size)) == content
    assert files.open_blocks(path).read() == content
    assert [c for _, c in files.read_members(path)] == [content]


def test_lines_and_members(tmp_path: Path) -> None:
    text = b"a\nb\r\n\nlast"
    for path in (written(tmp_path / "a.txt", text), written(tmp_path / "a.txt.gz", gzip.compress(text))):
        assert list(files.read_lines(path)) == [(1, b"a"), (2, b"b\r"), (3, b""), (4, b"last")]
    path = written(tmp_path / "a.zip", zipped(text, "in/a.csv"))
    assert list(files.read_members(path)) == [("in/a.csv", text)]


@pytest.mark.parametrize("name", ["a.gz", "a.zst", "a.zip"])
@pytest.mark.parametrize("defect", ["cut", "flipped", "empty", "missing"])
def test_what_is_not_complete_is_refused(tmp_path: Path, name: str, defect: str) -> None:
    pack = {"a.gz": gzip.compress, "a.zst": zst, "a.zip": zipped}[name]
    content = bytearray(pack(np.random.default_rng(1).integers(0, 99, 5000, dtype=np.uint8).tobytes()))
    if defect == "cut":
        content = content[: len(content) // 2]
    elif defect == "flipped":
        content[len(content) // 2] ^= 16
    elif defect == "empty" and name != "a.zip":
        return  # no frames: nothing in it, which the formats refuse
    elif defect == "empty":
        content = bytearray()
    path = tmp_path / name
    if defect != "missing":
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*: expected a complete file: .*; fetch it again"):
        list(files.read_members(path))


def test_other_compressions_in_a_zip_are_refused(tmp_path: Path) -> None:
    # Python gives no bound on what comes out of them at once
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = written(tmp_path / "a.zip", zipped(b"x" * 1000, method=method))
        with pytest.raises(DataError, match="a compression that is not deflate"):
            list(files.read_members(path))


ZEROS = bytes(8 * MIB)


def _many(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for k in range(16):
            archive.writestr(f"{k}.csv", bytes(MIB // 2))
    return out.getvalue()


def _itch() -> bytes:
    one = b"\0\x0cS" + bytes(4) + (1).to_bytes(6, "big") + b"Q"  # 12 bytes after the length
    return one * (8 * MIB // len(one))


def _tardis() -> bytes:
    from mmsim.data.formats.tardis import BOOK

    return (",".join(BOOK) + "\n").encode()


def _dsb(payload: bytes) -> bytes:
    return struct.pack("<8sHHQ", b"&^%$#@!\0", 24, 2, len(payload)) + payload


def _npy(content: bytes) -> bytes:
    out = io.BytesIO()
    np.save(out, np.frombuffer(content, hft_rows.ROW))
    return out.getvalue()


def _parquet() -> bytes:
    out = io.BytesIO()
    pd.DataFrame({"a": np.zeros(MIB)}).to_parquet(out)
    return out.getvalue()


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "gzip": ("a.csv.gz", lambda: gzip.compress(ZEROS), "ctp"),
    "zip": ("a.zip", lambda: zipped(ZEROS), "ctp"),
    "zip of many": ("a.zip", lambda: _many(zipfile.ZIP_DEFLATED), "ctp"),
    "lobster": ("a.zip", lambda: zipped(ZEROS, "T_2012-06-21_1_2_message_1.csv"), "lobster"),
    "sse": ("a.zip", lambda: zipped(ZEROS, "2020-01-30.log"), "sse"),
    "fi2010": ("a.zip", lambda: zipped(ZEROS, "a.txt"), "fi2010"),
    "itch": ("S013020.gz", lambda: gzip.compress(_itch()), "itch"),
    "binance": ("a.gz", lambda: gzip.compress(b"1700000000000 {}\n" + ZEROS), "binance"),
    "tardis": ("a.csv.gz", lambda: gzip.compress(_tardis() + ZEROS), "tardis"),
    "databento": ("a.dbn.zst", lambda: zst(b"DBN\1" + struct.pack("<I", 1 << 31) + ZEROS), "databento"),
    "databento, many frames": (
        "a.dbn.zst",
        lambda: zst(b"DBN\1\0\0\0\x7f") + zst(bytes(MIB)) * 9,
        "databento",
    ),
    "wondertrader": ("a.dsb", lambda: _dsb(zst(ZEROS)), "wondertrader"),
    "hftbacktest": ("a.npz", lambda: zipped(_npy(ZEROS), "data.npy"), "hftbacktest"),
    "parquet": ("a.parquet", _parquet, "ctp"),
}


def read(path: Path, format_: str) -> Any:
    return FORMATS[format_].convert([path], STOCK, {}, no_progress)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_by_every_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: str
) -> None:
    name, make, format_ = BOMBS[bomb]
    if format_ == "databento":
        pytest.importorskip("databento_dbn")
    path = written(tmp_path / name, make())
    assert path.stat().st_size < 8 * MIB / files.MAX_RATIO
    monkeypatch.setattr(files, "FREE", MIB)
    monkeypatch.setattr(files, "_PIECE", 32)  # in proportion
    with pytest.raises(
        DataError, match=rf"{path.name}.*: expected at most 0\.00\d+ GiB unpacked .*a bomb; if"
    ):
        read(path, format_)
    # whoever knows better says so: the reader then finds that it is none of its files, or none at all
    monkeypatch.setenv(files.LIMIT, "1")
    with pytest.raises((DataError, ConfigError)) as caught:
        read(path, format_)
    assert "unpacked" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.gz", "a.dbn.zst", "a.zip"])
def test_a_bomb_of_full_size(tmp_path: Path, name: str) -> None:
    path, block = tmp_path / name, bytes(MIB)
    if name == "a.gz":
        with gzip.open(path, "wb", 1) as out:
            for _ in range(300):
                out.write(block)
    elif name == "a.zip":
        whole = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        with whole as archive, archive.open("a.csv", "w") as out:
            for _ in range(300):
                out.write(block)
    else:
        with zstandard.open(path, "wb") as out:
            for _ in range(2000):
                out.write(block)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts = files.read_members(path) if name == "a.zip" else files.read_blocks(path)
    with pytest.raises(
        DataError, match=r"at most 0\.25 GiB unpacked \(100 times the file's size, and 32 GiB"
    ):
        deque(parts, maxlen=0)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < (2 * files.FREE if name == "a.zip" else files.FREE)  # (a member is read whole)


def test_the_bound() -> None:
    def room(packed: int) -> int:
        bound, done = files.Bound(packed, "a"), 0
        for step in (1 << 34, 1 << 30, 1 << 25, 1 << 20, 1):
            for _ in range(64):
                try:
                    bound.add(step)
                except DataError:
                    bound._done -= step
                    break
                done += step
        return done

    assert room(0) == files.FREE
    assert room(10 * MIB) == 1000 * MIB
    assert room(1 << 40) == 32 << 30


@pytest.mark.parametrize("said", ["", "0", "-1", "x", "nan", "inf"])
def test_a_limit_that_is_none(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(files.LIMIT, said)
    with pytest.raises(ConfigError, match=r"MMSIM_MAX_UNPACKED_GIB: expected a number of GiB above 0"):
        files.Bound(1, "a")


def test_a_line_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 10 * MIB)
    path = written(tmp_path / "a.txt", b"one\n" + bytes(16 * MIB))
    with pytest.raises(DataError, match=r"a\.txt, row 2: expected lines of at most 10 MiB"):
        list(files.read_lines(path))


def header(text: str, version: int = 1) -> bytes:
    body = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(body)) + body


ARRAY = "{'descr': '<i8', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        header(ARRAY % "(1000000000000000,)") + bytes(16),
        header(ARRAY % "(4294967296, 4294967296, 4294967296)") + bytes(16),  # the product wraps to 0
        header(ARRAY % "(-1, -2)") + bytes(16),
        header(ARRAY % "(1,)") + bytes(16),  # more than it says
        header(ARRAY % "((((((1,),),),),),)"),
        header(ARRAY % ("(" * 60 + ")" * 60)),
        header(ARRAY.replace("<i8", "|O") % "(2,)") + bytes(16),
        header(ARRAY.replace("<i8", "|V0") % "(2,)"),
        header("{'descr': __import__('os').getcwd(), }"),
        header("not a dictionary"),
        header("\0"),
        b"\x93NUMPY\x01\x00\xff\xff" + bytes(9),
        b"\x93NUMPY\x09\x00" + bytes(200),
    ],
)
def test_an_array_that_is_none(content: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.npz, field 'data': expected a whole \.npy array"):
        files.read_array(content, "a.npz", "data")


@pytest.mark.parametrize(
    "array",
    [np.arange(6), np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros((0, 3)), np.int64(4)],
)  # fmt: skip
def test_an_array_comes_back(array: Any) -> None:
    out = io.BytesIO()
    np.save(out, array)
    found = files.read_array(out.getvalue(), "a.npy")
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "Expecting value"),
        (b"[1]", "an object, was list"),
        (b"1", "an object, was int"),
        (b"\xff{}", "utf-8"),
        (b"{} {}", "Extra data"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_json_that_is_none(text: bytes, said: str) -> None:
    with pytest.raises(DataError, match=rf"x, row 7: expected a JSON message.*{said}"):
        files.read_json(text, "x", 7)


def test_json_comes_back() -> None:
    whole = {"a": [1, -2.5, "x", None, True], "b": {"a": {}}, "ü": "\u0000"}
    assert files.read_json(json.dumps(whole).encode(), "x") == whole
