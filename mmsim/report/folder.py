"""The folder of one run: claimed before anything is computed, and whole at every moment.

``run.json`` lists under ``files`` what belongs to the run, and nothing in the folder belongs to it otherwise.
Each finished agent is written at once, as ``parts/fills-...`` and ``parts/steps-...``, then ``run.json`` is
replaced. At the end the parts give way to ``fills.parquet`` and ``steps.parquet``. A process that is killed
leaves the ``run.json`` of its last finished agent (status ``running``) and the files that it names.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmsim.errors import ConfigError, MmsimError
from mmsim.files import replacing
from mmsim.metrics import MarketResult
from mmsim.provenance import git_revision, versions
from mmsim.report.writer import entry, json_safe, write_parquet
from mmsim.types import FILL, STEP

SCHEMA = 1
TABLES: Mapping[str, np.dtype[np.void]] = {"fills": FILL, "steps": STEP}
Status = Literal["running", "done", "failed", "interrupted"]
_NAME = re.compile(r"(parts/)?[^/\\]+")  # of a file that a run may name; nothing outside the folder
# of a run that was killed: written but not yet named
_UNFINISHED = (
    "parts/fills-*",
    "parts/steps-*",
    "parts/.*.tmp",
    ".*.parquet.*.tmp",
    ".run.json.*.tmp",
    ".*.png.*.tmp",
    ".*.png.tmp",  # as versions before this one named them
)
_PROBE = b"\0" * 65536  # bytes tried before anything is computed


class RunFolder:
    """Where one run keeps its results.

    Parameters
    ----------
    path : path
        Made if it is not there.
    config : mapping
        The resolved configuration.
    extra : mapping, optional
        Further top-level entries of ``run.json``.
    force : bool
        Replace the run that the folder holds. It stays until the first agent of this one has finished; then
        its ``run.json``, tables and pictures go, and other files stay.

    Raises
    ------
    ConfigError
        If the folder cannot be written, or holds a run and `force` is not set.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        config: Mapping[str, Any],
        extra: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> None:
        self.path = Path(path)
        self.run_id = uuid.uuid4().hex
        self.results: list[MarketResult] = []
        self.errors: list[Mapping[str, Any]] = []
        self._status: Status = "running"
        self._files: list[str] = []
        self._leftovers: list[str] = []
        self._made: list[Path] = []
        self._head = {"config": config, "versions": versions(), "git": git_revision(), **(extra or {})}
        try:
            self._make()
            self._try()
            self._seen = self._on_disk()
            held = self._seen is not None or any((self.path / f"{t}.parquet").exists() for t in TABLES)
            if not held:
                self._save()
        except (OSError, ValueError) as err:  # ValueError: a null byte in the name
            self._unmake()
            reason = getattr(err, "strerror", None) or err
            raise ConfigError(
                f"results folder {_short(self.path)}: cannot be written ({reason}); choose another with --out"
            ) from None
        if held and not force:
            raise ConfigError(
                f"results folder {self.path}: holds a run; choose another with --out, or replace it with --force"
            )
        if held:
            self._leftovers = self._of_the_old_run()

    def add(self, result: MarketResult) -> None:
        """Write one finished agent, so that it is kept whatever comes.

        Raises
        ------
        MmsimError
            If the disk is full or the folder was taken away; what was written before stays.
        """
        self.results.append(result)
        with self._writing():
            (self.path / "parts").mkdir(exist_ok=True)
            for table in TABLES:
                name = f"parts/{table}-{self.run_id[:8]}-{len(self.results):03d}.parquet"
                self._table(name, table, [result])
                self._files.append(name)
            self._save()

    def fail(self, error: Mapping[str, Any]) -> None:
        """Note a run that failed: ``{"agent", "dataset", "error"}``."""
        self.errors.append(error)
        if self._seen == self.run_id:
            with self._writing():
                self._save()

    def finish(self, status: Status) -> None:
        """Turn the parts into ``fills.parquet`` and ``steps.parquet``; a run without results leaves nothing.

        Raises
        ------
        MmsimError
            If the disk is full; the parts stay then, and ``run.json`` names them.
        """
        if not self.results:
            self._discard()
            return
        with self._writing():
            for table in TABLES:
                self._table(f"{table}.parquet", table, self.results)
            parts, self._files = self._files, [f"{table}.parquet" for table in TABLES]
            self._status = status
            self._save()
            self._remove(parts)

    def drawn(self) -> None:
        """Name the pictures that are there in ``run.json``."""
        self._files += sorted(n for n in _pictures(self.results) if (self.path / n).is_file())
        with self._writing():
            self._save()

    # ---- one file after the other ------------------------------------------------------------------
    def _table(self, name: str, table: str, results: Sequence[MarketResult]) -> None:
        rows = [(r, ep.index, getattr(ep, table)) for r in results for ep in r.episodes]
        write_parquet(self.path / name, TABLES[table], rows, {"mmsim.run_id": self.run_id})

    def _save(self) -> None:
        here = self._on_disk()
        if here != self._seen:
            raise MmsimError(f"results folder {self.path}: another run has written to it meanwhile")
        document = {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "status": self._status,
            "files": self._files,
            **({"leftovers": self._leftovers} if self._leftovers else {}),
            "results": [entry(result) for result in self.results],
            **({"errors": self.errors} if self.errors else {}),
            **self._head,
        }
        with replacing(self.path / "run.json") as temporary:
            text = json.dumps(json_safe(document), indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        self._seen = self.run_id
        if self._leftovers:  # of the run that this one replaces; from now on the folder is ours
            old, self._leftovers = self._leftovers, []
            self._remove(old)
            self._save()

    def _on_disk(self) -> str | None:
        # which run the folder belongs to; "" is one that does not say
        path = self.path / "run.json"
        if not path.exists():
            return None
        return str(_read(path).get("run_id", ""))

    def _of_the_old_run(self) -> list[str]:
        # What it names, what it may have left when it was killed, and what a run before there were lists wrote.
        old = _read(self.path / "run.json")
        named = {*_texts(old.get("files")), *_texts(old.get("leftovers")), *(f"{t}.parquet" for t in TABLES)}
        rows = old.get("results")
        shown = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        named |= _pictures(
            [MarketResult(str(r.get("agent")), str(r.get("dataset")), False, ()) for r in shown]
        )
        for pattern in _UNFINISHED:
            named |= {p.relative_to(self.path).as_posix() for p in self.path.glob(pattern)}
        return sorted(n for n in named if _NAME.fullmatch(n) and (self.path / n).is_file())

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._files:
                (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # not there, or not ours alone
            (self.path / "parts").rmdir()

    # ---- making and leaving ------------------------------------------------------------------------
    def _make(self) -> None:
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self._made.append(folder)
        if not self.path.is_dir():
            raise NotADirectoryError(0, "not a folder")

    def _try(self) -> None:
        probe = self.path / f".run.json.{self.run_id}.tmp"
        try:
            with probe.open("wb") as file:
                file.write(_PROBE)
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)

    def _unmake(self) -> None:
        for folder in reversed(self._made):
            with suppress(OSError):
                folder.rmdir()

    def _discard(self) -> None:
        if self._seen == self.run_id == self._on_disk():
            (self.path / "run.json").unlink()
        self._unmake()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise MmsimError(
                f"results folder {self.path}: cannot be written any more ({err.strerror or err}); "
                f"run.json names what was kept"
            ) from err


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _pictures(results: Sequence[MarketResult]) -> set[str]:
    return {f"{r.dataset}-{name}.png" for r in results for name in (r.slug, "comparison")}


def _texts(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:197]}..."
