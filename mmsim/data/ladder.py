"""The best levels after every message of a level feed: a check for converters, not the book of the simulator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints
from mmsim.types import EventFlag, EventKind

_LEVEL, _HIDE, _LAST = int(EventKind.LEVEL), int(EventKind.HIDE), int(EventFlag.LAST)


def top_of_book(events: npt.NDArray[np.void], low: int, state: Ints) -> Ints:
    """Return ``(n_messages, 4)``: bid px, bid qty, ask px, ask qty after each LAST row of level events.

    `state` is a zeroed ``(2, width)`` ladder from price `low` on; a side without levels has quantity 0.
    """
    n = int(np.sum(events["flags"] & EventFlag.LAST > 0))
    out = np.zeros((n, 4), dtype=np.int64)
    _walk(
        events["kind"].astype(np.int64),
        events["side"].astype(np.int64),
        events["px"].astype(np.int64) - low,
        events["qty"].astype(np.int64),
        events["flags"].astype(np.int64),
        state,
        out,
    )
    out[:, [0, 2]] += low
    return out


@kernel
def _walk(kind: Ints, side: Ints, px: Ints, qty: Ints, flags: Ints, state: Ints, out: Ints) -> None:
    width = state.shape[1]
    best_bid, best_ask = -1, width
    n = 0
    for i in range(len(kind)):
        if kind[i] == _LEVEL or kind[i] == _HIDE:
            q = qty[i] if kind[i] == _LEVEL else 0
            at = px[i]
            if side[i] > 0:
                state[0, at] = q
                if q > 0 and at > best_bid:
                    best_bid = at
                while best_bid >= 0 and state[0, best_bid] == 0:
                    best_bid -= 1
            else:
                state[1, at] = q
                if q > 0 and at < best_ask:
                    best_ask = at
                while best_ask < width and state[1, best_ask] == 0:
                    best_ask += 1
        if flags[i] & _LAST:
            if best_bid >= 0:
                out[n, 0], out[n, 1] = best_bid, state[0, best_bid]
            if best_ask < width:
                out[n, 2], out[n, 3] = best_ask, state[1, best_ask]
            n += 1
