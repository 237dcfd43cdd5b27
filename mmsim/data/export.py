"""Write a dataset for other tools."""

from __future__ import annotations

import os
from pathlib import Path

from mmsim.data.formats import FORMATS
from mmsim.errors import ConfigError, did_you_mean
from mmsim.types import MarketData


def export(data: MarketData, path: str | os.PathLike[str], format_: str = "hftbacktest") -> int:
    """Write all events of `data` to a file that another tool reads, and return how many rows were written.

    Raises
    ------
    ConfigError
        For a format that cannot be written, or a file that cannot be.
    """
    writers = {f.name: f.write for f in FORMATS.values() if f.write is not None}
    if format_ not in writers:
        raise ConfigError(
            f"unknown format {format_!r}{did_you_mean(format_, writers)}; known: {', '.join(writers)}"
        )
    return writers[format_](data, Path(path))
