"""How often the 95 % intervals contain the true value, on simulated detectors for which it is known.

    python bench/coverage.py [--repeats 500]

Three detectors (good, medium, weak) run on images that differ in difficulty, in their number of faces and in their mix
of classes, so that errors in the same image are correlated. The true value is the metric on 400,000 images. Each repeat
draws 50, 100, 500 or 2,000 images and computes all intervals as `fmask evaluate` does, with 300 resamples. Precision,
recall and F1 are checked twice: at the confidence with the best F1 on the drawn images themselves (`best`; the true
value is the one at this confidence on all images), and at a fixed one (`fixed`). Writes `coverage.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from facemask_train.core.parallel import usable_cores
from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.bootstrap import bootstrap_weights
from facemask_train.eval.measures.boxes_table import Boxes, BoxesTable
from facemask_train.eval.measures.metrics import (
    ScoredSplit,
    average_precisions,
    counts_at,
    precision_recall_f1,
    rates_at_confidence,
    score_split,
)

SIZES = (50, 100, 500, 2000)
POPULATION = 400_000
RESAMPLES = 300  # resamples: an interval uses their spread, which this many give within 4 %
GRID = np.linspace(0.02, 0.98, 97)


@dataclass(frozen=True)
class Kind:
    """A detector: its confidence in correct detections, and its rates of misses, wrong classes and false boxes."""

    sure: float
    miss: float
    swap: float
    false: float


DETECTORS = {
    "good": Kind(3.0, 0.02, 0.02, 0.15),
    "medium": Kind(1.2, 0.10, 0.08, 0.6),
    "weak": Kind(-0.3, 0.3, 0.15, 1.5),
}


def draw(images: int, kind: Kind, rng: np.random.Generator) -> BoxesTable:
    """Draw images with their labels and this detector's detections; no two faces of an image overlap."""
    hard, mix = rng.normal(0, 0.7, images), rng.beta(2, 2, images)
    place = np.repeat(np.arange(images), rng.geometric(0.35, images))
    count = len(place)
    counts = np.bincount(place, minlength=images)
    left = (np.arange(count) - np.repeat(np.cumsum(counts) - counts, counts)) * 200.0
    box = np.stack([left, 0 * left, left + 100, 0 * left + 100], axis=1)
    name = (rng.random(count) > mix[place]).astype(np.int64)
    seen = rng.random(count) > 1 / (1 + np.exp(np.log((1 - kind.miss) / kind.miss) - hard[place]))
    wrong = rng.random(count) < kind.swap
    quality = np.clip(0.78 + 0.04 * kind.sure - 0.05 * hard[place] + rng.normal(0, 0.1, count), 0.2, 0.999)
    shift = (1 - quality) / (1 + quality) * 100
    moved = box + np.stack([shift, 0 * shift, shift, 0 * shift], axis=1)
    sure = 1 / (1 + np.exp(-(kind.sure - hard[place] + rng.normal(0, 1, count) - 1.5 * wrong)))
    extra = np.repeat(np.arange(images), rng.poisson(kind.false * np.exp(hard - 0.25), images))
    away = 5e4 + np.arange(len(extra)) * 200.0
    beside = np.stack([away, 0 * away, away + 100, 0 * away + 100], axis=1)
    unsure = 1 / (1 + np.exp(-(-1.0 + rng.normal(0, 1.2, len(extra)))))
    where, boxes = np.r_[place[seen], extra], np.concatenate([moved[seen], beside])
    which = np.r_[np.where(wrong, 1 - name, name)[seen], rng.integers(0, 2, len(extra))]
    confidence = np.r_[sure[seen], unsure]
    order = np.lexsort((-confidence, where))
    found = Boxes(where[order], which[order], boxes[order], confidence[order])
    return BoxesTable(images, Boxes(place, name, box, np.ones(count)), found)


def at(sample: ScoredSplit, confidence: float) -> dict[str, tuple[float, float, float]]:
    """Return precision, recall and F1 by class and for all, without intervals."""
    found = {}
    for name in CLASSES:
        counts = counts_at(sample, name, confidence)
        values = precision_recall_f1(
            *(np.asarray(part.sum(), float) for part in (counts.true_positives, counts.detections, counts.labels))
        )
        found[name] = tuple(float(value) for value in values)
    found["all"] = tuple(float(np.mean([found[name][i] for name in CLASSES])) for i in range(3))
    return found  # type: ignore[return-value]


def truth(kind: Kind) -> dict[str, Any]:
    """Return every metric on the whole population, at each confidence of a grid."""
    sample = score_split(draw(POPULATION, kind, np.random.default_rng(12345)), np.ones((POPULATION, 1), np.float32))
    areas = average_precisions(sample)
    along = [at(sample, confidence) for confidence in GRID]
    best = int(np.argmax([row["all"][2] for row in along]))
    return {
        "areas": {name: {key: number.value for key, number in row.items()} for name, row in areas.items()},
        "along": along,
        "fixed": float(GRID[best]),
    }


def repeat(job: tuple[str, int, int, dict[str, Any]]) -> dict[str, bool | None]:
    """Draw one sample, and return for each interval whether it contains the true value."""
    name, images, seed, known = job
    flat = draw(images, DETECTORS[name], np.random.default_rng([seed, images]))
    sample = score_split(flat, bootstrap_weights(images, RESAMPLES, seed=seed + 1))
    held: dict[str, bool | None] = {}
    for of, row in average_precisions(sample).items():
        for key, number in row.items():
            held[f"{key} {of}"] = _holds(number.interval, known["areas"][of][key])
    best = int(np.argmax([at(sample, confidence)["all"][2] for confidence in GRID]))
    for how, place in (("best", best), ("fixed", int(np.argmin(abs(GRID - known["fixed"]))))):
        table = rates_at_confidence(sample, float(GRID[place]), chosen_here=how == "best")
        for of, row in table.items():
            for index, key in enumerate(("precision", "recall", "f1")):
                held[f"{key} {how} {of}"] = _holds(row[key].interval, known["along"][place][of][index])
    return held


def _holds(interval: tuple[float, float] | None, value: float) -> bool | None:
    return None if interval is None else interval[0] <= value <= interval[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=500)
    repeats = parser.parse_args().repeats
    coverage: dict[str, dict[str, dict[str, float]]] = {}
    for name, kind in DETECTORS.items():
        known = truth(kind)
        coverage[name] = {}
        for images in SIZES:
            with ProcessPoolExecutor() as pool:
                rows = list(pool.map(repeat, [(name, images, seed, known) for seed in range(repeats)], chunksize=8))
            coverage[name][str(images)] = {
                key: round(float(np.mean([row[key] for row in rows if row[key] is not None])), 3) for key in rows[0]
            }
            shown = {key: value for key, value in coverage[name][str(images)].items() if key.endswith(" all")}
            sys.stderr.write(f"{name}, {images} images: {shown}\n")
    result = {
        "command": f"python bench/coverage.py --repeats {repeats}",
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "date": datetime.now(UTC).date().isoformat(),
        "level": 0.95,
        "repeats": repeats,
        "resamples": RESAMPLES,
        "standard_error_of_a_coverage": round((0.95 * 0.05 / repeats) ** 0.5, 4),
        "coverage": coverage,
    }
    (Path(__file__).parent / "results" / f"{Path(__file__).stem}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
