"""Do suspected label errors find planted ones, better than the plain ranking by confidence?

    python bench/suspects.py WORK --archives FOLDER --weights yolov5n-face.pt    # about 20 minutes on one core

Trains a small detector on half of the images of andrewmvd and aditya276, and predicts once on images that it was not
trained on. Then, 30 times, errors are planted in the labels of these images: KINDS of each kind, at random: the class
swapped, the label removed, or a label added, of the size of another face of the image where no face is labeled. A
suspicion is right if it is about a planted error. Suspicions of labels that are wrong as published count as false ones,
in both rankings.

The baseline is the plain ranking: first the most confident detection that no label of its class answers, whatever the
reason, then the largest label that no detection answers. Writes results/suspects.json: the precision in the first ten
and in as many as were planted, by ranking, and the paired difference with its interval over the plantings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from facemask_train.core.boxes import iou
from facemask_train.core.config import read_train_settings
from facemask_train.core.types import CLASSES, Annotation, Box, Corners, ImageResult
from facemask_train.dataset.build import build
from facemask_train.eval.measures.boxes_table import boxes_table
from facemask_train.eval.measures.label_errors import find_label_errors
from facemask_train.eval.measures.metrics import score_split
from facemask_train.model.validation import validate
from facemask_train.sources.fetch import fetch
from facemask_train.training.train import train

PLANTINGS, KINDS, FIRST = 30, 10, 10
IMGSZ, EPOCHS = 224, 13
SPLIT = {"train": 0.5, "val": 0.05, "test": 0.45}
SETTINGS = {"epochs": EPOCHS, "patience": 0, "imgsz": IMGSZ, "batch": 16, "device": "cpu", "val_every": EPOCHS}
SETTINGS |= {"optimizer": "AdamW", "lr0": 0.0015, "workers": 0, "threads": 1}

Place = tuple[str, Corners]  # an image, and the label or the missing label that a suspicion is about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--archives", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="to start from")
    parser.add_argument("--trained", type=Path, help="a detector that is trained on the training half already")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "suspects.json")
    arguments = parser.parse_args()
    images, detector = held_out(arguments.work, arguments.archives, arguments.weights, arguments.trained)
    rows = [planting(images, seed) for seed in range(PLANTINGS)]
    found: dict[str, Any] = {
        "command": "python bench/suspects.py " + " ".join("PATH" if "/" in one else one for one in sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "images": len(images),
        "labels": sum(len(one.labels) for one in images),
        "planted": 3 * KINDS,
        "plantings": PLANTINGS,
        "detector": detector,
        "precision": {key: summary([row[key] for row in rows]) for key in rows[0]},
    }
    for count in (f"at {FIRST}", "at planted"):
        pairs = [row[f"ranking {count}"] - row[f"baseline {count}"] for row in rows]
        found["precision"][f"difference {count}"] = summary(pairs)
    arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


def held_out(
    work: Path, archives: Path, weights: Path | None, trained: Path | None
) -> tuple[list[ImageResult], dict[str, float]]:
    """Return the held-out images with a detector's detections, and how good the detector is."""
    recipe = work / "configs/ensembles/half.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(yaml.safe_dump({"sources": ["andrewmvd", "aditya276"], "split": SPLIT}))
    fetch(work, ["andrewmvd", "aditya276"], origin=archives)
    folder = build(work, "half").path
    if trained is None:
        settings = read_train_settings(work, "train", {**SETTINGS, "weights": str(weights)})
        trained = train(work, settings, data="half", tracker="none").weights
    scored = validate(trained, folder / "data.yaml", "test", imgsz=IMGSZ, device="cpu")
    quality = {name: round(scored.per_class[name].map50, 3) for name in CLASSES}
    return list(scored.images), {**quality, "imgsz": IMGSZ}


# ---- plantings ----


def planting(images: Sequence[ImageResult], seed: int) -> dict[str, float]:
    """Return the precision of both rankings on labels with planted errors."""
    changed, planted = plant(images, Random(seed))
    table = boxes_table(changed)
    split = score_split(table, weights=np.ones((len(changed), 1)))
    ranking = [(one.image, one.label or one.detection) for one in find_label_errors(split, changed)]
    row = {}
    for name, places in (("ranking", ranking), ("baseline", baseline(changed))):
        row[f"{name} at {FIRST}"] = precision(places[:FIRST], planted, FIRST)
        row[f"{name} at planted"] = precision(places[: len(planted)], planted, len(planted))
    return row


def plant(images: Sequence[ImageResult], rng: Random) -> tuple[list[ImageResult], list[Place]]:
    """Return the images with wrong labels, at most one in each image, and where these are."""
    changed, planted = list(images), list[Place]()
    labeled = [index for index, one in enumerate(images) if one.labels]
    kinds = ["swap", "remove", "add"] * KINDS
    for index in rng.sample(labeled, len(labeled)):
        if not kinds:
            break
        image = images[index]
        label = rng.choice(image.labels)
        others = [one for one in image.labels if one is not label]
        box: Corners | None = label.box.corners
        if kinds[-1] == "swap":
            others.append(Annotation(next(name for name in CLASSES if name != label.name), label.box))
        elif kinds[-1] == "add":
            box = free_place(image, label, rng)
            if box is None:
                continue
            others += [label, Annotation(label.name, Box(*box))]
        assert box is not None
        kinds.pop()
        changed[index] = replace(image, labels=tuple(others))
        planted.append((image.image, box))
    return changed, planted


def free_place(image: ImageResult, label: Annotation, rng: Random) -> Corners | None:
    """Return a box of a label's size where no face is labeled, or None if there is no room."""
    for _ in range(50):
        x = rng.uniform(0, image.width - label.box.width)
        y = rng.uniform(0, image.height - label.box.height)
        box = x, y, x + label.box.width, y + label.box.height
        if not any(iou(box, one.box.corners) > 0 for one in image.labels):
            return box
    return None


def baseline(images: Sequence[ImageResult]) -> list[Place]:
    """Return the surest detections that no label of their class answers, then the largest labels without any."""
    surest, missed = [], []
    for image in images:
        for found in image.detections:
            overlaps = [(iou(found.corners, one.box.corners), one) for one in image.labels]
            overlap, label = max(overlaps, key=lambda pair: pair[0], default=(0.0, None))
            if label is None or overlap < 0.5:
                surest.append((found.confidence, image.image, found.corners))
            elif label.name != found.name:
                surest.append((found.confidence, image.image, label.box.corners))
        for one in image.labels:
            if not any(iou(found.corners, one.box.corners) >= 0.5 for found in image.detections):
                missed.append((one.box.area, image.image, one.box.corners))
    return [(image, box) for _, image, box in [*sorted(surest, reverse=True), *sorted(missed, reverse=True)]]


def precision(places: Sequence[Place], planted: Sequence[Place], count: int) -> float:
    hit = {
        index
        for image, box in places
        for index, (where, error) in enumerate(planted)
        if where == image and iou(box, error) >= 0.5
    }
    return len(hit) / count


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the mean and its 95 % interval by bootstrap over the plantings."""
    rng = np.random.default_rng(0)
    means = rng.choice(np.asarray(values), (10_000, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": round(float(np.mean(values)), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


if __name__ == "__main__":
    main()
