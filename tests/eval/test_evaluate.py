"""Evaluation: matching by hand and as the package does it, the files it writes, what it refuses, and its deaths."""

from __future__ import annotations

import json
import logging
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facemask_train.core.boxes import iou
from facemask_train.core.errors import DataError, MissingError, StorageError, UsageError
from facemask_train.core.files import digest_file, locked, write_json
from facemask_train.core.records import VersionError
from facemask_train.core.types import CLASSES, Annotation, Box, Corners, Detection, ImageResult
from facemask_train.dataset.card import EnsembleCard
from facemask_train.eval import evaluate as stage
from facemask_train.eval.evaluate import Evaluation
from facemask_train.eval.measures.matching import Match, confusion_matrix, detection_errors, match_boxes, worst_errors
from facemask_train.eval.measures.metrics import METRICS
from facemask_train.eval.records.audit import EnsembleReference
from facemask_train.eval.records.metrics import Metrics, read_evaluations
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.model.validation import Validation, validate
from facemask_train.report import galleries, markdown, plots
from facemask_train.training.runs import RunRecord
from helpers import crash, shapes, wandb_log
from helpers.cards import change_card
from helpers.known_detector import known_weights
from helpers.runs import make_run, score

FILES = [
    *("confusion.png", "curves.png", "detections.parquet", "errors.jpg", "images.parquet", "label_errors.jpg"),
    *("metrics.json", "report.html", "report.md"),
]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """An evaluation of a run on its own ensemble's test split."""
    root = tmp_path_factory.mktemp("evaluated")
    make_run(root, shapes.draw_ensemble(root))
    return score(root)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the images blank where a test looks at something else: to draw them takes longer than to score."""
    drawn = ((plots, "draw_curves", 1), (plots, "draw_confusion", 2), (galleries, "draw_errors", 4))
    for module, name, where in (*drawn, (galleries, "draw_label_errors", 3)):
        monkeypatch.setattr(module, name, lambda *given, where=where: Image.new("L", (8, 8)).save(given[where]))


@pytest.fixture
def root(tmp_path: Path, undrawn: None) -> Path:
    """A root with a small ensemble and a run that was trained on it, and no images drawn."""
    make_run(tmp_path, shapes.draw_ensemble(tmp_path, counts=(2, 2, 4)))
    return tmp_path


# ---- matching ----


def image(
    labels: list[tuple[str, Corners]], detections: list[tuple[str, float, Corners]], name: str = "a"
) -> ImageResult:
    return ImageResult(
        f"images/test/{name}.jpg",
        100,
        100,
        tuple(Annotation(label, Box(*corners)) for label, corners in labels),
        tuple(Detection(*one) for one in sorted(detections, key=lambda one: -one[1])),
    )


LEFT, RIGHT = (0.0, 0.0, 20.0, 20.0), (50.0, 0.0, 90.0, 40.0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (LEFT, LEFT, 1.0),
        (LEFT, RIGHT, 0.0),
        (LEFT, (10.0, 0.0, 30.0, 20.0), 1 / 3),
        (LEFT, (20.0, 0.0, 40.0, 20.0), 0.0),
        (LEFT, (5.0, 5.0, 5.0, 9.0), 0.0),
    ],
)
def test_iou(one: Corners, other: Corners, expected: float) -> None:
    assert iou(one, other) == pytest.approx(expected) == iou(other, one)


def test_pairs_and_kinds_by_hand() -> None:
    shown = image(
        [("mask", LEFT), ("no_mask", RIGHT), ("mask", (0.0, 60.0, 30.0, 90.0))],
        [
            ("mask", 0.9, (51.0, 0.0, 90.0, 40.0)),  # the wrong class
            ("mask", 0.8, LEFT),  # right
            ("mask", 0.7, (1.0, 1.0, 20.0, 20.0)),  # a second box on the same face
            ("no_mask", 0.6, (0.0, 75.0, 30.0, 100.0)),  # too far off its face
            ("no_mask", 0.1, (0.0, 60.0, 30.0, 90.0)),  # under the threshold
        ],
    )
    first, second, third = shown.labels
    sure, right, twice, off, _ = shown.detections
    assert match_boxes(shown, 0.5) == [
        *(Match(second, sure), Match(first, right), Match(None, twice), Match(None, off), Match(third, None))
    ]
    assert confusion_matrix([shown], 0.5).tolist() == [[1, 0, 1], [1, 0, 0], [1, 1, 0]]
    found = detection_errors([shown], 0.5)
    assert [(miss.kind, miss.match.detection) for miss in found] == [
        *(("missed", None), ("wrong class", sure), ("false positive", twice), ("false positive", off))
    ]


def test_the_worst_come_first_and_one_image_does_not_fill_the_page() -> None:
    crowded = image([("mask", (x, 0.0, x + 9, 9.0)) for x in (0.0, 10.0, 20.0)], [], "crowd")
    found = detection_errors(
        [image([("mask", (0.0, 0.0, 5.0, 5.0))], [], "small"), crowded, image([("mask", RIGHT)], [])], 0
    )
    assert [Path(miss.result.image).stem for miss in found] == ["a", "crowd", "crowd", "crowd", "small"]
    shown = worst_errors(found, "missed", at_most=4)
    assert [Path(miss.result.image).stem for miss in shown] == ["a", "crowd", "crowd", "small"]
    assert worst_errors(found, "false positive", at_most=4) == []


def test_confusion_is_that_of_the_package() -> None:
    """The package's matrix, asked at the same threshold and overlap, over crowds of random boxes."""
    import torch

    open_ultralytics()
    from ultralytics.utils.metrics import ConfusionMatrix

    rng = np.random.default_rng(5)
    theirs = ConfusionMatrix(names=dict(enumerate(CLASSES)))
    shown = []
    for _ in range(200):
        labels, detections = _crowd(rng, int(rng.integers(0, 6))), _crowd(rng, int(rng.integers(0, 9)))
        sure = np.sort(rng.random(len(detections)).astype(np.float32))[::-1]
        shown.append(
            image(
                [(CLASSES[index], box) for index, box in labels],
                [(CLASSES[index], float(at), box) for (index, box), at in zip(detections, sure, strict=True)],
            )
        )
        truth, found = ({"cls": _tensor([i for i, _ in s]), "bboxes": _tensor([b for _, b in s]).reshape(-1, 4)}
                        for s in (labels, detections))  # fmt: skip
        theirs.process_batch(found | {"conf": torch.from_numpy(sure.copy())}, truth, conf=0.25, iou_thres=0.5)
    ours = confusion_matrix(shown, 0.25)
    assert ours.tolist() == theirs.matrix.T.astype(int).tolist()
    assert (ours[:2] > 10).all(), "crowds that never meet prove nothing"


def _crowd(rng: np.random.Generator, count: int) -> list[tuple[int, Corners]]:
    corner = rng.integers(0, 30, (count, 2))
    side = rng.integers(15, 40, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(float)
    return [(int(rng.integers(0, 2)), tuple(box.tolist())) for box in boxes]


def _tensor(values: list[Any]) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float32)


# ---- what is written ----


def test_what_it_says(evaluated: Evaluation) -> None:
    root = evaluated.folder.parents[3]
    assert (evaluated.metrics.run, evaluated.metrics.ensemble, evaluated.metrics.split) == ("r", "v5", "test")
    assert evaluated.folder == root / "runs" / "r" / "evaluation" / "v5-test"
    assert evaluated.report == evaluated.folder / "report.md"
    assert (evaluated.metrics.images, evaluated.metrics.boxes) == (8, 9)
    assert (evaluated.up_to_date, evaluated.tracked) == (False, None)
    card = EnsembleCard.load(root / "data/ensembles/v5")
    assert {name: row.n for name, row in evaluated.metrics.per_class.items()} == card.faces["test"]
    assert sorted(path.name for path in evaluated.folder.iterdir()) == FILES


def test_numbers_are_those_of_the_validator(evaluated: Evaluation) -> None:
    root = evaluated.folder.parents[3]
    scored = validate(known_weights(), root / "data/ensembles/v5/data.yaml", "test", imgsz=64, device="cpu")
    own = evaluated.metrics.validator
    assert 0 < own.map50_95 < own.map50 < 1, "a model that finds nothing, or everything, proves nothing"
    for key in ("map50", "map50_95", "precision", "recall"):
        assert getattr(own, key) == pytest.approx(getattr(scored.mean, key), abs=1e-6)
        for name in CLASSES:
            assert getattr(own.per_class[name], key) == pytest.approx(getattr(scored.per_class[name], key), abs=1e-6)
    assert (evaluated.metrics.precision, evaluated.metrics.recall) == (own.precision, own.recall)
    assert evaluated.metrics.map50 != own.map50, "COCO integrates the same curve differently"


def test_average_precision_by_hand(evaluated: Evaluation) -> None:
    """COCO reads precision at 101 recalls; the order of right (1) and wrong (0) answers is that of `shapes.FACES`.

    Of four masks three are found, ordered 1 0 1 1 0 0: precision 1 up to recall 0.25, and 3/4 up to 0.75.
    Of five bare faces four are found, ordered 1 1 1 0 0 1: precision 1 up to recall 0.6, and 4/6 up to 0.8.
    """
    mask, no_mask = (26 + 50 * 3 / 4) / 101, (61 + 20 * 4 / 6) / 101
    metrics = evaluated.metrics
    assert metrics.per_class["mask"].map50 == pytest.approx(mask, abs=1e-6)
    assert metrics.per_class["no_mask"].map50 == pytest.approx(no_mask, abs=1e-6)
    assert metrics.map50 == pytest.approx((mask + no_mask) / 2, abs=1e-6)
    assert 0.12 < metrics.operating_point.threshold < 0.33, "between the false box and the near-tie of val"


def test_metrics_add_up(evaluated: Evaluation) -> None:
    metrics = evaluated.metrics
    counts = np.array(metrics.confusion.counts)
    # Of `shapes.FACES`: a row for each class as labeled and one for nothing; the columns are what was found.
    assert counts.tolist() == [[3, 1, 0], [1, 3, 1], [1, 2, 0]]
    assert counts[:2].sum(axis=1).tolist() == [metrics.per_class[name].n for name in CLASSES]
    assert metrics.errors["missed"] == counts[:2, 2].sum()
    assert metrics.errors["wrong class"] == counts[0, 1] + counts[1, 0]
    assert metrics.errors["false positive"] == counts[2].sum()
    assert metrics.inputs.weights == digest_file(known_weights())


def test_the_record_is_read_back_as_it_was_written(evaluated: Evaluation) -> None:
    assert Metrics.load(evaluated.folder) == evaluated.metrics
    assert read_evaluations(evaluated.folder.parents[1]) == {evaluated.folder: evaluated.metrics}
    assert read_evaluations(evaluated.folder.parents[1], split="val") == {}


def test_the_table_has_a_row_for_each_class_and_metric(evaluated: Evaluation) -> None:
    table, metrics = evaluated.table, evaluated.metrics
    assert table.index.names == ["class", "metric"]
    assert list(table.columns) == ["value", "low", "high", "n"]
    assert len(table) == 3 * 5
    assert table.loc[("all", "map50"), "value"] == metrics.map50
    for name in CLASSES:
        row, (low, high) = metrics.per_class[name], metrics.per_class[name].intervals["recall"] or (None, None)
        assert table.loc[(name, "recall")].tolist() == [row.recall, low, high, row.n]


def test_a_record_of_another_version_is_named_and_made_again(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = score(root)
    data = json.loads((first.folder / "metrics.json").read_text())
    write_json(first.folder / "metrics.json", data | {"version": 2})
    with pytest.raises(VersionError, match=r"metrics\.json: expected version \d, found 2") as raised:
        Metrics.load(first.folder)
    assert "fmask evaluate" in raised.value.next_step
    assert read_evaluations(root / "runs/r") == {}
    assert "it is ignored" in caplog.text
    again = score(root)
    assert (again.up_to_date, again.metrics) == (False, first.metrics)


def test_detections_can_be_read_by_anybody(evaluated: Evaluation) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(evaluated.folder / "detections.parquet")
    assert table.column_names == ["image", "name", "confidence", "x_min", "y_min", "x_max", "y_max"]
    rows = table.to_pylist()
    assert len(rows) == 12
    assert {row["name"] for row in rows} == set(CLASSES)
    ensemble = evaluated.folder.parents[3] / "data/ensembles/v5"
    assert all((ensemble / row["image"]).is_file() and row["name"] in CLASSES for row in rows)
    assert all(0 <= row["x_min"] <= row["x_max"] <= 120 and 0 <= row["y_min"] <= row["y_max"] <= 90 for row in rows)
    order = [(row["image"], -row["confidence"]) for row in rows]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("name", "least"), [("curves.png", 900), ("confusion.png", 900), ("errors.jpg", 1200), ("label_errors.jpg", 1200)]
)
def test_images_are_images(evaluated: Evaluation, name: str, least: int) -> None:
    with Image.open(evaluated.folder / name) as opened:
        opened.load()
        assert least <= opened.width <= 1400
        assert 140 <= opened.height <= 2000
        assert len(opened.convert("RGB").getcolors(1 << 20) or ()) > 50
        assert not opened.info.get("Software")


def test_report_has_the_reference_table_and_says_what_it_rests_on(evaluated: Evaluation) -> None:
    text = evaluated.report.read_text(encoding="utf-8")
    header, _, ours, published = _rows(text)[:4]
    assert header == [
        *("model", "dataset", "images", "checkpoint", "training time"),
        *("mAP 0.5", "mAP 0.5:0.95", "precision", "recall"),
    ]
    assert ours[:5] == ["YOLOv5n", "v5", "28", "yolov5n-face.pt, best of 12 epochs", "3.5 h on a CPU"]
    numbers = (
        evaluated.metrics.map50,
        evaluated.metrics.map50_95,
        evaluated.metrics.precision,
        evaluated.metrics.recall,
    )
    assert [float(cell) for cell in ours[5:]] == [pytest.approx(100 * number, abs=0.051) for number in numbers]
    assert published[1:] == [
        "Face Masks v8",
        "27,000",
        "COCO, best epoch 44",
        "3.5 h on one V100",
        "94",
        "53",
        "93",
        "89",
    ]
    assert "as published" in published[0]
    shown = {row[0]: row for row in _rows(text)[4:9]}
    for name in CLASSES:
        assert shown[name][1] == f"{evaluated.metrics.per_class[name].n} (too few to measure)"
        low, high = evaluated.metrics.per_class[name].intervals["recall"] or (0, 0)
        assert shown[name][6].endswith(f"({100 * low:.1f} to {100 * high:.1f})")
    assert "8 images with 9 faces: the test split of ensemble v5" in text
    assert text.count("Too few to measure") == 2, "of images and of faces"
    assert re.findall(r"!\[.+\]\((.+)\)", text) == ["curves.png", "confusion.png", "errors.jpg", "label_errors.jpg"]


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in rows[:4]} == {9}
    assert {len(row) for row in rows[4:9]} == {8}
    return rows


@pytest.mark.parametrize(
    ("scenes", "n", "split", "hashed", "said"),
    [
        (100, 50, "test", "same", ""),
        (99, 50, "test", "same", "Too few to measure: 99 scenes"),
        (100, 49, "test", "same", "no_mask; with fewer than 50"),
        (100, 50, "val", "same", "best epoch was chosen"),
        (100, 50, "train", "same", "nothing about new images"),
        (100, 50, "test", "other", "trained on another ensemble, v5 (`other`)"),
    ],
)
def test_limits_are_said_where_they_hold(
    evaluated: Evaluation, scenes: int, n: int, split: str, hashed: str, said: str
) -> None:
    per_class = {name: replace(row, n=n) for name, row in evaluated.metrics.per_class.items()}
    own = replace(evaluated.metrics.inputs, ensemble=EnsembleReference("v5", "same"))
    metrics = replace(evaluated.metrics, scenes=scenes, split=split, per_class=per_class, inputs=own)
    run = RunRecord.load(evaluated.folder.parents[1])
    assert run.ensemble is not None
    run = replace(run, ensemble=replace(run.ensemble, hash=hashed))
    card = EnsembleCard.load(evaluated.folder.parents[3] / "data/ensembles/v5")
    text = markdown.evaluation_report("t", metrics, run, card, [])
    every = (
        "Too few to measure: 99",
        "with fewer than 50",
        "best epoch was chosen",
        "nothing about new images",
        "another ensemble",
    )
    assert [words for words in every if words in text] == [words for words in every if words in said]
    assert said in text


def test_same_bytes_from_another_folder(evaluated: Evaluation, tmp_path: Path) -> None:
    root, before = evaluated.folder.parents[3], shapes.tree(evaluated.folder)
    shutil.copytree(root, other := tmp_path / "elsewhere", ignore=shutil.ignore_patterns("evaluation"))
    assert shapes.tree(score(other).folder) == before
    assert not any(str(root).encode() in content for content in before.values())


def test_up_to_date_until_something_changes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = score(root)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    with caplog.at_level(logging.INFO):
        again = score(root)
    assert again == Evaluation(**{**_fields(first), "up_to_date": True})
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == stamps
    assert "up to date" in caplog.text
    assert not score(root, imgsz=96).up_to_date
    assert not score(root, batch=2, imgsz=96).up_to_date
    assert not score(root, split="val").up_to_date
    (first.folder / "curves.png").unlink()
    assert not score(root).up_to_date
    assert shapes.tree(first.folder).keys() == set(FILES)


def _fields(one: Evaluation) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Evaluation.__dataclass_fields__}


def test_changed_weights_are_scored_again(root: Path) -> None:
    score(root)
    weights = root / "runs" / "r" / "weights" / "best.pt"
    _write_untrained(weights)
    assert not score(root).up_to_date


def _write_untrained(path: Path, names: tuple[str, ...] = CLASSES) -> None:
    import torch

    open_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov5n.yaml", nc=len(names), verbose=False)
    model.names = dict(enumerate(names))
    torch.save({"model": model}, path)


# ---- what is evaluated, and on what ----


def test_the_run_that_finished_last_is_taken(root: Path) -> None:
    ensemble = root / "data/ensembles/v5"
    make_run(root, ensemble, "a-later", finished="2026-03-01")
    make_run(root, ensemble, "not-over", state="started", finished="")
    assert score(root).metrics.run == "a-later"
    assert score(root, run="r").metrics.run == "r"


def test_a_runs_best_weights_are_the_run(root: Path) -> None:
    assert score(root, weights=root / "runs" / "r" / "weights" / "best.pt").metrics.run == "r"


def test_weights_without_a_run_get_a_folder_that_says_so(root: Path, tmp_path: Path) -> None:
    _write_untrained(given := tmp_path / "given.pt")
    found = score(root, weights=given, imgsz=64)
    digest = digest_file(given)
    assert found.metrics.run == f"given-{digest[:8]}"
    about = json.loads((root / "runs" / found.metrics.run / "run.json").read_text())
    assert (about["kind"], about["state"], about["weights"]) == (
        *("weights", "finished"),
        {"file": "given.pt", "sha256": digest, "imgsz": 640},
    ), "640 px where the checkpoint does not say at what size it was trained"
    assert str(tmp_path) not in json.dumps(about)
    assert "unknown what these weights were trained on" in found.report.read_text()
    assert score(root).metrics.run == "r", "weights are no run of training"
    with pytest.raises(UsageError, match="not made by training"):
        score(root, run=found.metrics.run)


def test_weights_are_scored_at_the_size_they_were_trained_at(root: Path, tmp_path: Path) -> None:
    shutil.copy(known_weights(), tmp_path / "mine.pt")
    found = score(root, weights=tmp_path / "mine.pt")
    assert found.metrics.inputs.imgsz == 64


@pytest.mark.parametrize("data", ["v6", "data/ensembles/v6/data.yaml"])
def test_another_ensemble_by_name_or_path(root: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes.draw_ensemble(root, name="v6", counts=(1, 1, 3), seed=4)
    monkeypatch.chdir(root)
    found = score(root, data=data)
    assert (found.metrics.ensemble, found.metrics.images, found.folder.name) == ("v6", 3, "v6-test")
    assert "trained on another ensemble, v5" in found.report.read_text()


def test_ensemble_that_was_built_anew_is_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(root / "data")
    shapes.draw_ensemble(root, counts=(2, 2, 4), seed=9)
    score(root)
    assert "was rebuilt after run r was trained on it" in caplog.text


def test_class_without_faces_has_no_numbers(tmp_path: Path) -> None:
    ensemble = shapes.draw_ensemble(tmp_path, counts=(1, 1, 4))
    for path in (ensemble / "labels" / "test").iterdir():
        path.write_text("0 0.5 0.5 0.4 0.4\n")
    faces = EnsembleCard.load(ensemble).faces
    change_card(ensemble, faces={**faces, "test": {"mask": 4, "no_mask": 0}})
    make_run(tmp_path, ensemble)
    found = score(tmp_path)
    row = found.metrics.per_class["no_mask"]
    assert [getattr(row, key) for key in METRICS] == [None] * 5
    assert (row.n, row.images, row.too_few) == (0, 0, True)
    assert "| no_mask | 0 (too few to measure) | 0 | - | - | - | - | - |" in found.report.read_text()


# ---- what is refused ----


def test_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no finished run") as raised:
        score(tmp_path)
    assert "fmask train" in raised.value.next_step


def test_run_without_weights_or_ensemble(root: Path) -> None:
    (root / "runs/r/weights/best.pt").rename(root / "kept.pt")
    with pytest.raises(MissingError, match="expected the best weights of run r"):
        score(root)
    (root / "kept.pt").rename(root / "runs/r/weights/best.pt")
    shutil.rmtree(root / "data")
    with pytest.raises(MissingError, match="v5: no finished ensemble"):
        score(root)


def test_what_cannot_be_asked(root: Path) -> None:
    with pytest.raises(UsageError, match="expected a run or weights, found both"):
        score(root, run="r", weights=root / "w.pt")
    with pytest.raises(UsageError, match="--split tset: no such split"):
        score(root, split="tset")
    with pytest.raises(MissingError, match="no such run"):
        score(root, run="absent")
    with pytest.raises(MissingError, match=r"w\.pt: no such checkpoint"):
        score(root, weights=root / "w.pt")


def test_split_without_images(tmp_path: Path) -> None:
    make_run(tmp_path, shapes.draw_ensemble(tmp_path, counts=(2, 2, 0)))
    with pytest.raises(DataError, match="expected images with faces in the test split; it has 0 images"):
        score(tmp_path)


def test_class_names_that_differ(root: Path, tmp_path: Path) -> None:
    _write_untrained(tmp_path / "three.pt", ("mask", "no_mask", "other"))
    with pytest.raises(DataError, match="expected a detector with the classes mask, no_mask"):
        score(root, weights=tmp_path / "three.pt")
    data = root / "data/ensembles/v5/data.yaml"
    data.write_text(data.read_text().replace("0: mask", "0: no_mask").replace("1: no_mask", "1: mask"))
    with pytest.raises(DataError, match=r"expected the class names \['mask', 'no_mask'\]"):
        score(root)


def test_files_that_are_not_those_of_the_card(root: Path) -> None:
    (root / "data/ensembles/v5/images/test/p001.jpg").unlink()
    with pytest.raises(DataError, match=r"expected 4 images with 5 faces in test.*the loader found 3 with 4"):
        score(root)
    assert not (root / "runs/r/evaluation/v5-test").exists()


def test_weights_that_are_none_leave_no_run(root: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.pt").write_bytes(b"nothing")
    with pytest.raises(DataError, match="expected a detector's checkpoint"):
        score(root, weights=tmp_path / "odd.pt")
    assert sorted(path.name for path in (root / "runs").glob("[!.]*")) == ["r"]


def test_second_command_on_the_same_evaluation_is_refused(root: Path) -> None:
    with locked(root / "runs/r/evaluation/v5-test"), pytest.raises(StorageError, match="another fmask"):
        score(root)


# ---- the tracker ----


def test_numbers_and_images_reach_the_runs_own_tracker_run(tmp_path: Path) -> None:
    root = tmp_path
    make_run(root, shapes.draw_ensemble(root, counts=(2, 2, 4)))
    found = score(root, tracker="wandb")
    assert found.tracked is not None
    assert found.tracked.unsent == ()
    assert "abc123" in found.tracked.sync
    (folder,) = wandb_log.run_folders(root / "runs" / "r")
    log = wandb_log.read_run(folder)
    assert (log.run_id, log.project) == ("abc123", "masks")
    key = "evaluation/v5-test"
    images_sent = [name for name in FILES if name.endswith((".png", ".jpg"))]
    assert 0 < found.metrics.map50 < 1
    assert log.summary[f"{key}/metrics/mAP50"] == found.metrics.map50
    for name in CLASSES:
        assert log.summary[f"{key}/class/{name}/recall"] == found.metrics.per_class[name].recall
    assert len([name for name in log.files if name.startswith("media/")]) == len(images_sent)
    assert sorted(path.name for path in found.folder.iterdir()) == FILES


def test_run_that_was_not_tracked_stays_so(root: Path) -> None:
    about = json.loads((root / "runs/r/run.json").read_text())
    write_json(root / "runs/r/run.json", about | {"tracker": {"kind": "none", "project": "masks", "run_id": ""}})
    assert score(root, tracker="wandb").tracked is None
    assert not (root / "runs/r/wandb").exists()


# ---- deaths ----

# Scoring itself writes nothing, so its result is brought along: a death then costs seconds, not minutes.
DYING = """
import pickle, sys
from pathlib import Path
from facemask_train.eval.evaluate import evaluate
from facemask_train.model import validation
root = Path(sys.argv[1])
scored, checkpoint = pickle.loads((root.parent / "scored.pickle").read_bytes())
validation.validate = lambda *a, **k: scored
validation.load_model = lambda *a, **k: (None, checkpoint)
evaluate(root, weights=root / "given.pt", tracker="none", audit=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [False, True], ids=["first", "replacement"])
def test_a_death_at_any_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool) -> None:
    world = tmp_path / "world"
    ensemble = shapes.draw_ensemble(world, counts=(1, 1, 4))
    shutil.copy(known_weights(), world / "given.pt")
    scored = validate(world / "given.pt", ensemble / "data.yaml", "test", imgsz=64, device="cpu")
    assert sum(len(image.detections) for image in scored.images) == 8
    checkpoint = {"train_args": {"imgsz": 64}}
    (tmp_path / "scored.pickle").write_bytes(pickle.dumps((scored, checkpoint)))
    monkeypatch.setattr(stage.model_validation, "validate", lambda *a, **k: scored)
    monkeypatch.setattr(stage.model_validation, "load_model", lambda *a, **k: (None, checkpoint))

    def again(root: Path) -> dict[str, str]:
        score(root, weights=root / "given.pt")
        return crash.tree(root)

    def prepare(point: int) -> Path:
        root = shutil.copytree(world, tmp_path / str(point))
        if replaced:
            score(root, weights=root / "given.pt", batch=2)
        return root

    expected = again(prepare(0))
    deaths = 0
    for left in crash.every_death(DYING, prepare):
        markers = list(left.glob("runs/*/evaluation/[!.]*/metrics.json"))
        assert all(sorted(path.name for path in marker.parent.iterdir()) == FILES for marker in markers)
        assert again(left) == expected, left.name
        deaths += 1
        shutil.rmtree(left)
    assert deaths >= 10  # around two markers, their renames, and the folder's


def test_validation_can_be_kept(evaluated: Evaluation) -> None:
    """A validation is plain data: it survives a trip to another process."""
    ensemble = evaluated.folder.parents[3] / "data/ensembles/v5"
    scored = validate(known_weights(), ensemble / "data.yaml", "val", imgsz=64, device="cpu")
    assert sum(len(image.detections) for image in scored.images) == 8
    copy: Validation = pickle.loads(pickle.dumps(scored))
    assert (copy.images, copy.mean, copy.per_class) == (scored.images, scored.mean, scored.per_class)
