"""Validates published rows: each becomes an annotation, repaired if necessary, or is refused with a cause.

Pure: does not read or write files. Every image and box is either kept or refused, exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

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
from facemask_train.dataset.loading.exif import upright
from facemask_train.dataset.loading.images import ImageFacts
from facemask_train.dataset.loading.readable import unreadable

UNKNOWN = "unknown"
IGNORE = "ignore"
"""In a class map: a class that is not a face. Its boxes are left out."""
WornPolicy = Literal["drop-image", "drop-box", "as-no-mask"]

_ROUNDING = 2e-6  # of the longer side: the rounding error of a normalized box with six decimals
FAR_OUTSIDE = "far-outside"
"""A box that is beyond the edge by more than a slip: it belongs to another image, or was drawn on another size."""
_EDGE = 1.0  # pixels
_MIN_BOX = 1.0  # pixels per side; nobody can see a face in less


@dataclass(frozen=True, slots=True)
class Issue:
    """One image or box that was repaired, refused or merged, and why.

    Attributes:
        cause: a short name; several repairs of one item are one issue, with their causes joined by `+`.
        number: the row in `file`; 0 for an image.
        label: what the class means: one of CLASSES, `worn_incorrectly`, or `unknown`.
        published: the class name in the source.
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
class ValidatedSource:
    """The result of validating a source. `rows` are the published rows behind each record's labels, by image path."""

    records: tuple[ImageRecord, ...]
    issues: tuple[Issue, ...]
    rows: Mapping[str, tuple[PublishedRow, ...]]


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How the rows of a source are understood.

    Attributes:
        classes: what each published class means.
        worn_incorrectly: how incorrectly worn masks are handled.
        drawn_as_stored: the images whose boxes were drawn without regard to their EXIF orientation (see `exif`).
    """

    source: str
    classes: Mapping[str, str]
    worn_incorrectly: WornPolicy
    drawn_as_stored: frozenset[str] = frozenset()

    def meaning(self, row: PublishedRow) -> str:
        meaning = UNKNOWN if row.cause == "unknown-class" else self.classes.get(row.name, UNKNOWN)
        return UNKNOWN if meaning == IGNORE else meaning

    def issue(self, row: PublishedRow, image: str, action: Action, cause: str, detail: str) -> Issue:
        meaning = self.meaning(row)
        return Issue(self.source, image, "box", action, cause, detail, row.file, row.number, meaning, row.name)


def validate(reading: SourceReading, facts: Mapping[str, ImageFacts], rules: LabelRules) -> ValidatedSource:
    """Return the records and issues of a source.

    Args:
        facts: by image path, for every image of the reading.
    """
    records: list[ImageRecord] = []
    rows: dict[str, tuple[PublishedRow, ...]] = {}
    issues = [rules.issue(row, "", "refused", row.cause, row.detail) for row in reading.orphans]
    for image in reading.images:
        record, kept, found = _validate_image(image, facts[image.path], rules)
        issues += found
        if record is not None:
            records.append(record)
            rows[image.path] = kept
    return ValidatedSource(tuple(records), tuple(issues), rows)


def _validate_image(
    image: PublishedImage, facts: ImageFacts, rules: LabelRules
) -> tuple[ImageRecord | None, tuple[PublishedRow, ...], list[Issue]]:
    """Return the record of an image (None if refused), the rows behind its labels, and its issues."""
    cause, detail = _refusal(image, facts, rules)
    if cause:
        refused = Issue(rules.source, image.path, "image", "refused", cause, detail)
        return None, (), [refused, *_refused_rows(image, cause, rules)]
    labels, rows, issues = _validate_rows(image, facts, rules)
    if not labels and any(issue.cause == FAR_OUTSIDE for issue in issues):  # its faces are somewhere, so not background
        refused = Issue(rules.source, image.path, "image", "refused", "no-box-inside", "all its boxes are elsewhere")
        return None, (), [refused, *issues]
    if facts.repairs:
        words = "+".join(facts.repairs)
        issues.insert(0, Issue(rules.source, image.path, "image", "repaired", words))
    record = ImageRecord(rules.source, image.path, facts.sha256, facts.width, facts.height, tuple(labels))
    return record, tuple(rows), issues


def _refusal(image: PublishedImage, facts: ImageFacts, rules: LabelRules) -> tuple[str, str]:
    """Return why a whole image is refused (cause, detail), or two empty strings."""
    if facts.cause:
        return facts.cause, facts.detail
    if image.cause:
        return image.cause, image.detail
    if image.declared not in (None, (facts.width, facts.height), facts.stored):
        return "size-mismatch", f"annotated as {image.declared}, found {(facts.width, facts.height)}"
    if (row := unreadable(image)) is not None:
        return "unreadable-rows", f"{row.file}, row {row.number}: {row.cause}: {row.detail}"
    worn = [row.number for row in image.rows if rules.meaning(row) == WORN_INCORRECTLY]
    if worn and rules.worn_incorrectly == "drop-image":
        return WORN_INCORRECTLY_CAUSE, f"in row {', '.join(map(str, worn))}"
    return "", ""


def _refused_rows(image: PublishedImage, cause: str, rules: LabelRules) -> Iterator[Issue]:
    """Yield an issue for each row of a refused image, with the row's own cause if it has one, else the image's."""
    for row in image.rows:
        if row.cause and row.cause != "no-image-size":
            yield rules.issue(row, image.path, "refused", row.cause, row.detail)
        elif cause == WORN_INCORRECTLY_CAUSE and rules.meaning(row) == WORN_INCORRECTLY:
            yield rules.issue(row, image.path, "refused", cause, "")
        else:
            yield rules.issue(row, image.path, "refused", "in-refused-image", cause)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The label of a row (None if refused), and the cause and detail of its repair or refusal."""

    label: Annotation | None
    cause: str = ""
    detail: str = ""


def _validate_rows(
    image: PublishedImage, facts: ImageFacts, rules: LabelRules
) -> tuple[list[Annotation], list[PublishedRow], list[Issue]]:
    labels: list[Annotation] = []
    rows: list[PublishedRow] = []
    issues: list[Issue] = []
    seen: dict[Corners, Annotation] = {}
    stored = image.path in rules.drawn_as_stored
    for row in image.rows:
        verdict = _refuse_duplicate(
            _validate_stored_row(row, facts, rules) if stored else _validate_row(row, facts, rules), seen
        )
        if verdict.label:
            labels.append(verdict.label)
            rows.append(row)
        if verdict.cause:
            action: Action = "repaired" if verdict.label else "refused"
            issues.append(rules.issue(row, image.path, action, verdict.cause, verdict.detail))
    return labels, rows, issues


def _validate_row(row: PublishedRow, facts: ImageFacts, rules: LabelRules) -> _Verdict:
    if row.corners is None:
        return _Verdict(None, row.cause, row.detail)
    name = rules.meaning(row)
    if name == WORN_INCORRECTLY and rules.worn_incorrectly == "as-no-mask":
        name = "no_mask"
    if name == WORN_INCORRECTLY:
        return _Verdict(None, WORN_INCORRECTLY_CAUSE)
    if rules.classes.get(row.name) == IGNORE:
        return _Verdict(None, "ignored-class", f"the class map ignores {row.name!r}")
    if name not in CLASSES:
        return _Verdict(None, "unknown-class", f"found {row.name!r}, known: {', '.join(rules.classes)}")
    box, cause, detail = _inside(row.corners, facts.width, facts.height)
    if box is None:
        return _Verdict(None, cause, detail)
    return _Verdict(Annotation(name, box), "+".join(filter(None, (row.repair, cause))), detail)


def _validate_stored_row(row: PublishedRow, facts: ImageFacts, rules: LabelRules) -> _Verdict:
    """Validate a row whose box was drawn on the image as stored, without its EXIF orientation."""
    verdict = _validate_row(replace(row, corners=row.corners and upright(row.corners, facts)), facts, rules)
    if verdict.label is None:
        return verdict
    return replace(verdict, cause="+".join(filter(None, ("exif-turned", verdict.cause))))


def _refuse_duplicate(verdict: _Verdict, seen: dict[Corners, Annotation]) -> _Verdict:
    """Refuse a label with the same box as an earlier one, to a thousandth of a pixel; add any other to `seen`."""
    if verdict.label is None:
        return verdict
    x_min, y_min, x_max, y_max = verdict.label.box.corners
    key = round(x_min, 3), round(y_min, 3), round(x_max, 3), round(y_max, 3)
    earlier = seen.setdefault(key, verdict.label)
    if earlier is verdict.label:
        return verdict
    if earlier.name == verdict.label.name:
        return _Verdict(None, "duplicate")
    return _Verdict(None, "contradicted", f"the same box is also {earlier.name}")


def _inside(corners: Corners, width: int, height: int) -> tuple[Box | None, str, str]:
    """Return the part of a box inside the image (None if refused), and the cause and detail of the problem."""
    shown = "({:g}, {:g}, {:g}, {:g})".format(*corners)
    x_min, y_min, x_max, y_max = corners
    if x_max <= x_min or y_max <= y_min:
        return None, "no-area", f"found {shown}"
    if x_max <= 0 or y_max <= 0 or x_min >= width or y_min >= height:
        gap = max(-x_max, -y_max, x_min - width, y_min - height)
        return None, FAR_OUTSIDE if gap > _EDGE else "outside", f"found {shown} in {width} x {height} px"
    clipped = (max(x_min, 0.0), max(y_min, 0.0), min(x_max, float(width)), min(y_max, float(height)))
    if clipped[2] - clipped[0] < _MIN_BOX or clipped[3] - clipped[1] < _MIN_BOX:
        return None, "too-small", f"found {shown}, less than {_MIN_BOX:g} px a side inside the image"
    past = max(abs(before - after) for before, after in zip(corners, clipped, strict=True))
    if past <= _ROUNDING * max(width, height):
        return Box(*clipped), "", ""
    return Box(*clipped), "past-edge", f"found {shown} in {width} x {height} px"
