"""From a fetched source's folder to records, with the books of what came in and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from facemask_train import formats
from facemask_train.core.config import Source
from facemask_train.core.errors import ClassMapError, FmaskError
from facemask_train.core.recipe import Recipe
from facemask_train.core.types import CLASSES, WORN_INCORRECTLY, ImageRecord, PublishedRow, SourceReading
from facemask_train.dataset.card import ItemCounts
from facemask_train.dataset.grouping.groups import Fate
from facemask_train.dataset.loading.class_sheet import save_class_sheet
from facemask_train.dataset.loading.image_index import Catalogue
from facemask_train.dataset.loading.validate import UNKNOWN, Problem, Rules, clean
from facemask_train.sources.source_record import altered, source_folder


@dataclass(frozen=True, slots=True)
class Gathered:
    """What one source gave: its images, its records with the rows that they are made of, and its problems.

    `came` counts the rows that came in, by what their class means.
    """

    catalogue: Catalogue
    records: tuple[ImageRecord, ...]
    rows: Mapping[str, tuple[PublishedRow, ...]]
    problems: tuple[Problem, ...]
    rules: Rules
    came: Mapping[str, int]

    def after(self, fates: Mapping[str, Fate]) -> Gathered:
        """Return the books after groups were decided: by path, images that had a record and are not kept after all.

        Their repairs are struck out, since nobody makes them.
        """
        standing = [one for one in self.problems if one.action != "repaired" or one.image not in fates]
        return replace(
            self, problems=(*standing, *(row for path, fate in fates.items() for row in self._rows(path, fate)))
        )

    def _rows(self, path: str, fate: Fate) -> Iterator[Problem]:
        yield Problem(self.rules.source, path, "image", fate.action, fate.cause, fate.detail)
        for row in self.rows[path]:
            yield self.rules.problem(row, path, fate.action, fate.cause, fate.detail)

    def images(self) -> ItemCounts:
        """Return the books of the images."""
        acts = Counter(problem.action for problem in self.problems if problem.item == "image")
        came = len(self.catalogue.facts)
        return ItemCounts(
            came, came - acts["merged"] - acts["refused"], acts["merged"], acts["repaired"], acts["refused"]
        )

    def boxes(self) -> dict[str, ItemCounts]:
        """Return the books of the boxes, by what their class means."""
        acts = Counter((problem.label, problem.action) for problem in self.problems if problem.item == "box")
        return {
            label: ItemCounts(
                self.came[label],
                self.came[label] - acts[label, "merged"] - acts[label, "refused"],
                acts[label, "merged"],
                acts[label, "repaired"],
                acts[label, "refused"],
            )
            for label in (*CLASSES, WORN_INCORRECTLY, UNKNOWN)
            if self.came.get(label)
        }


def gather(root: Path, name: str, source: Source, catalogue: Catalogue, recipe: Recipe) -> Gathered:
    """Read and clean one fetched source whose images have been examined.

    Raises:
        DataError: an image was added or removed after the source was fetched.
    """
    sizes = {facts.path: (facts.width, facts.height) for facts in catalogue.facts if not facts.cause}
    files = source_folder(root, name) / "files"
    reading = formats.read(files, source.format, sizes)
    strange = sorted({image.path for image in reading.images} ^ set(catalogue.by_path))
    if strange:
        raise altered(files / strange[0], "none" if strange[0] in catalogue.by_path else "one that is new")
    rules = Rules(name, _classes(root, name, source, reading), recipe.worn_incorrectly)
    cleaned = clean(reading, catalogue.by_path, rules)
    rows = [row for image in reading.images for row in image.rows] + list(reading.orphans)
    came = Counter(rules.meaning(row) for row in rows)
    return Gathered(catalogue, cleaned.records, cleaned.rows, cleaned.problems, rules, came)


def check_books(name: str, gathered: Gathered, images: int, labels: int) -> None:
    """Hold what a source's books say is kept against what the ensemble has of it.

    Args:
        images, labels: the images and labels of the source that the ensemble keeps.

    Raises:
        FmaskError: they differ: an image or a box went astray without a row that says why.
    """
    books = (gathered.images().kept, sum(counts.kept for counts in gathered.boxes().values()))
    if books != (images, labels):
        raise FmaskError(
            f"{name}: the books say that {books} images and boxes are kept, found {(images, labels)}; this is a bug"
        )


def _classes(root: Path, name: str, source: Source, reading: SourceReading) -> Mapping[str, str]:
    """Return what each name in the reading's rows means.

    Raises:
        ClassMapError: the rows have ids and nobody has said what they mean, or no name is known.
    """
    by_id = bool(source.classes) and all(key.isdecimal() for key in source.classes)
    if by_id and reading.names:
        return {reading.names[int(key)]: to for key, to in source.classes.items() if int(key) < len(reading.names)}
    rows = [row for image in reading.images for row in image.rows if row.corners]
    known = reading.names is not None or by_id
    if known and (not rows or any(row.name in source.classes for row in rows)):
        return source.classes
    raise _ask_for_classes(root, name, source, reading)


def _ask_for_classes(root: Path, name: str, source: Source, reading: SourceReading) -> ClassMapError:
    """Draw what each class looks like, and make the error that asks for the class map."""
    pairs = [(image.path, row) for image in reading.images for row in image.rows if row.corners]
    histogram = Counter(row.name for _, row in pairs)
    sheet = root / "data" / "class-maps" / f"{name}.jpg"
    save_class_sheet(source_folder(root, name) / "files", pairs, sheet)
    counts = ", ".join(f"{key}: {histogram[key]} boxes" for key in sorted(histogram))
    example = ",".join(f"{key}:{CLASSES[i % 2]}" for i, key in enumerate(sorted(histogram)))
    have = "no names file" if reading.names is None else "names that the class map does not have"
    known = f"classes named {', '.join(source.classes)}" if source.classes else "a class map (classes: in sources.yaml)"
    return ClassMapError(
        f"{source_folder(root, name)}: expected {known}; found {have} ({counts})",
        next_step=f"look at {sheet}, then say which is which, for example: --class-map {name}={example}",
    )
