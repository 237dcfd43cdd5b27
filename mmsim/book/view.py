"""The matching engine for Python: `OrderBook`, one call per request or an array at once, and `match`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.book import layout as L
from mmsim.book.engine import IN_STATE
from mmsim.book.entry import single_call
from mmsim.book.memory import Memory, compiled_form
from mmsim.book.reader import BookReader, Snapshot, unknown
from mmsim.book.report import (
    STP_MODES,
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

_STP = {mode: i * L.STP_RESTING for i, mode in enumerate(STP_MODES)}
_REASONS = {L.POST_ONLY_REJECT: "post_only", L.FOK_KILLED: "fok", L.SELF_TRADE: "self_trade"}
_pack = struct.Struct("<qiiiiIHBb").pack_into  # a row of L.REQUEST
# The same for requests without display, stop, flags and owner: fewer arguments, half the time.
_pack_plain = struct.Struct("<qii8xQ").pack_into
_BUY, _SELL = (L.LIMIT << 48) + (1 << 56), (L.LIMIT << 48) + (255 << 56)
_TAKE, _HIT = (L.MARKET << 48) + (1 << 56), (L.MARKET << 48) + (255 << 56)
_CANCEL = L.CANCEL << 48
_unpack = struct.Struct("<qqiiHH4x").iter_unpack  # the columns of L.MATCH that a Match has
_IN_STATE = int(IN_STATE)
_new: Any = tuple.__new__  # a NamedTuple's own constructor takes twice as long


@dataclass(frozen=True)
class MatchResult:
    """What a book did with an array of requests.

    ``events`` is a MATCH array in order of execution: trades, and orders that self-trade prevention
    removed or trades triggered (see `mmsim.book.layout`). ``statuses`` is ``(n,)`` int8, one code per request:
    0 done, 1 post-only and 3 fill-or-kill refused, 4 cut short by self-trade prevention, negative: a wrong
    request, which changed nothing. ``book`` is the book afterwards.
    """

    events: npt.NDArray[np.void]
    statuses: npt.NDArray[np.int8]
    book: OrderBook

    @property
    def matches(self) -> npt.NDArray[np.void]:
        """The trades among the events."""
        trades = self.events["kind"] == L.TRADE
        return self.events if trades.all() else self.events[trades]

    def orders(self, side: int) -> Iterator[Resting]:
        """Yield the orders of one side that rest in the book now, first to trade first."""
        return self.book.orders(side)


class OrderBook(BookReader):
    """A limit order book with price-time priority.

    Prices are ticks, quantities lots. Ids are the caller's own (any 64-bit integer but 0), or counted
    from 1 in the order of submission (refused and market orders take one too; numbers of orders in the
    book are passed over). It grows as needed and holds any 32-bit price. It behaves exactly like
    `mmsim.book.naive_book.NaiveBook`; docs/order_book.md has the rules.

    Parameters
    ----------
    stp : str
        Self-trade prevention of requests that name none: ``"off"``, ``"cancel_resting"``,
        ``"cancel_incoming"`` or ``"cancel_both"``. It acts between orders of one `owner` other than 0.
    n_levels, n_orders : int
        Prices and orders to make room for at first.

    Examples
    --------
    >>> book = OrderBook()
    >>> book.submit(+1, 100, 5).resting
    5
    >>> book.submit(-1, 101, 3).order_id
    2
    >>> [(m.maker_id, m.px, m.qty) for m in book.market(-1, 2).matches]
    [(1, 100, 2)]
    >>> book.best(+1), book.best(-1)
    ((100, 3), (101, 3))
    """

    def __init__(self, *, stp: str = "off", n_levels: int = 1024, n_orders: int = 256) -> None:
        self._stp = checked_stp(stp)
        self._flags = _STP[stp]
        super().__init__(Memory(n_orders, n_levels))
        self._request = np.zeros(1, L.REQUEST)
        self._bytes = self._request.view(np.uint8).data
        self._statuses = np.zeros(1, np.int8)
        self._matches = np.zeros(L.MATCHES_OF_ONE, L.MATCH)
        self._rows = self._matches.view(np.uint8).data
        self._run, self._where = single_call(self._memory, self._request, self._statuses, self._matches)

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
        """Trade what crosses, best price and oldest first; rest the remainder.

        Parameters
        ----------
        side : int
            +1 buy, -1 sell.
        px, qty : int
            Limit price in ticks, quantity in lots.
        post_only : bool
            Refuse the order (``accepted=False``, nothing changes) if it would trade.
        slide : bool
            Post-only, but instead of refusing it move it to one tick behind the opposite best price.
        ioc : bool
            Immediate or cancel: drop the remainder.
        fok : bool
            Fill or kill: refuse the order unless all of it trades.
        display : int
            Lots that an iceberg shows at a time, 0: all. It may show at most 1000 times.
        owner : int
            Who sends it, up to 65535; 0: nobody.
        stp : str, optional
            Self-trade prevention, if not the book's.
        order_id : int, optional
            The caller's own id.

        Raises
        ------
        BookError
            If an argument is impossible.
        """
        oid = self._next_id if order_id is None else order_id
        try:
            if (side == 1 or side == -1) and not (  # noqa: PLR1714 (a tuple's test is slower)
                owner or display or post_only or ioc or slide or fok or stp
            ):
                _pack_plain(self._bytes, 0, oid, px, qty, _BUY if side == 1 else _SELL)
            else:
                flags = self._flags if stp is None else _STP[checked_stp(stp)]
                if post_only or slide or ioc or fok:
                    flags |= _kind(post_only, slide, ioc, fok)
                _pack(self._bytes, 0, oid, px, qty, display, 0, flags, owner, L.LIMIT, side)
            resting = self._run(self._where)
            if resting >= 0:
                if order_id is None:
                    self._next_id = oid + 1
                return _new(Report, (oid, True, (), resting, "", (), ()))  # type: ignore[no-any-return]
            return self._answer(order_id, resting)
        except (struct.error, _WrongError):
            checked_side(side)
            checked_px(px)
            checked_display(display, checked_qty(qty), ioc or fok)
            raise _explained(owner, order_id) from None

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
        """Trade at any price; what finds no maker is dropped, or nothing happens with `fok`."""
        oid = self._next_id if order_id is None else order_id
        try:
            if (side == 1 or side == -1) and not (owner or fok or stp):  # noqa: PLR1714
                _pack_plain(self._bytes, 0, oid, 0, qty, _TAKE if side == 1 else _HIT)
            else:
                flags = self._flags if stp is None else _STP[checked_stp(stp)]
                if fok:
                    flags |= L.FOK
                _pack(self._bytes, 0, oid, 0, qty, 0, 0, flags, owner, L.MARKET, side)
            answer = self._run(self._where)
            if answer >= 0:
                if order_id is None:
                    self._next_id = oid + 1
                return _new(Report, (oid, True, (), answer, "", (), ()))  # type: ignore[no-any-return]
            return self._answer(order_id, answer)
        except (struct.error, _WrongError):
            checked_side(side)
            checked_qty(qty)
            raise _explained(owner, order_id) from None

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
        last trade at once, if that has been there. The other parameters are those of `submit`; they apply
        to the order that it becomes.
        """
        flags = self._flags if stp is None else _STP[checked_stp(stp)]
        if post_only or slide or ioc or fok:
            flags |= _kind(post_only, slide, ioc, fok)
        if px is None and (post_only or slide or display):
            raise BookError("expected a px with post_only, slide or display: a market order never rests")
        verb, limit = (L.STOP, 0) if px is None else (L.STOP_LIMIT, px)
        try:
            return self._send(verb, side, limit, qty, display, trigger, owner, flags, order_id)
        except (struct.error, _WrongError):
            checked_side(side)
            checked_px(trigger)
            checked_px(limit)
            checked_display(display, checked_qty(qty), ioc or fok)
            raise _explained(owner, order_id) from None

    def cancel(self, order_id: int) -> int:
        """Remove a resting order or a waiting stop; return the lots it still had, hidden ones included."""
        try:
            _pack_plain(self._bytes, 0, order_id, 0, 0, _CANCEL)
        except struct.error:
            raise unknown(order_id) from None
        had = self._run(self._where)
        if had < 0 and self._collect()[0] != L.DONE:
            raise unknown(order_id)
        return had if had >= 0 else int(self._memory.state.resting)

    def reduce(self, order_id: int, by: int) -> int:
        """Shrink an order in its place, hidden lots first; return what is left (0: it is gone)."""
        try:
            return self._send(L.REDUCE, 0, 0, by, 0, 0, 0, 0, order_id).resting
        except (struct.error, _WrongError):
            had = self._had(order_id)
            by = checked_qty(by)
            raise BookError(f"expected at most the {had} lots that order {order_id} has, was {by}") from None

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
        """Change price and quantity of a resting order, which keeps its id, owner and display quantity.

        Unchanged and "same price, smaller" keep the place in the queue; larger or moved goes to the back,
        and trades if it crosses. A change that is refused leaves the order as it was. A stop cannot be
        replaced: cancel it and send another.
        """
        flags = self._flags if stp is None else _STP[checked_stp(stp)]
        if post_only or slide or ioc or fok:
            flags |= _kind(post_only, slide, ioc, fok)
        try:
            return self._send(L.REPLACE, 0, px, qty, 0, 0, 0, flags, order_id)
        except (struct.error, _WrongError):
            order = self._found(order_id)
            if isinstance(order, Waiting):
                raise unknown(order_id) from None
            px, qty = checked_px(px), checked_qty(qty)
            raise BookError(f"expected fewer lots of an iceberg that shows so few, was {qty}") from None

    def apply(self, requests: npt.NDArray[np.void], *, buffer: int | None = None) -> MatchResult:
        """Execute an array of requests in order, in compiled code.

        Parameters
        ----------
        requests : (n,) REQUEST array
            `oid` is the caller's own id of the order, any 64-bit integer but 0 that no order in the book
            has. A wrong request changes nothing; see ``statuses``. Self-trade prevention is that of the
            request's flags.
        buffer : int, optional
            Events collected before they are put aside; results do not depend on it.

        Raises
        ------
        BookError
            If the array has another layout, or more orders rest than a book can hold.
        """
        if requests.dtype != L.REQUEST or requests.ndim != 1:
            raise BookError(f"expected a one-dimensional REQUEST array, was {requests.dtype}")
        ready = compiled_form(requests)
        statuses = np.zeros(len(ready), np.int8)
        size = max(L.MATCHES_OF_ONE, len(ready) // 4) if buffer is None else max(buffer, 2)
        done: list[npt.NDArray[np.void]] = []
        at, why = 0, L.FULL
        while why == L.FULL:
            rows = np.zeros(size, L.MATCH)
            self._memory.state.n_matches = 0
            at = self._memory.run(ready, at, statuses, rows)
            done.append(rows[: int(self._memory.state.n_matches)])
            why = int(self._memory.state.why)
        return MatchResult(done[0] if len(done) == 1 else np.concatenate(done), statuses, self)

    def restore(self, snapshot: Snapshot) -> None:
        """Become the book of `snapshot`; nothing changes if that is no book.

        Raises
        ------
        BookError
            If its orders cannot stand in one book: crossed prices, an id twice, an impossible quantity.
        """
        least = int(self._memory.state.least)
        copy = OrderBook(n_levels=least, n_orders=max(len(snapshot.orders), 256))
        result = copy.apply(snapshot.orders)
        if result.statuses.any() or len(result.events):
            row = int(np.argmax(result.statuses != 0))
            raise BookError(f"expected the orders of a book at rest, was one that cannot rest in row {row}")
        memory = copy._memory
        if snapshot.last_px is not None:
            memory.state.last = checked_px(snapshot.last_px)
        self._next_id = checked_id(snapshot.next_id)
        self._memory = memory
        self._run, self._where = single_call(memory, self._request, self._statuses, self._matches)

    def __reduce__(self) -> tuple[Any, ...]:
        # copies and pickles are made from a snapshot: the arrays must not be shared, nor their addresses
        return _rebuilt, (self._stp, self.snapshot())

    # -- how ---------------------------------------------------------------------------------------------

    def _send(
        self,
        verb: int,
        side: int,
        px: int,
        qty: int,
        display: int,
        stop: int,
        owner: int,
        flags: int,
        order_id: int | None,
    ) -> Report:
        oid = self._next_id if order_id is None else order_id
        _pack(self._bytes, 0, oid, px, qty, display, stop, flags, owner, verb, side)
        resting = self._run(self._where)
        if resting < 0:
            return self._answer(order_id, resting)
        if order_id is None:
            self._next_id = oid + 1
        return _new(Report, (oid, True, (), resting, "", (), ()))  # type: ignore[no-any-return]

    def _answer(self, order_id: int | None, answer: int) -> Report:
        # the request has run, and there is more to say than how much of it rests
        if answer != _IN_STATE:
            answer = -1 - answer
            n, resting = answer & 0xFFFFFFFF, answer >> 32
            if order_id is None:
                order_id = self._next_id
                self._next_id += 1
            matches = tuple([_new(Match, row) for row in _unpack(self._rows[: 32 * n])])
            return _new(Report, (order_id, True, matches, resting, "", (), ()))  # type: ignore[no-any-return]
        status, events = self._collect()
        while status == L.BAD_ORDER and order_id is None:  # one of the caller's own ids is in the way
            self._next_id += 1
            self._request["oid"] = self._next_id
            self._memory.state.n_matches = 0
            self._memory.run(self._request, 0, self._statuses, self._matches)
            status, events = self._collect()
        if status < 0:
            raise _WrongError
        if order_id is None:
            order_id = self._next_id
            self._next_id += 1
        return Report(
            order_id,
            status not in (L.POST_ONLY_REJECT, L.FOK_KILLED),
            tuple([_new(Match, e[:6]) for e in events if e[6] == L.TRADE]),
            int(self._memory.state.resting),
            _REASONS.get(status, ""),
            tuple([Removed(e[0], e[3]) for e in events if e[6] == L.REMOVED]),
            tuple([e[1] for e in events if e[6] == L.TRIGGERED]),
        )

    def _collect(self) -> tuple[int, list[Any]]:
        # the request's status and its events; sees it through if it stopped on the way
        events: list[Any] = []
        m = self._memory
        while True:
            events += self._matches[: int(m.state.n_matches)].tolist()
            m.state.n_matches = 0
            why = m.state.why
            if why != L.FULL and not m.make_room():
                return int(self._statuses[0]), events
            if why != L.CROWDED:
                m.run(self._request, 0, self._statuses, self._matches)
            else:
                return int(self._statuses[0]), events


def _rebuilt(stp: str, snapshot: Snapshot) -> OrderBook:
    book = OrderBook(stp=stp)
    book.restore(snapshot)
    return book


def match(requests: npt.NDArray[np.void], *, buffer: int | None = None) -> MatchResult:
    """Execute an array of requests on an empty book; see `OrderBook.apply`."""
    return OrderBook().apply(requests, buffer=buffer)


class _WrongError(Exception):
    """The engine refused a request."""


def _kind(post_only: bool, slide: bool, ioc: bool, fok: bool) -> int:
    checked_kind(post_only, slide, ioc, fok)
    return L.POST_ONLY if post_only else L.SLIDE if slide else L.IOC if ioc else L.FOK


def _explained(owner: Any, order_id: Any) -> BookError:
    # what is left to be wrong once side, prices and quantities are known to be right
    checked_owner(owner)
    checked_id(order_id)
    return BookError(f"expected the id of no order in the book, was {order_id}")
