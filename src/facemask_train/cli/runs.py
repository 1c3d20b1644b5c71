"""The commands `fmask runs`, `runs show` and `runs remove`: what was trained here, in tables and charts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemask_train.cli.console import Terminal, command, terminal
from facemask_train.cli.options import DEFAULT_ROOT, GENERAL, HelpCommand, Json, Quiet, Root, RunsGroup, Verbose, option
from facemask_train.cli.tables import Fitted

if TYPE_CHECKING:
    from facemask_train.training.history.summary import RunScore, RunSummary
    from facemask_train.training.plan import TrainPlan
    from facemask_train.training.runs import TrainedOn

_NAMES = {"mAP50": "mAP 0.5", "mAP50-95": "0.5:0.95", "precision": "precision", "recall": "recall"}
_LINEAGE = ("command", "device", "started", "finished")

app = typer.Typer(cls=RunsGroup, invoke_without_command=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(epilog="fmask runs")
def runs(
    context: typer.Context,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Verbose = False,
) -> None:
    """List the runs, or show one: state, data, metrics and curves, the newest first."""
    if context.invoked_subcommand is not None:  # `fmask runs --json show NAME` is meant as `show NAME --json`
        context.default_map = dict.fromkeys(("show", "remove"), context.params)
        return
    with terminal(as_json=as_json, quiet=quiet, debug=debug) as term:
        from facemask_train.training.history import summary as run_summary

        found = run_summary.list_runs(root)
        term.result({"runs": [run_summary.to_json(run) for run in found]}, *listed(found, root))


@app.command(cls=HelpCommand, epilog="fmask runs show v8-yolov5s")
@command
def show(
    term: Terminal,
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run name.", show_default="the newest")] = "",
    root: Root = DEFAULT_ROOT,
) -> None:
    """Show one run: settings, data, metrics by class, evaluations, and its curves."""
    from facemask_train.training.history import summary as run_summary

    run = run_summary.find_run(root, name)
    term.result(run_summary.full_json(run) | {"curves": _image(run)}, *shown(run))


@app.command(cls=HelpCommand, epilog="fmask runs remove v8-yolov5s dev-2")
@command
def remove(
    term: Terminal,
    names: Annotated[list[str], typer.Argument(metavar="RUN", help="Run names.", show_default=False)],
    yes: Annotated[bool, option("--yes", "-y", group=GENERAL, help="Do not ask.")] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Remove runs with all that is in their folders, after asking; a run that is in use is refused."""
    from facemask_train.core.errors import UsageError
    from facemask_train.training.history import removal
    from facemask_train.training.history import summary as run_summary

    for name in names:
        if name in ("", "..") or Path(name).name != name:
            raise UsageError(f"{name!r}: expected the name of a run", next_step="take a name from: fmask runs")
    found = [run_summary.find_run(root, name) for name in dict.fromkeys(names)]
    told = [f"{one.path}: {one.state}, {one.megabytes:,.1f} MB" for one in map(removal.describe, found)]
    agreed = yes or term.confirm(told, "Remove this run?" if len(found) == 1 else f"Remove these {len(found)} runs?")
    removed = [removal.remove(run) for run in found] if agreed else []
    megabytes = round(sum(one.megabytes for one in removed), 1)
    term.result(
        {"removed": [dataclasses.asdict(one) for one in removed], "megabytes": megabytes},
        *(f"removed {one.path}" for one in removed),
        f"{megabytes:,.1f} MB freed" if removed else "nothing was removed",
    )


def _image(run: RunSummary) -> str | None:
    """Return the path of the run's curves; they are drawn if they are missing or older than the table of epochs."""
    from facemask_train.training.history import curves, results

    image, source = run.path / curves.FILE, run.path / results.RESULTS
    if not run.rows or run.state == "running":  # a running one draws them itself
        return str(image) if image.exists() else None
    if image.exists() and image.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return str(image)
    drawn = curves.draw(run.path)
    return str(drawn[0]) if drawn else None


# ---- the list ----


def listed(found: Sequence[RunSummary], root: Path) -> list[Any]:
    """Return the list of runs as tables and lines."""
    if not found:
        return [f"{root / 'runs'}: there are no runs; start one with fmask train (or: fmask pipeline --sample)"]
    columns: list[tuple[str, list[str], int]] = [
        ("run", [run.name for run in found], 0),
        ("state", [run.state for run in found], 0),
        ("data", [_data(run) for run in found], 1),
        ("weights", [run.weights or "-" for run in found], 5),
        ("epochs", [f"{run.epochs}/{run.planned_epochs}" if run.planned_epochs else "-" for run in found], 1),
        *(
            (label, [_percent(run.best[key]) for run in found], 3 if key in ("precision", "recall") else 2)
            for key, label in _NAMES.items()
        ),
        ("test mAP 0.5", [_tested(run) for run in found], 4),
        ("device", [(run.record.device if run.record else "") or "-" for run in found], 7),
        ("took", [_took(run) for run in found], 6),
        ("date", [run.when[:10] or "-" for run in found], 5),
    ]
    problems = [f"problem: {problem}" for run in found for problem in run.problems]
    return [Fitted("Runs, the newest first; best epoch on val, in percent", columns), *problems]


def _data(run: RunSummary) -> str:
    ensemble = run.record.ensemble if run.record else None
    return "-" if ensemble is None else f"{ensemble.name} {ensemble.hash[:8]}".strip()


def _percent(value: Any) -> str:
    return f"{100 * value:.1f}" if isinstance(value, (int, float)) and math.isfinite(value) else "-"


def _with_interval(score: RunScore, metric: str) -> str:
    bounds = score.intervals.get(metric)
    return _percent(score.metrics[metric]) + (f" ({_percent(bounds[0])} to {_percent(bounds[1])})" if bounds else "")


def _tested(run: RunSummary) -> str:
    """Return mAP 0.5 on the test split of the run's own ensemble, or of whichever it was evaluated on."""
    own = run.record.ensemble.name if run.record and run.record.ensemble else None
    tests = [one for one in run.scores if one.split == "test"]
    first = next((one for one in tests if one.ensemble == own), tests[0] if tests else None)
    return "-" if first is None else _with_interval(first, "map50")


def _took(run: RunSummary) -> str:
    from facemask_train.training.runs import duration

    return "-" if run.seconds is None else duration(run.seconds)


# ---- one run ----


def shown(run: RunSummary) -> list[Any]:
    """Return a run as tables and lines, from its settings to its curves."""
    image = _image(run)
    return [
        f"{run.name}: {run.state}"
        + (f", {run.epochs} of {run.planned_epochs} epochs, {_took(run)}" if run.planned_epochs else ""),
        *(f"problem: {problem}" for problem in run.problems),
        *_facts(run),
        *_by_class(run),
        *_scores(run),
        *_curves(run),
        *([f"curves: {image}"] if image else []),
    ]


def _facts(run: RunSummary) -> list[str]:
    """Return what the run was trained on and how, as lines with a key and a value."""
    if run.record is None:
        return []
    record = run.record.to_json()
    facts = {"data": _data_fact(run.record.ensemble)}
    facts |= {key: str(record[key]) for key in _LINEAGE if record[key]}
    facts |= {key: _pairs(record[key] or {}) for key in ("weights", "tracker", "code", "packages")}
    facts |= {"not by default": _pairs(_changed(record["settings"] or {}))}
    facts |= _plan_facts(run.record.plan)
    facts |= {f"event {n}": _said(one) for n, one in enumerate(record["events"], 1)}
    width = max(map(len, facts))
    return [f"  {key:<{width}}  {value}" for key, value in facts.items() if value]


def _data_fact(ensemble: TrainedOn | None) -> str:
    if ensemble is None:
        return ""
    counts = ", ".join(f"{split} {count}" for split, count in ensemble.images.items())
    return f"{ensemble.name} ({counts}), hash {ensemble.hash[:12]}"


def _plan_facts(plan: TrainPlan | None) -> dict[str, str]:
    """Return the automatic choices with their reasons."""
    if plan is None:
        return {}
    step, loader, processes = plan.step, plan.loader, plan.processes
    chosen = {key: f"{getattr(step, key)} ({reason})" for key, reason in step.reasons.items()}
    chosen |= {"loader": f"{loader.kind} ({loader.reason})", "batch": str(plan.batch)}
    if len(processes) > 1:
        chosen["processes"] = ", ".join(f"{one.host} {one.device}" for one in processes)
    return {"initial weights": plan.weights} | {f"chosen, {key}": value for key, value in chosen.items()}


def _changed(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that are not the defaults, the trainer's own among them."""
    from facemask_train.core.config import TrainSettings

    defaults = TrainSettings().model_dump(mode="json")
    changed = {key: value for key, value in settings.items() if key != "extra" and defaults.get(key) != value}
    extra = settings.get("extra")
    return changed | (extra if isinstance(extra, dict) else {})


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {_said(value)}" for key, value in values.items() if value not in (None, ""))


def _said(value: Any) -> str:
    return _pairs(value) if isinstance(value, Mapping) else str(value)


def _by_class(run: RunSummary) -> list[Any]:
    from facemask_train.training.history.results import best_row, class_names, metric

    best = best_row(run.rows)
    if best is None:
        return []
    classes = class_names(run.rows)
    columns: list[tuple[str, list[str], int]] = [("class", ["all", *classes], 0)]
    for rank, (key, label) in enumerate(_NAMES.items()):
        cells = [_percent(run.best[key]), *(_percent(metric(best, key, name)) for name in classes)]
        columns.append((label, cells, rank))
    return [Fitted(f"Epoch {best['epoch']:.0f}, the best, on val, in percent", columns)]


def _scores(run: RunSummary) -> list[Any]:
    found = run.scores
    if not found:
        return [f"not evaluated: fmask evaluate {run.name}"] if run.state == "finished" else []
    names = {"map50": "mAP 0.5", "map50_95": "0.5:0.95", "precision": "precision", "recall": "recall"}
    columns: list[tuple[str, list[str], int]] = [
        ("on", [f"{one.ensemble}, {one.split}" for one in found], 0),
        ("images", ["-" if one.images is None else str(one.images) for one in found], 1),
        *(
            (label, [_with_interval(one, key) for one in found], rank)
            for rank, (key, label) in enumerate(names.items())
        ),
    ]
    return [Fitted("Evaluated, in percent, with intervals at 95 %", columns)]


def _curves(run: RunSummary) -> list[Any]:
    from facemask_train.cli.tables import Charts
    from facemask_train.training.history.results import LOSSES, metric

    if not run.rows:
        return []
    names = {"mAP50": "mAP 0.5, %", "mAP50-95": "mAP 0.5:0.95, %", "precision": "precision, %", "recall": "recall, %"}
    charts = [(label, [100 * metric(row, key) for row in run.rows]) for key, label in names.items()]
    for part in ("train", "val"):
        losses = [sum(row.get(f"{part}/{loss}_loss", math.nan) for loss in LOSSES) for row in run.rows]
        charts.append((f"{part} loss (box + cls + dfl)", losses))
    return [f"by epoch, 1 to {run.rows[-1]['epoch']:.0f}:", Charts(charts)]
