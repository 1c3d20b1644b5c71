"""What can only be measured on a GPU, in one call: the step's choices, whether it waits for pictures, and a table.

    python bench/gpu.py ARCHIVES OUT [--stages check steps feed table] [--weights yolov5n-face.pt]

    check   the kernels against torch's operations, and a short training by the command line
    steps   the step of YOLOv5s, fed with one resident batch, with each choice turned on and off
    feed    27,000 resident entries: the device loader against that limit, and the package's loader on all cores
    table   YOLOv5s from scratch and the checkpoint of --weights, each with its seeds side by side, scored on test

ARCHIVES holds the archives of the first two sources; OUT gets `gpu.json`, rewritten after each figure, and the logs.
Needs no more than torch, ultralytics, pydantic and albumentations beside fmask's sources (PYTHONPATH=src).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
RECIPE = """\
name: v8-60-20-20
description: v8's recipe on sources 1 and 2, with a test part that is large enough to measure something.
sources: [andrewmvd, aditya276]
worn_incorrectly: drop-image
conflicts: quarantine
split: {train: 0.6, val: 0.2, test: 0.2}
"""
STEPS: dict[str, tuple[str, ...]] = {
    "as chosen": (),
    "float32": ("precision=fp32",),
    "float16": ("precision=fp16",),
    "channels first": ("channels_last=false",),
    "plain optimiser": ("fused=false",),
    "not deterministic": ("deterministic=false",),
    "not deterministic, convolutions tried out": ("deterministic=false", "benchmark"),
    "compiled": ("compile=true", "deterministic=false"),
}


class Figures(dict[str, Any]):
    """What was measured, written as soon as it is."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.began = path, time.perf_counter()

    def note(self, key: str, value: Any) -> None:
        self[key] = value
        self.path.write_text(json.dumps(self, indent=1) + "\n")
        print(f"[{time.perf_counter() - self.began:.0f} s] {key}: {json.dumps(value)}", flush=True)


def main() -> None:
    given = options()
    given.out.mkdir(parents=True, exist_ok=True)
    figures = Figures(given.out / "gpu.json")
    figures.note("about", about())
    data = build(given, figures)
    stages: dict[str, Callable[..., None]] = {"check": check, "steps": steps, "feed": feed, "table": table}
    for name in given.stages:
        stages[name](given, data, figures)


def options() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("archives", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--stages", nargs="+", default=["check", "steps", "feed", "table"])
    asked.add_argument("--root", type=Path, default=Path("/tmp/fmask-gpu"))
    asked.add_argument("--weights", type=Path, default=Path("yolov5n-face.pt"))
    asked.add_argument("--device", default="0")
    asked.add_argument("--sizes", type=int, nargs="+", default=[640, 416])
    asked.add_argument("--entries", type=int, default=27000)
    asked.add_argument("--short", type=int, default=3840, help="entries where no whole epoch is asked for")
    asked.add_argument("--variants", nargs="+", default=list(STEPS), choices=list(STEPS))
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--epochs", type=int, nargs=2, default=[80, 40], help="from scratch, and from the checkpoint")
    asked.add_argument("--imgsz", type=int, default=416, help="of the table")
    return asked.parse_args()


def about() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "device": f"{gpu}, {os.cpu_count()} cores",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "bench/gpu.py", *sys.argv[1:]]),
    }


def fmask(given: argparse.Namespace, *words: str, log: str) -> subprocess.Popen[bytes]:
    """Start a command of fmask's, what it says going to a file."""
    command = [sys.executable, "-m", "facemask_train", *words, "--root", str(given.root)]
    with (given.out / log).open("ab") as target:
        return subprocess.Popen(command, stdout=target, stderr=subprocess.STDOUT)


def done(given: argparse.Namespace, *words: str, log: str) -> float:
    """Run a command of fmask's; return its seconds."""
    began = time.perf_counter()
    if fmask(given, *words, log=log).wait() != 0:
        sys.exit((given.out / log).read_text()[-3000:])
    return round(time.perf_counter() - began, 1)


def build(given: argparse.Namespace, figures: Figures) -> Path:
    recipe = given.root / "configs" / "ensembles" / "v8-60-20-20.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    v8 = (HERE.parent / "configs" / "ensembles" / "v8.yaml").read_text()
    recipe.write_text(RECIPE + v8[v8.index("augment:") :])
    fetched = done(given, "fetch", "andrewmvd", "aditya276", "--from", str(given.archives), log="build.log")
    built = done(given, "build-dataset", "--version", "v8-60-20-20", log="build.log")
    data = given.root / "data" / "ensembles" / "v8-60-20-20"
    card = json.loads((data / "ensemble.json").read_text())
    figures.note("ensemble", {"splits": card["splits"], "faces": card["faces"], "seconds": [fetched, built]})
    return data


def check(given: argparse.Namespace, data: Path, figures: Figures) -> None:
    chosen = ("tests/test_batches.py", "-k", "kernels or wherever")
    test = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *chosen]
    found = subprocess.run(test, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(found.stdout[-3000:] + found.stderr[-1000:])
    short = ("--weights", "yolov5n.yaml", "--epochs", "2", "--imgsz", "320", "--batch", "64", "--tracker", "none")
    seconds = done(given, "train", "--data", data.name, *short, "--name", "check", log="check.log")
    run = json.loads((given.root / "runs" / "check" / "run.json").read_text())
    figures.note("check", {"tests": found.stdout.strip().splitlines()[-1], "seconds": seconds, "run": run["chosen"]})


def bench_loader(given: argparse.Namespace, data: Path, **changes: Any) -> dict[str, Any]:
    """Return what `loader.py feed` measures."""
    import loader

    fixed = {"data": data, "workers": os.cpu_count(), "batch": 64, "weights": "yolov5s.yaml", "epochs": 2, "sets": []}
    asked = SimpleNamespace(**{**fixed, "device": given.device, **changes})
    found: dict[str, Any] = loader.feed(asked)
    return found


def steps(given: argparse.Namespace, data: Path, figures: Figures) -> None:
    import loader
    import torch

    loader.open_ultralytics()
    for size in given.sizes:
        for name in given.variants:
            sets = [one for one in STEPS[name] if "=" in one]
            torch.backends.cudnn.benchmark = "benchmark" in STEPS[name]
            found = bench_loader(given, data, imgsz=size, entries=given.short, feeds=["same"], sets=sets)
            one = found["fed with"][loader.SAME]
            kept = ("pictures a second", "seconds before the first epoch", "most of the GPU's memory, GiB")
            figures.note(f"step, {size} px: {name}", {key: one[key] for key in kept})
    torch.backends.cudnn.benchmark = False


def feed(given: argparse.Namespace, data: Path, figures: Figures) -> None:
    import loader

    loader.open_ultralytics()
    for size in given.sizes:
        found = {}
        for kind, entries, epochs in (
            ("same", given.short, 3),
            ("device", given.entries, 1),
            ("stock", given.short, 1),
        ):
            one = bench_loader(given, data, imgsz=size, entries=entries, epochs=epochs, feeds=[kind])["fed with"]
            found |= one
            figures.note(f"feed, {size} px: {kind}", one)
        rates = {name: one["pictures a second"] for name, one in found.items()}
        ratios = {name: round(rates[loader.DEVICE] / rates[name], 3) for name in (loader.SAME, loader.STOCK)}
        figures.note(f"feed, {size} px: device loader by", ratios)


def table(given: argparse.Namespace, data: Path, figures: Figures) -> None:
    models = {"YOLOv5s from scratch": "yolov5s.yaml", "YOLOv5n face": str(given.weights.resolve())}
    for (name, weights), epochs in zip(models.items(), given.epochs, strict=True):
        began = time.perf_counter()
        names = [f"{name.replace(' ', '-').lower()}-{seed}" for seed in range(given.seeds)]
        same = ("--weights", weights, "--epochs", str(epochs), "--imgsz", str(given.imgsz), "--tracker", "none")
        where = ("--data", data.name, "--device", given.device, *same)
        side_by_side(
            given, [("train", *where, "--seed", str(seed), "--name", one) for seed, one in enumerate(names)], names
        )
        trained = time.perf_counter() - began
        scored = ("--data", data.name, "--tracker", "none", "--device", given.device)
        side_by_side(given, [("evaluate", one, *scored) for one in names], names)
        figures.note(
            f"table: {name}",
            {"epochs": epochs, "imgsz": given.imgsz, "seconds, all seeds": round(trained, 1)}
            | {one: score(given.root / "runs" / one, data.name) for one in names},
        )


def side_by_side(given: argparse.Namespace, commands: list[tuple[str, ...]], names: list[str]) -> None:
    running = [fmask(given, *words, log=f"{words[0]}-{name}.log") for words, name in zip(commands, names, strict=True)]
    for words, name, one in zip(commands, names, running, strict=True):
        if one.wait() != 0:
            print((given.out / f"{words[0]}-{name}.log").read_text()[-2000:], flush=True)


def score(run: Path, data: str) -> dict[str, Any]:
    metrics = run / "evaluation" / f"{data}-test" / "metrics.json"
    about = json.loads((run / "run.json").read_text())
    training = {key: about.get(key) for key in ("epochs", "seconds", "images_per_second")}
    return training | (json.loads(metrics.read_text()) if metrics.exists() else {})


if __name__ == "__main__":
    main()
