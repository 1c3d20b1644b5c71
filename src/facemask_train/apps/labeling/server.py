"""Serves a page of questions on this machine only, and saves each answer at once.

The requests of other pages are refused as in the demo: by their Host (DNS rebinding) and their Origin (foreign forms).
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from facemask_train.apps.demo.middleware import AllowedHosts
from facemask_train.core.errors import FmaskError
from facemask_train.report import labeling
from facemask_train.report.labeling import Question

HOST = "127.0.0.1"
_HOSTS = AllowedHosts.of(())
_MAX_BODY = 1000  # bytes of an answer
_SECONDS = 30  # a connection that sends nothing for so long is closed
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Questionnaire:
    """What is asked.

    Attributes:
        image: returns the JPEG of a question, by number.
        answers: the choices that were made earlier, by number of the question.
        save: stores one answer: the number and the key of the choice; an empty key takes the answer back.
    """

    title: str
    lede: str
    questions: Sequence[Question]
    image: Callable[[int], bytes]
    answers: Mapping[int, str]
    save: Callable[[int, str], None]


def serve(
    asked: Questionnaire,
    *,
    port: int = 0,
    on_start: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> dict[int, str]:
    """Serve the page until Ctrl-C or `stop`, and return the answers by number of the question.

    Args:
        port: 0 for any free one.
        on_start: called with the address once the page can be opened.
    """
    with _Server(port, asked) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        on_start(f"http://{HOST}:{server.server_port}/")
        try:
            (stop or threading.Event()).wait()
        except KeyboardInterrupt:
            _log.info("stopped; every answer is saved")
        finally:
            server.shutdown()
        return server.answers


class _Server(ThreadingHTTPServer):
    """The server with what its handlers share."""

    daemon_threads = True

    def __init__(self, port: int, asked: Questionnaire) -> None:
        super().__init__((HOST, port), _Handler)
        self.asked, self.answers, self.lock = asked, dict(asked.answers), threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server
    timeout = _SECONDS
    server_version, sys_version = "fmask", ""

    def do_GET(self) -> None:  # the name that http.server expects
        number = self.path.removeprefix("/image/")
        if not self._allowed():
            return
        if self.path == "/":
            nonce = secrets.token_urlsafe(16)
            page = labeling.page(
                self.server.asked.title,
                self.server.asked.lede,
                self.server.asked.questions,
                self.server.answers,
                nonce=nonce,
            )
            self._reply(200, page, "text/html; charset=utf-8")
        elif _is_number(number) and int(number) < len(self.server.asked.questions):
            self._reply(200, self.server.asked.image(int(number)), "image/jpeg")
        else:
            self._reply(404, b"no such page")

    def do_POST(self) -> None:  # the name that http.server expects
        if not self._allowed():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/answer" or self.headers.get_content_type() != "application/json":
            self._reply(404, b"expected JSON at /answer")
        elif not _is_number(length) or int(length) > _MAX_BODY:
            self._reply(413, b"expected a short answer")
        else:
            self._save(self.rfile.read(int(length)))

    def _save(self, body: bytes) -> None:
        try:
            number, key = _answer(body, self.server.asked.questions)
            with self.server.lock:
                self.server.asked.save(number, key)
                self.server.answers[number] = key
        except ValueError as error:
            self._reply(400, str(error).encode())
        except (FmaskError, OSError) as error:
            _log.error("answer %s is not saved: %s", number, error)
            self._reply(500, str(error).encode())
        else:
            self._reply(204, b"")

    def _allowed(self) -> bool:
        """Refuse requests under another host, and those from another page."""
        found, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        allowed = len(found) == 1 and _HOSTS.accept_host(found[0])
        if not allowed or not all(_HOSTS.accept_origin(one, found[0]) for one in origins):
            self._reply(403, b"Requests from other hosts and pages are not allowed.")
            return False
        return True

    def _reply(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        headers |= {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        _log.debug(format, *args)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _answer(body: bytes, questions: Sequence[Question]) -> tuple[int, str]:
    """Return the number of a question and the key of a choice, or an empty key.

    Raises:
        ValueError: the body is something else.
    """
    found = json.loads(body)
    number, key = (found.get("question"), found.get("choice")) if isinstance(found, dict) else (None, None)
    if type(number) is not int or not 0 <= number < len(questions):
        raise ValueError("expected the number of a question")
    if key != "" and key not in [one.key for one in questions[number].choices]:
        raise ValueError("expected the key of a choice")
    return number, key
