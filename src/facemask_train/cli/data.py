"""The commands about data and the project: fetch, build-dataset, inspect, diff, list, info, init.

Each prints what one function returned.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemask_train.cli import ensembles
from facemask_train.cli.console import Terminal, command
from facemask_train.cli.options import (
    DEFAULT_ROOT,
    GENERAL,
    INPUT,
    MODEL,
    OUTPUT,
    Engine,
    EnsembleName,
    From,
    Maps,
    Root,
    Workers,
    one_of,
    option,
)  # fmt: skip
from facemask_train.cli.tables import table

if TYPE_CHECKING:
    from facemask_train.core.types import Progress
    from facemask_train.dataset.build import BuildResult
    from facemask_train.dataset.card import ItemCounts
    from facemask_train.eval.class_check import ClassCheck
    from facemask_train.sources.fetch import Fetched

NEWEST_RECIPE = "8"


@command
def fetch(
    term: Terminal,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="Source names, as in configs/sources.yaml.", show_default="all of them"),
    ] = None,
    origin: From = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Download sources from Kaggle into data/raw/, or take archives that are already here."""
    from facemask_train.sources import fetch as stage

    found = stage.fetch(root, sources or [], origin=origin, progress=term.progress)
    term.result(fetch_json(found), fetch_table(found), *_pins(found))


@command
def build_dataset(
    term: Terminal,
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="Recipe: a number (8), a name in configs/ensembles/ (v8), or the path of a yaml.",
            show_default=NEWEST_RECIPE,
        ),
    ] = None,
    version: Annotated[
        str | None, option("--version", group=INPUT, metavar="TEXT", help="Recipe: the same as RECIPE.")
    ] = None,
    class_map: Maps = None,
    allow_missing: Annotated[
        bool,
        option(
            "--allow-missing",
            group=INPUT,
            help="Build without sources that are not fetched; the name shows it, as in v8-without-karm1a.",
        ),
    ] = False,
    repair: Annotated[
        bool,
        option(
            "--repair",
            group=OUTPUT,
            help="For a recipe that keeps the published split: remove leaks between its parts, as NAME-repaired.",
        ),
    ] = False,
    check_with: Annotated[
        str | None,
        option(
            "--check-with",
            group=MODEL,
            metavar="RUN",
            help="Run, or path of a checkpoint, whose predictions are compared with the labels, to find sources whose"
            " classes look exchanged. Nothing is changed.",
            show_default="no check",
        ),
    ] = None,
    engine: Engine = "local",
    workers: Workers = 0,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Merge the fetched sources into an ensemble, data/ensembles/NAME/.

    Images are checked, repaired, de-duplicated, merged, split and augmented.
    """
    from facemask_train.core.parallel import WorkerPool
    from facemask_train.dataset.build import build

    built = build(
        root,
        one_of(recipe, version, "--version") or NEWEST_RECIPE,
        class_maps=class_maps(class_map),
        allow_missing=allow_missing,
        repair=repair,
        pool=WorkerPool(engine, workers),
        progress=term.progress,
    )
    checks = _check_classes(root, built, check_with, term.progress) if check_with else ()
    checked = {"class_checks": [dataclasses.asdict(one) | {"exchanged": one.exchanged} for one in checks]}
    term.result(build_json(built) | (checked if check_with else {}), *build_tables(built), *_check_lines(checks))


@command
def inspect(
    term: Terminal,
    ensemble: EnsembleName,
    duplicates: Annotated[
        bool,
        option("--duplicates", group=OUTPUT, help="Show the groups of near-duplicates too, the least similar first."),
    ] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Show what an ensemble contains, with an HTML page in data/inspect/."""
    from facemask_train.report.dataset import inspect as stage

    found = stage.inspect(root, ensemble, duplicates=duplicates)
    term.result(ensembles.inspect_json(found), *ensembles.inspect_lines(found))


@command
def diff(
    term: Terminal,
    a: Annotated[str, typer.Argument(metavar="ENSEMBLE_A", help="Ensemble: a number (5), a name (v5) or a path.")],
    b: Annotated[str, typer.Argument(metavar="ENSEMBLE_B", help="The ensemble to compare it with.")],
    root: Root = DEFAULT_ROOT,
) -> None:
    """Show what changed between two ensembles, with an HTML page in data/inspect/.

    Images can be added, removed, moved to another split, or relabeled.
    """
    from facemask_train.report.dataset import diff as stage

    found = stage.diff(root, a, b)
    term.result(ensembles.diff_json(found), *ensembles.diff_lines(found))


@command
def list_all(term: Terminal, root: Root = DEFAULT_ROOT) -> None:
    """List the sources, ensembles and runs of this project, each with its state."""
    from facemask_train.cli.runs import listed
    from facemask_train.dataset.versions import list_ensembles
    from facemask_train.sources.fetch import list_sources
    from facemask_train.training.history import summary

    sources, ensembles_here, runs = list_sources(root), list_ensembles(root), summary.list_runs(root)
    data = {
        "sources": [{"name": name, "state": state} for name, state in sources],
        "ensembles": [{"name": name, "state": state} for name, state in ensembles_here],
        "runs": [{"name": one.name, "state": one.state} for one in runs],
    }
    term.result(
        data,
        table("Sources", ("source", "state"), sources),
        table("Ensembles", ("ensemble", "state"), ensembles_here or [("-", "fmask build-dataset makes one")]),
        *listed(runs, root),
    )


@command
def info(term: Terminal, root: Root = DEFAULT_ROOT) -> None:
    """Show versions, the machine, and what takes space, for bug reports; credentials are never shown."""
    from facemask_train.apps.info import read_info

    found = read_info(root)
    facts = [
        ("fmask", found.fmask),
        ("Python", found.python),
        ("system", found.system),
        ("cores, memory", f"{found.cores}, {found.memory:g} GB"),
        ("GPU", ", ".join(found.gpus) or "none that torch can use"),
        ("free disk", f"{found.free_disk:g} GB"),
        ("Kaggle credentials", found.kaggle or "none"),
        ("W&B credentials", found.wandb or "none"),
    ]
    folders = [(one.folder, f"{one.entries:,}", f"{one.megabytes:,.1f}") for one in found.folders]
    term.result(
        dataclasses.asdict(found),
        table("fmask and this machine", ("fact", "value"), facts),
        table("Packages", ("package", "version"), [(name, found.packages[name] or "-") for name in found.packages]),
        table("Folders", ("folder", "entries", "MB"), folders),
    )


@command
def init(
    term: Terminal,
    folder: Annotated[
        str | None,
        typer.Argument(metavar="DIR", help="Folder to make, or to complete.", show_default="the current folder"),
    ] = None,
    root: Annotated[str | None, option("--root", group=GENERAL, metavar="PATH", help="The same as DIR.")] = None,
) -> None:
    """Make a project folder with the settings to edit; a file that is there already is never changed."""
    from facemask_train.apps import init as stage

    made = stage.init(Path(one_of(folder, root, "--root") or DEFAULT_ROOT))
    command_line = ["fmask", "pipeline", "--sample", *(("--root", made.folder) if made.folder != "." else ())]
    term.result(
        dataclasses.asdict(made),
        *made.written,
        f"{made.folder}: {len(made.written)} files written, {len(made.kept)} kept as they were",
        "fmask reads these files instead of its own; delete one to get fmask's own again",
        f"next: {shlex.join(command_line)}",
    )


def _check_classes(root: Path, built: BuildResult, given: str, progress: Progress) -> Sequence[ClassCheck]:
    """Compare the labels of an ensemble with the predictions of a run, or of the checkpoint at a path."""
    from facemask_train.apps.resolve_model import resolve_model
    from facemask_train.dataset.contents import read_contents
    from facemask_train.eval.class_check import check_classes
    from facemask_train.model.detector import load_detector

    weights = Path(given) if Path(given).exists() else None
    model = resolve_model(root, None if weights else given, weights)
    detector = load_detector(model.weights, imgsz=model.imgsz(None))
    return check_classes(read_contents(root, str(built.path)), detector, progress=progress)


def _check_lines(checks: Sequence[ClassCheck]) -> list[str]:
    """Return what a person should read of the checks; those of exchanged classes with what to do."""
    after = "; look at its contact sheet in data/class-maps/, and correct `classes:` in configs/sources.yaml"
    return [one.describe() + (after if one.exchanged else "") for one in checks]


# ---- from options to settings ----


def class_maps(texts: Sequence[str] | None) -> dict[str, Any]:
    """Return the class maps of `--class-map`, by source."""
    from facemask_train.core.config import class_map

    return dict(class_map(text) for text in texts or [])


# ---- results as JSON (an interface) and as tables ----


def fetch_json(found: Sequence[Fetched]) -> dict[str, object]:
    """Return fetched sources as `--json` prints them."""
    keys = ("name", "path", "digest", "state")
    return {"sources": [{key: plain(getattr(one, key)) for key in keys} for one in found]}


def plain(value: Any) -> Any:
    """Return a value for JSON: a path as text."""
    return str(value) if isinstance(value, Path) else value


def fetch_table(found: Sequence[Fetched]) -> Any:
    """Return fetched sources as a table."""
    rows = [(one.name, one.state, one.digest.removeprefix("sha256:")[:12] or "-", str(one.path)) for one in found]
    return table("Sources", ("source", "state", "digest", "folder"), rows)


def _pins(found: Sequence[Fetched]) -> list[str]:
    """Return the lines for configs/sources.yaml that pin what was fetched."""
    pins = [line for one in found if one.pin for line in (f"  {one.name}:", f"    {one.pin}")]
    return ["To pin this content, add to configs/sources.yaml:", *pins] if pins else []


def build_json(built: BuildResult) -> dict[str, object]:
    """Return a built ensemble as `--json` prints it."""
    about = {"path": str(built.path), "up_to_date": built.up_to_date, "reused": built.reused}
    return built.card.to_json() | about


def build_tables(built: BuildResult) -> list[Any]:
    """Return a built ensemble as tables and lines."""
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
