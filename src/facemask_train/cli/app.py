"""The command line: each command parses, calls one function, and prints what it gave.

Exit codes: 0 done; 1 unexpected; 2 a wrong name, option, key or value; 3 an input that cannot be used; 4 something
that an earlier stage makes is missing; 5 Kaggle credentials or license; 6 network; 7 disk or permission;
8 training stopped; 9 a number that was asked for was not reached; 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemask_train import __version__
from facemask_train.cli import ensembles
from facemask_train.cli import evaluation as evaluation_commands
from facemask_train.cli import runs as runs_commands
from facemask_train.cli import usage as usage_commands
from facemask_train.cli.console import Terminal, command
from facemask_train.cli.options import (
    DEFAULT_ROOT,
    Config,
    Device,
    EngineOption,
    From,
    Maps,
    Root,
    Sets,
    Tracker,
    Version,
    Workers,
    tracker_named,
    worker_pool,
)  # fmt: skip
from facemask_train.cli.tables import table

if TYPE_CHECKING:
    from facemask_train.dataset.build import BuildResult
    from facemask_train.dataset.card import ItemCounts
    from facemask_train.sources.fetch import Fetched
    from facemask_train.train.train import Trained

_CODES = (
    "Exit codes: 0 done, 1 unexpected, 2 a wrong name or value, 3 an input that cannot be used, 4 an earlier stage is"
    " missing, 5 Kaggle credentials or license, 6 network, 7 disk or permission, 8 training stopped, 9 a number that"
    " was asked for was not reached, 130 interrupted."
)
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: drawing it with rich takes longer than all the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=_CODES,
    help="From Kaggle archives to a scored face-mask detector. Start with: fmask pipeline --sample",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fmask {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: fmask fetch andrewmvd aditya276 --from ~/Downloads")
@command
def fetch(
    term: Terminal,
    sources: Annotated[list[str] | None, typer.Argument(help="Names in configs/sources.yaml.")] = None,
    origin: From = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Bring sources into data/raw/, from Kaggle or by hand."""
    from facemask_train.sources import fetch as stage

    found = stage.fetch(root, sources or [], origin=origin, progress=term.progress)
    term.result(_fetch_json(found), _fetch_table(found), *_pins(found))


@app.command("build-dataset", epilog="Example: fmask build-dataset --version 5")
@command
def build_dataset(
    term: Terminal,
    version: Annotated[str, typer.Option(help="A number (5), a name (v5), or the path of a recipe.")] = "5",
    class_map: Maps = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out sources that are not fetched: v8-without-karm1a.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take leaks out of a published split that keeps them: NAME-repaired.")
    ] = False,
    engine: EngineOption = "local",
    workers: Workers = 0,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Merge the fetched sources into data/ensembles/VERSION/.

    They are checked, repaired, de-duplicated, merged, split and augmented.
    """
    from facemask_train.dataset.build import build

    built = build(
        root,
        version,
        class_maps=_class_maps(class_map),
        allow_missing=allow_missing,
        repair=repair,
        pool=worker_pool(engine, workers),
        progress=term.progress,
    )
    term.result(_build_json(built), *_build_tables(built))


@app.command(epilog="Example: fmask inspect v5 --duplicates")
@command
def inspect(
    term: Terminal,
    version: Version,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Show the groups of copies in images too, the least alike first.")
    ] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Tell what an ensemble holds, on a page too.

    The page is in data/inspect/.
    """
    from facemask_train.report.dataset import inspect as stage

    found = stage.inspect(root, version, duplicates=duplicates)
    term.result(ensembles.inspect_json(found), *ensembles.inspect_told(found))


@app.command(epilog="Example: fmask diff v5 v8")
@command
def diff(
    term: Terminal,
    a: Version,
    b: Annotated[str, typer.Argument(help="The ensemble to compare it with.")],
    root: Root = DEFAULT_ROOT,
) -> None:
    """Tell what changed from ensemble A to B, on a page too.

    Images are added, removed, moved, relabelled. The page is in data/inspect/.
    """
    from facemask_train.report.dataset import diff as stage

    found = stage.diff(root, a, b)
    term.result(ensembles.diff_json(found), *ensembles.diff_told(found))


@app.command(epilog="Example: fmask train --data v5 --epochs 100 --batch 16 --set lr0=0.005")
@command
def train(
    term: Terminal,
    data: Annotated[str, typer.Option(help="An ensemble's name or path; without it the latest.")] = "",
    weights: Annotated[str | None, typer.Option(help="A checkpoint, or a model's yaml (from scratch).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    imgsz: Annotated[int | None, typer.Option(min=32, help="Image size in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(min=1)] = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto (what this device is fastest in), fp32, bf16 or fp16.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="Threads on the CPU; 0: one for each core.")] = None,
    name: Annotated[str, typer.Option(help="The run's name; made from the ensemble's and the weights'.")] = "",
    loader: Annotated[
        str | None, typer.Option(help="auto; device: images stay in its memory; stock: the package's own.")
    ] = None,
    sets: Sets = None,
    config: Config = "train",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut: the one of --name, or the last one.")
    ] = False,
    tracker: Tracker = "wandb",
    root: Root = DEFAULT_ROOT,
) -> None:
    """Fine-tune YOLOv5s on an ensemble, in runs/NAME/."""
    from facemask_train.train import train as stage

    if resume:
        done = stage.resume(root, name, data=data, device=device, progress=term.progress)
    else:
        given = {"weights": weights, "epochs": epochs, "imgsz": imgsz, "batch": batch, "device": device}
        given |= {"seed": seed, "precision": precision, "threads": threads, "loader": loader}
        settings = _settings(root, config, given, sets)
        done = stage.train(
            root,
            settings,
            data=data,
            name=name,
            tracker=tracker_named(tracker),
            command=_command(),
            progress=term.progress,
        )
    term.result(_train_json(done), *_train_lines(done))


@app.command(epilog="Example: fmask pipeline --sample   (no account, no GPU, no network)")
@command
def pipeline(
    term: Terminal,
    sample: Annotated[
        bool, typer.Option("--sample", help="Walk the built-in sample: what happens by default.")
    ] = False,
    version: Annotated[str, typer.Option(help="Walk this ensemble's own sources instead: 5, v5, or a path.")] = "",
    origin: From = None,
    class_map: Maps = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    device: Device = None,
    sets: Sets = None,
    config: Annotated[str, typer.Option(help="Training settings; train-sample or train where left out.")] = "",
    tracker: Tracker = "wandb",
    engine: EngineOption = "local",
    workers: Workers = 0,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Fetch, build, train and evaluate in a row.

    What is up to date is skipped.
    """
    from facemask_train import pipeline as stage
    from facemask_train.core.errors import UsageError

    if sample and version:
        raise UsageError("--sample and --version were both given", next_step="leave one out")
    chosen = version or stage.SAMPLE
    name = config or ("train-sample" if chosen == stage.SAMPLE else "train")
    done = stage.walk(
        root,
        chosen,
        _settings(root, name, {"epochs": epochs, "device": device}, sets),
        origin=origin,
        class_maps=_class_maps(class_map),
        tracker=tracker_named(tracker),
        pool=worker_pool(engine, workers),
        command=_command(),
        progress=term.progress,
    )
    data = {
        "fetch": _fetch_json(done.fetched),
        "build-dataset": _build_json(done.built),
        "train": _train_json(done.trained),
        "evaluate": evaluation_commands.evaluate_json(done.evaluated),
    }
    shown = (
        *_build_tables(done.built),
        *_train_lines(done.trained),
        *evaluation_commands.evaluate_lines(done.evaluated),
    )
    term.result(data, _fetch_table(done.fetched), *shown)


app.add_typer(runs_commands.app, name="runs")
app.command(epilog="Example: fmask evaluate --split test --fail-unless 'map50>=0.9'")(evaluation_commands.evaluate)
app.command(epilog="Example: fmask audit --probe ~/images/batmans")(evaluation_commands.audit)
app.command(epilog="Example: fmask compare v5-yolov5s v8-yolov5s --data v8")(evaluation_commands.compare)
app.command(epilog="Example: fmask predict ~/images 'clips/*.mp4' --save images --save csv --anonymize")(
    usage_commands.predict
)
app.command(
    epilog="Example: fmask survey market/ clips/gate.mp4 --by hour --places places.csv --start '2026-11-25 08:00'"
)(usage_commands.survey)
app.command(epilog="Example: fmask demo --run v8-yolov5s --port 7860")(usage_commands.demo)
app.command(epilog="Example: fmask export --run v8-yolov5s --format onnx --format openvino")(usage_commands.export)


# ---- from options to settings ----


def _settings(root: Path, config: str, given: Mapping[str, Any], sets: Sequence[str] | None) -> Any:
    from facemask_train.core.config import read_train_settings, set_option

    return read_train_settings(root, config, {**dict(set_option(text) for text in sets or []), **_not_none(given)})


def _not_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _class_maps(texts: Sequence[str] | None) -> dict[str, Any]:
    from facemask_train.core.config import class_map

    return dict(class_map(text) for text in texts or [])


def _command() -> str:
    import shlex

    return shlex.join(["fmask", *sys.argv[1:]])


# ---- from results to JSON (an interface) and to tables ----


def _fetch_json(found: Sequence[Fetched]) -> dict[str, Any]:
    keys = ("name", "path", "digest", "state")
    return {"sources": [{key: _plain(getattr(one, key)) for key in keys} for one in found]}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _fetch_table(found: Sequence[Fetched]) -> Any:
    rows = [(one.name, one.state, one.digest.removeprefix("sha256:")[:12] or "-", str(one.path)) for one in found]
    return table("Sources", ("source", "state", "digest", "folder"), rows)


def _pins(found: Sequence[Fetched]) -> list[str]:
    """Return the lines that pin what was fetched, as they stand in configs/sources.yaml."""
    pins = [line for one in found if one.pin for line in (f"  {one.name}:", f"    {one.pin}")]
    return ["To pin this content, add to configs/sources.yaml:", *pins] if pins else []


def _build_json(built: BuildResult) -> dict[str, Any]:
    about = {"path": str(built.path), "up_to_date": built.up_to_date, "reused": built.reused}
    return built.card.to_json() | about


def _build_tables(built: BuildResult) -> list[Any]:
    card = built.card
    rows = []
    for name, source in card.sources.items():
        rows.append((f"{name}, images", *_counts(source.images)))
        rows += [(f"{name}, {label}", *_counts(boxes)) for label, boxes in source.boxes.items()]
    rows += [("all images", *_counts(card.images)), ("all boxes", *_counts(card.boxes))]
    state = "up to date" if built.up_to_date else "built"
    splits = ", ".join(f"{split} {count:,}" for split, count in card.splits.items())
    causes = [(f"{one.item} {one.action}: {one.cause}", f"{one.count:,}") for one in card.issues]
    return [
        table(
            f"Ensemble {card.name}: what was published",
            ("", "total", "kept", "merged", "repaired", "refused"),
            rows,
        ),
        *([table("Repaired and refused, by cause", ("cause", "count"), causes)] if causes else []),
        *ensembles.duplicates_lines(card),
        f"{card.name} {state}: {card.outputs:,} images ({splits}), hash {card.hash[:12]}, in {built.path}",
    ]


def _counts(counts: ItemCounts) -> list[str]:
    return [f"{count:,}" for count in dataclasses.astuple(counts)]


def _train_json(done: Trained) -> dict[str, Any]:
    keys = ("run", "path", "weights", "epochs", "seconds", "images_per_second")
    return {key: _plain(getattr(done, key)) for key in keys}


def _train_lines(done: Trained) -> list[str]:
    from facemask_train.train.runs import duration

    pace = f", {done.images_per_second:.1f} images/s" if done.images_per_second else ""
    return [f"run {done.run}: {done.epochs} epochs in {duration(done.seconds)}{pace}; best weights: {done.weights}"]


def main() -> None:
    """Run `fmask`."""
    app()
