"""Several devices: their assignment to processes, and real training in two processes and on two "nodes"."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.config import TrainSettings
from facemask_train.core.dist_env import DistEnv, cores_per_process, dist_env, is_worker
from facemask_train.core.errors import PeerError, TrainingError, UsageError
from facemask_train.core.records import parse, to_json
from facemask_train.report import wording
from facemask_train.training.parallel import launcher, rendezvous
from facemask_train.training.parallel.devices import Member, check_batch, device_list, devices_of
from facemask_train.training.parallel.distributed import Assignment, relocate
from facemask_train.training.plan import ProcessPlan, plan_training
from facemask_train.training.precision import Machine
from facemask_train.training.runs import RunRecord
from helpers import shapes
from helpers.untrained import write_model

MACHINE = Machine("cpu", cuda=False, cores=2, bf16=False)
PROCESS = ProcessPlan(0, "here", "cpu", 64)

ENVIRON = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
PLAIN = ("nbs=32", "mosaic=0", "hsv_h=0", "hsv_s=0", "hsv_v=0", "fliplr=0", "scale=0", "translate=0", "warmup_epochs=0")
FIRST, CURVE = 0.02, 0.15
"""How far the summed training losses of the first epoch, and of any, may lie from one process', as a share of them.

A step is of the whole training split, and images are not changed at random: what is left is that each process
normalizes by the statistics of its share of the batch. (The package divides a loss by the summed overlaps of the
matched boxes, but by no less than 1. So the start weights give boxes that overlap the faces: otherwise the loss of half
a batch would be half as large.) `bench/several_devices.py` measures it.
"""


def members(*local_worlds: int, gpus: int = 0) -> tuple[Member, ...]:
    """Return the processes of machines a, b, ... with so many processes each."""
    world = sum(local_worlds)
    places = [(host, local, count) for host, count in zip("abc", local_worlds, strict=False) for local in range(count)]
    return tuple(
        Member(DistEnv(rank, world, local, count), host, gpus) for rank, (host, local, count) in enumerate(places)
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", ()),
        ("cpu", ("cpu",)),
        ("0", ("0",)),
        ("0,1,3", ("0", "1", "3")),
        ("cuda:0, cuda:1", ("0", "1")),
        ("cpu,cpu", ("cpu", "cpu")),
    ],
)
def test_devices_are_parsed(wanted: str, found: tuple[str, ...]) -> None:
    assert device_list(wanted) == found


@pytest.mark.parametrize("wanted", ["cpu,0", "0,", ",", "0,0", "0,cuda:0", "gpu", "-1,-1", "0;1", "mps,mps"])
def test_invalid_devices_are_refused(wanted: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        device_list(wanted)


@given(st.text(alphabet="0123cpud:, ", max_size=12))
def test_devices_are_gpus_once_or_cpus_or_refused(wanted: str) -> None:
    try:
        found = device_list(wanted)
    except UsageError as error:
        assert error.next_step
        return
    assert set(found) <= {"cpu"} or (len(set(found)) == len(found) and all(one.isdecimal() for one in found))


def test_each_process_has_a_device_of_its_machine() -> None:
    assert devices_of("", members(2, 1)) == ("cpu", "cpu", "cpu")
    assert devices_of("cpu", members(2)) == ("cpu", "cpu")
    assert devices_of("cpu,cpu", members(1, 1)) == ("cpu", "cpu")
    assert devices_of("", members(2, 2, gpus=2)) == ("0", "1", "0", "1")
    assert devices_of("2,3", members(2, 1, gpus=4)) == ("2", "3", "2")
    assert devices_of("1", members(1, 1, gpus=2)) == ("1", "1")


@pytest.mark.parametrize(
    ("wanted", "who", "says"),
    [
        ("0", members(2, gpus=2), "each of its 2 processes, found 0"),
        ("", members(3, gpus=2), "a: expected a device for each of its 3"),
        ("0,1", members(2, gpus=1), "torch finds 1 GPUs on a, not number 1"),
        ("", members(1, gpus=1) + members(1), "some processes have a GPU and some have none"),
    ],
)
def test_a_process_without_a_device_is_refused(wanted: str, who: tuple[Member, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        devices_of(wanted, who)


def test_a_batch_is_shared_or_refused() -> None:
    check_batch(64, 4)
    check_batch(1, 1)
    for batch, world, near in ((7, 2, "--batch 6 or 8"), (1, 2, "--batch 2"), (10, 4, "--batch 8 or 12")):
        with pytest.raises(UsageError) as caught:
            check_batch(batch, world)
        assert caught.value.next_step == near


def test_the_environment_of_torchrun_is_read() -> None:
    assert dist_env({}) == dist_env({"WORLD_SIZE": "1", "RANK": "0"}) == DistEnv()
    assert dist_env(ENVIRON) == DistEnv(3, 4, 1, 2)
    assert (is_worker(ENVIRON), is_worker(ENVIRON | {"RANK": "0"}), is_worker({"WORLD_SIZE": "2"})) == (
        True,
        False,
        False,
    )


@pytest.mark.parametrize("wrong", [{"RANK": "4"}, {"RANK": "x"}, {"LOCAL_RANK": "2"}, {"MASTER_PORT": ""}])
def test_an_incomplete_environment_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="as torchrun sets them") as caught:
        dist_env(ENVIRON | wrong)
    assert "torchrun" in caught.value.next_step


def test_cores_are_shared_by_the_processes_of_a_machine() -> None:
    assert [cores_per_process(8, DistEnv(0, 4, 0, count)) for count in (1, 2, 3, 16)] == [8, 4, 2, 1]


def test_paths_are_moved_to_the_root_of_each_process() -> None:
    plan = plan_training(
        TrainSettings(), "/mnt/a/data/checkpoints/x.pt", machine=MACHINE, processes=[PROCESS], defaults={}
    )
    theirs = Assignment("/mnt/a", "r", "now", "p", plan, "/mnt/a/runs/r/data.yaml", "/elsewhere/last.pt")
    mine = relocate(theirs, Path("/srv/b"))
    assert (mine.root, mine.data, mine.checkpoint, mine.plan.weights) == (
        "/srv/b", "/srv/b/runs/r/data.yaml", "/elsewhere/last.pt", "/srv/b/data/checkpoints/x.pt",
    )  # fmt: skip
    assert relocate(replace(theirs, plan=replace(plan, weights="yolov5n.yaml")), Path("/srv/b")).plan.weights == (
        "yolov5n.yaml"
    )


def test_an_assignment_survives_serialization() -> None:
    plan = plan_training(TrainSettings(), "yolov5n.yaml", machine=MACHINE, processes=[PROCESS], defaults={})
    sent = Assignment("/mnt/a", "r", "now", "p", plan, "/mnt/a/runs/r/data.yaml")
    assert parse(Assignment, json.loads(json.dumps(to_json(sent))), "x", "y") == sent


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 100, "still waiting"


def test_missing_processes_are_reported_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(rendezvous, "time", clock)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in (ENVIRON | {"MASTER_PORT": str(port)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rendezvous, "INIT_SECONDS", 20.0)
    with pytest.raises(TrainingError, match=rf"127.0.0.1:{port}: process 3 of 4 .* within 20 s") as caught:
        rendezvous.join_group()
    assert "reach this address" in caught.value.next_step
    assert 20 < clock.now <= 21


class Failed:
    """What torch's launcher says of the process that ended first."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode

    def signal_name(self) -> str:
        return signal.Signals(-self.exitcode).name

    def get_first_failure(self) -> tuple[int, Failed]:
        return 1, self


def test_the_cause_is_reported_and_not_its_consequences() -> None:
    own, peer = UsageError("own", next_step="x"), PeerError("lost", next_step="resume it")
    assert launcher._cause([peer, own], Failed(8), 2) is own
    assert launcher._cause([peer], Failed(8), 2) is peer
    killed = launcher._cause([peer], Failed(-9), 2)
    assert (str(killed), killed.next_step) == ("process 1 of 2 was killed by SIGKILL", "resume it")
    assert "exited with code 3" in str(launcher._cause([], Failed(3), 2))


def test_a_report_names_several_devices() -> None:
    plan = plan_training(TrainSettings(), "x.pt", machine=MACHINE, processes=[PROCESS, PROCESS], defaults={})
    run = RunRecord("r", "training", "finished", plan=plan, seconds=7200, device="NVIDIA H100")
    assert wording._training_time(run) == "2.0 h on two NVIDIA H100"
    assert wording._training_time(replace(run, plan=None)) == "2.0 h on one NVIDIA H100"


# ---- real trainings ----


def fmask(root: Path, *arguments: str) -> list[str]:
    return ["-m", "facemask_train", "train", "--root", str(root), "--tracker", "none", *arguments]


def options(name: str, weights: str, epochs: int) -> list[str]:
    chosen = ["--name", name, "--weights", weights, "--epochs", str(epochs), "--imgsz", "64", "--batch", "32"]
    sets = ("optimizer=AdamW", "lr0=0.0005", "close_mosaic=0", *PLAIN)
    return [*chosen, *(part for one in sets for part in ("--set", one))]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], check=False, capture_output=True, text=True, timeout=240)


def start_nodes(root: Path, arguments: list[str]) -> list[subprocess.Popen[str]]:
    """Start torchrun twice, as on two machines; each has one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                *meeting,
                "--node-rank",
                str(node),
                *fmask(root),
                *arguments,
            ],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in (0, 1)
    ]


def about(root: Path, name: str) -> dict:
    return json.loads((root / "runs" / name / "run.json").read_text())


def losses(root: Path, name: str) -> list[float]:
    """Return the sum of the training losses of each epoch."""
    with (root / "runs" / name / "results.csv").open() as stream:
        return [
            sum(float(value) for key, value in row.items() if key.startswith("train/"))
            for row in csv.DictReader(stream)
        ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a root with a training in one process, `one`, and the checkpoint that it went out from."""
    root = tmp_path_factory.mktemp("several")
    shapes.draw_ensemble(root, counts=(32, 6, 0))
    start = str(root / "start.pt")  # random weights: those set by hand have losses too large to compare
    write_model(Path(start), imgsz=64, reach=2)  # boxes of 4 strides, which overlap the faces
    assert run(fmask(root, *options("one", start, 5), "--device", "cpu")).returncode == 0
    return root, start


def same_parameters_and_curve(root: Path, name: str) -> None:
    record = about(root, name)
    assert [(one["device"], one["batch"]) for one in record["plan"]["processes"]] == [("cpu", 16), ("cpu", 16)]
    assert len(record["parameters"]) == 2
    assert len(set(record["parameters"])) == 1
    one, two = losses(root, "one"), losses(root, name)
    assert len(two) == 5
    assert max(abs(b - a) / a for a, b in zip(one, two, strict=True)) < CURVE, (one, two)
    assert abs(two[0] / one[0] - 1) < FIRST  # the same weights on the same images
    assert two[-1] != two[0], "the parameters moved"


@pytest.mark.slow
def test_two_processes_train_like_one(alone: tuple[Path, str]) -> None:
    root, start = alone
    done = run(fmask(root, *options("two", start, 5), "--device", "cpu,cpu", "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "two"
    assert done.stderr.count("epoch 5 of 5") == 1
    assert about(root, "two")["settings"]["device"] == "cpu,cpu"
    same_parameters_and_curve(root, "two")


@pytest.mark.slow
def test_two_nodes_train_like_one_process(alone: tuple[Path, str]) -> None:
    root, start = alone
    nodes = start_nodes(root, [*options("nodes", start, 5), "--device", "cpu", "--json"])
    output = [node.communicate(timeout=240) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], output
    assert json.loads(output[0][0])["run"] == "nodes"
    assert output[1] == ("", "") or "epoch" not in output[1][0] + output[1][1]
    same_parameters_and_curve(root, "nodes")


@pytest.mark.slow
def test_a_killed_process_ends_all_and_the_run_is_resumed(alone: tuple[Path, str]) -> None:
    root, start = alone
    command = [sys.executable, *fmask(root, *options("killed", start, 25), "--device", "cpu,cpu")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (root / "runs/killed/weights/last.pt").exists():
        assert process.poll() is None, "training ended before its first checkpoint"
        time.sleep(0.05)
    ranks = [one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGKILL)
    _, output = process.communicate(timeout=60)
    assert process.returncode == TrainingError.exit_code
    assert output.count("error:") == 1
    assert "of 2 was killed by SIGKILL\nnext: fmask train --resume --name killed" in output
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in ranks)
    again = run(fmask(root, "--resume", "--name", "killed"))
    assert again.returncode == 0, again.stderr
    assert len(losses(root, "killed")) == 25
    assert len(set(about(root, "killed")["parameters"])) == 1


@pytest.mark.slow
def test_an_error_is_reported_once_for_all_nodes(alone: tuple[Path, str], tmp_path: Path) -> None:
    root, _ = alone
    nodes = start_nodes(root, ["--data", "v99", "--device", "cpu"])
    output = "".join(node.communicate(timeout=120)[1] for node in nodes)
    assert all(node.returncode for node in nodes)
    assert output.count("error:") == 1
    assert "v99: no finished ensemble" in output
