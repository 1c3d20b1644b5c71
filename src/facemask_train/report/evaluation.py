"""The report as one page that opens from disk: everything is in it, nothing is loaded, no script runs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facemask_train.core.types import CLASSES
from facemask_train.dataset.card import EnsembleCard
from facemask_train.eval.perturbations.shortcuts import LEAST_SIDE
from facemask_train.model.validation import Curves
from facemask_train.report import charts, wording
from facemask_train.report.charts import Line
from facemask_train.report.html import environment

COLOURS = dict(zip(CLASSES, ("var(--a)", "var(--b)"), strict=True))


def page(
    title: str,
    found: Mapping[str, Any],
    curves: Curves,
    run: Mapping[str, Any],
    card: EnsembleCard,
    images: Mapping[str, Path],
) -> str:
    """Return an evaluation's report as HTML.

    Args:
        found: what `metrics.json` holds.
        run: the run's `run.json`.
        card: of the ensemble that was scored.
        images: files to put into the page, by name.
    """
    return render(
        "report.html",
        title=title,
        found=found,
        run=run,
        card=card,
        who=wording.who(found, run, card),
        limits=wording.limits(found, run, card.hash, card.notes),
        scored=wording.scored(found),
        charts=_charts(found, curves),
        slices=_by(found["slices"]),
        most_costly=max(one["cost"] for one in found["mistakes"].values()),
        least_side=f"{LEAST_SIDE:g}",
        images={name: inlined(path) for name, path in images.items()},
    )


def _by(slices: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return slices by what they were cut by, in their order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in slices:
        found.setdefault(one["by"], []).append(one)
    return found


def render(template: str, **values: Any) -> str:
    """Fill one of the package's templates; texts are escaped, charts are not."""
    filled = environment(Path(__file__).parent / "templates")
    filled.filters |= {"percent": wording.percent, "between": wording.between, "rate": wording.rate}
    filled.globals |= {"words": wording, "bar": charts.bar, "CLASSES": CLASSES, "COLOURS": COLOURS}
    return filled.get_template(template).render(**values)


def inlined(path: Path) -> str:
    """Return an image as a data URL."""
    kind = "png" if path.suffix == ".png" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _charts(found: Mapping[str, Any], curves: Curves) -> dict[str, str]:
    axis = curves.axis.tolist()

    def line(name: str, values: Any, what: str = "", dash: str = "") -> Line:
        label = f"{name}{what}"
        return Line(label, COLOURS[name], list(zip(axis, values.tolist(), strict=True)), dash)

    rows = list(enumerate(curves.names))
    precision_recall = [line(name, curves.precision_at_recall[i]) for i, name in rows]
    against = [
        line(name, values[i], f", {what}", dash)
        for i, name in rows
        for what, values, dash in (
            ("F1", curves.f1, ""),
            ("precision", curves.precision, "6 4"),
            ("recall", curves.recall, "2 4"),
        )
    ]
    point = found["operating_point"]["threshold"]
    return {
        "precision_recall": charts.lines(precision_recall, "recall", "precision"),
        "against_confidence": charts.lines(against, "confidence", "", mark=point, note=f"operating point {point:.2f}"),
        "reliability": charts.reliability(found["calibration"]["bins"]),
    }
