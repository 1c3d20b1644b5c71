"""Everything that can only be measured on a GPU: the step's settings, whether it waits for images, a table of models.

    python bench/gpu.py ARCHIVES OUT [--stages check steps feed table] [--weights yolov5n-face.pt]

    check   compares the kernels with torch's operations, and trains briefly with the command line
    profile the time of a step by kernel and by call
    steps   the step of YOLOv5s with one resident batch, with each setting turned on and off
    feed    27,000 resident images: the device loader compared with that limit, and the package's loader on all cores
    table   YOLOv5s from scratch and the checkpoint of --weights, each with its seeds side by side, scored on test

ARCHIVES contains the archives of the first two sources. `gpu.json` in OUT is rewritten after each figure; the logs are
next to it. Needs only torch, ultralytics, pydantic and albumentations besides fmask's sources (PYTHONPATH=src).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    "float16": ("precision=fp16", "fused=false"),
    "channels first": ("channels_last=false",),
    "plain optimizer": ("fused=false",),
    "not deterministic": ("deterministic=false",),
    "not deterministic, convolutions tried out": ("deterministic=false", "benchmark"),
    "not deterministic, channels first": ("deterministic=false", "channels_last=false"),
    "not deterministic, float32": ("deterministic=false", "precision=fp32"),
    "compiled": ("compile=true", "deterministic=false"),
}


class Figures(dict[str, Any]):
    """The figures, written to a file after each measurement."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.began, self.lock = path, time.perf_counter(), threading.Lock()

    def note(self, key: str, value: Any) -> None:
        with self.lock:
            self[key] = value
            self.path.write_text(json.dumps(self, indent=1) + "\n")
        print(f"[{time.perf_counter() - self.began:.0f} s] {key}: {json.dumps(value)}", flush=True)


def main() -> None:
    given = options()
    given.out.mkdir(parents=True, exist_ok=True)
    figures = Figures(given.out / "gpu.json")
    figures.note("about", about())
    data = build(given, figures)
    stages: dict[str, Callable[..., None]] = {
        "check": check,
        "steps": steps,
        "profile": profile,
        "feed": feed,
        "table": table,
    }
    for name in given.stages:
        stages[name](given, data, figures)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stages", nargs="+", default=["check", "steps", "feed", "table"])
    parser.add_argument("--root", type=Path, default=Path(tempfile.gettempdir(), "fmask-gpu"))
    parser.add_argument("--weights", type=Path, default=Path("yolov5n-face.pt"))
    parser.add_argument("--device", default="0")
    parser.add_argument("--sizes", type=int, nargs="+", default=[640, 416])
    parser.add_argument("--entries", type=int, default=27000)
    parser.add_argument("--short", type=int, default=3840, help="images if no full epoch is needed")
    parser.add_argument("--variants", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs=2, default=[40, 30], help="from scratch, and from the checkpoint")
    parser.add_argument("--imgsz", type=int, default=416, help="of the table")
    return parser.parse_args()


def about() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "device": f"{gpu}, {len(os.sched_getaffinity(0))} cores",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "bench/gpu.py", *sys.argv[1:]]),
    }


def done(given: argparse.Namespace, *words: str, log: str) -> float:
    """Run an fmask command with its output in a file; return its seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "facemask_train", *words, "--root", str(given.root)]
    with (given.out / log).open("ab") as target:
        code = subprocess.run(command, stdout=target, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        sys.exit(f"{' '.join(words)}: ended with {code}: " + (given.out / log).read_text()[-2000:])
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
    chosen = ("tests/training/test_data_loader.py", "-k", "kernels or wherever")
    test = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *chosen]
    found = subprocess.run(test, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(found.stdout[-3000:] + found.stderr[-1000:])
    short = ("--weights", "yolov5n.yaml", "--epochs", "2", "--imgsz", "320", "--batch", "64", "--tracker", "none")
    seconds = done(given, "train", "--data", data.name, *short, "--name", "check", log="check.log")
    run = json.loads((given.root / "runs" / "check" / "run.json").read_text())
    figures.note("check", {"tests": found.stdout.strip().splitlines()[-1], "seconds": seconds, "run": run["plan"]})


def bench_loader(given: argparse.Namespace, data: Path, **changes: Any) -> dict[str, Any]:
    """Return what `loader.py feed` measures."""
    import loader

    cores = len(os.sched_getaffinity(0))
    fixed = {"data": data, "workers": cores, "batch": 64, "weights": "yolov5s.yaml", "epochs": 2, "sets": []}
    parser = SimpleNamespace(**{**fixed, "device": given.device, **changes})
    found: dict[str, Any] = loader.feed(parser)
    return found


def steps(given: argparse.Namespace, data: Path, figures: Figures) -> None:
    import loader
    import torch

    loader.open_ultralytics()
    for size in given.sizes:
        for name in given.variants:
            sets = [one for one in STEPS[name] if "=" in one]
            torch.backends.cudnn.benchmark = "benchmark" in STEPS[name]
            try:
                found = bench_loader(given, data, imgsz=size, entries=given.short, feeds=["same"], sets=sets)
            except Exception as error:  # noqa: BLE001 - the other choices are still to be measured
                figures.note(f"step, {size} px: {name}", f"{type(error).__name__}: {error}")
                continue
            one = found["fed with"][loader.SAME]
            kept = ("images a second", "seconds before the first epoch", "most of the GPU's memory, GiB")
            figures.note(f"step, {size} px: {name}", {key: one[key] for key in kept})
    torch.backends.cudnn.benchmark = False


def profile(given: argparse.Namespace, data: Path, figures: Figures) -> None:
    """Write the time of a step by kernel, and by call on the host."""
    import loader
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    loader.open_ultralytics()
    for size in given.sizes:
        with profiled(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            bench_loader(
                given,
                data,
                imgsz=size,
                entries=min(640, given.short),
                epochs=1,
                feeds=["same"],
                sets=list(STEPS[given.variants[0]]),
            )
        tables = [
            seen.key_averages().table(sort_by=by, row_limit=30)
            for by in ("self_cuda_time_total", "self_cpu_time_total")
        ]
        (given.out / f"profile-{size}.txt").write_text("\n".join(tables))
        figures.note(f"profile, {size} px", "written")


def feed(given: argparse.Namespace, data: Path, figures: Figures) -> None:
    import loader

    loader.open_ultralytics()
    for size in given.sizes:
        found = {}
        plan = (("same", given.short, 3), ("device", given.entries, 2), ("stock", given.short, 1))
        for kind, entries, epochs in plan:
            one = bench_loader(given, data, imgsz=size, entries=entries, epochs=epochs, feeds=[kind])["fed with"]
            found |= one
            figures.note(f"feed, {size} px: {kind}", one)
        rates = {name: one["images a second"] for name, one in found.items()}
        ratios = {name: round(rates[loader.DEVICE] / rates[name], 3) for name in (loader.SAME, loader.STOCK)}
        figures.note(f"feed, {size} px: device loader by", ratios)


def table(given: argparse.Namespace, data: Path, figures: Figures) -> None:
    """Train and score every model with every seed, all in parallel."""
    models = {"YOLOv5s from scratch": "yolov5s.yaml", "YOLOv5n face": str(given.weights.resolve())}
    same = ("--data", data.name, "--tracker", "none", "--device", given.device)

    def one(model: str, weights: str, epochs: int, seed: int) -> None:
        name = f"{model.replace(' ', '-').lower()}-{seed}"
        how = ("--weights", weights, "--epochs", str(epochs), "--imgsz", str(given.imgsz), "--seed", str(seed))
        done(
            given, "train", *same, *how, "--set", "val_every=5", "--set", "workers=2", "--name", name, log=f"{name}.log"
        )
        done(given, "evaluate", name, *same, "--no-audit", log=f"{name}.log")
        figures.note(f"table: {name}", score(given.root / "runs" / name, data.name))

    began = time.perf_counter()
    with ThreadPoolExecutor(2 * given.seeds) as pool:
        jobs = [
            pool.submit(one, *model, epochs, seed)
            for model, epochs in zip(models.items(), given.epochs, strict=True)
            for seed in range(given.seeds)
        ]
    figures.note("table: seconds, all side by side", round(time.perf_counter() - began, 1))
    for job in jobs:
        job.result()


def score(run: Path, data: str) -> dict[str, Any]:
    metrics = run / "evaluation" / f"{data}-test" / "metrics.json"
    about = json.loads((run / "run.json").read_text())
    training = {key: about.get(key) for key in ("epochs", "seconds", "images_per_second")}
    return training | (json.loads(metrics.read_text()) if metrics.exists() else {})


if __name__ == "__main__":
    main()
