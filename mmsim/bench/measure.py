"""Runs cases: ours and the peer's in turn, medians, and the verdict against the targets."""

from __future__ import annotations

import gc
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from mmsim.bench.cases import CASES, Case, Peer, Sample
from mmsim.bench.inputs import Inputs
from mmsim.errors import ConfigError, DataError, did_you_mean

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Outcome:
    """One measured case. Figures are rates (`Case.unit` per second) or, of a direct case, quantities."""

    case: Case
    n: int
    runs: tuple[Sample, ...]
    peer: str = ""
    peer_runs: tuple[Sample, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def figure(self, value: float) -> float:
        """Return the figure that belongs to the value of one sample."""
        return value if self.case.direct else self.n / value

    @property
    def per_s(self) -> float:
        """Figure of the median run."""
        return self.figure(median(s.value for s in self.runs))

    @property
    def peer_per_s(self) -> float | None:
        """The peer's."""
        return self.figure(median(s.value for s in self.peer_runs)) if self.peer_runs else None

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer, by the medians."""
        if not self.peer_runs:
            return None
        return median(s.value for s in self.peer_runs) / median(s.value for s in self.runs)

    @property
    def at_least(self) -> float | None:
        """What is asked at least; None where that depends on a peer that is not there."""
        if self.case.times_peer is None:
            return self.case.at_least
        return None if self.peer_per_s is None else self.case.times_peer * self.peer_per_s

    @property
    def cpu_per_s(self) -> float | None:
        """The rate by CPU time, which moves less on a busy machine; None for what is not a rate."""
        return None if self.case.direct else self.n / median(s.cpu for s in self.runs)

    def reaches(self, target: float | None) -> bool | None:
        """Return whether the median reaches `target`, None if there is no target."""
        if target is None:
            return None
        return self.per_s <= target if self.case.direct else self.per_s >= target

    @property
    def verdict(self) -> str:
        """``aim``, ``pass``, ``fail``, or ``-`` where nothing is asked."""
        if self.case.most_bytes is not None:
            return "pass" if self.runs[-1].check["peak"] <= self.case.most_bytes else "fail"
        if self.reaches(self.case.aim):
            return "aim"
        reached = self.reaches(self.at_least)
        return "-" if reached is None else "pass" if reached else "fail"

    def as_json(self) -> dict[str, Any]:
        """Return the case as the JSON file has it."""
        figures = sorted(self.figure(s.value) for s in self.runs)
        out: dict[str, Any] = {
            "name": self.case.name, "unit": self.case.unit, "n": self.n, "per_s": self.per_s, "min": figures[0],
            "max": figures[-1], "peer": self.peer or None, "peer_per_s": self.peer_per_s, "ratio": self.ratio,
            "at_least": self.at_least, "aim": self.case.aim, "verdict": self.verdict, "runs": len(self.runs),
            "check": self.runs[-1].check, **self.extra,
        }  # fmt: skip
        if not self.case.direct:
            out["cpu_per_s"] = self.cpu_per_s
        if self.peer_runs:
            theirs = sorted(self.figure(s.value) for s in self.peer_runs)
            check = {k: v for k, v in self.peer_runs[-1].check.items() if k != "log"}
            out |= {"peer_min": theirs[0], "peer_max": theirs[-1], "peer_check": check}
            if not self.case.direct:
                theirs_cpu = median(s.cpu for s in self.peer_runs)
                out["peer_cpu_per_s"] = self.n / theirs_cpu
                out["cpu_ratio"] = theirs_cpu / median(s.cpu for s in self.runs)
        return out


@dataclass(frozen=True)
class Missing:
    """A case that could not run, and why."""

    case: Case
    reason: str


def select(names: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases of that name; for no name, all that a plain run has.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--case: no case {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}"
            )
    return tuple(known[n] for n in names) if names else tuple(c for c in CASES if c.listed)


def measure(case: Case, inputs: Inputs, peer: Peer | None, repeat: int, tick: Tick) -> Outcome | Missing:
    """Run one case `repeat` times after a warm-up, each run of ours followed by one of the peer's."""
    try:
        work = case.prepare(inputs)
    except DataError as err:
        return Missing(case, str(err))
    ours: list[Sample] = []
    theirs: list[Sample] = []
    warm, total = (0, 1) if case.once else (1, repeat + 1)
    for i in range(total):
        tick(case.name, i, total)
        gc.collect()
        sample = work.ours()
        other = work.theirs(peer) if peer is not None and work.theirs is not None else None
        if i >= warm:
            ours.append(sample)
            if other is not None:
                theirs.append(other)
    tick(case.name, total, total)
    name = peer.name if peer is not None and theirs else ""
    return Outcome(case, work.n, tuple(ours), name, tuple(theirs), work.extra)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import numba
    import numpy as np

    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": list(os.getloadavg()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
    }


def write(path: Path, outcomes: Sequence[Outcome | Missing]) -> None:
    """Write the JSON file.

    Raises
    ------
    ConfigError
        If the file cannot be written.
    """
    cases = [o.as_json() for o in outcomes if isinstance(o, Outcome)]
    missing = [{"name": o.case.name, "reason": o.reason} for o in outcomes if isinstance(o, Missing)]
    text = json.dumps({"cases": cases, "missing": missing, "machine": machine()}, indent=1)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"--json {path}: {err.strerror or err}") from None
