"""The state that an interrupted training goes on from."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.numpy import load, save

from mmsim.errors import ConfigError
from mmsim_agents.common.checkpoint import Arrays, atomic_write


class WorkFolder:
    """The folder of the resumable state of one training.

    Parameters
    ----------
    path : Path
        The folder; made when something is saved.
    key : str
        What the state belongs to; a state of another key is passed over.
    """

    def __init__(self, path: Path, key: str = "") -> None:
        self.path, self.key = path, key

    def save(self, step: int, note: dict[str, Any], arrays: Arrays) -> None:
        """Keep the state after `step`: plain values in `note`, the rest in `arrays`; the state before it goes."""
        blob = save(arrays)
        atomic_write(self.path / f"{step}.safetensors", blob)
        # The note names the arrays, so the two can never be of different steps.
        head = {"key": self.key, "step": step, "sha256": hashlib.sha256(blob).hexdigest()}
        atomic_write(self.path / "state.json", json.dumps(head | note).encode())
        for old in self.path.glob("*.safetensors"):
            if old.stem != str(step):
                old.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, Any], Arrays] | None:
        """Return the note (with ``step``) and the arrays that were saved last, or None if there are none.

        Raises
        ------
        ConfigError
            If they are damaged.
        """
        path = self.path / "state.json"
        if not path.exists():
            return None
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            if note.get("key") != self.key:
                return None
            blob = (self.path / f"{note['step']}.safetensors").read_bytes()
            whole = hashlib.sha256(blob).hexdigest() == note["sha256"]
        except (OSError, ValueError, KeyError, AttributeError):
            whole = False
        if not whole:
            raise ConfigError(
                f"interrupted training in {self.path}: expected what was saved, was damaged: "
                "start anew with --fresh"
            )
        return note, load(blob)

    def remove(self) -> None:
        """Forget the state."""
        shutil.rmtree(self.path, ignore_errors=True)
