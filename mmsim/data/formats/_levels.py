"""Level changes and trades, two streams of one feed (L2), put into one order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints
from mmsim.types import EventFlag


def near_the_mid(px: Ints, bids: Ints, asks: Ints, band: float, out: Conversion) -> npt.NDArray[np.bool_]:
    """Return which prices are within `band` of the first mid-price, whose sides are `bids` and `asks`; the others are counted.

    Feeds hold orders at a tenth and ten times the price.
    """
    mid2 = int(bids.max() + asks.min())
    near: npt.NDArray[np.bool_] = np.abs(2 * px - mid2) <= band * mid2
    out.counts["dropped_far_levels"] += int((~near).sum())
    return near


def merged(
    prints: npt.NDArray[np.void], print_recv: Ints, levels: npt.NDArray[np.void], level_recv: Ints, first: int
) -> tuple[npt.NDArray[np.void], Ints]:
    """Return events and receive times in the order of exchange time, the snapshot that opens the book at `first` in front.

    At equal times trades come first: a change of the book up to that time already lacks what they took.
    """
    events, recv = np.concatenate([prints, levels]), np.concatenate([print_recv, level_recv])
    order = np.argsort(events["ts"], kind="stable")
    events, recv = events[order], recv[order]
    opening = int(np.searchsorted(events["ts"], first, side="right"))
    head = np.argsort(events["flags"][:opening] & EventFlag.SNAPSHOT == 0, kind="stable")
    events[:opening], recv[:opening] = events[:opening][head], recv[:opening][head]
    return events, recv
