"""How the processes of one training find each other, exchange data, and learn why one of them stopped.

They use torch's key-value store, which works before the process group exists and after it has failed.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from facemask_train.core.dist_env import DistEnv, dist_env
from facemask_train.core.errors import FmaskError, PeerError, TrainingError, UsageError
from facemask_train.training.parallel.devices import Member

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

INIT_SECONDS = 60.0
"""How long the processes wait to find each other."""

WORK_SECONDS = 1800.0
"""How long a process waits for another: the main process may download weights, and validates alone."""

_ASSIGNMENT, _FAILURE = "assignment", "failure"
_PEER_FAILURES = ("closed by peer", "reset by peer", "gloo", "nccl", "broken pipe", "timed out waiting")
_log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """All training processes as this one sees them: its own environment, the members by rank, and torch's store."""

    env: DistEnv
    members: tuple[Member, ...]
    store: Store


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a process stopped, as it reported it to the others."""

    rank: int
    host: str
    message: str


@functools.cache
def join_group() -> Group:
    """Wait until all training processes are there, and return them.

    Raises:
        UsageError: this process was not started as one of several.
        TrainingError: the processes do not find each other within `INIT_SECONDS`.
    """
    env = dist_env()
    if not env.is_distributed:
        raise UsageError("there is only one training process", next_step="fmask train --device 0,1, or torchrun")
    import torch
    from torch.distributed.distributed_c10d import PrefixStore

    try:
        store = PrefixStore("fmask", _connect(env))
        own = Member(env, socket.gethostname(), torch.cuda.device_count())
        store.set(f"member/{env.rank}", json.dumps(asdict(own)))
        store.wait([f"member/{rank}" for rank in range(env.world_size)], timedelta(seconds=INIT_SECONDS))
        members = tuple(_member(store.get(f"member/{rank}")) for rank in range(env.world_size))
    except (RuntimeError, OSError, ValueError) as error:
        raise unreachable(env, error) from error
    return Group(env, members, store)


def _member(content: bytes) -> Member:
    data = json.loads(content)
    return Member(DistEnv(**data["env"]), data["host"], data["gpus"])


def _connect(env: DistEnv) -> Store:
    """Connect to the store of the launcher or of the main process."""
    from torch.distributed.rendezvous import rendezvous

    if not env.is_main:
        _wait_for_port(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    store: Store
    store, _, _ = next(rendezvous("env://", env.rank, env.world_size, timeout=timedelta(seconds=INIT_SECONDS)))
    return store


def _wait_for_port(host: str, port: int) -> None:
    """Wait until a port accepts connections: torch's own attempt takes twice its timeout, and logs noisily.

    Raises:
        OSError: it does not within `INIT_SECONDS`.
    """
    deadline = time.monotonic() + INIT_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic())).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def unreachable(env: DistEnv, error: Exception) -> TrainingError:
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TrainingError(
        f"{address}: process {env.rank} of {env.world_size} ({socket.gethostname()}) did not find the others within"
        f" {INIT_SECONDS:g} s: {reason}",
        next_step="check that all processes were started, and that each machine can reach this address and port",
    )


def broadcast(assignment: str) -> None:
    """Send the main process's assignment to the processes that wait for it."""
    join_group().store.set(_ASSIGNMENT, assignment)


def receive() -> str:
    """Wait for the main process's assignment and return it.

    Raises:
        PeerError: another process failed.
    """
    return wait_for_keys([_ASSIGNMENT], WORK_SECONDS)[0].decode()


def wait_for_keys(keys: Sequence[str], seconds: float) -> list[bytes]:
    """Wait for keys of the store and return their values.

    Raises:
        PeerError: another process failed, or the time ran out.
    """
    store, deadline = join_group().store, time.monotonic() + seconds
    try:
        while keys and not store.check(list(keys)):
            if store.check([_FAILURE]) or time.monotonic() > deadline:
                raise peer_error()
            time.sleep(0.1)
        return [bytes(store.get(key)) for key in keys]
    except RuntimeError as error:
        raise peer_error() from error


def barrier(name: str) -> None:
    """Wait until all processes have reached this point, or one has failed."""
    group = join_group()
    group.store.set(f"{name}/{group.env.rank}", "")
    wait_for_keys([f"{name}/{rank}" for rank in range(group.env.world_size)], WORK_SECONDS)


def share_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function that every process calls: an error of one reaches the others, and the user sees it once."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not dist_env().is_distributed:
            return function(*args, **kwargs)
        quiet_torch()
        join_group()
        try:
            return function(*args, **kwargs)
        except FmaskError as error:
            _report_failure(error)
            raise

    return wrapper


def quiet_torch() -> None:
    """Limit the messages of torch's C++ code to errors, and let waiting threads sleep.

    torch reads both variables when it is imported, in this process or in those that it starts. That is earlier than
    `open_ultralytics` could set them.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _report_failure(error: FmaskError) -> None:
    """Store an error for the processes that will find this one gone."""
    if isinstance(error, PeerError):
        return
    group = join_group()
    failure = _Failure(group.env.rank, socket.gethostname(), str(error))
    try:
        group.store.set(_FAILURE, json.dumps(asdict(failure)))
    except RuntimeError:
        _log.debug("the store is gone too")


def peer_error(error: BaseException | None = None) -> PeerError:
    """Return the error for a process whose peers are gone: what one of them reported, or that one is lost.

    It counts as reported if the user sees the cause anyway: on the machine of the failed process, and on any other
    machine once its first process has printed it.
    """
    group = join_group()
    failure = _reported_failure(group)
    if failure is None:
        return PeerError(
            f"one of the {group.env.world_size} training processes is gone: it was killed, ran out of memory, or its"
            f" machine cannot be reached{_backend_message(error)}",
            reported=not _is_first_on_host(group),
        )
    same_host = failure.host == socket.gethostname()
    message = f"process {failure.rank} on {failure.host} stopped: {failure.message}"
    return PeerError(message, reported=same_host or not _is_first_on_host(group))


def _backend_message(error: BaseException | None) -> str:
    """Return NCCL's message, which may be about a setting. gloo's names the closed socket and helps nobody."""
    from torch import distributed as dist

    return f" ({str(error).splitlines()[0]})" if isinstance(error, dist.DistBackendError) and str(error) else ""


def _is_first_on_host(group: Group) -> bool:
    """Return whether this process is the first on its machine to report a lost peer."""
    try:
        return bool(group.store.add(f"reported/{socket.gethostname()}", 1) == 1)
    except RuntimeError:  # the process that kept the store is gone
        return True


def _reported_failure(group: Group) -> _Failure | None:
    try:
        return _Failure(**json.loads(group.store.get(_FAILURE))) if group.store.check([_FAILURE]) else None
    except RuntimeError:  # the process that kept the store is gone
        return None


def is_peer_failure(error: BaseException) -> bool:
    """Return whether an error means that another process is gone."""
    from torch import distributed as dist

    network = isinstance(error, (dist.DistError, ConnectionError))
    return network or (isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _PEER_FAILURES))
