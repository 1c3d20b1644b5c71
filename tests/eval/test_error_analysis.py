"""Where a model fails: slices, kinds of mistakes, calibration, suspected labels, agreement of copies; by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemask_train.core.types import Annotation, Box, Corners, Detection, ImageResult
from facemask_train.dataset.contents import GroupMember
from facemask_train.eval.measures.boxes_table import boxes_table
from facemask_train.eval.measures.calibration import calibration
from facemask_train.eval.measures.error_types import error_types
from facemask_train.eval.measures.label_agreement import label_agreement
from facemask_train.eval.measures.label_errors import RATE, find_label_errors
from facemask_train.eval.measures.metrics import ScoredSplit, score_split
from facemask_train.eval.measures.slices import ImageTraits, measure_images, slices

FACE, OTHER, AWAY = (0.0, 0.0, 40.0, 40.0), (100.0, 0.0, 140.0, 40.0), (300.0, 300.0, 340.0, 340.0)
SHIFTED = (20.0, 0.0, 60.0, 40.0)  # overlaps FACE by a third


def image(labels: list[tuple[str, Corners]], found: list[tuple[str, float, Corners]], name: str = "a") -> ImageResult:
    answers = sorted((Detection(*one) for one in found), key=lambda one: -one.confidence)
    return ImageResult(
        f"{name}.jpg", 400, 400, tuple(Annotation(one, Box(*box)) for one, box in labels), tuple(answers)
    )


def sample(*images: ImageResult) -> ScoredSplit:
    return score_split(boxes_table(images))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([("mask", 0.9, FACE)], {}),
        ([], {"missed": 1}),
        ([("no_mask", 0.9, FACE)], {"class": 1}),
        ([("mask", 0.9, SHIFTED)], {"localization": 1}),
        ([("no_mask", 0.9, SHIFTED)], {"class and localization": 1, "missed": 1}),
        ([("mask", 0.9, FACE), ("mask", 0.8, FACE)], {"duplicate": 1}),
        ([("mask", 0.9, FACE), ("mask", 0.8, AWAY)], {"background": 1}),
        ([("mask", 0.9, FACE), ("no_mask", 0.3, FACE)], {}),  # under the threshold
    ],
)
def test_each_kind_of_mistake(found: list[tuple[str, float, Corners]], expected: dict[str, int]) -> None:
    told = error_types(sample(image([("mask", FACE)], found)), 0.5)
    assert {name: one.count for name, one in told.items() if one.count} == expected


def test_what_a_mistake_costs() -> None:
    """Two faces: one found; the other given the wrong class, or badly placed, or missed. Mending gains the half."""
    for found, name in (("no_mask", "class"), ("mask", "localization")):
        box = OTHER if name == "class" else (120.0, 0.0, 160.0, 40.0)
        one = sample(image([("mask", FACE), ("mask", OTHER)], [("mask", 0.9, FACE), (found, 0.8, box)]))
        told = error_types(one, 0.5)
        assert told[name].cost == pytest.approx(50 / 101)
        assert told["duplicate"].cost == told["missed"].cost == 0
    missed = error_types(sample(image([("mask", FACE), ("mask", OTHER)], [("mask", 0.9, FACE)])), 0.5)
    assert missed["missed"].cost == pytest.approx(50 / 101)
    surer = error_types(sample(image([("mask", FACE)], [("mask", 0.9, AWAY), ("mask", 0.8, FACE)])), 0.5)
    assert surer["background"].cost == pytest.approx(0.5)


def test_slices_add_up_and_name_what_they_hold() -> None:
    dark = image([("mask", FACE)], [("mask", 0.9, FACE)], "dark")
    bright = image([("no_mask", FACE), ("mask", OTHER)], [("mask", 0.8, OTHER)], "bright")
    small = image([("mask", (0.0, 0.0, 10.0, 10.0))], [], "small")
    known = [ImageTraits("one", 20, 5), ImageTraits("two", 200, 50), ImageTraits("two", 120, 500)]
    found = slices(sample(dark, bright, small), known, 0.5)
    by = {(one.by, one.name.split(" (")[0]): one for one in found}
    for what in {one.by for one in found}:
        assert sum(one.n for one in found if one.by == what) == 4, what
    assert by["source", "one"].recall.value == 1
    assert by["source", "two"].recall.value == 0.25, "the mean of the two classes: a half and nothing"
    assert (by["face size", "below 16 px"].n, by["face size", "below 16 px"].recall.value) == (1, 0)
    assert by["face size", "32 to 64 px"].n == 3
    assert by["faces per image", "2 to 3"].images == 1
    assert by["brightness", "dark third"].map50.value == 1
    assert by["sharpness", "sharp third"].map50.value == 0
    assert all(one.too_few for one in found)


def test_traits_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (200, 320), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "sharp.png")
    Image.fromarray(noise).resize((32, 20)).resize((320, 200)).save(tmp_path / "blurred.png")
    Image.new("RGB", (64, 48), (10, 10, 10)).save(tmp_path / "dark.png")
    found = measure_images(tmp_path, {"sharp.png": "s", "blurred.png": "s", "dark.png": ""})
    assert found["dark.png"].brightness == pytest.approx(10)
    assert found["dark.png"].sharpness == 0
    assert found["sharp.png"].sharpness > 10 * found["blurred.png"].sharpness


def test_a_model_that_is_as_right_as_it_is_sure_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    images = []
    for index in range(600):
        sure = float(rng.uniform(0.05, 1))
        box = FACE if rng.random() < sure else AWAY
        images.append(image([("mask", FACE)], [("mask", sure, box)], str(index)))
    honest = calibration(sample(*images))
    assert honest.n == 600
    assert honest.error is not None
    assert honest.error < 0.07, "600 detections in ten bins are off by some points by chance"
    bounds = [(one.precision.interval or (0, 0), one.confidence) for one in honest.bins]
    assert np.mean([low <= sure <= high for (low, high), sure in bounds]) >= 0.8
    boastful = calibration(sample(*(image([("mask", FACE)], [("mask", 0.95, AWAY)], str(i)) for i in range(5))))
    assert boastful.error == pytest.approx(0.95)
    assert calibration(sample(image([("mask", FACE)], []))).error is None


def test_planted_label_errors_are_the_most_suspect() -> None:
    """A good model on 60 images, of which 9 labels are wrong in three ways."""
    rng = np.random.default_rng(1)
    images, wrong = [], {}
    for index in range(60):
        truth = [("mask" if rng.random() < 0.5 else "no_mask", FACE), ("mask", OTHER)]
        found = [(name, float(rng.uniform(0.7, 0.95)), box) for name, box in truth]
        labels = list(truth)
        if index < 9:
            why = ("swapped", "overlooked", "badly placed")[index % 3]
            name, box = labels[0]
            swapped = ("no_mask" if name == "mask" else "mask", box)
            labels = [*({"swapped": [swapped], "overlooked": [], "badly placed": [(name, SHIFTED)]}[why]), labels[1]]
            wrong[f"{index}.jpg"] = why
        images.append(image(labels, found, str(index)))
    told = find_label_errors(sample(*images), images)
    assert {one.image: one.kind for one in told[: len(wrong)] if one.kind != "badly placed"} == {
        path: why for path, why in wrong.items() if why != "badly placed"
    }
    assert {one.image for one in told} == set(wrong)


def test_a_label_where_nothing_is_found_is_suspect_where_smaller_faces_are_found() -> None:
    small = (0.0, 0.0, 20.0, 20.0)
    seen = [image([("mask", small)], [("mask", 0.9, small)], str(i)) for i in range(10)]
    told = find_label_errors(
        sample(*seen, image([("mask", FACE)], [], "odd")), [*seen, image([("mask", FACE)], [], "odd")]
    )
    assert [(one.image, one.kind) for one in told] == [("odd.jpg", "not a face")]


def member(group: int, role: str, *labels: tuple[str, Corners]) -> GroupMember:
    own = tuple(Annotation(name, Box(*box)) for name, box in labels)
    return GroupMember(group, "s", "a.jpg", "", role, "", 0, 1.0, own)


def test_agreement_of_copies() -> None:
    members = [
        member(1, "kept", ("mask", FACE), ("mask", OTHER)),
        member(1, "merged", ("mask", FACE), ("no_mask", OTHER)),
        member(1, "merged", ("mask", FACE)),
        member(2, "refused", ("mask", FACE)),
        member(2, "merged", ("mask", FACE)),
        member(3, "kept"),
    ]
    found = label_agreement(members)
    assert found is not None
    assert (found.pairs, found.kept_boxes, found.duplicate_boxes, found.matched, found.same_class) == (2, 4, 3, 3, 2)
    assert (found.precision, found.recall, found.iou) == (pytest.approx(2 / 3), 0.5, 1.0)
    assert label_agreement(members[3:]) is None


def test_each_cause_is_calibrated_by_the_evidence_that_such_an_error_would_leave() -> None:
    """Ten labels, one of them swapped, and one detection without a label."""
    images = [image([("mask", FACE)], [("mask", 0.8, FACE)], str(i)) for i in range(9)]
    images.append(image([("no_mask", FACE)], [("mask", 0.8, FACE), ("mask", 0.5, AWAY)], "9"))
    told = find_label_errors(sample(*images), images)
    expected = {"swapped": RATE * 9, "overlooked": RATE * 10}  # labels that would show as much; one shows it
    assert {one.kind: one.score for one in told} == {
        kind: pytest.approx(many / (many + 1)) for kind, many in expected.items()
    }
    assert [(one.image, one.name, one.label) for one in told] == [("9.jpg", "mask", None), ("9.jpg", "mask", FACE)]
