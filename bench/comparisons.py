"""How often `fmask compare` finds a difference where there is none, and how often one that is there.

    python bench/comparisons.py [--repeats 2000] [--sizes 100 300] [--workers 2]

Two detectors of the same kind (`medium` of `coverage.py`) see the same simulated images, and go wrong each by itself:
there is no difference. Scenes are single images, or bursts of three. Each repeat compares all five metrics, as `fmask
compare` does. `one` is how often the interval of mAP 0.5 excludes 0, `any` how often that of at least
one metric does: the family-wise error, at most 5 % by intent. `found` is how often a difference that is as large as the
page says it must be (with a chance of 80 %) would have been found. Writes `results/comparisons.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from facemask_train.core.parallel import usable_cores
from facemask_train.eval.measures.bootstrap import group_weights
from facemask_train.eval.measures.metrics import score_split
from facemask_train.eval.measures.paired_bootstrap import (
    detectable_differences,
    paired_differences,
    score_resamples,
)

sys.path.insert(0, str(Path(__file__).parent))
from coverage import BURST, DETECTORS, draw

KIND, THRESHOLD = "medium", 0.5


def repeat(asked: tuple[str, int, int]) -> tuple[bool, bool, bool]:
    """Compare two detectors once: whether mAP 0.5 differs, whether anything does, and whether a real one is found."""
    how, scenes, seed = asked
    burst = 1 if how == "single" else BURST
    codes = np.arange(scenes * burst) // burst
    weights = group_weights(codes, seed=seed + 1)
    models = []
    for side in (1, 2):
        answers = np.random.default_rng([seed, scenes, side])
        table = draw(scenes, DETECTORS[KIND], np.random.default_rng([seed, scenes]), burst, answers)
        models.append(score_resamples(score_split(table, weights, codes), THRESHOLD))
    differences = paired_differences(models[0], models[1])
    apart = {key: one.interval[0] > 0 or one.interval[1] < 0 for key, one in differences.items()}
    moved = detectable_differences(models[0], models[1])["map50"]
    return apart["map50"], any(apart.values()), differences["map50"].interval[0] + moved > 0


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--repeats", type=int, default=2000)
    asked.add_argument("--sizes", type=int, nargs="+", default=(100, 300))
    asked.add_argument("--workers", type=int, default=usable_cores())
    given = asked.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for how in ("single", "bursts"):
        found[how] = {}
        for scenes in given.sizes:
            with ProcessPoolExecutor(given.workers) as pool:
                jobs = [(how, scenes, seed) for seed in range(given.repeats)]
                rows = np.array(list(pool.map(repeat, jobs, chunksize=16)))
            means = rows.mean(axis=0).round(4).tolist()
            found[how][str(scenes)] = dict(zip(("one", "any", "found"), means, strict=True))
            sys.stderr.write(f"{how}, {scenes} scenes: {found[how][str(scenes)]}\n")
    result = {
        "command": f"python bench/comparisons.py --repeats {given.repeats} --sizes {' '.join(map(str, given.sizes))}",
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "date": datetime.now(UTC).date().isoformat(),
        "repeats": given.repeats,
        "standard_error_of_5_percent": round((0.95 * 0.05 / given.repeats) ** 0.5, 4),
        "differences_found": found,
    }
    (Path(__file__).parent / "results" / f"{Path(__file__).stem}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
