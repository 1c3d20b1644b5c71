"""How the time for plan, groups and split grows with the number of images: 10,000 to 1,000,000 synthetic hashes.

    python bench/growth.py [--records 10000 100000 1000000]

Writes bench/results/growth.json, and prints it. A tenth of the records are copies of another one, in a random
orientation and with up to 8 of the lowest 64 bits changed; each has two labels. All steps of a build between examining
files and writing them are run: candidates (faiss), the comparison of thumbnails (a copy has that of its original),
groups, split groups, decisions, and the plan with two augmented copies of each training image. Each size runs in a
separate process, so that its peak memory can be measured. Times are CPU times summed over all threads, because the
machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from facemask_train.core.boxes import inverse
from facemask_train.core.config import parse
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Duplicates, Recipe
from facemask_train.core.types import Annotation, Box, ImageRecord
from facemask_train.dataset.grouping.duplicates import find_pairs
from facemask_train.dataset.grouping.groups import decide
from facemask_train.dataset.grouping.hashing import SIDE, orient_hashes, orient_image
from facemask_train.dataset.grouping.label_agreement import SourceImage
from facemask_train.dataset.loading.images import ImageFacts
from facemask_train.dataset.plan import make_plan

SIZES = (10_000, 100_000, 1_000_000)
LABELS = (Annotation("mask", Box(10, 10, 40, 50)), Annotation("no_mask", Box(60, 10, 90, 50)))
RECIPE = {
    "name": "growth",
    "sources": ["a", "b", "c"],
    "augment": {"copies": {"turned": [{"rotate90": {}}], "faces": [{"faces": {}}]}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "growth.json")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    found = []
    for count in arguments.records:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(count)], capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
        print(found[-1], flush=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")


def made_up(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hashes (count, 4), and for each record the original that it copies (or itself) and the orientation."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (count, 4), dtype=np.uint64)
    copies = np.arange(count - count // 10, count)
    of, way = np.arange(count), np.zeros(count, np.int64)
    of[copies], way[copies] = rng.integers(0, count - count // 10, len(copies)), rng.integers(0, 8, len(copies))
    for orientation in range(8):
        these = copies[way[copies] == orientation]
        near = orient_hashes(hashes[of[these]], orientation)
        for _ in range(8):
            near[:, 0] ^= np.uint64(1) << rng.integers(0, 64, len(these)).astype(np.uint64)
        hashes[these] = near
    return hashes, of, way


def measure(count: int) -> dict[str, Any]:
    hashes, of, way = made_up(count)
    rng = np.random.default_rng(1)
    patterns = rng.integers(0, 255, (64, 12, 12), dtype=np.uint8).repeat(SIDE // 12, axis=1).repeat(SIDE // 12, axis=2)

    def thumbnail(index: int) -> np.ndarray:
        return np.ascontiguousarray(orient_image(patterns[of[index] % 64], int(way[index])))

    digests = [f"{value:016x}" * 4 for value in rng.integers(0, 2**64, count, dtype=np.uint64).tolist()]
    sources = ["abc"[3 * index // count] for index in range(count)]
    members = [
        SourceImage(source, f"{index}.jpg", digest, ImageRecord(source, f"{index}.jpg", digest, 100, 60, LABELS))
        for index, (source, digest) in enumerate(zip(sources, digests, strict=True))
    ]
    recipe = parse(Recipe, RECIPE, where="growth")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = {}
    began = time.process_time()
    pairs = find_pairs(hashes, thumbnail, digests, Duplicates(), pool=WorkerPool(workers=1))
    times["pairs"] = time.process_time() - began
    began = time.process_time()
    decided = decide(members, pairs, recipe)
    times["groups and split"] = time.process_time() - began
    began = time.process_time()
    facts = {source: _Facts() for source in recipe.sources}
    outputs = sum(len(planned.outputs) for planned in make_plan(decided.kept, facts, recipe.augment, {}))
    times["plan"] = time.process_time() - began
    found = {(pair.first, pair.second): pair for pair in pairs if pair.same}
    planted = [(int(of[copy]), copy) for copy in range(count) if of[copy] != copy]
    return {
        "records": count,
        "CPU seconds": {key: round(value, 1) for key, value in times.items()},
        "CPU microseconds a record": {key: round(1e6 * value / count, 1) for key, value in times.items()},
        "planted": len(planted),
        "found": sum(pair in found for pair in planted),
        "orientation right": sum(
            found[one, copy].orientation == inverse(int(way[copy])) for one, copy in planted if (one, copy) in found
        ),
        "outputs": outputs,
        "leaks": decided.leaks,
        "memory of the records, MB": before // 1024,
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


class _Facts(dict[str, ImageFacts]):
    """The ImageFacts of any image, created on demand."""

    def __missing__(self, path: str) -> ImageFacts:
        return ImageFacts(path, "", 100, 60, (100, 60), 1, ".jpg")


if __name__ == "__main__":
    main()
