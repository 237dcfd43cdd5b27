"""Shanghai Stock Exchange level-2 text log (orders, trades, ten-level snapshots) to EVENT rows.

Every line is ``key=value`` pairs; a leading ``//`` is decoration. Prices and quantities have 3 implied
decimals, times are HHMMSScc. The converter sorts by ``BizIndex``, which puts the order and the trade stream
into one sequence:

* type 192 ``OrdType`` 65 'A' is an _orders.ADD, 68 'D' a _orders.DELETE of what the order still holds;
* type 191 with ``ExecType`` 66 'B' or 83 'S' executes the resting order only: the aggressor has no order
  message before it trades, and what is left of it is published after its trades as an _orders.ADD of its own;
* type 191 with ``ExecType`` 78 'N' is a call-auction trade and executes both orders. All auction trades of
  one time are one message: the book is crossed between them;
* rows before the opening and in the closing auction carry the flag AUCTION (the book may be crossed there);
* type 111 snapshots make no rows; the finished rows are replayed by an independent book
  (`mmsim.data.formats._replay_check`), in which the state that each snapshot shows is looked for. Snapshots have whole
  seconds, orders 1/100 s: states within a window around the snapshot's time are tried.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints, Progress, add_counts, count_kinds
from mmsim.data.formats import _orders, _orders_assemble
from mmsim.data.formats._orders import OrderError, OrderLog, convert_orders, renumber
from mmsim.data.formats._replay_check import ShownBooks, match_snapshots
from mmsim.data.formats._text import SourceText, read_texts, source_date
from mmsim.data.formats.format import Format
from mmsim.data.options import text_option
from mmsim.data.origin import Origin
from mmsim.data.steps import instrument_units, to_steps
from mmsim.errors import ConfigError, DataError
from mmsim.sessions import NS, midnight_ns
from mmsim.types import EventFlag, EventKind, Instrument

LEVELS = 10  # per side, in a snapshot
_BEFORE_NS, _AFTER_NS = 3 * NS, 2 * NS  # window around a snapshot's time

_ORDER, _TRADE, _SNAPSHOT = 192, 191, 111
_KEYS = {
    _ORDER: ("BizIndex", "TransactTime", "OrderNo", "Price", "OrderQty", "OrdType", "Side"),
    _TRADE: ("BizIndex", "TransactTime", "BidApplSeqNum", "OfferApplSeqNum", "LastPx", "LastQty", "ExecType"),
    _SNAPSHOT: (
        *("DataTimeStamp", "NumTrades", "TotalVolumeTrade"),
        *(f"{s}Level[{k}].{w}" for s in ("Bid", "Ask") for k in range(LEVELS) for w in ("Price", "Qty")),
    ),
}
_A, _B, _D, _N, _S = (ord(c) for c in "ABDNS")


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
        raise DataError(
            "expected the key, was not there", source=source, row=number, field=exc.args[0]
        ) from None
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
        at_line = text.data.count(b"\n", 0, exc.start) + 1
        raise DataError(
            f"expected ASCII text, was byte {text.data[exc.start]}", source=text.name, row=at_line
        ) from None
    for number, line in enumerate(content, 1):
        if not line.strip():
            continue
        pairs = _read_line(line, number, text.name)
        (kind,) = _integers(pairs, ("MsgType",), number, text.name)
        if kind not in _KEYS:
            raise DataError(
                f"expected message type {sorted(_KEYS)}, was {kind}",
                source=text.name,
                row=number,
                field="MsgType",
            )
        if "SecurityID" not in pairs:
            raise DataError(
                "expected the key, was not there", source=text.name, row=number, field="SecurityID"
            )
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


def _clock(stamps: Ints, scale: int, origin: Origin, name: str) -> Ints:
    # HHMMSS followed by digits of 1/scale s -> ns after midnight
    fraction, hms = stamps % scale, stamps // scale
    hour, minute, second = hms // 10_000, hms // 100 % 100, hms % 100
    bad = (hour > 23) | (minute > 59) | (second > 59)
    origin.refuse(bad, stamps, "a time of day HHMMSS", name)
    return ((hour * 60 + minute) * 60 + second) * NS + fraction * (NS // scale)


def _known(values: Ints, codes: tuple[int, ...], origin: Origin, name: str) -> None:
    origin.refuse(~np.isin(values, codes), values, f"one of {codes}", name)


def _sequence(log: _Log, text: SourceText, tick: int, lot: int) -> dict[str, Ints]:
    # both streams in order of BizIndex, checked; times in ns after midnight
    o, t, ol, tl = log.orders, log.trades, log.order_lines, log.trade_lines
    orders, trades = Origin(text.name, ol), Origin(text.name, tl)
    _known(o[:, 5], (_A, _D), orders, "OrdType")
    _known(o[:, 6], (_B, _S), orders, "Side")
    _known(t[:, 6], (_B, _S, _N), trades, "ExecType")
    for table, origin, column, name in (
        *((o, orders, 3, "Price"), (o, orders, 4, "OrderQty")),
        *((t, trades, 4, "LastPx"), (t, trades, 5, "LastQty")),
    ):
        origin.refuse(table[:, column] <= 0, table[:, column], "a value above 0", name)
    cat = np.concatenate
    seq = {
        "biz": cat([o[:, 0], t[:, 0]]),
        "line": cat([ol, tl]),
        "ts": cat([_clock(o[:, 1], 100, orders, "TransactTime"), _clock(t[:, 1], 100, trades, "TransactTime")]),
        "is_trade": cat([np.zeros(len(o), np.int64), np.ones(len(t), np.int64)]),
        "code": cat([o[:, 5], t[:, 6]]),
        "side": cat([np.where(o[:, 6] == _B, 1, -1), np.zeros(len(t), np.int64)]),
        "px": cat([
            to_steps(o[:, 3], tick, "tick", orders, "Price"), to_steps(t[:, 4], tick, "tick", trades, "LastPx")
        ]),
        "qty": cat([
            to_steps(o[:, 4], lot, "lot", orders, "OrderQty"), to_steps(t[:, 5], lot, "lot", trades, "LastQty")
        ]),
        "buyer": cat([o[:, 2], t[:, 2]]),
        "seller": cat([o[:, 2], t[:, 3]]),
    }  # fmt: skip
    order = np.argsort(seq["biz"], kind="stable")
    seq = {name: np.ascontiguousarray(column[order]) for name, column in seq.items()}
    origin = Origin(text.name, seq["line"])
    twice = np.concatenate([[False], np.diff(seq["biz"]) == 0])
    origin.refuse(twice, seq["biz"], "each BizIndex once", "BizIndex")
    back = np.concatenate([[False], np.diff(seq["ts"]) < 0])
    expected = "a time that does not run backwards in order of BizIndex, in ns after midnight"
    origin.refuse(back, seq["ts"], expected, "TransactTime")
    return seq


def _hhmm(options: Mapping[str, Any], name: str, default: str) -> int:
    text = str(options.get(name, default))
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if found is None:
        raise ConfigError(f"option {name!r}: expected HH:MM, was {text!r}")
    return (int(found[1]) * 60 + int(found[2])) * 60 * NS


def _snapshots(log: _Log, text: SourceText, tick: int, lot: int, midnight: int) -> ShownBooks:
    s, origin = log.snapshots, Origin(text.name, log.snapshot_lines)
    ts = _clock(s[:, 0], 1, origin, "DataTimeStamp") + midnight
    px = np.zeros((len(s), 2, LEVELS), dtype=np.int64)
    qty = np.zeros_like(px)
    for b, name in ((0, "Bid"), (1, "Ask")):
        for k in range(LEVELS):
            at = 3 + 2 * LEVELS * b + 2 * k
            keys = (f"{name}Level[{k}].Price", f"{name}Level[{k}].Qty")
            px[:, b, k] = to_steps(s[:, at], tick, "tick", origin, keys[0])
            qty[:, b, k] = to_steps(s[:, at + 1], lot, "lot", origin, keys[1])
    volume = to_steps(s[:, 2], lot, "lot", origin, "TotalVolumeTrade")
    order = np.argsort(ts, kind="stable")
    return ShownBooks(ts[order], px[order], qty[order], s[order, 1], volume[order])


def _check(
    events: npt.NDArray[np.void], n_slots: int, snaps: ShownBooks, source: str
) -> tuple[dict[str, int], int]:
    # replay the rows and look for the snapshots; the checks, and the first crossed event (-1: none)
    found, tally, crossed = match_snapshots(
        events, n_slots, snaps, before=_BEFORE_NS, after=_AFTER_NS, source=source
    )
    own, _, _ = match_snapshots(events, n_slots, snaps, before=0, after=NS - 1, source=source)
    filled = (snaps.qty[:, :, 0] > 0).any(axis=1)
    indicative = filled & (snaps.qty[:, 0, 0] > 0) & (snaps.px[:, 0, 0] == snaps.px[:, 1, 0])
    book, equal = filled & ~indicative, found >= 0
    checks = {
        "states_compared": int(filled.sum()),
        "states_equal": int((filled & equal).sum()),
        "states_equal_in_own_second": int((filled & (own >= 0)).sum()),
        "snapshots_book": int(book.sum()),
        "snapshots_book_equal": int((book & equal).sum()),
        "snapshots_auction": int(indicative.sum()),
        "snapshots_auction_equal": int((indicative & equal).sum()),
        "snapshots_empty": int((~filled).sum()),
        "last_snapshot_qty": int(snaps.volume.max()) if len(snaps.volume) else 0,
        **tally,
    }
    return checks, crossed


def _events(
    seq: dict[str, Ints],
    auction: npt.NDArray[np.bool_],
    cross: npt.NDArray[np.bool_],
    midnight: int,
    source: str,
) -> tuple[npt.NDArray[np.void], Ints, int]:
    # EVENT rows, the message of each, slots used
    n = len(cross)
    n_owners, [buyer, seller] = renumber(seq["buyer"], seq["seller"])
    # an auction trade executes the order of the buyer, then that of the seller
    of = np.repeat(np.arange(n), 1 + cross)
    second = np.concatenate([[False], np.diff(of) == 0])
    trade, code = seq["is_trade"][of] == 1, seq["code"][of]
    side = np.where(trade, np.where((code == _B) | second, -1, 1), seq["side"][of])
    last = np.ones(len(of), dtype=np.bool_)
    last[:-1] = ~(cross[of][:-1] & cross[of][1:] & (np.diff(seq["ts"][of]) == 0))
    log = OrderLog(
        op=np.where(trade, _orders.EXECUTE, np.where(code == _A, _orders.ADD, _orders.DELETE)),
        owner=np.where(side > 0, buyer[of], seller[of]),
        other=np.zeros(len(of), np.int64),
        px=np.where(code == _N, 0, seq["px"][of]),  # (an auction's price is that of neither order)
        qty=seq["qty"][of],
        side=side,
        flags=np.where(auction[of], int(EventFlag.AUCTION), 0),
        last=last,
        n_owners=n_owners,
        origin=Origin(source, seq["line"][of]),
    )
    try:
        events, at, n_slots, _ = convert_orders(log, seq["ts"][of] + midnight, strict=True, exact=True)
    except OrderError as err:
        raise _said(err.problem, int(of[err.message]), int(side[err.message]), seq, source) from None
    return events, of[at], n_slots


def _said(problem: int, at: int, side: int, seq: dict[str, Ints], source: str) -> DataError:
    # what is wrong with message `at`, in the words of the log
    resting = ("BidApplSeqNum", "buyer", "buy") if side > 0 else ("OfferApplSeqNum", "seller", "sell")
    if problem == _orders_assemble.TOO_MUCH:
        field, column, expected = "LastQty", "qty", "at most what the resting order holds"
    elif not seq["is_trade"][at]:
        field, column, expected = {
            _orders_assemble.DUPLICATE: ("OrderNo", "buyer", "a new order number"),
            _orders_assemble.UNKNOWN: ("OrderNo", "buyer", "the number of a live order"),
            _orders_assemble.OTHER_QTY: ("OrderQty", "qty", "the quantity that the order still holds"),
        }.get(problem, ("Price", "px", "the price and side of the order itself"))
    elif problem == _orders_assemble.OTHER_PRICE:
        field, column, expected = "LastPx", "px", "the price of the resting order"
    else:
        field, column, expected = *resting[:2], f"the number of a live {resting[2]} order"
    said = f"expected {expected}, was {seq[column][at]} at BizIndex {seq['biz'][at]}"
    return Origin(source, seq["line"]).error(said, at, field)


def _one_day(
    text: SourceText,
    instrument: Instrument,
    options: Mapping[str, Any],
    day: str,
    out: Conversion,
    progress: Progress,
) -> npt.NDArray[np.void]:
    tick, lot = instrument_units(instrument, 3, 3)
    opening, closing = _hhmm(options, "opening", "09:30"), _hhmm(options, "closing", "14:57")
    log = _read(text, text_option(options, "symbol"), progress)
    if len(log.orders) == 0:
        raise DataError("expected order messages (type 192), was none", source=text.name)
    midnight = midnight_ns(day, instrument.timezone)
    seq = _sequence(log, text, tick, lot)
    trades = seq["is_trade"] == 1
    cross = trades & (seq["code"] == _N)
    # a continuous trade is one, whatever the options say; orders outside continuous trading belong to an auction
    auction = cross | (~trades & ((seq["ts"] < opening) | (seq["ts"] >= closing)))
    events, message, n_slots = _events(seq, auction, cross, midnight, text.name)
    progress(f"checking {text.name}", 0.8)
    checks, crossed = _check(events, n_slots, _snapshots(log, text, tick, lot, midnight), text.name)
    if crossed >= 0:
        at = int(message[crossed])
        raise Origin(text.name, seq["line"]).error(
            f"expected the best bid below the best ask after BizIndex {seq['biz'][at]}, was a crossed book",
            at,
            "Price",
        )
    counts = {
        "rows_read": log.lines,
        "dropped_other_symbols": log.other_symbols,
        "rows_sorted_by_biz_index": int((np.diff(seq["line"]) < 0).sum()),
    }
    add_counts(out.counts, counts)
    add_counts(out.checks, checks)
    count_kinds(out.messages, log.orders[:, 5], {_A: "order_add", _D: "order_delete"})
    count_kinds(
        out.messages, log.trades[:, 6], {_B: "trade_by_buyer", _S: "trade_by_seller", _N: "trade_of_auction"}
    )
    add_counts(out.messages, {"snapshot": len(log.snapshots)})
    tape = out.account()
    tape.count(seq["qty"][trades])
    executed = events[events["kind"] == EventKind.EXECUTE]
    second = (executed["flags"] & EventFlag.AUCTION > 0) & (executed["side"] < 0)
    tape.imported_trades += int((~second).sum())  # a trade of an auction executes two orders
    out.n_slots = max(out.n_slots, n_slots)
    out.notes.append(
        f"{day}: {checks['states_equal']} of {checks['states_compared']} snapshots equal a state of the replayed book "
        f"within {_BEFORE_NS // NS} s before and {_AFTER_NS // NS} s after their stamp, "
        f"{checks['states_equal_in_own_second']} in the very second; traded {checks['traded_qty']} lots in "
        f"{checks['traded_count']} trades, the last snapshot says {checks['last_snapshot_qty']} lots"
    )
    return events


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
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
    texts = [text for path in sorted(paths) for text in read_texts(path, ".log")]
    if not texts:
        raise DataError("expected a log file, was none")
    out = Conversion(level="L3")
    out.account().unit = "trade messages (type 191)"
    for text in texts:
        day = source_date([text.name], options.get("date") if len(texts) == 1 else None)
        out.add(_one_day(text, instrument, options, day, out, progress), day)
    return out.finish(texts[0].name)


FORMAT = Format(
    "sse",
    "Shanghai level-2 text log, order by order (L3)",
    (".log", ".txt", ".zip"),
    convert,
    "L3",
    options=frozenset({"date", "symbol", "opening", "closing"}),
    instrument={
        "tick_size": "0.01",
        "lot_size": "1",
        "unit_lots": 100,
        "sessions": [["09:30", "11:30"], ["13:00", "14:57"]],
    },
    decision_ns=500_000_000,
    episode_s=600,
    fees=("zero", "sse"),
)
