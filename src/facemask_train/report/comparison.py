"""A comparison's pages: Markdown and HTML, curves over each other, and a gallery of the faces they disagree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facemask_train.core.drawing import DETECTED, LABELLED, open_upright
from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.average_precision import Ranked
from facemask_train.eval.measures.paired_bootstrap import Disagreement, Side
from facemask_train.report import charts
from facemask_train.report.charts import Line
from facemask_train.report.contact_sheet import BAD, GOOD, Band, Tile, crop, draw_gallery, window
from facemask_train.report.evaluation import inlined, render
from facemask_train.report.markdown import table
from facemask_train.report.wording import NUMBERS, percent

_SHOWN, _COLUMNS = 18, 6
_COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--soft)")
GALLERY = "disagreements.jpg"


def write(
    folder: Path,
    found: Mapping[str, Any],
    names: Sequence[str],
    sides: Sequence[Side],
    apart: Sequence[Disagreement],
    data: Path,
) -> None:
    """Write the pages of a comparison.

    Args:
        apart: the faces on which the first and the last run disagree.
        data: the ensemble's folder; without it there is no gallery.
    """
    images = {}
    if data.is_dir() and all((data / one.result.image).is_file() for one in apart[:_SHOWN]):
        _draw(apart, (names[0], names[-1]), data, folder / GALLERY)
        images[GALLERY] = inlined(folder / GALLERY)
    curves = {name: charts.lines(_curves(names, sides, name), "recall", "precision") for name in CLASSES}
    title = (
        f"{' and '.join(names) if len(names) < 4 else f'{len(names)} runs'} on {found['ensemble']}, {found['split']}"
    )
    html = render("compare.html", title=title, found=found, curves=curves, images=images)
    (folder / "report.html").write_text(html, encoding="utf-8", newline="\n")
    (folder / "report.md").write_text(_markdown(title, found), encoding="utf-8", newline="\n")


def _markdown(title: str, found: Mapping[str, Any]) -> str:
    scores = [(one["run"], *(percent(one[key]) for key in NUMBERS)) for one in found["runs"]]
    rows = [
        (f"{one['second']} less {one['first']}", *(_signed(one["metrics"][key]) for key in NUMBERS))
        for one in found["pairs"]
    ]
    header = ("", *NUMBERS.values())
    note = (
        "In percent, differences in points with 95 % intervals; precision, recall and F1 at each run's operating point."
    )
    return "\n\n".join([f"# {title}", str(found["verdict"]), table(header, [*scores, *rows]), note]) + "\n"


def _signed(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    return f"{100 * one['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _curves(names: Sequence[str], sides: Sequence[Side], name: str) -> list[Line]:
    return [
        Line(run, _COLOURS[index % len(_COLOURS)], curve(own.sample.ranked[name]), "" if index < 4 else "5 4")
        for index, (run, own) in enumerate(zip(names, sides, strict=True))
    ]


def curve(ranked: Ranked) -> list[tuple[float, float]]:
    """Return precision, made non-increasing, against recall at IoU 0.5: nothing where there is no label."""
    import numpy as np

    labels = int(ranked.labels.sum())
    if not labels or not len(ranked.found):
        return []
    hits = ranked.hit[0].cumsum()
    envelope = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    recall = hits / labels
    return [(0.0, float(envelope[0])), *zip(recall.tolist(), envelope.tolist(), strict=True), (float(recall[-1]), 0.0)]


def _draw(apart: Sequence[Disagreement], names: tuple[str, str], data: Path, path: Path) -> None:
    """Draw each disagreement as two tiles: what the one said, and what the other."""
    tiles = [tile for one in apart[:_SHOWN] for tile in _tiles(one, names, data)]
    right = [sum(one.right == index for one in apart) for index in (0, 1)]
    heading = f"{len(apart)} faces: {names[0]} alone has {right[0]} right, {names[1]} alone {right[1]}"
    note = "each face twice: what the first run said, and what the second"
    draw_gallery([Band(heading, tiles)], "Where they disagree", note, path, columns=_COLUMNS, boxes=True)


def _tiles(one: Disagreement, names: tuple[str, str], data: Path) -> list[Tile]:
    image = open_upright(data / one.result.image)
    around = window([one.label.box.corners], image.width, image.height, around=2.2)
    tiles = []
    for index, answer in enumerate(one.answers):
        boxes = [(one.label.box.corners, LABELLED, True)]
        boxes += [(answer.corners, DETECTED, True)] if answer is not None else []
        said = f"{answer.name} {answer.confidence:.2f}" if answer is not None else "missed"
        colour = GOOD if one.right == index else BAD
        tiles.append(Tile(crop(image, around, boxes), f"{said}  (is {one.label.name})", names[index], colour))
    return tiles
