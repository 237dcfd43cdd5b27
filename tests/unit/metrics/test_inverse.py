"""Inverse (coin-margined) contracts: money is counted in coins, against fractions worked out by hand."""

import io
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console

from mmsim import metrics
from mmsim.agent import Strategy, within_limits
from mmsim.config import SimConfig
from mmsim.errors import ConfigError, DataError
from mmsim.metrics import EpisodeResult, MarketResult
from mmsim.report.table import render
from mmsim.sim.session import Session
from mmsim.testing.markets import tiny_market
from mmsim.types import FILL, STEP, FeeSchedule, FillReason, Instrument

SECOND = 1_000_000_000
XBTUSD = Instrument("XBTUSD", Decimal("0.5"), currency="BTC", contract="inverse")  # 1 USD a contract
COIN_M = Instrument(
    "BTCUSD_PERP", Decimal("0.1"), multiplier=Decimal(100), currency="BTC", contract="inverse"
)


def fill(second, side, px, qty, mid2, maker=1, reason=FillReason.QUEUE):
    return (second * SECOND, 1, mid2, px, qty, side, maker, reason, 0, 0)


def episode(fills, steps=(), instrument=COIN_M, final_mid2=0, fees=FeeSchedule()):  # noqa: B008
    rows = np.zeros(len(steps), STEP)
    for row, (second, bid, ask, held, traded) in zip(rows, steps, strict=True):
        row["ts"], row["bid_px"], row["ask_px"] = second * SECOND, bid, ask
        row["mid2"], row["inventory"], row["traded_qty"] = bid + ask, held, traded
        row["cash"] = 77  # the engine's tick-lots, which must not be taken for coins
    return EpisodeResult(
        "a", "d", 0, instrument, fees, 0, 10 * SECOND, np.array(list(fills), FILL), rows, final_mid2, 10
    )


def test_a_thousand_dollars_of_xbtusd_lose_what_the_coin_lost():
    # 1,000 contracts of 1 USD bought at 70,000.0 and sold at 69,948.5: read as a linear contract that is a loss
    # of 51,500 "USD" on 1,000 USD. In truth it is a loss of about 1e-5 BTC, less than a dollar.
    ep = episode(
        [fill(1, 1, 140_000, 1_000, 280_001), fill(2, -1, 139_897, 1_000, 279_795)],
        instrument=XBTUSD, final_mid2=279_795,
    )  # fmt: skip
    exact = 1_000 * (1 / Fraction(70_000) - 1 / Fraction("69948.5"))
    assert metrics.epnl(ep) == float(exact)
    assert -1.06e-5 < metrics.epnl(ep) < -1.05e-5
    assert metrics.epnl(replace(ep, instrument=replace(XBTUSD, contract="linear"))) == -51_500.0
    assert metrics.traded_value(ep) == float(1_000 / Fraction(70_000) + 1_000 / Fraction("69948.5"))
    assert metrics.profit_ratio(ep) == metrics.epnl(ep) / metrics.traded_value(ep)


@pytest.fixture
def traded() -> EpisodeResult:
    # In ticks of 0.1 USD, lots of 100 USD: bought 2 at 50,000.0, sold 1 at 50,100.0, one is held to the end.
    return episode(
        [fill(1, 1, 500_000, 2, 1_000_010), fill(4, -1, 501_000, 1, 2_003_990 // 2)],
        [
            (0, 500_000, 500_010, 0, 0),
            (2, 499_000, 499_010, 2, 2),
            (4, 501_000, 501_010, 1, 3),
            (6, 0, 501_010, 1, 3),  # one side only: nothing is marked
            (8, 480_000, 480_020, 1, 3),
        ],
        final_mid2=980_000,
        fees=FeeSchedule("f", maker_rate=Decimal("0.0001"), maker_per_lot=Decimal("-0.000000001")),
    )


def coins(lots, usd):
    return lots * 100 / Fraction(str(usd))


def test_profit_and_its_parts_are_the_fractions(traded):
    cash = coins(2, 50_000) - coins(1, 50_100)
    assert metrics.pnl(traded) == pytest.approx(float((cash - coins(1, 49_000)) * metrics.ATOMS), rel=1e-15)
    captured = coins(2, 50_000) - coins(2, "50000.5") - (coins(1, 50_100) - coins(1, "50099.75"))
    assert metrics.to_currency(metrics.spread_capture(traded), COIN_M) == float(captured)
    moved = 2 * (coins(1, "50000.5") - coins(1, "50099.75")) + coins(1, "50099.75") - coins(1, 49_000)
    assert metrics.to_currency(metrics.inventory_revaluation(traded), COIN_M) == float(moved)
    split = metrics.attribution(traded)
    assert split.spread_capture + split.inventory_revaluation == metrics.pnl(traded)
    fees = Fraction("0.0001") * (coins(2, 50_000) + coins(1, 50_100)) - 3 * Fraction("0.000000001")
    assert metrics.to_currency(split.fees, COIN_M) == float(fees)
    assert metrics.epnl(traded) == float(cash - coins(1, 49_000) - fees)
    assert metrics.episode_metrics(traded)["fees"] == float(fees)


def test_wealth_is_made_from_the_fills_and_not_from_the_engines_cash(traded):
    fee = [
        Fraction("0.0001") * coins(2, 50_000) - 2 * Fraction("1e-9"),
        Fraction("0.0001") * coins(1, 50_100) - Fraction("1e-9"),
    ]
    after_buy = coins(2, 50_000) - coins(2, "49900.5") - fee[0]
    cash = coins(2, 50_000) - coins(1, 50_100) - sum(fee)
    expected = [
        0, 0, after_buy, cash - coins(1, "50100.5"), cash - coins(1, 48_001), cash - coins(1, 49_000),
    ]  # fmt: skip
    assert metrics.equity_currency(traded).tolist() == [float(x) for x in expected]
    peak = max(expected)
    assert metrics.max_drawdown(traded) == pytest.approx(float(peak - expected[4]), rel=1e-12)
    falls = sorted(b - a for a, b in pairwise(expected))
    assert metrics.expected_shortfall(traded) == pytest.approx(float(-falls[0]), rel=1e-12)


def test_spreads_are_worth_coins(traded):
    widths = [
        coins(1, bid) - coins(1, ask)
        for bid, ask in ((50_000, 50_001), (49_900, 49_901), (50_100, 50_101), (48_000, 48_002))
    ]
    assert metrics.nd_pnl(traded) == pytest.approx(metrics.epnl(traded) / float(sum(widths) / 4), rel=1e-12)
    assert metrics.mean_spread_ticks(traded) == 12.5  # prices stay prices
    assert math.isnan(metrics.nd_pnl(replace(traded, steps=traded.steps[:0])))


def test_the_round_trip_margin_has_the_sign_of_the_profit():
    # 3 lots bought at 10,000 and 30,000 (harmonic mean 20,000 at 2:1 is 12,857), sold at 13,000: a profit, though
    # the arithmetic mean of the bought prices, 16,667, says a loss.
    ep = episode(
        [fill(1, 1, 100_000, 2, 200_000), fill(2, 1, 300_000, 1, 600_000), fill(3, -1, 130_000, 3, 260_000)],
        [(0, 100_000, 100_010, 0, 0)],
        final_mid2=260_000,
    )
    assert metrics.epnl(ep) > 0
    assert metrics.rpt(ep) == pytest.approx((130_000 - 3 / (2 / 100_000 + 1 / 300_000)) / 10)


def test_every_metric_of_an_episode_without_fills_is_zero_or_undefined():
    idle = episode([], [(0, 500_000, 500_010, 0, 0)])
    numbers = metrics.episode_metrics(idle)
    assert numbers["epnl"] == numbers["fees"] == numbers["max_drawdown"] == numbers["spread_capture"] == 0.0
    assert math.isnan(numbers["profit_ratio"])
    assert metrics.equity_currency(idle).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("px", [0, -3])
def test_a_price_of_nothing_is_refused(px):
    with pytest.raises(DataError, match="above 0 of an inverse contract"):
        metrics.epnl(episode([fill(1, 1, px, 1, 10)], final_mid2=10))


@pytest.mark.parametrize(
    ("what", "use"),
    [
        ("has no fixed value in BTC", lambda ep: ep.instrument.tick_value),
        ("cash in tick-lots", metrics.cash),
        ("profit in half-ticks", metrics.pnl_half_ticks),
    ],
)
def test_what_counts_in_ticks_is_refused_by_name(traded, what, use):
    with pytest.raises(ConfigError, match=f"inverse contracts: .*{what}"):
        use(traded)


def test_an_unknown_kind_of_contract_is_refused():
    with pytest.raises(ConfigError, match=r"expected one of linear, inverse, was 'quanto'"):
        Instrument("x", Decimal(1), contract="quanto")


class AtTheTouch(Strategy):
    def reset(self, ctx):
        self._ctx = ctx

    def quote(self, obs):
        return within_limits(obs.bid_px, obs.ask_px, 2, obs, self._ctx)


@pytest.fixture(scope="module")
def coin_market():
    data = tiny_market(3)
    return replace(data, instrument=replace(data.instrument, currency="BTC", contract="inverse"))


def test_a_session_trades_the_same_and_is_paid_in_coins(coin_market):
    linear = replace(coin_market, instrument=replace(coin_market.instrument, contract="linear"))
    sim = SimConfig(fees="fee")
    fee = FeeSchedule("fee", taker_rate=Decimal("0.0005"), maker_rate=Decimal("0.0002"))
    runs = [
        Session(replace(m, fees={"fee": fee}), sim).run(AtTheTouch(), m.splits["test"][0])
        for m in (linear, coin_market)
    ]
    assert runs[0].fills.tobytes() == runs[1].fills.tobytes() and len(runs[0].fills) > 20
    result = runs[1]
    tick = Fraction(str(result.instrument.tick_size))
    value = Fraction(str(result.instrument.lot_size))
    earned = paid = Fraction(0)
    path = []
    for row in result.fills.tolist():
        _, _, _, px, qty, side, maker, *_ = row
        earned += side * qty * value / (px * tick)
        paid += Fraction("0.0002" if maker else "0.0005") * qty * value / (px * tick)
        path.append((qty, earned, paid))
    held = sum(int(f["side"]) * int(f["qty"]) for f in result.fills)
    if held:
        earned -= held * value / (Fraction(result.final_mid2, 2) * tick)
    assert metrics.epnl(result) == pytest.approx(float(earned - paid), rel=1e-12)
    # Every step once more: the coins of the fills done by then, less what the inventory would give back.
    wealth = metrics.equity_currency(result)[1:-1]
    seen = result.steps[(result.steps["bid_px"] > 0) & (result.steps["ask_px"] > result.steps["bid_px"])]
    for got, step in list(zip(wealth, seen, strict=True))[::37]:
        done, cash, fees = 0, Fraction(0), Fraction(0)
        for qty, coins_by_then, fees_by_then in path:
            if done + qty > int(step["traded_qty"]):
                break
            done, cash, fees = done + qty, coins_by_then, fees_by_then
        mark = int(step["inventory"]) * value / (Fraction(int(step["mid2"]), 2) * tick)
        assert got == pytest.approx(float(cash - mark - fees), rel=1e-9, abs=1e-15)
    out = io.StringIO()
    render([MarketResult("touch", "coin", True, [result])], Console(file=out, width=250))
    assert "amounts in BTC (inverse contract)" in out.getvalue()


def test_the_environment_and_the_trainings_refuse_it(coin_market, tmp_path):
    env = pytest.importorskip("mmsim.env", exc_type=ImportError)
    with pytest.raises(ConfigError, match="the training environment counts money in ticks"):
        env.MarketMakingEnv(coin_market)
    pytest.importorskip("torch")
    from mmsim_agents.distill.pipeline import Options, distil
    from mmsim_agents.rl.train import train

    with pytest.raises(ConfigError, match="a training of PPO counts money in ticks"):
        train(coin_market, out=tmp_path)
    with pytest.raises(ConfigError, match="the order rule that a training chooses"):
        distil(coin_market, tmp_path, Options())
