"""The process that talks to Weights & Biases: the only module that imports `wandb`. Independent of training.

`tracker.py` starts it as `python -m facemask_train.training.tracking.wandb_process`. Requests come as one JSON object a
line on standard input, events go back on standard output. Nobody waits for it, and it can be killed at any moment.
When its input ends without a `finish`, the training process is gone: the run is ended as failed.

What is on the disk: `wandb sync` appends each run folder to the run on the server, row after row. So every row is put
in one local folder only, and `fmask-<run id>.json` beside the folders remembers how far each one goes.
"""

from __future__ import annotations

import io
import json
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TextIO

from facemask_train.core.files import read_json, write_json

STEP = "epoch"
"""The metric that every other one is drawn over; W&B's own step only counts rows."""

_REFUSED = "Fatal error while uploading data"
"""What `wandb` prints when the server refuses rows, before it goes on as if nothing were."""

_LAST_ROWS = "the last rows (the sync command sends the whole folder: rows that had arrived come twice)"

Emit = Callable[[Mapping[str, Any]], None]


def serve() -> None:
    """Do what the lines on standard input ask for, until they end."""
    # The service that `wandb` starts inherits descriptor 1: it must not keep the way to training open.
    requests, events = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Whatever `wandb` prints is kept: some failures are told there and nowhere else.
    sys.stdout = sys.stderr = said = io.StringIO()
    # A service of somebody else's could not be left behind when it hangs.
    os.environ.pop("WANDB_SERVICE", None)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    emit = _emit_to(events)
    try:
        _follow(_taken_in(requests), emit, said)
    # Nobody sees a traceback of this process.
    except Exception as error:  # noqa: BLE001
        emit({"event": "unsent", "what": "all that follows", "why": _reason(error)})
    # `wandb` waits for its own service at exit, without a limit.
    os._exit(0)


def _taken_in(requests: TextIO) -> Iterator[str]:
    """Yield the requests. Once they have all come, this process has as long as training waits, and then ends.

    Without the limit it would outlive a training process that is gone, wherever `wandb` hangs.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    opening = requests.readline()

    def take_in() -> None:
        for line in requests:
            lines.put(line)
        lines.put("")
        time.sleep(json.loads(opening)["patience_seconds"])
        os._exit(1)

    threading.Thread(target=take_in, daemon=True).start()
    yield opening
    yield from iter(lines.get, "")


def _emit_to(events: TextIO) -> Emit:
    def emit(event: Mapping[str, Any]) -> None:
        # A training process that is gone hears nothing; the run is still brought to its end.
        with suppress(BrokenPipeError):
            print(json.dumps(event), file=events, flush=True)

    return emit


def _follow(requests: Iterator[str], emit: Emit, said: io.StringIO) -> None:
    session = _Session(json.loads(next(requests)), emit, said)
    exit_code = 1
    for line in requests:
        request = json.loads(line)
        if request["do"] == "finish":
            exit_code = request["exit_code"]
            break
        session.attempt(request)
    session.finish(exit_code)


class _Session:
    """One run: opened at once (online if that can be had, else offline), then fed request by request."""

    def __init__(self, opening: Mapping[str, Any], emit: Emit, said: io.StringIO) -> None:
        self._opening, self._emit, self._said = opening, emit, said
        self._uploads: list[tuple[str, Any]] = []
        self._run, why = _open_run(opening)
        self._mode = _mode(self._run)
        self._folder = Path(self._run.settings.sync_dir).resolve() if self._mode != "none" else Path()
        self._ledger = _Ledger(self._folder.parent, opening["run_id"])
        self._known = self._last = self._last_known()
        if self._mode == "offline" and self._ledger.summary:
            # A folder that is synced replaces the summary that the server has.
            self._run.summary.update(self._ledger.summary)
        if self._mode != "none":
            self._ledger.put(self._folder, last=0, sent=False)
        url = str(self._run.url or "") if self._mode == "online" else ""
        # What was said of a failed start is told by `why`, and is no failure of the run that was then opened.
        said.truncate(0)
        emit({"event": "open", "sent": self._mode, "url": url, "why": why, "sync": self._sync()})

    def _last_known(self) -> int:
        """The last step that must not be logged again: the server's, or else what earlier local folders hold."""
        if self._mode == "online":
            return int(self._run.summary.get(STEP) or 0)
        return self._ledger.last()

    def attempt(self, request: Mapping[str, Any]) -> None:
        """Do one request; a failure is told, and the next request is done all the same."""
        try:
            getattr(self, f"_do_{request['do']}")(request)
        # `wandb` raises whatever its layers raise, and nothing of it may stop what comes after.
        except Exception as error:  # noqa: BLE001
            self._unsent(request["what"], _reason(error))

    def _unsent(self, what: str, why: str) -> None:
        self._emit({"event": "unsent", "what": what, "why": why})

    def _do_log(self, request: Mapping[str, Any]) -> None:
        step = request["step"]
        if step > self._known:
            self._run.log({STEP: step, **request["values"]})
            if self._mode == "online":
                # What the server lacks is being logged again: earlier folders would bring it twice.
                self._ledger.forget_all_but(self._folder)
            if self._mode != "none":
                self._ledger.summary |= {**request["values"], STEP: step}
                self._ledger.put(self._folder, last=step, sent=False)
            self._last = step
        self._emit({"event": "logged", "step": step})

    def _do_summary(self, request: Mapping[str, Any]) -> None:
        self._run.summary.update(request["values"])
        self._ledger.summary |= request["values"]

    def _do_images(self, request: Mapping[str, Any]) -> None:
        import wandb

        # Without a step of its own the row would bring the run's back to 0.
        step = self._last if request["step"] is None else request["step"]
        # Those of the last known step may be missing where its row arrived and a kill came next.
        if step >= self._known:
            images = [wandb.Image(path, caption=Path(path).name) for path in request["paths"]]
            self._run.log({STEP: step, request["key"]: images})

    def _do_artifact(self, request: Mapping[str, Any]) -> None:
        import wandb

        name = re.sub(r"[^\w.-]", "-", request["name"])
        artifact = wandb.Artifact(name, type=request["kind"], metadata=request["metadata"])
        for inside, path in request["files"].items():
            artifact.add_file(path, name=inside)
        if request["used"]:
            # The public `use_artifact` refuses offline, and online waits without a limit for the upload.
            self._run._log_artifact(artifact, aliases=request["aliases"], is_user_created=True, use_after_commit=True)
        else:
            self._run.log_artifact(artifact, aliases=request["aliases"])
        if self._mode == "online":
            self._uploads.append((request["what"], artifact))

    def finish(self, exit_code: int) -> None:
        """End the run, and tell how it ended."""
        self._upload()
        closed = self._closed(exit_code)
        if self._mode != "none":
            sent = closed and self._mode == "online"
            self._ledger.put(self._folder, last=self._ledger.last(self._folder), sent=sent)
        self._emit({"event": "end", "sync": self._sync()})

    def _upload(self) -> None:
        """Wait for the uploads of artifacts, all together as long as is allowed."""
        deadline = time.monotonic() + self._opening["finish_seconds"]
        for what, artifact in self._uploads:
            try:
                artifact.wait(timeout=max(1, round(deadline - time.monotonic())))
            # As above: any failure is told, none may stop the end of the run.
            except Exception as error:  # noqa: BLE001
                self._unsent(what, _reason(error))

    def _closed(self, exit_code: int) -> bool:
        """End the run; return whether every row has arrived where it should."""
        try:
            self._run.finish(exit_code=exit_code)
        # As above.
        except Exception as error:  # noqa: BLE001
            self._unsent(_LAST_ROWS, _reason(error))
            return False
        # An upload that the server refuses is told on the terminal and nowhere else.
        if _REFUSED in self._said.getvalue():
            self._unsent(_LAST_ROWS, _REFUSED)
            return False
        return True

    def _sync(self) -> list[str]:
        """The arguments of `wandb sync` that bring what is only on this disk; none if all is sent."""
        folders = [] if self._mode == "none" else self._ledger.unsent()
        online = any(not folder.name.startswith("offline-") for folder in folders)
        return [*(["--include-online"] if online else []), *map(str, folders)]


class _Ledger:
    """How far the local folders of a run go, which of them are at W&B in full, and the summary of them all."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder = folder
        self._path = folder / f"fmask-{run_id}.json"
        self._run_file = f"run-{run_id}.wandb"
        held = read_json(self._path) or {}
        self._entries: dict[str, Any] = held.get("folders", {})
        self.summary: dict[str, Any] = held.get("summary", {})

    def put(self, run_folder: Path, *, last: int, sent: bool) -> None:
        self._entries[run_folder.name] = {"last": last, "sent": sent}
        write_json(self._path, {"folders": self._entries, "summary": self.summary})

    def forget_all_but(self, run_folder: Path) -> None:
        self._entries = {name: entry for name, entry in self._entries.items() if name == run_folder.name}

    def last(self, run_folder: Path | None = None) -> int:
        """The last step in one folder, or in any."""
        names = [run_folder.name] if run_folder else list(self._entries)
        return max((int(self._entries[name]["last"]) for name in names), default=0)

    def unsent(self) -> list[Path]:
        """The folders that are still to be sent, in the order in which they were written."""
        waiting = [self._folder / name for name, entry in self._entries.items() if not entry["sent"]]
        # `wandb sync` leaves a marker where it has been.
        return [folder for folder in waiting if not (folder / f"{self._run_file}.synced").exists() and folder.is_dir()]


def _open_run(opening: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the run, and why it is offline where online was tried (empty otherwise)."""
    if opening["online"] is False:
        return _init(opening, "offline"), ""
    try:
        return _init(opening, "online" if opening["online"] else None), ""
    # No key, a refused one, no server, one that does not answer: all end in the same way.
    except Exception as error:  # noqa: BLE001
        import wandb

        # The service of the failed start holds the run's id. It may end with a code, which `wandb` exits with.
        with suppress(SystemExit):
            wandb.teardown()
        return _init(opening, "offline"), _reason(error)


def _init(opening: Mapping[str, Any], mode: Literal["online", "offline"] | None) -> Any:
    import wandb

    settings = wandb.Settings(
        init_timeout=opening["init_seconds"],
        finish_timeout=opening["finish_seconds"],
        finish_timeout_raises=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
        console="off",
        quiet=True,
        symlink=False,
        program="fmask",
        # A stop that is asked for on the web page would interrupt this process, not the training.
        stop_fn=_stay,
        x_disable_stats=True,
        x_transaction_log_flush_interval=1.0,
    )
    run = wandb.init(
        project=opening["project"],
        name=opening["name"],
        config=opening["config"],
        id=opening["run_id"],
        dir=opening["folder"],
        mode=mode,
        resume="allow",
        settings=settings,
    )
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP)
    return run


def _stay() -> None:
    """Go on."""


def _mode(run: Any) -> str:
    if run.disabled:
        return "none"
    return "offline" if run.offline else "online"


def _reason(error: Exception) -> str:
    """One line, for a person."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


if __name__ == "__main__":
    serve()
