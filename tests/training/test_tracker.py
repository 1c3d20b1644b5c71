"""W&B never interferes with training: what is logged, and what happens if W&B fails."""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facemask_train.core.errors import UsageError
from facemask_train.training.tracking import tracker as tracking
from facemask_train.training.tracking.tracker import Report, Tracker, metric_values, open_tracker
from helpers.fake_wandb import KEY, FakeWandb
from helpers.wandb_log import read_run, run_folders


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    """A W&B server that the tracker finds and has a key for."""
    server = FakeWandb()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    yield server
    server.die()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits for a test to wait for."""
    monkeypatch.setattr(tracking, "INIT_SECONDS", 1.0)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 2.0)
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 60.0)  # below the limits that the package has by itself


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "val_batch0_pred.jpg"
    Image.new("RGB", (8, 6), "orange").save(path)
    return path


def start(folder: Path, **options: Any) -> Tracker:
    return open_tracker("wandb", folder, project="masks", name="first", config={"seed": 3}, **options)


def log_rows(tracker: Tracker, first: int, last: int) -> None:
    for epoch in range(first, last + 1):
        tracker.log(epoch, {"metrics/recall": epoch / 7, "train/box_loss": 1 / epoch})


def rows(first: int, last: int) -> dict[int, dict[str, float]]:
    return {epoch: {"metrics/recall": epoch / 7, "train/box_loss": 1 / epoch} for epoch in range(first, last + 1)}


def wait_for(condition: Callable[[], bool], *, tries: int = 1200) -> None:
    for _ in range(tries):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("waited in vain")


def ended_by_itself(report: Report) -> bool:
    """Return whether the W&B process kept its own limits: `finish` did not have to end it."""
    return not any("did not answer within" in text or "ended early" in text for text in report.unsent)


def sync_folders(report: Report) -> list[Path]:
    command, verb, *arguments = shlex.split(report.sync)
    assert (command, verb) == ("wandb", "sync")
    return [Path(argument) for argument in arguments if not argument.startswith("--")]


def test_an_offline_run_contains_everything_that_was_logged(tmp_path: Path, image: Path) -> None:
    tracker = open_tracker(
        "wandb",
        tmp_path / "run",
        project="masks",
        name="first",
        config={"lr0": 0.01, "data": Path("v5"), "nested": {"a": 1}},
    )
    tracker.log(1, {"metrics/recall": 0.1 + 0.2, "metrics/mAP50": None, "val/box_loss": math.nan})
    tracker.images("val/predictions", [image], step=1)
    tracker.log(2, {"metrics/recall": 2 / 3})
    tracker.summary({"best/metrics/recall": 2 / 3})
    tracker.artifact("ensemble v5", "dataset", {"data.yaml": image}, metadata={"hash": "abc"}, used=True)
    tracker.artifact("first", "model", {"best.pt": image}, aliases=["best"])
    report = tracker.finish()

    (folder,) = run_folders(tmp_path / "run")
    log = read_run(folder)
    assert (report.sent, report.url, report.unsent) == ("offline", "", ())
    assert report.sync == f"wandb sync {folder}"
    assert tracker.finish() is report
    assert (log.run_id, log.project, log.name, log.exit_code) == (tracker.run_id, "masks", "first", 0)
    assert log.metrics() == {1: {"metrics/recall": 0.1 + 0.2}, 2: {"metrics/recall": 2 / 3}}
    assert log.summary["best/metrics/recall"] == 2 / 3
    assert {key: log.config[key] for key in ("lr0", "data", "nested")} == {
        "lr0": 0.01,
        "data": "v5",
        "nested": {"a": 1},
    }
    (images,) = [row for row in log.rows if "val/predictions.filenames" in row]
    assert images["epoch"] == 1
    (name,) = images["val/predictions.filenames"]
    assert name in log.files
    assert (folder / "files" / name).read_bytes() == image.read_bytes()
    used, made = log.artifacts
    assert (used.kind, used.name, used.used, used.files, used.metadata) == (
        "dataset",
        "ensemble-v5",
        True,
        ("data.yaml",),
        {"hash": "abc"},
    )
    assert (made.kind, made.name, made.used, made.files) == ("model", "first", False, ("best.pt",))
    assert "best" in made.aliases


def test_without_a_key_it_is_offline_and_names_the_sync_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    tracker = start(tmp_path)
    log_rows(tracker, 1, 2)
    report = tracker.finish()
    assert report.sent == "offline"
    assert sync_folders(report) == run_folders(tmp_path)
    assert report.unsent == ()
    assert "wandb login" in caplog.text


def test_none_tracks_nothing(tmp_path: Path) -> None:
    tracker = open_tracker("none", tmp_path / "run", project="p", name="n", config={})
    log_rows(tracker, 1, 2)
    tracker.images("key", [tmp_path / "none.jpg"], step=1)
    tracker.artifact("name", "model", {}, aliases=["best"])
    assert (tracker.run_id, tracker.finish(1)) == ("", Report())
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'wandb'"):
        open_tracker("wandbb", tmp_path, project="p", name="n", config={})


def test_a_missing_package_is_reported_and_nothing_is_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert start(tmp_path).finish() == Report()
    assert "not installed" in caplog.text
    assert "--tracker none" in caplog.text


def test_a_run_that_the_user_has_disabled_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = start(tmp_path)
    log_rows(tracker, 1, 2)
    assert tracker.finish() == Report()
    assert run_folders(tmp_path) == []


def test_a_server_that_is_gone_before_the_start(tmp_path: Path, server: FakeWandb, short: None) -> None:
    server.die()
    tracker = start(tmp_path)
    log_rows(tracker, 1, 3)
    report = tracker.finish()
    assert (report.sent, report.unsent) == ("offline", ())
    (folder,) = sync_folders(report)
    assert read_run(folder).metrics() == rows(1, 3)


def test_an_online_run_arrives(
    tmp_path: Path, server: FakeWandb, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = start(tmp_path / "run")
    log_rows(tracker, 1, 3)
    tracker.images("val/predictions", [image], step=3)
    tracker.artifact("ensemble", "dataset", {"data.yaml": image}, used=True)
    tracker.artifact("best", "model", {"best.pt": image})
    report = tracker.finish()
    assert report == Report("online", f"{server.url}/me/masks/runs/{tracker.run_id}")
    run = server.runs[tracker.run_id]
    assert [row["epoch"] for row in run.rows] == [1, 2, 3, 3]
    assert run.rows[1]["metrics/recall"] == 2 / 7
    assert any(name.startswith("media/images/val/predictions") for name in run.files)
    assert run.config["seed"]["value"] == 3
    assert (run.complete, run.exit_code) == (True, 0)
    assert [artifact["artifactTypeName"] for artifact in server.artifacts] == ["dataset", "model"]
    assert len(server.used) == 1
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(written) > 3
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert KEY not in caplog.text


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle(tmp_path: Path, server: FakeWandb, short: None) -> None:
    tracker = start(tmp_path)
    log_rows(tracker, 1, 3)
    wait_for(lambda: "file_stream" in server.calls)
    server.die()
    log_rows(tracker, 4, 6)
    report = tracker.finish()
    assert report.sent == "online"
    assert ended_by_itself(report)
    assert "the last rows" in report.unsent[0]
    assert report.sync.startswith("wandb sync --include-online ")
    (folder,) = sync_folders(report)
    assert read_run(folder).metrics() == rows(1, 6)


@pytest.mark.slow
def test_a_server_that_hangs_from_the_start(tmp_path: Path, server: FakeWandb, short: None) -> None:
    server.hang()
    tracker = start(tmp_path)
    log_rows(tracker, 1, 3)
    report = tracker.finish()
    assert (report.sent, report.unsent) == ("offline", ())
    assert read_run(sync_folders(report)[0]).metrics() == rows(1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("artifact", [False, True])
def test_a_server_that_hangs_in_the_middle(
    tmp_path: Path, server: FakeWandb, short: None, image: Path, artifact: bool
) -> None:
    tracker = start(tmp_path / "run")
    log_rows(tracker, 1, 3)
    wait_for(lambda: "file_stream" in server.calls)
    server.hang()
    log_rows(tracker, 4, 6)
    if artifact:
        tracker.artifact("best", "model", {"best.pt": image})
    report = tracker.finish()
    assert report.unsent
    assert ended_by_itself(report)
    assert sync_folders(report) == run_folders(tmp_path / "run")
    assert read_run(run_folders(tmp_path / "run")[0]).metrics() == rows(1, 6)
    wait_for(lambda: not services_of(tracker))


@pytest.mark.slow
def test_a_server_that_refuses_artifacts_gets_the_rows(tmp_path: Path, server: FakeWandb, image: Path) -> None:
    server.refused = {"CreateArtifact"}
    tracker = start(tmp_path)
    tracker.artifact("ensemble", "dataset", {"data.yaml": image}, used=True)
    log_rows(tracker, 1, 3)
    report = tracker.finish()
    assert [row["epoch"] for row in server.runs[tracker.run_id].rows] == [1, 2, 3]
    (unsent,) = report.unsent
    assert unsent.startswith("artifact 'ensemble': ")
    assert "refused" in unsent
    assert report.sync == ""


@pytest.mark.slow
def test_refused_rows_are_reported(tmp_path: Path, server: FakeWandb) -> None:
    server.refused = {"file_stream"}
    tracker = start(tmp_path)
    log_rows(tracker, 1, 3)
    report = tracker.finish()
    assert "the last rows" in report.unsent[0]
    assert sync_folders(report) == run_folders(tmp_path)


@pytest.mark.slow
def test_a_run_scored_and_resumed_online_has_each_row_once(tmp_path: Path, server: FakeWandb, image: Path) -> None:
    first = start(tmp_path)
    log_rows(first, 1, 3)
    first.finish()
    scored = start(tmp_path, run_id=first.run_id)
    scored.summary({"test/metrics/recall": 0.5})
    scored.images("test/worst", [image])
    scored.finish()
    again = start(tmp_path, run_id=first.run_id)
    again.images("val/predictions", [image], step=2)
    again.images("val/predictions", [image], step=3)
    log_rows(again, 1, 5)
    report = again.finish()
    assert (report.sync, report.unsent) == ("", ())
    assert list(server.runs) == [first.run_id]
    run = server.runs[first.run_id]
    assert [row["epoch"] for row in run.rows if "metrics/recall" in row] == [1, 2, 3, 4, 5]
    assert (run.summary["test/metrics/recall"], run.summary["metrics/recall"]) == (0.5, 5 / 7)
    assert [row["epoch"] for row in run.rows if "val/predictions" in row] == [3]


@pytest.mark.slow
def test_a_run_resumed_offline_and_then_synced_has_each_row_once(
    tmp_path: Path, server: FakeWandb, image: Path
) -> None:
    first = start(tmp_path, online=False)
    log_rows(first, 1, 3)
    first.finish(1)
    again = start(tmp_path, run_id=first.run_id, online=False)
    log_rows(again, 1, 5)
    again.finish()
    scored = start(tmp_path, run_id=first.run_id, online=False)
    scored.summary({"test/metrics/recall": 0.5})
    scored.images("test/worst", [image])
    report = scored.finish()

    folders = run_folders(tmp_path)
    assert sync_folders(report) == folders
    assert [read_run(folder).metrics() for folder in folders[:2]] == [rows(1, 3), rows(4, 5)]
    wandb = [sys.executable, "-m", *shlex.split(report.sync)]
    subprocess.run(wandb, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    run = server.runs[first.run_id]
    assert [row["epoch"] for row in run.rows if "metrics/recall" in row] == [1, 2, 3, 4, 5]
    assert run.summary["test/metrics/recall"] == 0.5
    assert run.summary["metrics/recall"] == 5 / 7

    assert [row["epoch"] for row in run.rows if "test/worst" in row] == [5]

    last = start(tmp_path, run_id=first.run_id, online=False)
    log_rows(last, 1, 6)
    (folder,) = sync_folders(last.finish())
    assert read_run(folder).metrics() == rows(6, 6)


@pytest.mark.slow
def test_a_run_resumed_online_takes_over_from_offline_folders(tmp_path: Path, server: FakeWandb) -> None:
    first = start(tmp_path, online=False)
    log_rows(first, 1, 3)
    first.finish(1)
    again = start(tmp_path, run_id=first.run_id)
    log_rows(again, 1, 4)
    assert again.finish().sync == ""
    assert [row["epoch"] for row in server.runs[first.run_id].rows] == [1, 2, 3, 4]


_KILLED = """
import os, sys, signal, time
from pathlib import Path
from facemask_train.training.tracking.tracker import open_tracker
tracker = open_tracker("wandb", Path(sys.argv[1]), project="p", name="n", config={})
for epoch in (1, 2, 3):
    tracker.log(epoch, {"metrics/recall": epoch / 7, "train/box_loss": 1 / epoch})
while tracker._state._logged < 3:
    time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_killed_training_leaves_its_rows_and_a_failed_run(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    wait_for(lambda: bool(run_folders(tmp_path)) and read_run(run_folders(tmp_path)[0]).exit_code is not None)
    log = read_run(run_folders(tmp_path)[0])
    assert (log.metrics(), log.exit_code) == (rows(1, 3), 1)


_BROKEN_WANDB = """
import os, time
fault = os.environ["FAULT"]

def strike(moment):
    if fault == f"{moment} raises":
        raise RuntimeError("out of order")
    if fault == f"{moment} never returns":
        open(os.environ["REACHED"], "w").close()
        time.sleep(1000)
    if fault == f"{moment} dies":
        os._exit(3)

strike("import")

class Settings:
    def __init__(self, **_):
        pass

class Run:
    disabled, offline, url = False, True, ""
    def __init__(self, folder):
        self.settings, self.summary = Settings(), {}
        self.settings.sync_dir = os.path.join(folder, "wandb", "offline-run-1-x")
        os.makedirs(self.settings.sync_dir, exist_ok=True)
    def define_metric(self, *_, **__):
        pass
    def log(self, row):
        strike("log")
    def finish(self, exit_code):
        strike("finish")

def init(**options):
    strike("init")
    return Run(options["dir"])

def teardown():
    raise SystemExit(1)
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a `wandb` that fails in one way before the real one, in the W&B process alone."""

    def install(fault: str) -> Path:
        (tmp_path / "broken" / "wandb").mkdir(parents=True)
        (tmp_path / "broken" / "wandb" / "__init__.py").write_text(_BROKEN_WANDB)
        first = [str(tmp_path / "broken"), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(first))
        monkeypatch.setenv("FAULT", fault)
        monkeypatch.setenv("REACHED", str(tmp_path / "reached"))
        monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 1.0 if fault.endswith("never returns") else 100.0)
        return tmp_path / "run"

    return install


@pytest.mark.timeout(120)  # a call that waits for W&B would wait for ever
def test_no_call_before_the_end_waits_for_wandb(broken: Callable[[str], Path]) -> None:
    """The W&B process is stopped while more is logged than a pipe holds."""
    folder = broken("none")
    tracker = start(folder)
    os.kill(tracker._process.pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    for epoch in range(1, 501):
        tracker.log(epoch, {f"metric/{number}": epoch / 7 for number in range(20)})
    tracker.summary({"best": 0.5})
    os.kill(tracker._process.pid, signal.SIGCONT)  # type: ignore[attr-defined]
    report = tracker.finish()
    assert (report.sent, report.unsent) == ("offline", ())


@pytest.mark.timeout(120)  # without a time limit, `finish` would wait forever
@pytest.mark.parametrize(
    ("fault", "sent", "lost"),
    [
        ("import raises", "none", "everything after this: RuntimeError: out of order"),
        ("import never returns", "none", "everything: W&B did not answer within 1 s"),
        ("init raises", "none", "everything after this: RuntimeError: out of order"),
        ("init never returns", "none", "everything: W&B did not answer within 1 s"),
        ("init dies", "none", "everything: the W&B process ended early"),
        ("log raises", "offline", "a row: RuntimeError: out of order (3 times)"),
        ("log never returns", "offline", "the end of the run, and rows after 0 (of 3): W&B did not answer within 1 s"),
        ("log dies", "offline", "the end of the run, and rows after 0 (of 3): the W&B process ended early"),
        ("finish raises", "offline", "the last rows (the sync command"),
        ("finish never returns", "offline", "the end of the run, and rows after 3 (of 3): W&B did not answer"),
        ("finish dies", "offline", "the end of the run, and rows after 3 (of 3): the W&B process ended early"),
    ],
)
def test_a_wandb_that_fails(broken: Callable[[str], Path], tmp_path: Path, fault: str, sent: str, lost: str) -> None:
    tracker = start(broken(fault))
    log_rows(tracker, 1, 3)
    if fault == "log never returns":
        wait_for((tmp_path / "reached").exists)
    if fault == "finish never returns":
        wait_for(lambda: tracker._state._logged == 3)  # type: ignore[attr-defined]
    report = tracker.finish()
    assert report.sent == sent
    assert any(text.startswith(lost) for text in report.unsent), report.unsent
    assert bool(report.sync) == (sent == "offline")


_LEAVES = """
import sys
from pathlib import Path
from facemask_train.training.tracking import tracker as tracking
tracking.PATIENCE_SECONDS = 0.5
tracker = tracking.open_tracker("wandb", Path(sys.argv[1]), project="p", name="n", config={})
for epoch in range(1, 2000):
    tracker.log(epoch, {f"metric/{number}": epoch / 7 for number in range(20)})
if sys.argv[2] == "finish":
    tracker.finish()
"""


@pytest.mark.parametrize("end", ["finish", "no finish"])
def test_a_hung_wandb_does_not_keep_the_program_from_ending(broken: Callable[[str], Path], end: str) -> None:
    """More is waiting than a pipe holds, so that a write which blocks would show."""
    folder = broken("init never returns")
    subprocess.run([sys.executable, "-c", _LEAVES, str(folder), end], check=True, timeout=120)
    wait_for(lambda: not processes_with(f"PYTHONPATH={folder.parent / 'broken'}", file="environ"))


def services_of(tracker: Tracker) -> list[int]:
    """The processes of `wandb-core` that the tracker's W&B process has started and that still run."""
    return processes_with(f"--pid\0{tracker._process.pid}\0", file="cmdline")  # type: ignore[attr-defined]


def processes_with(text: str, *, file: str) -> list[int]:
    """The other processes whose `/proc/<id>/<file>` holds a text."""
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        # One may end while it is looked at.
        with suppress(OSError):
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_metrics_have_stable_names() -> None:
    overall = {"precision": 0.1, "recall": 0.2, "mAP50": 0.3, "mAP50-95": 0.4}
    assert metric_values(overall, {"mask": {"precision": 0.5, "recall": None}}) == {
        "metrics/precision": 0.1,
        "metrics/recall": 0.2,
        "metrics/mAP50": 0.3,
        "metrics/mAP50-95": 0.4,
        "class/mask/precision": 0.5,
        "class/mask/recall": None,
        "class/mask/mAP50": None,
        "class/mask/mAP50-95": None,
    }
