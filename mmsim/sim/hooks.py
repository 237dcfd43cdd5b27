"""Calling an agent's code: whatever goes wrong in there is an `AgentError` that says where.

Only `KeyboardInterrupt` (the user's) and mmsim's own `AgentError` and `ConfigError` (a library that is not installed,
say) pass through.
"""

from __future__ import annotations

import decimal
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from mmsim.agent import Agent
from mmsim.errors import AgentError, ConfigError, shown, told
from mmsim.sim.watch import Watch

PASS = (AgentError, ConfigError, KeyboardInterrupt)


def name_of(agent: object) -> str:
    """Return what messages and results call `agent`: its ``repr``."""
    return shown(agent, 1000)


@contextmanager
def hook(agent: str, what: str, *, limit_s: float | None = None, ts: int = 0) -> Iterator[None]:
    """Run `what` of `agent` (its name), outside a decision, at most `limit_s` seconds.

    Raises
    ------
    AgentError
        If it raises, exits or takes longer.
    """
    try:
        with Watch(limit_s, lambda: what) as watch:
            yield
        if watch.tripped:
            raise watch.late
    except PASS:
        raise
    except BaseException as err:
        raise AgentError(f"{what} {told(err)}", agent=agent, ts=ts) from err


def close(agent: Agent, *, limit_s: float | None = None) -> None:
    """Close `agent`.

    Raises
    ------
    AgentError
        If it raises, exits or takes longer than `limit_s` seconds.
    """
    with hook(type(agent).__name__, "close", limit_s=limit_s):
        agent.close()


@contextmanager
def closing(agent: Agent, limit_s: float | None = None) -> Iterator[Agent]:
    """Yield `agent` and close it at the end.

    Raises
    ------
    AgentError
        As `close` does, unless something else went wrong first: that is what the user must hear of.
    """
    try:
        yield agent
    except BaseException:
        with suppress(AgentError):
            close(agent, limit_s=limit_s)
        raise
    close(agent, limit_s=limit_s)


def recalled(agent: object, measured_ns: int) -> int:
    """Return the wall clock of the last decision as `agent` measured it, else `measured_ns`.

    Raises
    ------
    ValueError
        If its ``last_latency_ns`` is neither None nor a number of ns.
    """
    own = getattr(agent, "last_latency_ns", None)
    if own is None:
        return measured_ns
    if isinstance(own, bool) or not isinstance(own, int | np.integer) or not 0 <= own < 2**62:
        raise ValueError(
            f"last_latency_ns: expected a whole number of ns from 0 to 2**62, or None, was {shown(own)}"
        )
    return int(own) or measured_ns


@contextmanager
def process_kept() -> Iterator[None]:
    """Put back, at the end, what an agent's code may change for everybody in the process by a plain call.

    That is numpy's error handling, the decimal context and the working directory.
    """
    errors, context, folder = np.geterr(), decimal.getcontext().copy(), _folder()
    try:
        yield
    finally:
        np.seterr(**errors)
        decimal.setcontext(context)
        if folder is not None and _folder() != folder:
            os.chdir(folder)


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # somebody removed it
        return None
