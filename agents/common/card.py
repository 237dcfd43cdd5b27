"""What a checkpoint's card says about its origin."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmsim import provenance
from mmsim.agent import Agent
from mmsim.profiles import measure
from mmsim.sim.session import Session
from mmsim_agents.common.recording import Raw

_LIBRARIES = ("numpy", "numba", "torch", "transformers", "safetensors")


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, mmsim and the libraries that a training uses, and of `more`."""
    return provenance.versions((*_LIBRARIES, *more))


def git_revision() -> str:
    """Return the commit that the code is at, ``+changes`` if tracked files differ, "" outside git."""
    found = provenance.git_revision()
    return found["revision"] + ("+changes" if found["dirty"] else "") if found else ""


def recorded_sha256(raw: Raw) -> str:
    """Return the sha256 of recorded episodes, lengths included."""
    digest = hashlib.sha256()
    for rows in raw:
        table = rows.view(np.int64).reshape(len(rows), -1)  # every field of an observation is one
        digest.update(str(table.shape).encode())
        digest.update(table.tobytes())
    return digest.hexdigest()


def latency(agent: Agent, session: Session) -> dict[str, Any]:
    """Measure an agent's decisions on the validation split: ``latency_us`` (p50, p99) and ``latency_ns`` (all)."""
    times = measure(agent, session, "validation").tolist()
    percentiles = {f"p{p}": round(float(np.percentile(times, p)) / 1e3, 2) for p in (50, 99)}
    return {"latency_us": percentiles, "latency_ns": times}


def rounded(history: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    """Return the losses of every epoch with five decimals."""
    return [{k: int(v) if k == "epoch" else round(v, 5) for k, v in row.items()} for row in history]
