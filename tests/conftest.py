"""The environment of every test: an empty home folder, no keys, no network but 127.0.0.1, no telemetry."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

_HOME = Path(tempfile.mkdtemp(prefix="fmask-tests-"))
_SET = {
    "HOME": str(_HOME),
    "XDG_CACHE_HOME": str(_HOME / "cache"),
    "XDG_CONFIG_HOME": str(_HOME / "config"),
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "MPLBACKEND": "Agg",
    "NO_COLOR": "1",
    "COLUMNS": "120",
}
_UNSET = ("KAGGLE_", "WANDB_API_KEY", "WANDB_BASE_URL", "VERBOSE", "YOLO_", "CI", "GITHUB_ACTIONS", "PYTEST_ADDOPTS")

if not Path("/dev/nvidiactl").exists():
    _SET["TRITON_INTERPRET"] = "1"  # the GPU's kernels, run on a CPU

# Each of several workers uses one core: torch uses all that it sees, and two threads on one core would wait.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker and hasattr(os, "sched_setaffinity"):
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})

# Set before anything is imported: the packages read their environment at import.
for _name in [name for name in os.environ if name.startswith(_UNSET)]:
    del os.environ[_name]
os.environ.update(_SET)

settings.register_profile("fmask", deadline=None)  # a busy machine is no failure
settings.load_profile("fmask")


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts: one for each core that this process may use."""
    from facemask_train.core.parallel import usable_cores

    return usable_cores()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the tests' order: `-q` hides the line in which pytest-randomly does."""
    seed = config.getoption("randomly_seed", None)
    if seed is not None and config.pluginmanager.has_plugin("randomly"):
        terminalreporter.write_line(f"the same order again: --randomly-seed={seed}")


def is_address(host: object) -> bool:
    """Return whether a host is an IP address, which needs no name server."""
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return True


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail whatever looks up a name or connects outside this machine."""
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def guarded_look_up(host: str | bytes | None, *args: object, **kwargs: object) -> object:
        allowed = (None, "", "127.0.0.1", "localhost", b"127.0.0.1", b"localhost")
        assert host in allowed or is_address(host), f"looked up {host!r}"
        return look_up(host, *args, **kwargs)  # type: ignore[arg-type]

    def guarded_connect(self: socket.socket, address: object) -> None:
        outside = self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1")  # type: ignore[index]
        assert not outside, f"connected to {address!r}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "kaggle").is_dir():
        pytest.skip("the real data is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def untrained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of 96 px that finds some boxes of both classes in any image."""
    from helpers.untrained import write_model

    path = tmp_path_factory.mktemp("model") / "best.pt"
    write_model(path, imgsz=96)
    return path
