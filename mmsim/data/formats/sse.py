"""Shanghai Stock Exchange level-2 text log (orders, trades, ten-level snapshots) to EVENT rows.

Every line is ``key=value`` pairs; a leading ``//`` is decoration. Prices and quantities have 3 implied
decimals, times are HHMMSScc. The converter sorts by ``BizIndex``, which puts the order and the trade stream
into one sequence:

* type 192 ``OrdType`` 65 'A' is an ADD, 68 'D' a DELETE of what the order still holds;
* type 191 with ``ExecType`` 66 'B' or 83 'S' executes the resting order only: the aggressor has no order
  message before it trades, and what is left of it is published after its trades as an ADD of its own;
* type 191 with ``ExecType`` 78 'N' is a call-auction trade and executes both orders. All auction trades of
  one time are one message: the book is crossed between them;
* rows before the opening and in the closing auction carry the flag AUCTION (the book may be crossed there);
* type 111 snapshots make no rows; the finished rows are replayed by an independent book
  (`mmsim.data.formats._l3`), in which the state that each snapshot shows is looked for. Snapshots have whole
  seconds, orders 1/100 s: states within a window around the snapshot's time are tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim._jit import kernel
from mmsim.data.conversion import NS, Conversion, Ints, Progress, build_events, check_options, midnight_ns
from mmsim.data.formats._l3 import Snapshots, match_snapshots
from mmsim.data.formats._text import SourceText, instrument_units, read_texts, refuse, source_date, to_steps
from mmsim.errors import DataError
from mmsim.types import EVENT, Instrument, Segment

OPTIONS = frozenset({"date", "symbol", "opening", "closing"})
TIMEZONE = "Asia/Shanghai"

LEVELS = 10  # a side, in a snapshot
_BEFORE_NS, _AFTER_NS = 3 * NS, 2 * NS  # window around a snapshot's time

_ORDER, _TRADE, _SNAPSHOT = 192, 191, 111
_KEYS = {
    _ORDER: ("BizIndex", "TransactTime", "OrderNo", "Price", "OrderQty", "OrdType", "Side"),
    _TRADE: ("BizIndex", "TransactTime", "BidApplSeqNum", "OfferApplSeqNum", "LastPx", "LastQty", "ExecType"),
    _SNAPSHOT: ("DataTimeStamp", "NumTrades", "TotalVolumeTrade")
    + tuple(f"{s}Level[{k}].{w}" for s in ("Bid", "Ask") for k in range(LEVELS) for w in ("Price", "Qty")),
}
_A, _B, _D, _N, _S = (ord(c) for c in "ABDNS")

# problems that the kernel reports
_PROBLEMS = {
    1: ("OrderNo", "a new order number, was one that is still live"),
    2: ("OrderNo", "the number of a live order"),
    3: ("OrderQty", "the quantity that the order still holds"),
    4: ("Price", "the price and side of the order itself"),
    5: ("BidApplSeqNum", "the number of a live buy order"),
    6: ("OfferApplSeqNum", "the number of a live sell order"),
    7: ("LastQty", "at most what the resting order holds"),
    8: ("LastPx", "the price of the resting order"),
}


@dataclass
class _Log:
    # integer table of each message type, with the one-based lines they came from
    orders: Ints
    order_lines: Ints
    trades: Ints
    trade_lines: Ints
    snapshots: Ints
    snapshot_lines: Ints
    lines: int
    other_symbols: int


def _read_line(line: str, number: int, source: str) -> dict[str, str]:
    pairs = {}
    for token in line.lstrip("/").split():
        key, equals, value = token.partition("=")
        if not equals or not key:
            raise DataError(f"expected key=value, was {token!r}", source=source, row=number)
        if key in pairs:
            raise DataError("expected each key once, was twice", source=source, row=number, field=key)
        pairs[key] = value
    return pairs


def _integers(pairs: Mapping[str, str], keys: tuple[str, ...], number: int, source: str) -> list[int]:
    try:
        values = [pairs[k] for k in keys]
    except KeyError as exc:
        raise DataError("expected the key, was not there", source=source, row=number, field=exc.args[0]) from None
    for key, value in zip(keys, values, strict=True):
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise DataError(f"expected a whole number, was {value!r}", source=source, row=number, field=key)
    return [int(v) for v in values]


def _table(rows: list[list[int]], kind: int) -> Ints:
    return np.asarray(rows, dtype=np.int64).reshape(len(rows), len(_KEYS[kind]))


def _read(text: SourceText, symbol: str | None, progress: Progress) -> _Log:
    rows: dict[int, list[list[int]]] = {k: [] for k in _KEYS}
    lines: dict[int, list[int]] = {k: [] for k in _KEYS}
    wanted, others, number = symbol, 0, 0
    try:
        content = text.data.decode("ascii").splitlines()
    except UnicodeDecodeError as exc:
        line = text.data.count(b"\n", 0, exc.start) + 1
        raise DataError(f"expected ASCII text, was byte {text.data[exc.start]}", source=text.name, row=line) from None
    for number, line in enumerate(content, 1):
        if not line.strip():
            continue
        pairs = _read_line(line, number, text.name)
        (kind,) = _integers(pairs, ("MsgType",), number, text.name)
        if kind not in _KEYS:
            raise DataError(
                f"expected message type {sorted(_KEYS)}, was {kind}", source=text.name, row=number, field="MsgType"
            )
        if "SecurityID" not in pairs:
            raise DataError("expected the key, was not there", source=text.name, row=number, field="SecurityID")
        if wanted is None:
            wanted = pairs["SecurityID"]
        if pairs["SecurityID"] != wanted:
            if symbol is None:
                raise DataError(
                    f"expected one security, was {wanted} and {pairs['SecurityID']}; choose one by the option symbol",
                    source=text.name, row=number, field="SecurityID",
                )  # fmt: skip
            others += 1
            continue
        rows[kind].append(_integers(pairs, _KEYS[kind], number, text.name))
        lines[kind].append(number)
        if number % 20_000 == 0:
            progress(f"reading {text.name}", 0.7 * number / len(content))
    at = {k: np.asarray(v, dtype=np.int64) for k, v in lines.items()}
    return _Log(
        _table(rows[_ORDER], _ORDER), at[_ORDER], _table(rows[_TRADE], _TRADE), at[_TRADE],
        _table(rows[_SNAPSHOT], _SNAPSHOT), at[_SNAPSHOT], number, others,
    )  # fmt: skip


def _clock(stamps: Ints, scale: int, source: str, name: str, lines: Ints) -> Ints:
    # HHMMSS followed by digits of 1/scale s -> ns after midnight
    fraction, hms = stamps % scale, stamps // scale
    hour, minute, second = hms // 10_000, hms // 100 % 100, hms % 100
    bad = (hour > 23) | (minute > 59) | (second > 59)
    refuse(bad, stamps, "a time of day HHMMSS", source=source, field=name, rows=lines)
    return ((hour * 60 + minute) * 60 + second) * NS + fraction * (NS // scale)


def _known(values: Ints, codes: tuple[int, ...], source: str, name: str, lines: Ints) -> None:
    refuse(~np.isin(values, codes), values, f"one of {codes}", source=source, field=name, rows=lines)


@kernel
def _convert(
    is_trade: Any, code: Any, side: Any, px: Any, qty: Any, buyer: Any, seller: Any, auction: Any, joined: Any,
    n_owners: int, out: Any, ends: Any,
) -> tuple[int, int, int, int]:  # fmt: skip
    # returns (problem, message, rows, slots); the order number of an order message stands in both
    # `buyer` and `seller`. slots columns: price, quantity (0 = free), side
    n = code.shape[0]
    slots = np.zeros((n + 1, 3), np.int64)
    free = np.zeros(n + 1, np.int64)
    slot_of = np.full(n_owners + 1, -1, np.int64)
    n_free, high, k = 0, 0, 0
    for i in range(n):
        flag = 16 if auction[i] else 0
        if is_trade[i] == 0 and code[i] == 65:
            if slot_of[buyer[i]] >= 0:
                return 1, i, 0, 0
            if n_free > 0:
                n_free -= 1
                slot = free[n_free]
            else:
                slot = high
                high += 1
            slot_of[buyer[i]] = slot
            slots[slot, 0], slots[slot, 1], slots[slot, 2] = px[i], qty[i], side[i]
            out[k, 0], out[k, 1], out[k, 2], out[k, 3], out[k, 4], out[k, 5] = 1, px[i], qty[i], slot, side[i], flag
            k += 1
        else:
            for b in range(2):
                own = 1 - 2 * b
                if is_trade[i] == 0:
                    if own != side[i]:
                        continue
                elif (code[i] == 66 and own > 0) or (code[i] == 83 and own < 0):
                    continue  # the aggressor of a continuous trade has no resting order
                owner = buyer[i] if b == 0 else seller[i]
                slot = slot_of[owner]
                if slot < 0:
                    return (2 if is_trade[i] == 0 else 5 + b), i, 0, 0
                if is_trade[i] == 0:
                    if slots[slot, 0] != px[i] or slots[slot, 2] != side[i]:
                        return 4, i, 0, 0
                    if slots[slot, 1] != qty[i]:
                        return 3, i, 0, 0
                else:
                    if slots[slot, 2] != own:
                        return 5 + b, i, 0, 0
                    if slots[slot, 1] < qty[i]:
                        return 7, i, 0, 0
                    if code[i] != 78 and slots[slot, 0] != px[i]:
                        return 8, i, 0, 0
                out[k, 0], out[k, 1], out[k, 2] = (3 if is_trade[i] == 0 else 4), slots[slot, 0], qty[i]
                out[k, 3], out[k, 4], out[k, 5] = slot, own, flag
                k += 1
                slots[slot, 1] -= qty[i]
                if slots[slot, 1] == 0:
                    slot_of[owner] = -1
                    free[n_free] = slot
                    n_free += 1
        ends[i] = k
        if not joined[i]:
            out[k - 1, 5] |= 1
    return 0, 0, k, high


def _sequence(log: _Log, text: SourceText, tick: int, lot: int) -> dict[str, Ints]:
    # both streams in order of BizIndex, checked; times in ns after midnight
    src = text.name
    o, t, ol, tl = log.orders, log.trades, log.order_lines, log.trade_lines
    _known(o[:, 5], (_A, _D), src, "OrdType", ol)
    _known(o[:, 6], (_B, _S), src, "Side", ol)
    _known(t[:, 6], (_B, _S, _N), src, "ExecType", tl)
    for table, lines, names in ((o, ol, ("Price", "OrderQty")), (t, tl, ("LastPx", "LastQty"))):
        at = 3 if table is o else 4
        for column, name in ((at, names[0]), (at + 1, names[1])):
            refuse(table[:, column] <= 0, table[:, column], "a value above 0", source=src, field=name, rows=lines)
    cat = np.concatenate
    seq = {
        "biz": cat([o[:, 0], t[:, 0]]),
        "line": cat([ol, tl]),
        "ts": cat([_clock(o[:, 1], 100, src, "TransactTime", ol), _clock(t[:, 1], 100, src, "TransactTime", tl)]),
        "is_trade": cat([np.zeros(len(o), np.int64), np.ones(len(t), np.int64)]),
        "code": cat([o[:, 5], t[:, 6]]),
        "side": cat([np.where(o[:, 6] == _B, 1, -1), np.zeros(len(t), np.int64)]),
        "px": cat([
            to_steps(o[:, 3], tick, "tick", source=src, field="Price", rows=ol),
            to_steps(t[:, 4], tick, "tick", source=src, field="LastPx", rows=tl),
        ]),
        "qty": cat([
            to_steps(o[:, 4], lot, "lot", source=src, field="OrderQty", rows=ol),
            to_steps(t[:, 5], lot, "lot", source=src, field="LastQty", rows=tl),
        ]),
        "buyer": cat([o[:, 2], t[:, 2]]),
        "seller": cat([o[:, 2], t[:, 3]]),
    }  # fmt: skip
    order = np.argsort(seq["biz"], kind="stable")
    seq = {name: np.ascontiguousarray(column[order]) for name, column in seq.items()}
    twice = np.concatenate([[False], np.diff(seq["biz"]) == 0])
    refuse(twice, seq["biz"], "each BizIndex once", source=src, field="BizIndex", rows=seq["line"])
    back = np.concatenate([[False], np.diff(seq["ts"]) < 0])
    refuse(back, seq["ts"], "a time that does not run backwards in order of BizIndex, in ns after midnight",
           source=src, field="TransactTime", rows=seq["line"])  # fmt: skip
    return seq


def _hhmm(value: Any, default: str) -> int:
    text = str(default if value is None else value)
    hour, _, minute = text.partition(":")
    if not (hour.isdigit() and minute.isdigit() and int(hour) < 24 and int(minute) < 60):
        raise DataError(f"expected HH:MM, was {text!r}", field="opening or closing")
    return (int(hour) * 60 + int(minute)) * 60 * NS


def _snapshots(log: _Log, text: SourceText, tick: int, lot: int, midnight: int) -> Snapshots:
    s, lines = log.snapshots, log.snapshot_lines
    ts = _clock(s[:, 0], 1, text.name, "DataTimeStamp", lines) + midnight
    px = np.zeros((len(s), 2, LEVELS), dtype=np.int64)
    qty = np.zeros_like(px)
    for b, name in ((0, "Bid"), (1, "Ask")):
        for k in range(LEVELS):
            at = 3 + 2 * LEVELS * b + 2 * k
            keys = (f"{name}Level[{k}].Price", f"{name}Level[{k}].Qty")
            px[:, b, k] = to_steps(s[:, at], tick, "tick", source=text.name, field=keys[0], rows=lines)
            qty[:, b, k] = to_steps(s[:, at + 1], lot, "lot", source=text.name, field=keys[1], rows=lines)
    volume = to_steps(s[:, 2], lot, "lot", source=text.name, field="TotalVolumeTrade", rows=lines)
    order = np.argsort(ts, kind="stable")
    return Snapshots(ts[order], px[order], qty[order], s[order, 1], volume[order])


def _check(events: npt.NDArray[np.void], n_slots: int, snaps: Snapshots, out: Conversion, source: str) -> None:
    # replay the rows, look for the snapshots, add up the checks
    found, tally = match_snapshots(events, n_slots, snaps, before=_BEFORE_NS, after=_AFTER_NS, source=source)
    filled = (snaps.qty[:, :, 0] > 0).any(axis=1)
    indicative = filled & (snaps.qty[:, 0, 0] > 0) & (snaps.px[:, 0, 0] == snaps.px[:, 1, 0])
    book = filled & ~indicative
    equal = found >= 0
    report = {
        "states_compared": int(filled.sum()),
        "states_equal": int((filled & equal).sum()),
        "snapshots_book": int(book.sum()),
        "snapshots_book_equal": int((book & equal).sum()),
        "snapshots_auction": int(indicative.sum()),
        "snapshots_auction_equal": int((indicative & equal).sum()),
        "snapshots_empty": int((~filled).sum()),
        **tally,
    }
    for name, value in report.items():
        out.checks[name] = out.checks.get(name, 0) + value


def _one_day(
    text: SourceText, instrument: Instrument, options: Mapping[str, Any], day: str, out: Conversion, progress: Progress
) -> npt.NDArray[np.void]:
    tick, lot = instrument_units(instrument, 3, 3)
    symbol = options.get("symbol")
    log = _read(text, None if symbol is None else str(symbol), progress)
    if len(log.orders) == 0:
        raise DataError("expected order messages (type 192), was none", source=text.name)
    midnight = midnight_ns(day, instrument.timezone)
    seq = _sequence(log, text, tick, lot)
    opening, closing = _hhmm(options.get("opening"), "09:30"), _hhmm(options.get("closing"), "14:57")
    auction = (seq["ts"] < opening) | (seq["ts"] >= closing) | ((seq["is_trade"] == 1) & (seq["code"] == _N))
    cross = (seq["is_trade"] == 1) & (seq["code"] == _N)
    joined = np.zeros(len(cross), dtype=np.bool_)  # the next row belongs to the same message
    joined[:-1] = cross[:-1] & cross[1:] & (seq["ts"][:-1] == seq["ts"][1:])
    names, owner = np.unique(np.concatenate([seq["buyer"], seq["seller"]]), return_inverse=True)
    n = len(cross)
    table, ends = np.zeros((2 * n, 6), dtype=np.int64), np.zeros(n, dtype=np.int64)
    problem, at, rows, n_slots = _convert(
        seq["is_trade"], seq["code"], seq["side"], seq["px"], seq["qty"], owner[:n].astype(np.int64),
        owner[n:].astype(np.int64), auction, joined, len(names), table, ends,
    )  # fmt: skip
    if problem:
        name, expected = _PROBLEMS[problem]
        what = {"OrderNo": "buyer", "BidApplSeqNum": "buyer", "OfferApplSeqNum": "seller", "Price": "px", "LastPx": "px"}
        value = int(seq[what.get(name, "qty")][at])
        raise DataError(
            f"expected {expected}, was {value} at BizIndex {seq['biz'][at]}",
            source=text.name, row=int(seq["line"][at]), field=name,
        )  # fmt: skip
    t = table[:rows]
    ts = np.repeat(seq["ts"] + midnight, np.diff(ends, prepend=0))
    events = build_events(
        ts=ts, kind=t[:, 0], px=t[:, 1], qty=t[:, 2], oid=t[:, 3], side=t[:, 4], flags=t[:, 5], source=text.name
    )
    progress(f"checking {text.name}", 0.8)
    trades = seq["is_trade"] == 1
    found = {
        "rows_read": log.lines,
        "orders_added": int((~trades & (seq["code"] == _A)).sum()),
        "orders_deleted": int((~trades & (seq["code"] == _D)).sum()),
        "trades": int(trades.sum()),
        "auction_trades": int(cross.sum()),
        "snapshots": len(log.snapshots),
        "dropped_other_symbols": log.other_symbols,
        "rows_out_of_sequence": int((np.diff(seq["line"]) < 0).sum()),
    }
    for name, number in found.items():
        out.counts[name] = out.counts.get(name, 0) + number
    _check(events, n_slots, _snapshots(log, text, tick, lot, midnight), out, text.name)
    out.n_slots = max(out.n_slots, n_slots)
    return events


def convert(paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress) -> Conversion:
    """Convert SSE level-2 text logs to order-by-order events.

    Parameters
    ----------
    paths : list of Path
        Zips with one ``.log`` (or ``.txt``) member each, or such files themselves; one segment each.
    instrument : Instrument
        Prices (1/1000 CNY) become multiples of ``tick_size``, quantities (1/1000 share) of ``lot_size``;
        times are local times of ``timezone``.
    options : mapping
        ``date``: trading day ``YYYY-MM-DD`` (needed unless the file name holds it); ``symbol``: the one
        security to take from a log of several; ``opening``, ``closing``: ``HH:MM`` when continuous trading
        starts and the closing auction begins (09:30, 14:57).
    progress : callable
        Called with (stage, fraction).

    Returns
    -------
    Conversion

    Raises
    ------
    DataError
        Naming file, line and key of the first thing that is not as documented.
    """
    check_options(options, OPTIONS, "sse")
    texts = [text for path in sorted(paths) for text in read_texts(path, ".log")]
    if not texts:
        raise DataError("expected a log file, was none")
    out = Conversion(events=np.zeros(0, dtype=EVENT), segments=(), level="L3")
    parts: list[npt.NDArray[np.void]] = []
    segments: list[Segment] = []
    start = 0
    for text in texts:
        day = source_date([text.name], options.get("date") if len(texts) == 1 else None)
        parts.append(_one_day(text, instrument, options, day, out, progress))
        segments.append(Segment(start, start + len(parts[-1]), day))
        start += len(parts[-1])
    out.events, out.segments = np.concatenate(parts), tuple(segments)
    progress("done", 1.0)
    return out.finish(texts[0].name)
