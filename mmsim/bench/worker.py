"""Measurements that need a process of their own: the first result, memory, a file larger than memory.

``python -m mmsim.bench.worker first EVENTS RECV ROWS``, ``... memory EVENTS RECV ROWS PX_MIN PX_MAX`` and ``...
replay EVENTS PX_MIN PX_MAX`` print one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mmsim.errors import BenchError
from mmsim.paths import package_root


def command(arguments: list[str]) -> list[str]:
    """Return the command line of a worker."""
    return [sys.executable, "-m", "mmsim.bench.worker", *arguments]


def environment() -> dict[str, str]:
    """Return an environment in which a worker finds this package, wherever it is started."""
    path = os.environ.get("PYTHONPATH")
    root = str(package_root().parent)
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


def run(argv: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Run a process to its end and return the JSON object it prints.

    Raises
    ------
    BenchError
        If it fails.
    """
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise BenchError(
            f"{' '.join(argv[:4])} ended with code {done.returncode}: {words[-1] if words else ''}"
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def ask(arguments: list[str]) -> dict[str, Any]:
    """Run a worker and return its answer."""
    return run(command(arguments), environment())


def timed_start(arguments: list[str]) -> tuple[float, float, dict[str, Any]]:
    """Return the seconds from the start of a new process to its end, its CPU seconds, and its answer."""
    return timed(command(arguments), environment())


def timed(argv: list[str], env: dict[str, str]) -> tuple[float, float, dict[str, Any]]:
    """Return wall and CPU seconds of a whole process, and its answer."""
    before = os.times()
    wall = time.perf_counter()
    answer = run(argv, env)
    wall = time.perf_counter() - wall
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu, answer


def resident(key: str = "VmRSS") -> int:
    """Return a memory figure of this process, bytes: ``VmRSS`` now, ``VmHWM`` its maximum so far."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"no {key} in /proc/self/status")


def reset_peak() -> int:
    """Make ``VmHWM`` start anew from what is resident now, and return that, bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return resident()


def _maker(events: Any, recv: Any, px_range: tuple[int, int] | None = None) -> dict[str, Any]:
    from mmsim.bench.agents import TouchMaker, simulation
    from mmsim.bench.stream import FEED_LATENCY_NS, wrap
    from mmsim.sim.session import Session

    data = wrap("stream-L2", events, "L2", recv, px_range)
    (episode,) = data.splits["test"]
    session = Session(data, simulation(0 if recv is not None else int(FEED_LATENCY_NS)))
    result = session.run(TouchMaker(), episode)
    return {"fills": int(result.fills["maker"].sum()), "decisions": result.counters["decisions"]}


def main(argv: list[str]) -> None:
    """Do what the command line says and print the answer."""
    import numpy as np

    what, path, *rest = argv
    events = np.load(path, mmap_mode="r")
    if what == "replay":
        px_min, px_max = map(int, rest)
        _maker(np.array(events[:20_000]), None)  # everything loaded
        reset_peak()
        cpu, wall = time.process_time(), time.perf_counter()
        answer = _maker(events, None, (px_min, px_max))
        answer |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        answer["peak"] = resident("VmHWM")
    else:
        recv, rows = np.load(rest[0], mmap_mode="r"), int(rest[1])
        span = None
        if what == "memory":
            # a dataset knows its prices; looking for them here would touch every page
            span = (int(rest[2]), int(rest[3]))
            _maker(np.array(events[:20_000]), np.array(recv[:20_000]))  # everything loaded
            before = reset_peak()
        answer = _maker(events[:rows], recv[:rows], span)
        if what == "memory":
            answer["bytes"] = resident("VmHWM") - before
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
