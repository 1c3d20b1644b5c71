"""Inference: every backend predicts the same, for any batch size, and refuses unusable files with a clear message."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from facemask_train.core.boxes import iou
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.types import Detection
from facemask_train.model.detector import load_detector, one_per_face
from facemask_train.model.ultralytics_compat import device_name
from helpers.untrained import export, scene

SIZES = [(90, 120), (120, 90), (300, 40), (96, 96), (1, 200), (90, 120)]
IMAGES = [scene(seed, *size) for seed, size in enumerate(SIZES)]
KINDS = {
    "onnx": {"to": "onnx", "dynamic": True},
    "openvino": {"to": "openvino", "dynamic": True},
    "onnx-fixed": {"to": "onnx"},
    "onnx-nms": {"to": "onnx", "nms": True},
}

LET_GO = """
import os, signal, sys, threading
from pathlib import Path
from facemask_train.model.detector import load_detector
held = [load_detector(Path(sys.argv[1]))]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
"""
Answers = list[tuple[Detection, ...]]


@pytest.fixture(scope="session")
def exports(untrained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {kind: export(untrained_model, folder / kind, imgsz=96, **how) for kind, how in KINDS.items()}


def ask(weights: Path, *, confidence: float = 0.25, batch: int = 16, **options: Any) -> Answers:
    return list(load_detector(weights, **options).predict(IMAGES, confidence=confidence, batch=batch))


def same(some: Answers, others: Answers, *, pixels: float = 0.05, confidence: float = 1e-3) -> None:
    """Hold two answers to be the same within a tolerance; untrained weights blow rounding up more than trained ones."""
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert not _unlike(one, other, pixels, confidence)
        assert not _unlike(other, one, pixels, confidence)


def _unlike(
    some: Sequence[Detection], others: Sequence[Detection], pixels: float, confidence: float
) -> list[Detection]:
    return [
        one
        for one in some
        if one.confidence > 0.25 + confidence
        and not any(
            one.name == other.name
            and abs(one.confidence - other.confidence) <= confidence
            and one.corners == pytest.approx(other.corners, abs=pixels)
            for other in others
        )
    ]


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_an_export_predicts_like_its_checkpoint(kind: str, untrained_model: Path, exports: dict[str, Path]) -> None:
    expected = ask(untrained_model)
    assert {one.name for found in expected for one in found} == {"mask", "no_mask"}
    assert all(expected)
    same(expected, ask(exports[kind]))


def test_an_export_of_one_size_takes_one_image_at_once(untrained_model: Path, exports: dict[str, Path]) -> None:
    detector, free = load_detector(exports["onnx-fixed"]), load_detector(untrained_model)
    assert (detector.backend.fixed_size, detector.backend.fixed_batch) == ((96, 96), 1)
    square = [scene(seed, 150, 150) for seed in range(3)]  # letterboxed to a square either way
    same(list(free.predict(square)), list(detector.predict(square)))


def test_suppression_inside_the_graph_gives_boxes_of_the_same_places(exports: dict[str, Path]) -> None:
    inside, outside = load_detector(exports["onnx-nms"]), load_detector(exports["onnx-fixed"])
    assert (inside.backend.min_confidence, outside.backend.min_confidence) == (0.25, 0.0)
    for some, others in zip(inside.predict(IMAGES), outside.predict(IMAGES), strict=True):
        assert some
        for one in some:  # inside, a place has its surer class alone
            assert any(one.corners == pytest.approx(other.corners, abs=0.05) for other in others)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_size_does_not_change_predictions(batch: int, untrained_model: Path) -> None:
    same(ask(untrained_model), ask(untrained_model, batch=batch))


def test_boxes_lie_inside_their_images(untrained_model: Path) -> None:
    for (height, width), found in zip(SIZES, ask(untrained_model, confidence=0.01), strict=True):
        for one in found:
            assert 0 <= one.corners[0] <= one.corners[2] <= width
            assert 0 <= one.corners[1] <= one.corners[3] <= height


@pytest.mark.parametrize("kind", ["pytorch", "onnx", "openvino"])
def test_several_threads_can_predict(kind: str, untrained_model: Path, exports: dict[str, Path]) -> None:
    detector = load_detector(exports.get(kind, untrained_model))
    expected = list(detector.predict(IMAGES))
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda _: list(detector.predict(IMAGES)), range(8)):
            same(expected, answers)


@pytest.mark.parametrize("kind", ["pytorch", "onnx", "openvino"])
def test_several_streams_predict_like_one_and_in_order(
    kind: str, untrained_model: Path, exports: dict[str, Path]
) -> None:
    weights = exports.get(kind, untrained_model)
    same(ask(weights), ask(weights, streams=3, batch=1))


def test_streams_read_few_images_ahead(untrained_model: Path) -> None:
    given_out = []

    def images() -> Any:
        for index in range(50):
            given_out.append(index)
            yield IMAGES[0]

    answers = load_detector(untrained_model, streams=2).predict(images(), batch=1)
    assert next(answers)
    assert len(given_out) <= 5
    answers.close()  # type: ignore[attr-defined]


def test_the_default_size_is_that_of_the_model(untrained_model: Path, exports: dict[str, Path]) -> None:
    assert load_detector(untrained_model).imgsz == load_detector(exports["openvino"]).imgsz == 96
    assert load_detector(exports["onnx"], imgsz=128).imgsz == 128
    with pytest.raises(UsageError, match="accepts 96 x 96 px images only, not 128 px"):
        load_detector(exports["onnx-fixed"], imgsz=128)


def test_a_size_is_rounded_up_to_the_stride(untrained_model: Path) -> None:
    assert ask(untrained_model, imgsz=100) == ask(untrained_model, imgsz=128) != ask(untrained_model, imgsz=96)


@pytest.mark.parametrize(
    ("device", "gpus", "says"),
    [
        ("gpu", 2, "--device gpu: expected cpu or a GPU's number"),
        ("0,1", 2, "expected cpu or a GPU's number"),
        ("0", 0, "finds no GPU"),
        ("2", 2, "torch finds 2, numbered from 0"),
        ("cuda:2", 2, "torch finds 2"),
    ],
)
def test_a_missing_device_is_refused(
    device: str, gpus: int, says: str, untrained_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with pytest.raises(UsageError, match=says):
        load_detector(untrained_model, device=device)


@pytest.mark.parametrize(
    ("device", "gpus", "name"),
    [("", 0, "cpu"), ("cpu", 2, "cpu"), ("", 2, "GPU 0"), ("1", 2, "GPU 1"), ("cuda:1", 2, "GPU 1")],
)
def test_a_device_has_a_name(device: str, gpus: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: f"GPU {number}")
    assert device_name(device) == name


def test_bfloat16_is_optional_and_close(untrained_model: Path) -> None:
    exact, near = ask(untrained_model), ask(untrained_model, precision="bfloat16")
    assert exact != near
    best = [
        max((iou(found[0].corners, other.corners) for other in others), default=0)
        for found, others in zip(exact, near, strict=True)
    ]
    assert sum(best) / len(best) > 0.7
    with pytest.raises(UsageError, match="float32 or bfloat16"):
        load_detector(untrained_model, precision="half")


def test_other_classes_are_refused(exports: dict[str, Path], tmp_path: Path) -> None:
    import onnx

    model = onnx.load(exports["onnx"])
    for entry in model.metadata_props:
        entry.value = "{0: 'no_mask', 1: 'mask'}" if entry.key == "names" else entry.value
    onnx.save(model, tmp_path / "swapped.onnx")
    with pytest.raises(DataError, match="with the classes mask, no_mask, in this order; found no_mask, mask"):
        load_detector(tmp_path / "swapped.onnx")
    shutil.copytree(exports["openvino"], tmp_path / "bare_openvino_model")
    (tmp_path / "bare_openvino_model" / "metadata.yaml").unlink()
    with pytest.raises(DataError, match="found none"):
        load_detector(tmp_path / "bare_openvino_model")


def test_something_that_is_not_an_export_is_refused(exports: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(exports["onnx"].read_bytes()[:5000])
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "empty_openvino_model").mkdir()
    for name in ("cut.onnx", "empty.onnx", "empty_openvino_model"):
        with pytest.raises(DataError, match=f"{name}: expected the complete export"):
            load_detector(tmp_path / name)
    with pytest.raises(MissingError, match="no such export"):
        load_detector(tmp_path / "absent.onnx")
    with pytest.raises(UsageError, match="run on the CPU only"):
        load_detector(exports["onnx"], device="0")


@pytest.mark.slow
def test_signals_are_handled_after_a_model_was_freed_in_a_thread(exports: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LET_GO, str(exports["openvino"])], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


@pytest.mark.parametrize(("kind", "module"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_runtime_names_the_package_to_install(
    kind: str, module: str, exports: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=f"needs {module}") as caught:
        load_detector(exports[kind])
    assert "pip install 'facemask-train[export]'" in caught.value.next_step


def test_a_face_has_one_detection_the_most_confident() -> None:
    sure = Detection("mask", 0.9, (0, 0, 10, 10))
    doubtful = Detection("no_mask", 0.4, (1, 0, 11, 10))
    beside = Detection("no_mask", 0.3, (9, 0, 19, 10))
    assert one_per_face([beside, doubtful, sure]) == (sure, beside)
    assert one_per_face([]) == ()
