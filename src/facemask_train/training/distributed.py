"""Training on more than one device: who takes part, what rank 0 has decided, and the trainer's part in it.

The processes are started by torch's own elastic launcher (`launch.py`) or by `torchrun`, on one machine or several that
share the root folder. They talk through torch's key-value store before there is a process group, and where it broke.
Not verified for want of machines: NCCL between several machines.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from facemask_train.errors import FmaskError, PeerError, StorageError, TrainingError, UsageError
from facemask_train.ranks import NAMES, Place, place
from facemask_train.training.runs import read_run

INIT_SECONDS = 60.0
"""How long the processes may take to find each other."""

WORK_SECONDS = 1800.0
"""How long one of them may keep the others waiting: rank 0 may download weights, and validates alone."""

VISIBLE_SECONDS = 15.0
"""How long a folder that rank 0 has made may take to be seen by the others: network file systems cache."""

_DECISION, _FAILURE = "decision", "failure"
_PATHS = ("data", "save_dir", "model", "resume")
_LOST = ("closed by peer", "reset by peer", "gloo", "nccl", "broken pipe", "timed out waiting")
_log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Member:
    """One process: where it runs, and how many GPUs it sees there."""

    place: Place
    host: str
    gpus: int


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """All processes of one training, seen from this one. `store` is torch's key-value store."""

    place: Place
    members: tuple[Member, ...]
    store: Any


# ---- devices, in pure functions ----


def device_list(wanted: str) -> tuple[str, ...]:
    """Return the devices that `--device` names: `0,1` two GPUs, `cpu,cpu` two processes; empty: whatever is there.

    Raises:
        UsageError: one is named twice, or they are of two kinds, or one is no device.
    """
    if not wanted:
        return ()
    found = tuple(part.strip().removeprefix("cuda:") for part in wanted.split(","))
    if not all(part.isdecimal() for part in found) and set(found) != {"cpu"}:
        raise _no_devices(wanted, "GPU numbers, or cpu once for each process")
    if found[0] != "cpu" and len(set(found)) != len(found):
        raise _no_devices(wanted, "each GPU once")
    return found


def _no_devices(wanted: str, expected: str) -> UsageError:
    return UsageError(f"--device {wanted}: expected {expected}", next_step="for example --device 0,1 (or cpu,cpu)")


def device_of(wanted: str, member: Member) -> str:
    """Return the one device of a process: the GPU or `cpu` at its local rank.

    Raises:
        UsageError: there are fewer devices than processes on its machine.
    """
    named = device_list(wanted) or (("cpu",) if not member.gpus else tuple(map(str, range(member.gpus))))
    here = member.place
    if named == ("cpu",) or len(named) == 1 == here.local_world:
        return named[0]
    if len(named) < here.local_world:
        raise UsageError(
            f"{member.host}: expected a device for each of its {here.local_world} processes, found {', '.join(named)}",
            next_step=f"start {len(named)} there (--nproc-per-node {len(named)}), or name more with --device",
        )
    return named[here.local_rank]


def devices_of(wanted: str, members: tuple[Member, ...]) -> tuple[str, ...]:
    """Return the device of each process, by rank.

    Raises:
        UsageError: a process has none, its machine lacks the GPU, or some are on GPUs and some are not.
    """
    found = tuple(device_of(wanted, member) for member in members)
    for device, member in zip(found, members, strict=True):
        if device != "cpu" and int(device) >= member.gpus:
            raise UsageError(
                f"--device {wanted}: torch finds {member.gpus} GPUs on {member.host}, not number {device}",
                next_step="name GPUs that are there, or --device cpu,cpu",
            )
    if "cpu" in found and set(found) != {"cpu"}:
        raise UsageError(
            f"some processes have a GPU and some have none: {', '.join(found)}",
            next_step="--device cpu, or start processes only where there are GPUs",
        )
    return found


def check_batch(batch: int, world: int) -> None:
    """See that a batch, which is of all processes together, can be divided among them.

    Raises:
        UsageError: it cannot.
    """
    if batch % world:
        near = sorted({max(world, batch // world * world), (batch // world + 1) * world})
        raise UsageError(
            f"--batch {batch}: expected a multiple of {world}, since the batch is shared by {world} processes",
            next_step=f"--batch {' or '.join(map(str, near))}",
        )


def check_devices(wanted: str, batch: int) -> None:
    """See that this machine has the devices that are to train together, before a process is started for each.

    Raises:
        UsageError: it has not, or the batch cannot be divided among them.
    """
    import torch

    count = len(device_list(wanted))
    check_batch(batch, count)
    gpus = torch.cuda.device_count()
    devices_of(wanted, tuple(Member(Place(rank, count, rank, count), "this machine", gpus) for rank in range(count)))


# ---- how the processes find each other and agree ----


@functools.cache
def group() -> Group:
    """Return the processes that train together, once all of them have said that they are there.

    Raises:
        UsageError: no launcher has started this process as one of several.
        TrainingError: they do not find each other within `INIT_SECONDS`.
    """
    here = place()
    if not here.several:
        raise UsageError("this process trains alone", next_step="fmask train --device 0,1, or torchrun")
    import torch
    from torch.distributed.distributed_c10d import PrefixStore

    try:
        store = PrefixStore("fmask", _reach(here))
        about = {"host": socket.gethostname(), "gpus": torch.cuda.device_count()}
        store.set(f"here/{here.rank}", json.dumps(about | {"place": _numbers(here)}))
        store.wait([f"here/{rank}" for rank in range(here.world)], timedelta(seconds=INIT_SECONDS))
        told = [json.loads(store.get(f"here/{rank}")) for rank in range(here.world)]
    except (RuntimeError, OSError, ValueError) as error:
        raise _unreachable(here, error) from error
    members = tuple(Member(Place(*one["place"]), one["host"], one["gpus"]) for one in told)
    return Group(here, members, store)


def _numbers(here: Place) -> tuple[int, int, int, int]:
    return here.rank, here.world, here.local_rank, here.local_world


def _reach(here: Place) -> Any:
    """Return the store that the launcher (or rank 0) keeps."""
    from torch.distributed.rendezvous import rendezvous

    if not here.leads:
        _knock(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    store, _, _ = next(rendezvous("env://", here.rank, here.world, timeout=timedelta(seconds=INIT_SECONDS)))
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


def _unreachable(here: Place, error: Exception) -> TrainingError:
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TrainingError(
        f"{address}: process {here.rank} of {here.world} ({socket.gethostname()}) did not find the others within"
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
    return dict(json.loads(_values([_DECISION], WORK_SECONDS)[0]))


def _values(keys: Sequence[str], seconds: float) -> list[bytes]:
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


def together(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap what rank 0 does, so that its errors reach those who wait for it, and theirs reach the user once."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not place().several:
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
            f"a process of the {them.place.world} that train together is gone: it was killed, ran out of memory, or its"
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


# ---- the run: rank 0 makes it, the others see it ----


def describe(wanted: str, batch: int) -> dict[str, Any]:
    """Return what `run.json` says of the devices: of each process its machine, its device and its share of the batch.

    Raises:
        UsageError: the batch cannot be divided among them, or one has no device.
    """
    if not place().several:
        return {"processes": 1, "ranks": [_rank(0, socket.gethostname(), wanted, batch)]}
    them = group()
    check_batch(batch, them.place.world)
    devices = devices_of(wanted, them.members)
    share = batch // them.place.world
    ranks = [
        _rank(rank, member.host, device, share)
        for rank, (member, device) in enumerate(zip(them.members, devices, strict=True))
    ]
    return {"processes": them.place.world, "backend": backend_of(devices[0]), "ranks": ranks}


def _rank(rank: int, host: str, device: str, batch: int) -> dict[str, Any]:
    return {"rank": rank, "host": host, "device": device, "batch": batch}


def backend_of(device: str) -> str:
    return "gloo" if device == "cpu" else "nccl"


def announce(root: Path, folder: Path, wanted: str, chosen: Mapping[str, Any], asked: Mapping[str, Any] | None) -> None:
    """Tell the others the run, what was chosen, and what the trainer is asked; None: there is nothing left to train."""
    if place().several:
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
    from facemask_train.engine import open_ultralytics

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
        if place().several and is_lost(error):
            peer = lost(error)
            peer.next_step = way_on
            raise peer from error
        raise TrainingError(f"{folder}: training stopped: {type(error).__name__}: {error}", next_step=way_on) from error


# ---- the trainer's part ----


def take_part(trainer: Any) -> None:
    """Give the package's trainer the true number of processes: it counts the devices named, and none on a CPU."""
    if place().several:
        trainer.world_size, trainer.ddp = place().world, False
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
    _meet("ready")
    if trainer.device.type == "cpu":
        torch.nn.parallel.DistributedDataParallel = _on_cpu()  # type: ignore[misc]
    try:
        dist.init_process_group(
            backend_of(trainer.device.type),
            store=PrefixStore("group", them.store),
            rank=them.place.rank,
            world_size=them.place.world,
            timeout=timedelta(seconds=WORK_SECONDS),
        )
    except RuntimeError as error:
        raise _unreachable(them.place, error) from error


def _meet(where: str) -> None:
    """Wait until all processes have come this far, or one has said that it cannot."""
    them = group()
    them.store.set(f"{where}/{them.place.rank}", "")
    _values([f"{where}/{rank}" for rank in range(them.place.world)], WORK_SECONDS)


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
    """Let the losses of an epoch's row be of all pictures: each process has seen a share of them."""
    from torch import distributed as dist

    for key, value in trainer.tloss.items():
        total = value.detach().clone()
        dist.all_reduce(total)
        trainer.tloss[key] = total / dist.get_world_size()


def compare(trainer: Any) -> None:
    """Leave a digest of this process's parameters at the end of training, for rank 0 to compare."""
    if place().several:
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
    if not place().several:
        return {}
    keys = [f"digest/{rank}" for rank in range(group().place.world)] if trained else []
    found = [value.decode() for value in _values(keys, INIT_SECONDS)]
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
