"""Which device each process of a training gets: what `--device` names, divided among them."""

from __future__ import annotations

from dataclasses import dataclass

from facemask_train.core.dist_env import DistEnv
from facemask_train.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Member:
    """One process: where it runs, and how many GPUs it sees there."""

    place: DistEnv
    host: str
    gpus: int


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
    if named == ("cpu",) or len(named) == 1 == here.local_world_size:
        return named[0]
    if len(named) < here.local_world_size:
        raise UsageError(
            f"{member.host}: expected a device for each of its {here.local_world_size} processes,"
            f" found {', '.join(named)}",
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
    devices_of(wanted, tuple(Member(DistEnv(rank, count, rank, count), "this machine", gpus) for rank in range(count)))


def backend_of(device: str) -> str:
    return "gloo" if device == "cpu" else "nccl"
