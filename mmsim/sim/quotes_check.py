"""Say in words what is wrong with an agent's quotes; the kernel refuses the same without (`requests.quotes_valid`)."""

from __future__ import annotations

import operator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from mmsim.agent import Quotes
from mmsim.errors import shown
from mmsim.records import MAX_PX


class QuotesError(ValueError):
    """What is wrong with them, and what was expected."""


class Limits(NamedTuple):
    """What bounds the quotes: acknowledged inventory, its bound, lots and levels per side."""

    held: int
    max_inventory: int
    max_order: int
    max_levels: int


def checked(quotes: Any, limits: Limits) -> tuple[tuple[int, int, int, int], list[int], list[int]]:
    """Return numbers of bids and asks, post-only and take, then (px, qty) of the bids and of the asks, in one row.

    Whole numbers of any type are made ints.

    Raises
    ------
    QuotesError
        If they are not quotes, off the grid, crossed or beyond the limits: says which and what was expected.
        (An object of the agent's may raise anything besides.)
    """
    if not isinstance(quotes, Quotes):
        raise QuotesError(f"quote returned {shown(quotes)}, expected Quotes")
    bids, asks, post_only, take = quotes
    bid, bid_qty = _side(bids, "bid", limits)
    ask, ask_qty = _side(asks, "ask", limits)
    if bid and ask and max(bid[::2]) >= min(ask[::2]):
        raise QuotesError(f"crossed pair: bid {max(bid[::2])} is not below ask {min(ask[::2])} (ticks)")
    flag = _flag(post_only)
    if isinstance(take, bool | np.bool_) and take:
        raise QuotesError("take: expected a signed quantity in lots, was True")
    take = _whole(take, "take", "lots")
    held, most, largest, _ = limits
    buy, sell = (bid_qty + take, ask_qty) if take > 0 else (bid_qty, ask_qty - take)
    if held + buy > most or held - sell < -most:
        raise QuotesError(
            f"beyond its limits: inventory {held}, bids {bid_qty}, asks {ask_qty}, take {shown(take)} could "
            f"leave +-{most} lots"
        )
    if buy > largest or sell > largest:
        raise QuotesError(
            f"beyond its limits: bids {bid_qty}, asks {ask_qty}, take {shown(take)} lots, expected at most "
            f"{largest} a side (sim.max_order_units)"
        )
    return (len(bid) // 2, len(ask) // 2, flag, take), bid, ask


def _side(levels: Any, name: str, limits: Limits) -> tuple[list[int], int]:
    most = limits.max_levels
    try:
        n = len(levels)
        found = list(islice(levels, most + 1)) if n else []
    except TypeError:
        raise QuotesError(f"{name}s: expected a tuple of (price, quantity), was {shown(levels)}") from None
    if n > most:
        raise QuotesError(f"{name}: expected at most {most} levels, was {n} (sim.max_levels)")
    if len(found) != n or (n and isinstance(levels, str | bytes)):
        raise QuotesError(f"{name}s: expected a tuple of (price, quantity), was {shown(levels)}")
    flat: list[int] = []
    total = 0
    for level in found:
        try:
            px, qty = level
        except (TypeError, ValueError):
            raise QuotesError(f"{name} level: expected (price, quantity), was {shown(level)}") from None
        px, qty = _whole(px, f"{name} price", "ticks"), _whole(qty, f"{name} size", "lots")
        if qty <= 0:
            raise QuotesError(f"{name} size: expected a positive quantity in lots, was {shown(qty)}")
        if not 0 < px <= MAX_PX:
            raise QuotesError(f"{name} price: expected 1 to {MAX_PX} ticks, was {shown(px)}")
        if qty > MAX_PX:
            raise QuotesError(f"{name} size: expected at most {MAX_PX} lots, was {shown(qty)}")
        if px in flat[::2]:
            raise QuotesError(f"{name}: expected one level per price, was two at {px}")
        flat += [px, qty]
        total += qty
    return flat, total


def _flag(value: Any) -> int:
    try:
        flag = _whole(value, "post_only", "flags")
    except QuotesError:
        flag = -1
    if flag not in (0, 1):
        raise QuotesError(f"post_only: expected True or False, was {shown(value)}")
    return flag


def _whole(value: Any, what: str, unit: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        pass  # a float, say
    try:
        if np.ndim(value) == 0 and value == int(value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise QuotesError(f"{what}: expected a whole number of {unit}, was {shown(value)}")
