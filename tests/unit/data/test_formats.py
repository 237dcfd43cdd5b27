"""A format is one record: a user's own is imported, loaded and listed like the shipped ones."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import mmsim.data
from mmsim.data import converters
from mmsim.data.conversion import no_progress
from mmsim.data.formats import FORMATS, Format, register
from mmsim.data.imports import ImportSettings, import_dataset
from mmsim.errors import ConfigError
from mmsim.types import EventKind, Instrument

DOCS = Path(__file__).resolve().parents[3] / "docs" / "formats.md"
MODULE = """
import numpy as np
from mmsim.data.conversion import Conversion, Tape, build_events
from mmsim.data.formats import Format
from mine_side import BID
from mmsim.types import Segment

def read(paths, instrument, options, progress):
    rows = np.loadtxt(paths[0], dtype=np.int64, delimiter=" ", ndmin=2)
    events = build_events(ts=rows[:, 0], kind=6, side=rows[:, 1] * BID, px=rows[:, 2], qty=rows[:, 3], flags=1)
    return Conversion(events, (Segment(0, len(events), "day"),), "L2", tape=Tape("none"))

FORMAT = Format("mine", "levels, a line each", (".txt",), read, "L2", options=frozenset({"depth"}),
                instrument={"tick_size": "0.5", "sessions": []}, decision_ns=10**9)
"""


@pytest.fixture
def mine(empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "mine_format.py").write_text(MODULE)
    (tmp_path / "mine_side.py").write_text("BID = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        yield importlib.import_module("mine_format")
    finally:
        FORMATS.pop("mine", None)
        for name in ("mine_format", "mine_side"):
            sys.modules.pop(name, None)


def write_levels(path: Path) -> Path:
    second, start = 10**9, 1_700_000_000 * 10**9
    path.write_text(
        "".join(
            f"{start + i * second} {side} {20 + 1 - side - (i % 3 == 0)} {5 + i % 7}\n"
            for i in range(2000)
            for side in (1, -1)
        )
    )
    return path


def test_a_users_format_is_imported_and_loaded(mine: Any, tmp_path: Path) -> None:
    assert register(mine.FORMAT) is mine.FORMAT
    path = write_levels(tmp_path / "a.txt")
    spec, data = import_dataset("own", [path], ImportSettings("mine"))
    assert (spec.format, spec.replay.decision_ns, str(spec.instrument.tick_size)) == ("mine", 10**9, "0.5")
    assert (data.events["kind"] == EventKind.LEVEL).all()
    assert mmsim.data.load("own", progress=False).events.tobytes() == data.events.tobytes()
    with pytest.raises(ConfigError, match=r"mine: unknown option 'dept' .did you mean 'depth'.*known: depth"):
        import_dataset("other", [path], ImportSettings("mine", options={"dept": "1"}))
    FORMATS.pop("mine")
    with pytest.raises(ConfigError, match=r"expected format in .*'lobster'.*was 'mine'"):
        mmsim.data.manifest("own")


def test_a_name_is_given_once(mine: Any) -> None:
    register(mine.FORMAT)
    register(mine.FORMAT)
    with pytest.raises(ConfigError, match="format 'mine' is there already"):
        register(replace(mine.FORMAT, title="another"))
    with pytest.raises(ConfigError, match="expected a format's name of small letters"):
        replace(mine.FORMAT, name="My format")


def test_the_cache_key_hashes_every_file_that_converts(mine: Any, tmp_path: Path) -> None:
    def version() -> str:
        converters.version_of.cache_clear()
        return converters.version_of(mine.read)

    before = version()
    assert version() == before
    (tmp_path / "unrelated.py").write_text("X = 1\n")
    assert version() == before
    (tmp_path / "mine_side.py").write_text("BID = -1\n")
    assert version() != before


def test_the_cache_key_follows_imports_and_leaves_other_formats_out() -> None:
    files = {path.name for path in converters.sources_of(FORMATS["lobster"].read)}
    assert {"lobster.py", "_lobster_book.py", "conversion.py", "types.py"} <= files
    assert not {"binance.py", "store.py", "__init__.py"} & files


def test_an_option_is_one_of_the_formats() -> None:
    with pytest.raises(ConfigError, match="did you mean 'depth'"):
        FORMATS["ctp"].convert([], Instrument("x", Decimal(1)), {"dept": 5}, no_progress)


@pytest.mark.parametrize("record", FORMATS.values(), ids=lambda f: f.name)
def test_the_documentation_names_what_the_record_says(record: Format) -> None:
    text = DOCS.read_text(encoding="utf-8")
    section = text.split(f"\n## {record.name}\n")[1].split("\n## ")[0]
    assert f"| [`{record.name}`](#{record.name}) |" in text
    for option in record.options:
        assert option in section, f"{record.name}: option {option} is not described"
