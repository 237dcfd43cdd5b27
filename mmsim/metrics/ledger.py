"""Exact arithmetic of the ledger: whole numbers of ticks, lots, and parts of the currency.

Amounts are counted in half-ticks (half a tick on one lot) and fees in micro-currency; of an inverse contract both
in ``ATOMS`` of the coin (`mmsim.metrics.value`). Profit and its parts never see a float before `to_currency`.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmsim.metrics.episode import EpisodeResult
from mmsim.metrics.value import ATOMS, MICRO, Amounts, half_even, marks, parts, require_linear, unit_value
from mmsim.types import FeeSchedule, FillReason, Instrument

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Attribution(NamedTuple):
    """Where the profit came from; ``spread_capture + inventory_revaluation`` is `pnl`, exactly."""

    spread_capture: int  # half-ticks
    inventory_revaluation: int  # half-ticks
    fees: int  # micro-currency, positive = paid; all three in ATOMS of an inverse contract's coin


class Equity(NamedTuple):
    """Wealth through one episode; row 0 is the flat start, the last row the end after closing."""

    ts: IntArray  # (n,) ns
    wealth: Amounts  # (n,) half-ticks, before fees; the inventory is marked to the mid
    fees: Amounts  # (n,) fees paid so far, micro-currency; both in ATOMS of an inverse contract's coin
    inventory: IntArray  # (n,) lots


def signed_qty(ep: EpisodeResult) -> IntArray:
    """Return the inventory change of each fill, ``(n_fills,)`` lots."""
    return ep.fills["side"].astype(np.int64) * ep.fills["qty"].astype(np.int64)


def cash(ep: EpisodeResult) -> int:
    """Return the cash at the end, tick-lots, before fees: ``-sum(side * px * qty)``; linear contracts only."""
    require_linear(ep.instrument, "cash in tick-lots")
    return -int(np.dot(signed_qty(ep), ep.fills["px"].astype(np.int64)))


def inventory(ep: EpisodeResult) -> int:
    """Return the inventory at the end, lots."""
    return int(signed_qty(ep).sum())


def pnl(ep: EpisodeResult) -> int:
    """Return the profit before fees: ``inventory * mark of the mid - sum(side * qty * mark of px)`` at the end.

    Half-ticks; ATOMS of an inverse contract's coin.
    """
    return -int(np.dot(signed_qty(ep), _fill_marks(ep))) + inventory(ep) * _final_mark(ep)


def pnl_half_ticks(ep: EpisodeResult) -> int:
    """Return `pnl` of a linear contract: ``2 * cash + inventory * mid2`` at the end."""
    require_linear(ep.instrument, "profit in half-ticks")
    return pnl(ep)


def _fill_marks(ep: EpisodeResult) -> Amounts:
    return marks(2 * ep.fills["px"].astype(np.int64), ep.instrument)


def _final_mark(ep: EpisodeResult) -> int:
    # Without inventory nothing is marked, and there may never have been a mid.
    return int(marks(np.array([ep.final_mid2], np.int64), ep.instrument)[0]) if inventory(ep) else 0


def fees_per_fill(fills: npt.NDArray[np.void], instrument: Instrument, fees: FeeSchedule) -> Amounts:
    """Return what each fill cost, ``(n_fills,)`` micro-currency; negative is a rebate.

    ``rate * px * tick_size * qty * lot_size * multiplier + per_lot * qty``, computed exactly and rounded half to
    even to a millionth of the currency, fill by fill. Of an inverse contract
    ``rate * qty * lot_size * multiplier / (px * tick_size) + per_lot * qty`` coins, in ATOMS.
    """
    inverse = instrument.inverse
    out = np.zeros(len(fills), object if inverse else np.int64)
    scale = parts(instrument)
    value = unit_value(instrument) * scale
    for maker, rate, per_lot in (
        (1, fees.maker_rate, fees.maker_per_lot),
        (0, fees.taker_rate, fees.taker_per_lot),
    ):
        slope, const = Fraction(rate) * value, Fraction(per_lot) * scale
        rows = np.flatnonzero(fills["maker"] == maker)
        if len(rows) == 0 or (slope == 0 and const == 0):
            continue
        den = slope.denominator * const.denominator
        a, b = int(slope * den), int(const * den)
        px, qty = fills["px"][rows].tolist(), fills["qty"][rows].tolist()
        if inverse:
            out[rows] = [half_even(q * (a + p * b), den * p) for p, q in zip(px, qty, strict=True)]
        else:
            out[rows] = [half_even(q * (p * a + b), den) for p, q in zip(px, qty, strict=True)]
    return out


def fees_paid(ep: EpisodeResult) -> int:
    """Return the fees of the episode, micro-currency (ATOMS of an inverse contract's coin); negative is a rebate."""
    return int(fees_per_fill(ep.fills, ep.instrument, ep.fees).sum())


def spread_capture(ep: EpisodeResult) -> int:
    """Return the edge of all fills against the mid at their time, half-ticks (ATOMS of an inverse contract's coin).

    ``sum(side * qty * (mark of the mid - mark of px))``: a maker earns it, a taker and the closing of the
    residual pay it.
    """
    edge = marks(ep.fills["mid2"], ep.instrument) - _fill_marks(ep)
    return int(np.dot(signed_qty(ep), edge))


def inventory_revaluation(ep: EpisodeResult) -> int:
    """Return what the inventory gained while the mid moved, half-ticks (ATOMS of an inverse contract's coin).

    ``sum(inventory * change of the mid's mark)`` from each fill to the next and from the last one to the end.
    """
    held = np.cumsum(signed_qty(ep))
    mids = np.append(marks(ep.fills["mid2"], ep.instrument), _final_mark(ep))
    return int(np.dot(held, np.diff(mids)))


def attribution(ep: EpisodeResult) -> Attribution:
    """Split the profit into spread capture, inventory revaluation and fees."""
    return Attribution(spread_capture(ep), inventory_revaluation(ep), fees_paid(ep))


def to_currency(amount: int, instrument: Instrument, fees: int = 0) -> float:
    """Turn half-ticks, less `fees` in micro-currency, into currency (an inverse contract's ATOMS into coins)."""
    if instrument.inverse:
        return (amount - fees) / ATOMS
    tick_value = instrument.tick_size * instrument.multiplier * instrument.lot_size
    return float(Decimal(amount) * tick_value / 2 - Decimal(fees) / MICRO)


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
    wealth = _cash_at(ep, steps) + steps["inventory"] * marks(steps["mid2"], ep.instrument)
    return Equity(
        ts=np.concatenate(([ep.start_ts], steps["ts"], [ep.end_ts])).astype(np.int64),
        wealth=np.concatenate(([0], wealth, [pnl(ep)])),
        fees=np.concatenate(
            ([0], paid[np.searchsorted(ep.fills["ts"], steps["ts"], side="right")], [paid[-1]])
        ),
        inventory=np.concatenate(([0], steps["inventory"], [inventory(ep)])).astype(np.int64),
    )


def _cash_at(ep: EpisodeResult, steps: npt.NDArray[np.void]) -> Amounts:
    # The engine counts cash in tick-lots. Of an inverse contract that is no money: its cash is made from the fills
    # that were done by then.
    if not ep.instrument.inverse:
        cash: IntArray = 2 * steps["cash"]
        return cash
    flows = np.append(np.zeros(1, object), -np.cumsum(signed_qty(ep) * _fill_marks(ep)))
    done = np.searchsorted(np.cumsum(ep.fills["qty"].astype(np.int64)), steps["traded_qty"], side="right")
    out: Amounts = flows[done]
    return out


def equity_currency(ep: EpisodeResult) -> FloatArray:
    """Return the wealth of `equity` after fees, ``(n,)`` currency."""
    path = equity(ep)
    if ep.instrument.inverse:
        return np.array([int(x) / ATOMS for x in path.wealth - path.fees], np.float64)
    return path.wealth * (ep.instrument.tick_value / 2) - path.fees / MICRO


def quoted_fills(ep: EpisodeResult) -> npt.NDArray[np.void]:
    """Return the fills that the agent asked for: all but the closing of the residual inventory."""
    kept: npt.NDArray[np.void] = ep.fills[ep.fills["reason"] != FillReason.CLOSE]
    return kept
