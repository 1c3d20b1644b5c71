"""Whole builds: duplicates, missing sources, published splits, and what a rebuild reuses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from facemask_train.core.errors import DataError, MissingError, StorageError, UsageError
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import Annotation, Box
from facemask_train.dataset import build as building
from facemask_train.dataset import write as writing
from facemask_train.dataset.build import BuildResult, build
from facemask_train.dataset.card import BuildInputs, EnsembleCard, GroupCounts, ItemCounts, SplitCounts
from facemask_train.dataset.grouping.hashing import orient_image
from facemask_train.formats import yolo
from facemask_train.sources.fetch import fetch
from helpers.cards import change_card
from helpers.copies import encoded
from helpers.versions import AUGMENT, add_voc, add_yolo, configure, labels, make_world, scene

ALONE = WorkerPool(workers=1)
SPLIT = {"train": 0.5, "val": 0.25, "test": 0.25}


def made(root: Path, **options: object) -> BuildResult:
    fetch(root, ["one", "two"])
    return build(root, "x", pool=ALONE, **options)  # type: ignore[arg-type]


def manifest(root: Path, name: str = "x") -> pd.DataFrame:
    return pd.read_parquet(root / "data/ensembles" / name / "manifest.parquet")


# ---- copies ----


def test_duplicates_are_merged_or_excluded_together(tmp_path: Path) -> None:
    card = made(make_world(tmp_path)).card
    assert (card.split_by, card.leaks) == ("group", 0)
    assert card.groups == GroupCounts(
        groups=4, images=8, largest=2, split_groups=4, largest_split_group=2, conflicts=1, excluded=1, joined=0
    )
    assert card.overlap == {"one": {"one": 0, "two": 4}, "two": {"one": 4, "two": 0}}
    assert card.images == ItemCounts(total=24, kept=18, merged=2, repaired=0, refused=4)
    assert card.boxes.total == card.boxes.kept + card.boxes.merged + card.boxes.refused
    rows = pd.read_parquet(tmp_path / "data/ensembles/x/issues.parquet")
    images = rows[rows["item"] == "image"]
    assert dict(zip(images["source"] + "/" + images["image"], images["cause"], strict=True)) == {
        "one/images/a3.png": "worn-incorrectly",
        "two/pics/b3.jpg": "copy-of-worn-incorrectly",
        "one/images/a2.png": "class-conflict",
        "two/pics/b2.jpg": "class-conflict",
        "two/pics/b0.jpg": "copy",
        "two/pics/b1.jpg": "copy",
    }
    merged = rows[(rows["item"] == "box") & (rows["cause"] == "copy")]
    assert set(merged["file"]) == {"pics/b0.txt", "pics/b1.txt"}
    assert set(merged["number"]) == {1, 2, 3}
    assert {"a0.png", "a1.png"} <= {Path(path).name for path in manifest(tmp_path)["source_image"]}


def test_groups_have_the_labels_of_duplicates_mapped_to_the_kept_image(tmp_path: Path) -> None:
    made(make_world(tmp_path))
    rows = pd.read_parquet(tmp_path / "data/ensembles/x/groups.parquet")
    merged = rows[rows["role"] == "merged"]
    assert len(merged) == 2
    for row in merged.to_dict("records"):
        kept = manifest(tmp_path).set_index("image").loc[row["image"]]
        assert list(row["matched"]) == list(range(len(kept["labels"])))
        assert min(row["iou"]) > 0.95  # two formats' rounding apart
        corners = [[label[key] for key in ("x_min", "y_min", "x_max", "y_max")] for label in row["labels"]]
        wanted = [[label[key] for key in ("x_min", "y_min", "x_max", "y_max")] for label in kept["labels"]]
        assert np.abs(np.array(corners) - np.array(wanted)).max() < 1.5


def test_an_image_kept_without_faces_is_noted_if_its_duplicate_has_some(tmp_path: Path) -> None:
    root = make_world(tmp_path)
    add_voc(root, "one", "empty", scene(50).image, [])
    add_yolo(root, "two", "pics/full", scene(50).image, labels(scene(50)))
    assert any(note.startswith("Images kept without faces") and ": 1." in note for note in made(root).card.notes)


# ---- missing sources ----


def test_a_missing_source_stops_the_build_or_is_noted(tmp_path: Path) -> None:
    root = make_world(tmp_path)
    configure(root, {"sources": ["one", "two", "three"]}, "one", "two", "three")
    fetch(root, ["one", "two"])
    with pytest.raises(MissingError) as caught:
        build(root, "x", pool=ALONE)
    assert "fmask fetch three" in caught.value.next_step
    done = build(root, "x", pool=ALONE, allow_missing=True)
    assert (done.path.name, done.card.name) == ("x-without-three", "x-without-three")
    assert "Built without three, which was not fetched." in done.card.notes
    assert build(root, "x", pool=ALONE, allow_missing=True).up_to_date
    for name in ("one", "two"):
        shutil.rmtree(root / "data/raw" / name)
    with pytest.raises(MissingError):
        build(root, "x", pool=ALONE, allow_missing=True)


def test_a_missing_preferred_source_is_noted(tmp_path: Path) -> None:
    root = make_world(tmp_path)
    configure(root, {"sources": ["one", "two", "three"], "conflicts": {"prefer": "three"}}, "one", "two", "three")
    notes = made(root, allow_missing=True).card.notes
    assert "Duplicates with conflicting labels are left out, because the preferred source, three, is missing." in notes


def test_unbalanced_classes_are_noted(tmp_path: Path) -> None:
    notes = made(make_world(tmp_path)).card.notes
    assert any(note.startswith("mask is in ") and "3,000 per class" in note for note in notes)


# ---- published splits ----


def published(root: Path, **recipe: object) -> Path:
    for number, part in enumerate(["train"] * 6 + ["valid", "valid"]):
        drawn = scene(200 + number)
        add_yolo(root, "one", f"{part}/c{number}", drawn.image, labels(drawn))
    drawn = scene(200)
    add_yolo(root, "one", "valid/again", np.ascontiguousarray(orient_image(drawn.image, 4)), [])
    configure(root, {"sources": ["one"], "split": "published", **recipe}, "one")
    fetch(root, ["one"])
    return root


def test_a_published_split_is_kept_without_leaks_and_an_empty_split_is_noted(tmp_path: Path) -> None:
    card = build(published(tmp_path), "x", pool=ALONE).card
    assert (card.splits, card.leaks, card.split_by) == (SplitCounts(5, 3, 0), 0, "published")
    assert "The published split test is empty in the fetched files." in card.notes
    data = yaml.safe_load((tmp_path / "data/ensembles/x/data.yaml").read_text())
    assert set(data) == {"train", "val", "names"}
    assert {issue.cause: issue.count for issue in card.issues if issue.item == "image"} == {"copy-in-later-split": 1}


def test_leaks_of_a_published_split_are_counted_and_repaired_on_request(tmp_path: Path) -> None:
    root = published(tmp_path, leaks="keep")
    card = build(root, "x", pool=ALONE).card
    assert (card.splits["train"], card.leaks) == (6, 1)
    assert any("in an earlier split: 1 of 3." in note for note in card.notes)
    repaired = build(root, "x", pool=ALONE, repair=True)
    assert (repaired.path.name, repaired.card.splits["train"], repaired.card.leaks) == ("x-repaired", 5, 0)


def test_repair_without_leaks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a recipe with leaks: keep, found x") as caught:
        made(make_world(tmp_path), repair=True)
    assert caught.value.next_step == "run the same command without --repair"


def test_images_outside_split_folders_are_an_error_or_noted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images in folders called train, valid or test, or lists of images"):
        made(make_world(tmp_path, split="published"))
    root = published(tmp_path / "some")
    add_yolo(root, "one", "extra/d", scene(400).image, labels(scene(400)))
    fetch(root, ["one"])
    assert (
        "Images outside of any split folder or list, assigned to train: 1." in build(root, "x", pool=ALONE).card.notes
    )


def test_each_kept_image_of_a_published_group_is_named(tmp_path: Path) -> None:
    build(published(tmp_path, leaks="keep"), "x", pool=ALONE)
    rows = pd.read_parquet(tmp_path / "data/ensembles/x/groups.parquet").merge(manifest(tmp_path), on="source_image")
    assert list(rows["source_image"]) == ["train/c0.jpg", "valid/again.jpg"]
    assert list(rows["image_x"]) == list(rows["image_y"])


def test_a_published_split_needs_images_to_train_on(tmp_path: Path) -> None:
    add_yolo(tmp_path, "one", "valid/only", scene(1).image, labels(scene(1)))
    configure(tmp_path, {"sources": ["one"], "split": "published"}, "one")
    fetch(tmp_path, ["one"])
    with pytest.raises(DataError, match="expected images for train"):
        build(tmp_path, "x", pool=ALONE)


# ---- augmented copies ----


def test_only_training_images_are_augmented_and_boxes_follow_the_pixels(tmp_path: Path) -> None:
    for number in range(30):
        found = [
            Annotation("mask", Box(8 + number, 6, 38 + number, 50)),
            Annotation("no_mask", Box(100, 70 - number, 145, 110)),
        ]
        grain = np.random.default_rng(number).integers(0, 90, (9, 12, 3), dtype=np.uint8)
        image = cv2.resize(grain, (160, 120), interpolation=cv2.INTER_CUBIC)
        for label in found:
            x_min, y_min, x_max, y_max = map(int, label.box.corners)
            image[y_min:y_max, x_min:x_max] = (230, 20, 20) if label.name == "mask" else (20, 230, 20)
        add_voc(tmp_path, "one", f"p{number}", image, found)
    configure(tmp_path, {"sources": ["one"], "augment": AUGMENT}, "one")
    fetch(tmp_path, ["one"])
    card = build(tmp_path, "x", pool=ALONE).card
    rows = manifest(tmp_path)
    assert card.splits == replace(card.originals, train=3 * card.originals.train)
    assert set(rows[rows["split"] != "train"]["copy"]) == {""}
    assert set(rows[rows["split"] == "train"]["copy"]) == {"", "turned", "small"}
    turns = set()
    for row in rows.to_dict("records"):
        image = np.asarray(Image.open(tmp_path / "data/ensembles/x" / row["image"]).convert("RGB")).astype(int)
        assert image.shape == (row["height"], row["width"], 3)
        text = (tmp_path / "data/ensembles/x" / row["image"].replace("images/", "labels/")).with_suffix(".txt")
        for label in yolo.labels_from(text.read_text(), row["width"], row["height"]):
            color = image[..., 0] - image[..., 1] if label.name == "mask" else image[..., 1] - image[..., 0]
            across, down = np.nonzero((color > 120).any(axis=0))[0], np.nonzero((color > 120).any(axis=1))[0]
            # within a pixel and a half: JPEG keeps color at half the resolution
            extent = (across.min(), down.min(), across.max() + 1, down.max() + 1)
            assert np.abs(np.array(extent) - np.array(label.box.corners)).max() <= 1.5, (row["operation"], label)
        turns.add(row["operation"])
    assert {"turned turn=90", "turned turn=180", "turned turn=270", "small", "copy"} == turns
    sheets = sorted(path.name for path in (tmp_path / "data/ensembles/x/transforms").iterdir())
    assert sheets == ["small.jpg", "turned.jpg"]


# ---- rebuilds ----


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the copies that are made from now on, in this process."""
    seeds: list[int] = []
    stock = writing.render

    def watched(image: object, found: object, steps: object, seed: int) -> object:
        seeds.append(seed)
        return stock(image, found, steps, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "render", watched)
    yield seeds


def test_a_rebuild_writes_only_what_changed(tmp_path: Path, rendered: list[int]) -> None:
    root = make_world(tmp_path, augment=AUGMENT)
    first = made(root)
    assert (first.reused, len(rendered)) == (0, 2 * first.card.originals["train"])
    rendered.clear()
    # another transform of one copy: the other copy and the originals are taken over
    changed = {"copies": {**AUGMENT["copies"], "small": [{"scale": {"factor": [0.3, 0.5]}}]}}
    make_world(root, augment=changed)
    second = made(root)
    assert len(rendered) == first.card.originals["train"]
    assert second.reused == first.card.outputs - first.card.originals["train"]
    rendered.clear()
    # one more source: what stood before is taken over
    for number in range(4):
        add_yolo(root, "three", f"d{number}", scene(300 + number).image, labels(scene(300 + number)))
    configure(root, {"sources": ["one", "two", "three"], "augment": changed}, "one", "two", "three")
    fetch(root, ["three"])
    third = made(root)
    new = third.card.originals["train"] - second.card.originals["train"]
    assert (third.reused, len(rendered)) == (second.card.outputs, 2 * new)
    # and the result is what a first build makes
    other = tmp_path / "anew"
    shutil.copytree(root / "own", other / "own")
    shutil.copytree(root / "configs", other / "configs")
    fetch(other, ["one", "two", "three"])
    assert build(other, "x", pool=ALONE).card == third.card
    assert _files(other) == _files(root)


def _files(root: Path) -> dict[str, bytes]:
    folder = root / "data/ensembles/x"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_damaged_image_of_an_earlier_build_is_not_reused(tmp_path: Path) -> None:
    root = make_world(tmp_path, augment=AUGMENT)
    before = made(root)
    whole = _files(root)
    victims = [root / "data/ensembles/x" / row for row in manifest(root)["image"].iloc[[0, 1]]]
    victims[0].write_bytes(b"damaged")
    victims[1].unlink()
    change_card(root / "data/ensembles/x", inputs=BuildInputs((), {}, {}))
    assert made(root).reused == before.card.outputs - 2
    assert _files(root) == whole


@pytest.mark.parametrize("damage", ["no parquet", "null edits", "an image elsewhere", "gone"])
def test_nothing_is_reused_if_the_manifest_was_changed(tmp_path: Path, damage: str) -> None:
    root = make_world(tmp_path)
    made(root)
    path = root / "data/ensembles/x/manifest.parquet"
    rows = pd.read_parquet(path)
    match damage:
        case "no parquet":
            path.write_bytes(b"not parquet")
        case "null edits":
            rows.assign(edits=None).to_parquet(path)
        case "an image elsewhere":
            rows.assign(image="../../../configs/sources.yaml").to_parquet(path)
        case "gone":
            path.unlink()
    make_world(root, worn_incorrectly="drop-box")
    assert made(root).reused == 0


def test_nothing_is_reused_from_a_build_with_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_world(tmp_path, augment=AUGMENT)
    made(root)
    make_world(root, augment={**AUGMENT, "quality": 91})
    monkeypatch.setattr(cv2, "__version__", "4.0.0")
    done = made(root)
    assert done.reused == 0
    assert done.card.packages["opencv"] == "4.0.0"


@pytest.mark.parametrize("change", ["gone", "new", "other bytes"])
def test_an_image_changed_after_the_fetch_stops_the_build(tmp_path: Path, change: str) -> None:
    root = make_world(tmp_path)
    made(root)
    victim = root / "data/raw/one/files/images/a5.png"
    match change:
        case "gone":
            victim.unlink()
        case "new":
            victim = victim.with_name("a99.png")
            victim.write_bytes(encoded(scene(99).image, kind=".png"))
        case "other bytes":
            victim.write_bytes(encoded(scene(99).image, kind=".png"))
    shutil.rmtree(root / "data/ensembles")
    with pytest.raises(DataError, match=re.escape(f"{victim}: expected the file that was fetched, found")) as caught:
        build(root, "x", pool=ALONE)
    assert caught.value.next_step == f"remove {root / 'data/raw/one'}, then: fmask fetch one"


def test_a_source_fetched_again_during_a_build_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_world(tmp_path)
    fetch(root, ["one", "two"])
    stock = building.make_card

    def late(*args: Any, **named: Any) -> EnsembleCard:
        add_yolo(root, "two", "pics/late", scene(60).image, labels(scene(60)))
        fetch(root, ["two"])
        return stock(*args, **named)

    monkeypatch.setattr(building, "make_card", late)
    with pytest.raises(StorageError, match="fetched again while x was built") as caught:
        build(root, "x", pool=ALONE)
    assert "again" in caught.value.next_step
    assert not (root / "data/ensembles/x").exists()
    monkeypatch.setattr(building, "make_card", stock)
    assert build(root, "x", pool=ALONE).card.images.total == 25


def test_reused_files_are_not_shared(tmp_path: Path) -> None:
    root = make_world(tmp_path)
    made(root)
    make_world(root, worn_incorrectly="drop-box")
    made(root)
    images = list((root / "data/ensembles/x/images").rglob("*.*"))
    assert images
    assert {path.stat().st_nlink for path in images} == {1}
