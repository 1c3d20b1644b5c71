"""One process, two processes and two "nodes" on the same data: are the parameters and the loss curves equal?

    python bench/several_devices.py WORK [--seeds 3] [--epochs 8]

For each seed, draws a small ensemble and trains YOLOv5n at 64 px on it, from a checkpoint that already detects a
little: in one process, in two (`--device cpu,cpu`), and with two `torchrun` on this machine. Each step uses the whole
training split, and images are not augmented, so the only difference is that two processes normalize by the statistics
of their halves. Prints, and writes to WORK/several_devices.json, the difference of the summed training loss of each
epoch from that of one process.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "train"))
from test_distributed import about, fmask, losses, options, run, start_nodes

from helpers import shapes
from helpers.known_detector import known_weights


def train(root: Path, arguments: list[str], *, nodes: bool = False) -> None:
    """Train with one command, or with two torchrun."""
    if not nodes:
        done = run(fmask(root, *arguments))
        assert done.returncode == 0, done.stderr
        return
    started = start_nodes(root, arguments)
    output = [node.communicate() for node in started]
    assert not any(node.returncode for node in started), output


def curve(root: Path, name: str, device: str, epochs: int) -> np.ndarray:
    """Train and return the summed training losses of each epoch (epochs,)."""
    train(root, [*options(name, str(known_weights()), epochs), "--device", device], nodes=name == "nodes")
    parameters = about(root, name)["parameters"]
    assert len(set(parameters)) == (0 if name == "one" else 1), parameters
    return np.array(losses(root, name))


def measure(root: Path, seed: int, epochs: int) -> dict[str, list[float]]:
    """Return the differences of two processes and two nodes from one, by epoch, relative to its losses."""
    shapes.draw_ensemble(root, counts=(32, 6, 0), seed=seed)
    shutil.rmtree(root / "runs", ignore_errors=True)
    one = curve(root, "one", "cpu", epochs)
    others = {"two": "cpu,cpu", "nodes": "cpu"}
    return {name: np.abs(curve(root, name, device, epochs) / one - 1).tolist() for name, device in others.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    found = [measure(given.work / str(seed), seed, given.epochs) for seed in range(given.seeds)]
    result: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "worst": {name: max(max(one[name]) for one in found) for name in found[0]},
        "mean": {name: float(np.mean([one[name] for one in found])) for name in found[0]},
        "by seed": found,
    }
    (given.work / "several_devices.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
