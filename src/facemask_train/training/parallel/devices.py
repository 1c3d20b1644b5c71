"""Assign the devices that `--device` names to the training processes."""

from __future__ import annotations

from dataclasses import dataclass

from facemask_train.core.dist_env import DistEnv
from facemask_train.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Member:
    """One training process: its environment, its machine, and how many GPUs it sees there."""

    env: DistEnv
    host: str
    gpus: int


def device_list(requested: str) -> tuple[str, ...]:
    """Split the value of `--device`: `0,1` names two GPUs, `cpu,cpu` two processes. Empty: no device was named.

    Raises:
        UsageError: a device is named twice, CPU and GPUs are mixed, or a name is not a device.
    """
    if not requested:
        return ()
    found = tuple(part.strip().removeprefix("cuda:") for part in requested.split(","))
    if not all(part.isdecimal() for part in found) and set(found) != {"cpu"}:
        raise _invalid_devices(requested, "GPU numbers, or `cpu` once for each process")
    if found[0] != "cpu" and len(set(found)) != len(found):
        raise _invalid_devices(requested, "each GPU once")
    return found


def _invalid_devices(requested: str, expected: str) -> UsageError:
    return UsageError(f"--device {requested}: expected {expected}", next_step="for example --device 0,1 (or cpu,cpu)")


def device_of(requested: str, member: Member) -> str:
    """Return the device of one process: the GPU or `cpu` at its local rank.

    Raises:
        UsageError: the machine has fewer devices than processes.
    """
    named = device_list(requested) or (("cpu",) if not member.gpus else tuple(map(str, range(member.gpus))))
    env = member.env
    if named == ("cpu",) or len(named) == 1 == env.local_world_size:
        return named[0]
    if len(named) < env.local_world_size:
        raise UsageError(
            f"{member.host}: expected a device for each of its {env.local_world_size} processes,"
            f" found {', '.join(named)}",
            next_step=f"start {len(named)} there (--nproc-per-node {len(named)}), or name more with --device",
        )
    return named[env.local_rank]


def devices_of(requested: str, members: tuple[Member, ...]) -> tuple[str, ...]:
    """Return the device of each process, by rank.

    Raises:
        UsageError: a process has no device, its machine lacks the GPU, or CPU and GPUs are mixed.
    """
    found = tuple(device_of(requested, member) for member in members)
    for device, member in zip(found, members, strict=True):
        if device != "cpu" and int(device) >= member.gpus:
            raise UsageError(
                f"--device {requested}: torch finds {member.gpus} GPUs on {member.host}, not number {device}",
                next_step="name GPUs that are there, or --device cpu,cpu",
            )
    if "cpu" in found and set(found) != {"cpu"}:
        raise UsageError(
            f"some processes have a GPU and some have none: {', '.join(found)}",
            next_step="--device cpu, or start processes only where there are GPUs",
        )
    return found


def check_batch(batch: int, world: int) -> None:
    """Check that a batch can be divided evenly among the processes.

    Raises:
        UsageError: it cannot.
    """
    if batch % world:
        nearest = sorted({max(world, batch // world * world), (batch // world + 1) * world})
        raise UsageError(
            f"--batch {batch}: expected a multiple of {world}, since the batch is shared by {world} processes",
            next_step=f"--batch {' or '.join(map(str, nearest))}",
        )


def check_devices(requested: str, batch: int) -> None:
    """Check that this machine has the named devices, before a process is started for each.

    Raises:
        UsageError: it has not, or the batch cannot be divided among them.
    """
    import torch

    count = len(device_list(requested))
    check_batch(batch, count)
    gpus = torch.cuda.device_count()
    devices_of(
        requested, tuple(Member(DistEnv(rank, count, rank, count), "this machine", gpus) for rank in range(count))
    )


def backend_of(device: str) -> str:
    """Return the communication backend for a device."""
    return "gloo" if device == "cpu" else "nccl"
