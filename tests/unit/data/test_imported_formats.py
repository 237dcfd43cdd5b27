"""The formats as typed: import, check and export on the command line, and a backtest on what was imported."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mmsim.data
from mmsim.cli import data as command
from mmsim.cli.main import main
from mmsim.config import SimConfig
from mmsim.data.export import export
from mmsim.data.manifest import FORMATS, manifest
from mmsim.data.snapshots import NS
from mmsim.registry import make_agent
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market

T0 = 1_700_000_000_000_000  # us


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command and return (exit code, standard output, standard error)."""

    def run(*argv: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["data", *argv])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def tardis(folder: Path) -> list[str]:
    rows = ["exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"]
    for k in range(600):
        us = T0 + k * 100_000
        for side, px in (("bid", "99.9"), ("ask", "100.1")):
            rows.append(f"x,y,{us},{us + 90},{'true' if k == 0 else 'false'},{side},{px},{1 + k % 3}")
    (folder / "book.csv").write_text("\n".join(rows) + "\n")
    return [str(folder / "book.csv"), "--tick-size", "0.1"]


def itch(folder: Path) -> list[str]:
    def message(letter: bytes, at: int, body: bytes, size: int) -> bytes:
        out = letter + struct.pack(">HH", 1, 0) + at.to_bytes(6, "big") + body
        return struct.pack(">H", size) + out.ljust(size, b" ")

    out = [message(b"R", 10, b"XYZ     ", 39)]
    for k in range(4000):
        side, px = (b"B", 1_000_000) if k % 2 else (b"S", 1_000_100)
        body = struct.pack(">QcI8sI", k + 1, side, 100 + k, b"XYZ     ", px)
        out.append(message(b"A", (34_200 + k) * NS, body, 36))
    (folder / "01302020.NASDAQ_ITCH50").write_bytes(b"".join(out))
    return [str(folder / "01302020.NASDAQ_ITCH50")]


def fi2010(folder: Path) -> list[str]:
    n = 400
    rows = []
    for k in range(10):
        for side, base in ((1, 2616), (-1, 2614)):
            rows.append(" ".join(f"{(base + side * k) / 10_000:.7e}" for _ in range(n)))
            rows.append(" ".join(f"{(100 + i % 7 + k) / 100_000:.7e}" for i in range(n)))
    rows += [" ".join(["0"] * n)] * 109
    (folder / "Test_Dst_NoAuction_DecPre_CF_7.txt").write_text("\n".join(rows) + "\n")
    return [str(folder / "Test_Dst_NoAuction_DecPre_CF_7.txt")]


def databento(folder: Path) -> list[str]:
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
    (folder / "x.mbo.dbn").write_bytes(b"".join(out))
    return [str(folder / "x.mbo.dbn"), "--tick-size", "0.01"]


def hftbacktest(folder: Path) -> list[str]:
    export(tiny_market(1, level="L2", seconds=30), folder / "x.npz")
    return [str(folder / "x.npz"), "--tick-size", "0.01", "--lot-size", "1"]


@pytest.mark.parametrize(
    ("make", "level"),
    [(tardis, "L2"), (itch, "L3"), (fi2010, "snapshot"), (databento, "L3"), (hftbacktest, "L2")],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_import_check_and_export(say: Any, empty_cache: Path, tmp_path: Path, make: Any, level: str) -> None:
    argv = make(tmp_path)
    code, out, err = say("import", "mine", *argv, "--format", make.__name__)
    assert (code, err) == (0, "")
    assert f"level {level}" in out
    assert (manifest("mine").format, manifest("mine").replay.level) == (make.__name__, level)
    code, out, _ = say("check", "mine", "--json", "-")
    report = json.loads(out)
    assert code == 0
    assert (report["level"], report["crossed_books"]) == (level, 0)
    assert report["splits"]["test"]["episodes"] >= 1
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
    assert command.FORMATS == FORMATS
    code, out, _ = say("import", "--help")
    assert code == 0
    for name in FORMATS:
        assert f"{name}: " in out


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
