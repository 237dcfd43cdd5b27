"""The ledger's arithmetic against plain Python integers and Decimals, on arbitrary fills."""

import math
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim import metrics
from mmsim.metrics import EpisodeResult
from mmsim.statistics.bootstrap import bootstrap_ci
from mmsim.types import FILL, STEP, FeeSchedule, Instrument

QUICK = settings(max_examples=50, deadline=None)

RATES = st.decimals("-0.002", "0.002", places=7)
PER_LOT = st.decimals("-3", "3", places=4)


MIDS = st.integers(-50, 400_000)
COIN_MIDS = st.integers(50, 400_000)  # an inverse contract's price is above 0
FILL_ROW = (
    st.integers(0, 10_000),  # ns
    st.integers(-20, 20),  # price from the mid, ticks
    st.integers(1, 5_000),  # lots
    st.sampled_from([1, -1]),
    st.sampled_from([(1, 1), (1, 2), (1, 3), (0, 4), (0, 5)]),  # maker, reason
)
STEPS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 200_000), st.integers(1, 9)), max_size=8)
INSTRUMENTS = st.builds(
    Instrument,
    st.just("x"),
    st.sampled_from([Decimal("0.01"), Decimal("0.2"), Decimal(10)]),
    st.sampled_from([Decimal(1), Decimal("0.001")]),
    st.sampled_from([Decimal(1), Decimal(5), Decimal(300)]),
)
COINS = INSTRUMENTS.map(lambda i: replace(i, currency="BTC", contract="inverse"))
FEES = st.builds(FeeSchedule, st.just("f"), RATES, RATES, PER_LOT, PER_LOT)


@st.composite
def episodes(draw, mids=MIDS, instruments=INSTRUMENTS) -> EpisodeResult:
    when, *what = FILL_ROW
    drawn_fills = draw(st.lists(st.tuples(when, mids, *what), max_size=8))
    fills = np.array(
        [
            (ts, row, mid2, mid2 // 2 + away, qty, side, maker, reason, 0, row)
            for row, (ts, mid2, away, qty, side, (maker, reason)) in enumerate(sorted(drawn_fills))
        ],
        FILL,
    )
    change = fills["side"].astype(np.int64) * fills["qty"]
    held, paid = np.cumsum(np.append(0, change)), np.cumsum(np.append(0, -change * fills["px"]))
    drawn = sorted(draw(STEPS))
    steps = np.zeros(len(drawn), STEP)
    if drawn:
        steps["ts"], steps["bid_px"], spread = np.array(drawn, np.int64).T
        steps["ask_px"] = steps["bid_px"] + spread
        steps["mid2"] = 2 * steps["bid_px"].astype(np.int64) + spread
    done = np.searchsorted(fills["ts"], steps["ts"], side="right")
    steps["inventory"], steps["cash"], steps["asked"] = held[done], paid[done], 1
    steps["traded_qty"] = np.cumsum(np.append(0, fills["qty"]))[done]
    return EpisodeResult("a", "d", 0, draw(instruments), draw(FEES), 0, 10_000, fills, steps, draw(mids), 10)


COIN_EPISODES = episodes(COIN_MIDS, COINS)


def _python_ledger(ep: EpisodeResult) -> tuple[int, int]:
    cash = held = 0
    for f in ep.fills:
        held += int(f["side"]) * int(f["qty"])
        cash -= int(f["side"]) * int(f["px"]) * int(f["qty"])
    return cash, held


@QUICK
@given(episodes())
def test_cash_inventory_and_profit_are_sums_over_fills(ep: EpisodeResult) -> None:
    cash, held = _python_ledger(ep)
    assert metrics.cash(ep) == cash
    assert metrics.inventory(ep) == held
    assert metrics.pnl_half_ticks(ep) == 2 * cash + held * ep.final_mid2


@QUICK
@given(episodes())
def test_spread_capture_plus_revaluation_is_the_profit_exactly(ep: EpisodeResult) -> None:
    split = metrics.attribution(ep)
    assert split.spread_capture + split.inventory_revaluation == metrics.pnl_half_ticks(ep)
    # Revaluation once more, holding by holding, from the definition.
    total, held, rows = 0, 0, list(ep.fills)
    for now, then in pairwise([*rows, None]):
        held += int(now["side"]) * int(now["qty"])
        total += held * ((ep.final_mid2 if then is None else int(then["mid2"])) - int(now["mid2"]))
    assert split.inventory_revaluation == total


@QUICK
@given(episodes())
def test_fees_are_decimal_arithmetic_rounded_half_even(ep: EpisodeResult) -> None:
    i, f = ep.instrument, ep.fees
    expected = []
    for row in ep.fills:
        rate, per_lot = (f.maker_rate, f.maker_per_lot) if row["maker"] else (f.taker_rate, f.taker_per_lot)
        value = int(row["px"]) * i.tick_size * int(row["qty"]) * i.lot_size * i.multiplier
        fee = (rate * value + per_lot * int(row["qty"])) * 1_000_000
        expected.append(int(fee.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)))
    assert metrics.fees_per_fill(ep.fills, i, f).tolist() == expected
    assert metrics.fees_paid(ep) == sum(expected)


@QUICK
@given(episodes())
def test_currency_identity(ep: EpisodeResult) -> None:
    split = metrics.attribution(ep)
    value = ep.instrument.tick_size * ep.instrument.multiplier * ep.instrument.lot_size
    total = (
        Decimal(split.spread_capture + split.inventory_revaluation) * value / 2
        - Decimal(split.fees) / 1_000_000
    )
    assert metrics.epnl(ep) == float(total)


def _near(got: float, exact: Fraction) -> bool:
    # one unit in the last place, or what rounding every lot's mark to 1e-30 coins can add up to
    return abs(Fraction(got) - exact) <= Fraction(math.ulp(float(exact))) + Fraction(1, 10**24)


@QUICK
@given(COIN_EPISODES)
def test_an_inverse_contract_earns_fractions_of_coins(ep: EpisodeResult) -> None:
    i, f = ep.instrument, ep.fees
    lot, tick = Fraction(i.lot_size * i.multiplier), Fraction(i.tick_size)
    coins = fees = captured = value = Fraction(0)
    held, flows = 0, []
    for row in ep.fills:
        lots, px, mid = int(row["side"]) * int(row["qty"]), int(row["px"]) * tick, int(row["mid2"]) * tick / 2
        rate, per_lot = (f.maker_rate, f.maker_per_lot) if row["maker"] else (f.taker_rate, f.taker_per_lot)
        coins += lots * lot / px
        captured += lots * (lot / px - lot / mid)
        value += abs(lots) * lot / px
        fees += Fraction(rate) * abs(lots) * lot / px + Fraction(per_lot) * abs(lots)
        held += lots
        flows.append((int(row["ts"]), coins - fees))
    profit = coins - held * lot / (ep.final_mid2 * tick / 2)
    assert _near(metrics.epnl(ep), profit - fees)
    assert _near(metrics.to_currency(metrics.spread_capture(ep), i), captured)
    assert _near(metrics.to_currency(metrics.inventory_revaluation(ep), i), profit - captured)
    assert _near(metrics.traded_value(ep), value)
    assert _near(metrics.episode_metrics(ep)["fees"], fees)
    split = metrics.attribution(ep)
    assert split.spread_capture + split.inventory_revaluation == metrics.pnl(ep)
    wealth = [Fraction(0)]
    for step in ep.steps:
        cash = [c for ts, c in flows if ts <= int(step["ts"])]
        wealth.append(
            (cash[-1] if cash else 0) - int(step["inventory"]) * lot / (int(step["mid2"]) * tick / 2)
        )
    wealth.append(profit - fees)
    got = metrics.equity_currency(ep)
    assert len(got) == len(wealth) and all(map(_near, got.tolist(), wealth))


@QUICK
@given(COIN_EPISODES)
def test_splitting_a_fill_of_an_inverse_contract_changes_nothing_before_fees(ep: EpisodeResult) -> None:
    parts = [f for row in ep.fills for f in _halves(row)]
    other = replace(ep, fills=np.array(parts, FILL) if parts else ep.fills)
    assert metrics.pnl(other) == metrics.pnl(ep)
    assert metrics.spread_capture(other) == metrics.spread_capture(ep)
    assert metrics.inventory_revaluation(other) == metrics.inventory_revaluation(ep)


@QUICK
@given(episodes())
def test_mirrored_market_earns_the_same(ep: EpisodeResult) -> None:
    fills = ep.fills.copy()
    fills["side"], fills["px"], fills["mid2"] = -fills["side"], -fills["px"], -fills["mid2"]
    other = replace(ep, fills=fills, final_mid2=-ep.final_mid2)
    assert metrics.pnl_half_ticks(other) == metrics.pnl_half_ticks(ep)
    assert metrics.spread_capture(other) == metrics.spread_capture(ep)
    assert metrics.inventory_revaluation(other) == metrics.inventory_revaluation(ep)


@QUICK
@given(episodes(), st.integers(-1_000, 1_000))
def test_moving_all_prices_changes_nothing(ep: EpisodeResult, ticks: int) -> None:
    fills = ep.fills.copy()
    fills["px"] += ticks
    fills["mid2"] += 2 * ticks
    other = replace(ep, fills=fills, final_mid2=ep.final_mid2 + 2 * ticks)
    assert metrics.attribution(replace(other, fees=FeeSchedule())) == metrics.attribution(
        replace(ep, fees=FeeSchedule())
    )


@QUICK
@given(episodes())
def test_splitting_a_fill_changes_nothing_before_fees(ep: EpisodeResult) -> None:
    parts = [f for row in ep.fills for f in _halves(row)]
    other = replace(ep, fills=np.array(parts, FILL) if parts else ep.fills)
    assert metrics.pnl_half_ticks(other) == metrics.pnl_half_ticks(ep)
    assert metrics.spread_capture(other) == metrics.spread_capture(ep)
    assert metrics.traded_qty(other) == metrics.traded_qty(ep)


def _halves(row):
    first, second = row.copy(), row.copy()
    first["qty"] = row["qty"] // 2
    second["qty"] = row["qty"] - first["qty"]
    return [part for part in (first, second) if part["qty"] > 0]


@QUICK
@given(episodes() | COIN_EPISODES)
def test_drawdown_is_the_worst_pair(ep: EpisodeResult) -> None:
    wealth = metrics.equity_currency(ep).tolist()
    worst = max(wealth[s] - wealth[t] for t in range(len(wealth)) for s in range(t + 1))
    assert metrics.max_drawdown(ep) == worst
    assert worst >= 0
    assert wealth[0] == 0.0
    assert wealth[-1] == pytest.approx(metrics.epnl(ep), rel=1e-9, abs=1e-6)


@QUICK
@given(episodes() | COIN_EPISODES)
def test_expected_shortfall_bounds_the_mean_loss(ep: EpisodeResult) -> None:
    change = np.diff(metrics.equity_currency(ep))
    slack = 1e-9 * (1 + np.abs(change).max())
    assert -change.min() + slack >= metrics.expected_shortfall(ep) >= -change.mean() - slack


@QUICK
@given(episodes() | COIN_EPISODES)
def test_an_agent_without_fills_earns_exactly_nothing(ep: EpisodeResult) -> None:
    steps = ep.steps.copy()
    steps["cash"], steps["inventory"] = 0, 0
    idle = replace(ep, fills=np.zeros(0, FILL), steps=steps)
    assert metrics.epnl(idle) == 0.0
    assert metrics.map_(idle) == 0.0
    assert np.isnan(metrics.pnl_map(idle))
    assert metrics.attribution(idle) == (0, 0, 0)
    assert metrics.max_drawdown(idle) == 0.0
    assert metrics.nd_pnl(idle) == 0.0
    assert metrics.inventory_max(idle) == 0


@QUICK
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.integers(0, 5))
def test_bootstrap_interval_lies_within_the_data_and_repeats(values: list[float], seed: int) -> None:
    low, high = bootstrap_ci(values, seed=seed, resamples=200)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert bootstrap_ci(values, seed=seed, resamples=200) == (low, high)


@settings(max_examples=10, deadline=None)
@given(st.lists(episodes() | COIN_EPISODES, min_size=1, max_size=3))
def test_aggregate_is_json_safe_and_complete(eps: list[EpisodeResult]) -> None:
    out = metrics.aggregate(eps)
    assert set(out) == set(metrics.PER_EPISODE) | {"sharpe", "sharpe_annualised", "pnl_map_ratio_of_means"}
    for entry in out.values():
        numbers = [entry["mean"], entry["std"], *entry["ci95"]]
        assert all(x is None or (type(x) is float and np.isfinite(x)) for x in numbers)
    if len(eps) == 1:
        assert out["epnl"]["ci95"] == [None, None]
        assert out["epnl"]["std"] is None
        assert out["sharpe"]["mean"] is None
