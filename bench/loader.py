"""The device loader compared with the package's own: speed, training results, and whether a GPU waits for it.

    python bench/loader.py alone DATA [--imgsz 640] [--device cpu]
    python bench/loader.py equal WORK [--seeds 5] [--one KEY=VALUE ...] [--other KEY=VALUE ...]
    python bench/loader.py feed DATA [--entries 27000] [--epochs 2] [--imgsz 640] [--batch 64] [--device 0]

    alone   milliseconds per image of the loader alone, with and without mosaic; DATA is the folder of an ensemble
    equal   trains on the built-in sample in WORK, with several seeds for the settings of each side, and prints the
            difference of mAP 0.5 on its test images with its 95 % interval (Welch's); finished runs are reused
    feed    the training loop over a list of this many images (DATA's training images, repeated): with one resident
            batch that is reused (the limit), with the device loader, and with the package's loader on all cores;
            images per second, full epochs, and the calculated time of 100 epochs, all without validation

Writes bench/results/loader-PART.json, and prints it. `alone` and `feed` need only torch, ultralytics and fmask's
sources (PYTHONPATH=src), so they run on a bare GPU machine. `--set KEY=VALUE` is a setting of the trainer there.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from facemask_train.core.parallel import usable_cores
from facemask_train.model.ultralytics_compat import open_ultralytics, use_all_cores

HERE = Path(__file__).parent
CHOICES = ("precision", "channels_last", "fused", "compile", "threads")
SAME, DEVICE, STOCK = "one batch again and again", "device loader", "stock loader"


def main() -> None:
    given = options()
    open_ultralytics()
    found = {"alone": alone, "equal": equal, "feed": feed}[given.part](given)
    about = {"machine": machine(given), "date": datetime.now(UTC).date().isoformat(), "arguments": arguments_of(given)}
    text = json.dumps(about | found, indent=1)
    target = HERE / "results" / f"loader-{given.part}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text + "\n")
    print(text)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    loaders, trainings, fed = (parts.add_parser(name) for name in ("alone", "equal", "feed"))
    for part in (loaders, fed):
        part.add_argument("data", type=Path, help="an ensemble's folder: data.yaml, images/, labels/")
        part.add_argument("--imgsz", type=int, default=640)
        part.add_argument("--workers", type=int, default=usable_cores(), help="processes of the stock loader, on a GPU")
        part.add_argument("--set", dest="sets", nargs="*", default=[], metavar="KEY=VALUE")
    loaders.add_argument("--images", type=int, default=400, help="how many are timed, of each loader")
    loaders.add_argument("--batch", type=int, default=16)
    fed.add_argument("--entries", type=int, default=27000)
    fed.add_argument("--epochs", type=int, default=2, help="how many are timed, after a first one that is not")
    fed.add_argument("--batch", type=int, default=64)
    fed.add_argument("--weights", default="yolov5s.yaml")
    fed.add_argument("--feeds", nargs="+", choices=("same", "device", "stock"), default=["same", "device", "stock"])
    trainings.add_argument("work", type=Path)
    trainings.add_argument("--seeds", type=int, default=5)
    trainings.add_argument("--config", default="train-sample")
    trainings.add_argument("--one", nargs="*", default=["loader=stock"], metavar="KEY=VALUE")
    trainings.add_argument("--other", nargs="*", default=["loader=device"], metavar="KEY=VALUE")
    trainings.add_argument("--both", nargs="*", default=[], metavar="KEY=VALUE")
    for part in (loaders, trainings, fed):
        part.add_argument("--device", default="cpu" if part is not fed else "0")
    return parser.parse_args()


def arguments_of(given: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(given).items() if not isinstance(value, Path)}


def machine(given: argparse.Namespace) -> str:
    import torch

    name = "no GPU" if given.device == "cpu" else torch.cuda.get_device_name(int(given.device))
    return (
        f"{usable_cores()} cores, {platform.machine()}, {name}, Python {platform.python_version()}, {torch.__version__}"
    )


def settings_of(texts: list[str]) -> dict[str, Any]:
    return {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in texts)}


# alone


def alone(given: argparse.Namespace) -> dict[str, Any]:
    found = {}
    for name, changes in (("mosaic", {}), ("no mosaic", {"mosaic": 0.0})):
        loaders = both_loaders(given, {**settings_of(given.sets), **changes})
        found[name] = {kind: round(seconds(loader, given) * 1000, 2) for kind, loader in loaders.items()}
        found[name]["device / stock"] = round(found[name][DEVICE] / found[name][STOCK], 2)
    return {"ms an image": found}


def both_loaders(given: argparse.Namespace, changes: dict[str, Any]) -> dict[str, Any]:
    import torch
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_dataloader, build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    from facemask_train.training.loading.data_loader import open_loader

    device = torch.device("cpu" if given.device == "cpu" else f"cuda:{given.device}")
    file = str(given.data.resolve() / "data.yaml")
    args = get_cfg(overrides={"imgsz": given.imgsz, "augmentations": [], "data": file, **changes})
    args.workers, data = given.workers, check_det_dataset(file)
    one, other = (build_yolo_dataset(args, data["train"], given.batch, data, stride=32) for _ in range(2))
    use_all_cores()
    workers = 0 if given.device == "cpu" else given.workers  # as in the trainer
    return {
        DEVICE: open_loader(one, args, device, batch_size=given.batch, epochs=1 << 30),
        STOCK: build_dataloader(other, given.batch, workers, True, -1, device=device),
    }


def seconds(loader: Any, given: argparse.Namespace) -> float:
    """Return the seconds per image, after an epoch (or half as many images) that is not timed."""
    stream = endless(loader)
    for wanted in (given.images // 2, given.images):
        began, done = time.perf_counter(), 0
        while done < wanted:
            done += len(next(stream)["img"].to(given_device(given)))
        wait(given)
    return (time.perf_counter() - began) / done


def endless(loader: Any) -> Iterator[dict[str, Any]]:
    while True:
        yield from loader
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(loader.sampler.epoch + 1)


def given_device(given: argparse.Namespace) -> str:
    return "cpu" if given.device == "cpu" else f"cuda:{given.device}"


def wait(given: argparse.Namespace) -> None:
    import torch

    if given.device != "cpu":
        torch.cuda.synchronize(int(given.device))


# equal


def equal(given: argparse.Namespace) -> dict[str, Any]:
    from facemask_train.core.recipe import read_recipe
    from facemask_train.dataset.build import build
    from facemask_train.sources.fetch import fetch

    fetch(given.work, read_recipe(given.work, "sample").sources)
    folder = build(given.work, "sample").path
    sides = {"one": settings_of(given.one), "other": settings_of(given.other)}
    scores: dict[str, list[float]] = {side: [] for side in sides}
    for seed in range(given.seeds):
        for side, changes in sides.items():
            scores[side].append(trained(given, folder, {**changes, "seed": seed}))
    return {"settings": sides, "mAP 0.5": scores, **difference(scores["one"], scores["other"])}


def trained(given: argparse.Namespace, folder: Path, changes: dict[str, Any]) -> float:
    """Train one model, unless that was done before, and return its mAP 0.5 on the test images in percent."""
    from facemask_train.core.config import read_train_settings
    from facemask_train.core.files import digest_data
    from facemask_train.model.validation import validate
    from facemask_train.training.runs import read_run
    from facemask_train.training.train import resume, train

    settings = read_train_settings(
        given.work, given.config, {"device": given.device, **settings_of(given.both), **changes}
    )
    name = f"equal-{digest_data(settings.model_dump(mode='json'))[:8]}"
    run = given.work / "runs" / name
    if not (run / "run.json").exists():
        train(given.work, settings, data=str(folder), name=name, tracker="none")
    elif read_run(run).state != "finished":
        resume(given.work, name)
    best = run / "weights" / "best.pt"
    found = validate(best, folder / "data.yaml", "test", imgsz=settings.imgsz, batch=16, device=given.device)
    return round(100 * found.mean.map50, 2)


def difference(one: list[float], other: list[float]) -> dict[str, Any]:
    """Return the difference of the means (other minus one), with Welch's 95 % interval, in points."""
    import numpy as np
    from scipy.stats import ttest_ind

    found = ttest_ind(other, one, equal_var=False)
    low, high = found.confidence_interval(0.95)
    middle = float(np.mean(other) - np.mean(one))
    within = bool(low > -2 and high < 2)
    return {
        "difference": round(middle, 2),
        "interval": [round(float(low), 2), round(float(high), 2)],
        "within 2": within,
    }


# feed


def feed(given: argparse.Namespace) -> dict[str, Any]:
    names = {"same": SAME, "device": DEVICE, "stock": STOCK}
    with tempfile.TemporaryDirectory() as folder:
        data = repeated(given.data.resolve(), Path(folder), given.entries)
        found = {names[kind]: fed(given, data, Path(folder), kind) for kind in given.feeds}
    rates = {name: one["images a second"] for name, one in found.items()}
    ratios = {
        f"{DEVICE} / {other}": round(rates[DEVICE] / rates[other], 3)
        for other in (SAME, STOCK)
        if {DEVICE, other} <= set(rates)
    }
    return {"fed with": found, **ratios}


def repeated(ensemble: Path, folder: Path, entries: int) -> Path:
    """Write a data.yaml whose training list repeats the ensemble's images to reach this number."""
    about = yaml.safe_load((ensemble / "data.yaml").read_text())
    images = sorted(str(path) for path in (ensemble / about["train"]).iterdir())
    listed = folder / "train.txt"
    listed.write_text("".join(f"{images[number % len(images)]}\n" for number in range(entries)))
    target = folder / "data.yaml"
    target.write_text(
        yaml.safe_dump({"train": str(listed), "val": str(ensemble / about["val"]), "names": about["names"]})
    )
    return target


def fed(given: argparse.Namespace, data: Path, folder: Path, kind: str) -> dict[str, Any]:
    """Run the training loop with one kind of loader, and return its speed."""
    import torch

    given_settings = {
        **{"model": given.weights, "data": str(data), "imgsz": given.imgsz, "batch": given.batch},
        **{"device": given.device, "workers": given.workers, "epochs": given.epochs + 1, "close_mosaic": 0},
        **{"save_dir": str(folder / kind), "augmentations": [], "plots": False, "verbose": False, "val": False},
        **{"optimizer": "SGD", **settings_of(given.sets)},
    }
    gc.collect()
    if given.device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    opened = time.perf_counter()
    trainer = looped(kind, given_settings, lambda: (wait(given), times.append(time.perf_counter())))
    use_all_cores()
    trainer.train()
    most = torch.cuda.max_memory_allocated() / 2**30 if given.device != "cpu" else None
    each = [end - begin for begin, end in zip(times[2::2], times[3::2], strict=True)]  # the first epoch warms up
    epoch = sum(each) / len(each)
    return {
        "images a second": round(given.entries / epoch, 1),
        "seconds an epoch": [round(value, 2) for value in each],
        "minutes for 100 epochs (computed, without validation)": round(100 * epoch / 60, 1),
        "seconds before the first epoch": round(times[0] - opened, 1),
        "images lie": trainer.lie,
        "most of the GPU's memory, GiB": most and round(most, 2),
    }


def looped(kind: str, settings: dict[str, Any], tick: Callable[[], Any]) -> Any:
    """Return a trainer that only trains, and records the time of each epoch's start and end."""
    from facemask_train.core.config import TrainSettings
    from facemask_train.training.plan import LoaderPlan, ProcessPlan, plan_training
    from facemask_train.training.precision import read_machine
    from facemask_train.training.trainer import Trainer

    class Loop(Trainer):
        lie = "in their files"

        def get_dataloader(self, *args: Any, mode: str = "train", **more: Any) -> Any:
            loader = super().get_dataloader(*args, mode=mode, **more)
            if mode == "train" and kind != "stock" and hasattr(loader.store, "values"):
                values = loader.store.values
                self.lie = f"on {values.device}, {values.numel() / 2**30:.2f} GiB"
            return SameBatch(loader) if mode == "train" and kind == "same" else loader

        def validate(self) -> tuple[dict[str, float], float]:
            return {}, 0.0

        def save_metrics(self, metrics: dict[str, Any]) -> None:
            pass

        def save_model(self) -> bool:
            return False

    own = {key: settings.pop(key) for key in CHOICES if key in settings}
    chosen = TrainSettings(device=settings["device"], optimizer=settings["optimizer"], **own)
    process = ProcessPlan(0, "here", settings["device"], settings["batch"])
    machine = read_machine(settings["device"], "here")
    plan = plan_training(chosen, settings["model"], machine=machine, processes=[process], defaults={})
    plan = replace(plan, loader=LoaderPlan("stock" if kind == "stock" else "device", "measured"))
    trainer = Loop(overrides=settings, plan=plan, note=lambda _: None)
    trainer.add_callback("on_train_epoch_start", lambda _: tick())
    trainer.add_callback("on_train_epoch_end", lambda _: tick())
    return trainer


class SameBatch:
    """A loader that keeps its first batch on the device and yields it again and again."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.first = loader, loader.batch(0, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(self.first) for _ in range(len(self)))


if __name__ == "__main__":
    main()
