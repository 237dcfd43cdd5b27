"""The formats as typed: import, check and export on the command line, and a backtest on what was imported."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mmsim.data
from mmsim.config import SimConfig
from mmsim.data.export import export
from mmsim.data.formats import FORMATS
from mmsim.data.manifest import manifest
from mmsim.registry import make_agent
from mmsim.sessions import NS
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim.types import EventKind

T0 = 1_700_000_000_000_000  # us


Made = tuple[list[str], tuple[int, int]]  # arguments of the import, and the trades and lots of the files


def tardis(folder: Path) -> Made:
    rows = ["exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"]
    for k in range(600):
        us = T0 + k * 100_000
        for side, px in (("bid", "99.9"), ("ask", "100.1")):
            rows.append(f"x,y,{us},{us + 90},{'true' if k == 0 else 'false'},{side},{px},{1 + k % 3}")
    (folder / "book.csv").write_text("\n".join(rows) + "\n")
    rows = ["exchange,symbol,timestamp,local_timestamp,id,side,price,amount"]
    rows += [f"x,y,{T0 + k * 10**7},{T0 + k * 10**7 + 90},{k},buy,100.1,{2 + k}" for k in range(-1, 5)]
    (folder / "trades.csv").write_text("\n".join(rows) + "\n")
    return [str(folder / "book.csv"), str(folder / "trades.csv"), "--tick-size", "0.1"], (5, 20)


def itch(folder: Path) -> Made:
    def message(letter: bytes, at: int, body: bytes, size: int) -> bytes:
        out = letter + struct.pack(">HH", 1, 0) + at.to_bytes(6, "big") + body
        return struct.pack(">H", size) + out.ljust(size, b" ")

    out = [message(b"R", 10, b"XYZ     ", 39)]
    for k in range(4000):
        side, px = (b"B", 1_000_000) if k % 2 else (b"S", 1_000_100)
        body = struct.pack(">QcI8sI", k + 1, side, 100 + k, b"XYZ     ", px)
        out.append(message(b"A", (34_200 + k) * NS, body, 36))
        if k % 1000 == 2:
            out.append(message(b"E", (34_200 + k) * NS, struct.pack(">QIQ", k, 7, k), 31))
    (folder / "01302020.NASDAQ_ITCH50").write_bytes(b"".join(out))
    return [str(folder / "01302020.NASDAQ_ITCH50")], (4, 28)


def fi2010(folder: Path) -> Made:
    n = 400
    rows = []
    for k in range(10):
        for side, base in ((1, 2616), (-1, 2614)):
            rows.append(" ".join(f"{(base + side * k) / 10_000:.7e}" for _ in range(n)))
            rows.append(" ".join(f"{(100 + i % 7 + k) / 100_000:.7e}" for i in range(n)))
    rows += [" ".join(["0"] * n)] * 109
    (folder / "Test_Dst_NoAuction_DecPre_CF_7.txt").write_text("\n".join(rows) + "\n")
    return [str(folder / "Test_Dst_NoAuction_DecPre_CF_7.txt")], (0, 0)


def databento(folder: Path) -> Made:
    dbn = pytest.importorskip("databento_dbn")
    head = dbn.Metadata(
        dataset="XNAS.ITCH", start=T0 * 1000, stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.MBO, symbols=["XYZ"],
    )  # fmt: skip
    out = [bytes(head)]
    for k in range(600):
        side, px = (dbn.Side.BID, 100) if k % 2 else (dbn.Side.ASK, 101)
        ts = T0 * 1000 + k * 10**8
        out.append(bytes(dbn.MBOMsg(1, 1, ts, k + 1, px * 10**9, 5, dbn.Action.ADD, side, ts + 9, flags=128)))
        if k == 300:  # the first ask
            bid, ask = dbn.Side.BID, dbn.Side.ASK
            out.append(bytes(dbn.MBOMsg(1, 1, ts, 0, 101 * 10**9, 2, dbn.Action.TRADE, bid, ts + 9)))
            out.append(bytes(dbn.MBOMsg(1, 1, ts, 1, 101 * 10**9, 2, dbn.Action.FILL, ask, ts + 9)))
            out.append(
                bytes(dbn.MBOMsg(1, 1, ts, 1, 101 * 10**9, 2, dbn.Action.CANCEL, ask, ts + 9, flags=128))
            )
    (folder / "x.mbo.dbn").write_bytes(b"".join(out))
    return [str(folder / "x.mbo.dbn"), "--tick-size", "0.01"], (1, 2)


def hftbacktest(folder: Path) -> Made:
    market = tiny_market(1, level="L2", seconds=30)
    export(market, folder / "x.npz")
    lots = market.events["qty"][market.events["kind"] == EventKind.TRADE]
    return [str(folder / "x.npz"), "--tick-size", "0.01", "--lot-size", "1"], (len(lots), int(lots.sum()))


@pytest.mark.parametrize(
    ("make", "level"),
    [(tardis, "L2"), (itch, "L3"), (fi2010, "snapshot"), (databento, "L3"), (hftbacktest, "L2")],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_import_check_and_export(say: Any, empty_cache: Path, tmp_path: Path, make: Any, level: str) -> None:
    argv, (trades, lots) = make(tmp_path)
    code, imported, err = say("import", "mine", *argv, "--format", make.__name__)
    assert (code, err) == (0, "")
    assert f"level {level}" in imported
    assert (manifest("mine").format, manifest("mine").replay.level) == (make.__name__, level)
    code, out, _ = say("check", "mine", "--json", "-")
    report = json.loads(out)
    assert code == 0
    assert (report["level"], report["crossed_books"]) == (level, 0)
    assert report["splits"]["test"]["episodes"] >= 1
    account = report["tape"]
    assert (account["imported"]["trades"], account["imported"]["lots"]) == (trades, lots)
    less = [sum(r[what] for r in account["missing"].values()) for what in ("trades", "lots")]
    assert [account["raw"]["trades"], account["raw"]["lots"]] == [trades + less[0], lots + less[1]]
    assert sum(report["messages"].values()) > 0
    # said by the import, and by the check
    for text in (imported, say("check", "mine")[1]):
        assert f"printed, imported: {trades:,} of them, {lots:,} lots" in text
        for kind, number in report["messages"].items():
            assert f"messages, {kind.replace('_', ' ')}: {number:,}" in text
        for reason, found in account["missing"].items():
            assert f"printed, not imported, {reason}: {found['trades']:,}, {found['lots']:,} lots" in text
    code, out, _ = say("export", "mine", "--format", "hftbacktest", "--out", str(tmp_path / "out.npz"))
    assert code == 0
    assert f"{report['events']:,} events of level {level}" in out
    code, _, _ = say("import", "back", str(tmp_path / "out.npz"), "--format", "hftbacktest", "--tick-size",
                     str(manifest("mine").instrument.tick_size))  # fmt: skip
    assert code == 0
    one, two = mmsim.data.load("mine"), mmsim.data.load("back")
    assert one.events.tobytes() == two.events.tobytes()
    assert (one.level, one.n_slots, one.segments) == (two.level, two.n_slots, two.segments)


@pytest.mark.parametrize("level", ["L3", "L2"])
def test_a_backtest_on_what_was_exported_and_imported_is_the_same(
    say: Any, empty_cache: Path, tmp_path: Path, level: Any
) -> None:
    market = tiny_market(2, level=level, seconds=40)
    export(market, tmp_path / "a.npz")
    code, _, _ = say(
        "import", "mine", str(tmp_path / "a.npz"), "--format", "hftbacktest", "--tick-size", "0.01"
    )
    assert code == 0
    mine = mmsim.data.load("mine")
    sim = SimConfig()
    fills = []
    for data in (
        market,
        replace(mine, instrument=market.instrument, max_inventory_units=5, decision_ns=market.decision_ns),
    ):
        session = Session(data, sim, calibration={"sigma": 1.0, "A": 0.5, "k": 1.0, "mean_spread": 1.0})
        fills.append(session.run(make_agent("glft", {}), market.splits["test"][0]).fills)
    assert len(fills[0]) > 0
    assert fills[0].tobytes() == fills[1].tobytes()


def test_help_lists_every_format_with_a_line(say: Any) -> None:
    code, out, _ = say("import", "--help")
    assert code == 0
    for name, record in FORMATS.items():
        assert f"{name}: {record.title}"[:60] in " ".join(out.split())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["import", "x", "{npz}", "--format", "hftbacktest"], "needs the contract's tick size"),
        (
            ["import", "x", "{npz}", "--format", "itch", "--option", "date=20200130"],
            "expected ITCH 5.0 messages",
        ),
        (["import", "x", "{npz}", "--format", "fi2010"], "expected 149 rows"),
        (
            ["import", "x", "{npz}", "--format", "tardis", "--tick-size", "1"],
            "expected the columns exchange, symbol",
        ),
        (["import", "x", "{npz}", "--format", "itch5"], "unknown format 'itch5' (did you mean 'itch'?)"),
        (["export", "sim", "--out", "x.npz"], "no dataset 'sim'"),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    say: Any, empty_cache: Path, tmp_path: Path, argv: list[str], said: str
) -> None:
    export(tiny_market(seconds=3), tmp_path / "a.npz")
    code, out, err = say(*(a.format(npz=tmp_path / "a.npz") for a in argv))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not [p for p in empty_cache.rglob("*") if p.is_file()]
