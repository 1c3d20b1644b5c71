"""The HTML page of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES
from facemask_train.dataset.card import EnsembleCard
from facemask_train.eval.measures.bootstrap import Estimate
from facemask_train.eval.measures.metrics import ALL
from facemask_train.eval.perturbations.shortcuts import MIN_FACE_SIDE
from facemask_train.eval.records.audit import Audit, PerturbationRate
from facemask_train.eval.records.metrics import CellMetrics, Metrics
from facemask_train.report import charts, html, wording
from facemask_train.report.charts import Dot, Line
from facemask_train.report.html import Cell, KeyFigure, Row
from facemask_train.report.wording import METRIC_LABELS, REFERENCE_METRICS, between, percent
from facemask_train.training.runs import RunRecord

if TYPE_CHECKING:
    from markupsafe import Markup

    from facemask_train.core.types import Array
    from facemask_train.model.validation import Curves

_MAX_LABEL_ERRORS = 15
_GROUPS: tuple[tuple[str, Callable[[PerturbationRate], bool]], ...] = (
    (
        "must not change the class, never in training: the headline",
        lambda one: not (one.must_change or one.doubt or one.seen),
    ),
    ("must not change the class, training may show it", lambda one: one.seen and not (one.must_change or one.doubt)),
    ("in doubt, and not counted", lambda one: bool(one.doubt)),
    ("must change the class", lambda one: one.must_change),
)
"""The groups of perturbations: their title, and which are in it."""


def page(
    title: str,
    metrics: Metrics,
    curves: Curves,
    run: RunRecord,
    card: EnsembleCard,
    galleries: Mapping[str, Path],
) -> bytes:
    """Return the page of an evaluation.

    Args:
        run: the run's `run.json`.
        card: of the ensemble that was evaluated.
        galleries: contact sheets to embed, by file name.
    """
    limitations = [_plain(line) for line in wording.limitations(metrics, run, card.notes)]
    opening = [html.key_figures(_key_figures(metrics))]
    if limitations:
        opening.append(html.notes(limitations, "Before you trust these numbers"))
    sections = (
        _results(metrics, run, card),
        _curves(metrics, curves),
        _confusion(metrics),
        _error_types(metrics),
        _cells(metrics),
        _slices(metrics),
        _shortcuts(metrics.audit, galleries),
        _errors(galleries),
        _label_errors(metrics, galleries),
        _data(metrics, card),
    )
    lede = (
        f"{metrics.images:,} images with {metrics.boxes:,} faces, the {metrics.split} split of {metrics.ensemble}. "
        "All numbers are in percent, with 95 % intervals."
    )
    return html.page(title, sections, kicker="Evaluation", lede=lede, opening=opening)


def _plain(text: str) -> str:
    """Return a sentence without the marks of Markdown code."""
    return text.replace("`", "")


def metric_cell(estimate: Estimate) -> Cell:
    """Return a metric in percent with its interval below it."""
    return Cell(percent(estimate.value), between(estimate.interval) if estimate.value is not None else "")


def _flag(too_few: bool) -> str:
    return wording.TOO_FEW if too_few else ""


def _key_figures(metrics: Metrics) -> Iterator[KeyFigure]:
    point = metrics.operating_point
    for key in ("map50", "map50_95"):
        yield _key_figure(METRIC_LABELS[key], metrics.overall.estimate(key))
    for key in ("precision", "recall"):
        yield _key_figure(METRIC_LABELS[key], point.estimate(key), f"at confidence {point.threshold:.2f}")
    if metrics.audit is not None:
        bare, label = metrics.audit.bare, f"{metrics.audit.headline} faces flipped or lost"
        if bare.measurable:
            estimate = Estimate(bare.excess, bare.excess_interval)
            yield _key_figure(label, estimate, "beyond controls, by unseen changes; lower is better")
        else:
            yield KeyFigure("-", label, f"not measurable: {bare.faces} faces")


def _key_figure(label: str, estimate: Estimate, remark: str = "") -> KeyFigure:
    interval = f"95 %: {between(estimate.interval)}" if estimate.interval else ""
    return KeyFigure(percent(estimate.value), label, "; ".join(part for part in (interval, remark) if part))


# ---- sections ----


def _results(metrics: Metrics, run: RunRecord, card: EnsembleCard) -> html.Section:
    own = [Cell(text) for text in wording.reference_row(metrics, run, card)]
    own += [metric_cell(metrics.overall.estimate(key)) for key in REFERENCE_METRICS]
    published = (*wording.PUBLISHED["model"], *wording.PUBLISHED["numbers"])
    columns = (*wording.REFERENCE_COLUMNS, *(METRIC_LABELS[key] for key in REFERENCE_METRICS))
    reference = html.table(
        columns,
        [Row(tuple(own)), Row(tuple(map(Cell, published)), "muted")],
        text_columns=len(wording.REFERENCE_COLUMNS),
    )
    about = (
        f"{wording.ABOUT_PUBLISHED} In these tables precision and recall are taken where F1 is best on these same "
        f"images (confidence {metrics.best_f1_confidence:.3f}), as in the reference; at the top of the page they are "
        "at the operating point."
    )
    by_class = html.table(("class", "faces", "images", *METRIC_LABELS.values()), _class_rows(metrics))
    return html.Section("Results", (reference, html.small(about), by_class))


def _class_rows(metrics: Metrics) -> Iterator[Row]:
    for name in (ALL, *metrics.classes):
        row = metrics.row(name)
        counts = (Cell(f"{row.n:,}"), Cell(f"{row.images:,}"))
        numbers = (metric_cell(row.estimate(key)) for key in METRIC_LABELS)
        yield Row((Cell(name, flag=_flag(row.too_few)), *counts, *numbers), "total" if name == ALL else "")


def _curves(metrics: Metrics, curves: Curves) -> html.Section:
    axis = curves.axis.tolist()

    def line(index: int, values: Array, what: str = "", dash: str = "") -> Line:
        name = curves.names[index]
        points = list(zip(axis, values[index].tolist(), strict=True))
        return Line(f"{name}, {what}" if what else name, CLASSES.index(name) + 1, points, dash)

    rates = (("F1", curves.f1, ""), ("precision", curves.precision, "6 4"), ("recall", curves.recall, "2 4"))
    indices = range(len(curves.names))
    threshold = metrics.operating_point.threshold
    precision_recall = charts.line_chart([line(i, curves.precision_at_recall) for i in indices], "recall", "precision")
    against_confidence = charts.line_chart(
        [line(i, values, what, dash) for i in indices for what, values, dash in rates],
        "confidence",
        "",
        mark=threshold,
        note=f"operating point {threshold:.2f}",
    )
    drawn = html.columns(
        html.chart(
            "Precision-recall curve", precision_recall, "At IoU 0.5. The area below it is the average precision."
        ),
        html.chart("Rates by confidence", against_confidence, "What another threshold would gain and lose."),
        _calibration(metrics),
    )
    return html.Section("Curves", (drawn,))


def _calibration(metrics: Metrics) -> Markup:
    calibration = metrics.calibration
    most = max((one.n for one in calibration.bins), default=1)
    dots = [
        Dot(
            one.confidence,
            one.precision or 0.0,
            one.interval,
            f"{one.n:,} detections with mean confidence {one.confidence:.2f}: {percent(one.precision)} % right",
            one.n / most,
        )
        for one in calibration.bins
    ]
    chart = charts.dot_chart(dots, "confidence", "precision", "Precision of detections by their confidence")
    caption = (
        "On the dashed line the confidence equals the precision. Larger dots stand for more detections. Expected "
        f"calibration error: {percent(calibration.error)} points, over {calibration.n:,} detections above confidence "
        f"{calibration.min_confidence}."
    )
    return html.chart("Calibration", chart, caption)


def _confusion(metrics: Metrics) -> html.Section:
    names, counts = metrics.confusion.classes, metrics.confusion.counts
    rows = []
    for index, (label, row) in enumerate(zip((*names, "no face"), counts, strict=True)):
        total = sum(row)
        cells = [_count_cell(count, total) for count in row]
        if index == len(names):
            cells[-1] = Cell("")
        rows.append(Row((Cell(label), *cells)))
    columns = ("labeled", *(f"detected as {name}" for name in names), "missed")
    lede = (
        f"Detections above confidence {metrics.operating_point.threshold:.2f}, matched at IoU {metrics.match_iou}; "
        "below each count its share of the row."
    )
    return html.Section("Confusion matrix", (html.table(columns, rows),), lede)


def _count_cell(count: int, total: int) -> Cell:
    if not total:
        return Cell(f"{count:,}")
    return Cell(f"{count:,}", f"{100 * count / total:.0f} %", shade=count / total)


def _error_types(metrics: Metrics) -> html.Section:
    most = max((one.cost for one in metrics.error_types.values()), default=0.0) or 1.0
    rows = [
        (name, f"{one.count:,}", Cell(f"{100 * one.cost:.1f}"), Cell("", chart=charts.bar(one.cost / most, series=2)))
        for name, one in metrics.error_types.items()
    ]
    columns = ("error type", f"count above {metrics.operating_point.threshold:.2f}", "cost, points of mAP 0.5", "")
    lede = "After TIDE. The cost is what mAP 0.5 would gain if the errors of this type alone were corrected."
    return html.Section("Error types", (html.table(columns, rows),), lede)


def _cells(metrics: Metrics) -> html.Section:
    sources = list(dict.fromkeys(one.source for one in metrics.cells))
    rows: list[Row] = []
    for name in metrics.classes:
        rows.append(html.group(f"labeled {name}"))
        for pooled in (one for one in metrics.pooled_cells if one.name == name):
            own = {one.source: one for one in metrics.cells if (one.name, one.size) == (name, pooled.size)}
            train = "-" if pooled.train is None else f"{pooled.train:,}"
            rows.append(Row((Cell(pooled.size), Cell(train), *(_cell(own[source]) for source in sources))))
    columns = ("size", "in training", *(source or "all sources" for source in sources))
    return html.Section("By class and size", (html.table(columns, rows),), wording.ABOUT_CELLS)


def _cell(one: CellMetrics) -> Cell:
    if not one.n:
        return Cell("", flag=wording.NOT_MEASURED)
    note = f"{between(one.interval)}, n = {one.n:,}: {one.wrong:,} wrong, {one.missed:,} missed"
    return Cell(percent(one.right), note, flag="too few" if one.too_few else "", shade=one.right or 0.0)


def _slices(metrics: Metrics) -> html.Section:
    rows: list[Row] = []
    for by in dict.fromkeys(one.by for one in metrics.slices):
        rows.append(html.group(f"by {by}"))
        for one in metrics.slices:
            if one.by == by:
                map50 = one.estimate("map50")
                cells = (Cell(one.name, flag=_flag(one.too_few)), Cell(f"{one.images:,}"), Cell(f"{one.n:,}"))
                chart = Cell("", chart=charts.bar(map50.value, map50.interval))
                rates = (metric_cell(one.estimate(key)) for key in ("precision", "recall"))
                rows.append(Row((*cells, metric_cell(map50), chart, *rates)))
    columns = ("slice", "images", "faces", "mAP 0.5", "", "precision", "recall")
    lede = (
        "Precision and recall are at the operating point. A face's size is the square root of its box's area, in "
        "pixels of the original image."
    )
    return html.Section("Slices", (html.table(columns, rows),), lede)


def _shortcuts(audit: Audit | None, galleries: Mapping[str, Path]) -> html.Section:
    if audit is None:
        return html.Section("Shortcuts", (html.paragraph("Not measured: run fmask audit."),))
    rows: list[Row] = []
    for title, belongs in _GROUPS:
        own = [one for one in audit.perturbations if belongs(one)]
        if own:
            rows += [html.group(title), *map(_perturbation_row, own)]
    columns = ("perturbation", "of a face labeled", "faces", "flipped", "lost", "failed", "", "control", "excess")
    right = ", ".join(
        f"{audit.faces.right[name]} of {count} {name} (of {audit.faces.labeled[name]} labeled)"
        for name, count in audit.faces.large.items()
    )
    controls = "; ".join(
        f"{one.control}, {one.name}: {one.flipped} flipped and {one.lost} lost of {one.n}" for one in audit.controls
    )
    about = (
        f"Perturbed are faces of {MIN_FACE_SIDE:g} px or more that the model detects with the right class on an "
        f"untouched copy, re-encoded in the same way: {right}. Detections count above confidence "
        f"{audit.threshold:.2f}. Intervals are from resampled scene groups. {wording.ABOUT_AUDIT} Controls: {controls}."
    )
    doubts = sorted({f"{one.perturbation}: {one.doubt}" for one in audit.perturbations if one.doubt})
    parts = [html.paragraph(wording.audit_summary(audit)), html.table(columns, rows, text_columns=2), html.small(about)]
    parts.append(html.small(f"Not counted in the headline: {'; '.join(doubts)}."))
    return html.Section("Shortcuts", (*parts, *_gallery(galleries, "shortcuts.jpg", "Perturbed faces, wrong first")))


def _perturbation_row(one: PerturbationRate) -> Row:
    estimate = Estimate(one.rate, one.interval)
    failed = metric_cell(estimate) if one.measurable else Cell("", flag=wording.NOT_MEASURABLE)
    chart = charts.bar(one.rate, one.interval, series=1 if one.must_change else 2)
    counts = (Cell(f"{count:,}") for count in (one.n, one.flipped, one.lost))
    flag = "beyond chance" if one.named else ""
    control = metric_cell(Estimate(one.control, one.control_interval))
    return Row(
        (
            Cell(one.perturbation, flag=flag), Cell(one.name), *counts, failed, Cell("", chart=chart), control,
            Cell(*_signed_cell(one)),
        )
    )  # fmt: skip


def _signed_cell(one: PerturbationRate) -> tuple[str, str]:
    if one.excess is None or one.excess_interval is None:
        return "-", ""
    low, high = one.excess_interval
    return wording.signed(one.excess), f"{wording.signed(low)} to {wording.signed(high)}"


def _errors(galleries: Mapping[str, Path]) -> html.Section:
    alt = "Crops of the worst errors with the labeled and detected boxes"
    return html.Section("Worst errors", tuple(_gallery(galleries, "errors.jpg", alt)))


def _label_errors(metrics: Metrics, galleries: Mapping[str, Path]) -> html.Section:
    alt = "Crops of the most suspicious labels with the detected boxes"
    parts = list(_gallery(galleries, "label_errors.jpg", alt))
    rows = [
        (one.image, f"{one.kind} ({one.name})", f"{one.score:.2f}") for one in metrics.label_errors[:_MAX_LABEL_ERRORS]
    ]
    if rows:
        parts.append(html.table(("image", "suspected", "score"), rows, text_columns=2))
    lede = (
        "The model contradicts these labels. Look before you change anything: it can be wrong. The score ranks each"
        " cause by how many labels with such an error would show as much evidence, over those that do. It is worth most"
        " on images that the model was not trained on: on its training images, a model repeats the errors of their"
        " labels. `fmask evaluate --suspects` asks about each on a local page, and saves the answers in fixes.yaml."
    )
    return html.Section("Suspected label errors", tuple(parts), lede)


def _gallery(galleries: Mapping[str, Path], name: str, alt: str) -> Iterator[Markup]:
    if name in galleries:
        yield html.figure(html.embed_file(galleries[name], alt))


def _data(metrics: Metrics, card: EnsembleCard) -> html.Section:
    rows = [
        Row(
            (
                Cell(f"{split}, evaluated here" if split == metrics.split else split),
                Cell(f"{count:,}"),
                *(Cell(f"{card.faces[split][name]:,}") for name in metrics.classes),
            ),
            "total" if split == metrics.split else "",
        )
        for split, count in card.splits.items()
    ]
    caption = f"Ensemble {card.name}" + (f": {card.description}" if card.description else "")
    parts = [html.bullets(map(_plain, wording.method(metrics)))]
    parts.append(html.table(("split", "images", *metrics.classes), rows, caption))
    if metrics.label_agreement is not None:
        parts.append(html.paragraph(wording.agreement_summary(metrics.label_agreement)))
    return html.Section("Data and method", tuple(parts))
