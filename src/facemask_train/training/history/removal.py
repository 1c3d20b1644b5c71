"""Removing runs: everything in their folders, unless a command is using one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.errors import StorageError
from facemask_train.core.files import file_sizes, is_locked, locked, new_partial, storage_errors
from facemask_train.training.history.summary import RunSummary


@dataclass(frozen=True, slots=True)
class RemovedRun:
    """A run that is removed, or is to be, and what that frees, in megabytes; a link frees nothing but itself."""

    name: str
    path: str
    state: str
    megabytes: float


def describe(run: RunSummary) -> RemovedRun:
    """Return what removing a run would free."""
    total = 0 if run.path.is_symlink() else sum(file_sizes(run.path))
    return RemovedRun(run.name, str(run.path), run.state, round(total / 1e6, 1))


def remove(run: RunSummary) -> RemovedRun:
    """Remove a run's folder. Of a run that is a link to another place, only the link is removed.

    The folder disappears in one step, so that an interruption never leaves half of a run behind.

    Raises:
        StorageError: a command is using the run, or it cannot be removed.
    """
    gone = describe(run)
    with locked(run.path), storage_errors(run.path):
        if run.path.is_symlink():
            run.path.unlink()
            return gone
        _check_unused(run.path)
        hidden = new_partial(run.path)
        run.path.replace(hidden)
        shutil.rmtree(hidden)
    return gone


def _check_unused(folder: Path) -> None:
    """Refuse a run in which an evaluation, an export or another step is at work."""
    for lock in folder.rglob(".*.lock"):
        target = lock.with_name(lock.name.removeprefix(".").removesuffix(".lock"))
        if is_locked(target):
            raise StorageError(
                f"{target}: another fmask command is using this folder",
                next_step="wait until it has finished, then run this command again",
            )
