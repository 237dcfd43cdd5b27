"""Manifests: every shipped one is valid, and mistakes are one line with the key."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mmsim.data.manifest import fee_schedules, manifest, manifest_paths, names, parse_manifest, read_manifest
from mmsim.errors import ConfigError, UnknownDatasetError
from mmsim.paths import datasets_folder

PUBLIC = {"if", "moutai", "amzn", "btcusdt", "rb-sample"}
LICENSED = {"fu", "rb", "cu", "ag"}


def good() -> dict[str, Any]:
    return {
        "name": "x",
        "title": "x",
        "kind": "public",
        "format": "ctp",
        "instrument": {"name": "x", "tick_size": "0.2"},
        "replay": {"level": "snapshot", "decision_ns": 0, "episode_s": 60},
        "splits": {"fractions": [0.6, 0.2, 0.2]},
    }


OUTSIDE = ("../x", "a/../../x", "a/..", "/x", "a\\..\\..\\x", "C:x", "C:\\x", "\\\\host\\share\\x", "\\x")


def source(path: str, url: str = "") -> dict[str, Any]:
    return {"path": path, "url": url, "sha256": "0" * 64, "bytes": 1}


def test_paths_inside_the_data_home_are_taken() -> None:
    for path in ("x", "a/b/x", "a..b/..x", "./x"):
        spec = parse_manifest(good() | {"files": [source(path, "https://host/x")]}, "x")
        assert spec.files[0].inside
    spec = parse_manifest(good() | {"imported": True, "files": [source("/a/x")]}, "x")
    assert not spec.files[0].inside


def test_every_shipped_manifest_is_valid() -> None:
    shipped = {n for n, p in manifest_paths().items() if p.parent == datasets_folder()}
    assert shipped >= PUBLIC | LICENSED
    for name in shipped:
        spec = manifest(name)
        assert spec.name == name
        assert spec.kind == ("licensed" if name in LICENSED else "public" if name in PUBLIC else "simulated")
        assert spec.fee_schedules()["zero"].maker_rate == 0
        assert len(spec.source_sha256) == 64
        for file in spec.files:
            assert file.url.startswith("https://raw.githubusercontent.com/")
            assert not Path(file.path).is_absolute()


def test_real_files_are_those_of_the_manifests(real_data_home: Path) -> None:
    import hashlib

    for name in PUBLIC:
        for file in manifest(name).files:
            content = (real_data_home / file.path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file.sha256
            assert len(content) == file.bytes


def test_constants_of_the_if_manifest() -> None:
    instrument = manifest("if").instrument.build()
    assert instrument.tick_size == Decimal("0.2")
    assert instrument.tick_value == 60.0
    assert instrument.sessions == (("09:30", "11:30"), ("13:00", "15:00"))


def test_fee_schedules_are_exact_and_dated() -> None:
    fees = fee_schedules()
    # opening 0.23 bps and closing on the same day 3.45 bps, a lot each
    assert fees["cffex"].maker_rate == (Decimal("0.000023") + Decimal("0.000345")) / 2
    assert fees["nasdaq"].maker_per_lot == Decimal("-0.0020")
    assert fees["nasdaq"].taker_per_lot == Decimal("0.0030")
    assert (fees["binance_vip0"].maker_rate, fees["binance_vip0"].taker_rate) == (
        Decimal("0.0002"),
        Decimal("0.0005"),
    )
    for name, fee in fees.items():
        assert name == fee.name
        assert name == "zero" or ("check before use" in fee.source and "20" in fee.source)


def test_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(UnknownDatasetError, match=r"no dataset 'btcusd' .*did you mean 'btcusdt'"):
        manifest("btcusd")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"titel": "y"}, "unknown key 'titel'"),
        ({"format": "ctpp"}, "expected format in .*did you mean 'ctp'"),
        ({"name": "../x"}, "name: "),
        ({"kind": "open"}, "kind: "),
        ({"instrument": {"name": "x", "tick_size": 0.2}}, "instrument.tick_size: .*expected decimal text"),
        ({"instrument": {"name": "x", "tick_size": "nan"}}, "instrument.tick_size: .*finite"),
        ({"instrument": {"name": "x", "tick_size": "-1"}}, "tick_size, lot_size and multiplier > 0"),
        ({"instrument": {"name": "x", "tick_size": "1", "timezone": "Mars/X"}}, "expected a time zone"),
        (
            {"instrument": {"name": "x", "tick_size": "1", "sessions": [["9.30", "10:00"]]}},
            "expected a session time",
        ),
        ({"replay": {"level": "L4", "decision_ns": 0, "episode_s": 60}}, "replay.level"),
        ({"splits": {}}, "expected segment labels"),
        ({"splits": {"fractions": [0.6, 0.2, 0.1]}}, "three fractions"),
        ({"splits": {"fractions": [0.6, 0.2, 0.2], "test": ["a"]}}, "either segment labels or fractions"),
        ({"splits": {"test": ["a"], "train": ["a"]}}, "every segment in one split"),
        ({"files": [{"path": "a", "sha256": "12", "bytes": 1}]}, "files.0.sha256"),
        ({"kind": "simulated"}, "generator"),
        ({"name": "x/y"}, "name: "),
        ({"name": "x" * 101}, "name: .*at most 100"),
        *(({"files": [source(path)]}, "a path inside the data home, was") for path in OUTSIDE),
        *(
            ({"files": [source("a", url)]}, "files.0.url")
            for url in ("file:///x", "ftp://h/x", "/x", "h/x", "x:y")
        ),
        ({"files": [source("")]}, "files.0.path"),
        ({"files": [source("a\0b")]}, "files.0.path"),
    ],
)
def test_a_wrong_manifest_is_one_line_with_the_key(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_manifest(good() | change, "x.toml")
    parse_manifest(good(), "x.toml")


def test_fees_of_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown fee schedule 'cfex' .*did you mean 'cffex'"):
        parse_manifest(good() | {"fees": ["cfex"]}, "x").fee_schedules()


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("name = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_manifest(tmp_path / "a.toml")
    with pytest.raises(ConfigError, match="No such file"):
        read_manifest(tmp_path / "b.toml")


def test_imported_manifests_are_listed(empty_cache: Path) -> None:
    assert "mine" not in names()
    folder = empty_cache / "imports"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('name = "other"\n')
    assert "mine" in names()
    with pytest.raises(ConfigError):
        manifest("mine")
