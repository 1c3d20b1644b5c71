"""The Dockerfile, as far as it can be checked without Docker; `make check-image` runs its steps in a chroot."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parents[2]
TEXT = (HERE / "Dockerfile").read_text()


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_image", HERE / ".ci" / "check_image.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_image"] = module
    spec.loader.exec_module(module)
    return module


check_image = load()
STEPS = check_image.steps(TEXT)
RULES = (HERE / ".dockerignore").read_text().splitlines()


def last(name: str) -> str:
    return [rest for step, rest in STEPS if step == name][-1]


def test_lines_are_joined_and_comments_are_gone() -> None:
    text = '# one\nFROM a\nRUN b \\\n# two\n && c\nENV D=1 \\\n    E=2\nCMD ["f"]\n'
    assert check_image.steps(text) == [
        ("FROM", "a"),
        ("RUN", "b && c"),
        ("ENV", "D=1 E=2"),
        ("CMD", '["f"]'),
    ]


def test_the_container_does_not_run_as_root() -> None:
    assert last("USER") == "fmask"
    assert "--uid 1000 fmask" in TEXT
    assert STEPS.index(("USER", "fmask")) > max(i for i, (step, _) in enumerate(STEPS) if step in ("RUN", "COPY"))
    assert (last("ENTRYPOINT"), last("VOLUME")) == ('["fmask"]', '["/fmask/data", "/fmask/runs"]')
    assert "7860" in last("HEALTHCHECK")


def test_copied_files_exist_and_are_not_ignored() -> None:
    copied = [name for step, rest in STEPS if step == "COPY" for name in rest.split()[:-1]]
    assert copied == ["requirements.lock", "pyproject.toml", "README.md", "LICENSE", "configs", "src"]
    for name in copied:
        assert (HERE / name).exists()
        assert not check_image.ignored(name, RULES), name
    for name in ("data", "runs", ".git", ".venv", "tests", ".env", "notebooks"):
        assert check_image.ignored(name, RULES), name


@pytest.mark.parametrize("command", [rest for step, rest in STEPS if step == "RUN"] + [last("HEALTHCHECK")])
def test_every_step_is_valid_shell(command: str) -> None:
    shell = command.partition("CMD ")[2] if "CMD " in command else command
    assert subprocess.run(["sh", "-n", "-c", shell], capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize(
    ("device", "torch"), [("cuda", r"torch==[\d.]+ \\\n    --hash=sha256:"), ("cpu", r"torch==[\d.]+\n[a-z]")]
)
def test_pins_keep_their_hashes_except_torch_without_cuda(device: str, torch: str, tmp_path: Path) -> None:
    (choice,) = (rest for step, rest in STEPS if step == "RUN" and "case" in rest)
    lock = (HERE / "requirements.lock").read_text()
    (tmp_path / "requirements.lock").write_text(lock)
    script = choice.partition("&& if")[0]
    subprocess.run(["sh", "-c", script], cwd=tmp_path, env={"DEVICE": device, "PATH": "/usr/bin:/bin"}, check=True)
    pins = (tmp_path / "pins.txt").read_text()
    assert re.search(rf"^{torch}", pins, re.MULTILINE)
    names = re.compile(r"^([a-z][\w.\[\]-]*)==", re.MULTILINE)
    assert names.findall(pins) == names.findall(lock)
    bare = [name for name in names.findall(pins) if f"{name}==" in pins and not hashed(pins, name)]
    assert bare == (["torch", "torchvision"] if device == "cpu" else [])


def hashed(pins: str, name: str) -> bool:
    return bool(re.search(rf"^{re.escape(name)}==[^\n]*\\\n    --hash=sha256:", pins, re.MULTILINE))


def test_another_device_is_refused(tmp_path: Path) -> None:
    (choice,) = (rest for step, rest in STEPS if step == "RUN" and "case" in rest)
    done = subprocess.run(
        ["sh", "-c", choice], cwd=tmp_path, env={"DEVICE": "tpu", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (2, "DEVICE is cpu or cuda, not 'tpu'")
