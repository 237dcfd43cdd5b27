"""Exceptions of mmsim and the status codes by which kernels report to Python.

Every error a user can cause derives from `MmsimError`; the command line prints it as one line and
exits with code 2. Messages say what was expected, what was found, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum

LONGEST = 800  # characters of a message about data


class MmsimError(Exception):
    """Base of every error that mmsim raises on purpose."""


class ConfigError(MmsimError, ValueError):
    """A configuration value, key or command-line option is wrong."""


class UncalibratedError(ConfigError):
    """An agent needs constants that its market has not.

    Parameters
    ----------
    what : str
        Which constants of which market.
    remedy : str
        What to do.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what


class DataError(MmsimError, ValueError):
    """Market data cannot be read as claimed.

    Parameters
    ----------
    message : str
        What was expected and what was found.
    source : str, optional
        Dataset or file.
    row : int, optional
        One-based row (line, record, message) in that file.
    field : str, optional
        Column or key.
    """

    def __init__(self, message: str, *, source: str = "", row: int | None = None, field: str = "") -> None:
        where = ", ".join(
            p
            for p in (source, f"row {row}" if row is not None else "", f"field {field!r}" if field else "")
            if p
        )
        if len(message) > LONGEST:  # what stands in a hostile file is no reason to fill a screen
            message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
        super().__init__(f"{where}: {message}" if where else message)
        self.source, self.row, self.field = source, row, field


class BookError(MmsimError):
    """An order-book operation is impossible (unknown id, price outside the ladder, ...)."""


class AgentError(MmsimError):
    """An agent raised, or asked for something that it must not ask for.

    Parameters
    ----------
    message : str
        What the agent did.
    agent : str
        Name of the run's agent.
    decision : int
        Zero-based decision index in the episode; -1 outside a decision.
    ts : int
        Decision time, ns since the epoch.
    """

    def __init__(self, message: str, *, agent: str, decision: int = -1, ts: int = 0) -> None:
        super().__init__(f"agent {agent}, decision {decision} at {ts} ns: {message}")
        self.agent, self.decision, self.ts = agent, decision, ts


class HookTimeout(BaseException):
    """Raised inside an agent that takes too long; no `Exception`, so that ``except Exception`` lets it through."""


class UnknownAgentError(MmsimError, LookupError):
    """No agent of that name; the message holds the nearest ones."""


class UnknownDatasetError(MmsimError, LookupError):
    """No dataset of that name; the message holds the nearest ones."""


class BenchError(MmsimError):
    """A benchmark could not run, or what it computed is not what it must be."""


class KernelError(MmsimError):
    """A kernel stopped with a status that Python cannot resolve (a bug, or corrupt events)."""


class Status(IntEnum):
    """What a simulation kernel reports when it returns."""

    DECIDE = 1
    END = 2
    FILLS_FULL = 3
    OBS_FULL = 4
    STEPS_FULL = 5
    MORE_ROWS = 6
    BAD_KIND = -1
    BAD_PRICE = -2
    BAD_ORDER = -3
    BAD_QTY = -4
    OWN_FULL = -5
    BAD_TIME = -6
    BAD_QUOTES = -7
    BAD_SIDE = -8


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known word, else an empty string.

    >>> did_you_mean("gltf", ["glft", "foic"])
    " (did you mean 'glft'?)"
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def shown(value: object, most: int = 200) -> str:
    """Return ``repr(value)`` for a message: at most `most` characters, and it never raises.

    >>> shown("a" * 300, most=10)
    "'aaaaaa..."
    """
    try:
        text = repr(value)
    except (KeyboardInterrupt, HookTimeout):
        raise
    except BaseException as err:  # noqa: BLE001 (an agent's object may do anything)
        text = f"<{type(value).__name__}, whose repr raises {type(err).__name__}>"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def told(err: BaseException) -> str:
    """Say what somebody else's code did, ``raised KeyError: 'x'`` or ``called sys.exit(0)``; it never raises."""
    if isinstance(err, SystemExit):
        return f"called sys.exit({shown(err.code)})"
    try:
        text = str(err)
    except (KeyboardInterrupt, HookTimeout):
        raise
    except BaseException as worse:  # noqa: BLE001
        text = f"(its message raises {type(worse).__name__})"
    return text if isinstance(err, HookTimeout) else f"raised {type(err).__name__}: {text}"
