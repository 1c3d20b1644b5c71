"""`fmask audit --probe DIR`: a person's own images, each with what it should be, and what the model says of it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from facemask_train.core.drawing import DETECTED
from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import locked, replacing, write_json
from facemask_train.core.types import CLASSES, Detection
from facemask_train.eval.eval_target import Model, Setup
from facemask_train.eval.perturbations.shortcuts import load
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import load_detector

RESULT, TABLE, GALLERY = "probe.json", "probe.csv", "probe.jpg"
Said = Literal["right", "wrong", "nothing found"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One image: what it should be, and the most confident answer to it (0 where nothing was found)."""

    image: str
    should_be: str
    said: Said
    answer: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Probe:
    """All answers, in the table's order, and the folder that holds table and gallery."""

    folder: Path
    found: Mapping[str, Any]

    @property
    def answers(self) -> list[Answer]:
        return [Answer(**one) for one in self.found["answers"]]


def read_wanted(folder: Path) -> dict[str, str]:
    """Return what each image of a folder should be, from the csv in it: columns `image` and `should_be`.

    Raises:
        MissingError: there is no such folder, csv or image.
        DataError: there are several csv files, no such columns, no rows, or a class that is none of `CLASSES`.
    """
    tables = sorted(folder.glob("*.csv"))
    example = f"write {folder / 'probe.csv'}: image,should_be and then a line for each: batman.jpg,no_mask"
    if not tables:
        raise MissingError(
            f"{folder}: expected a csv that says what each image should be, found none", next_step=example
        )
    if len(tables) > 1:
        raise DataError(
            f"{folder}: expected one csv, found {', '.join(path.name for path in tables)}", next_step=example
        )
    with tables[0].open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if not {"image", "should_be"} <= set(reader.fieldnames or ()):
            raise DataError(
                f"{tables[0]}: expected the columns image,should_be, found {','.join(reader.fieldnames or ())}",
                next_step=example,
            )
        rows = [((row["image"] or "").strip(), (row["should_be"] or "").strip()) for row in reader]
    if not rows:
        raise DataError(f"{tables[0]}: expected a line for each image, found none", next_step=example)
    for image, wanted in rows:
        if wanted not in CLASSES:
            raise DataError(
                f"{tables[0]}: {image} should be one of {', '.join(CLASSES)}, found {wanted!r}", next_step=example
            )
        if not (folder / image).is_file():
            raise MissingError(
                f"{folder / image}: no such image, though {tables[0].name} names it", next_step="mend the csv"
            )
    return dict(rows)


def probe(model: Model, setup: Setup, threshold: Threshold, images: Path) -> Probe:
    """Ask a model about a folder of images, into `runs/NAME/audit/probe-FOLDER/`.

    Raises:
        MissingError, DataError: as `read_wanted`; an image that cannot be read.
    """
    wanted = read_wanted(images)
    detector = load_detector(model.weights, imgsz=setup.imgsz, device=setup.device)
    told = detector.predict(_images(images, wanted), confidence=threshold.value, batch=setup.batch)
    found, boxes = [], []
    for done, (given, (image, should_be)) in enumerate(zip(told, wanted.items(), strict=True)):
        best = max(given, key=lambda one: one.confidence, default=None)
        found.append(_answer(image, should_be, best))
        boxes.append(best)
        setup.progress("asking about images", done + 1, len(wanted))
    target = model.folder / "audit" / f"probe-{images.resolve().name}"
    said = {
        "run": model.folder.name,
        "images": images.name,
        "threshold": threshold.value,
        "threshold_chosen": threshold.chosen,
        **{key.replace(" ", "_"): sum(one.said == key for one in found) for key in ("right", "wrong", "nothing found")},
        "answers": [asdict(one) for one in found],
    }
    with locked(target), replacing(target) as folder:
        _write(folder, images, found, boxes, said)
    return Probe(target, said)


def _images(folder: Path, names: Mapping[str, str]) -> Iterator[Any]:
    from PIL import UnidentifiedImageError

    for name in names:
        try:
            yield load(folder / name)
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(
                f"{folder / name}: not an image that can be read", next_step="take it out of the csv"
            ) from error


def _answer(image: str, should_be: str, best: Detection | None) -> Answer:
    if best is None:
        return Answer(image, should_be, "nothing found", "", 0.0)
    return Answer(
        image, should_be, "right" if best.name == should_be else "wrong", best.name, round(best.confidence, 4)
    )


def _write(
    folder: Path, images: Path, found: Sequence[Answer], boxes: Sequence[Detection | None], said: Mapping[str, Any]
) -> None:
    from PIL import Image

    from facemask_train.report.contact_sheet import BAD, GOOD, Band, Tile, crop, draw_gallery

    with (folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Answer.__dataclass_fields__)
        writer.writerows(asdict(one).values() for one in found)
    tiles = []
    for one, best in zip(found, boxes, strict=True):
        image = Image.fromarray(load(images / one.image))
        side = max(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        tile = crop(image, (left, top, left + side, top + side), [(best.corners, DETECTED, True)] if best else [])
        caption = f"{one.answer} {one.confidence:.2f}" if best else "nothing found"
        tiles.append(Tile(tile, caption, f"{one.image}: {one.should_be}", GOOD if one.said == "right" else BAD))
    title = f"{said['run']} on {images.name}: {said['right']} of {len(found)} right"
    note = f"the most confident answer above {said['threshold']:.2f}"
    draw_gallery([Band("Images", tiles)], title, note, folder / GALLERY)
    write_json(folder / RESULT, said)
