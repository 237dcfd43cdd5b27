"""Bring in the user's own files of a known format as a dataset of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from mmsim import caches
from mmsim.data import sources, store
from mmsim.data.contracts import check_settings
from mmsim.data.conversion import Progress, no_progress
from mmsim.data.formats import FORMATS
from mmsim.data.manifest import (
    Manifest,
    imports_folder,
    manifest_paths,
    parse_manifest,
    read_manifest,
)
from mmsim.data.splits import make_splits
from mmsim.errors import ConfigError, DataError, did_you_mean
from mmsim.sessions import NS, trading_windows
from mmsim.types import MarketData

_FRACTIONS = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class ImportSettings:
    """What the user said; None or empty where the format's default holds.

    ``instrument`` holds keys of the manifest's table of that name (decimal numbers as text), ``options`` the
    converter's own; ``locked`` and ``allow`` are the manifest's.
    """

    format: str
    instrument: Mapping[str, Any] = field(default_factory=dict)
    depth: int | None = None
    episode_s: int | None = None
    decision_ns: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False
    locked: str = "keep"
    allow: Sequence[str] = ()


def import_dataset(
    name: str,
    files: Sequence[str | os.PathLike[str]],
    settings: ImportSettings,
    progress: Progress = no_progress,
) -> tuple[Manifest, MarketData]:
    """Convert `files`, cut episodes, and only if all of that worked write cache and manifest.

    The files stay where they are; the manifest holds their absolute paths and sha256s.

    Raises
    ------
    ConfigError
        For a name that is taken, an unknown format or setting, a missing tick size.
    DataError
        For files that are not as the format says, or that hold no plausible market (`mmsim.data.plausibility`).
    """
    caches.check_room(imports_folder())
    _check_name(name, settings.force)
    if settings.format not in FORMATS:
        raise ConfigError(
            f"unknown format {settings.format!r}{did_you_mean(settings.format, FORMATS)}; known: {', '.join(FORMATS)}"
        )
    paths = [Path(f).expanduser().resolve() for f in files]
    for path in paths:
        if not path.is_file():
            raise DataError("expected a file, was none", source=str(path))
    if not paths:
        raise ConfigError("expected at least one file to import")
    values = _values(name, paths, settings)
    spec = parse_manifest(values, name)
    done = store.convert(spec, paths, progress)
    _check_depth(settings, done.view_depth)
    values["replay"]["view_depth"] = done.view_depth
    windows = []
    for seg in done.segments:
        first, last = int(done.events["ts"][seg.start]), int(done.events["ts"][seg.stop - 1])
        windows += trading_windows(spec.instrument.build(), first, last)
    total_s = sum(b - a for a, b in windows) / NS
    if total_s <= 0:
        raise DataError(
            f"expected events in the sessions {spec.instrument.sessions} ({spec.instrument.timezone}), was none: "
            "set --sessions and --timezone",
            source=name,
        )
    values["splits"]["gap_s"] = min(60, int(0.02 * total_s))
    if settings.episode_s is None:
        # short data: at least one episode in each of the smaller splits
        room = int(_FRACTIONS[1] * total_s) - values["splits"]["gap_s"] - 1
        values["replay"]["episode_s"] = max(1, min(values["replay"]["episode_s"], room))
    spec = parse_manifest(values, name)
    make_splits(spec, done.segments, done.events)
    data = store.build(spec, store.save(spec, done, paths))
    _write(imports_folder() / f"{name}.toml", dump(spec))
    return spec, data


def dump(spec: Manifest) -> str:
    """Return a manifest as TOML."""
    tree = _pruned(spec.model_dump(mode="json", exclude_none=True))
    return "# Written by mmsim data import.\n" + tomli_w.dumps(tree)


def _pruned(tree: dict[str, Any]) -> dict[str, Any]:
    # empty text and tables are what a missing key means
    out = {k: _pruned(v) if isinstance(v, dict) else v for k, v in tree.items()}
    return {k: v for k, v in out.items() if v not in ("", {}, [])}


def _check_name(name: str, force: bool) -> None:
    known = manifest_paths()
    if name not in known:
        return
    if known[name].parent == imports_folder():
        if not force:
            raise ConfigError(f"dataset {name} was imported before: give --force to replace it")
    elif read_manifest(known[name]).kind != "licensed":
        raise ConfigError(f"dataset {name} comes with mmsim: choose another name")


def _values(name: str, paths: list[Path], settings: ImportSettings) -> dict[str, Any]:
    format_ = FORMATS[settings.format]
    known = manifest_paths().get(name)
    shipped: dict[str, Any] = {}
    if known is not None and known.parent != imports_folder():
        base = read_manifest(known)
        if base.format == format_.name:
            shipped = base.model_dump(mode="json")
    instrument = {
        "name": name,
        **format_.instrument,
        **shipped.get("instrument", {}),
        **settings.instrument,
    }
    check_settings(settings.instrument)
    if "tick_size" not in instrument:
        raise ConfigError(
            f"format {format_.name} needs the contract's tick size: --tick-size (and --lot-size, --multiplier)"
        )
    replay = {
        "level": format_.level,
        "decision_ns": format_.decision_ns,
        "episode_s": format_.episode_s,
        **{k: v for k, v in shipped.get("replay", {}).items() if v},
        "view_depth": 0,
    }
    if format_.level_of is not None:
        replay["level"] = format_.level_of(paths)
        if replay["level"] == "snapshot":
            replay["decision_ns"] = 0
    if settings.episode_s is not None:
        replay["episode_s"] = settings.episode_s
    if settings.decision_ns is not None:
        replay["decision_ns"] = settings.decision_ns
    options = dict(settings.options)
    if settings.depth is not None and "depth" in format_.options:
        options["depth"] = settings.depth
    return {
        "name": name,
        "title": shipped.get("title", f"{instrument['name']}, imported from {paths[0].name}").split(
            " (licensed"
        )[0],
        "kind": "licensed",
        "format": format_.name,
        "licence": "the user's own files",
        "source": "mmsim data import",
        "imported": True,
        "locked": settings.locked,
        "allow": list(settings.allow),
        "fees": shipped.get("fees", list(format_.fees)),
        "files": [{"path": str(p), "sha256": sources.sha256_of(p), "bytes": p.stat().st_size} for p in paths],
        "instrument": instrument,
        "replay": replay,
        "splits": {"fractions": list(_FRACTIONS), "gap_s": 60},
        "options": options,
    }


def _check_depth(settings: ImportSettings, view_depth: int) -> None:
    if settings.depth is None or view_depth in (0, settings.depth):
        return
    if view_depth > settings.depth:
        raise ConfigError(f"the files carry {view_depth} levels, --depth was {settings.depth}: leave it out")
    raise DataError(f"expected {settings.depth} levels as asked by --depth, was {view_depth} in the files")


def _write(path: Path, text: str) -> None:
    if not caches.keep(path, text.encode()):
        raise ConfigError(
            f"an import lives in the cache, and {path} could not be written: nothing was imported"
        )
