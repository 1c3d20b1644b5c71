"""`fmask diff`: compares two ensembles, in counts and on a page with images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES, SPLITS, Annotation
from facemask_train.dataset.contents import EnsembleContents, EnsembleImage, page_path, read_contents
from facemask_train.dataset.diff import Change, EnsembleDiff, changed_labels, compare_ensembles
from facemask_train.report import html
from facemask_train.report.dataset.thumbnails import Mark, marks_of, sample_evenly, thumbnail

if TYPE_CHECKING:
    from markupsafe import Markup

_SHOWN = 36  # images of each kind of change
_COPIES = 12  # images of each name that is new
_PAIRS = 40  # relabeled images
_PAIR_LONGEST = 420  # pixels


def diff(root: Path, a: str, b: str) -> EnsembleDiff:
    """Compare two ensembles, and write `data/inspect/A-B.html`.

    Args:
        a, b: name (`v5`), number (`5`) or path of an ensemble.

    Raises:
        MissingError: there is no such ensemble.
        DataError: a table is missing or damaged.
        StorageError: the page cannot be written.
    """
    before, after = read_contents(root, a), read_contents(root, b)
    path = page_path(root, f"{before.name}-{after.name}")
    found = compare_ensembles(before, after, path)
    html.write(path, _page(before, after, found))
    return found


def _page(before: EnsembleContents, after: EnsembleContents, found: EnsembleDiff) -> bytes:
    """Return the page."""
    return html.page(
        f"From {before.name} to {after.name}",
        _sections(before, after, found),
        kicker="fmask · changes",
        lede=_summary(found),
        opening=[html.key_figures(_figures(found))],
        footer=f"{before.name}: {before.card.hash}; {after.name}: {after.card.hash}. Made by fmask diff. Images"
        " are identified by their source and their path in it.",
    )


def _summary(found: EnsembleDiff) -> str:
    if found.equal:
        return f"Both are equal: {found.same:,} images with the same labels in the same splits."
    return f"{found.same:,} images are the same in both, in the same split and with the same labels."


def _figures(found: EnsembleDiff) -> list[html.KeyFigure]:
    figures = [
        html.KeyFigure(f"{len(found.added):,}", "added", f"only in {found.after}"),
        html.KeyFigure(f"{len(found.removed):,}", "removed", f"only in {found.before}"),
        html.KeyFigure(f"{len(found.moved):,}", "moved", "to another split"),
        html.KeyFigure(f"{len(found.relabeled):,}", "relabeled", "other classes or boxes"),
    ]
    if found.redrawn:
        figures.append(html.KeyFigure(f"{len(found.redrawn):,}", "redrawn", "the file has other bytes"))
    return figures


def _sections(before: EnsembleContents, after: EnsembleContents, found: EnsembleDiff) -> Iterator[html.Section]:
    yield _splits(before, after)
    if found.copies:
        yield _copies(before, after, found)
    if found.added:
        counts = html.table(("reason why it was missing", "images"), _counted(found.reasons(found.added)))
        yield _images("Added", found.added, after, _reason, [counts])
    if found.removed:
        counts = html.table(("reason why it is missing", "images"), _counted(found.reasons(found.removed)))
        yield _images("Removed", found.removed, before, _reason, [counts])
    if found.moved:
        counts = html.table(("from, to", "images"), _counted(found.moves()))
        yield _images("Moved", found.moved, after, _direction, [counts])
    if found.relabeled:
        yield _relabeled(before, after, found)
    if found.redrawn:
        yield _images("Redrawn", found.redrawn, after, _reason, [])


def _counted(counts: dict[str, int]) -> list[tuple[str, str]]:
    return [(name, f"{count:,}") for name, count in counts.items()]


def _splits(before: EnsembleContents, after: EnsembleContents) -> html.Section:
    rows = []
    for split in SPLITS:
        old, new = ([one for one in contents.originals.values() if one.split == split] for contents in (before, after))
        rows.append((split, *_change(len(old), len(new)), *_change(_faces(old), _faces(new))))
    columns = [f"{what}, {name}" for what in ("images", "faces") for name in (before.name, after.name, "change")]
    return html.Section("Splits", (html.table(("split", *columns), rows),), "Without augmented copies.")


def _change(old: int, new: int) -> tuple[str, str, str]:
    return f"{old:,}", f"{new:,}", f"{new - old:+,}" if new != old else "0"


def _faces(images: Sequence[EnsembleImage]) -> int:
    return sum(len(one.labels) for one in images)


def _copies(before: EnsembleContents, after: EnsembleContents, found: EnsembleDiff) -> html.Section:
    rows = [(one.name, f"{one.added:,}", f"{one.removed:,}", f"{one.changed:,}") for one in found.copies]
    parts = [html.table(("copy", "added", "removed", "other pixels or labels"), rows)]
    old = {(one.copy, *one.name) for one in before.images}
    for name in (one.name for one in found.copies if one.added):
        new = [one for one in after.images if one.copy == name and (name, *one.name) not in old]
        shown = [
            thumbnail(after.folder / one.image, marks_of(one.labels), one.size, caption=_caption(one))
            for one in sample_evenly(new, _COPIES)
        ]
        parts += [html.heading(f"Added “{name}”: {len(shown):,} of {len(new):,}"), html.grid(shown)]
    return html.Section("Augmented copies", tuple(parts))


def _caption(one: EnsembleImage) -> str:
    return f"{one.source} · {one.source_image}"


def _images(
    title: str,
    changes: Sequence[Change],
    contents: EnsembleContents,
    mark: Callable[[Change], str],
    counts: list[Markup],
) -> html.Section:
    """Return a section of images as they are in one of the ensembles."""
    shown = sample_evenly(changes, _SHOWN)
    items = [
        thumbnail(
            contents.folder / one.image.image,
            marks_of(one.image.labels),
            one.image.size,
            caption=" · ".join(filter(None, (one.image.source, one.image.source_image, one.detail))),
            mark=mark(one),
        )
        for one in shown
    ]
    lede = f"{len(shown):,} of {len(changes):,} images."
    return html.Section(title, (*counts, html.legend(CLASSES), html.grid(items)), lede)


def _reason(change: Change) -> str:
    return change.reason or change.image.split


def _direction(change: Change) -> str:
    return f"{change.before.split} → {change.after.split}" if change.before and change.after else ""


def _relabeled(before: EnsembleContents, after: EnsembleContents, found: EnsembleDiff) -> html.Section:
    shown = sample_evenly(found.relabeled, _PAIRS)
    parts = (html.legend(CLASSES), html.sets(_pair(before, after, one) for one in shown))
    lede = f"{len(shown):,} of {len(found.relabeled):,} images. Boxes that only one of the two ensembles has are thick."
    return html.Section("Relabeled", parts, lede)


def _pair(before: EnsembleContents, after: EnsembleContents, change: Change) -> html.ImageSet:
    assert change.before is not None
    assert change.after is not None
    removed, added = changed_labels(change.before.labels, change.after.labels)
    items = (_side(before, change.before, removed), _side(after, change.after, added))
    aside = f"-{len(removed)} +{len(added)} of {len(change.after.labels)} faces"
    return html.ImageSet(f"{change.image.source} · {change.image.source_image}", aside, items)


def _side(contents: EnsembleContents, one: EnsembleImage, changed: Sequence[Annotation]) -> html.GridImage:
    marks = [Mark(label.name, label.box.corners, strong=label in changed) for label in one.labels]
    return thumbnail(
        contents.folder / one.image, marks, one.size, caption=one.split, mark=contents.name, longest=_PAIR_LONGEST
    )
