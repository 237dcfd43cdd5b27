import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from mmsim.errors import ConfigError
from mmsim_agents.teacher import nfp as fl
from mmsim_agents.teacher.ridge import RidgePath, apply_standard, standardise

L, D = 7, 12
PEAK = (1, 3, 5)  # layer where each task is written


def planted(n, seed, noise=0.3, rest=0.0):
    """Samples whose task c can be read from layer PEAK[c] only (and with `rest` everywhere)."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, 3))
    h = rng.standard_normal((n, L, D))
    for c, layer in enumerate(PEAK):
        h[:, layer, c] = y[:, c] + noise * rng.standard_normal(n)
        h[:, :, 6 + c] += rest * y[:, c, None]
    regime = (rng.integers(0, 3, n)).astype(np.int8)
    return fl.Probed(h.astype(np.float16), y, regime)


@pytest.fixture(scope="module")
def probed():
    return fl.fluoresce(planted(500, 0), planted(120, 1), planted(450, 2))


def test_lights_up_where_the_task_is_written(probed):
    for c, layer in enumerate(PEAK):
        assert (probed.nfp[:, c].argmax(0) == layer).all()
        assert (probed.nfp[layer, c] > 0.7).all()
        assert (probed.intensity[layer, c] > 0.85).all()
    np.testing.assert_allclose(probed.nfp.sum(0), 1.0)
    assert (probed.nfp >= 0).all()
    assert probed.counts.sum() == 450


def test_intensity_is_the_rank_correlation_of_a_ridge_marker(probed):
    """Oracle: scipy's Spearman of a ridge fitted by solving the normal equations."""
    fit, tune, held = planted(500, 0), planted(120, 1), planted(450, 2)
    for layer, c, r in ((1, 0, 0), (2, 1, 1), (5, 2, 2)):
        x, xt, xh = (p.hidden[:, layer].astype(float) for p in (fit, tune, held))
        best = None
        for lam in 10.0 ** np.arange(7):
            xm, ym = x.mean(0), fit.target[:, c].mean()
            w = np.linalg.solve((x - xm).T @ (x - xm) + lam * np.eye(D), (x - xm).T @ (fit.target[:, c] - ym))
            mse = np.mean(((xt - xm) @ w + ym - tune.target[:, c]) ** 2)
            if best is None or mse < best[0]:
                best = (mse, lam, (xh - xm) @ w)
        assert probed.penalty[layer, c] == best[1]
        mask = held.regime == r
        rho = spearmanr(best[2][mask], held.target[mask, c]).statistic
        assert probed.intensity[layer, c, r] == pytest.approx(abs(rho), abs=1e-9)


def test_light_averages_to_intensity_minus_background(probed):
    for c, layer in enumerate(PEAK):
        for r in range(3):
            got = probed.light[layer, c, probed.regime == r].mean()
            want = probed.intensity[layer, c, r] - probed.background[layer, c, r]
            assert got == pytest.approx(want, abs=1e-5)


def test_noise_has_only_background():
    parts = []
    for seed, n in ((0, 400), (1, 100), (2, 400)):
        rng = np.random.default_rng(seed)
        parts.append(
            fl.Probed(rng.standard_normal((n, L, D)), rng.standard_normal((n, 3)), np.zeros(n, np.int8))
        )
    got = fl.fluoresce(*parts)
    assert got.intensity[:, :, 0].mean() < 0.12
    assert got.background[:, :, 0].mean() == pytest.approx(got.intensity[:, :, 0].mean(), abs=0.04)
    # regimes without samples: nothing measured, flat profile
    assert (got.intensity[:, :, 1:] == 0).all()
    np.testing.assert_allclose(got.nfp[:, :, 1:], 1 / L)


def test_same_seed_same_result_other_columns_untouched(probed):
    again = fl.fluoresce(planted(500, 0), planted(120, 1), planted(450, 2))
    assert np.array_equal(again.nfp, probed.nfp)
    other = fl.fluoresce(planted(500, 0), planted(120, 1), planted(450, 2), seed=1)
    assert np.array_equal(other.intensity, probed.intensity)
    assert not np.array_equal(other.background, probed.background)


def test_profiles_of_planted_tasks_differ_and_equal_ones_do_not(probed):
    tv, p = fl.paired_test(probed.light[:, 0], probed.light[:, 1])
    assert tv > 0.7 and p < 0.01
    flat = fl.fluoresce(*(planted(n, s, noise=50.0, rest=0.8) for n, s in ((500, 0), (120, 1), (450, 2))))
    tv, p = fl.paired_test(flat.light[:, 0], flat.light[:, 1])
    assert tv < 0.2 and p > 0.05
    assert fl.regime_test(flat, 0)[1] > 0.05
    level, p = fl.paired_test(probed.light[:, 0], flat.light[:, 0], level=True)
    assert level < 0 and p < 0.01  # the flat one is lit everywhere
    assert fl.paired_test(probed.light[:, 0], probed.light[:, 0], level=True)[0] == 0


def test_regime_test_sees_a_profile_that_moves_with_volatility():
    def parts(n, seed):
        p = planted(n, seed)
        h = p.hidden.copy()
        regime = np.repeat(np.arange(n // 15 + 1) % 3, 15)[:n].astype(np.int8)
        h[regime == 2] = np.roll(p.hidden[regime == 2], 1, axis=1)  # one layer deeper
        return fl.Probed(h, p.target, regime)

    got = fl.fluoresce(parts(600, 0), parts(150, 1), parts(600, 2))
    tv, p = fl.regime_test(got, 0)
    assert tv > 0.5 and p < 0.02


def test_distances_stay_in_the_unit_interval_when_a_profile_has_almost_no_light():
    rng = np.random.default_rng(3)
    faint = rng.standard_normal((5, 90))
    faint -= faint.mean(1, keepdims=True)
    faint[0] += 1e-9
    bright = rng.standard_normal((5, 90)) + 0.5
    tv, p = fl.paired_test(faint, bright)
    assert 0 <= tv <= 1 and p > 0.05


def test_permutation_p_values_are_about_uniform_without_a_difference():
    small = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        base = 0.3 + rng.standard_normal((4, 240)) * 0.5
        other = 0.3 + rng.standard_normal((4, 240)) * 0.5
        small += fl.paired_test(base, other, draws=200)[1] <= 0.1
    assert 0 <= small <= 14  # binomial(60, 0.1): mean 6, far tail 14


@given(arrays(float, (5, 3), elements=st.floats(-1, 1)))
def test_normalise_makes_columns_that_sum_to_one(excess):
    got = fl.normalise(excess)
    np.testing.assert_allclose(got.sum(0), 1.0)
    assert (got >= 0).all()


@settings(max_examples=200)
@given(arrays(float, st.integers(3, 40), elements=st.floats(1e-6, 1)))
def test_cut_points_leave_no_group_empty_and_balance_the_mass(mass):
    i, j = fl.cut_points(np.broadcast_to((mass / mass.sum())[:, None, None], (len(mass), 3, 3)))
    assert 0 < i < j < len(mass)
    groups = np.array([mass[:i].sum(), mass[i:j].sum(), mass[j:].sum()]) / mass.sum()
    # no group is off by more than the heaviest layers allow
    assert np.abs(groups - 1 / 3).max() <= 2.5 * mass.max() / mass.sum() + 1e-9


@given(st.integers(1, 200), st.integers(1, 40))
def test_block_permutation_is_a_permutation_of_blocks(n, blocks):
    got = fl.block_permutation(n, np.random.default_rng(n), blocks)
    assert sorted(got.tolist()) == list(range(n))
    assert np.count_nonzero(np.diff(got) != 1) <= blocks - 1


def test_roles_share_no_sample():
    parts = fl.block_roles(997)
    assert sorted(np.concatenate(parts).tolist()) == list(range(997))
    assert [round(len(p) / 997, 1) for p in parts] == [0.6, 0.1, 0.3]


def test_ridge_path_equals_the_normal_equations():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 80)), rng.standard_normal((60, 2))  # more dimensions than samples
    path = RidgePath(x, y)
    for lam in (1.0, 1e3):
        xc = x - x.mean(0)
        w = np.linalg.solve(xc.T @ xc + lam * np.eye(80), xc.T @ (y - y.mean(0)))
        got, b = path.weights(lam)
        np.testing.assert_allclose(got, w, atol=1e-8)
        np.testing.assert_allclose(b, y.mean(0) - x.mean(0) @ w, atol=1e-8)


def test_standardise_gives_unit_columns_and_silences_constant_ones():
    rng = np.random.default_rng(0)
    h = (rng.standard_normal((200, 2, 5)) * [1, 10, 100, 0.01, 0] + 3).astype(np.float32)
    mu, sigma = standardise(h)
    z = apply_standard(h, mu, sigma).astype(float)
    np.testing.assert_allclose(z[:, :, :4].std(0), 1.0, rtol=2e-3)
    assert (z[:, :, 4] == 0).all() and np.isinf(sigma[:, 4]).all()


def test_bad_targets_are_refused():
    good = planted(50, 0)
    bad = fl.Probed(
        good.hidden, np.where(np.arange(150).reshape(50, 3) == 7, np.nan, good.target), good.regime
    )
    with pytest.raises(ConfigError, match="finite tune targets"):
        fl.fluoresce(good, bad, good)
    with pytest.raises(ConfigError, match="at least 2"):
        fl.fluoresce(good, good, good.rows(np.arange(1)))
    with pytest.raises(ConfigError, match="3 layers"):
        fl.cut_points(np.ones((2, 3, 3)))


@pytest.mark.benchmark
def test_real_size_takes_under_a_minute():
    rng = np.random.default_rng(0)

    def part(n):
        return fl.Probed(
            rng.standard_normal((n, 31, 576), np.float32), rng.standard_normal((n, 3)),
            rng.integers(0, 3, n).astype(np.int8),
        )  # fmt: skip

    start = time.process_time()
    fl.fluoresce(part(1200), part(300), part(500))
    assert time.process_time() - start < 60
