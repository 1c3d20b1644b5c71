"""Exports: each equals PyTorch within the tolerance in every reader, or is refused; and the model card."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from facemask_train.apps.export import export as stage
from facemask_train.apps.export import parity, verify
from facemask_train.apps.export.card import card_contents
from facemask_train.apps.export.export import ExportResult, export
from facemask_train.apps.export.space_record import SpaceRecord
from facemask_train.apps.records.export import Export
from facemask_train.apps.resolve_model import find_threshold, resolve_model
from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.types import Annotation, Box, Detection, ImageResult
from facemask_train.eval.records.metrics import Metrics
from facemask_train.eval.thresholds import Threshold
from facemask_train.model import export as model_export
from facemask_train.model.backends import read_operating_point
from facemask_train.model.detector import load_detector
from facemask_train.model.onnx_detector import LetterboxTransform, load_onnx_detector
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.report import model_card as card_report
from facemask_train.training.runs import GivenWeights, RunRecord, TrainedOn
from helpers import crash, shapes
from helpers.known_detector import color, known_weights
from helpers.runs import make_run, score
from helpers.worlds import write


@dataclass(frozen=True)
class World:
    root: Path
    made: ExportResult


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run, evaluated, and exported in both formats."""
    root = tmp_path_factory.mktemp("export")
    make_run(root, shapes.draw_ensemble(root))
    score(root)
    return World(root, export(root))


def images(world: World) -> list[np.ndarray]:
    return [parity.read_image(path) for path in sorted((world.root / "data/ensembles/v5/images/test").iterdir())]


# ---- the files ----


def test_suppression_inside_equals_suppression_outside(world: World, tmp_path: Path) -> None:
    import onnxruntime
    import torch

    open_ultralytics()
    from ultralytics.utils.nms import non_max_suppression

    for name, nms in (("in", True), ("out", False)):
        model_export.to_onnx(known_weights(), tmp_path / f"{name}.onnx", imgsz=64, nms=nms, metadata={"run": "r"})
    inside, outside = (onnxruntime.InferenceSession(tmp_path / f"{name}.onnx") for name in ("in", "out"))
    rng = np.random.default_rng(0)
    kept, suppressed = 0, 0
    for n, height, width in ((1, 64, 64), (3, 32, 64), (2, 96, 64), (1, 256, 256)):
        batch = {"images": np.stack([crowd(rng, height, width) for _ in range(n)])}
        if n == 2:
            batch["images"][1] = 0  # an image on which next to nothing is found
        (found,), (raw,) = inside.run(None, batch), outside.run(None, batch)
        wanted = non_max_suppression(
            torch.from_numpy(raw), 0.001, 0.7, max_det=300, nc=2, multi_label=True, max_time_img=10
        )
        assert found.shape == (n, min(300, 2 * raw.shape[2]), 6)
        for one, other in zip(found, wanted, strict=True):
            own = one[one[:, 4] > 0]
            assert len(own) == len(other)
            assert own[:, 4] == pytest.approx(other[:, 4].numpy(), abs=1e-6)
            order = [np.lexsort(rows.T[::-1].round(2)) for rows in (own, other.numpy())]
            assert own[order[0]] == pytest.approx(other.numpy()[order[1]], abs=1e-3)
            kept += len(own)
        suppressed += int((raw[:, 4:] > 0.001).sum()) - kept
    assert kept > 50 < suppressed, "there is something to keep, and something to suppress"


def crowd(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return an input (3, h, w) with a square that the known detector finds in each field of 32 px, in both classes."""
    image = np.full((height, width, 3), 0.5, np.float32)
    for y, x in np.ndindex(height // 32, width // 32):
        side, mask, light = rng.integers(15, 24), rng.choice([0.0, 0.5, 1.0]), rng.uniform(0, 0.4)
        image[32 * y + 4 : 32 * y + 4 + side, 32 * x + 4 : 32 * x + 4 + side] = np.array(color(mask, light)) / 255
    return image.transpose(2, 0, 1)


def test_no_detections_give_no_rows(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model_export.to_onnx(known_weights(), tmp_path / "a.onnx", imgsz=64, nms=True, metadata={})
    model = onnx.load(tmp_path / "a.onnx")
    (least,) = (one for one in model.graph.initializer if one.name == "nms.confidence")
    least.CopyFrom(numpy_helper.from_array(np.array([2], np.float32), "nms.confidence"))
    onnx.save(model, tmp_path / "b.onnx")
    image = parity.read_image(shapes.draw_ensemble(tmp_path, counts=(1, 1, 1)) / "images/test/p000.jpg")
    assert [len(*load_onnx_detector(tmp_path / name, imgsz=64).predict([image])) for name in ("a.onnx", "b.onnx")] == [
        1,
        0,
    ]


def test_every_reader_of_an_export_finds_the_same_faces(world: World) -> None:
    own = list(load_detector(known_weights(), imgsz=64, device="cpu").predict(images(world), confidence=0.002))
    onnx = world.made.folder / "r.onnx"
    readers = [
        load_onnx_detector(onnx, imgsz=64),
        load_detector(onnx, imgsz=64),
        load_detector(world.made.folder / "r_openvino_model", imgsz=64),
    ]
    assert sum(map(len, own)) == 12, "a model that finds nothing proves nothing"
    assert {one.name for found in own for one in found} == {"mask", "no_mask"}
    for reader in readers:
        for wanted, found in zip(own, reader.predict(images(world), confidence=0.002), strict=True):
            assert [one.name for one in found] == [one.name for one in wanted]
            for one, other in zip(found, wanted, strict=True):
                assert (*one.corners, one.confidence) == pytest.approx((*other.corners, other.confidence), abs=1e-3)


@pytest.mark.parametrize("name", ["r.onnx", "r_openvino_model"])
def test_the_packages_own_reader_takes_an_export(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO is held to float32: left alone, the package lets it take bfloat16 where the processor has it."""
    open_ultralytics()
    import openvino
    from ultralytics import YOLO

    compile_model = openvino.Core.compile_model

    def in_float32(core: openvino.Core, model: Any, device_name: str, config: dict[str, str]) -> Any:
        return compile_model(core, model, device_name, config | {"INFERENCE_PRECISION_HINT": "f32"})

    monkeypatch.setattr(openvino.Core, "compile_model", in_float32)
    theirs = YOLO(str(world.made.folder / name), task="detect")
    own = list(load_detector(world.made.folder / name, imgsz=64).predict(images(world), confidence=0.002))
    assert sum(map(len, own)) == 12, "a model that finds nothing proves nothing"
    for image, wanted in zip(images(world), own, strict=True):
        result = theirs.predict(image[:, :, ::-1], imgsz=64, conf=0.002, device="cpu", verbose=False, rect=True)[0]
        assert result.names == {0: "mask", 1: "no_mask"}
        assert [result.names[int(index)] for index in result.boxes.cls.tolist()] == [one.name for one in wanted]
        assert result.boxes.conf.tolist() == pytest.approx([one.confidence for one in wanted], abs=1e-5)
        assert result.boxes.xyxy.tolist() == [pytest.approx(one.corners, abs=1e-3) for one in wanted]


def test_a_file_has_metadata(world: World) -> None:
    import onnx
    import yaml

    props = {one.key: one.value for one in onnx.load(world.made.folder / "r.onnx").metadata_props}
    assert (props["run"], props["license"], props["imgsz"]) == ("r", "AGPL-3.0", "[64, 64]")
    assert props["weights"] == world.made.record.inputs.weights
    assert props["checked_on"].startswith("v5 ")
    parsed = yaml.safe_load((world.made.folder / "r_openvino_model/metadata.yaml").read_text())
    assert parsed["names"] == {0: "mask", 1: "no_mask"}
    assert parsed["args"] == {"nms": True, "dynamic": True, "conf": 0.001, "iou": 0.7}


@pytest.mark.slow
def test_an_export_without_its_run_uses_its_stored_threshold(world: World, tmp_path: Path) -> None:
    import yaml

    root = shutil.copytree(world.root, tmp_path / "root")
    evaluation = root / "runs/r/evaluation/v5-test"
    metrics = Metrics.load(evaluation)
    replace(metrics, operating_point=replace(metrics.operating_point, threshold=0.37)).save(evaluation)
    (tmp_path / "away").mkdir()
    model, exam = stage.find_model(root, "r", None), stage.open_eval_split(root / "data/ensembles/v5", "test")
    files = stage.convert(tmp_path / "away", model, exam, stage.FORMATS, imgsz=64, nms=True)
    assert yaml.safe_load((files["openvino"] / "metadata.yaml").read_text())["operating_point"] == 0.37
    assert load_onnx_detector(files["onnx"], imgsz=64).operating_point == 0.37
    for path in files.values():
        resolved = resolve_model(tmp_path, None, path)
        assert resolved.run is None
        own, other = (load_detector(path, imgsz=imgsz) for imgsz in (None, 96))
        assert find_threshold(resolved, own, None) == Threshold(0.37, "export")
        assert find_threshold(resolved, own, 0.1) == Threshold(0.1, "user")
        assert find_threshold(resolved, other, None) == Threshold(0.25, "default"), "it was chosen at 64 px"


@pytest.mark.parametrize("value", ["", "high", "nan", "-1", "1.5", "None"])
def test_an_invalid_threshold_in_a_file_is_ignored(value: str) -> None:
    assert read_operating_point({"operating_point": value}) is None
    assert read_operating_point({}) is None


def test_weights_that_were_not_evaluated_store_no_threshold(tmp_path: Path) -> None:
    model = stage.find_model(tmp_path, None, known_weights())
    exam = stage.open_eval_split(shapes.draw_ensemble(tmp_path), "test")
    (path,) = stage.convert(tmp_path, model, exam, ["onnx"], imgsz=64, nms=True).values()
    assert load_detector(path).backend.operating_point is None


def test_an_export_of_an_earlier_training_does_not_belong_to_the_run(world: World, tmp_path: Path) -> None:
    run = shutil.copytree(world.root / "runs/r", tmp_path / "runs/r")
    for name in ("r.onnx", "r_openvino_model", "r_openvino_model/r.xml"):
        assert resolve_model(tmp_path, None, run / "export" / name).name == "r"
    (run / "weights/best.pt").write_bytes(b"trained anew")
    for name in ("r.onnx", "r_openvino_model", "r_openvino_model/r.xml"):
        assert resolve_model(tmp_path, None, run / "export" / name).run is None


@example(height=202, width=670, imgsz=320)  # from the shapes alone the package takes it for moved by a pixel
@given(height=st.integers(1, 700), width=st.integers(1, 700), imgsz=st.sampled_from([64, 320]))
def test_an_image_is_letterboxed_as_the_package_does(height: int, width: int, imgsz: int) -> None:
    open_ultralytics()
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.ops import scale_boxes

    image = np.arange(height * width * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    placed = LetterboxTransform.fit(height, width, imgsz)
    boxed = placed.apply(image)
    assert np.array_equal(boxed, LetterBox((imgsz, imgsz), auto=True, stride=32)(image=image))
    corners = np.array([[0, 0, imgsz, imgsz], [3.5, 4.25, 20, 30]], np.float32)
    white = LetterBox((imgsz, imgsz), auto=True, stride=32)(image=np.full_like(image, 255))[..., 0] == 255
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    ratios = (len(rows) / height, len(columns) / width)
    wanted = scale_boxes(boxed.shape[:2], corners.copy(), (height, width), (ratios, (columns[0], rows[0])))
    assert placed.to_image(corners) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_file_that_is_not_a_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.onnx: expected an ONNX model"):
        load_onnx_detector(tmp_path / "a.onnx", imgsz=64)
    with pytest.raises(MissingError):
        load_onnx_detector(tmp_path / "b.onnx", imgsz=64)


def test_the_onnx_detector_needs_suppression_inside(tmp_path: Path) -> None:
    model_export.to_onnx(known_weights(), tmp_path / "a.onnx", imgsz=64, nms=False, metadata={})
    with pytest.raises(DataError, match="expected one output, detections; found output0"):
        load_onnx_detector(tmp_path / "a.onnx", imgsz=64)


# ---- compared with PyTorch ----

FACE = Detection("mask", 0.9, (10, 10, 30, 30))


def seen(*found: Detection, size: int = 100) -> list[ImageResult]:
    return [ImageResult("a.jpg", size, size // 2, (Annotation("mask", Box(10, 10, 30, 30)),), found)]


def test_boxes_are_compared_with_the_nearest_of_their_class() -> None:
    moved = replace(FACE, corners=(10, 10.5, 30, 30), confidence=0.8)
    other = replace(FACE, name="no_mask")
    apart = parity.compare(seen(FACE), seen(other, moved), imgsz=200)
    assert (apart.boxes, apart.lost, apart.box_error, apart.box_error_image) == (1, 0, 1.0, 0.5)
    assert apart.confidence_error == pytest.approx(0.1)
    assert not apart.close


def test_a_box_far_away_is_another_box() -> None:
    gone = parity.compare(seen(FACE), seen(replace(FACE, corners=(15, 10, 30, 30))), imgsz=100)
    assert (gone.lost, gone.box_error, gone.close) == (1, 0.0, False)
    assert parity.compare(seen(FACE), seen(), imgsz=100).lost == 1
    assert parity.compare(seen(*[FACE] * 30), seen(FACE), imgsz=100).boxes == 20


def test_equal_detections_are_close_and_a_lower_map_is_not() -> None:
    same = parity.compare(seen(FACE), seen(FACE), imgsz=100)
    assert (same.close, same.map_difference) == (True, 0.0)
    false = replace(FACE, name="mask", corners=(60, 10, 80, 30), confidence=0.95)
    worse = parity.compare(seen(FACE), seen(false, FACE), imgsz=100)
    assert worse.map_difference == pytest.approx(-0.5)
    assert not worse.close


def test_map_is_that_of_the_evaluation(world: World) -> None:
    from facemask_train.eval.detections_table import read_images

    found = score(world.root)
    assert 0 < found.metrics.map50_95 < 1
    assert parity.map50_95(read_images(found.folder)) == pytest.approx(found.metrics.map50_95, abs=1e-6)


class Shifted:
    """A backend whose boxes are all a pixel to the right."""

    def __init__(self, detector: Any) -> None:
        self.detector, self.imgsz = detector, detector.imgsz

    def predict(self, images: Any, *, confidence: float) -> Any:
        for found in self.detector.predict(images, confidence=confidence):
            yield tuple(replace(one, corners=(one.corners[0] + 1, *one.corners[1:])) for one in found)


def test_a_backend_that_differs_is_refused(world: World) -> None:
    model, exam = (
        stage.find_model(world.root, "r", None),
        stage.open_eval_split(world.root / "data/ensembles/v5", "test"),
    )
    own = load_detector(model.weights, imgsz=64, device="cpu")
    backends = {"pytorch": own, "onnx": Shifted(own)}
    with pytest.raises(DataError, match=r"r as onnx differs from PyTorch on .*a corner by 0\.5\d px"):
        verify.verify(model, exam, backends, dict.fromkeys(backends, model.weights), imgsz=64)


def test_a_refused_export_leaves_the_earlier_one(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    shutil.copytree(world.made.folder, tmp_path / "e")
    before = shapes.tree(tmp_path / "e")
    other = torch.load(known_weights(), weights_only=False)
    for weight in other["model"].parameters():
        weight.data += 0.01
    torch.save(other, tmp_path / "other.pt")
    monkeypatch.setattr(
        stage, "to_onnx", lambda _, target, **how: model_export.to_onnx(tmp_path / "other.pt", target, **how)
    )
    with pytest.raises(DataError, match="differs from PyTorch"):
        export(world.root, formats=["onnx"], target=tmp_path / "e", nms=False)
    assert shapes.tree(tmp_path / "e") == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".e.lock") == ["e", "other.pt"]


# ---- the stage ----


def test_an_export_is_complete_and_not_repeated(world: World) -> None:
    folder, record = world.made.folder, world.made.record
    assert folder == world.root / "runs/r/export"
    names = ["README.md", "export.json", "r.onnx", "r_openvino_model"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert Export.load(folder) == record
    assert [one.format for one in record.models] == ["pytorch", "onnx", "openvino"]
    for one in record.models:
        assert one.map50_95 == pytest.approx(record.models[0].map50_95, abs=0.002)
        assert 0 < one.milliseconds.p10 <= one.milliseconds.median <= one.milliseconds.p90
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert export(world.root, formats=["onnx"]).up_to_date
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.slow
def test_another_format_is_added_to_the_earlier_ones(world: World, tmp_path: Path) -> None:
    target = tmp_path / "e"
    assert export(world.root, formats=["onnx"], target=target).record.formats == ("onnx",)
    assert (target / "r.onnx").read_bytes() == (world.made.folder / "r.onnx").read_bytes()
    assert export(world.root, formats=["openvino"], target=target).record.formats == ("onnx", "openvino")
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in world.made.folder.iterdir())


@pytest.mark.slow
def test_an_incomplete_export_is_repeated(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.made.folder, tmp_path / "e")
    shutil.rmtree(tmp_path / "e/r_openvino_model")
    assert not export(world.root, formats=["onnx"], target=tmp_path / "e").up_to_date
    assert (tmp_path / "e/r_openvino_model").is_dir()


@pytest.mark.parametrize(
    "files", [{"e/thesis.txt": "years of work"}, {"e": "a file"}, {"e/export.json": '{"of": "another tool"}'}]
)
def test_other_files_are_not_replaced(world: World, files: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, dict(files))
    with pytest.raises(UsageError, match=r"e: expected a new or empty folder"):
        export(world.root, target=tmp_path / "e")
    assert {name: (tmp_path / name).read_text() for name in files} == files


def test_the_current_folder_is_not_replaced(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="the current folder cannot be replaced"):
        export(world.root, target=Path())


def test_an_unsupported_size_is_rounded_up(world: World, tmp_path: Path) -> None:
    made = export(world.root, formats=["onnx"], target=tmp_path / "e", imgsz=70)
    assert made.record.inputs.imgsz == 96


@pytest.mark.parametrize(
    ("formats", "target", "nms", "says"),
    [
        (["onix"], None, "inside", "did you mean 'onnx'"),
        (["onnx"], None, "between", "expected inside or outside"),
        (["onnx", "space"], Path("e"), "inside", "one folder cannot contain both"),
    ],
)
def test_invalid_formats_are_refused(formats: list[str], target: Path | None, nms: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        stage.parse_formats(formats, target, nms)


def test_formats_are_ordered_and_deduplicated() -> None:
    assert stage.parse_formats(["space", "openvino", "onnx", "onnx"], None, "inside") == (["onnx", "openvino"], True)


# ---- deaths ----

# What is converted and what it scores are brought along: a death then costs a second, and the trees can be equal.
DYING = """
import json, shutil, sys
from pathlib import Path
from helpers import crash
from facemask_train.apps.export import export as stage
from facemask_train.apps.export import space
from facemask_train.apps.records.export import Export
root = Path(sys.argv[1])
made = root.parent / "made"
stage.to_onnx = lambda weights, target, **_: shutil.copy(made / "r.onnx", target)
stage.to_openvino = lambda source, target: shutil.copytree(made / "r_openvino_model", target)
stage.verify = space.verify = lambda *_, **__: Export.load(made).models
stage.load_detector = space.load_detector = space.load_onnx_detector = lambda *_, **__: None
space.PACKAGE = made / "facemask_train"
space._copy_license = lambda target: target.write_text("free")
for place, name in ((stage, "to_onnx"), (stage, "to_openvino"), (Path, "write_text"), (shutil, "copytree")):
    crash.also(place, name)
"""
MODELS, SPACE = "stage.export(root, imgsz={})", "space.write(root, imgsz={})"


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [False, True], ids=["first", "replacement"])
@pytest.mark.parametrize(
    ("command", "folder", "marker"), [(MODELS, "export", Export.FILE), (SPACE, "space", SpaceRecord.FILE)]
)
def test_a_kill_at_any_point(
    world: World, command: str, folder: str, marker: str, replaced: bool, tmp_path: Path
) -> None:
    shutil.copytree(world.made.folder, tmp_path / "made")
    write(tmp_path / "made/facemask_train", {"apps/space_app.py": "page = 1"})
    start = shutil.copytree(world.root, tmp_path / "start")
    shutil.rmtree(start / "runs/r/export")
    script = DYING + command.format(64)
    if replaced:
        assert not crash.die_at(0, DYING + command.format(96), start)
    expected = shutil.copytree(start, tmp_path / "undisturbed")
    assert not crash.die_at(0, script, expected)
    whole = crash.tree(expected)
    kinds = {tuple(crash.tree(one / "runs/r" / folder)) for one in (start, expected)}
    deaths = 0
    for left in crash.every_death(script, lambda point: shutil.copytree(start, tmp_path / str(point))):
        for found in left.glob(f"runs/r/[!.]*/{marker}"):
            assert tuple(crash.tree(found.parent)) in kinds, left.name
        assert not crash.die_at(0, script, left)
        assert crash.tree(left) == whole, left.name
        deaths += 1
        shutil.rmtree(left)
    assert deaths >= 14  # around each file, two renames, and the removal of what a death may have left


@pytest.mark.slow
@pytest.mark.parametrize("writes", ["torch.onnx.export", "onnx.save", "openvino.save_model", "yaml.safe_dump"])
def test_a_kill_while_a_model_is_converted(world: World, writes: str, tmp_path: Path) -> None:
    """Times are measured anew, and OpenVINO numbers its layers on within a process: nothing else may differ."""
    root = shutil.copytree(world.root, tmp_path / "root")
    target = tmp_path / "e"
    module = writes.rpartition(".")[0]
    dying = f"""
import os, sys, {module}
from pathlib import Path
from facemask_train.apps.export.export import export
own = {writes}
{writes} = lambda *a, **k: (own(*a, **k), os._exit({crash.DEATH}))
export(Path(sys.argv[1]), target=Path(sys.argv[2]))
"""
    assert crash.die_at(0, dying, root, target)
    assert not target.exists()
    made = export(root, target=target)
    assert not made.up_to_date
    assert sorted(path.name for path in tmp_path.iterdir()) == [".e.lock", "e", "root"]
    whole, ours = (crash.tree(folder) for folder in (world.made.folder, target))
    assert set(ours) == set(whole)
    assert {name for name in whole if whole[name] != ours[name]} <= {
        *("README.md", "export.json", "r_openvino_model/r.xml")
    }


# ---- the model card ----


def head_of(text: str) -> Any:
    from huggingface_hub import ModelCard

    return ModelCard(text).data


def test_the_card_has_the_metrics_of_the_evaluation(world: World) -> None:
    text = (world.made.folder / "README.md").read_text()
    metrics = Metrics.load(world.root / "runs/r/evaluation/v5-test")
    head = head_of(text)
    assert (head.license, head.library_name, head.pipeline_tag) == ("agpl-3.0", "ultralytics", "object-detection")
    values = {one.metric_name: (one.metric_value, one.metric_args["interval_95"]) for one in head.eval_results}
    low, high = metrics.intervals["map50"] or (0, 0)
    assert values["mAP 0.5"] == (round(100 * metrics.map50, 2), [round(100 * low, 2), round(100 * high, 2)])
    assert set(values) == {"mAP 0.5", "mAP 0.5:0.95", "precision", "recall"}
    assert "Too few to measure" in text
    assert "Not measured: `fmask audit`." in text
    assert "r.onnx" in text
    assert str(world.root) not in text
    assert "somewhere/" not in text


def test_the_card_of_unknown_weights_states_it() -> None:
    run = RunRecord("w", "weights", "finished", weights=GivenWeights("w.pt", "0" * 64, 64))
    text = card_report.model_card(card_report.CardContents(run, "0" * 64, 64))
    assert head_of(text).eval_results is None
    for line in ("Not measured: `fmask evaluate w`.", "Not measured: `fmask audit w`.", "not trained by fmask"):
        assert line in text


def test_the_commands_reproduce_the_model(world: World) -> None:
    settings = TrainSettings(weights="/home/me/yolov5s.pt", epochs=3, seed=0, lr0=0.01, extra={"mosaic": 0.7})
    ensemble = TrainedOn("v5", "data/ensembles/v5", "a")
    run = RunRecord("my run", "training", "finished", settings=settings, ensemble=ensemble)
    story = card_report.CardContents(run, "0" * 64, 64, sources={"andrewmvd": {}})
    assert card_report.commands(story) == [
        "fmask fetch andrewmvd",
        "fmask build-dataset --version v5",
        "fmask train --name 'my run' --data v5 --weights yolov5s.pt --epochs 3 --seed 0 --set lr0=0.01 "
        "--set mosaic=0.7",
        "fmask export --run 'my run'",
    ]


def test_an_evaluation_of_other_weights_is_not_in_the_card(world: World) -> None:
    model = stage.find_model(world.root, "r", None)
    assert len(card_contents(world.root, model, 64).evaluations) == 1
    assert not card_contents(world.root, replace(model, digest="0" * 64), 64).evaluations
