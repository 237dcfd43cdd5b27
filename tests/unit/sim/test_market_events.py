"""Each kind of market event against resting own orders, where `test_fill_rules` has not shown it."""

from __future__ import annotations

import pytest

from mmsim.agent import Quotes
from mmsim.sim.session import Session
from mmsim.testing.markets import FeedLevel, Row
from mmsim.testing.scripted import (
    ASK,
    BID,
    LAST,
    Script,
    ask,
    at,
    bid,
    l2,
    l3,
    play,
    scripted_market,
    summary,
)
from mmsim.types import EventFlag, EventKind

K = EventKind
SEED, AUCTION, IMPLIED = LAST | EventFlag.SEED, LAST | EventFlag.AUCTION, LAST | EventFlag.IMPLIED
NONE = Quotes.none()


def event(
    seconds: float, kind: EventKind, side: int, px: int, qty: int, oid: int = 0, flags: int = LAST
) -> Row:
    return (at(seconds), px, qty, oid, kind, side, flags)


@pytest.mark.parametrize(("px", "fills"), [(100, [(1, 100, 2, "QUEUE")]), (101, []), (102, [])])
def test_a_trade_of_unknown_side_hits_the_side_of_the_mid_it_printed_on(
    px: int, fills: list[tuple[int, int, int, str]]
) -> None:
    rows = [*l2(), event(1, K.TRADE, 0, px, 12)]
    result, _ = play(rows, bid(100, 5), level="L2", end=1.05)
    assert summary(result)[:1] == fills


@pytest.mark.parametrize("own", [100, 101])
def test_trades_of_an_auction_fill_nobody(own: int) -> None:
    prints = [*l2(), event(1, K.TRADE, ASK, 99, 50, flags=AUCTION)]
    assert summary(play(prints, bid(own), level="L2")[0]) == []
    orders = [*l3(), event(1, K.EXECUTE, BID, 100, 4, 0, AUCTION)]
    result, agent = play(orders, bid(own))
    assert summary(result) == []
    if own == 100:
        assert agent.seen[-1][1] == [6]  # what is left of the order that stood ahead of us


def test_an_order_entered_in_an_auction_does_not_cross_us() -> None:
    rows = [*l3(), event(1, K.ADD, ASK, 101, 2, 2, AUCTION)]
    assert summary(play(rows, bid(101), end=1.05)[0]) == []
    rows[-1] = event(1, K.ADD, ASK, 101, 2, 2)
    assert summary(play(rows, bid(101), end=1.05)[0])[0] == (1, 101, 1, "CROSS")


def test_implied_trades_fill_like_printed_ones() -> None:
    rows = [*l2(), event(1, K.TRADE, ASK, 100, 13, flags=IMPLIED), event(1, K.LEVEL, BID, 100, 0)]
    result, _ = play(rows, bid(100, 5), level="snapshot", end=1.05)
    assert summary(result)[0] == (1, 100, 3, "QUEUE")


def test_orders_that_join_after_us_stand_behind_us() -> None:
    rows = l3((0.5, K.ADD, BID, 100, 7, 2), (1, K.EXECUTE, BID, 100, 10, 0), (2, K.EXECUTE, BID, 100, 1, 2))
    result, agent = play(rows, bid(100), end=2.05)
    assert agent.seen[-1][1] == [0]
    assert summary(result)[0] == (1, 100, 1, "QUEUE")


def test_a_level_that_grows_grows_behind_us() -> None:
    rows = l2((0.5, K.LEVEL, BID, 100, 30), (1, K.TRADE, ASK, 100, 11), (1, K.LEVEL, BID, 100, 19))
    result, _ = play(rows, bid(100, 5), level="L2", end=1.05)
    assert summary(result)[0] == (1, 100, 1, "QUEUE")


def test_a_level_that_empties_leaves_us_alone_at_our_price() -> None:
    rows = l2((0.0, K.LEVEL, BID, 98, 9), (0.5, K.LEVEL, BID, 100, 0))
    rows += l2((0.7, K.LEVEL, BID, 100, 6), (1, K.TRADE, ASK, 100, 2))[2:]
    result, agent = play(rows, bid(100, 5), level="L2", end=1.05)
    assert agent.seen[1][1] == [0]
    assert summary(result)[0] == (1, 100, 2, "QUEUE")  # those that came later stand behind us


def test_an_execution_of_an_order_of_unknown_age_eats_what_is_ahead_of_us() -> None:
    rows = [event(0, K.ADD, BID, 100, 10, 0, SEED), event(0, K.ADD, ASK, 102, 10, 1, SEED)]
    rows += [event(1, K.EXECUTE, BID, 100, 4, 0)]
    assert play(rows, bid(100))[1].seen[-1][1] == [6]


def test_an_order_of_unknown_age_is_cancelled_behind_us_as_long_as_it_can() -> None:
    rows = [event(0, K.ADD, BID, 100, 6, 0, SEED), event(0, K.ADD, ASK, 102, 10, 1, SEED)]
    rows += [event(0, K.ADD, BID, 100, 4, 2, SEED), event(0.3, K.ADD, BID, 100, 7, 3)]
    rows += [event(1, K.DELETE, BID, 100, 4, 2), event(2, K.DELETE, BID, 100, 7, 3)]
    _, agent = play(rows, bid(100))  # 10 ahead; 13 are left, then 6
    assert [ahead for _, ahead in agent.seen][1:6] == [[10], [10], [10], [6], [6]]


def test_an_order_out_of_view_is_last_when_orders_of_unknown_age_appear_at_its_price() -> None:
    rows = [*l3(), event(1, K.ADD, BID, 98, 8, 2, SEED), event(2, K.ADD, BID, 98, 5, 3)]
    _, agent = play(rows, bid(98), view_depth=1)
    assert agent.seen[1][1] == [0]  # nothing is known of that level
    assert agent.seen[-1][1] == [8]  # what comes into view stands ahead, what arrives then stands behind


def test_orders_of_a_hidden_level_are_dropped_and_our_place_is_kept_on_l3() -> None:
    rows = [*l3(), event(0.7, K.ADD, BID, 99, 1, 2), event(1, K.HIDE, BID, 100, 0)]
    rows += [event(2, K.ADD, BID, 100, 4, 0, SEED), event(3, K.EXECUTE, BID, 100, 1, 0)]
    _, agent = play(rows, bid(100))
    assert agent.seen[3][1] == [10]
    assert agent.seen[-1][1] == [3]  # bounded by what the level holds once something leaves it


@pytest.mark.parametrize("level", ["L2", "L3"])
def test_a_void_book_keeps_our_orders(level: FeedLevel) -> None:
    new = K.ADD if level == "L3" else K.LEVEL
    rows = [*(l3() if level == "L3" else l2()), event(1, K.CLEAR, 0, 0, 0)]
    rows += [event(1, new, BID, 99, 4, 0), event(1, new, ASK, 102, 5, 1)]
    result, agent = play(rows, bid(100), level=level)
    assert agent.seen[-1][0].bid_px == 99
    assert len(agent.seen[-1][0].orders) == 1
    assert summary(result) == []


def test_an_opposite_quote_away_from_our_price_does_nothing() -> None:
    rows = l2((1, K.LEVEL, ASK, 101, 5), (2, K.LEVEL, ASK, 101, 0))
    assert summary(play(rows, bid(100), level="L2")[0]) == []
    assert summary(play(l3((1, K.ADD, ASK, 101, 5, 2)), bid(100))[0]) == []


# ---- asks mirror bids ----------------------------------------------------------------------------
AXIS = 202  # px -> 202 - px turns the book of 100 and 102 over

SCENES: dict[str, tuple[FeedLevel, list[Row], Quotes]] = {
    "queue on L3": ("L3", l3((1, K.REDUCE, BID, 100, 7, 0), (1.2, K.EXECUTE, BID, 100, 3, 0),
                             (1.3, K.ADD, BID, 100, 9, 2), (1.4, K.EXECUTE, BID, 100, 5, 2)), bid(100, 3)),
    "through on L3": ("L3", l3((1.2, K.EXECUTE, BID, 100, 4, 0)), bid(101, 3)),
    "cross on L3": ("L3", l3((1.2, K.ADD, ASK, 101, 2, 2)), bid(101, 5)),
    "hidden on L3": ("L3", l3((1, K.DELETE, BID, 100, 10, 0), (1.1, K.ADD, BID, 99, 2, 2),
                              (1.2, K.TRADE, ASK, 100, 5, 0)), bid(100, 2)),
    "queue on L2": ("L2", l2((1, K.TRADE, ASK, 100, 13), (1, K.LEVEL, BID, 100, 2)), bid(100, 5)),
    "cancellations on L2": ("L2", l2((1, K.LEVEL, BID, 100, 25), (1.1, K.LEVEL, BID, 100, 14),
                                     (1.2, K.TRADE, ASK, 100, 9)), bid(100, 5)),
    "through on L2": ("L2", l2((1.2, K.TRADE, ASK, 99, 2)), bid(100, 5)),
    "cross on L2": ("L2", l2((1.2, K.LEVEL, ASK, 100, 2)), bid(100, 5)),
    "unknown side": ("L2", [*l2(), event(1.2, K.TRADE, 0, 100, 12)], bid(100, 5)),
    "inside a snapshot": ("snapshot", l2((1.2, K.TRADE, ASK, 100, 2)), bid(101, 5)),
    "take": ("L3", l3((1.2, K.REDUCE, BID, 100, 1, 0)), bid(103, 5, post_only=False)),
    "market order": ("L3", l3((1.2, K.REDUCE, BID, 100, 1, 0)), Quotes(take=5)),
}  # fmt: skip


def mirrored(quotes: Quotes) -> Quotes:
    bids, asks, post_only, take = quotes
    turned = [tuple((AXIS - px, qty) for px, qty in side) for side in (asks, bids)]
    return Quotes(turned[0], turned[1], post_only, -take)


@pytest.mark.parametrize("name", SCENES)
def test_asks_mirror_bids(name: str) -> None:
    level, rows, quotes = SCENES[name]
    other = [(ts, AXIS - px, qty, oid, kind, -side, flags) for ts, px, qty, oid, kind, side, flags in rows]
    buys, seen = play(rows, quotes, quotes, quotes, NONE, level=level, end=1.7)
    sells, turned = play(other, *map(mirrored, (quotes, quotes, quotes, NONE)), level=level, end=1.7)
    got = summary(buys)
    assert got, "the scene must show a fill"
    assert summary(sells) == [(-side, AXIS - px, qty, why) for side, px, qty, why in got]
    assert [ahead for _, ahead in turned.seen] == [ahead for _, ahead in seen.seen]
    assert ask(102) == mirrored(bid(100))


def test_decisions_wait_for_the_last_row_of_a_message() -> None:
    # Two rows of one snapshot: between them the book is crossed; nobody is asked there.
    rows: list[Row] = []
    for k in range(3):
        rows.append(event(k, K.LEVEL, BID, 100 + k, 5, flags=0))
        rows.append(event(k, K.LEVEL, ASK, 101 + k, 5, flags=0 if k else LAST))
        if k:
            rows.append(event(k, K.LEVEL, ASK, 100 + k, 0))
    data = scripted_market(rows, level="snapshot", end=3, decision_ns=0)
    agent = Script(NONE)
    Session(data).run(agent, data.splits["test"][0])
    assert [(obs.ts, obs.bid_px, obs.ask_px) for obs, _ in agent.seen] == [
        (at(1), 101, 102),
        (at(2), 102, 103),
    ]
