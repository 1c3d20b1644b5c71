"""`fmask survey`: how many of the faces in pictures and videos wear masks, by place and time, errors taken out."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.detect import MAX_DETECTIONS
from facemask_train.errors import DataError, MissingError, UsageError
from facemask_train.evaluation import store
from facemask_train.folders import (
    digest_data,
    digest_file,
    locked,
    read_json,
    replacing,
    write_bytes,
    write_json,
)
from facemask_train.inference import Detector, load_detector
from facemask_train.records import CLASSES, Progress, no_progress
from facemask_train.training import runs
from facemask_train.use import media
from facemask_train.use.asked import Asked, find_asked
from facemask_train.use.bins import Bin, Calendar, Moment
from facemask_train.use.judging import LEAST_SIDE, Judged, Rule, boxes, judge, measure
from facemask_train.use.media import Frame, Problem, Source
from facemask_train.use.prevalence import Estimate, Measured, Stream, check, correlation_within, estimate, thin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SURVEY_VERSION = 1
"""Raised by hand when what a survey holds changes, so that earlier ones are made anew."""

MARKER, TABLE, CHART, PAGE, FACES = "survey.json", "survey.csv", "rates.svg", "report.html", "faces"
EVERY = 10.0
"""Seconds between the frames that are taken of a video."""

ODD_LIGHT = 0.2
"""The share of pictures darker or brighter than nearly all of the test set's from which a warning is due."""

_DIGITS = 6
_LABEL = 40  # letters of the folder's name
_MARGIN = 0.2  # of a face's box, around a face that is kept


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """How a survey is made.

    Attributes:
        calendar: what tells place and time.
        told: what of it was asked for, as it goes into the survey's inputs.
        every: seconds between the frames that are taken of a video.
        least_side: of a face that is judged, in pixels as the detector sees it.
        keep_faces: write a picture of every face.
    """

    calendar: Calendar = field(default_factory=Calendar)
    told: Mapping[str, Any] = field(default_factory=dict)
    every: float = EVERY
    least_side: float = LEAST_SIDE
    keep_faces: bool = False


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A finished survey's folder, and what its `survey.json` says."""

    folder: Path
    found: Mapping[str, Any]
    up_to_date: bool


@dataclass(frozen=True, eq=False, slots=True)
class Tested:
    """The detector on its test set: what it did with the faces there, from which confidence, and how bright it was."""

    ensemble: str
    split: str
    digest: str
    rule: Rule
    chosen: str
    measured: Measured
    brightness: Sequence[float]


@dataclass(frozen=True, slots=True)
class Look:
    """One picture that was looked at: its bin, what it belongs together with, its faces, how bright it is."""

    bin: Bin
    cluster: tuple[str, ...]
    faces: tuple[Judged, ...]
    brightness: float
    is_video: bool


def survey(
    root: Path,
    arguments: Sequence[str],
    *,
    run: str | None = None,
    weights: Path | None = None,
    imgsz: int | None = None,
    confidence: float | None = None,
    data: str | None = None,
    split: str = "test",
    device: str = "",
    out: Path | None = None,
    plan: Plan | None = None,
    progress: Progress = no_progress,
) -> Surveyed:
    """Look at pictures and videos, and write the share of masked faces by place and time; an equal survey is kept.

    Args:
        arguments: files, folders, globs.
        confidence: the operating point; what the evaluation chose where it is None.
        data: the name of the ensemble on whose `split` the detector's errors were measured (by `fmask evaluate`); the
            run's own where it is None.
        out: the folder to write; one below the run's folder where it is None.

    Raises:
        MissingError: no such model, no evaluation of it, or an argument that names no file.
        UsageError: options that go against each other, or `out` holds something else.
        DataError: the model or the test set cannot be used, or not one picture can be read.
    """
    plan = plan or Plan()
    asked = find_asked(root, run, weights)
    sources = _sources(arguments, out)
    detector = load_detector(asked.weights, imgsz=asked.imgsz(imgsz), device=device)
    tested = _tested(root, asked, detector, data, split, confidence, plan)
    inputs = _inputs(asked, detector, tested, sources, plan)
    folder = out or _default_folder(root, asked, arguments, inputs)
    with locked(folder):
        known = _known(folder, inputs)
        if known is not None:
            return Surveyed(folder, known, up_to_date=True)
        with replacing(folder) as partial:
            problems: list[Problem] = []
            keep = partial / FACES if plan.keep_faces else None
            looks = list(_looks(detector, tested.rule, sources, plan, problems, keep, progress))
            if not looks:
                raise _nothing(problems)
            found = {"inputs": inputs, **_found(asked, tested, looks, plan), "problems": _told(problems, sources)}
            _write(partial, found)
    return Surveyed(folder, found, up_to_date=False)


# ---- what is asked ----


def _sources(arguments: Sequence[str], out: Path | None) -> tuple[Source, ...]:
    """Return the files that are asked for, without what an earlier run has written among them."""
    found = media.find_sources(arguments)
    if out is None:
        return found
    return tuple(one for one in found if not one.path.resolve().is_relative_to(out.resolve()))


def _tested(
    root: Path, asked: Asked, detector: Detector, data: str | None, split: str, confidence: float | None, plan: Plan
) -> Tested:
    """Return how the detector erred on the test set, by the rule that the material will be judged by.

    Raises:
        MissingError: no evaluation of these weights at this picture size keeps it.
        DataError: the test set does not tell it.
    """
    folder, metrics = _evaluation(root, asked, detector.imgsz, data, split)
    point = metrics["operating_point"]
    value, chosen = (confidence, "user") if confidence is not None else (float(point["threshold"]), point["chosen"])
    rule = Rule(value, detector.imgsz, plan.least_side)
    if detector.backend.least > rule.faint:
        raise UsageError(
            f"this export leaves out what is below confidence {detector.backend.least:g} by itself, and unsure faces "
            f"from {rule.faint:g} on count as unknown",
            next_step="give the run's .pt, or an export with suppression outside: fmask export --nms outside",
        )
    measured = measure(store.read_pictures(folder), rule)
    try:
        check(measured)
    except DataError as error:
        raise DataError(f"{folder}: {error}", next_step="evaluate on a test set that has both (--data)") from error
    return Tested(
        metrics["ensemble"], split, digest_file(folder / store.DETECTIONS), rule, chosen, measured, _brightness(folder)
    )


def _evaluation(root: Path, asked: Asked, imgsz: int, data: str | None, split: str) -> tuple[Path, dict[str, Any]]:
    """Return the evaluation of these weights at this size: on the ensemble that is asked for, the run's, or the last."""
    home = asked.run.folder if asked.run is not None else runs.run_folder(root, asked.name)
    digest = asked.run.digest if asked.run is not None else asked.digest
    own = (asked.run.run.get("ensemble") or {}).get("name") if asked.run is not None else None
    found = []
    for path in sorted((home / "evaluation").glob(f"*-{split}/metrics.json")):
        said = read_json(path) or {}
        inputs = said.get("inputs") or {}
        fits = (inputs.get("weights"), inputs.get("imgsz")) == (digest, imgsz) and (
            path.parent / store.PICTURES
        ).is_file()
        if fits and data in (None, said["ensemble"]):
            found.append(((said["ensemble"] == own, path.stat().st_mtime_ns), path.parent, said))
    if not found:
        which = f"{home.name}" if asked.run is not None else f"--weights {asked.weights}"
        options = "".join([f" --data {data}" if data else "", f" --split {split}" if split != "test" else ""])
        raise MissingError(
            f"{home / 'evaluation'}: expected how these weights err at {imgsz} px on {data or 'an ensemble'}, {split}; "
            "found no such evaluation",
            next_step=f"fmask evaluate {which} --imgsz {imgsz}{options}",
        )
    _, folder, said = max(found, key=lambda one: one[0])
    return folder, said


def _brightness(folder: Path) -> list[float]:
    import pyarrow.parquet as pq

    return list(pq.read_table(folder / store.PICTURES, columns=["brightness"])["brightness"].to_pylist())


def _inputs(asked: Asked, detector: Detector, tested: Tested, sources: Sequence[Source], plan: Plan) -> dict[str, Any]:
    """Return all that decides what is written."""
    return {
        "version": SURVEY_VERSION,
        "weights": asked.digest,
        "backend": detector.backend.name,
        "imgsz": detector.imgsz,
        "confidence": tested.rule.confidence,
        "least_side": plan.least_side,
        "measured_on": {"ensemble": tested.ensemble, "split": tested.split, "detections": tested.digest},
        "every": plan.every,
        "keep_faces": plan.keep_faces,
        **plan.told,
        "sources": digest_data([[one.name, _content(one.path)] for one in sources]),
    }


def _content(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError:  # told as a problem when it is its turn
        return ""


def _default_folder(root: Path, asked: Asked, arguments: Sequence[str], inputs: Mapping[str, Any]) -> Path:
    """Return a folder below the run's, where git does not look: each question has its own."""
    label = re.sub(r"[^\w-]+", "-", Path(arguments[0]).stem).strip("-")[:_LABEL] or "pictures"
    return runs.run_folder(root, asked.name) / "surveys" / f"{label}-{digest_data(inputs)[:8]}"


def _known(folder: Path, inputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what a folder says of an equal question, or None where there is no such folder yet.

    Raises:
        UsageError: the folder holds something else.
    """
    found = read_json(folder / MARKER)
    if found is not None and found.get("inputs") == inputs:
        return found
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "another survey" if found is not None else "other files"
        raise UsageError(f"{folder}: holds {what}, which stay", next_step="choose another --out, or remove it first")
    return None


# ---- looking ----


def _looks(
    detector: Detector,
    rule: Rule,
    sources: Sequence[Source],
    plan: Plan,
    problems: list[Problem],
    keep: Path | None,
    progress: Progress,
) -> Iterator[Look]:
    """Yield what is seen in each picture and frame; problems are put aside."""
    asked: deque[Frame] = deque()

    def pixels() -> Iterator[Any]:
        places = {source.path: place for place, source in enumerate(sources)}
        for one in media.frames(sources, every=plan.every):
            progress("looking", places[one.path if isinstance(one, Problem) else one.source], len(sources))
            if isinstance(one, Problem):
                problems.append(one)
            else:
                asked.append(one)
                yield one.pixels

    names = media.output_names(sources)
    for found in detector.answers(pixels(), confidence=rule.faint, batch=1):
        frame = asked.popleft()
        height, width = frame.pixels.shape[:2]
        faces = tuple(judge(found, rule, width, height))
        if keep is not None:
            _keep(keep, names[frame.source], frame, faces)
        yield _look(frame, faces, plan.calendar)


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
        path = folder / (*CLASSES, "unknown")[face.answer] / f"{name}-{frame.index:06d}-{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame.pixels).crop(tuple(round(side) for side in box)).save(path, quality=90)


def _told(problems: Sequence[Problem], sources: Sequence[Source]) -> list[dict[str, str]]:
    names = {source.path: source.name for source in sources}
    return [{"file": names[one.path], "why": one.why} for one in problems]


def _nothing(problems: Sequence[Problem]) -> DataError:
    first = f"; {problems[0].path}: {problems[0].why}" if problems else ""
    return DataError(
        f"expected pictures or videos, found {len(problems)} files of which none can be read{first}",
        next_step="check what was named, or save it as JPEG, PNG or mp4",
    )


# ---- from what was seen to what is said ----


def _found(asked: Asked, tested: Tested, looks: Sequence[Look], plan: Plan) -> dict[str, Any]:
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
        "warnings": [*whole.warnings, *_notes(tested, looks)],
        "correlation": None if alike is None else round(alike, _DIGITS),
        "confidence_chosen": tested.chosen,
        "detector": _detector(tested),
        "bins": rows if len(rows) > 1 or rows[0]["time"] or rows[0]["place"] else [],
    }


def stream_of(looks: Sequence[Look]) -> Stream:
    """Return what was seen, by what belongs together."""
    import numpy as np

    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(look.cluster for look in looks))}
    pictures = np.bincount([numbers[look.cluster] for look in looks], minlength=len(numbers))
    rows = [(numbers[look.cluster], face.answer, face.side) for look in looks for face in look.faces]
    return Stream(pictures.astype(np.float64), boxes(rows))


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
        "pictures": one.pictures,
        "clusters": one.clusters,
        "warnings": list(one.warnings),
    }


def _notes(tested: Tested, looks: Sequence[Look]) -> Iterator[str]:
    yield from thin(tested.measured)
    yield from odd_light(tested.brightness, [look.brightness for look in looks])
    crowded = sum(len(look.faces) >= MAX_DETECTIONS for look in looks)
    if crowded:
        yield f"{crowded:,} pictures hold {MAX_DETECTIONS} faces, the most that is told: some are left out"
    if any(look.is_video for look in looks):
        yield "videos: n counts sightings, not people; who stays in view is counted in every frame that was taken"


def odd_light(tested: Sequence[float], seen: Sequence[float]) -> list[str]:
    """Return a warning where many pictures are darker or brighter than nearly all of the test set's.

    Args:
        tested, seen: the mean luma of each picture, 0 to 255.
    """
    import numpy as np

    low, high = np.quantile(tested, [0.025, 0.975])
    values = np.asarray(seen)
    darker, brighter = float((values < low).mean()), float((values > high).mean())
    if darker + brighter < ODD_LIGHT:
        return []
    what, share = ("darker", darker) if darker > brighter else ("brighter", brighter)
    return [
        f"{100 * share:.0f} % of the pictures are {what} than nearly all of the test set's (mean luma {low:.0f} to "
        f"{high:.0f}): how the detector errs in such light is not known"
    ]


def _detector(tested: Tested) -> dict[str, Any]:
    """Return what the test set says of the detector, as counts."""
    import numpy as np

    measured = tested.measured
    answers = {
        name: np.bincount(measured.answer[measured.name == index], minlength=4).tolist()
        for index, name in enumerate(CLASSES)
    }
    false = np.bincount(measured.false.answer, minlength=3).tolist()
    return {
        "ensemble": tested.ensemble,
        "split": tested.split,
        "pictures": measured.pictures,
        "answers": [*CLASSES, "unknown", "missed"],
        **answers,
        "false": false,
    }


# ---- what is written ----


def _write(folder: Path, found: Mapping[str, Any]) -> None:
    from facemask_train.use import survey_page

    write_bytes(folder / TABLE, _csv(found).encode())
    write_bytes(folder / CHART, survey_page.chart(found).encode())
    write_bytes(folder / PAGE, survey_page.page(found))
    write_json(folder / MARKER, found)


COLUMNS = (
    "place", "time", "rate", "low", "high", "uncorrected", "n", "unknown", "if_no_unknown_masked",
    "if_all_unknown_masked", "pictures", "clusters", "warnings",
)  # fmt: skip


def _csv(found: Mapping[str, Any]) -> str:
    """Return the bins, and the whole in the last row, as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in (*found["bins"], {**found, "place": "all", "time": "all"}):
        ends, unsure = one["interval"] or ("", ""), one["unknown"]["bounds"] or ("", "")
        cells = (one["place"], one["time"], one["rate"], *ends, one["uncorrected"], one["n"], one["unknown"]["faces"])
        writer.writerow((*cells, *unsure, one["pictures"], one["clusters"], "; ".join(one["warnings"])))
    return stream.getvalue()
