"""The galleries of an evaluation: the worst misses, the most suspect labels, and the edits with their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from facemask_train.core.drawing import DETECTED, LABELLED, open_upright
from facemask_train.core.types import Corners, Detection, ImageResult
from facemask_train.eval.measures.label_errors import Suspect
from facemask_train.eval.measures.matching import KINDS as MISSES
from facemask_train.eval.measures.matching import Kind, Miss, most_telling
from facemask_train.eval.perturbations.kinds import KINDS
from facemask_train.eval.perturbations.shortcuts import Outcome, draw
from facemask_train.report.contact_sheet import BAD, GOOD, Band, Tile, crop, draw_gallery, window

_COLUMNS, _ROWS = 6, 2
_TITLES: dict[Kind, str] = {
    "missed": "Missed faces, the largest first",
    "wrong class": "Wrong class, the most confident first",
    "false box": "Boxes that answer no labelled face, the most confident first",
}


def draw_misses(found: Sequence[Miss], folder: Path, confidence: float, title: str, path: Path) -> None:
    """Draw the worst misses as a JPEG: for each kind up to two rows of crops with labelled and detected boxes.

    Args:
        found: every miss, as `matching.misses` returns them.
        folder: the ensemble's folder; the images' paths are relative to it.
        confidence: the threshold that made them misses.
    """
    bands = []
    for kind in MISSES:
        shown = most_telling(found, kind, at_most=_COLUMNS * _ROWS)
        count = sum(miss.kind == kind for miss in found)
        many = "none" if not count else f"{count}, the worst {len(shown)} shown" if len(shown) < count else str(count)
        bands.append(Band(f"{_TITLES[kind]}: {many}", [_missed(miss, folder, confidence) for miss in shown]))
    note = f"detections above confidence {confidence:.2f}, matched at IoU 0.5"
    draw_gallery(bands, title, note, path, columns=_COLUMNS, boxes=True)


def _missed(miss: Miss, folder: Path, confidence: float) -> Tile:
    """Return a crop around one miss, with its own boxes drawn thick and its neighbours' thin."""
    image = miss.result
    label = miss.pair.label.box.corners if miss.pair.label is not None else None
    boxes = list(_boxes(image, label, miss.pair.detection, confidence))
    around = window([box for box, _, own in boxes if own], image.width, image.height)
    return Tile(crop(open_upright(folder / image.image), around, boxes), _caption(miss), Path(image.image).stem)


def _boxes(
    image: ImageResult, label: Corners | None, detection: Detection | None, confidence: float
) -> Iterator[tuple[Corners, str, bool]]:
    """Yield every labelled box, and every detected one above `confidence`: the miss's own last, on top."""
    for other in image.labels:
        if other.box.corners != label:
            yield other.box.corners, LABELLED, False
    for answer in image.detections:
        if answer is not detection and answer.confidence > confidence:
            yield answer.corners, DETECTED, False
    if label is not None:
        yield label, LABELLED, True
    if detection is not None:
        yield detection.corners, DETECTED, True


def _caption(miss: Miss) -> str:
    label, detection = miss.pair.label, miss.pair.detection
    found = f"{detection.name} {detection.confidence:.2f}" if detection is not None else ""
    if label is None:
        return found
    size = f"{label.name}, {label.box.width:.0f} x {label.box.height:.0f} px"
    return f"{label.name} taken for {found}" if found else size


def draw_suspects(found: Sequence[Suspect], images: Mapping[str, ImageResult], folder: Path, path: Path) -> None:
    """Draw the images whose labels are the most suspect."""
    tiles = []
    for one in found[: _COLUMNS * _ROWS]:
        image = images[one.image]
        own = [(box, colour, True) for box, colour in ((one.label, LABELLED), (one.found, DETECTED)) if box is not None]
        others = [(label.box.corners, LABELLED, False) for label in image.labels if label.box.corners != one.label]
        around = window([box for box, *_ in own], image.width, image.height)
        said = f"{one.why}: {one.name}" if one.label is None or one.why != "swapped" else f"swapped? found {one.name}"
        tile = crop(open_upright(folder / one.image), around, [*others, *own])
        tiles.append(Tile(tile, f"{said} {one.suspicion:.2f}", Path(one.image).stem))
    many = f"{len(found)} images" if found else "none"
    note = "a sure model's word against a label; whoever looks decides"
    draw_gallery([Band(f"The most suspect: {many}", tiles)], "Suspected label errors", note, path, boxes=True)


# ---- the edits ----

_TILE, _ACROSS = 132, 8


def draw_outcomes(outcomes: Sequence[Outcome], folder: Path, title: str, threshold: float, path: Path) -> None:
    """Draw each kind of edit on faces of the split, what went wrong first, with what the model said."""
    bands = []
    for kind in sorted(KINDS, key=lambda kind: (kind.must_change, kind.seen)):
        mine = [one for one in outcomes if one.kind == kind.name]
        wrong = "same" if kind.must_change else "flipped"
        order = (wrong, "lost", "flipped" if kind.must_change else "same")
        mine.sort(key=lambda one: (order.index(one.result), -one.confidence, one.face.image, one.face.number))
        if mine:
            many = sum(one.result == wrong for one in mine)
            must = "must change the answer" if kind.must_change else "must not change the answer"
            unseen = "" if kind.seen or kind.must_change else ", never trained on"
            said = f"{kind.name} ({must}{unseen}): {many} of {len(mine)} {'did not' if kind.must_change else 'flipped'}"
            bands.append(Band(said, [_edited(one, folder, wrong) for one in _varied(mine)]))
    note = f"answers above confidence {threshold:.2f}"
    draw_gallery(bands, title, note, path, side=_TILE, columns=_ACROSS)


def _varied(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return a row of outcomes from as many images as there are, in their order."""
    first: dict[str, Outcome] = {}
    for one in outcomes:
        first.setdefault(one.face.image, one)
    chosen = list(first.values())[:_ACROSS]
    return chosen + [one for one in outcomes if one not in chosen][: _ACROSS - len(chosen)]


def _edited(one: Outcome, folder: Path, wrong: str) -> Tile:
    from PIL import Image

    kind = next(kind for kind in KINDS if kind.name == one.kind)
    image = Image.fromarray(draw(folder, one.face, kind))
    around = window([one.face.label.box.corners], image.width, image.height, around=2.4)
    truth = one.face.label.name
    other = "no_mask" if truth == "mask" else "mask"
    said = {"same": truth, "flipped": other, "lost": "nothing found"}[one.result]
    caption = said if one.result == "lost" else f"{said} {one.confidence:.2f}"
    colour = BAD if one.result == wrong else GOOD if one.result != "lost" else "#6b7280"
    return Tile(crop(image, around, [], _TILE), caption, f"was {truth}", colour)
