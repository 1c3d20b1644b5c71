"""Whether two commits do the same: build, predict and evaluate with both, and compare what they wrote.

    python bench/same_behavior.py WORK [--before b1abf43] [--after HEAD] [--archives FOLDER] [--weights FILE]

Each commit gets a worktree and a project folder under WORK. Compared byte for byte: the images and label files of the
sample and, with `--archives`, of `dev` and `v8` from the reduced Kaggle archives. With `--weights` (a checkpoint of
fmask) also: the label files and table of `predict` on the test images of `dev` (without archives: of the sample), and
every number of `evaluate` there, matched by its key in metrics.json after `RENAMED`. Finished steps are not repeated.
Writes bench/results/same_behavior.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
SAMPLE = ("sample-voc", "sample-yolo", "sample-darknet")
KAGGLE = ("andrewmvd", "aditya276")
SHOWN = 12
"""Names of differing files, and of differing numbers, that are listed for each comparison."""
RENAMED: dict[str, str] = {}
"""Keys of metrics.json by their older name."""


class Side:
    """One commit: its worktree, and a project folder in which its commands run."""

    def __init__(self, work: Path, commit: str) -> None:
        self.commit = git("rev-parse", "--short", commit)
        self.tree, self.root = work / f"tree-{self.commit}", work / f"root-{self.commit}"
        if not self.tree.exists():
            git("worktree", "add", "--detach", str(self.tree), self.commit)
        self.root.mkdir(parents=True, exist_ok=True)

    def fmask(self, *arguments: str | Path) -> str:
        """Run a command of this commit in its project folder; return its standard output."""
        environment = {**os.environ, "PYTHONPATH": str(self.tree / "src")}
        command = [
            "nice",
            "-n",
            "10",
            sys.executable,
            "-m",
            "facemask_train",
            *map(str, arguments),
            "--root",
            self.root,
        ]
        print(self.commit, *arguments, flush=True)
        done = subprocess.run(command, env=environment, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.commit}: fmask {arguments[0]} failed ({done.returncode}):\n{done.stderr[-3000:]}")
        return done.stdout

    def build(self, sources: Sequence[str], version: str, *options: str | Path) -> Path:
        self.fmask("fetch", *sources, *options)
        self.fmask("build-dataset", "--version", version, *(["--allow-missing"] if version == "8" else []))
        return self.root / "data/ensembles" / ("v8-without-karm1a" if version == "8" else version)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=REPO, capture_output=True, text=True, check=True).stdout.strip()


def digests(folder: Path, kinds: Sequence[str]) -> dict[str, str]:
    files = sorted(path for kind in kinds for path in (folder / kind).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def compare_files(before: Path, after: Path, kinds: Sequence[str]) -> dict[str, Any]:
    one, other = digests(before, kinds), digests(after, kinds)
    found = {
        "equal": sum(other.get(name) == digest for name, digest in one.items()),
        "different": sorted(name for name in one.keys() & other.keys() if one[name] != other[name]),
        "only before": sorted(one.keys() - other.keys()),
        "only after": sorted(other.keys() - one.keys()),
    }
    counts = {key: value if isinstance(value, int) else len(value) for key, value in found.items()}
    return {**counts, "examples": {k: v[:SHOWN] for k, v in found.items() if isinstance(v, list) and v}}


def numbers(data: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield each number of a JSON document with the path of its keys."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from numbers(value, f"{key}/{name}")
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from numbers(value, f"{key}/{index}")
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield key, float(data)


def compare_numbers(before: Path, after: Path) -> dict[str, Any]:
    one = {RENAMED.get(key, key): value for key, value in numbers(json.loads(before.read_text()))}
    other = dict(numbers(json.loads(after.read_text())))
    different = {key: [one[key], other[key]] for key in one.keys() & other.keys() if one[key] != other[key]}
    return {
        "equal": len(one.keys() & other.keys()) - len(different),
        "different": len(different),
        "of these ends of intervals": sum("interval" in key for key in different),
        "only before": len(one.keys() - other.keys()),
        "only after": len(other.keys() - one.keys()),
        "examples": {key: different[key] for key in sorted(different)[:SHOWN]},
    }


def compare_model(sides: Sequence[Side], weights: Path, ensemble: str) -> dict[str, Any]:
    """Predict and evaluate with both commits, on the images that the first one built."""
    images = sides[0].root / "data/ensembles" / ensemble / "images/test"
    for side in sides:
        options = ("--confidence", "0.25", "--save", "yolo", "--save", "csv", "--out", side.root / "predicted")
        side.fmask("predict", images, "--weights", weights, *options)
        side.fmask("evaluate", "--weights", weights, "--data", ensemble, "--tracker", "none", "--no-audit")
    written = [next((side.root / "runs").glob(f"*/evaluation/{ensemble}-test/metrics.json")) for side in sides]
    before, after = (side.root / "predicted" for side in sides)
    return {"predict": compare_files(before, after, ["."]), "evaluate": compare_numbers(*written)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--before", default="b1abf43")
    parser.add_argument("--after", default="HEAD")
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--weights", type=Path)
    given = parser.parse_args()
    sides = [Side(given.work.resolve(), commit) for commit in (given.before, given.after)]
    found: dict[str, Any] = {"commits": [side.commit for side in sides]}
    sets: dict[str, tuple[Any, ...]] = {"sample": (SAMPLE, "sample")}
    if given.archives:
        archives = given.archives.resolve()
        sets |= {name: (KAGGLE, version, "--from", archives) for name, version in (("dev", "dev"), ("v8", "8"))}
    for name, arguments in sets.items():
        before, after = (side.build(*arguments) for side in sides)
        found[name] = compare_files(before, after, ["images", "labels"])
    if given.weights:
        found |= compare_model(sides, given.weights.resolve(), "dev" if given.archives else "sample")
    (REPO / "bench/results/same_behavior.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
