"""Inverse and quanto contracts are told by what venues call them; a wrong kind is refused, the right one imports."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmsim.data
from mmsim.config import SimConfig
from mmsim.data.contracts import kind_of
from mmsim.data.conversion import no_progress
from mmsim.data.formats import binance
from mmsim.data.manifest import InstrumentSpec, manifest
from mmsim.data.origin import Origin
from mmsim.data.snapshots import turnover_ticks
from mmsim.errors import ConfigError, DataError
from mmsim.metrics import epnl
from mmsim.registry import make_agent
from mmsim.sim.session import Session
from mmsim.types import Instrument

T0 = 1_700_000_000_000_000  # us


@pytest.mark.parametrize(
    ("venue", "symbols", "kind"),
    [
        ("bitmex", "XBTUSD XBTEUR XBTETH XBTM24", "inverse"),
        ("bitmex", "ETHUSD XRPUSD LTCUSD ETHUSDM22", "quanto"),
        ("binance-delivery", "BTCUSD_PERP ETHUSD_240628", "inverse"),
        ("binance-futures", "BTCUSDT BTCUSDT_240628", "linear"),
        ("binance", "BTCUSD_PERP BTCUSD_240628", "inverse"),
        ("binance", "BTCUSDT BTCUSDT_240628 ETHUSDC", "linear"),
        ("bybit", "BTCUSD BTCUSDH24", "inverse"),
        ("bybit", "BTCUSDT BTCPERP", "linear"),
        ("deribit", "BTC-PERPETUAL ETH-28JUN24 BTC-5JUL24", "inverse"),
        ("deribit", "BTC_USDC-PERPETUAL SOL_USDC-28JUN24 BTC_USDC", "linear"),
        ("okex-swap", "BTC-USD-SWAP", "inverse"),
        ("okex-swap", "BTC-USDT-SWAP", "linear"),
        ("okex-futures", "BTC-USD-240628", "inverse"),
        ("cryptofacilities", "PI_XBTUSD FI_XBTUSD_240628", "inverse"),
        ("cryptofacilities", "PF_XBTUSD FF_XBTUSD_240628", "linear"),
        # not named by a rule: what the user says holds
        ("bitmex", "XBTUSDT ETHUSDT COINUSDT", None),
        ("deribit", "BTC-28JUN24-60000-C", None),
        ("coinbase", "BTC-USD", None),
        ("bitstamp", "btcusd", None),
    ],
)
def test_venues_names(venue: str, symbols: str, kind: str | None) -> None:
    assert {s: kind_of(venue, s) for s in symbols.split()} == dict.fromkeys(symbols.split(), kind)


def tardis(folder: Path, venue: str, symbol: str) -> list[str]:
    """Write a minute of a market that moves a tick a second, with a trade through every quote."""
    head = f"{venue},{symbol}"
    book = ["exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"]
    trades = ["exchange,symbol,timestamp,local_timestamp,id,side,price,amount"]
    old = 0.0
    for k in range(600):
        us, px = T0 + k * 100_000, 50_000 + 0.5 * (k // 10 % 7)
        for side, level in (("bid", px), ("ask", px + 0.5)):
            if k % 10 == 0 and k:
                book.append(f"{head},{us},{us + 90},false,{side},{old + 0.5 * (side == 'ask')},0")
            book.append(f"{head},{us},{us + 90},{'true' if k == 0 else 'false'},{side},{level},{100 + k % 3}")
        old = px
        if k % 3 == 0:
            trades.append(
                f"{head},{us + 7},{us + 99},{k},{'sell' if k % 2 else 'buy'},{px + 0.5 * (k % 2 == 0)},300"
            )
    for name, rows in (("book.csv", book), ("trades.csv", trades)):
        (folder / name).write_text("\n".join(rows) + "\n")
    return [str(folder / "book.csv"), str(folder / "trades.csv"), "--format", "tardis", "--tick-size", "0.5"]


AS_COIN = ["--contract", "inverse", "--currency", "BTC", "--multiplier", "1"]


@pytest.mark.parametrize(
    ("venue", "symbol", "more", "said"),
    [
        ("bitmex", "XBTUSD", [], "expected a linear contract, was XBTUSD of bitmex, which is inverse"),
        ("binance-delivery", "BTCUSD_PERP", [], "import with --contract inverse, --currency COIN and --multiplier VALUE"),
        ("deribit", "BTC-PERPETUAL", [], "import with --contract inverse"),
        ("bitmex", "ETHUSD", [], "was ETHUSD of bitmex, a quanto"),
        ("bitmex", "ETHUSD", AS_COIN, "was ETHUSD of bitmex, a quanto"),
        ("binance-futures", "BTCUSDT", AS_COIN, "which is linear: leave out --contract inverse"),
        ("bitmex", "XBTUSD", AS_COIN[:4], "needs --multiplier, what one unit of quantity is worth"),
        ("bitmex", "XBTUSD", [*AS_COIN[:2], *AS_COIN[4:]], "needs --currency, the coin"),
        ("bitmex", "XBTUSD", ["--contract", "quanto"], "Input should be 'linear' or 'inverse'"),
    ],
)  # fmt: skip
def test_a_wrong_kind_is_refused_and_nothing_is_written(
    say: Any, empty_cache: Path, tmp_path: Path, venue: str, symbol: str, more: list[str], said: str
) -> None:
    code, out, err = say("import", "coin", *tardis(tmp_path, venue, symbol), *more)
    assert (code, out) == (2, "")
    assert said in err
    assert not [p for p in empty_cache.rglob("*") if p.is_file()]


def test_an_inverse_contract_is_imported_and_earns_coins(say: Any, empty_cache: Path, tmp_path: Path) -> None:
    code, _, err = say(
        "import", "coin", *tardis(tmp_path, "bitmex", "XBTUSD"), *AS_COIN, "--unit-lots", "100"
    )
    assert (code, err) == (0, "")
    instrument = manifest("coin").instrument.build()
    assert (instrument.contract, instrument.currency, instrument.multiplier) == ("inverse", "BTC", Decimal(1))
    code, out, _ = say("check", "coin", "--json", "-")
    assert code == 0 and json.loads(out)["events"] > 600
    data = mmsim.data.load("coin")
    session = Session(data, SimConfig(), calibration={"sigma": 1.0, "A": 0.5, "k": 1.0, "mean_spread": 1.0})
    result = session.run(make_agent("foic", {}), data.splits["test"][0])
    assert len(result.fills) > 0
    # A round trip of 100 USD at 50,000 moves fractions of a coin, never whole ones.
    assert 0 < abs(epnl(result)) < 1e-3


def test_the_raw_feed_of_coin_m_is_told_by_its_symbol(tmp_path: Path) -> None:
    def line(ms: int, message: dict[str, Any]) -> str:
        return f"{(1_700_000_000_000 + ms) * 1000} {json.dumps(message)}"

    times = {
        "e": "depthUpdate",
        "E": 1_700_000_000_010,
        "T": 1_700_000_000_010,
        "s": "BTCUSD_PERP",
        "ps": "BTCUSD",
    }
    lines = [
        line(0, {"lastUpdateId": 100, "E": 1_700_000_000_000, "T": 1_700_000_000_000,
                 "bids": [["50000.0", "10"]], "asks": [["50000.1", "12"]]}),
        line(10, times | {"U": 96, "u": 104, "pu": 95, "b": [["50000.0", "11"]], "a": []}),
    ]  # fmt: skip
    path = tmp_path / "a.dat"
    path.write_text("\n".join(lines) + "\n")
    coin = {"tick_size": Decimal("0.1"), "multiplier": Decimal(100), "currency": "BTC"}
    with pytest.raises(DataError, match="was BTCUSD_PERP of binance, which is inverse"):
        binance.convert([path], Instrument("x", **coin), {}, no_progress)  # type: ignore[arg-type]
    done = binance.convert([path], Instrument("x", contract="inverse", **coin), {}, no_progress)  # type: ignore[arg-type]
    assert len(done.events) == 3


def test_trades_implied_by_turnover_are_refused() -> None:
    one = np.ones(1, np.int64)
    coin = Instrument("x", Decimal(1), currency="BTC", contract="inverse")
    with pytest.raises(ConfigError, match="trades implied by the turnover of x are not supported"):
        turnover_ticks(one.astype(float), coin, Origin("s", one), "f")


def test_hashes_of_linear_markets_stay_what_they_were() -> None:
    linear = InstrumentSpec(name="x", tick_size=Decimal(1))
    assert "contract" not in linear.identity()
    assert linear.identity("currency").keys() == linear.identity().keys() - {"currency"}
    assert (
        InstrumentSpec(name="x", tick_size=Decimal(1), contract="inverse").identity()["contract"] == "inverse"
    )
