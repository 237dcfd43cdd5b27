"""The measured cases: what each does, and what is asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mmsim.agent import Strategy
from mmsim.bench import worker
from mmsim.bench.agents import Idle, PythonMaker, TouchMaker, simulation
from mmsim.bench.inputs import REAL, Input, Inputs
from mmsim.bench.stream import Level, long_file, many_flows
from mmsim.book.layout import CANCEL, LIMIT
from mmsim.book.many import Books
from mmsim.book.view import OrderBook, match
from mmsim.errors import BenchError
from mmsim.sim.session import Session

CALLS = 200_000  # requests of `match_call`
BOOKS = 256


@dataclass(frozen=True)
class Sample:
    """One timed run: seconds of wall clock (or the quantity itself), of CPU, and what came out."""

    value: float
    cpu: float
    check: dict[str, Any] = field(default_factory=dict)


class Peer(Protocol):
    """The simulator that we are compared with, running in a process of its own."""

    name: str

    def replay(self, source: Input, what: str) -> Sample:
        """Replay a whole feed with the strategy `what`."""

    def first_result(self, source: Input, rows: int) -> Sample:
        """Start another process and time it to its first result on `rows` rows."""

    def resident(self, source: Input) -> int:
        """Return the bytes that the rows of `source` and a run on them keep resident."""


@dataclass(frozen=True)
class Work:
    """One case, ready to run: what is counted, our side, and the peer's if it has one."""

    n: int
    ours: Callable[[], Sample]
    theirs: Callable[[Peer], Sample] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A named measurement and its targets.

    ``times_peer``: at least so many times the peer's rate. ``at_least`` and ``aim``: in `unit` per second, or in
    `unit` where ``direct``; then less is better and the figure is not a rate.
    """

    name: str
    what: str
    unit: str
    prepare: Callable[[Inputs], Work]
    times_peer: float | None = None
    at_least: float | None = None
    aim: float | None = None
    direct: bool = False
    once: bool = False  # one run without a warm-up: it takes long, or every run says the same
    listed: bool = True  # part of a run without --case
    most_bytes: int | None = None  # resident at most (``check["peak"]``)


def clocked(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what `run` returns, and its seconds of wall clock and of CPU."""
    cpu, wall = time.process_time(), time.perf_counter()
    out = run()
    return out, time.perf_counter() - wall, time.process_time() - cpu


def _replay(level: Level, agent: type[Strategy], what: str, market: str = "") -> Callable[[Inputs], Work]:
    def prepare(inputs: Inputs) -> Work:
        source = inputs.get(level, market)
        session = Session(source.data, simulation(source.delay_ns))
        (episode,) = source.data.splits["test"]

        def ours() -> Sample:
            maker = agent()
            result, wall, cpu = clocked(lambda: session.run(maker, episode))
            resting = int(np.count_nonzero(result.fills["maker"]))
            return Sample(wall, cpu, {"decisions": result.counters["decisions"], "fills": resting})

        def theirs(peer: Peer) -> Sample:
            return peer.replay(source, what)

        return Work(source.n, ours, theirs, {"own_rows": len(source.data.events)})

    return prepare


def _match_bulk(inputs: Inputs) -> Work:
    requests, counts = np.array(inputs.stream.requests), inputs.stream.counts

    def ours() -> Sample:
        fills, wall, cpu = clocked(lambda: match(requests).matches)
        _same("fills", len(fills), counts["fills"])
        _same("filled lots", int(fills["qty"].sum()), counts["fill_qty"])
        return Sample(wall, cpu, {"fills": len(fills)})

    return Work(len(requests), ours)


def _match_call(inputs: Inputs) -> Work:
    n = min(CALLS, len(inputs.stream.requests))
    rows = np.array(inputs.stream.requests[:n])
    # plain lists of numbers: a list of tuples would be the garbage collector's work, not the book's
    columns = [rows[name].tolist() for name in ("verb", "side", "px", "qty", "oid")]
    fills = len(match(rows).matches)

    def run() -> int:
        book = OrderBook()
        submit, market, cancel = book.submit, book.market, book.cancel
        done = 0
        for verb, side, px, qty, oid in zip(*columns, strict=True):
            if verb == CANCEL:
                cancel(oid)
            elif verb == LIMIT:
                done += len(submit(side, px, qty).matches)
            else:
                done += len(market(side, qty).matches)
        return done

    def ours() -> Sample:
        done, wall, cpu = clocked(run)
        _same("fills", done, fills)
        return Sample(wall, cpu, {"fills": done})

    return Work(n, ours)


def _match_many(most: int | None) -> Callable[[Inputs], Work]:
    def prepare(inputs: Inputs) -> Work:
        each = max(1000, inputs.rows // BOOKS)
        requests, fills = many_flows(BOOKS, each, inputs.seed)
        size = most or each
        calls = [np.ascontiguousarray(requests[:, at : at + size]) for at in range(0, each, size)]

        def run() -> int:
            books = Books(BOOKS)
            return sum(len(books.step(part).events) for part in calls)

        def ours() -> Sample:
            done, wall, cpu = clocked(run)
            _same("fills", done, fills)
            return Sample(wall, cpu, {"fills": done, "calls": len(calls)})

        return Work(BOOKS * each, ours)

    return prepare


def _same(what: str, was: int, expected: int) -> None:
    if was != expected:
        raise BenchError(f"expected {expected} {what} as in the stream's own book, was {was}")


def _first_result(inputs: Inputs) -> Work:
    rows = min(100_000, inputs.rows)
    source = inputs.get("L2")
    return Work(
        rows,
        lambda: Sample(*worker.timed_start(["first", *_files(source), str(rows)])),
        lambda peer: peer.first_result(source, rows),
    )


def _files(source: Input) -> list[str]:
    assert source.files is not None
    return [str(path) for path in source.files]


def _warm(inputs: Inputs) -> None:
    # a process that has to compile the kernels needs more memory than any run
    worker.ask(["first", *_files(Inputs(20_000, inputs.seed).get("L2")), "20000"])


def _bytes_per_row(inputs: Inputs) -> Work:
    source = inputs.get("L2")
    _warm(inputs)
    arguments = [*_files(source), str(source.n), str(source.data.px_min), str(source.data.px_max)]
    return Work(
        source.n,
        lambda: Sample(worker.ask(["memory", *arguments])["bytes"] / source.n, 0.0),
        lambda peer: Sample(peer.resident(source) / source.n, 0.0),
    )


def _stream(inputs: Inputs) -> Work:
    rows = inputs.long_rows
    _warm(inputs)

    def ours() -> Sample:
        with long_file(rows, inputs.seed, inputs.progress) as (path, low, high):
            answer = worker.ask(["replay", str(path), str(low), str(high)])
        return Sample(answer.pop("wall"), answer.pop("cpu"), answer)

    return Work(rows, ours)


CASES = (
    Case("l2_noop", "L2 replay, two views, a wake every 100 ms", "rows", _replay("L2", Idle, "noop"), 3, aim=65e6),
    Case("l2_maker", "L2, two quotes replaced every 100 ms", "rows", _replay("L2", TouchMaker, "maker"), 4, aim=50e6),
    Case("l3_noop", "L3 replay, two views, a wake every 100 ms", "rows", _replay("L3", Idle, "noop"), 10, aim=60e6),
    Case("l3_maker", "L3, two quotes replaced every 100 ms", "rows", _replay("L3", TouchMaker, "maker"), 6, aim=35e6),
    Case("match_bulk", "matching, requests in an array", "requests", _match_bulk, at_least=30e6, aim=60e6),
    Case("match_call", "matching, one Python call per request", "requests", _match_call, at_least=0.8e6, aim=1.5e6),
    Case("match_256", "256 books stepped in one call", "requests", _match_many(None), at_least=25e6, aim=60e6),
    Case("match_256@100", "the same, 100 requests per book in each call", "requests", _match_many(100)),
    Case(
        "python_agent", "l2_maker with a Python quote(); the peer's is compiled", "rows",
        _replay("L2", PythonMaker, "maker"), 1, aim=20e6,
    ),
    Case("first_result_s", "new process to its first result", "s", _first_result, None, 1.2, 0.6, direct=True),
    Case(
        "bytes_per_row", "resident bytes per row during a run", "bytes", _bytes_per_row, None, 32, 24, direct=True,
        once=True,
    ),
    Case(
        "stream", "replay of a long file from disk, two quotes replaced every 100 ms", "rows", _stream, once=True,
        listed=False, most_bytes=2**30,
    ),
    *(
        Case(
            f"{level.lower()}_{what}@{market}", f"the same on {market}, {level}", "rows",
            _replay(level, agent, what, market),
        )
        for market, level in REAL.items()
        for what, agent in (("noop", Idle), ("maker", TouchMaker))
    ),
)  # fmt: skip
