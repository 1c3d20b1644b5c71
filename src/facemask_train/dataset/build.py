"""From fetched sources to a version of the ensemble: examine, read, group, decide, and then write what was decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.augment import transforms
from facemask_train.augment.contact_sheets import examples_of, transform_sheet
from facemask_train.core.config import Source, Target, pick_source, read_sources
from facemask_train.core.errors import DataError, FmaskError, MissingError, StorageError, UsageError
from facemask_train.core.files import locked, recover, replacing
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Augment, Recipe, Split, read_recipe
from facemask_train.core.records import VersionError
from facemask_train.core.types import SPLITS, Annotation, ImageRecord, Progress, no_progress
from facemask_train.dataset.card import BuildInputs, EnsembleCard, SourceInputs
from facemask_train.dataset.grouping.duplicates import Pair, find_pairs
from facemask_train.dataset.grouping.groups import Decisions, decide
from facemask_train.dataset.grouping.label_agreement import Member
from facemask_train.dataset.grouping.split import published_split
from facemask_train.dataset.loading.image_index import CATALOGUE_VERSION, catalogue
from facemask_train.dataset.loading.images import Facts, decoded_plain, make_plain, read_published
from facemask_train.dataset.loading.load import Gathered, check_books, gather
from facemask_train.dataset.make_card import make_card
from facemask_train.dataset.plan import WRITE_VERSION, make_plan, original_image
from facemask_train.dataset.tables import Earlier, earlier_images, write_data_yaml, write_groups, write_problems
from facemask_train.dataset.versions import ensemble_folder
from facemask_train.dataset.write import Totals, Workshop, write
from facemask_train.sources.source_record import read_source, source_folder

BUILD_VERSION = 3
"""Raised by hand when the same inputs and settings would give another ensemble."""

_SHOWN, _SHOWN_SIDE = 48, 1024  # images that the sheets of transforms are drawn from, and their longest side

ClassMaps = Mapping[str, Mapping[str, Target]]


@dataclass(frozen=True, slots=True)
class Built:
    """A finished version, as its `ensemble.json` describes it; `taken_over` images are from the build before."""

    path: Path
    up_to_date: bool
    card: EnsembleCard
    taken_over: int = 0


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be built: the recipe as it was asked for, its sources, and those that are left out; and by whom."""

    root: Path
    recipe: Recipe
    sources: Mapping[str, Source]
    missing: tuple[str, ...]
    pool: WorkerPool
    progress: Progress

    def inputs(self) -> BuildInputs:
        """Return everything that the result depends on."""
        return BuildInputs(
            (BUILD_VERSION, CATALOGUE_VERSION, WRITE_VERSION),
            self.recipe.model_dump(mode="json", exclude={"description"}),
            {
                name: SourceInputs(read_source(self.root, name).digest, source.format, source.classes)
                for name, source in self.sources.items()
            },
        )


def build(
    root: Path,
    version: str,
    *,
    class_maps: ClassMaps | None = None,
    allow_missing: bool = False,
    repair: bool = False,
    pool: WorkerPool = WorkerPool(),  # noqa: B008 - frozen
    progress: Progress = no_progress,
) -> Built:
    """Build `data/ensembles/NAME/` from the fetched sources, or find it up to date.

    Args:
        version: a number (`5`), a name (`v5`), or the path of a recipe.
        class_maps: by source, what each published class or id means; goes before `sources.yaml`.
        allow_missing: leave out sources that were not fetched, under a name that says so (`v8-without-karm1a`).
        repair: take out of a published split what has a copy in a later one, as NAME-repaired.

    Raises:
        MissingError: a source has not been fetched, or there is no such recipe.
        ClassMapError: a source has classes or ids that nobody has named.
        DataError: nothing is left to train on.
    """
    recipe = read_recipe(root, version)
    sources, missing = _sources(root, recipe, class_maps or {}, allow_missing=allow_missing)
    recipe = _as_asked(recipe, tuple(sources), missing, repair=repair)
    order = _Order(root, recipe, sources, missing, pool, progress)
    inputs = order.inputs()
    target = ensemble_folder(root, order.recipe.name)
    with locked(target):
        recover(target)
        card = _earlier_card(target)
        if card is not None and card.inputs == inputs:
            return Built(target, up_to_date=True, card=card)
        gathered = _gather(order)
        decided = _decide(order, gathered)
        gathered = _after(gathered, decided)
        _check(order.recipe, gathered, decided)
        with replacing(target) as folder:
            totals = _write(order, folder, gathered, decided, earlier_images(target, card))
            card = make_card(order.recipe, inputs, gathered, decided, totals, order.missing)
            if order.inputs() != inputs:
                raise StorageError(
                    f"{root / 'data' / 'raw'}: a source was fetched anew while {order.recipe.name} was built from it",
                    next_step="run the same command again",
                )
            card.save(folder)
    return Built(target, up_to_date=False, card=card, taken_over=totals.taken_over)


def _earlier_card(folder: Path) -> EnsembleCard | None:
    """Return the card of the build before, or None if there is none or it is from another version of fmask."""
    try:
        return EnsembleCard.load(folder)
    except (MissingError, VersionError):
        return None


def _sources(
    root: Path, recipe: Recipe, class_maps: ClassMaps, *, allow_missing: bool
) -> tuple[dict[str, Source], tuple[str, ...]]:
    """Return the recipe's sources that are to be used, and the names of those that are left out.

    Raises:
        MissingError: one of them was not fetched, and it may not be left out, or none was.
    """
    known = read_sources(root)
    for name in class_maps:
        pick_source(known, name)
    chosen = {name: pick_source(known, name) for name in recipe.sources}
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


def _as_asked(recipe: Recipe, sources: tuple[str, ...], missing: tuple[str, ...], *, repair: bool) -> Recipe:
    """Return the recipe as the options change it, under a name that says so.

    Raises:
        UsageError: there is nothing to repair.
    """
    if repair and recipe.leaks != "keep":
        raise UsageError(
            f"--repair: expected a recipe with leaks: keep, found {recipe.name}, which has no leaks to take out",
            next_step="leave --repair out",
        )
    without = f"-without-{'-'.join(missing)}" if missing else ""
    changes: dict[str, Any] = {"name": f"{recipe.name}{without}{'-repaired' if repair else ''}", "sources": sources}
    return recipe.model_copy(update=changes | ({"leaks": "remove"} if repair else {}))


def _is_fetched(root: Path, name: str) -> bool:
    try:
        read_source(root, name)
    except MissingError:
        return False
    return True


# ---- decide ----


def _gather(order: _Order) -> dict[str, Gathered]:
    return {
        name: gather(
            order.root,
            name,
            source,
            catalogue(order.root, name, pool=order.pool, progress=order.progress),
            order.recipe,
        )
        for name, source in order.sources.items()
    }


def _decide(order: _Order, gathered: Mapping[str, Gathered]) -> Decisions:
    members = [member for name, source in gathered.items() for member in _members(name, source)]
    return decide(members, _pairs(order, gathered), order.recipe)


def _members(name: str, source: Gathered) -> Iterator[Member]:
    """Give the images of a source that can be read, in the order of their paths."""
    records = {record.path: record for record in source.records}
    refused = {one.image: one.cause for one in source.problems if (one.item, one.action) == ("image", "refused")}
    for facts in source.catalogue.facts:
        if not facts.cause:
            yield Member(name, facts.path, facts.sha256, records.get(facts.path), refused.get(facts.path, ""))


def _pairs(order: _Order, gathered: Mapping[str, Gathered]) -> list[Pair]:
    """Find the pairs among all readable images, by their place in the order of `_members`."""
    import numpy as np

    catalogues = [source.catalogue for source in gathered.values()]
    readable = [[not facts.cause for facts in one.facts] for one in catalogues]
    hashes = np.concatenate([one.hashes[usable] for one, usable in zip(catalogues, readable, strict=True)])
    places = [
        (one, index)
        for one, usable in zip(catalogues, readable, strict=True)
        for index in np.flatnonzero(usable).tolist()
    ]
    digests = [one.facts[index].sha256 for one, index in places]

    def thumbnail(place: int) -> Any:
        one, index = places[place]
        return one.thumbnails[index]

    settings = order.recipe.duplicates
    return find_pairs(hashes, thumbnail, digests, settings, pool=order.pool, progress=order.progress)


def _after(gathered: Mapping[str, Gathered], decided: Decisions) -> dict[str, Gathered]:
    """Enter what the groups decided in each source's books, and check them."""
    found = {}
    for name, source in gathered.items():
        fates = {fate.member.path: fate for fate in decided.fates if fate.member.source == name}
        kept = [one.record for one in decided.kept if one.record.source == name]
        found[name] = source.after(fates)
        check_books(name, found[name], len(kept), sum(len(record.labels) for record in kept))
    return found


def _check(recipe: Recipe, gathered: Mapping[str, Gathered], decided: Decisions) -> None:
    """Refuse an ensemble that lacks a split that was asked for, or one whose images stand in two splits.

    Raises:
        DataError: a split is empty, or published splits were asked for and there are none.
        FmaskError: an image has a copy in another split.
    """
    if decided.leaks and recipe.leaks == "remove":
        raise FmaskError(f"ensemble {recipe.name}: {decided.leaks} images have a copy in two splits; this is a bug")
    if (
        recipe.split == "published"
        and decided.kept
        and not any(published_split(one.record.path) for one in decided.kept)
    ):
        raise DataError(
            f"ensemble {recipe.name}: expected images in folders called train, valid or test, found none",
            next_step="give the recipe shares: split: {train: 0.85, val: 0.10, test: 0.05}",
        )
    counts = Counter(one.split for one in decided.kept)
    wanted = [split for split in SPLITS if not isinstance(recipe.split, Split) or getattr(recipe.split, split) > 0]
    empty = [split for split in wanted if not counts[split] and (split == "train" or recipe.split != "published")]
    if empty:
        total = sum(len(source.catalogue.facts) for source in gathered.values())
        raise DataError(
            f"ensemble {recipe.name}: expected images for {', '.join(empty)}, found none"
            f" ({len(decided.kept)} of {total} images can be used)",
            next_step="add a source to the recipe, or change its split",
        )


# ---- write ----


def _write(
    order: _Order, folder: Path, gathered: Mapping[str, Gathered], decided: Decisions, earlier: Mapping[str, Earlier]
) -> Totals:
    """Write everything but the card into `folder`; `earlier` are the images of the build before."""
    facts = {name: source.catalogue.by_path for name, source in gathered.items()}
    plan = make_plan(decided.kept, facts, order.recipe.augment)
    shop = Workshop({name: _files(order, name) for name in order.sources}, folder.resolve(), order.recipe.augment)
    totals = write(plan, len(decided.kept), shop, earlier, order.pool, order.progress)
    write_data_yaml(folder / "data.yaml", totals.outputs)
    write_groups(folder / "groups.parquet", decided.copies, _kept_images(decided, facts))
    write_problems(folder / "problems.parquet", [p for source in gathered.values() for p in source.problems])
    if order.recipe.augment is not None:
        _draw_transforms(order, order.recipe.augment, folder, facts, decided)
    return totals


def _files(order: _Order, source: str) -> Path:
    return (source_folder(order.root, source) / "files").resolve()  # processes elsewhere have another current folder


def _reduced(files: Path, record: ImageRecord, facts: Facts) -> tuple[Any, Sequence[Annotation]]:
    """Return an image and its labels, small enough that all that are shown fit in memory."""
    image = decoded_plain(make_plain(read_published(files, facts), facts)[0], facts)
    return transforms.reduced(image, record.labels, _SHOWN_SIDE)


def _kept_images(decided: Decisions, facts: Mapping[str, Mapping[str, Facts]]) -> dict[tuple[str, str], str]:
    """Return where the kept image of each group is in the ensemble, by source and path."""
    wanted = {(copy.member.source, copy.member.path) for copy in decided.copies if copy.role == "kept"}
    return {
        (one.record.source, one.record.path): original_image(one, facts[one.record.source][one.record.path])
        for one in decided.kept
        if (one.record.source, one.record.path) in wanted
    }


def _draw_transforms(
    order: _Order, settings: Augment, folder: Path, facts: Mapping[str, Mapping[str, Facts]], decided: Decisions
) -> None:
    """Draw a contact sheet of each augmented copy, before and after, from the first images with faces."""
    shown = [one.record for one in decided.kept if one.split == "train" and one.record.labels][:_SHOWN]
    images = [_reduced(_files(order, one.source), one, facts[one.source][one.path]) for one in shown]
    for name, steps in settings.copies.items():
        examples = list(examples_of(images, steps, settings.seed))
        transform_sheet(examples, folder / "transforms" / f"{name}.jpg", f"{order.recipe.name}, copy '{name}'")
