"""`fmask audit --probe DIR`: what a model detects in the user's own images, against what each image should be."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.contact_sheet import BAD, GOOD, Tile, TileBox, TileSection, save_contact_sheet, tile_image
from facemask_train.core.drawing import DETECTED
from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import replacing, stage
from facemask_train.core.types import CLASSES, Detection
from facemask_train.eval.eval_target import InferenceOptions, Model
from facemask_train.eval.perturbations.shortcuts import load_image
from facemask_train.eval.records.audit import Probe, ProbePrediction, ProbeResult
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import load_detector

if TYPE_CHECKING:
    from facemask_train.core.types import Array

TABLE, GALLERY = "probe.csv", "probe.jpg"


@dataclass(frozen=True, slots=True)
class ProbeRun:
    """A finished probe and its folder, which contains the table and a contact sheet."""

    probe: Probe
    folder: Path


def read_expected(folder: Path) -> dict[str, str]:
    """Return the class that each image of a folder should be, from its csv with the columns `image` and `should_be`.

    Raises:
        MissingError: the folder, the csv or an image does not exist.
        DataError: there are several csv files, or a column, the rows, or a class of `CLASSES` is missing.
    """
    tables = sorted(folder.glob("*.csv"))
    example = f"write {folder / 'probe.csv'}: first the line image,should_be, then a line such as batman.jpg,no_mask"
    if not tables:
        raise MissingError(
            f"{folder}: expected a csv that says what each image should be, found none", next_step=example
        )
    if len(tables) > 1:
        raise DataError(
            f"{folder}: expected one csv, found {', '.join(path.name for path in tables)}", next_step=example
        )
    rows = _read_rows(tables[0], example)
    for image, expected in rows:
        if expected not in CLASSES:
            raise DataError(
                f"{tables[0]}: {image} should be one of {', '.join(CLASSES)}, found {expected!r}", next_step=example
            )
        if not (folder / image).is_file():
            raise MissingError(
                f"{folder / image}: no such image, but {tables[0].name} names it", next_step="correct the csv"
            )
    return dict(rows)


def _read_rows(table: Path, example: str) -> list[tuple[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if not {"image", "should_be"} <= set(reader.fieldnames or ()):
            raise DataError(
                f"{table}: expected the columns image,should_be, found {','.join(reader.fieldnames or ())}",
                next_step=example,
            )
        rows = [((row["image"] or "").strip(), (row["should_be"] or "").strip()) for row in reader]
    if not rows:
        raise DataError(f"{table}: expected a line for each image, found none", next_step=example)
    return rows


def probe_images(model: Model, options: InferenceOptions, threshold: Threshold, images: Path) -> ProbeRun:
    """Run a model on a folder of images, into `runs/NAME/audit/probe-FOLDER/`.

    Raises:
        MissingError, DataError: as `read_expected`; an image that cannot be read.
    """
    expected = read_expected(images)
    detector = load_detector(model.weights, imgsz=options.imgsz, device=options.device)
    detections = detector.predict(_images(images, expected), confidence=threshold.value, batch=options.batch)
    predictions, boxes = [], []
    for found, (image, should_be) in zip(detections, expected.items(), strict=True):
        best = max(found, key=lambda one: one.confidence, default=None)
        predictions.append(_prediction(image, should_be, best))
        boxes.append(best)
        options.progress("detecting in images", len(predictions), len(expected))
    results = [one.result for one in predictions]
    counts = (results.count("right"), results.count("wrong"), results.count("not detected"))
    probe = Probe(
        model.folder.name, images.name, threshold.value, threshold.chosen, *counts, predictions=tuple(predictions)
    )
    target = model.folder / "audit" / f"probe-{images.resolve().name}"
    with stage(target), replacing(target) as folder:
        _write_table(folder / TABLE, predictions)
        _draw(folder / GALLERY, images, boxes, probe)
        probe.save(folder)
    return ProbeRun(probe, target)


def _images(folder: Path, names: Mapping[str, str]) -> Iterator[Array]:
    from PIL import UnidentifiedImageError

    for name in names:
        try:
            yield load_image(folder / name)
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(
                f"{folder / name}: expected an image, found a file that cannot be read as one",
                next_step="remove it from the csv",
            ) from error


def _prediction(image: str, should_be: str, best: Detection | None) -> ProbePrediction:
    if best is None:
        return ProbePrediction(image, should_be, "not detected", "", 0.0)
    result: ProbeResult = "right" if best.name == should_be else "wrong"
    return ProbePrediction(image, should_be, result, best.name, round(best.confidence, 4))


def _write_table(path: Path, predictions: Sequence[ProbePrediction]) -> None:
    columns = tuple(ProbePrediction.__dataclass_fields__)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([getattr(one, column) for column in columns] for one in predictions)


def _draw(path: Path, images: Path, boxes: Sequence[Detection | None], probe: Probe) -> None:
    from PIL import Image

    tiles = []
    for one, best in zip(probe.predictions, boxes, strict=True):
        image = Image.fromarray(load_image(images / one.image))
        tile = tile_image(image, [TileBox(best.corners, DETECTED, thick=True)] if best else [])
        caption = f"{one.detected} {one.confidence:.2f}" if best else one.result
        color = GOOD if one.result == "right" else BAD
        tiles.append(Tile(tile, caption, f"{one.image}: {one.should_be}", color))
    title = f"{probe.run} on {probe.images}: {probe.right} of {len(probe.predictions)} right"
    note = f"the most confident detection above {probe.threshold:.2f}"
    save_contact_sheet(path, [TileSection("Images", tiles)], title=title, note=note)
