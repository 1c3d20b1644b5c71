"""Checks of each request before Gradio sees it: the Host, the Origin, and the size of uploads. ASGI middleware.

The page is meant for this machine, or for those that `--host` lets in. A web page elsewhere must not be able to read it
or to send it files:

- By DNS rebinding, a foreign page makes its own name resolve to this machine. Its requests have that name as Host, so
  only known names and literal addresses are accepted.
- A foreign page can post a form to any address. Its requests have its own Origin, which has to be the page's.

Does not import Gradio.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]  # as ASGI defines it
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))


# ---- hosts and origins ----


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The host names that the page is served under, in addition to literal addresses and `localhost`.

    Args:
        names: the bound host, those of `--allow-host`, and the host of a Space.
    """

    names: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str]) -> AllowedHosts:
        return cls(frozenset(name.strip().lower().rstrip(".") for name in names if name.strip()))

    def accept_host(self, host: str) -> bool:
        """Return whether a Host header is that of this page."""
        name = hostname(host)
        return name is not None and (name == "localhost" or name in self.names or _is_address(name))

    def accept_origin(self, origin: str, host: str) -> bool:
        """Return whether an Origin header is this page's own: that of the Host, or of an allowed name."""
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc:  # also `null`, of sandboxed pages and files
            return False
        return parts.netloc.lower() == host.lower() or hostname(parts.netloc) in self.names


def hostname(host: str) -> str | None:
    """Return the name or address in a Host header, without its port; None if it is not one."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - a port that is not a number is an error
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class CheckHost:
    """Answers 403 to requests for another host, and to those from another page."""

    app: App
    allowed: AllowedHosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        hosts, origins = _headers(scope, b"host"), _headers(scope, b"origin")
        if len(hosts) != 1 or not self.allowed.accept_host(hosts[0]):
            await refuse(scope, receive, send, 403, "This host is not allowed. Start the demo with --allow-host NAME.")
        elif any(not self.allowed.accept_origin(origin, hosts[0]) for origin in origins):
            await refuse(scope, receive, send, 403, "Requests from other pages are not allowed.")
        else:
            await self.app(scope, receive, send)


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    """Answer a request with an error, or reject a WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the rest of a large body is not read
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# ---- uploads ----


@dataclass(slots=True)
class LimitUploads:
    """Bounds the total size of the uploads that wait, and gives each a unique name.

    Gradio stores an upload under the hash of its content and its name. With a unique name, an upload is not removed
    together with an equal one of another visitor.

    Attributes:
        folder: where Gradio stores uploads.
        max_bytes: of all uploads in the folder and on their way to it.
    """

    app: App
    folder: Path
    max_bytes: int
    _arriving: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/upload"):
            await self.app(scope, receive, send)
            return
        length = _content_length(scope)
        if length is None:
            await refuse(scope, receive, send, 411, "An upload needs a Content-Length.")
            return
        if stored_bytes(self.folder) + self._arriving + length > self.max_bytes:
            await refuse(scope, receive, send, 503, "Too many uploads are waiting. Try again in a few minutes.")
            return
        self._arriving += length
        try:
            await self.app(scope, _renaming(receive), send)
        finally:
            self._arriving -= length


def _content_length(scope: Scope) -> int | None:
    values = _headers(scope, b"content-length")
    return int(values[0]) if len(values) == 1 and values[0].isascii() and values[0].isdigit() else None


def stored_bytes(folder: Path) -> int:
    """Return the total size of the files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:  # removed in the meantime
            continue
    return total


def _renaming(receive: Receive) -> Receive:
    """Return a `receive` that changes the file name in the first part of a form's body."""
    first = True

    async def renamed() -> Message:
        nonlocal first
        message = await receive()
        if first and message["type"] == "http.request":
            first = False
            message = {**message, "body": prefix_file_name(message["body"], secrets.token_hex(8))}
        return message

    return renamed


def prefix_file_name(body: bytes, token: str) -> bytes:
    """Return a form's body in which the name of the first file begins with a token."""
    return body.replace(b'filename="', f'filename="{token}-'.encode(), 1)
