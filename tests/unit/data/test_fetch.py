"""Downloads from a loopback server that serves, lies, hangs up, or has nothing."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mmsim.data.fetch import fetch
from mmsim.data.manifest import Manifest, manifest, parse_manifest
from mmsim.errors import ConfigError, DataError

CONTENT = bytes(range(256)) * 400
CSV = b"a,b\n1,2\n" * 500


class Handler(http.server.BaseHTTPRequestHandler):
    """/good, /csv, /cut (half of what Content-Length says), anything else 404."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Handler.asked.append(self.path)
        body = {"/good": CONTENT, "/cut": CONTENT, "/csv": CSV}.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *args: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Handler.asked = []


def spec(*files: dict[str, Any], **changes: Any) -> Manifest:
    return parse_manifest(
        {
            "name": "x",
            "title": "x",
            "kind": "public",
            "format": "ctp",
            "files": list(files),
            "instrument": {"name": "x", "tick_size": "1"},
            "replay": {"level": "snapshot", "decision_ns": 0, "episode_s": 60},
            "splits": {"fractions": [1, 0, 0]},
            **changes,
        },
        "x",
    )


def file(url: str, content: bytes = CONTENT, path: str = "sub/dir/a.bin", **more: Any) -> dict[str, Any]:
    return {
        "path": path,
        "url": url,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    } | more


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.exists() else []


def test_downloads_once_and_reports_progress(server: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    seen: list[float] = []
    x = spec(file(f"{server}/good"))
    [(path, new)] = fetch(x, home, lambda stage, done: seen.append(done))
    assert (path, new) == (home / "sub/dir/a.bin", True)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in everything(home)] == ["sub", "dir", "a.bin"]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert fetch(x, home) == [(path, False)]
    assert Handler.asked == ["/good"]
    path.write_bytes(b"damaged")
    assert fetch(x, home) == [(path, True)]
    assert path.read_bytes() == CONTENT


def test_a_plain_origin_is_kept_gzipped(server: str, tmp_path: Path) -> None:
    ours = gzip.compress(CSV, 1)
    x = spec(file(f"{server}/csv", ours, "a.csv.gz", content_sha256=hashlib.sha256(CSV).hexdigest()))
    [(path, _)] = fetch(x, tmp_path)
    assert gzip.decompress(path.read_bytes()) == CSV
    assert fetch(x, tmp_path) == [(path, False)]
    assert [p.name for p in everything(tmp_path)] == ["a.csv.gz"]


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("/none", CONTENT, "expected HTTP status 200, was 404"),
        ("/good", b"something else", "expected a file with sha256 .*, was another"),
        ("/cut", CONTENT, "the connection failed or was cut"),
    ],
)
def test_failures_name_the_url_and_leave_nothing(
    server: str, tmp_path: Path, path: str, content: bytes, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        fetch(spec(file(server + path, content)), tmp_path / "home")
    assert server + path in str(caught.value)
    assert "Try again" in str(caught.value)
    assert everything(tmp_path) == []


def test_no_server_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the connection failed"):
        fetch(spec(file("http://127.0.0.1:9/x")), tmp_path / "home")
    assert everything(tmp_path) == []


def test_a_failure_keeps_what_was_good_before(server: str, tmp_path: Path) -> None:
    good = file(f"{server}/good", path="d/a.bin")
    bad = file(f"{server}/none", CSV, path="d/b.bin")
    with pytest.raises(DataError, match="404"):
        fetch(spec(good, bad), tmp_path)
    assert [p.name for p in everything(tmp_path)] == ["d", "a.bin"]


def test_what_has_no_origin(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dataset rb has no public origin: mmsim data import rb"):
        fetch(manifest("rb"), tmp_path)
    simulated = spec(kind="simulated", format="", generator={"a": 1})
    with pytest.raises(ConfigError, match="generated on first use, nothing to fetch"):
        fetch(simulated, tmp_path)


@pytest.mark.parametrize("path", ["../x", "/{tmp}/x", "a/../../x"])
def test_nothing_is_written_outside_the_data_home(server: str, tmp_path: Path, path: str) -> None:
    path = path.replace("/{tmp}", str(tmp_path))
    file = {"path": path, "url": server + "/good", "sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": 1}
    with pytest.raises(ConfigError, match="expected a path inside the data home, was"):
        spec(file)
    # however the manifest came to be
    good = spec({**file, "path": "x"})
    evil = good.model_copy(update={"files": (good.files[0].model_copy(update={"path": path}),)})
    with pytest.raises(ConfigError, match=r"expected a path inside .*home, was"):
        fetch(evil, tmp_path / "home")
    assert [p.name for p in tmp_path.iterdir()] == []
    assert Handler.asked == []
