"""How well `fmask pipeline --sample` learns: its test scores over seeds and CPU instruction sets.

    python bench/learning.py WORK [--seeds 5] [--sets native avx2]

Runs the sample pipeline once for each seed and instruction set, one after the other, each in a separate folder in WORK
(minutes each on two cores). A run whose scores are already in WORK is not repeated, so an interrupted bench continues.
Writes the mAP 0.5 of each run, overall and by class, to bench/results/learning.json, and prints it.

`bar` is the lowest score of all runs minus 10 points, rounded down to two digits: the score that
`.ci/check_sample.py` requires of a run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from facemask_train.core.parallel import usable_cores

SETS = {
    "native": {},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "default"},
}
"""The environment that limits torch to an instruction set: that of the processor, or AVX2 in oneDNN alone."""

MARGIN = 0.1


def run(work: Path, seed: int, instructions: str) -> dict[str, Any]:
    """Run the pipeline once and return its scores on the test split."""
    kept = work / f"{seed}-{instructions}.json"
    if not kept.is_file():
        root = work / f"{seed}-{instructions}"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        held = {name for one in SETS.values() for name in one}
        environment = {name: value for name, value in os.environ.items() if name not in held}
        command = [sys.executable, "-m", "facemask_train", "pipeline", "--sample", "--root", str(root)]
        subprocess.run(
            [*command, "--tracker", "none", "--set", f"seed={seed}", "--quiet"],
            env=environment | SETS[instructions], check=True,
        )  # fmt: skip
        (metrics,) = root.glob("runs/*/evaluation/sample-test/metrics.json")
        shutil.copy(metrics, kept)
        shutil.rmtree(root)
    metrics_of = json.loads(kept.read_text(encoding="utf-8"))
    per_class = {name: row["map50"] for name, row in metrics_of["per_class"].items()}
    return {"seed": seed, "instructions": instructions, "map50": metrics_of["map50"], "per_class": per_class}


def bar(scores: list[float]) -> float:
    """Return the lowest score less the margin, rounded down to two digits."""
    return math.floor(round(100 * (min(scores) - MARGIN), 6)) / 100


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is recorded: the machine, the scores of each run, the lowest of all, and the bars."""
    lowest_class = [min(one["per_class"].values()) for one in runs]
    return {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": usable_cores()},
        "runs": runs,
        "lowest": {"map50": min(one["map50"] for one in runs), "map50 of a class": min(lowest_class)},
        "bar": {"map50": bar([one["map50"] for one in runs]), "map50 of a class": bar(lowest_class)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(given.seeds):
        for instructions in given.sets:
            runs.append(run(given.work, seed, instructions))
            print(json.dumps(runs[-1]), flush=True)
    text = json.dumps(summary(runs), indent=2) + "\n"
    (Path(__file__).parent / "results" / "learning.json").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
