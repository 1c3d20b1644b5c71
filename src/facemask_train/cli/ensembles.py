"""Ensembles in the terminal: the short form of what was built, of what one holds, and of what changed between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from facemask_train.cli.tables import table

if TYPE_CHECKING:
    from facemask_train.dataset.diff import Difference
    from facemask_train.report.dataset.inspect import Inspection

_QUANTILES = ("min", "p5", "p25", "median", "p75", "p95", "max")


def groups_told(card: Mapping[str, Any]) -> list[Any]:
    """Return what `build-dataset` says of copies: the overlap of sources where there is one, a line, and the notes.

    Args:
        card: what `ensemble.json` holds, or an inspection's counts.
    """
    return [*_overlap(card["overlap"]), _copies_line(card), *(f"note: {note}" for note in card["notes"])]


def _overlap(overlap: Mapping[str, Mapping[str, int]]) -> list[Any]:
    if not any(count for others in overlap.values() for count in others.values()):
        return []
    rows = [(one, *(f"{others[other]:,}" for other in overlap)) for one, others in overlap.items()]
    return [table("Images that have a copy", ("of", *(f"in {name}" for name in overlap)), rows)]


def _copies_line(card: Mapping[str, Any]) -> str:
    groups, images = card["groups"], card["images"]
    leaks = f"{_counted(card['leaks'], 'leak')} between splits"
    if not groups["groups"]:
        return f"no image is a copy of another; {leaks}"
    if images["merged"]:
        merged = f"{images['merged']:,} of {_counted(images['in'], 'image')} are copies of another: merged"
    else:
        merged = f"{groups['images']:,} of {_counted(images['in'], 'image')} have a copy; none were merged"
    ends = [f"{_counted(groups[kind], 'group')} {kind}" for kind in ("excluded",) if groups[kind]]
    ends += [f"{_counted(groups['conflicts'], 'conflict')} between copies"] if groups["conflicts"] else []
    return "; ".join([merged, *ends, leaks])


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# ---- inspect ----


def inspect_json(found: Inspection) -> dict[str, Any]:
    return {**found.counts, "path": str(found.path)}


def inspect_told(found: Inspection) -> list[Any]:
    counts = found.counts
    return [
        _classes(counts),
        _sizes(counts["sizes"]),
        _sources(counts["sources"]),
        *groups_told(counts),
        _problems_line(counts["problems"]),
        f"page: {found.path}",
    ]


def _classes(counts: Mapping[str, Any]) -> Any:
    from facemask_train.dataset.summary import share

    copies = bool(counts["copies"])
    rows = []
    for split, faces in counts["faces"].items():
        images = [f"{counts['split_images'][split]:,}", *([f"{counts['originals'][split]:,}"] if copies else [])]
        rows.append((split, *images, *(f"{count:,}" for count in faces.values()), share(faces, "no_mask")))
    names = tuple(next(iter(counts["faces"].values())))
    columns = ("split", "images", *(("originals",) if copies else ()), *names, "no_mask, share")
    return table(f"Ensemble {counts['version']}: images and faces", columns, rows)


def _sizes(sizes: Mapping[str, Mapping[str, Any]]) -> Any:
    rows = [
        (name, f"{found['n']:,}", *("-" if found[key] is None else f"{found[key]:,.0f}" for key in _QUANTILES))
        for name, found in sizes.items()
    ]
    return table("Faces of originals: shorter side, px", ("", "faces", *_QUANTILES), rows)


def _sources(sources: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Any:
    rows = [
        (source, *(f"{one['images']:,} / {one['faces']:,}" for one in splits.values()))
        for source, splits in sources.items()
    ]
    splits = tuple(next(iter(sources.values()), ()))
    return table("Originals by source: images / faces", ("source", *splits), rows)


def _problems_line(problems: Sequence[Mapping[str, Any]]) -> str:
    def total(item: str, action: str) -> int:
        return sum(one["count"] for one in problems if (one["item"], one["action"]) == (item, action))

    told = ", ".join(
        f"{_counted(total('image', action), 'image')} and {total('box', action):,} boxes {action}"
        for action in ("refused", "repaired")
    )
    return f"{told}; the page has the causes"


# ---- diff ----


def diff_json(found: Difference) -> dict[str, Any]:
    return {
        "a": found.before,
        "b": found.after,
        "added": len(found.added),
        "removed": len(found.removed),
        "moved": len(found.moved),
        "relabelled": len(found.relabelled),
        "redrawn": len(found.redrawn),
        "same": found.same,
        "equal": found.equal,
        "copies": {
            one.name: {"added": one.added, "removed": one.removed, "changed": one.changed} for one in found.copies
        },
        "path": str(found.path),
    }


def diff_told(found: Difference) -> list[Any]:
    page = f"page: {found.path}"
    if found.equal:
        return [
            f"{found.before} and {found.after} are equal: {_counted(found.same, 'image')}, the same in both",
            page,
        ]
    counts = [
        ("added", len(found.added)),
        *((f"  before, {why}", count) for why, count in found.whys(found.added).items()),
        ("removed", len(found.removed)),
        *((f"  now, {why}", count) for why, count in found.whys(found.removed).items()),
        ("moved", len(found.moved)),
        *((f"  {way}", count) for way, count in found.moves().items()),
        ("relabelled", len(found.relabelled)),
        *([("redrawn: other bytes", len(found.redrawn))] if found.redrawn else []),
        ("the same in both", found.same),
    ]
    rows = [(what, f"{count:,}") for what, count in counts]
    return [table(f"From {found.before} to {found.after}", ("", "images"), rows), *_copies(found), page]


def _copies(found: Difference) -> list[Any]:
    rows = [(one.name, f"{one.added:,}", f"{one.removed:,}", f"{one.changed:,}") for one in found.copies]
    return [table("Augmented copies", ("copy", "added", "removed", "changed"), rows)] if rows else []
