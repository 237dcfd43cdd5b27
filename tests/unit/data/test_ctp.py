"""CTP-style files in every vendor's spelling and packing, and what is wrong with them."""

from __future__ import annotations

import gzip
import io
import zipfile
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from mmsim.data import snapshots
from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.formats import ctp
from mmsim.errors import ConfigError, DataError
from mmsim.types import EventKind, Instrument

SESSIONS = (("21:00", "23:00"), ("09:00", "10:15"), ("10:30", "11:30"), ("13:30", "15:00"))
RB = Instrument("rb", Decimal(1), multiplier=Decimal(10), sessions=SESSIONS)
CN = "一二三四五"
HUGE = "1.7976931348623157e+308"


def ctp_rows() -> pd.DataFrame:
    """Return six good rows: auction, two of the night, two of the day, a repeat after the close."""
    clock = ["20:59:00", "21:00:00", "21:00:00", "09:00:00", "09:00:01", "15:20:00"]
    frame = pd.DataFrame(
        {
            "TradingDay": ["20240110"] * 6,
            "ActionDay": ["20240109"] * 3 + ["20240110"] * 3,
            "UpdateTime": clock,
            "UpdateMillisec": ["500", "0", "500", "0", "0", "0"],
            "InstrumentID": ["rb2405"] * 6,
            "LastPrice": ["3900"] * 6,
            "Volume": ["5", "9", "11", "30", "34", "34"],
            "Turnover": [str(v * 39000) for v in (5, 9, 11, 30, 34, 34)],
            "OpenInterest": ["100"] * 6,
        }
    )
    for i in range(1, 6):
        frame[f"BidPrice{i}"] = str(3901 - i)
        frame[f"BidVolume{i}"] = str(10 * i)
        frame[f"AskPrice{i}"] = str(3900 + i)
        frame[f"AskVolume{i}"] = str(20 * i)
    frame.loc[4, "BidPrice5"], frame.loc[4, "BidVolume5"] = HUGE, "0"
    frame.loc[4, "AskPrice5"], frame.loc[4, "AskVolume5"] = "0", "0"
    return frame


def text(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


def convert(path: Path, **options: object) -> Conversion:
    return ctp.FORMAT.convert([path], RB, options, no_progress).finish()


def written(tmp_path: Path, frame: pd.DataFrame, name: str = "rb.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text(frame))
    return path


def chinese(frame: pd.DataFrame) -> pd.DataFrame:
    names = dict(
        zip(
            ["TradingDay", "ActionDay", "UpdateTime", "UpdateMillisec", "InstrumentID"],
            ["交易日", "业务日期", "最后修改时间", "最后修改毫秒", "合约代码"],
            strict=True,
        )
    )
    names |= {"LastPrice": "最新价", "Volume": "数量", "Turnover": "成交金额", "OpenInterest": "持仓量"}
    for i in range(1, 6):
        names |= {f"BidPrice{i}": f"申买价{CN[i - 1]}", f"BidVolume{i}": f"申买量{CN[i - 1]}"}
        names |= {f"AskPrice{i}": f"申卖价{CN[i - 1]}", f"AskVolume{i}": f"申卖量{CN[i - 1]}"}
    return frame.rename(columns=names)


def test_rows_night_and_counts(tmp_path: Path) -> None:
    done = convert(written(tmp_path, ctp_rows()))
    assert [s.label for s in done.segments] == ["2024-01-10"]
    assert (done.level, done.view_depth) == ("snapshot", 5)
    counts = done.counts
    assert (counts["rows_read"], counts["rows_used"]) == (6, 4)
    assert (counts["dropped_auction"], counts["dropped_after_close_repeat"]) == (1, 1)
    # 34 lots in all, 5 in the auction, 4 in the first snapshot that has no quotes before it
    assert (counts["lots_traded"], counts["lots_implied"]) == (34, 25)
    first = done.events[0]
    assert (
        str(pd.Timestamp(int(first["ts"]), tz="UTC").tz_convert("Asia/Shanghai"))
        == "2024-01-09 21:00:00+08:00"
    )
    # the fifth levels of the last row are no quotes: with fewer than five shown, nothing is beyond
    last = done.events[done.events["ts"] == done.events["ts"][-1]]
    gone = last[(last["kind"] == EventKind.LEVEL) & (last["qty"] == 0)]
    assert sorted(gone["px"].tolist()) == [3896, 3905]


def test_every_packing_and_spelling_gives_the_same_events(tmp_path: Path) -> None:
    frame = ctp_rows()
    reference = convert(written(tmp_path, frame)).events.tobytes()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text(frame)))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("day/rb2405.csv", text(frame))
    numbers = frame.copy()
    for name in frame.columns:
        if name not in ("UpdateTime", "InstrumentID"):
            numbers[name] = pd.to_numeric(frame[name])
    numbers.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "gbk.csv").write_bytes(chinese(frame).to_csv(index=False).encode("gbk"))
    (tmp_path / "utf8.csv").write_bytes(b"\xef\xbb\xbf" + text(chinese(frame)))
    renamed = frame.rename(columns={f"{s}Price{i}": f"{s}_p{i}" for s in ("Bid", "Ask") for i in range(1, 6)})
    mapping = {
        "last": "LastPrice",
        "volume": "Volume",
        "turnover": "Turnover",
        "contract": "InstrumentID",
        "trading_day": "TradingDay",
        "action_day": "ActionDay",
        "time": "UpdateTime",
        "millis": "UpdateMillisec",
        "bid_price": "Bid_p{}",
        "bid_qty": "BidVolume{}",
        "ask_price": "Ask_p{}",
        "ask_qty": "AskVolume{}",
    }
    for name in ("a.csv.gz", "a.zip", "a.parquet", "gbk.csv", "utf8.csv"):
        assert convert(tmp_path / name).events.tobytes() == reference, name
    mapped = convert(written(tmp_path, renamed, "mapped.csv"), columns=mapping)
    assert mapped.events.tobytes() == reference


def tqsdk_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "datetime": [
                "2024-01-09 21:00:00.000000000",
                "2024-01-09 21:00:00.5",
                "2024-01-10 14:59:59.500001024",
            ],
            "last_price": ["3900.0"] * 3,
            "volume": ["9.0", "11.0", "11.0"],
            "amount": ["351000.0", "429000.0", "429000.0"],
            "bid_price1": ["3900.0"] * 3,
            "bid_volume1": ["10.0"] * 3,
            "ask_price1": ["3901.0"] * 3,
            "ask_volume1": ["20.0"] * 3,
            "bid_price2": ["nan"] * 3,
            "bid_volume2": ["0"] * 3,
            "ask_price2": ["nan"] * 3,
            "ask_volume2": ["0"] * 3,
        }
    )


def test_tqsdk_times_nan_levels_and_closing_repeat(tmp_path: Path) -> None:
    done = convert(written(tmp_path, tqsdk_rows()), columns="tqsdk")
    assert [s.label for s in done.segments] == ["2024-01-10"]
    assert done.view_depth == 1
    assert done.counts["dropped_after_close_repeat"] == 1
    # epoch ns, as TqSdk's own frames hold them
    numbers = tqsdk_rows()
    stamps = pd.to_datetime(numbers["datetime"], format="ISO8601").dt.tz_localize("Asia/Shanghai")
    numbers["datetime"] = stamps.astype("int64").astype(str)
    assert convert(written(tmp_path, numbers, "ns.csv")).events.tobytes() == done.events.tobytes()
    broken = tqsdk_rows()
    broken.loc[1, "bid_price1"] = "nan"
    with pytest.raises(DataError, match="row 3, field 'bid_price1': expected a price, was 'nan'"):
        convert(written(tmp_path, broken, "nan.csv"))


def test_two_days_two_segments_and_two_contracts(tmp_path: Path) -> None:
    first, second = ctp_rows(), ctp_rows()
    second["TradingDay"] = "20240111"
    second["ActionDay"] = ["20240110"] * 3 + ["20240111"] * 3
    paths = [written(tmp_path, second, "b.csv"), written(tmp_path, first, "a.csv")]
    done = ctp.FORMAT.convert(paths, RB, {}, no_progress).finish()
    assert [s.label for s in done.segments] == ["2024-01-10", "2024-01-11"]
    other = ctp_rows()
    other["InstrumentID"] = "rb2410"
    both = written(tmp_path, pd.concat([first, other]), "both.csv")
    assert [s.label for s in convert(both).segments] == ["2024-01-10", "2024-01-10-2"]
    one = convert(both, contract="rb2410")
    assert one.counts["dropped_other_contract"] == 6
    assert len(one.segments) == 1


def test_a_wrong_multiplier_is_an_error_that_names_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "FEWEST", 3)
    path = written(tmp_path, ctp_rows())
    for set_to, implied in ((Decimal(1), "10"), (Decimal(1000), "10"), (Decimal("0.5"), "10")):
        other = Instrument("rb", Decimal(1), multiplier=set_to, sessions=SESSIONS)
        with pytest.raises(
            DataError, match=f"imply a multiplier of about {implied}: --multiplier {implied}, or"
        ):
            ctp.FORMAT.convert([path], other, {}, no_progress)
    other = Instrument("rb", Decimal(1), sessions=SESSIONS)
    done = ctp.FORMAT.convert([path], other, {"turnover": "ignore"}, no_progress).finish()
    right = convert(path)
    assert done.events.tobytes() == right.events.tobytes()  # all at the last price here
    assert right.counts["implied_outside_quotes"] == 0


def test_a_turnover_that_no_multiplier_explains_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "FEWEST", 3)
    frame = ctp_rows()
    frame["Turnover"] = ["0", "7", "99", "9000000", "9000007", "9000007"]
    with pytest.raises(DataError, match="no one multiplier explains it: check the columns"):
        convert(written(tmp_path, frame))


@pytest.mark.parametrize("intervals", [19, 20])
def test_a_few_odd_intervals_of_a_quiet_day_are_no_multiplier(tmp_path: Path, intervals: int) -> None:
    quiet = pd.concat([ctp_rows().iloc[[3]]] * (intervals + 1), ignore_index=True)
    quiet["UpdateTime"] = [f"09:00:{i:02d}" for i in range(intervals + 1)]
    quiet["Volume"] = [str(30 + i) for i in range(intervals + 1)]
    quiet["Turnover"] = [str(42000 * (30 + i)) for i in range(intervals + 1)]  # 8 % above the quotes
    path = written(tmp_path, quiet)
    if intervals < 20:
        assert convert(path).counts["implied_outside_quotes"] == intervals
    else:
        with pytest.raises(DataError, match="20 of 20 intervals more than 2% outside with multiplier 10"):
            convert(path)


def test_one_odd_interval_is_counted(tmp_path: Path) -> None:
    many = pd.concat([ctp_rows().iloc[[3]]] * 40, ignore_index=True)
    many["UpdateTime"] = [f"09:00:{i:02d}" for i in range(40)]
    many["Volume"] = [str(30 + i) for i in range(40)]
    value = [39000 * (30 + i) + (39000 if i >= 20 else 0) for i in range(40)]  # one lot at twice the price
    many["Turnover"] = [str(v) for v in value]
    done = convert(written(tmp_path, many))
    assert done.counts["implied_outside_quotes"] == 1
    assert done.events["px"].max() == 7800


def test_the_tape_says_where_every_change_of_volume_went(tmp_path: Path) -> None:
    done = convert(written(tmp_path, ctp_rows()))
    assert done.tape is not None
    assert done.tape.report(done.events) == {
        "unit": "changes of cumulative volume",
        "raw": {"trades": 5, "lots": 34},
        "imported": {"trades": 3, "lots": 25, "rows": {"executions": 0, "prints": 3, "auction": 0}},
        "missing": {
            "before the first row": {"trades": 1, "lots": 5},
            "no quotes before it": {"trades": 1, "lots": 4},
        },
    }


def edit(row: int, column: str, value: str) -> pd.DataFrame:
    frame = ctp_rows()
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (edit(3, "BidPrice1", "nan"), "row 5, field 'BidPrice1': expected a price, was 'nan'"),
        (edit(3, "BidPrice1", ""), "row 5, field 'BidPrice1': expected a price, was ''"),
        (
            edit(3, "BidPrice1", "3900.5"),
            "row 5, field 'BidPrice1': expected a multiple of 1, was '3900.5': 0.5 divides every value here: --tick",
        ),
        (edit(3, "BidPrice1", "1e300"), "row 5, field 'BidPrice1': expected a number below"),
        (edit(3, "Turnover", "1e300"), "row 5, field 'Turnover': expected a turnover >= 0 and below"),
        (edit(3, "ActionDay", "00010101"), "row 5, field 'ActionDay': expected a date YYYYMMDD from 1980"),
        (edit(3, "AskVolume2", "-1"), "row 5, field 'AskVolume2': expected a whole number >= 0"),
        (edit(3, "Volume", "x"), "row 5, field 'Volume': expected a number, was 'x'"),
        (edit(4, "Volume", "29"), "row 6, field 'Volume': expected cumulative volume"),
        (edit(4, "Turnover", "nan"), "row 6, field 'Turnover'"),
        (edit(4, "UpdateTime", "08:59:70"), "row 6, field 'UpdateTime': expected a time"),
        (edit(2, "UpdateTime", "21:00:xx"), "row 4, field 'UpdateTime': expected a date or time"),
        (edit(2, "ActionDay", "2024"), "row 4, field 'ActionDay': expected a date"),
        (edit(1, "UpdateMillisec", "1500"), r"row 3, field 'UpdateMillisec': expected 0\.\.999"),
        (
            edit(2, "UpdateMillisec", "0").assign(UpdateTime=["21:00:02"] * 2 + ["21:00:01"] * 4),
            "non-decreasing",
        ),
        (ctp_rows().drop(columns="AskVolume1"), "row 1, field 'AskVolume1': expected this column"),
        (ctp_rows().drop(columns="UpdateTime"), "row 1, field 'UpdateTime': expected this column"),
        (pd.DataFrame({"a": ["1"]}), "row 1, field 'header': expected the columns of one of"),
        (ctp_rows().iloc[:0], "expected rows of ticks"),
    ],
)
def test_bad_rows_name_file_row_and_field(tmp_path: Path, frame: pd.DataFrame, said: str) -> None:
    path = written(tmp_path, frame, "bad.csv")
    with pytest.raises(DataError, match=said) as caught:
        convert(path)
    assert "bad.csv" in str(caught.value)


def test_epoch_times_in_microseconds_are_not_read_as_nanoseconds(tmp_path: Path) -> None:
    frame = tqsdk_rows()
    stamps = pd.to_datetime(frame["datetime"], format="ISO8601").dt.tz_localize("Asia/Shanghai")
    want = convert(written(tmp_path, frame)).events["ts"] // 1000
    for digits, divisor in ((19, 1), (16, 1_000)):
        frame["datetime"] = [str(int(s) // divisor) for s in stamps.astype("int64")]
        assert {len(v) for v in frame["datetime"]} == {digits}
        got = convert(written(tmp_path, frame, f"{digits}.csv")).events["ts"]
        assert (got // 1000).tolist() == want.tolist()
    frame["datetime"] = "12345678901234567"
    with pytest.raises(
        DataError, match="row 2, field 'datetime': expected a time since 1970 in s, ms, us or ns"
    ):
        convert(written(tmp_path, frame, "17.csv"))
    frame["datetime"] = "3001-01-01 10:00:00"
    with pytest.raises(
        DataError, match="row 2, field 'datetime': expected a date and time from 1980 to 2100"
    ):
        convert(written(tmp_path, frame, "late.csv"))


def test_broken_files_and_options(tmp_path: Path) -> None:
    good = gzip.compress(text(ctp_rows()))
    (tmp_path / "cut.csv.gz").write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"cut\.csv\.gz: expected a complete file"):
        convert(tmp_path / "cut.csv.gz")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rb.csv", text(ctp_rows()))
    (tmp_path / "cut.zip").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(DataError, match=r"cut\.zip: expected a complete file"):
        convert(tmp_path / "cut.zip")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1xx")
    with pytest.raises(DataError, match="expected a complete parquet file"):
        convert(tmp_path / "cut.parquet")
    (tmp_path / "ragged.csv").write_bytes(text(ctp_rows()) + b"1,2,3" + b",4" * 60 + b"\n")
    with pytest.raises(DataError, match=r"ragged\.csv: expected a csv table"):
        convert(tmp_path / "ragged.csv")
    path = written(tmp_path, ctp_rows())
    with pytest.raises(ConfigError, match=r"unknown column preset 'tqsk'.*did you mean 'tqsdk'"):
        convert(path, columns="tqsk")
    with pytest.raises(ConfigError, match="unknown meaning 'lst'"):
        convert(path, columns={"lst": "LastPrice"})
    with pytest.raises(ConfigError, match=r"option depth: expected a whole number in 1\.\.10, was '-3'"):
        convert(path, depth="-3")
    with pytest.raises(ConfigError, match="unknown option 'colums'"):
        convert(path, colums="ctp")


def test_real_rebar_sample(real_data_home: Path) -> None:
    path = real_data_home / "shfe-rb-tick" / "shfe-rb-main_2026-03-24.csv.gz"
    done = convert(path, columns="tqsdk")
    assert done.counts["rows_read"] == 10_000
    assert done.counts["dropped_after_close_repeat"] == 2
    assert done.counts["lots_implied"] == 71_556
    trades = done.events[done.events["kind"] == EventKind.TRADE]
    assert int(trades["qty"].sum()) == 71_556
