"""hftbacktest beside mmsim: finds its interpreter, hands it the inputs, keeps it running and asks it.

`mmsim bench` loads this file from a checkout; it is no part of the package, and neither is `peer_hftbacktest.py`, which
the other interpreter runs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numba import njit

from mmsim.bench.cases import Sample
from mmsim.bench.checkout import HOW
from mmsim.bench.inputs import Input
from mmsim.bench.worker import run, timed
from mmsim.errors import BenchError, ConfigError
from mmsim.files import replacing
from mmsim.paths import package_root
from mmsim.types import EventKind

SCRIPT = Path(__file__).with_name("peer_hftbacktest.py")
ENV = "MMSIM_PEER_PYTHON"


def find_python(given: Path | None = None) -> Path | None:
    """Return the interpreter that has hftbacktest, None if there is none.

    Looked for in this order: `given`, ``MMSIM_PEER_PYTHON``, ``.venv-bench`` beside the checkout, this interpreter.

    Raises
    ------
    ConfigError
        If the first two name something that is not there.
    """
    env = os.environ.get(ENV)
    named = given or (Path(env) if env else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(
                f"{'--peer-python' if given else ENV}: expected a Python interpreter, was {named}"
            )
        return named
    beside = package_root().parent / ".venv-bench" / "bin" / "python"
    if beside.is_file():
        return beside
    return Path(sys.executable) if importlib.util.find_spec("hftbacktest") else None


class Peer:
    """One process of the peer.

    Parameters
    ----------
    python : Path
        Its interpreter.

    Raises
    ------
    BenchError
        If it does not start, dies or reports an error; with the end of what it printed.
    """

    def __init__(self, python: Path) -> None:
        self.python = python
        self._loaded: dict[str, Any] = {}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        # the peer sees only its own libraries: this process's path would put another numba before them
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "NUMBA_"))}
        self._process = subprocess.Popen(
            [str(python), str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            text=True, env=self._env,
        )  # fmt: skip
        hello = self.ask(do="hello")
        self.name = f"hftbacktest {hello['version']}"

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise BenchError(f"the peer ({self.python}) ended: {self._last_words()}; {HOW}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"the peer could not do {request.get('do')!r}: {answer['error']}")
        return answer

    def load(self, request: dict[str, Any]) -> None:
        """Have it read a feed, unless it holds that one already."""
        if request != self._loaded:
            self._loaded = {}
            self.ask(**request)
            self._loaded = request

    def replay(self, source: Input, what: str) -> Sample:
        """Replay a whole feed with the strategy `what`, and say how long it took."""
        self.load(request(source))
        answer = self.ask(do="run", what=what)
        if answer["check"].get("rc", 1) != 1:
            raise BenchError(f"the peer stopped with code {answer['check']['rc']} before the end of the data")
        return Sample(answer["wall"], answer["cpu"], answer["check"])

    def first_result(self, source: Input, rows: int) -> Sample:
        """Return the seconds from the start of another process to its first result."""
        return Sample(*timed(self._once("first", source, rows), self._env))

    def resident(self, source: Input) -> int:
        """Return the bytes that the rows of `source` and a run on them keep resident."""
        return int(run(self._once("memory", source, source.n), self._env)["bytes"])

    def _once(self, what: str, source: Input, rows: int) -> list[str]:
        assert source.files is not None
        return [str(self.python), str(SCRIPT), what, *map(str, source.files), str(rows)]

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except OSError:
                self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()  # it may be in the middle of a case
        self.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"


# ---- the inputs in its form ------------------------------------------------------------------------
def request(source: Input) -> dict[str, Any]:
    """Return the request that has the peer read a feed, whose files are written where they are not there."""
    out: dict[str, Any] = {"do": "load", "level": source.data.level, "delay_ns": source.delay_ns}
    if source.files is not None:
        events, recv = source.files
        return {**out, "events": str(events), "recv": str(recv), "rows": source.n}
    events, recv = source.kept.with_suffix(".npy"), source.kept.with_suffix(".recv.npy")
    times = source.data.recv_ts
    if not events.is_file():
        events.parent.mkdir(parents=True, exist_ok=True)
        rows = source.data.events
        if source.data.level == "L3":
            rows = published(rows)
            # all rows that stand for one of ours are received together
            times = None if times is None else times[rows["row"]]
        if times is not None:
            _save(recv, times)
        _save(events, rows)
    out["events"] = str(events)
    if times is not None:
        out["recv"] = str(recv)
    return out


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as out:
        np.save(out, np.ascontiguousarray(array))


# One row of a market-by-order feed as exchanges publish it and as hftbacktest wants it: an execution is
# three rows (trade, fill, then cancel or modify), ids are never used again.
FEED = np.dtype(
    [
        ("ts", "<i8"),  # exchange time, ns
        ("order_id", "<i8"),
        ("px", "<i4"),  # ticks
        ("qty", "<i4"),  # lots; of a MODIFY: what is left
        ("kind", "u1"),  # FEED_*
        ("side", "i1"),  # of the order; of a trade: the aggressor's
        ("pad", "<u2"),
        ("row", "<u4"),  # the EVENT row it stands for
    ]
)
FEED_TRADE, FEED_ADD, FEED_CANCEL, FEED_MODIFY, FEED_FILL = 2, 10, 11, 12, 13  # the peer's numbers

_ADD, _DELETE, _EXECUTE = int(EventKind.ADD), int(EventKind.DELETE), int(EventKind.EXECUTE)
_TRADE, _HIDE, _CLEAR = int(EventKind.TRADE), int(EventKind.HIDE), int(EventKind.CLEAR)


def published(events: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return an L3 EVENT array in the form in which exchanges publish it, a `FEED` array."""
    n_exec = int(np.count_nonzero(events["kind"] == EventKind.EXECUTE))
    n_add = int(np.count_nonzero(events["kind"] == EventKind.ADD))
    out = np.zeros(len(events) + 2 * n_exec + n_add, FEED)
    slots = np.zeros((int(events["oid"].max(initial=0)) + 1, 4), np.int64)
    return out[: publish(events, slots, out)]


@njit
def _feed_row(
    out: Any, n: int, e: Any, row: int, order_id: int, qty: int, kind: int, side: int, px: int
) -> int:
    o = out[n]
    o["ts"] = e["ts"]
    o["order_id"] = order_id
    o["px"] = px
    o["qty"] = qty
    o["kind"] = kind
    o["side"] = side
    o["row"] = row
    return n + 1


@njit
def publish(events: Any, slots: Any, out: Any) -> int:
    """Write an L3 EVENT array as published rows; return how many.

    Parameters
    ----------
    events : (n,) EVENT
    slots : (n_slots, 4) int64, zeros
        Scratch: price, open lots, side, id of the order in each slot.
    out : (m,) FEED
        With room for three rows an execution, one for each other row and one more for each ADD.
    """
    n = np.int64(0)
    ids = np.int64(0)
    for i in range(len(events)):
        e = events[i]
        kind = e["kind"]
        if kind == _ADD:
            ids += 1
            s = slots[e["oid"]]
            s[0], s[1], s[2], s[3] = e["px"], e["qty"], e["side"], ids
            n = _feed_row(out, n, e, i, ids, s[1], FEED_ADD, s[2], s[0])
        elif kind == _TRADE:
            qty, side, px = np.int64(e["qty"]), np.int64(e["side"]), np.int64(e["px"])
            n = _feed_row(out, n, e, i, np.int64(0), qty, FEED_TRADE, side, px)
        elif kind in (_HIDE, _CLEAR):
            # orders that leave the view are cancelled: the published form knows nothing else
            for k in range(len(slots)):
                s = slots[k]
                if s[1] > 0 and (kind == _CLEAR or (s[0] == e["px"] and s[2] == e["side"])):
                    n = _feed_row(out, n, e, i, s[3], s[1], FEED_CANCEL, s[2], s[0])
                    s[1] = 0
        else:
            s = slots[e["oid"]]
            if kind == _EXECUTE:
                qty = np.int64(e["qty"])
                n = _feed_row(out, n, e, i, np.int64(0), qty, FEED_TRADE, -s[2], s[0])
                n = _feed_row(out, n, e, i, s[3], qty, FEED_FILL, s[2], s[0])
            before = s[1]
            s[1] = 0 if kind == _DELETE else before - e["qty"]
            if s[1] > 0:
                n = _feed_row(out, n, e, i, s[3], s[1], FEED_MODIFY, s[2], s[0])
            else:
                n = _feed_row(out, n, e, i, s[3], before, FEED_CANCEL, s[2], s[0])
    return n
