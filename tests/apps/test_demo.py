"""The demo without a browser: counts, facts about the model, limits, uploads, ports and sessions."""

from __future__ import annotations

import io
import os
import socket
import time
from collections import OrderedDict
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facemask_train.apps.demo import html as demo_html
from facemask_train.apps.demo import middleware, server, uploads
from facemask_train.apps.demo import page as demo_page
from facemask_train.apps.demo.counts import FaceCounts, above_threshold, count_faces, describe_counts
from facemask_train.apps.demo.handlers import (
    FRAMES,
    FaceFinder,
    FrameFaces,
    Handlers,
    PageUpdate,
    ServedModel,
    SessionResult,
    recount,
    spread,
)
from facemask_train.apps.model_facts import Measurements, ModelFacts, find_measurements, model_facts
from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DataError, UsageError
from facemask_train.core.types import CLASSES, Detection
from facemask_train.eval.eval_target import Model
from facemask_train.eval.records.metrics import Confusion, Rates, SliceMetrics
from facemask_train.eval.thresholds import Threshold
from facemask_train.training.runs import RunRecord, TrainedOn
from helpers.metrics import class_metrics, inputs, make_metrics, operating_point, rates, write_metrics

LIMITS = uploads.Limits(megabytes=1, megapixels=2, seconds=3, frames=5)
FACTS = ModelFacts("model", "It errs.", (), ())
BOTH = (Detection("mask", 0.9, (10.0, 20.0, 30.0, 40.0)), Detection("no_mask", 0.4, (50.0, 20.0, 70.0, 40.0)))


class Detector:
    """Finds the same two faces in any image, and counts its calls."""

    imgsz = 64

    def __init__(self, error: Exception | None = None) -> None:
        self.calls, self.error = 0, error

    def predict(self, images: Any, *, confidence: float) -> Any:
        self.calls += 1
        if self.error:
            raise self.error
        return iter([tuple(one for one in BOTH if one.confidence >= confidence) for _ in images])


def handlers_of(folder: Path, error: Exception | None = None) -> tuple[Handlers, Detector]:
    detector = Detector(error)
    served = ServedModel(detector, FACTS, Threshold(0.5, "val"))
    drawn = [(np.full((48, 64, 3), 90, np.uint8), FaceCounts(1, 1))]
    return Handlers(FaceFinder(served), LIMITS, folder, drawn), detector


def encoded(kind: str = "PNG", size: tuple[int, int] = (100, 80), mode: str = "RGB", **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(stream, kind, **how)
    return stream.getvalue()


def upload(folder: Path, content: bytes, name: str = "a.png") -> str:
    """Put a file where Gradio puts an upload: in a new folder."""
    path = folder / "0f3a" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


# ---- counts ----


def test_counts_and_the_rate() -> None:
    assert count_faces(above_threshold(BOTH, 0.5)) == FaceCounts(1, 0)
    assert count_faces(above_threshold(BOTH, 0.4)) == FaceCounts(1, 1)
    assert (FaceCounts(3, 1).rate, FaceCounts(0, 2).rate, FaceCounts(0, 0).rate) == (0.75, 0.0, None)


def test_the_limits_of_a_count_are_stated() -> None:
    assert describe_counts(FaceCounts(1, 2), 0.5).startswith(
        "3 faces found: 1 with a mask, 2 without. The rate is not corrected"
    )
    assert describe_counts(FaceCounts(1, 0), 0.5).startswith("1 face found")
    assert "There may still be some" in describe_counts(FaceCounts(0, 0), 0.25)


@given(st.lists(st.tuples(st.sampled_from(["mask", "no_mask"]), st.floats(0, 1))), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_counts_more(rows: list[tuple[str, float]], one: float, other: float) -> None:
    faces = [Detection(name, sure, (0.0, 0.0, 1.0, 1.0)) for name, sure in rows]
    low, high = (count_faces(above_threshold(faces, threshold)) for threshold in sorted((one, other)))
    assert high.mask <= low.mask
    assert high.no_mask <= low.no_mask


@given(st.integers(0, 200), st.integers(2, 12))
def test_frames_are_evenly_spaced_from_the_first_to_the_last(length: int, most: int) -> None:
    picked = spread(length, most)
    assert len(picked) == min(length, most)
    assert picked == sorted(set(picked))
    if length:
        assert (picked[0], picked[-1]) == (0, length - 1)


# ---- the page's parts ----


def test_boxes_lie_in_percent_of_the_image() -> None:
    html = demo_html.boxes(BOTH, (100, 80))
    assert "left:10.00%;top:25.00%;width:20.00%;height:25.00%" in html
    assert "mask 90 %" in html
    assert html.count("<li") == 2
    assert demo_html.boxes((), (100, 80)) == ""


def test_text_is_escaped() -> None:
    assert "<script>" not in demo_html.problem("<script>alert(1)</script>")
    assert "<b>" not in demo_html.image(np.zeros((4, 4, 3), np.uint8), '"><b>')


def test_a_shown_image_is_reduced_and_keeps_its_shape() -> None:
    html = demo_html.image(np.zeros((500, 2000, 3), np.uint8), "wide", side=1000)
    assert 'width="1000" height="250"' in html
    assert html.count("data:image/jpeg;base64,") == 1


def test_the_chart_has_its_numbers_in_a_table() -> None:
    html = demo_html.video_counts([0.0, 61.0], [FaceCounts(3, 1), FaceCounts(0, 0)], 0.5)
    assert '<th scope="row">0:00</th><td>3</td><td>1</td>' in html
    assert '<th scope="row">1:01</th><td>0</td><td>0</td>' in html
    assert "4 sightings in 2 frames" in html
    assert html.count('class="bar s1"') == html.count('class="bar s2"') == 2


# ---- handlers ----


def test_the_model_runs_once_per_image(tmp_path: Path) -> None:
    handlers, detector = handlers_of(tmp_path)
    update = handlers.image(upload(tmp_path, encoded()), 0.5)
    assert (update.slots["boxes0"].count("<li"), detector.calls) == (1, 1)
    assert "data:image/jpeg" in update.slots["image0"]
    again = recount(update.result, 0.3)
    assert (again.slots["boxes0"].count("<li"), detector.calls) == (2, 1)
    assert "image0" not in again.slots  # the pixels do not move


def test_an_upload_is_deleted_once_it_was_read(tmp_path: Path) -> None:
    handlers, _ = handlers_of(tmp_path)
    handlers.image(upload(tmp_path, encoded()), 0.5)
    handlers.image(upload(tmp_path, b"no image"), 0.5)
    list(handlers.video(upload(tmp_path, b"no video", "v.mp4"), 0.5))
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("path", [None, "", "/etc/hostname", "..", "0f3a/../../outside.png"])
def test_nothing_outside_the_uploads_is_read_or_removed(path: str | None, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(encoded())
    handlers, detector = handlers_of(tmp_path / "uploads")
    given = str(tmp_path / "uploads" / path) if path and path[0] != "/" else path
    assert "Choose one" in handlers.image(given, 0.5).counts
    assert [type(one) for one in handlers.video(given, 0.5)] == [PageUpdate]
    assert (outside.exists(), detector.calls) == (True, 0)


def test_an_upload_that_is_gone_gives_a_message(tmp_path: Path) -> None:
    handlers, _ = handlers_of(tmp_path)
    assert "Send it again" in handlers.image(str(tmp_path / "0f3a" / "gone.png"), 0.5).counts


def test_an_unexpected_error_is_reported_without_its_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    handlers, _ = handlers_of(tmp_path, RuntimeError("secret/path"))
    update = handlers.image(upload(tmp_path, encoded()), 0.5)
    assert "Something went wrong on the server" in update.counts
    assert "secret" not in update.counts
    assert "secret/path" in caplog.text  # the log of the server has it


def test_an_example_has_its_true_counts(tmp_path: Path) -> None:
    handlers, _ = handlers_of(tmp_path)
    assert "The image shows 1 with a mask and 1 without." in handlers.example(7, 0.5).counts


def test_a_deleted_result_gives_a_message() -> None:
    assert "nothing to count" in recount(None, 0.5).counts


# ---- images and videos ----


@pytest.mark.parametrize(
    ("kind", "mode", "how"),
    [
        ("PNG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGBA", {}),
        ("GIF", "P", {}),
        ("WEBP", "RGB", {}),
        ("PNG", "1", {}),
    ],
)
def test_unusual_modes_become_rgb(kind: str, mode: str, how: dict[str, Any]) -> None:
    assert uploads.read_image(encoded(kind, mode=mode, **how), LIMITS).shape == (80, 100, 3)


def test_sixteen_bits_are_scaled_not_cut() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 20), 128 * 257, np.uint16)).save(stream, "PNG")
    assert abs(int(uploads.read_image(stream.getvalue(), LIMITS).mean()) - 128) <= 1


def test_exif_orientation_is_applied_and_metadata_dropped(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SECRETCAMERA"
    content = encoded("JPEG", exif=exif)
    assert b"SECRETCAMERA" in content
    assert uploads.read_image(content, LIMITS).shape == (100, 80, 3)
    handlers, _ = handlers_of(tmp_path)
    shown = handlers.image(upload(tmp_path, content), 0.5).slots["image0"]
    import base64

    assert b"SECRETCAMERA" not in base64.b64decode(shown.partition("base64,")[2].partition('"')[0])


def test_one_pixel_is_an_image() -> None:
    assert uploads.read_image(encoded(size=(1, 1)), LIMITS).shape == (1, 1, 3)


@pytest.mark.parametrize("content", [b"", b"hello", encoded("JPEG")[:600], encoded()[:60], b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_an_image_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="This image was not accepted"):
        uploads.read_image(content, LIMITS)


def test_a_large_image_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(DataError, match=r"too large: 2000 x 1500 px"):
        uploads.read_image(encoded(size=(2000, 1500), mode="1"), LIMITS)


def test_a_video_is_sampled_and_limited(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for number in range(80):
        writer.write(np.full((48, 64, 3), number, np.uint8))
    writer.release()
    frames = list(uploads.read_video(path, LIMITS))
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.6, 1.2, 1.8, 2.4])
    assert frames[0].image.shape == (48, 64, 3)
    handlers, _ = handlers_of(tmp_path)
    *updates, last = handlers.video(str(path), 0.5)
    assert len(updates) == 5
    assert isinstance(last, PageUpdate)
    assert sum(bool(last.slots[f"image{slot}"]) for slot in range(FRAMES)) == 5
    assert not path.exists()


def test_a_video_of_large_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (2000, 1500))
    writer.write(np.zeros((1500, 2000, 3), np.uint8))
    writer.release()
    with pytest.raises(DataError, match="too large: 2000 x 1500 px"):
        list(uploads.read_video(path, LIMITS))


# ---- facts about the model ----


def _model(folder: Path) -> Model:
    return Model(folder, RUN, folder / "weights" / "best.pt", "abc")


RUN = RunRecord(
    name="r",
    kind="training",
    state="finished",
    settings=TrainSettings(imgsz=320, weights="/home/somebody/yolov5n.pt"),
    ensemble=TrainedOn("v5", "data/ensembles/v5", "f" * 64, {"train": 1200}),
    epochs=9,
    finished="2026-03-01T10:00:00",
)


def _rates(recall: float | None) -> Rates:
    interval = None if recall is None else (recall - 0.1, recall + 0.1)
    return replace(rates(recall), intervals={"precision": None, "recall": interval, "f1": None})


def _slice(recall: float | None) -> SliceMetrics:
    return SliceMetrics("face size", "below 16 px", 8, 10, True, None, None, recall, {})


def _confusion(*counts: tuple[int, int, int]) -> Confusion:
    return Confusion(CLASSES, counts)


METRICS = make_metrics(
    images=90,
    boxes=30,
    too_few=True,
    map50=0.8,
    map50_95=0.5,
    intervals={**class_metrics().intervals, "map50": (0.7, 0.9), "map50_95": (0.4, 0.6)},
    per_class={"mask": class_metrics(n=20), "no_mask": class_metrics(n=10)},
    operating_point=operating_point(0.37, mask=_rates(0.8), no_mask=_rates(0.4)),
    confusion=_confusion((16, 1, 3), (4, 4, 2), (5, 0, 0)),
    slices=(_slice(0.1),),
    inputs=inputs("abc", 320),
)


def test_the_facts_are_as_measured(tmp_path: Path) -> None:
    stated = model_facts(_model(tmp_path / "r"), Measurements(METRICS, None))
    facts = dict(stated.facts)
    assert "1,200 training images at 320 px, 9 epochs from yolov5n.pt, finished 2026-03-01" in facts["Trained on"]
    assert "/home" not in str(stated)
    assert "too few to measure" in facts["Evaluated on"]
    assert facts["Accuracy"] == "mAP 0.5 80.0 (70.0 to 90.0) %, mAP 0.5:0.95 50.0 (40.0 to 60.0) %"
    assert (
        facts["Faces without"]
        == "of 10, 4 found with the right class (recall 40.0 (30.0 to 50.0) %), 4 classified as masked, 2 missed"
    )
    assert facts["Small faces"] == "recall by size: below 16 px 10.0 % of 10"
    assert facts["Shortcuts"] == "not measured (`fmask audit`)"
    assert "80 of 100 faces with a mask and 40 of 100 faces without" in stated.warning
    assert "another ensemble" in stated.limits[0]
    assert "at 320 px, with confidence threshold 0.37" in facts["Evaluated on"]


def test_a_run_without_an_evaluation_has_only_its_training(tmp_path: Path) -> None:
    stated = model_facts(_model(tmp_path / "r"), Measurements(None, None))
    assert stated.facts[0][1].startswith("ensemble v5")
    assert [question for question, _ in stated.facts[1:]] == ["Errors", "Shortcuts"]
    assert all(answer.startswith("not measured") for _, answer in stated.facts[1:])
    assert not any("numbers" in limit for limit in stated.limits)
    assert not any(sign.isdigit() for sign in stated.warning)


@pytest.mark.parametrize(
    ("change", "question", "answer"),
    [
        ({"slices": ()}, "Small faces", "not measured"),
        ({"slices": (_slice(None),)}, "Small faces", "not measured"),
        (
            {"confusion": _confusion((0, 0, 0), (1, 0, 0), (0, 0, 0))},
            "Faces with a mask",
            "not measured: there are none",
        ),
        (
            {"confusion": _confusion((0, 0, 0), (1, 0, 0), (0, 0, 0))},
            "Faces without",
            "of 1, 0 found with the right class",
        ),
        ({"intervals": dict.fromkeys(class_metrics().intervals)}, "Accuracy", "mAP 0.5 80.0 %, mAP 0.5:0.95 50.0 %"),
    ],
)
def test_missing_measurements_are_reported_as_not_measured(
    change: dict[str, Any], question: str, answer: str, tmp_path: Path
) -> None:
    assert dict(model_facts(_model(tmp_path / "r"), Measurements(replace(METRICS, **change), None)).facts)[
        question
    ].startswith(answer)


def test_the_warning_names_the_split(tmp_path: Path) -> None:
    stated = model_facts(_model(tmp_path / "r"), Measurements(replace(METRICS, split="val"), None))
    assert stated.warning.startswith("On the images that its best epoch was selected on this model finds")
    alone = operating_point(0.37, mask=_rates(0.8), no_mask=_rates(None))
    stated = model_facts(_model(tmp_path / "r"), Measurements(replace(METRICS, operating_point=alone), None))
    assert "correctly classifies 80 of 100 faces with a mask. Your" in stated.warning


def test_facts_of_unknown_weights_are_not_known() -> None:
    stated = model_facts(None, Measurements(None, None), name="yolov5n-0123")
    assert {answer for _, answer in stated.facts} == {"not known: these weights are not in the folder of a run"}
    assert "is not known" in stated.warning
    assert stated.model == "yolov5n-0123"


def test_the_evaluation_of_these_weights_is_used_and_the_test_split_first(tmp_path: Path) -> None:
    model = _model(tmp_path / "r")
    for name, split, weights, threshold in (
        ("v5-test", "test", "abc", 0.37), ("v5-val", "val", "abc", 0.9), ("old-test", "test", "other", 0.8),
    ):  # fmt: skip
        own = inputs(weights, split=split)
        point = operating_point(threshold)
        write_metrics(tmp_path / "r" / "evaluation" / name, split=split, inputs=own, operating_point=point)
    metrics = find_measurements(model).metrics
    assert metrics is not None
    assert metrics.operating_point.threshold == 0.37


# ---- uploads, ports, sessions ----


def test_the_file_name_of_an_upload_gets_a_prefix() -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nfilename="b"\r\n--x--'
    named = middleware.prefix_file_name(body, "t0k")
    assert b'filename="t0k-a.jpg"' in named
    assert b'filename="b"' in named  # what is in the file stays as it is


def test_old_uploads_are_removed(tmp_path: Path) -> None:
    old, new = upload(tmp_path, b"old", "old.png"), str(tmp_path / "new.png")
    Path(new).write_bytes(b"new")
    os.utime(old, (time.time() - 100, time.time() - 100))
    uploads.sweep(tmp_path, 50)
    assert not Path(old).exists()
    assert not Path(old).parent.exists()
    assert Path(new).exists()


def test_a_port_in_use_names_the_next_free_one() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}: already in use") as raised:
            server.free_port("127.0.0.1", port)
    named = int(raised.value.next_step.removeprefix("fmask demo --port "))
    assert server.free_port("127.0.0.1", named) == named


def test_results_of_idle_and_closed_sessions_are_deleted() -> None:
    now = datetime.now()
    data = OrderedDict(
        idle=SimpleNamespace(is_closed=False),
        used=SimpleNamespace(is_closed=False),
        closed=SimpleNamespace(is_closed=True),
    )
    times = {"idle": now - timedelta(seconds=90), "used": now, "closed": now - timedelta(seconds=30)}
    page = SimpleNamespace(state_holder=SimpleNamespace(session_data=data, time_last_used=times, lock=Lock()))
    demo_page.drop_sessions(page, idle=60, closed=20)
    assert list(data) == list(times) == ["used"]


def test_little_is_kept_of_an_image() -> None:
    import pickle

    kept = SessionResult((FrameFaces((4000, 3000), BOTH),))
    assert len(pickle.dumps(kept)) < 2000
