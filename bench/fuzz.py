"""Every reader on mutated inputs: no error but fmask's own, balanced books, bounded time and memory.

    python bench/fuzz.py [--inputs 1000000] [--seconds 3600] [--seed 2]

The inputs are drawn by `tests/helpers/fuzzing.py` from a seed, in equal numbers for each reader; they are not guided by
coverage, and checkpoints are not among them. An input that fails is printed, and is written to `--keep`. Stops at
`--inputs` or after `--seconds`, whichever comes first, and writes `results/fuzz.json` with the count that was run.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import random
import resource
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.fuzzing import Target, failure, mutated, targets

BATCH = 200  # inputs of one reader before the next one has its turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    started = time.monotonic()
    found = {name: {"inputs": 0, "failed": 0, "slowest_s": 0.0} for name in targets()}
    with tempfile.TemporaryDirectory() as folder:
        while _more(found, given.inputs) and time.monotonic() - started < given.seconds:
            for name, target in targets().items():
                if _more(found, given.inputs):
                    _batch(name, target, found[name], given.seed, Path(folder), given.keep)
    _write(found, given.seed, time.monotonic() - started)
    sys.exit(1 if any(one["failed"] for one in found.values()) else 0)


def _more(found: dict[str, dict[str, float]], inputs: int) -> bool:
    return sum(one["inputs"] for one in found.values()) < inputs


def _batch(name: str, target: Target, counts: dict[str, float], seed: int, folder: Path, keep: Path) -> None:
    for number in range(int(counts["inputs"]), int(counts["inputs"]) + BATCH):
        data = mutated(target.seeds, random.Random(f"{name} {seed} {number}"))
        work = folder / "work"
        work.mkdir()
        before = time.perf_counter()
        wrong = failure(target, data, work)
        counts["slowest_s"] = max(counts["slowest_s"], round(time.perf_counter() - before, 3))
        shutil.rmtree(work)
        counts["inputs"] += 1
        if wrong:
            counts["failed"] += 1
            print(f"{name} {seed} {number}: {wrong}", flush=True)
            keep.mkdir(exist_ok=True)
            (keep / f"{name}-{seed}-{number}").write_bytes(data)


def _write(found: dict[str, dict[str, float]], seed: int, seconds: float) -> None:
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}, 1 process",
        "command": "python bench/fuzz.py",
        "seed": seed,
        "guided_by_coverage": False,
        "inputs": sum(one["inputs"] for one in found.values()),
        "failed": sum(one["failed"] for one in found.values()),
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "readers": found,
    }
    path = Path(__file__).parent / "results" / "fuzz.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "readers"}))


if __name__ == "__main__":
    main()
