"""The other side of `mmsim.bench.peer_hftbacktest`: finds its interpreter, keeps it running, asks it."""

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

from mmsim.bench.worker import run, timed
from mmsim.errors import BenchError, ConfigError
from mmsim.paths import package_root

SCRIPT = Path(__file__).with_name("peer_hftbacktest.py")
ENV = "MMSIM_PEER_PYTHON"
HOW = (
    "make bench makes one in .venv-bench; by hand: python -m venv .venv-bench && "
    ".venv-bench/bin/pip install hftbacktest==2.4.4"
)


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

    def once(self, arguments: list[str]) -> dict[str, Any]:
        """Run its script in another process, to the end, and return the answer."""
        return run([str(self.python), str(SCRIPT), *arguments], self._env)

    def timed_start(self, arguments: list[str]) -> tuple[float, float, dict[str, Any]]:
        """Return the wall and CPU seconds of `once`, and its answer."""
        return timed([str(self.python), str(SCRIPT), *arguments], self._env)

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
