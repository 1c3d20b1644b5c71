"""`fmask predict`: its output can be read back, faces are covered, and every input is accounted for."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facemask_train import formats
from facemask_train.apps import anonymize, media
from facemask_train.apps.anonymize import CoveredFrame
from facemask_train.apps.media import Frame
from facemask_train.apps.predict import PredictOptions, PredictResult, predict
from facemask_train.apps.records.predictions import Predictions
from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.files import digest_file
from facemask_train.core.types import Detection
from facemask_train.model.detector import load_detector, one_per_face
from facemask_train.training.runs import RunRecord, TrainedOn
from helpers.known_detector import color, known_weights
from helpers.metrics import inputs, operating_point, write_metrics
from helpers.untrained import export, scene

ALL = ("images", "yolo", "coco", "csv")
GPS, ORIENTATION = 0x8825, 0x0112


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with images of equal names in two folders, one of them turned by EXIF, and one that is broken."""
    folder = tmp_path / "images"
    for place, name in enumerate(("a/1.png", "b/1.png", "b/2.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[ORIENTATION] = 6 if name == "b/2.png" else 1
        exif.get_ifd(GPS)[1] = "N"
        Image.fromarray(scene(place, 90, 120)).save(folder / name, exif=exif)
    (folder / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture
def ask(untrained_model: Path, tmp_path: Path) -> Callable[..., PredictResult]:
    """`predict` with the small model, in a new root."""

    def run_predict(*arguments: Path, **options: Any) -> PredictResult:
        return predict(tmp_path, [str(one) for one in arguments], **{"weights": untrained_model, **options})

    return run_predict


def clip(path: Path, *, frames: int = 6, rate: int = 10) -> Path:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (128, 96))
    for index in range(frames):
        writer.write(scene(index // 3, 96, 128))
    writer.release()
    return path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "detections.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- what is written ----


def test_every_image_is_counted_or_reported(ask: Callable[..., PredictResult], images: Path) -> None:
    done = ask(images, options=PredictOptions(ALL))
    record = done.record
    assert (record.images, record.videos, record.frames) == (3, 0, 3)
    assert [one.file for one in record.problems] == ["b/broken.jpg"]
    found = rows(done.folder)
    assert record.faces == sum(record.faces_by_class.values()) == len(found) > 0
    assert [(one.file, sum(one.faces.values())) for one in record.files] == [
        (name, sum(row["file"] == name for row in found)) for name in ("a/1.png", "b/1.png", "b/2.png")
    ]
    assert Predictions.load(done.folder) == record
    names = ["a/1", "b/1", "b/2"]
    assert files(done.folder) == sorted(
        ["classes.txt", "coco.json", "detections.csv", "predictions.json"]
        + [f"labels/{name}.txt" for name in names]
        + [f"images/{name}.jpg" for name in names]
    )


def test_boxes_are_those_of_the_detector_in_pixels_of_the_upright_image(
    ask: Callable[..., PredictResult], images: Path, untrained_model: Path
) -> None:
    done = ask(images / "b" / "2.png", options=PredictOptions(("csv", "images")))
    (frame,) = media.frames(media.find_sources([images / "b" / "2.png"]))
    assert isinstance(frame, Frame)
    assert frame.pixels.shape == (120, 90, 3)
    (answers,) = load_detector(untrained_model).predict([frame.pixels])
    expected = one_per_face(answers)
    found = rows(done.folder)
    assert [row["class"] for row in found] == [one.name for one in expected]
    for row, one in zip(found, expected, strict=True):
        corners = [float(row[key]) for key in ("x_min", "y_min", "x_max", "y_max")]
        assert corners == pytest.approx(one.corners, abs=0.0051)
        assert float(row["confidence"]) == pytest.approx(one.confidence, abs=6e-5)
    with Image.open(done.folder / "images" / "2.jpg") as written:
        assert written.size == (90, 120)
        assert not written.getexif()


def test_a_box_is_where_the_face_is(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[34:52, 8:24] = color(1.0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    done = predict(tmp_path, [str(tmp_path / "a.png")], weights=known_weights(), options=PredictOptions(("csv",)))
    (row,) = rows(done.folder)
    assert row["class"] == "mask"
    assert [float(row[key]) for key in ("x_min", "y_min", "x_max", "y_max")] == pytest.approx([8, 34, 24, 52], abs=1.5)


@pytest.mark.parametrize("layout", ["yolo", "coco"])
def test_labels_survive_a_round_trip(layout: str, ask: Callable[..., PredictResult], images: Path) -> None:
    done = ask(images, options=PredictOptions((layout, "csv")))
    sizes = {"a/1.png": (120, 90), "b/1.png": (120, 90), "b/2.png": (90, 120)}
    for name in sizes:  # the labels beside the images that they are of
        (done.folder / name).parent.mkdir(exist_ok=True)
        (done.folder / name).write_bytes((images / name).read_bytes())
    (done.folder / "predictions.json").unlink()
    reading = formats.read(done.folder, layout, sizes)
    assert not reading.orphans
    names = list(reading.names or ("mask", "no_mask"))
    read = [
        (one.path, names[int(row.name)] if row.name.isdigit() else row.name, row.corners)
        for one in reading.images
        for row in one.rows
    ]
    assert len(read) == len(rows(done.folder))
    for (path, name, corners), row in zip(read, rows(done.folder), strict=True):
        assert (path, name) == (row["file"], row["class"])
        assert corners == pytest.approx([float(row[key]) for key in ("x_min", "y_min", "x_max", "y_max")], abs=0.001)


def test_coco_has_a_score_for_each_box(ask: Callable[..., PredictResult], images: Path) -> None:
    done = ask(images, options=PredictOptions(("coco", "csv")))
    printed = json.loads((done.folder / "coco.json").read_text())
    assert [one["score"] for one in printed["annotations"]] == [float(row["confidence"]) for row in rows(done.folder)]


def test_tables_do_not_depend_on_the_folder(ask: Callable[..., PredictResult], images: Path, tmp_path: Path) -> None:
    clip(images / "clip.mp4")
    moved = tmp_path / "elsewhere"
    images_there = moved / "images"
    one = ask(images, options=PredictOptions(ALL))
    moved.mkdir()
    images.rename(images_there)
    other = ask(images_there, options=PredictOptions(ALL), out=tmp_path / "out")
    tables = [name for name in files(one.folder) if not name.startswith("images/")]
    assert files(one.folder) == files(other.folder)
    assert {name: (one.folder / name).read_bytes() for name in tables} == {
        name: (other.folder / name).read_bytes() for name in tables
    }
    assert str(tmp_path) not in (one.folder / "predictions.json").read_text()


# ---- folders ----


def test_equal_input_is_not_processed_again_and_other_options_get_their_own_folder(
    ask: Callable[..., PredictResult], images: Path
) -> None:
    first, again = ask(images), ask(images)
    assert (first.up_to_date, again.up_to_date) == (False, True)
    assert (again.folder, again.record) == (first.folder, first.record)
    assert ask(images, confidence=0.4).folder != first.folder
    Image.fromarray(scene(9, 90, 120)).save(images / "a" / "1.png")
    changed = ask(images)
    assert not changed.up_to_date
    assert changed.folder != first.folder


def test_other_files_in_a_folder_are_not_overwritten(
    ask: Callable[..., PredictResult], images: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="mine: already contains other files"):
        ask(images, out=tmp_path / "mine")
    assert files(tmp_path / "mine") == ["letter.txt"]
    with pytest.raises(UsageError, match=r"letter\.txt: expected a folder to write to, found a file"):
        ask(images, out=tmp_path / "mine" / "letter.txt")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    out = ask(images, out=tmp_path / "out").folder
    with pytest.raises(UsageError, match="out: already contains other predictions"):
        ask(images, out=out, confidence=0.4)


def test_earlier_output_in_the_input_folder_is_not_input(ask: Callable[..., PredictResult], images: Path) -> None:
    assert not ask(images, out=images / "found").up_to_date
    assert ask(images, out=images / "found").up_to_date


def test_broken_links_are_reported(ask: Callable[..., PredictResult], images: Path, tmp_path: Path) -> None:
    (images / "loop.jpg").symlink_to("loop.jpg")
    (images / "gone.mp4").symlink_to("nowhere.mp4")
    done = ask(images, out=tmp_path / "out", options=PredictOptions(("csv",)))
    assert [one.file for one in done.record.problems] == ["b/broken.jpg", "gone.mp4", "loop.jpg"]
    assert done.record.images == 3


def test_nothing_is_written_if_nothing_can_be_read(
    ask: Callable[..., PredictResult], images: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"found 1 file, none of them readable; .*broken\.jpg"):
        ask(images / "b" / "broken.jpg", out=tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith((".out.partial", "predictions"))]


# ---- which model, which confidence ----


def write_run(root: Path, weights: Path, threshold: float) -> Path:
    folder = root / "runs" / "mine"
    (folder / "weights").mkdir(parents=True)
    best = folder / "weights" / "best.pt"
    best.write_bytes(weights.read_bytes())
    ensemble = TrainedOn("v5", "data/ensembles/v5", "0" * 64)
    RunRecord(
        "mine", "training", "finished", settings=TrainSettings(imgsz=96), ensemble=ensemble, finished="2026-01-01"
    ).save(folder)
    for ensemble, digest, value in (("v5", digest_file(best), threshold), ("v8", "other weights", 0.9)):
        own = inputs(digest, 96, ensemble)
        evaluation = folder / "evaluation" / f"{ensemble}-test"
        write_metrics(evaluation, ensemble=ensemble, inputs=own, operating_point=operating_point(value))
    return folder


def test_the_last_run_is_used_at_the_threshold_that_its_evaluation_chose(
    ask: Callable[..., PredictResult], images: Path, untrained_model: Path, tmp_path: Path
) -> None:
    folder = write_run(tmp_path, untrained_model, 0.5)
    done = ask(images, weights=None)
    assert done.folder.parent == folder / "predictions"
    assert (done.record.model, done.record.confidence_chosen) == ("mine", "val")
    assert done.record.inputs.confidence == 0.5
    assert all(float(row["confidence"]) > 0.5 for row in rows(done.folder))
    by_path = ask(images, weights=folder / "weights" / "best.pt")
    assert (by_path.folder, by_path.up_to_date) == (done.folder, True)
    at_another_size = ask(images, weights=None, imgsz=128)
    assert at_another_size.record.confidence_chosen == "default"


def test_an_export_of_a_run_gives_equal_counts_at_the_runs_threshold(
    ask: Callable[..., PredictResult], images: Path, untrained_model: Path, tmp_path: Path
) -> None:
    folder = write_run(tmp_path, untrained_model, 0.5)
    exported = export(folder / "weights" / "best.pt", folder / "export", to="onnx", imgsz=96, dynamic=True)
    run, done = ask(images, weights=None), ask(images, weights=exported)
    assert (done.record.model, done.record.inputs.confidence) == ("mine", 0.5)
    assert done.folder != run.folder
    assert done.record.faces_by_class == run.record.faces_by_class


def test_invalid_options_are_explained(ask: Callable[..., PredictResult], images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--save image: .*did you mean 'images'"):
        ask(images, options=PredictOptions(("image",)))
    with pytest.raises(UsageError, match="--anonymize needs images"):
        ask(images, options=PredictOptions(("csv",), anonymize=True))
    with pytest.raises(MissingError, match=r"absent\.pt"):
        ask(images, weights=tmp_path / "absent.pt")
    with pytest.raises(UsageError, match="both a run and weights"):
        ask(images, run="mine")


# ---- anonymized faces ----


def test_no_pixel_of_a_face_is_left_in_the_output(
    ask: Callable[..., PredictResult], images: Path, untrained_model: Path
) -> None:
    import cv2

    done = ask(images / "a" / "1.png", options=PredictOptions(("images", "csv"), anonymize=True), confidence=1)
    pixels = scene(0, 90, 120)
    low_confidence = [
        one.corners
        for size in (96, 192)
        for one in next(
            load_detector(untrained_model, imgsz=size).predict([pixels], confidence=anonymize.MIN_CONFIDENCE)
        )
    ]
    assert low_confidence
    assert not rows(done.folder)  # no box is drawn over a cover
    with Image.open(done.folder / "images" / "1.jpg") as written:
        assert not written.getexif()
        assert not {"exif", "xmp", "photoshop", "icc_profile", "comment"} & set(written.info)
        shown = np.asarray(written).astype(int)
    hidden = np.any(anonymize.cover_boxes(np.zeros_like(pixels), low_confidence), axis=2)
    assert hidden.mean() > 0.3
    inner = cv2.erode(hidden.astype(np.uint8), np.ones((17, 17)), borderValue=1).astype(bool)  # JPEG's blocks are of 16
    assert np.abs(shown - anonymize.cover_boxes(pixels, low_confidence))[inner].max() <= 3


corner = st.floats(-20, 80)


@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=4))
def test_a_cover_is_one_color_and_fills_the_whole_box(boxes: list[tuple[float, float, float, float]]) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (40, 60, 3), dtype=np.uint8)  # no pixel is of the cover's color
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    covered = anonymize.cover_boxes(pixels, ordered)
    changed = np.any(covered != pixels, axis=2)
    assert len(np.unique(covered[changed], axis=0)) <= 1
    for x_min, y_min, x_max, y_max in ordered:
        rows_, columns = slice(max(int(y_min), 0), max(int(y_max), 0)), slice(max(int(x_min), 0), max(int(x_max), 0))
        assert changed[rows_, columns].all()


def test_counts_do_not_change_with_anonymized_faces(ask: Callable[..., PredictResult], images: Path) -> None:
    open_, hidden = ask(images), ask(images, options=PredictOptions(anonymize=True))
    assert rows(open_.folder) == rows(hidden.folder)


def test_an_export_that_drops_low_confidence_faces_is_refused(
    ask: Callable[..., PredictResult], images: Path, untrained_model: Path, tmp_path: Path
) -> None:
    exported = export(untrained_model, tmp_path / "nms", to="onnx", imgsz=96, nms=True)
    with pytest.raises(UsageError, match=r"below confidence 0\.25, but 0\.01 is needed to cover"):
        ask(images, weights=exported, options=PredictOptions(anonymize=True))
    assert ask(images, weights=exported, confidence=0.3).record.images == 3


def frame(name: str, time: float | None) -> Frame:
    return Frame(Path(name), name, 0, time, None, np.zeros((4, 4, 3), np.uint8))


def test_a_cover_is_held_for_the_frames_around_it_and_no_longer() -> None:
    box = (1.0, 1.0, 2.0, 2.0)
    frames = [CoveredFrame(frame("a.mp4", index / 10), (), (box,) if index == 8 else ()) for index in range(20)]
    covered = [one.frame.time for one in anonymize.hold_covers(frames) if one.covers]
    assert covered == [index / 10 for index in range(3, 14)]


def test_a_cover_stays_in_its_own_file() -> None:
    box = (1.0, 1.0, 2.0, 2.0)
    frames = [
        CoveredFrame(frame("a.mp4", 0.0), (), (box,)),
        CoveredFrame(frame("b.mp4", 0.1), ()),
        CoveredFrame(frame("c.jpg", None), (), (box,)),
        CoveredFrame(frame("d.jpg", None), ()),
    ]
    found = list(anonymize.hold_covers(frames))
    assert [(one.frame.name, one.covers) for one in found] == [(one.frame.name, one.covers) for one in frames]


def test_few_frames_are_held_at_any_frame_rate() -> None:
    taken = []

    def frames() -> Any:
        for index in range(200):
            taken.append(index)
            yield CoveredFrame(frame("a.mp4", index / 1000), ())

    assert next(iter(anonymize.hold_covers(frames()))).frame.time == 0
    assert 0 < len(taken) <= 20


# ---- videos ----


def test_a_written_video_can_be_played(ask: Callable[..., PredictResult], tmp_path: Path) -> None:
    done = ask(clip(tmp_path / "clip.mp4"), options=PredictOptions(ALL))
    assert (done.record.images, done.record.videos, done.record.frames) == (0, 1, 6)
    written = list(media.frames(media.find_sources([done.folder / "images" / "clip.mp4"])))
    assert [one.pixels.shape for one in written if isinstance(one, Frame)] == [(96, 128, 3)] * 6
    assert media.frame_rate(done.folder / "images" / "clip.mp4") == pytest.approx(10)
    assert [name for name in files(done.folder) if name.startswith("labels/")] == [
        f"labels/clip.mp4/{index:06d}.txt" for index in range(6)
    ]
    assert {row["seconds"] for row in rows(done.folder)} <= {f"{index / 10:.3f}" for index in range(6)}


def test_a_sampled_video_has_the_sampled_frames(ask: Callable[..., PredictResult], tmp_path: Path) -> None:
    done = ask(clip(tmp_path / "clip.mp4", frames=12), options=PredictOptions(frame_interval=0.5))
    assert done.record.frames == 3
    assert {row["frame"] for row in rows(done.folder)} <= {"0", "5", "10"}
    assert media.frame_rate(done.folder / "images" / "clip.mp4") == pytest.approx(2)


def test_a_video_and_an_image_of_one_name_are_both_written(ask: Callable[..., PredictResult], tmp_path: Path) -> None:
    clip(tmp_path / "in.mp4")
    Image.fromarray(scene(1, 90, 120)).save(tmp_path / "in.png")
    done = ask(tmp_path / "in.mp4", tmp_path / "in.png")
    assert [name for name in files(done.folder) if "/" in name] == ["images/in-mp4.mp4", "images/in-png.jpg"]


# ---- the command ----


def test_the_command_prints_json_and_skips_broken_files(images: Path, untrained_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facemask_train", "predict", str(images), "--weights", str(untrained_model)]
    done = subprocess.run(
        [*command, "--save", "csv", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True, env=os.environ
    )
    printed = json.loads(done.stdout)
    assert (printed["images"], printed["faces"]) == (3, sum(printed["faces_by_class"].values()))
    assert printed["problems"] == [{"file": "b/broken.jpg", "reason": printed["problems"][0]["reason"]}]
    assert (printed["confidence"], printed["confidence_chosen"], printed["up_to_date"]) == (0.25, "default", False)
    assert files(tmp_path / printed["path"]) == ["detections.csv", "predictions.json"]


def test_one_detection_per_face_is_counted() -> None:
    from facemask_train.apps.predictor import faces_above

    face = Detection("mask", 0.81239, (0.004, 0, 10, 10))
    twice = [face, replace(face, name="no_mask", confidence=0.4), Detection("mask", 0.7, (20, 5, 20, 9))]
    assert faces_above(twice, 0.25) == (Detection("mask", 0.8124, (0.0, 0, 10, 10)),)
