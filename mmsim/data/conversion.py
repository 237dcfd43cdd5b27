"""What every format converter returns, and the checked steps that all of them share.

Nothing is repaired silently: what is dropped is counted under ``counts["dropped_<reason>"]``, what is compared
under ``checks``, and a broken file is a `DataError` naming file, row and field (`mmsim.data.formats.format`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.data.origin import Origin
from mmsim.errors import DataError
from mmsim.types import EVENT, EventFlag, EventKind, Segment

Progress = Callable[[str, float], None]
Ints = npt.NDArray[np.int64]

LEVELS = ("L3", "L2", "snapshot")
INT32_MAX = np.iinfo(np.int32).max


def no_progress(stage: str, fraction: float) -> None:
    """Report nothing: the default of `Progress` (stage text, fraction done in 0..1)."""


@dataclass
class Tape:
    """Printed trades of the raw files beside those of the import; every difference has a reason.

    Parameters
    ----------
    unit : str
        What one raw trade is in this format ("trade records", "change of cumulative volume", ...).
    raw_trades, raw_lots : int
        Counted from the raw messages of the instrument, before anything is left out.
    imported_trades : int
        Of those, the trades that the events tell. A trade that met several resting orders is one trade, but
        several rows: rows are counted from the events (`printed_rows`) and stand beside it.
    reasons : dict of str to (int, int)
        Trades and lots that the import has less (negative: more) than the raw files, by reason.
    """

    unit: str = "trade records"
    raw_trades: int = 0
    raw_lots: int = 0
    imported_trades: int = 0
    reasons: dict[str, tuple[int, int]] = field(default_factory=dict)

    def count(self, lots: npt.NDArray[Any]) -> None:
        """Count raw trades by their lots."""
        self.raw_trades += len(lots)
        self.raw_lots += int(lots.sum(dtype=np.int64))

    def leave_out(self, reason: str, lots: npt.NDArray[Any]) -> None:
        """Explain trades that the import has not, by their lots."""
        self.explain(reason, len(lots), int(lots.sum(dtype=np.int64)))

    def explain(self, reason: str, trades: int, lots: int) -> None:
        """Add trades and lots that the import has less than the raw files (negative: more)."""
        if trades or lots:
            had = self.reasons.get(reason, (0, 0))
            self.reasons[reason] = (had[0] + int(trades), had[1] + int(lots))

    def report(self, events: npt.NDArray[np.void]) -> dict[str, Any]:
        """Return the account, ready for JSON: raw, imported (in `events`), and the difference by reason."""
        return {
            "unit": self.unit,
            "raw": {"trades": self.raw_trades, "lots": self.raw_lots},
            "imported": {
                "trades": self.imported_trades,
                "lots": printed_lots(events),
                "rows": printed_rows(events),
            },
            "missing": {k: {"trades": t, "lots": q} for k, (t, q) in self.reasons.items()},
        }


def printed_rows(events: npt.NDArray[np.void]) -> dict[str, int]:
    """Return how many rows tell the trades: executions of resting orders, prints, and how many are an auction's."""
    kind = events["kind"]
    executed, printed = kind == EventKind.EXECUTE, kind == EventKind.TRADE
    auction = (events["flags"] & EventFlag.AUCTION > 0) & (executed | printed)
    return {"executions": int(executed.sum()), "prints": int(printed.sum()), "auction": int(auction.sum())}


def printed_lots(events: npt.NDArray[np.void]) -> int:
    """Return the lots that trades in `events` moved: prints, and executions of resting orders.

    A trade of a call auction executes a bid and an ask; its lots count once, at the bid.
    """
    kind, qty = events["kind"], events["qty"].astype(np.int64)
    second = (events["flags"] & EventFlag.AUCTION > 0) & (events["side"] < 0)
    counted = (kind == EventKind.TRADE) | ((kind == EventKind.EXECUTE) & ~second)
    return int(qty[counted].sum())


@dataclass
class Conversion:
    """Canonical events of one dataset and what was found on the way.

    Parameters
    ----------
    events : (n,) EVENT array
    segments : tuple of Segment
        Together they cover all rows, in order, without overlap. `add` makes them one after another.
    level : {"L3", "L2", "snapshot"}
    view_depth : int
        Levels per side that the feed carries; 0: the full book.
    n_slots : int
        Largest order slot + 1; 0 on level feeds.
    recv_ts : (n,) int64 array, optional
        Local receive time, ns.
    messages : dict
        Messages (rows, records) of the raw files by kind, before anything is left out.
    counts : dict
        ``rows_read``, ``dropped_<reason>``, ...
    checks : dict
        ``states_compared``, ``states_equal``, ``crossed_books``, ...
    notes : list of str
        Sentences for `mmsim data check`.
    tape : Tape, optional
        Printed trades against the raw files'; `finish` refuses an account that does not balance. None only for
        generated markets: a format without trades says so with an account of zero.
    px_min, px_max : int
        Smallest and largest price of any event, ticks; set by `finish`.
    """

    events: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, EVENT))
    segments: tuple[Segment, ...] = ()
    level: str = ""
    view_depth: int = 0
    n_slots: int = 0
    recv_ts: Ints | None = None
    messages: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tape: Tape | None = None
    px_min: int = 0
    px_max: int = 0
    _added: list[tuple[npt.NDArray[np.void], Ints | None]] = field(default_factory=list, repr=False)

    def add(self, events: npt.NDArray[np.void], label: str = "", recv_ts: Ints | None = None) -> None:
        """Add a segment, if there are events; `join` puts all that were added together.

        Without a label it is called by its UTC day, and by its number if it is not the first of that day.
        """
        if len(events) == 0:
            return
        if not label:
            label = str(np.datetime64(int(events["ts"][0]), "ns").astype("datetime64[D]"))
            same = sum(s.label == label or s.label.startswith(label + "-") for s in self.segments)
            label = f"{label}-{same + 1}" if same else label
        start = self.segments[-1].stop if self.segments else 0
        self.segments += (Segment(start, start + len(events), label),)
        self._added.append((events, recv_ts))

    def join(self) -> Conversion:
        """Make one array of all segments that were added, and return self."""
        if self._added:
            self.events = np.concatenate([events for events, _ in self._added])
            received = [recv for _, recv in self._added if recv is not None]
            self.recv_ts = np.concatenate(received) if received else None
            self._added = []
        return self

    def account(self) -> Tape:
        """Return the account of printed trades, opened if there was none."""
        if self.tape is None:
            self.tape = Tape()
        return self.tape

    def finish(self, source: str = "") -> Conversion:
        """Check the invariants that the kernel relies on, set the price range, and return self.

        Raises
        ------
        DataError
            If the array is empty or of another layout, segments do not cover it, a time runs backwards
            in a segment, a kind or side is unknown, a slot or quantity is out of range, or a message is
            left open at the end of a segment.
        """
        ev = self.join().events
        if ev.dtype != EVENT or ev.ndim != 1:
            raise DataError(f"expected a one-dimensional EVENT array, was {ev.dtype}", source=source)
        if len(ev) == 0:
            raise DataError("expected market events, was none: nothing usable in the files", source=source)
        if self.level not in LEVELS:
            raise DataError(f"expected level in {LEVELS}, was {self.level!r}", source=source)
        self._check_segments(source)
        slots = max(self.n_slots, 1)
        for name, bad, expected in (
            ("kind", (ev["kind"] < 1) | (ev["kind"] > EventKind.CLEAR), "a known EventKind"),
            ("side", np.abs(ev["side"]) > 1, "side -1, 0 or 1"),
            ("qty", ev["qty"] < 0, "a quantity >= 0"),
            ("oid", ev["oid"] >= slots, f"a slot below {slots}"),
        ):
            Origin(source).refuse(bad, ev[name], expected, name)
        priced = ev["px"][ev["kind"] != EventKind.CLEAR]
        if len(priced) == 0:
            raise DataError("expected events with prices, was none", source=source)
        self.px_min, self.px_max = int(priced.min()), int(priced.max())
        self._check_tape(source)
        return self

    def _check_tape(self, source: str) -> None:
        if self.tape is None:
            return
        found = (self.tape.imported_trades, printed_lots(self.events))
        missing = [sum(pair[k] for pair in self.tape.reasons.values()) for k in (0, 1)]
        expected = (self.tape.raw_trades - missing[0], self.tape.raw_lots - missing[1])
        if found != expected:
            raise DataError(
                f"expected {expected[0]} trades of {expected[1]} lots as in the raw files less what is explained, "
                f"was {found[0]} of {found[1]}: trades were lost or invented; please report this file",
                source=source,
            )

    def _check_segments(self, source: str) -> None:
        at = 0
        for seg in self.segments:
            if seg.start != at or seg.stop <= seg.start:
                raise DataError(f"expected a segment from event {at}, was {seg}", source=source)
            ts = self.events["ts"][seg.start : seg.stop]
            back = np.flatnonzero(np.diff(ts) < 0)
            if len(back):
                row = int(back[0]) + 1
                raise DataError(
                    f"expected non-decreasing time in segment {seg.label!r}, was {ts[row]} after {ts[row - 1]} ns",
                    source=source,
                    row=seg.start + row + 1,
                    field="ts",
                )
            if not self.events["flags"][seg.stop - 1] & EventFlag.LAST:
                raise DataError(f"expected segment {seg.label!r} to end with a LAST row", source=source)
            at = seg.stop
        if at != len(self.events):
            raise DataError(f"expected segments over {len(self.events)} events, was {at}", source=source)
        if self.recv_ts is not None and len(self.recv_ts) != len(self.events):
            raise DataError(
                f"expected {len(self.events)} receive times, was {len(self.recv_ts)}", source=source
            )


def add_counts(total: dict[str, int], found: Mapping[str, int]) -> None:
    """Add each number of `found` to `total`."""
    for name, number in found.items():
        total[name] = total.get(name, 0) + int(number)


def count_kinds(total: dict[str, int], kinds: npt.NDArray[Any], names: Mapping[int, str]) -> None:
    """Add to `total` how often each kind occurs in `kinds`, under its name; kinds that never occur too."""
    found = np.unique(kinds, return_counts=True)
    number = dict(zip((int(k) for k in found[0]), (int(n) for n in found[1]), strict=True))
    for kind, name in names.items():
        total[name] = total.get(name, 0) + number.get(kind, 0)


def build_events(
    *,
    ts: npt.ArrayLike,
    kind: npt.ArrayLike,
    side: npt.ArrayLike,
    px: npt.ArrayLike,
    qty: npt.ArrayLike,
    oid: npt.ArrayLike = 0,
    flags: npt.ArrayLike = 0,
    source: str = "",
) -> npt.NDArray[np.void]:
    """Return an EVENT array from columns (scalars are broadcast), checking that every value fits.

    Raises
    ------
    DataError
        If a price, quantity or slot does not fit its 32 bits.
    """
    ts_ = np.atleast_1d(np.asarray(ts, dtype=np.int64))
    out = np.zeros(len(ts_), dtype=EVENT)
    out["ts"] = ts_
    for name, values, low, high in (
        ("px", px, -INT32_MAX, INT32_MAX),
        ("qty", qty, 0, INT32_MAX),
        ("oid", oid, 0, 2 * INT32_MAX + 1),
    ):
        wide = np.broadcast_to(np.asarray(values, dtype=np.int64), ts_.shape)
        if name == "qty" and len(wide) and int(wide.max()) > high:
            raise _too_many_lots(wide, source)
        Origin(source).refuse((wide < low) | (wide > high), wide, f"a value in {low}..{high}", name)
        out[name] = wide
    out["kind"], out["side"], out["flags"] = kind, side, flags
    return out


class TooManyLotsError(DataError):
    """A quantity that is no 32-bit number of lots; `factor` times the lot size would do (0: no lot size would)."""

    factor = 0


def _too_many_lots(qty: Ints, source: str) -> TooManyLotsError:
    row, largest = int(np.argmax(qty > INT32_MAX)), int(qty.max())
    shared = int(np.gcd.reduce(qty))  # what divides all of them divides each lot size that would do
    enough = largest <= INT32_MAX * shared
    say = (
        f"a lot size {shared} times as large would do"
        if enough
        else "no larger lot size divides all of them: such sizes do not fit"
    )
    err = TooManyLotsError(
        f"expected at most {INT32_MAX} lots, was {qty[row]} (largest {largest}): {say}",
        source=source,
        row=row + 1,
        field="qty",
    )
    err.factor = shared if enough else 0
    return err
