"""From a fetched source's folder to records, with the books of what came in and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train import formats
from facemask_train.config import Recipe, Source
from facemask_train.ensemble.card import class_sheet
from facemask_train.ensemble.clean import UNKNOWN, Problem, Rules, clean
from facemask_train.ensemble.pictures import Facts, examine
from facemask_train.ensemble.workers import spread
from facemask_train.errors import ClassMapError, FmaskError
from facemask_train.records import CLASSES, WORN_INCORRECTLY, Progress, Reading, Record, no_progress
from facemask_train.sources.fetch import source_folder


@dataclass(frozen=True, slots=True)
class Tally:
    """What came in and what became of it: `in` = kept + merged + refused; `repaired` is part of kept."""

    came: int = 0
    kept: int = 0
    merged: int = 0
    repaired: int = 0
    refused: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)))

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        return (self.came, self.kept, self.merged, self.repaired, self.refused)

    def as_json(self) -> dict[str, int]:
        return dict(zip(("in", "kept", "merged", "repaired", "refused"), self.counts, strict=True))


@dataclass(frozen=True, slots=True)
class Gathered:
    """What one source gave: its records, its problems, and what was found in its files."""

    records: tuple[Record, ...]
    problems: tuple[Problem, ...]
    facts: Mapping[str, Facts]
    images: Tally
    boxes: Mapping[str, Tally]


# ---- gather: a source's folder to records ----


def gather(
    root: Path, name: str, source: Source, *, recipe: Recipe, workers: int = 0, progress: Progress = no_progress
) -> Gathered:
    """Read, check and clean one fetched source."""
    folder = source_folder(root, name) / "files"
    paths = formats.list_pictures(folder)
    jobs = [(folder, path) for path in paths]
    found = list(spread(_examine_all, jobs, workers, what=f"check {name}", progress=progress))
    facts = {fact.path: fact for fact in found}
    sizes = {path: (fact.width, fact.height) for path, fact in facts.items() if not fact.cause}
    reading = formats.read(folder, source.format, sizes)
    classes = _classes(root, name, source, reading)
    rules = Rules(name, classes, recipe.worn_incorrectly)
    cleaned = clean(reading, facts, rules)
    images = _tally_images(reading, cleaned.records, cleaned.problems)
    boxes = _tally_boxes(reading, cleaned.problems, rules)
    _check_books(name, images, boxes, cleaned.records)
    return Gathered(cleaned.records, cleaned.problems, facts, images, boxes)


def _examine_all(jobs: Sequence[tuple[Path, str]]) -> list[Facts]:
    return [examine(folder, path) for folder, path in jobs]


def _classes(root: Path, name: str, source: Source, reading: Reading) -> Mapping[str, str]:
    """Return what each name in the reading's rows means.

    Raises:
        ClassMapError: the rows have ids and nobody has said what they mean, or no name is known.
    """
    by_id = bool(source.classes) and all(key.isdecimal() for key in source.classes)
    if by_id and reading.names:
        return {reading.names[int(key)]: to for key, to in source.classes.items() if int(key) < len(reading.names)}
    rows = [row for picture in reading.pictures for row in picture.rows if row.corners]
    known = reading.names is not None or by_id
    if known and (not rows or any(row.name in source.classes for row in rows)):
        return source.classes
    raise _ask_for_classes(root, name, source, reading)


def _ask_for_classes(root: Path, name: str, source: Source, reading: Reading) -> ClassMapError:
    """Draw what each class looks like, and make the error that asks for the class map."""
    pairs = [(picture.path, row) for picture in reading.pictures for row in picture.rows if row.corners]
    histogram = Counter(row.name for _, row in pairs)
    sheet = root / "data" / "class-maps" / f"{name}.jpg"
    class_sheet(source_folder(root, name) / "files", pairs, sheet)
    counts = ", ".join(f"{key}: {histogram[key]} boxes" for key in sorted(histogram))
    example = ",".join(f"{key}:{CLASSES[i % 2]}" for i, key in enumerate(sorted(histogram)))
    have = "no names file" if reading.names is None else "names that the class map does not have"
    known = ", ".join(source.classes) or "nothing"
    return ClassMapError(
        f"{source_folder(root, name)}: expected classes named {known}; found {have} ({counts})",
        next_step=f"look at {sheet}, then say which is which, for example: --class-map {name}={example}",
    )


def _tally_images(reading: Reading, records: Sequence[Record], problems: Iterable[Problem]) -> Tally:
    acts = Counter(problem.action for problem in problems if problem.item == "image")
    return Tally(len(reading.pictures), len(records), acts["merged"], acts["repaired"], acts["refused"])


def _tally_boxes(reading: Reading, problems: Iterable[Problem], rules: Rules) -> dict[str, Tally]:
    """Return the boxes' tally by what their class means."""
    rows = [row for picture in reading.pictures for row in picture.rows] + list(reading.orphans)
    came = Counter(rules.meaning(row) for row in rows)
    acts = Counter((problem.label, problem.action) for problem in problems if problem.item == "box")
    return {
        label: Tally(
            came[label],
            came[label] - acts[label, "merged"] - acts[label, "refused"],
            acts[label, "merged"],
            acts[label, "repaired"],
            acts[label, "refused"],
        )
        for label in (*CLASSES, WORN_INCORRECTLY, UNKNOWN)
        if came[label]
    }


def _check_books(name: str, images: Tally, boxes: Mapping[str, Tally], records: Sequence[Record]) -> None:
    kept = sum(len(record.labels) for record in records)
    if images.came != images.kept + images.merged + images.refused or kept != sum(t.kept for t in boxes.values()):
        raise FmaskError(f"{name}: the accounting does not add up ({images}, {boxes}, {kept} labels); this is a bug")
