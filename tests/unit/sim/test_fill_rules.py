"""One hand-made market per rule: how an own order is filled, rejected, keeps or loses its place."""

from __future__ import annotations

import numpy as np
import pytest

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.config import SimConfig
from mmsim.errors import AgentError, ConfigError, DataError
from mmsim.sim.latency import DecisionLatency
from mmsim.sim.session import Session
from mmsim.testing.markets import SECOND, Row, market_from
from mmsim.testing.scripted import ASK, BID, LAST, Script, at, bid, l2, l3, play, summary
from mmsim.types import EventKind, MarketData

K = EventKind
HALF = SECOND // 2


def test_nobody_quotes_nobody_earns() -> None:
    result, _ = play(l3((1, K.EXECUTE, BID, 100, 10, 0)), Quotes.none())
    assert len(result.fills) == 0
    assert result.counters["orders"] == 0


def test_queue_position_is_exact_on_l3() -> None:
    # 10 ahead; 4 of them trade, 5 are cancelled, 1 trades; the order behind us cannot be hit before us.
    rows = l3(
        (0.5, K.ADD, BID, 100, 7, 2),  # joins after us
        (1, K.EXECUTE, BID, 100, 4, 0),
        (2, K.REDUCE, BID, 100, 5, 0),
        (3, K.EXECUTE, BID, 100, 1, 0),
        (4, K.EXECUTE, BID, 100, 2, 2),
    )
    result, agent = play(rows, bid(100, 3))
    assert [q for _, q in agent.seen][1:9:2] == [[10], [6], [1], [0]]
    assert summary(result) == [(1, 100, 2, "QUEUE"), (-1, 100, 2, "CLOSE")]
    assert result.fills["maker"].tolist() == [1, 0]
    assert result.fills["ts"].tolist() == [at(4), at(10)]


def test_cancel_behind_us_does_not_help() -> None:
    rows = l3((0.5, K.ADD, BID, 100, 7, 2), (1, K.DELETE, BID, 100, 7, 2), (2, K.EXECUTE, BID, 100, 9, 0))
    result, agent = play(rows, bid(100))
    assert agent.seen[-1][1] == [1]
    assert summary(result) == []


def test_trade_through_fills_at_our_price() -> None:
    result, _ = play(l3((1, K.EXECUTE, BID, 100, 4, 0)), bid(101, 3))
    assert summary(result)[0] == (1, 101, 3, "THROUGH")


def test_traded_quantity_bounds_our_fills_over_several_levels() -> None:
    quotes = Quotes(((101, 3), (100, 5)), ())
    rows = l3((0.5, K.ADD, BID, 99, 9, 2), (1, K.EXECUTE, BID, 99, 6, 2))
    result, _ = play(rows, quotes)
    assert summary(result)[:2] == [(1, 101, 3, "THROUGH"), (1, 100, 3, "THROUGH")]


def test_crossing_order_fills_its_quantity_on_l3() -> None:
    result, _ = play(l3((1, K.ADD, ASK, 101, 2, 2)), bid(101, 5))
    assert summary(result)[0] == (1, 101, 2, "CROSS")


def test_crossing_level_fills_completely_on_l2() -> None:
    result, _ = play(l2((1, K.LEVEL, ASK, 101, 2)), bid(101, 5), level="L2")
    assert summary(result)[0] == (1, 101, 5, "CROSS")


def test_hidden_execution_ranks_behind_the_displayed_queue() -> None:
    hidden = (1, K.TRADE, ASK, 100, 5, 0)  # a seller met hidden bids at 100
    assert summary(play(l3(hidden), bid(100))[0]) == []  # 10 displayed lots are ahead of us
    rows = l3((0.5, K.EXECUTE, BID, 100, 10, 0), (0.6, K.ADD, BID, 99, 1, 2), hidden)
    assert summary(play(rows, bid(100))[0])[0] == (1, 100, 1, "QUEUE")


def test_level_feed_counts_a_trade_once() -> None:
    # 4 trade, then the level is published as 6: nothing was cancelled, 6 are ahead of us.
    rows = l2((1, K.TRADE, ASK, 100, 4), (1, K.LEVEL, BID, 100, 6))
    _, agent = play(rows, bid(100), level="L2")
    assert agent.seen[-1][1] == [6]


@pytest.mark.parametrize(("model", "ahead"), [("proportional", 8), ("risk_averse", 10)])
def test_unexplained_decrease_is_shared_by_the_queue_model(model: str, ahead: int) -> None:
    # 10 ahead, 10 behind, 4 are cancelled: half of them ahead, or all of them behind.
    rows = l2((0.7, K.LEVEL, BID, 100, 20), (1, K.LEVEL, BID, 100, 16))
    _, agent = play(rows, bid(100), level="L2", queue_model=model)
    assert agent.seen[-1][1] == [ahead]


def test_level_feed_fills_what_exceeds_the_queue() -> None:
    rows = l2((1, K.TRADE, ASK, 100, 13), (1, K.LEVEL, BID, 100, 0))
    result, _ = play(rows, bid(100, 5), level="L2")
    assert summary(result)[0] == (1, 100, 3, "QUEUE")


def test_exact_partial_fill_then_another_touch() -> None:
    # The defect of a peer: an order that a trade exhausts exactly must be gone.
    rows = l2((1, K.TRADE, ASK, 100, 11), (1, K.LEVEL, BID, 100, 0), (2, K.LEVEL, ASK, 100, 5))
    result, _ = play(rows, bid(100, 1), bid(100, 1), Quotes.none(), level="L2")
    assert summary(result)[0] == (1, 100, 1, "QUEUE")
    assert int(result.fills["qty"][result.fills["side"] == 1].sum()) == 1


def test_out_of_view_order_is_last_when_its_level_appears() -> None:
    rows = l2(
        (0.0, K.LEVEL, BID, 99, 5),
        (1, K.LEVEL, BID, 100, 0),
        (1, K.LEVEL, BID, 98, 8),  # our level comes into view with 8 lots
        (2, K.TRADE, ASK, 98, 6),
    )
    _, agent = play(rows, bid(98), level="snapshot", view_depth=2, decision_interval_ns=HALF)
    assert agent.seen[2][1] == [8]
    assert agent.seen[-1][1] == [2]


def test_hidden_level_keeps_our_place() -> None:
    rows = l2((1, K.HIDE, BID, 100, 0), (1, K.LEVEL, BID, 99, 3), (2, K.LEVEL, BID, 100, 4))
    _, agent = play(rows, bid(100), level="L2")
    assert agent.seen[-1][1] == [4]  # at most what is there


def test_post_only_order_that_would_trade_is_rejected() -> None:
    result, _ = play(l3((5, K.REDUCE, BID, 100, 1, 0)), bid(102, 2))
    assert summary(result) == []
    assert result.counters["post_only_rejects"] > 0


def test_limit_order_takes_then_rests() -> None:
    rows = l3((5, K.EXECUTE, BID, 100, 1, 0))
    result, _ = play(
        rows, bid(102, 12, post_only=False), bid(102, 2, post_only=False), max_order_units=20, end=5.05
    )
    assert summary(result)[:2] == [(1, 102, 10, "TAKE"), (1, 102, 1, "THROUGH")]
    assert result.fills["maker"].tolist()[:2] == [0, 1]


def test_market_order_walks_the_book() -> None:
    rows = l3((0.05, K.ADD, ASK, 103, 5, 2), (5, K.REDUCE, BID, 100, 1, 0))
    result, _ = play(rows, Quotes(take=13), Quotes.none(), max_order_units=20)
    assert summary(result)[:2] == [(1, 102, 10, "TAKE"), (1, 103, 3, "TAKE")]


def test_diff_rule_table() -> None:
    # same: kept; smaller: kept; larger: back of the queue; the level grew by 7 meanwhile
    rows = l3((0.7, K.ADD, BID, 100, 7, 2), (9, K.REDUCE, BID, 100, 1, 2))
    _, same = play(rows, bid(100, 2))
    assert same.seen[-1][1] == [10]
    result, less = play(rows, bid(100, 2), bid(100, 2), bid(100, 1))
    assert less.seen[-1][1] == [10]
    assert int(less.seen[-1][0].orders["qty"][0]) == 1
    assert result.counters["reduces"] == 1
    _, more = play(rows, bid(100, 2), bid(100, 2), bid(100, 3))
    assert more.seen[5][1] == [17]
    _, resent = play(rows, bid(100, 2), replace="always")
    assert resent.seen[5][1] == [17]


def test_order_latency_delays_arrival() -> None:
    rows = l3((0.3, K.ADD, BID, 100, 7, 2), (9, K.REDUCE, BID, 100, 1, 2))
    _, agent = play(rows, bid(100), latency={"order": 300_000_000})  # sent at 0.1 s, arrives at 0.4 s
    assert agent.seen[1][1] == [17]
    assert int(agent.seen[1][0].orders["live"][0]) == 1


def test_acknowledgement_latency_delays_what_the_agent_knows() -> None:
    _, agent = play(l3((1, K.EXECUTE, BID, 100, 4, 0)), bid(101, 3), latency={"ack": SECOND})
    inventories = [obs.inventory for obs, _ in agent.seen]
    assert inventories[:4] == [0, 0, 0, 0]  # decisions at 0.1, 0.6, 1.1, 1.6 s; told at 2.0 s
    assert inventories[4] == 3


def test_feed_latency_delays_the_view_but_not_the_exchange() -> None:
    rows = l3((1, K.ADD, BID, 101, 4, 2))
    _, now = play(rows, Quotes.none())
    _, late = play(rows, Quotes.none(), latency={"feed": 2 * SECOND})
    assert [obs.bid_px for obs, _ in now.seen][1:4] == [100, 101, 101]
    assert late.seen[0][0].ts == at(2.1)  # before, the agent had seen no book at all
    seen = {obs.ts: obs.bid_px for obs, _ in late.seen}
    assert seen[at(2.6)] == 100
    assert seen[at(3.1)] == 101


def test_slow_agent_misses_decisions_and_its_orders_arrive_late() -> None:
    rows = l3((0.9, K.ADD, BID, 100, 7, 2), (9, K.REDUCE, BID, 100, 1, 2))
    result, agent = play(rows, bid(100), latency={"decision": 1_200_000_000})
    assert result.counters["decisions"] + result.counters["missed"] == len(result.steps)
    assert [obs.ts for obs, _ in agent.seen][:3] == [at(0.1), at(1.6), at(3.1)]  # 0.6 and 1.1 missed
    assert agent.seen[1][1] == [17]


def test_latency_profile_is_drawn_by_the_seed() -> None:
    a, b = (DecisionLatency(profile_ns=np.arange(1000, dtype=np.int64)) for _ in range(2))
    a.start(1, 0)
    b.start(1, 0)
    first = [a.draw() for _ in range(3000)]
    assert first == [b.draw() for _ in range(3000)]
    a.start(2, 0)
    assert first != [a.draw() for _ in range(3000)]
    with pytest.raises(ConfigError, match="at least one"):
        DecisionLatency(profile_ns=np.zeros(0, np.int64))


def test_ties_market_before_arrival_before_decision() -> None:
    # All at 0.6 s: the trade, then the arrival of the order sent at 0.1 s, then the decision.
    rows = l3((0.6, K.EXECUTE, BID, 100, 4, 0), (9, K.REDUCE, BID, 100, 1, 0))
    result, agent = play(rows, bid(101), latency={"order": HALF})
    assert summary(result) == []  # arrived after the trade that would have filled it
    assert int(agent.seen[1][0].orders["live"][0]) == 1


def test_limit_is_checked_again_at_the_exchange() -> None:
    # In flight, the old and the new order together could break the limit: the new one is rejected.
    rows = l3((0.5, K.ADD, BID, 99, 50, 2), (0.65, K.EXECUTE, BID, 99, 20, 2))
    plan = (bid(101, 15), bid(100, 15), Quotes.none())
    result, _ = play(rows, *plan, latency={"order": 200_000_000}, max_order_units=20)
    assert result.counters["limit_rejects"] == 1
    assert max(np.cumsum(result.fills["side"].astype(int) * result.fills["qty"])) <= 20


def test_residual_inventory_walks_the_book_and_beyond() -> None:
    rows = l3((1, K.EXECUTE, BID, 100, 10, 0), (2, K.ADD, BID, 99, 2, 2))
    result, _ = play(rows, bid(101, 5), bid(101, 5), Quotes.none())
    assert summary(result) == [(1, 101, 5, "THROUGH"), (-1, 99, 2, "CLOSE"), (-1, 99, 3, "CLOSE")]
    assert result.counters["close_beyond_lots"] == 3


def test_one_sided_book_is_not_a_decision() -> None:
    rows = l3((1, K.DELETE, ASK, 102, 10, 1), (5, K.ADD, ASK, 103, 1, 2))
    result, agent = play(rows, Quotes.none())
    assert result.counters["one_sided"] == 8
    assert all(obs.ask_px > obs.bid_px > 0 for obs, _ in agent.seen)
    assert result.steps["asked"].tolist().count(0) == 8


@pytest.mark.parametrize(
    ("quotes", "message"),
    [
        (Quotes(((float("nan"), 1),)), "whole number of ticks, was nan"),  # type: ignore[arg-type]
        (Quotes(((100.5, 1),)), "whole number of ticks, was 100.5"),  # type: ignore[arg-type]
        (Quotes(((100, -1),)), "positive quantity"),
        (Quotes(((100, 0),)), "positive quantity"),
        (Quotes(((-5, 1),)), "price: expected 1 to"),
        (Quotes(((101, 1),), ((101, 1),)), "crossed pair"),
        (Quotes(((100, 1), (100, 1))), "one level per price"),
        (Quotes(((100, 11),)), "expected at most 10 a side"),
        (Quotes(((100, 10),), (), True, 11), "beyond its limits"),
        (Quotes(tuple((90 - k, 1) for k in range(6))), "at most 5 levels"),
        (Quotes((100,)), "expected (price, quantity)"),  # type: ignore[arg-type]
        (None, "expected Quotes"),
        ("ab", "expected Quotes"),
    ],
)
def test_invalid_quotes_are_agent_errors(quotes: Quotes, message: str) -> None:
    with pytest.raises(AgentError) as caught:
        play(l3((5, K.REDUCE, BID, 100, 1, 0)), Quotes.none(), quotes)
    assert message in str(caught.value)
    assert caught.value.decision == 1
    assert caught.value.ts == at(0.6)


def test_agent_that_raises_is_named_with_its_cause() -> None:
    class Broken(Strategy):
        def quote(self, obs: Observation) -> Quotes:
            raise KeyError("x")

    data = market_from(l3(), episode=(at(0.1), at(2)))
    with pytest.raises(AgentError, match=r"Broken.*KeyError") as caught:
        Session(data).run(Broken(), data.splits["test"][0])
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((at(1), 100, 1, 0, 77, BID, LAST), "BAD_KIND"),
        ((at(1), 100, 99, 0, int(K.EXECUTE), BID, LAST), "BAD_ORDER"),
        ((at(1), 101, 1, 0, int(K.EXECUTE), BID, LAST), "BAD_ORDER"),
        ((at(1), 100, 1, 9, int(K.DELETE), BID, LAST), "BAD_ORDER"),
        ((at(-1), 100, 1, 0, int(K.REDUCE), BID, LAST), "BAD_TIME"),
        ((at(1), 100, -3, 0, int(K.REDUCE), BID, LAST), "BAD_QTY"),
    ],
)
def test_impossible_events_are_data_errors_with_their_row(row: Row, message: str) -> None:
    rows = [*l3(), row]
    data = market_from(np.array(rows, dtype=market_from(l3()).events.dtype), episode=(at(0.1), at(3)))
    data = MarketData(**{**data.__dict__, "n_slots": 2, "px_min": 100, "px_max": 102})
    with pytest.raises(DataError, match=message) as caught:
        Session(data).run(Script(Quotes.none()), data.splits["test"][0])
    assert caught.value.row == 2


def test_buffers_grow_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = l3(*((0.2 + 0.001 * i, K.EXECUTE, BID, 100, 1, 0) for i in range(9)))
    data = market_from(rows, episode=(at(0.1), at(3000)), max_inventory_units=20)
    result = Session(data).run(Script(bid(101, 1)), data.splits["test"][0])
    monkeypatch.setattr("mmsim.sim.engine._MOST_STEPS", 4)
    small = Session(data)
    small._steps = small._steps[:4].copy()
    small._fills = small._fills[:300].copy()
    again = small.run(Script(bid(101, 1)), data.splits["test"][0])
    assert len(again.steps) == len(result.steps) == 6000
    assert again.fills.tolist() == result.fills.tolist()


def test_a_configuration_error_of_an_agent_is_not_blamed_on_its_quotes() -> None:
    class Lacking(Strategy):
        def quote(self, obs: Observation) -> Quotes:
            raise ConfigError("needs transformers: run make teacher")

    data = market_from(l3(), episode=(at(0.1), at(2)))
    with pytest.raises(ConfigError, match="make teacher"):
        Session(data).run(Lacking(), data.splits["test"][0])


def test_unknown_fee_schedule_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no fee schedule 'xyz'; it has: zero"):
        Session(market_from(l3()), SimConfig(fees="xyz"))
