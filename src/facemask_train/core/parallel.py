"""Parallel map over batches of jobs: ordered, with progress, in local processes or on a Ray cluster."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from facemask_train.core.errors import UsageError
from facemask_train.core.types import Progress, no_progress

_BATCH = 32  # jobs per call in a worker
_WINDOW = 128  # batches in flight on a cluster

Job = TypeVar("Job")
Result = TypeVar("Result")
PoolKind = Literal["local", "ray"]


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: the affinity mask, lowered by the CPU limits of its cgroups.

    A limit of 1.5 cores counts as 2: with one process, half a core would stay idle.

    Args:
        root: the folder with `proc/` and `sys/`.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _cgroup_limits(root))]))


def _cgroup_limits(root: Path) -> Iterator[float]:
    """Yield the CPU limits, in cores, of the cgroups of this process and of their parents (version 1 or 2)."""
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = Path(path.lstrip("/"))
        for level in (below, *below.parents):  # in a container the path may be the host's: then only "." is found
            if controllers == "":
                yield from _limit(_numbers(mounts / level / "cpu.max"))
            elif "cpu" in controllers.split(","):
                folder = mounts / controllers / level if (mounts / controllers).is_dir() else mounts / "cpu" / level
                yield from _limit(_numbers(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"))


def _numbers(*paths: Path) -> list[str]:
    try:
        return [word for path in paths for word in path.read_text().split()]
    except OSError:
        return []


def _limit(words: Sequence[str]) -> Iterator[float]:
    """Yield quota / period, both in microseconds; or nothing without a limit (`max` in version 2, -1 in version 1)."""
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:
        yield int(words[0]) / int(words[1])


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """Worker processes on this machine, or on the Ray cluster at `RAY_ADDRESS` (a local one if it is not set).

    `workers` is the number of processes; 0 means one per core of the machine or the cluster. If the cluster has
    several machines, the folder that contains `data/` must have the same path on each of them.
    """

    kind: PoolKind = "local"
    workers: int = 0

    def map(
        self,
        work: Callable[[Sequence[Job]], list[Result]],
        jobs: Iterable[Job],
        total: int,
        *,
        what: str,
        progress: Progress = no_progress,
    ) -> Iterator[Result]:
        """Yield the result of each job, in the order of the jobs. Jobs are consumed lazily.

        Args:
            work: a module-level function (workers import it) that maps a batch of jobs to their results.
            total: the number of jobs.
            what: the description that is passed to `progress`.
        """
        done = 0
        for results in self._batches(partial(_in_worker, work), _batched(jobs), -(-total // _BATCH)):
            done += len(results)
            progress(what, done, total)
            yield from results

    def _batches(
        self, work: Callable[[Any], list[Result]], batches: Iterator[Any], count: int
    ) -> Iterator[list[Result]]:
        import joblib

        serial = count < 2 and self.kind == "local"
        with joblib.parallel_config(backend=self._backend()):
            processes = 1 if serial else self._processes(count)
            if self.kind == "local":
                yield from joblib.Parallel(n_jobs=processes, return_as="generator")(map(joblib.delayed(work), batches))
                return
            with joblib.Parallel(n_jobs=processes) as parallel:  # Ray's backend cannot yield results lazily
                while window := list(islice(batches, _WINDOW)):
                    yield from parallel(map(joblib.delayed(work), window))

    def _processes(self, count: int) -> int:
        if self.kind == "ray":
            return self.workers or -1
        return min(self.workers or usable_cores(), count)

    def _backend(self) -> str:
        if self.kind == "ray":
            _join_ray()
        return "ray" if self.kind == "ray" else "loky"


def _batched(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    remaining = iter(jobs)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _in_worker(work: Callable[[Sequence[Job]], list[Result]], batch: Sequence[Job]) -> list[Result]:
    """Run a batch with a single OpenCV thread: the worker processes already use all cores."""
    import cv2

    cv2.setNumThreads(1)
    return work(batch)


def _join_ray() -> None:
    """Connect to the Ray cluster of `RAY_ADDRESS`, or start a local one, and register it as a joblib backend.

    Raises:
        UsageError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise UsageError(
            "--engine ray: the package ray is not installed",
            next_step="pip install 'facemask-train[ray]' (or leave --engine out)",
        ) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="error")
    register_ray()
