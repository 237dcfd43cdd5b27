"""The four losses against independent NumPy oracles, and their limit cases."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

from mmsim_agents.distill.losses import feature_cka, feature_mse, huber, orthogonality  # noqa: E402

A = npt.NDArray[np.float64]


def drawn(seed: int = 0, m: int = 3, n: int = 17, d: int = 5) -> tuple[A, A, A]:
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.0, 0.1, 1.0], (m, n))
    return rng.normal(size=(m, n, d)), rng.normal(size=(m, n, d)), weight


def t(*arrays: A) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(a, np.float64)) for a in arrays]


# Oracles: loops over experts and samples, written from the formulas alone.


def oracle_feature(z: A, target: A, w: A) -> list[float]:
    out = []
    for m in range(len(z)):
        total = sum(
            w[m, i] * sum((z[m, i, j] - target[m, i, j]) ** 2 for j in range(z.shape[2])) / z.shape[2]
            for i in range(z.shape[1])
        )
        out.append(total / sum(w[m]))
    return out


def oracle_huber(y: A, target: A, w: A, delta: float) -> list[float]:
    out = []
    for m in range(len(y)):
        total = 0.0
        for i in range(y.shape[1]):
            for k in range(y.shape[2]):
                e = abs(y[m, i, k] - target[m, i, k])
                total += w[m, i] * (e * e / 2 if e <= delta else delta * (e - delta / 2)) / y.shape[2]
        out.append(total / sum(w[m]))
    return out


def oracle_cka(x: A, y: A) -> float:
    # Through centred Gram matrices: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)).
    n = len(x)
    centre = np.eye(n) - 1.0 / n

    def hsic(a: A, b: A) -> float:
        return float(np.trace(centre @ (a @ a.T) @ centre @ (b @ b.T)))

    return hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))


def oracle_orth(z: A, groups: int) -> float:
    m, n, d = z.shape
    per = m // groups
    total = 0.0
    for g in range(groups):
        for h in range(groups):
            if g == h:
                continue
            for e in range(per):
                a, b = z[g * per + e], z[h * per + e]
                cross = (a - a.mean(0)).T @ (b - b.mean(0))
                total += sum(v * v for v in cross.ravel()) / (n * n * d)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_their_oracles(seed: int) -> None:
    z, target, w = drawn(seed)
    np.testing.assert_allclose(feature_mse(*t(z, target, w)).numpy(), oracle_feature(z, target, w))
    for delta in (0.3, 1.0, 3.0):
        got = huber(*t(z, target, w), delta=delta).numpy()
        np.testing.assert_allclose(got, oracle_huber(z, target, w, delta))
    ones = np.ones_like(w)
    got = feature_cka(*t(z, target, ones)).numpy()
    np.testing.assert_allclose(got, [1 - oracle_cka(z[m], target[m]) for m in range(len(z))])
    z9 = np.random.default_rng(seed).normal(size=(6, 11, 4))
    assert float(orthogonality(*t(z9), groups=3)) == pytest.approx(oracle_orth(z9, 3))


def test_feature_loss_limits() -> None:
    z, target, w = drawn()
    assert feature_mse(*t(z, z, w)).abs().max() == 0
    shifted = feature_mse(*t(z + 2.0, z, np.ones_like(w)))
    np.testing.assert_allclose(shifted.numpy(), 4.0)
    # A sample without teacher output has weight 0 and must not matter, whatever it holds.
    holes = w.copy()
    holes[:, 3] = 0.0
    far = target.copy()
    far[:, 3] = 1e6
    for loss in (feature_mse, feature_cka):
        np.testing.assert_allclose(loss(*t(z, target, holes)), loss(*t(z, far, holes)), atol=1e-12)
        assert loss(*t(z, target, 0 * w)).abs().max() == 0


def test_cka_limits() -> None:
    z, target, _ = drawn(n=200)
    ones = np.ones(z.shape[:2])
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    np.testing.assert_allclose(feature_cka(*t(z, 3.0 * z @ rotation + 7.0, ones)), 0.0, atol=1e-9)
    independent = feature_cka(*t(z, target, ones)).numpy()
    assert (independent > 0.9).all() and (independent <= 1.0).all()
    # Weights 0 and 1 are the same as dropping the samples.
    half = ones.copy()
    half[:, 100:] = 0.0
    np.testing.assert_allclose(
        feature_cka(*t(z, target, half)), feature_cka(*t(z[:, :100], target[:, :100], ones[:, :100]))
    )


def test_huber_limits() -> None:
    y = np.array([[[0.0], [3.0]]])
    zero = np.zeros_like(y)
    w = np.ones((1, 2))
    assert float(huber(*t(y, zero, w), delta=1e9)) == pytest.approx(0.5 * 9 / 2)  # half the mean square
    assert float(huber(*t(y, zero, w), delta=1e-6)) / 1e-6 == pytest.approx(1.5, rel=1e-5)  # mean absolute
    assert float(huber(*t(y, zero, np.array([[1.0, 0.0]])))) == 0


def test_orthogonality_limits() -> None:
    rng = np.random.default_rng(0)
    one = np.linalg.qr(rng.normal(size=(40, 9)))[0]
    one -= one.mean(0)
    basis = np.linalg.qr(one)[0]  # centred columns, orthonormal
    apart = np.stack([basis[:, :3], basis[:, 3:6], basis[:, 6:9]])
    assert float(orthogonality(*t(apart), groups=3)) == pytest.approx(0, abs=1e-20)
    same = np.stack([basis[:, :3]] * 3)  # 6 ordered pairs of identity matrices 3 x 3
    assert float(orthogonality(*t(same), groups=3)) == pytest.approx(6 * 3 / (40**2 * 3))
    assert float(orthogonality(*t(same + 5.0), groups=3)) == pytest.approx(6 * 3 / (40**2 * 3))
    assert float(orthogonality(*t(same[:1]), groups=3)) == 0  # a single student has no other group


def test_gradients_are_finite_where_everything_is_masked() -> None:
    z, target, w = (x.requires_grad_() if i == 0 else x for i, x in enumerate(t(*drawn())))
    total = feature_mse(z, target, 0 * w).sum() + feature_cka(z, target, 0 * w).sum()
    total.backward()
    assert torch.isfinite(z.grad).all()
