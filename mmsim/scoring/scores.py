"""How well predicted fates agree with the true ones: one number per question, with an interval over time blocks.

A replay predicts one fate per order, not a probability: "filled after 12.3 s" or "not filled". So a model's Brier
score at a horizon is the share of orders whose fate by then it gets wrong, and the integral of that over all
horizons up to the order's life is the mean of ``|min(T, life) - min(T', life)|``, with T and T' the true and the
predicted time to the fill (infinite if there is none). That mean, in seconds, is the headline here (`ModelScore.error`):
it judges fill times and fill probabilities at once, and every order counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError
from mmsim.scoring.probes import NS, PLACE_NAMES, UNFILLED
from mmsim.statistics.bootstrap import Estimate, Floats, Ints, mean_over_blocks

BLOCK_NS = 300 * NS  # orders of one block are resampled together: their fates hang together
BUCKETS = 4  # of the queue ahead, within each place


class Cell(NamedTuple):
    """Fill rates of one group of orders by one horizon: the calibration curve's points."""

    horizon_s: float
    place: str
    ahead_lots: float  # mean queue ahead of the group's orders
    n: int
    true_rate: float
    predicted_rate: float


@dataclass(frozen=True)
class ModelScore:
    """One model against the truth on one stretch of one market.

    Times are in seconds. ``error`` and ``bias`` are over all orders (see the module's text); ``bias`` is the mean
    over horizons of the predicted minus the true fill rate, so positive flatters. ``time_error``, ``time_median`` and
    ``time_bias`` are of the fill time among orders filled both ways. ``versus`` is the difference of ``error`` to the
    reference model's on the same orders: negative is better.
    """

    name: str
    n: int
    error: Estimate
    versus: Estimate
    bias: Estimate
    horizons_s: tuple[float, ...]
    true_rate: tuple[float, ...]
    predicted_rate: tuple[float, ...]
    brier: tuple[float, ...]  # share of wrong fates by each horizon
    calibration: float  # mean over cells, weighted by orders, of |predicted - true fill rate|
    both: int  # filled both ways within an order's life; the confusion counts
    only_predicted: int
    only_true: int
    neither: int
    exact: float  # share of `both` filled by the very same message
    time_median: float
    time_error: Estimate
    time_bias: Estimate
    cells: tuple[Cell, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; nan becomes None."""
        out: dict[str, Any] = _plain(asdict(self))
        out["cells"] = [_plain(cell._asdict()) for cell in self.cells]
        return out


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def score(
    probes: npt.NDArray[np.void],
    truth: Ints,
    predicted: Mapping[str, Ints],
    lives_ns: int,
    horizons_s: Sequence[float],
    *,
    reference: str,
    block_ns: int = BLOCK_NS,
) -> tuple[ModelScore, ...]:
    """Score every model of `predicted` against `truth`, as `mmsim.scoring.probes.compare` returns them.

    Parameters
    ----------
    probes : (n,) PROBE
        The orders.
    truth, predicted : (n,) int64
        ns to the fill, `UNFILLED` if there was none within ``lives_ns``.
    reference : str
        The model that the others are compared with.
    horizons_s : sequence of float
        Seconds at which fill rates are compared; at most an order's life.
    block_ns : int
        Length of the time blocks that the bootstrap draws, ns.

    Raises
    ------
    ConfigError
        If there is no such reference, or a horizon is beyond an order's life.
    """
    if reference not in predicted:
        raise ConfigError(f"score: expected a reference among {', '.join(predicted)}, was {reference!r}")
    if not horizons_s or max(horizons_s) * NS > lives_ns or min(horizons_s) <= 0:
        raise ConfigError(
            f"score: expected horizons within an order's life of {lives_ns / NS:g} s, was {tuple(horizons_s)}"
        )
    block = np.unique(probes["ts"] // block_ns, return_inverse=True)[1].astype(np.int64)
    groups = _groups(probes)
    base = _lived(predicted[reference], lives_ns)
    base_error = np.abs(base - _lived(truth, lives_ns))
    return tuple(
        _one(name, probes, truth, fate, lives_ns, base_error, tuple(horizons_s), block, groups)
        for name, fate in predicted.items()
    )


def _lived(fate: Ints, lives_ns: int) -> Floats:
    return np.where(fate == UNFILLED, lives_ns, np.minimum(fate, lives_ns)) / NS


def _filled(fate: Ints, horizon_s: float) -> npt.NDArray[np.bool_]:
    filled: npt.NDArray[np.bool_] = (fate != UNFILLED) & (fate <= horizon_s * NS)
    return filled


def _groups(probes: npt.NDArray[np.void]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    # quantiles of the queue ahead within each place: models matter most behind long queues
    out = []
    for place in np.unique(probes["place"]).tolist():
        here = probes["place"] == place
        ahead = probes["ahead"]
        edges = np.unique(np.quantile(ahead[here], np.linspace(0, 1, BUCKETS + 1)[1:-1]))
        bucket = np.searchsorted(edges, ahead, side="left")
        name = PLACE_NAMES.get(place, f"level {place + 1}")
        out += [(name, here & (bucket == b)) for b in np.unique(bucket[here]).tolist()]
    return out


def _one(
    name: str,
    probes: npt.NDArray[np.void],
    truth: Ints,
    fate: Ints,
    lives_ns: int,
    base_error: Floats,
    horizons_s: tuple[float, ...],
    block: Ints,
    groups: list[tuple[str, npt.NDArray[np.bool_]]],
) -> ModelScore:
    lived, true_lived = _lived(fate, lives_ns), _lived(truth, lives_ns)
    error = np.abs(lived - true_lived)
    true_by = [_filled(truth, h) for h in horizons_s]
    said_by = [_filled(fate, h) for h in horizons_s]
    cells = tuple(
        Cell(h, place, float(probes["ahead"][m].mean()), int(m.sum()), float(t[m].mean()), float(s[m].mean()))
        for h, t, s in zip(horizons_s, true_by, said_by, strict=True)
        for place, m in groups
    )
    weight = np.array([c.n for c in cells], np.float64)
    gap = np.array([abs(c.predicted_rate - c.true_rate) for c in cells])
    true_any, said_any = _filled(truth, lives_ns / NS), _filled(fate, lives_ns / NS)
    both = true_any & said_any
    late = (fate[both] - truth[both]) / NS
    return ModelScore(
        name=name,
        n=len(probes),
        error=mean_over_blocks(error, block),
        versus=mean_over_blocks(error - base_error, block),
        bias=mean_over_blocks((true_lived - lived) / (lives_ns / NS), block),
        horizons_s=horizons_s,
        true_rate=tuple(float(t.mean()) for t in true_by),
        predicted_rate=tuple(float(s.mean()) for s in said_by),
        brier=tuple(float((t != s).mean()) for t, s in zip(true_by, said_by, strict=True)),
        calibration=float((weight * gap).sum() / weight.sum()),
        both=int(both.sum()),
        only_predicted=int((said_any & ~true_any).sum()),
        only_true=int((true_any & ~said_any).sum()),
        neither=int((~true_any & ~said_any).sum()),
        exact=float((late == 0).mean()) if len(late) else np.nan,
        time_median=float(np.median(np.abs(late))) if len(late) else np.nan,
        time_error=mean_over_blocks(np.abs(late), block[both]),
        time_bias=mean_over_blocks(late, block[both]),
        cells=cells,
    )
