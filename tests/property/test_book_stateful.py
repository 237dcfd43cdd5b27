"""Every public verb of the order book against the naive reference, in any order Hypothesis can think of."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from mmsim.book.reference import Match, ReferenceBook, Report
from mmsim.book.view import OrderBook
from mmsim.errors import BookError

SIDES = st.sampled_from([1, -1])
PRICES = st.integers(100, 115)
LOTS = st.integers(1, 5)


class BookMachine(RuleBasedStateMachine):
    """Drives both books with the same requests; small numbers make collisions likely."""

    ids = Bundle("ids")  # of all orders ever sent: gone ones stay in, to be refused

    def __init__(self) -> None:
        super().__init__()
        # room for next to nothing, so that both the window and the rows must grow on the way
        self.book = OrderBook(n_levels=3, n_orders=2)
        self.model = ReferenceBook()
        self.sent = 0  # lots that entered, that left unfilled, and that met each other
        self.left = 0
        self.traded = 0

    def both(self, verb: str, *args: int, **flags: bool) -> Report | int | None:
        try:
            expected = getattr(self.model, verb)(*args, **flags)
        except BookError:
            before = self.state_of(self.book)
            with pytest.raises(BookError):
                getattr(self.book, verb)(*args, **flags)
            assert self.state_of(self.book) == before
            return None
        actual = getattr(self.book, verb)(*args, **flags)
        assert actual == expected
        if isinstance(actual, Report):
            self.traded += sum(m.qty for m in actual.matches)
        return actual

    @staticmethod
    def state_of(book: OrderBook | ReferenceBook) -> list[tuple[int, int, int, int]]:
        return [tuple(o) for side in (1, -1) for o in book.orders(side)]

    @staticmethod
    def traded_in(report: Report) -> int:
        return sum(m.qty for m in report.matches)

    @rule(target=ids, side=SIDES, px=PRICES, qty=LOTS, kind=st.sampled_from(["", "", "", "post_only", "ioc"]))
    def submit(self, side: int, px: int, qty: int, kind: str) -> int:
        report = self.both("submit", side, px, qty, **({kind: True} if kind else {}))
        assert isinstance(report, Report)
        self.sent += qty
        self.left += qty - self.traded_in(report) - report.resting
        if kind == "post_only":
            assert not report.matches
        if kind == "ioc":
            assert report.resting == 0
        return report.order_id

    @rule(target=ids, side=SIDES, qty=st.integers(1, 12))
    def market(self, side: int, qty: int) -> int:
        report = self.both("market", side, qty)
        assert isinstance(report, Report)
        self.sent += qty
        self.left += qty - self.traded_in(report)
        return report.order_id

    @rule(order_id=ids)
    def cancel(self, order_id: int) -> None:
        left = self.both("cancel", order_id)
        self.left += left if isinstance(left, int) else 0

    @rule(order_id=ids, by=LOTS)
    def reduce(self, order_id: int, by: int) -> None:
        if self.both("reduce", order_id, by) is not None:
            self.left += by

    @rule(order_id=ids, px=PRICES, qty=LOTS, post_only=st.booleans())
    def replace(self, order_id: int, px: int, qty: int, post_only: bool) -> None:
        before = {o.order_id: o.qty for side in (1, -1) for o in self.model.orders(side)}
        report = self.both("replace", order_id, px, qty, post_only=post_only)
        if isinstance(report, Report) and report.accepted:
            self.left += before[order_id]  # the old order left, the new one entered
            self.sent += qty
            assert self.traded_in(report) + report.resting == qty

    @rule(target=ids, side=SIDES, far=st.sampled_from([1, 60, 5_000, -7, -3_000]))
    def submit_far_away(self, side: int, far: int) -> int:
        report = self.both("submit", side, far, 1, post_only=True)
        assert isinstance(report, Report)
        self.sent += 1
        self.left += 1 - report.resting
        return report.order_id

    @rule(target=ids, side=st.sampled_from([0, 2, -3]), qty=st.sampled_from([0, -1, 2**31]))
    def refuse(self, side: int, qty: int) -> int:
        assert self.both("submit", side, 105, 1) is None
        assert self.both("submit", 1, 105, qty) is None
        assert self.both("submit", 1, 2**31, 1) is None
        assert self.both("submit", 1, 105, 1, post_only=True, ioc=True) is None
        assert self.both("market", side, 1) is None
        assert self.both("market", 1, qty) is None
        return multiple()

    @rule(order_id=ids)
    def look(self, order_id: int) -> None:
        assert (order_id in self.book) == (order_id in self.model)
        if order_id in self.model:
            assert self.book.queue_ahead(order_id) == self.model.queue_ahead(order_id)
        for side in (1, -1):
            assert self.book.depth(side) == self.model.depth(side)
            assert self.book.depth(side, 2) == self.model.depth(side, 2)

    @invariant()
    def same_orders_not_crossed_quantity_conserved(self) -> None:
        state = self.state_of(self.book)
        assert state == self.state_of(self.model)  # order by order, in the order in which they trade
        assert len(self.book) == len(state)
        bid, ask = self.book.best(1), self.book.best(-1)
        assert (bid, ask) == (self.model.best(1), self.model.best(-1))
        assert bid is None or ask is None or bid[0] < ask[0]
        assert self.sent == sum(o[3] for o in state) + self.left + 2 * self.traded


TestBook = BookMachine.TestCase
TestBook.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_every_public_verb_has_a_rule() -> None:
    verbs = {n for n in vars(OrderBook) if not n.startswith("_")} | {"__len__", "__contains__"}
    compared = {"submit", "market", "cancel", "reduce", "replace"}
    read = {"best", "depth", "orders", "queue_ahead", "__len__", "__contains__"}
    assert verbs == compared | read
    assert verbs <= set(dir(ReferenceBook))


def test_matches_name_maker_taker_price_and_quantity() -> None:
    book = OrderBook()
    old = book.submit(-1, 101, 2).order_id
    young = book.submit(-1, 101, 2).order_id
    report = book.submit(1, 103, 5)
    assert report.matches == (Match(old, 3, 101, 2), Match(young, 3, 101, 2))
    assert report.resting == 1
    assert book.best(1) == (103, 1)
