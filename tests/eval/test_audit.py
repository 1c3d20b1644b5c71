"""The audit: edits that change what they should and nothing else, and models whose shortcut is known beforehand."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.types import Annotation, Box, Detection
from facemask_train.eval import audit as stage
from facemask_train.eval.perturbations import shortcuts
from facemask_train.eval.perturbations.perturb import PERTURBATIONS, perturb, perturbations_for
from facemask_train.eval.perturbations.shortcuts import (
    Face,
    Outcome,
    best_detection,
    flip_rate,
    large_faces,
    rates_by_perturbation,
    response_rate,
    run_perturbations,
    shortcut_rate,
)
from facemask_train.eval.probe import read_expected
from facemask_train.eval.records.audit import Audit, Probe
from facemask_train.report.wording import audit_summary
from facemask_train.sources.sample.scenes import draw_scene
from helpers import shapes
from helpers.runs import make_run

UNSEEN = {"hood", "cowl", "sunglasses", "scarf"}


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, Box]:
    drawn = draw_scene(Random(3), people=1)
    return drawn.image, drawn.faces[0].box


# ---- edits ----


def test_kinds_that_training_knows_are_apart_from_those_it_never_saw() -> None:
    assert {kind.name for kind in PERTURBATIONS if not kind.seen} == UNSEEN
    assert [kind.name for kind in PERTURBATIONS if kind.must_change] == ["mask put on"]
    assert len({kind.name for kind in PERTURBATIONS}) == len(PERTURBATIONS)
    bare, masked = ({kind.name for kind in perturbations_for(name)} for name in ("no_mask", "mask"))
    assert {
        "beard",
        "hand",
        "cup",
        "scarf",
        "mask put on",
        "lower half recolored",
        "lower half relit",
    } == bare - masked
    assert {"mask in skin color", "mask in black", "mask with a pattern"} == masked - bare
    assert {"cap", "sunglasses", "hood", "cowl", "hard shadow"} == bare & masked


def test_edits_share_no_code_with_what_trains() -> None:
    """Neither the drawing files nor the training transforms may import each other."""
    package = Path(stage.__file__).parents[1]
    drawing = sorted((package / "eval/perturbations").glob("*.py"))
    assert len(drawing) > 4
    for path in drawing:
        text = path.read_text()
        for room in ("augment", "dataset", "train"):
            assert f"facemask_train.{room}" not in text
    for room in ("augment", "dataset"):
        for path in (package / room).rglob("*.py"):
            assert "facemask_train.eval" not in path.read_text()


@pytest.mark.parametrize("kind", PERTURBATIONS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("side", [32, 150])
def test_each_edit_is_seen_stays_near_the_face_and_comes_out_the_same(kind: Any, side: int, scene: Any) -> None:
    image, box = scene
    scale = side / box.width
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    large = np.asarray(Image.fromarray(image).resize(size))
    face = Box(*(corner * scale for corner in box.corners))
    before = large.copy()
    made = perturb(large, face, kind.classes[0], kind, "a")
    assert (large == before).all()
    assert (made == perturb(large, face, kind.classes[0], kind, "a")).all()
    changed = abs(made.astype(int) - large).max(axis=2) > 24
    inside = changed[round(face.y_min) : round(face.y_max), round(face.x_min) : round(face.x_max)]
    assert inside.mean() > 0.05, "an edit that nobody sees asks nothing"
    rows, columns = np.nonzero(changed)
    assert abs(columns - (face.x_min + face.x_max) / 2).max() < 1.2 * face.width
    assert abs(rows - (face.y_min + face.y_max) / 2).max() < 1.3 * face.height


def half(image: np.ndarray, box: Box, low: float, high: float) -> np.ndarray:
    """Return the mean colour of a face's middle between two heights (0 the forehead, 1 the chin)."""
    x_min, x_max = round(box.x_min + box.width * 0.3), round(box.x_min + box.width * 0.7)
    y_min, y_max = round(box.y_min + box.height * low), round(box.y_min + box.height * high)
    return image[y_min:y_max, x_min:x_max].reshape(-1, 3).mean(axis=0)


@pytest.mark.parametrize("kind", PERTURBATIONS, ids=lambda kind: kind.name)
def test_an_edit_leaves_the_other_half_alone(kind: Any, scene: Any) -> None:
    """Edits of the lower half leave the forehead, those of the upper half the mouth and chin."""
    image, box = scene
    name = kind.classes[0]
    made = perturb(image, box, name, kind, "b")
    upper = kind.name in ("cap", "hard shadow", "sunglasses", "cowl") or kind.name == "hood"
    low, high = (0.72, 0.82) if upper else (0.05, 0.3)
    if name == "mask" and kind.name == "cowl":
        low, high = 0.6, 0.9
    assert np.abs(half(made, box, low, high) - half(image, box, low, high)).max() < 30


def test_edits_at_an_images_edge_and_on_a_tiny_image() -> None:
    image = np.full((40, 40, 3), 120, np.uint8)
    for kind in PERTURBATIONS:
        made = perturb(image, Box(-3, -5, 36, 44), kind.classes[0], kind, "edge")
        assert made.shape == image.shape


# ---- which faces, and what became of them ----


def test_faces_that_are_large_enough_at_most_so_many_of_a_class() -> None:
    images = {
        f"{index}.jpg": [Annotation("mask", Box(0, 0, 40, 40)), Annotation("no_mask", Box(0, 0, 40, 31))]
        for index in range(9)
    }
    found = large_faces(images, max_faces=5)
    assert len(found) == 5
    assert {face.label.name for face in found} == {"mask"}
    assert found == large_faces(dict(reversed(images.items())), max_faces=5), "whatever the order"


def test_the_surest_box_on_the_face_decides() -> None:
    face = Face("a", 0, Annotation("no_mask", Box(0, 0, 40, 40)))
    on, beside = (0.0, 0.0, 40.0, 38.0), (30.0, 0.0, 70.0, 40.0)
    assert shortcuts.result_of(face, []) == "lost"
    assert shortcuts.result_of(face, [Detection("mask", 0.9, beside)]) == "lost"
    assert shortcuts.result_of(face, [Detection("mask", 0.6, on), Detection("no_mask", 0.5, on)]) == "flipped"
    assert shortcuts.result_of(face, [Detection("mask", 0.5, on), Detection("no_mask", 0.6, on)]) == "same"
    assert best_detection(face.label.box, [Detection("mask", 0.9, beside)]) is None


def outcomes(faces: int, flipped: int, *, kind: str = "cowl", per_image: int = 1) -> list[Outcome]:
    label = Annotation("no_mask", Box(0, 0, 40, 40))
    return [
        Outcome(Face(f"{i // per_image}", i % per_image, label), kind, "flipped" if i < flipped else "same", 0.9)
        for i in range(faces)
    ]


def test_too_few_faces_is_no_rate() -> None:
    few = flip_rate(outcomes(19, 19))
    assert (few.rate, few.interval, few.n, few.flipped) == (None, None, 19, 19)
    assert flip_rate(outcomes(40, 1, per_image=5)).rate is None, "of eight images"
    enough = flip_rate(outcomes(20, 20))
    assert enough.rate == 1
    assert enough.interval is not None
    assert enough.interval[0] < 0.9, "twenty of twenty is no certainty"


def test_seen_and_unseen_kinds_are_counted_apart() -> None:
    mixed = [*outcomes(30, 15), *outcomes(30, 0, kind="beard"), *outcomes(30, 21, kind="mask put on")]
    assert shortcut_rate(mixed, seen=False).rate == 0.5
    assert shortcut_rate(mixed, seen=True).rate == 0
    assert response_rate(mixed).rate == 0.7
    assert shortcut_rate(mixed, seen=False, name="mask").n == 0


# ---- models that are known ----


class Known:
    """Answers for images with one face each: where it is, and what a rule says of its colours."""

    def __init__(self, boxes: list[Box], rule: Any) -> None:
        self.boxes, self.rule, self.turn = boxes, rule, 0

    def predict(self, images: Iterable[np.ndarray], **_: Any) -> Iterator[tuple[Detection, ...]]:
        for image in images:
            box = min(self.boxes, key=lambda box: abs(box.x_min - float(image[0, 0, 0])))
            yield (Detection(self.rule(image, box), 0.9, box.corners),)


def two_toned(image: np.ndarray, box: Box) -> str:
    apart = np.abs(half(image, box, 0.62, 0.95) - half(image, box, 0.1, 0.3)).max()
    return "mask" if apart > 60 else "no_mask"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Annotation]], list[Box]]:
    """24 images with one plain bare face each; the corner pixel says which (that is how the models know the box)."""
    folder = tmp_path_factory.mktemp("bare")
    images, boxes = {}, []
    for index in range(24):
        canvas = np.full((120, 150, 3), (110, 130, 150), np.uint8)
        left = 20 + 2 * index
        box = Box(left, 40, left + 40, 88)
        canvas[40:88, left : left + 40] = (205, 160, 130)
        canvas[:8, :8] = left
        Image.fromarray(canvas).save(folder / f"{index:02d}.png")
        images[f"{index:02d}.png"] = [Annotation("no_mask", box)]
        boxes.append(box)
    return folder, images, boxes


def test_a_model_that_looks_at_two_tones_stands_out_and_one_that_does_not_is_clean(bare: Any) -> None:
    folder, images, boxes = bare
    found = {
        name: run_perturbations(Known(boxes, rule), folder, images, threshold=0.5)  # type: ignore[arg-type]
        for name, rule in (("shortcut", two_toned), ("steadfast", lambda *_: "no_mask"))
    }
    assert found["shortcut"].right == {"mask": 0, "no_mask": 24}
    shortcut, steadfast = (shortcut_rate(one.outcomes, seen=False) for one in found.values())
    assert steadfast.rate == 0
    assert shortcut.rate is not None
    assert shortcut.rate > 0.3
    assert shortcut.interval is not None
    assert steadfast.interval is not None
    assert shortcut.interval[0] > steadfast.interval[1]
    kinds = {
        kind.name: one.rate
        for kind, name, one in rates_by_perturbation(found["shortcut"].outcomes)
        if name == "no_mask"
    }
    assert kinds["lower half recolored"] > 0.5
    assert kinds["scarf"] > 0.5
    assert response_rate(found["steadfast"].outcomes).rate == 0, "a model that never changes its answer has no response"


def test_a_face_that_is_named_wrongly_when_untouched_is_not_asked(bare: Any) -> None:
    folder, images, boxes = bare
    found = run_perturbations(Known(boxes, lambda *_: "mask"), folder, images, threshold=0.5)  # type: ignore[arg-type]
    assert (found.large["no_mask"], found.right["no_mask"], found.outcomes) == (24, 0, ())


# ---- the stage ----


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audited")
    make_run(root, shapes.draw_ensemble(root, counts=(2, 4, 10)))
    return root


def test_an_audit_on_too_few_faces_says_so(root: Path) -> None:
    found = stage.audit(root, run="r", device="cpu", tracker="none", threshold=0.05)
    assert sorted(path.name for path in found.folder.iterdir()) == ["audit.json", "outcomes.parquet", "shortcuts.jpg"]
    assert found.audit.faces.right == {"mask": 3, "no_mask": 1}, "faces of both classes are edited"
    given = {word: sum(getattr(one, word) for one in found.audit.perturbations) for word in ("same", "flipped", "lost")}
    assert sum(given.values()) == sum(one.n for one in found.audit.perturbations) > 0
    assert given["same"] > 0 < given["lost"], "an edit may leave the answer, or hide the face"
    for rate in (found.audit.shortcut_rate, found.audit.response_rate):
        assert (rate.rate, rate.interval, rate.measurable) == (None, None, False)
    assert len(found.audit.perturbations) > len(PERTURBATIONS), "some apply to both classes"
    assert "not measurable here" in audit_summary(found.audit)
    assert found.audit == Audit.load(found.folder)
    assert stage.audit(root, run="r", device="cpu", tracker="none", threshold=0.05).up_to_date
    assert not stage.audit(root, run="r", device="cpu", tracker="none", threshold=0.06).up_to_date


def test_the_threshold_is_chosen_on_val_and_not_on_what_is_audited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facemask_train.model import validation

    asked = []
    stock = validation.validate
    monkeypatch.setattr(validation, "validate", lambda *given, **how: asked.append(given[2]) or stock(*given, **how))
    found = stage.audit(root, run="r", device="cpu", tracker="none")
    assert asked == ["val"]
    assert found.audit.threshold_chosen == "val"


# ---- one's own images ----


def folder_of(tmp_path: Path, table: str | None, *images: str) -> Path:
    folder = tmp_path / "batmans"
    folder.mkdir()
    for name in images:
        Image.new("RGB", (90, 60), (60, 90, 120)).save(folder / name)
    if table is not None:
        (folder / "what.csv").write_text(table)
    return folder


def test_a_persons_own_images(root: Path, tmp_path: Path) -> None:
    shown = sorted((root / "data/ensembles/v5/images/test").iterdir())[0]
    table = "\ufeffimage,should_be,note\nshape.jpg,mask,a\nother.jpg,no_mask,b\nplain.png,no_mask,c\n"
    folder = folder_of(tmp_path, table, "plain.png")
    for name in ("shape.jpg", "other.jpg"):  # a mask in both
        (folder / name).write_bytes(shown.read_bytes())
    told = stage.probe(root, folder, run="r", device="cpu", threshold=0.5)
    assert {one.image for one in told.probe.predictions} == {"shape.jpg", "other.jpg", "plain.png"}
    assert (told.probe.right, told.probe.wrong, told.probe.not_detected) == (1, 1, 1)
    assert Probe.load(told.folder) == told.probe
    assert told.folder.name == "probe-batmans"
    with (told.folder / "probe.csv").open() as stream:
        assert [row["image"] for row in csv.DictReader(stream)] == ["shape.jpg", "other.jpg", "plain.png"]
    assert (told.folder / "probe.jpg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        (None, MissingError, "expected a csv"),
        ("file,class\na.png,mask\n", DataError, "expected the columns image,should_be, found file,class"),
        ("image,should_be\n", DataError, "expected a line for each"),
        ("image,should_be\na.png,masked\n", DataError, "found 'masked'"),
        ("image,should_be\nb.png,mask\n", MissingError, r"b\.png: no such image"),
    ],
)
def test_a_table_that_cannot_be_used(table: str | None, error: type[Exception], said: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=said):
        read_expected(folder_of(tmp_path, table, "a.png"))


def test_a_file_that_is_no_image(root: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "image,should_be\nodd.jpg,mask\n")
    (folder / "odd.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="expected an image"):
        stage.probe(root, folder, run="r", device="cpu", threshold=0.5)
