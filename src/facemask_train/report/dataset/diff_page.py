"""The page of `fmask diff`: what changed between two ensembles, in counts and in images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES, SPLITS, Annotation
from facemask_train.dataset.contents import Held, Holdings
from facemask_train.dataset.diff import Change, Difference, changed_labels
from facemask_train.report import html
from facemask_train.report.dataset.thumbnails import Mark, draw, marks_of, spread

if TYPE_CHECKING:
    from markupsafe import Markup

_SHOWN = 36  # images of each kind of change
_COPIES = 12  # images of each name that is new
_PAIRS = 40  # relabelled images
_PAIR_LONGEST = 420  # pixels


def difference_page(before: Holdings, after: Holdings, found: Difference) -> bytes:
    """Return the page."""
    return html.page(
        f"From {before.name} to {after.name}",
        _sections(before, after, found),
        kicker="fmask · what changed",
        lede=_summary(found),
        opening=[html.key_figures(_figures(found))],
        footer=f"{before.name}: {before.card.hash}; {after.name}: {after.card.hash}. Made by fmask diff. Images"
        " are told apart by their source and their path in it.",
    )


def _summary(found: Difference) -> str:
    if found.equal:
        return f"They are equal: the same {found.same:,} images with the same labels in the same splits."
    return f"{found.same:,} images are the same in both, in the same split and with the same labels."


def _figures(found: Difference) -> list[html.KeyFigure]:
    figures = [
        html.KeyFigure(f"{len(found.added):,}", "added", f"in {found.after} alone"),
        html.KeyFigure(f"{len(found.removed):,}", "removed", f"in {found.before} alone"),
        html.KeyFigure(f"{len(found.moved):,}", "moved", "to another split"),
        html.KeyFigure(f"{len(found.relabelled):,}", "relabelled", "other classes or boxes"),
    ]
    if found.redrawn:
        figures.append(html.KeyFigure(f"{len(found.redrawn):,}", "redrawn", "the file has other bytes"))
    return figures


def _sections(before: Holdings, after: Holdings, found: Difference) -> Iterator[html.Section]:
    yield _splits(before, after)
    if found.copies:
        yield _copies(before, after, found)
    if found.added:
        told = html.table(("why it was not there before", "images"), _counted(found.whys(found.added)))
        yield _shown("Added", found.added, after, _why, [told])
    if found.removed:
        told = html.table(("where it went", "images"), _counted(found.whys(found.removed)))
        yield _shown("Removed", found.removed, before, _why, [told])
    if found.moved:
        told = html.table(("from, to", "images"), _counted(found.moves()))
        yield _shown("Moved", found.moved, after, _way, [told])
    if found.relabelled:
        yield _relabelled(before, after, found)
    if found.redrawn:
        yield _shown("Redrawn", found.redrawn, after, _why, [])


def _counted(counts: dict[str, int]) -> list[tuple[str, str]]:
    return [(name, f"{count:,}") for name, count in counts.items()]


def _splits(before: Holdings, after: Holdings) -> html.Section:
    rows = []
    for split in SPLITS:
        old, new = ([one for one in held.originals.values() if one.split == split] for held in (before, after))
        rows.append((split, *_change(len(old), len(new)), *_change(_faces(old), _faces(new))))
    columns = [f"{what}, {name}" for what in ("images", "faces") for name in (before.name, after.name, "change")]
    return html.Section("Splits", (html.table(("split", *columns), rows),), "Originals; augmented copies are apart.")


def _change(old: int, new: int) -> tuple[str, str, str]:
    return f"{old:,}", f"{new:,}", f"{new - old:+,}" if new != old else "0"


def _faces(images: Sequence[Held]) -> int:
    return sum(len(one.labels) for one in images)


def _copies(before: Holdings, after: Holdings, found: Difference) -> html.Section:
    rows = [(one.name, f"{one.added:,}", f"{one.removed:,}", f"{one.changed:,}") for one in found.copies]
    parts = [html.table(("copy", "added", "removed", "other pixels or labels"), rows)]
    old = {(one.copy, *one.name) for one in before.images}
    for name in (one.name for one in found.copies if one.added):
        new = [one for one in after.images if one.copy == name and (name, *one.name) not in old]
        shown = [
            draw(after.folder / one.image, marks_of(one.labels), one.size, caption=_called(one))
            for one in spread(new, _COPIES)
        ]
        parts += [html.heading(f"Added “{name}”: {len(shown):,} of {len(new):,}"), html.grid(shown)]
    return html.Section("Augmented copies", tuple(parts))


def _called(one: Held) -> str:
    return f"{one.source} · {one.source_image}"


def _shown(
    title: str, changes: Sequence[Change], held: Holdings, mark: Callable[[Change], str], told: list[Markup]
) -> html.Section:
    """Return a section of images as one of the ensembles has them."""
    shown = spread(changes, _SHOWN)
    items = [
        draw(
            held.folder / one.held.image,
            marks_of(one.held.labels),
            one.held.size,
            caption=" · ".join(filter(None, (one.held.source, one.held.source_image, one.detail))),
            mark=mark(one),
        )
        for one in shown
    ]
    lede = f"{len(shown):,} of {len(changes):,} images."
    return html.Section(title, (*told, html.legend(CLASSES), html.grid(items)), lede)


def _why(change: Change) -> str:
    return change.why or change.held.split


def _way(change: Change) -> str:
    return f"{change.before.split} → {change.after.split}" if change.before and change.after else ""


def _relabelled(before: Holdings, after: Holdings, found: Difference) -> html.Section:
    shown = spread(found.relabelled, _PAIRS)
    parts = (html.legend(CLASSES), html.sets(_pair(before, after, one) for one in shown))
    lede = f"{len(shown):,} of {len(found.relabelled):,} images. Boxes that only one of the two has are thick."
    return html.Section("Relabelled", parts, lede)


def _pair(before: Holdings, after: Holdings, change: Change) -> html.ImageSet:
    assert change.before is not None
    assert change.after is not None
    gone, new = changed_labels(change.before.labels, change.after.labels)
    items = (_side(before, change.before, gone), _side(after, change.after, new))
    aside = f"-{len(gone)} +{len(new)} of {len(change.after.labels)} faces"
    return html.ImageSet(f"{change.held.source} · {change.held.source_image}", aside, items)


def _side(held: Holdings, one: Held, changed: Sequence[Annotation]) -> html.Shown:
    marks = [Mark(label.name, label.box.corners, strong=label in changed) for label in one.labels]
    return draw(held.folder / one.image, marks, one.size, caption=one.split, mark=held.name, longest=_PAIR_LONGEST)
