"""Serve the demo's page: find and load the model, bind a port, and remove all uploads at the end."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.apps.demo import page as demo_page
from facemask_train.apps.demo import uploads
from facemask_train.apps.demo.handlers import ServedModel
from facemask_train.apps.demo.middleware import LOCAL_HOSTS, AllowedHosts, CheckHost, LimitUploads
from facemask_train.apps.model_facts import find_measurements, model_facts
from facemask_train.apps.resolve_model import find_threshold, resolve_model
from facemask_train.core.errors import MissingError, UsageError
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import load_detector
from facemask_train.report import html

HOST, PORT = "127.0.0.1", 7860
_SWEEP_SECONDS = 5.0
_MAX_SESSIONS = 100
_QUEUE = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the page is served, and with which model. `public`: other machines can reach it."""

    url: str
    host: str
    port: int
    model: str
    weights: Path
    threshold: Threshold
    imgsz: int
    public: bool


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
    allow_hosts: Iterable[str] = (),
    limits: uploads.Limits | None = None,
    on_start: Callable[[Site], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> None:
    """Serve the page with a run's best weights, or any weights, until Ctrl-C, SIGTERM or `stop`.

    Args:
        confidence: the threshold that the page starts with; the one that the run's evaluation chose if it is None.
        port: 0 for any free one.
        allow_hosts: names under which the page may be opened, besides `localhost`, addresses and `host`.
        on_start: called once the page can be opened.

    Raises:
        MissingError: no such model, or Gradio is not installed.
        UsageError: the host or the port cannot be bound.
        DataError: the checkpoint cannot be used.
    """
    port = free_port(host, port)
    model = resolve_model(root, run, weights)
    _require_gradio()
    detector = load_detector(model.weights, imgsz=model.imgsz(imgsz), device=device)
    point = find_threshold(model, detector, confidence)
    served = ServedModel(detector, model_facts(model.run, find_measurements(model.run), name=model.name), point)
    site = Site(
        url=f"http://{_in_url(host)}:{port}/",
        host=host,
        port=port,
        model=model.name,
        weights=model.weights,
        threshold=point,
        imgsz=detector.imgsz,
        public=host not in LOCAL_HOSTS,
    )

    def started() -> None:
        if site.public:
            _log.warning(
                "%s can be opened from every machine that reaches this one, and uploads cross the network unencrypted",
                site.url,
            )
        on_start(site)

    hosts = AllowedHosts.of((host, *allow_hosts))
    serve_page(served, host, port, limits or uploads.Limits(), hosts=hosts, on_start=started, stop=stop)


def serve_page(
    served: ServedModel,
    host: str,
    port: int,
    limits: uploads.Limits,
    *,
    hosts: AllowedHosts,
    on_start: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> None:
    """Serve the page with a loaded model until Ctrl-C, SIGTERM or `stop`. Once it can be opened, call `on_start`."""
    stop = stop or threading.Event()
    with _upload_folder() as folder, _stop_on_signals(stop):
        page = demo_page.build(served, limits, folder)
        _launch(page, host, port, limits, _middleware(hosts, folder, limits))
        on_start()
        try:
            while not stop.wait(_SWEEP_SECONDS):
                uploads.sweep(folder, demo_page.WAITING)
                demo_page.drop_sessions(page)
        finally:
            page.close(verbose=False)


def _require_gradio() -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio also reads it when it is imported
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingError(
            "the demo needs Gradio, which is not installed",
            next_step="pip install 'facemask-train[demo]'",
        ) from error


def _middleware(hosts: AllowedHosts, folder: Path, limits: uploads.Limits) -> list[Any]:
    """Return the checks of each request, the first one first."""
    from starlette.middleware import Middleware

    return [
        Middleware(CheckHost, allowed=hosts),
        Middleware(LimitUploads, folder=folder, max_bytes=limits.waiting_megabytes * 1_000_000),
    ]


def _launch(page: Any, host: str, port: int, limits: uploads.Limits, middleware: list[Any]) -> None:
    """Start the server in its own threads, without telemetry and without sharing the page."""
    import gradio as gr

    system = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    page.queue(max_size=_QUEUE, default_concurrency_limit=1, api_open=False).launch(
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
        state_session_capacity=_MAX_SESSIONS,
        app_kwargs={"middleware": middleware},
        theme=gr.themes.Default(primary_hue="blue", font=system, font_mono=("ui-monospace", "monospace")),
        css_paths=[Path(html.__file__).parent / "templates" / "demo.css"],
    )


def free_port(host: str, port: int) -> int:
    """Return this port if it can be bound, or any free one for 0.

    Raises:
        UsageError: it is in use or not allowed, or the host is not an address of this machine.
    """
    try:
        return _bound(host, port)
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        if not taken:
            raise UsageError(
                f"--host {host}: not an address of this machine ({error.strerror or error})",
                next_step="fmask demo --host 127.0.0.1",
            ) from error
        why = "already in use" if error.errno == errno.EADDRINUSE else "not allowed for this user"
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
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just released counts as free
        tried.bind(address)
        return int(tried.getsockname()[1])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def _upload_folder() -> Iterator[Path]:
    """Let Gradio store uploads in a folder of this process, and remove it with its content at the end."""
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
def _stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set `stop`; signal handlers can only be set in the main thread."""
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
