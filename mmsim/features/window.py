"""The last W decisions as a feature window, live and offline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim._jit import records
from mmsim.errors import ConfigError
from mmsim.features.market import (
    FEATURE_ROW,
    FEATURE_STATE,
    as_table,
    feature_table,
    push_window,
)
from mmsim.records import OBSERVATION

WINDOW = 20  # decisions, the usual window length


def feature_rows(raw: npt.NDArray[np.void], unit: int = 1) -> npt.NDArray[np.float32]:
    """Return the features of every decision of one episode.

    Parameters
    ----------
    raw : (n,) OBSERVATION
        Observations of consecutive decisions, from the start of the episode.
    unit : int
        Usual order size, lots.

    Returns
    -------
    (n, N_FEATURES) float32
        Row t depends on rows ``0..t`` only, and equals bit for bit what a `FeatureWindow` shows live.
    """
    if raw.ndim != 1 or raw.dtype != OBSERVATION:
        raise ConfigError(f"expected observations (n,), was shape {raw.shape} of {raw.dtype}")
    if unit < 1:
        raise ConfigError(f"expected a unit of at least 1 lot, was {unit}")
    rows = records(np.zeros(len(raw), FEATURE_ROW))
    seen = records(raw.copy())  # a copy of our own: one type, so one compilation
    feature_table(seen, float(unit), records(np.zeros(1, FEATURE_STATE)), rows)
    return as_table(rows)


class Seen:
    """A copy of our own of the newest observation: kernels meet one type of array and are compiled once."""

    __slots__ = ("_bytes", "record")

    def __init__(self) -> None:
        array = np.zeros(1, OBSERVATION)
        self.record = records(array)
        self._bytes = memoryview(array.view(np.uint8))  # type: ignore[arg-type]

    def take(self, record: npt.NDArray[np.void]) -> None:
        """Copy ``(1,)`` OBSERVATION."""
        self._bytes[:] = record.tobytes()  # numpy would copy field by field: fifty times slower


class FeatureWindow:
    """Features of the last `window` decisions, updated in about a microsecond per push.

    Parameters
    ----------
    unit : int
        Usual order size, lots (``SessionContext.unit``).
    window : int
        Decisions kept.

    Examples
    --------
    >>> fw = FeatureWindow(unit=1, window=2)
    >>> fw.full, len(fw.window)
    (False, 2)
    """

    __slots__ = ("_pos", "_ring", "_seen", "_state", "_table", "_unit", "_width", "count")

    def __init__(self, unit: int = 1, window: int = WINDOW) -> None:
        if unit < 1 or window < 1:
            raise ConfigError(f"expected unit and window of at least 1, was {unit} and {window}")
        self._unit, self._width = float(unit), window
        self._ring = records(np.zeros(2 * window, FEATURE_ROW))
        self._table = as_table(self._ring)  # the same memory
        self._state = records(np.zeros(1, FEATURE_STATE))
        self._seen = Seen()
        self._pos = 0
        self.count = 0  # decisions pushed since the reset

    def reset(self) -> None:
        """Forget everything: a new episode starts."""
        self._table[:] = 0.0
        self._state[:] = np.zeros(1, FEATURE_STATE)
        self._pos = self.count = 0

    def push(self, record: npt.NDArray[np.void]) -> None:
        """Take in what was seen at the newest decision, ``(1,)`` OBSERVATION."""
        self._seen.take(record)
        self._pos = push_window(self._seen.record, self._unit, self._state, self._ring, self._pos)
        self.count += 1

    @property
    def full(self) -> bool:
        """Whether `window` decisions have been seen; rows before the first are zero."""
        return self.count >= self._width

    @property
    def window(self) -> npt.NDArray[np.float32]:
        """The last decisions, oldest first: a ``(W, F)`` contiguous view, overwritten by `push`."""
        return self._table[self._pos : self._pos + self._width]

    @property
    def last(self) -> npt.NDArray[np.float32]:
        """Features of the newest decision, ``(F,)``."""
        out: npt.NDArray[np.float32] = self._table[self._pos + self._width - 1]
        return out
