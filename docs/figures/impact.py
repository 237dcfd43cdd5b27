"""Make the pictures of docs/impact.md: `python docs/figures/impact.py` (seed 0, simulated data only)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmsim.agent import Observation, Quotes, SessionContext, Strategy
from mmsim.config import SimConfig
from mmsim.data import load
from mmsim.metrics.ledger import equity_currency
from mmsim.sim.session import Session

OUT = Path(__file__).resolve().parents[1] / "img"
MARKET = "sim-ag"
LIMIT = 200  # lots
BLUE, RED, GREY = "#0072B2", "#D55E00", "#666666"
NS = 1_000_000_000


class Swing(Strategy):
    """Buys `size` lots at every decision until it holds its limit, then sells as many, and so on."""

    size: int = 10

    def reset(self, ctx: SessionContext) -> None:
        """Start by buying."""
        self.side, self.limit = 1, ctx.max_inventory

    def quote(self, obs: Observation) -> Quotes:
        """Take, and turn at the limit."""
        if self.side * obs.inventory + self.size > self.limit:
            self.side = -self.side
        return Quotes(take=self.side * self.size)


class Once(Strategy):
    """Buys `size` lots at decision `at`, and nothing else."""

    size: int = 50
    at: int = 120

    def quote(self, obs: Observation) -> Quotes:
        """Take once."""
        return Quotes(take=self.size) if obs.step == self.at else Quotes.none()


def same_day() -> None:
    """One test episode under `none` and `consume`."""
    data = load(MARKET)
    episode = data.splits["test"][0]
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    paid, wealth = figure.subplots(2, 1, sharex=True)
    for impact, colour in (("none", BLUE), ("consume", RED)):
        sim = SimConfig(impact=impact, max_inventory_units=LIMIT)  # type: ignore[arg-type]
        run = Session(data, sim).run(Swing(), episode)
        fills = run.fills[run.fills["order_id"] > 0]
        minutes = (fills["ts"] - episode.start_ts) / NS / 60
        cost = fills["side"] * (2 * fills["px"].astype(np.int64) - fills["mid2"]) / 2
        lots = np.cumsum(fills["qty"])
        mean = float(np.sum(cost * fills["qty"]) / lots[-1])
        print(f"{impact}: {lots[-1]:,} lots taken, {mean:.2f} ticks beyond the mid per lot")
        total = np.cumsum(cost * fills["qty"])
        paid.plot(minutes, total / lots, color=colour, lw=1.2, label=f"{impact}: {mean:.2f} in all")
        steps = run.steps
        wealth.plot(
            (steps["ts"] - episode.start_ts) / NS / 60, equity_currency(run)[: len(steps)], color=colour, lw=1.2,
            label=impact,
        )  # fmt: skip
    paid.set_ylabel("paid beyond the mid, mean so far,\nticks per lot")
    paid.set_title(f"{MARKET} (SIMULATED), first test episode: an agent that takes 10 lots every half second")
    wealth.set_ylabel(f"equity, {data.instrument.currency}")
    wealth.set_xlabel("minutes")
    for axes in (paid, wealth):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(OUT / "impact_none_consume.png", dpi=110)


def response() -> None:
    """How the reactive market's mid moves after an own market order, against the same market without it."""
    data = load(MARKET)
    sim = SimConfig(impact="reactive", max_inventory_units=LIMIT, max_order_units=LIMIT)  # type: ignore[arg-type]
    session = Session(data, sim)
    before, after = 20, 240
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for size, colour in ((20, BLUE), (100, RED)):
        moves = []
        for k, episode in enumerate(data.splits["test"]):
            quiet = session.run(Once(size=1, at=10**9), episode, k).steps["mid2"]
            for at in (200, 600, 1000, 1400):
                mid2 = session.run(Once(size=size, at=at), episode, k).steps["mid2"]
                moves.append((mid2 - quiet)[at - before : at + after] / 2)
        mean = np.mean(moves, axis=0)
        error = np.std(moves, axis=0) / np.sqrt(len(moves))
        seconds = np.arange(-before, after) / 2
        axes.plot(seconds, mean, color=colour, label=f"{size} lots bought ({len(moves)} times)")
        axes.fill_between(seconds, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
        peak, late = float(mean.max()), float(mean[-60:].mean())
        print(f"{size} lots: peak {peak:.2f} ticks, {late:.2f} in the last 30 s shown, of {len(moves)} runs")
    axes.axhline(0, color=GREY, lw=0.8)
    axes.set_xlabel("seconds after the decision")
    axes.set_ylabel("mid against the same market\nwithout the order, ticks")
    axes.set_title(f"{MARKET} (SIMULATED), reactive: mean over test episodes, band: one standard error")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(OUT / "impact_reactive.png", dpi=110)


if __name__ == "__main__":
    same_day()
    response()
