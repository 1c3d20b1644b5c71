"""What an ensemble says of itself: `ensemble.json`, and the sentences that a person should read of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from facemask_train.core.files import digest_data
from facemask_train.core.recipe import Prefer, Recipe, Split
from facemask_train.core.types import CLASSES, SPLITS
from facemask_train.dataset.grouping.groups import Decisions, Kept
from facemask_train.dataset.grouping.split import published_split
from facemask_train.dataset.loading.load import Gathered, Tally
from facemask_train.dataset.tables import made_with
from facemask_train.dataset.write import Totals

_ENOUGH = 3000  # images a class: the reference project's advice for a detector like this
_EVEN = 0.4  # the smaller class's share of the faces from which a balance is near even


def make_card(
    recipe: Recipe,
    inputs: Mapping[str, Any],
    gathered: Mapping[str, Gathered],
    decided: Decisions,
    totals: Totals,
    missing: Sequence[str],
) -> dict[str, Any]:
    """Return what `ensemble.json` says. Its hash is over what was decided, equal anywhere; no time stands in it."""
    causes = Counter((p.item, p.action, p.cause) for source in gathered.values() for p in source.problems)
    return {
        "name": recipe.name,
        "hash": digest_data([totals.decided.hexdigest(), inputs]),
        "images_digest": totals.image_digest.hexdigest(),
        "manifest_digest": totals.manifest,
        "made_with": made_with(),
        "description": recipe.description,
        "classes": list(CLASSES),
        "split_by": "group" if isinstance(recipe.split, Split) else "published",
        "images": _summed(source.images() for source in gathered.values()),
        "boxes": _summed(tally for source in gathered.values() for tally in source.boxes().values()),
        "outputs": totals.outputs.total(),
        "splits": {split: totals.outputs[split] for split in SPLITS},
        "originals": {split: totals.images[split] for split in SPLITS},
        "faces": {split: {name: totals.faces[split, name] for name in CLASSES} for split in SPLITS},
        "groups": dict(decided.counts),
        "leaks": decided.leaks,
        "overlap": {source: dict(others) for source, others in decided.overlap.items()},
        "agreement": [asdict(one) for one in decided.agreements],
        "face_edits": _edits(totals),
        "notes": [*_told(recipe, decided, totals, missing), *_balance(decided.kept)],
        "sources": {
            name: {
                "images": source.images().as_json(),
                "boxes": {label: tally.as_json() for label, tally in source.boxes().items()},
            }
            for name, source in gathered.items()
        },
        "causes": [{"item": i, "action": a, "cause": c, "count": causes[i, a, c]} for i, a, c in sorted(causes)],
        "inputs": dict(inputs),
    }


def _summed(tallies: Iterable[Tally]) -> dict[str, int]:
    return sum(tallies, Tally()).as_json()


def _edits(totals: Totals) -> dict[str, dict[str, int]]:
    """Return what became of the faces of face-aware copies: by kind, how many were done or left, and why."""
    found: dict[str, dict[str, int]] = {}
    for (kind, outcome), count in sorted(totals.edits.items()):
        found.setdefault(kind, {})[outcome] = count
    return found


def _told(recipe: Recipe, decided: Decisions, totals: Totals, missing: Sequence[str]) -> list[str]:
    notes = [f"Built without {name}, which was not fetched." for name in missing]
    if isinstance(recipe.conflicts, Prefer) and recipe.conflicts.prefer in missing:
        notes.append(
            f"Copies that contradict each other are left out: {recipe.conflicts.prefer}, preferred, is missing."
        )
    unlabelled = _unlabelled(decided)
    if unlabelled:
        notes.append(
            f"Images kept without a face of which a copy that was merged has faces: {unlabelled}. The source that is"
            " named first says what is on them."
        )
    if decided.counts["joined"]:
        notes.append(
            "Families of images that stood in different splits until a later source tied them together, and are in"
            f" train now: {decided.counts['joined']}."
        )
    if recipe.split == "published":
        unsaid = sum(not published_split(one.record.path) for one in decided.kept)
        notes += [f"Images in no folder of a split, taken for train: {unsaid}."] if unsaid else []
        empty = [split for split in SPLITS if not totals.images[split]]
        notes += [f"The published split {split} is empty in what was fetched." for split in empty]
    if decided.leaks:
        notes.append(
            "Images of val and test that are the same image as, or of one scene with, one of an earlier split:"
            f" {decided.leaks} of {totals.images['val'] + totals.images['test']}. They are counted and left; --repair"
            " takes what they are copies of out of the earlier split."
        )
    return notes


def _unlabelled(decided: Decisions) -> int:
    kept = {copy.group for copy in decided.copies if copy.role == "kept" and not copy.labels}
    return len({copy.group for copy in decided.copies if copy.role == "merged" and copy.labels} & kept)


def _balance(kept: Sequence[Kept]) -> list[str]:
    """Return what the reference project's advice says of the training part, its augmented copies aside."""
    labels = [[label.name for label in one.record.labels] for one in kept if one.split == "train"]
    images = Counter(name for names in labels for name in set(names))
    faces = Counter(name for names in labels for name in names)
    notes = [
        f"{name} is in {images[name]:,} training images; some {_ENOUGH:,} a class are advised."
        for name in CLASSES
        if images[name] < _ENOUGH
    ]
    smaller = min(CLASSES, key=lambda name: faces[name])
    share = faces[smaller] / max(1, faces.total())
    if share < _EVEN:
        notes.append(f"{smaller} is {100 * share:.0f} % of the training faces; near even is advised.")
    return notes
