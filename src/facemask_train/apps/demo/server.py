"""Serves the demo's page: finds the model, loads it once, binds a port, and leaves nothing behind when it ends."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.apps.demo import page as demo_page
from facemask_train.apps.demo import uploads
from facemask_train.apps.demo.answers import Served
from facemask_train.apps.model_facts import known, statement
from facemask_train.apps.resolve_model import find_threshold, resolve_model
from facemask_train.core.errors import MissingError, UsageError
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import load_detector
from facemask_train.report import html

HOST, PORT = "127.0.0.1", 7860
_LOCAL = ("127.0.0.1", "localhost", "::1")
_TICK = 5.0
_SESSIONS = 100
_WAITING = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the page is, and what it serves."""

    url: str
    host: str
    port: int
    model: str
    weights: Path
    start: Threshold
    imgsz: int
    everyone: bool


def serve(
    root: Path,
    *,
    run: str | None = None,
    weights: Path | None = None,
    imgsz: int | None = None,
    confidence: float | None = None,
    device: str = "",
    host: str = HOST,
    port: int = PORT,
    limits: uploads.Limits | None = None,
    told: Callable[[Site], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> None:
    """Serve the page of a run's best weights (or of any weights), until Ctrl-C, SIGTERM, or `stop`.

    Args:
        confidence: the threshold that the page starts with; what the run's evaluation chose where left out.
        port: 0 for any free one.
        told: called once, when the page answers.

    Raises:
        MissingError: no such model, or Gradio is not installed.
        UsageError: the host or the port cannot be bound.
        DataError: the checkpoint cannot be used.
    """
    port = free_port(host, port)
    asked = resolve_model(root, run, weights)
    _need_gradio()
    detector = load_detector(asked.weights, imgsz=asked.imgsz(imgsz), device=device)
    start = find_threshold(asked, detector, confidence)
    served = Served(detector, statement(asked.run, known(asked.run), name=asked.name), start)
    site = Site(
        f"http://{_in_url(host)}:{port}/", host, port, asked.name, asked.weights, start, detector.imgsz,
        host not in _LOCAL,
    )  # fmt: skip
    serve_page(served, host, port, limits or uploads.Limits(), told=lambda: _tell(site, told), stop=stop)


def _tell(site: Site, told: Callable[[Site], None]) -> None:
    if site.everyone:
        _log.warning(
            "%s is open to every machine that reaches this one: anyone there can use the page, and what they send "
            "crosses the network unencrypted", site.url,
        )  # fmt: skip
    told(site)


def serve_page(
    served: Served,
    host: str,
    port: int,
    limits: uploads.Limits,
    *,
    told: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> None:
    """Serve the page of a model that is loaded, until Ctrl-C, SIGTERM, or `stop`; `told` is called when it answers."""
    stop = stop or threading.Event()
    with _own_folder() as folder, _ended_by_signals(stop):
        page = demo_page.build(served, limits, folder)
        _launch(page, host, port, limits)
        told()
        try:
            while not stop.wait(_TICK):
                uploads.sweep(folder, demo_page.WAITING)
                demo_page.forget(page)
        finally:
            page.close(verbose=False)


def _need_gradio() -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import too
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingError(
            "the demo's page is made with Gradio, which is not installed",
            next_step="pip install 'facemask-train[demo]'",
        ) from error


def _launch(page: Any, host: str, port: int, limits: uploads.Limits) -> None:
    """Start the server in threads of its own, without anything that asks the network or shares the page."""
    import gradio as gr
    from starlette.middleware import Middleware

    system = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    page.queue(max_size=_WAITING, default_concurrency_limit=1, api_open=False).launch(
        server_name=host,
        server_port=port,
        share=False,
        inbrowser=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        max_file_size=f"{limits.megabytes}mb",
        state_session_capacity=_SESSIONS,
        app_kwargs={"middleware": [Middleware(_OwnNames)]},
        theme=gr.themes.Default(primary_hue="blue", font=system, font_mono=("ui-monospace", "monospace")),
        css_paths=[Path(html.__file__).parent / "templates" / "demo.css"],
    )


class _OwnNames:
    """Gives each upload a name of its own, so that whoever has sent the same image does not lose it with ours.

    Gradio files an upload under its content's hash and its name. An ASGI middleware.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/upload"):
            await self.app(scope, receive, send)
            return
        first = True

        async def named() -> Any:
            nonlocal first
            message = await receive()
            if first and message["type"] == "http.request":
                first = False
                message = {**message, "body": own_name(message["body"], secrets.token_hex(8))}
            return message

        await self.app(scope, named, send)


def own_name(body: bytes, token: str) -> bytes:
    """Return a form's body whose first file is called by this token first."""
    return body.replace(b'filename="', f'filename="{token}-'.encode(), 1)


def free_port(host: str, port: int) -> int:
    """Return this port of the host, or any free one for 0.

    Raises:
        UsageError: it is taken (the next free one is named), not allowed, or no address of this machine.
    """
    try:
        return _bound(host, port)
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        if not taken:
            raise UsageError(
                f"--host {host}: no address of this machine ({error.strerror or error})",
                next_step="fmask demo --host 127.0.0.1",
            ) from error
        why = "another program listens there" if error.errno == errno.EADDRINUSE else "this user may not bind it"
        raise UsageError(f"{host}:{port}: {why}", next_step=f"fmask demo --port {_next_free(host, port)}") from error


def _next_free(host: str, port: int) -> int:
    for number in range(max(port + 1, 1024), min(port + 200, 65536)):
        try:
            return _bound(host, number)
        except OSError:
            continue
    return _bound(host, 0)


def _bound(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with closing(socket.socket(family, kind, protocol)) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
        tried.bind(address)
        return int(tried.getsockname()[1])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Give Gradio a folder of this process alone for uploads, and remove it with all that is in it."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    folder = Path(tempfile.mkdtemp(prefix="fmask-demo-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        yield folder
    finally:
        uploads.clear(folder)
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


@contextmanager
def _ended_by_signals(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the page instead of cutting it off; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda *_: stop.set()) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
