"""The rule for a quote inside the spread of a snapshot feed: through (default), any, strict."""

from __future__ import annotations

import pytest

from mmsim.agent import Quotes
from mmsim.testing.markets import FeedLevel
from mmsim.testing.scripted import ASK, BID, bid, l2, l3, play, summary
from mmsim.types import EventKind

K = EventKind
NONE = Quotes.none()
RULES = ("through", "any", "strict")


def fills(
    rule: str, *rows: tuple[float, EventKind, int, int, int], level: FeedLevel = "snapshot"
) -> list[object]:
    """Fills of a bid of 3 at 101, inside 100 and 102, before the residual is closed."""
    result, _ = play(l2(*rows), bid(101, 3), bid(101, 3), NONE, level=level, end=1.2, inside=rule)
    return [f for f in summary(result) if f[3] != "CLOSE"]


def test_a_sale_below_us_fills_through_and_any_but_not_strict() -> None:
    sale = (1, K.TRADE, ASK, 100, 2)
    got = {rule: fills(rule, sale) for rule in RULES}
    assert got == {"through": [(1, 101, 2, "THROUGH")], "any": [(1, 101, 2, "THROUGH")], "strict": []}


def test_a_purchase_fills_our_bid_only_under_any() -> None:
    purchase = (1, K.TRADE, BID, 102, 2)
    got = {rule: fills(rule, purchase) for rule in RULES}
    assert got == {"through": [], "any": [(1, 101, 2, "THROUGH")], "strict": []}


@pytest.mark.parametrize("rule", RULES)
def test_a_trade_at_our_price_and_a_crossing_quote_fill_under_every_rule(rule: str) -> None:
    assert fills(rule, (1, K.TRADE, ASK, 101, 2)) == [(1, 101, 2, "QUEUE")]
    assert fills(rule, (1, K.LEVEL, ASK, 101, 2)) == [(1, 101, 3, "CROSS")]


@pytest.mark.parametrize("rule", RULES)
def test_a_quote_that_the_market_has_joined_is_not_inside_any_more(rule: str) -> None:
    joined = (0.7, K.LEVEL, BID, 101, 5)
    assert fills(rule, joined, (1, K.TRADE, ASK, 100, 2)) == [(1, 101, 2, "THROUGH")]
    assert fills(rule, joined, (1, K.TRADE, BID, 102, 2)) == []


def test_any_lets_one_trade_fill_each_side_up_to_its_quantity() -> None:
    rows = [(0.05, K.LEVEL, ASK, 102, 0), (0.05, K.LEVEL, ASK, 104, 9), (1, K.TRADE, ASK, 100, 2)]
    quotes = Quotes(((101, 3),), ((103, 3),))
    result, _ = play(l2(*rows), quotes, quotes, NONE, level="snapshot", end=1.2, inside="any")
    assert summary(result) == [(1, 101, 2, "THROUGH"), (-1, 103, 2, "THROUGH")]


@pytest.mark.parametrize("level", ["L2", "L3"])
def test_the_rule_does_not_touch_other_feeds(level: FeedLevel) -> None:
    sale = l2((1, K.TRADE, ASK, 100, 2)) if level == "L2" else l3((1, K.EXECUTE, BID, 100, 2, 0))
    for rule in RULES:
        result, _ = play(sale, bid(101, 3), bid(101, 3), NONE, level=level, end=1.2, inside=rule)
        assert summary(result)[0] == (1, 101, 2, "THROUGH")
