"""Starting one process for each device of this machine, by torch's own elastic launcher; knows nothing of runs.

The processes talk to nobody but this one: it passes on the progress and the messages of rank 0, and raises the error
of whichever failed first. When one ends, torch ends the others.
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
from facemask_train.train.parallel.devices import device_list
from facemask_train.train.parallel.rendezvous import quieten_torch

STOP_SECONDS = 20
"""How long the other processes may take to end before they are killed."""

_LINGER_SECONDS = 5.0  # a process that has lost another waits to be ended, so that the other is seen to be the cause
_log = logging.getLogger("facemask_train.train")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class Call(Protocol[R_co]):
    """What each process does; it can be pickled."""

    def __call__(self, *, progress: Progress) -> R_co: ...


@dataclass(slots=True)
class _Told:
    """What the processes have told so far."""

    errors: list[FmaskError] = field(default_factory=list)

    def take(self, kind: str, content: Any, *, progress: Progress) -> None:
        if kind == "progress":
            progress(*content)
        elif kind == "log":
            level, message, extra = content
            _log.log(level, "%s", message, extra=extra)
        else:
            self.errors.append(content)


def must_launch(wanted: str) -> bool:
    """Say if the devices that were asked for need processes of their own, which nobody has started yet."""
    return len(device_list(wanted)) > 1 and not dist_env().is_distributed


def launch(call: Call[R], wanted: str, progress: Progress) -> R:
    """Do the call in one process for each device, and return what rank 0's gave.

    Raises:
        FmaskError: what a process raised.
        TrainingError: a process was killed, or this one was told to end.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    pipes = [Pipe(duplex=False) for _ in device_list(wanted)]  # of each process to this one
    told = _Told()
    try:
        with tempfile.TemporaryDirectory(prefix="fmask-launch-") as logs, _listening(pipes, told, progress):
            results = _started(call, [write for _, write in pipes], logs, backend="gloo" if "cpu" in wanted else "nccl")
    except ChildFailedError as error:
        raise _cause(told.errors, error, len(pipes)) from error
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        raise TrainingError(f"training was ended by {error.sigval.name}", next_step="fmask train --resume") from error
    return results[0]


def _started(call: Call[R], writers: Sequence[Connection], logs: str, *, backend: str) -> dict[int, R]:
    """Run torch's launcher: a rendezvous on this machine's own loopback, at a port that is free."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    quieten_torch()
    for name in list(logging.root.manager.loggerDict):  # each has a level of its own
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they have to say is said here
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
    found: dict[int, R] = elastic_launch(config, _work)(call, list(writers), _log.getEffectiveLevel())
    return found


# ---- in the processes ----


def _work(call: Call[R], writers: Sequence[Connection], level: int) -> R:
    """Do the call in one of the processes; its error goes to the process that has started it."""
    here = dist_env()
    writer = writers[here.local_rank]
    logger = logging.getLogger("facemask_train")
    logger.propagate = False
    logger.addHandler(_Passing(writer) if here.is_main else logging.NullHandler())
    logger.setLevel(level if here.is_main else logging.CRITICAL)
    if not here.is_main:
        warnings.simplefilter("ignore")

    def progress(what: str, done: int, total: int) -> None:
        if here.is_main:
            writer.send(("progress", (what, done, total)))

    try:
        return call(progress=progress)
    except FmaskError as error:
        _end(writer, error, here.rank)
    except Exception as error:  # noqa: BLE001 - whatever it is, the process that speaks to the user has to know
        _end(writer, FmaskError(f"unexpected {type(error).__name__}: {error}"), here.rank)
    raise AssertionError("unreachable")


def _end(writer: Connection, error: FmaskError, rank: int) -> None:
    error.add_note(f"in process {rank}:\n{traceback.format_exc()}")
    writer.send(("error", error))
    if isinstance(error, PeerError):
        time.sleep(_LINGER_SECONDS)
    raise SystemExit(error.exit_code)


class _Passing(logging.Handler):
    """Sends log messages to the process that speaks to the user."""

    def __init__(self, writer: Connection) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        extra = {"epochs": record.epochs} if hasattr(record, "epochs") else {}
        self._writer.send(("log", (record.levelno, record.getMessage(), extra)))


# ---- in the process that has started them ----


@contextmanager
def _listening(pipes: Sequence[tuple[Connection, Connection]], told: _Told, progress: Progress) -> Iterator[None]:
    """Take in what the processes tell, until the block has ended and all is read."""
    over = threading.Event()
    readers = [read for read, _ in pipes]
    thread = threading.Thread(target=_listen, args=(readers, told, progress, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for end in (end for pair in pipes for end in pair):
            end.close()


def _listen(readers: Sequence[Connection], told: _Told, progress: Progress, over: threading.Event) -> None:
    open_readers: list[Any] = list(readers)
    while open_readers:
        ready: list[Any] = wait(open_readers, timeout=0.1)
        if not ready and over.is_set():
            return
        for reader in ready:
            try:
                told.take(*reader.recv(), progress=progress)
            except (EOFError, OSError, ValueError):  # a process that was killed while it wrote
                open_readers.remove(reader)


def _cause(errors: Sequence[FmaskError], failed: Any, count: int) -> FmaskError:
    """Return the error to raise: a process's own, or else how one was killed, or else that one was lost."""
    own = [error for error in errors if not isinstance(error, PeerError)]
    if own:
        return own[0]
    rank, failure = failed.get_first_failure()
    next_step = next((error.next_step for error in errors if error.next_step), "fmask train --resume")
    if failure.exitcode >= 0 and errors:
        return errors[0]
    how = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with code {failure.exitcode}"
    return TrainingError(f"process {rank} of {count} {how}", next_step=next_step)
