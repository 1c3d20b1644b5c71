"""Write a survey's files: `survey.json`, a CSV, the chart as SVG and PNG, the report, and images of the faces."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from facemask_train.apps.media import Frame
from facemask_train.apps.records.survey import Survey, SurveyBin
from facemask_train.apps.survey.face_rules import ClassifiedFace
from facemask_train.core.files import write_bytes
from facemask_train.core.types import CLASSES

TABLE, REPORT, CHART_SVG, CHART_PNG, FACES = "survey.csv", "report.html", "rates.svg", "rates.png", "faces"

COLUMNS = (
    "place", "time", "rate", "low", "high", "uncorrected", "n", "unknown", "if_no_unknown_masked",
    "if_all_unknown_masked", "images", "clusters", "warnings",
)  # fmt: skip

_MARGIN = 0.2  # around the image of a face, relative to its box


def write(folder: Path, survey: Survey) -> None:
    """Write all files but the faces; `survey.json` last."""
    from facemask_train.report import survey as survey_report

    write_bytes(folder / TABLE, _csv(survey).encode())
    bins = survey.bins or (SurveyBin("", "all", survey.overall),)
    write_bytes(folder / CHART_SVG, survey_report.chart(bins).encode())
    survey_report.draw(bins, folder / CHART_PNG)
    write_bytes(folder / REPORT, survey_report.page(survey))
    survey.save(folder)


def _csv(survey: Survey) -> str:
    """Return a row for each bin, and one for all images at the end."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in (*survey.bins, SurveyBin("all", "all", survey.overall)):
        estimate = one.estimate
        interval, bounds = estimate.interval or ("", ""), estimate.unknown_bounds or ("", "")
        counts = (estimate.uncorrected, estimate.n, estimate.unknown)
        size = (estimate.images, estimate.clusters)
        writer.writerow(
            (one.place, one.time, estimate.rate, *interval, *counts, *bounds, *size, "; ".join(estimate.warnings))
        )
    return stream.getvalue()


def save_faces(
    frames: Iterable[tuple[Frame, tuple[ClassifiedFace, ...]]], folder: Path, names: Mapping[Path, str]
) -> Iterator[tuple[Frame, tuple[ClassifiedFace, ...]]]:
    """Write an image of every face into `folder`/faces, and yield what came in.

    Args:
        names: a unique name without extension for each source's path.
    """
    for frame, faces in frames:
        _save_faces(folder / FACES, names[frame.source], frame, faces)
        yield frame, faces


def _save_faces(folder: Path, name: str, frame: Frame, faces: Sequence[ClassifiedFace]) -> None:
    from PIL import Image

    height, width = frame.pixels.shape[:2]
    for number, face in enumerate(faces):
        left, top, right, bottom = face.detection.corners
        margin = _MARGIN * max(right - left, bottom - top)
        box = (max(0, left - margin), max(0, top - margin), min(width, right + margin), min(height, bottom + margin))
        left, top, right, bottom = (round(side) for side in box)
        path = folder / (*CLASSES, "unknown")[face.outcome] / f"{name}-{frame.index:06d}-{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame.pixels).crop((left, top, right, bottom)).save(path, quality=90)
