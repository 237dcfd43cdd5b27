"""The market that answers: it is the tape as long as nobody quotes, and trades with us as with anybody."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from mmsim._jit import records
from mmsim.agent import Quotes, Strategy
from mmsim.config import LatencyConfig, SimConfig
from mmsim.data import manifest
from mmsim.data.store import generate
from mmsim.errors import ConfigError, DataError, KernelError
from mmsim.flow import arrivals as k
from mmsim.flow.markets import flow_of
from mmsim.flow.zero_intelligence import MAX_ORDERS, Market, generate_events, tables
from mmsim.resolve import session_for
from mmsim.testing.markets import market_from, tiny_market
from mmsim.types import EVENT, Episode, EventFlag, EventKind, FillReason, MarketData

S = 10**9
MS = 10**6
NONE = SimConfig()
REACTIVE = SimConfig(impact="reactive", max_inventory_units=200, max_order_units=100)


def market(**generator) -> MarketData:
    """Return a simulated market of two sessions of ten minutes, in episodes of two minutes."""
    spec = manifest("sim-cu")
    times = [("09:00", "09:10"), ("10:00", "10:10")]
    spec = spec.model_copy(
        update={
            "generator": {**spec.generator, "warmup_s": 60, **generator},
            "instrument": spec.instrument.model_copy(update={"sessions": times}),
        }
    )
    done = generate(spec)
    episodes = []
    for i, segment in enumerate(done.segments):
        opening = int(done.events["ts"][segment.start]) + 60 * S
        episodes += [Episode(i, opening + n * 120 * S, opening + (n + 1) * 120 * S) for n in range(5)]
    data = replace(market_from(done.events), segments=done.segments, generator=spec.generator)
    return replace(data, simulated=True, splits={"test": tuple(episodes)})


@pytest.fixture(scope="module")
def data():
    return market()


@pytest.fixture(scope="module")
def calm():
    """Return a market whose flow does not look at quantities: an order behind the best bid changes no draw."""
    return market(imb_market=0, imb_fill=0, imb_cancel=0, imb_add=0, sweep=0)


class Script(Strategy):
    """Does what the script says at each decision; then keeps the last quotes, without taking again."""

    def __init__(self, *script):
        super().__init__()
        self._script = script

    def reset(self, ctx):
        self.seen = []

    def quote(self, obs):
        self.seen.append(obs.record[0].copy())
        n = len(self.seen) - 1
        if n < len(self._script):
            do = self._script[n]
            self._last = do(obs) if callable(do) else do
            return self._last
        return self._last._replace(take=0)


def rows_of(session):
    return session.inspect().rows


def tape_of(data, episode):
    segment = data.segments[episode.segment]
    tape = data.events[segment.start : segment.stop]
    return tape[tape["ts"] < episode.end_ts]


def physics(result):
    return result.steps[[n for n in result.steps.dtype.names if n not in ("wall_ns", "pad")]].tolist()


# ---- nobody quotes ------------------------------------------------------------------------------------
@pytest.mark.parametrize("latency", [0, 7 * MS])
def test_without_quotes_it_is_the_tape_row_for_row(data, latency):
    tape = session_for(data, NONE.model_copy(update={"latency": LatencyConfig(feed=latency)}))
    live = session_for(data, REACTIVE.model_copy(update={"latency": LatencyConfig(feed=latency)}))
    for episode in data.splits["test"]:
        assert np.array_equal(live.record(episode), tape.record(episode))
        assert rows_of(live).tobytes() == tape_of(data, episode).tobytes()
        a, b = (s.run(Script(Quotes.none()), episode) for s in (tape, live))
        assert physics(a) == physics(b)
        assert a.final_mid2 == b.final_mid2


def test_the_flow_makes_the_same_events_in_pieces(data):
    flow = flow_of(data.generator)
    whole, *_ = generate_events(flow, seed=3, start_ts=S, end_ts=200 * S)
    shared = tables(flow, MAX_ORDERS)
    market = Market(3, S, flow.start_px)
    events = records(np.zeros(len(whole) + 4 * MAX_ORDERS, EVENT))
    assert k.open_market(shared, market.arrays, events) == k.DONE
    rng = np.random.default_rng(0)
    stops = [*np.sort(rng.integers(S, 200 * S, 500)).tolist(), 200 * S]
    for stop in stops:
        assert k.run(shared, market.arrays, events, stop) == k.DONE
        assert market.state["n_events"] == np.searchsorted(whole["ts"], stop)
    assert events[: len(whole)].tobytes() == whole.tobytes()


# ---- somebody rests -----------------------------------------------------------------------------------
def join_bid(qty):
    return lambda obs: Quotes(((obs.bid_px, qty),), ())


def orders_after(rows, ts):
    """Return slot -> lots still open after the rows up to `ts`."""
    left = {}
    for row in rows[rows["ts"] <= ts]:
        if row["kind"] == EventKind.ADD:
            left[int(row["oid"])] = int(row["qty"])
        elif row["kind"] != EventKind.TRADE:
            left[int(row["oid"])] -= int(row["qty"])
    return left


def test_our_order_takes_the_fill_of_the_order_behind_it(calm):
    met = 0
    live = session_for(calm, REACTIVE)
    for n in range(100):
        start = calm.splits["test"][0].start_ts + 5 * n * S
        episode = Episode(0, start, start + 20 * S)
        fills = live.run(Script(join_bid(2)), episode).fills
        tape, rows = tape_of(calm, episode), rows_of(live)
        both = min(len(tape), len(rows))
        fields = [name for name in EVENT.names if name != "flags"]
        apart = np.flatnonzero(rows[fields][:both] != tape[fields][:both])
        if (
            not len(apart)
            or not len(fills)
            or fills["reason"][0] != FillReason.QUEUE
            or rows["ts"][apart[0]] < fills["ts"][0]
        ):
            continue  # not hit, or alone at our price before that, which the flow notices
        n, first = int(apart[0]), fills[0]
        # Nothing differs before our fill: how much stands at the best bid is nobody's business.
        assert rows[n]["ts"] == first["ts"]
        assert (rows[n]["kind"], rows[n]["px"], rows[n]["side"]) == (EventKind.TRADE, first["px"], -1)
        assert rows[n]["qty"] == first["qty"]
        hit = [r[(r["ts"] == first["ts"]) & (r["kind"] == EventKind.EXECUTE)] for r in (tape, rows)]
        spared = int(hit[0]["qty"].sum()) - int(hit[1]["qty"].sum())
        assert 0 <= spared <= first["qty"]
        if len(hit[0]) and orders_after(tape, int(first["ts"]))[int(hit[0]["oid"][-1])] > 0:
            # The order was filled and somebody behind us still had lots: he keeps exactly what we got.
            met += 1
            assert spared == first["qty"]
    assert met >= 5


def test_every_fill_of_ours_is_a_print_and_every_print_a_fill(data):
    episode = data.splits["test"][1]
    live = session_for(data, REACTIVE)
    both = [lambda o: Quotes(((o.bid_px, 3), (o.bid_px - 1, 2)), ((o.ask_px, 3), (o.ask_px + 1, 2)))] * 200
    result = live.run(Script(*both), episode)
    makers = result.fills[result.fills["maker"] == 1]
    prints = rows_of(live)[rows_of(live)["kind"] == EventKind.TRADE]
    assert len(makers) > 20
    assert set(makers["reason"]) == {FillReason.QUEUE}
    assert makers[["ts", "px", "qty", "side"]].tolist() == [
        (ts, px, qty, -side) for ts, px, qty, side in prints[["ts", "px", "qty", "side"]].tolist()
    ]


def test_an_inside_quote_is_seen_by_the_flow(data):
    # Where the spread is wider than a tick, our bid in it is the best one: nobody else's market sale passes it.
    better = 0
    for episode in data.splits["test"]:
        live = session_for(data, REACTIVE)
        inside = [
            lambda o: Quotes(((o.ask_px - 1, 1),), ()) if o.ask_px - o.bid_px > 1 else Quotes.none()
        ] * 240
        fills = live.run(Script(*inside), episode).fills
        rows = rows_of(live)
        for f in fills[fills["maker"] == 1]:
            hit = rows[(rows["ts"] == f["ts"]) & (rows["side"] == 1) & (rows["kind"] == EventKind.EXECUTE)]
            assert (hit["px"] <= f["px"]).all()
            better += f["mid2"] < 2 * f["px"]
    assert better > 0


# ---- somebody takes -----------------------------------------------------------------------------------
def test_what_we_take_is_gone_and_comes_back(data):
    moved = refilled = 0.0
    for episode in data.splits["test"]:
        tape = session_for(data, NONE).record(episode)
        live = session_for(data, REACTIVE)
        agent = Script(Quotes((), (), True, 0), Quotes((), (), True, 80))
        result = live.run(agent, episode)
        takes = result.fills[result.fills["reason"] == FillReason.TAKE]
        assert int(takes["qty"].sum()) == 80
        at = int(takes["ts"][0])
        rows = rows_of(live)
        gone = rows[(rows["ts"] == at) & (rows["side"] == -1) & np.isin(rows["kind"], (2, 3))]
        quiet = rows[(rows["ts"] == at) & (rows["kind"] == EventKind.TRADE)]
        assert int(gone["qty"].sum()) == 80 == int(quiet["qty"].sum())
        assert (quiet["flags"] & EventFlag.AUCTION != 0).all()
        assert quiet["px"].tolist() == takes["px"].tolist()
        depth = np.array(
            [seen["ask_qtys"].sum() for seen in agent.seen], np.float64
        )  # lots on ten ask levels
        assert np.array_equal(agent.seen[1], tape[1])
        moved += agent.seen[2]["ask_px"] - tape[2]["ask_px"]
        px = {int(r["oid"]): int(r["px"] * r["side"]) for r in rows[rows["ts"] <= at]}
        asks = [-px[oid] for oid, qty in orders_after(rows, at).items() if qty and px[oid] < 0]
        assert min(asks) >= takes["px"].max()  # the levels below are swept
        refilled += depth[100] / depth[1]
    n = len(data.splits["test"])
    assert moved / n >= 1  # ticks
    assert 0.6 < refilled / n < 1.6


def test_a_large_order_pushes_the_price_the_way_it_went(data):
    apart = []
    for side in (1, -1):
        for episode in data.splits["test"]:
            live = session_for(data, REACTIVE)
            agent = Script(Quotes((), (), True, side * 80))
            live.run(agent, episode)
            tape = session_for(data, NONE).record(episode)
            mid2 = np.array([seen["bid_px"] + seen["ask_px"] for seen in agent.seen[:40]])
            apart.append(side * (mid2 - tape["bid_px"][:40] - tape["ask_px"][:40])[1:20].mean() / 2)
    assert np.mean(apart) > 0.5  # ticks, over ten seconds
    assert np.mean(np.array(apart) > 0) > 0.6


def test_the_exchange_prevents_a_trade_with_oneself(data):
    # The cancel of the ask is slow, so the bid at its price arrives while it still rests.
    sim = REACTIVE.model_copy(update={"latency": LatencyConfig(order=MS, cancel=900 * MS)})
    live = session_for(data, sim)
    asked = {}

    def ask(obs):
        asked["px"] = obs.ask_px
        return Quotes((), ((obs.ask_px, 1),))

    def bid(obs):
        return Quotes(((asked["px"], 1),), (), False)

    before = session_for(data, NONE).record(data.splits["test"][0])
    agent = Script(ask, bid, Quotes.none())
    result = live.run(agent, data.splits["test"][0])
    assert (
        before[1]["ask_px"] == asked["px"]
    )  # others ask there too: they sell to us, our own ask is passed over
    assert result.fills["reason"][0] == FillReason.TAKE
    asked.clear()

    def inside(obs):  # alone at its price
        asked["px"] = obs.ask_px - 1
        return Quotes((), ((obs.ask_px - 1, 1),))

    wide = next(
        e
        for e in data.splits["test"]
        if (r := session_for(data, NONE).record(e)[0])["ask_px"] - r["bid_px"] > 1
    )
    live = session_for(data, sim)
    result = live.run(Script(inside, bid, Quotes.none()), wide)
    assert result.counters["post_only_rejects"] == 1
    assert not len(result.fills[result.fills["side"] > 0]) or result.fills["reason"][-1] == FillReason.CLOSE


# ---- repeatable, and refused where it makes no sense -----------------------------------------------------
def both_sides(obs):
    shift = -1 if obs.inventory > 2 else 1 if obs.inventory < -2 else 0
    return Quotes(((obs.bid_px + min(shift, 0), 2),), ((obs.ask_px + max(shift, 0), 2),), True, 0)


def test_equal_runs_give_equal_bytes_whatever_ran_before(data):
    first, third = data.splits["test"][0], data.splits["test"][2]
    a = session_for(data, REACTIVE)
    forward = [a.run(Script(*[both_sides] * 240), e).fills.tobytes() for e in (first, third)]
    b = session_for(data, REACTIVE)
    backward = [b.run(Script(*[both_sides] * 240), e).fills.tobytes() for e in (third, first)]
    assert forward == backward[::-1]
    assert len(forward[0]) > 0
    assert hashlib.sha256(forward[0] + forward[1]).hexdigest()[:16] == "83948c91ee027579"


def test_a_recording_cannot_react():
    with pytest.raises(ConfigError, match=r"expects a simulated market.*was a recorded one"):
        session_for(tiny_market(), REACTIVE)


def test_decisions_need_a_grid(data):
    with pytest.raises(ConfigError, match=r"set sim\.decision_interval_ns"):
        session_for(replace(data, decision_ns=0), REACTIVE)


def test_another_tape_is_refused(data):
    other = data.events.copy()
    other["qty"][100] += 1
    with pytest.raises(DataError, match="expected the tape that its generator table makes"):
        session_for(replace(data, events=other), REACTIVE).start(data.splits["test"][0])


def test_two_engines_that_disagree_are_a_bug_that_is_told(data):
    live = session_for(data, REACTIVE)
    obs = live.start(data.splits["test"][0])
    live.step(Quotes(((obs.bid_px, 5),), ()))
    live.step(Quotes(((obs.bid_px, 5),), ()))
    live.inspect().state.own["qty"][0] += 1
    with pytest.raises(KernelError, match="disagree about own orders"):
        live.step(Quotes(((obs.bid_px, 5),), ()))
