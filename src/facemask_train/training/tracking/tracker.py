"""The experiment tracker: Weights & Biases behind a small interface, or none. Does not import `wandb`.

W&B runs in a separate process (`wandb_process.py`), which reads from a queue. So a call takes microseconds, and
training continues in the same way if the server is gone, if a call fails and if a call never returns. `finish` reports
within a bounded time what was not sent.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import queue
import secrets
import shlex
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from facemask_train.core.errors import UsageError, nearest

INIT_SECONDS = 10.0
"""How long the W&B server may take to answer at the start before the run goes offline."""

FINISH_SECONDS = 45.0
"""The time limit at the end for the last rows, and again for the artifacts."""

PATIENCE_SECONDS = 125.0
"""How long `finish` waits for the W&B process, which observes the limits above unless it hangs."""

METRICS = ("precision", "recall", "mAP50", "mAP50-95")
"""The metrics of a validation that are logged, overall and for each class."""

Where = Literal["online", "offline", "none"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What the user sees at the end: where the run was logged, and what was not sent.

    `sync` is the command that uploads what is only on this disk, or empty. `unsent` describes what did not reach W&B,
    and why.
    """

    sent: Where = "none"
    url: str = ""
    sync: str = ""
    unsent: tuple[str, ...] = ()


class Tracker(Protocol):
    """Where the metrics and images of a run are logged. No method raises, and only `finish` waits."""

    run_id: str
    """The id with which the run can be continued later; empty if nothing is tracked."""

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Log one row of metrics. Values that are None or not finite are left out.

        Steps start at 1 and never decrease. A resumed run may log all its rows again: those that W&B has are dropped.
        """

    def summary(self, values: Mapping[str, object]) -> None:
        """Set values of the whole run."""

    def images(self, key: str, paths: Sequence[Path], *, step: int | None = None) -> None:
        """Log image files under one key, after the row of their step. The files are read later, not during the call."""

    def artifact(
        self,
        name: str,
        kind: str,
        files: Mapping[str, Path],
        *,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, object] | None = None,
        used: bool = False,
    ) -> None:
        """Log files as an artifact. The files are read later, not during the call.

        Args:
            files: by their names inside the artifact.
            used: whether the artifact is an input of the run; otherwise it is an output.
        """

    def finish(self, exit_code: int = 0) -> Report:
        """Finish the run, wait a bounded time for pending uploads, and report the outcome."""


def metric_values(
    overall: Mapping[str, float | None], per_class: Mapping[str, Mapping[str, float | None]]
) -> dict[str, float | None]:
    """Return metrics under the names that they have in W&B: `metrics/recall`, `class/mask/recall`, ...

    Args:
        overall: the metrics for all classes; the keys are `METRICS`.
        per_class: the same by class name.
    """
    values = {f"metrics/{metric}": overall.get(metric) for metric in METRICS}
    for name, row in per_class.items():
        values |= {f"class/{name}/{metric}": row.get(metric) for metric in METRICS}
    return values


def open_tracker(
    kind: str,
    folder: Path,
    *,
    project: str,
    name: str,
    config: Mapping[str, object],
    run_id: str = "",
    online: bool | None = None,
) -> Tracker:
    """Start to track a run, or continue the one with `run_id`. Returns immediately.

    Args:
        kind: `wandb`, or `none`.
        folder: the W&B files are written to `wandb/` in it.
        online: None leaves the decision to the W&B settings; without a key, the run is offline.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in ("wandb", "none"):
        raise UsageError(f"no tracker is named '{kind}'{nearest(kind, ('wandb', 'none'))}; known: wandb, none")
    if kind == "none":
        return _NullTracker()
    # A folder named `wandb` in the current folder is found too, but has no origin.
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:
        _log.warning("W&B is not installed, so nothing is tracked: pip install wandb, or choose --tracker none")
        return _NullTracker()
    opening = {
        "project": project,
        "name": name,
        "config": dict(config),
        "run_id": run_id or secrets.token_hex(4),
        "folder": str(folder.resolve()),
        "online": online,
        "init_seconds": INIT_SECONDS,
        "finish_seconds": FINISH_SECONDS,
        "patience_seconds": PATIENCE_SECONDS,
    }
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _Wandb(opening)
    except OSError as error:
        _log.warning("the process for W&B cannot be started, so nothing is tracked: %s", error)
        return _NullTracker()


def close_tracker(tracker: Tracker, exit_code: int = 0) -> Report:
    """Finish a run, and log what did not reach W&B and how to upload it."""
    report = tracker.finish(exit_code)
    for line in report.unsent:
        _log.warning("W&B: %s", line)
    if report.sync:
        _log.info("W&B: stored offline; to upload it: %s", report.sync)
    return report


class _NullTracker:
    """A tracker that does nothing."""

    run_id = ""

    def log(self, *_: Any) -> None: ...

    def summary(self, *_: Any) -> None: ...

    def images(self, *_: Any, **__: Any) -> None: ...

    def artifact(self, *_: Any, **__: Any) -> None: ...

    def finish(self, *_: Any, **__: Any) -> Report:
        return Report()


class _Wandb:
    """The connection to the W&B process: one thread writes to it, and one reads from it."""

    def __init__(self, opening: Mapping[str, Any]) -> None:
        self.run_id = str(opening["run_id"])
        self._state = _State()
        self._report: Report | None = None
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # -P: files in the current folder must not shadow packages. A new session: Ctrl-C must only reach training.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "facemask_train.training.tracking.wandb_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._send(opening)
        threading.Thread(target=_write, args=(self._requests, self._process.stdin), daemon=True).start()
        threading.Thread(target=self._state.listen, args=(self._process.stdout,), daemon=True).start()

    def _send(self, request: Mapping[str, Any]) -> None:
        self._requests.put(json.dumps(request, default=_plain) + "\n")

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        finite = {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
        self._state.last_step = max(self._state.last_step, step)
        self._send({"do": "log", "what": "a row", "step": step, "values": finite})

    def summary(self, values: Mapping[str, object]) -> None:
        self._send({"do": "summary", "what": "the summary", "values": dict(values)})

    def images(self, key: str, paths: Sequence[Path], *, step: int | None = None) -> None:
        absolute = [str(path.resolve()) for path in paths]
        self._send({"do": "images", "what": f"images '{key}'", "key": key, "paths": absolute, "step": step})

    def artifact(
        self,
        name: str,
        kind: str,
        files: Mapping[str, Path],
        *,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, object] | None = None,
        used: bool = False,
    ) -> None:
        self._send(
            {
                "do": "artifact",
                "what": f"artifact '{name}'",
                "name": name,
                "kind": kind,
                "files": {inside: str(path.resolve()) for inside, path in files.items()},
                "aliases": list(aliases),
                "metadata": dict(metadata or {}),
                "used": used,
            }
        )

    def finish(self, exit_code: int = 0) -> Report:
        if self._report is None:
            self._send({"do": "finish", "exit_code": exit_code})
            self._requests.put(None)
            ended = self._state.over.wait(PATIENCE_SECONDS)
            _stop(self._process, seconds=2 if ended else 0)
            self._report = self._state.report(hung=not ended)
        return self._report


class _State:
    """What the W&B process has reported so far."""

    def __init__(self) -> None:
        self.last_step = 0
        self.over = threading.Event()
        self._logged = 0
        self._ended = False
        self._sent: Where = "none"
        self._opened = False
        self._url = ""
        self._sync: list[str] = []
        self._unsent: Counter[str] = Counter()

    def listen(self, events: IO[str]) -> None:
        """Read the events of the process until it has ended."""
        for line in events:
            event = json.loads(line)
            getattr(self, f"_on_{event['event']}")(event)
            if self._ended:
                break
        self.over.set()

    def _on_open(self, event: Mapping[str, Any]) -> None:
        self._opened, self._sent, self._url, self._sync = True, event["sent"], event["url"], event["sync"]
        if event["why"]:
            _log.warning("W&B is offline for this run: %s", event["why"])
        elif self._sent != "none":
            _log.info("W&B logs this run %s%s", self._sent, f" at {self._url}" if self._url else "")

    def _on_logged(self, event: Mapping[str, Any]) -> None:
        self._logged = max(self._logged, event["step"])

    def _on_unsent(self, event: Mapping[str, Any]) -> None:
        unsent = f"{event['what']}: {event['why']}"
        if not self._unsent[unsent]:
            _log.warning("not sent to W&B: %s", unsent)
        self._unsent[unsent] += 1

    def _on_end(self, event: Mapping[str, Any]) -> None:
        self._ended, self._sync = True, event["sync"]

    def report(self, *, hung: bool) -> Report:
        unsent = [text if count == 1 else f"{text} ({count} times)" for text, count in self._unsent.items()]
        if not self._ended:
            unsent.append(self._lost(hung=hung))
        return Report(
            self._sent, self._url, shlex.join(["wandb", "sync", *self._sync]) if self._sync else "", tuple(unsent)
        )

    def _lost(self, *, hung: bool) -> str:
        why = f"W&B did not answer within {PATIENCE_SECONDS:g} s" if hung else "the W&B process ended early"
        if not self._opened:
            return f"everything: {why}"
        return f"the end of the run, and rows after {self._logged} (of {self.last_step}): {why}"


def _write(requests: queue.SimpleQueue[str | None], pipe: IO[str]) -> None:
    # Writing fails if the process has died. The listener notices that too.
    with suppress(OSError, ValueError):
        while (line := requests.get()) is not None:
            pipe.write(line)
            pipe.flush()
        pipe.close()


def _stop(process: subprocess.Popen[str], *, seconds: float) -> None:
    """Wait for the process to exit, and kill it if it does not."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _plain(value: Any) -> Any:
    """Convert numbers of numpy and torch to Python numbers, and anything else to text."""
    with suppress(AttributeError, ValueError, RuntimeError):
        return value.item()
    return str(value)
