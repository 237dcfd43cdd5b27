"""Profit and risk of one episode, and Sharpe ratios over episodes. Currency is the instrument's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmsim.metrics import ledger
from mmsim.metrics.episode import EpisodeResult
from mmsim.metrics.value import ATOMS, marks
from mmsim.types import Instrument

TRADING_DAYS = 250  # per year, for markets with sessions


def epnl(ep: EpisodeResult) -> float:
    """Return the episode's profit after fees, currency: ``x_T + z_T m_T`` from a flat start.

    The residual inventory has been closed by walking the book; what could not be closed is marked to mid.
    An agent that never trades has exactly 0.
    """
    return ledger.to_currency(ledger.pnl(ep), ep.instrument, ledger.fees_paid(ep))


def map_(ep: EpisodeResult) -> float:
    """Return the mean absolute position, lots: ``(1/M) sum |z_k|`` over all M decision times.

    Source: Gasperov and Kostanjcar 2021, eq. 15.
    """
    held = ep.steps["inventory"]
    return float(np.abs(held).mean()) if len(held) else 0.0


def pnl_map(ep: EpisodeResult) -> float:
    """Return `epnl` / `map_`, currency per lot; nan if no inventory was ever held at a decision time.

    Source: Gasperov and Kostanjcar 2021, eq. 17.
    """
    held = map_(ep)
    return epnl(ep) / held if held > 0 else math.nan


def pnl_map_mean_of_ratios(episodes: Sequence[EpisodeResult]) -> float:
    """Return the mean of `pnl_map` over the episodes in which it is defined; nan if in none."""
    ratios = [r for r in map(pnl_map, episodes) if not math.isnan(r)]
    return float(np.mean(ratios)) if ratios else math.nan


def pnl_map_ratio_of_means(episodes: Sequence[EpisodeResult]) -> float:
    """Return mean `epnl` / mean `map_`, currency per lot; nan if no inventory was ever held."""
    held = sum(map(map_, episodes))
    return sum(map(epnl, episodes)) / held if held > 0 else math.nan


def sharpe(epnls: Sequence[float]) -> float:
    """Return ``mean(EPnL) / std(EPnL)`` over episodes, not annualised, sample standard deviation.

    nan for fewer than two episodes or without variation.

    >>> sharpe([1.0, 2.0, 3.0])
    2.0
    """
    if len(epnls) < 2 or max(epnls) == min(epnls):
        return math.nan
    return float(np.mean(epnls)) / float(np.std(epnls, ddof=1))


def sharpe_annualised(epnls: Sequence[float], episode_s: float, instrument: Instrument) -> float:
    """Return `sharpe` times `annual_factor`; assumes independent episodes, so a scale rather than a forecast."""
    return sharpe(epnls) * annual_factor(episode_s, instrument)


def annual_factor(episode_s: float, instrument: Instrument) -> float:
    """Return the square root of the number of episodes of `episode_s` seconds in a year of trading.

    A year has 250 days of the instrument's sessions, or 365 days of 24 hours where it has none.
    """
    year_s = trading_seconds(instrument) * TRADING_DAYS if instrument.sessions else 365 * 86_400
    return math.sqrt(year_s / episode_s) if episode_s > 0 else math.nan


def trading_seconds(instrument: Instrument) -> int:
    """Return the seconds of continuous trading in a day; a session may run past midnight.

    >>> from decimal import Decimal
    >>> trading_seconds(Instrument("x", Decimal(1), sessions=(("21:00", "01:00"), ("09:00", "10:15"))))
    18900
    """
    total = 0
    for opens, closes in instrument.sessions:
        start, stop = (60 * int(t[:2]) + int(t[3:5]) for t in (opens, closes))
        total += 60 * ((stop - start) % 1440 or 1440)
    return total


def max_drawdown(ep: EpisodeResult) -> float:
    """Return the largest fall of wealth from an earlier peak, currency, at least 0, after fees.

    ``max over tau of max over s < tau of (W_s - W_tau)`` with W at the start (0), every decision time and the end.
    Source: Gasperov and Kostanjcar 2021, eq. 16.
    """
    wealth = ledger.equity_currency(ep)
    return float((np.maximum.accumulate(wealth) - wealth).max())


def mean_spread_ticks(ep: EpisodeResult) -> float:
    """Return the mean observed spread of the market over decision times, ticks; nan without any."""
    bid, ask = ep.steps["bid_px"].astype(np.int64), ep.steps["ask_px"].astype(np.int64)
    spread = (ask - bid)[(bid > 0) & (ask > bid)]
    return float(spread.mean()) if len(spread) else math.nan


def nd_pnl(ep: EpisodeResult) -> float:
    """Return `epnl` over the currency value of the mean market spread on one lot (a number of spreads).

    Source: Spooner et al. 2018, normalised daily profit.
    """
    profit = epnl(ep)
    return 0.0 if profit == 0.0 else profit / _spread_value(ep)


def _spread_value(ep: EpisodeResult) -> float:
    # Currency value of the mean market spread on one lot; nan without any.
    if not ep.instrument.inverse:
        return mean_spread_ticks(ep) * ep.instrument.tick_value
    bid, ask = (2 * ep.steps[side].astype(np.int64) for side in ("bid_px", "ask_px"))
    seen = (bid > 0) & (ask > bid)
    width = marks(ask[seen], ep.instrument) - marks(bid[seen], ep.instrument)
    return int(width.sum()) / ATOMS / len(width) if len(width) else math.nan


def traded_value(ep: EpisodeResult) -> float:
    """Return the traded value, currency: ``sum(px * qty)``, the closing included.

    Of an inverse contract, coins: the sum of ``qty / px``.
    """
    if ep.instrument.inverse:
        coins = marks(2 * ep.fills["px"].astype(np.int64), ep.instrument)
        return -int(np.dot(coins, ep.fills["qty"].astype(np.int64))) / ATOMS
    px, qty = ep.fills["px"].astype(np.int64), ep.fills["qty"].astype(np.int64)
    return float(np.dot(px, qty)) * ep.instrument.tick_value


def profit_ratio(ep: EpisodeResult) -> float:
    """Return `epnl` / `traded_value`; nan without fills. Source: Guo et al. 2023."""
    value = traded_value(ep)
    return epnl(ep) / value if value > 0 else math.nan


def rpt(ep: EpisodeResult) -> float:
    """Return the round-trip margin: mean sell price - mean buy price, over the mean market spread.

    Prices are weighted by quantity, the closing included, before fees; nan unless there are both buys and sells.
    The mean price of an inverse contract is the harmonic one, at which the whole would have cost the same coins.
    """
    fills = ep.fills
    buys, sells = fills[fills["side"] > 0], fills[fills["side"] < 0]
    if len(buys) == 0 or len(sells) == 0:
        return math.nan
    inverse = ep.instrument.inverse
    return float(_mean_px(sells, inverse) - _mean_px(buys, inverse)) / mean_spread_ticks(ep)


def _mean_px(fills: npt.NDArray[np.void], inverse: bool) -> np.float64:
    if inverse:
        return np.float64(1.0 / np.average(1.0 / fills["px"], weights=fills["qty"]))
    return np.float64(np.average(fills["px"], weights=fills["qty"]))


def expected_shortfall(ep: EpisodeResult, level: float = 0.95) -> float:
    """Return the mean loss in the worst ``1 - level`` of the steps, currency; positive is a loss.

    A step is the change of wealth, after fees, from one decision time to the next. At least one step counts.
    """
    change = np.diff(ledger.equity_currency(ep))
    worst = max(1, round(len(change) * (1 - level)))
    return 0.0 - float(np.sort(change)[:worst].mean())
