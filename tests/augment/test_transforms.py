"""The transforms of a copy: geometry compared with the pixels, seeds, and what pixel steps preserve."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facemask_train.augment import transforms
from facemask_train.augment.contact_sheets import examples_of, transform_sheet
from facemask_train.augment.transforms import Shape, render, seed_of, shape_of
from facemask_train.core.recipe import Augment, Transform
from facemask_train.core.types import Annotation, Box
from facemask_train.sources.sample.scenes import draw_scene

ImageArray = NDArray[np.uint8]

SHA = "ab" * 32
PIXEL_STEPS: tuple[dict[str, object], ...] = (
    {"color_jitter": {}},
    {"blur": {}},
    {"noise": {}},
    {"compression": {}},
    *({"weather": {"kinds": [kind]}} for kind in ("rain", "fog", "snow", "sun")),
)


def steps(*given_: dict[str, object]) -> tuple[Transform, ...]:
    return tuple(Transform.model_validate(step) for step in given_)


def scene(seed: int = 3) -> tuple[ImageArray, tuple[Annotation, ...]]:
    drawn = draw_scene(Random(seed), people=2)
    return drawn.image, tuple(Annotation(face.kind, face.box) for face in drawn.faces)


# ------------------------------------------------------------------ geometry


@pytest.mark.parametrize(
    ("turn", "size", "corners"),
    [
        (0, (100, 60), (10, 5, 30, 25)),
        (90, (60, 100), (5, 70, 25, 90)),
        (180, (100, 60), (70, 35, 90, 55)),
        (270, (60, 100), (35, 10, 55, 30)),
    ],
)
def test_a_turn_moves_boxes_exactly(turn: int, size: tuple[int, int], corners: tuple[float, ...]) -> None:
    shape = Shape(turn)
    assert shape.size(100, 60) == size
    assert shape.labels([Annotation("mask", Box(10, 5, 30, 25))], 100, 60) == (Annotation("mask", Box(*corners)),)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (Shape(0, 0.5), (50, 30)),
        (Shape(90, 0.5), (30, 50)),
        (Shape(0, 1.333), (133, 80)),
        (Shape(0, 0.01), (10, 10)),
    ],
)
def test_a_scale_rounds_the_size_and_keeps_ten_pixels(shape: Shape, size: tuple[int, int]) -> None:
    assert shape.size(100, 60) == size


def test_boxes_follow_the_size_that_a_scale_really_gives() -> None:
    (label,) = Shape(0, 0.333).labels([Annotation("mask", Box(0, 0, 101, 67))], 101, 67)
    assert label.box == Box(0, 0, 34, 22)


COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def colored(width: int, height: int, boxes: Sequence[Box], seed: int) -> ImageArray:
    """Return gray noise with a rectangle of a different color in each box."""
    gray = np.random.default_rng(seed).integers(90, 166, (height, width, 1), dtype=np.uint8)
    image = np.repeat(gray, 3, axis=2)
    for box, color in zip(boxes, COLORS, strict=False):
        image[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = color
    return image


def extent(image: ImageArray, color: tuple[int, int, int]) -> tuple[float, float, float, float]:
    """Return the corners of what has this color, from the first to the last row and column that hold it."""
    wanted = int(np.argmax(color))
    levels = image.astype(np.float32)
    pure = np.clip((levels[..., wanted] - np.delete(levels, wanted, axis=2).max(axis=2)) / 255, 0, 1)
    rows, columns = (np.flatnonzero(pure.max(axis=axis) > 0.5) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1]) + 1, float(rows[-1]) + 1


GEOMETRY = st.one_of(
    st.builds(
        lambda degrees, p: {"rotate90": {"degrees": [degrees], "p": p}}, st.sampled_from([90, 180, 270]), st.just(1.0)
    ),
    st.builds(lambda p: {"rotate90": {"p": p}}, st.floats(0.1, 1)),
    st.builds(lambda low, more: {"scale": {"factor": [low, low + more]}}, st.floats(0.5, 1.4), st.floats(0, 0.6)),
)


@settings(max_examples=120, deadline=None)
@given(
    width=st.integers(70, 140),
    height=st.integers(70, 140),
    chosen=st.lists(GEOMETRY, min_size=1, max_size=4),
    seed=st.integers(0, 2**64 - 1),
    draw=st.data(),
)
def test_every_box_is_where_its_pixels_are(
    width: int, height: int, chosen: list[dict[str, object]], seed: int, draw: st.DataObject
) -> None:
    boxes = []
    for third in range(3):
        left = draw.draw(st.integers(third * width // 3, third * width // 3 + 4))
        top = draw.draw(st.integers(0, height - 24))
        boxes.append(Box(left, top, left + draw.draw(st.integers(9, 18)), top + draw.draw(st.integers(9, 24))))
    labels = [Annotation("mask", box) for box in boxes]
    image = colored(width, height, boxes, 1)
    kept = image.copy()
    copy_steps = steps(*chosen)
    result, shape = render(image, labels, copy_steps, seed), shape_of(copy_steps, labels, seed)
    assert np.array_equal(image, kept)
    assert not np.shares_memory(result.image, image)
    assert result.image.shape[:2] == shape.size(width, height)[::-1]
    assert result.labels == shape.labels(labels, width, height)
    scaled = any("scale" in step for step in chosen)
    for label, color in zip(result.labels, COLORS, strict=True):
        found = extent(result.image, color)
        assert found == pytest.approx(label.box.corners, abs=1.0 if scaled else 0.0)


def test_a_scale_leaves_every_face_large_enough_to_judge() -> None:
    image = np.full((600, 800, 3), 120, np.uint8)
    labels = [
        Annotation("mask", Box(0, 0, 80, 100)),
        Annotation("mask", Box(300, 300, 340, 340)),
        Annotation("mask", Box(5, 5, 9, 9)),
    ]
    chosen = steps({"scale": {"factor": [0.1, 0.1]}}, {"scale": {"factor": [0.5, 0.5]}})
    result = render(image, labels, chosen, 1)
    assert shape_of(chosen, labels, 1) == Shape(scale=0.2)
    assert [round(label.box.width, 3) for label in result.labels] == [16.0, 8.0, 0.8]
    assert shape_of(chosen, [], 1).scale == pytest.approx(0.05)


def test_a_turned_image_is_the_same_pixels() -> None:
    image, labels = scene()
    for degrees in (90, 180, 270):
        result = render(image, labels, steps({"rotate90": {"degrees": [degrees]}}), 0)
        assert np.array_equal(result.image, np.rot90(image, degrees // 90))


def test_a_scale_that_changes_nothing_gives_an_image_of_its_own() -> None:
    image, labels = scene()
    result = render(image, labels, steps({"scale": {"factor": [1, 1]}}), 0)
    assert np.array_equal(result.image, image)
    assert not np.shares_memory(result.image, image)


# ------------------------------------------------------------------ seeds


def test_a_seed_comes_from_content_recipe_and_copy() -> None:
    chosen = steps({"rotate90": {}}, {"color_jitter": {}})
    seed = seed_of(0, "turned", chosen, SHA)
    assert seed == 2314371048608717104
    others = {
        seed_of(1, "turned", chosen, SHA),
        seed_of(0, "faces", chosen, SHA),
        seed_of(0, "turned", chosen[:1], SHA),
        seed_of(0, "turned", chosen, "cd" * 32),
    }
    assert seed not in others and len(others) == 4
    assert all(0 <= other < 2**64 for other in others)


def test_a_change_of_one_step_changes_no_other_draw() -> None:
    """Also not by its settings being part of the seed."""
    before = {"color_jitter": {"brightness": 0.1}}, {"rotate90": {}}
    after = {"color_jitter": {"brightness": 0.4}}, {"rotate90": {}}
    seeds = [seed_of(0, "a", steps(*chosen), SHA) for chosen in (before, after)]
    assert seeds[0] == seeds[1]
    turns = [[shape_of(steps(*chosen), [], seed).turn for seed in range(40)] for chosen in (before, after)]
    assert turns[0] == turns[1]
    assert set(turns[0]) == {90, 180, 270}


def test_p_is_the_share_of_images_a_step_is_applied_to() -> None:
    turned = [shape_of(steps({"rotate90": {"p": 0.3}}), [], seed).turn != 0 for seed in range(400)]
    assert 0.22 <= sum(turned) / 400 <= 0.38


def everything() -> tuple[Transform, ...]:
    return steps({"faces": {"share": 1.0}}, {"rotate90": {}}, {"scale": {}}, {"faces": {"share": 0.5}}, *PIXEL_STEPS)


def test_the_same_seed_gives_the_same_copy_in_any_order_and_under_any_global_seed() -> None:
    import cv2

    images = [scene(seed) for seed in range(3)]
    first = [render(*image, everything(), number) for number, image in enumerate(images)]
    np.random.seed(5)
    cv2.setRNGSeed(5)
    for number in (2, 0, 1):
        again = render(*images[number], everything(), number)
        assert np.array_equal(again.image, first[number].image)
        assert (again.labels, again.edits, again.left_out) == (
            first[number].labels,
            first[number].edits,
            first[number].left_out,
        )


PROGRAM = """
import hashlib, json, os, sys
sys.path.insert(0, sys.argv[1])
from test_transforms import SHA, everything, render, scene, seed_of, steps
render(*scene(), steps({"rotate90": {}}, {"scale": {}}, {"faces": {"share": 1.0}}), 1)
assert "albumentations" not in sys.modules, "2 seconds for nothing"
os.environ.pop("NO_ALBUMENTATIONS_UPDATE", None)
seed = seed_of(7, "copy", everything(), SHA)
copy = render(*scene(), everything(), seed)
assert "albumentations" in sys.modules and os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
print(json.dumps([seed, hashlib.sha256(copy.image.tobytes()).hexdigest(), repr(copy.labels), repr(copy.edits)]))
"""


@pytest.mark.slow
def test_another_process_gives_the_same_copy_and_imports_albumentations_only_for_pixel_steps() -> None:
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONHASHSEED": "4321"}
    printed = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    seed = seed_of(7, "copy", everything(), SHA)
    copy = render(*scene(), everything(), seed)
    digest = hashlib.sha256(copy.image.tobytes()).hexdigest()
    assert printed == [seed, digest, repr(copy.labels), repr(copy.edits)]


# ------------------------------------------------------------------ pixel steps and faces


@pytest.mark.parametrize("step", PIXEL_STEPS, ids=str)
def test_pixel_steps_move_no_label_and_never_change_their_argument(step: dict[str, object]) -> None:
    changed = 0
    for seed in range(4):
        image, labels = scene(seed)
        kept = image.copy()
        result = render(image, labels, steps(step), seed)
        assert np.array_equal(image, kept)
        assert not np.shares_memory(result.image, image)
        assert result.image.shape == image.shape and result.image.dtype == np.uint8
        assert result.labels == labels and result.edits == ()
        changed += not np.array_equal(result.image, image)
        assert np.array_equal(result.image, image) == bool(result.left_out)
    assert changed


def test_blur_moves_nothing() -> None:
    """A motion blur that is not centerd would move the faces out of their boxes."""
    image = np.zeros((61, 61, 3), np.uint8)
    image[26:35, 26:35] = 255
    for seed in range(30):
        blurred = render(image, [], steps({"blur": {"motion": 1.0, "kernel": [7, 7]}}), seed).image[..., 0]
        weights = blurred.astype(float)
        rows, columns = np.indices(weights.shape)
        assert (rows * weights).sum() / weights.sum() == pytest.approx(30, abs=0.6)
        assert (columns * weights).sum() / weights.sum() == pytest.approx(30, abs=0.6)


def test_a_step_that_drowns_a_face_is_left_out() -> None:
    image = np.full((80, 80, 3), 120, np.uint8)
    image[30:50, 30:50] = np.random.default_rng(0).integers(115, 126, (20, 20, 1))
    label = Annotation("no_mask", Box(30, 30, 50, 50))
    noise = steps({"noise": {"strength": [0.3, 0.3]}})
    result = render(image, [label], noise, 1)
    assert result.left_out == ("noise",)
    assert np.array_equal(result.image, image)
    assert render(image, [], noise, 1).left_out == ()


def test_small_images_bear_every_step() -> None:
    for step in PIXEL_STEPS:
        for shape in ((10, 10, 3), (10, 300, 3), (300, 10, 3)):
            image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            assert render(image, [], steps(step), 3).image.shape == shape


def test_faces_are_edited_upright_in_a_turned_image() -> None:
    """The same edit as before the turn: the turn is exact, so the pixels are the same too."""
    image, labels = scene()
    only = {"faces": {"share": 1.0, "min_side": 8}}
    for degrees in (90, 180, 270):
        seed = 4
        turned = render(image, labels, steps({"rotate90": {"degrees": [degrees]}}, only), seed)
        straight = render(image, labels, steps({"rotate90": {"degrees": [degrees], "p": 1e-9}}, only), seed)
        assert any(edit.applied for edit in straight.edits)
        assert turned.edits == straight.edits
        assert np.array_equal(turned.image, np.rot90(straight.image, degrees // 90))
        assert turned.labels == Shape(degrees).labels(labels, image.shape[1], image.shape[0])


def test_faces_steps_move_no_label_and_say_what_became_of_each() -> None:
    image, labels = scene()
    kept = image.copy()
    result = render(image, labels, steps({"faces": {"share": 1.0, "min_side": 8}}), 2)
    assert np.array_equal(image, kept)
    assert result.labels == labels
    assert [edit.label for edit in result.edits] == list(range(len(labels)))
    assert np.array_equal(result.image, image) == (not any(edit.applied for edit in result.edits))


def test_what_a_recipe_says_can_be_rendered() -> None:
    copies = Augment.model_validate({"copies": {"turned": [{"rotate90": None}], "faces": [{"faces": None}]}}).copies
    image, labels = scene()
    assert {name: render(image, labels, chosen, 1).image.size for name, chosen in copies.items()} == {
        "turned": image.size,
        "faces": image.size,
    }


# ------------------------------------------------------------------ sheets


def test_a_sheet_has_a_band_for_each_transform_and_the_same_bytes_on_every_run(tmp_path: Path) -> None:
    images = [scene(seed) for seed in range(6)]
    chosen = steps({"rotate90": {}}, {"faces": {"kinds": {"cap": 1, "tint": 1, "beard": 0}}})
    for name in ("one", "two"):
        found = list(examples_of(images, chosen, 1, most=3))
        transform_sheet(found, tmp_path / f"{name}.jpg", "copy 'x'")
    assert sorted({name for name, _, _ in found}) == ["cap", "rotate90", "tint"]
    assert sum(name == "rotate90" for name, _, _ in found) == 3
    assert (tmp_path / "one.jpg").read_bytes() == (tmp_path / "two.jpg").read_bytes()
    with Image.open(tmp_path / "one.jpg") as sheet:
        assert sheet.size == (3 * (320 + 12) - 12 + 2 * 20, 84 + 3 * (44 + 160 + 12) + 20)


def test_a_sheet_of_nothing_is_a_title(tmp_path: Path) -> None:
    transform_sheet([], tmp_path / "none.jpg", "nothing to show")
    with Image.open(tmp_path / "none.jpg") as sheet:
        assert sheet.size[1] == 84 + 20


def test_examples_show_each_step_alone_and_applied() -> None:
    images = [scene(seed) for seed in range(3)]
    for name, before, after in examples_of(images, steps({"rotate90": {"p": 0.01, "degrees": [90]}}), 5):
        assert name == "rotate90"
        assert np.array_equal(after, np.rot90(before))
    assert transforms.MIN_SIDE == 10
