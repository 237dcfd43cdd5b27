"""The last W decisions as a feature window, live and offline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim.agent import OBS_SIZE
from mmsim.errors import ConfigError
from mmsim.features.market import (
    FEATURE_ROW,
    FEATURE_STATE,
    as_table,
    feature_records,
    feature_table,
    push_window,
)

WINDOW = 20  # decisions, the usual window length


def feature_rows(raw: npt.NDArray[np.int64], unit: int = 1) -> npt.NDArray[np.float32]:
    """Return the features of every decision of one episode.

    Parameters
    ----------
    raw : (n, OBS_SIZE) int64
        Observation vectors of consecutive decisions, from the start of the episode.
    unit : int
        Usual order size, lots.

    Returns
    -------
    (n, N_FEATURES) float32
        Row t depends on rows ``0..t`` only, and equals bit for bit what a `FeatureWindow` shows live.
    """
    if raw.ndim != 2 or raw.shape[1] != OBS_SIZE:
        raise ConfigError(f"expected observation vectors of shape (n, {OBS_SIZE}), was {raw.shape}")
    if unit < 1:
        raise ConfigError(f"expected a unit of at least 1 lot, was {unit}")
    rows = feature_records(len(raw), FEATURE_ROW)
    feature_table(np.ascontiguousarray(raw, np.int64), float(unit), feature_records(1, FEATURE_STATE), rows)
    return as_table(rows)


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

    __slots__ = ("_pos", "_raw", "_ring", "_state", "_table", "_unit", "_width", "count")

    def __init__(self, unit: int = 1, window: int = WINDOW) -> None:
        if unit < 1 or window < 1:
            raise ConfigError(f"expected unit and window of at least 1, was {unit} and {window}")
        self._unit, self._width = float(unit), window
        self._ring = feature_records(2 * window, FEATURE_ROW)
        self._table = as_table(self._ring)  # the same memory
        self._state = feature_records(1, FEATURE_STATE)
        self._raw = np.zeros(OBS_SIZE, np.int64)
        self._pos = 0
        self.count = 0  # decisions pushed since the reset

    def reset(self) -> None:
        """Forget everything: a new episode starts."""
        self._table[:] = 0.0
        self._state[:] = np.zeros(1, FEATURE_STATE)
        self._pos = self.count = 0

    def push(self, raw: npt.NDArray[np.int64]) -> None:
        """Take in the observation vector ``(OBS_SIZE,)`` of the newest decision."""
        self._raw[:] = raw  # a copy of our own: one type, so one compilation
        self._pos = push_window(self._raw, self._unit, self._state, self._ring, self._pos)
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
