"""Small valid files of every format, all of one random order flow, for the fuzzer to break."""

from __future__ import annotations

import datetime as dt
import gzip
import importlib.util
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import zstandard

from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.files import read_members
from mmsim.data.formats import FORMATS, tardis, wondertrader
from mmsim.data.formats import _hftbacktest_rows as hft_rows
from mmsim.data.formats._itch_scan import LENGTHS
from mmsim.data.manifest import manifest
from mmsim.types import Instrument

T0 = 1_700_000_000_000_000_000  # ns
STOCK = Instrument("T", Decimal("0.01"), timezone="UTC")
NY = Instrument("T", Decimal("0.01"), timezone="America/New_York")
LEVELS = 10
Pairs = list[tuple[int, int]]  # price in ticks, lots; best first


class Step(NamedTuple):
    """One message: what happened to which order, and the book after it."""

    n: int
    kind: str  # add, execute, cut, delete
    side: int
    px: int
    qty: int
    order: int
    left: int
    bids: Pairs
    asks: Pairs


def flow(
    steps: int = 160, seed: int = 5, kinds: tuple[str, ...] = ("execute", "cut", "delete")
) -> list[Step]:
    """Return a random order flow around 10,000 ticks; the book never empties."""
    rng = random.Random(seed)
    live: dict[int, list[int]] = {}  # order -> [side, px, qty]
    out: list[Step] = []

    def pairs(side: int) -> Pairs:
        total: dict[int, int] = {}
        for s, px, qty in live.values():
            if s == side:
                total[px] = total.get(px, 0) + qty
        return sorted(total.items(), reverse=side > 0)

    def put(kind: str, order: int, qty: int) -> None:
        side, px, left = live[order]
        if left == 0:
            del live[order]
        out.append(Step(len(out), kind, side, px, qty, order, left, pairs(1), pairs(-1)))

    for k in range(12):
        side = 1 if k % 2 else -1
        live[k + 1] = [side, 10_000 - side * (1 + k // 2), rng.randint(1, 20)]
        put("add", k + 1, live[k + 1][2])
    while len(out) < steps:
        side = rng.choice([1, -1])
        mine = [o for o, v in live.items() if v[0] == side]
        if len(mine) < 5 or rng.random() < 0.45:
            opposite = pairs(-side)[0][0]
            px = min(opposite - 1, 10_003) if side > 0 else max(opposite + 1, 9_997)
            order = 1000 + len(out)
            live[order] = [side, px - side * rng.randint(0, 5), rng.randint(1, 20)]
            put("add", order, live[order][2])
            continue
        best = pairs(side)[0][0]
        order = next(o for o in mine if live[o][1] == best)  # (oldest first: a dict keeps its order)
        kind = rng.choice(kinds)
        if kind != "execute":
            order = rng.choice(mine)
        have = live[order][2]
        qty = have if kind == "delete" else rng.randint(1, have)
        live[order][2] -= qty
        put("delete" if kind == "cut" and qty == have else kind, order, qty)
    return out


@dataclass
class Sample:
    """Files of one format (name -> content before packing), and how to pack and to convert them."""

    format: str
    files: dict[str, bytes]
    instrument: Instrument
    options: dict[str, Any] = field(default_factory=dict)
    pack: Callable[[str, bytes], tuple[str, bytes]] = lambda name, content: (name, content)
    checked: bool = True  # packed, the content has a checksum

    def convert(self, paths: list[Any]) -> Conversion:
        """Read the files at `paths`."""
        return (
            FORMATS[self.format]
            .convert(paths, self.instrument, dict(self.options), no_progress)
            .finish("fuzz")
        )


def gz(name: str, content: bytes) -> tuple[str, bytes]:
    """Pack as ``.gz``."""
    return name + ".gz", gzip.compress(content, mtime=0)


def zipped(name: str, content: bytes) -> tuple[str, bytes]:
    """Pack as a zip of one member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return f"{name.rpartition('.')[0]}.zip", out.getvalue()


def zst(name: str, content: bytes) -> tuple[str, bytes]:
    """Pack as ``.zst`` with a checksum."""
    return name + ".zst", zstandard.ZstdCompressor(write_checksum=True).compress(content)


def _lobster() -> Sample:
    kinds = {"add": 1, "cut": 2, "delete": 3, "execute": 4}
    message, book = [], []
    for s in flow():
        message.append(
            f"{34200 + s.n // 5}.{s.n:09d},{kinds[s.kind]},{s.order},{s.qty},{s.px * 100},{s.side}"
        )
        row = []
        for k in range(LEVELS):
            for side, pairs in ((-1, s.asks), (1, s.bids)):
                row += [pairs[k][0] * 100, pairs[k][1]] if k < len(pairs) else [-side * 9_999_999_999, 0]
        book.append(",".join(map(str, row)))
    stem = "T_2012-06-21_34200000_57600000"
    files = {f"{stem}_message_10.csv": message, f"{stem}_orderbook_10.csv": book}
    return Sample("lobster", {n: ("\n".join(t) + "\n").encode() for n, t in files.items()}, NY, pack=zipped)


def _itch() -> Sample:
    day = 34_200 * 10**9

    def msg(letter: str, at: int, body: bytes) -> bytes:
        out = letter.encode() + struct.pack(">HH", 7, 0) + (day + at).to_bytes(6, "big") + body
        out = out.ljust(LENGTHS[letter], b" ")
        return struct.pack(">H", len(out)) + out

    out = [msg("S", 0, b"O"), msg("R", 1, b"T       ")]
    for s in flow():
        at = 1000 * (s.n + 1)
        if s.kind == "add":
            side = b"B" if s.side > 0 else b"S"
            out.append(msg("A", at, struct.pack(">QcI8sI", s.order, side, s.qty, b"T       ", s.px * 100)))
        elif s.kind == "execute":
            out.append(msg("E", at, struct.pack(">QIQ", s.order, s.qty, s.n)))
        elif s.kind == "cut":
            out.append(msg("X", at, struct.pack(">QI", s.order, s.qty)))
        else:
            out.append(msg("D", at, struct.pack(">Q", s.order)))
    return Sample("itch", {"S013020-v50": b"".join(out)}, NY, {"date": "2020-01-30"}, pack=gz)


def _sse() -> Sample:
    def line(kind: int, **keys: Any) -> str:
        return f"//SecurityIDSource=101 MsgType={kind} SecurityID=600519 ChannelNo=6 " + " ".join(
            f"{k}={v}".ljust(14) for k, v in keys.items()
        )

    out, looks = [], []
    for s in flow(kinds=("execute", "delete")):
        time, side = 9_300_000 + 100 * (s.n // 4), ord("B") if s.side > 0 else ord("S")
        if s.kind == "execute":
            aggressor = 100_000 + s.n
            pair = (s.order, aggressor) if s.side > 0 else (aggressor, s.order)
            out.append(
                line(
                    191, BidApplSeqNum=pair[0], OfferApplSeqNum=pair[1], LastPx=s.px * 10, LastQty=s.qty * 1000,
                    ExecType=ord("S") if s.side > 0 else ord("B"), TransactTime=time, BizIndex=s.n + 1,
                )
            )  # fmt: skip
        else:
            code = ord("A") if s.kind == "add" else ord("D")
            out.append(
                line(
                    192, OrderNo=s.order, Price=s.px * 10, OrderQty=s.qty * 1000, OrdType=code, Side=side,
                    TransactTime=time, BizIndex=s.n + 1,
                )
            )  # fmt: skip
        if s.n % 20 == 19:
            keys: dict[str, Any] = {"DataTimeStamp": time // 100, "NumTrades": 1, "TotalVolumeTrade": 1000}
            for name, pairs in (("Bid", s.bids), ("Ask", s.asks)):
                for k in range(LEVELS):
                    px, qty = pairs[k] if k < len(pairs) else (0, 0)
                    keys[f"{name}Level[{k}].Price"], keys[f"{name}Level[{k}].Qty"] = px * 10, qty * 1000
            looks.append(line(111, **keys))
    shanghai = Instrument("T", Decimal("0.01"), timezone="Asia/Shanghai")
    return Sample(
        "sse", {"day.log": "\r\n".join([*out, *looks, ""]).encode()}, shanghai, {"date": "2023-02-07"}, zipped
    )


def _snapshots() -> list[tuple[Step, int, int]]:
    # every step with lots and turnover (ticks x lots) traded so far
    out, lots, turnover = [], 0, 0
    for s in flow()[12:]:
        if s.kind == "execute":
            lots, turnover = lots + s.qty, turnover + s.qty * s.px
        out.append((s, lots, turnover))
    return out


def _ctp() -> Sample:
    rows = []
    for s, lots, turnover in _snapshots():
        row: dict[str, Any] = {
            "TradingDay": 20240110, "ActionDay": 20240110,
            "UpdateTime": f"09:{s.n // 120:02d}:{s.n // 2 % 60:02d}", "UpdateMillisec": 500 * (s.n % 2),
            "InstrumentID": "t2405", "LastPrice": f"{s.bids[0][0] / 100:.2f}", "Volume": lots,
            "Turnover": turnover / 100,
        }  # fmt: skip
        for name, pairs in (("Bid", s.bids), ("Ask", s.asks)):
            for k in range(3):
                px, qty = pairs[k] if k < len(pairs) else (0, 0)
                row[f"{name}Price{k + 1}"], row[f"{name}Volume{k + 1}"] = f"{px / 100:.2f}", qty
        rows.append(row)
    future = Instrument("t", Decimal("0.01"), sessions=(("09:00", "11:30"),))
    return Sample("ctp", {"t.csv": pd.DataFrame(rows).to_csv(index=False).encode()}, future, pack=zipped)


def _parquet() -> Sample:
    sample = _ctp()
    frame = pd.read_csv(io.BytesIO(sample.files["t.csv"]))
    sample.files = {"t.parquet": frame.to_parquet(index=False)}
    sample.pack, sample.checked = (lambda name, content: (name, content)), False
    return sample


def _wondertrader() -> Sample:
    steps = _snapshots()
    out = np.zeros(len(steps), wondertrader.TICK)
    out["exchange"], out["code"], out["trading_date"], out["action_date"] = b"X", b"t2101", 20210104, 20210104
    for row, (s, lots, turnover) in zip(out, steps, strict=True):
        row["action_time"] = 93_000_000 + 1000 * (s.n // 2) + 500 * (s.n % 2) + 40_000 * (s.n // 120)
        row["price"], row["total_volume"], row["total_turnover"] = s.bids[0][0] / 100, lots, turnover / 100
        for name, pairs in (("bid", s.bids), ("ask", s.asks)):
            for k, (px, qty) in enumerate(pairs[:10]):
                row[f"{name}_prices"][k], row[f"{name}_qty"][k] = px / 100, qty

    def pack(name: str, content: bytes) -> tuple[str, bytes]:
        payload = zstandard.ZstdCompressor(write_checksum=True).compress(content)
        return name, struct.pack("<8sHHQ", b"&^%$#@!\0", 24, 2, len(payload)) + payload

    future = Instrument("t", Decimal("0.01"), sessions=(("09:30", "11:30"),))
    return Sample("wondertrader", {"t.dsb": out.tobytes()}, future, pack=pack)


def _changes(s: Step, before: Step | None) -> list[tuple[int, int, int]]:
    # (side, price, new quantity) of the levels that a step changed
    out = []
    for side, now, old in (
        (1, s.bids, before.bids if before else []),
        (-1, s.asks, before.asks if before else []),
    ):
        was, is_ = dict(old), dict(now)
        out += [
            (side, px, is_.get(px, 0)) for px in sorted(was.keys() | is_.keys()) if was.get(px) != is_.get(px)
        ]
    return out


def _binance() -> Sample:
    steps, out = flow()[11:], []
    for n, s in enumerate(steps):
        ms = T0 // 10**6 + 10 * n

        def put(data: dict[str, Any], ms: int = ms) -> None:
            out.append(
                f"{ms * 1000 + 5000} " + json.dumps({"stream": "x", "data": data}, separators=(",", ":"))
            )

        def text(pairs: Pairs) -> list[list[str]]:
            return [[f"{px / 100:.2f}", f"{qty}.000"] for px, qty in pairs]

        if n == 0:
            snap = {"lastUpdateId": 100, "E": ms, "T": ms, "bids": text(s.bids), "asks": text(s.asks)}
            out.append(f"{ms * 1000 + 5000} {json.dumps(snap)}")
            continue
        if s.kind == "execute":
            put({
                "e": "trade", "E": ms, "T": ms, "s": "T", "t": n, "p": f"{s.px / 100:.2f}", "q": str(s.qty),
                "X": "MARKET", "m": s.side > 0,
            })  # fmt: skip
        changed = _changes(s, steps[n - 1])
        put({
            "e": "depthUpdate", "E": ms, "T": ms, "s": "T", "U": 100 + n, "u": 100 + n, "pu": 99 + n,
            "b": text([(p, q) for side, p, q in changed if side > 0]),
            "a": text([(p, q) for side, p, q in changed if side < 0]),
        })  # fmt: skip
        (b, bq), (a, aq) = s.bids[0], s.asks[0]
        put({
            "e": "bookTicker", "u": 100 + n, "s": "T", "b": f"{b / 100:.2f}", "B": str(bq),
            "a": f"{a / 100:.2f}", "A": str(aq), "T": ms, "E": ms,
        })  # fmt: skip
    coin = Instrument("T", Decimal("0.01"), timezone="UTC")
    return Sample("binance", {"t.dat": ("\n".join(out) + "\n").encode()}, coin, pack=gz)


def _tardis() -> Sample:
    book, prints = [",".join(tardis.BOOK)], [",".join(tardis.TRADES)]
    steps = flow()[11:]
    for n, s in enumerate(steps):
        us, first = T0 // 1000 + 10 * n, "true" if n == 0 else "false"
        if s.kind == "execute":
            side = "sell" if s.side > 0 else "buy"
            prints.append(f"x,T,{us},{us + 9},{n},{side},{s.px / 100},{s.qty}")
        for side, px, qty in _changes(s, steps[n - 1] if n else None):
            book.append(f"x,T,{us},{us + 7},{first},{'bid' if side > 0 else 'ask'},{px / 100},{qty}")
    files = {"book.csv": book, "trades.csv": prints}
    return Sample("tardis", {n: ("\n".join(t) + "\n").encode() for n, t in files.items()}, STOCK, pack=gz)


def _npz(name: str, content: bytes) -> tuple[str, bytes]:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("data.npy"), content)
    return name.replace(".npy", ".npz"), out.getvalue()


def _hftbacktest(level: str) -> Sample:
    both, out, steps = hft_rows.EXCH | hft_rows.LOCAL, [], flow()
    for n, s in enumerate(steps):
        ts, side = T0 + 1000 * n, hft_rows.BID if s.side > 0 else hft_rows.ASK
        other = hft_rows.ASK if s.side > 0 else hft_rows.BID
        rows = []
        if s.kind == "execute":
            rows.append((hft_rows.TRADE | other, s.px, s.qty, 0))
        if level == "L2":
            for at, px, qty in _changes(s, steps[n - 1] if n else None):
                rows.append((hft_rows.DEPTH | (hft_rows.BID if at > 0 else hft_rows.ASK), px, qty, 0))
        elif s.kind == "add":
            rows.append((hft_rows.ADD | side, s.px, s.qty, s.order))
        else:
            if s.kind == "execute":
                rows.append((hft_rows.FILL | side, s.px, s.qty, s.order))
            what = hft_rows.MODIFY if s.left else hft_rows.CANCEL
            rows.append((what | side, s.px, s.left or s.qty, s.order))
        out += [(ev | both, ts, ts + 500, px / 100, float(qty), o, 0, 0.0) for ev, px, qty, o in rows]
    content = io.BytesIO()
    np.save(content, np.array(out, hft_rows.ROW))
    return Sample("hftbacktest", {"t.npy": content.getvalue()}, STOCK, pack=_npz)


@dataclass
class _Interval:
    start_date: dt.date
    end_date: dt.date
    symbol: str


@dataclass
class _Mapping:
    raw_symbol: str
    intervals: list[_Interval]


def _databento(schema: str) -> Sample:
    import databento_dbn as dbn

    day = dt.date(2023, 11, 14)
    head = dbn.Metadata(
        dataset="XNAS.ITCH", start=T0, stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.from_str(schema), symbols=["T"],
        mappings=[_Mapping("T", [_Interval(day, day + dt.timedelta(days=1), "42")])],
    )  # fmt: skip
    out = [bytes(head)]
    for s in flow()[0 if schema == "mbo" else 12 :]:
        at = {
            "publisher_id": 1,
            "instrument_id": 42,
            "ts_event": T0 + 1000 * s.n,
            "ts_recv": T0 + 1000 * s.n + 90,
        }
        side, other = (dbn.Side.BID, dbn.Side.ASK) if s.side > 0 else (dbn.Side.ASK, dbn.Side.BID)
        px = s.px * 10**7
        if schema == "mbo":

            def put(
                action: str, side: Any, order: int, flags: int, at: Any = at, px: int = px, s: Step = s
            ) -> None:
                act = dbn.Action.from_str(action)
                out.append(
                    bytes(
                        dbn.MBOMsg(
                            order_id=order, price=px, size=s.qty, action=act, side=side, flags=flags, **at
                        )
                    )
                )

            if s.kind == "execute":
                put("T", other, 0, 0)
                put("F", side, s.order, 0)
            put("A" if s.kind == "add" else "C", side, s.order, 128)
            continue
        none = dbn.BidAskPair(bid_px=2**63 - 1, ask_px=2**63 - 1, bid_sz=0, ask_sz=0)
        levels = [none] * 10
        for k in range(10):
            (b, bq), (a, aq) = (p[k] if k < len(p) else (None, 0) for p in (s.bids, s.asks))
            levels[k] = dbn.BidAskPair(
                bid_px=2**63 - 1 if b is None else b * 10**7, bid_sz=bq,
                ask_px=2**63 - 1 if a is None else a * 10**7, ask_sz=aq,
            )  # fmt: skip
        act = dbn.Action.TRADE if s.kind == "execute" else dbn.Action.MODIFY
        out.append(
            bytes(
                dbn.MBP10Msg(
                    price=px,
                    size=s.qty,
                    action=act,
                    side=other,
                    depth=0,
                    flags=128,
                    levels=tuple(levels),
                    **at,
                )
            )
        )
    return Sample("databento", {"t.dbn": b"".join(out)}, STOCK, pack=zst)


def _fi2010() -> Sample:
    rows: list[list[str]] = []
    steps = flow()[20:]
    for k in range(LEVELS):
        for name, at, scale in (
            ("asks", 0, 10_000),
            ("asks", 1, 100_000),
            ("bids", 0, 10_000),
            ("bids", 1, 100_000),
        ):
            pairs = [getattr(s, name) for s in steps]
            rows.append([f"{(p[k][at] if k < len(p) else 0) / scale:.7e}" for p in pairs])
    rows += [["0.5"] * len(steps)] * 109
    return Sample(
        "fi2010", {"t.txt": "\n".join("  ".join(r) for r in rows).encode() + b"\n"}, STOCK, pack=zipped
    )


MAKERS: dict[str, Callable[[], Sample]] = {
    "lobster": _lobster,
    "itch": _itch,
    "sse": _sse,
    "ctp": _ctp,
    "ctp-parquet": _parquet,
    "wondertrader": _wondertrader,
    "binance": _binance,
    "tardis": _tardis,
    "hftbacktest-L2": lambda: _hftbacktest("L2"),
    "hftbacktest-L3": lambda: _hftbacktest("L3"),
    "databento-mbo": lambda: _databento("mbo"),
    "databento-mbp": lambda: _databento("mbp-10"),
    "fi2010": _fi2010,
}


@pytest.fixture(params=MAKERS)
def sample(request: pytest.FixtureRequest) -> Sample:
    """One sample after the other."""
    if request.param.startswith("databento") and importlib.util.find_spec("databento_dbn") is None:
        pytest.skip("needs databento-dbn")
    return MAKERS[request.param]()


@pytest.fixture(params=["amzn", "moutai", "rb-sample", "btcusdt", "if"])
def real_sample(request: pytest.FixtureRequest, real_data_home: Path) -> Sample:
    """The first rows of a real file, one market after the other."""
    spec = manifest(request.param)
    path = real_data_home / spec.files[0].path
    files: dict[str, bytes] = {}
    pack: Callable[[str, bytes], tuple[str, bytes]] = gz
    if spec.format == "wondertrader":
        pack = _wondertrader().pack
        files[path.name] = wondertrader.read(path)[:300].tobytes()
    else:
        for name, content in read_members(path):
            lines = 4000 if spec.format == "binance" else 300
            kept = [line for line in content.split(b"\n") if spec.format != "sse" or b"MsgType=192" in line]
            if not name.endswith(".txt"):
                files[name] = b"\n".join(kept[:lines]) + b"\n"
        pack = zipped if path.suffix == ".zip" else gz
    options = dict(spec.options)
    if spec.format == "sse":
        options["date"] = "2023-02-07"
    return Sample(spec.format, files, spec.instrument.build(), options, pack)
