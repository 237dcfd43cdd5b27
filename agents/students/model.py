"""The student ensemble in torch, for training: one batched forward for all students."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mmsim_agents.students.forward import PATCH
from mmsim_agents.students.shape import WEIGHTS, Shape


class Students(nn.Module):
    """All students of one `Shape`; initial weights are drawn from `seed` alone.

    Parameters
    ----------
    shape : Shape
        Sizes.
    seed : int
        Of the initial weights.
    """

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    w3: Tensor
    b3: Tensor
    wz: Tensor
    bz: Tensor
    wy: Tensor
    by: Tensor

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        rng = torch.Generator().manual_seed(seed)
        for name, size in shape.arrays().items():
            if name.startswith("b"):
                value = torch.zeros(size)
            else:
                gain = 1.0 if name in ("wz", "wy") else 2.0  # He where a ReLU follows
                value = torch.randn(size, generator=rng) * (gain / size[-2]) ** 0.5
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and predictions of every student.

        Parameters
        ----------
        x : (B, W, F)
            Standardised feature windows, oldest decision first.

        Returns
        -------
        z : (M, B, feature)
        y : (M, B, outputs)
        """
        m, c1, taps = self.shape.experts, self.shape.c1, self.shape.taps
        batch, _, n_feat = x.shape
        patches = x.reshape(batch * taps, PATCH * n_feat)
        u = torch.relu(torch.addmm(self.b1, patches, self.w1))
        u = u.view(batch, taps, m, c1).permute(2, 0, 1, 3).reshape(m, batch, taps * c1)
        h = torch.relu(torch.baddbmm(self.b2.unsqueeze(1), u, self.w2))
        h = torch.cat([h, x[:, -1].expand(m, batch, n_feat)], dim=2)
        a = torch.relu(torch.baddbmm(self.b3.unsqueeze(1), h, self.w3))
        z = torch.baddbmm(self.bz.unsqueeze(1), a, self.wz)
        y = torch.baddbmm(self.by.unsqueeze(1), a, self.wy)
        return z, y

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return copies of the weights."""
        return {k: getattr(self, k).detach().numpy().copy() for k in WEIGHTS}

    def load_arrays(self, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
        """Set the weights."""
        with torch.no_grad():
            for name in WEIGHTS:
                getattr(self, name).copy_(torch.from_numpy(np.asarray(arrays[name], np.float32)))
