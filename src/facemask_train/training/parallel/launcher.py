"""Start one process for each device of this machine with torch's elastic launcher. Does not know about runs.

The parent process shows the progress and the log of the main process, and raises the error of the process that failed
first. When one process ends early, torch ends the others.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Protocol, TypeVar

from facemask_train.core.dist_env import dist_env
from facemask_train.core.errors import FmaskError, PeerError, TrainingError
from facemask_train.core.types import Progress
from facemask_train.training.parallel.devices import device_list
from facemask_train.training.parallel.rendezvous import quiet_torch

STOP_SECONDS = 20
"""How long the other processes may take to stop before they are killed."""

_LINGER_SECONDS = 5.0  # a process that lost a peer waits to be stopped, so that the peer is seen as the cause
_log = logging.getLogger("facemask_train.training")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class Call(Protocol[R_co]):
    """What each process runs. It has to be picklable."""

    def __call__(self, *, progress: Progress) -> R_co: ...


@dataclass(slots=True)
class _Messages:
    """What the processes have sent so far."""

    errors: list[FmaskError] = field(default_factory=list)

    def handle(self, kind: str, content: Any, *, progress: Progress) -> None:
        if kind == "progress":
            progress(*content)
        elif kind == "log":
            level, message, extra = content
            _log.log(level, "%s", message, extra=extra)
        else:
            self.errors.append(content)


def needs_launch(requested: str) -> bool:
    """Return whether the named devices need several processes that have not been started yet."""
    return len(device_list(requested)) > 1 and not dist_env().is_distributed


def launch(call: Call[R], requested: str, progress: Progress) -> R:
    """Run the call in one process for each device, and return the result of the main process.

    Raises:
        FmaskError: the error of a process.
        TrainingError: a process was killed, or this one received a signal to stop.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    pipes = [Pipe(duplex=False) for _ in device_list(requested)]  # from each process to this one
    messages = _Messages()
    try:
        with tempfile.TemporaryDirectory(prefix="fmask-launch-") as logs, _listening(pipes, messages, progress):
            results = _run_processes(
                call, [write for _, write in pipes], logs, backend="gloo" if "cpu" in requested else "nccl"
            )
    except ChildFailedError as error:
        raise _cause(messages.errors, error, len(pipes)) from error
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        raise TrainingError(f"training was stopped by {error.sigval.name}", next_step="fmask train --resume") from error
    return results[0]


def _run_processes(call: Call[R], writers: Sequence[Connection], logs: str, *, backend: str) -> dict[int, R]:
    """Run torch's launcher, with its rendezvous on a free port of this machine's loopback interface."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    quiet_torch()
    for name in list(logging.root.manager.loggerDict):  # each has its own level
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # their errors are reported below
    if backend == "gloo" and os.path.exists("/sys/class/net/lo"):  # noqa: PTH110
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=len(writers),
        run_id="fmask",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        shutdown_timeout=STOP_SECONDS,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )
    found: dict[int, R] = elastic_launch(config, _run_in_process)(call, list(writers), _log.getEffectiveLevel())
    return found


# ---- in the started processes ----


def _run_in_process(call: Call[R], writers: Sequence[Connection], level: int) -> R:
    """Run the call in one of the processes, and send its error to the parent."""
    env = dist_env()
    writer = writers[env.local_rank]
    logger = logging.getLogger("facemask_train")
    logger.propagate = False
    logger.addHandler(_SendToParent(writer) if env.is_main else logging.NullHandler())
    logger.setLevel(level if env.is_main else logging.CRITICAL)
    if not env.is_main:
        warnings.simplefilter("ignore")

    def progress(what: str, done: int, total: int) -> None:
        if env.is_main:
            writer.send(("progress", (what, done, total)))

    try:
        return call(progress=progress)
    except FmaskError as error:
        _exit_with(writer, error, env.rank)
    except Exception as error:  # noqa: BLE001 - the parent reports every error
        _exit_with(writer, FmaskError(f"unexpected {type(error).__name__}: {error}"), env.rank)
    raise AssertionError("unreachable")


def _exit_with(writer: Connection, error: FmaskError, rank: int) -> None:
    error.add_note(f"in process {rank}:\n{traceback.format_exc()}")
    writer.send(("error", error))
    if isinstance(error, PeerError):
        time.sleep(_LINGER_SECONDS)
    raise SystemExit(error.exit_code)


class _SendToParent(logging.Handler):
    """Sends log messages to the parent process, which shows them."""

    def __init__(self, writer: Connection) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        extra = {"epochs": record.epochs} if hasattr(record, "epochs") else {}
        self._writer.send(("log", (record.levelno, record.getMessage(), extra)))


# ---- in the parent process ----


@contextmanager
def _listening(
    pipes: Sequence[tuple[Connection, Connection]], messages: _Messages, progress: Progress
) -> Iterator[None]:
    """Handle messages of the processes until the block has ended and everything is read."""
    done = threading.Event()
    readers = [read for read, _ in pipes]
    thread = threading.Thread(target=_listen, args=(readers, messages, progress, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for end in (end for pair in pipes for end in pair):
            end.close()


def _listen(readers: Sequence[Connection], messages: _Messages, progress: Progress, done: threading.Event) -> None:
    open_readers: list[Any] = list(readers)
    while open_readers:
        ready: list[Any] = wait(open_readers, timeout=0.1)
        if not ready and done.is_set():
            return
        for reader in ready:
            try:
                messages.handle(*reader.recv(), progress=progress)
            except (EOFError, OSError, ValueError):  # the process was killed while it was writing
                open_readers.remove(reader)


def _cause(errors: Sequence[FmaskError], failed: Any, count: int) -> FmaskError:
    """Return the error to raise: that of a process, else how one was killed, else that a peer was lost."""
    own = [error for error in errors if not isinstance(error, PeerError)]
    if own:
        return own[0]
    rank, failure = failed.get_first_failure()
    next_step = next((error.next_step for error in errors if error.next_step), "fmask train --resume")
    if failure.exitcode >= 0 and errors:
        return errors[0]
    how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"exited with code {failure.exitcode}"
    return TrainingError(f"process {rank} of {count} {how}", next_step=next_step)
