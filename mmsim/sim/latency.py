"""Latencies as the simulation takes them: how long the agent thinks, and how long messages travel."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmsim.config import MAX_LATENCY_NS, LatencyConfig
from mmsim.errors import ConfigError, DataError, did_you_mean, shown
from mmsim.sim import records as R

_DRAWS = 4096  # rows of a table of drawn latencies, taken in turn
_COLUMNS = ("feed_ns", "order_ns", "cancel_ns", "reduce_ns", "market_ns", "ack_ns")  # as LEG_*


class DecisionLatency:
    """Decision latency of one agent: constant, or drawn from its recorded wall-clock latencies.

    One sequence for every agent: the k-th decision that it is asked for (missed ones are not counted) is charged
    row ``k % n`` of `table`, whether it runs in Python (`draw`) or in the kernel.

    Parameters
    ----------
    constant_ns : int
        Latency of every decision if there is no profile, ns.
    profile_ns : ndarray of int64, optional
        Recorded latencies, ``(n,)`` ns; one is drawn for each decision by the run's seed.

    Raises
    ------
    ConfigError
        If there is no latency, or one is not from 0 to an hour.
    """

    def __init__(self, constant_ns: int = 0, profile_ns: npt.NDArray[np.int64] | None = None) -> None:
        known = np.array([constant_ns]) if profile_ns is None else np.asarray(profile_ns)
        if known.ndim != 1 or len(known) == 0 or known.dtype.kind not in "iu":
            raise ConfigError(
                f"latency profile: expected at least one latency in whole ns, was {shown(known)}"
            )
        if int(known.min()) < 0 or int(known.max()) > MAX_LATENCY_NS:
            raise ConfigError(
                f"latency profile: expected 0 to {MAX_LATENCY_NS} ns (an hour), was {known.min()} to {known.max()}"
            )
        self._known = known.astype(np.int64)
        self.start(0, 0)

    @classmethod
    def from_config(cls, latency: LatencyConfig) -> DecisionLatency:
        """Return the constant decision latency that `latency` holds.

        Raises
        ------
        ConfigError
            If it is ``profile``.
        """
        if latency.decision == "profile":
            raise ConfigError(
                "sim.latency.decision 'profile' needs the agent's recorded latencies: use `mmsim run`, or pass "
                "DecisionLatency(profile_ns=...) as decision_latency"
            )
        return cls(latency.decision)

    def start(self, seed: int, episode: int) -> None:
        """Restart the draws for one episode."""
        self._table = self._known
        if len(self._known) > 1:
            rng = np.random.default_rng([seed, episode, 0x1A7])
            self._table = self._known[rng.integers(0, len(self._known), _DRAWS)]
        turn: list[int] = self._table.tolist()
        self._turn = itertools.cycle(turn)

    def table(self) -> npt.NDArray[np.int64]:
        """Return the episode's decision latencies, ns: decision `k` takes row ``k % n``."""
        return self._table

    def draw(self) -> int:
        """Return the latency of the next decision, ns."""
        return next(self._turn)


class WireTable:
    """The table in which the kernel looks up how long a message travels (`mmsim.sim.wire`).

    Constant: `LatencyConfig`'s ``feed`` to ``ack``. With ``sigma`` > 0 they are medians of log-normal latencies,
    drawn anew for each message by the run's seed. With ``file`` they come from a recording, interpolated in time: a
    CSV with a header and the columns ``ts_ns`` (ns since the epoch, rising), ``order_ns`` and ``ack_ns``;
    ``cancel_ns``, ``reduce_ns`` and ``market_ns`` are as ``order_ns`` where they are missing, ``feed_ns`` as
    ``feed``.

    Raises
    ------
    ConfigError, DataError
        If both are given, or the file is missing or not as described (file, row, column), or holds a latency
        of more than an hour.
    """

    def __init__(self, latency: LatencyConfig) -> None:
        self._medians = np.array([latency.feed, *latency.requests, latency.ack], np.int64)
        self._sigma = latency.sigma
        self._recorded: npt.NDArray[np.int64] | None = None
        self.mode, self.rows = R.WIRE_CONSTANT, 1
        if latency.file is not None:
            if latency.sigma > 0:
                raise ConfigError("sim.latency.file and sim.latency.sigma: expected one of them")
            self._recorded = read_latencies(Path(latency.file), latency.feed)
            self.mode, self.rows = R.WIRE_RECORDED, len(self._recorded)
        elif latency.sigma > 0:
            self.mode, self.rows = R.WIRE_DRAWN, _DRAWS

    def fill(self, seed: int, episode: int) -> npt.NDArray[np.int64]:
        """Return the table of one episode, ``(cells,)`` int64.

        Raises
        ------
        ConfigError
            If a latency of more than an hour is drawn.
        """
        if self._recorded is not None:
            return self._recorded.ravel()
        if self.mode == R.WIRE_CONSTANT:
            return self._medians
        noise = np.random.default_rng([seed, episode, 0x31BE]).standard_normal((self.rows, R.N_LEGS))
        drawn = np.rint(self._medians * np.exp(self._sigma * noise))
        if drawn.max() > MAX_LATENCY_NS:
            raise ConfigError(
                f"sim.latency.sigma={self._sigma:g} draws a latency of {drawn.max() / 1e9:.3g} s from a median of "
                f"{int(self._medians.max())} ns, expected at most an hour: lower one of them"
            )
        return drawn.astype(np.int64).ravel()


def read_latencies(path: Path, feed_ns: int) -> npt.NDArray[np.int64]:
    """Read recorded latencies (see `WireTable`) as ``(n, 1 + N_LEGS)`` int64 rows, time first."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, ValueError) as err:  # (bytes that are no text, a name with a NUL)
        raise ConfigError(f"sim.latency.file {path}: {err}") from None
    except csv.Error as err:
        raise DataError(f"expected a CSV, {err}", source=str(path)) from None
    header = [name.strip() for name in rows[0]] if rows else []
    for name in header:
        if name not in ("ts_ns", *_COLUMNS):
            raise DataError(
                f"expected the columns ts_ns, {', '.join(_COLUMNS)}, was {name!r}{did_you_mean(name, _COLUMNS)}",
                source=str(path),
            )
    if len(set(header)) < len(header):
        raise DataError(f"expected every column once, was {', '.join(header)}", source=str(path))
    for name in ("ts_ns", "order_ns", "ack_ns"):
        if name not in header:
            raise DataError(
                f"expected a column {name}, was {', '.join(header) or 'an empty file'}", source=str(path)
            )
    out = np.empty((len(rows) - 1, 1 + R.N_LEGS), np.int64)
    last = -(2**63)
    for k, row in enumerate(rows[1:]):
        values: dict[str, int] = {}
        for name, text in zip(header, row, strict=False):
            most = R.INF if name == "ts_ns" else MAX_LATENCY_NS
            whole = text.strip().isdecimal() and len(text) < 100
            if not whole or int(text) > most:
                wanted = f"expected at most {most} ns" if whole else "expected a whole number of ns"
                raise DataError(f"{wanted}, was {shown(text)}", source=str(path), row=k + 1, field=name)
            values[name] = int(text)
        if len(row) != len(header) or values["ts_ns"] <= last:
            raise DataError(
                f"expected {len(header)} fields and a later time than {last}, was {shown(row)}",
                source=str(path),
                row=k + 1,
            )
        last = values["ts_ns"]
        order = values["order_ns"]
        legs = (values.get(n, feed_ns if n == "feed_ns" else order) for n in _COLUMNS)
        out[k] = (last, *legs)
    if len(out) == 0:
        raise DataError("expected at least one row of latencies, was none", source=str(path))
    return out
