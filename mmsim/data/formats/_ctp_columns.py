"""Names of the columns of CTP-style files at the vendors we know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmsim.errors import ConfigError, DataError, did_you_mean

_CN = "一二三四五六七八九十"


@dataclass(frozen=True)
class Columns:
    """Column of each meaning; ``""`` where a vendor has none. ``bids`` and ``asks`` are (price, quantity) pairs."""

    last: str
    volume: str
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    trading_day: str = ""
    action_day: str = ""
    time: str = ""  # HH:MM:SS[.mmm] or HHMMSSmmm
    millis: str = ""
    datetime: str = ""  # date and time in one, instead of the four above
    contract: str = ""
    turnover: str = ""
    nan_is_no_quote: bool = False


def _levels(px: str, qty: str, numbers: str | range) -> tuple[tuple[str, str], ...]:
    return tuple((px.format(i), qty.format(i)) for i in numbers)


_TEN = range(1, 11)
PRESETS: dict[str, Columns] = {
    "ctp": Columns(
        "LastPrice",
        "Volume",
        _levels("BidPrice{}", "BidVolume{}", _TEN),
        _levels("AskPrice{}", "AskVolume{}", _TEN),
        *("TradingDay", "ActionDay", "UpdateTime", "UpdateMillisec"),
        contract="InstrumentID",
        turnover="Turnover",
    ),
    "chinese": Columns(
        "最新价",
        "数量",
        _levels("申买价{}", "申买量{}", _CN),
        _levels("申卖价{}", "申卖量{}", _CN),
        *("交易日", "业务日期", "最后修改时间", "最后修改毫秒"),
        contract="合约代码",
        turnover="成交金额",
    ),
    "tqsdk": Columns(
        "last_price",
        "volume",
        _levels("bid_price{}", "bid_volume{}", _TEN),
        _levels("ask_price{}", "ask_volume{}", _TEN),
        datetime="datetime",
        contract="symbol",
        turnover="amount",
        nan_is_no_quote=True,
    ),
    "wondertrader": Columns(
        "price",
        "total_volume",
        _levels("bid_price_{}", "bid_qty_{}", _TEN),
        _levels("ask_price_{}", "ask_qty_{}", _TEN),
        *("trading_date", "action_date", "action_time"),
        contract="code",
        turnover="total_turnover",
    ),
}
# other spellings of the same meanings
_ALIASES = {
    "wondertrader": ({"last": "last_price"},),
    "ctp": (
        {"trading_day": "TradeDate"},
        {"trading_day": "TradingDate"},
    ),
}
_MEANINGS = (
    "last",
    "volume",
    "trading_day",
    "action_day",
    "time",
    "millis",
    "datetime",
    "contract",
    "turnover",
)


def pick(header: list[str], wanted: str | Mapping[str, str] | None, depth: int, source: str) -> Columns:
    """Return the columns to read: of a preset, of a mapping, or of the preset that the header fits.

    A mapping names meanings: ``last volume trading_day action_day time millis datetime contract turnover`` and, with
    ``{}`` for the level's number, ``bid_price bid_qty ask_price ask_qty``.

    Raises
    ------
    ConfigError
        For an unknown preset or meaning.
    DataError
        If a needed column is missing, naming it and the nearest one.
    """
    header = [str(h).strip() for h in header]
    if isinstance(wanted, Mapping):
        return _present(_mapped(wanted), header, depth, source)
    if wanted:
        if wanted not in PRESETS:
            raise ConfigError(
                f"unknown column preset {wanted!r}{did_you_mean(wanted, PRESETS)}; known: {', '.join(PRESETS)}"
            )
        return _present(_spelled(wanted, header), header, depth, source)
    scores = {name: _score(_spelled(name, header), header) for name in PRESETS}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] < 3:
        raise DataError(
            f"expected the columns of one of {', '.join(PRESETS)}, was {', '.join(header[:12])}: "
            "map them with the option columns",
            source=source,
            row=1,
            field="header",
        )
    return _present(_spelled(best, header), header, depth, source)


def _mapped(wanted: Mapping[str, str]) -> Columns:
    levels = {"bid_price", "bid_qty", "ask_price", "ask_qty"}
    for key in wanted:
        if key not in _MEANINGS and key not in levels:
            raise ConfigError(f"columns: unknown meaning {key!r}{did_you_mean(key, [*_MEANINGS, *levels])}")
    for key in ("last", "volume", *sorted(levels)):
        if key not in wanted:
            raise ConfigError(f"columns: expected a column for {key!r}, was none")
    named = {key: value for key, value in wanted.items() if key in _MEANINGS}
    return Columns(
        bids=_levels(wanted["bid_price"], wanted["bid_qty"], _TEN),
        asks=_levels(wanted["ask_price"], wanted["ask_qty"], _TEN),
        **named,  # type: ignore[arg-type]
    )


def _spelled(name: str, header: list[str]) -> Columns:
    best = PRESETS[name]
    for alias in _ALIASES.get(name, ()):
        other = replace(best, **{k: v for k, v in alias.items() if v in header})  # type: ignore[arg-type]
        if _score(other, header) > _score(best, header):
            best = other
    return best


def _score(c: Columns, header: list[str]) -> int:
    return sum(bool(v) and v in header for v in (*(getattr(c, m) for m in _MEANINGS), *c.bids[0], *c.asks[0]))


def _present(c: Columns, header: list[str], depth: int, source: str) -> Columns:
    # optional columns that are not there are left out; a needed one that is not there is an error
    def need(column: str, meaning: str) -> None:
        if column not in header:
            raise DataError(
                f"expected this column ({meaning}), was missing{did_you_mean(column, header)}",
                source=source,
                row=1,
                field=column,
            )

    if c.datetime:
        need(c.datetime, "date and time")
    else:
        need(c.time, "time")
        if c.trading_day not in header and c.action_day not in header:
            need(c.trading_day or c.action_day, "trading day")
    need(c.last, "last price")
    need(c.volume, "cumulative volume")
    for side in (c.bids, c.asks):
        for column in side[0]:
            need(column, "best quote")
    bids = _run(c.bids, header, depth)
    asks = _run(c.asks, header, depth)
    n = min(len(bids), len(asks))
    optional = {
        m: v if (v := getattr(c, m)) in header else ""
        for m in ("trading_day", "action_day", "millis", "contract", "turnover")
    }
    return replace(c, bids=bids[:n], asks=asks[:n], **optional)  # type: ignore[arg-type]


def _run(levels: tuple[tuple[str, str], ...], header: list[str], depth: int) -> tuple[tuple[str, str], ...]:
    out = []
    for px, qty in levels[:depth]:
        if px not in header or qty not in header:
            break
        out.append((px, qty))
    return tuple(out)
