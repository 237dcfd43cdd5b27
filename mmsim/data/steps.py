"""Prices and sizes as whole multiples of a step, exactly; and the step that would do where one does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import INT32_MAX, Ints
from mmsim.data.origin import Origin
from mmsim.errors import ConfigError
from mmsim.types import Instrument

MAX_UNITS = 2**53  # steps in one value: more is a broken number
_NOWHERE = Origin()
_OPTION = "--tick-size or --lot-size"  # what sets a step
_ENOUGH = Context(prec=60)  # digits; what has more is refused, never rounded
_FINEST = -18  # of a suggested step, decimal places


def units_from_text(
    texts: Sequence[str | bytes] | npt.NDArray[Any],
    step: Decimal,
    origin: Origin = _NOWHERE,
    field: str = "",
    option: str = _OPTION,
) -> Ints:
    """Turn decimal texts into whole steps exactly; each different text is parsed once.

    Parameters
    ----------
    texts : sequence of str or bytes
    step : Decimal
        Tick or lot size.
    origin : Origin
        Of the texts, for messages.
    field : str
        Their column or key.
    option : str
        What sets `step`: the message names the largest step that would divide all the texts; "": none.

    Raises
    ------
    DataError
        For text that is no finite number, or no multiple of `step`.

    Examples
    --------
    >>> units_from_text(["100.2", "99.80"], Decimal("0.2")).tolist()
    [501, 499]
    """
    import pandas as pd

    codes, uniques = pd.factorize(np.asarray(texts, dtype=object), use_na_sentinel=False)
    table = np.zeros(len(uniques), dtype=np.int64)
    names = [t.decode("ascii", "replace") if isinstance(t, bytes) else str(t) for t in uniques]
    for i, text in enumerate(names):
        try:
            table[i] = whole_units(text, step)
        except ValueError as err:
            at = int(np.argmax(codes == i))
            said = f"expected {err}, was {text[:60]!r}{advice(names, step, option)}"
            raise origin.error(said, at, field) from None
    return table[codes]


def units_from_float(
    values: npt.NDArray[np.float64],
    step: Decimal,
    origin: Origin = _NOWHERE,
    field: str = "",
    option: str = _OPTION,
) -> Ints:
    """Round float64 prices of a binary source to whole steps, refusing what is not one.

    Raises
    ------
    DataError
        For NaN, infinity, or a value farther than a millionth of a step (or than its own float resolution) from a
        multiple of `step`.

    Examples
    --------
    >>> units_from_float(np.array([5271.2, 0.2]), Decimal("0.2")).tolist()
    [26356, 1]
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.abs(values) < float(step) * MAX_UNITS  # false for NaN
    scaled = np.where(finite, values, 0.0) / float(step)
    ticks = np.rint(scaled)
    slack = np.maximum(1e-6, 8.0 * np.finfo(np.float64).eps * np.abs(scaled))
    bad = ~finite | (np.abs(scaled - ticks) > slack)
    if bad.any():
        at = int(np.argmax(bad))
        known = [repr(v) for v in np.unique(values[np.isfinite(values)]).tolist()] if finite[at] else []
        said = f"expected a multiple of {step}, was {float(values[at])!r}{advice(known, step, option)}"
        raise origin.error(said, at, field)
    return ticks.astype(np.int64)


def to_steps(values: Ints, unit: int, what: str, origin: Origin, field: str) -> Ints:
    """Divide integers by `unit`, refusing remainders and results beyond 32 bits."""
    steps = values // unit
    origin.refuse(steps * unit != values, values, f"a multiple of {unit} ({what})", field)
    origin.refuse(steps > INT32_MAX, values, f"at most {INT32_MAX} x {unit}", field)
    return steps


def instrument_units(instrument: Instrument, px_decimals: int, qty_decimals: int) -> tuple[int, int]:
    """Return the feed's integer units in one tick and in one lot of `instrument`."""
    return (
        units_per_step(instrument.tick_size, px_decimals, "tick_size"),
        units_per_step(instrument.lot_size, qty_decimals, "lot_size"),
    )


def units_per_step(step: Decimal, decimals: int, what: str) -> int:
    """Return how many of the feed's integer units (10 ** -`decimals`) one tick or lot is.

    >>> units_per_step(Decimal("0.01"), 4, "tick_size")
    100
    """
    units = step * 10**decimals
    if units != int(units) or units < 1:
        raise ConfigError(f"{what}: expected a multiple of {10**-decimals:.{decimals}f}, was {step}")
    return int(units)


def whole_units(text: str, step: Decimal) -> int:
    """Return how many steps `text` is.

    Raises
    ------
    ValueError
        Saying what was expected instead.

    >>> whole_units("100.20", Decimal("0.2"))
    501
    """
    value = _number(text)
    if value is None:
        raise ValueError("a finite decimal number")
    if value and value.adjusted() - step.adjusted() > 17:
        raise ValueError(f"a number below {MAX_UNITS} steps of {step}")
    try:
        units, rest = _ENOUGH.divmod(value, step)
    except InvalidOperation:
        raise ValueError("a decimal number of fewer digits") from None
    if rest or len(value.as_tuple().digits) > _ENOUGH.prec:
        raise ValueError(f"a multiple of {step}")
    if abs(units) > MAX_UNITS:
        raise ValueError(f"a number below {MAX_UNITS} steps of {step}")
    return int(units)


def advice(texts: Sequence[str], step: Decimal, option: str) -> str:
    """Return ": S divides every value here: OPTION S" for the largest such step; "" if there is none of use, or no option."""
    found = largest_step(texts)
    if not option or found is None or found == step:
        return ""
    return f": {found:f} divides every value here: {option} {found:f}"


def largest_step(texts: Sequence[str]) -> Decimal | None:
    """Return the largest number that divides all of `texts` without a rest, or None if events could not hold them.

    >>> largest_step(["1.5", "0.00012", "0.00018"])
    Decimal('0.00006')
    """
    values = [v for v in map(_number, texts) if v]
    if not values or any(len(v.as_tuple().digits) > 30 or abs(v.adjusted()) > 30 for v in values):
        return None
    finest = min(0, *(int(v.as_tuple().exponent) for v in values))
    if finest < _FINEST - 12:
        return None
    whole = math.gcd(*(int(v.scaleb(-finest, _ENOUGH)) for v in values))
    found = Decimal(whole).scaleb(finest, _ENOUGH)
    return found if found.adjusted() >= _FINEST and max(map(abs, values)) / found <= INT32_MAX else None


def split_decimal(text: str) -> Decimal:
    """Parse decimal text exactly; NaN and infinities are refused (ValueError)."""
    value = _number(text)
    if value is None:
        raise ValueError(text)
    return value


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None
