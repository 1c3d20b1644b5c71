"""Training: real runs of a small model, killed, resumed and read back; and what is refused before training."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
import torch

from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DataError, MissingError, NetworkError, UsageError
from facemask_train.model import checkpoints, validation
from facemask_train.model.ultralytics_compat import open_ultralytics
from facemask_train.training import runs
from facemask_train.training.history.results import read_rows
from facemask_train.training.runs import RunRecord, TrainedOn
from facemask_train.training.train import resume, train
from helpers import shapes, wandb_log
from helpers.known_detector import KEPT, known_weights

FAST = {"nbs": 8, "warmup_epochs": 0, "mosaic": 0.0, "close_mosaic": 0, "workers": 0}
SETTINGS = TrainSettings(
    weights="yolov5n.yaml",
    epochs=2,
    imgsz=64,
    batch=8,
    device="cpu",
    workers=0,
    threads=1,
    optimizer="AdamW",
    lr0=0.003,
    extra={"nbs": 8, "warmup_epochs": 1, "mosaic": 0.0},
)
KNOWN = SETTINGS.model_copy(
    update={"weights": str(known_weights()), "lr0": 1e-6, "extra": {**SETTINGS.extra, "freeze": KEPT}}
)
"""From weights that find the squares, which go on finding them: there are scores to compare, whatever is learned."""
TRAIN = """
import json, sys
from pathlib import Path
from facemask_train.core.config import TrainSettings
from facemask_train.training import runs, train as stage
root, settings = Path(sys.argv[1]), TrainSettings(**json.loads(sys.argv[2]))
if sys.argv[3:]:
    stage.resume(root, sys.argv[3])
else:
    stage.train(root, settings, name="r", tracker="wandb")
"""


def rows(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "runs" / name / "results.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_run_is_fully_described_and_its_rows_are_correct(tmp_path: Path) -> None:
    folder = shapes.draw_ensemble(tmp_path)
    settings = KNOWN.model_copy(update={"epochs": 3, "extra": {**KNOWN.extra, "save_period": 1}})
    done = train(tmp_path, settings, name="r", command="fmask train")
    about = json.loads((tmp_path / "runs/r/run.json").read_text())
    empty = [key for key in ("command", "settings", "plan", "packages", "device", "code", "started") if not about[key]]
    assert (empty, about["plan"]["epochs"], about["plan"]["seed"]) == ([], 3, settings.seed)
    assert (about["state"], about["ensemble"]["name"], about["ensemble"]["path"]) == (
        "finished",
        "v5",
        "data/ensembles/v5",
    )
    assert (done.epochs, done.run, done.weights.is_file()) == (3, "r", True)
    assert done.images_per_second > 0
    assert (done.path / "curves.png").is_file()
    assert done.table["metrics/mAP50(B)"].tolist() == [float(row["metrics/mAP50(B)"]) for row in rows(tmp_path, "r")]
    assert done.table.index.tolist() == [1, 2, 3]
    assert not list(folder.rglob("*.cache"))
    # every epoch's checkpoint, validated again, gives the numbers of its row
    log = wandb_log.read_run(wandb_log.run_folders(tmp_path / "runs/r")[-1])
    assert epochs_of(log) == [1, 2, 3]
    scores = [float(row["metrics/mAP50-95(B)"]) for row in rows(tmp_path, "r")]
    assert min(scores) > 0, "a model that finds nothing proves nothing"
    assert len(set(scores)) == 3, "each epoch has different metrics"
    for step, row in enumerate(rows(tmp_path, "r"), 1):
        again = validation.validate(
            tmp_path / f"runs/r/weights/epoch{step}.pt", folder / "data.yaml", "val", imgsz=64, batch=16, device="cpu"
        )
        logged = log.metrics()[step]
        for key, value in (
            ("precision", again.mean.precision),
            ("recall", again.mean.recall),
            ("mAP50", again.mean.map50),
            ("mAP50-95", again.mean.map50_95),
        ):
            assert float(row[f"metrics/{key}(B)"]) == pytest.approx(value, abs=2e-4)
            assert logged[f"metrics/{key}"] == pytest.approx(value, abs=2e-4)
        for name, score in again.per_class.items():
            assert float(row[f"class/{name}/mAP50"]) == pytest.approx(score.map50, abs=2e-4)


def epochs_of(log: wandb_log.WandbLog) -> list[int]:
    """Return the epoch of each row of metrics, as often as it is there."""
    return [row["epoch"] for row in log.rows if "metrics/mAP50" in row]


def test_epochs_without_a_validation_have_no_metrics(tmp_path: Path) -> None:
    shapes.draw_ensemble(tmp_path)
    settings = SETTINGS.model_copy(update={"epochs": 3, "val_every": 2})
    done = train(tmp_path, settings, name="r", tracker="none")
    found = read_rows(done.path / "results.csv")
    keys = ("metrics/mAP50(B)", "class/mask/mAP50", "val/box_loss")
    assert [row["epoch"] for row in found] == [1, 2, 3]
    assert [[math.isfinite(row[key]) for key in keys] for row in found] == [[False] * 3, [True] * 3, [True] * 3]
    assert done.epochs == 3
    assert done.seconds == pytest.approx(found[-1]["time"], abs=0.06)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    shapes.draw_ensemble(tmp_path)
    for name in ("a", "b"):
        train(tmp_path, SETTINGS.model_copy(update={"epochs": 1}), name=name, tracker="none")
    first, second = (
        validation.load_model(tmp_path / "runs" / name / "weights/best.pt")[0].state_dict() for name in ("a", "b")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_invalid_settings_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no ensemble has been built"):
        train(tmp_path, SETTINGS)
    folder = shapes.draw_ensemble(tmp_path)
    other = tmp_path / "other.pt"
    other.write_bytes(b"not a checkpoint")
    for change, error, says in (
        ({"weights": str(other)}, DataError, "expected a detector's checkpoint"),
        ({"weights": str(folder / "ensemble.json")}, DataError, "the file name ends in '.json'"),
        ({"extra": {"mosiac": 1}}, UsageError, "did you mean 'mosaic'"),
        ({"extra": {"save_dir": "/x"}}, UsageError, "fmask controls this setting"),
        ({"weights": "yolov5q.pt"}, MissingError, "no such checkpoint"),
        ({"weights": "nowhere/yolov5s.pt"}, MissingError, "no such checkpoint"),
        ({"weights": "yolov6z.yaml"}, MissingError, "no such model yaml"),
        ({"device": "0"}, UsageError, "finds no GPU"),
        ({"device": "0,1"}, UsageError, "torch finds 0 GPUs"),
    ):
        with pytest.raises(error, match=says):
            train(tmp_path, SETTINGS.model_copy(update=change), tracker="none")
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/run.json"))
    # an image or a row that the loader would drop in silence
    label = next((folder / "labels/train").glob("*.txt"))
    label.write_text(label.read_text() + "0 0.5 0.5 1.7 0.2\n")
    with pytest.raises(DataError, match="the loader found 15"):
        train(tmp_path, SETTINGS, tracker="none")


def test_a_taken_name_and_a_finished_run_name_the_next_step(tmp_path: Path) -> None:
    write_run(tmp_path, "r", state="finished")
    shapes.draw_ensemble(tmp_path)
    with pytest.raises(UsageError, match="already exists"):
        train(tmp_path, SETTINGS, name="r", tracker="none")
    with pytest.raises(UsageError, match="nothing to resume"):
        resume(tmp_path, "r")
    assert runs.new_run(tmp_path, "", "r").name == "r-2"
    with pytest.raises(UsageError, match="expected letters"):
        runs.new_run(tmp_path, "../x", "r")


def write_run(root: Path, name: str, *, state: Literal["started", "finished"], ensemble_hash: str = "") -> None:
    ensemble = TrainedOn("v5", "data/ensembles/v5", ensemble_hash)
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    RunRecord(name, "training", state, ensemble=ensemble, **{state: runs.now()}).save(folder)


def refused_download(root: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> NetworkError:
    open_ultralytics()
    monkeypatch.setitem(checkpoints.COCO_CHECKPOINTS, "yolov5s.pt", url)
    with pytest.raises(NetworkError) as caught:
        checkpoints.resolve_weights(root, "yolov5s.pt")
    assert "--weights PATH" in caught.value.next_step
    assert "--weights yolov5s.yaml" in caught.value.next_step
    return caught.value


def test_a_checkpoint_whose_server_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "127.0.0.1:9" in str(refused_download(tmp_path, monkeypatch, "http://127.0.0.1:9/x/yolov5su.pt"))


@pytest.mark.timeout(120)  # a look-up without a limit would wait for ever
def test_a_name_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(checkpoints.socket, "getaddrinfo", lambda *_: over.wait())
    monkeypatch.setattr(checkpoints, "CONNECT_SECONDS", 0.5)
    error = refused_download(tmp_path, monkeypatch, "https://no-such-host.invalid/yolov5su.pt")
    over.set()
    assert "no answer from the name server for no-such-host.invalid in 0.5 s" in str(error)


WEIGHTS_SHA256 = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def weights_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve yolov5su.pt on 127.0.0.1, and list the paths that were requested."""
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"weights")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    open_ultralytics()
    url = f"http://127.0.0.1:{server.server_port}/yolov5su.pt"
    monkeypatch.setitem(checkpoints.COCO_CHECKPOINTS, "yolov5s.pt", url)
    yield requested
    server.shutdown()


def pin(root: Path, text: str) -> None:
    (root / "configs").mkdir(exist_ok=True)
    (root / "configs/checkpoints.yaml").write_text(text)


def test_the_first_download_prints_its_digest_and_where_to_pin_it(
    tmp_path: Path, weights_server: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert Path(checkpoints.resolve_weights(tmp_path, "yolov5s.pt")).read_bytes() == b"weights"
    assert weights_server == ["/yolov5su.pt"]
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert f"{tmp_path}/configs/checkpoints.yaml, under sha256: " in warning
    pin(tmp_path, f"sha256:\n  {warning.rpartition('under sha256: ')[2]}\n")  # what it says, pasted
    caplog.set_level("INFO")
    checkpoints.resolve_weights(tmp_path, "yolov5s.pt")
    assert checkpoints.expected_digest(tmp_path, "yolov5su.pt")[1] == WEIGHTS_SHA256
    assert "as pinned" in caplog.text


def test_a_download_that_is_not_the_pinned_one_is_removed(tmp_path: Path, weights_server: list[str]) -> None:
    pin(tmp_path, f"sha256: {{yolov5su.pt: '{'0' * 64}'}}")
    with pytest.raises(DataError, match=f"expected sha256 0000.*checkpoints.yaml.*found {WEIGHTS_SHA256}"):
        checkpoints.resolve_weights(tmp_path, "yolov5s.pt")
    assert weights_server == ["/yolov5su.pt"]
    assert not (tmp_path / "data/checkpoints/yolov5su.pt").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [("sha256: {yolov5su.pt: abc}", "64 hexadecimal digits, found 'abc'"), ("sha: {}", "under 'sha256', found None")],
)
def test_invalid_pins_are_refused_before_the_download(
    tmp_path: Path, weights_server: list[str], text: str, says: str
) -> None:
    pin(tmp_path, text)
    with pytest.raises(UsageError, match=says):
        checkpoints.resolve_weights(tmp_path, "yolov5s.pt")
    assert weights_server == []


def test_a_local_file_called_yolov5s_is_used_unchanged(tmp_path: Path) -> None:
    shapes.draw_ensemble(tmp_path)
    local = tmp_path / "yolov5s.pt"
    shutil.copy(known_weights(), local)
    done = train(tmp_path, SETTINGS.model_copy(update={"weights": str(local), "epochs": 1}), name="r", tracker="none")
    plan = runs.read_run(done.path).plan
    assert plan is not None
    assert plan.weights == str(local)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_has_every_epoch_once(tmp_path: Path) -> None:
    settings = KNOWN.model_copy(update={"epochs": 4}).model_dump_json()
    rng = random.Random(5)
    for attempt in range(4):
        root = tmp_path / str(attempt)
        shapes.draw_ensemble(root)
        arguments = [sys.executable, "-c", TRAIN, str(root), settings]
        for kill in range(3):
            process = subprocess.Popen(
                arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
            )
            if kill == 0:
                wait_for(root / "runs/r/results.csv", process)
            time.sleep(rng.uniform(0, 2.5))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if (root / "runs/r/run.json").exists():
                arguments = [*arguments[:5], "r"]
            if json.loads((root / "runs/r/run.json").read_text())["state"] == "finished":
                break
        else:
            subprocess.run(arguments, check=True, stderr=subprocess.DEVNULL)
        about = json.loads((root / "runs/r/run.json").read_text())
        assert (about["state"], about["epochs"]) == ("finished", 4)
        assert [int(row["epoch"]) for row in rows(root, "r")] == [1, 2, 3, 4]
        logs = [wandb_log.read_run(folder) for folder in wandb_log.run_folders(root / "runs/r")]
        assert [epoch for log in logs for epoch in epochs_of(log)] == [1, 2, 3, 4]
        best = max(rows(root, "r"), key=lambda row: float(row["metrics/mAP50-95(B)"]))
        assert float(best["metrics/mAP50-95(B)"]) > 0, "a model that finds nothing proves nothing"
        assert about["best"]["metrics/mAP50-95"] == pytest.approx(float(best["metrics/mAP50-95(B)"]), abs=2e-4)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None, "training ended before its first row"
        time.sleep(0.05)


def test_resume_refuses_another_ensemble(tmp_path: Path) -> None:
    shapes.draw_ensemble(tmp_path)
    write_run(tmp_path, "r", state="started", ensemble_hash="other")
    with pytest.raises(DataError, match="expected the ensemble other"):
        resume(tmp_path)
