"""The predictor of the Python interface: every kind of image and model, and the forms of its results."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from facemask_train.apps.detections import COLUMNS, Detections, DetectionsList
from facemask_train.apps.predict import predict
from facemask_train.apps.predictor import Model, load_model
from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.training.runs import RunRecord, TrainedOn
from helpers.untrained import export, scene

SEEDS = (6, 1, 4)
PIXELS = scene(SEEDS[0], 90, 120)
"""On it the small model finds faces of both classes, with confidences between 0.3 and 1."""


@pytest.fixture(scope="module")
def model(untrained_model: Path) -> Model:
    return load_model(untrained_model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in two folders."""
    folder = tmp_path / "images"
    for seed, name in zip(SEEDS, ("a/1.png", "a/2.png", "b/1.png"), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(seed, 90, 120)).save(folder / name)
    return folder


def one(found: Detections | DetectionsList) -> Detections:
    assert isinstance(found, Detections)
    assert len(found) > 0
    return found


def several(found: Detections | DetectionsList) -> DetectionsList:
    assert isinstance(found, DetectionsList)
    assert len(found) > 0
    return found


# ---- images ----


def test_a_path_an_array_and_a_pil_image_give_equal_detections(model: Model, folder: Path) -> None:
    expected = one(model.predict(PIXELS)).faces
    for image in (folder / "a" / "1.png", str(folder / "a" / "1.png"), Image.fromarray(PIXELS)):
        assert one(model.predict(image)).faces == expected


def test_a_list_and_a_folder_give_a_list_in_order(model: Model, folder: Path) -> None:
    alone = [one(model.predict(scene(seed, 90, 120))).faces for seed in SEEDS]
    listed = several(model.predict([PIXELS, folder / "a" / "2.png", Image.fromarray(scene(SEEDS[2], 90, 120))]))
    assert [found.faces for found in listed] == alone
    in_folder = several(model.predict(folder))
    assert [found.faces for found in in_folder] == alone
    assert [found.source for found in in_folder] == [folder / name for name in ("a/1.png", "a/2.png", "b/1.png")]
    assert len(several(model.predict([PIXELS]))) == 1


def test_a_pil_image_is_oriented_and_converted(model: Model, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        found = one(model.predict(image))
    assert (found.width, found.height) == (90, 120)
    assert found.faces == one(model.predict(np.ascontiguousarray(np.rot90(PIXELS, -1)))).faces
    gray = Image.fromarray(PIXELS).convert("L")
    assert one(model.predict(gray)).faces == one(model.predict(gray.convert("RGB"))).faces


def test_a_video_gives_one_result_per_frame(model: Model, tmp_path: Path) -> None:
    import cv2

    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (128, 96))
    for index in range(6):
        writer.write(scene(index, 96, 128))
    writer.release()
    found = several(model.predict(tmp_path / "a.mp4"))
    assert [(frame.index, frame.time) for frame in found] == [(index, pytest.approx(index / 10)) for index in range(6)]
    assert [frame.index for frame in several(model.predict(tmp_path / "a.mp4", frame_interval=0.3))] == [0, 3]
    assert found[5].plot().size == (128, 96)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (None, "found NoneType"),
        (7, "found int"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\) and type uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "type float32"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        ([], "an empty list"),
    ],
)
def test_an_error_for_something_else_names_expected_and_found(model: Model, image: object, found: str) -> None:
    with pytest.raises(
        UsageError, match=f"(?s)expected a path, an .h, w, 3. uint8 RGB array.*{found}|{found}.*expected"
    ):
        model.predict(image)  # type: ignore[call-overload]


def test_files_that_cannot_be_read_are_errors_or_warnings(model: Model, folder: Path) -> None:
    broken = folder / "b" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"broken\.jpg: expected an image"):
        model.predict(broken)
    with pytest.raises(DataError, match=r"broken\.jpg: expected an image"):
        model.predict([PIXELS, broken])
    with pytest.warns(UserWarning, match=r"broken\.jpg: not read"):
        assert len(model.predict(folder)) == 3
    with pytest.raises(MissingError, match="no such file"):
        model.predict(folder / "absent.jpg")
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (folder / name).unlink()
    with pytest.warns(UserWarning), pytest.raises(DataError, match="none of them readable"):
        model.predict(folder)


def test_a_higher_confidence_leaves_fewer_faces(model: Model) -> None:
    found, fewer = one(model.predict(PIXELS, 0.2)), one(model.predict(PIXELS, 0.7))
    assert len(found) > len(fewer)
    assert [face for face in found if face.confidence > 0.7] == list(fewer)
    assert len(model.predict(PIXELS, 1)) == 0
    with pytest.raises(UsageError, match="from 0 to 1"):
        model.predict(PIXELS, 25)


# ---- results ----


def test_a_table_has_a_row_per_face(model: Model) -> None:
    found = one(model.predict(PIXELS))
    table = found.to_frame()
    assert tuple(table.columns) == COLUMNS == ("label", "confidence", "x_min", "y_min", "x_max", "y_max")
    assert [tuple(row) for row in table.itertuples(index=False)] == [
        (face.name, face.confidence, *face.corners) for face in found
    ]
    empty = model.predict(PIXELS, 1).to_frame()
    assert (len(empty), tuple(empty.columns)) == (0, COLUMNS)
    assert list(empty.dtypes) == list(table.dtypes)


def test_a_list_has_one_table_of_all_faces(model: Model, folder: Path) -> None:
    found = several(model.predict(folder))
    table = found.to_frame()
    assert tuple(table.columns) == ("image", "frame", *COLUMNS)
    assert len(table) == sum(len(image) for image in found) > 0
    assert list(table["image"].unique()) == [str(image.source) for image in found]
    assert "<table" in found._repr_html_()
    assert list(several(model.predict([PIXELS], 1)).to_frame().columns) == ["image", "frame", *COLUMNS]


def test_a_plot_changes_pixels_at_the_boxes_and_not_the_image(model: Model, folder: Path) -> None:
    before = PIXELS.copy()
    for image in (PIXELS, folder / "a" / "1.png"):
        found = one(model.predict(image))
        drawn = np.asarray(found.plot())
        assert drawn.shape == PIXELS.shape
        left, top, _, bottom = (round(side) for side in found[0].corners)
        assert (drawn != PIXELS)[max(top, 0) : bottom, max(left - 1, 0) : left + 2].any()
    assert (before == PIXELS).all()


def test_a_plot_of_a_file_that_is_gone_is_an_error_and_its_preview_says_so(model: Model, folder: Path) -> None:
    found = one(model.predict(folder / "a" / "1.png"))
    assert 'src="data:image/jpeg;base64,' in found._repr_html_()
    assert repr(found).startswith(f"Detections(1.png, 120 x 90 px: {len(found)} face")
    (folder / "a" / "1.png").unlink()
    with pytest.raises(DataError, match="cannot be drawn"):
        found.plot()
    assert "cannot be drawn" in found._repr_html_()


def test_supervision_is_an_option(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    found = one(model.predict(PIXELS))
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingError, match="supervision, which is not installed"):
        found.to_supervision()
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **given: given))
    given = found.to_supervision()
    assert given["xyxy"].shape == (len(found), 4)  # type: ignore[index]
    assert given["data"]["class_name"].tolist() == [face.name for face in found]  # type: ignore[index]
    assert given["class_id"].tolist() == [model.class_names.index(face.name) for face in found]  # type: ignore[index]
    assert model.predict(PIXELS, 1).to_supervision()["xyxy"].shape == (0, 4)  # type: ignore[index, union-attr]


# ---- models ----


def test_an_export_gives_the_same_faces_as_its_checkpoint(model: Model, untrained_model: Path, tmp_path: Path) -> None:
    exported = export(untrained_model, tmp_path / "export", to="onnx", imgsz=96, dynamic=True)
    found, expected = one(load_model(exported).predict(PIXELS)), one(model.predict(PIXELS))
    assert [face.name for face in found] == [face.name for face in expected]
    for face, other in zip(found, expected, strict=True):
        assert face.corners == pytest.approx(other.corners, abs=0.1)


def test_a_run_is_found_by_name_by_folder_by_record_and_as_the_last(untrained_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "best.pt").write_bytes(untrained_model.read_bytes())
    trained_on = TrainedOn("v5", "data/ensembles/v5", "0" * 64)
    RunRecord(
        "mine", "training", "finished", settings=TrainSettings(imgsz=96), ensemble=trained_on, finished="2026-01-01"
    ).save(folder)
    best = folder / "weights" / "best.pt"
    for given in ("mine", folder, str(folder), SimpleNamespace(folder=folder), None, best, str(best)):
        model = load_model(given, root=tmp_path)
        assert (model.name, model.weights.resolve(), model.detector.imgsz) == ("mine", best, 96)
        assert repr(model).startswith("Model('mine', PyTorch, imgsz=96")


def test_something_that_is_not_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"absent\.pt: no such file"):
        load_model(tmp_path / "absent.pt")
    with pytest.raises(MissingError, match="absent"):
        load_model("absent", root=tmp_path)
    with pytest.raises(UsageError, match="found int"):
        load_model(3)  # type: ignore[arg-type]


def test_the_command_finds_the_same_faces(model: Model, folder: Path, untrained_model: Path, tmp_path: Path) -> None:
    done = predict(tmp_path, [str(folder)], weights=untrained_model)
    import csv

    with (done.folder / "detections.csv").open(newline="") as stream:
        rows = [(row["class"], row["confidence"], row["x_min"], row["y_max"]) for row in csv.DictReader(stream)]
    faces = [face for image in several(model.predict(folder)) for face in image]
    assert rows == [
        (face.name, f"{face.confidence:.4f}", f"{face.corners[0]:.2f}", f"{face.corners[3]:.2f}") for face in faces
    ]
