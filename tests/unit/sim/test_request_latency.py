"""Messages on their way: latencies a kind, who may overtake whom, too late, and the ends of the episode."""

from __future__ import annotations

from pathlib import Path

from mmsim.agent import Quotes
from mmsim.testing.markets import SECOND
from mmsim.testing.scripted import BID, at, bid, l3, play, summary
from mmsim.types import EventKind

K = EventKind
NONE = Quotes.none()
HALF = SECOND // 2


def recorded(folder: Path, *rows: tuple[float, float, float]) -> str:
    """Write recorded latencies: (seconds, order latency, response latency), seconds."""
    lines = [f"{at(t)},{round(order * SECOND)},{round(ack * SECOND)}" for t, order, ack in rows]
    path = folder / "wire.csv"
    path.write_text("\n".join(["ts_ns,order_ns,ack_ns", *lines, ""]), encoding="utf-8")
    return str(path)


def live(agent_seen: list[tuple[object, list[int]]], step: int) -> list[int]:
    return [int(x) for x in agent_seen[step][0].orders["live"]]  # type: ignore[attr-defined]


def test_each_kind_of_request_has_its_own_latency() -> None:
    # cancelled at 0.6 s; the cancel takes 0.3 s, and the trade at 0.8 s comes first
    rows = l3((0.8, K.EXECUTE, BID, 100, 1, 0))
    result, _ = play(rows, bid(101), NONE, latency={"cancel": 300_000_000}, end=2)
    assert summary(result)[0] == (1, 101, 1, "THROUGH")
    result, _ = play(rows, bid(101), NONE, latency={"cancel": 199_999_999}, end=2)
    assert summary(result) == []
    # reduced at 0.6 s from 3 to 1
    rows = l3((0.8, K.EXECUTE, BID, 100, 5, 0))
    for latency, left in ((300_000_000, 3), (100_000_000, 1)):
        result, _ = play(rows, bid(101, 3), bid(101, 1), latency={"reduce": latency}, end=0.9)
        assert summary(result)[0] == (1, 101, left, "THROUGH")


def test_a_cancel_that_comes_too_late_changes_nothing() -> None:
    rows = l3((0.8, K.EXECUTE, BID, 100, 1, 0))
    result, agent = play(rows, bid(101), NONE, latency={"cancel": 300_000_000}, end=2)
    assert result.counters["too_late"] == 1
    assert result.counters["cancels"] == 1
    assert agent.seen[-1][0].inventory == 1


def test_requests_of_one_kind_never_overtake_each_other(tmp_path: Path) -> None:
    # the order sent at 0.1 s takes a second; the one sent at 0.6 s only 0.1 s, but waits for the first
    wire = recorded(tmp_path, (0.1, 1.0, 0.0), (0.6, 0.1, 0.0))
    both = Quotes(((99, 1), (98, 1)))
    _, agent = play(l3(), bid(99), both, latency={"file": wire}, end=3)
    assert live(agent.seen, 1) == [0]
    assert live(agent.seen, 2) == [1, 1]  # at 1.1 s both have arrived
    rows = l3((1.05, K.ADD, BID, 98, 1, 2), (1.1, K.ADD, BID, 98, 1, 3))
    _, agent = play(rows, bid(99), both, latency={"file": wire}, end=3)
    assert agent.seen[-1][1] == [0, 2]  # at 1.1 s, after both orders of the market at that price


def test_requests_of_different_kinds_may_overtake() -> None:
    result, agent = play(
        l3(), Quotes(((99, 1),), (), True, 2), bid(99), latency={"order": SECOND, "market": 0}, end=3
    )
    assert summary(result)[0] == (1, 102, 2, "TAKE")
    assert int(result.fills["ts"][0]) == at(0.1)
    assert live(agent.seen, 1) == [0]
    assert live(agent.seen, 2) == [1]


def test_no_request_overtakes_an_earlier_one_for_its_own_order() -> None:
    # sent at 0.6 s without latency, for an order that arrives at 1.1 s: the cancel follows it there
    rows = l3((1.1, K.EXECUTE, BID, 100, 1, 0), (1.2, K.EXECUTE, BID, 100, 1, 0))
    result, _ = play(rows, bid(101), NONE, latency={"order": SECOND, "cancel": 0}, end=3)
    assert summary(result) == []
    assert (result.counters["orders"], result.counters["cancels"], result.counters["too_late"]) == (1, 1, 0)


def test_cancels_leave_before_new_orders_so_that_a_full_size_quote_can_move() -> None:
    result, agent = play(l3(), bid(100, 20), bid(99, 20), max_order_units=20, end=3)
    assert result.counters["limit_rejects"] == 0
    assert int(agent.seen[-1][0].orders["px"][0]) == 99


def test_a_cancel_slower_than_the_new_order_costs_the_new_order() -> None:
    slow = {"latency": {"cancel": 100_000_000}, "max_order_units": 20}
    result, _ = play(l3(), bid(100, 20), bid(99, 20), NONE, end=1.05, **slow)
    assert result.counters["limit_rejects"] == 1


def test_responses_are_one_channel(tmp_path: Path) -> None:
    # the fill at 0.3 s is told after two seconds; the one at 0.7 s would be there at 0.8 s, but waits
    wire = recorded(tmp_path, (0.1, 0.0, 0.0), (0.25, 0.0, 2.0), (0.35, 0.0, 2.0), (0.65, 0.0, 0.1))
    rows = l3((0.3, K.EXECUTE, BID, 100, 1, 0), (0.7, K.EXECUTE, BID, 100, 1, 0))
    _, agent = play(rows, bid(101, 2), bid(101, 2), NONE, latency={"file": wire}, end=4)
    known = {obs.ts: obs.inventory for obs, _ in agent.seen}
    assert [known[at(t)] for t in (0.6, 1.1, 1.6, 2.1, 2.6)] == [0, 0, 0, 0, 2]


def test_a_reduction_meets_what_a_fill_on_its_way_to_us_has_left() -> None:
    # 5 bid, 3 filled at 0.5 s, not yet known at 0.6 s: to 4 takes one off the two left, to 1 takes them all
    rows = l3((0.5, K.EXECUTE, BID, 100, 3, 0), (1, K.EXECUTE, BID, 100, 7, 0))
    for want, rest in ((4, 1), (1, 0)):
        result, _ = play(rows, bid(101, 5), bid(101, want), latency={"ack": SECOND}, end=1.05)
        got = [qty for side, _, qty, why in summary(result) if why == "THROUGH"]
        assert got == [3, rest][: 1 + (rest > 0)]
        assert result.counters["reduces"] == 1


def test_requests_on_their_way_at_the_end_never_arrive() -> None:
    result, _ = play(l3(), NONE, NONE, NONE, Quotes(take=3), latency={"market": HALF}, end=2)
    assert summary(result) == []
    assert result.counters["orders"] == 0


def test_the_end_of_the_episode_is_not_part_of_it() -> None:
    for ts, filled in ((1.999, [(1, 101, 1, "THROUGH"), (-1, 100, 1, "CLOSE")]), (2, [])):
        result, _ = play(l3((ts, K.EXECUTE, BID, 100, 1, 0)), bid(101), end=2)
        assert summary(result) == filled


def test_orders_still_resting_at_the_end_expire_without_a_fill() -> None:
    result, _ = play(l3((2.5, K.EXECUTE, BID, 100, 5, 0)), bid(101), end=2)
    assert summary(result) == []
    assert result.counters["cancels"] == 0
