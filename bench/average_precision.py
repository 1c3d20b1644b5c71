"""Average precision compared with pycocotools, and its speed compared with faster-coco-eval.

    python bench/average_precision.py

Equality is checked on 1,000 random scenes of 1 to 12 images: without labels, without detections, with ties, crowds and
duplicates. Speed is measured on 10,000 images with some 50,000 labels and 100,000 detections: matching and average
precision alone, faster-coco-eval on the same detections, and everything that an evaluation computes. Writes
`average_precision.json`.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faster_coco_eval
import numpy as np

from facemask_train.core.parallel import usable_cores
from facemask_train.eval.measures.average_precision import average_precision, match_detections, rank_detections
from facemask_train.eval.measures.boxes_table import Boxes, BoxesTable, overlaps
from facemask_train.eval.measures.calibration import calibration
from facemask_train.eval.measures.error_types import error_types
from facemask_train.eval.measures.metrics import average_precisions, rates_at_confidence, score_split
from facemask_train.eval.measures.slices import ImageTraits, slices

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers import coco

SCENES = 1000


def draw(images: int, labels: float, found: float, rng: np.random.Generator, *, coarse: bool = False) -> BoxesTable:
    """Draw labels, and detections of which most lie near a label; coarse ones tie, repeat and share places."""
    counts, more = rng.poisson(labels, images), rng.poisson(found, images)
    place = np.repeat(np.arange(images), counts)
    room, least, most = (30, 8, 20) if coarse else (600, 10, 120)
    corner, size = rng.integers(0, room, (len(place), 2)), rng.integers(least, most, (len(place), 2))
    box = np.concatenate([corner, corner + size], axis=1).astype(float)
    name = rng.integers(0, 2, len(place))
    seen = np.flatnonzero(rng.random(len(place)) < 0.9)
    near = box[seen] + (0 if coarse else rng.normal(0, 4, (len(seen), 4)))
    kept = np.where(rng.random(len(seen)) < 0.9, name[seen], 1 - name[seen])
    extra = np.repeat(np.arange(images), np.maximum(0, more - np.bincount(place[seen], minlength=images)))
    corner, size = rng.integers(0, room, (len(extra), 2)), rng.integers(least, most, (len(extra), 2))
    boxes = np.concatenate([near, np.concatenate([corner, corner + size], axis=1)])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    sure = np.r_[rng.beta(4, 2, len(seen)), rng.beta(1, 4, len(extra))]
    sure = np.round(sure, 1 if coarse else 6)
    where, which = np.r_[place[seen], extra], np.r_[kept, rng.integers(0, 2, len(extra))]
    order = np.lexsort((-sure, where))
    truth = Boxes(place, name, box, np.ones(len(place)))
    return BoxesTable(images, truth, Boxes(where[order], which[order], boxes[order], sure[order]))


def equality() -> dict[str, Any]:
    """Return the largest difference from pycocotools over all scenes, classes and overlaps."""
    worst, compared, empty = 0.0, 0, 0
    for seed in range(SCENES):
        rng = np.random.default_rng(seed)
        labels, found = rng.choice([0.0, 0.5, 3.0, 20.0]), rng.choice([0.0, 0.5, 5.0, 40.0])
        one = draw(int(rng.integers(1, 13)), labels, found, rng, coarse=seed % 2 == 0)
        answers = match_detections(one, overlaps(one))
        for name, theirs in enumerate(coco.areas(one)):
            ours = average_precision(rank_detections(one, answers, name))
            assert (ours is None) == (theirs is None)
            if ours is None:
                empty += 1
            else:
                compared += 1
                worst = max(worst, float(np.abs(ours - theirs).max()))
    return {
        "scenes": SCENES,
        "classes_compared": compared,
        "classes_without_a_label": empty,
        "largest_difference": worst,
    }


def best_of(times: int, work: Any) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(min(taken), 3)


def ours(one: BoxesTable) -> None:
    answers = match_detections(one, overlaps(one))
    for name in (0, 1):
        average_precision(rank_detections(one, answers, name))


def speed() -> dict[str, Any]:
    one = draw(10_000, 5, 10, np.random.default_rng(0))

    def theirs() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()

    evaluation = coco.evaluator(one, (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster))
    rng = np.random.default_rng(1)
    known = [
        ImageTraits("ab"[i % 2], float(rng.uniform(0, 255)), float(rng.uniform(0, 900))) for i in range(one.image_count)
    ]

    def everything() -> None:
        sample = score_split(one)
        average_precisions(sample)
        rates_at_confidence(sample, 0.4, chosen_here=True)
        rates_at_confidence(sample, 0.5)
        slices(sample, known, 0.4)
        error_types(sample, 0.4)
        calibration(sample)

    return {
        "images": one.image_count,
        "labels": len(one.labels),
        "detections": len(one.detections),
        "matching_and_ap_s": best_of(3, lambda: ours(one)),
        "faster_coco_eval_s": best_of(3, theirs),
        "with_bootstrap_of_1000_slices_mistakes_calibration_s": best_of(2, everything),
    }


def main() -> None:
    result = {
        "command": "python bench/average_precision.py",
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "date": datetime.now(UTC).date().isoformat(),
        "equality": equality(),
        "speed": speed(),
    }
    (Path(__file__).parent / "results" / f"{Path(__file__).stem}.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
