"""Constants of the order rule, chosen by simulated runs on validation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.agent import Observation
from mmsim.metrics.ledger import pnl_half_ticks
from mmsim.sim.session import Session
from mmsim.types import Episode
from mmsim_agents.common.maker import PredictiveMaker
from mmsim_agents.common.order_rule import RuleParams
from mmsim_agents.common.tasks import Prediction
from mmsim_agents.students.brain import Brain

KAPPAS = (0.25, 0.5, 1.0, 2.0, 4.0)
SLACKS = (0.0, 0.25, 0.45)
SIZES = ((0.0, 1), (0.02, 3), (0.1, 3))  # (rho, max_units)
RISK = 0.5  # price of a lot of mean absolute inventory, mean spreads per episode


def predictions(brain: Brain, raw: npt.NDArray[np.void]) -> dict[int, Prediction | None]:
    """Return the predictions of one recorded episode by decision time; public state decides them alone."""
    brain.reset()
    return {ts: brain.push(raw[i : i + 1]) for i, ts in enumerate(raw["ts"].tolist())}


class Replayed(PredictiveMaker):
    """Quotes from predictions made beforehand, so that a grid of order rules costs no forward passes."""

    _table: Mapping[int, Prediction | None] = {}

    def predict(self, obs: Observation) -> Prediction | None:
        """Look the decision's prediction up."""
        return self._table.get(obs.ts)


def tune_rule(
    session: Session,
    episodes: Sequence[Episode],
    tables: Sequence[Mapping[int, Prediction | None]],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[RuleParams, list[dict[str, Any]]]:
    """Choose kappa, rho, max_units and slack by runs on validation episodes.

    The best has the largest mean over episodes of ``PnL - RISK * MAP * mean spread`` (tick-lots, before
    fees, inventory closed at the end): profit less half a spread for every lot held on average. A
    plain PnL / MAP would prefer the larger inventory of two losing rules.

    Returns
    -------
    RuleParams
        The best; of equals the earliest in the grid.
    list of dict
        Every point with its PnL and MAP, for the card.
    """
    grid = [
        RuleParams(kappa, rho, units, slack)
        for slack, kappa, (rho, units) in itertools.product(SLACKS, KAPPAS, SIZES)
    ]
    points: list[dict[str, Any]] = []
    for i, rule in enumerate(grid):
        pnl, held, score = [], [], []
        for k, (episode, table) in enumerate(zip(episodes, tables, strict=True)):
            maker = Replayed(**asdict(rule))
            maker._table = table
            result = session.run(maker, episode, k)
            steps = result.steps
            pnl.append(0.5 * pnl_half_ticks(result))
            held.append(float(np.abs(steps["inventory"]).mean()) if len(steps) else 0.0)
            spread = float((steps["ask_px"] - steps["bid_px"]).mean()) if len(steps) else 0.0
            score.append(pnl[-1] - RISK * held[-1] * spread)
        mean = {"pnl_tick_lots": pnl, "map_lots": held, "score": score}
        points.append(asdict(rule) | {k: round(float(np.mean(v)), 4) for k, v in mean.items()})
        if progress is not None:
            progress(i + 1, len(grid))
    best = max(range(len(grid)), key=lambda i: points[i]["score"])
    return grid[best], points
