"""Snapshots with cumulative volume -> level changes and implied trades. Shared by the snapshot formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.conversion import Conversion, Ints, Progress, Tape
from mmsim.data.origin import Origin
from mmsim.data.snapshot_encode import encode
from mmsim.data.steps import MAX_UNITS
from mmsim.data.times import NIGHT_NS
from mmsim.errors import ConfigError, DataError
from mmsim.sessions import NS, midnight_ns, session_spans
from mmsim.types import BUY, EVENT, SELL, Instrument

CLOSE_GRACE_NS = 1 * NS  # the last snapshot of a session is published just after its end
AUCTION_NS = 3600 * NS  # a session's opening auction lies within this time before it,
AUCTION_BREAK_NS = 2 * 3600 * NS  # if the market was closed for longer than this before
RESET_GAP_NS = 1800 * NS  # cumulative volume may start again only after a break of this length
# a mean price farther outside the quotes of its interval than this part of the price is counted,
OUTSIDE = 0.02
OUTSIDE_SHARE = 0.1  # and an error in more than this part of a day's intervals with trades,
FEWEST = 20  # if there are so many of them: a few odd trades of a quiet day tell nothing of a multiplier


@dataclass
class Snapshots:
    """Rows of one contract and trading day, in file order. Prices in ticks, quantities in lots.

    ``bid_px`` ... are ``(n, depth)``, best first; quantity 0 means no quote. ``volume`` is cumulative lots;
    ``turnover`` cumulative tick-lots (price in ticks times lots), -1 where not known; ``row`` the one-based row
    of each in file `source`, ``fields`` the names of the bid and ask price and of the volume columns there.
    """

    label: str
    source: str
    row: Ints
    ts: Ints
    bid_px: Ints
    bid_qty: Ints
    ask_px: Ints
    ask_qty: Ints
    last_px: Ints
    volume: Ints
    turnover: Ints
    fields: tuple[str, str, str] = ("bid_price_1", "ask_price_1", "total_volume")

    def take(self, keep: npt.NDArray[np.bool_]) -> Snapshots:
        """Return the rows where `keep`."""
        arrays: dict[str, Any] = {
            f.name: getattr(self, f.name)[keep] for f in fields(self) if f.type == "Ints"
        }
        return replace(self, **arrays)

    def by_day(self, trading_day: Ints, groups: npt.NDArray[Any]) -> list[Snapshots]:
        """Return one table per group of rows, in order of appearance, labelled by its trading day ``YYYYMMDD``."""
        out = []
        for group in dict.fromkeys(groups.tolist()):
            at = groups == group
            date = str(int(trading_day[np.argmax(at)]))
            out.append(replace(self.take(at), label=f"{date[:4]}-{date[4:6]}-{date[6:]}"))
        return out

    @property
    def depth(self) -> int:
        """Levels that are ever quoted, 1 at least."""
        used = (self.bid_qty > 0).any(axis=0) | (self.ask_qty > 0).any(axis=0)
        return int(np.max(np.flatnonzero(used), initial=0)) + 1


def turnover_ticks(
    turnover: npt.NDArray[np.float64], instrument: Instrument, origin: Origin, field: str
) -> Ints:
    """Turn cumulative turnover in currency into tick-lots, rounded (vendors round it to whole currency).

    Raises
    ------
    DataError
        For NaN, infinity, a negative value, or one beyond what can be counted exactly.
    ConfigError
        For an inverse contract, whose turnover does not tell the prices of its trades in this way.
    """
    if instrument.inverse:
        raise ConfigError(
            f"inverse contracts: trades implied by the turnover of {instrument.name} are not supported: "
            "expected --contract linear"
        )
    value = float(instrument.tick_size * instrument.multiplier * instrument.lot_size)
    bad = ~(turnover >= 0) | ~(turnover < value * MAX_UNITS)
    expected = f"a turnover >= 0 and below {value * MAX_UNITS:.4g}"
    origin.refuse(bad, turnover, expected, field, show=lambda v: repr(float(v)))
    return np.rint(turnover / value).astype(np.int64)


def turnover_option(options: Mapping[str, Any], where: str) -> bool:
    """Return whether the turnover column is used: option ``turnover``, ``use`` (default) or ``ignore``."""
    value = options.get("turnover", "use")
    if value not in ("use", "ignore"):
        raise ConfigError(f"{where}: option turnover: expected use or ignore, was {value!r}")
    return bool(value == "use")


def convert_days(
    days: Sequence[Snapshots],
    instrument: Instrument,
    depth: int,
    progress: Progress,
    *,
    exact: bool = False,
) -> Conversion:
    """Convert trading days of snapshots into events, one segment per day.

    With `exact`, turnover is that of trades that are known one by one: no multiplier can be wrong, and mean prices are
    not held against the quotes.

    Per snapshot: first the trades implied by the change of cumulative volume and turnover, priced at the
    *previous* snapshot's best quotes by the two-price method (see `implied_trades`), then the changed levels, at
    least one row. Counted and left out: call auctions, rows outside the sessions, repeats after the close, and
    the volume of the first snapshot of a day (it has no quotes before it).

    Raises
    ------
    DataError
        For levels out of order, time or cumulative volume that runs backwards, or a turnover that another
        multiplier explains (see `_check_value`).
    """
    counts = dict.fromkeys(
        (
            *("rows_read", "rows_used", "dropped_auction", "dropped_outside_session"),
            *("dropped_after_close_repeat", "lots_traded", "lots_implied", "lots_not_replayed"),
            "lots_before_first_row",
            *("volume_resets", "snapshots_one_sided", "volume_without_turnover"),
            "implied_outside_quotes",
        ),
        0,
    )
    checks = dict.fromkeys(("crossed_books", "locked_books"), 0)
    out = Conversion(level="snapshot", view_depth=depth, counts=counts, checks=checks)
    out.account().unit = "changes of cumulative volume"
    for i, day in enumerate(days):
        progress(day.label, i / len(days))
        out.add(_convert_day(day, instrument, depth, out, exact), day.label)
    return out.join()


def _convert_day(
    day: Snapshots,
    instrument: Instrument,
    depth: int,
    out: Conversion,
    exact: bool,
) -> npt.NDArray[np.void]:
    counts, checks = out.counts, out.checks
    counts["rows_read"] += len(day.ts)
    rank = classify_rows(day, instrument)
    counts["dropped_auction"] += int(np.sum(rank == 1))
    counts["dropped_outside_session"] += int(np.sum(rank == 2))
    counts["dropped_after_close_repeat"] += int(np.sum(rank == 3))
    keep = rank == 0
    lots, value = _changes(day, rank, counts)
    _tell_tape(out.account(), int(day.volume[0]), lots, rank)
    if not keep.any():
        return np.zeros(0, EVENT)
    # the volume of left-out rows counts for the next used one, an auction's for none
    lots[rank == 1], value[rank == 1] = 0, 0
    lots = np.diff(np.cumsum(lots)[keep], prepend=0)
    value = np.diff(np.cumsum(value)[keep], prepend=0)
    lots[0], value[0] = 0, 0  # no quotes before it
    quotes = day.take(keep)
    _check_quotes(quotes)
    counts["rows_used"] += len(quotes.ts)
    shown = (quotes.bid_qty[:, 0] > 0) & (quotes.ask_qty[:, 0] > 0)
    counts["snapshots_one_sided"] += int(np.sum(~shown))
    checks["crossed_books"] += int(np.sum(shown & (quotes.bid_px[:, 0] > quotes.ask_px[:, 0])))
    checks["locked_books"] += int(np.sum(shown & (quotes.bid_px[:, 0] == quotes.ask_px[:, 0])))
    if not exact:
        counts["implied_outside_quotes"] += _check_value(quotes, lots, value, instrument)
    trades = implied_trades(quotes, lots, value)
    counts["lots_implied"] += int(trades[:, [1, 4]].sum())
    counts["lots_not_replayed"] = counts["lots_traded"] - counts["lots_implied"]
    return encode(
        quotes.ts,
        (quotes.bid_px, quotes.bid_qty),
        (quotes.ask_px, quotes.ask_qty),
        trades,
        depth,
        quotes.source,
    )


def _tell_tape(tape: Tape, before: int, lots: Ints, rank: npt.NDArray[np.int8]) -> None:
    # where the changes of cumulative volume of one day go; `before`: volume of its first row
    used = np.flatnonzero(rank == 0)
    changed = lots > 0
    tape.count(lots[changed])
    tape.raw_trades += int(before > 0)
    tape.raw_lots += before
    tape.explain("before the first row", int(before > 0), before)
    auction = changed & (rank == 1)
    tape.leave_out("call auction", lots[auction])
    changed &= ~auction
    if len(used) == 0:
        tape.leave_out("outside the sessions", lots[changed])
        return
    first, last = int(used[0]), int(used[-1])
    early, late = changed.copy(), changed.copy()
    early[first + 1 :] = False
    late[: last + 1] = False
    tape.leave_out("no quotes before it", lots[early])
    tape.leave_out("after the last row used", lots[late])
    # what is left belongs to the used row at or after it: one change, however many rows it took
    owner = np.searchsorted(used, np.flatnonzero(changed & ~early & ~late))
    told = len(np.unique(owner))
    tape.imported_trades += told
    tape.explain("in one with those of the next row used", len(owner) - told, 0)


def _check_value(q: Snapshots, lots: Ints, value: Ints, instrument: Instrument) -> int:
    """Return how many intervals have a mean price more than `OUTSIDE` outside all their quotes.

    An honest mean lies between the quotes before and after it, or a few ticks outside (what was traded through
    comes back). A wrong multiplier puts nearly all of them far outside: the ratio of mean price to mid-price is
    then the true multiplier over the one that was set.

    Raises
    ------
    DataError
        For more than `OUTSIDE_SHARE` of at least `FEWEST`, with the multiplier that would explain it.
    """
    big = np.iinfo(np.int64).max // 4
    bid = np.where(q.bid_qty[:, 0] > 0, q.bid_px[:, 0], big)
    ask = np.where(q.ask_qty[:, 0] > 0, q.ask_px[:, 0], -big)
    low = np.minimum(bid, np.concatenate([bid[:1], bid[:-1]]))
    high = np.maximum(ask, np.concatenate([ask[:1], ask[:-1]]))
    known = (lots > 0) & (low < big) & (high > -big)
    low, high, mean = low[known], high[known], value[known] / lots[known]
    slack = np.maximum(1.0, OUTSIDE * np.abs(low + high) / 2)
    outside = (mean < np.minimum(low, high) - slack) | (mean > np.maximum(low, high) + slack)
    found = int(outside.sum())
    if found <= OUTSIDE_SHARE * len(mean) or len(mean) < FEWEST:
        return found
    ratio = mean / np.where(low + high == 0, 1, low + high) * 2
    middle = float(np.median(ratio))
    spread = float(np.subtract(*np.percentile(ratio, [75, 25])))
    if middle > 0 and spread <= 0.1 * middle:
        multiplier = _plain(float(instrument.multiplier) * middle)
        advice = f"the data imply a multiplier of about {multiplier}: --multiplier {multiplier}, or"
    else:
        advice = "no one multiplier explains it: check the columns of volume and turnover, or"
    raise DataError(
        f"expected mean prices (turnover / volume) near the quotes, was {found} of {len(mean)} intervals more than "
        f"{OUTSIDE:.0%} outside with multiplier {instrument.multiplier} (median {middle:.4g} times the mid-price): "
        f"{advice} --option turnover=ignore to price trades at the last price",
        source=f"{q.source} ({q.label})",
    )


def _plain(number: float) -> str:
    # a contract's multiplier is a round number; the estimate is off by about the spread
    whole = round(number)
    return str(whole) if whole and abs(number - whole) <= 0.02 * number else f"{number:.3g}"


def classify_rows(day: Snapshots, instrument: Instrument) -> npt.NDArray[np.int8]:
    """Return 0 for rows to use, 1 call auction, 2 outside the sessions, 3 repeats after the last close."""
    rank = np.full(len(day.ts), 2, dtype=np.int8)
    if not instrument.sessions:
        return np.zeros(len(day.ts), dtype=np.int8)
    spans = sorted(session_spans(instrument))
    first = int(day.ts.min())
    dates = {
        int(d)
        for d in np.unique((day.ts + _utc_offset_ns(first, instrument)) // (86_400 * NS))
        for d in (d - 1, d)
    }
    last_close = max(b for a, b in spans if a < NIGHT_NS or len(spans) == 1)
    for d in dates:
        midnight = midnight_ns(str(np.datetime64(d, "D")), instrument.timezone)
        for j, (a, b) in enumerate(spans):
            before = spans[j - 1][1] if j else spans[-1][1] - 86_400 * NS
            if a - before > AUCTION_BREAK_NS:
                rank[(rank == 2) & (day.ts >= midnight + a - AUCTION_NS) & (day.ts < midnight + a)] = 1
            inside = (day.ts >= midnight + a) & (day.ts <= midnight + b + CLOSE_GRACE_NS)
            rank[inside] = 0
    # what repeats the closing state: no new volume, after (or micro-seconds behind) the last row of the close
    fresh = np.diff(day.volume, prepend=-1) != 0
    offset = (day.ts + _utc_offset_ns(first, instrument)) % (86_400 * NS)
    rank[(rank == 2) & ~fresh & (offset > last_close)] = 3
    odd = (day.ts % 1_000_000 != 0) & (offset >= last_close - CLOSE_GRACE_NS) & ~fresh
    rank[odd & (rank == 0)] = 3
    return rank


def _utc_offset_ns(ts: int, instrument: Instrument) -> int:
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    delta = datetime.fromtimestamp(ts // NS, UTC).astimezone(ZoneInfo(instrument.timezone)).utcoffset()
    return int(delta.total_seconds()) * NS if delta else 0


def _changes(day: Snapshots, rank: npt.NDArray[np.int8], counts: dict[str, int]) -> tuple[Ints, Ints]:
    # lots and tick-lots of every row since the row before; 0 for the first, whose base is not in the data
    lots = np.diff(day.volume, prepend=day.volume[:1])
    value = np.diff(day.turnover, prepend=day.turnover[:1])
    for i in np.flatnonzero(lots < 0).tolist():
        if rank[i - 1] == 0 and day.ts[i] - day.ts[i - 1] < RESET_GAP_NS:
            said = f"expected cumulative volume not below {day.volume[i - 1]}, was {day.volume[i]}"
            raise Origin(day.source, day.row).error(said, i, day.fields[2])
        counts["volume_resets"] += 1
        lots[i], value[i] = day.volume[i], day.turnover[i]
    unknown = (lots > 0) & ((value <= 0) | (day.turnover < 0))
    counts["volume_without_turnover"] += int(unknown.sum())
    value[unknown] = lots[unknown] * day.last_px[unknown]
    value[lots == 0] = 0
    counts["lots_before_first_row"] += int(day.volume[0])
    counts["lots_traded"] += int(day.volume[0] + lots.sum())
    return lots, value


def _check_quotes(q: Snapshots) -> None:
    origin, back = Origin(q.source, q.row), np.flatnonzero(np.diff(q.ts) < 0)
    if len(back):
        i = int(back[0]) + 1
        said = (
            f"expected non-decreasing time, was {int(q.ts[i] - q.ts[i - 1]) / NS:.3f} s after the row before"
        )
        raise origin.error(said, i, "time")
    for px, qty, sign, name in (
        (q.bid_px, q.bid_qty, -1, q.fields[0]),
        (q.ask_px, q.ask_qty, 1, q.fields[1]),
    ):
        if px.shape[1] == 1:
            continue
        here, there = qty[:, :-1] > 0, qty[:, 1:] > 0
        bad = there & (~here | (sign * (px[:, 1:] - px[:, :-1]) <= 0))
        if bad.any():
            i, j = (int(v[0]) for v in np.nonzero(bad))
            said = f"expected level {j + 2} behind level {j + 1}, was {px[i, j + 1]} after {px[i, j]} ticks"
            raise origin.error(said, i, name)


def implied_trades(quotes: Snapshots, lots: Ints, value: Ints) -> Ints:
    """Return ``(n, 6)``: px, lots and side of two trades per snapshot, the buys' and the sells'.

    Two-price method with the previous snapshot's best quotes: the mean price of the interval splits the lots
    into buys at the ask and sells at the bid; a mean outside the quotes is one trade at the rounded mean, on the
    side it lies. Lots are conserved exactly. Without both quotes the side is unknown (0) unless the mean lies at
    or beyond the one quote there is, and if the quotes are locked or crossed and the mean lies at both.

    Source: Spooner et al. 2018's two-price method, as in mmsim's design notes.
    """
    n = len(lots)
    out = np.zeros((n, 6), dtype=np.int64)
    active = lots > 0
    active[0] = False
    bid = np.concatenate([quotes.bid_px[:1, 0], quotes.bid_px[:-1, 0]])
    ask = np.concatenate([quotes.ask_px[:1, 0], quotes.ask_px[:-1, 0]])
    has_bid = np.concatenate([[False], quotes.bid_qty[:-1, 0] > 0])
    has_ask = np.concatenate([[False], quotes.ask_qty[:-1, 0] > 0])
    vwap = np.rint(value / np.maximum(lots, 1)).astype(np.int64)
    above = has_ask & (value >= lots * ask)
    below = has_bid & (value <= lots * bid)
    inside = active & has_bid & has_ask & ~above & ~below
    spread = np.where(inside, ask - bid, 1)
    buys = np.where(inside, np.rint((value - lots * bid) / spread).astype(np.int64), 0)
    out[:, 0], out[:, 1], out[:, 2] = ask, np.where(inside, buys, 0), BUY
    out[:, 3], out[:, 4], out[:, 5] = bid, np.where(inside, lots - buys, 0), SELL
    single = active & ~inside
    side = np.where(above & ~below, BUY, np.where(below & ~above, SELL, 0))
    out[single, 0], out[single, 1], out[single, 2] = vwap[single], lots[single], side[single]
    out[single, 4] = 0
    return out
