"""An evaluation's page in Markdown: the reference's table, numbers with intervals, where it fails, and the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facemask_train.core.types import CLASSES
from facemask_train.dataset.card import EnsembleCard
from facemask_train.report import wording
from facemask_train.report.wording import percent, with_interval

_FOUR = ("map50", "map50_95", "precision", "recall")
_ALT = {
    "curves.png": "Precision and recall curves",
    "confusion.png": "Confusion matrix",
    "misses.jpg": "The worst misses",
    "suspects.jpg": "Suspected label errors",
}


def page(
    title: str, found: Mapping[str, Any], run: Mapping[str, Any], card: EnsembleCard, images: Sequence[str]
) -> str:
    """Return the report.

    Args:
        found: what `metrics.json` holds.
        run: the run's `run.json`.
        card: of the ensemble that was scored.
        images: names of the image files beside the report.
    """
    row = (*wording.who(found, run, card), *(percent(found[key]) for key in _FOUR))
    columns = (*wording.REFERENCE_COLUMNS, *(wording.NUMBERS[key] for key in _FOUR))
    parts = [
        f"# {title}",
        table(columns, [row, (*wording.PUBLISHED["who"], *wording.PUBLISHED["numbers"])]),
        wording.ABOUT_PUBLISHED,
        f"## With intervals, by class\n\n{by_class(found)}",
        f"## Where it fails\n\n{failures(found)}",
        f"## Shortcuts\n\n{shortcuts(found.get('audit'))}",
        f"## What was scored\n\n{bullets(wording.scored(found))}",
        f"## Limits\n\n{bullets(wording.limits(found, run, card.hash, card.notes))}",
        *([wording.copies(found["agreement_of_copies"])] if found.get("agreement_of_copies") else []),
        *(f"![{_ALT[name]}]({name})" for name in images),
    ]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def by_class(found: Mapping[str, Any]) -> str:
    """Return an evaluation's numbers by class, and those at the operating point."""
    header = ("class", "faces (n)", "images", *wording.NUMBERS.values())
    whole = {**found, "n": found["boxes"]}
    rows = []
    for name in ("all", *CLASSES):
        row = whole if name == "all" else found["per_class"][name]
        bounds = found["intervals"] if name == "all" else found["intervals"]["per_class"][name]
        mark = " (too few to measure)" if row["few"] else ""
        numbers = (with_interval(row[key], bounds[key]) for key in wording.NUMBERS)
        rows.append((name, f"{row['n']}{mark}", str(row["images"]), *numbers))
    point = found["operating_point"]
    numbers = (f"{key} {with_interval(point[key], point['intervals'][key])}" for key in ("precision", "recall", "f1"))
    return (
        f"{table(header, rows)}\n\nIn percent, with intervals at 95 %. At the operating point (confidence "
        f"{point['threshold']:.3f}): {', '.join(numbers)}."
    )


def failures(found: Mapping[str, Any]) -> str:
    """Return an evaluation's mistakes, slices and calibration."""
    kinds = [(name, str(one["count"]), f"{100 * one['cost']:.1f}") for name, one in found["mistakes"].items()]
    slices = [
        (
            one["by"], one["name"], str(one["images"]), f"{one['n']}{' (too few)' if one['few'] else ''}",
            with_interval(one["map50"], one["intervals"]["map50"]),
            with_interval(one["recall"], one["intervals"]["recall"]),
        )
        for one in found["slices"]
    ]  # fmt: skip
    error = found["calibration"]["error"]
    return "\n\n".join(
        [
            table(("mistake", "count", "points of mAP 0.5 that it costs"), kinds),
            table(("slice by", "slice", "images", "faces", "mAP 0.5", "recall"), slices),
            f"Expected calibration error: {percent(error)} points, over {found['calibration']['n']:,} detections from "
            f"confidence {found['calibration']['from']}. Images with a suspected label error: "
            f"{len(found['suspects'])}.",
        ]
    )


def shortcuts(audit: Mapping[str, Any] | None) -> str:
    """Return what an audit found, edit by edit."""
    if audit is None:
        return "Not asked: `fmask audit`."
    rows = [
        (
            one["kind"], one["faces_of"], "yes" if one["must_change"] else "no", "yes" if one["seen"] else "no",
            str(one["n"]), wording.rate(one), str(one["lost"]),
        )
        for one in audit["kinds"]
    ]  # fmt: skip
    header = ("edit", "faces", "must change", "training may know it", "n", "flipped", "lost")
    return f"{wording.headline_of(audit)}\n\n{table(header, rows)}"
