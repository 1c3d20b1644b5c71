"""One process, two processes and two "nodes" on the same data: are the parameters the same, and is the loss curve?

    python bench/several_devices.py WORK [--seeds 3] [--epochs 8]

Draws a tiny ensemble, makes a checkpoint to go out from, and trains YOLOv5n at 64 px with the same global batch, once
for each seed, in one process, in two (`--device cpu,cpu`), and by two `torchrun` on this machine. Prints, and writes to
WORK/several_devices.json, by how much the summed training losses of an epoch differ from one process': the mean over
seeds, and the worst epoch of any seed; beside how much one process differs between seeds. Random changes of pictures
are off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import shapes
from test_distributed import about, fmask, losses, options, run, start_nodes


def train(root: Path, arguments: list[str], *, nodes: bool = False) -> None:
    """Train by one command, or by two torchrun."""
    if not nodes:
        done = run(fmask(root, *arguments))
        assert done.returncode == 0, done.stderr
        return
    started = start_nodes(root, arguments)
    told = [node.communicate() for node in started]
    assert not any(node.returncode for node in started), told


def curves(root: Path, kind: str, device: str, seeds: int, epochs: int) -> np.ndarray:
    """Train once for each seed and return the summed training losses (seeds, epochs)."""
    start = str(root / "runs/start/weights/best.pt")
    found = []
    for seed in range(seeds):
        name = f"{kind}-{seed}"
        arguments = [*options(name, start, epochs), "--seed", str(seed), "--device", device]
        train(root, arguments, nodes=kind == "nodes")
        found.append(losses(root, name))
        parameters = about(root, name)["chosen"]["devices"].get("parameters", [])
        assert len(set(parameters)) == (0 if kind == "one" else 1), parameters
    return np.array(found)


def differences(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Return how far curves lie apart, as shares: their means over seeds, and single epochs."""
    means = np.abs(other.mean(0) / one.mean(0) - 1)
    single = np.abs(other / one - 1)
    return {
        "means_worst_epoch": float(means.max()),
        "single_worst": float(single.max()),
        "single": float(single.mean()),
    }


def between_seeds(one: np.ndarray) -> dict[str, float]:
    pairs = [np.abs(a / b - 1) for a, b in itertools.permutations(one, 2)]
    return {"single_worst": float(np.max(pairs)), "single": float(np.mean(pairs))} if pairs else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    shapes.draw_ensemble(given.work, counts=(64, 8, 0))
    shutil.rmtree(given.work / "runs", ignore_errors=True)
    train(given.work, [*options("start", "yolov5n.yaml", 2), "--device", "cpu"])
    one = curves(given.work, "one", "cpu", given.seeds, given.epochs)
    result: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "seeds": given.seeds,
        "epochs": given.epochs,
        "one process between seeds": between_seeds(one),
        "two processes": differences(one, curves(given.work, "two", "cpu,cpu", given.seeds, given.epochs)),
        "two nodes": differences(one, curves(given.work, "nodes", "cpu", given.seeds, given.epochs)),
    }
    (given.work / "several_devices.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
