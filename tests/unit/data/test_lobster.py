"""LOBSTER converter: a naive market written in LOBSTER form comes back exactly; every broken file is refused."""

import csv
import io
import zipfile
from decimal import Decimal
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.formats import lobster
from mmsim.errors import ConfigError, DataError
from mmsim.sessions import midnight_ns
from mmsim.types import EventFlag, EventKind, Instrument

STOCK = Instrument("T", Decimal("0.01"), currency="USD", timezone="America/New_York")
AMZN = "lobster-nasdaq-2012-06-21/LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"
STEM = "TEST_2012-06-21_34200000_57600000"


class NaiveMarket:
    """A full book in plain Python that writes what LOBSTER would show of it at `depth` levels."""

    def __init__(self, depth):
        self.depth, self.next_id = depth, 1
        self.queues = {1: {}, -1: {}}  # side -> price -> list of [id, qty], oldest first
        self.messages, self.rows = [], []

    def prices(self, side):
        return sorted(self.queues[side], reverse=side == 1)

    def visible(self, side, px):
        return px in self.prices(side)[: self.depth]

    def row(self):
        out = []
        for k in range(self.depth):
            for side in (-1, 1):
                at = self.prices(side)[k : k + 1]
                out += (
                    [at[0] * 100, sum(q for _, q in self.queues[side][at[0]])]
                    if at
                    else [-side * 9999999999, 0]
                )
        return out

    def record(self, kind, oid, qty, price, side):
        self.messages.append([kind, oid, qty, price, side])
        self.rows.append(self.row())

    def add(self, side, px, qty, write):
        other = self.prices(-side)
        if other and side * (px - other[0]) >= 0:
            px = other[0] - side
        if px <= 0:
            return
        self.queues[side].setdefault(px, []).append([self.next_id, qty])
        if write and self.visible(side, px):
            self.record(1, self.next_id, qty, px * 100, side)
        self.next_id += 1

    def take(self, kind, side, px, index, qty, write):
        queue = self.queues[side][px]
        index %= len(queue)
        oid, have = queue[index]
        seen = self.visible(side, px)
        if kind == 2:
            qty = min(qty, have - 1)
            if qty < 1:
                return
        qty = have if kind == 3 else min(qty, have)
        queue[index][1] -= qty
        if queue[index][1] == 0:
            del queue[index]
        if not queue:
            del self.queues[side][px]
        if write and seen:
            self.record(kind, oid, qty, px * 100, side)

    def act(self, what, a, b, write):
        side = 1 if a % 2 else -1
        levels = self.prices(side)
        if what <= 2:
            self.add(side, 100 + a // 2 % 12, 1 + b % 9, write)
        elif what <= 5 and levels:
            if what == 5:
                self.take(4, side, levels[0], 0, 1 + b % 6, write)
            else:
                self.take(what - 1, side, levels[a // 2 % len(levels)], b, 1 + b % 4, write)
        elif what == 6 and write:
            self.record(5, 0, 1 + b, (100 + a // 2 % 12) * 100 + 50 * (b % 2), side)
        elif what == 7 and write:
            self.record(7, 0, 0, -1, -1)


def write_pair(folder, messages, rows, zipped=False, stem=STEM):
    depth = len(rows[0]) // 4 if rows else 1
    times = [f"{34200 + i // 3}.{i:09d}".rstrip("0") for i in range(len(messages))]
    message = "".join(f"{t},{','.join(map(str, m))}\n" for t, m in zip(times, messages, strict=True))
    book = "".join(",".join(map(str, r)) + "\n" for r in rows)
    return write_text(folder, message, book, zipped, stem, depth)


def write_text(folder, message, book, zipped=False, stem=STEM, depth=1):
    names = [f"{stem}_{what}_{depth}.csv" for what in ("message", "orderbook")]
    if zipped:
        path = folder / "both.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in zip(names, (message, book), strict=True):
                archive.writestr(name, text)
        return [path]
    for name, text in zip(names, (message, book), strict=True):
        (folder / name).write_text(text)
    return [folder / name for name in names]


class NaiveReplay:
    """Replays EVENT rows order by order and counts executions that pass over an older order."""

    def __init__(self):
        self.levels = {1: {}, -1: {}}  # side -> px -> {slot: qty}, oldest first
        self.trades, self.behind = [], 0

    def apply(self, e):
        kind, side, px, qty, slot = (int(e[n]) for n in ("kind", "side", "px", "qty", "oid"))
        if kind == EventKind.TRADE:
            self.trades.append((px, qty, side))
        elif kind == EventKind.ADD:
            assert all(slot not in q for s in self.levels.values() for q in s.values())
            queue = self.levels[side].setdefault(px, {})
            if e["flags"] & EventFlag.SEED:
                assert not queue
            queue[slot] = qty
        elif kind == EventKind.HIDE:
            del self.levels[side][px]
        else:
            queue = self.levels[side][px]
            if kind == EventKind.EXECUTE:
                self.behind += next(iter(queue)) != slot
            if kind == EventKind.DELETE:
                assert qty == queue[slot]
            queue[slot] -= qty
            assert queue[slot] >= 0
            if queue[slot] == 0:
                del queue[slot]
            if not queue:
                del self.levels[side][px]

    def row(self, depth):
        out = []
        for k in range(depth):
            for side in (-1, 1):
                px = sorted(self.levels[side], reverse=side == 1)[k : k + 1]
                out += (
                    [px[0] * 100, sum(self.levels[side][px[0]].values())] if px else [-side * 9999999999, 0]
                )
        return out


def check_replay(out: Conversion, messages, rows):
    replay, at, depth = NaiveReplay(), 0, len(rows[0]) // 4
    ev = out.events
    for i, (message, row) in enumerate(zip(messages, rows, strict=True)):
        if message[0] != 7 or i == 0:  # the first message brings the seeds
            first = at
            while at < len(ev):
                replay.apply(ev[at])
                at += 1
                if ev["flags"][at - 1] & EventFlag.LAST:
                    break
            assert (ev["ts"][first:at] == ev["ts"][first]).all()
        assert replay.row(depth) == row
        assert all(len(replay.levels[s]) <= depth for s in (1, -1))
    assert at == len(ev)
    return replay


def recount(lines):
    """Count messages by kind, and the trades and lots that they tell, from the raw text of the message file."""
    names = ["new", "cancel", "delete", "execute_visible", "execute_hidden", "cross", "halt"]
    found, trades, lots = dict.fromkeys(names, 0), 0, 0
    for _, kind, _, size, _, _ in csv.reader(lines):
        found[names[int(kind) - 1]] += 1
        if kind in {"4", "5", "6"}:
            trades, lots = trades + 1, lots + int(size)
    return found, (trades, lots)


actions = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 100), st.integers(0, 50)), max_size=150)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(depth=st.integers(1, 4), silent=st.integers(0, 25), script=actions)
@example(depth=1, silent=0, script=[(0, 0, 3), (0, 1, 2), (5, 0, 9), (5, 1, 9)])
def test_a_naive_market_seen_through_lobster_comes_back_exactly(
    tmp_path_factory, balance, depth, silent, script
):
    market = NaiveMarket(depth)
    for i, action in enumerate(script):
        market.act(*action, write=i >= silent)
    messages = [m for m in market.messages if m[0] != 7] and market.messages
    if not messages or all(q == 0 for r in market.rows for q in r[1::2]):
        return
    if messages[0][0] == 7 and not any(market.rows[0][1::2]):
        return  # nothing to seed and no row to seed it from: see the test of an empty start
    paths = write_pair(tmp_path_factory.mktemp("pair"), messages, market.rows)
    out = lobster.FORMAT.convert(paths, STOCK, {}, no_progress)
    n = len(messages)
    assert (out.checks["states_compared"], out.checks["states_equal"]) == (n, n)
    assert out.checks["states_equal_without_correction"] == n and out.checks["messages_corrected"] == 0
    assert all(v == 0 for k, v in out.checks.items() if k.startswith("corrected_"))
    assert out.counts["rows_read"] == n and out.view_depth == depth and out.level == "L3"
    assert (np.diff(out.events["ts"]) >= 0).all()
    assert out.checks["messages_out_of_view"] == out.checks["size_beyond_order"] == 0
    for depth_used in range(1, depth):
        fewer = lobster.FORMAT.convert(paths, STOCK, {"depth": depth_used}, no_progress)
        assert fewer.view_depth == depth_used
        assert fewer.checks["states_equal_without_correction"] == n
        assert fewer.checks["size_beyond_order"] == 0
    by_kind, printed = recount(paths[0].read_text().splitlines())
    assert out.messages == by_kind
    assert balance(out) == (printed, printed, {})
    replay = check_replay(out, messages, market.rows)
    assert replay.behind == 0 == out.checks["executions_behind_queue_front"]
    prints = [m for m in messages if m[0] == 5]
    rounded = [-(-p // 100) if s == 1 else p // 100 for _, _, _, p, s in prints]  # toward the aggressor
    assert replay.trades == [(r, m[2], -m[4]) for r, m in zip(rounded, prints, strict=True)]
    executed = out.events["kind"] == EventKind.EXECUTE
    assert out.events["qty"][executed].sum() == sum(m[2] for m in messages if m[0] == 4)


def small():
    market = NaiveMarket(2)
    for i in range(20):
        market.act(i % 3, 37 * i % 101, i, write=False)
    for i in range(120):
        market.act((i * 5 + i // 7) % 7, 37 * i % 101, i, write=True)
    assert len(market.messages) > 40
    return market.messages, market.rows


def test_zip_and_csv_give_the_same_events(tmp_path):
    messages, rows = small()
    (tmp_path / "z").mkdir()
    plain = lobster.FORMAT.convert(write_pair(tmp_path, messages, rows), STOCK, {}, no_progress)
    zipped = lobster.FORMAT.convert(
        write_pair(tmp_path / "z", messages, rows, zipped=True), STOCK, {}, no_progress
    )
    assert (plain.events == zipped.events).all()
    assert plain.segments[0].label == "20120621" and plain.segments[0].stop == len(plain.events)


def test_two_days_become_two_segments(tmp_path):
    messages, rows = small()
    second = STEM.replace("-21", "-22")
    paths = write_pair(tmp_path, messages, rows, stem=second) + write_pair(tmp_path, messages, rows)
    out = lobster.FORMAT.convert(paths, STOCK, {}, no_progress)
    assert [s.label for s in out.segments] == ["20120621", "20120622"]
    first, last = (out.events[s.start : s.stop] for s in out.segments)
    assert (last["ts"] - first["ts"] == 86_400 * 10**9).all()
    assert (first["px"] == last["px"]).all() and (first["oid"] == last["oid"]).all()
    assert out.checks["states_equal"] == 2 * len(messages)


@pytest.mark.parametrize(
    ("text", "ns", "rounded"),
    [
        ("34200.017459617", 34200_017459617, 0),
        ("34200.5", 34200_500000000, 0),
        ("34200", 34200_000000000, 0),
        ("43002.632812672004", 43002_632812672, 1),
        ("43002.6328126725", 43002_632812673, 1),
        ("43002.632812672000", 43002_632812672, 0),
    ],
)
def test_time_text_becomes_exact_nanoseconds(tmp_path, text, ns, rounded):
    paths = write_text(tmp_path, f"{text},1,7,10,1000000,1\r\n", "9999999999,0,1000000,10\r\n")
    out = lobster.FORMAT.convert(paths, STOCK, {}, no_progress)
    assert out.events["ts"].tolist() == [midnight_ns("20120621", "America/New_York") + ns]
    assert midnight_ns("20120621", "America/New_York") == 1340251200 * 10**9  # 04:00 UTC
    assert out.counts["times_rounded_to_ns"] == rounded


def test_the_date_option_serves_a_name_without_a_date(tmp_path):
    paths = write_text(tmp_path, "34200.1,1,7,10,1000000,1\n", "9999999999,0,1000000,10\n", stem="GOOG")
    out = lobster.FORMAT.convert(paths, STOCK, {"date": "2012-06-21"}, no_progress)
    assert out.events["ts"][0] == midnight_ns("20120621", "America/New_York") + 34200 * 10**9 + 10**8
    with pytest.raises(DataError, match="date=YYYY-MM-DD"):
        lobster.FORMAT.convert(paths, STOCK, {}, no_progress)
    with pytest.raises(ConfigError, match="did you mean 'date'"):
        lobster.FORMAT.convert(paths, STOCK, {"dat": "2012-06-21"}, no_progress)
    with pytest.raises(ConfigError, match="number of levels"):
        lobster.FORMAT.convert(paths, STOCK, {"date": "2012-06-21", "depth": "all"}, no_progress)
    with pytest.raises(DataError, match=r"expected 2 levels .* was 1"):
        lobster.FORMAT.convert(paths, STOCK, {"date": "2012-06-21", "depth": "2"}, no_progress)
    with pytest.raises(ConfigError, match="expected YYYY-MM-DD"):
        lobster.FORMAT.convert(paths, STOCK, {"date": "21.6.2012"}, no_progress)


def test_a_cross_is_a_print_without_side_and_a_halt_has_no_row(tmp_path, balance):
    message = "34200.1,1,7,10,1000000,1\n34200.2,7,0,0,-1,-1\n34200.3,6,-1,500,1000100,-1\n"
    message += "34200.4,6,-1,0,1000100,-1\n34200.5,6,-1,7,-1,-1\n"
    paths = write_text(tmp_path, message, "1000200,5,1000000,10\n" * 5)
    out = lobster.FORMAT.convert(paths, STOCK, {}, no_progress)
    last = out.events[-1]
    assert (last["kind"], last["px"], last["qty"], last["side"]) == (EventKind.TRADE, 10001, 500, 0)
    assert last["flags"] == EventFlag.AUCTION | EventFlag.LAST
    assert out.counts["dropped_halt_messages"] == 1 and out.counts["dropped_empty_crosses"] == 2
    assert len(out.events) == 3 and out.checks["states_equal"] == 5  # seeded ask, bid, cross
    by_kind, printed = recount(message.splitlines())
    assert out.messages == by_kind and printed == (3, 507)
    assert balance(out) == (printed, (1, 500), {"crosses without size or price": (2, 7)})


def test_an_execution_beyond_what_is_known_of_its_order_is_printed_all_the_same(tmp_path, balance):
    message = "34200.1,1,7,10,1000000,1\n34200.2,4,7,14,1000000,1\n34200.3,4,99,3,999900,1\n"
    book = "1000200,5,1000000,10\n1000200,5,999900,8\n1000200,5,999900,5\n"
    out = lobster.FORMAT.convert(write_text(tmp_path, message, book), STOCK, {}, no_progress)
    assert out.checks["size_beyond_order"] == 1 and out.checks["unknown_order_messages"] == 1
    assert balance(out) == ((2, 17), (2, 17), {})
    assert [(e["kind"], e["qty"]) for e in out.events if e["kind"] in {4, 5}] == [(4, 10), (5, 4), (4, 3)]


def test_an_unexplained_level_is_corrected_and_counted(tmp_path):
    messages, rows = small()
    times = 3
    rows = [list(r) for r in rows]
    for r in rows[-times:]:
        r[1] += 2  # the best ask holds two more than the messages explain
    out = lobster.FORMAT.convert(write_pair(tmp_path, messages, rows), STOCK, {}, no_progress)
    n = len(messages)
    assert out.checks["states_equal"] == n
    assert 1 <= out.checks["messages_corrected"] <= times
    assert out.checks["states_equal_without_correction"] == n - out.checks["messages_corrected"]
    assert out.checks["corrected_level_up"] + out.checks["corrected_level_down"] >= 1


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    messages, rows = small()
    with pytest.raises(DataError, match="do not belong together"):
        lobster.FORMAT.convert(write_pair(tmp_path, messages, rows[::-1]), STOCK, {}, no_progress)


M, B = "34200.1,1,7,10,1000000,1\n", "1000200,5,1000000,10\n"
BROKEN = {
    "empty message file": ("", B, None, "", "empty file"),
    "header line": ("Time,Type,Order,Size,Price,Dir\n" + M, B * 2, 1, "time", "decimal number"),
    "not a number": (M + "34200.2,1,8,NaN,1000000,1\n", B * 2, 2, "size", "decimal number, was 'NaN'"),
    "missing column": (M + "34200.2,1,8,10,1000000\n", B * 2, 2, "direction", "expected 6 fields, was 5"),
    "extra column": (M + "34200.2,1,8,10,1000000,1,9\n", B * 2, 2, "direction", "expected 6 fields, was 7"),
    "fraction of a share": (M + "34200.2,1,8,1.5,1000000,1\n", B * 2, 2, "size", "whole number"),
    "huge number": (M + "34200.2,1,8,10,99999999999999999999,1\n", B * 2, 2, "price", "18 digits"),
    "unknown code": (M + "34200.2,8,8,10,1000000,1\n", B * 2, 2, "type", "type of 1 to 7, was 8"),
    "time backwards": (M + "34200.09,3,7,10,1000000,1\n", B * 2, 2, "time", "backwards"),
    "time beyond a day": ("99999.1,1,7,10,1000000,1\n", B, 1, "time", "seconds after midnight"),
    "zero size": ("34200.1,1,7,0,1000000,1\n", B, 1, "size", "above 0"),
    "negative price": ("34200.1,1,7,10,-1000000,1\n", B, 1, "price", "above 0"),
    "bad direction": ("34200.1,1,7,10,1000000,0\n", B, 1, "direction", "1 or -1"),
    "sub-penny order": ("34200.1,1,7,10,1000050,1\n", B, 1, "price", "multiple of 100"),
    "blank line within": (M + "\n" + M, B * 3, 2, "time", "decimal number"),
    "double add": (M * 2, B + "1000200,5,1000000,20\n", 2, "order_id", "new order id"),
    "crossed book": (M, "1000000,5,1000000,10\n", 1, "bid_price_1", "crossed"),
    "books too few": (M * 2, B, None, "", "expected 2 rows, one per message, was 1"),
    "odd columns": (M, "1000200,5,1000000\n", 1, "", "4 columns per level"),
    "size at no level": (M, "9999999999,5,1000000,10\n", 1, "ask_size_1", "size 0"),
    "level without size": (M, "1000200,0,1000000,10\n", 1, "ask_size_1", "above 0"),
    "sub-penny level": (M, "1000250,5,1000000,10\n", 1, "ask_price_1", "multiple of 100"),
    "levels out of order": (M, "1000200,5,1000000,10,1000100,5,999900,1\n", 1, "ask_price_2", "behind"),
    "level after none": (
        M,
        "1000200,5,-9999999999,0,1000300,1,1000000,10\n",
        1,
        "bid_price_2",
        "after an empty",
    ),
    "cut line": (M, "1000200,5,1000000,10\n1000200,5,100", 2, "bid_size_1", "expected 4 fields, was 3"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_with_row_and_field(tmp_path, case):
    message, book, row, field, words = BROKEN[case]
    with pytest.raises(DataError, match=words) as caught:
        lobster.FORMAT.convert(write_text(tmp_path, message, book), STOCK, {}, no_progress)
    assert (caught.value.row, caught.value.field) == (row, field)
    assert "TEST_2012-06-21" in caught.value.source


def test_containers_are_refused(tmp_path):
    messages, rows = small()
    whole = write_pair(tmp_path, messages, rows, zipped=True)[0].read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    none = tmp_path / "none.zip"
    with zipfile.ZipFile(none, "w") as archive:
        archive.writestr("readme.txt", "hello")
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    for path, words in (
        (cut, "fetch it again"),
        (damaged, "fetch it again"),
        (none, r"\*\.csv in the zip"),
        (tmp_path / "absent.zip", "fetch it again"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            lobster.FORMAT.convert([path], STOCK, {}, no_progress)
        assert path.name in caught.value.source
    pair = write_pair(tmp_path, messages, rows)
    with pytest.raises(DataError, match="expected the orderbook file"):
        lobster.FORMAT.convert(pair[:1], STOCK, {}, no_progress)
    with pytest.raises(DataError, match="was two"):
        lobster.FORMAT.convert([pair[0], pair[0]], STOCK, {}, no_progress)
    other = tmp_path / "prices.csv"
    other.write_text("1,2\n")
    with pytest.raises(DataError, match="_message_N"):
        lobster.FORMAT.convert([other], STOCK, {}, no_progress)
    with pytest.raises(ConfigError, match="tick_size"):
        lobster.FORMAT.convert(pair, Instrument("T", Decimal("0.00003")), {}, no_progress)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="a whole day takes minutes without compiled kernels")
def test_amzn_all_states_equal(real_data_home, balance):
    path = Path(real_data_home) / AMZN
    out = lobster.FORMAT.convert([path], STOCK, {}, no_progress)
    assert (out.checks["states_compared"], out.checks["states_equal"]) == (155_935, 155_935)
    assert out.checks["states_equal_without_correction"] == 155_935
    assert out.counts["hidden_executions_off_tick"] == 63
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if "_message_" in n)
        by_kind, printed = recount(archive.read(name).decode().splitlines())
    assert out.messages == by_kind
    assert (by_kind["execute_visible"], by_kind["execute_hidden"]) == (8_974, 2_445)
    assert balance(out) == (printed, printed, {})
    ev = out.events
    assert ev["qty"][ev["kind"] == EventKind.EXECUTE].sum() == 613_248
    assert (ev["kind"] == EventKind.TRADE).sum() == 2_445
    assert ((ev["flags"] & EventFlag.LAST) > 0).sum() == 155_935
    with zipfile.ZipFile(path) as archive:
        tables = {}
        for name in archive.namelist():
            if name.endswith(".csv"):
                lines = csv.reader(io.TextIOWrapper(archive.open(name), encoding="ascii"))
                tables["orderbook" in name] = [row for row, _ in zip(lines, range(5_000), strict=False)]
    rows = [[int(v) for v in row] for row in tables[True]]
    messages = [[int(v) for v in row[1:]] for row in tables[False]]
    stop = int(np.flatnonzero(ev["flags"] & EventFlag.LAST)[len(rows) - 1]) + 1
    out.events = ev[:stop]
    assert check_replay(out, messages, rows).behind == 27  # 26 of them orders released at the opening
    assert out.checks["executions_behind_queue_front"] == 35  # of 8,974 in the whole day
