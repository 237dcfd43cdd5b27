"""One regression test for every known defect of other simulators: each docstring names the peer and its issue.

The numbers in each test are computed by hand from the events; none comes from the engine.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from mmsim import metrics
from mmsim.agent import Observation, Quotes, Strategy
from mmsim.book.view import OrderBook
from mmsim.config import SimConfig
from mmsim.errors import DataError
from mmsim.metrics import EpisodeResult
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, FeedLevel, market_from, tiny_market
from mmsim.testing.scripted import (
    ASK,
    BID,
    LAST,
    Script,
    at,
    bid,
    l2,
    l3,
    play,
    scripted_market,
    summary,
)
from mmsim.types import EventKind, FeeSchedule, FillReason

K = EventKind
NONE = Quotes.none()
LEVELS: tuple[FeedLevel, ...] = ("L3", "L2", "snapshot")


def maker_fills(result: EpisodeResult) -> list[tuple[int, int, int, str]]:
    return [f for f in summary(result) if f[3] in {"QUEUE", "THROUGH", "CROSS"}]


# ---- partial fills ---------------------------------------------------------------------------------
@pytest.mark.parametrize("level", ["L3", "L2"])
def test_exact_fill_then_another_touch(level: FeedLevel) -> None:
    """hftbacktest #301, #273, #312: an order that a trade exhausts exactly stays and the next touch ends the run."""
    if level == "L2":
        rows = l2(
            (0.2, K.TRADE, ASK, 100, 11), (0.2, K.LEVEL, BID, 100, 0),
            (0.3, K.LEVEL, ASK, 100, 5), (0.4, K.TRADE, ASK, 100, 9), (0.5, K.TRADE, ASK, 98, 9),
        )  # fmt: skip
    else:
        rows = l3(
            (0.15, K.ADD, BID, 100, 5, 2), (0.2, K.EXECUTE, BID, 100, 10, 0), (0.2, K.EXECUTE, BID, 100, 1, 2),
            (0.3, K.ADD, ASK, 100, 5, 3), (0.4, K.EXECUTE, BID, 100, 4, 2),
        )  # fmt: skip
    result, _ = play(rows, bid(100, 1), level=level, end=0.55)
    assert maker_fills(result) == [(1, 100, 1, "QUEUE")]


def test_partial_fills_up_to_exactly_the_whole_order() -> None:
    """hftbacktest #301: the minimal case, one bid alone at its price, filled in parts that add up exactly."""
    rows = l2(
        (0.0, K.LEVEL, BID, 99, 7), (0.0, K.LEVEL, BID, 100, 0),
        (0.2, K.TRADE, ASK, 100, 1), (0.3, K.TRADE, ASK, 100, 2), (0.4, K.TRADE, ASK, 100, 2),
        (0.5, K.LEVEL, ASK, 100, 3), (0.55, K.TRADE, ASK, 100, 4),
    )  # fmt: skip
    result, _ = play(rows, bid(100, 5), level="L2", end=0.58)
    assert maker_fills(result) == [(1, 100, 1, "QUEUE"), (1, 100, 2, "QUEUE"), (1, 100, 2, "QUEUE")]
    assert len(set(result.fills["order_id"][:3].tolist())) == 1


def test_a_partial_fill_reaches_position_fees_and_balance_at_once() -> None:
    """hftbacktest #299, #316: partial fills never reach position and balance."""
    fees = FeeSchedule("rebate", maker_rate=Decimal("-0.001"), taker_per_lot=Decimal("0.5"))
    rows = l3((0.3, K.EXECUTE, BID, 100, 2, 0), (0.8, K.EXECUTE, BID, 100, 1, 0))
    data = scripted_market(rows, fees=fees, end=1.5)
    session, episode = Session(data, SimConfig(fees="rebate")), data.splits["test"][0]
    session.start(episode)
    books = []
    for left in (5, 3):
        obs = session.step(bid(101, left))
        assert obs is not None
        assert (obs.inventory, obs.cash) == (session.inventory, session.cash)
        books.append((session.inventory, session.cash, int(obs.orders["qty"][0])))
    assert books == [(2, -202, 3), (3, -303, 2)]
    assert session.step(NONE) is None
    result = session.result(Script(NONE), episode)
    assert result.steps["cash"].tolist() == [0, -202, -303]
    # 2 and 1 lots bought at 101 ticks of 0.01 with a rebate of a thousandth; 3 closed at 0.5 each
    assert metrics.fees_per_fill(result.fills, result.instrument, fees).tolist() == [-2020, -1010, 1_500_000]


# ---- the same liquidity twice, fills at a touch ----------------------------------------------------
@pytest.mark.parametrize("level", LEVELS)
def test_one_trade_fills_no_more_than_its_quantity(level: FeedLevel) -> None:
    """nautilus_trader #286, #2194: several orders are filled by the same quantity of one trade."""
    quotes = Quotes(((101, 2), (100, 5), (99, 3)))
    rows = l3((0.05, K.ADD, BID, 98, 9, 2), (0.3, K.EXECUTE, BID, 98, 4, 2)) if level == "L3" else (
        l2((0.05, K.LEVEL, BID, 98, 9), (0.3, K.TRADE, ASK, 98, 4)))  # fmt: skip
    result, _ = play(rows, quotes, level=level, end=0.5)
    assert maker_fills(result) == [(1, 101, 2, "THROUGH"), (1, 100, 2, "THROUGH")]


def test_two_own_orders_at_one_price_share_a_trade_oldest_first() -> None:
    """nautilus_trader #2564, #2592: the same liquidity fills two orders at the same price."""
    # larger: cancel and new, and the cancel is slow: both rest at 100 from 0.6 s to 1.6 s
    rows = l2((1, K.TRADE, ASK, 100, 11), (1.2, K.TRADE, ASK, 100, 1))
    result, _ = play(rows, bid(100, 1), bid(100, 2), level="L2", latency={"cancel": SECOND}, end=1.3)
    assert maker_fills(result) == [(1, 100, 1, "QUEUE"), (1, 100, 1, "QUEUE")]
    first, second = (int(x) for x in result.fills["order_id"][:2])
    assert first < second
    assert result.fills["ts"][:2].tolist() == [at(1), at(1.2)]


def test_what_was_taken_cannot_be_taken_again_under_consume() -> None:
    """nautilus_trader #3943, hftbacktest #279: the book is replenished after every own fill."""
    rows = l3((0.05, K.ADD, ASK, 104, 3, 2), (1.9, K.REDUCE, BID, 100, 1, 0))
    plan = (Quotes(take=6), Quotes(take=6), Quotes(take=6), NONE)
    result, _ = play(rows, *plan, impact="consume", end=2, max_order_units=20)
    takes = [f for f in summary(result) if f[3] == "TAKE"]
    assert takes == [(1, 102, 6, "TAKE"), (1, 102, 4, "TAKE"), (1, 104, 2, "TAKE"), (1, 104, 1, "TAKE")]


@pytest.mark.parametrize("level", LEVELS)
def test_a_touch_does_not_fill_an_order_at_the_back_of_its_queue(level: FeedLevel) -> None:
    """nautilus_trader #286, #2194: with the defaults a quote at the touch fills at every trade at its price."""
    if level == "L3":
        rows = l3(*((0.2 + k / 100, K.EXECUTE, BID, 100, 1, 0) for k in range(9)))
    else:
        rows = l2(
            *((0.2 + k / 100, *row) for k in range(9) for row in (
                (K.TRADE, ASK, 100, 1), (K.LEVEL, BID, 100, 9 - k)))
        )  # fmt: skip
    result, agent = play(rows, bid(100, 1), level=level, end=1)
    assert maker_fills(result) == []
    assert agent.seen[-1][1] == [1]


# ---- queue position on L3 --------------------------------------------------------------------------
def test_one_cancel_ahead_does_not_clear_the_queue() -> None:
    """nautilus_trader #4370: any single cancel at the price clears all the quantity ahead."""
    rows = l3(
        (0.05, K.ADD, BID, 100, 3, 2), (0.2, K.DELETE, BID, 100, 3, 2), (0.3, K.EXECUTE, BID, 100, 9, 0)
    )
    result, agent = play(rows, bid(100), end=1)
    assert agent.seen[-1][1] == [1]
    assert maker_fills(result) == []


def test_a_cancel_behind_us_moves_nothing() -> None:
    """nautilus_trader #4370: the same for orders that joined later."""
    rows = l3(
        (0.2, K.ADD, BID, 100, 3, 2), (0.25, K.ADD, BID, 100, 4, 3), (0.3, K.DELETE, BID, 100, 4, 3),
        (0.35, K.REDUCE, BID, 100, 1, 2), (0.4, K.EXECUTE, BID, 100, 9, 0),
    )  # fmt: skip
    result, agent = play(rows, bid(100), end=1)
    assert agent.seen[-1][1] == [1]
    assert maker_fills(result) == []


@pytest.mark.parametrize("level", ["L3", "L2"])
def test_consumption_of_one_trade_is_not_used_again_by_the_next(level: FeedLevel) -> None:
    """nautilus_trader #5017: what one trade consumed of the queue is applied again across trades."""
    if level == "L3":
        rows = l3((0.2, K.EXECUTE, BID, 100, 6, 0), (0.3, K.EXECUTE, BID, 100, 3, 0))
    else:
        rows = l2((0.2, K.TRADE, ASK, 100, 6), (0.2, K.LEVEL, BID, 100, 4), (0.3, K.TRADE, ASK, 100, 3))
    result, agent = play(rows, bid(100, 2), level=level, end=1)
    assert agent.seen[-1][1] == [1]
    assert maker_fills(result) == []


# ---- time ------------------------------------------------------------------------------------------
def test_events_with_equal_time_stamps_keep_the_order_of_the_tape() -> None:
    """hftbacktest #56, #238: rows that share a time stamp are taken for disorder, or reordered."""
    # all at 0.3 s: the queue ahead leaves, an order joins behind us, and is hit only after us
    rows = l3(
        (0.3, K.DELETE, BID, 100, 10, 0), (0.3, K.ADD, BID, 100, 4, 0), (0.3, K.EXECUTE, BID, 100, 1, 0),
        (0.3, K.EXECUTE, BID, 100, 3, 0), (0.3, K.ADD, BID, 99, 4, 0),
    )  # fmt: skip
    result, _ = play(rows, bid(100, 2), end=0.5)
    assert maker_fills(result) == [(1, 100, 1, "QUEUE"), (1, 100, 1, "QUEUE")]
    assert set(result.fills["ts"][:2].tolist()) == {at(0.3)}


def test_time_running_backwards_is_an_error_with_its_row() -> None:
    """hftbacktest #27, #168, #238: files out of order run on silently."""
    rows = l3((1, K.REDUCE, BID, 100, 1, 0), (0.5, K.REDUCE, BID, 100, 1, 0))
    with pytest.raises(DataError, match="time running backwards") as caught:
        play(rows, NONE, end=3)
    assert caught.value.row == 3


@pytest.mark.parametrize("latency", [0, 7_000_000, 900_000_000])
@pytest.mark.parametrize("level", LEVELS)
def test_no_fill_is_stamped_before_its_order_could_be_there(level: FeedLevel, latency: int) -> None:
    """hftbacktest #251: fills are stamped before their order."""

    class Maker(Strategy):
        def reset(self, ctx: object) -> None:
            self.sent: list[int] = []

        def quote(self, obs: Observation) -> Quotes:
            self.sent.append(obs.ts)
            room = 5 - abs(obs.inventory)
            wide = int(obs.ask_px > obs.bid_px + 2)
            return Quotes(
                ((obs.bid_px + wide, min(1, room)),) if room else (),
                ((obs.ask_px - wide, min(1, room)),) if room else (),
                post_only=obs.step % 3 > 0,
            )

    data = tiny_market(5, level=level, spread_ticks=4, seconds=60, max_inventory_units=8)
    agent = Maker()
    result = Session(data, SimConfig(latency={"order": latency})).run(agent, data.splits["test"][0])
    own = result.fills[result.fills["reason"] != FillReason.CLOSE]
    assert len(own) > 5
    assert np.all(own["ts"] >= np.array(agent.sent)[own["decision"]] + latency)
    assert np.all(np.diff(result.fills["ts"]) >= 0)


def test_latency_is_in_nanoseconds_and_an_order_arrives_after_exactly_that() -> None:
    """hftbacktest #177: the unit of latencies, and whether an order is there at its time of arrival."""
    # sent at 0.1 s, there at 0.3 s: not for what happens up to and including that time
    for nanoseconds, lots in ((-1, 0), (0, 0), (1, 1)):
        rows = [*l3(), (at(0.3) + nanoseconds, 100, 1, 0, K.EXECUTE, BID, LAST)]
        result, _ = play(rows, bid(101, 1), latency={"order": 200_000_000}, end=0.5)
        assert sum(f[2] for f in maker_fills(result)) == lots


def test_times_in_the_result_are_the_markets() -> None:
    """ABIDES #19: orders are logged at time 0."""
    result, agent = play(l3((0.3, K.EXECUTE, BID, 100, 1, 0)), bid(101), end=1)
    assert [obs.ts for obs, _ in agent.seen] == [at(0.1), at(0.6)]
    assert result.steps["ts"].tolist() == [at(0.1), at(0.6)]
    assert result.fills["ts"].tolist() == [at(0.3), at(1)]


# ---- sweeps ----------------------------------------------------------------------------------------
def test_a_trade_sweeps_several_own_orders_and_levels_in_price_time_order() -> None:
    """jax-lob (last public commit): a sweep stops after the first resting order."""
    quotes = Quotes(((101, 3), (100, 5), (99, 2)))
    rows = l3(
        (0.05, K.ADD, BID, 98, 9, 2), (0.3, K.EXECUTE, BID, 100, 10, 0), (0.3, K.EXECUTE, BID, 98, 6, 2),
    )  # fmt: skip
    result, _ = play(rows, quotes, end=0.5)
    # ten are sold down to 100: 3 to us at 101; then six down to 98: 5 at 100 and 1 at 99
    assert maker_fills(result) == [(1, 101, 3, "THROUGH"), (1, 100, 5, "THROUGH"), (1, 99, 1, "THROUGH")]


def test_an_arriving_order_sweeps_several_own_orders_each_at_its_own_price() -> None:
    """jax-lob (last public commit): the book stays crossed after a sweep."""
    quotes = Quotes(((101, 3), (100, 5)))
    result, _ = play(l3((0.3, K.ADD, ASK, 99, 6, 2)), quotes, end=0.5)
    assert maker_fills(result) == [(1, 101, 3, "CROSS"), (1, 100, 3, "CROSS")]


def test_a_matched_sweep_ends_with_an_uncrossed_book() -> None:
    """jax-lob (last public commit): the matching engine leaves bids above asks after a sweep."""
    book = OrderBook()
    for px, qty in ((102, 2), (102, 1), (103, 4), (105, 5)):
        book.submit(-1, px, qty)
    report = book.submit(1, 104, 9)
    assert [(m.maker_id, m.px, m.qty) for m in report.matches] == [(1, 102, 2), (2, 102, 1), (3, 103, 4)]
    assert book.best(1) == (104, 2)
    assert book.best(-1) == (105, 5)


def test_a_market_order_larger_than_the_book_ends() -> None:
    """nanobook 0.19.2 never returns from a market sell of 87 lots."""
    rows = l3((0.05, K.ADD, BID, 98, 9, 2), (1.9, K.REDUCE, ASK, 102, 1, 1))
    result, _ = play(rows, Quotes(take=-87), NONE, end=2, max_order_units=100, max_inventory_units=200)
    assert summary(result)[:2] == [(-1, 100, 10, "TAKE"), (-1, 98, 9, "TAKE")]
    book = OrderBook()
    book.submit(1, 100, 10)
    book.submit(1, 98, 9)
    assert sum(m.qty for m in book.market(-1, 87).matches) == 19
    assert book.best(1) is None


def test_the_remainder_of_a_market_order_rests_nowhere() -> None:
    """lightmatchingengine rests the remainder of a market order at price 0."""
    rows = l3((1.2, K.EXECUTE, BID, 100, 1, 0), (1.9, K.EXECUTE, ASK, 102, 1, 1))
    result, agent = play(rows, Quotes(take=15), NONE, end=2, max_order_units=20)
    assert summary(result) == [(1, 102, 10, "TAKE"), (-1, 100, 9, "CLOSE"), (-1, 100, 1, "CLOSE")]
    assert all(len(obs.orders) == 0 for obs, _ in agent.seen)
    book = OrderBook()
    book.submit(-1, 102, 10)
    book.market(1, 15)
    assert (book.best(1), book.best(-1), len(book)) == (None, None, 0)


# ---- records ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reason", "maker", "quotes", "row"),
    [
        ("QUEUE", 1, bid(100, 3), (0.3, K.TRADE, ASK, 100, 12)),
        ("THROUGH", 1, bid(100, 3), (0.3, K.TRADE, ASK, 99, 2)),
        ("CROSS", 1, bid(100, 3), (0.3, K.LEVEL, ASK, 100, 1)),
        ("TAKE", 0, bid(102, 3, post_only=False), (0.3, K.LEVEL, ASK, 103, 1)),
    ],
)
def test_every_fill_says_why(
    reason: str, maker: int, quotes: Quotes, row: tuple[float, EventKind, int, int, int]
) -> None:
    """hftbacktest #158: an order is filled without a trade and nothing tells the reason."""
    result, _ = play(l2(row), quotes, level="L2", end=0.5)
    assert summary(result)[0][3] == reason
    assert int(result.fills["maker"][0]) == maker
    assert summary(result)[-1][3] == "CLOSE"


def test_every_fill_says_which_order_and_which_decision() -> None:
    """limit-order-book #3, fastlob: no way to learn from the engine who traded, or at which prices."""
    rows = l3(
        (0.3, K.EXECUTE, BID, 100, 1, 0), (0.8, K.EXECUTE, BID, 100, 1, 0), (0.9, K.ADD, ASK, 101, 1, 2)
    )
    result, _ = play(rows, bid(101, 1), bid(101, 2), end=1)
    quoted = result.fills[:3]
    assert quoted["decision"].tolist() == [0, 1, 1]
    assert quoted["order_id"].tolist() == [1, 2, 2]
    assert result.fills["order_id"].tolist()[-1] == 0  # the closing has no order


def test_rebates_are_earned_by_resting_and_fees_paid_by_taking() -> None:
    """hftbacktest #67: rebates counted with the wrong sign, so that the backtest does not match live trading."""
    fees = FeeSchedule("exchange", maker_rate=Decimal("-0.001"), taker_rate=Decimal("0.002"))
    data = scripted_market(l3((0.3, K.EXECUTE, BID, 100, 2, 0)), end=1, fees=fees)
    result = Session(data, SimConfig(fees="exchange")).run(Script(bid(101, 2), NONE), data.splits["test"][0])
    # bought 2 at 101 resting, closed 2 at 100 by walking the book; a tick is worth 0.01
    assert summary(result) == [(1, 101, 2, "THROUGH"), (-1, 100, 2, "CLOSE")]
    assert metrics.fees_per_fill(result.fills, result.instrument, fees).tolist() == [-2020, 4000]
    assert metrics.epnl(result) == pytest.approx(-0.02 - 0.00198, abs=1e-12)


def test_money_is_exact_beyond_what_a_float_holds() -> None:
    """nautilus_trader 1.221 fails on its own float check of the account balance when it is large."""
    px, lots = 2_000_000_011, 1_000_000_007
    rows = [
        (at(0), px - 1, lots, 0, K.ADD, BID, LAST),
        (at(0), px, lots, 1, K.ADD, ASK, LAST),
        (at(0.9), px, 1, 1, K.REDUCE, ASK, LAST),
    ]
    data = market_from(rows, episode=(at(0.1), at(1)), unit_lots=lots, decision_ns=SECOND // 2)
    session = Session(data, SimConfig(max_inventory_units=1, max_order_units=1))
    session.start(data.splits["test"][0])
    session.step(Quotes(take=lots))
    assert session.cash == -px * lots  # 2e18: a float would be off by up to 128
    assert session.step(NONE) is None
    assert session.cash == -lots
    assert session.inventory == 0


# ---- data ------------------------------------------------------------------------------------------
def test_a_feed_without_a_first_snapshot_builds_its_book_from_orders() -> None:
    """hftbacktest #226: an L3 feed without a snapshot leaves an empty book, or an agent that is asked too early."""
    rows = [
        (at(0.2), 100, 5, 0, K.ADD, BID, LAST),
        (at(1.3), 103, 5, 1, K.ADD, ASK, LAST),
        (at(2.0), 103, 1, 1, K.EXECUTE, ASK, LAST),
    ]
    data = market_from(rows, episode=(at(0.1), at(3)), decision_ns=SECOND // 2)
    agent = Script(NONE)
    result = Session(data).run(agent, data.splits["test"][0])
    assert [obs.ts for obs, _ in agent.seen] == [at(1.6), at(2.1), at(2.6)]
    assert result.counters["one_sided"] == 3


def test_a_snapshot_that_repeats_fills_nobody_and_moves_nobody() -> None:
    """hftbacktest #189: feeds of snapshots alone: each repeats what stands, which is neither trade nor arrival."""
    again = [
        row
        for k in range(8)
        for row in ((0.2 + k / 10, K.LEVEL, BID, 100, 10), (0.2 + k / 10, K.LEVEL, ASK, 102, 10))
    ]
    result, agent = play(l2(*again), Quotes(((100, 1),), ((102, 1),)), level="snapshot", end=2)
    assert summary(result) == []
    assert agent.seen[-1][1] == [10, 10]
