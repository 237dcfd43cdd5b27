"""The cache: atomic, keyed by what changes events, quick, and empty after a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmsim.data
from mmsim import caches
from mmsim.data import cache_folder, store
from mmsim.data.conversion import Conversion, build_events
from mmsim.data.imports import ImportSettings, import_dataset
from mmsim.data.manifest import Manifest, manifest, parse_manifest
from mmsim.errors import ConfigError, DataError
from mmsim.types import EVENT, Instrument, Segment

CSV_HEAD = (
    "TradingDay,ActionDay,UpdateTime,UpdateMillisec,InstrumentID,LastPrice,Volume,Turnover,"
    "BidPrice1,BidVolume1,AskPrice1,AskVolume1\n"
)
FUTURE = {"tick_size": "1", "multiplier": "10"}


def csv_text(n: int = 2400, *, day: int = 20240110, broken: int = -1) -> str:
    """`n` half-second rows from 09:00 on; in row `broken` the bid is off the tick grid."""
    out = [CSV_HEAD]
    for i in range(n):
        s = i // 2
        clock = f"{9 + s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d},{500 * (i % 2)}"
        bid = 3900.5 if i == broken else 3900 - i % 3
        out.append(f"{day},{day},{clock},rb2405,{bid},{i},{i * 39000},{bid},5,3901,7\n")
    return "".join(out)


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    path = tmp_path / "rb.csv"
    path.write_text(csv_text())
    return path


@pytest.fixture
def mine(empty_cache: Path, csv_file: Path) -> Manifest:
    spec, _ = import_dataset("mine", [csv_file], ImportSettings("ctp", FUTURE))
    return spec


def contents(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.exists() else []


def test_import_then_load(mine: Manifest, csv_file: Path) -> None:
    data = mmsim.data.load("mine", progress=False)
    assert data.name == "mine"
    assert data.events.dtype == EVENT
    assert type(data.events) is np.ndarray
    assert data.instrument.tick_value == 10.0
    assert (data.level, data.view_depth, data.decision_ns) == ("snapshot", 1, 0)
    assert data.counts["rows_read"] == 2400
    assert (data.px_min, data.px_max) == (3898, 3901)
    # 20 minutes: the default episode of 1.5 h shrinks so that every split has one
    assert all(len(data.splits[s]) >= 1 for s in ("train", "validation", "test"))
    assert mine.files[0].path == str(csv_file)
    assert manifest("mine") == mine


def test_second_load_is_quick_and_read_only(mine: Manifest) -> None:
    mmsim.data.load("mine", progress=False)
    start = time.perf_counter()
    data = mmsim.data.load("mine", progress=False)
    assert time.perf_counter() - start < 0.2
    with pytest.raises(ValueError, match="read-only"):
        data.events["px"][0] = 1
    # a view of the mapped file, not a copy
    base = data.events
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert base.mode == "r"


def test_the_cache_stands_alone_and_a_changed_source_is_refused(mine: Manifest, csv_file: Path) -> None:
    text = csv_file.read_text()
    csv_file.unlink()
    assert len(mmsim.data.load("mine", progress=False).events) > 0
    csv_file.write_text(text)  # same content, another time: hashed again, then known
    assert len(mmsim.data.load("mine", progress=False).events) > 0
    csv_file.write_text(text + "\n")
    with pytest.raises(DataError, match=r"rb\.csv: expected sha256 .*, was .*: mmsim data import mine again"):
        mmsim.data.load("mine", progress=False)


def test_missing_sources_say_where_and_what_to_do(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSIM_DATA_HOME", str(tmp_path / "home"))
    with pytest.raises(
        DataError, match=r"no file cffex-if-tick/.*home.* and .*mmsim data fetch if"
    ) as caught:
        mmsim.data.load("if", progress=False)
    assert str(empty_cache / "data") in str(caught.value)
    with pytest.raises(DataError, match=r"other.*mmsim data fetch if"):
        mmsim.data.load("if", data_home=tmp_path / "other", progress=False)
    with pytest.raises(DataError, match=r"rb: the data are licensed.*mmsim data import rb FILES"):
        mmsim.data.load("rb", progress=False)
    assert contents(empty_cache) == []


def test_a_file_with_another_hash_is_refused(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSIM_DATA_HOME", str(tmp_path / "home"))
    for file in manifest("if").files:
        path = tmp_path / "home" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"other")
    with pytest.raises(DataError, match=r"expected sha256 c0f9d80e.*delete it and run mmsim data fetch if"):
        mmsim.data.load("if", progress=False)
    assert contents(empty_cache) == []


def test_a_broken_file_leaves_nothing(empty_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(csv_text(broken=77))
    with pytest.raises(DataError, match=r"bad\.csv, row 79, field 'LastPrice': expected a multiple"):
        import_dataset("mine", [path], ImportSettings("ctp", FUTURE))
    assert contents(empty_cache) == []
    assert "mine" not in mmsim.data.names()


def without_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process say again what it says once."""
    monkeypatch.setattr(caches, "_said", set())


def test_a_full_disk_costs_the_cache_and_nothing_else(
    mine: Manifest, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = store.stored(mine)
    shutil.rmtree(empty_cache / "datasets")
    without_cache(monkeypatch)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_folder.np, "save", full)
    found = store.stored(mine)
    store.stored(mine)
    assert found.events.tobytes() == whole.events.tobytes()
    assert {k: v for k, v in whole.meta.items() if k != "crc32"} == found.meta
    with pytest.raises(ValueError, match="read-only"):
        found.events["px"][0] = 1
    assert contents(empty_cache / "datasets") == []
    [said] = caplog.messages  # once
    assert "cannot be written (No space left on device): going on without it" in said


@pytest.mark.parametrize("what", ["a file", "a file above", "a file for datasets", "may not be written"])
def test_a_cache_that_cannot_be_written_is_said_once(
    mine: Manifest,
    tmp_path: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = store.stored(mine)
    without_cache(monkeypatch)
    home = tmp_path / "other"
    if what == "a file":
        home.write_text("")
    elif what == "a file above":
        home.write_text("")
        home /= "below"
    elif what == "a file for datasets":
        home.mkdir()
        (home / "datasets").write_text("")
    else:
        monkeypatch.setattr(cache_folder.tempfile, "mkdtemp", denied)
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(home))
    for _ in range(2):
        assert store.stored(mine).events.tobytes() == whole.events.tobytes()
    assert not store.is_cached(mine)
    [said] = caplog.messages
    assert f"the cache {home} cannot be written (" in said
    assert "set MMSIM_CACHE_HOME to a folder" in said


def denied(*args: object, **kwargs: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_an_import_needs_the_cache_and_says_so_first(
    tmp_path: Path, csv_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMSIM_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(store, "convert", None)  # is not reached
    with pytest.raises(
        ConfigError, match=r"cannot write to .*imports \(Not a directory\): set MMSIM_CACHE_HOME"
    ):
        import_dataset("new", [csv_file], ImportSettings("ctp", FUTURE))


def test_two_processes_may_race(mine: Manifest) -> None:
    folder = store.cache_folder(mine)
    stored = store.stored(mine)
    done = Conversion(stored.events.copy(), stored.segments, "snapshot", 1).finish()
    # the other was first: its folder stays, ours goes, and what we get is whole
    again = store.save(mine, done, [])
    assert again.events.tobytes() == stored.events.tobytes()
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_concurrent_first_loads(mine: Manifest, empty_cache: Path) -> None:
    shutil.rmtree(empty_cache / "datasets")
    code = "import mmsim.data, hashlib; print(hashlib.sha256(mmsim.data.load('mine').events.tobytes()).hexdigest())"
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        for _ in range(2)
    ]
    out = [job.communicate(timeout=120)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert out[0] == out[1] != ""
    assert len(list((empty_cache / "datasets").iterdir())) == 1


def test_the_key_follows_what_changes_events(mine: Manifest) -> None:
    values = mine.model_dump(mode="json")
    base = store.cache_folder(mine)

    def folder(table: str, key: str, value: object) -> Path:
        changed = {**values, table: {**values[table], key: value}}
        return store.cache_folder(parse_manifest(changed, "x"))

    assert folder("instrument", "tick_size", "2") != base
    assert folder("instrument", "sessions", [["09:00", "10:00"]]) != base
    assert folder("options", "depth", 1) != base
    # what was found of splits and units is kept beside the events
    assert folder("splits", "gap_s", 1) != base
    assert folder("splits", "fractions", [0.5, 0.25, 0.25]) != base
    assert folder("replay", "episode_s", 30) != base
    assert folder("instrument", "unit_lots", 7) != base
    # words do not convert again
    assert store.cache_folder(parse_manifest({**values, "title": "y", "fees": ["zero"]}, "x")) == base


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "events cut": lambda f: (f / "events.npy").write_bytes((f / "events.npy").read_bytes()[:-100]),
    "events empty": lambda f: (f / "events.npy").write_bytes(b""),
    "events flipped": lambda f: flip(f / "events.npy", -7),
    "header flipped": lambda f: flip(f / "events.npy", 0),
    "events gone": lambda f: (f / "events.npy").unlink(),
    "meta null": lambda f: (f / "meta.json").write_text("null"),
    "meta list": lambda f: (f / "meta.json").write_text("[1]"),
    "meta nested": lambda f: (f / "meta.json").write_text("[" * 100_000),
    "meta cut": lambda f: (f / "meta.json").write_bytes((f / "meta.json").read_bytes()[:-9]),
    "meta digit": lambda f: (f / "meta.json").write_text(
        (f / "meta.json").read_text().replace('"n_slots": 0', '"n_slots": 1')
    ),
    "meta a folder": lambda f: ((f / "meta.json").unlink(), (f / "meta.json").mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again(mine: Manifest, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = store.stored(mine)
    before, meta = whole.events.copy(), whole.meta
    DAMAGE[damage](whole.folder)
    again = store.stored(mine)
    assert again.events.tobytes() == before.tobytes()
    assert again.meta == meta
    [said] = caplog.messages
    assert f"the cache's {whole.folder} is damaged" in said
    assert store.stored(mine).meta == meta
    assert len(caplog.messages) == 1
    assert [p.name for p in whole.folder.parent.iterdir()] == [whole.folder.name]


def test_a_damaged_cache_without_its_sources_is_an_error(mine: Manifest, csv_file: Path) -> None:
    flip(store.stored(mine).folder / "events.npy", -1)
    csv_file.unlink()
    with pytest.raises(
        DataError,
        match=r"damaged \(events.npy has another checksum\) and cannot be made again: .*rb.csv is gone",
    ):
        store.stored(mine)


def test_a_checksum_costs_little(mine: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "big.npy"
    np.save(path, np.zeros(1_000_000, EVENT))  # 24 to 32 MB
    expected = cache_folder._file_checksum(path)
    start = time.perf_counter()
    cache_folder._check_file(path, expected)
    assert time.perf_counter() - start < 0.3
    start = time.perf_counter()
    cache_folder._check_file(path, expected)  # known by now
    assert time.perf_counter() - start < 0.005


def test_import_refuses_taken_names_and_missing_settings(mine: Manifest, csv_file: Path) -> None:
    with pytest.raises(ConfigError, match="was imported before: give --force"):
        import_dataset("mine", [csv_file], ImportSettings("ctp", FUTURE))
    import_dataset("mine", [csv_file], ImportSettings("ctp", FUTURE, force=True))
    with pytest.raises(ConfigError, match="comes with mmsim"):
        import_dataset("if", [csv_file], ImportSettings("ctp", FUTURE))
    with pytest.raises(ConfigError, match="needs the contract's tick size"):
        import_dataset("new", [csv_file], ImportSettings("ctp"))
    with pytest.raises(ConfigError, match=r"unknown format 'ctpp'.*did you mean 'ctp'"):
        import_dataset("new", [csv_file], ImportSettings("ctpp", FUTURE))
    with pytest.raises(DataError, match="expected a file, was none"):
        import_dataset("new", [csv_file.parent / "no.csv"], ImportSettings("ctp", FUTURE))
    with pytest.raises(ConfigError, match="name: "):
        import_dataset("New One", [csv_file], ImportSettings("ctp", FUTURE))
    with pytest.raises(DataError, match="expected 5 levels as asked by --depth, was 1"):
        import_dataset("new", [csv_file], ImportSettings("ctp", FUTURE, depth=5))
    with pytest.raises(DataError, match="expected market events, was none"):
        import_dataset("new", [csv_file], ImportSettings("ctp", {**FUTURE, "sessions": [["16:00", "17:00"]]}))


def test_a_licensed_market_takes_its_shipped_constants(empty_cache: Path, tmp_path: Path) -> None:
    for day in (10, 11, 12):
        (tmp_path / f"{day}.csv").write_text(csv_text(day=20240100 + day))
    spec, data = import_dataset(
        "rb", [tmp_path / f"{d}.csv" for d in (12, 10, 11)], ImportSettings("ctp", episode_s=300)
    )
    assert [s.label for s in data.segments] == ["2024-01-10", "2024-01-11", "2024-01-12"]
    assert data.instrument.multiplier == 10
    assert "shfe" in data.fees
    assert spec.imported
    assert manifest("rb") == spec
    assert data.splits["train"][0].segment == 0
    assert data.splits["test"][-1].segment == 2


def test_simulated_markets_come_from_the_generator(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, start = [], 1_700_000_000 * 10**9

    def generate(generator: Any, instrument: Instrument, name: str) -> Any:
        calls.append(name)
        ts = start + np.arange(0, 4000, dtype=np.int64) * 10**9
        side = np.where(np.arange(4000) % 2, 1, -1)
        rows = build_events(ts=ts, kind=6, side=side, px=10 - side, qty=generator["qty"], flags=1)
        return rows, (Segment(0, 4000, "day"),), 1

    monkeypatch.setattr("mmsim.flow.markets.generate", generate)
    values = {
        "name": "sim",
        "title": "sim",
        "kind": "simulated",
        "generator": {"qty": 3},
        "instrument": {"name": "sim", "tick_size": "1"},
        "replay": {"level": "L2", "decision_ns": 10**9, "episode_s": 100},
        "splits": {"fractions": [0.5, 0.25, 0.25]},
    }
    spec = parse_manifest(values, "sim")
    data = store.build(spec, store.stored(spec))
    assert data.simulated
    assert data.splits["train"][0].end_ts == start + 100 * 10**9
    store.stored(spec)
    assert calls == ["sim"]
    digest = store.events_sha256(data.events)
    store.stored(parse_manifest(values | {"events_sha256": digest}, "sim"))
    with pytest.raises(DataError, match="expected a generated event array with sha256 0000"):
        store.stored(parse_manifest(values | {"events_sha256": "0" * 64}, "sim"))


@pytest.mark.parametrize(
    ("name", "level", "recv"),
    [
        ("if", "snapshot", False),
        ("rb-sample", "snapshot", False),
        pytest.param("btcusdt", "L2", True, marks=pytest.mark.slow),
    ],
)
def test_real_markets_load(real_data_home: Path, name: str, level: str, recv: bool) -> None:
    data = mmsim.data.load(name, progress=False)
    assert data.level == level
    assert (data.recv_ts is not None) == recv
    assert data.counts["crossed_books"] == 0
    spec = manifest(name)
    for split, episodes in data.splits.items():
        labels = getattr(spec.splits, split)
        assert {data.segments[e.segment].label for e in episodes} == set(labels)
    start = time.perf_counter()
    mmsim.data.load(name, progress=False)
    assert time.perf_counter() - start < 0.2
