"""WonderTrader blocks: generated small ones, broken ones, and the real ones row by row."""

from __future__ import annotations

import csv
import gzip
import struct
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zstandard

from mmsim.data import snapshots
from mmsim.data.conversion import no_progress
from mmsim.data.formats import ctp, wondertrader
from mmsim.data.formats.wondertrader import HEAD, TICK
from mmsim.errors import ConfigError, DataError
from mmsim.types import EventFlag, EventKind, Instrument

IF = Instrument(
    "IF2101", Decimal("0.2"), multiplier=Decimal(300), sessions=(("09:30", "11:30"), ("13:00", "15:00"))
)
ROWS = {"20210104": (27_955, 84_288), "20210105": (28_254, 88_203), "20210106": (28_138, 94_934)}


def ticks(n: int = 6) -> np.ndarray:
    """Return `n` good records of one day, half a second apart from 09:30 on."""
    out = np.zeros(n, TICK)
    out["exchange"], out["code"] = b"CFFEX", b"IF2101"
    out["trading_date"] = out["action_date"] = 20210104
    out["action_time"] = 93000000 + 500 * np.arange(n) % 1000 + 1000 * (np.arange(n) // 2)
    out["price"] = 5230.2
    out["bid_prices"][:, 0], out["ask_prices"][:, 0] = 5230.0, 5230.4
    out["bid_qty"][:, 0], out["ask_qty"][:, 0] = 3 + np.arange(n), 7
    out["total_volume"] = 10 * np.arange(n)
    out["total_turnover"] = out["total_volume"] * 300 * 5230.2
    return out


def write(path: Path, records: np.ndarray, *, kind: int = 24, version: int = 2, cut: int = 0) -> Path:
    payload = zstandard.compress(records.tobytes())
    head = struct.pack("<8sHHQ", b"&^%$#@!\0", kind, version, len(payload))
    path.write_bytes(head + payload[: len(payload) - cut])
    return path


def convert(path: Path, **options: object) -> wondertrader.Conversion:
    return wondertrader.FORMAT.convert([path], IF, options, no_progress).finish()


def test_layout_is_the_packed_struct() -> None:
    assert (HEAD.itemsize, TICK.itemsize) == (20, 402)


def test_a_small_block(tmp_path: Path) -> None:
    done = convert(write(tmp_path / "a.dsb", ticks()))
    assert (done.level, done.view_depth, done.n_slots) == ("snapshot", 1, 0)
    assert [s.label for s in done.segments] == ["2021-01-04"]
    assert done.counts["rows_read"] == done.counts["rows_used"] == 6
    trades = done.events[done.events["kind"] == EventKind.TRADE]
    # 10 lots a snapshot at 5230.2, half-way between 5230.0 and 5230.4: 5 bought, 5 sold
    assert trades["px"].tolist() == [26152, 26150] * 5
    assert trades["qty"].tolist() == [5] * 10
    bids = done.events[(done.events["kind"] == EventKind.LEVEL) & (done.events["side"] == 1)]
    assert bids["qty"].tolist() == [3, 4, 5, 6, 7, 8]
    assert np.datetime64(int(done.events["ts"][0]), "ns") == np.datetime64("2021-01-04T01:30:00")
    assert done.events["flags"][-1] & EventFlag.LAST


def test_ten_levels_and_the_depth_option(tmp_path: Path) -> None:
    deep = ticks()
    for level in range(10):
        deep["bid_prices"][:, level] = 5230.0 - 0.2 * level
        deep["ask_prices"][:, level] = 5230.4 + 0.2 * level
    deep["bid_qty"], deep["ask_qty"] = 5, 5
    path = write(tmp_path / "a.dsb", deep)
    assert convert(path).view_depth == 10
    done = convert(path, depth=3)
    assert done.view_depth == 3
    assert len(set(done.events["px"][done.events["kind"] == EventKind.LEVEL].tolist())) == 6
    with pytest.raises(ConfigError, match="unknown option 'dept'"):
        convert(path, dept=3)


def bad(field: str, value: object, level: int | None = None) -> np.ndarray:
    out = ticks()
    if level is None:
        out[field][3] = value
    else:
        out[field][3, level] = value
    return out


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (bad("bid_prices", np.nan, 0), r"row 4, field 'bid_prices\[0\]': expected a finite price"),
        (bad("ask_prices", 5230.45, 0), r"row 4, field 'ask_prices\[0\]': expected a multiple of 0.2"),
        (bad("total_turnover", 1e300), "row 4, field 'total_turnover': expected a turnover >= 0 and below"),
        (bad("price", 1e300), "row 4, field 'price': expected a multiple of 0.2"),
        (bad("total_turnover", np.nan), "row 4, field 'total_turnover'"),
        (bad("total_volume", 1), "row 4, field 'total_volume': expected cumulative volume"),
        (bad("action_time", 93000100), "row 4, field 'time': expected non-decreasing time"),
        (bad("action_time", 257000100), "row 4, field 'action_time': expected a time"),
        (bad("action_date", 20210230), "row 4, field 'action_date': expected a date"),
        (bad("code", b"IH2101"), "row 4, field 'code': expected one contract"),
    ],
)
def test_bad_records_name_row_and_field(tmp_path: Path, records: np.ndarray, said: str) -> None:
    path = write(tmp_path / "bad.dsb", records)
    with pytest.raises(DataError, match=said) as caught:
        convert(path)
    assert str(path) in str(caught.value)


def test_a_wrong_multiplier_is_named_and_turnover_may_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "FEWEST", 5)
    path = write(tmp_path / "a.dsb", ticks())
    one = Instrument("IF2101", Decimal("0.2"), sessions=IF.sessions)
    with pytest.raises(DataError, match=r"5 of 5 intervals.*multiplier of about 300: --multiplier 300, or"):
        wondertrader.FORMAT.convert([path], one, {}, no_progress)
    done = wondertrader.FORMAT.convert([path], one, {"turnover": "ignore"}, no_progress).finish()
    # priced at the last price, 5230.2
    assert set(done.events["px"][done.events["kind"] == EventKind.TRADE].tolist()) == {26150, 26152}
    assert done.counts["volume_without_turnover"] == 5
    with pytest.raises(ConfigError, match="option turnover: expected use or ignore"):
        convert(path, turnover="no")


def test_the_tape_of_real_days_is_the_files_volume(real_data_home: Path) -> None:
    # recounted from the csv beside the blocks, without our reader
    folder = real_data_home / "cffex-if-tick"
    with gzip.open(folder / "cffex-if2101_20210105.csv.gz", "rt") as fh:
        volume = [int(row["total_volume"]) for row in csv.DictReader(fh)]
    changes = int(volume[0] > 0) + sum(b > a for a, b in pairwise(volume))
    done = convert(folder / "CFFEX.IF.HOT_tick_20210105.dsb")
    assert done.tape is not None
    told = done.tape.report(done.events)
    assert told["raw"] == {"trades": changes, "lots": volume[-1]}
    assert told["imported"]["lots"] + sum(v["lots"] for v in told["missing"].values()) == volume[-1]
    assert done.counts["implied_outside_quotes"] == 0


def test_broken_files(tmp_path: Path) -> None:
    good = write(tmp_path / "a.dsb", ticks())
    (tmp_path / "b.dsb").write_bytes(good.read_bytes()[:10])
    with pytest.raises(DataError, match="field 'head': expected a head of 20 bytes, was 10"):
        convert(tmp_path / "b.dsb")
    with pytest.raises(DataError, match=r"field 'size': expected .* bytes after the head"):
        convert(write(tmp_path / "c.dsb", ticks(), cut=5))
    with pytest.raises(DataError, match="field 'type': expected block type 24 version 2"):
        convert(write(tmp_path / "d.dsb", ticks(), version=3))
    raw = bytearray(good.read_bytes())
    raw[12:20] = struct.pack("<Q", len(raw) - 20 - 7)
    (tmp_path / "e.dsb").write_bytes(raw[:-7])
    with pytest.raises(DataError, match="field 'payload': expected whole zstd frames"):
        convert(tmp_path / "e.dsb")
    raw[30] ^= 0xFF
    (tmp_path / "f.dsb").write_bytes(raw[:-7])
    with pytest.raises(DataError, match="zstd frame"):
        convert(tmp_path / "f.dsb")
    with pytest.raises(DataError, match="cannot read"):
        convert(tmp_path / "none.dsb")


@pytest.mark.parametrize("day", list(ROWS))
def test_real_blocks_equal_the_csv_beside_them(real_data_home: Path, day: str) -> None:
    folder = real_data_home / "cffex-if-tick"
    records = wondertrader.read(folder / f"CFFEX.IF.HOT_tick_{day}.dsb")
    assert len(records) == ROWS[day][0]
    assert int(records["total_volume"][-1]) == ROWS[day][1]
    with gzip.open(folder / f"cffex-if2101_{day}.csv.gz", "rt", encoding="utf-8") as fh:
        rows = list(csv.DictReader(fh))
    assert len(rows) == len(records)
    same = {"last_price": "price"} | {
        k: k
        for k in (
            *(
                "trading_date",
                "action_date",
                "action_time",
                "total_volume",
                "volume",
                "total_turnover",
                "turn_over",
            ),
            *("open_interest", "diff_interest", "open", "high", "low", "pre_close", "pre_settle"),
            *("upper_limit", "lower_limit"),
        )
    }
    for column, field in same.items():
        # the csv holds the limits rounded to what is on the screen
        assert [float(r[column]) for r in rows] == records[field].astype(float).round(6).tolist(), column
    for side in ("bid", "ask"):
        assert [float(r[f"{side}_price_1"]) for r in rows] == records[f"{side}_prices"][:, 0].tolist()
        assert [int(r[f"{side}_qty_1"]) for r in rows] == records[f"{side}_qty"][:, 0].tolist()
        assert not records[f"{side}_qty"][:, 1:].any()


def test_real_csv_through_the_ctp_reader_gives_the_same_events(real_data_home: Path) -> None:
    folder = real_data_home / "cffex-if-tick"
    from_dsb = convert(folder / "CFFEX.IF.HOT_tick_20210105.dsb")
    from_csv = ctp.convert([folder / "cffex-if2101_20210105.csv.gz"], IF, {}, no_progress).finish()
    assert from_csv.events.tobytes() == from_dsb.events.tobytes()
    assert from_csv.counts == from_dsb.counts
    assert from_csv.segments == from_dsb.segments
    assert from_dsb.counts["lots_traded"] == 88_203
    implied = from_dsb.events[from_dsb.events["kind"] == EventKind.TRADE]["qty"].sum()
    assert int(implied) == from_dsb.counts["lots_implied"]
    assert from_dsb.counts["lots_implied"] + from_dsb.counts["lots_not_replayed"] == 88_203
