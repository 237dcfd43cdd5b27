"""What must hold for every market, maker and latency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.agent import Observation, Quotes, Strategy, within_limits
from mmsim.config import SimConfig
from mmsim.metrics import EpisodeResult
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim.types import FillReason, MarketData

LEVELS = st.sampled_from(["L3", "L2", "snapshot"])
LATENCY = st.sampled_from([0, 3_000_000, 600_000_000])


class Symmetric(Strategy):
    """Quotes both sides at an offset, shifted against its inventory; mirrors with the market."""

    offset: int = 0
    size: int = 2

    def reset(self, ctx) -> None:  # type: ignore[no-untyped-def]
        self._ctx = ctx

    def quote(self, obs: Observation) -> Quotes:
        shift = -obs.inventory // 2 if obs.inventory < 0 else -(obs.inventory // 2)
        return within_limits(
            obs.bid_px - self.offset + min(shift, 0), obs.ask_px + self.offset + max(shift, 0), self.size,
            obs, self._ctx,
        )  # fmt: skip


def run(data: MarketData, sim: SimConfig, agent: Strategy | None = None) -> EpisodeResult:
    return Session(data, sim).run(agent or Symmetric(), data.splits["test"][0])


@settings(max_examples=25, deadline=None)
@given(LEVELS, st.integers(0, 9999), LATENCY, st.integers(0, 1))
def test_ledger_is_the_sum_of_its_fills(level: str, seed: int, latency: int, offset: int) -> None:
    data = tiny_market(seed, level=level, seconds=30, events_per_second=30)  # type: ignore[arg-type]
    result = run(data, SimConfig(latency={"order": latency}), Symmetric(offset=offset))
    fills = result.fills
    signed = fills["side"].astype(np.int64) * fills["qty"]
    assert int(signed.sum()) == 0  # flat at the end
    assert np.abs(np.cumsum(signed)).max(initial=0) <= result.max_inventory
    assert (np.diff(fills["ts"]) >= 0).all()
    cash = -np.cumsum(signed * fills["px"])
    for step in result.steps:
        k = int(np.searchsorted(fills["ts"], step["ts"], side="right"))
        k -= int((fills["reason"][:k] == FillReason.CLOSE).sum())
        assert int(step["inventory"]) == int(signed[:k].sum())
        assert int(step["cash"]) == (int(cash[k - 1]) if k else 0)
        assert int(step["traded_qty"]) == int(fills["qty"][:k].sum())


@settings(max_examples=25, deadline=None)
@given(LEVELS, st.integers(0, 9999), LATENCY)
def test_a_maker_is_filled_at_its_own_price(level: str, seed: int, latency: int) -> None:
    data = tiny_market(seed, level=level, seconds=30, events_per_second=30)  # type: ignore[arg-type]
    result = run(data, SimConfig(latency={"order": latency, "ack": latency}))
    asked = result.steps[result.steps["asked"] == 1]
    for f in result.fills[result.fills["reason"] != FillReason.CLOSE]:
        row = asked[f["decision"]]
        want = row["own_bid_px"] if f["side"] > 0 else row["own_ask_px"]
        assert int(f["px"]) == int(want)
        assert f["maker"] == 1
        assert f["ts"] >= row["ts"] + latency


@settings(max_examples=20, deadline=None)
@given(LEVELS, st.integers(0, 9999), LATENCY)
def test_mirrored_market_mirrors_the_fills(level: str, seed: int, latency: int) -> None:
    data = tiny_market(seed, level=level, seconds=30, events_per_second=30)  # type: ignore[arg-type]
    flipped = data.events.copy()
    centre = data.px_min + data.px_max
    flipped["px"] = centre - flipped["px"]
    flipped["side"] = -flipped["side"]
    mirror = replace(data, events=flipped)
    a, b = (run(d, SimConfig(latency={"order": latency})) for d in (data, mirror))
    fields = ["ts", "side", "px", "qty", "maker", "reason"]  # order ids: bids are sent before asks
    image = [(ts, -side, centre - px, *rest) for ts, side, px, *rest in a.fills[fields].tolist()]
    assert sorted(image) == sorted(b.fills[fields].tolist())
    earned = [-int((r.fills["side"] * r.fills["qty"].astype(np.int64) * r.fills["px"]).sum()) for r in (a, b)]
    assert earned[0] == earned[1]


@settings(max_examples=20, deadline=None)
@given(LEVELS, st.integers(0, 9999), LATENCY, st.floats(0.2, 0.9))
def test_the_future_does_not_change_the_past(level: str, seed: int, latency: int, part: float) -> None:
    data = tiny_market(seed, level=level, seconds=30, events_per_second=30)  # type: ignore[arg-type]
    episode = data.splits["test"][0]
    cut = episode.start_ts + int(part * (episode.end_ts - episode.start_ts))
    keep = data.events["ts"] <= cut
    segment = data.segments[episode.segment]
    stop = segment.start + int(keep[segment.start : segment.stop].sum())
    other = replace(data, segments=tuple(replace(s, stop=stop) if s is segment else s for s in data.segments))
    whole, cropped = (run(d, SimConfig(latency={"order": latency})) for d in (data, other))
    assert (
        whole.fills[whole.fills["ts"] <= cut].tolist() == cropped.fills[cropped.fills["ts"] <= cut].tolist()
    )
    before = whole.steps["ts"] <= cut
    fields = [n for n in whole.steps.dtype.names or () if n not in ("wall_ns", "pad")]
    n = int(before.sum())
    assert whole.steps[fields][:n].tolist() == cropped.steps[fields][:n].tolist()


@settings(max_examples=10, deadline=None)
@given(LEVELS, st.integers(0, 9999))
def test_same_input_same_bytes(level: str, seed: int) -> None:
    data = tiny_market(seed, level=level, seconds=20)  # type: ignore[arg-type]
    session = Session(data)
    first = session.run(Symmetric(), data.splits["test"][0])
    session.run(Symmetric(offset=1), data.splits["train"][0])  # whatever ran between
    again = session.run(Symmetric(), data.splits["test"][0])
    assert first.fills.tobytes() == again.fills.tobytes()


@settings(max_examples=10, deadline=None)
@given(LEVELS, st.integers(0, 9999))
def test_recording_sees_what_a_live_agent_sees(level: str, seed: int) -> None:
    data = tiny_market(seed, level=level, seconds=20)  # type: ignore[arg-type]
    seen = []

    class Watch(Strategy):
        def quote(self, obs: Observation) -> Quotes:
            seen.append(obs.record.copy())
            return Quotes.none()

    session = Session(data)
    session.run(Watch(), data.splits["test"][0])
    rows = np.concatenate(seen)
    assert np.array_equal(rows, session.record(data.splits["test"][0]))
    assert int(rows["buy_qty"].sum() + rows["sell_qty"].sum()) > 0
