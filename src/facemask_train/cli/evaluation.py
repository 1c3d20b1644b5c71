"""The commands that measure a model: evaluate, audit, compare. Each prints what one function returned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from facemask_train.cli.console import Terminal, command
from facemask_train.cli.options import (
    DEFAULT_ROOT,
    INPUT,
    MODEL,
    OUTPUT,
    Batch,
    Data,
    Device,
    Gates,
    Root,
    RunAlias,
    RunName,
    Size,
    Split,
    Tracker,
    Weights,
    one_of,
    option,
)  # fmt: skip
from facemask_train.cli.tables import table

if TYPE_CHECKING:
    from facemask_train.eval.audit import AuditResult
    from facemask_train.eval.compare import ComparisonResult
    from facemask_train.eval.evaluate import Evaluation
    from facemask_train.eval.gate import GateResult
    from facemask_train.eval.measures.bootstrap import Estimate
    from facemask_train.eval.probe import ProbeRun
    from facemask_train.eval.records.audit import Audit, PerturbationRate
    from facemask_train.eval.records.metrics import Metrics, OperatingPoint

Threshold = Annotated[
    float | None,
    option(
        group=MODEL,
        metavar="NUMBER",
        min=0,
        max=1,
        help="Confidence threshold of the operating point.",
        show_default="the best F1 on val",
    ),
]


@command
def evaluate(
    term: Terminal,
    run: RunName = None,
    run_alias: RunAlias = None,
    weights: Weights = None,
    data: Data = None,
    split: Split = "test",
    imgsz: Size = None,
    batch: Batch = 16,
    device: Device = None,
    threshold: Threshold = None,
    audit: Annotated[bool, option(group=OUTPUT, help="Measure shortcuts too, as `fmask audit` does.")] = True,
    suspects: Annotated[
        bool,
        option("--suspects", group=OUTPUT, help="Ask about suspected labels on a local page, into fixes.yaml."),
    ] = False,
    fixes: Annotated[
        Path | None,
        option(
            group=OUTPUT,
            metavar="PATH",
            help="A fixes.yaml for the answers, as beside a recipe that is given by its path.",
            show_default="configs/ensembles/fixes.yaml",
        ),
    ] = None,
    gates: Gates = None,
    tracker: Tracker = "wandb",
    root: Root = DEFAULT_ROOT,
) -> None:
    """Score a run's best weights on a split, and write a report.

    The report has confidence intervals, shows where the model fails, and how often it takes shortcuts.
    """
    from facemask_train.eval import evaluate as stage
    from facemask_train.eval import gate
    from facemask_train.eval.eval_target import find_eval_ensemble, find_model

    conditions = gate.read_gates(gates or (), gate.EVALUATION_NAMES)
    found = stage.evaluate(
        root,
        run=one_of(run, run_alias, "--run"),
        weights=weights,
        data=data,
        split=split,
        imgsz=imgsz,
        batch=batch,
        device=device or "",
        confidence=threshold,
        audit=audit,
        tracker=tracker,
        progress=term.progress,
    )
    results = gate.check_gates(conditions, gate.metrics_values(found.metrics))
    term.result(evaluate_json(found) | _gate_json(results), *evaluate_lines(found))
    if suspects:
        folder = find_eval_ensemble(root, find_model(root, one_of(run, run_alias, "--run"), weights), data)
        _ask_about_suspects(root, folder, found, fixes)
    gate.require(results)


def _ask_about_suspects(root: Path, ensemble: Path, found: Evaluation, fixes: Path | None) -> None:
    """Serve the page of suspected label errors until Ctrl-C."""
    from facemask_train.apps.labeling.suspects import review
    from facemask_train.dataset.contents import read_contents

    def started(url: str) -> None:
        typer.echo(f"answer on {url} (Ctrl-C when you are done)", err=True)

    errors = found.metrics.label_errors
    path = review(root, read_contents(root, str(ensemble)), errors, fixes=fixes, on_start=started)
    typer.echo(f"{path}: every answer is saved; to apply them: fmask build-dataset --version NAME", err=True)


@command
def audit(
    term: Terminal,
    run: RunName = None,
    run_alias: RunAlias = None,
    weights: Weights = None,
    data: Data = None,
    split: Split = "test",
    probe: Annotated[
        Path | None,
        option(
            group=INPUT,
            metavar="PATH",
            help="Folder of your own images to score instead, with a csv: image,should_be.",
            show_default="none",
        ),
    ] = None,
    faces: Annotated[
        int, option(group=INPUT, metavar="INTEGER", min=1, help="Largest number of faces to perturb in each class.")
    ] = 100,
    imgsz: Size = None,
    batch: Batch = 16,
    device: Device = None,
    threshold: Threshold = None,
    gates: Gates = None,
    tracker: Tracker = "wandb",
    root: Root = DEFAULT_ROOT,
) -> None:
    """Measure the shortcuts that a model takes (the Batman test).

    Faces are perturbed so that the class must, or must not, change, and the model predicts again.
    """
    from facemask_train.eval import audit as stage
    from facemask_train.eval import gate

    conditions = gate.read_gates(gates or (), tuple(gate.AUDIT_RATES))
    options: dict[str, Any] = {
        "run": one_of(run, run_alias, "--run"),
        "weights": weights,
        "data": data,
        "imgsz": imgsz,
        "batch": batch,
        "device": device or "",
        "threshold": threshold,
        "progress": term.progress,
    }
    if probe is not None:
        probed = stage.probe(root, probe, **options)
        term.result(_probe_json(probed), *_probe_lines(probed))
        return
    found = stage.audit(root, split=split, faces=faces, tracker=tracker, **options)
    results = gate.check_gates(conditions, gate.audit_values(found.audit))
    term.result(_audit_json(found) | _gate_json(results), *_audit_lines(found))
    gate.require(results)


@command
def compare(
    term: Terminal,
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Two runs or more; the others are compared with the first one."),
    ],
    data: Annotated[
        str | None,
        option(
            group=INPUT,
            metavar="TEXT",
            help="Ensemble on which all of them were scored.",
            show_default="the one that all have in common",
        ),
    ] = None,
    split: Split = "test",
    metric: Annotated[
        Literal["map50", "map50_95", "precision", "recall", "f1"],
        option(group=OUTPUT, help="Metric that decides the verdict."),
    ] = "map50",
    gates: Gates = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Compare runs that were scored on the same test images.

    Prints the difference with its confidence interval, and a verdict in words.
    """
    from facemask_train.eval import compare as stage
    from facemask_train.eval import gate
    from facemask_train.eval.measures.bootstrap import Estimate

    conditions = gate.read_gates(gates or (), ("difference",))
    found = stage.compare(root, runs, data=data, split=split, metric=metric)
    results = gate.check_gates(
        conditions, {"difference": Estimate(found.comparison.difference, found.comparison.interval)}
    )
    term.result(_compare_json(found) | _gate_json(results), *_compare_lines(found))
    gate.require(results)


# ---- results as JSON (an interface) and as tables ----

_CHOSEN = {
    "val": "chosen on val",
    "export": "chosen on val when the model was exported",
    "user": "set by you",
    "default": "the package's default: there is no val split",
}


def evaluate_json(found: Evaluation) -> dict[str, object]:
    """Return an evaluation as `--json` prints it: `metrics.json` without its tables of details."""
    details = ("inputs", "slices", "cells", "calibration", "label_errors", "confusion", "images_digest")
    data = {key: value for key, value in found.metrics.to_json().items() if key not in details}
    return data | {"report": str(found.report), "page": str(found.page)}


def _gate_json(results: Sequence[GateResult]) -> dict[str, object]:
    rows = [{"condition": one.condition, "holds": one.holds, "why": one.why} for one in results]
    return {"fail_unless": rows} if rows else {}


def evaluate_lines(found: Evaluation) -> list[Any]:
    """Return an evaluation as tables and lines."""
    metrics, rows = found.metrics, []
    for name in ("all", *metrics.classes):
        row = metrics.row(name)
        flag = " (too few)" if row.too_few else ""
        numbers = (_with_interval(row.estimate(key), "\n") for key in ("map50", "map50_95", "precision", "recall"))
        rows.append((name, f"{row.n:,}{flag}", *numbers))
    title = f"{metrics.run} on {metrics.ensemble}, {metrics.split}: {metrics.images:,} images, {metrics.boxes:,} faces"
    lines: list[Any] = [table(title, ("class", "n", "mAP 0.5", "mAP 0.5:0.95", "precision", "recall"), rows)]
    if metrics.too_few:
        lines.append("too few to measure well: use 100 scenes and 50 faces of each class or more")
    lines.append(_point(metrics.operating_point))
    return [
        *lines,
        *_shortcuts(metrics.audit),
        *_unmeasured(metrics),
        f"report: {found.page} (for a README: {found.report.name})",
    ]


def _unmeasured(metrics: Metrics) -> list[str]:
    from facemask_train.report.wording import unmeasured

    return unmeasured(metrics)


def _point(point: OperatingPoint) -> str:
    numbers = ", ".join(f"{key} {_with_interval(point.estimate(key))}" for key in ("precision", "recall"))
    return f"operating point: confidence {point.threshold:.3f} ({_CHOSEN[point.chosen]}): {numbers}"


def _shortcuts(audit: Audit | None) -> list[str]:
    from facemask_train.report.wording import audit_summary

    return [] if audit is None else [audit_summary(audit)]


def _with_interval(estimate: Estimate, gap: str = ", ") -> str:
    from facemask_train.report.wording import between

    if estimate.value is None:
        return "-"
    interval = f"{gap}{between(estimate.interval)}" if estimate.interval else ""
    return f"{100 * estimate.value:.1f} %{interval}"


def _audit_json(found: AuditResult) -> dict[str, object]:
    data = {key: value for key, value in found.audit.to_json().items() if key != "inputs"}
    return {**data, "path": str(found.folder), "up_to_date": found.up_to_date}


def _audit_lines(found: AuditResult) -> list[Any]:
    from facemask_train.report.wording import audit_summary, format_excess, format_rate

    audit = found.audit
    rows = [
        (
            f"{one.perturbation}, {one.name}",
            _rule(one),
            f"{one.n:,}",
            f"{one.flipped:,}",
            f"{one.lost:,}",
            "-" if one.must_change else format_rate(one.control, None),
            format_rate(one.rate, one.interval) if one.must_change else format_excess(one),
        )
        for one in audit.perturbations
    ]
    title = f"{audit.run} on {audit.ensemble}, {audit.split}: perturbed faces"
    shown = table(
        title, ("perturbation", "change the class", "faces", "flipped", "lost", "control, %", "excess, points"), rows
    )
    return [shown, audit_summary(audit), f"contact sheet: {found.folder / 'shortcuts.jpg'}"]


def _rule(one: PerturbationRate) -> str:
    if one.must_change:
        return "must (% that did)"
    return "in doubt" if one.doubt else "must not" if one.seen else "must not, unseen"


def _probe_json(found: ProbeRun) -> dict[str, object]:
    return {**found.probe.to_json(), "path": str(found.folder)}


def _probe_lines(found: ProbeRun) -> list[Any]:
    probe = found.probe
    rows = [
        (one.image, one.should_be, f"{one.detected} {one.confidence:.2f}" if one.detected else "-", one.result)
        for one in probe.predictions
    ]
    title = f"{probe.run}, above confidence {probe.threshold:.2f}: {probe.right} of {len(rows)} right"
    shown = table(title, ("image", "should be", "detected", ""), rows)
    return [shown, f"table: {found.folder / 'probe.csv'}", f"contact sheet: {found.folder / 'probe.jpg'}"]


def _compare_json(found: ComparisonResult) -> dict[str, object]:
    data = {key: value for key, value in found.comparison.to_json().items() if key != "inputs"}
    return {**data, "report": str(found.page), "up_to_date": found.up_to_date}


def _compare_lines(found: ComparisonResult) -> list[Any]:
    from facemask_train.report.wording import METRIC_LABELS, signed

    comparison = found.comparison
    rows = [(one.run, *(f"{100 * getattr(one, key):.1f} %" for key in METRIC_LABELS)) for one in comparison.runs]
    for pair in comparison.pairs:
        differences = [pair.metrics[key] for key in METRIC_LABELS]
        cells = (
            f"{signed(one.difference)}\n{signed(one.interval[0])} to {signed(one.interval[1])}" for one in differences
        )
        rows.append((f"{pair.second} minus {pair.first}", *cells))
    title = f"{comparison.ensemble}, {comparison.split}: {comparison.images:,} images, the same for all runs"
    shown = table(title, ("run", *METRIC_LABELS.values()), rows)
    return [shown, comparison.verdict, f"report: {found.page}"]
