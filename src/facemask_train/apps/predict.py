"""`fmask predict`: a model's answers for a person's own images and videos, drawn and as tables, in one folder."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facemask_train.apps import anonymize as anonymizer
from facemask_train.apps import job, media
from facemask_train.apps.media import Frame, Problem, Source
from facemask_train.apps.resolve_model import Asked, find_asked, threshold
from facemask_train.apps.writers import KINDS, ImageWriter, Tables
from facemask_train.core.errors import UsageError, nearest
from facemask_train.core.files import locked, replacing, write_json
from facemask_train.core.types import CLASSES, Corners, Detection, Progress, no_progress
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import Detector, load_detector, one_per_face

PREDICT_VERSION = 2
"""Raised by hand when what a prediction holds changes, so that earlier ones are made anew."""

MARKER = "predictions.json"
DEFAULT_SAVE = ("images", "csv")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be made of the images.

    Attributes:
        save: of `writers.KINDS`.
        anonymize: cover every face, also a doubtful one, in each image and video that is written.
        frame_interval: seconds between the frames that are taken of a video; each frame where it is None.
    """

    save: Sequence[str] = DEFAULT_SAVE
    anonymize: bool = False
    frame_interval: float | None = None


@dataclass(frozen=True, slots=True)
class Predicted:
    """A finished folder of predictions, and what its `predictions.json` says."""

    folder: Path
    found: Mapping[str, Any]
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
    wish: Wish | None = None,
    progress: Progress = no_progress,
) -> Predicted:
    """Find the faces in images and videos, and write what was found into one folder; an equal one is not repeated.

    Args:
        arguments: files, folders, globs.
        weights: a checkpoint or an export, instead of a run's best.
        imgsz: image size in pixels; the run's or the file's own where it is None.
        confidence: from which a detection counts; what the run's evaluation chose on val where it is None.
        out: the folder to write; one below the run's folder where it is None.

    Raises:
        MissingError: no such model, or an argument that names no file.
        UsageError: options that go against each other, or `out` holds something else.
        DataError: the model cannot be used, or not one image can be read.
    """
    wish = _checked(wish or Wish())
    asked = find_asked(root, run, weights)
    sources = job.sources_of(arguments, out)
    streams = job.streams(device)
    size = asked.imgsz(imgsz)
    detector = load_detector(asked.weights, imgsz=size, device=device, precision=precision, streams=streams)
    point = threshold(asked, detector, confidence)
    many = batch or job.together(detector)
    inputs = _inputs(asked, detector, sources, wish, point, precision) | {"batch": many}  # rounding goes by it
    folder = out or job.default_folder(root, "predictions", asked.name, arguments, inputs)
    _check_answers_low(detector, point, wish)
    with locked(folder):
        known = job.known(folder, MARKER, inputs, "other predictions")
        if known is not None:
            return Predicted(folder, known, up_to_date=True)
        with replacing(folder) as partial:
            told = _written(partial, detector, sources, wish, point.value, batch=many, progress=progress)
            found = {"inputs": inputs, "model": asked.name, "confidence_chosen": point.chosen, **told}
            write_json(partial / MARKER, found)
    return Predicted(folder, found, up_to_date=False)


# ---- what is asked ----


def _checked(wish: Wish) -> Wish:
    for kind in wish.save:
        if kind not in KINDS:
            raise UsageError(
                f"--save {kind}: expected one of {', '.join(KINDS)}{nearest(kind, KINDS)}", next_step="--save csv"
            )
    if wish.anonymize and "images" not in wish.save:
        raise UsageError(
            "--anonymize without images: nothing would be written that shows a face", next_step="--save images"
        )
    return replace(wish, save=tuple(kind for kind in KINDS if kind in wish.save))


def _inputs(
    asked: Asked, detector: Detector, sources: Sequence[Source], wish: Wish, point: Threshold, precision: str
) -> dict[str, Any]:
    """Return all that decides what is written: two equal ones give the same files."""
    return {
        "version": PREDICT_VERSION,
        "weights": asked.digest,
        "backend": detector.backend.name,
        "precision": precision,
        "imgsz": detector.imgsz,
        "confidence": point.value,
        "save": list(wish.save),
        "anonymize": wish.anonymize,
        "frame_interval": wish.frame_interval,
        "sources": job.digest_of(sources),
    }


def _check_answers_low(detector: Detector, point: Threshold, wish: Wish) -> None:
    lowest = min(point.value, anonymizer.DOUBTFUL) if wish.anonymize else point.value
    if detector.backend.min_confidence > lowest:
        raise UsageError(
            f"this export drops detections below confidence {detector.backend.min_confidence:g}, and {lowest:g} is "
            f"asked for{' to hide doubtful faces' if wish.anonymize else ''}",
            next_step="give the run's .pt, or an export with suppression outside: fmask export --nms outside",
        )


# ---- what is written ----


def _written(
    folder: Path,
    detector: Detector,
    sources: Sequence[Source],
    wish: Wish,
    confidence: float,
    *,
    batch: int,
    progress: Progress,
) -> dict[str, Any]:
    """Fill a folder, and return what was counted."""
    problems: list[Problem] = []
    names, tally = media.output_names(sources), _Tally()
    read = job.readable(sources, wish.frame_interval, problems, progress, "predicting")
    lowest = min(confidence, anonymizer.DOUBTFUL) if wish.anonymize else confidence
    answered = job.answered(detector, read, lowest, batch)
    looked = anonymizer.lasting(_again(detector, answered, batch)) if wish.anonymize else _bare(answered)
    with ExitStack() as stack:
        tables = stack.enter_context(Tables(folder, names, wish.save))
        images = stack.enter_context(ImageWriter(folder, names, _rates(wish))) if "images" in wish.save else None
        for frame, found, boxes in looked:
            faces = _faces(found, confidence)
            tables.add(frame, faces)
            tally.add(frame, faces)
            if images is not None:
                images.add(frame, anonymizer.cover(frame.pixels, boxes) if wish.anonymize else frame.pixels, faces)
        tables.finish()
    if not tally.files:
        raise job.nothing_read(problems)
    return tally.told() | {"problems": job.told(problems, sources), "files": tally.rows(names)}


def _bare(answered: job.Answers) -> Iterator[anonymizer.Looked]:
    return ((frame, found, ()) for frame, found in answered)


def _again(detector: Detector, answered: job.Answers, batch: int) -> Iterator[anonymizer.Looked]:
    """Add the boxes to cover: all that was found, and what a second, larger look finds where the model allows one."""
    if detector.backend.fixed_size is not None:
        yield from ((frame, found, tuple(one.corners for one in found)) for frame, found in answered)
        return
    first: deque[tuple[Detection, ...]] = deque()

    def kept() -> Iterator[Frame]:
        for frame, found in answered:
            first.append(found)
            yield frame

    larger = replace(detector, imgsz=anonymizer.LARGER * detector.imgsz)
    for frame, also in job.answered(larger, kept(), anonymizer.DOUBTFUL, batch):
        found = first.popleft()
        yield frame, found, tuple(one.corners for one in (*found, *also))


def _faces(found: Sequence[Detection], confidence: float) -> tuple[Detection, ...]:
    """Return one answer for each face that counts, to the hundredth of a pixel; one without area is outside."""
    sure = one_per_face(one for one in found if one.confidence > confidence)
    rounded = (replace(one, confidence=round(one.confidence, 4), corners=_rounded(one.corners)) for one in sure)
    return tuple(one for one in rounded if one.corners[0] < one.corners[2] and one.corners[1] < one.corners[3])


def _rounded(corners: Corners) -> Corners:
    x_min, y_min, x_max, y_max = (round(side, 2) for side in corners)
    return x_min, y_min, x_max, y_max


def _rates(wish: Wish) -> Any:
    """Return what tells a written video's frames a second: the source's, or as many as were taken, 1 at least."""
    if wish.frame_interval is None:
        return media.frame_rate
    sampled = max(1 / wish.frame_interval, 1.0)
    return lambda path: min(sampled, media.frame_rate(path))


class _Tally:
    """What was found so far, by file."""

    def __init__(self) -> None:
        self.files: dict[Path, Counter[str]] = {}
        self.named: dict[Path, tuple[str, bool]] = {}

    def add(self, frame: Frame, faces: Sequence[Detection]) -> None:
        self.named[frame.source] = (frame.name, frame.time is not None)
        self.files.setdefault(frame.source, Counter()).update(["frames", *(one.name for one in faces)])

    def told(self) -> dict[str, Any]:
        total = sum(self.files.values(), Counter())
        videos = sum(is_video for _, is_video in self.named.values())
        counts = {"images": len(self.files) - videos, "videos": videos, "frames": total["frames"]}
        return counts | {"faces": sum(total[name] for name in CLASSES)} | {name: total[name] for name in CLASSES}

    def rows(self, names: Mapping[Path, str]) -> list[dict[str, Any]]:
        return [
            {"file": self.named[path][0], "output": names[path], "frames": count["frames"]}
            | {name: count[name] for name in CLASSES}
            for path, count in self.files.items()
        ]
