"""The one way to spread work over processes: in batches, in order, with progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from facemask_train.records import Progress, no_progress

_BATCH = 32  # jobs that a process takes at a time

Job = TypeVar("Job")
Result = TypeVar("Result")


def spread(
    work: Callable[[Sequence[Job]], list[Result]],
    jobs: Sequence[Job],
    workers: int,
    *,
    what: str,
    progress: Progress = no_progress,
) -> Iterator[Result]:
    """Yield the result of every job, in the jobs' order, whatever the number of processes.

    Args:
        work: a function of a module (processes import it) from a batch of jobs to their results.
        workers: processes; 0 takes one for each core.
        what: what `progress` is told is being done.
    """
    import joblib

    batches = [jobs[start : start + _BATCH] for start in range(0, len(jobs), _BATCH)]
    count = min(workers or os.cpu_count() or 1, len(batches)) or 1
    done = 0
    for results in joblib.Parallel(n_jobs=count, return_as="generator")(joblib.delayed(work)(b) for b in batches):
        done += len(results)
        progress(what, done, len(jobs))
        yield from results
