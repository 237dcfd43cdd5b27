"""Constants of a market for the rule strategies: volatility sigma, fill intensity A exp(-k d), spread.

Everything is estimated on one split (the training split) from what an observer saw: the mid-prices
at the decision times and the trades between them.

* **sigma**, ticks per square-root second: root mean square change of the mid over `SIGMA_S` seconds,
  overlapping, divided by the square root of that time; long enough that the bounce of the mid
  between two levels counts little.
* **A** (per second) and **k** (per tick): from a decision time on, an order of ours at distance d from
  the mid counts as *reached* in the next `horizon_s` seconds if a trade prints at its price or beyond,
  an ask by a buyer, a bid by a seller. Of n such trials let a share p be reached; arrivals that form
  a Poisson process reach the order at rate ``lambda(d) = -ln(1 - p) / horizon_s``, however many prints
  one arrival makes. Only distances where an order can really stand are tried (mid plus d is a whole
  tick), both sides together, from half the median spread outwards: inside the spread every trade
  reaches the order and the curve is flat. ``ln lambda = ln A - k d`` is fitted by least squares weighted with
  the inverse variance ``n (1 - p) ln(1 - p)^2 / p`` of its left side.

A fit that describes no market is refused: the mid must have moved, the intensity must fall by at least
a factor ``exp(MIN_FALL)`` over the distances of the fit (prices of the wrong scale give a flat one), and A and k
must lie within `RANGES`.

An order that is reached need not be filled, because others wait ahead of it: A is an upper bound. The
spread is the mean over decisions.

Source: M. Avellaneda and S. Stoikov (2008), section 2.5 (the form of the intensity); the estimator is
mmsim's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmsim.errors import DataError
from mmsim.play import episodes_of, record
from mmsim.types import EventFlag, EventKind, MarketData

SIGMA_S = 5.0  # seconds over which mid changes are taken
HORIZON_S = 1.0  # seconds for which a hypothetical order waits; at least one decision
MIN_REACHED = 20  # distances reached less often are left out of the fit
MAX_DISTANCES = 40  # points of the fit at most
CONSTANTS = ("sigma", "A", "k", "mean_spread")
MIN_FALL = 0.25  # of ln lambda from the first to the last distance of the fit; markets show 2 to 9
# Bounds of what can be told from counts: rates beyond them come from prices or times in the wrong unit.
RANGES = {"A": (1e-6, 1e5), "k": (1e-7, 50.0)}  # per second, per tick


@dataclass(frozen=True)
class Stretch:
    """What one uninterrupted stretch of a market showed.

    ``ts`` (n,) ns and ``mid2`` (n,) half-ticks at the decisions, ``spread`` (n,) ticks; trades as
    ``trade_ts`` (m,) ns, ``trade_px`` (m,) ticks, ``trade_side`` (m,): +1 a buyer hit the ask, -1 a
    seller the bid, 0 unknown. Both times ascend.
    """

    ts: npt.NDArray[np.int64]
    mid2: npt.NDArray[np.int64]
    spread: npt.NDArray[np.int64]
    trade_ts: npt.NDArray[np.int64]
    trade_px: npt.NDArray[np.int64]
    trade_side: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """Fitted constants and what they were fitted to.

    ``sigma`` ticks per square-root second, ``A`` per second, ``k`` per tick, ``mean_spread`` ticks; arrays of
    the fit, one element per distance: ``distance`` ticks from the mid, ``trials`` hypothetical orders,
    ``reached`` how many were reached, ``intensity`` per second.
    """

    sigma: float
    A: float
    k: float
    mean_spread: float
    horizon_s: float
    distance: npt.NDArray[np.float64]
    trials: npt.NDArray[np.int64]
    reached: npt.NDArray[np.int64]
    intensity: npt.NDArray[np.float64]

    @property
    def fitted(self) -> npt.NDArray[np.float64]:
        """The fitted intensity at each distance, per second."""
        return self.A * np.exp(-self.k * self.distance)

    def constants(self) -> dict[str, float]:
        """Return the four constants rounded to six significant digits, as the files hold them."""
        return {key: float(f"{getattr(self, key):.6g}") for key in CONSTANTS}


def fit(stretches: Iterable[Stretch], *, horizon_s: float | None = None, source: str = "") -> Calibration:
    """Estimate the constants from what was seen.

    Parameters
    ----------
    horizon_s : float, optional
        Seconds for which each hypothetical order waits. By default 1, or less where nearly every order
        at the touch is reached by then, or more where hardly any is.
    source : str
        Name of the dataset, for error messages.

    Raises
    ------
    DataError
        If there are too few decisions or trades, or what is fitted describes no market.
    """
    stretches = [s for s in stretches if len(s.ts) > 1]
    if not stretches:
        raise DataError("expected at least two decisions with a two-sided book, found none", source=source)
    sigma = _sigma(stretches, source)
    spread = np.concatenate([s.spread for s in stretches])
    least2 = max(int(np.median(spread)), 1)  # half the median spread, in half-ticks
    wait_s = HORIZON_S if horizon_s is None else horizon_s
    trials = _trials(stretches, wait_s)
    if horizon_s is None:
        while _share(trials, least2) > 0.9 and wait_s > 0.05:
            wait_s /= 2
            trials = _trials(stretches, wait_s)
        while _share(trials, least2) < 0.02 and wait_s < 60:
            wait_s *= 4
            trials = _trials(stretches, wait_s)
    return _fit_decay(trials, least2, sigma, float(spread.mean()), wait_s, source)


def observe(data: MarketData, split: str = "train") -> list[Stretch]:
    """Return what an observer saw in each episode of a split, nobody quoting.

    Raises
    ------
    DataError
        If the split has no episodes.
    """
    episodes = episodes_of(data, split, "to calibrate on")
    out = []
    for episode, seen in zip(episodes, record(data, episodes), strict=True):
        segment = data.segments[episode.segment]
        events = data.events[segment.start : segment.stop]
        first, last = np.searchsorted(events["ts"], (episode.start_ts, episode.end_ts))
        out.append(_stretch(seen, events[first:last]))
    return out


def usual_split(data: MarketData) -> str:
    """Return the split to calibrate on: the training split or, where it is empty, the first that is not."""
    return next((s for s in ("train", "validation", "test") if data.splits.get(s)), "train")


def calibrate(data: MarketData, split: str | None = None, *, horizon_s: float | None = None) -> Calibration:
    """Calibrate a market on one of its splits (default: `usual_split`); see `fit`.

    Raises
    ------
    DataError
        If it cannot be calibrated on that split, and why; `remedy` says what can be done.
    """
    split = split or usual_split(data)
    return fit(observe(data, split), horizon_s=horizon_s, source=f"{data.name}, {split} split")


def remedy(data: MarketData, failed: str) -> str:
    """Return what to do where a market cannot be calibrated on its split `failed`; every command named works."""
    by_hand = " ".join(f"--set {name}=..." for name in CONSTANTS)
    ways = [f"give the constants: mmsim calibrate {data.name} {by_hand} --write"]
    for split in ("train", "validation"):  # not the test split: a run on it would know what comes
        if split == failed or not data.splits.get(split):
            continue
        try:
            calibrate(data, split)
        except DataError:
            continue
        ways.insert(0, f"run: mmsim calibrate {data.name} --split {split} --write")
    return ", or ".join(ways)


def by_hand(given: Mapping[str, float], found: Calibration | None = None) -> Calibration:
    """Return a calibration with the `given` constants, the others from `found`; without it, all are given."""
    if found is None:
        empty, counts = np.zeros(0), np.zeros(0, np.int64)
        found = Calibration(0.0, 0.0, 0.0, 0.0, 0.0, empty, counts, counts, empty)
    sigma, rate, k, spread = (float(given.get(name, getattr(found, name))) for name in CONSTANTS)
    return replace(found, sigma=sigma, A=rate, k=k, mean_spread=spread)


def _stretch(seen: npt.NDArray[np.void], events: npt.NDArray[np.void]) -> Stretch:
    executed = events["kind"] == EventKind.EXECUTE
    traded = (executed | (events["kind"] == EventKind.TRADE)) & ((events["flags"] & EventFlag.AUCTION) == 0)
    rows = events[traded]
    side = rows["side"].astype(np.int64)
    return Stretch(
        ts=seen["exch_ts"],
        mid2=seen["bid_px"] + seen["ask_px"],
        spread=seen["ask_px"] - seen["bid_px"],
        trade_ts=rows["ts"].astype(np.int64),
        trade_px=rows["px"].astype(np.int64),
        trade_side=np.where(executed[traded], -side, side),
    )


def _sigma(stretches: list[Stretch], source: str) -> float:
    total, count, step = 0.0, 0, round(SIGMA_S * 1e9)
    for s in stretches:
        later = np.searchsorted(s.ts, s.ts + step, side="right") - 1
        whole = s.ts + step <= s.ts[-1]
        moves = (s.mid2[later] - s.mid2)[whole] / 2
        total += float(moves @ moves)
        count += len(moves)
    if count == 0:
        raise DataError(f"expected episodes longer than {SIGMA_S:g} s, found none", source=source)
    if total == 0:
        raise DataError(
            f"expected a mid that moves, found one that never changed in {SIGMA_S:g} s", source=source
        )
    return float(np.sqrt(total / count / SIGMA_S))


# Hypothetical orders: how far beyond the mid trades reached, half-ticks, and the mid's parity.
_Trials = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
_NOT_REACHED = -(2**62)


def _trials(stretches: list[Stretch], horizon_s: float) -> _Trials:
    reach2, parity, wait = [], [], round(horizon_s * 1e9)
    for s in stretches:
        whole = s.ts + wait <= s.ts[-1]
        ts, mid2 = s.ts[whole], s.mid2[whole]
        for side in (1, -1):
            hits = s.trade_side != -side  # by aggressors of this side, or of unknown side
            best = _window_max(s.trade_ts[hits], 2 * side * s.trade_px[hits], ts, ts + wait)
            reach2.append(np.where(best == _NOT_REACHED, _NOT_REACHED, best - side * mid2))
            parity.append(mid2 % 2)
    return np.concatenate(reach2), np.concatenate(parity)


def _window_max(
    at: npt.NDArray[np.int64],
    value: npt.NDArray[np.int64],
    after: npt.NDArray[np.int64],
    until: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    # the largest value with after < at <= until, for each window
    lo, hi = np.searchsorted(at, after, side="right"), np.searchsorted(at, until, side="right")
    padded = np.append(value, _NOT_REACHED)
    bounds = np.column_stack((lo, hi)).ravel()
    best = np.maximum.reduceat(padded, bounds)[::2] if len(bounds) else padded[:0]
    return np.where(lo < hi, best, _NOT_REACHED)


def _share(trials: _Trials, least2: int) -> float:
    # of the orders at the touch, the share reached
    reach2 = trials[0]
    return float((reach2 >= least2).mean()) if len(reach2) else 0.0


def _fit_decay(
    trials: _Trials, least2: int, sigma: float, mean_spread: float, horizon_s: float, source: str
) -> Calibration:
    reach2, parity = trials
    counted = np.sort(reach2[reach2 >= least2])
    if len(counted) < 2 * MIN_REACHED:
        raise DataError(
            f"expected at least {2 * MIN_REACHED} orders at the touch reached within {horizon_s:g} s, "
            f"found {len(counted)}: the split is too short or has no trades",
            source=source,
        )
    most2 = int(counted[-MIN_REACHED])
    distance2 = np.unique(np.linspace(least2, most2, MAX_DISTANCES).round().astype(np.int64))
    n = np.array([int((parity == d % 2).sum()) for d in distance2])
    reached = np.array([int(((reach2 >= d) & (parity == d % 2)).sum()) for d in distance2])
    share = reached / np.maximum(n, 1)
    use = (reached >= MIN_REACHED) & (share < 0.99)
    distance, n, reached, share = distance2[use] / 2, n[use], reached[use], share[use]
    if len(distance) < 2:
        raise DataError(
            "expected trades to reach at least two distances from the mid, found "
            f"{len(distance)}: try another --horizon-s",
            source=source,
        )
    intensity = -np.log1p(-share) / horizon_s
    weight = np.sqrt(n * (1 - share) * np.log1p(-share) ** 2 / share)
    design = np.column_stack((np.ones_like(distance), -distance))
    (log_rate, k), *_ = np.linalg.lstsq(design * weight[:, None], np.log(intensity) * weight, rcond=None)
    _plausible(float(np.exp(log_rate)), float(k), distance, source)
    return Calibration(
        sigma, float(np.exp(log_rate)), float(k), mean_spread, horizon_s, distance, n, reached, intensity
    )


def _plausible(rate: float, k: float, distance: npt.NDArray[np.float64], source: str) -> None:
    near, far = float(distance[0]), float(distance[-1])
    if k * (far - near) < MIN_FALL:
        raise DataError(
            f"the fill intensity does not fall with distance: k = {k:.3g} from {near:g} to {far:g} ticks from the "
            "mid; are the trades at the market's prices (tick size, multiplier of the turnover)?",
            source=source,
        )
    for name, value in (("A", rate), ("k", k)):
        low, high = RANGES[name]
        if not low <= value <= high:
            raise DataError(
                f"expected {name} from {low:g} to {high:g}, was {value:.3g}: no market is like that",
                source=source,
            )
