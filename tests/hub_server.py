"""A stand-in for the Hugging Face Hub: models and data sets, with faults on demand."""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" + "0" * 34
_ERRORS = {
    "gated": (403, "GatedRepo"),
    "missing": (401, "RepoNotFound"),
    "busy": (503, ""),
    "limited": (429, ""),
}


@dataclass
class Hub:
    """What is served, what goes wrong, and what was asked. Set the fields at any time."""

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Content of each file of each repository."""
    faults: dict[str, str] = field(default_factory=dict)
    """Repository -> gated (its files), damaged (other bytes than announced), busy or limited."""
    num_faults: int = -1
    """Answers that go wrong before all is well; -1 is all of them."""
    cut_after: int | None = None
    """The next body of a large file ends after so many bytes, with its connection; then None."""
    stall_after: int | None = None
    """Large bodies stop after so many bytes and wait for `go_on`."""
    ranges: bool = True
    """Whether parts of files can be asked for."""
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    """`GET /path` and `HEAD /path`, with ` bytes=...` where a range was asked for."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of bodies by file."""

    def add(self, repo: str, folder: Path, extra: Mapping[str, bytes] | None = None) -> None:
        """Serve a folder's files, and more."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self.repos[repo] = {**files, **(extra or {})}

    def forget(self) -> None:
        """Count anew."""
        self.requests.clear()
        self.sent.clear()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port of this machine."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        asked = f" {self.headers['Range']}" if self.headers["Range"] else ""
        self.hub.requests.append(f"{self.command} {path}{asked}")
        api = re.fullmatch(
            r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path
        )
        file = re.fullmatch(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = api or file
        if found is None:
            return self._refuse(404, "")
        repo, revision = found[1], (api[3] or "main") if api else found[2]
        fault = self._fault(repo)
        if fault in _ERRORS and (fault != "gated" or file):
            return self._refuse(*_ERRORS[fault])
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        files = self.hub.repos[repo]
        if api and api[2] == "tree":
            return self._send(json.dumps([_entry(*pair) for pair in files.items()]).encode())
        if api:
            facts = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]}
            return self._send(json.dumps(facts).encode())
        if found[3] not in files:
            return self._refuse(404, "EntryNotFound")
        return self._send_file(found[3], files[found[3]], damaged=fault == "damaged")

    def _fault(self, repo: str) -> str | None:
        if repo not in self.hub.repos:
            return "missing"
        if self.hub.num_faults == 0 or repo not in self.hub.faults:
            return None
        self.hub.num_faults -= 1
        return self.hub.faults[repo]

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"", status, {"X-Error-Code": code} if code else {})

    def _send_file(self, name: str, content: bytes, *, damaged: bool) -> None:
        entry = _entry(name, content)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{entry["oid"]}"', "Accept-Ranges": "bytes"}
        if lfs := entry.get("lfs"):
            headers |= {"X-Linked-Etag": f'"{lfs["oid"]}"', "X-Linked-Size": str(lfs["size"])}
            if damaged:
                content = bytes(len(content))
        begin = 0
        if self.hub.ranges and (
            asked := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        ):
            begin = int(asked[1])
            last = len(content) - 1
            headers["Content-Range"] = f"bytes {begin}-{last}/{last + 1}"
        self._send(content[begin:], 206 if begin else 200, headers, name if lfs else "")

    def _send(
        self,
        body: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        large: str = "",
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if large:
            self._send_large(large, body)
        else:
            self.wfile.write(body)

    def _send_large(self, name: str, body: bytes) -> None:
        hub = self.hub
        cut, hub.cut_after = hub.cut_after, None
        part = body[: cut if cut is not None else hub.stall_after]
        self.wfile.write(part)
        hub.sent[name] = hub.sent.get(name, 0) + len(part)
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif len(part) < len(body):
            hub.stalled.set()
            hub.go_on.wait()
            self.wfile.write(body[len(part) :])
            hub.sent[name] += len(body) - len(part)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry = {"type": "file", "path": name, "size": len(content), "oid": blob}
    if name.endswith(".safetensors"):
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
    return entry
