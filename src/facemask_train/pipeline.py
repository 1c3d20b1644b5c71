"""The four steps in one go: fetch, build-dataset, train, evaluate. Steps that are up to date are skipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.config import TrackerKind, TrainSettings
from facemask_train.core.dist_env import dist_env
from facemask_train.core.errors import UsageError
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import read_recipe
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.build import BuildResult, ClassMaps, build
from facemask_train.eval.evaluate import Evaluation, evaluate
from facemask_train.sources.fetch import Fetched, fetch
from facemask_train.training import runs
from facemask_train.training.train import Trained, finished, resume, train

SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """The results of the four steps."""

    fetched: list[Fetched]
    built: BuildResult
    trained: Trained
    evaluated: Evaluation


def run_pipeline(
    root: Path,
    version: str,
    settings: TrainSettings,
    *,
    origin: Path | None = None,
    class_maps: ClassMaps | None = None,
    tracker: TrackerKind = "wandb",
    pool: WorkerPool = WorkerPool(),  # noqa: B008 - frozen
    command: str = "",
    progress: Progress = no_progress,
) -> PipelineResult:
    """Go from a recipe's sources to a scored model.

    A finished run with these settings on this ensemble is reused; an interrupted one is resumed.

    Raises:
        UsageError: torchrun has started several of these.
    """
    if dist_env().is_distributed:
        raise UsageError(
            "torchrun has started several processes of fmask pipeline, which would all do the same work",
            next_step="start only one (--device 0,1 trains on several GPUs), or torchrun ... -m facemask_train train",
        )
    recipe = read_recipe(root, version)
    fetched = fetch(root, list(recipe.sources), origin=origin, progress=progress)
    built = build(root, version, class_maps=class_maps, pool=pool, progress=progress)
    trained = _trained(root, built, settings, tracker, command, progress)
    evaluated = evaluate(root, run=trained.run, tracker=tracker, progress=progress)
    return PipelineResult(fetched, built, trained, evaluated)


def _trained(
    root: Path, built: BuildResult, settings: TrainSettings, tracker: TrackerKind, command: str, progress: Progress
) -> Trained:
    for folder, record in runs.read_runs(root):
        same_data = record.ensemble is not None and record.ensemble.hash == built.card.hash
        if record.kind == "training" and record.settings == settings and same_data:
            return finished(folder) if record.state == "finished" else resume(root, folder.name, progress=progress)
    return train(root, settings, data=str(built.path), tracker=tracker, command=command, progress=progress)
