"""Which contracts are inverse or quanto, by what venues call them: a wrong kind is refused, not priced.

A feed names a symbol, never the kind of the contract, and prices look alike: 1,000 lots of BTCUSD_PERP read as a
linear contract earn a thousand times the coin's move. The rules are the venues' own naming, as in their contract
specifications: BitMEX ("Inverse Perpetuals Guide", "ETHUSD Series Guide" on quantos), Binance COIN-M
(``BTCUSD_PERP``, ``BTCUSD_240628``), Bybit ("What is an inverse contract"), Deribit ("Contract
Specifications"), OKX (``BTC-USD-SWAP``), Kraken Derivatives ("Product Listing Summary": PI and FI inverse, PF
and FF linear), Huobi. Venues are called as Tardis calls them. What no rule names is taken as the user says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmsim.errors import ConfigError, DataError
from mmsim.types import Instrument

LINEAR, INVERSE, QUANTO = "linear", "inverse", "quanto"
_MONTH = r"[FGHJKMNQUVXZ]\d\d"

# venue -> kinds and the symbols that are of them; the first that fits holds
_RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "bitmex": (
        (INVERSE, rf"XBT(USD|EUR|ETH|{_MONTH})"),
        (QUANTO, rf"(?!XBT)[A-Z0-9]+USD({_MONTH})?"),  # margined in bitcoin, a fixed multiplier
    ),
    # USD-M, COIN-M and spot lines look alike: of the raw feed the symbol alone tells
    "binance": ((INVERSE, r"[A-Z0-9]+USD_(PERP|\d{6})"), (LINEAR, r"[A-Z0-9]+(USDT|USDC|BUSD)(_\d{6})?")),
    "binance-delivery": ((INVERSE, r".*"),),
    "binance-futures": ((LINEAR, r".*"),),
    "bybit": ((INVERSE, rf"[A-Z0-9]+USD({_MONTH})?"), (LINEAR, r"[A-Z0-9]+(USDT|USDC|PERP)(-.*)?")),
    "deribit": (
        (INVERSE, r"[A-Z0-9]+-(PERPETUAL|\d{1,2}[A-Z]{3}\d{2})"),
        (LINEAR, r"[A-Z0-9]+_(USDC|USDT)(-.*)?"),
    ),
    "okex-swap": ((INVERSE, r"[A-Z0-9]+-USD-SWAP"), (LINEAR, r"[A-Z0-9]+-(USDT|USDC)-SWAP")),
    "okex-futures": ((INVERSE, r"[A-Z0-9]+-USD-\d{6}"), (LINEAR, r"[A-Z0-9]+-(USDT|USDC)-\d{6}")),
    "cryptofacilities": ((INVERSE, r"(PI|FI)_.*"), (LINEAR, r"(PF|FF)_.*")),
    "huobi-dm": ((INVERSE, r".*"),),
    "huobi-dm-swap": ((INVERSE, r".*"),),
    "huobi-dm-linear-swap": ((LINEAR, r".*"),),
}


def kind_of(venue: str, symbol: str) -> str | None:
    """Return ``"linear"``, ``"inverse"``, ``"quanto"``, or None where no rule names the symbol.

    >>> [kind_of("bitmex", s) for s in ("XBTUSD", "XBTU20", "ETHUSD", "XBTUSDT")]
    ['inverse', 'inverse', 'quanto', None]
    >>> [kind_of("binance", s) for s in ("BTCUSD_PERP", "BTCUSDT")]
    ['inverse', 'linear']
    """
    for kind, names in _RULES.get(venue.lower(), ()):
        if re.fullmatch(names, symbol.upper()):
            return kind
    return None


def check_kind(
    venue: str, symbol: str, instrument: Instrument, *, source: str = "", field: str = "symbol"
) -> None:
    """Refuse a symbol whose kind, by its venue, is not the instrument's.

    Raises
    ------
    DataError
        With the option that is right; a quanto contract is not supported at all.
    """
    kind = kind_of(venue, symbol)
    if kind in (None, instrument.contract):
        return
    named = f"{symbol} of {venue}"
    if kind == QUANTO:
        raise DataError(
            f"expected a linear or inverse contract, was {named}, a quanto (profit in a coin at a fixed "
            "multiplier): not supported",
            source=source, field=field,
        )  # fmt: skip
    fix = "leave out --contract inverse"
    if kind == INVERSE:
        fix = (
            "import with --contract inverse, --currency COIN and --multiplier VALUE (quote currency per unit)"
        )
    raise DataError(
        f"expected a {instrument.contract} contract, was {named}, which is {kind}: {fix}",
        source=source, field=field,
    )  # fmt: skip


def check_settings(instrument: Mapping[str, Any]) -> None:
    """Refuse an inverse contract whose coin or value was not said: no default of a format can know them.

    Raises
    ------
    ConfigError
        Names what is missing.
    """
    if instrument.get("contract") != INVERSE:
        return
    needed = {
        "currency": "the coin that it is settled in, such as BTC",
        "multiplier": "what one unit of quantity is worth in the quote currency: 1 for XBTUSD, 100 for BTCUSD_PERP",
    }
    for key, what in needed.items():
        if key not in instrument:
            raise ConfigError(f"an inverse contract needs --{key}, {what}")
