"""SSE converter: a naive day written as the exchange's log comes back exactly; every broken line is refused."""

import random
import re
import zipfile
from decimal import Decimal
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsim.data.conversion import no_progress
from mmsim.data.formats import sse
from mmsim.errors import ConfigError, DataError
from mmsim.sessions import midnight_ns
from mmsim.types import EventFlag, EventKind, Instrument

STOCK = Instrument("T", Decimal("0.01"), unit_lots=100)
DATE = {"date": "2023-02-07"}
MOUTAI = "sse-600519-l2-2023-02-07/AX_sbe_sse_600519.zip"
A, B, D, N, S = (ord(c) for c in "ABDNS")


def stamp(centi):
    seconds, cc = divmod(centi, 100)
    return (seconds // 3600 * 10_000 + seconds // 60 % 60 * 100 + seconds % 60) * 100 + cc


def line(kind, **keys):
    head = f"//SecurityIDSource=101 MsgType={kind} SecurityID=600519           ChannelNo=6 "
    return head + " ".join(f"{k}={v}".ljust(20) for k, v in keys.items()) + " resv=     "


def order(biz, time, number, px, qty, kind=A, side=B):
    return line(
        192, OrderNo=number, Price=px * 10, OrderQty=qty * 1000, OrdType=kind, Side=side, TransactTime=time, BizIndex=biz
    )  # fmt: skip


def trade(biz, time, buyer, seller, px, qty, kind):
    return line(
        191, BidApplSeqNum=buyer, OfferApplSeqNum=seller, LastPx=px * 10, LastQty=qty * 1000, ExecType=kind,
        TransactTime=time, BizIndex=biz,
    )  # fmt: skip


def snapshot(centi, trades, volume, bids, asks):
    keys = {"DataTimeStamp": stamp(centi) // 100, "NumTrades": trades, "TotalVolumeTrade": volume * 1000}
    for name, levels in (("Bid", bids), ("Ask", asks)):
        for k in range(10):
            px, qty = levels[k] if k < len(levels) else (0, 0)
            keys[f"{name}Level[{k}].Price"], keys[f"{name}Level[{k}].Qty"] = px * 10, qty * 1000
    return line(111, **keys)


class NaiveDay:
    """Opening auction, continuous trading and closing auction of a plain Python book, written as a log."""

    def __init__(self, rng):
        self.rng, self.biz, self.number = rng, 0, 0
        self.book = {1: {}, -1: {}}  # side -> order number -> [px, qty], oldest first
        self.orders, self.trades, self.snapshots = [], [], []
        self.volume, self.count, self.auction_volume = 0, 0, 0

    def best_first(self, side):
        return sorted(self.book[side].items(), key=lambda kv: (-side * kv[1][0], kv[0]))

    def levels(self, side):
        out = {}
        for _, (px, qty) in self.best_first(side):
            out[px] = out.get(px, 0) + qty
        return list(out.items())[:10]

    def next_biz(self):
        self.biz += self.rng.randint(1, 3)
        return self.biz

    def hit(self, side, number, qty):
        order = self.book[side][number]
        order[1] -= qty
        if order[1] == 0:
            del self.book[side][number]

    def print_trade(self, t, buyer, seller, px, qty, kind):
        self.trades.append(trade(self.next_biz(), stamp(t), buyer, seller, px, qty, kind))
        self.volume += qty
        self.count += 1

    def submit(self, t, side, px, qty, match):
        self.number += 1
        number, code = self.number, B if side == 1 else S
        while match and qty:
            other = self.best_first(-side)
            if not other or side * (px - other[0][1][0]) < 0:
                break
            resting, (at, have) = other[0]
            part = min(qty, have)
            self.print_trade(t, *((number, resting) if side == 1 else (resting, number)), at, part, code)
            self.hit(-side, resting, part)
            qty -= part
        if qty:
            self.orders.append(order(self.next_biz(), stamp(t), number, px, qty, A, code))
            self.book[side][number] = [px, qty]

    def cancel(self, t):
        side = self.rng.choice([1, -1])
        if self.book[side]:
            number = self.rng.choice(sorted(self.book[side]))
            px, qty = self.book[side].pop(number)
            self.orders.append(order(self.next_biz(), stamp(t), number, px, qty, D, B if side == 1 else S))

    def uncross(self, t):
        px = self.clearing()[0]
        while px:
            bids, asks = self.best_first(1), self.best_first(-1)
            if not bids or not asks or bids[0][1][0] < px or asks[0][1][0] > px:
                break
            part = min(bids[0][1][1], asks[0][1][1])
            self.print_trade(t, bids[0][0], asks[0][0], px, part, N)
            self.auction_volume += part
            self.hit(1, bids[0][0], part)
            self.hit(-1, asks[0][0], part)

    def clearing(self):
        best = (0, 0, 0, 0)
        for px in {o[0] for side in self.book.values() for o in side.values()}:
            buy = sum(q for p, q in self.book[1].values() if p >= px)
            sell = sum(q for p, q in self.book[-1].values() if p <= px)
            if min(buy, sell) > best[1]:
                best = (px, min(buy, sell), buy - min(buy, sell), sell - min(buy, sell))
        return best

    def look(self, t, auction=False):
        bids, asks = self.levels(1), self.levels(-1)
        if auction:
            px, match, buy, sell = self.clearing()
            bids = [(px, match), (0, buy)] if match else []
            asks = [(px, match), (0, sell)] if match else []
        if bids or asks:
            self.snapshots.append(snapshot(t, self.count, self.volume, bids, asks))

    def run(self, steps):
        rng, hour = self.rng, 360_000
        clock = int(9.25 * hour)
        for phase, start in (("open", clock), ("day", int(9.5 * hour)), ("close", int(14.95 * hour))):
            t = start
            for _ in range(steps):
                t += rng.randint(0, 150)
                if rng.random() < 0.2:
                    self.cancel(t)
                else:
                    self.submit(
                        t, rng.choice([1, -1]), 1000 + rng.randint(-6, 6), rng.randint(1, 9), phase == "day"
                    )
                if rng.random() < 0.2:
                    self.look(t, phase != "day")
            if phase != "day":
                self.uncross(t + 50)
                self.look(t + 50)
        return self.orders + self.trades + self.snapshots  # three streams, one after the other


def write(folder, lines, name="day.log"):
    path = folder / name
    path.write_text("\r\n".join(lines) + "\r\n")
    return [path]


def recount(lines):
    """Count messages by kind, and the trades and lots that they tell, from the raw text."""
    names = {"192": {A: "order_add", D: "order_delete"}}
    names["191"] = {B: "trade_by_buyer", S: "trade_by_seller", N: "trade_of_auction"}
    found = dict.fromkeys([*names["192"].values(), *names["191"].values(), "snapshot"], 0)
    trades = lots = 0
    for text in lines:
        kind = re.search(r"MsgType=(\d+)", text)[1]
        code = re.search(r"(?:OrdType|ExecType)=(\d+)", text)
        found["snapshot" if kind == "111" else names[kind][int(code[1])]] += 1
        if kind == "191":
            trades, lots = trades + 1, lots + int(re.search(r"LastQty=(\d+)", text)[1]) // 1000
    return found, (trades, lots)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 60))
def test_a_naive_day_comes_back_exactly(tmp_path_factory, balance, seed, steps):
    day = NaiveDay(random.Random(seed))
    lines = day.run(steps)
    if not day.orders:
        return
    out = sse.FORMAT.convert(write(tmp_path_factory.mktemp("day"), lines), STOCK, DATE, no_progress)
    assert out.checks["states_compared"] == out.checks["states_equal"] == len(day.snapshots)
    assert (out.checks["traded_qty"], out.checks["traded_count"]) == (day.volume, day.count)
    by_kind, printed = recount(lines)
    assert out.messages == by_kind
    assert balance(out) == (printed, (day.count, day.volume), {}) == (printed, printed, {})
    assert out.checks["crossed_books"] == 0 == out.checks["executions_behind_queue_front"]
    ev = out.events
    assert (np.diff(ev["ts"]) >= 0).all() and ev["flags"][-1] & EventFlag.LAST
    executed = ev["qty"][ev["kind"] == EventKind.EXECUTE].sum()
    assert executed == day.volume + day.auction_volume  # an auction trade executes both of its orders
    left = {1: {}, -1: {}}
    for e in ev:  # naive replay of the whole day
        side, slot = int(e["side"]), int(e["oid"])
        if e["kind"] == EventKind.ADD:
            assert slot not in left[1] and slot not in left[-1]
            left[side][slot] = [int(e["px"]), int(e["qty"])]
        else:
            left[side][slot][1] -= int(e["qty"])
            assert left[side][slot][1] >= 0
            if left[side][slot][1] == 0:
                del left[side][slot]
    for side in (1, -1):
        assert sorted(left[side].values()) == sorted(day.book[side].values())
    local = (ev["ts"] - midnight_ns("20230207", "Asia/Shanghai")) // 10**7  # 1/100 s
    outside = (local < 9.5 * 360_000) | (local >= 14.95 * 360_000)
    assert ((ev["flags"] & EventFlag.AUCTION > 0) == outside).all()


def first_messages():
    return [
        order(11, 9300000, 1, 1000, 100, A, B),
        order(12, 9300001, 2, 1002, 100, A, S),
        trade(13, 9300002, 3, 2, 1002, 60, B),
        order(15, 9300005, 1, 1000, 100, D, B),
    ]


def test_rows_of_the_smallest_day(tmp_path):
    lines = first_messages()
    out = sse.FORMAT.convert(write(tmp_path, [lines[2], "", *lines[:2], lines[3]]), STOCK, DATE, no_progress)
    ev = out.events
    assert ev[["kind", "px", "qty", "oid", "side"]].tolist() == [
        (EventKind.ADD, 1000, 100, 0, 1),
        (EventKind.ADD, 1002, 100, 1, -1),
        (EventKind.EXECUTE, 1002, 60, 1, -1),
        (EventKind.DELETE, 1000, 100, 0, 1),
    ]
    assert (ev["flags"] == EventFlag.LAST).all()
    # 09:30 in Shanghai is 01:30 UTC
    assert ev["ts"].tolist() == [1675733400 * 10**9 + c * 10**7 for c in (0, 1, 2, 5)]
    assert out.counts["rows_sorted_by_biz_index"] == 1 and out.counts["rows_read"] == 5
    assert out.level == "L3" and out.view_depth == 0 and out.n_slots == 2


def test_a_snapshot_that_shows_another_book_is_not_equal(tmp_path):
    centi = int(9.5 * 360_000)
    good = snapshot(centi, 1, 60, [(1000, 100)], [(1002, 40)])
    for text, equal in (
        (good, 1),
        (snapshot(centi, 1, 60, [(1000, 100)], [(1002, 41)]), 0),
        (snapshot(centi, 1, 60, [(999, 100)], [(1002, 40)]), 0),
        (snapshot(centi, 1, 60, [(1000, 100), (999, 1)], [(1002, 40)]), 0),
        (snapshot(centi, 1, 61, [(1000, 100)], [(1002, 40)]), 0),
        (snapshot(centi, 2, 60, [(1000, 100)], [(1002, 40)]), 0),
        (snapshot(centi + 400, 1, 60, [(1000, 100)], [(1002, 40)]), 0),  # no longer the book
    ):
        out = sse.FORMAT.convert(write(tmp_path, [*first_messages(), text]), STOCK, DATE, no_progress)
        assert (out.checks["states_compared"], out.checks["states_equal"]) == (1, equal)
    assert "0 of 1 snapshots" in out.notes[0]


def test_one_symbol_of_several_is_an_option(tmp_path):
    other = order(14, 9300003, 9, 500, 100).replace("600519", "600000")
    path = write(tmp_path, [*first_messages(), other])
    with pytest.raises(DataError, match="option symbol"):
        sse.FORMAT.convert(path, STOCK, DATE, no_progress)
    out = sse.FORMAT.convert(path, STOCK, {**DATE, "symbol": "600519"}, no_progress)
    assert len(out.events) == 4 and out.counts["dropped_other_symbols"] == 1


def test_options_are_checked(tmp_path, balance):
    path = write(tmp_path, first_messages())
    with pytest.raises(DataError, match="date=YYYY-MM-DD"):
        sse.FORMAT.convert(path, STOCK, {}, no_progress)
    with pytest.raises(ConfigError, match="did you mean 'symbol'"):
        sse.FORMAT.convert(path, STOCK, {**DATE, "symbl": "600519"}, no_progress)
    with pytest.raises(ConfigError, match="HH:MM"):
        sse.FORMAT.convert(path, STOCK, {**DATE, "closing": "25:00"}, no_progress)
    late = sse.FORMAT.convert(path, STOCK, {**DATE, "opening": "10:00"}, no_progress)
    # a trade says itself whether it was an auction's
    assert (
        (late.events["flags"] & EventFlag.AUCTION > 0) == (late.events["kind"] != EventKind.EXECUTE)
    ).all()
    assert balance(late) == ((1, 60), (1, 60), {})
    named = sse.FORMAT.convert(write(tmp_path, first_messages(), "log_20230207.log"), STOCK, {}, no_progress)
    assert named.segments[0].label == "20230207"


OK = first_messages()
BROKEN = {
    "unknown message": ([OK[0], OK[1].replace("=192", "=193")], 2, "MsgType", r"\[111, 191, 192\], was 193"),
    "no key=value": ([OK[0], OK[1] + "rubbish"], 2, "", "key=value, was 'rubbish'"),
    "cut line": ([OK[0], OK[1].split("OrderQty")[0]], 2, "BizIndex", "expected the key"),
    "no message type": ([OK[0], OK[1].replace("MsgType", "Typ")], 2, "MsgType", "expected the key"),
    "key twice": ([OK[0], OK[1] + "Side=66"], 2, "Side", "once, was twice"),
    "NaN": ([OK[0], OK[1].replace("Price=10020", "Price=NaN  ")], 2, "Price", "whole number, was 'NaN'"),
    "negative": ([OK[0], OK[1].replace("Price=10020", "Price=-1002")], 2, "Price", "whole number"),
    "zero quantity": ([OK[0], order(12, 9300001, 2, 1002, 0, A, S)], 2, "OrderQty", "above 0"),
    "half tick": ([OK[0], OK[1].replace("Price=10020", "Price=10025")], 2, "Price", "multiple of 10"),
    "part of a share": ([OK[0].replace("=100000", "=100500")], 1, "OrderQty", "multiple of 1000"),
    "unknown order type": ([OK[0], order(12, 9300001, 2, 1002, 100, 77, S)], 2, "OrdType", "was 77"),
    "unknown side": ([OK[0], order(12, 9300001, 2, 1002, 100, A, 67)], 2, "Side", "was 67"),
    "unknown trade type": ([*OK[:2], trade(13, 9300002, 3, 2, 1002, 60, 52)], 3, "ExecType", "was 52"),
    "BizIndex twice": ([*OK[:2], OK[2].replace("BizIndex=13", "BizIndex=12")], 3, "BizIndex", "once, was 12"),
    "time backwards": ([*OK[:2], trade(13, 9300000, 3, 2, 1002, 60, B)], 3, "TransactTime", "backwards"),
    "no time of day": ([OK[0], order(12, 9610001, 2, 1002, 100, A, S)], 2, "TransactTime", "HHMMSS"),
    "order twice": ([OK[0], order(12, 9300001, 1, 999, 100)], 2, "OrderNo", "new order number, was 1"),
    "cancel of nothing": ([OK[0], order(12, 9300001, 5, 1000, 100, D)], 2, "OrderNo", "live order, was 5"),
    "cancel of too much": (
        [OK[0], order(12, 9300001, 1, 1000, 101, D)],
        2,
        "OrderQty",
        "still holds, was 101",
    ),
    "cancel elsewhere": ([OK[0], order(12, 9300001, 1, 1001, 100, D)], 2, "Price", "itself, was 1001"),
    "trade with nobody": (
        [OK[0], trade(12, 9300002, 3, 2, 1002, 60, B)],
        2,
        "OfferApplSeqNum",
        "sell order, was 2",
    ),
    "auction with nobody": (
        [OK[1], trade(13, 9300002, 3, 2, 1002, 9, N)],
        2,
        "BidApplSeqNum",
        "buy order, was 3",
    ),
    "trade of too much": ([*OK[:2], trade(13, 9300002, 3, 2, 1002, 101, B)], 3, "LastQty", "holds, was 101"),
    "trade elsewhere": (
        [*OK[:2], trade(13, 9300002, 3, 2, 1003, 60, B)],
        3,
        "LastPx",
        "resting order, was 1003",
    ),
    "crossed book": ([*OK[:2], order(13, 9300002, 3, 1002, 5)], 3, "Price", "crossed"),
    "no orders": ([snapshot(3_420_000, 0, 0, [(1000, 1)], [])], None, "", "order messages"),
    "not ASCII": ([OK[0], OK[1] + "\N{MIDDLE DOT}"], 2, "", "ASCII"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_lines_are_refused_with_row_and_key(tmp_path, case):
    lines, row, field, words = BROKEN[case]
    with pytest.raises(DataError, match=words) as caught:
        sse.FORMAT.convert(write(tmp_path, lines), STOCK, DATE, no_progress)
    assert (caught.value.row, caught.value.field, caught.value.source) == (row, field, "day.log")


def test_a_truncated_zip_is_refused(tmp_path):
    path = tmp_path / "day.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("day.log", "\r\n".join(first_messages()))
    whole = path.read_bytes()
    assert len(sse.FORMAT.convert([path], STOCK, DATE, no_progress).events) == 4
    path.write_bytes(whole[:-40])
    with pytest.raises(DataError, match="fetch it again"):
        sse.FORMAT.convert([path], STOCK, DATE, no_progress)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="a whole day takes minutes without compiled kernels")
def test_moutai_equals_every_snapshot(real_data_home, balance):
    out = sse.FORMAT.convert([Path(real_data_home) / MOUTAI], STOCK, DATE, no_progress)
    assert out.counts["rows_read"] == 69_595
    with zipfile.ZipFile(Path(real_data_home) / MOUTAI) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".log"))
        by_kind, printed = recount(archive.read(name).decode().splitlines())
    assert out.messages == by_kind
    assert (by_kind["order_add"], by_kind["order_delete"], by_kind["snapshot"]) == (31_612, 14_152, 5_146)
    assert balance(out) == (printed, (18_685, 2_432_171), {}) == (printed, printed, {})
    assert (out.checks["traded_count"], out.checks["traded_qty"]) == (18_685, 2_432_171)
    assert out.checks["last_snapshot_qty"] == 2_432_171
    assert (out.checks["states_compared"], out.checks["states_equal"]) == (5_113, 5_113)
    assert out.checks["states_equal_in_own_second"] == 5_103
    assert (out.checks["snapshots_auction"], out.checks["snapshots_auction_equal"]) == (186, 186)
    assert out.checks["snapshots_empty"] == 33
    assert out.checks["crossed_books"] == 0 == out.checks["executions_behind_queue_front"]
