"""The order book as a specification: dictionaries of lists, one obvious statement after another.

`mmsim.book.view.OrderBook` must behave exactly like `NaiveBook`; the stateful test compares them
after every verb. Read this file to learn what the engine does, and the others to learn how it is quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

from mmsim.book.report import (
    MAX_TIPS,
    Match,
    Removed,
    Report,
    Resting,
    Waiting,
    checked_display,
    checked_id,
    checked_kind,
    checked_owner,
    checked_px,
    checked_qty,
    checked_side,
    checked_stp,
)
from mmsim.errors import BookError


@dataclass
class _Order:
    order_id: int
    shown: int
    hidden: int
    display: int  # 0: not an iceberg
    owner: int


class _Terms(NamedTuple):
    """How an order wants to be executed."""

    kind: str = ""  # post_only, slide, ioc, fok
    stp: str = "off"
    display: int = 0
    owner: int = 0


@dataclass
class _Stop:
    order_id: int
    side: int
    trigger: int
    px: int | None  # None: a market order once it is triggered
    qty: int
    terms: _Terms


class NaiveBook:
    """Price-time priority, naively. Prices in ticks, quantities in lots, ids counted from 1.

    Parameters
    ----------
    stp : str
        Self-trade prevention of requests that name none.
    """

    def __init__(self, *, stp: str = "off") -> None:
        self._queues: dict[int, dict[int, list[_Order]]] = {1: {}, -1: {}}
        self._stops: list[_Stop] = []  # oldest first
        self._triggered: list[_Stop] = []  # those that will run, first to run first
        self._stp = checked_stp(stp)
        self._next_id = 1
        self._log: list[Match | Removed | int] = []  # an int: a stop that was triggered
        self.last_px: int | None = None

    # -- requests ----------------------------------------------------------------------------------------

    def submit(
        self,
        side: int,
        px: int,
        qty: int,
        *,
        post_only: bool = False,
        slide: bool = False,
        ioc: bool = False,
        fok: bool = False,
        display: int = 0,
        owner: int = 0,
        stp: str | None = None,
        order_id: int | None = None,
    ) -> Report:
        """Trade what crosses, best price and oldest first; rest the remainder."""
        side, px, qty = checked_side(side), checked_px(px), checked_qty(qty)
        terms = self._terms(post_only, slide, ioc, fok, display, owner, stp, qty)
        return self._run(self._new_id(order_id), side, px, qty, terms)

    def market(
        self,
        side: int,
        qty: int,
        *,
        fok: bool = False,
        owner: int = 0,
        stp: str | None = None,
        order_id: int | None = None,
    ) -> Report:
        """Trade at any price; what finds no maker is dropped."""
        side, qty = checked_side(side), checked_qty(qty)
        terms = self._terms(False, False, not fok, fok, 0, owner, stp, qty)
        return self._run(self._new_id(order_id), side, None, qty, terms)

    def stop(
        self,
        side: int,
        trigger: int,
        qty: int,
        *,
        px: int | None = None,
        post_only: bool = False,
        slide: bool = False,
        ioc: bool = False,
        fok: bool = False,
        display: int = 0,
        owner: int = 0,
        stp: str | None = None,
        order_id: int | None = None,
    ) -> Report:
        """Wait for a trade at `trigger` or beyond, then become a market order, or with `px` a limit order.

        A buy stop is triggered by a trade at or above its trigger, a sell stop by one at or below; by the
        last trade at once, if that has been there.
        """
        side, trigger, qty = checked_side(side), checked_px(trigger), checked_qty(qty)
        px = None if px is None else checked_px(px)
        if px is None and (post_only or slide or display):
            raise BookError("expected a px with post_only, slide or display: a market order never rests")
        terms = self._terms(post_only, slide, ioc, fok, display, owner, stp, qty)
        if px is None and not fok:
            terms = terms._replace(kind="ioc")
        stop = _Stop(self._new_id(order_id), side, trigger, px, qty, terms)
        last = self.last_px
        if last is not None and (last >= trigger if side > 0 else last <= trigger):
            self._log.append(stop.order_id)
            return self._run(stop.order_id, side, px, qty, terms)
        self._stops.append(stop)
        return Report(stop.order_id, True, (), qty)

    def cancel(self, order_id: int) -> int:
        """Remove a resting order or a waiting stop; return the lots it still had, hidden ones included."""
        stop = self._find_stop(order_id)
        if stop is not None:
            self._stops.remove(stop)
            return stop.qty
        side, px, order = self._find(order_id)
        self._remove(side, px, order)
        return order.shown + order.hidden

    def reduce(self, order_id: int, by: int) -> int:
        """Shrink an order in its place, hidden lots first; return what is left (0: it is gone)."""
        order: _Order | _Stop = self._find_stop(order_id) or self._find(order_id)[2]
        by = checked_qty(by)
        had = order.qty if isinstance(order, _Stop) else order.shown + order.hidden
        if by > had:
            raise BookError(f"expected at most the {had} lots that order {order_id} has, was {by}")
        if by == had:
            self.cancel(order_id)
        elif isinstance(order, _Stop):
            order.qty -= by
            order.terms = order.terms._replace(display=min(order.terms.display, order.qty))
        else:
            self._shrink(order, by)
        return had - by

    def replace(
        self,
        order_id: int,
        px: int,
        qty: int,
        *,
        post_only: bool = False,
        slide: bool = False,
        ioc: bool = False,
        fok: bool = False,
        stp: str | None = None,
    ) -> Report:
        """Change price and quantity; only "unchanged" and "same price, smaller" keep the place."""
        side, old_px, order = self._find(order_id)
        px, qty = checked_px(px), checked_qty(qty)
        terms = self._terms(post_only, slide, ioc, fok, 0, order.owner, stp, qty)
        terms = terms._replace(display=order.display)
        if order.display and qty > order.display * MAX_TIPS:
            raise BookError(
                f"expected at most {order.display * MAX_TIPS} lots of an iceberg that shows {order.display}, was {qty}"
            )
        had = order.shown + order.hidden
        refused, px_now = self._tested(side, px, qty, terms)
        if refused:
            return Report(order_id, False, (), had, refused)
        assert px_now is not None
        if px_now == old_px and qty <= had:
            self._shrink(order, had - qty)
            return Report(order_id, True, (), qty)
        self._remove(side, old_px, order)
        return self._run(order_id, side, px_now, qty, terms._replace(kind="ioc" if ioc or fok else ""))

    # -- views -------------------------------------------------------------------------------------------

    def best(self, side: int) -> tuple[int, int] | None:
        """Return price and total quantity shown of the best level, None if the side is empty."""
        levels = self.depth(side, 1)
        return levels[0] if levels else None

    def depth(self, side: int, n: int | None = None) -> list[tuple[int, int]]:
        """Return ``(px, qty)`` of the `n` best levels (default all), best first; hidden lots do not count."""
        queues = self._queues[checked_side(side)]
        prices = sorted(queues, reverse=side > 0)[:n]
        return [(px, sum(o.shown for o in queues[px])) for px in prices]

    def orders(self, side: int) -> Iterator[Resting]:
        """Yield the resting orders of one side, first to trade first."""
        queues = self._queues[checked_side(side)]
        for px in sorted(queues, reverse=side > 0):
            for o in queues[px]:
                yield Resting(o.order_id, side, px, o.shown, o.hidden, o.owner)

    def stops(self, side: int) -> Iterator[Waiting]:
        """Yield the waiting stops of one side, first to be triggered first."""
        side = checked_side(side)
        for s in sorted((s for s in self._stops if s.side == side), key=lambda s: side * s.trigger):
            yield Waiting(s.order_id, side, s.trigger, s.px, s.qty, s.terms.owner)

    def queue_ahead(self, order_id: int) -> int:
        """Return the lots shown that trade before the order at its price."""
        side, px, order = self._find(order_id)
        queue = self._queues[side][px]
        return sum(o.shown for o in queue[: queue.index(order)])

    def __iter__(self) -> Iterator[Resting]:
        yield from self.orders(1)
        yield from self.orders(-1)

    def __len__(self) -> int:
        return sum(1 for _ in self) + len(self._stops)

    def __contains__(self, order_id: object) -> bool:
        return any(o.order_id == order_id for o in self) or any(s.order_id == order_id for s in self._stops)

    # -- rules -------------------------------------------------------------------------------------------

    def _terms(
        self,
        post_only: bool,
        slide: bool,
        ioc: bool,
        fok: bool,
        display: int,
        owner: int,
        stp: str | None,
        qty: int,
    ) -> _Terms:
        checked_kind(post_only, slide, ioc, fok)
        kind = "post_only" if post_only else "slide" if slide else "ioc" if ioc else "fok" if fok else ""
        return _Terms(
            kind,
            self._stp if stp is None else checked_stp(stp),
            checked_display(display, qty, ioc or fok),
            checked_owner(owner),
        )

    def _new_id(self, order_id: int | None) -> int:
        if order_id is not None:
            if checked_id(order_id) in self:
                raise BookError(f"expected the id of no order in the book, was {order_id}")
            return int(order_id)
        while self._next_id in self:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _run(self, order_id: int, side: int, px: int | None, qty: int, terms: _Terms) -> Report:
        # one order, then the stops that it triggers, and those that they trigger
        reason, resting = self._execute(order_id, side, px, qty, terms)
        while self._triggered:
            stop = self._triggered.pop(0)
            self._log.append(stop.order_id)
            self._execute(stop.order_id, stop.side, stop.px, stop.qty, stop.terms)
        log, self._log = self._log, []
        return Report(
            order_id,
            reason not in ("post_only", "fok"),
            tuple(e for e in log if isinstance(e, Match)),
            resting,
            reason,
            tuple(e for e in log if isinstance(e, Removed)),
            tuple(e for e in log if isinstance(e, int)),
        )

    def _tested(self, side: int, px: int | None, qty: int, terms: _Terms) -> tuple[str, int | None]:
        # why an order is refused ("": it is not), and its price, which may slide
        if terms.kind == "fok":
            # would it trade wholly? try, in another world
            world = deepcopy(self)
            world._log = []
            world._take(0, side, px, qty, terms)
            if sum(e.qty for e in world._log if isinstance(e, Match)) < qty:
                return "fok", px
        best = self.best(-side)
        if best is not None and self._crosses(side, px):
            if terms.kind == "post_only":
                return "post_only", px
            if terms.kind == "slide":
                px = best[0] - side  # one tick behind
                if abs(px) > 2**31 - 1:
                    return "post_only", px
        return "", px

    def _execute(self, order_id: int, side: int, px: int | None, qty: int, terms: _Terms) -> tuple[str, int]:
        refused, px = self._tested(side, px, qty, terms)
        if refused:
            return refused, 0
        before = len(self._log)
        left, reason = self._take(order_id, side, px, qty, terms)
        prices = [e.px for e in self._log[before:] if isinstance(e, Match)]
        if left and terms.kind not in ("ioc", "fok"):
            assert px is not None
            shown = min(left, terms.display) if terms.display else left
            order = _Order(order_id, shown, left - shown, terms.display, terms.owner)
            self._queues[side].setdefault(px, []).append(order)
        else:
            left = 0
        if prices:
            self.last_px = prices[-1]
            self._look_at_stops(min(prices), max(prices))
        return reason, left

    def _look_at_stops(self, low: int, high: int) -> None:
        # Buy stops, lowest trigger first, then sell stops, highest trigger first; oldest first among equals.
        # They run after all that were triggered before.
        buys = [s for s in self._stops if s.side > 0 and s.trigger <= high]
        sells = [s for s in self._stops if s.side < 0 and s.trigger >= low]
        buys.sort(key=lambda s: s.trigger)
        sells.sort(key=lambda s: -s.trigger)
        self._triggered += buys + sells
        self._stops = [s for s in self._stops if s not in self._triggered]

    def _crosses(self, side: int, px: int | None) -> bool:
        best = self.best(-side)
        return best is not None and (px is None or (px >= best[0] if side > 0 else px <= best[0]))

    def _take(self, taker: int, side: int, px: int | None, qty: int, terms: _Terms) -> tuple[int, str]:
        # what is left, and "self_trade" if that was the reason to stop
        while qty and self._crosses(side, px):
            best, _ = self.best(-side)  # type: ignore[misc]
            queue = self._queues[-side][best]
            maker = queue[0]
            if terms.stp != "off" and terms.owner and terms.owner == maker.owner:
                if terms.stp in ("cancel_resting", "cancel_both"):
                    self._log.append(Removed(maker.order_id, maker.shown + maker.hidden))
                    self._remove(-side, best, maker)
                if terms.stp in ("cancel_incoming", "cancel_both"):
                    self._log.append(Removed(taker, qty))
                    return 0, "self_trade"
                continue
            done = min(qty, maker.shown)
            self._log.append(Match(maker.order_id, taker, best, done, maker.owner, terms.owner))
            qty -= done
            maker.shown -= done
            if maker.shown == 0:
                self._remove(-side, best, maker)
                if maker.hidden:  # the next lots join the back of the queue
                    maker.shown = min(maker.hidden, maker.display)
                    maker.hidden -= maker.shown
                    self._queues[-side].setdefault(best, []).append(maker)
        return qty, ""

    @staticmethod
    def _shrink(order: _Order, by: int) -> None:
        hidden = min(by, order.hidden)
        order.hidden -= hidden
        order.shown -= by - hidden

    def _find(self, order_id: int) -> tuple[int, int, _Order]:
        for side, queues in self._queues.items():
            for px, queue in queues.items():
                for order in queue:
                    if order.order_id == order_id:
                        return side, px, order
        raise BookError(f"expected the id of a resting order, was {order_id!r}")

    def _find_stop(self, order_id: int) -> _Stop | None:
        return next((s for s in self._stops if s.order_id == order_id), None)

    def _remove(self, side: int, px: int, order: _Order) -> None:
        queue = self._queues[side][px]
        queue.remove(order)
        if not queue:
            del self._queues[side][px]
