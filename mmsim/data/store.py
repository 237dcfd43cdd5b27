"""The cache of converted datasets, and `load`, which fills it on first use.

A converted dataset is a folder ``datasets/NAME-<key>/`` of the cache with ``events.npy``, ``recv.npy`` and
``meta.json``. The key hashes the sources' sha256s, the converter's version and every setting of the
manifest, so a changed manifest never meets an old array, nor what was found of one. Folders are written aside and
renamed: two processes may convert at once, and a failed conversion leaves nothing. A folder is used only if its
checksums are right, else it is made again; where the cache cannot be written the dataset stays in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmsim import caches
from mmsim.data import plausibility
from mmsim.data.cache_folder import META, DamagedError, Stored, meta_text, open_folder, write_folder
from mmsim.data.conversion import Conversion, Progress, TooManyLotsError, no_progress
from mmsim.data.converters import version_of
from mmsim.data.formats import FORMATS
from mmsim.data.locked import drop_locked
from mmsim.data.manifest import Manifest, manifest
from mmsim.data.sources import find_sources, stamps, verify_sources, were_touched
from mmsim.data.splits import make_splits
from mmsim.errors import DataError
from mmsim.paths import cache_home
from mmsim.types import EventKind, MarketData

LAYOUT_VERSION = 5  # of the cache folder; raise it when meta.json or what events mean changes in all formats
# what of a manifest no conversion looks at; all else is part of the key (files by their sha256s)
_WORDS = {"title", "licence", "source", "fees", "files", "imported"}


def load(name: str, *, data_home: str | os.PathLike[str] | None = None, progress: bool = True) -> MarketData:
    """Return dataset `name`, converting or generating it on first use.

    Parameters
    ----------
    name : str
        A name of `names`.
    data_home : path, optional
        Folder of the source files; default ``MMSIM_DATA_HOME`` or a folder of the user's cache.
    progress : bool
        Show a progress bar on stderr while converting.

    Raises
    ------
    UnknownDatasetError
        If there is no such dataset.
    DataError
        If its files are missing (says where it looked and how to get them), changed or broken.
    """
    spec = manifest(name)
    if not progress:
        return build(spec, stored(spec, data_home))
    from mmsim.progress import fraction_bar

    with fraction_bar(f"{name}: reading") as report:
        return build(spec, stored(spec, data_home, report))


def build(spec: Manifest, data: Stored) -> MarketData:
    """Put a manifest and its stored events together."""
    meta = data.meta
    instrument = spec.instrument.build()
    splits, split_counts = make_splits(spec, data.segments, data.events)
    return MarketData(
        name=spec.name,
        instrument=instrument,
        events=data.events,
        segments=data.segments,
        splits=splits,
        level=meta["level"],
        n_slots=meta["n_slots"],
        px_min=meta["px_min"],
        px_max=meta["px_max"],
        decision_ns=spec.replay.decision_ns,
        view_depth=meta["view_depth"],
        simulated=spec.simulated,
        source_sha256=spec.source_sha256,
        recv_ts=data.recv_ts,
        fees=spec.fee_schedules(),
        counts={**meta["counts"], **meta["checks"], **split_counts},
        max_inventory_units=spec.replay.max_inventory_units,
        generator=spec.generator,
    )


def stored(
    spec: Manifest, home: str | os.PathLike[str] | None = None, progress: Progress = no_progress
) -> Stored:
    """Return the dataset from the cache, after converting it if it is not there, or not as it was written.

    Raises
    ------
    DataError
        If it must be converted and its files are missing, changed or broken.
    """
    folder = cache_folder(spec)
    damage = ""
    try:
        data = open_folder(folder)
    except DamagedError as err:
        data, damage = None, str(err)
    if data is not None:
        if not were_touched(spec, home, data.meta["stamps"]):
            return data
        paths = find_sources(spec, home)
        verify_sources(spec, paths)
        caches.keep(folder / META, meta_text({**data.meta, "stamps": stamps(paths)}))
        return data
    if damage:
        caches.made_again(folder, damage)
    if spec.simulated:
        return save(spec, _as_pinned(spec, generate(spec)), [])
    try:
        paths = find_sources(spec, home)
        verify_sources(spec, paths)
    except DataError as err:
        if damage:
            raise DataError(
                f"the cached dataset is damaged ({damage}) and cannot be made again: {err}",
                source=str(folder),
            ) from None
        raise
    return save(spec, convert(spec, paths, progress), paths)


def convert(spec: Manifest, paths: list[Path], progress: Progress = no_progress) -> Conversion:
    """Run the converter of the manifest's format over its files.

    Raises
    ------
    DataError
        For anything in the files that is not as claimed.
    """
    format_ = FORMATS[spec.format]
    options = dict(spec.options)
    if "depth" not in options and spec.replay.view_depth and "depth" in format_.options:
        options["depth"] = spec.replay.view_depth
    try:
        done = format_.convert(paths, spec.instrument.build(), options, progress)
    except TooManyLotsError as err:
        if not err.factor:
            raise
        raise DataError(f"{err}: --lot-size {spec.instrument.lot_size * err.factor:f}") from None
    if done.level != spec.replay.level:
        raise DataError(f"expected level {spec.replay.level!r}, was {done.level!r}", source=spec.name)
    done = done.finish(spec.name)
    return drop_locked(done, spec.name) if spec.locked == "drop" else done


def cache_folder(spec: Manifest) -> Path:
    """Return the folder of the converted dataset, whether it exists or not."""
    version = "" if spec.simulated else version_of(FORMATS[spec.format].read)
    key = json.dumps(
        {
            "layout": LAYOUT_VERSION,
            "version": version,
            "sources": spec.source_sha256,
            "manifest": spec.model_dump(mode="json", exclude=_WORDS),
        },
        sort_keys=True,
    )
    return cache_home() / "datasets" / f"{spec.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def is_cached(spec: Manifest) -> bool:
    """Whether the converted dataset is in the cache."""
    return (cache_folder(spec) / META).is_file()


def events_sha256(events: npt.NDArray[np.void]) -> str:
    """Return the sha256 of an event array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(events).view(np.uint8).data).hexdigest()


def generate(spec: Manifest) -> Conversion:
    """Simulate the market that a manifest describes."""
    from mmsim.flow.markets import generate as trading_day  # (only simulated markets need the simulator)

    events, segments, n_slots = trading_day(spec.generator, spec.instrument.build(), spec.name)
    executed = events["kind"] == EventKind.EXECUTE
    return Conversion(
        events,
        segments,
        "L3",
        n_slots=n_slots,
        counts={
            "rows_read": len(events),
            "messages": int(np.count_nonzero(events["flags"])),
            "trades": int(executed.sum()),
            "traded_lots": int(events["qty"][executed].sum()),
        },
        notes=["simulated: a zero-intelligence order flow, not a recording of any market"],
    ).finish(spec.name)


def _as_pinned(spec: Manifest, done: Conversion) -> Conversion:
    actual = events_sha256(done.events)
    if spec.events_sha256 and actual != spec.events_sha256:
        raise DataError(
            f"expected a generated event array with sha256 {spec.events_sha256}, was {actual}: the simulator no "
            "longer makes the pinned market; report this with your versions of numpy and numba",
            source=spec.name,
        )
    return done


def save(spec: Manifest, done: Conversion, paths: list[Path]) -> Stored:
    """Write a finished conversion of `paths` to the cache, all of it or nothing, and return it memory-mapped.

    Where the cache cannot be written that is said, and the dataset returned as it is in memory.

    Raises
    ------
    DataError
        If it is not plausible (see `mmsim.data.plausibility`); nothing is written then.
    """
    report = plausibility.check(spec, done)
    folder = cache_folder(spec)
    meta = {
        "name": spec.name,
        "level": done.level,
        "view_depth": done.view_depth,
        "n_slots": done.n_slots,
        "px_min": done.px_min,
        "px_max": done.px_max,
        "n_events": len(done.events),
        "has_recv": done.recv_ts is not None,
        "segments": [asdict(s) for s in done.segments],
        "messages": {k: int(v) for k, v in done.messages.items()},
        "counts": {k: int(v) for k, v in done.counts.items()},
        "checks": {k: int(v) for k, v in done.checks.items()},
        "notes": done.notes,
        "plausibility": report,
        "tape": done.tape.report(done.events) if done.tape else None,
        "stamps": stamps(paths),
        "events_sha256": events_sha256(done.events),
    }
    arrays = {"events.npy": done.events, "recv.npy": done.recv_ts}
    try:
        write_folder(folder, {k: v for k, v in arrays.items() if v is not None}, meta)
        kept = open_folder(folder)
    except OSError as err:
        caches.cannot_keep(err, folder)
        kept = None
    except DamagedError as err:
        caches.cannot_keep(OSError(f"what was written reads back wrong: {err}"), folder)
        kept = None
    if kept is not None:
        return kept
    for array in arrays.values():
        if array is not None:
            array.setflags(write=False)
    return Stored(folder, done.events, done.recv_ts, meta)
