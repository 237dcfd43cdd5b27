"""The same rows and orders through hftbacktest and through mmsim: docs/hftbacktest.md, and longer streams.

Needs an interpreter that has hftbacktest (``MMSIM_PEER_PYTHON``, or ``.venv-bench`` as `make bench` makes it).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.bench.agents import TouchMaker, simulation
from mmsim.bench.checkout import peer_module
from mmsim.bench.inputs import Input, Inputs
from mmsim.bench.stream import wrap
from mmsim.config import SimConfig
from mmsim.errors import BenchError
from mmsim.sim.session import Session
from mmsim.types import EVENT, Episode, EventFlag, EventKind, FillReason

ROWS = 300_000
PEER = peer_module()
T0 = 1_700_000_000_000_000_000
MS = 1_000_000
TRAVEL_NS = 100_000  # of an order in the document's blocks
DOC = Path(__file__).resolve().parents[2] / "docs" / "hftbacktest.md"
SIDES = {"bid": 1, "ask": -1, "buy": 1, "sell": -1, "print": 0}
Fill = tuple[int, int, int, int, int]  # order id, side, price, quantity, ns after the first row


@pytest.fixture(scope="module")
def peer() -> Iterator[Any]:
    python = PEER.find_python()
    if python is None:
        pytest.skip("no interpreter with hftbacktest: set MMSIM_PEER_PYTHON, or run make bench once")
    with PEER.Peer(python) as running:
        yield running


# ---- the document's blocks ---------------------------------------------------------------------------


@dataclass
class Block:
    title: str
    level: str
    option: str  # "", "partial" or "power"
    rows: list[tuple[int, int, int, int, int, int, int]] = field(default_factory=list)  # as in EVENT
    sent: dict[int, list[tuple[int, int, int, bool]]] = field(
        default_factory=dict
    )  # ns -> side, px, qty, post
    fills: dict[str, list[Fill]] = field(default_factory=dict)
    code: int | None = None


def _expected(text: str) -> list[Fill]:
    if text == "nothing":
        return []
    out = []
    for part in text.split("; "):
        found = re.fullmatch(r"#(\d+) (buy|sell)s (\d+) at (\d+), ([\d.]+) ms", part)
        assert found, part
        out.append(
            (int(found[1]), SIDES[found[2]], int(found[4]), int(found[3]), round(float(found[5]) * MS))
        )
    return out


def _blocks() -> list[Block]:
    out: list[Block] = []
    title = ""
    block: Block | None = None
    orders: dict[str, tuple[int, int, int]] = {}  # name -> slot, side, px
    for line in DOC.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            title = line.strip("# ")
        if line.startswith("```"):
            if block is not None:
                out.append(block)
                block = None
            elif line.startswith("```L"):
                level, _, option = line[3:].partition(" ")
                block, orders = Block(f"{title} ({len(out)})", level, option), {}
            continue
        if block is None:
            continue
        if line.startswith("="):
            who, text = line[1:].split(maxsplit=1)
            if text.startswith("code"):
                block.code = int(text.split()[1])
                continue
            for name in ("mmsim", "hftbacktest") if who == "both" else (who,):
                block.fills[name] = _expected(text)
            continue
        at, verb, rest = line.split(maxsplit=2)
        ns = round(float(at) * MS)
        words = rest.split()
        if verb == "we":
            levels = [part.split() for part in rest.removesuffix(" take").split(", ")]
            block.sent[ns] = [(SIDES[s], int(px), int(q), not rest.endswith("take")) for s, px, q in levels]
            continue
        if verb == "add":
            slot, side, px = len(orders), SIDES[words[1]], int(words[2])
            orders[words[0]] = slot, side, px
            row = (px, int(words[3]), slot, EventKind.ADD, side)
        elif verb in {"fill", "cancel"}:
            slot, side, px = orders[words[0]]
            kind = EventKind.EXECUTE if verb == "fill" else EventKind.DELETE
            row = (px, int(words[1]) if verb == "fill" else _left(block.rows, slot), slot, kind, side)
        elif verb == "hide":
            row = (int(words[1]), 0, 0, EventKind.HIDE, SIDES[words[0]])
        else:
            kind = EventKind.LEVEL if verb in {"bid", "ask"} else EventKind.TRADE
            row = (int(words[0]), int(words[1]), 0, kind, SIDES[verb])
        block.rows.append((T0 + ns, *map(int, row), int(EventFlag.LAST)))
    return out


def _left(rows: list[tuple[int, int, int, int, int, int, int]], slot: int) -> int:
    return sum(qty if kind == EventKind.ADD else -qty for _, _, qty, oid, kind, _, _ in rows if oid == slot)


BLOCKS = _blocks()


class Planned(Strategy):
    """Sends the orders of a block and leaves them alone."""

    plan: dict[int, list[tuple[int, int, int, bool]]]
    now = Quotes.none()

    def quote(self, obs: Observation) -> Quotes:
        if obs.ts - T0 in self.plan:
            sent = self.plan[obs.ts - T0]
            bids = tuple((px, qty) for side, px, qty, _ in sent if side > 0)
            asks = tuple((px, qty) for side, px, qty, _ in sent if side < 0)
            self.now = Quotes(bids, asks, post_only=sent[0][3])
        elif obs.ts - T0 > min(self.plan):
            # only what is still open: the rest of a partial fill stays where it is
            live = obs.orders
            bids = tuple((int(o["px"]), int(o["qty"])) for o in live if o["side"] > 0)
            asks = tuple((int(o["px"]), int(o["qty"])) for o in live if o["side"] < 0)
            self.now = Quotes(bids, asks, post_only=self.now.post_only)
        return self.now


def _with_end(block: Block) -> np.ndarray:
    rows = np.array(block.rows, EVENT)
    last = rows[:1].copy()  # a repeated first row far away, so that everything on its way arrives
    last["ts"] = rows["ts"][-1] + 10 * MS
    if block.level == "L3":
        last["oid"], last["px"] = 1000, 90 if rows["side"][0] > 0 else 110
    return np.concatenate([rows, last])


def _ours(block: Block) -> list[Fill]:
    events = _with_end(block)
    data = wrap("block", events, block.level, None)
    sim = SimConfig(
        latency={"order": TRAVEL_NS, "ack": TRAVEL_NS},
        decision_interval_ns=MS,
        queue_model="risk_averse",
    )
    session = Session(data, sim)
    agent = Planned()
    agent.plan = block.sent
    session.run(agent, Episode(0, T0 + MS, int(events["ts"][-1])))
    fills = session.fills[session.fills["reason"] != FillReason.CLOSE]
    return [
        (int(f["order_id"]), int(f["side"]), int(f["px"]), int(f["qty"]), int(f["ts"]) - T0) for f in fills
    ]


def _theirs(block: Block, peer: Any) -> tuple[list[Fill], int]:
    events = _with_end(block)
    if block.level == "L3":
        feed = PEER.published(events)
        rows = [[int(r[n]) for n in ("ts", "order_id", "px", "qty", "kind", "side")] for r in feed]
    else:
        rows = [[int(r[n]) for n in ("ts", "px", "qty", "kind", "side")] for r in events]
    orders, sides = [], {}
    for ns, sent in block.sent.items():
        for side, px, qty, post in sent:
            sides[len(orders) + 1] = side
            orders.append([ns, len(orders) + 1, side, px, qty, int(post)])
    answer = peer.ask(
        do="script", level=block.level, rows=rows, orders=orders, partial=block.option == "partial",
        queue="power" if block.option == "power" else "risk", lot=0.001 if block.option == "power" else 1.0,
        order_ns=TRAVEL_NS, ack_ns=TRAVEL_NS,
    )  # fmt: skip
    fills = [
        (int(oid), sides[int(oid)], o["px"], round(o["qty"]), o["ts"] - T0)
        for oid, o in answer["orders"].items()
        if o["qty"] > 0
    ]
    return fills, answer["rc"]


def test_the_document_has_blocks_for_every_section() -> None:
    assert len(BLOCKS) >= 17
    assert all("mmsim" in b.fills and ("hftbacktest" in b.fills or b.code) for b in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.title)
def test_what_the_document_says_of_mmsim(block: Block) -> None:
    assert _ours(block) == block.fills["mmsim"]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.title)
def test_what_the_document_says_of_hftbacktest(block: Block, peer: Any) -> None:
    fills, code = _theirs(block, peer)
    if block.code is not None:
        assert code == block.code
        return
    assert code == 1  # the end of the data
    assert fills == block.fills["hftbacktest"]


# ---- long streams ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(isolated_cache: Path) -> Inputs:
    return Inputs(ROWS)


def _run(source: Input, queue: str, agent: TouchMaker) -> np.ndarray:
    sim = simulation().model_copy(update={"queue_model": queue})
    session = Session(source.data, sim)
    fills = session.run(agent, source.data.splits["test"][0]).fills
    return fills[fills["reason"] != FillReason.CLOSE]


def _log(peer: Any, source: Input, agent: TouchMaker, **options: object) -> dict[int, tuple[int, int, int]]:
    peer.load(PEER.request(source))
    answer = peer.ask(do="run", what="maker", log=50_000, lean=agent.lean, back=agent.back, **options)[
        "check"
    ]
    assert answer["rc"] == 1
    log = {row[0]: (row[1], row[2], row[3]) for row in answer["log"]}
    assert len(log) == answer["fills"]
    return log


@pytest.mark.parametrize("back", [0, 1])
def test_l2_risk_averse_fills_are_equal_order_by_order(inputs: Inputs, peer: Any, back: int) -> None:
    source = inputs.get("L2")
    agent = TouchMaker(back=back)
    fills = _run(source, "risk_averse", agent)
    ours = {int(f["order_id"]): (int(f["side"]), int(f["px"]), int(f["ts"])) for f in fills}
    assert len(ours) == len(fills)  # one lot each: no order twice
    assert ours == _log(peer, source, agent, queue="risk")
    assert len(ours) > (500 if back == 0 else 5)
    assert back or {FillReason.QUEUE, FillReason.THROUGH, FillReason.CROSS} <= set(fills["reason"].tolist())


def test_l2_power_fills_are_equal_but_for_whole_lots(inputs: Inputs, peer: Any) -> None:
    source = inputs.get("L2")
    agent = TouchMaker(lean=10**9)  # quotes do not depend on fills: one difference does not cause the next
    fills = _run(source, "power", agent)
    theirs = _log(peer, source, agent, queue="power")
    ours = {int(f["order_id"]): (int(f["side"]), int(f["px"]), int(f["ts"])) for f in fills}
    queued = set(fills["order_id"][fills["reason"] == FillReason.QUEUE].tolist())
    unequal = {oid for oid in ours.keys() | theirs.keys() if ours.get(oid) != theirs.get(oid)}
    assert len(unequal) <= 0.02 * len(ours)
    assert unequal & ours.keys() <= queued
    assert len(ours) > 500


def test_l3_fills_are_equal_but_for_trades_through(inputs: Inputs, peer: Any) -> None:
    source = inputs.get("L3")
    agent = TouchMaker(lean=10**9)  # quotes do not depend on fills: one difference does not cause the next
    fills = _run(source, "proportional", agent)
    theirs = _log(peer, source, agent)
    through = fills["reason"] == FillReason.THROUGH
    ours = {int(f["order_id"]): (int(f["side"]), int(f["px"]), int(f["ts"])) for f in fills[~through]}
    assert len(ours) > 300
    assert {oid: fill for oid, fill in theirs.items() if oid in ours} == ours
    # the others: filled through the price by mmsim; by hftbacktest later, when touched, or never
    early = {int(f["order_id"]): int(f["ts"]) for f in fills[through]}
    rest = {oid: fill for oid, fill in theirs.items() if oid not in ours}
    assert set(rest) <= set(early)
    assert all(fill[2] >= early[oid] for oid, fill in rest.items())
    assert len(early) > 50


def test_a_request_that_fails_is_reported(peer: Any) -> None:
    with pytest.raises(BenchError, match="could not do 'load': FileNotFoundError"):
        peer.load({"do": "load", "level": "L2", "events": "no-such-file.npy"})
