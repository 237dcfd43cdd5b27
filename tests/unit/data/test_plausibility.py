"""What is no market is refused before it is cached; what is odd is counted and said."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsim.data
from mmsim.config import SimConfig
from mmsim.data.book_states import CROSSED, EMPTY, LOCKED, ONE_SIDED, OPEN, states
from mmsim.data.conversion import Conversion, build_events
from mmsim.data.locked import drop_locked
from mmsim.data.manifest import Manifest, manifest, parse_manifest
from mmsim.data.plausibility import check
from mmsim.errors import ConfigError, DataError
from mmsim.registry import make_agent
from mmsim.sessions import NS
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim.types import EventFlag, EventKind, Segment

T0 = 1_700_000_000 * NS
LEVEL, TRADE, HIDE, CLEAR = (
    int(k) for k in (EventKind.LEVEL, EventKind.TRADE, EventKind.HIDE, EventKind.CLEAR)
)
ADD, REDUCE, DELETE, EXECUTE = (
    int(k) for k in (EventKind.ADD, EventKind.REDUCE, EventKind.DELETE, EventKind.EXECUTE)
)
Row = tuple[int, int, int, int, int, int]  # ts, kind, side, px, qty, flags


def spec(level: str = "L2", *, instrument: dict[str, Any] | None = None, **more: Any) -> Manifest:
    """Return the manifest of an imported market that trades around the clock."""
    values = {
        "name": "mine", "title": "mine", "kind": "licensed", "format": "tardis", "imported": True,
        "instrument": {"name": "x", "tick_size": "0.01", "timezone": "UTC"} | (instrument or {}),
        "replay": {"level": level, "decision_ns": 0, "episode_s": 60},
        "splits": {"fractions": [0.6, 0.2, 0.2], "gap_s": 0},
    }  # fmt: skip
    return parse_manifest(values | more, "mine")


def conversion(rows: list[Row], **more: Any) -> Conversion:
    events = build_events(
        **dict(zip(("ts", "kind", "side", "px", "qty", "flags"), zip(*rows, strict=True), strict=True))
    )
    return Conversion(events, (Segment(0, len(events), "a"),), "L2", **more).finish()


def quotes(
    pairs: list[tuple[int, int]], *, step_ns: int = NS, trade: Callable[[int], int] | None = None
) -> list[Row]:
    """Return rows of one bid and one ask a second, with a trade of 2 lots after each where `trade` gives a price."""
    rows: list[Row] = []
    had: tuple[int, int] | None = None
    for i, (bid, ask) in enumerate(pairs):
        ts = T0 + i * step_ns
        if had is not None:
            rows += [(ts, LEVEL, 1, had[0], 0, 0)] * (had[0] != bid) + [(ts, LEVEL, -1, had[1], 0, 0)] * (
                had[1] != ask
            )
        rows += [(ts, LEVEL, 1, bid, 5 + i % 3, 0), (ts, LEVEL, -1, ask, 5, 1)]
        if trade is not None:
            rows.append((ts, TRADE, 1 if i % 2 else -1, trade(i), 2, 1))
        had = bid, ask
    return rows


def usual(i: int) -> tuple[int, int]:
    return 10_000 + i % 30, 10_001 + i % 30


def market(n: int = 600, quote: Callable[[int], tuple[int, int]] = usual, **more: Any) -> Conversion:
    pairs = [quote(i) for i in range(n)]
    return conversion(quotes(pairs, trade=lambda i: pairs[i][i % 2]), **more)


def test_a_usual_market_has_figures_and_nothing_to_say() -> None:
    report = check(spec(), market())
    assert (report["notes"], report["allowed"]) == ([], [])
    f = report["figures"]
    # the last row's time is the end of the trading time, so its message is not in it
    assert (f["messages"], f["seconds"], f["trades"]) == (1198, 599.0, 599)
    assert (f["median_price_ticks"], f["median_spread_ticks"]) == (10_014.5, 1.0)
    assert (f["median_quote_lots"], f["median_trade_lots"]) == (5.0, 2.0)
    assert f["splits"] == {
        "train": {"episodes": 6, "trades": 360}, "validation": {"episodes": 2, "trades": 120},
        "test": {"episodes": 2, "trades": 119},
    }  # fmt: skip


def refused(
    done: Conversion, name: str, said: str, of: Manifest | None = None, **manifest_values: Any
) -> None:
    of = of or spec(**manifest_values)
    with pytest.raises(DataError, match=said) as caught:
        check(of, done)
    assert f"--allow {name} imports it as it is" in str(caught.value)
    report = check(of.model_copy(update={"allow": (name,)}), done)
    assert report["allowed"] == [name]
    assert f"allowed ({name}): " in " ".join(report["notes"])


def test_a_book_that_is_mostly_crossed_is_refused() -> None:
    swapped = market(quote=lambda i: (10_003 + i % 30, 10_001 + i % 30))
    refused(swapped, "crossed", r"best bid is above the best ask for 100\.0% of the trading time.*swapped")
    brief = market(quote=lambda i: usual(i) if i % 50 else (10_004 + i % 30, 10_001 + i % 30))
    [note] = check(spec(), brief)["notes"]
    assert "best ask for 2.0% of the trading time" in note


def test_a_book_locked_for_a_third_of_the_time_is_noted_and_for_most_refused() -> None:
    third = market(quote=lambda i: (usual(i)[0], usual(i)[0] + (i % 3 > 0)))
    [note] = check(spec(), third)["notes"]
    assert "the best bid equals the best ask for 33.4% of the trading time" in note
    assert "--locked drop" in note
    refused(market(quote=lambda i: (usual(i)[0],) * 2), "locked", "equals the best ask for 100.0%")
    gone = drop_locked(market(quote=lambda i: (usual(i)[0], usual(i)[0] + (i % 3 == 0))), "mine")
    refused(gone, "locked", r"were left out \(--locked drop\): .*% of all", locked="drop")


@pytest.mark.parametrize(
    ("divisor", "said"),
    [
        (1_000, "1970-01-20T16:13:20Z: microseconds were read as nanoseconds"),
        (1_000_000, "1970-01-01T00:28:20Z: milliseconds were read as nanoseconds"),
    ],
)
def test_times_that_are_not_of_our_age_name_the_unit(divisor: int, said: str) -> None:
    rows = quotes([usual(i) for i in range(6000)], step_ns=divisor * NS // 20)
    refused(conversion([(ts // divisor, *rest) for ts, *rest in rows]), "times", said)


def test_a_stray_date_makes_a_segment_too_long() -> None:
    rows = quotes([usual(i) for i in range(600)])
    stray = [*rows, (T0 + 40 * 86_400 * NS, LEVEL, 1, 9_000, 1, 1)]
    refused(conversion(stray), "times", r"lasts 40\.0 days \(expected up to 31\)")
    days = conversion([*rows, (T0 + 8 * 86_400 * NS, LEVEL, 1, 9_000, 1, 1)])
    assert any("lasts 8.0 days" in n for n in check(spec(), days)["notes"])


def test_the_same_day_twice_is_refused() -> None:
    once = market()
    both = Conversion(
        np.concatenate([once.events] * 2),
        (Segment(0, len(once.events), "a"), Segment(len(once.events), 2 * len(once.events), "b")),
        "L2",
    ).finish()
    refused(both, "twice", "the same data in segments a and b: leave one of the files out")


def test_trades_far_from_the_quotes_are_counted_and_refused() -> None:
    pairs = [usual(i) for i in range(600)]

    def done(every: int, px: int) -> Conversion:
        return conversion(quotes(pairs, trade=lambda i: px if i % every == 0 else pairs[i][i % 2]))

    refused(done(1, 100_000), "trades", r"599 of 599 trades \(100\.0%.*--multiplier")
    [note] = check(spec(), done(100, 9_700))["notes"]
    assert "6 of 599 trades" in note
    assert check(spec(), done(100, 9_850))["notes"] == []  # within 2 %


def test_trades_of_one_side_are_noted() -> None:
    rows = [
        (*r[:2], 1, *r[3:]) if r[1] == TRADE else r
        for r in quotes([usual(i) for i in range(600)], trade=lambda i: 10_000)
    ]
    assert any(
        "599 of 599 trades have the same aggressor's side" in n
        for n in check(spec(), conversion(rows))["notes"]
    )


def test_a_tick_size_that_the_prices_do_not_use_is_refused() -> None:
    refused(
        market(quote=lambda i: (10_000 + 25 * (i % 30), 10_025 + 25 * (i % 30))),
        "tick-size", r"all 31 prices of the book are multiples of 0\.25, the tick size was 0\.01.*--tick-size 0\.25",
    )  # fmt: skip
    refused(
        market(quote=lambda i: (10_000 + 5 * (i % 5), 10_005 + 5 * (i % 5))),
        "tick-size",
        "all 6 prices of the book",
    )
    few = market(quote=lambda i: (10_000 + 5 * (i % 4), 10_005 + 5 * (i % 4)))
    assert check(spec(), few)["notes"] == []  # five prices may be chance
    even = market(quote=lambda i: (10_000 + 2 * (i % 30), 10_002 + 2 * (i % 30)))
    assert any("multiples of 0.02" in n for n in check(spec(), even)["notes"])


def test_a_tick_size_that_is_too_coarse_or_too_fine_is_refused() -> None:
    refused(market(quote=lambda i: (5, 6)), "tick-size", r"one tick of 0\.01 is 18\.2% of the median price")
    refused(
        market(quote=lambda i: (10**6 + i, 10**6 + i + 20_001)),
        "tick-size",
        r"median spread is 20,001 ticks of 0\.01",
    )
    assert any("is 1.8% of" in n for n in check(spec(), market(quote=lambda i: (55, 56)))["notes"])
    assert any("spread is 2,001 ticks" in n
               for n in check(spec(), market(quote=lambda i: (10**6 + i, 10**6 + i + 2_001)))["notes"])  # fmt: skip


def test_a_book_without_a_side_is_refused() -> None:
    rows = [r for r in quotes([usual(i) for i in range(600)]) if r[2] > 0]
    rows = [(*r[:5], 1) for r in rows]
    refused(conversion(rows), "one-sided", r"lacks a side for 100\.0%")


@pytest.mark.parametrize(
    ("unit", "lots", "said"),
    [
        (1, 50_000, r"an own order of --unit-lots 1 is 0.001, the median best quote 50,000 lots: dust; --unit-lots 500 "),
        (10_000, 5, "10000 is 10.000, the median best quote 5 lots: it would move the market; --unit-lots 2"),
        (1, 900, None),
        (50, 5, None),
    ],
)  # fmt: skip
def test_the_size_of_own_orders_is_compared_with_the_book(unit: int, lots: int, said: str | None) -> None:
    rows = [(*r[:4], lots if r[1] == LEVEL and r[4] else r[4], r[5])
            for r in quotes([usual(i) for i in range(600)], trade=lambda i: usual(i)[i % 2])]  # fmt: skip
    notes = check(spec(instrument={"lot_size": "0.001", "unit_lots": unit}), conversion(rows))["notes"]
    assert [said in n for n in notes] == ([True] if said else [])


def test_dead_splits_are_said() -> None:
    pairs = [usual(i) for i in range(600)]
    rows = [r for r in quotes(pairs, trade=lambda i: pairs[i][0]) if r[1] != TRADE or r[0] < T0 + 200 * NS]
    of = spec(splits={"fractions": [0.9, 0.02, 0.08], "gap_s": 0})
    notes = check(of, conversion(rows))["notes"]
    assert any("split validation has no episode" in n for n in notes)
    assert any("split test has no trade in its 1 episodes" in n for n in notes)
    assert not any("split train" in n for n in notes)
    none = conversion([r for r in rows if r[1] != TRADE])
    assert [n for n in check(spec(), none)["notes"] if "trade" in n] == [
        "no trades in trading time: own orders are filled by crossing quotes only"
    ]


def test_allow_takes_only_the_names_of_checks() -> None:
    with pytest.raises(ConfigError, match=r"allow\.0: Input should be 'times', 'twice', 'crossed'"):
        spec(allow=["everything"])


# ---- the pass over the book, against a naive one


def naive(events: np.ndarray, windows: list[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Messages and ns by state, and the state after every message, with dictionaries and no clock tricks."""
    book: dict[tuple[int, int], int] = {}
    messages, time, after = [0] * 5, [0] * 5, []
    state, since = EMPTY, int(events["ts"][0])
    for e in events:
        key = (int(e["side"]), int(e["px"]))
        kind, qty = int(e["kind"]), int(e["qty"])
        if kind == CLEAR:
            book.clear()
        elif kind in (LEVEL, HIDE):
            book[key] = qty if kind == LEVEL else 0
        elif kind == ADD:
            book[key] = book.get(key, 0) + qty
        elif kind != TRADE:
            book[key] = max(book.get(key, 0) - qty, 0)
        if not e["flags"] & 1:
            continue
        ts = int(e["ts"])
        time[state] += sum(max(0, min(ts, b) - max(since, a)) for a, b in windows)
        since = ts
        bids, asks = ([p for (s, p), q in book.items() if s == side and q > 0] for side in (1, -1))
        if bids and asks:
            gap = min(asks) - max(bids)
            state = OPEN if gap > 0 else LOCKED if gap == 0 else CROSSED
        else:
            state = ONE_SIDED if bids or asks else EMPTY
        after.append(state)
        messages[state] += any(a <= ts < b for a, b in windows)
    return messages, time, after


@st.composite
def level_events(draw: st.DrawFn) -> np.ndarray:
    rows: list[Row] = []
    ts = T0
    for _ in range(draw(st.integers(1, 40))):
        ts += draw(st.sampled_from([0, 1, 5, 2_000]))
        for _ in range(draw(st.integers(1, 3))):
            kind = draw(st.sampled_from([LEVEL] * 6 + [HIDE, TRADE, TRADE, CLEAR]))
            side = draw(st.sampled_from([1, -1]))
            px = draw(st.sampled_from([98, 99, 100, 101, 102, 1200, 5000]))
            rows.append(
                (
                    ts,
                    kind,
                    side,
                    0 if kind == CLEAR else px,
                    draw(st.integers(0, 3)) if kind == LEVEL else 1,
                    0,
                )
            )
        rows[-1] = (*rows[-1][:5], 1)
    columns = dict(zip(("ts", "kind", "side", "px", "qty", "flags"), zip(*rows, strict=True), strict=True))
    return build_events(**columns)


@given(level_events(), st.lists(st.integers(0, 60_000), min_size=0, max_size=6, unique=True))
@settings(max_examples=100)
def test_states_are_those_of_a_naive_book(events: np.ndarray, cuts: list[int]) -> None:
    cuts = sorted(cuts)[: len(cuts) // 2 * 2]
    windows = [(T0 + a, T0 + b) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
    got = states(events, windows)
    assert (got.messages.tolist(), got.time_ns.tolist(), got.after.tolist()) == naive(events, windows)


@pytest.mark.parametrize("level", ["L3", "L2", "snapshot"])
def test_states_and_trades_of_a_generated_market(level: Any) -> None:
    data = tiny_market(5, level=level, seconds=20)
    for seg in data.segments:
        events = data.events[seg.start : seg.stop]
        windows = [(int(events["ts"][0]) + NS, int(events["ts"][-1]) - NS)]
        got = states(events, windows)
        assert (got.messages.tolist(), got.time_ns.tolist(), got.after.tolist()) == naive(events, windows)
        inside = (events["ts"] >= windows[0][0]) & (events["ts"] < windows[0][1])
        traded = inside & np.isin(events["kind"], (TRADE, EXECUTE))
        aggressor = np.where(events["kind"] == TRADE, 1, -1) * events["side"]
        assert got.trades == int(traded.sum()) > 0
        assert (got.buys, got.sells) == tuple(int((aggressor[traded] == s).sum()) for s in (1, -1))
        assert (got.outside, got.unquoted) == (0, 0)


@pytest.mark.parametrize(
    ("px", "outside"),
    [(979, 1), (980, 0), (1000, 0), (1040, 0), (1041, 1)],
)
def test_a_trade_is_compared_with_the_quotes_before_and_after_it(px: int, outside: int) -> None:
    # bid 1000, ask 1002, then bid 1010, ask 1020: 2 % of half their sum (1010) is 20 ticks
    rows = [
        (T0, LEVEL, 1, 1000, 1, 0), (T0, LEVEL, -1, 1002, 1, 1),
        (T0 + 5, TRADE, 1, px, 1, 1),
        (T0 + 6, LEVEL, 1, 1010, 1, 0), (T0 + 6, LEVEL, -1, 1002, 0, 0), (T0 + 6, LEVEL, -1, 1020, 1, 1),
    ]  # fmt: skip
    got = states(conversion(rows).events, [(T0, T0 + 10)])
    assert (got.trades, got.outside) == (1, outside)
    auction = [(*r[:5], r[5] | EventFlag.AUCTION) if r[1] == TRADE else r for r in rows]
    assert states(conversion(auction).events, [(T0, T0 + 10)]).trades == 0
    assert states(conversion(rows[2:3]).events, [(T0, T0 + 10)]).unquoted == 1


# ---- leaving locked states out


@given(level_events(), st.booleans(), st.sampled_from(["L2", "snapshot"]))
@settings(max_examples=100)
def test_without_locked_states_the_book_is_what_it_was_in_between(
    events: np.ndarray, clocks: bool, level: str
) -> None:
    done = Conversion(
        events, (Segment(0, len(events), "a"),), level, recv_ts=events["ts"] + 7 if clocks else None
    )
    after, shown = naive(events, [])[2], books(events)
    message = np.cumsum(events["flags"] & 1) - (events["flags"] & 1)
    trades = events[events["kind"] == TRADE]
    traded = set(message[events["kind"] == TRADE].tolist())
    last_open = max((i for i, state in enumerate(after) if state < LOCKED), default=-1)
    wanted, now = [], ()
    for i, (ts, book) in enumerate(shown):
        if after[i] < LOCKED:
            now = book
            wanted.append((ts, book))
        elif i in traded and (level == "L2" or i > last_open):
            wanted.append((ts, now))  # trades are told, over the last book that was not locked
    if len(trades) == 0 and not np.isin(events["kind"][message <= last_open], (LEVEL, HIDE)).any():
        with pytest.raises(DataError, match="was none"):
            drop_locked(done, "mine")
        return
    out = drop_locked(done, "mine")
    assert out.counts["dropped_locked_states"] == sum(state >= LOCKED for state in after)
    assert books(out.events) == wanted
    left = out.events[out.events["kind"] == TRADE]
    names = ["ts", "px", "side", "qty"] if level == "L2" else ["px", "side", "qty"]
    assert sorted(left[names].tolist()) == sorted(trades[names].tolist())
    if clocks:
        assert out.recv_ts is not None
        assert (out.recv_ts - out.events["ts"] == 7).all()


def test_orders_cannot_be_left_out() -> None:
    data = tiny_market(1, level="L3", seconds=5)
    done = Conversion(data.events.copy(), data.segments, "L3", n_slots=data.n_slots)
    with pytest.raises(ConfigError, match="--locked drop is for level data"):
        drop_locked(done, "mine")


def books(events: np.ndarray) -> list[tuple[int, tuple[tuple[int, int, int], ...]]]:
    book: dict[tuple[int, int], int] = {}
    out = []
    for e in events:
        key = (int(e["side"]), int(e["px"]))
        if e["kind"] == CLEAR:
            book.clear()
        elif e["kind"] in (LEVEL, HIDE):
            book.pop(key, None)
            if e["kind"] == LEVEL and e["qty"]:
                book[key] = int(e["qty"])
        if e["flags"] & 1:
            out.append((int(e["ts"]), tuple(sorted((*k, q) for k, q in book.items()))))
    return out


# ---- as typed


def ctp_csv(path: Path, *, locked: int = 0, n: int = 3600) -> list[str]:
    """Write seconds of a future with multiplier 10; every `locked`-th row has bid = ask."""
    rows = ["TradingDay,UpdateTime,LastPrice,Volume,Turnover,BidPrice1,BidVolume1,AskPrice1,AskVolume1"]
    for i in range(n):
        bid = 3900 + i // 7 % 5
        ask = bid if locked and i % locked == 0 else bid + 1
        rows.append(f"20240110,09:{i // 60:02d}:{i % 60:02d},{bid},{2 * i},{2 * i * 39020},{bid},5,{ask},7")
    path.write_text("\n".join(rows) + "\n")
    return ["import", "mine", str(path), "--format", "ctp", "--tick-size", "1", "--multiplier", "10"]


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_a_market_locked_for_a_third_of_the_time_imports_and_runs(
    say: Any, empty_cache: Path, tmp_path: Path
) -> None:
    argv = ctp_csv(tmp_path / "a.csv", locked=3)
    code, out, err = say(*argv, "--episode-s", "600")
    assert (code, err) == (0, "")
    assert "note: the best bid equals the best ask for 33.3% of the trading time" in out
    kept = mmsim.data.load("mine")
    assert kept.counts["locked_books"] == 1200
    code, out, _ = say("check", "mine")
    assert code == 0
    assert "locked 33.3% (1,200 messages)" in out
    code, out, _ = say(*argv, "--episode-s", "600", "--locked", "drop", "--force")
    assert code == 0
    assert "dropped, locked states: 1,200" in out
    dropped = mmsim.data.load("mine")
    assert manifest("mine").locked == "drop"
    lots = [int(d.events["qty"][d.events["kind"] == TRADE].sum()) for d in (kept, dropped)]
    assert lots[0] == lots[1] == 2 * 3599
    for data, asked in ((kept, 400), (dropped, 400)):
        session = Session(
            data, SimConfig(), calibration={"sigma": 1.0, "A": 0.5, "k": 1.0, "mean_spread": 1.0}
        )
        result = session.run(make_agent("glft", {}), data.splits["train"][0])
        steps = result.steps
        assert abs(int(steps["asked"].sum()) - asked) <= 2
        assert (steps["bid_px"] < steps["ask_px"])[steps["asked"] == 1].all()
        assert len(result.fills) > 0


def test_a_future_without_its_multiplier_is_not_imported(say: Any, empty_cache: Path, tmp_path: Path) -> None:
    argv = ctp_csv(tmp_path / "a.csv")[:-2]
    code, out, err = say(*argv)
    assert (code, out) == (2, "")
    assert "about 10: --multiplier 10, or --option turnover=ignore" in err
    assert files(empty_cache) == []
    code, out, _ = say(*argv, "--option", "turnover=ignore")
    assert code == 0
    assert "volume without turnover: 3,599" in out


def test_what_was_allowed_stays_allowed(say: Any, empty_cache: Path, tmp_path: Path) -> None:
    argv = ctp_csv(tmp_path / "a.csv", locked=1)
    code, _, err = say(*argv)
    assert code == 2
    assert "--locked drop" in err
    assert files(empty_cache) == []
    code, out, _ = say(*argv, "--allow", "locked")
    assert code == 0
    assert "note: allowed (locked): " in out
    for folder in (empty_cache / "datasets").iterdir():
        for path in folder.iterdir():
            path.unlink()
    assert mmsim.data.load("mine", progress=False).counts["locked_books"] == 3600
    code, _, err = say(*argv, "--allow", "lockd", "--force")
    assert code == 2
    assert "allow.0" in err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--unit-lots", str(10**18)],
            "instrument.unit_lots: expected at most 1000000000",
        ),
        (["--unit-lots", str(10**9)], "expected unit_lots times max_inventory_units below 2**31"),
        (
            ["--decision-ns", str(2**63 - 1)],
            "replay.decision_ns: expected at most 864000000",
        ),
        (["--episode-s", str(10**15)], "replay.episode_s: expected at most 2678400"),
        (["--tick-size", "1e300"], "expected tick_size in 1E-18..1E+12, was 1E+300"),
        (["--multiplier", "1e-300"], "expected multiplier in 1E-18..1E+12, was 1E-300"),
        (["--locked", "maybe"], "locked: Input should be 'keep' or 'drop'"),
    ],
)
def test_absurd_settings_are_refused_by_name(
    say: Any, empty_cache: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    code, out, err = say(*ctp_csv(tmp_path / "a.csv", n=60), *more)
    assert (code, out) == (2, "")
    assert said in err
    assert files(empty_cache) == []


def test_sizes_beyond_32_bits_name_the_lot_size_that_would_do(
    say: Any, empty_cache: Path, tmp_path: Path
) -> None:
    argv = ctp_csv(tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text()
    (tmp_path / "a.csv").write_text(text.replace(",5,39", f",{3 * 10**9},39"))
    code, _, err = say(*argv)
    assert code == 2
    # every size of the day: 3e9 lots at the bid, 7 at the ask, and trades of 2
    assert "expected at most 2147483647 lots" in err
    assert "no larger lot size divides all of them" in err
    rows = (tmp_path / "a.csv").read_text().replace(",7\n", ",3000\n").splitlines()
    cells = [r.split(",") for r in rows]
    for c in cells[1:]:
        c[3], c[4] = str(int(c[3]) * 1000), str(int(c[4]) * 1000)
    (tmp_path / "a.csv").write_text("\n".join(",".join(c) for c in cells) + "\n")
    code, _, err = say(*argv)
    assert (code, err.strip()[-15:]) == (2, "--lot-size 1000")


@pytest.mark.parametrize("name", ["fees", "calibration", "nul"])
def test_reserved_names_are_refused(say: Any, empty_cache: Path, tmp_path: Path, name: str) -> None:
    argv = ctp_csv(tmp_path / "a.csv", n=60)
    code, _, err = say("import", name, *argv[2:])
    assert code == 2
    assert "which mean something else" in err
    assert files(empty_cache) == []


def test_the_same_content_under_two_names_is_refused(say: Any, empty_cache: Path, tmp_path: Path) -> None:
    argv = ctp_csv(tmp_path / "a.csv")
    content = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "b.csv").write_bytes(content)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(content))
    for second, said in (
        ("a.csv", "expected every file once, was the same content in"),
        ("b.csv", "expected every file once, was the same content in"),
        ("c.csv.gz", "the same data in segments 2024-01-10 and 2024-01-10-2"),
    ):
        code, _, err = say(*argv[:3], str(tmp_path / second), *argv[3:])
        assert (code, said in err) == (2, True), err
        assert files(empty_cache) == []
