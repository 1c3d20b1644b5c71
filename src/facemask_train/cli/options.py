"""The options that several commands have, each in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Root = Annotated[Path, typer.Option(help="The folder that holds configs/, data/ and runs/.", show_default="here")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, all else on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Sources = Annotated[list[str], typer.Argument(help="Images, videos, folders, globs.")]
Run = Annotated[str | None, typer.Option(help="A run's name; without it the one finished last.")]
Weights = Annotated[Path | None, typer.Option(help="Any checkpoint, instead of a run's best.")]
AnyModel = Annotated[
    Path | None, typer.Option(help="A checkpoint or an export (.onnx, an OpenVINO folder), instead of a run's best.")
]
Size = Annotated[int | None, typer.Option(min=32, max=8192, help="Image size in pixels; the run's where left out.")]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Out = Annotated[Path | None, typer.Option(help="The folder to write; without it one below the run's.")]
Version = Annotated[str, typer.Argument(help="An ensemble: a number (5), a name (v5), or its path.")]
From = Annotated[Path | None, typer.Option("--from", help="An archive, or a folder of archives as downloaded by hand.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0: one for each core.")]
EngineOption = Annotated[str, typer.Option("--engine", help="Where work is done: local, or ray (a cluster).")]
Maps = Annotated[
    list[str] | None, typer.Option("--class-map", help="What a source's classes or ids mean: karm1a=0:mask,1:no_mask.")
]
Tracker = Annotated[str, typer.Option(help="Where metrics go: wandb, or none.")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, a GPU's number, or several: 0,1 (cpu,cpu: two processes); without it the GPU, if any."),
]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Any other trainer setting: --set KEY=VALUE.")]
Config = Annotated[str, typer.Option(help="Settings: the name of a yaml in configs/, or a path.")]
DEFAULT_ROOT = Path()


def tracker_named(name: str) -> Any:
    """Return the tracker's name.

    Raises:
        UsageError: there is no such tracker.
    """
    from facemask_train.core.errors import UsageError, nearest

    if name not in ("wandb", "none"):
        close = nearest(name, ("wandb", "none"))
        raise UsageError(f"--tracker {name!r}: expected wandb or none{close}", next_step="--tracker none")
    return name


def worker_pool(kind: str, workers: int) -> Any:
    """Return the worker pool for `--engine` and `--workers`.

    Raises:
        UsageError: the engine is unknown.
    """
    from facemask_train.core.errors import UsageError, nearest
    from facemask_train.core.parallel import WorkerPool

    if kind not in ("local", "ray"):
        close = nearest(kind, ("local", "ray"))
        raise UsageError(f"--engine {kind!r}: expected local or ray{close}", next_step="--engine local")
    return WorkerPool(kind, workers)  # type: ignore[arg-type]
