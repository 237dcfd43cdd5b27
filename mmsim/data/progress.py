"""A progress bar on stderr for conversions and downloads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmsim.data.conversion import Progress


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """Yield a `Progress` that draws a bar on stderr, shown only on a terminal and from its first report on."""
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    shown = RichProgress(console=console, transient=True, disable=not console.is_terminal)
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
