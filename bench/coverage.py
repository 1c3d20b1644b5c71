"""How often the 95 % intervals contain the true value, on simulated detectors for which it is known.

    python bench/coverage.py [--repeats 500] [--sizes 50 100 300] [--workers 2]

Three detectors (good, medium, weak) on images that differ in how hard they are, in how many faces they hold, and in
their mix of classes, so that faces of one image go wrong together. The truth is the same number on 200,000 images.
Each repeat draws 50, 100 or 300 scenes and computes all intervals as `fmask evaluate` does, on 300 resamples. A scene
is one image (`single`), or a burst of three that show the same faces and mostly get the same answers (`bursts`):
resampled by scene group, as `fmask evaluate` does, and image by image, to show what that gives (`bursts by image`).
Precision, recall and F1 are asked twice: at the confidence with the best F1 on the drawn images themselves (`best`; its
truth is what the best confidence of all images gives), and at a fixed one (`fixed`). Slices are by source and by faces
per image. Writes `coverage.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from facemask_train.core.parallel import usable_cores
from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.bootstrap import Estimate, group_weights
from facemask_train.eval.measures.boxes_table import Boxes, BoxesTable
from facemask_train.eval.measures.metrics import (
    ScoredSplit,
    average_precisions,
    counts_at,
    precision_recall_f1,
    rates_at_confidence,
    score_split,
)
from facemask_train.eval.measures.slices import ImageTraits, slices

SIZES = (50, 100, 300)
POPULATION = 200_000
BURST, ALIKE = 3, 0.8
"""Images of a burst, and the share of answers that are the same in all of them."""
RESAMPLES = 300  # an interval takes their spread, which so many give to 4 % of itself
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


def draw(
    scenes: int, kind: Kind, rng: np.random.Generator, burst: int = 1, answers: np.random.Generator | None = None
) -> BoxesTable:
    """Draw images with their labels and this detector's detections; no two faces of an image overlap.

    Args:
        burst: how many images each scene has; they follow each other.
        answers: draws what the detector does, so that two detectors can see the same images.
    """
    hard, mix = rng.normal(0, 0.7, scenes), rng.beta(2, 2, scenes)
    scene = np.repeat(np.arange(scenes), rng.geometric(0.35, scenes))
    false_scene = np.repeat(np.arange(scenes), rng.poisson(kind.false * np.exp(hard - 0.25)))
    counts = np.bincount(scene, minlength=scenes)
    left = (np.arange(len(scene)) - np.repeat(np.cumsum(counts) - counts, counts)) * 200.0
    name = (rng.random(len(scene)) > mix[scene]).astype(np.int64)

    rng = answers or rng

    def vary(drawn: np.ndarray, again: np.ndarray) -> np.ndarray:
        """Return a random number of each face in each image of its burst: mostly the scene's own."""
        own = np.repeat(drawn[None], burst, axis=0)
        return np.where(rng.random(own.shape) < ALIKE, own, again) if burst > 1 else own

    def uniform(count: int) -> np.ndarray:
        return vary(rng.random(count), rng.random((burst, count))).ravel()

    def normal(count: int) -> np.ndarray:
        return vary(rng.normal(0, 1, count), rng.normal(0, 1, (burst, count))).ravel()

    member = np.repeat(np.arange(burst), len(scene))
    place, left, name = np.tile(scene, burst) * burst + member, np.tile(left, burst), np.tile(name, burst)
    count, difficult = len(place), hard[np.tile(scene, burst)]
    box = np.stack([left, 0 * left, left + 100, 0 * left + 100], axis=1)
    seen = uniform(len(scene)) > 1 / (1 + np.exp(np.log((1 - kind.miss) / kind.miss) - difficult))
    wrong = uniform(len(scene)) < kind.swap
    quality = np.clip(0.78 + 0.04 * kind.sure - 0.05 * difficult + 0.1 * normal(len(scene)), 0.2, 0.999)
    shift = (1 - quality) / (1 + quality) * 100
    moved = box + np.stack([shift, 0 * shift, shift, 0 * shift], axis=1)
    sure = 1 / (1 + np.exp(-(kind.sure - difficult + normal(len(scene)) - 1.5 * wrong)))
    extra = np.tile(false_scene, burst) * burst + np.repeat(np.arange(burst), len(false_scene))
    away = 5e4 + np.arange(len(extra)) * 200.0
    beside = np.stack([away, 0 * away, away + 100, 0 * away + 100], axis=1)
    unsure = 1 / (1 + np.exp(-(-1.0 + 1.2 * normal(len(false_scene)))))
    where, boxes = np.r_[place[seen], extra], np.concatenate([moved[seen], beside])
    guessed = np.tile(rng.integers(0, 2, len(false_scene)), burst)
    which = np.r_[np.where(wrong, 1 - name, name)[seen], guessed]
    confidence = np.r_[sure[seen], unsure]
    order, rows = np.lexsort((-confidence, where)), np.argsort(place, kind="stable")
    found = Boxes(where[order], which[order], boxes[order], confidence[order])
    return BoxesTable(scenes * burst, Boxes(place[rows], name[rows], box[rows], np.ones(count)), found)


def traits(images: int, burst: int = 1) -> list[ImageTraits]:
    """Return the traits of images from two sources, one with a quarter of the scenes."""
    return [ImageTraits("small" if index // burst % 4 == 0 else "large", 100.0, 100.0) for index in range(images)]


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


def in_slices(sample: ScoredSplit, kinds: list[ImageTraits], confidence: float) -> dict[str, Estimate]:
    """Return the recall of each slice by source and by faces per image."""
    with np.errstate(all="ignore"):
        found = slices(sample, kinds, confidence)
    return {f"{one.by} {one.name}": one.recall for one in found if one.by in ("source", "faces per image")}


def truth(kind: Kind) -> dict[str, Any]:
    """Return every metric on the whole population, at each confidence of a grid."""
    sample = score_split(draw(POPULATION, kind, np.random.default_rng(12345)), np.ones((POPULATION, 1), np.float32))
    areas = average_precisions(sample)
    along = [at(sample, confidence) for confidence in GRID]
    best = int(np.argmax([row["all"][2] for row in along]))
    by_slice = in_slices(sample, traits(POPULATION), float(GRID[best]))
    return {
        "areas": {name: {key: number.value for key, number in row.items()} for name, row in areas.items()},
        "along": along,
        "best": best,
        "slices": {name: one.value for name, one in by_slice.items()},
    }


def repeat(asked: tuple[str, str, int, int, dict[str, Any]]) -> dict[str, bool | None]:
    """Draw one sample, and say of each interval if it holds the truth."""
    name, how, scenes, seed, known = asked
    burst = 1 if how == "single" else BURST
    flat = draw(scenes, DETECTORS[name], np.random.default_rng([seed, scenes]), burst)
    images = scenes * burst
    codes = np.arange(images) // (1 if how == "bursts by image" else burst)
    sample = score_split(flat, group_weights(codes, RESAMPLES, seed=seed + 1), codes)
    held: dict[str, bool | None] = {}
    for of, row in average_precisions(sample).items():
        for key, number in row.items():
            held[f"{key} {of}"] = _holds(number.interval, known["areas"][of][key])
    best = int(np.argmax([at(sample, confidence)["all"][2] for confidence in GRID]))
    for point, place in (("best", best), ("fixed", known["best"])):
        table = rates_at_confidence(sample, float(GRID[place]), chosen_here=point == "best")
        for of, row in table.items():
            for index, key in enumerate(("precision", "recall", "f1")):
                held[f"{key} {point} {of}"] = _holds(row[key].interval, known["along"][known["best"]][of][index])
    for part, one in in_slices(sample, traits(images, burst), float(GRID[known["best"]])).items():
        held[f"recall in {part}"] = _holds(one.interval, known["slices"][part])
    return held


def _holds(interval: tuple[float, float] | None, value: float) -> bool | None:
    return None if interval is None else interval[0] <= value <= interval[1]


HOW = ("single", "bursts", "bursts by image")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--repeats", type=int, default=500)
    asked.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    asked.add_argument("--workers", type=int, default=usable_cores())
    given = asked.parse_args()
    coverage: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for name, kind in DETECTORS.items():
        known = truth(kind)
        coverage[name] = {}
        for how in HOW:
            coverage[name][how] = {}
            for scenes in given.sizes:
                jobs = [(name, how, scenes, seed, known) for seed in range(given.repeats)]
                with ProcessPoolExecutor(given.workers) as pool:
                    rows = list(pool.map(repeat, jobs, chunksize=8))
                keys = sorted({key for row in rows for key in row})
                drawn = {key: [row[key] for row in rows if row.get(key) is not None] for key in keys}
                own = {key: round(float(np.mean(held)), 3) for key, held in drawn.items() if held}
                coverage[name][how][str(scenes)] = own
                shown = {key: value for key, value in own.items() if key.endswith(" all")}
                sys.stderr.write(f"{name}, {how}, {scenes} scenes: {shown}, mean {np.mean(list(own.values())):.3f}\n")
    result = {
        "command": f"python bench/coverage.py --repeats {given.repeats} --sizes {' '.join(map(str, given.sizes))}",
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "date": datetime.now(UTC).date().isoformat(),
        "level": 0.95,
        "repeats": given.repeats,
        "resamples": RESAMPLES,
        "standard_error_of_a_coverage": round((0.95 * 0.05 / given.repeats) ** 0.5, 4),
        "summary": {how: summary(coverage, how, given.sizes) for how in HOW},
        "coverage": coverage,
    }
    (Path(__file__).parent / "results" / f"{Path(__file__).stem}.json").write_text(json.dumps(result, indent=2) + "\n")


def summary(coverage: dict[str, Any], how: str, sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return mean, lowest and highest coverage over the detectors, of the headline numbers and of the slices."""
    found = {}
    for scenes in sizes:
        rows = [(key, value) for one in coverage.values() for key, value in one[how][str(scenes)].items()]
        parts = {
            "headline": [value for key, value in rows if key.endswith(" all")],
            "classes": [value for key, value in rows if key.endswith(("mask", "no_mask"))],
            "slices": [value for key, value in rows if key.startswith("recall in ")],
        }
        found[str(scenes)] = {
            f"{name}, {of}": round(float(fold(values)), 3)
            for name, values in parts.items()
            for of, fold in (("mean", np.mean), ("lowest", min), ("highest", max))
        }
    return found


if __name__ == "__main__":
    main()
