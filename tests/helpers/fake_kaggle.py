"""A fake Kaggle on 127.0.0.1 for the real `kaggle` package: sign-in, dataset metadata, and the archive."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

LAST_MODIFIED = "Fri, 22 May 2020 01:11:47 GMT"


def point(port: int) -> None:
    """Redirect the package to a port of this machine. Its address is in a table, and no setting changes it."""
    from kagglesdk import kaggle_env

    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = f"http://127.0.0.1:{port}"


@dataclass
class FakeKaggle:
    """Serves `content` as `owner/name`. Tests choose how it fails, and read the requests that it received.

    `cuts` are the numbers of bytes after which the connections of successive downloads break. `status` is the HTTP
    status for a method (`GetDataset`, `DownloadDataset`, `IntrospectToken`, or `GET` for the archive). `silent` are
    the methods that are never answered. `received` lists (method, body or Range header).
    """

    content: bytes
    handle: str = "owner/name"
    version: int = 3
    license: str = "CC0: Public Domain"
    cuts: list[int] = field(default_factory=list)
    status: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    received: list[tuple[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kaggle": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        point(self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def of(self, method: str) -> list[Any]:
        """Return the requests of one method."""
        return [content for kind, content in self.received if kind == method]

    def hang(self) -> None:
        self._over.wait()


class _Handler(BaseHTTPRequestHandler):
    kaggle: FakeKaggle
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        method = self.path.rpartition("/")[2]
        key = self.headers.get("Authorization", "")
        self.kaggle.received.append((method, body))
        self.kaggle.keys.append(key)
        if self._fails(method):
            return
        if method == "IntrospectToken":
            self._answer_json(200, {"active": True, "username": "somebody"})
        elif not key:
            self._answer_json(401, {"code": 401, "message": "Unauthenticated"})
        elif f"{body.get('ownerSlug')}/{body.get('datasetSlug')}" != self.kaggle.handle:
            self._answer_json(404, {"code": 404, "message": "Not found"})
        elif method == "GetDataset":
            self._answer_json(
                200, {"licenseName": self.kaggle.license, "currentVersionNumber": self.kaggle.version, "totalBytes": 1}
            )
        else:
            self._answer(302, b"", {"Location": f"http://127.0.0.1:{self.server.server_address[1]}/archive?sig=x"})

    def do_GET(self) -> None:
        content, wanted = self.kaggle.content, self.headers.get("Range")
        self.kaggle.received.append(("GET", wanted))
        if self._fails("GET"):
            return
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.headers.get("If-Range") == tag else 0
        headers = {"ETag": tag, "Accept-Ranges": "bytes", "Last-Modified": LAST_MODIFIED}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        # The package opens a full download before it requests the rest: only the one that it reads is cut.
        cut = self.kaggle.cuts.pop(0) if self.kaggle.cuts else None
        self._answer(206 if start else 200, content[start:], headers, cut=cut)

    def _fails(self, method: str) -> bool:
        if method in self.kaggle.silent:
            self.kaggle.hang()
            self.close_connection = True
            return True
        if method in self.kaggle.status:
            status = self.kaggle.status[method]
            self._answer_json(status, {"code": status, "message": f"fake {status}"})
            return True
        return False

    def _answer_json(self, status: int, data: Any) -> None:
        self._answer(status, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body[:cut])
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # the client had enough
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_WR)
            while self.connection.recv(65536):  # until the client closes: what was sent before the cut has arrived
                pass
