"""No run is lost: killed, out of memory or disk space, with NaN or a damaged checkpoint, it resumes or ends cleanly."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DataError, StoppedError, StorageError, TrainingError
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.training.train import resume, train
from helpers import shapes

# Mosaics, a warm-up, and steps of 3 batches that do not fit into an epoch of 4: all that a stock resume loses.
SETTINGS = TrainSettings(
    weights="yolov5n.yaml",
    epochs=3,
    imgsz=64,
    batch=4,
    device="cpu",
    workers=0,
    threads=1,
    optimizer="SGD",
    lr0=0.01,
    extra={"nbs": 12, "warmup_epochs": 1, "mosaic": 1.0, "close_mosaic": 1, "mixup": 0.2},
)
Hook = Callable[[Any], None]
DAMAGED = (zipfile.BadZipFile, ValueError, RuntimeError)


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Hook], None]]:
    """Let a test add a callback to the trainer's own, as any user of the package can."""
    open_ultralytics()
    from ultralytics.utils.callbacks import base

    def add(event: str, hook: Hook) -> None:
        monkeypatch.setitem(base.default_callbacks, event, [*base.default_callbacks[event], hook])

    yield add


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    root = tmp_path_factory.mktemp("undisturbed")
    shapes.draw_ensemble(root)
    train(root, SETTINGS, name="r", tracker="none")
    return state_of(root)["weights"]


def state_of(root: Path, file: str = "last.pt") -> dict[str, Any]:
    return read_checkpoint(root / "runs/r/weights" / file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    open_ultralytics()
    from facemask_train.training.state import _read

    return _read(path)


def about(root: Path) -> dict[str, Any]:
    return json.loads((root / "runs/r/run.json").read_text())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def at(epoch: int, batch: int, act: Callable[[Any], None]) -> Hook:
    """Return a hook for the end of a batch that acts once, at this epoch and batch, both counted from 1."""
    seen = {"epoch": -1, "batch": 0, "acted": False}

    def hook(trainer: Any) -> None:
        seen["batch"] = seen["batch"] + 1 if seen["epoch"] == trainer.epoch else 1
        seen["epoch"] = trainer.epoch
        if (trainer.epoch + 1, seen["batch"]) == (epoch, batch) and not seen["acted"]:
            seen["acted"] = True
            act(trainer)

    return hook


def stopped(root: Path, hooked: Callable[[str, Hook], None], number: signal.Signals, epoch: int, batch: int) -> Path:
    """Train until a signal comes at the end of this batch; return the run's weights."""
    before = signal.getsignal(number)
    hooked("on_train_batch_end", at(epoch, batch, lambda _: os.kill(os.getpid(), number)))
    with pytest.raises(StoppedError, match=f"{number.name} stopped training in epoch {epoch}") as caught:
        train(root, SETTINGS, name="r", tracker="none")
    assert caught.value.next_step == "fmask train --resume --name r"
    assert signal.getsignal(number) is before
    return root / "runs/r/weights"


@pytest.mark.slow
def test_a_run_stopped_by_a_signal_with_a_damaged_checkpoint_ends_with_the_same_weights(
    tmp_path: Path,
    hooked: Callable[[str, Hook], None],
    undisturbed: dict[str, torch.Tensor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shapes.draw_ensemble(tmp_path)
    weights = stopped(tmp_path, hooked, signal.SIGTERM, 3, 2)
    assert [state_of(tmp_path, name)["epoch"] for name in ("last.pt", "previous.pt")] == [1, 0]
    whole = (weights / "last.pt").read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", whole[:-1000], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        (weights / "last.pt").write_bytes(damaged)
        with pytest.raises(DAMAGED):
            state_of(tmp_path)
    resume(tmp_path, "r")
    assert "damaged; using the checkpoint before it (epoch 1)" in caplog.text
    assert same(state_of(tmp_path)["weights"], undisturbed)
    assert sorted(path.name for path in weights.iterdir()) == ["best.pt", "last.pt", "previous.pt"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "epoch", "batch"), [(signal.SIGINT, 1, 3), (signal.SIGTERM, 2, 4)])
def test_a_run_stopped_anywhere_ends_with_the_same_weights(
    tmp_path: Path,
    hooked: Callable[[str, Hook], None],
    undisturbed: dict[str, torch.Tensor],
    number: signal.Signals,
    epoch: int,
    batch: int,
) -> None:
    shapes.draw_ensemble(tmp_path)
    stopped(tmp_path, hooked, number, epoch, batch)
    assert state_of(tmp_path)["epoch"] == epoch - 2
    resume(tmp_path, "r")
    assert same(state_of(tmp_path)["weights"], undisturbed)


def test_two_damaged_checkpoints_give_a_clear_error(tmp_path: Path) -> None:
    open_ultralytics()
    from facemask_train.training.state import newest

    assert newest(tmp_path) is None
    for name in ("last.pt", "previous.pt"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="expected a checkpoint to resume from"):
        newest(tmp_path)


@pytest.mark.slow
def test_out_of_memory_halves_the_batch_and_accumulates(
    tmp_path: Path, hooked: Callable[[str, Hook], None], caplog: pytest.LogCaptureFixture
) -> None:
    shapes.draw_ensemble(tmp_path)
    steps = []
    hooked("on_train_batch_end", at(2, 2, lambda _: torch.empty(1 << 55)))  # the allocator's own error
    hooked("on_fit_epoch_end", lambda trainer: steps.append((trainer.batch_size, trainer.accumulate)))
    hooked("on_train_batch_end", at(3, 5, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(StoppedError):
        train(tmp_path, SETTINGS, name="r", tracker="none")
    resume(tmp_path, "r")
    assert "out of memory with a batch of 4: continuing with 2, 6 batches per optimizer step" in caplog.text
    assert steps == [(4, 2), (2, 6), (2, 6)]  # the first is still in the warm-up
    events = about(tmp_path)["events"]
    assert [
        (event["event"], event["details"]["epoch"], event["batch"], event["details"]["previous batch"])
        for event in events
    ] == [("out of memory", 2, 2, 4)]
    assert (about(tmp_path)["settings"]["batch"], about(tmp_path)["plan"]["batch"]) == (4, 2)


@pytest.mark.slow
def test_out_of_memory_with_a_batch_of_one_names_the_next_step(
    tmp_path: Path, hooked: Callable[[str, Hook], None]
) -> None:
    shapes.draw_ensemble(tmp_path)
    hooked("on_train_batch_start", lambda _: torch.empty(1 << 55))
    with pytest.raises(TrainingError, match="out of memory with a batch of 1 in epoch 1") as caught:
        train(tmp_path, SETTINGS, name="r", tracker="none")
    assert "smaller --imgsz" in caught.value.next_step
    assert [event["batch"] for event in about(tmp_path)["events"]] == [2, 1]


def poison(trainer: Any) -> None:
    next(trainer.model.parameters()).data.fill_(float("nan"))


@pytest.mark.slow
def test_an_epoch_with_nan_is_repeated_once_with_a_lower_rate(
    tmp_path: Path, hooked: Callable[[str, Hook], None]
) -> None:
    shapes.draw_ensemble(tmp_path)
    rates = []
    hooked("on_train_batch_end", at(2, 2, poison))
    hooked("on_fit_epoch_end", lambda trainer: rates.append(trainer.optimizer.param_groups[1]["lr"]))
    train(tmp_path, SETTINGS, name="r", tracker="none")
    assert rates[1] / 0.01 == pytest.approx(0.25 * (1 - 1 / 3 * 0.99))
    assert [event["event"] for event in about(tmp_path)["events"]] == ["not finite"]
    weights = state_of(tmp_path)["weights"]
    assert all(value.isfinite().all() for value in weights.values())


def test_a_second_nan_stops_training_and_saves_the_evidence(
    tmp_path: Path, hooked: Callable[[str, Hook], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes.draw_ensemble(tmp_path)
    open_ultralytics()
    from facemask_train.training.loop import Loop

    stock = Loop.preprocess_batch

    def poisoned(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        batch = stock(self, batch)
        for index, file in enumerate(batch["im_file"]):
            if self.epoch == 1 and file.endswith("p003.jpg"):
                batch["img"][index] = float("inf")
        return batch

    monkeypatch.setattr(Loop, "preprocess_batch", poisoned)
    with pytest.raises(TrainingError, match="loss not finite in epoch 2, batch") as caught:
        train(tmp_path, SETTINGS, name="r", tracker="none")
    assert "lr0" in caught.value.next_step
    evidence = json.loads((tmp_path / "runs/r/not-finite.json").read_text())
    assert (evidence["epoch"], evidence["what"]) == (2, "loss")
    assert any(Path(file).name == "p003.jpg" for file in evidence["images"])
    assert {"nan", "inf"} & set(evidence["losses"].values())
    assert state_of(tmp_path)["epoch"] == 0


@pytest.mark.slow
def test_a_full_disk_damages_no_checkpoint_and_the_run_can_be_resumed(
    tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    shapes.draw_ensemble(tmp_path)
    small = tmp_path / "runs"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=75m", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        with pytest.raises(StorageError, match=r"last\.pt: the disk is full: .* needs [\d.]+ MB, [\d.]+ MB are free"):
            train(tmp_path, SETTINGS, name="r", tracker="none")
        kept = state_of(tmp_path)["epoch"]
        with pytest.raises(StorageError):
            resume(tmp_path, "r")
        assert state_of(tmp_path)["epoch"] == kept
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        resume(tmp_path, "r")
        assert same(state_of(tmp_path)["weights"], undisturbed)
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.slow
def test_failing_plots_callbacks_and_servers_do_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shapes.draw_ensemble(tmp_path)
    open_ultralytics()
    from ultralytics.models.yolo.detect import train as package

    from facemask_train.training import callbacks as train_callbacks
    from facemask_train.training import run_loop
    from facemask_train.training.tracking import tracker as tracking

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("no font")

    for name in ("plot_labels", "plot_images"):
        monkeypatch.setattr(package, name, fails)
    monkeypatch.setattr("ultralytics.utils.metrics.plot_pr_curve", fails)
    monkeypatch.setattr(train_callbacks, "log_row", fails)
    monkeypatch.setattr(run_loop, "draw_batches", fails)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 2.0)
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2.0)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    settings = SETTINGS.model_copy(update={"epochs": 1, "extra": SETTINGS.extra | {"plots": True}})
    done = train(tmp_path, settings, name="r", tracker="wandb")
    assert (done.epochs, about(tmp_path)["state"]) == (1, "finished")
    for message in (
        "a plot is left out: ValueError",
        "plots are turned off",
        "continues without",
        "validation images are left out",
    ):
        assert message in caplog.text


@pytest.mark.slow
def test_a_run_resumed_elsewhere_reports_what_differs(
    tmp_path: Path, hooked: Callable[[str, Hook], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = shapes.draw_ensemble(tmp_path)
    stopped(tmp_path, hooked, signal.SIGTERM, 2, 1)
    record = about(tmp_path)
    record["plan"]["machine"] |= {"device": "NVIDIA V100", "cuda": True}
    record["plan"]["step"]["precision"] = "fp16"
    (tmp_path / "runs/r/run.json").write_text(json.dumps(record))
    folder.rename(tmp_path / "moved")
    resume(tmp_path, "r", data=str(tmp_path / "moved"))
    (resumed,) = [event for event in about(tmp_path)["events"] if event["event"] == "resumed elsewhere"]
    differences = resumed["details"]["changes"]
    assert "device NVIDIA V100 -> cpu" in differences
    assert "ensemble data/ensembles/v5 -> moved" in differences
    assert about(tmp_path)["plan"]["step"]["precision"] != "fp16"
    assert "device NVIDIA V100 -> cpu" in caplog.text


KILLED = """
import os, signal, sys, threading
from pathlib import Path
from facemask_train.model.ultralytics_compat import open_ultralytics
open_ultralytics()
from ultralytics.utils.callbacks import base
from facemask_train.core.config import TrainSettings
from facemask_train.training import train as stage
root, settings, seconds = Path(sys.argv[1]), TrainSettings.model_validate_json(sys.argv[2]), float(sys.argv[3])
if seconds:
    start = lambda _: threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    base.default_callbacks["on_train_start"].append(start)
if (root / "runs/r/run.json").exists():
    stage.resume(root, "r")
else:
    stage.train(root, settings, name="r", tracker="none")
"""


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_ends_with_the_same_weights(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 6}).model_dump_json()

    def live(root: Path, seconds: float) -> int:
        arguments = [sys.executable, "-c", KILLED, str(root), settings, str(seconds)]
        done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        return done.returncode

    rng = random.Random(7)
    for name in ("whole", "cut"):
        shapes.draw_ensemble(tmp_path / name)
    assert live(tmp_path / "whole", 0) == 0
    kills = 0
    while kills < 10:  # a run that is done before it has been killed ten times makes room for another
        kills += live(tmp_path / "cut", rng.uniform(0.02, 1.2)) != 0
        if about(tmp_path / "cut")["state"] == "finished":
            (tmp_path / "cut/runs/r").rename(tmp_path / f"cut/runs/finished-{kills}")
    if (tmp_path / "cut/runs/r").exists():
        assert live(tmp_path / "cut", 0) == 0
    ends = [run / "weights/last.pt" for run in (tmp_path / "cut/runs").iterdir() if run.is_dir()]
    expected = state_of(tmp_path / "whole")
    for end in ends:
        found = read_checkpoint(end)
        assert same(found["weights"], expected["weights"])
        assert same(found["ema"].state_dict(), expected["ema"].state_dict())
