"""The four losses of the distillation (mmsim's reconstruction of CMM, CMM.md section 4).

Every function takes all M students at once: features ``z`` and their targets ``t`` ``(M, B, d)``,
predictions ``(M, B, K)``, sample weights ``(M, B)`` (1 for samples of the student's own regime, 0.1
for the others, 0 where a sample has no teacher output), and returns one loss per student, ``(M,)``:
the weighted mean over samples, 0 where every weight is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-12


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum(1) / weight.sum(1).clamp_min(_EPS)


def feature_mse(z: Tensor, t: Tensor, weight: Tensor) -> Tensor:
    """L_feat: mean of ``|z - t|^2 / d``, ``(M,)``."""
    return _mean((z - t).square().mean(2), weight)


def feature_cka(z: Tensor, t: Tensor, weight: Tensor) -> Tensor:
    """L_feat, variant: 1 - linear CKA(Z, T), ``(M,)``, in [0, 1].

    ``CKA = |Z'^T T'|_F^2 / (|Z'^T Z'|_F |T'^T T'|_F)`` with columns centred and rows weighted by the
    square root of their sample weight. Invariant to rotations and scalings of either feature space.
    """
    share = (weight / weight.sum(1, keepdim=True).clamp_min(_EPS)).unsqueeze(2)
    root = share.sqrt()
    zc = (z - (share * z).sum(1, keepdim=True)) * root
    tc = (t - (share * t).sum(1, keepdim=True)) * root
    cross = torch.bmm(zc.transpose(1, 2), tc).square().sum((1, 2))
    own_z = torch.bmm(zc.transpose(1, 2), zc).square().sum((1, 2))
    own_t = torch.bmm(tc.transpose(1, 2), tc).square().sum((1, 2))
    # Clamped before the root: its gradient at zero would be infinite.
    cka = cross / (own_z * own_t).clamp_min(_EPS**2).sqrt()
    return torch.where(weight.sum(1) > 0, 1.0 - cka, torch.zeros_like(cka))


def huber(y: Tensor, target: Tensor, weight: Tensor, delta: float = 1.0) -> Tensor:
    """L_kd and L_task: Huber loss, mean over the K outputs, ``(M,)``.

    ``e^2 / 2`` for ``|e| <= delta``, else ``delta (|e| - delta / 2)``.
    """
    e = (y - target).abs()
    value = torch.where(e <= delta, 0.5 * e.square(), delta * (e - 0.5 * delta))
    return _mean(value.mean(2), weight)


def orthogonality(z: Tensor, groups: int = 3) -> Tensor:
    """L_orth: overlap of the features of different layer groups, same task and regime.

    Parameters
    ----------
    z : (M, B, d)
        Features; the layer group is the slowest index of M.
    groups : int
        Layer groups G.

    Returns
    -------
    scalar
        ``sum over g != g' of |Z^_g^T Z^_g'|_F^2 / (B^2 d)`` with column-centred Z^, summed over tasks
        and regimes.
    """
    m, batch, d = z.shape
    if groups < 2 or m % groups:
        return z.new_zeros(())
    zc = (z - z.mean(1, keepdim=True)).view(groups, m // groups, batch, d)
    total = z.new_zeros(())
    for g in range(groups):
        for other in range(g):
            total = total + torch.matmul(zc[g].transpose(1, 2), zc[other]).square().sum()
    return 2.0 * total / (batch**2 * d)
