"""Decimal text as whole multiples of a step, exactly; and the step that would do where one does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal, InvalidOperation

MAX_UNITS = 2**53  # steps in one value: more is a broken number
_FIT = 2**31 - 1  # ticks or lots that an event can hold
_ENOUGH = Context(prec=60)  # digits; what has more is refused, never rounded
_FINEST = -18  # of a suggested step, decimal places


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
    return found if found.adjusted() >= _FINEST and max(map(abs, values)) / found <= _FIT else None


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
