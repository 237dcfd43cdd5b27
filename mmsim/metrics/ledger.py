"""Exact arithmetic of the ledger: integers in ticks, lots, half-ticks and micro-currency.

One half-tick is half a tick on one lot. Cash counts tick-lots, so twice the cash is in half-ticks, as is
``inventory * mid2``: profit and its decomposition never see a float before `to_currency`.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmsim.metrics.episode import EpisodeResult
from mmsim.types import FeeSchedule, FillReason, Instrument

MICRO = 1_000_000  # micro-currency units in one unit of currency

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Attribution(NamedTuple):
    """Where the profit came from; ``spread_capture + inventory_revaluation`` is `pnl_half_ticks`, exactly."""

    spread_capture: int  # half-ticks
    inventory_revaluation: int  # half-ticks
    fees: int  # micro-currency, positive = paid


class Equity(NamedTuple):
    """Wealth through one episode; row 0 is the flat start, the last row the end after closing."""

    ts: IntArray  # (n,) ns
    half_ticks: IntArray  # (n,) 2 * cash + inventory * mid2, before fees
    fees: IntArray  # (n,) fees paid so far, micro-currency
    inventory: IntArray  # (n,) lots


def signed_qty(ep: EpisodeResult) -> IntArray:
    """Return the inventory change of each fill, ``(n_fills,)`` lots."""
    return ep.fills["side"].astype(np.int64) * ep.fills["qty"].astype(np.int64)


def cash(ep: EpisodeResult) -> int:
    """Return the cash at the end, tick-lots, before fees: ``-sum(side * px * qty)``."""
    return -int(np.dot(signed_qty(ep), ep.fills["px"].astype(np.int64)))


def inventory(ep: EpisodeResult) -> int:
    """Return the inventory at the end, lots."""
    return int(signed_qty(ep).sum())


def pnl_half_ticks(ep: EpisodeResult) -> int:
    """Return the profit before fees, half-ticks: ``2 * cash + inventory * mid2`` at the end."""
    return 2 * cash(ep) + inventory(ep) * ep.final_mid2


def fees_per_fill(fills: npt.NDArray[np.void], instrument: Instrument, fees: FeeSchedule) -> IntArray:
    """Return what each fill cost, ``(n_fills,)`` micro-currency; negative is a rebate.

    ``rate * px * tick_size * qty * lot_size * multiplier + per_lot * qty``, computed exactly and rounded half to
    even to a millionth of the currency, fill by fill.
    """
    out = np.zeros(len(fills), np.int64)
    value = Fraction(instrument.tick_size * instrument.lot_size * instrument.multiplier) * MICRO
    for maker, rate, per_lot in (
        (1, fees.maker_rate, fees.maker_per_lot),
        (0, fees.taker_rate, fees.taker_per_lot),
    ):
        slope, const = Fraction(rate) * value, Fraction(per_lot) * MICRO
        rows = np.flatnonzero(fills["maker"] == maker)
        if len(rows) == 0 or (slope == 0 and const == 0):
            continue
        den = slope.denominator * const.denominator
        a, b = int(slope * den), int(const * den)
        px, qty = fills["px"][rows].tolist(), fills["qty"][rows].tolist()
        out[rows] = [_half_even(q * (p * a + b), den) for p, q in zip(px, qty, strict=True)]
    return out


def _half_even(num: int, den: int) -> int:
    quotient, rest = divmod(num, den)
    return quotient + (2 * rest > den or (2 * rest == den and quotient % 2 == 1))


def fees_micro(ep: EpisodeResult) -> int:
    """Return the fees of the episode, micro-currency; negative is a net rebate."""
    return int(fees_per_fill(ep.fills, ep.instrument, ep.fees).sum())


def spread_capture(ep: EpisodeResult) -> int:
    """Return the edge of all fills against the mid at their time, half-ticks.

    ``sum(side * qty * (mid2 - 2 * px))``: a maker earns it, a taker and the closing of the residual pay it.
    """
    edge = ep.fills["mid2"] - 2 * ep.fills["px"].astype(np.int64)
    return int(np.dot(signed_qty(ep), edge))


def inventory_revaluation(ep: EpisodeResult) -> int:
    """Return what the inventory gained while the mid moved, half-ticks.

    ``sum(inventory * change of mid2)`` from each fill to the next and from the last one to the end.
    """
    held = np.cumsum(signed_qty(ep))
    return int(np.dot(held, np.diff(ep.fills["mid2"], append=np.int64(ep.final_mid2))))


def attribution(ep: EpisodeResult) -> Attribution:
    """Split the profit into spread capture, inventory revaluation and fees."""
    return Attribution(spread_capture(ep), inventory_revaluation(ep), fees_micro(ep))


def to_currency(half_ticks: int, instrument: Instrument, fees: int = 0) -> float:
    """Turn half-ticks, less `fees` in micro-currency, into currency."""
    tick_value = instrument.tick_size * instrument.multiplier * instrument.lot_size
    return float(Decimal(half_ticks) * tick_value / 2 - Decimal(fees) / MICRO)


def observed_mids(ep: EpisodeResult) -> tuple[IntArray, IntArray]:
    """Return times (ns) and ``mid2`` (ticks) of the decision times at which the book had two sides."""
    steps = _two_sided(ep)
    return steps["ts"].astype(np.int64), steps["mid2"].astype(np.int64)


def _two_sided(ep: EpisodeResult) -> npt.NDArray[np.void]:
    # Prices are positive; a side that the book lacks is recorded as 0.
    seen: npt.NDArray[np.void] = ep.steps[
        (ep.steps["bid_px"] > 0) & (ep.steps["ask_px"] > ep.steps["bid_px"])
    ]
    return seen


def equity(ep: EpisodeResult) -> Equity:
    """Return the wealth at the start, at every decision time with a two-sided book, and at the end."""
    steps = _two_sided(ep)
    paid = np.concatenate(([0], np.cumsum(fees_per_fill(ep.fills, ep.instrument, ep.fees))))
    wealth = 2 * steps["cash"] + steps["inventory"] * steps["mid2"]
    return Equity(
        ts=np.concatenate(([ep.start_ts], steps["ts"], [ep.end_ts])).astype(np.int64),
        half_ticks=np.concatenate(([0], wealth, [pnl_half_ticks(ep)])).astype(np.int64),
        fees=np.concatenate(
            ([0], paid[np.searchsorted(ep.fills["ts"], steps["ts"], side="right")], [paid[-1]])
        ).astype(np.int64),
        inventory=np.concatenate(([0], steps["inventory"], [inventory(ep)])).astype(np.int64),
    )


def equity_currency(ep: EpisodeResult) -> FloatArray:
    """Return the wealth of `equity` after fees, ``(n,)`` currency."""
    path = equity(ep)
    return path.half_ticks * (ep.instrument.tick_value / 2) - path.fees / MICRO


def quoted_fills(ep: EpisodeResult) -> npt.NDArray[np.void]:
    """Return the fills that the agent asked for: all but the closing of the residual inventory."""
    kept: npt.NDArray[np.void] = ep.fills[ep.fills["reason"] != FillReason.CLOSE]
    return kept
