"""The experiment tracker: Weights & Biases behind a small interface, or none. Does not import `wandb`.

All of W&B runs in a process of its own (`wandb_process.py`), which is fed through a queue. So a call costs
microseconds, and a server that is gone, a call that raises and a call that never returns are the same to training:
it goes on, and `finish` says within a bounded time what was not sent.
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
"""How long W&B's server may take to answer at the start, before the run goes offline."""

FINISH_SECONDS = 45.0
"""How long the last rows may take at the end, and how long the artifacts may."""

PATIENCE_SECONDS = 125.0
"""How long `finish` waits for the W&B process, which keeps to the limits above unless it hangs."""

METRICS = ("precision", "recall", "mAP50", "mAP50-95")
"""What is logged of a validation, for all classes and for each one."""

Where = Literal["online", "offline", "none"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What the user is told at the end: where the run is, and what did not get there.

    `sync` is the command that sends what is only on this disk, empty where there is nothing to send. `unsent` says in
    words what did not reach W&B, and why.
    """

    sent: Where = "none"
    url: str = ""
    sync: str = ""
    unsent: tuple[str, ...] = ()


class Tracker(Protocol):
    """Where a run's numbers and images go. No call of it raises, and none but `finish` waits."""

    run_id: str
    """What continues this run later; empty where nothing is tracked."""

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Log one row of metrics. Values that are None or not finite are left out.

        Steps count from 1 and never fall. A resumed run may log all its rows again: those that W&B has are dropped.
        """

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set values of the whole run."""

    def images(self, key: str, paths: Sequence[Path], *, step: int | None = None) -> None:
        """Log image files under one key, after the row of their step. They are read soon, not at once."""

    def artifact(
        self,
        name: str,
        kind: str,
        files: Mapping[str, Path],
        *,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        used: bool = False,
    ) -> None:
        """Log files as an artifact: an input of the run if `used`, else an output. They are read soon, not at once.

        Args:
            files: the file of each name inside the artifact.
        """

    def finish(self, exit_code: int = 0) -> Report:
        """End the run, wait a bounded time for what is under way, and say what became of it."""


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
    config: Mapping[str, Any],
    run_id: str = "",
    online: bool | None = None,
) -> Tracker:
    """Start to track a run, or continue the one that has `run_id`. Returns at once.

    Args:
        kind: `wandb`, or `none`.
        folder: W&B's own files go into `wandb/` below it.
        online: None leaves it to W&B's own settings; without a key it is offline.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in ("wandb", "none"):
        raise UsageError(f"no tracker is named '{kind}'{nearest(kind, ('wandb', 'none'))}; known: wandb, none")
    if kind == "none":
        return _Nothing()
    # A folder named `wandb` in the current one would be found too, without an origin.
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:
        _log.warning("W&B is not installed, so nothing is tracked: pip install wandb, or choose --tracker none")
        return _Nothing()
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
        return _Nothing()


def close_tracker(tracker: Tracker, exit_code: int = 0) -> Report:
    """End a tracker's run, and log what did not reach W&B and how it gets there."""
    report = tracker.finish(exit_code)
    for line in report.unsent:
        _log.warning("W&B: %s", line)
    if report.sync:
        _log.info("W&B: kept offline; to send it: %s", report.sync)
    return report


class _Nothing:
    """The tracker that tracks nothing."""

    run_id = ""

    def log(self, *_: Any) -> None: ...

    def summary(self, *_: Any) -> None: ...

    def images(self, *_: Any, **__: Any) -> None: ...

    def artifact(self, *_: Any, **__: Any) -> None: ...

    def finish(self, *_: Any, **__: Any) -> Report:
        return Report()


class _Wandb:
    """The near end of the W&B process: one thread writes to it, one listens to it."""

    def __init__(self, opening: Mapping[str, Any]) -> None:
        self.run_id = str(opening["run_id"])
        self._state = _State()
        self._report: Report | None = None
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # -P: nothing in the current folder may stand in for a package. A session of its own: Ctrl-C is for training.
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
        self._ask(opening)
        threading.Thread(target=_write, args=(self._requests, self._process.stdin), daemon=True).start()
        threading.Thread(target=self._state.listen, args=(self._process.stdout,), daemon=True).start()

    def _ask(self, request: Mapping[str, Any]) -> None:
        self._requests.put(json.dumps(request, default=_plain) + "\n")

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        finite = {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
        self._state.asked = max(self._state.asked, step)
        self._ask({"do": "log", "what": "a row", "step": step, "values": finite})

    def summary(self, values: Mapping[str, Any]) -> None:
        self._ask({"do": "summary", "what": "the summary", "values": dict(values)})

    def images(self, key: str, paths: Sequence[Path], *, step: int | None = None) -> None:
        absolute = [str(path.resolve()) for path in paths]
        self._ask({"do": "images", "what": f"images '{key}'", "key": key, "paths": absolute, "step": step})

    def artifact(
        self,
        name: str,
        kind: str,
        files: Mapping[str, Path],
        *,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        used: bool = False,
    ) -> None:
        self._ask(
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
            self._ask({"do": "finish", "exit_code": exit_code})
            self._requests.put(None)
            ended = self._state.over.wait(PATIENCE_SECONDS)
            _stop(self._process, seconds=2 if ended else 0)
            self._report = self._state.report(hung=not ended)
        return self._report


class _State:
    """What the W&B process has told so far."""

    def __init__(self) -> None:
        self.asked = 0
        self.over = threading.Event()
        self._logged = 0
        self._ended = False
        self._sent: Where = "none"
        self._opened = False
        self._url = ""
        self._sync: list[str] = []
        self._unsent: Counter[str] = Counter()

    def listen(self, events: IO[str]) -> None:
        """Take in what the process tells, until it has ended."""
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
        return f"the end of the run, and rows after {self._logged} (of {self.asked}): {why}"


def _write(requests: queue.SimpleQueue[str | None], pipe: IO[str]) -> None:
    # A process that is gone takes no more; its listener has seen it go.
    with suppress(OSError, ValueError):
        while (line := requests.get()) is not None:
            pipe.write(line)
            pipe.flush()
        pipe.close()


def _stop(process: subprocess.Popen[str], *, seconds: float) -> None:
    """See the process out, by force where it does not go."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _plain(value: Any) -> Any:
    """Return numbers of numpy and torch as Python's own, anything else as text."""
    with suppress(AttributeError, ValueError, RuntimeError):
        return value.item()
    return str(value)
