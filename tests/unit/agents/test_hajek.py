"""Hajek-MoE: the fixture of the specification, identities, limits, and the kernel against NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mmsim_agents.cmm.fuse import Tables, fuse
from mmsim_agents.cmm.hajek import FUSIONS, fit_fusion, hajek_moe


def test_fixture() -> None:
    z = np.array([[0.0], [0.1], [0.2], [2.0]])
    mix = hajek_moe(z, z[:, 0], width=1.0, tau=0.1, unit_length=False)
    np.testing.assert_allclose(mix.score, [0.703515, 0.718166, 0.724370, 0.165903], atol=5e-7)
    assert mix.agreement == pytest.approx(0.577989, abs=5e-7)
    np.testing.assert_allclose(mix.contribution, [0.062763, 0.070089, 0.073191, -0.206043], atol=5e-7)
    np.testing.assert_allclose(mix.weights, [0.294612, 0.341098, 0.362928, 0.001363], atol=5e-7)
    assert mix.output == pytest.approx(0.109421, abs=5e-7)
    assert z.mean() == pytest.approx(0.575)


def oracle(
    z: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    s: float,
    inv_tau: float,
    b: npt.NDArray[np.float64],
) -> float:
    z = np.array([v / np.sqrt(v @ v) for v in z])
    m = len(z)
    logit = [
        inv_tau
        * sum(np.exp(-((z[i] - z[j]) @ (z[i] - z[j])) / (2 * s * s)) for j in range(m) if j != i)
        / (m - 1)
        + b[i]
        for i in range(m)
    ]
    w = np.exp(logit) / np.exp(logit).sum()
    return float(w @ y)


@pytest.mark.parametrize("inv_tau", [0.0, 1.0, 20.0])
def test_kernel_equals_the_oracle(inv_tau: float) -> None:
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(27, 64)).astype(np.float32), rng.normal(size=(27, 1))
    prior = rng.normal(size=(3, 3, 9))  # regime, task, expert
    weights, fused = np.zeros((3, 9)), np.zeros(3)
    width = np.array([0.9, 1.2, 1.4])
    fuse(z.copy(), y, Tables(width, np.full(3, inv_tau), prior), 1, weights, fused)
    grid = np.arange(27).reshape(3, 3, 3)  # group, task, regime
    for c in range(3):
        experts = grid[:, c].ravel()
        want = oracle(z[experts].astype(float), y[experts, 0], width[c], inv_tau, prior[1, c])
        assert fused[c] == pytest.approx(want, abs=1e-5)
        mix = hajek_moe(
            z[experts].astype(float), y[experts, 0], width[c], 1 / inv_tau if inv_tau else np.inf, prior[1, c]
        )
        np.testing.assert_allclose(weights[c], mix.weights, atol=1e-5)
        assert mix.contribution.sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(weights.sum(1), 1.0)


def test_limits() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(5, 9, 8)), rng.normal(size=(5, 9))
    np.testing.assert_allclose(hajek_moe(z, y, 1.0, np.inf).output, y.mean(1))
    same = np.repeat(z[:, :1], 9, axis=1)
    mix = hajek_moe(same, y, 1.0, 0.01)
    np.testing.assert_allclose(mix.score, 1.0)
    np.testing.assert_allclose(mix.output, y.mean(1))
    # A lone expert far from the consensus loses its say.
    lone = same.copy()
    lone[:, 4] *= -1
    assert (hajek_moe(lone, y, 0.5, 0.05).weights[:, 4] < 1e-4).all()
    # Order of the experts does not matter.
    perm = rng.permutation(9)
    np.testing.assert_allclose(
        hajek_moe(z[:, perm], y[:, perm], 1.0, 0.1).output, hajek_moe(z, y, 1.0, 0.1).output
    )
    zero = hajek_moe(np.zeros((4, 3)), np.arange(4.0), 1.0, 0.1)
    assert zero.output == pytest.approx(1.5)


def test_fit_prefers_what_predicts() -> None:
    rng = np.random.default_rng(1)
    n, m = 400, 9
    target = rng.normal(size=n)
    regime = rng.integers(0, 3, n).astype(np.int8)
    expert_regime = np.arange(m) % 3
    noise = np.where(expert_regime[None] == regime[:, None], 0.1, 3.0)
    y = target[:, None] + noise * rng.normal(size=(n, m))
    z = rng.normal(size=(n, m, 4))
    fits = fit_fusion(z, y, target, regime, expert_regime)
    assert set(fits) == set(FUSIONS)
    assert fits["hajek"].mse <= fits["hajek_pure"].mse
    assert fits["hajek"].mse < 0.1 * fits["mean"].mse  # the own-regime prior is found
    assert fits["mean"].mse == pytest.approx(((y.mean(1) - target) ** 2).mean())
    weights = fits["validation"].weights(np.zeros((n, m)), regime)
    inverse = 1 / ((y - target[:, None]) ** 2).mean(0)
    np.testing.assert_allclose(weights, np.tile(inverse / inverse.sum(), (n, 1)))
