"""The process that talks to Weights & Biases: the only module that imports `wandb`. Independent of training.

`tracker.py` starts it as `python -m facemask_train.training.tracking.wandb_process`. It reads requests from standard
input, one JSON object per line, and writes events to standard output. Nothing waits for it, and it can be killed at any
time. If its input ends without a `finish`, the training process has died, and the run is marked as failed.

Files on disk: `wandb sync` appends each run folder to the run on the server, row by row. So every row is written to one
local folder only, and `fmask-<run id>.json` next to the folders records the last row of each one.
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
"""The metric on the x axis of every other one; W&B's own step only counts rows."""

_REFUSED = "Fatal error while uploading data"
"""What `wandb` prints if the server refuses rows. It reports this in no other way."""

_LAST_ROWS = "the last rows (the sync command uploads the whole folder, so rows that had arrived are duplicated)"

Emit = Callable[[Mapping[str, Any]], None]


def serve() -> None:
    """Handle the requests on standard input until it ends."""
    # The service that `wandb` starts inherits descriptor 1. It must not keep the pipe to training open.
    requests, events = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Capture what `wandb` prints: some failures are reported only there.
    sys.stdout = sys.stderr = printed = io.StringIO()
    # Use a new service: one that another process started could not be abandoned if it hangs.
    os.environ.pop("WANDB_SERVICE", None)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    emit = _emit_to(events)
    try:
        _handle_all(_read_requests(requests), emit, printed)
    # Nobody would see a traceback of this process.
    except Exception as error:  # noqa: BLE001
        emit({"event": "unsent", "what": "everything after this", "why": _reason(error)})
    # At exit, `wandb` waits for its own service without a time limit.
    os._exit(0)


def _read_requests(requests: TextIO) -> Iterator[str]:
    """Yield the requests. After the last one, this process may run for as long as training waits, and then exits.

    Without this limit, it would outlive a training process that has died if `wandb` hangs.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    opening = requests.readline()

    def read_all() -> None:
        for line in requests:
            lines.put(line)
        lines.put("")
        time.sleep(json.loads(opening)["patience_seconds"])
        os._exit(1)

    threading.Thread(target=read_all, daemon=True).start()
    yield opening
    yield from iter(lines.get, "")


def _emit_to(events: TextIO) -> Emit:
    def emit(event: Mapping[str, Any]) -> None:
        # If the training process has died, nobody reads this, but the run is still finished.
        with suppress(BrokenPipeError):
            print(json.dumps(event), file=events, flush=True)

    return emit


def _handle_all(requests: Iterator[str], emit: Emit, printed: io.StringIO) -> None:
    session = _Session(json.loads(next(requests)), emit, printed)
    exit_code = 1
    for line in requests:
        request = json.loads(line)
        if request["do"] == "finish":
            exit_code = request["exit_code"]
            break
        session.attempt(request)
    session.finish(exit_code)


class _Session:
    """One run: opened immediately (online if possible, else offline), then updated with each request."""

    def __init__(self, opening: Mapping[str, Any], emit: Emit, printed: io.StringIO) -> None:
        self._opening, self._emit, self._printed = opening, emit, printed
        self._uploads: list[tuple[str, Any]] = []
        self._run, why = _open_run(opening)
        self._mode = _mode(self._run)
        self._folder = Path(self._run.settings.sync_dir).resolve() if self._mode != "none" else Path()
        self._ledger = _Ledger(self._folder.parent, opening["run_id"])
        self._known = self._last = self._last_known()
        if self._mode == "offline" and self._ledger.summary:
            # Syncing a folder replaces the summary on the server.
            self._run.summary.update(self._ledger.summary)
        if self._mode != "none":
            self._ledger.put(self._folder, last=0, sent=False)
        url = str(self._run.url or "") if self._mode == "online" else ""
        # What was printed about a failed start is in `why`, and is not a failure of the run that was then opened.
        printed.truncate(0)
        emit({"event": "open", "sent": self._mode, "url": url, "why": why, "sync": self._sync()})

    def _last_known(self) -> int:
        """Return the last step that must not be logged again: on the server, or else in earlier local folders."""
        if self._mode == "online":
            return int(self._run.summary.get(STEP) or 0)
        return self._ledger.last()

    def attempt(self, request: Mapping[str, Any]) -> None:
        """Handle one request. A failure is reported and does not affect the next request."""
        try:
            getattr(self, f"_do_{request['do']}")(request)
        # `wandb` can raise any error of its layers, and none of them may stop the following requests.
        except Exception as error:  # noqa: BLE001
            self._unsent(request["what"], _reason(error))

    def _unsent(self, what: str, why: str) -> None:
        self._emit({"event": "unsent", "what": what, "why": why})

    def _do_log(self, request: Mapping[str, Any]) -> None:
        step = request["step"]
        if step > self._known:
            self._run.log({STEP: step, **request["values"]})
            if self._mode == "online":
                # Rows that the server lacks are logged again, so syncing earlier folders would duplicate them.
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

        # Without a step, the row would reset that of the run to 0.
        step = self._last if request["step"] is None else request["step"]
        # Images of the last known step may be missing if the process was killed right after its row was logged.
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
            # The public `use_artifact` fails offline, and online it waits for the upload without a time limit.
            self._run._log_artifact(artifact, aliases=request["aliases"], is_user_created=True, use_after_commit=True)
        else:
            self._run.log_artifact(artifact, aliases=request["aliases"])
        if self._mode == "online":
            self._uploads.append((request["what"], artifact))

    def finish(self, exit_code: int) -> None:
        """Finish the run, and report how it ended."""
        self._upload()
        complete = self._close(exit_code)
        if self._mode != "none":
            sent = complete and self._mode == "online"
            self._ledger.put(self._folder, last=self._ledger.last(self._folder), sent=sent)
        self._emit({"event": "end", "sync": self._sync()})

    def _upload(self) -> None:
        """Wait for the uploads of artifacts, within one time limit for all of them."""
        deadline = time.monotonic() + self._opening["finish_seconds"]
        for what, artifact in self._uploads:
            try:
                artifact.wait(timeout=max(1, round(deadline - time.monotonic())))
            # As above: every failure is reported, and none may prevent the end of the run.
            except Exception as error:  # noqa: BLE001
                self._unsent(what, _reason(error))

    def _close(self, exit_code: int) -> bool:
        """Finish the run, and return whether every row has arrived."""
        try:
            self._run.finish(exit_code=exit_code)
        # As above.
        except Exception as error:  # noqa: BLE001
            self._unsent(_LAST_ROWS, _reason(error))
            return False
        # If the server refuses an upload, `wandb` only prints it.
        if _REFUSED in self._printed.getvalue():
            self._unsent(_LAST_ROWS, _REFUSED)
            return False
        return True

    def _sync(self) -> list[str]:
        """Return the arguments for `wandb sync` that upload what is only on this disk; empty if everything is sent."""
        folders = [] if self._mode == "none" else self._ledger.unsent()
        online = any(not folder.name.startswith("offline-") for folder in folders)
        return [*(["--include-online"] if online else []), *map(str, folders)]


class _Ledger:
    """The last row of each local folder of a run, which folders were fully uploaded, and their common summary."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder = folder
        self._path = folder / f"fmask-{run_id}.json"
        self._run_file = f"run-{run_id}.wandb"
        saved = read_json(self._path) or {}
        self._entries: dict[str, Any] = saved.get("folders", {})
        self.summary: dict[str, Any] = saved.get("summary", {})

    def put(self, run_folder: Path, *, last: int, sent: bool) -> None:
        self._entries[run_folder.name] = {"last": last, "sent": sent}
        write_json(self._path, {"folders": self._entries, "summary": self.summary})

    def forget_all_but(self, run_folder: Path) -> None:
        self._entries = {name: entry for name, entry in self._entries.items() if name == run_folder.name}

    def last(self, run_folder: Path | None = None) -> int:
        """Return the last step in one folder, or in any."""
        names = [run_folder.name] if run_folder else list(self._entries)
        return max((int(self._entries[name]["last"]) for name in names), default=0)

    def unsent(self) -> list[Path]:
        """Return the folders that have not been uploaded yet, in the order in which they were written."""
        waiting = [self._folder / name for name, entry in self._entries.items() if not entry["sent"]]
        # `wandb sync` writes a marker into each folder that it has uploaded.
        return [folder for folder in waiting if not (folder / f"{self._run_file}.synced").exists() and folder.is_dir()]


def _open_run(opening: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the run, and why it is offline although online was tried (else an empty string)."""
    if opening["online"] is False:
        return _init(opening, "offline"), ""
    try:
        return _init(opening, "online" if opening["online"] else None), ""
    # No key, a refused key, no server, a server that does not answer: all are handled in the same way.
    except Exception as error:  # noqa: BLE001
        import wandb

        # The service of the failed start still owns the run's id. `wandb` exits with the service's exit code.
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
        # Stopping the run on the web page would interrupt this process, not the training.
        stop_fn=_ignore_stop,
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


def _ignore_stop() -> None:
    """Do nothing."""


def _mode(run: Any) -> str:
    if run.disabled:
        return "none"
    return "offline" if run.offline else "online"


def _reason(error: Exception) -> str:
    """Return the error in one line, for a message."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


if __name__ == "__main__":
    serve()
