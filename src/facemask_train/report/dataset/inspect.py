"""`fmask inspect`: summarizes an ensemble, in figures and on a page with samples of its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.types import SPLITS
from facemask_train.dataset.contents import EnsembleContents, EnsembleImage, page_path, read_contents
from facemask_train.dataset.summary import QUANTILES, EnsembleSummary, ImageCounts, share, summarize
from facemask_train.report import html
from facemask_train.report.dataset.duplicates import group_sections
from facemask_train.report.dataset.thumbnails import marks_of, sample_evenly, thumbnail

if TYPE_CHECKING:
    from markupsafe import Markup

_SHOWN = 24  # images of each split
_SHEET_WIDTH = 1180  # pixels; the width of the page
_BUCKETS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 9), (10, 19), (20, 49), (50, None))  # faces
_AGREED = ("images", "matched", "flipped", "only_kept", "only_merged")


@dataclass(frozen=True, slots=True)
class Inspection:
    """The page, and the figures that it shows."""

    path: Path
    summary: EnsembleSummary


def inspect(root: Path, version: str, *, duplicates: bool = False) -> Inspection:
    """Summarize an ensemble, and write `data/inspect/VERSION.html` or `VERSION-duplicates.html`.

    Args:
        version: name (`v5`), number (`5`) or path of an ensemble.
        duplicates: also show the images of the groups of duplicates.

    Raises:
        MissingError: there is no such ensemble.
        DataError: a table is missing or damaged.
        StorageError: the page cannot be written.
    """
    contents = read_contents(root, version)
    summary = summarize(contents)
    more = list(group_sections(root, contents)) if duplicates else []
    path = page_path(root, f"{contents.name}-duplicates" if duplicates else contents.name)
    html.write(path, _page(contents, summary, more))
    return Inspection(path, summary)


def _page(contents: EnsembleContents, summary: EnsembleSummary, more: Sequence[html.Section]) -> bytes:
    """Return the page.

    Args:
        more: sections to add at the end.
    """
    return html.page(
        f"Ensemble {contents.name}",
        [*_sections(contents, summary), *more],
        kicker="fmask · inspect",
        lede=contents.card.description,
        opening=_opening(summary),
        footer=f"Ensemble {contents.name}, hash {summary.hash}. Made by fmask inspect from manifest.parquet,"
        " groups.parquet, issues.parquet and ensemble.json of the ensemble.",
    )


def _opening(summary: EnsembleSummary) -> list[Markup]:
    images, faces = summary.split_images, {name: summary.faces_of(name) for name in summary.classes}
    groups = summary.groups
    copies = sum(summary.copies.values())
    by_split = ", ".join(f"{split} {images[split]:,}" for split in SPLITS)
    figures = [
        html.KeyFigure(f"{images.total:,}", "images", by_split),
        html.KeyFigure(f"{sum(faces.values()):,}", "faces", f"no_mask {share(faces, 'no_mask')}"),
        html.KeyFigure(f"{copies:,}", "augmented copies", "only in train" if copies else "none in the recipe"),
        html.KeyFigure(f"{groups.images:,}", "published images with a duplicate", f"in {groups.groups:,} groups"),
        html.KeyFigure(
            f"{summary.leaks:,}",
            "leaks between splits",
            "images of val or test with a near-duplicate in an earlier split",
        ),
    ]
    return [html.key_figures(figures), *([html.notes(summary.notes)] if summary.notes else [])]


def _sections(contents: EnsembleContents, summary: EnsembleSummary) -> Iterator[html.Section]:
    yield _classes(summary)
    yield _sizes(summary)
    yield _origins(summary)
    yield _groups(summary)
    if summary.face_edits:
        yield _face_edits(summary)
    yield _issues(summary)
    yield from _sheets(contents)
    if sheets := sorted((contents.folder / "transforms").glob("*.jpg")):
        yield _transforms(sheets)


def _classes(summary: EnsembleSummary) -> html.Section:
    faces, alone = summary.faces, summary.faces_of_originals
    rows = [(split, [faces[split][name] for name in summary.classes]) for split in SPLITS]
    if summary.copies:
        rows.insert(1, ("train, originals only", [alone["train"][name] for name in summary.classes]))
    table_rows = [
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
    return html.Section("Classes", (html.pair(chart, html.table(columns, table_rows)),))


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
        "In pixels of the published images, without augmented copies, which repeat their faces.",
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
        ticks, [("images", columns)], axis="faces in an image", caption="Images by their number of faces"
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
        copy_rows = [(name, f"{count:,}") for name, count in copies.items()]
        parts.append(html.table(("augmented copies in train", "images"), copy_rows))
    return html.Section(
        "Sources", tuple(parts), "An image with duplicates counts for the source of the image that was kept."
    )


def _images_and_faces(cells: list[ImageCounts]) -> list[str]:
    each = [f"{one.images:,} / {one.faces:,}" for one in cells]
    return [*each, f"{sum(one.images for one in cells):,}", f"{sum(one.faces for one in cells):,}"]


def _groups(summary: EnsembleSummary) -> html.Section:
    groups, overlap, agreement = summary.groups, summary.overlap, summary.agreement
    kept = (
        "One image of each group is kept." if summary.images.merged else "None were merged: the split is as published."
    )
    text = (
        f"{groups.images:,} published images are in {groups.groups:,} groups of duplicates (re-encoded, rescaled,"
        f" slightly cropped, rotated or mirrored); the largest has {groups.largest}. {kept}"
        f" {groups.excluded:,} groups were refused because one image shows an incorrectly worn mask, and"
        f" {groups.conflicts:,} because their labels conflict."
    )
    parts = [html.paragraph(text)]
    matrix = [(one, *(f"{others[other]:,}" for other in overlap)) for one, others in overlap.items()]
    parts.append(html.table(("images of", *(f"with a duplicate in {name}" for name in overlap)), matrix))
    if agreement:
        rows = [
            (f"{one.kept} / {one.merged}", *(f"{getattr(one, key):,}" for key in _AGREED), _iou(one.median_iou))
            for one in agreement
        ]
        columns = ("kept / merged", "images", "matched", "other class", "only kept", "only merged", "median IoU")
        parts += [html.heading("How the boxes of duplicates agree"), html.table(columns, rows)]
        parts.append(
            html.small(
                "Duplicates may have been labeled by the same person: this is not an agreement between annotators."
            )
        )
    return html.Section("Duplicates", tuple(parts))


def _iou(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _face_edits(summary: EnsembleSummary) -> html.Section:
    edits = summary.face_edits
    outcomes = sorted({outcome for kinds in edits.values() for outcome in kinds}, key=lambda one: (one != "done", one))
    rows = [
        ("none" if kind == "-" else kind, *(f"{found.get(outcome, 0):,}" for outcome in outcomes))
        for kind, found in edits.items()
    ]
    lede = "Faces of face-aware augmented copies: which edits were drawn, and why others were skipped."
    return html.Section("Edited faces", (html.table(("edit", *outcomes), rows),), lede)


def _issues(summary: EnsembleSummary) -> html.Section:
    rows = [(f"{one.item} {one.action}: {one.cause}", f"{one.count:,}") for one in summary.issues]
    if not rows:
        return html.Section("Issues", (html.paragraph("Nothing was repaired, merged or refused."),))
    lede = "Every image and box that was repaired, merged or refused, by cause."
    return html.Section("Issues", (html.table(("what and why", "count"), rows),), lede)


def _sheets(contents: EnsembleContents) -> Iterator[html.Section]:
    for split in SPLITS:
        images = contents.of_split(split)
        shown = sample_evenly(images, _SHOWN)
        items = [
            thumbnail(contents.folder / one.image, marks_of(one.labels), one.size, caption=_caption(one))
            for one in shown
        ]
        parts = (
            (html.legend(contents.card.classes), html.grid(items))
            if items
            else (html.paragraph("This split is empty."),)
        )
        lede = f"{len(shown):,} of {len(images):,} images, sampled evenly over the sources, with their boxes."
        yield html.Section(f"Images of {split}", parts, lede)


def _caption(one: EnsembleImage) -> str:
    return f"{one.source} · {one.source_image}" + (f" · {one.copy}" if one.copy else "")


def _transforms(sheets: list[Path]) -> html.Section:
    from PIL import Image

    parts = []
    for sheet in sheets:
        with Image.open(sheet) as opened:
            image = opened.convert("RGB")
        image.thumbnail((_SHEET_WIDTH, 20 * _SHEET_WIDTH))
        caption = f"The transforms of copy “{sheet.stem}”."
        parts.append(html.figure(html.embed(image, caption), caption))
    return html.Section("Augmented copies", tuple(parts), "Drawn when the ensemble was built.")
