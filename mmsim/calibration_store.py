"""Where calibrated constants are kept: ``NAME.toml`` in the cache, or shipped with the manifests."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from mmsim.calibrate import CONSTANTS, Calibration, calibrate, usual_split
from mmsim.config import read_toml
from mmsim.errors import ConfigError, DataError
from mmsim.paths import cache_home, datasets_folder
from mmsim.types import MarketData

_log = logging.getLogger("mmsim.calibration")


def user_folder() -> Path:
    """Return the folder of the user's own calibrations, which go before the shipped ones."""
    return cache_home() / "calibration"


def lookup(name: str, source_sha256: str = "") -> dict[str, float]:
    """Return the stored constants of a dataset, or an empty mapping.

    Parameters
    ----------
    source_sha256 : str
        Hash of the dataset's source files. Where it is given, a user's calibration made from other
        files is passed over.

    Raises
    ------
    ConfigError
        If a stored file lacks a constant or holds something else than a number.
    """
    path = user_folder() / f"{name}.toml"
    if path.is_file():
        stored = read_toml(path)
        if not source_sha256 or stored.get("source_sha256") == source_sha256:
            return _constants(stored, path)
    path = datasets_folder() / "calibration" / f"{name}.toml"
    return _constants(read_toml(path), path) if path.is_file() else {}


def save(
    name: str,
    found: Calibration,
    *,
    split: str,
    source_sha256: str,
    folder: Path | None = None,
    given: Mapping[str, float] | None = None,
) -> Path:
    """Write ``NAME.toml`` into `folder` (default the user's) and return its path; `given` are those set by hand."""
    folder = user_folder() if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    values = found.constants()
    by_hand = "".join(f" --set {key}={value!r}" for key, value in (given or {}).items())
    text = (
        f"# Made by: mmsim calibrate {name} --split {split}{by_hand} --write\n"
        f"sigma = {values['sigma']!r}  # ticks per square-root second\n"
        f"A = {values['A']!r}  # orders at the mid reached per second\n"
        f"k = {values['k']!r}  # per tick\n"
        f"mean_spread = {values['mean_spread']!r}  # ticks\n"
        f"horizon_s = {found.horizon_s!r}  # seconds a hypothetical order waited\n"
        f'split = "{split}"\n'
        f'source_sha256 = "{source_sha256}"\n'
    )
    path = folder / f"{name}.toml"
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path


def constants_for(data: MarketData) -> dict[str, float]:
    """Return a market's constants: stored ones, else calibrated now and stored for next time.

    Calibrates on the training split; where there is none, on the first split that has episodes.

    Raises
    ------
    DataError
        If the market has too few trades to calibrate on.
    """
    stored = lookup(data.name, data.source_sha256)
    if stored:
        return stored
    split = usual_split(data)
    _log.info("calibrating %s on its %s split (kept in %s)", data.name, split, user_folder())
    found = calibrate(data, split)
    save(data.name, found, split=split, source_sha256=data.source_sha256)
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
