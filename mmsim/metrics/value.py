"""What a lot is worth: the one place that knows linear contracts from inverse ones.

A linear contract earns ``lots * (p1 - p0) * value``; its ledger counts half-ticks on one lot. An inverse,
coin-margined one has a fixed value V in the quote currency per lot (``multiplier * lot_size``, 100 USD of
BTCUSD_PERP), is settled in the coin, and earns ``lots * V * (1 / p0 - 1 / p1)`` coins. That is the same ledger
with another mark: the profit of a position is the change of `marks`, times lots. A coin's ledger counts in
``ATOMS`` of a coin, whole numbers again, so that every sum and its parts are equal exactly; only a mark itself
is rounded, to 1e-30 of a coin.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError, DataError
from mmsim.types import Instrument

MICRO = 10**6  # parts of the currency in which fees of a linear contract are counted
ATOMS = 10**30  # parts of the coin in which everything of an inverse contract is counted

# int64, or Python's whole numbers in an object array where a contract is inverse
Amounts = npt.NDArray[Any]


def parts(instrument: Instrument) -> int:
    """Return how many of the parts that fees are counted in make one unit of the currency."""
    return ATOMS if instrument.inverse else MICRO


def unit_value(instrument: Instrument) -> Fraction:
    """Return the value of one lot at a price of one tick, currency.

    At `px` ticks a lot is worth ``px`` times that; a lot of an inverse contract is worth that divided by ``px``.

    >>> from decimal import Decimal
    >>> unit_value(Instrument("rb", Decimal(1), multiplier=Decimal(10)))
    Fraction(10, 1)
    >>> coin = Instrument("x", Decimal("0.5"), multiplier=Decimal(100), currency="BTC", contract="inverse")
    >>> unit_value(coin) / 100_000  # at 50,000 USD
    Fraction(1, 500)
    """
    lot = Fraction(instrument.lot_size * instrument.multiplier)
    step = Fraction(instrument.tick_size)
    return lot / step if instrument.inverse else lot * step


def marks(px2: npt.NDArray[np.integer[Any]], instrument: Instrument) -> Amounts:
    """Return the mark of one lot at doubled prices `px2`, ticks: profit is its change, times lots.

    ``px2`` itself (half-ticks) of a linear contract; of an inverse one minus the coins that a lot is worth,
    in ``ATOMS``, rounded half to even.

    Raises
    ------
    DataError
        For a price of an inverse contract that is not above 0.
    """
    if not instrument.inverse:
        return np.asarray(px2, np.int64)
    value = 2 * ATOMS * unit_value(instrument)
    out = np.empty(len(px2), object)
    for i, px in enumerate(px2.tolist()):
        if px <= 0:
            raise DataError(
                f"expected prices above 0 of an inverse contract, was {px / 2:g} ticks", field="px"
            )
        out[i] = -half_even(value.numerator, value.denominator * px)
    return out


def half_even(num: int, den: int) -> int:
    """Return ``num / den`` rounded half to even; `den` is above 0.

    >>> [half_even(n, 2) for n in (1, 3, -1, -3)]
    [0, 2, 0, -2]
    """
    quotient, rest = divmod(num, den)
    return quotient + (2 * rest > den or (2 * rest == den and quotient % 2 == 1))


def require_linear(instrument: Instrument, what: str) -> None:
    """Refuse an inverse contract where money is counted in ticks.

    Raises
    ------
    ConfigError
        Says that `what` does not support them.
    """
    if instrument.inverse:
        raise ConfigError(
            f"inverse contracts: expected a linear one, was {instrument.name}: {what} counts money in ticks, "
            "which have no fixed value in the coin: not supported"
        )
