"""What own fills took: none (the tape goes on as it was) and consume (the liquidity ledger)."""

from __future__ import annotations

import pytest

from mmsim.agent import Quotes
from mmsim.testing.scripted import ASK, BID, bid, l2, l3, play, summary
from mmsim.types import EventKind

K = EventKind
NONE = Quotes.none()


@pytest.mark.parametrize(("impact", "px"), [("none", 102), ("consume", 103)])
def test_lots_taken_are_there_again_only_without_impact(impact: str, px: int) -> None:
    rows = l3((0.05, K.ADD, ASK, 103, 5, 2), (5, K.REDUCE, BID, 100, 1, 0))
    result, _ = play(rows, Quotes(take=10), Quotes(take=5), NONE, max_order_units=20, impact=impact)
    assert summary(result)[:2] == [(1, 102, 10, "TAKE"), (1, px, 5, "TAKE")]


def test_what_was_taken_stays_taken_while_the_level_stands() -> None:
    # 6 of 10 taken. The level is published as 5: at most those 5 are ours to be gone, none is left.
    # It grows to 8: the 3 that came are there. It empties and comes back: all of it is new.
    rows = l2(
        (0.5, K.LEVEL, ASK, 102, 5), (1, K.LEVEL, ASK, 102, 8), (1.5, K.LEVEL, ASK, 102, 0),
        (1.5, K.LEVEL, ASK, 102, 7), (5, K.LEVEL, BID, 100, 9),
    )  # fmt: skip
    plan = (Quotes(take=6), Quotes(take=1), Quotes(take=5), Quotes(take=7), NONE)
    result, _ = play(rows, *plan, level="L2", impact="consume", max_order_units=20, end=3)
    takes = [f for f in summary(result) if f[3] == "TAKE"]
    assert takes == [(1, 102, 6, "TAKE"), (1, 102, 3, "TAKE"), (1, 102, 7, "TAKE")]


def test_a_level_that_was_taken_whole_does_not_reject_a_post_only_order() -> None:
    rows = l3((5, K.REDUCE, BID, 100, 1, 0))
    plan = (Quotes(take=10), bid(102), NONE)
    gone, _ = play(rows, *plan, impact="consume")
    there, _ = play(rows, *plan, impact="none")
    assert (gone.counters["post_only_rejects"], there.counters["post_only_rejects"]) == (0, 1)


def test_a_crossing_level_fills_at_most_what_it_holds_under_consume() -> None:
    # 2 lots at our price; the same 2 published again; then 6, of which 2 are gone.
    rows = l2((0.7, K.LEVEL, ASK, 101, 2), (0.8, K.LEVEL, ASK, 101, 2), (0.9, K.LEVEL, ASK, 101, 6))
    result, _ = play(rows, bid(101, 5), level="L2", end=1.0, impact="consume")
    assert summary(result)[:2] == [(1, 101, 2, "CROSS"), (1, 101, 3, "CROSS")]
    result, _ = play(rows, bid(101, 5), level="L2", end=1.0)
    assert summary(result)[0] == (1, 101, 5, "CROSS")


@pytest.mark.parametrize(("impact", "ahead"), [("none", 6), ("consume", 9)])
def test_lots_that_a_trade_spared_because_it_hit_us_still_stand(impact: str, ahead: int) -> None:
    # 4 are sold down to 100, 3 of them to our bid at 101: one lot at 100 traded, not four.
    rows = l3((1, K.EXECUTE, BID, 100, 4, 0))
    quotes = Quotes(((101, 3), (100, 1)))
    resting, agent = play(rows, quotes, quotes, Quotes(((100, 1),)), impact=impact, end=2)
    assert summary(resting)[0] == (1, 101, 3, "THROUGH")
    assert agent.seen[-1][1] == [ahead]
    _, newcomer = play(rows, bid(101, 3), bid(101, 3), bid(100), impact=impact, end=2)
    assert newcomer.seen[-1][1] == [ahead]


def test_closing_walks_what_is_left_under_consume() -> None:
    rows = l3((0.05, K.ADD, BID, 99, 10, 2))
    plan = (Quotes(take=-4), Quotes(take=8), NONE)
    result, _ = play(rows, *plan, end=3, impact="consume")
    assert summary(result) == [(-1, 100, 4, "TAKE"), (1, 102, 8, "TAKE"), (-1, 100, 4, "CLOSE")]
    plan = (Quotes(take=-8), Quotes(take=10), Quotes(take=2), NONE)
    rows = l3((0.05, K.ADD, BID, 99, 10, 2), (0.05, K.ADD, ASK, 103, 10, 3))
    result, _ = play(rows, *plan, end=3, impact="consume")
    assert summary(result)[-2:] == [(-1, 100, 2, "CLOSE"), (-1, 99, 2, "CLOSE")]
