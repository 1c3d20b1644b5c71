"""Check, repair, quarantine: published rows become labels, and every one that does not is a row with its cause.

Pure: reads and writes no file. The books balance by construction: an image or a box is kept or refused, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from facemask_train.core.boxes import oriented
from facemask_train.core.types import (
    CLASSES,
    WORN_INCORRECTLY,
    WORN_INCORRECTLY_CAUSE,
    Annotation,
    Box,
    Corners,
    ImageRecord,
    PublishedImage,
    PublishedRow,
    SourceReading,
)
from facemask_train.dataset.card import Action
from facemask_train.dataset.loading.images import Facts

UNKNOWN = "unknown"
Worn = Literal["drop-image", "drop-box", "as-no-mask"]

_ROUNDING = 2e-6  # of the longer side: what six decimals of a normalised box can be off by; not a defect
EXIF_TURNS = {5: 5, 6: 3, 7: 7, 8: 1}
"""The orientation (see `geometry.oriented`) that shows an image upright, by the EXIF one that swaps its sides."""

_MIN_BOX = 1.0  # pixels a side; less is not a face that anyone saw


@dataclass(frozen=True, slots=True)
class Problem:
    """One image or box that was repaired, refused or merged, and why.

    `number` is the row in `file` (0 for an image); `label` is what the class means (one of CLASSES,
    `worn_incorrectly`, or `unknown`); `published` is the class as the source calls it. Several repairs of one thing
    are one problem, its causes joined by `+`.
    """

    source: str
    image: str
    item: Literal["image", "box"]
    action: Action
    cause: str
    detail: str = ""
    file: str = ""
    number: int = 0
    label: str = ""
    published: str = ""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a source's images. `rows` holds, by image path, the rows that became a record's labels."""

    records: tuple[ImageRecord, ...]
    problems: tuple[Problem, ...]
    rows: Mapping[str, tuple[PublishedRow, ...]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a source's class names mean, and what becomes of masks that are worn incorrectly."""

    source: str
    classes: Mapping[str, str]
    worn_incorrectly: Worn

    def meaning(self, row: PublishedRow) -> str:
        return UNKNOWN if row.cause == "unknown-class" else self.classes.get(row.name, UNKNOWN)

    def problem(self, row: PublishedRow, image: str, action: Action, cause: str, detail: str) -> Problem:
        meaning = self.meaning(row)
        return Problem(self.source, image, "box", action, cause, detail, row.file, row.number, meaning, row.name)


def clean(reading: SourceReading, facts: Mapping[str, Facts], rules: Rules) -> Cleaned:
    """Turn what a source published into records and problems.

    Args:
        facts: by image path, for every image of the reading.
    """
    records: list[ImageRecord] = []
    rows: dict[str, tuple[PublishedRow, ...]] = {}
    problems = [rules.problem(row, "", "refused", row.cause, row.detail) for row in reading.orphans]
    for image in reading.images:
        record, kept, found = _clean_image(image, facts[image.path], rules)
        problems += found
        if record is not None:
            records.append(record)
            rows[image.path] = kept
    return Cleaned(tuple(records), tuple(problems), rows)


def _clean_image(
    image: PublishedImage, facts: Facts, rules: Rules
) -> tuple[ImageRecord | None, tuple[PublishedRow, ...], list[Problem]]:
    """Return an image's record (None: refused), the rows that its labels are made of, and its problems."""
    cause, detail = _refusal(image, facts, rules)
    if cause:
        refused = Problem(rules.source, image.path, "image", "refused", cause, detail)
        return None, (), [refused, *_refused_rows(image, cause, rules)]
    labels, rows, problems = _clean_rows(image, facts, rules)
    if facts.repairs:
        words = "+".join(facts.repairs)
        problems.insert(0, Problem(rules.source, image.path, "image", "repaired", words))
    record = ImageRecord(rules.source, image.path, facts.sha256, facts.width, facts.height, tuple(labels))
    return record, tuple(rows), problems


def _refusal(image: PublishedImage, facts: Facts, rules: Rules) -> tuple[str, str]:
    """Return why the whole image is refused (cause, detail), or two empty strings."""
    if facts.cause:
        return facts.cause, facts.detail
    if image.cause:
        return image.cause, image.detail
    if image.declared not in (None, (facts.width, facts.height), facts.stored):
        return "size-mismatch", f"annotated as {image.declared}, found {(facts.width, facts.height)}"
    worn = [row.number for row in image.rows if rules.meaning(row) == WORN_INCORRECTLY]
    if worn and rules.worn_incorrectly == "drop-image":
        return WORN_INCORRECTLY_CAUSE, f"in row {', '.join(map(str, worn))}"
    return "", ""


def _refused_rows(image: PublishedImage, cause: str, rules: Rules) -> Iterator[Problem]:
    """Give each row of a refused image its own cause where it has one, or the image's."""
    for row in image.rows:
        if row.cause and row.cause != "no-image-size":
            yield rules.problem(row, image.path, "refused", row.cause, row.detail)
        elif cause == WORN_INCORRECTLY_CAUSE and rules.meaning(row) == WORN_INCORRECTLY:
            yield rules.problem(row, image.path, "refused", cause, "")
        else:
            yield rules.problem(row, image.path, "refused", "in-refused-image", cause)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A row's label (None: refused), and the cause and detail of its repair or refusal."""

    label: Annotation | None
    cause: str = ""
    detail: str = ""


def _clean_rows(
    image: PublishedImage, facts: Facts, rules: Rules
) -> tuple[list[Annotation], list[PublishedRow], list[Problem]]:
    labels: list[Annotation] = []
    rows: list[PublishedRow] = []
    problems: list[Problem] = []
    turned = image.declared is not None and image.declared != (facts.width, facts.height)
    for row in image.rows:
        verdict = _once(_judge_turned(row, facts, rules) if turned else _judge(row, facts, rules), labels)
        if verdict.label:
            labels.append(verdict.label)
            rows.append(row)
        if verdict.cause:
            action: Action = "repaired" if verdict.label else "refused"
            problems.append(rules.problem(row, image.path, action, verdict.cause, verdict.detail))
    return labels, rows, problems


def _judge(row: PublishedRow, facts: Facts, rules: Rules) -> _Verdict:
    if row.corners is None:
        return _Verdict(None, row.cause, row.detail)
    name = rules.meaning(row)
    if name == WORN_INCORRECTLY and rules.worn_incorrectly == "as-no-mask":
        name = "no_mask"
    if name == WORN_INCORRECTLY:
        return _Verdict(None, WORN_INCORRECTLY_CAUSE)
    if name not in CLASSES:
        return _Verdict(None, "unknown-class", f"found {row.name!r}, known: {', '.join(rules.classes)}")
    box, cause, detail = _inside(row.corners, facts.width, facts.height)
    return _Verdict(Annotation(name, box) if box else None, cause, detail)


def _judge_turned(row: PublishedRow, facts: Facts, rules: Rules) -> _Verdict:
    """Judge a row whose box was drawn on the pixels as stored, before the EXIF turn."""
    upright = row.corners and oriented(row.corners, *facts.stored, EXIF_TURNS[facts.orientation])
    verdict = _judge(replace(row, corners=upright), facts, rules)
    if verdict.label is None:
        return verdict
    return replace(verdict, cause="+".join(filter(None, ("exif-turned", verdict.cause))))


def _once(verdict: _Verdict, labels: list[Annotation]) -> _Verdict:
    """Refuse a label whose place is taken by an earlier one."""
    twin = _twin(verdict.label, labels) if verdict.label else None
    if verdict.label is None or twin is None:
        return verdict
    if twin.name == verdict.label.name:
        return _Verdict(None, "duplicate")
    return _Verdict(None, "contradicted", f"the same box is {twin.name} too")


def _inside(corners: Corners, width: int, height: int) -> tuple[Box | None, str, str]:
    """Return the part of a box that lies inside the image, with the cause and detail of what was wrong."""
    shown = "({:g}, {:g}, {:g}, {:g})".format(*corners)
    x_min, y_min, x_max, y_max = corners
    if x_max <= x_min or y_max <= y_min:
        return None, "no-area", f"found {shown}"
    if x_max <= 0 or y_max <= 0 or x_min >= width or y_min >= height:
        return None, "outside", f"found {shown} in {width} x {height} px"
    clipped = (max(x_min, 0.0), max(y_min, 0.0), min(x_max, float(width)), min(y_max, float(height)))
    if clipped[2] - clipped[0] < _MIN_BOX or clipped[3] - clipped[1] < _MIN_BOX:
        return None, "too-small", f"found {shown}, less than {_MIN_BOX:g} px a side inside the image"
    past = max(abs(before - after) for before, after in zip(corners, clipped, strict=True))
    if past <= _ROUNDING * max(width, height):
        return Box(*clipped), "", ""
    return Box(*clipped), "past-edge", f"found {shown} in {width} x {height} px"


def _twin(label: Annotation, labels: list[Annotation]) -> Annotation | None:
    """Return an earlier label on the same box, to a thousandth of a pixel."""
    place = [round(corner, 3) for corner in label.box.corners]
    return next((other for other in labels if [round(corner, 3) for corner in other.box.corners] == place), None)
