"""Is a finished conversion a market? Figures, what is odd about them, and what is too odd to import.

Every import and every conversion passes here before anything is cached. A figure beyond its limit is an error that
names the likely cause and the option that fixes it; ``--allow NAME`` (kept in the manifest) lets it pass, noted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mmsim.data.book_states import CROSSED, EMPTY, LOCKED, ONE_SIDED, OPEN, SLACK, States, states
from mmsim.data.conversion import Conversion, Ints
from mmsim.data.manifest import SPLITS, Manifest
from mmsim.data.splits import make_splits
from mmsim.data.times import EPOCH_UNITS, YEARS
from mmsim.errors import DataError
from mmsim.sessions import NS, trading_windows
from mmsim.types import Episode, EventFlag, EventKind

# Shares of trading time or of messages, whichever is larger, beyond which the data are refused ...
MOST_CROSSED = 0.25
MOST_LOCKED = 0.5
MOST_ONE_SIDED = 0.9
MOST_OUTSIDE = 0.1  # of the trades
LONGEST_DAYS = 31  # of a segment
COARSEST = 0.1  # tick size as a part of the price
WIDEST = 10_000  # median spread, ticks
UNUSED_STEP = 5  # all prices are multiples of this many ticks (if there are at least FEW different ones)
FEW = 6
# ... and beyond which they are noted.
NOTE_LOCKED = 0.01
NOTE_ONE_SIDED = 0.05
NOTE_DAYS = 7
NOTE_TICK = 0.01
NOTE_FEW = 20  # different prices, for a step of two to four ticks
NOTE_SPREAD = 1_000
NOTE_ONE_WAY = 0.99  # of trades with a known side, bought or sold
DUST = 1_000  # times the usual own order is the median best quote
GIANT = 10  # times the median best quote is the usual own order


class Finding(NamedTuple):
    """Something odd: `name` is what ``--allow`` takes; `refuse`: an error unless allowed."""

    name: str
    refuse: bool
    text: str


def check(spec: Manifest, done: Conversion) -> dict[str, Any]:
    """Return ``{"figures", "notes", "allowed"}`` of a finished conversion, ready for JSON.

    Raises
    ------
    DataError
        For what no market looks like, unless the manifest allows it by name.
    """
    found = measure(spec, done)
    findings = [
        *_clock(found),
        *_twice(done),
        *_book(found),
        *_prices(spec, found),
        *_sizes(spec, found),
    ]
    findings += _splits(spec, found)
    refused = [f for f in findings if f.refuse and f.name not in spec.allow]
    if refused and not spec.simulated:  # a generated market is pinned by its sha256
        names = list(dict.fromkeys(f.name for f in refused))
        others = f" (also: {', '.join(names[1:])})" if names[1:] else ""
        allow = " ".join(f"--allow {name}" for name in names)
        raise DataError(f"{refused[0].text}; {allow} imports it as it is{others}", source=spec.name)
    allowed = [f for f in findings if f.refuse]
    return {
        "figures": found,
        "notes": [f.text if not f.refuse else f"allowed ({f.name}): {f.text}" for f in findings],
        "allowed": list(dict.fromkeys(f.name for f in allowed)),
    }


def figures(report: dict[str, Any]) -> list[str]:
    """Return the figures as lines of text."""
    f = report["figures"]
    shares = ", ".join(
        f"{name.replace('_', '-')} {f[name]['time']:.1%} ({f[name]['messages']:,} messages)"
        for name in ("locked", "crossed", "one_sided", "empty")
    )
    out = [
        f"book in trading time: {f['messages']:,} messages, {f['seconds']:,.0f} s; {shares}",
        f"trades: {f['trades']:,}, bought {f['buys']:,}, sold {f['sells']:,}",
        f"trades more than {2 / SLACK:.0%} outside the quotes: {f['trades_outside']:,}",
    ]
    if f["median_spread_ticks"] is not None:
        out.append(
            f"medians: price {f['median_price_ticks']:,g} ticks, spread {f['median_spread_ticks']:,g} ticks, best "
            f"quote {f['median_quote_lots']:,g} lots, trade {_or_none(f['median_trade_lots'])} lots"
        )
    return out


def measure(spec: Manifest, done: Conversion) -> dict[str, Any]:
    """Return the figures: book states by time and by message, trades, scales, spans and splits."""
    ev, instrument = done.events, spec.instrument.build()
    found: list[States] = []
    for seg in done.segments:
        rows = ev[seg.start : seg.stop]
        found.append(states(rows, trading_windows(instrument, int(rows["ts"][0]), int(rows["ts"][-1]))))
    messages = np.sum([s.messages for s in found], axis=0)
    time_ns = np.sum([s.time_ns for s in found], axis=0)
    tops = np.concatenate([s.tops for s in found])
    printed = ((ev["kind"] == EventKind.TRADE) | (ev["kind"] == EventKind.EXECUTE)) & (
        ev["flags"] & EventFlag.AUCTION == 0
    )
    book = (ev["kind"] == EventKind.ADD) | ((ev["kind"] == EventKind.LEVEL) & (ev["qty"] > 0))
    prices = np.unique(ev["px"][book]).astype(np.int64)
    spread, mid2, quotes = tops[:, 0], tops[:, 1], tops[:, 2:].ravel()
    shares = {
        name: {
            "messages": int(messages[k]),
            "share": _part(messages[k], messages.sum()),
            "time": _part(time_ns[k], time_ns.sum()),
        }
        for k, name in ((EMPTY, "empty"), (ONE_SIDED, "one_sided"), (LOCKED, "locked"), (CROSSED, "crossed"))
    }
    first = [int(ev["ts"][s.start]) for s in done.segments]
    last = [int(ev["ts"][s.stop - 1]) for s in done.segments]
    return {
        "first_ns": min(first),
        "last_ns": max(last),
        "longest_segment_s": max(b - a for a, b in zip(first, last, strict=True)) / NS,
        "messages": int(messages.sum()),
        "seconds": float(time_ns.sum()) / NS,
        "two_sided_messages": int(messages[OPEN]),
        **shares,
        "dropped_locked": int(done.counts.get("dropped_locked_states", 0)),
        "trades": sum(s.trades for s in found),
        "trades_outside": sum(s.outside for s in found),
        "trades_without_quotes": sum(s.unquoted for s in found),
        "buys": sum(s.buys for s in found),
        "sells": sum(s.sells for s in found),
        "median_price_ticks": _median(mid2 / 2),
        "median_spread_ticks": _median(spread),
        "median_quote_lots": _median(quotes),
        "median_trade_lots": _median(ev["qty"][printed]),
        "prices": len(prices),
        "price_step_ticks": int(np.gcd.reduce(prices)) if len(prices) else 0,
        "splits": _split_figures(spec, done, printed),
    }


def _split_figures(spec: Manifest, done: Conversion, printed: npt.NDArray[np.bool_]) -> dict[str, Any]:
    splits, _ = make_splits(spec, done.segments, done.events)

    def trades(episode: Episode) -> int:
        seg = done.segments[episode.segment]
        ts = done.events["ts"][seg.start : seg.stop]
        a, b = np.searchsorted(ts, [episode.start_ts, episode.end_ts])
        return int(np.sum(printed[seg.start + a : seg.start + b]))

    return {
        name: {"episodes": len(episodes), "trades": sum(map(trades, episodes))}
        for name, episodes in splits.items()
    }


def _clock(f: dict[str, Any]) -> Iterator[Finding]:
    low, high = (np.datetime64(str(year), "ns").astype(np.int64) for year in YEARS)
    for ts in (f["first_ns"], f["last_ns"]):
        if low <= ts < high:
            continue
        unit = {1_000: "microseconds", 1_000_000: "milliseconds", NS: "seconds"}
        guess = [unit[k] for k in EPOCH_UNITS.values() if k in unit and low <= ts * k < high]
        cause = f": {guess[0]} were read as nanoseconds" if guess else ""
        yield Finding(
            "times",
            True,
            f"expected times from {YEARS[0]} to {YEARS[1]}, was {_utc(ts)}{cause}; give the files times in ns",
        )
        return
    days = f["longest_segment_s"] / 86_400
    if days > NOTE_DAYS:
        yield Finding(
            "times",
            days > LONGEST_DAYS,
            f"a segment without a gap lasts {days:.1f} days (expected up to {LONGEST_DAYS}): a wrong date in it, or "
            "files that belong apart",
        )


def _twice(done: Conversion) -> Iterator[Finding]:
    # compressed otherwise, or in another archive, the files differ; the events do not
    seen: dict[bytes, str] = {}
    for seg in done.segments:
        content = np.ascontiguousarray(done.events[seg.start : seg.stop]).view(np.uint8).data
        digest = hashlib.sha256(content).digest()
        if digest in seen:
            yield Finding(
                "twice",
                True,
                f"expected every day once, was the same data in segments {seen[digest]} and {seg.label}: leave one of "
                "the files out",
            )
            return
        seen[digest] = seg.label


def _book(f: dict[str, Any]) -> Iterator[Finding]:
    crossed, locked, dropped = f["crossed"], f["locked"], f["dropped_locked"]
    if crossed["messages"]:
        yield Finding(
            "crossed",
            max(crossed["time"], crossed["share"]) > MOST_CROSSED,
            f"the best bid is above the best ask for {crossed['time']:.1%} of the trading time and after "
            f"{crossed['share']:.1%} of the messages (expected up to {MOST_CROSSED:.0%}): are bid and ask swapped, "
            "columns mapped wrongly, two symbols mixed, or call auctions inside --sessions? Agents are not asked then",
        )
    share = max(locked["time"], locked["share"])
    if share > NOTE_LOCKED:
        yield Finding(
            "locked",
            share > MOST_LOCKED,
            f"the best bid equals the best ask for {locked['time']:.1%} of the trading time and after "
            f"{locked['share']:.1%} of the messages (expected up to {MOST_LOCKED:.0%}): agents are not asked then; "
            "--locked drop leaves such states out",
        )
    if dropped:
        gone = dropped / (dropped + max(f["messages"], 1))
        yield Finding(
            "locked",
            gone > MOST_LOCKED,
            f"{dropped:,} states with the best bid at or above the best ask were left out (--locked drop): {gone:.1%} "
            f"of all (expected up to {MOST_LOCKED:.0%})",
        )
    alone = max(f["one_sided"]["time"] + f["empty"]["time"], f["one_sided"]["share"] + f["empty"]["share"])
    if alone > NOTE_ONE_SIDED:
        yield Finding(
            "one-sided",
            alone > MOST_ONE_SIDED,
            f"the book lacks a side for {alone:.1%} of the trading time or messages (expected up to "
            f"{MOST_ONE_SIDED:.0%}): a column mapped wrongly, a price limit, or --sessions longer than the data's",
        )
    if f["trades"] == 0:
        yield Finding(
            "trades", False, "no trades in trading time: own orders are filled by crossing quotes only"
        )
        return
    if f["trades_outside"]:
        share = f["trades_outside"] / f["trades"]
        yield Finding(
            "trades",
            share > MOST_OUTSIDE,
            f"{f['trades_outside']:,} of {f['trades']:,} trades ({share:.1%}, expected up to {MOST_OUTSIDE:.0%}) are "
            f"more than {2 / SLACK:.0%} of the price outside the quotes before and after them: another unit "
            "(--multiplier, --tick-size), another instrument, or clocks that disagree",
        )
    sided = f["buys"] + f["sells"]
    if sided >= 100 and max(f["buys"], f["sells"]) > NOTE_ONE_WAY * sided:
        yield Finding(
            "trades",
            False,
            f"{max(f['buys'], f['sells']):,} of {sided:,} trades have the same aggressor's side",
        )


def _prices(spec: Manifest, f: dict[str, Any]) -> Iterator[Finding]:
    price, spread, step = f["median_price_ticks"], f["median_spread_ticks"], f["price_step_ticks"]
    tick = spec.instrument.tick_size
    if step > 1 and f["prices"] >= (FEW if step >= UNUSED_STEP else NOTE_FEW):
        yield Finding(
            "tick-size",
            step >= UNUSED_STEP,
            f"all {f['prices']} prices of the book are multiples of {tick * step}, the tick size was {tick}: agents "
            f"could quote prices that the market does not know; --tick-size {tick * step}",
        )
    if spread is None:
        return
    if price and 1 / abs(price) > NOTE_TICK:
        yield Finding(
            "tick-size",
            1 / abs(price) > COARSEST,
            f"one tick of {tick} is {1 / abs(price):.1%} of the median price (expected up to {COARSEST:.0%}): is "
            "--tick-size right?",
        )
    if spread > NOTE_SPREAD:
        yield Finding(
            "tick-size",
            spread > WIDEST,
            f"the median spread is {spread:,g} ticks of {tick} (expected up to {WIDEST:,}): is --tick-size too small?",
        )


def _sizes(spec: Manifest, f: dict[str, Any]) -> Iterator[Finding]:
    unit, lot, quote = spec.instrument.unit_lots, spec.instrument.lot_size, f["median_quote_lots"]
    if not quote:
        return
    better = _round_down(max(quote / 100, min(f["median_trade_lots"] or 1, quote)))
    size = f"an own order of --unit-lots {unit} is {lot * unit}, the median best quote {quote:,g} lots"
    if quote >= DUST * unit:
        yield Finding("unit-lots", False, f"{size}: dust; --unit-lots {better} would be a usual size")
    elif unit > GIANT * quote:
        yield Finding("unit-lots", False, f"{size}: it would move the market; --unit-lots {better}")


def _splits(spec: Manifest, f: dict[str, Any]) -> Iterator[Finding]:
    for name in SPLITS:
        found = f["splits"][name]
        asked = (
            spec.splits.fractions[SPLITS.index(name)] if spec.splits.fractions else getattr(spec.splits, name)
        )
        if not asked:
            continue
        if found["episodes"] == 0:
            yield Finding(
                "splits",
                False,
                f"split {name} has no episode: what needs it cannot run; more data, or a shorter --episode-s",
            )
        elif found["trades"] == 0 and f["trades"]:
            yield Finding(
                "splits",
                False,
                f"split {name} has no trade in its {found['episodes']} episodes: nothing can be calibrated on it, and "
                "own orders are filled by crossing quotes only",
            )


def _round_down(number: float) -> int:
    # 1, 2 or 5 times a power of ten
    size = 10 ** int(np.floor(np.log10(max(number, 1))))
    return int(max(k * size for k in (1, 2, 5) if k * size <= max(number, 1)))


def _median(values: npt.NDArray[Any] | Ints) -> float | None:
    return float(np.median(values)) if len(values) else None


def _part(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _utc(ts: int) -> str:
    return f"{np.datetime64(ts, 'ns').astype('datetime64[s]')}Z"


def _or_none(value: float | None) -> str:
    return "-" if value is None else f"{value:,g}"
