"""The commands that train: train, pipeline. Each prints what one function returned."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from facemask_train.cli.console import Terminal, command
from facemask_train.cli.data import build_json, build_tables, class_maps, fetch_json, fetch_table, plain
from facemask_train.cli.evaluation import evaluate_json, evaluate_lines
from facemask_train.cli.options import (
    DEFAULT_ROOT,
    DEVICE,
    INPUT,
    MODEL,
    OUTPUT,
    Config,
    Device,
    Engine,
    From,
    Maps,
    Root,
    Sets,
    Tracker,
    Workers,
    one_of,
    option,
)  # fmt: skip

if TYPE_CHECKING:
    from facemask_train.training.train import Trained

Epochs = Annotated[
    int | None,
    option(
        group=MODEL,
        metavar="INTEGER",
        min=1,
        help="Largest number of epochs.",
        show_default="300, from configs/train.yaml",
    ),
]


@command
def train(
    term: Terminal,
    ensemble: Annotated[
        str | None,
        typer.Argument(
            metavar="ENSEMBLE",
            help="Ensemble to train on: a number (8), a name (v8) or a path.",
            show_default="the one built last",
        ),
    ] = None,
    data: Annotated[
        str | None, option("--data", group=INPUT, metavar="TEXT", help="Ensemble: the same as ENSEMBLE.")
    ] = None,
    weights: Annotated[
        str | None,
        option(
            group=MODEL,
            metavar="TEXT",
            help="Initial weights: a checkpoint's path or name, or a model yaml to train from scratch.",
            show_default="yolov5s.pt, from configs/train.yaml",
        ),
    ] = None,
    epochs: Epochs = None,
    imgsz: Annotated[
        int | None,
        option(
            group=MODEL,
            metavar="INTEGER",
            min=32,
            help="Image size: the longer side, in pixels.",
            show_default="640, from configs/train.yaml",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        option(
            group=MODEL,
            metavar="INTEGER",
            min=1,
            help="Batch size, over all devices.",
            show_default="64, from configs/train.yaml",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        option(group=MODEL, metavar="INTEGER", min=0, help="Random seed.", show_default="0, from configs/train.yaml"),
    ] = None,
    config: Config = "train",
    sets: Sets = None,
    resume: Annotated[
        bool,
        option(
            "--resume", group=MODEL, help="Continue an interrupted run: the one that --name names, or the last one."
        ),
    ] = False,
    name: Annotated[
        str,
        option("--name", "--run", group=OUTPUT, metavar="TEXT", help="Run name.", show_default="ENSEMBLE-WEIGHTS"),
    ] = "",
    tracker: Tracker = "wandb",
    device: Device = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"] | None,
        option(
            group=DEVICE, help="Numerical precision; auto picks the fastest one of the device.", show_default="auto"
        ),
    ] = None,
    threads: Annotated[
        int | None,
        option(
            group=DEVICE,
            metavar="INTEGER",
            min=0,
            help="CPU threads; 0 takes one for each core.",
            show_default="0, from configs/train.yaml",
        ),
    ] = None,
    loader: Annotated[
        Literal["auto", "device", "stock"] | None,
        option(
            group=DEVICE,
            help="Data loader: device keeps the images in the device's memory, stock is that of ultralytics.",
            show_default="auto",
        ),
    ] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Fine-tune a detector (YOLOv5s) on an ensemble, in runs/NAME/."""
    from facemask_train.training import train as stage

    chosen = one_of(ensemble, data, "--data") or ""
    if resume:
        done = stage.resume(root, name, data=chosen, device=device, progress=term.progress)
    else:
        given = {"weights": weights, "epochs": epochs, "imgsz": imgsz, "batch": batch, "device": device}
        given |= {"seed": seed, "precision": precision, "threads": threads, "loader": loader}
        done = stage.train(
            root,
            _settings(root, config, given, sets),
            data=chosen,
            name=name,
            tracker=tracker,
            command=_command(),
            progress=term.progress,
        )
    term.result(train_json(done), *train_lines(done))


@command
def pipeline(
    term: Terminal,
    sample: Annotated[
        bool,
        option(
            "--sample", group=INPUT, help="Run on the built-in sample: no account, no GPU, no network. The default."
        ),
    ] = False,
    version: Annotated[
        str, option(group=INPUT, metavar="TEXT", help="Run on this recipe's sources instead: 8, v8, or a path.")
    ] = "",
    origin: From = None,
    class_map: Maps = None,
    epochs: Epochs = None,
    sets: Sets = None,
    config: Annotated[
        str,
        option(
            group=MODEL,
            metavar="TEXT",
            help="Training settings: the name of a yaml in configs/, or its path.",
            show_default="train-sample for the sample, else train",
        ),
    ] = "",
    tracker: Tracker = "wandb",
    device: Device = None,
    engine: Engine = "local",
    workers: Workers = 0,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Fetch, build, train and evaluate in one go; steps that are up to date are skipped."""
    from facemask_train import pipeline as stage
    from facemask_train.core.errors import UsageError
    from facemask_train.core.parallel import WorkerPool

    if sample and version:
        raise UsageError("--sample and --version were both given", next_step="leave one out")
    chosen = version or stage.SAMPLE
    settings = config or ("train-sample" if chosen == stage.SAMPLE else "train")
    done = stage.run_pipeline(
        root,
        chosen,
        _settings(root, settings, {"epochs": epochs, "device": device}, sets),
        origin=origin,
        class_maps=class_maps(class_map),
        tracker=tracker,
        pool=WorkerPool(engine, workers),
        command=_command(),
        progress=term.progress,
    )
    data = {
        "fetch": fetch_json(done.fetched),
        "build-dataset": build_json(done.built),
        "train": train_json(done.trained),
        "evaluate": evaluate_json(done.evaluated),
    }
    shown = (*build_tables(done.built), *train_lines(done.trained), *evaluate_lines(done.evaluated))
    term.result(data, fetch_table(done.fetched), *shown)


# ---- options as settings ----


def _settings(root: Path, config: str, given: Mapping[str, object], sets: Sequence[str] | None) -> Any:
    from facemask_train.core.config import read_train_settings, set_option

    return read_train_settings(root, config, {**dict(set_option(text) for text in sets or []), **_not_none(given)})


def _not_none(given: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in given.items() if value is not None}


def _command() -> str:
    import shlex

    return shlex.join(["fmask", *sys.argv[1:]])


# ---- results as JSON (an interface) and as lines ----


def train_json(done: Trained) -> dict[str, object]:
    """Return a training as `--json` prints it."""
    keys = ("run", "path", "weights", "epochs", "seconds", "images_per_second")
    return {key: plain(getattr(done, key)) for key in keys}


def train_lines(done: Trained) -> list[str]:
    """Return a training run as lines."""
    from facemask_train.training.runs import duration

    pace = f", {done.images_per_second:.1f} images/s" if done.images_per_second else ""
    return [f"run {done.run}: {done.epochs} epochs in {duration(done.seconds)}{pace}; best weights: {done.weights}"]
