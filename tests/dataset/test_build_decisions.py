"""What a build decides before it writes: sources, names, outcomes and splits, on records written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facemask_train.core.config import parse
from facemask_train.core.errors import DataError, FmaskError, MissingError, StorageError, UsageError
from facemask_train.core.fixes import Fixes
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Recipe
from facemask_train.core.types import Annotation, Box, ImageRecord
from facemask_train.dataset import build as module
from facemask_train.dataset.card import GroupCounts, ItemCounts
from facemask_train.dataset.grouping.groups import Decisions, Kept, Outcome
from facemask_train.dataset.grouping.label_agreement import Duplicate, SourceImage
from facemask_train.dataset.loading.image_index import ImageIndex
from facemask_train.dataset.loading.images import ImageFacts
from facemask_train.dataset.loading.load import LoadedSource
from facemask_train.dataset.loading.validate import Issue, LabelRules
from facemask_train.sources.fetch import fetch
from helpers.records import is_fixed, records
from helpers.worlds import make_root, write

ALONE = WorkerPool(workers=1)
FACE = Annotation("mask", Box(1, 1, 9, 9))
NOTHING = Decisions((), (), (), (), {}, GroupCounts(), 0)


def recipe(**changes: object) -> Recipe:
    return parse(Recipe, {"name": "tiny", "sources": ["first", "second"], **changes}, where="test")


# ---- sources and names ----


def fetched(root: Path, *names: str) -> Path:
    make_root(root, images=1)
    fetch(root, list(names))
    return root


def test_all_sources_are_used_in_the_recipes_order(tmp_path: Path) -> None:
    root = fetched(tmp_path, "first", "second")
    sources, missing = module._sources(root, recipe(sources=["second", "first"]), {}, allow_missing=False)
    assert (list(sources), missing) == (["second", "first"], ())
    assert sources["second"].classes == {"masked": "mask", "bare": "no_mask"}


def test_a_class_map_overrides_that_of_the_source(tmp_path: Path) -> None:
    root = fetched(tmp_path, "first", "second")
    sources, _ = module._sources(root, recipe(), {"second": {"0": "no_mask"}}, allow_missing=False)
    assert sources["second"].classes == {"0": "no_mask"}
    assert sources["first"].classes["mask"] == "mask"
    with pytest.raises(UsageError, match="thrid"):
        module._sources(root, recipe(), {"thrid": {"0": "no_mask"}}, allow_missing=False)


def test_a_missing_source_stops_unless_it_may_be_left_out(tmp_path: Path) -> None:
    root = fetched(tmp_path, "first")
    with pytest.raises(MissingError, match="found no second") as caught:
        module._sources(root, recipe(), {}, allow_missing=False)
    assert caught.value.next_step == "fmask fetch second (or leave out what is missing: --allow-missing)"
    sources, missing = module._sources(root, recipe(), {}, allow_missing=True)
    assert (list(sources), missing) == (["first"], ("second",))


@pytest.mark.parametrize("allow_missing", [False, True])
def test_without_any_source_there_is_nothing_to_build(tmp_path: Path, allow_missing: bool) -> None:
    root = make_root(tmp_path, images=1)
    with pytest.raises(MissingError, match="found no first, second") as caught:
        module._sources(root, recipe(), {}, allow_missing=allow_missing)
    assert caught.value.next_step == "fmask fetch first second"


@pytest.mark.parametrize(
    ("missing", "repair", "name"),
    [
        ((), False, "tiny"),
        (("second",), False, "tiny-without-second"),
        (("first", "second"), False, "tiny-without-first-second"),
        ((), True, "tiny-repaired"),
        (("second",), True, "tiny-without-second-repaired"),
    ],
)
def test_the_name_of_an_ensemble_shows_its_options(missing: tuple[str, ...], repair: bool, name: str) -> None:
    found = module._with_options(recipe(split="published", leaks="keep"), ("first",), missing, repair=repair)
    assert (found.name, found.sources, found.leaks) == (name, ("first",), "remove" if repair else "keep")


def test_a_recipe_without_leaks_cannot_be_repaired() -> None:
    for plain in (recipe(), recipe(split="published")):
        with pytest.raises(UsageError, match="--repair: expected a recipe with leaks: keep, found tiny"):
            module._with_options(plain, ("first",), (), repair=True)
        assert module._with_options(plain, ("first",), (), repair=False).name == "tiny"


# ---- the books ----


def facts(path: str, cause: str = "") -> ImageFacts:
    return ImageFacts(path, f"{path}-digest", 96, 64, (96, 64), extension=".png", cause=cause)


def record(path: str, faces: int = 1, source: str = "first") -> ImageRecord:
    return ImageRecord(source, path, f"{path}-digest", 96, 64, (FACE,) * faces)


def loaded(*found: ImageFacts, records: tuple[ImageRecord, ...] = (), issues: tuple[Issue, ...] = ()) -> LoadedSource:
    images = ImageIndex(
        found,
        np.arange(4 * len(found), dtype=np.uint64).reshape(-1, 4),  # type: ignore[arg-type]
        np.arange(len(found), dtype=np.uint8).reshape(-1, 1, 1),
    )
    published = {"mask": sum(len(one.labels) for one in records)}
    return LoadedSource(
        images, records, {one.path: () for one in records}, issues, LabelRules("first", {}, "drop-box"), published
    )


def refused(path: str, item: str = "image", action: str = "refused") -> Issue:
    return Issue("first", path, item, action, "no-label-file")  # type: ignore[arg-type]


def test_unreadable_images_are_left_out() -> None:
    """With their record, or why they have none: repairs, and boxes that were refused, say nothing of an image."""
    source = loaded(
        *(facts("a.png"), facts("b.png", "truncated"), facts("c.png"), facts("d.png"), facts("e.png")),
        records=(record("d.png"), record("a.png")),
        issues=(refused("c.png"), refused("d.png", action="repaired"), refused("a.png", item="box")),
    )
    assert list(module._readable_images("first", source)) == [
        SourceImage("first", "a.png", "a.png-digest", record("a.png"), ""),
        SourceImage("first", "c.png", "c.png-digest", None, "no-label-file"),
        SourceImage("first", "d.png", "d.png-digest", record("d.png"), ""),
        SourceImage("first", "e.png", "e.png-digest", None, ""),
    ]


def test_pairs_are_searched_among_readable_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def find(hashes: np.ndarray, thumbnail: object, digests: list[str], settings: object, **_: object) -> list[object]:
        shown = [int(thumbnail(place)[0, 0]) for place in range(len(digests))]  # type: ignore[operator]
        seen.update(hashes=hashes[:, 0].tolist(), shown=shown, digests=digests)
        return []

    monkeypatch.setattr(module, "find_pairs", find)
    sources = {
        "first": loaded(facts("a.png"), facts("b.png", "truncated"), facts("c.png")),
        "second": loaded(facts("d.png", "truncated"), facts("e.png")),
    }
    order = module._BuildJob(Path(), recipe(), Fixes(), {}, (), ALONE, lambda *_: None)
    assert module._pairs(order, sources) == []
    assert seen == {
        "hashes": [0, 8, 4],
        "shown": [0, 2, 1],
        "digests": ["a.png-digest", "c.png-digest", "e.png-digest"],
    }


def kept(path: str, split: str = "train", source: str = "first", faces: int = 1) -> Kept:
    return Kept(record(path, faces, source), split, "x")


def test_outcomes_are_added_source_by_source() -> None:
    one, two = record("a.png", 2), record("b.png", 3)
    source = replace(loaded(facts("a.png"), facts("b.png"), records=(one, two)), published={})
    source = replace(source, published={"mask": 2})
    source_image = SourceImage("first", "b.png", "x", two, "")
    other = replace(source_image, source="second", path="a.png")
    decided = replace(
        NOTHING,
        kept=(kept("a.png", faces=2), kept("z.png", source="second", faces=7), kept("y.png", source="earlier")),
        outcomes=(Outcome(source_image, "merged", "copy", "of a.png"), Outcome(other, "refused", "copy", "")),
    )
    (found,) = module._apply_outcomes({"first": source}, decided).values()
    assert found.images() == ItemCounts(2, 1, 1, 0, 0)
    assert [(entry.image, entry.action) for entry in found.issues] == [("b.png", "merged")]
    for astray in (replace(decided, kept=()), replace(decided, outcomes=())):
        with pytest.raises(FmaskError, match="this is a bug"):
            module._apply_outcomes({"first": source}, astray)


def test_notes_are_logged_and_kept_with_their_source(caplog: pytest.LogCaptureFixture) -> None:
    source = replace(loaded(), notes=("old.",))
    found = module._with_notes({"first": source, "second": loaded()}, {"first": ["The classes look exchanged."]})
    assert (found["first"].notes, found["second"].notes) == (("old.", "The classes look exchanged."), ())
    assert "The classes look exchanged. Look at their contact sheets" in caplog.text


# ---- splits ----

FOLDERS = ("train/1.png", "valid/2.png", "test/3.png")
SPLITS = ("train", "val", "test")


def decided(*splits: str, leaks: int = 0, paths: tuple[str, ...] = FOLDERS) -> Decisions:
    return replace(NOTHING, kept=tuple(kept(paths[SPLITS.index(one)], one) for one in splits), leaks=leaks)


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({}, decided(*SPLITS)),
        ({"split": {"train": 1, "val": 0, "test": 0}}, decided("train")),
        ({"split": {"train": 0.5, "val": 0.5, "test": 0}}, decided("train", "val")),
        ({"split": "published"}, decided("train")),  # it has no more
        ({"split": "published"}, decided("train", "test")),
        ({"split": "published", "leaks": "keep"}, decided("train", "val", leaks=3)),
    ],
)
def test_what_can_be_built(changes: dict[str, object], given: Decisions) -> None:
    module._check(
        recipe(**changes), {"first": replace(loaded(), splits=dict(zip(FOLDERS, SPLITS, strict=True)))}, given
    )


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({}, decided("train", "val"), "expected images for test, found none (2 of 5 images can be used)"),
        ({}, decided("val"), "expected images for train, test, found none (1 of 5"),
        ({"split": {"train": 0.5, "val": 0.5, "test": 0}}, decided("train"), "expected images for val, found none"),
        ({"split": "published"}, decided("val", "test"), "expected images for train, found none"),
        ({"split": "published"}, decided(), "0 of 5 images can be used: "),
        (
            {"split": "published"},
            decided("train", paths=("a/1.png",)),
            "expected images in folders called train, valid or test, or lists of images called train.txt",
        ),
    ],
)
def test_an_empty_split_is_refused(changes: dict[str, object], given: Decisions, message: str) -> None:
    sources = {
        "first": replace(
            loaded(facts("1.png"), facts("2.png"), facts("3.png")), splits=dict(zip(FOLDERS, SPLITS, strict=True))
        ),
        "second": loaded(facts("4.png"), facts("5.png", "truncated")),
    }
    with pytest.raises(DataError) as caught:
        module._check(recipe(**changes), sources, given)
    assert f"ensemble tiny: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("issues", "said", "next_step"),
    [
        (
            [("a b.png", "image", "no-label-file"), ("c.png", "image", "no-label-file"), ("", "box", "no-image")],
            "0 of 2 images can be used: none has a label file; found labels/a%20b.txt, did you mean labels/a b.txt for"
            " a b.png?",
            "give each image a label file",
        ),
        (
            [("a b.png", "image", "no-label-file"), ("c.png", "image", "unreadable")],
            "0 of 2 images can be used: 1 without a label file, unreadable: 1",
            "give each image a label file",
        ),
        ([("a b.png", "image", "copy-of-worn-incorrectly")], "0 of 2 images can be used: copy-of-worn", "sources"),
    ],
)
def test_an_ensemble_without_an_image_says_why(issues: list[tuple[str, str, str]], said: str, next_step: str) -> None:
    found = tuple(
        Issue("first", image, item, "refused", cause, file="" if image else "labels/a%20b.txt")  # type: ignore[arg-type]
        for image, item, cause in issues
    )
    sources = {"first": replace(loaded(facts("a b.png"), facts("c.png")), issues=found)}
    with pytest.raises(DataError) as caught:
        module._check(recipe(), sources, decided())
    assert str(caught.value).startswith(f"ensemble tiny: {said}")
    assert next_step in caught.value.next_step


def test_a_duplicate_in_another_split_is_a_bug() -> None:
    for changes in ({}, {"split": "published"}):
        with pytest.raises(FmaskError, match="2 images have a duplicate in another split; this is a bug"):
            module._check(recipe(**changes), {}, decided(*SPLITS, leaks=2))


# ---- what is written ----


def test_where_the_kept_image_of_each_group_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "original_image", lambda one, found: f"{one.split}/{found.path}")
    members = [SourceImage("first", path, "x", record(path), "") for path in ("a.png", "b.png", "c.png")]
    duplicates = (
        Duplicate(0, members[0], "kept", "", 0, 1.0, (), (), ()),
        Duplicate(0, members[1], "merged", "copy", 0, 1.0, (), (), ()),
        Duplicate(1, replace(members[2], source="second"), "kept", "", 0, 1.0, (), (), ()),
    )
    given = replace(
        NOTHING, kept=(kept("a.png"), kept("c.png"), kept("c.png", "test", "second")), duplicates=duplicates
    )
    by_path = {path: facts(path) for path in ("a.png", "b.png", "c.png")}
    assert module._kept_images(given, {"first": by_path, "second": by_path}) == {
        ("first", "a.png"): "train/a.png",
        ("second", "c.png"): "test/c.png",
    }


# ---- the whole ----


def test_a_second_build_reuses_images(tmp_path: Path) -> None:
    make_root(tmp_path, images=1, recipe={"split": {"train": 1, "val": 0, "test": 0}})
    fetch(tmp_path, ["first"])
    seen: list[str] = []

    def build(**changes: object) -> module.BuildResult:
        options = {"allow_missing": True, "pool": ALONE, "progress": lambda what, *_: seen.append(what)}
        return module.build(tmp_path, "tiny", **options | changes)  # type: ignore[arg-type]

    first = build()
    assert first.path.name == "tiny-without-second"
    assert (first.up_to_date, first.reused) == (False, 0)
    assert seen
    assert (first.card.images.total, first.card.images.kept, first.card.outputs) == (1, 1, 1)
    seen.clear()
    again = build()
    assert (again.path, again.up_to_date, again.reused, seen) == (first.path, True, 0, [])
    assert again.card == first.card
    make_root(tmp_path, images=1, recipe={"split": {"train": 1, "val": 0, "test": 0}, "worn_incorrectly": "drop-box"})
    other = build()
    assert (other.up_to_date, other.reused) == (False, 1)
    with pytest.raises(MissingError):
        build(allow_missing=False)
    with pytest.raises(UsageError, match="--repair"):
        build(repair=True)


def test_transforms_are_drawn_from_training_images_with_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_root(tmp_path, images=1)
    fetch(tmp_path, ["first"])
    copies = {"seed": 3, "copies": {"flip": [{"do": "mirror"}]}}
    shown: list[str] = []
    monkeypatch.setattr(module, "_reduced", lambda files, one, found: shown.append(f"{files.name}/{one.path}"))
    monkeypatch.setattr(module, "examples_of", lambda images, steps, seed: images)
    monkeypatch.setattr(module, "transform_sheet", lambda examples, path, title: shown.append(path.name))
    order = module._BuildJob(tmp_path, recipe(), Fixes(), {}, (), ALONE, lambda *_: None)
    settings = type("Settings", (), copies)
    paths = [f"{number:02}.png" for number in range(60)]
    given = replace(
        NOTHING,
        kept=(kept("test.png", "test"), kept("empty.png", faces=0), *(kept(path) for path in paths)),
    )
    module._draw_transforms(order, settings, tmp_path, {"first": {path: facts(path) for path in paths}}, given)  # type: ignore[arg-type]
    assert shown == [*(f"files/{path}" for path in paths[:48]), "flip.jpg"]


def test_a_source_that_changes_meanwhile_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path, images=1, recipe={"sources": ["first"], "split": {"train": 1, "val": 0, "test": 0}})
    fetch(root, ["first"])
    make_card = module.make_card

    def change_meanwhile(*given: object, **named: object) -> object:
        write(root / "data/raw/first", {"source.json": (root / "data/raw/first/source.json").read_text().replace(
            module.read_source(root, "first").digest, "sha256:other"
        )})  # fmt: skip
        return make_card(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "make_card", change_meanwhile)
    with pytest.raises(StorageError, match="fetched again while tiny was built"):
        module.build(root, "tiny", pool=ALONE)
    assert not (root / "data/ensembles/tiny").exists()


def test_records_are_fixed() -> None:
    assert {module.BuildResult} <= set(records(module))
    assert all(map(is_fixed, records(module)))
