"""From fetched sources to a version of the ensemble: decide in a pure plan, then write what it says.

The plan is the manifest: one entry for every picture of the ensemble, with the file that it comes from, what is done to
it, and its labels. So the result does not depend on workers, order or machine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from facemask_train.config import Recipe, Source, Target, pick_source, read_recipe, read_sources
from facemask_train.ensemble.clean import Problem
from facemask_train.ensemble.gather import Gathered, Tally, gather
from facemask_train.ensemble.pictures import Facts, make_plain, plain_extension
from facemask_train.ensemble.split import split_of
from facemask_train.ensemble.versions import MARKER, ensemble_folder
from facemask_train.ensemble.workers import spread
from facemask_train.errors import DataError
from facemask_train.folders import digest_data, digest_file, locked, read_json, recover, replacing, write_json
from facemask_train.formats import yolo
from facemask_train.records import CLASSES, SPLITS, Label, Progress, Record, no_progress
from facemask_train.sources.fetch import read_source, source_folder

BUILD_VERSION = 1
"""Raised by hand when the same inputs and settings would give another ensemble."""

ClassMaps = Mapping[str, Mapping[str, Target]]


@dataclass(frozen=True, slots=True)
class Planned:
    """One picture of the ensemble: where it goes (relative to the ensemble), and what it is made from."""

    image: str
    split: str
    record: Record
    facts: Facts

    @property
    def label_file(self) -> str:
        return str(PurePosixPath(self.image.replace("images/", "labels/", 1)).with_suffix(".txt"))

    @property
    def operation(self) -> str:
        return "+".join(self.facts.repairs) or "copy"


@dataclass(frozen=True, slots=True)
class Built:
    """A finished version, as its `ensemble.json` describes it."""

    path: Path
    up_to_date: bool
    card: Mapping[str, Any]


def build(
    root: Path,
    version: str,
    *,
    class_maps: ClassMaps | None = None,
    workers: int = 0,
    progress: Progress = no_progress,
) -> Built:
    """Build `data/ensembles/NAME/` from the fetched sources, or find it up to date.

    Args:
        version: a number (`5`), a name (`v5`), or the path of a recipe.
        class_maps: by source, what each published class or id means; goes before `sources.yaml`.
        workers: processes; 0 takes one for each core.

    Raises:
        MissingError: a source has not been fetched, or there is no such recipe.
        ClassMapError: a source has classes or ids that nobody has named.
        DataError: nothing is left to train on.
    """
    recipe = read_recipe(root, version)
    sources = _sources(root, recipe, class_maps or {})
    inputs = _inputs(root, recipe, sources)
    target = ensemble_folder(root, recipe.name)
    with locked(target):
        recover(target)
        card = read_json(target / MARKER)
        if card is not None and card.get("inputs") == inputs:
            return Built(target, up_to_date=True, card=card)
        gathered = {
            name: gather(root, name, source, recipe=recipe, workers=workers, progress=progress)
            for name, source in sources.items()
        }
        plan = make_plan(gathered, recipe)
        with replacing(target) as folder:
            digests = _write(plan, root, folder, workers=workers, progress=progress)
            _write_tables(folder, plan, digests, gathered)
            card = _card(recipe, inputs, plan, digests, gathered)
            write_json(folder / MARKER, card)
    return Built(target, up_to_date=False, card=card)


def _sources(root: Path, recipe: Recipe, class_maps: ClassMaps) -> dict[str, Source]:
    known = read_sources(root)
    for name in class_maps:
        pick_source(known, name)
    chosen = {name: pick_source(known, name) for name in recipe.sources}
    return {
        name: source.model_copy(update={"classes": dict(class_maps[name])}) if name in class_maps else source
        for name, source in chosen.items()
    }


def _inputs(root: Path, recipe: Recipe, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Return all that the result depends on; equal inputs give an equal ensemble."""
    return {
        "code": BUILD_VERSION,
        "recipe": recipe.model_dump(mode="json", exclude={"description"}),
        "sources": {
            name: {"digest": read_source(root, name)["digest"], "format": source.format, "classes": source.classes}
            for name, source in sources.items()
        },
    }


# ---- plan: records to the pictures of the ensemble ----


def make_plan(gathered: Mapping[str, Gathered], recipe: Recipe) -> list[Planned]:
    """Decide what the ensemble holds. Pure; sorted by image.

    Raises:
        DataError: nothing is left, or a split that the recipe asks for is empty.
    """
    plan = [
        _planned(record, source.facts[record.path], split_of(record.sha256, recipe.split))
        for source in gathered.values()
        for record in source.records
    ]
    counts = Counter(entry.split for entry in plan)
    empty = [split for split in SPLITS if getattr(recipe.split, split) > 0 and not counts[split]]
    if empty:
        raise DataError(
            f"ensemble {recipe.name}: expected pictures for {', '.join(empty)}, found none"
            f" ({len(plan)} pictures can be used)",
            next_step="add a source to the recipe, or change its split",
        )
    return sorted(plan, key=lambda entry: entry.image)


def _planned(record: Record, facts: Facts, split: str) -> Planned:
    stem = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(record.path).stem.lower()).strip("-")[:40]
    unique = digest_data([record.source, record.path])[:10]  # by path: equal stems in two folders stay apart
    name = "-".join(filter(None, (record.source, stem, unique)))
    return Planned(f"images/{split}/{name}{plain_extension(facts)}", split, record, facts)


# ---- write: the plan to files ----


def _write(plan: Sequence[Planned], root: Path, folder: Path, *, workers: int, progress: Progress) -> list[str]:
    """Write pictures and labels; return the pictures' sha256 in the plan's order."""
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    jobs = [(source_folder(root, entry.record.source) / "files", folder, entry) for entry in plan]
    return list(spread(_write_all, jobs, workers, what="write", progress=progress))


def _write_all(jobs: Sequence[tuple[Path, Path, Planned]]) -> list[str]:
    return [_write_one(*job) for job in jobs]


def _write_one(files: Path, folder: Path, entry: Planned) -> str:
    published = files / entry.record.path
    content, _ = make_plain(published.read_bytes(), entry.facts)
    image = folder / entry.image
    image.write_bytes(content)
    text = yolo.lines(entry.record.labels, entry.record.width, entry.record.height)
    (folder / entry.label_file).write_text(text, encoding="utf-8", newline="\n")
    return digest_file(image)


def _write_tables(
    folder: Path, plan: Sequence[Planned], digests: Sequence[str], gathered: Mapping[str, Gathered]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    rows = [_manifest_row(entry, digest) for entry, digest in zip(plan, digests, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows, schema=_manifest_schema()), folder / "manifest.parquet")
    problems = [asdict(problem) for source in gathered.values() for problem in source.problems]
    fields = [(name, pa.int64() if name == "number" else pa.string()) for name in Problem.__dataclass_fields__]
    pq.write_table(pa.Table.from_pylist(problems, schema=pa.schema(fields)), folder / "problems.parquet")
    data = {split: f"images/{split}" for split in SPLITS if any(entry.split == split for entry in plan)}
    names = {"names": dict(enumerate(CLASSES))}
    text = yaml.safe_dump(data | names, sort_keys=False)  # no `path`: the loader takes the yaml's own folder
    (folder / "data.yaml").write_text(text, encoding="utf-8", newline="\n")


def _manifest_schema() -> Any:
    import pyarrow as pa

    corners = [(key, pa.float64()) for key in ("x_min", "y_min", "x_max", "y_max")]
    label = pa.struct([("name", pa.string()), *corners])
    texts = ("image", "split", "source", "source_image", "sha256", "operation", "output_sha256")
    return pa.schema(
        [(key, pa.string()) for key in texts]
        + [("width", pa.int64()), ("height", pa.int64()), ("labels", pa.list_(label))]
    )


def _manifest_row(entry: Planned, digest: str) -> dict[str, Any]:
    record = entry.record
    return {
        "image": entry.image,
        "split": entry.split,
        "source": record.source,
        "source_image": record.path,
        "sha256": record.sha256,
        "operation": entry.operation,
        "output_sha256": digest,
        "width": record.width,
        "height": record.height,
        "labels": [_label_row(label) for label in record.labels],
    }


def _label_row(label: Label) -> dict[str, Any]:
    return {"name": label.name, **{key: round(value, 4) for key, value in asdict(label.box).items()}}


def _card(
    recipe: Recipe,
    inputs: Mapping[str, Any],
    plan: Sequence[Planned],
    digests: Sequence[str],
    gathered: Mapping[str, Gathered],
) -> dict[str, Any]:
    """Return what `ensemble.json` says. Its hash is over what was decided, equal anywhere; no time stands in it."""
    decided = [{**_manifest_row(entry, ""), "output_sha256": None} for entry in plan]
    faces = Counter((entry.split, label.name) for entry in plan for label in entry.record.labels)
    causes = Counter((p.item, p.action, p.cause) for source in gathered.values() for p in source.problems)
    return {
        "name": recipe.name,
        "hash": digest_data([decided, inputs]),
        "pictures_digest": digest_data(sorted(zip((entry.image for entry in plan), digests, strict=True))),
        "description": recipe.description,
        "classes": list(CLASSES),
        "split_by": "file",
        "images": _summed(source.images for source in gathered.values()),
        "boxes": _summed(tally for source in gathered.values() for tally in source.boxes.values()),
        "outputs": len(plan),
        "splits": {split: sum(entry.split == split for entry in plan) for split in SPLITS},
        "faces": {split: {name: faces[split, name] for name in CLASSES} for split in SPLITS},
        "sources": {
            name: {
                "images": source.images.as_json(),
                "boxes": {label: tally.as_json() for label, tally in source.boxes.items()},
            }
            for name, source in gathered.items()
        },
        "causes": [{"item": i, "action": a, "cause": c, "count": causes[i, a, c]} for i, a, c in sorted(causes)],
        "inputs": dict(inputs),
    }


def _summed(tallies: Iterable[Tally]) -> dict[str, int]:
    return sum(tallies, Tally()).as_json()
