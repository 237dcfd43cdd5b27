"""What a data format is: one record with all that the rest of mmsim knows of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsim.data.conversion import Conversion, Progress, no_progress
from mmsim.errors import ConfigError, did_you_mean
from mmsim.types import Instrument, MarketData

# What an import of a US stock starts from: cents, single shares in board lots of 100, the regular session.
US_STOCK: Mapping[str, Any] = {
    "tick_size": "0.01",
    "lot_size": "1",
    "unit_lots": 100,
    "currency": "USD",
    "timezone": "America/New_York",
    "sessions": [["09:30", "16:00"]],
}

Reader = Callable[[list[Path], Instrument, Mapping[str, Any], Progress], Conversion]


@dataclass(frozen=True)
class Format:
    """A format of market data: what it is called, how it is read, and what an import of it starts from.

    Parameters
    ----------
    name : str
        Of ``--format`` and of a manifest's key ``format``.
    title : str
        One line for ``mmsim data import --help``.
    suffixes : tuple of str
        How the names of its files end, packed or plain.
    read : callable
        ``read(paths, instrument, options, progress)`` returns the `Conversion` of some files, and raises `DataError` or
        `ConfigError` for what it cannot read. ``progress(stage, fraction)`` may be called on the way. Nothing is
        repaired silently: what is dropped is counted under ``counts["dropped_<reason>"]``, what is compared under
        ``checks``.
    level : {"L3", "L2", "snapshot"}
        Of its feed; where the files decide (`level_of`) the usual one.
    options : frozenset of str
        Names of the options that `read` understands. If ``depth`` is among them, the manifest's depth is handed over.
    instrument : mapping
        Defaults of the keys of a manifest's ``[instrument]`` table; without ``tick_size`` the user must say it.
    decision_ns : int
        Default time between decisions, ns; 0: at every snapshot.
    episode_s : int
        Default length of an episode, seconds.
    fees : tuple of str
        Fee schedules that an import names, the usual one first.
    level_of : callable, optional
        ``level_of(paths)`` looks into files and returns their level, where that differs from file to file.
    write : callable, optional
        ``write(data, path)`` writes a market to a file of this format and returns the number of rows.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    read: Reader
    level: str
    options: frozenset[str] = frozenset()
    instrument: Mapping[str, Any] = field(default_factory=dict)
    decision_ns: int = 0
    episode_s: int = 900
    fees: tuple[str, ...] = ("zero",)
    level_of: Callable[[list[Path]], str] | None = None
    write: Callable[[MarketData, Path], int] | None = None

    def __post_init__(self) -> None:
        """Check the name: it stands in manifests and on the command line."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise ConfigError(
                f"expected a format's name of small letters, digits, '_' and '-', was {self.name!r}"
            )

    def convert(
        self,
        paths: list[Path],
        instrument: Instrument,
        options: Mapping[str, Any],
        progress: Progress = no_progress,
    ) -> Conversion:
        """Read files, after a look at the names of the options.

        Raises
        ------
        ConfigError
            For an option that the format does not know, naming the nearest one.
        DataError
            For anything in the files that is not as the format says.
        """
        known = sorted(self.options)
        for key in options:
            if key not in known:
                raise ConfigError(
                    f"{self.name}: unknown option {key!r}{did_you_mean(key, known)}; "
                    f"known: {', '.join(known) or 'none'}"
                )
        out = self.read(paths, instrument, options, progress)
        progress("done", 1.0)
        return out
