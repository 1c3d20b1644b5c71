"""Does `fmask evaluate` rank wrong labels better than plain confidence does? Plants wrong labels in real sources.

    python bench/suspects.py ARCHIVES WORK --weights yolov5n-face.pt    # or, with a detector: --trained PATH

Builds one ensemble of the archives' sources in two halves by scene group, trains a small detector on one half, and
lets it detect faces in the other: no image is scored by a model that saw it. The detections are kept in WORK and
reused. Each planting draws labels of one source and makes them wrong: a third get the other class, a third are
removed, and a third are boxes of the size of another image's face at a place without one. All rankings see the same
planting:

    ranking      `find_label_errors`
    in turn      the first of each plain list, the second of each, and so on. The lists: the other class on a label by
                 its confidence; detections that no label answers by their confidence; labels by the lack of a
                 detection, the largest first
    by score     the same lists, merged by their scores
    confidence   the first two lists, merged

Precision is the share of planted ones among the first 10, and among the first as many as were planted. Labels that are
wrong as published count as false alarms of all. Differences are paired, their intervals those of a t-test over the
plantings. Writes `results/suspects.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml

from facemask_train.core.boxes import iou
from facemask_train.core.parallel import usable_cores
from facemask_train.core.types import CLASSES, Annotation, Box, Corners, ImageResult
from facemask_train.dataset.build import build
from facemask_train.dataset.contents import EnsembleImage, read_contents
from facemask_train.eval.detections_table import read_images, write_detections, write_images
from facemask_train.eval.measures.average_precision import average_precision
from facemask_train.eval.measures.bootstrap import group_codes
from facemask_train.eval.measures.boxes_table import Boxes, BoxesTable, boxes_table, overlaps
from facemask_train.eval.measures.label_errors import LabelError, find_label_errors
from facemask_train.eval.measures.metrics import score_split
from facemask_train.eval.measures.slices import ImageTraits
from facemask_train.model.detector import one_per_face
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.model.validation import validate
from facemask_train.sources.fetch import fetch

KINDS = ("swapped", "overlooked", "not a face")
PLAIN = ("in turn", "by score", "confidence")
POOLS = {"andrewmvd and aditya276": ("andrewmvd", "aditya276"), "jolignier": ("jolignier",)}
"""The first two sources share images and the origin of their labels, so they count as one."""
FIRST = 10
FIRST_SEED = 1000  # smaller ones served to try rankings out


# ---- detections of images that no training saw ----


def detect(archives: Path, work: Path, given: argparse.Namespace) -> tuple[list[ImageResult], dict[str, EnsembleImage]]:
    """Return the images of the second half with their detections, and the ensemble's images by path.

    Images of a scene group that the detector saw are left out.
    """
    contents = read_contents(work, str(ensemble_of(archives, work)))
    manifest = {one.image: one for one in contents.images}
    folder = work / "detections"
    if not (folder / "images.parquet").is_file():
        trained = given.trained or fine_tune(contents.folder, work, given)
        data = contents.folder / "data.yaml"
        images = validate(trained, data, "test", imgsz=given.imgsz, batch=16, device="cpu").images
        folder.mkdir(parents=True, exist_ok=True)
        write_detections(folder / "detections.parquet", images)
        traits = {one.image: ImageTraits(manifest[one.image].source, 0, 0) for one in images}
        write_images(
            folder / "images.parquet", images, traits, {one.image: manifest[one.image].sha256 for one in images}
        )
    saw = set(given.saw.read_text().split()) if given.saw else set()
    seen = {one.split_group for one in contents.images if one.sha256 in saw}
    return [one for one in read_images(folder) if manifest[one.image].split_group not in seen], manifest


def ensemble_of(archives: Path, work: Path) -> Path:
    classes = {"mask": "mask", "no_mask": "no_mask", "with_mask": "mask", "without_mask": "no_mask"}
    worn = {"mask_weared_incorrect": "worn_incorrectly", "with_incorrect_mask": "worn_incorrectly"}
    names = {"andrewmvd": "face-mask-detection", "aditya276": "face-mask-dataset-yolo-format", "jolignier": "jolignier"}
    paths = {name: next(iter(archives.rglob(f"{stem}.zip")), None) for name, stem in names.items()}
    sources = {name: {"path": str(path), "classes": classes | worn} for name, path in paths.items() if path}
    recipe = {"sources": list(sources), "split": {"train": 0.5, "val": 0.0, "test": 0.5}}
    (work / "configs/ensembles").mkdir(parents=True, exist_ok=True)
    (work / "configs/sources.yaml").write_text(yaml.safe_dump({"sources": sources}, sort_keys=False))
    (work / "configs/ensembles/halves.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    fetch(work, list(sources))
    return build(work, "halves").path


def fine_tune(ensemble: Path, work: Path, given: argparse.Namespace) -> Path:
    """Train the neck and head of a detector on the first half, without validation."""
    open_ultralytics()
    from ultralytics import YOLO

    data = work / "half.yaml"
    paths = {"path": str(ensemble.resolve()), "train": "images/train", "val": "images/train"}
    data.write_text(yaml.safe_dump(paths | {"names": dict(enumerate(CLASSES))}))
    YOLO(str(given.weights)).train(
        data=str(data), epochs=given.epochs, imgsz=given.imgsz, batch=16, device="cpu", workers=0, seed=0,
        optimizer="SGD", lr0=0.01, lrf=0.1, nbs=16, warmup_epochs=1, freeze=10, mosaic=0.0, val=False, plots=False,
        project=str(work), name="half", exist_ok=True,
    )  # fmt: skip
    return work / "half" / "weights" / "last.pt"


# ---- plantings ----


@dataclass(frozen=True)
class Planted:
    """One wrong label: what is wrong with it, and the box that it is about."""

    image: str
    kind: str
    box: Corners


def plant(images: Sequence[ImageResult], count: int, seed: int) -> tuple[list[ImageResult], list[Planted]]:
    """Return the images with `count` wrong labels, a third of each kind, and what was planted."""
    rng = np.random.default_rng(seed)
    labels = [(index, number) for index, one in enumerate(images) for number in range(len(one.labels))]
    drawn = rng.choice(len(labels), size=2 * (count // 3), replace=False)
    chosen = [labels[place] for place in drawn]
    swapped, removed = set(chosen[: count // 3]), set(chosen[count // 3 :])
    added: dict[int, list[Annotation]] = {}
    while sum(map(len, added.values())) < count // 3:
        index, like = int(rng.integers(len(images))), labels[int(rng.integers(len(labels)))]
        box = free_box(images[index], images[like[0]], like[1], rng)
        if box is not None:
            added.setdefault(index, []).append(Annotation(images[like[0]].labels[like[1]].name, box))
    changed, planted = [], []
    for index, one in enumerate(images):
        kept = []
        for number, label in enumerate(one.labels):
            if (index, number) in removed:
                planted.append(Planted(one.image, "overlooked", label.box.corners))
                continue
            if (index, number) in swapped:
                label = replace(label, name=CLASSES[1 - label.class_id])  # noqa: PLW2901
                planted.append(Planted(one.image, "swapped", label.box.corners))
            kept.append(label)
        planted += [Planted(one.image, "not a face", label.box.corners) for label in added.get(index, ())]
        changed.append(replace(one, labels=(*kept, *added.get(index, ()))))
    return changed, planted


def free_box(image: ImageResult, like: ImageResult, number: int, rng: np.random.Generator) -> Box | None:
    """Return a box of the relative size of another image's face where the image has no label, if there is room."""
    scale = max(image.width, image.height) / max(like.width, like.height)
    width, height = (side * scale for side in (like.labels[number].box.width, like.labels[number].box.height))
    if width >= image.width or height >= image.height:
        return None
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    box = Box(left, top, left + width, top + height)
    return None if any(iou(box.corners, label.box.corners) > 0 for label in image.labels) else box


def is_planted(one: LabelError, planted: Mapping[str, Sequence[Planted]]) -> Planted | None:
    """Return what was planted at the box that a suspicion is about."""
    for known in planted.get(one.image, ()):
        if known.kind == "overlooked":
            if one.label is None and one.detection is not None and iou(one.detection, known.box) >= 0.5:
                return known
        elif one.label == known.box:
            return known
    return None


# ---- rankings ----


@dataclass(frozen=True, eq=False)
class Pool:
    """The images of one source, and their detections as arrays, which all plantings share.

    Attributes:
        answers: of each face the most confident detection alone.
        codes: the number of each image's scene group.
    """

    images: Sequence[ImageResult]
    detections: Boxes
    answers: Boxes
    codes: np.ndarray

    @classmethod
    def of(cls, images: Sequence[ImageResult], groups: Mapping[str, str]) -> Pool:
        alone = [replace(one, detections=one_per_face(one.detections)) for one in images]
        codes = group_codes([groups[one.image] for one in images])
        return cls(images, boxes_table(images).detections, boxes_table(alone).detections, codes)


def ranked(pool: Pool, images: Sequence[ImageResult]) -> list[LabelError]:
    table = BoxesTable(len(images), labels_of(images), pool.detections)
    return find_label_errors(score_split(table, np.ones((len(images), 1), np.float32), pool.codes), images)


def labels_of(images: Sequence[ImageResult]) -> Boxes:
    return boxes_table([replace(one, detections=()) for one in images]).labels


def plain(pool: Pool, images: Sequence[ImageResult]) -> dict[str, list[LabelError]]:
    """Return the three plain lists, each by its own score."""
    labels, answers = labels_of(images), pool.answers
    pairs = overlaps(BoxesTable(len(images), labels, answers))
    best, label_of = np.zeros(len(answers)), np.full(len(answers), -1)
    order = np.argsort(pairs.iou, kind="stable")
    best[pairs.detection[order]], label_of[pairs.detection[order]] = pairs.iou[order], pairs.label[order]
    near = np.zeros(len(labels))
    beside = pairs.iou >= 0.3
    np.maximum.at(near, pairs.label[beside], answers.confidence[pairs.detection[beside]])

    def error(kind: str, score: float, label: int, answer: int) -> LabelError:
        boxes, row = (labels, label) if answer < 0 else (answers, answer)
        corners = [None if at < 0 else tuple(rows.corners[at]) for rows, at in ((labels, label), (answers, answer))]
        return LabelError(images[boxes.image[row]].image, kind, score, *corners, CLASSES[boxes.class_id[row]])

    by_confidence = np.argsort(-answers.confidence, kind="stable")
    swapped = [
        one for one in by_confidence if best[one] >= 0.5 and labels.class_id[label_of[one]] != answers.class_id[one]
    ]
    return {
        "swapped": [error("swapped", answers.confidence[one], label_of[one], one) for one in swapped],
        "overlooked": [
            error("overlooked", answers.confidence[one], -1, one) for one in by_confidence if best[one] < 0.5
        ],
        "not a face": [error("not a face", 1 - near[one], one, -1) for one in np.lexsort((-labels.area, near))],
    }


def in_turn(lists: Mapping[str, Sequence[LabelError]]) -> list[LabelError]:
    longest = max(map(len, lists.values()))
    return [rows[place] for place in range(longest) for rows in lists.values() if place < len(rows)]


def by_score(*lists: Sequence[LabelError]) -> list[LabelError]:
    return sorted((one for rows in lists for one in rows), key=lambda one: -one.score)


# ---- figures ----


def measure(pool: Pool, count: int, seed: int) -> dict[str, dict[str, float]]:
    """Return the precisions of each ranking on one planting."""
    changed, planted = plant(pool.images, count, seed)
    by_image: dict[str, list[Planted]] = {}
    for one in planted:
        by_image.setdefault(one.image, []).append(one)
    lists, own = plain(pool, changed), ranked(pool, changed)
    rankings = {
        "ranking": own,
        "in turn": in_turn(lists),
        "by score": by_score(*lists.values()),
        "confidence": by_score(lists["swapped"], lists["overlooked"]),
    }
    found = {name: precisions(rows, by_image, len(planted)) for name, rows in rankings.items()}
    for kind in KINDS:
        mine = [one for one in own if one.kind == kind]
        found[f"ranking, {kind}"] = precisions(mine, by_image, count // 3)
        found[f"plain, {kind}"] = precisions(lists[kind], by_image, count // 3)
    return found


def precisions(rows: Sequence[LabelError], planted: Mapping[str, Sequence[Planted]], count: int) -> dict[str, float]:
    found: list[bool] = []
    seen: set[Planted] = set()
    for one in rows[: max(FIRST, count)]:
        known = is_planted(one, planted)
        found.append(known is not None and known not in seen)  # the same one twice is no second find
        seen |= {known} if known else set()
    return {"at 10": sum(found[:FIRST]) / FIRST, "at planted": sum(found[:count]) / count}


def paired(first: Sequence[float], second: Sequence[float]) -> dict[str, float | list[float]]:
    """Return the mean difference with its 95 % interval, from a t-test of pairs."""
    from scipy import stats

    gaps = np.subtract(first, second)
    half = float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
    mean = float(gaps.mean())
    return {"difference": round(mean, 4), "interval": [round(mean - half, 4), round(mean + half, 4)]}


def summary(rows: Sequence[dict[str, dict[str, float]]]) -> dict[str, object]:
    means = {
        name: {key: round(float(np.mean([row[name][key] for row in rows])), 4) for key in rows[0][name]}
        for name in rows[0]
    }
    pairs = [("ranking", other) for other in PLAIN]
    pairs += [(f"ranking, {kind}", f"plain, {kind}") for kind in KINDS]
    gaps = {
        f"{one} - {other}, {key}": paired([row[one][key] for row in rows], [row[other][key] for row in rows])
        for one, other in pairs
        for key in ("at 10", "at planted")
    }
    return {"plantings": len(rows), "means": means, "differences": gaps}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("archives", type=Path)
    asked.add_argument("work", type=Path)
    asked.add_argument("--weights", type=Path, default=Path("yolov5n-face.pt"), help="to start from")
    asked.add_argument("--trained", type=Path, help="a detector that was trained on the first half already")
    asked.add_argument("--saw", type=Path, help="sha256 of the images that it was trained on, one a line, if others")
    asked.add_argument("--note", default="", help="how that detector was trained, for the record")
    asked.add_argument("--epochs", type=int, default=12)
    asked.add_argument("--imgsz", type=int, default=320)
    asked.add_argument("--plantings", type=int, default=30)
    asked.add_argument("--planted", type=int, default=30)
    given = asked.parse_args()
    images, manifest = detect(given.archives, given.work, given)
    detector = "--trained PATH" if given.trained else f"--epochs {given.epochs}"
    detector += " --saw PATH" if given.saw else ""
    result: dict[str, object] = {
        "command": f"python bench/suspects.py ARCHIVES WORK {detector} --imgsz {given.imgsz}"
        f" --plantings {given.plantings} --planted {given.planted}",
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "training": given.note or f"{given.epochs} epochs from {given.weights.name}",
    }
    for name, sources in POOLS.items():
        own = [one for one in images if manifest[one.image].source in sources]
        if not own:
            continue
        pool = Pool.of(own, {one.image: manifest[one.image].split_group for one in own})
        rows = [measure(pool, given.planted, FIRST_SEED + number) for number in range(given.plantings)]
        faces = sum(len(one.labels) for one in own)
        result[name] = {"images": len(own), "faces": faces, "planted": given.planted} | quality(own) | summary(rows)
        sys.stderr.write(f"{name}: {json.dumps(result[name], indent=1)}\n")
    (Path(__file__).parent / "results" / "suspects.json").write_text(json.dumps(result, indent=2) + "\n")


def quality(images: Sequence[ImageResult]) -> dict[str, object]:
    """Return the detector's AP 0.5 by class."""
    split = score_split(boxes_table(images), np.ones((len(images), 1), np.float32))
    areas = {name: average_precision(split.ranked[name]) for name in CLASSES}
    return {"ap50": {name: None if area is None else round(float(area[0]), 3) for name, area in areas.items()}}


if __name__ == "__main__":
    main()
