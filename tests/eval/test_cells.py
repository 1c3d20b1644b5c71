"""Cells: faces by class, relative size and source, and what is said where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from facemask_train.core.boxes import SIZE_NAMES, count_cells, lopsided, relative_size
from facemask_train.core.types import Annotation, Box, Corners, Detection, ImageResult
from facemask_train.eval.eval_target import find_eval_ensemble, find_model, open_eval_split
from facemask_train.eval.evaluate import evaluate
from facemask_train.eval.measures.boxes_table import boxes_table
from facemask_train.eval.measures.cells import Cell, cells
from facemask_train.eval.measures.metrics import score_split
from facemask_train.eval.records.metrics import CellMetrics
from facemask_train.eval.training_data import training_faces
from facemask_train.report.wording import cell_text, unmeasured
from helpers import shapes
from helpers.metrics import make_metrics
from helpers.runs import make_run

SMALL, LARGE = (0.0, 0.0, 20.0, 30.0), (100.0, 100.0, 300.0, 260.0)  # 0.075 and 0.5 of 400 px


def image(labels: list[tuple[str, Corners]], found: list[tuple[str, float, Corners]]) -> ImageResult:
    return ImageResult(
        "a.jpg",
        400,
        200,
        tuple(Annotation(name, Box(*box)) for name, box in labels),
        tuple(Detection(*one) for one in found),
    )


def scored(images: list[ImageResult], sources: list[str], confidence: float = 0.5) -> dict[tuple[str, str, str], Cell]:
    found = cells(score_split(boxes_table(images)), images, sources, confidence)
    return {(one.name, one.size, one.source): one for one in found}


@pytest.mark.parametrize(
    ("longer", "name"),
    [(9, "below 0.1"), (10, "0.1 to 0.2"), (29.9, "0.2 to 0.3"), (44, "0.3 to 0.45"), (45, "0.45 or more")],
)
def test_relative_size(longer: float, name: str) -> None:
    assert relative_size(Annotation("mask", Box(0, 0, longer / 2, longer)), 100, 60) == name


def test_right_wrong_and_missed_by_hand() -> None:
    first = image([("mask", SMALL), ("no_mask", LARGE)], [("mask", 0.9, SMALL), ("mask", 0.8, LARGE)])
    second = image([("no_mask", LARGE), ("mask", SMALL)], [("no_mask", 0.9, LARGE), ("mask", 0.4, SMALL)])
    found = scored([first, second], ["one", "two"])
    close = found["no_mask", "0.45 or more", ""]
    assert (close.n, close.images, close.right.value, close.wrong, close.missed) == (2, 2, 0.5, 1, 0)
    far = found["mask", "below 0.1", ""]
    assert (far.n, far.right.value, far.wrong, far.missed) == (2, 0.5, 0, 1), "one is below the operating point"
    assert [found["no_mask", "0.45 or more", source].right.value for source in ("one", "two")] == [0, 1]
    assert len(found) == 2 * len(SIZE_NAMES) * 3
    assert close.too_few


def test_a_cell_without_a_face_is_there_and_not_measured() -> None:
    found = scored([image([("mask", SMALL)], [])], ["one"])
    empty = found["no_mask", "0.45 or more", ""]
    assert (empty.n, empty.right.value, empty.right.interval) == (0, None, None)
    assert scored([image([], [])], ["one"])["mask", "below 0.1", ""].n == 0


def test_training_that_leans_to_one_class() -> None:
    counts = {"mask": dict.fromkeys(SIZE_NAMES, 150), "no_mask": dict.fromkeys(SIZE_NAMES, 150) | {"0.3 to 0.45": 10}}
    assert lopsided(counts) == [("0.3 to 0.45", "no_mask", "mask")]
    assert lopsided({"mask": dict.fromkeys(SIZE_NAMES, 19), "no_mask": dict.fromkeys(SIZE_NAMES, 0)}) == []


def cell(name: str, size: str, n: int = 60, train: int | None = 150) -> CellMetrics:
    right = 0.9 if n else None
    return CellMetrics(name, size, "", n, n, n, right, (0.8, 0.95) if n else None, 2, 4, n < 50, train)


def test_what_is_said_of_cells() -> None:
    held = [cell(name, size) for name in ("mask", "no_mask") for size in SIZE_NAMES]
    assert unmeasured(make_metrics(cells=tuple(held))) == []
    held[-1] = cell("no_mask", "0.45 or more", n=0, train=10)
    missing, leaning = unmeasured(make_metrics(cells=tuple(held)))
    assert missing.startswith("Not measured, because test has no such faces: no_mask at 0.45 or more")
    assert "10 no_mask against 150 mask faces at 0.45 or more" in leaning
    unknown = [replace(one, train=None) for one in held]
    assert len(unmeasured(make_metrics(cells=tuple(unknown)))) == 1
    assert cell_text(held[0]) == "90.0 (80.0 to 95.0), n = 60"
    assert cell_text(cell("mask", "below 0.1", n=49)).endswith("n = 49, too few")
    assert cell_text(held[-1]) == "not measured"


def test_faces_of_training_by_class_and_size() -> None:
    labels = [(Annotation("mask", Box(0, 0, 20, 30)), 100, 50), (Annotation("no_mask", Box(0, 0, 4, 4)), 100, 50)]
    counts = count_cells(labels)
    assert counts["mask"]["0.3 to 0.45"] == counts["no_mask"]["below 0.1"] == 1
    assert sum(sum(one.values()) for one in counts.values()) == 2


def test_an_evaluation_has_its_cells(tmp_path: Path) -> None:
    ensemble = shapes.draw_ensemble(tmp_path, counts=(6, 2, 6))
    make_run(tmp_path, ensemble)
    model = find_model(tmp_path, "r", None)
    target = open_eval_split(find_eval_ensemble(tmp_path, model, None), "test")
    counts = training_faces(model, target)
    assert counts is not None
    assert sum(sum(one.values()) for one in counts.values()) == target.card.faces_in("train"), "faces of 6 images"
    metrics = evaluate(tmp_path, run="r", device="cpu", tracker="none", audit=False).metrics
    assert sum(one.n for one in metrics.pooled_cells) == metrics.boxes
    assert {one.train for one in metrics.pooled_cells} == {n for one in counts.values() for n in one.values()}
    report = (tmp_path / "runs/r/evaluation/v5-test/report.md").read_text()
    assert "## By class and size" in report
    assert "not measured" in report
