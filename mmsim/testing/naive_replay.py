"""The naive replay: the same rules as the kernel in plain Python, written to be read.

Dictionaries and lists, no arrays, no shared code with the kernel. Slow on purpose. The differential
tests run both on the same market and agent and demand equal fills, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mmsim.agent import Quotes
from mmsim.types import EventFlag, EventKind, FillReason

FAR = 2**62
Request = tuple[int, str, int, int, int, int, bool]  # ts, what, order id, side, px, qty, post-only
Maker = Callable[[int, int, int, int], Quotes]  # step, best bid, best ask, inventory -> quotes


Share = Callable[[int, int, int], int]  # ahead, behind, cancelled -> of these, ahead


def proportional(ahead: int, behind: int, gone: int) -> int:
    """Share cancels in proportion, half lots up."""
    return (2 * gone * ahead + ahead + behind) // (2 * (ahead + behind))


@dataclass
class Order:
    """One own order."""

    id: int
    side: int
    px: int
    qty: int  # open at the exchange
    post_only: bool
    live: bool = False  # rests at the exchange
    dead: bool = False
    wanted: int = 0  # open lots as the agent believes
    cancelled: bool = False  # the agent has asked for its cancellation
    ahead: int = 0
    behind: int = 0
    pending: int = 0  # traded at this price since the level was last published
    known: str = "yes"  # "no": level out of view on arrival; "hidden": out of view since
    born: int = 0  # events before it
    sent: int = -FAR  # when its last request arrives


@dataclass
class Replay:
    """Replays rows for one agent; see the module docstring.

    ``rows`` are ``(ts, px, qty, oid, kind, side, flags)``; ``known_at`` when the agent can know each
    (default: when it happens), before the feed latency. ``interval`` 0: a decision at every snapshot.
    """

    rows: list[tuple[int, int, int, int, int, int, int]]
    l3: bool
    start: int
    end: int
    interval: int
    view: int = 0
    feed: int = 0
    latency: Mapping[str, int] = field(default_factory=dict)  # "new", "cancel", "reduce", "market": ns
    ack_latency: int = 0
    decision_latency: int = 0
    max_inventory: int = 10
    share: Share = proportional
    always: bool = False
    consume: bool = False
    inside: str = "through"
    known_at: list[int] | None = None
    book: dict[int, dict[int, int]] = field(default_factory=lambda: {1: {}, -1: {}})
    orders: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # slot -> px, qty, age
    own: list[Order] = field(default_factory=list)
    fills: list[tuple[int, int, int, int, int, int, int]] = field(default_factory=list)
    inventory: int = 0
    told: int = 0  # acknowledged inventory
    next_id: int = 1
    inbox: list[tuple[int, str, int, int]] = field(default_factory=list)  # to the agent
    outbox: list[Request] = field(default_factory=list)  # to the exchange
    last: dict[int, int] = field(default_factory=dict)  # best prices when last looked at
    on_wire: dict[str, int] = field(default_factory=dict)  # arrival of the last request of each kind
    missed: int = 0
    ledger: dict[tuple[int, int], int] = field(default_factory=dict)  # (side, px) -> lots more than the tape

    # ---- the market --------------------------------------------------------------------------
    def best(self, side: int) -> int | None:
        """Return the best price of a side, or None."""
        return (max if side > 0 else min)(self.book[side]) if self.book[side] else None

    def resting(self, side: int) -> list[Order]:
        """Return own resting orders of a side in price-time priority."""
        mine = [o for o in self.own if o.live and o.side == side]
        return sorted(mine, key=lambda o: (-o.px * side, o.id))

    def apply(self, index: int) -> None:
        """Apply event row `index`."""
        ts, px, qty, oid, kind, side, flags = self.rows[index]
        auction = bool(flags & EventFlag.AUCTION)
        if kind == EventKind.CLEAR:
            self.book = {1: {}, -1: {}}
            self.ledger.clear()
        elif kind == EventKind.LEVEL:
            old = self.book[side].get(px, 0)
            for o in self.resting(side):
                if o.px == px:
                    self.level_changed(o, old, qty)
            if qty > 0:
                left = max(qty + min(self.ledger.get((side, px), 0), 0), 0) if self.consume else FAR
                for o in self.resting(-side):
                    if (o.px - px) * o.side >= 0 and left:
                        take = min(o.qty, left)
                        left -= take
                        self.fill(ts, o, take, FillReason.CROSS)
                        self.note(side, px, -take)
            self.set(side, px, qty)
        elif kind == EventKind.HIDE:
            for o in self.resting(side):
                if o.px == px:
                    o.known = "hidden" if o.known == "yes" else o.known
                    o.pending = 0
            self.set(side, px, 0)
        elif kind == EventKind.TRADE:
            rest = -side if side else self.side_of(px)
            if not auction:
                self.trade(ts, rest, px, qty, None)
            best, left = self.best(-rest) if rest else None, qty
            for o in self.resting(-rest) if self.inside == "any" and rest and not auction else []:
                if left and (best is None or (o.px - best) * o.side > 0):
                    take = min(left, o.qty)
                    left -= take
                    self.fill(ts, o, take, FillReason.THROUGH)
        elif kind == EventKind.ADD:
            if not auction:
                left = qty
                for o in self.resting(-side):
                    if (o.px - px) * o.side >= 0 and left:
                        take = min(left, o.qty)
                        left -= take
                        self.fill(ts, o, take, FillReason.CROSS)
                        self.note(side, px, -take)
            self.orders[oid] = (px, qty, -1 if flags & EventFlag.SEED else index)
            self.set(side, px, self.book[side].get(px, 0) + qty)
            for o in self.resting(side):
                if flags & EventFlag.SEED and o.px == px and o.known == "no":
                    o.ahead = self.available(side, px)
        else:
            at, has, age = self.orders[oid]
            gone = has if kind == EventKind.DELETE else qty
            if kind == EventKind.EXECUTE and not auction:
                self.trade(ts, side, px, qty, age)
            self.orders[oid] = (at, has - gone, age)
            after = self.book[side][px] - gone
            for o in self.resting(side):
                if o.px != px:
                    continue
                if kind != EventKind.EXECUTE and 0 <= age < o.born:
                    o.ahead -= min(o.ahead, gone)
                o.ahead = min(o.ahead, after + max(self.ledger.get((side, px), 0), 0))
            self.set(side, px, after)

    def side_of(self, px: int) -> int:
        """Return which side a print without an aggressor hit: the bids below the mid, the asks above."""
        bid, ask = self.best(1), self.best(-1)
        if bid is None or ask is None:
            return 0
        return (2 * px < bid + ask) - (2 * px > bid + ask)

    def set(self, side: int, px: int, qty: int) -> None:
        """Set a level; an empty one does not exist. The ledger takes no more than it holds and ends with it."""
        if qty:
            self.book[side][px] = qty
            self.ledger[side, px] = max(self.ledger.get((side, px), 0), -qty)
        else:
            self.book[side].pop(px, None)
            self.ledger.pop((side, px), None)

    def note(self, side: int, px: int, lots: int) -> None:
        """Note in the liquidity ledger, if there is one, that own fills left `lots` more at a level that stands."""
        if self.consume and (lots < 0 or px in self.book[side]):
            self.ledger[side, px] = self.ledger.get((side, px), 0) + lots

    def available(self, side: int, px: int) -> int:
        """Return the lots at a level that own orders can take or must queue behind."""
        return self.book[side].get(px, 0) + self.ledger.get((side, px), 0)

    # ---- own orders --------------------------------------------------------------------------
    def fill(self, ts: int, o: Order, qty: int, reason: int) -> None:
        """Fill a resting own order at its price."""
        self.book_fill(ts, o.id, o.side, o.px, qty, 1, reason)
        o.qty -= qty
        if o.qty == 0:
            o.live, o.dead = False, True
            self.later(ts, "gone", o.id, 0)

    def look(self) -> None:
        """Remember the best prices of a two-sided book: at fills, at decisions and at the end."""
        bid, ask = self.best(1), self.best(-1)
        if bid is not None and ask is not None:
            self.last = {1: bid, -1: ask}

    def book_fill(self, ts: int, oid: int, side: int, px: int, qty: int, maker: int, reason: int) -> None:
        """Note one fill and tell the agent later."""
        self.look()
        self.fills.append((ts, oid, side, px, qty, maker, int(reason)))
        self.inventory += side * qty
        self.later(ts, "fill", oid, side * qty)

    def trade(self, ts: int, side: int, px: int, qty: int, age: int | None) -> None:
        """Let a trade hit resting orders on `side`: through better prices, then the queue at `px`."""
        if side == 0:
            return
        left, best = qty, self.best(side)
        for o in self.resting(side):
            too_good = self.inside == "strict" and (best is None or (o.px - best) * side > 0)
            if (o.px - px) * side > 0 and left and not too_good:
                take = min(left, o.qty)
                left -= take
                self.fill(ts, o, take, FillReason.THROUGH)
                self.note(side, px, take)
        used = 0
        for o in self.resting(side):
            if o.px != px:
                continue
            if not self.l3:
                eaten = min(o.ahead, left)
                reach = left - eaten
                o.ahead -= eaten
                o.behind -= min(o.behind, reach)
                o.pending += left
            elif age is None:
                reach = left if o.ahead == 0 else 0
            elif age == -1:
                eaten = min(o.ahead, left)
                o.ahead -= eaten
                reach = left - eaten
            elif age < o.born:
                o.ahead -= min(o.ahead, left)
                reach = 0
            else:
                reach = left
            take = min(max(reach - used, 0), o.qty)
            if take:
                used += take
                self.fill(ts, o, take, FillReason.QUEUE)
                self.note(side, px, take)

    def level_changed(self, o: Order, old: int, new: int) -> None:
        """Move a queue position when the published total of its level changes."""
        if new == 0:
            o.ahead = o.behind = 0
        elif o.known == "no":
            o.ahead, o.behind = new, 0
        elif o.known == "hidden":
            o.ahead = min(o.ahead, new)
            o.behind = new - o.ahead
        else:
            change = new - old + o.pending
            if change >= 0:
                o.behind += change
            else:
                gone = -change
                first = gone if o.behind == 0 else max(self.share(o.ahead, o.behind, gone), 0)
                first = min(first, gone, o.ahead)
                o.ahead -= first
                o.behind = max(o.behind - (gone - first), 0)
            o.ahead = min(o.ahead, new + max(self.ledger.get((o.side, o.px), 0), 0))
        o.known, o.pending = "yes", 0

    # ---- messages ------------------------------------------------------------------------------
    def later(self, ts: int, what: str, oid: int, qty: int) -> None:
        """Send a message to the agent."""
        self.inbox.append((ts + self.ack_latency, what, oid, qty))

    def hear(self, what: str, oid: int, qty: int) -> None:
        """Let the agent receive a message."""
        if what == "fill":
            self.told += qty
        for o in list(self.own):
            if o.id == oid and what == "fill":
                o.wanted -= abs(qty)
            if o.id == oid and what == "gone":
                self.own.remove(o)

    def post(
        self, what: str, at: int, oid: int, side: int, px: int, qty: int, post_only: bool, after: int
    ) -> int:
        """Put a request on its way, in order within its kind; return when it takes effect, not before `after`."""
        self.on_wire[what] = max(at + self.latency.get(what, 0), self.on_wire.get(what, -FAR))
        arrives = max(self.on_wire[what], after)
        message = (arrives, what, oid, side, px, qty, post_only)
        self.outbox.append(message)
        self.outbox.sort(key=lambda m: m[0])  # stable: at equal times in order of sending
        return arrives

    def send(self, quotes: Quotes, at: int) -> None:
        """Send the difference between the desired and the live orders."""
        fresh: list[Order] = []
        for side, levels in ((1, quotes.bids), (-1, quotes.asks)):
            wanted = dict(levels)
            for o in self.own:
                if o.side != side or o.cancelled or o.wanted <= 0:
                    continue
                qty = wanted.get(o.px, 0)
                if self.always or not 0 < qty <= o.wanted:
                    self.post("cancel", at, o.id, side, o.px, 0, False, o.sent)
                    o.cancelled = True
                    continue
                if qty < o.wanted:
                    o.sent = self.post("reduce", at, o.id, side, o.px, o.wanted - qty, False, o.sent)
                    o.wanted = qty
                del wanted[o.px]
            fresh += [Order(0, side, px, wanted[px], quotes.post_only) for px, _ in levels if px in wanted]
        if quotes.take:
            side = 1 if quotes.take > 0 else -1
            self.post("market", at, self.next_id, side, 0, abs(quotes.take), False, -FAR)
            self.next_id += 1
        for o in fresh:
            o.id, o.wanted = self.next_id, o.qty
            self.next_id += 1
            self.own.append(o)
            o.sent = self.post("new", at, o.id, o.side, o.px, o.qty, o.post_only, -FAR)

    def receive(self, index: int, message: Request) -> None:
        """Let the exchange receive a request; `index` events were applied before."""
        ts, what, oid, side, px, qty, post_only = message
        room = self.max_inventory - side * self.inventory - sum(o.qty for o in self.resting(side))
        if what == "market":
            if qty <= room:
                self.walk(ts, oid, side, None, qty, FillReason.TAKE)
            return
        o = next((o for o in self.own if o.id == oid), None)
        if what == "new":
            assert o is not None
            there = [p for p in self.book[-side] if self.available(-side, p) > 0]
            opposite = (min if side > 0 else max)(there) if there else None
            crosses = opposite is not None and (px - opposite) * side >= 0
            if qty > room or (crosses and post_only):
                o.dead = True
                self.later(ts, "gone", oid, 0)
                return
            if crosses:
                o.qty = self.walk(ts, oid, side, px, qty, FillReason.TAKE)
                if o.qty == 0:
                    o.dead = True
                    self.later(ts, "gone", oid, 0)
                    return
            seen = sorted(self.book[side], reverse=side > 0)[: self.view or None]
            full = self.view and len(seen) == self.view
            o.known = "no" if full and (seen[-1] - px) * side > 0 else "yes"
            o.live, o.ahead, o.behind, o.pending, o.born = True, self.available(side, px), 0, 0, index
        elif o is not None and o.live:
            if what == "cancel" or qty >= o.qty:
                o.live, o.dead = False, True
                self.later(ts, "gone", oid, 0)
            else:
                o.qty -= qty

    def walk(self, ts: int, oid: int, side: int, limit: int | None, qty: int, reason: int) -> int:
        """Take displayed liquidity of the other side, best level first; return what is left."""
        for px in sorted(self.book[-side], reverse=side < 0):
            if qty == 0 or (limit is not None and (px - limit) * side > 0):
                break
            got = min(qty, self.available(-side, px))
            if got:
                self.book_fill(ts, oid, side, px, got, 0, reason)
                self.note(-side, px, -got)
            qty -= got
        return qty

    # ---- time ------------------------------------------------------------------------------------
    def decision_times(self, known: list[int]) -> list[int]:
        """Return when decisions are due."""
        if self.interval:
            return list(range(self.start, self.end, self.interval))
        due = {t for t, row in zip(known, self.rows, strict=True) if row[6] & EventFlag.LAST}
        return sorted(t for t in due if self.start <= t < self.end)

    def run(self, maker: Maker) -> None:
        """Replay to the end: the earliest thing first; at equal times market, arrival, message, decision."""
        known = [t + self.feed for t in self.known_at or [row[0] for row in self.rows]]
        due = self.decision_times(known)
        eyes = replace(self, book={1: {}, -1: {}}, orders={}, own=[], fills=[], inbox=[], ledger={})
        done = seen = step = 0
        busy = -FAR
        while True:
            lanes = (
                self.rows[done][0] if done < len(self.rows) else FAR,
                self.outbox[0][0] if self.outbox else FAR,
                self.inbox[0][0] if self.inbox else FAR,
                due[0] if due else FAR,
            )
            now = min(lanes)
            if now >= self.end:
                break
            lane = lanes.index(now)
            if lane == 0:
                self.apply(done)
                done += 1
            elif lane == 1:
                self.receive(done, self.outbox.pop(0))
            elif lane == 2:
                self.hear(*self.inbox.pop(0)[1:])
            else:
                due.pop(0)
                while seen < len(self.rows) and known[seen] <= now:
                    eyes.apply(seen)
                    seen += 1
                bid, ask = eyes.best(1), eyes.best(-1)
                if busy > now:
                    self.missed += 1
                elif bid is not None and ask is not None and bid < ask:
                    self.look()
                    busy = now + self.decision_latency
                    self.send(maker(step, bid, ask, self.told), busy)
                    step += 1
        self.close()

    def close(self) -> None:
        """Close what is left by walking the book; beyond it at its worst price, or at the last known of an empty side."""
        self.own.clear()
        self.look()
        side = -1 if self.inventory > 0 else 1
        visible = sorted(self.book[-side], reverse=side < 0)
        rest = self.walk(self.end, 0, side, None, abs(self.inventory), FillReason.CLOSE)
        if rest:
            px = visible[-1] if visible else self.last[-side]
            self.book_fill(self.end, 0, side, px, rest, 0, FillReason.CLOSE)
