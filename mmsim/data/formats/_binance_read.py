"""Binance raw lines -> messages: the reading half of the Binance converter.

USD-M futures and spot differ: a spot difference has no ``pu`` (its ``U`` follows the ``u`` before) and no ``T`` (only
``E``, when it was sent), a spot ``bookTicker`` no ``e``; times of spot may be in microseconds (``timeUnit``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsim.data.conversion import Progress
from mmsim.data.files import read_json, read_lines
from mmsim.data.times import EPOCH_UNITS
from mmsim.errors import DataError

UNUSED = {
    *("markPriceUpdate", "aggTrade", "forceOrder", "kline", "24hrTicker", "24hrMiniTicker", "avgPrice"),
    *("1hTicker", "4hTicker", "1dTicker"),
}
# most lines of a file are of this kind: read them without the JSON parser
_TICKER = re.compile(rb'"u":(\d{1,18}),"s":"([^"]+)","b":"([^"]+)","B":"([^"]+)","a":"([^"]+)","A":"([^"]+)"')
_PARTIAL = re.compile(r"@depth(5|10|20)(@|$)")  # the best levels again and again, not differences


@dataclass
class Depth:
    where: int  # index of the file
    row: int
    recv: int
    ts: int
    first: int  # U
    last: int  # u
    prev: int  # pu; -1: spot, where the next U follows u
    px: list[str]  # of the bid levels, then of the ask levels
    qty: list[str]
    n_bid: int


@dataclass
class Stretch:
    # one chain of differences: the messages of one or more consecutive files
    depth: list[Depth] = field(default_factory=list)
    trades: list[tuple[int, int, int, int, int, str, str, bool]] = field(default_factory=list)
    tickers: list[tuple[Any, ...]] = field(
        default_factory=list
    )  # u, bid px and qty, ask px and qty, file, row
    snapshot: Depth | None = None
    off_book: list[str] = field(default_factory=list)  # quantities of trades outside the book


def in_order(paths: list[Path]) -> list[int]:
    first: list[int] = []
    for path in paths:
        row, line = next(read_lines(path), (1, b""))
        first.append(_local_ns(line.partition(b" ")[0], str(path), row))
    return sorted(range(len(paths)), key=lambda i: first[i])


def _local_ns(text: bytes, source: str, row: int) -> int:
    if len(text) in (13, 16, 19) and text.isdigit() and (ns := int(text) * EPOCH_UNITS[len(text)]) < 1 << 63:
        return ns
    raise DataError(
        f"expected a receive time in ns, us or ms since the epoch, was {text[:40].decode(errors='replace')!r}",
        source=source,
        row=row,
        field="local time",
    )


def _exchange_ns(value: Any) -> int:
    # ms, or us with timeUnit=MICROSECOND
    text = str(value)
    if len(text) in (13, 16) and text.isdecimal() and (ns := int(text) * EPOCH_UNITS[len(text)]) < 1 << 63:
        return ns
    raise ValueError(f"expected a time in ms or us since the epoch, was {text[:40]!r}")


def read(
    order: list[int], paths: list[Path], symbol: str | None, counts: dict[str, int], progress: Progress
) -> tuple[list[Stretch], str]:
    # the stretches, and the symbol that they are of
    out: list[Stretch] = []
    first_symbol = symbol or ""
    for n, where in enumerate(order):
        source = str(paths[where])
        progress(paths[where].name, 0.7 * n / len(order))
        part = Stretch()
        rows = 0
        for row, line in read_lines(paths[where]):
            rows = row
            text, _, body = line.partition(b" ")
            recv = _local_ns(text, source, row)
            ticker = _TICKER.search(body)
            try:
                if ticker is not None:
                    name = ticker[2].decode()
                else:
                    data = read_json(body, source, row)
                    stream = data.get("stream", "")
                    data = data.get("data", data)
                    if _PARTIAL.search(stream):
                        counts["dropped_partial_book"] += 1
                        continue
                    if "result" in data:  # the answer to a subscription
                        counts["dropped_not_used_event"] += 1
                        continue
                    if "lastUpdateId" in data:
                        counts["rows_snapshot"] += 1
                        part = _take_snapshot(data, where, row, recv, part, out)
                        continue
                    name = _text(data["s"])
                first_symbol = first_symbol or name
                if name != first_symbol:
                    if symbol is None:
                        raise DataError(
                            f"expected one symbol, was {name} after {first_symbol}: choose with the option symbol",
                            source=source,
                            row=row,
                            field="s",
                        )
                    counts["dropped_other_symbol"] += 1
                elif ticker is not None:
                    part.tickers.append((int(ticker[1]), *ticker.groups()[2:], where, row))
                else:
                    _take(
                        data["e"] if "e" in data else _spot_kind(data),
                        data,
                        where,
                        row,
                        recv,
                        part,
                        counts,
                        source,
                    )
            except DataError:
                raise
            except KeyError as err:
                raise DataError(
                    "expected this key, was missing", source=source, row=row, field=str(err.args[0])
                ) from None
            except (ValueError, AttributeError, TypeError, IndexError, OverflowError) as err:
                raise DataError(f"expected a JSON message: {err}", source=source, row=row) from None
        counts["rows_read"] += rows
        counts["rows_book_ticker"] += len(part.tickers)
        if part.snapshot is None and out:
            last = out[-1]
            last.depth += part.depth
            last.trades += part.trades
            last.tickers += part.tickers
            last.off_book += part.off_book
        else:
            out.append(part)
    return out, first_symbol


def _take_snapshot(
    data: dict[str, Any], where: int, row: int, recv: int, part: Stretch, out: list[Stretch]
) -> Stretch:
    update = _whole(data["lastUpdateId"])
    snap = Depth(
        where,
        row,
        recv,
        _exchange_ns(data["T"]) if data.get("T") else 0,
        update,
        update,
        update,
        *_flat(data["bids"], data["asks"]),
    )
    if part.snapshot is not None:
        # a new segment; differences that arrived before the snapshot but go beyond it belong to it as well
        out.append(part)
        early = [d for d in part.depth if d.last >= update]
        part = Stretch(depth=early)
    part.snapshot = snap
    return part


def _take(
    kind: str,
    data: dict[str, Any],
    where: int,
    row: int,
    recv: int,
    part: Stretch,
    counts: dict[str, int],
    source: str,
) -> None:
    if kind == "depthUpdate":
        counts["rows_depth"] += 1
        part.depth.append(
            Depth(
                *(where, row, recv, _exchange_ns(data["T"] if "T" in data else data["E"])),
                *(_whole(data["U"]), _whole(data["u"]), _whole(data["pu"]) if "pu" in data else -1),
                *_flat(data["b"], data["a"]),
            )
        )
    elif kind == "trade":
        counts["rows_trade"] += 1
        if data.get("X", "MARKET") != "MARKET":
            counts["dropped_off_book_trade"] += 1
            part.off_book.append(str(data.get("q", "0")))
            return
        part.trades.append(
            (
                *(_exchange_ns(data["T"]), _whole(data["t"]), where, row, recv),
                *(_text(data["p"]), _text(data["q"]), _truth(data["m"])),
            )
        )
    elif kind == "bookTicker":
        part.tickers.append((_whole(data["u"]), *(_text(data[k]).encode() for k in "bBaA"), where, row))
    elif kind in UNUSED:
        counts["dropped_not_used_event"] += 1
    else:
        raise DataError(
            f"expected depthUpdate, trade, bookTicker or one of {', '.join(sorted(UNUSED))}, was {kind!r}",
            source=source,
            row=row,
            field="e",
        )


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"expected a whole number of at most 63 bits, was {str(value)[:40]!r}")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"expected text, was {str(value)[:40]}")
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"expected true or false, was {str(value)[:40]!r}")
    return value


def _spot_kind(data: dict[str, Any]) -> str:
    # the one message of spot that does not say what it is
    if data.keys() >= {"u", "s", "b", "B", "a", "A"}:
        return "bookTicker"
    raise KeyError("e")


def _flat(bids: list[list[str]], asks: list[list[str]]) -> tuple[list[str], list[str], int]:
    # flat lists of text: a list per level would make the garbage collector walk over a million of them
    levels = bids + asks
    # (text of one digit would do as a list of digits, too)
    if not all(type(x) is list and len(x) > 1 and type(x[0]) is type(x[1]) is str for x in levels):
        raise ValueError('expected levels ["price", "quantity"]')
    return [x[0] for x in levels], [x[1] for x in levels], len(bids)
