from dataclasses import replace

import numpy as np
import pytest

from mmsim.calibrate import (
    Calibration,
    Stretch,
    _plausible,
    _window_max,
    by_hand,
    calibrate,
    fit,
    remedy,
    usual_split,
)
from mmsim.errors import DataError
from mmsim.testing import tiny_market

SECOND = 1_000_000_000


def poisson_market(
    seed, *, sigma=0.7, rate=0.8, k=0.6, hours=1.0, spread2=1, decision_ms=500, prints=1, sides_known=True
):
    # mid: a random walk on half-ticks whose variance is sigma^2 a second; market orders arrive at `rate` per
    # second and side and reach an exponential distance, so that those reaching d arrive at rate exp(-k d).
    rng = np.random.default_rng(seed)
    n = round(hours * 3600 * 1000 / decision_ms)
    ts = np.arange(n, dtype=np.int64) * decision_ms * 1_000_000
    step2 = 2 * sigma * np.sqrt(decision_ms / 1000)  # half-ticks a decision
    moves = rng.poisson(step2**2 / 2, n) - rng.poisson(step2**2 / 2, n)
    mid2 = 20_001 + np.cumsum(moves)
    rows = []
    for side in (1, -1):
        m = rng.poisson(rate * n * decision_ms / 1000)
        at = np.sort(rng.integers(0, ts[-1], m))
        far = rng.exponential(1 / k, m)  # ticks from the mid then
        mid = mid2[np.searchsorted(ts, at, side="right") - 1] / 2
        px = np.floor(mid + far) if side == 1 else np.ceil(mid - far)
        rows += [
            (t, p, side if sides_known else 0) for t, p in zip(at, px, strict=True) for _ in range(prints)
        ]
    rows.sort()
    t, p, s = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Stretch(ts, mid2, np.full(n, spread2), t, p, s)


@pytest.mark.parametrize(("sigma", "rate", "k"), [(0.2, 0.8, 0.6), (0.3, 2.0, 0.3), (0.1, 0.3, 1.5)])
def test_fit_recovers_a_known_market(sigma, rate, k):
    found = fit([poisson_market(1, sigma=sigma, rate=rate, k=k, hours=3, decision_ms=250)], horizon_s=0.25)
    assert found.sigma == pytest.approx(sigma, rel=0.05)
    assert pytest.approx(rate, rel=0.1) == found.A
    assert found.k == pytest.approx(k, rel=0.07)
    assert found.mean_spread == 1.0


def test_several_prints_of_one_order_count_once():
    one = fit([poisson_market(2)], horizon_s=0.5)
    many = fit([poisson_market(2, prints=4)], horizon_s=0.5)
    assert many.constants() == one.constants()


def test_stretches_are_not_joined():
    # a jump of the mid between two stretches is no volatility
    a, b = poisson_market(3, sigma=0.2), poisson_market(4, sigma=0.2)
    b = Stretch(b.ts, b.mid2 + 4000, b.spread, b.trade_ts, b.trade_px + 2000, b.trade_side)
    assert fit([a, b]).sigma == pytest.approx(0.2, rel=0.1)


def test_default_horizon_adapts_to_busy_and_to_quiet_markets():
    busy = fit([poisson_market(5, rate=20, k=0.5, sigma=0.05, hours=0.2, decision_ms=100)])
    quiet = fit([poisson_market(6, rate=0.01, k=0.1, sigma=0.01, hours=6)])
    assert busy.horizon_s < 1 < quiet.horizon_s
    assert pytest.approx(20, rel=0.2) == busy.A
    assert pytest.approx(0.01, rel=0.3) == quiet.A


def test_intensities_are_those_of_a_count_by_hand():
    s = poisson_market(7, hours=0.1)
    found = fit([s], horizon_s=1.0)
    d = float(found.distance[0])
    trials = reached = 0
    for t, m2 in zip(s.ts, s.mid2, strict=True):
        if t + SECOND > s.ts[-1] or (m2 + round(2 * d)) % 2:
            continue
        px = s.trade_px[(s.trade_ts > t) & (s.trade_ts <= t + SECOND)]
        side = s.trade_side[(s.trade_ts > t) & (s.trade_ts <= t + SECOND)]
        trials += 2
        reached += int((px[side == 1] >= m2 / 2 + d).any()) + int((px[side == -1] <= m2 / 2 - d).any())
    assert (int(found.trials[0]), int(found.reached[0])) == (trials, reached)
    assert found.intensity[0] == pytest.approx(-np.log(1 - reached / trials))


def test_trades_of_unknown_side_reach_both_sides():
    assert fit([poisson_market(8, sides_known=False)]).A > 0


def test_window_max_against_a_loop():
    rng = np.random.default_rng(9)
    at, value = np.sort(rng.integers(0, 50, 30)), rng.integers(-5, 5, 30)
    after = np.arange(-3, 55)
    until = after + rng.integers(0, 9, len(after))
    best = _window_max(at, value, after, until)
    for i, (lo, hi) in enumerate(zip(after, until, strict=True)):
        inside = value[(at > lo) & (at <= hi)]
        assert best[i] == (inside.max() if len(inside) else -(2**62))


def test_markets_that_cannot_be_fitted_say_why():
    s = poisson_market(10, hours=0.1)
    with pytest.raises(DataError, match="at least two decisions"):
        fit([])
    with pytest.raises(DataError, match="episodes longer than 5 s"):
        fit([Stretch(s.ts[:4], s.mid2[:4], s.spread[:4], s.trade_ts, s.trade_px, s.trade_side)], source="x")
    with pytest.raises(DataError, match="has no trades"):
        fit([Stretch(s.ts, s.mid2, s.spread, s.trade_ts[:0], s.trade_px[:0], s.trade_side[:0])])


def test_trades_at_prices_of_another_scale_are_no_market():
    # what a wrong multiplier makes of implied trades: all of them far outside the quotes, of one side
    s = poisson_market(11, hours=0.5)
    far = Stretch(s.ts, s.mid2, s.spread, s.trade_ts, s.trade_px * 10, np.ones_like(s.trade_side))
    with pytest.raises(DataError, match=r"x: the fill intensity does not fall with distance.*multiplier"):
        fit([far], source="x")


def test_a_mid_that_never_moves_is_no_market():
    s = poisson_market(12, hours=0.5)
    with pytest.raises(DataError, match="expected a mid that moves"):
        fit([Stretch(s.ts, np.full_like(s.mid2, 20_001), s.spread, s.trade_ts, s.trade_px, s.trade_side)])


@pytest.mark.parametrize(("rate", "k", "said"), [
    (1.0, 60.0, "expected k from 1e-07 to 50, was 60"),
    (1e6, 2.0, r"expected A from 1e-06 to 100000, was 1e\+06"),
    (1e-9, 2.0, "expected A from 1e-06"),
])  # fmt: skip
def test_constants_out_of_range_are_refused_by_name(rate, k, said):
    with pytest.raises(DataError, match=said):
        _plausible(rate, k, np.array([0.5, 2.5]), "x")


def one_split(seed=4, **seconds):
    # a market whose splits last so long; a second is too short to calibrate on
    data = tiny_market(seed, seconds=300, name="x")
    splits = {
        s: tuple(replace(e, end_ts=e.start_ts + seconds[s] * SECOND) for e in episodes if s in seconds)
        for s, episodes in data.splits.items()
    }
    return replace(data, splits=splits)


@pytest.mark.parametrize(
    ("seconds", "split", "reason", "works"),
    [
        ({"train": 1, "validation": 290}, "train", "episodes longer than 5 s", "--split validation"),
        ({"validation": 1, "test": 290}, "validation", "episodes longer than 5 s", "--set"),
        (
            {"validation": 290},
            "train",
            "no train split to calibrate on; it has: validation",
            "--split validation",
        ),
    ],
)
def test_the_remedy_named_works(seconds, split, reason, works):
    data = one_split(**seconds)
    with pytest.raises(DataError, match=reason):
        calibrate(data, split)
    advice = remedy(data, split)
    assert advice.startswith("run: mmsim calibrate x --split") == ("--split" in works)
    assert works in advice
    if "--split" in works:
        assert calibrate(data, works.split()[1]).k > 0


def test_the_usual_split_is_the_first_that_has_episodes():
    assert usual_split(one_split(train=1, validation=1)) == "train"
    assert usual_split(one_split(validation=1, test=1)) == "validation"
    assert calibrate(one_split(test=290)).constants() == calibrate(one_split(test=290), "test").constants()


def test_constants_by_hand():
    four = {"sigma": 1.0, "A": 2.0, "k": 3.0, "mean_spread": 4.0}
    assert by_hand(four).constants() == four
    found = fit([poisson_market(1, hours=0.5)])
    assert by_hand({"k": 0.5}, found).constants() == found.constants() | {"k": 0.5}


def test_constants_are_rounded_for_the_file():
    empty = np.zeros(0)
    found = Calibration(1 / 3, 2 / 3, 1e-7 / 3, 1.0, 1.0, empty, empty, empty, empty)
    assert found.constants() == {"sigma": 0.333333, "A": 0.666667, "k": 3.33333e-08, "mean_spread": 1.0}
