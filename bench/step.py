"""How fast a training step is on the CPU, compared with the package's own trainer, and where the time goes.

    python bench/step.py [--model yolov5s.yaml] [--sizes 640 416] [--batch 8] [--steps 8] [--rounds 3]
    python bench/step.py --model yolov5n.yaml --sizes 96 --batch 4 --steps 4 --rounds 1 --out /dev/null     # quick try

Draws images of 1000 x 750 pixels. Each measurement is a separate process; the three kinds alternate:

    auto       fmask's trainer with default settings: bfloat16 if the processor supports it
    fp32       the same with --precision fp32
    package    the package's DetectionTrainer with default settings (its threads, precision and loop)

All use the package's own loader. Images per second of training, with the loader and without validation, over the steps
after the first two. The share of the machine that other programs used meanwhile is recorded too: threads wait for each
other, so losing half a core halves the speed of two. Writes bench/results/step.json, and prints the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
KINDS = ("auto", "fp32", "package")
WARM = 2
PARTS = ("loader", "forward", "loss", "backward", "optimizer", "average", "rest")


class Enough(Exception):  # noqa: N818 - ends a measurement from inside a callback
    pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov5s.yaml")
    parser.add_argument("--sizes", type=int, nargs="+", default=[640, 416])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "step.json")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "SIZE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, size, folder = arguments.one
        print(json.dumps(measure(kind, int(size), Path(folder), arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), arguments.batch * (arguments.steps + WARM))
        found = {str(size): rounds(size, Path(folder), arguments) for size in arguments.sizes}
    about = {
        "model": arguments.model,
        "batch": arguments.batch,
        "steps": arguments.steps,
        "cores": len(os.sched_getaffinity(0)),
    }
    arguments.out.write_text(json.dumps(about | {"sizes": found}, indent=1) + "\n")
    print(tables(found))


def rounds(size: int, folder: Path, arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return the measurements of each kind by round; the kinds alternate."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    given = ["--model", arguments.model, "--batch", str(arguments.batch), "--steps", str(arguments.steps)]
    for _ in range(arguments.rounds):
        for kind in KINDS:
            command = [sys.executable, __file__, *given, "--one", kind, str(size), str(folder)]
            began, busy, own = time.monotonic(), busy_seconds(), own_seconds()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            others = (busy_seconds() - busy - (own_seconds() - own)) / (time.monotonic() - began)
            found[kind].append(json.loads(done.stdout.splitlines()[-1]) | {"others": round(max(0.0, others), 2)})
    return dict(found)


def busy_seconds() -> float:
    """Return the busy time of all cores together (Linux; 0 elsewhere)."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _wait, *rest = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system


def draw(folder: Path, count: int) -> None:
    """Write images that take as long to read as photographs, each with three boxes, for training; two to validate."""
    import numpy as np
    from PIL import Image

    rng, noise = random.Random(0), np.random.default_rng(0)
    for split, images in (("train", count), ("val", 2)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for number in range(images):
            coarse = Image.fromarray(noise.integers(0, 256, (75, 100, 3), dtype=np.uint8))
            coarse.resize((1000, 750)).save(folder / f"images/{split}/{number:04d}.jpg", quality=90)
            rows = [f"{rng.randrange(2)} {rng.uniform(0.2, 0.8)} {rng.uniform(0.2, 0.8)} 0.2 0.3\n" for _ in range(3)]
            (folder / f"labels/{split}/{number:04d}.txt").write_text("".join(rows))
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: mask, 1: no_mask}\n")


def measure(kind: str, size: int, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Train for some steps, and return images per second and the milliseconds an image of each part."""
    from facemask_train.model.ultralytics_compat import open_ultralytics

    open_ultralytics()
    from ultralytics.utils.callbacks import get_default_callbacks

    clock, callbacks = Clock(arguments.steps, arguments.batch), get_default_callbacks()
    callbacks["on_train_batch_start"].append(lambda _: clock.fetched())
    callbacks["on_train_batch_end"].append(lambda _: clock.done())
    with tempfile.TemporaryDirectory() as run:
        trainer = made(kind, size, folder, arguments, Path(run) / "run", callbacks)
        clock.watch(trainer)
        try:
            trainer.train()
        except Enough:
            return clock.report()
    raise AssertionError("training ended before it was measured")


def made(kind: str, size: int, folder: Path, arguments: argparse.Namespace, run: Path, callbacks: Any) -> Any:
    """Return the trainer of a kind, with the same settings for all kinds if possible."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    from facemask_train.core.config import TrainSettings
    from facemask_train.training.plan import ProcessPlan, plan_training
    from facemask_train.training.precision import read_machine
    from facemask_train.training.trainer import Trainer

    overrides = {"model": arguments.model, "data": str(folder / "data.yaml"), "imgsz": size, "batch": arguments.batch}
    overrides |= {"epochs": 1, "device": "cpu", "optimizer": "SGD", "plots": False, "augmentations": []}
    overrides |= {"save_dir": str(run)}
    if kind == "package":
        return DetectionTrainer(overrides=overrides, _callbacks=callbacks)
    settings = TrainSettings(precision="fp32" if kind == "fp32" else "auto", device="cpu")
    process, machine = ProcessPlan(0, "here", "cpu", arguments.batch), read_machine("cpu", "cpu")
    plan = plan_training(settings, arguments.model, machine=machine, processes=[process], defaults={})
    print(plan.step.describe(), file=sys.stderr)
    return Trainer(overrides=overrides, _callbacks=callbacks, plan=plan, note=lambda _event: None)


class Clock:
    """Counts the seconds of each part of the steps after the first few."""

    def __init__(self, steps: int, batch: int) -> None:
        self.steps, self.batch, self.count = steps, batch, 0
        self.spent: dict[str, float] = defaultdict(float)
        self.began = self.last = time.perf_counter()

    def watch(self, trainer: Any) -> None:
        """Time the functions that both trainers call."""
        import torch
        from ultralytics.nn.tasks import DetectionModel
        from ultralytics.utils.loss import v8DetectionLoss
        from ultralytics.utils.torch_utils import ModelEMA

        for owner, name, part in (
            (DetectionModel, "predict", "forward"),
            (v8DetectionLoss, "__call__", "loss"),
            (torch.Tensor, "backward", "backward"),
            (type(trainer), "optimizer_step", "optimizer"),
            (ModelEMA, "update", "average"),
        ):
            setattr(owner, name, self._timed(getattr(owner, name), part))

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[part] += time.perf_counter() - began

        return timed

    def fetched(self) -> None:
        self.spent["loader"] += time.perf_counter() - self.last

    def done(self) -> None:
        self.last = time.perf_counter()
        self.count += 1
        if self.count == WARM:
            self.spent.clear()
            self.began = self.last
        if self.count == WARM + self.steps:
            raise Enough

    def report(self) -> dict[str, float]:
        images, seconds = self.steps * self.batch, self.last - self.began
        spent = {**dict.fromkeys(PARTS, 0.0), **self.spent}
        spent["optimizer"] -= spent["average"]  # included in it
        spent["rest"] = seconds - sum(spent[part] for part in PARTS if part != "rest")
        parts = {part: round(spent[part] / images * 1000, 2) for part in PARTS}
        return {"per_second": round(images / seconds, 3), **parts}


def tables(found: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Return the speeds, the ratios with their spread over the rounds, and the parts, as Markdown."""
    titles = ("px", "trainer", "images a second", "times the package's", "round by round", "cores others used")
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    parts = [f"| px | trainer, ms an image | {' | '.join(PARTS)} |", "| --- " * (2 + len(PARTS)) + "|"]
    for size, kinds in found.items():
        for kind in KINDS:
            speeds = [one["per_second"] for one in kinds[kind]]
            ratios = [mine / one["per_second"] for mine, one in zip(speeds, kinds["package"], strict=True)]
            by_round = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            others = max(one["others"] for one in kinds[kind])
            lines.append(
                f"| {size} | {kind} | {median(speeds):.2f} | {median(ratios):.2f} | {by_round} | {others:.2f} |"
            )
            middle = [f"{median(one[part] for one in kinds[kind]):.1f}" for part in PARTS]
            parts.append(f"| {size} | {kind} | {' | '.join(middle)} |")
    return "\n".join([*lines, "", *parts])


if __name__ == "__main__":
    main()
