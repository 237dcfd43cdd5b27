"""LOBSTER message and orderbook files (NASDAQ order by order, N visible levels) to EVENT rows.

A LOBSTER feed shows the N best levels only: an order that comes into view from beyond has no message of
its own. The converter carries the visible book from row to row of the orderbook file:

* what the first row shows before its message, and every level that comes into view later, is one ADD with
  flag SEED (the level's whole quantity, older than any order of ours);
* a level pushed out of view is one HIDE, which forgets its orders;
* a cancel or an execution of an order that has no slot (it came into view as a seed) takes from the seed;
* a hidden execution (type 5) is a TRADE. Where it prints between two ticks (midpoint orders) the price is
  rounded toward the aggressor (a hit hidden bid up, a lifted hidden ask down): an own order on the rounded
  tick would have been served before the hidden one, an own order one tick farther out would not;
* a cross (type 6) is a TRADE without side, flag AUCTION; a halt message (type 7) has no row.

After every message the book so carried is compared with the orderbook row. A difference that the rules
above do not explain is corrected by rows of its own and counted under ``corrected_*``; the finished rows are
then replayed by an independent book (`mmsim.data.formats._replay_check`), whose verdict is ``states_equal``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints, Progress, add_counts, count_kinds
from mmsim.data.formats._lobster_book import COUNTERS, DUPLICATE, convert_messages
from mmsim.data.formats._replay_check import compare_books
from mmsim.data.formats._slots import CODE, events_of, filled
from mmsim.data.formats._text import SourceText, parse_csv, read_texts, source_date
from mmsim.data.formats.format import US_STOCK, Format
from mmsim.data.origin import Origin
from mmsim.data.steps import instrument_units, to_steps
from mmsim.errors import ConfigError, DataError
from mmsim.sessions import NS, midnight_ns
from mmsim.types import EventKind, Instrument

_FIELDS = ("time", "type", "order_id", "size", "price", "direction")
MESSAGES = {
    1: "new",
    2: "cancel",
    3: "delete",
    4: "execute_visible",
    5: "execute_hidden",
    6: "cross",
    7: "halt",
}
_EMPTY = 9_999_999_999  # price of a level that does not exist
_NAME = re.compile(r"^(?P<stem>.*)_(?P<what>message|orderbook)(?P<level>_\d+)?\.csv$")


def _pairs(paths: list[Path]) -> list[tuple[SourceText, SourceText]]:
    # message and orderbook files that belong together, in order of name (so of date)
    found: dict[str, dict[str, SourceText]] = {}
    for path in paths:
        for text in read_texts(path, ".csv"):
            name = _NAME.match(text.name.rsplit("/", 1)[-1].rsplit(":", 1)[-1])
            if name is None:
                raise DataError(
                    "expected a file named *_message_N.csv or *_orderbook_N.csv, or a zip of both",
                    source=text.name,
                )
            pair = found.setdefault(name["stem"] + (name["level"] or ""), {})
            if name["what"] in pair:
                raise DataError(f"expected one {name['what']} file of that name, was two", source=text.name)
            pair[name["what"]] = text
    for stem, pair in found.items():
        for what in ("message", "orderbook"):
            if what not in pair:
                raise DataError(f"expected the {what} file beside the other one, was none", source=stem)
    return [(found[stem]["message"], found[stem]["orderbook"]) for stem in sorted(found)]


def _messages(text: SourceText, tick: int, lot: int, out: Conversion) -> dict[str, Ints]:
    # checked columns of the message file (time in ns after midnight, price in ticks, size in lots), and what is in it
    raw, rounded = parse_csv(text, _FIELDS, (9, 0, 0, 0, 0, 0))
    ts, kind, owner, size, price, side = (np.ascontiguousarray(raw[:, c]) for c in range(6))
    at = Origin(text.name)
    at.refuse((kind < 1) | (kind > 7), kind, "a type of 1 to 7", "type")
    back = np.concatenate([[False], np.diff(ts) < 0])
    at.refuse(back, ts, "a time that does not run backwards, in ns", "time")
    at.refuse((ts < 0) | (ts > 86_400 * NS), ts, "seconds after midnight", "time")
    order = kind <= 5
    at.refuse(order & (size <= 0), size, "a size above 0", "size")
    at.refuse(order & (price <= 0), price, "a price above 0", "price")
    at.refuse(order & (np.abs(side) != 1), side, "a direction of 1 or -1", "direction")
    visible = np.flatnonzero(kind <= 4)
    px = price // tick
    px[visible] = to_steps(price[visible], tick, "tick", Origin(text.name, visible + 1), "price")
    off_tick = (kind >= 5) & (kind <= 6) & (price % tick != 0)
    px[off_tick & (side == 1) & (kind == 5)] += 1  # toward the aggressor, see the module's docstring
    traded = np.flatnonzero(kind <= 6)
    qty = size.copy()
    qty[traded] = to_steps(size[traded], lot, "lot", Origin(text.name, traded + 1), "size")
    nothing = (kind == 6) & ((size <= 0) | (price <= 0))
    count_kinds(out.messages, kind, MESSAGES)
    prints = (kind >= 4) & (kind <= 6)
    tape = out.account()
    tape.count(qty[prints])
    tape.leave_out("crosses without size or price", qty[nothing])
    kind = np.where(nothing, 7, kind)
    hidden = kind == 5
    found = {
        "times_rounded_to_ns": rounded,
        "hidden_executions_off_tick": int((off_tick & hidden).sum()),
        "dropped_empty_crosses": int(nothing.sum()),
        "dropped_halt_messages": int((kind == 7).sum() - nothing.sum()),
    }
    add_counts(out.counts, found)
    return {"ts": ts, "kind": kind, "owner": owner, "qty": qty, "px": px, "side": side}


def _books(text: SourceText, tick: int, lot: int, use: int | None) -> tuple[Ints, Ints]:
    # (n, 2, depth) prices in ticks and quantities in lots, bids first; quantity 0 where there is no level
    columns = text.data.split(b"\n", 1)[0].count(b",") + 1
    if columns % 4:
        raise DataError(f"expected 4 columns per level, was {columns} columns", source=text.name, row=1)
    depth = columns // 4
    if use is not None and not 1 <= use <= depth:
        raise DataError(f"expected {use} levels as asked by the option depth, was {depth}", source=text.name)
    fields = [
        f"{side}_{what}_{k + 1}"
        for k in range(depth)
        for side in ("ask", "bid")
        for what in ("price", "size")
    ]
    raw, _ = parse_csv(text, fields, (0,) * columns)
    at = Origin(text.name)
    px = np.zeros((len(raw), 2, depth), dtype=np.int64)
    qty = np.zeros_like(px)
    for k in range(depth):
        for b, side in ((0, "bid"), (1, "ask")):
            price, size = raw[:, 4 * k + 2 * (1 - b)], raw[:, 4 * k + 2 * (1 - b) + 1]
            px_name, size_name = f"{side}_price_{k + 1}", f"{side}_size_{k + 1}"
            none = np.abs(price) >= _EMPTY
            at.refuse(none & (size != 0), size, "size 0 where the price marks no level", size_name)
            at.refuse(~none & (size <= 0), size, "a size above 0", size_name)
            at.refuse(~none & (price <= 0), price, "a price above 0", px_name)
            price = np.where(none, 0, price)
            px[:, b, k] = to_steps(price, tick, "tick", at, px_name)
            qty[:, b, k] = to_steps(size, lot, "lot", at, size_name)
            if k:
                sign = 1 if b == 0 else -1
                gap = ~none & (qty[:, b, k - 1] == 0)
                at.refuse(gap, price, "no level after an empty one", px_name)
                wrong = ~none & (sign * (px[:, b, k - 1] - px[:, b, k]) <= 0)
                at.refuse(wrong, price, "a level behind the one before", px_name)
    crossed = (qty[:, 0, 0] > 0) & (qty[:, 1, 0] > 0) & (px[:, 1, 0] <= px[:, 0, 0])
    at.refuse(crossed, raw[:, 2], "a best bid below the best ask (crossed book)", "bid_price_1")
    return np.ascontiguousarray(px[:, :, :use]), np.ascontiguousarray(qty[:, :, :use])


def _one_day(
    message: SourceText,
    orderbook: SourceText,
    instrument: Instrument,
    day: str,
    use: int | None,
    out: Conversion,
) -> npt.NDArray[np.void]:
    tick, lot = instrument_units(instrument, 4, 0)
    m = _messages(message, tick, lot, out)
    book_px, book_qty = _books(orderbook, tick, lot, use)
    n, depth = len(m["ts"]), book_px.shape[2]
    if len(book_px) != n:
        raise DataError(f"expected {n} rows, one per message, was {len(book_px)}", source=orderbook.name)
    if out.view_depth not in (0, depth):
        raise DataError(
            f"expected {out.view_depth} levels as in the other files, was {depth}", source=orderbook.name
        )
    names, owner = np.unique(m["owner"], return_inverse=True)
    clean, counts = np.zeros(n, np.bool_), np.zeros(len(COUNTERS), np.int64)

    def fill(table: Ints) -> tuple[int, int, int, int]:
        counts[:] = 0
        return convert_messages(
            m["kind"], owner.astype(np.int64), m["qty"], m["px"], m["side"], book_px, book_qty, len(names), CODE, table,
            clean, counts,
        )  # fmt: skip

    problem, at, table, n_slots = filled(fill, 3 * n + 8 * depth + 16)
    if problem == DUPLICATE:
        expected = f"expected a new order id, was {m['owner'][at]}, which is still live"
        raise Origin(message.name).error(expected, at, "order_id")
    events = events_of(table, m["ts"] + midnight_ns(day, instrument.timezone), message.name)
    ends = np.cumsum(np.bincount(table[:, 0], minlength=n))
    if 20 * counts[COUNTERS.index("messages_corrected")] > n:
        raise Origin(orderbook.name).error(
            "expected books that follow from the messages, but more than 1 message in 20 needs a correction: "
            "the two files do not belong together, or a stretch is missing",
            int(np.argmin(clean)),
        )
    equal, tally = compare_books(events, ends, book_px, book_qty, n_slots, message.name)
    found = {
        "states_compared": n,
        "states_equal": int(equal.sum()),
        "states_equal_without_correction": int((equal & clean).sum()),
        "executions_behind_queue_front": tally["executions_behind_queue_front"],
        **{name: int(c) for name, c in zip(COUNTERS, counts, strict=True)},
    }
    add_counts(out.checks, found)
    add_counts(out.counts, {"rows_read": n})
    # messages of which a row tells a trade; an execution that met several seeds is several rows
    out.account().imported_trades += len(
        np.unique(table[np.isin(table[:, 1], (EventKind.EXECUTE, EventKind.TRADE)), 0])
    )
    out.view_depth, out.n_slots = depth, max(out.n_slots, n_slots)
    return events


def convert(
    paths: list[Path], instrument: Instrument, options: Mapping[str, Any], progress: Progress
) -> Conversion:
    """Convert LOBSTER files to order-by-order events.

    Parameters
    ----------
    paths : list of Path
        Zips that hold a message and an orderbook csv each, or the csv files themselves; any stock, any
        number of levels. Each pair becomes one segment, in order of file name.
    instrument : Instrument
        Prices (USD x 10,000) become multiples of ``tick_size``, sizes (shares) of ``lot_size``; times are
        seconds after midnight in ``timezone``.
    options : mapping
        ``date``: trading day ``YYYY-MM-DD`` if the file names do not hold it; ``depth``: levels per side to
        use (default: all that the files have).
    progress : callable
        Called with (stage, fraction).

    Returns
    -------
    Conversion

    Raises
    ------
    DataError
        Naming file, row and field of the first thing that is not as LOBSTER documents it.
    """
    try:
        use = None if options.get("depth") is None else int(options["depth"])
    except ValueError:
        raise ConfigError(f"option 'depth': expected a number of levels, was {options['depth']!r}") from None
    progress("reading", 0.0)
    pairs = _pairs(list(paths))
    out = Conversion(level="L3", checks={"crossed_books": 0})
    out.account().unit = "messages of type 4, 5 and 6"
    for k, (message, orderbook) in enumerate(pairs):
        progress(f"converting {message.name}", k / len(pairs))
        day = source_date([message.name], options.get("date") if len(pairs) == 1 else None)
        out.add(_one_day(message, orderbook, instrument, day, use, out), day)
    bad = out.checks["messages_corrected"]
    out.notes.append(
        f"{out.checks['states_equal']} of {out.checks['states_compared']} orderbook rows equal the replayed book, "
        f"{bad} of them after rows that the messages do not explain"
    )
    return out.finish(pairs[0][0].name)


FORMAT = Format(
    "lobster",
    "LOBSTER message and orderbook csv, NASDAQ order by order (L3)",
    (".csv", ".zip"),
    convert,
    "L3",
    options=frozenset({"date", "depth"}),
    instrument=US_STOCK,
    decision_ns=500_000_000,
    fees=("zero", "nasdaq"),
)
