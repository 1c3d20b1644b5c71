"""`fmask survey`: how many of the faces in images and videos wear masks, by place and time, errors taken out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.apps import job, media
from facemask_train.apps.media import Frame, Problem, Source
from facemask_train.apps.resolve_model import Asked, find_asked
from facemask_train.apps.survey.detector_errors import Tested, Which, find_tested
from facemask_train.apps.survey.face_rules import Judged, Rule, boxes, judge
from facemask_train.apps.survey.prevalence import Estimate, Stream, correlation_within, estimate, thin
from facemask_train.apps.survey.proportions import outside
from facemask_train.apps.survey.time_bins import Bin, Calendar
from facemask_train.core.files import locked, replacing, write_bytes, write_json
from facemask_train.core.types import CLASSES, Progress, no_progress
from facemask_train.model.detector import Detector, load_detector
from facemask_train.model.validation import MAX_DETECTIONS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SURVEY_VERSION = 3
"""Raised by hand when what a survey holds changes, so that earlier ones are made anew."""

MARKER, TABLE, PAGE, FACES = "survey.json", "survey.csv", "report.html", "faces"
CHART, DRAWN = "rates.svg", "rates.png"
FRAME_INTERVAL = 10.0
"""Seconds between the frames that are taken of a video."""

ODD_LIGHT = 0.2
"""The share of images darker or brighter than nearly all of the test set's from which a warning is due."""

_DIGITS = 6
_MARGIN = 0.2  # of a face's box, around a face that is kept


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """How a survey is made.

    Attributes:
        calendar: what tells place and time.
        told: what of it was asked for, as it goes into the survey's inputs.
        frame_interval: seconds between the frames that are taken of a video.
        keep_faces: write an image of every face.
    """

    calendar: Calendar = field(default_factory=Calendar)
    told: Mapping[str, Any] = field(default_factory=dict)
    frame_interval: float = FRAME_INTERVAL
    keep_faces: bool = False


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A finished survey's folder, and what its `survey.json` says."""

    folder: Path
    found: Mapping[str, Any]
    up_to_date: bool


@dataclass(frozen=True, slots=True)
class Look:
    """One image that was looked at: its bin, what it belongs together with, its faces, how bright it is."""

    bin: Bin
    cluster: tuple[str, ...]
    faces: tuple[Judged, ...]
    brightness: float
    is_video: bool


Seen = tuple[Frame, tuple[Judged, ...]]


def survey(
    root: Path,
    arguments: Sequence[str],
    *,
    run: str | None = None,
    weights: Path | None = None,
    imgsz: int | None = None,
    which: Which | None = None,
    device: str = "",
    out: Path | None = None,
    plan: Plan | None = None,
    progress: Progress = no_progress,
) -> Surveyed:
    """Look at images and videos, and write the share of masked faces by place and time; an equal survey is kept.

    Args:
        arguments: files, folders, globs.
        which: on what the detector's errors were measured (by `fmask evaluate`), and how faces are judged.
        out: the folder to write; one below the run's folder where it is None.

    Raises:
        MissingError: no such model, no evaluation of it, or an argument that names no file.
        UsageError: options that go against each other, or `out` holds something else.
        DataError: the model or the test set cannot be used, or not one image can be read.
    """
    plan = plan or Plan()
    asked = find_asked(root, run, weights)
    sources = job.sources_of(arguments, out)
    streams = job.streams(device)
    detector = load_detector(asked.weights, imgsz=asked.imgsz(imgsz), device=device, streams=streams)
    tested = find_tested(root, asked, detector, which or Which())
    inputs = _inputs(asked, detector, tested, sources, plan)
    folder = out or job.default_folder(root, "surveys", asked.name, arguments, inputs)
    with locked(folder):
        known = job.known(folder, MARKER, inputs, "another survey")
        if known is not None:
            return Surveyed(folder, known, up_to_date=True)
        with replacing(folder) as partial:
            problems: list[Problem] = []
            keep = partial / FACES if plan.keep_faces else None
            read = job.readable(sources, plan.frame_interval, problems, progress, "looking")
            answers = job.answered(detector, read, tested.rule.faint, job.together(detector))
            judged = _judged(answers, tested.rule)
            looks = [_look(*one, plan.calendar) for one in _kept(judged, keep, media.output_names(sources))]
            if not looks:
                raise job.nothing_read(problems)
            found = {
                "inputs": inputs,
                **_found(asked, tested, looks, plan, [source.name for source in sources]),
                "problems": job.told(problems, sources),
            }
            _write(partial, found)
    return Surveyed(folder, found, up_to_date=False)


# ---- what is asked ----


def _inputs(asked: Asked, detector: Detector, tested: Tested, sources: Sequence[Source], plan: Plan) -> dict[str, Any]:
    """Return all that decides what is written."""
    return {
        "version": SURVEY_VERSION,
        "weights": asked.digest,
        "backend": detector.backend.name,
        "imgsz": detector.imgsz,
        "confidence": tested.rule.confidence,
        "min_face": tested.rule.min_face,
        "measured_on": {"ensemble": tested.ensemble, "split": tested.split, "detections": tested.digest},
        "frame_interval": plan.frame_interval,
        "keep_faces": plan.keep_faces,
        "cluster_seconds": plan.calendar.cluster_seconds,
        **plan.told,
        "sources": job.digest_of(sources),
    }


# ---- looking ----


def _judged(answers: job.Answers, rule: Rule) -> Iterator[Seen]:
    """Yield each frame with its faces."""
    for frame, found in answers:
        height, width = frame.pixels.shape[:2]
        yield frame, tuple(judge(found, rule, width, height))


def _kept(seen: Iterator[Seen], folder: Path | None, names: Mapping[Path, str]) -> Iterator[Seen]:
    """Pass on what was seen, and write an image of every face into a folder, where there is one."""
    for frame, faces in seen:
        if folder is not None:
            _keep(folder, names[frame.source], frame, faces)
        yield frame, faces


def _look(frame: Frame, faces: tuple[Judged, ...], calendar: Calendar) -> Look:
    moment = calendar.moment(frame.name, frame.taken, frame.time)
    cluster = calendar.cluster(frame.name, moment, frame.time)
    return Look(calendar.bin(moment), cluster, faces, _luma(frame.pixels), frame.time is not None)


def _luma(pixels: NDArray[np.uint8]) -> float:
    """Return the mean luma, 0 to 255, as `slices.Traits` has it."""
    import cv2

    return float(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0])


def _keep(folder: Path, name: str, frame: Frame, faces: Sequence[Judged]) -> None:
    from PIL import Image

    height, width = frame.pixels.shape[:2]
    for number, face in enumerate(faces):
        left, top, right, bottom = face.detection.corners
        margin = _MARGIN * max(right - left, bottom - top)
        box = (max(0, left - margin), max(0, top - margin), min(width, right + margin), min(height, bottom + margin))
        left, top, right, bottom = (round(side) for side in box)
        path = folder / (*CLASSES, "unknown")[face.answer] / f"{name}-{frame.index:06d}-{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame.pixels).crop((left, top, right, bottom)).save(path, quality=90)


# ---- from what was seen to what is said ----


def _found(asked: Asked, tested: Tested, looks: Sequence[Look], plan: Plan, names: Sequence[str]) -> dict[str, Any]:
    binned: dict[Bin, list[Look]] = {}
    for look in looks:
        binned.setdefault(look.bin, []).append(look)
    streams = {one: stream_of(binned[one]) for one in sorted(binned)}
    alike = correlation_within(streams.values())
    whole = estimate(tested.measured, stream_of(looks))
    rows = [
        {"place": one.place, "time": one.time, **_row(estimate(tested.measured, stream, correlation=alike))}
        for one, stream in streams.items()
    ]
    return {
        "model": asked.name,
        "by": plan.calendar.by,
        **_row(whole),
        "warnings": [*whole.warnings, *_notes(tested, looks), *_unfit(plan.calendar.unfit(names))],
        "correlation": None if alike is None else round(alike, _DIGITS),
        "confidence_chosen": tested.chosen,
        "detector": tested.told(),
        "bins": rows if len(rows) > 1 or rows[0]["time"] or rows[0]["place"] else [],
    }


def stream_of(looks: Sequence[Look]) -> Stream:
    """Return what was seen, by what belongs together."""
    import numpy as np

    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(look.cluster for look in looks))}
    images = np.bincount([numbers[look.cluster] for look in looks], minlength=len(numbers))
    rows = [(numbers[look.cluster], face.answer, face.side) for look in looks for face in look.faces]
    return Stream(images.astype(np.float64), boxes(rows))


def _row(one: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON holds it."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, _DIGITS)

    def ends(bounds: Sequence[float] | None) -> list[float] | None:
        return None if bounds is None else [round(end, _DIGITS) for end in bounds]

    return {
        "rate": rounded(one.rate),
        "interval": ends(one.interval),
        "uncorrected": rounded(one.uncorrected),
        "uncorrected_interval": ends(one.uncorrected_interval),
        "n": one.n,
        "unknown": {"faces": one.unknown, "bounds": ends(one.bounds)},
        "images": one.images,
        "clusters": one.clusters,
        "warnings": list(one.warnings),
    }


def _notes(tested: Tested, looks: Sequence[Look]) -> Iterator[str]:
    yield from thin(tested.measured)
    yield from odd_light(tested.brightness, [look.brightness for look in looks])
    crowded = sum(len(look.faces) >= MAX_DETECTIONS for look in looks)
    if crowded:
        yield f"{crowded:,} images hold {MAX_DETECTIONS} faces, the most that is told: some are left out"
    if any(look.is_video for look in looks):
        yield "videos: n counts sightings, not people; who stays in view is counted in every frame that was taken"


def _unfit(rows: Sequence[str]) -> list[str]:
    more = f" and {len(rows) - 1:,} more" if len(rows) > 1 else ""
    return [f"the table of places names {rows[0]}{more}, which is none of the files here"] if rows else []


def odd_light(tested: Sequence[float], seen: Sequence[float]) -> list[str]:
    """Return a warning where many images are darker or brighter than nearly all of the test set's.

    Args:
        tested, seen: the mean luma of each image, 0 to 255.
    """
    import numpy as np

    darker, brighter, (low, high) = outside(np.asarray(tested), np.asarray(seen))
    if darker + brighter < ODD_LIGHT:
        return []
    what, share = ("darker", darker) if darker > brighter else ("brighter", brighter)
    return [
        f"{100 * share:.0f} % of the images are {what} than nearly all of the test set's (mean luma {low:.0f} to "
        f"{high:.0f}): how the detector errs in such light is not known"
    ]


# ---- what is written ----


def _write(folder: Path, found: Mapping[str, Any]) -> None:
    from facemask_train.report import survey as survey_report

    write_bytes(folder / TABLE, _csv(found).encode())
    bins = found["bins"] or [{**found, "place": "", "time": "all"}]
    write_bytes(folder / CHART, survey_report.chart(bins).encode())
    survey_report.draw(bins, folder / DRAWN)
    write_bytes(folder / PAGE, survey_report.page(found))
    write_json(folder / MARKER, found)


COLUMNS = (
    "place", "time", "rate", "low", "high", "uncorrected", "n", "unknown", "if_no_unknown_masked",
    "if_all_unknown_masked", "images", "clusters", "warnings",
)  # fmt: skip


def _csv(found: Mapping[str, Any]) -> str:
    """Return the bins, and the whole in the last row, as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in (*found["bins"], {**found, "place": "all", "time": "all"}):
        ends, unsure = one["interval"] or ("", ""), one["unknown"]["bounds"] or ("", "")
        cells = (one["place"], one["time"], one["rate"], *ends, one["uncorrected"], one["n"], one["unknown"]["faces"])
        writer.writerow((*cells, *unsure, one["images"], one["clusters"], "; ".join(one["warnings"])))
    return stream.getvalue()
