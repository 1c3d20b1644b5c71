"""build-dataset: totals compared with an independent count, equal bytes in any folder, and what YOLO loaders read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from facemask_train.core.errors import ClassMapError, DataError, MissingError, UsageError
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Split
from facemask_train.dataset.build import build
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.grouping.split import split_of
from facemask_train.dataset.versions import find_ensemble
from facemask_train.formats import yolo
from facemask_train.sources.fetch import fetch
from helpers.crash import every_death, tree
from helpers.worlds import HEIGHT, WIDTH, image, make_root, write

ALONE = WorkerPool(workers=1)
BUILD = """
import sys
from pathlib import Path
from facemask_train.dataset.build import build
from facemask_train.core.parallel import WorkerPool
build(Path(sys.argv[1]), "tiny", pool=WorkerPool(workers=int((sys.argv + ["1"])[2])))
"""


def built(root: Path, **recipe: object) -> EnsembleCard:
    """Fetch and build the tiny ensemble; return its card."""
    make_root(root, recipe=recipe) if not (root / "own").exists() else None
    fetch(root, ["first", "second"])
    return build(root, "tiny", pool=ALONE).card


def test_yolo_tools_can_train_on_what_is_written(tmp_path: Path) -> None:
    card = built(tmp_path)
    folder = tmp_path / "data" / "ensembles" / "tiny"
    data = yaml.safe_load((folder / "data.yaml").read_text())
    assert data == {
        "train": "images/train",
        "val": "images/val",
        "test": "images/test",
        "names": {0: "mask", 1: "no_mask"},
    }
    manifest = pd.read_parquet(folder / "manifest.parquet")
    assert len(manifest) == card.outputs == 16
    for entry in manifest.to_dict("records"):
        image = folder / entry["image"]
        assert Image.open(image).size == (entry["width"], entry["height"]) == (WIDTH, HEIGHT)
        label_file = folder / entry["image"].replace("images/", "labels/").rsplit(".", 1)[0]
        labels = yolo.labels_from(label_file.with_suffix(".txt").read_text(), WIDTH, HEIGHT)
        wanted = [(label["name"], label["x_min"], label["y_max"]) for label in entry["labels"]]
        assert [(label.name, label.box.x_min, label.box.y_max) for label in labels] == [
            (name, pytest.approx(x, abs=1e-3), pytest.approx(y, abs=1e-3)) for name, x, y in wanted
        ]
    assert {path.stem for path in folder.glob("images/*/*")} == {path.stem for path in folder.glob("labels/*/*")}


def test_classes_are_mapped_by_name_not_by_id(tmp_path: Path) -> None:
    built(tmp_path)
    manifest = pd.read_parquet(tmp_path / "data/ensembles/tiny/manifest.parquet")
    second = manifest[manifest.source == "second"].labels.iloc[0]
    # in the source, id 1 is `masked`; in the ensemble, mask is 0
    assert [(label["name"], round(label["x_min"])) for label in second] == [("mask", 36), ("no_mask", 10)]


def test_a_second_build_does_nothing_and_a_changed_recipe_rebuilds(tmp_path: Path) -> None:
    first = built(tmp_path)
    before = (tmp_path / "data/ensembles/tiny/ensemble.json").stat().st_mtime_ns
    again = build(tmp_path, "tiny")
    assert again.up_to_date
    assert (tmp_path / "data/ensembles/tiny/ensemble.json").stat().st_mtime_ns == before
    make_root(tmp_path, recipe={"split": {"train": 0.4, "val": 0.3, "test": 0.3}})
    other = build(tmp_path, "tiny", pool=ALONE)
    assert not other.up_to_date
    assert other.card.hash != first.hash


def test_a_new_description_does_not_rebuild(tmp_path: Path) -> None:
    built(tmp_path)
    make_root(tmp_path, recipe={"description": "another word"})
    assert build(tmp_path, "tiny").up_to_date


def test_defects_are_counted_by_cause_and_the_rows_add_up(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    pics = root / "own" / "second" / "pics"
    write(
        pics,
        {
            "b 0.txt": "1 0.5 0.5 0.25 0.25\n1 0.5 0.5 0.25 0.25\n1 0.5 0.5 0 0.2\n0 0.98 0.5 0.2 0.2\n",
            "b 3.txt": "0 nan 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n1 0.5 0.5\n",
            "b 1.jpg": image(101)[:500],
            "b 2.jpg": image(102) + b"tail",
            "ghost.txt": "1 0.5 0.5 0.1 0.1\n",
            "lonely.jpg": image(200),
        },
    )
    card = built(root)
    issues = pd.read_parquet(root / "data/ensembles/tiny/issues.parquet")
    causes = Counter(zip(issues["item"], issues["action"], issues["cause"], strict=True))
    assert causes == {
        ("box", "refused", "duplicate"): 1,
        ("box", "refused", "not-a-number"): 1,
        ("box", "refused", "unknown-class"): 1,
        ("box", "refused", "wrong-columns"): 1,
        ("box", "refused", "no-area"): 1,
        ("box", "refused", "no-image"): 1,
        ("box", "refused", "in-refused-image"): 2,
        ("box", "repaired", "past-edge"): 1,
        ("image", "refused", "truncated"): 1,
        ("image", "refused", "no-label-file"): 1,
        ("image", "refused", "unreadable-rows"): 1,
        ("image", "repaired", "bytes-after-end"): 1,
    }
    assert [(one.item, one.action, one.cause, one.count) for one in card.issues] == sorted(
        (*key, count) for key, count in causes.items()
    )
    for item, totals in (("image", card.images), ("box", card.boxes)):
        for action in ("repaired", "refused", "merged"):
            assert getattr(totals, action) == sum(
                count for (i, a, _), count in causes.items() if (i, a) == (item, action)
            )
        assert totals.total == totals.kept + totals.merged + totals.refused
    assert card.images.total == 17
    assert card.boxes.total == 16 + 4 + 3 + 6 * 2 + 1
    assert sum(source.images.total for source in card.sources.values()) == 17
    assert sum(boxes.total for source in card.sources.values() for boxes in source.boxes.values()) == card.boxes.total


def test_ids_without_names_stop_with_counts_a_contact_sheet_and_an_example(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "own/second/classes.txt").unlink()
    fetch(root, ["first", "second"])
    with pytest.raises(ClassMapError) as caught:
        build(root, "tiny", pool=ALONE)
    assert "0: 8 boxes, 1: 8 boxes" in str(caught.value)
    assert "--class-map 'second=0:?,1:?'" in caught.value.next_step
    sheet = re.search(r"look at (\S+),", caught.value.next_step)
    assert sheet
    assert Image.open(sheet.group(1)).size[0] > 200
    done = build(root, "tiny", class_maps={"second": {"0": "no_mask", "1": "mask"}}, pool=ALONE)
    assert done.card.faces["train"]["mask"] > 0


def test_a_class_map_with_wrong_names_stops_too(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    write(root / "own/second", {"classes.txt": "sin\ncon"})
    fetch(root, ["first", "second"])
    with pytest.raises(ClassMapError, match="no meaning for con, sin"):
        build(root, "tiny", pool=ALONE)


def test_a_missing_source_names_the_command(tmp_path: Path) -> None:
    make_root(tmp_path)
    with pytest.raises(MissingError) as caught:
        build(tmp_path, "tiny")
    assert "fmask fetch first" in caught.value.next_step


@pytest.mark.parametrize("keys", [{"groups": "duplicates"}, {"augmentation": ["turn"]}])
def test_a_recipe_with_an_unknown_source_is_an_error(tmp_path: Path, keys: dict) -> None:
    make_root(tmp_path, recipe=keys)
    with pytest.raises(UsageError, match=f"unknown key '{next(iter(keys))}'"):
        build(tmp_path, "tiny")


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    make_root(tmp_path, images=1, recipe={"split": {"train": 0.98, "val": 0.01, "test": 0.01}})
    fetch(tmp_path, ["first", "second"])
    with pytest.raises(DataError, match="expected images for"):
        build(tmp_path, "tiny", pool=ALONE)


def test_an_ensemble_is_found_by_name_path_or_as_the_latest(tmp_path: Path) -> None:
    built(tmp_path)
    folder = (tmp_path / "data/ensembles/tiny").resolve()
    for data in ("tiny", str(folder), str(folder / "data.yaml")):
        assert find_ensemble(tmp_path, data) == folder
    assert find_ensemble(tmp_path).resolve() == folder
    with pytest.raises(MissingError, match="did you mean 'tiny'"):
        find_ensemble(tmp_path, "tny")


def test_a_split_is_a_threshold_on_the_content() -> None:
    split = Split(train=0.5, val=0.25, test=0.25)
    assert [split_of(digit * 64, split) for digit in "07 8b cf".replace(" ", "")] == [
        "train",
        "train",
        "val",
        "val",
        "test",
        "test",
    ]


@pytest.mark.slow
def test_bytes_do_not_depend_on_folder_workers_or_hash_seed(tmp_path: Path) -> None:
    trees = []
    for number, (workers, seed) in enumerate([(1, "0"), (4, "1"), (2, "77")]):
        root = make_root(tmp_path / f"root {number}", images=40)
        fetch(root, ["first", "second"])
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", BUILD, str(root), str(workers)], env=environment, check=True)
        trees.append(tree(root / "data" / "ensembles"))
    assert trees[0] == trees[1] == trees[2]
    assert len(trees[0]) > 160


@pytest.mark.slow
def test_a_rerun_recovers_from_a_kill_at_any_moment(tmp_path: Path) -> None:
    def prepare(point: int) -> Path:
        root = make_root(tmp_path / str(point), images=4)
        fetch(root, ["first", "second"])
        return root

    whole = prepare(0)
    build(whole, "tiny", pool=ALONE)
    deaths = 0
    for left in every_death(BUILD, prepare):
        build(left, "tiny", pool=ALONE)
        assert tree(left / "data") == tree(whole / "data"), f"after death {deaths + 1}"
        deaths += 1
    assert deaths >= 4
    # the same, where an older version stands in the way
    make_root(whole, images=4, recipe={"worn_incorrectly": "drop-box"})
    build(whole, "tiny", pool=ALONE)

    def outdated(point: int) -> Path:
        root = prepare(1000 + point)
        build(root, "tiny", pool=ALONE)
        return make_root(root, images=4, recipe={"worn_incorrectly": "drop-box"})

    for left in every_death(BUILD, outdated):
        build(left, "tiny", pool=ALONE)
        assert tree(left / "data") == tree(whole / "data")


@pytest.mark.slow
def test_the_real_archives_add_up_to_an_independent_count(tmp_path: Path, shared: Path) -> None:
    import zipfile

    fetch(tmp_path, ["andrewmvd", "aditya276"], origin=shared / "kaggle")
    card = build(tmp_path, "5").card
    images = rows = 0
    for archive in sorted((shared / "kaggle").glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            images += sum(name.lower().endswith((".jpg", ".jpeg", ".png")) for name in names)
            rows += sum(opened.read(name).count(b"<object>") for name in names if name.endswith(".xml"))
            texts = [name for name in names if re.search(r"images/(train|valid)/.*\.txt$", name)]
            rows += sum(len(opened.read(name).split(b"\n")) - opened.read(name).endswith(b"\n") for name in texts)
    assert (card.images.total, card.boxes.total) == (images, rows) == (1477, 7649)
    issues = pd.read_parquet(tmp_path / "data/ensembles/v5/issues.parquet")
    assert (issues.item == "box").sum() == card.boxes.refused + card.boxes.repaired + card.boxes.merged
    assert EnsembleCard.load(tmp_path / "data/ensembles/v5") == card


def test_boxes_that_can_be_read_in_two_ways_are_shown_in_both(tmp_path: Path) -> None:
    root = make_root(tmp_path, images=4, recipe={"sources": ["second"]})
    for index in range(4):  # in pixels; from the corner or from the center they lie inside
        write(root / "own/second", {f"pics/b {index}.txt": "1 40 30 20 20\n"})
    fetch(root, ["second"])
    with pytest.raises(DataError, match=r"fit as center x, .* in pixels; or x min, y min, width") as caught:
        build(root, "tiny", pool=WorkerPool(workers=1))
    sheet = root / "data/class-maps/second-boxes.jpg"
    assert str(sheet) in caught.value.next_step
    with Image.open(sheet) as image:
        assert image.size[1] > 2 * 196  # a row of tiles for each reading
