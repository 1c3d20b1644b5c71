"""Which requests the demo accepts: for its own hosts, from its own page, and with uploads within the limits."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facemask_train.apps.demo import server, uploads
from facemask_train.apps.demo.handlers import ServedModel
from facemask_train.apps.demo.middleware import AllowedHosts, CheckHost, LimitUploads, hostname, stored_bytes
from facemask_train.apps.model_facts import ModelFacts
from facemask_train.eval.thresholds import Threshold

HOSTS = AllowedHosts.of(["Masks.Example.org", ""])


class App:
    """Answers every request with 200, and keeps the body that it was sent."""

    def __init__(self) -> None:
        self.body = b""
        self.requests = 0
        self.folder: Path | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        self.body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})


def request(app: Any, *, kind: str = "http", path: str = "/", body: bytes = b"", **headers: str) -> dict[str, Any]:
    """Send one request, and return the first message of the answer."""
    sent: list[dict[str, Any]] = []
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": kind, "path": path, "headers": raw}, receive, send))
    return sent[0]


# ---- hosts ----


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:7860", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860", "192.168.0.7", "10.1.2.3:80",
        "masks.example.org", "masks.example.org:443", "masks.example.org.",
    ],
)  # fmt: skip
def test_own_names_and_addresses_are_answered(host: str) -> None:
    assert request(CheckHost(App(), HOSTS), host=host)["status"] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example",
        "masks.example.org.evil", "masks.example.org@evil.example", "evil.example/localhost", "",
        "127.0.0.1:x", "2130706433", "0x7f.1", "[::1",
    ],
)  # fmt: skip
def test_other_names_are_refused(host: str) -> None:
    app = App()
    assert request(CheckHost(app, HOSTS), host=host)["status"] == 403
    assert app.requests == 0


def test_a_request_with_no_or_two_hosts_is_refused() -> None:
    assert request(CheckHost(App(), HOSTS))["status"] == 403
    two = [(b"host", b"localhost"), (b"host", b"evil.example")]
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(CheckHost(App(), HOSTS)({"type": "http", "path": "/", "headers": two}, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 403


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a.b:1", "a.b"),
        ("[::1]:5", "::1"),
        ("A.b.", "a.b"),
        ("a b@c", None),
        ("a:b", None),
        ("a:99999", None),
        ("", None),
    ],
)
def test_the_name_in_a_host_header(host: str, name: str | None) -> None:
    assert hostname(host) == name


# ---- origins ----


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:7860", 200),
        ("https://masks.example.org", 200),  # behind a proxy that sets another Host
        ("http://evil.example", 403),
        ("http://127.0.0.1:8000", 403),  # another page of this machine
        ("http://127.0.0.1", 403),
        ("https://192.168.0.9:7860", 403),
        ("null", 403),
        ("file://", 403),
        ("", 403),
        ("ftp://127.0.0.1:7860", 403),
    ],
)
def test_only_the_pages_own_origin_is_answered(origin: str, status: int) -> None:
    app = App()
    answer = request(CheckHost(app, HOSTS), path="/gradio_api/upload", host="127.0.0.1:7860", origin=origin)
    assert answer["status"] == status
    assert app.requests == (status == 200)


def test_websockets_are_checked_too() -> None:
    check = CheckHost(App(), HOSTS)
    assert request(check, kind="websocket", host="localhost")["type"] == "websocket.accept"
    assert request(check, kind="websocket", host="evil.example")["type"] == "websocket.close"
    assert request(check, kind="websocket", host="localhost", origin="http://evil.example")["type"] == "websocket.close"


# ---- uploads ----


def test_uploads_that_fit_are_renamed_and_passed_on(tmp_path: Path) -> None:
    app = App()
    body = b'x; filename="a.png"\r\n\r\npixels'
    answer = request(LimitUploads(app, tmp_path, 100), path="/upload", body=body, content_length=str(len(body)))
    assert answer["status"] == 200
    assert app.body.endswith(b'-a.png"\r\n\r\npixels')
    assert len(app.body) > len(body)


def test_other_requests_are_not_changed(tmp_path: Path) -> None:
    app = App()
    assert request(LimitUploads(app, tmp_path, 0), path="/config", body=b'filename="a"')["status"] == 200
    assert app.body == b'filename="a"'


@pytest.mark.parametrize("length", [None, "", "-1", "1e3", "ten"])
def test_an_upload_of_unknown_length_is_refused(length: str | None, tmp_path: Path) -> None:
    headers = {} if length is None else {"content_length": length}
    assert request(LimitUploads(App(), tmp_path, 100), path="/upload", **headers)["status"] == 411


def test_waiting_and_arriving_uploads_count(tmp_path: Path) -> None:
    (tmp_path / "0f3a").mkdir()
    (tmp_path / "0f3a" / "a.png").write_bytes(bytes(60))
    assert stored_bytes(tmp_path) == 60
    limited = LimitUploads(App(), tmp_path, 100)
    assert request(limited, path="/upload", content_length="40")["status"] == 200
    assert request(limited, path="/upload", content_length="41")["status"] == 503
    (tmp_path / "0f3a" / "a.png").unlink()
    inner: list[int] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if not inner:  # while the first upload of 70 bytes arrives, one of 31 does not fit
            inner.append(0)
            answered: list[dict[str, Any]] = []

            async def keep(message: dict[str, Any]) -> None:
                answered.append(message)

            await busy({**scope, "headers": [(b"content-length", b"31")]}, receive, keep)
            inner[0] = answered[0]["status"]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    busy = LimitUploads(slow, tmp_path, 100)
    assert request(busy, path="/upload", content_length="70")["status"] == 200
    assert inner == [503]
    assert request(busy, path="/upload", content_length="100")["status"] == 200  # nothing arrives any more


# ---- the page as it is served ----


class Detector:
    """Finds nothing."""

    imgsz = 32

    def predict(self, images: Any, *, confidence: float) -> Any:
        return iter([() for _ in images])


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A served page that accepts one upload of 1 kB at a time, on an address of this machine."""
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    started, stop = threading.Event(), threading.Event()
    served = ServedModel(Detector(), ModelFacts("model", "It errs.", (), ()), Threshold(0.5, "val"))
    thread = threading.Thread(
        target=server.serve_page,
        args=(served, "127.0.0.1", number, uploads.Limits(megabytes=1, waiting_megabytes=0)),
        kwargs={"hosts": AllowedHosts.of(["127.0.0.1"]), "on_start": started.set, "stop": stop},
    )
    thread.start()
    try:
        assert started.wait(240), "the page did not start"
        yield number
    finally:
        stop.set()
        thread.join()


def ask(port: int, method: str = "GET", path: str = "/", body: bytes = b"", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest(method, path, skip_host="host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body or None)
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_served_page_checks_hosts_origins_and_uploads(port: int) -> None:
    assert ask(port) == ask(port, host=f"localhost:{port}") == 200
    assert ask(port, host="evil.example") == ask(port, path="/config", host=f"evil.example:{port}") == 403
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n--x--\r\n'
    send = {"method": "POST", "path": "/gradio_api/upload", "content_type": "multipart/form-data; boundary=x"}
    assert ask(port, body=form, origin="http://evil.example", **send) == 403  # type: ignore[arg-type]
    assert ask(port, body=form, origin=f"http://127.0.0.1:{port}", **send) == 503  # type: ignore[arg-type]
