"""The rules against their formulas, computed here with other arithmetic."""

import dataclasses
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from mmsim.agent import Observation, Quotes, SessionContext
from mmsim.errors import ConfigError
from mmsim.records import OBSERVATION
from mmsim.types import OWN_ORDER, Instrument
from mmsim_strategies.avellaneda_stoikov import AvellanedaStoikov
from mmsim_strategies.foic import FOIC
from mmsim_strategies.glft import GLFT
from mmsim_strategies.liic import LIIC
from mmsim_strategies.template import Template

CALIBRATED = {"sigma": 0.8, "A": 0.5, "k": 0.4, "mean_spread": 3.0}


def observation(bid, ask, inventory=0, left_s=1000.0):
    record = np.zeros(1, OBSERVATION)
    record["bid_px"], record["ask_px"] = bid, ask
    record["bid_qty"] = record["ask_qty"] = record["n_bid"] = record["n_ask"] = 1
    record["inventory"], record["time_left"] = inventory, round(left_s * 1e9)
    return Observation(record, np.zeros(0, OWN_ORDER))


def ready(strategy, **changes):
    ctx = SessionContext(
        instrument=Instrument("X", Decimal(1)), dataset="x", max_inventory=10, max_order=10, max_levels=5,
        unit=1, start_ts=0, end_ts=10**12, decision_ns=10**8, rng=np.random.default_rng(0),
        calibration=CALIBRATED,
    )  # fmt: skip
    strategy.reset(dataclasses.replace(ctx, **changes))
    return strategy


def test_foic_stands_at_fixed_offsets():
    assert ready(FOIC()).quote(observation(100, 103)) == Quotes.two_sided(100, 103, 1)
    assert ready(FOIC(N=2, M=1)).quote(observation(100, 103)) == Quotes.two_sided(98, 104, 1)
    assert ready(FOIC(N=-1, M=-1)).quote(observation(100, 103)) == Quotes.two_sided(101, 102, 1)
    assert ready(FOIC(N=-9, M=0)).quote(observation(100, 103)).bids == ((102, 1),), "stays passive"


@pytest.mark.parametrize("unit", [1, 100])
def test_foic_quotes_only_the_reducing_side_at_its_bound(unit):
    maker = ready(FOIC(c=2), unit=unit, max_inventory=10 * unit, max_order=10 * unit)
    assert maker.quote(observation(100, 103, 2 * unit)) == Quotes((), ((103, unit),))
    assert maker.quote(observation(100, 103, -2 * unit)) == Quotes(((100, unit),), ())
    assert maker.quote(observation(100, 103, unit)) == Quotes.two_sided(100, 103, unit)


def test_liic_is_linear_in_the_inventory():
    maker = ready(LIIC(a=2.5, b=-0.5, c=6))
    for z in (-6, -3, 0, 1, 5):
        mid = Fraction(2 * 100 + 5, 2)
        bid = (mid - Fraction(5, 2) - Fraction(z, 2)) // 1
        ask = -(-(mid + Fraction(5, 2) - Fraction(z, 2)) // 1)
        quotes = maker.quote(observation(100, 105, z))
        if z < 6:
            assert quotes.bids == ((min(bid, 104), 1),)
        if z > -6:
            assert quotes.asks == ((max(ask, 101), 1),)


def test_liic_defaults_come_from_the_mean_spread():
    maker = ready(LIIC())
    assert maker.quote(observation(100, 103)) == Quotes.two_sided(100, 103, 1)
    assert maker.quote(observation(100, 103, 10)).asks == ((102, 1),), (
        "at the bound: the mid, 101.5, rounded up"
    )


@pytest.mark.parametrize("params", [{"a": 0}, {"a": 1, "b": 0.1}])
def test_liic_refuses_wrong_signs(params):
    with pytest.raises(ConfigError, match=r"expected a > 0 and b <= 0"):
        ready(LIIC(**params))


def rounded(bid, ask):
    return int(np.floor(bid)), int(np.ceil(ask))


@pytest.mark.parametrize(("z", "left_s"), [(0, 1000), (3, 1000), (-4, 2.5), (2, 0)])
def test_avellaneda_stoikov_formula(z, left_s):
    # the paper's letters, gamma per tick
    g, s2, k, t = 0.1 * 0.4, 0.8**2, 0.4, min(left_s, 10)
    r = 1000.5 - z * g * s2 * t
    spread = g * s2 * t + (2 / g) * np.log(1 + g / k)
    bid, ask = rounded(r - spread / 2, r + spread / 2)
    quotes = ready(AvellanedaStoikov()).quote(observation(1000, 1001, z, left_s))
    assert (quotes.bids[0][0], quotes.asks[0][0]) == (min(bid, 1000), max(ask, 1001))


def test_avellaneda_stoikov_without_a_horizon_uses_the_time_left():
    maker = ready(AvellanedaStoikov(horizon_s=None))
    near, far = (maker.quote(observation(1000, 1001, 0, s)) for s in (1, 1000))
    assert far.bids[0][0] < near.bids[0][0] - 5


@pytest.mark.parametrize("z", [0, 1, -1, 6])
@pytest.mark.parametrize("gamma", [0.01, 0.05, 1.0])
def test_glft_formula(z, gamma):
    g, s2, k, rate = gamma * 0.4, 0.8**2, 0.4, 0.5
    K = np.sqrt(s2 * g / (2 * k * rate) * (1 + g / k) ** (1 + k / g))
    c = np.log(1 + g / k) / g
    bid, ask = rounded(1000.5 - c - (2 * z + 1) / 2 * K, 1000.5 + c - (2 * z - 1) / 2 * K)
    quotes = ready(GLFT(gamma=gamma)).quote(observation(1000, 1001, z))
    assert (quotes.bids[0][0], quotes.asks[0][0]) == (min(bid, 1000), max(ask, 1001))


def test_glft_without_risk_aversion_stands_one_over_k_from_the_mid():
    # with gamma -> 0 the optimal offset is 1 / k = 2.5 ticks: 997.9 and 1003.1 around 1000.5
    quotes = ready(GLFT(gamma=1e-9), calibration={**CALIBRATED, "k": 1 / 2.6}).quote(observation(1000, 1001))
    assert quotes == Quotes.two_sided(997, 1004, 1)


@pytest.mark.parametrize("cls", [GLFT, AvellanedaStoikov])
def test_quotes_scale_with_the_tick(cls):
    # ten times finer ticks: ten times the price distances, up to rounding
    coarse = ready(cls()).quote(observation(1000, 1001, 4))
    fine = ready(cls(), calibration={"sigma": 8.0, "A": 0.5, "k": 0.04, "mean_spread": 30.0}).quote(
        observation(10000, 10010, 4)
    )
    assert abs(fine.bids[0][0] - 10 * coarse.bids[0][0]) <= 10
    assert abs(fine.asks[0][0] - 10 * coarse.asks[0][0]) <= 10


@pytest.mark.parametrize("cls", [FOIC, LIIC, GLFT, AvellanedaStoikov, Template])
def test_inventory_counts_in_units(cls):
    one = ready(cls()).quote(observation(1000, 1003, 4))
    hundred = ready(cls(), unit=100, max_inventory=1000, max_order=1000).quote(observation(1000, 1003, 400))
    assert [px for px, _ in hundred.bids + hundred.asks] == [px for px, _ in one.bids + one.asks]
    assert [qty for _, qty in hundred.bids + hundred.asks] == [100 * qty for _, qty in one.bids + one.asks]


@pytest.mark.parametrize("cls", [LIIC, GLFT, AvellanedaStoikov])
def test_an_uncalibrated_market_names_the_command(cls):
    with pytest.raises(ConfigError, match="mmsim calibrate x --write"):
        ready(cls(), calibration={})


@pytest.mark.parametrize("cls", [GLFT, AvellanedaStoikov])
@pytest.mark.parametrize("gamma", [0, -1])
def test_gamma_must_be_positive(cls, gamma):
    with pytest.raises(ConfigError, match="expected gamma > 0"):
        ready(cls(gamma=gamma))


def test_template_offsets_and_leans():
    assert ready(Template()).quote(observation(100, 103)) == Quotes.two_sided(99, 104, 1)
    assert ready(Template(offset_ticks=2)).quote(observation(100, 103)) == Quotes.two_sided(98, 105, 1)
    assert ready(Template(skew_ticks=0.5)).quote(observation(100, 103, 4)) == Quotes.two_sided(97, 102, 1)
