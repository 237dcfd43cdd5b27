"""FI-2010 text: decimal-precision files are read, the others refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsim.data.conversion import Conversion, no_progress
from mmsim.data.formats import fi2010
from mmsim.errors import ConfigError, DataError
from mmsim.testing.markets import tiny_market
from mmsim.types import EventKind, Instrument

STOCK = Instrument("KESBV", Decimal("0.01"), unit_lots=100, currency="EUR", timezone="Europe/Helsinki")
START = 1_275_375_600_000_000_000  # 2010-06-01 10:00 in Helsinki (UTC+3)
Level = tuple[int, int]
Sample = tuple[list[Level], list[Level]]  # bids and asks: cents, shares; best first


def sample(mid: int, n: int = 0) -> Sample:
    return [(mid - 1 - k, 100 + n) for k in range(10)], [(mid + 1 + k, 200 + n) for k in range(10)]


def table(samples: list[Sample]) -> list[list[str]]:
    """Return 149 rows of text as published: prices / 100 and sizes / 100,000 in scientific notation."""
    rows: list[list[str]] = []
    for k in range(10):
        for side, what, scale in ((1, 0, 10_000), (1, 1, 100_000), (0, 0, 10_000), (0, 1, 100_000)):
            rows.append([f"{s[side][k][what] / scale:.7e}" for s in samples])
    rows += [["0.5"] * len(samples)] * 104 + [["2.0"] * len(samples)] * 5
    assert len(rows) == 149
    return rows


def write(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("\n".join("   " + "   ".join(row) for row in rows) + "\n")
    return path


def convert(*paths: Path, instrument: Instrument = STOCK, **options: object) -> Conversion:
    return fi2010.FORMAT.convert(list(paths), instrument, options, no_progress).finish()


def test_samples_times_and_segments(tmp_path: Path, balance: Any) -> None:
    samples = [sample(2615), sample(2615, 5), sample(2616), sample(1400), sample(1400, 1), sample(3000)]
    path = write(tmp_path / "Train_Dst_NoAuction_DecPre_CF_1.txt", table(samples))
    done = convert(path)
    assert done.messages == {"sample": len(path.read_text().splitlines()[0].split())}
    assert balance(done) == ((0, 0), (0, 0), {})
    assert done.tape is not None
    assert done.tape.unit == "trades (the format has none)"
    assert (done.level, done.view_depth) == ("snapshot", 10)
    assert [s.label for s in done.segments] == ["001", "002"]  # another stock, by the jump of its price
    ev = done.events
    assert not (ev["kind"] == EventKind.TRADE).any()
    ends = ev["ts"][ev["flags"] & 1 > 0] - START
    hour = 3_602 * 10**9
    assert ends.tolist() == [0, 10**9, 2 * 10**9, hour, hour + 10**9]
    first = ev[:20]
    assert first["px"][first["side"] > 0].tolist() == [2614 - k for k in range(10)]
    assert first["px"][first["side"] < 0].tolist() == [2616 + k for k in range(10)]
    assert set(first["qty"].tolist()) == {100, 200}
    assert (done.counts["rows_read"], done.counts["rows_used"], done.counts["dropped_lone_samples"]) == (
        6,
        5,
        1,
    )
    assert done.counts["lots_traded"] == 0
    assert "times are made up, 1000 ms apart" in done.notes[-1]


def test_options(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", table([sample(2615), sample(2620), sample(2625)]))
    done = convert(path, start="2010-06-02T12:00", step_ms="250", depth="3")
    assert done.view_depth == 3
    assert np.unique(done.events["ts"] - START - 26 * 3600 * 10**9).tolist() == [0, 250_000_000, 500_000_000]
    for name, value in (
        ("step_ms", "0"),
        ("depth", "11"),
        ("start", "noon"),
        ("jump", "x"),
        ("price_scale", "-1"),
    ):
        with pytest.raises(ConfigError, match=f"option {name}: expected"):
            convert(path, **{name: value})
    with pytest.raises(ConfigError, match="unknown option 'step'"):
        convert(path, step="1")


def test_scores_are_refused_with_the_reason(tmp_path: Path) -> None:
    samples = [sample(2615 + k % 3, k) for k in range(50)]
    rows = table(samples)
    for name, what in (("Train_Dst_NoAuction_ZScore_CF_1.txt", "z-score"), ("a_MinMax_b.txt", "min-max")):
        with pytest.raises(
            DataError, match=f"expected a DecPre file, was a {what} one by its name: only the decimal"
        ):
            convert(write(tmp_path / name, rows))
    values = np.array([[float(v) for v in row] for row in rows[:40]])
    spread = np.maximum(values.std(axis=1, keepdims=True), 1e-9)
    score = [[f"{v:.7e}" for v in row] for row in (values - values.mean(axis=1, keepdims=True)) / spread]
    with pytest.raises(
        DataError, match=r"expected prices, was a negative one \(a z-score\).*a simulator needs them"
    ):
        convert(write(tmp_path / "a.txt", [*score, *rows[40:]]))
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    unit = [[f"{v:.7e}" for v in row] for row in (values - low) / np.maximum(high - low, 1e-9) + 1e-4]
    with pytest.raises(
        DataError, match="expected prices, was best ask, best bid and second ask out of order"
    ):
        convert(write(tmp_path / "a.txt", [*unit, *rows[40:]]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:148], r"row 149: expected 149 rows .*, was 148"),
        (lambda rows: [*rows, ["1"]], r"row 150: expected 149 rows .*, was 150"),
        (
            lambda rows: [*rows[:9], rows[9][:-1], *rows[10:]],
            r"row 10: expected 2 columns as in row 1, was 1",
        ),
        (lambda rows: [["x", "y"], *rows[1:]], r"row 1: expected numbers"),
        (
            lambda rows: [*rows[:6], ["0.26133", "0.2613"], *rows[7:]],
            r"row 7, field 'bid price 2, sample 1': expected a multiple of 0.0001, was '0.26133'; 0.01 times 1/100",
        ),
        (
            lambda rows: [rows[0], ["0.000001", "0.002"], *rows[2:]],
            r"row 2, field 'ask size 1, sample 1': expected a multiple of 0.00001",
        ),
        (
            lambda rows: [*rows[:6], ["0.2614", "0.2614"], *rows[7:]],
            r"row 1, field 'bid price': expected level 2 behind level 1",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: Callable[[Any], Any], said: str) -> None:
    rows = table([sample(2615), sample(2615, 1)])
    with pytest.raises(DataError, match=said):
        convert(write(tmp_path / "a.txt", change(rows)))


def test_a_crossed_sample_is_counted(tmp_path: Path) -> None:
    samples = [sample(2615, k) for k in range(40)]
    samples[7] = (sample(2617)[0], samples[7][1])
    assert convert(write(tmp_path / "a.txt", table(samples))).checks == {
        "crossed_books": 0,
        "locked_books": 1,
    }


def test_a_market_gives_the_same_book(tmp_path: Path) -> None:
    # the ten best levels of a generated market, sample by sample
    market = tiny_market(4, level="L2", seconds=6)
    events = market.events[: market.segments[0].stop]
    books: list[dict[int, dict[int, int]]] = []
    now: dict[int, dict[int, int]] = {1: {}, -1: {}}
    for e in events:
        if e["kind"] == EventKind.LEVEL:
            now[int(e["side"])].pop(int(e["px"]), None)
            if e["qty"]:
                now[int(e["side"])][int(e["px"])] = int(e["qty"])
        if e["flags"] & 1:
            books.append({s: dict(v) for s, v in now.items()})
    full = [b for b in books if len(b[1]) >= 3 and len(b[-1]) >= 3]
    samples: list[Sample] = []
    for b in full:
        bids, asks = sorted(b[1].items(), reverse=True)[:10], sorted(b[-1].items())[:10]
        samples.append((bids + [(0, 0)] * (10 - len(bids)), asks + [(0, 0)] * (10 - len(asks))))
    done = convert(write(tmp_path / "a.txt", table(samples)), jump="1")
    shown: dict[int, dict[int, int]] = {1: {}, -1: {}}
    got = []
    for e in done.events:
        side, px, qty = int(e["side"]), int(e["px"]), int(e["qty"])
        shown[side].pop(px, None)
        if e["kind"] == EventKind.LEVEL and qty:
            shown[side][px] = qty
        if e["flags"] & 1:
            got.append((sorted(shown[1].items(), reverse=True), sorted(shown[-1].items())))
    assert got == [([x for x in b if x[1]], [x for x in a if x[1]]) for b, a in samples]
