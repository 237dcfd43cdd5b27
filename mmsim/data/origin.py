"""Where values come from, so that a message about a wrong one names file, row and field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmsim.errors import DataError


@dataclass(frozen=True)
class Origin:
    """The file of some arrays, and the row of each of their values in it.

    Parameters
    ----------
    source : str
        File (and member of it), as messages call it.
    row : (n,) int64 array, optional
        One-based row of each value; without it values are counted from 1.
    """

    source: str = ""
    row: npt.NDArray[Any] | None = None

    def __getitem__(self, keep: Any) -> Origin:
        """Return the origin of the values that an index keeps."""
        return self if self.row is None else replace(self, row=self.row[keep])

    def place(self, at: int) -> tuple[str, int]:
        """Return file and row of value `at`."""
        return self.source, at + 1 if self.row is None else int(self.row[at])

    def error(self, message: str, at: int, column: str = "") -> DataError:
        """Return an error about value `at`."""
        source, row = self.place(at)
        return DataError(message, source=source, row=row, field=column)

    def refuse(
        self, bad: npt.NDArray[Any], values: Any, expected: str, column: str, show: Callable[[Any], str] = str
    ) -> None:
        """Refuse the first of `values` where `bad` holds.

        Raises
        ------
        DataError
            Saying what was expected, and the value as `show` writes it.
        """
        if bad.any():
            at = int(np.argmax(bad))
            raise self.error(f"expected {expected}, was {show(values[at])}", at, column)


@dataclass(frozen=True)
class Origins(Origin):
    """Rows of several files: `source` names all of them, ``sources[where[i]]`` is the file of value ``i``."""

    sources: Sequence[str] = ()
    where: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __getitem__(self, keep: Any) -> Origins:
        """Return the origin of the values that an index keeps."""
        row = None if self.row is None else self.row[keep]
        return replace(self, row=row, where=self.where[keep])

    def place(self, at: int) -> tuple[str, int]:
        """Return file and row of value `at`."""
        return self.sources[int(self.where[at])], super().place(at)[1]
