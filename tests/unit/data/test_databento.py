"""Databento DBN: MBO and MBP records encoded by Databento's own package, and what is wrong with a file."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.formats import databento
from mmsim.errors import ConfigError, DataError
from mmsim.testing.markets import tiny_market
from mmsim.types import EventKind, Instrument

dbn = pytest.importorskip("databento_dbn")

ES = Instrument("ES", Decimal("0.25"), timezone="UTC")
T0 = 1_700_000_000_000_000_000
LAST, SNAP = 128, 32
UNDEF = 2**63 - 1
Tell = Callable[[np.ndarray], list[Any]]


@dataclass
class Interval:
    start_date: dt.date
    end_date: dt.date
    symbol: str


@dataclass
class Mapping:
    raw_symbol: str
    intervals: list[Interval]


def metadata(schema: Any, names: dict[str, int] | None = None) -> bytes:
    day = dt.date(2023, 11, 14)
    return bytes(
        dbn.Metadata(
            dataset="GLBX.MDP3",
            start=T0,
            stype_in=dbn.SType.RAW_SYMBOL,
            stype_out=dbn.SType.INSTRUMENT_ID,
            schema=schema,
            symbols=list(names or {"ESZ3": 42}),
            mappings=[
                Mapping(name, [Interval(day, day + dt.timedelta(days=1), str(number))])
                for name, number in (names or {"ESZ3": 42}).items()
            ],
        )
    )


def mbo(
    at: int, action: str, side: str, order: int, px: float | None, qty: int, flags: int = LAST, *,
    recv: int | None = None, number: int = 42,
) -> bytes:  # fmt: skip
    """Return one record; times in ns after T0, `px` in points (None: undefined)."""
    return bytes(
        dbn.MBOMsg(
            publisher_id=1, instrument_id=number, ts_event=T0 + at, order_id=order,
            price=UNDEF if px is None else round(px * 10**9), size=qty, action=dbn.Action.from_str(action),
            side=dbn.Side.from_str(side), ts_recv=T0 + (at + 100 if recv is None else recv), flags=flags,
        )
    )  # fmt: skip


def mbp(
    at: int, action: str, side: str, px: float, qty: int, levels: list[tuple[Any, ...]], flags: int = LAST
) -> bytes:
    """Return one MBP-10 record (MBP-1 if one level is given)."""
    pairs = [
        dbn.BidAskPair(
            bid_px=UNDEF if b is None else round(b * 10**9), bid_sz=n,
            ask_px=UNDEF if a is None else round(a * 10**9), ask_sz=m,
        )
        for b, n, a, m in levels
    ]  # fmt: skip
    common = {
        "publisher_id": 1, "instrument_id": 42, "ts_event": T0 + at, "price": round(px * 10**9), "size": qty,
        "action": dbn.Action.from_str(action), "side": dbn.Side.from_str(side), "depth": 0,
        "ts_recv": T0 + at + 100, "flags": flags,
    }  # fmt: skip
    if len(pairs) == 1:
        return bytes(dbn.MBP1Msg(**common, levels=pairs[0]))
    empty = dbn.BidAskPair(bid_px=UNDEF, ask_px=UNDEF, bid_sz=0, ask_sz=0)
    return bytes(dbn.MBP10Msg(**common, levels=(pairs + [empty] * 10)[:10]))


def write(path: Path, records: list[bytes], schema: Any = None, names: dict[str, int] | None = None) -> Path:
    content = metadata(schema or dbn.Schema.MBO, names) + b"".join(records)
    path.write_bytes(zstandard.ZstdCompressor().compress(content) if path.suffix == ".zst" else content)
    return path


def convert(*paths: Path, instrument: Instrument = ES, **options: object) -> Conversion:
    return databento.convert(list(paths), instrument, options, no_progress).finish()


NAMES = {"A": "add", "C": "cancel", "M": "modify", "R": "clear", "T": "trade", "F": "fill", "N": "none"}


def recount(path: Path, number: int = 42) -> tuple[dict[str, int], tuple[int, int]]:
    """Count records by action, and the trade records and their lots, as Databento's own package reads the file."""
    content = path.read_bytes()
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    decoder = dbn.DBNDecoder()
    decoder.write(content)
    found, trades, lots = dict.fromkeys(NAMES.values(), 0), 0, 0
    for record in decoder.decode():
        if not hasattr(record, "action") or record.instrument_id != number:
            continue
        found[NAMES[str(record.action)]] += 1
        if str(record.action) == "T":
            trades, lots = trades + 1, lots + record.size
    return found, (trades, lots)


def plain(done: Conversion) -> list[tuple[Any, ...]]:
    return [
        (
            *(int(e["ts"]) - T0, EventKind(int(e["kind"])).name, int(e["side"])),
            *(int(e["px"]), int(e["qty"]), int(e["flags"])),
        )
        for e in done.events
    ]


GOOD = [
    mbo(-900, "R", "N", 0, None, 0, SNAP | 8, recv=0),
    mbo(-500, "A", "B", 1, 4500.0, 5, SNAP | 8, recv=0),  # sent long before the snapshot was taken
    mbo(-700, "A", "A", 2, 4500.25, 4, SNAP | 8, recv=0),
    mbo(-600, "A", "A", 3, 4500.25, 3, SNAP | 8 | LAST, recv=0),
    # one event: a buyer of 7 fills 2, a part of 3, and one lot of nobody's
    mbo(10, "T", "B", 0, 4500.25, 6, 0),
    mbo(10, "F", "A", 2, 4500.25, 4, 0),
    mbo(10, "F", "A", 3, 4500.25, 1, 0),
    mbo(10, "C", "A", 2, 4500.25, 4, 0),
    mbo(10, "M", "A", 3, 4500.25, 2),
    mbo(20, "C", "B", 1, 4500.0, 2),  # a partial cancel
    mbo(30, "M", "B", 1, 4500.0, 9),  # larger: to the back
    mbo(40, "M", "A", 3, 4500.5, 2),  # another price
    mbo(50, "M", "A", 77, 4500.75, 1),  # unknown: as the feed's documentation says, a new one
    mbo(60, "C", "A", 78, 4500.75, 1),  # unknown: left out
    mbo(70, "F", "A", 3, 4500.5, 1),  # a fill that changes no book
    mbo(80, "N", "N", 0, None, 0),
    mbo(90, "R", "N", 0, None, 0),
]


@pytest.mark.parametrize("name", ["a.dbn", "a.dbn.zst"])
def test_orders(tmp_path: Path, balance: Any, name: str) -> None:
    path = write(tmp_path / name, GOOD)
    done = convert(path)
    assert databento.level_of([path]) == done.level == "L3"
    assert plain(done) == [
        (0, "CLEAR", 0, 0, 0, 2),
        (0, "ADD", 1, 18000, 5, 2),
        (0, "ADD", -1, 18001, 4, 2),
        (0, "ADD", -1, 18001, 3, 3),
        (10, "EXECUTE", -1, 18001, 4, 0),
        (10, "EXECUTE", -1, 18001, 1, 0),
        (10, "TRADE", 1, 18001, 1, 1),  # behind what is displayed, as hidden lots are
        (20, "REDUCE", 1, 18000, 2, 1),
        (30, "DELETE", 1, 18000, 3, 0),
        (30, "ADD", 1, 18000, 9, 1),
        (40, "DELETE", -1, 18001, 2, 0),
        (40, "ADD", -1, 18002, 2, 1),
        (50, "ADD", -1, 18003, 1, 1),
        (70, "TRADE", 1, 18002, 1, 1),
        (90, "CLEAR", 0, 0, 0, 1),
    ]
    assert done.recv_ts is not None
    assert (done.recv_ts - done.events["ts"])[:4].tolist() == [0] * 4
    assert (done.recv_ts - done.events["ts"])[4:].tolist() == [100] * 11
    counts = done.counts
    assert counts["rows_read"] == 17
    by_kind, printed = recount(path)
    assert done.messages == by_kind
    assert printed == (1, 6)
    assert balance(done) == (printed, (2, 7), {"fills without a trade record": (-1, -1)})
    assert (counts["prints_beyond_executions"], counts["fills_without_book_change"]) == (2, 1)
    assert (counts["modified_as_new"], counts["messages_of_unknown_orders"]) == (1, 1)
    assert done.checks["crossed_books"] == 0


def test_symbols_other_records_and_output_times(tmp_path: Path, balance: Any) -> None:
    other = mbo(15, "T", "B", 1, 7.0, 1, number=43)  # (another contract's trade, too, is nobody's here)
    system = bytes(dbn.SystemMsg(T0, "heartbeat"))
    path = write(tmp_path / "a.dbn", [*GOOD[:4], other, system, *GOOD[4:]], names={"ESZ3": 42, "NQZ3": 43})
    with pytest.raises(ConfigError, match=r"expected one instrument, was 2: choose .*\(ESZ3, NQZ3\)"):
        convert(path)
    done = convert(path, symbol="ESZ3")
    by_kind, printed = recount(path)
    assert done.messages == by_kind
    assert balance(done)[0] == printed == (1, 6)
    assert plain(done) == plain(convert(write(tmp_path / "b.dbn", GOOD)))
    assert plain(convert(path, symbol="42")) == plain(done)
    assert (done.counts["dropped_other_records"], done.counts["dropped_other_symbols"]) == (1, 1)
    with pytest.raises(DataError, match=r"symbol 'ESZ4', was none \(did you mean 'ESZ3'\?\)"):
        convert(path, symbol="ESZ4")


def test_days_are_segments_and_times_may_be_held(tmp_path: Path) -> None:
    one = write(tmp_path / "b.dbn", GOOD)
    day = 86_400 * 10**9
    two = write(tmp_path / "a.dbn", [mbo(day, "A", "B", 1, 4500.0, 5), mbo(day + 5, "A", "A", 2, 4501.0, 5)])
    assert [(s.label, s.stop - s.start) for s in convert(two, one).segments] == [
        ("2023-11-14", 15),
        ("2023-11-15", 2),
    ]
    late = write(tmp_path / "c.dbn", [*GOOD[:10], mbo(15, "A", "B", 9, 4499.0, 1)])
    with pytest.raises(
        DataError, match=r"row 11, field 'ts_event': expected exchange time not before .*=hold"
    ):
        convert(late)
    held = convert(late, backwards="hold")
    assert int(held.events["ts"][-1]) - T0 == 20
    assert held.counts["times_held"] == 1


BOOK = [(4500.0, 5, 4500.25, 4), (4499.75, 6, 4500.5, 7)]


def test_levels(tmp_path: Path, balance: Any) -> None:
    path = write(
        tmp_path / "a.dbn.zst",
        [
            mbp(0, "A", "B", 4500.0, 5, BOOK),
            mbp(10, "T", "B", 4500.25, 1, BOOK, 0),  # the print shows the book before it
            mbp(10, "C", "A", 4500.25, 1, [(4500.0, 5, 4500.25, 3), BOOK[1]]),
            mbp(20, "C", "A", 4500.25, 3, [(4500.0, 5, 4500.5, 7), (4499.75, 6, None, 0)]),
        ],
        dbn.Schema.MBP_10,
    )
    done = convert(path)
    assert (done.level, done.view_depth) == ("L2", 10)
    by_kind, printed = recount(path)
    assert done.messages == by_kind
    assert balance(done) == (printed, printed, {}) == ((1, 1), (1, 1), {})
    assert databento.level_of([path]) == "L2"
    assert plain(done) == [
        (0, "LEVEL", 1, 18000, 5, 2),
        (0, "LEVEL", 1, 17999, 6, 2),
        (0, "LEVEL", -1, 18001, 4, 2),
        (0, "LEVEL", -1, 18002, 7, 3),
        (10, "TRADE", 1, 18001, 1, 0),
        (10, "LEVEL", -1, 18001, 3, 3),
        (20, "LEVEL", -1, 18001, 0, 3),
    ]
    assert done.recv_ts is not None
    assert (done.recv_ts - done.events["ts"] == 100).all()


def test_best_quotes_only(tmp_path: Path) -> None:
    records = [mbp(0, "A", "B", 4500.0, 5, BOOK[:1]), mbp(9, "A", "B", 4500.0, 5, [(4499.75, 9, 4500.25, 4)])]
    done = convert(write(tmp_path / "a.dbn", records, dbn.Schema.MBP_1))
    assert (done.level, done.view_depth) == ("L2", 1)
    # the bid was seen to go: empty; the ask is as it was
    assert plain(done)[2:] == [(9, "LEVEL", 1, 18000, 0, 2), (9, "LEVEL", 1, 17999, 9, 3)]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (
            [*GOOD[:4], GOOD[4][:30]],
            r"row 5: expected a whole mbo record at byte \d+, was a cut or broken one",
        ),
        ([mbo(0, "A", "B", 1, 4500.1, 5)], r"row 1, field 'price': expected a multiple of 250000000"),
        ([mbo(0, "A", "B", 1, None, 5)], r"row 1, field 'price': expected a price, was undefined"),
        ([mbo(0, "A", "N", 1, 4500.0, 5)], r"row 1, field 'side': expected a side of the new order"),
        ([mbo(0, "A", "B", 1, 4500.0, 5), mbo(0, "A", "B", 1, 4500.0, 5)], r"row 2.*expected a new order id"),
        ([mbo(0, "A", "B", 1, 4500.0, 0)], r"row 1, field 'qty': expected a quantity above 0"),
        ([mbo(0, "T", "B", 1, 4500.0, 1)], "nothing is added to the book"),
        ([], "expected mbo records, was none"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, records: list[bytes], said: str) -> None:
    with pytest.raises(DataError, match=said):
        convert(write(tmp_path / "a.dbn", records))


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.dbn.zst"
    with pytest.raises(
        DataError, match=r"expected schema mbo, mbp-10, mbp-1, was trades: prints without a book"
    ):
        convert(write(path, GOOD, dbn.Schema.TRADES))
    whole = write(path, GOOD).read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match="expected a complete file: the last zstd frame is cut"):
        convert(path)
    path.write_bytes(b"PK\3\4no such thing")
    with pytest.raises(DataError, match=r"expected a file that starts with 'DBN' .*was b'PK"):
        convert(path)
    path.write_bytes(metadata(dbn.Schema.MBO)[:40])
    with pytest.raises(DataError, match="bytes of metadata, was 32: a cut file"):
        convert(path)
    # two frames, one after the other, are one file
    path.write_bytes(whole)
    one = convert(path)
    packed = [zstandard.ZstdCompressor().compress(x) for x in (metadata(dbn.Schema.MBO), b"".join(GOOD))]
    path.write_bytes(b"".join(packed))
    assert convert(path).events.tobytes() == one.events.tobytes()
    other = write(tmp_path / "b.dbn", [mbp(0, "A", "B", 1.0, 1, BOOK)], dbn.Schema.MBP_10)
    with pytest.raises(DataError, match="expected files of one schema, was mbo and mbp-10"):
        convert(path, other)
    with pytest.raises(DataError, match="expected files of one schema"):
        databento.level_of([path, other])
    monkeypatch.setitem(sys.modules, "databento_dbn", None)
    with pytest.raises(
        ConfigError, match=r"needs the package databento-dbn: pip install 'mmsim\[databento\]'"
    ):
        convert(path)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            *(st.sampled_from("ACMTFFTCRN"), st.sampled_from("BAN"), st.integers(1, 5)),
            *(st.integers(1, 3), st.integers(0, 4), st.booleans(), st.integers(0, 1)),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_records_in_any_order_lose_and_invent_no_trade(
    tmp_path_factory: pytest.TempPathFactory, balance: Any, records: list[tuple[Any, ...]]
) -> None:
    at, out = 0, [mbo(0, "A", "B", 9, 1.0, 1)]
    for k, (action, side, back, px, qty, last, step) in enumerate(records, 10):
        at += step
        if action == "A":  # a new order; the others name one of the last few, or none
            out.append(mbo(at, "A", "A" if side == "A" else "B", k, px, qty + 1, LAST * last))
        else:
            out.append(mbo(at, action, side, k - back, px, qty, LAST * last))
    done = convert(write(tmp_path_factory.mktemp("dbn") / "a.dbn", out))
    raw, got, reasons = balance(done)
    assert raw == (sum(r[0] == "T" for r in records), sum(r[4] for r in records if r[0] == "T"))
    fills = (sum(r[0] == "F" for r in records), sum(r[4] for r in records if r[0] == "F"))
    more = reasons.get("fills without a trade record", (0, 0))
    assert 0 <= -more[0] <= fills[0]
    assert 0 <= -more[1] <= fills[1]
    assert set(reasons) <= {"fills without a trade record", "trade records without a quantity"}
    assert got[1] == raw[1] - more[1]


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), spread=st.integers(1, 4))
def test_a_market_gives_the_same_book(
    story: Tell, tmp_path_factory: pytest.TempPathFactory, seed: int, spread: int
) -> None:
    market = tiny_market(seed, seconds=4, spread_ticks=spread)
    events = market.events[: market.segments[0].stop]
    side_of, out = {1: "B", -1: "A", 0: "N"}, []
    live: dict[int, list[int]] = {}
    for number, e in enumerate(events):
        kind, side, px, qty, oid = (int(e[n]) for n in ("kind", "side", "px", "qty", "oid"))
        at, last = int(e["ts"]) - T0, LAST * (int(e["flags"]) & 1)
        if kind == EventKind.ADD:
            live[oid] = [10_000 + number, qty]
            out.append(mbo(at, "A", side_of[side], live[oid][0], px / 100, qty, last))
            continue
        order, have = live[oid]
        live[oid][1] = left = have - qty
        if kind == EventKind.EXECUTE:
            out.append(mbo(at, "T", side_of[-side], 0, px / 100, qty, 0))
            out.append(mbo(at, "F", side_of[side], order, px / 100, qty, 0))
        # venues differ: a part that is gone is a cancel of it, or a change to what is left
        if left and number % 2:
            out.append(mbo(at, "M", side_of[side], order, px / 100, left, last))
        else:
            out.append(mbo(at, "C", side_of[side], order, px / 100, qty, last))
    path = write(tmp_path_factory.mktemp("dbn") / "a.dbn.zst", out)
    done = convert(path, instrument=market.instrument)
    assert story(done.events) == story(events)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), spread=st.integers(1, 4))
def test_the_best_ten_levels_of_a_market_are_shown(
    story: Tell, tmp_path_factory: pytest.TempPathFactory, seed: int, spread: int
) -> None:
    market = tiny_market(seed, level="L2", seconds=4, spread_ticks=spread)
    told = story(market.events[: market.segments[0].stop])
    out: list[bytes] = []
    before: list[tuple[Any, ...]] = [(None, 0, None, 0)] * 10
    want = []
    for ts, levels, trades in told:
        bids = sorted(((p, q) for (s, p), q in levels.items() if s > 0), reverse=True)[:10]
        asks = sorted((p, q) for (s, p), q in levels.items() if s < 0)[:10]
        pairs = [
            (
                *((bids[k][0] / 100, bids[k][1]) if k < len(bids) else (None, 0)),
                *((asks[k][0] / 100, asks[k][1]) if k < len(asks) else (None, 0)),
            )
            for k in range(10)
        ]
        for aggressor, px, qty in trades:
            out.append(mbp(ts - T0, "T", "B" if aggressor > 0 else "A", px / 100, qty, before, 0))
        out.append(mbp(ts - T0, "M", "N", 1.0, 0, pairs))
        before = pairs
        want.append((ts, {(1, p): q for p, q in bids} | {(-1, p): q for p, q in asks}, trades))
    path = write(tmp_path_factory.mktemp("dbn") / "a.dbn", out, dbn.Schema.MBP_10)
    done = convert(path, instrument=market.instrument)
    assert story(done.events) == want
