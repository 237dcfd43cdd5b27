"""Arbitrary event arrays: a status and a `DataError` with its row, never a crash, a hang or a wrong book."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.agent import Observation, Quotes, Strategy
from mmsim.config import SimConfig
from mmsim.errors import DataError
from mmsim.sim.session import Session
from mmsim.testing.markets import T0, tiny_market
from mmsim.types import EVENT, Episode, EventKind, Segment

S = 1_000_000_000


class Both(Strategy):
    def quote(self, obs: Observation) -> Quotes:
        held = obs.inventory
        return Quotes(((obs.bid_px, 2),) if held < 5 else (), ((obs.ask_px, 2),) if held > -5 else ())


def market(events: np.ndarray, level: str, slots: int = 4):
    base = tiny_market(1, level=level, seconds=1)
    return replace(
        base, events=events, segments=(Segment(0, len(events)),), n_slots=slots if level == "L3" else 0,
        px_min=100, px_max=110, decision_ns=S // 4, max_inventory_units=10,
    )  # fmt: skip


def check_book(session: Session) -> None:
    """Best prices, level counts and the order table agree with the ladder."""
    state, lad, slots = session.inspect()[:3]
    book = state.book
    assert (lad[:2] >= 0).all()
    bids, asks = (np.flatnonzero(lad[row]) for row in (0, 1))
    assert (len(bids), len(asks)) == tuple(book.levels)
    assert book.best[0] == (bids[-1] if len(bids) else -1)
    assert book.best[1] == (asks[0] if len(asks) else lad.shape[1])
    if session.data.level == "L3":
        held = np.zeros_like(lad[:2], np.int64)
        for slot in slots[slots["qty"] > 0]:
            px = int(slot["px"])
            held[0 if px > 0 else 1, abs(px) - book.base_px] += int(slot["qty"])
        assert (held == lad[:2]).all()


def play(data, **sim: object) -> str:
    session = Session(data, SimConfig(**sim))  # type: ignore[arg-type]
    episode = Episode(0, T0, T0 + 20 * S)
    try:
        result = session.run(Both(), episode)
    except DataError as err:
        check_book(session)
        return str(err) if err.row is not None and 0 <= err.row < len(data.events) else f"no row: {err}"
    check_book(session)
    signed = result.fills["side"].astype(np.int64) * result.fills["qty"]
    assert int(signed.sum()) == 0
    assert np.abs(np.cumsum(signed)).max(initial=0) <= 10
    return ""


PLAUSIBLE = st.tuples(
    st.integers(0, S // 2), st.integers(98, 113), st.integers(0, 9), st.integers(0, 5),
    st.sampled_from([*map(int, EventKind), 0, 9]), st.sampled_from([1, -1, 1, -1, 0, 2]),
    st.sampled_from([1, 1, 1, 0, 8, 9, 16, 31]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(PLAUSIBLE, max_size=60), st.sampled_from(["L3", "L2", "snapshot"]),
    st.sampled_from(["none", "consume"]), st.sampled_from(["through", "any", "strict"]),
)  # fmt: skip
def test_plausible_nonsense(rows: list[tuple[int, ...]], level: str, impact: str, inside: str) -> None:
    events = np.zeros(len(rows) + 2, EVENT)
    kind = EventKind.ADD if level == "L3" else EventKind.LEVEL
    events[0] = (T0 - 5, 103, 5, 0, kind, 1, 1)
    events[1] = (T0 - 5, 107, 5, 1, kind, -1, 1)
    ts = T0
    for k, (gap, *rest) in enumerate(rows):
        ts += gap
        events[k + 2] = (ts, *rest)
    assert not play(market(events, level), impact=impact, inside=inside).startswith("no row")


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=24, max_size=24 * 40), st.sampled_from(["L3", "L2", "snapshot"]), st.booleans())
def test_arbitrary_bytes(raw: bytes, level: str, sorted_times: bool) -> None:
    events = np.frombuffer(raw[: len(raw) // 24 * 24], EVENT).copy()
    if sorted_times:
        events["ts"] = T0 + np.arange(len(events)) * 1000
    # A far price is a large window; the limit of what is mapped is another test's.
    events["px"] = np.where(np.abs(events["px"].astype(np.int64)) < 2**22, events["px"], 105)
    assert not play(market(events, level)).startswith("no row")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((T0, 105, 5, 0, 1, 1, 1), "BAD_ORDER"),  # slot 0 is taken
        ((T0, 105, 5, 2, 1, 0, 1), "BAD_SIDE"),
        ((T0, 105, 5, 9, 1, 1, 1), "BAD_ORDER"),  # beyond n_slots
        ((T0, 103, 6, 0, 4, 1, 1), "BAD_ORDER"),  # more than it holds
        ((T0, 103, 2, 0, 4, -1, 1), "BAD_ORDER"),  # the order is a bid
        ((T0, 103, 2**31 - 1, 2, 1, 1, 1), "BAD_QTY"),  # the level would overflow
        ((T0, 103, -1, 2, 1, 1, 1), "BAD_QTY"),
        ((T0 - 99, 103, 1, 2, 1, 1, 1), "BAD_TIME"),
        ((T0, -103, 1, 2, 1, 1, 1), "BAD_PRICE"),
        ((T0, 103, 1, 2, 12, 1, 1), "BAD_KIND"),
    ],
)
def test_each_defect_has_its_name_and_row(row: tuple[int, ...], message: str) -> None:
    events = np.array([(T0 - 5, 103, 5, 0, 1, 1, 1), (T0 - 5, 107, 5, 1, 1, -1, 1), row], EVENT)
    text = play(market(events, "L3"))
    assert message in text
    assert "row 2" in text
