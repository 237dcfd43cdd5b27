"""Every public verb of the order book against the naive reference, in any order Hypothesis can think of."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from mmsim.book.naive_book import NaiveBook
from mmsim.book.report import STP_MODES, Match, Report
from mmsim.book.view import OrderBook
from mmsim.errors import BookError

SIDES = st.sampled_from([1, -1])
PRICES = st.one_of(st.integers(100, 112), st.sampled_from([-(2**31) + 1, -9_000, 3_000, 2**31 - 1]))
NEAR = st.integers(100, 112)
LOTS = st.integers(1, 6)
OWNERS = st.integers(0, 2)
STP = st.sampled_from([None, None, *STP_MODES])
KINDS = st.sampled_from([None, None, None, "post_only", "slide", "ioc", "fok"])
SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"


def options(kind, **others):
    return ({kind: True} if kind else {}) | {k: v for k, v in others.items() if v}


class BookMachine(RuleBasedStateMachine):
    """Drives both books with the same requests; small numbers make collisions likely."""

    ids = Bundle("ids")  # of all orders ever sent: gone ones stay in, to be refused

    def __init__(self) -> None:
        super().__init__()
        # room for next to nothing, so that both the window and the rows must grow on the way
        self.book = OrderBook(stp="cancel_resting", n_levels=3, n_orders=2)
        self.model = NaiveBook(stp="cancel_resting")

    def both(self, verb: str, *args, **kwargs):
        """Ask both books the same, expect the same; account for the lots."""
        before = {o[0]: lots(o) for o in everything(self.model)}
        try:
            expected = getattr(self.model, verb)(*args, **kwargs)
        except BookError:
            state = everything(self.book)
            with pytest.raises(BookError):
                getattr(self.book, verb)(*args, **kwargs)
            assert everything(self.book) == state
            return None
        actual = getattr(self.book, verb)(*args, **kwargs)
        assert actual == expected
        if isinstance(actual, Report):
            self.check_priority(actual, before)
            self.check_lots(actual, before, args[-1])
        return actual

    def check_lots(self, report: Report, before: dict[int, int], qty: int) -> None:
        # conserved, order by order: what it had is what it has, what it traded and what was removed of it
        after = {o[0]: lots(o) for o in everything(self.book)}
        for oid in before.keys() - {report.order_id, *report.triggered}:
            traded = sum(m.qty for m in report.matches if m.maker_id == oid)
            removed = sum(r.qty for r in report.removed if r.order_id == oid)
            assert before[oid] == after.get(oid, 0) + traded + removed
        mine = sum(m.qty for m in report.matches if m.taker_id == report.order_id)
        assert mine + report.resting <= qty or not report.accepted

    def check_priority(self, report: Report, before: dict[int, int]) -> None:
        # the first order's trades walk away from the touch, never back
        mine = [m for m in report.matches if m.taker_id == report.order_id]
        prices = [m.px for m in mine]
        assert prices in (sorted(prices), sorted(prices, reverse=True))
        assert all(m.maker_id in before for m in mine)

    @rule(target=ids, side=SIDES, px=PRICES, qty=LOTS, kind=KINDS, owner=OWNERS, stp=STP)
    def submit(self, side, px, qty, kind, owner, stp):
        report = self.both("submit", side, px, qty, **options(kind, owner=owner, stp=stp))
        if kind in ("post_only", "slide"):
            assert all(m.taker_id != report.order_id for m in report.matches)
        if kind in ("ioc", "fok"):
            assert report.resting == 0
        return report.order_id

    @rule(target=ids, side=SIDES, px=NEAR, qty=st.integers(3, 20), display=st.integers(1, 4), owner=OWNERS)
    def iceberg(self, side, px, qty, display, owner):
        report = self.both("submit", side, px, qty, display=min(display, qty), owner=owner)
        return report.order_id

    @rule(target=ids, side=SIDES, qty=st.integers(1, 15), owner=OWNERS, stp=STP, fok=st.booleans())
    def market(self, side, qty, owner, stp, fok):
        return self.both(
            "market", side, qty, **options("fok" if fok else None, owner=owner, stp=stp)
        ).order_id

    @rule(target=ids, side=SIDES, trigger=NEAR, qty=LOTS, owner=OWNERS, stp=STP, fok=st.booleans())
    def stop(self, side, trigger, qty, owner, stp, fok):
        kind = "fok" if fok else None
        return self.both("stop", side, trigger, qty, **options(kind, owner=owner, stp=stp)).order_id

    @rule(
        target=ids,
        side=SIDES,
        trigger=NEAR,
        px=PRICES,
        qty=LOTS,
        kind=KINDS,
        display=st.integers(0, 2),
        owner=OWNERS,
    )
    def stop_limit(self, side, trigger, px, qty, kind, display, owner):
        display = 0 if kind in ("ioc", "fok") else min(display, qty)
        more = options(kind, display=display, owner=owner)
        return self.both("stop", side, trigger, qty, px=px, **more).order_id

    @rule(
        target=ids, order_id=st.sampled_from([3, 7, -5, 2**63 - 1, -(2**63)]), side=SIDES, px=NEAR, qty=LOTS
    )
    def submit_under_an_id_of_ones_own(self, order_id, side, px, qty):
        self.both("submit", side, px, qty, order_id=order_id)  # both refuse it while it is in use
        return order_id

    @rule(order_id=ids)
    def cancel(self, order_id):
        self.both("cancel", order_id)

    @rule(order_id=ids, by=LOTS)
    def reduce(self, order_id, by):
        self.both("reduce", order_id, by)

    @rule(order_id=ids, px=PRICES, qty=st.integers(1, 15), kind=KINDS, stp=STP)
    def replace(self, order_id, px, qty, kind, stp):
        self.both("replace", order_id, px, qty, **options(kind, stp=stp))

    @rule()
    def snapshot_and_go_on_with_another_book(self):
        fresh = OrderBook(stp="cancel_resting", n_levels=2, n_orders=1)
        fresh.submit(1, 5, 5)
        fresh.restore(self.book.snapshot())
        assert fresh.snapshot().orders.tolist() == self.book.snapshot().orders.tolist()
        self.book = fresh

    @rule(order_id=ids)
    def look(self, order_id):
        assert (order_id in self.book) == (order_id in self.model)
        self.both("queue_ahead", order_id)
        for side in (1, -1):
            assert self.book.depth(side) == self.model.depth(side)
            assert self.book.depth(side, 2) == self.model.depth(side, 2)

    @invariant()
    def same_orders_and_never_crossed(self):
        state = everything(self.model)
        assert everything(self.book) == state  # order by order, in the order in which they trade
        assert len(self.book) == len(state) == len(self.model)
        assert self.book.last_px == self.model.last_px
        bid, ask = self.book.best(1), self.book.best(-1)
        assert (bid, ask) == (self.model.best(1), self.model.best(-1))
        assert bid is None or ask is None or bid[0] < ask[0]


def everything(book):
    return [o for side in (1, -1) for o in book.orders(side)] + [
        s for side in (1, -1) for s in book.stops(side)
    ]


def lots(order) -> int:
    return order.qty + getattr(order, "hidden", 0)


TestBook = BookMachine.TestCase
TestBook.settings = settings(
    max_examples=25 if SLOW else 150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_every_public_verb_has_a_rule() -> None:
    verbs = {n for n in dir(OrderBook) if not n.startswith("_")}
    compared = {"submit", "market", "stop", "cancel", "reduce", "replace"}
    read = {"best", "depth", "orders", "stops", "queue_ahead", "last_px"}
    alone = {"apply", "snapshot", "restore", "to_pandas"}  # the first: test_book_kernels
    assert verbs == compared | read | alone
    assert compared | read <= set(dir(NaiveBook()))


def test_matches_name_maker_taker_price_quantity_and_owners() -> None:
    book = OrderBook()
    old = book.submit(-1, 101, 2, owner=7).order_id
    young = book.submit(-1, 101, 2).order_id
    report = book.submit(1, 103, 5, owner=9)
    assert report.matches == (Match(old, 3, 101, 2, 7, 9), Match(young, 3, 101, 2, 0, 9))
    assert report.resting == 1
    assert book.best(1) == (103, 1)
