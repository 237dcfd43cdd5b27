"""From predictions to orders: the one rule that every predictor uses (mmsim's reconstruction of CMM).

Teacher, CMM, single student and prediction baselines share it, or else a comparison of them would
measure the rule. CMM.md section 6 states the formula; prices are ticks here, so the tick is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from mmsim.errors import ConfigError


@dataclass(frozen=True)
class RuleParams:
    """Constants of the order rule, chosen on validation and stored in the checkpoint's card.

    ``kappa`` skews the reservation price against the inventory (in predicted spreads at a full
    inventory), ``rho`` is the share of the predicted volume that we offer, ``max_units`` caps one order.
    ``slack`` (ticks, below 1/2) is taken off before a price is rounded away from the market: at 0 the least
    prediction moves a quote by a whole tick and costs it its place in the queue.
    """

    kappa: float = 1.0
    rho: float = 0.05
    max_units: int = 1
    slack: float = 0.0

    def __post_init__(self) -> None:
        if not (self.kappa >= 0 and self.rho >= 0 and self.max_units >= 1 and 0 <= self.slack < 0.5):
            raise ConfigError(
                "order rule: expected kappa >= 0, rho >= 0, max_units >= 1, 0 <= slack < 0.5, was "
                f"{self.kappa}, {self.rho}, {self.max_units}, {self.slack}"
            )


class Orders(NamedTuple):
    """Two quotes: prices in ticks, quantities in lots; a quantity of 0 means no quote on that side."""

    bid_px: int
    bid_qty: int
    ask_px: int
    ask_qty: int


def order_rule(
    bid_px: int,
    ask_px: int,
    dm: float,
    s: float,
    v: float,
    inventory: int,
    max_inventory: int,
    unit: int,
    max_order: int,
    params: RuleParams,
) -> Orders:
    """Turn one prediction into a bid and an ask.

    Parameters
    ----------
    bid_px, ask_px : int
        Best bid and ask, ticks; ``bid_px < ask_px``.
    dm : float
        Predicted change of the mid, ticks.
    s : float
        Predicted spread, ticks.
    v : float
        Predicted log1p(traded lots / unit).
    inventory, max_inventory : int
        Signed acknowledged inventory q and its cap Q, lots.
    unit, max_order : int
        Usual and largest order size, lots.
    params : RuleParams
        Constants.

    Returns
    -------
    Orders
        Reservation price ``p = mid + dm - kappa (q/Q) s``, half spread ``e = max(s, 1) / 2``;
        ``ask = max(ceil(p + e - slack), bid_px + 1)``, ``bid = min(floor(p - e + slack), ask_px - 1)``;
        ``N = clip(round(rho expm1(v)), 1, max_units)`` units, ask ``round(N (1 + q/Q))``, bid
        ``round(N (1 - q/Q))`` units (half up), cut to the lots that keep ``|inventory| <= Q`` even if
        the side fills completely; nothing at a price below one tick.

    Raises
    ------
    ValueError
        If a prediction is not finite.

    Examples
    --------
    >>> order_rule(100, 101, 0.0, 1.0, 0.0, 0, 10, 1, 10, RuleParams())
    Orders(bid_px=100, bid_qty=1, ask_px=101, ask_qty=1)
    >>> order_rule(100, 101, 0.7, 1.0, 0.0, 10, 10, 1, 10, RuleParams())  # long: sell nearer, buy nothing
    Orders(bid_px=99, bid_qty=0, ask_px=101, ask_qty=2)
    """
    if not (math.isfinite(dm) and math.isfinite(s) and math.isfinite(v)):
        raise ValueError(f"expected finite predictions, was dm={dm}, s={s}, v={v}")
    load = inventory / max_inventory if max_inventory > 0 else 0.0
    reservation = 0.5 * (bid_px + ask_px) + dm - params.kappa * load * s
    half = 0.5 * max(s, 1.0)
    ask = max(math.ceil(reservation + half - params.slack), bid_px + 1)
    bid = min(math.floor(reservation - half + params.slack), ask_px - 1)
    # expm1 overflows past 709; anything near the cap is the cap.
    units = min(max(math.floor(params.rho * math.expm1(min(v, 50.0)) + 0.5), 1), params.max_units)
    ask_qty = unit * math.floor(units * (1.0 + load) + 0.5)
    bid_qty = unit * math.floor(units * (1.0 - load) + 0.5)
    ask_qty = max(min(ask_qty, max_order, max_inventory + inventory), 0)
    bid_qty = max(min(bid_qty, max_order, max_inventory - inventory), 0)
    return Orders(bid, bid_qty if bid > 0 else 0, ask, ask_qty if ask > 0 else 0)
