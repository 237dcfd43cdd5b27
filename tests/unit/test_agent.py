import dataclasses
from decimal import Decimal
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim.agent import Observation, Quotes, SessionContext, Strategy, coerce, to_ticks, within_limits
from mmsim.errors import ConfigError
from mmsim.records import OBSERVATION
from mmsim.types import OWN_ORDER, Instrument


def observation(bid=100, ask=101, inventory=0, **header):
    record = np.zeros(1, OBSERVATION)
    record["bid_px"], record["ask_px"], record["bid_qty"], record["ask_qty"] = bid, ask, 3, 5
    record["inventory"] = inventory
    record["n_bid"], record["n_ask"] = 2, 1
    record["bid_pxs"][0, :2] = bid, bid - 1
    record["bid_qtys"][0, :2] = 3, 9
    record["ask_pxs"][0, 0], record["ask_qtys"][0, 0] = ask, 5
    for key, value in header.items():
        record[key] = value
    return Observation(record, np.zeros(0, OWN_ORDER))


def context(**changes):
    ctx = SessionContext(
        instrument=Instrument("X", Decimal(1)), dataset="x", max_inventory=10, max_order=10, max_levels=5,
        unit=1, start_ts=0, end_ts=10**9, decision_ns=10**8, rng=np.random.default_rng(0),
    )  # fmt: skip
    return dataclasses.replace(ctx, **changes)


class Base(Strategy):
    """Base."""

    size: int = 1
    gamma: float = 0.5

    def quote(self, obs):
        return Quotes.none()


class Child(Base):
    """Child."""

    gamma: float = 0.25
    label: str = "a"
    fast: bool = False
    limit: int | None = None
    SHARED: ClassVar[int] = 7
    _hidden: int = 3


def test_parameters_are_inherited_and_overridden_bases_first():
    found = Child.parameters()
    assert list(found) == ["size", "gamma", "label", "fast", "limit"]
    assert found["gamma"] == (float, 0.25)
    assert found["limit"] == (int | None, None)


def test_constructor_converts_text_and_repr_shows_changes():
    made = Child(size="3", gamma="1e-2", fast="true", limit="4")
    assert (made.size, made.gamma, made.fast, made.limit) == (3, 0.01, True, 4)
    assert repr(made) == "Child(size=3, gamma=0.01, fast=True, limit=4)"
    assert repr(Child()) == "Child()"
    assert Child.size == 1, "class attributes stay"


def test_unknown_parameter_names_a_close_match():
    with pytest.raises(ConfigError, match=r"Child has no parameter 'gama' \(did you mean 'gamma'\?\)"):
        Child(gama=1)


@pytest.mark.parametrize("name", ["_hidden", "SHARED", "name"])
def test_private_and_class_variables_are_no_parameters(name):
    with pytest.raises(ConfigError, match="no parameter"):
        Child(**{name: 1})


@pytest.mark.parametrize(
    ("value", "kind", "result"),
    [
        ("3", int, 3), (3.0, int, 3), ("-2", int, -2), ("0.5", float, 0.5), (1, float, 1.0),
        ("True", bool, True), ("0", bool, False), (True, bool, True), (5, str, "5"),
        ("none", int | None, None), ("", float | None, None), ("2", float | None, 2.0),
    ],
)  # fmt: skip
def test_coerce(value, kind, result):
    made = coerce(value, kind, "x")
    assert made == result
    assert type(made) is type(result)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("3.5", int),
        (3.5, int),
        (True, int),
        ("x", float),
        ("yes", bool),
        (None, int),
        ([1], float),
        (float("nan"), float),
        ("inf", float),
        (True, float),
        (float("inf"), int),
        (10**400, float),
        ("9" * 5000, int),
    ],
)
def test_coerce_rejects(value, kind):
    with pytest.raises(ConfigError, match=f"A.x: expected {kind.__name__}.*, was"):
        coerce(value, kind, "A.x")


def test_quotes():
    assert Quotes.two_sided(99, 101, 2) == (((99, 2),), ((101, 2),), True, 0)
    assert Quotes.none() == Quotes()
    assert Quotes.none() is Quotes.none()


def test_observation_reads_its_record():
    obs = observation(100, 104, inventory=-3, ts=50, exch_ts=40, step=2, time_left=9, cash=-8,
                      buy_qty=6, sell_qty=7, last_trade_px=102)  # fmt: skip
    assert (obs.ts, obs.exch_ts, obs.step, obs.time_left_ns, obs.cash, obs.inventory) == (
        50,
        40,
        2,
        9,
        -8,
        -3,
    )
    assert (obs.bid_px, obs.ask_px, obs.mid2, obs.spread_ticks) == (100, 104, 204, 4)
    assert (obs.bid_qty, obs.ask_qty, obs.buy_qty, obs.sell_qty, obs.last_trade_px) == (3, 5, 6, 7, 102)
    assert obs.microprice == (104 * 3 + 100 * 5) / 8
    assert obs.bid_pxs.tolist() == [100, 99]
    assert obs.bid_qtys.tolist() == [3, 9]
    assert (obs.ask_pxs.tolist(), obs.ask_qtys.tolist()) == ([104], [5])
    assert all(type(x) is int for x in (obs.ts, obs.bid_px, obs.inventory, obs.mid2))


def test_copy_outlives_the_buffer():
    obs = observation()
    kept = obs.copy()
    obs.record[:] = np.zeros(1, OBSERVATION)
    assert kept.record["bid_px"] == 100
    assert kept.bid_pxs.tolist() == [100, 99]


@given(st.floats(-1e6, 1e6))
def test_to_ticks_rounds_away_from_the_market(px):
    bid, ask = to_ticks(px, 1), to_ticks(px, -1)
    assert type(bid) is int
    assert bid <= px <= ask
    assert ask - bid == (0 if px == int(px) else 1)


@pytest.mark.parametrize("px", [float("nan"), float("inf"), -float("inf")])
def test_to_ticks_refuses_what_is_no_price(px):
    with pytest.raises(ValueError, match="must be finite"):
        to_ticks(px, 1)


@given(
    bid=st.integers(-5, 120), gap=st.integers(1, 30), qty=st.integers(0, 30), inventory=st.integers(-25, 25),
    best=st.integers(1, 110), spread=st.integers(1, 20), limit=st.none() | st.integers(0, 30),
)  # fmt: skip
def test_within_limits_never_breaks_them(bid, gap, qty, inventory, best, spread, limit):
    obs, ctx = observation(best, best + spread, inventory), context(max_inventory=20, max_order=12)
    quotes = within_limits(bid, bid + gap, qty, obs, ctx, limit)
    bound = 20 if limit is None else min(limit, 20)
    for px, size in quotes.bids:
        assert 0 < px < obs.ask_px
        assert 0 < size <= min(qty, 12)
        assert inventory + size <= bound
    for px, size in quotes.asks:
        assert px > obs.bid_px
        assert 0 < size <= min(qty, 12)
        assert inventory - size >= -bound
    if quotes.bids and quotes.asks:
        assert quotes.bids[0][0] < quotes.asks[0][0]
    if qty and bound and abs(inventory) >= bound:
        reducing = quotes.asks if inventory > 0 else quotes.bids
        assert reducing or (inventory < 0 and bid <= 0), "the reducing side stays"


def test_within_limits_drops_a_side_beyond_the_highest_price():
    far = 2**31 - 2
    assert within_limits(98, far, 2, observation(), context()) == Quotes.two_sided(98, far, 2)
    assert within_limits(98, far + 1, 2, observation(), context()) == Quotes(((98, 2),))


def test_within_limits_leaves_good_quotes_alone():
    assert within_limits(98, 103, 2, observation(), context()) == Quotes.two_sided(98, 103, 2)


def test_missing_constants_name_the_command():
    ctx = context(calibration={"sigma": 1.5})
    assert ctx.constants("sigma") == (1.5,)
    with pytest.raises(ConfigError, match=r"'x' has no calibrated A, k; run: mmsim calibrate x --write"):
        ctx.constants("sigma", "A", "k")


class Unresolved(Strategy):
    x: "Nope" = 1  # noqa: F821

    def quote(self, obs):
        return Quotes.none()


def test_an_annotation_that_cannot_be_resolved_is_a_config_error():
    for ask in (Unresolved.parameters, Unresolved, lambda: repr(object.__new__(Unresolved))):
        with pytest.raises(
            ConfigError, match=r"Unresolved: an annotation cannot be resolved \(raised NameError: .*'Nope'"
        ):
            ask()


def test_parameters_below_their_least_are_named():
    child = Child(size=3, gamma=0.5)
    child.at_least(size=3, gamma=0.5, limit=1)  # limit is None: not looked at
    with pytest.raises(ConfigError, match=r"Child.size: expected at least 4, was 3"):
        child.at_least(gamma=0, size=4)
    child.gamma = float("nan")
    with pytest.raises(ConfigError, match=r"Child.gamma: expected at least 0, was nan"):
        child.at_least(gamma=0)


def test_arrays_and_other_objects_are_no_parameters_of_a_kind():
    with pytest.raises(ConfigError, match=r"A.x: expected int, was array"):
        coerce(np.zeros(3), int | None, "A.x")
