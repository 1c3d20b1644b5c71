"""The plots of an evaluation as PNG files: curves and the confusion matrix. Computes no metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.drawing import CHART_COLORS, GRAY, INK, chart_style
from facemask_train.eval.records.metrics import Confusion
from facemask_train.model.validation import Curves, Validation
from facemask_train.report.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from facemask_train.core.types import Array


def draw_curves(validation: Validation, path: Path) -> None:
    """Draw precision against recall, and precision, recall and F1 against confidence, at IoU 0.5."""
    from matplotlib.figure import Figure

    curves = validation.curves
    with chart_style():
        figure = Figure(figsize=(10, 3.9), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        _precision_recall(left, validation)
        _against_confidence(right, curves, validation.confidence)
        figure.savefig(path, metadata={"Software": None})  # equal bytes from any version of matplotlib


def _precision_recall(axes: Axes, validation: Validation) -> None:
    curves = validation.curves
    for name, row in zip(curves.names, curves.precision_at_recall, strict=True):
        score = validation.per_class[name]
        label = f"{name}: AP {percent(score.map50)}, n = {score.n}"
        axes.plot(curves.axis, row, color=CHART_COLORS[name], linewidth=1.8, label=label)
    _frame(axes, "Precision against recall", "recall", "precision")
    axes.legend(ncols=2, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), handlelength=1.5)


def _against_confidence(axes: Axes, curves: Curves, confidence: float) -> None:
    styles = (("precision", curves.precision, "--"), ("recall", curves.recall, ":"), ("F1", curves.f1, "-"))
    for index, name in enumerate(curves.names):
        for what, rows, line in styles:
            axes.plot(curves.axis, rows[index], line, color=CHART_COLORS[name], linewidth=1.6, label=f"{what}, {name}")
    axes.axvline(confidence, color=GRAY, linewidth=1)
    side = "left" if confidence < 0.5 else "right"
    text = f" {confidence:.2f}: precision and recall are taken here "
    axes.text(confidence, 1.03, text, color=GRAY, fontsize=8, ha=side, va="bottom")
    _frame(axes, "Against confidence", "confidence", "")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _frame(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(title, pad=20)


def draw_confusion(confusion: Confusion, confidence: float, path: Path) -> None:
    """Draw the confusion matrix: the counts, and the shares of each row."""
    import numpy as np
    from matplotlib.figure import Figure

    counts = np.array(confusion.counts)
    rows = counts.sum(axis=1, keepdims=True)
    shares = counts / rows.clip(min=1)
    with chart_style():
        figure = Figure(figsize=(9, 3.9), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        _matrix(left, confusion.classes, shares, [[str(value) for value in row] for row in counts], "Counts")
        texts = [[f"{value:.0%}" if total else "" for value in row] for row, total in zip(shares, rows, strict=True)]
        _matrix(right, confusion.classes, shares, texts, "Shares of each row")
        figure.suptitle(f"Detections above confidence {confidence:.2f}, matched at IoU 0.5", fontsize=9, color=GRAY)
        figure.savefig(path, metadata={"Software": None})


def _matrix(axes: Axes, classes: Sequence[str], shades: Array, texts: Sequence[Sequence[str]], title: str) -> None:
    last = len(classes)
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1.15)
    for row, cells in enumerate(texts):
        for column, text in enumerate(cells):
            shown = "" if row == column == last else text
            dark = shades[row, column] > 0.6
            axes.text(column, row, shown, ha="center", va="center", fontsize=12, color="white" if dark else INK)
    axes.set_xticks(range(last + 1), [*classes, "missed"])
    axes.set_yticks(range(last + 1), [*classes, "no face"])
    axes.set(xlabel="detected as", ylabel="labeled")
    axes.set_title(title, pad=8)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
