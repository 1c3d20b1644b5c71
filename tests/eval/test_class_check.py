"""Labels against the answers of a detector whose answers are known: classes that look exchanged are told."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from facemask_train.cli.data import _check_classes, _check_lines
from facemask_train.core.config import class_map
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.types import CLASSES, Annotation, Box, no_progress
from facemask_train.dataset.build import BuildResult, build
from facemask_train.eval.class_check import ClassCheck
from facemask_train.formats import yolo
from facemask_train.sources.fetch import fetch
from helpers.known_detector import color, known_weights
from helpers.worlds import make_root, write


def counts(mask: int, no_mask: int) -> dict[str, int]:
    return {"mask": mask, "no_mask": no_mask}


@pytest.mark.parametrize(
    ("faces", "opposite", "exchanged"),
    [
        (counts(5, 5), counts(5, 5), True),
        (counts(5, 5), counts(5, 1), True),
        (counts(5, 5), counts(5, 0), False),  # half is not more than half
        (counts(4, 0), counts(4, 0), False),  # too few to tell
        (counts(5, 0), counts(3, 0), True),
        (counts(0, 0), counts(0, 0), False),
    ],
)
def test_more_than_half_of_enough_faces_look_exchanged(
    faces: dict[str, int], opposite: dict[str, int], exchanged: bool
) -> None:
    found = ClassCheck("s", 9, faces, opposite)
    assert found.exchanged is exchanged
    assert ("classes look exchanged" in found.describe()) is exchanged
    assert not sum(faces.values()) or f"mask {opposite['mask']} of {faces['mask']}" in found.describe()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one source of ten images: a face of each class by turns, as the known detector sees them."""
    root = make_root(
        tmp_path_factory.mktemp("classes"),
        images=0,
        recipe={"sources": ["second"], "split": {"train": 1, "val": 0, "test": 0}},
    )
    rng = random.Random(0)
    for number in range(10):
        gray = 90 + 9 * number
        image = Image.new("RGB", (64, 64), (gray, gray, gray))
        x, y, side = rng.randrange(2, 30), rng.randrange(2, 30), rng.randrange(24, 32)
        name = CLASSES[number % 2]
        image.paste(color(1.0 if name == "mask" else 0.0, 0.4), (x, y, x + side, y + side))
        image.save(_folder(root) / f"p{number}.png")
        text = yolo.lines([Annotation(name, Box(x, y, x + side, y + side))], 64, 64)
        write(_folder(root), {f"p{number}.txt": text})
    write(_folder(root), {"classes.txt": "masked\nbare\n"})
    fetch(root, ["second"])
    return root


def _folder(root: Path) -> Path:
    folder = root / "own/second"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def built(root: Path, mapping: str) -> BuildResult:
    return build(root, "tiny", class_maps=dict([class_map(f"second={mapping}")]), pool=WorkerPool(workers=1))


def test_labels_that_the_model_agrees_with(world: Path) -> None:
    (found,) = _check_classes(world, built(world, "masked:mask,bare:no_mask"), str(known_weights()), no_progress)
    assert (found.images, found.exchanged) == (10, False)
    assert sum(found.faces.values()) >= 8
    assert found.opposite == counts(0, 0)


def test_exchanged_labels_are_told_and_not_changed(world: Path) -> None:
    made = built(world, "masked:no_mask,bare:mask")
    before = made.card.hash
    checks = _check_classes(world, made, str(known_weights()), no_progress)
    (line,) = _check_lines(checks)
    assert checks[0].opposite == checks[0].faces
    assert line.startswith("second: classes look exchanged: the model says the opposite (mask ")
    assert "configs/sources.yaml" in line
    assert built(world, "masked:no_mask,bare:mask").card.hash == before
