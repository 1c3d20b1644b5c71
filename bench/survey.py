"""How often the survey's 95 % interval contains the true share of masks, on simulated streams for which it is known.

    python bench/survey.py [--repeats 500]

The streams are not generated from the estimator's own model. People come in groups that tend to dress alike (each group
has its own rate); images contain few or many groups, near or far; each image is more or less difficult. Whether a face
is found and classified correctly depends on its class, on its size (continuously) and on the difficulty of its image;
small and uncertain faces are unknown; false boxes come in bursts and are small. Masked faces are found more often than
bare ones, and bare faces are misclassified less often than masked ones. A detector of q % finds q % of the faces of the
test set, and classifies q % of all faces correctly. Half the faces of its test set are masked, in 80 images (some 230
faces, as in the sample) or 400.

For comparison: the uncorrected share, with Wilson's interval over faces and over independent faces, and Rogan and
Gladen's correction for confusion alone, with Lang and Reiczigel's interval. Stress cases, which break the assumptions
of the estimator or make its task hard, are reported separately: faces of another size than in the test set, people in
groups of six that dress alike, a test set in which nine of ten faces wear masks.

Writes `survey.json` (remove it to start over) and prints the tables of `README.md`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from facemask_train.apps.survey.prevalence import estimate_prevalence
from facemask_train.apps.survey.samples import (
    MASK,
    MISSED,
    NO_MASK,
    UNKNOWN,
    DetectedBoxes,
    ReferenceFaces,
    SurveySample,
)
from facemask_train.core.parallel import usable_cores
from facemask_train.eval.measures.bootstrap import wilson_interval

RATES = (0.02, 0.05, 0.10, 0.30, 0.50, 0.70, 0.90, 0.95, 0.98)
DETECTORS = (0.70, 0.80, 0.90, 0.95, 0.99)
FACES = (50, 300, 1500)
TESTS = (80, 400)
DRAWS = 1000
MIN_COVERAGE = 0.93
SIDE, LEAST = 30.0, 10.0  # pixels: the median size of a face, and the smallest that is classified
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Way:
    """How people appear: groups per image, faces per group, how alike a group dresses, the shift of sizes (log)."""

    groups: float = 1.7
    group: float = 1 / 0.6
    alike: float = 0.5
    shift: float = 0.0

    @property
    def faces(self) -> float:
        return self.groups * self.group


USUAL = Way()
STRESSES = {
    "faces a third smaller": Way(shift=float(np.log(2 / 3))),
    "faces half as large again": Way(shift=float(np.log(1.5))),
    "groups of six, dressed alike": Way(groups=1.2, group=6.0, alike=0.8),
    "test set 90 % masked": USUAL,
}
STRESS_RATES = (0.05, 0.30, 0.70, 0.95)


@dataclass(frozen=True)
class World:
    """The true faces: the image of each, whether it is bare, its size; and the difficulty of each image."""

    image: np.ndarray
    bare: np.ndarray
    size: np.ndarray
    hard: np.ndarray


@dataclass(frozen=True)
class Detector:
    """By class (masked, bare): how easily a median face is found and classified correctly; false boxes per image."""

    find: np.ndarray
    name: np.ndarray
    false: float


def people(images: int, rate: float, way: Way, rng: np.random.Generator) -> World:
    """Draw images of people; `rate` is the expected share of masked faces."""
    group_of = np.repeat(np.arange(images), rng.poisson(way.groups - 1, images) + 1)
    members = rng.geometric(1 / way.group, len(group_of))
    certain = 1 / way.alike - 1
    dressed = rng.beta(rate * certain, (1 - rate) * certain, len(group_of))
    image = np.repeat(group_of, members)
    bare = rng.random(len(image)) >= np.repeat(dressed, members)
    near = rng.normal(0, 0.5, images)
    size = SIDE * np.exp(way.shift + near[image] + rng.normal(0, 0.4, len(image)))
    return World(image, bare.astype(np.int64), size, rng.normal(0, 0.5, images))


def _easy(world: World, slope: float) -> np.ndarray:
    easy: np.ndarray = slope * np.log(world.size / SIDE) - world.hard[world.image]
    return easy


def detector(quality: float) -> Detector:
    """Return the detector that finds, and classifies correctly, this share of masked and bare faces together."""
    world = people(60_000, 0.5, USUAL, np.random.default_rng(9))
    miss = 1 - quality

    def level(easy: np.ndarray, share: float) -> float:
        return float(brentq(lambda at: expit(at + easy).mean() - share, -20, 20))

    find = [level(_easy(world, 1.2)[world.bare == c], 1 - miss * k) for c, k in ((0, 0.7), (1, 1.3))]
    name = [level(_easy(world, 0.6)[world.bare == c], 1 - miss * k) for c, k in ((0, 1.2), (1, 0.8))]
    return Detector(np.array(find), np.array(name), 1.2 * miss)


def answers(world: World, seen_by: Detector, rng: np.random.Generator) -> tuple[np.ndarray, DetectedBoxes]:
    """Return the outcome of each face, and the false boxes."""
    count, bare = len(world.image), world.bare
    found = rng.random(count) < expit(seen_by.find[bare] + _easy(world, 1.2))
    sure = expit(seen_by.name[bare] + _easy(world, 0.6))
    right = rng.random(count) < sure
    unknown = (world.size < LEAST) | (rng.random(count) < 0.5 * (1 - sure))
    answer = np.where(~found, MISSED, np.where(unknown, UNKNOWN, np.where(right, bare, 1 - bare)))
    bursts = rng.poisson(seen_by.false * rng.gamma(0.7, 1 / 0.7, len(world.hard)))
    where = np.repeat(np.arange(len(world.hard)), bursts)
    claimed = np.where(rng.random(len(where)) < 0.25, UNKNOWN, rng.random(len(where)) < 0.4)
    return answer, DetectedBoxes(where, claimed, 0.7 * SIDE * np.exp(rng.normal(0, 0.5, len(where))))


def measured(images: int, rate: float, seen_by: Detector, rng: np.random.Generator) -> ReferenceFaces:
    world = people(images, rate, USUAL, rng)
    answer, false = answers(world, seen_by, rng)
    return ReferenceFaces(images, world.image, world.bare, answer, world.size, false)


def stream(images: int, rate: float, way: Way, seen_by: Detector, rng: np.random.Generator) -> SurveySample:
    world = people(images, rate, way, rng)
    answer, false = answers(world, seen_by, rng)
    found = answer < MISSED
    pairs = (
        (world.image[found], false.cluster),
        (answer[found], false.outcome),
        (world.size[found], false.size),
    )
    return SurveySample(np.ones(images), DetectedBoxes(*(np.concatenate(pair) for pair in pairs)))


# ---- other methods ----


def as_counted(_: ReferenceFaces, seen: SurveySample) -> tuple[float, float]:
    classified = seen.boxes.outcome[seen.boxes.outcome < UNKNOWN]
    return wilson_interval(float((classified == MASK).mean()), len(classified))


def for_confusion(test: ReferenceFaces, seen: SurveySample) -> tuple[float, float]:
    """Return Lang and Reiczigel's interval (2014) of Rogan and Gladen's rate, over faces."""
    classified = seen.boxes.outcome[seen.boxes.outcome < UNKNOWN]
    n, hits = len(classified), float((classified == MASK).sum())
    share, size = (hits + Z * Z / 2) / (n + Z * Z), n + Z * Z
    right, counts = [], []
    for name in (MASK, NO_MASK):
        own = test.outcome[(test.label == name) & (test.outcome < UNKNOWN)]
        right.append((float((own == name).sum()) + 1) / (len(own) + 2))
        counts.append(len(own) + 2)
    youden = right[MASK] + right[NO_MASK] - 1
    if youden <= 0:
        return 0.0, 1.0
    rate = (share + right[NO_MASK] - 1) / youden
    spread = np.sqrt(
        share * (1 - share) / size
        + rate**2 * right[MASK] * (1 - right[MASK]) / counts[MASK]
        + (1 - rate) ** 2 * right[NO_MASK] * (1 - right[NO_MASK]) / counts[NO_MASK]
    ) / abs(youden)
    shift = (
        2
        * Z
        * Z
        * (
            rate * right[MASK] * (1 - right[MASK]) / counts[MASK]
            - (1 - rate) * right[NO_MASK] * (1 - right[NO_MASK]) / counts[NO_MASK]
        )
    )
    low, high = rate + shift - Z * spread, rate + shift + Z * spread
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


METHODS = ("corrected", "confusion alone", "counted, clustered", "counted")


def one(test: ReferenceFaces, seen: SurveySample) -> dict[str, tuple[float, float]]:
    """Return the intervals of all methods."""
    found = estimate_prevalence(test, seen, draws=DRAWS)
    return {
        "corrected": found.interval or (0.0, 1.0),
        "confusion alone": for_confusion(test, seen),
        "counted, clustered": found.uncorrected_interval or (0.0, 1.0),
        "counted": as_counted(test, seen),
    }


@dataclass(frozen=True)
class Cell:
    """One cell of the tables. `under` is the stress case, if any."""

    detector: float
    test: int
    faces: int
    rate: float
    under: str = ""


def run(job: tuple[Cell, int]) -> dict[str, Any]:
    """Return the coverage and mean width of each method in one cell."""
    cell, repeats = job
    seen_by, way = detector(cell.detector), STRESSES.get(cell.under, USUAL)
    masked = 0.9 if "test set" in cell.under else 0.5
    held, width, low_side = dict.fromkeys(METHODS, 0), dict.fromkeys(METHODS, 0.0), 0
    for repeat in range(repeats):
        seed = [repeat, cell.test, cell.faces, round(100 * cell.detector), round(100 * cell.rate), len(cell.under)]
        rng = np.random.default_rng(seed)
        test = measured(cell.test, masked, seen_by, rng)
        seen = stream(max(2, round(cell.faces / way.faces)), cell.rate, way, seen_by, rng)
        for name, (low, high) in one(test, seen).items():
            held[name] += low <= cell.rate <= high
            width[name] += high - low
            low_side += name == "corrected" and high < cell.rate
    return {
        **cell.__dict__,
        "coverage": {name: round(held[name] / repeats, 4) for name in METHODS},
        "width": {name: round(width[name] / repeats, 4) for name in METHODS},
        "below_the_truth": round(low_side / repeats, 4),
    }


KEYS = ("detector", "test", "faces", "rate", "under")
LOT = 16  # cells between two checks of the time


def cells() -> list[Cell]:
    main = [Cell(q, t, n, rate) for q in DETECTORS for t in TESTS for n in FACES for rate in RATES]
    return main + [
        Cell(q, t, n, rate, under)
        for under in STRESSES
        for q in DETECTORS
        for t in TESTS
        for n in FACES
        for rate in STRESS_RATES
    ]


# ---- the tables ----


def tables(rows: list[dict[str, Any]]) -> str:
    main = [row for row in rows if not row["under"]]
    parts = [_by(main, "detector"), _by(main, "faces"), _by(main, "rate"), _by(main, "test")]
    parts.append(_by([row for row in rows if row["under"]], "under"))
    return "\n\n".join(parts)


_PERCENT = ("detector", "rate")


def _by(rows: list[dict[str, Any]], key: str) -> str:
    """Return a table: for each value, the mean and lowest coverage of each method, and the mean width."""
    lines = [
        f"| {key} | " + " | ".join(f"{name}: coverage, % (lowest) | width" for name in METHODS) + " |",
        "| --- " * (1 + 2 * len(METHODS)) + "|",
    ]
    for value in dict.fromkeys(row[key] for row in rows):
        own = [row for row in rows if row[key] == value]
        cells = [f"{100 * value:.0f} %" if key in _PERCENT else str(value)]
        for name in METHODS:
            held = [100 * row["coverage"][name] for row in own]
            cells.append(f"{np.mean(held):.1f} ({min(held):.1f})")
            cells.append(f"{100 * np.mean([row['width'][name] for row in own]):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=60, help="Stop after this many; the next call continues.")
    given = parser.parse_args()
    path = Path(__file__).parent / "results" / f"{Path(__file__).stem}.json"
    rows = _kept(path, given.repeats)
    done = {tuple(row[key] for key in KEYS) for row in rows}
    ends = time.monotonic() + 60 * given.minutes
    left = [cell for cell in cells() if tuple(getattr(cell, key) for key in KEYS) not in done]
    with ProcessPoolExecutor() as pool:
        while left and time.monotonic() < ends:
            some, left = left[:LOT], left[LOT:]
            rows += pool.map(run, [(cell, given.repeats) for cell in some])
    inside = [row for row in rows if not row["under"]]
    low = [row for row in inside if row["coverage"]["corrected"] < MIN_COVERAGE]
    result = {
        "command": f"python bench/survey.py --repeats {given.repeats}",
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "date": datetime.now(UTC).date().isoformat(),
        "level": 0.95,
        "repeats": given.repeats,
        "draws": DRAWS,
        "standard_error_of_a_coverage": round((0.95 * 0.05 / given.repeats) ** 0.5, 4),
        "cells": len(inside),
        "cells_below_93": len(low),
        "lowest": min((row["coverage"]["corrected"] for row in inside), default=None),
        "rows": rows,
    }
    path.write_text(json.dumps(result).replace("{", "\n{") + "\n")
    for row in low:
        sys.stderr.write(f"below 93 %: {row}\n")
    sys.stdout.write(tables(rows) + f"\n\n{len(left)} cells are left\n")


def _kept(path: Path, repeats: int) -> list[dict[str, Any]]:
    """Return the results of an earlier call with the same number of repeats."""
    found = json.loads(path.read_text()) if path.is_file() else {}
    return list(found["rows"]) if found.get("repeats") == repeats and found.get("cells") else []


if __name__ == "__main__":
    main()
