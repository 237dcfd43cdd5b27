"""The fused numba decision equals torch on the features that the offline table gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mmsim.features import WINDOW, feature_rows
from mmsim.records import OBSERVATION
from mmsim_agents.cmm.brain import FusedBrain
from mmsim_agents.cmm.hajek import TaskFusion, hajek_moe
from mmsim_agents.common.regimes import regimes
from mmsim_agents.students.brain import Brain
from mmsim_agents.students.forward import CLIP
from mmsim_agents.students.normaliser import Normaliser
from mmsim_agents.students.shape import Shape

torch = pytest.importorskip("torch")

from mmsim_agents.students.model import Students  # noqa: E402


def market(n: int, seed: int = 0) -> npt.NDArray[np.void]:
    rng = np.random.default_rng(seed)
    raw = np.zeros(n, OBSERVATION)
    bid = 1000 + np.cumsum(rng.integers(-1, 2, n) * rng.integers(0, 3, n))
    raw["bid_px"], raw["ask_px"] = bid, bid + rng.integers(1, 4, n)
    raw["n_bid"] = raw["n_ask"] = 5
    for i in range(5):
        raw["bid_pxs"][:, i], raw["ask_pxs"][:, i] = raw["bid_px"] - i, raw["ask_px"] + i
        raw["bid_qtys"][:, i], raw["ask_qtys"][:, i] = rng.integers(1, 90, n), rng.integers(1, 90, n)
    raw["bid_qty"], raw["ask_qty"] = raw["bid_qtys"][:, 0], raw["ask_qtys"][:, 0]
    raw["buy_qty"], raw["sell_qty"] = rng.integers(0, 30, n), rng.integers(0, 30, n)
    raw["last_trade_px"] = raw["bid_px"]
    return raw


def brain(
    shape: Shape, fusion: tuple[TaskFusion, ...] | None, limits: npt.NDArray[np.float64]
) -> tuple[Students, Brain]:
    rng = np.random.default_rng(7)
    net = Students(shape, 3)
    for name in ("b1", "b2", "b3", "bz", "by"):  # zero biases would hide a missing one
        with torch.no_grad():
            getattr(net, name).normal_(0.0, 0.3)
    norm = Normaliser(
        mean=rng.normal(size=shape.inputs).astype(np.float32),
        std=rng.uniform(0.5, 3.0, shape.inputs).astype(np.float32),
        target=np.array([[0.1, 2.0, 1.0], [2.0, 0.7, 1.5], [-9.0, -9.0, -9.0], [9.0, 9.0, 9.0]]),
    )
    parts = (shape, net.arrays(), norm, limits, 100)
    return net, FusedBrain(*parts, unit=10, fusion=fusion) if fusion else Brain(*parts, unit=10)


def torch_outputs(
    net: Students, b: Brain, raw: npt.NDArray[np.void], at: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x = (feature_rows(raw[: at + 1], 10)[-WINDOW:] - b.norm.mean) / b.norm.std
    x = np.clip(x, -CLIP, CLIP)
    with torch.no_grad():
        z, y = net(torch.from_numpy(x.astype(np.float32))[None])
    return z[:, 0].double().numpy(), y[:, 0].double().numpy()


def test_ensemble_equals_torch_at_every_decision() -> None:
    raw = market(70)
    limits = np.array([0.8, 1.2])
    rng = np.random.default_rng(1)
    fusion = tuple(
        TaskFusion(width=1.3, inv_tau=4.0, prior=rng.normal(size=(3, 9)), mse=1.0) for _ in range(3)
    )
    net, b = brain(Shape(), fusion, limits)
    regime = regimes([raw], limits, 100)[0]
    assert len(set(regime[WINDOW - 1 :].tolist())) > 1
    for t in range(len(raw)):
        got = b.push(raw[t : t + 1])
        assert (got is None) == (t < WINDOW - 1)
        if got is None:
            continue
        z, y = torch_outputs(net, b, raw, t)
        assert b.regime == regime[t]
        for c in range(3):
            experts = np.arange(27).reshape(3, 3, 3)[:, c].ravel()
            pred = np.clip(y[experts, 0] * b.norm.target[1, c] + b.norm.target[0, c], -9, 9)
            mix = hajek_moe(z[experts], pred, 1.3, 1 / 4.0, fusion[c].prior[regime[t]])
            assert got[c] == pytest.approx(float(mix.output), abs=1e-4)
            np.testing.assert_allclose(b.experts[experts, 0], pred, atol=1e-4)


def test_single_student_equals_torch_and_reset_forgets() -> None:
    raw = market(40, 5)
    shape = Shape.single(Shape().parameters)
    net, b = brain(shape, None, np.array([0.1, 0.2]))
    first = [b.push(raw[i : i + 1]) for i in range(len(raw))]
    for t in (WINDOW - 1, 30, 39):
        _, y = torch_outputs(net, b, raw, t)
        want = np.clip(y[0] * b.norm.target[1] + b.norm.target[0], -9, 9)
        np.testing.assert_allclose(first[t], want, atol=1e-4)
    b.reset()
    assert [b.push(raw[i : i + 1]) for i in range(len(raw))] == first
