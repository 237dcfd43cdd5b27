"""The causal reading beside the probe: which layers move when one group of input fields is perturbed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError
from mmsim_agents.common.progress import Progress, silent
from mmsim_agents.teacher.model import Pool, TeacherModel
from mmsim_agents.teacher.prompt import render
from mmsim_agents.teacher.ridge import F64

FIELD_GROUPS = ("prices", "sizes", "trades")

Rows = npt.NDArray[np.void]


def perturb(rows: Rows, group: str, scale: dict[str, float], rng: np.random.Generator) -> Rows:
    """Move one group of public fields of a prompt window by one standard deviation, up or down.

    prices: every snapshot is shifted by one typical move and its asks by one typical spread deviation
    (never crossing); sizes, trades: multiplied by two to the power of plus or minus one deviation of
    their base-2 logarithm.

    Parameters
    ----------
    rows : (w,) OBSERVATION
        Window, oldest first; not changed.
    group : str
        One of `FIELD_GROUPS`.
    scale : dict
        From `field_scales`.
    """
    out = rows.copy()
    if group == "prices":
        shift = rng.choice([-1, 1], len(rows)) * max(1, round(scale["move"]))
        wider = rng.choice([-1, 1], len(rows)) * max(1, round(scale["spread"]))
        wider = np.maximum(wider, 1 - (rows["ask_px"] - rows["bid_px"]))
        for side, by in (("bid", shift), ("ask", shift + wider)):
            out[f"{side}_px"] += by
            out[f"{side}_pxs"] += by[:, None]
    elif group == "sizes":
        bid_up = float(rng.choice([-1.0, 1.0]))  # the two sides move apart: the imbalance is what matters
        for side, up in (("bid", bid_up), ("ask", -bid_up)):
            for name in (f"{side}_qty", f"{side}_qtys"):
                grown = np.rint(out[name] * 2.0 ** (up * scale["size"])).astype(np.int64)
                out[name] = np.where(rows[name] > 0, np.maximum(grown, 1), 0)
    elif group == "trades":
        for name in ("buy_qty", "sell_qty"):
            up = float(rng.choice([-1.0, 1.0]))
            grown = np.rint((1.0 + out[name]) * 2.0 ** (up * scale["trade"]) - 1.0)
            out[name] = np.maximum(grown, 0).astype(np.int64)
    else:
        raise ConfigError(f"field group: expected one of {', '.join(FIELD_GROUPS)}, was {group!r}")
    return out


def field_scales(raw: Sequence[Rows]) -> dict[str, float]:
    """Return the standard deviations that `perturb` moves by, from the TRAIN episodes.

    ``move`` and ``spread`` in ticks, ``size`` and ``trade`` in powers of two.
    """
    every = np.concatenate(list(raw))
    moves = np.concatenate([np.diff(r["bid_px"] + r["ask_px"]) for r in raw]) / 2.0
    sizes = np.log2(np.maximum(np.stack([every["bid_qty"], every["ask_qty"]], axis=1), 1))
    trades = np.log2(1.0 + np.stack([every["buy_qty"], every["sell_qty"]], axis=1))
    return {
        "move": float(moves.std()) if len(moves) else 0.0,
        "spread": float((every["ask_px"] - every["bid_px"]).std()),
        "size": float(sizes.std()),
        "trade": float(trades.std()),
    }


def causal_profile(
    model: TeacherModel,
    windows: Sequence[Rows],
    scale: dict[str, float],
    mu: npt.NDArray[np.float32],
    sigma: npt.NDArray[np.float32],
    *,
    instrument: str,
    unit: int = 1,
    pool: Pool = "last",
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[F64, F64]:
    """Measure ``|h_l(x + d) - h_l(x)| / |h_l(x)|`` per layer, on standardised states.

    Parameters
    ----------
    windows : sequence of (w,) OBSERVATION
        Prompt windows.
    scale : dict
        From `field_scales`.
    mu, sigma : (L, d) float32
        TRAIN standardisation.

    Returns
    -------
    profile : (3, L)
        Mean relative change per field group, normalised to sum 1 over layers (1/L if nothing moved).
    change : (3, L)
        The mean relative change itself; 0 in a layer that is constant.
    """
    rng = np.random.default_rng(seed)

    def states(rows: Sequence[Rows]) -> F64:
        texts = [render(r, instrument, unit) for r in rows]
        z: F64 = (model.hidden(texts, pool=pool).astype(np.float64) - mu) / sigma.astype(np.float64)
        return z

    base = states(windows)
    norm = np.linalg.norm(base, axis=2)
    change = np.zeros((len(FIELD_GROUPS), base.shape[1]))
    for k, group in enumerate(FIELD_GROUPS):
        moved = states([perturb(r, group, scale, rng) for r in windows])
        delta = np.linalg.norm(moved - base, axis=2)
        ratio = np.divide(delta, norm, out=np.zeros_like(delta), where=norm > 0)
        change[k] = ratio.mean(0)
        progress("causal reading", k + 1, len(FIELD_GROUPS))
    total = change.sum(1, keepdims=True)
    profile = np.where(total > 0, change / np.where(total > 0, total, 1.0), 1.0 / change.shape[1])
    return profile, change
