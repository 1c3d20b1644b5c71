"""Makes an ensemble's card from what a build decided and wrote, with the notes that a person should read. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from facemask_train.core.boxes import count_cells, lopsided_sentence
from facemask_train.core.files import digest_data
from facemask_train.core.recipe import Prefer, Recipe, Split
from facemask_train.core.records import to_json
from facemask_train.core.types import CLASSES, SPLITS
from facemask_train.dataset.balance import Balanced, balance_notes
from facemask_train.dataset.card import (
    BuildInputs,
    EnsembleCard,
    FixCounts,
    IssueCount,
    ItemCounts,
    LinkCounts,
    SourceCounts,
    SplitCheck,
    SplitCounts,
)
from facemask_train.dataset.grouping.groups import Decisions, Kept
from facemask_train.dataset.loading.load import LoadedSource
from facemask_train.dataset.tables import package_versions
from facemask_train.dataset.write import Totals

_ENOUGH_IMAGES = 3000  # per class: the reference project's advice for a detector like this
_BALANCED = 0.8  # of an even share of the faces: a class with less than this is noted


def make_card(
    recipe: Recipe,
    inputs: BuildInputs,
    loaded: Mapping[str, LoadedSource],
    decisions: Decisions,
    totals: Totals,
    *,
    missing: Sequence[str],
    balanced: Balanced,
    fixes: FixCounts,
    links: LinkCounts | None = None,
    check: SplitCheck | None = None,
) -> EnsembleCard:
    """Return the card of a build. Its hash covers what was decided, and is equal on every machine."""
    causes = Counter((issue.item, issue.action, issue.cause) for source in loaded.values() for issue in source.issues)
    sources = {name: SourceCounts(source.images(), source.boxes()) for name, source in loaded.items()}
    return EnsembleCard(
        name=recipe.name,
        hash=digest_data([totals.plan_digest.hexdigest(), to_json(inputs)]),
        images_digest=totals.images_digest.hexdigest(),
        manifest_digest=totals.manifest_digest,
        packages=package_versions(),
        description=recipe.description,
        classes=CLASSES,
        split_by="group" if isinstance(recipe.split, Split) else "published",
        images=sum((one.images for one in sources.values()), ItemCounts()),
        boxes=sum((boxes for one in sources.values() for boxes in one.boxes.values()), ItemCounts()),
        outputs=totals.outputs.total(),
        splits=SplitCounts(**totals.outputs),
        originals=SplitCounts(**totals.images),
        faces={split: {name: totals.faces[split, name] for name in CLASSES} for split in SPLITS},
        groups=decisions.counts,
        leaks=decisions.leaks,
        links=links,
        check=check,
        overlap=decisions.overlap,
        agreement=decisions.agreements,
        face_edits=_face_edits(totals),
        fixes=fixes,
        notes=(
            *_fix_notes(fixes),
            *_notes(recipe, loaded, decisions, totals, missing),
            *_link_notes(links, check),
            *(note for source in loaded.values() for note in source.notes),
            *_class_notes(decisions.kept, balanced, recipe),
        ),
        sources=sources,
        issues=tuple(IssueCount(*key, causes[key]) for key in sorted(causes)),
        inputs=inputs,
    )


def _fix_notes(fixes: FixCounts) -> list[str]:
    total = fixes.applied + fixes.not_found
    if not total:
        return []
    rest = f"; {fixes.not_found} found no such image or label here" if fixes.not_found else ""
    return [f"Labels corrected by hand (fixes.yaml): {fixes.applied} of {total}{rest}."]


def _link_notes(links: LinkCounts | None, check: SplitCheck | None) -> list[str]:
    """Return what the independent check of the splits found, and which links a person should settle."""
    notes = []
    if check is not None and check.of:
        notes.append(
            f"ORB points and pixels find a copy in an earlier split for {check.copies} of the {check.checked} images of"
            f" val and test that were looked up (of {check.of}). This sees copies and larger crops; it does not see"
            " mirrored or stretched copies, small crops, or the same person in two photographs."
        )
    if links is not None and links.untied:
        notes.append(
            f"Doubtful links between two large groups, which tie nothing: {links.untied}. links.parquet lists them;"
            " settle them in fixes.yaml beside the recipe (tie: or part:)."
        )
    return notes


def _face_edits(totals: Totals) -> dict[str, dict[str, int]]:
    """Return the outcomes of face-aware edits: by kind, how many were drawn or skipped, and why."""
    found: dict[str, dict[str, int]] = {}
    for (kind, outcome), count in sorted(totals.edits.items()):
        found.setdefault(kind, {})[outcome] = count
    return found


def _notes(
    recipe: Recipe,
    loaded: Mapping[str, LoadedSource],
    decisions: Decisions,
    totals: Totals,
    missing: Sequence[str],
) -> list[str]:
    notes = [f"Built without {name}, which was not fetched." for name in missing]
    if isinstance(recipe.conflicts, Prefer) and recipe.conflicts.prefer in missing:
        notes.append(
            f"Duplicates with conflicting labels are left out, because the preferred source,"
            f" {recipe.conflicts.prefer}, is missing."
        )
    unlabeled = _kept_without_faces(decisions)
    if unlabeled:
        notes.append(
            f"Images kept without faces although a merged duplicate has some: {unlabeled}. The labels of the source"
            " listed first in the recipe are used."
        )
    if decisions.counts.joined:
        notes.append(
            "Split groups that were in different splits until a later source connected them, and that are now in"
            f" train: {decisions.counts.joined}."
        )
    if recipe.split == "published":
        unknown = sum(one.record.path not in loaded[one.record.source].splits for one in decisions.kept)
        notes += [f"Images outside of any split folder or list, assigned to train: {unknown}."] if unknown else []
        empty = [split for split in SPLITS if not totals.images[split]]
        notes += [f"The published split {split} is empty in the fetched files." for split in empty]
    if decisions.leaks:
        notes.append(
            "Images of val and test with a duplicate or near-duplicate in an earlier split:"
            f" {decisions.leaks} of {totals.images['val'] + totals.images['test']}. They are counted and kept; --repair"
            " removes their duplicates from the earlier split."
        )
    return notes


def _kept_without_faces(decisions: Decisions) -> int:
    kept = {one.group for one in decisions.duplicates if one.role == "kept" and not one.labels}
    return len({one.group for one in decisions.duplicates if one.role == "merged" and one.labels} & kept)


def _class_notes(kept: Sequence[Kept], balanced: Balanced, recipe: Recipe) -> list[str]:
    """Return where the training part falls short of balanced classes, overall and at each relative size."""
    notes = _balance_notes(kept)
    if recipe.augment is not None and recipe.augment.balance is not None:
        return notes + balance_notes(balanced, recipe.augment.balance)
    faces = [(face, one.record) for one in kept if one.split == "train" for face in one.record.labels]
    lopsided = lopsided_sentence(count_cells((face, record.width, record.height) for face, record in faces))
    return notes + [f"{lopsided} `augment: {{balance: {{}}}}` in the recipe adds zoomed copies."] * bool(lopsided)


def _balance_notes(kept: Sequence[Kept]) -> list[str]:
    """Return where the training part, without augmented copies, falls short of the reference project's advice."""
    labels = [[label.name for label in one.record.labels] for one in kept if one.split == "train"]
    images = Counter(name for names in labels for name in set(names))
    faces = Counter(name for names in labels for name in names)
    notes = [
        f"{name} is in {images[name]:,} training images; at least {_ENOUGH_IMAGES:,} per class are recommended."
        for name in CLASSES
        if images[name] < _ENOUGH_IMAGES
    ]
    rarest = min(CLASSES, key=lambda name: faces[name])
    share = faces[rarest] / max(1, faces.total())
    if share < _BALANCED / len(CLASSES):
        notes.append(f"{rarest} is {100 * share:.0f} % of the training faces; balanced classes are recommended.")
    return notes
