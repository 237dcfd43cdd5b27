"""The two clocks of a feed: exchange times that run backwards, receive times before their exchange time."""

from __future__ import annotations

import numpy as np

from mmsim.data.conversion import Conversion, Ints, add_counts
from mmsim.data.origin import Origin

BACKWARDS = ("refuse", "hold")  # the option of that name


def in_order(ts: Ints, how: str, origin: Origin, field: str, out: Conversion) -> Ints:
    """Return exchange times that do not run backwards.

    Messages stay in the order of the file: the book is only right in that order. ``how="hold"`` gives a message
    that is stamped before its predecessor the predecessor's time, counts and describes it.

    Raises
    ------
    DataError
        With ``how="refuse"``, for the first time that runs backwards.
    """
    held = np.maximum.accumulate(ts)
    late = held > ts
    if not late.any():
        return ts
    at = int(np.argmax(late))
    if how == "refuse":
        raise origin.error(
            f"expected exchange time not before {held[at]} ns, was {ts[at]}: the option backwards=hold gives such "
            "messages the time of the one before",
            at,
            field,
        )
    add_counts(out.counts, {"times_held": int(late.sum())})
    source, row = origin.place(at)
    out.notes.append(
        f"{int(late.sum())} messages of {source} were stamped up to {int((held - ts).max()) / 1e6:.3f} ms before the "
        f"message that they follow (first at row {row}); they have its time"
    )
    return held


def receive_times(ts: Ints, recv: Ints, out: Conversion) -> Ints:
    """Return receive times none of which is before its exchange time: moved by one constant if need be."""
    behind = int(np.min(recv - ts))
    if behind >= 0:
        return recv
    start = np.datetime64(int(ts[0]), "ns").astype("datetime64[s]")
    out.notes.append(
        f"the local clock of the stretch at {start} was behind the exchange: "
        f"receive times moved by {-behind / 1e6:.3f} ms"
    )
    out.counts["recv_shift_max_us"] = max(out.counts.get("recv_shift_max_us", 0), -behind // 1000)
    return recv - behind
