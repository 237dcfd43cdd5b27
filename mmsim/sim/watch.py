"""Interrupt an agent's Python code that works at one thing for too long, at no cost per decision.

Something outside the agent looks from time to time at what it is doing: a timer signal in the main thread (which
also wakes a sleeping agent), elsewhere and on Windows a thread. `HookTimeout` is then raised in the agent's code, again
and again until it gets through. Compiled code and C libraries that never return cannot be interrupted.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from mmsim.errors import HookTimeout


class Watch:
    """A context in which no task may take longer than `limit_s` seconds (None: any time).

    Parameters
    ----------
    limit_s : float or None
        The limit; a task is interrupted at most half a limit after it.
    task : callable
        Returns what is being done, a value that differs from one task to the next; None while it is the agent's
        turn for nothing.

    Attributes
    ----------
    tripped : bool
        Whether the limit was passed, even if the agent swallowed what was raised.
    late : type
        What is raised then.
    """

    def __init__(self, limit_s: float | None, task: Callable[[], object]) -> None:
        self.limit_s = limit_s
        self.tripped = False
        self._task = task
        self._seen: tuple[object, float] = (None, 0.0)
        text = f"took longer than {limit_s} s (--decision-timeout)"
        self.late: type[HookTimeout] = type("HookTimeout", (HookTimeout,), {"__str__": lambda _: text})
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: tuple[Any, tuple[float, float]] | None = None

    def __enter__(self) -> Self:
        if self.limit_s is None:
            return self
        period = self.limit_s / 4
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
            handler = signal.signal(signal.SIGALRM, self._alarm)
            self._before = handler, signal.setitimer(signal.ITIMER_REAL, period, period)
        else:
            self._thread = threading.Thread(
                target=self._patrol, args=(threading.get_ident(), period), daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            handler, timer = self._before
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if self._thread is not None:
            self._dismiss(self._thread)

    def _dismiss(self, patrol: threading.Thread) -> None:
        # What it raised and has not got through yet must not hit anybody else: it arrives at the latest with the
        # next call. (Taking it back would leave a flag of CPython 3.11 set, on which a debugger's or coverage's
        # tracing hangs.)
        while True:
            try:
                self._stop.set()
                patrol.join()
                self._stop.is_set()
            except HookTimeout:
                continue
            return

    def _overdue(self) -> bool:
        task, now = self._task(), time.monotonic()
        if task is None or task != self._seen[0]:
            self._seen = task, now
            return False
        late = self.limit_s is not None and now - self._seen[1] > self.limit_s
        self.tripped |= late
        return late

    def _alarm(self, number: int, frame: object) -> None:  # noqa: ARG002 (as signals are delivered)
        if self._overdue():
            raise self.late

    def _patrol(self, thread: int, period: float) -> None:
        while not self._stop.wait(period):
            if self._overdue():
                _raise_in(thread, self.late)


def _raise_in(thread: int, what: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(what))
