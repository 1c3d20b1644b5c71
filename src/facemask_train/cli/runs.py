"""The commands `fmask runs` and `fmask runs show`: what was trained here, in tables and charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facemask_train.cli.console import Terminal, command, terminal
from facemask_train.cli.options import DEFAULT_ROOT, HelpCommand, Json, Quiet, Root, RunsGroup, Verbose
from facemask_train.cli.tables import Fitted

if TYPE_CHECKING:
    from facemask_train.train.history.summary import Past

_NAMES = {"mAP50": "mAP 0.5", "mAP50-95": "0.5:0.95", "precision": "precision", "recall": "recall"}
_LINEAGE = ("command", "start", "seed", "device", "started", "finished")

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
        context.default_map = {"show": context.params}
        return
    with terminal(as_json=as_json, quiet=quiet, debug=debug) as term:
        from facemask_train.train.history import summary as run_summary

        found = run_summary.all_past(root)
        term.result({"runs": [run_summary.to_json(past) for past in found]}, *listed(found, root))


@app.command(cls=HelpCommand, epilog="fmask runs show v8-yolov5s")
@command
def show(
    term: Terminal,
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run name.", show_default="the newest")] = "",
    root: Root = DEFAULT_ROOT,
) -> None:
    """Show one run: settings, data, metrics by class, evaluations, and its curves."""
    from facemask_train.train.history import summary as run_summary

    past = run_summary.find_past(root, name)
    term.result(run_summary.whole_json(past) | {"curves": _image(past)}, *shown(past))


def _image(past: Past) -> str | None:
    """Return the path of the run's curves; they are drawn where they are missing or older than the table of epochs."""
    from facemask_train.train.history import curves, results

    image, source = past.path / curves.FILE, past.path / results.FILE
    if not past.rows or past.state == "running":  # a running one draws its own
        return str(image) if image.exists() else None
    if image.exists() and image.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return str(image)
    drawn = curves.draw(past.path)
    return str(drawn[0]) if drawn else None


# ---- the list ----


def listed(found: Sequence[Past], root: Path) -> list[Any]:
    """Return the list as a person reads it."""
    if not found:
        return [f"{root / 'runs'}: no run is here; fmask train makes one (or: fmask pipeline --sample)"]
    columns: list[tuple[str, list[str], int]] = [
        ("run", [past.name for past in found], 0),
        ("state", [past.state for past in found], 0),
        ("data", [_data(past) for past in found], 1),
        ("weights", [past.weights or "-" for past in found], 5),
        ("epochs", [f"{past.epochs}/{past.asked}" if past.asked else "-" for past in found], 1),
        *(
            (said, [_percent(past.best[key]) for past in found], 3 if key in ("precision", "recall") else 2)
            for key, said in _NAMES.items()
        ),
        ("test mAP 0.5", [_tested(past) for past in found], 4),
        ("device", [str(past.about.get("device") or "-") for past in found], 7),
        ("took", [_took(past) for past in found], 6),
        ("date", [past.when[:10] or "-" for past in found], 5),
    ]
    problems = [f"problem: {problem}" for past in found for problem in past.problems]
    return [Fitted("Runs, the newest first; best epoch on val, in percent", columns), *problems]


def _data(past: Past) -> str:
    ensemble = past.part("ensemble")
    return f"{ensemble.get('name', '-')} {str(ensemble.get('hash') or '')[:8]}".strip()


def _percent(value: Any) -> str:
    return f"{100 * value:.1f}" if isinstance(value, (int, float)) and math.isfinite(value) else "-"


def _with_interval(value: Any, bounds: Any) -> str:
    between = isinstance(bounds, Sequence) and len(bounds) == 2
    return _percent(value) + (f" ({_percent(bounds[0])} to {_percent(bounds[1])})" if between else "")


def _tested(past: Past) -> str:
    """Return mAP 0.5 on the test split of the run's own ensemble, or of whichever it was evaluated on."""
    from facemask_train.train.history.summary import score_json

    own = past.part("ensemble").get("name")
    tests = [one for one in map(score_json, past.scores) if one["split"] == "test"]
    first = next((one for one in tests if one["ensemble"] == own), tests[0] if tests else None)
    return "-" if first is None else _with_interval(first["map50"], first["intervals"].get("map50"))


def _took(past: Past) -> str:
    from facemask_train.train.runs import duration

    return "-" if past.seconds is None else duration(past.seconds)


# ---- one run ----


def shown(past: Past) -> list[Any]:
    """Return a run as a person reads it, from what it is to its curves."""
    image = _image(past)
    return [
        f"{past.name}: {past.state}" + (f", {past.epochs} of {past.asked} epochs, {_took(past)}" if past.asked else ""),
        *(f"problem: {problem}" for problem in past.problems),
        *_facts(past),
        *_by_class(past),
        *_scores(past),
        *_curves(past),
        *([f"curves: {image}"] if image else []),
    ]


def _facts(past: Past) -> list[str]:
    """Return what it was trained on and how: each line a key and its value."""
    ensemble, images = past.part("ensemble"), past.part("ensemble").get("images")
    counts = ", ".join(f"{split} {count}" for split, count in images.items()) if isinstance(images, Mapping) else ""
    data = f"{ensemble.get('name', '-')} ({counts}), hash {str(ensemble.get('hash') or '-')[:12]}" if ensemble else ""
    facts = {"data": data}
    facts |= {key: str(past.about[key]) for key in _LINEAGE if past.about.get(key) not in (None, "")}
    facts |= {"tracker": _pairs(past.part("tracker")), "code": _pairs(past.part("code"))}
    facts |= {"packages": _pairs(past.part("packages")), "not by default": _pairs(_changed(past.part("settings")))}
    facts |= {f"chosen, {key}": _said(value) for key, value in past.part("chosen").items()}
    events = past.about.get("events")
    facts |= {f"event {n}": _said(one) for n, one in enumerate(events if isinstance(events, list) else [], 1)}
    width = max(map(len, facts))
    return [f"  {key:<{width}}  {value}" for key, value in facts.items() if value]


def _changed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not the defaults, the trainer's own among them."""
    from facemask_train.core.config import TrainSettings

    defaults = TrainSettings().model_dump(mode="json")
    extra = settings.get("extra")
    changed = {key: value for key, value in settings.items() if key != "extra" and defaults.get(key) != value}
    return changed | (dict(extra) if isinstance(extra, Mapping) else {})


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_said(value)}" for key, value in values.items() if value not in (None, ""))


def _said(value: Any) -> str:
    return _pairs(value) if isinstance(value, Mapping) else str(value)


def _by_class(past: Past) -> list[Any]:
    from facemask_train.train.history.results import best_row, kinds, metric

    best = best_row(past.rows)
    if best is None:
        return []
    classes = kinds(past.rows)
    columns: list[tuple[str, list[str], int]] = [("class", ["all", *classes], 0)]
    for rank, (key, said) in enumerate(_NAMES.items()):
        cells = [_percent(past.best[key]), *(_percent(metric(best, key, kind)) for kind in classes)]
        columns.append((said, cells, rank))
    return [Fitted(f"Epoch {best['epoch']:.0f}, the best, on val, in percent", columns)]


def _scores(past: Past) -> list[Any]:
    from facemask_train.train.history.summary import score_json

    found = [score_json(one) for one in past.scores]
    if not found:
        return [f"not evaluated: fmask evaluate {past.name}"] if past.state == "finished" else []
    names = {"map50": "mAP 0.5", "map50_95": "0.5:0.95", "precision": "precision", "recall": "recall"}
    columns: list[tuple[str, list[str], int]] = [
        ("on", [f"{one['ensemble']}, {one['split']}" for one in found], 0),
        ("images", [str(one["images"]) for one in found], 1),
        *(
            (said, [_with_interval(one[key], one["intervals"].get(key)) for one in found], rank)
            for rank, (key, said) in enumerate(names.items())
        ),
    ]
    return [Fitted("Evaluated, in percent, with intervals at 95 %", columns)]


def _curves(past: Past) -> list[Any]:
    from facemask_train.cli.tables import Charts
    from facemask_train.train.history.results import LOSSES, metric

    if not past.rows:
        return []
    names = {"mAP50": "mAP 0.5, %", "mAP50-95": "mAP 0.5:0.95, %", "precision": "precision, %", "recall": "recall, %"}
    charts = [(said, [100 * metric(row, key) for row in past.rows]) for key, said in names.items()]
    for part in ("train", "val"):
        losses = [sum(row.get(f"{part}/{loss}_loss", math.nan) for loss in LOSSES) for row in past.rows]
        charts.append((f"{part} loss (box + cls + dfl)", losses))
    return [f"by epoch, 1 to {past.rows[-1]['epoch']:.0f}:", Charts(charts)]
