"""What the books answer with, and the checks of what they are asked."""

from __future__ import annotations

from operator import index
from typing import Any, NamedTuple

from mmsim.errors import BookError, did_you_mean

MAX_INT32 = 2**31 - 1  # largest quantity in lots, largest absolute price in ticks
MAX_TIPS = 1000  # times that an iceberg may show its display quantity
STP_MODES = ("off", "cancel_resting", "cancel_incoming", "cancel_both")


class Match(NamedTuple):
    """One execution: the taker met the maker at the maker's price (ticks) for `qty` lots."""

    maker_id: int
    taker_id: int
    px: int
    qty: int
    maker_owner: int = 0
    taker_owner: int = 0


class Removed(NamedTuple):
    """An order, or what was left of it, that self-trade prevention took out, with its lots."""

    order_id: int
    qty: int


class Report(NamedTuple):
    """What became of one request, and of the stops that it triggered.

    ``reason`` says why the order was refused or cut short: ``"post_only"``, ``"fok"``, ``"self_trade"``.
    """

    order_id: int
    accepted: bool  # False: refused by post-only or fill-or-kill; nothing changed
    matches: tuple[Match, ...]
    resting: int  # lots in the book, hidden ones included; of a stop: waiting
    reason: str = ""
    removed: tuple[Removed, ...] = ()
    triggered: tuple[int, ...] = ()  # ids of the stops, in the order in which they ran


class Resting(NamedTuple):
    """One resting order; `side` +1 bid, -1 ask, `px` in ticks, `qty` in lots that are shown."""

    order_id: int
    side: int
    px: int
    qty: int
    hidden: int = 0  # lots an iceberg has not shown yet
    owner: int = 0


class Waiting(NamedTuple):
    """One stop order that waits for its trigger (ticks); `px` is the limit of a stop-limit, else None."""

    order_id: int
    side: int
    trigger: int
    px: int | None
    qty: int
    owner: int = 0


def checked_side(side: Any) -> int:
    """Return `side` if it is +1 or -1; BookError otherwise."""
    if side not in (1, -1):
        raise BookError(f"expected side +1 (buy) or -1 (sell), was {side!r}")
    return int(side)


def checked_qty(qty: Any) -> int:
    """Return `qty` if it is a whole number of lots that an order can have; BookError otherwise."""
    lots = whole(qty, "a quantity in lots")
    if not 1 <= lots <= MAX_INT32:
        raise BookError(f"expected a quantity from 1 to {MAX_INT32} lots, was {lots}")
    return lots


def checked_px(px: Any) -> int:
    """Return `px` if it is a whole number of ticks in 32 bits; BookError otherwise."""
    ticks = whole(px, "a price in ticks")
    if not -MAX_INT32 <= ticks <= MAX_INT32:
        raise BookError(f"expected a price within +-{MAX_INT32} ticks, was {ticks}")
    return ticks


def checked_kind(post_only: bool, slide: bool, ioc: bool, fok: bool) -> None:
    """Raise BookError if more than one of the four is set."""
    if post_only + slide + ioc + fok > 1:
        raise BookError(
            "expected at most one of post_only, slide, ioc and fok, was "
            + " and ".join(
                name
                for name, on in zip(
                    ("post_only", "slide", "ioc", "fok"), (post_only, slide, ioc, fok), strict=True
                )
                if on
            )
        )


def checked_display(display: Any, qty: int, at_once: bool) -> int:
    """Return `display` if an order of `qty` lots can show that many at a time; 0: it is no iceberg."""
    lots = whole(display, "a display quantity in lots")
    if lots == 0:
        return 0
    if at_once:
        raise BookError(f"expected no display quantity for an order that never rests, was {lots}")
    if not 1 <= lots <= qty or qty > lots * MAX_TIPS:
        raise BookError(
            f"expected a display quantity from {-(-qty // MAX_TIPS)} to the {qty} lots of the order, was {lots}"
        )
    return lots


def checked_owner(owner: Any) -> int:
    """Return `owner` if it is a number from 0 (nobody) to 65535."""
    number = whole(owner, "an owner")
    if not 0 <= number <= 65535:
        raise BookError(f"expected an owner from 0 to 65535, was {number}")
    return number


def checked_id(order_id: Any) -> int:
    """Return `order_id` if it can name an order: 64 bits, not 0."""
    number = whole(order_id, "an order id")
    if number == 0 or not -(2**63) <= number < 2**63:
        raise BookError(f"expected an order id in 64 bits other than 0, was {number}")
    return number


def checked_stp(stp: Any) -> str:
    """Return `stp` if it names a mode of self-trade prevention."""
    if stp not in STP_MODES:
        raise BookError(
            f"expected stp {', '.join(STP_MODES)}, was {stp!r}{did_you_mean(str(stp), STP_MODES)}"
        )
    return str(stp)


def whole(value: Any, what: str) -> int:
    """Return `value` if it is an integer of any kind."""
    try:
        return index(value)
    except TypeError:
        raise BookError(f"expected {what} as an integer, was {value!r}") from None
