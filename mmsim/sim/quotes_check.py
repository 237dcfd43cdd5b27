"""Say in words what is wrong with an agent's quotes; the kernel refuses the same without (`orders.quotes_valid`)."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmsim.agent import Quotes
from mmsim.sim.layout import MAX_PX


class Limits(NamedTuple):
    """What bounds the quotes: acknowledged inventory, its bound, lots a side, levels a side."""

    held: int
    max_inventory: int
    max_order: int
    max_levels: int


def checked(quotes: Quotes, limits: Limits) -> list[int]:
    """Return the quotes as the kernel's ``want`` vector (latencies 0), whole numbers of any type made ints.

    Raises
    ------
    ValueError
        If they are not quotes, off the grid, crossed or beyond the limits: says which and what was expected.
    """
    try:
        bids, asks, post_only, take = quotes
    except (TypeError, ValueError):
        raise ValueError(f"quote returned {quotes!r}, expected Quotes") from None
    bid, bid_qty = _side(bids, "bid", limits) if bids else ([], 0)
    ask, ask_qty = _side(asks, "ask", limits) if asks else ([], 0)
    if bid and ask and (bid[0] >= ask[0] or max(bid[::2]) >= min(ask[::2])):
        raise ValueError(f"crossed pair: bid {max(bid[::2])} is not below ask {min(ask[::2])} (ticks)")
    if take and type(take) is not int:
        take = _whole(take, "take", "lots")
    held, most, largest, _ = limits
    buy, sell = (bid_qty + take, ask_qty) if take > 0 else (bid_qty, ask_qty - take)
    if held + buy > most or held - sell < -most:
        raise ValueError(
            f"beyond its limits: inventory {held}, bids {bid_qty}, asks {ask_qty}, take {take} could "
            f"leave +-{most} lots"
        )
    if buy > largest or sell > largest:
        raise ValueError(
            f"beyond its limits: bids {bid_qty}, asks {ask_qty}, take {take} lots, expected at most "
            f"{largest} a side (sim.max_order_units)"
        )
    return [len(bid) // 2, len(ask) // 2, int(post_only), take, 0, 0, *bid, *ask]


def _side(levels: Any, name: str, limits: Limits) -> tuple[list[int], int]:
    flat: list[int] = []
    total = 0
    for level in levels:
        try:
            px, qty = level
        except (TypeError, ValueError):
            raise ValueError(f"{name} level: expected (price, quantity), was {level!r}") from None
        px, qty = _whole(px, f"{name} price", "ticks"), _whole(qty, f"{name} size", "lots")
        if qty <= 0:
            raise ValueError(f"{name} size: expected a positive quantity in lots, was {qty}")
        if not 0 < px <= MAX_PX:
            raise ValueError(f"{name} price: expected 1 to {MAX_PX} ticks, was {px}")
        if px in flat[::2]:
            raise ValueError(f"{name}: expected one level a price, was two at {px}")
        flat += [px, qty]
        total += qty
    if len(flat) > 2 * limits.max_levels:
        raise ValueError(
            f"{name}: expected at most {limits.max_levels} levels, was {len(flat) // 2} (sim.max_levels)"
        )
    return flat, total


def _whole(value: Any, what: str, unit: str) -> int:
    try:
        if value == int(value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{what}: expected a whole number of {unit}, was {value!r}")
