"""Options of the formats, each read in one place: text from the command line, or a value of a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmsim.errors import ConfigError


def text_option(options: Mapping[str, Any], name: str) -> str | None:
    """Return an option as text, None where it was not given."""
    value = options.get(name)
    return None if value is None else str(value)


def choice_option(options: Mapping[str, Any], name: str, choices: tuple[str, ...], where: str) -> str:
    """Return an option that is one of some words; the first is the default.

    Raises
    ------
    ConfigError
        If it is none of them.
    """
    value = str(options.get(name, choices[0]))
    if value not in choices:
        raise ConfigError(f"{where}: option {name}: expected one of {', '.join(choices)}, was {value!r}")
    return value


def whole_option(options: Mapping[str, Any], name: str, default: int, where: str, low: int, high: int) -> int:
    """Return a whole number among the options.

    Raises
    ------
    ConfigError
        If it is none, or not in ``low..high``.
    """
    said = options.get(name)
    if said is None:
        return default
    text = str(said).strip()
    if not text.isdecimal() or len(text) > 18 or not low <= int(text) <= high:
        raise ConfigError(f"{where}: option {name}: expected a whole number in {low}..{high}, was {said!r}")
    return int(text)


def band_option(options: Mapping[str, Any], where: str) -> float:
    """Return the option ``band``: levels farther than this part of the first mid-price from it are left out (0.25)."""
    try:
        band = float(options.get("band", 0.25))
    except (TypeError, ValueError):
        band = 0.0
    if not 0.0 < band <= 1.0:
        raise ConfigError(f"{where}: option band: expected a number in 0..1, was {options['band']!r}")
    return band
