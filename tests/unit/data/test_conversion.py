"""Exact units, checked events, and the invariants that `Conversion.finish` guards."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim.data.conversion import (
    Conversion,
    TooManyLotsError,
    build_events,
)
from mmsim.data.origin import Origin
from mmsim.data.steps import units_from_float, units_from_text
from mmsim.errors import DataError
from mmsim.sessions import midnight_ns
from mmsim.types import EventFlag, EventKind, Segment

TICKS = [Decimal(t) for t in ("0.2", "0.01", "0.1", "1", "10", "0.001", "0.0001")]


@given(st.lists(st.integers(-(10**9), 10**9), max_size=30), st.sampled_from(TICKS))
def test_text_and_float_give_the_same_exact_ticks(ticks: list[int], step: Decimal) -> None:
    texts = [str(t * step) for t in ticks]
    assert units_from_text(texts, step).tolist() == ticks
    floats = np.array([float(t) for t in texts])
    assert units_from_float(floats, step).tolist() == ticks


@pytest.mark.parametrize("text", ["nan", "inf", "", "1.2.3", "0.3", "12a", "-"])
def test_text_that_is_no_multiple_names_row_and_field(text: str) -> None:
    with pytest.raises(DataError, match=r"f\.csv, row 3, field 'bid': expected .* was") as caught:
        units_from_text(["0.2", "0.4", text], Decimal("0.2"), Origin("f.csv"), "bid")
    assert (caught.value.source, caught.value.row, caught.value.field) == ("f.csv", 3, "bid")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.3, 5230.1, 1.797e308])
def test_float_off_the_grid_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="row 12, field 'price'"):
        units_from_float(np.array([0.2, value]), Decimal("0.2"), Origin("", np.array([11, 12])), "price")


def test_a_step_that_dust_does_not_divide_names_the_largest_that_would() -> None:
    with pytest.raises(
        DataError, match=r"row 2, field 'q': .*was '0\.00012'.*0\.00006 divides every"
    ) as caught:
        units_from_text(["1.5", "0.00012", "0.00018", "0"], Decimal("0.001"), field="q", option="--lot-size")
    assert str(caught.value).endswith("--lot-size 0.00006")
    with pytest.raises(DataError, match=r"was 0\.3: 0\.1 divides every value here: --tick-size 0\.1$"):
        units_from_float(np.array([0.2, 0.3, 7.0]), Decimal("0.2"), option="--tick-size")
    # without one that fits: no advice
    with pytest.raises(DataError, match=r"was 0\.3333333333333333$"):
        units_from_float(np.array([0.3333333333333333, 0.2]), Decimal("0.2"), option="--tick-size")


@pytest.mark.parametrize(
    "text", ["1e300", "1E999999999", "-1e30", "0.2000000000000000000000000000000000001", "9" * 40]
)
def test_absurd_text_is_refused_not_wrapped(text: str) -> None:
    with pytest.raises(DataError, match="row 2"):
        units_from_text(["0.2", text], Decimal("0.2"))


def test_a_float_that_overflows_in_steps_is_refused() -> None:
    with pytest.raises(DataError, match="row 2: expected"):
        units_from_float(np.array([1.0, 2.0**52]), Decimal("0.00000001"))


def test_lots_beyond_32_bits_name_the_lot_size_that_would_do() -> None:
    columns = {"ts": [1, 2], "kind": 6, "side": 1, "px": 5}
    with pytest.raises(TooManyLotsError, match="lot size 5000 times as large") as caught:
        build_events(**columns, qty=[15_000, 5 * 10**9])
    assert caught.value.factor == 5000
    with pytest.raises(DataError, match="no larger lot size divides all of them"):
        build_events(**columns, qty=[15_001, 5 * 10**9])


def test_repeated_text_reports_its_first_row() -> None:
    with pytest.raises(DataError) as caught:
        units_from_text(["1", "x", "1", "x"], Decimal(1), Origin("", np.array([10, 20, 30, 40])))
    assert caught.value.row == 20


@pytest.mark.parametrize(("name", "value"), [("px", 2**31), ("qty", 2**31), ("qty", -1), ("oid", 2**32)])
def test_values_beyond_32_bits_are_refused(name: str, value: int) -> None:
    columns = {"ts": [1, 2], "kind": 6, "side": 1, "px": 5, "qty": 1, "oid": 0} | {name: [0, value]}
    with pytest.raises(DataError, match=f"row 2, field '{name}'"):
        build_events(**columns)


def _conversion(**changes: object) -> Conversion:
    events = build_events(
        ts=[1, 1, 2, 2], kind=int(EventKind.LEVEL), side=[1, -1, 1, -1], px=[9, 11, 8, 12], qty=[5, 5, 1, 1]
    )
    events["flags"] = [0, EventFlag.LAST, 0, EventFlag.LAST]
    for name, (row, value) in changes.items():
        events[name][row] = value
    return Conversion(events, (Segment(0, 4, "a"),), "L2")


def test_finish_sets_the_price_range() -> None:
    done = _conversion().finish()
    assert (done.px_min, done.px_max) == (8, 12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ts": (2, 0)}, "non-decreasing time"),
        ({"kind": (1, 9)}, "known EventKind"),
        ({"side": (1, 2)}, "side -1, 0 or 1"),
        ({"oid": (1, 1)}, "slot below 1"),
        ({"flags": (3, 0)}, "LAST"),
    ],
)
def test_finish_refuses_what_the_kernel_cannot_replay(change: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        _conversion(**change).finish()


def test_finish_refuses_no_events_and_open_segments() -> None:
    with pytest.raises(DataError, match="was none"):
        Conversion(build_events(ts=[], kind=6, side=1, px=[], qty=[]), (), "L2").finish()
    done = _conversion()
    done.segments = (Segment(0, 2, "a"),)
    with pytest.raises(DataError, match="segments over 4 events, was 2"):
        done.finish()
    done = _conversion()
    done.recv_ts = np.zeros(3, np.int64)
    with pytest.raises(DataError, match="4 receive times, was 3"):
        done.finish()


def test_midnight_knows_the_zone_and_daylight_saving() -> None:
    # 2012-06-21 is EDT (UTC-4), 2012-01-21 EST (UTC-5)
    assert midnight_ns("2012-06-21", "America/New_York") == 1340251200 * 10**9
    assert midnight_ns("20120121", "America/New_York") == 1327122000 * 10**9
