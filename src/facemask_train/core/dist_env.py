"""The process's rank and world size, as `torchrun` sets them in the environment. Does not import torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from facemask_train.core.errors import UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class DistEnv:
    """One of `world_size` training processes, `local_world_size` of them on this machine. Ranks count from 0."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.world_size > 1


def dist_env(environ: Mapping[str, str] = os.environ) -> DistEnv:
    """Return this process's `DistEnv`; a single process when the launcher variables are not set.

    Raises:
        UsageError: the variables are not as `torchrun` sets them.
    """
    if environ.get("WORLD_SIZE", "1") == "1":
        return DistEnv()
    missing = [name for name in NAMES if not environ.get(name)]
    if missing:
        raise _invalid(f"WORLD_SIZE={environ['WORLD_SIZE']} is set, but {', '.join(missing)} is not")
    try:
        rank, world_size, local_rank, local_world_size = (int(environ[name]) for name in NAMES[:4])
    except ValueError as error:
        raise _invalid(str(error)) from error
    if not (0 <= rank < world_size and 0 <= local_rank < local_world_size <= world_size):
        raise _invalid(f"RANK={rank} of {world_size}, LOCAL_RANK={local_rank} of {local_world_size}")
    return DistEnv(rank, world_size, local_rank, local_world_size)


def is_worker(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether another process reports for this one. False if the environment is invalid, so that it shows."""
    try:
        return not dist_env(environ).is_main
    except UsageError:
        return False


def _invalid(found: str) -> UsageError:
    return UsageError(
        f"the environment: expected {', '.join(NAMES)} as torchrun sets them, found: {found}",
        next_step="start with torchrun ... -m facemask_train train, or unset WORLD_SIZE to train in one process",
    )


def cores_per_process(cores: int, env: DistEnv) -> int:
    """Return this process's share of the machine's cores."""
    return max(1, cores // env.local_world_size)
