"""Market data: one registry of datasets, one reader per format, one canonical event array.

``load("if")`` returns a `mmsim.types.MarketData`, converted (or generated) on first use and memory-mapped
from the cache afterwards.
"""

from mmsim.data.manifest import Manifest, manifest, names
from mmsim.data.store import load

__all__ = ["Manifest", "load", "manifest", "names"]
