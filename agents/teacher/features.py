"""Hidden states of many prompts, computed once and kept on disk, resumable and in several processes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim import caches
from mmsim.errors import ConfigError
from mmsim.files import replacing
from mmsim.paths import cache_home
from mmsim_agents.common.progress import Progress, silent
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
    progress: Progress = silent,
) -> npt.NDArray[np.float16]:
    """Return the pooled hidden states of `texts`, from the disk cache where they are known.

    The cache entry is named after `key` and the sha256 of model, template, pooling, layers and
    every text, so another model or another prompt never meets stale features. Files are written atomically
    and named after their checksums: a damaged one is made again, and an interrupted call goes on where it
    stopped. Where the cache cannot be written the features stay in memory.

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
    whole = _found(folder, "features", (len(texts), len(keep), model.width))
    if whole is not None:
        return whole
    parts = [list(texts[at : at + chunk]) for at in range(0, len(texts), chunk)]
    blocks: dict[int, npt.NDArray[np.float16]] = {}
    for i, part in enumerate(parts):
        block = _found(folder, _chunk_name(i, chunk), (len(part), len(keep), model.width))
        if block is not None:
            blocks[i] = block
    done = sum(len(block) for block in blocks.values())
    what = f"teacher {key}"
    progress(what, done, len(texts))
    todo = [(i, part) for i, part in enumerate(parts) if i not in blocks]
    for i, part, block in _computed(model, todo, keep, pool, batch, workers):
        blocks[i] = _kept(folder, _chunk_name(i, chunk), [block])
        done += len(part)
        progress(what, done, len(texts))
    whole = _kept(folder, "features", [blocks[i] for i in range(len(parts))])
    for i in range(len(parts)):
        for path in folder.glob(f"{_chunk_name(i, chunk)}-*.npy"):
            path.unlink(missing_ok=True)
    return whole


def _entry(model_id: str, texts: Sequence[str], keep: list[int], key: str, pool: str) -> Path:
    digest = hashlib.sha256(json.dumps([model_id, TEMPLATE, pool, keep]).encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in key)
    return cache_home() / "teacher" / "features" / f"{name}-{digest.hexdigest()[:20]}"


def _chunk_name(i: int, chunk: int) -> str:
    return f"chunk{chunk}-{i:05d}"


def _found(folder: Path, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float16] | None:
    # an array of the cache, memory-mapped, whose bytes are those of the checksum in its name
    for path in sorted(folder.glob(f"{name}-????????.npy")):
        try:
            block: npt.NDArray[np.float16] = np.load(path, mmap_mode="r")
            whole = (
                block.shape == shape and block.dtype == np.float16 and path.stem[-8:] == _checksum([block])
            )
        except (OSError, ValueError, SyntaxError):
            whole = False
        if whole:
            return block
        caches.made_again(path, "another checksum")
        path.unlink(missing_ok=True)
    return None


def _kept(folder: Path, name: str, blocks: list[npt.NDArray[np.float16]]) -> npt.NDArray[np.float16]:
    # put blocks into the cache as one array; the array as it can be read from there, else as it is
    path = folder / f"{name}-{_checksum(blocks)}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as aside, aside.open("wb") as file:
            # (written, not mapped: a full disk is an error then, and the blocks need not be in memory at once)
            shape = (sum(map(len, blocks)), *blocks[0].shape[1:])
            head = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, head)
            for block in blocks:
                file.write(_bytes(block))
        out: npt.NDArray[np.float16] = np.load(path, mmap_mode="r")
    except OSError as err:
        caches.cannot_keep(err, path)
        whole = np.concatenate(blocks)
        whole.setflags(write=False)
        return whole
    return out


def _bytes(block: npt.NDArray[np.float16]) -> memoryview:
    return np.ascontiguousarray(block, dtype="<f2").reshape(-1).view(np.uint8).data


def _checksum(blocks: list[npt.NDArray[np.float16]]) -> str:
    found = 0
    for block in blocks:
        found = caches.checksum(_bytes(block), found)
    return f"{found:08x}"


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
    global _worker_model  # one model per worker process, loaded once
    os.environ["OMP_NUM_THREADS"] = "1"
    _worker_model = load_teacher(spec.model, spec.dtype, spec.random_weights, spec.seed)


def _work(part: list[str], keep: list[int], pool: Pool, batch: int) -> npt.NDArray[np.float16]:
    if _worker_model is None:
        raise ConfigError("teacher worker: expected a loaded model, was none")
    return _block(_worker_model, part, keep, pool, batch)
