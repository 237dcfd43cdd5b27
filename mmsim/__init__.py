"""mmsim: backtest and simulate market makers on a numba-accelerated limit-order book."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Agent": "mmsim.agent",
    "Strategy": "mmsim.agent",
    "Observation": "mmsim.agent",
    "Quotes": "mmsim.agent",
    "SessionContext": "mmsim.agent",
    "Fill": "mmsim.agent",
    "Instrument": "mmsim.types",
    "MarketData": "mmsim.types",
    "Session": "mmsim.sim.session",
    "SimConfig": "mmsim.config",
    "load": "mmsim.data",
    "run": "mmsim.runner",
}
__all__ = sorted(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): `import mmsim` and `mmsim --help` must not pay for numba or pandas.
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'mmsim' has no attribute {name!r}")
