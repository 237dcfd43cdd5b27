"""What the cases run on: markets for mmsim, and the same rows as files for the peer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.bench.stream import DECISION_NS, Level, Stream, market, published, stream
from mmsim.errors import BenchError
from mmsim.paths import cache_home
from mmsim.types import Episode, MarketData, Segment

REAL: dict[str, Level] = {"amzn": "L3", "btcusdt": "L2"}  # real markets and their feeds
DELAY_NS = 1_000_000  # feed latency where a market has no receive times


@dataclass(frozen=True)
class Input:
    """One market as both engines see it.

    ``n`` counts rows as the feed publishes them, ``load`` is the peer's request to read them and ``delay_ns``
    the feed latency that stands for missing receive times.
    """

    data: MarketData
    n: int
    load: dict[str, Any]
    delay_ns: int = 0


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
            made = self._real(level, name) if name else self._generated(level)
            self._made[key] = replace(made, data=_in_memory(made.data))
        return self._made[key]

    def _generated(self, level: Level) -> Input:
        s = self.stream
        if level == "L2":
            data = market(s, "L2", self.rows)
            n = len(data.events)
            files = {"events": str(s.folder / "l2.npy"), "recv": str(s.folder / "l2_recv.npy")}
            return Input(data, n, {"do": "load", "level": "L2", "rows": n, **files})
        feed = published(s.l3[: self.rows + 4096])
        data = market(s, "L3", int(feed["row"][self.rows - 1]) + 1)
        feed = feed[: np.searchsorted(feed["row"], len(data.events))]
        events, recv = s.folder / "feed.npy", s.folder / "feed_recv.npy"
        if not events.is_file():
            # all rows that stand for one of ours are received together
            save(recv, s.l3_recv[feed["row"]])
            save(events, feed)
        load = {"do": "load", "level": "L3", "events": str(events), "recv": str(recv), "rows": len(feed)}
        return Input(data, len(feed), load)

    def _real(self, level: Level, name: str) -> Input:
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
        folder = cache_home() / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{whole.source_sha256[:16]}.npy"
        rows = published(events) if level == "L3" else events
        if not path.is_file():
            save(path, rows)
        request: dict[str, Any] = {"do": "load", "level": level, "events": str(path)}
        delay = 0
        if recv is None:
            delay = request["delay_ns"] = DELAY_NS
        else:
            save(path.with_suffix(".recv.npy"), recv[rows["row"]] if level == "L3" else recv)
            request["recv"] = str(path.with_suffix(".recv.npy"))
        # these feeds publish an execution as one message, as we hold it
        return Input(data, len(events), request, delay)


def _in_memory(data: MarketData) -> MarketData:
    # as the peer has them: pages of a mapped file are touched for the first time in every run
    recv = None if data.recv_ts is None else np.array(data.recv_ts)
    return replace(data, events=np.array(data.events), recv_ts=recv)


def save(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array so that nobody ever sees half of it."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            np.save(out, np.ascontiguousarray(array))
        os.replace(aside, path)
    finally:
        Path(aside).unlink(missing_ok=True)
