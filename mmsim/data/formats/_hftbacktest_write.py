"""Write a market as hftbacktest's ``.npz``."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import Ints
from mmsim.data.formats import _hftbacktest_rows as hbt
from mmsim.errors import ConfigError, DataError
from mmsim.types import EventFlag, EventKind, MarketData

_PROBLEM = "expected an event that the book allows: the dataset is damaged, run mmsim data check"


def write(data: MarketData, path: Path) -> int:
    """Write hftbacktest's ``.npz``: the array ``data``, and a member ``mmsim`` that lets us read it back exactly.

    Both flags stand in each row unless the two clocks disagree on the order: then an event is two rows, as
    hftbacktest wants it. Without receive times the local time is the exchange's. L3: an execution is a trade, a
    fill and a cancel or change; ids are new for every order. What hftbacktest has no word for is told as nearly
    as it can be: a hidden level as an empty one, orders out of view as cancelled, a further segment by a clear.
    """
    if path.suffix != ".npz":
        raise ConfigError(f"--out: expected a file that ends in .npz, was {path.name!r}")
    if (
        any(a.stop > b.start for a, b in zip(data.segments, data.segments[1:], strict=False))
        or (np.diff([int(data.events["ts"][s.start]) for s in data.segments]) < 0).any()
    ):
        raise DataError("expected segments in order of time", source=data.name)
    make = _order_rows if data.level == "L3" else _level_rows
    event, ev, px, qty, order, first = make(data)
    rows = np.zeros(len(event), dtype=hbt.ROW)
    source = data.events[event]
    rows["exch_ts"] = source["ts"]
    rows["local_ts"] = source["ts"] if data.recv_ts is None else data.recv_ts[event]
    rows["px"], rows["qty"] = _decimal(px, data.instrument.tick_size), _decimal(qty, data.instrument.lot_size)
    rows["order_id"] = order
    own = first > 0
    rows["ival"][own] = (
        source["flags"][own].astype(np.int64)
        | source["kind"][own].astype(np.int64) << hbt.KIND_SHIFT
        | source["oid"][own].astype(np.int64) << hbt.SLOT_SHIFT
    )
    rows["fval"][own] = source["qty"][own]
    rows["ev"] = ev
    rows = _both_clocks(rows)
    meta = {
        "schema": 1,
        "level": data.level,
        "view_depth": data.view_depth,
        "n_slots": data.n_slots,
        "has_recv": data.recv_ts is not None,
        "starts": [s.start for s in data.segments],
        "labels": [s.label for s in data.segments],
        "dataset": data.name,
        "tick_size": str(data.instrument.tick_size),
        "lot_size": str(data.instrument.lot_size),
    }
    temp = path.with_name(f".{path.stem}.{os.getpid()}.part.npz")
    try:
        try:
            np.savez_compressed(
                temp, data=rows, mmsim=np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
            )
            os.replace(temp, path)
        finally:
            temp.unlink(missing_ok=True)
    except OSError as err:
        raise ConfigError(f"--out {path}: {err.strerror or err}") from None
    return len(rows)


def _decimal(steps: Ints, size: Any) -> npt.NDArray[np.float64]:
    # the float nearest to steps x size: one rounding, of a quotient of whole numbers
    exact = Fraction(size)
    return (steps * float(exact.numerator) / float(exact.denominator)).astype(np.float64)


def _sided(side: Ints) -> Ints:
    return np.where(side > 0, hbt.BID, np.where(side < 0, hbt.ASK, 0)).astype(np.int64)


def _level_rows(data: MarketData) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    # event, ev, px, qty, order id, and whether the row is the first of its event
    events = data.events
    kind, flags = events["kind"].astype(np.int64), events["flags"]
    code = np.zeros(len(events), dtype=np.int64)
    code[kind == EventKind.TRADE] = hbt.TRADE
    code[kind == EventKind.CLEAR] = hbt.CLEAR
    code[(kind == EventKind.LEVEL) | (kind == EventKind.HIDE)] = hbt.DEPTH
    if data.level == "L2":
        code[(kind == EventKind.LEVEL) & (flags & EventFlag.SNAPSHOT > 0)] = hbt.SNAPSHOT
    if (code == 0).any():
        raise DataError(_PROBLEM, source=data.name, row=int(np.argmax(code == 0)) + 1)
    ev = code | _sided(events["side"].astype(np.int64)) | hbt.EXCH | hbt.LOCAL
    px, qty = events["px"].astype(np.int64), events["qty"].astype(np.int64)
    index, first = np.arange(len(events)), np.ones(len(events), dtype=np.int64)
    starts = [s.start for s in data.segments[1:]]
    clear = hbt.CLEAR | hbt.EXCH | hbt.LOCAL
    index, ev, px, qty, first = (
        np.insert(column, starts, value)
        for column, value in ((index, starts), (ev, clear), (px, 0), (qty, 0), (first, 0))
    )
    return index, ev, px, qty, np.zeros(len(ev), np.int64), first


def _order_rows(data: MarketData) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    events = data.events
    kind, px, qty, oid, side = (events[n].astype(np.int64) for n in ("kind", "px", "qty", "oid", "side"))
    starts = np.array([s.start for s in data.segments[1:]], dtype=np.int64)
    size = len(events) + 2 * int((events["kind"] == EventKind.EXECUTE).sum()) + len(starts) + 16
    out = np.zeros((size, 7), dtype=np.int64)
    codes = np.array([hbt.ADD, hbt.CANCEL, hbt.MODIFY, hbt.FILL, hbt.TRADE, hbt.CLEAR], dtype=np.int64)
    need, bad = _walk(kind, px, qty, oid, side, starts, codes, max(data.n_slots, 1), out)
    if need > size:  # hidden levels of several orders
        out = np.zeros((need, 7), dtype=np.int64)
        need, bad = _walk(kind, px, qty, oid, side, starts, codes, max(data.n_slots, 1), out)
    if bad >= 0:
        raise DataError(_PROBLEM, source=data.name, row=bad + 1)
    t = out[:need]
    # a row with neither flag is none for hftbacktest: an event that it has no word for
    flags = np.where(t[:, 1] > 0, hbt.EXCH | hbt.LOCAL, 0)
    return t[:, 0], t[:, 1] | _sided(t[:, 6]) | flags, t[:, 2], t[:, 3], t[:, 4], t[:, 5]


@kernel
def _row(out: Any, n: int, event: int, ev: int, px: int, qty: int, order: int, first: int, side: int) -> int:
    if n < out.shape[0]:
        out[n, 0], out[n, 1], out[n, 2], out[n, 3] = event, ev, px, qty
        out[n, 4], out[n, 5], out[n, 6] = order, first, side
    return n + 1


@kernel
def _walk(
    kinds: Any, pxs: Any, qtys: Any, oids: Any, sides: Any, starts: Any, codes: Any, n_slots: int, out: Any
) -> tuple[int, int]:  # fmt: skip
    # rows (event, hftbacktest's kind, px, qty, order id, first of the event, side); rows, first bad event (-1)
    slots = np.zeros((n_slots, 4), np.int64)  # order id, quantity, price, side
    n, ids, segment = 0, 0, 0
    none, one = ids, ids + 1
    for i in range(kinds.shape[0]):
        kind, px, qty, oid, side = kinds[i], pxs[i], qtys[i], oids[i], sides[i]
        if segment < starts.shape[0] and starts[segment] == i:
            n = _row(out, n, i, codes[5], none, none, none, none, none)
            slots[:, 1] = 0
            segment += 1
        if kind == 1:
            ids += 1
            slots[oid, 0], slots[oid, 1], slots[oid, 2], slots[oid, 3] = ids, qty, px, side
            n = _row(out, n, i, codes[0], px, qty, ids, one, side)
        elif kind <= 4:
            left = slots[oid, 1] - qty
            if left < 0 or qty <= 0 or slots[oid, 2] != px or slots[oid, 3] != side:
                return n, i
            first = one
            if kind == 4:
                n = _row(out, n, i, codes[4], px, qty, none, one, -side)
                n = _row(out, n, i, codes[3], px, qty, slots[oid, 0], none, side)
                first = none
            if kind == 3:
                left = none
            slots[oid, 1] = left
            n = _row(out, n, i, codes[2 if left > 0 else 1], px, left, slots[oid, 0], first, side)
        elif kind == 5:
            n = _row(out, n, i, codes[4], px, qty, none, one, side)
        elif kind == 7:
            first = one
            for s in range(n_slots):
                if slots[s, 1] > 0 and slots[s, 2] == px and slots[s, 3] == side:
                    slots[s, 1] = 0
                    n = _row(out, n, i, codes[1], px, none, slots[s, 0], first, side)
                    first = none
            if first == 1:
                n = _row(out, n, i, none, px, none, none, one, side)
        elif kind == 8:
            slots[:, 1] = 0
            n = _row(out, n, i, codes[5], none, none, none, one, none)
        else:
            return n, i
    return n, -1


def _both_clocks(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    # hftbacktest wants exchange rows in the order of exch_ts and local rows in that of local_ts
    local = rows["local_ts"]
    if (np.diff(local) >= 0).all():
        return rows
    second = np.argsort(local, kind="stable")
    pick, flags = np.zeros(2 * len(rows), np.int64), np.zeros(2 * len(rows), np.uint64)
    n = _merge(rows["exch_ts"].astype(np.int64), local.astype(np.int64), second, pick, flags)
    out = rows[pick[:n]]
    drop = np.array([0, hbt.LOCAL, hbt.EXCH], dtype=np.uint64)[flags[:n]]  # 0 both, 1 exchange, 2 local
    out["ev"] &= ~drop
    return out


@kernel
def _merge(exch: Any, local: Any, second: Any, pick: Any, flags: Any) -> int:
    n = exch.shape[0]
    i, j, k = 0, 0, 0
    while i < n or j < n:
        if i < n and j < n and second[j] == i:
            pick[k], flags[k] = i, 0
            i += 1
            j += 1
        elif i < n and (
            j == n
            or exch[i] < exch[second[j]]
            or (exch[i] == exch[second[j]] and local[i] < local[second[j]])
            or i < second[j]
        ):
            pick[k], flags[k] = i, 1
            i += 1
        else:
            pick[k], flags[k] = second[j], 2
            j += 1
        k += 1
    return k
