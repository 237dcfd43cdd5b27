"""Does the ranking of agents survive other settings? Scores per setting, ranks, agreement with the base setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata, spearmanr

from mmsim.statistics.bootstrap import bootstrap_ci


@dataclass(frozen=True)
class Score:
    """One agent in one setting: mean EPnL per episode, its 95 % interval (currency), and its rank (1 = best)."""

    agent: str
    epnl: float
    low: float
    high: float
    rank: int
    fills: int
    fills_sha256: str = ""  # equal where the setting changed nothing at all


@dataclass(frozen=True)
class Cell:
    """All agents in one setting of the axes, compared with the base setting.

    Parameters
    ----------
    setting : dict
        Axis -> value as text.
    scores : tuple of Score
        In the order in which the agents were given.
    tau, rho : float
        Kendall's tau-b and Spearman's rho between the agents' EPnL here and in the base setting; nan where all
        agents are level in one of them.
    lead, lead_low, lead_high : float
        Mean EPnL of the best agent above the second, episode by episode, with its 95 % interval (currency).
    """

    setting: dict[str, str]
    scores: tuple[Score, ...]
    tau: float
    rho: float
    lead: float
    lead_low: float
    lead_high: float

    @property
    def winners(self) -> tuple[str, ...]:
        """The best agent; several if they are level."""
        return tuple(s.agent for s in self.scores if s.rank == 1)

    @property
    def clear(self) -> bool:
        """Whether the interval of the best agent's lead lies above 0."""
        return self.lead_low > 0


def cell(
    setting: dict[str, str],
    agents: Sequence[str],
    epnl: Sequence[Sequence[float]],
    fills: Sequence[int],
    fills_sha256: Sequence[str],
    base: Cell | None = None,
) -> Cell:
    """Return the scores of agents in one setting, compared with `base` (None: this is the base).

    Parameters
    ----------
    agents, fills, fills_sha256 : sequence, length n
        Name of each agent, its number of fills and their digest.
    epnl : (n, episodes) float
        Profit of each agent in each episode, currency; the same episodes for all.
    """
    by_episode = [np.array(row, np.float64) for row in epnl]
    means = [float(row.mean()) for row in by_episode]
    ranks = rankdata([-m for m in means], method="min")
    scores = tuple(
        Score(agent, mean, *bootstrap_ci(row), int(rank), n, digest)
        for agent, row, mean, rank, n, digest in zip(
            agents, by_episode, means, ranks, fills, fills_sha256, strict=True
        )
    )
    order = np.argsort(-np.array(means), kind="stable")
    lead, low, high = math.nan, math.nan, math.nan
    if len(order) > 1:
        apart = by_episode[order[0]] - by_episode[order[1]]
        lead = float(apart.mean())
        low, high = bootstrap_ci(apart)
    tau, rho = _agreement(means if base is None else [s.epnl for s in base.scores], means)
    return Cell(setting, scores, tau, rho, lead, low, high)


def _agreement(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    if len(set(a)) < 2 or len(set(b)) < 2:
        return math.nan, math.nan
    return float(kendalltau(a, b).statistic), float(spearmanr(a, b).statistic)


@dataclass(frozen=True, eq=False)
class Rankings:
    """All cells of one market; the first is the base setting.

    ``dropped`` says which axes cannot matter on this market, and why.
    """

    dataset: str
    title: str
    currency: str
    split: str
    axes: dict[str, tuple[str, ...]]
    cells: tuple[Cell, ...]
    dropped: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> Cell:
        """The setting that the others are compared with."""
        return self.cells[0]

    @property
    def agents(self) -> tuple[str, ...]:
        """The agents, as given."""
        return tuple(s.agent for s in self.base.scores)

    @property
    def ranks(self) -> npt.NDArray[np.int64]:
        """The rank of every agent in every cell, ``(agents, cells)``."""
        return np.array([[s.rank for s in c.scores] for c in self.cells], np.int64).T

    def winner_stays(self, c: Cell) -> bool:
        """Whether a best agent of the base setting is a best agent in `c`."""
        return bool(set(c.winners) & set(self.base.winners))

    def same_order(self, c: Cell) -> bool:
        """Whether all agents rank in `c` as in the base setting."""
        return [s.rank for s in c.scores] == [s.rank for s in self.base.scores]

    @cached_property
    def idle(self) -> tuple[tuple[str, str, str], ...]:
        """``(axis, value, first)`` where a value changed no fill of any agent against its axis's first value."""

        def key(c: Cell, without: str) -> tuple[str, ...]:
            return tuple(v for axis, v in c.setting.items() if axis != without)

        out = []
        for axis, (first, *others) in self.axes.items():
            base = {key(c, axis): c for c in self.cells if c.setting[axis] == first}
            for value in others:
                cells = [c for c in self.cells if c.setting[axis] == value]
                if all(_same_fills(c, base[key(c, axis)]) for c in cells):
                    out.append((axis, value, first))
        return tuple(out)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Shares of all cells but the base, and the same for each value of each axis."""
        out = self._shares(self.cells[1:])
        out["by_axis"] = {
            axis: {v: self._shares([c for c in self.cells[1:] if c.setting[axis] == v]) for v in values}
            for axis, values in self.axes.items()
            if len(values) > 1
        }
        return out

    def _shares(self, cells: Sequence[Cell]) -> dict[str, Any]:
        n = len(cells)
        taus = [c.tau for c in cells if not math.isnan(c.tau)]
        return {
            "cells": n,
            "winner_stays": sum(map(self.winner_stays, cells)) / n if n else None,
            "same_order": sum(map(self.same_order, cells)) / n if n else None,
            "clear_lead": sum(c.clear for c in cells) / n if n else None,
            "clear_other_winner": sum(c.clear and not self.winner_stays(c) for c in cells) / n if n else None,
            "mean_tau": float(np.mean(taus)) if taus else None,
            "least_tau": min(taus) if taus else None,
        }


def _same_fills(a: Cell, b: Cell) -> bool:
    return [s.fills_sha256 for s in a.scores] == [s.fills_sha256 for s in b.scores]
