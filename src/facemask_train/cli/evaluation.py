"""The commands that measure a model: evaluate, audit, compare. Each prints what one function returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from facemask_train.eval.audit import Audit
    from facemask_train.eval.compare import Comparison
    from facemask_train.eval.evaluate import Evaluation
    from facemask_train.eval.gate import Verdict
    from facemask_train.eval.probe import Probe

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
    gates: Gates = None,
    tracker: Tracker = "wandb",
    root: Root = DEFAULT_ROOT,
) -> None:
    """Score a run's best weights on a split, and write a report.

    The report has confidence intervals, shows where the model fails, and how often it takes shortcuts.
    """
    from facemask_train.eval import evaluate as stage
    from facemask_train.eval import gate

    asked = gate.read_gates(gates or (), gate.EVALUATE)
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
    verdicts = gate.judge(asked, gate.values_of(found.metrics))
    term.result(evaluate_json(found) | _gate_json(verdicts), *evaluate_lines(found))
    gate.enforce(verdicts)


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
        int, option(group=INPUT, metavar="INTEGER", min=1, help="Largest number of faces to edit in each class.")
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

    Faces are edited so that the label must, or must not, change, and the model predicts again.
    """
    from facemask_train.eval import audit as stage
    from facemask_train.eval import gate

    asked = gate.read_gates(gates or (), tuple(gate.RATES))
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
        told = stage.probe(root, probe, **options)
        term.result(_probe_json(told), *_probe_lines(told))
        return
    found = stage.audit(root, split=split, faces=faces, tracker=tracker, **options)
    verdicts = gate.judge(asked, gate.rates_of(found.found))
    term.result(_audit_json(found) | _gate_json(verdicts), *_audit_lines(found))
    gate.enforce(verdicts)


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

    asked = gate.read_gates(gates or (), ("difference",))
    found = stage.compare(root, runs, data=data, split=split, metric=metric)
    verdicts = gate.judge(asked, {"difference": (found.found["difference"], found.found["interval"])})
    term.result(_compare_json(found) | _gate_json(verdicts), *_compare_lines(found))
    gate.enforce(verdicts)


# ---- from results to JSON (an interface) and to tables ----


def evaluate_json(found: Evaluation) -> dict[str, Any]:
    """Return an evaluation as `--json` prints it."""
    keys = ("run", "ensemble", "split", "images", "boxes", "map50", "map50_95", "precision", "recall")
    own = ("f1", "few", "validator", "mistakes", "audit")
    data = {key: getattr(found, key) for key in keys}
    data |= {"per_class": {name: dict(row) for name, row in found.per_class.items()}}
    data |= {"intervals": dict(found.intervals), "operating_point": dict(found.operating_point)}
    data |= {key: found.metrics[key] for key in own}
    return data | {"report": str(found.report), "page": str(found.page)}


def _gate_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    rows = [{"condition": one.condition, "holds": one.holds, "why": one.why} for one in verdicts]
    return {"fail_unless": rows} if rows else {}


def evaluate_lines(found: Evaluation) -> list[Any]:
    """Return an evaluation as a person reads it."""
    keys = ("map50", "map50_95", "precision", "recall")
    metrics, bounds = found.metrics, found.intervals
    rows = []
    for name in ("all", *found.per_class):
        row = {**metrics, "n": found.boxes} if name == "all" else found.per_class[name]
        own = bounds if name == "all" else bounds["per_class"][name]
        mark = " (few)" if row["few"] else ""
        rows.append((name, f"{row['n']:,}{mark}", *(_with_interval(row[key], own[key], "\n") for key in keys)))
    title = f"{found.run} on {found.ensemble}, {found.split}: {found.images:,} images, {found.boxes:,} faces"
    shown = table(title, ("class", "n", "mAP 0.5", "mAP 0.5:0.95", "precision", "recall"), rows)
    return [shown, *_few(metrics), *_point(found.operating_point), *_shortcuts(metrics["audit"]), _report(found)]


def _few(metrics: Mapping[str, Any]) -> list[str]:
    few = metrics["few"]
    return ["few: too few to measure; 100 images and 72 faces of a class say something"] if few else []


def _point(point: Mapping[str, Any]) -> list[str]:
    by = {"val": "chosen on val", "user": "fixed by you", "default": "the package's default: there is no val split"}
    numbers = ", ".join(
        f"{key} {_with_interval(point[key], point['intervals'][key])}" for key in ("precision", "recall")
    )
    return [f"operating point: confidence {point['threshold']:.3f} ({by[point['chosen']]}): {numbers}"]


def _shortcuts(audit: Mapping[str, Any] | None) -> list[str]:
    from facemask_train.report.wording import headline_of

    return [] if audit is None else [headline_of(audit)]


def _report(found: Evaluation) -> str:
    return f"report: {found.page} (for a README: {found.report.name})"


def _with_interval(value: Any, bounds: Sequence[float] | None, gap: str = ", ") -> str:
    if value is None:
        return "-"
    between = f"{gap}{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}" if bounds else ""
    return f"{100 * value:.1f} %{between}"


def _audit_json(found: Audit) -> dict[str, Any]:
    said = {key: value for key, value in found.found.items() if key != "inputs"}
    return {**said, "path": str(found.folder), "up_to_date": found.up_to_date}


def _audit_lines(found: Audit) -> list[Any]:
    from facemask_train.report.wording import headline_of, rate

    said = found.found
    rows = [
        (
            f"{one['kind']}, {one['faces_of']}",
            "must" if one["must_change"] else "must not" if one["seen"] else "must not, unseen",
            f"{one['n']:,}",
            rate(one),
            f"{one['lost']:,}",
        )
        for one in said["kinds"]
    ]
    title = f"{said['run']} on {said['ensemble']}, {said['split']}: edited faces"
    shown = table(title, ("edit", "change the answer", "faces", "flipped, %", "lost"), rows)
    return [shown, headline_of(said), f"gallery: {found.folder / 'shortcuts.jpg'}"]


def _probe_json(told: Probe) -> dict[str, Any]:
    return {**told.found, "path": str(told.folder)}


def _probe_lines(told: Probe) -> list[Any]:
    rows = [
        (one.image, one.should_be, f"{one.answer} {one.confidence:.2f}".strip() if one.answer else "-", one.said)
        for one in told.answers
    ]
    said = told.found
    title = f"{said['run']}, above confidence {said['threshold']:.2f}: {said['right']} of {len(rows)} right"
    shown = table(title, ("image", "should be", "answer", ""), rows)
    return [shown, f"table: {told.folder / 'probe.csv'}", f"gallery: {told.folder / 'probe.jpg'}"]


def _compare_json(found: Comparison) -> dict[str, Any]:
    said = {key: value for key, value in found.found.items() if key != "inputs"}
    return {**said, "report": str(found.folder / "report.html"), "up_to_date": found.up_to_date}


def _compare_lines(found: Comparison) -> list[Any]:
    from facemask_train.report.wording import NUMBERS

    said = found.found
    scores = [(one["run"], *(f"{100 * one[key]:.1f} %" for key in NUMBERS)) for one in said["runs"]]
    apart = [
        (f"{one['second']} less {one['first']}", *(_signed(one["metrics"][key]) for key in NUMBERS))
        for one in said["pairs"]
    ]
    title = f"{said['ensemble']}, {said['split']}: {said['images']:,} images, the same for all"
    shown = table(title, ("run", *NUMBERS.values()), [*scores, *apart])
    return [shown, said["verdict"], f"report: {found.folder / 'report.html'}"]


def _signed(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    return f"{100 * one['difference']:+.1f}\n{100 * low:+.1f} to {100 * high:+.1f}"
