"""The agent contract in a process of its own, which can be killed: an agent may loop for ever, exit or crash."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mmsim.errors import ConfigError, MmsimError
from mmsim.testing.contract import Check, Report, check_agent

MAX_SECONDS = 120.0


@dataclass(frozen=True)
class Task:
    """What to check: an agent by name or ``path/to/file.py:Class``, its parameters as text, a dataset or ""."""

    agent: str
    params: Mapping[str, Any]
    dataset: str
    max_p50_ms: float


def check_apart(task: Task, max_seconds: float = MAX_SECONDS) -> Report:
    """Check an agent in another process and stop that after `max_seconds`.

    The time runs from the import of the agent on; loading the simulator and the dataset is not counted.

    Raises
    ------
    ConfigError
        If there is no such agent, parameter or dataset.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share locks that somebody holds
    ours, theirs = context.Pipe()
    process = context.Process(target=_check, args=(task, theirs))
    process.start()
    theirs.close()
    done: list[Check] = []
    clause, deadline = "is_made", float("inf")
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not ours.poll(None if left == float("inf") else left):
                problem = (
                    f"not done after {max_seconds:g} s, stopped; if it is slow and not stuck: --max-seconds"
                )
                break
            kind, value = ours.recv()
            if kind == "ready":
                deadline = time.monotonic() + max_seconds
            elif kind == "clause":
                clause = value
            elif kind == "check":
                done.append(value)
            elif kind == "done":
                return Report(value, tuple(done))
            else:
                raise ConfigError(value)
    except EOFError:  # it is gone without a word
        process.join()
        problem = f"ended the process (exit code {process.exitcode})"
    finally:
        process.kill()
        process.join()
        ours.close()
    return Report(task.agent, (*done, Check(clause, "failed", problem)))


def _check(task: Task, pipe: Connection) -> None:
    threading.Thread(target=_leave_with, args=(pipe,), daemon=True).start()

    def on(clause: str, check: Check | None) -> None:
        pipe.send(("clause", clause) if check is None else ("check", check))

    try:
        from mmsim.registry import make_agent, resolve
        from mmsim.testing.scenarios import tiny_markets

        tiny_markets()  # loads, or compiles, what the clauses need
        data, calibration = None, None
        if task.dataset:
            from mmsim.calibration_store import constants_or_reason
            from mmsim.data import load

            data = load(task.dataset)
            calibration = constants_or_reason(data)[0]  # an agent that needs them will say so
        pipe.send(("ready", None))
        cls = resolve(task.agent)
        make_agent(task.agent, task.params)  # an unknown parameter is an error of the command line
        report = check_agent(
            cls, task.params, dataset=task.dataset or "tiny", data=data, calibration=calibration,
            max_p50_ms=task.max_p50_ms, on=on,
        )  # fmt: skip
        pipe.send(("done", report.agent))
    except MmsimError as err:
        pipe.send(("error", str(err)))


def _leave_with(pipe: Connection) -> None:
    # Nobody ever sends: this ends when the other side does, and so must we.
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(1)
