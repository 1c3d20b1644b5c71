"""Inference and scoring: the metrics equal those of the package, boxes fit the images, other files do no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.types import CLASSES, no_progress
from facemask_train.model.detector import one_per_face
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.model.validation import Score, Validation, _validator, load_model, validate
from helpers.known_detector import known_weights
from helpers.legacy import write_legacy
from helpers.shapes import draw_ensemble, tree


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_ensemble(tmp_path_factory.mktemp("detect"))


@pytest.fixture(scope="module")
def scored(ensemble: Path) -> Validation:
    return validate(known_weights(), ensemble / "data.yaml", "test", imgsz=64, batch=4, device="cpu")


def test_metrics_equal_those_of_the_package(ensemble: Path, scored: Validation) -> None:
    from ultralytics import YOLO

    plain = YOLO(str(known_weights())).val(
        data=str(ensemble / "data.yaml"), split="test", imgsz=64, batch=4, device="cpu", plots=False, verbose=False
    )
    mean = scored.mean
    assert 0 < mean.map50_95 < mean.map50 < 1, "a model that finds nothing, or everything, proves nothing"
    assert numbers(mean) == pytest.approx(plain.mean_results(), abs=1e-6)
    assert plain.ap_class_index.tolist() == list(range(len(CLASSES)))
    for row, index in enumerate(plain.ap_class_index):
        score = scored.per_class[CLASSES[index]]
        assert 0 < score.map50 < 1
        assert numbers(score) == pytest.approx(plain.class_result(row), abs=1e-6)
        assert (score.n, score.images) == (plain.nt_per_class[index], plain.nt_per_image[index])


def numbers(score: Score) -> tuple[float | None, ...]:
    return score.precision, score.recall, score.map50, score.map50_95


def test_the_limits_are_the_packages_own_defaults(ensemble: Path) -> None:
    open_ultralytics()
    from ultralytics.utils import DEFAULT_CFG

    limits = _validator({"imgsz": 64, "data": "x"}, ensemble, no_progress).args
    assert (limits.conf, limits.iou, limits.max_det) == (0.001, DEFAULT_CFG.iou, DEFAULT_CFG.max_det)
    assert (limits.rect, limits.augment, limits.single_cls, limits.agnostic_nms) == (True, False, False, False)


def test_precision_and_recall_are_those_at_the_confidence(scored: Validation) -> None:
    row = round(scored.confidence * 999)
    names = scored.curves.names
    assert names == CLASSES
    assert 0 < scored.confidence < 1
    assert [scored.per_class[name].precision for name in names] == list(scored.curves.precision[:, row])
    assert [scored.per_class[name].recall for name in names] == list(scored.curves.recall[:, row])


def test_labels_are_those_of_the_manifest(ensemble: Path, scored: Validation) -> None:
    import pyarrow.parquet as pq

    rows = [row for row in pq.read_table(ensemble / "manifest.parquet").to_pylist() if row["split"] == "test"]
    assert [image.image for image in scored.images] == [row["image"] for row in rows]
    for image, row in zip(scored.images, rows, strict=True):
        assert (image.width, image.height) == (row["width"], row["height"])
        assert sorted(label.name for label in image.labels) == sorted(label["name"] for label in row["labels"])
        found = sorted(label.box.corners for label in image.labels)
        published = sorted((one["x_min"], one["y_min"], one["x_max"], one["y_max"]) for one in row["labels"])
        assert found == [pytest.approx(corners, abs=1e-3) for corners in published]
    assert {name: score.n for name, score in scored.per_class.items()} == {
        name: sum(label.name == name for image in scored.images for label in image.labels) for name in CLASSES
    }


def test_detections_are_those_of_predict(ensemble: Path, scored: Validation) -> None:
    from ultralytics import YOLO

    model = YOLO(str(known_weights()))
    compared = 0
    for image in scored.images:
        assert sorted(one.name for one in image.detections) == sorted(answers(image.image))
    for image in scored.images:
        result = model.predict(str(ensemble / image.image), imgsz=64, conf=0.02, device="cpu", verbose=False)[0]
        names = [CLASSES[int(index)] for index in result.boxes.cls.tolist()]
        wanted = sorted(zip(names, result.boxes.xyxy.tolist(), strict=True))
        found = sorted(
            (one.name, one.corners) for one in one_per_face(image.detections)
        )  # `predict` has no second class
        assert [name for name, _ in found] == [name for name, _ in wanted]
        # The validator pads images a little wider than `predict` does, so the two differ by a pixel or so.
        for (_, one), (_, other) in zip(found, wanted, strict=True):
            assert one == pytest.approx(other, abs=3)
            assert all(0 <= corner <= 120 for corner in one)
        compared += len(found)
    assert compared == 10
    assert [one.confidence for image in scored.images for one in image.detections if one.confidence < 0.3] != []


def answers(image: str) -> list[str]:
    """Return the class of each answer that the known detector gives for an image of the test split."""
    return {
        "p000": ["mask"],
        "p001": ["no_mask", "mask"],  # the second is a false box
        "p002": ["mask", "mask", "no_mask"],  # the second face is answered with both classes
        "p003": ["mask", "no_mask"],  # so is this
        "p004": [],  # a miss
        "p005": ["no_mask", "no_mask"],  # the second face is a mask
        "p006": [],  # no face
        "p007": ["no_mask", "mask"],  # the second is a false box
    }[Path(image).stem]


def test_a_face_at_the_border_and_near_ties_are_detected(scored: Validation) -> None:
    """What the tests that compare detections rest on."""
    images = {Path(image.image).stem: image for image in scored.images}
    assert min(one.corners[0] for one in images["p002"].detections) == 0
    first, second = images["p003"].detections
    assert (first.name, second.name, first.corners) == ("mask", "no_mask", pytest.approx(second.corners, abs=0.1))
    assert 0 < first.confidence - second.confidence < 0.1


def test_a_class_without_labels_has_no_metrics(tmp_path: Path) -> None:
    ensemble = draw_ensemble(tmp_path, counts=(1, 1, 4))
    for path in (ensemble / "labels" / "test").iterdir():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if line.startswith("0")))
    assert any(path.read_text() for path in (ensemble / "labels" / "test").iterdir())
    scored = validate(known_weights(), ensemble / "data.yaml", "test", imgsz=64, device="cpu")
    bare = scored.per_class["no_mask"]
    assert 0 < scored.per_class["mask"].map50 <= 1
    assert (bare.precision, bare.recall, bare.map50, bare.map50_95, bare.n, bare.images) == (None,) * 4 + (0, 0)
    assert scored.mean.map50 == scored.per_class["mask"].map50
    assert scored.curves.names == ("mask",)


def test_progress_reaches_the_number_of_images(ensemble: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    validate(
        known_weights(), ensemble / "data.yaml", "test", imgsz=64, batch=5, progress=lambda *step: steps.append(step)
    )
    assert steps == [("scoring", 0, 8), ("scoring", 5, 8), ("scoring", 8, 8)]


# ---- foreign files ----


def test_no_cache_is_written_or_trusted(tmp_path: Path) -> None:
    """A label cache is a pickle: one that lies in an ensemble must be neither run nor replaced."""
    import numpy as np

    ensemble = draw_ensemble(tmp_path, counts=(1, 1, 2))
    image = ensemble / "images" / "test" / "p000.jpg"
    image.write_bytes(image.read_bytes() + b"bytes after the end")
    (ensemble / "labels" / "test.cache").write_bytes(b"")
    with (ensemble / "labels" / "test.cache").open("wb") as stream:
        np.save(stream, np.array(Trap(tmp_path / "sprung"), dtype=object), allow_pickle=True)
    before = tree(ensemble)
    validate(known_weights(), ensemble / "data.yaml", "test", imgsz=64, device="cpu")
    assert tree(ensemble) == before
    assert not (tmp_path / "sprung").exists()


def test_a_script_in_a_data_yaml_is_not_run(tmp_path: Path) -> None:
    ensemble = draw_ensemble(tmp_path, counts=(1, 1, 0))
    sprung = tmp_path / "sprung"
    (ensemble / "images" / "test").rmdir()
    with (ensemble / "data.yaml").open("a") as stream:
        stream.write(f"download: open({str(sprung)!r}, 'w')\n")
    with pytest.raises(DataError, match="expected images under 'test'"):
        validate(known_weights(), ensemble / "data.yaml", "test", imgsz=64)
    assert not sprung.exists()


def test_empty_split_is_a_data_error(tmp_path: Path) -> None:
    ensemble = draw_ensemble(tmp_path, counts=(1, 1, 0))
    with pytest.raises(DataError, match="expected images under 'test', found none"):
        validate(known_weights(), ensemble / "data.yaml", "test", imgsz=64)


class Trap:
    """Something that, unpickled, leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def _write_checkpoint(kind: str, path: Path) -> None:
    import torch

    open_ultralytics()
    if kind == "runs code":
        torch.save({"model": Trap(path.with_name("sprung"))}, path)
    elif kind == "truncated":
        path.write_bytes(known_weights().read_bytes()[:100_000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_bytes(b"not a checkpoint at all")
    elif kind == "state dict":
        torch.save({"weight": torch.zeros(2)}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "other model":
        torch.save({"model": torch.nn.Linear(2, 2)}, path)
    elif kind == "yolov5 repository":
        write_legacy(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("runs code", "cannot be loaded as weights only"),
        ("truncated", "empty, truncated or damaged"),
        ("empty", "empty, truncated or damaged"),
        ("text", "something else"),
        ("state dict", "something else"),
        ("list", "something else"),
        ("other model", "it contains a Linear"),
        ("yolov5 repository", "comes from the original YOLOv5 repository"),
    ],
)
def test_something_that_is_not_a_checkpoint_is_refused(kind: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.pt"
    _write_checkpoint(kind, path)
    with pytest.raises(DataError, match=message) as raised:
        load_model(path)
    assert str(path) in str(raised.value)
    assert "fmask train" in raised.value.next_step
    assert not (tmp_path / "sprung").exists()


def test_a_missing_checkpoint_is_a_missing_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"best\.pt: no such checkpoint"):
        load_model(tmp_path / "best.pt")


def test_a_local_file_is_used_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package would look for `yolov5su.pt`, and then download it."""
    monkeypatch.chdir(tmp_path)
    Path("yolov5s.pt").write_bytes(known_weights().read_bytes())
    model, _ = load_model(Path("yolov5s.pt"))
    assert list(model.names.values()) == list(CLASSES)


def test_other_classes_are_refused(ensemble: Path, tmp_path: Path) -> None:
    import torch

    open_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov5n.yaml", nc=2, verbose=False)
    model.names = {0: "no_mask", 1: "mask"}
    torch.save({"model": model}, tmp_path / "swapped.pt")
    with pytest.raises(DataError, match="in this order; found no_mask, mask") as raised:
        validate(tmp_path / "swapped.pt", ensemble / "data.yaml", "test", imgsz=64)
    assert "fmask train --weights" in raised.value.next_step
