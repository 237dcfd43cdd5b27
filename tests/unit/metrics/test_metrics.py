"""Metrics on episodes small enough to compute by hand."""

import math
from decimal import Decimal

import numpy as np
import pytest
import scipy.stats

from mmsim import metrics
from mmsim.metrics import EpisodeResult
from mmsim.statistics.bootstrap import bootstrap_ci
from mmsim.types import FILL, STEP, FeeSchedule, FillReason, Instrument

SECOND = 1_000_000_000
NO_FEES = FeeSchedule()
RB = Instrument(
    "rb", Decimal(1), multiplier=Decimal(10), sessions=(("21:00", "23:00"), ("09:00", "10:15"), ("10:30", "11:30"))
)  # fmt: skip


def steps_at(seconds, bids, asks, inventory, cash, **columns):
    steps = np.zeros(len(seconds), STEP)
    steps["ts"] = np.array(seconds) * SECOND
    steps["bid_px"], steps["ask_px"] = bids, asks
    steps["mid2"] = steps["bid_px"].astype(np.int64) + steps["ask_px"]
    steps["inventory"], steps["cash"], steps["asked"] = inventory, cash, 1
    for name, values in columns.items():
        steps[name] = values
    return steps


def fill(second, side, px, qty, mid2, maker=1, reason=FillReason.QUEUE, order_id=1):
    return (second * SECOND, order_id, mid2, px, qty, side, maker, reason, 0, 0)


def episode(fills=(), steps=None, final_mid2=0, fees=NO_FEES, **kwargs):
    return EpisodeResult(
        "glft", "sim-rb", kwargs.pop("index", 0), kwargs.pop("instrument", RB), fees, 0, 10 * SECOND,
        np.array(list(fills), FILL), np.zeros(0, STEP) if steps is None else steps, final_mid2, 2, **kwargs,
    )  # fmt: skip


@pytest.fixture
def traded() -> EpisodeResult:
    # Bought 2 at 99 (mid 100), sold 1 at 102 (mid 101), the rest closed at 97 (mid 98) by hitting the bid.
    return episode(
        [
            fill(1, 1, 99, 2, 200, order_id=1),
            fill(4, -1, 102, 1, 202, order_id=2),
            fill(9, -1, 97, 1, 196, maker=0, reason=FillReason.CLOSE, order_id=0),
        ],
        steps_at(
            [0, 2, 4, 6, 8],
            [99, 99, 100, 97, 97],
            [101, 101, 102, 99, 99],
            [0, 2, 1, 1, 1],
            [0, -198, -96, -96, -96],
            own_bid_px=[99, 99, 99, 0, 97],
            own_bid_qty=[1, 1, 1, 0, 1],
            own_ask_px=[101, 101, 102, 99, 100],
            own_ask_qty=1,
            wall_ns=[1000, 2000, 3000, 4000, 90_000],
        ),
        final_mid2=196,
        counters={"orders": 8, "decisions": 5, "missed": 3},
    )


def test_profit_and_its_parts(traded):
    # Cash -198 + 102 + 97 = 1 tick-lot = 10 CNY.
    assert metrics.epnl(traded) == 10.0
    assert metrics.spread_capture(traded) == 2 * (200 - 198) + (204 - 202) - (196 - 194)  # = 4 half-ticks
    assert metrics.inventory_revaluation(traded) == 2 * (202 - 200) + 1 * (196 - 202)  # = -2
    assert metrics.pnl_half_ticks(traded) == 2


def test_position_and_ratios(traded):
    assert metrics.map_(traded) == 1.0  # (0 + 2 + 1 + 1 + 1) / 5
    assert metrics.pnl_map(traded) == 10.0
    assert metrics.mean_spread_ticks(traded) == 2.0
    assert metrics.nd_pnl(traded) == 0.5
    assert metrics.traded_value(traded) == (198 + 102 + 97) * 10
    assert metrics.profit_ratio(traded) == 10 / 3970
    assert metrics.rpt(traded) == pytest.approx(((102 + 97) / 2 - 99) / 2)


def test_drawdown_and_shortfall(traded):
    # Wealth: 0, 0, 2*(100-99)*10 = 20, -96+101 = 50, -96+98 = 20, 20, end 10.
    assert metrics.equity_currency(traded).tolist() == [0, 0, 20, 50, 20, 20, 10]
    assert metrics.max_drawdown(traded) == 40.0
    assert metrics.expected_shortfall(traded) == 30.0


def test_activity(traded):
    assert metrics.fill_ratio(traded) == 2 / 8
    assert metrics.maker_share(traded) == 1.0
    assert metrics.traded_qty(traded) == 4
    assert metrics.inventory_max(traded) == 2
    assert metrics.time_at_limit(traded) == 1 / 5
    assert metrics.inventory_std(traded) == pytest.approx(np.std([0, 2, 1, 1, 1]))
    assert metrics.inventory_abs_percentile(traded, 50) == 1.0
    assert metrics.two_sided_uptime(traded) == 2 / 5  # bid a tick below, bid absent, ask a tick above
    assert traded.decisions == 5
    assert traded.missed == 3


def test_markouts_use_the_first_mid_at_or_after_the_horizon(traded):
    # Buy at 1 s, mid2 200: at 1.5 s or later the step of 2 s (200); sell at 4 s, mid2 202: step of 6 s (196).
    assert metrics.markout_ticks(traded, SECOND // 2) == (2 * 0 + 1 * 6) / 3 / 2
    # At 3 s: step of 4 s (202), +2 for two lots; step of 8 s (196), +6 for one.
    assert metrics.markout_ticks(traded, 3 * SECOND) == (2 * 2 + 6) / 3 / 2
    # At 5 s: step of 6 s (196), -4; the sell's horizon lies outside.
    assert metrics.markout_ticks(traded, 5 * SECOND) == -2.0
    assert math.isnan(metrics.markout_ticks(traded, 30 * SECOND))


@pytest.mark.parametrize("missing", ["ask_px", "bid_px"])
def test_one_sided_books_do_not_mark_the_inventory(traded, missing):
    steps = traded.steps.copy()
    steps[missing][3], steps["mid2"][3], steps["asked"][3] = 0, 97, 0
    hole = episode(traded.fills.tolist(), steps, final_mid2=196)
    assert metrics.equity_currency(hole).tolist() == [0, 0, 20, 50, 20, 10]
    assert metrics.markout_ticks(hole, SECOND) == metrics.markout_ticks(
        episode(traded.fills.tolist(), np.delete(steps, 3), final_mid2=196), SECOND
    )


def test_latency_pools_decisions_of_all_episodes(traded):
    missed = traded.steps.copy()
    missed["asked"], missed["wall_ns"] = 0, 10**9
    got = metrics.latency_us([traded, episode(steps=missed)])
    assert got.p50 == 3.0
    assert got.max == 90.0
    assert got.p99 == pytest.approx(np.percentile([1, 2, 3, 4, 90], 99))
    assert metrics.latency_us([]) == (None, None, None, None)


@pytest.mark.parametrize(
    ("rate", "px", "qty", "expected"),
    [
        ("0.0000005", 1, 1, 0),  # 0.5 rounds to even
        ("0.0000015", 1, 1, 2),
        ("-0.0000005", 1, 1, 0),
        ("-0.0000015", 1, 1, -2),
        ("0.000023", 1183, 20, 544_180),  # CFFEX-like: 0.23 / 10,000 of the value
    ],
)
def test_fees_round_half_to_even(rate, px, qty, expected):
    one = Instrument("x", Decimal(1))
    fills = np.array([fill(0, 1, px, qty, 2 * px)], FILL)
    assert metrics.fees_per_fill(fills, one, FeeSchedule("f", maker_rate=Decimal(rate))).tolist() == [
        expected
    ]


def test_fees_by_role_and_per_lot():
    fees = FeeSchedule("f", maker_per_lot=Decimal("-0.002"), taker_per_lot=Decimal("0.003"))
    fills = np.array([fill(0, 1, 100, 100, 200), fill(0, -1, 100, 10, 200, maker=0)], FILL)
    assert metrics.fees_per_fill(fills, RB, fees).tolist() == [-200_000, 30_000]
    assert metrics.epnl(episode(fills.tolist(), fees=fees, final_mid2=200)) == 0.2 - 0.03


def test_empty_episode():
    idle = episode(steps=steps_at([0, 1], [99, 99], [101, 101], 0, 0), counters={"orders": 4})
    numbers = metrics.episode_metrics(idle)
    assert numbers["epnl"] == numbers["map_"] == numbers["max_drawdown"] == numbers["fees"] == 0.0
    assert numbers["fill_ratio"] == 0.0
    assert all(
        math.isnan(numbers[k]) for k in ("pnl_map", "rpt", "maker_share", "markout_5s", "profit_ratio")
    )
    assert metrics.episode_metrics(episode())["epnl"] == 0.0


def test_sharpe_ratios():
    assert metrics.sharpe([3.0, 1.0, 2.0]) == 2.0
    assert math.isnan(metrics.sharpe([1.0]))
    assert math.isnan(metrics.sharpe([0.1, 0.1, 0.1]))
    assert metrics.trading_seconds(RB) == (120 + 75 + 60) * 60
    assert metrics.sharpe_annualised([3.0, 1.0, 2.0], 3825.0, RB) == pytest.approx(2 * math.sqrt(250 * 4))
    crypto = Instrument("btc", Decimal("0.1"))
    assert metrics.annual_factor(86_400, crypto) == pytest.approx(math.sqrt(365))


def test_two_names_for_two_means_of_pnl_map():
    def held(lots, sell_px):
        return episode(
            [fill(0, 1, 100, 1, 200), fill(1, -1, sell_px, 1, 200)],
            steps_at([0, 1], [99, 99], [101, 101], [lots, lots], 0),
            final_mid2=200,
        )

    both = [held(1, 101), held(4, 102)]  # 10 CNY over 1 lot, 20 CNY over 4 lots
    assert metrics.pnl_map_mean_of_ratios(both) == (10 + 5) / 2
    assert metrics.pnl_map_ratio_of_means(both) == 30 / 5
    out = metrics.aggregate(both)
    assert out["pnl_map"]["mean"] == 7.5
    assert out["pnl_map_ratio_of_means"]["mean"] == 6.0
    assert out["epnl"] == {"mean": 15.0, "std": pytest.approx(50**0.5), "ci95": [10.0, 20.0], "n": 2}


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(3).gamma(2.0, 10.0, 40)
    low, high = bootstrap_ci(values, resamples=20_000)
    oracle = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert low == pytest.approx(oracle.low, rel=0.01)
    assert high == pytest.approx(oracle.high, rel=0.01)


def test_bootstrap_leaves_out_what_is_not_defined():
    assert bootstrap_ci([1.0, math.nan, 3.0, 2.0]) == bootstrap_ci([1.0, 3.0, 2.0])
    assert all(map(math.isnan, bootstrap_ci([5.0, math.nan])))


def test_bootstrap_of_the_sharpe_ratio_covers_it():
    eps = [
        episode([fill(0, 1, 100, 1, 200), fill(1, -1, px, 1, 200)], final_mid2=200, index=k)
        for k, px in enumerate([101, 103, 102, 104, 99, 101])
    ]
    entry = metrics.aggregate(eps)["sharpe"]
    assert entry["ci95"][0] < entry["mean"] < entry["ci95"][1]
    assert entry["mean"] == pytest.approx(np.mean([1, 3, 2, 4, -1, 1]) / np.std([1, 3, 2, 4, -1, 1], ddof=1))
