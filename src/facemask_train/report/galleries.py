"""The contact sheets of an evaluation: the worst errors, suspected label errors, perturbed faces, disagreements."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from facemask_train.core.contact_sheet import (
    BAD,
    BOX_LEGEND,
    GOOD,
    Tile,
    TileBox,
    TileSection,
    save_contact_sheet,
    square_window,
    tile_image,
)
from facemask_train.core.drawing import DETECTED, GRAY, LABELED, open_upright
from facemask_train.core.types import Corners, Detection, ImageResult
from facemask_train.eval.measures.label_errors import LabelError
from facemask_train.eval.measures.matching import (
    ERROR_KINDS,
    DetectionError,
    ErrorKind,
    detection_errors,
    worst_errors,
)
from facemask_train.eval.measures.paired_bootstrap import Disagreement
from facemask_train.eval.perturbations.perturb import PERTURBATIONS, Perturbation
from facemask_train.eval.perturbations.shortcuts import Outcome, Trial, trial_image

MAX_DISAGREEMENTS = 18
_COLUMNS, _ROWS = 6, 2
_TITLES: dict[ErrorKind, str] = {
    "missed": "Missed faces, the largest first",
    "wrong class": "Wrong class, the most confident first",
    "false positive": "False positives, the most confident first",
}

# ---- errors ----


def draw_errors(images: Sequence[ImageResult], data: Path, confidence: float, title: str, path: Path) -> None:
    """Draw the worst errors as a JPEG: for each kind up to two rows of crops with labeled and detected boxes.

    Args:
        data: the ensemble's folder; the images' paths are relative to it.
        confidence: detections count above it.
    """
    errors, sections = detection_errors(images, confidence), []
    for kind in ERROR_KINDS:
        shown = worst_errors(errors, kind, at_most=_COLUMNS * _ROWS)
        count = sum(one.kind == kind for one in errors)
        many = "none" if not count else f"{count}, the worst {len(shown)} shown" if len(shown) < count else str(count)
        tiles = [_error_tile(one, data, confidence) for one in shown]
        sections.append(TileSection(f"{_TITLES[kind]}: {many}", tiles))
    note = f"detections above confidence {confidence:.2f}, matched at IoU 0.5"
    save_contact_sheet(path, sections, title=title, note=note, legend=BOX_LEGEND, columns=_COLUMNS)


def _error_tile(error: DetectionError, data: Path, confidence: float) -> Tile:
    """Return a crop around one error: its own boxes are thick, its neighbors' thin."""
    image = error.result
    label = error.match.label.box.corners if error.match.label is not None else None
    boxes = list(_boxes(image, label, error.match.detection, confidence))
    window = square_window([box.corners for box in boxes if box.thick], image.width, image.height)
    tile = tile_image(open_upright(data / image.image), boxes, window=window)
    return Tile(tile, _error_caption(error), Path(image.image).stem)


def _boxes(
    image: ImageResult, label: Corners | None, detection: Detection | None, confidence: float
) -> Iterator[TileBox]:
    """Yield every labeled box and every detected one above `confidence`; the error's own are last, on top."""
    for other in image.labels:
        if other.box.corners != label:
            yield TileBox(other.box.corners, LABELED)
    for found in image.detections:
        if found is not detection and found.confidence > confidence:
            yield TileBox(found.corners, DETECTED)
    if label is not None:
        yield TileBox(label, LABELED, thick=True)
    if detection is not None:
        yield TileBox(detection.corners, DETECTED, thick=True)


def _error_caption(error: DetectionError) -> str:
    label, detection = error.match.label, error.match.detection
    found = f"{detection.name} {detection.confidence:.2f}" if detection is not None else ""
    if label is None:
        return found
    size = f"{label.name}, {label.box.width:.0f} x {label.box.height:.0f} px"
    return f"{label.name} detected as {found}" if found else size


# ---- label errors ----


def draw_label_errors(found: Sequence[LabelError], images: Sequence[ImageResult], data: Path, path: Path) -> None:
    """Draw the most suspicious labels as a JPEG."""
    by_name = {one.image: one for one in images}
    tiles = [_label_error_tile(one, by_name[one.image], data) for one in found[: _COLUMNS * _ROWS]]
    many = f"{len(tiles)} of {len(found)}" if found else "none"
    note = "a confident model contradicts the label; a person has to decide"
    sections = [TileSection(f"The most suspicious: {many}", tiles)]
    save_contact_sheet(path, sections, title="Suspected label errors", note=note, legend=BOX_LEGEND, columns=_COLUMNS)


def _label_error_tile(one: LabelError, image: ImageResult, data: Path) -> Tile:
    pairs = ((one.label, LABELED), (one.detection, DETECTED))
    own = [TileBox(corners, color, thick=True) for corners, color in pairs if corners is not None]
    others = [TileBox(label.box.corners, LABELED) for label in image.labels if label.box.corners != one.label]
    window = square_window([box.corners for box in own], image.width, image.height)
    tile = tile_image(open_upright(data / one.image), [*others, *own], window=window)
    text = f"swapped? detected {one.name}" if one.kind == "swapped" else f"{one.kind}: {one.name}"
    return Tile(tile, f"{text} {one.score:.2f}", Path(one.image).stem)


# ---- perturbed faces ----

_SMALL, _ACROSS = (132, 132), 8


def draw_outcomes(
    outcomes: Sequence[Outcome], seen: Collection[str], data: Path, title: str, threshold: float, path: Path
) -> None:
    """Draw each perturbation on faces of the split with the detected classes, wrong ones first, as a JPEG.

    Args:
        seen: the perturbations that training showed, or may have shown.
    """
    sections = []
    for perturbation in sorted(PERTURBATIONS, key=lambda one: (one.must_change, bool(one.doubt), one.name in seen)):
        own = [one for one in outcomes if one.perturbation == perturbation.name and not one.control]
        if own:
            sections.append(_outcome_section(perturbation, own, data, seen=perturbation.name in seen))
    note = f"detections above confidence {threshold:.2f}"
    save_contact_sheet(path, sections, title=title, note=note, tile_size=_SMALL, columns=_ACROSS)


def _outcome_section(perturbation: Perturbation, outcomes: Sequence[Outcome], data: Path, *, seen: bool) -> TileSection:
    must_change = perturbation.must_change
    wrong, right = ("same", "flipped") if must_change else ("flipped", "same")
    order = (wrong, "lost", right)
    ranked = sorted(
        outcomes, key=lambda one: (order.index(one.result), -one.confidence, one.face.image, one.face.number)
    )
    failed = sum(one.result != right for one in outcomes)
    rule = "must change the class" if must_change else perturbation.doubt or "must not change the class"
    unseen = "" if seen or must_change or perturbation.doubt else ", never in training"
    what = "not flipped" if must_change else "flipped or lost"
    title = f"{perturbation.name} ({rule}{unseen}): {failed} of {len(outcomes)} {what}"
    return TileSection(title, [_outcome_tile(one, data, wrong) for one in _varied(ranked)])


def _varied(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return a row of outcomes, from as many different images as possible, in their order."""
    first: dict[str, Outcome] = {}
    for one in outcomes:
        first.setdefault(one.face.image, one)
    chosen = list(first.values())[:_ACROSS]
    return chosen + [one for one in outcomes if one not in chosen][: _ACROSS - len(chosen)]


def _outcome_tile(one: Outcome, data: Path, wrong: str) -> Tile:
    from PIL import Image

    made = trial_image(data, Trial(one.face, one.perturbation, one.control))
    assert made is not None, "what the model was shown can be drawn again"
    image, box = Image.fromarray(made[0]), made[1]
    window = square_window([box.corners], image.width, image.height, around=2.4)
    label = one.face.label.name
    caption = f"{one.detected} {one.confidence:.2f}" if one.detected else "not detected"
    color = BAD if one.result == wrong else GOOD if one.result != "lost" else GRAY
    return Tile(tile_image(image, size=_SMALL, window=window), caption, f"was {label}", color)


# ---- disagreements ----


def draw_disagreements(apart: Sequence[Disagreement], names: tuple[str, str], data: Path, path: Path) -> None:
    """Draw each face that two models disagree on as two tiles, one for each model's detection, as a JPEG."""
    tiles = [tile for one in apart[:MAX_DISAGREEMENTS] for tile in _disagreement_tiles(one, names, data)]
    right = [sum(one.right == index for one in apart) for index in (0, 1)]
    heading = f"{len(apart)} faces: only {names[0]} is right on {right[0]}, only {names[1]} on {right[1]}"
    note = "each face twice: as the first run detects it, and as the second"
    sections = [TileSection(heading, tiles)]
    save_contact_sheet(path, sections, title="Where they disagree", note=note, legend=BOX_LEGEND, columns=_COLUMNS)


def _disagreement_tiles(one: Disagreement, names: tuple[str, str], data: Path) -> Iterator[Tile]:
    image = open_upright(data / one.result.image)
    window = square_window([one.label.box.corners], image.width, image.height, around=2.2)
    for index, (name, detection) in enumerate(zip(names, one.detections, strict=True)):
        boxes = [TileBox(one.label.box.corners, LABELED, thick=True)]
        boxes += [TileBox(detection.corners, DETECTED, thick=True)] if detection is not None else []
        detected = f"{detection.name} {detection.confidence:.2f}" if detection is not None else "missed"
        color = GOOD if one.right == index else BAD
        yield Tile(tile_image(image, boxes, window=window), f"{detected} (is {one.label.name})", name, color)
