"""Features: hand-computed values, live equals offline bit for bit, no look-ahead, masking."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.errors import ConfigError
from mmsim.features import FEATURES, N_FEATURES, FeatureWindow, feature_rows
from mmsim.records import OBSERVATION
from mmsim.types import MAX_DEPTH

COL = {name: i for i, name in enumerate(FEATURES)}


def raw_row(
    bids: list[tuple[int, int]],
    asks: list[tuple[int, int]],
    buys: int = 0,
    sells: int = 0,
    last: int = 0,
) -> npt.NDArray[np.void]:
    rows = np.zeros(1, OBSERVATION)
    row = rows[0]
    row["n_bid"], row["n_ask"] = len(bids), len(asks)
    (row["bid_px"], row["bid_qty"]), (row["ask_px"], row["ask_qty"]) = bids[0], asks[0]
    for i, (px, qty) in enumerate(bids):
        row["bid_pxs"][i], row["bid_qtys"][i] = px, qty
    for i, (px, qty) in enumerate(asks):
        row["ask_pxs"][i], row["ask_qtys"][i] = px, qty
    row["buy_qty"], row["sell_qty"], row["last_trade_px"] = buys, sells, last
    return rows


@st.composite
def episodes(draw: st.DrawFn, min_rows: int = 1) -> npt.NDArray[np.void]:
    n = draw(st.integers(min_rows, 12))
    depth = draw(st.sampled_from([1, 2, MAX_DEPTH]))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        bid = int(rng.integers(90, 110))
        ask = bid + int(rng.integers(1, 6))
        bids = [(bid - i * int(rng.integers(1, 3)), int(rng.integers(1, 500))) for i in range(depth)]
        asks = [(ask + i * int(rng.integers(1, 3)), int(rng.integers(1, 500))) for i in range(depth)]
        rows.append(raw_row(bids, asks, *(int(x) for x in rng.integers(0, 300, 2)), bid))
    return np.concatenate(rows)


def test_hand_computed_values() -> None:
    first = raw_row([(100, 10), (98, 30)], [(102, 30), (103, 30)])
    second = raw_row([(101, 20), (98, 30)], [(102, 20), (105, 40)], buys=7, sells=2, last=102)
    out = feature_rows(np.concatenate([first, second]), unit=10)
    a, b = out.astype(float)
    assert a[COL["spread"]] == 2 and b[COL["spread"]] == 1
    assert a[COL["micro_offset"]] == pytest.approx((102 * 10 + 100 * 30) / 40 - 101)
    assert a[COL["imbalance_1"]] == pytest.approx(-0.5)
    assert a[COL["imbalance_5"]] == pytest.approx((40 - 60) / 100)
    assert a[COL["log_bid_rest"]] == pytest.approx(math.log1p(3))
    assert a[COL["gap_skew"]] == -1 and b[COL["gap_skew"]] == 0
    assert a[COL["deep"]] == 1
    assert a[COL["mid_change"]] == 0 and b[COL["mid_change"]] == 0.5
    # Bid improved: the whole new bid counts; ask price same: the change of its size counts.
    assert b[COL["ofi"]] == pytest.approx(math.log1p((20 - 20 + 30) / 10))
    assert b[COL["flow"]] == pytest.approx(math.log1p(0.5))
    assert b[COL["volume"]] == pytest.approx(math.log1p(0.9))
    assert b[COL["trade_offset"]] == 0.5 and a[COL["trade_offset"]] == 0
    assert b[COL["volatility_10"]] == pytest.approx(math.sqrt(0.25 / 11))
    assert b[COL["volatility_100"]] == pytest.approx(math.sqrt(0.25 / 101))
    assert b[COL["momentum_10"]] == pytest.approx(0.5 / 11)
    assert b[COL["log_volume_30"]] == pytest.approx(math.log1p(0.9 / 31))


def test_unobserved_levels_are_masked() -> None:
    out = feature_rows(raw_row([(100, 10)], [(101, 10)]))[0]
    masked = ("imbalance_5", "imbalance_all", "log_bid_rest", "log_ask_rest", "gap_skew", "deep")
    assert all(out[COL[name]] == 0 for name in masked)


@given(episodes(), st.integers(1, 5), st.sampled_from([1, 7, 100]))
@settings(max_examples=60, deadline=None)
def test_live_equals_offline_bit_for_bit(raw: npt.NDArray[np.void], width: int, unit: int) -> None:
    table = feature_rows(raw, unit)
    live = FeatureWindow(unit, width)
    live.push(raw[-1:])
    live.reset()
    for t in range(len(raw)):
        live.push(raw[t : t + 1])
        want = table[max(0, t + 1 - width) : t + 1]
        assert np.array_equal(live.window[width - len(want) :], want)
        assert np.array_equal(live.last, table[t])
        assert live.full == (t + 1 >= width)
    assert np.isfinite(table).all()


@given(episodes(min_rows=2), st.data())
@settings(max_examples=60, deadline=None)
def test_later_rows_leave_earlier_features_alone(raw: npt.NDArray[np.void], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(raw) - 1))
    other = data.draw(episodes())
    changed = np.concatenate([raw[:cut], other])
    assert np.array_equal(feature_rows(raw)[:cut], feature_rows(changed)[:cut])


@given(episodes())
@settings(max_examples=30, deadline=None)
def test_only_public_state_is_read_and_mirrors(raw: npt.NDArray[np.void]) -> None:
    own = raw.copy()
    own["inventory"], own["cash"] = 5, -1234
    assert np.array_equal(feature_rows(raw), feature_rows(own))
    # Mirroring the market in price swaps the sides and flips every signed feature.
    mirror = raw.copy()
    for bid, ask in (("bid_px", "ask_px"), ("bid_pxs", "ask_pxs")):
        mirror[bid], mirror[ask] = 1000 - raw[ask], 1000 - raw[bid]
    mirror["last_trade_px"] = 1000 - raw["last_trade_px"]
    for one, other in (("bid_qty", "ask_qty"), ("bid_qtys", "ask_qtys"), ("buy_qty", "sell_qty")):
        mirror[one], mirror[other] = raw[other], raw[one]
    a, b = feature_rows(raw), feature_rows(mirror)
    for name in ("micro_offset", "imbalance_1", "imbalance_all", "gap_skew", "ofi", "mid_change", "flow"):
        np.testing.assert_allclose(a[:, COL[name]], -b[:, COL[name]], atol=1e-5, err_msg=name)
    for name in ("spread", "volume", "volatility_10", "volatility_100", "log_volume_30"):
        np.testing.assert_allclose(a[:, COL[name]], b[:, COL[name]], atol=1e-6, err_msg=name)


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="expected observations"):
        feature_rows(np.zeros((3, 5), np.int64))
    with pytest.raises(ConfigError, match="expected a unit"):
        feature_rows(np.zeros(3, OBSERVATION), unit=0)
    with pytest.raises(ConfigError, match="at least 1"):
        FeatureWindow(unit=1, window=0)
    assert feature_rows(np.zeros(0, OBSERVATION)).shape == (0, N_FEATURES)
