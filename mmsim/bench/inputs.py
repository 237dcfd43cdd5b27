"""What the cases run on: the generated stream and real days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmsim.bench.stream import DECISION_NS, Level, Stream, market, published_rows, stream
from mmsim.errors import BenchError
from mmsim.paths import cache_home
from mmsim.types import Episode, MarketData, Segment

REAL: dict[str, Level] = {"amzn": "L3", "btcusdt": "L2"}  # real markets and their feeds
DELAY_NS = 1_000_000  # feed latency where a market has no receive times


@dataclass(frozen=True)
class Input:
    """One market, as every engine gets it.

    ``n`` counts rows as the feed publishes them, and ``delay_ns`` is the feed latency that stands for missing receive
    times. ``files`` hold the events and receive times of a generated L2 feed; ``kept`` is where another engine's form
    of the rows may be kept, a name without its suffix.
    """

    data: MarketData
    n: int
    kept: Path
    delay_ns: int = 0
    files: tuple[Path, Path] | None = None


class Inputs:
    """Makes the inputs of one `mmsim bench`, each once.

    Parameters
    ----------
    rows : int
        Published rows of the generated feeds, and requests.
    seed : int
        Seed of the stream.
    progress : callable, optional
        Told ``(done, total)`` while the stream is generated.
    long_rows : int
        Rows of the file that is larger than memory.
    """

    def __init__(
        self,
        rows: int,
        seed: int = 7,
        progress: Callable[[int, int], None] | None = None,
        long_rows: int = 200_000_000,
    ) -> None:
        if rows < 10_000:
            raise BenchError(f"expected at least 10000 rows, was {rows}: the book is not built before")
        self.rows, self.seed, self.progress, self.long_rows = rows, seed, progress, long_rows
        self._stream: Stream | None = None
        self._made: dict[tuple[str, str], Input] = {}

    @property
    def stream(self) -> Stream:
        """The generated stream: as many requests as rows."""
        if self._stream is None:
            self._stream = stream(self.rows, self.seed, self.progress)
        return self._stream

    def get(self, level: Level, name: str = "") -> Input:
        """Return the generated feed of `level`, or real market `name`.

        Raises
        ------
        DataError
            If the real market's files are not there.
        """
        key = (level, name)
        if key not in self._made:
            made = self._real(name) if name else self._generated(level)
            self._made[key] = replace(made, data=_in_memory(made.data))
        return self._made[key]

    def _generated(self, level: Level) -> Input:
        s = self.stream
        if level == "L2":
            data = market(s, "L2", self.rows)
            return Input(
                data, len(data.events), s.folder / "l2", files=(s.folder / "l2.npy", s.folder / "l2_recv.npy")
            )
        last = int(np.searchsorted(published_rows(s.l3), self.rows))
        data = market(s, "L3", last + 1)
        return Input(data, int(published_rows(data.events)[-1]), s.folder / "published")

    def _real(self, name: str) -> Input:
        from mmsim.data import load as load_market

        whole = load_market(name, progress=False)
        part = max(whole.segments, key=lambda s: s.stop - s.start)
        events = whole.events[part.start : part.stop]
        recv = None if whole.recv_ts is None else whole.recv_ts[part.start : part.stop]
        episodes = (Episode(0, int(events["ts"][0]) + DECISION_NS, int(events["ts"][-1]) + 1),)
        data = replace(
            whole, events=events, segments=(Segment(0, len(events)),), splits={"test": episodes}, recv_ts=recv,
            decision_ns=DECISION_NS,
        )  # fmt: skip
        kept = cache_home() / "bench" / f"{name}-{whole.source_sha256[:16]}"
        # these feeds publish an execution as one message, as we hold it
        return Input(data, len(events), kept, DELAY_NS if recv is None else 0)


def _in_memory(data: MarketData) -> MarketData:
    # as the peer has them: pages of a mapped file are touched for the first time in every run
    recv = None if data.recv_ts is None else np.array(data.recv_ts)
    return replace(data, events=np.array(data.events), recv_ts=recv)
