"""How long computations say how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# (what, done, total), called after every finished piece. What stands in brackets at the end of "what" may
# change while a step runs: "train cmm (validation 0.4213)".
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Say nothing."""
    del what, done, total


@contextmanager
def bars() -> Iterator[Progress]:
    """Yield a `Progress` that draws one bar per step on standard error."""
    from rich import progress as rich
    from rich.console import Console

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn())
    tasks: dict[str, rich.TaskID] = {}
    with rich.Progress(*columns, rich.TimeElapsedColumn(), console=Console(stderr=True)) as bar:

        def show(what: str, done: int, total: int) -> None:
            step = what.partition(" (")[0]
            if step not in tasks:
                tasks[step] = bar.add_task(what, total=total)
            bar.update(tasks[step], description=what, completed=done, total=total)

        yield show
