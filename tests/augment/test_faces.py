"""The edits of faces: which faces can get which, which pixels they may change, and what they leave unchanged."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facemask_train.augment import faces
from facemask_train.augment.face_patch import BROWS, crop_face, step, to_lab, to_rgb
from facemask_train.augment.faces import (
    Edit,
    check_edit,
    check_face,
    edit_face,
    edit_faces,
    kinds_for,
    remaining_detail,
)
from facemask_train.core.recipe import Faces
from facemask_train.core.types import Annotation, Box
from facemask_train.sources.sample.people import Pen, draw_person

ImageArray = NDArray[np.uint8]

KINDS = tuple(faces.MARGINS)
SKIN = (206, 160, 128)


def person(
    name: str, side: int = 60, size: tuple[int, int] = (300, 300), seed: int = 1
) -> tuple[ImageArray, Annotation]:
    """Return an image of smooth noise with one drawn person in its middle, and the person's label."""
    import cv2

    width, height = size
    rough = np.random.default_rng(seed).integers(60, 200, (9, 9, 3), dtype=np.uint8)
    image = cv2.resize(rough, size, interpolation=cv2.INTER_CUBIC)
    kind = "mask" if name == "mask" else "no_mask"
    corners = draw_person(Pen(image, width / 2, height * 0.4, side / 2), Random(seed), kind)  # type: ignore[arg-type]
    return image, Annotation(name, Box(*corners))


def face_of(kind: str, **kwargs: object) -> tuple[ImageArray, Annotation]:
    return person("mask" if kind == "tint" else "no_mask", **kwargs)  # type: ignore[arg-type]


def drawn(kind: str, side: int = 60, seeds: int = 30) -> tuple[ImageArray, Annotation, faces.Change]:
    """Return an image, its label, and the first edit of this kind that succeeds."""
    for seed in range(seeds):
        image, label = face_of(kind, side=side, size=(side * 5, side * 5), seed=seed)
        change, _ = edit_face(image, [label], 0, kind, Random(seed))  # type: ignore[arg-type]
        if change is not None:
            return image, label, change
    raise AssertionError(f"no {kind} in {seeds} tries")


# ------------------------------------------------------------------ which kinds


def test_a_bare_face_gets_no_tint_and_a_masked_one_only_what_leaves_its_mask() -> None:
    weights = dict.fromkeys(KINDS, 1.0)
    assert set(kinds_for("mask", weights)) == {"tint", "cap", "shadow"}
    assert set(kinds_for("no_mask", weights)) == {"recolor", "relight", "beard", "hand", "cup", "cap", "shadow"}


def test_a_kind_without_weight_is_never_drawn() -> None:
    assert kinds_for("mask", {"tint": 0, "cap": 2.5}) == {"cap": 2.5}
    assert kinds_for("mask", {"beard": 1}) == {}


@pytest.mark.parametrize("name", ["mask", "no_mask"])
def test_what_is_tried_fits_the_class(name: str) -> None:
    image, label = person(name, side=40, size=(200, 200))
    tried = {
        edit.kind for seed in range(60) for edit in edit_faces(image, [label], Faces(share=1.0, min_side=8), seed)[1]
    }
    assert tried == set(kinds_for(name, Faces().kinds))


def test_the_share_and_the_weights_are_kept() -> None:
    image, label = person("no_mask", side=24, size=(120, 120))
    settings_ = Faces(share=0.5, kinds={"relight": 3, "shadow": 1})
    edits = [edit for seed in range(200) for edit in edit_faces(image, [label], settings_, seed)[1]]
    assert 80 <= len(edits) <= 120
    assert 0.65 <= sum(edit.kind == "relight" for edit in edits) / len(edits) <= 0.85


# ------------------------------------------------------------------ faces that stay as they were


def test_a_small_face_is_left_byte_for_byte() -> None:
    image, label = person("no_mask", side=18, size=(100, 100))
    result, edits = edit_faces(image, [label], Faces(share=1.0, min_side=20), 3)
    assert result is image
    assert edits == (Edit(0, None, "too small"),)
    assert not edits[0].applied


@pytest.mark.parametrize("kind", KINDS)
def test_a_face_behind_another_is_left_as_it_was(kind: str) -> None:
    image, label = face_of(kind)
    box = label.box
    other = Annotation("mask", Box(box.x_min + 0.8 * box.width, box.y_min, box.x_max + box.width, box.y_max))
    assert edit_face(image, [label, other], 0, kind, Random(0)) == (None, "overlapped")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("box", "others", "reason"),
    [
        (Box(40, 40, 80, 90), [], ""),
        (Box(40, 40, 80, 90), [Box(78, 40, 120, 90)], ""),
        (Box(40, 40, 80, 90), [Box(70, 40, 120, 90)], "overlapped"),
        (Box(40, 40, 80, 90), [Box(35, 35, 90, 95)], "overlapped"),
        (Box(0, 40, 20, 90), [], "cut off"),
        (Box(180, 40, 200, 90), [], "cut off"),
        (Box(0, 40, 40, 90), [], ""),
        (Box(40, 0, 80, 30), [], "cut off"),
        (Box(40, 60, 80, 100), [], ""),
        (Box(30, 70, 80, 100), [], "cut off"),
    ],
)
def test_faces_that_no_edit_fits(box: Box, others: list[Box], reason: str) -> None:
    assert check_face(box, others, 200, 100) == reason


def test_a_hand_that_another_face_would_cut_is_not_drawn() -> None:
    image, label = person("no_mask")
    box = label.box
    near = [
        Annotation("no_mask", Box(box.x_min - 60, box.y_max + 2, box.x_max + 60, box.y_max + 60)),
        Annotation("no_mask", Box(box.x_max + 2, box.y_min, box.x_max + 50, box.y_max)),
        Annotation("no_mask", Box(box.x_min - 50, box.y_min, box.x_min - 2, box.y_max)),
    ]
    assert edit_face(image, [label, *near], 0, "hand", Random(1)) == (None, "overlapped")


def test_a_face_in_the_dark_stays_as_it_was() -> None:
    image, label = person("no_mask")
    dark = (image * 0.14).astype(np.uint8)
    reasons = {edit_face(dark, [label], 0, "shadow", Random(seed))[1] for seed in range(12)}
    assert reasons <= {"unjudgeable", "not drawn"}


def test_a_face_without_features_left_is_unrecognizable() -> None:
    image, label = person("no_mask")
    face = crop_face(image, label.box, (0.1, 0.1, 0.1), masked=False)
    painted = face.pixels.copy()
    painted[:] = 150
    assert check_edit(face, painted, "recolor", None) == "unjudgeable"
    assert check_edit(face, face.pixels, "recolor", None) == "not drawn"
    lighter = np.clip(face.pixels.astype(int) + 12, 0, 255).astype(np.uint8)
    assert check_edit(face, lighter, "recolor", None) == ""
    over_the_eyes = np.ones(lighter.shape[:2], np.float32)
    over_the_eyes[face.pixels.shape[0] // 2 :] = 0
    assert check_edit(face, lighter, "hand", over_the_eyes) == "unjudgeable"


def test_an_edit_that_removes_features_is_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    def blank(face: faces.Face, rng: Random) -> ImageArray:
        return np.full_like(face.pixels, 140)

    monkeypatch.setattr(faces, "TONES", {"relight": blank})
    image, label = person("no_mask")
    result, edits = edit_faces(image, [label], Faces(share=1.0, kinds={"relight": 1}), 0)
    assert result is image
    assert edits == (Edit(0, "relight", "unjudgeable"),)


def test_a_mask_in_the_color_of_the_skin_needs_no_tint() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(SKIN, 3, (120, 120, 3)), 0, 255).astype(np.uint8)
    assert edit_face(image, [Annotation("mask", Box(30, 30, 80, 90))], 0, "tint", Random(0)) == (None, "not drawn")


def test_remaining_detail_is_measured() -> None:
    before = np.random.default_rng(0).integers(60, 190, (40, 40), dtype=np.uint8)
    assert remaining_detail(before, before, fine=5) == pytest.approx((1.0, 1.0))
    half = (before // 2 + 60).astype(np.uint8)
    kept, correlation = remaining_detail(before, half, fine=5)
    assert kept == pytest.approx(0.5, abs=0.02)
    assert correlation > 0.99
    other = np.random.default_rng(1).integers(60, 190, (40, 40), dtype=np.uint8)
    assert abs(remaining_detail(before, other, fine=5)[1]) < 0.2


# ------------------------------------------------------------------ what is drawn


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [20, 60, 200])
def test_every_kind_can_be_drawn_at_any_size(kind: str, side: int) -> None:
    image, _, change = drawn(kind, side)
    before = image[change.window]
    assert change.pixels.shape == before.shape
    assert change.pixels.dtype == np.uint8
    assert float(np.abs(change.pixels.astype(int) - before).mean()) > 0.5


def lower_and_upper(image: ImageArray, label: Annotation, change: faces.Change) -> tuple[float, float]:
    """Return how much an edit changed the lower and the upper half of the face, in levels."""
    after = image.copy()
    after[change.window] = change.pixels
    box = label.box
    columns, middle = slice(int(box.x_min), int(box.x_max)), int((box.y_min + box.y_max) / 2)
    away = np.abs(after.astype(int) - image)
    return (
        float(away[middle : int(box.y_max), columns].mean()),
        float(away[int(box.y_min) : middle, columns].mean()),
    )


@pytest.mark.parametrize("kind", ["recolor", "relight", "beard", "hand", "cup", "tint"])
def test_kinds_of_the_lower_face_leave_the_upper(kind: str) -> None:
    lower, upper = lower_and_upper(*drawn(kind))
    assert lower > 3 * upper


@pytest.mark.parametrize("kind", ["cap", "shadow"])
def test_kinds_of_the_upper_face_leave_the_lower(kind: str) -> None:
    lower, upper = lower_and_upper(*drawn(kind))
    assert upper > 2 * lower


def test_tint_brings_the_mask_nearer_to_the_skin() -> None:
    """A flat face with a blue mask: the mask's color moves to the skin's, its folds stay."""
    image = np.full((160, 160, 3), 90, np.uint8)
    box = Box(50, 40, 110, 115)
    image[40:115, 50:110] = SKIN
    image[78:112, 52:108] = (120, 170, 210)
    image[90:92, 52:108] = (90, 140, 180)  # a fold
    image[60:63, 60:70] = image[60:63, 90:100] = 40  # eyes
    change, reason = edit_face(image, [Annotation("mask", box)], 0, "tint", Random(4))
    assert reason == "" and change is not None
    after = image.copy()
    after[change.window] = change.pixels

    def away(seen: ImageArray) -> float:
        lab = to_lab(np.array([[seen[100, 80], SKIN]], np.float32))[0]
        return float(np.linalg.norm(lab[0, 1:] - lab[1, 1:]))

    assert away(after) < 0.6 * away(image)
    assert after[91, 80].sum() < after[100, 80].sum() - 40


def test_gray_images_stay_gray() -> None:
    for kind in KINDS:
        image, label, _ = drawn(kind)
        gray = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
        for seed in range(6):
            change, _ = edit_face(gray, [label], 0, kind, Random(seed))
            if change is not None:
                assert np.ptp(change.pixels.astype(int), axis=2).mean() < 4, kind


# ------------------------------------------------------------------ what may be touched


def reach(box: Box, kind: str) -> tuple[int, int, int, int]:
    aside, above, below = faces.MARGINS[kind]  # type: ignore[index]
    return (
        int(box.x_min - aside * box.width) - 1,
        int(box.y_min - above * box.height) - 1,
        int(box.x_max + aside * box.width) + 2,
        int(box.y_max + below * box.height) + 2,
    )


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    side=st.integers(16, 70),
    place=st.tuples(st.integers(0, 240), st.integers(0, 200)),
    ratio=st.floats(0.6, 2.2),
    near=st.integers(0, 160),
    seed=st.integers(0, 2**32),
)
def test_nothing_beyond_the_reach_and_nobody_else_is_touched(
    kind: str, side: int, place: tuple[int, int], ratio: float, near: int, seed: int
) -> None:
    """Any box on a real enough image, also one that holds no face, with another face somewhere about it."""
    image = np.random.default_rng(seed).integers(0, 256, (230, 310, 3), dtype=np.uint8)
    part, label = face_of(kind, side=60, size=(200, 200), seed=seed % 7)
    image[20:220, 40:240] = part
    x, y = place
    box = Box(x, y, min(310, x + side), min(230, y + ratio * side))
    other = Box(near, 30, near + 30, 70)
    labels = [Annotation(label.name, box), Annotation("mask", other)]
    before = image.copy()
    change, reason = edit_face(image, labels, 0, kind, Random(seed))  # type: ignore[arg-type]
    assert (change is None) == bool(reason)
    assert np.array_equal(image, before)
    if change is None:
        return
    after = image.copy()
    after[change.window] = change.pixels
    left, top, right, bottom = reach(box, kind)
    outside = np.ones(image.shape[:2], bool)
    outside[max(0, top) : bottom, max(0, left) : right] = False
    outside[30:70, near : near + 30] = True
    assert np.array_equal(after[outside], image[outside])


@pytest.mark.parametrize("kind", ["recolor", "relight"])
def test_a_neighbor_that_touches_the_face_keeps_its_pixels(kind: str) -> None:
    image, label, change = drawn(kind)
    box = label.box
    low, high = box.y_max - 0.06 * box.height, box.y_max + 40
    other = Annotation("no_mask", Box(box.x_min + 0.1 * box.width, low, box.x_max - 0.1 * box.width, high))
    part = slice(int(low), int(np.ceil(high))), slice(int(other.box.x_min), int(np.ceil(other.box.x_max)))
    free = image.copy()
    free[change.window] = change.pixels
    assert not np.array_equal(free[part], image[part])
    changed = 0
    for seed in range(20):
        beside, _ = edit_face(image, [label, other], 0, kind, Random(seed))  # type: ignore[arg-type]
        if beside is not None:
            changed += 1
            after = image.copy()
            after[beside.window] = beside.pixels
            assert np.array_equal(after[part], image[part])
    assert changed


def test_each_face_draws_for_itself() -> None:
    """What becomes of one face does not depend on the others: their order of success, or their class."""
    one, label = person("no_mask", side=40, size=(150, 200), seed=2)
    image = np.hstack([one, one])
    shifted = Box(label.box.x_min + 150, label.box.y_min, label.box.x_max + 150, label.box.y_max)
    second = Annotation("no_mask", shifted)
    settings_ = Faces(share=1.0, kinds={"relight": 1, "shadow": 1, "tint": 1})
    with_bare = edit_faces(image, [label, second], settings_, 5)
    with_masked = edit_faces(image, [Annotation("mask", label.box), second], settings_, 5)
    assert np.array_equal(with_bare[0][:, 150:], with_masked[0][:, 150:])
    assert with_bare[1][1] == with_masked[1][1]


def test_the_same_seed_gives_the_same_face_whatever_the_global_seeds() -> None:
    import cv2

    for kind in KINDS:
        image, label, _ = drawn(kind)
        np.random.seed(1)
        cv2.setRNGSeed(1)
        first, _ = edit_face(image, [label], 0, kind, Random(9))
        np.random.seed(2)
        cv2.setRNGSeed(2)
        second, _ = edit_face(image, [label], 0, kind, Random(9))
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert np.array_equal(first.pixels, second.pixels)


# ------------------------------------------------------------------ what a face tells of itself


def test_the_skin_is_measured_and_not_the_hair_or_the_eyes() -> None:
    image = np.full((120, 120, 3), 30, np.uint8)
    image[30:100, 30:90] = SKIN
    image[30:45, 30:90] = (20, 18, 16)
    image[52:56, 40:50] = image[52:56, 70:80] = 15
    face = crop_face(image, Box(30, 30, 90, 100), (0.1, 0.1, 0.1), masked=False)
    assert to_rgb(face.skin[None, None])[0, 0] == pytest.approx(SKIN, abs=4)


def test_the_brows_are_found_where_a_head_is_tilted_back() -> None:
    image = np.full((160, 160, 3), 90, np.uint8)
    image[40:120, 40:110] = SKIN
    box = Box(40, 40, 110, 120)
    assert crop_face(image, box, (0.1, 0.1, 0.1), masked=False).brows == BROWS
    image[50:54, 48:70] = image[50:54, 80:102] = 25  # a tenth of the face from its top
    assert crop_face(image, box, (0.1, 0.1, 0.1), masked=False).brows == pytest.approx(-0.85, abs=0.06)


def test_grain_and_softness_follow_the_image() -> None:
    import cv2

    image, label = person("no_mask", side=100, size=(400, 400))
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    soft = cv2.GaussianBlur(image, (0, 0), 2.5)
    plain, grainy, blurred = (crop_face(p, label.box, (0, 0, 0), masked=False) for p in (image, noisy, soft))
    assert grainy.grain > plain.grain + 2
    assert blurred.softness > 1.5 > plain.softness


def test_a_step_is_soft_about_nought() -> None:
    assert step(np.array([-1.0, 0.0, 1.0]), 0.5).tolist() == [0.0, 0.5, 1.0]
