"""Checkpoints that load as weights only but cannot be used: refused with the file and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES
from facemask_train.model.backends import DEFAULT_IMGSZ, _export_backend, _GraphInput
from facemask_train.model.checkpoint_checks import imgsz_defect, named_by_id
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.model.validation import load_model
from helpers.known_detector import build_network

IMGSZ = 64


def sound() -> Any:
    open_ultralytics()
    return build_network()


def write(path: Path, network: Any, imgsz: Any = IMGSZ) -> Path:
    import torch

    torch.save({"model": network, "train_args": {"imgsz": imgsz, "task": "detect"}}, path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "fmask train" in caught.value.next_step
    return str(caught.value)


def test_names_in_a_list_are_read(tmp_path: Path) -> None:
    network = sound()
    network.names = list(CLASSES)
    model, _ = load_model(write(tmp_path / "a.pt", network))
    assert model.names == {0: "mask", 1: "no_mask"}
    assert named_by_id(("a", "b")) == {0: "a", 1: "b"}
    assert named_by_id({3: "a"}) == {3: "a"}


def test_the_trial_leaves_no_trace_in_the_model(tmp_path: Path) -> None:
    """The head keeps the anchors of the last size; those of the trial must not serve another use of the model."""
    model, _ = load_model(write(tmp_path / "a.pt", sound()))
    assert model.model[-1].shape is None
    assert not model.training


@pytest.mark.parametrize("names", [None, "mask", 2, {}, []])
def test_names_of_another_kind_are_refused(tmp_path: Path, names: Any) -> None:
    network = sound()
    network.names = names
    assert "its class names are " in refused(write(tmp_path / "a.pt", network))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["every weight", "one weight", "one buffer"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float, where: str) -> None:
    network = sound()
    weights = list(network.parameters())
    if where == "every weight":
        for weight in weights:
            weight.data.fill_(value)
    elif where == "one weight":
        weights[-2].data.view(-1)[-1] = value
    else:
        next(buffer for name, buffer in network.named_buffers() if "running_var" in name)[0] = value
    assert "its weights are not finite (model." in refused(write(tmp_path / "a.pt", network))


def test_a_graph_that_does_not_run_is_refused(tmp_path: Path) -> None:
    network = sound()
    network.model[12].f = [-1, 400]
    assert "it does not run on an image (IndexError" in refused(write(tmp_path / "f.pt", network))

    network = sound()
    network.model[-1].nc = 1_000_000
    assert "it does not run on an image (RuntimeError" in refused(write(tmp_path / "nc.pt", network))

    network = sound()
    network.model = network.model[:10]
    assert "its output has the shape (" in refused(write(tmp_path / "cut.pt", network))

    network = sound()
    network.names = {number: str(number) for number in range(80)}
    assert "(1, 6, 84), not (1, 84, boxes) for its 80 class names" in refused(write(tmp_path / "names.pt", network))


@pytest.mark.parametrize("imgsz", [0, -64, 31, 8193, 10**9])
def test_an_image_size_that_no_image_has_is_refused(tmp_path: Path, imgsz: int) -> None:
    path = write(tmp_path / "a.pt", sound(), imgsz)
    assert f"its image size is {imgsz} px, not one of 32 to 8192" in refused(path)


def test_usual_image_sizes_are_accepted() -> None:
    assert [imgsz_defect(imgsz) for imgsz in (32, 640, 8192, None, "640")] == [""] * 5


def test_the_metadata_of_an_export_are_checked_in_the_same_way() -> None:
    def exported(imgsz: Any, names: Any = CLASSES) -> int:
        metadata = {"names": names, "imgsz": imgsz}
        return _export_backend("x", Path("a.onnx"), lambda _: None, metadata, _GraphInput(1, None, None)).imgsz  # type: ignore[arg-type,return-value]

    assert exported([320, 640], names=["mask", "no_mask"]) == 640
    assert exported(["x"]) == exported([]) == exported(None) == DEFAULT_IMGSZ
    with pytest.raises(DataError, match="its image size is 1000000000 px"):
        exported([10**9, 64])
