"""Engines: the same results in the same order, in one process, in several, or on a Ray cluster of two nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from facemask_train.core import parallel
from facemask_train.core.errors import UsageError
from facemask_train.core.parallel import WorkerPool, usable_cores
from facemask_train.dataset.build import build
from facemask_train.sources.fetch import fetch
from helpers.crash import tree
from helpers.versions import AUGMENT, make_world

FACES = {"copies": {**AUGMENT["copies"], "faces": [{"faces": {"min_side": 12}}, {"noise": {}}]}}

ON_TWO_NODES = """
import os, sys
from pathlib import Path
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
os.environ["RAY_ADDRESS"] = cluster.address
try:
    import ray
    from facemask_train.dataset.build import build
    from facemask_train.core.parallel import WorkerPool

    build(Path(sys.argv[1]), "x", pool=WorkerPool("ray", 2))
    assert [node["Resources"]["CPU"] for node in ray.nodes() if node["Alive"]] == [1, 1]  # so two processes need both
    ray.shutdown()
finally:
    cluster.shutdown()
"""


def squares(batch: Sequence[int]) -> list[int]:
    return [number * number for number in batch]


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100])
@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_jobs(count: int, processes: int) -> None:
    steps: list[tuple[str, int, int]] = []
    jobs = iter(range(count))
    found = WorkerPool(workers=processes).map(
        squares, jobs, count, what="square", progress=lambda *step: steps.append(step)
    )
    assert list(found) == [number * number for number in range(count)]
    assert [done for _, done, _ in steps] == [min(count, done) for done in range(32, count + 32, 32)]


def test_jobs_are_consumed_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def jobs() -> object:
        nonlocal taken
        for number in range(3200):
            taken += 1
            yield number

    found = WorkerPool(workers=1).map(squares, jobs(), 3200, what="square")  # type: ignore[arg-type]
    assert next(found) == 0
    assert taken <= 20 * parallel._BATCH
    assert sum(1 for _ in found) == 3199


def limit(root: Path, lines: str, files: dict[str, str]) -> Path:
    """Write the files in which Linux shows a process its CPU limits."""
    for name, text in {
        "proc/self/cgroup": lines,
        **{f"sys/fs/cgroup/{key}": text for key, text in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/job\n", {}, 16),
        ("0::/job\n", {"job/cpu.max": "max 100000\n"}, 16),
        ("0::/job\n", {"job/cpu.max": "200000 100000\n"}, 2),
        ("0::/job\n", {"job/cpu.max": "150000 100000\n"}, 2),
        ("0::/job\n", {"job/cpu.max": "1000 100000\n"}, 1),
        ("0::/job\n", {"job/cpu.max": "9900000 100000\n"}, 16),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/docker/0a1b\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/job\n", {"job/cpu.max": "nonsense\n"}, 16),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 5),
        (
            "4:cpu,cpuacct:/job\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "600000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
            6,
        ),
        ("4:cpuset:/job\n", {"cpuset/job/cpu.max": "100000 100000\n"}, 16),
    ],
)
def test_cores_follow_the_limits_of_cgroups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _process: set(range(16)), raising=False)
    assert usable_cores(limit(tmp_path, lines, files)) == cores


def test_cores_follow_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = limit(tmp_path, "0::/job\n", {"job/cpu.max": "800000 100000\n"})
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _process: {3, 5}, raising=False)
    assert usable_cores(limited) == 2
    assert usable_cores(tmp_path / "without cgroups") == 2


def test_the_default_number_of_processes_follows_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 3)
    assert [WorkerPool()._processes(count) for count in (1, 2, 99)] == [1, 2, 3]
    assert WorkerPool(workers=5)._processes(99) == 5


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="ray is not installed") as caught:
        list(WorkerPool("ray").map(squares, range(3), 3, what="square"))
    assert "facemask-train[ray]" in caught.value.next_step


@pytest.mark.slow
def test_the_same_bytes_from_one_process_four_and_a_cluster_of_two_nodes(tmp_path: Path) -> None:
    trees = []
    for number in range(3):
        root = make_world(tmp_path / str(number), images=60, augment=FACES)
        fetch(root, ["one", "two"])
        if number < 2:
            build(root, "x", pool=WorkerPool(workers=(1, 4)[number]))
        else:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            command = [sys.executable, "-c", ON_TWO_NODES, str(root)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        trees.append(tree(root / "data"))
    assert trees[0] == trees[1] == trees[2]
    assert len([name for name in trees[0] if name.endswith("-faces.jpg")]) > 20
