"""What `mmsim data check` and `mmsim data import` report about one dataset."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mmsim.data import sources, store
from mmsim.data.cache_folder import Stored
from mmsim.data.conversion import Progress, no_progress
from mmsim.data.manifest import Manifest
from mmsim.data.splits import make_splits
from mmsim.errors import DataError
from mmsim.sessions import NS


def check(
    spec: Manifest, home: str | os.PathLike[str] | None = None, progress: Progress = no_progress
) -> dict[str, Any]:
    """Verify sources and cache of a dataset and return what is known of it, ready for JSON.

    Every source file is hashed in full, and the cached events are hashed against what was stored.

    Raises
    ------
    DataError
        If a source or the cache is not what it was, or the conversion fails.
    """
    paths = [] if spec.simulated else sources.find_sources(spec, home)
    if paths:
        sources.verify_sources(spec, paths)
    data = store.stored(spec, home, progress)
    actual = store.events_sha256(data.events)
    if actual != data.meta["events_sha256"]:
        raise DataError("the cached events are damaged: delete this folder", source=str(data.folder))
    return {
        **report(spec, data),
        "sources": [
            {"path": str(p), "sha256": f.sha256, "bytes": p.stat().st_size, "verified": True}
            for f, p in zip(spec.files, paths, strict=False)
        ],
        "source_sha256": spec.source_sha256,
        "events_sha256": actual,
    }


def report(spec: Manifest, data: Stored) -> dict[str, Any]:
    """Return what the conversion of a dataset found and what became of it, ready for JSON: the import report."""
    splits, split_counts = make_splits(spec, data.segments, data.events)
    counts = {**data.meta["counts"], **split_counts}
    checks = data.meta["checks"]
    ts = data.events["ts"]
    return {
        "schema": 1,
        "dataset": spec.name,
        "title": spec.title,
        "kind": "imported" if spec.imported else spec.kind,
        "simulated": spec.simulated,
        "format": spec.format,
        "licence": spec.licence,
        "instrument": spec.instrument.model_dump(mode="json"),
        "level": data.meta["level"],
        "view_depth": data.meta["view_depth"],
        "events": len(data.events),
        "rows_read": counts.get("rows_read", 0),
        "messages": data.meta["messages"],
        "dropped": {k.removeprefix("dropped_"): v for k, v in counts.items() if k.startswith("dropped_")},
        "counts": {k: v for k, v in counts.items() if k != "rows_read" and not k.startswith("dropped_")},
        # times do not run backwards in a segment: the ends are enough
        "span": _span(
            min(int(ts[s.start]) for s in data.segments), max(int(ts[s.stop - 1]) for s in data.segments)
        ),
        "segments": [
            {"label": s.label, "events": s.stop - s.start, **_span(int(ts[s.start]), int(ts[s.stop - 1]))}
            for s in data.segments
        ],
        "crossed_books": checks.get("crossed_books", 0),
        "states_compared": checks.get("states_compared", 0),
        "states_equal": checks.get("states_equal", 0),
        "checks": checks,
        "tape": data.meta["tape"],
        "plausibility": data.meta["plausibility"],
        "px_min": data.meta["px_min"],
        "px_max": data.meta["px_max"],
        "splits": {
            name: {
                "episodes": len(episodes),
                "seconds": sum(e.end_ts - e.start_ts for e in episodes) / NS,
                **(_span(episodes[0].start_ts, episodes[-1].end_ts) if episodes else {}),
            }
            for name, episodes in splits.items()
        },
        "notes": data.meta["notes"],
    }


def _span(start: int, end: int) -> dict[str, Any]:
    return {"start": _utc(start), "end": _utc(end), "start_ns": start, "end_ns": end}


def _utc(ts: int) -> str:
    return f"{np.datetime64(ts, 'ns').astype('datetime64[ms]')}Z"
