"""`fmask build-dataset`: builds an ensemble from fetched sources. First everything is decisions, then it is written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facemask_train.augment import transforms
from facemask_train.augment.contact_sheets import PAIRS, examples_of, transform_sheet
from facemask_train.core.config import Source, Target, pick_source, read_sources
from facemask_train.core.errors import DataError, FmaskError, MissingError, StorageError, UsageError
from facemask_train.core.files import replacing, stage
from facemask_train.core.fixes import Fixes, read_fixes
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import ZOOMED, Augment, Recipe, Split, fixes_folder, read_recipe
from facemask_train.core.records import VersionError
from facemask_train.core.types import SPLITS, Annotation, ImageRecord, Progress, no_progress
from facemask_train.dataset.balance import Zooms, plan_zooms
from facemask_train.dataset.card import BuildInputs, EnsembleCard, SourceInputs
from facemask_train.dataset.grouping.duplicates import Pair, find_pairs
from facemask_train.dataset.grouping.exchanged import exchanged_classes
from facemask_train.dataset.grouping.groups import Decisions, decide
from facemask_train.dataset.grouping.label_agreement import SourceImage
from facemask_train.dataset.label_fixes import apply_label_fixes
from facemask_train.dataset.linking.link_sources import Linked, apply_fixes, link_sources, stop_at_copies
from facemask_train.dataset.loading.image_index import INDEX_VERSION, index_images
from facemask_train.dataset.loading.images import ImageFacts, decoded_plain, make_plain, read_published
from facemask_train.dataset.loading.load import LoadedSource, check_kept, load_source
from facemask_train.dataset.loading.unusable import no_usable_image
from facemask_train.dataset.make_card import make_card
from facemask_train.dataset.plan import WRITE_VERSION, make_plan, original_image
from facemask_train.dataset.tables import (
    ReusableImage,
    reusable_images,
    write_data_yaml,
    write_groups,
    write_issues,
    write_links,
)
from facemask_train.dataset.versions import ensemble_folder
from facemask_train.dataset.write import Totals, WriteSettings, write
from facemask_train.sources.source_record import read_source, source_folder

BUILD_VERSION = 6
"""Raised by hand when the same inputs and settings give a different ensemble than before."""

_SHOWN, _SHOWN_SIDE = 48, 1024  # images that the contact sheets of transforms show, and their longest side

_log = logging.getLogger(__name__)

ClassMaps = Mapping[str, Mapping[str, Target]]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished ensemble, its card, and how many images were reused from an earlier build."""

    path: Path
    up_to_date: bool
    card: EnsembleCard
    reused: int = 0


@dataclass(frozen=True, slots=True)
class _BuildJob:
    """What to build: the recipe with the options applied, its sources, and the sources that are left out."""

    root: Path
    recipe: Recipe
    fixes: Fixes
    sources: Mapping[str, Source]
    missing: tuple[str, ...]
    pool: WorkerPool
    progress: Progress

    def inputs(self) -> BuildInputs:
        """Return everything that the result depends on."""
        return BuildInputs(
            (BUILD_VERSION, INDEX_VERSION, WRITE_VERSION),
            self.recipe.model_dump(mode="json", exclude={"description"}),
            {
                name: _source_inputs(read_source(self.root, name).digest, source)
                for name, source in self.sources.items()
            },
            self.fixes.digest(),
        )


def _source_inputs(digest: str, source: Source) -> SourceInputs:
    limits = source.limits.model_dump()
    return SourceInputs(digest, source.format, source.classes, source.max_unreadable, limits, source.exif)


def build(
    root: Path,
    version: str,
    *,
    class_maps: ClassMaps | None = None,
    allow_missing: bool = False,
    repair: bool = False,
    pool: WorkerPool = WorkerPool(),  # noqa: B008 - frozen
    progress: Progress = no_progress,
) -> BuildResult:
    """Build `data/ensembles/NAME/` from the fetched sources, unless it is up to date.

    Args:
        version: number (`5`), name (`v5`) or path of a recipe.
        class_maps: by source, the meaning of each published class or id; overrides `sources.yaml`.
        allow_missing: leave out sources that were not fetched; the name says so (`v8-without-karm1a`).
        repair: remove images of a published split that have a duplicate in a later split; named NAME-repaired.

    Raises:
        MissingError: a source has not been fetched, or there is no such recipe.
        ClassMapError: the classes of a source have no known meaning.
        DataError: a split is empty.
    """
    recipe = read_recipe(root, version)
    sources, missing = _sources(root, recipe, class_maps or {}, allow_missing=allow_missing)
    recipe = _with_options(recipe, tuple(sources), missing, repair=repair)
    job = _BuildJob(root, recipe, read_fixes(fixes_folder(root, version)), sources, missing, pool, progress)
    inputs = job.inputs()
    target = ensemble_folder(root, job.recipe.name)
    with stage(target):
        card = _earlier_card(target)
        if card is not None and card.inputs == inputs:
            return BuildResult(target, up_to_date=True, card=card)
        loaded = _load_sources(job)
        images = [image for name, source in loaded.items() for image in _readable_images(name, source)]
        linked = _link(job, loaded, images)
        decisions = decide(images, linked.pairs, job.recipe, linked.ties)
        loaded = _with_notes(loaded, exchanged_classes(images, linked.pairs))
        loaded = _apply_outcomes(loaded, decisions)
        _check(job.recipe, loaded, decisions)
        fixed = apply_label_fixes(loaded, decisions.kept, job.fixes)
        loaded, decisions = fixed.loaded, replace(decisions, kept=fixed.kept)
        balanced = plan_zooms(decisions.kept, job.recipe.augment)
        check, proof = linked.prove(decisions.kept)
        if proof is not None and job.recipe.leaks == "remove":
            stop_at_copies(job.recipe.name, images, proof)
        with replacing(target) as folder:
            totals = _write(job, folder, loaded, decisions, balanced.zooms, reusable_images(target, card))
            write_links(folder / "links.parquet", images, linked.links)
            card = make_card(
                job.recipe,
                inputs,
                loaded,
                decisions,
                totals,
                missing=job.missing, balanced=balanced, links=linked.counts(), check=check, fixes=fixed.counts,
            )  # fmt: skip
            if job.inputs() != inputs:
                raise StorageError(
                    f"{root / 'data' / 'raw'}: a source was fetched again while {job.recipe.name} was built from it",
                    next_step="run the same command again",
                )
            card.save(folder)
    return BuildResult(target, up_to_date=False, card=card, reused=totals.reused)


def _earlier_card(folder: Path) -> EnsembleCard | None:
    """Return the card of an earlier build, or None if there is none or it is from another version of fmask."""
    try:
        return EnsembleCard.load(folder)
    except (MissingError, VersionError):
        return None


def _sources(
    root: Path, recipe: Recipe, class_maps: ClassMaps, *, allow_missing: bool
) -> tuple[dict[str, Source], tuple[str, ...]]:
    """Return the sources to build from, and the names of those that are left out.

    Raises:
        MissingError: a source was not fetched and may not be left out, or none was fetched.
    """
    configured = read_sources(root)
    for name in class_maps:
        pick_source(configured, name)
    chosen = {name: pick_source(configured, name) for name in recipe.sources}
    missing = tuple(name for name in recipe.sources if not _is_fetched(root, name))
    if missing and (not allow_missing or len(missing) == len(recipe.sources)):
        without = "" if len(missing) == len(recipe.sources) else " (or leave out what is missing: --allow-missing)"
        raise MissingError(
            f"{source_folder(root, missing[0])}: expected the sources of {recipe.name} to be fetched, found no"
            f" {', '.join(missing)}",
            next_step=f"fmask fetch {' '.join(missing)}{without}",
        )
    sources = {
        name: source.model_copy(update={"classes": dict(class_maps[name])}) if name in class_maps else source
        for name, source in chosen.items()
        if name not in missing
    }
    return sources, missing


def _with_options(recipe: Recipe, sources: tuple[str, ...], missing: tuple[str, ...], *, repair: bool) -> Recipe:
    """Return the recipe with the options applied, and a name that shows them.

    Raises:
        UsageError: the recipe has no leaks to repair.
    """
    if repair and recipe.leaks != "keep":
        raise UsageError(
            f"--repair: expected a recipe with leaks: keep, found {recipe.name}, which has no leaks to remove",
            next_step="run the same command without --repair",
        )
    without = f"-without-{'-'.join(missing)}" if missing else ""
    name = f"{recipe.name}{without}{'-repaired' if repair else ''}"
    return recipe.model_copy(update={"name": name, "sources": sources, "leaks": "remove" if repair else recipe.leaks})


def _is_fetched(root: Path, name: str) -> bool:
    try:
        read_source(root, name)
    except MissingError:
        return False
    return True


# ---- decide ----


def _load_sources(job: _BuildJob) -> dict[str, LoadedSource]:
    return {
        name: load_source(
            job.root,
            name,
            source,
            index_images(job.root, name, pool=job.pool, progress=job.progress),
            job.recipe,
        )
        for name, source in job.sources.items()
    }


def _with_notes(loaded: Mapping[str, LoadedSource], notes: Mapping[str, Sequence[str]]) -> dict[str, LoadedSource]:
    """Return the sources with more sentences that a person should read, and log these."""
    for note in (note for found in notes.values() for note in found):
        _log.warning("%s Look at their contact sheets in data/class-maps/", note)
    return {name: replace(source, notes=(*source.notes, *notes.get(name, ()))) for name, source in loaded.items()}


def _readable_images(name: str, source: LoadedSource) -> Iterator[SourceImage]:
    """Give the images of a source that can be read, in the job of their paths."""
    records = {record.path: record for record in source.records}
    refused = {one.image: one.cause for one in source.issues if (one.item, one.action) == ("image", "refused")}
    for facts in source.index.facts:
        if not facts.cause:
            yield SourceImage(
                name,
                facts.path,
                facts.sha256,
                records.get(facts.path),
                refused.get(facts.path, ""),
                source.splits.get(facts.path, ""),
            )


def _pairs(job: _BuildJob, loaded: Mapping[str, LoadedSource]) -> list[Pair]:
    """Find the pairs among all readable images, by their place in the job of `_members`."""
    import numpy as np

    indexes = [source.index for source in loaded.values()]
    readable = [[not facts.cause for facts in one.facts] for one in indexes]
    hashes = np.concatenate([one.hashes[usable] for one, usable in zip(indexes, readable, strict=True)])
    places = [
        (one, index) for one, usable in zip(indexes, readable, strict=True) for index in np.flatnonzero(usable).tolist()
    ]
    digests = [one.facts[index].sha256 for one, index in places]

    def thumbnail(place: int) -> Any:
        one, index = places[place]
        return one.thumbnails[index]

    settings = job.recipe.duplicates
    return find_pairs(hashes, thumbnail, digests, settings, pool=job.pool, progress=job.progress)


def _link(job: _BuildJob, loaded: Mapping[str, LoadedSource], images: Sequence[SourceImage]) -> Linked:
    """Find the pairs by hash, and if the recipe says so also the links by local features."""
    pairs = _pairs(job, loaded)
    if not job.recipe.duplicates.local_features:
        return apply_fixes(images, pairs, (), job.fixes)
    return link_sources(job.root, loaded, images, pairs, job.fixes, pool=job.pool, progress=job.progress)


def _apply_outcomes(loaded: Mapping[str, LoadedSource], decisions: Decisions) -> dict[str, LoadedSource]:
    """Add the decided outcomes to the issues of each source, and check the totals."""
    found = {}
    for name, source in loaded.items():
        outcomes = {outcome.image.path: outcome for outcome in decisions.outcomes if outcome.image.source == name}
        found[name] = source.with_outcomes(outcomes)
    check_kept(found, [one.record for one in decisions.kept])
    return found


def _check(recipe: Recipe, loaded: Mapping[str, LoadedSource], decisions: Decisions) -> None:
    """Check that no required split is empty and that no image has a duplicate in another split.

    Raises:
        DataError: a split is empty, or the recipe uses published splits and there are none.
        FmaskError: an image has a duplicate in another split.
    """
    if decisions.leaks and recipe.leaks == "remove":
        raise FmaskError(
            f"ensemble {recipe.name}: {decisions.leaks} images have a duplicate in another split; this is a bug"
        )
    if (
        recipe.split == "published"
        and decisions.kept
        and not any(one.record.path in loaded[one.record.source].splits for one in decisions.kept)
    ):
        raise DataError(
            f"ensemble {recipe.name}: expected images in folders called train, valid or test, or lists of images called"
            " train.txt, valid.txt or test.txt, found none",
            next_step="give the recipe proportions: split: {train: 0.85, val: 0.10, test: 0.05}",
        )
    if not decisions.kept:
        raise no_usable_image(recipe.name, loaded)
    counts = Counter(one.split for one in decisions.kept)
    required = [split for split in SPLITS if not isinstance(recipe.split, Split) or getattr(recipe.split, split) > 0]
    empty = [split for split in required if not counts[split] and (split == "train" or recipe.split != "published")]
    if empty:
        total = sum(len(source.index.facts) for source in loaded.values())
        raise DataError(
            f"ensemble {recipe.name}: expected images for {', '.join(empty)}, found none"
            f" ({len(decisions.kept)} of {total} images can be used)",
            next_step="add a source to the recipe, or change its split",
        )


# ---- write ----


def _write(
    job: _BuildJob,
    folder: Path,
    loaded: Mapping[str, LoadedSource],
    decisions: Decisions,
    zooms: Zooms,
    reusable: Mapping[str, ReusableImage],
) -> Totals:
    """Write everything except the card into `folder`; `reusable` are the images of an earlier build."""
    facts = {name: source.index.by_path for name, source in loaded.items()}
    plan = make_plan(decisions.kept, facts, job.recipe.augment, zooms)
    settings = WriteSettings({name: _files(job, name) for name in job.sources}, folder.resolve(), job.recipe.augment)
    totals = write(plan, len(decisions.kept), settings, reusable, job.pool, job.progress)
    write_data_yaml(folder / "data.yaml", totals.outputs)
    write_groups(folder / "groups.parquet", decisions.duplicates, _kept_images(decisions, facts))
    write_issues(folder / "issues.parquet", [issue for source in loaded.values() for issue in source.issues])
    if job.recipe.augment is not None:
        _draw_transforms(job, job.recipe.augment, folder, facts, decisions)
        _draw_zooms(job, folder, facts, decisions, zooms)
    return totals


def _files(job: _BuildJob, source: str) -> Path:
    return (
        source_folder(job.root, source) / "files"
    ).resolve()  # processes on other machines have another current folder


def _decoded(files: Path, facts: ImageFacts) -> Any:
    return decoded_plain(make_plain(read_published(files, facts), facts)[0], facts)


def _reduced(files: Path, record: ImageRecord, facts: ImageFacts) -> tuple[Any, Sequence[Annotation]]:
    """Return an image and its labels, reduced so that all images of a contact sheet fit in memory."""
    return transforms.reduced(_decoded(files, facts), record.labels, _SHOWN_SIDE)


def _kept_images(decisions: Decisions, facts: Mapping[str, Mapping[str, ImageFacts]]) -> dict[tuple[str, str], str]:
    """Return the path in the ensemble of the kept image of each group, by source and path."""
    wanted = {(one.image.source, one.image.path) for one in decisions.duplicates if one.role == "kept"}
    return {
        (one.record.source, one.record.path): original_image(one, facts[one.record.source][one.record.path])
        for one in decisions.kept
        if (one.record.source, one.record.path) in wanted
    }


def _draw_transforms(
    job: _BuildJob, settings: Augment, folder: Path, facts: Mapping[str, Mapping[str, ImageFacts]], decisions: Decisions
) -> None:
    """Save a contact sheet of each augmented copy, before and after, from the first images with faces."""
    shown = [one.record for one in decisions.kept if one.split == "train" and one.record.labels][:_SHOWN]
    images = [_reduced(_files(job, one.source), one, facts[one.source][one.path]) for one in shown]
    for name, steps in settings.copies.items():
        examples = list(examples_of(images, steps, settings.seed))
        transform_sheet(examples, folder / "transforms" / f"{name}.jpg", f"{job.recipe.name}, copy '{name}'")


def _draw_zooms(
    job: _BuildJob, folder: Path, facts: Mapping[str, Mapping[str, ImageFacts]], decisions: Decisions, zooms: Zooms
) -> None:
    """Save a contact sheet of the first zoomed copies, beside the images that they are a part of."""
    keys = [key for one in decisions.kept if (key := (one.record.source, one.record.path)) in zooms][:PAIRS]
    if not keys:
        return
    examples = []
    for source, path in keys:
        image, crop = _decoded(_files(job, source), facts[source][path]), zooms[source, path][0]
        examples.append((ZOOMED, image, image[crop.y_min : crop.y_max, crop.x_min : crop.x_max]))
    transform_sheet(examples, folder / "transforms" / f"{ZOOMED}.jpg", f"{job.recipe.name}, zoomed copies")
