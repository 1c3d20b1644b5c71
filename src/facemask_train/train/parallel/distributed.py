"""Training on more than one device: the run that rank 0 makes and the others follow, and the trainer's part in it.

The processes are started by torch's own elastic launcher (`launch.py`) or by `torchrun`, on one machine or several that
share the root folder; `meeting.py` has them find each other. Not verified for want of machines: NCCL between several.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from facemask_train.core.dist_env import NAMES, dist_env
from facemask_train.core.errors import FmaskError, StorageError, TrainingError
from facemask_train.train.parallel.devices import backend_of, check_batch, devices_of
from facemask_train.train.parallel.rendezvous import (
    INIT_SECONDS,
    WORK_SECONDS,
    group,
    is_lost,
    lost,
    meet,
    tell,
    told,
    unreachable,
    values,
)
from facemask_train.train.runs import read_run

VISIBLE_SECONDS = 15.0
"""How long a folder that rank 0 has made may take to be seen by the others: network file systems cache."""

_PATHS = ("data", "save_dir", "model", "resume")


def describe(wanted: str, batch: int) -> dict[str, Any]:
    """Return what `run.json` says of the devices: of each process its machine, its device and its share of the batch.

    Raises:
        UsageError: the batch cannot be divided among them, or one has no device.
    """
    if not dist_env().is_distributed:
        return {"processes": 1, "ranks": [_rank(0, socket.gethostname(), wanted, batch)]}
    them = group()
    check_batch(batch, them.place.world_size)
    devices = devices_of(wanted, them.members)
    share = batch // them.place.world_size
    ranks = [
        _rank(rank, member.host, device, share)
        for rank, (member, device) in enumerate(zip(them.members, devices, strict=True))
    ]
    return {"processes": them.place.world_size, "backend": backend_of(devices[0]), "ranks": ranks}


def _rank(rank: int, host: str, device: str, batch: int) -> dict[str, Any]:
    return {"rank": rank, "host": host, "device": device, "batch": batch}


def announce(root: Path, folder: Path, wanted: str, chosen: Mapping[str, Any], asked: Mapping[str, Any] | None) -> None:
    """Tell the others the run, what was chosen, and what the trainer is asked; None: there is nothing left to train."""
    if dist_env().is_distributed:
        mark = {"root": str(root.resolve()), "run": folder.name, "started": read_run(folder)["started"]}
        tell(mark | {"device": wanted, "chosen": chosen, "asked": asked})


def follow(root: Path, build: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]) -> str:
    """Train as rank 0 has decided; return the run's name.

    Args:
        build: makes the trainer from what it is asked and what was chosen.

    Raises:
        PeerError: rank 0, or another, cannot go on.
        StorageError: rank 0's run folder is not to be seen from here.
    """
    decision = told()
    folder = root / "runs" / decision["run"]
    _see(folder, decision["started"])
    asked = decision["asked"]
    if asked is not None:
        overrides = rerooted(asked["overrides"], decision["root"], str(root.resolve()))
        _check_paths(overrides)
        them = group()
        overrides["device"] = devices_of(decision["device"], them.members)[them.place.rank]
        fit(lambda: build(asked | {"overrides": overrides}, decision["chosen"]), folder)
    return str(folder.name)


def _see(folder: Path, started: str) -> None:
    """Wait until the folder that rank 0 has made is seen here too."""
    until = time.monotonic() + VISIBLE_SECONDS
    while not _is_run(folder, started):
        if time.monotonic() > until:
            raise StorageError(
                f"{folder}: expected the run folder that rank 0 ({group().members[0].host}) has made, found none on"
                f" {socket.gethostname()}",
                next_step="all machines need the same root folder: share it (NFS or the like), and name it with --root",
            )
        time.sleep(0.2)


def _is_run(folder: Path, started: str) -> bool:
    try:
        return bool(read_run(folder)["started"] == started)
    except FmaskError:
        return False


def rerooted(overrides: Mapping[str, Any], theirs: str, mine: str) -> dict[str, Any]:
    """Return a trainer's settings with the paths below rank 0's root taken to be below one's own."""
    found = dict(overrides)
    for key in _PATHS:
        value = found.get(key)
        if isinstance(value, str) and Path(value).is_relative_to(theirs):
            found[key] = str(mine / Path(value).relative_to(theirs))
    return found


def _check_paths(overrides: Mapping[str, Any]) -> None:
    for key in ("data", "model"):
        path = Path(overrides[key])
        if path.is_absolute() and not path.exists():
            raise StorageError(
                f"{path}: rank 0 has this file, {socket.gethostname()} has not",
                next_step="put it below the root folder that all machines share",
            )


def fit(build: Callable[[], Any], folder: Path) -> None:
    """Run the trainer that is built in this process, as rank 0 or another.

    Raises:
        TrainingError: training stopped; PeerError where another process is the cause.
    """
    from facemask_train.model.ultralytics_compat import open_ultralytics

    open_ultralytics()
    try:
        trainer = build()
        trainer.train()
        compare(trainer)
        leave()
    except (FmaskError, OSError):  # OSError: a full disk, named by `storage_errors`
        raise
    except Exception as error:  # the package raises anything; one place makes it ours, with the run and the way on
        way_on = f"fmask train --resume --name {folder.name} (goes on from the last finished epoch)"
        if dist_env().is_distributed and is_lost(error):
            peer = lost(error)
            peer.next_step = way_on
            raise peer from error
        raise TrainingError(f"{folder}: training stopped: {type(error).__name__}: {error}", next_step=way_on) from error


# ---- the trainer's part ----


def take_part(trainer: Any) -> None:
    """Give the package's trainer the true number of processes: it counts the devices named, and none on a CPU."""
    if dist_env().is_distributed:
        trainer.world_size, trainer.ddp = dist_env().world_size, False
        trainer.callbacks["on_train_epoch_end"].insert(0, _average_losses)


def join(trainer: Any) -> None:
    """Open the process group that the trainer's model is wrapped for.

    Raises:
        TrainingError: the processes do not find each other.
    """
    import torch
    from torch import distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    them = group()
    meet("ready")
    if trainer.device.type == "cpu":
        torch.nn.parallel.DistributedDataParallel = _on_cpu()  # type: ignore[misc]
    try:
        dist.init_process_group(
            backend_of(trainer.device.type),
            store=PrefixStore("group", them.store),
            rank=them.place.rank,
            world_size=them.place.world_size,
            timeout=timedelta(seconds=WORK_SECONDS),
        )
    except RuntimeError as error:
        raise unreachable(them.place, error) from error


def _on_cpu() -> Any:
    """Return torch's wrapper without `device_ids`, of which the trainer passes `[None]` on a CPU."""
    import torch

    stock: Any = torch.nn.parallel.DistributedDataParallel
    if stock.__name__ != "DistributedDataParallel":
        return stock

    class OnCpu(stock):  # type: ignore[misc]
        def __init__(self, module: Any, **settings: Any) -> None:
            super().__init__(module, **(settings | {"device_ids": None}))

    return OnCpu


def _average_losses(trainer: Any) -> None:
    """Let the losses of an epoch's row be of all images: each process has seen a share of them."""
    from torch import distributed as dist

    for key, value in trainer.tloss.items():
        total = value.detach().clone()
        dist.all_reduce(total)
        trainer.tloss[key] = total / dist.get_world_size()


def compare(trainer: Any) -> None:
    """Leave a digest of this process's parameters at the end of training, for rank 0 to compare."""
    if dist_env().is_distributed:
        them = group()
        them.store.set(f"digest/{them.place.rank}", digest(trainer.model))


def digest(model: Any) -> str:
    """Return the sha256 of a model's parameters, in hex."""
    import hashlib

    found = hashlib.sha256()
    for parameter in model.parameters():
        found.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def apart(*, trained: bool) -> dict[str, Any]:
    """Take rank 0 out of the group when training is over, and return the digest of the parameters of each process.

    What is left to do is done in this process alone, as in one that never was of several: the package would wait for
    the others, wherever it has kept the rank that it read when it was imported.

    Raises:
        PeerError: one of them is gone.
        TrainingError: the parameters differ: the processes have trained different models.
    """
    if not dist_env().is_distributed:
        return {}
    keys = [f"digest/{rank}" for rank in range(group().place.world_size)] if trained else []
    found = [value.decode() for value in values(keys, INIT_SECONDS)]
    if len(set(found)) > 1:
        raise TrainingError(
            f"expected the same parameters in all processes, found {', '.join(one[:12] for one in found)}",
            next_step="train on one device, and report this",
        )
    for name in NAMES:
        os.environ.pop(name, None)
    for module in [module for name, module in sys.modules.items() if name.startswith("ultralytics")]:
        for name in ("RANK", "LOCAL_RANK"):
            if name in vars(module):
                setattr(module, name, -1)
    return {"parameters": found} if trained else {}


def leave() -> None:
    """Close the process group, if there is one: whoever has no more part goes, and nobody waits for anybody."""
    from torch import distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
