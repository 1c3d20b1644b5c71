"""Checkpoints of the original YOLOv5 repository: every tensor of backbone and neck comes along, and no code runs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES
from facemask_train.model.checkpoints import resolve_weights
from facemask_train.model.legacy_checkpoint import is_legacy
from facemask_train.model.validation import load_model
from helpers.known_detector import known_weights
from helpers.legacy import original_classes, write_legacy


def test_backbone_and_neck_come_along_and_the_head_is_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    path = tmp_path / "mine.pt"
    original = write_legacy(path)
    assert is_legacy(path)
    with caplog.at_level(logging.INFO):
        model, checkpoint = load_model(Path(resolve_weights(tmp_path, str(path))))
    found = model.state_dict()
    taken = [name for name in found if int(name.split(".")[1]) < 24]
    assert len(taken) == 342
    for name in taken:
        assert torch.equal(found[name], original[name].to(found[name].dtype)), name
    assert list(model.names.values()) == list(CLASSES)
    assert checkpoint["train_args"] == {"task": "detect"}
    head = len(found) - 342
    assert f"342 of 342 tensors of the backbone and neck were taken, the {head} tensors of the detection head" in (
        caplog.text
    )
    assert not any(name.split(".")[0] == "models" for name in sys.modules)


def test_it_is_converted_once_and_the_same_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    write_legacy(path)
    here = Path(resolve_weights(tmp_path / "here", str(path)))
    time = here.stat().st_mtime_ns
    assert resolve_weights(tmp_path / "here", str(path)) == str(here)
    assert here.stat().st_mtime_ns == time
    there = Path(resolve_weights(tmp_path / "there", str(path)))
    assert (here.name, here.read_bytes()) == (there.name, there.read_bytes())


def test_another_content_under_the_same_name_is_converted_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    write_legacy(path)
    first = resolve_weights(tmp_path, str(path))
    write_legacy(path, extra="another run")
    assert resolve_weights(tmp_path, str(path)) != first


@pytest.mark.parametrize("kind", ["none", "package"])
def test_other_files_are_not_legacy(kind: str, tmp_path: Path) -> None:
    path = known_weights() if kind == "package" else tmp_path / "x.pt"
    if kind == "none":
        path.write_bytes(b"PK\x03\x04 not a checkpoint")
    assert not is_legacy(path)
    assert resolve_weights(tmp_path, str(path)) == str(path.resolve())


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_what_a_file_wants_to_run_is_not_run(tmp_path: Path) -> None:
    write_legacy(tmp_path / "mine.pt", extra=Trap(tmp_path / "sprung"))
    with pytest.raises(DataError, match=r"it names \w*\.open, which no such checkpoint does"):
        resolve_weights(tmp_path, str(tmp_path / "mine.pt"))
    assert not (tmp_path / "sprung").exists()


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    write_legacy(tmp_path / "mine.pt", yaml="yolov3-tiny.yaml")
    with pytest.raises(DataError, match=r"mine\.pt: expected a YOLOv5n, s, m, l or x .* of its .* tensors fit the 342"):
        resolve_weights(tmp_path, str(tmp_path / "mine.pt"))


def test_a_module_that_contains_itself_ends(tmp_path: Path) -> None:
    import torch

    with original_classes() as classes:
        model = classes["Model"]()
        model._modules["model"] = model  # type: ignore[attr-defined]
        torch.save({"model": model}, tmp_path / "mine.pt")
    with pytest.raises(DataError, match="its first layer is that of none of them"):
        resolve_weights(tmp_path, str(tmp_path / "mine.pt"))


def test_a_truncated_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    write_legacy(path)
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(DataError, match=r"mine\.pt"):
        load_model(Path(resolve_weights(tmp_path, str(path))))


def test_the_published_checkpoint(shared: Path, tmp_path: Path) -> None:
    import torch

    model, _ = load_model(Path(resolve_weights(tmp_path, str(shared / "weights/yolov5s-legacy.pt"))))
    same, _ = load_model(shared / "weights/yolov5s-coco.pt")
    found, expected = model.state_dict(), same.state_dict()
    taken = [name for name in found if int(name.split(".")[1]) < 24]
    assert len(taken) == 342
    assert all(torch.equal(found[name], expected[name]) for name in taken)
