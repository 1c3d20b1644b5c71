"""The Python interface: what a notebook calls. The command line runs the same functions.

    import facemask_train as fmask

    fmask.fetch("andrewmvd", from_="archives/")
    ensemble = fmask.build_dataset(8)
    run = fmask.train(ensemble, weights="yolov5s.pt", epochs=100)
    scores = fmask.evaluate(run)
    scores.table
    fmask.load_model(run).predict("street.jpg").to_frame()

Each function takes `root`, the project folder with configs/, data/ and runs/; by default it is the current folder. A
run is given by its name or by what `train` returned; an ensemble by its name, its number, its path, or by what
`build_dataset` returned. Work that is up to date is not repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facemask_train.apps.predictor import load_model
from facemask_train.core.config import read_train_settings
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.build import BuildResult
from facemask_train.training.train import Trained

if TYPE_CHECKING:
    from facemask_train.apps.survey.survey import SurveyResult
    from facemask_train.dataset.build import ClassMaps
    from facemask_train.eval.audit import AuditResult
    from facemask_train.eval.compare import ComparisonResult
    from facemask_train.eval.evaluate import Evaluation
    from facemask_train.sources.fetch import Fetched

__all__ = ["audit", "build_dataset", "compare", "evaluate", "fetch", "load_model", "survey", "train"]

NEWEST_RECIPE = 8
TrackerKind = Literal["wandb", "none"]


def fetch(*sources: str, from_: str | Path | None = None, root: str | Path = ".") -> list[Fetched]:
    """Download sources from Kaggle into `data/raw/`, or take archives that are already on disk.

    Args:
        sources: names in `configs/sources.yaml`; all Kaggle sources if none is given.
        from_: an archive, or a folder of archives as downloaded by hand.

    Raises:
        UsageError: a name is unknown.
        MissingError, DataError: an archive is missing, broken or unsafe.
        CredentialsError, NetworkError: Kaggle cannot be used.

    Example:
        >>> fetch("sample-voc", "sample-yolo", "sample-darknet")  # doctest: +SKIP
    """
    from facemask_train.sources.fetch import fetch as stage

    with shown_progress() as progress:
        return stage(Path(root), sources, origin=None if from_ is None else Path(from_), progress=progress)


def build_dataset(
    recipe: str | int | Path = NEWEST_RECIPE,
    *,
    class_maps: ClassMaps | None = None,
    allow_missing: bool = False,
    workers: int = 0,
    root: str | Path = ".",
) -> BuildResult:
    """Merge the fetched sources into an ensemble in `data/ensembles/`.

    Args:
        recipe: a number (8), a name in `configs/ensembles/` (v8), or the path of a yaml.
        class_maps: by source, what its classes or ids mean.
        allow_missing: leave out sources that are not fetched.
        workers: processes; 0 starts one for each core.

    Raises:
        MissingError: a source is not fetched, or there is no such recipe.
        UsageError, DataError: the recipe or a source cannot be used.
    """
    from facemask_train.core.parallel import WorkerPool
    from facemask_train.dataset.build import build

    with shown_progress() as progress:
        return build(
            Path(root),
            str(recipe),
            class_maps=class_maps,
            allow_missing=allow_missing,
            pool=WorkerPool("local", workers),
            progress=progress,
        )


def train(
    ensemble: str | int | Path | BuildResult = "",
    *,
    name: str = "",
    config: str = "train",
    tracker: TrackerKind = "none",
    root: str | Path = ".",
    **settings: Any,
) -> Trained:
    """Fine-tune a detector on an ensemble, in `runs/NAME/`.

    Args:
        ensemble: the one that was built last if it is empty.
        name: the run's name; made from the ensemble's and the weights' if it is empty.
        config: the name of a yaml in `configs/`, or its path.
        settings: keys of `configs/train.yaml`, such as `weights`, `epochs`, `imgsz`, `batch`, `device` and `seed`, or
            of the `ultralytics` trainer.

    Raises:
        MissingError: there is no such ensemble, or no such weights.
        UsageError: a setting is unknown or has a wrong value.
        DataError: the ensemble or the weights cannot be used.
        TrainingError: training stopped.
    """
    from facemask_train.training.train import train as stage

    where = Path(root)
    with shown_progress() as progress:
        return stage(
            where,
            read_train_settings(where, config, settings),
            data=_ensemble(ensemble),
            name=name,
            tracker=tracker,
            command="facemask_train.train(...)",
            progress=progress,
        )


def evaluate(
    run: str | Trained | None = None,
    *,
    weights: str | Path | None = None,
    data: str | int | Path | BuildResult | None = None,
    split: str = "test",
    tracker: TrackerKind = "none",
    root: str | Path = ".",
    **options: Any,
) -> Evaluation:
    """Score a run's best weights, or any weights, on one split of an ensemble, with confidence intervals and a report.

    Args:
        run: the run that finished last if neither a run nor weights are given.
        data: the ensemble; the one that the run was trained on if it is None.
        options: `imgsz`, `batch`, `device`, `confidence`, `audit`, as in `fmask evaluate`.

    Returns:
        The evaluation; its `table` is a DataFrame with value, low, high and n by class.

    Raises:
        MissingError, UsageError, DataError: there is no such run or ensemble, or it cannot be used.
    """
    from facemask_train.eval.evaluate import evaluate as stage

    with shown_progress() as progress:
        return stage(
            Path(root), **_target(run, weights, data), split=split, tracker=tracker, progress=progress, **options
        )


def audit(
    run: str | Trained | None = None,
    *,
    weights: str | Path | None = None,
    data: str | int | Path | BuildResult | None = None,
    split: str = "test",
    tracker: TrackerKind = "none",
    root: str | Path = ".",
    **options: Any,
) -> AuditResult:
    """Measure the shortcuts that a model takes: edit faces, and check whether the predicted class changes as it should.

    Args:
        run, weights, data: as in `evaluate`.
        options: `imgsz`, `batch`, `device`, `threshold`, `faces`, as in `fmask audit`.

    Raises:
        MissingError, UsageError, DataError: there is no such run or ensemble, or it cannot be used.
    """
    from facemask_train.eval.audit import audit as stage

    with shown_progress() as progress:
        return stage(
            Path(root), **_target(run, weights, data), split=split, tracker=tracker, progress=progress, **options
        )


def compare(
    *runs: str | Trained,
    data: str | None = None,
    split: str = "test",
    metric: str = "map50",
    root: str | Path = ".",
) -> ComparisonResult:
    """Compare runs that were scored on the same images; the others are compared with the first one.

    Raises:
        MissingError: a run is missing, or was not evaluated there.
        UsageError: fewer than two different runs, or an unknown metric.
    """
    from facemask_train.eval.compare import compare as stage

    return stage(Path(root), [_run(run) or "" for run in runs], data=data, split=split, metric=metric)


def survey(
    sources: str | Path | Sequence[str | Path],
    *,
    run: str | Trained | None = None,
    weights: str | Path | None = None,
    by: Literal["minute", "hour", "day", "week", "month", "all"] = "day",
    places: str | Path | None = None,
    pattern: str | None = None,
    start: str | None = None,
    split: Literal["test", "val"] = "test",
    output: str | Path | None = None,
    device: str = "",
    root: str | Path = ".",
) -> SurveyResult:
    """Estimate how many people wear masks in images and videos, corrected for the detector's own errors.

    Args:
        sources: images, videos, folders or glob patterns.
        run: the run that finished last if neither a run nor weights are given.
        by: the length of a time bin.
        places, pattern, start: where and when an image was taken, as in `fmask survey`.
        split: the split on which the detector's error rates were measured, by `evaluate`.
        output: the folder to write; one below the run's if it is None.

    Raises:
        MissingError: there is no such model, no evaluation of it, or no such file.
        UsageError, DataError: an option is wrong, or nothing can be read.
    """
    from facemask_train.apps.survey.detector_errors import ReferenceSet
    from facemask_train.apps.survey.survey import SurveyOptions
    from facemask_train.apps.survey.survey import survey as stage
    from facemask_train.apps.survey.time_bins import binning_rules

    several = [sources] if isinstance(sources, (str, Path)) else sources
    with shown_progress() as progress:
        return stage(
            Path(root),
            [str(one) for one in several],
            run=_run(run),
            weights=None if weights is None else Path(weights),
            reference=ReferenceSet(split=split),
            device=device,
            out=None if output is None else Path(output),
            options=SurveyOptions(binning_rules(by, None if places is None else Path(places), pattern, start)),
            progress=progress,
        )


# ---- arguments of the interface as arguments of the steps ----


def _run(run: str | Trained | None) -> str | None:
    return run.run if isinstance(run, Trained) else run


def _ensemble(ensemble: str | int | Path | BuildResult) -> str:
    return str(ensemble.path if isinstance(ensemble, BuildResult) else ensemble)


def _target(
    run: str | Trained | None, weights: str | Path | None, data: str | int | Path | BuildResult | None
) -> Mapping[str, Any]:
    return {
        "run": _run(run),
        "weights": None if weights is None else Path(weights),
        "data": None if data is None else _ensemble(data),
    }


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Show a progress bar in a notebook or a terminal; elsewhere nothing is shown."""
    if "ipykernel" not in sys.modules and not sys.stderr.isatty():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr="ipykernel" not in sys.modules), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done, total=total or None)

        yield show
