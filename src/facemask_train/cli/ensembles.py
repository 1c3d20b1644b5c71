"""Ensembles in the terminal: short results of `build-dataset`, `inspect` and `diff`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from facemask_train.cli.tables import table

if TYPE_CHECKING:
    from facemask_train.dataset.card import EnsembleCard, IssueCount
    from facemask_train.dataset.diff import EnsembleDiff
    from facemask_train.dataset.summary import EnsembleSummary, ImageCounts, SizeQuantiles
    from facemask_train.report.dataset.inspect import Inspection


def duplicates_lines(card: EnsembleCard | EnsembleSummary) -> list[Any]:
    """Return what `build-dataset` prints about duplicates: the overlap of sources if any, a summary, and the notes."""
    return [*_overlap(card.overlap), _copies_line(card), *(f"note: {note}" for note in card.notes)]


def _overlap(overlap: Mapping[str, Mapping[str, int]]) -> list[Any]:
    if not any(count for others in overlap.values() for count in others.values()):
        return []
    rows = [(one, *(f"{others[other]:,}" for other in overlap)) for one, others in overlap.items()]
    return [table("Images that have a copy", ("of", *(f"in {name}" for name in overlap)), rows)]


def _copies_line(card: EnsembleCard | EnsembleSummary) -> str:
    groups, images = card.groups, card.images
    leaks = f"{_counted(card.leaks, 'leak')} between splits"
    if not groups.groups:
        return f"no image is a copy of another; {leaks}"
    if images.merged:
        merged = f"{images.merged:,} of {_counted(images.total, 'image')} are copies of another: merged"
    else:
        merged = f"{groups.images:,} of {_counted(images.total, 'image')} have a copy; none were merged"
    ends = [f"{_counted(groups.excluded, 'group')} excluded"] if groups.excluded else []
    ends += [f"{_counted(groups.conflicts, 'conflict')} between copies"] if groups.conflicts else []
    return "; ".join([merged, *ends, leaks])


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# ---- inspect ----


def inspect_json(found: Inspection) -> dict[str, object]:
    from facemask_train.core.records import to_json

    return {**to_json(found.summary), "path": str(found.path)}


def inspect_lines(found: Inspection) -> list[Any]:
    summary = found.summary
    return [
        _classes(summary),
        _sizes(summary.sizes),
        _sources(summary.sources),
        *duplicates_lines(summary),
        _issues_line(summary.issues),
        f"page: {found.path}",
    ]


def _classes(summary: EnsembleSummary) -> Any:
    from facemask_train.dataset.summary import share

    copies = bool(summary.copies)
    rows = []
    for split, faces in summary.faces.items():
        images = [f"{summary.split_images[split]:,}", *([f"{summary.originals[split]:,}"] if copies else [])]
        rows.append((split, *images, *(f"{count:,}" for count in faces.values()), share(faces, "no_mask")))
    columns = ("split", "images", *(("originals",) if copies else ()), *summary.classes, "no_mask, share")
    return table(f"Ensemble {summary.name}: images and faces", columns, rows)


def _sizes(sizes: Mapping[str, SizeQuantiles]) -> Any:
    from facemask_train.dataset.summary import QUANTILES

    rows = [
        (name, f"{found.n:,}", *("-" if value is None else f"{value:,.0f}" for value in found.values))
        for name, found in sizes.items()
    ]
    return table("Faces of originals: shorter side, px", ("", "faces", *QUANTILES), rows)


def _sources(sources: Mapping[str, Mapping[str, ImageCounts]]) -> Any:
    from facemask_train.core.types import SPLITS

    rows = [
        (source, *(f"{one.images:,} / {one.faces:,}" for one in splits.values())) for source, splits in sources.items()
    ]
    return table("Originals by source: images / faces", ("source", *SPLITS), rows)


def _issues_line(issues: Sequence[IssueCount]) -> str:
    def total(item: str, action: str) -> int:
        return sum(one.count for one in issues if (one.item, one.action) == (item, action))

    counts = ", ".join(
        f"{_counted(total('image', action), 'image')} and {total('box', action):,} boxes {action}"
        for action in ("refused", "repaired")
    )
    return f"{counts}; the page has the causes"


# ---- diff ----


def diff_json(found: EnsembleDiff) -> dict[str, object]:
    from facemask_train.core.records import to_json

    return {**to_json(found.counts()), "path": str(found.path)}


def diff_lines(found: EnsembleDiff) -> list[Any]:
    page = f"page: {found.path}"
    if found.equal:
        return [
            f"{found.before} and {found.after} are equal: {_counted(found.same, 'image')}, the same in both",
            page,
        ]
    counts = [
        ("added", len(found.added)),
        *((f"  before, {reason}", count) for reason, count in found.reasons(found.added).items()),
        ("removed", len(found.removed)),
        *((f"  now, {reason}", count) for reason, count in found.reasons(found.removed).items()),
        ("moved", len(found.moved)),
        *((f"  {way}", count) for way, count in found.moves().items()),
        ("relabeled", len(found.relabeled)),
        *([("redrawn: other bytes", len(found.redrawn))] if found.redrawn else []),
        ("the same in both", found.same),
    ]
    rows = [(what, f"{count:,}") for what, count in counts]
    return [table(f"From {found.before} to {found.after}", ("", "images"), rows), *_copies(found), page]


def _copies(found: EnsembleDiff) -> list[Any]:
    rows = [(one.name, f"{one.added:,}", f"{one.removed:,}", f"{one.changed:,}") for one in found.copies]
    return [table("Augmented copies", ("copy", "added", "removed", "changed"), rows)] if rows else []
