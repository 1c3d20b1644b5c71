"""Distributed training: the run that the main process creates and the others follow, and what the trainer needs.

torch's elastic launcher (`launcher.py`) or `torchrun` starts the processes, on one machine or on several that share the
root folder; in `rendezvous.py` they find each other. NCCL between several machines has not been tested.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from facemask_train.core.dist_env import NAMES, dist_env
from facemask_train.core.errors import FmaskError, StorageError, TrainingError
from facemask_train.core.records import parse, to_json
from facemask_train.training.parallel.devices import backend_of, check_batch, devices_of
from facemask_train.training.parallel.rendezvous import (
    INIT_SECONDS,
    WORK_SECONDS,
    barrier,
    broadcast,
    is_peer_failure,
    join_group,
    peer_error,
    receive,
    unreachable,
    wait_for_keys,
)
from facemask_train.training.plan import ProcessPlan, TrainPlan
from facemask_train.training.runs import read_run

if TYPE_CHECKING:
    import torch

VISIBLE_SECONDS = 15.0
"""How long the other processes wait for a folder that the main process has created: network file systems cache."""


class TrainerLike(Protocol):
    """What this module needs of the trainer, which imports it."""

    world_size: int
    ddp: bool
    callbacks: dict[str, list[Callable[[Any], None]]]
    device: torch.device
    model: torch.nn.Module
    tloss: dict[str, torch.Tensor]

    def train(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the main process tells the others: the run, and how to train it.

    Attributes:
        root: the root folder, as the main process sees it.
        run: the run's name, and the time when it was `started`, by which the others recognize its folder.
        data: the path of the data.yaml.
        checkpoint: the checkpoint to resume from, or empty.
        train: False if no epochs are left to train.
    """

    root: str
    run: str
    started: str
    project: str
    plan: TrainPlan
    data: str
    checkpoint: str = ""
    train: bool = True


def plan_processes(requested: str, batch: int) -> tuple[ProcessPlan, ...]:
    """Return each process's machine, device and share of the batch, by rank.

    Args:
        requested: the value of `--device`.
        batch: images per batch over all processes.

    Raises:
        UsageError: the batch cannot be divided among the processes, or one has no device.
    """
    if not dist_env().is_distributed:
        return (ProcessPlan(0, socket.gethostname(), requested, batch),)
    group = join_group()
    check_batch(batch, group.env.world_size)
    devices = devices_of(requested, group.members)
    return tuple(
        ProcessPlan(rank, member.host, device, batch // group.env.world_size)
        for rank, (member, device) in enumerate(zip(group.members, devices, strict=True))
    )


def announce(assignment: Assignment) -> None:
    """Send the assignment to the other processes, if there are any."""
    if dist_env().is_distributed:
        broadcast(json.dumps(to_json(assignment)))


def follow(root: Path, build: Callable[[Assignment, str], TrainerLike]) -> str:
    """Train as the main process has decided; return the run's name.

    Args:
        build: constructs the trainer from the assignment and this process's device.

    Raises:
        PeerError: another process failed.
        StorageError: the run folder of the main process is not visible here.
    """
    assignment = relocate(parse(Assignment, json.loads(receive()), "the assignment", "fmask train"), root)
    folder = root / "runs" / assignment.run
    _wait_for_folder(folder, assignment.started)
    if assignment.train:
        _check_paths(assignment)
        device = assignment.plan.processes[join_group().env.rank].device
        fit(lambda: build(assignment, device), folder)
    return assignment.run


def _wait_for_folder(folder: Path, started: str) -> None:
    until = time.monotonic() + VISIBLE_SECONDS
    while not _is_run(folder, started):
        if time.monotonic() > until:
            raise StorageError(
                f"{folder}: expected the run folder that the main process ({join_group().members[0].host}) created,"
                f" found none on {socket.gethostname()}",
                next_step="all machines need the same root folder: share it (with NFS, for example) and give --root",
            )
        time.sleep(0.2)


def _is_run(folder: Path, started: str) -> bool:
    try:
        return read_run(folder).started == started
    except FmaskError:
        return False


def relocate(assignment: Assignment, root: Path) -> Assignment:
    """Return the assignment with the paths below the main process's root moved below this process's root."""
    mine = root.resolve()

    def moved(path: str) -> str:
        inside = bool(path) and Path(path).is_relative_to(assignment.root)
        return str(mine / Path(path).relative_to(assignment.root)) if inside else path

    return replace(
        assignment,
        root=str(mine),
        data=moved(assignment.data),
        checkpoint=moved(assignment.checkpoint),
        plan=replace(assignment.plan, weights=moved(assignment.plan.weights)),
    )


def _check_paths(assignment: Assignment) -> None:
    for path in map(Path, (assignment.data, assignment.checkpoint or assignment.plan.weights)):
        if path.is_absolute() and not path.exists():
            raise StorageError(
                f"{path}: the main process has this file, {socket.gethostname()} does not",
                next_step="put it below the root folder that all machines share",
            )


def fit(build: Callable[[], TrainerLike], folder: Path) -> None:
    """Build the trainer and train, in the main process or another one.

    Raises:
        TrainingError: training stopped.
        PeerError: training stopped because of another process.
    """
    from facemask_train.model.ultralytics_compat import open_ultralytics

    open_ultralytics()
    try:
        trainer = build()
        trainer.train()
        publish_digest(trainer)
        leave_group()
    except (FmaskError, OSError):  # OSError: a full disk, which `storage_errors` explains
        raise
    except Exception as error:  # the package can raise anything: it is wrapped here, once
        next_step = f"fmask train --resume --name {folder.name} (continues after the last finished epoch)"
        if dist_env().is_distributed and is_peer_failure(error):
            peer = peer_error(error)
            peer.next_step = next_step
            raise peer from error
        raise TrainingError(
            f"{folder}: training stopped: {type(error).__name__}: {error}", next_step=next_step
        ) from error


# ---- called by the trainer ----


def set_world_size(trainer: TrainerLike) -> None:
    """Set the trainer's number of processes: the package counts the named devices, and none on a CPU."""
    if dist_env().is_distributed:
        trainer.world_size, trainer.ddp = dist_env().world_size, False
        trainer.callbacks["on_train_epoch_end"].insert(0, _average_losses)


def init_process_group(trainer: TrainerLike) -> None:
    """Initialize torch's process group.

    Raises:
        TrainingError: the processes do not find each other.
    """
    import torch
    from torch import distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    group = join_group()
    barrier("ready")
    if trainer.device.type == "cpu":
        torch.nn.parallel.DistributedDataParallel = _ddp_for_cpu()  # type: ignore[misc]
    try:
        dist.init_process_group(
            backend_of(trainer.device.type),
            store=PrefixStore("group", group.store),
            rank=group.env.rank,
            world_size=group.env.world_size,
            timeout=timedelta(seconds=WORK_SECONDS),
        )
    except RuntimeError as error:
        raise unreachable(group.env, error) from error


def _ddp_for_cpu() -> Any:
    """Return torch's wrapper that ignores `device_ids`: on a CPU the trainer passes `[None]`."""
    import torch

    stock: Any = torch.nn.parallel.DistributedDataParallel
    if stock.__name__ != "DistributedDataParallel":
        return stock

    class DistributedDataParallelOnCpu(stock):  # type: ignore[misc]
        def __init__(self, module: Any, **settings: Any) -> None:
            super().__init__(module, **(settings | {"device_ids": None}))

    return DistributedDataParallelOnCpu


def _average_losses(trainer: TrainerLike) -> None:
    """Average the epoch's losses over the processes, each of which has seen a share of the images."""
    from torch import distributed as dist

    for key, value in trainer.tloss.items():
        total = value.detach().clone()
        dist.all_reduce(total)
        trainer.tloss[key] = total / dist.get_world_size()


def publish_digest(trainer: TrainerLike) -> None:
    """Publish a digest of this process's final parameters, for the main process to compare."""
    if dist_env().is_distributed:
        group = join_group()
        group.store.set(f"digest/{group.env.rank}", parameter_digest(trainer.model))


def parameter_digest(model: torch.nn.Module) -> str:
    """Return the sha256 of a model's parameters, in hex."""
    import hashlib

    found = hashlib.sha256()
    for parameter in model.parameters():
        found.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def detach_main_process(*, trained: bool) -> tuple[str, ...]:
    """Take the main process out of the group after training; return the digest of each process's parameters.

    The rest is done in this process alone, as if it had never been one of several: the package would otherwise wait
    for the others wherever it has stored the rank that it read when it was imported.

    Raises:
        PeerError: another process is gone.
        TrainingError: the parameters differ, so the processes have trained different models.
    """
    if not dist_env().is_distributed:
        return ()
    keys = [f"digest/{rank}" for rank in range(join_group().env.world_size)] if trained else []
    digests = tuple(value.decode() for value in wait_for_keys(keys, INIT_SECONDS))
    if len(set(digests)) > 1:
        raise TrainingError(
            f"expected the same parameters in all processes, found {', '.join(one[:12] for one in digests)}",
            next_step="train on one device, and report this",
        )
    for name in NAMES:
        os.environ.pop(name, None)
    for module in [module for name, module in sys.modules.items() if name.startswith("ultralytics")]:
        for name in ("RANK", "LOCAL_RANK"):
            if name in vars(module):
                setattr(module, name, -1)
    return digests


def leave_group() -> None:
    """Destroy the process group, if there is one, so that no process waits for another."""
    from torch import distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
