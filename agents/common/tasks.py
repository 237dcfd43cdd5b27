"""What every predictor is asked for: mid change, spread and volume over the next decisions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmsim.errors import ConfigError
from mmsim.features import WINDOW
from mmsim_agents.common.recording import Raw

HORIZON = 10  # decisions ahead
TASKS = ("mid", "spread", "volume")  # order of every task axis
N_TASKS = len(TASKS)
Prediction = tuple[float, float, float]  # (dm, s, v): ticks, ticks and log1p(lots / unit), see `targets`


def targets(raw: npt.NDArray[np.void], unit: int = 1, horizon: int = HORIZON) -> npt.NDArray[np.float64]:
    """Return the three targets of every decision of one episode.

    Parameters
    ----------
    raw : (n,) OBSERVATION
        Observations of consecutive decisions of ONE episode.
    unit : int
        Usual order size, lots.
    horizon : int
        Decisions ahead.

    Returns
    -------
    (n, 3) float64
        ``dm``: mid at t + horizon minus mid at t, ticks; ``s``: spread at t + horizon, ticks;
        ``v``: log1p(lots traded in (t, t + horizon] / unit). NaN in the last `horizon` rows.

    Examples
    --------
    >>> from mmsim.records import OBSERVATION
    >>> raw = np.zeros(3, OBSERVATION)
    >>> raw["bid_px"], raw["ask_px"], raw["buy_qty"] = (10, 10, 11), (12, 11, 12), (5, 0, 3)
    >>> targets(raw, horizon=1)[:2].round(3).tolist()
    [[-0.5, 1.0, 0.0], [1.0, 1.0, 1.386]]
    """
    if horizon < 1 or unit < 1:
        raise ConfigError(f"expected horizon and unit of at least 1, was {horizon} and {unit}")
    n = len(raw)
    out = np.full((n, N_TASKS), np.nan)
    if n <= horizon:
        return out
    bid, ask = raw["bid_px"], raw["ask_px"]
    mid2 = bid + ask
    done = n - horizon
    out[:done, 0] = 0.5 * (mid2[horizon:] - mid2[:-horizon])
    out[:done, 1] = (ask - bid)[horizon:]
    traded = np.cumsum(raw["buy_qty"] + raw["sell_qty"])
    out[:done, 2] = np.log1p((traded[horizon:] - traded[:-horizon]) / unit)
    return out


def samples(raw: Raw, unit: int = 1) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the targets of a split and which of its decisions can be learned from.

    Returns
    -------
    target : (N, 3) float64
        The `targets` of all episodes, one after the other.
    rows : (n,) int64
        Decisions with a full feature window (`WINDOW` decisions, itself included) behind them in their episode,
        and a target ahead.
    """
    target = np.concatenate([np.empty((0, N_TASKS)), *(targets(rows, unit) for rows in raw)])
    offset = np.concatenate([np.empty(0, np.int64), *(np.arange(len(rows)) for rows in raw)])
    return target, np.flatnonzero((offset >= WINDOW - 1) & np.isfinite(target).all(1))
