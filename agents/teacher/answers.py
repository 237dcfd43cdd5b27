"""The teacher's answers on disk: prompt -> three predictions and how long the model took for them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from mmsim.errors import ConfigError


class Answer(NamedTuple):
    """One answer; ``parsed`` is False where the model's text was no answer (then the rest is 0)."""

    dm: float
    s: float
    v: float
    latency_ns: int
    parsed: bool


class AnswerCache:
    """A SQLite file of answers, safe to share between processes.

    Parameters
    ----------
    path : Path
        The file, made on first use.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None)
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, dm REAL, s REAL, v REAL, "
                "latency_ns INTEGER, parsed INTEGER) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as err:
            raise ConfigError(f"teacher answers {path}: {err}; delete the file, it is only a cache") from err

    def get(self, key: str) -> Answer | None:
        """Return the answer under `key`, or None."""
        row = self._db.execute(
            "SELECT dm, s, v, latency_ns, parsed FROM answers WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else Answer(row[0], row[1], row[2], row[3], bool(row[4]))

    def put(self, key: str, answer: Answer) -> None:
        """Keep `answer`; the first one under a key stays."""
        self._db.execute(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", (key, *answer[:4], int(answer.parsed))
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()
