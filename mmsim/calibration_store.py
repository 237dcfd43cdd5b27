"""Where calibrated constants are kept: ``NAME.toml`` in the cache, or shipped with the manifests."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from mmsim import caches
from mmsim.calibrate import CONSTANTS, Calibration, calibrate, usual_split
from mmsim.config import read_toml
from mmsim.errors import ConfigError, DataError
from mmsim.paths import cache_home, datasets_folder
from mmsim.types import MarketData

_log = logging.getLogger("mmsim.calibration")


def user_folder() -> Path:
    """Return the folder of the user's own calibrations, which take precedence over the shipped ones."""
    return cache_home() / "calibration"


def market_key(data: MarketData) -> str:
    """Return a hash of everything that the constants depend on: sources, steps, level and episodes.

    The sources alone are not enough: the same files, imported with another tick size or other splits, have other
    constants.
    """
    instrument = data.instrument
    what = [
        *(data.source_sha256, str(instrument.tick_size), str(instrument.lot_size)),
        *(data.level, data.view_depth, len(data.events), data.px_min, data.px_max),
        {k: [(e.segment, e.start_ts, e.end_ts) for e in v] for k, v in data.splits.items()},
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def lookup(name: str, market: str = "") -> dict[str, float]:
    """Return the stored constants of a dataset, or an empty mapping.

    Parameters
    ----------
    market : str
        `market_key` of the dataset. Where it is given, a user's calibration of other data, or of the same
        data under other settings, is passed over.

    Raises
    ------
    ConfigError
        If a shipped file lacks a constant or holds something other than a number. A user's file that does is
        passed over, with a warning.
    """
    path = user_folder() / f"{name}.toml"
    if path.is_file():
        try:
            stored = read_toml(path)
            found = _constants(stored, path)
            if "crc32" in stored and stored["crc32"] != _checksum(found):
                raise ConfigError("the constants are not those that were written")
            if not market or stored.get("market") == market:
                return found
        except ConfigError as err:
            caches.made_again(path, err)
    path = datasets_folder() / "calibration" / f"{name}.toml"
    return _constants(read_toml(path), path) if path.is_file() else {}


def save(
    name: str,
    found: Calibration,
    *,
    split: str,
    source_sha256: str,
    market: str = "",
    folder: Path | None = None,
    given: Mapping[str, float] | None = None,
) -> Path:
    """Write ``NAME.toml`` into `folder` (default the user's) and return its path; `given` holds those set by hand.

    Raises
    ------
    ConfigError
        If it cannot be written.
    """
    path = (user_folder() if folder is None else folder) / f"{name}.toml"
    if not caches.keep(path, _text(name, found, split, source_sha256, market, given or {})):
        raise ConfigError(f"the calibration could not be written to {path}")
    return path


def _text(
    name: str, found: Calibration, split: str, source_sha256: str, market: str, given: Mapping[str, float]
) -> bytes:
    import tomli_w

    constants = found.constants()
    by_hand = "".join(f" --set {key}={value!r}" for key, value in given.items())
    head = (
        f"# Made by: mmsim calibrate {name} --split {split}{by_hand} --write\n"
        "# sigma: ticks per square-root second; A: orders at the mid reached per second; k: per tick; mean_spread: ticks\n"
        "# horizon_s: seconds a hypothetical order waited; market: hash of data and settings\n"
        "# crc32: of the four constants; delete that line if you change them\n"
    )
    values = {
        **constants,
        "horizon_s": found.horizon_s,
        "split": split,
        "source_sha256": source_sha256,
        "market": market,
        "crc32": _checksum(constants),
    }
    return (head + tomli_w.dumps(values)).encode()


def _checksum(constants: Mapping[str, float]) -> int:
    return caches.checksum(repr([float(constants[key]) for key in CONSTANTS]).encode())


def constants_for(data: MarketData) -> dict[str, float]:
    """Return a market's constants: stored ones, else those fitted now, which are stored for next time.

    Calibrates on the training split; where there is none, on the first split that has episodes.

    Raises
    ------
    DataError
        If the market has too few trades to calibrate on.
    """
    market = market_key(data)
    stored = lookup(data.name, market)
    if stored:
        return stored
    split = usual_split(data)
    if split == "test":
        _log.warning(
            "%s has a test split only: its constants are fitted on the days they are used on", data.name
        )
    _log.info("calibrating %s on its %s split (kept in %s)", data.name, split, user_folder())
    found = calibrate(data, split)
    text = _text(data.name, found, split, data.source_sha256, market, {})
    caches.keep(user_folder() / f"{data.name}.toml", text)
    return found.constants()


def constants_or_reason(data: MarketData) -> tuple[dict[str, float], str]:
    """Return a market's constants, or none and why it cannot be calibrated: most agents need none."""
    try:
        return constants_for(data), ""
    except DataError as err:
        return {}, str(err)


def _constants(stored: Mapping[str, object], path: Path) -> dict[str, float]:
    out = {}
    for key in CONSTANTS:
        value = stored.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(
                f"{path}: expected a number for {key!r}, was {value!r}; run mmsim calibrate again"
            )
        out[key] = float(value)
    return out


def fitted_queue_power(name: str) -> float:
    """Return the exponent of the power queue model that ``mmsim calibrate queue`` fitted.

    The market's own (``NAME.queue.toml``, the user's before the shipped one), else the one pooled over the
    L3 markets that mmsim was fitted on (``all.queue.toml``).

    Raises
    ------
    ConfigError
        If there is none at all, or the file does not hold one.
    """
    for stem in (name, "all"):
        for folder in (user_folder(), datasets_folder() / "calibration"):
            path = folder / f"{stem}.queue.toml"
            if not path.is_file():
                continue
            power = read_toml(path).get("power")
            if isinstance(power, bool) or not isinstance(power, int | float) or not power > 0:
                raise ConfigError(f"{path}: expected a positive number for 'power', was {power!r}")
            return float(power)
    raise ConfigError(
        "queue model 'fitted': there is no fit; run: mmsim calibrate queue --dataset NAME --write"
    )
