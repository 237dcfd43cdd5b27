"""Every reader against broken files: right data or an error that names the file, in little time and memory.

Flips, cuts, blocks that are missing, doubled, swapped or zeroed, and absurd numbers, before and after packing.
All of it is drawn from seeds: a failure repeats. What cannot be told from content (a flipped digit without a
checksum is another valid digit) is not looked for here; with one, the events must be those of the whole file.
"""

from __future__ import annotations

import random
import re
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mmsim.data.files import GIB
from mmsim.errors import ConfigError, DataError

SECONDS = 5.0  # for one small file; a good one takes some milliseconds
NASTY = [
    b"", b" ", b"-1", b"0", b"-0", b"1e400", b"-1e400", b"1E+1000000000", b"1E-1000000000", b"1E+999999", b"9" * 5000,
    b"0." + b"0" * 5000 + b"1", b"NaN", b"-NaN", b"inf", b"sNaN", b"0x10", b"1_000", b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"2147483648", b"1e18", b"1.5", b"true",
    b"null", b'"', b"[" * 20_000, b'{"a":' * 5_000, b"\xff\xfe", b"\0", "½".encode(), "٣".encode(), b",", b"\n", b"\r",
]  # fmt: skip
Sample = Any  # of conftest.py


def broken(content: bytes, rng: random.Random, *, text: bool) -> bytes:
    """Return `content` with one to three defects."""
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if not out:
            break
        size = min(rng.choice([1, 2, 4, 8, 40, 160, 1000]), len(out))
        a, b = (rng.randrange(len(out) - size + 1) for _ in range(2))
        kind = rng.choice(
            ["flip", "flip", "byte", "cut", "drop", "double", "swap", "zero", "ones", "insert", "nasty"]
        )
        if kind == "flip":
            out[a] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            out[a] = rng.randrange(256)
        elif kind == "cut":
            del out[a:]
        elif kind == "drop":
            del out[a : a + size]
        elif kind == "double":
            out[a:a] = out[a : a + size]
        elif kind == "swap":
            out[a : a + size], out[b : b + size] = out[b : b + size], out[a : a + size]
        elif kind in {"zero", "ones"}:
            out[a : a + size] = bytes([0 if kind == "zero" else 255]) * size
        elif kind == "insert":
            out[a:a] = bytes(size)
        elif text:
            words = list(re.finditer(rb"[^\s,=:\"\[\]{}]+", out))
            if words:
                word = rng.choice(words)
                out[word.start() : word.end()] = rng.choice(NASTY)
        else:  # a number of 1 to 8 bytes at its edges
            width = rng.choice([1, 2, 4, 8])
            value = rng.choice([0, 1, (1 << 8 * width - 1) - 1, 1 << 8 * width - 1, (1 << 8 * width) - 1])
            out[a : a + width] = value.to_bytes(width, rng.choice(["little", "big"]))
    return bytes(out)


@contextmanager
def limit(what: str) -> Iterator[None]:
    """Fail after `SECONDS` (a kernel is interrupted when it returns)."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"{what}: more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """Return the most memory that this process had, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(sample: Sample, folder: Path, seed: int) -> str:
    """Break the sample's files with one seed and read them; return how it ended."""
    rng = random.Random(seed)
    packed = rng.random() < 0.4
    after = packed and rng.random() < 0.5  # break what is packed, or pack what is broken
    victim = rng.choice(sorted(sample.files))
    text = (
        sample.format not in {"itch", "wondertrader", "hftbacktest", "databento"} and "parquet" not in victim
    )
    paths = []
    for name, whole in sample.files.items():
        content = broken(whole, rng, text=text) if name == victim and not after else whole
        if packed or sample.format in {"wondertrader", "hftbacktest"}:
            name, content = sample.pack(name, content)
        if after and name.split(".")[0] == victim.split(".")[0]:
            content = broken(content, rng, text=False)
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    what = f"{sample.format}, seed {seed}"
    with limit(what):
        try:
            done = sample.convert(paths)
        except (DataError, ConfigError) as err:
            said = str(err)
            assert any(
                p.name.split(".")[0].split("_message")[0].split("_orderbook")[0] in said for p in paths
            ), said
            assert len(said) < 2000, f"{what}: a message of {len(said)} characters"
            return "refused"
        except TimeoutError:
            raise
        except Exception as err:
            raise AssertionError(f"{what}: {type(err).__name__}: {err}") from err
    if after and sample.checked:
        assert done.events.tobytes() == whole_events(sample, folder), (
            f"{what}: other events than the whole file's"
        )
    return "read"


def whole_events(sample: Sample, folder: Path) -> bytes:
    """Return the events of the sample as it was made."""
    paths = []
    for name, content in sample.files.items():
        paths.append(folder / f"whole-{name}")
        if sample.format in {"wondertrader", "hftbacktest"}:
            name, content = sample.pack(f"whole-{name}", content)
            paths[-1] = folder / name
        paths[-1].write_bytes(content)
    return sample.convert(paths).events.tobytes()


def run(sample: Sample, folder: Path, seeds: range) -> None:
    """Try many seeds."""
    assert len(whole_events(sample, folder)) > 1000
    before, start = peak(), time.perf_counter()
    ends = {"refused": 0, "read": 0}
    for seed in seeds:
        ends[attempt(sample, folder, seed)] += 1
    # the fuzzer itself must do something: most defects are found, some do no harm
    assert ends["refused"] > 0.2 * len(seeds), ends
    assert ends["read"] > 0, ends
    assert peak() - before < GIB // 2
    assert time.perf_counter() - start < 0.5 * len(seeds)


def test_broken_files(sample: Sample, tmp_path: Path) -> None:
    run(sample, tmp_path, range(60))


@pytest.mark.slow
def test_many_broken_files(sample: Sample, tmp_path: Path) -> None:
    run(sample, tmp_path, range(1000, 1400))
