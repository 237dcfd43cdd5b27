"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Bar:
    """A bar that is told what is done; see `bar`."""

    def __init__(self, kept: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        self.terminal = console.is_terminal
        self._kept = kept
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._shown = Progress(
            *columns, console=console, transient=not kept, redirect_stdout=False, disable=not (kept or self.terminal)
        )  # fmt: skip
        self._rows: dict[str, Any] = {}

    def __call__(self, label: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` are done; of kept bars, what stands in brackets in `label` may change."""
        step = label.split(" (", maxsplit=1)[0] if self._kept else ""
        if step not in self._rows:
            self._rows[step] = self._shown.add_task(label, total=total)
        self._shown.update(self._rows[step], description=label, completed=done, total=total)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away while something is printed."""
        self._shown.stop()
        yield
        self._shown.start()


@contextmanager
def bar(*, kept: bool = False) -> Iterator[Bar]:
    """Yield a function ``(label, done, total)`` that draws progress on standard error.

    Parameters
    ----------
    kept : bool
        One line per step, which stays. Otherwise one line, on terminals only, which is gone at the end.
    """
    made = Bar(kept)
    with made._shown:
        yield made


@contextmanager
def fraction_bar(title: str) -> Iterator[Callable[[str, float], None]]:
    """Yield a function ``(stage, fraction)`` that draws one bar on standard error.

    It is shown on terminals only, from its first report on: what is done at once draws nothing.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    shown = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = None

    def report(stage: str, fraction: float) -> None:
        nonlocal task
        if task is None:
            shown.start()
            task = shown.add_task(title, total=1.0)
        shown.update(task, description=f"{title} {stage}", completed=min(max(fraction, 0.0), 1.0))

    try:
        yield report
    finally:
        if task is not None:
            shown.stop()
