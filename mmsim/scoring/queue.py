"""Fit the power queue model on order-by-order days, and score every model and rule there.

The command is ``mmsim calibrate queue``; docs/queue_models.md tells how to read what it prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from mmsim.config import SimConfig
from mmsim.data.views import level_view, snapshot_view
from mmsim.errors import ConfigError
from mmsim.files import replacing
from mmsim.scoring.probes import INSIDE, INSIDE_HALF, Plan, compare, passes
from mmsim.scoring.scores import ModelScore, score
from mmsim.types import MarketData

POWERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0)
SIMPLE = ("risk_averse", "proportional", "log")  # without a constant to fit
RULES = ("through", "any", "strict")
REFERENCE = "proportional"  # the default
POOLED = "all"

Tick = Callable[[], None]


@dataclass(frozen=True)
class QueueFit:
    """What `fit_queue` found on one market.

    ``fit`` holds the scores on the split that chose ``power``, every power among them; ``report`` those of the simple
    models and of the chosen power on the split that it was not chosen on. ``low`` to ``high`` are the powers whose
    error on the first cannot be told from the best one's.
    """

    dataset: str
    split: str
    report_split: str
    source_sha256: str
    power: float
    low: float
    high: float
    fit: tuple[ModelScore, ...]
    report: tuple[ModelScore, ...]


def power_name(power: float) -> str:
    """Return the name under which a power model is listed.

    >>> power_name(2.0)
    'power 2'
    """
    return f"power {power:g}"


def models(powers: Sequence[float]) -> list[tuple[str, SimConfig]]:
    """Return the models without a constant and the power models, by name."""
    out = [(name, SimConfig(queue_model=name)) for name in SIMPLE]
    return out + [(power_name(n), SimConfig(queue_model="power", queue_power=n)) for n in powers]


def steps(data: MarketData, plan: Plan, powers: Sequence[float] = POWERS) -> int:
    """Return how often `fit_queue` calls its `tick`."""
    return len(passes(data, plan)) * (len(SIMPLE) + len(powers) + 1 + len(SIMPLE) + 2)


def fit_queue(
    data: MarketData,
    *,
    split: str = "train",
    report_split: str = "test",
    plan: Plan | None = None,
    powers: Sequence[float] = POWERS,
    view: MarketData | None = None,
    tick: Tick = lambda: None,
) -> QueueFit:
    """Choose the power on `split` and score it and the other models on `report_split`.

    The power with the least `ModelScore.error` is chosen, the smaller one of equals.

    Parameters
    ----------
    data : MarketData
        An L3 market.
    view : MarketData, optional
        What the models see; default the L2 view of every message. A `snapshot_view` scores them on snapshots.
    """
    if not powers:
        raise ConfigError("queue models: expected at least one power to try, was none")
    plan = plan or Plan()
    view = level_view(data) if view is None else view
    found = compare(data, view, split, plan, models(powers), tick)
    fit = score(*found, plan.lives_ns, plan.horizons_s, reference=REFERENCE)
    by_name = {s.name: s for s in fit}
    power = min(powers, key=lambda n: (by_name[power_name(n)].error.value, n))
    against = {s.name: s for s in score(*found, plan.lives_ns, plan.horizons_s, reference=power_name(power))}
    tied = [n for n in powers if n == power or against[power_name(n)].versus.low <= 0]
    found = compare(data, view, report_split, plan, models((power,)), tick)
    report = score(*found, plan.lives_ns, plan.horizons_s, reference=REFERENCE)
    return QueueFit(
        data.name, split, report_split, data.source_sha256, power, min(tied), max(tied), fit, report
    )


def score_inside(
    data: MarketData,
    interval_ns: int,
    depth: int,
    *,
    split: str = "test",
    plan: Plan | None = None,
    tick: Tick = lambda: None,
) -> tuple[ModelScore, ...]:
    """Score the rules of `SimConfig.inside` for quotes inside the spread on a snapshot view of an L3 market."""
    plan = plan or inside_plan()
    if plan.grid_ns % interval_ns:
        raise ConfigError(
            f"snapshots: expected an interval that divides {plan.grid_ns} ns, was {interval_ns}: orders are placed "
            "at snapshots"
        )
    view = snapshot_view(data, interval_ns, depth)
    rules = [(rule, SimConfig(inside=rule)) for rule in RULES]  # type: ignore[arg-type]  # the literals above
    found = compare(data, view, split, plan, rules, tick)
    return score(*found, plan.lives_ns, plan.horizons_s, reference="through")


def inside_plan(life_s: float = 120.0) -> Plan:
    """Return the orders that `score_inside` places: one tick inside the spread, and in its middle."""
    return Plan.living(life_s, (INSIDE, INSIDE_HALF))


def pooled(fits: Sequence[QueueFit], powers: Sequence[float] = POWERS) -> float:
    """Return the power with the least mean error over several markets, each counting the same."""

    def mean(power: float) -> float:
        name = power_name(power)
        return float(np.mean([next(s.error.value for s in f.fit if s.name == name) for f in fits]))

    return min(powers, key=lambda n: (mean(n), n))


def save(fits: Sequence[QueueFit], power: float, folder: Path) -> Path:
    """Write ``NAME.queue.toml`` (``all.queue.toml`` for several markets) into `folder` and return its path.

    `mmsim.calibration_store.fitted_queue_power` reads it.
    """
    names = ",".join(f.dataset for f in fits)
    first = fits[0]
    head = (
        f"# Made by: mmsim calibrate queue --dataset {names} --split {first.split} --write\n"
        "# power: exponent n of the power queue model; power_range: not told apart on this split\n"
        "# scores: error in s over all orders, and its 95 % interval\n"
    )
    values: dict[str, Any] = {"power": power}
    if len(fits) == 1:
        values["power_range"] = [first.low, first.high]
    values |= {"split": first.split, "source_sha256": ",".join(f.source_sha256 for f in fits)}
    values["scores"] = {
        fit.dataset: {
            split: {s.name: [round(x, 4) for x in s.error] for s in scores}
            for split, scores in ((fit.split, fit.fit), (fit.report_split, fit.report))
        }
        for fit in fits
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{first.dataset if len(fits) == 1 else POOLED}.queue.toml"
    with replacing(path) as temporary:
        temporary.write_text(head + tomli_w.dumps(values), encoding="utf-8")
    return path
