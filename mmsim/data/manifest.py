"""Dataset manifests: `datasets/NAME.toml` as shipped, and those that `mmsim data import` wrote."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mmsim.config import build
from mmsim.data.formats import FORMATS
from mmsim.errors import ConfigError, UnknownDatasetError, did_you_mean
from mmsim.paths import cache_home, datasets_folder
from mmsim.sessions import session_minutes
from mmsim.types import FeeSchedule, Instrument

SPLITS = ("train", "validation", "test")
# file names in the folder of manifests that are no datasets, and what some systems cannot store
RESERVED = ("fees", "calibration", "con", "prn", "aux", "nul")
# bounds of what a manifest may say: far beyond any market, far below what 64 bits hold
MAX_UNIT_LOTS = 10**9
MAX_DECISION_NS = 86_400 * 10**9
MAX_EPISODE_S = 31 * 86_400
MAX_INVENTORY_UNITS = 10**6
_SMALLEST, _LARGEST = Decimal("1e-18"), Decimal("1e12")  # of tick size, lot size and multiplier


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _decimal(value: Any) -> Decimal:
    # decimal *text* only: a TOML float has already lost what was written
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        raise ValueError(f'expected decimal text such as "0.01", was {value!r}')
    try:
        out = Decimal(value)
    except ArithmeticError:
        raise ValueError(f'expected decimal text such as "0.01", was {value!r}') from None
    if not out.is_finite():
        raise ValueError("expected a finite number")
    return out


class SourceFile(_Model):
    """One file of a dataset; `path` is relative to the data home (absolute for imported ones).

    ``content_sha256`` is given where the origin serves the plain file and we keep it gzipped: any gzip of
    that content is accepted then, since compressors differ.
    """

    path: str = Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f]+$")
    url: str = Field("", pattern=r"^(https?://[^\s]+)?$")  # no file:, no ftp:
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    content_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    bytes: int = Field(ge=0)

    @property
    def inside(self) -> bool:
        """Whether `path` stays below the folder that it is relative to, on every system."""
        return not (
            PureWindowsPath(self.path).anchor
            or PurePosixPath(self.path).anchor
            or ".." in PureWindowsPath(self.path).parts  # which splits at both kinds of slash
        )


class InstrumentSpec(_Model):
    """The ``[instrument]`` table; see `mmsim.types.Instrument`."""

    name: str
    tick_size: Decimal
    lot_size: Decimal = Decimal(1)
    multiplier: Decimal = Decimal(1)
    currency: str = "CNY"
    unit_lots: int = Field(1, ge=1, le=MAX_UNIT_LOTS)
    timezone: str = "Asia/Shanghai"
    sessions: tuple[tuple[str, str], ...] = ()
    contract: Literal["linear", "inverse"] = "linear"

    _text = field_validator("tick_size", "lot_size", "multiplier", mode="before")(_decimal)

    @model_validator(mode="after")
    def _check(self) -> InstrumentSpec:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        if min(self.tick_size, self.lot_size, self.multiplier) <= 0:
            raise ValueError("expected tick_size, lot_size and multiplier > 0")
        for name in ("tick_size", "lot_size", "multiplier"):
            value = getattr(self, name)
            if not _SMALLEST <= value <= _LARGEST:
                raise ValueError(f"expected {name} in {_SMALLEST}..{_LARGEST}, was {value}")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"expected a time zone name such as 'Asia/Shanghai', was {self.timezone!r}"
            ) from None
        for pair in self.sessions:
            for text in pair:
                session_minutes(text)
        return self

    def build(self) -> Instrument:
        """Return the value type that the rest of mmsim uses."""
        return Instrument(
            name=self.name,
            tick_size=self.tick_size,
            lot_size=self.lot_size,
            multiplier=self.multiplier,
            currency=self.currency,
            unit_lots=self.unit_lots,
            timezone=self.timezone,
            sessions=self.sessions,
            contract=self.contract,
        )

    def identity(self, *left_out: str) -> dict[str, Any]:
        """Return the table for hashes; a linear contract says nothing, so that hashes stay what they were."""
        linear = {"contract"} if self.contract == "linear" else set()
        return self.model_dump(mode="json", exclude={*left_out, *linear})


class ReplaySpec(_Model):
    """The ``[replay]`` table: how the market is replayed unless a run says otherwise."""

    level: Literal["L3", "L2", "snapshot"]
    decision_ns: int = Field(ge=0, le=MAX_DECISION_NS)
    view_depth: int = Field(0, ge=0, le=10_000)
    episode_s: int = Field(ge=1, le=MAX_EPISODE_S)
    max_inventory_units: int = Field(10, ge=1, le=MAX_INVENTORY_UNITS)


class SplitSpec(_Model):
    """The ``[splits]`` table: labels of segments, or fractions of the trading time in order.

    With `fractions` a gap of `gap_s` seconds is left after each boundary.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    fractions: tuple[float, float, float] | None = None
    gap_s: int = Field(60, ge=0, le=MAX_EPISODE_S)

    @model_validator(mode="after")
    def _check(self) -> SplitSpec:
        named = [*self.train, *self.validation, *self.test]
        if self.fractions is None:
            if not named:
                raise ValueError("expected segment labels for train, validation or test, or fractions")
            if len(set(named)) != len(named):
                raise ValueError("expected every segment in one split only")
        elif named:
            raise ValueError("expected either segment labels or fractions, was both")
        elif min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-9:
            raise ValueError(f"expected three fractions >= 0 with sum 1, was {self.fractions}")
        return self


class Manifest(_Model):
    """One dataset: where it comes from, what it is, and how it is replayed.

    ``locked`` says what becomes of states in which the best bid is at or above the best ask (level data only);
    ``allow`` names the checks of `mmsim.data.plausibility` that may fail: the user has looked.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=100)  # part of file names: no path
    title: str
    kind: Literal["public", "simulated", "licensed"]
    format: str = ""
    licence: str = ""
    source: str = ""
    files: tuple[SourceFile, ...] = ()
    instrument: InstrumentSpec
    replay: ReplaySpec
    splits: SplitSpec
    options: dict[str, Any] = Field(default_factory=dict)  # for the converter
    generator: dict[str, Any] = Field(default_factory=dict)  # for the simulator of a simulated market
    events_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")  # of a simulated market's event array
    fees: tuple[str, ...] = ("zero",)
    imported: bool = False
    locked: Literal["keep", "drop"] = "keep"
    allow: tuple[Literal["times", "twice", "crossed", "locked", "one-sided", "trades", "tick-size"], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        for file in self.files:
            if not (self.imported or file.inside):
                raise ValueError(
                    f"files: expected a path inside the data home, was {file.path!r}: only imported datasets name "
                    "files by absolute paths"
                )
        if self.name in RESERVED:
            raise ValueError(f"expected another name than {', '.join(RESERVED)}, which mean something else")
        seen: dict[str, str] = {}
        for file in self.files if self.imported else ():
            if file.sha256 in seen:
                raise ValueError(
                    f"expected every file once, was the same content in {seen[file.sha256]} and {file.path}"
                )
            seen[file.sha256] = file.path
        if self.instrument.unit_lots * self.replay.max_inventory_units > 2**31 - 1:
            raise ValueError(
                f"expected unit_lots times max_inventory_units below 2**31, was {self.instrument.unit_lots} times "
                f"{self.replay.max_inventory_units}"
            )
        if self.kind == "simulated":
            if self.files or not self.generator:
                raise ValueError("expected a [generator] table and no files for a simulated market")
        elif self.format not in FORMATS:
            raise ValueError(
                f"expected format in {tuple(FORMATS)}, was {self.format!r}{did_you_mean(self.format, FORMATS)}"
            )
        return self

    @property
    def simulated(self) -> bool:
        """Whether the events come from our own simulator."""
        return self.kind == "simulated"

    @cached_property
    def source_sha256(self) -> str:
        """sha256 over the sources' sha256s, or over the generator's parameters."""
        if self.simulated:
            what: Any = {"generator": self.generator, "instrument": self.instrument.identity()}
        else:
            what = [f.sha256 for f in self.files]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def fee_schedules(self) -> dict[str, FeeSchedule]:
        """Return the named fee schedules of this market, ``zero`` always among them."""
        known = fee_schedules()
        out = {"zero": known["zero"]}
        for name in self.fees:
            if name not in known:
                raise ConfigError(
                    f"dataset {self.name}: unknown fee schedule {name!r}{did_you_mean(name, known)}"
                )
            out[name] = known[name]
        return out


def imports_folder() -> Path:
    """Return the folder of the manifests that `mmsim data import` writes."""
    return cache_home() / "imports"


def manifest_paths() -> dict[str, Path]:
    """Return ``{name: manifest file}``, imported ones in front of shipped ones of the same name."""
    out: dict[str, Path] = {}
    for folder in (datasets_folder(), imports_folder()):
        if os.path.isdir(folder):  # (false, not an error, for a folder that may not be looked into)
            for path in sorted(folder.glob("*.toml")):
                if path.stem != "fees":
                    out[path.stem] = path
    return out


def names() -> list[str]:
    """Return the names of all datasets, shipped and imported, sorted."""
    return sorted(manifest_paths())


def manifest(name: str) -> Manifest:
    """Return the manifest of dataset `name`.

    Raises
    ------
    UnknownDatasetError
        If there is none of that name.
    ConfigError
        If the manifest is wrong.
    """
    paths = manifest_paths()
    if name not in paths:
        raise UnknownDatasetError(
            f"no dataset {name!r}{did_you_mean(name, paths)}; known: {', '.join(sorted(paths))}"
        )
    return read_manifest(paths[name])


def read_manifest(path: Path) -> Manifest:
    """Read and validate one manifest file; its name must be the file's.

    Raises
    ------
    ConfigError
        With file, key and what was expected.
    """
    out = parse_manifest(_toml(path), str(path))
    if out.name != path.stem:
        raise ConfigError(f"manifest {path}: expected name {path.stem!r}, was {out.name!r}")
    return out


def parse_manifest(values: Mapping[str, Any], where: str) -> Manifest:
    """Validate manifest values with a one-line error.

    Raises
    ------
    ConfigError
        With key and what was expected.
    """
    manifest: Manifest = build(Manifest, values, f"manifest {where}")
    return manifest


def fee_schedules() -> dict[str, FeeSchedule]:
    """Return every schedule of ``datasets/fees.toml`` by name.

    Raises
    ------
    ConfigError
        If a value is not decimal text or a key is unknown.
    """
    path = datasets_folder() / "fees.toml"
    out: dict[str, FeeSchedule] = {}
    for name, values in _toml(path).items():
        numbers: dict[str, Decimal] = {}
        for key in values.keys() - {"source"}:
            if key not in ("maker_rate", "taker_rate", "maker_per_lot", "taker_per_lot"):
                raise ConfigError(f"{path}: schedule {name}: unknown key {key!r}")
            try:
                numbers[key] = _decimal(values[key])
            except ValueError as err:
                raise ConfigError(f"{path}: schedule {name}: {key}: {err}") from None
        out[name] = FeeSchedule(name=name, source=values.get("source", ""), **numbers)
    if "zero" not in out:
        raise ConfigError(f"{path}: expected a schedule 'zero'")
    return out


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(f"manifest {path}: {err.strerror or err}") from None
    except RecursionError:
        raise ConfigError(f"manifest {path}: not valid TOML: nested too deeply") from None
    except ValueError as err:  # no TOML, no UTF-8, a number of thousands of digits
        raise ConfigError(f"manifest {path}: not valid TOML: {err}") from None
