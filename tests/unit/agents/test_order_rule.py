"""The order rule: hand-computed cases and its limits under Hypothesis."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.errors import ConfigError
from mmsim_agents.common.order_rule import Orders, RuleParams, order_rule


@pytest.mark.parametrize(
    ("bid", "ask", "dm", "s", "q", "kappa", "want"),
    [
        (100, 101, 0.0, 1.0, 0, 1.0, (100, 101)),  # one-tick market: join both best quotes
        (100, 102, 0.0, 2.0, 0, 1.0, (100, 102)),
        (100, 104, 0.0, 2.0, 0, 1.0, (101, 103)),  # a spread that will halve: step inside
        (100, 101, 0.6, 1.0, 0, 1.0, (100, 102)),  # mid rises 0.6: p = 101.1
        (100, 101, -0.6, 1.0, 0, 1.0, (99, 101)),
        (100, 101, 5.0, 1.0, 0, 1.0, (100, 106)),  # far up: the bid stays below the best ask
        (100, 101, -5.0, 1.0, 0, 1.0, (95, 101)),
        (100, 101, 0.0, 0.2, 0, 1.0, (100, 101)),  # a spread below one tick counts as one
        (100, 102, 0.0, 2.0, 5, 1.0, (99, 101)),  # half full, kappa 1: p one tick lower
        (100, 102, 0.0, 2.0, -5, 1.0, (101, 103)),
    ],
)
def test_prices_by_hand(
    bid: int, ask: int, dm: float, s: float, q: int, kappa: float, want: tuple[int, int]
) -> None:
    got = order_rule(bid, ask, dm, s, 0.0, q, 10, 1, 10, RuleParams(kappa=kappa))
    assert (got.bid_px, got.ask_px) == want


def test_slack_keeps_a_quote_in_its_queue() -> None:
    def px(dm: float, slack: float) -> tuple[int, int]:
        got = order_rule(100, 101, dm, 1.0, 0.0, 0, 10, 1, 10, RuleParams(slack=slack))
        return got.bid_px, got.ask_px

    assert px(0.1, 0.0) == (100, 102) and px(-0.1, 0.0) == (99, 101)
    assert px(0.1, 0.25) == (100, 101) and px(-0.1, 0.25) == (100, 101)
    assert px(0.3, 0.25) == (100, 102) and px(-0.3, 0.25) == (99, 101)
    assert px(0.0, 0.45) == (100, 101)


def test_sizes_by_hand() -> None:
    rule = RuleParams(rho=0.1, max_units=4)
    v = math.log1p(25)  # 25 units trade, a tenth is 2.5, rounded half up to 3
    assert order_rule(100, 101, 0, 1, v, 0, 1000, 100, 1000, rule)[1::2] == (300, 300)
    assert order_rule(100, 101, 0, 1, v, 500, 1000, 100, 1000, rule)[1::2] == (200, 500)  # 1.5, 4.5 half up
    assert order_rule(100, 101, 0, 1, v, 800, 1000, 100, 1000, rule)[1::2] == (100, 500)
    assert order_rule(100, 101, 0, 1, 0.0, 950, 1000, 100, 1000, rule)[1::2] == (0, 200)
    assert order_rule(100, 101, 0, 1, v, 1000, 1000, 100, 1000, rule) == Orders(99, 0, 100 + 1, 600)
    assert order_rule(100, 101, 0, 1, 99.0, 0, 1000, 100, 1000, rule)[1::2] == (400, 400)  # max_units
    assert order_rule(100, 101, 0, 1, 99.0, 0, 1000, 100, 250, rule)[1::2] == (250, 250)  # max_order
    # A partial fill leaves an odd lot; the cap still holds to the lot.
    assert order_rule(100, 101, 0, 1, v, 810, 1000, 100, 1000, rule).bid_qty == 100


@given(
    bid=st.integers(1, 10**6),
    spread=st.integers(1, 500),
    dm=st.floats(-1e4, 1e4),
    s=st.floats(-10, 1e4),
    v=st.floats(-5, 800),
    cap=st.integers(1, 2000),
    load=st.floats(-1, 1),
    unit=st.sampled_from([1, 7, 100]),
    max_order=st.integers(1, 2000),
    rule=st.builds(
        RuleParams,
        kappa=st.floats(0, 20),
        rho=st.floats(0, 10),
        max_units=st.integers(1, 20),
        slack=st.floats(0, 0.49),
    ),
)
@settings(max_examples=300, deadline=None)
def test_no_order_ever_breaks_a_limit(
    bid: int,
    spread: int,
    dm: float,
    s: float,
    v: float,
    cap: int,
    load: float,
    unit: int,
    max_order: int,
    rule: RuleParams,
) -> None:
    ask = bid + spread
    q = int(load * cap)
    got = order_rule(bid, ask, dm, s, v, q, cap, unit, max_order, rule)
    assert all(isinstance(x, int) for x in got)
    assert 0 <= got.bid_qty <= max_order and 0 <= got.ask_qty <= max_order
    assert q + got.bid_qty <= cap and q - got.ask_qty >= -cap  # whatever fills
    assert got.bid_px < got.ask_px
    assert got.bid_px <= ask - 1 and got.ask_px >= bid + 1
    assert got.bid_qty == 0 or got.bid_px >= 1
    # The mirrored market gets the mirrored orders.
    mirror = order_rule(-ask, -bid, -dm, s, v, -q, cap, unit, max_order, rule)
    assert (-mirror.ask_px, -mirror.bid_px) == (got.bid_px, got.ask_px)


def test_bad_values_are_refused() -> None:
    for kwargs in ({"kappa": -1.0}, {"rho": float("nan")}, {"max_units": 0}, {"slack": 0.5}):
        with pytest.raises(ConfigError, match="order rule"):
            RuleParams(**kwargs)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            order_rule(100, 101, bad, 1.0, 0.0, 0, 10, 1, 10, RuleParams())
