"""`fmask predict`: find the faces in images and videos, and write images with boxes and tables into one folder."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from facemask_train.apps import anonymize, job, media
from facemask_train.apps.anonymize import CoveredFrame
from facemask_train.apps.media import Frame, Problem, Source
from facemask_train.apps.predictor import Model, check_lowest_confidence, faces_above, open_model
from facemask_train.apps.records.predictions import FileCounts, PredictionInputs, Predictions
from facemask_train.apps.resolve_model import ResolvedModel, resolve_model
from facemask_train.apps.writers import KINDS, ImageWriter, Tables
from facemask_train.core.errors import UsageError, nearest
from facemask_train.core.files import replacing, stage
from facemask_train.core.types import CLASSES, Detection, Progress, no_progress
from facemask_train.model.detector import Detector

DEFAULT_SAVE = ("images", "csv")


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What `predict` writes.

    Attributes:
        save: what to write, of `writers.KINDS`.
        anonymize: cover every face in the written images and videos, including low-confidence ones.
        frame_interval: seconds between the video frames to process; every frame if it is None.
        max_pixels: the largest image that is read, in pixels.
    """

    save: Sequence[str] = DEFAULT_SAVE
    anonymize: bool = False
    frame_interval: float | None = None
    max_pixels: int = media.MAX_PIXELS


@dataclass(frozen=True, slots=True)
class PredictResult:
    """A finished folder of predictions, and its `predictions.json`."""

    folder: Path
    record: Predictions
    up_to_date: bool


def predict(
    root: Path,
    arguments: Sequence[str],
    *,
    run: str | None = None,
    weights: Path | None = None,
    imgsz: int | None = None,
    confidence: float | None = None,
    device: str = "",
    precision: str = "float32",
    batch: int | None = None,
    out: Path | None = None,
    options: PredictOptions | None = None,
    progress: Progress = no_progress,
) -> PredictResult:
    """Find the faces in images and videos and write them into one folder. Equal output is not made again.

    Args:
        arguments: files, folders, globs.
        weights: a checkpoint or an export, instead of a run's best weights.
        imgsz: input size in pixels; the run's or the file's own if it is None.
        confidence: detections above it count; if it is None, the threshold that the run's evaluation chose.
        out: the folder to write; a folder below the run's if it is None.

    Raises:
        MissingError: there is no such model, or an argument matches no file.
        UsageError: options that exclude each other, or `out` contains something else.
        DataError: the model cannot be used, or no image can be read.
    """
    options = _checked(options or PredictOptions())
    resolved = resolve_model(root, run, weights)
    sources = job.find_sources(arguments, out)
    model = open_model(
        resolved, imgsz=imgsz, device=device, precision=precision, streams=job.streams(device), confidence=confidence
    )
    size = batch or job.batch_size(model.detector)
    inputs = _inputs(resolved, model, sources, options, precision, size)
    folder = out or job.default_folder(root, "predictions", model.name, arguments, inputs)
    lowest = _lowest_confidence(model, options)
    check_lowest_confidence(model.detector, lowest, " to cover low-confidence faces" if options.anonymize else "")
    with stage(folder):
        known = job.find_finished(folder, Predictions, inputs, "other predictions")
        if known is not None:
            return PredictResult(folder, known, up_to_date=True)
        with replacing(folder) as partial:
            record = _write(partial, inputs, model, sources, options, progress=progress)
            record.save(partial)
    return PredictResult(folder, record, up_to_date=False)


# ---- options ----


def _checked(options: PredictOptions) -> PredictOptions:
    for kind in options.save:
        if kind not in KINDS:
            raise UsageError(
                f"--save {kind}: expected one of {', '.join(KINDS)}{nearest(kind, KINDS)}", next_step="--save csv"
            )
    if options.anonymize and "images" not in options.save:
        raise UsageError(
            "--anonymize needs images: nothing else that is written shows a face", next_step="--save images"
        )
    return replace(options, save=tuple(kind for kind in KINDS if kind in options.save))


def _inputs(
    resolved: ResolvedModel,
    model: Model,
    sources: Sequence[Source],
    options: PredictOptions,
    precision: str,
    batch: int,
) -> PredictionInputs:
    return PredictionInputs(
        version=Predictions.VERSION,
        weights=resolved.digest,
        backend=model.detector.backend.name,
        precision=precision,
        imgsz=model.detector.imgsz,
        batch=batch,
        confidence=model.threshold.value,
        save=tuple(options.save),
        anonymize=options.anonymize,
        frame_interval=options.frame_interval,
        max_pixels=options.max_pixels,
        sources=job.digest_sources(sources),
    )


def _lowest_confidence(model: Model, options: PredictOptions) -> float:
    """Return the confidence down to which detections are needed."""
    confidence = model.threshold.value
    return min(confidence, anonymize.MIN_CONFIDENCE) if options.anonymize else confidence


# ---- output ----


def _write(
    folder: Path,
    inputs: PredictionInputs,
    model: Model,
    sources: Sequence[Source],
    options: PredictOptions,
    *,
    progress: Progress,
) -> Predictions:
    """Write everything but the record into a folder, and return the record."""
    problems: list[Problem] = []
    names, counts = media.output_names(sources), _Counts()
    read = job.read_frames(
        sources,
        problems,
        progress,
        "predicting",
        frame_interval=options.frame_interval,
        max_pixels=options.max_pixels,
    )
    detected = job.detect(model.detector, read, _lowest_confidence(model, options), inputs.batch)
    frames = _with_covers(model.detector, detected, inputs.batch) if options.anonymize else _without_covers(detected)
    with ExitStack() as stack:
        tables = stack.enter_context(Tables(folder, names, options.save))
        images = stack.enter_context(ImageWriter(folder, names, _rates(options))) if "images" in options.save else None
        for one in frames:
            faces = faces_above(one.detections, model.threshold.value)
            tables.add(one.frame, faces)
            counts.add(one.frame, faces)
            if images is not None:
                pixels = one.frame.pixels
                shown = anonymize.cover_boxes(pixels, one.covers) if options.anonymize else pixels
                images.add(one.frame, shown, faces)
        tables.finish()
    if not counts.files:
        raise job.nothing_read(problems)
    total, videos = counts.total(), counts.videos()
    return Predictions(
        inputs=inputs,
        model=model.name,
        confidence_chosen=model.threshold.chosen,
        images=len(counts.files) - videos,
        videos=videos,
        frames=total["frames"],
        faces=sum(total[name] for name in CLASSES),
        faces_by_class={name: total[name] for name in CLASSES},
        problems=job.unreadable_files(problems, sources),
        files=counts.by_file(names),
    )


def _without_covers(detected: job.DetectedFrames) -> Iterator[CoveredFrame]:
    return (CoveredFrame(frame, detections) for frame, detections in detected)


def _with_covers(detector: Detector, detected: job.DetectedFrames, batch: int) -> Iterator[CoveredFrame]:
    """Add the boxes to cover: all detections, those of a second pass at a larger size, and those of nearby frames."""
    if detector.backend.fixed_size is not None:  # this export supports one input size only
        first_pass = (CoveredFrame(frame, found, tuple(one.corners for one in found)) for frame, found in detected)
        return anonymize.hold_covers(first_pass)
    return anonymize.hold_covers(_second_pass(detector, detected, batch))


def _second_pass(detector: Detector, detected: job.DetectedFrames, batch: int) -> Iterator[CoveredFrame]:
    first: deque[tuple[Detection, ...]] = deque()

    def frames() -> Iterator[Frame]:
        for frame, found in detected:
            first.append(found)
            yield frame

    larger = replace(detector, imgsz=anonymize.SECOND_PASS_SCALE * detector.imgsz)
    for frame, more in job.detect(larger, frames(), anonymize.MIN_CONFIDENCE, batch):
        found = first.popleft()
        yield CoveredFrame(frame, found, tuple(one.corners for one in (*found, *more)))


def _rates(options: PredictOptions) -> Callable[[Path], float]:
    """Return a function from a video's path to the frame rate of the written video.

    It is the source's, or, where frames are skipped, that of the processed frames; at least 1.
    """
    if options.frame_interval is None:
        return media.frame_rate
    sampled = max(1 / options.frame_interval, 1.0)
    return lambda path: min(sampled, media.frame_rate(path))


class _Counts:
    """Frames and faces so far, by file."""

    def __init__(self) -> None:
        self.files: dict[Path, Counter[str]] = {}
        self.names: dict[Path, tuple[str, bool]] = {}  # the name, and whether it is a video

    def add(self, frame: Frame, faces: Sequence[Detection]) -> None:
        self.names[frame.source] = (frame.name, frame.time is not None)
        self.files.setdefault(frame.source, Counter()).update(["frames", *(one.name for one in faces)])

    def total(self) -> Counter[str]:
        return sum(self.files.values(), Counter())

    def videos(self) -> int:
        return sum(is_video for _, is_video in self.names.values())

    def by_file(self, names: Mapping[Path, str]) -> tuple[FileCounts, ...]:
        return tuple(
            FileCounts(self.names[path][0], names[path], count["frames"], {name: count[name] for name in CLASSES})
            for path, count in self.files.items()
        )
