"""The pages of a comparison, in HTML and Markdown, with the faces that two runs disagree on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.files import write_bytes
from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.average_precision import RankedDetections
from facemask_train.eval.measures.bootstrap import Estimate
from facemask_train.eval.measures.paired_bootstrap import Difference, Disagreement, ScoredModel
from facemask_train.eval.records.comparison import Comparison
from facemask_train.report import charts, galleries, html, markdown, wording
from facemask_train.report.charts import Line
from facemask_train.report.evaluation import metric_cell
from facemask_train.report.html import Cell, Row
from facemask_train.report.wording import METRIC_LABELS, percent, signed

if TYPE_CHECKING:
    from markupsafe import Markup

_GALLERY = "disagreements.jpg"
_MAX_SERIES = len(html.SERIES)


def write(
    folder: Path,
    comparison: Comparison,
    models: Sequence[ScoredModel],
    apart: Sequence[Disagreement],
    data: Path,
) -> None:
    """Write the pages of a comparison.

    Args:
        models: the scored runs, in the order of `comparison.runs`.
        apart: the faces that the first and the last run disagree on.
        data: the ensemble's folder; without it there is no contact sheet.
    """
    names = [one.run for one in comparison.runs]
    title = (
        f"{' and '.join(names) if len(names) < 4 else f'{len(names)} runs'} on {comparison.ensemble}, "
        f"{comparison.split}"
    )
    gallery = None
    if data.is_dir() and all((data / one.result.image).is_file() for one in apart[: galleries.MAX_DISAGREEMENTS]):
        galleries.draw_disagreements(apart, (names[0], names[-1]), data, folder / _GALLERY)
        gallery = html.embed_file(folder / _GALLERY, "Faces that only one of the runs gets right, as each detects them")
    html.write(folder / "report.html", _page(title, comparison, models, gallery))
    write_bytes(folder / "report.md", _markdown(title, comparison).encode())


def _page(
    title: str, comparison: Comparison, models: Sequence[ScoredModel], gallery: html.EmbeddedImage | None
) -> bytes:
    lede = (
        f"{comparison.images:,} images, the same for all runs. Metrics are in percent, differences in percentage "
        "points. The 95 % intervals of all differences hold together (max-T, from a paired bootstrap over "
        f"{comparison.scenes:,} scene groups)."
    )
    opening = [html.lead(comparison.verdict)]
    if len(comparison.pairs) > 1 or comparison.recipes is not None:
        opening.append(html.bullets(one.verdict for one in comparison.pairs))
    sections = (_metrics(comparison), _curves(comparison, models), _disagreements(comparison, gallery))
    return html.page(title, sections, kicker="Comparison", lede=lede, opening=opening)


def _metrics(comparison: Comparison) -> html.Section:
    rows = []
    for run in comparison.runs:
        bare = run.bare
        shortcut = Cell("not measured")
        if bare is not None and bare.measurable:
            shortcut = metric_cell(Estimate(bare.excess, bare.excess_interval))
        rows.append(Row((Cell(run.run), *(Cell(percent(getattr(run, key))) for key in METRIC_LABELS), shortcut)))
    for pair in comparison.pairs:
        differences = (_difference_cell(pair.metrics[key]) for key in METRIC_LABELS)
        shortcut = Cell("not measurable") if pair.bare is None else _difference_cell(pair.bare)
        rows.append(Row((Cell(f"{pair.second} minus {pair.first}"), *differences, shortcut), "total"))
    thresholds = ", ".join(f"{one.run} {one.threshold:.2f}" for one in comparison.runs)
    detectable = "; ".join(
        f"{METRIC_LABELS[key]} {100 * max(pair.detectable[key] for pair in comparison.pairs):.1f}"
        for key in METRIC_LABELS
    )
    power = f"Differences that this test set shows 4 times in 5, in points: {detectable}."
    about = f"mAP is COCO's. Precision, recall and F1 are at each run's own operating point ({thresholds})."
    flag = wording.TOO_FEW.capitalize() if comparison.too_few else ""
    table = html.table(("run", *METRIC_LABELS.values(), "bare faces flipped or lost, excess"), rows)
    return html.Section("Metrics", (table, html.small(about), html.small(power)), flag)


def _difference_cell(one: Difference) -> Cell:
    return Cell(signed(one.difference), f"{signed(one.interval[0])} to {signed(one.interval[1])}")


def _curves(comparison: Comparison, models: Sequence[ScoredModel]) -> html.Section:
    drawn: list[Markup] = []
    for name in CLASSES:
        lines = [
            Line(
                run.run,
                index % _MAX_SERIES + 1,
                precision_recall_curve(model.split.ranked[name]),
                "" if index < _MAX_SERIES else "5 4",
            )
            for index, (run, model) in enumerate(zip(comparison.runs, models, strict=True))
        ]
        drawn.append(html.chart(name, charts.line_chart(lines, "recall", "precision")))
    return html.Section("Precision-recall curves", (html.columns(*drawn),), "At IoU 0.5.")


def precision_recall_curve(ranked: RankedDetections) -> list[tuple[float, float]]:
    """Return precision, made non-increasing, against recall at IoU 0.5; nothing without a label."""
    import numpy as np

    labels = int(ranked.labels.sum())
    if not labels or not len(ranked.index):
        return []
    hits = ranked.true_positive[0].cumsum()
    envelope = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    recall = hits / labels
    return [(0.0, float(envelope[0])), *zip(recall.tolist(), envelope.tolist(), strict=True), (float(recall[-1]), 0.0)]


def _disagreements(comparison: Comparison, gallery: html.EmbeddedImage | None) -> html.Section:
    if gallery is not None:
        return html.Section("Where they disagree", (html.figure(gallery),))
    text = f"{comparison.disagreements} faces. They cannot be shown: the ensemble's images are no longer there."
    return html.Section("Where they disagree", (html.paragraph(text),))


def _markdown(title: str, comparison: Comparison) -> str:
    scores = [(one.run, *(percent(getattr(one, key)) for key in METRIC_LABELS)) for one in comparison.runs]
    rows = [
        (
            f"{one.second} minus {one.first}",
            *(wording.difference_with_interval(one.metrics[key]) for key in METRIC_LABELS),
        )
        for one in comparison.pairs
    ]
    note = (
        "Metrics are in percent, differences in percentage points with 95 % intervals that hold "
        "together; precision, recall and F1 are at "
        "each run's operating point."
    )
    header = ("", *METRIC_LABELS.values())
    parts = [f"# {title}", comparison.verdict, markdown.table(header, [*scores, *rows]), note]
    return "\n\n".join(parts) + "\n"
