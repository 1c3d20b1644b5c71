"""The page of `fmask inspect`: what an ensemble holds, for a person to read and to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.types import SPLITS
from facemask_train.dataset.contents import Held, Holdings
from facemask_train.dataset.summary import QUANTILES, EnsembleSummary, ImageCounts, share
from facemask_train.report import html
from facemask_train.report.dataset.thumbnails import draw, marks_of, spread

if TYPE_CHECKING:
    from markupsafe import Markup

_SHOWN = 24  # images of each split
_SHEET_WIDTH = 1180  # pixels; what the page is wide
_BUCKETS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 9), (10, 19), (20, 49), (50, None))  # faces
_AGREED = ("images", "matched", "flipped", "only_kept", "only_copy")


def inspection_page(held: Holdings, summary: EnsembleSummary, more: Sequence[html.Section]) -> bytes:
    """Return the page.

    Args:
        more: sections to add at the end.
    """
    return html.page(
        f"What {held.name} holds",
        [*_sections(held, summary), *more],
        kicker="fmask · ensemble",
        lede=held.card.description,
        opening=_opening(summary),
        footer=f"Ensemble {held.name}, hash {summary.hash}. Made by fmask inspect; all of it is in the ensemble's own"
        " manifest.parquet, groups.parquet, problems.parquet and ensemble.json.",
    )


def _opening(summary: EnsembleSummary) -> list[Markup]:
    images, faces = summary.split_images, {name: summary.faces_of(name) for name in summary.classes}
    groups = summary.groups
    copies = sum(summary.copies.values())
    by_split = ", ".join(f"{split} {images[split]:,}" for split in SPLITS)
    figures = [
        html.KeyFigure(f"{images.total:,}", "images", by_split),
        html.KeyFigure(f"{sum(faces.values()):,}", "faces", f"no_mask {share(faces, 'no_mask')}"),
        html.KeyFigure(f"{copies:,}", "augmented copies", "in train alone" if copies else "none were asked for"),
        html.KeyFigure(f"{groups.images:,}", "published images with a copy", f"in {groups.groups:,} groups"),
        html.KeyFigure(f"{summary.leaks:,}", "leaks between splits", "images of val or test with kin before them"),
    ]
    return [html.key_figures(figures), *([html.notes(summary.notes)] if summary.notes else [])]


def _sections(held: Holdings, summary: EnsembleSummary) -> Iterator[html.Section]:
    yield _classes(summary)
    yield _sizes(summary)
    yield _origins(summary)
    yield _groups(summary)
    if summary.face_edits:
        yield _face_edits(summary)
    yield _problems(summary)
    yield from _sheets(held)
    if sheets := sorted((held.folder / "transforms").glob("*.jpg")):
        yield _transforms(sheets)


def _classes(summary: EnsembleSummary) -> html.Section:
    faces, alone = summary.faces, summary.faces_of_originals
    rows = [(split, [faces[split][name] for name in summary.classes]) for split in SPLITS]
    if summary.copies:
        rows.insert(1, ("train, originals alone", [alone["train"][name] for name in summary.classes]))
    told = [
        (
            split,
            f"{summary.split_images[split]:,}",
            *(f"{faces[split][name]:,}" for name in summary.classes),
            share(faces[split], "no_mask"),
        )
        for split in SPLITS
    ]
    columns = ("split", "images", *summary.classes, "no_mask, share")
    chart = html.bars(rows, summary.classes, "Faces in each split")
    return html.Section("Classes", (html.pair(chart, html.table(columns, told)),))


def _sizes(summary: EnsembleSummary) -> html.Section:
    bins, sizes = summary.size_histogram, summary.sizes
    chart = html.histogram(
        [f"{edge}+" if place == len(bins.edges) - 1 else str(edge) for place, edge in enumerate(bins.edges)],
        [(name, bins.faces[name]) for name in summary.classes],
        axis="shorter side from, px",
        caption="Faces by the shorter side of their box",
    )
    rows = [(name, f"{sizes[name].n:,}", *map(_px, sizes[name].values)) for name in summary.classes]
    return html.Section(
        "Sizes",
        (
            html.pair(chart, _per_image(summary)),
            html.table(("shorter side, px", "faces", *QUANTILES), rows, "p5: 5 % of the faces are smaller"),
        ),
        "In the pixels of the published image, originals alone: an augmented copy repeats its faces.",
    )


def _px(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _per_image(summary: EnsembleSummary) -> Markup:
    found = summary.faces_per_image
    columns = [
        sum(images for faces, images in found.items() if low <= faces and (high is None or faces <= high))
        for low, high in _BUCKETS
    ]
    ticks = [f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}" for low, high in _BUCKETS]
    return html.histogram(
        ticks, [("images", columns)], axis="faces in an image", caption="Images by how many faces they have"
    )


def _origins(summary: EnsembleSummary) -> html.Section:
    sources, copies = summary.sources, summary.copies
    rows = []
    for source, splits in sources.items():
        cells = [splits[split] for split in SPLITS]
        rows.append((source, *_images_and_faces(cells)))
    totals = [
        ImageCounts(
            sum(splits[split].images for splits in sources.values()),
            sum(splits[split].faces for splits in sources.values()),
        )
        for split in SPLITS
    ]
    rows.append(("all originals", *_images_and_faces(totals)))
    parts = [html.table(("source", *SPLITS, "images", "faces"), rows, "In each split: images / faces")]
    if copies:
        made = [(name, f"{count:,}") for name, count in copies.items()]
        parts.append(html.table(("augmented copies in train", "images"), made))
    return html.Section("Sources", tuple(parts), "An image counts for the source that its kept copy is of.")


def _images_and_faces(cells: list[ImageCounts]) -> list[str]:
    each = [f"{one.images:,} / {one.faces:,}" for one in cells]
    return [*each, f"{sum(one.images for one in cells):,}", f"{sum(one.faces for one in cells):,}"]


def _groups(summary: EnsembleSummary) -> html.Section:
    groups, overlap, agreement = summary.groups, summary.overlap, summary.agreement
    kept = "Of each, one is kept." if summary.images.merged else "None were merged: the split is as published."
    told = (
        f"{groups.images:,} published images are in {groups.groups:,} groups of the same image (re-encoded,"
        f" rescaled, cropped a little, turned or mirrored); the largest has {groups.largest}. {kept}"
        f" {groups.excluded:,} groups went because one of them shows a mask worn incorrectly, and"
        f" {groups.conflicts:,} because their copies contradict each other."
    )
    parts = [html.paragraph(told)]
    matrix = [(one, *(f"{others[other]:,}" for other in overlap)) for one, others in overlap.items()]
    parts.append(html.table(("images of", *(f"with a copy in {name}" for name in overlap)), matrix))
    if agreement:
        rows = [
            (f"{one.kept} / {one.copy}", *(f"{getattr(one, key):,}" for key in _AGREED), _iou(one.median_iou))
            for one in agreement
        ]
        columns = ("kept / copy", "images", "matched", "other class", "kept alone", "copy alone", "median IoU")
        parts += [html.heading("How copies' boxes agree"), html.table(columns, rows)]
        parts.append(html.small("Copies may have one author: this says nothing of how well people agree."))
    return html.Section("Copies", tuple(parts))


def _iou(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _face_edits(summary: EnsembleSummary) -> html.Section:
    edits = summary.face_edits
    outcomes = sorted({outcome for kinds in edits.values() for outcome in kinds}, key=lambda one: (one != "done", one))
    rows = [
        ("none" if kind == "-" else kind, *(f"{found.get(outcome, 0):,}" for outcome in outcomes))
        for kind, found in edits.items()
    ]
    lede = "Faces of the face-aware copies: which edit was drawn, and where it was left and why."
    return html.Section("Edited faces", (html.table(("edit", *outcomes), rows),), lede)


def _problems(summary: EnsembleSummary) -> html.Section:
    rows = [(f"{one.item} {one.action}: {one.cause}", f"{one.count:,}") for one in summary.issues]
    if not rows:
        return html.Section("Problems", (html.paragraph("Nothing was repaired, merged or refused."),))
    lede = "Every image and box that was repaired, merged or refused, by cause."
    return html.Section("Problems", (html.table(("what and why", "count"), rows),), lede)


def _sheets(held: Holdings) -> Iterator[html.Section]:
    for split in SPLITS:
        images = held.of_split(split)
        shown = spread(images, _SHOWN)
        items = [draw(held.folder / one.image, marks_of(one.labels), one.size, caption=_caption(one)) for one in shown]
        parts = (
            (html.legend(held.card.classes), html.grid(items)) if items else (html.paragraph("This split is empty."),)
        )
        lede = f"{len(shown):,} of {len(images):,} images, spread evenly over the sources, with their boxes."
        yield html.Section(f"Images of {split}", parts, lede)


def _caption(one: Held) -> str:
    return f"{one.source} · {one.source_image}" + (f" · {one.copy}" if one.copy else "")


def _transforms(sheets: list[Path]) -> html.Section:
    from PIL import Image

    parts = []
    for sheet in sheets:
        with Image.open(sheet) as opened:
            image = opened.convert("RGB")
        image.thumbnail((_SHEET_WIDTH, 20 * _SHEET_WIDTH))
        caption = f"What copy “{sheet.stem}” does."
        parts.append(html.figure(html.embed(image, caption), caption))
    return html.Section("Augmented copies", tuple(parts), "Drawn when the ensemble was built.")
