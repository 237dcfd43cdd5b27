"""Tardis csv: snapshots, two streams in one order, clocks, and what is wrong with a file."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.formats import tardis
from mmsim.errors import ConfigError, DataError
from mmsim.testing.markets import tiny_market
from mmsim.types import EventFlag, EventKind, Instrument

BTC = Instrument("BTC", Decimal("0.1"), lot_size=Decimal("0.001"), timezone="UTC")
T0 = 1_700_000_000_000_000  # us
Tell = Callable[[np.ndarray], list[Any]]


def book(
    us: int, snapshot: bool, side: str, px: str, qty: str, *, lag: int = 50, symbol: str = "BTCUSDT"
) -> str:
    flag = "true" if snapshot else "false"
    return f"binance,{symbol},{T0 + us},{T0 + us + lag},{flag},{side},{px},{qty}"


def trade(us: int, side: str, px: str, qty: str, *, lag: int = 60) -> str:
    return f"binance,BTCUSDT,{T0 + us},{T0 + us + lag},{us},{side},{px},{qty}"


def write(path: Path, columns: tuple[str, ...], lines: list[str]) -> Path:
    content = ("\n".join([",".join(columns), *lines]) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def convert(*paths: Path, instrument: Instrument = BTC, **options: object) -> Conversion:
    return tardis.convert(list(paths), instrument, options, no_progress).finish()


GOOD = [
    book(-100, False, "bid", "50", "1"),  # before the snapshot
    book(0, True, "bid", "100.0", "1"),
    book(0, True, "ask", "100.1", "0.300"),
    book(0, True, "ask", "100.2", "0"),  # an empty level of a snapshot says nothing
    book(0, True, "ask", "1000", "5"),  # far away
    book(10, False, "ask", "100.1", "0.2"),
    book(10, False, "bid", "99.9", "4"),
    book(20, False, "bid", "100.0", "0"),
    book(30, True, "bid", "99.8", "1"),
    book(30, True, "ask", "100.3", "2"),
    book(40, False, "ask", "100.2", "1"),
]
TRADES = [
    trade(-5, "buy", "100.1", "9"),
    trade(25, "unknown", "100.0", "0.001"),
    trade(10, "buy", "100.1", "0.1"),  # at the time of the change that it causes: in front of it
    trade(0, "sell", "100.0", "0.002"),  # at the time of the snapshot: behind it
]


def files(tmp_path: Path, lines: list[str] = GOOD, trades: list[str] = TRADES) -> tuple[Path, Path]:
    return (
        write(tmp_path / "binance_incremental_book_L2.csv.gz", tardis.BOOK, lines),
        write(tmp_path / "binance_trades.csv", tardis.TRADES, trades),
    )


def recount(paths: tuple[Path, ...], symbol: str) -> tuple[Counter[str], tuple[int, Decimal]]:
    """Count a symbol's rows by kind, and trades and their amount, from the raw files."""
    found, trades, amount = Counter[str](), 0, Decimal(0)
    for path in paths:
        with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as fh:
            for row in csv.DictReader(fh):
                if row["symbol"] != symbol:
                    continue
                if "id" in row:
                    trades, amount = trades + 1, amount + Decimal(row["amount"])
                    found["trade"] += 1
                else:
                    found["book_snapshot" if row["is_snapshot"] == "true" else "book_change"] += 1
    return found, (trades, amount)


def test_two_streams_in_one_order(tmp_path: Path, balance: Any) -> None:
    done = convert(*reversed(files(tmp_path)))
    got = [
        (
            *(int(e["ts"]) // 1000 - T0, EventKind(int(e["kind"])).name, int(e["side"])),
            *(int(e["px"]), int(e["qty"]), int(e["flags"])),
        )
        for e in done.events
    ]
    snap, last = int(EventFlag.SNAPSHOT), int(EventFlag.LAST)
    assert got == [
        (0, "LEVEL", 1, 1000, 1000, snap),
        (0, "LEVEL", -1, 1001, 300, snap | last),
        (0, "TRADE", -1, 1000, 2, last),
        (10, "TRADE", 1, 1001, 100, last),
        (10, "LEVEL", -1, 1001, 200, 0),
        (10, "LEVEL", 1, 999, 4000, last),
        (20, "LEVEL", 1, 1000, 0, last),
        (25, "TRADE", 0, 1000, 1, last),
        (30, "CLEAR", 0, 0, 0, snap),
        (30, "LEVEL", 1, 998, 1000, snap),
        (30, "LEVEL", -1, 1003, 2000, snap | last),
        (40, "LEVEL", -1, 1002, 1000, last),
    ]
    assert done.recv_ts is not None
    is_trade = done.events["kind"] == EventKind.TRADE
    assert ((done.recv_ts - done.events["ts"])[is_trade] == 60_000).all()
    assert ((done.recv_ts - done.events["ts"])[~is_trade] == 50_000).all()
    counts = done.counts
    by_kind, (trades, amount) = recount(files(tmp_path), "BTCUSDT")
    assert done.messages == by_kind
    assert sum(by_kind.values()) == counts["rows_read"] == 15
    raw = trades, int(amount / BTC.lot_size)
    assert balance(done) == (raw, (raw[0] - 1, raw[1] - 9000), {"before the first snapshot": (1, 9000)})
    assert (counts["dropped_before_snapshot"], counts["dropped_trade_before_snapshot"]) == (1, 1)
    assert (counts["dropped_far_levels"], counts["snapshots"]) == (1, 2)
    assert done.checks["crossed_books"] == 0
    assert [s.label for s in done.segments] == ["2023-11-14"]
    # without trades there is a book all the same
    alone = convert(files(tmp_path)[0])
    assert alone.messages["trade"] == 0
    assert balance(alone) == ((0, 0), (0, 0), {})
    assert "no trades of this symbol" in alone.notes[-1]


def test_a_snapshot_is_not_younger_than_the_change_after_it(tmp_path: Path) -> None:
    lines = [x.replace(f",{T0},", f",{T0 + 15},") for x in GOOD]  # stamped by the recorder
    done = convert(files(tmp_path, lines, [])[0])
    assert (done.events["ts"][:2] // 1000 - T0 == 10).all()


def test_book_messages_out_of_order(tmp_path: Path) -> None:
    lines = [*GOOD, book(35, False, "ask", "100.2", "3", lag=400), book(50, False, "ask", "100.2", "2")]
    path, _ = files(tmp_path, lines)
    with pytest.raises(
        DataError, match=r"row 13, field 'timestamp': expected exchange time not before .*=hold"
    ):
        convert(path)
    done = convert(path, backwards="hold")
    assert (done.events["ts"][-3:] // 1000 - T0).tolist() == [40, 40, 50]
    assert done.events["qty"][-3:].tolist() == [1000, 3000, 2000]
    assert done.counts["times_held"] == 1
    assert "1 messages of" in done.notes[0]
    assert "up to 0.005 ms before" in done.notes[0]


def test_a_slow_clock_and_several_symbols(tmp_path: Path) -> None:
    slow = [book(0, True, s, p, "1", lag=-2_000) for s, p in (("bid", "100.0"), ("ask", "100.1"))]
    slow.append(book(0, True, "bid", "7", "1", lag=-2_000, symbol="ETHUSDT"))
    slow.append(book(9, False, "bid", "100.0", "2", lag=-2_000))
    path = write(tmp_path / "a.csv", tardis.BOOK, slow)
    with pytest.raises(
        DataError, match=r"row 4, field 'symbol': expected one symbol, was ETHUSDT after BTCUSDT"
    ):
        convert(path)
    done = convert(path, symbol="BTCUSDT")
    assert done.recv_ts is not None
    assert int((done.recv_ts - done.events["ts"]).min()) == 0
    assert (done.counts["recv_shift_max_us"], done.counts["dropped_other_symbols"]) == (2_000, 1)
    with pytest.raises(
        DataError, match=r"field 'symbol': expected rows of incremental_book_L2 of symbol 'XRP'"
    ):
        convert(path, symbol="XRP")


def test_a_crossed_book_is_counted(tmp_path: Path) -> None:
    lines = [*GOOD[:6], book(15, False, "bid", "100.1", "1"), book(16, False, "bid", "100.1", "0"), *GOOD[7:]]
    assert convert(*files(tmp_path, lines)).checks["crossed_books"] == 1


@pytest.mark.parametrize(
    ("at", "line", "said"),
    [
        (
            5,
            book(10, False, "ask", "100.15", "1"),
            r"row 7, field 'price': expected a multiple of 0.1, was '100.15'",
        ),
        (5, book(10, False, "ask", "100.1", "1e-9"), r"row 7, field 'amount': expected a multiple of 0.001"),
        (
            5,
            book(10, False, "ask", "x", "1"),
            r"row 7, field 'price': expected a finite decimal number, was 'x'",
        ),
        (
            5,
            book(10, False, "ask", "100.1", "-1"),
            r"row 7, field 'amount': expected an amount of at least 0",
        ),
        (
            5,
            book(10, False, "buy", "100.1", "1"),
            r"row 7, field 'side': expected one of bid, ask, was buy",
        ),
        (5, book(10, False, "ask", "100.1", "1").replace("false", "no"), r"row 7, field 'is_snapshot'"),
        (
            5,
            book(10, False, "ask", "100.1", "1").rpartition(",")[0],
            r"row 7, field 'amount': expected 8 fields",
        ),
        (
            5,
            book(10, False, "ask", "100.1", "1") + ",9",
            r"expected 8 fields per row: Expected 8 fields in line 7",
        ),
        (5, f"binance,BTCUSDT,{T0}0,{T0},false,bid,1,1", r"row 7, field 'timestamp': expected microseconds"),
        (5, f"b,BTCUSDT,{T0},x,false,bid,1,1", r"row 7, field 'local_timestamp': expected micro.*was 'x'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, at: int, line: str, said: str) -> None:
    path, _ = files(tmp_path, [*GOOD[:at], line])
    with pytest.raises(DataError, match=said):
        convert(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    good, prints = files(tmp_path)
    with pytest.raises(DataError, match="there is no book without them"):
        convert(prints)
    with pytest.raises(DataError, match="expected a snapshot"):
        convert(write(tmp_path / "a.csv", tardis.BOOK, GOOD[5:8]))
    with pytest.raises(DataError, match="expected bids and asks in the first snapshot"):
        convert(write(tmp_path / "a.csv", tardis.BOOK, GOOD[1:2]))
    with pytest.raises(
        DataError, match=r"row 1, field 'amount': expected the columns .*no amount \(did you mean"
    ):
        convert(write(tmp_path / "a.csv", (*tardis.BOOK[:-1], "amonut"), GOOD))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(good.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut\.csv\.gz.*expected a complete file"):
        convert(cut)
    with pytest.raises(DataError, match=r"row 2, field 'amount': expected an amount of at least 1"):
        convert(good, write(tmp_path / "t.csv", tardis.TRADES, [trade(5, "buy", "100.1", "0")]))
    with pytest.raises(ConfigError, match="option band"):
        convert(good, band="2")


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), spread=st.integers(1, 4))
def test_a_market_gives_the_same_book(
    story: Tell, tmp_path_factory: pytest.TempPathFactory, seed: int, spread: int
) -> None:
    folder = tmp_path_factory.mktemp("tardis")
    market = tiny_market(seed, level="L2", seconds=4, spread_ticks=spread)
    events = market.events[: market.segments[0].stop]
    # a message a microsecond, whatever the market's clock says
    told = [(T0 + k, levels, trades) for k, (_, levels, trades) in enumerate(story(events))]
    lines, prints, shown = [], [], {}
    for k, (us, levels, trades) in enumerate(told[16:]):
        for (side, px), qty in levels.items():
            if k == 0 or shown.get((side, px)) != qty:
                name = "bid" if side > 0 else "ask"
                lines.append(f"x,y,{us},{us + 7},{'true' if k == 0 else 'false'},{name},{px / 100},{qty}")
        for side, px in shown.keys() - levels.keys():
            lines.append(f"x,y,{us},{us + 7},false,{'bid' if side > 0 else 'ask'},{px / 100},0")
        prints += [f"x,y,{us},{us + 9},,{'buy' if a > 0 else 'sell'},{px / 100},{q}" for a, px, q in trades]
        shown = levels
    paths = [write(folder / "b.csv", tardis.BOOK, lines)]
    if prints:
        paths.append(write(folder / "t.csv.gz", tardis.TRADES, prints))
    done = convert(*paths, instrument=market.instrument, band="1")
    got: dict[int, Any] = {}
    for ts, levels, trades in story(done.events):
        got[ts] = (levels, (*got[ts][1], *trades) if ts in got else trades)
    assert list(got.items()) == [(us * 1000, (levels, trades)) for us, levels, trades in told[16:]]
