"""Binance raw lines: chains, gaps, order, clocks, and what is wrong with them."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.formats import binance
from mmsim.errors import ConfigError, DataError
from mmsim.types import EventFlag, EventKind, Instrument

BTC = Instrument("BTCUSDT", Decimal("0.1"), lot_size=Decimal("0.001"), timezone="UTC")
T0 = 1_700_000_000_000  # ms


def line(ms: int, message: dict[str, Any], *, wrap: bool = True, lag_us: int = 5_000) -> str:
    body = {"stream": "btcusdt@x", "data": message} if wrap else message
    return f"{ms * 1000 + lag_us} {json.dumps(body)}"


def snapshot(ms: int, update: int, bids: list, asks: list) -> str:
    return line(ms, {"lastUpdateId": update, "E": ms, "T": ms, "bids": bids, "asks": asks}, wrap=False)


def diff(ms: int, first: int, last: int, prev: int, bids: list, asks: list, **more: Any) -> str:
    data = {"e": "depthUpdate", "E": ms, "T": ms, "s": "BTCUSDT", "U": first, "u": last, "pu": prev}
    return line(ms, data | {"b": bids, "a": asks} | more)


def trade(ms: int, number: int, px: str, qty: str, maker: bool, **more: Any) -> str:
    data = {"e": "trade", "E": ms, "T": ms, "s": "BTCUSDT", "t": number, "p": px, "q": qty, "X": "MARKET"}
    return line(ms, data | {"m": maker} | more)


def ticker(ms: int, update: int, bid: str, bid_qty: str, ask: str, ask_qty: str) -> str:
    data = {"e": "bookTicker", "u": update, "s": "BTCUSDT", "b": bid, "B": bid_qty, "a": ask, "A": ask_qty}
    return line(ms, data | {"T": ms, "E": ms})


def _told(done: Conversion) -> dict[str, Any]:
    assert done.tape is not None
    told = done.tape.report(done.events)
    prints = told["imported"].pop("rows")["prints"]
    assert prints == told["imported"]["trades"]
    return told


GOOD = [
    diff(T0, 90, 95, 89, [["99.0", "9"]], []),  # older than the snapshot
    trade(T0 + 1, 1, "99.9", "0.5", True),  # before it, too
    diff(T0 + 10, 96, 104, 95, [["100.0", "2.000"]], []),  # goes beyond it: belongs to it
    snapshot(T0 + 9, 100, [["100.0", "1.000"], ["99.5", "3"]], [["100.1", "4"], ["100.5", "5"]]),
    ticker(T0 + 10, 104, "100.00", "2.000", "100.1", "4.000"),
    diff(T0 + 20, 105, 110, 104, [], [["100.1", "3.25"], ["1000.0", "7"]]),
    trade(T0 + 20, 2, "100.1", "0.750", False),
    ticker(T0 + 20, 108, "100.0", "2", "100.1", "3.25"),
    trade(T0 + 25, 3, "0", "0", False, X="NA"),
    line(T0 + 26, {"e": "markPriceUpdate", "s": "BTCUSDT", "p": "1"}),
    trade(T0 + 15, 0, "100.0", "0.001", True),  # its line comes late
]


def write(path: Path, lines: list[str], *, tail: str = "\n") -> Path:
    content = ("\n".join(lines) + tail).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def convert(*paths: Path, **options: object) -> Conversion:
    return binance.FORMAT.convert(list(paths), BTC, options, no_progress).finish()


def test_snapshot_chain_order_and_counts(tmp_path: Path) -> None:
    done = convert(write(tmp_path / "a.gz", GOOD))
    rows = [
        (
            int(e["ts"]) // 10**6 - T0,
            EventKind(int(e["kind"])).name,
            int(e["side"]),
            int(e["px"]),
            int(e["qty"]),
        )
        for e in done.events
    ]
    assert rows == [
        (9, "LEVEL", 1, 1000, 1000),
        (9, "LEVEL", 1, 995, 3000),
        (9, "LEVEL", -1, 1001, 4000),
        (9, "LEVEL", -1, 1005, 5000),
        (10, "LEVEL", 1, 1000, 2000),
        (15, "TRADE", -1, 1000, 1),
        (20, "TRADE", 1, 1001, 750),  # at equal times before the difference that lacks it already
        (20, "LEVEL", -1, 1001, 3250),
    ]
    last = (done.events["flags"] & EventFlag.LAST > 0).tolist()
    assert last == [False, False, False, True, True, True, True, True]
    assert ((done.events["flags"] & EventFlag.SNAPSHOT) > 0).tolist() == [True] * 4 + [False] * 4
    counts = done.counts
    assert counts["rows_read"] == 11
    assert (counts["rows_depth"], counts["rows_trade"], counts["rows_book_ticker"]) == (3, 4, 2)
    assert (counts["dropped_before_snapshot"], counts["dropped_trade_before_snapshot"]) == (1, 1)
    assert (counts["dropped_off_book_trade"], counts["dropped_not_used_event"]) == (1, 1)
    assert (counts["dropped_far_levels"], counts["gaps"]) == (1, 0)
    # two differences have a bookTicker at or before them
    assert (done.checks["states_compared"], done.checks["states_equal"]) == (2, 2)
    assert done.recv_ts is not None
    assert (done.recv_ts - done.events["ts"] == 5_000_000).all()
    assert done.notes == []


def test_ns_and_plain_lines_and_a_slow_local_clock(tmp_path: Path) -> None:
    micro = convert(write(tmp_path / "a.gz", GOOD))
    slow = [f"{int(x.split(' ', 1)[0]) * 1000 - 10**9} {x.split(' ', 1)[1]}" for x in GOOD]
    done = convert(write(tmp_path / "b.txt", slow, tail=""))
    assert done.events.tobytes() == micro.events.tobytes()
    assert done.recv_ts is not None
    # the local clock was a second behind: moved so that the fastest message took no time
    assert int((done.recv_ts - done.events["ts"]).min()) == 0
    assert done.counts["recv_shift_max_us"] == 995_000
    assert "receive times moved by 995.000 ms" in done.notes[0]


def test_a_book_ticker_that_differs_is_counted(tmp_path: Path) -> None:
    lines = [*GOOD]
    lines[7] = ticker(T0 + 20, 108, "100.0", "2", "100.1", "3.26")
    done = convert(write(tmp_path / "a.gz", lines))
    assert (done.checks["states_compared"], done.checks["states_equal"]) == (2, 1)


def test_consecutive_files_are_one_segment_and_a_snapshot_starts_another(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.gz", GOOD[:5]), write(tmp_path / "2.gz", GOOD[5:])
    one = convert(second, first)  # the order of the receive times counts, not that of the names
    assert len(one.segments) == 1
    assert one.events.tobytes() == convert(write(tmp_path / "a.gz", GOOD)).events.tobytes()
    day = 86_400_000
    again = [x.replace(str(T0)[:6], str(T0 + day)[:6]) for x in GOOD]
    assert again != GOOD
    two = convert(first, second, write(tmp_path / "3.gz", again))
    assert [s.label for s in two.segments] == ["2023-11-14", "2023-11-15"]
    assert [s.stop - s.start for s in two.segments] == [8, 8]


def test_a_gap_ends_the_segment_and_is_reported(tmp_path: Path) -> None:
    lines = [*GOOD, diff(T0 + 30, 120, 125, 119, [["99.9", "1"]], []), trade(T0 + 31, 9, "99.9", "1", True)]
    done = convert(write(tmp_path / "a.gz", lines))
    assert (done.counts["gaps"], done.counts["dropped_after_gap"]) == (1, 2)
    assert len(done.events) == 8
    assert "a.gz row 12: expected pu 110, was 119" in done.notes[0]


def spot_diff(us: int, first: int, last: int, bids: list, asks: list, unit: int = 1) -> str:
    data = {"e": "depthUpdate", "E": us // unit, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": asks}
    return line(
        T0, {"stream": "btcusdt@depth@100ms", "data": data}, wrap=False, lag_us=us - T0 * 1000 + 9_000
    )


def spot(unit: int) -> list[str]:
    """Return a stretch of spot messages: times in us (unit 1) or ms (unit 1000), both kinds of wrapping."""
    t0 = T0 * 1000

    def trade_at(us: int, number: int, px: str, qty: str, maker: bool) -> str:
        data = {"e": "trade", "E": us // unit, "s": "BTCUSDT", "t": number, "p": px, "q": qty}
        return line(T0, data | {"T": us // unit, "m": maker, "M": True}, wrap=False, lag_us=us - t0 + 9_000)

    def ticker_at(us: int, *values: Any) -> str:
        data = dict(zip("usbBaA", values, strict=True))
        return line(T0, data, wrap=False, lag_us=us - t0 + 9_000)

    return [
        line(T0, {"result": None, "id": 1}, wrap=False),
        spot_diff(t0, 90, 100, [["99.0", "9"]], [], unit),  # u is the snapshot's: it holds this already
        spot_diff(t0 + 100_000, 101, 104, [["100.0", "2.000"]], [], unit),
        line(T0, {"lastUpdateId": 100, "bids": [["100.0", "1"], ["99.5", "3"]], "asks": [["100.1", "4"]]},
             wrap=False, lag_us=109_500),
        ticker_at(t0 + 150_000, 104, "BTCUSDT", "100.0", "2", "100.1", "4"),
        trade_at(t0 + 170_000, 7, "100.1", "0.75", False),
        spot_diff(t0 + 200_000, 105, 110, [], [["100.1", "3.25"], ["100.2", "5"]], unit),
        spot_diff(t0 + 200_000, 105, 110, [], [["100.1", "3.25"], ["100.2", "5"]], unit),  # of a second connection
        spot_diff(t0 + 300_000, 108, 115, [["99.9", "1"]], [], unit),  # overlaps with what is known
        line(T0, {"stream": "btcusdt@depth20@100ms", "data": {"lastUpdateId": 115, "bids": [], "asks": []}},
             wrap=False, lag_us=310_000),
    ]  # fmt: skip


@pytest.mark.parametrize("unit", [1, 1000], ids=["microseconds", "milliseconds"])
def test_spot_messages_are_read_by_spots_rules(tmp_path: Path, unit: int) -> None:
    done = convert(write(tmp_path / "a.gz", spot(unit)))
    rows = [tuple(int(e[k]) for k in ("ts", "kind", "side", "px", "qty")) for e in done.events]
    t0, level, print_ = T0 * 10**6, int(EventKind.LEVEL), int(EventKind.TRADE)
    assert rows == [
        (t0 + 100_000_000, level, 1, 1000, 1000),
        (t0 + 100_000_000, level, 1, 995, 3000),
        (t0 + 100_000_000, level, -1, 1001, 4000),
        (t0 + 100_000_000, level, 1, 1000, 2000),
        (t0 + 170_000_000, print_, 1, 1001, 750),
        (t0 + 200_000_000, level, -1, 1001, 3250),
        (t0 + 200_000_000, level, -1, 1002, 5000),
        (t0 + 300_000_000, level, 1, 999, 1000),
    ]
    counts = done.counts
    assert (counts["dropped_before_snapshot"], counts["dropped_repeated"], counts["gaps"]) == (1, 1, 0)
    assert (counts["rows_book_ticker"], counts["dropped_partial_book"]) == (1, 1)
    assert (done.checks["states_compared"], done.checks["states_equal"]) == (3, 1)


def test_a_gap_of_spot_names_the_update_that_is_missing(tmp_path: Path) -> None:
    lines = [*spot(1), spot_diff(T0 * 1000 + 400_000, 117, 118, [["99.9", "2"]], [])]
    done = convert(write(tmp_path / "a.gz", lines))
    assert (done.counts["gaps"], done.counts["dropped_after_gap"]) == (1, 1)
    assert "a.gz row 11: expected U 116, was 117" in done.notes[0]
    # a first difference that does not reach back to the snapshot is a gap as well
    late = [x for x in spot(1) if '"U": 101' not in x and '"U": 105' not in x]
    with pytest.raises(DataError, match="was none that fit: 1 snapshots, 2 differences, 1 partial books"):
        convert(write(tmp_path / "b.gz", late))


def test_the_tape_explains_every_trade_message(tmp_path: Path) -> None:
    gap = [diff(T0 + 30, 120, 125, 119, [["99.9", "1"]], []), trade(T0 + 31, 9, "99.9", "1", True)]
    done = convert(
        write(tmp_path / "a.gz", [*GOOD, trade(T0 + 26, 4, "0", "0.0125", True, X="INSURANCE_FUND"), *gap])
    )
    assert done.tape is not None
    assert _told(done) == {
        "unit": "trade messages",
        "raw": {"trades": 6, "lots": 500 + 1 + 750 + 12 + 1000},
        "imported": {"trades": 2, "lots": 751},
        "missing": {
            "not of the book (X is not MARKET)": {"trades": 2, "lots": 12},
            "before the book": {"trades": 1, "lots": 500},
            "after a gap": {"trades": 1, "lots": 1000},
        },
    }


def test_brief_crossings_are_counted(tmp_path: Path) -> None:
    lines = [
        *GOOD,
        diff(T0 + 30, 111, 112, 110, [["100.1", "1"]], []),
        diff(T0 + 40, 113, 114, 112, [["100.2", "1"]], []),
        diff(T0 + 50, 115, 116, 114, [["100.1", "0"], ["100.2", "0"]], []),
    ]
    done = convert(write(tmp_path / "a.gz", lines))
    assert (done.checks["crossed_books"], done.checks["locked_books"]) == (1, 1)


def test_symbols(tmp_path: Path) -> None:
    lines = [
        *GOOD,
        line(T0 + 30, {"e": "trade", "E": 1, "T": 1, "s": "ETHUSDT", "t": 1, "p": "1", "q": "1", "m": True}),
    ]
    path = write(tmp_path / "a.gz", lines)
    with pytest.raises(DataError, match="row 12, field 's': expected one symbol, was ETHUSDT after BTCUSDT"):
        convert(path)
    assert convert(path, symbol="BTCUSDT").counts["dropped_other_symbol"] == 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            diff(T0 + 30, 111, 112, 110, [["100.05", "1"]], []),
            "row 12, field 'price': expected a multiple of 0.1",
        ),
        (
            diff(T0 + 30, 111, 112, 110, [["nan", "1"]], []),
            "row 12, field 'price': expected a finite decimal",
        ),
        (
            diff(T0 + 30, 111, 112, 110, [["99.9", "0.0001"]], []),
            "row 12, field 'quantity': expected a multiple of 0.001, .*: --lot-size 0.0001",
        ),
        (
            diff(T0 + 30, 111, 112, 110, [["99.9", "-1"]], []),
            "row 12, field 'quantity': expected a quantity >= 0",
        ),
        (
            diff(T0 + 30, 111, 112, 110, [["1e300", "1"]], []),
            "row 12, field 'price': expected a number below",
        ),
        (
            trade(T0 + 30, 5, "100.0", "1", True, T=17),
            "row 12: expected a JSON message: expected a time in ms",
        ),
        (diff(T0 + 30, 111, 112, 110, [], [["100.1", "0"], ["100.5", "0"]]), "row 12, .*empty side"),
        (
            diff(T0 + 15, 111, 112, 110, [["99.9", "1"]], []),
            "row 12, field 'T': expected exchange time not before",
        ),
        (trade(T0 + 30, 5, "100.05", "1", True), "row 12, field 'p': expected a multiple of 0.1"),
        (trade(T0 + 30, 5, "100.0", "x", True), "row 12, field 'q': expected a finite decimal"),
        (
            line(T0 + 30, {"e": "depthUpdat", "s": "BTCUSDT"}),
            "row 12, field 'e': expected depthUpdate, .*'depthUpdat'",
        ),
        (line(T0 + 30, {"e": "trade", "s": "BTCUSDT"}), "row 12, field 'T': expected this key, was missing"),
        (line(T0 + 30, {"s": "BTCUSDT"}), "row 12, field 'e': expected this key"),
        (f'{T0 * 1000} {{"e": ', "row 12: expected a JSON message"),
        (f"{T0 * 1000} 7", "row 12: expected a JSON message"),
        ("17 {}", "row 12, field 'local time': expected a receive time"),
        (diff(T0 + 30, 111, 112, 110, [["99.9"]], []), "row 12: expected a JSON message"),
        # what Python would take for a number, a text or a truth
        (diff(T0 + 30, 111, 112, 110, ["91"], []), 'row 12: .*expected levels \\["price", "quantity"\\]'),
        (
            diff(T0 + 30, 111, 112, 110, [[99.9, 1]], []),
            'row 12: .*expected levels \\["price", "quantity"\\]',
        ),
        (diff(T0 + 30, 111.5, 112, 110, [["99.9", "1"]], []), "row 12: .*expected a whole number"),
        (diff(T0 + 30, 111, True, 110, [["99.9", "1"]], []), "row 12: .*expected a whole number"),
        (diff(T0 + 30, 111, 1 << 63, 110, [["99.9", "1"]], []), "row 12: .*expected a whole number"),
        (trade(T0 + 30, 5, "100.0", "1", "false"), "row 12: .*expected true or false, was 'false'"),
        (trade(T0 + 30, 5, 100.0, "1", True), "row 12: .*expected text, was 100.0"),
        (trade(T0 + 30, 5, "100.0", "1", True, T=9999999999999), "row 12: .*expected a time in ms"),
        (trade(T0 + 30, float("nan"), "100.0", "1", True), "row 12: .*NaN is no number of JSON"),
        (
            trade(T0 + 30, 5, "100.0", "1", True).replace('"q"', '"p": "1", "q"'),
            "row 12: .*the key 'p' is there twice",
        ),
        (f"{T0 * 1000} " + "[" * 100_000, "row 12: expected a JSON message, was one nested too deeply"),
    ],
)
def test_bad_lines_name_file_row_and_field(tmp_path: Path, bad: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        convert(write(tmp_path / "bad.gz", [*GOOD, bad]))
    assert "bad.gz" in str(caught.value)


def test_broken_files_and_options(tmp_path: Path) -> None:
    good = write(tmp_path / "a.gz", GOOD)
    (tmp_path / "cut.gz").write_bytes(good.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut\.gz.*expected a complete file"):
        convert(tmp_path / "cut.gz")
    with pytest.raises(DataError, match="expected a depth snapshot"):
        convert(write(tmp_path / "none.gz", GOOD[:3]))
    with pytest.raises(DataError, match="expected bids and asks in the depth snapshot"):
        convert(write(tmp_path / "one.gz", [*GOOD[:3], snapshot(T0 + 9, 100, [["100.0", "1"]], [])]))
    far = diff(T0 + 30, 111, 112, 110, [["121.0", "1"]], [["100.1", "0"], ["100.5", "0"], ["121.5", "1"]])
    with pytest.raises(DataError, match=r"a market within the band of 0\.25"):
        convert(write(tmp_path / "far.gz", [*GOOD, far]))
    assert convert(tmp_path / "far.gz", band="0.5").px_max == 1215
    with pytest.raises(ConfigError, match="option band: expected a number"):
        convert(good, band="2")
    with pytest.raises(ConfigError, match="unknown option 'depth'"):
        convert(good, depth=5)


def test_real_stretch_equals_every_best_quote_that_was_published(real_data_home: Path) -> None:
    folder = real_data_home / "binance-depth-trades" / "usdm"
    done = convert(folder / "btcusdt_20230404.dat.gz", folder / "btcusdt_20230405.dat.gz")
    counts = done.counts
    assert (counts["rows_depth"], counts["rows_book_ticker"], counts["rows_trade"]) == (
        16_110,
        44_205,
        12_935,
    )
    assert counts["gaps"] == 0
    assert done.checks["states_compared"] > 16_000
    assert done.checks["states_equal"] == done.checks["states_compared"]
    assert [s.label for s in done.segments] == ["2023-04-04"]
    assert done.recv_ts is not None
    assert int((done.recv_ts - done.events["ts"]).min()) == 0
    # trades and lots, recounted without our reader
    raw = []
    for name in ("btcusdt_20230404.dat.gz", "btcusdt_20230405.dat.gz"):
        with gzip.open(folder / name, "rt") as fh:
            raw += [json.loads(x.split(" ", 1)[1])["data"] for x in fh if '"e":"trade"' in x]
    assert done.tape is not None
    prints = done.events[done.events["kind"] == EventKind.TRADE]
    told = _told(done)
    on_book = [t for t in raw if t["X"] == "MARKET"]
    assert told["raw"]["trades"] == len(raw) == 12_935
    assert told["raw"]["lots"] == sum(int(Decimal(t["q"]) * 1000) for t in raw)
    assert told["missing"]["not of the book (X is not MARKET)"]["trades"] == len(raw) - len(on_book)
    first = int(done.events["ts"][0]) // 10**6
    late = [t for t in on_book if t["T"] >= first]
    assert told["imported"]["trades"] == len(late)
    assert told["imported"]["lots"] == sum(int(Decimal(t["q"]) * 1000) for t in late)
    assert len(prints) == len(late)
