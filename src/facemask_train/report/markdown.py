"""Reports in Markdown: the reference table, metrics with intervals, where the model fails, and the limitations."""

from __future__ import annotations

from collections.abc import Sequence

from facemask_train.dataset.card import EnsembleCard
from facemask_train.eval.measures.metrics import ALL
from facemask_train.eval.records.audit import Audit
from facemask_train.eval.records.metrics import Metrics
from facemask_train.report import wording
from facemask_train.report.wording import METRIC_LABELS, REFERENCE_METRICS, percent, with_interval
from facemask_train.training.runs import RunRecord

_ALT = {
    "curves.png": "Precision-recall curve, and precision, recall and F1 against confidence",
    "confusion.png": "Confusion matrix",
    "errors.jpg": "The worst errors",
    "label_errors.jpg": "Suspected label errors",
}


def evaluation_report(title: str, metrics: Metrics, run: RunRecord, card: EnsembleCard, images: Sequence[str]) -> str:
    """Return the report of an evaluation.

    Args:
        run: the run's `run.json`.
        card: of the ensemble that was evaluated.
        images: names of the image files beside the report.
    """
    numbers = (percent(getattr(metrics, key)) for key in REFERENCE_METRICS)
    row = (*wording.reference_row(metrics, run, card), *numbers)
    header = (*wording.REFERENCE_COLUMNS, *(METRIC_LABELS[key] for key in REFERENCE_METRICS))
    parts = [
        f"# {title}",
        table(header, [row, (*wording.PUBLISHED["model"], *wording.PUBLISHED["numbers"])]),
        wording.ABOUT_PUBLISHED,
        f"## By class, with intervals\n\n{by_class(metrics)}",
        f"## By class and size\n\n{cells(metrics)}",
        f"## Where it fails\n\n{failures(metrics)}",
        f"## Shortcuts\n\n{shortcuts(metrics.audit)}",
        f"## Method\n\n{bullets(wording.method(metrics))}",
        f"## Limitations\n\n{bullets(wording.limitations(metrics, run, card.notes))}",
    ]
    if metrics.label_agreement is not None:
        parts.append(wording.agreement_summary(metrics.label_agreement))
    parts += [f"![{_ALT[name]}]({name})" for name in images]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def by_class(metrics: Metrics) -> str:
    """Return the metrics by class, and those at the operating point."""
    header = ("class", "faces (n)", "images", *METRIC_LABELS.values())
    rows = []
    for name in (ALL, *metrics.classes):
        row = metrics.row(name)
        flag = f" ({wording.TOO_FEW})" if row.too_few else ""
        numbers = (with_interval(row.estimate(key)) for key in METRIC_LABELS)
        rows.append((name, f"{row.n}{flag}", str(row.images), *numbers))
    point = metrics.operating_point
    numbers = (f"{key} {with_interval(point.estimate(key))}" for key in ("precision", "recall", "f1"))
    return (
        f"{table(header, rows)}\n\nIn percent, with 95 % intervals. At the operating point (confidence "
        f"{point.threshold:.3f}): {', '.join(numbers)}."
    )


def failures(metrics: Metrics) -> str:
    """Return the error types, slices and calibration."""
    types = [(name, str(one.count), f"{100 * one.cost:.1f}") for name, one in metrics.error_types.items()]
    slices = [
        (
            one.by,
            one.name,
            str(one.images),
            f"{one.n}{' (too few)' if one.too_few else ''}",
            with_interval(one.estimate("map50")),
            with_interval(one.estimate("recall")),
        )
        for one in metrics.slices
    ]
    calibration = metrics.calibration
    return "\n\n".join(
        [
            table(("error type", "count", "cost in points of mAP 0.5"), types),
            table(("slice by", "slice", "images", "faces", "mAP 0.5", "recall"), slices),
            f"Expected calibration error: {percent(calibration.error)} points, over {calibration.n:,} detections "
            f"above confidence {calibration.min_confidence}. Suspected label errors listed: "
            f"{len(metrics.label_errors)}.",
        ]
    )


def cells(metrics: Metrics) -> str:
    """Return the share of faces that are right by class and relative size, over all sources and by source."""
    sources = list(dict.fromkeys(one.source for one in metrics.cells))
    rows = []
    for pooled in metrics.pooled_cells:
        own = {one.source: one for one in metrics.cells if (one.name, one.size) == (pooled.name, pooled.size)}
        train = "-" if pooled.train is None else f"{pooled.train:,}"
        rows.append((pooled.name, pooled.size, train, *(wording.cell_text(own[source]) for source in sources)))
    header = ("class", "size", "in training", *(source or "all sources" for source in sources))
    return f"{table(header, rows)}\n\n{wording.ABOUT_CELLS}"


def shortcuts(audit: Audit | None) -> str:
    """Return the result of an audit, perturbation by perturbation."""
    if audit is None:
        return "Not measured: `fmask audit`."
    rows = [
        (
            one.perturbation,
            one.name,
            wording.perturbation_rule(one),
            str(one.n),
            str(one.flipped),
            str(one.lost),
            wording.format_rate(one.rate, one.interval),
            "-" if one.must_change else wording.format_rate(one.control, one.control_interval),
            "-" if one.must_change else wording.format_excess(one),
        )
        for one in audit.perturbations
    ]
    header = ("perturbation", "faces", "must change", "n", "flipped", "lost", "failed, %", "control, %", "excess")
    return f"{wording.audit_summary(audit)}\n\n{table(header, rows)}\n\n{wording.ABOUT_AUDIT}"
