"""Where a process stands among those that train together, as `torchrun` tells it in the environment. Knows no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from facemask_train.core.errors import UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Place:
    """One process of `world`, on a machine that holds `local_world` of them. Ranks count from 0; rank 0 leads."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.world > 1


def place(environ: Mapping[str, str] = os.environ) -> Place:
    """Return this process's place; a process of its own where no launcher speaks of more than one.

    Raises:
        UsageError: the variables are not those that `torchrun` sets.
    """
    if environ.get("WORLD_SIZE", "1") == "1":
        return Place()
    missing = [name for name in NAMES if not environ.get(name)]
    if missing:
        raise _wrong(f"WORLD_SIZE={environ['WORLD_SIZE']} is set, and {', '.join(missing)} not")
    try:
        rank, world, local_rank, local_world = (int(environ[name]) for name in NAMES[:4])
    except ValueError as error:
        raise _wrong(str(error)) from error
    if not (0 <= rank < world and 0 <= local_rank < local_world <= world):
        raise _wrong(f"RANK={rank} of {world}, LOCAL_RANK={local_rank} of {local_world}")
    return Place(rank, world, local_rank, local_world)


def follows(environ: Mapping[str, str] = os.environ) -> bool:
    """Say if another process speaks for this one; what is no place at all speaks for itself, and says so."""
    try:
        return not place(environ).leads
    except UsageError:
        return False


def _wrong(found: str) -> UsageError:
    return UsageError(
        f"the environment: expected {', '.join(NAMES)} as torchrun sets them, found: {found}",
        next_step="start with torchrun ... -m facemask_train train, or unset WORLD_SIZE to train in one process",
    )


def share_of_cores(cores: int, here: Place) -> int:
    """Return how many cores are one process's own, where each of this machine computes on as many."""
    return max(1, cores // here.local_world)
