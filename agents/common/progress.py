"""How long computations say how far they are."""

from __future__ import annotations

from collections.abc import Callable

# (what, done, total), called after every finished piece; for instance a kept `mmsim.progress.bar`. What stands in
# brackets at the end of "what" may change while a step runs: "train cmm (validation 0.4213)".
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Say nothing."""
    del what, done, total
