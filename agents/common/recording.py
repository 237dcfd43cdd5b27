"""What a market shows while nobody quotes: the raw material of every training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmsim import play
from mmsim.types import MarketData
from mmsim_agents.common.progress import Progress, silent

Raw = Sequence[npt.NDArray[np.void]]  # observations of consecutive decisions, one array per episode


def record(data: MarketData, split: str, progress: Progress = silent) -> list[npt.NDArray[np.void]]:
    """Record every episode of `split` with nobody quoting: one ``(n,)`` OBSERVATION array per episode.

    Raises
    ------
    DataError
        If the split has no episodes.
    """
    episodes = play.episodes_of(data, split, "to train on")
    return list(
        play.record(data, episodes, tick=lambda done, total: progress(f"record {split}", done, total))
    )


def evenly(n: int, count: int) -> npt.NDArray[np.int64]:
    """Return `count` numbers of ``range(n)``, evenly spaced from 0; all of them if there are no more.

    >>> evenly(10, 4).tolist(), evenly(3, 5).tolist()
    ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(n, count)
    return (np.arange(count) * n) // max(count, 1)
