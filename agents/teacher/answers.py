"""The teacher's answers on disk: prompt -> three predictions and how long the model took for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from mmsim import caches

_T = TypeVar("_T")
_MADE = (
    "CREATE TABLE IF NOT EXISTS checked_answers (key TEXT PRIMARY KEY, dm REAL, s REAL, v REAL, "
    "latency_ns INTEGER, parsed INTEGER, crc32 INTEGER) WITHOUT ROWID"
)


class Answer(NamedTuple):
    """One answer; ``parsed`` is False where the model's text was no answer (then the rest is 0)."""

    dm: float
    s: float
    v: float
    latency_ns: int
    parsed: bool


class AnswerCache:
    """A SQLite file of answers, safe to share between processes.

    A damaged file is made anew, a damaged answer is asked for again; where the file cannot be written, answers
    last as long as the process.

    Parameters
    ----------
    path : Path
        The file, made on first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def get(self, key: str) -> Answer | None:
        """Return the answer under `key`, or None."""
        row = self._do(
            lambda db: db.execute(
                "SELECT dm, s, v, latency_ns, parsed, crc32 FROM checked_answers WHERE key = ?", (key,)
            ).fetchone()
        )
        if row is None:
            return None
        answer = Answer(row[0], row[1], row[2], row[3], bool(row[4]))
        if _checksum(key, answer) == row[5]:
            return answer
        caches.made_again(self._path, "an answer has another checksum")
        self._do(lambda db: db.execute("DELETE FROM checked_answers WHERE key = ?", (key,)))
        return None

    def put(self, key: str, answer: Answer) -> None:
        """Keep `answer`; the first one under a key stays."""
        values = (key, *answer[:4], int(answer.parsed), _checksum(key, answer))
        self._do(
            lambda db: db.execute(
                "INSERT OR IGNORE INTO checked_answers VALUES (?, ?, ?, ?, ?, ?, ?)", values
            )
        )

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _do(self, what: Callable[[sqlite3.Connection], _T]) -> _T:
        for _ in range(2):
            try:
                return what(self._open(str(self._path)))
            except (sqlite3.OperationalError, OSError) as err:  # not writable, full, locked for a minute
                caches.cannot_keep(err if isinstance(err, OSError) else OSError(str(err)), self._path)
                break
            except sqlite3.DatabaseError as err:
                caches.made_again(self._path, err)
                self.close()
                for suffix in ("", "-journal", "-wal", "-shm"):
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self.close()
        return what(self._open(":memory:"))

    def _open(self, place: str) -> sqlite3.Connection:
        if self._db is None:
            if place != ":memory:":
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(place, timeout=60.0, isolation_level=None)
            self._db.execute(_MADE)
        return self._db


def _checksum(key: str, answer: Answer) -> int:
    values = [key, *map(float, answer[:3]), int(answer.latency_ns), bool(answer.parsed)]
    return caches.checksum(repr(values).encode())
