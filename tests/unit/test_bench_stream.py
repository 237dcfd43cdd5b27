"""The benchmark stream: its statistics, its feeds against a naive book, and its cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmsim.bench import flow_kernel as k
from mmsim.bench import stream as s
from mmsim.bench.checkout import peer_module
from mmsim.book.layout import CANCEL, LIMIT
from mmsim.book.naive_book import NaiveBook
from mmsim.book.view import match
from mmsim.errors import BenchError, ConfigError
from mmsim.types import EVENT, EventFlag, EventKind

N = 300_000
peer = peer_module()
published = peer.published

# Of the published reference stream (seed 7, 5 million requests), a request each.
REFERENCE = {
    "adds": 0.5421,
    "cancels": 0.3876,
    "markets": 0.0703,
    "crossing_adds": 0.01629,
    "fills": 0.2029,
    "fill_qty": 0.5676,
    "l2_rows": 1.2070,
    "l3_rows": 1.5223,
    "live_orders": 3289,  # mean
    "spread_ticks": 1.040,  # mean; 1.302 with the first forty orders, which meet no other side
    "levels": 276,
    "ns": 1_825_549,
}


@pytest.fixture(scope="module")
def stream(isolated_cache: Path) -> s.Stream:
    return s.stream(N)


def test_statistics_are_those_of_the_reference_stream(stream: s.Stream) -> None:
    n, c = len(stream.requests), stream.counts
    assert n == N == c["adds"] + c["cancels"] + c["markets"]
    for name in ("adds", "cancels", "markets", "fills", "fill_qty"):
        assert c[name] / n == pytest.approx(REFERENCE[name], rel=0.05), name
    assert c["crossing_adds"] / n == pytest.approx(REFERENCE["crossing_adds"], rel=0.08)
    assert len(stream.l2) / n == pytest.approx(REFERENCE["l2_rows"], rel=0.03)
    assert len(published(stream.l3)) / n == pytest.approx(REFERENCE["l3_rows"], rel=0.03)
    assert c["sum_live"] / (n - k.LIVE) == pytest.approx(REFERENCE["live_orders"], rel=0.05)
    assert c["sum_spread"] / (n - k.LIVE) == pytest.approx(REFERENCE["spread_ticks"], rel=0.02)
    assert c["nonempty_levels"] == pytest.approx(REFERENCE["levels"], rel=0.2)
    span = int(stream.l2["ts"][-1] - stream.l2["ts"][0])
    assert span / n == pytest.approx(REFERENCE["ns"], rel=0.05)


def test_receive_times_follow_the_feed(stream: s.Stream) -> None:
    for ts, recv in ((stream.l2["ts"], stream.l2_recv), (stream.l3["ts"], stream.l3_recv)):
        delay = recv - ts
        assert len(recv) == len(ts)
        assert np.all(np.diff(recv) >= 0)
        assert delay.min() > 0
        assert np.median(delay) == pytest.approx(2.3e6, rel=0.15)  # bursts wait for the slowest before them


def test_feeds_agree_with_a_naive_book_and_with_each_other() -> None:
    arrays, counts = s.make(30_000, 3)
    l3, l2 = arrays["l3"], arrays["l2"]
    queues: dict[tuple[int, int], list[list[int]]] = {}  # (side, px) -> [[slot, qty], ...] oldest first
    totals: dict[tuple[int, int], int] = {}
    executed: list[tuple[int, int, int]] = []
    printed: list[tuple[int, int, int]] = []
    live: set[int] = set()
    at = 0
    for row in l3.tolist():
        ts, px, qty, oid, kind, side, flags = row
        queue = queues.setdefault((side, px), [])
        if kind == EventKind.ADD:
            assert oid not in live
            live.add(oid)
            queue.append([oid, qty])
        elif kind == EventKind.EXECUTE:
            assert queue[0][0] == oid  # first in, first out
            assert px == (max if side > 0 else min)(p for (sd, p), q in queues.items() if q and sd == side)
            queue[0][1] -= qty
            executed.append((px, qty, -side))
            if queue[0][1] == 0:
                queue.pop(0)
                live.remove(oid)
        else:
            assert kind == EventKind.DELETE
            queue.remove([oid, qty])
            live.remove(oid)
        if not queue:
            del queues[side, px]
        if not flags & EventFlag.LAST:
            continue
        while True:  # the same message on the other feed
            ts2, px, qty, _, kind, side, flags = l2[at].tolist()
            assert ts2 == ts
            at += 1
            if kind == EventKind.TRADE:
                printed.append((px, qty, side))
            elif qty:
                totals[side, px] = qty
            else:
                totals.pop((side, px), None)
            if flags & EventFlag.LAST:
                break
        if at % 50 == 0:
            bids = [p for sd, p in queues if sd > 0]
            asks = [p for sd, p in queues if sd < 0]
            assert not bids or not asks or max(bids) < min(asks)
            assert totals == {key: sum(q for _, q in orders) for key, orders in queues.items()}
    assert at == len(l2)
    assert totals == {key: sum(q for _, q in orders) for key, orders in queues.items()}
    assert executed == printed
    assert len(executed) == counts["fills"]
    assert sum(totals.values()) == counts["resting_qty"]


def test_the_matching_engine_reproduces_the_feed(stream: s.Stream) -> None:
    result = match(np.array(stream.requests))
    hits = stream.l3[stream.l3["kind"] == EventKind.EXECUTE]
    assert result.matches["px"].tolist() == hits["px"].tolist()
    assert result.matches["qty"].tolist() == hits["qty"].tolist()
    assert not result.statuses.any()
    assert len(result.matches) == stream.counts["fills"]


def test_makers_are_those_of_the_reference_book(stream: s.Stream) -> None:
    requests = np.array(stream.requests[:12_000])
    book = NaiveBook()
    matches = []
    for row in requests.tolist():
        oid, px, qty, verb, side = (
            row[requests.dtype.names.index(n)] for n in ("oid", "px", "qty", "verb", "side")
        )
        if verb == CANCEL:
            assert book.cancel(oid) == qty
            continue
        report = book.submit(side, px, qty) if verb == LIMIT else book.market(side, qty)
        assert report.order_id == oid  # numbered from 1 in order of arrival
        matches += report.matches
    fast = match(requests).matches
    assert [(m.maker_id, m.taker_id, m.px, m.qty) for m in matches] == [
        tuple(int(m[n]) for n in ("maker", "taker", "px", "qty")) for m in fast
    ]
    assert len(matches) > 500


def test_the_flow_does_not_depend_on_its_chunks() -> None:
    whole, counts = s.make(20_000, 5)
    flow = s.Flow(5, chunk=777)
    parts = []
    done = 0
    while done < 20_000:
        rows, n3, _ = flow.advance(20_000 - done)
        parts.append(flow.l3[:n3].copy())
        done += rows
    assert np.concatenate(parts).tobytes() == whole["l3"].tobytes()
    assert flow.counts == counts
    other, _ = s.make(20_000, 6)
    assert other["l3"].tobytes() != whole["l3"].tobytes()


def test_a_stream_is_generated_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = s.stream(5_000, 1)
    assert first.folder.is_relative_to(empty_cache)
    monkeypatch.setattr(s, "make", None)
    again = s.stream(5_000, 1)
    assert again.l2.tobytes() == first.l2.tobytes()
    assert again.counts == first.counts
    assert [p.name for p in first.folder.parent.iterdir()] == [
        first.folder.name
    ]  # nothing half-written stays


def test_a_market_ends_with_a_whole_message(stream: s.Stream) -> None:
    crossing = int(np.flatnonzero(~(stream.l3["flags"] & EventFlag.LAST).astype(bool))[0])
    data = s.market(stream, "L3", crossing + 1)
    assert data.events["flags"][-1] & EventFlag.LAST
    assert crossing + 1 < len(data.events) <= crossing + k.MARGIN
    assert data.recv_ts is not None
    assert len(data.recv_ts) == len(data.events)
    assert data.n_slots == int(data.events["oid"].max()) + 1


ADD, REDUCE, DELETE, EXECUTE, TRADE, HIDE, CLEAR = 1, 2, 3, 4, 5, 7, 8


def test_published_rows_are_counted_as_they_are_written(stream: s.Stream) -> None:
    rows = published(stream.l3)["row"]
    counted = s.published_rows(stream.l3)
    assert counted[-1] == len(rows)
    assert np.array_equal(np.searchsorted(rows, np.arange(len(counted)), side="right"), counted)


def test_published_rows_of_every_kind() -> None:
    events = np.array(
        [
            (1, 100, 5, 0, ADD, 1, 1),
            (2, 100, 2, 0, REDUCE, 1, 1),
            (3, 100, 1, 0, EXECUTE, 1, 1),
            (4, 100, 2, 0, EXECUTE, 1, 1),
            (5, 101, 4, 0, ADD, -1, 1),  # the slot again, another id
            (6, 99, 1, 0, TRADE, -1, 1),
            (7, 101, 4, 0, DELETE, -1, 1),
            (8, 100, 1, 0, ADD, 1, 1),
            (8, 100, 2, 1, ADD, 1, 1),
            (8, 98, 3, 2, ADD, 1, 1),
            (9, 100, 0, 0, HIDE, 1, 1),
            (10, 0, 0, 0, CLEAR, 0, 1),
        ],
        EVENT,
    )
    rows = [(*row[:6], row[7]) for row in published(events).tolist()]
    assert rows == [
        (1, 1, 100, 5, peer.FEED_ADD, 1, 0),
        (2, 1, 100, 3, peer.FEED_MODIFY, 1, 1),
        (3, 0, 100, 1, peer.FEED_TRADE, -1, 2),
        (3, 1, 100, 1, peer.FEED_FILL, 1, 2),
        (3, 1, 100, 2, peer.FEED_MODIFY, 1, 2),
        (4, 0, 100, 2, peer.FEED_TRADE, -1, 3),
        (4, 1, 100, 2, peer.FEED_FILL, 1, 3),
        (4, 1, 100, 2, peer.FEED_CANCEL, 1, 3),
        (5, 2, 101, 4, peer.FEED_ADD, -1, 4),
        (6, 0, 99, 1, peer.FEED_TRADE, -1, 5),
        (7, 2, 101, 4, peer.FEED_CANCEL, -1, 6),
        (8, 3, 100, 1, peer.FEED_ADD, 1, 7),
        (8, 4, 100, 2, peer.FEED_ADD, 1, 8),
        (8, 5, 98, 3, peer.FEED_ADD, 1, 9),
        (9, 3, 100, 1, peer.FEED_CANCEL, 1, 10),
        (9, 4, 100, 2, peer.FEED_CANCEL, 1, 10),
        (10, 5, 98, 3, peer.FEED_CANCEL, 1, 11),
    ]


def test_a_long_file_holds_the_flow_and_is_deleted(empty_cache: Path) -> None:
    flow = s.Flow(7)
    flow.advance(len(flow.requests))
    with s.long_file(50_000) as (path, low, high):
        rows = np.load(path, mmap_mode="r")
        assert rows.dtype == EVENT
        assert rows.tobytes() == flow.l2[:50_000].tobytes()
        assert (low, high) == (int(rows["px"].min()), int(rows["px"].max()))
        del rows
    assert not path.exists()


def test_impossible_sizes_are_errors(empty_cache: Path) -> None:
    with pytest.raises(ConfigError, match="at least one request, was 0"):
        s.stream(0)
    with pytest.raises(ConfigError, match="seed of 0 or more"):
        s.Flow(-1)
    with pytest.raises(BenchError, match="GiB free"), s.long_file(10**15):
        pass
