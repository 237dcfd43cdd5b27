"""What a run writes: its rows as parquet, its entries of ``run.json``, each file atomically."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.files import replacing
from mmsim.metrics import MarketResult


def entry(result: MarketResult) -> dict[str, Any]:
    """Return one element of ``results`` in ``run.json``; what is not defined is None."""
    lengths = [ep.duration_s for ep in result.episodes]
    out: dict[str, Any] = json_safe({
        "agent": result.agent,
        "dataset": result.dataset,
        "simulated": result.simulated,
        "split": result.split,
        "episodes": len(result.episodes),
        "episode_s": float(np.median(lengths)) if lengths else None,
        "parameters": result.episodes[0].agent if result.episodes else "",
        "fees": result.fees,
        "currency": result.currency,
        "fills": result.fills,
        "fills_sha256": result.fills_sha256,
        "metrics": result.metrics,
        "latency_us": result.latency._asdict(),
        "decisions": result.decisions,
        "decisions_missed": result.missed,
        "counters": result.counters,
    })  # fmt: skip
    return out


def json_safe(value: Any) -> Any:
    """Return `value` in plain JSON types: nan and infinities are None, paths text, numpy numbers plain.

    >>> json_safe({"a": (np.int64(1), float("nan")), "b": Path("x")})
    {'a': [1, None], 'b': 'x'}
    """
    if isinstance(value, Mapping):
        return {str(k): json_safe(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return json_safe(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_safe(v) for v in value]
    if isinstance(value, np.generic):
        return json_safe(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def write_parquet(
    path: Path,
    dtype: np.dtype[np.void],
    parts: Sequence[tuple[MarketResult, int, npt.NDArray[np.void]]],
    metadata: Mapping[str, str],
) -> None:
    """Write `parts` (result, episode, rows of `dtype`) as one file, with `metadata` in its schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [n for n in dtype.names or () if n not in ("pad", "episode")]
    text = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [("agent", text), ("dataset", text), ("episode", pa.int32())]
        + [(n, pa.from_numpy_dtype(dtype[n])) for n in names],
        metadata=dict(metadata),
    )
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for result, episode, rows in parts:
            if len(rows) == 0:
                continue
            label = [
                pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), pa.array([name]))
                for name in (result.agent, result.dataset)
            ]
            columns = [pa.array(np.ascontiguousarray(rows[n])) for n in names]
            number = pa.array(np.full(len(rows), episode, np.int32))
            writer.write_table(pa.table([*label, number, *columns], schema=schema))
