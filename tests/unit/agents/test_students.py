"""Sizes, initial weights and causality of the students; the targets they are given."""

from __future__ import annotations

import numpy as np
import pytest

from mmsim.errors import ConfigError
from mmsim.records import OBSERVATION
from mmsim_agents.common.tasks import targets
from mmsim_agents.students.shape import Shape, check_weights


def test_sizes_are_what_the_specification_asks() -> None:
    all27 = Shape()
    single = Shape.single(all27.parameters)
    assert 10_000 <= all27.parameters // 27 <= 100_000
    assert all27.parameters % 27 == 0
    assert abs(single.parameters / all27.parameters - 1) < 0.02
    assert 2 * (all27.parameters + single.parameters) < 1.5 * 2**20  # float16, both: room below 2 MiB


def test_weights_are_checked() -> None:
    shape = Shape(experts=3, c1=4, c2=4, hidden=8, feature=4)
    good = {k: np.zeros(s, np.float32) for k, s in shape.arrays().items()}
    check_weights(good, shape, "x")
    with pytest.raises(ConfigError, match="x: expected an array 'w3'"):
        check_weights({k: v for k, v in good.items() if k != "w3"}, shape, "x")
    with pytest.raises(ConfigError, match="finite 'wy'"):
        check_weights(good | {"wy": np.full_like(good["wy"], np.nan)}, shape, "x")
    with pytest.raises(ConfigError, match="'b1' of shape"):
        check_weights(good | {"b1": good["b1"][:-1]}, shape, "x")


def test_forward_is_deterministic_and_experts_are_apart() -> None:
    torch = pytest.importorskip("torch")
    from mmsim_agents.students.model import Students

    shape = Shape(experts=6, c1=4, c2=4, hidden=8, feature=4)
    a, b, other = Students(shape, 1), Students(shape, 1), Students(shape, 2)
    x = torch.randn(5, 20, shape.inputs)
    for p, q in zip(a(x), b(x), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(a(x)[1], other(x)[1])
    z, y = a(x)
    assert z.shape == (6, 5, 4) and y.shape == (6, 5, 1)
    # A batch of five is five batches of one, and the gradient of one expert touches no other.
    z1, y1 = a(x[2:3])
    torch.testing.assert_close(z[:, 2:3], z1)
    torch.testing.assert_close(y[:, 2:3], y1)
    y[2].sum().backward()
    assert a.w2.grad[2].abs().sum() > 0
    assert a.w2.grad[[0, 1, 3, 4, 5]].abs().sum() == 0
    again = Students(shape, 9)
    again.load_arrays(a.arrays())
    assert torch.equal(again(x)[0], a(x)[0])


def test_targets_by_hand_and_no_look_past_the_end() -> None:
    raw = np.zeros(5, OBSERVATION)
    raw["bid_px"] = [100, 101, 101, 103, 90]
    raw["ask_px"] = [102, 102, 104, 104, 99]
    raw["buy_qty"] = [50, 1, 2, 3, 4]
    raw["sell_qty"] = [60, 0, 10, 0, 7]
    got = targets(raw, unit=2, horizon=2)
    assert np.isnan(got[3:]).all() and np.isfinite(got[:3]).all()
    np.testing.assert_array_equal(got[:3, 0], [1.5, 2.0, -8.0])
    np.testing.assert_array_equal(got[:3, 1], [3, 1, 9])
    # (t, t + 2]: the trades of rows t + 1 and t + 2, not those shown at t.
    np.testing.assert_allclose(got[:3, 2], np.log1p(np.array([13, 15, 14]) / 2))
    assert np.isnan(targets(raw, horizon=5)).all()
    with pytest.raises(ConfigError):
        targets(raw, horizon=0)
