"""NASDAQ ITCH 5.0: every message that changes the book, blocks, days, and what is wrong with a file."""

from __future__ import annotations

import gzip
import struct
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
from mmsim.data.formats import itch
from mmsim.data.formats._itch_scan import LENGTHS
from mmsim.errors import ConfigError, DataError
from mmsim.sessions import midnight_ns
from mmsim.testing.markets import tiny_market
from mmsim.types import EventFlag, EventKind, Instrument

STOCK = Instrument("AAPL", Decimal("0.01"), timezone="America/New_York")
OPEN = 34_200 * 10**9
DAY = midnight_ns("20200130", "America/New_York")
Tell = Callable[[np.ndarray], list[Any]]


def msg(letter: str, at: int, body: bytes, locate: int = 7) -> bytes:
    """Return one message with its length in front, `at` ns after the open."""
    out = letter.encode() + struct.pack(">HH", locate, 0) + (OPEN + at).to_bytes(6, "big") + body
    out = out.ljust(LENGTHS[letter], b" ")
    assert len(out) == LENGTHS[letter]
    return struct.pack(">H", len(out)) + out


def directory(name: str = "AAPL", locate: int = 7) -> bytes:
    return msg("R", -OPEN + 1000, name.ljust(8).encode(), locate)


def add(at: int, ref: int, side: str, qty: int, px: int, letter: str = "A", locate: int = 7) -> bytes:
    return msg(letter, at, struct.pack(">QcI8sI", ref, side.encode(), qty, b"AAPL    ", px), locate)


def executed(at: int, ref: int, qty: int) -> bytes:
    return msg("E", at, struct.pack(">QIQ", ref, qty, at))


def at_price(at: int, ref: int, qty: int, px: int, printable: str = "Y") -> bytes:
    return msg("C", at, struct.pack(">QIQcI", ref, qty, at, printable.encode(), px))


def cancel(at: int, ref: int, qty: int) -> bytes:
    return msg("X", at, struct.pack(">QI", ref, qty))


def delete(at: int, ref: int) -> bytes:
    return msg("D", at, struct.pack(">Q", ref))


def replace(at: int, ref: int, new: int, qty: int, px: int) -> bytes:
    return msg("U", at, struct.pack(">QQII", ref, new, qty, px))


def hidden(at: int, side: str, qty: int, px: int) -> bytes:
    return msg("P", at, struct.pack(">QcI8sIQ", 0, side.encode(), qty, b"AAPL    ", px, at))


def cross(at: int, qty: int, px: int) -> bytes:
    return msg("Q", at, struct.pack(">Q8sIQc", qty, b"AAPL    ", px, at, b"O"))


START = [msg("S", -OPEN, b"O", 0), directory("MSFT", 3), directory()]
GOOD = [
    *START,
    add(0, 1, "B", 300, 1_000_000),
    add(1, 2, "S", 200, 1_000_200, "F"),
    add(1, 1, "S", 999, 1, locate=3),  # another stock
    add(2, 3, "S", 100, 1_000_200),
    executed(3, 2, 150),
    cancel(4, 1, 100),
    at_price(5, 2, 20, 1_000_150),  # at a better price than the order's, between two ticks
    at_price(6, 2, 10, 1_000_200),  # at its own
    at_price(7, 2, 10, 1_000_200, "N"),  # counted elsewhere
    at_price(8, 2, 10, 1_000_200),
    replace(9, 1, 11, 50, 999_900),
    delete(10, 3),
    hidden(11, "B", 7, 999_900),
    cross(12, 5000, 1_000_100),
    cross(13, 0, 0),
    msg("B", 14, struct.pack(">Q", 3)),
    msg("S", 15, b"C", 0),
]


def write(path: Path, messages: list[bytes], tail: bytes = b"\0\0") -> Path:
    content = b"".join(messages) + tail
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def convert(*paths: Path, instrument: Instrument = STOCK, **options: object) -> Conversion:
    return itch.convert(list(paths), instrument, options, no_progress).finish()


def recount(path: Path, stock: str) -> tuple[Counter[str], int, int]:
    """Count a stock's messages by letter, and the trades and lots that they tell, from the raw bytes."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found: Counter[str] = Counter()
    locate, trades, lots, at = -1, 0, 0, 0
    where = {"E": (19, ">I"), "C": (19, ">I"), "P": (20, ">I"), "Q": (11, ">Q")}
    while at + 2 < len(content):
        (size,) = struct.unpack_from(">H", content, at)
        letter, (here,) = chr(content[at + 2]), struct.unpack_from(">H", content, at + 3)
        if letter == "R" and content[at + 13 : at + 21].decode().strip() == stock:
            locate = here
        if here == locate and letter in "AFECXDUPQB":
            found[letter] += 1
            if letter in where:
                offset, code = where[letter]
                trades += 1
                lots += struct.unpack_from(code, content, at + 2 + offset)[0]
        at += 2 + size
    return found, trades, lots


NAMES = {
    "A": "add", "F": "add_attributed", "E": "execute", "C": "execute_at_price", "X": "cancel", "D": "delete",
    "U": "replace", "P": "hidden_trade", "Q": "cross", "B": "broken_trade",
}  # fmt: skip


def plain(done: Conversion) -> list[tuple[Any, ...]]:
    return [
        (
            *(int(e["ts"]) - DAY - OPEN, EventKind(int(e["kind"])).name, int(e["side"])),
            *(int(e["px"]), int(e["qty"]), int(e["flags"])),
        )
        for e in done.events
    ]


def test_every_message(tmp_path: Path, balance: Any) -> None:
    path = write(tmp_path / "01302020.NASDAQ_ITCH50.gz", GOOD)
    done = convert(path, symbol="aapl")
    assert plain(done) == [
        (0, "ADD", 1, 10_000, 300, 1),
        (1, "ADD", -1, 10_002, 200, 1),
        (2, "ADD", -1, 10_002, 100, 1),
        (3, "EXECUTE", -1, 10_002, 150, 1),
        (4, "REDUCE", 1, 10_000, 100, 1),
        (5, "TRADE", 1, 10_001, 20, 0),  # a buyer at 100.015: rounded toward him
        (5, "REDUCE", -1, 10_002, 20, 1),
        (6, "EXECUTE", -1, 10_002, 10, 1),
        (7, "REDUCE", -1, 10_002, 10, 1),
        (8, "EXECUTE", -1, 10_002, 10, 1),
        (9, "DELETE", 1, 10_000, 200, 0),
        (9, "ADD", 1, 9_999, 50, 1),
        (10, "DELETE", -1, 10_002, 100, 1),
        (11, "TRADE", 0, 9_999, 7, 1),
        (12, "TRADE", 0, 10_001, 5000, 1 | int(EventFlag.AUCTION)),
    ]
    assert [s.label for s in done.segments] == ["20200130"]
    counts = done.counts
    assert (counts["rows_read"], counts["messages_of_the_stock"]) == (20, 15)
    assert (counts["executions_at_another_price"], counts["prints_off_tick"]) == (1, 1)
    assert counts["dropped_empty_crosses"] == 1
    letters, trades, lots = recount(path, "AAPL")
    assert done.messages == {name: letters[letter] for letter, name in NAMES.items()}
    assert (trades, lots) == (8, 150 + 20 + 10 + 10 + 10 + 7 + 5000)
    assert balance(done) == (
        (trades, lots),
        (trades - 2, lots - 10),
        {"executions that are part of a cross": (1, 10), "crosses without shares or price": (1, 0)},
    )
    assert done.notes == ["20200130: 1 trades were broken later; they were seen when they printed, and stay"]
    assert done.checks["crossed_books"] == 0
    assert done.n_slots == 3


def test_blocks_cut_anywhere_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "20200130.itch", GOOD, tail=b"")
    whole = convert(path, symbol="AAPL")
    for size in (64, 65, 127, 1000):
        monkeypatch.setattr(itch, "_BLOCK", size)
        assert convert(path, symbol="AAPL").events.tobytes() == whole.events.tobytes()


@pytest.mark.parametrize(
    ("px", "want"),
    [
        (1_000_050, (-1, 10_001)),  # below the mid of 100.01: a seller hit a hidden bid, rounded up
        (1_000_150, (1, 10_001)),  # above: a buyer, rounded down
        (1_000_100, (0, 10_001)),  # on a tick: not told
    ],
)
def test_the_side_of_a_hidden_print_between_ticks(tmp_path: Path, px: int, want: tuple[int, int]) -> None:
    messages = [*START, add(0, 1, "B", 5, 1_000_000), add(0, 2, "S", 5, 1_000_200), hidden(1, "B", 3, px)]
    done = convert(write(tmp_path / "S013020-v50.txt", messages), symbol="AAPL")
    assert (int(done.events["side"][-1]), int(done.events["px"][-1])) == want


def test_at_the_mid_the_last_aggressor_counts_and_old_files_tell_the_side(tmp_path: Path) -> None:
    messages = [
        *(*START, add(0, 1, "B", 5, 1_000_000), add(0, 2, "S", 5, 1_000_100)),
        *(hidden(1, "B", 1, 1_000_050), executed(2, 1, 1), hidden(3, "B", 1, 1_000_050)),
        *(executed(4, 2, 1), hidden(5, "B", 1, 1_000_050)),
    ]
    done = convert(write(tmp_path / "20200130.itch", messages), symbol="AAPL")
    trades = done.events[done.events["kind"] == EventKind.TRADE]
    assert trades["side"].tolist() == [1, -1, 1]
    assert trades["px"].tolist() == [10_000, 10_001, 10_000]  # never a price at which a quote of ours rests
    old = convert(write(tmp_path / "20140711.itch", messages), symbol="AAPL")
    trades = old.events[old.events["kind"] == EventKind.TRADE]
    assert (trades["side"].tolist(), trades["px"].tolist()) == ([-1] * 3, [10_001] * 3)


def test_days_and_symbols(tmp_path: Path) -> None:
    one = write(tmp_path / "01302020.NASDAQ_ITCH50", GOOD)
    two = write(tmp_path / "01312020.NASDAQ_ITCH50", GOOD)
    done = convert(two, one, symbol="AAPL")
    assert [s.label for s in done.segments] == ["20200130", "20200131"]
    with pytest.raises(ConfigError, match=r"expected one stock, was 2: choose .*\(AAPL, MSFT\)"):
        convert(one)
    with pytest.raises(
        DataError, match=r"expected stock 'APPL' in the directory, was none \(did you mean 'AAPL'\?\)"
    ):
        convert(one, symbol="APPL")
    single = write(tmp_path / "x.itch", [START[0], directory(), *GOOD[3:5]])
    with pytest.raises(DataError, match="expected the trading day in the file name"):
        convert(single)
    assert len(convert(single, date="2020-01-30").events) == 2


@pytest.mark.parametrize(
    ("messages", "tail", "said"),
    [
        ([*GOOD[:4], GOOD[4][:-3]], b"", r"row 5: expected whole messages, was 39 bytes"),
        (GOOD, b"\0\0more", r"row 21: expected nothing after the end of session"),
        ([b"PK\3\4...."], b"", r"row 1: expected ITCH 5.0 messages.*was b'PK"),
        ([*START, b"\0\3zzz"], b"", r"row 4, field 'message type': expected a message type of S, R.*was 'z'"),
        (
            [*START, b"\0\2DD"],
            b"",
            r"row 4, field 'message type': expected 19 bytes of message type 'D', was 2",
        ),
        (
            [*START, add(5, 1, "B", 1, 100), add(4, 2, "B", 1, 100)],
            b"",
            r"row 5, field 'timestamp': expected time",
        ),
        ([*START, add(5, 1, "Z", 1, 100)], b"", r"row 4, field 'buy/sell indicator'"),
        ([*START, add(0, 1, "B", 1, 1_000_050)], b"", r"row 4, field 'price': expected a multiple of 100"),
        (
            [*START, add(0, 1, "B", 1, 100), executed(1, 9, 1)],
            b"",
            r"row 5, field 'order_id': expected the id",
        ),
        ([*START, add(0, 1, "B", 1, 100), executed(1, 1, 2)], b"", r"row 5, field 'qty': expected at most"),
        ([*START, add(0, 1, "B", 1, 100), add(1, 1, "B", 1, 100)], b"", r"row 5.*expected a new order id"),
        (START, b"", "expected messages of AAPL, was none"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, messages: list[bytes], tail: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        convert(write(tmp_path / "20200130.itch", messages, tail), symbol="AAPL")


def test_a_cut_gzip(tmp_path: Path) -> None:
    path = write(tmp_path / "20200130.gz", GOOD)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="expected a complete file"):
        convert(path, symbol="AAPL")


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), spread=st.integers(1, 4))
def test_a_market_gives_the_same_book(
    story: Tell, tmp_path_factory: pytest.TempPathFactory, seed: int, spread: int
) -> None:
    market = tiny_market(seed, seconds=4, spread_ticks=spread)
    events = market.events[: market.segments[0].stop]
    out, refs, left = [START[0], directory()], {}, {}
    for number, e in enumerate(events):
        kind, side, px, qty, oid = (int(e[n]) for n in ("kind", "side", "px", "qty", "oid"))
        if kind == EventKind.ADD:
            refs[oid], left[oid] = 10_000 + number, qty
            out.append(add(number, refs[oid], "B" if side > 0 else "S", qty, px * 100))
        elif kind == EventKind.EXECUTE:
            out.append(executed(number, refs[oid], qty))
        elif kind == EventKind.REDUCE:
            out.append(cancel(number, refs[oid], qty))
        else:
            out.append(delete(number, refs[oid]))
    path = write(tmp_path_factory.mktemp("itch") / "20200130.itch", out)
    done = convert(path)
    # ITCH has a message an order: close every row of the market, too
    closed = events.copy()
    closed["flags"] |= np.uint16(EventFlag.LAST)
    closed["ts"] = DAY + OPEN + np.arange(len(closed))
    assert story(done.events) == story(closed)
