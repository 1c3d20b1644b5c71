"""The audit: edits that change what they should and nothing else, and models whose shortcut is known beforehand."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.types import Annotation, Box, Detection
from facemask_train.dataset.card import EnsembleCard
from facemask_train.eval import audit as stage
from facemask_train.eval.eval_target import find_eval_ensemble, find_model, open_eval_split
from facemask_train.eval.perturbations import shortcuts
from facemask_train.eval.perturbations.controls import (
    BESIDE,
    CONTROLS,
    REENCODED,
    SHIFTED,
    patch_beside,
    shift_by_pixel,
)
from facemask_train.eval.perturbations.distance import PADDING, at_distance
from facemask_train.eval.perturbations.perturb import (
    BARE,
    PERTURBATIONS,
    perturb,
    perturbations_for,
    seen_in_training,
)
from facemask_train.eval.perturbations.rates import (
    ExcessRate,
    control_rates,
    counted,
    excess_rate,
    found_share,
    perturbed,
    response_rate,
)
from facemask_train.eval.perturbations.shortcuts import (
    Face,
    Outcome,
    PerturbationTest,
    best_detection,
    large_faces,
    run_perturbations,
    trials_of,
)
from facemask_train.eval.probe import read_expected
from facemask_train.eval.records.audit import Audit, Probe
from facemask_train.eval.training_data import training_edits
from facemask_train.report.wording import audit_summary
from facemask_train.sources.sample.scenes import draw_scene
from helpers import shapes
from helpers.runs import make_run

DRAWN = tuple(one for one in PERTURBATIONS if one.draw is not None)
V8 = ("recolor", "relight", "beard", "hand", "cup", "tint", "cap", "shadow")
"""The face-aware edits of v8."""


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, Box]:
    drawn = draw_scene(Random(3), people=1)
    return drawn.image, drawn.faces[0].box


# ---- edits ----


def test_what_training_showed_is_what_the_ensemble_of_the_run_drew() -> None:
    assert seen_in_training(()) == ()
    assert seen_in_training(["beard"]) == ("beard",)
    never = {"closer, 2x", "closer, 4x", "sunglasses", "hood", "cowl", "mask in black", "mask with a pattern"}
    assert set(counted(seen_in_training(V8))) == never
    assert set(counted(())) == never | set(counted(seen_in_training(V8), shown=True))


def test_what_is_in_doubt_does_not_count() -> None:
    doubtful = {one.name for one in PERTURBATIONS if one.doubt}
    assert doubtful == {"scarf", "lower half recolored", "farther, 0.5x"}
    assert not doubtful & {*counted(()), *counted((), shown=True)}
    assert [one.name for one in PERTURBATIONS if one.must_change] == ["mask put on"]


def test_perturbations_by_class() -> None:
    assert len({kind.name for kind in PERTURBATIONS}) == len(PERTURBATIONS)
    bare, masked = ({kind.name for kind in perturbations_for(name)} for name in (BARE, "mask"))
    assert {
        "beard",
        "hand",
        "cup",
        "scarf",
        "mask put on",
        "lower half tinted",
        "lower half recolored",
        "lower half relit",
    } == bare - masked
    assert {"mask in skin color", "mask in black", "mask with a pattern"} == masked - bare
    either = {"cap", "sunglasses", "hood", "cowl", "hard shadow", "closer, 2x", "closer, 4x", "farther, 0.5x"}
    assert either == bare & masked


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


@pytest.mark.parametrize("kind", DRAWN, ids=lambda kind: kind.name)
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
    """Return the mean color of a face's middle between two heights (0 the forehead, 1 the chin)."""
    x_min, x_max = round(box.x_min + box.width * 0.3), round(box.x_min + box.width * 0.7)
    y_min, y_max = round(box.y_min + box.height * low), round(box.y_min + box.height * high)
    return image[y_min:y_max, x_min:x_max].reshape(-1, 3).mean(axis=0)


@pytest.mark.parametrize("kind", DRAWN, ids=lambda kind: kind.name)
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
    face = Annotation("no_mask", Box(0, 0, 40, 40))
    on, beside = (0.0, 0.0, 40.0, 38.0), (30.0, 0.0, 70.0, 40.0)
    assert shortcuts.result_of(face, []) == "lost"
    assert shortcuts.result_of(face, [Detection("mask", 0.9, beside)]) == "lost"
    assert shortcuts.result_of(face, [Detection("mask", 0.6, on), Detection("no_mask", 0.5, on)]) == "flipped"
    assert shortcuts.result_of(face, [Detection("mask", 0.5, on), Detection("no_mask", 0.6, on)]) == "same"
    assert best_detection(face.box, [Detection("mask", 0.9, beside)]) is None


def outcomes(faces: int, flipped: int, *, kind: str = "cowl", per_image: int = 1) -> list[Outcome]:
    label = Annotation("no_mask", Box(0, 0, 40, 40))
    return [
        Outcome(Face(f"{i // per_image}", i % per_image, label), kind, "flipped" if i < flipped else "same", 0.9)
        for i in range(faces)
    ]


def rate_of(outcomes: list[Outcome]) -> ExcessRate:
    return excess_rate(perturbed(outcomes, [one.name for one in PERTURBATIONS]), control_rates(outcomes))


def test_too_few_faces_is_no_rate() -> None:
    few = rate_of(outcomes(19, 19))
    assert (few.rate, few.excess, few.excess_interval, few.n, few.flipped) == (None, None, None, 19, 19)
    assert rate_of(outcomes(40, 1, per_image=5)).rate is None, "of eight images"
    enough = rate_of(outcomes(20, 20))
    assert (enough.rate, enough.control, enough.excess) == (1, 0, 1)
    assert enough.excess_interval is not None
    assert enough.excess_interval[0] < 0.9, "twenty of twenty is no certainty"


def test_lost_faces_fail_as_flipped_ones_do() -> None:
    lost = [replace(one, result="lost") if number < 10 else one for number, one in enumerate(outcomes(40, 20))]
    found = rate_of(lost)
    assert (found.rate, found.flipped, found.lost) == (0.5, 10, 10)


def controls(faces: int, failed: int, *, kind: str = "cowl", control: str = BESIDE) -> list[Outcome]:
    return [
        replace(one, control=control, perturbation=kind if control == BESIDE else "") for one in outcomes(faces, failed)
    ]


def test_what_the_control_does_too_is_no_excess() -> None:
    """Forty faces: a cowl flips 20 of them, the same change beside the face 15."""
    found = rate_of([*outcomes(40, 20), *controls(40, 15)])
    assert (found.rate, found.control, found.excess) == (0.5, 0.375, 0.125)
    low, high = found.excess_interval or (0, 0)
    assert low < 0.125 < high
    alike = rate_of([*outcomes(40, 20), *controls(40, 20)])
    assert alike.excess == 0
    assert not alike.beyond_chance(1)


def test_the_other_controls_stand_in_where_there_is_no_room_beside() -> None:
    others = [*controls(40, 10, control=REENCODED), *controls(40, 0, control=SHIFTED)]
    assert rate_of([*outcomes(40, 20), *others]).control == 10 / 40 / 2
    assert rate_of([*outcomes(40, 20), *others, *controls(40, 0)]).control == 0


def test_a_face_fails_that_fails_one_of_several() -> None:
    """Twenty faces fail the cowl and all pass the hood: half of them fail, as do half of their controls."""
    several = [*outcomes(40, 20), *outcomes(40, 0, kind="hood")]
    found = rate_of(several)
    assert (found.rate, found.n, found.faces, found.flipped) == (0.5, 80, 40, 20)
    assert rate_of([*several, *controls(40, 20, kind="hood")]).control == 0.5


def test_scenes_count_once() -> None:
    """The same 20 of 40 flipped, on 40 scenes and on ten scenes of four faces that fail as a whole."""
    apart = rate_of(outcomes(40, 20))
    bursts = [replace(one, face=replace(one.face, group=f"g{n // 4}")) for n, one in enumerate(outcomes(40, 20))]
    together = rate_of(bursts)
    widths = [high - low for low, high in (apart.excess_interval or (0, 1), together.excess_interval or (0, 0))]
    assert widths[1] > 1.5 * widths[0]
    assert (apart.groups, together.groups) == (40, 10)


def test_the_share_that_was_right_before() -> None:
    faces = [one.face for one in outcomes(40, 0)]
    found = found_share(faces, faces[:30], BARE)
    assert (found.value, found.n) == (0.75, 40)
    assert found_share(faces, faces, "mask").value is None


def test_response() -> None:
    assert response_rate(outcomes(30, 21, kind="mask put on")).value == 0.7


# ---- closer, farther, and the controls ----


def scene_with_place(width: int = 160, height: int = 120) -> np.ndarray:
    """Return an image whose red and green are each pixel's column and row."""
    rows, columns = np.indices((height, width))
    return np.stack([columns, rows, np.full_like(rows, 40)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("factor", [0.5, 2, 4])
def test_a_face_at_another_distance(factor: float) -> None:
    image, box = scene_with_place(), Box(50, 40, 70, 60)
    made, moved = at_distance(image, box, factor) or (image, box)
    assert made.shape == (120 / factor, 160 / factor, 3)
    assert (moved.width, moved.height) == (20, 20)
    x, y = round(moved.x_min), round(moved.y_min)
    assert (made[y : y + 20, x : x + 20] == image[40:60, 50:70]).all(), "no pixel of the face is changed"
    assert (made[0, 0] == PADDING).all() == (factor < 1)


def test_a_crop_stays_within_the_image_and_cuts_no_face() -> None:
    image = scene_with_place()
    made, moved = at_distance(image, Box(0, 0, 20, 20), 4) or (image, Box(0, 0, 1, 1))
    assert (made[0, 0] == image[0, 0]).all()
    assert moved == Box(0, 0, 20, 20)
    assert at_distance(image, Box(40, 20, 120, 100), 2) is None
    assert at_distance(image, Box(60, 40, 100, 80), 4) is None


def test_the_control_changes_as_much_beside_the_face_and_nothing_on_it() -> None:
    image, box = np.full((200, 300, 3), 130, np.uint8), Box(120, 80, 160, 120)
    changed = image.copy()
    changed[75:110, 125:165] = (250, 20, 130)
    beside = patch_beside(image, changed, box)
    assert beside is not None
    difference = abs(beside.astype(int) - image)
    assert difference.sum() == abs(changed.astype(int) - image).sum(), "of equal size and strength"
    assert not difference[80:120, 120:160].any()
    assert patch_beside(changed[70:130, 110:170], image[70:130, 110:170], Box(5, 5, 55, 55)) is None, "no room"
    assert patch_beside(image, image, box) is None


def test_a_shift_moves_the_box_with_the_face() -> None:
    image = scene_with_place()
    moved, box = shift_by_pixel(image, Box(10, 20, 30, 40))
    assert moved.shape == image.shape
    assert (moved[1:, 1:] == image[:-1, :-1]).all()
    assert box == Box(11, 21, 31, 41)


def test_each_perturbation_has_its_control() -> None:
    trials = trials_of(outcomes(1, 0)[0].face)
    beside = {one.perturbation for one in trials if one.control == BESIDE}
    assert beside == {one.name for one in perturbations_for(BARE) if one.draw and not one.must_change}
    assert [one.control for one in trials if not one.perturbation] == [REENCODED, SHIFTED]


# ---- models that are known ----


HEAD = Box(56, 40, 96, 88)
BACKGROUND = 40  # of blue


class Known:
    """Finds the one face of `bare`'s images, wherever a copy puts it, and names it by a rule."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule

    def predict(self, images: Iterable[np.ndarray], **_: Any) -> Iterator[tuple[Detection, ...]]:
        for image in images:
            box = place(image)
            yield (Detection(self.rule(image, box), 0.9, box.corners),)


def place(image: np.ndarray) -> Box:
    """Return where the face is: red and green of the background say which pixel of the original each one is."""
    rows, columns = np.nonzero(abs(image[..., 2].astype(int) - BACKGROUND) < 6)
    left = np.median(image[rows, columns, 0].astype(int) - columns)
    top = np.median(image[rows, columns, 1].astype(int) - rows)
    return Box(HEAD.x_min - left, HEAD.y_min - top, HEAD.x_max - left, HEAD.y_max - top)


def two_toned(image: np.ndarray, box: Box) -> str:
    apart = np.abs(half(image, box, 0.62, 0.95) - half(image, box, 0.1, 0.3)).max()
    return "mask" if apart > 30 else BARE


def close_up(image: np.ndarray, box: Box) -> str:
    return "mask" if max(box.width, box.height) / max(image.shape[:2]) > 0.45 else BARE


def capped(image: np.ndarray, box: Box) -> str:
    """Take yellow, red, green, dark or white over the brow, and skin below, for a mask."""
    brow, cheek = half(image, box, 0.02, 0.1), half(image, box, 0.45, 0.6)
    forehead = half(image, box, 0.26, 0.3)
    return "mask" if np.abs(brow - cheek).max() > 40 and np.abs(forehead - cheek).max() < 90 else BARE


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Annotation]]]:
    """24 images with one plain bare face each."""
    folder = tmp_path_factory.mktemp("bare")
    images = {}
    for index in range(24):
        canvas = scene_with_place(150, 130)
        canvas[40:88, 56:96] = (205 - index, 160, 130)
        Image.fromarray(canvas).save(folder / f"{index:02d}.png")
        images[f"{index:02d}.png"] = [Annotation(BARE, HEAD)]
    return folder, images


def audited(found: PerturbationTest) -> tuple[ExcessRate, set[str]]:
    """Return the headline of a model that saw no edits in training, and the perturbations that it names."""
    controls = control_rates(found.outcomes)
    names = counted(())
    looks = sum(one.counts and BARE in one.classes for one in PERTURBATIONS)
    rates = {name: excess_rate(perturbed(found.outcomes, [name], BARE), controls) for name in names}
    headline = excess_rate(perturbed(found.outcomes, names, BARE), controls)
    return headline, {name for name, rate in rates.items() if rate.beyond_chance(looks)}


@pytest.mark.parametrize(
    ("rule", "named", "spared"),
    [
        pytest.param(
            close_up,
            {"closer, 2x"},
            {"cap", "beard", "hood", "cowl", "lower half tinted", "sunglasses"},
            marks=pytest.mark.slow,
            id="close-up",
        ),
        pytest.param(
            two_toned,
            {"beard", "lower half relit", "cowl"},
            {"closer, 2x", "sunglasses"},
            marks=pytest.mark.slow,
            id="two tones",
        ),
        pytest.param(capped, {"cap"}, {"closer, 2x", "beard", "cup", "lower half tinted"}, id="cap"),
    ],
)
def test_a_planted_shortcut_is_named_by_the_headline_and_its_perturbation(
    rule: Any, named: set[str], spared: set[str], bare: Any
) -> None:
    folder, images = bare
    found = run_perturbations(Known(rule), folder, images, threshold=0.5)  # type: ignore[arg-type]
    assert len(found.right) == 24
    headline, beyond = audited(found)
    assert headline.excess_interval is not None
    assert headline.excess_interval[0] > 0
    assert named <= beyond
    assert not spared & beyond


@pytest.mark.slow
def test_a_clean_model_is_not_named(bare: Any) -> None:
    folder, images = bare
    found = run_perturbations(Known(lambda *_: BARE), folder, images, threshold=0.5)  # type: ignore[arg-type]
    headline, beyond = audited(found)
    assert (headline.rate, headline.control, headline.excess) == (0, 0, 0)
    assert headline.excess_interval is not None
    assert headline.excess_interval[0] <= 0
    assert headline.excess_interval[1] < 0.2
    assert beyond == set()
    assert {one.control for one in found.outcomes} == {"", *CONTROLS}
    assert response_rate(found.outcomes).value == 0, "a model that never changes its answer has no response"


def test_a_face_that_is_named_wrongly_when_untouched_is_not_asked(bare: Any) -> None:
    folder, images = bare
    found = run_perturbations(Known(lambda *_: "mask"), folder, images, threshold=0.5)  # type: ignore[arg-type]
    assert (len(found.large), found.right, found.outcomes) == (24, (), ())
    assert found_share(found.large, found.right, BARE).value == 0


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
    assert (found.audit.bare.rate, found.audit.bare.excess, found.audit.bare.measurable) == (None, None, False)
    assert (found.audit.response.value, found.audit.response.measurable) == (None, False)
    assert (found.audit.headline, found.audit.training_edits) == (BARE, ())
    assert {one.control for one in found.audit.controls} == set(CONTROLS)
    assert len(found.audit.perturbations) > len(PERTURBATIONS), "some apply to both classes"
    assert "not measurable here" in audit_summary(found.audit)
    assert found.audit == Audit.load(found.folder)
    assert stage.audit(root, run="r", device="cpu", tracker="none", threshold=0.05).up_to_date
    assert not stage.audit(root, run="r", device="cpu", tracker="none", threshold=0.06).up_to_date


def test_what_training_showed_is_read_from_the_ensemble_of_the_run(tmp_path: Path) -> None:
    ensemble = shapes.draw_ensemble(tmp_path, counts=(2, 4, 10))
    edits = {"beard": {"done": 4, "too small": 9}, "cap": {"too small": 3}}
    replace(EnsembleCard.load(ensemble), face_edits=edits).save(ensemble)
    make_run(tmp_path, ensemble)
    other = shapes.draw_ensemble(tmp_path, name="v6", counts=(2, 4, 10), seed=1)
    replace(EnsembleCard.load(other), hash="1" * 64).save(other)
    model = find_model(tmp_path, "r", None)
    for tested in ("v5", "v6"):
        target = open_eval_split(find_eval_ensemble(tmp_path, model, tested), "test")
        assert training_edits(model, target) == ("beard",), "a cap was tried, and drawn on no face"
    replace(EnsembleCard.load(ensemble), hash="2" * 64).save(ensemble)
    assert training_edits(model, target) is None, "the ensemble is another one by now"


@pytest.mark.slow
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
