"""Scores against sums done by hand and in plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim.errors import ConfigError
from mmsim.scoring.probes import NS, PROBE, UNFILLED
from mmsim.scoring.scores import BLOCK_NS, score
from mmsim.statistics.bootstrap import mean_over_blocks

LIFE = 12 * NS
HORIZONS = (3.0, 6.0, 12.0)


def orders(n):
    probes = np.zeros(n, PROBE)
    probes["ts"] = np.arange(n) * (BLOCK_NS // 3)
    probes["ahead"] = np.arange(n) % 7
    probes["place"] = np.arange(n) % 2
    return probes


def fates(*seconds):
    return np.array([UNFILLED if s is None else round(s * NS) for s in seconds], np.int64)


def test_one_by_hand():
    truth = fates(1, 4, None, None, 2, 12)
    said = fates(1, 2, 8, None, None, 11)
    (s,) = score(orders(6), truth, {"m": said}, LIFE, HORIZONS, reference="m")
    # differences of the time in the market: 0, 2, 4, 0, 10, 1 seconds
    assert s.error.value == pytest.approx(17 / 6)
    assert s.bias.value == pytest.approx((0 + 2 + 4 + 0 - 10 + 1) / 6 / 12)
    assert (s.both, s.only_predicted, s.only_true, s.neither) == (3, 1, 1, 1)
    assert s.true_rate == pytest.approx((2 / 6, 3 / 6, 4 / 6))
    assert s.predicted_rate == pytest.approx((2 / 6, 2 / 6, 4 / 6))
    assert s.brier == pytest.approx((2 / 6, 1 / 6, 2 / 6))
    assert s.exact == pytest.approx(1 / 3)
    assert s.time_median == 1.0
    assert s.time_error.value == pytest.approx((0 + 2 + 1) / 3)
    assert s.time_bias.value == pytest.approx((0 - 2 - 1) / 3)
    assert s.versus == (0.0, 0.0, 0.0)


fate = st.one_of(st.none(), st.integers(1, 120).map(lambda tenths: tenths / 10))


@given(st.lists(st.tuples(fate, fate), min_size=1, max_size=40))
def test_the_error_is_the_brier_score_integrated_over_horizons(pairs):
    truth, said = fates(*(a for a, _ in pairs)), fates(*(b for _, b in pairs))
    (s,) = score(orders(len(pairs)), truth, {"m": said}, LIFE, HORIZONS, reference="m")
    area, signed = 0.0, 0.0
    for tenth in range(120):  # fates change at tenths of a second only
        h = (tenth + 0.5) / 10
        true_by = [a is not None and a <= h for a, _ in pairs]
        said_by = [b is not None and b <= h for _, b in pairs]
        area += 0.1 * sum(x != y for x, y in zip(true_by, said_by, strict=True)) / len(pairs)
        signed += (sum(said_by) - sum(true_by)) / len(pairs) / 120
    assert s.error.value == pytest.approx(area, abs=1e-9)
    assert s.bias.value == pytest.approx(signed, abs=1e-9)
    assert s.both + s.only_predicted + s.only_true + s.neither == s.n == len(pairs)


@given(st.lists(st.tuples(fate, fate), min_size=1, max_size=40))
def test_cells_cover_every_order_once_a_horizon(pairs):
    truth, said = fates(*(a for a, _ in pairs)), fates(*(b for _, b in pairs))
    (s,) = score(orders(len(pairs)), truth, {"m": said}, LIFE, HORIZONS, reference="m")
    for i, h in enumerate(HORIZONS):
        cells = [c for c in s.cells if c.horizon_s == h]
        assert sum(c.n for c in cells) == s.n
        assert sum(c.n * c.true_rate for c in cells) / s.n == pytest.approx(s.true_rate[i])
        assert sum(c.n * c.predicted_rate for c in cells) / s.n == pytest.approx(s.predicted_rate[i])
    gap = sum(c.n * abs(c.true_rate - c.predicted_rate) for c in s.cells) / (s.n * len(HORIZONS))
    assert s.calibration == pytest.approx(gap, abs=1e-12)


def test_a_perfect_model_has_no_error_and_a_narrow_interval():
    truth = fates(1, None, 3, 4, None, 6, 7)
    perfect, never = score(
        orders(7), truth, {"truth": truth, "never": fates(*[None] * 7)}, LIFE, HORIZONS, reference="never"
    )
    assert perfect.error == (0.0, 0.0, 0.0)
    assert perfect.exact == 1.0
    assert perfect.versus.value == pytest.approx(-never.error.value)
    assert never.both == 0
    assert math.isnan(never.time_median)
    assert never.to_dict()["time_median"] is None
    assert never.to_dict()["time_error"] == [None, None, None]


def test_the_interval_is_over_blocks_not_over_orders():
    values = np.repeat([0.0, 1.0], 500)
    wide = mean_over_blocks(values, np.repeat([0, 1], 500))
    narrow = mean_over_blocks(values, np.arange(1000) % 100)
    assert wide == (0.5, 0.0, 1.0), "two blocks that differ: the mean may be anything between"
    assert narrow.high - narrow.low < 0.1
    one = mean_over_blocks(np.ones(3), np.zeros(3, np.int64))
    assert one.value == 1.0
    assert math.isnan(one.low)


def test_wrong_questions_are_refused():
    truth = fates(1)
    with pytest.raises(ConfigError, match="expected a reference among m, was 'n'"):
        score(orders(1), truth, {"m": truth}, LIFE, HORIZONS, reference="n")
    with pytest.raises(ConfigError, match="horizons within an order's life of 12 s"):
        score(orders(1), truth, {"m": truth}, LIFE, (13.0,), reference="m")
