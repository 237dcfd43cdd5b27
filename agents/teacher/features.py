"""Hidden states of many prompts, computed once and kept on disk, resumable and in several processes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError
from mmsim.paths import cache_home
from mmsim_agents.teacher.artifacts import Progress
from mmsim_agents.teacher.model import Pool, TeacherModel, TeacherSpec, load_teacher
from mmsim_agents.teacher.prompt import TEMPLATE

CHUNK = 256  # prompts per chunk file: what an interruption can cost
_F16_MAX = float(np.finfo(np.float16).max)


def teacher_features(
    model: TeacherModel,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    key: str = "features",
    pool: Pool = "last",
    batch: int = 8,
    chunk: int = CHUNK,
    workers: int = 1,
    progress: Progress | None = None,
) -> npt.NDArray[np.float16]:
    """Return the pooled hidden states of `texts`, from the disk cache where they are known.

    The cache entry is named after `key` and the sha256 of model, template, pooling, layers and
    every text, so another model or another prompt never meets stale features. Chunk files are
    written atomically; an interrupted call goes on where it stopped.

    Parameters
    ----------
    model : TeacherModel
        Read for its hidden states.
    texts : sequence of str
        Prompts.
    layers : sequence of int, optional
        Hidden-state layers to keep (None: all of them).
    key : str
        Readable part of the entry's name, e.g. ``"sim-rb-train"``.
    pool : {"last", "mean"}
        See `TeacherModel.hidden`.
    workers : int
        Processes; 1 computes in this one. Each worker loads its own copy of the model.
    progress : callable, optional
        ``progress(what, done, total)`` after every chunk.

    Returns
    -------
    (n, len(layers), d) float16, memory-mapped, read-only
        Values beyond the range of float16 are clipped to it.
    """
    keep = list(range(model.n_layers)) if layers is None else list(layers)
    if not texts:
        raise ConfigError("teacher features: expected at least one prompt, was none")
    if any(not 0 <= layer < model.n_layers for layer in keep) or not keep:
        raise ConfigError(f"layers: expected numbers in [0, {model.n_layers}), was {keep}")
    folder = _entry(model.model_id, texts, keep, key, pool)
    final = folder / "features.npy"
    if not final.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        parts = [(i, list(texts[s : s + chunk])) for i, s in enumerate(range(0, len(texts), chunk))]
        todo = [
            (i, part)
            for i, part in parts
            if not _valid(_chunk_path(folder, i, chunk), len(part), keep, model)
        ]
        done = len(texts) - sum(len(part) for _, part in todo)
        what = f"teacher {key}"
        if progress:
            progress(what, done, len(texts))
        for i, part, block in _computed(model, todo, keep, pool, batch, workers):
            _save(_chunk_path(folder, i, chunk), block)
            done += len(part)
            if progress:
                progress(what, done, len(texts))
        _assemble(folder, final, [_chunk_path(folder, i, chunk) for i, _ in parts])
    out: npt.NDArray[np.float16] = np.load(final, mmap_mode="r")
    return out


def _entry(model_id: str, texts: Sequence[str], keep: list[int], key: str, pool: str) -> Path:
    digest = hashlib.sha256(json.dumps([model_id, TEMPLATE, pool, keep]).encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in key)
    return cache_home() / "teacher" / "features" / f"{name}-{digest.hexdigest()[:20]}"


def _chunk_path(folder: Path, i: int, chunk: int) -> Path:
    return folder / f"chunk{chunk}-{i:05d}.npy"


def _valid(path: Path, n: int, keep: list[int], model: TeacherModel) -> bool:
    try:
        return bool(np.load(path, mmap_mode="r").shape == (n, len(keep), model.width))
    except (OSError, ValueError):
        return False


def _save(path: Path, block: npt.NDArray[np.float16]) -> None:
    handle, name = tempfile.mkstemp(prefix=".part-", suffix=".npy", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        np.save(file, block)
    os.replace(name, path)


def _assemble(folder: Path, final: Path, paths: list[Path]) -> None:
    blocks = [np.load(path, mmap_mode="r") for path in paths]
    temporary = folder / f".features-{os.getpid()}.npy"
    shape = (sum(len(b) for b in blocks), *blocks[0].shape[1:])
    whole = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
    start = 0
    for block in blocks:
        whole[start : start + len(block)] = block
        start += len(block)
    whole.flush()
    del whole
    os.replace(temporary, final)
    for path in paths:
        path.unlink(missing_ok=True)


def _block(
    model: TeacherModel, part: list[str], keep: list[int], pool: Pool, batch: int
) -> npt.NDArray[np.float16]:
    states = model.hidden(part, batch=batch, pool=pool)[:, keep]
    return np.clip(states, -_F16_MAX, _F16_MAX).astype(np.float16)


def _computed(
    model: TeacherModel,
    todo: list[tuple[int, list[str]]],
    keep: list[int],
    pool: Pool,
    batch: int,
    workers: int,
) -> Any:
    if workers <= 1 or len(todo) <= 1:
        for i, part in todo:
            yield i, part, _block(model, part, keep, pool, batch)
        return
    # spawned, not forked: torch's thread pool does not survive a fork
    with ProcessPoolExecutor(
        min(workers, len(todo)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(model.spec,),
    ) as pool_:
        jobs = {pool_.submit(_work, part, keep, pool, batch): (i, part) for i, part in todo}
        try:
            for job in as_completed(jobs):
                yield *jobs[job], job.result()
        finally:
            pool_.shutdown(wait=True, cancel_futures=True)


_worker_model: TeacherModel | None = None


def _start_worker(spec: TeacherSpec) -> None:
    global _worker_model  # one model a worker process, loaded once
    os.environ["OMP_NUM_THREADS"] = "1"
    _worker_model = load_teacher(spec.model, spec.dtype, spec.random_weights, spec.seed)


def _work(part: list[str], keep: list[int], pool: Pool, batch: int) -> npt.NDArray[np.float16]:
    if _worker_model is None:
        raise ConfigError("teacher worker: expected a loaded model, was none")
    return _block(_worker_model, part, keep, pool, batch)
