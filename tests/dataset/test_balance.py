"""Zoomed copies: how many are planned for a lopsided training split, and what is written of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from facemask_train.core.boxes import SIZE_NAMES, size_index
from facemask_train.core.config import parse
from facemask_train.core.errors import UsageError
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Augment
from facemask_train.core.types import Annotation, Box, ImageRecord
from facemask_train.dataset.balance import Balanced, balance_notes, plan_zooms
from facemask_train.dataset.build import build
from facemask_train.dataset.grouping.groups import Kept
from facemask_train.sources.fetch import fetch
from helpers.worlds import make_root, write

CLOSE = SIZE_NAMES.index("0.3 to 0.45")


def augment(**balance: object) -> Augment:
    return parse(Augment, {"balance": {"min_faces": 10, **balance}}, where="test")


def image(number: int, name: str, side: float, split: str = "train") -> Kept:
    """Return an image of 400 x 300 px with one face of this side in the middle."""
    box = Box(200 - side / 2, 150 - side / 2, 200 + side / 2, 150 + side / 2)
    return Kept(ImageRecord("s", f"{number}.jpg", f"{number}", 400, 300, (Annotation(name, box),)), split, "g")


def lopsided() -> list[Kept]:
    """Return 20 masked close-ups, and 20 bare faces that are smaller."""
    masked = [image(n, "mask", 140) for n in range(20)]
    return masked + [image(n, "no_mask", 60) for n in range(20, 40)]


def share(balanced: Balanced, name: str, size: int) -> float:
    counts = {one: balanced.after.get((one, SIZE_NAMES[size]), 0) for one in ("mask", "no_mask")}
    return counts[name] / sum(counts.values())


def test_the_rare_class_gets_its_share_and_no_more_copies_than_that() -> None:
    balanced = plan_zooms(lopsided(), augment())
    # 20 masked faces at this size: 11 bare ones are 11 / 31, and 10 of them 10 / 30, which is less than 0.35.
    assert balanced.before["mask", "0.3 to 0.45"] == 20
    assert ("no_mask", "0.3 to 0.45") not in balanced.before
    assert balanced.after["no_mask", "0.3 to 0.45"] == 11
    assert share(balanced, "no_mask", CLOSE) >= 0.35
    zoomed = {path for _, path in balanced.zooms}
    assert zoomed <= {f"{n}.jpg" for n in range(20, 40)}, "only bare faces are zoomed"


def test_other_copies_of_each_image_count_too() -> None:
    thrice = Augment.model_validate(
        {"balance": {"min_faces": 10}, "copies": {"a": [{"blur": {}}], "b": [{"noise": {}}]}}
    )
    balanced = plan_zooms(lopsided(), thrice)
    assert balanced.before["mask", "0.3 to 0.45"] == 60
    assert balanced.after["no_mask", "0.3 to 0.45"] == 33  # 33 / 93; 32 / 92 would be less than 0.35


@pytest.mark.parametrize(
    ("kept", "changes"),
    [
        (lopsided()[:20], {}),  # there is no bare face at all
        (lopsided(), {"min_faces": 100}),
        (lopsided(), {"min_side": 61}),
        ([image(n, "mask" if n % 2 else "no_mask", 140) for n in range(20)], {}),
        ([image(n, "mask" if n < 20 else "no_mask", 140, "val") for n in range(22)], {}),
    ],
)
def test_nothing_is_added_where_nothing_can_or_needs_to_be(kept: list[Kept], changes: dict[str, object]) -> None:
    assert plan_zooms(kept, augment(**changes)).copies == 0


def test_no_face_is_shown_more_often_than_allowed_and_what_is_missing_is_told() -> None:
    few = [one for one in lopsided() if int(one.record.path[:-4]) < 22]
    balanced = plan_zooms(few, augment(max_copies=2))
    assert Counter(path for (_, path), crops in balanced.zooms.items() for _ in crops) == {"20.jpg": 2, "21.jpg": 2}
    (added, short, *_) = balance_notes(balanced, parse(Augment, {"balance": {"min_faces": 10}}, where="t").balance)  # type: ignore[arg-type]
    assert added == "Zoomed copies that balance the classes by relative size: 4."
    assert (
        "At 0.3 to 0.45 of the image's longer side, no_mask stays at 16.7 % of the faces drawn (35 % wanted)" in short
    )


def test_every_crop_has_the_size_that_was_wanted() -> None:
    kept = {one.record.path: one.record for one in lopsided()}
    for (_, path), crops in plan_zooms(lopsided(), augment()).zooms.items():
        for crop in crops:
            (label,) = crop.labels(kept[path].labels)
            assert size_index(label, crop.width, crop.height) == CLOSE


def test_the_plan_does_not_depend_on_the_order_of_the_images_but_on_the_seed() -> None:
    one, other = plan_zooms(lopsided(), augment()), plan_zooms(lopsided()[::-1], augment())
    assert dict(one.zooms) == dict(other.zooms)
    reseeded = parse(Augment, {"seed": 1, "balance": {"min_faces": 10}}, where="test")
    assert dict(plan_zooms(lopsided(), reseeded).zooms) != dict(one.zooms)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "augment needs copies, balance, or both"),
        ({"balance": {}, "copies": {"zoomed": [{"blur": {}}]}}, "give the copy 'zoomed' another name"),
        ({"balance": {"share": 0.6}}, "less than or equal to 0.5"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(Augment, settings, where="test")


def test_a_zoomed_copy_shows_its_part_of_the_image(tmp_path: Path) -> None:
    root = make_root(tmp_path, images=1)
    rng = np.random.default_rng(0)
    files: dict[str, bytes | str] = {}
    source = root / "archive"
    for n, (name, side) in enumerate([("mask", 90), ("mask", 95), ("no_mask", 40), ("no_mask", 44)]):
        pixels = np.kron(rng.integers(0, 256, (19, 25, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        (source / "images").mkdir(parents=True, exist_ok=True)
        (source / "labels").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(source / f"images/{n}.png")
        files[f"labels/{n}.txt"] = f"{int(name == 'no_mask')} 0.5 0.5 {side / 200} {side / 152}\n"
    write(source, files)
    write(
        root,
        {
            "configs/sources.yaml": f"sources:\n  own: {{path: {source}, format: yolo, "
            "classes: {'0': mask, '1': no_mask}}\n",
            "configs/ensembles/close.yaml": "sources: [own]\nsplit: {train: 1, val: 0, test: 0}\n"
            "augment: {quality: 100, balance: {min_faces: 1}}\n",
        },
    )
    fetch(root, ["own"])
    done = build(root, "close", pool=WorkerPool(workers=1))
    zoomed = [row for row in pq.read_table(done.path / "manifest.parquet").to_pylist() if row["copy"] == "zoomed"]
    assert zoomed
    assert (done.path / "transforms/zoomed.jpg").is_file()
    assert any("Zoomed copies" in note for note in done.card.notes)
    for one in zoomed:
        part = [int(number) for number in one["operation"].removeprefix("zoomed ").split(",")]
        original = Image.open(source / one["source_image"]).convert("RGB").crop(tuple(part))  # type: ignore[arg-type]
        copy = Image.open(done.path / one["image"])
        assert copy.size == original.size == (one["width"], one["height"])
        assert np.abs(np.asarray(copy, float) - np.asarray(original, float)).mean() < 12  # JPEG at quality 100
        label = (done.path / one["image"]).as_posix().replace("/images/", "/labels/").replace(".jpg", ".txt")
        assert Path(label).read_text().count("\n") == len(one["labels"]) == 1
    assert build(root, "close", pool=WorkerPool(workers=1)).up_to_date
