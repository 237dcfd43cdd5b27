"""For people who write agents: the contract checker and small generated markets."""

from __future__ import annotations

from mmsim.testing.contract import Check, Report, check_agent
from mmsim.testing.markets import market_from, tiny_market

__all__ = ["Check", "Report", "check_agent", "market_from", "tiny_market"]
