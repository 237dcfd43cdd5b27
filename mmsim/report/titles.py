"""Results by market, and the line that stands above each market's table or picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmsim.metrics import MarketResult


def duration(seconds: float) -> str:
    """Return a length of time in its natural unit.

    >>> duration(5400.0), duration(900.0), duration(42.5)
    ('1.5 h', '15 min', '42.5 s')
    """
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def by_market(results: Sequence[MarketResult]) -> dict[str, list[MarketResult]]:
    """Group results by market, both in order of appearance."""
    out: dict[str, list[MarketResult]] = {}
    for result in results:
        out.setdefault(result.dataset, []).append(result)
    return out


def market_title(result: MarketResult) -> str:
    """Return the line that says what a table or picture shows.

    Market, real or simulated, split, number and length of its episodes, fees.
    """
    n = len(result.episodes)
    lengths = [ep.duration_s for ep in result.episodes]
    length = duration(float(np.median(lengths))) if lengths else "0 s"
    if n > 1 and max(lengths) > 1.05 * min(lengths):
        length = f"{duration(min(lengths))} to {duration(max(lengths))}"
    market = "SIMULATED market" if result.simulated else "real data"
    return (
        f"{result.dataset} ({market}), {result.split}: {n} episode{'s' * (n != 1)} of {length}, "
        f"fees: {result.fees}, amounts in {result.currency}{' (inverse contract)' * result.inverse}"
    )
