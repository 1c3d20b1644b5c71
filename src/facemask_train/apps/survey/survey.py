"""`fmask survey`: the share of faces with a mask by place and time, corrected for the detector's errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.apps import job, media
from facemask_train.apps.media import Frame, Problem, Source
from facemask_train.apps.records.survey import PrevalenceEstimate, Survey, SurveyBin, SurveyInputs
from facemask_train.apps.resolve_model import ResolvedModel, resolve_model
from facemask_train.apps.survey import output
from facemask_train.apps.survey.caveats import brightness_caveats, reference_caveats
from facemask_train.apps.survey.detector_errors import DetectorErrors, ReferenceSet, find_detector_errors
from facemask_train.apps.survey.face_rules import ClassifiedFace, FaceRules, classify_faces, detected_boxes
from facemask_train.apps.survey.prevalence import estimate_prevalence
from facemask_train.apps.survey.samples import SurveySample, intracluster_correlation
from facemask_train.apps.survey.time_bins import Bin, BinningRules
from facemask_train.core.files import digest_data, replacing, stage
from facemask_train.core.types import Progress, no_progress
from facemask_train.model.detector import Detector, load_detector
from facemask_train.model.validation import MAX_DETECTIONS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAME_INTERVAL = 10.0
"""Seconds between the video frames to process."""

_DIGITS = 6


@dataclass(frozen=True, eq=False, slots=True)
class SurveyOptions:
    """How a survey is made.

    Attributes:
        binning: how images are assigned to places, times and clusters.
        frame_interval: seconds between the video frames to process.
        keep_faces: write an image of every face.
        max_pixels: the largest image that is read, in pixels.
    """

    binning: BinningRules = field(default_factory=BinningRules)
    frame_interval: float = FRAME_INTERVAL
    keep_faces: bool = False
    max_pixels: int = media.MAX_PIXELS


@dataclass(frozen=True, slots=True)
class SurveyResult:
    """A finished survey: its folder, and its `survey.json`."""

    folder: Path
    record: Survey
    up_to_date: bool


@dataclass(frozen=True, slots=True)
class SurveyImage:
    """One image or video frame: its bin and cluster, its faces, and its mean luma (0 to 255)."""

    bin: Bin
    cluster: tuple[str, ...]
    faces: tuple[ClassifiedFace, ...]
    brightness: float
    is_video: bool


FacesInFrame = tuple[Frame, tuple[ClassifiedFace, ...]]


def survey(
    root: Path,
    arguments: Sequence[str],
    *,
    run: str | None = None,
    weights: Path | None = None,
    imgsz: int | None = None,
    reference: ReferenceSet | None = None,
    device: str = "",
    out: Path | None = None,
    options: SurveyOptions | None = None,
    progress: Progress = no_progress,
) -> SurveyResult:
    """Estimate the share of masked faces in images and videos by place and time. An equal survey is not repeated.

    Args:
        arguments: files, folders, globs.
        reference: where the detector's errors were measured (by `fmask evaluate`), and when a face is classified.
        out: the folder to write; a folder below the run's if it is None.

    Raises:
        MissingError: there is no such model or no evaluation of it, or an argument matches no file.
        UsageError: options that exclude each other, or `out` contains something else.
        DataError: the model or the reference set cannot be used, or no image can be read.
    """
    options = options or SurveyOptions()
    model = resolve_model(root, run, weights)
    sources = job.find_sources(arguments, out)
    detector = load_detector(model.weights, imgsz=model.imgsz(imgsz), device=device, streams=job.streams(device))
    errors = find_detector_errors(root, model, detector, reference or ReferenceSet())
    inputs = _inputs(model, detector, errors, sources, options)
    folder = out or job.default_folder(root, "surveys", model.name, arguments, inputs)
    with stage(folder):
        known = job.find_finished(folder, Survey, inputs, "another survey")
        if known is not None:
            return SurveyResult(folder, known, up_to_date=True)
        with replacing(folder) as partial:
            problems: list[Problem] = []
            frames = _read_frames(sources, options, problems, progress)
            faces = _find_faces(detector, frames, errors.rules)
            if options.keep_faces:
                faces = output.save_faces(faces, partial, media.output_names(sources))
            images = [_survey_image(*one, options.binning) for one in faces]
            if not images:
                raise job.nothing_read(problems)
            estimates = _estimate(errors, images)
            unmatched = options.binning.unmatched_rows([source.name for source in sources])
            caveats = (*estimates.overall.warnings, *_caveats(errors, images), *_unmatched_caveat(unmatched))
            record = Survey(
                inputs=inputs,
                model=model.name,
                confidence_chosen=errors.confidence_chosen,
                overall=replace(estimates.overall, warnings=caveats),
                bins=estimates.bins,
                correlation=estimates.correlation,
                reference=errors.counts(),
                problems=job.unreadable_files(problems, sources),
            )
            output.write(partial, record)
    return SurveyResult(folder, record, up_to_date=False)


def _read_frames(
    sources: Sequence[Source], options: SurveyOptions, problems: list[Problem], progress: Progress
) -> Iterator[Frame]:
    interval, most = options.frame_interval, options.max_pixels
    return job.read_frames(sources, problems, progress, "surveying", frame_interval=interval, max_pixels=most)


def _inputs(
    model: ResolvedModel, detector: Detector, errors: DetectorErrors, sources: Sequence[Source], options: SurveyOptions
) -> SurveyInputs:
    return SurveyInputs(
        version=Survey.VERSION,
        weights=model.digest,
        backend=detector.backend.name,
        imgsz=detector.imgsz,
        confidence=errors.rules.confidence,
        min_face=errors.rules.min_face,
        reference=errors.source,
        frame_interval=options.frame_interval,
        max_pixels=options.max_pixels,
        keep_faces=options.keep_faces,
        cluster_seconds=options.binning.cluster_seconds,
        by=options.binning.by,
        places=_digest_table(options.binning) if options.binning.table else None,
        pattern=options.binning.pattern.text if options.binning.pattern else None,
        start=options.binning.start.isoformat() if options.binning.start else None,
        sources=job.digest_sources(sources),
    )


def _digest_table(binning: BinningRules) -> str:
    """Return a digest of the rows of the table of places."""
    rows = [(row, one.place, str(one.time), one.clock, one.exact) for row, one in binning.table]
    return digest_data(rows)


# ---- detection ----


def _find_faces(detector: Detector, frames: Iterator[Frame], rules: FaceRules) -> Iterator[FacesInFrame]:
    """Yield each frame with its faces."""
    detected = job.detect(detector, frames, rules.min_confidence, job.batch_size(detector))
    for frame, detections in detected:
        height, width = frame.pixels.shape[:2]
        yield frame, tuple(classify_faces(detections, rules, width, height))


def _survey_image(frame: Frame, faces: tuple[ClassifiedFace, ...], binning: BinningRules) -> SurveyImage:
    when = binning.place_time(frame.name, frame.taken, frame.time)
    cluster = binning.cluster(frame.name, when, frame.time)
    return SurveyImage(binning.bin(when), cluster, faces, _luma(frame.pixels), frame.time is not None)


def _luma(pixels: NDArray[np.uint8]) -> float:
    """Return the mean luma, 0 to 255, computed as in `slices.Traits`."""
    import cv2

    return float(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0])


# ---- estimates ----


@dataclass(frozen=True, slots=True)
class _Estimates:
    """The estimate over all images, those of the bins, and the intracluster correlation over all bins."""

    overall: PrevalenceEstimate
    bins: tuple[SurveyBin, ...]
    correlation: float | None


def _estimate(errors: DetectorErrors, images: Sequence[SurveyImage]) -> _Estimates:
    binned: dict[Bin, list[SurveyImage]] = {}
    for image in images:
        binned.setdefault(image.bin, []).append(image)
    samples = {one: sample_of(binned[one]) for one in sorted(binned)}
    correlation = intracluster_correlation(samples.values())
    overall = estimate_prevalence(errors.faces, sample_of(images))
    bins = tuple(
        SurveyBin(one.place, one.time, _rounded(estimate_prevalence(errors.faces, sample, correlation=correlation)))
        for one, sample in samples.items()
    )
    known = len(bins) > 1 or any(one.time or one.place for one in bins)
    rounded = None if correlation is None else round(correlation, _DIGITS)
    return _Estimates(_rounded(overall), bins if known else (), rounded)


def sample_of(images: Sequence[SurveyImage]) -> SurveySample:
    """Return the boxes in these images, by cluster."""
    import numpy as np

    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(image.cluster for image in images))}
    counts = np.bincount([numbers[image.cluster] for image in images], minlength=len(numbers))
    rows = [(numbers[image.cluster], face.outcome, face.side) for image in images for face in image.faces]
    return SurveySample(counts.astype(np.float64), detected_boxes(rows))


def _rounded(estimate: PrevalenceEstimate) -> PrevalenceEstimate:
    def interval(ends: tuple[float, float] | None) -> tuple[float, float] | None:
        return None if ends is None else (round(ends[0], _DIGITS), round(ends[1], _DIGITS))

    return replace(
        estimate,
        rate=None if estimate.rate is None else round(estimate.rate, _DIGITS),
        interval=interval(estimate.interval),
        uncorrected=None if estimate.uncorrected is None else round(estimate.uncorrected, _DIGITS),
        uncorrected_interval=interval(estimate.uncorrected_interval),
        unknown_bounds=interval(estimate.unknown_bounds),
    )


def _caveats(errors: DetectorErrors, images: Sequence[SurveyImage]) -> Iterator[str]:
    yield from reference_caveats(errors.faces)
    yield from brightness_caveats(errors.brightness, [image.brightness for image in images])
    crowded = sum(len(image.faces) >= MAX_DETECTIONS for image in images)
    if crowded:
        yield f"{crowded:,} images have {MAX_DETECTIONS} faces, the detector's maximum: some faces are not counted"
    if any(image.is_video for image in images):
        yield "videos: n counts sightings, not people; a person who stays in view is counted in every sampled frame"


def _unmatched_caveat(rows: Sequence[str]) -> list[str]:
    more = f" and {len(rows) - 1:,} more rows" if len(rows) > 1 else ""
    return [f"the table of places has a row for {rows[0]}{more}, which match none of the files"] if rows else []
