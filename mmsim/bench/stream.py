"""The seeded benchmark stream: one random order flow through one naive book, written down three times.

``requests``  what an exchange receives: limit orders (some cross), cancels, market orders
``l3``        what a market-by-order feed tells of it, order ids renumbered to recycled slots
``l2``        what a market-by-price feed tells of it: trades and level totals

so that every engine meets the same market. 54 % of the requests are limit orders (3 % of them cross),
39 % cancels, 7 % market orders; about 3,300 orders rest on 280 levels around a spread of 1.04 ticks, and
requests come in bursts, 550 per second on average. Beside each feed lies a receive time, 2 ms later in the
median and log-normal.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mmsim.bench import flow_kernel as k
from mmsim.book.layout import REQUEST
from mmsim.errors import BenchError, ConfigError
from mmsim.files import replacing
from mmsim.paths import cache_home
from mmsim.types import EVENT, Episode, EventKind, Instrument, MarketData, Segment

VERSION = 2  # raise it when the same seed gives another stream
# of the cached files: the version, and the layouts of their records
KEY = f"v{VERSION}-{zlib.crc32(repr((REQUEST.descr, EVENT.descr)).encode()):08x}"
START_TS = 1_700_000_000_000_000_000  # ns since the epoch
DECISION_NS = 100_000_000
FEED_LATENCY_NS, FEED_LATENCY_SIGMA = 2e6, 0.35  # median, and standard deviation of the logarithm
_TABLE = 1 << 16  # entries of a quantile table
_CHUNK = 1 << 18  # requests per kernel call
_COUNTED = (
    "ids", "fills", "fill_qty", "adds", "cancels", "markets", "crossing_adds", "live_orders", "sum_live", "sum_spread",
)  # fmt: skip
_ARRAYS = ("requests", "l3", "l3_recv", "l2", "l2_recv")
Level = Literal["L2", "L3"]


@dataclass(frozen=True)
class Stream:
    """One generated stream; arrays are memory-mapped and read-only.

    ``requests["oid"]`` numbers limit and market orders from 1 in order of arrival and comes again at their
    cancel; ``l3["oid"]`` are recycled slots. ``counts`` holds sizes and what the naive book
    saw: fills, filled lots, best prices, live orders at the end, ...
    """

    requests: npt.NDArray[np.void]  # (n,) REQUEST
    l3: npt.NDArray[np.void]  # EVENT
    l3_recv: npt.NDArray[np.int64]
    l2: npt.NDArray[np.void]  # EVENT
    l2_recv: npt.NDArray[np.int64]
    counts: dict[str, int]
    folder: Path


class Flow:
    """The order flow, chunk by chunk.

    Parameters
    ----------
    seed : int
        Same seed, same flow, whatever the chunks.
    chunk : int
        Requests per chunk, at most.
    live : int
        Orders that rest at once, about.
    """

    def __init__(self, seed: int, chunk: int = _CHUNK, live: int = k.LIVE) -> None:
        if seed < 0 or chunk < 1 or not 100 <= live <= k.MAX_LIVE // 4:
            raise ConfigError(
                f"expected a seed of 0 or more, a positive chunk and 100 to {k.MAX_LIVE // 4} orders, was {seed}, "
                f"{chunk}, {live}"
            )
        self._gaps, self._sizes = _tables()
        # splitmix64's increment: seeds that differ by one give unrelated states, and none is zero
        self._rng = np.array([(0x9E3779B97F4A7C15 * (seed + 1)) % 2**64 or 1], np.uint64)
        self._state = np.zeros(1, k.STATE)[0]
        self._state["ts"], self._state["warm"], self._state["aim"] = START_TS, live, live
        self._state["best"], self._state["free"] = (-1, k.WIDTH), k.MAX_LIVE
        self._orders = np.zeros(k.MAX_LIVE + 1, k.ORDER)
        self._levels = np.zeros((2, k.WIDTH), k.LEVEL)
        self._pool = np.zeros((2, k.MAX_LIVE + 1), np.int64)
        self._pool[1, :-1] = np.arange(k.MAX_LIVE, 0, -1)
        self.requests = np.zeros(chunk, REQUEST)
        self.l3 = np.zeros(int(chunk * 1.3) + 2 * k.MARGIN, EVENT)
        self.l2 = np.zeros(int(chunk * 1.5) + 2 * k.MARGIN, EVENT)

    def advance(self, n: int) -> tuple[int, int, int]:
        """Fill the buffers with up to `n` requests and their feeds; return the rows of each."""
        k.flow(
            self._gaps, self._sizes, self._rng, self._state, self._orders, self._levels, self._pool, self.requests,
            self.l3, self.l2, min(n, len(self.requests)),
        )  # fmt: skip
        state = self._state
        return int(state["requests"]), int(state["l3_rows"]), int(state["l2_rows"])

    @property
    def counts(self) -> dict[str, int]:
        """What the naive book saw so far."""
        state, qty = self._state, self._levels["qty"]
        out = {name: int(state[name]) for name in _COUNTED}
        out["best_bid"], out["best_ask"] = state["best"].tolist()
        out["resting_qty"], out["nonempty_levels"] = int(qty.sum()), int(np.count_nonzero(qty))
        return out


@cache
def _tables() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    # quantiles of an exponential, and of the lots of limit and of market orders
    middle = (np.arange(_TABLE) + 0.5) / _TABLE
    normal = NormalDist()
    z = np.array([normal.inv_cdf(q) for q in middle])
    sizes = np.maximum(1, np.exp(np.array([1.0 + z, 1.3 + 1.2 * z]))).astype(np.int64)
    return -np.log1p(-middle), sizes


def receive_times(ts: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return a receive time for each exchange time, in the same order, ns."""
    rng = np.random.default_rng(seed)
    delay = FEED_LATENCY_NS * np.exp(FEED_LATENCY_SIGMA * rng.standard_normal(len(ts)))
    received: npt.NDArray[np.int64] = np.maximum.accumulate(ts + delay.astype(np.int64))
    return received


def make(
    n: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, int]]:
    """Generate the arrays of a stream of `n` requests and what the naive book saw."""
    flow = Flow(seed)
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ("requests", "l3", "l2")}
    done = 0
    while done < n:
        rows, n3, n2 = flow.advance(n - done)
        done += rows
        for name, count in (("requests", rows), ("l3", n3), ("l2", n2)):
            parts[name].append(getattr(flow, name)[:count].copy())
        if progress is not None:
            progress(done, n)
    out: dict[str, npt.NDArray[Any]] = {name: _joined(chunks) for name, chunks in parts.items()}
    for index, name in enumerate(("l3", "l2")):
        # rows of one message arrive together or later, never earlier
        out[f"{name}_recv"] = receive_times(out[name]["ts"].astype(np.int64), 2 * seed + index)
    return out, flow.counts


def _joined(chunks: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    # np.concatenate alone would take the padding out of a record
    whole = np.empty(sum(map(len, chunks)), chunks[0].dtype)
    return np.concatenate(chunks, out=whole)


def stream(n: int = 5_000_000, seed: int = 7, progress: Callable[[int, int], None] | None = None) -> Stream:
    """Return the stream of `n` requests, from the cache or generated and put there.

    Raises
    ------
    ConfigError
        If `n` is not positive.
    """
    if n < 1:
        raise ConfigError(f"expected at least one request, was {n}")
    folder = cache_home() / "bench" / f"stream-{KEY}-{seed}-{n}"
    if not (folder / "counts.json").is_file():
        arrays, counts = make(n, seed, progress)
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=folder.name + ".part-"))
        try:
            for name, array in arrays.items():
                np.save(aside / f"{name}.npy", array)
            (aside / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
            _put(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    loaded = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    return Stream(
        **loaded, counts=json.loads((folder / "counts.json").read_text(encoding="utf-8")), folder=folder
    )


def many_flows(n_books: int, n: int, seed: int = 7) -> tuple[npt.NDArray[np.void], int]:
    """Return `n` requests for each of `n_books` small books (200 orders), ``(n_books, n)`` REQUEST, and their fills.

    From the cache or generated and put there.
    """
    path = cache_home() / "bench" / f"books-{KEY}-{seed}-{n_books}-{n}.npz"
    if not path.is_file():
        requests = np.zeros((n_books, n), REQUEST)
        fills = 0
        for b in range(n_books):
            flow = Flow(seed * 1_000_003 + b, n, live=200)
            flow.advance(n)
            requests[b] = flow.requests
            fills += flow.counts["fills"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as out:
            np.savez(out, requests=requests, fills=fills)
    with np.load(path) as kept:
        return kept["requests"], int(kept["fills"])


def _put(aside: Path, folder: Path) -> None:
    try:
        os.replace(aside, folder)
    except OSError:
        if not (folder / "counts.json").is_file():  # another process was first: its files are the same
            raise


def market(data: Stream, level: Level, rows: int | None = None) -> MarketData:
    """Return one feed of the stream as a market of one segment, cut after the message of row `rows`."""
    events = data.l3 if level == "L3" else data.l2
    recv = data.l3_recv if level == "L3" else data.l2_recv
    if rows is not None and rows < len(events):
        last = np.flatnonzero(events["flags"][rows - 1 : rows + k.MARGIN])
        rows = rows + int(last[0])
        events, recv = events[:rows], recv[:rows]
    return wrap(f"stream-{level}", events, level, recv)


def wrap(
    name: str,
    events: npt.NDArray[np.void],
    level: Level,
    recv: npt.NDArray[np.int64] | None,
    px_range: tuple[int, int] | None = None,
) -> MarketData:
    """Return `events` as a market of one segment and one episode, which holds everything after 100 ms.

    `px_range`, the lowest and highest price, saves reading them all.
    """
    low, high = px_range or (int(events["px"].min()), int(events["px"].max()))
    start, end = int(events["ts"][0]) + DECISION_NS, int(events["ts"][-1]) + 1
    episodes = (Episode(0, start, end),)
    return MarketData(
        name=name,
        instrument=Instrument(name=name.upper(), tick_size=Decimal("0.1"), currency="XXX", timezone="UTC"),
        events=events,
        segments=(Segment(0, len(events)),),
        splits={"train": episodes, "validation": episodes, "test": episodes},
        level=level,
        n_slots=int(events["oid"].max()) + 1 if level == "L3" else 0,
        px_min=low,
        px_max=high,
        decision_ns=DECISION_NS,
        simulated=True,
        recv_ts=recv,
        max_inventory_units=10**9,
    )


def published_rows(events: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Return how many rows an exchange publishes up to and with each row of an L3 EVENT array, ``(n,)``.

    An execution is three rows of the published feed (trade, fill, then cancel or modify), anything else one.
    """
    rows: npt.NDArray[np.int64] = np.cumsum(np.where(events["kind"] == EventKind.EXECUTE, 3, 1))
    return rows


@contextmanager
def long_file(
    rows: int, seed: int = 7, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Path, int, int]]:
    """Write `rows` L2 EVENT rows of one long flow to a file; yield it, the lowest and the highest price.

    It is written chunk by chunk, and deleted at the end.

    Raises
    ------
    BenchError
        If the disk has no room for it.
    """
    folder = cache_home() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    free, need = shutil.disk_usage(folder).free, rows * EVENT.itemsize
    if free < need + (1 << 28):
        raise BenchError(
            f"expected {need / 2**30:.1f} GiB free in {folder}, was {free / 2**30:.1f} GiB: fewer --rows, or another "
            "MMSIM_CACHE_HOME"
        )
    flow = Flow(seed)
    low, high, done = k.WIDTH, 0, 0
    with tempfile.NamedTemporaryFile(dir=folder, prefix="long-", suffix=".npy") as out:
        header = {"descr": np.lib.format.dtype_to_descr(EVENT), "fortran_order": False, "shape": (rows,)}
        np.lib.format.write_array_header_2_0(out, header)
        while done < rows:
            _, _, n = flow.advance(len(flow.requests))
            part = flow.l2[: min(n, rows - done)]
            low, high = min(low, int(part["px"].min())), max(high, int(part["px"].max()))
            out.write(part.tobytes())
            done += len(part)
            if progress is not None:
                progress(done, rows)
        out.flush()
        yield Path(out.name), low, high
