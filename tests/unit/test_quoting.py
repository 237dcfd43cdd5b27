"""The quoter: scaled states and integer quotes."""

import dataclasses
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmsim.agent import Observation, Quotes, SessionContext
from mmsim.errors import ConfigError
from mmsim.features import FEATURES, N_FEATURES, feature_rows
from mmsim.quoting import N_STATE, STATE, Quoter, QuoterSpec, scaling
from mmsim.records import OBSERVATION
from mmsim.types import OWN_ORDER, Instrument


def observation(bid=100, ask=101, inventory=0, left_s=1000.0, qty=(8, 4), orders=()):
    record = np.zeros(1, OBSERVATION)
    record["bid_px"], record["ask_px"], record["n_bid"], record["n_ask"] = bid, ask, 1, 1
    record["bid_qty"], record["ask_qty"] = qty
    record["inventory"], record["time_left"], record["n_orders"] = inventory, round(left_s * 1e9), len(orders)
    rows = np.zeros(len(orders), OWN_ORDER)
    for row, (px, ahead, side) in zip(rows, orders, strict=True):
        row["px"], row["queue_ahead"], row["side"], row["qty"], row["order_id"] = px, ahead, side, 1, 7
    return Observation(record, rows)


def ready(spec=None, unit=1):
    ctx = SessionContext(
        instrument=Instrument("X", Decimal(1)), dataset="x", max_inventory=10 * unit, max_order=10 * unit,
        max_levels=5, unit=unit, start_ts=0, end_ts=10**12, decision_ns=5 * 10**8, rng=np.random.default_rng(0),
    )  # fmt: skip
    quoter = Quoter(spec or QuoterSpec())
    quoter.reset(ctx)
    return quoter


def act(offset, skew, obs, **spec):
    return ready(QuoterSpec(**spec)).quotes(np.array([offset, skew], np.float32), obs)


def test_zero_action_quotes_the_best_prices():
    assert act(0, 0, observation()) == Quotes.two_sided(100, 101, 1)
    assert act(0, 0, observation(100, 107)) == Quotes.two_sided(100, 107, 1)


def test_offset_steps_behind_the_best_quotes_and_into_a_wide_spread():
    assert act(1, 0, observation()) == Quotes.two_sided(97, 104, 1)
    assert act(1 / 3, 0, observation()) == Quotes.two_sided(99, 102, 1)
    assert act(0.1, 0, observation()) == Quotes.two_sided(100, 101, 1), "rounded to the nearest tick"
    assert act(-1, 0, observation()) == Quotes.two_sided(100, 101, 1), "no room inside one tick"
    assert act(-1, 0, observation(100, 107)) == Quotes.two_sided(103, 104, 1)


def test_skew_leans_and_stays_passive():
    assert act(0, 1, observation()) == Quotes.two_sided(100, 104, 1)
    assert act(0, -1, observation()) == Quotes.two_sided(97, 101, 1)
    assert act(0, 0.5, observation(100, 110), max_skew_ticks=4) == Quotes.two_sided(102, 112, 1)


def test_lean_comes_before_the_skew():
    assert act(0, 0, observation(inventory=5), lean_ticks=4) == Quotes.two_sided(98, 101, 1)
    assert act(0, 0, observation(100, 109, inventory=5), lean_ticks=4) == Quotes.two_sided(98, 107, 1)
    assert act(0, 2 / 3, observation(100, 109, inventory=5), lean_ticks=4) == Quotes.two_sided(100, 109, 1)
    with pytest.raises(ConfigError, match="lean"):
        QuoterSpec(lean_ticks=-1.0)


def test_limits_drop_the_side_that_would_break_them():
    assert act(0, 0, observation(inventory=10)) == Quotes((), ((101, 1),))
    assert act(0, 0, observation(inventory=-10)) == Quotes(((100, 1),), ())
    assert act(0, 0, observation(inventory=8), size_units=5) == Quotes(((100, 2),), ((101, 5),))


@pytest.mark.parametrize("action", [(np.nan, 0), (0, np.nan)])
def test_a_nan_is_refused(action):
    with pytest.raises(ValueError, match="finite"):
        act(*action, observation())


@given(
    bid=st.integers(1, 60),
    spread=st.integers(1, 30),
    inventory=st.integers(-10, 10),
    offset=st.floats(-2, 2),
    skew=st.floats(-2, 2),
    reach=st.floats(0.5, 50),
    lean=st.sampled_from([0.0, 3.0]),
)
@example(bid=1, spread=1, inventory=0, offset=0.0, skew=1.0, reach=0.5, lean=0.0)  # halves met at the ask
def test_quotes_are_always_valid_and_mirror(bid, spread, inventory, offset, skew, reach, lean):
    spec = QuoterSpec(max_offset_ticks=reach, max_skew_ticks=reach, lean_ticks=lean)
    obs = observation(bid, bid + spread, inventory)
    got = ready(spec).quotes(np.array([offset, skew]), obs)
    for px, qty in got.bids:
        assert 0 < px < obs.ask_px and inventory + qty <= 10
    for px, qty in got.asks:
        assert px > obs.bid_px and inventory - qty >= -10
    if got.bids and got.asks:
        assert got.bids[0][0] < got.asks[0][0]
    # Turn the price axis round 1000: buying becomes selling.
    other = observation(1000 - obs.ask_px, 1000 - obs.bid_px, -inventory)
    twin = ready(spec).quotes(np.array([offset, -skew]), other)
    if got.bids and got.asks and twin.bids and twin.asks:
        wide = got.asks[0][0] - got.bids[0][0]
        assert twin.asks[0][0] - twin.bids[0][0] == wide
        if wide > 1:  # at one tick a tie is broken towards the lower price
            assert (1000 - got.asks[0][0], 1000 - got.bids[0][0]) == (twin.bids[0][0], twin.asks[0][0])


def test_state_scales_and_clips_the_features():
    rng = np.random.default_rng(0)
    mean, std = tuple(rng.normal(size=N_FEATURES)), tuple(rng.uniform(0.1, 2, N_FEATURES))
    quoter = ready(QuoterSpec(mean=mean, std=std, clip=2.0))
    seen = [observation(100 + i, 102 + 2 * i, qty=(5 + i, 9)) for i in range(4)]
    raw = np.concatenate([o.record for o in seen])
    expected = np.clip((feature_rows(raw, 1) - mean) / std, -2, 2)
    got = np.array([quoter.state(o) for o in seen])
    assert got.shape == (4, N_STATE) and got.dtype == np.float32
    np.testing.assert_allclose(got[:, :N_FEATURES], expected, atol=1e-5)


def test_state_shows_inventory_time_and_own_orders():
    def private(**kwargs):
        return ready().state(observation(**kwargs))[N_FEATURES:].tolist()

    assert private() == [0, 1, 1, 1, 1, 1]
    assert private(inventory=-5, left_s=25.0)[:2] == [-0.5, 0.5]
    assert private(orders=[(100, 2, 1)])[2:] == [0, 0.25, 1, 1]
    assert private(orders=[(103, 0, -1)])[2:] == [1, 1, pytest.approx(2 / 6), 1]
    assert private(bid=100, ask=106, orders=[(103, 0, 1)])[2:4] == [-0.5, 0]
    assert private(orders=[(100, 99, 1), (101, 1, -1)])[2:] == [0, 1, 0, 0.25]
    end = Quoter.final_state(ready().state(observation(inventory=3)))
    assert end[N_FEATURES:].tolist() == [0, 0, 1, 1, 1, 1]


def test_scaling_measures_and_leaves_constants_alone():
    raw = np.concatenate([observation(100, 101 + i % 3, qty=(5 + i, 9)).record for i in range(50)])
    mean, std = scaling([raw[:20], raw[:0], raw[20:]], 1)
    table = np.concatenate([feature_rows(raw[:20]), feature_rows(raw[20:])]).astype(float)
    np.testing.assert_allclose(mean, table.mean(0), rtol=1e-5, atol=1e-9)
    assert std[FEATURES.index("spread")] == pytest.approx(table[:, 0].std(), rel=1e-5)
    assert std[FEATURES.index("deep")] == 1.0
    with pytest.raises(ConfigError, match="at least one decision"):
        scaling([raw[:0]], 1)


def test_spec_survives_its_card_and_refuses_other_features():
    spec = QuoterSpec(max_offset_ticks=7, mean=(0.5,) * N_FEATURES, std=(2.0,) * N_FEATURES)
    card = spec.to_dict()
    assert QuoterSpec.from_dict(card) == spec
    with pytest.raises(ConfigError, match="other features"):
        QuoterSpec.from_dict(card | {"state": list(STATE[1:])})
    with pytest.raises(ConfigError, match="unexpected"):
        QuoterSpec.from_dict(card | {"offset": 1})


@pytest.mark.parametrize(
    "wrong", [{"max_skew_ticks": 0.0}, {"clip": float("nan")}, {"mean": (1.0,)}, {"std": (0.0,) * N_FEATURES}]
)
def test_wrong_constants_are_refused(wrong):
    with pytest.raises(ConfigError):
        dataclasses.replace(QuoterSpec(), **wrong)
