"""Trades of Databento MBO: every lot of a trade record once, at its price, and nothing that never printed.

The streams come from a small exchange of the test's own, which matches orders, icebergs, orders that are modified
so that they cross, and an opening auction, and writes what it does as CME's feed is written. What is expected of
the import is counted from those records with ``struct``, and the books are the exchange's.
"""

from __future__ import annotations

import random
import struct
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.formats import databento
from mmsim.errors import DataError
from mmsim.types import EventFlag, EventKind, Instrument

dbn = pytest.importorskip("databento_dbn")

TICK = Instrument("X", Decimal(1), timezone="UTC")
T0 = 1_700_000_000_000_000_000
LAST = 128
Record = tuple[str, str, int, int, int]  # action, side, price, size, order id
Tell = Callable[[Any], list[Any]]


def write(path: Path, events: list[list[Record]], *, last: Callable[[int], bool] = lambda k: True) -> Path:
    """Write events a millisecond apart; `last(k)` tells whether event `k` ends with F_LAST."""
    head = dbn.Metadata(
        dataset="GLBX.MDP3", start=T0, stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.MBO, symbols=["X"],
    )  # fmt: skip
    out = [bytes(head)]
    for k, event in enumerate(events):
        for j, (action, side, px, qty, order) in enumerate(event):
            ts, flags = T0 + k * 10**6, LAST * (j == len(event) - 1 and last(k))
            out.append(
                struct.pack(
                    "<BBHIQQqIBBccQiI", 14, 160, 1, 1, ts, order, px * 10**9, qty, flags, 0, action.encode(),
                    side.encode(), ts + 50, 0, k,
                )
            )  # fmt: skip
    path.write_bytes(b"".join(out))
    return path


def convert(path: Path) -> Conversion:
    return databento.convert([path], TICK, {}, no_progress)


def rows(done: Conversion, event: int) -> list[tuple[str, int, int, int, bool]]:
    """Return (kind, side, px, qty, of an auction) of one event."""
    return [
        (EventKind(int(e["kind"])).name, int(e["side"]), int(e["px"]), int(e["qty"]), bool(e["flags"] & 16))
        for e in done.events[done.events["ts"] == T0 + event * 10**6]
    ]


def account(done: Conversion) -> tuple[tuple[int, int], tuple[int, int], dict[str, Any]]:
    """Return (trades, lots) of the raw file and of the import, and what is explained."""
    assert done.tape is not None
    report = done.tape.report(done.events)
    pairs = [(report[k]["trades"], report[k]["lots"]) for k in ("raw", "imported")]
    return pairs[0], pairs[1], report["missing"]


def test_an_order_modified_to_cross_is_not_executed_where_it_rested(tmp_path: Path) -> None:
    resting = [("A", "A", 19287, 1, 7)], [("A", "B", 19238, 10, 8)]
    told = [("T", "A", 19238, 1, 7), ("F", "A", 19238, 1, 7), ("F", "B", 19238, 1, 8)]
    done = convert(
        write(tmp_path / "a.dbn", [*resting, [*told, ("M", "B", 19238, 9, 8), ("C", "A", 19287, 1, 7)]])
    )
    assert rows(done, 2) == [("EXECUTE", 1, 19238, 1, False), ("DELETE", -1, 19287, 1, False)]
    assert account(done) == ((1, 1), (1, 1), {})
    assert done.counts["fills_of_aggressors"] == 1


def test_an_iceberg_loses_no_lots(tmp_path: Path) -> None:
    small = [("A", "A", 100, 1 + k % 2, 10 + k) for k in range(14)]  # 21 lots
    fills = [("F", "A", 100, 1 + k % 2, 10 + k) for k in range(14)]
    gone = [("C", "A", 100, 1 + k % 2, 10 + k) for k in range(14)]
    for refresh, left in (
        ([("M", "A", 100, 6, 99)], 6),  # a new peak, larger than what was left: at the back
        ([("C", "A", 100, 4, 99), ("A", "A", 100, 6, 99)], 6),
        ([("A", "A", 100, 6, 99)], 6),
        ([("M", "A", 100, 4, 99)], 4),  # a peak like the one before
        ([("C", "A", 100, 25, 99)], 0),  # cancelled with the hidden lots
    ):
        done = convert(
            write(
                tmp_path / "a.dbn",
                [
                    [*small, ("A", "A", 100, 4, 99), ("A", "B", 98, 1, 5)],
                    [("T", "B", 100, 46, 0), *fills, ("F", "A", 100, 25, 99), *gone, *refresh],
                ],
            )
        )
        found = rows(done, 1)
        assert found[:15] == [("EXECUTE", -1, 100, q, False) for q in [*(1 + k % 2 for k in range(14)), 4]]
        assert [r for r in found[15:] if r[0] == "TRADE"] == [("TRADE", 1, 100, 21, False)]
        assert [r[:4] for r in found[15:] if r[0] == "ADD"] == ([("ADD", -1, 100, left)] if left else [])
        assert len(found) == 16 + (left > 0)
        assert account(done) == ((1, 46), (1, 46), {})
        assert done.counts["fills_beyond_displayed"] == 1


def test_an_opening_auction_prints_once_and_its_orders_shrink(tmp_path: Path) -> None:
    book = [("A", "B", 105, 6, 1), ("A", "A", 95, 4, 2), ("A", "A", 100, 5, 3), ("A", "B", 90, 1, 4)]
    told = [("T", "N", 100, 6, 0), ("F", "B", 100, 6, 1), ("F", "A", 100, 4, 2), ("F", "A", 100, 2, 3)]
    changes = [("C", "B", 105, 6, 1), ("C", "A", 95, 4, 2), ("M", "A", 100, 3, 3)]
    done = convert(write(tmp_path / "a.dbn", [book, [*told, *changes]]))
    assert rows(done, 1) == [
        ("TRADE", 0, 100, 6, True),
        ("DELETE", 1, 105, 6, False),
        ("DELETE", -1, 95, 4, False),
        ("REDUCE", -1, 100, 2, False),
    ]
    assert account(done) == ((1, 6), (1, 6), {})
    assert done.counts["auction_prints"] == 1


@pytest.mark.parametrize(
    ("event", "told", "more"),
    [
        # a print of hidden or implied orders only
        ([("T", "N", 100, 3, 0)], [("TRADE", 0, 100, 3)], (0, 0)),
        # without an aggressor, one side filled where it rests: an execution
        (
            [("T", "N", 101, 3, 0), ("F", "A", 101, 2, 2), ("C", "A", 101, 2, 2)],
            [("EXECUTE", -1, 101, 2), ("TRADE", 1, 101, 1)],
            (0, 0),
        ),
        # a fill without a print is one more trade
        ([("F", "A", 101, 2, 2), ("C", "A", 101, 2, 2)], [("EXECUTE", -1, 101, 2)], (1, 2)),
        ([("F", "A", 107, 2, 77)], [("TRADE", 1, 107, 2)], (1, 2)),
        # a fill that no change of the book carries out, and one that is carried out in part
        ([("T", "B", 101, 2, 0), ("F", "A", 101, 2, 2)], [("TRADE", 1, 101, 2)], (0, 0)),
        (
            [("T", "B", 101, 2, 0), ("F", "A", 101, 2, 2), ("C", "A", 101, 1, 2)],
            [("EXECUTE", -1, 101, 1), ("TRADE", 1, 101, 1)],
            (0, 0),
        ),
        # a part filled, the rest cancelled at once
        (
            [("T", "B", 101, 2, 0), ("F", "A", 101, 2, 2), ("C", "A", 101, 5, 2)],
            [("EXECUTE", -1, 101, 2), ("DELETE", -1, 101, 3)],
            (0, 0),
        ),
        # ... or moved elsewhere
        (
            [("T", "B", 101, 2, 0), ("F", "A", 101, 2, 2), ("M", "A", 109, 3, 2)],
            [("EXECUTE", -1, 101, 2), ("DELETE", -1, 101, 3), ("ADD", -1, 109, 3)],
            (0, 0),
        ),
        # two prints, then their fills, the later first
        (
            [
                *(("T", "B", 101, 5, 0), ("T", "B", 102, 2, 0), ("F", "A", 102, 2, 3), ("F", "A", 101, 5, 2)),
                *(("C", "A", 101, 5, 2), ("C", "A", 102, 2, 3)),
            ],
            [("EXECUTE", -1, 101, 5), ("EXECUTE", -1, 102, 2)],
            (0, 0),
        ),
        # two prints of one price with a fill each of the same order
        (
            [
                *(("T", "B", 101, 1, 0), ("F", "A", 101, 1, 2), ("T", "B", 101, 2, 0), ("F", "A", 101, 2, 2)),
                ("M", "A", 101, 2, 2),
            ],
            [("EXECUTE", -1, 101, 3)],
            (0, 0),
        ),
        # more filled than printed
        (
            [("T", "B", 101, 1, 0), ("F", "A", 101, 5, 2), ("C", "A", 101, 5, 2)],
            [("EXECUTE", -1, 101, 1), ("DELETE", -1, 101, 4)],
            (0, 0),
        ),
        # a resting order filled at a price where it does not rest
        (
            [("T", "B", 101, 2, 0), ("F", "A", 101, 2, 3), ("C", "A", 102, 2, 3)],
            [("DELETE", -1, 102, 2), ("TRADE", 1, 101, 2)],
            (0, 0),
        ),
        # of an order that nobody knows (the file starts within the day)
        (
            [("T", "B", 101, 4, 0), ("F", "A", 101, 1, 50), ("F", "A", 101, 3, 2), ("C", "A", 101, 1, 50),
             ("M", "A", 101, 2, 2)],
            [("EXECUTE", -1, 101, 3), ("TRADE", 1, 101, 1)],
            (0, 0),
        ),
        # a change of an unknown order without a side cannot be placed
        ([("M", "N", 101, 4, 50), ("C", "A", 101, 1, 2)], [("REDUCE", -1, 101, 1)], (0, 0)),
        # the book is void before the fill was carried out
        (
            [("T", "B", 101, 2, 0), ("F", "A", 101, 2, 2), ("R", "N", 0, 0, 0), ("A", "A", 101, 9, 2),
             ("C", "A", 101, 2, 2)],
            [("CLEAR", 0, 0, 0), ("ADD", -1, 101, 9), ("REDUCE", -1, 101, 2), ("TRADE", 1, 101, 2)],
            (0, 0),
        ),
    ],
)  # fmt: skip
def test_what_an_event_may_hold(
    tmp_path: Path, event: list[Record], told: list[Any], more: tuple[int, int]
) -> None:
    book = [("A", "B", 99, 5, 1), ("A", "A", 101, 5, 2), ("A", "A", 102, 2, 3)]
    done = convert(write(tmp_path / "a.dbn", [book, event]))
    assert [r[:4] for r in rows(done, 1)] == told
    raw = (sum(r[0] == "T" for r in event), sum(r[3] for r in event if r[0] == "T"))
    assert account(done)[:2] == (raw, (raw[0] + more[0], raw[1] + more[1]))
    reason = {"fills without a trade record": {"trades": -more[0], "lots": -more[1]}}
    assert account(done)[2] == (reason if more[0] else {})


def test_a_record_without_quantity_is_said(tmp_path: Path) -> None:
    done = convert(write(tmp_path / "a.dbn", [[("A", "B", 99, 5, 1)], [("T", "A", 99, 0, 0)]]))
    reason = {"trade records without a quantity": {"trades": 1, "lots": 0}}
    assert account(done) == ((1, 0), (0, 0), reason)


@dataclass
class Order:
    id: int
    side: int
    px: int
    shown: int
    hidden: int = 0
    peak: int = 0
    refreshed: bool = False


@dataclass
class Exchange:
    """A matching engine by price and time with icebergs, and the records of what it does."""

    seed: int
    book: list[Order] = field(default_factory=list)  # in order of priority within a price
    ids: int = 100
    events: list[list[Record]] = field(default_factory=list)
    books: list[dict[tuple[int, int], list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def tell(self, records: list[Record]) -> None:
        shown: dict[tuple[int, int], list[int]] = {}
        for o in self.book:
            shown.setdefault((o.side, o.px), []).append(o.shown)
        self.events.append(records)
        self.books.append(shown)

    def record(self, action: str, side: int, px: int, qty: int, order: int) -> Record:
        return action, {1: "B", -1: "A", 0: "N"}[side], px, qty, order

    def best(self, side: int) -> int | None:
        return max((side * o.px for o in self.book if o.side == side), default=None)

    def sweep(self, taker: int, side: int, limit: int, qty: int, cross: bool) -> tuple[int, list[Record]]:
        """Match `qty` lots, a print a level; return the rest and the records: prints and fills, then changes."""
        told: list[Record] = []
        before = {o.id: (o.shown, o.px) for o in self.book}
        touched: list[Order] = []
        while qty > 0:
            top = self.best(-side)
            if top is None or -side * top * side > limit * side:
                break
            px = -side * top
            filled: dict[int, int] = {}
            while qty > 0 and (first := next((o for o in self.book if (o.side, o.px) == (-side, px)), None)):
                part = min(qty, first.shown)
                qty -= part
                first.shown -= part
                filled[first.id] = filled.get(first.id, 0) + part
                touched += [first] if first not in touched else []
                if first.shown == 0:
                    self.book.remove(first)
                    if first.hidden:  # the next peak joins the back of the queue
                        first.shown = min(first.peak, first.hidden)
                        first.hidden -= first.shown
                        first.refreshed = True
                        self.book.append(first)
            total = sum(filled.values())
            told.append(self.record("T", side, px, total, taker if cross else 0))
            if cross:
                told.append(self.record("F", side, px, total, taker))
            parts = list(filled.items())
            for order, n in parts:
                if n > 1 and self.rng.random() < 0.2:  # one order's fill in two records
                    told += [self.record("F", -side, px, 1, order), self.record("F", -side, px, n - 1, order)]
                else:
                    told.append(self.record("F", -side, px, n, order))
        stay = [o for o in touched if not (o.refreshed and o in self.book)]
        again = [o for o in self.book if o.refreshed]  # in the order of the queue
        for o in stay:
            had, px = before[o.id]
            if o in self.book:
                told.append(self.record("M", o.side, px, o.shown, o.id))
            else:
                told.append(self.record("C", o.side, px, had, o.id))
        for o in again:
            had, px = before[o.id]
            how = self.rng.randrange(3)
            if how == 0:
                told.append(self.record("M", o.side, px, o.shown, o.id))
            else:
                if how == 1:
                    told.append(self.record("C", o.side, px, had, o.id))
                told.append(self.record("A", o.side, px, o.shown, o.id))
            o.refreshed = False
        return qty, told

    def enter(self, *, auction: bool = False) -> None:
        rng, side = self.rng, self.rng.choice((1, -1))
        px, qty = 100 + rng.randint(-4, 4), rng.randint(1, 9)
        self.ids += 1
        told: list[Record] = []
        if not auction:
            qty, told = self.sweep(self.ids, side, px, qty * rng.choice((1, 1, 4)), cross=False)
        if qty > 0:
            peak = rng.randint(1, 4) if rng.random() < 0.4 else qty
            shown = min(peak, qty)
            self.book.append(Order(self.ids, side, px, shown, qty - shown, peak))
            told.append(self.record("A", side, px, shown, self.ids))
        self.tell(told)

    def cancel(self) -> None:
        if not self.book:
            return
        o = self.rng.choice(self.book)
        if o.shown > 1 and self.rng.random() < 0.5:
            part = self.rng.randint(1, o.shown - 1)
            o.shown -= part
            how = self.rng.random() < 0.5
            self.tell([self.record(*("C" if how else "M", o.side, o.px, part if how else o.shown, o.id))])
        else:
            self.book.remove(o)
            self.tell([self.record("C", o.side, o.px, o.shown, o.id)])

    def modify(self) -> None:
        """Move an order or make it larger; it may cross, and then trades with its own id."""
        if not self.book:
            return
        o = self.rng.choice(self.book)
        self.book.remove(o)
        old, shown = o.px, o.shown
        px, qty = 100 + self.rng.randint(-4, 4), o.shown + o.hidden + self.rng.randint(0, 2)
        rest, told = self.sweep(o.id, o.side, px, qty, cross=True)
        if rest == 0:
            self.tell([*told, self.record("C", o.side, old, shown, o.id)])
            return
        o.peak = o.peak if o.hidden else max(rest, 1)
        o.px, o.shown = px, min(o.peak, rest)
        o.hidden = rest - o.shown
        if not told and px == old and o.shown <= shown:  # stays where it was, in front of later ones
            o.shown = shown + 1
        self.book.append(o)
        self.tell([*told, self.record("M", o.side, px, o.shown, o.id)])

    def print_only(self) -> None:
        """Trade with nobody's displayed order."""
        side = self.rng.choice((1, -1, 0))
        self.tell([self.record("T", side, 100 + self.rng.randint(-4, 4), self.rng.randint(1, 9), 0)])

    def uncross(self) -> None:
        """Match the book at one price, the one at which most lots trade."""
        lots = {s: [(o.px, o.shown) for o in self.book if o.side == s] for s in (1, -1)}

        def volume(px: int) -> int:
            return min(sum(q for p, q in lots[1] if p >= px), sum(q for p, q in lots[-1] if p <= px))

        px = max(range(90, 111), key=volume)
        traded = volume(px)
        if traded == 0:
            return
        fills: list[Record] = []
        changes: list[Record] = []
        for side in (1, -1):
            left = traded
            for o in sorted((o for o in self.book if o.side == side), key=lambda o: -o.side * o.px):
                part = min(left, o.shown) if o.px * side >= px * side else 0
                if part == 0:
                    continue
                left -= part
                fills.append(self.record("F", side, px, part, o.id))
                if part == o.shown:
                    changes.append(self.record("C", side, o.px, part, o.id))
                    self.book.remove(o)
                else:
                    o.shown -= part
                    changes.append(self.record("M", side, o.px, o.shown, o.id))
        self.tell([self.record("T", 0, px, traded, 0), *fills, *changes])

    def run(self, steps: int) -> Exchange:
        for _ in range(self.rng.randint(0, 12)):  # before the opening nobody trades, and no peak is hidden
            self.enter(auction=True)
        for o in self.book:
            o.hidden = 0
        self.uncross()
        for _ in range(steps):
            self.rng.choice((self.enter, self.enter, self.enter, self.cancel, self.modify, self.print_only))()
        return self


def check_trades(done: Conversion, records: list[list[Record]]) -> None:
    """Compare trades event by event with the records; `records[k]` happened k ms after T0."""
    printed = (
        sum(r[0] == "T" for e in records for r in e),
        sum(r[3] for e in records for r in e if r[0] == "T"),
    )
    assert account(done) == (printed, printed, {})
    told: dict[int, Counter[int]] = defaultdict(Counter)
    executed: dict[int, Counter[tuple[int, int]]] = defaultdict(Counter)
    for e in done.events:
        k, kind = (int(e["ts"]) - T0) // 10**6, int(e["kind"])
        if kind in {EventKind.EXECUTE, EventKind.TRADE}:
            told[k][int(e["px"])] += int(e["qty"])
        if kind == EventKind.EXECUTE:
            assert not e["flags"] & EventFlag.AUCTION
            executed[k][int(e["side"]), int(e["px"])] += int(e["qty"])
    for k, event in enumerate(records):
        prints: Counter[int] = Counter()
        fills: Counter[tuple[int, int]] = Counter()
        for action, side, px, qty, _ in event:
            if action == "T":
                prints[px] += qty
            if action == "F":
                fills[1 if side == "B" else -1, px] += qty
        assert told[k] == prints  # every lot of a trade once, at its price
        assert all(fills[at] >= n for at, n in executed[k].items())


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 60))
def test_trades_and_books_are_those_of_the_exchange(
    story: Tell, tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int
) -> None:
    market = Exchange(seed).run(steps)
    if not any(r[0] == "A" for e in market.events for r in e):
        return
    path = write(tmp_path_factory.mktemp("mbo") / "a.dbn", market.events)
    done = convert(path)
    check_trades(done, market.events)
    seen = {(ts - T0) // 10**6: book for ts, book, _ in story(done.events)}
    book: dict[tuple[int, int], list[int]] = {}
    for k, want in enumerate(market.books):
        book = seen.get(k, book)
        assert book == want
    # events that venues do not close are closed by the next time
    open_ended = convert(write(path, market.events, last=lambda k: False))
    assert open_ended.events.tobytes() == done.events.tobytes()


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), start=st.integers(1, 40))
def test_no_trade_is_lost_where_the_book_is_half_known(
    tmp_path_factory: pytest.TempPathFactory, seed: int, start: int
) -> None:
    records = Exchange(seed).run(70).events[start:]
    done = convert(write(tmp_path_factory.mktemp("mbo") / "a.dbn", records))
    check_trades(done, records)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), every=st.integers(2, 6))
def test_no_trade_is_lost_where_ends_of_events_are_missing(
    story: Tell, tmp_path_factory: pytest.TempPathFactory, seed: int, every: int
) -> None:
    market = Exchange(seed).run(40)
    done = convert(
        write(tmp_path_factory.mktemp("mbo") / "a.dbn", market.events, last=lambda k: k % every == 0)
    )
    printed = Counter[int]()
    for event in market.events:
        for action, _, px, qty, _ in event:
            printed[px] += qty if action == "T" else 0
    told = Counter[int]()
    for e in done.events:
        told[int(e["px"])] += int(e["qty"]) if e["kind"] in {EventKind.EXECUTE, EventKind.TRADE} else 0
    assert told == printed
    assert story(done.events)[-1][1] == market.books[-1]


def test_a_fill_without_a_price_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn", [[("A", "A", 101, 5, 2)], [("F", "A", 0, 1, 2)]])
    content = bytearray(path.read_bytes())
    content[-32:-24] = struct.pack("<q", 2**63 - 1)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"row 2, field 'price': expected a price, was undefined"):
        convert(path)


def test_an_event_without_an_end_is_refused_before_it_takes_forever(tmp_path: Path) -> None:
    most = 1 << 16
    for told, fine in ((most, True), (most + 1, False)):
        path = write(tmp_path / "a.dbn", [[("A", "A", 101, 5, 2)], [("T", "N", 101, 1, 0)] * told])
        if fine:
            assert account(convert(path))[1] == (most, most)
        else:
            with pytest.raises(
                DataError, match=r"row 2: expected at most 65,536 trades and fills in one event"
            ):
                convert(path)
