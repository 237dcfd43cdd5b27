"""The real L3 days keep the rules that the simulator relies on: price-time priority, and every lot accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.data import load
from mmsim.sim.session import Session
from mmsim.types import EventFlag, EventKind, MarketData

pytestmark = pytest.mark.slow
K = EventKind

Level = dict[int, list[int]]  # slot -> [lots, 1 if its age is unknown], oldest first


class NaiveBook:
    """Orders by side and price in plain dictionaries, counting executions that break priority."""

    def __init__(self) -> None:
        self.book: dict[int, dict[int, Level]] = {1: {}, -1: {}}
        self.lots = {"in": 0, "traded": 0, "left": 0, "hidden": 0}
        self.executions = self.not_best = self.not_oldest = 0

    def apply(self, px: int, qty: int, oid: int, kind: int, side: int, flags: int) -> None:
        if kind == K.CLEAR:
            self.lots["left"] += self.resting()
            self.book = {1: {}, -1: {}}
        elif kind == K.HIDE:
            self.lots["hidden"] += sum(o[0] for o in self.book[side].pop(px, {}).values())
        elif kind == K.ADD:
            self.book[side].setdefault(px, {})[oid] = [qty, int(bool(flags & EventFlag.SEED))]
            self.lots["in"] += qty
        elif kind != K.TRADE:
            level = self.book[side][px]
            gone = level[oid][0] if kind == K.DELETE else qty
            if kind == K.EXECUTE and not flags & EventFlag.AUCTION:
                self.priority(px, oid, side, level)
            self.lots["traded" if kind == K.EXECUTE else "left"] += gone
            level[oid][0] -= gone
            assert level[oid][0] >= 0
            if level[oid][0] == 0:
                del level[oid]
                if not level:
                    del self.book[side][px]

    def priority(self, px: int, oid: int, side: int, level: Level) -> None:
        self.executions += 1
        best = (max if side > 0 else min)(self.book[side])
        oldest = next(iter(level))
        self.not_best += px != best
        self.not_oldest += oid != oldest and not level[oldest][1] and not level[oid][1]

    def resting(self) -> int:
        return sum(o[0] for side in self.book.values() for level in side.values() for o in level.values())


class Nothing(Strategy):
    def quote(self, obs: Observation) -> Quotes:
        return Quotes.none()


def ladder(session: Session) -> dict[int, dict[int, int]]:
    seen = session.inspect()
    rows = ((1, seen.ladder[0]), (-1, seen.ladder[1]))
    return {
        side: {int(ix + seen.state.book.base_px): int(row[ix]) for ix in row.nonzero()[0]}
        for side, row in rows
    }


def day(name: str, home: Path) -> MarketData:
    return load(name, data_home=home, progress=False)


@pytest.mark.parametrize(("name", "executions", "not_oldest"), [("moutai", 18_139, 0), ("amzn", 8_974, 9)])
def test_priority_and_conservation(name: str, executions: int, not_oldest: int, real_data_home: Path) -> None:
    data = day(name, real_data_home)
    session = Session(data)
    seen = [0, 0, 0]
    for number, segment in enumerate(data.segments):
        naive = NaiveBook()
        episodes = [e for split in data.splits.values() for e in split if e.segment == number]
        stops = sorted((e.end_ts, e) for e in episodes)
        for row in range(segment.start, segment.stop):
            ts, *event = data.events[row].tolist()
            while stops and ts >= stops[0][0]:
                session.run(Nothing(), stops.pop(0)[1])
                sums = {
                    side: {px: sum(o[0] for o in level.values()) for px, level in levels.items()}
                    for side, levels in naive.book.items()
                }
                assert ladder(session) == sums  # the kernel's book is the naive one
                assert int(session.inspect().slots["qty"].sum()) == naive.resting()
                assert session.inspect().state.replay.row == row
            naive.apply(*event)
            lots = naive.lots
        assert lots["in"] == lots["traded"] + lots["left"] + lots["hidden"] + naive.resting()
        seen = [
            a + b for a, b in zip(seen, (naive.executions, naive.not_best, naive.not_oldest), strict=True)
        ]
    # amzn: nine executions hit a younger order than the oldest that its five visible levels show
    assert seen == [executions, 0, not_oldest]
