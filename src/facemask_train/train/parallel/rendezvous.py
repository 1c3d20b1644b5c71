"""How the processes of one training find each other, agree, and tell why one of them has stopped.

They talk through torch's key-value store before there is a process group, and where it broke.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from facemask_train.core.dist_env import DistEnv, dist_env
from facemask_train.core.errors import FmaskError, PeerError, TrainingError, UsageError
from facemask_train.train.parallel.devices import Member

INIT_SECONDS = 60.0
"""How long the processes may take to find each other."""

WORK_SECONDS = 1800.0
"""How long one of them may keep the others waiting: rank 0 may download weights, and validates alone."""

_DECISION, _FAILURE = "decision", "failure"
_LOST = ("closed by peer", "reset by peer", "gloo", "nccl", "broken pipe", "timed out waiting")
_log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """All processes of one training, seen from this one. `store` is torch's key-value store."""

    place: DistEnv
    members: tuple[Member, ...]
    store: Any


@functools.cache
def group() -> Group:
    """Return the processes that train together, once all of them have said that they are there.

    Raises:
        UsageError: no launcher has started this process as one of several.
        TrainingError: they do not find each other within `INIT_SECONDS`.
    """
    here = dist_env()
    if not here.is_distributed:
        raise UsageError("this process trains alone", next_step="fmask train --device 0,1, or torchrun")
    import torch
    from torch.distributed.distributed_c10d import PrefixStore

    try:
        store = PrefixStore("fmask", _reach(here))
        about = {"host": socket.gethostname(), "gpus": torch.cuda.device_count()}
        store.set(f"here/{here.rank}", json.dumps(about | {"place": _numbers(here)}))
        store.wait([f"here/{rank}" for rank in range(here.world_size)], timedelta(seconds=INIT_SECONDS))
        told = [json.loads(store.get(f"here/{rank}")) for rank in range(here.world_size)]
    except (RuntimeError, OSError, ValueError) as error:
        raise unreachable(here, error) from error
    members = tuple(Member(DistEnv(*one["place"]), one["host"], one["gpus"]) for one in told)
    return Group(here, members, store)


def _numbers(here: DistEnv) -> tuple[int, int, int, int]:
    return here.rank, here.world_size, here.local_rank, here.local_world_size


def _reach(here: DistEnv) -> Any:
    """Return the store that the launcher (or rank 0) keeps."""
    from torch.distributed.rendezvous import rendezvous

    if not here.is_main:
        _knock(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    store, _, _ = next(rendezvous("env://", here.rank, here.world_size, timeout=timedelta(seconds=INIT_SECONDS)))
    return store


def _knock(host: str, port: int) -> None:
    """Wait until somebody listens there: torch's own attempt lasts twice as long as it is told to, and is noisy.

    Raises:
        OSError: nobody does within `INIT_SECONDS`.
    """
    until = time.monotonic() + INIT_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=max(0.1, until - time.monotonic())).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def unreachable(here: DistEnv, error: Exception) -> TrainingError:
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TrainingError(
        f"{address}: process {here.rank} of {here.world_size} ({socket.gethostname()}) did not find the others within"
        f" {INIT_SECONDS:g} s: {why}",
        next_step="see that all processes were started, and that each machine can reach this address and port",
    )


def tell(decision: Mapping[str, Any]) -> None:
    """Let the other processes know what rank 0 has decided; they wait for it."""
    group().store.set(_DECISION, json.dumps(decision))


def told() -> dict[str, Any]:
    """Wait for rank 0's decision and return it.

    Raises:
        PeerError: rank 0, or another, cannot go on, and has said why.
    """
    return dict(json.loads(values([_DECISION], WORK_SECONDS)[0]))


def values(keys: Sequence[str], seconds: float) -> list[bytes]:
    """Wait for keys of the store and return their values; give up as soon as another process has failed."""
    them, until = group(), time.monotonic() + seconds
    try:
        while keys and not them.store.check(list(keys)):
            if them.store.check([_FAILURE]) or time.monotonic() > until:
                raise lost()
            time.sleep(0.1)
        return [bytes(them.store.get(key)) for key in keys]
    except RuntimeError as error:
        raise lost() from error


def meet(where: str) -> None:
    """Wait until all processes have come this far, or one has said that it cannot."""
    them = group()
    them.store.set(f"{where}/{them.place.rank}", "")
    values([f"{where}/{rank}" for rank in range(them.place.world_size)], WORK_SECONDS)


def together(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap what rank 0 does, so that its errors reach those who wait for it, and theirs reach the user once."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not dist_env().is_distributed:
            return function(*args, **kwargs)
        quieten_torch()
        group()
        try:
            return function(*args, **kwargs)
        except FmaskError as error:
            _pass_on(error)
            raise

    return wrapper


def quieten_torch() -> None:
    """Let torch's C++ part tell errors alone, not of each process what is none of the user's doing, and wait calmly.

    Both are read when torch is imported, by this process or those that it starts (`engine` comes too late for that).
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _pass_on(error: FmaskError) -> None:
    """Leave word of an error for the processes that will find this one gone."""
    if isinstance(error, PeerError):
        return
    them = group()
    word = {"rank": them.place.rank, "host": socket.gethostname(), "message": str(error)}
    try:
        them.store.set(_FAILURE, json.dumps(word))
    except RuntimeError:
        _log.debug("the store is gone too")


def lost(error: BaseException | None = None) -> PeerError:
    """Return the error of a process that the others have left: what one of them has said, or that it is gone.

    It needs no telling on the machine where it was said, nor more than once on a machine.
    """
    them = group()
    word = _word(them)
    if word is None:
        return PeerError(
            f"one of the {them.place.world_size} training processes is gone: it was killed, ran out of memory, or its"
            f" machine cannot be reached{_backend_says(error)}",
            told=not _claimed(them),
        )
    here = word["host"] == socket.gethostname()
    said = f"process {word['rank']} on {word['host']} stopped: {word['message']}"
    return PeerError(said, told=here or not _claimed(them))


def _backend_says(error: BaseException | None) -> str:
    """Return what NCCL has to say, which may be of a setting; gloo only says which socket was closed."""
    from torch import distributed as dist

    return f" ({str(error).splitlines()[0]})" if isinstance(error, dist.DistBackendError) and str(error) else ""


def _claimed(them: Group) -> bool:
    """Say if this process is the first of its machine to tell what it has seen of the others."""
    try:
        return bool(them.store.add(f"told/{socket.gethostname()}", 1) == 1)
    except RuntimeError:  # whoever kept the store is gone
        return True


def _word(them: Group) -> dict[str, Any] | None:
    try:
        return dict(json.loads(them.store.get(_FAILURE))) if them.store.check([_FAILURE]) else None
    except RuntimeError:  # whoever kept the store is gone
        return None


def is_lost(error: BaseException) -> bool:
    """Say if an error is that another process is gone, and no fault of this one."""
    from torch import distributed as dist

    network = isinstance(error, (dist.DistError, ConnectionError))
    return network or (isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _LOST))
